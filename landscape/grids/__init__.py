"""A grid of runs and the questions asked of them: described, planned, priced, carried out."""
