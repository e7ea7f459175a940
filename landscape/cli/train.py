"""`landscape train`."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from landscape.cli.console import device_option, resolve_device
from landscape.cli.train_grid import collect, variants, without_shift
from landscape.cli.train_jobs import Job, summarise, train_all
from landscape.models import MODELS, TRAININGS
from landscape.runs.branch import branch_config, branch_name, parse_source, stored_branch
from landscape.runs.run import Run
from landscape.settings import nest
from landscape.tasks import TASKS
from landscape.training.config import RunConfig
from landscape.training.optimizers import OPTIMIZERS
from landscape.training.presets import load_preset
from landscape.training.schedules import SCHEDULES

__all__ = ["command"]


@click.command(
    "train", epilog="Any other setting: --set NAME=VALUE, e.g. --set task.length=20 --set optimizer.beta2=0.95"
)
@click.option("--task", type=click.Choice(list(TASKS)), help="What to learn.  [default: markov]")
@click.option(
    "--arch",
    multiple=True,
    type=click.Choice(list(TRAININGS)),
    help="Architecture, or `shift`: one pass, from a plateau on T; repeat to train several.  [default: single]",
)
@click.option("--loops", type=click.IntRange(1), help="T, passes of `looped` and layers of `stacked`.  [default: 3]")
@click.option(
    "--layers", type=click.IntRange(1), help="L, layers in a loop (T times as many in `stacked`).  [default: 1]"
)
@click.option("--seed", multiple=True, type=click.IntRange(0), help="Seed; repeat to train several.  [default: 0]")
@click.option("--model", type=click.Choice(list(MODELS)), help="Model.  [default: attention]")
@click.option("--width", type=click.IntRange(1), help="Embedding dimension.  [default: 32]")
@click.option("--attention", type=click.Choice(["softmax", "linear"]), help="Kind of attention.  [default: softmax]")
@click.option("--steps", type=click.IntRange(1), help="Number of updates.  [default: 1920]")
@click.option("--batch", help="Sequences per update, or `full`.  [default: 128]")
@click.option("--optimizer", type=click.Choice(list(OPTIMIZERS)), help="Optimiser.  [default: adamw]")
@click.option("--lr", type=float, help="Learning rate.  [default: the optimiser's]")
@click.option("--schedule", type=click.Choice(list(SCHEDULES)), help="Learning-rate schedule.  [default: constant]")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="RUN@STEP",
    help="Branch off a run at a checkpoint: all settings are the run's unless given. Repeat for several branches.",
)
@click.option(
    "--decay-branch", "decay", type=click.IntRange(1), metavar="N", help="With --from: N steps, learning rate to 0."
)
@click.option(
    "--project",
    type=click.Choice(["valley", "river", "off"]),
    help="Keep only the part of every update in the leading Hessian eigenvectors, or the rest.  [default: off]",
)
@click.option("--k", type=click.IntRange(1), help="With --project: number of eigenvectors.  [default: 10]")
@click.option("--every", type=click.IntRange(1), help="With --project: steps between eigenvectors.  [default: 10]")
@click.option("--checkpoints", type=click.IntRange(2), help="How many checkpoints to keep.  [default: 24]")
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML or JSON file of settings; the options above override it.",
)
@click.option(
    "--preset", metavar="[TASK-]NAME", help="Settings to start from: quick, paper; see `landscape show --presets`."
)
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any single setting; repeat.")
@click.option(
    "--vary",
    multiple=True,
    metavar="NAME=VALUE,VALUE..",
    help="Train one run for each value of a setting; repeat for all combinations. Part of the folders' names.",
)
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run (one run only)."
)
@click.option(
    "--runs",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders are made; each is called TASK-ARCH-sSEED, a branch TASK-ARCH-sSEED-from-STEP...",
)
@device_option
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Of parameters.  [default: float32]")
@click.option(
    "--gradient",
    type=click.Choice(["autograd", "native"]),
    help="native: the toy model's own kernel, 2-3 times as fast a step, equal to rounding.  [default: autograd]",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Torch threads per run.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs trained at the same time.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    arch: tuple[str, ...],
    seed: tuple[int, ...],
    sources: tuple[str, ...],
    decay: int | None,
    config_file: Path | None,
    preset: str | None,
    assignments: tuple[str, ...],
    vary: tuple[str, ...],
    output: Path | None,
    root: Path,
    device: str,
    threads: int,
    jobs: int,
    quiet: bool,
    **flags: Any,
) -> None:
    """Train models and save their checkpoints.

    The same command continues an interrupted run, bit for bit as if it had never stopped. Another config for the same
    folder is refused, and the difference is shown.

    \b
    Examples:
      landscape train --arch looped --loops 3 --seed 0 -o runs/markov-looped-s0
      landscape train --arch single --arch looped --seed 0 --seed 1 --jobs 2
      landscape train --arch shift --vary shift.delta1=0.003,0.01,0.03 --vary shift.patience=2,5 --seed 0 --seed 1
      landscape train --task parity --preset quick --arch looped --arch shift
      landscape train --from runs/markov-single-s0@103 --arch looped
      landscape train --from runs/markov-single-s0@103 --project river --k 5 --steps 400
    """
    explicit = click.get_current_context().get_parameter_source("device") is not ParameterSource.DEFAULT
    if explicit or not sources:  # a branch computes where its origin did
        flags["device"] = resolve_device(device)
    if (flags["k"] or flags["every"]) and (
        flags["project"] == "off" or not (flags["project"] or sources or config_file)
    ):
        raise click.UsageError("--k and --every say nothing without a projection. Add --project valley or river?")
    if preset is not None and sources:
        raise click.UsageError("--preset says how a run begins, --from takes all settings from a run. Use one of them.")
    start = {} if preset is None else load_preset(preset, task=flags["task"])
    base = nest(assignments, into=collect(start, config_file, flags))
    archs: list[dict[str, Any]] = [{"arch": a} for a in dict.fromkeys(arch)] or [{}]
    seeds: list[dict[str, Any]] = [{"seed": s} for s in dict.fromkeys(seed)] or [{}]
    optional = {"arch": "shift"} in archs or base.get("shift") == start.get("shift")
    points = [without_shift(base | a | s, optional=optional) for a, s in product(archs, seeds)]
    choices = variants(vary)
    grid = [nest(changes, into=point) for point, (_, changes) in product(points, choices)]
    if output is not None and len(grid) * max(1, len(sources)) > 1:
        raise click.UsageError("-o names the folder of one run, but several are asked for. Use --runs DIR instead.")
    if sources:
        jobs_list = _branches(sources, decay, grid, output, root)
    elif decay is not None:
        raise click.UsageError("--decay-branch continues another run: name a checkpoint of it with --from RUN@STEP.")
    else:
        configs = [RunConfig.make(**settings) for settings in grid]
        names = [name for _, (name, _) in product(points, choices)]
        jobs_list = [
            (c, output or root / f"{c.task.name}-{c.arch}-s{c.seed}{name}")
            for c, name in zip(configs, names, strict=True)
        ]
    if flags["loops"] is not None and all(c.arch == "single" for c, _ in jobs_list):
        raise click.UsageError("--loops says nothing about --arch single, which has one pass. Add --arch looped?")
    failures = train_all(jobs_list, jobs=min(jobs, len(jobs_list)), threads=threads, quiet=quiet)
    summarise([path for _, path in jobs_list])
    for error in failures:
        click.echo(f"Error: {error}", err=True)
    if failures:
        raise click.exceptions.Exit(max(e.exit_code for e in failures))


def _branches(
    sources: tuple[str, ...], decay: int | None, grid: list[dict[str, Any]], output: Path | None, root: Path
) -> list[Job]:
    """Config and folder of a branch for every checkpoint and every point of the grid of settings."""
    jobs: dict[Path, RunConfig] = {}
    for source, settings in product(dict.fromkeys(sources), grid):
        folder, step = parse_source(source)
        if output is not None and not Path(folder).exists():
            config = stored_branch(output, folder, step, decay=decay, settings=settings)
        else:
            config = branch_config(Run.open(folder), step, decay=decay, settings=settings)
        resolve_device(config.device)
        path = output or root / branch_name(config)
        if path in jobs:
            raise click.UsageError(f"two of the branches would be called {path}. Make them one at a time, with -o.")
        jobs[path] = config
    return [(config, path) for path, config in jobs.items()]
