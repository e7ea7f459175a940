"""Threshold-free statistics of a spectrum: closed forms, the written definition, and estimates with their errors."""

import math

import numpy as np
import pytest
import torch
from support.oracles import function_objective, least_squares, quadratic, toy

from landscape import LandscapeError, sweep
from landscape.cli.tables import TABLES
from landscape.curvature.symmetric import Symmetric
from landscape.probes import entropy, get_probe
from landscape.probes.entropy import SCHEMA, STATISTICS
from landscape.probes.linalg import lanczos_quadrature
from landscape.probes.linalg.spectra.atoms import Atoms
from landscape.probes.linalg.spectra.entropy import power_law, shape_statistics
from landscape.probes.linalg.spectra.statistics import spectral_statistics

LAM = torch.cat([torch.tensor([50.0, 20.0, 20.0, 3.0, 0.7, 0.02]), torch.zeros(7), torch.tensor([-0.4, -7.0])]).double()


def truth(lam):
    """Every statistic from all eigenvalues, written as in the definitions."""
    lam = np.asarray(lam)
    size, plus = np.abs(lam), np.sort(lam[lam > 0])
    p, q = size[size > 0] / size.sum(), plus / plus.sum()
    S, mean = -(p * np.log(p)).sum(), (q * np.log(plus)).sum()
    low, high = (np.log(plus[np.flatnonzero(q.cumsum() >= c)[0]]) for c in (0.25, 0.75))
    return {
        "trace": lam.sum(),
        "entropy": S,
        "effective_rank": np.exp(S),
        "participation_ratio": size.sum() ** 2 / (size**2).sum(),
        "negative_share": size[lam < 0].sum() / size.sum(),
        "log_spread": np.sqrt((q * (np.log(plus) - mean) ** 2).sum()),
        "log_iqr": high - low,
    }


def at(lam, **settings):
    objective, _, _ = quadratic(torch.as_tensor(lam, dtype=torch.float64))
    return entropy(objective, objective.w0, seed=0, **settings)


@pytest.mark.parametrize("n", [1, 2, 17])
@pytest.mark.parametrize("height", [1.0, 1e-8, 3e5])
def test_flat_spectrum(n, height):
    ds = at(np.full(n, height))
    assert float(ds.entropy) == pytest.approx(math.log(n), abs=1e-12)
    assert float(ds.effective_rank) == pytest.approx(n)
    assert float(ds.participation_ratio) == pytest.approx(n)
    assert float(ds.log_spread) == pytest.approx(0, abs=1e-7)
    assert float(ds.log_iqr) == pytest.approx(0, abs=1e-12)
    assert float(ds.trace) == pytest.approx(n * height)


def test_rank_one():
    found = shape_statistics(Atoms.of_values(torch.tensor([0.0, 7.0, 0.0])))
    assert float(found["entropy"][0]) == 0
    assert float(found["participation_ratio"][0]) == 1
    assert float(at([7.0, 0, 0, 0, 0]).entropy) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("lam", [LAM, torch.linspace(-1, 3, 47, dtype=torch.float64)])
def test_every_statistic_is_its_definition(lam):
    ds = at(lam)
    for name, value in truth(lam).items():
        assert float(ds[name]) == pytest.approx(value, rel=1e-9, abs=1e-12), name
        assert float(ds[f"{name}_stderr"]) == 0
    np.testing.assert_allclose(ds.eigenvalue, lam.sort(descending=True).values, atol=1e-12)
    assert bool(ds.exact)
    assert float(ds.asymmetry) < 1e-12
    assert int(ds.n_products) == int(ds.n_parameters) == len(lam)


@pytest.mark.parametrize("power", [-0.5, -1.0, -2.3])
def test_planted_power_law_is_found_exactly(power):
    i = np.arange(1, 41)
    lam = 5.0 * i**power
    ds = at(np.r_[lam[:30], 1e-3 * lam[30:]], last_rank=30)
    assert float(ds.slope) == pytest.approx(power, rel=1e-9)
    assert float(ds.slope_stderr) < 1e-9
    assert (int(ds.slope_first), int(ds.slope_last)) == (1, 30)
    later = at(lam, first_rank=11)
    assert float(later.slope) == pytest.approx(power, rel=1e-9)
    assert int(later.slope_last) == 40


def test_error_of_the_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    y = np.sort(-1.2 * np.log(np.arange(1, 51)) + 0.1 * rng.standard_normal(50))[::-1]
    slope, error, _ = power_law(torch.from_numpy(np.exp(y)))
    from scipy.stats import linregress

    known = linregress(np.log(np.arange(1, 51)), y)
    assert slope == pytest.approx(known.slope)
    assert error == pytest.approx(known.stderr)


def test_rounding_is_no_part_of_the_power_law():
    lam = np.r_[1.0 / np.arange(1, 11) ** 2, np.full(10, 1e-17)]
    ds = at(lam)
    assert int(ds.slope_last) == 10
    assert float(ds.slope) == pytest.approx(-2)
    assert 1e-16 < float(ds.resolution) < 1e-13
    few = at([1.0, 0.5, 0.0, 0.0])
    assert math.isnan(few.slope)
    assert math.isnan(few.slope_stderr)


def test_all_unit_vectors_are_the_exact_answer():
    _, H, _ = quadratic(LAM)
    n = len(LAM)
    start = torch.eye(n, dtype=torch.float64)
    q = lanczos_quadrature(Symmetric.from_dense(H), n_vectors=n, n_steps=n, seed=0, start=start)
    found = shape_statistics(Atoms.of_quadrature(q, exact=True))
    for name, value in truth(LAM).items():
        assert float(found[name][0]) == pytest.approx(value, rel=1e-8, abs=1e-9), name
        assert float(found[name][1]) == 0


def test_estimates_agree_with_the_density():
    objective = toy("single")
    ds = entropy(objective, objective.w0, seed=3, exact_up_to=0, vectors=6, quad=20)
    q = lanczos_quadrature(objective.hessian(objective.w0), n_vectors=6, n_steps=20, seed=3)
    other = spectral_statistics(q)
    for name in ("trace", "entropy", "effective_rank", "negative_share", "log_spread"):
        assert float(ds[name]) == pytest.approx(float(other[name][0]), rel=1e-9)
        assert float(ds[f"{name}_stderr"]) == pytest.approx(float(other[name][1]), rel=1e-6)
    assert not bool(ds.exact)
    assert "eigenvalue" not in ds
    assert math.isnan(ds.slope)
    assert math.isnan(ds.asymmetry)
    assert int(ds.n_products) == 120
    assert objective.size <= 5000


@pytest.mark.slow
def test_standard_errors_are_as_large_as_they_say():
    rng = np.random.default_rng(0)
    lam = np.concatenate([30.0 / np.arange(1, 21), 0.05 * rng.normal(size=200)])
    _, H, _ = quadratic(torch.from_numpy(lam))
    exact, z = truth(lam), {n: [] for n in STATISTICS}
    for seed in range(40):
        q = lanczos_quadrature(Symmetric.from_dense(H), n_vectors=12, n_steps=60, seed=seed)
        found = shape_statistics(Atoms.of_quadrature(q), seed=seed)
        for n, (value, error, *_) in found.items():
            z[n].append(float((value - exact[n]) / error))
    for n in ("trace", "entropy", "participation_ratio", "log_spread", "negative_share"):
        assert abs(np.mean(z[n])) < 0.7, n
        assert 0.6 < np.std(z[n]) < 1.7, n
    # A quantile sits on an eigenvalue: nearly always its error is an honest upper bound.
    assert np.mean(np.abs(z["log_iqr"]) < 2) > 0.85


def test_one_vector_has_no_standard_error():
    objective, _ = least_squares()
    ds = entropy(objective, objective.w0, seed=0, exact_up_to=0, vectors=1, quad=4)
    assert all(math.isnan(ds[f"{n}_stderr"]) for n in STATISTICS)


def test_scaling_the_loss_scales_curvatures_and_nothing_else():
    a, b = toy(), toy()
    original = b.chunks.per_sample_loss
    b.chunks.per_sample_loss = lambda y, t: 1e-8 * original(y, t)
    for settings in ({}, {"exact_up_to": 0, "vectors": 3, "quad": 12}):
        one, two = (entropy(o, o.w0, seed=0, **settings) for o in (a, b))
        for name in two.variables:
            factor = 1e-8 if SCHEMA.variables[name].units.startswith("loss unit per") else 1
            top = float(np.nanmax(np.abs(one[name]))) if np.isfinite(one[name]).any() else 0.0
            tol = 1e3 if name == "asymmetry" else 1e-6
            np.testing.assert_allclose(two[name], factor * one[name], rtol=tol, atol=1e-9 * factor * top, err_msg=name)


def test_zero_hessian_has_no_entropy():
    objective = function_objective(lambda w: w.sum(1), torch.ones(5))
    ds = entropy(objective, objective.w0, seed=0)
    assert float(ds.trace) == 0
    for name in (
        "entropy",
        "effective_rank",
        "participation_ratio",
        "negative_share",
        "log_spread",
        "log_iqr",
        "slope",
    ):
        assert math.isnan(ds[name]), name
        assert math.isnan(ds[f"{name}_stderr"]), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_rank": 0}, "first >= 1"),
        ({"first_rank": 5, "last_rank": 6}, "last >= first"),
        ({"exact_up_to": -1}, "exact_up_to >= 0"),
        ({"vectors": 0}, "vectors, quad >= 1"),
    ],
)
def test_wrong_settings_are_explained(settings, message):
    objective, _ = least_squares()
    with pytest.raises(LandscapeError, match=message):
        entropy(objective, objective.w0, seed=0, **settings)


def test_a_sweep_stores_it_and_the_table_shows_it(fresh_run):
    ds = sweep(get_probe("entropy"), fresh_run, seed=0, steps=[0, 20])
    assert dict(ds.eigenvalue.sizes) == {"step": 2, "rank": fresh_run.layout.size}
    table = TABLES["entropy"]([ds])
    assert len(table.rows) == 1
    assert len(table.rows[0]) == len(table.columns)
    assert "1–" in table.rows[0][-2]
