"""How much do flat directions add up to? The sum of 1/|eigenvalue| in windows of the spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import CURVATURE, Probe, Schema, Variable
from landscape.probes.entropy import MEASURED, measured, whole_spectrum
from landscape.probes.linalg.spectra.atoms import Atoms
from landscape.probes.linalg.spectra.entropy import flattest_share, window_sums
from landscape.probes.linalg.trace.intervals import Estimate
from landscape.probes.tools.estimates import entries, with_intervals

__all__ = ["PROBE", "force"]

WIDTH = "squared parameter unit per (loss unit)"


def _window(prefix: str, limits: str) -> dict[str, Variable]:
    """The variables of one family of windows."""
    dims = (f"{prefix}eps", f"{prefix}tau")
    return {
        **with_intervals(
            {
                f"{prefix}inverse_sum": Variable(dims, WIDTH, f"sum of 1/|eigenvalue| over {limits}"),
                f"{prefix}count": Variable(dims, "1", f"number of eigenvalues with {limits}"),
            }
        ),
        f"{prefix}flattest_share": Variable(
            dims, "1", "share of the sum due to the smallest 10 % of the window's eigenvalues, NaN if not exact"
        ),
        f"{prefix}resolved": Variable(dims[:1], "1", "eps is above the rounding of the eigenvalues", "b"),
    }


SCHEMA = Schema(
    {
        **_window("", "eps < eigenvalue <= tau"),
        **_window("relative_", "eps < eigenvalue / largest eigenvalue <= tau"),
        "largest": Variable((), CURVATURE, "largest eigenvalue, the unit of relative windows"),
        **MEASURED,
        "eps": Variable(("eps",), CURVATURE, "lower end of windows", swept=False),
        "tau": Variable(("tau",), CURVATURE, "upper end of windows", swept=False),
        "relative_eps": Variable(("relative_eps",), "1", "lower end of windows over largest eigenvalue", swept=False),
        "relative_tau": Variable(("relative_tau",), "1", "upper end of windows over largest eigenvalue", swept=False),
    },
    optional=frozenset({"eigenvalue"}),
    probe="force",
)


def force(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    eps: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
    tau: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0),
    relative_eps: tuple[float, ...] = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2),
    relative_tau: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0),
    exact_up_to: int = 5000,
    vectors: int = 10,
    quad: int = 80,
) -> xr.Dataset:
    r"""Cumulative force: sum of 1/|lam_i| over eps < lam_i <= tau at w, on grids of eps and tau.

    The paper's Theorem 1 bounds the force that a valley exerts on its river by constants times this sum, dominated by
    the flattest directions; it leaves eps and tau open. So both are grids: absolute, the same for all models, and
    relative to the largest eigenvalue. `flattest_share` tests the dominance: 0.1 if all eigenvalues of the window
    are equal, near 1 if the smallest tenth makes the sum.

    Args:
        objective: the loss.
        w: where, (P,).
        seed: of the random vectors.
        eps: lower ends of absolute windows.
        tau: upper ends of absolute windows. A pair with eps >= tau is no window: NaN.
        relative_eps: lower ends of relative windows.
        relative_tau: upper ends of relative windows.
        exact_up_to: largest P whose eigenvalues are all computed; the sums have standard errors otherwise.
        vectors: random vectors otherwise; a standard error needs two.
        quad: Lanczos steps per vector. Few nodes stand for many small eigenvalues: vary it.

    Returns:
        Dataset with dims `eps`, `tau`, `relative_eps`, `relative_tau`, `rank`; see `SCHEMA` for variables and units.

    Raises:
        LandscapeError: for settings out of range, or a Hessian that is not finite.

    Source:
        arXiv 2510.10089, Theorem 1; grids and share: definitions of this project.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> ds = force(objective, objective.w0, seed=0, eps=(0.5,), tau=(1.0, 10.0))
        >>> ds.inverse_sum.values.tolist(), ds["count"].values.tolist()
        ([[1.0, 1.25]], [[1.0, 2.0]])
    """
    found = measured(objective, w, exact_up_to=exact_up_to, vectors=vectors, quad=quad, seed=seed)
    largest = float(found.atoms.values[-1])
    values = {**found.values, "largest": largest}
    for prefix, lower, upper, unit in (("", eps, tau, 1.0), ("relative_", relative_eps, relative_tau, largest)):
        if not (lower and upper and all(x > 0 for x in (*lower, *upper))):
            raise LandscapeError(f"expected positive limits {prefix}eps and {prefix}tau, found {lower} and {upper}.")
        sums = _sums(found.atoms, [x * unit for x in lower], [x * unit for x in upper])
        values |= {f"{prefix}{name}": value for name, value in sums.items()}
        values[f"{prefix}resolved"] = np.array([x * unit > found.values["resolution"] for x in lower])
    grids = {"eps": eps, "tau": tau, "relative_eps": relative_eps, "relative_tau": relative_tau}
    return SCHEMA.dataset(
        values, coords={name: np.array(grid, float) for name, grid in grids.items()}, **objective.caveats
    )


def _sums(atoms: Atoms, lower: Sequence[float], upper: Sequence[float]) -> dict[str, Tensor]:
    """Sums, counts and shares of all windows; NaN if the unit of relative windows is no positive eigenvalue."""
    share = torch.full((len(lower), len(upper)), math.nan, dtype=torch.float64)
    if not all(x > 0 for x in (*lower, *upper)):
        return entries(dict.fromkeys(("inverse_sum", "count"), Estimate(*4 * (share,)))) | {"flattest_share": share}
    found = window_sums(atoms, lower, upper)
    if atoms.exact:
        share = torch.tensor([[flattest_share(atoms.values, a, b) for b in upper] for a in lower], dtype=torch.float64)
    return {**entries(found), "flattest_share": share}


PROBE = Probe("force", 2, force, SCHEMA, by_default=False, cost=whole_spectrum)
