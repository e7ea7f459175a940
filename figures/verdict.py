"""What a study says of every claim: standardised effects with their intervals, one line a quantity and metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import blended_transform_factory

from landscape.errors import LandscapeError
from landscape.figures.datasets import require
from landscape.figures.style import COLUMN, NEUTRAL, SMALL, Picture, styled

__all__ = ["verdict"]

_SIDES = {1: ("#0072B2", "claimed side"), 0: (NEUTRAL, "undecided"), -1: ("#D55E00", "opposite side")}
"""Colours that no common colour blindness confuses; the filling of the markers says the same."""
_MARKERS = {"none": "D", "euclidean": "o", "filter": "s", "adam": "^"}
_TEXT = ("claim", "title", "a", "b", "quantity", "metric", "outcome")
_NUMBERS = ("effect", "effect_low", "effect_high", "side", "n")
_FLAGS = ("main", "decides")
_LINE = 0.15
"""Inches a line."""
_WIDEST = 8.0
"""Standard deviations beyond which an effect is drawn at the edge, as an arrow."""


@dataclass(frozen=True)
class _Line:
    """One line of the picture: the row that is least on the claimed side, and how far the others reach."""

    claim: str
    quantity: str
    metric: str
    effect: float
    low: float
    high: float
    least: float
    most: float
    side: int
    n: int


_Group = tuple[tuple[str, str, str], list[_Line]]
"""Claim, pair and outcome; and the lines."""


@styled
def verdict(
    runs: Sequence[xr.Dataset], *, setting: str | None = None, a: str | None = None, b: str | None = None
) -> Figure:
    """Forest plot: for every claim, quantity and metric the standardised effect, positive on the claimed side.

    Of several thresholds that are scanned the marker is the one that is least on the claimed side, since the claim
    hangs on it, with its 95 % interval; the pale bar spans the effects at all of them. A filled marker has a side: its
    deciding interval excludes the margin. What lies beyond the axis is an arrow at its edge.

    Args:
        runs: the datasets of a verdict, one per setting.
        setting: which of them, by its label; None is the first.
        a: label of the training that is claimed to differ; None with `b` None shows the pair of each claim.
        b: label of the other.

    Raises:
        LandscapeError: for a setting or pair that is not there, or a dataset that is no verdict.

    Example:
        >>> text = {n: ("row", [v]) for n, v in (
        ...     ("claim", "C6"), ("title", "lower loss"), ("a", "looped"), ("b", "single"), ("quantity", "loss"),
        ...     ("metric", "none"), ("threshold", ""), ("outcome", "supported"))}
        >>> numbers = {n: ("row", [v]) for n, v in (("effect", 2.0), ("effect_low", 1.0), ("effect_high", 3.0))}
        >>> more = {"side": ("row", [1]), "n": ("row", [8]), "main": ("row", [True]), "decides": ("row", [True])}
        >>> ds = xr.Dataset(text | numbers | more, attrs={"probe": "verdict", "setting": "markov"})
        >>> [t.get_text() for t in verdict([ds]).axes[0].get_yticklabels()]
        ['loss']
    """
    ds = _chosen(runs, setting)
    groups = _groups(ds, a, b)
    if not groups:
        raise LandscapeError("expected rows of evidence to draw, found none for this pair. Probe the runs first.")
    height = 1.15 + _LINE * sum(len(lines) + 2.6 for _, lines in groups)
    figure = Picture(figsize=(COLUMN, height), layout="constrained")
    ax = figure.subplots()
    _draw(ax, groups)
    figure.legend(
        handles=_legend(groups),
        loc="outside upper center",
        ncols=3,
        title=fill(str(ds.attrs.get("setting", "runs")), 44),
    )
    return figure


def _chosen(runs: Sequence[xr.Dataset], setting: str | None) -> xr.Dataset:
    if not runs:
        raise LandscapeError(
            "expected the verdict on at least one run, found none. Make it of runs with several seeds."
        )
    for ds in runs:
        require(ds, dict.fromkeys((*_TEXT, *_NUMBERS, *_FLAGS), ("row",)))
    labels = [str(ds.attrs.get("setting", "runs")) for ds in runs]
    if setting is not None and setting not in labels:
        raise LandscapeError(f"expected one of the settings {'; '.join(labels)}, found {setting!r}.")
    return runs[0 if setting is None else labels.index(setting)]


def _groups(ds: xr.Dataset, a: str | None, b: str | None) -> list[_Group]:
    """Title of each claim with its pair, and its lines; those that decide."""
    text = {n: ds[n].values.astype(str) for n in _TEXT}
    kept = ds["decides"].values.astype(bool)
    if a is None and b is None:
        kept = kept & ds["main"].values.astype(bool)
    for name, label in (("a", a), ("b", b)):
        kept = kept & (text[name] == label) if label is not None else kept
    found: dict[tuple[str, ...], dict[tuple[str, str], list[int]]] = {}
    for i in np.flatnonzero(kept):
        head = tuple(str(text[n][i]) for n in ("claim", "title", "a", "b", "outcome"))
        line = (str(text["quantity"][i]), str(text["metric"][i]))
        found.setdefault(head, {}).setdefault(line, []).append(int(i))
    out = []
    for (claim, title, first, second, outcome), lines in found.items():
        made = [_line(ds, claim, quantity, metric, rows) for (quantity, metric), rows in lines.items()]
        out.append(((f"{claim} {title}", f"{first} − {second}", outcome), made))
    return out


def _line(ds: xr.Dataset, claim: str, quantity: str, metric: str, rows: list[int]) -> _Line:
    effect = ds["effect"].values[rows]
    known = np.where(np.isnan(effect), np.inf, effect)
    least = rows[int(known.argmin())]
    finite = effect[~np.isnan(effect)]
    number = {n: float(ds[n].values[least]) for n in ("effect", "effect_low", "effect_high")}
    ends = (float(finite.min()), float(finite.max())) if len(finite) else (np.nan, np.nan)
    return _Line(
        claim, quantity, metric, number["effect"], number["effect_low"], number["effect_high"], *ends,
        int(ds["side"].values[least]), int(ds["n"].values[least]),
    )  # fmt: skip


def _draw(ax: Axes, groups: Sequence[_Group]) -> None:
    reach = [abs(x) for _, lines in groups for x in (v for e in lines for v in (e.low, e.high, e.least, e.most))]
    finite = [x for x in reach if np.isfinite(x)]
    edge = min(_WIDEST, max([1.0, *finite]) * 1.08)
    y, ticks, names = 0.0, [], []
    across = blended_transform_factory(ax.figure.transFigure, ax.transData)
    for (title, pair, outcome), lines in groups:
        y += 1.6
        head: dict[str, Any] = {"transform": across, "fontsize": SMALL, "va": "center", "in_layout": False}
        ax.text(0.015, y, title, weight="bold", **head)
        ax.text(0.985, y, outcome, ha="right", **head)
        y += 1.0
        ax.text(0.015, y, pair, **head)
        previous = ""
        for line in lines:
            y += 1.0
            _one(ax, y, line, edge)
            ticks.append(y)
            names.append(line.quantity if line.quantity != previous else "")
            previous = line.quantity
    ax.axvline(0, color="0.2", linewidth=0.8, zorder=0)
    ax.set_xlim(-edge, edge)
    ax.set_ylim(y + 0.7, 0.9)
    ax.set_yticks(ticks, names)
    ax.yaxis.set_ticks_position("none")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("standard deviations over seeds\n← against      for the claim →")


def _one(ax: Axes, y: float, line: _Line, edge: float) -> None:
    color = _SIDES[line.side][0]
    least, most, low, high = np.clip([line.least, line.most, line.low, line.high], -edge, edge)
    if most > least:
        ax.plot([least, most], [y, y], color=color, alpha=0.22, linewidth=5, solid_capstyle="butt", zorder=1)
    if np.isnan(line.effect):
        said = "one seed" if line.n < 2 else "all at the margin"
        ax.text(0, y, f" {said}", fontsize=SMALL - 1, color=NEUTRAL, va="center")
        return
    ax.plot([low, high], [y, y], color=color, linewidth=1.2, zorder=2)
    outside = abs(line.effect) > edge
    marker = ("<" if line.effect < 0 else ">") if outside else _MARKERS.get(line.metric, "D")
    place = float(np.clip(line.effect, -0.96 * edge, 0.96 * edge))
    face = color if line.side else "white"
    ax.plot([place], [y], marker=marker, color=color, markerfacecolor=face, linestyle="none", zorder=3)


def _legend(groups: Sequence[_Group]) -> list[Line2D | Patch]:
    lines = [line for _, each in groups for line in each]
    sides = {line.side for line in lines}
    metrics = {line.metric for line in lines}
    marks: list[Line2D | Patch] = [
        Line2D([], [], color=color, marker="D", markerfacecolor=color if side else "white", label=label)
        for side, (color, label) in _SIDES.items()
        if side in sides
    ]
    marks += [
        Line2D([], [], color="0.2", marker=mark, markerfacecolor="white", linestyle="none", label=_said(metric))
        for metric, mark in _MARKERS.items()
        if metric in metrics
    ]
    if any(line.most > line.least for line in lines):
        marks.append(Patch(facecolor="0.85", label="all thresholds"))
    return marks


def _said(metric: str) -> str:
    return "no metric" if metric == "none" else metric
