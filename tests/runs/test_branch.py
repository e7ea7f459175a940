"""Branches of runs: equality bit for bit."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from support.runs import Stop, identical, same_run, settings_of, stop_at

from landscape import LandscapeError, Run, RunConfig, train
from landscape.runs.branch import branch_config, branch_name, parse_source, stored_branch
from landscape.runs.reading import FILE_NAME, open_for_reading, read_header
from landscape.settings import difference
from landscape.training.trainer import Trainer


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "gd"])
@pytest.mark.parametrize("schedule", [{}, {"name": "wsd", "warmup": 5, "decay": 0.6}, {"name": "cosine"}])
def test_branch_without_changes_is_the_origin_bit_for_bit(config, tmp_path, optimizer, schedule):
    origin = train(config(schedule=schedule, **settings_of(optimizer)), tmp_path / "a")
    for step in (0, 2, int(origin.steps[-3])):
        c = branch_config(origin, step)
        assert difference(origin.config.to_dict(), c.to_dict())[0][0] == "origin"
        branch = train(c, tmp_path / f"b{step}")
        assert branch.steps[0] == step
        assert branch.steps[-1] == origin.steps[-1]
        same_run(branch, origin)


def test_steps_are_dense_after_the_branch_point(config, run):
    c = branch_config(run, int(run.steps[-1]), settings={"steps": 1000, "checkpoints": 8, "dense_checkpoints": 3})
    start = int(run.steps[-1])
    assert c.checkpoint_steps()[:4].tolist() == [start, start + 1, start + 2, start + 3]
    assert c.checkpoint_steps()[-1] == 1000
    later = np.diff(c.checkpoint_steps()[3:])
    assert (np.diff(later) > 0).all()
    assert c.evaluation_steps()[[0, -1]].tolist() == [start, 1000]


def test_another_end_keeps_the_learning_rates_of_the_origin(config, tmp_path):
    origin = train(config(schedule={"name": "cosine"}), tmp_path / "a")
    shorter = branch_config(origin, 2, settings={"steps": 11})
    assert (shorter.steps, shorter.schedule_steps) == (11, 20)
    branch = train(shorter, tmp_path / "b")
    assert torch.equal(branch.parameters[-1], origin.replay(2, 9)[-1])
    again = branch_config(branch, int(branch.steps[-2]))  # a branch of the branch
    assert (again.steps, again.schedule_steps) == (11, 20)
    changed = branch_config(origin, 2, settings={"steps": 11, "schedule": {"final": 0.5}})
    assert changed.schedule_steps is None
    assert changed.schedule.final == 0.5


def test_counters_go_on_from_the_origin(config, tmp_path):
    origin = train(config(arch="single"), tmp_path / "a")
    looped = train(branch_config(origin, 4, settings={"arch": "looped", "batch": 8}), tmp_path / "b")
    at = origin.metrics.sel(step=4)
    found = looped.metrics
    assert float(found.tokens[0]) == float(at.tokens)
    assert float(found.flops[0]) == float(at.flops)
    assert float(at.seconds) <= float(found.seconds[0]) < float(at.seconds) + 0.1  # no update yet
    new = Trainer(looped.config)
    seen = new.setup.samples_seen(20) - new.setup.samples_seen(4)
    assert float(found.tokens[-1]) == float(at.tokens) + 6 * seen
    assert float(found.flops[-1]) == float(at.flops) + seen * new.setup.flops_per_sample()
    assert (np.diff(found.seconds) >= 0).all()


def test_looped_from_single_starts_at_its_parameters_with_its_optimiser(config, tmp_path):
    origin = train(config(arch="single"), tmp_path / "a")
    c = branch_config(origin, 4, settings={"arch": "looped", "loops": 2})
    assert (c.arch, c.model.loops, c.model.width) == ("looped", 2, 4)
    branch = train(c, tmp_path / "b")
    assert torch.equal(branch.parameters[0], origin.parameters[origin.index(4)])
    assert torch.equal(branch.optimizer[0], origin.optimizer[origin.index(4)])
    assert not torch.equal(branch.parameters[1], origin.replay(4, 1)[1])
    back = branch_config(branch, int(branch.steps[-2]), settings={"arch": "single"})
    assert back.model.loops == 1
    assert branch_config(branch, 4).model.loops == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "stacked"}, "`stacked` has its own"),
        ({"model": {"width": 5}}, "its parameters do not fit"),
        ({"task": {"length": 7}}, "its parameters do not fit"),
    ],
)
def test_another_layout_is_refused(run, tmp_path, settings, message):
    with pytest.raises(LandscapeError, match=message):
        train(branch_config(run, 2, settings=settings), tmp_path / "b")
    assert not (tmp_path / "b" / FILE_NAME).exists()


@pytest.mark.parametrize(
    ("step", "options", "message"),
    [
        (3, {}, r"no checkpoint of step 3. The nearest are 0, 1, 2, 4"),
        (20, {}, "expected a branch to end after step 20"),
        (4, {"settings": {"steps": 4}}, "expected a branch to end after step 4"),
        (4, {"settings": {"optimizer": {"name": "sgd"}}}, "expected the optimiser 'adamw' of looped@4, found 'sgd'"),
        (4, {"settings": {"origin": {}}}, "leave `origin` out"),
        (4, {"settings": {"model": {"loops": 2}}}, "follows from the architecture"),
        (4, {"decay": 5, "settings": {"steps": 30}}, "sets its own steps"),
        (4, {"decay": 5, "settings": {"schedule": {"name": "cosine"}}}, "sets its own schedule"),
        (4, {"decay": 0}, "at least 1 step"),
        (4, {"settings": {"projection": {"k": 3}}}, r"expected a value of projection\.subspace"),
    ],
)
def test_what_contradicts_is_refused(run, step, options, message):
    with pytest.raises(LandscapeError, match=message):
        branch_config(run, step, **options)


def test_branch_is_its_own_and_resumes_without_the_origin(config, tmp_path):
    origin = train(config(), tmp_path / "a")
    c = branch_config(origin, 4)
    whole = train(c, tmp_path / "whole")
    for step in (4, 7):
        with pytest.raises(Stop):
            train(c, tmp_path / "b", progress=stop_at(step))
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    identical(whole, train(c, tmp_path / "b"))
    found = stored_branch(tmp_path / "b", str(tmp_path / "a"), 4, settings={"device": "cpu"})
    assert found == Run.open(tmp_path / "b").config
    with pytest.raises(LandscapeError, match=r"expected the run to branch from at .*/a, found none"):
        stored_branch(tmp_path / "b", str(tmp_path / "a"), 5)
    with pytest.raises(LandscapeError, match="expected a run file"):
        train(c, tmp_path / "new")
    # The same run under another name and place is the same origin; another run is not.
    moved = branch_config(Run.open(tmp_path / "elsewhere"), 4)
    assert moved != c
    assert train(moved, tmp_path / "b").status == "complete"
    train(config(), tmp_path / "a")
    with pytest.raises(LandscapeError, match=r"origin\.run_id"):
        train(branch_config(Run.open(tmp_path / "a"), 4), tmp_path / "b")
    with pytest.raises(LandscapeError, match="was used for another run"):
        train(c, tmp_path / "new")


def test_branch_killed_before_its_first_evaluation_needs_no_origin(config, tmp_path, monkeypatch):
    origin = train(config(), tmp_path / "a")
    c = branch_config(origin, 4)
    monkeypatch.setattr("landscape.runs.train._train", lambda *_: None)
    assert train(c, tmp_path / "b").steps.tolist() == [4]
    assert train(c, tmp_path / "b").metrics.sizes["step"] == 0
    monkeypatch.undo()
    with pytest.raises(LandscapeError, match="stopped before step 4 was evaluated"):
        branch_config(Run.open(tmp_path / "b"), 4)
    shutil.rmtree(tmp_path / "a")
    branch = train(c, tmp_path / "b")
    assert branch.metrics.step[0] == 4
    assert float(branch.metrics.seconds[0]) >= c.origin.seconds > 0


def test_files_without_the_new_settings_still_open(fresh_run):
    with h5py.File(fresh_run.path / FILE_NAME, "r+") as f:
        header = json.loads(f.attrs["header"])
        for key in ("origin", "projection", "schedule_steps"):
            del header["config"][key]
        from landscape.runs.reading import digest

        text = json.dumps(header)
        f.attrs["header"], f.attrs["header_sha256"] = text, digest(text)
    old = Run.open(fresh_run.path)
    assert old.config == fresh_run.config
    assert train(fresh_run.config, fresh_run.path).id == fresh_run.id
    assert torch.equal(old.replay(0, 1)[1], old.parameters[1])


def test_names_and_sources(run):
    assert parse_source("a@b/c@12") == ("a@b/c", 12)
    for bad in ("runs/a", "@3", "a@x", "a@-1"):
        with pytest.raises(LandscapeError, match="expected RUN@STEP"):
            parse_source(bad)
    projection = {"projection": {"subspace": "river"}}
    assert branch_name(branch_config(run, 4)) == "markov-looped-s0-from-4"
    assert branch_name(branch_config(run, 4, settings=projection)) == "markov-looped-s0-from-4-river"
    assert branch_name(branch_config(run, 4, settings=projection, decay=3)) == "markov-looped-s0-from-4-river-decay"


def test_config_of_a_branch_survives_its_text_form(run, tmp_path):
    c = branch_config(run, 4, settings={"projection": {"subspace": "valley", "k": 2}})
    assert RunConfig.from_dict(json.loads(json.dumps(c.to_dict()))) == c
    branch = train(c, tmp_path / "b")
    assert branch.config == c
    assert branch.config.origin.run_id == run.id
    with open_for_reading(branch.path / FILE_NAME) as f:
        assert read_header(f)["config"]["origin"]["step"] == 4
