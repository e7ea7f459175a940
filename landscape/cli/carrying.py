"""A grid carried out by a command, on the processes that it was given, with its progress shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from landscape.cli.console import progress_bars
from landscape.grids.carry import Outcome, Standing, carry_out
from landscape.grids.cluster import Cluster
from landscape.grids.grid import Grid
from landscape.grids.plan import Plan

__all__ = ["carried_out", "carrying_options", "check_scheduler"]

_OPTIONS = (
    click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, one thread each."),
    click.option(
        "--backend",
        type=click.Choice(["loky", "dask"]),
        default="loky",
        show_default=True,
        help="Who computes: processes of this machine, or workers of a Dask cluster that share the folder of the runs.",
    ),
    click.option(
        "--scheduler", metavar="ADDRESS", help="With --backend dask.  [default: a cluster of --jobs workers here]"
    ),
    click.option("--chunk", type=click.IntRange(1), help="Samples that a probe evaluates at once; bounds memory."),
)


def carrying_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that carries out grids."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_scheduler(backend: str, scheduler: str | None) -> None:
    """Refuse an address that nobody would be asked at."""
    if scheduler is not None and backend != "dask":
        raise click.UsageError("--scheduler is Dask's: add --backend dask.")


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
