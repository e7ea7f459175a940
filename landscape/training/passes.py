"""How many passes a model makes at a step, and what share of the later ones counts: of updates, and of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from landscape.training.config import RunConfig

__all__ = ["Passes", "model_passes", "update_passes"]


@dataclass(frozen=True)
class Passes:
    """Which of the models that share one parameter vector is meant.

    Attributes:
        loops: number of passes.
        weight: share of passes 2.. that counts: h_t = h_(t-1) + weight (pass(h_(t-1)) - h_(t-1)).
    """

    loops: int
    weight: float = 1.0

    @classmethod
    def of(cls, loops: int | Passes) -> Passes:
        """A number of loops, all of whose passes count whole."""
        return loops if isinstance(loops, Passes) else cls(int(loops))


def model_passes(config: RunConfig, step: int, switch: int) -> Passes:
    """The model at a step of a run that switched at `switch` (-1: not so far): what is evaluated and probed there.

    With k = step - switch >= 0 and T loops of the config, `shift.mode` hard and gate: T loops; ramp: T loops, of which
    the later ones count min(1, k / ramp_steps); staged: min(T, 2 + k // stage_steps) loops; sample: T loops, since what
    is drawn is a way to train these. But for `sample` it is the model of the update that leads from `step` on.

    Example:
        >>> from landscape import RunConfig
        >>> config = RunConfig.make(arch="shift", loops=3, shift={"mode": "ramp", "ramp_steps": 40})
        >>> [model_passes(config, step, 100).weight for step in (100, 110, 140, 150)]
        [0.0, 0.25, 1.0, 1.0]
    """
    T, shift = int(config.model.loops), config.shift
    if shift is None:
        return Passes(T)
    if switch < 0:
        return Passes(1)
    since = step - switch
    if shift.mode == "ramp":
        return Passes(T, min(1.0, since / shift.ramp_steps))
    return Passes(min(T, 2 + since // shift.stage_steps)) if shift.mode == "staged" else Passes(T)


def update_passes(config: RunConfig, step: int, switch: int) -> Passes:
    """The passes of the update that leads from `step` to `step` + 1; a function of (seed, step) alone where drawn.

    `sample`: uniform on low..T with low = min(T, 1 + (T - 1) k // sample_steps), or low = 1 throughout without
    `sample_steps`.

    Example:
        >>> from landscape import RunConfig
        >>> config = RunConfig.make(arch="shift", loops=3, shift={"mode": "sample", "sample_steps": 40})
        >>> [update_passes(config, step, 100).loops for step in (101, 120, 121, 140, 141)]
        [2, 2, 3, 3, 3]
    """
    found, shift = model_passes(config, step, switch), config.shift
    if shift is None or switch < 0 or shift.mode != "sample":
        return found
    T, low = found.loops, 1
    if shift.sample_steps is not None:
        low = min(T, 1 + (T - 1) * (step - switch) // shift.sample_steps)
    return Passes(int(np.random.default_rng([config.seed, 0x6C6F6F70, step]).integers(low, T + 1)))
