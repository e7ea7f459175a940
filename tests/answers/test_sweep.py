import json
import os
import signal

import numpy as np
import pytest
import torch
import xarray as xr

import landscape.answers.measure
import landscape.answers.sweep
import landscape.curvature.linearised
from landscape import LandscapeError, Run, RunFailedError, Study, sweep, train
from landscape.answers.files import load, save
from landscape.answers.question import LossSpec
from landscape.answers.sweep import answer, plan
from landscape.curvature.symmetric import Symmetric
from landscape.probes import PROBES, spectrum
from landscape.probes.base import Probe, Schema, Variable

FAST = {"spectrum": {"k": 2}, "valley": {"top": 1, "bottom": 0, "random": 1, "rises": [0.01]}, "surface": {"points": 3}}


def files(run):
    return sorted(p.relative_to(run.path).as_posix() for p in (run.path / "results").rglob("*") if p.is_file())


@pytest.mark.parametrize("name", ["spectrum", "valley", "samples", "surface"])
def test_every_probe_is_stored_with_units_and_origin_and_reused(fresh_run, name):
    ds = sweep(name, fresh_run, seed=0, **FAST.get(name, {}))
    assert all("units" in ds[v].attrs for v in ds.variables)
    assert {"run_id", "settings", "created", "probe_version", "code_revision", "data_fingerprint"} <= set(ds.attrs)
    (file,) = files(fresh_run)
    before = (fresh_run.path / file).stat().st_mtime_ns
    again = sweep(name, fresh_run, seed=0, **FAST.get(name, {}))
    assert again.equals(ds)
    assert (fresh_run.path / file).stat().st_mtime_ns == before
    PROBES[name].schema.check(load(fresh_run.path / file), swept=not PROBES[name].whole_run)


def test_sweep_is_the_probe_at_every_checkpoint(fresh_run):
    ds = sweep("spectrum", fresh_run, seed=0, k=2)
    objective = fresh_run.objective()
    for i, step in enumerate(fresh_run.steps):
        alone = spectrum(objective, fresh_run.parameters[i], seed=0, k=2)
        assert np.array_equal(ds.eigenvalue.sel(step=step), alone.eigenvalue)
    assert ds.step.values.tolist() == fresh_run.steps.tolist()


def test_only_other_settings_are_computed_again(fresh_run):
    a = sweep("spectrum", fresh_run, seed=0, k=2)
    b = sweep("spectrum", fresh_run, seed=0, k=3)
    c = sweep("spectrum", fresh_run, seed=0, k=2, samples=5)
    assert len(files(fresh_run)) == 3
    assert b.sizes["mode"] == 3
    assert not np.allclose(a.eigenvalue, c.eigenvalue)
    sweep("spectrum", fresh_run, seed=0, k=2, chunk=7)  # does not change the answer
    assert len(files(fresh_run)) == 3


def test_new_steps_are_added_to_what_is_there(fresh_run):
    steps = fresh_run.steps
    first = sweep("samples", fresh_run, seed=0, steps=steps[[0, 3]])
    assert first.step.values.tolist() == steps[[0, 3]].tolist()
    middle = sweep("samples", fresh_run, seed=0, steps=[int(steps[1])])
    assert middle.sizes["step"] == 1
    (file,) = files(fresh_run)
    assert load(fresh_run.path / file).step.values.tolist() == steps[[0, 1, 3]].tolist()
    everything = sweep("samples", fresh_run, seed=0)
    assert everything.sel(step=steps[[0, 3]]).loss.equals(first.loss)


def counting(stop_after=None):
    """A probe that counts its calls, and stops after some."""
    calls = []

    def probe(objective, w, *, seed: int, scale: float = 1.0):
        if stop_after is not None and len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(seed)
        return schema.dataset({"loss": scale * objective.loss(w)})

    schema = Schema({"loss": Variable((), "nats per token", "loss")})
    return Probe("counting", 1, probe, schema), calls


def test_an_interrupted_sweep_goes_on_where_it_stopped(fresh_run):
    probe, calls = counting(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        sweep(probe, fresh_run, seed=0)
    assert len(calls) == 3
    assert len(files(fresh_run)) == 3
    probe, calls = counting()
    seen = []
    ds = sweep(probe, fresh_run, seed=0, progress=lambda done, total: seen.append((done, total)))
    n = len(fresh_run.steps)
    assert len(calls) == n - 3
    assert seen == [(i, n) for i in range(3, n + 1)]
    expected = [float(fresh_run.objective().loss(w)) for w in fresh_run.parameters[:]]
    assert ds.loss.values.tolist() == expected
    assert len(files(fresh_run)) == 1


def test_killed_before_the_parts_are_joined(fresh_run, monkeypatch):
    """All checkpoints are answered but their file is not written: repeating the request writes it."""
    probe, calls = counting()
    with monkeypatch.context() as patch:
        patch.setattr("landscape.answers.sweep.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sweep(probe, fresh_run, seed=0)
    n = len(fresh_run.steps)
    assert (len(calls), len(files(fresh_run))) == (n, n)
    ds = sweep(probe, fresh_run, seed=0)
    assert len(calls) == n
    (file,) = files(fresh_run)
    assert load(fresh_run.path / file).loss.equals(ds.loss)


def test_damaged_parts_and_recompute(fresh_run):
    probe, _ = counting(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        sweep(probe, fresh_run, seed=0)
    (fresh_run.path / files(fresh_run)[0]).write_bytes(b"half")
    probe, calls = counting()
    sweep(probe, fresh_run, seed=0)
    assert len(calls) == len(fresh_run.steps) - 1
    sweep(probe, fresh_run, seed=0, recompute=True)
    assert len(calls) == 2 * len(fresh_run.steps) - 1


def test_results_of_another_run_in_the_folder_or_another_version_are_not_used(fresh_run):
    probe, calls = counting()
    sweep(probe, fresh_run, seed=0)
    (file,) = files(fresh_run)
    ds = load(fresh_run.path / file)
    for change in ({"run_id": "someone else"}, {"probe_version": 0}, {"settings": "{}"}):
        save(ds.assign_attrs(change), fresh_run.path / file)
        calls.clear()
        sweep(probe, fresh_run, seed=0)
        assert len(calls) == len(fresh_run.steps)


@pytest.mark.slow
def test_workers_give_the_same_answer(fresh_run):
    one = sweep("valley", fresh_run, seed=0, **FAST["valley"])
    two = sweep("valley", fresh_run, seed=0, jobs=2, recompute=True, **FAST["valley"])
    assert one.equals(two)


def test_several_requests_in_one_pool(fresh_run):
    requests = [
        plan(PROBES[n], fresh_run, seed=0, steps=[0, 20], settings=FAST.get(n, {}))
        for n in ("samples", "surface", "spectrum")
    ]
    seen = []
    found = answer(requests, progress=lambda i, done, total: seen.append((i, done, total)))
    assert [ds.attrs["probe"] for ds in found] == ["samples", "surface", "spectrum"]
    assert found[1].attrs["step"] == 20
    assert (seen[-1], len(files(fresh_run))) == ((2, 2, 2), 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": [2, 19]}, "no checkpoint of step 19"),
        ({"steps": []}, "at least one step"),
        ({"kk": 3}, "unknown setting of probe 'spectrum': 'kk'"),
        ({"k": "ten"}, r"spectrum\.k to be int, found 'ten'"),
        ({"which": "topp"}, "one of 'top', 'bottom'"),
        ({"dtype": "float16"}, "expected dtype"),
        ({"split": "validation"}, "unknown split 'validation'"),
        ({"samples": 22}, "between 1 and 21 samples"),
        ({"parameters": "none"}, "no parameter matches 'none'"),
    ],
)
def test_wrong_requests_are_explained(fresh_run, settings, message):
    with pytest.raises(LandscapeError, match=message):
        sweep("spectrum", fresh_run, seed=0, **settings)


def test_unknown_probe_lists_the_valid_ones(fresh_run):
    with pytest.raises(LandscapeError, match="unknown probe 'spectre'"):
        sweep("spectre", fresh_run, seed=0)


def test_parameter_subset_in_a_sweep(fresh_run):
    for name in ("spectrum", "surface"):
        sweep(name, fresh_run, seed=0, parameters="blocks.*", **FAST[name])
    ds = sweep("spectrum", fresh_run, seed=0, parameters="blocks.*", k=2)
    mask = fresh_run.layout.mask("blocks.*")
    block = fresh_run.objective().hessian(fresh_run.parameters[-1]).block(mask).dense()
    assert np.allclose(ds.eigenvalue[-1], torch.linalg.eigvalsh(block).flip(0)[:2], rtol=1e-9)
    losses = {p: sweep("samples", fresh_run, seed=0, parameters=p).loss for p in (None, "embedding", "blocks.*")}
    assert np.allclose(losses["embedding"], losses[None], rtol=1e-12)
    assert np.allclose(losses["blocks.*"], losses[None], rtol=1e-12)
    surface = sweep("surface", fresh_run, seed=0, parameters="blocks.*", **FAST["surface"])
    assert np.allclose(surface.path_loss, losses[None].mean("sample"), rtol=1e-12)


def test_save_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    ds = xr.Dataset({"x": ("n", [1.0, np.nan])}, attrs={"probe": "test"})
    save(ds, path)

    def fail(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("landscape.answers.files.os.fsync", fail)
        with pytest.raises(RunFailedError, match="No space left"):
            save(ds * 2, path)
    assert load(path).equals(ds)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]


@pytest.mark.parametrize("content", [b"", b"not a dataset", b"\x89HDF\r\n\x1a\n" + bytes(40)])
def test_damaged_results_are_explained(tmp_path, content):
    path = tmp_path / "spectrum-000000.nc"
    path.write_bytes(content)
    with pytest.raises(LandscapeError, match="damaged or foreign"):
        load(path)
    with pytest.raises(LandscapeError, match="found none"):
        load(tmp_path / "none.nc")


def test_schema_refuses_what_it_does_not_promise():
    schema = Schema({"x": Variable(("n",), "1", "x"), "ok": Variable((), "1", "flag", "b")}, optional=frozenset({"ok"}))
    schema.dataset({"x": np.ones(2)})
    schema.dataset({"x": torch.ones(2), "ok": True})
    with pytest.raises(LandscapeError, match="missing \\['x'\\]"):
        schema.dataset({"ok": True})
    with pytest.raises(LandscapeError, match="'f'"):
        schema.dataset({"x": np.ones(2, dtype=int)})
    with pytest.raises(LandscapeError, match=r"unknown \['y'\]"):
        schema.check(xr.Dataset({"x": ("n", [1.0]), "y": 1.0}))


def test_parts_with_other_axes_are_not_stacked():
    schema = Schema({"x": Variable(("n",), "1", "x"), "n": Variable(("n",), "", "label", "U", swept=False)})
    a, b = (schema.dataset({"x": np.ones(1)}, coords={"n": np.array([label])}) for label in "ab")
    assert schema.stack({5: a, 2: a}).step.values.tolist() == [2, 5]
    with pytest.raises(LandscapeError, match="same axes"):
        schema.stack({5: a, 2: b})


def test_study_takes_the_newest_settings_that_all_runs_have(config, tmp_path):
    runs = {a: train(config(a), tmp_path / a) for a in ("looped", "single")}
    study = Study.open([tmp_path])
    assert [r.config.arch for r in study] == ["single", "looped"]
    with pytest.raises(LandscapeError, match=r"no result of probe 'spectrum' for .*single.*looped.*landscape probe"):
        study.results("spectrum")
    for run in runs.values():
        sweep("spectrum", run, seed=0, k=2)
    sweep("spectrum", runs["looped"], seed=0, k=3)
    assert [ds.sizes["mode"] for ds in study.results("spectrum")] == [2, 2]
    assert [json.loads(ds.attrs["settings"])["k"] for ds in study.results("spectrum")] == [2, 2]
    assert [ds.attrs["probe"] for ds in study.results("metrics")] == ["metrics"] * 2
    with pytest.raises(LandscapeError, match=r"found no|found none"):
        Study.open([tmp_path / "nowhere"])


@pytest.mark.slow
def test_probing_leaves_the_run_unchanged(fresh_run):
    before = (fresh_run.path / "run.h5").read_bytes()
    for name in set(PROBES) - {"length", "examples"}:  # which the Markov language does not have
        sweep(name, fresh_run, seed=0, steps=[20], **FAST.get(name, {}))
    assert (fresh_run.path / "run.h5").read_bytes() == before
    assert Run.open(fresh_run.path).complete


@pytest.mark.slow
def test_one_objective_and_one_trace_serve_all_checkpoints(fresh_run, monkeypatch):
    built, traced = [], []
    make, trace = Run.objective, landscape.curvature.linearised.cut
    monkeypatch.setattr(Run, "objective", lambda self, *a, **k: built.append(k) or make(self, *a, **k))
    monkeypatch.setattr(landscape.curvature.linearised, "cut", lambda *a, **k: traced.append(1) or trace(*a, **k))
    monkeypatch.setattr(landscape.curvature.linearised, "_PARTS", {})
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    monkeypatch.setattr(landscape.answers.measure, "_LAST", {})
    ds = sweep("spectrum", fresh_run, seed=0, k=2, strategy="compiled")
    assert len(built) == len(traced) == 1
    assert ds.attrs["strategy"] == "compiled"
    kept = sweep("spectrum", fresh_run, seed=0, k=2, strategy="cached")
    np.testing.assert_allclose(ds.eigenvalue, kept.eigenvalue, rtol=1e-10)
    part = sweep("spectrum", fresh_run, seed=0, k=2, parameters="head")  # the others differ between checkpoints
    assert len(built) == 1 + len(fresh_run.steps)
    assert not np.allclose(part.eigenvalue, kept.eigenvalue)


def test_probes_at_one_checkpoint_share_what_they_remember(fresh_run):
    made = []

    def count(objective, w):
        value = objective.remember("sum", w, lambda: made.append(1) or float(w.sum()))
        return schema.dataset({"sum": value})

    schema = Schema({"sum": Variable((), "1", "sum of the parameters")})
    probes = [Probe(name, 1, count, schema) for name in ("one", "two")]
    both = answer([plan(p, fresh_run, seed=0) for p in probes])
    assert len(made) == len(fresh_run.steps)
    expected = fresh_run.parameters[:].double().sum(1)
    for ds in both:
        np.testing.assert_allclose(ds["sum"], expected, rtol=1e-12)


def test_a_killed_worker_loses_its_checkpoint_only(fresh_run, tmp_path):
    here, n, marker = os.getpid(), len(fresh_run.steps), tmp_path / "killed"
    schema = Schema({"loss": Variable((), "nats per token", "loss")})

    def probe(objective, w, *, seed: int):
        if os.getpid() != here and not marker.exists():
            marker.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        return schema.dataset({"loss": objective.loss(w)})

    probe = Probe("counting", 1, probe, schema)
    with pytest.raises(RunFailedError, match=rf"step \d+ of .*killed.* {n - 1} of {n} .*--jobs.*--chunk"):
        sweep(probe, fresh_run, seed=0, jobs=2)
    assert len(files(fresh_run)) == n - 1
    done = sweep(probe, fresh_run, seed=0, jobs=2)
    assert done.loss.values.tolist() == [float(fresh_run.objective().loss(w)) for w in fresh_run.parameters[:]]


@pytest.mark.slow
def test_workers_give_the_same_for_several_requests(fresh_run):
    names = {"spectrum": {"k": 2}, "samples": {}, "density": {"vectors": 2, "quad": 4, "trace_products": 0}}
    one = answer(
        [plan(PROBES[n], fresh_run, LossSpec(metric="euclidean"), seed=0, settings=s) for n, s in names.items()]
    )
    two = answer([plan(PROBES[n], fresh_run, seed=0, settings=s) for n, s in names.items()], jobs=2, recompute=True)
    for a, b in zip(one, two, strict=True):
        assert a.equals(b)


def test_recomputing_some_steps_keeps_the_others(fresh_run):
    whole = sweep("samples", fresh_run, seed=0)
    last = int(fresh_run.steps[-1])
    sweep("samples", fresh_run, seed=0, steps=[last], recompute=True)
    (file,) = files(fresh_run)
    assert load(fresh_run.path / file).step.values.tolist() == whole.step.values.tolist()


def test_steps_stored_by_a_command_at_the_same_time_stay(fresh_run, monkeypatch):
    first, last = int(fresh_run.steps[0]), int(fresh_run.steps[-1])
    finish = landscape.answers.sweep.finish

    def another_first(question, parts):
        monkeypatch.setattr(landscape.answers.sweep, "finish", finish)
        sweep("samples", fresh_run, seed=0, steps=[last])
        finish(question, parts)

    monkeypatch.setattr(landscape.answers.sweep, "finish", another_first)
    sweep("samples", fresh_run, seed=0, steps=[first])
    (file,) = files(fresh_run)
    assert load(fresh_run.path / file).step.values.tolist() == [first, last]


def test_two_probes_at_one_checkpoint_share_the_dense_hessian(fresh_run, monkeypatch):
    made = []
    dense = Symmetric.dense
    monkeypatch.setattr(Symmetric, "dense", lambda self: made.append(1) or dense(self))
    last = [int(fresh_run.steps[-1])]
    answer([plan(PROBES[n], fresh_run, seed=0, steps=last) for n in ("entropy", "force", "split")])
    assert len(made) == 1
