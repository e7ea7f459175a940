"""What is kept of somebody's model and optimiser: read, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.training.updates import VARIED

__all__ = ["OptimizerState", "held_fixed", "same_trace", "trace_of", "unwrapped"]

_STATE = {torch.optim.Adam: ("exp_avg", "exp_avg_sq"), torch.optim.SGD: ("momentum_buffer",)}
"""What is kept of an optimiser's state; AdamW is a kind of Adam."""
_VERSION = attrgetter("_version")
"""PyTorch's count of the changes in place of a tensor."""
_SHARED = ("eps", "weight_decay", "decoupled_weight_decay", "maximize", "momentum", "dampening", "nesterov", "amsgrad")


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


def trace_of(module: nn.Module) -> tuple[Any, ...]:
    """What changes when the model does: counts of changes in place, and some entries of its tensors.

    Neither alone is enough: fused optimisers and changes of ``.data`` are not counted.
    """
    tensors = [*module.parameters(), *module.buffers()]
    counts = tuple(0 if t.is_inference() else _VERSION(t) for t in tensors)
    some = tensors[:: -(-len(tensors) // 64) or 1]
    entries = [t.detach().reshape(-1)[:: max(1, t.numel() // 32)].clone() for t in some if t.numel()]
    return counts, entries


def same_trace(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two traces are those of the same values."""
    return bool(a[0] == b[0] and all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True)))


def held_fixed(module: nn.Module, names: Sequence[str]) -> tuple[Any, ...]:
    """Of the parameters that are no part of a row: which require a gradient, and sums that change when they do."""
    trained = tuple(n for n, p in module.named_parameters() if p.requires_grad and n not in names)
    rest = [p.detach() for n, p in module.named_parameters() if n not in names]
    return trained, [(float(p.sum(dtype=torch.float64)), float(p.abs().sum(dtype=torch.float64))) for p in rest]


class UpdateCount:
    """Counts the updates of an optimiser, to say at which step a loop is that counts them.

    Args:
        stack: that ends the counting.
        optimizer: or its wrapper; None counts nothing.
    """

    def __init__(self, stack: ExitStack, optimizer: Any) -> None:
        self._n = 0
        self._first: tuple[int, int] | None = None
        self._newest = (0, 0)  # step, and updates made then
        if optimizer is not None:
            stack.callback(_inner(optimizer).register_step_post_hook(self._count).remove)

    def _count(self, *_: Any) -> None:
        self._n += 1

    def at(self, step: int) -> None:
        """Note that the loop is at this step."""
        self._newest = (step, self._n)
        self._first = self._first or self._newest

    def step_now(self, step: int) -> int:
        """The step after the updates since `step`, the last one noted; -1 if steps did not count updates until then."""
        if self._first is None or self._newest[0] != step:
            return -1
        steps, updates = (b - a for a, b in zip(self._first, self._newest, strict=True))
        return step + self._n - self._newest[1] if steps == updates > 0 and self._n > self._newest[1] else -1


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
        >>> state.names, state.rows(model, torch.float32)["optimizer"].shape
        (('exp_avg', 'exp_avg_sq'), (6,))
    """

    def __init__(self, optimizer: torch.optim.Optimizer, layout: Layout) -> None:
        inner = _inner(optimizer)
        self._optimizer, self._layout = inner, layout
        self.names = next((names for kind, names in _STATE.items() if isinstance(inner, kind)), ())
        if self.names == ("momentum_buffer",) and not any(group["momentum"] for group in inner.param_groups):
            self.names = ()

    def header(self) -> dict[str, Any]:
        """Its name and what is kept; settings, which may change while it works, are those at the start."""
        groups = self._optimizer.param_groups
        shared: dict[str, Any] = {}
        for name in (*_SHARED, "betas"):
            values = [_number(group.get(name)) for group in groups]
            if values[0] is not None and all(v == values[0] for v in values):
                shared[name] = values[0]
        return {"name": type(self._optimizer).__name__, "state": list(self.names), **shared}

    @property
    def learning_rate(self) -> float | None:
        """That of the next update, if all groups of parameters have the same and it is a number."""
        rates = {_number(group.get("lr")) for group in self._optimizer.param_groups}
        rate = rates.pop() if len(rates) == 1 else None
        return None if rate is None else float(rate)

    def rows(self, module: nn.Module, dtype: torch.dtype) -> dict[str, NDArray[Any]]:
        """The vectors of a checkpoint: `optimizer` (S,), NaN where there is no state yet; of Adam age, beta2 and eps.

        These three, `adam` (3,), are NaN where parameters differ in them; so are those of `rule`, the settings that
        schedules change (see `VARIED`).
        """
        rows = self._rule()
        if not self.names:
            return rows
        named = dict(module.named_parameters())
        state = [self._optimizer.state.get(named[n], {}) for n in self._layout.names]
        parts: list[Tensor] = []
        for key in self.names:
            for found, name in zip(state, self._layout.names, strict=True):
                value = found.get(key)
                value = torch.full(named[name].shape, torch.nan) if value is None else value.detach().cpu()
                parts.append(value.reshape(-1).to(dtype))
        rows["optimizer"] = torch.cat(parts).numpy()
        if "exp_avg_sq" in self.names:
            groups = self._optimizer.param_groups
            ages = {float(s["step"]) for s in state if "step" in s} or {0.0}
            each = (ages, {float(g["betas"][1]) for g in groups}, {float(g["eps"]) for g in groups})
            rows["adam"] = np.array([values.pop() if len(values) == 1 else np.nan for values in each])
        return rows

    def _rule(self) -> dict[str, NDArray[Any]]:
        """The settings of `VARIED` as they are now."""
        kind = next((kind for kind in _STATE if isinstance(self._optimizer, kind)), None)
        if kind is None:
            return {}
        found = []
        for name in VARIED[kind.__name__]:
            key, place = ("betas", 0) if name == "beta1" else (name, None)
            values = {_number(g[key] if place is None else g[key][place]) for g in self._optimizer.param_groups}
            value = values.pop() if len(values) == 1 else None
            found.append(np.nan if value is None else float(value))
        return {"rule": np.array(found)}


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser inside a wrapper; Accelerate, for one, puts one around it."""
    inner: Any = optimizer
    while not isinstance(inner, torch.optim.Optimizer) or hasattr(inner, "optimizer"):
        inner = getattr(inner, "optimizer", None)
        if inner is None:
            raise LandscapeError(f"expected a torch.optim.Optimizer, found {type(optimizer).__name__}.")
    return inner


def _number(value: Any) -> Any:
    """A setting as JSON has it; None for what it has no form for."""
    if isinstance(value, tuple | list):
        return [_number(v) for v in value]
    if isinstance(value, bool) or value is None:
        return value
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
