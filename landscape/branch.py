"""Runs that branch off another run: the config of a branch, and what decay branches say about river and valley."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from landscape.config import RunConfig
from landscape.errors import LandscapeError
from landscape.models import ARCHITECTURES
from landscape.origin import Origin
from landscape.registry import lookup
from landscape.run import Run
from landscape.store import FILE_NAME

__all__ = ["branch_config", "branch_name", "decay_table", "decay_tables", "parse_source", "stored_branch"]


def branch_config(
    run: Run, step: int, *, decay: int | None = None, settings: Mapping[str, Any] | None = None
) -> RunConfig:
    """The config of a run that goes on from the checkpoint of `step`: the origin's, overlaid with `settings`.

    Without settings the branch repeats the origin bit for bit: parameters, optimiser state, batches and learning rates
    are the same. `steps` is the branch's last step, counted from the origin's beginning. The schedule stays the one
    laid out for the origin's steps, unless it is changed.

    Args:
        run: the origin.
        step: training step of one of its checkpoints.
        decay: take so many steps, with a learning rate that falls linearly from its value at `step` to 0.
        settings: nested settings as for `RunConfig.make`; `arch` and `loops` may change if the parameters stay the
            same vector, so `looped` from `single`, which is SHIFT's switch by hand. A branch of a run that shifts
            goes on with its watch, unless it has another `arch`.

    Raises:
        LandscapeError: for a step without checkpoint, settings that are wrong or contradict `decay`, or another
            optimiser, whose state would not fit.

    Example:
        >>> import tempfile
        >>> from landscape import train
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(config, f"{folder}/a")
        ...     branch = train(branch_config(run, 2, settings={"arch": "looped"}), f"{folder}/b")
        ...     branch.steps.tolist(), branch.config.origin.label
        ([2, 3, 4], 'a@2')
    """
    run.index(step)
    if step not in run.metrics.step:
        raise LandscapeError(f"{run.path} was stopped before step {step} was evaluated. Continue it first.")
    reached = run.metrics.sel(step=step)
    origin = Origin(
        run=str(run.path), run_id=run.id, step=step, name=run.name, optimizer_since=run.optimizer_since(step),
        **{k: float(reached[k]) for k in ("tokens", "flops", "seconds")},
    )  # fmt: skip
    config = _overlay(run.config, origin, dict(settings or {}), decay)
    waits = config.shift is not None and (run.config.shift is None or run.loops_at(step) == 1)
    if waits and config.shift is not None and config.shift.at is not None and config.shift.at <= step:
        raise LandscapeError(f"expected shift.at after step {step}, where the branch starts, found {config.shift.at}.")
    return config


def stored_branch(
    folder: Path, source: str, step: int, *, decay: int | None = None, settings: Mapping[str, Any] | None = None
) -> RunConfig:
    """The config that the command which made the branch in `folder` stands for, when its origin is gone.

    Raises:
        LandscapeError: if the folder holds no branch of `source` at `step`.
    """
    found = Run.open(folder).config if (folder / FILE_NAME).is_file() else None
    origin = None if found is None else found.origin
    if found is None or origin is None or (origin.name, origin.step) != (Path(source).resolve().name, step):
        raise LandscapeError(
            f"expected the run to branch from at {source}, found none; nor is there a branch of it in {folder} to "
            "continue. Name an existing run folder."
        )
    base = found if decay is None else dataclasses.replace(found, steps=step + decay)
    return _overlay(base, origin, dict(settings or {}), None)


def branch_name(config: RunConfig) -> str:
    """The default folder name of a branch, TASK-ARCH-sSEED-from-STEP[-valley|-river][-decay]."""
    parts = [config.task.name, config.arch, f"s{config.seed}", "from", str(config.start)]
    parts += [] if config.projection is None else [config.projection.subspace]
    return "-".join(parts + (["decay"] if config.schedule.name == "linear" else []))


def parse_source(text: str) -> tuple[str, int]:
    """``"RUN@STEP"`` as (path of the run, step).

    Example:
        >>> parse_source("runs/markov-single-s0@96")
        ('runs/markov-single-s0', 96)
    """
    path, _, step = text.rpartition("@")
    if not path or not step.isdecimal():
        raise LandscapeError(f"expected RUN@STEP, a run folder and a step, found {text!r}. For example: runs/a@96")
    return path, int(step)


def _overlay(base: RunConfig, origin: Origin, settings: dict[str, Any], decay: int | None) -> RunConfig:
    """The base with settings laid over it, as a branch from the origin."""
    if "origin" in settings:
        raise LandscapeError("the origin follows from the run and the step: leave `origin` out of the settings.")
    values = base.to_dict()
    loops, layers = base.shape
    shape = {"layers": layers} if base.arch == "single" else {"loops": loops, "layers": layers}
    values["model"] = {k: v for k, v in values["model"].items() if k not in ARCHITECTURES["single"](1)}
    if decay is not None:
        if clash := [k for k in ("steps", "schedule", "schedule_steps") if k in settings]:
            raise LandscapeError(f"a decay branch sets its own {clash[0]}: leave that setting out, or the decay.")
        if decay < 1:
            raise LandscapeError(f"expected a decay over at least 1 step, found {decay}.")
        initial = base.schedule.factor(origin.step, base.horizon)
        if not initial > 0:
            raise LandscapeError(
                f"the learning rate of {origin.label} is 0 already: nothing to decay. Branch off earlier."
            )
        settings["schedule"] = {"name": "linear", "start": origin.step, "initial": initial}
        settings["steps"] = origin.step + decay
    merged = shape | _merged(values, settings) | {"origin": origin}
    if merged["arch"] != "shift" and "shift" not in settings:  # what decided on the switch is no part of the branch
        merged["shift"] = None
    if "since" not in (settings.get("projection") or {}):
        merged["projection"] = _since(base, merged["projection"], origin.step)
    if "schedule_steps" not in settings:
        keep = merged["schedule"] == values["schedule"] and merged["steps"] != base.horizon
        merged["schedule_steps"] = base.horizon if keep else None
    config = RunConfig.make(**merged)
    if config.optimizer.name != base.optimizer.name:
        raise LandscapeError(
            f"expected the optimiser {base.optimizer.name!r} of {origin.label}, found {config.optimizer.name!r}: its "
            "state cannot be carried over. Only the optimiser's settings may change in a branch."
        )
    return config


def _merged(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings laid over nested values; a group whose `name` changes starts from its own defaults."""
    out = dict(values)
    for key, new in settings.items():
        old = out.get(key)
        if (
            isinstance(new, Mapping)
            and isinstance(old, Mapping)
            and new.get("name", old.get("name")) == old.get("name")
        ):
            new = {**old, **new}
        out[key] = new
    return out


def _since(base: RunConfig, projection: Any, step: int) -> Any:
    """The projection, begun at `step` unless it is that of the base, which goes on."""
    if not isinstance(projection, Mapping):
        return projection
    old = {} if base.projection is None else dataclasses.asdict(base.projection)
    return projection if projection == old else {**projection, "since": step}


def decay_tables(runs: Sequence[Run], *, split: str = "probe", family: str = "all") -> list[xr.Dataset]:
    """`decay_table` for every origin of the decay branches among `runs`, in order of first appearance.

    Raises:
        LandscapeError: if there is no decay branch, or as `decay_table`.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.config.origin is not None and run.config.schedule.name == "linear":
            groups.setdefault(run.config.origin.run_id, []).append(run)
    if not groups:
        raise LandscapeError(
            "expected at least one decay branch, found none. Make one: landscape train --from RUN@STEP --decay-branch N"
        )
    return [decay_table(group, split=split, family=family) for group in groups.values()]


def decay_table(runs: Sequence[Run], *, split: str = "probe", family: str = "all") -> xr.Dataset:
    r"""River and valley loss at the steps where decay branches left their origin.

    A branch from step s continues with a learning rate that falls to 0 in N steps. The loss it ends with,
    L(s + N), is the *river loss*; the part it sheds, L(s) - L(s + N), is the *valley loss* (hill part). N is part of
    the definition: within a longer decay the river, too, moves on.

    Args:
        runs: decay branches of one origin, all with the same N and settings.
        split: samples whose loss is meant, "probe" or "test".
        family: "all", or one family of samples.

    Returns:
        Dataset with dim `step` (where the branch left the origin), ascending: `loss`, `river_loss`, `valley_loss` in
        nats per token, `learning_rate` before the decay, and `complete`, False for a branch that diverged (its river
        and valley losses are NaN).

    Raises:
        LandscapeError: if a run is no decay branch, is not finished, or the runs are not comparable.

    Source:
        Wen et al., Understanding warmup-stable-decay learning rates: a river valley loss landscape perspective
        (arXiv 2410.05192).

    Example:
        >>> import tempfile
        >>> from landscape import train
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(config, f"{folder}/a")
        ...     branches = [train(branch_config(run, s, decay=3), f"{folder}/from-{s}") for s in (2, 4)]
        ...     table = decay_table(branches)
        >>> table.step.values.tolist(), bool((table.loss == table.river_loss + table.valley_loss).all())
        ([2, 4], True)
    """
    runs = sorted(_comparable(runs), key=lambda run: run.config.start)
    rows = []
    for run in runs:
        metrics = run.metrics
        loss = metrics.loss.sel(split=lookup({str(s): s for s in metrics.split.values}, split, kind="split"))
        loss = loss.sel(family=lookup({str(f): f for f in metrics.family.values}, family, kind="family")).values
        done = run.status == "complete"
        end = float(loss[-1]) if done else np.nan
        rows.append((float(loss[0]), end, float(loss[0]) - end, float(metrics.learning_rate[0]), done))
    per_token = "nats per token"
    names = {
        "loss": (per_token, "mean loss at the step, before the decay"),
        "river_loss": (per_token, "mean loss after the decay"),
        "valley_loss": (per_token, "loss that the decay sheds"),
        "learning_rate": ("1", "learning rate before the decay"),
        "complete": ("1", "the branch reached its end"),
    }
    columns = zip(names.items(), zip(*rows, strict=True), strict=True)
    first = runs[0].config
    origin = {} if first.origin is None else {"run": first.origin.name, "run_id": first.origin.run_id}
    return xr.Dataset(
        {n: ("step", np.array(v), {"units": units, "long_name": text}) for (n, (units, text)), v in columns},
        coords={"step": [run.config.start for run in runs]},
        attrs={
            **runs[0].attributes("decay"), **origin,
            "split": split, "family": family, "decay_steps": first.steps - first.start,
        },
    )  # fmt: skip


def _comparable(runs: Sequence[Run]) -> list[Run]:
    """The runs, if they are finished decay branches of one origin that differ in their first step alone."""
    if not runs:
        raise LandscapeError("expected at least one decay branch, found none. Make one with `--decay-branch N`.")
    plain = []
    for run in runs:
        c = run.config
        if c.origin is None or c.schedule.name != "linear" or c.schedule.start != c.start:
            raise LandscapeError(f"expected a decay branch, found another run: {run.path}. Use `--decay-branch N`.")
        if run.status == "unfinished":
            raise LandscapeError(f"expected a finished decay branch, found {run.path} unfinished. Continue it first.")
        since = None if c.projection is None else dataclasses.replace(c.projection, since=0)
        same = (c.task, c.model, c.arch, c.seed, c.optimizer, c.batch, c.clip, c.dtype, since)
        plain.append((c.origin.run_id, c.steps - c.start, *same))
    for run, found in zip(runs, plain, strict=True):
        if found != plain[0]:
            raise LandscapeError(
                f"expected decay branches of one origin, equally long and with the same settings, found "
                f"{runs[0].path} and {run.path}. Make one table for each."
            )
    starts = [run.config.start for run in runs]
    if len(set(starts)) < len(starts):
        raise LandscapeError(f"expected one branch per step, found the steps {', '.join(map(str, sorted(starts)))}.")
    return list(runs)
