"""What decay branches say about river and valley."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import xarray as xr

from landscape.errors import AbsentError, LandscapeError
from landscape.runs.run import Run
from landscape.settings import lookup

__all__ = ["decay_table", "decay_tables"]


def decay_tables(runs: Sequence[Run], *, split: str = "probe", family: str = "all") -> list[xr.Dataset]:
    """`decay_table` for every origin of the decay branches among `runs`, in order of first appearance.

    Raises:
        LandscapeError: if there is no decay branch, or as `decay_table`.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.kind == "trained" and run.config.origin is not None and run.config.schedule.name == "linear":
            groups.setdefault(run.config.origin.run_id, []).append(run)
    if not groups:
        raise AbsentError(
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
        the loss's unit, `learning_rate` before the decay, and `complete`, False for a branch that diverged (its river
        and valley losses are NaN).

    Raises:
        LandscapeError: if a run is no decay branch, is not finished, or the runs are not comparable.

    Source:
        Wen et al., Understanding warmup-stable-decay learning rates: a river valley loss landscape perspective
        (arXiv 2410.05192).

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, branch_config, train
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
    unit = runs[0].loss_units
    names = {
        "loss": (unit, "mean loss at the step, before the decay"),
        "river_loss": (unit, "mean loss after the decay"),
        "valley_loss": (unit, "loss that the decay sheds"),
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
