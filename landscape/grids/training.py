"""Several runs trained at the same time: by this process or others, followed by what they write."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from landscape.answers.pool import Processes, Workers
from landscape.errors import LandscapeError, LockedError, RunFailedError
from landscape.runs.checkpoints import Checkpoints
from landscape.runs.reading import FILE_NAME
from landscape.runs.run import Run
from landscape.runs.train import Progress, train
from landscape.training.config import RunConfig

__all__ = ["Job", "Report", "trained"]

Job = tuple[RunConfig, Path]
"""A config and the folder of its run."""
Report = Callable[[Path, Progress], None]
"""What is told how far a run is."""

LOOK = 0.5
"""Seconds between looks at the files of runs that other processes train."""


def trained(
    jobs_list: Sequence[Job],
    *,
    threads: int = 1,
    workers: Workers | None = None,
    patience: float = 0.0,
    progress: Report | None = None,
) -> Iterator[tuple[Path, LandscapeError | None]]:
    """Train runs, and yield the folder of each as it is done, with its error if it failed; none stops the others.

    Args:
        jobs_list: what to train.
        threads: of torch, for each run.
        workers: processes that train; None is this one, one run after another.
        patience: seconds to wait for another process that writes a run, since it last wrote something: after them it
            is an error. A killed command may leave a process that finishes its run.
        progress: called as runs go on.
    """
    report = progress or (lambda *_: None)
    if workers is None or (isinstance(workers, Processes) and workers.jobs == 1):
        for config, path in jobs_list:
            yield _train_one(config, path, threads, patience, partial(report, path))
        return
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(jobs_list, report, stop), daemon=True)
    watcher.start()
    given = {path.absolute(): path for _, path in jobs_list}
    try:
        calls = [(config, path.absolute(), threads, patience) for config, path in jobs_list]
        with contextlib.closing(workers.share(_train_one, calls, lost=_lost)) as found:
            for path, error in found:
                yield given[path], error
    finally:
        stop.set()
        watcher.join()


def _train_one(
    config: RunConfig, path: Path, threads: int, patience: float, report: Callable[[Progress], None] | None = None
) -> tuple[Path, LandscapeError | None]:
    torch.set_num_threads(threads)
    if config.device == "cuda":  # runs must be repeatable bit for bit; cuBLAS reads this when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        _train_when_free(config, path, patience, report)
    except RunFailedError as error:  # as one that can be sent between processes
        return path, RunFailedError(str(error))
    except LandscapeError as error:
        return path, LandscapeError(str(error))
    return path, None


def _train_when_free(config: RunConfig, path: Path, patience: float, report: Callable[[Progress], None] | None) -> None:
    """Train, after whoever writes the run is done with it: it is then found complete, or continued."""
    seen, since = _written(path), time.monotonic()
    while True:
        try:
            train(config, path, progress=report)
        except LockedError:
            if (now := _written(path)) != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since >= patience:
                raise
            time.sleep(min(1.0, patience))
        else:
            return


def _written(path: Path) -> float:
    """When the file of a run was last written, by the clock of whoever keeps it; 0 if there is none."""
    try:
        return (path / FILE_NAME).stat().st_mtime
    except OSError:
        return 0.0


def _lost(_config: RunConfig, path: Path, *_: object) -> tuple[Path, LandscapeError | None]:
    """What to say of a run whose process is no more."""
    try:
        steps = Run.open(path).steps.tolist()
    except LandscapeError:  # it had no file yet
        steps = []
    kept = f"Its {len(steps)} checkpoints up to step {steps[-1]} are kept." if steps else "No checkpoint was reached."
    return path, RunFailedError(
        f"{path}: the process that trained it was killed, as the system does when memory is short. {kept} "
        "Repeat the command to continue, with fewer --jobs."
    )


def _watch(jobs_list: Sequence[Job], report: Report, stop: threading.Event) -> None:
    """Follow runs that other processes train, by reading their files when they were written."""
    seen = {path: _written(path) for _, path in jobs_list}
    while not stop.wait(LOOK):
        for config, path in jobs_list:
            if (now := _written(path)) == seen[path]:
                continue
            seen[path] = now
            try:
                steps, columns = Checkpoints(path / FILE_NAME).table("metrics")
            except LandscapeError:  # about to be replaced by its recovered copy
                continue
            if len(steps):
                report(path, Progress(int(steps[-1]), config.steps, float(columns["loss"][-1, 1, 0])))
