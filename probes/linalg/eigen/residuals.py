"""True residuals of Ritz pairs, at the price of one product where what is known of them can be trusted."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.probes.linalg.eigen.krylov import Counted, Krylov, Vector, gaussian, norm
from landscape.probes.linalg.eigen.ritz import Ritz
from landscape.probes.linalg.eigen.rows import Rows

__all__ = ["Pairs", "measured", "weights"]

TRUST = 0.25
"""Images that were not made by a product count as true if one differs by less than this part of the tolerance."""


class Pairs(NamedTuple):
    """Ritz vectors (m, P) as rows of unit norm, values (m,), true residuals (m,), and the largest residual vector."""

    rows: Tensor
    values: Vector
    errors: Vector
    worst: Tensor


def weights(ritz: Ritz, index: NDArray[np.intp], like: Tensor) -> Tensor:
    """What some Ritz vectors are combined of, (m, n) on the rows of the basis."""
    return torch.as_tensor(ritz.weights[:, index].T.copy()).to(like)


def measured(
    run: Krylov,
    ritz: Ritz,
    index: NDArray[np.intp],
    *,
    tol: float,
    scale: float,
    room: int,
    generator: torch.Generator,
) -> Pairs:
    """Ritz pairs with their true residuals.

    What A v_i should be is known without a product: from the images of the rows, or, where these are not kept, from the
    recurrence, theta_i v_i + own_i r. One product with a random combination of all v_i, signs s_i, tells how far that
    is from fresh products: E |sum s_i e_i|^2 = sum |e_i|^2. Unless it is small beside the tolerance (from the
    recurrence: no more than rounding) every product is made again.

    Args:
        run: the run that the pairs are from.
        ritz: its pairs.
        index: which of them.
        tol: relative tolerance of the residuals.
        scale: the spectral norm.
        room: products left, at least one for each pair. One more must be left for the trial.
        generator: of the signs.
    """
    op, kept = run.op, run.rows
    combined = weights(ritz, index, op.like)
    rows = combined @ kept.head(combined.shape[1])
    length = torch.tensor([norm(v) for v in rows], dtype=torch.float64).to(rows)
    rows.div_(length[:, None])
    rounding = 4 * op.eps * math.sqrt(op.size)
    own = ritz.own[index]
    # The recurrence does not know what locked pairs have brought along.
    recurs = bool((ritz.error[index] - np.abs(own) <= rounding * scale).all())
    if 1 < index.size < room and (kept.has_images or recurs):
        signs = gaussian(index.size, generator, op).sign()
        tail = run.newest if ritz.tail is None else ritz.tail
        image = kept.image((signs / length) @ combined)
        if image is None:
            image = (signs * torch.as_tensor(ritz.theta[index]).to(signs)) @ rows
            image.add_(tail, alpha=float(signs.cpu().double().numpy() @ own))
        off = _apart(op, kept, signs @ rows, image)
        del image
        if kept.has_images and off <= TRUST * tol * scale:
            return _each(op, kept, rows, combined / length[:, None])
        if not kept.has_images and off <= min(TRUST * tol, rounding) * scale:
            return Pairs(rows, ritz.theta[index], np.hypot(own, off), tail)
    return _each(op, kept, rows, None)


def _apart(op: Counted, kept: Rows, mixed: Tensor, image: Tensor) -> float:
    """Distance of the product with a vector from what it should be."""
    length = norm(mixed)
    return norm(op(mixed.div_(length), kept.work).mul_(length).sub_(image))


def _each(op: Counted, kept: Rows, rows: Tensor, combined: Tensor | None) -> Pairs:
    """Values and residuals of unit vectors (m, P), whose images are combined of those kept, or else made."""
    values, errors = np.zeros(len(rows)), np.zeros(len(rows))
    worst = rows[0]
    for i, v in enumerate(rows):
        image = None if combined is None else kept.image(combined[i])
        rest = op(v) if image is None else image
        for _ in range(2):  # a sum of millions of numbers in float32 is good to a few digits only
            part = float(v.dot(rest))
            values[i] += part
            rest.sub_(v, alpha=part)
        errors[i] = norm(rest)
        if errors[i] >= errors[: i + 1].max():
            worst = rest
    return Pairs(rows, values, errors, worst)
