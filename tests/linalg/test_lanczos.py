"""`lanczos`: every claim of convergence against dense truth, on spectra awkward for a Krylov method."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import eigsh
from support import oracles_linalg as known
from support.oracles_linalg import audit

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.probes.linalg import dense_eigenpairs, lanczos
from landscape.probes.linalg.eigen import residuals

F64 = torch.float64


@pytest.mark.parametrize("which", ["top", "bottom", "both", "largest"])
@pytest.mark.parametrize("kind", known.KINDS)
def test_nothing_reported_converged_is_wrong(kind, which):
    # 10 kinds x 4 ends x 10 sizes = 400 matrices, some times 1e-8, 1e+150 or 1e-150
    for i, size in enumerate(known.SIZES):
        rng = np.random.default_rng([i, *kind.encode(), *which.encode()])
        factor = (1.0, 1e-8, 1.0, 1e150, 1e-150)[i % 5]
        op = known.with_spectrum(factor * known.spectrum(kind, size, rng), seed=i)
        k = int(rng.integers(1, 11))
        pairs = lanczos(op, k=k, which=which, tol=(1e-6, 1e-9)[i % 2], seed=i)
        unit = Symmetric.from_dense(op.dense() / factor)
        shrunk = type(pairs)(
            **{
                **vars(pairs),
                "values": pairs.values / factor,
                "residuals": pairs.residuals / factor,
                "scale": pairs.scale / factor,
            }
        )
        audit(unit, unit.dense(), shrunk, k=k, which=which, tol=(1e-6, 1e-9)[i % 2])
        # A cluster of the width of the tolerance (1e-9 both) may be too much for the check: then it says so.
        assert pairs.resolved or (kind == "clustered" and i % 2), (kind, which, size, k)


@pytest.mark.parametrize("which", ["top", "both", "largest"])
@pytest.mark.parametrize("kind", known.KINDS)
def test_float32(kind, which):
    for i, size in enumerate((1, 7, 61)):
        rng = np.random.default_rng([i, *kind.encode()])
        factor = (1.0, 1e-8, 1e-25)[i]
        op = known.with_spectrum(factor * known.spectrum(kind, size, rng), seed=i, dtype=torch.float32)
        pairs = lanczos(op, k=4, which=which, tol=1e-5, seed=i)
        assert pairs.values.dtype == pairs.vectors.dtype == torch.float32
        wide = Symmetric(size, torch.float32, lambda v, op=op, factor=factor: op.mv(v) / factor)
        shrunk = type(pairs)(
            **{
                **vars(pairs),
                "values": pairs.values.double() / factor,
                "residuals": pairs.residuals.double() / factor,
                "scale": pairs.scale / factor,
            }
        )
        audit(wide, op.dense().double() / factor, shrunk, k=4, which=which, tol=1e-5)
        assert pairs.resolved


@pytest.mark.parametrize("copies", [1, 2, 3, 7])
@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_repeated_eigenvalues_are_counted(copies, k):
    # The k-th value is repeated just where one Krylov space cannot see it.
    distinct = 10.0 / torch.arange(1, 101, dtype=F64)
    values = torch.cat([distinct[: k - 1], distinct[k - 1].repeat(copies), distinct[k:]])
    pairs = lanczos(known.diagonal(values), k=k + copies - 1, seed=5)
    torch.testing.assert_close(pairs.values, values[: k + copies - 1], atol=1e-9, rtol=0)
    assert pairs.resolved
    assert pairs.converged.all()


def test_check_is_what_finds_the_second_copy():
    values = torch.cat([torch.tensor([2.0, 2.0, 1.5], dtype=F64), torch.linspace(0, 0.5, 300, dtype=F64)])
    op = known.diagonal(values)
    blind = lanczos(op, k=2, seed=0, check_missed=False)
    seeing = lanczos(op, k=2, seed=0)
    assert blind.converged.all()
    assert not blind.resolved
    assert float(blind.values[1]) == pytest.approx(1.5)  # an eigenpair, but not the second
    assert seeing.values.tolist() == pytest.approx([2.0, 2.0], abs=1e-10)
    assert seeing.resolved


def test_a_start_without_the_top_vector_is_seen_through():
    values = torch.cat([torch.tensor([5.0, 4.0], dtype=F64), torch.linspace(-1, 1, 200, dtype=F64)])
    init = torch.ones(202, dtype=F64)
    init[0] = 0.0  # an exact diagonal operator never leaves this hyperplane
    assert float(lanczos(known.diagonal(values), k=1, seed=0, init=init, check_missed=False).values[0]) < 4.1
    assert float(lanczos(known.diagonal(values), k=1, seed=0, init=init).values[0]) == pytest.approx(5.0, abs=1e-10)


def test_quadratic_to_ten_digits_at_default_tolerance():
    values = torch.cat([40.0 / torch.arange(1, 41, dtype=F64), 0.05 * torch.randn(460, dtype=F64).clamp(-2, 2)])
    op = known.with_spectrum(values, seed=3)
    pairs = lanczos(op, k=10, seed=0)
    torch.testing.assert_close(pairs.values, values[:10], rtol=1e-10, atol=0)
    reference = eigsh(op.scipy(), k=10, which="LA", return_eigenvectors=False)[::-1]
    np.testing.assert_allclose(pairs.values.numpy(), reference, rtol=1e-10)


@pytest.mark.parametrize("factor", [1e-8, 3e7, -1.0])
def test_times_a_number_changes_only_the_unit(factor):
    op = known.with_spectrum(known.spectrum("network", 61, np.random.default_rng(0)), seed=0)
    which = "largest"
    one, other = lanczos(op, k=6, which=which, seed=2), lanczos(known.scaled(op, factor), k=6, which=which, seed=2)
    expected = one.values * factor if factor > 0 else (one.values * factor).flip(0)
    torch.testing.assert_close(other.values, expected, rtol=1e-12, atol=0)
    assert other.scale == pytest.approx(one.scale * abs(factor), rel=1e-12)
    assert other.n_products == one.n_products
    assert other.resolved == one.resolved


def nearly_repeated(split, seed):
    """Values with two pairs a little apart, a k and a tolerance."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([40.0 / np.arange(1, 41), 0.05 * rng.normal(size=560)])
    for i in rng.integers(0, 12, size=2):
        values[i + 1] = values[i] * (1 - split)
    return rng.permutation(values), int(rng.integers(1, 12)), 10.0 ** -int(rng.integers(2, 9))


@pytest.mark.parametrize("split", [0.0, 1e-14, 1e-11, 1e-8, 1e-6])
def test_nearly_repeated_eigenvalues_do_not_eat_the_budget(split):
    # Copies a little apart: the first run returns a mixture of them, the check must separate or accept it, and go on.
    for seed in range(8):
        values, k, tol = nearly_repeated(split, seed)
        op = known.diagonal(values)
        pairs = lanczos(op, k=k, tol=tol, seed=seed)
        assert pairs.resolved
        assert pairs.converged.all()
        assert pairs.n_products <= 130
        true = known.wanted(values, k, "top")
        torch.testing.assert_close(pairs.values, true, rtol=0, atol=3 * tol * float(true[0]))


@pytest.mark.parametrize(("split", "seed"), [(0.0, 6), (0.0, 35), (1e-14, 35), (1e-13, 7), (1e-11, 7), (1e-11, 29)])
def test_the_cost_does_not_hang_on_the_last_bit(split, seed):
    # A check that finds a copy beside locked vectors with errors once went on for 400 products, on some machines only.
    values, k, tol = nearly_repeated(split, seed)
    d = torch.as_tensor(values)
    for draw in range(6):
        g = torch.Generator().manual_seed(draw)
        noise = draw * torch.finfo(F64).eps / 4

        def product(v, g=g, noise=noise):
            return d * v * (1 + noise * torch.randn(600, dtype=F64, generator=g))

        pairs = lanczos(Symmetric(600, F64, product), k=k, tol=tol, seed=seed)
        assert pairs.resolved
        assert pairs.converged.all()
        assert pairs.n_products <= 75
        torch.testing.assert_close(pairs.values, known.wanted(values, k, "top"), rtol=0, atol=3 * tol * max(values))


def test_a_check_that_finds_nothing_leaves_converged_pairs_alone():
    # 119 values in 4 clusters of width 1e-9: mixing with the check's own vectors once spoiled the pairs.
    rng = np.random.default_rng(394)
    for seed in range(390, 400):
        op = known.diagonal(rng.permutation(known.spectrum("clustered", 119, rng)))
        assert lanczos(op, k=2, which="both", tol=1e-7, seed=seed).converged.all()


def test_counts_its_products_and_keeps_to_its_budget():
    op = known.with_spectrum(np.random.default_rng(0).normal(size=200), seed=1)
    full = lanczos(op, k=5, seed=0)
    assert full.n_products == op.n_products
    for budget in (2, 3, 7, 11, 15, 40, 41):
        op.n_products = 0
        pairs = lanczos(op, k=5, which="top", max_products=budget, seed=0, tol=1e-10)
        assert pairs.n_products == op.n_products <= budget
        assert not pairs.resolved
        assert not pairs.converged.all()
        audit(op, op.dense(), pairs, k=5, which="top", tol=1e-10, must_converge=False)
        assert 1 <= len(pairs.end) == pairs.values.numel() <= 5
    for budget in (2, 3, 9, 30):
        pairs = lanczos(op, k=5, which="both", max_products=budget, seed=0, tol=1e-10)
        assert pairs.n_products <= budget
        audit(op, op.dense(), pairs, k=5, which="both", tol=1e-10, must_converge=False)


@pytest.mark.parametrize(
    ("which", "k", "end"),
    [
        ("both", 2, ("top", "top", "bottom", "bottom")),
        ("top", 3, ("top",) * 3),
        ("bottom", 1, ("bottom",)),
        ("largest", 2, ("largest",) * 2),
        ("both", 50, ("top",) * 4 + ("bottom",) * 3),
        ("top", 7, ("top",) * 7),
    ],
)
def test_ends(which, k, end):
    op = known.with_spectrum([5.0, 3.0, 1.0, 0.0, -1.0, -2.0, -8.0], seed=0)
    pairs = lanczos(op, k=k, which=which, seed=0)
    assert pairs.end == end
    torch.testing.assert_close(
        pairs.values, known.wanted([5.0, 3.0, 1.0, 0.0, -1.0, -2.0, -8.0], k, which), atol=1e-10, rtol=0
    )


def test_warm_start_saves_products_and_a_perfect_one_does_not_mislead():
    op = known.with_spectrum(known.spectrum("network", 300, np.random.default_rng(1)), seed=4)
    cold = lanczos(op, k=5, seed=0)
    warm = lanczos(op, k=5, seed=0, init=cold.vectors)
    assert warm.n_products < cold.n_products
    torch.testing.assert_close(warm.values, cold.values, rtol=1e-9, atol=0)
    single = lanczos(op, k=5, seed=0, init=cold.vectors[:, 4])  # an eigenvector: invariant at once
    torch.testing.assert_close(single.values, cold.values, rtol=1e-9, atol=0)
    zero = lanczos(op, k=5, seed=0, init=torch.zeros(300, dtype=F64))
    torch.testing.assert_close(zero.values, cold.values, rtol=1e-9, atol=0)


def test_same_seed_same_bits_and_no_global_state():
    op = known.with_spectrum(np.random.default_rng(3).normal(size=61), seed=1)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    one = lanczos(op, k=3, seed=7)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.vectors, lanczos(op, k=3, seed=7).vectors)
    assert not torch.equal(one.vectors, lanczos(op, k=3, seed=8).vectors)


def test_products_good_to_five_digits_only_are_not_called_converged():
    op = known.with_spectrum(np.random.default_rng(3).normal(size=61), seed=1)
    g = torch.Generator().manual_seed(0)

    def noisy(v):
        w = op.mv(v)
        return w + 1e-5 * w.norm() * torch.nn.functional.normalize(torch.randn(61, dtype=F64, generator=g), dim=0)

    pairs = lanczos(Symmetric(61, F64, noisy), k=3, seed=0)
    assert not pairs.converged.any()
    assert pairs.n_products < 200


def test_cost_of_the_check_on_a_spectrum_like_a_network():
    g = torch.Generator().manual_seed(3)
    values = torch.cat([40.0 / torch.arange(1, 41, dtype=F64), 0.05 * torch.randn(1460, dtype=F64, generator=g)])
    op = known.diagonal(values)
    blind, seeing = lanczos(op, k=10, seed=1, check_missed=False), lanczos(op, k=10, seed=1)
    assert seeing.resolved
    assert blind.n_products <= 44
    assert seeing.n_products - blind.n_products <= 9


@settings(deadline=None, max_examples=60)
@given(
    levels=st.lists(st.sampled_from([-7.0, -1.0, 0.0, 1e-3, 1.0, 1.5, 3.0]), min_size=1, max_size=40),
    k=st.integers(1, 12),
    which=st.sampled_from(["top", "bottom", "both", "largest"]),
    seed=st.integers(0, 2**31),
)
def test_any_multiset_of_eigenvalues_is_found_with_multiplicity(levels, k, which, seed):
    op = known.diagonal(levels)
    pairs = lanczos(op, k=k, which=which, seed=seed)
    audit(op, op.dense(), pairs, k=k, which=which, tol=1e-6)
    assert pairs.resolved


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"k": 0}, "k to be an integer"),
        ({"k": True}, "k to be an integer"),
        ({"which": "middle"}, "top, bottom, both, largest"),
        ({"tol": 0.0}, "tolerance"),
        ({"max_products": 1}, "max_products"),
        ({"init": torch.ones(4)}, r"\(5,\) or \(5, b\)"),
        ({"init": torch.full((5,), math.nan)}, "finite init"),
    ],
)
def test_bad_input_is_refused(kwargs, match):
    with pytest.raises(LandscapeError, match=match):
        lanczos(known.diagonal(torch.arange(5.0, dtype=F64)), seed=0, **kwargs)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_product_that_is_not_finite_is_refused(bad):
    values = torch.arange(5.0, dtype=F64)
    values[3] = bad
    with pytest.raises(LandscapeError, match="NaN or infinity"):
        lanczos(known.diagonal(values), k=2, seed=0)


def test_dense_agrees_and_shows_asymmetry():
    op = known.with_spectrum(np.random.default_rng(0).normal(size=61), seed=2)
    for which in ("top", "bottom", "both", "largest"):
        dense, krylov = dense_eigenpairs(op, k=4, which=which), lanczos(op, k=4, which=which, seed=0)
        torch.testing.assert_close(dense.values, krylov.values, rtol=1e-9, atol=1e-12)
        assert dense.end == krylov.end
        assert dense.converged.all()
        assert dense.n_products == 61
    assert dense_eigenpairs(op).values.numel() == 61
    assert dense_eigenpairs(op).asymmetry < 1e-14
    skewed = op.dense()
    skewed[0, 1] += 0.5 * skewed.abs().max()
    pairs = dense_eigenpairs(Symmetric.from_dense(skewed.float()))
    assert pairs.values.dtype == F64
    assert 0.1 < pairs.asymmetry < 0.6
    assert pairs.residuals.max() > 0.01
    assert dense_eigenpairs(known.diagonal([0.0, 0.0])).converged.all()
    with pytest.raises(LandscapeError, match="None or an integer"):
        dense_eigenpairs(op, k=0)
    with pytest.raises(LandscapeError, match="expected which"):
        dense_eigenpairs(op, which="all")
    with pytest.raises(LandscapeError, match="NaN or infinity"):
        dense_eigenpairs(known.diagonal([1.0, math.nan]))


def test_the_check_passes_wrongly_as_rarely_as_it_says(monkeypatch):
    # At the real 1e-4 nothing would be seen, so ask for 0.3: a check that stops at once fails far more often.
    from landscape.probes.linalg.eigen import missed

    monkeypatch.setattr(missed, "FAILURE", 0.3)
    values = torch.cat([torch.tensor([2.0, 2.0, 1.5], dtype=F64), torch.linspace(0, 1.3, 300, dtype=F64)])
    wrong = 0
    for seed in range(100):
        pairs = lanczos(known.diagonal(values), k=2, seed=seed, tol=1e-3)
        wrong += bool(pairs.resolved and pairs.values[1] < 1.9)
    assert 1 <= wrong <= 40  # at most 30 expected; and it must be able to fail


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_on_a_gpu(dtype):
    cpu = known.with_spectrum(known.spectrum("network", 300, np.random.default_rng(0)), seed=0, dtype=dtype)
    gpu = Symmetric.from_dense(cpu.dense().cuda())
    a, b = (lanczos(op, k=5, which="both", tol=1e-5, seed=0) for op in (cpu, gpu))
    assert b.vectors.is_cuda
    assert b.converged.all()
    torch.testing.assert_close(b.values.cpu(), a.values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(dense_eigenpairs(gpu, k=5).values.cpu(), dense_eigenpairs(cpu, k=5).values)


def test_true_residuals_cost_one_product_for_all_pairs(monkeypatch):
    # Whether the images of the pairs come from the products made, or, where there is no room for these, from the
    # recurrence. Where neither agrees with a fresh product, there is one product for each.
    op = known.with_spectrum(known.spectrum("network", 120, np.random.default_rng(5)), seed=5)
    kept = lanczos(op, k=6, seed=0, check_missed=False)
    again = lanczos(op, k=6, seed=0, check_missed=False, memory=8 * 120 * 140)  # room for the vectors alone
    assert again.n_products == kept.n_products
    monkeypatch.setattr(residuals, "TRUST", 0.0)
    assert lanczos(op, k=6, seed=0, check_missed=False).n_products == kept.n_products + 6
    for pairs in (kept, again):
        torch.testing.assert_close(kept.values, pairs.values, rtol=1e-12, atol=0)
        fresh = (op.dense() @ pairs.vectors - pairs.vectors * pairs.values).norm(dim=0)
        torch.testing.assert_close(pairs.residuals, fresh, rtol=1e-4, atol=1e-13 * kept.scale)


def test_products_that_do_not_repeat_are_made_again_for_the_residuals():
    """An operator whose later products differ: combinations of the earlier ones must not pass for its residuals."""
    exact = known.with_spectrum(known.spectrum("network", 80, np.random.default_rng(6)), seed=6)
    n_solve = lanczos(exact, k=4, seed=0, check_missed=False).n_products - 1
    drift = known.with_spectrum(np.random.default_rng(7).normal(size=80), seed=7)
    calls = 0

    def product(v):
        nonlocal calls
        calls += 1
        return exact.mv(v) + (1e-2 * drift.mv(v) if calls > n_solve else 0.0)

    pairs = lanczos(Symmetric(80, F64, product), k=4, seed=0, check_missed=False)
    moved = exact.dense() + 1e-2 * drift.dense()
    fresh = (moved @ pairs.vectors - pairs.vectors * pairs.values).norm(dim=0)
    torch.testing.assert_close(pairs.residuals, fresh, rtol=1e-6, atol=0)
    assert not pairs.converged.all()
