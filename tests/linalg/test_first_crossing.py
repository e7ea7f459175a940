"""The width found is the first crossing, or what came before is narrower than the result says could hide."""

import math

import numpy as np
import pytest
import torch
from support.oracles import function_objective
from support.oracles_linalg import crossings

from landscape import LandscapeError
from landscape.probes import valley

GRID = np.linspace(0.0, 4.0, 400_001)[1:]
RISES = np.array([1e-2, 3e-2, 0.1, 0.3, 1.0])


class Function:
    def __init__(self, f):
        self.f, self.calls = f, 0

    def values(self, ts):
        self.calls += len(ts)
        return self.f(np.asarray(ts, dtype=np.float64))


def humps(rng):
    k, a = rng.uniform(1, 20), rng.uniform(0.01, 0.3)
    return lambda t: a * (1 - np.cos(k * t))


def parabola_with_bumps(rng):
    a, n = rng.uniform(0.02, 1), rng.integers(1, 4)
    height, place, width = rng.uniform(0, 0.5, n), rng.uniform(0.2, 3, n), 10 ** rng.uniform(-2, 0, n)
    bumps = lambda t: (height * np.exp(-(((np.asarray(t)[..., None] - place) / width) ** 2))).sum(-1)  # noqa: E731
    return lambda t: a * t**2 + bumps(t) - bumps(0.0)


def double_well(rng):
    b, a = rng.uniform(0.3, 3), rng.uniform(0.05, 2)
    return lambda t: a * t**2 * (t - b) ** 2


def steps(rng):
    places, heights = rng.uniform(0.1, 3, 3), rng.uniform(-0.3, 0.5, 3)
    s = rng.uniform(3, 60)
    rise = lambda t: (heights * np.tanh(s * (np.asarray(t)[..., None] - places))).sum(-1) / 2  # noqa: E731
    return lambda t: 0.01 * t**2 + rise(t) - rise(0.0)


def kinks(rng):
    b, a = rng.uniform(0.3, 2), rng.uniform(0.05, 1)
    return lambda t: a * np.abs(t) - 1.5 * a * np.maximum(t - b, 0) + 3 * a * np.maximum(t - 2 * b, 0)


def waves(rng):
    a, k = rng.uniform(0, 0.15, 4), rng.uniform(1, 12, 4)
    return lambda t: 0.05 * t**2 + (a * (1 - np.cos(k * np.asarray(t)[..., None]))).sum(-1)


def judged(values, found, rise, i):
    """ "right", "hidden" (an earlier stretch above the rise that is shorter than the resolution), or "wrong"."""
    above = values >= rise
    first = int(above.argmax()) if above.any() else None
    width = found.half_width[i]
    if first is None:
        return "right" if found.censored[i] else "wrong"
    true = GRID[first]
    if found.converged[i] and abs(width - true) <= 2e-5 + 1e-5 * true:
        return "right"
    back = np.flatnonzero(~above[first:])
    length = (back[0] if back.size else len(GRID)) * (GRID[1] - GRID[0])
    return "hidden" if width > true and length <= found.resolution[i] else "wrong"


@pytest.mark.slow
@pytest.mark.parametrize("family", [humps, parabola_with_bumps, double_well, steps, kinks, waves])
@pytest.mark.parametrize("guessed", [True, False])
def test_forty_random_functions_of_a_family(family, guessed):
    verdicts = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        f = family(rng)
        curvature = float(f(np.array([1e-3]))[0]) * 2e6
        guess = math.sqrt(2 * RISES[0] / curvature) if guessed and curvature > 0 else None
        line = Function(f)
        found = crossings(line, t0=0.0, f0=0.0, side=1, rises=RISES, limit=4.0, tol=1e-6, guess=guess)
        assert found.n_evaluations == line.calls < 400
        values = f(GRID)
        verdicts += [judged(values, found, rise, i) for i, rise in enumerate(RISES)]
    assert verdicts.count("wrong") == 0
    assert verdicts.count("hidden") <= 0.04 * len(verdicts)


@pytest.mark.parametrize(
    ("amplitude", "right"), [(0.064347, 0.3083), (0.0527876544, 0.38255)]
)  # the crossing of 0.1 by a (1 - cos 7t), whose humps reach 0.128694 and 0.105575
def test_humps_just_above_the_rise(amplitude, right):
    objective = function_objective(lambda w: amplitude * (1 - torch.cos(7 * w)).sum(1), torch.zeros(1))
    ds = valley(objective, torch.zeros(1), seed=0, top=1, bottom=0, random=0, gradient=False, rises=(0.1,), limit=2.0)
    assert np.allclose(ds.half_width, right, atol=5e-6)
    assert ds.converged.values.all()
    assert not ds.censored.values.any()
    assert (ds.resolution.values <= right / 4 + 1e-9).all()


def test_a_hump_that_barely_passes_is_climbed():
    for excess in (1e-1, 1e-2, 1e-3, 1e-4):
        a = 0.05 * (1 + excess)
        found = crossings(
            Function(lambda t, a=a: a * (1 - np.cos(7 * t)) + np.maximum(t - 0.8, 0) ** 2),
            t0=0.0, f0=0.0, side=1, rises=np.array([0.1]), limit=4.0, guess=math.sqrt(0.2 / (49 * a)),
        )  # fmt: skip
        assert found.half_width[0] == pytest.approx(math.acos(1 - 0.1 / a) / 7, rel=1e-6)


def test_the_resolution_is_the_longest_stretch_between_points():
    seen = []
    line = Function(lambda t: seen.extend(t.tolist()) or 2 * t**2)
    found = crossings(line, t0=0.0, f0=0.0, side=1, rises=RISES, limit=2.0)
    for s, gap, censored in zip(found.half_width, found.resolution, found.censored, strict=True):
        assert not censored
        points = np.array([0.0, *sorted(t for t in seen if t < s), s])
        assert gap == pytest.approx(np.diff(points).max(), rel=1e-9)
        assert gap <= s / 4 * (1 + 1e-9)


def test_a_gradient_that_is_not_finite_is_named():
    objective = function_objective(lambda w: w.abs().sqrt().sum(1), torch.ones(1))
    objective.grad(objective.w0)
    with pytest.raises(LandscapeError, match="finite gradient"):
        valley(objective, torch.zeros(1), seed=0, top=0, bottom=0, random=1, rises=(1e-3,))
    with pytest.raises(LandscapeError, match="finite parameters"):
        valley(objective, torch.full((1,), math.nan), seed=0, top=0, bottom=0, random=1, rises=(1e-3,))
