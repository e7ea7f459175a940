"""How wide the valley is in each direction, and how its walls are shaped."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.figures.datasets import (
    Array,
    alike,
    by_arch,
    loss_unit,
    over_seeds,
    require_all,
    say_step,
    titled,
    units,
)
from landscape.figures.marks import band_said
from landscape.figures.style import NEUTRAL, SMALL, arch_style, grid, styled

__all__ = ["widths"]

_NEEDED = {
    "half_width": ("step", "mode", "side", "rise"),
    "censored": ("step", "mode", "side", "rise"),
    "quadratic_half_width": ("step", "mode", "rise"),
    "exponent": ("step", "mode", "side"),
    "exponent_stderr": ("step", "mode", "side"),
    "direction": ("mode",),
    "side": ("side",),
    "rise": ("rise",),
    "step": ("step",),
}
_OPTIONAL = {
    "shape": ("step", "mode"),
    "converged": ("step", "mode", "side", "rise"),
    "floor_converged": ("step", "mode"),
}
"""Drawn where all results have them; those of older versions of the probe do not."""
_LETTERS = {"V": "V", "U": "U", "quadratic": "Q", "flat": "F", "falling": "↓", "undecided": "?", "absent": "–"}
_SIDES = {"-": ("<", -0.17), "+": (">", 0.17)}
_SHAPES = {1.0: "V", 2.0: "quadratic"}


@styled
def widths(datasets: Sequence[xr.Dataset], *, step: int | None = None, rise: float | None = None) -> Figure:
    """Half-widths (top) and shape exponents (bottom) by direction at one step, one column per architecture.

    Both sides of the valley floor are shown. Bars of the widths span the seeds; those of the exponents reach from the
    smallest ``exponent - stderr`` of the seeds to their largest ``exponent + stderr``. Where the search ended before
    the loss had risen far enough (in any seed), a hollow triangle and an arrow say that the width is a lower bound.
    The short line is the width of a parabola of the same curvature, sqrt(2 rise / lambda); without one there is none.
    A cross marks a width or exponent around a floor that was not located, or that is lost in rounding (in any seed).
    Letters above the exponents are the shapes (V, U, Q quadratic, F flat, ↓ falling, ? undecided, – absent), several
    where seeds differ.

    Args:
        datasets: one ``valley`` dataset per run, all of one task.
        step: the checkpoint; None for the last one that all runs have.
        rise: height above the floor in the unit of the loss; None for the middle one of those measured.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, the step or rise was not measured, or seeds
            of one architecture were measured along different directions.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = widths([sweep("valley", run, seed=0, steps=[4], top=1, random=0)])
        >>> figure.axes[0].get_title(loc="left")[:23]
        'single (1 seed), step 4'
    """
    datasets = require_all(
        datasets, _NEEDED | {k: v for k, v in _OPTIONAL.items() if all(k in d.variables for d in datasets)}
    )
    at_step = _common("step", [d["step"].values for d in datasets], step, at=-1)
    rises = [d["rise"].values for d in datasets]
    at_rise = _common("rise", rises, rise, at=(len(rises[0]) - 1) // 2)
    chosen = [d.sel(step=at_step).sel(rise=at_rise, method="nearest") for d in datasets]
    groups, loss = by_arch(chosen), loss_unit(datasets)
    names = list(dict.fromkeys(str(n) for d in datasets for n in d["direction"].values))
    figure, axes = grid(2, len(groups), height=2.3, sharex=True, sharey="row")
    for column, (arch, group) in enumerate(groups.items()):
        at = np.array([names.index(n) for n in alike(group, "direction")], float)
        color = arch_style(arch).color
        _draw_widths(axes[0][column], group, at, color)
        _draw_exponents(axes[1][column], group, at, color)
        key = _draw_shapes(axes[1][column], group, at, wide=44 if len(groups) < 3 else 26)
        axes[0][column].set_title(f"{titled(arch, group)}{say_step(at_step, before=', ')}\nrise of {at_rise:g} {loss}")
        axes[1][column].set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes[1][column].set_xlim(-0.6, len(names) - 0.4)
        axes[1][column].set_xlabel("direction" + key)
        axes[0][column].margins(y=0.16)  # room for the arrows
    axes[0][0].set_yscale("log")
    label = wrap(f"half-width ({units(datasets, 'half_width')};", 21, break_on_hyphens=False)
    axes[0][0].set_ylabel("\n".join([*label, "log scale)"]))
    axes[1][0].set_ylabel("shape exponent\n(dimensionless)")
    _name_shapes(axes[1][-1])
    figure.legend(handles=_legend(groups), loc="outside upper center", ncols=2 if len(groups) == 1 else 3)
    return figure


def _common(name: str, available: Sequence[Array], wanted: float | None, *, at: int) -> float:
    """The wanted step or rise, or the one at index `at` of those that all runs have."""
    common = [v for v in available[0] if all(np.isclose(v, a, rtol=1e-9, atol=0).any() for a in available[1:])]
    if not common:
        raise LandscapeError(f"expected a {name} that all runs have, found none. Measure the runs at the same {name}s.")
    if wanted is None:
        return float(common[at if at < 0 else min(at, len(common) - 1)])
    for value in common:
        if np.isclose(value, wanted, rtol=1e-9, atol=0):
            return float(value)
    values = ", ".join(f"{v:g}" for v in common)
    raise LandscapeError(f"expected a {name} that all runs have, found {wanted:g}. Choose one of {values}.")


def _draw_widths(ax: Axes, group: Sequence[xr.Dataset], at: Array, color: str) -> None:
    """Measured widths of both sides, and the width of the parabola between them."""
    for side, (marker, shift) in _SIDES.items():
        part = [d.sel(side=side) for d in group]
        mean, low, high = over_seeds([d["half_width"].values for d in part])
        bound = np.any([d["censored"].values.astype(bool) for d in part], axis=0)
        doubt = _doubt(part, at.size) & ~bound
        x = at + shift
        _bars(ax, x, mean, low, high, color=color, marker=marker, keep=~bound & ~doubt)
        if doubt.any():
            _bars(ax, x, mean, low, high, color=color, marker="x", keep=doubt)
        if (bound & np.isfinite(mean)).any():
            _bars(ax, x, mean, low, high, color=color, marker="^", keep=bound, hollow=True)
            for xi, yi in zip(x[bound], mean[bound], strict=True):
                ax.annotate("", (xi, yi), (0, 13), textcoords="offset points", arrowprops=_ARROW | {"color": color})
    mean, low, high = over_seeds([d["quadratic_half_width"].values for d in group])
    ok = np.isfinite(mean)
    if len(group) > 1:
        ax.vlines(at[ok], low[ok], high[ok], color=NEUTRAL, linewidth=0.8)
    ax.hlines(mean[ok], at[ok] - 0.36, at[ok] + 0.36, color=NEUTRAL, linewidth=1.0, zorder=1.8)


_ARROW: dict[str, Any] = {"arrowstyle": "<|-", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 2, "mutation_scale": 5}


def _draw_exponents(ax: Axes, group: Sequence[xr.Dataset], at: Array, color: str) -> None:
    """Exponents of both sides with their errors, and the exponents of known shapes."""
    for side, (marker, shift) in _SIDES.items():
        part = [d.sel(side=side) for d in group]
        mean, low, high = over_seeds([d["exponent"].values for d in part], [d["exponent_stderr"].values for d in part])
        unknown = np.isfinite(mean) & ~np.isfinite(low)  # an exponent without an error is drawn hollow, without a bar
        doubt = _doubt([d.drop_vars("converged", errors="ignore") for d in part], at.size)
        _bars(ax, at + shift, mean, low, high, color=color, marker=marker, keep=~unknown & ~doubt)
        if (unknown & ~doubt).any():
            _bars(ax, at + shift, mean, mean, mean, color=color, marker=marker, keep=unknown & ~doubt, hollow=True)
        if doubt.any():
            _bars(ax, at + shift, mean, mean, mean, color=color, marker="x", keep=doubt)
    for value in _SHAPES:
        ax.axhline(value, color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, zorder=1)


def _doubt(part: Sequence[xr.Dataset], n: int) -> NDArray[np.bool_]:
    """Where a number was not located in some seed, though it was not censored: no floor, or lost in rounding."""
    doubt = np.zeros(n, dtype=bool)
    for d in part:
        if "floor_converged" in d:
            doubt |= ~d["floor_converged"].values.astype(bool)
        if "converged" in d:
            doubt |= ~d["converged"].values.astype(bool) & ~d["censored"].values.astype(bool)
    return doubt


def _draw_shapes(ax: Axes, group: Sequence[xr.Dataset], at: Array, *, wide: int) -> str:
    """Letters above the axes, one for each shape that a seed has in a direction; returns what they stand for."""
    if "shape" not in group[0]:
        return ""
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    seen: set[str] = set()
    for i, x in enumerate(at):
        found = {str(d["shape"].values[i]) for d in group}
        text = "".join(letter for name, letter in _LETTERS.items() if name in found)
        ax.annotate(text, (x, 1), (0, 2), **place, ha="center", va="bottom", fontsize=SMALL)
        seen |= found
    key = ", ".join(
        n if n == letter else f"{letter}\N{NO-BREAK SPACE}{n}" for n, letter in _LETTERS.items() if n in seen
    )
    return "\n" + "\n".join(wrap(f"(shape: {key})", wide))


def _name_shapes(ax: Axes) -> None:
    """The names of the known shapes, at the right end of their lines."""
    for value, name in _SHAPES.items():
        at: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        ax.annotate(name, (1, value), (2, 0), **at, va="center", fontsize=SMALL, color=NEUTRAL)


def _bars(
    ax: Axes,
    x: Array,
    y: Array,
    low: Array,
    high: Array,
    *,
    color: str,
    marker: str,
    keep: NDArray[np.bool_],
    hollow: bool = False,
) -> None:
    """Markers with bars from low to high, of the points to keep."""
    x, y, low, high = x[keep], y[keep], low[keep], high[keep]
    ax.errorbar(
        x, y, np.stack([y - low, high - y]), fmt=marker, color=color, elinewidth=0.8, capsize=1.5,
        markerfacecolor="white" if hollow else color,
    )  # fmt: skip


def _legend(groups: dict[str, list[xr.Dataset]]) -> list[Line2D]:
    """What the marks mean."""
    look: dict[str, Any] = {"color": NEUTRAL, "linestyle": "none"}
    return [
        Line2D([], [], marker="<", **look, label="− side"),
        Line2D([], [], marker=">", **look, label="+ side"),
        Line2D([], [], marker="^", markerfacecolor="white", **look, label="lower bound (censored)"),
        Line2D([], [], color=NEUTRAL, label=r"quadratic, $\sqrt{2\,\mathrm{rise}/\lambda}$"),
        Line2D([], [], marker="|", markersize=8, **look, label=band_said(groups.values(), "error")),
        Line2D([], [], marker="x", **look, label="not converged"),
    ]
