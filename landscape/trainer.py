"""Training as a pure function of its config: state in, state out. Knows no files and no progress bars."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from landscape.config import RunConfig
from landscape.errors import RunFailedError
from landscape.layout import Layout
from landscape.models import build_model
from landscape.objective import Objective
from landscape.optim import load_state, make_optimizer, save_state, state_size
from landscape.projection import Projector
from landscape.tasks import build_task

__all__ = ["EVALUATED", "DivergedError", "Evaluator", "TrainState", "Trainer"]

EVALUATED = ("probe", "test")
"""Splits on which metrics are measured."""


class DivergedError(RunFailedError):
    """The training loss or the parameters became NaN or infinite."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"the loss or a parameter became NaN or infinite at step {step}. Lower the learning rate or set `clip`."
        )
        self.step = step


@dataclass(frozen=True, eq=False)
class TrainState:
    """All that training carries from one step to the next: parameters w (P,) and optimiser state (S,).

    The batch of a step and its learning rate depend on (config, step) alone, so no random state needs saving. A run
    with a projection also carries the parameters at which its eigenvectors were computed, the `anchor` (P,).
    """

    step: int
    w: Tensor
    optimizer: Tensor
    anchor: Tensor | None = None

    def row(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint stores, as arrays."""
        parts = {"parameters": self.w, "optimizer": self.optimizer, "anchor": self.anchor}
        return {name: part.cpu().numpy() for name, part in parts.items() if part is not None}


class Trainer:
    """Runs the updates that a config describes, from the initial weights until a state is loaded.

    Example:
        >>> from landscape.config import RunConfig
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=2)
        >>> trainer = Trainer(config)
        >>> trainer.advance(2)
        >>> trainer.state().step
        2
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.dtype = getattr(torch, config.dtype)
        self.device = torch.device(config.device)
        self.task = build_task(config.task)
        model = build_model(config.model, vocabulary=self.task.vocabulary, length=self.task.length, seed=config.seed)
        self.layout = Layout.of(model)
        self.module = model.to(device=self.device, dtype=self.dtype)
        w0 = self.layout.flatten({n: p.detach() for n, p in self.module.named_parameters()})
        self._projector: Projector | None = None
        if (kept := config.projection) is not None:
            probe = self.objective("probe", n=kept.samples)
            self._projector = Projector(probe, kept, seed=config.seed)
        self.load(TrainState(0, w0, w0.new_zeros(state_size(config.optimizer, w0.numel()))))

    # -- state --------------------------------------------------------------------------------------------------------

    def load(self, state: TrainState) -> None:
        """Continue from a state, exactly as if training had never stopped there."""
        w = state.w.detach().to(device=self.device, dtype=self.dtype).clone().requires_grad_(True)
        self.layout.check(w, what="parameter vector")
        self.step, self._w = state.step, w
        self._optimizer = make_optimizer(self.config.optimizer, w)
        load_state(
            self.config.optimizer,
            self._optimizer,
            w,
            state.optimizer.to(device=self.device, dtype=self.dtype),
            step=state.step,
        )
        if self._projector is not None:
            self._projector.load(state.anchor)
        self._bad_step = torch.full((), -1, device=self.device)

    def state(self) -> TrainState:
        """The current state, copied. Raises `DivergedError` rather than hand out parameters from after a bad loss."""
        self.check_finite()
        if not bool(torch.isfinite(self._w).all()):
            raise DivergedError(self.step)
        optimizer = save_state(self.config.optimizer, self._optimizer, self._w)
        anchor = None if self._projector is None else self._projector.anchor.to(self._w)
        return TrainState(self.step, self._w.detach().clone(), optimizer, anchor)

    # -- updates ------------------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Learning rate of the update that leads from `step` to `step` + 1."""
        return float(self.config.optimizer.lr * self.config.schedule.factor(step, self.config.horizon))

    def advance(self, n: int = 1) -> None:
        """Do n updates."""
        for _ in range(n):
            inputs, targets = self._batch(self.step)
            loss = self._loss(self._w, inputs, targets)
            (gradient,) = torch.autograd.grad(loss, self._w)
            if self.config.clip is not None:
                gradient = gradient * (self.config.clip / gradient.norm().clamp(min=self.config.clip))
            self._w.grad = gradient
            self._optimizer.param_groups[0]["lr"] = self.learning_rate(self.step)
            self._update(loss.detach())
            bad = torch.isfinite(loss.detach()).logical_not() & (self._bad_step < 0)
            self._bad_step = torch.where(bad, self.step, self._bad_step)
            self.step += 1
            if self.device.type == "cpu":  # elsewhere this would wait for the device at every step
                self.check_finite()

    def _update(self, loss: Tensor) -> None:
        """The optimiser's step, or the part of it that the projection keeps; `loss` is that before it."""
        if self._projector is None:
            self._optimizer.step()
            return
        before = self._w.detach().to(torch.float64, copy=True)
        if not bool(torch.isfinite(loss) & torch.isfinite(before).all()):
            raise DivergedError(self.step)
        self._projector.visit(self.step, before)
        self._optimizer.step()
        with torch.no_grad():
            self._w.copy_(before + self._projector.project(self._w.double() - before))

    def check_finite(self) -> None:
        """Raise `DivergedError` if any loss so far was NaN or infinite."""
        if (step := int(self._bad_step.item())) >= 0:
            raise DivergedError(step)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.task.batch(step, self.config.batch, seed=self.config.seed)
        return inputs.to(self.device), targets.to(self.device)

    def _loss(self, w: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = functional_call(self.module, self.layout.unflatten(w), (inputs,))
        return self.task.per_sample_loss(outputs, targets).mean()

    # -- measurement (never changes the state) ------------------------------------------------------------------------

    def samples_seen(self, step: int) -> int:
        """Training samples that the first `step` updates use under this config."""
        n, size = len(self.task.split("train")), self.config.batch
        if size is None or size >= n:
            return step * n
        epochs, rest = divmod(step, -(-n // size))
        return epochs * n + rest * size

    def flops_per_sample(self) -> float:
        """Floating-point operations of forward and backward for one sample, by PyTorch's counter (matmuls only)."""
        inputs, targets = self._batch(0)
        with FlopCounterMode(display=False) as counter:
            loss = self._loss(self._w.detach().clone().requires_grad_(True), inputs, targets)
            torch.autograd.backward(loss)
        return float(counter.get_total_flops()) / len(inputs)

    def objective(self, split: str, *, n: int | None = None, at: Tensor | None = None, **settings: Any) -> Objective:
        """The mean loss over (the first n samples of) a split; the module's parameters are `at` (P,), or initial."""
        part = self.task.split(split).head(n)
        module = self.module
        if at is not None:
            module = copy.deepcopy(module)
            with torch.no_grad():
                for p, value in zip(module.parameters(), self.layout.unflatten(at).values(), strict=True):
                    p.copy_(value)
        return Objective(module, self.task.per_sample_loss, (part.inputs, part.targets), **settings)


class Evaluator:
    """Loss and accuracy per split and family, and the gradient norm on the probe split, at the trainer's parameters."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._flops = trainer.flops_per_sample()
        self._objectives = {
            s: trainer.objective(s, dtype=trainer.dtype, device=trainer.device, chunk=1024) for s in EVALUATED
        }
        self._families = {s: trainer.task.split(s).family for s in EVALUATED}

    def __call__(self) -> Mapping[str, NDArray[np.float64] | float]:
        """One row of metrics, without the time."""
        trainer, origin = self._trainer, self._trainer.config.origin
        state = trainer.state()
        seen = trainer.samples_seen(state.step) - trainer.samples_seen(trainer.config.start)
        rows = [self._by_family(split, state.w) for split in EVALUATED]
        return {
            "loss": np.stack([r[0] for r in rows]),
            "accuracy": np.stack([r[1] for r in rows]),
            "gradient_norm": float(self._objectives["probe"].grad(state.w).norm()),
            "learning_rate": trainer.learning_rate(state.step),
            "tokens": (0.0 if origin is None else origin.tokens) + seen * trainer.task.length,
            "flops": (0.0 if origin is None else origin.flops) + seen * self._flops,
        }

    def _by_family(self, split: str, w: Tensor) -> NDArray[np.float64]:
        """Mean loss and accuracy, (2, 1 + families): all samples first, then each family."""
        task = self._trainer.task
        both = self._objectives[split].map(
            w, lambda y, t: torch.stack([task.per_sample_loss(y, t), task.correct(y, t)], dim=1)
        )
        values = both.double().cpu().numpy()
        groups = [values] + [values[self._families[split] == i] for i in range(len(task.families))]
        return np.stack([g.mean(0) if len(g) else np.full(2, np.nan) for g in groups], axis=1)
