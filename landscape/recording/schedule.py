"""At which steps a checkpoint is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from landscape.errors import LandscapeError

__all__ = ["Schedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Every step at first, then so many checkpoints each time the number of steps doubles; or every so many steps.

    The landscape changes fastest at the beginning: with the defaults 10 thousand steps leave about 50 checkpoints.

    Attributes:
        dense: up to this step every one is kept.
        per_octave: checkpoints per doubling of the step, after that.
        every: keep every so many steps in place of all that.

    Raises:
        LandscapeError: for numbers out of range.

    Example:
        >>> schedule, kept = Schedule(dense=2, per_octave=1), [-1]
        >>> for step in range(20):
        ...     kept += [step] if schedule.due(step, kept[-1]) else []
        >>> kept[1:]
        [0, 1, 2, 4, 8, 16]
    """

    dense: int = 10
    per_octave: int = 4
    every: int | None = None

    def __post_init__(self) -> None:
        if self.dense < 0 or self.per_octave < 1 or (self.every is not None and self.every < 1):
            raise LandscapeError(
                f"expected dense >= 0, per_octave >= 1 and every >= 1 or None, found {self.dense}, {self.per_octave} "
                f"and {self.every}."
            )

    def due(self, step: int, last: int) -> bool:
        """Whether a step is kept, given the last one that was (-1: none). Steps between may be left out."""
        if last < 0:
            return True
        if self.every is not None:
            return step >= last + self.every
        return step <= self.dense or step >= math.ceil(last * 2 ** (1 / self.per_octave) - 1e-9)
