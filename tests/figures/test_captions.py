"""Captions say what the data say: what is shown, of which runs, how far to believe it, and what is missing."""

import json

import numpy as np
import pytest
import xarray as xr
from support.builders import BUILDERS
from support.runs import small_config

from landscape import Study, train
from landscape.captions import caption
from landscape.figures import FIGURES, PAPER
from landscape.studies.gathered import gathered


def asked(ds, *, version=2, **settings):
    """As it was stored by a sweep."""
    known = {"seed": 0, "samples": None, **settings}
    return ds.assign_attrs(
        probe_version=np.int64(version),
        settings=json.dumps(known),
        run_id=f"{ds.attrs['arch'][0]}{ds.attrs['run_seed']}",
    )


@pytest.mark.parametrize("name", [*FIGURES, *PAPER])
def test_every_figure_has_a_caption_of_its_title_and_its_marks(name):
    text = caption(name, {})
    spec = FIGURES[name] if name in FIGURES else PAPER[name]
    assert " ".join(text.split()).startswith(f"{name}: {spec.title}.")
    assert "Args:" not in text
    assert "`" not in text
    assert max(map(len, text.splitlines())) <= 100
    if name in PAPER:
        assert PAPER[name].differs in " ".join(text.split())


def test_probe_settings_seeds_and_flags_are_told():
    found = [asked(BUILDERS["entropy"](arch, seed, exact=arch == "single"), vectors=4 + seed, quad=80)
             for arch in ("single", "looped") for seed in (0, 1)]  # fmt: skip
    text = caption("entropy", {"entropy": found}, options={"scale": "linear"})
    assert "entropy, version 2: 4 runs, 12 checkpoints (steps 0 to 1000); exact at 24 of 48" in text
    assert "asked with seed = 0, quad = 80" in text  # not the vectors, in which they differ
    assert "markov-looped-s1, id l1, markov, looped, seed 1" in text
    assert "Drawn with scale = linear." in text
    assert text.endswith("Missing\nnothing: every run has all that is shown\n")


def test_a_metric_and_a_run_that_is_not_complete_are_told():
    ds = asked(BUILDERS["eigenvalues"]("single", 0)).assign_attrs(metric="adam", status="diverged")
    text = caption("eigenvalues", {"spectrum": [ds]})
    assert "metric adam" in text
    assert "*diverged*" in text
    assert "converged at 70 of 72" in text
    alone = xr.Dataset({"eigenvalue": ("mode", [1.0])}, attrs={"probe": "spectrum"})
    assert "a model without a run" in caption("eigenvalues", {"spectrum": [alone]})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two runs with metrics alone, of another width each."""
    root = tmp_path_factory.mktemp("captions")
    return Study([train(small_config(arch=arch), root / arch) for arch in ("single", "looped")])


def test_training_and_what_is_missing_are_told(study):
    found = gathered(study, ["metrics"], optional=["samples"])
    text = " ".join(
        caption(
            "fig11", found.answers, runs=study.runs, without={"samples": [study.runs[1]]}, refused=found.refused
        ).split()
    )
    for run in study.runs:
        assert f"{run.name}, id {run.id}, markov, {run.labels['arch']}, seed 0, {run.steps[-1]} steps" in text
    assert "optimizer.name = adamw" in text
    assert "They differ in model.loops: 1, 3" in text
    assert study.runs[0].provenance["code_revision"] in text
    assert "samples: no answer of looped" in text
    assert "samples: not shown, no result of probe 'samples'" in text
