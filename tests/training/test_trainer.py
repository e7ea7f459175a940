import copy

import numpy as np
import pytest
import torch

from landscape import LandscapeError, train
from landscape.curvature.native_build import compiler
from landscape.errors import DivergedError
from landscape.loss.objective import Objective
from landscape.models import build_model
from landscape.tasks import build_task
from landscape.training.evaluation import Evaluator
from landscape.training.setup import Setup
from landscape.training.trainer import Trainer

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")

OPTIMIZERS = [
    {"optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}},
    {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}},
    {"optimizer": {"name": "gd", "lr": 0.1}, "batch": None},
]


def by_hand(config, steps):
    """The same training written with torch's optimisers on the module's own parameters."""
    task = build_task(config.task)
    model = build_model(config.model, vocabulary=task.vocabulary, length=task.length, seed=config.seed)
    o = config.optimizer
    if o.name == "adamw":
        opt = torch.optim.AdamW(
            model.parameters(), lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, weight_decay=o.weight_decay
        )
    else:
        momentum, decay = getattr(o, "momentum", 0.0), getattr(o, "weight_decay", 0.0)
        opt = torch.optim.SGD(model.parameters(), lr=o.lr, momentum=momentum, weight_decay=decay)
    for step in range(steps):
        x, y = task.batch(step, config.batch, seed=config.seed)
        opt.param_groups[0]["lr"] = o.lr * config.schedule.factor(step, config.steps)
        loss = task.per_sample_loss(model(x), y).mean()
        opt.zero_grad()
        loss.backward()
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        opt.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("settings", OPTIMIZERS)
@pytest.mark.parametrize("extra", [{}, {"clip": 0.3, "schedule": {"name": "cosine", "warmup": 3}}])
def test_training_equals_torch_on_separate_parameters(config, settings, extra):
    c = config(dtype="float64" if extra else "float32", **settings, **extra)
    trainer = Trainer(c)
    trainer.advance(9)
    expected = by_hand(c, 9)
    if not extra:
        assert torch.allclose(trainer.state().w, expected, rtol=1e-5, atol=1e-6)
    else:  # initial weights are drawn in float32 either way
        assert torch.allclose(trainer.state().w.float(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", OPTIMIZERS)
@pytest.mark.parametrize("at", [0, 1, 4, 5])
def test_loading_a_state_continues_bit_for_bit(config, settings, at):
    c = config(schedule={"name": "wsd", "warmup": 2, "decay": 0.5}, **settings)
    whole = Trainer(c)
    whole.advance(at)
    state = copy.deepcopy(whole.state())
    whole.advance(6)
    other = Trainer(c)
    other.advance(3)  # somewhere else entirely
    other.load(state)
    other.advance(6)
    assert other.step == at + 6
    assert torch.equal(other.state().w, whole.state().w)
    assert torch.equal(other.state().optimizer, whole.state().optimizer)


def test_a_state_is_stored_as_it_is(config):
    plain, projected = (Trainer(config(projection=p)) for p in (None, {"subspace": "river", "k": 2}))
    for trainer, names in ((plain, ["parameters", "optimizer"]), (projected, ["parameters", "optimizer", "anchor"])):
        before = trainer.state().w
        trainer.advance()
        state = trainer.state()
        assert list(state.row()) == names
        assert (state.row()["parameters"] == state.w.numpy()).all()
        assert state.anchor is None or torch.equal(state.anchor, before)


def test_evaluation_does_not_change_training(config):
    a, b = Trainer(config()), Trainer(config())
    evaluate = Evaluator(b)
    state = torch.random.get_rng_state()
    for _ in range(5):
        a.advance()
        b.advance()
        evaluate()
    assert torch.equal(a.state().w, b.state().w)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_metrics_are_those_of_the_definition(config):
    trainer = Trainer(config())
    trainer.advance(4)
    row = Evaluator(trainer)()
    split = trainer.setup.task.split("test")
    objective = trainer.setup.objective("test")
    losses = objective.per_sample(trainer.state().w).numpy()
    by_family = [losses.mean()] + [losses[split.family == i].mean() for i in range(2)]
    assert np.allclose(row["loss"][1], by_family, rtol=1e-5)
    right = objective.map(trainer.state().w, trainer.setup.task.correct).numpy()
    assert np.allclose(
        row["accuracy"][1], [right.mean()] + [right[split.family == i].mean() for i in range(2)], rtol=1e-5
    )
    assert row["gradient_norm"] == pytest.approx(
        float(trainer.setup.objective("probe").grad(trainer.state().w).norm()), rel=1e-4
    )
    assert row["tokens"] == 6 * (16 * 3 + 13)  # 61 sequences in batches of 16: the fourth has 13


@pytest.mark.parametrize(("steps", "seen"), [(0, 0), (3, 48), (4, 61), (5, 77), (9, 2 * 61 + 16)])
def test_samples_seen_counts_the_short_batch(config, steps, seen):
    assert Setup(config()).samples_seen(steps) == seen
    assert Setup(config(batch=None)).samples_seen(steps) == 61 * steps


def test_flops_are_those_of_the_matrix_products(config):
    """Forward: per loop 3 projections (n d d) and 2 attention products (n n d), then the head (n d V)."""
    trainer = Trainer(config())
    n, d, V, T = 6, 4, 16, 3
    forward = 2 * (T * (3 * n * d * d + 2 * n * n * d) + n * d * V)
    # every matrix product needs the gradient of both factors: backward is exactly twice forward
    assert trainer.setup.flops_per_sample() == pytest.approx(3 * forward)


def test_divergence_is_noticed_at_its_step(config):
    trainer = Trainer(config(optimizer={"name": "sgd", "lr": 1e30}))
    with pytest.raises(DivergedError) as caught:
        trainer.advance(10)
    assert caught.value.step <= 2


def test_objective_is_the_training_loss(config):
    trainer = Trainer(config(batch=None))
    w = trainer.state().w
    objective = trainer.setup.objective("train")
    assert isinstance(objective, Objective)
    x, y = trainer.setup.task.batch(0, None, seed=0)
    expected = trainer.setup.task.per_sample_loss(trainer.setup.module(trainer.loops)(x), y).mean().detach()
    assert float(objective.loss(w)) == pytest.approx(float(expected), rel=1e-6)


@needs_compiler
@pytest.mark.parametrize("arch", ["single", "looped", "stacked"])
@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_native_gradient_trains_like_autograd(config, arch, attention):
    """61 samples in batches of 16: every fourth batch has 13."""
    settings = {"model": {"width": 4, "attention": attention}, "dtype": "float64", "clip": 0.5}
    found, expected = (Trainer(config(arch, **settings, gradient=g)) for g in ("native", "autograd"))
    for trainer in (found, expected):
        trainer.advance(19)
    assert torch.allclose(found.state().w, expected.state().w, rtol=1e-9, atol=1e-11)
    assert found.flops == expected.flops


@needs_compiler
def test_native_gradient_of_a_run_that_shifts(config):
    """Each stage has the gradient of its own number of loops."""
    settings = {"dtype": "float64", "shift": {"criterion": "fixed", "at": 7}}
    found, expected = (Trainer(config("shift", **settings, gradient=g)) for g in ("native", "autograd"))
    for trainer in (found, expected):
        trainer.advance(15)
    assert found.switch == expected.switch == 7
    assert torch.allclose(found.state().w, expected.state().w, rtol=1e-9, atol=1e-11)


@needs_compiler
def test_native_gradient_sees_a_loss_that_is_not_finite(config):
    trainer = Trainer(config(gradient="native"))
    state = trainer.state()
    state.w[3] = torch.nan
    trainer.load(state)
    with pytest.raises(DivergedError, match="step 0"):
        trainer.advance(1)


def test_native_gradient_is_refused_before_anything_is_written(config, tmp_path):
    c = config(model={"name": "gpt", "width": 4, "heads": 1}, gradient="native")
    with pytest.raises(LandscapeError, match=r'knows AttentionModel only, found GPT\. Use .*gradient="autograd"'):
        train(c, tmp_path / "run")
    assert not (tmp_path / "run" / "run.h5").exists()


def flushes():
    return float(torch.full((1,), torch.finfo(torch.float32).tiny) * 0.5) == 0.0


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="the processor cannot flush subnormal numbers")
@pytest.mark.parametrize("setting", [True, False])
def test_subnormal_numbers_are_left_out_of_training_alone(config, monkeypatch, setting):
    trainer, seen = Trainer(config()), []
    whole = trainer._loss_and_gradient

    def watched(*batch):
        seen.append(flushes())
        if len(seen) == 3:
            raise KeyboardInterrupt
        return whole(*batch)

    monkeypatch.setattr(trainer, "_loss_and_gradient", watched)
    try:
        torch.set_flush_denormal(setting)
        trainer.advance()
        trainer.advance_to(2)
        with pytest.raises(KeyboardInterrupt):
            trainer.advance_to(9)
        assert seen == [True] * 3
        assert flushes() == setting
    finally:
        torch.set_flush_denormal(False)
