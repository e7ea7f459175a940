"""`landscape sweep`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource

from landscape.cli.carrying import carried_out, carrying_options, check_scheduler
from landscape.cli.console import device_option, emit_json, resolve_device, show_table
from landscape.cli.tables import grid
from landscape.cli.train import command as train
from landscape.cli.train_grid import collect
from landscape.errors import LandscapeError
from landscape.grids.carry import Outcome
from landscape.grids.grid import Grid
from landscape.grids.plan import Plan
from landscape.grids.price import price
from landscape.loss.metric import METRICS
from landscape.probes import PROBES
from landscape.settings import nest, parse

__all__ = ["command"]

OF_RUNS = (
    "task", "arch", "loops", "layers", "seed", "model", "width", "attention", "steps", "batch", "optimizer", "lr",
    "schedule", "checkpoints", "dtype", "gradient", "config_file", "preset",
)  # fmt: skip
"""Options of `landscape train` that describe runs, and mean the same here."""
OF_PROBES = ("names", "metrics", "at", "every", "count", "samples", "split", "probe_seed")


@click.command("sweep")
@click.argument("grid_file", metavar="[GRID.toml]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A setting of runs or PROBE.NAME=VALUE."
)
@click.option(
    "--vary", multiple=True, metavar="NAME=VALUE,VALUE..", help="A run for each value of a setting; repeat for all."
)
@click.option(
    "-p", "--probe", "names", multiple=True, type=click.Choice(list(PROBES)), help="Asked of all runs; repeat."
)
@click.option(
    "--metric", "metrics", multiple=True, type=click.Choice(METRICS), help="Of the probes that have one; repeat."
)
@click.option("--at", metavar="STEP,STEP..", help="Probe only these training steps, e.g. 0,100,last.")
@click.option("--every", type=click.IntRange(1), help="Probe only every N-th checkpoint, and the last.")
@click.option("--count", type=click.IntRange(2), help="Probe so many checkpoints, the first and the last among them.")
@click.option("--samples", type=click.IntRange(1), help="Probe on the first so many samples of the split.")
@click.option("--split", default="probe", show_default=True, help="Part of the data that is probed.")
@click.option("--probe-seed", type=click.IntRange(0), default=0, show_default=True, help="Of what probes draw.")
@click.option(
    "--runs",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders are made.",
)
@carrying_options
@device_option
@click.option(
    "--dry-run", is_flag=True, help="Compute nothing: say what is done, what is left, and what it would take."
)
@click.option("--estimate/--no-estimate", default=True, help="Say what it will take before it begins.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it, or what would be done, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    grid_file: Path | None,
    folder: Path,
    jobs: int,
    backend: str,
    scheduler: str | None,
    chunk: int | None,
    device: str,
    dry_run: bool,
    estimate: bool,
    as_json: bool,
    quiet: bool,
    **described: Any,
) -> None:
    """Train a grid of runs and ask probes of all of them.

    The grid is a TOML file, or given by options as `train` and `probe` have them. What is done is skipped, what was
    interrupted goes on, and a run that fails is told at the end and stops no other.

    \b
    Examples:
      landscape sweep study.toml --jobs 2
      landscape sweep study.toml --backend dask --scheduler tcp://10.0.0.1:8786
      landscape sweep --arch single --arch looped --seed 0 --seed 1 --vary model.width=16,32 -p spectrum --count 5
      landscape sweep --preset quick --vary task=parity,sum -p spectrum -p samples --metric euclidean --metric adam
    """
    where = resolve_device(device)
    given = [n for n in described if ctx.get_parameter_source(n) is not ParameterSource.DEFAULT]
    if grid_file is not None and given:
        raise click.UsageError(
            f"GRID.toml says it all, and --{given[0].replace('_', '-')} beside it would say it twice. Change the file."
        )
    if grid_file is None and not given:
        raise click.UsageError("expected a GRID.toml, or options that describe runs.")
    check_scheduler(backend, scheduler)
    torch.set_num_threads(1)
    asked = _of_options(device=where, **described) if grid_file is None else Grid.read(grid_file, device=where)
    plan = Plan.of(asked, folder)
    if dry_run:
        _tell_price(plan, chunk=chunk, jobs=jobs, as_json=as_json)
        return
    if estimate and not quiet and not plan.done:
        click.echo(f"{_left(plan)} {grid.in_all(price(plan, chunk=chunk), jobs=jobs)}, about.", err=True)
    outcome = carried_out(
        asked, folder, plan, jobs=jobs, backend=backend, scheduler=scheduler, chunk=chunk, quiet=quiet
    )  # fmt: skip
    _tell(outcome, folder, as_json=as_json)


def _of_options(
    *,
    device: str,
    arch: tuple[str, ...],
    seed: tuple[int, ...],
    config_file: Path | None,
    preset: str | None,
    assignments: tuple[str, ...],
    vary: tuple[str, ...],
    names: tuple[str, ...],
    metrics: tuple[str, ...],
    at: str | None,
    every: int | None,
    count: int | None,
    samples: int | None,
    split: str,
    probe_seed: int,
    **flags: Any,
) -> Grid:
    """The grid that options describe."""
    of_probes = [a for a in assignments if parse(a)[0][0] in PROBES]
    settings = nest(of_probes)
    if unknown := set(settings) - set(names):
        raise LandscapeError(f"--set {min(unknown)}...: no such probe is asked for. Add -p {min(unknown)}.")
    base = nest([a for a in assignments if a not in of_probes], into=collect({}, config_file, flags))
    varied: dict[str, list[Any]] = {"arch": list(dict.fromkeys(arch))} if arch else {}
    for text in vary:
        name, values = _varied(text)
        if name in varied:
            raise LandscapeError("expected every setting of --vary once, with all its values separated by commas.")
        varied[name] = values
    if seed:
        varied["seed"] = list(dict.fromkeys(seed))
    chosen = dict.fromkeys(metrics) or ("euclidean",)
    asked: dict[str, Any] = {"every": every, "count": count, "samples": samples, "split": split, "seed": probe_seed}
    if at is not None:
        asked["at"] = [int(s) if s.isdecimal() else s for s in at.split(",")]
    probes = [
        {
            "name": name,
            "metrics": list(chosen) if PROBES[name].metric else ["euclidean"],
            "settings": settings.get(name, {}),
            **asked,
        }
        for name in dict.fromkeys(names)
    ]
    return Grid.make(preset=preset, base=base, vary=varied, probes=probes, device=device)


def _varied(text: str) -> tuple[str, list[Any]]:
    """NAME=V1,V2,.. as the name and its values."""
    name, sign, values = text.partition("=")
    chosen = [v.strip() for v in values.split(",")]
    if not sign or not name or not all(chosen):
        raise LandscapeError(f"expected --vary NAME=VALUE,VALUE.., found {text!r}.")
    read = [parse(f"{name}={v}")[1] for v in chosen]
    return name, ["null" if v is None else v for v in read]


def _left(plan: Plan) -> str:
    runs = sum(not t.done and t.error is None for t in plan.trainings)
    answers, stored = (sum(getattr(a, n) for a in plan.answerings) for n in ("steps", "stored"))
    return f"To train: {runs} of {len(plan.trainings)} runs; to answer: {answers - stored} of {answers} questions."


def _tell_price(plan: Plan, *, chunk: int | None, jobs: int, as_json: bool) -> None:
    """What the command would do, and what that takes."""
    found = price(plan, chunk=chunk)
    if as_json:
        emit_json(grid.as_json(plan, found, jobs=jobs))
    else:
        for table in grid.grid_tables(plan, found):
            show_table(table)
        click.echo(f"{grid.in_all(found, jobs=jobs)}.")
        if found.timed:
            click.echo(
                "Times are of one process: updates, losses and products timed just now on this machine, once for each "
                f"of {found.timed} kinds, times their number. Load changes them; another machine has its own."
            )
    problems = {str(t.path): t.error for t in plan.trainings if t.error is not None}
    problems |= {f"{a.training.path} {a.asked.name}": a.error for a in plan.answerings if a.error is not None}
    problems |= found.errors
    for what, error in problems.items():
        click.echo(f"Error: {what}: {error}", err=True)
    if problems:
        raise click.exceptions.Exit(1)


def _tell(outcome: Outcome, folder: Path, *, as_json: bool) -> None:
    """What came of it, and what failed, with its exit code."""
    if as_json:
        failures = [{"what": f.what, "error": str(f.error)} for f in outcome.failures]
        emit_json({"folder": str(folder), **dataclasses.asdict(outcome), "failures": failures})
    else:
        click.echo(
            f"{folder}: {outcome.runs} runs, {outcome.trained} of them trained now; {outcome.answers} answers, "
            f"{outcome.computed} computed now, {outcome.stored} stored before."
        )
    for failure in outcome.failures:
        said = str(failure.error)
        click.echo(f"Error: {said if failure.what in said else f'{failure.what}: {said}'}", err=True)
    if outcome.failures:
        click.echo(f"{len(outcome.failures)} failed; all others are done. The same command tries them again.", err=True)
        raise click.exceptions.Exit(1)


command.params[1:1] = [option for option in train.params if option.name in OF_RUNS]
