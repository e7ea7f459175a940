"""Compiling unasked: only where it pays by what was measured, told, remembered, and never with other numbers."""

import json

import pytest
import torch
from support.oracles import toy

import landscape.curvature.linearised as linearised
import landscape.loss.strategies as strategies
from landscape import sweep
from landscape.loss import planner
from landscape.loss.planner import Experience, experiences, worth


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """No experience at the start."""
    monkeypatch.setenv("LANDSCAPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(planner, "_HERE", set())
    return tmp_path / "cache"


@pytest.fixture
def uncompiled(monkeypatch):
    """The traced and cut graph, run as it is, where the native kernel does not help."""
    monkeypatch.setattr(linearised, "_PARTS", {})
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    monkeypatch.setattr(strategies, "native_obstacle", lambda _: "left out in this test")


def timings(monkeypatch, *, plain, compiled):
    """What is measured: seconds of a plain product, and whether compiled ones turn out to be faster."""
    monkeypatch.setattr(strategies, "seconds_of", lambda _: plain)
    keep = strategies.remembered

    def remembered(*args, **more):
        keep(*args, **more)
        return compiled < plain

    monkeypatch.setattr(strategies, "remembered", remembered)


class Graph:
    """What would be compiled."""

    def __init__(self, nodes, digest="a"):
        self.nodes, self.digest, self.asked = nodes, digest, 0

    def size(self, block):
        self.asked += 1
        return self.nodes, self.digest


def test_it_pays_from_so_many_products_on():
    graph = Graph(1000)  # 15 s to start; a quarter of each product is saved
    assert not worth(lambda: graph, 0.1, products=700, block=1)
    assert worth(lambda: graph, 0.1, products=800, block=1)
    assert not worth(lambda: Graph(100_000), 0.1, products=800, block=1)
    graph.asked = 0
    assert not worth(lambda: graph, 0.01, products=700, block=1)
    assert graph.asked == 0, "nothing is traced where no gain is imaginable"


def test_what_it_took_before_counts_more_than_a_guess(folder):
    planner._keep("a", Experience(nodes=1000, start=5.0, share=0.5))
    assert worth(lambda: Graph(1000, "a"), 0.1, products=140, block=1)
    assert not worth(lambda: Graph(1000, "a"), 0.1, products=120, block=1)
    assert worth(lambda: Graph(2000, "b"), 0.1, products=280, block=1), "another graph of this machine"
    planner._keep("a", Experience(nodes=1000, start=5.0, share=1.1))
    assert not worth(lambda: Graph(1000, "a"), 0.1, products=10**9, block=1), "it was slower"
    (folder / "compiling.json").write_text("{")
    assert experiences() == {}
    assert worth(lambda: Graph(1000, "a"), 0.1, products=800, block=1)


def test_auto_compiles_where_it_pays_says_so_and_gives_the_same(uncompiled, monkeypatch, caplog, folder):
    objective = toy(loops=2)
    v = torch.sin(torch.arange(objective.size)).to(objective.w0)
    timings(monkeypatch, plain=1.0, compiled=0.5)
    assert objective.hessian(objective.w0, products=3).strategy == "cached"
    assert not folder.exists(), "nothing was tried"
    plain = objective.hessian(objective.w0, strategy="cached").mv(v)
    with caplog.at_level("INFO", logger=planner.__name__):
        H = objective.hessian(objective.w0, products=10_000)
    assert H.strategy == "compiled"
    assert torch.allclose(H.mv(v), plain, rtol=1e-10, atol=1e-14)
    first, second = (record.getMessage() for record in caplog.records)
    assert "compiling Hessian products" in first
    assert "10,000 products" in first
    assert "compiled in" in second
    (kept,) = json.loads((folder / "compiling.json").read_text()).values()
    assert kept["nodes"] > 100
    assert objective.hessian(objective.w0 + 0.1).strategy == "compiled", "what is there is used"
    assert toy(loops=2).at(objective.w0).hessian(objective.w0).strategy == "cached", "another objective asks anew"
    (folder / "compiling.json").write_text(json.dumps({next(iter(experiences())): kept | {"start": 1e9}}))
    caplog.clear()
    with caplog.at_level("INFO", logger=planner.__name__):
        assert toy(loops=2).hessian(objective.w0, products=10_000).strategy == "compiled", "it starts at once here"
    assert not caplog.records, "said once"
    assert next(iter(experiences().values())).start == 1e9, "a later process has to compile"


def test_what_is_slower_compiled_is_not_used(uncompiled, monkeypatch):
    objective = toy(loops=2)
    timings(monkeypatch, plain=1.0, compiled=2.0)
    for _ in range(2):
        assert objective.hessian(objective.w0, products=10_000).strategy == "cached"


def test_a_sweep_tells_what_is_to_come_unless_it_may_not_compile(uncompiled, monkeypatch, fresh_run):
    timings(monkeypatch, plain=1.0, compiled=0.5)
    plain = sweep("spectrum", fresh_run, seed=0, k=2, compiling=False)
    assert plain.attrs["strategy"] == "cached"
    asked = []
    monkeypatch.setattr(strategies, "worth", lambda *_, products, **__: asked.append(products) or len(asked) > 2)
    found = sweep("spectrum", fresh_run, seed=0, k=2, recompute=True)
    assert asked == sorted(asked, reverse=True)
    assert asked[0] > asked[-1], "fewer and fewer"
    assert found.attrs["strategy"] == "cached, compiled", "a mixture is no secret"
    assert torch.allclose(*(torch.from_numpy(ds.eigenvalue.values) for ds in (found, plain)), rtol=1e-9)
