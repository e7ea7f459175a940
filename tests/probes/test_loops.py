"""Loop dynamics: recursions whose answer is known, dense Jacobians, and our own models pass by pass."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from landscape import LandscapeError, Objective, RunConfig, sweep, train
from landscape.loss.metric import RescaledObjective
from landscape.models import AttentionConfig, GPTConfig, build_model
from landscape.models.recursion import Recursion
from landscape.probes.loops import loops
from landscape.tasks.base import token_accuracy, token_loss

X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, -1.0], [-0.3, 0.7]], dtype=torch.float64)


def squares(y, t):
    return (y**2).sum(1)


def mapped(A, *, data=X, **settings):
    """The objective of the linear map A at some inputs, one pass of it; and A as parameters."""
    A = torch.as_tensor(A, dtype=torch.float64)
    objective = Objective(nn.Linear(*A.shape[::-1], bias=False), squares, (data, torch.zeros(len(data), 1)), **settings)
    return objective, A.flatten()


def linear(module, x):
    return x, lambda h, _: module(h), lambda h: h, torch.ones(len(x), dtype=torch.int64)


def asked(A, ask=linear, *, seed=0, **settings):
    objective, w = mapped(A)
    return loops(objective, w, seed=seed, recursion=ask, **{"passes": 12, **settings})


def turn(angle, size=1.0):
    c, s = size * math.cos(angle), size * math.sin(angle)
    return [[c, -s], [s, c]]


@pytest.mark.parametrize(
    ("A", "label", "radius", "growth"),
    [
        (turn(1.0, 0.8), "settling", 0.8, 0.8),
        (turn(2.0, 1.0), "marginal", 1.0, 1.0),
        (turn(1.0, 1.1), "drifting", 1.1, 1.1),
        ([[-0.5, 0.0], [0.0, -0.5]], "settling", 0.5, 0.5),
        ([[1.0, 0.0], [0.0, 1.0]], "settling", 1.0, np.nan),  # it never moves
        ([[-1.0, 0.0], [0.0, -1.0]], "marginal", 1.0, 1.0),
        ([[0.0, 0.0], [0.0, 0.0]], "settling", 0.0, np.nan),
    ],
)
def test_linear_maps(A, label, radius, growth):
    ds = asked(A)
    assert ds.label.item() == label
    assert float(ds.share.sel(dynamics=label)) == 1
    np.testing.assert_allclose(ds.radius, radius, atol=1e-12)
    np.testing.assert_allclose(ds.growth, growth, rtol=1e-9)
    assert bool(ds.converged.all())
    h, A = X.numpy().T, np.array(A)
    for t in range(12):
        new = A @ h
        size = np.linalg.norm(new, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            step = np.where(size > 0, np.linalg.norm(new - h, axis=0) / size, np.linalg.norm(new - h, axis=0))
        np.testing.assert_allclose(ds.loss[t], (size**2).mean())
        np.testing.assert_allclose(ds.norm[t], size.mean())
        if np.isfinite(step).all() and size.all():
            np.testing.assert_allclose(ds.step_length[t], step.mean())
            np.testing.assert_allclose(ds.step_length_stderr[t], step.std(ddof=1) / len(X) ** 0.5, atol=1e-15)
        h = new
    assert np.isnan(ds.cosine[0])


def test_a_rotation_turns_its_steps_by_the_angle():
    ds = asked(turn(0.7, 0.9))
    np.testing.assert_allclose(ds.cosine[1:], math.cos(0.7))
    np.testing.assert_allclose(ds.angle_of, 0.7)
    np.testing.assert_allclose(ds.gain, 0.9)


def test_a_map_that_is_not_normal_grows_before_it_settles():
    ds = asked([[0.5, 9.0], [0.0, 0.4]])
    np.testing.assert_allclose(ds.radius, 0.5)
    np.testing.assert_allclose(ds.gain, np.linalg.norm([[0.5, 9.0], [0.0, 0.4]], 2))
    assert ds.label.item() == "settling"
    assert ds.norm[0] > 3 * np.linalg.norm(X, axis=1).mean()


def test_a_steady_drift_goes_away_though_its_steps_do_not_grow():
    ds = asked(np.eye(2), lambda m, x: (x, lambda h, _: m(h) + torch.tensor([1.0, 0.0]), lambda h: h))
    assert ds.label.item() == "drifting"
    np.testing.assert_allclose([ds.growth, ds.straightness], 1)
    assert ds.loops.item() == 0  # not told, so the loss is not checked


def test_a_state_that_overflows_drifts():
    ds = asked(1e60 * np.eye(2))
    assert ds.label.item() == "drifting"
    assert np.isinf(ds.loss[-1]) or np.isnan(ds.loss[-1])
    assert not bool(ds.converged.sel(at=12).any())


def test_shares_are_those_of_the_samples():
    ds = asked(np.diag([0.5, 1.5]))  # only the first sample has nothing to grow
    np.testing.assert_allclose(ds.share.sel(dynamics=["settling", "drifting"]), [0.2, 0.8])
    assert ds.label.item() == "drifting"


def test_the_pass_may_depend_on_its_number():
    ds = asked(np.eye(2), lambda m, x: (x, lambda h, t: h * (t + 1) / t, lambda h: h), at=(1, 4))
    np.testing.assert_allclose(ds.norm, np.arange(2, 14) * np.linalg.norm(X, axis=1).mean())
    np.testing.assert_allclose(ds.radius, [3 / 2, 6 / 5])


def test_a_pass_that_does_not_look_at_the_state():
    ds = asked(np.eye(2), lambda m, x: (x, lambda h, t: m(x), lambda h: h))
    np.testing.assert_allclose(ds.radius, 0)
    assert ds.label.item() == "settling"


@pytest.mark.parametrize(
    ("ask", "settings", "message"),
    [
        (None, {}, "Linear without a method `recursion`"),
        (lambda m, x: m(x), {}, "expected \\(h_0, step, readout\\)"),
        (lambda m, x: (x[:1], m, m), {}, "expected a state h_0 \\(5, ...\\)"),
        (lambda m, x: (x.long(), m, m), {}, "of floating numbers"),
        (lambda m, x: (x, lambda h, _: h[:, :1], m), {}, "leave a state of shape \\(5, 2\\), found \\(5, 1\\)"),
        (lambda m, x: (*linear(m, x)[:3], torch.full((5,), 3)), {}, "after the model's own passes"),
        (linear, {"passes": 3}, "passes >= 4"),
        (linear, {"at": (0, 3)}, "1 <= at <= passes"),
        (linear, {"at": (13,)}, "1 <= at <= passes"),
        (linear, {"margin": 0.0}, "positive tol"),
        (linear, {"loops": 2}, "number of loops can be changed"),
    ],
)
def test_refusals(ask, settings, message):
    with pytest.raises(LandscapeError, match=message):
        asked(turn(1.0, 0.9), ask, **settings)


def test_a_recursion_must_use_the_module_that_it_is_given():
    other = nn.Linear(2, 2, bias=False).double()
    with pytest.raises(LandscapeError, match="must use the module that it is given"):
        asked(turn(1.0, 0.9), lambda _, x: linear(other, x))


def test_other_coordinates_ask_the_same_model():
    objective, w = mapped(turn(1.0, 0.9))
    scaled = RescaledObjective(objective, torch.tensor([2.0, 0.5, 1.0, 3.0]))
    a = loops(objective, w, seed=0, recursion=linear)
    b = loops(scaled, scaled.coordinates(w), seed=0, recursion=linear)
    np.testing.assert_allclose(a.loss, b.loss)
    np.testing.assert_allclose(a.radius, b.radius)


# -- our models ---------------------------------------------------------------------------------------------------


def gpt(loops=3, per_length=False, n=7, *, chunk=None, dtype=torch.float64):
    config = GPTConfig(width=8, heads=2, loops=loops, layers=2, per_length=per_length)
    model = build_model(config, vocabulary=6, length=5, seed=0).double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(8.0 if p.ndim > 1 else 1.0)
    g = torch.Generator().manual_seed(1)
    tokens, targets = (torch.randint(6, (n, 5), generator=g) for _ in range(2))
    inputs = (tokens, torch.arange(n) % 4 + 1) if per_length else tokens
    return Objective(model, token_loss, (inputs, targets), chunk=chunk, dtype=dtype), model


def states(model, tokens, passes):
    E = model.embed(tokens)
    h = [torch.zeros_like(E)]
    for _ in range(passes):
        h.append(model.step(h[-1], E))
    return h


def test_losses_and_states_of_the_practical_model():
    objective, model = gpt()
    ds = loops(objective, objective.w0, seed=0, score=token_accuracy, passes=9)
    assert (ds.loops.item(), ds.own_loss.item()) == (3, pytest.approx(float(objective.loss(objective.w0)), rel=1e-12))
    np.testing.assert_allclose(ds.loss[2], ds.own_loss)
    (tokens, targets), h = objective.chunks.data, states(model, objective.chunks.data[0], 9)
    for t in range(1, 10):
        model.loops = t
        each = token_loss(model(tokens), targets).detach()
        np.testing.assert_allclose(ds.loss[t - 1], each.mean())
        np.testing.assert_allclose(ds.accuracy[t - 1], token_accuracy(model(tokens), targets).mean())
        move = (h[t] - h[t - 1]).flatten(1).norm(dim=1)
        np.testing.assert_allclose(ds.step_length[t - 1], (move / h[t].flatten(1).norm(dim=1)).mean().item())


def test_jacobians_of_the_practical_model_are_the_dense_ones():
    objective, model = gpt()
    ds = loops(objective, objective.w0, seed=0, passes=9, at=(1, 3, 9), jacobians=3, tol=1e-7)
    assert ds["sample"].values.tolist() == [0, 3, 6]
    for i in ds["sample"].values:
        tokens = objective.chunks.data[0][i : i + 1]
        E, h = model.embed(tokens), states(model, tokens, 9)
        for t in (1, 3, 9):
            J = torch.autograd.functional.jacobian(lambda x: model.step(x, E), h[t].detach())  # noqa: B023
            J = J.reshape(40, 40).numpy()
            here = ds.sel(at=t, sample=i)
            np.testing.assert_allclose(here.radius_of, np.abs(np.linalg.eigvals(J)).max(), rtol=1e-6)
            np.testing.assert_allclose(here.gain_of, np.linalg.norm(J, 2), rtol=1e-9)
    assert bool(ds.converged.all())


KINDS = [
    {},
    {"attention": "linear", "scale": "1/T"},
    {"norm": "post"},
    {"norm": "pre", "inject": True},
    {"scale": "learned", "layers": 2},
]


def attention(loops=3, n=5, **kind):
    model = build_model(AttentionConfig(width=4, loops=loops, **kind), vocabulary=6, length=5, seed=0).double()
    if kind.get("scale") == "learned":
        nn.init.constant_(model.scale, 0.3)
    g = torch.Generator().manual_seed(1)
    tokens, targets = (torch.randint(6, (n, 5), generator=g) for _ in range(2))
    return Objective(model, token_loss, (tokens, targets)), model


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_toy_pass_by_pass(kind):
    objective, model = attention(**kind)
    ds = loops(objective, objective.w0, seed=0, passes=5, at=(1, 3), jacobians=2, tol=1e-7)
    tokens, targets = objective.chunks.data
    seen = list(model.states(tokens))
    for t, h in enumerate(seen):
        np.testing.assert_allclose(ds.loss[t], token_loss(model.decode(h), targets).mean().item())
        np.testing.assert_allclose(ds.norm[t], h.flatten(1).norm(dim=1).mean().item())
    np.testing.assert_allclose(ds.loss[2], ds.own_loss)
    for i, E in zip(ds["sample"].values, model.embed(tokens)[ds["sample"].values.tolist()], strict=True):
        for t in (1, 3):
            J = torch.autograd.functional.jacobian(lambda x: model.step(x, E[None]), seen[t - 1][i][None].detach())  # noqa: B023
            J, here = J.reshape(20, 20).numpy(), ds.sel(at=t, sample=i)
            np.testing.assert_allclose(here.radius_of, np.abs(np.linalg.eigvals(J)).max(), rtol=1e-6)
            np.testing.assert_allclose(here.gain_of, np.linalg.norm(J, 2), rtol=1e-9)
    start = torch.zeros_like(seen[0]) if kind.get("inject") else model.embed(tokens)
    first = ((seen[0] - start).flatten(1).norm(dim=1) / seen[0].flatten(1).norm(dim=1)).mean().item()
    np.testing.assert_allclose(ds.step_length[0], first)


def test_large_states_are_not_written_out():
    model = build_model(AttentionConfig(width=16, loops=2), vocabulary=6, length=5, seed=0).double()
    tokens = torch.arange(5)[None]
    objective = Objective(model, token_loss, (tokens, tokens))
    ds = loops(objective, objective.w0, seed=0, passes=4, at=(2,), tol=1e-6)
    h = list(model.states(tokens))[1].detach()
    J = torch.autograd.functional.jacobian(lambda x: model.step(x, model.embed(tokens)), h).reshape(80, 80).numpy()
    np.testing.assert_allclose(ds.radius, np.abs(np.linalg.eigvals(J)).max(), rtol=1e-5)
    np.testing.assert_allclose(ds.gain, np.linalg.norm(J, 2), rtol=1e-7)


def test_chunks_and_rounding_change_nothing():
    a, b, c = (gpt(**s)[0] for s in ({}, {"chunk": 2}, {"dtype": torch.float32}))
    one, two, three = (loops(o, o.w0, seed=0, passes=6, jacobians=1) for o in (a, b, c))
    for name in ("loss", "loss_stderr", "norm", "step_length", "cosine", "growth", "share", "radius", "gain"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(one[name], three[name], rtol=2e-2, atol=1e-4, err_msg=name)


def test_loops_by_length_are_checked_at_each_samples_own_pass():
    objective, _ = gpt(per_length=True)
    ds = loops(objective, objective.w0, seed=0, passes=6)
    assert ds.loops.item() == 3
    own = objective.per_sample(objective.w0)
    np.testing.assert_allclose(ds.own_loss, own.mean())
    assert abs(float(ds.loss[2] - ds.own_loss)) > 1e-6  # where all have three
    more, _ = gpt(loops=5)
    with pytest.raises(LandscapeError, match="at least the passes that the model makes, 5"):
        loops(more, more.w0, seed=0, passes=4)


class Cell(nn.Module):
    """Somebody else's recurrent module, with the method that makes it known pass by pass."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(2, 3), nn.Linear(3, 3, bias=False)
        self.read = nn.Linear(3, 1)

    def recursion(self, x, scale=1.0):
        fixed = self.inner(x) * scale
        return Recursion(torch.zeros_like(fixed), lambda h, _: torch.tanh(self.out(h) + fixed), self.read)

    def forward(self, x, scale=1.0):
        made = self.recursion(x, scale)
        return self.read(made.step(made.step(made.state, 1), 2))


@pytest.mark.parametrize("named", [False, True])
def test_modules_of_others(named):
    data = {"x": X, "scale": 2.0} if named else X
    objective = Objective(Cell(), lambda y, t: (y[:, 0] - t[:, 0]) ** 2, (data, torch.ones(5, 1)))
    ds = loops(objective, objective.w0, seed=0, passes=30)
    np.testing.assert_allclose(ds.loss[1], float(objective.loss(objective.w0)))
    assert ds.label.item() == "settling"
    if not named:  # in the end steps shrink by the radius
        np.testing.assert_allclose(ds.growth, ds.radius.sel(at=30), rtol=0.1)


def test_weights_weigh_the_curves():
    A, c = turn(1.0, 0.9), torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0])
    objective, w = mapped(A, weights=c)
    ds = loops(objective, w, seed=0, recursion=linear)
    np.testing.assert_allclose(ds.loss[0], float(objective.loss(w)))
    picked, w = mapped(A, data=X[[0, 2, 2, 4]])
    np.testing.assert_allclose(ds.norm, loops(picked, w, seed=0, recursion=linear).norm)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    config = RunConfig.make(
        arch="shift",
        loops=2,
        shift={"criterion": "fixed", "at": 2},
        task={"name": "parity", "max_train_length": 3, "test_length": 4, "n_probe": 9, "n_test": 9},
        model={"name": "gpt", "width": 8, "heads": 2},
        steps=4,
        dense_checkpoints=4,
        batch=8,
    )
    return train(config, tmp_path_factory.mktemp("loops") / "run")


def test_a_run_that_shifts_is_asked_on_both_sides(shifted):
    ds = sweep("loops", shifted, seed=0, jacobians=1)
    assert ds.loops.values.tolist() == [1, 1, 2, 2, 2]
    assert ds.trained_loops.values.tolist() == [2] * 5
    assert ds["pass"].values.tolist() == list(range(1, 9))
    for i, T in enumerate(ds.loops.values):
        np.testing.assert_allclose(ds.loss[i, T - 1], ds.own_loss[i])
    both = [sweep("loops", shifted, seed=0, jacobians=0, loops=T, steps=[2]) for T in (1, 2)]
    np.testing.assert_allclose(both[0].loss, both[1].loss)
    np.testing.assert_allclose([float(x.own_loss[0]) for x in both], both[0].loss[0, :2])
    assert np.isnan(both[0].radius).all()


@pytest.mark.parametrize("window", [1, 2])
def test_in_context_regression(window, tmp_path):
    task = {"name": "regression", "dim": 2, "examples": 3, "n_train": 9, "n_probe": 5, "n_test": 5}
    model = {"name": "regressor", "width": 4, "heads": 1, "window": window}
    config = RunConfig.make(task=task, model=model, arch="looped", loops=2, steps=1, batch=4)
    ds = sweep("loops", train(config, tmp_path / "run"), seed=0, steps=[1], jacobians=1)
    assert ds.loops.item() == (2 if window == 1 else 0)  # the loss of several passes is that of none
    if window == 1:
        np.testing.assert_allclose(ds.loss[0, 1], ds.own_loss[0])
