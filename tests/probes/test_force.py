"""Sums of 1/|eigenvalue| in windows: by hand, from all eigenvalues, and estimated."""

import math

import numpy as np
import pytest
import torch
from support.oracles import least_squares, quadratic, toy

from landscape import LandscapeError, sweep
from landscape.cli.tables import TABLES
from landscape.curvature.symmetric import Symmetric
from landscape.probes import entropy, force, get_probe
from landscape.probes.force import SCHEMA
from landscape.probes.linalg import lanczos_quadrature
from landscape.probes.linalg.spectra.atoms import Atoms
from landscape.probes.linalg.spectra.entropy import flattest_share, window_sums

LAM = torch.tensor([8.0, 4.0, 1.0, 0.5, 0.25, 0.01, 0.0, -0.3, -2.0], dtype=torch.float64)
GRID = {"eps": (0.005, 0.1, 2.0), "tau": (0.6, 5.0), "relative_eps": (0.01, 0.1), "relative_tau": (0.2, 1.0)}


def test_windows_by_hand():
    objective, _, _ = quadratic(LAM)
    ds = force(objective, objective.w0, seed=0, **GRID)
    sums = [[2 + 4 + 100, 0.25 + 1 + 2 + 4 + 100], [2 + 4, 0.25 + 1 + 2 + 4], [math.nan, 0.25]]
    np.testing.assert_allclose(ds.inverse_sum, sums, rtol=1e-9)
    np.testing.assert_array_equal(ds["count"], [[3, 5], [2, 4], [math.nan, 1]])
    # 0.3 of the smallest of three; 0.5 of the smallest of five; ...
    share = [[0.3 * 100 / 106, 0.5 * 100 / 107.25], [0.2 * 4 / 6, 0.4 * 4 / 7.25], [math.nan, 0.1]]
    np.testing.assert_allclose(ds.flattest_share, share, rtol=1e-9)
    np.testing.assert_allclose(ds.relative_inverse_sum, [[1 + 2 + 4, 7.375], [1, 1.375]], rtol=1e-9)
    np.testing.assert_array_equal(ds.relative_count, [[3, 5], [1, 3]])
    assert float(ds.largest) == pytest.approx(8)
    assert (ds.inverse_sum_stderr.fillna(0) == 0).all()
    assert ds.resolved.all()


@pytest.mark.parametrize("n", [1, 5, 10, 37])
def test_equal_eigenvalues_share_alike(n):
    assert flattest_share(torch.full((n,), 0.3), 0.1, 1.0) == pytest.approx(0.1)
    one = torch.cat([torch.full((9 * n,), 1.0), torch.full((n,), 1e-6)]).double()
    assert flattest_share(one, 1e-9, 2.0) == pytest.approx(1 / (1 + 9e-6))


def test_no_positive_eigenvalue_and_rounding():
    objective, _, _ = quadratic(-LAM.abs() - 1)
    ds = force(objective, objective.w0, seed=0, **GRID)
    assert np.isnan(ds.relative_inverse_sum).all()
    assert float(ds.inverse_sum[0, 0]) == 0
    assert math.isnan(ds.flattest_share[0, 0])
    objective, _, _ = quadratic(1e6 * LAM)
    assert force(objective, objective.w0, seed=0, eps=(1e-12, 1.0), tau=(9.0,)).resolved.values.tolist() == [
        False,
        True,
    ]


def test_all_unit_vectors_are_the_exact_answer():
    _, H, _ = quadratic(LAM)
    n = len(LAM)
    start = torch.eye(n, dtype=torch.float64)
    q = lanczos_quadrature(Symmetric.from_dense(H), n_vectors=n, n_steps=n, seed=0, start=start)
    one = window_sums(Atoms.of_quadrature(q, exact=True), GRID["eps"], GRID["tau"])
    two = window_sums(Atoms.of_values(LAM), GRID["eps"], GRID["tau"])
    for name in ("inverse_sum", "count"):
        np.testing.assert_allclose(one[name][0], two[name][0], rtol=1e-7)


def test_estimates_have_errors_that_cover_the_truth_and_no_share():
    lam = torch.linspace(0.5, 3, 200, dtype=torch.float64)
    objective, H, _ = quadratic(lam)
    objective.hessian = lambda w, **_: Symmetric.from_dense(H)
    exact = force(objective, objective.w0, seed=0, eps=(0.1,), tau=(10.0,))
    z = []
    for seed in range(20):
        ds = force(objective, objective.w0, seed=seed, eps=(0.1,), tau=(10.0,), exact_up_to=0, vectors=8, quad=30)
        z.append(float(((ds.inverse_sum - exact.inverse_sum) / ds.inverse_sum_stderr)[0, 0]))
        assert math.isnan(ds.flattest_share[0, 0])
    assert "eigenvalue" in exact
    assert "eigenvalue" not in ds
    assert 0.5 < np.std(z) < 2
    assert abs(np.mean(z)) < 0.8


def test_scaling_the_loss():
    a, b = toy(), toy()
    original = b.chunks.per_sample_loss
    b.chunks.per_sample_loss = lambda y, t: 1e-8 * original(y, t)
    one = force(a, a.w0, seed=0)
    scaled = {k: tuple(1e-8 * x for x in v) for k, v in get_probe("force").defaults.items() if k in ("eps", "tau")}
    two = force(b, b.w0, seed=0, **scaled)
    factors = {"loss unit": 1e-8, "squared parameter unit per": 1e8}
    for name, variable in SCHEMA.variables.items():
        factor = next((f for start, f in factors.items() if variable.units.startswith(start)), 1)
        tol = 1e3 if name == "asymmetry" else 1e-4  # 1/|eigenvalue| of the smallest
        atol = 1e-9 * factor * float(np.nanmax(np.abs(one[name])))
        np.testing.assert_allclose(two[name], factor * one[name], rtol=tol, atol=atol, err_msg=name)


def test_entropy_and_force_at_one_checkpoint_share_the_spectrum():
    objective = toy()
    entropy(objective, objective.w0, seed=0)
    objective.hessian = None  # a second dense Hessian would need it
    assert int(force(objective, objective.w0, seed=0).n_products) == objective.size


@pytest.mark.parametrize("settings", [{"eps": (0.0,)}, {"tau": ()}, {"relative_tau": (-1.0,)}, {"eps": (math.nan,)}])
def test_wrong_windows_are_explained(settings):
    objective, _ = least_squares()
    with pytest.raises(LandscapeError, match="positive limits"):
        force(objective, objective.w0, seed=0, **settings)


def test_a_sweep_stores_it_and_the_table_shows_it(fresh_run):
    ds = sweep("force", fresh_run, seed=0, steps=[0, 20])
    assert dict(ds.inverse_sum.sizes) == {"step": 2, "eps": 5, "tau": 5}
    table = TABLES["force"]([ds])
    assert len(table.rows) == 5
    assert all(len(row) == len(table.columns) for row in table.rows)
