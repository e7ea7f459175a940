"""Recorded runs beside each other, and beside runs of `landscape train`."""

from __future__ import annotations

import numpy as np
import pytest
from support import strangers

from landscape import LandscapeError, Run, Schedule, Study, record, sweep
from landscape.studies.compare import compare

OBJECTIVE = "support.strangers:objective"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate("ab"):
        config = {"arch": "cnn", "seed": seed, "task": "signs"}
        strangers.train_model(
            lambda m, o, name=name, config=config: record(
                folder / name, m, o, objective=OBJECTIVE, config=config, schedule=Schedule(every=4)
            ),
            steps=8,
        )
        sweep("spectrum", Run.open(folder / name), seed=0, k=2)
    return folder


def test_two_recorded_runs_are_compared_at_the_same_step_and_loss(pair):
    a, b = Study.open([pair / "a"]), Study.open([pair / "b"])
    ds = compare(a, b, probe="spectrum")
    assert ds.step.values.tolist() == [0, 4, 8, 9]
    one, two = (Study.open([pair / n]).results("spectrum")[0] for n in "ab")
    np.testing.assert_allclose(ds.eigenvalue_difference, two.eigenvalue - one.eigenvalue)
    assert ds.attrs["arch_a"] == "cnn"
    assert compare(a, b, probe="spectrum", at="loss").sizes["loss"] > 1
    with pytest.raises(LandscapeError, match="no metric 'flops' recorded"):
        compare(a, b, probe="spectrum", at="flops")


def test_runs_without_a_seed_are_not_paired(pair, tmp_path):
    for name in "cd":
        with record(tmp_path / name, strangers.model()) as rec:
            rec.save(0)
    with pytest.raises(LandscapeError, match="runs whose seeds are known"):
        compare(Study.open([tmp_path]), Study.open([pair]), probe="spectrum")


def test_a_study_takes_all_kinds_in_an_order_of_its_own(pair, run, tmp_path):
    with record(tmp_path / "plain", strangers.model()) as rec:
        rec.save(0)
    study = Study.open([pair, run.path, tmp_path / "plain"])
    assert [r.kind for r in study] == ["recorded", "recorded", "trained", "recorded"]
    assert len(study.trunks()) == 4
    assert [r.name for r in Study.open([pair])] == ["a", "b"]
    outcomes = study.outcomes()
    assert outcomes.attrs["left_out"] == 3
    with pytest.raises(LandscapeError, match="no result of probe"):
        study.results("spectrum")


def test_the_command_compares_recorded_runs(pair, landscape):
    code, out, err = landscape("compare", pair / "a", pair / "b", "-p", "spectrum")
    assert code == 0, err
    assert "a: cnn" in out


def test_the_command_says_why_what_is_there_is_not_drawn(pair, run, tmp_path, landscape):
    """Another task beside: the curves are there, and cannot be drawn together."""
    _, _, err = landscape("plot", pair / "a", run.path, "-o", tmp_path, "--format", "png")
    assert "learning: skipped, " in err
    assert "learning" not in err.partition("Not drawn")[2]
