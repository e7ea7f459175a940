"""The loss in rescaled coordinates: what "curvature" and "distance" mean is a choice, named by every result."""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.loss.derivatives import Route
from landscape.loss.objective import Objective

__all__ = ["METRICS", "Metric", "RescaledObjective", "adam_scale", "filter_scale", "units_in"]

Metric = Literal["euclidean", "filter", "adam"]
METRICS: tuple[str, ...] = get_args(Metric)


_UNIT = {"filter": "filter norm", "adam": "Adam-preconditioned unit"}


def units_in(metric: str, units: str, *, loss: str = "loss unit") -> str:
    """Units of a result in a metric, of a loss in these units.

    Example:
        >>> units_in("filter", "loss unit per squared parameter unit", loss="nats per token")
        'nats per token per squared filter norm'
    """
    units = units.replace("loss unit", loss)
    if metric == "euclidean":
        return units
    return units.replace(" (Euclidean)", "").replace("parameter unit", _UNIT[metric])


def filter_scale(objective: Objective, w: Tensor) -> Tensor:
    r"""Scale D of the `filter` metric (P,): at each entry the norm of its filter in w.

    A unit step then changes a filter by as much as it is long, so that rescalings between layers that leave the loss
    unchanged leave the curvatures unchanged too. A filter of norm 0 has scale 0: it is held fixed.

    Source:
        Li, Xu, Taylor, Studer, Goldstein, Visualizing the loss landscape of neural nets (NeurIPS 2018).

    Example:
        >>> model = torch.nn.Linear(1, 2, bias=False)
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (torch.ones(1, 1), torch.ones(1, 2)))
        >>> filter_scale(objective, torch.tensor([3.0, -4.0])).tolist()
        [3.0, 4.0]
    """
    return objective.layout.filter_norms(objective.vector(w))


def adam_scale(second_moment: Tensor, *, step: int, beta2: float, eps: float) -> Tensor:
    r"""Scale D = (sqrt(v / (1 - beta2^step)) + eps)^(-1/2) of the `adam` metric (P,).

    With the Adam preconditioner P = D^2, D H D has the eigenvalues of P H, the curvatures that Adam sees: its updates
    are unstable where these exceed about 2 (1 + beta1) / ((1 - beta1) lr).

    Args:
        second_moment: the running mean v of squared gradients (P,), as the optimiser stores it.
        step: updates done, at least 1.
        beta2: decay of the mean.
        eps: Adam's eps.

    Source:
        Cohen and others, Adaptive gradient methods at the edge of stability (arXiv 2207.14484).

    Raises:
        LandscapeError: before the first update, when there is no second moment.

    Example:
        >>> round(float(adam_scale(torch.tensor([0.16]), step=10**6, beta2=0.999, eps=0.0)), 4)
        1.5811
    """
    if step < 1:
        raise LandscapeError(
            'the metric "adam" needs the mean of squared gradients: there is none at step 0. Probe a later step.'
        )
    return ((second_moment / (1 - beta2**step)).sqrt() + eps).rsqrt()


class RescaledObjective(Objective):
    r"""L'(u) = L(D u) for a fixed diagonal D: the same loss in coordinates u = D^-1 w.

    The gradient is D g, the Hessian D H D, a distance \|u\|. Everything that takes an `Objective` works on it unchanged
    and answers in the metric of D. Entries with D = 0 are held at 0, so w must be 0 there.

    Args:
        base: the objective in w.
        scale: the diagonal of D (P,), finite and not negative.

    Attributes:
        base: the objective in w.
        scale: D.

    Raises:
        LandscapeError: for a scale that is negative, not finite, or zero where `base.w0` is not.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> base = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (torch.eye(2), torch.zeros(2, 1)))
        >>> objective = RescaledObjective(base, torch.tensor([1.0, 3.0]))
        >>> objective.hessian(objective.w0).dense().tolist()
        [[1.0, 0.0], [0.0, 9.0]]
    """

    def __init__(self, base: Objective, scale: Tensor) -> None:
        self.__dict__.update(base.__dict__)
        self.base, self.scale = base, base.vector(scale)
        if not bool((torch.isfinite(self.scale) & (self.scale >= 0)).all()):
            raise LandscapeError("expected a finite scale >= 0 of the metric, found NaN, infinity or a negative entry.")
        self.chunks = base.chunks.rescaled(self.scale)
        self._memory, self.helpers = {}, None
        self.w0 = self.coordinates(base.w0)

    def coordinates(self, w: Tensor) -> Tensor:
        """The u = D^-1 w of a parameter vector w (P,), or for each row of a matrix."""
        w = w.to(self.scale)
        zero = self.scale == 0
        if bool((w[..., zero] != 0).any()):
            raise LandscapeError(
                "these parameters differ from zero where the metric's scale is zero (a filter of norm 0 at the "
                'checkpoint that gives the metric). Use metric "euclidean", or leave them out with `parameters`.'
            )
        return torch.where(zero, torch.zeros_like(w), w / torch.where(zero, torch.ones_like(w), self.scale))

    def at(self, w: Tensor) -> RescaledObjective:
        """The same objective with `w0` = w, in these coordinates."""
        twin = copy.copy(self)
        twin.base, twin.w0, twin._memory = self.base.at(self.parameters_at(w)), self.vector(w).clone(), {}
        return twin

    def parameters_at(self, u: Tensor) -> Tensor:
        """The parameters D u; at `w0` those of the base to the last bit, which D (w / D) is not."""
        u = self.vector(u)
        return self.base.w0 if torch.equal(u, self.w0) else u * self.scale

    def per_sample(self, w: Tensor) -> Tensor:
        """Those of the base at D u, (N,)."""
        return self.base.per_sample(self.vector(w) * self.scale)

    def losses(self, W: Tensor) -> Tensor:
        """Those of the base at D u for each row u of W (B, P); shape (B,)."""
        rows = W.to(self.scale)
        return self.base.losses(rows * self.scale if rows.shape[-1:] == self.scale.shape else rows)

    def check_derivatives(self, w: Tensor, route: Route | None = None) -> None:
        """Those of the base, at D u."""
        self.base.check_derivatives(self.parameters_at(w), route)

    def hessian(self, w: Tensor, **settings: Any) -> Symmetric:
        """D H D at D u; settings as in `Objective.hessian`."""
        return self.base.hessian(self.parameters_at(w), **settings).rescaled(self.scale)

    def ggn(self, w: Tensor, **settings: Any) -> Symmetric:
        """D G D at D u; settings as in `Objective.ggn`."""
        return self.base.ggn(self.parameters_at(w), **settings).rescaled(self.scale)
