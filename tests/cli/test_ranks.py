"""`landscape probe` by several processes: what one process writes and prints, and one message where one is lost."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from support.commands import run_command
from support.workers import wait_for

from landscape import LandscapeError, Run, load
from landscape.answers.measure import Place, answers
from landscape.answers.sweep import plan
from landscape.cli import cli
from landscape.cli.launched import _Once
from landscape.probes import get_probe

SECONDS = 240
LONG = "runs/looped -q --device cpu -p samples -p valley --set valley.random=400"
"""An answer at once, then a minute of losses and products at the same checkpoint."""
ASKED = "runs -q --device cpu --samples 7 -p spectrum -p surface --steps 0,last --set surface.points=4"
"""Few samples for three ranks."""


@pytest.fixture
def runs(run, tmp_path):
    """A folder with one run."""
    shutil.copytree(run.path, tmp_path / "runs" / "looped")
    return tmp_path


def torchrun(size, args, *, cwd):
    """Started as users do."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), "-m", "landscape", "probe"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*command, *args.split()], cwd=cwd, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes
    )


def by_hand(size, args, *, cwd, patch):
    """Started one by one with the variables that torchrun would set."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = []
    for rank in range(size):
        for name, value in (("RANK", rank), ("WORLD_SIZE", size), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port)):
            patch.setenv(name, str(value))
        found.append(run_command("probe", *args.split(), cwd=cwd))
    return found


@contextmanager
def ending(*processes):
    """No process is left behind, nor what a torchrun of them started."""
    try:
        yield
    finally:
        for process in processes:
            for pid in children(process).values() if process.poll() is None else ():
                os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait()


def ended(process):
    """Output and errors of a process that ends by itself."""
    with ending(process):
        return process.communicate(timeout=SECONDS)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def children(process):
    """Ranks of a torchrun and their processes."""
    found = {}
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as listed:
        for pid in listed.read().split():
            with open(f"/proc/{pid}/environ", "rb") as variables:
                named = dict(line.partition(b"=")[::2] for line in variables.read().split(b"\0"))
            if b"RANK" in named:
                found[int(named[b"RANK"])] = int(pid)
    return found


def first_answer(folder):
    """Wait until the first answer is there: all ranks are then at work on the second."""
    wait_for(lambda: list((folder / "runs" / "looped" / "results").glob(".samples-*/*.npz")), seconds=SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_write_and_print_what_one_process_does(runs, landscape, size):
    before = files(runs)
    code, alone, err = landscape("probe", *ASKED.split())
    assert code == 0, err
    one = {p.name: load(p) for p in (runs / "runs" / "looped" / "results").iterdir()}
    shutil.rmtree(runs / "runs" / "looped" / "results")
    process = torchrun(size, ASKED, cwd=runs)
    out, err = ended(process)
    assert (process.returncode, out) == (0, alone), err
    assert not [line for line in err.splitlines() if line and "OMP_NUM_THREADS" not in line and "***" not in line[-5:]][
        1:
    ]
    after = files(runs)
    assert set(after) == {*before, *(f"runs/looped/results/{name}" for name in one)}
    assert all(after[name] == before[name] for name in before)
    for name, ds in one.items():
        other = load(runs / "runs" / "looped" / "results" / name)
        assert other.attrs["data_fingerprint"] == ds.attrs["data_fingerprint"]
        key = "loss" if "surface" in name else "eigenvalue"
        np.testing.assert_allclose(other[key], ds[key], rtol=1e-10, atol=1e-12)
    again, _ = ended(torchrun(size, ASKED, cwd=runs))
    assert (again, files(runs)) == (alone, after)  # stored, so nothing is computed or written


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_torchrun_with_a_killed_rank_ends_with_one_message(runs, lost):
    process = torchrun(2, LONG, cwd=runs)
    with ending(process):
        first_answer(runs)
        os.kill(children(process)[lost], signal.SIGKILL)
        begun = time.monotonic()
        _, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, time.monotonic() - begun < 60) == (1, True)
    said = [line for line in err.splitlines() if line.startswith("Error: ")]
    # torchrun ends the others too, now and then before they have noticed, and says itself who was lost.
    assert len(said) == 1 or (not said and "(SIGKILL)" in err), err
    assert all("one of them is lost" in line or "one ended or does not answer" in line for line in said)
    assert not list((runs / "runs" / "looped" / "results").glob("*.nc"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "number", "codes"),
    [
        (1, signal.SIGKILL, {1, -9}),
        (0, signal.SIGKILL, {1, -9}),
        (1, signal.SIGINT, {1, 130}),
        (1, signal.SIGTERM, {1}),
    ],
)
def test_processes_started_by_hand_end_with_one_message(runs, monkeypatch, which, number, codes):
    both = by_hand(2, LONG, cwd=runs, patch=monkeypatch)
    with ending(*both):
        first_answer(runs)
        both[which].send_signal(number)
        errors = [process.communicate(timeout=SECONDS)[1] for process in both]
    assert {process.returncode for process in both} <= codes
    said = [line for err in errors for line in err.splitlines() if line.startswith(("Error: ", "Interrupted"))]
    assert len(said) == 1, errors
    assert not any("Traceback" in err for err in errors)
    assert Run.open(runs / "runs" / "looped").complete


@pytest.mark.slow
def test_bad_input_is_one_message_and_the_exit_code_of_all(runs, monkeypatch):
    both = by_hand(2, "runs --set spectrum.k=none", cwd=runs, patch=monkeypatch)
    errors = [ended(process)[1] for process in both]
    assert [process.returncode for process in both] == [2, 2]
    assert errors[1] == ""
    assert errors[0].startswith("Error: ")
    assert len(errors[0].splitlines()) == 1


@pytest.mark.slow
def test_a_warning_is_that_of_one_process(runs, monkeypatch):
    """A compiler that fails is told by every process alone."""
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("LANDSCAPE_CACHE", str(runs / "cache"))
    both = by_hand(2, f"{ASKED} --steps last", cwd=runs, patch=monkeypatch)
    errors = [ended(process)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert errors[0].count("Warning: curvature takes the slower strategy") == 1
    assert errors[1] == ""


@pytest.mark.parametrize("leads", [True, False])
def test_only_the_first_rank_saves(fresh_run, leads):
    team = SimpleNamespace(leads=leads, share=lambda objective: objective, agree=lambda _: None)
    question = plan(get_probe("samples"), fresh_run, seed=0, steps=[20]).question
    ((_, step, ds),) = answers(Place.of(question, 20, None), [(0, question)], team=team)
    assert (step, "loss" in ds) == (20, True)
    assert question.partial.exists() == leads


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train"], "`landscape train` is the work of one process, found 3 ranks"),
        (["report", "."], "`landscape report` is the work of one process, found 3 ranks"),
        (["probe", ".", "--jobs", "2"], "--jobs 2 shares checkpoints out among processes, but the 3 ranks"),
    ],
)
def test_what_is_not_for_ranks_says_so(monkeypatch, args, message):
    monkeypatch.setattr(sys, "argv", ["landscape", *args])
    done = CliRunner().invoke(cli, args, obj=SimpleNamespace(size=3))
    assert isinstance(done.exception, LandscapeError)
    assert str(done.exception).startswith(message)


def test_one_word_of_one_process(capsys):
    class Store:
        said = 0

        def add(self, _key, n):
            self.said += n
            return self.said

    first, second, third = _Once(), _Once(), _Once()
    first.store = second.store = Store()
    for who in (first, first, second, third):  # the third has no store: it never met the others
        who.tell("lost")
    assert capsys.readouterr().err == "lost\nlost\n"
