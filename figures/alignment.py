"""Cosines of the gradients of the single and the looped model, and the premises of the theorem about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.figures.datasets import alike, by_arch, require_all, titled
from landscape.figures.marks import Scale, band_marks, fit_steps, seed_curves, step_axis
from landscape.figures.style import NEUTRAL, arch_style, family_color, grid, styled

__all__ = ["alignment"]

_NEEDED = {
    "cosine": ("step", "group"),
    "cosine_stderr": ("step", "group"),
    "dominance": ("step", "architecture"),
    "dominance_stderr": ("step", "architecture"),
    "form_definiteness": ("step", "form"),
    "loops": ("step",),
    "group": ("group",),
    "architecture": ("architecture",),
    "form": ("form",),
    "step": ("step",),
}
_MUSTARD = "#7A6000"  # the palette's yellow, dark enough for a thin line
_MARKERS, _LINES = "sD^vP*X", ("-", "--", "-.", ":")
_NAMES = {"W_Q'W_K": r"$W_Q^{\mathsf{T}}W_K$", **{f"W_{x}": f"$W_{x}$" for x in "QKV"}}


@styled
def alignment(datasets: Sequence[xr.Dataset], *, scale: Scale = "symlog") -> Figure:
    """Cosine per parameter group (top) and premises (bottom) against the step, one column per trained architecture.

    Lines are means over seeds. Bands reach from the smallest ``value - stderr`` of the seeds to their largest
    ``value + stderr``, the errors being over samples. Each premise of the bottom row holds above zero: the mean margin
    of diagonal dominance of attention, with one pass and with T; and the smallest over the largest magnitude of the
    eigenvalues of the symmetric parts of W_Q' W_K and W_V, which have no error.

    Args:
        datasets: one ``alignment`` dataset per run, all of one task.
        scale: of the step axis; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, or seeds were measured by different groups.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = alignment([sweep("alignment", run, seed=0, steps=[4])])
        >>> figure.axes[0].get_title(loc="left")
        'trained as single (1 seed)'
    """
    datasets = require_all([_with_premises(d) for d in datasets], _NEEDED)
    by = by_arch(datasets)
    names = list(dict.fromkeys(str(g) for d in datasets for g in d["group"].values))
    forms = list(dict.fromkeys(str(f) for d in datasets for f in d["form"].values))
    figure, axes = grid(2, len(by), height=2.2, sharex=True, sharey="row")
    for column, (arch, group) in enumerate(by.items()):
        top, bottom = axes[0][column], axes[1][column]
        for ax in (top, bottom):
            ax.axhline(0, color=NEUTRAL, linewidth=0.6, zorder=1)
        for i, name in enumerate(alike(group, "group")):
            _draw(top, group, "cosine", {"group": i}, _look(names.index(name), name))
        for i, name in enumerate(alike(group, "architecture")):
            _draw(bottom, group, "dominance", {"architecture": i}, _arch(name))
        for i, name in enumerate(alike(group, "form")):
            _draw(bottom, group, "form_definiteness", {"form": i}, _form(forms.index(name)), error=False)
        top.set_title(f"trained as {titled(arch, group)}")
    steps = np.unique(np.concatenate([d["step"].values for d in datasets])).astype(float)
    for ax in axes[1]:
        ax.set_xlabel(step_axis(ax, steps, scale=scale))
        fit_steps(ax, steps)
    loops = sorted({int(t) for d in datasets for t in d["loops"].values})
    passes = " or ".join(map(str, loops))
    axes[0][0].set_ylabel(f"cosine of gradients,\n1 and {passes} passes")
    axes[0][0].set_ylim(-1.05, 1.05)
    axes[1][0].set_ylim(top=max(0.25, axes[1][0].get_ylim()[1]))
    axes[1][0].set_ylabel("premise (dimensionless,\nholds above 0)")
    figure.legend(handles=_legend(names, datasets, forms), loc="outside upper center", ncols=2 if len(by) == 1 else 4)
    return figure


def _with_premises(ds: xr.Dataset) -> xr.Dataset:
    """A result without the premises, which need the model's attention, has none of them."""
    steps = {"step": ds["step"].values} if "step" in ds.dims else {}
    for dim, names in (("architecture", ("dominance", "dominance_stderr")), ("form", ("form_definiteness",))):
        if dim not in ds.dims:
            empty = np.zeros((*(len(v) for v in steps.values()), 0))
            ds = ds.assign(dict.fromkeys(names, ((*steps, dim), empty)))
            ds = ds.assign_coords({dim: (dim, np.zeros(0, dtype="<U1"))})
    return ds


def _draw(
    ax: Axes, group: Sequence[xr.Dataset], name: str, at: dict[str, int], look: dict[str, Any], *, error: bool = True
) -> None:
    """One variable of all seeds."""
    pick = [d.isel(at) for d in group]
    seed_curves(
        ax,
        [d["step"].values.astype(float) for d in pick],
        [d[name].values for d in pick],
        errors=[d[f"{name}_stderr"].values for d in pick] if error else None,
        **look,
    )


def _look(index: int, name: str) -> dict[str, Any]:
    """All parameters together are a solid black line; groups have their own marker, line and shade."""
    if name == "all":
        return {"color": "0.0", "marker": "o", "linestyle": "-"}
    colors = (family_color(0), family_color(1), "0.45", _MUSTARD, "0.65")
    return {
        "color": colors[index % len(colors)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[index % len(_LINES)],
    }


def _arch(name: str) -> dict[str, Any]:
    """An architecture, as everywhere."""
    look = arch_style(name)
    return {"color": look.color, "marker": look.marker, "linestyle": look.linestyle}


def _form(index: int) -> dict[str, Any]:
    """A matrix whose definiteness is asked."""
    return {"color": "0.25" if index == 0 else "0.6", "marker": "xP"[index % 2], "linestyle": (":", "-.")[index % 2]}


def _legend(names: Sequence[str], datasets: Sequence[xr.Dataset], forms: Sequence[str]) -> list[Line2D | Patch]:
    """What the marks mean."""
    archs = list(dict.fromkeys(str(a) for d in datasets for a in d["architecture"].values))
    marks: list[Line2D | Patch] = [
        Line2D([], [], **_look(i, name), label=_NAMES.get(name, name)) for i, name in enumerate(names)
    ]
    marks += [Line2D([], [], **_arch(a), label=f"dominance, {a}") for a in archs]
    marks += [
        Line2D([], [], **_form(i), label=f"definiteness of {_NAMES.get(name, name)}") for i, name in enumerate(forms)
    ]
    return [*marks, *band_marks(by_arch(datasets).values(), "error")]
