"""Optimisers by name, on one flat parameter vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.settings import NOT_NEGATIVE, POSITIVE, SHARE, lookup, within

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "AdamW",
    "GradientDescent",
    "check_state",
    "load_state",
    "make_optimizer",
    "save_state",
    "second_moment",
    "state_size",
]


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
        within(self, lr=POSITIVE, beta1=SHARE, beta2=SHARE, eps=POSITIVE, weight_decay=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with heavy-ball momentum."""

    name: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        within(self, lr=POSITIVE, momentum=SHARE, weight_decay=NOT_NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class GradientDescent:
    """Plain gradient descent on the whole training set."""

    name: str = "gd"
    lr: float = 0.1

    def __post_init__(self) -> None:
        within(self, lr=POSITIVE)


OPTIMIZERS: dict[str, type[Any]] = {"adamw": AdamW, "sgd": SGD, "gd": GradientDescent}
_STATE = {"adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",), "gd": ()}


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
