"""Figures: dataset in, matplotlib Figure out."""
