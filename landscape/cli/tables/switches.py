"""Table of `landscape show` on runs that shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.cli.console import Table, number
from landscape.runs.run import Run
from landscape.studies.switches import shift_record

__all__ = ["describe_shift", "shift_tables"]


def describe_shift(run: Run) -> dict[str, Any]:
    """Switch, drop on the test split, recovery and cost, as plain values; empty for a run that does not shift."""
    if run.kind != "trained" or run.config.shift is None or not run.metrics.sizes["step"]:
        return {}
    record = shift_record(run).sel(split="test")
    by_family = ("accuracy_before", "accuracy_after", "accuracy_drop", "recovery", "accuracy_final")
    return {
        "switch_step": int(record.switch_step),
        "checks": int(record.sizes["check"]),
        "flops_before": float(record.flops_before),
        **{n: dict(zip(map(str, record.family.values), map(float, record[n]), strict=True)) for n in by_family},
    }


def shift_tables(described: Sequence[Mapping[str, Any]]) -> list[Table]:
    """One row per run that shifts, whatever its thresholds: when, at what price, and where it ended."""
    rows = []
    for d in (d for d in described if d["shift"]):
        s, found, m = d["config"]["shift"], d["shift"], d["metrics"]
        fixed = s["criterion"] == "fixed"
        thresholds = ["–"] * 3 if fixed else [f"{s['delta1']:g}", f"{s['delta2']:g}", str(s["patience"])]
        step = found["switch_step"]
        cells = [number(found[n]["all"], 3) for n in ("accuracy_before", "accuracy_after")]
        back = number(found["recovery"]["all"], 6) if step >= 0 and np.isfinite(found["recovery"]["all"]) else "–"
        rows.append(
            [
                d["path"], s["criterion"], *thresholds, str(step) if step >= 0 else "–", *cells, back,
                number(found["accuracy_final"]["all"], 3), f"{m['flops']:.3g}", f"{m['seconds']:.1f}",
            ]
        )  # fmt: skip
    if not rows:
        return []
    columns = ["run", "criterion", "delta1", "delta2", "W", "switch at", "accuracy before", "after", "recovered in"]
    columns += ["final accuracy", "FLOP", "seconds"]
    caption = "Test split, all samples. Before and after: one pass and T loops at the same parameters; – : not yet."
    return [Table("shift: from one pass to T loops", columns, rows, caption)]
