"""Squared error against the number of examples in a prompt, with least squares and the best possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import LandscapeError
from landscape.figures.datasets import by_arch, require_all, same, say_step, units
from landscape.figures.marks import arch_handles, band_marks, seed_curves
from landscape.figures.style import NEUTRAL, arch_style, grid, styled

__all__ = ["examples"]

_NEEDED = {"error": ("step", "examples"), "error_stderr": ("step", "examples"), "examples": ("examples",)}
_REFERENCES: dict[str, tuple[str, Any]] = {
    "least_squares": ("least squares", (0, (4, 2))),
    "bayes_expected": ("best possible", ":"),
}


@styled
def examples(datasets: Sequence[xr.Dataset], *, step: int | None = None) -> Figure:
    """Squared error of the last loop against the number of examples before the question.

    Bands are the range over seeds with the standard error over prompts. Grey: least squares on the same prompts, mean
    over runs, and the smallest expected error where it is known.

    Args:
        datasets: one ``examples`` dataset per run, all of one task.
        step: training step; None takes the last one of each run.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn or the step, or prompts differ in length.

    Example:
        >>> attrs = dict(run="r", arch="looped", task="regression", run_seed=0, probe="examples")
        >>> both = {n: (("step", "examples"), [[1.0, 0.1]]) for n in ("error", "error_stderr")}
        >>> ds = xr.Dataset(both, {"step": [9], "examples": [0, 1]}, attrs)
        >>> examples([ds]).axes[0].get_xlabel()
        'examples before the question'
    """
    whole = list(datasets)
    shown = [_at_step(ds, step) for ds in require_all(whole, _NEEDED)]
    if not same([ds["examples"].values for ds in shown]):
        raise LandscapeError("expected prompts of one length in all runs. Draw one figure for each.")
    groups, x = by_arch(shown), shown[0]["examples"].values.astype(float)
    figure, axes = grid(1, 1, height=3.0)
    ax = axes[0][0]
    for arch, group in groups.items():
        look = arch_style(arch)
        seed_curves(
            ax, [x] * len(group), [ds["error"].values for ds in group],
            errors=[ds["error_stderr"].values for ds in group],
            color=look.color, marker=look.marker, linestyle=look.linestyle,
        )  # fmt: skip
    marks: list[Line2D | Patch] = [*arch_handles(groups), *band_marks(groups.values(), "standard error")]
    for name, (label, line) in _REFERENCES.items():
        known = [ds[name].values for ds in whole if name in ds]
        if known and np.isfinite(mean := np.mean(known, axis=0)).any():
            ax.plot(x, np.maximum(mean, 0), color=NEUTRAL, linestyle=line, linewidth=1.0, zorder=2.5)
            marks.append(Line2D([], [], color=NEUTRAL, linestyle=line, linewidth=1.0, label=label))
    steps = sorted({int(ds["step"]) for ds in shown})
    top = max(1.0, *(float(np.nanmax(ds["error"].values)) for ds in shown))
    ax.set_ylim(-0.03 * top, 1.15 * top)  # least squares near as many examples as dimensions is far above
    ax.set_title(say_step(steps[0]) if len(steps) == 1 else "last step of each run")
    ax.set_xlabel("examples before the question")
    ax.set_ylabel("squared error\n(1 = variance of the functions)" if _plain(shown) else units(shown, "error"))
    figure.legend(handles=marks, loc="outside upper center", ncols=1)
    return figure


def _plain(datasets: Sequence[xr.Dataset]) -> bool:
    return all(ds["error"].attrs.get("units", "squared error") == "squared error" for ds in datasets)


def _at_step(ds: xr.Dataset, step: int | None) -> xr.Dataset:
    if step is None:
        return ds.isel(step=-1)
    if step not in (steps := ds["step"].values):
        raise LandscapeError(
            f"expected step {step} in run {ds.attrs['run']!r}, found {', '.join(map(str, steps))}. Choose one of these."
        )
    return ds.sel(step=step)
