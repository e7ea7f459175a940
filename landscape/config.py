"""The frozen description of a run, its text form, and the difference between two of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.models import ARCHITECTURES, MODELS, AttentionConfig
from landscape.optim import OPTIMIZERS, SCHEDULES, AdamW, Constant, GradientDescent
from landscape.registry import lookup
from landscape.settings import coerce
from landscape.tasks import TASKS, MarkovConfig

__all__ = ["RunConfig", "difference"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that determines a training run.

    Attributes:
        task: config of a task, e.g. `MarkovConfig`.
        arch: name in `landscape.models.ARCHITECTURES`.
        model: config of a model, e.g. `AttentionConfig`, with the loops and layers of `arch`.
        optimizer: `AdamW`, `SGD` or `GradientDescent` of `landscape.optim`.
        schedule: `Constant`, `Cosine` or `WarmupStableDecay`.
        steps: number of updates.
        batch: samples per update; None is the whole training set.
        clip: largest gradient norm, None for no clipping.
        seed: of the initial weights and of the order of batches.
        evaluate_every: steps between evaluations; every checkpoint is evaluated too.
        checkpoints: how many checkpoints, first and last step included.
        dense_checkpoints: how many of the first steps are all saved; the others are spaced evenly in log(step).
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".

    Raises:
        LandscapeError: for a value out of range, or settings that contradict each other.

    Example:
        >>> config = RunConfig.make(arch="looped", loops=3, model={"width": 16}, steps=100)
        >>> config.model.loops, config.checkpoint_steps()[:6].tolist()
        (3, [0, 1, 2, 3, 4, 5])
    """

    task: Any = field(default_factory=MarkovConfig)
    arch: str = "single"
    model: Any = field(default_factory=AttentionConfig)
    optimizer: Any = field(default_factory=AdamW)
    schedule: Any = field(default_factory=Constant)
    steps: int = 1920
    batch: int | None = 128
    clip: float | None = None
    seed: int = 0
    evaluate_every: int = 20
    checkpoints: int = 24
    dense_checkpoints: int = 4
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        _at_least(self, steps=1, seed=0, evaluate_every=1, checkpoints=2, dense_checkpoints=0)
        if self.batch is not None and self.batch < 1:
            raise LandscapeError(f"expected batch >= 1, or null for the whole training set; found {self.batch}.")
        if self.optimizer.name == "gd" and self.batch is not None:
            raise LandscapeError(
                f"optimizer 'gd' uses the whole training set: expected batch null, found {self.batch}."
            )
        if self.clip is not None and not 0 < self.clip < np.inf:
            raise LandscapeError(f"expected a positive clip, or null for no clipping; found {self.clip}.")
        if self.device not in ("cpu", "cuda"):
            raise LandscapeError(f"expected device 'cpu' or 'cuda', found {self.device!r}.")
        if self.schedule.warmup >= self.steps:
            raise LandscapeError(
                f"expected fewer warm-up steps than steps, found {self.schedule.warmup} of {self.steps}."
            )
        if self.dtype not in ("float32", "float64"):
            raise LandscapeError(f"expected dtype 'float32' or 'float64', found {self.dtype!r}.")
        want = lookup(ARCHITECTURES, self.arch, kind="architecture")(max(self.model.loops, self.model.layers))
        found = {k: getattr(self.model, k) for k in want}
        if found != want:
            raise LandscapeError(
                f"architecture {self.arch!r} means {want}, found {found}. Set `loops` of the run, not of the model."
            )

    @classmethod
    def make(
        cls, *, arch: str = "single", loops: int = 3, model: Mapping[str, Any] | None = None, **settings: Any
    ) -> RunConfig:
        """A config from an architecture's name and T = `loops`; nested settings may be plain dictionaries."""
        shape = lookup(ARCHITECTURES, arch, kind="architecture")(loops)
        model = dict(_table(model or {}, "model"))
        for key in set(shape) & set(model):
            raise LandscapeError(f"model.{key} follows from the architecture; set `arch` and `loops` instead.")
        optimizer = settings.get("optimizer", {})
        if isinstance(optimizer, GradientDescent) or (isinstance(optimizer, Mapping) and optimizer.get("name") == "gd"):
            settings.setdefault("batch", None)
        return cls.from_dict({"arch": arch, "model": {**model, **shape}, **settings})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The inverse of `to_dict`. Unknown names and wrong types are errors."""
        kinds = {
            "task": {n: c for n, (c, _) in TASKS.items()},
            "model": {n: c for n, (c, _) in MODELS.items()},
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
        }
        defaults = {"task": "markov", "model": "attention", "optimizer": "adamw", "schedule": "constant"}
        out = dict(values)
        for key, table in kinds.items():
            part = out.get(key)
            if part is None or not dataclasses.is_dataclass(part):
                part = dict(_table({} if part is None else part, key))
                name = part.setdefault("name", defaults[key])
                out[key] = _build(lookup(table, name, kind=key), part, where=key)
        config: RunConfig = _build(cls, out, where="config")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, fit for JSON."""
        return dataclasses.asdict(self)

    def checkpoint_steps(self) -> NDArray[np.int64]:
        """Ascending steps at which a checkpoint is saved: 0, the first ones, then even in log(step), then the last.

        There are at most `checkpoints` of them; fewer when rounding makes two coincide.
        """
        dense = min(self.dense_checkpoints, self.steps, self.checkpoints - 2)
        early = np.arange(dense + 1)
        late = np.geomspace(max(1, dense), self.steps, self.checkpoints - dense)[1:]
        return np.unique(np.concatenate([early, np.rint(late).astype(np.int64), [self.steps]]))

    def evaluation_steps(self) -> NDArray[np.int64]:
        """Ascending steps at which metrics are measured."""
        return np.union1d(np.arange(0, self.steps + 1, self.evaluate_every), self.checkpoint_steps())


def difference(old: Mapping[str, Any], new: Mapping[str, Any], *, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Entries that differ between two nested dictionaries, as (dotted name, old value, new value).

    Example:
        >>> difference({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
        [('a.b', 1, 3)]
    """
    out: list[tuple[str, Any, Any]] = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += difference(a, b, prefix=f"{prefix}{key}.")
        elif a != b:
            out.append((f"{prefix}{key}", a, b))
    return out


def _at_least(config: Any, **limits: int) -> None:
    for name, limit in limits.items():
        if not limit <= getattr(config, name) < 2**63:
            raise LandscapeError(f"expected {name} >= {limit}, found {getattr(config, name)}.")


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise LandscapeError(f"expected {where} to be a group of settings such as {where}.name, found {value!r}.")
    return value


def _build(cls: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """A dataclass from plain values, refusing unknown names and wrong types."""
    hints = get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}
    kwargs = {}
    for key, value in values.items():
        lookup(dict.fromkeys(names), key, kind=f"setting of {where}")
        kwargs[key] = coerce(value, hints[key], where=f"{where}.{key}")
    try:
        return cls(**kwargs)
    except ValueError as error:
        raise LandscapeError(str(error)) from error
