"""Nested tuples and dicts of tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["tensors_of", "with_tensors"]


def tensors_of(data: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    return [x for x in pytree.tree_leaves(data) if isinstance(x, Tensor)]


def with_tensors(data: Any, tensors: Any) -> Any:
    """A tree like `data` with other tensors in the places of its own.

    Example:
        >>> import torch
        >>> with_tensors((torch.zeros(1), {"scale": 2.0}), [torch.ones(1)])
        (tensor([1.]), {'scale': 2.0})
    """
    new = iter(tensors)
    return pytree.tree_map(lambda x: next(new) if isinstance(x, Tensor) else x, data)
