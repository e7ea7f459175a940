"""What a config stands for before anything is trained: data, model, loss, and what an update costs."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.loss.objective import Objective
from landscape.models import build_model
from landscape.tasks import build_task
from landscape.training.config import RunConfig
from landscape.training.passes import Passes

__all__ = ["Setup"]


class Setup:
    """The task, the model and the loss of a config. Who reads a run needs this and no trainer.

    A model of one layer has the same parameter vector for any number of loops, which is therefore an argument, with the
    share of the later passes that counts if that is not all (`Passes`); a config that shifts begins with one pass,
    every other has the loops of its `model` throughout.

    Args:
        config: of the run.

    Attributes:
        config: as given.
        dtype: of parameters.
        device: where training computes.
        task: built from the config. The model is made when it is asked for: it may need the data, such as a text.
        loops: of the first update.

    Example:
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4})
        >>> setup = Setup(config)
        >>> setup.layout.size, setup.objective("probe").n_samples
        (240, 8)
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self.device = torch.device(config.device)
        self.task = build_task(config.task)
        self.loops = 1 if config.shift is not None else int(config.model.loops)
        self._modules: dict[int, nn.Module] = {}
        self._costs: dict[tuple[int, int], float] = {}

    @cached_property
    def layout(self) -> Layout:
        """Of the parameter vector; the same for any number of loops."""
        return Layout.of(self.module(self.loops))

    @cached_property
    def w0(self) -> Tensor:
        """Initial weights (P,)."""
        return self.layout.flatten({n: p.detach() for n, p in self.module(self.loops).named_parameters()})

    def module(self, loops: int | Passes, *, at: Tensor | None = None) -> nn.Module:
        """The model with so many loops and the initial weights; or a copy of it with the parameters `at` (P,)."""
        if isinstance(loops, Passes) and loops.weight != 1:
            # Another object for another weight, so that none changes in the hands of who has it; a ramp makes many.
            module = copy.copy(self.module(loops.loops)) if at is None else self.module(loops.loops, at=at)
            module.weight = loops.weight  # type: ignore[assignment]
            return module
        loops = Passes.of(loops).loops
        if at is not None:
            module = copy.deepcopy(self.module(loops))
            with torch.no_grad():
                for p, value in zip(module.parameters(), self.layout.unflatten(at).values(), strict=True):
                    p.copy_(value)
            return module
        if loops not in self._modules:
            config, task = self.config, self.task
            shape = replace(config.model, loops=loops)
            model = build_model(shape, vocabulary=task.vocabulary, length=task.length, seed=config.seed)
            self._modules[loops] = model.to(device=self.device, dtype=self.dtype)
        return self._modules[loops]

    def objective(
        self,
        split: str,
        *,
        loops: int | Passes | None = None,
        n: int | None = None,
        at: Tensor | None = None,
        **settings: Any,
    ) -> Objective:
        """The mean loss over (the first n samples of) a split; the module's parameters are `at` (P,), or initial.

        `loops` None means those of the first update; `settings` are those of `Objective`.
        """
        part = self.task.split(split).head(n)
        module = self.module(self.loops if loops is None else loops, at=at)
        return Objective(module, self.task.per_sample_loss, (self.inputs(part.inputs), part.targets), **settings)

    def inputs(self, tokens: Tensor) -> Any:
        """What the model is given: tokens, and the loops of each sequence if its model asks for them."""
        if not getattr(self.config.model, "per_length", False):
            return tokens
        if (loops := self.task.loops(tokens)) is None:
            raise LandscapeError(
                f"model.per_length needs a task that says how many loops a sequence gets; {self.config.task.name!r} "
                "does not. Leave per_length out."
            )
        return tokens, loops

    def batch(self, step: int) -> tuple[Any, Tensor]:
        """Inputs and targets of the update that leads from `step` to `step` + 1."""
        tokens, targets = self.task.batch(step, self.config.batch, seed=self.config.seed)
        moved: tuple[Any, Tensor] = pytree.tree_map(self._placed, (self.inputs(tokens), targets))
        return moved

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype if x.is_floating_point() else x.dtype)

    def loss(self, w: Tensor, inputs: Any, targets: Tensor, *, loops: int | Passes) -> Tensor:
        """Mean loss of a batch at w (P,), differentiable in w."""
        args = inputs if isinstance(inputs, tuple) else (inputs,)
        outputs = functional_call(self.module(loops), self.layout.unflatten(w), args)
        return self.task.per_sample_loss(outputs, targets).mean()

    # -- cost ---------------------------------------------------------------------------------------------------------

    def samples_seen(self, step: int) -> int:
        """Training samples that the first `step` updates use."""
        return self.task.samples_seen(step, self.config.batch)

    def flops_per_sample(self, *, loops: int | None = None) -> float:
        """Floating-point operations of forward and backward for one sample, by PyTorch's counter (matmuls only)."""
        batch = self.batch(0)
        return self.cost(*batch, loops=self.loops if loops is None else loops) / len(batch[1])

    def cost(self, inputs: Any, targets: Tensor, *, loops: int) -> float:
        """Floating-point operations of a batch; samples of one length and number of loops all cost the same."""
        if not isinstance(inputs, tuple):
            return len(targets) * self._cost_of_one(inputs[:1], targets[:1], loops, loops)
        tokens, each = inputs
        found = zip(*each.clamp(max=loops).unique(return_counts=True), strict=True)
        return sum(int(m) * self._cost_of_one((tokens[:1], n[None]), targets[:1], int(n), loops) for n, m in found)

    def _cost_of_one(self, inputs: Any, targets: Tensor, passes: int, loops: int) -> float:
        key = (targets.shape[1], passes)
        if key not in self._costs:
            # The counter does not know the fused attention of every device, but all that the plain one is made of.
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                w = self.w0.detach().clone().requires_grad_(True)
                torch.autograd.backward(self.loss(w, inputs, targets, loops=loops))
            self._costs[key] = float(counter.get_total_flops())
        return self._costs[key]
