"""Refuse, before anything is computed on it, a loss that is not a function of the parameters and each sample alone."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from landscape.errors import LandscapeError
from landscape.loss.chunks import Chunks
from landscape.loss.failures import brief

__all__ = ["check_deterministic", "refuse_not_finite"]


def check_deterministic(chunks: Chunks, w0: Tensor) -> None:
    """Evaluate the first chunk at w0 (P,) twice and half of it alone; raise if the losses disagree or state changed.

    Raises:
        LandscapeError: with the reason and the modules that may cause it.
    """
    module = chunks.module
    buffers = {n: b.clone() for n, b in module.named_buffers()}
    kept = w0.clone()
    devices = [chunks.device] if chunks.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        before = torch.random.get_rng_state()
        index = next(chunks.slices())
        first = _losses(chunks, w0, index)
        drew = not torch.equal(before, torch.random.get_rng_state())
        second = _losses(chunks, w0, index)
    hint = _suspects(module)
    if not torch.equal(w0, kept):
        w0.copy_(kept)
        raise LandscapeError(
            "evaluating the loss changes the parameters in place (an embedding with max_norm, a clamp of weights): it "
            "is not a function of them. Apply the change once before, and take it out of `forward`."
        )
    if drew or not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise LandscapeError(f"the loss is random: two evaluations draw random numbers or differ.{hint}")
    if any(not torch.equal(b.nan_to_num(), buffers[n].nan_to_num()) for n, b in module.named_buffers()):
        raise LandscapeError(f"evaluating the loss changes the module's buffers.{hint}")
    # Two samples at least, whatever the chunk: one sample cannot show that it depends on another.
    group = slice(0, min(chunks.n_samples, max(2, index.stop)))
    half = slice(0, (group.stop + 1) // 2)
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        together, among = _losses(chunks, w0, group), _losses(chunks, w0, half)
    tolerance = torch.finfo(chunks.dtype).eps ** 0.5
    if not torch.allclose(
        together[half], among, rtol=tolerance, atol=tolerance * float(together.abs().nan_to_num().max()), equal_nan=True
    ):
        raise LandscapeError(
            "the loss of a sample depends on the other samples that are evaluated with it, so the mean loss would "
            f"depend on the chunk size.{hint}"
        )


def refuse_not_finite(chunks: Chunks, w: Tensor) -> NoReturn:
    """Say which samples have a loss that is infinite or NaN at w.

    Raises:
        LandscapeError: always.
    """
    losses = chunks.losses(w)
    bad = (~torch.isfinite(losses)).nonzero().squeeze(1).tolist()
    if not bad:
        raise LandscapeError(
            f"the losses of the samples are finite but their sum is not: they reach {float(losses.abs().max()):.2g} in "
            f"{chunks.dtype}. Scale the loss down, or use dtype=torch.float64."
        )
    shown = ", ".join(f"{i} ({float(losses[i]):.3g})" for i in bad[:5]) + (", ..." if len(bad) > 5 else "")
    raise LandscapeError(
        f"expected a finite loss, found NaN or infinity at this point for {len(bad)} of {len(losses)} samples, of "
        f"index {shown}. Such a loss has no landscape. Leave these samples out, or mend their loss (a sequence of "
        "padding alone has the mean 0 / 0)."
    )


def _losses(chunks: Chunks, w0: Tensor, index: slice) -> Tensor:
    n = index.stop - index.start
    try:
        losses = chunks.evaluate(w0, index, chunks.per_sample_loss)
        losses = losses.detach() if isinstance(losses, Tensor) else losses
    except Exception as error:
        if isinstance(error, LandscapeError):
            raise
        fault = f"{type(error).__name__}: {brief(error)}"
        if (hint := _suspects(chunks.module)).startswith(" In training mode"):
            # batch normalisation refuses a single sample in this way
            raise LandscapeError(f"the loss cannot be evaluated on {n} of the samples alone: {fault}.{hint}") from error
        raise LandscapeError(
            f"the loss cannot be evaluated on {n} samples in {chunks.dtype}: {fault}. Expected "
            "per_sample_loss(module(inputs), targets) to work on any slice of the data; a tuple of inputs is given as "
            "module(*inputs), a dict as module(**inputs)."
        ) from error
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
