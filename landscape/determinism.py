"""Refuse, before anything is computed on it, a loss that is not a function of the parameters and each sample alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from landscape.errors import LandscapeError

if TYPE_CHECKING:
    from landscape.objective import Objective

__all__ = ["check_deterministic"]


def check_deterministic(objective: Objective) -> None:
    """Evaluate the first chunk twice and half of it alone; raise if the losses disagree or state changed.

    Raises:
        LandscapeError: with the reason and the modules that may cause it.
    """
    module = objective._module
    buffers = {n: b.clone() for n, b in module.named_buffers()}
    devices = [objective.device] if objective.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        before = torch.random.get_rng_state()
        index = next(objective.chunks())
        first = _losses(objective, index)
        drew = not torch.equal(before, torch.random.get_rng_state())
        second = _losses(objective, index)
    hint = _suspects(module)
    if drew or not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise LandscapeError(f"the loss is random: two evaluations draw random numbers or differ.{hint}")
    if any(not torch.equal(b.nan_to_num(), buffers[n].nan_to_num()) for n, b in module.named_buffers()):
        raise LandscapeError(f"evaluating the loss changes the module's buffers.{hint}")
    half = slice(0, (index.stop + 1) // 2)
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        among = _losses(objective, half)
    tolerance = torch.finfo(objective.dtype).eps ** 0.5
    if not torch.allclose(
        first[half], among, rtol=tolerance, atol=tolerance * float(first.abs().nan_to_num().max()), equal_nan=True
    ):
        raise LandscapeError(
            "the loss of a sample depends on the other samples that are evaluated with it, so the mean loss would "
            f"depend on the chunk size.{hint}"
        )


def _losses(objective: Objective, index: slice) -> Tensor:
    losses = objective.evaluate(objective.w0, index, objective._per_sample_loss)
    n = index.stop - index.start
    if not isinstance(losses, Tensor) or losses.shape != (n,):
        found = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise LandscapeError(
            f"expected per_sample_loss(outputs, targets) of shape (N,), here ({n},), found {found}. "
            'Use reduction="none" and average over the other axes of each sample.'
        )
    return losses


def _suspects(module: nn.Module) -> str:
    kinds = (_BatchNorm, _DropoutNd)
    names = [
        f"{n or 'module'} ({type(m).__name__})"
        for n, m in module.named_modules()
        if m.training and isinstance(m, kinds)
    ]
    found = f" In training mode: {', '.join(names)}." if names else ""
    return f"{found} Call module.eval(), or fix the random choice, before building the Objective."
