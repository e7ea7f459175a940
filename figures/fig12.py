"""The paper's Figures 12 to 16: algorithmic tasks, during training and against the length of the query."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import AbsentError
from landscape.figures.choices import chosen
from landscape.figures.datasets import by_arch, require_all
from landscape.figures.length import NEEDED, check_alike, draw_lengths, mark_trained
from landscape.figures.marks import arch_curves, step_axis
from landscape.figures.style import NEUTRAL, PAGE, sheet, styled

__all__ = ["fig12_16", "used"]

_CURVES = {"accuracy": ("step", "split", "family"), "step": ("step",)}


@styled
def fig12_16(answers: Mapping[str, Sequence[xr.Dataset]], *, split: str = "test") -> Figure:
    """One row per task: accuracy during training (left), and at the end against the length of the query (right).

    Left, lines are means over seeds in a band from minimum to maximum, on queries of the split's lengths. Right, with
    the model's own number of loops, bands reach from the lowest to the highest end of the seeds' 95 % intervals; the
    vertical line is the longest query of training. A row without a right panel was not probed for it.

    Args:
        answers: ``metrics`` and, if there, ``length`` of every run, of one or more tasks.
        split: the samples of the left column.

    Raises:
        AbsentError: if no run is of a task with lengths.
        LandscapeError: if runs of one task lack what is drawn, or seeds differ in lengths.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, plot, train
        >>> task = {"name": "parity", "max_train_length": 2, "test_length": 3, "increase_every": 2, "n_test": 8}
        >>> config = RunConfig.make(task=task, model={"name": "gpt", "width": 4, "heads": 1}, steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     figure = plot(train(config, folder), "fig12-16")
        >>> figure.axes[0].get_title(loc="left")
        'parity'
    """
    measured = require_all(list(answers["length"]), NEEDED) if answers.get("length") else []
    tasks, lengths = _by_task(used(answers)["metrics"]), _by_task(measured)
    if not tasks:
        raise AbsentError(
            "expected runs of an algorithmic task, found none. Train one, such as `--preset parity-quick`."
        )
    figure = sheet(PAGE, 1.75 * len(tasks) + 0.5)
    axes = figure.subplots(len(tasks), 2, squeeze=False, sharey=True)
    labels: dict[str, Line2D | Patch] = {}
    for row, (task, group) in zip(axes, tasks.items(), strict=True):
        _training(row[0], [chosen(ds, split, "all") for ds in require_all(group, _CURVES)])
        row[0].set_title(task)
        row[0].set_ylabel("accuracy")
        labels |= {str(label): h for h, label in zip(*row[0].get_legend_handles_labels(), strict=True)}
        if task in lengths:
            _lengths(row[1], lengths[task])
        else:
            row[1].remove()
    axes[0][0].set_ylim(-0.04, 1.04)
    marks = [*labels.values()]
    if lengths:
        marks.append(Patch(facecolor=NEUTRAL, alpha=0.2, label="right: 95 % interval, all seeds"))
        marks.append(Line2D([], [], color=NEUTRAL, linestyle=(0, (4, 2)), linewidth=0.8, label="longest in training"))
    said = {str(ds["accuracy"].attrs.get("long_name", "accuracy")) for group in tasks.values() for ds in group}
    title = textwrap.fill("accuracy: " + " or ".join(sorted(said)), 100)
    figure.legend(handles=marks, loc="outside upper center", ncols=2, title=title)
    return figure


def used(answers: Mapping[str, Sequence[xr.Dataset]]) -> dict[str, list[xr.Dataset]]:
    """Answers of tasks that have lengths, as their own answers tell, or the accuracy of whole answers."""
    lengths = _by_task(answers.get("length", ()))
    tasks = {t for t, group in _by_task(answers["metrics"]).items() if t in lengths or _of_answers(group)}
    return {probe: [ds for ds in found if str(ds.attrs.get("task", "")) in tasks] for probe, found in answers.items()}


def _by_task(datasets: Sequence[xr.Dataset]) -> dict[str, list[xr.Dataset]]:
    """Runs of each task, in order of first appearance."""
    out: dict[str, list[xr.Dataset]] = {}
    for ds in datasets:
        out.setdefault(str(ds.attrs.get("task", "")), []).append(ds)
    return out


def _of_answers(group: Sequence[xr.Dataset]) -> bool:
    """Whether what counts as accurate is a whole answer, as it is for tasks with questions and answers."""
    said = [str(ds["accuracy"].attrs.get("long_name", "")) for ds in group if "accuracy" in ds]
    return bool(said) and all(text.startswith("share of samples") for text in said)


def _training(ax: Axes, group: Sequence[xr.Dataset]) -> None:
    for arch, runs in by_arch(group).items():
        arch_curves(ax, arch, runs, "accuracy")
    steps = np.unique(np.concatenate([ds["step"].values for ds in group])).astype(float)
    ax.set_xlabel(step_axis(ax, steps, scale="linear", ticks=False))


def _lengths(ax: Axes, group: Sequence[xr.Dataset]) -> None:
    last = [ds.isel(step=-1) for ds in group]
    for arch, runs in by_arch(last).items():
        check_alike(runs)
        draw_lengths(ax, arch, [ds.sel(loops=0) for ds in runs])
    mark_trained(ax, last)
    ax.set_xlabel("length of the query")
    steps = sorted({int(ds["step"]) for ds in last})
    ax.set_title(f"own number of loops, step {' or '.join(map(str, steps))}")
