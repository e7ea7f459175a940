"""What requests will cost before they are answered: how much is stored, and what is left to compute."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from landscape.answers.measure import Place, objective_at
from landscape.answers.rates import Rates, measured_rates
from landscape.answers.sweep import Request
from landscape.errors import LandscapeError
from landscape.probes.base import Counts, Extent, Span
from landscape.runs.run import Run

__all__ = ["Cost", "costs", "span_text", "total_seconds"]

WORKER = 6.0
"""Seconds until another process has imported torch, at most."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What it takes to answer a request, as far as it is not stored.

    Attributes:
        request: what is asked.
        stored: checkpoints whose answer is on disk.
        todo: checkpoints to measure; of a probe of the whole run, 1 or 0.
        forwards: losses of all samples; None if the probe cannot tell.
        gradients: of the mean loss; likewise.
        products: of the Hessian with vectors; likewise.
        seconds: of one process, without what is done once per process; None if unknown.
        memory: bytes of one process at most; None if unknown.
        rates: what was timed, None if nothing had to be.
        note: what is not in these numbers.
        error: why it cannot be asked, None if it can.
    """

    request: Request
    stored: int
    todo: int
    forwards: Span | None = (0.0, 0.0)
    gradients: Span | None = (0.0, 0.0)
    products: Span | None = (0.0, 0.0)
    seconds: Span | None = (0.0, 0.0)
    memory: Span | None = None
    rates: Rates | None = None
    note: str = ""
    error: LandscapeError | None = None


def costs(
    requests: Sequence[Request], *, chunk: int | None = None, recompute: bool = False, share: bool = True
) -> list[Cost]:
    """What `answer` would compute for these requests. Only a loss, a gradient and a few products are computed.

    Numbers of products and losses are ranges that each probe gives for its settings; times are these numbers times what
    one took just now, at one checkpoint of each kind of loss. Nothing is written.

    Args:
        requests: as `plan` makes them.
        chunk: samples evaluated at once.
        recompute: as if nothing were stored.
        share: whether a Hessian that several need at one checkpoint counts once at the least.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> from landscape.answers.sweep import plan
        >>> from landscape.probes import get_probe
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = costs([plan(get_probe("surface"), train(config, folder), seed=0)])[0]
        >>> found.todo, found.stored, found.forwards  # 31 x 31 points, the path twice, and the centre
        (1, 0, (968, 968))
    """
    known: dict[tuple[str, ...], Rates | LandscapeError] = {}
    shared: set[tuple[str, int, str]] = set()
    return [_cost(request, chunk, recompute, known, shared if share else set()) for request in requests]


def _cost(
    request: Request,
    chunk: int | None,
    recompute: bool,
    known: dict[tuple[str, ...], Rates | LandscapeError],
    shared: set[tuple[str, int, str]],
) -> Cost:
    question, steps = request.question, list(request.steps)
    try:
        have = set() if recompute else question.stored_steps()
        todo = [s for s in steps if s not in have]
        stored = len(steps) - len(todo)
        if not todo:
            return Cost(request=request, stored=stored, todo=0)
        rates = _rates(question.run, Place.of(question, todo[-1], chunk), known)
    except LandscapeError as error:
        return Cost(request=request, stored=0, todo=len(steps), error=error, **_unknown())
    counts = _counts(request, rates)
    if counts is None:
        note = "this probe cannot tell beforehand"
        return Cost(request=request, stored=stored, todo=len(todo), rates=rates, note=note, **_unknown())
    curved = bool(counts.products[1] or counts.dense)
    if curved and rates.failed:
        return Cost(request=request, stored=stored, todo=len(todo), error=LandscapeError(rates.failed), **_unknown())
    n, free, notes = len(todo), 0, [f"and {counts.beside}" if counts.beside else ""]
    if counts.dense and not question.probe.whole_run:  # a Hessian serves all probes and metrics at a checkpoint
        places = {(str(question.run.path), s, json.dumps(vars(question.loss.plain), sort_keys=True)) for s in todo}
        free = len(places & shared)
        shared |= places
        notes.append("the Hessian is that of the probe above" if free else "")
    dense = counts.dense * rates.size
    low, high = rates.seconds(counts)
    bare_low = rates.seconds(Counts(forwards=counts.forwards, products=counts.products))[0]
    return Cost(
        request=request,
        stored=stored,
        todo=n,
        forwards=_times(counts.forwards, n),
        gradients=_times(counts.gradients, n),
        products=((n * counts.products[0] + (n - free) * dense), n * (counts.products[1] + dense)),
        seconds=((n - free) * low + free * bare_low, n * high if not counts.beside else math.inf),
        memory=rates.bytes(counts),
        rates=rates,
        note="; ".join(filter(None, notes)),
    )


def _unknown() -> dict[str, Any]:
    return {"forwards": None, "gradients": None, "products": None, "seconds": None, "memory": None}


def _counts(request: Request, rates: Rates) -> Counts | None:
    """What one answer takes, as the probe tells."""
    question = request.question
    if question.probe.cost is None:
        return None
    points = len(question.settings["steps"]) if question.probe.path else len(question.run.steps)
    extent = Extent(size=rates.size, points=points)
    return question.probe.cost(question.options, extent)


def _times(span: Span, n: int) -> Span:
    return n * span[0], n * span[1]


def _rates(run: Run, place: Place, known: dict[tuple[str, ...], Rates | LandscapeError]) -> Rates:
    """What was timed for a loss like this one, or what is now."""
    loss = place.loss
    key = (
        *_kind(run, place.step),
        *map(str, (loss.split, loss.samples, loss.dtype, loss.device, loss.parameters, loss.objective)),
    )
    if key not in known:
        begun = time.perf_counter()
        try:
            objective = objective_at(run, place)
            known[key] = measured_rates(objective, objective.w0, once=time.perf_counter() - begun)
        except LandscapeError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, LandscapeError):
        raise found
    return found


def _kind(run: Run, step: int) -> tuple[str, ...]:
    """Runs of one kind have losses that take the same time: the seed alone differs. What has no config is its own."""
    try:
        config = run.config.to_dict()
    except LandscapeError:
        return (run.id,)
    return (json.dumps([config["task"], config["model"]], sort_keys=True), str(run.loops_at(step)))


def total_seconds(found: Sequence[Cost], *, jobs: int = 1) -> Span:
    """Seconds of all together, in so many processes; without an upper end where one of them is not known."""
    left = [c for c in found if c.todo and c.error is None]
    if not left:
        return 0.0, 0.0
    shares = max(1, min(jobs, sum(c.todo for c in left)))
    once = {str(c.request.question.run.path): c.rates.once for c in left if c.rates is not None}
    known = [c.seconds or (0.0, math.inf) for c in left]
    low, high = sum(s[0] for s in known) + sum(once.values()), sum(s[1] for s in known)
    # At worst every process builds every run's loss, and the last piece of work keeps one busy alone.
    high = high / shares + 2 * sum(once.values())
    if shares > 1:
        high += WORKER + max(s[1] / c.todo for s, c in zip(known, left, strict=True))
    return low / shares, high


def span_text(span: Span | None, unit: str = "") -> str:
    """A range in two digits.

    Example:
        >>> span_text((23.4, 171.0)), span_text((5, 5), "s"), span_text((3.2, float("inf")), "s"), span_text(None)
        ('23–170', '5 s', 'at least 3.2 s', 'unknown')
    """
    if span is None or math.isnan(span[0]):
        return "unknown"
    low, high = (_short(x) for x in span)
    unit = f" {unit}" if unit else ""
    if math.isinf(span[1]):
        return f"at least {low}{unit}"
    return f"{low}{unit}" if low == high else f"{low}–{high}{unit}"


def _short(x: float) -> str:
    """Two digits, but whole numbers up to 100 as they are."""
    if x == 0 or math.isinf(x):
        return f"{x:g}"
    digits = 1 - math.floor(math.log10(abs(x)))
    rounded = round(x, digits)
    return f"{rounded:,.0f}" if rounded >= 100 or digits <= 0 else f"{rounded:.{digits}f}".rstrip("0").rstrip(".")
