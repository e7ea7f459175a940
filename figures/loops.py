"""The state of a recursion, pass by pass and beyond the last: loss, steps, their angles, and the Jacobian of a pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.figures.datasets import by_arch, loss_unit, require_all, say_step, titled
from landscape.figures.marks import band_marks, hollow_handle, seed_curves
from landscape.figures.style import NEUTRAL, arch_style, grid, styled, tint

__all__ = ["loops"]

_CURVES = ("loss", "step_length", "cosine")
_RADII = ("radius", "gain")
_NEEDED = {
    **dict.fromkeys((*_CURVES, *(f"{n}_stderr" for n in _CURVES)), ("step", "pass")),
    **dict.fromkeys((*_RADII, *(f"{n}_stderr" for n in _RADII)), ("step", "at")),
    "converged": ("step", "at", "sample"),
    "trained_loops": ("step",),
    "pass": ("pass",),
    "at": ("at",),
    "step": ("step",),
}
FAR = 1e12
"""Where panels end: a state that explodes beyond the trained passes leaves them instead of hiding all others."""
_LOOKS = (("o", "-"), ("s", "--"), ("^", ":"))
_GAIN: dict[str, Any] = {"marker": "x", "linestyle": "none"}


@styled
def loops(datasets: Sequence[xr.Dataset], *, steps: Sequence[int] | None = None) -> Figure:
    """One column per architecture; from the top: loss, step length, cosine of steps, radius and gain of the Jacobian.

    One curve per checkpoint, the last is darkest; means over seeds in a band from the smallest ``value - stderr`` of
    the seeds to their largest ``value + stderr``, the error being that over samples. The dotted vertical line is the
    number of passes of the trained model: to its right is what its recursion would do. In the last row curves are the
    radius and crosses the gain, the largest singular value; a point is hollow where any of its Jacobians has not
    converged. What explodes leaves its panel at 1e12.

    Args:
        datasets: one ``loops`` dataset per run, all of one task.
        steps: training steps to draw, three at most; None means the first, the middle and the last that all runs have.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, or the runs lack a step.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = loops([sweep("loops", run, seed=0, jacobians=1, passes=4, at=(1,))])
        >>> figure.axes[0].get_title(loc="left")
        'single (1 seed)'
    """
    datasets = require_all(datasets, _NEEDED)
    chosen = _steps(datasets, steps)
    groups = by_arch(datasets)
    figure, axes = grid(4, len(groups), height=1.6, sharex=True, sharey="row")
    for column, (arch, group) in enumerate(groups.items()):
        panels = [row[column] for row in axes]
        panels[0].set_title(titled(arch, group))
        for i, step in enumerate(chosen):
            _draw(panels, [d.sel(step=step) for d in group], _look(i, len(chosen), arch_style(arch).color))
        for ax in panels:
            for T in {int(d["trained_loops"].max()) for d in group} - {0}:
                ax.axvline(T, color=NEUTRAL, linestyle=(0, (1, 1.5)), linewidth=0.9, zorder=1)
        panels[-1].set_xlabel("passes")
        panels[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _label(axes, datasets)
    figure.legend(handles=_legend(groups, chosen), loc="outside upper center", ncols=2 if len(groups) == 1 else 4)
    return figure


def _steps(datasets: Sequence[xr.Dataset], wanted: Sequence[int] | None) -> list[int]:
    """The steps to draw, all of them in every run."""
    common = sorted(set.intersection(*({int(s) for s in d["step"].values} for d in datasets)))
    some = sorted({common[0], common[len(common) // 2], common[-1]}) if common else []
    chosen = some if wanted is None else sorted({int(s) for s in wanted})
    if not 1 <= len(chosen) <= len(_LOOKS) or not set(chosen) <= set(common):
        raise LandscapeError(
            f"expected 1 to {len(_LOOKS)} steps that every run has ({', '.join(map(str, common)) or 'there is none'}), "
            f"found {', '.join(map(str, chosen)) or 'none'}. Probe the runs at the same steps."
        )
    return chosen


def _look(i: int, count: int, color: str) -> dict[str, Any]:
    """Of the i-th of some checkpoints: the last has the full colour."""
    marker, line = _LOOKS[i]
    return {"color": tint(color, 0.3 * (count - 1 - i)), "marker": marker, "linestyle": line}


def _draw(panels: Sequence[Axes], group: Sequence[xr.Dataset], look: dict[str, Any]) -> None:
    """One checkpoint of an architecture."""
    xs = [d["pass"].values.astype(float) for d in group]
    for ax, name in zip(panels, _CURVES, strict=False):
        errors = [_near(d[f"{name}_stderr"]) for d in group]
        seed_curves(ax, xs, [_near(d[name]) for d in group], errors=errors, **look)
    at = [d["at"].values.astype(float) for d in group]
    hollow = [np.asarray((~d["converged"].values.astype(bool)).any(axis=1)) for d in group]
    for name, own in zip(_RADII, (look, look | _GAIN), strict=True):
        errors = [np.nan_to_num(_near(d[f"{name}_stderr"])) for d in group]
        seed_curves(panels[3], at, [_near(d[name]) for d in group], errors=errors, hollow=hollow, **own)


def _near(values: xr.DataArray) -> NDArray[np.float64]:
    """What is far beyond its panel, a little beyond it: the scales of matplotlib overflow near the largest floats."""
    near: NDArray[np.float64] = np.minimum(values.values.astype(float), 1e3 * FAR)
    return near


def _label(axes: Sequence[Sequence[Axes]], datasets: Sequence[xr.Dataset]) -> None:
    """Labels and scales of the rows, which the columns share."""
    for row, name in ((0, "loss"), (1, "step_length"), (3, "gain")):
        if any(bool((d[name] > 0).any()) for d in datasets):
            axes[row][0].set_yscale("log")
        if axes[row][0].get_ylim()[1] > FAR:
            axes[row][0].set_ylim(top=FAR)
    axes[0][0].set_ylabel(f"loss\n({loss_unit(datasets)},\nlog scale)")
    axes[1][0].set_ylabel("step length\n|Δh| / |h|\n(log scale)")
    axes[2][0].set_ylabel("cosine of\nconsecutive\nsteps")
    axes[2][0].set_ylim(-1.1, 1.1)
    axes[3][0].set_ylabel("Jacobian:\nradius; gain\n(log scale)")
    for ax in axes[3]:
        ax.axhline(1, color=NEUTRAL, linewidth=0.5, zorder=1)
    for ax in axes[2]:
        ax.axhline(0, color=NEUTRAL, linewidth=0.5, zorder=1)


def _legend(groups: dict[str, list[xr.Dataset]], chosen: Sequence[int]) -> list[Line2D | Patch]:
    """What the marks mean."""
    marks: list[Line2D | Patch] = []
    for i, step in enumerate(chosen):
        marks.append(Line2D([], [], **_look(i, len(chosen), "#000000"), label=say_step(step) or "radius"))
    marks.append(Line2D([], [], color="0.2", **_GAIN, label="gain"))
    marks.append(Line2D([], [], color=NEUTRAL, linestyle=(0, (1, 1.5)), linewidth=0.9, label="passes of the model"))
    drawn = [d.sel(step=list(chosen)) for group in groups.values() for d in group]
    if any(not bool(d["converged"].all()) for d in drawn):
        marks.append(hollow_handle("not converged"))
    return [*marks, *band_marks(groups.values(), "standard error")]
