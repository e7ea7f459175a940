"""How sharp is the loss along the optimiser's own update? The learning rate at which it rises, by losses alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
import xarray as xr
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import CURVATURE, LOSS, SLOPE, Context, Counts, Extent, Probe, Schema, Variable
from landscape.probes.linalg.search.rise import NARROWEST, Rise, first_rise
from landscape.probes.tools.around import update as update_of

__all__ = ["PROBE", "sharpness"]

Direction = Literal["optimizer", "gradient"]
RATE, PER_RATE = "learning rate", "1 / learning rate"

SCHEMA = Schema(
    {
        "critical_lr": Variable((), RATE, "learning rate at which the loss rises above L(w); if censored the limit"),
        "critical_sharpness": Variable((), PER_RATE, "2 / critical_lr; if censored an upper bound"),
        "relative_error": Variable((), "1", "of critical_lr: half the bracket, and rounding of the loss"),
        "bracket_low": Variable((), RATE, "largest learning rate before the rise that was tried; 0 if none"),
        "bracket_high": Variable((), RATE, "learning rate of the rise; infinite if there is none up to the limit"),
        "converged": Variable((), "1", "relative_error is at most tol", "b"),
        "censored": Variable((), "1", "the loss does not rise up to the limit", "b"),
        "falls": Variable((), "1", "the loss falls before it rises; if not, it rises at once", "b"),
        "finite": Variable((), "1", "the loss at bracket_high is a number; if not, it rises to NaN or infinity", "b"),
        "limit": Variable((), RATE, "largest learning rate tried"),
        "directional_sharpness": Variable((), PER_RATE, "-u'Hu / g'u: that of the parabola; NaN if g'u >= 0"),
        "curvature": Variable((), CURVATURE, "u'Hu / |u|^2"),
        "slope": Variable((), SLOPE, "g'u / |u|"),
        "length": Variable((), "parameter units per learning rate", "|u|, u the update per unit of learning rate"),
        "learning_rate": Variable((), RATE, "of the training at this step; NaN if it is not known"),
        "change": Variable((), LOSS, "change of the loss by the update at learning_rate"),
        "first_order": Variable((), LOSS, "learning_rate g'u"),
        "second_order": Variable((), LOSS, "learning_rate^2 u'Hu / 2"),
        "remainder": Variable((), LOSS, "change minus both orders"),
        "n_evaluations": Variable((), "1", "losses computed", "i"),
        "n_gradients": Variable((), "1", "gradients computed", "i"),
        "n_products": Variable((), "1", "Hessian-vector products used", "i"),
    },
    probe="sharpness",
)


def sharpness(
    objective: Objective,
    w: Tensor,
    *,
    seed: int | None = None,  # noqa: ARG001
    update: Tensor | Callable[[], Tensor] | None = None,
    learning_rate: float | None = None,
    direction: Direction = "optimizer",
    second_order: bool = True,
    start: float | None = None,
    limit: float | None = None,
    tol: float = 0.01,
) -> xr.Dataset:
    r"""Critical sharpness 2 / eta_c: eta_c > 0 is the smallest learning rate at which L(w + eta u) exceeds L(w).

    u is the optimiser's update per unit of learning rate. Along it L = L(w) + eta g'u + eta^2 u'Hu / 2 + ..., so on a
    quadratic, with g'u < 0 < u'Hu, eta_c = -2 g'u / u'Hu and 2 / eta_c = -u'Hu / g'u, the *directional sharpness*. Of
    gradient descent, u = -g, this is the Rayleigh quotient g'Hg / g'g: at most the largest eigenvalue, and equal to it
    where g is its eigenvector. Of a preconditioned u = -D^2 g it is that of D H D. Where 2 / eta_c exceeds
    2 / learning_rate, the next update raises this loss.

    eta_c is bracketed by doubling or halving, then bisected: losses alone. A narrower rise between the learning rates
    tried is not seen (they are a factor of 2 apart below `bracket_low`); NaN counts as a rise (`finite`). Where the
    loss rises at once, as it does where momentum overshoots (g'u > 0), there is no eta_c: NaN, `falls` is False.

    Args:
        objective: the loss.
        w: where, (P,).
        seed: ignored, nothing here is random (see `Probe`).
        update: u (P,), or what returns it. Of a run it is what its optimiser makes of the gradient of this loss with
            the state of the checkpoint. None is -g.
        learning_rate: of this update, for one step's `change`; None if it is not known.
        direction: "optimizer" for `update`; "gradient" for -g in place of it, which has no learning rate.
        second_order: also g'u and u'Hu, by one gradient and one product; without, they are NaN.
        start: learning rate tried first; None is the parabola's lowest, else `learning_rate`, else limit / 1024.
        limit: largest learning rate tried; None is the one that moves w by ten times its norm (by 10 if w = 0).
        tol: relative error below which `critical_lr` is `converged`.

    Returns:
        Dataset without dims; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: for settings out of range, an update that is zero or not finite, or, of a run, an optimiser
            whose update is not known.

    Source:
        Critical and directional sharpness: Kalra and others, arXiv 2601.16979, where the tolerance is 1/16.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)  # eigenvalues 4 and 1
        >>> ds = sharpness(objective, torch.tensor([1.0, 0.0]), tol=1e-6)
        >>> round(ds.critical_sharpness.item(), 4), ds.directional_sharpness.item(), bool(ds.converged)
        (4.0, 4.0, True)
    """
    if direction not in get_args(Direction):
        raise LandscapeError(f"unknown direction {direction!r}. Valid names: {', '.join(get_args(Direction))}.")
    w = objective.vector(w)
    objective.check_finite(w)
    if direction == "gradient":
        update, learning_rate = None, None if update is not None else learning_rate
    g = objective.grad(w) if second_order or update is None else w.new_full(w.shape, math.nan)
    u = _checked(objective, -g if update is None else update() if callable(update) else update)
    size, slope = float(u.norm()), float(g @ u)
    bend = float(u @ objective.hessian(w).mv(u)) if second_order else math.nan
    rate = math.nan if learning_rate is None else learning_rate
    limit = 10 * (float(w.norm()) or 1.0) / size if limit is None else limit
    guesses = (-slope / bend if bend else math.nan, rate, limit / 1024)

    def f(t: float) -> float:
        return float(objective.loss(w + t * u))

    rise = first_rise(
        f,
        start=next((t for t in guesses if 0 < t < math.inf), limit) if start is None else start,
        limit=limit,
        tol=tol,
        rounding=torch.finfo(objective.dtype).eps,
    )
    known = math.isfinite(rate)
    orders = {"change": f(rate) - rise.at_zero if known else math.nan, "first_order": rate * slope}
    orders["second_order"] = rate**2 * bend / 2
    return SCHEMA.dataset(
        {
            **_found(rise, limit=limit, tol=tol),
            "directional_sharpness": -bend / slope if slope < 0 else math.nan,
            "curvature": bend / size**2,
            "slope": slope / size,
            "length": size,
            "learning_rate": rate,
            **orders,
            "remainder": orders["change"] - orders["first_order"] - orders["second_order"],
            "n_evaluations": rise.n_evaluations + known,
            "n_gradients": int(second_order or update is None) + callable(update),
            "n_products": int(second_order),
        },
        coords=None,
        direction="gradient" if update is None else "optimizer",
        **objective.caveats,
    )


def _checked(objective: Objective, u: Tensor) -> Tensor:
    """An update that leads somewhere."""
    u = objective.vector(u)
    size = float(u.norm())
    if not 0 < size < math.inf:
        raise LandscapeError(f"expected an update of a finite length above 0, found {size}. Probe another checkpoint.")
    return u


def _found(rise: Rise, *, limit: float, tol: float) -> dict[str, Any]:
    """What the search says, in the words of the schema."""
    censored, falls = rise.high == math.inf, rise.fall > 0
    critical = limit if censored else (rise.low + rise.high) / 2 if falls else math.nan
    return {
        "critical_lr": critical,
        "critical_sharpness": 2 / critical,
        "relative_error": rise.relative_error,
        "bracket_low": rise.low,
        "bracket_high": rise.high,
        "converged": rise.relative_error <= tol,
        "censored": censored,
        "falls": falls,
        "finite": censored or math.isfinite(rise.at_high),
        "limit": limit,
    }


def _context(c: Context) -> dict[str, Any]:
    def made() -> Tensor:
        """What the optimiser makes of the gradient."""
        try:
            return update_of(c)
        except LandscapeError as error:
            raise LandscapeError(f"{error} Or look along the gradient: sharpness.direction=gradient.") from error

    return {"update": made, "learning_rate": c.run.updates.learning_rate(c.step)}


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:  # noqa: ARG001
    halvings = -math.log2(NARROWEST) + max(0.0, -math.log2(settings["tol"]))
    second = int(settings["second_order"])
    gradients = second + (settings["direction"] == "optimizer")
    return Counts(forwards=(2, 4 + halvings), gradients=(1, gradients), products=(second, second), vectors=6)


PROBE = Probe(
    "sharpness",
    1,
    sharpness,
    SCHEMA,
    _context,
    context_names=frozenset({"update", "learning_rate"}),
    by_default=False,
    cost=_cost,
)
