"""A callback that records a run of Hugging Face's `Trainer`: ``pip install "landscape-valleys[hf]"``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from landscape.errors import LandscapeError
from landscape.recording.recorder import Recorder, record
from landscape.recording.schedule import Schedule

try:
    from transformers import TrainerCallback as _Base
except ImportError:  # told when a callback is made
    _Base = object

__all__ = ["RecordCallback"]


class RecordCallback(_Base):
    """Records parameters, optimiser state and what the trainer logs, at the steps of the schedule.

    Only the first of several processes records. A training that is resumed from a checkpoint continues the run.

    Args:
        folder: of the run.
        objective: as for `landscape.record`.
        config: as for `landscape.record`; None takes the model's name and the seed of the training arguments.
        schedule: as for `landscape.record`.

    Raises:
        LandscapeError: if transformers is not installed.

    Attributes:
        recorder: while training.

    Example:
        >>> callback = RecordCallback("runs/mine")  # doctest: +SKIP
        >>> Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()  # doctest: +SKIP
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
            raise LandscapeError('expected transformers, found none. Install it: pip install "landscape-valleys[hf]"')
        self.recorder: Recorder | None = None
        self._folder, self._objective, self._config, self._schedule = folder, objective, config, schedule

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Begin or continue the run, and keep the model as it starts."""
        if not state.is_world_process_zero:
            return
        model = given["model"]
        config = self._config
        if config is None:
            config = {"arch": type(getattr(model, "module", model)).__name__, "seed": int(args.seed)}
        self.recorder = record(
            self._folder, model, given.get("optimizer"), objective=self._objective, config=config,
            schedule=self._schedule,
        )  # fmt: skip
        self.recorder.notes_rate = False  # the trainer logs its own
        self.recorder.save(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Keep the model if a checkpoint is due."""
        if self.recorder is not None:
            self.recorder.save(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:  # noqa: ARG002
        """Note what the trainer logs."""
        if self.recorder is not None:
            numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
            self.recorder.note(state.global_step, numbers, checkpoint=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """End the run."""
        if self.recorder is not None:
            self.recorder.close(complete=state.global_step >= state.max_steps)
            self.recorder = None
