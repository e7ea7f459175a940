"""What is measured while a run trains: one row of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.loss.objective import Objective
from landscape.training.passes import Passes
from landscape.training.setup import Setup
from landscape.training.trainer import Trainer

__all__ = ["EVALUATED", "UNITS", "Evaluator"]

EVALUATED = ("probe", "test")
"""Splits on which metrics are measured."""

UNITS = {
    "loss": ("nats per token", "mean loss"),
    "accuracy": ("1", "share of scored tokens predicted right"),
    "gradient_norm": ("nats per token per parameter unit", "Euclidean norm of the probe loss's gradient"),
    "learning_rate": ("1", "learning rate of the next update"),
    "tokens": ("tokens", "scored training tokens used so far"),
    "flops": ("FLOP", "floating-point operations of training so far, matrix products only"),
    "seconds": ("s", "training time so far, evaluation and saving not counted"),
}
"""Units and long names of metrics, in the order in which they are stored."""


class Evaluator:
    """Loss and accuracy per split and family, and the gradient norm on the probe split, at the trainer's parameters."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._objectives: dict[tuple[str, Passes], Objective] = {}
        self._families = {s: trainer.setup.task.split(s).family for s in EVALUATED}

    def __call__(self, *, loops: int | None = None) -> Mapping[str, NDArray[np.float64] | float]:
        """One row of metrics, without the time, of the model as it is now or with other loops."""
        trainer = self._trainer
        state, passes = trainer.state(), trainer.passes if loops is None else Passes(loops)
        rows = [self._by_family(self._objective(split, passes), split, state.w) for split in EVALUATED]
        return {
            "loss": np.stack([r[0] for r in rows]),
            "accuracy": np.stack([r[1] for r in rows]),
            "gradient_norm": self._gradient_norm(passes, state.w) if np.isfinite(rows[0][0, 0]) else np.nan,
            "learning_rate": trainer.learning_rate(state.step),
            "tokens": trainer.tokens,
            "flops": trainer.flops,
        }

    def _objective(self, split: str, passes: Passes) -> Objective:
        key = (split, passes)
        if key not in self._objectives:
            # Those of a ramp are not met again.
            self._objectives = {k: found for k, found in self._objectives.items() if k[1].weight in (1, passes.weight)}
            setup = self._trainer.setup
            settings: dict[str, Any] = {"dtype": setup.dtype, "device": setup.device, "chunk": _chunk(setup)}
            # Of our own models and losses, which tests compare with differences; a probe checks each all the same.
            settings["check_derivatives"] = False
            self._objectives[key] = setup.objective(split, loops=passes, **settings)
        return self._objectives[key]

    def _gradient_norm(self, passes: Passes, w: Tensor) -> float:
        return float(self._objective("probe", passes).grad(w).norm())

    def _by_family(self, objective: Objective, split: str, w: Tensor) -> NDArray[np.float64]:
        """Mean loss and accuracy, (2, 1 + families): all samples first, then each family."""
        task = self._trainer.setup.task
        both = objective.map(w, lambda y, t: torch.stack([task.per_sample_loss(y, t), task.correct(y, t)], dim=1))
        values = both.double().cpu().numpy()
        groups = [values] + [values[self._families[split] == i] for i in range(len(task.families))]
        return np.stack([g.mean(0) if len(g) else np.full(2, np.nan) for g in groups], axis=1)


def _chunk(setup: Setup) -> int:
    """Samples at once, so that the attention matrices that a gradient keeps take about half a GiB."""
    model = setup.config.model
    sample: int = model.loops * model.layers * getattr(model, "heads", 1) * setup.task.length**2
    return max(1, min(1024, 2**27 // sample))
