"""Probes: one question per file, found by name.

A probe is a pure function ``(objective, w, *, seed, **settings) -> xarray.Dataset``. It knows no files.
"""

from __future__ import annotations

from landscape.probes.alignment import PROBE as ALIGNMENT
from landscape.probes.alignment import alignment
from landscape.probes.base import Probe
from landscape.probes.density import PROBE as DENSITY
from landscape.probes.density import density
from landscape.probes.entropy import PROBE as ENTROPY
from landscape.probes.entropy import entropy
from landscape.probes.evolution import PROBE as EVOLUTION
from landscape.probes.evolution import evolution
from landscape.probes.force import PROBE as FORCE
from landscape.probes.force import force
from landscape.probes.hopping import PROBE as HOPPING
from landscape.probes.hopping import hopping
from landscape.probes.length import PROBE as LENGTH
from landscape.probes.length import length
from landscape.probes.samples import PROBE as SAMPLES
from landscape.probes.samples import samples
from landscape.probes.spectrum import PROBE as SPECTRUM
from landscape.probes.spectrum import spectrum
from landscape.probes.split import PROBE as SPLIT
from landscape.probes.split import split
from landscape.probes.surface import PROBE as SURFACE
from landscape.probes.surface import surface
from landscape.probes.valley import PROBE as VALLEY
from landscape.probes.valley import valley
from landscape.settings import lookup

__all__ = [
    "PROBES",
    "alignment",
    "density",
    "entropy",
    "evolution",
    "force",
    "get_probe",
    "hopping",
    "length",
    "samples",
    "spectrum",
    "split",
    "surface",
    "valley",
]

PROBES: dict[str, Probe] = {
    p.name: p
    for p in (SPECTRUM, DENSITY, VALLEY, SAMPLES, SURFACE, ENTROPY, FORCE, SPLIT, EVOLUTION, HOPPING, ALIGNMENT, LENGTH)
}
"""Name -> probe, in the order in which they are run by default."""


def get_probe(name: str) -> Probe:
    """The probe of that name.

    Example:
        >>> get_probe("spectrum").defaults["k"]
        10
    """
    return lookup(PROBES, name, kind="probe")
