"""`floor_search`, `crossing_search`, `exponent`, `drive` on curves whose floor and widths are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracles_linalg as known
from support.oracles_linalg import Curve, crossings, find_floor

from landscape.errors import LandscapeError
from landscape.probes.linalg import crossing_search, drive, exponent, floor_search, solve
from landscape.probes.linalg.search.driver import Ask, inverse_quadratic, sign_change

RISES = np.geomspace(1e-4, 1.0, 9)


def both_sides(line, floor, *, rises=RISES, limit=100.0):
    return {s: crossings(line, t0=floor.t0, f0=floor.value, side=s, rises=rises, limit=limit) for s in (-1, 1)}


@pytest.mark.parametrize("height", [0.0, 1.0])
@pytest.mark.parametrize("at", [0.0, 0.3, -7.0, 1e-4])
@pytest.mark.parametrize("curvature", [1e-2, 1.0, 1e6])
def test_width_of_a_parabola(height, at, curvature):
    line = known.power(2, at=at, a=curvature / 2, floor=height)
    floor = find_floor(line, limit=100.0)
    assert floor.converged
    assert not floor.censored
    assert floor.t0 == pytest.approx(at, rel=1e-14, abs=1e-14)
    assert floor.drop == pytest.approx(curvature / 2 * at**2, rel=1e-9, abs=1e-12)
    for found in both_sides(line, floor).values():
        assert found.converged.all()
        exact = np.sqrt(2 * RISES / curvature)
        np.testing.assert_allclose(found.half_width, exact, rtol=1e-9 if height == 0 else 4e-12 / 1e-4 + 1e-9)
        assert (np.abs(found.half_width / exact - 1) <= found.relative_error).all()
        p, error = exponent(found.half_width, RISES, found.censored)
        assert p == pytest.approx(2.0, abs=1e-6)
        assert error < 1e-6


@pytest.mark.parametrize("p", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("at", [0.0, 0.7])
def test_exponents_of_powers(p, at):
    line = known.power(p, at=at, a=3.0)
    floor = find_floor(line, limit=5.0)
    assert floor.converged
    # a x^4 floor has no curvature: its place is known from the slope to the tolerance, not better
    assert floor.t0 == pytest.approx(at, abs=1e-8)
    for found in both_sides(line, floor, limit=5.0).values():
        np.testing.assert_allclose(found.half_width, known.half_width(p, 3.0, RISES), rtol=1e-5)
        assert exponent(found.half_width, RISES, found.censored)[0] == pytest.approx(p, abs=1e-5)


def test_sides_are_not_mixed_up():
    line = Curve(
        lambda t: np.where(t < 0.25, (t - 0.25) ** 2, np.abs(t - 0.25)),
        lambda t: np.where(t < 0.25, 2 * (t - 0.25), 1.0),
    )
    floor = find_floor(line, limit=10.0)
    assert floor.converged
    found = both_sides(line, floor, limit=10.0)
    np.testing.assert_allclose(found[-1].half_width, np.sqrt(RISES), rtol=1e-6)
    np.testing.assert_allclose(found[1].half_width, RISES, rtol=1e-5)
    assert exponent(found[-1].half_width, RISES, found[-1].censored)[0] == pytest.approx(2, abs=1e-5)
    assert exponent(found[1].half_width, RISES, found[1].censored)[0] == pytest.approx(1, abs=1e-5)


def test_a_floor_that_is_not_reached_is_censored():
    line = Curve(lambda t: 5.0 - t, lambda t: -np.ones_like(t))
    floor = find_floor(line, limit=3.0)
    assert (floor.t0, floor.value, floor.drop) == (3.0, 2.0, 3.0)
    assert floor.censored
    assert not floor.converged
    other = find_floor(Curve(lambda t: 5.0 + t, lambda t: np.ones_like(t)), limit=3.0)
    assert (other.t0, other.censored) == (-3.0, True)
    at_wall = crossings(line, t0=3.0, f0=2.0, side=1, rises=RISES, limit=3.0)
    assert at_wall.censored.all()
    assert (at_wall.half_width == 0).all()


def test_a_rise_that_is_not_reached_is_censored_at_the_distance_searched():
    line = known.power(2, at=1.0)
    for side, distance in ((1, 2.0), (-1, 4.0)):
        found = crossings(line, t0=1.0, f0=0.0, side=side, rises=np.array([1.0, 4.0001, 25.0]), limit=3.0)
        assert found.censored.tolist() == [False, side == 1, True]
        assert found.half_width[2] == distance
        assert not found.converged[found.censored].any()
        assert found.half_width[0] == pytest.approx(1.0, rel=1e-9)
    assert found.half_width[1] == pytest.approx(math.sqrt(4.0001), rel=1e-9)


def test_floor_of_its_own_basin():
    line = known.double_well()
    for scale in (1.0, 1e-8):
        floor = find_floor(known.double_well(scale), limit=3.0)  # slope at 0 is > 0: downhill is left
        assert floor.converged
        assert floor.t0 == pytest.approx(-1.0123, abs=1e-3)
    shifted = Curve(lambda t: line._f(t + 0.5), lambda t: line._df(t + 0.5))  # starts right of the barrier
    floor = find_floor(shifted, limit=3.0)
    assert floor.t0 == pytest.approx(known.double_well_minimum() - 0.5, abs=1e-10)
    # the barrier is lower than this rise: only outside is it reached
    found = crossings(shifted, t0=floor.t0, f0=floor.value, side=-1, rises=np.array([0.5]), limit=3.0)
    assert float(shifted.value(floor.t0 - found.half_width[0])) == pytest.approx(floor.value + 0.5, rel=1e-9)


def test_values_catch_a_rise_between_two_descending_slopes():
    # Falls to 1, jumps up by 1 at once, falls again: the doubling walk sees only negative slopes.
    line = Curve(
        lambda t: np.where(t < 1.0, (t - 0.9) ** 2, 3.0 - t / 100),
        lambda t: np.where(t < 1.0, 2 * (t - 0.9), -0.01),
    )
    floor = find_floor(line, limit=64.0, step=0.75)
    assert floor.t0 == pytest.approx(0.9, abs=1e-9)
    assert floor.converged
    cliff = Curve(lambda t: np.where(t < 1.0, -t, 3.0 - t), lambda t: -np.ones_like(t))
    floor = find_floor(cliff, limit=64.0, step=0.75)
    assert floor.t0 == pytest.approx(1.0, abs=1e-9)
    assert not floor.converged


@pytest.mark.parametrize("factor", [1e-8, 1e-200, 1e100])
def test_scales(factor):
    one, other = known.power(2, at=0.3, a=2.0, floor=1.0), known.power(2, at=0.3, a=2.0 * factor, floor=factor)
    a, b = find_floor(one, limit=10.0), find_floor(other, limit=10.0)
    assert b.t0 == pytest.approx(a.t0, rel=1e-14)
    assert b.n_evaluations == a.n_evaluations
    rises = np.array([1e-3, 1e-2])
    x, y = (crossings(f, t0=0.3, f0=v, side=1, rises=rises * v, limit=10.0) for f, v in ((one, 1.0), (other, factor)))
    np.testing.assert_allclose(y.half_width, x.half_width, rtol=1e-11)
    assert x.n_evaluations == y.n_evaluations
    stretched = find_floor(known.power(2, at=0.3 * factor, a=2.0, floor=0.0), limit=10.0 * factor)
    assert stretched.t0 == pytest.approx(0.3 * factor, rel=1e-12)


def test_tiny_curvature_and_a_stationary_start():
    line = known.power(2, at=0.5, a=1e-12, floor=1.0)  # the whole drop is 2.5e-13, invisible to values
    floor = find_floor(line, limit=10.0)
    assert floor.t0 == pytest.approx(0.5, rel=1e-9)
    assert floor.converged
    flat = find_floor(known.power(2, at=0.5, a=1e-20, floor=1.0), limit=10.0)  # nothing to see in the whole bracket
    assert (flat.t0, flat.drop) == (0.0, 0.0)
    assert find_floor(known.power(2), limit=1.0).converged
    assert find_floor(known.power(2), limit=1.0).t0 == 0.0
    ridge = find_floor(known.power(2, a=-1.0), limit=1.0)
    assert (ridge.t0, ridge.drop, ridge.censored, ridge.converged) == (1.0, 1.0, True, False)
    level = find_floor(known.power(2, a=-1e-20, floor=1.0), limit=1.0)
    assert (level.t0, level.censored, level.converged) == (0.0, False, False)
    saddle = Curve(lambda t: (t**2 - 1) ** 2 + 0.1 * t**3, lambda t: 4 * t * (t**2 - 1) + 0.3 * t**2)
    floor = find_floor(saddle, limit=3.0)
    assert floor.converged
    assert floor.t0 == pytest.approx(-(0.3 + math.sqrt(0.09 + 64)) / 8, rel=1e-9)


def test_rises_below_the_rounding_of_the_values_are_not_called_converged():
    line = known.power(2, floor=1e6)
    found = crossings(line, t0=0.0, f0=1e6, side=1, rises=np.array([1e-9, 1e-2]), limit=1.0)
    assert found.converged.tolist() == [False, True]
    single = crossings(
        known.power(2, floor=1.0), t0=0.0, f0=1.0, side=1, rises=np.array([1e-5, 0.1]), limit=1.0, rounding=1.2e-7
    )
    assert single.converged.tolist() == [False, True]


def test_nan_stays_nan_and_infinity_is_a_wall():
    hole = Curve(lambda t: np.where(np.abs(t) < 0.5, t * t, np.nan), lambda t: 2 * t)
    found = crossings(hole, t0=0.0, f0=0.0, side=1, rises=np.array([0.01, 0.3]), limit=2.0)
    assert found.half_width[0] == pytest.approx(0.1, rel=1e-9)
    assert math.isnan(found.half_width[1])
    assert found.converged.tolist() == [True, False]
    assert not found.censored.any()
    wall = Curve(lambda t: np.where(np.abs(t) < 0.5, t * t, np.inf), lambda t: 2 * t)
    found = crossings(wall, t0=0.0, f0=0.0, side=1, rises=np.array([0.01, 0.3]), limit=2.0)
    assert found.half_width.tolist() == pytest.approx([0.1, 0.5], rel=1e-8)
    lost = find_floor(Curve(lambda t: np.where(t < 0.5, -t, np.nan), lambda t: -np.ones_like(t)), limit=2.0)
    assert math.isnan(lost.t0)
    assert not lost.converged
    assert not lost.censored
    assert math.isnan(find_floor(Curve(lambda t: t * np.nan, lambda t: t), limit=2.0).value)
    gap = Curve(lambda t: np.where((t > 0.3) & (t < 0.4), np.nan, t * t), lambda t: 2 * t)  # unseen by the scan
    found = crossings(gap, t0=0.0, f0=0.0, side=1, rises=np.array([0.35**2]), limit=2.0)
    assert math.isnan(found.half_width[0])
    assert not found.converged[0]
    blind = Curve(lambda t: (t - 0.3) ** 2, lambda t: np.where(np.abs(t - 0.3) < 0.01, np.nan, 2 * (t - 0.3)))
    assert not find_floor(blind, limit=2.0).converged
    tube = Curve(
        lambda t: np.where(t < 0.5, (t - 0.3) ** 2, np.inf), lambda t: np.where(t < 0.5, 2 * (t - 0.3), np.nan)
    )
    assert find_floor(tube, limit=2.0).t0 == pytest.approx(0.3, abs=1e-12)


def test_a_sign_change_of_the_slope_that_is_no_minimum():
    # Down to -0.5, then a step up by 1.5, then up: the slope changes sign at a place where f is not lowest.
    step = Curve(lambda t: np.where(t < 0.5, -t, 1.0 + t), lambda t: np.where(t < 0.5, -1.0, 1.0))
    floor = find_floor(step, limit=4.0)
    assert floor.value < -0.49 or not floor.converged


def test_few_evaluations():
    line = known.power(2, at=0.3, a=2.0, floor=1.0)
    floor = find_floor(line, limit=10.0)
    assert floor.n_evaluations == line.calls <= 45
    line.calls = 0
    found = crossings(line, t0=floor.t0, f0=floor.value, side=1, rises=RISES, limit=10.0)
    assert found.n_evaluations == line.calls <= 16 + 3 * RISES.size
    line.calls = 0
    newton = find_floor(line, limit=10.0, step=0.75 * 0.3)
    assert newton.n_evaluations == line.calls <= 12
    assert newton.t0 == pytest.approx(0.3, rel=1e-12)
    line.calls = 0
    guess = math.sqrt(RISES[0] / 2)
    found = crossings(line, t0=0.3, f0=1.0, side=1, rises=RISES, limit=10.0, tol=1e-6, guess=guess)
    assert found.n_evaluations == line.calls <= 5 + 3 * RISES.size
    line.calls = 0
    (told,) = drive(
        [floor_search(limit=10.0, step=0.225, start=(1.18, -1.2))],
        lambda kind, _, t: line.values(t) if kind == "value" else np.array([line.slope(x) for x in t]),
    )
    assert told.n_evaluations == line.calls == newton.n_evaluations - 2
    assert told.t0 == pytest.approx(0.3, rel=1e-12)


# -- many lines at once ---------------------------------------------------------------------------------------------

CURVES = [
    known.power(2, at=0.3, a=2.0, floor=1.0),
    known.power(1, at=-0.7, a=3.0),
    known.power(4, at=0.1),
    known.double_well(),
    Curve(np.cos, lambda t: -np.sin(t)),
    Curve(lambda t: np.exp(t) - 2 * t, lambda t: np.exp(t) - 2),
    Curve(lambda t: 5.0 - t, lambda t: -np.ones_like(t)),
]


def measured(curves, calls=None):
    """Floors and half-widths on both sides of all curves, driven together."""

    def evaluate(index, kind, t):
        if calls is not None:
            calls.append((kind, len(t)))
        line = [curves[i] for i in index]
        return np.array([float(c._f(x) if kind == "value" else c._df(x)) for c, x in zip(line, t, strict=True)])

    floors = drive([floor_search(limit=3.0) for _ in curves], lambda kind, i, t: evaluate(i, kind, t))
    sides = [(i, side) for i in range(len(curves)) for side in (-1, 1)]
    searches = [
        crossing_search(t0=floors[i].t0, f0=floors[i].value, side=side, rises=RISES, limit=3.0) for i, side in sides
    ]
    line = np.array([i for i, _ in sides])
    return floors, drive(searches, lambda kind, i, t: evaluate(line[i], kind, t))


def test_a_search_does_not_depend_on_its_company():
    calls = []
    floors, walls = measured(CURVES, calls)
    for i, curve in enumerate(CURVES):
        (floor,), pair = measured([curve])
        assert floor == floors[i]
        assert floor == find_floor(curve, limit=3.0)
        for alone, among in zip(pair, walls[2 * i : 2 * i + 2], strict=True):
            for name in ("half_width", "censored", "converged", "relative_error"):
                assert np.array_equal(getattr(alone, name), getattr(among, name), equal_nan=True)
            assert alone.n_evaluations == among.n_evaluations
    total = sum(f.n_evaluations for f in floors) + sum(w.n_evaluations for w in walls)
    assert sum(n for _, n in calls) == total
    assert len(calls) < total / 4


def test_a_batch_is_never_larger_than_asked():
    sizes = []

    def evaluate(kind, index, t):
        sizes.append(len(t))
        return t + 10.0 * index

    def ask(points):
        first = yield Ask("value", points)
        second = yield Ask("slope", points[:1])
        return [*first.tolist(), *second.tolist()]

    expected = [[1.0, 2.0, 3.0, 1.0], [14.0, 14.0], [21.0, 22.0, 21.0]]
    assert drive([ask((1.0, 2.0, 3.0)), ask((4.0,)), ask((1.0, 2.0))], evaluate, batch=4) == expected
    assert sizes == [4, 2, 3]
    assert drive([], evaluate) == []
    with pytest.raises(LandscapeError, match="batch >= 1"):
        drive([], evaluate, batch=0)
    with pytest.raises(LandscapeError, match="expected 2 numbers"):
        drive([ask((1.0, 2.0))], lambda kind, index, t: t[:1])


@settings(deadline=None, max_examples=60)
@given(guess=st.floats(-7, 7), p=st.floats(1.0, 4.0), side=st.sampled_from([-1, 1]))
def test_a_guess_changes_no_width(guess, p, side):
    line = known.power(p, at=0.2, a=3.0)
    exact = known.half_width(p, 3.0, RISES)
    found = crossings(
        line, t0=0.2, f0=0.0, side=side, rises=RISES, limit=5.0, tol=1e-6, guess=exact[0] * math.exp(guess)
    )
    np.testing.assert_allclose(found.half_width, exact, rtol=1e-6)
    assert found.converged.all()


def test_walls_that_bend_are_found_to_the_tolerance():
    """A shoulder, a kink and a jump: nothing that a power law would predict."""
    shoulder = Curve(lambda t: t**2 + 0.5 * np.tanh(4 * (t - 1) ** 3) + 0.5 * np.tanh(4), None)
    kink = Curve(lambda t: np.maximum(0.01 * t**2, 50 * (t - 1)), None)
    jump = Curve(lambda t: np.where(t < 0.5, t**2, 3 + t), None)
    rises = np.array([0.1, 0.25, 0.5, 1.0, 2.0])
    for line in (shoulder, kink, jump):
        for guess in (None, 1e-3, 0.1, 2.0):
            found = crossings(line, t0=0.0, f0=float(line._f(0.0)), side=1, rises=rises, limit=9.0, guess=guess)
            assert found.n_evaluations < 30 * len(rises)
            for s, rise in zip(found.half_width, rises, strict=True):
                below, above = (float(line._f(s * x) - line._f(0.0)) for x in (1 - 1e-8, 1 + 1e-8))
                assert below <= rise <= above


@pytest.mark.parametrize(
    ("function", "low", "high", "exact"),
    [
        (lambda x: math.cos(x) - x, 0.0, 1.0, 0.7390851332151607),
        (lambda x: (x - 0.3) ** 3, -5.0, 1.0, 0.3),
        (lambda x: 1.0 if x > 0.7 else -1e-9, 0.0, 8.0, 0.7),
        (lambda x: math.expm1(40 * (x - 0.4)), 0.0, 1.0, 0.4),
        (lambda x: 3 * (0.2 - x), 1.0, -1.0, 0.2),
    ],
)
def test_root_of_a_sign_change(function, low, high, exact):
    asked = []

    def search():
        steps = sign_change(low, function(low), high, function(high), tol=1e-10)
        x = next(steps)
        while True:
            asked.append(x)
            try:
                x = steps.send(function(x))
            except StopIteration as stop:
                return stop.value

    assert search() == pytest.approx(exact, abs=1.1e-10)
    assert min(low, high) < min(asked) <= max(asked) < max(low, high)
    assert len(asked) <= 60


def test_inverse_quadratic_interpolation_is_exact_for_its_parabola():
    points = [(3 + 2 * y - 0.7 * y * y, y) for y in (-1.0, 0.5, 2.0)]
    assert inverse_quadratic(points) == pytest.approx(3.0, rel=1e-14)
    assert math.isnan(inverse_quadratic([(1.0, 1.0), (2.0, 1.0), (3.0, 2.0)]))
    assert math.isnan(inverse_quadratic([(1.0, 1.0), (2.0, math.inf), (3.0, 2.0)]))


def test_exponent_needs_points():
    none = np.zeros(3, dtype=bool)
    w, r = np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])
    assert exponent(w, r, none)[0] == pytest.approx(2.0)
    p, error = exponent(w, r, np.array([False, False, True]))
    assert p == pytest.approx(2.0)
    assert math.isnan(error)
    assert all(math.isnan(x) for x in exponent(w, r, np.array([False, True, True])))
    assert math.isnan(exponent(np.array([1.0, np.nan, 1.0]), r, none)[0])
    noisy = np.exp(np.array([0.0, 1.0, 2.0, 3.0]))
    p, error = exponent(noisy, np.exp(2 * np.log(noisy) + np.array([0.1, -0.1, -0.1, 0.1])), np.zeros(4, dtype=bool))
    assert p == pytest.approx(2.0)
    assert error == pytest.approx(math.sqrt(0.04 / 2 / 5.0))
    with pytest.raises(LandscapeError, match="one shape"):
        exponent(w, r[:2], none)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"side": 0},
        {"rises": np.array([2.0, 1.0])},
        {"rises": np.array([0.0])},
        {"t0": 3.0},
        {"f0": math.nan},
        {"limit": math.inf},
        {"rises": np.array([1.0, 1.0])},
        {"tol": 0.0},
        {"guess": 0.0},
        {"guess": math.nan},
    ],
)
def test_crossings_refuse_bad_input(kwargs):
    good = {"t0": 0.0, "f0": 0.0, "side": 1, "rises": np.array([1.0]), "limit": 2.0}
    with pytest.raises(LandscapeError, match="expected"):
        crossings(known.power(2), **{**good, **kwargs})


@pytest.mark.parametrize("kwargs", [{"limit": 0.0}, {"limit": 1.0, "step": 0.0}, {"limit": math.inf}])
def test_floor_refuses_bad_input(kwargs):
    with pytest.raises(LandscapeError, match="positive limit"):
        find_floor(known.power(2), **kwargs)


@settings(deadline=None, max_examples=150)
@given(
    p=st.floats(1.0, 4.0),
    at=st.floats(-5, 5),
    a=st.floats(1e-6, 1e6),
    height=st.floats(-10, 10),
    side=st.sampled_from([-1, 1]),
)
def test_any_power(p, at, a, height, side):
    line = known.power(p, at=at, a=a, floor=height)
    found = crossings(line, t0=at, f0=height, side=side, rises=RISES, limit=20.0)
    exact = known.half_width(p, a, RISES)
    span = 20.0 - side * at
    reached = exact < span * (1 - 1e-9)
    assert (found.censored == ~reached).all() or np.isclose(exact, span, rtol=1e-6).any()
    good = found.converged
    assert (np.abs(found.half_width[good] / exact[good] - 1) <= found.relative_error[good] * 1.01).all()


@pytest.mark.parametrize("at", [1e-2, -3e-2])
def test_rounding_of_the_function_hides_no_floor(at):
    """Values as float32 gives them: they rise and fall by rounding where the exact ones fall."""

    def rounded(t):
        noise = 2.0**-23 * np.sin(1e7 * t)
        return (1.0 + (t - at) ** 2 * 1e-2) * (1 + noise)

    line = Curve(rounded, lambda t: 2e-2 * (t - at))
    floors = [
        solve(floor_search(limit=4.0, step=step, rounding=2.0**-23), line) for step in (1e-5, 1e-4, 3e-4, 1e-3, 7e-3)
    ]
    assert all(f.converged for f in floors)
    np.testing.assert_allclose([f.t0 for f in floors], at, rtol=1e-6)


def test_a_slope_below_the_rounding_given_counts_as_none():
    line = Curve(lambda t: 1.0 + 1e-9 * np.abs(t - 0.5), lambda t: 1e-9 * np.sign(t - 0.5))
    assert solve(floor_search(limit=1.0), line).t0 == pytest.approx(0.5)
    floor = solve(floor_search(limit=1.0, rounding=2.0**-23), line)
    assert (floor.t0, floor.converged) == (0.0, False)


@pytest.mark.parametrize("rounding", [0.0, -1.0, math.nan, 1.0])
def test_a_rounding_that_is_none_is_refused(rounding):
    with pytest.raises(LandscapeError, match="rounding"):
        solve(floor_search(limit=1.0, rounding=rounding), known.power(2))
