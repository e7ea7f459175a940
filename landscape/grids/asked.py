"""What is asked of every run of a grid: a probe with its settings, of which loss, at which checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from landscape.answers.question import LossSpec
from landscape.answers.sweep import Request, plan
from landscape.errors import LandscapeError
from landscape.loss.metric import METRICS
from landscape.probes import PROBES
from landscape.runs.run import Run
from landscape.settings import build, group, lookup
from landscape.training.config import RunConfig

__all__ = ["Asked"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A probe asked of every run.

    Attributes:
        name: of the probe.
        settings: the probe's own; the others have their defaults.
        metrics: in which curvatures and distances are measured.
        at: training steps, "first" and "last" among them; None for all checkpoints.
        every: only every so many-th checkpoint, and the last.
        count: so many checkpoints, the first and the last among them, the others spread evenly over their order.
        arch: only runs of these architectures; empty for all.
        run_seed: only runs of these seeds; empty for all.
        seed: of everything random in the probe.
        split: data split.
        samples: the first so many samples of it; None means all.
        dtype: "float64" or "float32".
        device: "cpu" or "cuda".
        parameters: shell-style pattern of the parameters that vary; None means all.

    Raises:
        LandscapeError: for an unknown probe, metric or setting, or more than one way to choose checkpoints.

    Example:
        >>> asked = Asked(name="spectrum", metrics=("euclidean", "filter"), count=3)
        >>> asked.steps([0, 1, 2, 4, 8, 16])
        [0, 2, 16]
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("euclidean",)
    at: tuple[int | str, ...] | None = None
    every: int | None = None
    count: int | None = None
    arch: tuple[str, ...] = ()
    run_seed: tuple[int, ...] = ()
    seed: int = 0
    split: str = "probe"
    samples: int | None = None
    dtype: str = "float64"
    device: str = "cpu"
    parameters: str | None = None

    def __post_init__(self) -> None:
        probe = lookup(PROBES, self.name, kind="probe")
        probe.settings(self.settings)
        if len(set(self.metrics)) < len(self.metrics) or not self.metrics:
            raise LandscapeError(f"expected each metric of {self.name!r} once, found {list(self.metrics)}.")
        for loss in self.losses():
            loss.settings(probe)
        chosen = [n for n in ("at", "every", "count") if getattr(self, n) is not None]
        if len(chosen) > 1:
            raise LandscapeError(f"expected one of at, every and count of probe {self.name!r}, found {chosen}.")
        for step in self.at or ():
            if not (step in ("first", "last") or (isinstance(step, int) and not isinstance(step, bool) and step >= 0)):
                raise LandscapeError(f'expected steps, "first" or "last" in `at` of {self.name!r}, found {step!r}.')
        for name, least in (("every", 1), ("count", 2), ("samples", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise LandscapeError(f"expected {name} >= {least} of probe {self.name!r}, found {value}.")
        if self.at == ():
            raise LandscapeError(f"expected at least one step in `at` of probe {self.name!r}, found none.")

    @classmethod
    def make(cls, table: Mapping[str, Any]) -> Asked:
        """Of a table of a grid file; `metrics = "all"` is all of them.

        Raises:
            LandscapeError: for an unknown entry or a wrong type.
        """
        values = dict(table)
        where = f"probes ({values.get('name', 'one without a name')})"
        settings = group(values.pop("settings", {}), f"{where}.settings")
        if values.get("metrics") == "all":
            values["metrics"] = METRICS
        asked: Asked = build(cls, values, where=where)
        return dataclasses.replace(asked, settings=settings)

    def losses(self) -> list[LossSpec]:
        """The loss in each metric."""
        fields = {f.name for f in dataclasses.fields(LossSpec)} - {"metric", "objective"}
        return [LossSpec(metric=m, **{n: getattr(self, n) for n in fields}) for m in self.metrics]

    def steps(self, there: Sequence[int]) -> list[int]:
        """The training steps that are meant, of a run with these checkpoints."""
        there = list(there)
        if self.at is not None:
            ends = {"first": there[0], "last": there[-1]}
            return sorted({ends[s] if isinstance(s, str) else s for s in self.at})
        if self.count is not None:
            places = np.unique(np.rint(np.linspace(0, len(there) - 1, self.count)).astype(int))
            return [there[i] for i in places]
        return sorted({*there[:: self.every or 1], there[-1]})

    def of(self, config: RunConfig) -> bool:
        """Whether runs of this architecture and seed are asked."""
        return (not self.arch or config.arch in self.arch) and (not self.run_seed or config.seed in self.run_seed)

    def pieces(self, steps: Sequence[int]) -> int:
        """How many answers that makes: one of a probe of the whole run, else one for each checkpoint."""
        return 1 if PROBES[self.name].whole_run else len(steps)

    def request(self, run: Run, loss: LossSpec) -> Request:
        """What is asked of a run, of one of the `losses`.

        Raises:
            LandscapeError: for a step without a checkpoint, and a run without any.
        """
        there = run.steps.tolist()
        if not there:
            raise LandscapeError(f"{run.path} has no checkpoint yet.")
        steps = without_start(self.steps(there), loss.metric, asked_for=self.at is not None)
        return plan(PROBES[self.name], run, loss, seed=self.seed, steps=steps, settings=self.settings)


def without_start(steps: list[int], metric: str, *, asked_for: bool) -> list[int]:
    """Steps after the first update where the metric needs it: before it there are no second moments."""
    return [s for s in steps if s > 0] if metric == "adam" and not asked_for else steps
