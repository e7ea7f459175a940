"""The Markov language: simple and complex sequences whose difficulty is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from landscape.errors import LandscapeError
from landscape.tasks.base import FixedTask, Split, as_tokens
from landscape.tasks.chain import MarkovChain

__all__ = ["MarkovConfig", "MarkovTask"]


@dataclass(frozen=True, kw_only=True)
class MarkovConfig:
    """Settings of the Markov language (definition of this project; the paper does not give its generator).

    Attributes:
        alphabet: symbols per family; the two families use disjoint symbols.
        length: scored tokens per sequence; one more symbol is given as a start.
        simple_order: order of the simple family's chain.
        complex_order: order of the complex family's chain.
        concentration: Dirichlet parameter of the transition rows; smaller is more peaked.
        floor: share of the uniform distribution mixed into every row.
        n_train: training sequences, half of each family.
        n_probe: the first n_probe training sequences are the probe split.
        n_test: unseen sequences from the same chains.
        seed: seed of the chains and of all sequences. It is not the run's seed, which sets the initialisation and the
            order of batches: by default all runs learn the same language.
    """

    name: str = "markov"
    alphabet: int = 8
    length: int = 16
    simple_order: int = 1
    complex_order: int = 2
    concentration: float = 0.06
    floor: float = 0.02
    n_train: int = 4096
    n_probe: int = 512
    n_test: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("alphabet", "length", "simple_order", "complex_order", "n_probe", "n_test"):
            if getattr(self, field) < 1:
                raise LandscapeError(f"expected task.{field} >= 1, found {getattr(self, field)}.")
        if not 0 <= self.seed < 2**63:
            raise LandscapeError(f"expected task.seed >= 0, found {self.seed}.")
        if self.n_probe > self.n_train:
            raise LandscapeError(f"expected n_probe <= n_train, found {self.n_probe} > {self.n_train}.")
        if not (self.concentration > 0 and 0 < self.floor <= 1):
            raise LandscapeError("expected concentration > 0 and 0 < floor <= 1.")
        if self.alphabet ** max(self.simple_order, self.complex_order) > 5000:
            raise LandscapeError("expected at most 5000 contexts (alphabet ** order); lower the order or the alphabet.")


class MarkovTask(FixedTask):
    r"""Two families of sequences over disjoint alphabets: `simple` (order-1 chain) and `complex` (order-2 chain).

    The splits: `train`; `probe`, the first `n_probe` training sequences (the landscape that training descends);
    `test`, unseen sequences. Even rows are simple, odd rows complex. Each sequence starts in the stationary
    distribution, and carries its information content IC = -(1/n) sum_t log2 P(x_t | x_0..x_{t-1}) in bits per token.

    Example:
        >>> task = MarkovTask(MarkovConfig(n_train=10, n_probe=4, n_test=4))
        >>> task.split("probe").inputs.shape, task.vocabulary
        (torch.Size([4, 16]), 16)
    """

    families: ClassVar[tuple[str, ...]] = ("simple", "complex")

    def __init__(self, config: MarkovConfig) -> None:
        self.config = config
        self.vocabulary = 2 * config.alphabet
        self.length = config.length
        orders = (config.simple_order, config.complex_order)
        self.chains = tuple(
            MarkovChain.peaked(
                config.alphabet,
                order,
                concentration=config.concentration,
                floor=config.floor,
                rng=np.random.default_rng([config.seed, 0, i]),
            )
            for i, order in enumerate(orders)
        )
        self.bayes_loss = np.array([c.bayes_loss(self.length) for c in self.chains])
        self.bayes_accuracy = np.array([c.bayes_accuracy(self.length) for c in self.chains])
        self.entropy_rate = np.array([c.entropy_rate for c in self.chains])

    @cached_property
    def _train(self) -> Split:
        return self._generate(self.config.n_train, stream=1)

    @cached_property
    def _test(self) -> Split:
        return self._generate(self.config.n_test, stream=2)

    def _generate(self, count: int, *, stream: int) -> Split:
        tokens = np.zeros((count, self.length + 1), dtype=np.int64)
        content = np.zeros(count)
        for i, chain in enumerate(self.chains):
            rows = np.arange(i, count, len(self.chains))
            rng = np.random.default_rng([self.config.seed, stream, i])
            drawn = chain.sample(len(rows), self.length + 1, rng=rng)
            tokens[rows] = drawn + i * self.config.alphabet
            content[rows] = chain.information_content(drawn)
        family = np.arange(count) % len(self.chains)
        return Split(as_tokens(tokens[:, :-1]), as_tokens(tokens[:, 1:]), family, content)
