"""Grids shared out among processes: the same bits, what was done is kept, and errors of one process come out."""

import os
import threading

import pytest
import torch
from support import workers

import landscape.answers.points as points
from landscape import LandscapeError, Objective, RunFailedError, parallel, sweep
from landscape.answers.pool import shared_out
from landscape.loss.metric import RescaledObjective
from landscape.probes import surface


@pytest.fixture
def shared(monkeypatch):
    """Work however short is shared out, in blocks of two points."""
    monkeypatch.setattr(points, "WORTH", -1.0)
    monkeypatch.setattr(points, "SECONDS", 0.0)


@pytest.fixture
def jobs_of_grids(monkeypatch):
    """The processes among which each grid was shared out."""
    found = []

    def share(function, calls, *, jobs, lost):
        found.append(jobs)
        return shared_out(function, calls, jobs=jobs, lost=lost)

    monkeypatch.setattr(points, "shared_out", share)
    return found


def left(run):
    return [p for p in (run.path / "results").rglob("*") if p.is_file() and p.suffix != ".nc"]


def test_any_number_of_processes_gives_the_same_bits(shared, jobs_of_grids):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))
    data = (torch.randn(33, 5), torch.randn(33, 1))
    objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data, chunk=10)
    asked = {"seed": 0, "directions": "random", "alpha": (0.0, 1.0, 3.0), "beta": (0.0, 0.5, 1.0, 2.0)}
    alone = surface(objective, objective.w0, **asked)
    for jobs in (1, 2):
        assert surface(parallel(objective, jobs=jobs), objective.w0, **asked).equals(alone)
    assert jobs_of_grids == [1, 2]
    assert torch.get_num_threads() == 1


def test_one_checkpoint_uses_all_processes_and_gives_the_same_bits(fresh_run, tmp_path, shared, jobs_of_grids):
    two = sweep("surface", fresh_run, seed=0, points=3, jobs=2)
    assert jobs_of_grids == [2]
    assert not left(fresh_run)
    one = sweep("surface", fresh_run, seed=0, points=3, jobs=1, recompute=True)
    assert one.equals(two)


def test_an_interrupted_grid_goes_on_where_it_stopped(fresh_run, shared, monkeypatch):
    computed = []
    block = points._block

    def stopping(make, index, *more):
        if len(computed) >= limit:
            raise KeyboardInterrupt
        computed.extend(index)
        return block(make, index, *more)

    monkeypatch.setattr(points, "_block", stopping)
    limit = 4
    with pytest.raises(KeyboardInterrupt):
        sweep("surface", fresh_run, seed=0, points=3)
    done, limit = len(computed), 1000
    (kept,) = left(fresh_run)
    found = sweep("surface", fresh_run, seed=0, points=3)
    assert done == 4
    assert len(computed) == 9 - 2 - 2, "two points come first in each command, to be timed"
    assert not left(fresh_run)
    assert not kept.parent.exists()
    again = sweep("surface", fresh_run, seed=0, points=3, recompute=True)
    assert again.equals(found)


def test_grids_that_are_done_are_kept_when_a_later_one_is_interrupted(fresh_run, shared, monkeypatch, caplog):
    asked = {"seed": 0, "points": 3, "directions": "random", "draws": 3}
    computed = []
    block = points._block

    def stopping(make, index, *more):
        if len(computed) >= limit:
            raise KeyboardInterrupt
        computed.extend(index)
        return block(make, index, *more)

    monkeypatch.setattr(points, "_block", stopping)
    monkeypatch.setattr(points, "TOLD", -1.0)
    limit = 7 + 3  # of every grid two of nine points are computed first, to be timed
    with pytest.raises(KeyboardInterrupt):
        sweep("surface", fresh_run, **asked)
    assert len(left(fresh_run)) == 2
    computed.clear()
    limit = 1000
    with caplog.at_level("INFO"):
        found = sweep("surface", fresh_run, **asked)
    assert len(computed) == 2 + 7, "of the second grid and of the third"
    assert caplog.messages[-1] == "9 of 9 points of a grid"
    assert not left(fresh_run)
    assert found.equals(sweep("surface", fresh_run, recompute=True, **asked))


def test_damaged_points_are_computed_again(fresh_run, shared, monkeypatch):
    monkeypatch.setattr(points, "_block", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sweep("surface", fresh_run, seed=0, points=3)
    monkeypatch.undo()
    (kept,) = left(fresh_run)
    kept.write_bytes(kept.read_bytes()[:-30])
    found = sweep("surface", fresh_run, seed=0, points=3)
    assert found.equals(sweep("surface", fresh_run, seed=0, points=3, recompute=True))
    assert not left(fresh_run)


def test_errors_of_one_process_come_out(shared):
    model = torch.nn.Linear(2, 1)
    data = (torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 1))
    here = os.getpid()

    def loss(y, t):  # sent by value
        import os

        if os.getpid() != here:
            raise ValueError("not in this process")
        return ((y - t) ** 2).sum(1)

    objective = Objective(model, loss, data)
    asked = {"seed": 0, "directions": torch.eye(2, 3, dtype=torch.float64), "points": 4}
    with pytest.raises(ValueError, match="not in this process"):
        surface(parallel(objective, jobs=2), objective.w0, **asked)
    killed = Objective(model, workers.DiesElsewhere(here), data)
    with pytest.raises(RunFailedError, match="was killed"):
        surface(parallel(killed, jobs=2), objective.w0, **asked)


def test_what_cannot_be_shared_is_refused():
    model, data = torch.nn.Linear(2, 1), (torch.eye(2), torch.zeros(2, 1))
    objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
    with pytest.raises(LandscapeError, match="jobs >= 1"):
        parallel(objective, jobs=0)
    with pytest.raises(LandscapeError, match="plain coordinates"):
        parallel(RescaledObjective(objective, torch.ones(3)), jobs=2)
    lock = threading.Lock()

    def loss(y, t):
        with lock:
            return ((y - t) ** 2).sum(1)

    with pytest.raises(LandscapeError, match="cannot be sent to another process"):
        parallel(Objective(model, loss, data), jobs=2)
