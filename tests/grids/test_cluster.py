"""A scheduler and two workers in processes of their own, which share nothing but a folder."""

import json
import os
import signal
import subprocess
import sys

import pytest
from support.runs import same_study
from support.workers import wait_for

from landscape import LandscapeError, Run
from landscape.grids.carry import carry_out
from landscape.grids.cluster import Cluster
from landscape.grids.grid import Grid

pytest.importorskip("distributed", reason="distributed is not installed: pip install 'landscape-valleys[dask]'")

GRID = Grid.make(
    base={
        "task": {"n_train": 256, "n_probe": 64, "n_test": 64, "length": 6},
        "model": {"width": 4},
        "steps": 200,
        "checkpoints": 8,
        "evaluate_every": 20,
    },
    vary={"arch": ["looped", "single"], "seed": [0, 1]},
    probes=[{"name": "spectrum", "count": 3, "metrics": ["euclidean", "adam"], "settings": {"k": 2}}],
)
"""Trained in a second each: a worker can be killed in the middle."""


def start(module, *args, folder):
    """A process of Dask; its messages are in a file."""
    options = ["--no-dashboard"] if "worker" in module else ["--no-dashboard", "--no-show"]
    with (folder / f"{module}.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *args, *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


@pytest.fixture
def scheduler(tmp_path):
    """Its address, and its workers' processes."""
    file = tmp_path / "scheduler.json"
    started = [start("dask_scheduler", "--port", "0", "--host", "127.0.0.1", "--scheduler-file", file, folder=tmp_path)]
    options = ["--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--local-directory", tmp_path / "scratch"]
    started += [start("dask_worker", *map(str, options), folder=tmp_path) for _ in range(2)]
    try:
        wait_for(lambda: file.exists() and file.read_text())  # there before its content is
        yield json.loads(file.read_text())["address"], started[1:]
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_and_the_numbers_are_those_of_one_process(scheduler, tmp_path):
    address, workers = scheduler
    runs = tmp_path / "runs"
    killed = []

    def kill_in_the_middle(standing):
        """One worker, when both train and have something to lose."""
        begun = [run for run in map(reached, runs.glob("*/run.h5")) if 0 < run < 200]
        if not killed and begun:
            killed.append({path.parent.name: Run.open(path).id for path in runs.glob("*/run.h5")})
            os.kill(workers[0].pid, signal.SIGKILL)

    with Cluster(runs, address=address) as cluster:
        wait_for(lambda: cluster.jobs == 2)
        outcome = carry_out(GRID, runs, workers=cluster, progress=kill_in_the_middle)
    assert killed
    assert workers[0].wait() == -signal.SIGKILL
    assert (outcome.failures, outcome.trained, outcome.computed) == ((), 4, 24 - 4)  # no second moments at step 0
    assert {name: Run.open(runs / name).id for name in killed[0]} == killed[0], "continued, not begun anew"
    carry_out(GRID, tmp_path / "local")
    same_study(runs, tmp_path / "local")
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    with Cluster(runs, address=address) as cluster:
        again = carry_out(GRID, runs, workers=cluster)
    assert (again.trained, again.computed) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()} == before


def reached(path):
    try:
        return int(Run.open(path).steps[-1])
    except (LandscapeError, IndexError):
        return 0


def test_a_cluster_that_cannot_be_had_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("landscape.grids.cluster.JOINING", 0.1)
    with pytest.raises(LandscapeError, match="expected a Dask scheduler at tcp"):
        Cluster(tmp_path, address="tcp://127.0.0.1:9")


def test_without_dask_the_way_to_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LandscapeError, match=r"landscape-valleys\[dask\]"):
        Cluster(tmp_path)
