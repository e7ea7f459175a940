"""The commands as a user runs them. Most run in this process; streams and exit codes are those of `main`."""

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support.commands import TINY, run_command
from support.runs import BAD_FILES, make_bad_file
from support.workers import wait_for

from landscape import Run
from landscape.answers import pool
from landscape.cli import main
from landscape.runs.reading import FILE_NAME


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """The folder in which the command trained two runs."""
    folder, out = tmp_path_factory.mktemp("trained"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["landscape", "train", "--arch", "single", "--arch", "looped", *TINY])
        with pytest.raises(SystemExit) as stop:
            main()
    assert stop.value.code == 0
    assert "markov-single-s0" in out.getvalue()
    return folder


@pytest.fixture
def trained(trained_once, landscape, tmp_path):
    shutil.copytree(trained_once / "runs", tmp_path / "runs")
    return landscape


@pytest.mark.slow
def test_the_whole_job(trained, tmp_path):
    code, out, _ = trained(
        "probe", "runs", "-q", "--set", "spectrum.k=2", "--set", "valley.top=1", "--set", "surface.points=4"
    )
    assert code == 0
    assert all(f"{p}:" in out for p in ("spectrum", "valley", "samples", "surface"))
    code, out, err = trained("plot", "runs")
    assert code == 0, err
    pictures = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert {
        f"{n}.{k}" for n in ("learning", "eigenvalues", "widths", "trajectories", "surface") for k in ("pdf", "png")
    } <= set(pictures)
    assert all((tmp_path / "figures" / p).stat().st_size > (500 if p.endswith(".txt") else 5000) for p in pictures)
    assert "figures/learning.png" in out.split()
    code, out, _ = trained("show", "runs")
    assert code == 0
    assert "Bayes" in out


def test_repeating_a_command_changes_nothing(trained, tmp_path):
    trained("probe", "runs", "-q", "-p", "samples")
    before = {
        p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "runs").rglob("*") if p.is_file() and p.suffix
    }
    assert trained("train", "--arch", "single", "--arch", "looped", *TINY)[0] == 0
    assert trained("probe", "runs", "-q", "-p", "samples")[0] == 0
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before}


def test_show_one_run_and_json(trained):
    code, out, _ = trained("show", "runs/markov-looped-s0")
    assert code == 0
    assert "complete, step 12 of 12" in out
    code, out, err = trained("show", "runs", "--json")
    described = json.loads(out)
    assert [d["config"]["arch"] for d in described] == ["single", "looped"]
    assert described[0]["checkpoints"][-1] == 12
    assert err == ""


def test_probe_json_is_json_and_nothing_else(trained):
    code, out, _ = trained("probe", "runs", "-p", "spectrum", "--steps", "0,12", "--set", "spectrum.k=1", "--json")
    assert code == 0
    assert [row["run"] for row in json.loads(out)["spectrum"]] == ["markov-single-s0", "markov-looped-s0"]


def test_steps_every_and_parameters(trained):
    assert trained("probe", "runs/markov-single-s0", "-q", "-p", "samples", "--every", "3")[0] == 0
    (file,) = Run.open("runs/markov-single-s0").path.glob("results/samples-*.nc")
    from landscape import load

    steps = Run.open("runs/markov-single-s0").steps.tolist()
    assert load(file).step.values.tolist() == sorted({*steps[::3], steps[-1]})
    code, _, _ = trained("probe", "runs", "-q", "-p", "spectrum", "--parameters", "blocks.*", "--steps", "12")
    assert code == 0


def test_config_file_is_overlaid_by_options(landscape, tmp_path):
    (tmp_path / "run.toml").write_text(
        "steps = 9\nbatch = 8\ncheckpoints = 4\n[task]\nn_train = 20\nn_probe = 8\nn_test = 8\n[model]\nwidth = 4\n"
        '[optimizer]\nname = "sgd"\nlr = 0.01\n'
    )
    code, _, err = landscape("train", "--config", "run.toml", "--steps", "7", "--lr", "0.02", "-o", "mine", "-q")
    assert code == 0, err
    config = Run.open(tmp_path / "mine").config
    assert (config.steps, config.batch, config.optimizer.name, config.optimizer.lr) == (7, 8, "sgd", 0.02)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[1, 2]", "expected a table of settings"),
        ("a.json", b"{", "not valid JSON"),
        ("a.toml", b"\xff\xfe", "not valid TOML"),
        ("a.toml", b"x = ", "not valid TOML"),
        ("a.toml", b"optimizer = 3", "expected optimizer to be a group"),
        ("a.toml", b"d = 2020-01-01", "unknown setting"),
        ("a.toml", b'arch = ["single"]', "unknown architecture"),
    ],
)
def test_bad_config_files_are_one_message(landscape, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    code, _, err = landscape("train", "--config", name, *TINY)
    assert (code, message in err) == (2, True), err
    code, _, err = landscape("train", "--config", name, "--lr", "0.1")
    assert code == 2


def test_folders_that_cannot_be_made(trained, tmp_path):
    (tmp_path / "file").write_text("")
    for args in (["-o", "file/sub"], ["--runs", "file/x"]):
        code, _, err = trained("train", *TINY, *args)
        assert (code, "Choose a folder" in err) == (2, True), err
    code, _, err = trained("plot", "runs", "learning", "-o", "file/x")
    assert (code, "may be written" in err) == (1, True), err


def test_one_question_that_cannot_be_answered_does_not_stop_the_others(landscape):
    assert landscape("train", "--arch", "single", *TINY, "--checkpoints", "2", "-o", "two")[0] == 0
    code, out, err = landscape("probe", "two", "-q", "-p", "surface", "-p", "samples")
    assert code == 2
    assert "three or more checkpoints" in err
    assert "samples:" in out


def test_the_same_run_named_twice_is_one_run(landscape):
    code, out, _ = landscape("train", "--arch", "single", "--arch", "single", *TINY)
    assert (code, out.count("markov-single-s0")) == (0, 1)


def test_a_foreign_file_among_results_hides_nothing(trained, tmp_path):
    trained("probe", "runs", "-q", "-p", "samples")
    (tmp_path / "runs" / "markov-single-s0" / "results" / "samples-zzzzzz.nc").write_text("x")
    with pytest.warns(UserWarning, match="damaged or foreign"):
        code, _, _ = trained("plot", "runs", "trajectories", "--format", "svg")
    assert code == 0


def test_full_batch_and_gradient_descent(landscape):
    assert landscape("train", "--optimizer", "gd", *[a for a in TINY if a not in ("--batch", "16")], "-o", "gd")[0] == 0
    assert Run.open("gd").config.batch is None
    assert landscape("train", "--batch", "full", *[a for a in TINY if a not in ("--batch", "16")], "-o", "full")[0] == 0
    assert Run.open("full").config.batch is None


@pytest.mark.slow
def test_runs_in_parallel_equal_runs_one_by_one(landscape):
    import torch

    args = ["train", "--arch", "single", "--seed", "0", "--seed", "1", *TINY]
    assert landscape(*args)[0] == 0
    assert landscape(*args, "--runs", "both", "--jobs", "2")[0] == 0
    for seed in (0, 1):
        a, b = (Run.open(f"{root}/markov-single-s{seed}") for root in ("runs", "both"))
        assert torch.equal(a.parameters[:], b.parameters[:])
    assert landscape("train", "--arch", "looped", "--seed", "0", "--seed", "1", *TINY)[0] == 0
    shown = landscape("show", "runs")[1]
    assert "Over seeds" in shown
    assert "Against looped" in shown
    assert "Against single" in landscape("show", "runs", "--against", "single")[1]
    code, _, err = landscape("show", "runs", "--against", "stacked")
    assert code == 2
    assert "expected one of the kinds" in err


def test_settings_are_varied_in_all_combinations(landscape):
    vary = ["--vary", "shift.delta1=0.1,0.3", "--vary", "shift.patience=2,3", "--vary", "optimizer.lr=0.01"]
    assert landscape("train", "--arch", "shift", "--seed", "0", "--seed", "1", *vary, *TINY)[0] == 0
    found = {p.name: Run.open(p).config for p in Path("runs").iterdir()}
    assert len(found) == 8
    config = found["markov-shift-s1-delta1=0.3-patience=2-lr=0.01"]
    assert (config.seed, config.shift.delta1, config.shift.patience, config.optimizer.lr) == (1, 0.3, 2, 0.01)
    assert "shift (delta1 0.3, patience 2)" in " ".join(landscape("show", "runs")[1].split())


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["train", "--vary", "shift.delta1=0.1"], 2, "belong to arch 'shift'"),
        (["train", "--vary", "seed"], 2, "expected --vary NAME=VALUE,VALUE.., found 'seed'"),
        (["train", "--vary", "batch=8,"], 2, "expected --vary NAME=VALUE"),
        (["train", "--vary", "task.path=a,C:b"], 2, "part of a folder's name"),
        (["train", "--vary", "task.path=a/b,a-b"], 2, "values that differ as part of a folder's name"),
        (["train", "--vary", "batch=8", "--vary", "batch=9"], 2, "every setting of --vary once"),
        (["train", "--vary", "batch=8,16", "-o", "x"], 2, "Use --runs"),
        (["train", "--arch", "loopy"], 2, "Invalid value for '--arch'"),
        (["train", "--set", "task.lenght=3"], 2, "Did you mean 'length'"),
        (["train", "--set", "steps=many"], 2, "expected config.steps to be int"),
        (["train", "--loops", "5"], 2, "says nothing about --arch single"),
        (["train", "--batch", "some"], 2, "whole number or `full`"),
        (["train", "--seed", "0", "--seed", "1", "-o", "x"], 2, "Use --runs"),
        (["train", "--config", "none.toml"], 2, "does not exist"),
        (["probe", "nowhere"], 2, "expected a run"),
        (["probe", "nowhere", "-p", "spectre"], 2, "Invalid value for '-p'"),
        (["plot", "nowhere"], 2, "neither a path nor a figure"),
        (["show", "nowhere"], 2, "expected a run"),
        (["shew"], 2, "No such command 'shew'"),
        (["train", "--device", "cuda"], 2, "finds no GPU"),
    ],
)
def test_bad_use_is_one_message_and_code_2(landscape, args, code, message):
    if "cuda" in args:
        import torch

        if torch.cuda.is_available():
            pytest.skip("needs a machine without GPU")
    found, out, err = landscape(*args)
    assert found == code
    assert message in err
    assert out == ""


def test_bad_probe_settings_are_found_before_anything_is_computed(trained, tmp_path):
    for setting, message in (
        ("spectrum.kk=1", "'kk'"),
        ("spectrum.k=x", "spectrum.k to be int"),
        ("nothing.k=1", "no such"),
    ):
        code, _, err = trained("probe", "runs", "-q", "--set", setting)
        assert (code, message in err) == (2, True), err
    assert trained("probe", "runs", "-q", "--steps", "0,11")[0] == 2
    assert trained("probe", "runs", "-q", "--steps", "0,x")[0] == 2
    assert trained("probe", "runs", "-q", "--every", "2", "--steps", "0")[0] == 2
    assert not list((tmp_path / "runs").glob("*/results/*"))


def test_figures_without_results_say_what_to_run(trained):
    code, _, err = trained("plot", "runs", "eigenvalues")
    assert code == 2
    assert "landscape probe runs/markov-single-s0 runs/markov-looped-s0 -p spectrum" in err
    code, out, err = trained("plot", "runs", "--format", "svg", "--set", "learning.x=flops")
    assert (code, out.split()) == (0, ["figures/learning.svg", "figures/fig11.svg"])
    assert "Not drawn: eigenvalues, density" in err
    code, _, err = trained("plot", "runs", "learning", "--set", "learning.colour=red")
    assert (code, "learning" in err) == (2, True)


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_run_files_are_one_message_and_code_2(landscape, run, tmp_path, kind):
    path = tmp_path / "bad" / FILE_NAME
    path.parent.mkdir()
    make_bad_file(path, kind, (run.path / FILE_NAME).read_bytes())
    for command in ("show", "probe", "plot"):
        code, _, err = landscape(command, "bad")
        assert code == 2
        assert err.startswith("Error: expected")
        assert len(err.splitlines()) == 1


def test_other_config_shows_the_difference(trained):
    code, _, err = trained("train", "--arch", "single", *TINY, "--lr", "0.5")
    assert code == 2
    assert "optimizer.lr: 0.003 in the run, 0.5 asked for" in err


def test_divergence_is_code_1_and_does_not_stop_other_runs(landscape):
    diverge = ["--optimizer", "sgd", "--lr", "1000000000000"]
    code, out, err = landscape("train", "--arch", "single", *TINY, *diverge, "-o", "bad")
    assert code == 1
    assert "NaN or infinite" in err
    assert "diverged" in out
    assert Run.open("bad").status == "diverged"


def test_help_works_for_every_command():
    from landscape.cli import COMMANDS, cli

    for name in COMMANDS:
        old, sys.argv = sys.argv, ["landscape", name, "--help"]
        try:
            result = CliRunner().invoke(cli, [name, "--help"])
        finally:
            sys.argv = old
        assert result.exit_code == 0
        assert "Examples:" in result.output or name == "show"


def committed(path):
    """Steps that the run in this folder holds by now."""
    return len(Run.open(path).steps) if (path / FILE_NAME).exists() else 0


@pytest.mark.slow
def test_interrupted_training_is_code_130_and_continues(tmp_path):
    args = ["train", "--arch", "looped", "--steps", "1000000", "--width", "8", "-o", "a"]  # far more than are reached
    process = run_command(*args, cwd=tmp_path)
    try:
        wait_for(lambda: process.poll() is not None or committed(tmp_path / "a") > 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "repeat the command to continue" in err
    run = Run.open(tmp_path / "a")
    assert run.status == "unfinished"
    assert len(run.steps) > 1


@pytest.mark.slow
@pytest.mark.slow
def test_a_killed_training_does_not_stop_the_others(landscape, tmp_path):
    args = ("train", "--arch", "single", "--arch", "looped", "--jobs", "2", *TINY, "--steps", "1000")
    folders = [tmp_path / "runs" / f"markov-{arch}-s0" for arch in ("single", "looped")]

    def kill():
        wait_for(lambda: all((folder / FILE_NAME).exists() for folder in folders))
        for pid in pool._WORKERS[0]._processes:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    code, _, err = landscape(*args)
    thread.join()
    assert (code, err.count("was killed"), "fewer --jobs" in err) == (1, 1, True)
    assert sorted(Run.open(folder).complete for folder in folders) == [False, True]
    assert landscape(*args)[0] == 0
    assert all(Run.open(folder).complete for folder in folders)


def test_output_into_a_closed_pipe_is_no_error(run, tmp_path):
    process = run_command("show", str(run.path), cwd=tmp_path)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=600) == 0
    assert err == ""


def test_metrics_are_answered_apart_and_named(trained):
    args = ["probe", "runs", "--steps", "12", "-p", "spectrum", "--set", "spectrum.k=2", "-q", "--json"]
    code, out, _ = trained(*args, "--metric", "euclidean", "--metric", "filter", "--metric", "adam")
    assert code == 0
    rows = json.loads(out)["spectrum"]
    assert [r["run"] for r in rows[:3]] == [
        "markov-single-s0",
        "markov-single-s0 [filter]",
        "markov-single-s0 [adam]",
    ]
    assert len({r["first"] for r in rows}) == 6
    code, out, _ = trained(*args[:-1], "--metric", "euclidean", "--metric", "filter", "--metric", "adam")
    assert code == 0
    for run in ("markov-single-s0", "markov-looped-s0"):
        assert all(f"{run}{metric} " in out for metric in ("", " [filter]", " [adam]"))
    assert "units of its metric" in out
    assert "parameter unit" not in out
    code, out, _ = trained(*args[:-1], "--metric", "filter")
    assert (code, "per squared filter norm" in out) == (0, True)
    code, _, err = trained("probe", "runs", "-p", "samples", "--metric", "filter", "-q")
    assert code == 2
    assert "no metric 'filter'" in err


def test_brackets_and_colons_are_text_in_a_table(capsys):
    from landscape.cli.console import Table, show_table

    rows = [["a [filter]", "[/]"], [":smile:", "1"]]
    show_table(Table("title [bold] :x:", ["[red]", "b"], rows, caption="see [adam]"))
    out = capsys.readouterr().out
    for text in ("title [bold] :x:", "[red]", "a [filter]", "[/]", ":smile:", "see [adam]"):
        assert text in out, text


def test_titles_state_the_units_of_their_rows():
    import xarray as xr

    from landscape.cli.tables.cells import units_of

    one, two = (xr.Dataset({"x": ((), 1.0, {"units": u})}) for u in ("nats per token", "nats per filter norm"))
    assert units_of([one, one], "x") == "nats per token"
    assert units_of([one, two], "x") == "each row in the units of its metric"


def test_every_probe_has_a_table():
    from landscape.cli.tables import TABLES
    from landscape.probes import PROBES

    assert set(TABLES) == set(PROBES)


def test_the_valley_and_river_are_counted(trained):
    code, out, _ = trained("probe", "runs", "--steps", "12", "-p", "split", "-q", "--json")
    assert code == 0
    rows = [r for r in json.loads(out)["split"] if r["run"] == "markov-looped-s0"]
    run = Run.open("runs/markov-looped-s0")
    objective = run.objective(at=12)
    lam = torch.linalg.eigvalsh(objective.hessian(objective.w0, strategy="cached").dense())
    for row in rows[:6]:  # the absolute thresholds
        assert int(row["dimension of the valley"]) == int((lam > float(row["threshold"])).sum())


def test_adam_leaves_out_the_start_with_every_too(trained):
    code, _, err = trained("probe", "runs", "-p", "spectrum", "--every", "2", "--metric", "adam", "-q")
    assert code == 0, err


def test_a_probe_named_twice_is_asked_once(trained):
    code, out, _ = trained("probe", "runs", "-p", "samples", "-p", "samples", "--steps", "12", "-q", "--json")
    assert code == 0
    assert len(json.loads(out)["samples"]) == 2


def test_many_runs_are_a_line_each_and_their_results_are_read_when_asked(trained, monkeypatch, tmp_path):
    from landscape.cli import show
    from landscape.studies import study

    assert trained("probe", "runs", "-p", "spectrum", "-q", "--set", "spectrum.k=2", "--steps", "last")[0] == 0
    read = []
    load = study.load
    monkeypatch.setattr(study, "load", lambda path: read.append(1) or load(path))
    code, out, _ = trained("show", "runs")
    assert (code, len(read)) == (0, 2)
    assert "spectrum: Hessian eigenvalues" in out
    monkeypatch.setattr(show, "MANY", 1)
    code, out, err = trained("show", "runs")
    assert (code, len(read)) == (0, 2)  # not one more
    assert "spectrum: Hessian eigenvalues" not in out
    assert "spectrum" in out  # in the column of what was probed
    assert "What was found in these 2 runs: --tables" in err
    assert "spectrum: Hessian eigenvalues" in trained("show", "runs", "--tables")[1]
    code, out, err = trained("show", "runs", "--no-tables")
    assert "spectrum: Hessian eigenvalues" not in out
    assert not err
