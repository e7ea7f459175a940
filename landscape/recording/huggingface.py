"""A callback that records a run of Hugging Face's `Trainer`: ``pip install "landscape-valleys[hf]"``."""

from __future__ import annotations

from typing import Any

from landscape.recording.callback import RecordingCallback

try:
    from transformers import TrainerCallback as _Base
except ImportError:  # told when a callback is made
    _Base = object

__all__ = ["RecordCallback"]


class RecordCallback(RecordingCallback, _Base):
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

    trainer, extra, installed = "transformers", "hf", _Base is not object
    notes_rate = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Begin or continue the run, and keep the model as it starts."""
        if state.is_world_process_zero:
            model = given["model"]
            config = {"arch": type(getattr(model, "module", model)).__name__, "seed": int(args.seed)}
            self.begin(model, given.get("optimizer"), step=state.global_step, config=config)

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
        self.end(complete=state.global_step >= state.max_steps)
