"""Mutual information, angles and phases: flat and planted cases, dense answers, brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from support.oracles import function_objective, quadratic, toy

from landscape import LandscapeError, sweep
from landscape.cli.tables import TABLES
from landscape.probes import evolution
from landscape.probes.evolution import PROBE, _Look, _phases
from landscape.probes.linalg.spectra.changepoints import change_points, noise_of_differences
from landscape.probes.linalg.spectra.pairs import matrix_entropy, mutual_information, principal_angles


def psd(n, seed, rank=None):
    A = torch.randn(n, rank or n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    K = A @ A.T
    return K / K.trace()


def entropy_of(matrix):
    lam = np.abs(np.linalg.eigvalsh(matrix))
    p = lam[lam > 0] / lam.sum()
    return -(p * np.log(p)).sum()


def moving(n=6):
    """A loss whose Hessian differs between points: sum of w^4 / 12 + x'Ax / 2, H = diag(w^2) + A."""
    A = 0.3 * psd(n, 5)
    return function_objective(
        lambda w: (w**4).sum(1) / 12 + 0.5 * torch.einsum("ni,ij,nj->n", w, A, w), torch.ones(n, dtype=torch.float64)
    ), lambda w: torch.diag(w**2) + A


def test_mutual_information_of_flat_and_diagonal_matrices():
    flat = torch.eye(8, dtype=torch.float64) / 8
    assert mutual_information(flat, flat) == pytest.approx(math.log(8))
    a, b = torch.tensor([0.5, 0.5, 0, 0]).double(), torch.tensor([0, 0.5, 0.5, 0]).double()
    # The product has one entry: S = 0, and I is the sum of both entropies.
    assert mutual_information(torch.diag(a), torch.diag(b)) == pytest.approx(2 * math.log(2))
    ones = torch.full((4, 4), 0.25, dtype=torch.float64)  # rank one, and the unit of the entrywise product
    assert mutual_information(ones, psd(4, 0)) == pytest.approx(0, abs=1e-9)
    assert math.isnan(mutual_information(torch.diag(torch.tensor([1.0, 0])), torch.diag(torch.tensor([0, 1.0]))))


def test_mutual_information_is_its_definition():
    a, b = psd(7, 0).numpy(), psd(7, 1, rank=3).numpy()
    known = entropy_of(a) + entropy_of(b) - entropy_of(a * b)
    assert mutual_information(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(known, rel=1e-12)
    assert matrix_entropy(torch.from_numpy(a)) == pytest.approx(entropy_of(a))


@pytest.mark.parametrize("angles", [(0.0, 0.3), (1e-9, 1.2), (math.pi / 2, math.pi / 2), (0.7853, 0.7855)])
def test_known_principal_angles(angles):
    Q = torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    a = Q[:, :2]
    t = torch.tensor(angles, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    b = (a * t.cos() + Q[:, 2:4] * t.sin()) @ turn
    np.testing.assert_allclose(principal_angles(a, b), sorted(angles), rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(principal_angles(a, b), subspace_angles(a.numpy(), b.numpy())[::-1], atol=1e-8)


def test_probe_against_dense_answers():
    objective, hessian = moving()
    path = torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ds = evolution(objective, path[-1], seed=0, k=2, checkpoints=path, steps=[0, 3, 9, 20])
    H = [hessian(w).numpy() for w in path]
    K, V = [], []
    for h in H:
        lam, v = np.linalg.eigh(h)
        K.append(v @ np.diag(np.abs(lam)) @ v.T / np.abs(lam).sum())
        V.append(v[:, -2:])
    S = np.array([entropy_of(h) for h in H])
    np.testing.assert_allclose(ds.entropy, S, rtol=1e-10)
    for i, j in itertools.product(range(4), range(4)):
        known = S[i] + S[j] - entropy_of(K[i] * K[j])
        assert float(ds.mutual_information[i, j]) == pytest.approx(known, rel=1e-9)
        np.testing.assert_allclose(ds.angle[i, j], subspace_angles(V[i], V[j])[::-1], atol=1e-7)
    assert ds.step_a.values.tolist() == ds.path_step.values.tolist() == [0, 3, 9, 20]
    lam = np.stack([np.linalg.eigvalsh(h)[::-1] for h in H])
    np.testing.assert_allclose(ds.eigenvalue, lam[:, :2], rtol=1e-9)
    np.testing.assert_allclose(ds.gap, lam[:, 1] - lam[:, 2], rtol=1e-9)
    assert float(ds.rise_after_minimum) == pytest.approx(S[-1] - S.min())
    assert int(ds.minimum_step) == [0, 3, 9, 20][int(S.argmin())]
    assert "no change points" in ds.attrs["note"]
    assert (ds.n_phases == 0).all()
    assert (ds.phase == 0).all()
    assert ds.exact.all()
    assert ds.converged.all()
    assert (ds.angle_error < 1e-6).all()


def test_large_models_have_estimates_and_lanczos_but_no_mutual_information():
    objective, _ = moving(12)
    path = torch.randn(3, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    exact = evolution(objective, path[-1], seed=0, k=3, checkpoints=path)
    ds = evolution(objective, path[-1], seed=0, k=3, checkpoints=path, exact_up_to=0, vectors=30, quad=12)
    assert np.isnan(ds.mutual_information).all()
    assert "no mutual information" in ds.attrs["note"]
    np.testing.assert_allclose(ds.angle, exact.angle, atol=1e-4)
    assert (np.abs(ds.entropy - exact.entropy) < 5 * ds.entropy_stderr + 1e-12).all()  # 12 steps may find all of P = 12
    assert not ds.exact.any()
    assert ds.converged.all()
    without = evolution(objective, path[-1], seed=0, k=3, checkpoints=path, mutual=False)
    assert np.isnan(without.mutual_information).all()
    assert "mutual" not in without.attrs["note"]
    assert without.exact.all()
    assert without.converged.all()
    np.testing.assert_allclose(without.entropy, exact.entropy, rtol=1e-12)
    np.testing.assert_allclose(without.angle, exact.angle, atol=1e-4)


def test_planted_change_points_of_the_probe():
    """Flat spectra of rank 8, then 2, then 4: three phases, and a rise after the minimum."""
    n = 8
    scale = torch.zeros(12, n, dtype=torch.float64)
    for rows, rank in ((slice(0, 4), 8), (slice(4, 9), 2), (slice(9, 12), 4)):
        scale[rows, :rank] = 1.0
    scale += 1e-3 * torch.rand(12, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objective = function_objective(lambda w: (w**4).sum(1) / 12, torch.ones(n, dtype=torch.float64))
    ds = evolution(objective, scale[-1], seed=0, k=2, mutual=False, checkpoints=scale, steps=list(range(0, 120, 10)))
    assert (ds.n_phases == 3).all()
    assert ds.path_step.values[ds.change_point.sel(penalty=2.0)].tolist() == [40, 90]
    assert ds.phase.values.tolist() == [1] * 4 + [2] * 5 + [3] * 3
    assert float(ds.rise_after_minimum) == pytest.approx(math.log(2), abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_information_is_bounded_by_both_entropies_where_the_diagonals_are_constant_and_only_there(seed):
    correlations = []
    for K in (psd(7, seed), psd(7, seed + 50, rank=3)):
        d = K.diagonal().rsqrt()
        correlations.append(K * d[:, None] * d / 7)
    a, b = correlations
    assert -1e-12 <= mutual_information(a, b) <= min(matrix_entropy(a), matrix_entropy(b)) + 1e-12
    uneven = torch.diag(torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64))
    assert mutual_information(uneven, uneven) > matrix_entropy(uneven) + 0.1
    assert "above both entropies" in PROBE.schema.variables["mutual_information"].long_name


def test_a_checkpoint_keeps_its_eigenspace_and_not_the_whole_basis():
    objective, _ = moving(12)
    how = {"tol": 1e-6, "exact_up_to": 50, "vectors": 3, "quad": 6, "seed": 0}
    look = _Look(objective, objective.w0, k=2, exact=True, keep=False, **how)
    assert look.vectors.shape == (12, 2)
    assert look.vectors.untyped_storage().nbytes() == 12 * 2 * 8


def test_an_entropy_that_is_not_known_has_no_known_minimum():
    steps = np.array([0, 3, 9, 20])
    found = _phases(np.array([3.0, math.nan, 2.0, 2.5]), np.full(4, 0.1), steps, 2.0, [2.0], "level")
    for name in ("minimum_step", "rise_after_minimum", "rise_after_minimum_stderr"):
        assert math.isnan(found[name]), name
    found = _phases(np.array([3.0, 4.0, 2.0, 2.5]), np.full(4, 0.1), steps, 2.0, [2.0], "level")
    assert (found["minimum_step"], found["rise_after_minimum"]) == (9, 0.5)
    assert "not independent" in PROBE.schema.variables["rise_after_minimum_stderr"].long_name


def test_a_checkpoint_with_a_flat_loss_makes_the_minimum_unknown():
    objective = function_objective(lambda w: (w**4).sum(1) / 12, torch.ones(3, dtype=torch.float64))
    path = torch.stack([torch.ones(3), torch.zeros(3), torch.tensor([1.0, 2.0, 3.0])]).double()
    ds = evolution(objective, path[-1], seed=0, k=1, checkpoints=path)
    assert np.isnan(ds.entropy.values).tolist() == [False, True, False]
    assert np.isnan(ds.minimum_step)
    assert np.isnan(ds.rise_after_minimum)


def brute(x, beta, shortest):
    best = (np.inf, ())
    n = len(x)
    for m in range(n):
        for cuts in itertools.combinations(range(1, n), m):
            parts = np.split(x, cuts)
            if min(map(len, parts)) >= shortest:
                best = min(best, (sum(((p - p.mean()) ** 2).sum() for p in parts) + beta * m, cuts))
    return best[1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shortest", [1, 2, 3])
@pytest.mark.parametrize("signal", ["level", "slope"])
def test_segmentation_is_the_best_of_all(seed, shortest, signal):
    x = np.random.default_rng(seed).normal(size=10).cumsum()
    for penalty in (0.5, 2.0, 6.0):
        series = np.diff(x) if signal == "slope" else x
        beta = penalty * noise_of_differences(series) ** 2 * math.log(len(series))
        found = change_points(x, penalty=penalty, shortest=shortest, signal=signal)
        assert tuple(np.flatnonzero(found)) == brute(series, beta, shortest)
        np.testing.assert_array_equal(found, change_points(1e-8 * x, penalty=penalty, shortest=shortest, signal=signal))


def pieces(n, shortest):
    """All ways to cut n points into segments of at least `shortest`, as tuples of cuts."""
    stack = [((), 0)]
    while stack:
        cuts, last = stack.pop()
        yield cuts
        stack.extend(((*cuts, c), c) for c in range(last + shortest, n - shortest + 1))


def test_no_segmentation_of_many_series_is_better():
    """Pruning as in PELT is not valid with a shortest segment: it misses some of these."""
    rng = np.random.default_rng(0)
    for trial in range(400):
        n = 5 + trial % 6
        x = rng.normal(size=n).cumsum() if trial % 2 else rng.normal(size=n)
        sigma = noise_of_differences(x)
        cost = {(i, j): j - i and ((x[i:j] - x[i:j].mean()) ** 2).sum() for i in range(n) for j in range(i + 1, n + 1)}

        def total(cuts, beta, cost=cost, n=n):
            ends = (0, *cuts, n)
            return sum(cost[a, b] for a, b in itertools.pairwise(ends)) + beta * len(cuts)

        for penalty in (0.5, 2.0):
            beta = penalty * sigma**2 * math.log(n)
            least = min(total(cuts, beta) for cuts in pieces(n, 2))
            found = tuple(np.flatnonzero(change_points(x, penalty=penalty)))
            assert total(found, beta) <= least * (1 + 1e-9), (trial, penalty)


def test_slopes_constants_noise_and_short_series():
    collapse = np.r_[np.linspace(5, 1, 9), np.linspace(1, 3, 9)[1:], np.full(8, 3.0)]
    noise = 0.01 * np.random.default_rng(0).normal(size=len(collapse))
    turns = change_points(collapse + noise, penalty=4.0, signal="slope")
    assert np.flatnonzero(turns).tolist() == [8, 16]
    assert not change_points(np.full(9, 2.0), penalty=2.0).any()
    assert not change_points([1.0, 1.0, 9.0, 9.0], penalty=2.0).any()
    assert not change_points([1.0, 1.0, np.nan, 9.0, 9.0, 9.0], penalty=2.0).any()
    step = np.r_[np.full(5, 1.0), np.full(4, 2.0)]  # no noise at all
    assert np.flatnonzero(change_points(step, penalty=2.0)).tolist() == [5]
    false = [change_points(np.random.default_rng(s).normal(size=40), penalty=4.0).any() for s in range(60)]
    assert np.mean(false) < 0.2


def test_scaling_the_loss():
    a, b = toy(), toy()
    original = b.chunks.per_sample_loss
    b.chunks.per_sample_loss = lambda y, t: 1e-8 * original(y, t)
    path = a.w0 + 0.1 * torch.randn(5, a.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, two = (evolution(o, path[-1], seed=0, k=3, checkpoints=path) for o in (a, b))
    for name in ("entropy", "mutual_information", "angle", "n_phases", "phase", "change_point"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-6, atol=1e-7, err_msg=name)
    for name in ("eigenvalue", "gap"):
        np.testing.assert_allclose(two[name], 1e-8 * one[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k >= 1"),
        ({"penalty": 0.0}, "positive penalties"),
        ({"checkpoints": torch.ones(2, 3)}, "shape"),
        ({"signal": "curvature", "checkpoints": torch.ones(6, 4)}, "level or slope"),
    ],
)
def test_wrong_settings_are_explained(settings, message):
    objective, _, _ = quadratic(torch.tensor([4.0, 3.0, 2.0, 1.0]))
    with pytest.raises(LandscapeError, match=message):
        evolution(objective, objective.w0, seed=0, **settings)


def test_a_run_its_steps_and_its_table(fresh_run):
    steps = [int(s) for s in fresh_run.steps]
    ds = sweep("evolution", fresh_run, seed=0, k=2)
    assert ds.path_step.values.tolist() == steps
    some = sweep("evolution", fresh_run, seed=0, k=2, steps=[steps[1], steps[-1]])
    assert some.step_b.values.tolist() == [steps[1], steps[-1]]
    alone = sweep("entropy", fresh_run, seed=0)
    np.testing.assert_allclose(ds.entropy, alone.entropy, rtol=1e-9)
    table = TABLES["evolution"]([ds])
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_block_of_parameters_is_that_of_each_checkpoint(fresh_run):
    steps = [int(s) for s in fresh_run.steps[[0, -1]]]
    ds = sweep("evolution", fresh_run, seed=0, k=2, steps=steps, parameters="head*")
    alone = sweep("entropy", fresh_run, seed=0, steps=steps, parameters="head*")
    np.testing.assert_allclose(ds.entropy, alone.entropy, rtol=1e-9)
    scaled = sweep("evolution", fresh_run, seed=0, k=2, steps=steps, parameters="head*", metric="filter")
    last = sweep("entropy", fresh_run, seed=0, steps=steps[-1:], parameters="head*", metric="filter")
    assert float(scaled.entropy[-1]) == pytest.approx(float(last.entropy[0]))
