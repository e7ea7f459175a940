"""`landscape reproduce`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import torch

from landscape.answers.files import write
from landscape.cli.carrying import carried_out, carrying_options, check_scheduler
from landscape.cli.console import device_option, json_text, resolve_device, show_table
from landscape.cli.pictured import study_pictures
from landscape.cli.tables import grid as tables
from landscape.errors import LandscapeError
from landscape.grids.carry import Failure
from landscape.grids.grid import Grid
from landscape.grids.plan import Plan
from landscape.grids.presets import STUDIES, study_grids
from landscape.grids.price import price
from landscape.report.study import study_page
from landscape.runs.run import Run
from landscape.studies.study import Study
from landscape.verdict.ends import document
from landscape.verdict.findings import findings
from landscape.verdict.form import plain
from landscape.verdict.verdict import verdict
from landscape.verdict.words import markdown

__all__ = ["command"]


@click.command("reproduce")
@click.option(
    "--preset",
    type=click.Choice(list(STUDIES)),
    default="quick",
    show_default=True,
    help="; ".join(f"{name}: {about}" for name, about in STUDIES.items()) + ".",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("study"),
    show_default=True,
    help="Folder for runs, verdict, figures and the page.",
)
@carrying_options
@device_option
@click.option("--dry-run", is_flag=True, help="Compute nothing: say what is left, and what it would take.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    preset: str,
    folder: Path,
    jobs: int,
    backend: str,
    scheduler: str | None,
    chunk: int | None,
    device: str,
    dry_run: bool,
    quiet: bool,
) -> None:
    """From nothing to what holds: train a study, probe it, judge the claims, draw the figures, write the page.

    What is done is skipped, so that the same command goes on after any interruption, and ends in the same verdict. A
    run that fails is told at the end and stops no other. The folder then holds runs/, verdict.json, verdict.md,
    findings.json, findings.md, figures/ and report.html.

    \b
    Examples:
      landscape reproduce --jobs 2
      landscape reproduce --preset paper --dry-run
      landscape reproduce --preset paper --jobs 16 -o paper
    """
    check_scheduler(backend, scheduler)
    torch.set_num_threads(1)
    grids = study_grids(preset, device=resolve_device(device))
    plans = {name: Plan.of(grid, folder / "runs" / name) for name, grid in grids.items()}
    if dry_run or preset != "quick":  # an hour's work is told before it begins, two minutes' are not
        _tell_price(plans, chunk=chunk, jobs=jobs)
    if dry_run:
        return
    failures: list[Failure] = []
    for name, grid in grids.items():
        failures += carried_out(
            grid, folder / "runs" / name, plans[name], jobs=jobs, backend=backend, scheduler=scheduler, chunk=chunk,
            quiet=quiet, label=name,
        ).failures  # fmt: skip
    _concluded(folder, Study(_runs(folder, grids)), jobs=jobs)
    for failure in failures:
        said = str(failure.error)
        click.echo(f"Error: {said if failure.what in said else f'{failure.what}: {said}'}", err=True)
    if failures:
        click.echo(f"{len(failures)} failed; the verdict is about all others. The same command tries again.", err=True)
        raise click.exceptions.Exit(1)


def _tell_price(plans: Mapping[str, Plan], *, chunk: int | None, jobs: int) -> None:
    for name, plan in plans.items():
        if plan.done:
            click.echo(f"{name}: done.", err=True)
            continue
        found = price(plan, chunk=chunk)
        for table in tables.grid_tables(plan, found):
            show_table(table)
        click.echo(f"{name}: {tables.in_all(found, jobs=jobs)}.")
        for what, error in found.errors.items():
            click.echo(f"Error: {what}: {error}", err=True)


def _runs(folder: Path, grids: Mapping[str, Grid]) -> Iterator[Run]:
    """Those of the grids that are there; why another is not was told with the failures."""
    for name, grid in grids.items():
        for run in grid.configs:
            with contextlib.suppress(LandscapeError):
                yield Run.open(folder / "runs" / name / run)


def _concluded(folder: Path, study: Study, *, jobs: int) -> None:
    """Verdict, findings, figures and page of all that is there."""
    found = verdict(study)
    numbers = document(found)
    text = findings(numbers)
    for name, content in (
        ("verdict.json", json_text(plain(found)) + "\n"),
        ("verdict.md", markdown(found)),
        ("findings.json", json_text(numbers) + "\n"),
        ("findings.md", text),
    ):
        write(content.encode(), folder / name)
        click.echo(str(folder / name))
    page = study_page(text, study_pictures(study, found, folder / "figures", jobs=jobs))
    write(page.encode(), folder / "report.html")
    click.echo(str(folder / "report.html"))
