"""Does training hop between the walls of the valley while it moves along the river? A stretch of it, replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.errors import DivergedError, LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import CURVATURE, LOSS, Context, Counts, Extent, Probe, Schema, Variable
from landscape.probes.linalg import lanczos
from landscape.probes.tools.counts import lanczos_products, lanczos_vectors, plus
from landscape.probes.tools.directions import oriented

__all__ = ["PROBE", "hopping"]

LENGTH = "parameter units"
BLOCKS = 10
"""Blocks of consecutive pairs that the jackknife leaves out one by one."""

SCHEMA = Schema(
    {
        "update": Variable(("update",), "updates", "number of the update, from the checkpoint on", "i", swept=False),
        "point": Variable(("point",), "updates", "updates done since the checkpoint", "i", swept=False),
        "subspace": Variable(
            ("subspace",), "", "valley: span of the k eigenvectors; river: the rest", "U", swept=False
        ),
        "coefficient": Variable(("update", "mode"), LENGTH, "v'(w_t+1 - w_t)"),
        "position": Variable(("point", "mode"), LENGTH, "v'(w_t - w_0)"),
        "loss": Variable(("point",), LOSS, "loss after each update"),
        "hop_rate": Variable(("mode",), "1", "share of consecutive coefficients with opposite signs"),
        "hop_rate_stderr": Variable(
            ("mode",),
            "1",
            "standard error of hop_rate: jackknife over blocks, at least that of n_pairs independent pairs",
        ),
        "n_pairs": Variable(("mode",), "1", "pairs behind hop_rate; those with an exact zero are left out", "i"),
        "autocorrelation": Variable(("mode",), "1", "sum c_t c_t+1 / sum c_t^2, uncentred, t up to the last but one"),
        "autocorrelation_stderr": Variable(("mode",), "1", "standard error of autocorrelation, jackknife over blocks"),
        "river_progress": Variable((), "1", "|sum of river parts| / sum of |river parts|"),
        "valley_progress": Variable((), "1", "|sum of valley parts| / sum of |valley parts|"),
        "straightness": Variable((), "1", "|sum of updates| / sum of |updates|"),
        "valley_motion": Variable((), "1", "share of the updates' summed squared lengths that is in the valley"),
        "first_order": Variable(("update", "subspace"), LOSS, "-g'd, decrease to first order"),
        "second_order": Variable(("update", "subspace"), LOSS, "-d'Hd / 2, decrease of second order"),
        "cross_term": Variable(("update",), LOSS, "-a'Hb, decrease of second order that needs both parts"),
        "remainder": Variable(("update",), LOSS, "decrease minus all terms of first and second order"),
        "decrease": Variable(("update",), LOSS, "loss before minus loss after the update"),
        "first_order_sum": Variable(("subspace",), LOSS, "first_order, summed over updates"),
        "second_order_sum": Variable(("subspace",), LOSS, "second_order, summed over updates"),
        "net_sum": Variable(("subspace",), LOSS, "first and second order together, summed over updates"),
        "cross_term_sum": Variable((), LOSS, "cross_term, summed over updates"),
        "remainder_sum": Variable((), LOSS, "remainder, summed over updates"),
        "decrease_sum": Variable((), LOSS, "loss at the checkpoint minus loss after the last update"),
        "remainder_share": Variable((), "1", "sum of |remainder| / sum of |decrease| over updates"),
        "eigenvalue": Variable(("mode",), CURVATURE, "Hessian eigenvalue at the checkpoint"),
        "residual": Variable(("mode",), CURVATURE, "|H v - lambda v|, recomputed"),
        "converged": Variable(("mode",), "1", "residual below tol times the spectral norm", "b"),
        "resolved": Variable((), "1", "no eigenvalue above the k-th was missed", "b"),
        "n_updates": Variable((), "1", "updates replayed", "i"),
        "censored": Variable((), "1", "there are fewer than n updates to replay; NaN from there on", "b"),
        "n_products": Variable((), "1", "Hessian-vector products used", "i"),
        "n_gradients": Variable((), "1", "gradients of the whole split computed", "i"),
    },
    probe="hopping",
)


def hopping(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    replay: Callable[[int], Tensor],
    n: int = 50,
    k: int = 5,
    tol: float = 1e-6,
) -> xr.Dataset:
    r"""Follow n updates from w: what they do along the k leading eigenvectors v (valley) and across them (river).

    With d_t = w_{t+1} - w_t, the *coefficients* are c_t = v'd_t, v from the Hessian at w. The *hop rate* is the share
    of pairs (c_t, c_{t+1}) with opposite signs: 1 where every update crosses the valley, 1/2 for independent updates.
    The *autocorrelation* sum c_t c_{t+1} / sum c_t^2, both over t = 0..m-2, is the least-squares r of c_{t+1} = r c_t:
    no mean is taken off, and gradient descent on a quadratic gives exactly r = 1 - lr lambda, also beyond -1.
    Standard errors leave out one of 10 blocks of consecutive pairs at a time; they are too small where coefficients
    are correlated over more than a block. Where no pair hops, or every one, all blocks agree, however few they are: so
    the error of the hop rate is at least sqrt(p (1 - p) / n) with p = (hops + 1/2) / (n + 1) and n = `n_pairs`, that of
    independent pairs with half a hop and half a stay added.

    Each update d = a + b has a valley part a and a river part b. Its decrease of the loss is split exactly into
    -g'a, -g'b (first order), -a'Ha / 2, -b'Hb / 2 (second), -a'Hb (cross term) and a remainder, with the gradient g
    and Hessian H at the *start of this update*. The remainder is 0 on a quadratic: where `remainder_share` is not
    small, the quadratic picture does not hold. Lengths of sums over sums of lengths (`river_progress`) are 1 on a
    straight path and about m^(-1/2) for m uncorrelated updates. (Definition of this project; the paper gives none.)

    Args:
        objective: the loss; it need not be the one that was trained on.
        w: the checkpoint, (P,).
        seed: of the eigen-solver's start vector.
        replay: ``m -> (m + 1, P)`` or fewer rows: w, and the parameters after each of at most m updates.
        n: updates.
        k: eigenvectors, of the algebraically largest eigenvalues; fewer than P.
        tol: residual of an eigenpair over the spectral norm below which it is `converged`.

    Returns:
        Dataset with dims `update` (n), `point` (n + 1), `mode` (k), `subspace`; see `SCHEMA`. NaN beyond `n_updates`.

    Raises:
        LandscapeError: for n or k out of range, or a replay that does not start at w.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))  # eigenvalues 4 and 1
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> rows = torch.tensor([[1.0, 1.0]]) * torch.tensor([-0.6, 0.6]) ** torch.arange(9)[:, None]  # lr 0.4
        >>> ds = hopping(objective, rows[0], seed=0, replay=lambda m: rows[: m + 1], n=8, k=1)
        >>> ds.hop_rate.item(), round(ds.autocorrelation.item(), 6), round(ds.river_progress.item(), 6)
        (1.0, -0.6, 1.0)
    """
    w = objective.vector(w)
    if n < 1 or not 1 <= k < objective.size:
        raise LandscapeError(f"expected n >= 1 and 1 <= k < P = {objective.size}, found n = {n} and k = {k}.")
    rows = _rows(replay(n), w, n)
    pairs = lanczos(objective.hessian(w), k=k, which="top", tol=tol, seed=seed)
    V = torch.stack([oriented(v) for v in pairs.vectors.T])
    moves = rows.diff(dim=0)
    coefficient = moves @ V.T
    valley = coefficient @ V
    river = moves - valley
    split = _split(objective, rows, valley, river)
    m = len(moves)
    return SCHEMA.dataset(
        {
            "coefficient": _padded(coefficient, n),
            "position": _padded((rows - rows[0]) @ V.T, n + 1),
            **_signs(coefficient),
            **_lengths(moves, valley, river),
            **{name: _padded(x, n + (name == "loss")) for name, x in split.items()},
            **_sums(split),
            "eigenvalue": pairs.values,
            "residual": pairs.residuals,
            "converged": pairs.converged,
            "resolved": pairs.resolved,
            "n_updates": m,
            "censored": m < n,
            "n_products": pairs.n_products + 2 * m,
            "n_gradients": m,
        },
        coords={
            "update": np.arange(1, n + 1),
            "point": np.arange(n + 1),
            "subspace": np.array(["valley", "river"]),
        },
        **objective.caveats,
    )


def _rows(rows: Tensor, w: Tensor, n: int) -> Tensor:
    """The replayed parameters, checked."""
    rows = rows.to(w)
    if rows.ndim != 2 or rows.shape[1] != len(w) or not 1 <= len(rows) <= n + 1:
        raise LandscapeError(f"expected a replay of at most ({n + 1}, {len(w)}) parameters, found {tuple(rows.shape)}.")
    if not torch.equal(rows[0], w):
        raise LandscapeError("expected a replay that starts at w, found another first row. Replay from the checkpoint.")
    return rows


def _split(objective: Objective, rows: Tensor, valley: Tensor, river: Tensor) -> dict[str, Tensor]:
    """The loss at every point, and the terms of each update's decrease."""
    loss = objective.losses(rows)
    first, second, cross = [], [], []
    for w, a, b in zip(rows, valley, river, strict=False):
        g, H = objective.grad(w), objective.hessian(w)
        Ha, Hb = H.mv(a), H.mv(b)
        first.append(torch.stack([-(g @ a), -(g @ b)]))
        second.append(torch.stack([-(a @ Ha), -(b @ Hb)]) / 2)
        cross.append(-(a @ Hb))
    terms = {
        "first_order": torch.stack(first) if first else loss.new_zeros(0, 2),
        "second_order": torch.stack(second) if second else loss.new_zeros(0, 2),
        "cross_term": torch.stack(cross) if cross else loss.new_zeros(0),
    }
    decrease = loss[:-1] - loss[1:]
    known = terms["first_order"].sum(1) + terms["second_order"].sum(1) + terms["cross_term"]
    return {"loss": loss, **terms, "decrease": decrease, "remainder": decrease - known}


def _sums(split: dict[str, Tensor]) -> dict[str, Any]:
    """Sums over updates; NaN without any."""
    names = ("first_order", "second_order", "cross_term", "remainder", "decrease")
    out = {f"{name}_sum": split[name].sum(0) for name in names}
    out["net_sum"] = out["first_order_sum"] + out["second_order_sum"]
    out["remainder_share"] = split["remainder"].abs().sum() / split["decrease"].abs().sum()
    return out if len(split["decrease"]) else {name: torch.full_like(x, torch.nan) for name, x in out.items()}


def _signs(c: Tensor) -> dict[str, Any]:
    """Hop rate and autocorrelation of coefficients (m, k), with standard errors."""
    before, after = c[:-1], c[1:]
    used = (before != 0) & (after != 0)
    hops = used & (before.sign() != after.sign())
    rate, rate_stderr = _ratio(hops.to(c), used.to(c))
    pairs = used.sum(0)
    p = (hops.to(c).sum(0) + 0.5) / (pairs + 1)
    rate_stderr = torch.maximum(rate_stderr, (p * (1 - p) / pairs).sqrt())  # NaN stays NaN
    lag, lag_stderr = _ratio(before * after, before**2)
    return {
        "hop_rate": rate,
        "hop_rate_stderr": rate_stderr,
        "n_pairs": pairs,
        "autocorrelation": lag,
        "autocorrelation_stderr": lag_stderr,
    }


def _ratio(above: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Sum above / sum below over axis 0, and its standard error by leaving out consecutive blocks; NaN if unknown."""
    total = above.sum(0) / below.sum(0)
    count = min(BLOCKS, len(above))
    if count < 2:
        return total, torch.full_like(total, torch.nan)
    parts = [torch.stack([x.sum(0) for x in torch.tensor_split(y, count)]) for y in (above, below)]
    left = (above.sum(0) - parts[0]) / (below.sum(0) - parts[1])
    return total, ((count - 1) * left.var(0, correction=0)).sqrt()


def _lengths(moves: Tensor, valley: Tensor, river: Tensor) -> dict[str, Tensor]:
    """How straight the updates and their parts are, and how much of their squared length is in the valley."""

    def straight(x: Tensor) -> Tensor:
        ratio: Tensor = x.sum(0).norm() / x.norm(dim=1).sum()
        return ratio

    motion = (valley**2).sum() / (moves**2).sum()
    out = {"river_progress": straight(river), "valley_progress": straight(valley), "straightness": straight(moves)}
    return {**out, "valley_motion": motion}


def _padded(x: Tensor, length: int) -> Tensor:
    """NaN rows after the last one, up to `length`."""
    return torch.cat([x, x.new_full((length - len(x), *x.shape[1:]), torch.nan)])


def _context(c: Context) -> dict[str, Any]:
    def replay(n: int) -> Tensor:
        n = min(n, c.run.updates_from(c.step))
        while True:
            try:
                rows = c.run.replay(c.step, n)
                break
            except DivergedError as error:  # the last finite parameters are those at this step, or the one before
                n = min(n - 1, error.step - c.step)
                if n < 0:
                    raise
        return c.objective.coordinates(rows[:, c.run.layout.mask(c.objective.layout.names)])

    return {"replay": replay}


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:
    n, k = settings["n"], settings["k"]
    products = plus(lanczos_products(k, "top", extent.size), (0, 2 * n))  # fewer where the run ends before
    return Counts(
        forwards=(1, 2 * n + 1),  # every Hessian makes sure that the loss is finite
        gradients=(0, 2 * n),  # one for the slope, and one whose graph gives the products
        products=products,
        vectors=max(lanczos_vectors(k, "top", extent.size), 4 * n),
        beside=f"up to {n} updates of the training, replayed",
    )


PROBE = Probe(
    "hopping",
    2,
    hopping,
    SCHEMA,
    _context,
    context_names=frozenset({"replay"}),
    by_default=False,
    cost=_cost,
)
