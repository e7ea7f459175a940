"""Shapes, widths by group and the split of river and valley, where the answer is known in closed form."""

import math

import numpy as np
import pytest
import torch
from support.oracles import function_objective, least_squares, quadratic, toy

from landscape import LandscapeError, Objective, sweep
from landscape.cli.tables import TABLES
from landscape.probes import valley
from landscape.probes.split import split
from landscape.probes.tools.wall_shapes import GROUPS, RULE, asymmetry, group_statistics, shape_labels

ONLY = {"top": 0, "bottom": 0, "random": 0, "gradient": False}
RISES = (1e-4, 1e-3, 1e-2, 1e-1)


def scaled(objective: Objective, factor: float) -> Objective:
    original = objective.chunks.per_sample_loss
    objective.chunks.per_sample_loss = lambda y, t: factor * original(y, t)
    return objective


# -- widths over groups -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [[5.0] * 6, [1000.0, 300.0, 20.0, 5.0, 0.7, 0.01]])
def test_spread_of_log_width_is_half_the_spread_of_log_curvature(lam):
    objective, _, _ = quadratic(torch.tensor(lam), offset=0.5)
    ds = valley(objective, torch.zeros(6), seed=0, **{**ONLY, "top": 6, "random": 3}, rises=RISES, limit=1e3)
    expected = 0.5 * np.std(np.log(lam), ddof=1)
    assert np.abs(ds.log_width_spread.sel(group="top").values - expected).max() < 1e-6
    log_width = np.log(np.sqrt(2 * np.array(RISES)[:, None] / np.array(lam))).mean(1)
    assert np.abs(ds.log_width_mean.sel(group="top").values - log_width).max() < 1e-6
    assert (ds.n_widths.sel(group="top") == 6).all()
    random = 0.5 * np.std(np.log(ds.curvature.values[6:]), ddof=1)
    assert np.abs(ds.log_width_spread.sel(group="random").values - random).max() < 1e-6
    assert ds["shape"].values.tolist() == ["quadratic"] * 9
    assert np.abs(ds.asymmetry.values).max() < 1e-6
    assert float(ds.group_exponent.sel(group="top")) == pytest.approx(2, abs=1e-6)
    assert ds.n_exponents.values.tolist() == [6, 0, 0, 3, 0, 0]
    assert ds.group.values.tolist() == list(GROUPS)
    assert ds.direction_group.values.tolist() == ["top"] * 6 + ["random"] * 3


def test_directions_without_a_width_are_left_out_and_counted():
    objective, _, _ = quadratic(torch.tensor([100.0, 1.0, 1e-4]))
    ds = valley(objective, torch.zeros(3), seed=0, **{**ONLY, "top": 3, "bottom": 1}, rises=(1e-2, 1.0), limit=3)
    top = ds.sel(group="top")
    assert top.n_widths.values.tolist() == [2, 2]  # the third would be sqrt(2e-2 / 1e-4) = 14 wide
    assert np.abs(top.log_width_spread.values - 0.5 * np.std(np.log([100.0, 1.0]), ddof=1)).max() < 1e-6
    bottom = ds.sel(group="bottom")
    assert np.isnan(bottom.log_width_mean).all()
    assert np.isnan(bottom.log_width_spread).all()
    assert ds["shape"].values.tolist() == ["undecided", "undecided", "flat", "flat"]  # 2 rises give no standard error


def test_statistics_of_groups_by_hand():
    s = np.array([[[1.0], [4.0]], [[9.0], [9.0]], [[5.0], [np.nan]], [[2.0], [2.0]]])
    trusted = np.isfinite(s)
    p = np.array([[1.0, 2.0], [3.0, 2.0], [2.0, np.nan], [4.0, 4.0]])
    floor = np.array([True, True, True, False])
    found = group_statistics(s, trusted, p, floor, ["top", "top", "top", "random"])
    logs = np.log([2.0, 9.0])
    assert found["log_width_mean"][0, 0] == pytest.approx(logs.mean())
    assert found["log_width_spread"][0, 0] == pytest.approx(abs(logs[1] - logs[0]) / math.sqrt(2))
    assert found["n_widths"][:, 0].tolist() == [2, 0, 0, 1, 0, 0]
    assert found["group_exponent"][0] == pytest.approx(2.0)  # of 1.5 and 2.5
    assert found["group_exponent_stderr"][0] == pytest.approx(0.5)
    assert found["n_exponents"].tolist() == [2, 0, 0, 0, 0, 0]
    assert np.isnan(found["group_exponent"][1:]).all()
    assert np.isnan(found["log_width_spread"][3, 0])
    assert asymmetry(s, trusted)[:3, 0].tolist() == [
        pytest.approx(math.log(4)),
        0.0,
        pytest.approx(np.nan, nan_ok=True),
    ]


# -- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.0, 0.3])
@pytest.mark.parametrize(
    ("label", "function"),
    [
        ("V", lambda w: w.abs().sum(1)),
        ("quadratic", lambda w: (w**2).sum(1)),
        ("U", lambda w: (w**4).sum(1)),
        ("undecided", lambda w: torch.where(w < 0, -w, w**2).sum(1)),
        ("undecided", lambda w: (w**2 + 0.01 * w.abs()).sum(1)),
    ],
)
def test_walls_of_a_power_get_its_label(label, function, start):
    objective = function_objective(function, torch.zeros(1))
    ds = valley(objective, torch.tensor([start]), seed=0, **{**ONLY, "random": 1}, rises=RISES, limit=10.0)
    assert ds["shape"].values.tolist() == [label]
    assert float(ds.shape_tol) == 0.25
    assert ds["shape"].attrs["long_name"].endswith(RULE)


def test_asymmetric_walls():
    objective = function_objective(lambda w: torch.where(w < 0, 4 * w**2, w**2).sum(1), torch.zeros(1))
    ds = valley(objective, torch.tensor([0.3]), seed=0, **{**ONLY, "gradient": True}, rises=RISES, limit=10.0)
    assert np.abs(ds.asymmetry.values - math.log(2)).max() < 1e-6  # the gradient points to the wide side
    assert ds["shape"].values.tolist() == ["quadratic"]


def test_flat_and_falling_lines():
    flat = function_objective(lambda w: 3.0 + 0 * w.sum(1), torch.zeros(2))
    ds = valley(flat, torch.zeros(2), seed=0, **{**ONLY, "random": 2}, rises=RISES, limit=5.0)
    assert ds["shape"].values.tolist() == ["flat"] * 2
    assert ds.censored.values.all()
    assert (ds.half_width.values == 5.0).all()
    assert (ds.n_widths.values == 0).all()
    falling = function_objective(lambda w: -w.sum(1), torch.zeros(1))
    ds = valley(falling, torch.zeros(1), seed=0, **{**ONLY, "gradient": True}, rises=RISES, limit=3.0)
    assert ds["shape"].values.tolist() == ["falling"]
    assert bool(ds.floor_censored)
    assert np.isnan(ds.half_width).all()
    assert not (ds.censored | ds.converged).any()
    assert (ds.n_widths.values == 0).all()
    assert np.isnan(ds.group_exponent.values).all()


def test_labels_by_hand():
    p = np.array([[1.0, 1.0], [1.0, 1.0], [2.2, 1.9], [2.2, 2.0], [2.5, 3.0], [np.nan, 2.0], [2.0, 2.0]])
    se = np.array([[0.01, 0.3], [0.4, 0.01], [0.01, 0.01], [0.05, 0.0], [0.1, 0.1], [0.0, 0.0], [0.0, 0.0]])
    yes = np.ones(7, bool)
    censored = np.zeros((7, 2, 3), bool)
    expected = ["V", "undecided", "quadratic", "undecided", "U", "undecided", "quadratic"]
    ask = {"censored": censored, "falling": ~yes, "floor": yes, "present": yes, "tol": 0.25}
    assert shape_labels(p, se, **ask).tolist() == expected
    assert shape_labels(p, se, **{**ask, "tol": 0.35}).tolist()[2:5] == ["quadratic", "quadratic", "undecided"]
    assert shape_labels(p, se, **{**ask, "floor": ~yes}).tolist() == ["undecided"] * 7
    assert shape_labels(p, se, **{**ask, "present": ~yes}).tolist() == ["absent"] * 7
    assert shape_labels(p, se, **{**ask, "censored": ~censored}).tolist() == ["flat"] * 7
    assert shape_labels(p, se, **{**ask, "censored": ~censored, "falling": yes}).tolist() == ["falling"] * 7


@pytest.mark.parametrize("start", [0.0, 0.2, -1e-9])
@pytest.mark.parametrize(
    ("label", "function"),
    [
        ("falling", lambda w: -(w**2)),
        ("falling", lambda w: 3.0 - w**4),
        ("falling", torch.cos),
        ("falling", lambda w: 2.0 - w.abs()),
        ("falling", lambda w: 5.0 - w),
        ("falling", lambda w: torch.where(w.abs() < 0.3, 1e-5 * w**2, -((w.abs() - 0.3) ** 2))),
        ("flat", lambda w: 1.0 - 1e-20 * w**2),
        ("flat", lambda w: 1.0 + 1e-9 * w**2),
        ("quadratic", lambda w: 0.1 * torch.cos(40 * w) + w**2 * 0),
    ],
)
def test_directions_without_a_floor_are_not_flat(label, function, start):
    objective = function_objective(lambda w: function(w).sum(1), torch.zeros(1))
    ask = {**ONLY, "random": 1, "rises": (1e-4, 3e-4, 1e-3), "limit": 1.0}
    ds = valley(objective, torch.tensor([start]), seed=0, **ask)
    assert ds["shape"].values.tolist() == [label]
    if label == "falling":
        assert not ds.floor_converged.any() or float(ds.lowest.min()) < -1e-4
    else:
        assert float(ds.lowest.min()) > -1e-4 or not ds.censored.any()


# -- negative directions ------------------------------------------------------------------------------------------


def test_negative_directions_are_those_of_negative_curvature_and_the_rest_is_said_to_be_absent():
    """Near a saddle of (x^2 - 1)^2 / 4 + y^2 / 2 + z^2, with minima at x = +-1 of curvature 2."""
    objective = function_objective(
        lambda w: 0.25 * (w[:, 0] ** 2 - 1) ** 2 + 0.5 * w[:, 1] ** 2 + w[:, 2] ** 2, torch.zeros(3)
    )
    w = torch.tensor([0.05, 0.0, 0.0])
    ds = valley(objective, w, seed=0, **{**ONLY, "bottom": 1, "negative": 2}, rises=(1e-6, 1e-5, 1e-4), limit=3.0)
    assert ds.direction.values.tolist() == ["bottom 1", "negative 1", "negative 2"]
    assert int(ds.n_negative) == 1
    assert ds.curvature.values == pytest.approx([3 * 0.05**2 - 1, 3 * 0.05**2 - 1, 1.0], rel=1e-9)
    assert np.abs(ds.floor.values[:2]) == pytest.approx([0.95, 0.95], rel=1e-9)
    assert ds.half_width.values[1] == pytest.approx(np.array([[1e-3, 10**-2.5, 1e-2]] * 2), rel=1e-2)
    assert ds["shape"].values.tolist() == ["quadratic", "quadratic", "absent"]
    absent = ds.isel(mode=2)
    for name in ("half_width", "exponent", "exponent_stderr", "floor", "floor_drop", "asymmetry"):
        assert np.isnan(absent[name]).all(), name
    for name in ("censored", "converged", "floor_converged", "floor_censored"):
        assert not absent[name].any(), name
    assert ds.n_widths.sel(group="negative").values.tolist() == [1] * 3
    convex = valley(quadratic(torch.ones(3))[0], torch.ones(3), seed=0, **{**ONLY, "negative": 2}, rises=RISES)
    assert int(convex.n_negative) == 0
    assert int(convex.n_evaluations) == 2
    assert convex["shape"].values.tolist() == ["absent"] * 2


def test_lines_after_an_absent_one_are_their_own():
    objective, _, _ = quadratic(torch.tensor([100.0, 4.0, 1.0]), offset=1.0)
    ds = valley(objective, torch.zeros(3), seed=0, **{**ONLY, "negative": 1, "random": 2}, rises=RISES, limit=9.0)
    expected = np.sqrt(2 * np.array(RISES) / ds.curvature.values[1:, None, None])
    assert np.abs(ds.half_width.values[1:] / expected - 1).max() < 1e-6


# -- evaluation in batches ----------------------------------------------------------------------------------------


class Watched:
    """An objective whose public evaluations are recorded; anything else is not to be relied upon."""

    PUBLIC = ("loss", "losses", "grad", "hessian", "vector", "layout", "w0", "size", "dtype", "device", "caveats")

    def __init__(self, objective):
        self._it, self.rows, self.grads, self.single = objective, [], 0, 0

    def __getattr__(self, name):
        assert name in self.PUBLIC, name
        return getattr(self._it, name)

    def loss(self, w):
        self.single += 1
        return self._it.loss(w)

    def losses(self, W):
        self.rows.append(len(W))
        return self._it.losses(W)

    def grad(self, w):
        self.grads += 1
        return self._it.grad(w)


def test_all_lines_are_evaluated_together_and_counted():
    watched = Watched(toy())
    ds = valley(watched, watched.w0, seed=0, negative=2, filter_random=1)
    assert int(ds.n_evaluations) == sum(watched.rows) + watched.grads + watched.single
    assert (watched.single, watched.rows[0]) == (0, 1), "the loss at w, with the roundings of the others"
    assert max(watched.rows) >= 2 * int((ds["shape"] != "absent").sum())
    assert len(watched.rows) < sum(watched.rows) / 5


def test_few_evaluations_per_direction():
    objective = toy()
    ds = valley(objective, objective.w0, seed=0, top=3, bottom=0, random=1)
    assert int(ds.n_evaluations) / ds.sizes["mode"] < 100
    quadratics, _, _ = quadratic(torch.tensor([100.0, 10.0, 1.0]))
    ds = valley(quadratics, torch.full((3,), 0.1), seed=0, top=3, bottom=0, random=1)
    assert int(ds.n_evaluations) / ds.sizes["mode"] < 60


def test_a_line_does_not_depend_on_which_others_are_measured():
    """To the tolerance of a search: the roundings of a loss may differ between batches of other sizes."""
    objective = toy()
    few = valley(objective, objective.w0, seed=0, **{**ONLY, "top": 2}, rises=RISES)
    many = valley(objective, objective.w0, seed=0, top=2, bottom=1, random=3, filter_random=1, rises=RISES)
    many = many.isel(mode=slice(2))
    for name in ("censored", "converged", "floor_converged", "floor_censored", "shape"):
        assert np.array_equal(few[name], many[name]), name
    assert few.converged.any()
    for name in ("half_width", "exponent", "exponent_stderr", "floor", "floor_drop"):
        assert np.allclose(few[name], many[name], rtol=1e-5, atol=1e-7, equal_nan=True), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_widths_are_where_the_loss_has_risen(dtype):
    objective = toy(dtype=dtype)
    w = objective.w0
    ds = valley(objective, w, seed=0, **{**ONLY, "random": 2}, rises=(1e-3, 1e-2))
    exact = toy()
    generator = torch.Generator().manual_seed(0)
    for m in range(2):
        u = torch.randn(objective.size, generator=generator, dtype=torch.float64).to(w)
        u = (u / u.norm()).double()
        t0 = float(ds.floor[m])
        bottom = exact.loss(w.double() + t0 * u)
        for i, side in enumerate((-1, 1)):
            for j, rise in enumerate((1e-3, 1e-2)):
                if bool(ds.converged[m, i, j]):
                    top = exact.loss(w.double() + (t0 + side * float(ds.half_width[m, i, j])) * u)
                    assert float(top - bottom) == pytest.approx(rise, rel=1e-5 if dtype == torch.float64 else 3e-3)
    assert ds.converged.values.any()


@pytest.mark.parametrize("factor", [1.0, 1e-8])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_floors_close_to_the_checkpoint_are_not_lost_in_rounding(dtype, factor):
    exact, H = least_squares()
    u = torch.randn(exact.size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    w = exact.w0 - torch.linalg.solve(H, exact.grad(exact.w0)) + 1e-4 * u / u.norm()
    objective = scaled(least_squares(dtype=dtype)[0], factor)
    rises = tuple(factor * r for r in (1e-2, 3e-2, 1e-1, 3e-1))
    ds = valley(objective, w.to(dtype), seed=0, **{**ONLY, "top": 5, "random": 20, "gradient": True}, rises=rises)
    share = 1.0 if dtype == torch.float64 else 0.9
    assert ds.floor_converged.values.mean() >= share
    assert (ds["shape"].values == "quadratic").mean() >= share
    assert np.abs(ds.floor.values).max() < 1e-2


def test_the_table_marks_what_is_not_to_be_believed():
    falling = function_objective(lambda w: torch.where(w < 0, w**2, -w).sum(1), torch.zeros(1))
    ds = valley(falling, torch.ones(1), seed=0, **{**ONLY, "gradient": True}, rises=RISES, limit=3.0)
    ask = {**ONLY, "gradient": True, "rises": RISES, "limit": 9.0}
    parabola = valley(quadratic(torch.ones(1))[0], torch.ones(1), seed=0, **ask)
    parabola.converged[0, 0] = False
    parabola.censored[0, 1] = True
    parabola.converged[0, 1] = False
    runs = [d.expand_dims(step=[7]).assign_attrs(run=name) for d, name in ((ds, "no floor"), (parabola, "floor"))]
    table = TABLES["valley"](runs)
    none, marked = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert [none[c] for c in ("width −", "width +", "exponent −", "exponent +")] == ["–"] * 4
    assert none["floor at"].startswith(">")
    assert none["shape"] == "falling"
    assert marked["shape"] == "quadratic"
    assert marked["width −"].endswith("?")
    assert marked["width +"].startswith(">")
    assert not marked["width +"].endswith("?")
    assert marked["exponent −"].startswith("2 ±")
    assert not set(">?") & set(marked["floor at"])


def test_scaling_the_loss_changes_no_shape():
    rises = (1e-4, 1e-3, 1e-2)
    one, two = (toy(), scaled(toy(), 1e-8))
    a = valley(one, one.w0, seed=0, top=2, bottom=1, negative=2, rises=rises)
    b = valley(two, two.w0, seed=0, top=2, bottom=1, negative=2, rises=tuple(1e-8 * r for r in rises))
    for name in ("half_width", "exponent", "asymmetry", "log_width_mean", "log_width_spread", "group_exponent"):
        assert np.allclose(a[name], b[name], rtol=1e-5, atol=1e-6, equal_nan=True), name
    for name in ("shape", "n_widths", "n_exponents", "n_negative", "censored", "converged", "floor_converged"):
        assert np.array_equal(a[name], b[name]), name


def test_labels_survive_a_sweep(fresh_run):
    steps = fresh_run.steps[[0, -1]].tolist()
    ask = {"seed": 0, "top": 1, "bottom": 0, "negative": 1, "random": 2, "rises": [1e-3, 1e-2, 0.1]}
    ds = sweep("valley", fresh_run, steps=steps, **ask)
    assert ds["shape"].dims == ("step", "mode")
    assert ds["shape"].shape == (2, 5)
    assert set(map(str, ds["shape"].values.ravel())) <= {
        "V",
        "U",
        "quadratic",
        "flat",
        "falling",
        "undecided",
        "absent",
    }
    again = sweep("valley", fresh_run, steps=steps, **ask)
    assert np.array_equal(ds["shape"].astype(str), again["shape"].astype(str))
    assert ds.group.dims == ("group",)
    assert RULE in ds["shape"].attrs["long_name"]


@pytest.mark.parametrize(
    ("settings", "message"), [({"negative": -1}, "negative"), ({"shape_tol": -0.1}, "shape_tol >= 0")]
)
def test_wrong_settings_are_explained(settings, message):
    objective, _, _ = quadratic(torch.ones(3))
    with pytest.raises(LandscapeError, match=message):
        valley(objective, torch.ones(3), seed=0, **settings)


# -- river and valley ---------------------------------------------------------------------------------------------

SPECTRUM = [50.0, 20.0, 20.0, 3.0, 0.5, 1e-3, 0.0, -0.4, -70.0]


def test_kappa_of_a_chosen_spectrum():
    objective, _, _ = quadratic(torch.tensor(SPECTRUM, dtype=torch.float64))
    ds = split(objective, objective.w0, eps=(1e-4, 1e-2, 1.0, 10.0, 60.0), eps_relative=(1e-6, 0.05, 0.3, 0.5))
    assert ds.dimension_absolute.values.tolist() == [6, 5, 4, 3, 0]
    assert ds.kappa_absolute.values == pytest.approx([5e4, 100, 50 / 3, 2.5, np.nan], rel=1e-9, nan_ok=True)
    assert ds.dimension_relative.values.tolist() == [6, 4, 3, 1]
    assert ds.kappa_relative.values == pytest.approx([5e4, 50 / 3, 2.5, 1.0], rel=1e-9)
    assert ds.gap_absolute.values[1:] == pytest.approx([500, 6, 20 / 3, np.nan], rel=1e-9, nan_ok=True)
    assert ds.gap_absolute.values[0] > 1e9  # the next eigenvalue is 0, up to rounding
    assert ds.converged_absolute.values.all()
    assert ds.converged_relative.values.all()
    assert float(ds.largest_eigenvalue) == pytest.approx(50)
    assert bool(ds.exact)
    assert int(ds.n_products) == 9


def test_split_equals_dense_and_scales_with_the_loss():
    objective, small = toy(), scaled(toy(), 1e-8)
    lam = torch.linalg.eigvalsh(objective.hessian(objective.w0).dense()).flip(0)
    eps = (1e-3, 1e-2, 0.1)
    one = split(objective, objective.w0, eps=eps)
    two = split(small, small.w0, eps=tuple(1e-8 * e for e in eps))
    for i, e in enumerate(eps):
        above = lam[lam > e]
        assert float(one.kappa_absolute[i]) == pytest.approx(float(lam[0] / above[-1]), rel=1e-9)
        assert float(one.dimension_absolute[i]) == len(above)
    for name in one.data_vars:
        factor = 1e-8 if name in ("largest_eigenvalue", "eigenvalue_error") else 1.0
        tolerance = 10.0 if name == "eigenvalue_error" else 1e-7  # rounding is not the same at another scale
        assert np.allclose(two[name], factor * one[name], rtol=tolerance, atol=0, equal_nan=True), name


def test_relative_kappa_is_one_over_eps_on_a_continuous_spectrum():
    objective, _, _ = quadratic(torch.logspace(2, -5, 300, dtype=torch.float64))
    ds = split(objective, objective.w0)
    assert ds.kappa_relative.values * ds.eps_relative.values == pytest.approx(np.ones(4), abs=0.06)
    assert (ds.gap_relative < 1.06).all()


def test_a_threshold_on_an_eigenvalue_is_not_called_converged():
    objective, _, _ = quadratic(torch.tensor([4.0, 2.0, 1.0]))
    ds = split(objective, objective.w0, eps=(0.5, 2.0), eps_relative=(0.3, 0.5))
    assert ds.converged_absolute.values.tolist() == [True, False]
    assert ds.converged_relative.values.tolist() == [True, False]


def test_a_hessian_without_positive_eigenvalue_has_no_valley():
    objective, _, _ = quadratic(torch.tensor([-1.0, -2.0]))
    ds = split(objective, objective.w0, eps=(0.1,), eps_relative=(0.1,))
    assert ds.dimension_relative.values.tolist() == [0]
    assert np.isnan(ds.kappa_relative.values).all()
    assert np.isnan(ds.kappa_absolute.values).all()


def test_a_hessian_too_large_gives_nan_and_says_so(monkeypatch):
    monkeypatch.setitem(split.__globals__, "fits", lambda size: False)
    objective, _, _ = quadratic(torch.ones(3))
    ds = split(objective, objective.w0)
    assert not bool(ds.exact)
    assert int(ds.n_products) == 0
    assert np.isnan(ds.kappa_absolute).all()
    assert np.isnan(ds.dimension_relative).all()
    assert not ds.converged_absolute.any()


@pytest.mark.parametrize(
    "settings", [{"eps": ()}, {"eps": (1.0, 0.1)}, {"eps": (0.0,)}, {"eps_relative": (0.5, 1.0)}, {"eps": (math.nan,)}]
)
def test_wrong_thresholds_are_explained(settings):
    objective, _, _ = quadratic(torch.ones(3))
    with pytest.raises(LandscapeError, match="thresholds in ascending order"):
        split(objective, objective.w0, **settings)
