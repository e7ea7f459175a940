"""How long one loss, one gradient and one product take here: measured on the loss that is asked about."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.curvature.native_build import compiler
from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.loss.planner import SHARE
from landscape.probes.base import Counts, Span
from landscape.probes.linalg import lanczos
from landscape.runs.memory import peak_memory

__all__ = ["Rates", "measured_rates"]

LOAD = (0.6, 1.8)
"""Times differ by about this much from one moment to the next, and between points."""
BOOKKEEPING = 2**26
"""Bytes of vectors with which a step of Lanczos is timed."""
KEEPING = 0.05
"""Seconds that it may take to make a dataset of an answer and to write it."""
EIGEN_SIZE = 400
"""Of the eigenvalue problem that is timed; larger ones use the processor better."""
COMPILING = 60.0
"""Seconds in which products are compiled, at most, of what was seen."""

COMPILER = 2**29
"""Bytes that the compiler's modules take."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds of each piece of work on one objective, as measured, and what the process then held.

    Attributes:
        once: for what is done once per process: building the loss, its checks.
        forward: one loss of all samples.
        gradient: one gradient.
        start: what comes before the first product at a point.
        product: one Hessian product, NaN if there is none.
        step: what a solver does between two products.
        eigen: one dense eigenvalue problem of `EIGEN_SIZE`.
        strategy: how products are computed; "" if there are none.
        memory: bytes held so far, data and kept graphs included; NaN where the system does not say.
        size: P.
        itemsize: bytes of a number.
        failed: why there are no products, "" if there are.
    """

    once: float
    forward: float
    gradient: float
    start: float
    product: float
    step: float
    eigen: float
    strategy: str
    memory: float
    size: int
    itemsize: int
    failed: str = ""

    def seconds(self, counts: Counts) -> Span:
        """How long one answer takes, from least to most; without what is done once."""
        c = counts
        per = self.product + self.step
        curved = self.start if c.products[1] or c.dense else 0.0
        dense, compiled = c.dense * self.size, self._compiles(c)
        # Written out, a Hessian costs a quarter to all of as many products: the kernel uses its symmetry, compiled ones
        # take eight vectors at once.
        problem = c.eigen * self.eigen * (self.size / EIGEN_SIZE) ** 3
        low, high = curved + problem / 3, curved + problem
        if dense:
            low, high = low + dense * self.product / 4, high + dense * per
        for rate, (few, many) in ((self.forward, c.forwards), (self.gradient, c.gradients), (per, c.products)):
            low, high = low + (rate * few if few else 0.0), high + (rate * many if many else 0.0)
        return LOAD[0] * low, LOAD[1] * high + KEEPING + (COMPILING if compiled else 0.0)

    def bytes(self, counts: Counts) -> Span:
        """What the process holds at most, from least to most."""
        more = counts.vectors * self.size * self.itemsize + counts.matrices * 8.0 * self.size**2
        return self.memory, self.memory + more + (COMPILER if self._compiles(counts) else 0)

    def _compiles(self, counts: Counts) -> bool:
        """Whether a Hessian is written out by compiled products."""
        enough = counts.dense * self.size * self.product * (1 - SHARE) >= COMPILING / 2
        return enough and self.strategy != "native" and compiler() is not None


def measured_rates(objective: Objective, w: Tensor, *, once: float = 0.0) -> Rates:
    """Time a loss, a gradient and two products at w; `once` seconds were spent on the objective before.

    Where torch has no second derivatives, `failed` says so and no product is timed.

    Raises:
        LandscapeError: if the loss is not finite at w, or has no gradient.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (torch.eye(2), torch.zeros(2, 1)))
        >>> rates = measured_rates(objective, objective.w0)
        >>> rates.strategy, rates.seconds(Counts(products=(10, 20)))[0] > 0
        ('cached', True)
    """
    w = objective.vector(w)
    _seconds(lambda: objective.losses(w[None]))  # the first one allocates
    forward = min(_seconds(lambda: objective.losses(w[None])) for _ in range(2))
    first = _seconds(lambda: objective.grad(w))
    gradient = _seconds(lambda: objective.grad(w))
    curved = _products(objective, w)
    return Rates(
        once=once + max(0.0, first - gradient) + curved.pop("once"),
        forward=forward,
        gradient=gradient,
        step=_bookkeeping(objective),
        eigen=_eigen(),
        memory=peak_memory(objective.device),
        size=objective.size,
        itemsize=torch.finfo(objective.dtype).bits // 8,
        **curved,
    )


def _products(objective: Objective, w: Tensor) -> dict[str, Any]:
    """Times of products, first ones apart: they come with checks, and where graphs are kept with the graphs."""
    v = torch.ones_like(w)
    spent = []
    try:
        for _ in range(2):
            begun = time.perf_counter()
            H = objective.hessian(w)
            _wait(H.mv(v))
            spent.append(time.perf_counter() - begun)
        product = min(_seconds(lambda: H.mv(v)), spent[1])
    except LandscapeError as error:
        return {"once": 0.0, "start": 0.0, "product": math.nan, "strategy": "", "failed": str(error)}
    once = max(0.0, spent[0] - spent[1])
    return {"once": once, "start": spent[1] - product, "product": product, "strategy": H.strategy, "failed": ""}


def _seconds(work: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    _wait(work())
    return time.perf_counter() - start


def _wait(x: Tensor) -> None:
    """Until it is computed, on a GPU too."""
    float(x.sum())


def _bookkeeping(objective: Objective) -> float:
    """Seconds that Lanczos spends per product on its own vectors, by a product that costs next to nothing."""
    size = objective.size
    steps = min(40, size, BOOKKEEPING // (32 * size))
    if steps < 4:  # vectors this long take as long as they take to be read, far less than a product
        return 0.0
    diagonal = torch.linspace(0.0, 1.0, size, dtype=objective.dtype, device=objective.device)
    op = Symmetric(size, objective.dtype, lambda v: diagonal * v, device=objective.device)
    start = time.perf_counter()
    used = lanczos(op, k=1, which="top", seed=0, max_products=steps, check_missed=False).n_products
    return (time.perf_counter() - start) / used


def _eigen() -> float:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(EIGEN_SIZE, EIGEN_SIZE, dtype=torch.float64, generator=generator)
    return min(_seconds(lambda: torch.linalg.eigvalsh(A + A.T)) for _ in range(2))
