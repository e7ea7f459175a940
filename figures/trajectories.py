"""The loss of every sample during training, from the simplest sample to the most complex."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landscape.errors import LandscapeError
from landscape.figures.datasets import Array, by_arch, loss_unit, require_all
from landscape.figures.marks import Scale, edges, one_colour, spread_ticks, step_axis
from landscape.figures.style import MAP, family_color, grid, missing, no_value, styled

__all__ = ["colours_of", "draw_families", "draw_map", "families_among", "trajectories", "with_labels"]

_LABELS = {"loss": "loss of the sample", "correct": "correct"}


@styled
def trajectories(datasets: Sequence[xr.Dataset], *, variable: str = "loss", scale: Scale = "symlog") -> Figure:
    """A map of the loss of each sample (rows) at each step (columns), one per architecture.

    Rows are in the order of information content; where the task knows none, by family and mean over the steps.
    Of several seeds the first is shown; the title names its run. All maps share one colour scale. Each step is drawn
    from half-way after the step before to half-way to the next. Hatching shows through where there is no value.

    Args:
        datasets: one ``samples`` dataset per run, all of one task.
        variable: ``"loss"`` or ``"correct"``.
        scale: of the step axis; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if there is no run, or a dataset lacks what is drawn.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0, probe="samples")
        >>> coords = {"step": [0, 10], "information_content": ("sample", [2.0, 1.0]), "family": ("sample", ["a", "b"])}
        >>> ds = xr.Dataset({"loss": (("step", "sample"), [[3.0, 3.0], [2.5, 1.0]])}, coords, attrs)
        >>> trajectories([ds]).axes[0].collections[0].get_array().tolist()  # row 0 is sample 1, the simpler one
        [[3.0, 1.0], [3.0, 2.5]]
    """
    if variable not in _LABELS:
        raise LandscapeError(f"expected variable='loss' or 'correct', found {variable!r}. Use one of the two.")
    on_sample = {"information_content": ("sample",), "family": ("sample",)}
    datasets = [with_labels(d) for d in datasets]
    groups = by_arch(require_all(datasets, {variable: ("step", "sample"), "step": ("step",), **on_sample}))
    shown = [group[0] for group in groups.values()]
    families = families_among(shown)
    values = np.concatenate([d[variable].values.ravel().astype(float) for d in shown])
    holes = not np.isfinite(values).all()
    values = values[np.isfinite(values)]
    norm = colours_of(shown, variable)
    figure, axes = grid(1, len(shown), height=3.2)
    for ax, ds, (arch, group) in zip(axes[0], shown, groups.items(), strict=True):
        ordered, mesh = draw_map(ax, ds, variable, norm, scale)
        if families:
            draw_families(ax, ordered, families)
        first = f" (first of {len(group)} seeds)" if len(group) > 1 else ""
        ax.set_title(f"{arch}{first}" + (f"\nrun {ds.attrs['run']}" if ds.attrs["run"] != arch else ""))
    by = "information content\n(bits per token; one row per sample)" if any(map(_known, shown)) else "family and mean"
    by = by if families or any(map(_known, shown)) else f"mean {variable}"
    axes[0][0].set_ylabel(f"sample, by {by}")
    label = _label(shown[0], variable) + (" (log scale)" if isinstance(norm, LogNorm) else "")
    below = isinstance(norm, LogNorm) and bool((values < norm.vmin).any())
    extend = "min" if below else "neither"
    figure.colorbar(mesh, ax=axes[0], label=label, pad=0.02, aspect=30, extend=extend, format="%g")
    handles = [Patch(facecolor=color, label=f"{name} family") for name, color in families]
    figure.legend(
        handles=[*handles, *([missing()] if holes else [])], loc="outside upper center", ncols=3, handlelength=1.2
    )
    return figure


def with_labels(ds: xr.Dataset) -> xr.Dataset:
    """Samples of which nothing is known have no information content and one family without a name."""
    if "sample" not in ds.dims:
        return ds
    n = ds.sizes["sample"]
    fill = {"information_content": ("sample", np.full(n, np.nan)), "family": ("sample", np.full(n, "", dtype="<U1"))}
    return ds.assign_coords({k: v for k, v in fill.items() if k not in ds.variables})


def _label(ds: xr.Dataset, variable: str) -> str:
    """Of the colours; what counts as correct is the task's."""
    said = ds[variable].attrs.get("long_name", "share of scored tokens predicted right")
    return (
        f"{_LABELS[variable]} ({loss_unit([ds])})"
        if variable == "loss"
        else textwrap.fill(f"{_LABELS[variable]} ({said})", 44)
    )


def _known(ds: xr.Dataset) -> bool:
    return bool(np.isfinite(ds["information_content"].values).any())


def families_among(shown: Sequence[xr.Dataset]) -> list[tuple[str, str]]:
    """The families of samples and their colours."""
    names = [f for f in dict.fromkeys(str(f) for d in shown for f in d["family"].values) if f]
    return [(name, family_color(i)) for i, name in enumerate(names)]


def colours_of(shown: Sequence[xr.Dataset], variable: str) -> Normalize:
    """Colours of all values; logarithmic, at most four decades, where many of them would be one colour."""
    values = np.concatenate([d[variable].values.ravel().astype(float) for d in shown])
    values = values[np.isfinite(values)]
    if not len(values):
        return Normalize(0, 1)
    low, high = float(values.min()), float(values.max())
    if low > 0 and one_colour(values, high):
        return LogNorm(max(low, 1e-4 * high), high)
    return Normalize(low, high)


def _ordered(ds: xr.Dataset, variable: str) -> xr.Dataset:
    """Samples by information content, ties and unknown ones (last) in the order of the dataset."""
    if _known(ds):
        return ds.isel(sample=np.argsort(ds["information_content"].values, kind="stable"))
    family = np.unique(ds["family"].values.astype(str), return_inverse=True)[1]
    return ds.isel(sample=np.lexsort((ds[variable].mean("step").values, family)))


def draw_map(ax: Axes, ds: xr.Dataset, variable: str, norm: Normalize, scale: Scale) -> tuple[xr.Dataset, QuadMesh]:
    """The map of one run, and its samples in the order of the rows."""
    ds = _ordered(ds, variable)
    steps = ds["step"].values.astype(float)
    label = step_axis(ax, steps, scale=scale)
    no_value(ax)
    y = np.arange(ds.sizes["sample"] + 1) - 0.5
    values = np.ma.masked_invalid(ds[variable].values.astype(float).T)
    mesh = ax.pcolormesh(edges(ax, steps), y, values, norm=norm, cmap=MAP, rasterized=True)
    content: Array = ds["information_content"].values
    at = spread_ticks(np.arange(len(content), dtype=float), gap=0.18) if len(content) > 1 else [0]
    if _known(ds):
        ax.set_yticks(at, [f"{content[i]:.2f}" if np.isfinite(content[i]) else "unknown" for i in at])
    else:
        ax.set_yticks([])
    ax.set_xlabel(label)
    return ds, mesh


def draw_families(ax: Axes, ordered: xr.Dataset, families: Sequence[tuple[str, str]]) -> None:
    """A strip at the right of a map that tells the family of each sample."""
    strip = ax.inset_axes((1.015, 0, 0.03, 1))
    names, colors = [name for name, _ in families], ListedColormap([color for _, color in families])
    index = np.array([[names.index(str(f))] for f in ordered["family"].values])
    strip.pcolormesh(
        [0, 1], np.arange(len(index) + 1) - 0.5, index, cmap=colors, vmin=-0.5, vmax=len(families) - 0.5,
        rasterized=True,
    )  # fmt: skip
    strip.set_axis_off()
