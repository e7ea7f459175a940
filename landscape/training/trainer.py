"""Training as a pure function of its config: state in, state out. Knows no files and no progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.curvature.native import native_gradient
from landscape.errors import DivergedError
from landscape.tasks.base import IGNORE
from landscape.training.config import RunConfig
from landscape.training.optimizers import check_state, load_state, make_optimizer, save_state, state_size
from landscape.training.passes import Passes, model_passes, update_passes
from landscape.training.projection import Projector
from landscape.training.setup import Setup
from landscape.training.shift import Check, Monitor
from landscape.training.updates import clipped

__all__ = ["TrainState", "Trainer"]


@dataclass(frozen=True, eq=False)
class TrainState:
    """All that training carries from one step to the next: parameters w (P,) and optimiser state (S,).

    The batch of a step and its learning rate depend on (config, step) alone, so no random state needs saving. A run
    with a projection also carries the parameters at which its eigenvectors were computed, the `anchor` (P,); one that
    shifts the state of its `landscape.training.shift.Monitor`, in float64.
    """

    step: int
    w: Tensor
    optimizer: Tensor
    anchor: Tensor | None = None
    shift: Tensor | None = None

    def row(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint stores, as arrays."""
        parts = {"parameters": self.w, "optimizer": self.optimizer, "anchor": self.anchor, "shift": self.shift}
        return {name: part.cpu().numpy() for name, part in parts.items() if part is not None}


class Trainer:
    """Runs the updates that a config describes, from the initial weights until a state is loaded.

    Args:
        config: of the run.
        setup: its task, model and loss, if they were made already.

    Attributes:
        config: of the run.
        setup: its task, model and loss.
        step: updates done.
        tokens: scored training tokens used so far.
        flops: floating-point operations so far, matrix products only.

    Example:
        >>> from landscape.training.config import RunConfig
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=2)
        >>> trainer = Trainer(config)
        >>> trainer.advance(2)
        >>> trainer.state().step
        2
    """

    def __init__(self, config: RunConfig, *, setup: Setup | None = None) -> None:
        self.config, self.setup = config, Setup(config) if setup is None else setup
        self._monitor = None if config.shift is None else Monitor(config.shift, device=self.setup.device)
        self.tokens, self.flops = (0.0, 0.0) if config.origin is None else (config.origin.tokens, config.origin.flops)
        self._projector: Projector | None = None
        if (kept := config.projection) is not None:
            self._projector = Projector(self.setup.objective("probe", n=kept.samples), kept, seed=config.seed)
        w0 = self.setup.w0
        self.load(TrainState(0, w0, w0.new_zeros(state_size(config.optimizer, w0.numel()))))

    # -- state --------------------------------------------------------------------------------------------------------

    def load(self, state: TrainState) -> None:
        """Continue from a state, exactly as if training had never stopped there."""
        setup = self.setup
        w = state.w.detach().to(device=setup.device, dtype=setup.dtype).clone().requires_grad_(True)
        setup.layout.check(w, what="parameter vector")
        self.step, self._w = state.step, w
        if self._monitor is not None:
            self._monitor.load(state.shift)
        check_state(self.config.optimizer, state.optimizer, w.numel())
        self._loaded = state.optimizer.to(device=setup.device, dtype=setup.dtype, copy=True)
        self._made: torch.optim.Optimizer | None = None
        if self._projector is not None:
            self._projector.load(state.anchor)
        self._bad_step = torch.full((), -1, device=setup.device)

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        """Made for the first update: torch takes two seconds to load what it needs, and a probe needs none."""
        if self._made is None:
            self._made = make_optimizer(self.config.optimizer, self._w)
            load_state(self.config.optimizer, self._made, self._w, self._loaded, step=self.step - self.optimizer_since)
        return self._made

    def state(self) -> TrainState:
        """The current state, copied. Raises `DivergedError` rather than hand out parameters from after a bad loss."""
        self.check_finite()
        if not bool(torch.isfinite(self._w).all()):
            raise DivergedError(self.step)
        optimizer = self._loaded if self._made is None else save_state(self.config.optimizer, self._made, self._w)
        anchor = None if self._projector is None else self._projector.anchor.to(self._w)
        watched = None if self._monitor is None else self._monitor.state()
        return TrainState(self.step, self._w.detach().clone(), optimizer.clone(), anchor, watched)

    @property
    def switch(self) -> int:
        """Step at which a run that shifts went to its T loops, -1 before it; -1 in every other run."""
        return -1 if self._monitor is None else self._monitor.switch

    @property
    def passes(self) -> Passes:
        """The model now: what is evaluated, and what the next update trains unless it draws its loops."""
        return model_passes(self.config, self.step, self.switch)

    @property
    def loops(self) -> int:
        """Loops of the model now."""
        return self.passes.loops

    @property
    def optimizer_since(self) -> int:
        """Step at which the optimiser's state began."""
        if self.config.shift is not None and self.switch >= 0 and not self.config.shift.keep_optimizer:
            return self.switch
        return 0 if self.config.origin is None else self.config.origin.optimizer_since

    # -- updates ------------------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Learning rate of the update that leads from `step` to `step` + 1."""
        return self.config.learning_rate(step)

    def advance(self, n: int = 1) -> None:
        """Do n updates."""
        with _no_subnormals():
            for _ in range(n):
                self._advance()

    def _advance(self) -> None:
        inputs, targets = self.setup.batch(self.step)
        passes = update_passes(self.config, self.step, self.switch)
        loss, gradient = self._loss_and_gradient(inputs, targets, passes)
        norm = None if self._monitor is None else gradient.norm()
        self._w.grad = clipped(gradient, self.config.clip)
        self._optimizer.param_groups[0]["lr"] = self.learning_rate(self.step)
        self._update(loss)
        bad = torch.isfinite(loss).logical_not() & (self._bad_step < 0)
        self._bad_step = torch.where(bad, self.step, self._bad_step)
        self.step += 1
        if self.setup.device.type == "cpu":  # elsewhere this would wait for the device at every step
            self.check_finite()
        self.flops += self.setup.cost(inputs, targets, loops=passes.loops)
        self.tokens += int((targets != IGNORE).sum())
        if self._monitor is not None and norm is not None and self._monitor.observe(self.step, loss, norm):
            self._switched()

    def rehearse(self) -> None:
        """Compute one gradient, so that what cannot work is said before anything is written."""
        self._loss_and_gradient(*self.setup.batch(self.step), self.passes)

    def advance_to(self, step: int) -> bool:
        """Do the updates up to `step`, or up to the switch if that comes first; whether it came."""
        before = self.switch
        with _no_subnormals():
            while self.step < step and self.switch == before:
                self._advance()
        return self.switch != before

    def checks(self) -> list[Check]:
        """The checks for a switch since the last call."""
        if self._monitor is None:
            return []
        found, self._monitor.checks = self._monitor.checks, []
        return found

    def _switched(self) -> None:
        """Begin the second stage; parameters are the same, the optimiser's state too unless it is to begin anew."""
        if self.optimizer_since == self.switch:
            self._made = make_optimizer(self.config.optimizer, self._w)

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

    def _loss_and_gradient(self, inputs: Any, targets: Tensor, passes: Passes) -> tuple[Tensor, Tensor]:
        if self.config.gradient == "native":
            module = self.setup.module(passes)
            return native_gradient(module, self._w, inputs, targets, layout=self.setup.layout)
        loss = self.setup.loss(self._w, inputs, targets, loops=passes)
        return loss.detach(), torch.autograd.grad(loss, self._w)[0]


@contextmanager
def _no_subnormals() -> Iterator[None]:
    """Within it this thread's CPU arithmetic takes magnitudes below the smallest normal number (1e-38, 2e-308) for 0.

    Softmax far from uniform gives many of them; a model after a bad switch of SHIFT trains 1.7 times as fast without.
    The setting that was found comes back; where the processor has none, nothing changes.

    Example:
        >>> with _no_subnormals():
        ...     inside = float(torch.tensor([1e-39]) * 1.0)
        >>> inside in (0.0, float(torch.tensor(1e-39))), float(torch.tensor([1e-39]) * 1.0) > 0
        (True, True)
    """
    flushing = float(torch.full((1,), torch.finfo(torch.float32).tiny) * 0.5) == 0.0  # PyTorch has no way to ask
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushing)
