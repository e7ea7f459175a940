"""Does training hop between the walls of the valley while it moves along the river? A stretch of it, replayed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import CURVATURE, LOSS, SLOPE, Context, Counts, Extent, Probe, Schema, Variable
from landscape.probes.linalg import lanczos
from landscape.probes.tools.around import replayed
from landscape.probes.tools.counts import lanczos_products, lanczos_vectors, plus
from landscape.probes.tools.directions import oriented
from landscape.probes.tools.noise import Training, along, batch_sharpness, variance
from landscape.probes.tools.stretches import lengths, padded, signs, split, sums

__all__ = ["PROBE", "hopping"]

LENGTH = "parameter units"

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
        "edge": Variable((), CURVATURE, "eigenvalue above which the optimiser's updates diverge; NaN if not known"),
        "slope": Variable(("mode",), SLOPE, "v'g of the training loss, over n_noise samples"),
        "noise": Variable(("mode",), f"squared {SLOPE}", "v'Cov(g_B)v, variance of a mini-batch gradient along v"),
        "noise_stderr": Variable(("mode",), f"squared {SLOPE}", "standard error of noise, jackknife over samples"),
        "batch_sharpness": Variable((), CURVATURE, "g_B'H_B g_B / |g_B|^2 at the checkpoint, mean over batches"),
        "batch_sharpness_stderr": Variable((), CURVATURE, "standard error of batch_sharpness over batches"),
        "batch": Variable((), "1", "samples of a batch; 0: not known", "i"),
        "n_noise": Variable((), "1", "training samples behind noise and slope", "i"),
        "n_batches": Variable((), "1", "different batches behind batch_sharpness", "i"),
    },
    probe="hopping",
)


def hopping(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    replay: Callable[[int], Tensor],
    training: Training | None = None,
    edge: float = math.nan,
    n: int = 50,
    k: int = 5,
    tol: float = 1e-6,
    noise: int = 4096,
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

    The *noise* along v is the variance v'Cov(g_B)v of a mini-batch gradient at w: (1 - b / N) s^2 / b for batches of b
    drawn without replacement from N training samples, with the unbiased variance s^2 of v'g_i over these samples; s^2 /
    b where every batch is fresh, with the samples of the next n batches. `batch_sharpness` is the mean of
    g_B'H_B g_B / \|g_B\|^2 over the next n batches, all at w. Both are of the gradient before clipping, momentum and
    preconditioning.

    Args:
        objective: the loss; it need not be the one that was trained on.
        w: the checkpoint, (P,).
        seed: of the eigen-solver's start vector.
        replay: ``m -> (m + 1, P)`` or fewer rows: w, and the parameters after each of at most m updates.
        training: what the training makes its gradients of; without it nothing is said of noise: NaN.
        edge: of stability of the optimiser in this metric, such as 2 / lr of gradient descent: kept beside the
            eigenvalues.
        n: updates.
        k: eigenvectors, of the algebraically largest eigenvalues; fewer than P.
        tol: residual of an eigenpair over the spectral norm below which it is `converged`.
        noise: training samples behind the noise, at most; 0 leaves it and the batch sharpness out.

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
    if n < 1 or not 1 <= k < objective.size or noise < 0:
        raise LandscapeError(
            f"expected n >= 1, 1 <= k < P = {objective.size} and noise >= 0, found n = {n}, k = {k} and "
            f"noise = {noise}."
        )
    rows = _rows(replay(n), w, n)
    pairs = lanczos(objective.hessian(w), k=k, which="top", tol=tol, seed=seed)
    V = torch.stack([oriented(v) for v in pairs.vectors.T])
    moves = rows.diff(dim=0)
    coefficient = moves @ V.T
    valley = coefficient @ V
    river = moves - valley
    terms = split(objective, rows, valley, river)
    m = len(moves)
    return SCHEMA.dataset(
        {
            "coefficient": padded(coefficient, n),
            "position": padded((rows - rows[0]) @ V.T, n + 1),
            **signs(coefficient),
            **lengths(moves, valley, river),
            **{name: padded(x, n + (name == "loss")) for name, x in terms.items()},
            **sums(terms),
            "eigenvalue": pairs.values,
            "residual": pairs.residuals,
            "converged": pairs.converged,
            "resolved": pairs.resolved,
            "n_updates": m,
            "censored": m < n,
            "n_products": pairs.n_products + 2 * m,
            "n_gradients": m,
            "edge": edge,
            **_noise(objective, w, V, training if noise else None, most=noise, n=n),
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


def _noise(
    objective: Objective, w: Tensor, V: Tensor, training: Training | None, *, most: int, n: int
) -> dict[str, Any]:
    """Of mini-batch gradients at w, along the rows of V; NaN where the training is not known."""
    unknown = torch.full((len(V),), torch.nan)
    values: dict[str, Any] = {"slope": unknown, "noise": unknown, "noise_stderr": unknown}
    values |= {"batch_sharpness": math.nan, "batch_sharpness_stderr": math.nan}
    if training is None:
        return values | {"batch": 0, "n_noise": 0, "n_batches": 0}
    some, share = training.some(most, n)
    x = along(objective, w, V, some)
    values["slope"] = x.mean(0)
    values["noise"], values["noise_stderr"] = variance(x, training.size, share)
    each = batch_sharpness(objective, w, training, n)
    values["batch_sharpness"], m = each.mean(), len(each)
    # All that there is, where a batch is the whole training set: then the mean has no error.
    values["batch_sharpness_stderr"] = each.std() / m**0.5 if m > 1 else 0.0 if training.whole else math.nan
    return values | {"batch": training.size, "n_noise": len(x), "n_batches": m}


def _training(c: Context) -> Training | None:
    """The batches of a run of `landscape train`, from the checkpoint on; also those that it would have gone on with."""
    run = c.run
    if run.kind != "trained":
        return None
    setup, samples, size = run.setup, None, run.config.batch
    if (N := run.task.population(size)) is not None:
        part, size = run.task.split("train"), min(size or N, N)
        samples = (setup.inputs(part.inputs), part.targets)
    return Training(size or 1, lambda n: (setup.batch(c.step + i) for i in range(n)), samples)


def _context(c: Context) -> dict[str, Any]:
    return {
        "replay": lambda n: replayed(c, c.step, n),
        "training": _training(c),
        "edge": c.run.updates.edge(c.step, c.metric),
    }


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:
    n, k = settings["n"], settings["k"]
    products = plus(lanczos_products(k, "top", extent.size), (0, 2 * n))  # fewer where the run ends before
    return Counts(
        forwards=(1, 2 * n + 1),  # every Hessian makes sure that the loss is finite
        gradients=(0, 2 * n),  # one for the slope, and one whose graph gives the products
        products=products,
        vectors=max(lanczos_vectors(k, "top", extent.size), 4 * n),
        beside=f"up to {n} updates of the training, replayed"
        + (", and the noise of its gradients" if settings["noise"] else ""),
    )


PROBE = Probe(
    "hopping",
    3,
    hopping,
    SCHEMA,
    _context,
    context_names=frozenset({"replay", "training", "edge"}),
    by_default=False,
    cost=_cost,
)
