"""The samples of an objective: nested tensors that share their first axis, and whatever is the same for all samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from landscape.curvature.trees import tensors_of
from landscape.errors import LandscapeError

__all__ = ["common_length", "head", "place", "take", "weights_of"]

_FORMS = (
    "(inputs, targets): tensors or numpy arrays, nested in tuples or dicts; or a Dataset or DataLoader of such pairs"
)
_SAME_FOR_ALL = (type(None), bool, int, float, str)
"""Leaves that are handed on whole to every chunk: an absent target, a number, a name."""


def place(data: Any, *, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy of ``(inputs, targets)`` on a device; floating tensors take the dtype, others keep theirs.

    Args:
        data: a pair of trees of tensors and numpy arrays, which share their first axis, and of None, numbers and
            strings, which are the same for every sample; or a `Dataset` or `DataLoader` of such pairs, read in order.
        dtype: floating dtype.
        device: where the copy lives.

    Raises:
        LandscapeError: for anything else, a loader whose order or content changes from pass to pass, or batches that
            cannot be joined.

    Example:
        >>> place((np.ones((2, 3)), None), dtype=torch.float32, device=torch.device("cpu"))[0].dtype
        torch.float32
    """
    if isinstance(data, DataLoader | Dataset):
        data = _gathered(data)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise LandscapeError(f"expected data = {_FORMS}; found {type(data).__name__}.")

    def move(x: Any) -> Any:
        if isinstance(x, _SAME_FOR_ALL):
            return x
        if isinstance(x, Mapping):  # a tokeniser's output, for instance; torch knows plain dicts only
            return pytree.tree_map(move, dict(x))
        if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fiub":
            x = torch.tensor(x.astype(x.dtype.newbyteorder("=")))  # a copy: torch takes no foreign byte order
        if not isinstance(x, Tensor):
            found = f"numpy array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
            raise LandscapeError(
                f"expected tensors, numbers, strings or None in {_FORMS}; found {found}. Make tensors of it first."
            )
        if x.layout is not torch.strided or x.is_nested:
            raise LandscapeError(
                f"expected dense tensors in {_FORMS}; found layout {x.layout}. Use `to_dense()` or pad to one length."
            )
        return x.detach().to(device=device, dtype=dtype if x.is_floating_point() else x.dtype, copy=True)

    for part in data:
        _refuse_texts(part)
    return pytree.tree_map(move, tuple(data))


def common_length(data: Any) -> int:
    """N, the length of the first axis of every tensor."""
    leaves = tensors_of(data)
    lengths = {x.shape[0] if x.ndim else None for x in leaves}
    if len(lengths) != 1 or None in lengths or 0 in lengths:
        shapes = ", ".join(str(tuple(x.shape)) for x in leaves) or "no tensor"
        raise LandscapeError(
            f"expected inputs and targets with the same first axis, at least one sample; found {shapes}."
        )
    return int(leaves[0].shape[0])


def take(data: Any, index: slice | Tensor) -> Any:
    """The samples of a slice, or of these indices; what is the same for all samples stays whole."""
    return pytree.tree_map(lambda x: x[index] if isinstance(x, Tensor) else x, data)


def head(data: Any, n: int) -> Any:
    """The first n samples of data of any form that `place` takes.

    Raises:
        LandscapeError: if there are fewer.

    Example:
        >>> head((torch.arange(4), None), 2)
        (tensor([0, 1]), None)
    """
    if isinstance(data, DataLoader | Dataset):
        data = _gathered(data)

    def cut(x: Any) -> Any:
        if isinstance(x, Mapping):
            return pytree.tree_map(cut, dict(x))
        if not isinstance(x, Tensor | np.ndarray):
            return x
        if len(x) < n:
            raise LandscapeError(f"expected at least {n} samples, found {len(x)}.")
        return x[:n]

    return pytree.tree_map(cut, data)


def weights_of(given: Any, n: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One weight per sample (N,), checked.

    Raises:
        LandscapeError: for another shape, a weight that is negative or not finite, or no weight above 0.

    Example:
        >>> weights_of([1, 3], 2, dtype=torch.float32, device=torch.device("cpu"))
        tensor([1., 3.])
    """
    try:
        weights = torch.as_tensor(given).detach().to(dtype=dtype, device=device, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LandscapeError(f"expected weights ({n},), one number a sample: {error}.") from error
    if weights.shape != (n,):
        raise LandscapeError(f"expected one weight a sample, ({n},), found {tuple(weights.shape)}.")
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not float(weights.sum()) > 0:
        raise LandscapeError("expected finite weights >= 0, at least one above 0. Leave samples out to ignore them.")
    return weights


def _gathered(source: Any) -> tuple[Any, Any]:
    """All samples of a dataset or loader in order, as one (inputs, targets)."""
    if isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        if not hasattr(source, "__len__"):
            raise LandscapeError(f"expected a Dataset with a length, found {type(source).__name__} without one.")
        # In order and in this process; the batch size is of no consequence.
        source = DataLoader(source, batch_size=256)
    elif isinstance(source, IterableDataset):
        source = DataLoader(source, batch_size=256)
    _refuse_shuffling(source)
    # A loader draws a seed for its workers from the global random state, whether it needs one or not.
    with torch.random.fork_rng(devices=[]):
        batches = [_pair(b) for b in source]
        _refuse_texts(batches[0] if batches else ())
        again = next((_pair(b) for b in source), None)
    if not batches:
        raise LandscapeError("expected at least one sample, found an empty Dataset or DataLoader.")
    if not _same(batches[0], again):
        raise LandscapeError(
            "expected the same samples at every pass, but the first batch of two passes differs: the order or the "
            "samples themselves are random (augmentation?). Make a fixed set of samples first."
        )
    return _joined(batches)


def _refuse_shuffling(loader: DataLoader[Any]) -> None:
    if loader.batch_size is None and loader.batch_sampler is None:
        raise LandscapeError(
            "expected a DataLoader that makes batches, found batch_size=None, whose items may be samples or batches. "
            "Give it a batch_size, or give the samples as (inputs, targets)."
        )
    if isinstance(loader.dataset, IterableDataset) or isinstance(loader.sampler, SequentialSampler):
        return
    order = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    with torch.random.fork_rng(devices=[]):
        fixed = list(map(str, order)) == list(map(str, order))
    if not fixed or type(loader.sampler).__name__ in ("RandomSampler", "WeightedRandomSampler", "SubsetRandomSampler"):
        raise LandscapeError(
            f"expected a DataLoader with a fixed order, found one that shuffles ({type(loader.sampler).__name__}): "
            "its data would be another at every use. Give shuffle=False, or the Dataset itself."
        )


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, tuple | list) and len(batch) in (1, 2):
        return batch[0], batch[1] if len(batch) == 2 else None
    found = (
        f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list | dict) else type(batch).__name__
    )
    raise LandscapeError(
        f"expected samples that are pairs (inputs, targets), found a {found}. Wrap the Dataset, or give the DataLoader "
        "a collate_fn, so that it returns (inputs, targets); several inputs go into a tuple or a dict."
    )


def _joined(batches: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Batches joined along the first axis of their tensors; other leaves must agree."""
    leaves, spec = pytree.tree_flatten(batches[0])
    columns = []
    for i, first in enumerate(leaves):
        column = [pytree.tree_leaves(b)[i] for b in batches]
        if isinstance(first, np.ndarray):
            column = [torch.as_tensor(x) for x in column]
        if isinstance(column[0], Tensor):
            shapes = sorted({tuple(x.shape[1:]) for x in column})
            if len(shapes) > 1 or not column[0].ndim:
                raise LandscapeError(
                    f"expected batches that can be joined along their first axis, found other axes {shapes[:4]}. "
                    "Pad all samples to one length."
                )
            columns.append(torch.cat(column))
        else:
            columns.append(first)
            if any(x != first for x in column):
                raise LandscapeError(
                    f"expected tensors in every batch, found {type(first).__name__}s that differ from batch to batch. "
                    "Make tensors of them first."
                )
    joined: tuple[Any, Any] = pytree.tree_unflatten(columns, spec)
    return joined


def _same(a: Any, b: Any) -> bool:
    one, two = pytree.tree_leaves(a), pytree.tree_leaves(b)
    return len(one) == len(two) and all(
        bool(torch.equal(torch.nan_to_num(x), torch.nan_to_num(y))) if isinstance(x, Tensor) else np.array_equal(x, y)
        for x, y in zip(one, two, strict=True)
    )


def _refuse_texts(tree: Any) -> None:
    """A list of texts is one text per sample, which no chunk could cut: unlike one string that all samples share."""
    if isinstance(tree, tuple | list):
        if len(tree) > 1 and all(isinstance(x, str) for x in tree):
            raise LandscapeError(
                f"expected tensors, found a list of {len(tree)} strings. Tokenise them first; a single string is "
                "handed on to the module as it is."
            )
        for x in tree:
            _refuse_texts(x)
    elif isinstance(tree, dict):
        for x in tree.values():
            _refuse_texts(x)
