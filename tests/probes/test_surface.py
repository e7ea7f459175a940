"""Slices: where they reach, other planes and checkpoints in one file, measures, refinement, and the walk."""

import numpy as np
import pytest
import torch
from support.oracles import function_objective, quadratic
from support.runs import small_config

from landscape import LandscapeError, Objective, sweep, train
from landscape.probes import surface
from landscape.probes.tools.around import Around
from landscape.probes.tools.measures import Groups, Labels
from landscape.probes.tools.slices import sampled

EYE = torch.eye(2)


def bowl(a, b, **settings):
    """f = a x^2 + b y^2 on its axes."""
    objective = function_objective(lambda w: a * w[:, 0] ** 2 + b * w[:, 1] ** 2, torch.zeros(2))
    return surface(objective, torch.tensor([1.0, 0.0]), seed=0, **{"directions": EYE, "points": 5, **settings})


# -- where it reaches ---------------------------------------------------------------------------------------------


def test_a_line_has_one_direction_and_no_beta():
    objective = function_objective(lambda w: w[:, 0] + 10 * w[:, 1], torch.zeros(2))
    given = {"seed": 0, "directions": torch.tensor([[0.0, 2.0]])}
    ds = surface(objective, torch.zeros(2), alpha=(0, 1, 3), path=torch.tensor([[5.0, 4.0]]), **given)
    assert ds.loss.values.tolist() == [[0], [20], [60]]
    assert (ds.path_alpha.item(), ds.path_beta.item(), ds.path_distance.item()) == (2, 0, 5)
    assert (ds.path_loss.item(), ds.path_plane_loss.item()) == (45, 40)
    assert ds.gram.values.tolist() == [[4]]
    with pytest.raises(LandscapeError, match="expected no beta"):
        surface(objective, torch.zeros(2), beta=(0, 1), **given)


def test_points_and_span_may_differ_between_axes():
    ds = bowl(1, 1, points=(3, 2), span=(1.0, 4.0))
    assert ds.alpha.values.tolist() == [-1, 0, 1]
    assert ds.beta.values.tolist() == [-4, 4]
    assert ds.loss.shape == (3, 2)
    for bad in ({"points": (3, 2, 2)}, {"points": (3,)}, {"span": (1.0, -1.0)}, {"span": (1.0,)}):
        with pytest.raises(LandscapeError, match="one for all 2 axes or one for each"):
            bowl(1, 1, **bad)
    with pytest.raises(LandscapeError, match='a number, one number per axis, "walls" or None'):
        bowl(1, 1, span="wide")


def test_walls_of_a_parabola_are_where_they_are_and_the_grid_holds_them():
    objective = function_objective(lambda w: 3 * (w[:, 0] - 0.5) ** 2 + w[:, 1] ** 2 / 2, torch.zeros(2))
    D = torch.tensor([[0.5, 0.0], [0.0, 2.0]])
    ds = surface(objective, torch.tensor([1.0, 0.0]), seed=0, directions=D, span="walls", rise=0.2, points=9)
    # Along the first f = 3 (alpha + 1)^2 / 4, along the second 3 / 4 + 2 beta^2.
    half = 2 * np.sqrt(0.2 / 3), np.sqrt(0.2 / 2)
    np.testing.assert_allclose(ds.floor, [-1, 0], atol=1e-6)
    np.testing.assert_allclose(ds.floor_loss, [0, 0.75], atol=1e-10)
    np.testing.assert_allclose(ds.wall[0], [-1 - half[0], -1 + half[0]], rtol=1e-5)
    np.testing.assert_allclose(ds.wall[1], [-half[1], half[1]], rtol=1e-5)
    np.testing.assert_allclose(ds.curvature, [1.5, 4])
    np.testing.assert_allclose(ds.slope, [1.5, 0])
    assert ds.floor_converged.all()
    assert not ds.wall_censored.any()
    assert float(ds.centre_loss) == 0.75
    for axis, ends in ((ds.alpha, (-1 - half[0], 0)), (ds.beta, (-half[1], half[1]))):
        assert 0 in axis.values
        assert ends[0] - 0.2 * np.ptp(ends) < float(axis[0]) < ends[0]
        assert ends[1] < float(axis[-1]) < ends[1] + 0.2 * np.ptp(ends)
        np.testing.assert_allclose(np.ptp(axis.values), 1.2 * np.ptp(ends), rtol=1e-5)


def test_without_walls_the_grid_is_as_without_being_asked():
    objective = function_objective(lambda w: w[:, 0] + w[:, 1] ** 2, torch.zeros(2))
    ds = surface(objective, torch.ones(2), seed=0, directions=EYE, span="walls", points=3)
    assert np.isnan(ds.wall[0]).all()
    assert not ds.floor_converged[0]
    assert ds.alpha.values.tolist() == [-1, 0, 1]
    assert float(ds.beta[-1]) != 1
    with pytest.raises(LandscapeError, match="positive, finite rise"):
        surface(objective, torch.ones(2), seed=0, directions=EYE, walls=True, rise=-1.0)


# -- coarse first -------------------------------------------------------------------------------------------------


def test_only_where_it_bends_new_points_are_evaluated():
    ds = bowl(1, 0, span=4.0, points=9, refine=2)
    full = bowl(1, 0, alpha=tuple(ds.alpha.values), beta=tuple(ds.beta.values))
    known = ds.evaluated.values
    assert known.shape == (33, 33)
    assert known[::4, ::4].all()
    assert 81 < known.sum() < 0.7 * known.size
    np.testing.assert_array_equal(ds.loss.values[known], full.loss.values[known])
    assert np.isnan(ds.loss.values[~known]).all()


@pytest.mark.parametrize("hole", [np.inf, np.nan])
def test_a_kink_and_a_hole_are_closed_in_on(hole):
    def f(x):
        return np.where(x[:, 0] > 2.3, hole, np.abs(x[:, 0] + 1.6))

    (alpha, _), z, known = sampled([np.arange(-4.0, 5), np.zeros(1)], f, rounds=3, bend=0.01)
    spaces = np.diff(alpha[known[:, 0]])
    inside = alpha[known[:, 0]][:-1]
    assert spaces[np.abs(inside + 1.6) < 0.2].max() == 1 / 8, "around the kink"
    assert spaces[np.abs(inside - 2.3) < 0.2].max() == 1 / 8, "at the edge of the hole"
    assert spaces[np.abs(inside) < 0.9].max() == 1, "where it is straight"
    np.testing.assert_array_equal(z[alpha == 4, 0], hole)


def test_a_twist_bends_and_a_plane_does_not():
    axis = [np.linspace(-1, 1, 5)] * 2
    for f, n in ((lambda x: x[:, 0] * x[:, 1], 81), (lambda x: x[:, 0] + 10 * x[:, 1], 25)):
        assert sampled(axis, f, rounds=1, bend=0.01)[2].sum() == n


@pytest.mark.parametrize("axes", [(3, 1), (1, 3), (3, 5)])
def test_rows_and_columns_of_a_refined_grid_agree(axes):
    """f = a + 10 b + a curve, so that everything is refined."""
    grid = [np.linspace(0, 1, n) ** 2 for n in axes]

    def f(x):
        return x[:, 0] + 10 * x[:, 1] + x[:, 0] ** 4 - x[:, 1] ** 4

    (alpha, beta), z, known = sampled(grid, f, rounds=1, bend=1e-9)
    assert known.all()
    for fine, coarse in zip((alpha, beta), grid, strict=True):
        np.testing.assert_array_equal(fine if len(coarse) == 1 else fine[::2], coarse)
    np.testing.assert_allclose(z, alpha[:, None] + 10 * beta + alpha[:, None] ** 4 - beta**4)


@pytest.mark.parametrize("settings", [{"refine": -1}, {"refine": 1, "bend": 0.0}, {"refine": 1, "points": 2}])
def test_refinement_out_of_range_is_refused(settings):
    with pytest.raises(LandscapeError, match="expected refine >= 0 rounds"):
        bowl(1, 1, **settings)


# -- several draws ------------------------------------------------------------------------------------------------


def test_draws_are_the_planes_of_the_next_seeds():
    objective, *_ = quadratic(torch.tensor([5.0, 2.0, 1.0, 0.1]))
    w = torch.arange(1.0, 5.0)
    ds = surface(objective, w, seed=7, directions="random", points=(4, 3), draws=3)
    assert ds.draw.values.tolist() == [7, 8, 9]
    np.testing.assert_array_equal(ds.loss, ds.draw_loss[0])
    other = surface(objective, w, seed=9, directions="random", points=(4, 3))
    np.testing.assert_array_equal(ds.draw_loss[2], other.loss)
    np.testing.assert_array_equal(ds.draw_gram[2], other.gram)
    x = ds.draw_loss.values
    np.testing.assert_allclose(ds.draw_share, x.var(0).mean() / x.var(), rtol=1e-12)


def test_what_does_not_depend_on_the_direction_is_no_matter_of_the_draw():
    objective = function_objective(lambda w: (w**2).sum(1), torch.zeros(1))  # one parameter: |d| = |w|
    ds = surface(objective, torch.ones(1), seed=0, directions="layer", dimensions=1, alpha=(-0.5, 0.0, 0.5), draws=9)
    assert len(np.unique(np.sign(ds.draw_loss[:, 2] - ds.draw_loss[:, 1]))) == 2, "both signs are drawn"
    even = function_objective(lambda w: ((w - 1) ** 2).sum(1), torch.zeros(1))
    assert surface(even, torch.ones(1), seed=0, directions="layer", dimensions=1, points=3, draws=9).draw_share < 1e-25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 2}, "expected draws=2 of random directions"),
        ({"draws": 0}, "draws >= 1"),
        ({"replay": -1}, "replay >= 0"),
        ({"directions": "random", "draws": 2, "refine": 1}, "refine=0 with several draws"),
        ({"frames": (0,)}, "frames need a run"),
        ({"replay": 2}, "replay needs a run"),
        ({"measures": ("accuracy",)}, "a task that says what is correct"),
        ({"measures": ("families",)}, "samples of which it is known"),
        ({"measures": ("beauty",)}, "unknown measure 'beauty'"),
    ],
)
def test_what_cannot_be_asked_is_said(settings, message):
    with pytest.raises(LandscapeError, match=message):
        bowl(1, 1, **settings)


# -- measures -----------------------------------------------------------------------------------------------------


def test_measures_are_weighted_means_over_their_groups_and_holes_stay_in_them():
    """Sample i has the loss t_i a, infinite for a > 1 in the last; it is correct where a is below t_i."""
    t = torch.tensor([1.0, 2.0, 3.0, 4.0])
    module = torch.nn.Linear(1, 1, bias=False)

    def loss(y, t):
        return torch.where((t == 4) & (y[:, 0] > 1), torch.inf, t * y[:, 0])

    objective = Objective(module, loss, (torch.ones(4, 1), t), weights=[3.0, 1.0, 1.0, 1.0])
    labels = Labels(
        correct=lambda y, t: (y[:, 0] < t).double(), family=["b", "b", "a", "a"], information_content=[2, 9, 1, np.nan]
    )
    ds = surface(
        objective, torch.zeros(1), seed=0, directions=torch.ones(1, 1), alpha=(0.5, 1.0, 2.0), bins=2,
        measures=("accuracy", "families", "content"), surroundings=Around(labels=labels),
    )  # fmt: skip
    assert ds.family.values.tolist() == ["a", "b"]
    np.testing.assert_allclose(ds.accuracy[:, 0], [1, 0.5, 2 / 6])
    np.testing.assert_allclose(ds.family_loss[..., 0], [[1.75, 3.5, np.inf], [0.625, 1.25, 2.5]])
    np.testing.assert_allclose(ds.family_accuracy[..., 0], [[1, 1, 1], [1, 0.25, 0]])
    assert ds.content_low.values.tolist() == [1, 9]
    assert ds.content_high.values.tolist() == [2, 9]
    assert ds.content_samples.values.tolist() == [2, 1]
    np.testing.assert_allclose(ds.content_loss[..., 0], [[0.75, 1.5, 3], [1, 2, 4]])
    assert np.isinf(ds.loss[2, 0])


def test_bins_that_would_be_empty_are_refused():
    with pytest.raises(LandscapeError, match="between 1 and 2 bins"):
        Groups.of(["content"], Labels(information_content=[1.0, np.nan, 2.0]), 3, bins=3)


# -- of a run -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """A run that shifts at step 6. Tests must not write into it but for results."""
    shift = {"criterion": "fixed", "at": 6, "check_every": 4}
    return train(small_config("shift", shift=shift), tmp_path_factory.mktemp("surface") / "shifted")


def test_measures_at_the_centre_are_those_of_the_training(fresh_run):
    asked = {"dimensions": 1, "directions": "random", "alpha": [0.0, 0.1], "measures": ["accuracy", "families"]}
    ds = sweep("surface", fresh_run, seed=0, refine=0, **asked)
    metrics = fresh_run.metrics.sel(step=20, split="probe")
    families = metrics.sel(family=ds.family.values)
    for found, expected in (
        (ds.accuracy[0, 0], metrics.accuracy[0]),
        (ds.family_loss[:, 0, 0], families.loss),
        (ds.family_accuracy[:, 0, 0], families.accuracy),
    ):
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-5)


def test_measures_are_not_told_where_nothing_was_evaluated(fresh_run):
    asked = {"points": [3, 4], "directions": "random", "refine": 1, "bend": 0.3, "measures": ["accuracy", "content"]}
    ds = sweep("surface", fresh_run, seed=0, **asked)
    assert not ds.evaluated.all()
    np.testing.assert_array_equal(np.isnan(ds.accuracy), ~ds.evaluated)
    n = ds.content_samples
    np.testing.assert_allclose((ds.content_loss * n).sum("content", skipna=False) / n.sum(), ds.loss, rtol=1e-12)


def test_frames_are_the_plane_laid_through_other_checkpoints_with_their_own_models(shifted):
    asked = {"seed": 0, "directions": "random", "alpha": [0.0, 0.5], "beta": [0.0, 1.0], "keep_directions": True}
    ds = sweep("surface", shifted, frames=[0, 20], **asked)
    assert ds.frame_step.values.tolist() == [0, 20]
    D = torch.from_numpy(ds.direction_vector.values)
    for i, step in enumerate((0, 20)):
        objective = shifted.objective(at=step)
        for a, alpha in enumerate(ds.alpha.values):
            for b, beta in enumerate(ds.beta.values):
                expected = float(objective.loss(objective.w0 + alpha * D[0] + beta * D[1]))
                np.testing.assert_allclose(ds.frame_loss[i, a, b], expected, rtol=1e-12)
    assert sweep("surface", shifted, frames="all", **asked).frame_step.values.tolist() == shifted.steps.tolist()
    with pytest.raises(LandscapeError, match='training steps or "all"'):
        sweep("surface", shifted, frames="some", **asked)


def test_frames_have_their_checkpoint_in_the_middle(shifted):
    plain, ds = (sweep("surface", shifted, seed=0, points=3, **more) for more in ({}, {"frames": [0]}))
    for axis in ("alpha", "beta"):
        np.testing.assert_allclose(np.ptp(ds[axis].values), np.ptp(plain[axis].values))
        np.testing.assert_allclose(ds[axis][1], 0, atol=1e-12)


def test_the_switch_is_on_the_path_with_the_loss_of_each_own_model(shifted):
    ds = sweep("surface", shifted, seed=0, points=2)
    assert ds.path_loops.values.tolist() == [1 if step < 6 else 3 for step in shifted.steps]
    own = [float(o.loss(o.w0)) for o in (shifted.objective(at=int(s)) for s in shifted.steps)]
    np.testing.assert_allclose(ds.path_own_loss, own, rtol=1e-12)
    last = shifted.objective(at=20)
    np.testing.assert_allclose(ds.path_loss, last.losses(shifted.parameters[:]), rtol=1e-12)
    assert not np.allclose(ds.path_loss[:3], ds.path_own_loss[:3])


def test_a_run_that_does_not_shift_has_one_loss(fresh_run):
    ds = sweep("surface", fresh_run, seed=0, points=2)
    assert not {"path_loops", "path_own_loss", "frame_loss", "wall", "draw_loss", "evaluated"} & set(ds.variables)


def test_single_updates_lie_where_they_were(fresh_run):
    ds = sweep(
        "surface", fresh_run, seed=0, points=2, directions="river", k=2, replay=5, replay_from=2, keep_directions=True
    )
    assert ds.replay_step.values.tolist() == [2, 3, 4, 5, 6, 7]
    rows, objective = fresh_run.replay(2, 5), fresh_run.objective()
    D = torch.from_numpy(ds.direction_vector.values)
    foot = fresh_run.parameters[-1] + torch.from_numpy(np.stack([ds.replay_alpha, ds.replay_beta])).T @ D
    assert float(((rows - foot) @ D.T).abs().max()) < 1e-6  # float32 training
    np.testing.assert_allclose(ds.replay_loss, objective.losses(rows), rtol=1e-12)
    np.testing.assert_allclose(ds.replay_plane_loss, objective.losses(foot), rtol=1e-9)
    both = np.intersect1d(ds.path_step, ds.replay_step)
    assert len(both) > 1
    for a, b in (("path_alpha", "replay_alpha"), ("path_distance", "replay_distance")):
        on_path, again = ds[a].sel(path_step=both), ds[b].sel(replay_step=both)
        np.testing.assert_array_equal(on_path.values, again.values)


def test_fewer_updates_than_asked_are_what_there_is(fresh_run):
    ds = sweep("surface", fresh_run, seed=0, points=2, replay=99, replay_from=11)
    assert ds.replay_step.values.tolist() == list(range(11, 21))
    with pytest.raises(LandscapeError, match="expected an update after step 20, found none: give an earlier step"):
        sweep("surface", fresh_run, seed=0, points=2, replay=3)
