"""Stationary Markov chains of any order, with every information quantity in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from landscape.errors import LandscapeError

__all__ = ["MarkovChain"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MarkovChain:
    r"""A stationary chain on A symbols: P(x_t | x_{t-m}, ..., x_{t-1}) for order m.

    Args:
        table: transition probabilities, shape (A,) * (m + 1); the last axis is the next symbol and sums to 1.

    Raises:
        LandscapeError: if the table is not a conditional distribution, or its stationary distribution is not unique.

    Example:
        >>> import numpy as np
        >>> coin = MarkovChain(np.array([[0.5, 0.5], [0.5, 0.5]]))
        >>> round(coin.entropy_rate, 12)  # bits per token
        1.0
    """

    table: Floats

    def __post_init__(self) -> None:
        t = self.table
        if t.ndim < 2 or len(set(t.shape)) != 1:
            raise LandscapeError(f"expected a transition table of shape (A,) * (order + 1), found {t.shape}.")
        if (t < 0).any() or not np.allclose(t.sum(-1), 1, atol=1e-12):
            raise LandscapeError("expected transition probabilities that are non-negative and sum to 1.")

    @classmethod
    def peaked(
        cls, alphabet: int, order: int, *, concentration: float, floor: float, rng: np.random.Generator
    ) -> MarkovChain:
        """Rows drawn from Dirichlet(concentration), mixed with a share `floor` of the uniform distribution.

        A small concentration makes rows peaked; the floor makes every transition possible, hence the chain ergodic
        and the information content bounded by log2(alphabet / floor) bits.
        """
        rows = rng.dirichlet(np.full(alphabet, concentration), size=alphabet**order)
        table = (1 - floor) * rows + floor / alphabet
        return cls((table / table.sum(1, keepdims=True)).reshape((alphabet,) * (order + 1)))

    @property
    def alphabet(self) -> int:
        """A, the number of symbols."""
        return int(self.table.shape[0])

    @property
    def order(self) -> int:
        """Number of preceding symbols that determine the next one's distribution."""
        return self.table.ndim - 1

    @cached_property
    def stationary(self) -> Floats:
        """Stationary probability of each context of `order` symbols, shape (A,) * order."""
        a, m = self.alphabet, self.order
        n = a**m
        flat = self.table.reshape(n, a)
        # Context (x_1..x_m) moves to (x_2..x_m, y): index i -> (i mod A^(m-1)) A + y.
        move = np.zeros((n, n))
        for i in range(n):
            start = (i % a ** (m - 1)) * a
            move[i, start : start + a] = flat[i]
        system = np.vstack([move.T - np.eye(n), np.ones(n)])
        solution, _, rank, _ = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)
        if rank < n:
            raise LandscapeError("the chain has more than one stationary distribution; use floor > 0.")
        probability: Floats = np.clip(solution, 0, None)
        return np.reshape(probability / probability.sum(), (a,) * m)

    def conditional(self, known: int) -> tuple[Floats, Floats]:
        """Distribution of the next symbol given only the last `known` <= order ones.

        Returns:
            Probability of each context, shape (A,) * known, and the conditional table, shape (A,) * (known + 1).
        """
        joint = self.stationary[..., None] * self.table
        forgotten = tuple(range(self.order - known))
        joint = joint.sum(axis=forgotten)
        context = joint.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return context, np.where(context[..., None] > 0, joint / context[..., None], 0.0)

    @cached_property
    def entropy_rate(self) -> float:
        """Bits per token of the chain, given its whole past."""
        return self._entropy(self.order)

    def bayes_loss(self, length: int) -> float:
        """Smallest reachable mean cross-entropy in nats over `length` tokens that follow one given symbol."""
        return float(np.log(2) * np.mean([self._entropy(min(t, self.order)) for t in range(1, length + 1)]))

    def bayes_accuracy(self, length: int) -> float:
        """Largest reachable mean accuracy over `length` tokens that follow one given symbol."""
        best = []
        for t in range(1, length + 1):
            context, table = self.conditional(min(t, self.order))
            best.append((context * table.max(-1)).sum())
        return float(np.mean(best))

    def information_content(self, tokens: Ints) -> Floats:
        """-(1/n) sum_t log2 P(x_t | x_0, ..., x_{t-1}) of sequences (N, n + 1), in bits per token, shape (N,)."""
        total: Floats = np.zeros(len(tokens))
        for t in range(1, tokens.shape[1]):
            known = min(t, self.order)
            table = self.conditional(known)[1]
            total -= np.log2(table[tuple(tokens[:, t - known : t + 1].T)])
        total /= tokens.shape[1] - 1
        return total

    def sample(self, count: int, length: int, *, rng: np.random.Generator) -> Ints:
        """`count` sequences of `length` symbols from the stationary process, shape (count, length)."""
        a, m = self.alphabet, self.order
        context = _draw(np.broadcast_to(self.stationary.reshape(-1), (count, a**m)), rng.random(count))
        flat = self.table.reshape(a**m, a)
        out = np.stack(np.unravel_index(context, (a,) * m), axis=1)[:, :length]
        while out.shape[1] < length:
            symbol = _draw(flat[context], rng.random(count))
            context = (context % a ** (m - 1)) * a + symbol
            out = np.column_stack([out, symbol])
        return out.astype(np.int64)

    def _entropy(self, known: int) -> float:
        context, table = self.conditional(known)
        return float(-(context[..., None] * table * np.log2(np.where(table > 0, table, 1.0))).sum())


def _draw(probabilities: Floats, uniform: Floats) -> Ints:
    """One symbol per row by inverting the cumulative distribution."""
    cumulative = np.cumsum(probabilities, axis=1)
    index: Ints = (uniform[:, None] * cumulative[:, -1:] >= cumulative).sum(1)
    return index.clip(max=probabilities.shape[1] - 1)
