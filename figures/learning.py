"""Learning curves: accuracy and loss of each family of samples, against the best that is possible."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.errors import LandscapeError
from landscape.figures.choices import families_of
from landscape.figures.datasets import by_arch, loss_unit, require, require_all
from landscape.figures.marks import Scale, arch_curves, step_axis
from landscape.figures.style import NEUTRAL, grid, styled

__all__ = ["learning"]

_X = {
    "step": "training step",
    "flops": "training compute (FLOP)",
    "seconds": "training time (s)",
    "tokens": "training tokens",
}
_ROWS = {
    "accuracy": "bayes_accuracy",
    "loss": "bayes_loss",
}
_PANELS = 6
"""Of recorded metrics."""
_CURVES = ("step", "split", "family")


@styled
def learning(
    datasets: Sequence[xr.Dataset],
    *,
    x: Literal["step", "flops", "seconds", "tokens"] = "step",
    scale: Scale = "linear",
    split: str = "test",
) -> Figure:
    """Accuracy (top) and loss (bottom) during training, one column per family, one line per architecture.

    Lines are means over seeds in a band from minimum to maximum; where the seeds' x differ (seconds always do), each
    seed is a thin line. The dashed line is the Bayes-optimal value, where it is known. Losses that differ by more than
    a factor of 20 are drawn on a logarithmic axis. Of recorded runs every metric has a panel, up to six.

    Args:
        datasets: one ``metrics`` dataset per run, all of one task.
        x: what training is measured by.
        scale: ``"symlog"`` shows early training; its linear part ends at the smallest positive x.
        split: the samples to judge by.

    Raises:
        LandscapeError: if there is no run, or a dataset lacks what is drawn.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     figure = learning([train(RunConfig.make(**small), folder).metrics])
        >>> [ax.get_title(loc="left") for ax in figure.axes][:2]
        ['simple family', 'complex family']
    """
    if x not in _X:
        raise LandscapeError(f"expected x to be one of {', '.join(_X)}, found {x!r}. Choose one of them.")
    if datasets and all(ds.attrs.get("probe") == "metrics" and "split" not in ds.dims for ds in datasets):
        return _recorded(datasets, scale)
    ceilings = {"bayes_loss": ("family",), "bayes_accuracy": ("family",)}
    datasets = require_all(datasets, {"accuracy": _CURVES, "loss": _CURVES, x: ("step",), **ceilings})
    groups = by_arch(datasets)
    families = families_of(datasets, split)
    log = {name: name == "loss" and _wide(datasets, split) for name in _ROWS}
    figure, axes = grid(2, len(families), height=1.9, sharex=True, sharey="row")
    for column, family in enumerate(families):
        for row, (name, ceiling) in enumerate(_ROWS.items()):
            ax = axes[row][column]
            for arch, group in groups.items():
                with_family = [d.sel(split=split, family=family) for d in group if family in d["family"]]
                _draw_arch(ax, arch, with_family, name, x)
            best = [d[ceiling].sel(family=family).item() for d in datasets if family in d["family"]]
            _draw_ceiling(ax, [v for v in best if v > 0 or not log[name]])
            if log[name]:
                ax.set_yscale("log")
            if column == 0:
                ax.set_ylabel(_label(datasets[0], name) + ("\n(log scale)" if log[name] else ""))
        axes[0][column].set_title("all samples" if family == "all" else f"{family} family")
        values = np.unique(np.concatenate([d[x].values.astype(float) for d in datasets]))
        label = step_axis(axes[1][column], values, scale=scale, label=_X[x], ticks=False)
        axes[1][column].set_xlabel(label)
    handles = {label: h for ax in axes[0] + axes[1] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=1 if len(families) == 1 else 3)
    return figure


def _recorded(datasets: Sequence[xr.Dataset], scale: Scale) -> Figure:
    """What was recorded, a panel for each name, of runs of anyone's training: the loss first, at most six."""
    every = dict.fromkeys(str(name) for ds in datasets for name in ds.data_vars if _is_curve(ds[name]))
    names = sorted(every, key=lambda name: (name != "loss", "loss" not in name))[:_PANELS]
    if not names:
        raise LandscapeError(
            "expected metrics at several steps, found none. Give them to the recorder: rec.save(step, loss=...)."
        )
    groups = by_arch([require(ds, {"step": ("step",), **{n: ("step",) for n in names if n in ds}}) for ds in datasets])
    columns = min(3, len(names))
    figure, axes = grid(-(-len(names) // columns), columns, height=2.2)
    panels = [ax for row in axes for ax in row]
    steps = np.unique(np.concatenate([d["step"].values for d in datasets])).astype(float)
    for ax, name in zip(panels, names, strict=False):
        for arch, group in groups.items():
            # A metric that was not given at a step leaves no hole: it is drawn where it was given.
            _draw_arch(ax, arch, [d[[name]].dropna("step") for d in group if name in d], name, "step")
        ax.set_title(textwrap.fill(name, 28))
        ax.set_ylabel(loss_unit(datasets) if name == "loss" else "as recorded")
        values = np.concatenate([d[name].values for g in groups.values() for d in g if name in d])
        finite = values[np.isfinite(values)]
        if len(finite) and 0 < 20 * finite.min() < finite.max():
            ax.set_yscale("log")
            ax.set_ylabel(f"{ax.get_ylabel()}\n(log scale)")
        ax.set_xlabel(step_axis(ax, steps, scale=scale, gap=0.2))
    for ax in panels[len(names) :]:
        ax.remove()
    handles = {label: h for ax in panels for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)
    return figure


def _is_curve(values: xr.DataArray) -> bool:
    """Whether there is something to see: more than one value, and not the step in other units, such as epochs."""
    there = values.dropna("step")
    if there.sizes["step"] < 2:
        return False
    step, y = there["step"].values.astype(float), there.values.astype(float)
    return not np.allclose(y * step[-1], step * y[-1], rtol=1e-3) or not step[-1] * y[-1]


def _wide(datasets: Sequence[xr.Dataset], split: str) -> bool:
    """Whether the losses span more than a linear axis can show."""
    values = np.concatenate([d["loss"].sel(split=split).values.ravel() for d in datasets])
    values = values[np.isfinite(values)]
    return bool(len(values)) and 0 < 20 * values.min() < values.max()


def _label(ds: xr.Dataset, name: str) -> str:
    """Of the y axis; what counts as accurate is the task's."""
    if name == "loss":
        return f"loss ({loss_unit([ds])})"
    said = ds[name].attrs.get("long_name", "share of scored tokens predicted right")
    return "accuracy\n" + textwrap.fill(f"({said})", 26)


def _draw_arch(ax: Axes, arch: str, group: Sequence[xr.Dataset], name: str, x: str) -> None:
    """The curves of one architecture in one panel."""
    if not group:
        return
    arch_curves(ax, arch, group, name, x)


def _draw_ceiling(ax: Axes, values: Sequence[float]) -> None:
    """A dashed line at each different known value; seeds with their own data have their own."""
    for i, value in enumerate(sorted({v for v in values if np.isfinite(v)})):
        label = None if i else "Bayes optimal"
        ax.axhline(value, color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, zorder=1.5, label=label)
