"""The verdict as plain values for JSON, and as datasets from which figures are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from landscape.provenance import code_revision, versions
from landscape.verdict.evidence import Evidence, Row
from landscape.verdict.rule import DECISION_LEVEL, LEVEL, MINIMUM, POWER
from landscape.verdict.verdict import Finding, Judged, Verdict

__all__ = ["RULE", "datasets", "plain"]

RULE = (
    f"Each row is a mean over seeds with its {100 * LEVEL:g} % interval, the hull of Student's and of the studentised "
    f"bootstrap's. Supported: with at least {MINIMUM} seeds the {100 * DECISION_LEVEL:g} % interval of every row that "
    "decides (every metric, every threshold) lies on the claimed side. Refuted: on the other side; where each quantity "
    "is necessary, all rows of one of them. Else inconclusive. Intervals are per row and claim, not corrected for the "
    "number of claims: without any effect about 1 % of the claims are supported by chance."
)
"""In words."""
_NUMBERS = ("mean", "sd", "low", "high", "decision_low", "decision_high", "effect", "effect_low", "effect_high")


def plain(verdict: Verdict) -> dict[str, Any]:
    """Nested plain values; docs/formats.md describes them."""
    return {
        "format": "landscape-verdict",
        "format_version": 1,
        "rule": {
            "text": RULE, "level": LEVEL, "decision_level": DECISION_LEVEL, "fewest_seeds": MINIMUM, "power": POWER,
        },
        "seed": verdict.seed,
        "left_out": list(verdict.left_out),
        "settings": [_setting(judged) for judged in verdict.settings],
        "code_revision": code_revision(),
        "versions": versions(),
    }  # fmt: skip


def _setting(judged: Judged) -> dict[str, Any]:
    setting = judged.setting
    return {
        "label": setting.label,
        "values": dict(setting.values),
        "runs": {k.label: {str(s): {"run": r.name, "run_id": r.id} for s, r in k.runs.items()} for k in setting.kinds},
        "left_out": list(setting.left_out),
        "diverged": {label: list(seeds) for label, seeds in setting.diverged.items()},
        "findings": [_finding(finding) for finding in judged.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    return {
        "claim": claim.id, "title": claim.title, "statement": claim.statement, "note": claim.note,
        "refuted_by": claim.refuted_by, "a": finding.a, "b": finding.b, "main": finding.main,
        "outcome": finding.outcome, "reasons": list(finding.reasons), "notes": list(finding.notes),
        "seeds": list(finding.seeds), "seeds_needed": finding.seeds_needed,
        "evidence": [_evidence(e) for e in finding.evidence],
    }  # fmt: skip


def _evidence(found: Evidence) -> dict[str, Any]:
    q = found.quantity
    return {
        "quantity": q.name, "words": q.words, "unit": q.unit, "probe": q.probe, "direction": q.direction,
        "margin": q.margin, "decides": q.decides, "optional": q.optional, "why": q.why, "fewest_metrics": q.fewest,
        "answered": found.answered, "ask": found.ask, "notes": list(found.notes),
        "settings": dict(zip(found.metrics, found.settings, strict=True)),
        "rows": [_row(row) for row in found.rows],
    }  # fmt: skip


def _row(row: Row) -> dict[str, Any]:
    return {
        "metric": row.metric, "threshold": row.threshold, "step": row.step,
        **{name: getattr(row, name) for name in _NUMBERS}, "side": row.side, "n": len(row.seeds),
        "seeds": list(row.seeds), "values": list(row.values), "missing": list(row.missing),
        "seeds_needed": row.seeds_needed,
    }  # fmt: skip


def datasets(verdict: Verdict) -> list[xr.Dataset]:
    """One per setting with rows: every row of every finding along `row`, with labels, numbers and seeds behind it.

    Numbers are those of `Row`; `effect` and its ends are standardised, positive on the claimed side, so that all rows
    share an axis. Attributes: `setting`, `rule`, `seed`, `versions`.
    """
    found = [_dataset(judged, verdict) for judged in verdict.settings]
    return [ds for ds in found if ds.sizes["row"]]


def _dataset(judged: Judged, verdict: Verdict) -> xr.Dataset:
    rows = list(_rows(judged))
    labels: dict[str, list[str]] = {
        "claim": [f.claim.id for f, _, _ in rows],
        "title": [f.claim.title for f, _, _ in rows],
        "a": [f.a for f, _, _ in rows],
        "b": [f.b for f, _, _ in rows],
        "outcome": [f.outcome for f, _, _ in rows],
        "quantity": [e.quantity.name for _, e, _ in rows],
        "unit": [e.quantity.unit for _, e, _ in rows],
        "metric": [r.metric for _, _, r in rows],
        "threshold": [r.threshold for _, _, r in rows],
    }
    values: dict[str, Any] = {name: ("row", np.array(text, dtype=np.str_)) for name, text in labels.items()}
    for name in _NUMBERS:
        unit = "standard deviations" if name.startswith("effect") else "as `unit` says"
        numbers = np.array([getattr(r, name) for _, _, r in rows], dtype=np.float64)
        values[name] = ("row", numbers, {"units": unit, "long_name": name.replace("_", " ")})
    values["margin"] = ("row", np.array([e.quantity.margin for _, e, _ in rows], dtype=np.float64))
    for name, whole in (
        ("n", [len(r.seeds) for _, _, r in rows]),
        ("side", [r.side for _, _, r in rows]),
        ("seeds_needed", [r.seeds_needed or -1 for _, _, r in rows]),
        ("step", [-1 if r.step is None else r.step for _, _, r in rows]),
    ):
        values[name] = ("row", np.array(whole, dtype=np.int64))
    for name, flags in (("main", [f.main for f, _, _ in rows]), ("decides", [e.quantity.decides for _, e, _ in rows])):
        values[name] = ("row", np.array(flags, dtype=bool))
    return xr.Dataset(
        values,
        attrs={
            "probe": "verdict", "setting": judged.setting.label, "run": judged.setting.label, "rule": RULE,
            "seed": verdict.seed, "level": LEVEL, "decision_level": DECISION_LEVEL, "fewest_seeds": MINIMUM,
            "code_revision": code_revision(),
        },
    )  # fmt: skip


def _rows(judged: Judged) -> Iterator[tuple[Finding, Evidence, Row]]:
    for finding in judged.findings:
        for e in finding.evidence:
            for row in e.rows:
                yield finding, e, row
