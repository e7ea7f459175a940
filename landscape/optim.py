"""Optimisers and learning-rate schedules by name, on one flat parameter vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.registry import lookup

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "AdamW",
    "Constant",
    "Cosine",
    "GradientDescent",
    "LinearToZero",
    "WarmupStableDecay",
    "check_state",
    "load_state",
    "make_optimizer",
    "save_state",
    "second_moment",
    "state_size",
]


_Range = tuple[float, float, str]
_POSITIVE: _Range = (0.0, math.inf, "()")
_NOT_NEGATIVE: _Range = (0.0, math.inf, "[)")
_SHARE: _Range = (0.0, 1.0, "[)")


def _within(config: Any, **ranges: _Range) -> None:
    """Refuse a setting outside its range; NaN is outside of every range."""
    for name, (low, high, ends) in ranges.items():
        x = getattr(config, name)
        above = x >= low if ends[0] == "[" else x > low
        below = x <= high if ends[1] == "]" else x < high
        if not (above and below):
            raise LandscapeError(
                f"expected {name} of {config.name!r} in {ends[0]}{low:g}, {high:g}{ends[1]}, found {x}."
            )


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW (Loshchilov and Hutter, 2019); weight decay acts on all parameters."""

    name: str = "adamw"
    lr: float = 3e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _within(self, lr=_POSITIVE, beta1=_SHARE, beta2=_SHARE, eps=_POSITIVE, weight_decay=_NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with heavy-ball momentum."""

    name: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _within(self, lr=_POSITIVE, momentum=_SHARE, weight_decay=_NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class GradientDescent:
    """Plain gradient descent on the whole training set."""

    name: str = "gd"
    lr: float = 0.1

    def __post_init__(self) -> None:
        _within(self, lr=_POSITIVE)


OPTIMIZERS: dict[str, type[Any]] = {"adamw": AdamW, "sgd": SGD, "gd": GradientDescent}
_STATE = {"adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",), "gd": ()}


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Full learning rate after `warmup` linearly rising steps."""

    name: str = "constant"
    warmup: int = 0

    def __post_init__(self) -> None:
        _within(self, warmup=_NOT_NEGATIVE)

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
        _within(self, warmup=_NOT_NEGATIVE, final=_NOT_NEGATIVE)

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
        _within(self, warmup=_NOT_NEGATIVE, decay=(0.0, 1.0, "[]"), final=_NOT_NEGATIVE)

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
        _within(self, start=_NOT_NEGATIVE, initial=_POSITIVE)

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


def make_optimizer(config: Any, w: Tensor) -> torch.optim.Optimizer:
    """PyTorch's optimiser for one flat parameter `w` (P,).

    Every supported method is entrywise, so one flat vector gives the same updates as separate tensors.
    """
    lookup(OPTIMIZERS, config.name, kind="optimizer")
    if config.name == "adamw":
        betas = (config.beta1, config.beta2)
        decay = config.weight_decay
        return torch.optim.AdamW([w], lr=config.lr, betas=betas, eps=config.eps, weight_decay=decay, foreach=False)
    if config.name == "sgd":
        decay = config.weight_decay
        return torch.optim.SGD([w], lr=config.lr, momentum=config.momentum, weight_decay=decay, foreach=False)
    return torch.optim.SGD([w], lr=config.lr, foreach=False)


def state_size(config: Any, size: int) -> int:
    """S, the length of the optimiser's state for P = `size` parameters."""
    return len(_STATE[config.name]) * size


def save_state(config: Any, optimizer: torch.optim.Optimizer, w: Tensor) -> Tensor:
    """The optimiser's state as one vector (S,); zeros before the first step."""
    state = optimizer.state.get(w, {})
    parts = [state.get(k, torch.zeros_like(w)) for k in _STATE[config.name]]
    return torch.cat(parts).detach().clone() if parts else w.detach().new_zeros(0)


def check_state(config: Any, state: Tensor, size: int) -> None:
    """Refuse a saved state that is not that of this optimiser for P = `size` parameters."""
    if state.shape != (expected := state_size(config, size),):
        raise LandscapeError(f"expected an optimiser state of {expected} entries, found {state.numel()}.")


def load_state(config: Any, optimizer: torch.optim.Optimizer, w: Tensor, state: Tensor, *, step: int) -> None:
    """Put a state saved after `step` updates back; the inverse of `save_state`."""
    keys: Sequence[str] = _STATE[config.name]
    parts: list[Tensor] = [p.clone() for p in state.reshape(len(keys), w.numel())] if keys else []
    optimizer.state[w] = dict(zip(keys, parts, strict=True))
    if config.name == "adamw":
        optimizer.state[w]["step"] = torch.tensor(float(step))


def second_moment(config: Any, state: Tensor) -> Tensor:
    """Adam's running mean of squared gradients (P,) in a saved optimiser state (S,)."""
    if config.name != "adamw":
        raise LandscapeError(f'the metric "adam" needs a run trained with adamw, found one with {config.name!r}.')
    return state.reshape(2, -1)[1]
