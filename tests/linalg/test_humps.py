"""Walls are the first crossing: functions of one variable with humps, against a dense scan of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.oracles import function_objective
from support.oracles_linalg import Curve, crossings, find_floor

from landscape.errors import LandscapeError
from landscape.probes import valley

ONLY = {"top": 1, "bottom": 0, "random": 0, "gradient": False}


@pytest.mark.parametrize("gap", [0.2, 0.5])
@pytest.mark.parametrize(
    ("height", "rises", "last"),
    [
        (0.064347, (0.1,), 0.30829),
        (0.0527876544, (0.1,), 0.38255),
        (0.0527876544, (1e-3, 1e-2, 0.1), 0.38255),
    ],
)
def test_a_hump_just_above_the_rise(height, rises, last, gap):
    objective = function_objective(lambda w: height * (1 - torch.cos(7 * w)).sum(1), torch.zeros(1))
    ds = valley(objective, torch.zeros(1), seed=0, **ONLY, rises=rises, limit=2.0, gap=gap)
    expected = np.arccos(1 - np.array(rises) / height) / 7
    assert expected[-1] == pytest.approx(last, abs=1e-5)
    np.testing.assert_allclose(ds.half_width.values[0], np.tile(expected, (2, 1)), rtol=1e-5)
    assert ds.converged.values.all()
    assert not ds.censored.values.any()
    assert (ds.resolution <= gap * ds.half_width * (1 + 1e-6)).all()


def bumps(rng, wave, height, centre, width):
    return lambda t: (
        0.1 * t * t + height * (np.exp(-0.5 * ((t - centre) / width) ** 2) - math.exp(-0.5 * (centre / width) ** 2))
    )


def kinks(rng, wave, height, centre, width):
    slope = rng.uniform(0.05, 1.0)
    return lambda t: np.maximum(slope * np.abs(t), height * (1 - 3 * np.abs(np.abs(t) - centre)))


def step(rng, wave, height, centre, width):
    edges = (centre, 1.0), (centre + 3 * width, -0.6)
    return lambda t: (
        0.02 * t * t + height * sum(h * (np.tanh((np.abs(t) - c) / width) + math.tanh(c / width)) for c, h in edges)
    )


def waves(rng, wave, height, centre, width):
    parts = rng.uniform([0.02, 1.0], [0.3, 25.0], (5, 2))
    return lambda t: sum(height * a * (1 - np.cos(f * t)) for a, f in parts)


FAMILIES = [
    lambda rng, wave, height, *_: lambda t: height * (1 - np.cos(wave * t)),
    lambda rng, wave, height, *_: lambda t: 0.1 * t * t + height * (1 - np.cos(wave * t)),
    lambda rng, wave, height, *_: lambda t: 0.05 * t * t + height * (1 - np.cos(wave * t * t)),
    lambda rng, wave, height, *_: (
        lambda t: 0.05 * t * t + height * sum((1 - np.cos(k * wave * t)) / k**2 for k in (1, 2, 3, 4))
    ),
    lambda rng, wave, height, centre, _: lambda t: height * t**2 * ((t - centre) ** 2 + 0.02) / centre**4,
    bumps,
    kinks,
    step,
    waves,
]


def first_crossing(f, side, rise, limit):
    """By a dense scan: the place, inf if there is none, and how far f stays above the rise from there."""
    s = np.linspace(0, limit, 200_001)
    above = f(side * s) - f(0.0) >= rise
    if not above.any():
        return math.inf, math.inf
    j = int(above.argmax())
    low, high = s[j - 1], s[j]
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if f(side * middle) - f(0.0) >= rise else (middle, high)
    below = np.flatnonzero(~above[j:])
    return high, float(s[j + below[0]] - high) if below.size else math.inf


def measured(case):
    """(right, refused, hidden, wrong) over the rises of one random function."""
    rng = np.random.default_rng([11, case])
    settings = rng.uniform(2, 40), 10 ** rng.uniform(-2, 0), rng.uniform(0.3, 2.5), 10 ** rng.uniform(-2, -0.3)
    f = FAMILIES[case % len(FAMILIES)](rng, *settings)
    side, limit = int(rng.choice([-1, 1])), float(rng.choice([1.0, 2.0, 4.0]))
    rises = np.sort(10 ** rng.uniform(-4, 0, rng.integers(1, 5)))
    guess = float(10 ** rng.uniform(-3, 0)) if rng.random() < 0.7 else None
    line = Curve(f, None)
    found = crossings(line, t0=0.0, f0=float(f(0.0)), side=side, rises=rises, limit=limit, tol=1e-6, guess=guess)
    assert found.n_evaluations == line.calls <= 256 + 60 * len(rises)
    counts = np.zeros(4, int)
    for s, censored, converged, resolution, rise in zip(
        found.half_width, found.censored, found.converged, found.resolution, rises, strict=True
    ):
        exact, length = first_crossing(f, side, rise, limit)
        right = exact == math.inf if censored else math.isclose(s, exact, rel_tol=1e-4, abs_tol=1e-9)
        counts[0 if right else 1 if not (censored or converged) else 2 if length <= resolution else 3] += 1
    return counts


@pytest.mark.slow
def test_the_first_crossing_of_random_functions():
    """None wrong; what a wall hides is narrower than the resolution it states, and rare."""
    right, refused, hidden, wrong = sum(measured(case) for case in range(270))
    assert wrong == 0
    assert hidden + refused <= 0.005 * right
    assert right > 600


def test_a_floor_lies_behind_no_barrier():
    """From any place of a random function: the first minimum downhill, by a dense scan of the way."""
    right = wrong = 0
    for case in range(270):
        rng = np.random.default_rng([12, case])
        settings = rng.uniform(2, 40), 10 ** rng.uniform(-2, 0), rng.uniform(0.3, 2.5), 10 ** rng.uniform(-2, -0.3)
        f, start = FAMILIES[case % len(FAMILIES)](rng, *settings), rng.uniform(-2, 2)
        line = Curve(
            lambda t, f=f, a=start: f(a + t), lambda t, f=f, a=start: (f(a + t + 1e-6) - f(a + t - 1e-6)) / 2e-6
        )
        limit, slope = float(rng.choice([1.0, 2.0, 4.0])), line.slope(0.0)
        line.calls = 0
        floor = find_floor(line, limit=limit, step=min(limit / 8, 3e-3 / abs(slope)))
        assert floor.n_evaluations == line.calls
        way = -math.copysign(1.0, slope) * np.linspace(0, limit, 200_001)
        up = np.diff(line._f(way)) > 1e-12
        exact = float(way[up.argmax()]) if up.any() else None
        at = floor.censored if exact is None else math.isclose(floor.t0, exact, rel_tol=1e-3, abs_tol=1e-4)
        right += at
        wrong += not at and (floor.converged or floor.censored)
    assert right > 260
    assert wrong <= 4


def test_a_hump_narrower_than_the_resolution_may_hide_and_no_other():
    """A needle above the rise on a wall: a gap longer than it is wide always has a point in it."""
    hidden = 0
    for place in np.linspace(0.05, 0.95, 37):
        line = Curve(lambda t, at=place: t**2 + 2.0 * (np.abs(t - at) < 0.01), None)
        for gap in (0.2, 0.019):
            found = crossings(
                line, t0=0.0, f0=0.0, side=1, rises=np.array([1.0]), limit=4.0, tol=1e-6, guess=1.0, gap=gap
            )
            s, resolution = found.half_width[0], found.resolution[0]
            seen = math.isclose(s, place - 0.01, rel_tol=1e-5)
            assert seen or (s == pytest.approx(1.0, rel=1e-5) and resolution > 0.02)
            assert seen or gap == 0.2
            hidden += not seen
    assert hidden > 0


def test_waves_too_many_to_look_into_are_not_called_converged():
    """Five hundred waves just below the rise: a suspicion in every gap, and an end to the points."""
    line = Curve(lambda t: np.minimum(t, 0.99) * (1 + 0.0101 * np.sin(3000 * t)), None)
    found = crossings(line, t0=0.0, f0=0.0, side=1, rises=np.array([1.0]), limit=4.0, tol=1e-6, guess=1.0)
    assert found.n_evaluations < 400
    assert not found.converged.any()


def test_walls_that_only_rise_cost_little():
    for p in (1.0, 1.5, 2.0, 3.0, 4.0):
        line = Curve(lambda t, p=p: np.abs(t) ** p, None)
        rises = np.geomspace(1e-4, 0.1, 7)
        found = crossings(
            line, t0=0.0, f0=0.0, side=1, rises=rises, limit=1.0, tol=1e-6, guess=1.3 * rises[0] ** (1 / p)
        )
        assert found.converged.all()
        assert found.n_evaluations == line.calls <= 6 * len(rises)
        assert found.lowest == 0.0


@pytest.mark.parametrize("gap", [0.0, 0.6, -1.0, math.nan])
def test_a_gap_that_is_none_is_refused(gap):
    objective = function_objective(lambda w: (w**2).sum(1), torch.zeros(1))
    with pytest.raises(LandscapeError, match=r"gap in \(0, 0\.5\]"):
        valley(objective, torch.zeros(1), seed=0, **ONLY, gap=gap)
    with pytest.raises(LandscapeError, match=r"gap in \(0, 0\.5\]"):
        crossings(Curve(np.square, None), t0=0.0, f0=0.0, side=1, rises=np.ones(1), limit=2.0, gap=gap)


@pytest.mark.parametrize("which", [{"top": 1}, {"random": 1}, {"gradient": True}])
def test_a_gradient_that_is_nan_is_named(which):
    """The root of 0 times itself: the loss is 0, its derivative 0 / 0."""
    objective = function_objective(lambda w: ((w**2).sum(1)).sqrt() * w.sum(1), torch.zeros(2))
    none = {"top": 0, "bottom": 0, "random": 0, "gradient": False}
    with pytest.raises(LandscapeError, match="expected a finite gradient, found NaN or infinity in 2 of 2 entries"):
        valley(objective, torch.zeros(2), seed=0, **{**none, **which})
