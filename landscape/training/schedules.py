"""Learning-rate schedules by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from landscape.settings import NOT_NEGATIVE, POSITIVE, within

__all__ = ["SCHEDULES", "Constant", "Cosine", "LinearToZero", "WarmupStableDecay"]


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Full learning rate after `warmup` linearly rising steps."""

    name: str = "constant"
    warmup: int = 0

    def __post_init__(self) -> None:
        within(self, warmup=NOT_NEGATIVE)

    def factor(self, step: int, total: int) -> float:  # noqa: ARG002
        """Multiplier of the learning rate at a step."""
        return _warm(step, self.warmup)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Warm-up, then half a cosine from 1 to `final` (Loshchilov and Hutter, 2017)."""

    name: str = "cosine"
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        within(self, warmup=NOT_NEGATIVE, final=NOT_NEGATIVE)

    def factor(self, step: int, total: int) -> float:
        """Multiplier of the learning rate at a step."""
        x = min(1.0, max(0.0, (step - self.warmup) / max(1, total - self.warmup)))
        return _warm(step, self.warmup) * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * x)))


@dataclass(frozen=True, kw_only=True)
class WarmupStableDecay:
    """Warm-up, constant, then linear decay to `final` over the last share `decay` of the steps (Hu et al., 2024)."""

    name: str = "wsd"
    warmup: int = 0
    decay: float = 0.2
    final: float = 0.0

    def __post_init__(self) -> None:
        within(self, warmup=NOT_NEGATIVE, decay=(0.0, 1.0, "[]"), final=NOT_NEGATIVE)

    def factor(self, step: int, total: int) -> float:
        """Multiplier of the learning rate at a step."""
        length = self.decay * total
        x = 0.0 if length == 0 else min(1.0, max(0.0, (step - (total - length)) / length))
        return _warm(step, self.warmup) * (1 - x * (1 - self.final))


@dataclass(frozen=True, kw_only=True)
class LinearToZero:
    """`initial` up to step `start`, then a straight line that reaches 0 at the last step: the decay of a branch.

    Source:
        Wen et al., arXiv 2410.05192 (decay from a checkpoint); `initial` is what the origin's schedule had reached.
    """

    name: str = "linear"
    start: int = 0
    initial: float = 1.0

    warmup: ClassVar[int] = 0

    def __post_init__(self) -> None:
        within(self, start=NOT_NEGATIVE, initial=POSITIVE)

    def factor(self, step: int, total: int) -> float:
        """Multiplier of the learning rate at a step."""
        return self.initial * min(1.0, max(0.0, (total - step) / max(1, total - self.start)))


SCHEDULES: dict[str, type[Any]] = {
    "constant": Constant,
    "cosine": Cosine,
    "wsd": WarmupStableDecay,
    "linear": LinearToZero,
}


def _warm(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
