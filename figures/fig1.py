"""The paper's Figure 1, measured: the loss around the trained models at one scale, and cuts across the valley."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import LandscapeError
from landscape.figures.choices import common_step
from landscape.figures.contours import SWITCH, Levels, draw_path, plane_handles
from landscape.figures.datasets import (
    NO_STEP,
    Array,
    alike,
    by_arch,
    loss_unit,
    over_seeds,
    require_all,
    say_step,
    shown_units,
)
from landscape.figures.style import COLUMN, NEUTRAL, PAGE, arch_style, missing, sheet, styled, tint

__all__ = ["fig1"]

_PLANE = {
    "loss": ("alpha", "beta"),
    "alpha": ("alpha",),
    "beta": ("beta",),
    "gram": ("direction", "direction_2"),
    **dict.fromkeys(("path_alpha", "path_beta", "path_distance", "path_step"), ("path_step",)),
}
_WALLS = {
    "half_width": ("step", "mode", "side", "rise"),
    "censored": ("step", "mode", "side", "rise"),
    "quadratic_half_width": ("step", "mode", "rise"),
    "direction": ("mode",),
    "side": ("side",),
    "rise": ("rise",),
    "step": ("step",),
}


@styled
def fig1(answers: Mapping[str, Sequence[xr.Dataset]], *, step: int | None = None, cuts: int = 3) -> Figure:
    r"""Measured landscapes, one column per architecture: the loss on a plane (top) and cuts across the valley (bottom).

    All panels of a row have the same axes, in parameter distance, and the maps one scale of colours; hatched parts were
    not measured. Maps are those of the first seed, named above, with the training path projected on the plane; the star
    is the switch of SHIFT from one pass to T. Cuts show how far from the floor the loss has risen by so much, along the
    leading eigenvectors (dark to pale): points are means over seeds, in a band from minimum to maximum, with power laws
    between neighbours. A V has straight walls, a U round ones, and directions of unequal steepness fan out. Dashed is
    the parabola of the curvature along the first. Where the search ended before the loss had risen as far, in any seed,
    the cut ends.

    Args:
        answers: ``surface`` and, if there, ``valley`` and ``shift`` of every run, all of one task.
        step: the checkpoint of the cuts; None for the last one that all runs have.
        cuts: leading eigenvectors that are shown.

    Raises:
        LandscapeError: if there is no plane, or answers lack what is drawn.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, plot, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = plot([sweep("surface", run, seed=0), run], "fig1")
        >>> figure.axes[0].get_title(loc="left").splitlines()
        ['single, step 4', 'run a']
    """
    if cuts < 1:
        raise LandscapeError(f"expected at least one cut, found cuts={cuts}.")
    groups = by_arch(require_all(list(answers["surface"]), _PLANE))
    walls = by_arch(require_all(list(answers["valley"]), _WALLS)) if answers.get("valley") else {}
    walls = {arch: group for arch, group in walls.items() if arch in groups}
    switches = {str(ds.attrs["run"]): int(ds["switch_step"]) for ds in answers.get("shift", ())}
    rows, columns = (2 if walls else 1), len(groups)
    figure = sheet(COLUMN * columns if columns < 3 else PAGE, (2.3 if columns < 3 else 2.1) * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex="row", sharey="row")
    maps = [group[0] for group in groups.values()]
    levels = Levels.of([ds["loss"].values.astype(float) for ds in maps], "auto", loss_unit(maps))
    for ax, (arch, ds) in zip(axes[0], zip(groups, maps, strict=True), strict=True):
        lengths = np.sqrt(np.diag(ds["gram"].values))
        contours = levels.draw(ax, ds, scale=(lengths[0], lengths[1]))
        draw_path(ax, ds, scale=(lengths[0], lengths[1]))
        _draw_switch(ax, ds, switches.get(str(ds.attrs["run"]), -1), lengths)
        at = say_step(ds.attrs.get("step", NO_STEP), before=", ")
        ax.set_title(f"{arch}{at}" + (f"\nrun {ds.attrs['run']}" if ds.attrs["run"] != arch else ""))
        ax.set_xlabel(f"{_direction(maps)} 1")
    axes[0][0].set_ylabel(f"{_direction(maps)} 2\n(both in parameter\ndistance)")
    figure.colorbar(contours, ax=axes[0], label=levels.label, ticks=levels.ticks, format="%g", pad=0.02, aspect=18)
    if walls:
        chosen = common_step([ds for group in walls.values() for ds in group], step)
        unit = str(next(iter(walls.values()))[0]["half_width"].attrs.get("units", "units not stored"))
        for ax, arch in zip(axes[1], groups, strict=True):
            _draw_cuts(ax, arch, [ds.sel(step=chosen) for ds in walls.get(arch, ())], cuts)
            ax.set_xlabel(f"distance from the floor\n({shown_units(unit, width=20)})")
        axes[1][0].set_ylabel(f"loss above the floor\n({loss_unit(maps)})")
        axes[1][0].set_ylim(bottom=0)
    figure.legend(
        handles=_legend(maps, walls, switches, cuts), loc="outside upper center", ncols=2 if len(groups) < 3 else 4
    )
    return figure


def _direction(maps: Sequence[xr.Dataset]) -> str:
    """What the planes are spanned by."""
    kinds = list(dict.fromkeys(str(ds.attrs.get("directions", "given")) for ds in maps))
    return " or ".join({"pca": "PCA", "eigen": "eigen"}.get(kind, kind) for kind in kinds) + " direction"


def _draw_switch(ax: Axes, ds: xr.Dataset, step: int, lengths: Array) -> None:
    """The checkpoint of the switch on the projected path."""
    found = np.flatnonzero(ds["path_step"].values == step)
    if step >= 0 and len(found):
        i = int(found[0])
        ax.plot(ds["path_alpha"].values[i] * lengths[0], ds["path_beta"].values[i] * lengths[1], **SWITCH)


def _draw_cuts(ax: Axes, arch: str, group: Sequence[xr.Dataset], cuts: int) -> None:
    """Rise against the signed distance from the floor, along the leading eigenvectors."""
    if not group:
        ax.text(0.5, 0.5, "not probed", transform=ax.transAxes, ha="center", va="center", color=NEUTRAL)
        return
    names = alike(group, "direction")
    color = arch_style(arch).color
    rise = group[0]["rise"].values.astype(float)
    fine = np.linspace(0, 1, 81)[1:] * rise[-1]
    for i in range(cuts):
        if f"top {i + 1}" not in names:
            break
        picked = [ds.isel(mode=names.index(f"top {i + 1}")) for ds in group]
        shade = tint(color, 0.7 * i / max(1, cuts - 1))
        for side, sign in (("-", -1), ("+", 1)):
            mean, low, high = over_seeds([_reached(ds.sel(side=side)) for ds in picked])
            ax.plot(sign * mean, rise, color=shade, linestyle="none", marker=".", markersize=4, zorder=3 - 0.1 * i)
            ax.plot(sign * _wall(rise, mean, fine), fine, color=shade, linewidth=1.2, zorder=3 - 0.1 * i)
            near, far = (sign * _wall(rise, edge, fine) for edge in (low, high))
            ax.fill_betweenx(fine, near, far, color=shade, alpha=0.25, linewidth=0)
    if "top 1" in names:
        wide = np.mean([ds.isel(mode=names.index("top 1"))["quadratic_half_width"].values for ds in group], axis=0)
        for sign in (-1, 1):
            curve = sign * wide[-1] * np.sqrt(fine / rise[-1])
            ax.plot(curve, fine, color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, zorder=3.5)


def _reached(ds: xr.Dataset) -> Array:
    """Half-widths at the rises that were reached."""
    return np.where(ds["censored"].values.astype(bool), np.nan, ds["half_width"].values)


def _wall(rise: Array, width: Array, at: Array) -> Array:
    """A wall between its measured points, as power laws through neighbours; none beyond the last point."""
    known = np.isfinite(width) & (width > 0)
    if known.sum() < 2:
        return np.full(len(at), np.nan)
    r, s = np.log(rise[known]), np.log(width[known])
    x = np.log(at)
    y = np.where(x < r[0], s[0] + (x - r[0]) * (s[1] - s[0]) / (r[1] - r[0]), np.interp(x, r, s))
    return np.where(x > r[-1] + 1e-9, np.nan, np.exp(y))


def _legend(
    maps: Sequence[xr.Dataset], walls: Mapping[str, Sequence[xr.Dataset]], switches: Mapping[str, int], cuts: int
) -> list[Line2D | Patch]:
    marks = plane_handles(holes=False, walked=any(ds.sizes["path_step"] for ds in maps))
    hatched = missing()
    hatched.set_label("not measured")
    marks.append(hatched)
    if any(switches.get(str(ds.attrs["run"]), -1) >= 0 for ds in maps):
        marks.append(Line2D([], [], label="switch from one pass to T", **SWITCH))
    for i in range(cuts if walls else 0):
        marks.append(
            Line2D([], [], color=tint("0.1", 0.7 * i / max(1, cuts - 1)), marker=".", label=f"along top {i + 1}")
        )
    if walls:
        marks.append(Line2D([], [], color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, label="parabola of top 1"))
    return marks
