"""What a spectrum says: spread, ranks, counts, changes along a path."""
