"""`landscape report`."""

from __future__ import annotations

from pathlib import Path

import click
import torch
import xarray as xr

from landscape.answers.files import write
from landscape.answers.question import LossSpec
from landscape.cli.console import device_option, resolve_device
from landscape.errors import LandscapeError
from landscape.report.analyze import carried_out, of_stored, subject_of, with_stored
from landscape.report.choice import BUDGETS, choose
from landscape.report.page import page
from landscape.report.report import Report
from landscape.report.subjects import OfRun
from landscape.studies.study import Study

__all__ = ["command"]


@click.command("report")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page.",
)
@click.option(
    "--budget",
    type=click.Choice(list(BUDGETS)),
    default="quick",
    show_default=True,
    help="Of each run: "
    + ", ".join(f"{name} {seconds / 60:g} min" for name, seconds in BUDGETS.items())
    + "; quick looks at the first, middle and last checkpoint, full at all.",
)
@click.option("--stored", is_flag=True, help="Compute nothing: show what is stored.")
@click.option("--samples", type=click.IntRange(1), help="Only the first so many samples of the probe split.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random in a probe.")
@device_option
@click.option("--chunk", type=click.IntRange(1), help="Samples evaluated at once; bounds memory.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, one thread each.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    paths: tuple[Path, ...],
    output: Path,
    budget: str,
    stored: bool,
    samples: int | None,
    seed: int,
    device: str,
    chunk: int | None,
    jobs: int,
    quiet: bool,
) -> None:
    """Make one page of HTML that says what was found, with pictures. PATHS are run folders, or folders of runs.

    The probes that fit the model and the budget are chosen, their cost is told, and what is not stored yet is computed
    and stored, as by `landscape probe`. Stored answers of other probes are shown, too. The page holds all that it
    shows, and opens from disk without a network. What fails is told, and the page shows the rest.

    \b
    Examples:
      landscape report runs
      landscape report runs/markov-looped-s0 --budget full --jobs 2 -o looped.html
      landscape report runs --stored
    """
    torch.set_num_threads(1)
    loss = LossSpec(samples=samples, device=resolve_device(device))
    reports: list[Report] = []
    errors: list[tuple[str, LandscapeError]] = []
    for run in Study.open(paths):
        try:
            subject = subject_of(run, seed=seed, budget=budget, loss=loss, chunk=chunk, jobs=jobs)
            reports.append(of_stored(subject) if stored else _asked(subject, budget, quiet=quiet))
        except LandscapeError as error:  # of one run: the others are shown
            errors.append((str(run.path), error))
    errors += [(f"{r.title} {name}", problem) for r in reports for name, problem in r.troubles.items()]
    if reports:
        write(page(reports, joint=_joint(reports)).encode(), output)
        click.echo(str(output))
    for label, problem in errors:
        click.echo(f"Error: {label}: {problem}", err=True)
    if errors:
        raise click.exceptions.Exit(max(problem.exit_code for _, problem in errors))


def _asked(subject: OfRun, budget: str, *, quiet: bool) -> Report:
    def tell(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    plan = choose(subject, budget=budget)
    for line in plan.lines:
        tell(line)
    return with_stored(subject, carried_out(subject, plan, tell))


def _joint(reports: list[Report]) -> dict[str, list[xr.Dataset]]:
    """Answers that all runs gave to the same question, for figures that show them together."""
    if len(reports) < 2:
        return {}
    common = [name for name in reports[0].datasets if all(name in r.datasets for r in reports)]
    answers = {name: [r.datasets[name] for r in reports] for name in common}
    return {name: found for name, found in answers.items() if len({_asked_for(ds) for ds in found}) == 1}


def _asked_for(ds: xr.Dataset) -> tuple[str, str]:
    return str(ds.attrs.get("settings", "")), str(ds.attrs.get("probe_version", ""))
