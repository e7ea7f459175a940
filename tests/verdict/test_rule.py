"""The rule on planted numbers: how often it is wrong where there is nothing, and right where there is something."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from landscape import LandscapeError
from landscape.verdict.rule import (
    DECISION_LEVEL,
    LEVEL,
    MINIMUM,
    decide,
    interval,
    seeds_for,
    seeds_needed,
    side,
)

DRAWS = 1000
NOTHING = {
    "gaussian": lambda g, shape: g.standard_normal(shape),
    "skewed": lambda g, shape: 1 - g.exponential(size=shape),  # few large numbers, all against the claim
    "skewed for": lambda g, shape: g.exponential(size=shape) - 1,
    "heavy tails": lambda g, shape: g.standard_t(2, shape),
    "two values": lambda g, shape: np.where(g.random(shape) < 0.5, 1.0, -1.0),
}
"""Numbers whose mean is 0."""


def sides(x, margin=0.0):
    """Of every row (..., n)."""
    return side(interval(x, seed=0, levels=[DECISION_LEVEL], resamples=999)[..., 0, :], n=x.shape[-1], margin=margin)


def rate(x, want, margin=0.0, refuted_by="all"):
    """How many of the draws (draws, parts, rows, n) are decided so."""
    found = sides(x, margin)
    parts = [{str(i): row.tolist() for i, row in enumerate(draw)} for draw in found]
    return np.mean([decide(p, refuted_by=refuted_by) == want for p in parts])


@pytest.mark.parametrize("kind", NOTHING)
@pytest.mark.parametrize("n", [MINIMUM, 8])
def test_nothing_is_rarely_called_something(kind, n):
    """One row a claim, which is the worst case: rows that must agree can only make it rarer."""
    x = NOTHING[kind](np.random.default_rng([n, 1]), (DRAWS, 1, 1, n))
    assert rate(x, "supported") < 0.05
    assert rate(x, "refuted") < 0.05


def test_nothing_is_rarely_called_something_by_a_claim_of_many_rows():
    """Two quantities in two metrics that hang together, as they do in a study."""
    rng = np.random.default_rng(0)
    shared, own = (NOTHING["skewed"](rng, shape) for shape in ((DRAWS, 1, 1, 8), (DRAWS, 2, 2, 8)))
    x = np.sqrt(0.8) * shared + np.sqrt(0.2) * own
    assert rate(x, "supported") < 0.05
    assert rate(x, "refuted") < 0.05
    assert rate(x, "refuted", refuted_by="any") < 0.05


def test_eleven_claims_at_once_rarely_have_one_that_is_supported_by_chance():
    found = sides(NOTHING["gaussian"](np.random.default_rng(2), (300, 11, 8)))
    assert np.mean((found == 1).any(1)) < 0.09
    assert np.mean(found == 1) < 0.01


@pytest.mark.parametrize(("n", "effect", "least"), [(8, 1.5, 0.66), (8, 2.0, 0.85), (12, 1.0, 0.6), (12, 1.5, 0.92)])
def test_power_at_a_known_effect(n, effect, least):
    """The numbers of docs/concepts/verdict.md, from below."""
    x = np.random.default_rng([n, 3]).standard_normal((DRAWS, 1, 1, n)) + effect
    assert rate(x, "supported") > least
    assert rate(-x, "refuted") > least
    assert rate(x, "refuted") == rate(-x, "supported") == 0


@pytest.mark.parametrize("effect", [1.0, 1.5, 2.0])
def test_the_seeds_that_are_named_have_the_power_that_is_named(effect):
    n = seeds_needed(effect)
    x = np.random.default_rng(4).standard_normal((DRAWS, 1, 1, n)) + effect
    assert 0.72 < rate(x, "supported") < 0.9


def test_the_interval_is_no_shorter_than_students_and_close_to_it_for_many_seeds():
    x = np.random.default_rng(0).standard_normal((20, 200))
    ends = interval(x, seed=0, resamples=1999)[:, 0]
    for row, (low, high) in zip(x, ends, strict=True):
        t = stats.ttest_1samp(row, 0).confidence_interval(LEVEL)
        assert low <= t.low + 1e-12
        assert high >= t.high - 1e-12
        assert high - low < 1.1 * (t.high - t.low)


def test_coverage_of_the_shown_interval():
    for kind, least in (("gaussian", 0.95), ("heavy tails", 0.95), ("skewed", 0.9)):
        x = NOTHING[kind](np.random.default_rng(5), (DRAWS, 8))
        low, high = interval(x, seed=0, resamples=999)[:, 0].T
        assert np.mean((low <= 0) & (high >= 0)) > least - 0.01


@given(st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=9), st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_the_interval_follows_units_and_sign(x, scale, shift):
    x = np.round(np.array(x), 3)
    ends = interval(x, seed=0, resamples=199)[0]
    size = np.abs(x).max() + abs(shift) + np.ptp(x)
    assert interval(x * scale, seed=0, resamples=199)[0] == pytest.approx(
        ends * scale, rel=1e-6, abs=1e-7 * size * scale
    )
    assert interval(x + shift, seed=0, resamples=199)[0] == pytest.approx(ends + shift, rel=1e-6, abs=1e-7 * size)
    assert ends[0] <= x.mean() + 1e-9 * size
    assert ends[1] >= x.mean() - 1e-9 * size


def test_a_row_alone_has_the_interval_that_it_has_among_others():
    x = np.random.default_rng(0).standard_normal((7, 8))
    assert interval(x, seed=0)[3] == pytest.approx(interval(x[3], seed=0), rel=1e-9)
    assert np.array_equal(interval(x[3], seed=0), interval(x[3].copy(), seed=0))


def test_where_most_seeds_are_equal_the_ends_are_finite_and_hold_the_numbers():
    for x in ([0.99] * 7 + [0.9], [0.0] * 6 + [1e-3, 2.0], [1.0, 1.0, 1.0, 1.0, 0.5]):
        ends = interval(x, seed=0, levels=[LEVEL, DECISION_LEVEL])
        assert np.isfinite(ends).all()
        for level, (low, high) in zip((LEVEL, DECISION_LEVEL), ends, strict=True):
            t = stats.ttest_1samp(x, 0).confidence_interval(level)
            assert low <= t.low + 1e-12
            assert high >= t.high - 1e-12
    assert interval([0.99] * 7 + [0.9], seed=0)[0, 0] == pytest.approx(0.9)  # it was minus infinity


def test_what_has_no_interval_decides_nothing():
    assert np.isnan(interval([1.0], seed=0)).all()
    assert np.isnan(interval([1.0, np.nan, 2.0], seed=0)).all()
    few = stats.ttest_1samp([1.0, 2.0, 2.5], 0).confidence_interval(LEVEL)
    assert interval([1.0, 2.0, 2.5], seed=0)[0] == pytest.approx([few.low, few.high])
    assert interval([0.36] * 6, seed=0).tolist() == [[0.36, 0.36]]
    assert side([np.nan, np.nan], n=9) == 0
    assert side([0.0, 0.0], n=9) == 0
    assert side([0.1, 0.2], n=MINIMUM - 1) == 0
    with pytest.raises(LandscapeError, match="expected numbers"):
        interval([], seed=0)
    with pytest.raises(LandscapeError, match="level"):
        interval([1.0, 2.0], seed=0, levels=[95])


def test_margin_and_direction():
    assert side([-0.004, 0.002], n=8, margin=-0.005) == 1
    assert side([-0.006, 0.002], n=8, margin=-0.005) == 0
    assert side([0.5, 0.69], n=8, margin=0.7, direction=-1) == 1
    assert side([0.71, 0.8], n=8, margin=0.7, direction=-1) == -1
    assert side([0.7, 0.8], n=8, margin=0.7) == 0  # it touches the margin


def test_every_row_of_every_part_must_agree():
    assert decide({}) == decide({"a": []}) == "inconclusive"
    assert decide({"a": [1, 1], "b": []}) == "inconclusive"
    assert decide({"a": [-1, -1], "b": []}) == "inconclusive"
    assert decide({"a": [-1, -1], "b": []}, refuted_by="any") == "refuted"
    assert decide({"a": [-1, -1], "b": [-1]}) == "refuted"
    assert decide({"a": [-1, 0], "b": [1]}, refuted_by="any") == "inconclusive"


def test_seeds_that_would_be_needed():
    assert seeds_needed(np.inf) == seeds_needed(50.0) == MINIMUM
    assert seeds_needed(0.01) is seeds_needed(np.nan) is None
    assert seeds_needed(0.5) > seeds_needed(1.0) > seeds_needed(2.0)
    assert seeds_for({"a": [1.0, 2.0]}) == seeds_needed(1.0)
    assert seeds_for({"a": [-1.0, -2.0]}) == seeds_needed(1.0)
    assert seeds_for({"a": [1.0, -2.0]}) is None
    assert seeds_for({"a": [1.0], "b": [-2.0]}, refuted_by="any") == seeds_needed(2.0)
    assert seeds_for({"a": [1.0], "b": []}) is None
