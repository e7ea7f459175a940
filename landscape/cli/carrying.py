"""A grid carried out by a command, on the processes that it was given, with its progress shown."""

from __future__ import annotations

import contextlib
from pathlib import Path

from landscape.cli.console import progress_bars
from landscape.grids.carry import Outcome, Standing, carry_out
from landscape.grids.cluster import Cluster
from landscape.grids.grid import Grid
from landscape.grids.plan import Plan

__all__ = ["carried_out"]


def carried_out(
    grid: Grid,
    folder: Path,
    plan: Plan,
    *,
    jobs: int,
    backend: str,
    scheduler: str | None,
    chunk: int | None,
    quiet: bool,
    label: str = "",
) -> Outcome:
    """Train and probe what is left of a grid; `label` stands before the phase in the progress."""
    with contextlib.ExitStack() as stack:
        workers = None
        if backend == "dask" and not plan.done:
            workers = stack.enter_context(Cluster(folder, address=scheduler, jobs=jobs))
        bars = stack.enter_context(progress_bars(quiet=quiet))

        def report(s: Standing) -> None:
            bars.update(f"{label} {s.phase}".strip(), s.done, s.total, s.running, share=s.share)

        return carry_out(grid, folder, jobs=jobs, workers=workers, chunk=chunk, plan=plan, progress=report)
