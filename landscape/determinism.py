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
    from landscape.symmetric import Symmetric

__all__ = ["check_deterministic", "check_symmetric"]


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
    # Two samples at least, whatever the chunk: one sample cannot show that it depends on another.
    group = slice(0, min(objective.n_samples, max(2, index.stop)))
    half = slice(0, (group.stop + 1) // 2)
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        together, among = _losses(objective, group), _losses(objective, half)
    tolerance = torch.finfo(objective.dtype).eps ** 0.5
    if not torch.allclose(
        together[half], among, rtol=tolerance, atol=tolerance * float(together.abs().nan_to_num().max()), equal_nan=True
    ):
        raise LandscapeError(
            "the loss of a sample depends on the other samples that are evaluated with it, so the mean loss would "
            f"depend on the chunk size.{hint}"
        )


def check_symmetric(H: Symmetric, gradient: Tensor) -> None:
    """Refuse second derivatives that torch computes wrongly: u'Hv must be v'Hu for random vectors u, v (two products).

    torch's fused weight normalisation is such a case (torch 2.13): its gradient is right, its double backward is not.

    Raises:
        LandscapeError: if the two differ by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, H.size, generator=generator, dtype=torch.float64).to(gradient)
    Hu, Hv = H.mv(u), H.mv(v)
    eps = torch.finfo(H.dtype).eps
    rounding = eps**0.5 * float(u.norm() * Hv.norm() + v.norm() * Hu.norm()) + 1e3 * eps * float(
        gradient.norm() * u.norm()
    )
    difference = abs(float(u @ Hv - v @ Hu))
    if difference > rounding:  # False for NaN, about which the solvers speak
        raise LandscapeError(
            f"torch's second derivatives of this module are wrong: u'Hv and v'Hu differ by {difference:.3g}, where "
            f"rounding allows {rounding:.3g}. Some fused operations, such as weight normalisation, have a wrong double "
            "backward; replace them by plain ones (weight_norm: torch.nn.utils.parametrize.remove_parametrizations)."
        )


def _losses(objective: Objective, index: slice) -> Tensor:
    n = index.stop - index.start
    try:
        losses = objective.evaluate(objective.w0, index, objective._per_sample_loss)
    except ValueError as error:
        if not (hint := _suspects(objective._module)).startswith(" In training mode"):
            raise
        # batch normalisation refuses a single sample in this way
        raise LandscapeError(f"the loss cannot be evaluated on {n} of the samples alone: {error}.{hint}") from error
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
