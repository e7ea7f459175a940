"""float32 that is float32: torch may compute inside its products in fewer digits, and leaves it to global switches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, reduce
from typing import Any

import torch

__all__ = ["full_precision"]

_PLACES = {
    "cuda": ("cuda.matmul", "cudnn.conv", "cudnn.rnn"),
    "cpu": ("mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn"),
}
"""Where torch.backends keeps the switches of a kind of device."""
_OLD = {"cuda.matmul": "cuda.matmul", "cudnn.conv": "cudnn"}
"""The same before torch 2.9, where there is `allow_tf32` in their place."""


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within it neither TF32 nor bfloat16 stands in for float32, and an autocast around it is off.

    TF32 is on by default in convolutions on NVIDIA cards: ten bits of mantissa, relative errors of 1e-3 in a loss whose
    residuals and differences say 1e-7. What the user had set comes back. float64 is never touched by any of this.

    Example:
        >>> before = torch.get_float32_matmul_precision()
        >>> with full_precision(torch.device("cpu")):
        ...     inside = torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")
        >>> inside, torch.get_float32_matmul_precision() == before
        (True, True)
    """
    changed: list[tuple[Any, str, Any]] = []
    for place in _PLACES.get(device.type, ()):
        switch = _switch(place)
        if switch is not None and getattr(*switch) not in ("none", "ieee", False):
            changed.append((*switch, getattr(*switch)))
    try:
        for owner, name, _ in changed:
            setattr(owner, name, "ieee" if name == "fp32_precision" else False)
        if torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield
    finally:
        for owner, name, value in changed:
            if name == "fp32_precision":
                setattr(owner, name, "none")  # it may have followed another switch, and is to follow it again
            if getattr(owner, name) != value:
                setattr(owner, name, value)


@cache
def _switch(place: str) -> tuple[Any, str] | None:
    """The object that has the switch, and its name there; None where this torch has none."""
    try:
        owner = reduce(getattr, place.split("."), torch.backends)
        if hasattr(owner, "fp32_precision"):
            return owner, "fp32_precision"
    except AttributeError:
        pass
    if place not in _OLD:
        return None
    return reduce(getattr, _OLD[place].split("."), torch.backends), "allow_tf32"
