"""`landscape probe`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch
import xarray as xr

from landscape.answers.cost import costs
from landscape.answers.question import LossSpec
from landscape.answers.sweep import Request, answer, plan
from landscape.answers.team import Team
from landscape.cli.console import device_option, emit_json, progress_bars, resolve_device, show_table, told
from landscape.cli.tables import TABLES, cost
from landscape.cli.tables.cells import labelled
from landscape.errors import LandscapeError
from landscape.loss.metric import METRICS
from landscape.probes import PROBES
from landscape.runs.run import Run
from landscape.settings import nest
from landscape.studies.study import Study

__all__ = ["command"]


def _settings_help() -> str:
    lines = [f"{p.name}: " + ", ".join(f"{k}={v!r}" for k, v in p.defaults.items()) for p in PROBES.values()]
    return "\b\nSettings for --set and their defaults:\n  " + "\n  ".join(
        line for line in lines if not line.endswith(": ")
    )


@click.command("probe", epilog=_settings_help())
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-p",
    "--probe",
    "names",
    multiple=True,
    type=click.Choice(list(PROBES)),
    help=f"Which; repeat.  [default: {', '.join(n for n, p in PROBES.items() if p.by_default)}]",
)
@click.option("--every", type=click.IntRange(1), help="Only every N-th checkpoint, and the last.")
@click.option("--steps", help="Only these training steps, e.g. 0,100,last.")
@click.option("--samples", type=click.IntRange(1), help="Only the first so many samples of the split.")
@click.option("--split", default="probe", show_default=True, help="Part of the data: probe, train or test of a task.")
@click.option(
    "--objective",
    metavar="MODULE:FUNCTION",
    help="Loss of a recorded or imported run, also FILE.py:FUNCTION.  [default: the one named first]",
)
@click.option("--parameters", help="Only parameters whose name matches, e.g. 'blocks.*'.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=click.Choice(METRICS),
    help="Of curvatures and distances; repeat.  [default: euclidean]",
)
@click.option("--set", "assignments", multiple=True, metavar="PROBE.NAME=VALUE", help="A probe's setting; repeat.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of everything random in a probe; without effect in samples, split and alignment, where nothing is.",
)
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@device_option
@click.option("--chunk", type=click.IntRange(1), help="Samples evaluated at once; bounds memory.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, one thread each.")
@click.option("--recompute", is_flag=True, help="Ignore stored results.")
@click.option(
    "--no-compile",
    is_flag=True,
    help="Never compile Hessian products unasked; else where so many are asked that timings say it pays.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Compute nothing: say what would be computed, what is stored, and what it would cost in time and memory.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def command(
    team: Team | None,
    /,
    paths: tuple[Path, ...],
    names: tuple[str, ...],
    every: int | None,
    steps: str | None,
    metrics: tuple[str, ...],
    assignments: tuple[str, ...],
    device: str,
    chunk: int | None,
    jobs: int,
    recompute: bool,
    no_compile: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    seed: int,
    **which: Any,
) -> None:
    """Measure the checkpoints of runs. PATHS are run folders, or folders of runs.

    Each answer is saved as soon as it is known, below results/ in the run. Answers already there for the same
    settings are reused. Started by torchrun, the processes share the samples of every sum.

    \b
    Examples:
      landscape probe runs/markov-looped-s0
      landscape probe runs -p spectrum --every 2 --samples 128 --jobs 2
      landscape probe runs -p spectrum --metric euclidean --metric filter --metric adam
      landscape probe runs -p density --jobs 2 --dry-run
      torchrun --nproc-per-node 4 -m landscape probe runs -p spectrum
      landscape probe runs -p valley --steps 0,1920 --set valley.top=10 --set valley.rises=[0.001,0.01,0.1]
    """
    if every is not None and steps is not None:
        raise click.UsageError("--every and --steps exclude each other.")
    if team is not None and jobs > 1:
        raise LandscapeError(
            f"--jobs {jobs} shares checkpoints out among processes, but the {team.size} ranks of torchrun share the "
            "samples of each. Leave out --jobs, or start `landscape probe` without torchrun."
        )
    torch.set_num_threads(1)
    given = nest(assignments)
    metrics = tuple(dict.fromkeys(metrics)) or ("euclidean",)
    scaled = metrics != ("euclidean",)
    names = tuple(dict.fromkeys(names)) or tuple(
        n for n, p in PROBES.items() if p.by_default and (p.metric or not scaled)
    )
    if unknown := set(given) - set(names):
        raise LandscapeError(
            f"--set {sorted(unknown)[0]}...: no such probe is asked for. Asked for: {', '.join(names)}."
        )
    for name in names:  # every bad setting is found before anything is computed
        PROBES[name].settings(given.get(name, {}))
    study = Study.open(paths)
    wanted = {run.path: _select(run, every, steps) for run in study}
    loss = LossSpec(device=resolve_device(device), **which)
    requests = [
        plan(
            PROBES[n],
            run,
            dataclasses.replace(loss, metric=metric),
            seed=seed,
            steps=_without_start(wanted[run.path]) if metric == "adam" and every is not None else wanted[run.path],
            settings=given.get(n, {}),
        )
        for n in names
        for run in study
        for metric in metrics
    ]
    if dry_run:
        _tell_cost(requests, chunk=chunk, jobs=jobs, recompute=recompute, as_json=as_json)
        if team is not None:
            click.echo(f"Times are those of one process; here {team.size} ranks share the samples.", err=True)
        return
    now = [0] * len(requests)
    with (
        progress_bars(quiet=quiet) as bars,
        told("landscape.loss.planner", quiet=quiet),
        told("landscape.answers.points", quiet=quiet),
    ):

        def report(i: int, done: int, total: int) -> None:
            now[i] = done
            q = requests[i].question
            bars.update(
                "probing", sum(now), sum(len(r.steps) for r in requests), f"{q.run.name} {q.probe.name} {done}/{total}"
            )

        results = answer(
            requests,
            chunk=chunk,
            jobs=jobs,
            recompute=recompute,
            compiling=not no_compile,
            progress=report,
            team=team,
        )
    answers: dict[str, list[xr.Dataset]] = {}
    errors: list[tuple[str, LandscapeError]] = []
    for request, found in zip(requests, results, strict=True):
        if isinstance(found, LandscapeError):
            errors.append((f"{request.question.run.path} {request.question.probe.name}", found))
        else:
            answers.setdefault(request.question.probe.name, []).append(found)
    _report(answers, as_json=as_json)
    for label, error in errors:
        click.echo(f"Error: {label}: {error}", err=True)
    if errors:
        raise click.exceptions.Exit(max(error.exit_code for _, error in errors))


def _tell_cost(requests: list[Request], *, chunk: int | None, jobs: int, recompute: bool, as_json: bool) -> None:
    """What the command would do and cost."""
    found = costs(requests, chunk=chunk, recompute=recompute)
    if as_json:
        emit_json(cost.as_json(found, jobs=jobs))
    else:
        show_table(cost.cost_table(found, jobs=jobs))
        click.echo(cost.basis(found))
    if refused := [c.error for c in found if c.error is not None]:
        raise click.exceptions.Exit(max(error.exit_code for error in refused))


def _report(answers: dict[str, list[xr.Dataset]], *, as_json: bool) -> None:
    """What was found, as tables or as JSON."""
    tables = {name: TABLES[name]([labelled(ds) for ds in found]) for name, found in answers.items()}
    if as_json:
        emit_json({name: [dict(zip(t.columns, row, strict=True)) for row in t.rows] for name, t in tables.items()})
        return
    for table in tables.values():
        show_table(table)


def _without_start(steps: list[int] | None) -> list[int] | None:
    """Steps after the first update: before it there are no second moments."""
    return None if steps is None else [s for s in steps if s > 0]


def _select(run: Run, every: int | None, steps: str | None) -> list[int] | None:
    if steps is not None:
        try:
            return [int(run.steps[-1] if s == "last" else s) for s in steps.split(",")]
        except (ValueError, IndexError) as error:  # not a number, or no checkpoint yet
            raise click.BadParameter(
                f"expected steps such as 0,100,last, found {steps!r}.", param_hint="--steps"
            ) from error
    if every is None or not len(run.steps):
        return None
    found = [int(s) for s in run.steps]
    return sorted({*found[::every], *found[-1:]})
