"""What of a grid is done, and what is left: told by the files, of which headings alone are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from landscape.answers.sweep import Request
from landscape.errors import LandscapeError
from landscape.grids.asked import Asked, without_start
from landscape.grids.grid import Grid
from landscape.runs.reading import FILE_NAME
from landscape.runs.run import Run
from landscape.runs.train import existing_run
from landscape.training.config import RunConfig

__all__ = ["Answering", "Plan", "Training", "answerings"]


@dataclass(frozen=True, eq=False)
class Training:
    """A run of a grid.

    Attributes:
        config: of the run.
        path: its folder.
        run: what is there of it, None if nothing is.
        reached: its last checkpoint; its last step only when it is trained to its end.
        error: why it cannot be trained, None if it can.
    """

    config: RunConfig
    path: Path
    run: Run | None = None
    reached: int = 0
    error: LandscapeError | None = None

    @property
    def done(self) -> bool:
        """Whether it is trained to its end."""
        return self.reached == self.config.steps


@dataclass(frozen=True, eq=False)
class Answering:
    """A probe asked of a run in one metric.

    Attributes:
        asked: what is asked.
        metric: in which coordinates.
        training: of which run.
        steps: at how many checkpoints; of a probe of the whole run 1.
        stored: of how many the answer is on disk.
        request: what there is to answer; None as long as the run is not trained.
        error: why it cannot be asked, None if it can.
    """

    asked: Asked
    metric: str
    training: Training
    steps: int
    stored: int = 0
    request: Request | None = None
    error: LandscapeError | None = None

    @property
    def finished(self) -> bool:
        """Whether all is on disk, and put together."""
        return self.request is not None and self.stored == self.steps and not self.request.question.partial.exists()


@dataclass(frozen=True, eq=False)
class Plan:
    """A grid in a folder of runs: what is done and what is left.

    Attributes:
        trainings: the runs, in the grid's order.
        answerings: what is asked of them.

    Example:
        >>> plan = Plan.of(Grid.make(base={"steps": 9}, probes=[{"name": "samples"}]), "runs-to-come")
        >>> [t.path.name for t in plan.trainings], [(a.asked.name, a.steps, a.stored) for a in plan.answerings]
        (['markov-single-s0'], [('samples', 10, 0)])
    """

    trainings: tuple[Training, ...]
    answerings: tuple[Answering, ...]

    @property
    def done(self) -> bool:
        """Whether nothing is left that could be done."""
        trained = all(t.done or t.error is not None for t in self.trainings)
        return trained and all(a.finished or a.error is not None for a in self.answerings if a.training.done)

    @classmethod
    def of(cls, grid: Grid, folder: str | os.PathLike[str]) -> Plan:
        """What of a grid is in a folder. What is damaged is an `error` of its run or answer, and raises nothing."""
        trainings = tuple(_training(config, Path(folder) / name) for name, config in grid.configs.items())
        return cls(trainings, tuple(a for training in trainings for a in answerings(grid, training)))


def _training(config: RunConfig, path: Path) -> Training:
    try:
        run = existing_run(config, path) if (path / FILE_NAME).exists() else None
    except LandscapeError as error:
        return Training(config, path, error=error)
    if run is None:
        return Training(config, path)
    if run.complete:
        return Training(config, path, run, config.steps)
    steps = run.steps
    return Training(config, path, run, min(int(steps[-1]), config.steps - 1) if len(steps) else 0)


def answerings(grid: Grid, training: Training) -> list[Answering]:
    """What is asked of a run, and how much of it is on disk."""
    out = []
    for asked in grid.probes:
        if asked.of(training.config):
            ended = training.run if training.done else None
            out += _planned(asked, training) if ended is None else _stored(asked, training, ended)
    return out


def _planned(asked: Asked, training: Training) -> list[Answering]:
    """Of a run that is yet to be trained."""
    steps = asked.steps(training.config.checkpoint_steps().tolist())
    return [
        Answering(asked, m, training, asked.pieces(without_start(steps, m, asked_for=asked.at is not None)))
        for m in asked.metrics
    ]


def _stored(asked: Asked, training: Training, run: Run) -> list[Answering]:
    out = []
    for loss in asked.losses():
        steps, stored, request, error = 1, 0, None, None
        try:
            request = asked.request(run, loss)
            steps = len(request.steps)
            stored = len(request.question.stored_steps() & {*request.steps})
        except LandscapeError as found:
            error = found
        out.append(Answering(asked, loss.metric, training, steps, stored, request, error))
    return out
