"""Studies by name: grids that are carried out one after the other, each in a folder of its own."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from landscape.grids.grid import Grid
from landscape.settings import lookup

__all__ = ["STUDIES", "study_grids"]

STUDIES = {
    "quick": "the toy at d = 8, five seeds: minutes on a laptop, and hardly a claim decided",
    "laptop": "the study of docs/findings.md: eight seeds, loops of three kinds, SHIFT in three modes, parity: hours",
    "paper": "loops of three kinds, SHIFT in three modes, exact spectra, six algorithmic tasks: days",
}
"""What each is, in a line."""


def study_grids(name: str, *, device: str = "cpu") -> dict[str, Grid]:
    """The grids of a study, by the names of the folders of their runs.

    Args:
        name: in `STUDIES`.
        device: of runs and probes.

    Raises:
        LandscapeError: for an unknown name.

    Example:
        >>> {name: len(grid.configs) for name, grid in study_grids("quick").items()}
        {'markov': 20}
    """
    lookup(STUDIES, name, kind="study")
    folder = files("landscape.grids").joinpath("presets", name)
    tables = {
        f.name.removesuffix(".toml"): tomllib.loads(f.read_text(encoding="utf-8"))
        for f in sorted(folder.iterdir(), key=lambda f: f.name)
    }
    return {stem: Grid.make(**table, device=device) for stem, table in tables.items()}
