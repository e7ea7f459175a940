"""Tables of `landscape show` on runs that shift, and on presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.cli.console import number, show_table
from landscape.runs.run import Run
from landscape.studies.switches import shift_record
from landscape.training.presets import presets

__all__ = ["describe_shift", "show_presets", "show_shifts"]


def describe_shift(run: Run) -> dict[str, Any]:
    """Switch, drop on the test split, recovery and cost, as plain values; empty for a run that does not shift."""
    if run.config.shift is None or not run.metrics.sizes["step"]:
        return {}
    record = shift_record(run).sel(split="test")
    by_family = ("accuracy_before", "accuracy_after", "accuracy_drop", "recovery", "accuracy_final")
    return {
        "switch_step": int(record.switch_step),
        "checks": int(record.sizes["check"]),
        "flops_before": float(record.flops_before),
        **{n: dict(zip(map(str, record.family.values), map(float, record[n]), strict=True)) for n in by_family},
    }


def show_shifts(described: Sequence[Mapping[str, Any]]) -> None:
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
    if rows:
        columns = ["run", "criterion", "delta1", "delta2", "W", "switch at", "accuracy before", "after", "recovered in"]
        columns += ["final accuracy", "FLOP", "seconds"]
        caption = "Test split, all samples. Before and after: one pass and T loops at the same parameters; – : not yet."
        show_table("shift: from one pass to T loops", columns, rows, caption=caption)


def show_presets() -> None:
    """The presets with their main numbers."""
    rows = []
    for name, p in presets().items():
        task, model = p["task"], p["model"]
        lengths = " / ".join(str(task[n]) for n in ("max_train_length", "test_length") if n in task)
        size = f"{model['name']}, d {model['width']}, heads {model.get('heads', 1)}, layers {p.get('layers', 1)}"
        rate = p.get("optimizer", {}).get("lr")
        rows.append(
            [
                name, p["about"], size, f"{p['loops']}{' at most' if model.get('per_length') else ''}",
                lengths or str(task.get("length", "–")), str(p["steps"]), str(p.get("batch", 128)),
                "–" if rate is None else f"{rate:g}",
            ]
        )  # fmt: skip
    columns = ["preset", "what", "model", "loops", "length (trained / tested)", "steps", "batch", "learning rate"]
    caption = "landscape train --preset NAME; every other option overrides it. – : the default."
    show_table("Presets", columns, rows, caption=caption, text=True)
