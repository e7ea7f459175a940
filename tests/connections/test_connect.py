"""Checkpoints of runs connected: which losses, which units, what is stored, what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import strangers
from support.runs import small_config

from landscape import LandscapeError, Run, Schedule, connect, import_checkpoints, load, plot, record, train
from landscape.answers.files import DamagedError
from landscape.connections import asking
from landscape.connections.ends import End, symmetry_of
from landscape.connections.matching import order_of

FEW = {"seed": 0, "points": 5, "iterations": 1, "nodes": 2}
SHORT = {"steps": 2, "evaluate_every": 2, "checkpoints": 2}
OBJECTIVE = "support.strangers:objective"


@pytest.fixture(scope="module")
def kept(run, tmp_path_factory):
    """Runs by name: looped of two seeds, single, and others that fit none of them."""
    root = tmp_path_factory.mktemp("ends")
    changes = {
        "looped-1": {"seed": 1},
        "single": {"arch": "single"},
        "stacked": {"arch": "stacked", **SHORT},
        "wide": {"model": {"width": 5}, **SHORT},
        "normed": {"model": {"width": 4, "norm": "pre"}, **SHORT},
        "elsewhere": {"task": {**small_config().to_dict()["task"], "seed": 3}, **SHORT},
        "shift": {"arch": "shift", "shift": {"criterion": "fixed", "at": 10}},
    }
    shutil.copytree(run.path, root / "looped")
    for name, change in changes.items():
        train(small_config(**change), root / name)
    return root


@pytest.fixture
def runs(kept, tmp_path):
    """Copies, to write answers into."""
    shutil.copytree(kept, tmp_path / "runs")
    return {path.name: Run.open(path) for path in (tmp_path / "runs").iterdir()}


def test_losses_at_the_ends_are_those_of_the_checkpoints(runs):
    a, b = runs["single"], runs["looped"]
    ds = connect(a, f"{b.path}@{b.steps[2]}", **FEW)
    assert ds.objective.values.tolist() == ["single", "looped"]
    for label, own in (("single", a), ("looped", b)):
        objective = own.objective("probe")
        ends = [objective.loss(a.parameters[-1]), objective.loss(b.parameters[2])]
        for alignment in ("none", "matched"):
            for path in ("line", "curve"):
                found = ds.loss.sel(objective=label, alignment=alignment, path=path).values[[0, -1]]
                np.testing.assert_allclose(found, ends, rtol=1e-12)
    assert ds.attrs["step"] == a.steps[-1]
    assert ds.attrs["step_b"] == b.steps[2]
    assert ds.attrs["run_id_b"] == b.id
    assert ds.loss.attrs["units"] == "nats per token"


def test_units_that_were_mixed_leave_no_barrier(runs, monkeypatch):
    """The other end is the first one with its units in another order: no distance is left, and no barrier."""
    a, b = runs["looped"], runs["looped-1"]
    symmetry, _ = symmetry_of(End.of(a), End.of(b))
    places = {"stream": np.array([2, 0, 3, 1]), "blocks.0.scores": np.array([1, 0, 3, 2])}
    order = order_of(symmetry, a.layout, places)
    vector = End.vector
    monkeypatch.setattr(End, "vector", lambda e, o: vector(End.of(a), o)[order] if e.run.id == b.id else vector(e, o))
    ds = connect(a, b, **FEW)
    line = ds.sel(path="line", objective="looped")
    assert np.ptp(line.loss.sel(alignment="none").values) > 1e-4
    assert line.distance.values[1] == 0
    assert line.moved.values.tolist() == [0, 1]
    assert np.ptp(line.loss.sel(alignment="matched").values) < 1e-12
    assert ds.curve_reason.sel(alignment="matched").item() == "no distance"
    assert ds.attrs["alignment"].startswith("units of b in the order of a's")


def test_one_loss_where_both_ends_have_it_and_two_where_loops_differ(runs):
    ds = connect(runs["looped"], runs["looped-1"], **FEW, align=False)
    assert ds.objective.values.tolist() == ["looped"]
    assert ds.alignment.values.tolist() == ["none"]
    assert ds.attrs["alignment"] == "not asked for"
    shift = runs["shift"]
    early = next(int(s) for s in shift.steps if 0 < s < 10)
    ds = connect(f"{shift.path}@{early}", shift, **FEW)
    assert ds.objective.values.tolist() == ["shift, 1 loop", "shift, 3 loops"]
    assert connect(runs["looped"], shift, **FEW).objective.values.tolist() == ["looped and shift"]


def test_a_checkpoint_and_itself(runs):
    ds = connect(runs["looped"], f"{runs['looped'].path}@last", **FEW)
    assert (ds.barrier == 0).all()
    assert (ds.distance == 0).all()
    assert set(ds.curve_reason.values.ravel()) == {"no distance"}


def test_an_answer_is_asked_once_and_overwritten_only_when_asked(runs, tmp_path, monkeypatch):
    a, b = runs["looped"], runs["looped-1"]
    first = connect(a, b, **FEW)
    (path,) = (a.path / "results").iterdir()
    assert path.name.startswith("connect-")
    assert load(path).identical(load(path))
    named = tmp_path / "mine.nc"
    connect(a, b, **FEW, output=named)
    monkeypatch.setattr(asking, "connect_points", lambda *_, **__: pytest.fail("computed again"))
    assert connect(a, b, **FEW).drop_attrs().equals(first.drop_attrs())
    connect(a, b, **FEW, output=named)
    with pytest.raises(LandscapeError, match=r"expected no file at .*mine.nc, found the answer to another question"):
        connect(a, b, **{**FEW, "points": 7}, output=named)
    monkeypatch.undo()
    assert connect(a, b, **{**FEW, "points": 7}, output=named, recompute=True).sizes["t"] == 7
    assert load(named).sizes["t"] == 7
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedError):
        connect(a, b, **FEW)
    assert connect(a, b, **FEW, recompute=True).drop_attrs().equals(first.drop_attrs())


def test_an_interrupted_command_keeps_the_curves_it_finished(runs):
    a, b = runs["single"], runs["looped"]
    seen = []

    def stop(name, done):
        seen.append(name)
        if name == "none looped":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        connect(a, b, **FEW, progress=stop)
    (folder,) = (a.path / "results").iterdir()
    assert len(list(folder.iterdir())) == 1
    seen.clear()
    went_on = connect(a, b, **FEW, progress=lambda name, done: seen.append(name))
    assert "none single" not in seen
    assert "none looped" in seen
    assert [p.suffix for p in (a.path / "results").iterdir()] == [".nc"]
    assert connect(a, b, **FEW, recompute=True).drop_attrs().equals(went_on.drop_attrs())


def test_bends_are_kept_on_request_and_make_the_curve(runs):
    a, b = runs["looped"], runs["looped-1"]
    ds = connect(a, b, **FEW, bends=2, keep_bends=True)
    w = torch.from_numpy(ds.bend_vector.sel(alignment="matched", objective="looped").values)
    end = b.parameters[-1].double()[torch.from_numpy(ds.order.sel(alignment="matched").values)]
    middle = (a.parameters[-1].double() + 3 * w[0] + 3 * w[1] + end) / 8
    loss = a.objective("probe").loss(middle)
    assert ds.loss.sel(alignment="matched", path="curve", objective="looped", t=0.5).item() == pytest.approx(
        float(loss)
    )
    assert "bend_vector" not in connect(a, b, **FEW)


def test_float32_and_some_samples(runs):
    wide = connect(runs["looped"], runs["looped-1"], **FEW, samples=8)
    slim = connect(runs["looped"], runs["looped-1"], **FEW, samples=8, dtype="float32")
    np.testing.assert_allclose(slim.loss.sel(path="line"), wide.loss.sel(path="line"), rtol=1e-4)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("stacked", r"two layouts: looped has .* stacked has"),
        ("wide", r"two layouts: .*\(markov, looped, layout"),
        ("normed", "differ in their loops alone, found model.norm: none and pre"),
        ("elsewhere", r"the same data, .* \(task.seed: 0 and 3\)"),
        ("looped@7000", "no checkpoint of step 7000. The nearest are"),
        ("looped@x", "expected RUN or RUN@STEP"),
        ("nowhere", "nowhere"),
    ],
)
def test_runs_without_a_path_between_them_are_refused(kept, other, message):
    with pytest.raises(LandscapeError, match=message):
        connect(kept / "looped", str(kept / other), **FEW)
    assert not list((kept / "looped").glob("results/connect*"))


@pytest.mark.parametrize(("bad", "message"), [({"points": 2}, "points >= 3"), ({"restarts": 0}, "restarts >= 1"),
                                              ({"bends": 0}, "bends >= 1"), ({"dtype": "int8"}, "dtype")])  # fmt: skip
def test_bad_settings_are_refused(kept, bad, message):
    with pytest.raises(LandscapeError, match=message):
        connect(kept / "looped", kept / "looped-1", **{**FEW, **bad})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    strangers.train_model(
        lambda m, o: record(folder / "a", m, o, objective=OBJECTIVE, schedule=Schedule(every=3)), steps=6
    )
    return Run.open(folder / "a")


def test_runs_of_others_are_connected_with_their_buffers_and_not_aligned(recorded):
    first, last = f"{recorded.path}@0", f"{recorded.path}@6"
    ds = connect(first, last, **FEW)
    assert ds.objective.values.tolist() == ["a@0", "a@6"]  # running means differ
    assert ds.alignment.values.tolist() == ["none"]
    assert ds.attrs["alignment"] == "not possible: which units of a recorded run may change places is not known"
    assert ds.loss.attrs["units"] == "loss unit"
    for step, label in ((0, "a@0"), (6, "a@6")):
        loss = recorded.objective(at=step)
        w = recorded.parameters[recorded.index(step)]
        at = {0: 0, 6: -1}[step]
        assert ds.loss.sel(objective=label, path="line").values.ravel()[at] == pytest.approx(float(loss.loss(w)))
    assert len(plot(ds).axes) == 2


def test_imported_runs_of_one_loss_are_connected(tmp_path):
    for seed in (0, 1):
        net = torch.nn.Linear(4, 2)
        torch.save(net.state_dict(), tmp_path / f"{seed}.pt")
        import_checkpoints([tmp_path / f"{seed}.pt"], tmp_path / f"run{seed}", objective="support.strangers:other")
    ds = connect(tmp_path / "run0", tmp_path / "run1", **FEW)
    assert ds.sizes["objective"] == 1
    assert (ds.barrier.sel(path="line") < 1e-12).all()  # a convex loss


def test_the_command_says_the_barriers_and_draws_them(runs, landscape):
    """Numbers on stdout are those of the file."""
    code, out, err = landscape(
        "connect", runs["looped"].path, runs["looped-1"].path, "--points", 5, "--iterations", 1, "--nodes", 2, "-q",
        "--plot", "c.png",
    )  # fmt: skip
    assert (code, err) == (0, "")
    path = next(word for word in out.split() if word.endswith(".nc"))
    ds = load(Path(path))
    assert f"{ds.barrier.sel(alignment='none', path='line', objective='looped').item():.4g}" in out
    assert "iterations, 1 steps" in out
    code, out, err = landscape("plot", runs["looped"].path, "connect", "--format", "png")
    assert code == 0, err
    assert out.split() == ["figures/connect.png"]
    code, out, err = landscape("plot", runs["wide"].path, "connect")
    assert code == 2
    assert "landscape connect RUN_A RUN_B" in err
    code, out, err = landscape("connect", runs["looped"].path, runs["wide"].path)
    assert code == 2
    assert err.startswith("Error: expected runs with the same parameters")
    assert landscape("connect", runs["looped"].path, runs["looped-1"].path, "--plot", "c.gif")[0] == 2
