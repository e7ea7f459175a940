import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.commands import run_command
from support.runs import SMALL, Stop, identical, same_study, stop_at

from landscape import Run, train
from landscape.answers.files import load
from landscape.grids import carry
from landscape.grids.carry import Standing, carry_out
from landscape.grids.grid import Grid
from landscape.grids.plan import Plan
from landscape.grids.price import price

PROBES = [
    {"name": "spectrum", "count": 3, "metrics": ["euclidean", "adam"], "settings": {"k": 2}},
    {"name": "samples", "at": ["last"]},
]
SEEN: list[Standing] = []
"""What was told while the grid of `whole` was carried out."""


def grid(**vary) -> Grid:
    return Grid.make(base=SMALL, vary=vary or {"arch": ["single", "looped"], "seed": [0, 1]}, probes=PROBES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The grid carried out without anything in its way."""
    folder = tmp_path_factory.mktemp("whole") / "runs"
    SEEN.clear()  # the fixture is made twice where another module's tests come between
    outcome = carry_out(grid(), folder, progress=SEEN.append)
    assert (outcome.runs, outcome.trained, outcome.answers, outcome.computed) == (4, 4, 24, 24)
    assert outcome.failures == ()
    return folder


def test_what_is_done_is_skipped(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    outcome = carry_out(grid(), whole)
    assert (outcome.trained, outcome.computed, outcome.stored) == (0, 0, 24)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()} == before
    assert Plan.of(grid(), whole).done


def test_a_grid_that_grows_computes_what_is_new(whole):
    outcome = carry_out(grid(arch=["single", "looped"], seed=[0, 1, 2]), whole)
    assert (outcome.runs, outcome.trained, outcome.computed, outcome.stored) == (6, 2, 12, 24)
    for path in whole.glob("*-s2"):  # as it was for the other tests
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        path.rmdir()


@pytest.mark.slow
def test_processes_give_the_same_numbers(whole, tmp_path):
    assert carry_out(grid(), tmp_path / "runs", jobs=2).failures == ()
    same_study(tmp_path / "runs", whole)


def test_a_failing_run_and_a_damaged_one_are_reported_and_stop_no_other(tmp_path):
    wanted = grid(**{"optimizer": ["sgd"], "optimizer.lr": [0.1, 1e30], "seed": [0, 1]})
    wanted = Grid(configs=wanted.configs, probes=wanted.probes[1:])
    bad = tmp_path / "markov-single-s0-optimizer=sgd-lr=0.1"
    bad.mkdir()
    (bad / "run.h5").write_text("no run")
    first = carry_out(wanted, tmp_path)
    assert (first.runs, first.trained, first.answers, first.computed) == (4, 1, 4, 1)
    reasons = {f.what.rpartition("/")[2]: str(f.error) for f in first.failures}
    assert len(reasons) == 3
    assert "damaged or foreign" in reasons.pop(bad.name)
    assert all("NaN or infinite" in reason for reason in reasons.values())
    assert (bad / "run.h5").read_text() == "no run"
    again = carry_out(wanted, tmp_path)
    assert (again.trained, again.computed, again.stored, len(again.failures)) == (0, 0, 1, 3)


def test_an_answer_that_cannot_be_had_is_reported_and_stops_no_other(tmp_path):
    wanted = Grid.make(base={**SMALL, "optimizer": "sgd"}, probes=PROBES)  # which has no second moments
    outcome = carry_out(wanted, tmp_path)
    assert (outcome.trained, outcome.answers, outcome.computed) == (1, 6, 4)
    (failure,) = outcome.failures
    assert failure.what.endswith("spectrum [adam]")
    damaged = next((tmp_path / "markov-single-s0" / "results").glob("samples-*.nc"))
    damaged.write_bytes(damaged.read_bytes()[:-200])
    assert sorted(f.what.rpartition("/")[2] for f in carry_out(wanted, tmp_path).failures) == [
        "markov-single-s0 samples",
        "markov-single-s0 spectrum [adam]",
    ]


def test_a_run_that_another_process_writes_is_waited_for(whole, tmp_path, monkeypatch):
    """As where a killed command has left a process that finishes its run."""
    name, config = next(iter(grid().configs.items()))
    code = f"""
import sys, time
from support.runs import SMALL
from landscape import RunConfig, train
def wait(p):
    if p.step == 7:
        print("here", flush=True)
        sys.stdin.readline()
train(RunConfig.make(**SMALL), {str(tmp_path / name)!r}, progress=wait)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert other.stdout.readline() == "here\n"
    alone = Grid(configs={name: config}, probes=())
    monkeypatch.setattr(carry, "PATIENCE", 0.0)
    (failure,) = carry_out(alone, tmp_path).failures
    assert "another process is writing" in str(failure.error)
    monkeypatch.setattr(carry, "PATIENCE", 600.0)
    seen = []
    monkeypatch.setattr("landscape.grids.training.time.sleep", lambda s: (seen.append(s), other.communicate("go\n")))
    outcome = carry_out(alone, tmp_path)
    assert seen
    assert outcome.failures == ()
    identical(Run.open(tmp_path / name), Run.open(whole / name))


@pytest.mark.slow
def test_an_interrupted_command_goes_on_where_it_was(whole, tmp_path):
    """Stopped in the second training, then among the answers; what was finished is not touched again."""
    runs = tmp_path / "runs"
    name = sorted(grid().configs)[-1]
    options = ["sweep", "--arch", "single", "--arch", "looped", "--seed", "0", "--seed", "1", "-q", "--device", "cpu"]
    flat = {"steps": 20, "batch": 16, "evaluate_every": 7, "checkpoints": 7, "dense_checkpoints": 2}
    flat |= {f"task.{k}": v for k, v in SMALL["task"].items()} | {"model.width": 4, "spectrum.k": 2}
    options += [x for k, v in flat.items() for x in ("--set", f"{k}={v}")]
    options += ["-p", "spectrum", "--count", "3", "--metric", "euclidean", "--metric", "adam"]
    hold = """
import sys, time
import landscape.{module} as m
old, n = m.{name}, 0
def stay(*a, **k):
    global n
    n += 1
    if n == {after}:
        print("here", flush=True)
        time.sleep(1000)
    return old(*a, **k)
m.{name} = stay
"""
    for module, function, after, end, code in [
        ("grids.training", "_train_one", 3, signal.SIGINT, 130),
        ("answers.measure", "_found", 4, signal.SIGKILL, -9),
    ]:
        process = run_command(*options, cwd=tmp_path, first=hold.format(module=module, name=function, after=after))
        assert process.stdout.readline() == "here\n"
        done = {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.suffix in (".h5", ".npz", ".nc")}
        assert len(done) == (2 if module == "grids.training" else 4 + 3)
        process.send_signal(end)
        _, said = process.communicate()
        assert process.returncode == code
        assert "Traceback" not in said
    finished = run_command(*options, cwd=tmp_path)
    _, said = finished.communicate()
    assert finished.returncode == 0, said
    kept = {p: p.stat().st_mtime_ns for p in done if p.exists()}
    assert kept == {p: t for p, t in done.items() if p.suffix == ".h5"}, "runs are not written again"
    identical(Run.open(runs / name), Run.open(whole / name))
    for path in whole.glob("*/results/spectrum-*.nc"):
        assert load(path).drop_attrs().equals(load(runs / path.relative_to(whole)).drop_attrs())


def test_an_unfinished_run_is_planned_from_its_last_checkpoint_and_priced_less(tmp_path):
    one = Grid(configs=dict(list(grid().configs.items())[:1]), probes=grid().probes)
    name, config = next(iter(one.configs.items()))
    whole_price = price(Plan.of(one, tmp_path))
    with pytest.raises(Stop):
        train(config, tmp_path / name, progress=stop_at(14))
    (training,) = Plan.of(one, tmp_path).trainings
    assert 0 < training.reached < 20
    assert not training.done
    left = price(Plan.of(one, tmp_path))
    assert all(0 < low < high for low, high in (*whole_price.trainings.values(), *left.answerings.values()))
    assert whole_price.timed == 2
    carry_out(one, tmp_path)
    nothing = price(Plan.of(one, tmp_path))
    assert nothing.seconds(jobs=2) == (0.0, 0.0)
    assert nothing.timed == 0


def test_progress_counts_up_to_all(whole):
    for phase, total in (("runs", 4), ("answers", 24)):
        found = [s for s in SEEN if s.phase == phase]
        assert {s.total for s in found} == {total}
        assert (found[-1].done, found[-1].share) == (total, 1.0)
        assert all(np.diff([s.share for s in found]) >= 0)
    assert any(s.running == "markov-single-s0 7/20" for s in SEEN)
