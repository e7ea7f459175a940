"""Metrics: the loss in rescaled coordinates, against dense matrices and the optimiser's own state."""

import numpy as np
import pytest
import torch
from support.oracles import quadratic, toy

from landscape import Objective, RunConfig, sweep, train
from landscape.curvature.products import DEFAULT_MEMORY
from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.loss.metric import RescaledObjective, adam_scale, filter_scale
from landscape.loss.strategies import curvature_operator
from landscape.probes import spectrum
from landscape.probes.tools.dense import exact_spectrum


def wide(seed=0):
    """A two-layer network of 61 parameters with data."""
    g = torch.Generator().manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.Tanh(), torch.nn.Linear(10, 1, bias=False)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    x, y = torch.randn(23, 4, generator=g).double(), torch.randn(23, 1, generator=g).double()
    return net, (x, y)


def square(y, t):
    return ((y - t) ** 2).sum(1)


@pytest.fixture(scope="module")
def base():
    net, data = wide()
    return Objective(net, square, data, chunk=10)


def test_everything_is_that_of_the_rescaled_function(base):
    torch.manual_seed(0)
    d = torch.rand(base.size, dtype=torch.float64) + 0.5
    objective = RescaledObjective(base, d)
    u, w = objective.w0, base.w0
    torch.testing.assert_close(u * d, w, rtol=1e-15, atol=0)
    assert float(objective.loss(u)) == pytest.approx(float(base.loss(w)), rel=1e-14)
    torch.testing.assert_close(objective.losses(torch.stack([u, 2 * u])), base.losses(torch.stack([w, 2 * w])))
    torch.testing.assert_close(objective.per_sample(u), base.per_sample(w))
    torch.testing.assert_close(objective.grad(u), d * base.grad(w), rtol=1e-12, atol=1e-12)
    for kind in ("hessian", "ggn", "residual"):
        dense = getattr(base, kind)(w).dense()
        found = getattr(objective, kind)(u)
        torch.testing.assert_close(found.dense(), d[:, None] * dense * d, rtol=1e-10, atol=1e-10)
        assert found.n_products == base.size
    v = torch.randn(base.size, dtype=torch.float64)
    step = 1e-5  # the product is the derivative of the rescaled gradient
    slope = (objective.grad(u + step * v) - objective.grad(u - step * v)) / (2 * step)
    torch.testing.assert_close(objective.hessian(u).mv(v), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_strategies_agree_in_another_metric(base):
    d = filter_scale(base, base.w0)
    objective = RescaledObjective(base, d)
    v = torch.linspace(-1, 1, base.size, dtype=torch.float64)
    one = objective.hessian(objective.w0).mv(v)
    for strategy in ("forward", "compiled"):
        torch.testing.assert_close(objective.hessian(objective.w0, strategy=strategy).mv(v), one)
    # the compiled product serves other scales too: the scale must not be written into it
    other = RescaledObjective(base, 2 * d)
    torch.testing.assert_close(other.hessian(other.w0, strategy="compiled").mv(v), 4 * one)


def test_filter_metric_is_blind_to_rescaling_between_layers():
    """tanh(a x) is not homogeneous, relu is: scaling one layer by 7 and the next by 1/7 changes nothing."""
    x = torch.randn(19, 3, generator=torch.Generator().manual_seed(1)).double()
    data = (x, torch.ones(19, 1, dtype=torch.float64))
    found = {}
    for factor in (1.0, 7.0):
        torch.manual_seed(3)
        net = torch.nn.Sequential(
            torch.nn.Linear(3, 5, bias=False), torch.nn.ReLU(), torch.nn.Linear(5, 1, bias=False)
        ).double()
        with torch.no_grad():
            net[0].weight.mul_(factor)
            net[2].weight.div_(factor)
        objective = Objective(net, square, data)
        scaled = RescaledObjective(objective, filter_scale(objective, objective.w0))
        found[factor] = [torch.linalg.eigvalsh(o.hessian(o.w0).dense()) for o in (objective, scaled)]
    torch.testing.assert_close(found[1.0][1], found[7.0][1], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(found[1.0][0], found[7.0][0], rtol=0.1)


def test_adam_metric_has_the_eigenvalues_of_the_preconditioned_hessian():
    objective, H, _ = quadratic(torch.linspace(1, 5, 6).double())
    moment = torch.linspace(0.1, 2, 6).double() ** 2
    d = adam_scale(moment, step=7, beta2=0.9, eps=1e-3)
    precondition = 1 / ((moment / (1 - 0.9**7)).sqrt() + 1e-3)
    ds = spectrum(RescaledObjective(objective, d), torch.ones(6, dtype=torch.float64), seed=0, k=6)
    expected = np.sort(torch.linalg.eigvals(torch.diag(precondition) @ H).real.numpy())[::-1]
    np.testing.assert_allclose(ds.eigenvalue.values, expected, rtol=1e-10)


def test_adam_metric_comes_from_the_optimisers_state(tmp_path):
    config = RunConfig.make(
        arch="looped", task={"n_train": 64, "n_probe": 61, "n_test": 8}, model={"width": 4}, steps=4
    )
    run = train(config, tmp_path / "run")
    ds = sweep("spectrum", run, seed=0, which="all", metric="adam")
    assert ds.step.values.tolist() == [1, 2, 3, 4]  # no second moment at step 0
    assert ds.attrs["metric"] == "adam"
    assert ds.eigenvalue.attrs["units"] == "nats per token per squared Adam-preconditioned unit"
    objective = run.objective(at=3)
    moment = run.optimizer[run.index(3)].reshape(2, -1)[1].double()
    p = 1 / ((moment / (1 - 0.999**3)).sqrt() + 1e-8)
    H = objective.hessian(objective.w0).dense()
    expected = torch.linalg.eigvalsh(p.sqrt()[:, None] * H * p.sqrt()).flip(0)
    np.testing.assert_allclose(ds.eigenvalue.sel(step=3), expected, rtol=1e-8, atol=1e-8 * float(expected[0]))
    with pytest.raises(LandscapeError, match="none at step 0"):
        sweep("spectrum", run, seed=0, metric="adam", steps=[0])
    with pytest.raises(LandscapeError, match="no metric 'filter'"):
        sweep("samples", run, seed=0, metric="filter")
    with pytest.raises(LandscapeError, match="unknown metric 'l2'"):
        sweep("spectrum", run, seed=0, metric="l2")
    gd = train(
        RunConfig.make(
            task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=2, optimizer={"name": "gd"}
        ),
        tmp_path / "gd",
    )
    with pytest.raises(LandscapeError, match="trained with adamw, found one with 'gd'"):
        sweep("spectrum", gd, seed=0, metric="adam")


def test_filters_of_norm_zero_are_held_fixed(base):
    net, data = wide()
    with torch.no_grad():
        net[0].weight[2].zero_()
    objective = Objective(net, square, data)
    scaled = RescaledObjective(objective, filter_scale(objective, objective.w0))
    dense = scaled.hessian(scaled.w0).dense()
    zero = scaled.scale == 0
    assert int(zero.sum()) == 4
    assert (dense[zero] == 0).all()
    with pytest.raises(LandscapeError, match="differ from zero where"):
        scaled.coordinates(base.w0)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_scales_that_are_none_are_refused(base, bad):
    d = torch.ones(base.size, dtype=torch.float64)
    d[5] = bad
    with pytest.raises(LandscapeError, match="finite scale"):
        RescaledObjective(base, d)


def test_one_dense_hessian_serves_all_metrics(base, monkeypatch):
    made = []
    dense = Symmetric.dense
    monkeypatch.setattr(Symmetric, "dense", lambda self: made.append(1) or dense(self))
    here = base.at(base.w0 / 3)  # D (w / D) is not w to the last bit
    d = filter_scale(here, here.w0)
    for objective in (here, RescaledObjective(here, d), RescaledObjective(here, d**0.5)):
        lam = exact_spectrum(objective, objective.w0).values
        scale = getattr(objective, "scale", torch.ones(base.size, dtype=torch.float64))
        H = base.hessian(here.w0, strategy="forward").mm(torch.eye(base.size, dtype=torch.float64))
        torch.testing.assert_close(lam, torch.linalg.eigvalsh(scale[:, None] * H * scale).flip(0))
    assert len(made) == 1


def test_scales_of_scales_multiply():
    """Rescaled twice is rescaled once by the product, in the loss, every derivative and an excerpt of the samples."""
    base = toy(chunk=8)
    one, two = (torch.linspace(0.5, x, base.size, dtype=torch.float64) for x in (2.0, 3.0))
    nested, once = RescaledObjective(RescaledObjective(base, one), two), RescaledObjective(base, one * two)
    u, v = once.w0 + 0.1, torch.cos(torch.arange(base.size, dtype=torch.float64))
    assert torch.allclose(nested.w0, once.w0, rtol=1e-14)
    assert float(nested.loss(u)) == pytest.approx(float(base.loss(u * one * two)), rel=1e-12)
    assert torch.allclose(nested.per_sample(u), once.per_sample(u), rtol=1e-12)
    assert torch.allclose(nested.grad(u), once.grad(u), rtol=1e-10, atol=1e-14)
    assert torch.allclose(nested.hessian(u).mv(v), once.hessian(u).mv(v), rtol=1e-10, atol=1e-13)
    few = nested.chunks.excerpt(5)
    assert torch.allclose(few.losses(u), base.chunks.excerpt(5).losses(u * one * two), rtol=1e-12)


def test_what_is_traced_at_a_rescaled_point_does_not_serve_another(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    base = toy("single", chunk=8)
    scaled = RescaledObjective(base, torch.full((base.size,), 2.0, dtype=torch.float64))
    v = torch.cos(torch.arange(base.size, dtype=torch.float64))
    H = curvature_operator(scaled.chunks, "hessian", scaled.w0, strategy="compiled", block=1, memory=DEFAULT_MEMORY)
    assert torch.allclose(H.mv(v), 4 * base.hessian(base.w0).mv(v), rtol=1e-9, atol=1e-12)
    assert torch.allclose(
        base.hessian(base.w0, strategy="compiled").mv(v), base.hessian(base.w0).mv(v), rtol=1e-9, atol=1e-12
    )
