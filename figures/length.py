"""Accuracy on queries of every length, and with more or fewer loops than in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import LandscapeError
from landscape.figures.datasets import Array, by_arch, require_all, same
from landscape.figures.marks import arch_handles, curve, log_ticks, spread_ticks
from landscape.figures.style import NEUTRAL, arch_style, grid, styled

__all__ = ["NEEDED", "check_alike", "draw_lengths", "length", "mark_trained"]

_BOTH = ("step", "length", "loops")
NEEDED = {
    **dict.fromkeys(("accuracy", "accuracy_lower", "accuracy_upper"), _BOTH),
    "own_loops": ("step", "length"),
    "trained_length": ("step",),
    "step": ("step",),
    "length": ("length",),
    "loops": ("loops",),
}


@styled
def length(datasets: Sequence[xr.Dataset], *, step: int | None = None, at: int | None = None) -> Figure:
    """Accuracy against the length of the query; and, where measured, against the number of loops at one length.

    A curve is the mean over seeds, in a band from the lowest to the highest end of their 95 % intervals. The vertical
    line is the longest length of training up to that step. On the right, the star is the model with its own number
    of loops. Dotted: where measured, every sample loops until its output stops changing.

    Args:
        datasets: one ``length`` dataset per run, all of one task.
        step: training step; None takes the last one of each run.
        at: length for the right panel, one that all runs have; None takes the longest length of training among them.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, or the seeds of an architecture differ in
            lengths or loops.

    Example:
        >>> attrs = dict(run="r", arch="single", task="parity", run_seed=0, probe="length")
        >>> both = {n: (_BOTH, [[[1.0], [0.5]]]) for n in ("accuracy", "accuracy_lower", "accuracy_upper")}
        >>> rest = {"own_loops": (("step", "length"), [[1.0, 1.0]]), "trained_length": ("step", [4])}
        >>> ds = xr.Dataset(both | rest, {"step": [9], "length": [2, 8], "loops": [0]}, attrs)
        >>> length([ds]).axes[0].get_xlabel()
        'length of the query'
    """
    chosen_parts = [_with_adaptive(ds, raw) for ds, raw in zip(require_all(datasets, NEEDED), datasets, strict=True)]
    groups = by_arch([_at_step(ds, step) for ds in chosen_parts])
    shown = [ds for group in groups.values() for ds in group]
    for group in groups.values():
        check_alike(group)
    looped = {arch: group for arch, group in groups.items() if group[0].sizes["loops"] > 1}
    figure, axes = grid(1, 2 if looped else 1, height=2.6, sharey=True)
    for arch, group in groups.items():
        own = [ds.sel(loops=0) for ds in group]
        draw_lengths(axes[0][0], arch, own)
        _draw_adaptive(axes[0][0], arch, own)
    borders = mark_trained(axes[0][0], shown)
    steps = sorted({int(ds["step"]) for ds in shown})
    axes[0][0].set_title(f"own number of loops, step {' or '.join(map(str, steps))}")
    axes[0][0].set_xlabel("length of the query")
    axes[0][0].set_ylabel("accuracy (share of samples\nwith the whole answer right)")
    axes[0][0].set_ylim(-0.04, 1.04)
    if looped:
        chosen = _length(looped, at, borders)
        for arch, group in looped.items():
            _draw_loops(axes[0][1], arch, [ds.sel(length=chosen) for ds in group])
        _loops_axis(axes[0][1], np.unique(np.concatenate([ds["loops"].values[1:] for ds in shown])).astype(float))
        axes[0][1].set_title(f"queries of length {chosen}")
    figure.legend(handles=_legend(groups, borders, bool(looped)), loc="outside upper center", ncols=3 if looped else 2)
    return figure


def _with_adaptive(ds: xr.Dataset, raw: xr.Dataset) -> xr.Dataset:
    """With what not all runs have."""
    if "adaptive_accuracy" not in raw:
        return ds
    return ds.assign(adaptive_accuracy=raw["adaptive_accuracy"].transpose("step", "length"))


def _at_step(ds: xr.Dataset, step: int | None) -> xr.Dataset:
    """The dataset at one training step."""
    if step is None:
        return ds.isel(step=-1)
    if step not in (steps := ds["step"].values):
        raise LandscapeError(
            f"expected step {step} in run {ds.attrs['run']!r}, found {', '.join(map(str, steps))}. Choose one of these."
        )
    return ds.sel(step=step)


def check_alike(group: Sequence[xr.Dataset]) -> None:
    """Refuse a mean over seeds that were measured at different lengths or loops."""
    for name in ("length", "loops"):
        if not same([ds[name].values for ds in group]):
            raise LandscapeError(
                f"expected the same {name!r} in all seeds of {group[0].attrs['arch']!r}, found different ones. "
                "Measure the seeds alike, or draw one at a time."
            )


def _length(groups: dict[str, list[xr.Dataset]], at: int | None, borders: Sequence[int]) -> int:
    """The length of the right panel."""
    shared = sorted(set.intersection(*(set(map(int, group[0]["length"].values)) for group in groups.values())))
    if at is None and shared:
        trained = [n for n in shared if n <= max(borders, default=0)]
        return trained[-1] if trained else shared[0]
    if at not in shared:
        raise LandscapeError(
            f"expected a length that all runs have, found at={at}; they share {', '.join(map(str, shared)) or 'none'}."
        )
    return at


def draw_lengths(ax: Axes, arch: str, group: Sequence[xr.Dataset]) -> None:
    """Accuracy of an architecture against the length of the query, at one step and number of loops."""
    _draw(ax, arch, group[0]["length"].values.astype(float), group)


def mark_trained(ax: Axes, shown: Sequence[xr.Dataset]) -> list[int]:
    """A vertical line at the longest query of training; where runs differ, one at each."""
    borders = sorted({int(ds["trained_length"]) for ds in shown} - {0})
    for border in borders:
        ax.axvline(border, color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, zorder=1.5)
    return borders


def _draw(ax: Axes, arch: str, x: Array, group: Sequence[xr.Dataset]) -> None:
    """Mean over seeds in the band of their intervals."""
    style = arch_style(arch)
    mean, low, high = (np.stack([ds[n].values for ds in group]) for n in _NAMES)
    ax.fill_between(x, low.min(0), high.max(0), color=style.color, alpha=0.2, linewidth=0)
    curve(ax, x, mean.mean(0), color=style.color, marker=style.marker, linestyle=style.linestyle, most=30)


_NAMES = ("accuracy", "accuracy_lower", "accuracy_upper")


def _draw_adaptive(ax: Axes, arch: str, group: Sequence[xr.Dataset]) -> None:
    """Accuracy where samples stop by themselves, for the seeds that measured it."""
    known = [ds["adaptive_accuracy"].values for ds in group if "adaptive_accuracy" in ds]
    if known:
        ax.plot(group[0]["length"].values, np.mean(known, axis=0), color=arch_style(arch).color, **_ADAPTIVE)


_ADAPTIVE: dict[str, Any] = {"linestyle": ":", "marker": "x", "markersize": 3.5, "linewidth": 1.0, "zorder": 2.5}


def _draw_loops(ax: Axes, arch: str, group: Sequence[xr.Dataset]) -> None:
    """Accuracy against the number of loops at one length, and the model's own number."""
    others = [ds.isel(loops=slice(1, None)) for ds in group]
    _draw(ax, arch, others[0]["loops"].values.astype(float), others)
    own = [float(ds["own_loops"]) for ds in group]
    accuracy = [float(ds["accuracy"].sel(loops=0)) for ds in group]
    look: dict[str, Any] = {"markersize": 8, "markeredgecolor": "black", "markeredgewidth": 0.5, "linestyle": "none"}
    ax.plot(np.mean(own), np.mean(accuracy), marker="*", color=arch_style(arch).color, zorder=3, **look)


def _loops_axis(ax: Axes, loops: Array) -> None:
    """A logarithmic axis with ticks at measured numbers of loops."""
    log_ticks(ax, loops[spread_ticks(np.log(loops), gap=0.08)].tolist())
    ax.set_xlabel("number of loops (log scale)")


def _legend(groups: dict[str, list[xr.Dataset]], borders: Sequence[int], stars: bool) -> list[Line2D | Patch]:
    marks = arch_handles(groups)
    marks.append(Patch(facecolor=NEUTRAL, alpha=0.2, label="95 % interval, all seeds"))
    if borders:
        dashed: dict[str, Any] = {"color": NEUTRAL, "linestyle": (0, (4, 2)), "linewidth": 0.8}
        marks.append(Line2D([], [], label="longest in training", **dashed))
    if any("adaptive_accuracy" in ds for group in groups.values() for ds in group):
        marks.append(Line2D([], [], color=NEUTRAL, label="stops by itself", **_ADAPTIVE))
    if stars:
        star: dict[str, Any] = {"marker": "*", "markersize": 8, "markeredgecolor": "black", "markeredgewidth": 0.5}
        marks.append(Line2D([], [], color="white", linestyle="none", label="own number of loops", **star))
    return marks
