"""Three lines in anyone's training loop: parameters, optimiser state and metrics into a run like any other."""

from __future__ import annotations

import atexit
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landscape.errors import LandscapeError
from landscape.loss.named import NamedLoss, loading
from landscape.recording.capture import OptimizerState, UpdateCount, held_fixed, same_trace, trace_of, unwrapped
from landscape.recording.form import GROUPS, header, identity, number, short, whole
from landscape.recording.metrics import MetricRows
from landscape.recording.schedule import Schedule
from landscape.runs.lock import writer_lock
from landscape.runs.modelstate import ModelState
from landscape.runs.objectives import Objectives
from landscape.runs.reading import FILE_NAME, open_for_reading, read_header
from landscape.runs.run import Run
from landscape.runs.writing import RunWriter
from landscape.settings import difference

__all__ = ["Recorder", "record"]

FLUSH_AFTER = 1.0
"""Seconds between two writes of metrics alone."""


def record(
    folder: str | os.PathLike[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    objective: str | Callable[..., Any] | None = None,
    config: Mapping[str, Any] | None = None,
    schedule: Schedule | None = None,
    every_parameter: bool = False,
) -> Recorder:
    """Record a training loop into a run, which every probe, figure and command then takes like one of its own.

    Args:
        folder: of the run; made if it does not exist. One that was recorded before is continued: new steps are
            appended, those that are there stay as they are.
        model: that is trained; read, never changed. Trainable parameters make up the vector w; persistent buffers
            (running means of batch normalisation) are kept with every checkpoint.
        optimizer: that trains it; of Adam, AdamW and SGD with momentum the moments are kept, which the metric `adam`
            needs.
        objective: the loss to look at: ``package.module:function`` or ``file.py:function``, or the function itself,
            which returns ``(module, per_sample_loss, data)`` (see `landscape.loss.named`). It may also be named
            later: ``landscape probe --objective``.
        config: settings of the training, as plain values. Of these `task`, `arch` and `seed` are repeated by
            results: seeds of one `arch` are drawn as one curve with a band.
        schedule: at which steps a checkpoint is kept; dense at first and then log-spaced by default.
        every_parameter: keep parameters that are not trained too: for training that unfreezes some later, or changes
            them by other means (a teacher that is a running mean). Those that require a gradient vary.

    Returns:
        A `Recorder`: call ``save(step, loss=...)`` once a step, before the update, so that the loss is that of the
        parameters that are kept; ``close()`` at the end, or use it in `with`. The model after the last update is kept,
        too, where the optimiser is given and its updates are the steps.

    Raises:
        LandscapeError: if the folder holds another run, is written by another process, or the objective does not fit.

    Example:
        >>> import tempfile
        >>> from landscape import Run, record
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with record(folder, model, optimizer) as rec:
        ...         for step in range(3):
        ...             rec.save(step, loss=1 / (step + 1))
        ...     run = Run.open(folder)
        ...     run.kind, run.steps.tolist(), run.parameters.shape, run.metrics.loss.values.tolist()
        ('recorded', [0, 1, 2], (3, 3), [1.0, 0.5, 0.3333333333333333])
    """
    if (label := loading()) is not None:
        raise LandscapeError(
            f"the file of the objective {label} records a run when it is imported. Put the training below "
            '`if __name__ == "__main__":`, or the objective into a file of its own.'
        )
    return Recorder(
        Path(folder),
        model,
        optimizer,
        objective=objective,
        config=dict(config or {}),
        schedule=schedule or Schedule(),
        every_parameter=every_parameter,
    )


class Recorder:
    """Writes a run while somebody else trains. Made by `record`.

    It never stops the training: what cannot be written (a full disk) is told in one warning, and recording ends.

    Attributes:
        folder: of the run.
        failed: why recording ended before the training did, else None.
        notes_rate: whether the optimiser's learning rate is noted unasked; not once a metric of that name was given.

    Example:
        >>> import tempfile
        >>> from landscape import Run, Schedule
        >>> model = torch.nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rec = record(folder, model, schedule=Schedule(every=2))
        ...     for step in range(5):
        ...         rec.save(step, loss=0.5)
        ...     rec.close()
        ...     Run.open(folder).steps.tolist()
        [0, 2, 4]
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        *,
        objective: str | Callable[..., Any] | None,
        config: Mapping[str, Any],
        schedule: Schedule,
        every_parameter: bool,
    ) -> None:
        self.folder = folder
        self.failed: str | None = None
        self._module, self._schedule = unwrapped(model), schedule
        self._state = ModelState.of(self._module, every=every_parameter)
        self._fixed = held_fixed(self._module, self._state.layout.names)
        self._dtype = self._state.rows(self._module)["parameters"].dtype
        self._optimizer = None if optimizer is None else OptimizerState(optimizer, self._state.layout)
        self._seen: tuple[int, tuple[Any, ...]] | None = None  # the last step of `save`, and the model's trace then
        self.notes_rate = True
        with ExitStack() as stack:
            stack.enter_context(writer_lock(folder))
            self._writer = stack.enter_context(self._opened(header("recorded", self._state, config, self._optimizer)))
            if objective is not None:
                loss = NamedLoss(objective) if isinstance(objective, str) else NamedLoss.of(objective)
                self._state.check(unwrapped(loss.evaluated().module), label=loss.label)
                Objectives(folder).add(loss)
            self._updates = UpdateCount(stack, optimizer)
            self._stack: ExitStack | None = stack.pop_all()
        steps = Run.open(folder).steps
        self._metrics = MetricRows(self._writer, folder)
        self._last = int(steps[-1]) if len(steps) else -1
        self._step = -1
        self._written = time.monotonic()
        atexit.register(self.close, complete=False)

    def _opened(self, found: dict[str, Any]) -> RunWriter:
        """The run file, begun or continued."""
        path = self.folder / FILE_NAME
        if not path.exists():
            return RunWriter.create(path, attributes=found, parts=self._rows(), groups=GROUPS)
        with open_for_reading(path, writer_alive=False) as f:
            old = read_header(f)
        if changed := difference(identity(old), identity(json.loads(json.dumps(found)))):
            lines = "\n".join(f"  {name}: {short(a)} in the run, {short(b)} now" for name, a, b in changed)
            raise LandscapeError(f"{self.folder} holds another run:\n{lines}\nChoose another folder.")
        writer = RunWriter.recover(path)
        writer.set_status("unfinished")
        return writer

    def save(self, step: int, /, *, checkpoint: bool | None = None, **metrics: Any) -> None:
        """Note metrics of a step, and keep the model as it is now if a checkpoint is due.

        Args:
            step: updates made so far, as the loop counts them, larger than at the last call. After a restart from an
                older state some steps come again: those that are in the run stay as they are.
            checkpoint: keep one, or none, whatever the schedule says.
            metrics: numbers by name, such as ``loss=``; tensors of one entry are read, None is left out. The learning
                rate of the optimiser is noted unasked.

        Raises:
            LandscapeError: for a step that is no whole number from 0 on, or a metric that is no number.
        """
        self.note(step, metrics, checkpoint=checkpoint)

    def note(self, step: int, metrics: Mapping[str, Any], *, checkpoint: bool | None = None) -> None:
        """`save` for metrics of any names; those too long, or beyond 64, are left out with one warning."""
        if self.failed is not None or self._stack is None:
            return
        step = whole(step)
        values = {str(name): number(str(name), value) for name, value in metrics.items() if value is not None}
        self.notes_rate &= "learning_rate" not in values
        try:
            rate = None if self._optimizer is None or not self.notes_rate else self._optimizer.learning_rate
            if rate is not None:
                values["learning_rate"] = rate
            self._step = max(self._step, step)
            self._metrics.note(step, values)
            self._updates.at(step)
            if (self._schedule.due(step, self._last) if checkpoint is None else checkpoint) and step > self._last:
                self._keep(step)
            elif time.monotonic() - self._written > FLUSH_AFTER:
                self._metrics.write(before=self._step)
                self._written = time.monotonic()
            self._seen = (step, trace_of(self._module))
        except Exception as error:  # noqa: BLE001 - whatever it is, the training is worth more than its record
            self._fail(error)

    def close(self, *, complete: bool = True) -> None:
        """End the run, complete or `unfinished`, and keep the model as it is now.

        Its step is the last one that was saved, if it did not change since; that, and the updates since, if an
        optimiser is known and made as many updates as steps were counted until then. Else it is not known, and not
        kept.
        """
        if self._stack is None:
            return
        try:
            if self.failed is None:
                if self._seen is not None and (step := self._final(*self._seen)) > self._last:
                    self._keep(step)
                self._metrics.write()
                if complete and Run.open(self.folder).status != "diverged":
                    self._writer.set_status("complete")
        except Exception as error:  # noqa: BLE001 - as in `note`
            self._fail(error)
        finally:
            atexit.unregister(self.close)
            stack, self._stack = self._stack, None
            stack.close()

    def _final(self, step: int, trace: tuple[Any, ...]) -> int:
        """The step of the model as it is now, seen last at `step`; -1 if that is not known."""
        return step if same_trace(trace, trace_of(self._module)) else self._updates.step_now(step)

    # -- the file -----------------------------------------------------------------------------------------------------

    def _rows(self) -> dict[str, NDArray[Any]]:
        found = self._state.rows(self._module)
        if torch.promote_types(found["parameters"].dtype, self._dtype) != self._dtype:
            raise LandscapeError(f"the run keeps {self._dtype}, and parameters are {found['parameters'].dtype} by now.")
        rows: dict[str, NDArray[Any]] = {k: v.numpy() for k, v in found.items()}
        return rows if self._optimizer is None else rows | self._optimizer.rows(self._module, self._dtype)

    def _keep(self, step: int) -> None:
        """Write a checkpoint; of a model that is no longer finite none is written, and the run is marked."""
        self._metrics.write(before=self._step)
        if held_fixed(self._module, self._state.layout.names) != self._fixed:
            raise LandscapeError(
                "other parameters are trained, or changed, than when recording began. Use record(every_parameter=True)."
            )
        rows = self._rows()
        if not np.isfinite(rows["parameters"]).all():
            self._writer.set_status("diverged")
            warnings.warn(f"{self.folder}: parameters are not finite at step {step}; not kept.", stacklevel=3)
        else:
            self._writer.append_checkpoint(step, {name: rows[name] for name in rows if name in self._writer.columns})
        self._last = step

    def _fail(self, error: Exception) -> None:
        """Stop recording, not the training."""
        self.failed = str(error) if isinstance(error, LandscapeError) else f"{type(error).__name__}: {error}"
        warnings.warn(f"recording of {self.folder} ends here, the training goes on: {self.failed}", stacklevel=4)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close(complete=kind is None)
