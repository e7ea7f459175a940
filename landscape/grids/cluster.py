"""The workers of a Dask cluster, on whatever machines: calls are sent to them, files go through a folder they share.

A worker that is lost loses the call that it was at. Dask gives that to another worker, which finds what the lost one
had written: a run goes on from its last checkpoint, a saved answer is not computed again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from landscape.errors import LandscapeError, RunFailedError
from landscape.provenance import code_revision, versions

__all__ = ["Cluster"]

T = TypeVar("T")
JOINING = 60.0
"""Seconds to wait for the scheduler, and for its first worker."""
_ONE_AT_A_TIME = threading.Lock()


class Cluster:
    """Workers of a Dask scheduler, as a context manager; without an address, of one on this machine.

    Args:
        address: of a scheduler, such as ``tcp://10.0.0.1:8786``; None takes the one that Dask's configuration names
            (``DASK_SCHEDULER_ADDRESS``), or starts `jobs` workers on this machine.
        folder: the folder of runs, which all workers must see under this path.
        jobs: workers to start where there is no scheduler.

    Raises:
        LandscapeError: if `distributed` is not installed, no scheduler answers or no worker joins, a worker does not
            see the folder, or has other versions of what the numbers depend on.
    """

    def __init__(self, folder: Path, *, address: str | None = None, jobs: int = 1) -> None:
        dask, self._distributed = _imported()
        address = address or dask.config.get("scheduler-address", None)
        self._own = None
        if address is None:
            self._own = self._distributed.LocalCluster(
                n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=None
            )
        try:
            self._client = self._distributed.Client(address or self._own, timeout=JOINING, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise LandscapeError(
                f"expected a Dask scheduler at {address}, found none: {error}. Start one with `dask scheduler`."
            ) from error
        try:
            self._check(folder.absolute())
        except BaseException:
            self.close()
            raise

    @property
    def jobs(self) -> int:
        """How many calls are taken at the same time: one by each worker, however many threads it has."""
        return max(1, len(self._client.nthreads()))

    def share(
        self, function: Callable[..., T], calls: Sequence[tuple[Any, ...]], *, lost: Callable[..., T]
    ) -> Generator[T, None, None]:
        """function(*call) for every call, in any order; lost(*call) where several workers in a row were lost with it.

        Raises:
            RunFailedError: if the scheduler is lost.
        """
        submit, gone = self._client.submit, self._distributed.scheduler.KilledWorker
        futures = {submit(_alone, function, call, pure=False, priority=-i): call for i, call in enumerate(calls)}
        try:
            for future in self._distributed.as_completed(futures, loop=self._client.loop):
                call = futures.pop(future)
                error = future.exception() if future.status == "error" else None
                if future.cancelled():
                    raise RunFailedError("the Dask scheduler was lost. Start it again and repeat the command.")
                # Not kept: the scheduler would hold all answers in its workers' memory.
                found = lost(*call) if isinstance(error, gone) else future.result()
                future.release()
                yield found
        finally:
            with contextlib.suppress(Exception):  # whatever a cluster that is going down raises
                self._client.cancel(list(futures))

    def _check(self, folder: Path) -> None:
        """Every worker that is there must see the folder and have the versions of this process."""
        try:
            self._client.wait_for_workers(1, timeout=JOINING)
        except TimeoutError as error:
            raise LandscapeError(
                f"no worker has joined the Dask scheduler within {JOINING:.0f} s. Start some with `dask worker`."
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / f".{uuid.uuid4().hex}.tmp"
        token.touch()
        try:
            found = self._client.run(_circumstances, str(token))
        finally:
            token.unlink()
        here = _circumstances(str(token.parent))
        for worker, there in found.items():
            if not there["sees"]:
                raise LandscapeError(
                    f"the worker {worker} does not see {folder} as this process does. All must share the folder "
                    "of the runs, under the same path."
                )
            if apart := {n: (v, there[n]) for n, v in here.items() if there[n] != v}:
                said = ", ".join(f"{name} {ours} here and {theirs} there" for name, (ours, theirs) in apart.items())
                raise LandscapeError(f"the worker {worker} may not give the same numbers: {said}.")
        if any(n > 1 for n in self._client.nthreads().values()):
            warnings.warn(
                "some workers have several threads, of which one is used: what is computed here is not made to share a "
                "process. Start them with `dask worker --nthreads 1 --nworkers N`.",
                stacklevel=3,
            )

    def close(self) -> None:
        """Leave the cluster; workers that were started here end."""
        with contextlib.suppress(Exception):
            self._client.close()
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _imported() -> tuple[Any, Any]:
    """The packages `dask` and `distributed`."""
    try:
        import dask
        import distributed
    except ImportError as error:
        raise LandscapeError(
            f"the backend dask needs a package that is not installed ({error}): pip install 'landscape-valleys[dask]'."
        ) from error
    return dask, distributed


def _circumstances(path: str) -> dict[str, Any]:
    """What must be the same on all workers."""
    return {"sees": os.path.exists(path), "code": code_revision(), **versions()}


def _alone(function: Callable[..., T], call: tuple[Any, ...]) -> T:
    """One call at a time in a process: what it sets for the whole process, others would meet with."""
    with _ONE_AT_A_TIME:
        return function(*call)
