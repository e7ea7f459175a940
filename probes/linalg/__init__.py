"""Numerics that know no network."""

from landscape.probes.linalg.eigen.dense import dense_eigenpairs
from landscape.probes.linalg.eigen.lanczos import Eigenpairs, lanczos
from landscape.probes.linalg.search.crossings import Crossings, crossing_search
from landscape.probes.linalg.search.descent import Floor
from landscape.probes.linalg.search.driver import Ask, Line, Search, drive, solve
from landscape.probes.linalg.search.floor import exponent, floor_search
from landscape.probes.linalg.trace.quadrature import Quadrature, hutchpp, lanczos_quadrature, spectral_sum

__all__ = [
    "Ask",
    "Crossings",
    "Eigenpairs",
    "Floor",
    "Line",
    "Quadrature",
    "Search",
    "crossing_search",
    "dense_eigenpairs",
    "drive",
    "exponent",
    "floor_search",
    "hutchpp",
    "lanczos",
    "lanczos_quadrature",
    "solve",
    "spectral_sum",
]
