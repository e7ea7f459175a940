"""Operators and lines with known answers for the tests of `landscape.probes.linalg`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from landscape.curvature.symmetric import Symmetric
from landscape.probes.linalg import Crossings, Floor, crossing_search, floor_search, solve


def orthogonal(size, seed):
    """A random orthogonal matrix (P, P), float64."""
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=g))[0]


def with_spectrum(values, *, seed, dtype=torch.float64) -> Symmetric:
    """A dense operator with these eigenvalues (to rounding) in a random basis."""
    values = torch.as_tensor(values, dtype=torch.float64)
    q = orthogonal(values.numel(), seed)
    a = (q * values) @ q.T
    return Symmetric.from_dense(((a + a.T) / 2).to(dtype))


def diagonal(values, *, dtype=torch.float64) -> Symmetric:
    """The diagonal operator, its eigenvalues exact."""
    d = torch.as_tensor(values, dtype=dtype)
    return Symmetric(d.numel(), dtype, lambda v: d * v)


def scaled(op: Symmetric, factor: float) -> Symmetric:
    """Factor times the operator."""
    return Symmetric(op.size, op.dtype, lambda v: factor * op.mv(v), device=op.device)


SIZES = (1, 2, 3, 5, 8, 13, 20, 37, 61, 80)
KINDS = ("normal", "repeated", "clustered", "negative", "low rank", "graded", "identity", "zero", "integers", "network")


def spectrum(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A spectrum (P,) of a kind that is awkward for Krylov methods."""
    if kind == "normal":
        return rng.normal(size=size)
    if kind == "repeated":
        return rng.choice(rng.normal(size=3), size=size)
    if kind == "clustered":
        return rng.choice(rng.normal(size=4), size=size) + 1e-9 * rng.normal(size=size)
    if kind == "negative":
        return -np.abs(rng.normal(size=size)) - 1.0
    if kind == "low rank":
        return np.where(np.arange(size) < max(1, size // 10), rng.normal(size=size), 0.0)
    if kind == "graded":
        return 10.0 ** -np.linspace(0, 12, size)
    if kind == "identity":
        return np.ones(size)
    if kind == "zero":
        return np.zeros(size)
    if kind == "integers":
        return rng.integers(-3, 4, size=size).astype(float)
    return np.concatenate([40.0 / np.arange(1, size // 3 + 1), 0.05 * rng.normal(size=size - size // 3)])


def wanted(values, k: int, which: str) -> Tensor:
    """The true values `lanczos` was asked for, descending."""
    v = torch.as_tensor(values, dtype=torch.float64).sort(descending=True)[0]
    if which == "top":
        return v[:k]
    if which == "bottom":
        return v[-k:]
    if which == "both":
        return v if 2 * k >= v.numel() else torch.cat([v[:k], v[-k:]])
    magnitude = v.abs().sort(descending=True, stable=True)[1][:k]
    return v[magnitude].sort(descending=True)[0]


def audit(op, matrix, pairs, *, k, which, tol, must_converge=True):
    """All that a result claims, checked against `matrix`, the dense operator in float64."""
    true = torch.linalg.eigvalsh(matrix).flip(0)
    norm = float(true.abs().max())
    eps = torch.finfo(op.dtype).eps
    rounding = 8 * eps * math.sqrt(op.size) * norm
    v, lam = pairs.vectors.double(), pairs.values.double()
    residual = (matrix @ v - v * lam).norm(dim=0)
    torch.testing.assert_close(residual, pairs.residuals.double(), atol=rounding, rtol=1e-3)
    distance = (lam[:, None] - true[None, :]).abs().amin(dim=1)
    assert (distance <= pairs.residuals.double() + rounding).all()
    assert pairs.orthogonality <= 200 * eps * math.sqrt(op.size)
    torch.testing.assert_close(v.norm(dim=0), torch.ones_like(lam), atol=20 * eps, rtol=0)
    assert (pairs.converged == (pairs.residuals <= tol * pairs.scale)).all()
    assert (lam.diff() <= 0).all()
    assert pairs.scale <= norm * (1 + 10 * eps) + rounding
    if must_converge:
        assert pairs.converged.all()
    if pairs.resolved and pairs.converged.all():
        expected = wanted(true, k, which)
        assert lam.shape == expected.shape
        if which == "largest":  # +x and -x are equally large: compare magnitudes
            lam, expected = (x.abs().sort(descending=True)[0] for x in (lam, expected))
        missed = (lam - expected).abs().max()
        assert missed <= 3 * max(tol, 20 * eps) * norm + rounding


class Curve:
    """A line given by vectorised f and its derivative; counts calls."""

    def __init__(self, f, df):
        self._f, self._df = f, df
        self.calls = 0

    def value(self, t):
        self.calls += 1
        return float(self._f(np.float64(t)))

    def values(self, ts):
        self.calls += len(ts)
        return self._f(np.asarray(ts, dtype=np.float64))

    def slope(self, t):
        self.calls += 1
        return float(self._df(np.float64(t)))


def power(p: float, *, at=0.0, a=1.0, floor=0.0) -> Curve:
    """Floor + a |t - at|^p: half-width (rise / a)^(1/p)."""
    return Curve(
        lambda t: floor + a * np.abs(t - at) ** p,
        lambda t: a * p * np.abs(t - at) ** (p - 1) * np.sign(t - at),
    )


def half_width(p: float, a: float, rises) -> np.ndarray:
    """The half-widths of `power`."""
    return (np.asarray(rises) / a) ** (1 / p)


def double_well(depth=1.0) -> Curve:
    """(t^2 - 1)^2 with the left well lower by about 2 * 0.1; minima near -1 and 1."""
    return Curve(
        lambda t: depth * ((t * t - 1) ** 2 + 0.1 * t),
        lambda t: depth * (4 * t * (t * t - 1) + 0.1),
    )


def double_well_minimum() -> float:
    """The right-hand minimum of `double_well`, by Newton."""
    t = 1.0
    for _ in range(50):
        t -= (4 * t * (t * t - 1) + 0.1) / (12 * t * t - 4)
    return t


def find_floor(line, **settings) -> Floor:
    """The floor of one line."""
    return solve(floor_search(**settings), line)


def crossings(line, **settings) -> Crossings:
    """The half-widths of one line on one side."""
    return solve(crossing_search(**settings), line)
