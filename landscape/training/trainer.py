"""Training as a pure function of its config: state in, state out. Knows no files and no progress bars."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from landscape.curvature.native import native_gradient
from landscape.errors import DivergedError, LandscapeError
from landscape.layout import Layout
from landscape.loss.objective import Objective
from landscape.models import build_model
from landscape.tasks import build_task
from landscape.tasks.base import IGNORE
from landscape.training.config import RunConfig
from landscape.training.denormals import no_subnormals
from landscape.training.optimizers import check_state, load_state, make_optimizer, save_state, state_size
from landscape.training.projection import Projector
from landscape.training.shift import Check, Monitor

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

    Example:
        >>> from landscape.training.config import RunConfig
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
        self._modules: dict[int, nn.Module] = {}
        self._costs: dict[tuple[int, int], float] = {}
        self._monitor = None if config.shift is None else Monitor(config.shift, device=self.device)
        self.tokens, self.flops = (0.0, 0.0) if config.origin is None else (config.origin.tokens, config.origin.flops)
        self.layout = Layout.of(self.module)
        w0 = self.layout.flatten({n: p.detach() for n, p in self.module.named_parameters()})
        self._projector: Projector | None = None
        if (kept := config.projection) is not None:
            self._projector = Projector(self.objective("probe", n=kept.samples), kept, seed=config.seed)
        self.load(TrainState(0, w0, w0.new_zeros(state_size(config.optimizer, w0.numel()))))

    # -- state --------------------------------------------------------------------------------------------------------

    def load(self, state: TrainState) -> None:
        """Continue from a state, exactly as if training had never stopped there."""
        w = state.w.detach().to(device=self.device, dtype=self.dtype).clone().requires_grad_(True)
        self.layout.check(w, what="parameter vector")
        self.step, self._w = state.step, w
        if self._monitor is not None:
            self._monitor.load(state.shift)
        check_state(self.config.optimizer, state.optimizer, w.numel())
        self._loaded = state.optimizer.to(device=self.device, dtype=self.dtype, copy=True)
        self._made: torch.optim.Optimizer | None = None
        if self._projector is not None:
            self._projector.load(state.anchor)
        self._bad_step = torch.full((), -1, device=self.device)

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
    def loops(self) -> int:
        """Loops of the next update."""
        return 1 if self._monitor is not None and self.switch < 0 else int(self.config.model.loops)

    @property
    def optimizer_since(self) -> int:
        """Step at which the optimiser's state began."""
        if self.config.shift is not None and self.switch >= 0 and not self.config.shift.keep_optimizer:
            return self.switch
        return 0 if self.config.origin is None else self.config.origin.optimizer_since

    @property
    def module(self) -> nn.Module:
        """The model of the next update, with the initial weights."""
        return self.with_loops(self.loops)

    def with_loops(self, loops: int) -> nn.Module:
        """The model with another number of loops, which leaves the parameters as they are."""
        if loops not in self._modules:
            config, task = self.config, self.task
            shape = replace(config.model, loops=loops)
            model = build_model(shape, vocabulary=task.vocabulary, length=task.length, seed=config.seed)
            self._modules[loops] = model.to(device=self.device, dtype=self.dtype)
        return self._modules[loops]

    # -- updates ------------------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Learning rate of the update that leads from `step` to `step` + 1."""
        return float(self.config.optimizer.lr * self.config.schedule.factor(step, self.config.horizon))

    def advance(self, n: int = 1) -> None:
        """Do n updates."""
        with no_subnormals():
            for _ in range(n):
                self._advance()

    def _advance(self) -> None:
        inputs, targets = self._batch(self.step)
        loss, gradient = self._loss_and_gradient(inputs, targets)
        norm = None if self._monitor is None else gradient.norm()
        if self.config.clip is not None:
            gradient = gradient * (self.config.clip / gradient.norm().clamp(min=self.config.clip))
        self._w.grad = gradient
        self._optimizer.param_groups[0]["lr"] = self.learning_rate(self.step)
        self._update(loss)
        bad = torch.isfinite(loss).logical_not() & (self._bad_step < 0)
        self._bad_step = torch.where(bad, self.step, self._bad_step)
        self.step += 1
        if self.device.type == "cpu":  # elsewhere this would wait for the device at every step
            self.check_finite()
        self.flops += self._cost(inputs, targets)
        self.tokens += int((targets != IGNORE).sum())
        if self._monitor is not None and norm is not None and self._monitor.observe(self.step, loss, norm):
            self._switched()

    def rehearse(self) -> None:
        """Compute one gradient, so that what cannot work is said before anything is written."""
        self._loss_and_gradient(*self._batch(self.step))

    def advance_to(self, step: int) -> bool:
        """Do the updates up to `step`, or up to the switch if that comes first; whether it came."""
        before = self.switch
        with no_subnormals():
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

    def _batch(self, step: int) -> tuple[Any, Tensor]:
        tokens, targets = self.task.batch(step, self.config.batch, seed=self.config.seed)
        moved: tuple[Any, Tensor] = pytree.tree_map(lambda t: t.to(self.device), (self._inputs(tokens), targets))
        return moved

    def _inputs(self, tokens: Tensor) -> Any:
        """What the model is given: tokens, and the loops of each sequence if its model asks for them."""
        if not getattr(self.config.model, "per_length", False):
            return tokens
        if (loops := self.task.loops(tokens)) is None:
            raise LandscapeError(
                f"model.per_length needs a task that says how many loops a sequence gets; {self.config.task.name!r} "
                "does not. Leave per_length out."
            )
        return tokens, loops

    def _loss_and_gradient(self, inputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.gradient == "native":
            return native_gradient(self.module, self._w, inputs, targets, layout=self.layout)
        loss = self._loss(self._w, inputs, targets)
        return loss.detach(), torch.autograd.grad(loss, self._w)[0]

    def _loss(self, w: Tensor, inputs: Any, targets: Tensor) -> Tensor:
        args = inputs if isinstance(inputs, tuple) else (inputs,)
        outputs = functional_call(self.module, self.layout.unflatten(w), args)
        return self.task.per_sample_loss(outputs, targets).mean()

    # -- measurement (never changes the state) ------------------------------------------------------------------------

    def samples_seen(self, step: int) -> int:
        """Training samples that the first `step` updates use under this config."""
        return self.task.samples_seen(step, self.config.batch)

    def flops_per_sample(self) -> float:
        """Floating-point operations of forward and backward for one sample, by PyTorch's counter (matmuls only)."""
        batch = self._batch(0)
        return self._cost(*batch) / len(batch[1])

    def _cost(self, inputs: Any, targets: Tensor) -> float:
        """Floating-point operations of a batch; samples of one length and number of loops all cost the same."""
        if not isinstance(inputs, tuple):
            return len(targets) * self._cost_of_one(inputs[:1], targets[:1], self.loops)
        tokens, loops = inputs
        found = zip(*loops.clamp(max=self.loops).unique(return_counts=True), strict=True)
        return sum(int(count) * self._cost_of_one((tokens[:1], n[None]), targets[:1], int(n)) for n, count in found)

    def _cost_of_one(self, inputs: Any, targets: Tensor, loops: int) -> float:
        key = (targets.shape[1], loops)
        if key not in self._costs:
            # The counter does not know the fused attention of every device, but all that the plain one is made of.
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                loss = self._loss(self._w.detach().clone().requires_grad_(True), inputs, targets)
                torch.autograd.backward(loss)
            self._costs[key] = float(counter.get_total_flops())
        return self._costs[key]

    def objective(
        self, split: str, *, n: int | None = None, at: Tensor | None = None, loops: int | None = None, **settings: Any
    ) -> Objective:
        """The mean loss over (the first n samples of) a split; the module's parameters are `at` (P,), or initial.

        `loops` None means those of the next update.
        """
        part = self.task.split(split).head(n)
        module = self.module if loops is None else self.with_loops(loops)
        if at is not None:
            module = copy.deepcopy(module)
            with torch.no_grad():
                for p, value in zip(module.parameters(), self.layout.unflatten(at).values(), strict=True):
                    p.copy_(value)
        return Objective(module, self.task.per_sample_loss, (self._inputs(part.inputs), part.targets), **settings)
