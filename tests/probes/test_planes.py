"""Planes by name: each direction against its closed form or a dense matrix, and what is said of it."""

import numpy as np
import pytest
import torch
from support.oracles import function_objective, quadratic, toy
from support.runs import settings_of, small_config

from landscape import LandscapeError, sweep, train
from landscape.probes import surface
from landscape.probes.tools.around import Around
from landscape.probes.tools.directions import layer_normalised

SPECTRUM = torch.tensor([9.0, 4.0, 2.0, 0.5, 0.1, -1.0])


def bowl():
    """A quadratic, its eigenvectors as rows, a point, and a path to it in all directions."""
    objective, _, Q = quadratic(SPECTRUM)
    w = Q @ torch.tensor([0.3, -0.2, 0.5, 1.0, 2.0, 0.4], dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    path = w + torch.randn(5, 6, generator=g, dtype=torch.float64) * torch.arange(4, -1, -1)[:, None]
    return objective, Q.T, w, path


def directions(ds):
    return torch.from_numpy(ds.direction_vector.values)


def ask(name, **settings):
    objective, V, w, path = bowl()
    given = {"seed": 0, "points": 2, "keep_directions": True, "path": path, "path_steps": np.array([0, 4, 8, 16, 20])}
    return surface(objective, w, directions=name, **given | settings), V, w, path


KINDS = ["eigen", "eigen-ends", "river", "random", "layer", "pca", "gradient", "update", "towards"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dimensions", [1, 2])
def test_every_point_of_every_plane_is_where_it_says(name, dimensions):
    objective, _, w, path = bowl()
    ds, *_ = ask(
        name,
        dimensions=dimensions,
        k=2,
        points=(4, 3)[:dimensions],
        target=path[0],
        surroundings=Around(update=lambda: torch.arange(6.0)),
    )
    assert ds.loss.shape == (4, 3 if dimensions == 2 else 1)
    D = directions(ds)
    assert len(D) == dimensions
    for i, a in enumerate(ds.alpha.values):
        for j, b in enumerate(ds.beta.values):
            point = w + a * D[0] + (b * D[1] if dimensions == 2 else 0)
            np.testing.assert_allclose(ds.loss[i, j], float(objective.loss(point)), rtol=1e-12)
    np.testing.assert_allclose(ds.gram, (D @ D.T).numpy(), rtol=1e-12, atol=1e-14)
    foot = w + torch.from_numpy(np.stack([ds.path_alpha, ds.path_beta])[:dimensions]).T @ D
    np.testing.assert_allclose(ds.path_plane_loss, objective.losses(foot), rtol=1e-12)
    np.testing.assert_allclose(ds.path_distance, (path - foot).norm(dim=1), atol=1e-12)
    assert float(((path - foot) @ D.T).abs().max()) < 1e-10
    # Pythagoras: what the plane does not hold of the path is its distance
    moved = float(((path - w) ** 2).sum())
    np.testing.assert_allclose(1 - ds.explained_variance.sum(), (ds.path_distance**2).sum() / moved, atol=1e-12)


def test_ends_are_the_first_and_the_last_eigenvector():
    ds, V, *_ = ask("eigen-ends")
    np.testing.assert_allclose(ds.eigenvalue, [9, -1], rtol=1e-6)
    np.testing.assert_allclose((directions(ds) * V[[0, 5]]).sum(1).abs(), 1, rtol=1e-6)
    assert float(ds.eigen_residual.max()) < 1e-4


def test_the_river_is_the_recent_progress_outside_the_valley():
    ds, V, w, path = ask("river", k=2)
    p = w - path[2]  # of step 8, the last in the first half of 20
    outside = p - (V[:2] @ p) @ V[:2]
    np.testing.assert_allclose(directions(ds)[0], outside / outside.norm(), atol=1e-5)
    np.testing.assert_allclose((directions(ds)[1] * V[0]).sum().abs(), 1, rtol=1e-6)
    np.testing.assert_allclose(ds.river_share, float((outside**2).sum() / (p**2).sum()), rtol=1e-5)
    np.testing.assert_allclose(abs(ds.cosine), float((V[0] @ p).abs() / p.norm()), rtol=1e-4)
    assert np.isnan(ds.eigenvalue[0])
    assert float(ds.eigenvalue[1]) == pytest.approx(9)


def test_from_the_first_checkpoint_the_river_leads_to_the_next():
    objective, V, _, path = bowl()
    ds = surface(
        objective, path[0], seed=0, directions="river", k=1, points=2, path=path, keep_directions=True, dimensions=1
    )
    p = path[1] - path[0]
    outside = p - (V[0] @ p) * V[0]
    np.testing.assert_allclose(directions(ds)[0], outside / outside.norm(), atol=1e-5)


@pytest.mark.parametrize("name", ["gradient", "update", "towards"])
def test_the_second_direction_is_the_leading_eigenvector_across_the_first(name):
    u = torch.arange(1.0, 7.0, dtype=torch.float64)
    ds, V, w, path = ask(name, target=path_start(), surroundings=Around(update=lambda: u))
    first = {"gradient": V.T @ (SPECTRUM.double() * (V @ w)), "update": u, "towards": path[0] - w}[name]
    D = directions(ds)
    expected = first if name == "towards" else first / first.norm()
    np.testing.assert_allclose(D[0], expected, rtol=1e-9)
    np.testing.assert_allclose(ds.gram[1], [0, 1], atol=1e-9)
    rest = V[0] - (V[0] @ first) * first / first.norm() ** 2
    np.testing.assert_allclose((D[1] @ rest).abs(), rest.norm(), rtol=1e-5)
    np.testing.assert_allclose(abs(ds.cosine), (V[0] @ first).abs() / first.norm(), rtol=1e-4)


def path_start():
    return bowl()[3][0]


def test_one_length_towards_the_target_is_the_target():
    objective, _, w, path = bowl()
    ds = surface(objective, w, seed=0, directions="towards", target=path[1], dimensions=1, points=6)
    np.testing.assert_allclose(ds.alpha, [-0.25, 0.05, 0.35, 0.65, 0.95, 1.25])
    ds = surface(objective, w, seed=0, directions="towards", target=path[1], dimensions=1, alpha=(0.0, 1.0))
    np.testing.assert_allclose(ds.loss[:, 0], objective.losses(torch.stack([w, path[1]])), rtol=1e-12)


def test_layer_directions_have_the_norms_of_the_tensors():
    objective = toy()
    ds = surface(objective, objective.w0, seed=3, directions="layer", points=2, keep_directions=True)
    names = objective.layout.names
    for d in map(objective.layout.unflatten, directions(ds)):
        for name, p in objective.layout.unflatten(objective.w0).items():
            assert torch.allclose(d[name].norm(), p.norm(), rtol=1e-12), name
    assert len(names) > 3
    zero = torch.zeros(objective.size, dtype=torch.float64)
    assert torch.equal(layer_normalised(objective, zero, objective.w0), zero)


@pytest.mark.parametrize("name", ["random", "layer", "eigen"])
def test_a_line_is_the_first_direction_of_the_plane_with_its_seed(name):
    """Of so many parameters torch draws a matrix at once otherwise than row by row."""
    objective = toy()
    given = {"seed": 5, "directions": name, "points": 2, "keep_directions": True}
    one, two = (surface(objective, objective.w0, dimensions=n, **given) for n in (1, 2))
    np.testing.assert_allclose(two.direction_vector[0], one.direction_vector[0], rtol=1e-6, atol=1e-6)
    assert one.beta.values.tolist() == [0]


def test_the_variance_that_a_skew_plane_explains_is_its_own():
    objective = function_objective(lambda w: (w**2).sum(1), torch.zeros(3))
    path = torch.tensor([[3.0, 4.0, 12.0], [0.0, 0.0, 0.0]])
    D = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    ds = surface(objective, torch.zeros(3), seed=0, directions=D, points=2, path=path)
    np.testing.assert_allclose(ds.explained_variance, [9 / 169, 16 / 169])
    np.testing.assert_allclose(ds.path_distance, [12, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("river", {"path": None}, "need a path of two checkpoints"),
        ("river", {"k": 6}, "1 <= k < P = 6"),
        ("update", {}, "a run that tells its optimiser"),
        ("towards", {}, "need a target: surface.target=RUN@STEP"),
        ("towards", {"target": "runs/other@3"}, "no run that could find"),
        ("eigen", {"dimensions": 3}, "dimensions 1 .* or 2"),
        (torch.ones(1, 5), {}, r"directions \(1, 6\)"),
        (torch.zeros(1, 6), {}, "the direction is zero"),
    ],
)
def test_what_a_plane_lacks_is_said(name, settings, message):
    with pytest.raises(LandscapeError, match=message):
        ask(name, **settings)


def test_a_target_that_is_here_and_a_gradient_along_the_valley_are_refused():
    objective, V, w, _ = bowl()
    with pytest.raises(LandscapeError, match="way to the target to have a finite length"):
        surface(objective, w, seed=0, directions="towards", target=w)
    with pytest.raises(LandscapeError, match="is the leading eigenvector itself"):
        surface(objective, V[0], seed=0, directions="gradient")


# -- of a run -----------------------------------------------------------------------------------------------------


def test_the_update_of_gradient_descent_is_down_the_gradient(tmp_path):
    run = train(small_config("single", steps=4, **settings_of("gd")), tmp_path / "gd")
    settings = {"seed": 0, "steps": [4], "points": 2, "split": "train", "keep_directions": True, "dimensions": 1}
    update, gradient = (sweep("surface", run, directions=name, **settings) for name in ("update", "gradient"))
    np.testing.assert_allclose(update.direction_vector, -gradient.direction_vector, rtol=1e-9, atol=1e-12)


def test_targets_are_found_by_name(fresh_run, tmp_path):
    other = train(small_config(seed=1), fresh_run.path.parent / "beside")
    settings = {"seed": 0, "dimensions": 1, "directions": "towards", "alpha": [0.0, 1.0]}
    own = sweep("surface", fresh_run, target="@0", **settings)
    np.testing.assert_allclose(own.loss[1, 0], own.path_loss[0], rtol=1e-12)
    there = sweep("surface", fresh_run, target="beside@20", **settings)
    expected = fresh_run.objective().loss(other.parameters[-1])
    np.testing.assert_allclose(there.loss[1, 0], float(expected), rtol=1e-12)
    stacked = train(small_config("stacked", steps=1), fresh_run.path.parent / "stacked")
    assert stacked.layout.hash != fresh_run.layout.hash
    for target, message in (
        ("beside", "expected a target RUN@STEP"),
        ("@last", "expected a target RUN@STEP"),
        ("stacked@1", "no line between models of different parameters"),
        ("@3", "no checkpoint"),
        ("nowhere@3", "nowhere"),
    ):
        with pytest.raises(LandscapeError, match=message):
            sweep("surface", fresh_run, target=target, **settings)
