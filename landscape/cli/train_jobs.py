"""Several runs at once for `landscape train`: progress and what came out."""

from __future__ import annotations

from pathlib import Path

from landscape.answers.pool import Processes
from landscape.cli.console import Table, number, progress_bars, show_table
from landscape.errors import LandscapeError
from landscape.grids.training import Job, trained
from landscape.runs.reading import FILE_NAME
from landscape.runs.run import Run
from landscape.runs.train import Progress

__all__ = ["Job", "summarise", "train_all"]


def train_all(jobs_list: list[Job], *, jobs: int, threads: int, quiet: bool) -> list[LandscapeError]:
    """Train every run; a run that fails does not stop the others."""
    with progress_bars(quiet=quiet) as bars:

        def report(path: Path, p: Progress) -> None:
            bars.update(path.name, p.step, p.total, f"test loss {p.loss:.4f}")

        workers = Processes(jobs, here=False)
        found = list(trained(jobs_list, threads=threads, workers=workers, progress=report))
    return [error for _, error in found if error is not None]


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
