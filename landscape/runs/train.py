"""Train a run into a folder: resumable, readable while it runs, safe to kill."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from landscape.errors import DivergedError, LandscapeError, RunFailedError
from landscape.provenance import code_revision, created, fingerprint, versions
from landscape.runs.lock import writer_lock
from landscape.runs.memory import peak_memory
from landscape.runs.reading import FILE_NAME, METRICS, open_for_reading, read_header
from landscape.runs.run import Run
from landscape.runs.writing import Columns, RunWriter
from landscape.settings import difference
from landscape.training.config import Origin, RunConfig
from landscape.training.evaluation import EVALUATED, Evaluator
from landscape.training.passes import model_passes
from landscape.training.shift import CHECKED
from landscape.training.trainer import Trainer

__all__ = ["Progress", "train"]


@dataclass(frozen=True)
class Progress:
    """What training reports after each stretch: the step reached, of how many, and the latest test loss."""

    step: int
    total: int
    loss: float


def train(
    config: RunConfig,
    folder: str | os.PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Train a run, or continue it where it stopped, bit for bit as if it never had.

    Args:
        config: what to train. With an `origin` (see `landscape.runs.branch.branch_config`) the run starts from that
            checkpoint, which it copies; after that the origin may be moved or deleted.
        folder: the run's folder; made if it does not exist.
        progress: called after every evaluation.

    Returns:
        The finished run. A run that is already complete is returned at once.

    Raises:
        LandscapeError: if the folder holds a run with another config (the difference is listed), a damaged file, or
            a run that another process is training; if a new branch's origin is missing, or its layout or
            optimiser state does not fit.
        RunFailedError: if the loss becomes NaN or infinite, or the disk is full; what was committed stays.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     train(config, folder).status
        'complete'
    """
    path = Path(folder) / FILE_NAME
    if path.exists() and (run := _check_same(config, Path(folder))).complete:
        return run
    with writer_lock(Path(folder)):
        trainer = Trainer(config)
        trainer.rehearse()
        with RunWriter.recover(path) if path.exists() else _create(config, trainer, path) as writer:
            _train(trainer, writer, Path(folder), progress)
    return Run.open(folder)


def _create(config: RunConfig, trainer: Trainer, path: Path) -> RunWriter:
    train_split = trainer.setup.task.split("train")
    provenance = {
        "versions": versions(),
        "code_revision": code_revision(),
        "data_fingerprint": fingerprint((train_split.inputs, train_split.targets)),
        "created": created(),
        "threads": torch.get_num_threads(),
        "layout_hash": trainer.setup.layout.hash,
    }
    if config.origin is not None:
        _load_origin(trainer, config.origin)
    row = trainer.state().row()
    families = ["all", *trainer.setup.task.families]
    both = (len(EVALUATED), len(families))
    columns: Columns = {name: both if name in ("loss", "accuracy") else () for name in METRICS}
    groups: dict[str, Columns] = {"metrics": columns}
    if config.shift is not None:  # the metrics just before the switch too
        groups |= {"checks": dict.fromkeys(CHECKED, ()), "switch": columns}
    return RunWriter.create(
        path,
        attributes={
            "config": config.to_dict(),
            "layout": trainer.setup.layout.to_json(),
            "provenance": provenance,
            "splits": list(EVALUATED),
            "families": families,
        },
        parts=row,
        groups=groups,
        start=None if config.origin is None else (config.start, row),
    )


def _load_origin(trainer: Trainer, origin: Origin) -> None:
    """Put the trainer where the branch starts."""
    run = Run.open(origin.run)
    if run.id != origin.run_id:
        raise LandscapeError(
            f"expected the run {origin.run_id} in {origin.run}, found {run.id}: the folder was used for another run "
            "since. Name the folder where the origin is now."
        )
    if run.layout.hash != trainer.setup.layout.hash:
        raise LandscapeError(
            f"expected a model with the layout of {origin.run} ({run.layout.hash}, P = {run.layout.size}), found "
            f"{trainer.setup.layout.hash} (P = {trainer.setup.layout.size}): its parameters do not fit. "
            "`single` and `looped` of the same width share theirs, `stacked` has its own."
        )
    trainer.load(run.state(origin.step))


def _check_same(config: RunConfig, folder: Path) -> Run:
    """The run in the folder, if it may be continued with this config; else an error with the reason."""
    with open_for_reading(folder / FILE_NAME) as f:
        header = read_header(f)
    if "kind" in header:
        raise LandscapeError(
            f"{folder} holds a {header['kind']} run, which cannot be trained on. Choose another folder."
        )
    stored = RunConfig.from_dict(header["config"])  # with the settings that came after it
    old, new = (json.loads(json.dumps(c.to_dict())) for c in (stored, config))
    changed = difference(old, new)
    # A branch is tied to the id of its origin, not to where that run lies or what its folder is called.
    if changed := [entry for entry in changed if entry[0] not in ("origin.run", "origin.name")]:
        lines = "\n".join(f"  {name}: {old!r} in the run, {new!r} asked for" for name, old, new in changed)
        raise LandscapeError(
            f"{folder} holds a run with another config:\n{lines}\n"
            "Choose another folder, or repeat the command that started the run to continue it."
        )
    run = Run.open(folder)
    if run.status == "diverged":
        raise RunFailedError(
            f"{folder} holds a run that diverged (NaN or infinite loss), with {len(run.steps)} checkpoints. "
            "They can be probed; to train on, choose another folder and a smaller learning rate or `clip`."
        )
    return run


def _train(trainer: Trainer, writer: RunWriter, folder: Path, progress: Callable[[Progress], None] | None) -> None:
    run, config = Run.open(folder), trainer.config
    steps = run.steps
    if len(steps):
        trainer.load(run.state(int(steps[-1])))
        for name, value in writer.metrics_at(trainer.step).items():
            setattr(trainer, name, value)
    saved = set(steps.tolist())
    checkpoints = set(config.checkpoint_steps().tolist())
    evaluate, seconds = Evaluator(trainer), writer.last_seconds()
    if seconds is None:
        seconds = 0.0 if config.origin is None else config.origin.seconds
    target: int | None = trainer.step
    try:
        while target is not None:
            start = time.perf_counter()
            switched = trainer.advance_to(target)
            trainer.check_finite()  # also waits for the device, so that the time is that of the updates
            seconds += time.perf_counter() - start
            step = trainer.step
            _note_shift(trainer, writer, evaluate, seconds, switched=switched)
            row = evaluate()
            # After a kill some rows beyond the last checkpoint are already there; they would come out the same.
            writer.append("metrics", step, {**row, "seconds": seconds})
            writer.raise_peak(peak_memory(trainer.setup.device))
            if (step in checkpoints or switched) and step not in saved:
                writer.append_checkpoint(step, trainer.state().row())
            if progress is not None:
                progress(Progress(step, config.steps, float(row["loss"][1, 0])))  # type: ignore[index]
            target = _next_stop(config, step, trainer.switch)
    except DivergedError as error:
        writer.set_status("diverged")
        kept = Run.open(folder).steps
        safe = (
            f"The {len(kept)} checkpoints up to step {kept[-1]} are kept."
            if len(kept)
            else "No checkpoint was reached."
        )
        raise RunFailedError(f"{folder}: {error} {safe}") from error
    writer.set_status("complete")


def _note_shift(trainer: Trainer, writer: RunWriter, evaluate: Evaluator, seconds: float, *, switched: bool) -> None:
    """Write the checks since the last stop, and at the switch the metrics that one pass has at the same parameters."""
    for check in trainer.checks():
        loops = model_passes(trainer.config, check.step, check.step if check.switched else -1).loops
        row = {name: getattr(check, name) for name in CHECKED if name != "loops"}
        writer.append("checks", check.step, {**row, "loops": loops})
    if switched:
        writer.append("switch", trainer.step, {**evaluate(loops=1), "seconds": seconds})


def _next_stop(config: RunConfig, step: int, switch: int) -> int | None:
    """The next step at which metrics are measured; just after a switch they are dense, so that recovery is seen."""
    after = {switch + 2**i for i in range(config.evaluate_every.bit_length())} if switch >= 0 else set()
    stops = after | set(config.evaluation_steps().tolist())
    return min((s for s in stops if step < s <= config.steps), default=None)
