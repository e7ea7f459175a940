"""SHIFT: one pass first, T loops from a plateau on. What is watched, when it is checked, and what makes the switch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError

__all__ = ["CHECKED", "Check", "Monitor", "Shift", "plateau", "relative_changes"]

CHECKED = {
    "loss": ("nats per token", "smoothed loss of the training batches"),
    "gradient_norm": ("nats per token per parameter unit", "smoothed norm of the batch gradient, before clipping"),
    "improvement": ("1", "relative improvement of the smoothed loss since the last check"),
    "gradient_change": ("1", "relative change of the smoothed gradient norm since the last check"),
    "count": ("1", "checks in a row that met the criterion"),
    "loops": ("1", "loops in force after the check"),
}
"""What every check stores, with units and long names."""

_MODES = ("hard", "ramp", "gate", "staged", "sample")


@dataclass(frozen=True, kw_only=True)
class Shift:
    r"""When training goes from one pass to T loops (paper: thresholds and patience; what they watch is ours).

    Loss and gradient norm of the training batches are smoothed by an exponential moving average m_s with time constant
    `smoothing`, its start corrected for. Every `check_every` updates, with m' the values at the check before:
    improvement (m'_loss - m_loss) / \|m'_loss\| < delta1 and change \|m_norm - m'_norm\| / m'_norm < delta2. `patience`
    checks in a row that meet both make the switch, at the step of the last of them.

    How it goes from one pass to T is the `mode`; k counts the updates since the switch. Its formulas are those of
    `landscape.training.passes`; the number of steps of a mode says nothing with another.

    Attributes:
        mode: "hard": T loops at once. "ramp": passes 2..T count min(1, k / ramp_steps). "gate": they count a learned
            weight, `model.scale` "learned", which is 0 until the switch. "staged": 2 + k // stage_steps loops, up to
            T. "sample": every update draws its number of loops; the model that is evaluated and probed has T. Ramp and
            gate start as the model of one pass exactly.
        ramp_steps: updates from no weight to whole passes, for "ramp".
        stage_steps: updates with each number of loops, for "staged".
        sample_steps: updates after which the smallest number drawn has risen from 1 to T, for "sample"; None: it
            stays 1 to the end.
        criterion: "patience" as above; "fixed" switches at step `at`; "never" only watches.
        delta1: threshold of the relative improvement of the loss; a loss that rises meets it.
        delta2: threshold of the relative change of the gradient norm.
        patience: W, checks in a row.
        check_every: updates between checks.
        smoothing: time constant in updates, 1 or more; 1 is no smoothing.
        at: the step of the switch, for "fixed" alone.
        keep_optimizer: go on with the optimiser's state; else it begins anew at the switch.

    Raises:
        LandscapeError: for a value out of range, or `at` without "fixed".

    Example:
        >>> Shift(criterion="fixed", at=100).patience
        5
    """

    criterion: Literal["patience", "fixed", "never"] = "patience"
    delta1: float = 0.01
    delta2: float = 0.05
    patience: int = 5
    check_every: int = 20
    smoothing: float = 40.0
    at: int | None = None
    keep_optimizer: bool = True
    mode: Literal["hard", "ramp", "gate", "staged", "sample"] = "hard"
    ramp_steps: int = 400
    stage_steps: int = 200
    sample_steps: int | None = None

    def __post_init__(self) -> None:
        if self.criterion not in ("patience", "fixed", "never"):
            raise LandscapeError(f"expected shift.criterion 'patience', 'fixed' or 'never', found {self.criterion!r}.")
        if self.mode not in _MODES:
            raise LandscapeError(f"expected shift.mode one of {', '.join(_MODES)}, found {self.mode!r}.")
        if self.sample_steps is not None and self.sample_steps < 1:
            raise LandscapeError(f"expected shift.sample_steps >= 1, or null; found {self.sample_steps}.")
        for name in ("patience", "check_every", "ramp_steps", "stage_steps"):
            if getattr(self, name) < 1:
                raise LandscapeError(f"expected shift.{name} >= 1, found {getattr(self, name)}.")
        for name, low in (("delta1", -math.inf), ("delta2", 0.0)):
            if not low < getattr(self, name) < math.inf:
                raise LandscapeError(f"expected a finite shift.{name} above {low:g}, found {getattr(self, name)}.")
        if not 1 <= self.smoothing < math.inf:
            raise LandscapeError(f"expected shift.smoothing >= 1 updates, found {self.smoothing}.")
        if (self.criterion == "fixed") != (self.at is not None):
            raise LandscapeError(
                f"shift.at is the step of the criterion 'fixed' and of no other, found at = {self.at} with "
                f"{self.criterion!r}. Set both, or neither."
            )
        if self.at is not None and self.at < 1:
            raise LandscapeError(f"expected shift.at >= 1, found {self.at}. `looped` has its loops from the start.")


def relative_changes(
    loss: Sequence[float] | NDArray[np.float64], gradient_norm: Sequence[float] | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Improvement of the loss and change of the gradient norm from check to check; NaN at the first check.

    Example:
        >>> improvement, change = relative_changes([2.0, 1.0, 1.5], [4.0, 5.0, 5.0])
        >>> improvement.tolist(), change.tolist()
        ([nan, 0.5, -0.5], [nan, 0.25, 0.0])
    """
    m, g = np.asarray(loss, dtype=np.float64), np.asarray(gradient_norm, dtype=np.float64)
    improvement, change = np.full(len(m), np.nan), np.full(len(g), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is NaN, which meets no criterion
        improvement[1:] = (m[:-1] - m[1:]) / np.abs(m[:-1])
        change[1:] = np.abs(g[1:] - g[:-1]) / g[:-1]
    return improvement, change


def plateau(
    loss: Sequence[float] | NDArray[np.float64],
    gradient_norm: Sequence[float] | NDArray[np.float64],
    *,
    delta1: float,
    delta2: float,
    patience: int,
) -> int:
    """Index of the check at which the criterion of `Shift` makes the switch, -1 if it never does.

    Args:
        loss: smoothed loss at every check.
        gradient_norm: smoothed gradient norm at every check.
        delta1: threshold of the improvement.
        delta2: threshold of the change.
        patience: W, checks in a row.

    Source:
        Gong, Liu, Teng (arXiv 2510.10089) for thresholds and patience; what they watch is a definition of this project.

    Example:
        >>> plateau([3.0, 2.0, 1.0, 1.0, 1.0, 1.0], [1.0] * 6, delta1=0.01, delta2=0.05, patience=2)
        4
    """
    count = 0
    for i, (improvement, change) in enumerate(zip(*relative_changes(loss, gradient_norm), strict=True)):
        count = count + 1 if improvement < delta1 and change < delta2 else 0
        if count >= patience:
            return i
    return -1


@dataclass(frozen=True)
class Check:
    """One look at the smoothed training; see `CHECKED`."""

    step: int
    loss: float
    gradient_norm: float
    improvement: float
    gradient_change: float
    count: int
    switched: bool


class Monitor:
    """Follows a training run and says when it switches; its whole memory is `state`, a vector.

    Args:
        shift: the criterion.
        device: where losses and gradient norms are; they are read at checks alone, which the device need not wait for.

    Attributes:
        switch: step of the switch, -1 before it.
        checks: those made since the last `load`, for the run's record.

    Example:
        >>> monitor = Monitor(Shift(check_every=2, patience=1, smoothing=1.0))
        >>> [monitor.observe(s, torch.tensor(1.0), torch.tensor(1.0)) for s in (1, 2, 3, 4, 5)]
        [False, False, False, True, False]
        >>> monitor.switch
        4
    """

    def __init__(self, shift: Shift, *, device: torch.device | str = "cpu") -> None:
        self._shift, self._device = shift, device
        self.load(None)

    def load(self, state: Tensor | None) -> None:
        """Continue from a saved state; None begins anew."""
        values = [0.0, 0.0, 0.0, math.nan, math.nan, 0.0, -1.0] if state is None else state.tolist()
        self._mean = torch.tensor(values[:2], dtype=torch.float64, device=self._device)
        self._seen, self._last = int(values[2]), (values[3], values[4])
        self._count, self.switch = int(values[5]), int(values[6])
        self.checks: list[Check] = []

    def state(self) -> Tensor:
        """All that `load` needs, float64."""
        values = [*self._mean.tolist(), self._seen, *self._last, self._count, self.switch]
        return torch.tensor(values, dtype=torch.float64)

    @staticmethod
    def switch_in(state: Tensor) -> int:
        """Step of the switch in a saved state, -1 before it."""
        return int(state[-1])

    def observe(self, step: int, loss: Tensor, gradient_norm: Tensor) -> bool:
        """Take in the update that led to `step`; whether this step is the switch. After it, nothing is watched."""
        if self.switch >= 0:
            return False
        weight = 1.0 / self._shift.smoothing
        self._mean = self._mean + weight * (torch.stack([loss, gradient_norm]).to(self._mean) - self._mean)
        self._seen += 1
        fixed = self._shift.criterion == "fixed" and step == self._shift.at
        if step % self._shift.check_every and not fixed:
            return False
        return self._check(step, fixed=fixed)

    def _check(self, step: int, *, fixed: bool) -> bool:
        s = self._shift
        started = 1.0 - (1.0 - 1.0 / s.smoothing) ** self._seen  # what the average has seen of a whole one
        loss, norm = (self._mean / started).tolist()
        improvement, change = (float(x[1]) for x in relative_changes([self._last[0], loss], [self._last[1], norm]))
        self._count = self._count + 1 if improvement < s.delta1 and change < s.delta2 else 0
        self._last = (loss, norm)
        switched = fixed or (s.criterion == "patience" and self._count >= s.patience)
        if switched:
            self.switch = step
        self.checks.append(Check(step, loss, norm, improvement, change, self._count, switched))
        return switched
