"""`landscape verdict` on a small real study."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from support.runs import small_config

from landscape import Study, branch_config, sweep, train
from landscape.verdict.form import RULE, datasets
from landscape.verdict.stored import subjects
from landscape.verdict.verdict import verdict


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two architectures, three seeds, one of which was asked in a second metric."""
    root = tmp_path_factory.mktemp("verdict") / "runs"
    for arch in ("single", "looped"):
        for seed in (0, 1, 2):
            sweep("entropy", train(small_config(arch, seed=seed), root / f"{arch}-{seed}"), seed=0, steps=[20])
    return root


def test_the_text_says_what_was_found_and_what_is_missing(runs, landscape):
    code, out, _ = landscape("verdict", runs)
    assert code == 0
    assert "looped: 3, single: 3" in out
    assert "3 seeds of 5 that a decision needs: 0, 1, 2" in out
    assert "landscape probe RUNS -p entropy --metric filter --metric adam" in out
    assert "no runs of shift" in out
    assert RULE in out


def test_json_holds_the_numbers_of_the_runs(runs, landscape, tmp_path):
    code, out, _ = landscape("verdict", runs, "--json", "--claim", "C6", "--claim", "C3")
    assert code == 0
    found = json.loads(out)
    (setting,) = found["settings"]
    assert {k: list(v) for k, v in setting["runs"].items()} == {"looped": ["0", "1", "2"], "single": ["0", "1", "2"]}
    by_claim = {f["claim"]: f for f in setting["findings"] if f["main"]}
    rows = by_claim["C6"]["evidence"][0]["rows"]
    end = {(r.labels["arch"], r.seed): float(r.metrics.loss[-1, 0, 0]) for r in Study.open([runs])}
    assert rows[-1]["values"] == pytest.approx([end["single", s] - end["looped", s] for s in (0, 1, 2)])
    assert rows[-1]["n"] == 3
    assert by_claim["C6"]["outcome"] == "inconclusive"
    spread = by_claim["C3"]["evidence"][0]
    assert (spread["rows"][0]["metric"], spread["rows"][0]["step"], spread["answered"]) == ("euclidean", 20, False)
    # Asked again, and of copies in other folders: the same text.
    again = landscape("verdict", runs, "--json", "--claim", "C6", "--claim", "C3", "-o", tmp_path / "again.json")
    assert again[:2] == (0, f"{tmp_path / 'again.json'}\n")
    assert (tmp_path / "again.json").read_text() == out
    for run in sorted(runs.iterdir(), reverse=True):
        shutil.copytree(run, tmp_path / "copies" / run.name)
    assert landscape("verdict", tmp_path / "copies", "--json", "--claim", "C6", "--claim", "C3")[1] == out


def test_markdown_and_picture(runs, landscape, tmp_path):
    code, out, _ = landscape("verdict", runs, "--markdown")
    assert code == 0
    assert "| C6 lower loss after K steps | looped − single | inconclusive | 3 |" in out
    code, out, err = landscape("plot", runs, "verdict", "--format", "png")
    assert (code, out) == (0, "figures/verdict.png\n"), err
    code, _, err = landscape("plot", runs / "single-0", "verdict")
    assert code == 2
    assert "at least 2 seeds of two architectures" in err


def test_a_damaged_answer_is_named_and_the_rest_judged(runs, landscape, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    (path,) = (tmp_path / "runs" / "looped-1" / "results").glob("entropy-*.nc")
    path.write_bytes(path.read_bytes()[:-200])
    code, out, _ = landscape("verdict", "runs", "--markdown", "--claim", "C3")
    assert code == 0
    assert f"looped-1: expected a result of `landscape probe`, found a damaged or foreign file: {path}" in out.replace(
        "runs/looped-1", str(tmp_path / "runs/looped-1")
    )


def test_bad_input_is_one_message(runs, landscape):
    assert landscape("verdict", runs, "--json", "--markdown")[0] == 2
    code, _, err = landscape("verdict", runs, "-o", "x.txt")
    assert (code, "--json or --markdown" in err) == (2, True)
    assert landscape("verdict", "nowhere")[0] == 2


def test_the_dataset_has_every_row(runs):
    found = verdict(runs)
    (ds,) = datasets(found)
    rows = [row for f in found.settings[0].findings for e in f.evidence for row in e.rows]
    assert ds.sizes["row"] == len(rows)
    assert np.array_equal(ds["mean"], [row.mean for row in rows])
    assert isinstance(ds, xr.Dataset)
    assert ds.attrs["probe"] == "verdict"


def test_branches_are_interventions_on_their_origin(tmp_path):
    """What C7 reads of them, against the metrics of the runs themselves."""
    run = train(small_config("looped", seed=5), tmp_path / "looped")
    decay = train(branch_config(run, 11, decay=4), tmp_path / "decay")
    kept = {
        name: train(
            branch_config(run, 11, settings={"steps": 15, "projection": {"subspace": name, "k": 2}}), tmp_path / name
        )
        for name in ("river", "valley")
    }
    (subject,) = subjects(list(Study.open([tmp_path])))
    assert subject.name == "looped"

    def fallen(branch):
        loss = branch.metrics.loss.sel(split="probe", family="all")
        return float(loss[0] - loss[-1])

    (answer,) = subject.answers("projection")
    ds = subject.read("projection", answer, ())
    assert {name: float(ds[f"{name}_decrease"]) for name in kept} == {n: fallen(b) for n, b in kept.items()}
    (answer,) = subject.answers("decay")
    assert answer.settings == "decay in 4 updates"
    ds = subject.read("decay", answer, ())
    assert float(ds.valley_loss[0]) == fallen(decay)
