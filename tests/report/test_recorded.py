"""A page about a run that was not trained here."""

from __future__ import annotations

import pytest
from support import strangers

from landscape import Run, Schedule, analyze, record


@pytest.mark.slow
def test_a_recorded_run_is_analyzed_like_any_other(tmp_path, landscape):
    strangers.train_model(
        lambda m, o: record(tmp_path / "r", m, o, objective="support.strangers:objective", schedule=Schedule(every=3)),
        steps=6,
    )
    report = analyze(Run.open(tmp_path / "r"), seed=0, budget=3)
    assert {"metrics", "samples"} <= set(report.datasets)
    # What three seconds are enough for depends on the machine; what they are not enough for is said.
    assert "spectrum" in report.datasets or any("spectrum" in str(s) for s in report.skipped)
    words = " ".join(map(str, report.findings))
    assert "loss unit" in words
    assert "nats per token" not in words
    assert any("length" in str(s) for s in report.skipped) or "length" not in report.datasets
    code, _, err = landscape("report", tmp_path / "r", "--stored", "-o", tmp_path / "page.html", "-q")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert "support.strangers:objective" in page
    assert "nats per token" not in page
