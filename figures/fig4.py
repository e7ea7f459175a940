"""The paper's Figure 4: SHIFT on the toy, against the architectures it starts and ends as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import AbsentError
from landscape.figures.choices import families_of
from landscape.figures.datasets import by_arch, require_all, same
from landscape.figures.marks import arch_curves, step_axis
from landscape.figures.style import NEUTRAL, arch_style, grid, styled

__all__ = ["fig4"]

_CURVES = ("step", "split", "family")
_X = {"step": "training step", "flops": "training compute (FLOP)"}


@styled
def fig4(answers: Mapping[str, Sequence[xr.Dataset]], *, split: str = "test") -> Figure:
    """Accuracy against the step (top) and the compute of training (bottom), one column per family of samples.

    Lines are means over seeds in a band from minimum to maximum, at the steps at which all seeds were evaluated. Runs
    that shift were evaluated more often just after their switch, and switched at their own steps: thin lines show their
    seeds one by one. Vertical lines are the switches from one pass to T, one per seed. Dashed is the best that is
    possible.

    Args:
        answers: ``metrics`` of every run and ``shift`` records, all of one task.
        split: the samples to judge by.

    Raises:
        AbsentError: if no run shifts.
        LandscapeError: if tasks are mixed, or runs lack what is drawn.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, plot, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> config = RunConfig.make(arch="shift", shift={"criterion": "fixed", "at": 2, "check_every": 1}, **small)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     figure = plot(train(config, folder), "fig4")
        >>> figure.axes[0].get_title(loc="left")
        'simple family'
    """
    metrics = [ds for ds in answers["metrics"] if "family" in ds.dims]
    if not any(ds.attrs["arch"] == "shift" for ds in answers["shift"]):
        raise AbsentError("expected at least one run that shifts, found none. Train one with `--arch shift`.")
    metrics = require_all(
        metrics, {"accuracy": _CURVES, "flops": ("step",), "bayes_accuracy": ("family",), "step": ("step",)}
    )
    groups = by_arch(metrics)
    switches = {str(ds.attrs["run"]): int(ds["switch_step"]) for ds in answers["shift"]}
    families = families_of(metrics, split)
    thin = False
    figure, axes = grid(2, len(families), height=2.0, sharex="row", sharey="row")
    for column, family in enumerate(families):
        for row, x in enumerate(_X):
            ax = axes[row][column]
            for arch, group in groups.items():
                thin |= _curves(ax, arch, [ds.sel(split=split, family=family) for ds in group], x)
            _switches(ax, groups, switches, x)
            for best in sorted({float(ds["bayes_accuracy"].sel(family=family)) for ds in metrics}):
                if np.isfinite(best):
                    ax.axhline(best, color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, zorder=1.5)
            values = np.unique(np.concatenate([ds[x].values.astype(float) for ds in metrics]))
            ax.set_xlabel(step_axis(ax, values, scale="linear", label=_X[x], ticks=False))
        axes[0][column].set_title("all samples" if family == "all" else f"{family} family")
    for cells in axes:
        cells[0].set_ylabel(f"accuracy\n({split} split)")
    handles = {label: h for ax in axes[0] + axes[1] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    marks: list[Any] = [*handles.values()]
    if any(np.isfinite(ds["bayes_accuracy"].sel(family=families)).any() for ds in metrics):
        marks.append(Line2D([], [], color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, label="Bayes optimal"))
    if thin:
        marks.append(Line2D([], [], color=arch_style("shift").color, linewidth=0.6, label="seeds one by one"))
    if any(step >= 0 for step in switches.values()):
        look = arch_style("shift")
        marks.append(Line2D([], [], color=look.color, linewidth=0.9, label="switch, one line per seed"))
    figure.legend(handles=marks, loc="outside upper center", ncols=1 if len(families) == 1 else 2)
    return figure


def _curves(ax: Axes, arch: str, group: Sequence[xr.Dataset], x: str) -> bool:
    """Mean and range at the steps of all seeds; where seeds have others, each is drawn thin. Whether any is."""
    shared = sorted(set.intersection(*({int(s) for s in ds["step"].values} for ds in group)))
    together = [ds.sel(step=shared) for ds in group]
    alone = any(ds.sizes["step"] > len(shared) for ds in group) or not same([ds[x].values for ds in together])
    if same([ds[x].values for ds in together]):
        arch_curves(ax, arch, together, "accuracy", x)
    for ds in group if alone else []:
        ax.plot(ds[x].values, ds["accuracy"].values, color=arch_style(arch).color, linewidth=0.6, zorder=1.8)
    return alone


def _switches(ax: Axes, groups: Mapping[str, Sequence[xr.Dataset]], switches: Mapping[str, int], x: str) -> None:
    """Where the runs went from one pass to T; between evaluations, the compute is interpolated."""
    for ds in (ds for group in groups.values() for ds in group):
        step = switches.get(str(ds.attrs["run"]), -1)
        if step >= 0:
            at = float(np.interp(step, ds["step"].values, ds[x].values))
            ax.axvline(at, color=arch_style("shift").color, linewidth=0.9, alpha=0.7, zorder=1.2)
