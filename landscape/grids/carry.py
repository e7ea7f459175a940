"""A grid carried out: runs trained, then everything asked of them, resumed, on whatever processes there are."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from landscape.answers.pool import Processes, Workers
from landscape.answers.sweep import answered
from landscape.errors import LandscapeError, RunFailedError
from landscape.grids.grid import Grid
from landscape.grids.plan import Answering, Plan
from landscape.grids.training import trained
from landscape.runs.train import Progress

__all__ = ["Failure", "Outcome", "Standing", "carry_out"]

PATIENCE = 600.0
"""Seconds without a sign of life after which another process that holds a run is not waited for any more."""


@dataclass(frozen=True)
class Failure:
    """What could not be done.

    Attributes:
        what: folder of the run, and the probe, if it is one.
        error: why.
    """

    what: str
    error: LandscapeError


@dataclass(frozen=True)
class Standing:
    """How far a grid is.

    Attributes:
        phase: "runs" while they are trained, then "answers".
        done: how many, failed ones included.
        total: of how many.
        share: of all work of this phase, running runs by their steps.
        running: what is going on, for people.
    """

    phase: str
    done: int
    total: int
    share: float
    running: str


@dataclass(frozen=True)
class Outcome:
    """What came of a grid.

    Attributes:
        runs: number of runs in the grid.
        trained: of them those that this call trained, or went on with, to their end.
        answers: single answers (one checkpoint, one metric) that the grid asks for.
        computed: of them those that this call computed.
        stored: of them those that were there before.
        failures: what could not be done.
    """

    runs: int
    trained: int
    answers: int
    computed: int
    stored: int
    failures: tuple[Failure, ...]


def carry_out(
    grid: Grid,
    folder: str | os.PathLike[str],
    *,
    jobs: int = 1,
    workers: Workers | None = None,
    chunk: int | None = None,
    plan: Plan | None = None,
    progress: Callable[[Standing], None] | None = None,
) -> Outcome:
    """Train all runs of a grid that are not trained, then answer all that is asked of them and not answered.

    A run that fails is reported and stops no other. Interrupted or killed, the next call goes on: whatever was
    finished, a run, a checkpoint, an answer, is not computed again, and the numbers are the same.

    Args:
        grid: what to do.
        folder: of the run folders.
        jobs: processes on this machine, one thread each.
        workers: other processes, such as those of a `landscape.grids.cluster.Cluster`.
        chunk: samples evaluated at once by probes; bounds memory and changes no number.
        plan: what is done already, if it was looked at just now.
        progress: told how far it is.

    Example:
        >>> import tempfile
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 2}
        >>> grid = Grid.make(base=small, vary={"seed": [0, 1]}, probes=[{"name": "samples", "at": ["last"]}])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first, second = carry_out(grid, folder), carry_out(grid, folder)
        >>> (first.trained, first.computed), (second.trained, second.computed, second.stored)
        ((2, 2), (0, 0, 2))
    """
    plan = Plan.of(grid, folder) if plan is None else plan
    report = progress or (lambda _: None)
    failures = [Failure(str(t.path), t.error) for t in plan.trainings if t.error is not None]
    before = sum(t.done for t in plan.trainings)
    if before + len(failures) < len(plan.trainings):
        failures += _train(plan, workers or Processes(jobs, here=False), report)
        plan = Plan.of(grid, folder)
    told = {failure.what for failure in failures}
    for t in plan.trainings:
        if not t.done and str(t.path) not in told:  # a worker sees another folder of this name
            reason = f"it is not there after its training. Do all workers see {t.path.absolute()}?"
            failures.append(Failure(str(t.path), t.error or RunFailedError(reason)))
    asked = [a for a in plan.answerings if a.training.done]
    computed, more = _answer(asked, jobs, workers, chunk, report)
    return Outcome(
        runs=len(plan.trainings),
        trained=sum(t.done for t in plan.trainings) - before,
        answers=sum(a.steps for a in plan.answerings),
        computed=computed,
        stored=sum(a.stored for a in plan.answerings),
        failures=(*failures, *more),
    )


def _label(a: Answering) -> str:
    metric = "" if a.metric == "euclidean" else f" [{a.metric}]"
    return f"{a.training.path} {a.asked.name}{metric}"


def _train(plan: Plan, workers: Workers, report: Callable[[Standing], None]) -> list[Failure]:
    """Train what is left, and say what failed."""
    left = {t.path: t for t in plan.trainings if not t.done and t.error is None}
    done, failures = len(plan.trainings) - len(left), list[Failure]()
    reached = dict.fromkeys(left, 0.0)
    over: set[Path] = set()
    running: dict[Path, str] = {}

    def tell() -> None:
        share = sum(reached.values()) / len(left)
        report(Standing("runs", done, len(plan.trainings), share, _some(running)))

    def on_progress(path: Path, p: Progress) -> None:
        if path not in over:  # its file is read a moment later
            reached[path] = p.step / p.total
            running[path] = f"{path.name} {p.step}/{p.total}"
            tell()

    tell()
    jobs_list = [(t.config, path) for path, t in left.items()]
    for path, error in trained(jobs_list, workers=workers, patience=PATIENCE, progress=on_progress):
        done, reached[path] = done + 1, 1.0
        over.add(path)
        running.pop(path, None)
        if error is not None:
            failures.append(Failure(str(path), error))
        tell()
    return failures


def _answer(
    asked: list[Answering], jobs: int, workers: Workers | None, chunk: int | None, report: Callable[[Standing], None]
) -> tuple[int, list[Failure]]:
    """Answer what is not stored; how many answers that were, and what failed."""
    todo = [a for a in asked if a.error is None and not a.finished]
    failures = [Failure(_label(a), a.error) for a in asked if a.error is not None]
    requests = [a.request for a in todo if a.request is not None]
    total, stored = sum(a.steps for a in asked), sum(a.stored for a in asked)
    left = sum(a.steps - a.stored for a in todo)
    now = [a.stored for a in todo]

    def on_progress(i: int, done: int, of: int) -> None:
        now[i] = done
        computed = sum(now) - sum(a.stored for a in todo)
        note = f"{todo[i].training.path.name} {todo[i].asked.name} {done}/{of}"
        report(Standing("answers", stored + computed, total, computed / left if left else 1.0, note))

    for i, found in answered(requests, jobs=jobs, workers=workers, chunk=chunk, progress=on_progress):
        if isinstance(found, LandscapeError):
            failures.append(Failure(_label(todo[i]), found))
    return sum(now) - sum(a.stored for a in todo), failures


def _some(running: dict[Path, str], most: int = 3) -> str:
    """The first of what is running."""
    said = list(running.values())
    return ", ".join(said[:most]) + (f" and {len(said) - most} more" if len(said) > most else "")
