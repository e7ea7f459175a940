"""The same plane laid through checkpoint after checkpoint: small multiples over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import AbsentError, LandscapeError
from landscape.figures.contours import POINT, Levels, check_levels, draw_path, plane_handles
from landscape.figures.datasets import loss_unit, require_all
from landscape.figures.style import PAGE, sheet, styled

__all__ = ["checked_frames", "draw_frame", "frame_handles", "frames"]

_NEEDED = {
    "frame_loss": ("frame_step", "alpha", "beta"),
    "frame_step": ("frame_step",),
    "alpha": ("alpha",),
    "beta": ("beta",),
    "gram": ("direction", "direction_2"),
}


@styled
def frames(
    datasets: Sequence[xr.Dataset], *, most: int = 4, levels: Literal["auto", "linear", "log"] = "auto"
) -> Figure:
    r"""The loss on one plane moved from checkpoint to checkpoint, one row per run: each panel has its checkpoint at 0.

    Directions, axes and colours are the same in all panels of a row, and colours in all rows. The path of training is
    drawn about each checkpoint, as far as it lies in the panel. Where there are more checkpoints than panels, some are
    shown, evenly over those that were asked.

    Args:
        datasets: one ``surface`` dataset with `frame_loss` per run.
        most: panels in a row.
        levels: ``"auto"`` takes ``"log"`` if the loss rises far above the floor of a slice, or much of it is flat.

    Raises:
        LandscapeError: if there is no run, a dataset has no frames, or settings are out of range.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = frames([sweep("surface", run, seed=0, points=5, frames=[0, 4])])
        >>> [ax.get_title(loc="left") for ax in figure.axes[:2]]
        ['a\nstep 0', 'step 4']
    """
    slices = checked_frames(datasets, levels)
    if most < 1:
        raise LandscapeError(f"expected most >= 1 panels, found {most}.")
    shown = [np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)) for n in _counts(slices)]
    scale = Levels.of(
        [ds["frame_loss"].values[i].astype(float) for ds, some in zip(slices, shown, strict=True) for i in some],
        levels,
        loss_unit(slices),
    )
    columns = max(map(len, shown))
    figure = sheet(PAGE, 1.9 * len(slices) + 0.3)
    axes = figure.subplots(len(slices), columns, squeeze=False)
    for row, ds, whole, some in zip(axes, slices, datasets, shown, strict=True):
        for ax, i in zip(row, some, strict=False):
            contours = draw_frame(ax, ds, whole, int(i), scale)
            ax.set_title(("" if i != some[0] else f"{ds.attrs['run']}\n") + f"step {int(ds['frame_step'][i])}")
            ax.set_xlabel("α")
            ax.label_outer()
        row[0].set_ylabel("β")
        for ax in row[len(some) :]:
            ax.remove()
    figure.colorbar(contours, ax=axes, label=scale.label, ticks=scale.ticks, format="%g", pad=0.02, aspect=18)
    figure.legend(handles=frame_handles(datasets), loc="outside upper center", ncols=4)
    return figure


def checked_frames(datasets: Sequence[xr.Dataset], levels: str) -> list[xr.Dataset]:
    """What is drawn of planes through several checkpoints.

    Raises:
        AbsentError: for a dataset of one plane, or of a line.
        LandscapeError: if there is none, one has no frames, or `levels` are unknown.
    """
    if any("frame_loss" not in ds and ds.attrs.get("probe") == "surface" for ds in datasets):
        raise AbsentError("expected planes through several checkpoints, found one. Ask for more: surface.frames=all.")
    slices = require_all(datasets, _NEEDED)
    check_levels(levels)
    if any(min(ds.sizes["alpha"], ds.sizes["beta"]) < 2 for ds in slices):
        raise AbsentError("expected planes, found lines of points. Draw them with the figure `cuts`.")
    return slices


def frame_handles(datasets: Sequence[xr.Dataset]) -> list[Line2D | Patch]:
    """What the marks on frames mean."""
    holes = any(not np.isfinite(ds["frame_loss"].values).all() for ds in datasets)
    walked = any(ds.sizes.get("path_step", 0) for ds in datasets)
    marks = [m for m in plane_handles(holes=holes, walked=walked) if "step of" not in str(m.get_label())]
    marks[-1 - holes].set_label("the checkpoint")
    return marks


def _counts(slices: Sequence[xr.Dataset]) -> list[int]:
    counts = [ds.sizes["frame_step"] for ds in slices]
    if not all(counts):
        raise LandscapeError("expected at least one frame in every dataset, found one without. Ask for surface.frames.")
    return counts


def draw_frame(ax: Axes, ds: xr.Dataset, whole: xr.Dataset, i: int, scale: Levels) -> Any:
    """The i-th frame of a dataset, with the path about its checkpoint where `whole` has one."""
    one = ds.isel(frame_step=i)
    contours = scale.draw(ax, xr.Dataset({"loss": one["frame_loss"]}, {"alpha": ds["alpha"], "beta": ds["beta"]}))
    limits = ax.get_xlim(), ax.get_ylim()
    if "path_alpha" in whole and int(one["frame_step"]) in whole["path_step"].values:
        here = whole.sel(path_step=int(one["frame_step"]))
        moved = {f"path_{n}": whole[f"path_{n}"] - here[f"path_{n}"] for n in ("alpha", "beta")}
        draw_path(ax, xr.Dataset(moved), ends=False)
    ax.plot(0, 0, marker="P", **POINT)
    ax.set_xlim(limits[0])
    ax.set_ylim(limits[1])
    return contours
