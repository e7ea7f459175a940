"""The frozen description of a run, and its text form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.models import MODELS, TRAININGS, AttentionConfig
from landscape.settings import build, coerce, group, lookup
from landscape.tasks import TASKS, MarkovConfig
from landscape.training.optimizers import OPTIMIZERS, AdamW, GradientDescent
from landscape.training.projection import Projection
from landscape.training.schedules import SCHEDULES, Constant
from landscape.training.shift import Shift

__all__ = ["Origin", "RunConfig"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The checkpoint that a branch starts from.

    Attributes:
        run: path of the run's folder, as it was given; only needed until the branch's file is made.
        run_id: id of that run, which no renaming changes.
        step: training step of the checkpoint, also the first step of the branch.
        name: name of the run's folder.
        tokens: scored training tokens used up to there, from which the branch counts on.
        flops: floating-point operations up to there, likewise.
        seconds: training time up to there, likewise.
        optimizer_since: step at which the optimiser's state there began: 0, or a switch that began it anew.

    Example:
        >>> Origin(run="runs/a", run_id="0123456789ab", step=40, name="a").label
        'a@40'
    """

    run: str
    run_id: str
    step: int
    name: str
    tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    optimizer_since: int = 0

    @property
    def label(self) -> str:
        """Name and step, as `--from` takes them."""
        return f"{self.name}@{self.step}"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that determines a training run.

    Attributes:
        task: config of a task, e.g. `MarkovConfig`.
        arch: name in `landscape.models.TRAININGS`: an architecture, or `shift`.
        model: config of a model, e.g. `AttentionConfig`, with the loops and layers of `arch`.
        optimizer: `AdamW`, `SGD` or `GradientDescent` of `landscape.training.optimizers`.
        schedule: `Constant`, `Cosine`, `WarmupStableDecay` or `LinearToZero`.
        steps: the last step: the number of updates, those before a branch's origin included.
        schedule_steps: last step that the schedule is laid out for; None is `steps`. A branch with another end keeps
            its origin's, so that the learning rate continues.
        batch: samples per update; None is the whole training set.
        clip: largest gradient norm, None for no clipping.
        gradient: "autograd", or "native": the toy attention model's own kernel on one core, equal to rounding.
        seed: of the initial weights and of the order of batches.
        evaluate_every: steps between evaluations; every checkpoint is evaluated too.
        checkpoints: how many checkpoints, first and last step included.
        dense_checkpoints: how many of the first steps are all saved; the others are spaced evenly in log(step).
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".
        origin: the checkpoint that a branch starts from; None starts from the initial weights.
        projection: which part of every update is kept; None keeps all of it.
        shift: when `arch` "shift" goes from one pass to the loops of `model`; None for every other.

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
    gradient: str = "autograd"
    seed: int = 0
    evaluate_every: int = 20
    checkpoints: int = 24
    dense_checkpoints: int = 4
    dtype: str = "float32"
    device: str = "cpu"
    schedule_steps: int | None = None
    origin: Origin | None = None
    projection: Projection | None = None
    shift: Shift | None = None

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
        if self.gradient not in ("autograd", "native"):
            raise LandscapeError(f"expected gradient 'autograd' or 'native', found {self.gradient!r}.")
        if self.device not in ("cpu", "cuda"):
            raise LandscapeError(f"expected device 'cpu' or 'cuda', found {self.device!r}.")
        self._check_branch()
        if self.schedule.warmup >= self.horizon:
            raise LandscapeError(
                f"expected fewer warm-up steps than steps, found {self.schedule.warmup} of {self.horizon}."
            )
        if self.dtype not in ("float32", "float64"):
            raise LandscapeError(f"expected dtype 'float32' or 'float64', found {self.dtype!r}.")
        form, taken = TASKS[self.task.name][1].form, getattr(self.model, "form", "tokens")
        if form != taken:
            raise LandscapeError(
                f"expected a model that takes the {form} of the task {self.task.name!r}, found {self.model.name!r} for "
                f"{taken}. Set another model.name, or leave it out."
            )
        want = lookup(TRAININGS, self.arch, kind="architecture")(*self.shape)
        found = {k: getattr(self.model, k) for k in want}
        if found != want:
            raise LandscapeError(
                f"architecture {self.arch!r} means {want}, found {found}. Set `loops` of the run, not of the model."
            )
        if self.arch == "stacked" and getattr(self.model, "scale", 1) == "learned":
            raise LandscapeError(
                "the model.scale 'learned' is a weight of the passes after the first; expected another architecture, "
                "found 'stacked', which has one pass. Choose 1 or 1/T for it."
            )
        self._check_shift()

    def _check_branch(self) -> None:
        """Steps that must come in order: start of the projection, start of the run, end of the schedule, end."""
        if self.schedule_steps is not None and self.schedule_steps < 1:
            raise LandscapeError(f"expected schedule_steps >= 1, or null for `steps`; found {self.schedule_steps}.")
        if self.start >= self.steps:
            raise LandscapeError(
                f"expected a branch to end after step {self.start}, where it starts; found steps = {self.steps}. "
                "Steps are counted from the beginning of the origin."
            )
        if self.schedule.name == "linear" and self.schedule.start >= self.horizon:
            raise LandscapeError(
                f"expected the decay to start before the last step {self.horizon}, found {self.schedule.start}."
            )
        if self.projection is not None and self.projection.since > self.start:
            raise LandscapeError(
                f"expected projection.since <= {self.start}, the first step, found {self.projection.since}."
            )

    def _check_shift(self) -> None:
        """A switch needs two numbers of loops, the loss of every update as it is, and a step before the end."""
        if (self.arch == "shift") != (self.shift is not None):
            found = "none" if self.shift is None else "some"
            raise LandscapeError(f"the settings of `shift` belong to arch 'shift', found {found} with {self.arch!r}.")
        if self.shift is None:
            return
        if self.model.loops < 2:
            raise LandscapeError(f"expected a switch from 1 to at least 2 loops, found loops = {self.model.loops}.")
        if self.projection is not None:
            raise LandscapeError(
                "expected arch 'shift' without a projection: its eigenvectors are of one number of "
                "loops. Branch off before or after the switch with --arch single or looped, and project there."
            )
        if self.shift.at is not None and self.shift.at >= self.steps:
            raise LandscapeError(f"expected shift.at before the last step {self.steps}, found {self.shift.at}.")
        scale = getattr(self.model, "scale", None)
        if (scale == "learned") != (self.shift.mode == "gate"):
            raise LandscapeError(
                "the shift.mode 'gate' is the model.scale 'learned', whose weight is a parameter: expected both or "
                f"neither, found {self.shift.mode!r} with {scale!r}."
            )
        if self.gradient == "native" and self.shift.mode == "ramp":
            raise LandscapeError(
                "the native kernel knows passes that count whole only: expected gradient 'autograd' with the "
                "shift.mode 'ramp', found 'native'."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """T and L, loops and layers in a loop, from which the architecture gives the model its own."""
        loops, layers = self.model.loops, self.model.layers
        return (layers, 1) if self.arch == "stacked" else (loops, layers)

    @property
    def start(self) -> int:
        """The first step: 0, or that of the origin."""
        return 0 if self.origin is None else self.origin.step

    @property
    def horizon(self) -> int:
        """The last step that the schedule is laid out for."""
        return self.steps if self.schedule_steps is None else self.schedule_steps

    def learning_rate(self, step: int) -> float:
        """Learning rate of the update that leads from `step` to `step` + 1."""
        return float(self.optimizer.lr * self.schedule.factor(step, self.horizon))

    @classmethod
    def make(
        cls,
        *,
        arch: str = "single",
        loops: int = 3,
        layers: int = 1,
        model: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> RunConfig:
        """A config from an architecture's name, T = `loops`, L = `layers`; nested settings may be dictionaries."""
        shape = lookup(TRAININGS, arch, kind="architecture")(
            coerce(loops, int, where="loops"), coerce(layers, int, where="layers")
        )
        model = dict(group(model or {}, "model"))
        for key in set(shape) & set(model):
            raise LandscapeError(
                f"model.{key} follows from the architecture; set `arch`, `loops` and `layers` instead."
            )
        optimizer = settings.get("optimizer", {})
        if isinstance(optimizer, GradientDescent) or (isinstance(optimizer, Mapping) and optimizer.get("name") == "gd"):
            settings.setdefault("batch", None)
        if arch == "shift":
            settings["shift"] = chosen = Shift() if settings.get("shift") is None else settings["shift"]
            mode = chosen.get("mode") if isinstance(chosen, Mapping) else getattr(chosen, "mode", None)
            if mode == "gate" and model.get("name", "attention") == "attention":
                model.setdefault("scale", "learned")
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
        for key, table in kinds.items():  # the task first: its inputs say which model is meant
            part = out.get(key)
            if part is None or not dataclasses.is_dataclass(part):
                part = dict(group({} if part is None else part, key))
                name = part.setdefault("name", defaults[key])
                out[key] = build(lookup(table, name, kind=key), part, where=key)
            if key == "task" and TASKS[out[key].name][1].form == "vectors":
                defaults["model"] = "regressor"
        for key, part_of in {"origin": Origin, "projection": Projection, "shift": Shift}.items():
            part = out.get(key)
            if part is not None and not dataclasses.is_dataclass(part):
                out[key] = build(part_of, group(part, key), where=key)
        config: RunConfig = build(cls, out, where="config")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, fit for JSON."""
        return dataclasses.asdict(self)

    def checkpoint_steps(self) -> NDArray[np.int64]:
        """Ascending steps at which a checkpoint is saved: the start, the first ones, then even in log(step), the last.

        Steps are counted from the start of the run, which is that of the branch. There are at most `checkpoints` of
        them; fewer when rounding makes two coincide.
        """
        last = self.steps - self.start
        dense = min(self.dense_checkpoints, last, self.checkpoints - 2)
        early = np.arange(dense + 1)
        late = np.geomspace(max(1, dense), last, self.checkpoints - dense)[1:]
        return self.start + np.unique(np.concatenate([early, np.rint(late).astype(np.int64), [last]]))

    def evaluation_steps(self) -> NDArray[np.int64]:
        """Ascending steps at which metrics are measured."""
        regular = np.arange(self.start, self.steps + 1, self.evaluate_every)
        return np.union1d(regular, self.checkpoint_steps())


def _at_least(config: Any, **limits: int) -> None:
    for name, limit in limits.items():
        if not limit <= getattr(config, name) < 2**63:
            raise LandscapeError(f"expected {name} >= {limit}, found {getattr(config, name)}.")
