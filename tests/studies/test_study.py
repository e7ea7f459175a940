"""Which stored answers of several runs belong together: metric, settings, and version of the probe."""

import json

import pytest
import xarray as xr
from click.testing import CliRunner
from support.builders import spectrum

from landscape import LandscapeError, Study, train
from landscape.answers.files import save
from landscape.cli.plot import command
from landscape.errors import AbsentError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    from support.runs import small_config

    root = tmp_path_factory.mktemp("study")
    return [train(small_config(arch=arch), root / arch) for arch in ("single", "looped")]


@pytest.fixture
def study(runs):
    """Two runs without results."""
    for run in runs:
        for path in (run.path / "results").glob("*"):
            path.unlink()
    return Study(runs)


def put(run, *, metric="euclidean", version=1, created="2026-01-01", step=20, **settings):
    """A stored answer that holds nothing but what identifies it."""
    known = {} if metric is None else {"metric": metric}
    attrs = run.attributes("spectrum") | known | {"probe_version": version, "created": created}
    attrs["settings"] = json.dumps({"seed": 0, "step": step, **known, **settings})
    name = f"spectrum-{metric}-{version}-{created}-{step}"
    save(xr.Dataset({"x": ("step", [1.0])}, {"step": [step]}, attrs), run.path / "results" / f"{name}.nc")


def metrics(results):
    return [ds.attrs.get("metric", "none") for ds in results]


def test_the_euclidean_metric_is_meant_however_new_others_are(study):
    for run in study:
        put(run)
        put(run, metric="filter", created="2026-02-02")
    assert metrics(study.results("spectrum")) == ["euclidean"] * 2
    assert metrics(study.results("spectrum", metric="filter")) == ["filter"] * 2
    with pytest.raises(LandscapeError, match=r"metric 'adam' for all runs.* are there: euclidean, filter\."):
        study.results("spectrum", metric="adam")


def test_answered_takes_the_question_that_most_runs_answered_and_names_the_others(runs, study, tmp_path):
    from support.runs import small_config

    third = train(small_config(seed=1), tmp_path / "third")
    every = Study([*runs, third])
    assert every.answered("spectrum")[1] == []  # nobody was asked: nobody lacks anything
    put(runs[0], k=2)
    put(third, k=3)
    put(third, k=2, created="2026-02-02")
    answered, without = every.answered("spectrum")
    assert (answered.runs, without) == ((runs[0], third), [runs[1]])
    put(runs[1], k=3)
    put(runs[0], k=4, created="2026-02-02")
    answered, without = every.answered("spectrum")
    assert len(answered.runs) == 2
    assert len({json.loads(ds.attrs["settings"])["k"] for ds in answered.results("spectrum")}) == 1
    assert len(without) == 1


def test_answers_are_gathered_task_by_task_and_only_of_tasks_that_have_all(runs, study, tmp_path):
    from support.runs import small_config

    from landscape.studies.gathered import gathered

    task = {"name": "parity", "max_train_length": 2, "test_length": 3, "increase_every": 2, "n_test": 8}
    other = train(small_config(task=task, model={"name": "gpt", "width": 4, "heads": 1}), tmp_path / "other")
    every = Study([*runs, other])
    with pytest.raises(AbsentError, match="no result of probe 'spectrum'"):
        gathered(every, ["metrics", "spectrum"])
    put(runs[0])
    found = gathered(every, ["metrics", "spectrum"], optional=["samples"])
    assert [ds.attrs["run"] for ds in found.answers["metrics"]] == ["single", "looped"]
    assert found.without == {"spectrum": [runs[1]]}
    assert "no result of probe 'samples'" in found.refused["samples"]
    kept = found.only({"metrics": found.answers["metrics"]})
    assert (list(kept.answers), kept.without) == (["metrics"], {})


def test_another_metric_is_never_taken_silently(study):
    for run in study:
        put(run, metric="filter")
    put(study.runs[0])
    with pytest.raises(
        LandscapeError, match=r"'euclidean' for all runs, found none for .*looped\. .*euclidean, filter"
    ):
        study.results("spectrum")


@pytest.mark.parametrize("metric", ["none", None])
def test_results_without_a_metric_are_found(study, metric):
    for run in study:
        put(run, metric=metric)
    assert metrics(study.results("spectrum")) == ["none"] * 2
    with pytest.raises(LandscapeError, match="none, because it measures no curvature"):
        study.results("spectrum", metric="filter")


@pytest.mark.parametrize("table", ["metrics", "decay", "shift"])
def test_a_metric_of_what_has_none_is_refused(study, table):
    with pytest.raises(LandscapeError, match=f"'{table}' has no metric"):
        study.results(table, metric="filter")


def test_versions_of_a_probe_are_not_mixed(study):
    one, two = study
    put(one, version=1)
    put(two, version=2)
    with pytest.raises(LandscapeError, match="same version of the probe"):
        study.results("spectrum")
    put(one, version=2, created="2026-02-02")
    put(two, version=1, created="2025-12-12")
    assert [int(ds.attrs["probe_version"]) for ds in study.results("spectrum")] == [2, 2]


def test_the_step_of_a_whole_run_probe_may_differ(study):
    for run, step in zip(study, (20, 13), strict=True):
        put(run, step=step)
    assert [int(ds.step[0]) for ds in study.results("spectrum")] == [20, 13]


@pytest.mark.parametrize(
    ("names", "assignment", "message"),
    [
        (["eigenvalues"], "eigenvalues=3", "expected --set eigenvalues.NAME=VALUE, found eigenvalues=3"),
        (["widths"], "widths.step=abc", "expected widths.step to be int or null, found 'abc'"),
        (["hopping"], "hopping.modes=2.5", "expected hopping.modes to be int, found 2.5"),
        (["eigenvalues"], "eigenvalues.scale=log", "expected eigenvalues.scale to be one of 'linear', 'symlog'"),
        (["eigenvalues"], "widths.step=4", "'widths' is not among those asked for: eigenvalues"),
        (["eigenvalues"], "eigenvalues.colour=1", "colour"),
        ([], "width.step=4", "no such figure"),
    ],
)
def test_settings_of_figures_are_checked_before_anything_is_drawn(runs, tmp_path, names, assignment, message):
    paths = [str(run.path) for run in runs]
    done = CliRunner().invoke(command, [*paths, *names, "-o", f"{tmp_path}/f", "--set", assignment])
    assert isinstance(done.exception, LandscapeError), done.exception
    assert message in str(done.exception)
    assert not (tmp_path / "f").exists()


def test_plot_draws_the_metric_that_is_asked_for(study, tmp_path):
    for run in study:
        for metric, number in (("euclidean", 1), ("filter", 2)):
            attrs = run.attributes("spectrum") | {"metric": metric, "probe_version": 1, "created": str(number)}
            unit = {"euclidean": "parameter unit", "filter": "filter norm"}[metric]
            ds = spectrum(run.config.arch).assign_attrs(attrs | {"settings": json.dumps({"metric": metric})})
            ds["eigenvalue"].attrs["units"] = f"nats per token per squared {unit}"
            save(ds, run.path / "results" / f"spectrum-{metric}.nc")
    texts = []
    for more in ((), ("--metric", "filter")):
        args = [*(str(run.path) for run in study), "eigenvalues", "--format", "svg", "-o", str(tmp_path)]
        done = CliRunner().invoke(command, [*args, *more])
        assert done.exit_code == 0, done.exception
        texts.append((tmp_path / "eigenvalues.svg").read_text(encoding="utf-8"))
    for part, there in (
        ("metric: filter", [False, True]),
        ("filter norm²", [False, True]),
        ("parameter²", [True, False]),
    ):
        assert [part in text for text in texts] == there
