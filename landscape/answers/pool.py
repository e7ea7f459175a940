"""Calls shared out between this process and workers beside it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

__all__ = ["Processes", "Workers", "shared_out"]

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
_LOOKS = 2.0
"""Seconds between two looks of a worker for the process that started it."""
_at_work = threading.Lock()
"""Held in a worker while it does a call."""


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
    beside = min(jobs, len(calls)) - here
    if beside < 1:
        yield from (function(*call) for call in calls)
        return
    _keep()
    work = _Work(function, calls)
    try:
        for slot in range(beside):
            threading.Thread(target=work.feed, args=(slot,), daemon=True).start()
        waiting = len(calls)
        while waiting:
            call = work.take() if here else None
            if call is not None:
                yield function(*call)
                waiting -= 1
            for asked, finished in _ready(work.done, block=call is None):
                was_killed = isinstance(finished.exception(), TerminatedWorkerError)
                yield lost(*asked) if was_killed and lost is not None else finished.result()
                waiting -= 1
        _release_later()
    except BaseException:
        work.stop(range(beside))
        raise


class Workers(Protocol):
    """Processes that take calls, wherever they are.

    Attributes:
        jobs: how many calls they take at the same time.
    """

    @property
    def jobs(self) -> int: ...  # noqa: D102

    def share(
        self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]], *, lost: Callable[..., T]
    ) -> Generator[T, None, None]:
        """function(*call) for every call, in any order; `lost` as in `shared_out`."""
        ...


class Processes:
    """Processes of this machine, by `shared_out`.

    Args:
        jobs: how many.
        here: whether this process is one of them.
    """

    def __init__(self, jobs: int, *, here: bool = True) -> None:
        self.jobs, self._here = jobs, here

    def share(
        self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]], *, lost: Callable[..., T]
    ) -> Generator[T, None, None]:
        """function(*call) for every call, in any order; `lost` as in `shared_out`."""
        return shared_out(function, calls, jobs=self.jobs, here=self._here, lost=lost)


class _Work(Generic[T]):
    """Calls that wait, and the threads that hand them to workers, one thread and one call at a time for each."""

    def __init__(self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> None:
        self.done: SimpleQueue[tuple[tuple[Any, ...], Future[T]]] = SimpleQueue()
        self._function, self._left = function, deque(calls)
        self._taking, self._submitting = threading.Lock(), threading.Lock()
        self._stopped = False
        self._sent: dict[int, Future[T]] = {}

    def take(self) -> tuple[Any, ...] | None:
        """The next call."""
        with self._taking:
            return self._left.popleft() if self._left else None

    def feed(self, slot: int) -> None:
        """Have a worker do one call after another, until none is left."""
        while (call := self.take()) is not None:
            try:
                with self._submitting:
                    if self._stopped:
                        return
                    self._sent[slot] = future = _submit(slot, self._function, call)
                future.exception()  # waits
            except (OSError, RuntimeError, CancelledError) as error:  # going down; whoever waits must hear of it
                future = Future()
                future.set_exception(error)
            self.done.put((call, future))

    def stop(self, slots: Iterable[int]) -> None:
        """Kill the workers; calls that have not begun are left out."""
        with self._submitting:
            self._stopped = True
        for slot in slots:
            if (worker := _WORKERS.pop(slot, None)) is not None:
                # Loky's own thread fails on a call that it has not yet taken up when it is told to stop.
                while (future := self._sent.get(slot)) and not (future.running() or future.done()):
                    time.sleep(0.001)
                worker.shutdown(wait=False, kill_workers=True)


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
            _WORKERS[slot] = ProcessPoolExecutor(
                max_workers=1, env=_ONE_THREAD, initializer=_end_after, initargs=(os.getpid(),)
            )
        try:
            future: Future[T] = _WORKERS[slot].submit(_done, function, call)
        except RuntimeError:  # it was killed
            _WORKERS.pop(slot, None)
            if attempt:
                raise
        else:
            return future
    raise AssertionError("unreachable")


def _done(function: Callable[..., T], call: tuple[Any, ...]) -> T:
    """What a worker does."""
    with _at_work:
        return function(*call)


def _end_after(parent: int) -> None:
    """Have this worker end when its parent was killed, which tells it nothing; what it is doing is finished before."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOKS)
        with _at_work:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _ready(done: SimpleQueue[T], *, block: bool) -> Iterator[T]:
    """What is finished by now; at least one if asked to wait."""
    try:
        yield done.get(block=block)
        while True:
            yield done.get(block=False)
    except Empty:
        return
