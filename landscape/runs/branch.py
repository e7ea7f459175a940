"""Runs that branch off another run: the config of a branch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.errors import LandscapeError
from landscape.models import ARCHITECTURES
from landscape.runs.reading import FILE_NAME
from landscape.runs.run import Run
from landscape.settings import overlay
from landscape.training.config import Origin, RunConfig

__all__ = ["branch_config", "branch_name", "parse_source", "stored_branch"]


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
    merged = shape | overlay(values, settings) | {"origin": origin}
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


def _since(base: RunConfig, projection: Any, step: int) -> Any:
    """The projection, begun at `step` unless it is that of the base, which goes on."""
    if not isinstance(projection, Mapping):
        return projection
    old = {} if base.projection is None else dataclasses.asdict(base.projection)
    return projection if projection == old else {**projection, "since": step}
