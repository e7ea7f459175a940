"""`landscape.plot`: any answer, with or without a run behind it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from support import strangers
from support.builders import BUILDERS

from landscape import LandscapeError, Objective, Run, Schedule, plot, record, save, sweep
from landscape.figures import FIGURES
from landscape.figures.style import arch_style
from landscape.plotting import checked_options
from landscape.probes import PROBES

OBJECTIVE = "support.strangers:objective"
QUICK = {
    "spectrum": {"k": 2}, "density": {"vectors": 2, "quad": 8, "trace_products": 0}, "entropy": {}, "force": {},
    "split": {}, "samples": {}, "valley": {"top": 1, "random": 0}, "surface": {"directions": "random", "points": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def objective():
    x, y = strangers.data()
    return Objective(strangers.model().eval(), strangers.per_sample_loss, (x, y))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    for seed, name in enumerate("ab"):
        strangers.train_model(
            lambda m, o, name=name, seed=seed: record(
                folder / name, m, o, objective=OBJECTIVE, config={"seed": seed}, schedule=Schedule(every=3)
            ),
            steps=6,
        )
    return [Run.open(folder / name) for name in "ab"]


@pytest.mark.parametrize("name", QUICK)
def test_an_answer_without_a_run_is_drawn_and_claims_none(objective, name):
    ds = PROBES[name].function(objective, objective.w0, seed=0, **QUICK[name])
    assert ds.attrs["probe"] == name
    figure = plot(ds)
    text = " ".join(t.get_text() for ax in figure.axes for t in (ax.title, ax.xaxis.label, ax.yaxis.label))
    text += " ".join(ax.get_title(loc="left") for ax in figure.axes)
    assert "seed" not in text
    assert "nats per token" not in text
    assert "step" not in text
    assert figure._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", QUICK)
def test_answers_of_recorded_runs_are_drawn_each_for_itself(recorded, name):
    answers = [sweep(name, run, seed=0, **QUICK[name]) for run in recorded]
    labels = {t.get_text() for legend in plot(answers).legends for t in legend.get_texts()}
    titles = {ax.get_title(loc="left") for ax in plot(answers).axes}
    said = " ".join(labels | titles)
    assert "a" in said
    assert "(2 seeds)" not in said


def test_metrics_as_recorded_have_a_panel_each(recorded):
    figure = plot(recorded)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "accuracy", "learning_rate"]
    assert figure.axes[0].get_ylabel() == "loss unit"
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), recorded[0].metrics.loss)


def test_a_stored_file_a_mapping_and_a_list_are_answers(objective, tmp_path):
    ds = PROBES["spectrum"].function(objective, objective.w0, seed=0, k=3)
    save(ds, tmp_path / "spectrum.nc")
    for answer in (ds, tmp_path / "spectrum.nc", [ds]):
        line = plot(answer).axes[0].lines[0]
        np.testing.assert_allclose(line.get_ydata(), ds.eigenvalue)
    labels = [t.get_text() for t in plot({"one": ds, "two": ds}).legends[0].get_texts()]
    assert labels[:2] == ["one", "two"]
    assert [t.get_text() for t in plot([ds, ds], labels="xy").legends[0].get_texts()][:2] == ["x", "y"]


def test_names_that_are_not_ours_are_told_apart_within_a_figure(objective):
    ds = PROBES["spectrum"].function(objective, objective.w0, seed=0, k=2)
    lines = plot({f"m{i}": ds for i in range(12)}).axes[0].lines
    looks = {(line.get_color(), line.get_marker()) for line in lines}
    assert len(looks) == 12
    assert not {arch_style(a).color for a in ("single", "looped", "stacked", "shift")} & {c for c, _ in looks}


@pytest.mark.parametrize(
    ("answer", "settings", "message"),
    [
        ([], {}, "at least one answer"),
        (3, {}, "found int"),
        (xr.Dataset(), {}, "one of 'unknown'"),
        ("nowhere.nc", {}, "nowhere.nc"),
        ("spectrum", {"figure": "eigenvalue"}, "unknown figure 'eigenvalue'. Did you mean 'eigenvalues'"),
        ("spectrum", {"width": 1}, "unknown setting of figure 'eigenvalues': 'width'"),
        ("spectrum", {"labels": ["a", "b"]}, "one label for each of 1 answers, found 2"),
        (("spectrum", "samples"), {}, "answers of one probe, found samples, spectrum"),
        ("spectrum", {"figure": "density"}, "expected the variables"),
    ],
)
def test_what_cannot_be_drawn_is_told(objective, answer, settings, message):
    def made(name):
        known = isinstance(name, str) and name in PROBES
        return PROBES[name].function(objective, objective.w0, seed=0, **QUICK[name]) if known else name

    answer = list(map(made, answer)) if isinstance(answer, tuple) else made(answer)
    with pytest.raises(LandscapeError, match=message):
        plot(answer, **settings)


def test_losses_in_two_units_have_no_place_on_one_axis(objective):
    ours = BUILDERS["widths"]()
    theirs = ours.copy(deep=True)
    theirs["rise"] = theirs["rise"].assign_attrs(units="loss unit")
    with pytest.raises(LandscapeError, match=r"expected 'rise' in one unit, found 'nats per token' .* 'loss unit'"):
        plot([ours, theirs.assign_attrs(run_seed=1)])


def test_the_command_draws_with_the_same_code(recorded, landscape, monkeypatch):
    from landscape.cli import drawing as command

    drawn = []
    monkeypatch.setattr(command, "save_figure", lambda figure, path, dpi: drawn.append((figure, path.name)))
    for run in recorded:
        sweep("spectrum", run, seed=0, k=2)
    code, _, err = landscape("plot", recorded[0].path.parent, "eigenvalues", "--format", "png")
    assert code == 0, err
    (figure, name), mine = drawn[0], plot([sweep("spectrum", run, seed=0, k=2) for run in recorded])
    assert name == "eigenvalues.png"
    for a, b in zip(figure.axes, mine.axes, strict=True):
        for one, two in zip(a.lines, b.lines, strict=True):
            np.testing.assert_array_equal(one.get_ydata(), two.get_ydata())


def test_runs_that_were_not_probed_are_named_and_leave_the_others_drawn(recorded, landscape, tmp_path):
    with record(tmp_path / "c", strangers.model(), objective=OBJECTIVE) as rec:
        rec.save(0)
    sweep("spectrum", recorded[0], seed=0, k=2)
    code, out, err = landscape("plot", recorded[0].path, tmp_path / "c", "eigenvalues", "--format", "png")
    assert code == 0, err
    assert f"eigenvalues: drawn without {tmp_path / 'c'}: no answer of spectrum to the same question." in err
    assert out.split() == ["figures/eigenvalues.png"]
    text = next(tmp_path.rglob("eigenvalues.txt")).read_text(encoding="utf-8")
    assert f"id {recorded[0].id}" in text
    assert "Missing\nspectrum: no answer of c" in text


def test_options_are_checked_as_those_of_the_command():
    assert checked_options("density", {"width": 1}) == {"width": 1.0}
    assert set(FIGURES) >= {"eigenvalues", "learning"}
    with pytest.raises(LandscapeError, match=r"density.width to be float, found 'x'"):
        checked_options("density", {"width": "x"})


def test_nothing_is_left_in_torchs_or_matplotlibs_state(objective):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plot(PROBES["samples"].function(objective, objective.w0))
    assert dict(mpl.rcParams) == before
    assert torch.is_grad_enabled()
