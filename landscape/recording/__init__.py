"""Runs of other people: recorded in their training loop, or imported from their files; callbacks for their trainers."""
