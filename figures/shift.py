"""What the switch of SHIFT costs and gains: accuracy, compute and the drop, against when it came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import AbsentError, LandscapeError
from landscape.figures.choices import chosen
from landscape.figures.datasets import require_all, titled
from landscape.figures.marks import log_ticks
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


@styled
def shift(
    datasets: Sequence[xr.Dataset],
    *,
    x: Literal["switch_step", "delta1", "delta2"] = "switch_step",
    split: str = "test",
    family: str = "all",
) -> Figure:
    """Final accuracy, training compute and the accuracy lost at the switch, one point per run that shifts.

    Colour and marker are the patience W; crosses switched at a step that was given. A hollow point never switched, and
    stands where its training ended. At one threshold the points of different W stand side by side. Lines are the other
    architectures of the same study, one per run.

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
    figure, axes = grid(1, 3, height=2.6)
    looks = _looks(shifted)
    names = {"accuracy_final": "final accuracy", "flops": "training compute (FLOP)", "accuracy_drop": "accuracy lost"}
    for ax, (name, label) in zip(axes[0], names.items(), strict=True):
        for ds in shifted:
            _point(ax, ds, x, name, looks[_kind(ds)])
        if name != "accuracy_drop":
            for ds in (d for d in datasets if d.attrs["arch"] != "shift"):
                look = arch_style(str(ds.attrs["arch"]))
                ax.axhline(float(ds[name]), color=look.color, linestyle=look.linestyle, linewidth=1.0, zorder=1.5)
        ax.set_ylabel(label)
        ax.set_xlabel(_X[x])
        ax.margins(0.08)
        if x == "switch_step":
            ax.set_xlim(left=0)
        else:
            log_ticks(ax, sorted({float(ds.attrs[x]) for ds in shifted}))
    axes[0][1].set_ylim(bottom=0)
    axes[0][2].axhline(0, color="0.35", linewidth=0.5, zorder=1)
    samples = f"{split} split, " + ("all samples" if family == "all" else f"{family} family")
    axes[0][0].set_title(samples)
    axes[0][2].set_title("at the switch")
    figure.legend(handles=_handles(shifted, datasets, looks), loc="outside upper center", ncols=4)
    return figure


def _kind(ds: xr.Dataset) -> str:
    """What a run is marked by: its patience, unless its switch was given."""
    return "fixed" if ds.attrs["criterion"] == "fixed" else f"W = {int(ds.attrs['patience'])}"


def _looks(shifted: Sequence[xr.Dataset]) -> dict[str, dict[str, Any]]:
    """Colour and marker of every kind of run."""
    patience = sorted({int(ds.attrs["patience"]) for ds in shifted if ds.attrs["criterion"] != "fixed"})
    looks: dict[str, dict[str, Any]] = {
        f"W = {w}": {
            "color": family_color(i),
            "marker": _MARKERS[i % len(_MARKERS)],
            "aside": 1.12 ** (i - (len(patience) - 1) / 2),
        }
        for i, w in enumerate(patience)
    }
    return {**looks, "fixed": {"color": arch_style("shift").color, "marker": "x", "aside": 1.0}}


def _mark(look: dict[str, Any]) -> dict[str, Any]:
    """What matplotlib needs of a look."""
    return {k: v for k, v in look.items() if k != "aside"}


def _point(ax: Axes, ds: xr.Dataset, x: str, name: str, look: dict[str, Any]) -> None:
    """One run in one panel; one that never switched has lost nothing, and no drop."""
    never = int(ds["switch_step"]) < 0
    at = float(ds["final_step" if never else "switch_step"]) if x == "switch_step" else float(ds.attrs[x])
    at *= 1.0 if x == "switch_step" else float(look["aside"])
    value = float(ds[name])
    if np.isfinite(value):
        face = _mark(look) | ({"markerfacecolor": "white"} if never else {})
        ax.plot([at], [value], linestyle="none", markersize=4.5, clip_on=False, zorder=3, **face)


def _handles(
    shifted: Sequence[xr.Dataset], datasets: Sequence[xr.Dataset], looks: dict[str, dict[str, Any]]
) -> list[Line2D]:
    """Legend entries: kinds of runs that shift, those that never did, and the other architectures."""
    used = {_kind(ds) for ds in shifted}
    texts = {"fixed": "shift at a given step"}
    found = [
        Line2D([], [], linestyle="none", label=texts.get(k, f"shift, {k}"), **_mark(look))
        for k, look in looks.items()
        if k in used
    ]
    if any(int(ds["switch_step"]) < 0 for ds in shifted):
        hollow: dict[str, Any] = {"color": "0.35", "marker": "o", "markerfacecolor": "white"}
        found.append(Line2D([], [], linestyle="none", label="never switched", **hollow))
    for arch in dict.fromkeys(str(ds.attrs["arch"]) for ds in datasets if ds.attrs["arch"] != "shift"):
        look = arch_style(arch)
        group = [ds for ds in datasets if ds.attrs["arch"] == arch]
        line: dict[str, Any] = {"color": look.color, "linestyle": look.linestyle}
        found.append(Line2D([], [], linewidth=1.0, label=titled(arch, group), **line))
    return found
