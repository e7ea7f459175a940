"""Losses along a line and a curve of functions that are known, and the barriers on them."""

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial
from scipy import optimize
from support.oracles import function_objective, quadratic

from landscape import LandscapeError
from landscape.connections.barrier import barrier
from landscape.connections.bezier import Bezier, bernstein
from landscape.connections.curve import CurveSettings
from landscape.connections.paths import connect_points

A, B = torch.tensor([-1.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
TILT = 0.05
EXACT = CurveSettings(tol=1e-10, nodes=6)  # Gauss-Legendre is exact up to degree 11; along the curve f has degree 8


def double_well(w):
    """Minima at (-1, 0) and (1, 0), joined by a valley in the shape of a ring; f = 1 half-way between them."""
    return ((w**2).sum(1) - 1) ** 2 + TILT * w[:, 1] ** 2


def well(f=double_well, **settings):
    return function_objective(f, torch.zeros(2, dtype=torch.float64), **settings)


def best_arch():
    """|c| of the bend (0, c) with the smallest mean loss, that mean and the barrier: by polynomials in c and t."""
    t = Polynomial([0, 1])
    x, y = 2 * t - 1, 2 * t * (1 - t)  # the curve is (x, c y)
    # f = (x^2 - 1)^2 + c^2 [2 y^2 (x^2 - 1) + TILT y^2] + c^4 y^4
    parts = [(x**2 - 1) ** 2, 2 * y**2 * (x**2 - 1) + TILT * y**2, y**4]
    means = [p.integ()(1) - p.integ()(0) for p in parts]
    square = -means[1] / (2 * means[2])
    along = parts[0] + square * parts[1] + square**2 * parts[2]
    inside = [r.real for r in along.deriv().roots() if abs(r.imag) < 1e-9 and 0 <= r.real <= 1]
    return square**0.5, means[0] + square * means[1] + square**2 * means[2], max(along(r) for r in inside)


def test_barriers_between_the_minima_of_a_double_well():
    c, mean, height = best_arch()
    ds = connect_points(well(), A, B, seed=0, points=20, curve=EXACT, keep_bends=True)  # no point at t = 1/2
    line, curve = (ds.sel(alignment="none", path=p, objective="loss") for p in ("line", "curve"))
    assert line.barrier.item() == pytest.approx(1.0, abs=1e-9)
    assert line.barrier_t.item() == pytest.approx(0.5, abs=1e-5)
    assert line.barrier_gain.item() == pytest.approx(1 - line.loss.max().item(), abs=1e-9)
    assert line.length.item() == 2.0
    assert curve.barrier.item() == pytest.approx(height, abs=1e-6)
    assert curve.rise.item() == pytest.approx(height, abs=1e-6)
    assert curve.curve_mean.item() == pytest.approx(mean, abs=1e-9)
    np.testing.assert_allclose(np.abs(curve.bend_vector.values), [[0, c]], atol=1e-6)
    assert curve.curve_converged.item()


def test_two_bends_agree_with_another_minimiser():
    def f(w):
        return double_well(w) + 0.2 * w[:, 0] * w[:, 1] + 0.1 * w[:, 0] ** 3

    settings = CurveSettings(bends=2, tol=1e-9, nodes=8)
    ds = connect_points(well(f), A, B, seed=1, points=31, curve=settings, keep_bends=True)
    t, q = settings.quadrature
    weights = bernstein(t, 2)

    def mean(flat):
        points = weights @ np.vstack([A, flat.reshape(2, 2), B])
        return float(q @ f(torch.from_numpy(points)).numpy())

    start = ds.bend_vector.values.ravel()
    other = optimize.minimize(mean, start + 0.01, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-14})
    assert ds.curve_mean.item() == pytest.approx(other.fun, abs=1e-8)
    np.testing.assert_allclose(start, other.x, atol=1e-4)
    # The barrier by brute force on the same curve.
    fine = np.linspace(0, 1, 200_001)
    losses = f(torch.from_numpy(bernstein(fine, 2) @ np.vstack([A, start.reshape(2, 2), B]))).numpy()
    over = losses - (losses[0] * (1 - fine) + losses[-1] * fine)
    assert ds.barrier.sel(path="curve").item() == pytest.approx(over.max(), abs=1e-8)
    assert ds.barrier.sel(path="curve").item() >= over.max() - 1e-12


def test_a_loss_in_other_units_has_the_barrier_in_these_units():
    plain = connect_points(well(), A, B, seed=0, points=9, curve=EXACT)
    small = connect_points(well(lambda w: 1e-8 * double_well(w)), A, B, seed=0, points=9, curve=EXACT)
    np.testing.assert_allclose(small.barrier, 1e-8 * plain.barrier, rtol=1e-7)
    assert small.curve_converged.item()
    raised = connect_points(well(lambda w: double_well(w) + 3), A, B, seed=0, points=9, curve=EXACT)
    np.testing.assert_allclose(raised.barrier, plain.barrier, atol=1e-6)
    np.testing.assert_allclose(raised["mean"], plain["mean"] + 3, atol=1e-6)


def test_ends_of_different_losses():
    """The barrier is over the line between the losses, the rise over the higher one; a path below has neither."""
    sloped = connect_points(well(lambda w: double_well(w) + w[:, 0]), A, B, seed=0, points=41)
    line = sloped.sel(path="line")
    assert line.barrier.item() == pytest.approx(1.0, abs=1e-9)
    u = optimize.minimize_scalar(
        lambda u: -((u * u - 1) ** 2 + u), bounds=(-1, 1), method="bounded", options={"xatol": 1e-10}
    )
    assert line.rise.item() == pytest.approx(-u.fun - 1, abs=1e-9)
    bowl = connect_points(well(lambda w: (w**2).sum(1)), A, B, seed=0, points=9)
    assert bowl.barrier.sel(path="line").item() == 0.0
    assert bowl.rise.sel(path="line").item() == 0.0


def test_a_place_without_a_value_leaves_no_barrier():
    def hole(value):
        return lambda w: torch.where(w.norm(dim=1) < 0.28, torch.full_like(w[:, 0], value), double_well(w))

    ds = connect_points(well(hole(torch.nan)), A, B, seed=0, points=21)
    line, curve = ds.sel(path="line"), ds.sel(path="curve")
    assert np.isnan(line.loss.values).sum() == 5
    assert np.isnan(line.barrier).all()
    assert np.isnan(line.barrier_t).all()
    assert curve.curve_reason.item() == "not finite"  # the first curve is beside the line
    assert not curve.curve_converged.item()
    ds = connect_points(well(hole(torch.inf)), A, B, seed=0, points=21)
    assert np.isposinf(ds.barrier.sel(path="line")).all()
    # A narrower hole is passed by a curve that begins beside it, whose steps into it are too far.
    narrow = well(lambda w: torch.where(w.norm(dim=1) < 1e-3, torch.full_like(w[:, 0], torch.nan), double_well(w)))
    ds = connect_points(narrow, A, B, seed=0, points=20, curve=EXACT)
    assert ds.curve_converged.item()
    assert ds.barrier.sel(path="curve").item() == pytest.approx(best_arch()[2], abs=1e-6)


def test_a_point_and_itself_have_no_path_between():
    ds = connect_points(well(), B, B, seed=0, points=5)
    assert ds.curve_reason.item() == "no distance"
    assert (ds.length == 0).all()
    assert (ds.barrier == 0).all()
    assert (ds.loss == 0).all()


def test_every_loss_has_its_own_curve_and_line_shared():
    other = well(lambda w: 2 * double_well(w) + (w[:, 1] - 1) ** 2)
    few = CurveSettings(iterations=5, nodes=4)
    ds = connect_points({"one": well(), "two": other}, A, B, seed=0, points=7, curve=few, keep_bends=True)
    np.testing.assert_allclose(
        ds.loss.sel(path="line", objective="two"), 2 * ds.loss.sel(path="line", objective="one") + 1
    )
    alone = connect_points(other, A, B, seed=0, points=7, curve=few, keep_bends=True)
    np.testing.assert_array_equal(alone.bend_vector[0, 0], ds.bend_vector.sel(alignment="none", objective="two"))
    assert not np.allclose(ds.bend_vector[0, 0], ds.bend_vector[0, 1])


def test_a_reordered_end_is_measured_beside_the_plain_one():
    """f = (w1 - w2)^2 is the same for both orders of w."""
    objective = well(lambda w: (w[:, 0] - w[:, 1]) ** 2)
    a, b = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    ds = connect_points(objective, a, b, seed=0, order=torch.tensor([1, 0]), moved=1.0, points=5, keep_bends=True)
    assert ds.distance.values.tolist() == [2**0.5, 0.0]
    np.testing.assert_allclose(ds.loss.sel(path="line", objective="loss"), [[1, 0.25, 0, 0.25, 1], [1] * 5], atol=1e-15)
    assert ds.order.values.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": torch.tensor([1, 1])}, "each once"),
        ({"points": 2}, "at least 3 points"),
        ({"objectives": {}}, "found 0 losses"),
        ({"objectives": {"a": well(), "b": quadratic(torch.ones(3))[0]}}, "different layouts"),
    ],
)
def test_what_has_no_path_is_refused(change, message):
    with pytest.raises(LandscapeError, match=message):
        connect_points(change.pop("objectives", well()), A, B, seed=0, **change)


@pytest.mark.parametrize("bad", [{"bends": 0}, {"nodes": 1}, {"iterations": -1}, {"tol": -1.0}, {"tol": np.nan}])
def test_settings_of_no_curve_are_refused(bad):
    with pytest.raises(LandscapeError, match=next(iter(bad))):
        CurveSettings(**bad)


def test_a_bezier_curve_is_where_and_as_long_as_it_should_be():
    g = torch.Generator().manual_seed(3)
    a, b, bends = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((5,), (5,), (3, 5)))
    path, fine = Bezier(a, b, bends), np.linspace(0, 1, 4001)
    points = torch.stack([path.at(t) for t in fine[::1000]])
    expected = bernstein(fine, 3) @ torch.cat([a[None], bends, b[None]]).numpy()
    np.testing.assert_allclose(points, expected[::1000], atol=1e-14)
    assert path.length == pytest.approx(np.linalg.norm(np.diff(expected, axis=0), axis=1).sum(), rel=1e-6)
    np.testing.assert_allclose(bernstein(fine, 3).sum(1), 1)
    assert Bezier.line(a, b).length == pytest.approx(float((b - a).norm()))


def test_the_highest_place_is_found_where_the_grid_shows_another():
    """Two humps; that of the higher point of the grid is the lower one."""
    t = np.linspace(0, 1, 11)

    def f(x):
        return np.exp(-(((x - 0.3) / 0.06) ** 2)) + 1.2 * np.exp(-(((x - 0.75) / 0.06) ** 2))

    assert f(t).argmax() == 3
    across, above = barrier(f, t, f(t))
    assert across.t == pytest.approx(0.75, abs=1e-4)
    assert across.height == pytest.approx(f(0.75) - f(0) * 0.25 - f(1) * 0.75, abs=1e-6)
    assert above.height == pytest.approx(f(0.75) - max(f(0), f(1)), abs=1e-6)


def test_a_value_between_the_grid_that_is_not_finite_is_told():
    t = np.linspace(0, 1, 4)
    across, _ = barrier(lambda x: np.nan if 0.34 < x < 0.66 else 4 * x * (1 - x), t, 4 * t * (1 - t))
    assert np.isnan(across.height)
