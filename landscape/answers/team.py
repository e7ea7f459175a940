"""Checkpoints answered by several processes together: rank 0 says which, the others compute their share of the sums."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import xarray as xr

from landscape.errors import LandscapeError, LostRankError
from landscape.loss.distributed import distributed
from landscape.loss.objective import Objective
from landscape.loss.ranks import Ranks

__all__ = ["Team"]

PATIENCE = timedelta(minutes=10)
"""How long ranks that are done with a question wait for one that is not: what each computes alone is the same."""


class Team:
    """All ranks of the default process group, led by rank 0.

    Only rank 0 knows requests, files and the console. It tells the others what is asked at a checkpoint; then all ask
    it of an objective whose sums are taken over all of them. So nothing that could differ between ranks (what is
    stored already, how far a training has come) is decided twice.

    Attributes:
        leads: whether this is rank 0.
        size: number of ranks.
    """

    def __init__(self) -> None:
        here = torch.device("cpu")
        self._orders = Ranks(None, dtype=torch.float64, device=here)
        # Of its own, so that one that is done waits, in vain if need be, where no sum of another can meet it.
        self._ends = Ranks(dist.new_group(backend="gloo", timeout=PATIENCE), dtype=torch.float64, device=here)
        self.leads, self.size = self._orders.rank == 0, self._orders.size
        self._left = 0

    @property
    def idle(self) -> bool:
        """Whether all ranks are done with what was asked, and wait for what comes."""
        return self._left == 0

    def share(self, objective: Objective) -> Objective:
        """The objective with its sums over all ranks."""
        return distributed(objective)

    def ask(self, place: Any, asked: Sequence[tuple[int, str, Mapping[str, Any]]]) -> None:
        """Tell the others: a place, and (index, name of the probe, settings) of what is asked there."""
        self._orders.tell(json.dumps({"place": asdict(place), "asked": list(asked)}))
        self._left = len(asked)

    def end(self, code: int) -> None:
        """Tell the others that nothing more is asked, and the exit code."""
        self._orders.tell(json.dumps({"end": code}))

    def hear(self) -> dict[str, Any]:
        """What rank 0 tells, waiting for it."""
        order: dict[str, Any] = json.loads(self._orders.tell(None))
        self._left = len(order.get("asked", ()))
        return order

    def agree(self, found: xr.Dataset | LandscapeError) -> None:
        """Wait until all ranks have their answer, or the same error.

        Raises:
            LostRankError: if they do not.
        """
        said = self._ends.texts(f"{found}" if isinstance(found, LandscapeError) else "")
        if len(set(said)) > 1:
            rank = next(i for i, text in enumerate(said) if text)
            raise LostRankError(f"rank {rank} of {self.size} could not go on with the others: {said[rank]}")
        self._left -= 1
