"""What was found about a model, in words, pictures and tables, as one page that opens from disk."""
