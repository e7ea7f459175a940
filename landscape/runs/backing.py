"""What stands behind a run's rows, whoever trained it: which model the parameters belong to, and which loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NoReturn

import xarray as xr
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.loss.metric import adam_scale
from landscape.loss.objective import Objective
from landscape.runs.updates import Updates
from landscape.training.passes import Passes

__all__ = ["Backing", "Moments"]


@dataclass(frozen=True)
class Moments:
    """Adam's running mean of squared gradients, with what is needed to precondition by it.

    Attributes:
        second: the mean (P,), not corrected for its start at 0.
        age: updates since it began.
        beta2: its decay.
        eps: Adam's eps.
    """

    second: Tensor
    age: int
    beta2: float
    eps: float

    def scale(self, objective: Objective, chosen: Tensor, *, step: int) -> Tensor:
        """Scale of the metric `adam` for an objective of the `chosen` parameters, a mask (P,)."""
        second = objective.vector(self.second[chosen])
        if bool(second.isnan().any()):
            missing = [n for n, v in objective.layout.unflatten(second).items() if bool(v.isnan().any())]
            raise LandscapeError(
                f"the optimiser had no second moments at step {step} for: {', '.join(missing[:4])}. Probe a later "
                "step, or leave them out with `parameters`."
            )
        return adam_scale(second, step=self.age, beta2=self.beta2, eps=self.eps)


class Backing(ABC):
    """Where a run's model and loss come from.

    Attributes:
        kind: "trained", "recorded" or "imported".
        loss_units: of the loss and of all that is derived from it.
        labels: attributes `task`, `arch` and `run_seed` of results, those that are known.
        seed: of the training, None if it is not known.
        described: the config as plain values; whatever the user gave, for a run of another's loop.
        partial: whether the model has parameters that no checkpoint has, because they were held fixed.
        updates: what is known of its optimiser.
    """

    kind: str
    loss_units: str
    labels: dict[str, Any]
    seed: int | None
    described: dict[str, Any]
    updates: Updates
    partial: bool = False

    @abstractmethod
    def metrics(self) -> xr.Dataset:
        """What was measured during training, along `step`."""

    @abstractmethod
    def module(self, step: int, *, loops: int | Passes | None) -> nn.Module:
        """A copy of the model as it was at a checkpoint."""

    @abstractmethod
    def tensors(self, step: int) -> dict[str, Tensor]:
        """Parameters and buffers of a checkpoint by name."""

    @abstractmethod
    def objective(
        self, split: str, *, at: int | None, loops: int | Passes | None, name: str | None, **settings: Any
    ) -> Objective:
        """The loss over a split; of the checkpoint `at`, or as the model begins."""

    @abstractmethod
    def check(self, name: str | None, split: str) -> str | None:
        """The label of a named loss, checked to be what it was at its first use; None where the task is the loss."""

    @abstractmethod
    def data_fingerprint(self, name: str | None, split: str) -> str:
        """Of the data of a loss."""

    @abstractmethod
    def moments(self, step: int) -> Moments:
        """Adam's second moments at a checkpoint."""

    @abstractmethod
    def replay(self, step: int, n: int) -> Tensor:
        """Parameters after each of n updates from a checkpoint, (n + 1, P)."""

    @abstractmethod
    def updates_from(self, step: int) -> int:
        """How many updates can be replayed from a checkpoint."""

    @property
    def named(self) -> tuple[str, ...]:
        """Labels of the losses that were named."""
        return ()

    def apart(self, name: str | None) -> bool:  # noqa: ARG002
        """Whether more than what a loss varies differs between checkpoints: then each has an objective of its own."""
        return False

    def passes_at(self, step: int) -> Passes | None:  # noqa: ARG002
        """Passes of the model at a checkpoint; None for a model that is not known to have loops."""
        return None

    def lacks(self, what: str) -> NoReturn:
        """Raise, for what only a run of `landscape train` has."""
        raise LandscapeError(f"expected a run of `landscape train`, found a {self.kind} one, which has no {what}.")
