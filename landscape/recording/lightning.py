"""A callback that records a run of Lightning's `Trainer`: ``pip install "landscape-valleys[lightning]"``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from landscape.errors import LandscapeError
from landscape.recording.recorder import Recorder, record
from landscape.recording.schedule import Schedule

try:
    from lightning.pytorch import Callback as _Base
except ImportError:  # told when a callback is made
    _Base = object

__all__ = ["RecordCallback"]


class RecordCallback(_Base):
    """Records parameters, optimiser state and what the module logs, at the steps of the schedule.

    Names of parameters are those of the `LightningModule`, so the objective returns one too, or a module with the same
    names. Only the first of several processes records. A training that is resumed continues the run.

    Args:
        folder: of the run.
        objective: as for `landscape.record`.
        config: as for `landscape.record`.
        schedule: as for `landscape.record`.

    Raises:
        LandscapeError: if lightning is not installed.

    Attributes:
        recorder: while training.

    Example:
        >>> lightning.Trainer(callbacks=[RecordCallback("runs/mine")]).fit(module, loader)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        objective: str | Callable[..., Any] | None = None,
        config: Mapping[str, Any] | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        if _Base is object:
            raise LandscapeError(
                'expected lightning, found none. Install it: pip install "landscape-valleys[lightning]"'
            )
        self.recorder: Recorder | None = None
        self._folder, self._objective, self._config, self._schedule = folder, objective, config, schedule

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin or continue the run, and keep the model as it starts."""
        if not trainer.is_global_zero:
            return
        optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
        self.recorder = record(
            self._folder, pl_module, optimizer, objective=self._objective, config=self._config, schedule=self._schedule
        )
        self.recorder.save(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Note the loss and what was logged; keep the model if a checkpoint is due."""
        if self.recorder is None:
            return
        found = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        loss = {"loss": found} if isinstance(found, torch.Tensor) and found.numel() == 1 else {}
        logged = {str(k): v for k, v in trainer.logged_metrics.items() if str(k) != "step"}
        self.recorder.note(trainer.global_step, {**logged, **loss})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """End the run."""
        self._close(complete=True)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """End the run, unfinished."""
        self._close(complete=False)

    def _close(self, *, complete: bool) -> None:
        if self.recorder is not None:
            self.recorder.close(complete=complete)
            self.recorder = None
