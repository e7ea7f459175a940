"""A figure of any answer in one line, in a notebook or a script; the same code as `landscape plot`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import xarray as xr

from landscape.answers.files import load
from landscape.errors import AbsentError, LandscapeError
from landscape.figures import FIGURES, PAPER, FigureSpec
from landscape.runs.run import Run
from landscape.settings import coerce, lookup
from landscape.studies.gathered import gathered
from landscape.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Answer", "checked_options", "drawn", "plot"]

Answer = xr.Dataset | str | os.PathLike[str] | Run
"""A probe's dataset, the path of a stored one, or a run, of which the metrics are meant."""


def plot(
    answer: Answer | Sequence[Answer] | Mapping[str, Answer],
    figure: str | None = None,
    *,
    labels: Sequence[str] | None = None,
    **options: Any,
) -> Figure:
    """A figure of what a probe answered, with or without a run behind it.

    ========================  ==============  ================================================================
    answer of                 figure          options
    ========================  ==============  ================================================================
    `spectrum`                `eigenvalues`   `scale` of the step axis, "symlog" or "linear"
    `density`                 `density`       `steps`; `width` of the kernel in decades
    `valley`                  `widths`        `step`; `rise` above the floor
    `samples`                 `trajectories`  `variable`, "loss" or "correct"; `scale`
    `surface`                 `surface`       `levels`, "auto", "linear" or "log"; `surface3d`, with `azimuth` and
                                              `elevation`; `cuts`, with `scale`; `frames`, with `most` panels in a row
    `entropy`                 `entropy`       `scale`
    `force`                   `force`         `tau`, upper end of the windows; `scale`
    `evolution`               `evolution`     `scale`
    `split`                   `split`         `scale`; and `kappa`, with `step`
    `sharpness`               `sharpness`     `scale`
    `hopping`                 `hopping`       `step`; `modes`, how many; `scale`
    `alignment`               `alignment`     `scale`
    `loops`                   `loops`         `steps`, which checkpoints
    `length`                  `length`        `step`
    `examples`                `examples`      `step`
    `landscape.connect`       `connect`       `scale` of the loss, "auto", "linear" or "log"
    a `verdict`               `verdict`       `setting`; `a` and `b`, labels of a pair
    a run, or its `metrics`   `learning`      `x`, "step", "flops", "seconds" or "tokens"; `scale`; `split`
    ========================  ==============  ================================================================

    Axes: eigenvalues, densities and sums are on logarithmic or symmetric logarithmic axes, and their labels say where
    these are linear; training steps are linear up to the first and logarithmic beyond. Answers at one point of
    parameters need no steps. Bands are ranges over the seeds of one `arch`; other runs are drawn apart.

    The paper's figures (`landscape.figures.PAPER`: "fig1", "fig3", ..) are drawn from answers of several probes, in any
    order, or from runs, of which the stored answers are taken.

    Args:
        answer: one answer or several, drawn side by side; a mapping gives each its label.
        figure: its name, where an answer can be drawn in several ways; `landscape.figures.FIGURES` lists them, and
            `landscape.figures.PAPER` those of the paper.
        labels: of the answers, in place of the names of their architectures or runs; each is then drawn apart.
        options: of the figure.

    Returns:
        A matplotlib `Figure`, which a notebook shows: ``.savefig("name.pdf")`` keeps it.

    Raises:
        LandscapeError: for answers of different probes, an unknown figure or option, or answers that do not fit it.

    Example:
        >>> import torch
        >>> from landscape import Objective
        >>> from landscape.probes import spectrum
        >>> model = torch.nn.Linear(3, 1)
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (torch.eye(3), torch.ones(3, 1)))
        >>> found = spectrum(objective, objective.w0, seed=0, k=2)
        >>> plot({"mine": found}).axes[0].get_title(loc="left")
        'mine'
    """
    if isinstance(answer, Mapping) and not isinstance(answer, xr.Dataset):
        labels, answer = list(map(str, answer)) if labels is None else labels, list(answer.values())
    answers = answer if isinstance(answer, Sequence) and not isinstance(answer, str) else [answer]
    if figure in PAPER and answers and all(isinstance(a, Run) for a in answers):
        if labels is not None:
            raise LandscapeError(
                "expected no labels for runs in a figure of the paper: it groups them by architecture."
            )
        runs = Study(a for a in answers if isinstance(a, Run))
        found = gathered(runs, PAPER[figure].probes, optional=PAPER[figure].optional)
        return drawn(figure, found.answers, options)
    datasets = [_dataset(a) for a in answers]
    if labels is not None:
        if len(labels) != len(datasets):
            raise LandscapeError(f"expected one label for each of {len(datasets)} answers, found {len(labels)}.")
        datasets = [_labelled(ds, label) for ds, label in zip(datasets, labels, strict=True)]
    if figure in PAPER:
        by_probe: dict[str, list[xr.Dataset]] = {}
        for ds in datasets:
            by_probe.setdefault(str(ds.attrs.get("probe", "unknown")), []).append(ds)
        return drawn(figure, by_probe, options)
    spec = _spec(datasets, figure)
    return spec.function(datasets, **checked_options(spec.name, options))


def drawn(name: str, answers: Mapping[str, Sequence[xr.Dataset]], options: Mapping[str, Any]) -> Figure:
    """A figure by its name from the answers of the probes that it needs.

    Raises:
        AbsentError: if the answers of a probe that it needs are not there.
        LandscapeError: for an option that it does not know, or answers that do not fit it.
    """
    settings = checked_options(name, options)
    if name in FIGURES:
        return FIGURES[name].function(list(answers.get(FIGURES[name].probe, ())), **settings)
    spec = PAPER[name]
    if absent := [probe for probe in spec.probes if not answers.get(probe)]:
        raise AbsentError(f"{name} is drawn from answers of {', '.join(spec.probes)}: found none of {absent[0]!r}.")
    return spec.function({p: list(answers[p]) for p in (*spec.probes, *spec.optional) if answers.get(p)}, **settings)


def checked_options(figure: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a figure with values of the right types.

    Raises:
        LandscapeError: for a name or a type that the figure does not know.

    Example:
        >>> checked_options("density", {"width": 1})
        {'width': 1.0}
    """
    function = (FIGURES[figure] if figure in FIGURES else PAPER[figure]).function
    valid = {n: p for n, p in signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    hints = get_type_hints(function)
    out = {}
    for key, value in given.items():
        lookup(valid, key, kind=f"setting of figure {figure!r}:")
        out[key] = coerce(value, hints[key], where=f"{figure}.{key}")
    return out


def _dataset(answer: Any) -> xr.Dataset:
    if isinstance(answer, xr.Dataset):
        return answer
    if isinstance(answer, Run):
        return answer.metrics
    if isinstance(answer, str | os.PathLike):
        path = Path(answer)
        return Run.open(path).metrics if path.is_dir() else load(path)
    raise LandscapeError(
        f"expected an answer of a probe (a Dataset), the path of one or a run, found {type(answer).__name__}."
    )


def _labelled(ds: xr.Dataset, label: str) -> xr.Dataset:
    """Under a name of its own, which no seed joins with others."""
    ds = ds.copy()
    ds.attrs = {k: v for k, v in ds.attrs.items() if k not in ("arch", "run_seed")} | {"run": str(label)}
    return ds


def _spec(datasets: Sequence[xr.Dataset], figure: str | None) -> FigureSpec:
    """The figure of this name, or the one that draws what the probe answered."""
    if not datasets:
        raise LandscapeError("expected at least one answer to draw, found none.")
    probes = {str(ds.attrs.get("probe", "unknown")) for ds in datasets}
    if figure is not None:
        return lookup(FIGURES, figure, kind="figure")
    if len(probes) > 1:
        raise LandscapeError(f"expected answers of one probe, found {', '.join(sorted(probes))}. Draw each apart.")
    (probe,) = probes
    found = [spec for spec in FIGURES.values() if spec.probe == probe]
    if not found:
        raise LandscapeError(
            f"expected an answer of a probe that has a figure, found one of {probe!r}. Name the figure: "
            f"{', '.join(FIGURES)}."
        )
    return found[0]
