"""The samples of an objective: nested tensors that share their first axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from landscape.errors import LandscapeError

__all__ = ["common_length", "place"]


def place(data: Any, *, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy of ``(inputs, targets)`` on a device; floating tensors take the dtype, others keep theirs."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise LandscapeError(f"expected data = (inputs, targets), found {type(data).__name__}.")

    def move(x: Any) -> Any:
        if not isinstance(x, Tensor):
            raise LandscapeError(f"expected tensors in (inputs, targets), found {type(x).__name__}.")
        return x.detach().to(device=device, dtype=dtype if x.is_floating_point() else x.dtype)

    return pytree.tree_map(move, tuple(data))


def common_length(data: Any) -> int:
    """N, the length of the first axis of every tensor."""
    leaves = pytree.tree_leaves(data)
    lengths = {x.shape[0] if x.ndim else None for x in leaves}
    if len(lengths) != 1 or None in lengths or 0 in lengths:
        shapes = ", ".join(str(tuple(x.shape)) for x in leaves)
        raise LandscapeError(
            f"expected inputs and targets with the same first axis, at least one sample; found {shapes}."
        )
    return int(leaves[0].shape[0])
