"""Figures as images inside a page. The one place that says how a figure is drawn from answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from landscape.errors import LandscapeError
from landscape.figures import FIGURES
from landscape.figures.style import paper
from landscape.plotting import plot

__all__ = ["Missing", "Picture", "drawn", "picture", "pictures"]

HEAVY = 400_000
"""Bytes of a drawing of lines from which on it is stored as points."""
DPI = 220
_CURVES = ("learning", "entropy", "force", "split")
"""Figures that show single numbers over training."""


@dataclass(frozen=True)
class Picture:
    """An image that needs no other file.

    Attributes:
        name: of the figure.
        source: a data URI.
        caption: what is shown.
        alt: for who cannot see it.
        width: in CSS pixels, as it was drawn.
        height: likewise.
    """

    name: str
    source: str
    caption: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Missing:
    """A figure that could not be drawn, and why."""

    name: str
    reason: str


def drawn(name: str, answers: Sequence[xr.Dataset]) -> Any:
    """A figure from answers to one question.

    Raises:
        LandscapeError: if the answers do not hold what is drawn.
    """
    return plot(list(answers), name)


def pictures(datasets: Mapping[str, Sequence[xr.Dataset]], *, title: str) -> tuple[list[Picture], list[Missing]]:
    """Every figure whose answers are there."""
    found, missing = list[Picture](), list[Missing]()
    for name, spec in FIGURES.items():
        answers = datasets.get(spec.probe, ())
        if not answers:
            continue
        if name in _CURVES and all(ds.sizes.get("step", 1) < 2 for ds in answers):
            missing.append(Missing(name, "one checkpoint makes no curve; the numbers are in the tables."))
            continue
        try:
            found.append(picture(name, drawn(name, answers), spec.title, title))
        except LandscapeError as error:
            missing.append(Missing(name, str(error)))
    return found, missing


def picture(name: str, figure: Any, caption: str, title: str) -> Picture:
    """A figure as an image: a drawing of lines, or points where those would be too many."""
    width, height = (round(96 * float(x)) for x in figure.get_size_inches())
    buffer, kind = io.BytesIO(), "svg+xml"
    with paper(outlines=True):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        if buffer.tell() > HEAVY:
            buffer, kind = io.BytesIO(), "png"
            figure.savefig(buffer, format="png", dpi=DPI)
    source = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    alt = f"Figure {name} of {title}: {caption}. The numbers are in the tables."
    return Picture(name, source, caption, alt, width, height)
