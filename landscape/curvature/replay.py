"""Products on a graphics card, recorded once as a CUDA graph and replayed, which saves launching their kernels."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["replayed"]

Product = Callable[[Tensor], Tensor]

TRIALS = 5
"""Calls before a product is recorded: libraries set themselves up in the first ones, and the last of them is timed."""
LAUNCHING = 0.5
"""Part of the time of a product that its launching takes, from which on replaying it is worth the memory."""
_LOG = logging.getLogger(__name__)


def replayed(make: Callable[[], Product], device: torch.device) -> Product:
    """The product that `make` makes, on a card recorded and replayed where this gains and gives the same.

    A product of a small model is hundreds of kernels of microseconds each, and the processor needs longer to launch
    them than the card to run them. Recorded is what takes the host longest, after a few calls of the same shape; the
    record is compared with the product itself, for two tensors, before it is used. Where recording fails, because
    something in the product waits for the card or memory is short, the product goes on as it was. The record keeps the
    intermediate results of one product on the card.

    Args:
        make: builds the product, a function of one tensor, and all that it keeps. Not called again.
        device: where it is computed; on a CPU the product is returned as it is.

    Example:
        >>> replayed(lambda: lambda v: 2 * v, torch.device("cpu"))(torch.ones(2)).tolist()
        [2.0, 2.0]
    """
    return make() if device.type != "cuda" else _Replayed(make, device)


@dataclass(frozen=True)
class _Record:
    """A recorded product, and where it reads and writes."""

    graph: torch.cuda.CUDAGraph
    given: Tensor
    found: Tensor

    def __call__(self, v: Tensor) -> Tensor:
        self.given.copy_(v)
        self.graph.replay()
        return self.found.clone()


class _Replayed:
    """See `replayed`. Made on a stream of its own, since autograd runs a graph on the stream that it was made on."""

    def __init__(self, make: Callable[[], Product], device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._calls: dict[tuple[int, ...], int] = {}
        self._records: dict[tuple[int, ...], _Record | None] = {}  # by shape; None where it is not to be recorded
        with self._aside():
            self._product = make()

    def __call__(self, v: Tensor) -> Tensor:
        shape = tuple(v.shape)
        if shape in self._records:
            record = self._records[shape]
            return self._eager(v) if record is None else record(v)
        self._calls[shape] = self._calls.get(shape, 0) + 1
        if self._calls[shape] < TRIALS:
            return self._eager(v)
        out, launching = self._timed(v)
        self._records[shape] = None if launching < LAUNCHING else self._recorded(v, out)
        return out

    def _eager(self, v: Tensor) -> Tensor:
        with self._aside():
            out = self._product(v)
        out.record_stream(torch.cuda.current_stream(self._device))
        return out

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On the stream of the product, after and before what the caller's stream does."""
        outer = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            yield
        outer.wait_stream(self._stream)

    def _timed(self, v: Tensor) -> tuple[Tensor, float]:
        """A product, and the part of its time after which all of it was launched."""
        torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        out = self._eager(v)
        launched = time.perf_counter() - start
        torch.cuda.synchronize(self._device)
        return out, launched / (time.perf_counter() - start)

    def _recorded(self, v: Tensor, out: Tensor) -> _Record | None:
        """A record of the product, if it can be made and gives what the product gave."""
        graph, given = torch.cuda.CUDAGraph(), v.clone()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                found = self._product(given)
        except Exception as error:  # noqa: BLE001 - whatever forbids it, the product itself still works
            _LOG.info("a product cannot be recorded, it is computed anew each time: %s", error)
            return None
        record = _Record(graph, given, found)
        # The second tensor shows whether anything of the first was taken for a constant.
        other = v.flip(0)
        if _same(record(v), out) and _same(record(other), self._eager(other)):
            return record
        _LOG.warning("a recorded product differs from the product itself: it is not used")
        return None


def _same(a: Tensor, b: Tensor) -> bool:
    """To rounding: sums of many numbers are taken in another order at each call."""
    return bool((a - b).norm() <= torch.finfo(b.dtype).eps ** 0.5 * b.norm())
