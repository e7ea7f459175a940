"""The benchmarks run from end to end, with whatever peers are installed, and become a document."""

import importlib.util
import json
import re
import subprocess
import sys

import pytest
import torch
from support.rooms import ROOT

FOLDER = ROOT / "benchmarks"
PEERS = {
    "PyHessian": "pyhessian",
    "Landscaper": "landscaper",
    "curvlinops + eigsh": "curvlinops",
    "hessian-eigenthings": "hessian_eigenthings",
}


def run(script, *arguments):
    command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's modules, importable as they are for its scripts."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The folder of one quick benchmark of all questions about one checkpoint, and what it showed."""
    folder = tmp_path_factory.mktemp("quick")
    questions = [x for question in ("top", "density", "full") for x in ("--only", question)]
    return folder, run("curvature.py", "--quick", *questions, "--repeats", 2, "--columns", 9, "-o", folder)


@pytest.mark.slow
def test_quick_benchmark_stores_medians_products_and_environment(quick):
    folder, shown = quick
    reports = {q: json.loads((folder / f"{q}-toy-whole.json").read_text()) for q in ("top", "density")}
    for question, report in reports.items():
        rows = report[question]["methods"]
        assert {"ours, cached", "ours, compiled"} <= set(rows)
        assert {n for n, package in PEERS.items() if n in rows and not importlib.util.find_spec(package)} == set()
        for row in rows.values():
            assert 0 < row["min_s"] <= row["median_s"] <= row["max_s"]
            assert row["repeats"] == 2
        assert rows["ours, compiled"]["products"] == rows["ours, cached"]["products"] > 0
        assert rows["ours, compiled"]["compile_s"] > 0
        assert report["environment"]["packages"]["torch"]
    top = reports["top"]["top"]
    assert top["reference_residual"] < 1e-9
    assert all(row["error"] <= top["accuracy"] and row["reached"] for row in top["methods"].values())
    assert all(row["product_error"] < 1e-5 for name, row in top["methods"].items() if name in PEERS)
    # The same number of products gives traces that agree within a few standard errors.
    rows = reports["density"]["density"]["methods"].values()
    assert len({r["products"] for r in rows}) == 1
    traces = [(r["trace"], r["trace_stderr"]) for r in rows]
    assert all(abs(t - traces[0][0]) < 6 * (e + traces[0][1]) for t, e in traces)
    assert "| ours, cached |" in shown


@pytest.mark.slow
def test_full_spectrum_and_document(quick, tmp_path):
    folder, _ = quick
    full = json.loads((folder / "full-toy.json").read_text())["full"]
    assert (full["columns"], full["extrapolated"]) == (9, True)
    assert {row["products"] for row in full["methods"].values()} == {full["of"]}
    assert all(row["error"] < 1e-5 for row in full["methods"].values())
    run("report.py", "--results", folder, "--write", tmp_path / "text" / "benchmarks.md")
    text = (tmp_path / "text" / "benchmarks.md").read_text()
    assert "scaled up" in text
    assert "not a result" in text
    assert all(f"| {name} |" in text for name in full["methods"])


@pytest.mark.slow
def test_uneven_batches_cover_the_data_and_average_to_the_same_loss(modules):
    from problems import PROBLEMS, problem, trained

    for name in PROBLEMS:
        model = trained(name, quick=True)
        assert model.loss_after < model.loss_before
        whole, uneven = problem(model, "whole"), problem(model, "uneven")
        assert len(whole.batches) == 1
        sizes = [len(x) for x, _ in uneven.batches]
        assert len(sizes) == len(uneven.even) == 8 == len(list(uneven.objective.chunks.slices()))
        assert len(set(sizes)) > 4
        assert all(torch.equal(a, b) for a, b in zip(whole.data, uneven.data, strict=True))
        losses = [uneven.loss(uneven.module(x), t).item() for x, t in uneven.batches]
        mean = sum(n * value for n, value in zip(sizes, losses, strict=True)) / sum(sizes)
        assert mean == pytest.approx(float(whole.objective.loss(whole.objective.w0)), rel=1e-5)


@pytest.mark.slow
def test_training_is_timed_and_told(tmp_path, modules):
    from document import _training

    run("training.py", "--quick", "--repeats", 1, "-o", tmp_path)
    found = json.loads((tmp_path / "training.json").read_text())
    assert found["seeds"]["equal"] is True
    assert all(model["error"] < 1e-5 for model in found["gradients"].values())
    text = _training(found)
    assert "the same bits" in text
    assert "not a result" in text
    assert text.count("| autograd |") == len(found["gradients"]) == 1


@pytest.mark.slow
def test_the_price_of_recording_is_measured_and_told(tmp_path, modules):
    command = [sys.executable, FOLDER / "recording.py", "--quick", "-o", tmp_path / "recording.json"]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "recording.json").read_text())
    assert found["rows"][0]["P"] == 1860
    assert 0 < found["rows"][0]["noted"] < found["rows"][0]["kept"]
    assert "| 1860 |" in importlib.import_module("recording").section(found)


def test_the_script_for_cards_runs_without_one_and_is_told(tmp_path, modules):
    """Its errors are then those of rounding, and its section of the document says that there was no card."""
    command = [sys.executable, FOLDER / "gpu.py", "--quick", "--model", "CNN"]
    subprocess.run([*command, "-o", tmp_path / "gpu.json"], check=True, capture_output=True)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [r["dtype"] for r in found["right"]] == ["float64", "float32"]
    for r in found["right"]:
        bound = 1e-12 if r["dtype"] == "float64" else 1e-5
        errors = [x for key, x in r.items() if isinstance(x, float)]
        assert len(errors) >= 6
        assert max(errors) < bound
    text = importlib.import_module("cards").section(found)
    assert not re.search(r"nan|failed|refused", text)
    if not torch.cuda.is_available():
        assert "ran on the CPU" in text


def test_ladder_takes_the_cheapest_rung_that_is_accurate_enough(modules):
    from ours import Ours
    from timing import GaveUp, choose, timed

    reference = torch.tensor([2.0, 1.0])
    costs = {1: (0.1, 5), 2: (1e-5, 9), 3: (1e-6, 7), 4: (0.0, 1)}

    def top(counter, *, rung):
        error, products = costs[rung]
        counter.tick(products)
        return reference + error, 0.0

    def run(limit, **settings):
        return timed(top, limit=limit, **settings)

    method = Ours("cached", rungs=[{"rung": i} for i in costs], ahead=1)
    choice = choose(run, method, reference, accuracy=1e-4, patience=100.0)
    assert choice.settings == {"rung": 3}  # fewer products than rung 2; rung 4 is beyond the one rung ahead
    assert choose(run, method, reference, accuracy=1e-9, patience=100.0).settings == {"rung": 4}

    def endless(counter):
        while True:
            counter.tick()

    late = timed(endless, limit=0.01)
    assert late.values.numel() == 0
    assert late.products > 0
    assert issubclass(GaveUp, Exception)


def test_what_is_not_faster_is_said(modules):
    from report import compiling, not_faster

    def row(seconds, **more):
        return {"median_s": seconds, "products": 10, "compile_s": 0.0, "reached": True, **more}

    methods = {
        "ours, default": row(1.0),
        "ours, cached": row(1.0),
        "ours, compiled": row(0.5, compile_s=2.0),
        "equal": row(1.05),
        "slow": row(3.0),
        "wrong": row(0.1, reached=False),
    }
    (line,) = not_faster({"top-toy-whole": {"top": {"methods": methods}}})
    assert "equal takes 1.05 of our time" in line
    (text,) = compiling({"methods": methods})
    assert re.search(r"2\.0 s .* pays from 40 products on", text)
