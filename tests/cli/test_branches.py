"""Branches and projections by command."""

import json
import shutil
import signal

import pytest
import torch
from support.commands import TINY, run_command
from support.runs import identical

from landscape import Run, RunConfig, train
from landscape.settings import difference
from landscape.studies.decay import decay_table
from landscape.training.projection import Projection


@pytest.fixture
def trained(landscape):
    """Runs of 12 steps with checkpoints at 0, 1, 2, 3, 5, 12 or so."""
    assert landscape("train", *TINY)[0] == 0
    return landscape, Run.open("runs/markov-single-s0")


def test_branches_by_command(trained):
    landscape, origin = trained
    first, second = origin.steps[[1, -2]].tolist()
    source = f"runs/markov-single-s0@{second}"
    code, out, err = landscape("train", "--from", source, "-q")
    assert code == 0, err
    assert f"markov-single-s0-from-{second}" in out
    branch = Run.open(f"runs/markov-single-s0-from-{second}")
    assert difference(origin.config.to_dict(), branch.config.to_dict())[0][0] == "origin"
    assert torch.equal(branch.parameters[-1], origin.parameters[-1])
    both = ["train", "--from", f"runs/markov-single-s0@{first}", "--from", source, "-q"]
    assert landscape(*both, "--decay-branch", "4")[0] == 0
    decayed = [Run.open(f"runs/markov-single-s0-from-{s}-decay") for s in (first, second)]
    assert decay_table(decayed).step.values.tolist() == [first, second]
    assert landscape("train", "--from", source, "--arch", "looped", "--loops", "2", "--device", "cpu", "-q")[0] == 0
    assert Run.open(f"runs/markov-looped-s0-from-{second}").config.model.loops == 2
    args = ["train", "--from", source, "--project", "river", "--k", "3", "--every", "2", "-o", "p", "-q"]
    assert landscape(*args, "--set", "projection.samples=9")[0] == 0
    found = Run.open("p").config.projection
    assert found == Projection(subspace="river", k=3, every=2, samples=9, since=second)
    shutil.rmtree("runs/markov-single-s0")
    assert landscape(*args, "--set", "projection.samples=9")[0] == 0  # complete already, and no origin is needed
    code, _, err = landscape(*args, "--set", "projection.samples=8")
    assert (code, "projection.samples: 9 in the run, 8 asked for" in err) == (2, True)


def test_projection_from_the_initial_weights(landscape):
    assert landscape("train", *TINY, "--project", "valley", "--k", "2")[0] == 0
    projection = Run.open("runs/markov-single-s0").config.projection
    assert (projection.subspace, projection.k, projection.since) == ("valley", 2, 0)


def test_show_says_the_origin(trained):
    landscape, origin = trained
    step = int(origin.steps[2])
    assert landscape("train", "--from", f"runs/markov-single-s0@{step}", "--project", "valley", "-q")[0] == 0
    code, out, _ = landscape("show", f"runs/markov-single-s0-from-{step}-valley")
    assert code == 0
    assert f"step {step} of markov-single-s0 (run {origin.id})" in out
    assert f"subspace valley, k 10, every 10, samples None, tol 1e-06, since {step}" in out
    assert f"markov-single-s0@{step}" in landscape("show", "runs")[1]
    assert "origin" not in landscape("show", "runs/markov-single-s0")[1]
    described = json.loads(landscape("show", "runs", "--json")[1])
    assert [None if d["config"]["origin"] is None else d["config"]["origin"]["step"] for d in described] == [None, step]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "runs/markov-single-s0"], "expected RUN@STEP"),
        (["--from", "runs/markov-single-s0@4"], "no checkpoint of step 4. The nearest are"),
        (["--from", "runs/none@0"], "expected a run file at runs/none/run.h5, found none"),
        (["--from", "runs/none@0", "-o", "x"], "nor is there a branch of it in x"),
        (["--from", "runs/markov-single-s0@0", "--arch", "stacked"], "`stacked` has its own"),
        (["--from", "runs/markov-single-s0@0", "--loops", "4"], "says nothing about --arch single"),
        (["--from", "runs/markov-single-s0@0", "--decay-branch", "4", "--schedule", "cosine"], "sets its own schedule"),
        (["--from", "runs/markov-single-s0@0", "--project", "river", "--k", "999"], "found projection.k = 999 of P ="),
        (["--from", "runs/markov-single-s0@0", "--from", "runs/../runs/markov-single-s0@0"], "would be called"),
        (["--from", "runs/markov-single-s0@0", "--from", "runs/markov-single-s0@1", "-o", "x"], "Use --runs"),
        (["--from", "runs/markov-single-s0@0", "--k", "3"], "expected a value of projection.subspace"),
        (["--decay-branch", "4"], "with --from RUN@STEP"),
        (["--k", "4"], "without a projection"),
        (["--project", "off", "--every", "4"], "without a projection"),
    ],
)
def test_bad_use_is_one_message_and_code_2(trained, args, message):
    code, _, err = trained[0]("train", *args, "-q")
    assert (code, message in err) == (2, True), err


KILLED_AFTER_16 = """
import os
from landscape import Run
from landscape.runs.writing import RunWriter

append = RunWriter.append_checkpoint

def killed(self, *row):
    append(self, *row)
    if len(Run.open(self.path.parent).steps) == 16:
        os.kill(os.getpid(), signal.SIGKILL)

RunWriter.append_checkpoint = killed
"""


@pytest.mark.slow
def test_killed_branch_continues_to_the_same_end(landscape, tmp_path):
    """kill -9 in the middle of a projected branch, then the same command again."""
    first = train(RunConfig.make(steps=40, model={"width": 8}, task={"n_probe": 64}), tmp_path / "a")
    args = [
        "train",
        "--from",
        f"{first.path}@{first.steps[5]}",
        "--project",
        "river",
        "--k",
        "2",
        "--steps",
        "80",
        "-q",
    ]
    for first, code in ((KILLED_AFTER_16, -signal.SIGKILL), ("", 0)):
        process = run_command(*args, "-o", "killed", cwd=tmp_path, first=first)
        _, err = process.communicate(timeout=600)
        assert process.returncode == code, err
        if first:
            assert Run.open(tmp_path / "killed").status == "unfinished"
            assert len(Run.open(tmp_path / "killed").steps) == 16
    assert landscape(*args, "-o", "whole")[0] == 0
    identical(Run.open(tmp_path / "whole"), Run.open(tmp_path / "killed"))
