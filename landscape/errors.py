"""The errors a user can cause. Each message says what was expected, what was found and what to do."""

from __future__ import annotations

__all__ = [
    "AbsentError",
    "DivergedError",
    "FallbackWarning",
    "KernelError",
    "LandscapeError",
    "LockedError",
    "LostRankError",
    "RunFailedError",
]


class LandscapeError(Exception):
    """Bad input: a wrong file, shape, name or setting. The command line exits with code 2."""

    exit_code = 2


class AbsentError(LandscapeError):
    """Nothing of the kind that was asked for is there yet: no answer of a probe, no run of a certain training."""


class LockedError(LandscapeError):
    """Another process is writing the run."""


class RunFailedError(LandscapeError):
    """The input was fine but the work could not be finished: NaN loss, full disk. Exit code 1."""

    exit_code = 1


class DivergedError(RunFailedError):
    """The training loss or the parameters became NaN or infinite."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"the loss or a parameter became NaN or infinite at step {step}. Lower the learning rate or set `clip`."
        )
        self.step = step


class LostRankError(RunFailedError):
    """Another rank of a `torch.distributed` group ended, does not answer or does something else: nothing can go on."""


class KernelError(LandscapeError):
    """The native kernel knows this loss, but cannot be had on this machine: no compiler, or one that fails.

    Attributes:
        reason: what is wrong, without what to do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}. {remedy}")
        self.reason, self.remedy = reason, remedy


class FallbackWarning(UserWarning):
    """A faster way to the same numbers failed, and another one is used."""
