"""The loss on a plane through a checkpoint, and the training path projected on that plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from landscape.errors import AbsentError
from landscape.figures.contours import (
    SLICE,
    Levels,
    check_levels,
    direction_name,
    draw_path,
    draw_walk,
    measured,
    plane_handles,
)
from landscape.figures.datasets import NO_STEP, Array, loss_unit, require_all, say_step
from landscape.figures.style import grid, styled

__all__ = ["surface"]

_NEEDED = {
    **SLICE,
    "path_alpha": ("path_step",),
    "path_beta": ("path_step",),
    "path_distance": ("path_step",),
    "path_step": ("path_step",),
}


@styled
def surface(datasets: Sequence[xr.Dataset], *, levels: Literal["auto", "linear", "log"] = "auto") -> Figure:
    """Filled contours of the loss over alpha (x) and beta (y), one panel per run, with the path of training on top.

    Colours are shared by all panels. If the loss rises far, they show the loss above the minimum of the slice, with
    levels spaced logarithmically; the colour bar says which. Hatched parts of the plane have no value. The title gives
    the largest distance of the path from the plane, and the cosine of the two directions if they are not orthogonal.
    Single updates that were replayed, and the switch of SHIFT, are marked. Of a refined grid the points that were
    evaluated are joined by triangles.

    Args:
        datasets: one ``surface`` dataset per run.
        levels: ``"auto"`` takes ``"log"`` if the loss rises far above the floor of a slice, or much of it is flat.

    Raises:
        LandscapeError: if there is no run, or a dataset lacks what is drawn.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = surface([sweep("surface", run, seed=0)])
        >>> figure.axes[0].get_title(loc="left")[:9]
        'a, step 4'
    """
    extra = [d["explained_variance"].values if "explained_variance" in d else None for d in datasets]
    slices = require_all([_with_path(d) for d in datasets], _NEEDED)
    if any(min(d.sizes["alpha"], d.sizes["beta"]) < 2 for d in slices):
        raise AbsentError("expected a plane, found a line of points. Draw it with the figure `cuts`.")
    check_levels(levels)
    scale = Levels.of([d["loss"].values.astype(float) for d in slices], levels, loss_unit(slices))
    columns = min(len(slices), 2)
    figure, axes = grid(-(-len(slices) // columns), columns, height=3.2)
    panels = [ax for row in axes for ax in row]
    for ax in panels[len(slices) :]:
        ax.remove()
    panels = panels[: len(slices)]
    marks: dict[str, Any] = {}
    for ax, ds, variance, whole in zip(panels, slices, extra, datasets, strict=True):
        contours = scale.draw(ax, whole)
        draw_path(ax, ds)
        marks |= {str(mark.get_label()): mark for mark in draw_walk(ax, whole)}
        ax.set_title(_title(ds))
        ax.set_xlabel(_axis_label(ds, 0, variance))
        ax.set_ylabel(_axis_label(ds, 1, variance))
    figure.colorbar(contours, ax=panels, label=scale.label, ticks=scale.ticks, format="%g", pad=0.02, aspect=30)
    holes = any(
        not np.isfinite(d["loss"].values[known]).all() for d, known in zip(slices, map(measured, datasets), strict=True)
    )
    holes |= any(_leaves(d) for d in slices)
    walked = any(d.sizes["path_step"] for d in slices)
    figure.legend(
        handles=[*plane_handles(holes=holes, walked=walked), *marks.values()],
        loc="outside upper center",
        ncols=2 if len(slices) == 1 else 4,
    )
    return figure


def _leaves(ds: xr.Dataset) -> bool:
    """Whether the path leaves the grid, beyond which there is no value."""
    pairs = [(ds[f"path_{n}"].values, ds[n].values) for n in ("alpha", "beta")]
    return any(len(x) and (x.min() < axis.min() or x.max() > axis.max()) for x, axis in pairs)


def _with_path(ds: xr.Dataset) -> xr.Dataset:
    """A slice that was made without a path has one of no points."""
    if "path_step" in ds.variables:
        return ds
    names = ("path_alpha", "path_beta", "path_distance", "path_step")
    return ds.assign({name: ("path_step", np.zeros(0)) for name in names})


def _title(ds: xr.Dataset) -> str:
    """Run and step of the centre; distance of the path from the plane; cosine of directions that are not orthogonal."""
    gram = ds["gram"].values
    cosine = gram[0, 1] / np.sqrt(gram[0, 0] * gram[1, 1])
    lines = [f"{ds.attrs['run']}{say_step(ds.attrs.get('step', NO_STEP), before=', ')}"]
    if len(distance := ds["path_distance"].values):
        lines.append(f"path up to {distance.max():.3g} from the plane")
    if not abs(cosine) < 1e-3:
        lines.append(f"directions not orthogonal: cosine {cosine:.2g}")
    return "\n".join(lines)


def _axis_label(ds: xr.Dataset, i: int, variance: Array | None) -> str:
    """Name, explained variance and unit of a direction."""
    kind = str(ds.attrs.get("directions", "given"))
    name = direction_name(kind, i)
    known = variance is not None and np.isfinite(variance[i])
    share = f"\n{variance[i]:.0%} of squared displacement" if variance is not None and known else ""
    length = float(np.sqrt(ds["gram"].values[i, i]))
    unit = "parameter distance" if abs(length - 1) < 1e-6 else f"in units of its length {length:.3g}"
    return f"{name} ({unit}){share}"
