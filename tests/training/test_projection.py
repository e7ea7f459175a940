"""Projected updates: closed forms, and runs that resume bit for bit."""

import pytest
import torch
from support.oracles import quadratic
from support.runs import Stop, identical, same_run, settings_of, stop_at

from landscape import LandscapeError, Run, RunFailedError, train
from landscape.runs.branch import branch_config
from landscape.training.projection import Projection, Projector
from landscape.training.setup import Setup
from landscape.training.trainer import Trainer

SPECTRUM = torch.tensor([9.0, 5.0, 4.0, 1.0, 0.5, 0.1, -0.2], dtype=torch.float64)


def descend(kind, k, scale=1.0, steps=7, lr=0.05):
    """Gradient descent with projected updates on a quadratic; its eigenvectors, start and end."""
    objective, _, Q = quadratic(SPECTRUM * scale)
    projector = Projector(objective, Projection(subspace=kind, k=k, every=3), seed=0)
    start = Q.sum(1)  # one along every eigenvector
    w = start.clone()
    for step in range(steps):
        projector.visit(step, w)
        w = w + projector.project(-lr / scale * objective.grad(w))
    return Q, Q.T @ start, Q.T @ w


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_projected_descent_on_a_quadratic_is_the_closed_form(k, scale):
    decay = (1 - 0.05 * SPECTRUM) ** 7
    moved = torch.arange(7) < k  # the spectrum is descending
    for kind, moves in (("valley", moved), ("river", ~moved)):
        _, start, end = descend(kind, k, scale)
        expected = torch.where(moves, decay * start, start)
        assert torch.allclose(end, expected, rtol=0, atol=1e-11)


def test_the_two_parts_sum_to_the_update_and_are_orthogonal():
    objective, _, _ = quadratic(SPECTRUM)
    d = torch.randn(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = []
    for kind in ("valley", "river"):
        projector = Projector(objective, Projection(subspace=kind, k=2), seed=0)
        projector.visit(0, objective.w0)
        parts.append(projector.project(d))
        assert torch.allclose(projector.project(parts[-1]), parts[-1], rtol=0, atol=1e-14)
    assert torch.allclose(parts[0] + parts[1], d, rtol=0, atol=1e-15)
    assert abs(float(parts[0] @ parts[1])) < 1e-14


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "gd"])
def test_projected_updates_of_training_sum_to_the_whole_update(config, optimizer):
    """The final step is projected, weight decay and momentum included, for any optimiser."""
    states = {}
    for kind in (None, "valley", "river"):
        projection = None if kind is None else {"subspace": kind, "k": 3}
        trainer = Trainer(config(dtype="float64", projection=projection, **settings_of(optimizer)))
        before = trainer.state().w
        trainer.advance()
        states[kind] = trainer.state().w - before
    assert states["valley"].norm() > 0
    assert states["river"].norm() > 0
    assert torch.allclose(states["valley"] + states["river"], states[None], rtol=0, atol=1e-14)
    assert abs(float(states["valley"] @ states["river"])) < 1e-12 * float(states[None].norm()) ** 2


def test_training_projects_on_the_dense_eigenvectors_of_the_probe_loss(config):
    projection = {"subspace": "valley", "k": 2, "samples": 13, "every": 4, "tol": 1e-11}
    trainer = Trainer(config(dtype="float64", projection=projection))
    start = trainer.state().w
    H = trainer.setup.objective("probe", n=13).hessian(start).dense()
    V = torch.linalg.eigh(H).eigenvectors[:, -2:]
    trainer.advance(4)
    d = trainer.state().w - start
    assert float((d - V @ (V.T @ d)).norm()) < 1e-7 * float(d.norm())
    trainer.advance(1)  # new eigenvectors at step 4
    d = trainer.state().w - start - d
    assert float((d - V @ (V.T @ d)).norm()) > 1e-4 * float(d.norm())


@pytest.mark.parametrize("kind", ["valley", "river"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_projected_run_resumes_bit_for_bit_between_two_recomputations(config, tmp_path, kind, dtype):
    """Checkpoints at 0, 1, 2, 4, 6, 11, 20; eigenvectors at 0, 5, 10, 15: no checkpoint but the ends is at one."""
    c = config(dtype=dtype, projection={"subspace": kind, "k": 3, "every": 5})
    whole = train(c, tmp_path / "whole")
    assert not set(whole.steps[1:-1].tolist()) & {5, 10, 15}
    for step in (0, 4, 6, 11):
        with pytest.raises(Stop):
            train(c, tmp_path / "b", progress=stop_at(step))
    identical(whole, train(c, tmp_path / "b"))
    for i, step in enumerate(whole.steps[:-1].tolist()):
        n = int(whole.steps[i + 1]) - step
        assert torch.equal(whole.replay(step, n)[-1], whole.parameters[i + 1])


def test_checkpoints_do_not_change_a_projected_run(config, tmp_path):
    projection = {"subspace": "river", "k": 2, "every": 3}
    a = train(config(projection=projection), tmp_path / "a")
    b = train(config(projection=projection, checkpoints=3, evaluate_every=20), tmp_path / "b")
    assert torch.equal(a.parameters[-1], b.parameters[-1])


def test_branch_of_a_projected_run_goes_on_with_its_eigenvectors(config, tmp_path):
    origin = train(config(projection={"subspace": "river", "k": 2, "every": 5}), tmp_path / "a")
    for step in (4, 6):
        same_run(train(branch_config(origin, step), tmp_path / f"b{step}"), origin)
    other = branch_config(origin, 6, settings={"projection": {"k": 3}})
    assert (other.projection.since, other.projection.subspace, other.projection.every) == (6, "river", 5)
    assert branch_config(origin, 6, settings={"projection": None}).projection is None
    whole = train(other, tmp_path / "whole")
    with pytest.raises(Stop):
        train(other, tmp_path / "cut", progress=stop_at(9))
    identical(whole, train(other, tmp_path / "cut"))


def test_projection_settings_are_checked(config):
    for wrong, message in (
        ({"subspace": "hill"}, "one of 'valley', 'river', found 'hill'"),
        ({"subspace": "river", "k": 0}, r"projection\.k >= 1"),
        ({"subspace": "river", "every": 0}, r"projection\.every >= 1"),
        ({"subspace": "river", "tol": 0.0}, r"0 < projection\.tol < 1"),
        ({"subspace": "river", "since": 3}, r"projection\.since <= 0"),
        ({}, r"expected a value of projection\.subspace"),
        (3, "expected projection to be a group"),
    ):
        with pytest.raises(LandscapeError, match=message):
            config(projection=wrong)
    P = Setup(config()).layout.size
    with pytest.raises(LandscapeError, match=f"found projection.k = {P} of P = {P}"):
        Trainer(config(projection={"subspace": "river", "k": P}))
    with pytest.raises(LandscapeError, match="between 1 and 21 samples"):
        Trainer(config(projection={"subspace": "river", "samples": 22}))


def test_no_number_without_eigenvectors(config):
    trainer = Trainer(config(projection={"subspace": "river", "every": 5}))
    state = trainer.state()
    assert torch.isnan(state.anchor).all()
    trainer.load(type(state)(3, state.w, state.optimizer))
    with pytest.raises(LandscapeError, match="needs the parameters of step 0, found none"):
        trainer.advance()
    objective, _, _ = quadratic(SPECTRUM)
    with pytest.raises(LandscapeError, match="expected `visit` before"):
        Projector(objective, Projection(subspace="river", k=2), seed=0).project(objective.w0)


def test_unconverged_eigenvectors_end_the_training(monkeypatch):
    import landscape.probes.linalg as linalg

    objective, _, _ = quadratic(torch.linspace(1, 2, 40))
    solve = linalg.lanczos
    monkeypatch.setattr(linalg, "lanczos", lambda op, **kw: solve(op, **{**kw, "max_products": 8}))
    with pytest.raises(RunFailedError, match=r"did not converge to projection\.tol"):
        Projector(objective, Projection(subspace="river", k=3), seed=0).visit(0, objective.w0)


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("lr", [1e3, 1e30])
def test_divergence_of_a_projected_run_is_noticed(config, tmp_path, every, lr):
    projection = {"subspace": "valley", "k": 2, "every": every}
    bad = config(optimizer={"name": "sgd", "lr": lr, "momentum": 0.0}, projection=projection)
    with pytest.raises(RunFailedError, match="NaN or infinite"):
        train(bad, tmp_path / "bad")
    assert Run.open(tmp_path / "bad").status == "diverged"
