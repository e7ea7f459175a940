"""The work at one checkpoint: its objective, in the metric asked for, and the answers of all probes asked there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import xarray as xr

from landscape.answers.files import Question
from landscape.errors import FallbackWarning, LandscapeError, RunFailedError
from landscape.loss.metric import units_in
from landscape.loss.objective import Objective
from landscape.probes.base import Context, Probe
from landscape.runs.run import Run

__all__ = ["DTYPES", "Found", "KilledError", "Place", "answers", "answers_in_worker", "answers_of_killed"]

DTYPES = {"float64": torch.float64, "float32": torch.float32}
Found = tuple[int, int, xr.Dataset | LandscapeError]
"""Index of the request, step, answer."""


class KilledError(RunFailedError):
    """The worker of a checkpoint was killed."""


@dataclass(frozen=True)
class Place:
    """One checkpoint of one objective."""

    run: str
    step: int
    split: str
    samples: int | None
    dtype: str
    device: str
    parameters: str | None
    chunk: int | None

    @classmethod
    def of(cls, question: Question, step: int, chunk: int | None) -> Place:
        """Where a question is asked at a step."""
        s = question.settings
        names = ("split", "samples", "dtype", "device", "parameters")
        return cls(
            run=str(question.run.path.absolute()),  # workers may have been started in another folder
            step=step,
            chunk=chunk,
            **{n: s[n] for n in names},
        )

    @property
    def order(self) -> tuple[str, ...]:
        """Checkpoints of one objective after each other, so that its compiled products are used again."""
        return (*(str(getattr(self, f)) for f in ("run", "split", "samples", "dtype")), f"{self.step:020}")


def answers_in_worker(place: Place, asked: Sequence[tuple[int, Probe, Mapping[str, Any]]], caller: int) -> list[Found]:
    """`answers` on one thread in any process, given what can be sent there and the process that asks."""
    torch.set_num_threads(1)  # workers share the cores; more threads each would collapse under load
    if os.getpid() != caller:  # which answers too, and says it once for all
        warnings.simplefilter("ignore", FallbackWarning)
    run = Run.open(place.run)  # not kept: the folder may hold another run by now
    return list(answers(place, [(i, Question(run, probe, settings)) for i, probe, settings in asked]))


def answers_of_killed(place: Place, asked: Sequence[tuple[int, Probe, Mapping[str, Any]]], _caller: int) -> list[Found]:
    """What a worker had saved at a checkpoint when it was killed, and an error for what it had not."""
    run, found = Run.open(place.run), list[Found]()
    for i, probe, settings in asked:
        saved = Question(run, probe, settings).parts().get(place.step)
        found.append((i, place.step, KilledError() if saved is None else saved))
    return found


def answers(place: Place, questions: Sequence[tuple[int, Question]]) -> Iterator[Found]:
    """The answers at one checkpoint, each saved when it is there; a dense Hessian serves all metrics."""
    objectives: dict[str, Objective] = {}
    for i, question in questions:
        try:
            metric = question.settings.get("metric", "euclidean")
            if not objectives:
                objectives["euclidean"] = _objective(question.run, place)
            if metric not in objectives:
                objectives[metric] = question.run.rescaled(objectives["euclidean"], metric, step=place.step)
            ds = _measure(question, objectives[metric], place.step)
        except LandscapeError as error:
            yield i, place.step, error
            continue
        if not question.probe.whole_run:
            question.keep(ds, place.step)
        yield i, place.step, ds


_LAST: dict[str, tuple[Any, Objective]] = {}
"""The objective used last by this process: its data, checks, traces and compiled products serve all checkpoints."""


def _objective(run: Run, place: Place) -> Objective:
    """The objective at a checkpoint."""
    held = place.parameters is not None  # the parameters that do not vary differ between checkpoints
    loops = run.loops_at(place.step)  # in a run that shifts, not the same at all checkpoints
    key = (run.id, loops, replace(place, step=place.step if held else 0))
    if _LAST.get("objective", (None,))[0] != key:
        _LAST["objective"] = (
            key,
            run.objective(
                place.split,
                n=place.samples,
                at=place.step if held else None,
                dtype=DTYPES[place.dtype],
                chunk=place.chunk,
                device=place.device,
                parameters=place.parameters,
                loops=loops,
            ),
        )
    objective = _LAST["objective"][1]
    w = run.parameters[run.index(place.step)]
    return objective if held else objective.at(w)


def _measure(question: Question, objective: Objective, step: int) -> xr.Dataset:
    run, probe, s = question.run, question.probe, dict(question.settings)
    steps = tuple(s.pop("steps", ()))
    split, n = s.pop("split"), s.pop("samples")
    metric = s.pop("metric", "euclidean")
    for name in ("dtype", "step", "device", "parameters"):
        s.pop(name, None)
    if probe.context is not None:
        s |= probe.context(Context(run, objective, split, n, step, steps or (step,)))
    ds = probe.function(objective, objective.w0, **s)
    for variable in ds.variables.values():
        variable.attrs["units"] = units_in(metric, variable.attrs["units"])
    return ds.assign_attrs(question.attributes(), step=step)
