"""The benchmark runs from end to end, with whatever peers are installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "curvature.py"


@pytest.mark.slow
def test_quick_benchmark_stores_medians_products_and_environment(tmp_path):
    output = tmp_path / "quick.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--repeats", "2", "-o", str(output)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    report = json.loads(output.read_text())
    for part in ("top10", "density"):
        rows = report[part]["methods"]
        assert {"ours, cached", "ours, compiled"} <= set(rows)
        for row in rows.values():
            assert 0 < row["min_s"] <= row["median_s"] <= row["max_s"]
            assert row["repeats"] == 2
        assert rows["ours, compiled"]["products"] == rows["ours, cached"]["products"] > 0
    top = report["top10"]
    assert top["reference_residual"] < 1e-9
    assert all(row["error"] <= top["accuracy"] for name, row in top["methods"].items() if name.startswith("ours"))
    # The same number of products gives traces that agree within a few standard errors.
    traces = [(r["trace"], r["trace_stderr"]) for r in report["density"]["methods"].values()]
    assert all(abs(t - traces[0][0]) < 6 * (e + traces[0][1]) for t, e in traces)
    assert report["environment"]["packages"]["torch"]
    assert "| ours, cached |" in shown
