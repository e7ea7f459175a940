"""How much memory a process has taken."""

from __future__ import annotations

import math
import sys

import torch

__all__ = ["peak_memory"]


def peak_memory(device: torch.device) -> float:
    """Bytes: on a GPU what tensors took, else all that this process ever held, NaN where the system does not say.

    Example:
        >>> peak_memory(torch.device("cpu")) > 2**20
        True
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # not a POSIX system
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)
