"""Descents in many variables: known minima, other minimisers, and functions that end somewhere."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from landscape.probes.linalg.search.minimum import minimise


def rosenbrock(n=6):
    def value(x):
        return float(optimize.rosen(x.numpy()))

    return value, lambda x: torch.from_numpy(optimize.rosen_der(x.numpy())), torch.zeros(n, dtype=torch.float64)


def test_the_minimum_of_a_curved_valley():
    value, gradient, x = rosenbrock()
    found = minimise(value, gradient, x, first=0.1, tol=1e-8, iterations=300)
    assert found.converged
    assert found.reason == "gradient"
    np.testing.assert_allclose(found.x, 1, atol=1e-7)
    other = optimize.minimize(lambda x: optimize.rosen(x), x.numpy(), jac=optimize.rosen_der, method="L-BFGS-B")
    assert found.evaluations < 2 * other.nfev
    assert found.gradient_norm == pytest.approx(float(gradient(found.x).norm()))


@pytest.mark.parametrize("unit", [1.0, 1e-8])
def test_a_stiff_quadratic_in_other_units(unit):
    scales = torch.logspace(0, 3, 20, dtype=torch.float64)
    found = minimise(
        lambda x: unit * float(scales @ (x - 1) ** 2) / 2, lambda x: unit * scales * (x - 1),
        torch.zeros(20, dtype=torch.float64), first=0.1, tol=unit * 1e-7, iterations=400,
    )  # fmt: skip
    assert found.converged
    np.testing.assert_allclose(found.x, 1, atol=1e-6)


def test_values_that_are_not_finite_are_steps_too_far():
    """-log(1 - x^2) + x: NaN beyond +-1; the first step tried is far outside."""
    found = minimise(
        lambda x: float((-torch.log(1 - x**2) + x).sum()), lambda x: 2 * x / (1 - x**2) + 1,
        torch.zeros(3, dtype=torch.float64), first=50.0, tol=1e-9, iterations=100,
    )  # fmt: skip
    np.testing.assert_allclose(found.x, 1 - math.sqrt(2), atol=1e-8)
    pit = minimise(
        lambda x: float(x @ x) if float(x.abs().max()) < 1.5 else -math.inf, lambda x: 2 * x, torch.ones(2).double(),
        first=50.0, tol=1e-9, iterations=100,
    )  # fmt: skip
    np.testing.assert_allclose(pit.x, 0, atol=1e-8)
    nowhere = minimise(lambda x: math.nan, lambda x: x, torch.ones(2), first=1.0, tol=0.0, iterations=5)
    assert (nowhere.converged, nowhere.reason, nowhere.iterations) == (False, "not finite", 0)
    assert math.isnan(nowhere.gradient_norm)


def test_why_it_ended_is_told():
    value, gradient, x = rosenbrock()
    few = minimise(value, gradient, x, first=0.1, tol=1e-8, iterations=3)
    assert (few.converged, few.reason, few.iterations) == (False, "iterations", 3)
    told = []
    minimise(value, gradient, x, first=0.1, tol=1e-8, iterations=3, progress=told.append)
    assert told == [1, 2, 3]
    high = minimise(lambda x: 1e9 + value(x), gradient, x, first=0.1, tol=0.0, iterations=300)
    assert (high.converged, high.reason) == (True, "rounding")
    wrong = minimise(value, lambda x: -gradient(x), x, first=0.1, tol=0.0, iterations=30)
    assert (wrong.converged, wrong.reason, wrong.value) == (False, "no descent", value(x))
    flat = minimise(lambda x: 1.0, torch.zeros_like, x, first=0.1, tol=0.0, iterations=3)
    assert (flat.converged, flat.reason) == (True, "gradient")
