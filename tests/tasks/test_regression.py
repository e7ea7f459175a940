"""In-context regression: functions, prompts, references in closed form, and a model that takes vectors."""

import json

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape import LandscapeError, RunConfig, train
from landscape.models import Regressor, RegressorConfig, build_model
from landscape.tasks import RegressionConfig, RegressionTask, build_task
from landscape.training.presets import load_preset
from landscape.training.trainer import Trainer

SMALL = {"name": "regression", "dim": 3, "examples": 4, "n_train": 40, "n_probe": 16, "n_test": 24}
FUNCTIONS = ("linear", "sparse", "tree", "relu")


def task(**changes):
    return RegressionTask(RegressionConfig(**{**{k: v for k, v in SMALL.items() if k != "name"}, **changes}))


def config(arch="looped", **changes):
    model = {"width": 8, "heads": 2, "window": 2, **changes.pop("model", {})}
    settings = {"steps": 12, "batch": 16, "evaluate_every": 5, "checkpoints": 4, "task": SMALL}
    return RunConfig.make(arch=arch, model=model, **{**settings, **changes})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_have_variance_one_and_stand_in_the_prompt(function):
    t = task(function=function, n_train=4000, dim=5, examples=2)
    part = t.split("train")
    assert part.inputs.shape == (4000, 5, 5)
    assert torch.equal(part.inputs[:, 1::2, 0], part.targets[:, :-1])
    assert not part.inputs[:, 1::2, 1:].any()
    x, y = part.inputs[:, ::2], part.targets
    assert float(x.var()) == pytest.approx(1, rel=0.05)
    assert abs(float(y.mean())) < 5 / np.sqrt(4000)
    assert float(y.var()) == pytest.approx(1, rel=0.2)


def test_linear_and_sparse_values_are_linear_in_x():
    for function, known in (("linear", 3), ("sparse", 1)):
        t = task(function=function, sparsity=1, examples=9)
        x, _ = t.pairs(t.split("train").inputs)
        for prompt, y in zip(x, t.split("train").targets.numpy(), strict=True):
            w = np.linalg.lstsq(prompt[:3], y[:3], rcond=None)[0]
            assert np.allclose(prompt @ w, y)
            assert (np.abs(w) > 1e-8).sum() == known


def test_a_tree_is_constant_on_signs_and_looks_at_few_of_them():
    t = task(function="tree", depth=2, dim=4, examples=200, n_train=20)
    x, _ = t.pairs(t.split("train").inputs)
    for prompt, y in zip(x, t.split("train").targets.numpy(), strict=True):
        assert 1 <= len(np.unique(y)) <= 4
        cells = {}
        for signs, value in zip(map(tuple, prompt > 0), y, strict=True):
            assert cells.setdefault(signs, value) == value


def test_a_tree_of_depth_one_is_two_values_by_one_sign():
    t = task(function="tree", depth=1, dim=3, examples=200, n_train=20)
    x, _ = t.pairs(t.split("train").inputs)
    asked = []
    for prompt, y in zip(x, t.split("train").targets.numpy(), strict=True):
        assert len(np.unique(y)) == 2
        asked += [i for i in range(3) if len(np.unique(y[prompt[:, i] > 0])) == 1]
    assert len(asked) == 20
    assert set(asked) == {0, 1, 2}


def test_batches_are_fresh_and_functions_of_seed_and_step():
    t = task()
    a, b = t.batch(3, 8, seed=0), t.batch(3, 8, seed=0)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    for other in (t.batch(4, 8, seed=0), t.batch(3, 8, seed=1), task(seed=1).batch(3, 8, seed=0)):
        assert not torch.equal(a[0], other[0])
    assert torch.equal(t.batch(5, None, seed=0)[0], t.split("train").inputs)
    assert (t.samples_seen(5, 8), t.samples_seen(5, None)) == (40, 200)
    assert torch.equal(t.split("probe").inputs, t.split("train").inputs[:16])


def test_the_bayes_error_without_noise_is_that_of_least_squares():
    """(d - i) / d with i examples: the share of directions that were not seen."""
    t = task(dim=4, examples=6, n_test=4000)
    part = t.split("test")
    errors = (t.ridge(part.inputs, penalty=0.0) - part.targets.numpy()) ** 2
    assert np.allclose(t.bayes_errors, [1, 0.75, 0.5, 0.25, 0, 0, 0])
    assert np.all(np.abs(errors.mean(0) - t.bayes_errors) <= 5 * errors.std(0) / np.sqrt(4000) + 1e-12)
    assert t.bayes_loss[0] == pytest.approx(2.5 / 7)


def test_the_bayes_error_with_noise_is_that_of_the_posterior_mean():
    t = task(dim=3, examples=6, noise=0.5, n_test=4000)
    part = t.split("test")
    errors = (t.ridge(part.inputs, penalty=0.25 * 3) - part.targets.numpy()) ** 2
    assert t.bayes_errors[0] == pytest.approx(1.25)  # nothing is known yet
    assert np.all(np.abs(errors.mean(0) - t.bayes_errors) <= 5 * errors.std(0) / np.sqrt(4000) + 0.03)
    for penalty in (0.0, 0.2, 3.0):  # every other penalty is worse
        assert ((t.ridge(part.inputs, penalty=penalty) - part.targets.numpy()) ** 2).mean() > errors.mean()
    assert np.isnan(task(function="tree").bayes_loss).all()


def test_ridge_by_hand():
    t = task(n_test=3)
    x, y = t.pairs(t.split("test").inputs)
    found = t.ridge(t.split("test").inputs, penalty=0.7)
    for n in range(3):
        for i in range(5):
            X = np.vstack([x[n, :i], np.sqrt(0.7) * np.eye(3)])  # ridge is least squares with more rows
            u = np.linalg.lstsq(X, np.concatenate([y[n, :i], np.zeros(3)]), rcond=None)[0]
            assert found[n, i] == pytest.approx(x[n, i] @ u, abs=1e-12)


def test_loss_and_share_explained():
    outputs = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])  # one prompt, two loops, two questions
    targets = torch.tensor([[1.0, 0.0]])
    assert RegressionTask.per_sample_loss(outputs, targets).tolist() == [(0 + 4 + 1 + 0) / 4]
    assert RegressionTask.correct(outputs, targets).tolist() == [0.5]


def model(**settings):
    return build_model(RegressorConfig(width=8, heads=2, **settings), vocabulary=3, length=9, seed=0).double()


def test_the_model_is_the_loop_with_the_input_added():
    m = model(loops=4, window=2, layers=2)
    assert isinstance(m, Regressor)
    v = torch.randn(5, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    E, h, read = v @ m.read_in.T + m.position, 0.0, []
    for _ in range(4):
        h = m.norm(m.blocks(h + E))
        read.append((h @ m.head.T)[:, ::2, 0])
    assert torch.allclose(m(v), torch.stack(read[2:], dim=1), rtol=1e-12, atol=1e-13)
    assert model(loops=1, window=3)(v).shape == (5, 1, 5)
    assert torch.equal(model(loops=1)(v)[:, 0], model(loops=4, window=4)(v)[:, 0])  # the first pass
    m.weight = 0.0
    assert torch.equal(m(v)[:, 0], m(v)[:, 1])
    assert "position" not in dict(model(positions=False).named_parameters())
    with pytest.raises(ValueError, match="at most 9 vectors"):
        m(torch.zeros(1, 11, 3, dtype=torch.float64))


def test_no_prediction_sees_its_own_value_or_what_comes_after():
    m = model(loops=3)
    v = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    changed = v.clone()
    changed[:, 5:] += 1.0  # from y_3 on
    assert torch.equal(m(v)[..., :3], m(changed)[..., :3])
    assert not torch.allclose(m(v)[..., 3], m(changed)[..., 3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": {"name": "regression"}, "model": {"name": "gpt"}},
            "takes the vectors of the task 'regression', found",
        ),
        ({"model": {"name": "regressor"}}, "takes the tokens of the task 'markov', found 'regressor' for vectors"),
        ({"task": {"name": "regression", "function": "cubic"}}, "found 'cubic'"),
        ({"task": {"name": "regression", "function": "sparse", "sparsity": 30}}, "sparsity <= task.dim"),
        ({"task": {"name": "regression", "noise": -1.0}}, "noise >= 0, found -1.0"),
        ({"task": {"name": "regression"}, "model": {"window": 0}}, "window >= 1, found 0"),
        ({"task": {"name": "regression"}, "model": {"heads": 5}}, "multiple of model.heads"),
        ({"task": {"name": "regression"}, "gradient": "native"}, None),
    ],
)
def test_wrong_settings_are_explained(settings, message, tmp_path):
    if message is None:
        with pytest.raises(LandscapeError, match="knows AttentionModel only, found Regressor"):
            train(RunConfig.make(**settings), tmp_path / "a")
        return
    with pytest.raises(LandscapeError, match=message.replace(".", r"\.")):
        RunConfig.make(**settings)


def test_runs_of_all_architectures(tmp_path):
    for arch in ("single", "looped", "stacked"):
        c = config(arch)
        assert c.model.name == "regressor"
        assert RunConfig.from_dict(json.loads(json.dumps(c.to_dict()))) == c
        run = train(c, tmp_path / arch)
        assert run.loss_units == "squared error"
        m = run.metrics
        assert m.loss.attrs["units"] == m.bayes_loss.attrs["units"] == "squared error"
        assert m.gradient_norm.attrs["units"] == "squared error per parameter unit"
        assert torch.equal(run.replay(0, 12)[run.steps], run.parameters[:])
        part, w = run.task.split("test"), run.parameters[-1]
        outputs = run.module(12)(part.inputs.float()).detach()
        assert float(m.loss.sel(step=12, split="test", family="all")) == pytest.approx(
            float(((outputs - part.targets[:, None]) ** 2).mean()), rel=1e-5
        )
        assert float(m.tokens[-1]) == 12 * 16 * 5
        assert float(run.objective("test", at=12).loss(w)) == pytest.approx(float(m.loss[-1, 1, 0]), rel=1e-5)


def test_the_loss_has_the_curvature_of_its_definition():
    setup = Trainer(config(dtype="float64")).setup
    objective = setup.objective("probe", n=6)
    part, w = setup.task.split("probe").head(6), objective.w0
    v = torch.randn(objective.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(u):
        outputs = functional_call(setup.module(3), setup.layout.unflatten(u), part.inputs)
        return ((outputs - part.targets[:, None]) ** 2).mean()

    with sdpa_kernel(SDPBackend.MATH):
        expected = jvp(grad(loss), (w,), (v,))[1]
    assert torch.allclose(objective.hessian(w).mv(v), expected, rtol=1e-9, atol=1e-11)


def test_shift_ramps_a_run_of_vectors(tmp_path):
    shift = {"mode": "ramp", "ramp_steps": 4, "criterion": "fixed", "at": 4}
    run = train(config("shift", loops=3, shift=shift), tmp_path / "a")
    w = run.parameters[run.index(4)]
    single, looped = run.objective(at=4, loops=1), run.objective(at=4)
    assert float(single.loss(w)) == pytest.approx(float(looped.loss(w)), rel=1e-12)


@pytest.mark.parametrize("preset", ["regression-quick", "regression-paper"])
def test_presets_describe_runs(preset):
    c = RunConfig.make(arch="looped", **{k: v for k, v in load_preset(preset).items() if k != "shift"})
    assert (c.task.name, c.model.name) == ("regression", "regressor")
    assert c.model.window < c.model.loops


@pytest.mark.slow
def test_a_looped_model_learns_to_regress():
    """Two dimensions, four examples: from nothing explained to most of what can be."""
    small = {"name": "regression", "dim": 2, "examples": 4, "n_train": 64, "n_probe": 64, "n_test": 256}
    c = config(task=small, model={"width": 16, "window": 2}, steps=600, batch=64, optimizer={"lr": 0.005}, clip=1.0)
    trainer, t = Trainer(c), build_task(c.task)
    part = t.split("test")

    def explained():
        outputs = trainer.setup.module(3, at=trainer.state().w)(part.inputs.float()).detach()
        return float(t.correct(outputs, part.targets).mean()) / float(t.bayes_accuracy[0])

    assert explained() < 0.1
    trainer.advance(600)
    assert explained() > 0.4
