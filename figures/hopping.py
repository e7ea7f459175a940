"""Hopping between the walls of the valley, and which part of each update lowers the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from landscape.errors import LandscapeError
from landscape.figures.datasets import alike, by_arch, loss_unit, require_all, say_step, titled, units
from landscape.figures.marks import Scale, band_marks, fit_steps, hollow_handle, seed_curves, signed_scale, step_axis
from landscape.figures.style import NEUTRAL, arch_style, family_color, grid, styled, tint

__all__ = ["hopping"]

_NEEDED = {
    "coefficient": ("step", "update", "mode"),
    "hop_rate": ("step", "mode"),
    "hop_rate_stderr": ("step", "mode"),
    "autocorrelation": ("step", "mode"),
    "autocorrelation_stderr": ("step", "mode"),
    "converged": ("step", "mode"),
    "net_sum": ("step", "subspace"),
    "cross_term_sum": ("step",),
    "remainder_sum": ("step",),
    "decrease_sum": ("step",),
    "censored": ("step",),
    "n_updates": ("step",),
    "subspace": ("subspace",),
    "update": ("update",),
    "step": ("step",),
}
_MARKERS, _LINES = "osD^v", ("-", "--", ":", "-.", (0, (1, 1)))
_PARTS: dict[str, tuple[str, str, Any]] = {
    "valley": (family_color(1), "v", "-."),
    "river": (family_color(0), "s", "--"),
    "cross term": (family_color(2), "x", ":"),
    "remainder": ("0.55", "+", "-."),
}


@styled
def hopping(
    datasets: Sequence[xr.Dataset], *, step: int | None = None, modes: int = 2, scale: Scale = "symlog"
) -> Figure:
    """One column per architecture; from the top: coefficients, hop rate, autocorrelation, split of the loss decrease.

    The coefficients v'(w_t+1 - w_t) are those of the first seed, after one checkpoint. The other rows are means over
    seeds against the step the replay started from. Bands of the second and third row reach from the smallest
    ``value - stderr`` of the seeds to their largest ``value + stderr``; those of the last row from minimum to maximum.
    A point is hollow where, in any seed, the eigenvector has not converged or training ended before all updates.

    Args:
        datasets: one ``hopping`` dataset per run, all of one task.
        step: the checkpoint of the first row; None for the last one that all runs followed for the most updates.
        modes: eigenvectors shown, from the largest eigenvalue on.
        scale: of the step axis; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if there is no run, a dataset lacks what is drawn, no update was followed, or the step was not
            measured.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = hopping([sweep("hopping", run, seed=0, steps=[0], n=3, k=1)])
        >>> figure.axes[0].get_title(loc="left")
        'single (1 seed), after step 0'
    """
    datasets = require_all(datasets, _NEEDED)
    if not 1 <= modes <= len(_MARKERS):
        raise LandscapeError(f"expected 1 to {len(_MARKERS)} modes, found {modes}. The figure tells no more apart.")
    if not any(ds["n_updates"].any() for ds in datasets):
        raise LandscapeError(
            "expected updates to follow, found none: after the last step of a run there are none. Ask at one before it."
        )
    at = _step(datasets, step)
    groups = by_arch(datasets)
    figure, axes = grid(4, len(groups), height=1.75, sharey="row")
    steps = np.unique(np.concatenate([d["step"].values for d in datasets])).astype(float)
    for column, (arch, group) in enumerate(groups.items()):
        alike(group, "subspace")
        panels = [row[column] for row in axes]
        color = arch_style(arch).color
        _draw_coefficients(panels[0], group[0].sel(step=at), modes, color)
        panels[0].set_title(f"{titled(arch, group)}{say_step(at, before=', after ')}")
        _draw_modes(panels[1], group, "hop_rate", modes, color)
        _draw_modes(panels[2], group, "autocorrelation", modes, color)
        _draw_split(panels[3], group, color)
        for ax in panels[1:]:
            label = step_axis(ax, steps, scale=scale, gap=0.13 if len(groups) < 3 else 0.2)
            fit_steps(ax, steps)
        for ax in panels[1:3]:
            ax.tick_params(labelbottom=False)
        panels[3].set_xlabel(label)
    _label(axes, datasets)
    figure.legend(
        handles=_legend(groups, datasets, modes), loc="outside upper center", ncols=2 if len(groups) == 1 else 4
    )
    return figure


def _step(datasets: Sequence[xr.Dataset], wanted: int | None) -> int:
    """The step whose coefficients are drawn."""
    common = [s for s in datasets[0]["step"].values.tolist() if all(s in d["step"].values for d in datasets)]
    if wanted is not None and wanted not in common:
        steps = ", ".join(map(str, common)) or "none"
        raise LandscapeError(f"expected a step that all runs have, found {wanted}. Choose one of: {steps}.")
    if wanted is not None:
        return wanted
    if not common:
        raise LandscapeError("expected a step that all runs have, found none. Measure the runs at the same steps.")
    updates = [min(int(d["n_updates"].sel(step=s)) for d in datasets) for s in common]
    return int(common[max(range(len(common)), key=lambda i: (updates[i], i))])


def _look(mode: int, color: str) -> dict[str, Any]:
    """The first mode is darkest; markers and lines differ too."""
    return {"color": tint(color, 0.25 * mode), "marker": _MARKERS[mode], "linestyle": _LINES[mode]}


def _draw_coefficients(ax: Axes, ds: xr.Dataset, modes: int, color: str) -> None:
    """The coefficients of every update on the first eigenvectors."""
    ax.axhline(0, color=NEUTRAL, linewidth=0.5, zorder=1)
    for mode in reversed(range(min(modes, ds.sizes["mode"]))):
        ax.plot(
            ds["update"].values, ds["coefficient"].isel(mode=mode).values, **_look(mode, color),
            linewidth=0.8, markersize=2,
        )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("update")


def _draw_modes(ax: Axes, group: Sequence[xr.Dataset], name: str, modes: int, color: str) -> None:
    """Hop rate or autocorrelation of the first eigenvectors, and the value of independent updates."""
    ax.axhline(0.5 if name == "hop_rate" else 0.0, color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, zorder=1)
    for mode in reversed(range(min(modes, *(d.sizes["mode"] for d in group)))):
        pick = [d.isel(mode=mode) for d in group]
        seed_curves(
            ax,
            [d["step"].values.astype(float) for d in pick],
            [d[name].values for d in pick],
            errors=[d[f"{name}_stderr"].values for d in pick],
            hollow=[d["censored"].values.astype(bool) | ~d["converged"].values.astype(bool) for d in pick],
            **_look(mode, color),
        )


def _draw_split(ax: Axes, group: Sequence[xr.Dataset], color: str) -> None:
    """The parts of the decrease over all updates from a step on, and the whole of it."""
    ax.axhline(0, color=NEUTRAL, linewidth=0.5, zorder=1)
    xs = [d["step"].values.astype(float) for d in group]
    hollow = [d["censored"].values.astype(bool) for d in group]
    parts = {
        **{n: [d["net_sum"].sel(subspace=n).values for d in group] for n in ("valley", "river")},
        "cross term": [d["cross_term_sum"].values for d in group],
        "remainder": [d["remainder_sum"].values for d in group],
    }
    whole = [d["decrease_sum"].values for d in group]
    seed_curves(ax, xs, whole, color=color, marker="o", linestyle="-", hollow=hollow)
    for name, ys in parts.items():
        shade, marker, linestyle = _PARTS[name]
        seed_curves(ax, xs, ys, color=shade, marker=marker, linestyle=linestyle, hollow=hollow)


def _label(axes: Sequence[Sequence[Axes]], datasets: Sequence[xr.Dataset]) -> None:
    """Labels and scales of the rows, which the columns share."""
    names = ("cross_term_sum", "remainder_sum", "decrease_sum")
    values = np.concatenate([d[n].values.ravel() for d in datasets for n in (*names, "net_sum")])
    name, linthresh = signed_scale(values, decades=3)
    axes[3][0].set_yscale(name, **({"linthresh": linthresh, "linscale": 0.5} if name == "symlog" else {}))
    axes[0][0].set_ylabel(f"coefficient\n({units(datasets, 'coefficient')})")
    axes[1][0].set_ylabel("hop rate\n(share of pairs)")
    axes[1][0].set_ylim(-0.05, 1.05)
    axes[2][0].set_ylabel("lag-1\nautocorrelation")
    axes[3][0].margins(y=0.1)
    note = {"linear": "", "log": "\nlog scale", "symlog": f"\nsymlog, linear\nwithin ±{linthresh:g}"}[name]
    axes[3][0].set_ylabel(f"decrease of loss\n({loss_unit(datasets)}){note}")


def _legend(groups: dict[str, list[xr.Dataset]], datasets: Sequence[xr.Dataset], modes: int) -> list[Line2D | Patch]:
    """What the marks mean."""
    shown = min(modes, max(d.sizes["mode"] for d in datasets))
    looks = [_look(m, NEUTRAL) | {"color": tint("0.2", 0.25 * m)} for m in range(shown)]
    marks: list[Line2D | Patch] = [Line2D([], [], **look, label=f"eigenvector {m + 1}") for m, look in enumerate(looks)]
    marks.append(Line2D([], [], color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, label="independent updates"))
    for arch in groups:
        marks.append(Line2D([], [], color=arch_style(arch).color, marker="o", label=f"decrease, {arch}"))
    for name, (color, marker, linestyle) in _PARTS.items():
        marks.append(Line2D([], [], color=color, marker=marker, linestyle=linestyle, label=name))
    some = [d.isel(step=np.flatnonzero(d["n_updates"].values > 0)) for d in datasets]
    if any(bool(d["censored"].any()) or not bool(d["converged"].all()) for d in some):
        marks.append(hollow_handle("unfinished or unconverged"))
    return [*marks, *band_marks(groups.values(), "error")]
