"""Questions with one right answer, of any length: the frame that all algorithmic tasks share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.settings import lookup
from landscape.tasks.base import IGNORE, FixedTask, Split, as_tokens, exact_match

__all__ = ["AlgorithmicConfig", "AlgorithmicTask", "Symbols"]

Symbols = tuple[int, ...]
_TRAIN, _TEST, _BATCH, _EXAMPLES = range(1, 5)
PREDICTIONS = ("next", "full")


@dataclass(frozen=True, kw_only=True)
class AlgorithmicConfig:
    """Settings of an algorithmic task.

    Attributes:
        name: name in `landscape.tasks.TASKS`.
        min_length: shortest query, where the curriculum starts.
        max_train_length: longest query of training.
        test_length: longest query of the test split; it also sets the length of all rows.
        increase_every: steps after which the longest query of training grows by 1; 0: no curriculum.
        prediction: "next": the model sees the answer up to the token that it must predict. "full": it sees EOS in
            the answer's place, and must find the whole answer at once.
        n_train: samples of the fixed `train` split, lengths uniform over all of training. Training itself draws fresh
            samples at every step.
        n_probe: the first n_probe of these are the `probe` split.
        n_test: samples of the test split; every second one is longer than those of training.
        seed: of all samples. It is not the run's seed, which is used beside it for the batches.
    """

    name: str
    min_length: int = 1
    max_train_length: int = 20
    test_length: int = 40
    increase_every: int = 500
    prediction: str = "next"
    n_train: int = 4096
    n_probe: int = 512
    n_test: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"min_length": 1, "increase_every": 0, "n_probe": 1, "n_test": 2, "seed": 0}
        for field, least in limits.items():
            if not least <= getattr(self, field) < 2**63:
                raise LandscapeError(f"expected task.{field} >= {least}, found {getattr(self, field)}.")
        if not self.min_length <= self.max_train_length <= self.test_length:
            raise LandscapeError(
                "expected task.min_length <= task.max_train_length <= task.test_length, found "
                f"{self.min_length}, {self.max_train_length} and {self.test_length}."
            )
        if self.n_probe > self.n_train:
            raise LandscapeError(f"expected n_probe <= n_train, found {self.n_probe} > {self.n_train}.")
        lookup(dict.fromkeys(PREDICTIONS), self.prediction, kind="task.prediction")


class AlgorithmicTask(FixedTask):
    """Rows of tokens: the query, "=", the answer, and EOS up to a fixed length.

    Tokens: the symbols 0..S-1, then the separator of two operands if there is one, "=", EOS. Targets are the row
    shifted by one; nothing is scored before the answer, everything from its first token to the last EOS is, and a
    sample counts as correct if all of that is. Rows have one length, which the longest query of the test split needs.

    A new task is a subclass that says how a query is drawn and answered:

    Attributes:
        symbols: S, number of symbols that queries and answers are made of.
        separator: what stands between two operands; None for a task with one.

    Example:
        >>> class Reverse(AlgorithmicTask):
        ...     symbols = 10
        ...
        ...     def answer(self, *operands):
        ...         return operands[0][::-1]
        >>> task = Reverse(AlgorithmicConfig(name="reverse", max_train_length=3, test_length=4))
        >>> task.encode((4, 7, 1))  # "=" is 10, EOS is 11
        [4, 7, 1, 10, 1, 7, 4, 11, 11, 11]
        >>> task.split("probe").inputs.shape
        torch.Size([512, 9])
    """

    families: ClassVar[tuple[str, ...]] = ("trained", "longer")
    accuracy: ClassVar[str] = "share of samples with every scored token predicted right"
    symbols: ClassVar[int] = 2
    separator: ClassVar[str | None] = None
    config: AlgorithmicConfig

    def __init__(self, config: AlgorithmicConfig) -> None:
        self.config = config
        self.equals = self.symbols + (self.separator is not None)
        self.eos = self.equals + 1
        self.vocabulary = self.eos + 1
        self.length = self.row_length(config.test_length) - 1
        self.bayes_loss = np.zeros(len(self.families))
        self.bayes_accuracy = np.ones(len(self.families))

    # -- what a task says ---------------------------------------------------------------------------------------------

    @abstractmethod
    def answer(self, *operands: Symbols) -> Symbols:
        """The answer to a query, whose operands are tuples of symbols."""

    def draw(self, length: int, rng: np.random.Generator) -> tuple[Symbols, ...]:
        """The operands of a random query of a length; here one operand of uniform symbols."""
        return (self.uniform(length, rng),)

    def longest(self, length: int) -> tuple[int, int]:
        """Tokens of the longest query of a length (without "="), and of the longest answer to one."""
        return length, length

    def loops_for(self, *sizes: Tensor) -> Tensor:
        """Loops for queries whose operands have these sizes, each (N,); here the size of the first."""
        return sizes[0]

    @staticmethod
    def correct(outputs: Any, targets: Any) -> Tensor:
        """1 for every sample with all scored tokens predicted right, else 0, (N,)."""
        return exact_match(outputs, targets)

    # -- rows ---------------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The text of every token."""
        between = () if self.separator is None else (self.separator,)
        return (*map(str, range(self.symbols)), *between, "=", "EOS")

    def row_length(self, length: int) -> int:
        """Tokens of a row with "=" and at least one EOS, for the longest query and answer of a length."""
        return sum(self.longest(length)) + 2

    def uniform(self, length: int, rng: np.random.Generator) -> Symbols:
        """`length` independent symbols."""
        return tuple(rng.integers(self.symbols, size=length).tolist())

    def encode(self, *operands: Symbols, size: int | None = None) -> list[int]:
        """The row of a query and its answer, `size` tokens (None: as long as all rows of the splits)."""
        row: list[int] = []
        for i, operand in enumerate(operands):
            row += [self.symbols] * (i > 0) + list(operand)
        row += [self.equals, *self.answer(*operands)]
        return row + [self.eos] * ((size or self.length + 1) - len(row))

    def decode(self, row: Sequence[int]) -> tuple[tuple[Symbols, ...], Symbols]:
        """Operands and answer that a row holds: the inverse of `encode`. The answer need not be right.

        Raises:
            LandscapeError: if the row is not operands, "=", answer, EOS.
        """
        tokens = [int(t) for t in row]
        operands: list[list[int]] = [[]]
        parts, answer = tokens[: _find(tokens, self.equals)], tokens[_find(tokens, self.equals) + 1 :]
        for token in parts:
            if self.separator is not None and token == self.symbols:
                operands.append([])
            else:
                operands[-1].append(token)
        answer, rest = answer[: _find(answer, self.eos)], answer[_find(answer, self.eos) :]
        good = all(0 <= t < self.symbols for part in (*operands, answer) for t in part) and all(operands)
        if not good or set(rest) != {self.eos} or len(operands) != 1 + (self.separator is not None):
            said = " ".join(self.names[t] if 0 <= t < self.vocabulary else f"<{t}>" for t in tokens)
            raise LandscapeError(f"expected a row of {self.config.name}: query, '=', answer, EOS; found {said}.")
        return tuple(map(tuple, operands)), tuple(answer)

    def loops(self, inputs: Tensor) -> Tensor:
        """Loops that the task's algorithm needs for each input, (N, n) -> (N,), at least 1."""
        end = (inputs == self.equals).int().argmax(1)
        if self.separator is None:
            return self.loops_for(end).clamp(min=1)
        middle = (inputs == self.symbols).int().argmax(1)
        return self.loops_for(middle, end - middle - 1).clamp(min=1)

    # -- samples ------------------------------------------------------------------------------------------------------

    def batch(self, step: int, size: int | None, *, seed: int) -> tuple[Tensor, Tensor]:
        """`size` fresh samples, lengths uniform up to the curriculum's longest; None: the fixed training set."""
        c = self.config
        if size is None:
            if c.increase_every:
                raise LandscapeError(
                    "expected a batch size, since with a curriculum every step has fresh samples; found none. Set one, "
                    "or task.increase_every=0 to train on the fixed training set."
                )
            return self._train.inputs, self._train.targets
        rng = np.random.default_rng([c.seed, _BATCH, seed, step])
        part = self._generate(rng.integers(c.min_length, self.trained_length(step + 1) + 1, size=size), rng)
        return part.inputs, part.targets

    def population(self, size: int | None) -> int | None:
        """The fixed training set where a batch is all of it; else batches are fresh."""
        return len(self._train) if size is None else None

    def trained_length(self, step: int) -> int:
        """Length of the longest queries allowed in the first `step` steps of training, 0 before the first."""
        c = self.config
        if step < 1:
            return 0
        grown = (step - 1) // c.increase_every if c.increase_every else c.max_train_length
        return min(c.max_train_length, c.min_length + grown)

    def samples_seen(self, step: int, size: int | None) -> int:
        """Training samples in the first `step` batches."""
        return step * (self.config.n_train if size is None else size)

    def examples(self, length: int, n: int, *, seed: int) -> Split:
        """`n` fresh samples of one length, a pure function of the arguments; longer ones have longer rows."""
        if length < 1 or n < 1:
            raise LandscapeError(f"expected a length >= 1 and at least one sample, found {length} and {n}.")
        rng = np.random.default_rng([self.config.seed, _EXAMPLES, seed, length])
        return self._generate(np.full(n, length), rng)

    @cached_property
    def _train(self) -> Split:
        c = self.config
        rng = np.random.default_rng([c.seed, _TRAIN])
        return self._generate(rng.integers(c.min_length, c.max_train_length + 1, size=c.n_train), rng)

    @cached_property
    def _test(self) -> Split:
        c = self.config
        rng = np.random.default_rng([c.seed, _TEST])
        lengths = rng.integers(c.min_length, c.max_train_length + 1, size=c.n_test)
        if c.test_length > c.max_train_length:
            lengths[1::2] = rng.integers(c.max_train_length + 1, c.test_length + 1, size=c.n_test // 2)
        return self._generate(lengths, rng)

    def _generate(self, lengths: NDArray[np.int64], rng: np.random.Generator) -> Split:
        size = max(self.length + 1, self.row_length(int(lengths.max())))
        rows = as_tokens(np.array([self.encode(*self.draw(int(k), rng), size=size) for k in lengths]))
        inputs, targets = rows[:, :-1].clone(), rows[:, 1:].clone()
        end = (rows == self.equals).int().argmax(1)[:, None]
        position = torch.arange(size - 1)
        targets[position < end] = IGNORE
        if self.config.prediction == "full":
            inputs[position > end] = self.eos
        family = (lengths > self.config.max_train_length).astype(np.int64)
        return Split(inputs, targets, family, np.full(len(lengths), np.nan))


def _find(tokens: list[int], token: int) -> int:
    return tokens.index(token) if token in tokens else len(tokens)
