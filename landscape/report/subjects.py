"""What can be asked: an objective, or the checkpoints of a run whose answers are stored. Both are asked alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import xarray as xr

from landscape.answers.cost import Cost, costs
from landscape.answers.question import LossSpec
from landscape.answers.rates import Rates, measured_rates
from landscape.answers.sweep import Request, answer, plan
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes import PROBES
from landscape.probes.base import Extent, Span
from landscape.provenance import code_revision, created, versions
from landscape.runs.run import Run

__all__ = ["Answer", "OfObjective", "OfRun", "Subject", "Trial", "Wanted"]

Answer = xr.Dataset | LandscapeError
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A probe and the settings that differ from its defaults."""

    probe: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What asking would take.

    Attributes:
        seconds: from least to most; None if unknown.
        products: Hessian products; likewise.
        losses: of all samples; likewise.
        memory: bytes; likewise.
        todo: checkpoints to measure.
        stored: whether the whole answer is stored.
        error: why it cannot be asked, None if it can.
    """

    seconds: Span | None = None
    products: Span | None = None
    losses: Span | None = None
    memory: Span | None = None
    todo: int = 1
    stored: bool = False
    error: LandscapeError | None = None


class Subject(Protocol):
    """Something of which probes can be asked."""

    title: str
    path: bool
    """Whether it has checkpoints, three or more, that make a path."""

    def trials(self, wanted: Sequence[Wanted]) -> list[Trial]:
        """What each would take, without computing it."""

    def answers(self, wanted: Sequence[Wanted], tell: Tell) -> list[Answer]:
        """What each answers."""

    def metrics(self) -> xr.Dataset | None:
        """What was recorded while training; None if nothing."""

    def settings(self) -> dict[str, Any]:
        """What is asked of, beside the probes' own settings."""

    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from."""


class OfObjective:
    """An objective at its own point `w0`."""

    path = False

    def __init__(self, objective: Objective, *, seed: int, title: str = "model") -> None:
        if objective.chunks.ranks.size > 1:
            raise LandscapeError(
                f"expected an objective of one process, found one of {objective.chunks.ranks.size} ranks: what is "
                "asked depends on times, which every rank measures anew. Ask the probes themselves."
            )
        self.objective, self.seed, self.title = objective, seed, title
        self._rates: Rates | None = None

    def trials(self, wanted: Sequence[Wanted]) -> list[Trial]:
        """See `Subject`."""
        return [self._trial(w) for w in wanted]

    def _trial(self, wanted: Wanted) -> Trial:
        probe = PROBES[wanted.probe]
        if missing := sorted(probe.context_names & _required(wanted.probe)):
            reason = f"it takes {', '.join(missing)} from a run, and this is an objective alone"
            return Trial(error=LandscapeError(reason))
        try:
            settings = probe.settings(wanted.settings)
            self._rates = self._rates or measured_rates(self.objective, self.objective.w0)
        except LandscapeError as error:
            return Trial(error=error)
        counts = None if probe.cost is None else probe.cost(settings, Extent(size=self.objective.size))
        if counts is None:
            return Trial()
        curved = counts.products[1] or counts.dense
        if curved and self._rates.failed:
            return Trial(error=LandscapeError(self._rates.failed))
        dense = counts.dense * self.objective.size
        return Trial(
            seconds=self._rates.seconds(counts),
            products=(counts.products[0] + dense, counts.products[1] + dense),
            losses=counts.forwards,
            memory=self._rates.bytes(counts),
        )

    def answers(self, wanted: Sequence[Wanted], tell: Tell) -> list[Answer]:
        """See `Subject`."""
        found: list[Answer] = []
        for i, w in enumerate(wanted):
            tell(f"{self.title}: {w.probe} ({i + 1} of {len(wanted)})")
            probe = PROBES[w.probe]
            try:
                settings = probe.settings(w.settings)
                ds = probe.function(self.objective, self.objective.w0, seed=self.seed, **settings)
                text = json.dumps({**settings, "seed": self.seed}, sort_keys=True)
                found.append(ds.assign_attrs(probe=probe.name, probe_version=probe.version, settings=text))
            except LandscapeError as error:
                found.append(error)
        return found

    def metrics(self) -> xr.Dataset | None:
        """See `Subject`."""
        return None

    def settings(self) -> dict[str, Any]:
        """See `Subject`."""
        o = self.objective
        return {
            "parameters": f"P = {o.size} (layout {o.layout.hash})",
            "samples": f"N = {o.n_samples}, {o.chunk} at once",
            "dtype": str(o.dtype).removeprefix("torch."),
            "device": str(o.device),
            "seed": self.seed,
        }

    def provenance(self) -> dict[str, Any]:
        """See `Subject`."""
        return {
            "made": created(),
            "code revision": code_revision(),
            **versions(),
            "data fingerprint": self.objective.fingerprint,
        }


class OfRun:
    """Checkpoints of a run; answers are stored in its folder and used again."""

    def __init__(
        self, run: Run, *, seed: int, steps: Sequence[int], loss: LossSpec, chunk: int | None, jobs: int
    ) -> None:
        self.run, self.seed, self.steps, self.loss = run, seed, list(steps), loss
        self.chunk, self.jobs = chunk, jobs
        self.title, self.path = run.name, len(run.steps) > 2

    def _request(self, wanted: Wanted) -> Request:
        probe = PROBES[wanted.probe]
        return plan(probe, self.run, self.loss, seed=self.seed, steps=self.steps, settings=wanted.settings)

    def trials(self, wanted: Sequence[Wanted]) -> list[Trial]:
        """See `Subject`."""
        requests: dict[int, Request] = {}
        trials: dict[int, Trial] = {}
        for i, w in enumerate(wanted):
            try:
                requests[i] = self._request(w)
            except LandscapeError as error:
                trials[i] = Trial(error=error)
        found = costs(list(requests.values()), chunk=self.chunk, share=False)
        trials |= {i: self._trial(cost) for i, cost in zip(requests, found, strict=True)}
        return [trials[i] for i in range(len(wanted))]

    def _trial(self, cost: Cost) -> Trial:
        shares = max(1, min(self.jobs, cost.todo))
        seconds = None if cost.seconds is None else (cost.seconds[0] / shares, cost.seconds[1] / shares)
        return Trial(
            seconds=seconds,
            products=cost.products,
            losses=cost.forwards,
            memory=cost.memory,
            todo=cost.todo,
            stored=cost.todo == 0,
            error=cost.error,
        )

    def answers(self, wanted: Sequence[Wanted], tell: Tell) -> list[Answer]:
        """See `Subject`."""
        told = [0.0]

        def progress(i: int, done: int, total: int) -> None:
            now = time.monotonic()
            if done and (done == total or now - told[0] > 1):
                told[0] = now
                tell(f"{self.title}: {wanted[i].probe} at {done} of {total} checkpoints")

        requests = [self._request(w) for w in wanted]
        return list(answer(requests, chunk=self.chunk, jobs=self.jobs, progress=progress))

    def metrics(self) -> xr.Dataset | None:
        """See `Subject`."""
        found = self.run.metrics
        return found if found.sizes.get("step", 0) else None

    def settings(self) -> dict[str, Any]:
        """See `Subject`."""
        spec = {k: v for k, v in vars(self.loss).items() if v is not None}
        steps = ", ".join(map(str, self.steps))
        P = f"P = {self.run.layout.size} (layout {self.run.layout.hash})"
        return {"parameters": P, **spec, "checkpoints": steps, "seed": self.seed}

    def provenance(self) -> dict[str, Any]:
        """See `Subject`."""
        said = {k.replace("_", " "): v for k, v in self.run.provenance.items() if not isinstance(v, dict)}
        return {
            "run": f"{self.run.name} (id {self.run.id}), {self.run.status}",
            **{f"run {k}": v for k, v in said.items()},
            "page made": created(),
            "page code revision": code_revision(),
            **versions(),
        }


def _required(name: str) -> set[str]:
    """Arguments of a probe that only a run can give: those of its context without a default."""
    import inspect

    parameters = inspect.signature(PROBES[name].function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name != "seed"}
