"""Hopping: gradient descent and river valleys whose answers are known, and the replay of real runs."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles import function_objective, logistic, quadratic

from landscape import LandscapeError, Objective, Run, RunConfig, RunFailedError, sweep, train
from landscape.cli.tables import TABLES
from landscape.probes import PROBES
from landscape.probes.hopping import PROBE, hopping
from landscape.probes.tools.noise import Training, variance
from landscape.probes.tools.stretches import signs
from landscape.runs.branch import branch_config

FEW = {"n": 6, "k": 2}


def given_rows(rows):
    return lambda n: rows[: n + 1]


def descent(H, w, lr, n):
    rows = [w]
    for _ in range(n):
        rows.append(rows[-1] - lr * (H @ rows[-1]))
    return torch.stack(rows)


def binomial_floor(hops, n):
    p = (hops + 0.5) / (n + 1)
    return np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("m", [3, 5, 40])
def test_a_rate_of_none_or_all_of_few_pairs_is_not_certain(m):
    t = torch.arange(m)
    c = torch.stack([torch.ones(m), (-1.0) ** t, torch.where(t % 4 < 2, 1.0, -1.0)], 1).double()
    found = signs(c)
    rate, error = found["hop_rate"].numpy(), found["hop_rate_stderr"].numpy()
    assert rate[:2].tolist() == [0.0, 1.0]
    assert error[:2] == pytest.approx(binomial_floor(np.array([0, m - 1]), m - 1))
    assert error[0] == pytest.approx(error[1])
    assert (error >= binomial_floor(rate * (m - 1), m - 1) - 1e-12).all()


def test_the_table_says_how_many_pairs_there_are():
    objective, H, _ = quadratic(torch.tensor([4.0, 1.0, 0.1]))
    w = torch.ones(3, dtype=torch.float64)
    ds = hopping(objective, w, seed=0, replay=given_rows(descent(H, w, 0.4, 3)), n=3, k=2)
    table = TABLES["hopping"]([ds.expand_dims(step=[5]).assign_attrs(run="r", metric="euclidean")])
    (row,) = table.rows
    assert len(set(table.columns)) == len(table.columns) == len(row)  # a name twice is lost in JSON
    cells = dict(zip(table.columns, row, strict=True))
    assert (cells["pairs first"], cells["pairs last"]) == ("2", "2")
    assert cells["hop rate first"] == f"1 ± {binomial_floor(2, 2):.1g}"


def test_gradient_descent_on_a_quadratic_below_and_above_one_and_two_over_lambda():
    lr, lam = 0.5, torch.tensor([5.0, 3.0, 1.0, 0.2, -0.1])  # lr lambda = 2.5, 1.5, 0.5, ...
    objective, H, _ = quadratic(lam, seed=3)
    w = torch.ones(5, dtype=torch.float64)
    ds = hopping(objective, w, seed=0, replay=given_rows(descent(H, w, lr, 12)), n=12, k=3, tol=1e-12)
    assert ds.hop_rate.values.tolist() == [1.0, 1.0, 0.0]
    assert ds.n_pairs.values.tolist() == [11] * 3
    np.testing.assert_allclose(ds.autocorrelation, [-1.5, -0.5, 0.5], rtol=1e-8)
    np.testing.assert_allclose(ds.hop_rate_stderr, binomial_floor(np.array([11, 11, 0]), 11))
    np.testing.assert_allclose(ds.autocorrelation_stderr, 0, atol=1e-8)
    size = abs(ds.coefficient)
    assert (size[-1, 0] > size[0, 0]).item()  # above 2 / lambda: diverges
    assert (size[-1, 1] < size[0, 1]).item()  # between 1 / lambda and 2 / lambda: hops and still converges
    np.testing.assert_allclose(ds.coefficient.values[1:, 1] / ds.coefficient.values[:-1, 1], -0.5, rtol=1e-8)
    scale = float(abs(ds.second_order).max())
    assert float(abs(ds.remainder).max()) < 1e-12 * scale
    assert float(abs(ds.cross_term).max()) < 1e-9 * scale  # the Hessian does not mix eigenvectors


@pytest.mark.parametrize(("lr_lambda", "falls"), [(0.5, True), (1.5, True), (2.5, False)])
def test_the_loss_of_one_mode_falls_below_two_over_lambda_alone(lr_lambda, falls):
    objective, H, Q = quadratic(torch.tensor([4.0, 1e-3, 1e-3]))
    ds = hopping(objective, Q[:, 0], seed=0, replay=given_rows(descent(H, Q[:, 0], lr_lambda / 4, 8)), n=8, k=1)
    r = (1 - lr_lambda) ** 2
    np.testing.assert_allclose(ds.decrease_sum, 2 * (1 - r**8), rtol=1e-9)
    assert (ds.decrease_sum.item() > 0) == falls
    np.testing.assert_allclose(ds.net_sum.sel(subspace="valley"), ds.decrease_sum, rtol=1e-9)


def test_straight_river_valley():
    """L = -s x + (c / 2) (y - m x)^2: every update goes dx down the river and crosses from wall to wall."""
    s, c, m, h, dx, n = 0.3, 40.0, 0.75, 0.02, 0.1, 9
    objective = function_objective(
        lambda w: -s * w[:, 0] + c / 2 * (w[:, 1] - m * w[:, 0]) ** 2, torch.zeros(2, dtype=torch.float64)
    )
    across = torch.tensor([-m, 1.0]).double() / np.sqrt(1 + m * m)
    along = torch.tensor([1.0, m]).double()  # dx = 1 on the floor
    t = torch.arange(n + 1).double()[:, None]
    rows = dx * t * along + h * (-1.0) ** t * across
    ds = hopping(objective, rows[0], seed=0, replay=given_rows(rows), n=n, k=1)
    np.testing.assert_allclose(ds.eigenvalue, [c * (1 + m * m)], rtol=1e-9)
    assert ds.hop_rate.values.tolist() == [1.0]
    np.testing.assert_allclose(ds.autocorrelation, [-1.0], rtol=1e-9)
    np.testing.assert_allclose(abs(ds.coefficient[:, 0]), 2 * h, rtol=1e-9)
    np.testing.assert_allclose(ds.river_progress, 1.0)
    length = dx * float(along.norm())
    np.testing.assert_allclose(ds.valley_motion, (2 * h) ** 2 / ((2 * h) ** 2 + length**2), rtol=1e-9)
    np.testing.assert_allclose(ds.valley_progress, 1 / n, rtol=1e-9)  # n odd: one crossing is left over
    moved = np.hypot(n * length, 2 * h)
    np.testing.assert_allclose(ds.straightness, moved / (n * np.hypot(length, 2 * h)), rtol=1e-9)
    valley, river = ds.net_sum.values
    np.testing.assert_allclose(river, s * dx * n, rtol=1e-9)  # all that the river gives, and first order alone
    np.testing.assert_allclose(ds.first_order_sum[1], river, rtol=1e-9)
    # wall to wall at equal height: the slope -s x alone, along the one crossing left over
    np.testing.assert_allclose(valley, -2 * h * s * float(across[0]), rtol=1e-9)
    np.testing.assert_allclose(ds.decrease_sum, valley + river, rtol=1e-9)
    assert abs(float(ds.remainder_sum)) < 1e-12
    assert float(ds.remainder_share) < 1e-10


def test_curved_river_valley_is_mostly_river_on_the_floor():
    """L = -x + (c / 2) (y - x^2 / 2)^2, walked along its floor: the loss falls by dx however the floor bends."""
    objective = function_objective(
        lambda w: -w[:, 0] + 200.0 / 2 * (w[:, 1] - w[:, 0] ** 2 / 2) ** 2, torch.zeros(2, dtype=torch.float64)
    )
    x = torch.linspace(0, 0.01, 21, dtype=torch.float64)
    rows = torch.stack([x, x**2 / 2], dim=1)
    ds = hopping(objective, rows[0], seed=0, replay=given_rows(rows), n=20, k=1)
    np.testing.assert_allclose(ds.decrease_sum, 0.01, rtol=1e-9)
    np.testing.assert_allclose(ds.net_sum[1] / ds.decrease_sum, 1.0, atol=0.02)
    assert float(ds.remainder_share) < 1e-3


def test_the_remainder_is_what_a_quadratic_cannot_explain():
    """L = x^3 + 5 y^2: a step d along x leaves exactly -d^3 of the decrease."""
    objective = function_objective(lambda w: w[:, 0] ** 3 + 5 * w[:, 1] ** 2, torch.zeros(2, dtype=torch.float64))
    rows = torch.tensor([[1.0, 1.0], [0.5, 0.9], [0.2, -0.3]], dtype=torch.float64)
    ds = hopping(objective, rows[0], seed=0, replay=given_rows(rows), n=2, k=1)  # 10 > 6: the valley is y
    np.testing.assert_allclose(ds.remainder, [0.5**3, 0.3**3], rtol=1e-9)
    np.testing.assert_allclose(ds.first_order, [[1.0, 1.5], [10.8, 0.225]], rtol=1e-9)
    np.testing.assert_allclose(ds.second_order, [[-0.05, -0.75], [-7.2, -0.135]], rtol=1e-9)
    np.testing.assert_allclose(ds.remainder_sum, 0.125 + 0.027)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), m=st.integers(1, 7), scale=st.floats(1e-3, 3))
def test_the_split_is_that_of_the_dense_hessian(seed, m, scale):
    objective, _ = logistic(chunk=8)
    rows = objective.w0 + scale * torch.randn(m + 1, 4, generator=torch.Generator().manual_seed(seed)).double()
    ds = hopping(objective, rows[0], seed=0, replay=given_rows(rows), n=m, k=2, tol=1e-10)
    vectors = torch.linalg.eigh(objective.hessian(rows[0]).dense())[1][:, -2:]
    a = rows.diff(dim=0) @ vectors @ vectors.T
    b = rows.diff(dim=0) - a
    for t in range(m):
        g, H = objective.grad(rows[t]), objective.hessian(rows[t]).dense()
        total = ds.decrease[t].item()
        close = {"rtol": 1e-6, "atol": 1e-7 * abs(float(g @ (a[t] + b[t]))) + 1e-12}
        np.testing.assert_allclose(ds.first_order[t], [-(g @ a[t]), -(g @ b[t])], **close)
        np.testing.assert_allclose(ds.second_order[t], [-(a[t] @ H @ a[t]) / 2, -(b[t] @ H @ b[t]) / 2], **close)
        np.testing.assert_allclose(ds.cross_term[t], -(a[t] @ H @ b[t]), **close)
        np.testing.assert_allclose(total, objective.loss(rows[t]) - objective.loss(rows[t + 1]), rtol=1e-12)
        parts = ds.first_order[t].sum() + ds.second_order[t].sum() + ds.cross_term[t] + ds.remainder[t]
        np.testing.assert_allclose(parts, total, rtol=1e-9, atol=1e-14)
    assert ds.n_products.item() > 2 * m
    assert ds.n_gradients.item() == m


def test_pairs_with_an_exact_zero_are_left_out():
    c = torch.tensor([[1.0], [-1.0], [0.0], [2.0], [3.0], [-1.0]]).double()
    found = signs(c)
    assert found["n_pairs"].tolist() == [3]  # (1, -1), (2, 3), (3, -1)
    np.testing.assert_allclose(found["hop_rate"], 2 / 3)
    np.testing.assert_allclose(found["autocorrelation"], (-1 + 6 - 3) / (1 + 1 + 4 + 9))
    assert torch.isnan(signs(torch.zeros(4, 1))["hop_rate"]).all()


@pytest.mark.parametrize("r", [-0.6, 0.0, 0.5])
def test_standard_errors_are_those_of_an_autoregressive_process(r):
    rng = np.random.default_rng(5)
    c = np.zeros((301, 400))
    for t in range(300):
        c[t + 1] = r * c[t] + rng.standard_normal(400)
    found = signs(torch.from_numpy(c[100:]))
    np.testing.assert_allclose(found["autocorrelation"].mean(), r, atol=0.02)
    np.testing.assert_allclose(found["hop_rate"].mean(), np.arccos(r) / np.pi, atol=0.02)  # Gaussian orthants
    for name in ("autocorrelation", "hop_rate"):
        np.testing.assert_allclose(found[f"{name}_stderr"].mean(), found[name].std(), rtol=0.15)


@pytest.mark.parametrize("done", [0, 1, 3])
def test_what_was_not_replayed_is_nan_and_said(done):
    objective, H, _ = quadratic(torch.tensor([4.0, 1.0, 0.1]))
    w = torch.ones(3, dtype=torch.float64)
    rows = descent(H, w, 0.4, done)
    ds = hopping(objective, w, seed=0, replay=given_rows(rows), n=5, k=2)
    assert ds.n_updates.item() == done
    assert bool(ds.censored)
    assert ds.coefficient.shape == (5, 2)
    assert np.isfinite(ds.coefficient).all("mode").sum() == done
    assert np.isfinite(ds.loss).sum() == np.isfinite(ds.position).all("mode").sum() == done + 1
    for name in ("decrease_sum", "river_progress", "remainder_share"):
        assert np.isfinite(ds[name].item()) == (done > 0)
    assert np.isfinite(ds.hop_rate).all() == (done > 1)
    assert np.isnan(ds.hop_rate_stderr).all() or done == 3


def test_a_loss_times_a_constant_changes_units_and_nothing_else():
    results = []
    for scale in (1.0, 1e-8):
        objective = function_objective(
            lambda w, s=scale: s * ((w**4).sum(1) + w.sum(1) ** 4 + 3 * w[:, 0] ** 2),
            torch.zeros(3, dtype=torch.float64),
        )
        g = torch.Generator().manual_seed(1)
        rows = torch.randn(8, 3, generator=g, dtype=torch.float64)
        results.append(hopping(objective, rows[0], seed=0, replay=given_rows(rows), n=7, k=1))
    a, b = results
    for name, v in a.data_vars.items():
        if name == "residual":  # rounding alone
            continue
        factor = 1e-8 if "loss unit" in v.attrs["units"] else 1.0
        expected = factor * v.values.astype(float)
        atol = 1e-9 * np.abs(expected).max()  # at w the cross term is 0 but for the eigenvector's tolerance
        np.testing.assert_allclose(b[name].values.astype(float), expected, rtol=1e-6, atol=atol, err_msg=str(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n >= 1"),
        ({"k": 3}, "k < P = 3"),
        ({"k": 0}, "1 <= k"),
        ({"replay": lambda n: torch.ones(n + 1, 2)}, "at most"),
        ({"replay": lambda n: torch.ones(n + 2, 3)}, "at most"),
        ({"replay": lambda n: torch.zeros(n + 1, 3)}, "starts at w"),
    ],
)
def test_refusals(change, message):
    objective, _, _ = quadratic(torch.tensor([4.0, 1.0, 0.1]))
    settings_ = {"n": 2, "k": 1, "replay": lambda n: torch.ones(n + 1, 3), **change}
    with pytest.raises(LandscapeError, match=message):
        hopping(objective, torch.ones(3), seed=0, **settings_)


# -- noise ---------------------------------------------------------------------------------------------------------


def tiny(n=6, *, chunk=None, seed=0):
    """A model of four parameters, its samples, and the gradient (n, 4) and Hessian (n, 4, 4) of each by themselves."""
    g = torch.Generator().manual_seed(seed)
    x, t = torch.randn(n, 2, generator=g).double(), torch.randn(n, 1, generator=g).double()
    module = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.Tanh(), torch.nn.Linear(1, 1)).double()
    objective = Objective(module, lambda y, t: ((y - t) ** 2).sum(1), (x, t), chunk=chunk)
    w = objective.w0 + 0.5
    one = [Objective(module, lambda y, t: ((y - t) ** 2).sum(1), (x[i : i + 1], t[i : i + 1])) for i in range(n)]
    return objective, w, (x, t), torch.stack([o.grad(w) for o in one]), [o.hessian(w).dense() for o in one]


def batches_of(data, size):
    x, t = data
    return lambda n: ((x[i * size : (i + 1) * size], t[i * size : (i + 1) * size]) for i in range(n))


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_the_noise_is_the_variance_over_all_batches_that_can_be_drawn(size, chunk):
    objective, w, data, gradients, _ = tiny(chunk=chunk)
    training = Training(size, batches_of(data, size), data)
    ds = hopping(objective, w, seed=0, replay=given_rows(w[None]), training=training, k=3, n=1)
    vectors = torch.linalg.eigh(objective.hessian(w).dense())[1].flip(1)[:, :3]
    drawn = torch.stack([gradients[list(b)].mean(0) @ vectors for b in itertools.combinations(range(6), size)])
    np.testing.assert_allclose(ds.noise, drawn.var(0, correction=0), rtol=1e-6, atol=1e-18)
    np.testing.assert_allclose(abs(ds.slope), abs(gradients.mean(0) @ vectors), rtol=1e-6)
    assert (ds.batch.item(), ds.n_noise.item()) == (size, 6)
    if size == 6:
        assert ds.noise.values.tolist() == ds.noise_stderr.values.tolist() == [0.0] * 3


def test_fresh_batches_have_no_finite_population():
    objective, w, data, gradients, _ = tiny(12)
    training = Training(4, batches_of(data, 4))
    ds = hopping(objective, w, seed=0, replay=given_rows(w[None]), training=training, k=1, n=3)
    v = torch.linalg.eigh(objective.hessian(w).dense())[1][:, -1]
    np.testing.assert_allclose(ds.noise, [(gradients @ v).var() / 4], rtol=1e-6)
    few = hopping(objective, w, seed=0, replay=given_rows(w[None]), training=training, k=1, n=3, noise=7)
    assert few.n_noise.item() == 7
    np.testing.assert_allclose(few.noise, [(gradients[:7] @ v).var() / 4], rtol=1e-6)


def test_the_error_of_a_variance_leaves_one_out_and_is_that_of_new_samples():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=g).double() * torch.tensor([1.0, 3.0])
    found, error = variance(x, 5, 0.5)
    left = torch.stack([x[torch.arange(40) != i].var(0) for i in range(40)]) * 0.1
    np.testing.assert_allclose(found, x.var(0) * 0.1)
    np.testing.assert_allclose(error, (39 * left.var(0, correction=0)).sqrt())
    many = torch.randn(400, 40, 1, generator=g).double()
    each = [variance(y, 1, 1.0) for y in many]
    spread = torch.cat([v for v, _ in each]).std()
    np.testing.assert_allclose(torch.cat([e for _, e in each]).mean(), spread, rtol=0.15)
    assert torch.isnan(variance(x[:1], 5, 0.5)[0]).all()
    assert torch.isnan(variance(x[:2], 5, 0.5)[1]).all()


@pytest.mark.parametrize("chunk", [None, 2])
def test_the_sharpness_of_batches_is_that_of_their_dense_hessians(chunk):
    objective, w, data, gradients, hessians = tiny(9, chunk=chunk)
    ds = hopping(objective, w, seed=0, replay=given_rows(w[None]), training=Training(3, batches_of(data, 3)), k=1, n=3)
    each = []
    for i in range(0, 9, 3):
        g, H = gradients[i : i + 3].mean(0), sum(hessians[i : i + 3]) / 3
        each.append(float(g @ H @ g / (g @ g)))
    np.testing.assert_allclose(ds.batch_sharpness, np.mean(each), rtol=1e-9)
    np.testing.assert_allclose(ds.batch_sharpness_stderr, np.std(each, ddof=1) / 3**0.5, rtol=1e-9)
    assert ds.n_batches.item() == 3


def test_without_training_or_asked_for_none_nothing_is_said_of_noise():
    objective, w, data, _, _ = tiny()
    for how in ({}, {"training": Training(2, batches_of(data, 2), data), "noise": 0}):
        ds = hopping(objective, w, seed=0, replay=given_rows(w[None]), k=1, n=1, **how)
        assert np.isnan(ds.noise).all()
        assert np.isnan(ds.batch_sharpness)
        assert ds.n_noise.item() == ds.n_batches.item() == ds.batch.item() == 0


# -- runs ---------------------------------------------------------------------------------------------------------


def digest(run):
    return hashlib.sha256((run.path / "run.h5").read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_replay_of_a_run_passes_through_its_checkpoints(fresh_run):
    before = digest(fresh_run)
    ds = sweep(PROBE, fresh_run, seed=0, **FEW)
    objective, steps = fresh_run.objective(), fresh_run.steps
    known = {int(s): float(objective.loss(fresh_run.parameters[i])) for i, s in enumerate(steps)}
    met = 0
    for s in known:
        for j in range(FEW["n"] + 1):
            if s + j in known:
                assert ds.loss.sel(step=s).values[j] == pytest.approx(known[s + j], rel=1e-13)
                met += j > 0
    assert met >= 4
    assert ds.n_updates.values.tolist() == [min(6, 20 - s) for s in known]
    assert ds.censored.values.tolist() == [s > 14 for s in known]
    assert digest(fresh_run) == before


def test_coordinates_of_a_metric(fresh_run):
    plain, scaled = (
        sweep(PROBE, fresh_run, seed=0, steps=[2], metric=m, **FEW).isel(step=0) for m in ("euclidean", "filter")
    )
    np.testing.assert_allclose(scaled.loss, plain.loss, rtol=1e-12)  # the same points
    objective = fresh_run.objective().at(fresh_run.parameters[fresh_run.index(2)])
    rescaled = fresh_run.rescaled(objective, "filter", step=2)
    rows = rescaled.coordinates(fresh_run.replay(2, 6))
    straight = (rows[-1] - rows[0]).norm() / rows.diff(dim=0).norm(dim=1).sum()
    np.testing.assert_allclose(scaled.straightness, straight, rtol=1e-10)
    assert scaled.straightness.item() != pytest.approx(plain.straightness.item(), rel=1e-5)
    assert "parameter unit" not in scaled.eigenvalue.attrs["units"]


def test_some_parameters_and_branches(fresh_run, tmp_path):
    part = sweep(PROBE, fresh_run, seed=0, steps=[2], parameters="blocks.*", **FEW)
    rows = fresh_run.replay(2, 6)[:, fresh_run.layout.mask("blocks.*")].double()
    np.testing.assert_allclose(part.straightness[0], (rows[-1] - rows[0]).norm() / rows.diff(dim=0).norm(dim=1).sum())
    step = int(fresh_run.steps[-2])
    branch = train(branch_config(fresh_run, step), tmp_path / "branch")
    a, b = (sweep(PROBE, r, seed=0, steps=[step], **FEW) for r in (fresh_run, branch))
    np.testing.assert_array_equal(a.coefficient, b.coefficient)


@pytest.mark.parametrize("metric", ["euclidean", "filter"])
def test_the_noise_of_a_run_is_that_of_its_training_set(config, tmp_path, metric):
    run = train(config("looped", optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0}, steps=6), tmp_path / "run")
    ds = sweep(PROBE, run, seed=0, steps=[3], metric=metric, **FEW).isel(step=0)  # the fourth batch has 13 samples
    assert (ds.batch.item(), ds.n_noise.item(), ds.n_batches.item()) == (16, 61, 6)
    objective = run.objective("train", at=3)
    scaled = objective if metric == "euclidean" else run.rescaled(objective, metric, step=3)
    probe = run.objective(at=3) if metric == "euclidean" else run.rescaled(run.objective(at=3), metric, step=3)
    v = torch.linalg.eigh(probe.hessian(probe.w0).dense())[1].flip(1)[:, :2]
    each = torch.stack([
        torch.autograd.grad(scaled.chunks.sum(slice(i, i + 1))(u := scaled.w0.clone().requires_grad_(True)), u)[0]
        for i in range(61)
    ])  # fmt: skip
    np.testing.assert_allclose(ds.noise, (each @ v).var(0) * (1 / 16 - 1 / 61), rtol=1e-4)
    np.testing.assert_allclose(ds.edge, 20.0 if metric == "euclidean" else np.nan)


def test_descent_on_the_whole_training_set_has_no_noise(config, tmp_path):
    run = train(config("single", optimizer={"name": "gd", "lr": 0.5}, batch=None, steps=8), tmp_path / "run")
    ds = sweep(PROBE, run, seed=0, steps=[2], split="train", **FEW).isel(step=0)
    assert ds.noise.values.tolist() == [0.0, 0.0]
    assert ds.n_batches.item() == 1
    assert (ds.batch_sharpness_stderr.item(), ds.edge.item()) == (0.0, 4.0)
    objective = run.objective("train", at=2)
    g = objective.grad(objective.w0)
    np.testing.assert_allclose(ds.batch_sharpness, g @ objective.hessian(objective.w0).mv(g) / (g @ g), rtol=1e-9)
    np.testing.assert_allclose(ds.coefficient[0], -0.5 * ds.slope, rtol=1e-3)  # the update in float32


def test_tasks_with_fresh_batches(tmp_path):
    task = {"name": "parity", "max_train_length": 3, "test_length": 4, "n_probe": 9, "n_test": 9}
    config = RunConfig.make(task=task, model={"name": "gpt", "width": 4, "heads": 1}, steps=3, batch=8)
    ds = sweep(PROBE, train(config, tmp_path / "run"), seed=0, steps=[1], n=2, k=1).isel(step=0)
    assert (ds.batch.item(), ds.n_noise.item(), ds.n_batches.item()) == (8, 16, 2)
    assert ds.noise.item() > 0


def test_a_run_that_diverged_is_followed_to_its_last_finite_parameters(config, tmp_path):
    bad = config("single", optimizer={"name": "sgd", "lr": 1e6}, dense_checkpoints=0, checkpoints=2)
    with pytest.raises(RunFailedError):
        train(bad, tmp_path / "bad")
    run = Run.open(tmp_path / "bad")
    ds = sweep(PROBE, run, seed=0, steps=[0], n=20, k=2).isel(step=0)
    assert 0 < ds.n_updates.item() < 20
    assert bool(ds.censored)
    assert np.isfinite(ds.position).all("mode").sum() == ds.n_updates.item() + 1


@pytest.mark.slow
def test_no_probe_changes_a_byte_of_the_run(fresh_run):
    fast = {"valley": {"top": 1, "bottom": 0, "random": 1, "rises": [0.01]}, "surface": {"points": 3}, "hopping": FEW}
    before = digest(fresh_run)
    for name, probe in PROBES.items():
        if name in ("length", "examples"):
            continue  # they need a task whose samples differ in length, or have examples
        sweep(probe, fresh_run, seed=0, steps=[20] if name == "surface" else [2, 20], **fast.get(name, {}))
        assert digest(fresh_run) == before, name


def test_any_chunk(config, tmp_path):
    run = train(config("single", steps=8), tmp_path / "run")
    a = sweep(PROBE, run, seed=0, steps=[2], **FEW)
    b = sweep(PROBE, run, seed=0, steps=[2], recompute=True, chunk=5, **FEW)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-12)
    np.testing.assert_allclose(a.net_sum, b.net_sum, rtol=1e-6, atol=1e-12)
