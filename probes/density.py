"""How are all curvatures distributed? The spectral density of the Hessian, and statistics of its whole spectrum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.loss.strategies import Strategy
from landscape.probes.base import CURVATURE, Counts, Extent, Probe, Schema, Variable
from landscape.probes.linalg import hutchpp, lanczos_quadrature
from landscape.probes.linalg.spectra.statistics import spectral_statistics
from landscape.probes.linalg.trace.blocks import lockstep_quadrature
from landscape.probes.linalg.trace.intervals import Estimate
from landscape.probes.tools.estimates import entries, with_intervals

__all__ = ["PROBE", "density"]

WIDTH = "squared parameter unit per (loss unit)"

_STATISTICS = {
    "trace": Variable((), CURVATURE, "sum of all eigenvalues"),
    "frobenius": Variable((), CURVATURE, "root of the sum of squared eigenvalues"),
    "entropy": Variable((), "nats", "matrix entropy -sum p log p with p = |eigenvalue| / sum |eigenvalue|"),
    "effective_rank": Variable((), "1", "exp(entropy)"),
    "negative_share": Variable((), "1", "share of sum |eigenvalue| that is due to negative eigenvalues"),
    "log_spread": Variable((), "1", "std of log eigenvalue over positive ones, weighted by the eigenvalue"),
    "count_above": Variable(("threshold",), "1", "number of eigenvalues above the threshold"),
    "count_below": Variable(("threshold",), "1", "number of eigenvalues below minus the threshold"),
    "inverse_sum": Variable(("threshold", "upper"), WIDTH, "sum of 1/|eigenvalue|, threshold < |eigenvalue| <= upper"),
    "trace_hutchpp": Variable((), CURVATURE, "sum of all eigenvalues by Hutch++"),
}

SCHEMA = Schema(
    {
        "node": Variable(
            ("vector", "quad"), CURVATURE, "quadrature node (Ritz value); NaN where the space ended early"
        ),
        "weight": Variable(("vector", "quad"), "1", "share of the vector's spectral measure at the node"),
        "count": Variable(("vector", "quad"), "1", "number of eigenvalues that the vector puts at the node"),
        "known": Variable(("vector", "quad"), "1", "the count is exact: the whole eigenspace was found", "b"),
        **with_intervals(_STATISTICS),
        "n_parameters": Variable((), "1", "number of eigenvalues P", "i", swept=False),
        "n_products": Variable((), "1", "Hessian-vector products used, those of Hutch++ included", "i"),
        "threshold": Variable(("threshold",), CURVATURE, "threshold of counts, lower end of windows", swept=False),
        "upper": Variable(("upper",), CURVATURE, "upper end of windows", swept=False),
    },
    probe="density",
)


def density(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    vectors: int = 10,
    quad: int = 80,
    distribution: Literal["rademacher", "gaussian", "unit"] = "rademacher",
    thresholds: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
    uppers: tuple[float, ...] = (1e-2, 1.0, 100.0),
    trace_products: int = 60,
    strategy: Strategy = "auto",
    block: int = 1,
) -> xr.Dataset:
    r"""Spectral density of the Hessian of the mean loss at w, by stochastic Lanczos quadrature.

    Each random vector z gives a quadrature, nodes theta_j and weights omega_j, with
    E[P sum_j omega_j f(theta_j)] = tr f(H) for any f. All nodes and weights are kept, so that any other spectral
    function follows from the result; `spectral_statistics` defines those that are stored, each with a standard error
    and a 95 % interval, NAME_low to NAME_high. Eigenvalues that all vectors have found are `known`: they are counted
    exactly, and `count` shares out the rest of P by weight.

    The standard error is that of sampling. The interval also holds what a count or a sum of 1/|lambda| may lose because
    few nodes stand for many eigenvalues.

    Args:
        objective: the loss.
        w: where, (P,).
        seed: of the random vectors.
        vectors: number of random vectors; a standard error, and an eigenvalue that is known, need two.
        quad: Lanczos steps, that is products, per vector.
        distribution: of the vectors' entries; "unit" takes every unit vector instead (`vectors` must be P), which with
            quad >= P is exact.
        thresholds: for counts and lower ends of windows, absolute.
        uppers: upper ends of windows, absolute.
        trace_products: products spent on a second estimate of the trace, by Hutch++; 0 leaves it NaN.
        strategy: how products are computed, see `Objective.hessian`; "auto" compiles where so many pay for it.
        block: vectors in step; above 1 it pays only for "compiled", which then multiplies them together.

    Returns:
        Dataset with dims `vector`, `quad`, `threshold`, `upper`; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: for settings out of range, or a Hessian that is not finite.

    Source:
        Ghorbani, Krishnan, Xiao, An investigation into neural net optimization via Hessian eigenvalue density
        (ICML 2019); Meyer and others (2021) for Hutch++.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> ds = density(objective, objective.w0, seed=0, vectors=3, quad=2)
        >>> round(float(ds.trace), 9), round(float(ds.trace_hutchpp), 9), int(ds.n_products)
        (5.0, 5.0, 10)
    """
    unit = distribution == "unit"
    if unit and vectors != objective.size:
        raise LandscapeError(
            f'distribution="unit" takes each of the P = {objective.size} unit vectors: expected vectors='
            f'{objective.size}, found {vectors}. Use "rademacher" for fewer.'
        )
    if unit and block != 1:
        raise LandscapeError(f'distribution="unit" goes vector by vector: expected block=1, found {block}.')
    H = objective.hessian(w, strategy=strategy, products=vectors * quad + trace_products, block=block)
    if distribution == "unit":
        start = torch.eye(objective.size, dtype=objective.dtype, device=objective.device)
        quadrature = lanczos_quadrature(H, n_vectors=vectors, n_steps=quad, seed=seed, start=start)
    elif block == 1:
        quadrature = lanczos_quadrature(H, n_vectors=vectors, n_steps=quad, seed=seed, distribution=distribution)
    else:
        quadrature = lockstep_quadrature(
            H, n_vectors=vectors, n_steps=quad, seed=seed, distribution=distribution, block=block
        )
    statistics = spectral_statistics(quadrature, thresholds=thresholds, uppers=uppers, exact=unit)
    values: dict[str, Any] = {name: getattr(quadrature, name) for name in ("node", "weight", "count", "known")}
    trace = Estimate(*4 * (math.nan,))
    if trace_products:
        # Another stream: the same signs as above would make the two estimates of the trace agree by chance.
        other = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
        trace = hutchpp(H, n_products=trace_products, seed=other)
    values |= entries(statistics) | entries({"trace_hutchpp": trace})
    return SCHEMA.dataset(
        values | {"n_parameters": objective.size, "n_products": H.n_products},
        coords={"threshold": np.array(thresholds, float), "upper": np.array(uppers, float)},
        strategy=H.strategy,
        **objective.caveats,
    )


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:
    vectors, extra = settings["vectors"], settings["trace_products"]
    steps = min(settings["quad"], extent.size)
    fewest = vectors * (steps if steps < extent.size else 1)  # a space that is exhausted ends a vector's run early
    products = (fewest + extra / 2, vectors * steps + extra)
    return Counts(forwards=(1, 1), products=products, vectors=2 * steps * settings["block"] + extra)


PROBE = Probe("density", 2, density, SCHEMA, by_default=False, cost=_cost)
