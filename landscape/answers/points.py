"""Losses at many points of one objective, shared out among processes and kept on disk while they come."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib.externals.loky.backend.reduction import dumps, loads
from numpy.typing import NDArray
from torch import Tensor

from landscape.answers.pool import shared_out
from landscape.answers.question import Question
from landscape.errors import FallbackWarning, LandscapeError, RunFailedError
from landscape.loss.objective import Objective
from landscape.loss.plane import losses_along

__all__ = ["helped", "parallel"]

SECONDS = 1.0
"""Of one process's work on a block of points: what is lost if it is killed."""
TOLD = 10.0
"""Seconds between two lines of progress."""
WORTH = 8.0
"""Seconds of work from which on others are started, which have to import torch first."""

Array = NDArray[Any]
LOG = logging.getLogger(__name__)


def parallel(objective: Objective, *, jobs: int) -> Objective:
    """The same objective, its losses at many points of a plane shared out among `jobs` processes, this one included.

    Each computes on one thread. What it gives has the same bits as one process with one thread, for any number of
    them: a point's loss does not depend on those beside it. The grid of `surface` is what this serves. The others
    are started where the work takes seconds, and get a copy of the objective; they end some seconds after the last use.
    In a script call it below ``if __name__ == "__main__":``.

    Args:
        objective: on the CPU, in plain coordinates; module, loss and data must be such that they can be sent to
            another process.
        jobs: processes, at least 1.

    Raises:
        LandscapeError: for jobs < 1, or an objective on a card, in rescaled coordinates or over ranks. Later, from the
            probe: what a process raised. `RunFailedError` if one was killed.

    Example:
        >>> from landscape.probes.surface import surface
        >>> module = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(module, lambda y, t: y[:, 0], (torch.tensor([[1.0, 10.0]]), torch.zeros(1)))
        >>> shared = parallel(objective, jobs=2)
        >>> ds = surface(shared, torch.zeros(2), seed=0, directions=torch.eye(2), alpha=(0, 1), beta=(0, 1))
        >>> ds.loss.values.tolist()
        [[0.0, 10.0], [1.0, 11.0]]
    """
    if jobs < 1:
        raise LandscapeError(f"expected jobs >= 1 processes, found {jobs}.")
    if type(objective) is not Objective or objective.device.type != "cpu" or objective.chunks.ranks.size > 1:
        raise LandscapeError(
            f"expected an objective on the CPU in plain coordinates of one process, found {objective}."
        )
    alone = objective.at(objective.w0)
    alone.helpers = None
    try:
        sent = bytes(dumps(alone))
    except Exception as error:  # of any kind, from the user's own classes
        raise LandscapeError(f"the objective cannot be sent to another process: {error}. Use jobs=1.") from error
    return helped(objective, partial(_received, sent, hashlib.sha256(sent).hexdigest()), jobs=jobs)


def helped(
    objective: Objective, make: Callable[[], Objective], *, jobs: int, question: Question | None = None
) -> Objective:
    """The same objective with helpers, which keep losses on disk for a `question` of the whole run while they come.

    `make` gives the objective to another process, without helpers.
    """
    twin = copy.copy(objective)
    twin.helpers = _Helpers(objective, make, jobs if objective.device.type == "cpu" else 1, question)
    return twin


_LAST: dict[str, Objective] = {}
"""What this process received last: its kernels serve all blocks."""


def _received(sent: bytes, key: str) -> Objective:
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = loads(sent)
    return _LAST[key]


@dataclass(frozen=True)
class _Helpers:
    """`losses_along` of an objective, in blocks."""

    objective: Objective
    make: Callable[[], Objective]
    jobs: int
    question: Question | None

    def __call__(self, w: Tensor, D: Tensor, c: Tensor) -> Tensor:
        digest = _digest(w, D, c)
        found, known = np.full(len(c), math.nan, dtype=_numpy(w).dtype), np.zeros(len(c), dtype=bool)
        if self.question is not None and (kept := self.question.points(digest)) is not None:
            found, known = kept

        def save() -> None:
            if self.question is not None:
                self.question.keep_points(found, known, digest)

        saved = told = time.monotonic()
        try:
            with contextlib.closing(self._blocks(w, D, c, np.flatnonzero(~known))) as blocks:
                for index, losses in blocks:
                    found[index], known[index] = losses, True
                    if time.monotonic() - saved > SECONDS:
                        save()
                        saved = time.monotonic()
                    if time.monotonic() - told > TOLD:
                        LOG.info("%d of %d points of a grid", known.sum(), len(c))
                        told = time.monotonic()
        except BaseException:
            save()
            raise
        return torch.from_numpy(found).to(w)

    def _blocks(self, w: Tensor, D: Tensor, c: Tensor, left: Array) -> Generator[tuple[Array, Array], None, None]:
        """(which points, their losses), in any order."""
        threads = torch.get_num_threads()
        if self.jobs > 1:
            torch.set_num_threads(1)  # as the others, so that the bits are theirs
        try:
            seconds = 0.0
            for _ in range(2):  # the first one allocates, and may compile
                start = time.perf_counter()
                if len(left):
                    yield left[:1], _numpy(losses_along(self.objective, w, D, c[left[:1]]))
                seconds, left = time.perf_counter() - start, left[1:]
            jobs = self.jobs if seconds * len(left) > WORTH else 1
            size = max(1, min(int(SECONDS / max(seconds, 1e-9)), -(-len(left) // (4 * jobs))))
            work = [
                (self.make, left[i : i + size], *map(_numpy, (w, D, c[left[i : i + size]])), os.getpid())
                for i in range(0, len(left), size)
            ]
            with contextlib.closing(shared_out(_block, work, jobs=jobs, lost=_lost)) as results:
                yield from results
        finally:
            torch.set_num_threads(threads)


def _block(
    make: Callable[[], Objective], index: Array, w: Array, D: Array, c: Array, caller: int
) -> tuple[Array, Array]:
    """The losses of one block, in any process."""
    torch.set_num_threads(1)
    if os.getpid() != caller:  # which evaluates too, and says it once for all
        warnings.simplefilter("ignore", FallbackWarning)
    return index, _numpy(losses_along(make(), *map(torch.from_numpy, (w, D, c))))


def _lost(*_: Any) -> tuple[Array, Array]:
    raise RunFailedError(
        "a process that computed losses on a grid was killed, as the system does when memory is short. Repeat it with "
        "fewer jobs or a smaller chunk; where answers are stored, points that were done are not computed again."
    )


def _digest(*parts: Tensor) -> str:
    digest = hashlib.sha256()
    for x in parts:
        digest.update(f"{tuple(x.shape)} {x.dtype}".encode())
        digest.update(np.ascontiguousarray(_numpy(x)).data)
    return digest.hexdigest()


def _numpy(x: Tensor) -> Array:
    found: Array = x.detach().cpu().numpy()
    return found
