"""The paper's Figure 11: what training takes, beside what it reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import AbsentError
from landscape.figures.choices import chosen
from landscape.figures.datasets import by_arch, require_all, titled
from landscape.figures.style import SMALL, arch_style, grid, styled

__all__ = ["fig11"]

_CURVES = ("step", "split", "family")
_NEEDED = {"accuracy": _CURVES, "seconds": ("step",), "flops": ("step",), "step": ("step",)}
_PANELS = {
    "seconds": "training time (s)",
    "flops": "training compute (FLOP)",
    "accuracy": "accuracy at the last step",
}


@styled
def fig11(answers: Mapping[str, Sequence[xr.Dataset]], *, split: str = "test", family: str = "all") -> Figure:
    """Time, compute and accuracy at the last step, one column of points per architecture.

    Small points are seeds, the large one is their mean, the bar reaches from the smallest to the largest. The number
    above is the mean of the ratio to the architecture named on the axis, seed by seed where the seeds are the same; a
    dash where there is none.

    Args:
        answers: ``metrics`` of every run, all of one task.
        split: the samples to judge by.
        family: "all", or one family of samples.

    Raises:
        AbsentError: if there are fewer than two architectures, or no time was recorded.
        LandscapeError: if tasks are mixed, or there is no such split or family.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     runs = [train(RunConfig.make(arch=a, **small), f"{folder}/{a}") for a in ("single", "looped")]
        ...     figure = fig11({"metrics": [run.metrics for run in runs]})
        >>> [text.get_text() for text in figure.axes[1].texts]
        ['0.405×', '1×']
    """
    metrics = [ds for ds in answers["metrics"] if {"seconds", "flops", "family"} <= set(map(str, ds.variables))]
    last = [chosen(ds.isel(step=-1), split, family) for ds in require_all(metrics, _NEEDED)] if metrics else []
    groups = by_arch(last)
    if len(groups) < 2:
        raise AbsentError("expected the metrics of two architectures or more, with their times, found fewer.")
    figure, axes = grid(1, len(_PANELS), height=2.6)
    against = "looped" if "looped" in groups else next(iter(groups))
    for ax, (name, label) in zip(axes[0], _PANELS.items(), strict=True):
        for i, (arch, group) in enumerate(groups.items()):
            _column(ax, i, arch, [float(ds[name]) for ds in group])
            top = max(float(ds[name]) for ds in group)
            ratio = _ratio(group, groups[against], name)
            text = f"{ratio:.3g}×" if np.isfinite(ratio) else "–"
            look: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": SMALL, "textcoords": "offset points"}
            ax.annotate(text, (i, top), (0, 4), **look)
        ax.set_xticks(range(len(groups)), list(groups))
        ax.set_xlim(-0.5, len(groups) - 0.5)
        ax.set_ylabel(label)
        ax.set_ylim(0, 1.15 * max(float(ds[name]) for group in groups.values() for ds in group) or None)
        ax.set_xlabel(f"(× {against})")
    samples = f"{split} split, " + ("all samples" if family == "all" else f"{family} family")
    axes[0][2].set_xlabel(f"(× {against}; {samples})")
    figure.legend(handles=_legend(groups), loc="outside upper center", ncols=4)
    return figure


def _column(ax: Axes, x: float, arch: str, values: Sequence[float]) -> None:
    """The seeds of one architecture, their mean and their range."""
    look = arch_style(arch)
    ax.vlines(x, min(values), max(values), color=look.color, linewidth=1.0)
    if len(values) > 1:
        spread = np.linspace(-0.18, 0.18, len(values))
        ax.plot(x + spread, values, marker=look.marker, color=look.color, linestyle="none", markersize=2.5, alpha=0.6)
    ax.plot([x], [np.mean(values)], marker=look.marker, color=look.color, linestyle="none", markersize=5.5)


def _ratio(group: Sequence[xr.Dataset], other: Sequence[xr.Dataset], name: str) -> float:
    """Mean ratio over the seeds that both have; of the means where they share none."""
    mine, theirs = (
        {int(ds.attrs["run_seed"]): float(ds[name]) for ds in g if "run_seed" in ds.attrs} for g in (group, other)
    )
    shared = sorted(mine.keys() & theirs.keys())
    with np.errstate(divide="ignore", invalid="ignore"):  # of nothing there is no ratio
        if shared:
            return float(np.mean([np.float64(mine[s]) / theirs[s] for s in shared]))
        return float(np.mean([ds[name] for ds in group]) / np.mean([ds[name] for ds in other]))


def _legend(groups: Mapping[str, Sequence[xr.Dataset]]) -> list[Line2D]:
    out = []
    for arch, group in groups.items():
        look: dict[str, Any] = {"color": arch_style(arch).color, "marker": arch_style(arch).marker}
        out.append(Line2D([], [], linestyle="none", label=titled(arch, group), **look))
    return out
