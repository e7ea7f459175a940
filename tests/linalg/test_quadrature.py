"""Stochastic Lanczos quadrature and Hutch++ against dense spectra, and their errors as statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support import oracles_linalg as known

from landscape.errors import LandscapeError
from landscape.probes.linalg import hutchpp, lanczos_quadrature, spectral_sum

F64 = torch.float64


def test_all_unit_vectors_and_all_steps_give_the_dense_answer():
    values = torch.linspace(-2, 3, 37, dtype=F64)
    op = known.with_spectrum(values, seed=0)
    q = lanczos_quadrature(op, n_vectors=37, n_steps=37, seed=0, start=3.0 * torch.eye(37, dtype=F64))
    for f in (lambda x: x, torch.ones_like, lambda x: x**2, torch.exp, lambda x: (x > 0.45).to(F64)):
        assert spectral_sum(q, f)[0] == pytest.approx(float(f(values).sum()), rel=1e-10)
    assert q.n_products == op.n_products == 37 * 37
    assert q.size == 37


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_shapes_weights_and_gauss_exactness(distribution):
    op = known.with_spectrum(np.random.default_rng(0).normal(size=61), seed=0)
    q = lanczos_quadrature(op, n_vectors=3, n_steps=5, seed=0, distribution=distribution)
    assert q.node.shape == q.weight.shape == (3, 5)
    torch.testing.assert_close(q.weight.sum(dim=1), torch.ones(3, dtype=F64), rtol=0, atol=1e-14)
    assert (q.weight > 0).all()
    assert (q.node.diff(dim=1) > 0).all()
    # Moments up to 2 n_steps - 1 are those of the start vector, which more steps know exactly.
    full = lanczos_quadrature(op, n_vectors=3, n_steps=61, seed=0, distribution=distribution)
    for degree in range(10):
        a = (q.weight * q.node**degree).sum(dim=1)
        b = (full.weight * full.node.nan_to_num() ** degree).sum(dim=1)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "distinct"),
    [
        ([2.0] * 20, 1),
        ([0.0] * 20, 1),
        ([5.0] + [0.0] * 19, 2),
        ([1.0, -3.0] * 10, 2),
        ([7.0], 1),
    ],
)
def test_breakdown_is_padded(values, distinct):
    q = lanczos_quadrature(known.with_spectrum(values, seed=1), n_vectors=4, n_steps=9, seed=0)
    assert q.n_products == 4 * distinct
    assert q.node[:, distinct:].isnan().all()
    assert (q.weight[:, distinct:] == 0).all()
    estimate, _ = spectral_sum(q, torch.ones_like)
    assert estimate == pytest.approx(len(values), rel=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_errors_are_as_large_as_they_say(distribution):
    values = torch.as_tensor(known.spectrum("network", 100, np.random.default_rng(0)))
    op = known.with_spectrum(values, seed=2)
    f = lambda x: x.abs().sqrt()  # noqa: E731
    z = []
    for seed in range(60):
        q = lanczos_quadrature(op, n_vectors=12, n_steps=40, seed=seed, distribution=distribution)
        estimate, error = spectral_sum(q, f)
        z.append((estimate - float(f(values).sum())) / error)
    assert abs(np.mean(z)) < 4 * np.std(z) / math.sqrt(60)
    assert 0.75 < np.std(z) < 1.6  # Student's t with 11 degrees of freedom has 1.11
    assert max(map(abs, z)) < 6


def test_one_vector_has_no_error_bar_and_nan_of_f_is_kept():
    op = known.with_spectrum([1.0, -2.0, 3.0], seed=0)
    q = lanczos_quadrature(op, n_vectors=1, n_steps=2, seed=0)
    assert math.isnan(spectral_sum(q, torch.ones_like)[1])
    q = lanczos_quadrature(op, n_vectors=2, n_steps=3, seed=0)
    assert math.isnan(spectral_sum(q, torch.log)[0])


def test_scale_seed_and_float32():
    op = known.with_spectrum(np.random.default_rng(0).normal(size=61), seed=0)
    one = lanczos_quadrature(op, n_vectors=3, n_steps=20, seed=4)
    tiny = lanczos_quadrature(known.scaled(op, 1e-8), n_vectors=3, n_steps=20, seed=4)
    torch.testing.assert_close(tiny.node, one.node * 1e-8, rtol=1e-9, atol=1e-20)
    torch.testing.assert_close(tiny.weight, one.weight, rtol=1e-6, atol=1e-12)
    again = lanczos_quadrature(op, n_vectors=3, n_steps=20, seed=4)
    assert torch.equal(again.node, one.node)
    assert not torch.equal(lanczos_quadrature(op, n_vectors=3, n_steps=20, seed=5).node, one.node)
    single = known.with_spectrum(
        1e-25 * known.spectrum("normal", 61, np.random.default_rng(0)), seed=0, dtype=torch.float32
    )
    q = lanczos_quadrature(single, n_vectors=3, n_steps=20, seed=4)
    assert q.node.dtype == F64
    torch.testing.assert_close(q.node * 1e25, one.node, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_products", [3, 10, 31, 60])
def test_hutchpp_is_unbiased_and_knows_its_error(n_products):
    values = torch.as_tensor(known.spectrum("network", 100, np.random.default_rng(0)))
    op = known.with_spectrum(values, seed=2)
    estimates, z = [], []
    for seed in range(80):
        op.n_products = 0
        estimate, error, *_ = hutchpp(op, n_products=n_products, seed=seed)
        assert op.n_products == n_products
        estimates.append(estimate)
        z.append((estimate - float(values.sum())) / error)
    spread = np.std(estimates)
    assert abs(np.mean(estimates) - float(values.sum())) < 4 * spread / math.sqrt(80)
    if n_products >= 31:
        assert 0.7 < np.std(z) < 1.8
        assert spread < {31: 0.05, 60: 0.02}[n_products] * float(values.sum())  # Hutchinson: 0.07, 0.05
    if n_products == 3:
        assert all(map(math.isnan, z))


def test_hutchpp_is_exact_on_low_rank_and_small_operators():
    low = known.with_spectrum([9.0, -4.0, 2.0] + [0.0] * 58, seed=0)
    trace, error, *_ = hutchpp(low, n_products=12, seed=0)
    assert trace == pytest.approx(7.0, rel=1e-12)
    assert error < 1e-12
    small = known.with_spectrum([1e-9, 2e-9, -5e-9], seed=0)
    trace, error, *_ = hutchpp(small, n_products=30, seed=0)
    assert trace == pytest.approx(-2e-9, rel=1e-12)
    assert error == 0.0
    assert small.n_products == 6
    assert hutchpp(known.diagonal([0.0] * 9), n_products=9, seed=0) == (0.0, 0.0, 0.0, 0.0)


def test_bad_input_is_refused():
    op = known.diagonal([1.0, 2.0, 3.0])
    with pytest.raises(LandscapeError, match="n_vectors, n_steps"):
        lanczos_quadrature(op, n_vectors=0, n_steps=1, seed=0)
    with pytest.raises(LandscapeError, match="rademacher or gaussian"):
        lanczos_quadrature(op, n_vectors=1, n_steps=1, seed=0, distribution="uniform")
    with pytest.raises(LandscapeError, match="start of shape"):
        lanczos_quadrature(op, n_vectors=2, n_steps=1, seed=0, start=torch.eye(3, dtype=F64))
    with pytest.raises(LandscapeError, match="row 1 to be zero"):
        lanczos_quadrature(
            op, n_vectors=2, n_steps=1, seed=0, start=torch.eye(3, dtype=F64)[:2] * torch.tensor([[1.0], [0]])
        )
    with pytest.raises(LandscapeError, match="n_products"):
        hutchpp(op, n_products=2, seed=0)
    with pytest.raises(LandscapeError, match="NaN or infinity"):
        hutchpp(known.diagonal([1.0, math.nan]), n_products=3, seed=0)
