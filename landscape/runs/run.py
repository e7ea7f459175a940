"""One training run on disk, read-only: config, checkpoints, metrics, and the objectives built from them."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.loss.metric import METRICS, RescaledObjective, adam_scale, filter_scale
from landscape.loss.objective import Objective
from landscape.runs.reading import FILE_NAME, PEAK, Rows, committed, open_for_reading, read_header, read_status
from landscape.settings import coerce
from landscape.tasks import Task
from landscape.training.config import RunConfig
from landscape.training.evaluation import UNITS
from landscape.training.optimizers import second_moment
from landscape.training.setup import Setup
from landscape.training.shift import Monitor
from landscape.training.trainer import Trainer, TrainState

__all__ = ["Run"]


class Run:
    """A run folder: ``run.h5``, ``results/``.

    Reading never changes a byte, and works while the run is being trained: every access sees the steps committed
    at that moment.

    Attributes:
        path: the folder.
        id: identifies the run whatever its folder is called.
        config: the `RunConfig` it was trained with; `config.origin` says where a branch came from.
        layout: `Layout` of its parameter vectors.
        provenance: versions, code revision, data fingerprint, time of creation.

    Raises:
        LandscapeError: if there is no run, or its file is empty, truncated, damaged or of another kind.

    Example:
        >>> import tempfile
        >>> from landscape import Run, RunConfig, train
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = train(config, folder)
        ...     run = Run.open(folder)
        ...     run.steps.tolist(), run.parameters.shape, run.complete
        ([0, 1, 2, 3], (4, 240), True)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        self.path = given.parent if given.name == FILE_NAME else given
        self._file = self.path / FILE_NAME
        with open_for_reading(self._file) as f:
            header = read_header(f)
            self.id = str(header["id"])
            self._labels = {"split": header["splits"], "family": header["families"]}
            self.config = RunConfig.from_dict(header["config"])
            self.layout = Layout.from_json(header["layout"])
            self.provenance: dict[str, Any] = header["provenance"]
            if f["parameters"].shape[1] != self.layout.size:
                raise LandscapeError(
                    f"expected checkpoints of {self.layout.size} parameters (layout {self.layout.hash}), "
                    f"found {f['parameters'].shape[1]} in {self._file}."
                )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """The run in a folder, or of a ``run.h5`` file."""
        return cls(path)

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def status(self) -> str:
        """`unfinished`, `complete` or `diverged`."""
        with open_for_reading(self._file) as f:
            return read_status(f)

    @property
    def complete(self) -> bool:
        """Whether training reached its last step."""
        return self.status == "complete"

    @property
    def steps(self) -> NDArray[np.int64]:
        """Training step of every committed checkpoint, ascending."""
        with open_for_reading(self._file) as f:
            return np.asarray(f["step"][: committed(f)], dtype=np.int64)

    @property
    def parameters(self) -> Rows:
        """Checkpoint matrix (T, P); index it by row: ``run.parameters[-1]`` is the last checkpoint (P,)."""
        return Rows(self._file, "parameters")

    @property
    def optimizer(self) -> Rows:
        """Optimiser states (T, S), in the same order as `parameters`."""
        return Rows(self._file, "optimizer")

    def state(self, step: int) -> TrainState:
        """All that training needs to go on from the checkpoint of a training step."""
        i = self.index(step)
        anchor = None if self.config.projection is None else Rows(self._file, "anchor")[i]
        shift = None if self.config.shift is None else Rows(self._file, "shift")[i]
        return TrainState(step, self.parameters[i], self.optimizer[i], anchor, shift)

    def loops_at(self, step: int) -> int:
        """Loops of the update that follows the checkpoint of `step`: T, or 1 before the switch of a run that shifts."""
        return int(self.config.model.loops) if self.config.shift is None or self._switch(step) >= 0 else 1

    def optimizer_since(self, step: int) -> int:
        """Step at which the optimiser's state at a checkpoint began: 0, or a switch that began it anew."""
        c = self.config
        if c.shift is not None and not c.shift.keep_optimizer and (switch := self._switch(step)) >= 0:
            return switch
        return 0 if c.origin is None else c.origin.optimizer_since

    def _switch(self, step: int) -> int:
        return Monitor.switch_in(Rows(self._file, "shift")[self.index(step)])

    def index(self, step: int) -> int:
        """Row of the checkpoint of a training step."""
        steps = self.steps
        found = np.flatnonzero(steps == step)
        if not len(found):
            near = steps[np.argsort(np.abs(steps - step))[:4]]
            raise LandscapeError(
                f"{self.path} has no checkpoint of step {step}. The nearest are {', '.join(map(str, sorted(near)))}."
            )
        return int(found[0])

    @property
    def metrics(self) -> xr.Dataset:
        """Metrics per evaluation: dims (step, split, family); the Bayes limits per family.

        The attribute `peak_memory` is the largest memory in bytes: on a GPU that of tensors, else that of the process.
        """
        with open_for_reading(self._file) as f:
            group = f["metrics"]
            n = committed(group)
            columns = {k: np.asarray(group[k][:n]) for k in UNITS}
            steps = np.asarray(group["step"][:n], dtype=np.int64)
            peak = float(f[PEAK][0]) if PEAK in f else float("nan")  # files of earlier versions have none
        ds = xr.Dataset(
            {k: (("step", "split", "family")[: v.ndim], v) for k, v in columns.items()},
            coords={"step": steps, **self._labels},
            attrs={**self.attributes("metrics"), "peak_memory": peak},
        )
        for which in ("loss", "accuracy"):
            limit = getattr(self.task, f"bayes_{which}")
            ds[f"bayes_{which}"] = ("family", np.concatenate([[limit.mean()], limit]))
            ds[f"bayes_{which}"].attrs = {"units": UNITS[which][0], "long_name": f"Bayes-optimal {which}"}
        for k, (units, long_name) in UNITS.items():
            ds[k].attrs = {"units": units, "long_name": self.task.accuracy if k == "accuracy" else long_name}
        return ds

    def attributes(self, probe: str) -> dict[str, Any]:
        """What every dataset made from this run says about its origin."""
        return {
            "probe": probe,
            "run": self.name,
            "run_id": self.id,
            "task": self.config.task.name,
            "arch": self.config.arch,
            "run_seed": self.config.seed,
            "layout": self.layout.hash,
            "status": self.status,
        }

    # -- the model ----------------------------------------------------------------------------------------------------

    @cached_property
    def setup(self) -> Setup:
        """Task, model and loss, rebuilt from the config."""
        return Setup(self.config)

    @cached_property
    def _trainer(self) -> Trainer:
        return Trainer(self.config, setup=self.setup)

    def _loops(self, loops: int | None) -> int:
        """The number of loops to build the model with; None: the run's own, of a run that shifts that of its start."""
        config = self.config
        if loops is None:
            return self.setup.loops
        if coerce(loops, int, where="loops") < 1:
            raise LandscapeError(f"expected loops >= 1, found {loops}.")
        if config.arch == "stacked" and loops != config.model.loops:
            raise LandscapeError(
                "expected a run with one layer (single or looped), whose parameters fit any number of loops, found "
                f"{config.arch!r} with {config.model.layers} layers: its parameters fit no other architecture."
            )
        return loops

    @property
    def task(self) -> Task:
        """The task, rebuilt from the config."""
        return self.setup.task

    def module(self, step: int, *, loops: int | None = None) -> nn.Module:
        """A copy of the model with the parameters of the checkpoint of `step`; `loops` as in `objective`."""
        loops = self._loops(self.loops_at(step) if loops is None else loops)
        return self.setup.module(loops, at=self.parameters[self.index(step)])

    def objective(
        self,
        split: str = "probe",
        *,
        n: int | None = None,
        at: int | None = None,
        dtype: torch.dtype = torch.float64,
        chunk: int | None = None,
        device: torch.device | str | None = None,
        parameters: str | list[str] | None = None,
        loops: int | None = None,
    ) -> Objective:
        """The mean loss over (the first n samples of) a split, as a function of a parameter vector.

        `at` is the training step whose checkpoint gives `w0` and, where only some `parameters` vary, the values of the
        others; it must then be given. Without it `w0` is the initialisation. `loops`: as if the model ran its layer so
        often, in place of its own number (single and looped have the same parameter vector; stacked is refused). Its
        own number is that in force at the step: a run that shifts has one pass before its switch.
        """
        if parameters is not None and at is None:
            raise LandscapeError("with `parameters`, say at which step (at=...) the other parameters are held.")
        w = None if at is None else self.parameters[self.index(at)]
        loops = self._loops(self.loops_at(at) if loops is None and at is not None else loops)
        return self.setup.objective(
            split, loops=loops, n=n, at=w, dtype=dtype, chunk=chunk, device=device, parameters=parameters
        )

    def rescaled(self, objective: Objective, metric: str, *, step: int) -> Objective:
        """An objective of this run in the coordinates of a metric, `filter` or `adam`, taken at the step's checkpoint.

        Raises:
            LandscapeError: for `adam` at step 0, or of a run that another optimiser trained.
        """
        i = self.index(step)
        w = self.parameters[i][self.layout.mask(objective.layout.names)]
        if metric == "filter":
            return RescaledObjective(objective, filter_scale(objective, w))
        if metric != "adam":
            raise LandscapeError(f"unknown metric {metric!r}. Valid names: {', '.join(METRICS)}.")
        optimizer = self.config.optimizer
        moment = second_moment(optimizer, self.optimizer[i])[self.layout.mask(objective.layout.names)]
        age = step - self.optimizer_since(step)
        scale = adam_scale(objective.vector(moment), step=age, beta2=optimizer.beta2, eps=optimizer.eps)
        return RescaledObjective(objective, scale)

    def replay(self, step: int, n: int) -> Tensor:
        """Parameters after each of n updates from the checkpoint of `step`, exactly as trained; (n + 1, P).

        Bit for bit on the machine, torch version and thread count of the training.
        """
        trainer = self._trainer
        trainer.load(self.state(step))
        rows = [trainer.state().w]
        for _ in range(n):
            trainer.advance()
            rows.append(trainer.state().w)
        return torch.stack(rows)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status}, {len(self.steps)} checkpoints)"
