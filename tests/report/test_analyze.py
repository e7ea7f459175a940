"""Which probes are chosen, that nothing is left out silently, and that answers are those of the probes."""

import dataclasses

import numpy as np
import pytest

from landscape import LandscapeError, Run, RunFailedError, analyze, sweep
from landscape.probes import PROBES, spectrum
from landscape.probes.base import Counts
from landscape.report.choice import LADDERS, choose, pick_steps, seconds_of
from landscape.report.subjects import OfObjective


@pytest.fixture
def small(monkeypatch):
    """Settings that take a fraction of a second on a run."""
    line = {"top": 1, "bottom": 0, "random": 0, "gradient": False, "rises": (1e-2,)}
    for name, rung in (("surface", {"points": 3}), ("valley", line), ("density", {"vectors": 2, "quad": 5})):
        monkeypatch.setitem(LADDERS, name, (rung,))


def test_every_probe_is_asked_or_has_a_reason(objective, fresh_run, small):
    for subject in (objective, fresh_run):
        lines = []
        report = analyze(subject, seed=0, progress=lines.append)
        asked = set(report.datasets) - {"metrics"}
        assert asked | set(report.skipped) == set(PROBES)
        assert not asked & set(report.skipped)
        assert all(report.skipped.values())
        assert {f.probe for f in report.findings} >= {"spectrum", "valley", "samples", "surface"}
        assert "probes in about" in lines[0]  # the cost comes before the work
        assert report.plan == tuple(lines[: len(report.plan)])


def test_an_objective_is_looked_at_where_it_is(objective):
    report = analyze(objective, seed=3)
    expected = spectrum(objective, objective.w0, seed=3)
    assert report.datasets["spectrum"].eigenvalue.equals(expected.eigenvalue)
    assert report.datasets["surface"].attrs["directions"] == "random"
    assert report.provenance["data fingerprint"] == objective.fingerprint


def test_answers_of_a_run_are_stored_and_used_again(fresh_run, small):
    first = analyze(fresh_run, seed=0)
    steps = fresh_run.steps.tolist()
    assert first.datasets["spectrum"].step.values.tolist() == [steps[0], steps[(len(steps) - 1) // 2], steps[-1]]
    stamps = {p: p.stat().st_mtime_ns for p in (fresh_run.path / "results").iterdir()}
    assert stamps
    lines = []
    again = analyze(fresh_run.path, seed=0, progress=lines.append)
    assert {p: p.stat().st_mtime_ns for p in (fresh_run.path / "results").iterdir()} == stamps
    assert all(line.endswith(": stored") for line in lines[1 : len(again.plan)])
    assert again.findings == first.findings
    probed = sweep("spectrum", fresh_run, seed=0, steps=[steps[-1]])
    np.testing.assert_array_equal(probed.eigenvalue[-1], first.datasets["spectrum"].eigenvalue[-1])


def test_a_small_budget_leaves_out_what_does_not_fit(objective):
    plan = choose(OfObjective(objective, seed=0), budget=1e-9)
    assert plan.chosen == ()
    assert "of the budget are left" in plan.skipped["spectrum"]
    report = analyze(objective, seed=0, budget=1e-9)
    assert report.datasets == {}
    assert report.findings == ()
    assert "What is not here" in report._repr_html_()


def test_what_fails_when_asked_is_told(objective, monkeypatch):
    def fails(objective, w, *, seed):
        raise LandscapeError("no value today.")

    failing = dataclasses.replace(PROBES["valley"], function=fails, cost=lambda settings, extent: Counts())
    monkeypatch.setitem(PROBES, "valley", failing)
    report = analyze(objective, seed=0)
    assert report.skipped["valley"] == "no value today."
    assert "spectrum" in report.datasets


@pytest.mark.parametrize("budget", ["slow", 0, -1.0, True])
def test_a_budget_that_is_none_is_refused(objective, budget):
    with pytest.raises(LandscapeError, match="budget"):
        analyze(objective, seed=0, budget=budget)


def test_an_objective_has_its_own_samples(objective):
    with pytest.raises(LandscapeError, match="leave out samples, jobs"):
        analyze(objective, seed=0, samples=3, jobs=2)


def test_steps_and_seconds():
    assert pick_steps([4, 0, 1, 2, 3, 5], "quick") == [0, 2, 5]
    assert pick_steps(range(9), "full") == list(range(9))
    assert seconds_of("full") > seconds_of("quick")


def test_a_page_is_written_whole_or_not_at_all(objective, tmp_path, monkeypatch):
    report = analyze(objective, seed=0, budget=1e-9)
    path = report.save(tmp_path / "new" / "page.html")
    assert path.read_text().startswith("<!doctype html>")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunFailedError, match="Free disk space"):
        report.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_run_without_checkpoints_is_refused(fresh_run, monkeypatch):
    monkeypatch.setattr(Run, "steps", property(lambda self: np.array([], dtype=np.int64)))
    with pytest.raises(LandscapeError, match="no checkpoint yet"):
        analyze(fresh_run, seed=0)
