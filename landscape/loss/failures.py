"""What torch could not do, in words: the operation, and the way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from landscape.errors import LandscapeError

__all__ = ["brief", "custom_operations", "explained"]

_OPERATION = re.compile(r"derivative (?:for|of) '?(?:aten::)?(\w+)'?|\"(\w+)\" not implemented")


@contextmanager
def explained(what: str, way_out: str, *, value: Tensor | None = None) -> Iterator[None]:
    """Turn an error from inside torch into a `LandscapeError` that names the operation and says what to do.

    Args:
        what: what was to be computed.
        way_out: what the user can do.
        value: a tensor whose graph may hold the custom operations at fault.
    """
    try:
        yield
    except LandscapeError:
        raise
    except MemoryError as error:
        raise LandscapeError(f"{what} needs more memory than there is. Use a smaller `chunk`.") from error
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        text = brief(error)
        if "out of memory" in text.lower() or "can't allocate memory" in text:
            raise LandscapeError(f"{what} needs more memory than there is: {text}. Use a smaller `chunk`.") from error
        found = _OPERATION.search(text)
        names = [n for n in found.groups() if n] if found else []
        if not names and value is not None:
            names = custom_operations(value)
        operation = f" (operation: {', '.join(names)})" if names else ""
        raise LandscapeError(f"{what} cannot be computed{operation}: {text}. {way_out}") from error


def brief(error: BaseException) -> str:
    """The message of an error on one line, cut to 300 characters, without its full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300].rstrip(".")


def custom_operations(value: Tensor) -> list[str]:
    """Names of the operations in the graph of a tensor that are not torch's own: `torch.autograd.Function`s.

    Example:
        >>> import torch
        >>> custom_operations((torch.ones(1, requires_grad=True) * 2).sum())
        []
    """
    names, seen, left = set(), set(), [value.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # A Function written in Python has a class of its own for every backward; torch's are built in.
        if (forward := getattr(type(node), "_forward_cls", None)) is not None:
            names.add(forward.__name__)
        left += [n for n, _ in node.next_functions]
    return sorted(names)
