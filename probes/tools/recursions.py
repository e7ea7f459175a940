"""The states of a recursion, walked through pass by pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.models.recursion import Recursion

__all__ = ["Ask", "Walk", "asked", "of_module", "walked"]

Array = NDArray[np.float64]
ROUNDINGS = 100
"""An increment below so many roundings of the state says nothing."""
Ask = Callable[..., Any]
"""``(module, *inputs) -> (h_0, step, readout)`` or these and the passes (N,) that the model makes of each sample."""


def of_module(module: nn.Module) -> Ask:
    """``(module, *inputs) -> recursion`` by the module's own method.

    Raises:
        LandscapeError: for a module without one.
    """
    if not callable(getattr(module, "recursion", None)):
        raise LandscapeError(
            f"expected a model that can be asked pass by pass, found {type(module).__name__} without a method "
            "`recursion`. Give it one: recursion(*inputs) -> (h_0, step, readout), with step(h, t) the t-th pass; or "
            "from Python loops(..., recursion=function) with function(module, *inputs)."
        )
    return lambda own, *inputs, **named: own.recursion(*inputs, **named)


@dataclass(frozen=True, eq=False)
class Walk:
    """What the states of N samples did in the passes 1..T.

    Attributes:
        loss: (N, T) after each pass.
        accuracy: (N, T) likewise, or None.
        norm: (N, T) |h_t|.
        increment: (N, T) |h_t - h_(t-1)|.
        cosine: (N, T) of consecutive increments.
        way: (N,) |h_T - h_s|, s = T // 2.
        loops: (N,) passes that the model makes, 0 where that is not known.
        weights: (N,) of the samples, or None.
        rounding: of the dtype, relative.
    """

    loss: Array
    accuracy: Array | None
    norm: Array
    increment: Array
    cosine: Array
    way: Array
    loops: NDArray[np.int64]
    weights: Array | None
    rounding: float

    @property
    def most(self) -> int:
        """The most passes that the model makes of any sample."""
        return int(self.loops.max())

    @property
    def step_length(self) -> Array:
        """(N, T) of the increments, relative to the state; 0 where it stays at zero."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = np.where(self.increment > 0, self.increment / self.norm, self.increment)
        return found

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(N,) whether all states were numbers."""
        return np.asarray(np.isfinite(self.norm).all(1))

    @property
    def growth(self) -> Array:
        """(N,) factor of the increments per pass in the second half, by least squares on their logarithms.

        Increments that are rounding of the state are left out; NaN where fewer than two are left, or one is not finite.
        """
        late = slice(self.norm.shape[1] // 2, None)
        used = self.step_length[:, late] > ROUNDINGS * self.rounding
        size = np.where(used, self.increment[:, late], 1.0)
        t, n = np.where(used, np.arange(size.shape[1]), 0.0), used.sum(1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            t = np.where(used, t - (t.sum(1) / n)[:, None], 0.0)
            found: Array = np.exp((np.log(size) * t).sum(1) / (t**2).sum(1))
        return np.where((n > 1) & np.isfinite(self.increment[:, late]).all(1), found, np.nan)

    @property
    def straightness(self) -> Array:
        """(N,) how far the state came in the second half over the length of its path; NaN if it did not move."""
        length = self.increment[:, self.norm.shape[1] // 2 :].sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = np.where(length > 0, self.way / length, np.nan)
        return found

    def over_samples(self, x: Array, *, used: NDArray[np.bool_] | None = None) -> tuple[Array, Array]:
        """Weighted mean over the samples, or those `used`, and its standard error; NaN of a single one."""
        c = np.ones(len(x)) if self.weights is None else self.weights
        c, x = (c, x) if used is None else (c[used], x[used])
        n = len(x)
        if not n:
            return np.array(np.nan), np.array(np.nan)
        c = c / c.sum()
        with np.errstate(invalid="ignore", over="ignore"):
            mean = np.tensordot(c, x, 1)
            spread = np.sqrt(np.tensordot(c**2, (x - mean) ** 2, 1) * n / (n - 1)) if n > 1 else mean * np.nan
        return mean, spread

    def means(self) -> dict[str, Array]:
        """Curves over the passes, with standard errors."""
        curves = {"loss": self.loss, "norm": self.norm, "step_length": self.step_length, "cosine": self.cosine}
        curves |= {} if self.accuracy is None else {"accuracy": self.accuracy}
        out = {}
        for name, x in curves.items():
            out[name], out[f"{name}_stderr"] = self.over_samples(x)
        return out


def walked(objective: Objective, w: Tensor, ask: Ask, passes: int, score: Callable[[Any, Any], Tensor] | None) -> Walk:
    """The states of all samples, chunk by chunk.

    Raises:
        LandscapeError: for a recursion that does not fit its samples, makes fewer passes than the model, or has another
            loss after the model's own passes.
    """
    chunks = objective.chunks

    def every() -> Tensor:
        parts = []
        for piece in chunks.mine():
            batch = chunks.batch(piece)
            targets, count = batch[1], len(range(chunks.n_samples)[piece])
            walk = partial(_walk, ask, targets, count, passes, chunks.per_sample_loss, score)
            parts.append(chunks.inside(w, batch, walk))
        return torch.cat(parts)

    table = chunks.ranks.joined(every, len(chunks.share)).double().cpu().numpy()
    curves, (way, own) = table[:, :-2].reshape(len(table), passes, 5), table[:, -2:].T
    walk = Walk(
        loss=curves[..., 0],
        accuracy=None if score is None else curves[..., 1],
        norm=curves[..., 2],
        increment=curves[..., 3],
        cosine=curves[..., 4],
        way=way,
        loops=own.astype(np.int64),
        weights=None if chunks.weights is None else chunks.weights.double().cpu().numpy(),
        rounding=torch.finfo(objective.dtype).eps,
    )
    _check(objective, w, walk, passes)
    return walk


def _walk(
    ask: Ask,
    targets: Any,
    count: int,
    passes: int,
    loss: Callable[[Any, Any], Tensor],
    score: Callable[[Any, Any], Tensor] | None,
    module: nn.Module,
    *inputs: Any,
    **named: Any,
) -> Tensor:
    """Of a chunk of samples, (n, 5 passes + 2): the columns of a `Walk`."""
    found = asked(ask, module, count, *inputs, **named)
    h, start, last = found.state, found.state, torch.zeros_like(found.state)
    rows = []
    for t in range(1, passes + 1):
        new = found.step(h, t)
        if not isinstance(new, Tensor) or new.shape != h.shape:
            what = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise LandscapeError(f"expected a pass to leave a state of shape {tuple(h.shape)}, found {what}.")
        new = new.detach()
        move = new - h
        size, before = (x.flatten(1).norm(dim=1) for x in (move, last))
        outputs = found.readout(new)
        losses = loss(outputs, targets).detach()
        right = losses * torch.nan if score is None else score(outputs, targets).detach().to(losses)
        cosine = (move.flatten(1) * last.flatten(1)).sum(1) / size / before
        rows.append(torch.stack([losses, right, new.flatten(1).norm(dim=1), size, cosine], dim=1))
        h, last = new, move
        start = new if t == passes // 2 else start
    way = (h - start).flatten(1).norm(dim=1)
    own = torch.zeros(len(way)) if found.loops is None else found.loops
    return torch.cat([torch.stack(rows, dim=1).flatten(1), torch.stack([way, own.to(way)], dim=1)], dim=1)


def asked(ask: Ask, module: nn.Module, count: int, *inputs: Any, **named: Any) -> Recursion:
    """The recursion at some inputs, checked."""
    found = ask(module, *inputs, **named)
    if not isinstance(found, tuple) or len(found) not in (3, 4) or not isinstance(found[0], Tensor):
        what = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
        raise LandscapeError(f"expected (h_0, step, readout) or these and loops of a recursion, found {what}.")
    made = Recursion(*found)
    if made.state.ndim < 2 or len(made.state) != count or not made.state.is_floating_point():
        raise LandscapeError(
            f"expected a state h_0 ({count}, ...) of floating numbers, one entry per sample, found "
            f"{tuple(made.state.shape)} of {made.state.dtype}."
        )
    return made._replace(state=made.state.detach())


def _check(objective: Objective, w: Tensor, walk: Walk, passes: int) -> None:
    """Whether the recursion is the model's: its loss after the passes that the model makes is the loss."""
    if not walk.most:
        return
    if passes < walk.most:
        raise LandscapeError(
            f"expected at least the passes that the model makes, {walk.most}, found passes = {passes}."
        )
    there = walk.loss[np.arange(len(walk.loss)), walk.loops - 1]
    own = objective.per_sample(w).double().cpu().numpy()
    rounding = 10 * torch.finfo(objective.dtype).eps ** 0.5
    if not np.allclose(there, own, rtol=rounding, atol=rounding * float(np.abs(own).max())):
        i = int(np.argmax(np.abs(there - own)))
        raise LandscapeError(
            f"expected the loss after the model's own passes to be that of the model, {own[i]:.6g} at sample {i}, "
            f"found {there[i]:.6g}. The recursion must use the module that it is given, and make the same passes."
        )
