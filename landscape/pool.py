"""Calls shared out between this process and workers beside it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from joblib.externals.loky import get_reusable_executor

__all__ = ["shared_out"]

T = TypeVar("T")
# Workers share the cores: more threads in each would collapse under load. Read by libraries when they are loaded.
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")}
_ONE_THREAD["VECLIB_MAXIMUM_THREADS"] = "1"


def shared_out(function: Callable[..., T], calls: Sequence[tuple[Any, ...]], *, jobs: int) -> Generator[T, None, None]:
    """function(*call) for every call, in any order, `jobs` at a time: one here, the others in processes of their own.

    Starting a process and importing PyTorch there takes seconds of a core. This process has done so already, so
    that short work is done sooner than by `jobs` new ones. A worker that has nothing to do takes the next call.

    Args:
        function: importable, since it is sent to other processes.
        calls: its arguments.
        jobs: processes, this one included.

    Raises:
        Exception: what a call raised; calls that have not begun are then left out.

    Example:
        >>> sorted(shared_out(pow, [(2, 3), (3, 2)], jobs=1))
        [8, 9]
    """
    left, lock = deque(calls), threading.Lock()
    beside = min(jobs, len(calls)) - 1
    if beside < 1:
        yield from (function(*call) for call in calls)
        return
    executor = get_reusable_executor(max_workers=beside, env=_ONE_THREAD)
    done: SimpleQueue[Future[T]] = SimpleQueue()

    def take() -> tuple[Any, ...] | None:
        with lock:
            return left.popleft() if left else None

    def feed(finished: Future[T] | None = None) -> None:
        if finished is not None:
            done.put(finished)
        if (call := take()) is None:
            return
        try:
            executor.submit(function, *call).add_done_callback(feed)
        except RuntimeError as error:  # going down; whoever waits must hear of it
            failed: Future[T] = Future()
            failed.set_exception(error)
            done.put(failed)

    try:
        for _ in range(beside):
            feed()
        waiting = len(calls)
        while waiting:
            call = take()
            if call is not None:
                yield function(*call)
                waiting -= 1
            for finished in _ready(done, block=call is None):
                yield finished.result()
                waiting -= 1
    except BaseException:
        left.clear()
        executor.shutdown(wait=False, kill_workers=True)
        raise


def _ready(done: SimpleQueue[Future[T]], *, block: bool) -> Iterator[Future[T]]:
    """What is finished by now; at least one if asked to wait."""
    try:
        yield done.get(block=block)
        while True:
            yield done.get(block=False)
    except Empty:
        return
