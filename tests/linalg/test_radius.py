"""Spectral radius and norm of matrices that are not symmetric, against LAPACK."""

import numpy as np
import pytest
import torch

from landscape.probes.linalg.eigen.radius import spectral_radius


def asked(A, *, tol=1e-6, **settings):
    A = torch.as_tensor(A, dtype=torch.float64)
    return spectral_radius(A.mv, A.T.mv, len(A), seed=0, tol=tol, **settings)


def general(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, n))


def planted(n, value, seed=0):
    """A non-normal matrix with these leading eigenvalues (complex ones in pairs) and others of magnitude up to 1/2."""
    rng = np.random.default_rng(seed)
    D = np.diag(rng.uniform(-0.5, 0.5, n))
    D[:2, :2] = [[value.real, -value.imag], [value.imag, value.real]] if value.imag else [[value.real, 0], [0, 0.1]]
    S = np.eye(n) + 0.1 * np.triu(rng.standard_normal((n, n)), 1)
    return S @ D @ np.linalg.inv(S)


@pytest.mark.parametrize("n", [1, 2, 3, 30, 64, 65, 120])
def test_general_matrices(n):
    A = general(n)
    found = asked(A)
    np.testing.assert_allclose(found.radius, np.abs(np.linalg.eigvals(A)).max(), rtol=1e-8)
    np.testing.assert_allclose(found.norm, np.linalg.norm(A, 2), rtol=1e-8)
    assert found.converged
    assert found.residual <= 1e-6 * found.norm


@pytest.mark.parametrize("n", [20, 90])
@pytest.mark.parametrize(
    ("value", "angle"), [(0.9 + 0j, 0.0), (-0.9 + 0j, np.pi), (0.6 + 0.6j, np.pi / 4), (1.2j, np.pi / 2)]
)
def test_real_negative_and_complex_leading_pairs(n, value, angle):
    found = asked(planted(n, value))
    np.testing.assert_allclose([found.radius, found.angle], [abs(value), angle], atol=1e-7)
    assert found.norm > 1.05 * found.radius  # the matrix is not normal
    assert found.converged


@pytest.mark.parametrize("n", [10, 80])
def test_zero_identity_and_rank_one(n):
    assert asked(np.zeros((n, n)))[:5] == (0, 0, 0, 0, 0)
    assert asked(np.zeros((n, n))).converged
    np.testing.assert_allclose([asked(2 * np.eye(n)).radius, asked(2 * np.eye(n)).norm], 2)
    u, v = general(n)[:2]
    np.testing.assert_allclose(asked(np.outer(u, v)).norm, np.linalg.norm(u) * np.linalg.norm(v))
    np.testing.assert_allclose(asked(np.outer(u, v)).radius, abs(u @ v))


def test_eigenvalues_that_rounding_moves_are_not_said_to_be_known():
    # Jordan block: residuals are at rounding, but the eigenvalue is off by the 40th root of it.
    n = 40
    A = 0.5 * np.eye(n) + np.diag(np.ones(n - 1), 1)
    A[-1, 0] = 1e-14
    S = np.linalg.qr(general(n))[0]
    found = asked(S @ A @ S.T)
    assert not found.converged
    assert found.residual < 1e-10
    assert found.error > 1e-6


def test_float32_and_counts():
    A = torch.as_tensor(planted(90, 0.6 + 0.6j), dtype=torch.float32)
    calls = []

    def counted(f):
        return lambda v: calls.append(v.dtype) or f(v)

    found = spectral_radius(counted(A.mv), counted(A.T.mv), 90, seed=1, tol=1e-3, dtype=torch.float32)
    np.testing.assert_allclose(found.radius, 0.6 * 2**0.5, rtol=1e-3)
    assert found.n_products == len(calls)
    assert set(calls) == {torch.float32}
