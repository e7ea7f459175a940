"""Numerics that know no network."""

from landscape.probes.linalg.eigen.dense import dense_eigenpairs
from landscape.probes.linalg.eigen.lanczos import Eigenpairs, lanczos
from landscape.probes.linalg.search.driver import Ask, Line, Search, drive
from landscape.probes.linalg.search.floor import (
    Crossings,
    Floor,
    crossing_search,
    crossings,
    exponent,
    find_floor,
    floor_search,
)
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
    "crossings",
    "dense_eigenpairs",
    "drive",
    "exponent",
    "find_floor",
    "floor_search",
    "hutchpp",
    "lanczos",
    "lanczos_quadrature",
    "spectral_sum",
]
