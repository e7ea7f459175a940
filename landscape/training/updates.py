"""What an optimiser makes of a gradient, per unit of learning rate, and up to which curvature that is stable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

__all__ = ["VARIED", "AdamRule", "SGDRule", "UpdateRule", "clipped", "rule_of"]

VARIED = {"SGD": ("momentum", "dampening", "weight_decay"), "Adam": ("beta1", "weight_decay")}
"""Settings of PyTorch's optimisers that schedules change while they work, the learning rate aside."""


class UpdateRule(Protocol):
    """One update of an optimiser is w + lr u: u is `update`, a function of the gradient and the optimiser's state.

    Attributes:
        metric: coordinates in which its stability is a matter of the Hessian's eigenvalues: "euclidean" or "adam".
    """

    metric: ClassVar[str]

    def update(self, w: Tensor, gradient: Tensor, state: Tensor, *, age: int) -> Tensor:
        """The direction u (P,) of the next update, from the state (S / P, P) after `age` updates."""

    def edge(self, lr: float) -> float:
        """Eigenvalue of the Hessian above which updates on a quadratic diverge; NaN where there is no such number."""


@dataclass(frozen=True, kw_only=True)
class SGDRule:
    r"""SGD as PyTorch has it: g += weight_decay w; b = momentum b + (1 - dampening) g; u = -b (b = g at first).

    With `nesterov` u = -(g + momentum b). Along an eigenvector w_{t+1} = w_t + beta (w_t - w_{t-1}) - a w_t with
    a = lr (1 - dampening) lam, whose two roots z^2 - (1 + beta - a) z + beta = 0 lie in the unit circle for
    0 < a < 2 (1 + beta); with Nesterov's gradient z^2 - (1 + beta)(1 - a) z + beta (1 - a) = 0, for
    a < 2 (1 + beta) / (1 + 2 beta). Weight decay adds to lam.

    Source:
        Cohen and others, Gradient descent on neural networks typically occurs at the edge of stability
        (arXiv 2103.00065), appendix B; dampening of this project.

    Example:
        >>> SGDRule().edge(0.1), round(SGDRule(momentum=0.9).edge(0.1), 9)
        (20.0, 38.0)
        >>> w = torch.tensor([1.0])
        >>> SGDRule(momentum=0.5).update(w, 2 * w, torch.tensor([[4.0]]), age=3)
        tensor([-4.])
    """

    metric: ClassVar[str] = "euclidean"
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def update(self, w: Tensor, gradient: Tensor, state: Tensor, *, age: int) -> Tensor:  # noqa: ARG002
        """The direction of the next update; NaN in `state`, the momentum (1, P), means that there is none yet."""
        g = gradient + self.weight_decay * w
        if self.momentum == 0:
            return -g
        buffer = torch.where(state[0].isnan(), g, self.momentum * state[0] + (1 - self.dampening) * g)
        return -(g + self.momentum * buffer) if self.nesterov else -buffer

    def edge(self, lr: float) -> float:
        """2 (1 + momentum) / (lr (1 - dampening)) - weight_decay, or Nesterov's; 2 / lr of plain descent."""
        slower = 1 + 2 * self.momentum if self.nesterov else 1 - self.dampening
        return _per_rate(2 * (1 + self.momentum) / slower, lr) - self.weight_decay


@dataclass(frozen=True, kw_only=True)
class AdamRule:
    r"""Adam and AdamW: u = -m / (sqrt(v) + eps), m and v the corrected running means of g and g^2 with this g included.

    Weight decay w is added to g, or if `decoupled` to -u. Once the means are old and v moves slowly, this is heavy ball
    with momentum beta1 and dampening beta1 in the metric "adam": eigenvalues of D H D, D^2 = 1 / (sqrt(v) + eps), must
    stay below 2 (1 + beta1) / ((1 - beta1) lr), which is 38 / lr for beta1 = 0.9. With decoupled decay
    z^2 - (1 + beta1 - lr decay - a) z + beta1 (1 - lr decay) = 0, a = lr (1 - beta1) lam: 2 becomes 2 - lr decay.

    Source:
        Cohen and others, Adaptive gradient methods at the edge of stability (arXiv 2207.14484); the decay of this
        project (arXiv 2601.16979 subtracts it once, which is the same for beta1 = 0).

    Example:
        >>> round(AdamRule().edge(0.001))
        38000
        >>> one = torch.ones(1)
        >>> round(AdamRule().update(one, 3 * one, torch.zeros(2, 1), age=0).item(), 6)  # the sign of the first gradient
        -1.0
    """

    metric: ClassVar[str] = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = True

    def update(self, w: Tensor, gradient: Tensor, state: Tensor, *, age: int) -> Tensor:
        """The direction of the next update; NaN in `state`, both means (2, P), is a parameter without updates."""
        fresh = state.isnan().any(0)
        mean, square = torch.where(fresh, torch.zeros_like(state), state)
        t = torch.where(fresh, 0.0, float(age)).double() + 1
        coupled, apart = (0.0, self.weight_decay) if self.decoupled else (self.weight_decay, 0.0)
        g = gradient + coupled * w
        mean = (self.beta1 * mean + (1 - self.beta1) * g) / (1 - self.beta1**t).to(w)
        square = (self.beta2 * square + (1 - self.beta2) * g**2) / (1 - self.beta2**t).to(w)
        u: Tensor = -mean / (square.sqrt() + self.eps) - apart * w
        return u

    def edge(self, lr: float) -> float:
        """(2 - lr weight_decay) (1 + beta1) / ((1 - beta1) lr); NaN where decay is part of the gradient."""
        if self.weight_decay and not self.decoupled:  # H + decay in other coordinates: no number is added to lam
            return math.nan
        shrink = lr * self.weight_decay
        return _per_rate((2 - shrink) * (1 + self.beta1) / (1 - self.beta1), lr)


def rule_of(optimizer: Any) -> UpdateRule:
    """The rule of a config of `landscape.training.optimizers`.

    Example:
        >>> from landscape.training.optimizers import SGD
        >>> rule_of(SGD(momentum=0.5))
        SGDRule(momentum=0.5, dampening=0.0, nesterov=False, weight_decay=0.0)
    """
    own = {k: v for k, v in vars(optimizer).items() if k not in ("name", "lr")}
    return AdamRule(**own) if optimizer.name == "adamw" else SGDRule(**own)


def clipped(gradient: Tensor, most: float | None) -> Tensor:
    """A gradient whose norm is at most so large; None for no limit.

    Example:
        >>> clipped(torch.tensor([3.0, 4.0]), 1.0)
        tensor([0.6000, 0.8000])
    """
    if most is None:
        return gradient
    shrunk: Tensor = gradient * (most / gradient.norm().clamp(min=most))
    return shrunk


def _per_rate(x: float, lr: float) -> float:
    return x / lr if lr else math.inf
