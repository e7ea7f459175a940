"""What a model repeats: a state, one pass, and what is read off the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Recursion"]


class Recursion(NamedTuple):
    """A model at some inputs as h_t = step(h_(t-1), t), t = 1, 2, .., with as many passes as one asks for.

    Attributes:
        state: h_0, (N, ...), one entry of the first axis per sample.
        step: ``(h, t) -> h`` of the same shape, the t-th pass, t from 1 on; samples do not see each other.
        readout: ``h -> outputs``, what the model returns after that pass.
        loops: (N,) passes that the model itself makes of each sample; None: not known.

    Example:
        >>> import torch
        >>> halved = Recursion(torch.ones(1, 2), lambda h, t: h / 2, lambda h: h.sum(1))
        >>> halved.readout(halved.step(halved.state, 1))
        tensor([1.])
    """

    state: Tensor
    step: Callable[[Tensor, int], Tensor]
    readout: Callable[[Tensor], Any]
    loops: Tensor | None = None
