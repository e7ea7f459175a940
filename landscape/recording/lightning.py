"""A callback that records a run of Lightning's `Trainer`: ``pip install "landscape-valleys[lightning]"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from landscape.recording.callback import RecordingCallback

try:
    from lightning.pytorch import Callback as _Base
except ImportError:  # told when a callback is made
    _Base = object

__all__ = ["RecordCallback"]


class RecordCallback(RecordingCallback, _Base):
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

    trainer, extra, installed = "lightning", "lightning", _Base is not object

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin or continue the run, and keep the model as it starts."""
        if trainer.is_global_zero:
            optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
            self.begin(pl_module, optimizer, step=trainer.global_step)

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
        self.end(complete=True)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """End the run, unfinished."""
        self.end(complete=False)
