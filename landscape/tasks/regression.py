"""In-context regression: a prompt of examples of an unseen function, whose next value is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.settings import lookup
from landscape.tasks.base import SPLITS, Split, Task

__all__ = ["RegressionConfig", "RegressionTask"]

Array = NDArray[np.float64]
_FUNCTIONS = ("linear", "sparse", "tree", "relu")
_TRAIN, _TEST, _BATCH, _BAYES = range(1, 5)


@dataclass(frozen=True, kw_only=True)
class RegressionConfig:
    """Settings of in-context regression.

    Attributes:
        function: class of functions that each prompt draws one of, all of variance 1 over x ~ N(0, I): "linear"
            w'x / sqrt(d) with w ~ N(0, I); "sparse": w'x / sqrt(s) with s of the d weights not 0; "tree": a decision
            tree on signs of coordinates, leaves ~ N(0, 1); "relu": a network of two layers with random weights.
        dim: d, entries of x.
        examples: k, pairs (x, y) before the query.
        sparsity: s, for "sparse".
        depth: of the tree, for "tree".
        hidden: units, for "relu".
        noise: standard deviation of what is added to every y.
        n_train: prompts of the split `train`; training itself draws fresh ones.
        n_probe: the first n_probe of them are the probe split.
        n_test: prompts of the split `test`.
        seed: of all prompts. It is not the run's seed, which sets the initialisation and the training batches.
    """

    name: str = "regression"
    function: Literal["linear", "sparse", "tree", "relu"] = "linear"
    dim: int = 20
    examples: int = 40
    sparsity: int = 3
    depth: int = 4
    hidden: int = 100
    noise: float = 0.0
    n_train: int = 2048
    n_probe: int = 512
    n_test: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        if self.function not in _FUNCTIONS:
            raise LandscapeError(f"expected task.function one of {', '.join(_FUNCTIONS)}, found {self.function!r}.")
        for field in ("dim", "examples", "sparsity", "depth", "hidden", "n_probe", "n_test"):
            if getattr(self, field) < 1:
                raise LandscapeError(f"expected task.{field} >= 1, found {getattr(self, field)}.")
        if (self.function == "sparse" and self.sparsity > self.dim) or self.depth > 12:
            raise LandscapeError(
                f"expected task.sparsity <= task.dim = {self.dim} and task.depth <= 12, found {self.sparsity} and "
                f"{self.depth}."
            )
        if not 0 <= self.noise < np.inf:
            raise LandscapeError(f"expected task.noise >= 0, found {self.noise}.")
        if not 0 <= self.seed < 2**63:
            raise LandscapeError(f"expected task.seed >= 0, found {self.seed}.")
        if self.n_probe > self.n_train:
            raise LandscapeError(f"expected n_probe <= n_train, found {self.n_probe} > {self.n_train}.")


class RegressionTask(Task):
    r"""Prompts x_1, y_1, .., x_k, y_k, x_(k+1) of vectors, each y in the first coordinate of one that is 0 otherwise.

    Every y is predicted from what comes before it, so a prompt asks k + 1 questions, with 0 to k examples. The loss of
    a prompt is the squared error, averaged over these and over the loops whose predictions the model gives; in units of
    the functions' variance. `correct` is 1 minus that of the last loop: the share of the variance that is explained.
    Bayes-optimal for "linear": the posterior mean, whose error is exact without noise and an average over 256 draws of
    the x's with noise; not known for the others.

    Source:
        Garg et al. (arXiv 2208.01066) for prompts and functions; Yang et al. (arXiv 2311.12424) for the loss over the
        last loops. Variance 1 instead of their d is of this project.

    Example:
        >>> task = RegressionTask(RegressionConfig(dim=2, examples=3, n_train=8, n_probe=4, n_test=4))
        >>> part = task.split("probe")
        >>> part.inputs.shape, part.targets.shape, task.bayes_loss.tolist()  # (1 + 1/2 + 0 + 0) / 4
        (torch.Size([4, 7, 2]), torch.Size([4, 4]), [0.375])
    """

    families: ClassVar[tuple[str, ...]] = ("prompt",)
    form: ClassVar[str] = "vectors"
    loss_units: ClassVar[str] = "squared error"
    accuracy: ClassVar[str] = "share of the variance explained"

    def __init__(self, config: RegressionConfig) -> None:
        self.config = config
        self.vocabulary, self.length = config.dim, 2 * config.examples + 1
        self.bayes_loss = np.array([self.bayes_errors.mean()])
        self.bayes_accuracy = 1 - self.bayes_loss

    @staticmethod
    def per_sample_loss(outputs: Any, targets: Any) -> Tensor:
        """Squared error of every prompt, averaged over loops and questions: (N, w, k + 1), (N, k + 1) -> (N,)."""
        found: Tensor = ((outputs - targets[:, None]) ** 2).mean((1, 2))
        return found

    @staticmethod
    def correct(outputs: Any, targets: Any) -> Tensor:
        """1 minus the squared error of the last loop, averaged over questions, (N,); it may be negative."""
        found: Tensor = 1 - ((outputs[:, -1] - targets) ** 2).mean(1)
        return found

    # -- references ---------------------------------------------------------------------------------------------------

    @cached_property
    def bayes_errors(self) -> Array:
        """Smallest expected squared error with 0, 1, .., k examples, (k + 1,); NaN if not known."""
        c, counts = self.config, np.arange(self.config.examples + 1)
        if c.function != "linear":
            return np.full(len(counts), np.nan)
        if not c.noise:  # what d - i directions that were not seen contribute
            return np.asarray(np.maximum(0.0, 1 - counts / c.dim))
        x = np.random.default_rng([c.seed, _BAYES]).standard_normal((256, c.examples, c.dim))
        gram, errors = np.zeros((256, c.dim, c.dim)), []
        for i in counts:
            if i:
                gram += x[:, i - 1, :, None] * x[:, i - 1, None, :]
            posterior = np.linalg.inv(gram / c.noise**2 + c.dim * np.eye(c.dim))
            errors.append(np.trace(posterior, axis1=1, axis2=2).mean() + c.noise**2)
        return np.array(errors)

    def ridge(self, inputs: Tensor, *, penalty: float) -> Array:
        """Ridge regression of each question on its own examples; penalty 0: least squares of smallest norm, (N, k + 1).

        The posterior mean of "linear" has the penalty noise^2 d, on sum of squares + penalty |u|^2 with y = u'x.
        """
        x, y = self.pairs(inputs)
        found = np.zeros((len(x), x.shape[1]))
        for i in range(1, x.shape[1]):
            seen, values = x[:, :i], y[:, :i, None]
            if penalty:
                gram = seen.transpose(0, 2, 1) @ seen + penalty * np.eye(x.shape[2])
                u = np.linalg.solve(gram, seen.transpose(0, 2, 1) @ values)
            else:
                u = np.linalg.pinv(seen, rcond=1e-10) @ values
            found[:, i] = (x[:, i, None] @ u)[:, 0, 0]
        return found

    @staticmethod
    def pairs(inputs: Tensor) -> tuple[Array, Array]:
        """The vectors x (N, k + 1, d) and values y (N, k) that prompts hold."""
        prompts = inputs.detach().cpu().double().numpy()
        return prompts[:, ::2], prompts[:, 1::2, 0]

    # -- prompts ------------------------------------------------------------------------------------------------------

    def split(self, name: str) -> Split:
        """The split `train`, `probe` or `test`."""
        lookup(dict.fromkeys(SPLITS), name, kind="split")
        if name == "probe":
            return self._train.head(self.config.n_probe)
        return self._train if name == "train" else self._test

    def batch(self, step: int, size: int | None, *, seed: int) -> tuple[Tensor, Tensor]:
        """`size` fresh prompts; None: the fixed training set."""
        if size is None:
            return self._train.inputs, self._train.targets
        part = self._draw(size, np.random.default_rng([self.config.seed, _BATCH, seed, step]))
        return part.inputs, part.targets

    def population(self, size: int | None) -> int | None:
        """The fixed training set where a batch is all of it; else batches are fresh."""
        return self.config.n_train if size is None else None

    def samples_seen(self, step: int, size: int | None) -> int:
        """Training prompts in the first `step` batches."""
        return step * (self.config.n_train if size is None else size)

    @cached_property
    def _train(self) -> Split:
        return self._draw(self.config.n_train, np.random.default_rng([self.config.seed, _TRAIN]))

    @cached_property
    def _test(self) -> Split:
        return self._draw(self.config.n_test, np.random.default_rng([self.config.seed, _TEST]))

    def _draw(self, n: int, rng: np.random.Generator) -> Split:
        c = self.config
        x = rng.standard_normal((n, c.examples + 1, c.dim))
        y = getattr(self, f"_{c.function}")(x, rng)
        y = y + c.noise * rng.standard_normal(y.shape)
        prompts = np.zeros((n, self.length, c.dim))
        prompts[:, ::2], prompts[:, 1::2, 0] = x, y[:, :-1]
        return Split(torch.from_numpy(prompts), torch.from_numpy(y), np.zeros(n, np.int64), np.full(n, np.nan))

    @staticmethod
    def _linear(x: Array, rng: np.random.Generator) -> Array:
        n, _, d = x.shape
        found: Array = (x @ rng.standard_normal((n, d, 1)))[..., 0] / np.sqrt(d)
        return found

    def _sparse(self, x: Array, rng: np.random.Generator) -> Array:
        n, _, d = x.shape
        kept = rng.random((n, d)).argsort(1).argsort(1) < self.config.sparsity  # as many, in random places
        w = rng.standard_normal((n, d)) * kept
        found: Array = (x @ w[..., None])[..., 0] / np.sqrt(self.config.sparsity)
        return found

    def _tree(self, x: Array, rng: np.random.Generator) -> Array:
        n, questions, d = x.shape
        depth = self.config.depth
        asked = rng.integers(d, size=(n, 2**depth - 1))  # the coordinate that each inner node looks at
        leaves = rng.standard_normal((n, 2**depth))
        row = np.arange(n)[:, None]
        node = np.zeros((n, questions), dtype=np.int64)
        for _ in range(depth):
            right = x[row, np.arange(questions), asked[row, node]] > 0
            node = 2 * node + 1 + right
        found: Array = leaves[row, node - (2**depth - 1)]
        return found

    def _relu(self, x: Array, rng: np.random.Generator) -> Array:
        n, _, d = x.shape
        first = rng.standard_normal((n, d, self.config.hidden)) / np.sqrt(d)
        second = rng.standard_normal((n, self.config.hidden, 1)) * np.sqrt(2 / self.config.hidden)
        found: Array = (np.maximum(x @ first, 0) @ second)[..., 0]
        return found
