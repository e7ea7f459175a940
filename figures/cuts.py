"""The loss along lines through a checkpoint, with the walls, the parabola, and what other draws would show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from landscape.errors import LandscapeError
from landscape.figures.contours import SLICE, direction_name, measured
from landscape.figures.datasets import NO_STEP, Array, loss_unit, over_seeds, require_all, say_step
from landscape.figures.style import NEUTRAL, arch_style, grid, missing, styled

__all__ = ["cuts"]

_PARABOLA: dict[str, Any] = {"color": NEUTRAL, "linestyle": (0, (4, 2)), "linewidth": 0.9}
_WALL: dict[str, Any] = {"color": "black", "linestyle": "none", "marker": "|", "markersize": 8}
_FLOOR: dict[str, Any] = {"color": "black", "linestyle": "none", "marker": "v", "markersize": 4}
_HATCH: dict[str, Any] = {"facecolor": "0.95", "edgecolor": "0.6", "hatch": "//////", "linewidth": 0, "zorder": 0}


@styled
def cuts(datasets: Sequence[xr.Dataset], *, scale: Literal["linear", "log"] = "linear") -> Figure:
    """The loss along the first direction, and of a plane along the second, through the checkpoint; one row per run.

    Points are what was evaluated, with straight lines between them. Where they were measured: the floor, the walls,
    where the loss has risen by so much above the floor, and the parabola of slope and curvature at the checkpoint
    (dashed). The band is the range over planes drawn with other seeds. A cut through a plane runs along the row of
    its grid that is next to the checkpoint. Hatched parts have no value.

    Args:
        datasets: one ``surface`` dataset per run.
        scale: of the loss; ``"log"`` shows what is above the lowest point of each cut.

    Raises:
        LandscapeError: if there is no run, or a dataset lacks what is drawn.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = cuts([sweep("surface", run, seed=0, dimensions=1, directions="eigen", span="walls")])
        >>> figure.axes[0].get_title(loc="left")
        'a, step 4'
    """
    slices = require_all(datasets, SLICE)
    if scale not in ("linear", "log"):
        raise LandscapeError(f"expected scale='linear' or 'log', found {scale!r}. Use one of the two.")
    columns = max(_axes_of(ds) for ds in slices)
    figure, axes = grid(len(slices), columns, height=2.4, sharey="row" if columns > 1 and scale == "linear" else False)
    unit, seen = loss_unit(slices), dict[str, Line2D | Patch]()
    for row, ds, whole in zip(axes, slices, datasets, strict=True):
        for i, ax in enumerate(row):
            if i < _axes_of(ds):
                _draw(ax, whole, i, scale, seen)
            else:
                ax.remove()
        row[0].set_title(f"{ds.attrs['run']}{say_step(ds.attrs.get('step', NO_STEP), before=', ')}")
        row[0].set_ylabel(f"loss ({unit})" if scale == "linear" else f"loss − lowest of the cut\n({unit}; log scale)")
    figure.legend(handles=list(seen.values()), loc="outside upper center", ncols=2 if columns == 1 else 4)
    return figure


def _axes_of(ds: xr.Dataset) -> int:
    """How many directions a dataset has points along."""
    return 2 if min(ds.sizes["alpha"], ds.sizes["beta"]) > 1 else 1


def _draw(ax: Axes, ds: xr.Dataset, i: int, scale: str, seen: dict[str, Line2D | Patch]) -> None:
    """One cut, in parameter distance; what its marks mean is added to `seen`."""
    along, across = ("alpha", "beta") if i == 0 and ds.sizes["alpha"] > 1 else ("beta", "alpha")
    direction = 0 if along == "alpha" else 1
    j = _nearest(ds, across)
    cut = ds.isel({across: j})
    length = float(np.sqrt(ds["gram"].values[direction, direction]))
    known = cut["evaluated"].values.astype(bool) if "evaluated" in cut else np.ones(cut.sizes[along], bool)
    x, y = cut[along].values[known] * length, cut["loss"].values.astype(float)[known]
    base = float(np.nanmin(np.where(np.isfinite(y), y, np.nan))) if scale == "log" and np.isfinite(y).any() else 0.0
    color = arch_style(str(ds.attrs["arch"])).color
    if "draw_loss" in cut:
        every = cut["draw_loss"].transpose("draw", along).values.astype(float)
        _, low, high = over_seeds(list(every))
        ax.fill_between(x, low - base, high - base, color=color, alpha=0.2, linewidth=0)
        said = f"range over {len(every)} draws"
        seen[said] = Patch(facecolor=NEUTRAL, alpha=0.2, label=said)
    shown = np.where(np.isfinite(y), y - base, np.nan)
    ax.plot(x, shown, color=color, marker=".", markersize=3, linewidth=1.0)
    seen["loss"] = Line2D([], [], color=NEUTRAL, marker=".", markersize=3, label="loss, as evaluated")
    if _hatch(ax, x, np.isfinite(y)):
        seen["no value"] = missing()
    limits = ax.get_ylim()
    at = float(ds[across][j])
    at = 0.0 if abs(at) < 1e-9 * float(np.ptp(ds[across].values)) else at  # the rounding of a grid about 0
    if "curvature" in ds and at == 0:
        _marks(ax, ds, direction, length, base, seen)
    ax.axvline(0, color=NEUTRAL, linewidth=0.5, zorder=0.5)
    ax.set_ylim(limits)
    if scale == "log":
        ax.set_yscale("log", nonpositive="mask")
        ax.set_ylim(bottom=max(float(np.nanmin(np.where(shown > 0, shown, np.nan))) / 2, 1e-12))
    kind = str(ds.attrs.get("directions", "given"))
    beside = "" if at == 0 else f" at {'β' if across == 'beta' else 'α'} = {at:.2g}"
    ax.set_xlabel(f"{direction_name(kind, direction)}{beside}\n(parameter distance from the checkpoint)")
    ax.xaxis.set_major_locator(MaxNLocator(6))


def _nearest(ds: xr.Dataset, across: str) -> int:
    """The row of the grid next to the checkpoint; of a refined grid one in which many points were evaluated."""
    along = "alpha" if across == "beta" else "beta"
    counts = measured(ds).sum(0 if along == "alpha" else 1)
    return int(np.where(2 * counts > counts.max(), np.abs(ds[across].values), np.inf).argmin())


def _hatch(ax: Axes, x: Array, finite: Any) -> bool:
    """Hatch what lies between points without a finite value and their neighbours."""
    for k in map(int, np.flatnonzero(~finite)):
        ax.axvspan(float(x[max(k - 1, 0)]), float(x[min(k + 1, len(x) - 1)]), **_HATCH)
    return not finite.all()


def _marks(ax: Axes, ds: xr.Dataset, i: int, length: float, base: float, seen: dict[str, Line2D | Patch]) -> None:
    """Parabola, floor and walls, where they are known."""
    centre, slope, bend = (
        float(ds[n].values.reshape(-1)[k]) for n, k in (("centre_loss", 0), ("slope", i), ("curvature", i))
    )
    left, right = ax.get_xlim()
    t = np.linspace(left, right, 201) / length
    ax.plot(t * length, centre + slope * t + bend * t**2 / 2 - base, **_PARABOLA)
    ax.set_xlim(left, right)
    seen["parabola"] = Line2D([], [], **_PARABOLA, label="slope and curvature at 0")
    if not bool(ds["floor_converged"].values[i]):
        return
    t0, floor, rise = float(ds["floor"].values[i]), float(ds["floor_loss"].values[i]), float(ds["rise"])
    ax.plot(t0 * length, floor - base, **_FLOOR)
    seen["floor"] = Line2D([], [], **_FLOOR, label="floor: nearest minimum")
    reached = ~ds["wall_censored"].transpose("direction", "side").values.astype(bool)[i]
    wall = ds["wall"].transpose("direction", "side").values[i] * length
    ax.plot(wall[reached], np.full(int(reached.sum()), floor + rise - base), **_WALL)
    said = f"walls: rise of {rise:g}"
    seen["walls"] = Line2D([], [], **_WALL, label=said)
