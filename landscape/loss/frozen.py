"""A private copy of a module, fit to be differentiated twice; or the reason why it cannot be."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from landscape.errors import LandscapeError

__all__ = ["frozen_copy", "original", "uncompiled", "without_checkpointing"]


def original(module: nn.Module) -> nn.Module:
    """The module itself, out of the wrappers of torch.compile; an error for one whose parameters cannot be replaced.

    Raises:
        LandscapeError: for scripted or traced modules, lazy parameters, and parameters on the meta device.

    Example:
        >>> original(torch.compile(torch.nn.Linear(1, 1), backend="eager"))
        Linear(in_features=1, out_features=1, bias=True)
    """
    # A compiled module has no double backward; its original is the same function.
    module = getattr(module, "_orig_mod", module)
    if not isinstance(module, nn.Module):
        raise LandscapeError(f"expected a torch.nn.Module, found {type(module).__name__}.")
    scripted = [n or "the module" for n, m in module.named_modules() if isinstance(m, torch.jit.ScriptModule)]
    if scripted:
        raise LandscapeError(
            f"expected plain modules, found scripted or traced ones: {', '.join(scripted[:4])}. Their parameters "
            "cannot be replaced from outside: give the module that was scripted."
        )
    tensors = [*module.named_parameters(), *module.named_buffers()]
    if lazy := [n for n, p in tensors if is_lazy(p)]:
        raise LandscapeError(
            f"expected parameters with values, found lazy ones: {', '.join(lazy[:4])}. Run the module once on a batch."
        )
    if empty := [n for n, p in tensors if p.is_meta]:
        raise LandscapeError(
            f"expected parameters with values, found some on the meta device: {', '.join(empty[:4])}. Load the weights "
            "first (module.to_empty, then load_state_dict)."
        )
    return module


def frozen_copy(module: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A deep copy in another dtype and place, without gradients of its own, with the whole gradients of embeddings.

    Raises:
        LandscapeError: if the module cannot be copied.

    Example:
        >>> frozen_copy(torch.nn.Linear(2, 1), torch.float64, torch.device("cpu")).weight.dtype
        torch.float64
    """
    # Old weight_norm and spectral_norm leave the weight of the last forward pass behind, with its graph, which
    # deepcopy refuses. Such a tensor is a value like any other; the next forward pass makes it anew.
    memo: dict[int, Any] = {}
    for part in module.modules():
        for x in _tensors(vars(part)):
            if not x.is_leaf:
                memo[id(x)] = x.detach().clone()
    try:
        twin = copy.deepcopy(module, memo).to(dtype=dtype, device=device)
    except Exception as error:
        raise LandscapeError(
            f"the module cannot be copied: {type(error).__name__}: {error}. Give one that copy.deepcopy copies."
        ) from error
    for part in twin.modules():
        # What follows changes gradients only, not the loss: sparse ones have no second derivative, and those scaled by
        # frequency or masked at the padding are not those of the loss.
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            part.sparse = part.scale_grad_by_freq = False
        if isinstance(part, nn.Embedding):
            part.padding_idx = None
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return twin


def _tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested containers. Modules are left out: they are visited by themselves."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple | set):
        for x in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(x)


class _Direct:
    """In the place of checkpointing with re-entrant backward: calls the function."""

    @staticmethod
    def apply(function: Callable[..., Any], _preserve_rng_state: bool, *args: Any) -> Any:
        return function(*args)


def _direct(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """In the place of checkpointing's hooks, which frame the call of a function."""
    yield


@contextmanager
def uncompiled() -> Iterator[None]:
    """Parts compiled by torch.compile run as they are written: compiled ones have no second derivative."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Activation checkpointing (`torch.utils.checkpoint`) does nothing in this context.

    It evaluates a part again in the backward pass, when the parameters that this project gives a module for one
    evaluation are no longer in their places: the gradient would be that at other parameters. The loss is the same
    without; chunks bound the memory.
    """
    from torch.utils import checkpoint

    shims = {"CheckpointFunction": _Direct, "_checkpoint_without_reentrant_generator": _direct}
    with ExitStack() as stack:
        for name, shim in shims.items():
            if hasattr(checkpoint, name):  # private names: another torch may have others, and then refuses by itself
                stack.enter_context(patch.object(checkpoint, name, shim))
        yield
