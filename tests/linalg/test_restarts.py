"""`lanczos` with less memory than its steps would take: restarts, a check that keeps no vectors, and bytes counted."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracles_linalg as known
from support.memory import Tally

from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes import spectrum
from landscape.probes.linalg import dense_eigenpairs, lanczos
from landscape.probes.linalg.eigen import krylov, missed, residuals

F64 = torch.float64
module = import_module("landscape.probes.linalg.eigen.lanczos")  # the package's `lanczos` is the function


def room(op, n_wanted, rows):
    """Bytes for so many rows, beside the result and the work."""
    return op.size * torch.finfo(op.dtype).bits // 8 * (n_wanted + module.WORK + rows)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(known.KINDS),
    which=st.sampled_from(["top", "bottom", "both", "largest"]),
    single=st.booleans(),
    k=st.integers(1, 6),
    spare=st.integers(0, 20),
    factor=st.sampled_from([1.0, 1e-8, -3e7]),
    seed=st.integers(0, 2**31),
)
def test_nothing_reported_with_restarts_is_wrong(kind, which, single, k, spare, factor, seed):
    rng = np.random.default_rng(seed)
    size, n_wanted = int(rng.integers(30, 160)), 2 * k if which == "both" else k
    dtype, tol = (torch.float32, 1e-4) if single else (F64, float(rng.choice([1e-6, 1e-9])))
    op = known.with_spectrum(factor * known.spectrum(kind, size, rng), seed=seed % 1000, dtype=dtype)
    memory = room(op, n_wanted, n_wanted + module.SPARE + spare)
    pairs = lanczos(op, k=k, which=which, tol=tol, seed=seed, memory=memory)
    unit = abs(factor)
    shrunk = {name: getattr(pairs, name).double() / unit for name in ("values", "residuals")}
    shrunk = type(pairs)(**{**vars(pairs), **shrunk, "scale": pairs.scale / unit})
    wide = Symmetric(size, dtype, lambda v: op.mv(v) / unit)
    known.audit(wide, op.dense().double() / unit, shrunk, k=k, which=which, tol=tol, must_converge=False)
    assert pairs.converged.all() or pairs.n_products >= 250  # only when the products have run out
    assert pairs.n_products <= 300 + 30 * n_wanted


@pytest.mark.parametrize("which", ["top", "bottom", "both", "largest"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_restarts_give_the_same_pairs(which, dtype):
    tol = 1e-4 if dtype == torch.float32 else 1e-9
    ends = torch.tensor([-7.0, 5.0, 4.0, -4.0, 3.5, 3.0, -2.5, 2.2, -2.2, -2.1, 2.0, -1.9, 1.8, 1.7], dtype=F64)
    op = known.with_spectrum(torch.cat([ends, torch.linspace(-1.5, 1.5, 300, dtype=F64)]), seed=2, dtype=dtype)
    n_wanted = 8 if which == "both" else 4
    free = lanczos(op, k=4, which=which, tol=tol, seed=0)
    rows = n_wanted + 10
    tight = lanczos(op, k=4, which=which, tol=tol, seed=0, memory=room(op, n_wanted, rows), max_products=1000)
    assert tight.n_products > 1.5 * rows
    assert tight.resolved
    assert tight.converged.all()
    torch.testing.assert_close(tight.values, free.values, rtol=0, atol=3 * tol * free.scale)
    known.audit(op, op.dense().double(), tight, k=4, which=which, tol=tol)


def test_times_a_power_of_two_changes_only_the_unit_and_1e_minus_8_nothing_but_roundings():
    op = known.with_spectrum(known.spectrum("network", 200, np.random.default_rng(0)), seed=0)
    memory = room(op, 5, 15)
    one = lanczos(op, k=5, seed=2, memory=memory)
    for factor, rtol in ((2.0**-27, 0.0), (1e-8, 1e-12)):
        other = lanczos(known.scaled(op, factor), k=5, seed=2, memory=memory)
        torch.testing.assert_close(other.values, one.values * factor, rtol=rtol, atol=0)
        assert other.n_products == one.n_products > 20
        assert other.resolved
        assert one.resolved


def hard(n=300):
    """A repeated top value over a bulk that comes close: the check takes more steps than there is room for."""
    return torch.cat([torch.tensor([2.0, 2.0, 1.5], dtype=F64), torch.linspace(0, 1.3, n, dtype=F64)])


def test_a_check_without_room_for_its_vectors_finds_the_second_copy():
    op = known.diagonal(hard())
    memory = room(op, 2, 12)
    blind = lanczos(op, k=2, seed=0, tol=1e-6, memory=memory, check_missed=False)
    assert float(blind.values[1]) == pytest.approx(1.5)
    seeing = lanczos(op, k=2, seed=0, tol=1e-6, memory=memory)
    assert seeing.values.tolist() == pytest.approx([2.0, 2.0], abs=1e-10)
    assert seeing.resolved


def test_a_check_that_keeps_no_vectors_passes_wrongly_as_rarely_as_it_says(monkeypatch):
    # As in test_lanczos, with room for twelve vectors: the recurrence of the check loses its orthogonality.
    monkeypatch.setattr(missed, "FAILURE", 0.3)
    forgot = []
    append = krylov.Krylov._append

    def noted(run, *args):
        append(run, *args)
        forgot.append(run.forgets)

    monkeypatch.setattr(krylov.Krylov, "_append", noted)
    op, wrong, passed = known.diagonal(hard()), 0, 0
    for seed in range(60):
        forgot.clear()
        pairs = lanczos(op, k=2, seed=seed, tol=1e-3, memory=room(op, 2, 8), max_products=200)
        wrong += bool(pairs.resolved and pairs.values[1] < 1.9)
        passed += bool(pairs.resolved and any(forgot))
    assert passed >= 40
    assert 1 <= wrong <= 28  # at most 18 expected, and it must be able to fail


def test_a_check_long_after_its_vectors_are_forgotten_still_tells_the_truth():
    # Two outliers at the bottom, which nobody asked for, converge in the check and come again as ghosts.
    bulk = torch.linspace(-1, 1, 400, dtype=F64)
    for copies in (1, 2):
        values = torch.cat([torch.tensor([1.02] * copies + [-30.0, -25.0], dtype=F64), bulk])
        for dtype, tol in ((F64, 1e-7), (torch.float32, 1e-5)):
            op = known.diagonal(values, dtype=dtype)
            pairs = lanczos(op, k=2, seed=1, tol=tol, memory=room(op, 2, 20), max_products=2000)
            assert pairs.resolved
            assert pairs.converged.all()
            true = known.wanted(values, 2, "top")
            torch.testing.assert_close(pairs.values.double(), true, rtol=0, atol=3 * tol * 30)


@pytest.mark.parametrize(
    ("k", "which", "check_missed", "rows", "columns"),
    [(3, "top", True, 16, 0), (2, "both", True, 10, 0), (5, "largest", False, 20, 3), (3, "top", False, 120, 0)],
)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_memory_is_met(k, which, check_missed, rows, columns, dtype):
    # All tensors that exist at a time, the products included; what is small beside a vector is left out of the sum.
    size = 400_000
    head = 40.0 / torch.arange(1, 21, dtype=dtype)
    d = torch.cat([head, -0.5 * head[:5], torch.linspace(-0.1, 0.1, size - 25, dtype=dtype)])
    op = Symmetric(size, dtype, lambda v: d * v)
    init = torch.ones(size, columns, dtype=dtype) if columns else None
    n_wanted = 2 * k if which == "both" else k
    memory = room(op, n_wanted, rows)
    with Tally() as tally:
        pairs = lanczos(op, k=k, which=which, seed=0, tol=1e-3, init=init, check_missed=check_missed, memory=memory)
    vector = size * d.element_size()
    assert 0.8 * min(rows, pairs.n_products) * vector <= tally.peak <= memory
    assert tally.now <= (n_wanted + 0.1) * vector  # of all that, the result is left
    assert pairs.converged.all()
    assert pairs.resolved == check_missed


def test_a_large_problem_takes_a_moderate_number_of_rows_of_what_it_is_allowed(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 0)
    size = 200_000
    d = torch.cat([40.0 / torch.arange(1, 41, dtype=F64), torch.linspace(-0.1, 0.1, size - 40, dtype=F64)])
    with Tally() as tally:
        pairs = lanczos(Symmetric(size, F64, lambda v: d * v), k=4, seed=0, tol=1e-6)
    assert pairs.resolved
    assert tally.peak <= (2 * 4 + 10 + 4 + module.WORK) * 8 * size
    torch.testing.assert_close(pairs.values, d[:4], rtol=1e-9, atol=0)


def test_too_little_memory_is_refused_with_the_number():
    op = known.with_spectrum(np.random.default_rng(0).normal(size=200), seed=1)
    least = 2 * 5 + module.WORK + module.SPARE
    assert lanczos(op, k=5, seed=0, memory=least * 8 * 200).values.numel() == 5
    with pytest.raises(LandscapeError, match=rf"at least {least} vectors: .* GiB"):
        lanczos(op, k=5, seed=0, memory=least * 8 * 200 - 1)


@pytest.mark.parametrize("trust", [0.0, 0.25])
def test_fewer_products_than_rows_are_kept_to(monkeypatch, trust):
    monkeypatch.setattr(residuals, "TRUST", trust)
    op = known.with_spectrum(np.random.default_rng(0).normal(size=200), seed=1)
    for budget in (2, 3, 11, 15, 40, 41, 90):
        op.n_products = 0
        pairs = lanczos(op, k=5, max_products=budget, seed=0, tol=1e-10, memory=room(op, 5, 11))
        assert pairs.n_products == op.n_products <= budget
        assert not pairs.resolved
        known.audit(op, op.dense(), pairs, k=5, which="top", tol=1e-10, must_converge=False)


@pytest.mark.parametrize("check_missed", [False, True])
def test_true_residuals_cost_one_product_where_no_products_are_kept(monkeypatch, check_missed):
    op = known.with_spectrum(known.spectrum("network", 200, np.random.default_rng(5)), seed=5)
    cheap = lanczos(op, k=6, seed=0, check_missed=check_missed, memory=room(op, 6, 16))
    monkeypatch.setattr(residuals, "TRUST", 0.0)
    dear = lanczos(op, k=6, seed=0, check_missed=check_missed, memory=room(op, 6, 16))
    assert dear.n_products == cheap.n_products + 6
    torch.testing.assert_close(cheap.residuals, dear.residuals, rtol=1e-6, atol=1e-12 * cheap.scale)


def test_what_the_recurrence_says_of_an_operator_that_changes_is_not_believed():
    exact = known.with_spectrum(known.spectrum("network", 200, np.random.default_rng(6)), seed=6)
    memory = room(exact, 4, 14)
    n_solve = lanczos(exact, k=4, seed=0, check_missed=False, memory=memory).n_products - 1
    drift = known.with_spectrum(np.random.default_rng(7).normal(size=200), seed=7)
    exact.n_products = 0

    def product(v):
        return exact.mv(v) + (1e-2 * drift.mv(v) if exact.n_products >= n_solve else 0.0)

    pairs = lanczos(Symmetric(200, F64, product), k=4, seed=0, check_missed=False, memory=memory)
    moved = exact.dense() + 1e-2 * drift.dense()
    fresh = (moved @ pairs.vectors - pairs.vectors * pairs.values).norm(dim=0)
    torch.testing.assert_close(pairs.residuals, fresh, rtol=1e-6, atol=0)
    assert not pairs.converged.all()


def test_long_norms_are_right_to_rounding():
    v = torch.randn(3_000_001, generator=torch.Generator().manual_seed(0)) * 1e-3
    assert krylov.norm(v) == pytest.approx(float(v.double().norm()), rel=3e-7)
    assert krylov.norm(v[:100]) == float(v[:100].norm())
    one = krylov.gaussian(2_500_001, torch.Generator().manual_seed(1), krylov.Counted(Symmetric(1, F64, torch.clone)))
    assert torch.equal(one, torch.randn(2_500_001, dtype=F64, generator=torch.Generator().manual_seed(1)))


def test_a_trained_network_with_restarts_has_the_eigenvalues_of_its_dense_hessian():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=g, dtype=F64)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).double()
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin(), x[:, 3]], dim=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        ((net(x) - y) ** 2).sum(1).mean().backward()
        optimizer.step()
    objective = Objective(net, lambda out, t: ((out - t) ** 2).sum(1), (x, y))
    H = objective.hessian(objective.w0)
    dense = dense_eigenpairs(Symmetric.from_dense(H.dense()), k=4, which="both").values
    found = spectrum(
        objective, objective.w0, seed=0, k=4, which="both", max_products=5000, memory=room(H, 8, 18) / 2**30
    )
    assert int(found.n_products) > 36
    assert bool(found.resolved)
    np.testing.assert_allclose(found.eigenvalue.values, dense.numpy(), atol=1e-6 * float(dense[0]))
    assert math.isclose(float(found.eigenvalue[0]), float(dense[0]), rel_tol=1e-9)
