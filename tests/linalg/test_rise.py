"""Where a function rises above its start: parabolas, walls, holes and slopes whose answers are known."""

import math

import numpy as np
import pytest

from landscape import LandscapeError
from landscape.probes.linalg.search.rise import first_rise


def rise(f, **settings):
    return first_rise(f, **{"start": 0.1, "limit": 100.0, "tol": 1e-6, **settings})


@pytest.mark.parametrize("start", [1e-9, 0.03, 1.5, 3.0, 70.0, 1e9])
@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_a_parabola_rises_at_twice_the_way_to_its_lowest_point(start, scale):
    found = rise(lambda t: scale * (t - 1.5) ** 2, start=start)
    assert found.low <= 3.0 <= found.high
    assert found.high - found.low <= 1e-6 * found.high
    assert 0 < found.fall <= scale * 2.25 * (1 + 1e-12)
    assert abs((found.low + found.high) / 2 - 3) <= 3.001 * found.relative_error < 1e-5
    assert found.at_zero == scale * 2.25


def test_the_bracket_is_as_narrow_as_asked_for_and_costs_a_value_for_each_halving():
    counts = [rise(lambda t: (t - 1.5) ** 2, start=1.5, tol=2.0**-k).n_evaluations for k in (4, 8)]
    assert counts[1] - counts[0] == 4
    assert counts[0] <= 8  # five or six beside the value at 0 and at the start


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_what_is_no_number_is_a_rise_that_is_said(hole):
    found = rise(lambda t: hole if t > 2 else -t)
    assert found.low <= 2 < found.high
    assert not math.isfinite(found.at_high)
    assert found.relative_error < 1e-6


def test_a_function_that_never_rises_is_followed_to_the_limit():
    found = rise(lambda t: -t)
    assert (found.low, found.high, found.relative_error) == (100.0, math.inf, math.inf)
    assert found.fall == 100.0
    flat = rise(lambda _: 1.0)
    assert (flat.low, flat.high, flat.fall) == (100.0, math.inf, 0.0)


@pytest.mark.parametrize("f", [lambda t: 1 + t, lambda t: 1 + t**2, lambda t: math.nan if t else 1.0])
def test_a_function_that_rises_at_once_has_no_fall(f):
    found = rise(f)
    assert found.fall == 0.0
    assert found.relative_error == math.inf
    assert found.low < 1e-6


def test_a_fall_within_the_rounding_is_none():
    for depth, sure in ((1e-12, True), (1e-16, False)):
        found = rise(lambda t, d=depth: 1 - d * (1 - (t - 1) ** 2), start=1.0)
        assert (found.fall > 0) == sure
    assert rise(lambda t: 1 - 1e-12 * (1 - (t - 1) ** 2), start=1.0).relative_error > 1e-4  # 8 eps / (4 * 1e-12)


@pytest.mark.parametrize("change", [{"tol": 0.0}, {"tol": 1.0}, {"start": 0.0}, {"limit": math.inf}, {"limit": np.nan}])
def test_refusals(change):
    with pytest.raises(LandscapeError, match="expected a tolerance"):
        rise(lambda t: t, **change)
