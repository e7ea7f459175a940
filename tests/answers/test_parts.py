"""Single answers of a sweep: packed and unpacked they are the same, and a damaged one is computed again."""

import os

import numpy as np
import pytest
import xarray as xr

import landscape.answers.measure
import landscape.answers.sweep
from landscape import sweep
from landscape.answers.measure import Place, answers, answers_in_worker
from landscape.answers.parts import packed, unpacked
from landscape.answers.sweep import plan
from landscape.probes import PROBES


def test_packed_and_unpacked_is_the_same():
    ds = xr.Dataset(
        {
            "x": (("a", "b"), np.array([[1.0, np.nan], [-0.0, np.inf]]), {"units": "nats", "long_name": "a λ"}),
            "converged": ("a", np.array([True, False])),
            "scalar": ((), np.float32(0.1)),
            "none": (("empty", "a"), np.zeros((0, 2))),
        },
        {"a": np.array(["head", "blöcke.0"]), "b": [3, 5], "step": 7},
        {"probe": "spectrum", "seed": np.int64(3), "residual": 1e-17, "settings": '{"k": 2}'},
    )
    found = unpacked(packed(ds))
    assert found.identical(ds)
    assert {n: v.dtype for n, v in found.variables.items()} == {n: v.dtype for n, v in ds.variables.items()}
    assert np.signbit(found.x.values[1, 0])


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-40], lambda b: b"", lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:]]
)
def test_a_damaged_part_is_computed_again(fresh_run, monkeypatch, damage):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(landscape.answers.sweep, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep("spectrum", fresh_run, seed=0, k=2)
    parts = sorted((fresh_run.path / "results").rglob("*.npz"))
    assert len(parts) == len(fresh_run.steps)
    parts[0].write_bytes(damage(parts[0].read_bytes()))
    counted = []
    compute = landscape.answers.sweep.computed

    def count(requests, todo, **settings):
        counted.extend(todo)
        return compute(requests, todo, **settings)

    monkeypatch.setattr(landscape.answers.sweep, "computed", count)
    found = sweep("spectrum", fresh_run, seed=0, k=2)
    assert len(counted) == 1
    assert found.equals(sweep("spectrum", fresh_run, seed=0, k=2, recompute=True))
    assert not list((fresh_run.path / "results").rglob("*.npz"))


def test_what_a_lost_worker_had_saved_is_not_computed_again(fresh_run, monkeypatch):
    """Its call is made once more, by another worker: one of two answers is there."""
    requests = [plan(PROBES[name], fresh_run, seed=0, steps=[20]) for name in ("samples", "split")]
    first, second = (r.question for r in requests)
    place = Place.of(first, 20, None)
    whole = {i: ds for i, _, ds in answers(place, [(0, first), (1, second)])}
    second.forget(20)
    measured = []
    measure = landscape.answers.measure._measure
    monkeypatch.setattr(
        landscape.answers.measure, "_measure", lambda q, *a: (measured.append(q.probe.name), measure(q, *a))[1]
    )
    asked = [(i, q.probe, q.settings) for i, q in enumerate((first, second))]
    found = answers_in_worker(place, asked, 0, os.getpid())
    assert measured == ["split"]
    assert all(ds.drop_attrs().equals(whole[i].drop_attrs()) for i, _, ds in found)
    assert sorted(i for i, _, _ in found) == [0, 1]
