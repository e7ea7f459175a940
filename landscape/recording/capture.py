"""What is kept of somebody's model and optimiser: read, never changed."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.layout import Layout

__all__ = ["OptimizerState", "unwrapped", "versions_of"]

_STATE = {torch.optim.Adam: ("exp_avg", "exp_avg_sq"), torch.optim.SGD: ("momentum_buffer",)}
"""What is kept of an optimiser's state; AdamW is a kind of Adam."""
_VERSION = attrgetter("_version")
"""PyTorch's count of the changes in place of a tensor."""
_SHARED = ("betas", "eps", "weight_decay", "momentum", "dampening", "nesterov", "amsgrad")


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile's and DistributedDataParallel's wrappers.

    Raises:
        LandscapeError: for one whose parameters are shared out among processes.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if inner is None:
            break
        model = inner
    if not isinstance(model, nn.Module):
        raise LandscapeError(f"expected a torch.nn.Module, found {type(model).__name__}.")
    if sharded := [
        n for n, p in model.named_parameters() if hasattr(p, "full_tensor") or type(p).__name__ == "DTensor"
    ]:
        raise LandscapeError(
            f"expected parameters that are whole in this process, found sharded ones: {', '.join(sharded[:4])}. Save a "
            "full state dict now and then, and use `landscape import`."
        )
    return model


def versions_of(module: nn.Module) -> tuple[int, ...]:
    """Numbers that change when a parameter or buffer is changed in place."""
    return tuple(map(_VERSION, (*module.parameters(), *module.buffers())))


class OptimizerState:
    """The state of Adam, AdamW or SGD as one vector, in the order of a layout.

    Args:
        optimizer: as the training loop has it; of another kind nothing is kept.
        layout: of the parameters.

    Attributes:
        names: what is kept, one vector (P,) each: first and second moments, or the momentum.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> state = OptimizerState(torch.optim.AdamW(model.parameters()), Layout.of(model))
        >>> state.names, state.rows(model)["optimizer"].shape
        (('exp_avg', 'exp_avg_sq'), (6,))
    """

    def __init__(self, optimizer: torch.optim.Optimizer, layout: Layout) -> None:
        # Accelerate, for one, puts a wrapper around it.
        inner: Any = optimizer
        while not isinstance(inner, torch.optim.Optimizer) or hasattr(inner, "optimizer"):
            inner = getattr(inner, "optimizer", None)
            if inner is None:
                raise LandscapeError(f"expected a torch.optim.Optimizer, found {type(optimizer).__name__}.")
        self._optimizer, self._layout = inner, layout
        self.names = next((names for kind, names in _STATE.items() if isinstance(inner, kind)), ())
        if self.names == ("momentum_buffer",) and not any(group["momentum"] for group in inner.param_groups):
            self.names = ()

    def header(self) -> dict[str, Any]:
        """Name, what is kept, and the settings that all groups of parameters share (None where they do not)."""
        groups = self._optimizer.param_groups
        shared = {
            k: groups[0][k] if all(g[k] == groups[0][k] for g in groups) else None for k in _SHARED if k in groups[0]
        }
        betas = shared.pop("betas", None)
        if "betas" in groups[0]:
            shared["beta1"], shared["beta2"] = (None, None) if betas is None else map(float, betas)
        return {"name": type(self._optimizer).__name__, "state": list(self.names), **shared}

    @property
    def learning_rate(self) -> float | None:
        """That of the next update, if all groups of parameters have the same."""
        rates = {float(group["lr"]) for group in self._optimizer.param_groups}
        return rates.pop() if len(rates) == 1 else None

    def rows(self, module: nn.Module) -> dict[str, NDArray[Any]]:
        """The vectors of a checkpoint: `optimizer` (S,), NaN where there is no state yet, and its age in updates.

        The age is NaN where parameters were updated differently often.
        """
        if not self.names:
            return {}
        named = dict(module.named_parameters())
        state = [self._optimizer.state.get(named[n], {}) for n in self._layout.names]
        parts: list[Tensor] = []
        for key in self.names:
            for found, name in zip(state, self._layout.names, strict=True):
                value = found.get(key)
                value = torch.full(named[name].shape, torch.nan) if value is None else value.detach().cpu().float()
                parts.append(value.reshape(-1))
        ages = {float(s["step"]) for s in state if "step" in s}
        age = ages.pop() if len(ages) == 1 else np.nan if ages else 0.0
        return {"optimizer": torch.cat(parts).numpy(), "optimizer_age": np.asarray(age)}
