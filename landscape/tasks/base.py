"""What a task gives to training and to probes: fixed splits, training batches, a per-sample loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.settings import lookup

__all__ = [
    "IGNORE",
    "SPLITS",
    "FixedTask",
    "Split",
    "Task",
    "epoch_batch",
    "exact_match",
    "token_accuracy",
    "token_loss",
]

SPLITS = ("train", "probe", "test")
IGNORE = -100
"""Target value of a token that is not scored."""


@dataclass(frozen=True, eq=False)
class Split:
    """A fixed set of samples.

    Attributes:
        inputs: what the model sees, (N, n) tokens or (N, n, D) vectors.
        targets: what it must say, (N, n) tokens, `IGNORE` where not scored; or numbers (N, m).
        family: (N,) index into the task's families.
        information_content: (N,) bits per scored token under the true distribution, NaN if unknown.
    """

    inputs: Tensor
    targets: Tensor
    family: NDArray[np.int64]
    information_content: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.inputs)

    def head(self, n: int | None) -> Split:
        """The first n samples (all if None); splits are stored so that every head has the families balanced."""
        if n is not None and not 1 <= n <= len(self):
            raise LandscapeError(f"expected between 1 and {len(self)} samples, the size of the split; found {n}.")
        return Split(self.inputs[:n], self.targets[:n], self.family[:n], self.information_content[:n])


class Task(ABC):
    """A task, made from its frozen config. All its randomness comes from the config's own seed.

    Attributes:
        families: names of the kinds of samples, which metrics tell apart.
        form: of the inputs, which the model must take: "tokens" (N, n), or "vectors" (N, n, D) of D = `vocabulary`.
        loss_units: unit of the loss.
        accuracy: what `correct` says of a sample, in a few words.
    """

    families: ClassVar[tuple[str, ...]]
    form: ClassVar[str] = "tokens"
    loss_units: ClassVar[str] = "nats per token"
    accuracy: ClassVar[str] = "share of scored tokens predicted right"
    config: Any
    vocabulary: int
    length: int
    bayes_loss: NDArray[np.float64]
    """Smallest reachable loss of each family in nats per scored token, NaN if unknown."""
    bayes_accuracy: NDArray[np.float64]
    """Largest reachable accuracy of each family, NaN if unknown."""

    @abstractmethod
    def split(self, name: str) -> Split:
        """The split `train`, `probe` or `test`."""

    @abstractmethod
    def batch(self, step: int, size: int | None, *, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of training step `step`: a pure function of its arguments, so any step can be replayed."""

    def samples_seen(self, step: int, size: int | None) -> int:
        """Training samples in the first `step` batches of at most `size` samples."""
        n = len(self.split("train"))
        if size is None or size >= n:
            return step * n
        epochs, rest = divmod(step, -(-n // size))
        return epochs * n + rest * size

    def population(self, size: int | None) -> int | None:  # noqa: ARG002
        """Training samples from which a batch of `size` is drawn without replacement; None where batches are fresh."""
        return None

    def loops(self, inputs: Tensor) -> Tensor | None:  # noqa: ARG002
        """Loops that the task's own algorithm needs for each input, (N, n) -> (N,); None without such a rule."""
        return None

    @staticmethod
    def per_sample_loss(outputs: Any, targets: Any) -> Tensor:
        """Loss of every sample in nats per scored token, (N,)."""
        return token_loss(outputs, targets)

    @staticmethod
    def correct(outputs: Any, targets: Any) -> Tensor:
        """Share of the scored tokens of every sample that are predicted right, (N,)."""
        return token_accuracy(outputs, targets)


class FixedTask(Task):
    """A task with fixed splits: the first samples of `train` are `probe`; training goes through `train` in epochs."""

    @property
    @abstractmethod
    def _train(self) -> Split:
        """The training set."""

    @property
    @abstractmethod
    def _test(self) -> Split:
        """The split `test`."""

    def split(self, name: str) -> Split:
        """The split `train`, `probe` or `test`."""
        lookup(dict.fromkeys(SPLITS), name, kind="split")
        if name == "probe":
            return self._train.head(self.config.n_probe)
        return self._train if name == "train" else self._test

    def batch(self, step: int, size: int | None, *, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of training step `step`, drawn without replacement within each epoch."""
        index = epoch_batch(len(self._train), step, size, seed=seed)
        return self._train.inputs[index], self._train.targets[index]

    def population(self, size: int | None) -> int | None:  # noqa: ARG002
        """The training set."""
        return len(self._train)


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats averaged over the scored tokens of each sequence: (N, n, V), (N, n) -> (N,)."""
    losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none")
    return losses.sum(1) / (targets != IGNORE).sum(1)


def token_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of scored tokens whose most likely symbol is the target: (N, n, V), (N, n) -> (N,)."""
    scored = targets != IGNORE
    right = (logits.argmax(-1) == targets) & scored
    return right.sum(1).to(logits.dtype) / scored.sum(1)


def exact_match(logits: Tensor, targets: Tensor) -> Tensor:
    """1 where every scored token is the most likely symbol, else 0: (N, n, V), (N, n) -> (N,).

    Greedy generation from the prompt gives the whole answer exactly where this is 1.
    """
    right = (logits.argmax(-1) == targets) | (targets == IGNORE)
    return right.all(1).to(logits.dtype)


def epoch_batch(n: int, step: int, size: int | None, *, seed: int) -> NDArray[np.int64]:
    """Indices of training step `step` over n samples: each epoch is a new permutation, its last batch may be smaller.

    The permutation depends on (seed, epoch) alone, never on a stream that evaluation could disturb.
    """
    if size is None or size >= n:
        return np.arange(n)
    per_epoch = -(-n // size)
    epoch, i = divmod(step, per_epoch)
    return _permutation(n, seed, epoch)[i * size : (i + 1) * size]


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0x7261696E, epoch]).permutation(n)


def as_tokens(array: NDArray[np.int64]) -> Tensor:
    """Tokens as an int64 tensor."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
