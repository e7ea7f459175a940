"""The errors a user can cause. Each message says what was expected, what was found and what to do."""

from __future__ import annotations

__all__ = ["LandscapeError", "RunFailedError"]


class LandscapeError(Exception):
    """Bad input: a wrong file, shape, name or setting. The command line exits with code 2."""

    exit_code = 2


class RunFailedError(LandscapeError):
    """The input was fine but the work could not be finished: NaN loss, full disk. Exit code 1."""

    exit_code = 1
