"""Numerics that know no network."""

from landscape.probes.linalg.dense import dense_eigenpairs
from landscape.probes.linalg.lanczos import Eigenpairs, lanczos
from landscape.probes.linalg.line import Crossings, Floor, Line, crossings, exponent, find_floor
from landscape.probes.linalg.quadrature import Quadrature, hutchpp, lanczos_quadrature, spectral_sum

__all__ = [
    "Crossings",
    "Eigenpairs",
    "Floor",
    "Line",
    "Quadrature",
    "crossings",
    "dense_eigenpairs",
    "exponent",
    "find_floor",
    "hutchpp",
    "lanczos",
    "lanczos_quadrature",
    "spectral_sum",
]
