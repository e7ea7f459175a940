"""`landscape train`."""

from __future__ import annotations

import json
import os
import threading
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource
from joblib import Parallel, delayed

from landscape.branch import branch_config, branch_name, parse_source, stored_branch
from landscape.cli.common import device_option, number, progress_bars, resolve_device, show_table
from landscape.config import RunConfig
from landscape.errors import LandscapeError, RunFailedError
from landscape.models import ARCHITECTURES, MODELS
from landscape.optim import OPTIMIZERS, SCHEDULES
from landscape.run import Run
from landscape.settings import nest
from landscape.store import FILE_NAME
from landscape.tasks import TASKS
from landscape.training import Progress, train

__all__ = ["command"]

Job = tuple[RunConfig, Path]


@click.command(
    "train", epilog="Any other setting: --set NAME=VALUE, e.g. --set task.length=20 --set optimizer.beta2=0.95"
)
@click.option("--task", type=click.Choice(list(TASKS)), help="What to learn.  [default: markov]")
@click.option(
    "--arch",
    multiple=True,
    type=click.Choice(list(ARCHITECTURES)),
    help="Architecture; repeat to train several.  [default: single]",
)
@click.option("--loops", type=click.IntRange(1), help="T, passes of `looped` and layers of `stacked`.  [default: 3]")
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
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any single setting; repeat.")
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
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Torch threads per run.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs trained at the same time.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    arch: tuple[str, ...],
    seed: tuple[int, ...],
    sources: tuple[str, ...],
    decay: int | None,
    config_file: Path | None,
    assignments: tuple[str, ...],
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
    base = nest(assignments, into=_settings(config_file, flags))
    archs: list[dict[str, Any]] = [{"arch": a} for a in dict.fromkeys(arch)] or [{}]
    seeds: list[dict[str, Any]] = [{"seed": s} for s in dict.fromkeys(seed)] or [{}]
    grid = [base | a | s for a, s in product(archs, seeds)]
    if output is not None and len(grid) * max(1, len(sources)) > 1:
        raise click.UsageError("-o names the folder of one run, but several are asked for. Use --runs DIR instead.")
    if sources:
        jobs_list = _branches(sources, decay, grid, output, root)
    elif decay is not None:
        raise click.UsageError("--decay-branch continues another run: name a checkpoint of it with --from RUN@STEP.")
    else:
        configs = [RunConfig.make(**settings) for settings in grid]
        jobs_list = [(c, output or root / f"{c.task.name}-{c.arch}-s{c.seed}") for c in configs]
    if flags["loops"] is not None and all(c.arch == "single" for c, _ in jobs_list):
        raise click.UsageError("--loops says nothing about --arch single, which has one pass. Add --arch looped?")
    failures = _train_all(jobs_list, jobs=min(jobs, len(jobs_list)), threads=threads, quiet=quiet)
    _summary([path for _, path in jobs_list])
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


def _settings(config_file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Settings of the config file, overlaid with the command line's."""
    base: dict[str, Any] = {}
    if config_file is not None:
        kind = "JSON" if config_file.suffix == ".json" else "TOML"
        try:
            text = config_file.read_text(encoding="utf-8")
            base = json.loads(text) if kind == "JSON" else tomllib.loads(text)
        except ValueError as error:
            raise LandscapeError(f"{config_file} is not valid {kind}: {error}") from error
        if not isinstance(base, dict):
            raise LandscapeError(f"expected a table of settings in {config_file}, found {type(base).__name__}.")
    places = {
        "task": ("task", "name"),
        "model": ("model", "name"),
        "width": ("model", "width"),
        "attention": ("model", "attention"),
        "optimizer": ("optimizer", "name"),
        "lr": ("optimizer", "lr"),
        "schedule": ("schedule", "name"),
        "project": ("projection", "subspace"),
        "k": ("projection", "k"),
        "every": ("projection", "every"),
    }
    for key, value in flags.items():
        if value is None:
            continue
        if key == "batch":
            value = _batch(value)
        group, name = places.get(key, (None, key))
        if (key, value) == ("project", "off"):
            base["projection"] = None
        elif group is None:
            base[name] = value
        else:
            if not isinstance(base.setdefault(group, {}), dict):
                raise LandscapeError(f"expected {group} to be a group of settings, found {base[group]!r}.")
            base[group][name] = value
    return base


def _batch(text: str) -> int | None:
    if text == "full":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise click.BadParameter(f"expected a whole number or `full`, found {text!r}.", param_hint="--batch") from error


def _train_all(jobs_list: list[Job], *, jobs: int, threads: int, quiet: bool) -> list[LandscapeError]:
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
                found = Parallel(n_jobs=jobs)(delayed(_train_one)(c, path.absolute(), threads) for c, path in jobs_list)
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


def _summary(paths: list[Path]) -> None:
    rows, families = [], []
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
        last = metrics.isel(step=-1).sel(split="test")
        families = [str(f) for f in last["family"].values]
        accuracy = [f"{float(a):.3f} / {float(b):.3f}" for a, b in zip(last.accuracy, last.bayes_accuracy, strict=True)]
        reached = [str(path), run.status, str(int(last["step"])), number(last.loss[0])]
        rows.append([*reached, *accuracy, f"{float(last.seconds):.1f}"])
    if rows:
        columns = ["run", "status", "step", "loss", *families, "seconds"]
        caption = "Test split: loss in nats per token; accuracy / Bayes-optimal accuracy, of all and by family."
        show_table("Trained", columns, rows, caption=caption)
