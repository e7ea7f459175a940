"""Eigenvalues and eigenvectors of an operator."""
