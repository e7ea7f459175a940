"""Six algorithmic tasks (Fan et al., arXiv 2409.15647): how a query is drawn and answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from landscape.tasks.algorithmic import AlgorithmicConfig, AlgorithmicTask, Symbols

__all__ = [
    "Addition",
    "AdditionConfig",
    "Copy",
    "CopyConfig",
    "Multiplication",
    "MultiplicationConfig",
    "Parity",
    "ParityConfig",
    "Sum",
    "SumConfig",
    "UniqueSet",
    "UniqueSetConfig",
]


@dataclass(frozen=True, kw_only=True)
class ParityConfig(AlgorithmicConfig):
    """Lengths and curriculum of Fan et al. for `parity`."""

    name: str = "parity"


class Parity(AlgorithmicTask):
    """n bits -> their sum modulo 2; n loops.

    Example:
        >>> Parity(ParityConfig(max_train_length=3, test_length=3)).encode((1, 0, 1))
        [1, 0, 1, 2, 0, 3]
    """

    def answer(self, *operands: Symbols) -> Symbols:
        """The sum modulo 2."""
        return (sum(operands[0]) % 2,)

    def longest(self, length: int) -> tuple[int, int]:
        """Bits; one bit."""
        return length, 1


@dataclass(frozen=True, kw_only=True)
class CopyConfig(AlgorithmicConfig):
    """Lengths and curriculum of Fan et al. for `copy`."""

    name: str = "copy"
    max_train_length: int = 19
    test_length: int = 30
    increase_every: int = 1000


class Copy(AlgorithmicTask):
    """n bits -> the same bits; n loops.

    Example:
        >>> Copy(CopyConfig(max_train_length=3, test_length=3)).encode((1, 0))
        [1, 0, 2, 1, 0, 3, 3, 3]
    """

    def answer(self, *operands: Symbols) -> Symbols:
        """The bits."""
        return operands[0]


@dataclass(frozen=True, kw_only=True)
class AdditionConfig(AlgorithmicConfig):
    """Lengths and curriculum of Fan et al. for `addition`."""

    name: str = "addition"
    max_train_length: int = 19
    test_length: int = 30
    increase_every: int = 1600


class Addition(AlgorithmicTask):
    """Two numbers of n bits -> their sum in n + 1 bits, all most significant bit first; n loops.

    Example:
        >>> task = Addition(AdditionConfig(max_train_length=2, test_length=2))
        >>> [task.names[t] for t in task.encode((1, 1), (0, 1))]
        ['1', '1', '+', '0', '1', '=', '1', '0', '0', 'EOS']
    """

    separator: ClassVar[str | None] = "+"

    def answer(self, *operands: Symbols) -> Symbols:
        """One bit more than an operand has."""
        total = sum(_number(x) for x in operands)
        return _bits(total, len(operands[0]) + 1)[::-1]

    def draw(self, length: int, rng: np.random.Generator) -> tuple[Symbols, ...]:
        """Two numbers of n uniform bits."""
        return self.uniform(length, rng), self.uniform(length, rng)

    def longest(self, length: int) -> tuple[int, int]:
        """Two operands and "+"; one bit more than an operand."""
        return 2 * length + 1, length + 1


@dataclass(frozen=True, kw_only=True)
class SumConfig(AlgorithmicConfig):
    """Lengths and curriculum of Fan et al. for `sum`."""

    name: str = "sum"
    max_train_length: int = 19
    test_length: int = 24


class Sum(AlgorithmicTask):
    """n bits -> the number of ones in binary, least significant bit first, without leading zeros; n loops.

    Example:
        >>> Sum(SumConfig(max_train_length=6, test_length=6)).encode((1, 1, 0, 1, 1, 1))  # five: 101
        [1, 1, 0, 1, 1, 1, 2, 1, 0, 1, 3]
    """

    def answer(self, *operands: Symbols) -> Symbols:
        """The number of ones; zero is one bit."""
        total = sum(operands[0])
        return _bits(total, max(1, total.bit_length()))

    def longest(self, length: int) -> tuple[int, int]:
        """Bits; as many bits as their number has."""
        return length, length.bit_length()


@dataclass(frozen=True, kw_only=True)
class MultiplicationConfig(AlgorithmicConfig):
    """Lengths and curriculum of Fan et al. for `multiplication`."""

    name: str = "multiplication"
    max_train_length: int = 11
    test_length: int = 15


class Multiplication(AlgorithmicTask):
    """One or two bits times m bits -> the product in all bits that the operands have, least significant first.

    The length of a query is m. Operands are written most significant bit first, and 1 or 2 bits are equally frequent.
    The number of loops is the product of the operands' lengths.

    Example:
        >>> task = Multiplication(MultiplicationConfig(max_train_length=3, test_length=3))
        >>> [task.names[t] for t in task.encode((1, 1), (1, 1, 0))]  # 3 x 6 = 18, 10010 in binary
        ['1', '1', 'x', '1', '1', '0', '=', '0', '1', '0', '0', '1', 'EOS']
    """

    separator: ClassVar[str | None] = "x"

    def answer(self, *operands: Symbols) -> Symbols:
        """As many bits as both operands together."""
        a, b = operands
        return _bits(_number(a) * _number(b), len(a) + len(b))

    def draw(self, length: int, rng: np.random.Generator) -> tuple[Symbols, ...]:
        """A number of one or two uniform bits, and one of m."""
        return self.uniform(int(rng.integers(1, 3)), rng), self.uniform(length, rng)

    def longest(self, length: int) -> tuple[int, int]:
        """Two operands and "x"; their bits."""
        return length + 3, length + 2

    def loops_for(self, *sizes: Tensor) -> Tensor:
        """The product of the sizes."""
        return sizes[0] * sizes[1]


@dataclass(frozen=True, kw_only=True)
class UniqueSetConfig(AlgorithmicConfig):
    """Lengths and curriculum of Fan et al. for `unique_set`."""

    name: str = "unique_set"
    max_train_length: int = 19
    test_length: int = 30
    increase_every: int = 1000


class UniqueSet(AlgorithmicTask):
    """n numbers from 0 to 49 -> the different ones among them, in order of first appearance; n loops.

    Example:
        >>> UniqueSet(UniqueSetConfig(max_train_length=3, test_length=3)).encode((7, 49, 7))
        [7, 49, 7, 50, 7, 49, 51, 51]
    """

    symbols: ClassVar[int] = 50

    def answer(self, *operands: Symbols) -> Symbols:
        """Each number once."""
        return tuple(dict.fromkeys(operands[0]))


def _number(bits: Symbols) -> int:
    """The number that bits mean, most significant first."""
    return int("".join(map(str, bits)), 2)


def _bits(number: int, size: int) -> Symbols:
    """`size` bits of a number, least significant first."""
    return tuple(number >> i & 1 for i in range(size))
