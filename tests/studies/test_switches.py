"""Runs that shift: they equal others bit for bit, and what their records say."""

import json
import math
import shutil

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from support.builders import render
from support.builders import shift as record
from support.commands import TINY
from support.runs import Stop, identical, small_config, stop_at

from landscape import LandscapeError, Run, sweep, train
from landscape.figures.shift import shift as draw
from landscape.runs.branch import branch_config
from landscape.runs.reading import FILE_NAME, open_for_reading, read_header
from landscape.studies.study import Study
from landscape.studies.switches import shift_record, shift_records, switch_steps
from landscape.training.evaluation import Evaluator
from landscape.training.shift import Shift, relative_changes
from landscape.training.trainer import Trainer

AT_6 = {"criterion": "fixed", "at": 6, "check_every": 4}
EAGER = {"delta1": 0.5, "delta2": 3.0, "patience": 2, "check_every": 3, "smoothing": 4.0}  # switches at step 9


def same_metrics(a, b, steps):
    """The two runs measured the same numbers at these steps."""
    x, y = (r.metrics.drop_vars("seconds").sel(step=steps) for r in (a, b))
    xr.testing.assert_equal(x, y)


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """single, shift at step 6, and shift by the criterion. Tests must not write into them."""
    folder = tmp_path_factory.mktemp("shift")
    return {
        "single": train(small_config("single"), folder / "single"),
        "fixed": train(small_config("shift", shift=AT_6), folder / "fixed"),
        "eager": train(small_config("shift", shift=EAGER), folder / "eager"),
    }


def test_first_stage_is_single_and_second_stage_is_the_branch(config, runs, tmp_path):
    single, shifted = runs["single"], runs["fixed"]
    assert shifted.steps.tolist() == sorted({*single.steps.tolist(), 6})
    before = [s for s in single.steps.tolist() if s < 6]
    for step in before:
        assert torch.equal(shifted.parameters[shifted.index(step)], single.parameters[single.index(step)])
    same_metrics(shifted, single, before)
    branch = train(branch_config(train(config("single", steps=6), tmp_path / "s"), 6, settings={"arch": "looped",
                   "steps": 20}), tmp_path / "b")  # fmt: skip
    assert torch.equal(branch.replay(6, 14), shifted.replay(6, 14))
    assert torch.equal(branch.optimizer[-1], shifted.optimizer[-1])
    same_metrics(branch, shifted, np.intersect1d(branch.metrics.step, shifted.metrics.step))


def test_the_switch_is_measured_on_both_sides(runs):
    run = runs["fixed"]
    ds = shift_record(run)
    assert int(ds.switch_step) == 6
    w = run.parameters[run.index(6)]
    for loops, side in ((1, "before"), (3, "after")):
        objective = run.objective("test", loops=loops)
        assert float(ds[f"loss_{side}"].sel(split="test", family="all")) == pytest.approx(
            float(objective.loss(w)), rel=1e-5
        )
    at = run.metrics.sel(step=6)
    xr.testing.assert_equal(ds.accuracy_after, at.accuracy.drop_vars("step").assign_attrs(ds.accuracy_after.attrs))
    assert np.array_equal(ds.accuracy_drop, ds.accuracy_before - ds.accuracy_after)
    assert {7, 8, 10} <= set(run.metrics.step.values.tolist())  # evaluations are dense after the switch


def test_recovery_is_the_first_evaluation_that_is_as_good(runs):
    run, ds = runs["fixed"], shift_record(runs["fixed"])
    for split in ("probe", "test"):
        for family in ("all", "simple", "complex"):
            curve = run.metrics.accuracy.sel(split=split, family=family)
            one = {"split": split, "family": family}
            good = [int(s) - 6 for s in curve.step if s >= 6 and curve.sel(step=s) >= ds.accuracy_before.sel(one)]
            assert bool(ds.recovered.sel(one)) == bool(good)
            assert not good or float(ds.recovery.sel(one)) == good[0]
    assert bool(ds.recovered.any())


def test_compute_is_one_pass_then_t(runs):
    run = runs["fixed"]
    one, three = (run.setup.flops_per_sample(loops=n) for n in (1, 3))
    seen = [run.setup.samples_seen(s) for s in (6, 20)]
    assert three > 2 * one
    assert float(shift_record(run).flops_before) == seen[0] * one
    assert float(run.metrics.flops[-1]) == seen[0] * one + (seen[1] - seen[0]) * three
    assert float(run.metrics.tokens[-1]) == 6 * seen[1]


def test_checks_are_stored_and_repeat_the_criterion(runs):
    ds = shift_record(runs["eager"])
    assert int(ds.switch_step) == 9
    assert ds.check_step.values.tolist() == [3, 6, 9]
    assert set(runs["eager"].steps) - set(runs["single"].steps) == {9}  # the switch is a checkpoint
    assert ds.loops.values.tolist() == [1, 1, 3]
    assert ds["count"].values.tolist() == [0, 1, 2]
    improvement, change = relative_changes(ds.loss.values, ds.gradient_norm.values)
    assert np.allclose(improvement, ds.improvement, rtol=1e-9, equal_nan=True)
    assert np.allclose(change, ds.gradient_change, rtol=1e-9, equal_nan=True)
    grid = switch_steps(ds, delta1=[0.5, -1.0], delta2=[3.0], patience=[1, 2, 3]).squeeze()
    assert grid.switch_step.values[0].tolist()[:2] == [6, 9]
    assert grid.censored.values.tolist() == [[False, False, True], [True, True, True]]


def test_what_was_watched_answers_for_other_thresholds(config, runs, tmp_path):
    """A run that only watches tells when others switch."""
    never = train(config("shift", shift={**EAGER, "criterion": "never"}), tmp_path / "never")
    same_metrics(never, runs["single"], runs["single"].metrics.step)
    assert int(shift_record(never).switch_step) == -1
    assert np.isnan(shift_record(never).recovery).all()
    grid = switch_steps(shift_record(never), delta1=[0.5, 0.05], delta2=[3.0], patience=[1, 2])
    assert not grid.censored.any()
    nothing = switch_steps(shift_record(never), delta1=[-1.0], delta2=[3.0], patience=[1])
    assert bool(nothing.switch_step.isnull().all())
    assert not nothing.censored.any()
    for delta1 in (0.5, 0.05):
        for patience in (1, 2):
            settings = {**EAGER, "delta1": delta1, "patience": patience}
            run = train(config("shift", shift=settings), tmp_path / f"{delta1}-{patience}")
            expected = float(grid.switch_step.sel(delta1=delta1, patience=patience, delta2=3.0))
            assert int(shift_record(run).switch_step) == (-1 if math.isnan(expected) else expected)


@pytest.mark.parametrize("shift", [AT_6, EAGER, {**AT_6, "keep_optimizer": False}])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_interrupted_around_the_switch_and_continued(config, tmp_path, shift, optimizer):
    c = config("shift", shift=shift, optimizer={"name": optimizer, "lr": 0.01}, dtype="float32")
    whole = train(c, tmp_path / "a")
    for step in (1, 4, 6, 7, 9, 10):
        with pytest.raises(Stop):
            train(c, tmp_path / "b", progress=stop_at(step))
    again = train(c, tmp_path / "b")
    identical(whole, again)
    drop = ["seconds", "flops_before"]
    xr.testing.assert_equal(shift_record(whole).drop_vars(drop), shift_record(again).drop_vars(drop))
    assert float(shift_record(whole).flops_before) == float(shift_record(again).flops_before)


def test_metrics_beyond_the_last_checkpoint_are_kept(config, runs, tmp_path):
    """Killed after the switch was noted, before its checkpoint: what is written again comes out the same."""
    whole = runs["fixed"]
    shutil.copytree(whole.path, tmp_path / "killed")
    with h5py.File(tmp_path / "killed" / FILE_NAME, "r+") as f:
        f["status"][0] = 0
        f["step"][whole.index(6) :] = -1
        f["metrics/step"][int(np.flatnonzero(whole.metrics.step == 8)[0]) :] = -1
    again = train(whole.config, tmp_path / "killed")
    identical(whole, again)
    assert shift_record(again).check_step.equals(shift_record(whole).check_step)


def test_a_new_optimiser_at_the_switch(config, tmp_path):
    """Its first update has the size of the learning rate in every entry, as Adam's first has."""
    lr = 0.003
    plain = {"optimizer": {"name": "adamw", "lr": lr, "weight_decay": 0.0}, "dtype": "float64"}
    run = train(config("shift", shift={**AT_6, "keep_optimizer": False}, **plain), tmp_path / "a")
    assert not run.optimizer[run.index(6)].any()
    path = run.replay(4, 4)
    moved = (path[3] - path[2]).abs()
    assert torch.allclose(moved[moved > 1e-5], torch.tensor(lr, dtype=torch.float64), rtol=1e-3)
    assert run.optimizer_since(4) == 0
    assert run.optimizer_since(6) == 6
    branch = train(branch_config(run, 6, settings={"arch": "looped"}), tmp_path / "b")
    assert branch.config.origin.optimizer_since == 6
    assert torch.equal(branch.parameters[-1], run.parameters[-1])
    with pytest.raises(LandscapeError, match="there is none at step 0"):
        run.rescaled(run.objective(at=6), "adam", step=6)
    again = Trainer(run.config)
    again.load(run.state(6))
    assert again._optimizer.state[again._w]["step"] == 0


def test_replay_crosses_the_switch(runs):
    run = runs["fixed"]
    path = run.replay(0, 20)
    assert torch.equal(path[run.steps], run.parameters[:])


def test_everything_built_from_a_checkpoint_has_the_loops_in_force(runs):
    run = runs["fixed"]
    assert [run.loops_at(s) for s in run.steps.tolist()] == [1 if s < 6 else 3 for s in run.steps]
    x = run.task.split("probe").inputs
    for step, loops in ((4, 1), (6, 3), (20, 3)):
        module = run.module(step)
        assert module.loops == loops
        assert torch.allclose(module(x), run.module(step, loops=loops)(x))
        w = run.parameters[run.index(step)]
        assert torch.equal(run.objective(at=step).loss(w), run.objective(loops=loops).loss(w))
    w = run.parameters[-1]
    assert run.objective(at=20).loss(w) != run.objective(at=20, loops=1).loss(w)
    assert run.objective().loss(w) == run.objective(loops=1).loss(w)  # without a step: as it begins


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_sweeps_follow_the_switch(runs, tmp_path, jobs):
    """One objective serves all checkpoints, but not both stages."""
    shutil.copytree(runs["fixed"].path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    found = sweep("samples", run, seed=0, jobs=jobs)
    for step in run.steps.tolist():
        objective = run.objective(loops=1 if step < 6 else 3)
        expected = objective.per_sample(run.parameters[run.index(step)]).numpy()
        assert np.allclose(found.loss.sel(step=step), expected, rtol=1e-12)


def test_branches_of_runs_that_shift(config, runs, tmp_path):
    run = runs["eager"]
    for step in (4, 11):  # before the switch, and after it
        branch = train(branch_config(run, step), tmp_path / f"b{step}")
        assert branch.config.shift == run.config.shift
        assert torch.equal(branch.parameters[-1], run.parameters[-1])
        assert float(branch.metrics.flops[-1]) == float(run.metrics.flops[-1])
    back = branch_config(run, 11, settings={"arch": "single"})
    assert (back.shift, back.model.loops) == (None, 1)
    on = branch_config(run, 11, settings={"arch": "looped"})
    assert (on.shift, on.model.loops) == (None, 3)
    assert torch.equal(train(on, tmp_path / "on").parameters[-1], run.parameters[-1])
    fresh = train(branch_config(runs["single"], 4, settings={"arch": "shift", "loops": 2, "shift": EAGER}),
                  tmp_path / "c")  # fmt: skip
    assert shift_record(fresh).check_step.values.tolist()[0] == 6
    settings = {"arch": "shift", "shift": {"criterion": "fixed", "at": 3}}
    with pytest.raises(LandscapeError, match=r"shift\.at after step 4, where the branch starts, found 3"):
        branch_config(runs["single"], 4, settings=settings)


def test_the_monitor_does_not_disturb_training(config):
    a, b = Trainer(config("single")), Trainer(config("shift", shift={"criterion": "never", "check_every": 2}))
    a.advance(9)
    b.advance(9)
    assert torch.equal(a.state().w, b.state().w)
    assert len(b.checks()) == 4
    assert b.checks() == []
    row = Evaluator(b)()
    assert (row["tokens"], row["flops"]) == (a.tokens, a.flops)


def test_files_of_earlier_versions_open_and_continue(config, tmp_path):
    """Without the new settings in the header, and without a place for the largest memory."""
    run = train(config("single"), tmp_path / "a")
    assert run.metrics.attrs["peak_memory"] > 2**20
    path = run.path / FILE_NAME
    with open_for_reading(path) as f:
        header = read_header(f)
    del header["config"]["shift"]
    from landscape.runs.reading import digest

    with h5py.File(path, "r+") as f:
        text = json.dumps(header)
        f.attrs["header"], f.attrs["header_sha256"] = text, digest(text)
        del f["peak_memory"]
        f["status"][0] = 0
    old = Run.open(run.path)
    assert math.isnan(old.metrics.attrs["peak_memory"])
    assert train(config("single"), run.path).complete


def test_peak_memory_survives_recovery(config, tmp_path):
    c = config("shift", shift=AT_6)
    with pytest.raises(Stop):
        train(c, tmp_path / "a", progress=stop_at(7))
    first = Run.open(tmp_path / "a").metrics.attrs["peak_memory"]
    assert train(c, tmp_path / "a").metrics.attrs["peak_memory"] >= first > 0


# -- records, tables, figure ------------------------------------------------------------------------------------------


def test_records_of_a_study(runs):
    found = Study(runs.values()).results("shift")
    assert [ds.attrs["arch"] for ds in found] == ["single", "shift", "shift"]
    plain = found[0]
    assert (plain.sizes["check"], int(plain.switch_step), int(plain.final_loops)) == (0, -1, 1)
    assert found[1].attrs["at"] == 6
    xr.testing.assert_equal(found[2], shift_record(runs["eager"]))
    with pytest.raises(LandscapeError, match="at least one run that shifts"):
        shift_records([runs["single"]])
    with pytest.raises(LandscapeError, match="with its checks, found none"):
        switch_steps(plain, delta1=[0.1], delta2=[0.1], patience=[1])


def test_figure_places_every_run(runs):
    figure = draw([shift_record(r) for r in runs.values()])
    render(figure)
    xs = sorted(float(line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_marker() not in ("None", ""))
    assert xs == [6, 9]
    never = record("shift", 3, at=300)
    never["switch_step"] = -1
    never["accuracy_drop"] = never["accuracy_drop"] * np.nan
    figure = draw([record("looped", 0), record("shift", 1, at=300, delta1=0.1), never], x="delta1")
    render(figure)
    assert [len(ax.lines) for ax in figure.axes] == [4, 4, 2]  # points, the line of their means, the looped model
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"x": "patience"}, "expected x to be one of"),
        ({"split": "train"}, "expected split 'train'"),
        ({"family": "odd"}, "expected family 'odd'"),
    ],
)
def test_wrong_settings_of_the_figure_are_explained(settings, message):
    with pytest.raises(LandscapeError, match=message):
        draw([record("shift", 1, at=300)], **settings)
    with pytest.raises(LandscapeError, match="at least one run that shifts"):
        draw([record("looped", 0)])


def test_command_line(landscape, tmp_path):
    sets = [f"--set=shift.{k}={v}" for k, v in EAGER.items()]
    code, out, err = landscape("train", "--arch", "single", "--arch", "shift", *sets, *TINY, "--runs", tmp_path)
    assert code == 0, err
    runs = {p.name.split("-")[1]: Run.open(p) for p in tmp_path.iterdir()}
    assert runs["single"].config.shift is None
    assert runs["shift"].config.shift == Shift(**EAGER)
    code, out, _ = landscape("show", tmp_path)
    assert code == 0
    assert "shift: from one pass to T loops" in out
    code, out, _ = landscape("show", tmp_path, "--json")
    found = {d["config"]["arch"]: d for d in json.loads(out)}
    assert found["single"]["shift"] == {}
    assert found["shift"]["shift"]["switch_step"] == int(shift_record(runs["shift"]).switch_step)
    assert found["shift"]["peak_memory"] > 0
    assert landscape("plot", tmp_path, "shift", "-o", tmp_path / "f", "--format", "png")[0] == 0
    code, _, err = landscape("train", "--set", "shift.delta1=0.1", *TINY, "--runs", tmp_path / "x")
    assert code == 2
    assert "belong to arch 'shift'" in err


def test_thresholds_are_the_ticks_of_their_axis():
    runs = [record("shift", s, at=100, delta1=d) for s, d in enumerate((0.003, 0.01, 0.03))]
    figure = draw(runs, x="delta1")
    for ax in figure.axes:
        low, high = ax.get_xlim()
        assert [t for t in ax.get_xticks() if low <= t <= high] == [0.003, 0.01, 0.03]
        assert not len(ax.get_xticks(minor=True))
