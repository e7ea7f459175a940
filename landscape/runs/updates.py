"""The updates that a run's optimiser makes: their direction, their length, and the curvature that they bear."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.runs.checkpoints import Checkpoints
from landscape.training.config import RunConfig
from landscape.training.updates import VARIED, AdamRule, SGDRule, UpdateRule, clipped, rule_of

__all__ = ["RecordedUpdates", "TrainedUpdates", "Updates"]


class Updates(ABC):
    """What a run tells of its optimiser beside the states."""

    @abstractmethod
    def rule(self, step: int) -> UpdateRule:
        """What the optimiser makes of a gradient at a step. Raises, with the reason, where that is not known."""

    @abstractmethod
    def learning_rate(self, step: int) -> float:
        """Of the update that follows a step; NaN if it is not known."""

    @abstractmethod
    def direction(self, step: int, gradient: Tensor) -> Tensor:
        """The update (P,) that the optimiser would make of a gradient (P,) at a checkpoint, per unit of learning rate.

        Momentum, preconditioning, weight decay and clipping are as in the training, the state that of the checkpoint.

        Raises:
            LandscapeError: where optimiser, state or settings are not known, and why.
        """

    def edge(self, step: int, metric: str) -> float:
        """Hessian eigenvalue in a metric above which the optimiser's updates on a quadratic diverge.

        NaN where the metric is not the optimiser's own (`UpdateRule.metric`), or something is not known.
        """
        try:
            rule = self.rule(step)
        except LandscapeError:
            return math.nan
        return rule.edge(self.learning_rate(step)) if rule.metric == metric else math.nan


class TrainedUpdates(Updates):
    """Those of a run of `landscape train`, from its config.

    Args:
        config: of the run.
        checkpoints: its rows.
        since: at which step the optimiser's state at a checkpoint began.
    """

    def __init__(self, config: RunConfig, checkpoints: Checkpoints, since: Callable[[int], int]) -> None:
        self._config, self._checkpoints, self._since = config, checkpoints, since

    def rule(self, step: int) -> UpdateRule:  # noqa: ARG002
        """What the config's optimiser makes of a gradient."""
        if self._config.projection is not None:
            raise LandscapeError(
                "expected a run that makes the updates of its optimiser, found one that keeps a part of each, "
                f"{self._config.projection.subspace!r} (a projection)."
            )
        return rule_of(self._config.optimizer)

    def learning_rate(self, step: int) -> float:
        """By the config's schedule."""
        return self._config.learning_rate(step)

    def direction(self, step: int, gradient: Tensor) -> Tensor:
        """What the config's optimiser would make of a gradient."""
        w, state = (self._checkpoints.row(name, step).to(gradient) for name in ("parameters", "optimizer"))
        state, age = state.reshape(-1, w.numel()), step - self._since(step)
        return self.rule(step).update(w, clipped(gradient, self._config.clip), state, age=age)


class RecordedUpdates(Updates):
    """Those of somebody's optimiser, as far as they were recorded.

    Args:
        optimizer: what the header says of it, None if there was none.
        checkpoints: of the run.
        rates: learning rate by step, as recorded.
    """

    def __init__(
        self, optimizer: dict[str, Any] | None, checkpoints: Checkpoints, rates: Callable[[], dict[int, float]]
    ) -> None:
        self._optimizer, self._checkpoints, self._rates = optimizer, checkpoints, rates
        self._run = checkpoints.file.parent

    def rule(self, step: int) -> UpdateRule:
        """What it makes of a gradient, with the settings of a step.

        Files of earlier versions have those with which recording began alone.
        """
        found = self._optimizer
        if found is None or found["name"] not in ("SGD", "Adam", "AdamW"):
            what = "no optimiser was recorded" if found is None else f"it has an optimiser {found['name']!r}"
            raise LandscapeError(f"an update needs the state of SGD, Adam or AdamW: of {self._run} {what}.")
        if odd := [name for name in ("amsgrad", "maximize") if found.get(name)]:
            raise LandscapeError(f"an update needs {found['name']} as it is, found {odd[0]}=True in {self._run}.")
        sgd = found["name"] == "SGD"
        found = found | self._varied(step, "SGD" if sgd else "Adam")
        names = ("momentum", "dampening", "nesterov", "weight_decay") if sgd else ("betas", "eps", "weight_decay")
        if lacking := [name for name in names if name not in found]:
            raise LandscapeError(
                f"an update needs settings that all parameters share: in {self._run} they differ in "
                f"{', '.join(lacking)}."
            )
        own = {name: found[name] for name in names}
        if sgd:
            if own["momentum"] and not found["state"]:
                raise LandscapeError(
                    f"an update needs the momentum: of {self._run} none is kept, since there was none when recording "
                    "began."
                )
            return SGDRule(**own)
        beta1, beta2 = own.pop("betas")
        apart = bool(found.get("decoupled_weight_decay", found["name"] == "AdamW"))
        return AdamRule(beta1=beta1, beta2=beta2, decoupled=apart, **own)

    def _varied(self, step: int, kind: str) -> dict[str, Any]:
        """Settings that schedules change, as they were at a step; raises where parameters differ in them."""
        if not self._checkpoints.has("rule") or step not in self._checkpoints.steps:
            return {}
        found = dict(zip(VARIED[kind], self._checkpoints.row("rule", step).tolist(), strict=True))
        if differ := [name for name, value in found.items() if math.isnan(value)]:
            raise LandscapeError(
                f"an update needs settings that all parameters share: at step {step} of {self._run} they differ in "
                f"{', '.join(differ)}."
            )
        if "beta1" in found:
            found["betas"] = [found.pop("beta1"), (self._optimizer or {}).get("betas", [0.0, math.nan])[1]]
        return found

    def learning_rate(self, step: int) -> float:
        """As it was recorded at a step."""
        return self._rates().get(step, math.nan)

    def direction(self, step: int, gradient: Tensor) -> Tensor:
        """What the recorded optimiser would make of a gradient."""
        rule, age = self.rule(step), 0
        # Its value is not needed, but that all parameters have the same: the recorder notes no other.
        if not any(s <= step and math.isfinite(rate) for s, rate in self._rates().items()):
            raise LandscapeError(
                f"an update needs one learning rate of all parameters: up to step {step} of {self._run} none was "
                "recorded."
            )
        if isinstance(rule, AdamRule):
            age, beta2, eps = self.adam(step, needed_for="an update of Adam")
            rule = replace(rule, beta2=beta2, eps=eps)
        w, state = self._checkpoints.row("parameters", step), self.state(step)
        return rule.update(w.to(gradient), gradient, state.to(gradient), age=age)

    def state(self, step: int) -> Tensor:
        """What was kept of the optimiser's state at a checkpoint, (S / P, P)."""
        w = self._checkpoints.row("parameters", step)
        kept = self._optimizer is not None and self._optimizer["state"]
        return self._checkpoints.row("optimizer", step).reshape(-1, w.numel()) if kept else torch.empty(0, w.numel())

    def adam(self, step: int, *, needed_for: str) -> tuple[int, float, float]:
        """Adam's age, beta2 and eps at a checkpoint; raises where parameters differ in them."""
        age, beta2, eps = self._checkpoints.row("adam", step).tolist()
        if not all(map(math.isfinite, (age, beta2, eps))):
            raise LandscapeError(
                f"{needed_for} needs parameters that were all updated equally often, with one beta2 and one eps; "
                f"at step {step} of {self._run} they differ."
            )
        return int(age), beta2, eps
