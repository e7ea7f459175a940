"""What was found, as tables of text: one file per probe, named as the probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import xarray as xr

from landscape.cli.console import Table
from landscape.cli.tables import (
    alignment,
    density,
    entropy,
    evolution,
    examples,
    force,
    hopping,
    length,
    loops,
    samples,
    sharpness,
    spectrum,
    split,
    surface,
    valley,
)

__all__ = ["TABLES"]

TABLES: dict[str, Callable[[Sequence[xr.Dataset]], Table]] = {
    "spectrum": spectrum.table,
    "density": density.table,
    "valley": valley.table,
    "samples": samples.table,
    "surface": surface.table,
    "sharpness": sharpness.table,
    "hopping": hopping.table,
    "alignment": alignment.table,
    "loops": loops.table,
    "entropy": entropy.table,
    "force": force.table,
    "split": split.table,
    "evolution": evolution.table,
    "length": length.table,
    "examples": examples.table,
}
