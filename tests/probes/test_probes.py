"""Every probe against problems whose answer is known."""

import inspect

import numpy as np
import pytest
import torch
from support.oracles import function_objective, least_squares, logistic, quadratic, toy

from landscape import LandscapeError
from landscape.answers.sweep import plan
from landscape.probes import PROBES, get_probe, samples, spectrum, split, surface, valley

# 61 values: separated, repeated, tiny, a bulk, zeros and negative ones
OUTLIERS = [50.0, 20.0, 20.0, 3.0, 3.0, 1e-3, 0.0, 0.0, 0.0, -0.4, -7.0]
SPECTRUM = torch.cat([torch.tensor(OUTLIERS).double(), torch.linspace(0.5, 0.1, 50).double()])
FUNCTIONS = ["lanczos", "dense"]


# -- spectrum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", FUNCTIONS)
@pytest.mark.parametrize("which", ["top", "bottom", "both", "largest"])
def test_chosen_spectrum_to_ten_digits(engine, which):
    objective, _, _ = quadratic(SPECTRUM)
    assert objective.size == 61
    ds = spectrum(objective, objective.w0, seed=0, k=6, which=which, engine=engine, tol=1e-9)
    s = SPECTRUM.sort(descending=True).values
    expected = {
        "top": s[:6], "bottom": s[-6:], "both": torch.cat([s[:6], s[-6:]]),
        "largest": s[s.abs().sort(descending=True).indices[:6]].sort(descending=True).values,
    }[which]  # fmt: skip
    assert np.abs(ds.eigenvalue.values - expected.numpy()).max() < 1e-10 * 50
    assert bool(ds.converged.all())
    assert bool(ds.resolved)
    assert float(ds.residual.max()) <= 1e-9 * 50


@pytest.mark.parametrize("make", [least_squares, logistic])
@pytest.mark.parametrize("chunk", [None, 8])
def test_all_eigenvalues_of_closed_forms(make, chunk):
    objective, H = make(chunk=chunk)
    for engine in FUNCTIONS:
        ds = spectrum(objective, objective.w0, seed=0, k=objective.size, engine=engine)
        assert np.allclose(ds.eigenvalue.values, torch.linalg.eigvalsh(H).flip(0), rtol=1e-11, atol=1e-13)
    assert spectrum(objective, objective.w0, seed=0, which="all").sizes["mode"] == objective.size


def test_residuals_are_true_and_bound_the_error():
    objective, H, _ = quadratic(SPECTRUM)
    ds = spectrum(objective, objective.w0, seed=0, k=5, tol=1e-2, max_products=14, eigenvectors=True)
    V, lam = torch.from_numpy(ds.eigenvector.values), torch.from_numpy(ds.eigenvalue.values)
    true = torch.stack([(H @ v - x * v).norm() for v, x in zip(V, lam, strict=True)])
    assert np.allclose(ds.residual.values, true, rtol=1e-6, atol=1e-12)
    distance = (SPECTRUM[None] - lam[:, None]).abs().min(1).values
    assert (distance <= true + 1e-10).all()
    assert int(ds.n_products) <= 14


def test_pairs_that_miss_the_tolerance_are_said_to():
    objective, _, _ = quadratic(torch.linspace(1, 2, 61).double())
    ds = spectrum(objective, objective.w0, seed=0, k=5, max_products=12)
    assert not bool(ds.converged.all())


@pytest.mark.parametrize("engine", FUNCTIONS)
def test_scaling_the_loss_scales_everything(engine):
    a = toy()
    b = toy()
    original = b.chunks.per_sample_loss
    b.chunks.per_sample_loss = lambda y, t: 1e-8 * original(y, t)
    one = spectrum(a, a.w0, seed=0, k=4, engine=engine)
    two = spectrum(b, b.w0, seed=0, k=4, engine=engine)
    assert np.allclose(two.eigenvalue.values, 1e-8 * one.eigenvalue.values, rtol=1e-12)
    assert np.array_equal(one.converged, two.converged)
    assert int(one.n_products) == int(two.n_products)


@pytest.mark.parametrize("chunk", [1, 8, 60])
def test_spectrum_does_not_depend_on_the_chunk(chunk):
    whole, parts = toy(), toy(chunk=chunk)
    a = spectrum(whole, whole.w0, seed=0, k=5)
    b = spectrum(parts, parts.w0, seed=0, k=5)
    assert np.allclose(a.eigenvalue, b.eigenvalue, rtol=1e-9)


def test_float32_agrees_within_its_rounding():
    double, single = toy(), toy(dtype=torch.float32)
    a = spectrum(double, double.w0, seed=0, k=5)
    b = spectrum(single, single.w0, seed=0, k=5, tol=1e-5)
    assert np.abs(a.eigenvalue - b.eigenvalue).max() < 2e-5 * float(a.spectral_norm)


def test_lanczos_equals_dense_and_pyhessian_on_the_toy():
    objective = toy()
    state = torch.random.get_rng_state()
    dense = spectrum(objective, objective.w0, seed=0, which="all")
    ours = spectrum(objective, objective.w0, seed=0, k=3, which="largest")
    theirs = spectrum(
        objective, objective.w0, seed=0, k=3, which="largest", engine="pyhessian", tol=1e-9, max_products=3000
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    by_size = dense.eigenvalue.values[np.argsort(-np.abs(dense.eigenvalue.values))]
    assert np.allclose(ours.eigenvalue, by_size[:3], rtol=1e-9)
    assert np.allclose(theirs.eigenvalue, by_size[:3], rtol=1e-4)
    assert (np.abs(theirs.eigenvalue.values - by_size[:3]) <= theirs.residual.values + 1e-6 * by_size[0]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k"),
        ({"engine": "pyhessian"}, 'which="largest"'),
        ({"which": "middle"}, "middle"),
        ({"tol": -1.0}, "tol"),
    ],
)
def test_wrong_settings_of_spectrum_are_explained(settings, message):
    objective, _ = least_squares()
    with pytest.raises(LandscapeError, match=message):
        spectrum(objective, objective.w0, seed=0, **settings)


def test_dense_matrix_over_the_limit_is_refused_with_the_number():
    objective = function_objective(lambda w: w.sum(1), torch.zeros(20_000))
    with pytest.raises(LandscapeError, match=r"P = 20000 parameters needs 11\.9 GiB"):
        spectrum(objective, objective.w0, seed=0, which="all")


def test_curvature_that_is_not_finite_is_refused():
    objective = function_objective(lambda w: torch.sqrt(w.sum(1)), torch.zeros(3))
    with pytest.raises(LandscapeError, match="finite"):
        spectrum(objective, objective.w0, seed=0, k=1)


# -- valley -------------------------------------------------------------------------------------------------------

ONLY = {"top": 0, "bottom": 0, "random": 0, "gradient": False}
RISES = (1e-4, 1e-3, 1e-2, 1e-1)


def test_quadratic_valley_has_the_predicted_width():
    objective, _, _ = quadratic(torch.tensor([100.0, 10.0, 1.0, 0.1, 1e-3]), offset=1.0)
    ds = valley(objective, torch.zeros(5), seed=0, top=5, bottom=0, random=2, gradient=False, rises=RISES, limit=100.0)
    expected = np.sqrt(2 * np.array(RISES) / ds.curvature.values[:, None])
    assert np.abs(ds.half_width.values / expected[:, None, :] - 1).max() < 1e-6
    assert np.allclose(ds.quadratic_half_width.values, expected, rtol=1e-12)
    assert np.abs(ds.exponent.values - 2).max() < 1e-5
    assert not ds.censored.values.any()
    assert np.allclose(ds.curvature.values[:5], [100.0, 10.0, 1.0, 0.1, 1e-3], rtol=1e-9)


def test_floor_is_found_from_the_wall():
    """From a point on the wall of a quadratic, t0 is the foot of the line and the widths are those at the foot."""
    objective, _, Q = quadratic(torch.tensor([100.0, 10.0, 1.0]))
    w = Q @ torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    ds = valley(objective, w, seed=0, top=3, bottom=0, random=0, gradient=True, rises=RISES, limit=50.0)
    lam = np.array([100.0, 10.0, 1.0])
    assert np.allclose(np.abs(ds.floor.values[:3]), [0.3, 0.2, 0.5], rtol=1e-9)
    assert np.allclose(ds.floor_drop.values[:3], lam / 2 * np.array([0.3, 0.2, 0.5]) ** 2, rtol=1e-9)
    assert np.allclose(ds.half_width.values[:3, 0], np.sqrt(2 * np.array(RISES) / lam[:, None]), rtol=1e-6)
    assert bool(ds.floor_converged.all())
    g = objective.grad(w)
    assert float(ds.slope[3]) == pytest.approx(float(g.norm()), rel=1e-12)
    assert float(ds.floor[3]) == pytest.approx(-float(g @ g * g.norm() / (g @ objective.hessian(w).mv(g))), rel=1e-9)


@pytest.mark.parametrize(("power", "function"), [(1, lambda w: w.abs().sum(1)), (4, lambda w: (w**4).sum(1))])
def test_exponents_of_v_and_flat_bottomed_u(power, function):
    objective = function_objective(function, torch.zeros(1))
    ds = valley(objective, torch.tensor([0.3]), seed=0, **{**ONLY, "random": 1}, rises=RISES, limit=10.0)
    assert np.abs(ds.exponent.values - power).max() < 1e-3
    assert np.allclose(ds.half_width.values[0, 0], np.array(RISES) ** (1 / power), rtol=1e-4)


def test_rises_out_of_reach_are_censored_at_the_limit():
    objective, _, _ = quadratic(torch.tensor([2.0]))
    ds = valley(objective, torch.zeros(1), seed=0, **{**ONLY, "random": 1}, rises=(0.01, 1.0, 100.0), limit=2.0)
    assert ds.censored.values[0].tolist() == [[False, False, True]] * 2
    assert np.allclose(ds.half_width.values[0], [[0.1, 1.0, 2.0]] * 2, rtol=1e-9)


def test_line_that_falls_to_the_limit_has_no_floor():
    objective = function_objective(lambda w: -w.sum(1), torch.zeros(1))
    ds = valley(objective, torch.zeros(1), seed=0, **{**ONLY, "gradient": True}, limit=3.0)
    assert bool(ds.floor_censored[0])
    assert not bool(ds.floor_converged[0])


def test_scaling_loss_and_rises_leaves_widths_alone():
    a, b = toy(), toy()
    original = b.chunks.per_sample_loss
    b.chunks.per_sample_loss = lambda y, t: 1e-8 * original(y, t)
    one = valley(a, a.w0, seed=0, top=2, bottom=0, random=1, rises=RISES)
    two = valley(b, b.w0, seed=0, top=2, bottom=0, random=1, rises=tuple(1e-8 * r for r in RISES))
    assert np.allclose(one.half_width, two.half_width, rtol=1e-6)
    assert np.allclose(one.exponent, two.exponent, rtol=1e-6)


def test_directions_are_labelled_in_order_and_filter_directions_are_unit():
    objective = toy()
    ds = valley(objective, objective.w0, seed=0, top=2, bottom=1, random=1, filter_random=1, rises=(1e-2,))
    assert ds.direction.values.tolist() == ["top 1", "top 2", "bottom 1", "random 1", "filter 1", "gradient"]
    top = spectrum(objective, objective.w0, seed=0, k=2)
    assert np.allclose(ds.curvature[:2], top.eigenvalue, rtol=1e-9)
    assert np.isfinite(ds.eigen_residual.values).tolist() == [True] * 3 + [False] * 3


def test_the_same_seed_gives_the_same_directions():
    objective, _ = logistic()
    w = objective.w0 + 1
    ask = {"top": 1, "bottom": 0, "random": 2, "rises": (1e-2,)}
    assert valley(objective, w, seed=3, **ask).equals(valley(objective, w, seed=3, **ask))
    assert not valley(objective, w, seed=4, **ask).equals(valley(objective, w, seed=3, **ask))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ONLY, "at least one direction"),
        ({"rises": (0.1, 0.01)}, "ascending"),
        ({"rises": (-1.0,)}, "positive"),
        ({"limit": 0.0}, "positive, finite limit"),
    ],
)
def test_wrong_settings_of_valley_are_explained(settings, message):
    objective, _ = logistic()
    with pytest.raises(LandscapeError, match=message):
        valley(objective, objective.w0, seed=0, **settings)


def test_gradient_direction_at_a_stationary_point_is_refused():
    objective, _, _ = quadratic(torch.ones(3))
    with pytest.raises(LandscapeError, match="gradient is exactly zero"):
        valley(objective, torch.zeros(3), seed=0)


# -- samples ------------------------------------------------------------------------------------------------------


def test_samples_are_the_losses_in_order():
    objective = toy(chunk=8)
    ds = samples(objective, objective.w0, information_content=np.arange(61.0), family=["a"] * 60 + ["b"])
    assert np.array_equal(ds.loss.values, objective.per_sample(objective.w0))
    assert float(ds.loss.mean()) == pytest.approx(float(objective.loss(objective.w0)), rel=1e-13)
    assert ds.family.values[-1] == "b"
    assert "correct" not in ds
    with pytest.raises(LandscapeError, match=r"one family per sample, \(61,\), found \(2,\)"):
        samples(objective, objective.w0, family=["a", "b"])


# -- surface ------------------------------------------------------------------------------------------------------


def test_surface_of_a_plane_is_exactly_the_plane():
    """f = a + 10 b on 3 x 2 points: catches swapped axes, shifted rows and coordinates that were not used."""
    objective = function_objective(lambda w: w[:, 0] + 10 * w[:, 1], torch.zeros(2))
    ds = surface(objective, torch.zeros(2), seed=0, directions=torch.eye(2), alpha=(0, 1, 2), beta=(0, 1))
    assert ds.loss.dims == ("alpha", "beta")
    assert ds.loss.values.tolist() == [[0, 10], [1, 11], [2, 12]]
    assert ds.gram.values.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("kind", ["eigen", "random", "pca", "given"])
def test_every_point_is_where_it_says(kind):
    objective = toy(chunk=8)
    g = torch.Generator().manual_seed(0)
    path = objective.w0 + 0.1 * torch.randn(6, objective.size, generator=g, dtype=torch.float64).cumsum(0)
    directions = path[:2] - objective.w0 if kind == "given" else kind
    ds = surface(objective, objective.w0, seed=0, directions=directions, points=4, path=path, keep_directions=True)
    D = torch.from_numpy(ds.direction_vector.values)
    for i, a in enumerate(ds.alpha.values):
        for j, b in enumerate(ds.beta.values):
            expected = float(objective.loss(objective.w0 + a * D[0] + b * D[1]))
            assert float(ds.loss[i, j]) == pytest.approx(expected, rel=1e-13)
    assert np.allclose(ds.gram, D @ D.T, rtol=1e-12)
    # the projection of each path point is the nearest point of the plane: what is left is orthogonal to it
    foot = ds.path_alpha.values[:, None] * D[0].numpy() + ds.path_beta.values[:, None] * D[1].numpy()
    rest = (path - objective.w0).numpy() - foot
    assert np.abs(rest @ D.numpy().T).max() < 1e-9
    assert np.allclose(ds.path_distance, np.linalg.norm(rest, axis=1))
    assert np.allclose(ds.path_loss, objective.losses(path))


def test_directions_are_what_their_name_says():
    objective = toy()
    w = objective.w0
    path = torch.stack([w, w + 0.1, w * 1.5, w * 0.5 + 0.2])
    eigen = surface(objective, w, seed=0, directions="eigen", points=2, keep_directions=True)
    H = objective.hessian(w).dense()
    for d, lam in zip(torch.from_numpy(eigen.direction_vector.values), eigen.eigenvalue.values, strict=True):
        assert float((H @ d - lam * d).norm()) < 1e-5 * float(eigen.eigenvalue[0])
    pca = surface(objective, w, seed=0, directions="pca", points=2, path=path, keep_directions=True)
    assert float(pca.explained_variance.sum()) == pytest.approx(1)  # the path has two dimensions
    assert np.abs(pca.path_distance).max() < 1e-9
    random = surface(objective, w, seed=0, directions="random", points=2, keep_directions=True)
    for d in torch.from_numpy(random.direction_vector.values):
        assert torch.allclose(objective.layout.filter_norms(d), objective.layout.filter_norms(w))


def test_grid_covers_the_path():
    objective = toy()
    path = torch.stack([objective.w0, objective.w0 + 0.3, objective.w0 * 1.5])
    ds = surface(objective, objective.w0, seed=0, directions="pca", points=3, path=path)
    for axis in ("alpha", "beta"):
        assert float(ds[axis].min()) < float(ds[f"path_{axis}"].min())
        assert float(ds[axis].max()) > float(ds[f"path_{axis}"].max())


def test_nan_is_left_as_a_hole():
    objective = function_objective(lambda w: torch.sqrt(w[:, 0]) + w[:, 1], torch.ones(2))
    ds = surface(objective, torch.ones(2), seed=0, directions=torch.eye(2), alpha=(-2, 0), beta=(0, 1))
    assert np.isnan(ds.loss.values[0]).all()
    assert np.isfinite(ds.loss.values[1]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"directions": "pca"}, "need a path"),
        ({"directions": "pca", "path": torch.ones(2, 4)}, "two dimensions"),
        ({"directions": "sideways"}, "unknown directions 'sideways'"),
        ({"directions": torch.ones(2, 4)}, "parallel"),
        ({"directions": torch.ones(3, 4)}, r"directions \(2, 4\)"),
        ({"directions": "random", "points": 1}, "points >= 2"),
        ({"directions": "random", "path": torch.ones(2, 5)}, r"path of shape \(T, 4\)"),
    ],
)
def test_wrong_settings_of_surface_are_explained(settings, message):
    objective, _ = logistic()
    with pytest.raises(LandscapeError, match=message):
        surface(objective, objective.w0, seed=0, **settings)


def test_without_the_check_nothing_is_said_to_be_resolved():
    objective = toy("looped")
    sure = spectrum(objective, objective.w0, seed=0, k=3)
    quick = spectrum(objective, objective.w0, seed=0, k=3, check_missed=False)
    assert bool(sure.resolved)
    assert not bool(quick.resolved)
    assert int(quick.n_products) < int(sure.n_products)
    np.testing.assert_allclose(quick.eigenvalue, sure.eigenvalue, rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"which": "all", "k": 0}, "k >= 1"),
        ({"engine": "pyhessian", "which": "largest", "max_products": 0}, "max_products >= 1"),
        ({"which": "all", "max_products": 3}, "is no use"),
        ({"engine": "dense", "max_products": 3}, "is no use"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings, message):
    objective = toy()
    with pytest.raises(LandscapeError, match=message):
        spectrum(objective, objective.w0, seed=0, **settings)


def test_every_probe_takes_a_seed_and_those_without_chance_ignore_it(run):
    assert [n for n, p in PROBES.items() if not p.random] == ["samples", "split", "sharpness", "alignment", "examples"]
    assert all("seed" in inspect.signature(p.function).parameters for p in PROBES.values())
    objective = toy("single")
    for probe in (samples, split):
        assert probe(objective, objective.w0, seed=1).identical(probe(objective, objective.w0))
    one, two = (plan(get_probe("samples"), run, seed=s, steps=[0]).question.settings for s in (0, 1))
    assert one == two
    assert "seed" not in one
