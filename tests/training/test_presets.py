"""Presets: every one is a valid config, options override it, and all are listed."""

import json

import pytest

from landscape import LandscapeError, Run, RunConfig
from landscape.models import TRAININGS
from landscape.settings import overlay
from landscape.tasks import TASKS
from landscape.training.presets import load_preset, presets

NAMES = ("markov", "parity", "copy", "addition", "sum", "multiplication", "unique_set", "text", "regression")
# Fan et al., arXiv 2409.15647: layers, heads, steps per length, longest trained, longest tested
PAPER = {
    "parity": (1, 64, 500, 20, 40),
    "copy": (2, 8, 1000, 19, 30),
    "addition": (3, 8, 1600, 19, 30),
    "sum": (2, 16, 500, 19, 24),
    "multiplication": (4, 8, 500, 11, 15),
    "unique_set": (3, 8, 1000, 19, 30),
}


def test_every_task_has_two():
    assert sorted(presets()) == sorted(f"{n}-{k}" for n in NAMES for k in ("paper", "quick"))
    for name, settings in presets().items():
        assert settings["task"]["name"] == name.rsplit("-", 1)[0]
        assert settings["about"]


@pytest.mark.parametrize("name", list(presets()))
@pytest.mark.parametrize("arch", list(TRAININGS))
def test_presets_are_valid_for_every_architecture(name, arch, tmp_path):
    settings = load_preset(name)
    if settings["task"]["name"] not in TASKS:
        pytest.skip("the task is not there")
    if settings["task"]["name"] == "text":
        (tmp_path / "a.txt").write_text("abc" * 100)
        settings["task"]["path"] = str(tmp_path / "a.txt")
    if arch != "shift":
        settings.pop("shift", None)
    config = RunConfig.make(arch=arch, **settings)
    assert config.steps >= 1000
    if config.task.name in PAPER:  # no query needs more loops than the largest number
        longest = config.task.test_length * (2 if config.task.name == "multiplication" else 1)
        assert settings["loops"] == longest
        assert config.model.per_length


@pytest.mark.parametrize("task", list(PAPER))
def test_paper_presets_are_the_full_recipe(task):
    p = load_preset(f"{task}-paper")
    found = (p["layers"], p["model"]["heads"], *(p["task"][k] for k in ("increase_every", "max_train_length",
                                                                       "test_length")))  # fmt: skip
    assert found == PAPER[task]
    assert (p["steps"], p["batch"], p["clip"], p["optimizer"], p["model"]["width"]) == (
        100000,
        64,
        1.0,
        {"lr": 1e-4},
        256,
    )


def test_names():
    assert load_preset("quick", task="copy") == load_preset("copy-quick") == load_preset("copy-quick", task="copy")
    assert load_preset("quick") == load_preset("markov-quick")
    with pytest.raises(LandscapeError, match=r"unknown preset 'markov-qick'\. Did you mean 'markov-quick'"):
        load_preset("qick", task="markov")
    with pytest.raises(LandscapeError, match="a preset of the task 'copy', found 'parity-quick'"):
        load_preset("parity-quick", task="copy")


def test_overlay_of_another_kind_begins_empty():
    base = {"model": {"name": "gpt", "heads": 2}, "task": {"name": "copy", "n_test": 3}}
    assert overlay(base, {"model": {"name": "gpt", "width": 4}})["model"] == {"name": "gpt", "heads": 2, "width": 4}
    assert overlay(base, {"model": {"name": "attention"}}) == {**base, "model": {"name": "attention"}}
    assert overlay(base, {"task": {"n_test": 5}})["task"] == {"name": "copy", "n_test": 5}
    assert base["model"] == {"name": "gpt", "heads": 2}


def test_options_override_a_preset(landscape, tmp_path):
    (tmp_path / "c.toml").write_text("batch = 8\nsteps = 3\n[task]\nlength = 7\n")
    code, _, err = landscape(
        "train", "--task", "markov", "--preset", "quick", "--config", "c.toml", "--arch", "looped", "--arch", "shift",
        "--loops", "2", "--width", "4", "--set", "task.n_train=61", "--set", "task.n_probe=21", "--set",
        "task.n_test=20", "--set", "shift.check_every=2", "-q", "--checkpoints", "3",
    )  # fmt: skip
    assert code == 0, err
    run = Run.open("runs/markov-looped-s0")
    c = run.config
    assert (c.batch, c.steps, c.task.length, c.model.loops, c.model.width) == (8, 3, 7, 2, 4)
    assert c.shift is None
    assert Run.open("runs/markov-shift-s0").config.shift.check_every == 2


def test_settings_of_shift_in_a_preset_are_for_shift_alone(landscape):
    small = ["--set", "task.n_train=61", "--set", "task.n_probe=21", "--set", "task.n_test=20", "-q", "--steps", "3"]
    code, _, err = landscape("train", "--preset", "markov-paper", "--width", "4", *small)
    assert code == 0, err
    assert Run.open("runs/markov-single-s0").config.shift is None
    code, _, err = landscape("train", "--preset", "markov-paper", "--set", "shift.delta1=0.5", *small, "--runs", "x")
    assert code == 2
    assert "belong to arch 'shift'" in err


def test_another_model_than_that_of_the_preset(landscape):
    small = ["--set", "task.n_train=61", "--set", "task.n_probe=21", "--set", "task.n_test=20", "-q", "--steps", "3"]
    code, _, err = landscape("train", "--preset", "markov-quick", "--model", "gpt", "--width", "8", *small)
    assert code == 0, err
    model = Run.open("runs/markov-single-s0").config.model
    assert (model.name, model.width) == ("gpt", 8)


def test_presets_are_listed(landscape):
    code, out, _ = landscape("show", "--presets")
    assert code == 0
    assert all(name in out for name in presets())
    code, out, _ = landscape("show", "--presets", "--json")
    assert json.loads(out) == presets()
    assert landscape("show")[0] == 2
    assert landscape("show", "runs", "--presets")[0] == 2
    code, _, err = landscape("train", "--preset", "quick", "--from", "runs/a@3")
    assert code == 2
    assert "--preset says how a run begins" in err
