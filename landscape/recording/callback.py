"""What the callbacks of other trainers have in common: when to make a `Recorder`, and when to end it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from landscape.errors import LandscapeError
from landscape.recording.recorder import Recorder, record
from landscape.recording.schedule import Schedule

__all__ = ["RecordingCallback"]


class RecordingCallback:
    """Half of a callback; the other half is the class that the trainer expects.

    Args:
        folder: of the run.
        objective: as for `landscape.record`.
        config: as for `landscape.record`.
        schedule: as for `landscape.record`.

    Raises:
        LandscapeError: if the trainer's package is not installed.

    Attributes:
        recorder: while training.

    Example:
        >>> import tempfile
        >>> class Mine(RecordingCallback):
        ...     trainer, installed = "torch", True
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     callback = Mine(folder)
        ...     callback.begin(nn.Linear(1, 1), None, step=0)
        ...     callback.end(complete=True)
        ...     callback.recorder is None
        True
    """

    trainer: ClassVar[str]
    """The package."""
    extra: ClassVar[str] = ""
    """Of ours, that installs it."""
    installed: ClassVar[bool]
    notes_rate: ClassVar[bool] = True
    """Whether the learning rate is noted unasked: not where the trainer logs its own."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        objective: str | Callable[..., Any] | None = None,
        config: Mapping[str, Any] | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        if not self.installed:
            raise LandscapeError(
                f'expected {self.trainer}, found none. Install it: pip install "landscape-valleys[{self.extra}]"'
            )
        self.recorder: Recorder | None = None
        self._folder, self._config = folder, config
        self._given: dict[str, Any] = {"objective": objective, "schedule": schedule}

    def begin(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        *,
        step: int,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin or continue the run, and keep the model as it starts; `config` where the user gave none."""
        config = config if self._config is None else self._config
        self.recorder = record(self._folder, model, optimizer, config=config, **self._given)
        self.recorder.notes_rate = self.notes_rate
        self.recorder.save(step)

    def end(self, *, complete: bool) -> None:
        """End the run, if there is one."""
        if self.recorder is not None:
            self.recorder.close(complete=complete)
            self.recorder = None
