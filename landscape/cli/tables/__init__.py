"""What was found, as tables of text: one file per probe."""
