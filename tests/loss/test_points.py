"""Losses at many points: where they are, and that the native kernel is taken only where it knows the loss."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from landscape import LandscapeError, Objective
from landscape.loss.metric import RescaledObjective
from landscape.loss.plane import losses_along
from landscape.loss.points import mean_losses
from landscape.loss.strategies import native_kernel
from landscape.models import AttentionConfig, AttentionModel
from landscape.probes import surface, valley
from landscape.tasks.base import IGNORE, token_loss

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler"
)


def toy(dtype=torch.float64, **more):
    g = torch.Generator().manual_seed(0)
    model = AttentionModel(AttentionConfig(width=4, loops=2), vocabulary=5, length=3, generator=g)
    inputs, targets = (torch.randint(5, (11, 3), generator=g) for _ in range(2))
    targets[:, 0] = IGNORE
    return Objective(model, token_loss, (inputs, targets), dtype=dtype, **more)


def by_torch(objective, W):
    """The mean losses without the kernel."""
    chunks = objective.chunks
    return torch.stack([chunks.total(w) / chunks.mass for w in W])


@pytest.mark.parametrize("together", [1, 2, 64])
def test_a_point_is_the_sum_in_the_order_of_the_directions(monkeypatch, together):
    monkeypatch.setattr("landscape.loss.plane.MOST", together)
    model = nn.Linear(3, 1, bias=False)
    objective = Objective(model, lambda y, t: y[:, 0], (torch.tensor([[1.0, 10.0, 0.1]]), torch.zeros(1)))
    g = torch.Generator().manual_seed(1)
    w, D, c = (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((3,), (2, 3), (5, 2)))
    found = losses_along(objective, w, D, c)
    assert torch.equal(found, torch.stack([objective.loss((w + a * D[0]) + b * D[1]) for a, b in c]))
    assert losses_along(objective, w, D, c[:0]).shape == (0,)
    for directions, coordinates in ((D[:1], c), (D[:, :2], c), (D, c[0]), (D[0], c)):
        with pytest.raises(LandscapeError, match="expected directions"):
            losses_along(objective, w, directions, coordinates)


@needs_compiler
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_the_kernel_gives_torchs_losses_one_point_at_a_time(dtype, tolerance):
    objective = toy(dtype, chunk=4)
    assert native_kernel(objective.chunks) is not None
    W = objective.w0 + 0.3 * torch.randn(5, objective.size, generator=torch.Generator().manual_seed(2)).to(dtype)
    found = objective.losses(W)
    assert found.dtype == dtype
    assert torch.allclose(found, by_torch(objective, W), rtol=tolerance, atol=0)
    assert torch.equal(found, torch.cat([objective.losses(w[None]) for w in W]))
    for w in W:
        assert torch.allclose(
            objective.per_sample(w), objective.chunks.losses(w), rtol=10 * tolerance, atol=10 * tolerance
        )


@needs_compiler
def test_rows_that_are_not_finite_are_torchs():
    """A table's entry that no sample looks up does not matter; the kernel would multiply it by zero."""
    objective = toy()
    absent = torch.arange(5)[~torch.isin(torch.arange(5), objective.chunks.data[0])]
    W = objective.w0.repeat(3, 1)
    W[1, 0] = torch.nan  # of token 0
    found = objective.losses(W)
    assert found.isnan().tolist() == [False, 0 not in absent.tolist(), False]
    assert torch.equal(found[0], found[2])
    only = Objective(objective.chunks.module, token_loss, (torch.ones(2, 3, dtype=torch.int64),) * 2, parameters="*")
    assert only.losses(W).isfinite().all(), "token 0 is not there"
    assert only.per_sample(W[1]).isfinite().all()


def test_weights_and_other_losses_are_left_to_torch():
    weights = torch.arange(11.0)
    objective = toy(weights=weights)
    assert native_kernel(objective.chunks) is None
    each = objective.per_sample(objective.w0)
    assert torch.allclose(objective.losses(objective.w0[None])[0], (each * weights).sum() / weights.sum(), rtol=1e-14)
    chunks = toy().chunks
    other = Objective(chunks.module, lambda y, t: 2 * token_loss(y, t), chunks.data, parameters="*")
    assert native_kernel(other.chunks) is None
    assert torch.allclose(other.per_sample(other.w0), 2 * toy().per_sample(other.w0), rtol=1e-14)


def test_in_a_metric_they_are_those_at_the_parameters():
    base = toy()
    scale = torch.rand(base.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.5
    objective = RescaledObjective(base, scale)
    U = objective.w0 + torch.randn(3, base.size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.allclose(objective.losses(U), by_torch(base, U * scale), rtol=1e-14)
    assert torch.allclose(objective.per_sample(U[0]), base.chunks.losses(U[0] * scale), rtol=1e-13)
    with pytest.raises(LandscapeError):
        objective.losses(U[:, 1:])


@needs_compiler
def test_probes_ask_the_kernel(monkeypatch):
    objective, asked = toy(), []
    kernel = native_kernel(objective.chunks)
    monkeypatch.setattr(kernel, "losses", lambda W: asked.append(len(W)) or type(kernel).losses(kernel, W))
    surface(objective, objective.w0, seed=0, directions="random", points=3)
    assert sum(asked) == 9
    valley(objective, objective.w0, seed=0, top=1, bottom=0, random=0, rises=(0.01,))
    assert sum(asked) > 12


def test_surface_values_are_the_losses_at_its_coordinates():
    objective = toy()
    ds = surface(objective, objective.w0, seed=0, directions="random", alpha=(0.0, 0.5, 1.0), beta=(-1.0, 2.0),
                 keep_directions=True)  # fmt: skip
    D = torch.from_numpy(ds.direction_vector.values)
    for i, a in enumerate(ds.alpha.values):
        for j, b in enumerate(ds.beta.values):
            w = objective.w0 + a * D[0] + b * D[1]
            assert ds.loss.values[i, j] == pytest.approx(float(by_torch(objective, w[None])[0]), rel=1e-13)
            assert ds.loss.values[i, j] == float(mean_losses(objective.chunks, w[None])[0])
    assert np.isfinite(ds.loss).all()
