"""The teaching file agrees with the package, and with closed forms."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.rooms import ROOT
from torch import nn

from landscape import Objective
from landscape.probes import spectrum, surface, valley

FILE = ROOT / "docs" / "minimal.py"


@pytest.fixture(scope="module")
def minimal():
    spec = importlib.util.spec_from_file_location("minimal", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def both(minimal):
    """The loss of the example as the teaching file sees it, and as the package does."""
    model, inputs, targets, w = minimal.example()
    loss = minimal.loss_function(model, nn.functional.mse_loss, inputs, targets)
    objective = Objective(model, lambda y, t: ((y - t) ** 2).mean(1), (inputs, targets))
    assert torch.equal(objective.w0, w)
    assert float(loss(w)) == pytest.approx(float(objective.loss(w)), rel=1e-13)
    return loss, objective, w


def test_its_eigenvalue_is_that_of_the_package_and_of_the_matrix(minimal, both):
    loss, objective, w = both
    value, u, residual = minimal.top_eigenpair(loss, w)
    assert residual < 1e-9
    assert value == pytest.approx(float(torch.linalg.eigvalsh(torch.func.hessian(loss)(w))[-1]), rel=1e-12)
    ds = spectrum(objective, w, seed=0, k=1, eigenvectors=True)
    assert value == pytest.approx(float(ds.eigenvalue[0]), rel=1e-9)
    assert abs(float(u @ torch.from_numpy(ds.eigenvector.values.ravel()))) == pytest.approx(1.0, abs=1e-9)


def test_its_widths_are_those_of_the_package(minimal, both):
    loss, objective, w = both
    _, u, _ = minimal.top_eigenpair(loss, w)
    ds = valley(objective, w, seed=0, top=1, bottom=0, random=0, gradient=False, rises=(1e-3, 1e-2), tol=1e-10)
    assert ds.converged.all()
    for i, rise in enumerate((1e-3, 1e-2)):
        found, expected = sorted(minimal.half_widths(loss, w, u, rise)), sorted(ds.half_width[0, :, i].values)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_widths_of_a_known_valley(minimal):
    def loss(w):
        return 3.0 * (w[0] - 0.5) ** 2 + w[1] ** 4

    w = torch.zeros(2, dtype=torch.float64)
    for axis, expected in ((0, (0.01 / 3) ** 0.5), (1, 0.01**0.25)):
        found = minimal.half_widths(loss, w, torch.eye(2, dtype=torch.float64)[axis], 0.01)
        np.testing.assert_allclose(found, [expected] * 2, rtol=1e-6)


def test_its_slice_is_that_of_the_package(minimal, both):
    loss, objective, w = both
    directions = torch.randn(2, len(w), generator=torch.Generator().manual_seed(3), dtype=w.dtype)
    alpha, beta = (-0.5, 0.0, 1.0), (-1.0, 0.25)
    ds = surface(objective, w, seed=0, directions=directions, alpha=alpha, beta=beta)
    found = minimal.plane(loss, w, *directions, alpha, beta)
    np.testing.assert_allclose(found, ds.loss, rtol=1e-12)


@pytest.mark.slow
def test_it_runs_as_a_script_and_says_three_things():
    done = subprocess.run([sys.executable, FILE], capture_output=True, text=True, check=True)
    assert not done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines() if ":" in line] == [
        "largest eigenvalue of the Hessian",
        "half-widths where the loss has risen by 0.01",
        "of a parabola with this curvature",
        "the loss on a plane",
    ]
