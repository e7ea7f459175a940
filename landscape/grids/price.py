"""What a grid will take before it is begun: updates and products are timed here, once for each kind, and multiplied."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from landscape.answers.question import LossSpec
from landscape.answers.rates import KEEPING, LOAD, Rates, measured_rates
from landscape.errors import LandscapeError
from landscape.grids.plan import Answering, Plan, Training
from landscape.probes import PROBES
from landscape.probes.base import Counts, Extent, Span
from landscape.training.config import RunConfig
from landscape.training.evaluation import Evaluator
from landscape.training.setup import Setup
from landscape.training.trainer import Trainer

__all__ = ["Price", "price", "together"]

WORKER = 6.0
"""Seconds until another process has imported torch, at most."""
TIMED = 3
"""Updates that are timed."""
NOTHING: Span = (0.0, 0.0)
UNKNOWN: Span = (0.0, math.inf)


@dataclass(frozen=True, eq=False)
class Price:
    """Seconds of one process for what is left of a grid, from least to most; without an upper end where nobody knows.

    Attributes:
        trainings: of each run that is not trained to its end.
        answerings: of each probe that is not answered everywhere; without what is done once per run.
        once: building the loss of each run that is probed, with its checks.
        timed: how many kinds of runs and losses were timed.
        errors: what could not be timed, by what it is.
    """

    trainings: Mapping[Training, Span]
    answerings: Mapping[Answering, Span]
    once: Mapping[str, float]
    timed: int
    errors: Mapping[str, LandscapeError]

    def seconds(self, *, jobs: int) -> Span:
        """Of all together in so many processes, each with a core of its own."""
        first, second = self.training(jobs=jobs), self.answering(jobs=jobs)
        return first[0] + second[0], first[1] + second[1]

    def training(self, *, jobs: int) -> Span:
        """Of the runs."""
        return together(self.trainings.values(), jobs=jobs)

    def answering(self, *, jobs: int) -> Span:
        """Of the answers; a checkpoint is the piece that one process takes."""
        if not self.answerings:
            return NOTHING
        low, high = _sum(self.answerings.values())
        pieces = sum(a.steps - a.stored for a in self.answerings)
        jobs, once = max(1, min(jobs, pieces)), sum(self.once.values())
        longest = max(s[1] / (a.steps - a.stored) for a, s in self.answerings.items())
        beside = WORKER + longest if jobs > 1 else 0.0
        # At worst every process builds the loss of every run.
        return (low + once) / jobs, high / jobs + 2 * once + beside


def together(spans: Any, *, jobs: int) -> Span:
    """Seconds of pieces of work in so many processes: at worst the longest comes last.

    Example:
        >>> together([(1.0, 2.0), (3.0, 4.0)], jobs=1), together([(1.0, 2.0), (3.0, 4.0)], jobs=2)
        ((4.0, 6.0), (3.0, 13.0))
    """
    known = list(spans)
    if not known:
        return NOTHING
    low, high = _sum(known)
    jobs = max(1, min(jobs, len(known)))
    beside = WORKER + max(s[1] for s in known) if jobs > 1 else 0.0
    return max(low / jobs, max(s[0] for s in known)), high / jobs + beside


def _sum(spans: Any) -> Span:
    known = list(spans)
    return sum(s[0] for s in known), sum(s[1] for s in known)


def price(plan: Plan, *, chunk: int | None = None) -> Price:
    """Time a few updates and products of each kind of run and loss, and multiply. Nothing is written.

    Runs are of one kind if they differ in seed, learning rate and the like. A run that shifts takes between what it
    would with one pass and with all its loops.

    Example:
        >>> from landscape.grids.grid import Grid
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 20}
        >>> plan = Plan.of(Grid.make(base=small, vary={"seed": [0, 1]}, probes=[{"name": "samples"}]), "runs-to-come")
        >>> found = price(plan)
        >>> found.timed, 0 < found.seconds(jobs=1)[0] < found.seconds(jobs=1)[1]
        (2, True)
    """
    known: dict[str, Any] = {}
    errors: dict[str, LandscapeError] = {}

    def once(key: str, measure: Callable[[], Any], what: str) -> Any:
        """What was measured for this kind, None if it could not be."""
        if key not in known:
            try:
                known[key] = measure()
            except LandscapeError as error:
                known[key], errors[what] = None, error
        return known[key]

    trainings = {}
    for t in plan.trainings:
        if not t.done and t.error is None:
            rates = [once(f"run {_kind(c)}", partial(_timed_updates, c), t.path.name) for c in _stages(t.config)]
            trainings[t] = _training(t, [r for r in rates if r is not None])
    answerings, built = {}, dict[str, float]()
    hessians: set[str] = set()
    for a in plan.answerings:
        if a.stored < a.steps and a.error is None and a.training.error is None:
            loss = replace(next(x for x in a.asked.losses() if x.metric == a.metric), metric="euclidean")
            found = [
                once(f"loss {_loss_kind(c, loss)}", partial(_timed_loss, c, loss, chunk), a.training.path.name)
                for c in _stages(a.training.config)
            ]
            place = f"{a.training.path} {loss}"
            answerings[a] = _answering(a, [r for r in found if r is not None], shared=place in hessians)
            hessians |= {place} if any(r is not None and _dense(a, r) for r in found) else set()
            built[place] = max((r.once for r in found if r is not None), default=0.0)
    return Price(trainings, answerings, built, len(known), errors)


def _stages(config: RunConfig) -> list[RunConfig]:
    """The configs between which the cost of a run lies: its own, of one that shifts before and after the switch."""
    if config.shift is None:
        return [config]
    try:
        return [
            replace(config, arch="single", shift=None, model=replace(config.model, loops=1)),
            replace(config, arch="looped", shift=None),
        ]
    except LandscapeError:  # a setting that is nothing without the other
        return [config]


def _kind(config: RunConfig) -> str:
    """What the time of an update depends on."""
    values = config.to_dict()
    names = ("task", "model", "batch", "gradient", "dtype", "device", "projection")
    return json.dumps([*(values[n] for n in names), config.optimizer.name], sort_keys=True)


def _loss_kind(config: RunConfig, loss: LossSpec) -> str:
    values = config.to_dict()
    return json.dumps([values["task"], values["model"], vars(loss)], sort_keys=True)


@dataclass(frozen=True)
class _Updates:
    """Seconds of an update, least and most of a few; of an evaluation, and of what comes before the first update."""

    update: Span
    evaluation: float
    start: float


def _timed_updates(config: RunConfig) -> _Updates:
    begun = time.perf_counter()
    trainer = Trainer(config)
    trainer.rehearse()
    trainer.advance()  # the first one loads what the optimiser needs
    evaluate = Evaluator(trainer)
    evaluate()
    start = time.perf_counter() - begun
    updates = [_seconds(trainer.advance) for _ in range(min(TIMED, config.steps - 1))] or [start]
    return _Updates((min(updates), max(updates)), _seconds(evaluate), start)


def _timed_loss(config: RunConfig, loss: LossSpec, chunk: int | None) -> Rates:
    begun = time.perf_counter()
    objective = Setup(config).objective(
        loss.split, n=loss.samples, dtype=loss.torch_dtype, device=loss.device, parameters=loss.parameters, chunk=chunk
    )
    return measured_rates(objective, objective.w0, once=time.perf_counter() - begun)


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _training(t: Training, rates: list[_Updates]) -> Span:
    """What is left of a run."""
    if not rates:
        return UNKNOWN
    stops = sum(s > t.reached for s in t.config.evaluation_steps().tolist())
    updates = t.config.steps - t.reached
    low = min(r.start + updates * r.update[0] + stops * r.evaluation for r in rates)
    high = max(r.start + updates * r.update[1] + stops * (r.evaluation + KEEPING) for r in rates)
    return LOAD[0] * low, LOAD[1] * high


def _answering(a: Answering, rates: list[Rates], *, shared: bool) -> Span:
    """What is left of a probe in one metric; `shared`: the Hessian may be that of another one, already counted."""
    spans = [span for r in rates for span in _one_answer(a, r, shared=shared)]
    if not spans:
        return UNKNOWN
    left = a.steps - a.stored
    return left * min(s[0] for s in spans), left * max(s[1] for s in spans)


def _one_answer(a: Answering, rates: Rates, *, shared: bool) -> Iterator[Span]:
    if (counts := _counts(a, rates)) is None or (rates.failed and (counts.products[1] or counts.dense)):
        return
    low, high = rates.seconds(counts)
    if shared and counts.dense:
        low = rates.seconds(Counts(forwards=counts.forwards, products=counts.products))[0]
    yield low, math.inf if counts.beside else high


def _dense(a: Answering, rates: Rates) -> bool:
    counts = _counts(a, rates)
    return counts is not None and bool(counts.dense)


def _counts(a: Answering, rates: Rates) -> Counts | None:
    probe = PROBES[a.asked.name]
    if probe.cost is None:
        return None
    there = a.training.config.checkpoint_steps().tolist()
    points = len(a.asked.steps(there)) if probe.path else len(there)
    options = {**probe.settings(a.asked.settings), "seed": a.asked.seed}
    return probe.cost(options, Extent(size=rates.size, points=points))
