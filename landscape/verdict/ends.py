"""The end of training of every kind of run, beside the verdict: all that findings are written from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from landscape.errors import LandscapeError
from landscape.verdict.form import plain
from landscape.verdict.rule import interval
from landscape.verdict.stored import Subject
from landscape.verdict.verdict import Verdict

__all__ = ["FORMAT", "VERSION", "document", "numbers", "texts"]

FORMAT, VERSION = "landscape-findings", 1
_ENDS = {"accuracy": (0.0, 1.0), "loss": (0.0, math.inf), "flops": (0.0, math.inf)}
"""What the last step has, and the range in which a mean can lie."""


def document(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain values and, for every kind of run, what the last step has: mean and interval over seeds.

    Of accuracy and loss on the test split, by family, and of FLOPs. Intervals are those of
    `landscape.verdict.rule.interval` at 95 %, cut where no mean can lie: an accuracy outside [0, 1], a loss below 0.
    Runs without such metrics are left out, and `n` says how many count.
    Infinite ends of intervals are the texts "inf" and "-inf": `numbers` reads them.
    """
    found = plain(verdict)
    for told, judged in zip(found["settings"], verdict.settings, strict=True):
        told["ends"] = {
            kind.label: _ends(list(kind.runs.values()), seed=verdict.seed) for kind in judged.setting.kinds if kind.runs
        }
    return {"format": FORMAT, "format_version": VERSION, "verdict": texts(found)}


def texts(value: Any) -> Any:
    """What a document holds, with infinite ends as text, since JSON has no number for them; `numbers` undoes it."""
    return _walked(value, _text)


def _walked(value: Any, leaf: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _walked(x, leaf) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_walked(x, leaf) for x in value]
    return leaf(value)


def _text(value: Any) -> Any:
    return str(float(value)) if isinstance(value, float | np.floating) and math.isinf(value) else value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in ("inf", "-inf") else value


def numbers(value: Any) -> Any:
    """What a document holds, with infinite ends as numbers again.

    Example:
        >>> numbers({"low": "-inf", "high": 2.0, "words": "none"})
        {'low': -inf, 'high': 2.0, 'words': 'none'}
    """
    return _walked(value, _number)


def _ends(runs: Sequence[Subject], *, seed: int) -> dict[str, Any]:
    columns: dict[str, list[float]] = {}
    for run in runs:
        try:
            metrics = run.read("metrics", run.answers("metrics")[0], tuple(_ENDS)).isel(step=-1)
        except LandscapeError:  # said in the notes of every claim that needs it
            continue
        for name in _ENDS:
            if name not in metrics:
                continue
            values = metrics[name]
            values = values.sel(split="test") if "split" in values.dims else values
            families = [str(f) for f in values["family"].values] if "family" in values.dims else [""]
            for family, value in zip(families, np.atleast_1d(values.values).tolist(), strict=True):
                columns.setdefault(f"{name} {family}".strip(), []).append(float(value))
    out = {}
    for name, column in columns.items():
        if known := [x for x in column if math.isfinite(x)]:
            least, most = _ENDS[name.split()[0]]
            ((low, high),) = np.clip(interval(known, seed=seed), least, most).tolist()
            out[name] = {"mean": float(np.mean(known)), "low": low, "high": high, "n": len(known)}
    return out
