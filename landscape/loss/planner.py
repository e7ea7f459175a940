"""Whether compiling products pays: timed on the very loss, with what compiling took on this machine before."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

import torch
from torch import Tensor

from landscape.curvature.native_build import cache_folder
from landscape.curvature.symmetric import Symmetric
from landscape.errors import KernelError

__all__ = ["FEW", "SHARE", "Experience", "experiences", "remembered", "seconds_of", "worth"]

FEW = 40
"""Products up to which nothing is timed."""
HOPE = 0.5
"""Share of a product's time that compiling may save at best, before anything is known."""
SHORTEST = 3.0
"""Seconds that compiling takes at least, also with the compiler's cache on disk."""
MARGIN = 1.3
"""What is saved must be so many times what compiling takes."""
PER_NODE, SHARE = 0.015, 0.75
"""Seconds of compiling per node of a graph, and the part of a product's time that is left: of a GPT block."""
_FILE = "compiling.json"
_HERE: set[str] = set()
"""Graphs that this process has compiled: once more they take no time, and no word."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experience:
    """What compiling one graph took.

    Attributes:
        nodes: of the graph.
        start: seconds until the first product.
        share: time of a compiled product over that of a plain one.
    """

    nodes: int
    start: float
    share: float


class Linear(Protocol):
    """A product that can be compiled (`landscape.curvature.linearised.Linearised`)."""

    def size(self, block: int) -> tuple[int, str]:
        """Nodes of the graphs to be compiled, and a digest of them."""


def worth(linear: Callable[[], Linear], each: float, *, products: int, block: int) -> bool:
    """Whether compiling a product saves more time than it takes.

    Nothing is traced where even the best imaginable gain is less than the shortest start.

    Args:
        linear: makes what would be compiled, uncompiled.
        each: seconds of one plain product.
        products: that are to come.
        block: vectors multiplied at once.
    """
    if products * each * HOPE < MARGIN * SHORTEST:
        return False
    nodes, digest = linear().size(block)
    known = experiences()
    if (found := known.get(digest)) is None:
        rates, shares = [e.start / e.nodes for e in known.values()], [e.share for e in known.values()]
        found = Experience(nodes, nodes * median(rates or [PER_NODE]), median(shares or [SHARE]))
    saved = products * each * (1 - found.share)
    if digest in _HERE:
        return saved > 0
    if saved < MARGIN * found.start:
        return False
    _LOG.info(
        "compiling Hessian products: about %.0f s to start, and about %.0f s less for %s products of %.3g ms",
        found.start, saved, f"{products:,}", 1e3 * each,
    )  # fmt: skip
    return True


def seconds_of(H: Symmetric, *, repeats: int = 2) -> float:
    """Seconds of one product, after a first one.

    Of wall and processor time the shorter: on a busy machine the former grows, with several threads the latter.
    """
    v = torch.ones(H.size, dtype=H.dtype, device=H.device)
    _wait(H.mv(v))
    return min(_timed(lambda: _wait(H.mv(v))) for _ in range(repeats))


def remembered(linear: Callable[[], Linear], H: Symmetric, *, plain: float, block: int) -> bool:
    """Compile by a first product, time others, and keep what it took for later processes: is it faster than plain?"""
    v = torch.ones(H.size, block, dtype=H.dtype, device=H.device)
    start = _timed(lambda: _wait(H.mm(v)))
    each = min(_timed(lambda: _wait(H.mm(v))) for _ in range(2)) / block
    nodes, digest = linear().size(block)
    if digest not in _HERE:  # else `start` is not what a later process has to expect
        _HERE.add(digest)
        _keep(digest, Experience(nodes, start, each / plain))
        _LOG.info("compiled in %.1f s: a product takes %.3g ms, and %.3g ms without", start, 1e3 * each, 1e3 * plain)
    return each < plain


def experiences() -> dict[str, Experience]:
    """What compiling took on this machine, by graph; empty where nothing is known or can be read."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
        return {digest: Experience(**e) for digest, e in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, KernelError):
        return {}


def _keep(digest: str, experience: Experience) -> None:
    """For later processes, as far as it can be written: of two at the same time one is forgotten."""
    with contextlib.suppress(OSError, KernelError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {**experiences(), digest: experience}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps({k: asdict(e) for k, e in known.items()}), encoding="utf-8")
        temporary.replace(path)


def _path() -> Path:
    return cache_folder() / _FILE


def _timed(work: Callable[[], None]) -> float:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return min(time.perf_counter() - wall, time.process_time() - processor)


def _wait(x: Tensor) -> None:
    """Until it is computed, on a card too."""
    float(x.sum())
