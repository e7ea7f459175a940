"""Every way of going from one pass to T: what a checkpoint's model is, the same for all who ask."""

import shutil

import numpy as np
import pytest
import torch
from support.runs import Stop, identical, small_config, stop_at

from landscape import LandscapeError, Run, sweep, train
from landscape.runs.branch import branch_config
from landscape.studies.switches import shift_record
from landscape.training.passes import Passes, model_passes, update_passes

AT_6 = {"criterion": "fixed", "at": 6, "check_every": 4}
MODES = {
    "ramp": {"mode": "ramp", "ramp_steps": 8},
    "gate": {"mode": "gate"},
    "staged": {"mode": "staged", "stage_steps": 5},
    "sample": {"mode": "sample"},
}
POST = {"width": 4, "norm": "post"}


def config_of(mode, **changes):
    return small_config("shift", **{"shift": {**AT_6, **MODES[mode]}, "checkpoints": 12, **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run of each mode, which all switch at step 6. Tests must not write into them."""
    folder = tmp_path_factory.mktemp("modes")
    return {mode: train(config_of(mode), folder / mode) for mode in MODES}


def passes(mode, steps, *, of=model_passes, loops=3, seed=0, **shift):
    config = small_config("shift", loops=loops, seed=seed, shift={**AT_6, **MODES[mode], **shift})
    return [of(config, step, 6 if step >= 6 else -1) for step in steps]


def test_passes_of_every_mode():
    assert passes("ramp", (0, 5, 6, 8, 13, 14, 99)) == [
        Passes(1), Passes(1), *(Passes(3, w) for w in (0.0, 0.25, 0.875, 1.0, 1.0)),
    ]  # fmt: skip
    assert [p.loops for p in passes("staged", (5, 6, 10, 11, 15, 16, 99), loops=4)] == [1, 2, 2, 3, 3, 4, 4]
    assert passes("gate", (5, 6)) == passes("sample", (5, 6)) == [Passes(1), Passes(3)]
    for mode in ("ramp", "gate", "staged"):  # what is trained is what is evaluated
        assert passes(mode, range(30)) == passes(mode, range(30), of=update_passes)


def test_drawn_loops_are_uniform_and_depend_on_seed_and_step_alone():
    after = range(6, 3006)
    found = passes("sample", after, of=update_passes)
    counts = np.bincount([p.loops for p in found])
    assert len(counts) == 4
    assert counts[0] == 0
    assert (np.abs(counts[1:] - 1000) < 5 * np.sqrt(1000 * 2 / 3)).all()  # binomial, five standard deviations
    assert {p.weight for p in found} == {1.0}
    assert found[::-1] == passes("sample", after[::-1], of=update_passes)
    assert found != passes("sample", after, of=update_passes, seed=1)
    assert passes("sample", range(6), of=update_passes) == [Passes(1)] * 6


def test_the_smallest_number_drawn_rises_to_t():
    found = np.array([p.loops for p in passes("sample", range(6, 3006), of=update_passes, sample_steps=2000)])
    for first, last, low in ((0, 1000, 1), (1000, 2000, 2), (2000, 3000, 3)):
        assert set(found[first:last]) == set(range(low, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift": {"mode": "soft"}}, "found 'soft'"),
        ({"shift": {"ramp_steps": 0}}, r"shift\.ramp_steps >= 1, found 0"),
        ({"shift": {"stage_steps": 0}}, r"shift\.stage_steps >= 1, found 0"),
        ({"shift": {"sample_steps": 0}}, r"shift\.sample_steps >= 1, or null; found 0"),
        ({"model": {"scale": "learned"}}, "both or neither, found 'hard' with 'learned'"),
        ({"model": {"scale": 1}, "shift": {"mode": "gate"}}, "both or neither, found 'gate' with 1"),
        ({"model": {"name": "gpt"}, "shift": {"mode": "gate"}}, "both or neither, found 'gate' with None"),
    ],
)
def test_wrong_settings_are_explained(settings, message):
    with pytest.raises(LandscapeError, match=message):
        small_config("shift", **settings)


@pytest.mark.parametrize("model", [{"width": 4}, POST, {"width": 4, "attention": "linear", "inject": True}], ids=str)
@pytest.mark.parametrize("mode", ["ramp", "gate"])
def test_ramp_and_gate_start_as_the_single_model(mode, model, tmp_path):
    """The loss at the switch is that of one pass; so are all updates up to it, to the last bit."""
    run = train(config_of(mode, model=model), tmp_path / "a")
    w = run.parameters[run.index(6)]
    # One pass has a kernel of its own, which rounds otherwise.
    one, all_passes = run.objective(at=6, loops=1).per_sample(w), run.objective(at=6).per_sample(w)
    torch.testing.assert_close(all_passes, one, rtol=1e-14, atol=0)
    record = shift_record(run)
    assert int(record.switch_step) == 6
    assert not record.accuracy_drop.any()
    assert record.loss_before.equals(record.loss_after)
    same = {k: v for k, v in run.config.to_dict()["model"].items() if k not in ("loops", "layers")}
    one = train(small_config("single", steps=7, model=same), tmp_path / "b")
    n = 7 if mode == "ramp" else 6  # the first update of a gate moves the gate too
    assert torch.equal(run.replay(0, n), one.replay(0, n))
    end = run.parameters[-1]
    assert not torch.allclose(run.objective(at=20).loss(end), run.objective(loops=1).loss(end), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_interrupted_anywhere_and_continued(mode, tmp_path):
    c = config_of(mode, optimizer={"name": "adamw", "lr": 0.01})
    whole = train(c, tmp_path / "a")
    for step in (1, 4, 6, 7, 9, 10, 14):
        with pytest.raises(Stop):
            train(c, tmp_path / "b", progress=stop_at(step))
    identical(whole, train(c, tmp_path / "b"))


@pytest.mark.parametrize("mode", MODES)
def test_replays_and_branches_repeat_the_training(mode, runs, tmp_path):
    run = runs[mode]
    inside = next(int(s) for s in run.steps if 8 <= s < 14)
    path = run.replay(0, 20)
    assert torch.equal(path[run.steps], run.parameters[:])
    assert torch.equal(run.replay(inside, 20 - inside)[-1], run.parameters[-1])
    branch = train(branch_config(run, inside), tmp_path / "b")
    assert torch.equal(branch.parameters[-1], run.parameters[-1])
    assert float(branch.metrics.flops[-1]) == float(run.metrics.flops[-1])


@pytest.mark.parametrize("mode", MODES)
def test_everyone_is_told_the_same_model(mode, runs):
    """Metrics, module, objective, and the loss that the next update went down."""
    run = runs[mode]
    x = run.task.split("probe")
    for step in run.steps.tolist():
        w, here = run.parameters[run.index(step)], run.passes_at(step)
        assert here == model_passes(run.config, step, 6 if step >= 6 else -1)
        assert run.loops_at(step) == here.loops
        objective = run.objective(at=step)
        loss = float(objective.loss(w))
        assert float(run.metrics.loss.sel(step=step, split="probe", family="all")) == pytest.approx(loss, rel=1e-5)
        module = run.module(step)
        assert (module.loops, module.weight) == (here.loops, here.weight)
        outputs = module(x.inputs).detach()
        assert float(run.task.per_sample_loss(outputs, x.targets).mean()) == pytest.approx(loss, rel=1e-5)
        if mode != "sample" and step < 20:
            inputs, targets = run.setup.batch(step)
            trained = run.setup.loss(w, inputs, targets, loops=update_passes(run.config, step, 6 if step >= 6 else -1))
            again = run.task.per_sample_loss(module(inputs), targets).mean()
            assert float(trained) == pytest.approx(float(again.detach()), rel=1e-6)


@pytest.mark.parametrize("mode", ["staged", "sample", "ramp"])
def test_compute_is_that_of_the_passes_made(mode, runs):
    run = runs[mode]
    cost = {n: run.setup.flops_per_sample(loops=n) for n in (1, 2, 3)}
    assert cost[1] < cost[2] < cost[3]
    expected = 0.0
    for step in range(20):
        n = update_passes(run.config, step, 6 if step >= 6 else -1).loops
        expected += (run.setup.samples_seen(step + 1) - run.setup.samples_seen(step)) * cost[n]
    assert float(run.metrics.flops[-1]) == expected


def test_the_record_knows_the_loops_in_force(runs, tmp_path):
    found = {mode: shift_record(run) for mode, run in runs.items()}
    assert [int(ds.loops[-1]) for ds in found.values()] == [3, 3, 2, 3]
    assert [int(ds.final_loops) for ds in found.values()] == [3, 3, 3, 3]
    shorter = train(config_of("staged", steps=8), tmp_path / "a")
    assert int(shift_record(shorter).final_loops) == 2


def test_a_sweep_follows_the_ramp(runs, tmp_path):
    """One objective does not serve checkpoints with different weights."""
    shutil.copytree(runs["ramp"].path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    found = sweep("samples", run, seed=0)
    for step in run.steps.tolist():
        w = run.parameters[run.index(step)]
        expected = run.objective(loops=run.passes_at(step)).per_sample(w).numpy()
        assert np.allclose(found.loss.sel(step=step), expected, rtol=1e-12)
    middle = next(s for s in run.steps.tolist() if 6 < s < 14)
    whole = run.objective(loops=3).per_sample(run.parameters[run.index(middle)]).numpy()
    assert not np.allclose(found.loss.sel(step=middle), whole, rtol=1e-6)


def test_the_gate_is_a_parameter_that_waits_for_the_switch(runs):
    run = runs["gate"]
    assert run.config.model.scale == "learned"
    gate = [float(run.tensors(s)["scale"]) for s in run.steps.tolist()]
    assert all((g == 0) == (s <= 6) for g, s in zip(gate, run.steps.tolist(), strict=True))
    assert run.layout.size == runs["ramp"].layout.size + 1


def test_the_practical_model_ramps(tmp_path):
    settings = {"model": {"name": "gpt", "width": 8, "heads": 2}, "steps": 12}
    run = train(config_of("ramp", **settings), tmp_path / "a")
    assert run.module(6).weight == 0.0
    record = shift_record(run)
    assert record.loss_before.equals(record.loss_after)
    assert torch.equal(run.replay(0, 12)[run.steps], run.parameters[:])
