"""The work at one checkpoint: its objective, in the metric asked for, and the answers of all probes asked there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import xarray as xr

from landscape.answers.points import helped
from landscape.answers.question import LossSpec, Question
from landscape.answers.team import Team
from landscape.errors import FallbackWarning, LandscapeError, LostRankError, RunFailedError
from landscape.loss.metric import units_in
from landscape.loss.objective import Objective
from landscape.probes import PROBES
from landscape.probes.base import Context, Probe
from landscape.runs.run import Run

__all__ = [
    "Found",
    "KilledError",
    "Place",
    "answers",
    "answers_in_worker",
    "answers_of_killed",
    "follow",
    "objective_at",
]

Found = tuple[int, int, xr.Dataset | LandscapeError]
"""Index of the request, step, answer."""


class KilledError(RunFailedError):
    """The worker of a checkpoint was killed."""


@dataclass(frozen=True)
class Place:
    """One checkpoint of one objective."""

    run: str
    step: int
    loss: LossSpec
    chunk: int | None

    @classmethod
    def of(cls, question: Question, step: int, chunk: int | None) -> Place:
        """Where a question is asked at a step, in whatever metric."""
        # Workers may have been started in another folder.
        return cls(str(question.run.path.absolute()), step, question.loss.plain, chunk)

    @property
    def order(self) -> tuple[str, ...]:
        """Checkpoints of one objective after each other, so that its compiled products are used again."""
        loss = self.loss
        return (self.run, loss.split, str(loss.samples), loss.dtype, f"{self.step:020}")


def answers_in_worker(
    place: Place, asked: Sequence[tuple[int, Probe, Mapping[str, Any]]], ahead: int | None, caller: int
) -> list[Found]:
    """`answers` on one thread in any process, given what can be sent there and the process that asks."""
    torch.set_num_threads(1)  # workers share the cores; more threads each would collapse under load
    if os.getpid() != caller:  # which answers too, and says it once for all
        warnings.simplefilter("ignore", FallbackWarning)
    run = Run.open(place.run)  # not kept: the folder may hold another run by now
    questions = [(i, Question(run, probe, settings)) for i, probe, settings in asked]
    # Where this was begun before, by a worker that was lost, what it had saved is not computed again.
    saved = {i: ds for i, question in questions if (ds := question.part(place.step)) is not None}
    found = [(i, place.step, ds) for i, ds in saved.items()]
    return [*found, *answers(place, [(i, q) for i, q in questions if i not in saved], ahead=ahead)]


def answers_of_killed(place: Place, asked: Sequence[tuple[int, Probe, Mapping[str, Any]]], *_: Any) -> list[Found]:
    """What a worker had saved at a checkpoint when it was killed, and an error for what it had not."""
    run, found = Run.open(place.run), list[Found]()
    for i, probe, settings in asked:
        saved = Question(run, probe, settings).part(place.step)
        found.append((i, place.step, KilledError() if saved is None else saved))
    return found


def answers(
    place: Place,
    questions: Sequence[tuple[int, Question]],
    *,
    jobs: int = 1,
    ahead: int | None = 0,
    team: Team | None = None,
) -> Iterator[Found]:
    """The answers at one checkpoint, each saved when it is there; a dense Hessian serves all metrics.

    Points of a grid are shared out among `jobs` processes; `ahead` as that of `Objective`. Of a `team` all ranks do
    this together, and its first saves.
    """
    objectives: dict[str, Objective] = {}
    for i, question in questions:
        found = _found(place, question, objectives, jobs, ahead, team)
        if team is not None:
            team.agree(found)
        saved = team is None or team.leads
        if saved and isinstance(found, xr.Dataset) and not question.probe.whole_run:
            question.keep(found, place.step)
        yield i, place.step, found


def follow(team: Team) -> int:
    """Ask with rank 0 whatever it asks, until it ends: its exit code. Nothing is saved."""
    while "end" not in (order := team.hear()):
        place = Place(**order["place"] | {"loss": LossSpec(**order["place"]["loss"])})
        run = Run.open(place.run)
        questions = []
        for i, name, settings in order["asked"]:
            probe = PROBES[name]
            own = probe.settings({k: v for k, v in settings.items() if k in probe.defaults})
            questions.append((i, Question(run, probe, {**settings, **own})))
        for _ in answers(place, questions, team=team):
            pass
    return int(order["end"])


def _found(
    place: Place,
    question: Question,
    objectives: dict[str, Objective],
    jobs: int,
    ahead: int | None,
    team: Team | None,
) -> xr.Dataset | LandscapeError:
    """One answer, or why there is none; `objectives` are those at this place, by metric."""
    metric = question.loss.metric
    try:
        if not objectives:
            objectives["euclidean"] = objective_at(question.run, place, team=team)
            objectives["euclidean"].ahead = ahead
        if metric not in objectives:
            objectives[metric] = question.run.rescaled(objectives["euclidean"], metric, step=place.step)
        objective = objectives[metric]
        if question.probe.pointwise and team is None:
            objective = helped(objective, partial(_there, place), jobs=jobs, question=question)
        return _measure(question, objective, place.step)
    except LostRankError:  # nothing can be asked after it
        raise
    except LandscapeError as error:
        return error


def _there(place: Place) -> Objective:
    """The objective at a place, in any process."""
    return objective_at(Run.open(place.run), place)


_LAST: dict[str, tuple[Any, Objective]] = {}
"""The objective used last by this process: its data, checks, traces and compiled products serve all checkpoints."""


def objective_at(run: Run, place: Place, *, team: Team | None = None) -> Objective:
    """The objective at a checkpoint, in the coordinates of the parameters themselves."""
    loss = place.loss
    # What does not vary, other parameters or buffers, differs between checkpoints: each has an objective of its own.
    held = loss.parameters is not None or run.apart(loss.objective)
    passes = run.passes_at(place.step)  # in a run that shifts, not the same at all checkpoints
    key = (run.id, passes, team is None, replace(place, step=place.step if held else 0))
    if _LAST.get("objective", (None,))[0] != key:
        made = run.objective(
            loss.split,
            n=loss.samples,
            at=place.step if held else None,
            dtype=loss.torch_dtype,
            chunk=place.chunk,
            device=loss.device,
            parameters=loss.parameters,
            loops=passes,
            name=loss.objective,
        )
        _LAST["objective"] = (key, made if team is None else team.share(made))
    objective = _LAST["objective"][1]
    w = run.parameters[run.index(place.step)]
    return objective if held else objective.at(w)


def _measure(question: Question, objective: Objective, step: int) -> xr.Dataset:
    run, probe, loss, options = question.run, question.probe, question.loss, question.options
    if probe.context is not None:
        steps = tuple(question.settings.get("steps", (step,)))
        where = Context(run, objective, loss.split, loss.samples, step, steps, loss.objective, loss.metric)
        options |= probe.context(where)
    ds = probe.function(objective, objective.w0, **options)
    for variable in ds.variables.values():
        variable.attrs["units"] = units_in(loss.metric, variable.attrs["units"], loss=run.loss_units)
    return ds.assign_attrs(question.attributes(), step=step)
