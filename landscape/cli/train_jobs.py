"""Several runs at once for `landscape train`: processes, progress and what came out."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import torch

from landscape.answers.pool import shared_out
from landscape.cli.console import Table, number, progress_bars, show_table
from landscape.errors import LandscapeError, RunFailedError
from landscape.runs.reading import FILE_NAME
from landscape.runs.run import Run
from landscape.runs.train import Progress, train
from landscape.training.config import RunConfig

__all__ = ["Job", "summarise", "train_all"]

Job = tuple[RunConfig, Path]
"""A config and the folder of its run."""


def train_all(jobs_list: list[Job], *, jobs: int, threads: int, quiet: bool) -> list[LandscapeError]:
    """Train every run; a run that fails does not stop the others."""
    torch.set_num_threads(threads)
    with progress_bars(quiet=quiet) as bars:

        def report(path: Path, p: Progress) -> None:
            bars.update(path.name, p.step, p.total, f"test loss {p.loss:.4f}")

        if jobs == 1:
            found = [_train_one(c, path, threads, lambda p, path=path: report(path, p)) for c, path in jobs_list]
        else:
            stop = threading.Event()
            watcher = threading.Thread(target=_watch, args=(jobs_list, report, stop), daemon=True)
            watcher.start()
            try:
                calls = [(c, path.absolute(), threads) for c, path in jobs_list]
                found = list(shared_out(_train_one, calls, jobs=jobs, here=False, lost=_killed))
            finally:
                stop.set()
                watcher.join()
    return [f for f in found if f is not None]


def _train_one(config: RunConfig, path: Path, threads: int, report: Any = None) -> LandscapeError | None:
    torch.set_num_threads(threads)
    if config.device == "cuda":  # runs must be repeatable bit for bit; cuBLAS reads this when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        train(config, path, progress=report)
    except RunFailedError as error:
        return RunFailedError(str(error))
    except LandscapeError as error:
        return LandscapeError(str(error))
    return None


def _killed(_config: RunConfig, path: Path, _threads: int) -> LandscapeError:
    """What to say of a run whose process is no more."""
    try:
        steps = Run.open(path).steps.tolist()
    except LandscapeError:  # it had no file yet
        steps = []
    kept = f"Its {len(steps)} checkpoints up to step {steps[-1]} are kept." if steps else "No checkpoint was reached."
    return RunFailedError(
        f"{path}: the process that trained it was killed, as the system does when memory is short. {kept} "
        "Repeat the command to continue, with fewer --jobs."
    )


def _watch(jobs_list: list[Job], report: Any, stop: threading.Event) -> None:
    """Follow runs that other processes train, by reading their files."""
    runs: dict[Path, Run] = {}
    while not stop.wait(0.5):
        for config, path in jobs_list:
            if (path / FILE_NAME).exists():
                try:
                    if path not in runs:
                        runs[path] = Run.open(path)
                    metrics = runs[path].metrics
                except LandscapeError:  # about to be replaced by its recovered copy
                    continue
                if metrics.sizes["step"]:
                    loss = float(metrics["loss"][-1, 1, 0])
                    report(path, Progress(int(metrics["step"][-1]), config.steps, loss))


def summarise(paths: list[Path]) -> None:
    """A table of the runs in these folders, as far as they got."""
    rows, families, units = [], [], ""
    for path in paths:
        if not (path / FILE_NAME).exists():
            continue
        try:
            run = Run.open(path)
        except LandscapeError:
            continue
        metrics = run.metrics
        if not metrics.sizes["step"]:  # nothing was reached yet
            continue
        last, units = metrics.isel(step=-1).sel(split="test"), run.loss_units
        families = [str(f) for f in last["family"].values]
        accuracy = [f"{number(a, 3)} / {number(b, 3)}" for a, b in zip(last.accuracy, last.bayes_accuracy, strict=True)]
        reached = [str(path), run.status, str(int(last["step"])), number(last.loss[0])]
        rows.append([*reached, *accuracy, f"{float(last.seconds):.1f}"])
    if rows:
        columns = ["run", "status", "step", "loss", *families, "seconds"]
        caption = f"Test split: loss in {units}; accuracy / Bayes-optimal accuracy, of all and by family."
        show_table(Table("Trained", columns, rows, caption))
