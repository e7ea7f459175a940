"""Probes: one question per file, found by name.

A probe is a pure function ``(objective, w, *, seed, **settings) -> xarray.Dataset``. It knows no files.

They are loaded on first use: `landscape.probes.linalg`, which lies in this package, must not bring them all along.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from landscape.settings import lookup

if TYPE_CHECKING:
    from landscape.probes.alignment import alignment
    from landscape.probes.base import Probe
    from landscape.probes.density import density
    from landscape.probes.entropy import entropy
    from landscape.probes.evolution import evolution
    from landscape.probes.examples import examples
    from landscape.probes.force import force
    from landscape.probes.hopping import hopping
    from landscape.probes.length import length
    from landscape.probes.loops import loops
    from landscape.probes.samples import samples
    from landscape.probes.sharpness import sharpness
    from landscape.probes.spectrum import spectrum
    from landscape.probes.split import split
    from landscape.probes.surface import surface
    from landscape.probes.valley import valley

    PROBES: dict[str, Probe]
    """Name -> probe, in the order in which they are run by default."""

__all__ = [
    "PROBES",
    "alignment",
    "density",
    "entropy",
    "evolution",
    "examples",
    "force",
    "get_probe",
    "hopping",
    "length",
    "loops",
    "samples",
    "sharpness",
    "spectrum",
    "split",
    "surface",
    "valley",
]

_NAMES = (
    *("spectrum", "density", "valley", "samples", "surface", "entropy"),
    *("force", "split", "evolution", "sharpness", "hopping", "alignment", "loops", "length", "examples"),
)
"""Each is the name of a file, of the function in it, and of a probe; in the order of `PROBES`."""


def get_probe(name: str) -> Probe:
    """The probe of that name.

    Example:
        >>> get_probe("spectrum").defaults["k"]
        10
    """
    known: dict[str, Probe] = sys.modules[__name__].PROBES  # not yet there if no one has asked for them
    return lookup(known, name, kind="probe")


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{name}"), name)
    if name == "PROBES":
        found = {n: import_module(f"{__name__}.{n}").PROBE for n in _NAMES}
        return globals().setdefault(name, found)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    """In which the name of a probe is its function, though Python binds a file that was imported to its own name."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, getattr(value, name) if name in _NAMES and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
