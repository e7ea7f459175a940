"""Metrics on their way into a run file: by names as they come, a row for each step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape.recording.form import METRICS_AT_MOST, encoded, fits
from landscape.runs.foreign import NAME_LENGTH
from landscape.runs.run import Run
from landscape.runs.writing import RunWriter

__all__ = ["MetricRows"]


class MetricRows:
    """Numbers by step that wait to be written; those of a step that is in the file stay as they are.

    Args:
        writer: of the file.
        folder: of the run, as it is when writing begins.
    """

    def __init__(self, writer: RunWriter, folder: Path) -> None:
        self._writer, self._folder = writer, folder
        known = Run.open(folder).metrics
        self._names = {str(name): i for i, name in enumerate(known.data_vars)}
        self._measured = int(known.step[-1]) if known.sizes["step"] else -1
        self._waiting: dict[int, NDArray[np.float64]] = {}
        self._left_out: set[str] = set()

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Put numbers where they wait; a name that is new is written at once, or left out where there is no room."""
        new = [name for name in values if name not in self._names]
        fit = [name for name in new if fits(name)][: METRICS_AT_MOST - len(self._names)]
        if left := sorted(set(new) - set(fit) - self._left_out):
            self._left_out.update(left)
            warnings.warn(
                f"{self._folder}: metrics left out, {METRICS_AT_MOST} of up to {NAME_LENGTH} bytes fit: {left[:4]}.",
                stacklevel=4,
            )
        for name in fit:
            self._writer.append("names", len(self._names), {"name": encoded(name)})
            self._names[name] = len(self._names)
        values = {name: value for name, value in values.items() if name in self._names}
        if step <= self._measured or not values:
            return
        row = self._waiting.setdefault(step, np.full(METRICS_AT_MOST, np.nan))
        for name, value in values.items():
            row[self._names[name]] = value

    def write(self, *, before: int | None = None) -> None:
        """Write what waits; of steps from `before` on more may come."""
        steps = sorted(s for s in self._waiting if before is None or s < before)
        if steps:
            self._writer.extend("metrics", {s: {"values": self._waiting.pop(s)} for s in steps})
            self._measured = steps[-1]
