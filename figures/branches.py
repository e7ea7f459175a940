"""River and valley loss along training, from branches whose learning rate decays to zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.errors import LandscapeError
from landscape.figures.datasets import by_arch, loss_unit, require_all
from landscape.figures.marks import Scale, arch_curves, step_axis
from landscape.figures.style import NEUTRAL, arch_style, grid, styled

__all__ = ["branches"]

_PANELS = {
    "loss": "loss",
    "river_loss": "river loss:\nwhat the decay leaves",
    "valley_loss": "valley loss:\nwhat the decay sheds",
}


@styled
def branches(datasets: Sequence[xr.Dataset], *, scale: Scale = "linear") -> Figure:
    """Loss, river loss and valley loss against the step at which a branch left its run, one line per architecture.

    The first two panels share their axis, so the third is the distance between their curves. Lines are means over
    seeds in a band from minimum to maximum; where the seeds branched at different steps, each is a thin line. A branch
    that diverged is a gap, marked by a cross on the lower border.

    Args:
        datasets: one decay table (`landscape.studies.decay.decay_table`) per origin, all of one task and decay length.
        scale: of the steps; ``"symlog"`` shows early training.

    Raises:
        LandscapeError: if there is no table, one lacks what is drawn, or their decays or losses differ in kind.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0, decay_steps=50, split="probe", family="all")
        >>> columns = {"loss": [2.0, 1.5], "river_loss": [1.9, 1.3], "valley_loss": [0.1, 0.2], "complete": [True] * 2}
        >>> ds = xr.Dataset({k: ("step", v) for k, v in columns.items()}, {"step": [10, 100]}, attrs)
        >>> [ax.get_title(loc="left").split(":")[0] for ax in branches([ds]).axes]
        ['loss', 'river loss', 'valley loss']
    """
    kinds = {tuple(str(ds.attrs.get(k)) for k in ("decay_steps", "split", "family")) for ds in datasets}
    datasets = require_all(datasets, dict.fromkeys((*_PANELS, "complete", "step"), ("step",)))
    if len(kinds) > 1:
        found = "; ".join(f"{n} steps, {split} split, {family}" for n, split, family in sorted(kinds))
        raise LandscapeError(f"expected decays of one length, split and family, found {found}. Draw a figure for each.")
    ((length, split, family),) = kinds
    groups = by_arch(datasets)
    figure, axes = grid(1, len(_PANELS), height=2.7, sharex=True)
    axes[0][1].sharey(axes[0][0])
    every = np.unique(np.concatenate([d["step"].values.astype(float) for d in datasets]))
    for ax, (name, title) in zip(axes[0], _PANELS.items(), strict=True):
        for arch, group in groups.items():
            _draw(ax, arch, group, name)
        ax.set_title(title)
        ax.set_xlabel(step_axis(ax, every, scale=scale, label="step of the branch"))
    samples = f"{split} split" if family == "all" else f"{split} split, {family} family"
    axes[0][0].set_ylabel(f"loss ({loss_unit(datasets)})\n{samples}")
    axes[0][2].set_ylabel(f"loss shed ({loss_unit(datasets)})")
    axes[0][2].axhline(0, color=NEUTRAL, linewidth=0.5, zorder=1)
    labels = {label: h for ax in axes[0] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        labels.values(), labels.keys(), loc="outside upper center", ncols=3, title=f"decay over {length} steps"
    )
    return figure


def _draw(ax: Axes, arch: str, group: Sequence[xr.Dataset], name: str) -> None:
    """The curves of one architecture in one panel, and the branches that have no value."""
    arch_curves(ax, arch, group, name)
    xs = [d["step"].values.astype(float) for d in group]
    lost = np.concatenate([x[~d["complete"].values.astype(bool)] for x, d in zip(xs, group, strict=True)])
    if name != "loss" and len(lost):
        across = ax.get_xaxis_transform()
        ax.plot(
            lost, np.full(len(lost), 0.02), transform=across, marker="x", linestyle="none", clip_on=False,
            color=arch_style(arch).color, label=f"{arch}: branch diverged",
        )  # fmt: skip
