"""How the Hessian changes along training: phases of its entropy, mutual information, angles of eigenspaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from landscape.figures.datasets import Array, by_arch, require_all, titled, unknown_error
from landscape.figures.marks import seed_curves, spread_ticks
from landscape.figures.style import MAP, NEUTRAL, arch_style, grid, missing, no_value, styled

__all__ = ["evolution"]

_PAIR = ("step_a", "step_b")
_NEEDED = {
    "entropy": ("path_step",),
    "entropy_stderr": ("path_step",),
    "phase": ("path_step",),
    "n_phases": ("penalty",),
    "mutual_information": _PAIR,
    "angle": (*_PAIR, "mode"),
    "path_step": ("path_step",),
    "penalty": ("penalty",),
}


@styled
def evolution(datasets: Sequence[xr.Dataset]) -> Figure:
    """Entropy with its phases, number of phases for each penalty, mutual information and mean angle of all pairs.

    One column per architecture. Checkpoints are evenly spaced, as the search for change points takes them. The entropy
    of every seed is drawn, the first seed's as a thick line; vertical lines are the change points of that seed, and the
    maps are its, too. Hatching shows through where there is no value.

    Args:
        datasets: one ``evolution`` dataset per run, all of one task.

    Raises:
        LandscapeError: if there is no run, or a dataset lacks what is drawn.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0, probe="evolution")
        >>> pair = (("step_a", "step_b"), [[1.0, 0.5], [0.5, 1.0]])
        >>> ds = xr.Dataset({"entropy": ("path_step", [2.0, 3.0]), "entropy_stderr": ("path_step", [0.0, 0.0]),
        ...                  "phase": ("path_step", [1, 2]), "n_phases": ("penalty", [2]), "mutual_information": pair,
        ...                  "angle": ((*pair[0], "mode"), [[[0.0], [1.0]], [[1.0], [0.0]]])},
        ...                 {"path_step": [0, 10], "penalty": [2.0]}, attrs)
        >>> evolution([ds]).axes[0].get_title(loc="left").splitlines()
        ['single (1 seed)', 'run r']
    """
    datasets = require_all(datasets, _NEEDED)
    groups = by_arch(datasets)
    first = [group[0] for group in groups.values()]
    information = np.concatenate([d["mutual_information"].values.ravel() for d in first])
    known = information[np.isfinite(information)]
    maps = {"angle": (Normalize(0, np.pi / 2), "mean principal\nangle (rad)")}
    if len(known):  # else it was not asked, or nowhere within memory
        maps = {"mutual_information": (Normalize(known.min(), known.max()), "mutual information\n(nats)"), **maps}
    figure, axes = grid(2 + len(maps), len(groups), height=2.0)
    for column, (arch, group) in enumerate(groups.items()):
        _entropies(axes[0][column], group, arch)
        _penalties(axes[1][column], group, arch)
        meshes = [
            _map(row[column], _of_pairs(group[0], name), group[0]["path_step"].values, norm)
            for row, (name, (norm, _)) in zip(axes[2:], maps.items(), strict=True)
        ]
        axes[0][column].set_title(
            titled(arch, group) + (f"\nrun {group[0].attrs['run']}" if group[0].attrs["run"] != arch else "")
        )
    labels = ("matrix entropy\n(nats)", "number of\nphases", *("training step" for _ in maps))
    for row, label in zip(axes, labels, strict=True):
        row[0].set_ylabel(label)
    low, high = (f([ax.get_ylim()[i] for ax in axes[0]]) for i, f in enumerate((min, max)))
    most = max([3, *(int(d["n_phases"].max()) for d in datasets)])
    for above, below in zip(axes[0], axes[1], strict=True):
        above.set_ylim(low, high)
        below.set_ylim(0.5, most + 0.5)
    for row, mesh, (_, label) in zip(axes[2:], meshes, maps.values(), strict=True):
        figure.colorbar(mesh, ax=row, label=label, aspect=14, pad=0.02)
    figure.legend(handles=_legend(groups, 0 < len(known) < len(information)), loc="outside upper center", ncols=2)
    return figure


def _of_pairs(ds: xr.Dataset, name: str) -> Array:
    values: Array = (ds[name].mean("mode") if "mode" in ds[name].dims else ds[name]).values
    return values


def _ticks(steps: Array, gap: float) -> tuple[list[int], list[str]]:
    at = spread_ticks(np.arange(len(steps), dtype=float), gap=gap) if len(steps) > 1 else [0]
    return at, [f"{steps[i]:g}" for i in at]


def _entropies(ax: Axes, group: Sequence[xr.Dataset], arch: str) -> None:
    """S of every seed, and where the first one's phases begin."""
    style = arch_style(arch)
    for i, ds in enumerate(group):
        x = np.arange(ds.sizes["path_step"])
        y, error = ds["entropy"].values, ds["entropy_stderr"].values
        ax.plot(
            x, y, color=style.color, marker=style.marker if i == 0 else "", linestyle=style.linestyle,
            linewidth=1.2 if i == 0 else 0.6, alpha=1.0 if i == 0 else 0.6,
        )  # fmt: skip
        if (error > 0).any():
            ax.fill_between(x, y - error, y + error, color=style.color, alpha=0.2, linewidth=0)
    phase = group[0]["phase"].values
    for change in np.flatnonzero(np.diff(phase) > 0).tolist():
        ax.axvline(change + 0.5, color=NEUTRAL, linewidth=0.8, linestyle=":")
    ax.set_xticks(*_ticks(group[0]["path_step"].values, 0.17))
    ax.set_xlabel("training step\n(checkpoints, evenly spaced)")


def _penalties(ax: Axes, group: Sequence[xr.Dataset], arch: str) -> None:
    """How the number of phases depends on the penalty; none where there were too few checkpoints."""
    style = arch_style(arch)
    ax.set_xscale("log")
    seed_curves(
        ax,
        [d["penalty"].values for d in group],
        [np.where(d["n_phases"] > 0, d["n_phases"], np.nan).astype(float) for d in group],
        color=style.color,
        marker=style.marker,
        linestyle=style.linestyle,
    )
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    values = group[0]["penalty"].values
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("penalty of a change point\n(σ² log n; log scale)")


def _map(ax: Axes, values: Array, steps: Array, norm: Normalize) -> QuadMesh:
    no_value(ax)
    border = np.arange(len(steps) + 1) - 0.5
    mesh = ax.pcolormesh(border, border, np.ma.masked_invalid(values), norm=norm, cmap=MAP, rasterized=True)
    ax.set_xticks(*_ticks(steps, 0.17))
    ax.set_yticks(*_ticks(steps, 0.14))
    ax.set_xlabel("training step")
    return mesh


def _legend(groups: dict[str, list[xr.Dataset]], holes: bool) -> list[Line2D | Patch]:
    marks: list[Line2D | Patch] = [Line2D([], [], color=NEUTRAL, linewidth=0.8, linestyle=":", label="change point")]
    if any(len(group) > 1 for group in groups.values()):
        marks.append(Line2D([], [], color=NEUTRAL, linewidth=0.6, label="other seeds (entropy)"))
        marks.append(Patch(facecolor=NEUTRAL, alpha=0.2, label="range over seeds (phases)"))
    datasets = [ds for group in groups.values() for ds in group]
    if any((ds["entropy_stderr"] > 0).any() for ds in datasets):
        marks.append(Patch(facecolor=NEUTRAL, alpha=0.2, label="± standard error (entropy)"))
    if unknown_error([ds["entropy"].values for ds in datasets], [ds["entropy_stderr"].values for ds in datasets]):
        marks.append(Line2D([], [], linestyle="none", label="no band: error unknown"))
    return [*marks, missing()] if holes else marks
