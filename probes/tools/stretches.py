"""What a stretch of updates did: signs along directions, lengths of sums, and the terms of the loss's decrease."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from landscape.loss.objective import Objective

__all__ = ["lengths", "padded", "signs", "split", "sums"]

BLOCKS = 10
"""Blocks of consecutive pairs that the jackknife leaves out one by one."""


def split(objective: Objective, rows: Tensor, valley: Tensor, river: Tensor) -> dict[str, Tensor]:
    """The loss at every point, and the terms of each update's decrease."""
    loss = objective.losses(rows)
    first, second, cross = [], [], []
    for w, a, b in zip(rows, valley, river, strict=False):
        g, H = objective.grad(w), objective.hessian(w)
        Ha, Hb = H.mv(a), H.mv(b)
        first.append(torch.stack([-(g @ a), -(g @ b)]))
        second.append(torch.stack([-(a @ Ha), -(b @ Hb)]) / 2)
        cross.append(-(a @ Hb))
    terms = {
        "first_order": torch.stack(first) if first else loss.new_zeros(0, 2),
        "second_order": torch.stack(second) if second else loss.new_zeros(0, 2),
        "cross_term": torch.stack(cross) if cross else loss.new_zeros(0),
    }
    decrease = loss[:-1] - loss[1:]
    known = terms["first_order"].sum(1) + terms["second_order"].sum(1) + terms["cross_term"]
    return {"loss": loss, **terms, "decrease": decrease, "remainder": decrease - known}


def sums(split: dict[str, Tensor]) -> dict[str, Any]:
    """Sums over updates; NaN without any."""
    names = ("first_order", "second_order", "cross_term", "remainder", "decrease")
    out = {f"{name}_sum": split[name].sum(0) for name in names}
    out["net_sum"] = out["first_order_sum"] + out["second_order_sum"]
    out["remainder_share"] = split["remainder"].abs().sum() / split["decrease"].abs().sum()
    return out if len(split["decrease"]) else {name: torch.full_like(x, torch.nan) for name, x in out.items()}


def signs(c: Tensor) -> dict[str, Any]:
    """Hop rate and autocorrelation of coefficients (m, k), with standard errors."""
    before, after = c[:-1], c[1:]
    used = (before != 0) & (after != 0)
    hops = used & (before.sign() != after.sign())
    rate, rate_stderr = _ratio(hops.to(c), used.to(c))
    pairs = used.sum(0)
    p = (hops.to(c).sum(0) + 0.5) / (pairs + 1)
    rate_stderr = torch.maximum(rate_stderr, (p * (1 - p) / pairs).sqrt())  # NaN stays NaN
    lag, lag_stderr = _ratio(before * after, before**2)
    return {
        "hop_rate": rate,
        "hop_rate_stderr": rate_stderr,
        "n_pairs": pairs,
        "autocorrelation": lag,
        "autocorrelation_stderr": lag_stderr,
    }


def _ratio(above: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Sum above / sum below over axis 0, and its standard error by leaving out consecutive blocks; NaN if unknown."""
    total = above.sum(0) / below.sum(0)
    count = min(BLOCKS, len(above))
    if count < 2:
        return total, torch.full_like(total, torch.nan)
    parts = [torch.stack([x.sum(0) for x in torch.tensor_split(y, count)]) for y in (above, below)]
    left = (above.sum(0) - parts[0]) / (below.sum(0) - parts[1])
    return total, ((count - 1) * left.var(0, correction=0)).sqrt()


def lengths(moves: Tensor, valley: Tensor, river: Tensor) -> dict[str, Tensor]:
    """How straight the updates and their parts are, and how much of their squared length is in the valley."""

    def straight(x: Tensor) -> Tensor:
        ratio: Tensor = x.sum(0).norm() / x.norm(dim=1).sum()
        return ratio

    motion = (valley**2).sum() / (moves**2).sum()
    out = {"river_progress": straight(river), "valley_progress": straight(valley), "straightness": straight(moves)}
    return {**out, "valley_motion": motion}


def padded(x: Tensor, length: int) -> Tensor:
    """NaN rows after the last one, up to `length`."""
    return torch.cat([x, x.new_full((length - len(x), *x.shape[1:]), torch.nan)])
