"""The processes that share the samples of one loss: their sums, and what happens to all when one of them fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from landscape.errors import LandscapeError, LostRankError, RunFailedError
from landscape.loss.failures import brief

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Alone", "Ranks"]

T = TypeVar("T")
TEXT = 4096
"""Bytes of a message that ranks send each other; what is longer is cut."""
_STAMPS = 1000
"""Sums are numbered modulo this, so that times the number of ranks it is a whole number in float32 too."""
_DTYPES = (
    torch.float64, torch.float32, torch.bool, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.float16, torch.bfloat16, torch.complex64, torch.complex128,
)  # fmt: skip
_AXES = 8


class Alone:
    """One process that has all samples: nothing is exchanged.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.

    Example:
        >>> Alone().share(5), Alone().sum(lambda: torch.ones(2), 2).tolist()
        (range(0, 5), [1.0, 1.0])
    """

    rank, size = 0, 1

    def share(self, n: int) -> range:
        """Which of n samples are this rank's: contiguous blocks that differ by one sample at most."""
        return range(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum(self, make: Callable[[], Tensor] | None, *shape: int) -> Tensor:
        """The sum over all ranks of what `make` gives on each, of this shape; None adds nothing."""
        return torch.zeros(shape) if make is None else make()

    def joined(self, make: Callable[[], Tensor], n: int) -> Tensor:  # noqa: ARG002
        """What `make` gives on each rank, n rows here, joined along the first axis."""
        return make()

    def together(self, make: Callable[[], T]) -> T:
        """What `make` gives here; if it fails on one rank it fails on all."""
        return make()

    def in_turn(self, make: Callable[[], T]) -> T:
        """As `together`, on rank 0 first: what it leaves on the disk need not be made by the others."""
        return make()

    def first(self, text: str | None) -> str | None:
        """The text of the first rank that has one."""
        return text

    def texts(self, text: str) -> list[str]:
        """What every rank says."""
        return [text]


class Ranks(Alone):
    r"""The processes of a `torch.distributed` group, each with a share of the samples.

    A sum is one all-reduce. Two numbers travel with it: how many ranks failed, and the number of the sum. So a rank
    that runs out of memory, or whose samples raise, is known to all at the very sum that lacks its part: all then raise
    its message. Ranks that no longer do the same are found out, not added up. What is computed between sums is the same
    on all ranks, since it depends on sums, which are: an all-reduce of gloo or nccl gives every rank the same bits.

    Args:
        group: None is the default one.
        dtype: of sums.
        device: where tensors are exchanged, which the group's backend must know.

    Raises:
        LandscapeError: if there is no process group, or this process is not in it.
        LostRankError: from any exchange, if a rank ended or does not answer within the group's timeout.
    """

    def __init__(self, group: ProcessGroup | None, *, dtype: torch.dtype, device: torch.device) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise LandscapeError(
                "expected a process group, found none. Start the script by `torchrun --nproc-per-node N` and call "
                "torch.distributed.init_process_group() first."
            )
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise LandscapeError("expected a group that this process is a member of. Call it on its members only.")
        self._group, self._dtype, self._device, self._count = group, dtype, device, 0

    def sum(self, make: Callable[[], Tensor] | None, *shape: int) -> Tensor:
        """One all-reduce; where `make` is None or fails this rank adds zeros."""
        size = math.prod(shape)
        total = torch.zeros(size + 2, dtype=self._dtype, device=self._device)
        error = None
        try:
            if make is not None:
                total[:size] = make().detach().reshape(size)
        except Exception as found:  # noqa: BLE001
            error, total[size] = found, 1
        total[size + 1] = self._count = (self._count + 1) % _STAMPS
        with self._explained():
            dist.all_reduce(total, group=self._group)
            failed, stamps = total[size:].tolist()
        self._check(stamps == self._count * self.size)
        if failed:
            raise self._failure(error)
        return total[:size].reshape(shape)

    def joined(self, make: Callable[[], Tensor], n: int) -> Tensor:
        """One all-gather of shapes and one of rows, filled up to the longest share."""
        rows, error = None, None
        try:
            rows = make().detach().to(self._device) if n else None
        except Exception as found:  # noqa: BLE001
            error = found
        self._count = (self._count + 1) % _STAMPS
        about = [self._count, int(error is not None), 0, 0, *[0] * _AXES]
        if rows is not None:
            about[2:4], about[4 : 4 + rows.ndim] = (_DTYPES.index(rows.dtype), rows.ndim), rows.shape
        told = [x.tolist() for x in self._gathered(torch.tensor(about, device=self._device))]
        self._check(all(t[0] == self._count for t in told))
        if any(t[1] for t in told):
            raise self._failure(error)
        _, _, dtype, ndim, *shape = next(t for t in told if t[3])
        each = math.prod(shape[1:ndim]) * _DTYPES[dtype].itemsize
        data = torch.zeros(max(t[4] for t in told) * each, dtype=torch.uint8, device=self._device)
        if rows is not None:
            data[: rows.shape[0] * each] = rows.contiguous().reshape(-1).view(torch.uint8)
        parts = [x[: t[4] * each] for x, t in zip(self._gathered(data), told, strict=True)]
        return torch.cat(parts).view(_DTYPES[dtype]).reshape(sum(t[4] for t in told), *shape[1:ndim])

    def together(self, make: Callable[[], T]) -> T:
        """A sum of nothing, which fails everywhere if `make` fails anywhere."""
        made: list[T] = []

        def done() -> Tensor:
            made.append(make())
            return torch.zeros(0)

        self.sum(done, 0)
        return made[0]

    def in_turn(self, make: Callable[[], T]) -> T:
        """Rank 0, then the others."""
        if self.rank == 0:
            made = self.together(make)
            self.together(lambda: None)
            return made
        self.together(lambda: None)
        return self.together(make)

    def first(self, text: str | None) -> str | None:
        """By one all-gather."""
        return next((said for said in self.texts(text or "") if said), None)

    def texts(self, text: str) -> list[str]:
        """By one all-gather of `TEXT` bytes."""
        content = text.encode()[:TEXT]
        data = torch.zeros(TEXT, dtype=torch.uint8, device=self._device)
        data[: len(content)] = torch.tensor(list(content), dtype=torch.uint8)
        return [bytes(x.tolist()).rstrip(b"\0").decode(errors="ignore") for x in self._gathered(data)]

    def tell(self, text: str | None) -> str:
        """The text of rank 0, on all ranks: two broadcasts. The others give None."""
        content = b"" if text is None else text.encode()
        length = torch.tensor([len(content)], device=self._device)
        with self._explained():
            dist.broadcast(length, group_src=0, group=self._group)
            data = torch.zeros(int(length), dtype=torch.uint8, device=self._device)
            if content:
                data[:] = torch.tensor(list(content), dtype=torch.uint8)
            dist.broadcast(data, group_src=0, group=self._group)
        return bytes(data.tolist()).decode()

    def _gathered(self, mine: Tensor) -> Sequence[Tensor]:
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        with self._explained():
            dist.all_gather(parts, mine, group=self._group)
        return parts

    def _failure(self, error: Exception | None) -> Exception:
        """What all ranks raise where some failed: the error of the first of them, in its words."""
        ours, failed = isinstance(error, LandscapeError), isinstance(error, RunFailedError)
        kind = "" if error is None else "failed" if failed else "input" if ours else "other"
        text = f"{error}" if ours else "" if error is None else f"{type(error).__name__}: {brief(error)}"
        said = self.texts(f"{kind} {text}".strip())
        rank = next(i for i, s in enumerate(said) if s)
        if error is not None and rank == self.rank:
            return error
        kind, _, text = said[rank].partition(" ")
        if kind == "other":
            return RunFailedError(f"rank {rank} of {self.size} failed: {text}.")
        return LandscapeError(text) if kind == "input" else RunFailedError(text)

    def _check(self, alike: bool) -> None:
        if not alike:
            raise LostRankError(
                f"the {self.size} ranks no longer do the same (rank {self.rank} says so): one was given other settings "
                "or went on after an error. Make all do the same calls in the same order."
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise LostRankError(
                f"expected all {self.size} ranks to answer, but one ended or does not answer: {_first(error)}. What "
                "was finished before is kept; start all ranks again."
            ) from error


def _first(error: Exception) -> str:
    """What a backend says, without the place in its code and without advice."""
    return brief(error).partition("] ")[2].partition(". ")[0] or brief(error)
