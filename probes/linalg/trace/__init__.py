"""Traces and quadratures from random vectors, with intervals."""
