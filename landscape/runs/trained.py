"""What a run that `landscape train` made is, beside its rows: a config from which data, model and loss are rebuilt."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.loss.objective import Objective
from landscape.runs.backing import Backing, Moments
from landscape.runs.checkpoints import Checkpoints
from landscape.runs.updates import TrainedUpdates
from landscape.settings import coerce, lookup
from landscape.tasks import TASKS
from landscape.tasks.base import SPLITS
from landscape.training.config import RunConfig
from landscape.training.evaluation import UNITS
from landscape.training.optimizers import second_moment
from landscape.training.passes import Passes, model_passes
from landscape.training.setup import Setup
from landscape.training.shift import Monitor
from landscape.training.trainer import Trainer, TrainState

__all__ = ["Trained"]


class Trained(Backing):
    """Behind a `Run` of `landscape train`: everything that follows from its config.

    Args:
        header: of the run file.
        layout: of its parameter vectors.
        checkpoints: its rows.

    Attributes:
        config: the `RunConfig`.
    """

    kind = "trained"

    def __init__(self, header: dict[str, Any], layout: Layout, checkpoints: Checkpoints) -> None:
        self.config = RunConfig.from_dict(header["config"])
        self.loss_units = TASKS[self.config.task.name][1].loss_units
        self._fingerprint = str(header["provenance"]["data_fingerprint"])
        self._layout, self._checkpoints = layout, checkpoints
        self.updates = TrainedUpdates(self.config, checkpoints, self.optimizer_since)
        self._axes = {"split": header["splits"], "family": header["families"]}
        self.labels = {"task": self.config.task.name, "arch": self.config.arch, "run_seed": self.config.seed}
        self.seed: int | None = self.config.seed
        self.described = self.config.to_dict()

    @cached_property
    def setup(self) -> Setup:
        """Task, model and loss, rebuilt from the config."""
        return Setup(self.config)

    @cached_property
    def _trainer(self) -> Trainer:
        return Trainer(self.config, setup=self.setup)

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self, step: int) -> TrainState:
        """All that training needs to go on from a checkpoint."""
        row, config = self._checkpoints.row, self.config
        anchor = None if config.projection is None else row("anchor", step)
        shift = None if config.shift is None else row("shift", step)
        return TrainState(step, row("parameters", step), row("optimizer", step), anchor, shift)

    def passes_at(self, step: int) -> Passes:
        """The model at a checkpoint."""
        return model_passes(self.config, step, -1 if self.config.shift is None else self._switch(step))

    def optimizer_since(self, step: int) -> int:
        """Step at which the optimiser's state at a checkpoint began."""
        c = self.config
        if c.shift is not None and not c.shift.keep_optimizer and (switch := self._switch(step)) >= 0:
            return switch
        return 0 if c.origin is None else c.origin.optimizer_since

    def _switch(self, step: int) -> int:
        return Monitor.switch_in(self._checkpoints.row("shift", step))

    def moments(self, step: int) -> Moments:
        """Adam's second moments at a checkpoint."""
        optimizer = self.config.optimizer
        moment = second_moment(optimizer, self._checkpoints.row("optimizer", step))
        return Moments(moment, step - self.optimizer_since(step), optimizer.beta2, optimizer.eps)

    def metrics(self) -> xr.Dataset:
        """Metrics per evaluation, with the Bayes limits per family."""
        task = self.setup.task
        steps, columns = self._checkpoints.table("metrics")
        ds = xr.Dataset(
            {k: (("step", "split", "family")[: columns[k].ndim], columns[k]) for k in UNITS},
            coords={"step": steps, **self._axes},
        )
        for which in ("loss", "accuracy"):
            limit = getattr(task, f"bayes_{which}")
            ds[f"bayes_{which}"] = ("family", np.concatenate([[limit.mean()], limit]))
            ds[f"bayes_{which}"].attrs = {"units": self._units(which), "long_name": f"Bayes-optimal {which}"}
        for k, (_, long_name) in UNITS.items():
            ds[k].attrs = {"units": self._units(k), "long_name": task.accuracy if k == "accuracy" else long_name}
        return ds

    def _units(self, metric: str) -> str:
        return UNITS[metric][0].replace("nats per token", self.loss_units)

    # -- the model ----------------------------------------------------------------------------------------------------

    def _passes(self, loops: int | Passes | None) -> Passes:
        """The passes to build the model with; None: the run's own, of a run that shifts those of its start."""
        config = self.config
        if loops is None or isinstance(loops, Passes):
            return Passes(self.setup.loops) if loops is None else loops
        if coerce(loops, int, where="loops") < 1:
            raise LandscapeError(f"expected loops >= 1, found {loops}.")
        if config.arch == "stacked" and loops != config.model.loops:
            raise LandscapeError(
                "expected a run with one layer (single or looped), whose parameters fit any number of loops, found "
                f"{config.arch!r} with {config.model.layers} layers: its parameters fit no other architecture."
            )
        return Passes(loops)

    def module(self, step: int, *, loops: int | Passes | None) -> nn.Module:
        """A copy of the model with the parameters of a checkpoint."""
        passes = self._passes(self.passes_at(step) if loops is None else loops)
        return self.setup.module(passes, at=self._checkpoints.row("parameters", step))

    def tensors(self, step: int) -> dict[str, Tensor]:
        """Parameters of a checkpoint by name."""
        return self._layout.unflatten(self._checkpoints.row("parameters", step))

    def check(self, name: str | None, split: str) -> None:
        """Refuse a named loss, and a split that the task does not have."""
        if name is not None:
            raise LandscapeError(
                f"expected no objective for a run of `landscape train`, whose task is its loss, found {name!r}. "
                "Leave it out."
            )
        lookup(dict.fromkeys(SPLITS), split, kind="split")

    def data_fingerprint(self, name: str | None, split: str) -> str:  # noqa: ARG002
        """Of the training set."""
        return self._fingerprint

    def objective(
        self, split: str, *, at: int | None, loops: int | Passes | None, name: str | None, **settings: Any
    ) -> Objective:
        """The loss of the task."""
        self.check(name, split)
        w = None if at is None else self._checkpoints.row("parameters", at)
        passes = self._passes(self.passes_at(at) if loops is None and at is not None else loops)
        return self.setup.objective(split, loops=passes, at=w, **settings)

    def updates_from(self, step: int) -> int:
        """As many as the config has left."""
        return int(self.config.steps) - step

    def replay(self, step: int, n: int) -> Tensor:
        """Parameters after each of n updates from a checkpoint, (n + 1, P)."""
        trainer = self._trainer
        trainer.load(self.state(step))
        rows = [trainer.state().w]
        for _ in range(n):
            trainer.advance()
            rows.append(trainer.state().w)
        return torch.stack(rows)
