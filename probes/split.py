"""Where does the valley end and the river begin? Size and condition number of the valley, over grids of thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import CURVATURE, Counts, Extent, Probe, Schema, Variable
from landscape.probes.tools.dense import exact_spectrum, fits

__all__ = ["PROBE", "split"]

ACCURACY = 1e-3
"""A condition number whose relative error is bounded by more than this is not called converged."""

Array = NDArray[np.float64]


def _variables(grid: str, kind: str, threshold: str) -> dict[str, Variable]:
    return {
        f"dimension_{kind}": Variable((grid,), "1", f"eigenvalues above {threshold}"),
        f"kappa_{kind}": Variable(
            (grid,), "1", f"largest eigenvalue over the smallest above {threshold}; NaN if there is none"
        ),
        f"gap_{kind}": Variable(
            (grid,), "1", f"smallest eigenvalue above {threshold} over the next one; infinite if that is not positive"
        ),
        f"converged_{kind}": Variable(
            (grid,), "1", f"no eigenvalue is within its error of {threshold}, and kappa's error is small", "b"
        ),
    }


SCHEMA = Schema(
    {
        "eps": Variable(("eps",), CURVATURE, "absolute threshold", swept=False),
        "eps_relative": Variable(
            ("eps_relative",), "1", "threshold relative to the largest eigenvalue; its kappa is about 1/eps_relative "
            "by construction where the spectrum is continuous", swept=False,
        ),
        **_variables("eps", "absolute", "eps"),
        **_variables("eps_relative", "relative", "eps_relative times the largest"),
        "largest_eigenvalue": Variable((), CURVATURE, "largest Hessian eigenvalue"),
        "eigenvalue_error": Variable((), CURVATURE, "bound on the error of every eigenvalue"),
        "exact": Variable((), "1", "the whole spectrum was computed; if not, everything else is NaN", "b"),
        "n_products": Variable((), "1", "Hessian-vector products used", "i"),
    },
    probe="split",
)  # fmt: skip


def split(
    objective: Objective,
    w: Tensor,
    *,
    seed: int | None = None,  # noqa: ARG001
    eps: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
    eps_relative: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1),
) -> xr.Dataset:
    """The valley (eigenvalues above a threshold) and its condition number kappa, for many thresholds.

    kappa = lambda_1 / (smallest eigenvalue above the threshold). An absolute eps is the same for every architecture
    and checkpoint. **A kappa at a relative eps carries no information on a continuous spectrum**: some eigenvalue
    lies just above eps lambda_1, so kappa is about 1/eps by construction, for any network. `gap` tells the cases
    apart: it is the ratio of the two eigenvalues next to the threshold, near 1 where the spectrum is continuous there
    and kappa is set by eps alone. Statistics of widths (`valley`) and of log lambda (`density`) need no threshold.

    The whole spectrum is needed, by a dense Hessian of P products. Where P is too large for that, nothing is computed:
    `exact` is False, numbers are NaN and flags False.

    Args:
        objective: the loss.
        w: where, (P,).
        seed: ignored, nothing here is random (see `Probe`).
        eps: absolute thresholds, positive, ascending, in loss units per squared parameter unit.
        eps_relative: thresholds relative to the largest eigenvalue, between 0 and 1, ascending.

    Returns:
        Dataset with dims `eps` and `eps_relative`; see `SCHEMA` for variables and units. Without a positive eigenvalue
        the relative valley is empty: dimension 0, kappa NaN.

    Raises:
        LandscapeError: for thresholds out of range, or a Hessian that is not finite.

    Source:
        Gong, Liu, Teng (arXiv 2510.10089), Definition 1, which has one threshold without a number. The grids and the
        gap are a definition of this project.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(3, 1, bias=False)
        >>> data = (torch.diag(torch.tensor([6.0, 3.0, 1.0])) ** 0.5, torch.zeros(3, 1))
        >>> objective = Objective(model, lambda y, t: 1.5 * ((y - t) ** 2).sum(1), data)  # eigenvalues 6, 3, 1
        >>> ds = split(objective, objective.w0, eps=(0.5, 2.0), eps_relative=(0.4,))
        >>> ds.kappa_absolute.values.round(6).tolist(), ds.dimension_absolute.values.tolist()
        ([6.0, 2.0], [3.0, 2.0])
    """
    grids = {"absolute": np.asarray(eps, np.float64), "relative": np.asarray(eps_relative, np.float64)}
    for name, grid in grids.items():
        top = 1.0 if name == "relative" else math.inf
        if not len(grid) or not ((grid > 0) & (grid < top)).all() or (np.diff(grid) <= 0).any():
            raise LandscapeError(f"expected {name} thresholds in ascending order between 0 and {top:g}, found {grid}.")
    coords = {"eps": grids["absolute"], "eps_relative": grids["relative"]}
    if not fits(objective.size):
        values: dict[str, Any] = {"largest_eigenvalue": math.nan, "eigenvalue_error": math.nan, "n_products": 0}
        for name, grid in grids.items():
            nothing = np.full(len(grid), math.nan)
            values |= {f"{q}_{name}": nothing for q in ("dimension", "kappa", "gap")}
            values[f"converged_{name}"] = np.zeros(len(grid), dtype=bool)
        return SCHEMA.dataset({**values, "exact": False}, coords=coords, **objective.caveats)
    spectrum = exact_spectrum(objective, w)
    lam = spectrum.values.numpy()
    # Rounding of LAPACK, and of the products: as far as they are asymmetric they are wrong (Weyl's bound on the norm).
    error = len(lam) * (np.finfo(np.float64).eps + spectrum.asymmetry) * float(np.abs(lam).max())
    values = {"largest_eigenvalue": lam[0], "eigenvalue_error": error, "n_products": spectrum.n_products}
    for name, grid in grids.items():
        thresholds = grid if name == "absolute" else grid * max(lam[0], 0.0)
        values |= {f"{q}_{name}": v for q, v in _valleys(lam, thresholds, error).items()}
    return SCHEMA.dataset({**values, "exact": True}, coords=coords, **objective.caveats)


def _valleys(lam: Array, thresholds: Array, error: float) -> dict[str, NDArray[np.generic]]:
    """Dimension, kappa, gap and trust at each threshold, of descending eigenvalues with a bound on their error."""
    n = (lam[:, None] > thresholds).sum(0)
    some = n > 0
    last = lam[np.maximum(n - 1, 0)]
    after = np.append(lam, -np.inf)[n]
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = np.where(some, lam[0] / last, np.nan)
        gap = np.where(some, np.where(after > 0, last / after, np.inf), np.nan)
    clear = (np.abs(lam[:, None] - thresholds) > error).all(0)
    return {
        "dimension": n.astype(np.float64),
        "kappa": kappa,
        "gap": gap,
        "converged": clear & (~some | (2 * error <= ACCURACY * last)),
    }


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:  # noqa: ARG001
    return Counts(forwards=(1, 1), dense=1, eigen=1, matrices=6) if fits(extent.size) else Counts()


PROBE = Probe("split", 1, split, SCHEMA, by_default=False, cost=_cost)
