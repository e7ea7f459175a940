"""The paper's Figure 3: what happens to samples and to the Hessian during training, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator

from landscape.figures.datasets import Array, by_arch, loss_unit, require_all, unknown_error
from landscape.figures.marks import Scale, arch_handles, error_marks, fit_steps, seed_curves, step_axis
from landscape.figures.style import PAGE, arch_style, missing, sheet, styled, tint
from landscape.figures.trajectories import colours_of, draw_families, draw_map, families_among, with_labels

__all__ = ["fig3"]

_SAMPLES = {"loss": ("step", "sample"), "information_content": ("sample",), "family": ("sample",), "step": ("step",)}
_ENTROPY = dict.fromkeys(("entropy", "entropy_stderr", "log_spread", "log_spread_stderr", "exact", "step"), ("step",))
_PAIR = ("step_a", "step_b")
_EVOLUTION = {
    "phase": ("path_step",),
    "mutual_information": _PAIR,
    "angle": (*_PAIR, "mode"),
    "path_step": ("path_step",),
}
_STATISTICS = {
    "entropy": "matrix entropy\n(nats)",
    "log_spread": "spread of log λ\n(weighted std)",
    "information": "mutual infor-\nmation (nats)",
    "angle": "mean principal\nangle (rad)",
}


@styled
def fig3(answers: Mapping[str, Sequence[xr.Dataset]], *, scale: Scale = "symlog") -> Figure:
    """Left the samples: loss of the simplest and of the most complex third, and of every sample. Right the Hessian.

    The thirds are by information content, dark the most complex and pale the simplest third: means over seeds in a band
    from minimum to maximum; where the seeds' steps differ, as after a switch, each is drawn thin. Each map shows all
    samples of the first seed of an architecture, from the simplest (bottom) to the most complex; hatching shows where
    there is no value. Right: matrix entropy and spread of the spectrum, means over seeds in a band of seeds and of
    standard errors, with the change points of the first seed's entropy as ticks; and, against the later of two
    neighbouring checkpoints, their mutual information and the mean principal angle of their leading eigenspaces.

    Args:
        answers: ``samples``, ``entropy`` and, if there, ``evolution`` of every run, all of one task.
        scale: of the step axes; the linear part of ``"symlog"`` ends at the first step after 0.

    Raises:
        LandscapeError: if answers lack what is drawn, or tasks are mixed.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, plot, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = plot([sweep(name, run, seed=0, steps=[0, 4]) for name in ("samples", "entropy")], "fig3")
        >>> [part.get_suptitle() for part in figure.subfigs]
        ['samples', 'Hessian']
    """
    samples = by_arch(require_all([with_labels(ds) for ds in answers["samples"]], _SAMPLES))
    spectra = by_arch(require_all(list(answers["entropy"]), _ENTROPY))
    changes = by_arch(require_all(list(answers["evolution"]), _EVOLUTION)) if answers.get("evolution") else {}
    rows = max(1 + len(samples), 4 if changes else 2)
    figure = sheet(PAGE, 1.45 * rows + 0.9)
    left, right = cast("tuple[SubFigure, SubFigure]", figure.subfigures(1, 2, width_ratios=(1.08, 1)))
    for part, title in ((left, "samples"), (right, "Hessian")):
        part.suptitle(title, fontsize=8.0, fontweight="bold")
    _samples(left, samples, scale)
    _hessian(right, spectra, changes, scale)
    return figure


def _samples(part: SubFigure, groups: Mapping[str, Sequence[xr.Dataset]], scale: Scale) -> None:
    """The left half."""
    column = part.subplots(1 + len(groups), 1, squeeze=False)
    axes: list[Axes] = [row[0] for row in column]
    every = [ds for group in groups.values() for ds in group]
    for arch, group in groups.items():
        look = arch_style(arch)
        for third, color in ((0, tint(look.color, 0.5)), (-1, look.color)):
            seed_curves(
                axes[0],
                [ds["step"].values.astype(float) for ds in group],
                [_third(ds, third) for ds in group],
                color=color, marker=look.marker, linestyle=look.linestyle,
            )  # fmt: skip
    steps = np.unique(np.concatenate([ds["step"].values for ds in every])).astype(float)
    step_axis(axes[0], steps, scale=scale)
    fit_steps(axes[0], steps)
    axes[0].set_ylabel(f"loss of thirds\n({loss_unit(every)})")
    axes[0].tick_params(labelbottom=False)
    shown = [group[0] for group in groups.values()]
    norm, families = _colours(shown), families_among(shown)
    for ax, (arch, group) in zip(axes[1:], groups.items(), strict=True):
        ordered, mesh = draw_map(ax, group[0], "loss", norm, scale)
        if families:
            draw_families(ax, ordered, families)
        ax.set_title(f"{arch}, seed {group[0].attrs['run_seed']}" if "run_seed" in group[0].attrs else arch)
        ax.set_ylabel("sample, by\ninformation (bits)")
        if ax is not axes[-1]:
            ax.set_xlabel("")
            ax.tick_params(labelbottom=False)
    label = f"loss of the sample ({loss_unit(every)}" + ("; log scale)" if isinstance(norm, LogNorm) else ")")
    ticks = LogLocator(subs=(1, 2, 5)) if isinstance(norm, LogNorm) else None
    bar = part.colorbar(mesh, ax=axes[1:], label=label, pad=0.02, aspect=30, format="%g", ticks=ticks)
    bar.ax.minorticks_off()
    holes = any(not np.isfinite(ds["loss"].values).all() for ds in shown)
    handles = _sample_marks(groups, families, holes)
    part.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.0, handlelength=2.0)


def _colours(shown: Sequence[xr.Dataset]) -> Normalize:
    """Logarithmic where the losses differ by more than a factor of 20: after a switch a few can be very large."""
    values = np.concatenate([ds["loss"].values.ravel() for ds in shown])
    values = values[np.isfinite(values)]
    if len(values) and 0 < 20 * values.min() < values.max():
        return LogNorm(max(values.min(), 1e-4 * values.max()), values.max())
    return colours_of(shown, "loss")


def _third(ds: xr.Dataset, which: int) -> Array:
    """Mean loss of the samples of the simplest (0) or most complex (-1) third; NaN if information is not known."""
    content = ds["information_content"].values
    known = np.flatnonzero(np.isfinite(content))
    if len(known) < 3:
        return np.full(ds.sizes["step"], np.nan)
    order = known[np.argsort(content[known], kind="stable")]
    size = len(order) // 3
    return np.asarray(
        ds["loss"].isel(sample=order[:size] if which == 0 else order[-size:]).mean("sample", skipna=False)
    )


def _hessian(
    part: SubFigure,
    spectra: Mapping[str, Sequence[xr.Dataset]],
    changes: Mapping[str, Sequence[xr.Dataset]],
    scale: Scale,
) -> None:
    """The right half."""
    names = list(_STATISTICS)[: 4 if changes else 2]
    if not any(ds["mutual_information"].notnull().any() for group in changes.values() for ds in group):
        names = [name for name in names if name != "information"]  # not asked, or beyond the memory
    axes: list[Axes] = [row[0] for row in part.subplots(len(names), 1, squeeze=False, sharex=True)]
    every = [ds for group in spectra.values() for ds in group]
    paths = [ds["path_step"].values for group in changes.values() for ds in group]
    steps = np.unique(np.concatenate([ds["step"].values for ds in every] + paths)).astype(float)
    for ax, name in zip(axes, names, strict=True):
        for arch, group in (spectra if name in _ENTROPY else changes).items():
            _statistic(ax, arch, group, name)
        label = step_axis(ax, steps, scale=scale)
        fit_steps(ax, steps)
        ax.set_ylabel(_STATISTICS[name])
        if name not in _ENTROPY:
            ax.set_title("with the checkpoint before")
    axes[-1].set_xlabel(label)
    for i, (arch, group) in enumerate(changes.items()):
        _change_points(axes[0], arch, group[0], i)
    marks = arch_handles(spectra)
    values = [ds[n].values for ds in every for n in names[:2]]
    marks += error_marks(
        spectra.values(), unknown_error(values, [ds[f"{n}_stderr"].values for ds in every for n in names[:2]])
    )
    if changes:
        marks.append(Line2D([], [], color="0.35", marker=2, linestyle="none", label="change point of the entropy"))
    part.legend(handles=marks, loc="outside lower center", ncols=2, columnspacing=1.0, handlelength=2.0)


def _statistic(ax: Axes, arch: str, group: Sequence[xr.Dataset], name: str) -> None:
    """One statistic of one architecture; of pairs, the entries next to the diagonal."""
    look = arch_style(arch)
    drawn: dict[str, Any] = {"color": look.color, "marker": look.marker, "linestyle": look.linestyle}
    if name in _ENTROPY:
        steps = [ds["step"].values.astype(float) for ds in group]
        errors = [ds[f"{name}_stderr"].values for ds in group]
        seed_curves(ax, steps, [ds[name].values for ds in group], errors=errors, **drawn)
        return
    pairs = [ds["mutual_information"] if name == "information" else ds["angle"].mean("mode") for ds in group]
    steps = [ds["path_step"].values.astype(float)[1:] for ds in group]
    seed_curves(ax, steps, [np.diagonal(pair.values, offset=1) for pair in pairs], **drawn)


def _change_points(ax: Axes, arch: str, ds: xr.Dataset, index: int) -> None:
    """Ticks on the lower edge, between the checkpoints around a change."""
    steps, phase = ds["path_step"].values.astype(float), ds["phase"].values
    for i in np.flatnonzero(np.diff(phase) > 0).tolist():
        between = np.sqrt(max(steps[i], 0.5) * steps[i + 1])
        ax.plot(
            between, 0.02 + 0.07 * index, transform=ax.get_xaxis_transform(), marker=2, markersize=6,
            color=arch_style(arch).color, linestyle="none", clip_on=False, zorder=4,
        )  # fmt: skip


def _sample_marks(
    groups: Mapping[str, Sequence[xr.Dataset]], families: Sequence[tuple[str, str]], holes: bool
) -> list[Line2D | Patch]:
    marks: list[Line2D | Patch] = []
    for arch in groups:
        look: dict[str, Any] = {"color": arch_style(arch).color, "linestyle": arch_style(arch).linestyle}
        marks.append(Line2D([], [], marker=arch_style(arch).marker, label=f"{arch}, complex third", **look))
    marks.append(Line2D([], [], color="0.65", label="pale: simplest third"))
    marks += [Patch(facecolor=color, label=f"{name} family") for name, color in families]
    return [*marks, missing()] if holes else marks
