"""How is curvature spread over directions? Entropy, ranks and power law of the whole spectrum, without a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import CURVATURE, Counts, Extent, Probe, Schema, Variable
from landscape.probes.linalg import lanczos_quadrature
from landscape.probes.linalg.spectra.atoms import Atoms
from landscape.probes.linalg.spectra.entropy import power_law, shape_statistics
from landscape.probes.tools.counts import dense_or_quadrature
from landscape.probes.tools.dense import exact_spectrum, fits
from landscape.probes.tools.estimates import entries, with_intervals

__all__ = ["PROBE", "Measured", "entropy", "measured", "whole_spectrum"]


STATISTICS = {
    "trace": Variable((), CURVATURE, "sum of all eigenvalues"),
    "entropy": Variable((), "nats", "matrix entropy -sum p log p with p = |eigenvalue| / sum |eigenvalue|"),
    "effective_rank": Variable((), "1", "exp(entropy)"),
    "participation_ratio": Variable((), "1", "(sum |eigenvalue|)^2 / sum eigenvalue^2"),
    "negative_share": Variable((), "1", "share of sum |eigenvalue| that is due to negative eigenvalues"),
    "log_spread": Variable((), "1", "std of log eigenvalue over positive ones, weighted by the eigenvalue"),
    "log_iqr": Variable((), "1", "interquartile range of log eigenvalue over positive ones, so weighted"),
}

MEASURED = {
    "exact": Variable((), "1", "from all eigenvalues, not estimated from random vectors", "b"),
    "resolution": Variable((), CURVATURE, "eigenvalues of this size and below are rounding: P eps max |eigenvalue|"),
    "asymmetry": Variable((), "1", "max |H - H'| / max |H| of the dense Hessian, NaN if it was not made"),
    "n_products": Variable((), "1", "Hessian-vector products behind the spectrum", "i"),
    "n_parameters": Variable((), "1", "number of eigenvalues P", "i", swept=False),
    "eigenvalue": Variable(("rank",), CURVATURE, "all Hessian eigenvalues, descending; only if exact"),
}

SCHEMA = Schema(
    {
        **with_intervals(STATISTICS),
        "slope": Variable((), "1", "slope of log eigenvalue against log rank, NaN if not exact"),
        "slope_stderr": Variable((), "1", "standard error of the least-squares fit of the slope"),
        "slope_first": Variable((), "1", "first rank of the fit of the slope", "i"),
        "slope_last": Variable((), "1", "last rank of the fit of the slope", "i"),
        **MEASURED,
    },
    optional=frozenset({"eigenvalue"}),
    probe="entropy",
)


@dataclass(frozen=True, eq=False)
class Measured:
    """A spectrum as atoms, and what its result says about how it was measured."""

    atoms: Atoms
    values: dict[str, Any]


def measured(objective: Objective, w: Tensor, *, exact_up_to: int, vectors: int, quad: int, seed: int) -> Measured:
    r"""The spectrum of the Hessian at w: all eigenvalues where P allows it, else by stochastic Lanczos quadrature.

    What was computed is remembered for this w, so that several probes at one checkpoint pay once.

    Args:
        objective: the loss.
        w: where, (P,).
        exact_up_to: largest P whose eigenvalues are all computed (if the dense Hessian fits the memory too).
        vectors: random vectors of the quadrature.
        quad: Lanczos steps per vector.
        seed: of the random vectors.

    Raises:
        LandscapeError: for counts below 1, or a Hessian that is not finite.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> found = measured(objective, objective.w0, exact_up_to=5000, vectors=10, quad=80, seed=0)
        >>> found.atoms.values.tolist(), found.values["exact"]
        ([1.0, 4.0], True)
    """
    if exact_up_to < 0 or vectors < 1 or quad < 1:
        raise LandscapeError(
            f"expected exact_up_to >= 0 and vectors, quad >= 1, found {exact_up_to}, {vectors}, {quad}."
        )
    if fits(objective.size) and objective.size <= exact_up_to:
        spectrum = exact_spectrum(objective, w)
        atoms, n_products = Atoms.of_values(spectrum.values), spectrum.n_products
        extra: dict[str, Any] = {"asymmetry": spectrum.asymmetry, "eigenvalue": spectrum.values}
    else:

        def make() -> tuple[Atoms, int]:
            H = objective.hessian(w, products=vectors * quad)
            quadrature = lanczos_quadrature(H, n_vectors=vectors, n_steps=quad, seed=seed)
            return Atoms.of_quadrature(quadrature), quadrature.n_products

        atoms, n_products = objective.remember(f"atoms {vectors} {quad} {seed}", w, make)
        extra = {"asymmetry": math.nan}
    values = {
        "exact": atoms.exact,
        "resolution": objective.size * torch.finfo(objective.dtype).eps * atoms.scale,
        "n_products": n_products,
        "n_parameters": objective.size,
        **extra,
    }
    return Measured(atoms, values)


def entropy(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    first_rank: int = 1,
    last_rank: int = 100,
    exact_up_to: int = 5000,
    vectors: int = 10,
    quad: int = 80,
) -> xr.Dataset:
    r"""Statistics of the whole Hessian spectrum at w that need no threshold; see `shape_statistics` for definitions.

    Exact where P <= `exact_up_to`: all eigenvalues, and then they are stored. Otherwise by stochastic Lanczos
    quadrature, with the standard errors of its random vectors and 95 % intervals; the slope, which needs every rank, is
    then NaN.

    Args:
        objective: the loss.
        w: where, (P,).
        seed: of the random vectors.
        first_rank: first rank of the fit of the power law; 1 is the largest eigenvalue.
        last_rank: last rank of the fit. Ranks are the same for all models, whatever their P. Eigenvalues that are not
            above the rounding (`resolution`) are left out; `slope_last` is the last rank that was used.
        exact_up_to: largest P whose eigenvalues are all computed.
        vectors: random vectors otherwise; a standard error needs two.
        quad: Lanczos steps per vector.

    Returns:
        Dataset with dim `rank`; see `SCHEMA` for variables and units. `slope_stderr` is the fit's, also if exact.

    Raises:
        LandscapeError: for settings out of range, or a Hessian that is not finite.

    Source:
        Roy, Vetterli, The effective rank (EUSIPCO 2007); spread and slope: definitions of this project.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> ds = entropy(objective, objective.w0, seed=0)
        >>> round(float(ds.effective_rank), 9), bool(ds.exact), ds.eigenvalue.values.tolist()
        (2.0, True, [1.0, 1.0])
    """
    found = measured(objective, w, exact_up_to=exact_up_to, vectors=vectors, quad=quad, seed=seed)
    nowhere = torch.zeros(0, dtype=torch.float64)
    slope, error, last = power_law(
        found.atoms.values if found.atoms.exact else nowhere,
        first=first_rank,
        last=last_rank,
        floor=found.values["resolution"],
    )
    values = dict(found.values)
    values |= entries(shape_statistics(found.atoms, seed=seed))
    values |= {"slope": slope, "slope_stderr": error, "slope_first": first_rank, "slope_last": last}
    return SCHEMA.dataset(values, coords=None, **objective.caveats)


def whole_spectrum(settings: Mapping[str, Any], extent: Extent) -> Counts:
    """What `measured` takes."""
    how = {name: settings[name] for name in ("exact_up_to", "vectors", "quad")}
    exact, most = dense_or_quadrature(extent.size, **how)
    if exact:
        return Counts(forwards=(1, 1), dense=1, eigen=1, matrices=6)
    steps = min(settings["quad"], extent.size)
    # A space that is exhausted ends a vector's run early.
    fewest = most if steps < extent.size else settings["vectors"]
    return Counts(forwards=(1, 1), products=(fewest, most), vectors=2 * steps)


PROBE = Probe("entropy", 2, entropy, SCHEMA, by_default=False, cost=whole_spectrum)
