"""Calls shared out between this process and workers beside it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

__all__ = ["shared_out"]

T = TypeVar("T")
# Workers share the cores: more threads in each would collapse under load. Read by libraries when they are loaded.
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")}
_ONE_THREAD["VECLIB_MAXIMUM_THREADS"] = "1"
_WORKERS: dict[int, ProcessPoolExecutor] = {}
"""Each has one process, so that one that is killed takes no other call with it."""
_KEPT = 10.0
"""Seconds that workers wait for the next use. Loky's own limit is not used: it overlooks the death of a process that it
started after another one had waited in vain."""
_release: list[threading.Timer] = []


def shared_out(
    function: Callable[..., T],
    calls: Sequence[tuple[Any, ...]],
    *,
    jobs: int,
    here: bool = True,
    lost: Callable[..., T] | None = None,
) -> Generator[T, None, None]:
    """function(*call) for every call, in any order, `jobs` at a time: one here, the others in processes of their own.

    Starting a process and importing PyTorch there takes seconds of a core. This process has done so already, so
    that short work is done sooner than by `jobs` new ones. A worker that has nothing to do takes the next call.

    Args:
        function: importable, since it is sent to other processes.
        calls: its arguments.
        jobs: processes, this one included.
        here: whether this process takes calls, too; without it there are `jobs` workers.
        lost: lost(*call) takes the place of the answer to a call whose worker was killed, as the system does when
            memory is short; the other calls go on. None makes it an error.

    Raises:
        Exception: what a call raised; calls that have not begun are then left out.

    Example:
        >>> sorted(shared_out(pow, [(2, 3), (3, 2)], jobs=1))
        [8, 9]
    """
    left, lock = deque(calls), threading.Lock()
    beside = min(jobs, len(calls)) - here
    if beside < 1:
        yield from (function(*call) for call in calls)
        return
    _keep()
    done: SimpleQueue[tuple[tuple[Any, ...], Future[T]]] = SimpleQueue()

    def take() -> tuple[Any, ...] | None:
        with lock:
            return left.popleft() if left else None

    def feed(slot: int) -> None:
        while (call := take()) is not None:
            future: Future[T] = Future()
            try:
                future = _submit(slot, function, call)
                future.exception()  # waits
            except (OSError, RuntimeError, CancelledError) as error:  # going down; whoever waits must hear of it
                future = Future()
                future.set_exception(error)
            done.put((call, future))

    try:
        for slot in range(beside):
            threading.Thread(target=feed, args=(slot,), daemon=True).start()
        waiting = len(calls)
        while waiting:
            call = take() if here else None
            if call is not None:
                yield function(*call)
                waiting -= 1
            for asked, finished in _ready(done, block=call is None):
                was_killed = isinstance(finished.exception(), TerminatedWorkerError)
                yield lost(*asked) if was_killed and lost is not None else finished.result()
                waiting -= 1
        _release_later()
    except BaseException:
        with lock:
            left.clear()
        for slot in range(beside):
            if (worker := _WORKERS.pop(slot, None)) is not None:
                worker.shutdown(wait=False, kill_workers=True)
        raise


def _keep() -> None:
    while _release:
        _release.pop().cancel()


def _release_later() -> None:
    def release() -> None:
        while _WORKERS:
            _WORKERS.popitem()[1].shutdown(wait=False)

    _keep()
    _release.append(threading.Timer(_KEPT, release))
    _release[-1].daemon = True
    _release[-1].start()


def _submit(slot: int, function: Callable[..., T], call: tuple[Any, ...]) -> Future[T]:
    """Have a call begun by a worker; by a new one if that of an earlier call is no more."""
    for attempt in range(2):
        if slot not in _WORKERS:
            _WORKERS[slot] = ProcessPoolExecutor(max_workers=1, env=_ONE_THREAD)
        try:
            future: Future[T] = _WORKERS[slot].submit(function, *call)
        except RuntimeError:  # it was killed
            _WORKERS.pop(slot, None)
            if attempt:
                raise
        else:
            return future
    raise AssertionError("unreachable")


def _ready(done: SimpleQueue[T], *, block: bool) -> Iterator[T]:
    """What is finished by now; at least one if asked to wait."""
    try:
        yield done.get(block=block)
        while True:
            yield done.get(block=False)
    except Empty:
        return
