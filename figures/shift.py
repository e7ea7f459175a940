"""What the switch of SHIFT costs and gains: accuracy, compute and the drop, against when it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import AbsentError, LandscapeError
from landscape.figures.choices import chosen
from landscape.figures.datasets import require_all, titled
from landscape.figures.marks import band_marks, hollow_handle, log_ticks
from landscape.figures.style import arch_style, family_color, grid, styled

__all__ = ["shift"]

_X = {
    "switch_step": "step of the switch",
    "delta1": "threshold δ₁ of the\nloss's improvement (log scale)",
    "delta2": "threshold δ₂ of the gradient\nnorm's change (log scale)",
}
_BOTH = ("split", "family")
_SETTINGS = ("criterion", "delta1", "delta2", "patience")
_MARKERS = "oDs^vPX"
_PANELS = {"accuracy_final": "final accuracy", "flops": "training compute (FLOP)", "accuracy_drop": "accuracy lost"}

Groups = dict[tuple[Any, ...], list[xr.Dataset]]


@styled
def shift(
    datasets: Sequence[xr.Dataset],
    *,
    x: Literal["switch_step", "delta1", "delta2"] = "switch_step",
    split: str = "test",
    family: str = "all",
) -> Figure:
    """Final accuracy, training compute and the accuracy lost at the switch, one point per setting of SHIFT.

    A point is the mean over the seeds of one setting; bars and bands reach from their smallest to their largest, and
    small points are the seeds. Colour and marker are the patience W, and the mode of the switch where there are
    several; crosses switched at a step that was given. A hollow point never switched, and stands where its training
    ended. At one threshold the points of different W stand side by side. Lines in bands are the other architectures of
    the study, mean and range over their seeds. Where no run switched there is no panel of what was lost.

    Args:
        datasets: one record (`landscape.studies.switches.shift_record`) per run, all of one task; those that do not
            shift are what the others are compared with.
        x: the step of the switch, or one of the thresholds.
        split: the samples to judge by.
        family: "all", or one family of samples.

    Raises:
        LandscapeError: if no run shifts, a dataset lacks what is drawn, or tasks are mixed.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> from landscape.studies.switches import shift_record
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> config = RunConfig.make(arch="shift", shift={"criterion": "fixed", "at": 2, "check_every": 1}, **small)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     figure = shift([shift_record(train(config, folder))])
        >>> figure.axes[0].get_title(loc="left")
        'test split, all samples'
    """
    if x not in _X:
        raise LandscapeError(f"expected x to be one of {', '.join(_X)}, found {x!r}. Choose one of them.")
    needed: dict[str, tuple[str, ...]] = dict.fromkeys(("accuracy_final", "accuracy_drop"), _BOTH)
    needed |= dict.fromkeys(("switch_step", "final_step", "flops"), ())
    datasets = [chosen(ds, split, family) for ds in require_all(datasets, needed)]
    if len(tasks := sorted({str(ds.attrs["task"]) for ds in datasets})) > 1:
        raise LandscapeError(f"expected runs of one task, found {', '.join(tasks)}. Draw one figure per task.")
    shifted = [ds for ds in datasets if ds.attrs["arch"] == "shift"]
    for ds in shifted:
        if absent := [n for n in _SETTINGS if n not in ds.attrs]:
            raise LandscapeError(f"expected the attribute {absent[0]!r} on the record of run {ds.attrs['run']!r}.")
    if x != "switch_step":
        # A threshold that is not positive never acts on its own and has no place on a logarithmic axis.
        shifted = [ds for ds in shifted if ds.attrs["criterion"] != "fixed" and float(ds.attrs[x]) > 0]
    if not shifted:
        raise AbsentError("expected at least one run that shifts, found none. Train one with `--arch shift`.")
    names = [n for n in _PANELS if n != "accuracy_drop" or any(np.isfinite(float(ds[n])) for ds in shifted)]
    figure, axes = grid(1, len(names), height=2.6, sharex=True)
    looks, groups = _looks(shifted), _groups(shifted)
    others: dict[str, list[xr.Dataset]] = {}
    for ds in datasets:
        if ds.attrs["arch"] != "shift":
            others.setdefault(str(ds.attrs["arch"]), []).append(ds)
    for ax, name in zip(axes[0], names, strict=True):
        for group in groups.values():
            _point(ax, group, x, name, looks[_kind(group[0], shifted)])
        if x != "switch_step":
            _bands(ax, groups, shifted, x, name, looks)
        for arch, runs in others.items() if name != "accuracy_drop" else ():
            _level(ax, arch, [float(ds[name]) for ds in runs])
        ax.set_ylabel(_PANELS[name])
        ax.set_xlabel(_X[x])
        ax.margins(0.08)
        if x == "switch_step":
            ax.set_xlim(left=0)
        else:
            log_ticks(ax, sorted({float(ds.attrs[x]) for ds in shifted}))
    axes[0][1].set_ylim(bottom=0)
    samples = f"{split} split, " + ("all samples" if family == "all" else f"{family} family")
    axes[0][0].set_title(samples)
    if len(names) == 3:
        axes[0][2].axhline(0, color="0.35", linewidth=0.5, zorder=1)
        axes[0][2].set_title("at the switch")
    figure.legend(
        handles=_handles(shifted, others, looks), loc="outside upper center", ncols=2 if len(names) < 3 else 4
    )
    return figure


def _never(ds: xr.Dataset) -> bool:
    return int(ds["switch_step"]) < 0


def _groups(shifted: Sequence[xr.Dataset]) -> Groups:
    """The seeds of each setting; those that never switched by themselves."""
    out: Groups = {}
    for ds in shifted:
        settings = tuple(str(ds.attrs.get(n, "")) for n in (*_SETTINGS, "mode", "at"))
        out.setdefault((*settings, _never(ds)), []).append(ds)
    return out


def _kind(ds: xr.Dataset, shifted: Sequence[xr.Dataset]) -> str:
    """What a run is marked by: its patience, unless its switch was given, and its mode where there are several."""
    mode = str(ds.attrs.get("mode", "hard"))
    several = len({str(d.attrs.get("mode", "hard")) for d in shifted}) > 1
    how = "fixed" if ds.attrs["criterion"] == "fixed" else f"W = {int(ds.attrs['patience'])}"
    return f"{how}, {mode}" if several else how


def _looks(shifted: Sequence[xr.Dataset]) -> dict[str, dict[str, Any]]:
    """Colour and marker of every kind of run."""
    kinds = sorted(
        {(str(ds.attrs["criterion"]) == "fixed", int(ds.attrs["patience"]), _kind(ds, shifted)) for ds in shifted}
    )
    names = list(dict.fromkeys(kind for _, _, kind in kinds))
    return {
        kind: {
            "color": family_color(i) if kind != "fixed" else arch_style("shift").color,
            "marker": _MARKERS[i % len(_MARKERS)] if kind != "fixed" else "x",
            "aside": 1.12 ** (i - (len(names) - 1) / 2),
        }
        for i, kind in enumerate(names)
    }


def _mark(look: Mapping[str, Any]) -> dict[str, Any]:
    """What matplotlib needs of a look."""
    return {k: v for k, v in look.items() if k != "aside"}


def _place(ds: xr.Dataset, x: str, look: Mapping[str, Any]) -> float:
    """Where a run stands on the axis: at its switch, or where its training ended; or at its threshold."""
    if x != "switch_step":
        return float(ds.attrs[x]) * float(look["aside"])
    return float(ds["final_step" if _never(ds) else "switch_step"])


def _point(ax: Axes, group: Sequence[xr.Dataset], x: str, name: str, look: Mapping[str, Any]) -> None:
    """The mean over the seeds of a setting, their range both ways, and the seeds; no loss where none switched."""
    known = [ds for ds in group if np.isfinite(float(ds[name]))]
    if not known:
        return
    at, values = np.array([_place(ds, x, look) for ds in known]), np.array([float(ds[name]) for ds in known])
    mark = _mark(look)
    if len(known) > 1:
        ax.plot(at, values, linestyle="none", markersize=2.2, alpha=0.55, clip_on=False, zorder=2.5, **mark)
        ax.vlines(at.mean(), values.min(), values.max(), color=mark["color"], linewidth=0.9, clip_on=False)
        ax.hlines(values.mean(), at.min(), at.max(), color=mark["color"], linewidth=0.9, clip_on=False)
    face = {"markerfacecolor": "white"} if _never(group[0]) else {}
    ax.plot([at.mean()], [values.mean()], linestyle="none", markersize=5, clip_on=False, zorder=3, **mark | face)


def _bands(
    ax: Axes, groups: Groups, shifted: Sequence[xr.Dataset], x: str, name: str, looks: Mapping[str, dict[str, Any]]
) -> None:
    """Along a threshold, the means of each kind joined in a band over its seeds."""
    for kind, look in looks.items():
        at: dict[float, list[float]] = {}
        for ds in (ds for group in groups.values() for ds in group if _kind(ds, shifted) == kind):
            if np.isfinite(float(ds[name])):
                at.setdefault(_place(ds, x, look), []).append(float(ds[name]))
        places = sorted(at)
        if len(places) > 1:
            low, mean, high = (np.array([f(at[p]) for p in places]) for f in (np.min, np.mean, np.max))
            ax.fill_between(places, low, high, color=look["color"], alpha=0.2, linewidth=0)
            ax.plot(places, mean, color=look["color"], linewidth=0.9, zorder=2)


def _level(ax: Axes, arch: str, values: Sequence[float]) -> None:
    """Another architecture: mean and range over its seeds."""
    look = arch_style(arch)
    if len(values) > 1:
        ax.axhspan(min(values), max(values), color=look.color, alpha=0.2, linewidth=0, zorder=1)
    ax.axhline(float(np.mean(values)), color=look.color, linestyle=look.linestyle, linewidth=1.0, zorder=1.5)


def _handles(
    shifted: Sequence[xr.Dataset], others: Mapping[str, Sequence[xr.Dataset]], looks: Mapping[str, dict[str, Any]]
) -> list[Line2D | Patch]:
    """Legend entries: kinds of runs that shift, those that never did, and the other architectures."""
    found: list[Line2D | Patch] = []
    for kind, look in looks.items():
        group = [ds for ds in shifted if _kind(ds, shifted) == kind]
        said = kind.replace("fixed", "at a given step")
        found.append(Line2D([], [], linestyle="none", label=titled(f"shift, {said}", _by_seed(group)), **_mark(look)))
    if any(_never(ds) for ds in shifted):
        found.append(hollow_handle("never switched"))
    for arch, runs in others.items():
        line: dict[str, Any] = {"color": arch_style(arch).color, "linestyle": arch_style(arch).linestyle}
        found.append(Line2D([], [], linewidth=1.0, label=titled(arch, runs), **line))
    return [*found, *band_marks([*others.values(), *_groups(shifted).values()])]


def _by_seed(group: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """One run of each seed."""
    return list({ds.attrs.get("run_seed", i): ds for i, ds in enumerate(group)}.values())
