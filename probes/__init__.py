"""Probes: one question per file, found by name.

A probe is a pure function ``(objective, w, *, seed, **settings) -> xarray.Dataset``. It knows no files.
"""

from __future__ import annotations

from landscape.probes.density import PROBE as DENSITY
from landscape.probes.density import density
from landscape.probes.samples import PROBE as SAMPLES
from landscape.probes.samples import samples
from landscape.probes.spectrum import PROBE as SPECTRUM
from landscape.probes.spectrum import spectrum
from landscape.probes.surface import PROBE as SURFACE
from landscape.probes.surface import surface
from landscape.probes.valley import PROBE as VALLEY
from landscape.probes.valley import valley
from landscape.registry import lookup
from landscape.schema import Probe

__all__ = ["PROBES", "density", "get_probe", "samples", "spectrum", "surface", "valley"]

PROBES: dict[str, Probe] = {p.name: p for p in (SPECTRUM, DENSITY, VALLEY, SAMPLES, SURFACE)}
"""Name -> probe, in the order in which they are run by default."""


def get_probe(name: str) -> Probe:
    """The probe of that name.

    Example:
        >>> get_probe("spectrum").defaults["k"]
        10
    """
    return lookup(PROBES, name, kind="probe")
