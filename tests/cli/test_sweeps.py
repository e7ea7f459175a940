import json

import pytest
from support.commands import TINY

TASK = [x for x in TINY if x not in ("-q", "--device", "cpu")]
ASKED = ["-p", "spectrum", "--set", "spectrum.k=2", "--at", "first,last"]


def test_a_grid_of_options_is_estimated_carried_out_and_skipped(landscape):
    options = ["--arch", "single", "--arch", "looped", "--vary", "optimizer.lr=0.01,null-not", *TASK]
    code, _, said = landscape("sweep", *options)
    assert (code, "optimizer.lr to be" in said) == (2, True)
    options = ["--arch", "single", "--arch", "looped", "--vary", "optimizer.lr=0.01,0.02", *TASK, *ASKED]
    code, out, _ = landscape("sweep", *options, "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0
    assert [run["done"] for run in found["runs"]] == [False] * 4
    assert all(0 < run["seconds"][0] < run["seconds"][1] for run in found["runs"])
    assert [(a["probe"], a["metric"], a["in_all"], a["stored"]) for a in found["answers"]] == [
        ("spectrum", "euclidean", 2, 0)
    ] * 4
    code, out, said = landscape("sweep", *options)
    assert code == 0
    assert "4 runs, 4 of them trained now; 8 answers, 8 computed now, 0 stored before." in out
    assert "To train: 4 of 4 runs; to answer: 8 of 8 questions." in said
    assert "runs: 4/4" in said
    assert "answers: 8/8" in said
    code, out, said = landscape("sweep", *options, "--json")
    assert json.loads(out) == {
        "folder": "runs", "runs": 4, "trained": 0, "answers": 8, "computed": 0, "stored": 8, "failures": []
    }  # fmt: skip
    assert (code, said) == (0, "")
    code, out, _ = landscape("sweep", *options, "--dry-run")
    assert code == 0
    assert "markov-looped-s*-lr=0.02" in out
    assert "All together 0 s" in out


def test_a_failing_run_is_told_at_the_end_with_exit_code_1(landscape):
    options = [*TASK, "--optimizer", "sgd", "--vary", "optimizer.lr=0.1,1e30", "-p", "samples", "--no-estimate"]
    code, out, said = landscape("sweep", *options)
    assert code == 1
    assert "2 runs, 1 of them trained now" in out
    assert said.count("NaN or infinite") == 1
    assert "1 failed; all others are done." in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "expected a GRID.toml, or options"),
        (["none.toml"], "cannot read the grid none.toml"),
        (["none.toml", "--arch", "single"], "GRID.toml says it all, and --arch"),
        (["--arch", "single", "--scheduler", "tcp://127.0.0.1:1"], "add --backend dask"),
        (["--arch", "single", "--set", "spectrum.k=2"], "Add -p spectrum"),
        (["--arch", "single", "--vary", "seed"], "expected --vary NAME=VALUE,VALUE"),
        (["--vary", "seed=1", "--vary", "seed=2"], "expected every setting of --vary once"),
        (["--arch", "single", "-p", "spectrum", "--at", "0", "--every", "2"], "one of at, every and count"),
    ],
)
def test_what_cannot_be_meant_is_one_message_with_exit_code_2(landscape, options, said):
    code, out, err = landscape("sweep", *options)
    assert (code, out) == (2, "")
    assert said in err
