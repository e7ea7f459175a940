"""One training run on disk, read-only: checkpoints, metrics, and the objectives built from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.loss.metric import METRICS, RescaledObjective, filter_scale
from landscape.loss.objective import Objective
from landscape.runs.backing import Backing
from landscape.runs.checkpoints import Checkpoints
from landscape.runs.foreign import Foreign
from landscape.runs.reading import FILE_NAME, Rows, open_for_reading, read_header
from landscape.runs.trained import Trained
from landscape.runs.updates import Updates
from landscape.tasks import Task
from landscape.training.config import RunConfig
from landscape.training.passes import Passes
from landscape.training.setup import Setup
from landscape.training.trainer import TrainState

__all__ = ["Run"]


class Run:
    """A run folder: ``run.h5``, ``results/``.

    It was made by `landscape train`, recorded in another training loop (`landscape.record`) or imported from files
    (`landscape import`). What the last two lack - a config, a task, loops, updates that can be repeated - they do not
    have, and asking for it raises.

    Reading never changes a byte, and works while the run is being trained: every access sees the steps committed
    at that moment.

    Attributes:
        path: the folder.
        id: identifies the run whatever its folder is called.
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
        file = self.path / FILE_NAME
        self._checkpoints = Checkpoints(file)
        with open_for_reading(file) as f:
            header = read_header(f)
            self.id = str(header["id"])
            self.layout = Layout.from_json(header["layout"])
            self.provenance: dict[str, Any] = header["provenance"]
            made = Foreign if "kind" in header else Trained
            self._backing: Backing = made(header, self.layout, self._checkpoints)
            self._checkpoints.look(f)
            if f["parameters"].shape[1] != self.layout.size:
                raise LandscapeError(
                    f"expected checkpoints of {self.layout.size} parameters (layout {self.layout.hash}), "
                    f"found {f['parameters'].shape[1]} in {file}."
                )

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """The run in a folder, or of a ``run.h5`` file."""
        return cls(path)

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def kind(self) -> str:
        """`trained`, `recorded` or `imported`."""
        return self._backing.kind

    @property
    def labels(self) -> dict[str, Any]:
        """`task`, `arch` and `run_seed`, as far as they are known."""
        return self._backing.labels

    @property
    def seed(self) -> int | None:
        """Of the training; None if it is not known."""
        return self._backing.seed

    @property
    def described(self) -> dict[str, Any]:
        """The config as plain values; of a recorded or imported run whatever it was given."""
        return self._backing.described

    @property
    def objectives(self) -> tuple[str, ...]:
        """Labels of the losses that were named for it; none where the task is the loss."""
        return self._backing.named

    @property
    def loss_units(self) -> str:
        """Units of its loss: "nats per token" of our tasks, "loss unit" of a loss that somebody else named."""
        return self._backing.loss_units

    @property
    def config(self) -> RunConfig:
        """The config it was trained with; `config.origin` says where a branch came from."""
        return self._trained("config").config

    @property
    def setup(self) -> Setup:
        """Task, model and loss, rebuilt from the config."""
        return self._trained("config").setup

    @property
    def task(self) -> Task:
        """The task, rebuilt from the config."""
        return self._trained("task").setup.task

    def _trained(self, what: str) -> Trained:
        """What only a run of `landscape train` has."""
        return self._backing if isinstance(self._backing, Trained) else self._backing.lacks(what)

    def attributes(self, probe: str) -> dict[str, Any]:
        """What every dataset made from this run says about its origin."""
        return {
            "probe": probe,
            "run": self.name,
            "run_id": self.id,
            "kind": self.kind,
            **self.labels,
            "layout": self.layout.hash,
            "status": self.status,
        }

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """`unfinished`, `complete` or `diverged`."""
        return self._checkpoints.status

    @property
    def complete(self) -> bool:
        """Whether training reached its last step."""
        return self.status == "complete"

    @property
    def steps(self) -> NDArray[np.int64]:
        """Training step of every committed checkpoint, ascending."""
        return self._checkpoints.steps

    @property
    def parameters(self) -> Rows:
        """Checkpoint matrix (T, P); index it by row: ``run.parameters[-1]`` is the last checkpoint (P,)."""
        return self._checkpoints.rows("parameters")

    @property
    def optimizer(self) -> Rows:
        """Optimiser states (T, S), in the same order as `parameters`."""
        return self._checkpoints.rows("optimizer")

    def index(self, step: int) -> int:
        """Row of the checkpoint of a training step."""
        return self._checkpoints.index(step)

    def state(self, step: int) -> TrainState:
        """All that training needs to go on from the checkpoint of a training step."""
        return self._trained("state to train on from").state(step)

    def passes_at(self, step: int) -> Passes | None:
        """Loops at a checkpoint, and what share of them counts in a ramp of SHIFT; None: not known to have loops."""
        return self._backing.passes_at(step)

    def loops_at(self, step: int) -> int | None:
        """Loops of the model at the checkpoint of `step`: of a run that shifts 1 before its switch. None: as above."""
        return None if (passes := self.passes_at(step)) is None else passes.loops

    def optimizer_since(self, step: int) -> int:
        """Step at which the optimiser's state at a checkpoint began: 0, or a switch that began it anew."""
        return self._trained("state to train on from").optimizer_since(step)

    @property
    def metrics(self) -> xr.Dataset:
        """Metrics per evaluation.

        Of a run of `landscape train` with dims (step, split, family), and the Bayes limits per family; of others what
        was recorded, along `step`. `peak_memory`: the largest memory in bytes, on a GPU that of tensors.
        """
        about = {**self.attributes("metrics"), "peak_memory": self._checkpoints.peak_memory}
        return self._backing.metrics().assign_attrs(about)

    # -- the model ----------------------------------------------------------------------------------------------------

    def module(self, step: int, *, loops: int | Passes | None = None) -> nn.Module:
        """A copy of the model with the parameters of the checkpoint of `step`; `loops` as in `objective`."""
        return self._backing.module(step, loops=loops)

    @property
    def partial(self) -> bool:
        """Whether the model has parameters that no checkpoint has, because they were held fixed."""
        return self._backing.partial

    def tensors(self, step: int) -> dict[str, Tensor]:
        """Parameters, and buffers where they were recorded, of the checkpoint of `step`, by every name they have."""
        return self._backing.tensors(step)

    def apart(self, name: str | None) -> bool:
        """Whether checkpoints differ in more than a named loss varies, as in buffers: each has its own objective."""
        return self._backing.apart(name)

    def check(self, name: str | None, split: str) -> str | None:
        """The label of a named loss, checked to be what it was at its first use; None where the task is the loss."""
        return self._backing.check(name, split)

    def data_fingerprint(self, name: str | None, split: str) -> str:
        """Of the data: of the training set of a task, or of what a named loss is taken over."""
        return self._backing.data_fingerprint(name, split)

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
        loops: int | Passes | None = None,
        name: str | None = None,
    ) -> Objective:
        """The mean loss over (the first n samples of) a split, as a function of a parameter vector.

        `at` is the training step whose checkpoint gives `w0` and, where only some `parameters` vary, the values of the
        others; it must then be given. Without it `w0` is the initialisation. `loops`: as if the model ran its layer so
        often, all passes counting whole, in place of its own passes at the step, `passes_at` (single and looped have
        the same parameter vector; stacked is refused).

        Of a recorded or imported run it is the loss of this `name` (`landscape.loss.named`; None: the first named),
        with the buffers of the checkpoint `at`, which must be given where checkpoints differ in them.
        """
        if parameters is not None and at is None:
            raise LandscapeError("with `parameters`, say at which step (at=...) the other parameters are held.")
        return self._backing.objective(
            split, at=at, loops=loops, name=name, n=n, dtype=dtype, chunk=chunk, device=device, parameters=parameters
        )

    def rescaled(self, objective: Objective, metric: str, *, step: int) -> Objective:
        """An objective of this run in the coordinates of a metric, `filter` or `adam`, taken at the step's checkpoint.

        Raises:
            LandscapeError: for `adam` at step 0, or of a run that another optimiser trained.
        """
        mask = self.layout.mask(objective.layout.names)
        if metric == "filter":
            w = self.parameters[self.index(step)][mask]
            return RescaledObjective(objective, filter_scale(objective, w))
        if metric != "adam":
            raise LandscapeError(f"unknown metric {metric!r}. Valid names: {', '.join(METRICS)}.")
        return RescaledObjective(objective, self._backing.moments(step).scale(objective, mask, step=step))

    @property
    def updates(self) -> Updates:
        """The updates that its optimiser makes: direction, learning rate, and the curvature that they bear."""
        return self._backing.updates

    def updates_from(self, step: int) -> int:
        """How many updates `replay` can tell from the checkpoint of `step` on."""
        return self._backing.updates_from(step)

    def replay(self, step: int, n: int) -> Tensor:
        """Parameters after each of n updates from the checkpoint of `step`, (n + 1, P).

        As trained bit for bit on its machine, torch and thread count; of a recorded run as recorded, if each was.
        """
        return self._backing.replay(step, n)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.kind}, {self.status}, {len(self.steps)} checkpoints)"
