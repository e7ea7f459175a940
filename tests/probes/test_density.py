"""The density probe against dense spectra, and its standard errors as statistics."""

import math
import re

import numpy as np
import pytest
import torch
from support.oracles import function_objective, least_squares, quadratic, toy

from landscape import LandscapeError, Symmetric, sweep
from landscape.cli.tables import TABLES
from landscape.probes import density, get_probe
from landscape.probes.density import SCHEMA
from landscape.probes.linalg import lanczos_quadrature
from landscape.probes.linalg.spectra.statistics import spectral_statistics
from landscape.probes.linalg.trace.blocks import lockstep_quadrature
from landscape.probes.linalg.trace.intervals import jackknife

THRESHOLDS, UPPERS = (1e-3, 0.05, 0.31), (0.2, 1e3)
GRIDS = {"thresholds": THRESHOLDS, "uppers": UPPERS}
NAMES = [n.removesuffix("_stderr") for n in SCHEMA.variables if n.endswith("_stderr")]


def truth(lam):
    """Every statistic from all eigenvalues, written as in the definitions."""
    lam = np.asarray(lam)
    size, plus = np.abs(lam), lam[lam > 0]
    p, q = size[size > 0] / size.sum(), plus / plus.sum()
    entropy = -(p * np.log(p)).sum()
    mean = (q * np.log(plus)).sum()
    return {
        "trace": lam.sum(),
        "trace_hutchpp": lam.sum(),
        "frobenius": np.linalg.norm(lam),
        "entropy": entropy,
        "effective_rank": np.exp(entropy),
        "negative_share": size[lam < 0].sum() / size.sum(),
        "log_spread": np.sqrt((q * (np.log(plus) - mean) ** 2).sum()),
        "count_above": [(lam > t).sum() for t in THRESHOLDS],
        "count_below": [(lam < -t).sum() for t in THRESHOLDS],
        "inverse_sum": [[(1 / size[(size > t) & (size <= u)]).sum() for u in UPPERS] for t in THRESHOLDS],
    }


@pytest.mark.slow
def test_all_unit_vectors_and_all_steps_are_the_dense_answer():
    objective = toy("single")
    P = objective.size
    lam = torch.linalg.eigvalsh(objective.hessian(objective.w0).dense()).numpy()
    assert min(np.abs(np.abs(lam)[:, None] - np.array(THRESHOLDS + UPPERS)).min(0)) > 1e-6
    ds = density(objective, objective.w0, seed=0, vectors=P, quad=P, distribution="unit", trace_products=3 * P, **GRIDS)
    for name, value in truth(lam).items():
        np.testing.assert_allclose(ds[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
        if name != "trace_hutchpp":
            assert (ds[f"{name}_stderr"] == 0).all()
    assert int(ds.n_parameters) == P
    assert P * P // 4 < int(ds.n_products) <= P * P + 3 * P


def test_chosen_spectrum_with_zeros_and_negative_eigenvalues():
    lam = torch.cat([torch.tensor([50.0, 20.0, 20.0, 3.0]), torch.zeros(30), torch.tensor([-0.4, -7.0])]).double()
    objective, _, _ = quadratic(lam)
    ds = density(objective, objective.w0, seed=0, vectors=36, quad=36, distribution="unit", **GRIDS)
    for name, value in truth(lam).items():
        np.testing.assert_allclose(ds[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_raw_quadratures_are_kept():
    objective = toy()
    ds = density(objective, objective.w0, seed=3, vectors=4, quad=17, trace_products=0, **GRIDS)
    q = lanczos_quadrature(objective.hessian(objective.w0), n_vectors=4, n_steps=17, seed=3)
    np.testing.assert_array_equal(ds.node, q.node)
    np.testing.assert_array_equal(ds.weight, q.weight)
    assert int(ds.n_products) == 4 * 17
    assert math.isnan(ds.trace_hutchpp)
    np.testing.assert_array_equal(ds["count"].sum("quad").round(9), objective.size)
    rest = ds["count"].where(~ds.known)
    np.testing.assert_allclose(rest / rest.sum("quad"), (w := ds.weight.where(~ds.known)) / w.sum("quad"))
    # The trace is a mean of the vectors' sums, and its jackknife error their standard error.
    sums = (ds["count"] * ds.node).sum("quad").values
    assert float(ds.trace) == pytest.approx(sums.mean(), rel=1e-13)
    assert float(ds.trace_stderr) == pytest.approx(sums.std(ddof=1) / 2, rel=1e-10)


@pytest.mark.slow
def test_standard_errors_are_as_large_as_they_say():
    rng = np.random.default_rng(0)
    lam = np.concatenate([30.0 / np.arange(1, 21), 0.05 * rng.normal(size=200)])
    objective, _, _ = quadratic(torch.from_numpy(lam))
    H = objective.hessian(objective.w0).dense()
    objective.hessian = lambda w, **_: Symmetric.from_dense(H)  # many products, made cheap
    exact = truth(lam)
    z = {n: [] for n in NAMES}
    for seed in range(40):
        ds = density(objective, objective.w0, seed=seed, vectors=12, quad=60, trace_products=30, **GRIDS)
        for n in NAMES:
            z[n].append(np.ravel((ds[n] - np.asarray(exact[n])) / ds[f"{n}_stderr"])[0])
    for n in ("trace", "trace_hutchpp", "frobenius", "entropy", "effective_rank", "log_spread", "negative_share"):
        assert abs(np.mean(z[n])) < 0.7, n  # bias of a ratio is a fraction of the error; 40 draws know it to 0.18
        assert 0.7 < np.std(z[n]) < 1.7, n


def test_scaling_the_loss_scales_curvatures_and_nothing_else():
    a, b = toy(), toy()
    original = b.chunks.per_sample_loss
    b.chunks.per_sample_loss = lambda y, t: 1e-8 * original(y, t)
    one = density(a, a.w0, seed=0, vectors=3, quad=15, **GRIDS)
    scaled = {k: tuple(1e-8 * x for x in v) for k, v in GRIDS.items()}
    two = density(b, b.w0, seed=0, vectors=3, quad=15, **scaled)
    for name, variable in SCHEMA.variables.items():
        power = {"loss unit": 1, "squared parameter unit per": -1}
        factor = next((1e-8**p for start, p in power.items() if variable.units.startswith(start)), 1)
        np.testing.assert_allclose(two[name], factor * one[name], rtol=1e-6, atol=factor * 1e-12, err_msg=name)


def test_same_answer_for_any_chunk_another_for_another_seed_and_nearly_in_float32():
    whole, parts, single = toy(), toy(chunk=8), toy(dtype=torch.float32)
    one, two, three = (density(o, whole.w0, seed=0, vectors=3, quad=15, **GRIDS) for o in (whole, parts, single))
    other = density(whole, whole.w0, seed=1, vectors=3, quad=15, **GRIDS)
    for name in ("trace", "frobenius", "entropy", "effective_rank", "negative_share", "trace_hutchpp"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-8)
        # Rounding may decide that an eigenvalue counts as known, which changes an estimate by less than its error.
        near = max(1e-3 * float(one[name]), float(one[f"{name}_stderr"]))
        assert float(three[name]) == pytest.approx(float(one[name]), abs=near)
        assert float(other[name]) != pytest.approx(float(one[name]), rel=1e-8)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
@pytest.mark.parametrize("block", [2, 3, 50])
def test_vectors_in_step_are_the_same_quadratures(block, distribution):
    lam = torch.cat([torch.linspace(-2, 3, 30).double(), torch.zeros(7)])
    _, H, _ = quadratic(lam)
    settings = {"n_vectors": 7, "seed": 2, "distribution": distribution}

    def both(n_steps):
        op = Symmetric(H.shape[0], H.dtype, H.mv)
        one = lanczos_quadrature(op, **settings, n_steps=n_steps)
        many = lockstep_quadrature(op, **settings, n_steps=n_steps, block=block)
        assert one.n_products + many.n_products == op.n_products
        return one, many

    one, many = both(9)
    assert one.n_products == many.n_products == 63
    torch.testing.assert_close(many.node, one.node, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(many.weight, one.weight, rtol=1e-9, atol=1e-9)
    # More steps than there are eigenvalues: runs end one by one, and how many nodes share the weight of an eigenvalue
    # hangs on rounding. What lies below a point between two eigenvalues does not.
    distinct = lam.unique()
    between = (distinct[1:] + distinct[:-1]) / 2
    below = [((q.node[..., None] < between) * q.weight[..., None]).sum(1) for q in both(60)]
    torch.testing.assert_close(below[1], below[0], rtol=1e-9, atol=1e-9)


def test_block_and_strategy_do_not_change_the_density():
    objective = toy("single")
    settings = {"seed": 0, "vectors": 3, "quad": 12, "trace_products": 9, **GRIDS}
    one = density(objective, objective.w0, **settings)
    for other in ({"block": 2}, {"strategy": "forward"}, {"strategy": "forward", "block": 3}):
        two = density(objective, objective.w0, **settings, **other)
        np.testing.assert_allclose(two.node, one.node, rtol=1e-9, atol=1e-9)
        assert int(two.n_products) == int(one.n_products)


def test_zero_hessian_has_no_entropy():
    objective = function_objective(lambda w: w.sum(1), torch.ones(5))
    ds = density(objective, objective.w0, seed=0, **GRIDS)
    assert float(ds.trace) == float(ds.frobenius) == float(ds.count_above.sum()) == 0
    for name in ("entropy", "effective_rank", "negative_share", "log_spread"):
        assert math.isnan(ds[name])


def test_one_vector_has_no_standard_error():
    objective, _ = least_squares()
    ds = density(objective, objective.w0, seed=0, vectors=1, quad=4, trace_products=0)
    for name in NAMES:
        assert np.isnan(ds[f"{name}_stderr"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vectors": 0}, "n_vectors"),
        ({"quad": 0}, "n_steps"),
        ({"block": 0}, "block >= 1"),
        ({"distribution": "unit"}, "P = 15 unit vectors: expected vectors=15, found 10"),
        ({"distribution": "cauchy"}, "cauchy"),
        ({"thresholds": (0.0,)}, "positive"),
        ({"uppers": (math.nan,)}, "positive"),
        ({"trace_products": 2}, "n_products >= 3"),
    ],
)
def test_wrong_settings_are_explained(settings, message):
    objective, _ = least_squares()
    with pytest.raises(LandscapeError, match=message):
        density(objective, objective.w0, seed=0, **settings)


def test_jackknife_of_a_ratio_is_the_delta_method():
    g = torch.Generator().manual_seed(0)
    x = 5 + torch.randn(4000, 2, generator=g, dtype=torch.float64)
    value, error = jackknife(x, lambda m: {"r": m[..., 0] / m[..., 1]})["r"]
    mean = x.mean(0)
    residual = (x[:, 0] - value * x[:, 1]) / mean[1]
    assert float(value) == pytest.approx(float(mean[0] / mean[1]))
    assert float(error) == pytest.approx(float(residual.std() / math.sqrt(4000)), rel=1e-3)


def test_statistics_without_grids():
    objective, _ = least_squares()
    q = lanczos_quadrature(objective.hessian(objective.w0), n_vectors=2, n_steps=3, seed=0)
    assert spectral_statistics(q)["inverse_sum"].value.shape == (0, 0)


def test_a_sweep_stores_it_and_the_table_shows_it(fresh_run):
    ds = sweep(get_probe("density"), fresh_run, seed=0, steps=[0, 20], vectors=3, quad=10, trace_products=9)
    assert dict(ds.node.sizes) == {"step": 2, "vector": 3, "quad": 10}
    assert int(ds.n_parameters) == fresh_run.layout.size
    again = sweep("density", fresh_run, seed=0, steps=[20], vectors=3, quad=10, trace_products=9)
    np.testing.assert_array_equal(again.node, ds.node.sel(step=[20]))
    table = TABLES["density"]([ds])
    assert len(table.rows) == 1
    assert len(table.rows[0]) == len(table.columns)
    assert re.fullmatch(r"[\d.]+ \([\d.]+ to [\d.]+\)", table.rows[0][2])
