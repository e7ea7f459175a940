import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape import LandscapeError, RunConfig
from landscape.settings import difference, nest
from landscape.training.schedules import Constant, Cosine, LinearToZero, WarmupStableDecay


def test_text_form_gives_the_same_config():
    config = RunConfig.make(arch="stacked", loops=2, optimizer={"name": "sgd", "lr": 1}, schedule={"name": "cosine"})
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.optimizer.lr == 1.0
    assert (config.model.loops, config.model.layers) == (1, 2)


def test_gradient_descent_uses_the_full_batch():
    assert RunConfig.make(optimizer={"name": "gd"}).batch is None
    with pytest.raises(LandscapeError, match="'gd' uses the whole training set"):
        RunConfig.make(optimizer={"name": "gd"}, batch=8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepz": 3}, "unknown setting of config 'stepz'. Did you mean 'steps'"),
        ({"task": {"lenght": 3}}, "unknown setting of task 'lenght'. Did you mean 'length'"),
        ({"task": {"name": "chess"}}, "unknown task 'chess'"),
        ({"optimizer": {"momentum": 0.9}}, "unknown setting of optimizer 'momentum'"),
        ({"schedule": {"decay": 0.5}}, "unknown setting of schedule 'decay'"),
        ({"steps": "many"}, r"expected config\.steps to be int, found 'many'"),
        ({"steps": True}, r"expected config\.steps to be int, found True"),
        ({"steps": 0}, "expected steps >= 1, found 0"),
        ({"batch": 0}, "expected batch >= 1"),
        ({"dtype": "float16"}, "expected dtype"),
        ({"model": {"loops": 3}}, r"model\.loops follows from the architecture"),
        ({"model": {"attention": "none"}}, "'softmax' or 'linear'"),
        ({"arch": "loopy"}, "unknown architecture 'loopy'. Did you mean 'looped'"),
        ({"optimizer": {"lr": -1.0}}, r"lr of 'adamw' in \(0, inf\), found -1"),
        ({"optimizer": {"lr": float("nan")}}, "lr of 'adamw'"),
        ({"optimizer": {"beta2": 2.0}}, r"beta2 of 'adamw' in \[0, 1\)"),
        ({"optimizer": {"name": "sgd", "momentum": 1.5}}, "momentum of 'sgd'"),
        ({"schedule": {"name": "wsd", "decay": -1.0}}, r"decay of 'wsd' in \[0, 1\]"),
        ({"schedule": {"name": "cosine", "final": -2.0}}, "final of 'cosine'"),
        ({"schedule": {"warmup": 100}, "steps": 4}, "fewer warm-up steps"),
        ({"schedule_steps": 0}, "expected schedule_steps >= 1"),
        ({"schedule": {"name": "linear", "start": 4}, "steps": 4}, "decay to start before the last step 4, found 4"),
        ({"schedule": {"name": "linear", "initial": 0.0}}, r"initial of 'linear' in \(0, inf\)"),
        ({"origin": {"step": 3}}, r"expected a value of origin\.run, found none"),
        ({"origin": {"stepp": 3}}, "unknown setting of origin 'stepp'"),
        ({"device": "tpu"}, "expected device"),
        ({"seed": 10**25}, "expected seed"),
        ({"task": {"seed": -1}}, r"task\.seed >= 0"),
        ({"task": 3}, "expected task to be a group of settings"),
        ({"optimizer": [1]}, "expected optimizer to be a group"),
        ({"arch": ["single"]}, "unknown architecture"),
    ],
)
def test_wrong_settings_are_explained(settings, message):
    with pytest.raises(LandscapeError, match=message):
        RunConfig.make(**settings)


def test_arch_and_model_must_agree():
    wrong = {**RunConfig.make(arch="looped").to_dict(), "arch": "single"}
    with pytest.raises(LandscapeError, match="architecture 'single' means"):
        RunConfig.from_dict(wrong)


def test_difference_names_every_changed_setting():
    a, b = RunConfig.make().to_dict(), RunConfig.make(seed=3, task={"length": 9}).to_dict()
    assert difference(a, b) == [("seed", 0, 3), ("task.length", 16, 9)]


@given(st.integers(1, 5000), st.integers(2, 40), st.integers(0, 10))
def test_checkpoints_are_dense_early_then_even_in_the_logarithm(steps, count, dense):
    config = RunConfig.make(steps=steps, checkpoints=count, dense_checkpoints=dense)
    found = config.checkpoint_steps()
    assert (found[0], found[-1]) == (0, steps)
    assert (np.diff(found) > 0).all()
    assert len(found) <= count
    early = min(dense, steps, count - 2)
    assert found[: early + 1].tolist() == list(range(early + 1))
    assert set(found) <= set(config.evaluation_steps())


@given(st.integers(0, 3000), st.integers(1, 3000), st.integers(2, 40), st.integers(0, 10))
def test_steps_of_a_branch_are_those_of_a_run_from_zero_moved(start, length, count, dense):
    origin = {"run": "a", "run_id": "0", "step": start, "name": "a"}
    same = {"checkpoints": count, "dense_checkpoints": dense, "evaluate_every": 7}
    branch = RunConfig.make(steps=start + length, origin=origin, **same)
    plain = RunConfig.make(steps=length, **same)
    assert (branch.checkpoint_steps() == start + plain.checkpoint_steps()).all()
    assert (branch.evaluation_steps() == start + plain.evaluation_steps()).all()


def test_log_spacing():
    config = RunConfig.make(steps=1000, checkpoints=8, dense_checkpoints=1)
    assert config.checkpoint_steps().tolist() == [0, 1, 3, 10, 32, 100, 316, 1000]


def test_schedules():
    total = 100
    assert [Constant(warmup=4).factor(s, total) for s in (0, 1, 3, 50)] == [0.25, 0.5, 1.0, 1.0]
    assert [Cosine().factor(s, total) for s in (0, 50, 100)] == pytest.approx([1.0, 0.5, 0.0])
    assert Cosine(final=0.1).factor(100, total) == pytest.approx(0.1)
    linear = LinearToZero(start=60, initial=0.5)
    assert [linear.factor(s, total) for s in (0, 60, 70, 100, 110)] == pytest.approx([0.5, 0.5, 0.375, 0.0, 0.0])
    wsd = WarmupStableDecay(warmup=10, decay=0.2)
    assert [wsd.factor(s, total) for s in (4, 9, 80, 90, 100)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_assignments_are_laid_over():
    assert nest(["a.b=3", "a.c=x", "d=[1,2]"], into={"a": {"b": 1}}) == {"a": {"b": 3, "c": "x"}, "d": [1, 2]}
    with pytest.raises(LandscapeError, match="NAME=VALUE"):
        nest(["steps"])
    with pytest.raises(LandscapeError, match="a is a value"):
        nest(["a.b=1"], into={"a": 3})
