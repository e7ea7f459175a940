"""A loss whose samples are shared by several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from landscape.errors import LandscapeError
from landscape.loss.metric import RescaledObjective
from landscape.loss.objective import Objective
from landscape.loss.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["distributed"]


def distributed(objective: Objective, group: ProcessGroup | None = None) -> Objective:
    r"""The same objective, its sums taken over the ranks of a `torch.distributed` group (gloo on CPUs, nccl on cards).

    L(w) = sum_r sum_{i in S_r} c_i l_i(w) / sum_i c_i, with the samples S_r of rank r in contiguous blocks that differ
    by one sample at most (some are empty if there are more ranks than samples). A loss, many losses, a gradient or a
    product with the Hessian or the Gauss-Newton matrix is one all-reduce, and so is a block of products where they are
    computed at once (strategies "native" and "compiled"); losses of samples are gathered. Numbers are those of one
    process up to rounding, and the same bits on all ranks.

    Every rank makes the whole objective first and calls this, then the same functions in the same order: vectors,
    seeds and whatever is computed from them are replicated. Nothing is divided but the samples: memory for the data,
    the vectors of a solver and dense matrices is that of one process. `fingerprint`, `n_samples`, weights and layout
    are those of the whole. Derivatives are checked on the same samples by every rank.

    What fails on one rank (its memory, a sample) raises the same message on all. A rank that is lost raises
    `LostRankError` on the others: at once where its connection breaks, or after the timeout of the group
    (``init_process_group(timeout=...)``).

    Args:
        objective: the same on all ranks; also one in rescaled coordinates.
        group: None is the default group.

    Returns:
        An objective for every probe and solver, which all ranks have to ask together.

    Raises:
        LandscapeError: without a process group, or if the ranks have objectives of other data, layout or dtype.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> import torch.distributed as dist
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> with tempfile.TemporaryDirectory() as folder:  # under torchrun: dist.init_process_group("gloo")
        ...     meeting = (Path(folder) / "meeting").as_uri()
        ...     dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
        ...     distributed(objective).loss(torch.tensor([1.0, 3.0])).item()
        ...     dist.destroy_process_group()
        5.0
    """
    if isinstance(objective, RescaledObjective):
        return RescaledObjective(distributed(objective.base, group), objective.scale).at(objective.w0)
    ranks = Ranks(group, dtype=objective.dtype, device=objective.device)
    said = ranks.texts(f"data {objective.fingerprint}, layout {objective.layout.hash}, {objective.dtype}")
    if len(set(said)) > 1:
        found = "; ".join(f"{text} on rank {said.index(text)}" for text in dict.fromkeys(said))
        raise LandscapeError(f"expected the same objective on all {ranks.size} ranks, found {found}.")
    return objective.over(ranks)
