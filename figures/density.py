"""The spectral density of the Hessian at chosen steps, one curve per architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from landscape.errors import LandscapeError
from landscape.figures.datasets import Array, by_arch, over_seeds, require_all, say_step, titled, units
from landscape.figures.marks import error_marks, scale_note, signed_scale
from landscape.figures.style import NEUTRAL, arch_style, grid, styled

__all__ = ["NEEDED", "common_steps", "density", "draw_panels"]

NEEDED = {
    "node": ("step", "vector", "quad"),
    "weight": ("step", "vector", "quad"),
    "n_parameters": (),
    "step": ("step",),
}
_POINTS = 801
_FLOOR = 0.1
"""Lowest number of eigenvalues per decade that is drawn; one eigenvalue alone peaks at 0.4 / width."""


@styled
def density(datasets: Sequence[xr.Dataset], *, steps: Sequence[int] | None = None, width: float = 0.2) -> Figure:
    """Smoothed density of the Hessian eigenvalues on a symlog axis, one panel per step, one curve per architecture.

    Every quadrature node is a Gaussian of standard deviation `width`, in decades of the drawn axis, so the area below
    a curve is a number of eigenvalues. The curve is the mean over seeds of the mean over random vectors; the band
    reaches from the smallest ``mean - standard error over the vectors`` of the seeds to the largest sum. Around zero
    nodes are far apart on this axis: gaps there that close with a larger `width` are the quadrature's, not the
    spectrum's.

    Args:
        datasets: one ``density`` dataset per run, all of one task.
        steps: training steps to draw; None means the first, the middle and the last that all runs have.
        width: of the Gaussian kernel, in decades.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, the runs lack a step in common or one of
            `steps`, or `width` is not positive.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0, probe="density")
        >>> dims = ("step", "vector", "quad")
        >>> ds = xr.Dataset({"node": (dims, [[[-0.1, 9.0]] * 2]), "weight": (dims, [[[0.5, 0.5]] * 2]),
        ...                  "n_parameters": 40}, {"step": [10]}, attrs)
        >>> density([ds]).axes[0].get_title(loc="left")
        'step 10'
    """
    if not width > 0:
        raise LandscapeError(f"expected a kernel width > 0 decades, found {width!r}. Try 0.2.")
    datasets = require_all(datasets, NEEDED)
    groups = by_arch(datasets)
    chosen = common_steps(datasets, steps)
    figure, axes = grid(1, len(chosen), height=2.6 if len(chosen) > 2 else 3.1, sharex=True, sharey=True)
    draw_panels(axes[0], datasets, chosen, width, archs=list(groups))
    figure.legend(handles=_legend(groups), loc="outside upper center", ncols=min(4, len(groups) + 1))
    return figure


def draw_panels(
    axes: Sequence[Axes], datasets: Sequence[xr.Dataset], steps: Sequence[int], width: float, *, archs: Sequence[str]
) -> None:
    """Densities at the steps, a panel each, of some architectures; the shared axes hold those of all datasets."""
    nodes = np.concatenate([d["node"].sel(step=list(steps)).values.ravel() for d in datasets])
    name, linthresh = signed_scale(nodes[np.isfinite(nodes)])
    axes[0].set_xscale(name, **({"linthresh": linthresh, "linscale": 1.0} if name == "symlog" else {}))
    place, x = _decades(axes[0], nodes, name, linthresh, pad=5 * width)
    peak = _FLOOR
    for ax, step in zip(axes, steps, strict=True):
        for arch, group in by_arch(datasets).items():
            curves = [_smooth(d.sel(step=step), place, place(x), width) for d in group]
            mean, low, high = over_seeds([c[0] for c in curves], [c[1] for c in curves])
            look = arch_style(arch)
            top = np.fmax(mean, high)
            peak = max(peak, float(np.max(top, initial=_FLOOR, where=np.isfinite(top))))
            if arch in archs:
                ax.fill_between(x, np.maximum(low, _FLOOR / 10), high, color=look.color, alpha=0.2, linewidth=0)
                ax.plot(x, mean, color=look.color, linestyle=look.linestyle)
        ax.set_title(say_step(step))
        ax.set_xlim(x[0], x[-1])
    _label(axes, name, linthresh, width, units(datasets, "node"))
    axes[0].set_ylim(_FLOOR, 3 * peak)
    axes[0].xaxis.set_major_locator(FixedLocator(_ticks(place, x, linthresh)))
    axes[0].xaxis.set_minor_locator(NullLocator())


def common_steps(datasets: Sequence[xr.Dataset], steps: Sequence[int] | None) -> list[int]:
    """The steps to draw, all of them in every run."""
    common = sorted(set.intersection(*({int(s) for s in d["step"].values} for d in datasets)))
    wanted = list(dict.fromkeys([common[0], common[len(common) // 2], common[-1]] if common else []))
    chosen = wanted if steps is None else [int(s) for s in steps]
    if not chosen or not set(chosen) <= set(common):
        raise LandscapeError(
            f"expected steps that every run has ({', '.join(map(str, common)) or 'there is none'}), found "
            f"{', '.join(map(str, chosen)) or 'none'}. Probe the runs at the same steps."
        )
    return chosen


def _decades(
    ax: Axes, nodes: Array, name: str, linthresh: float, *, pad: float
) -> tuple[Callable[[Array], Array], Array]:
    """The position of a value on the axis in decades, and values to draw at, evenly spaced, `pad` beyond the nodes."""
    transform = ax.xaxis.get_transform()
    unit = linthresh if name == "symlog" else 1.0

    def place(value: Array) -> Array:
        return np.asarray(transform.transform(value), float) / unit

    at = place(nodes[np.isfinite(nodes)])
    low, high = (float(at.min()), float(at.max())) if len(at) else (0.0, 1.0)
    return place, np.asarray(transform.inverted().transform(np.linspace(low - pad, high + pad, _POINTS) * unit), float)


def _ticks(place: Callable[[Array], Array], x: Array, linthresh: float) -> list[float]:
    """Zero and powers of ten, no two closer than labels are wide; larger ones go first."""
    least = 0.13 * float(place(x[-1:])[0] - place(x[:1])[0])
    powers = 10.0 ** np.arange(-30, 31)
    powers = powers[(powers >= linthresh) & (powers <= np.abs(x).max())][::-1]
    candidates = [0.0, *(s * p for p in powers for s in (1, -1))] if linthresh else list(powers)
    chosen: list[float] = []
    for value in candidates:
        far = all(abs(float(place(np.array([value]))[0] - place(np.array([c]))[0])) >= least for c in chosen)
        if x[0] <= value <= x[-1] and far:
            chosen.append(float(value))
    return sorted(chosen)


def _smooth(ds: xr.Dataset, place: Callable[[Array], Array], x: Array, width: float) -> tuple[Array, Array]:
    """Eigenvalues per decade at positions x: mean over the vectors, and its standard error (NaN for one vector)."""
    # Older results have weights alone.
    count = ds["count"].values if "count" in ds else int(ds["n_parameters"]) * ds["weight"].values
    curves = []
    for theta, number in zip(ds["node"].values, count, strict=True):
        real = number > 0
        kernel = np.exp(-0.5 * ((x[:, None] - place(theta[real])) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        curves.append(kernel @ number[real])
    if "exact" in ds:
        return curves[0], np.zeros(len(x))  # all eigenvalues: no random vectors, no error
    stack = np.stack(curves)
    error = stack.std(0, ddof=1) / np.sqrt(len(stack)) if len(stack) > 1 else np.full(len(x), np.nan)
    return stack.mean(0), error


def _label(axes: Sequence[Axes], name: str, linthresh: float, width: float, unit: str) -> None:
    """Axes that say what is on them, on which scale, and how it was smoothed."""
    axes[0].set_yscale("log", nonpositive="clip")
    per = "decade" if name != "linear" else "unit of the axis"
    axes[0].set_ylabel(f"eigenvalues per {per}\n(log scale; Gaussian kernel,\nstandard deviation {width:g})")
    notes = ["Hessian eigenvalue", f"({unit})", f"({scale_note(name, linthresh)})"]
    for ax in axes:
        ax.set_xlabel("\n".join(n for n in notes if n != "()"))
        if name == "symlog":
            ax.axvline(0, color=NEUTRAL, linewidth=0.5, zorder=1)


def _legend(groups: dict[str, list[xr.Dataset]]) -> list[Line2D | Patch]:
    marks: list[Line2D | Patch] = []
    for arch, group in groups.items():
        look: dict[str, Any] = {"color": arch_style(arch).color, "linestyle": arch_style(arch).linestyle}
        marks.append(Line2D([], [], label=titled(arch, group), **look))
    return [*marks, *error_marks(groups.values(), any(d.sizes["vector"] == 1 for g in groups.values() for d in g))]
