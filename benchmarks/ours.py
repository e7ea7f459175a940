"""Our side of the comparison: the same solver on the strategies of `Objective.hessian`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from problems import Problem
from timing import Counter
from torch import Tensor

from landscape import Symmetric
from landscape.loss.strategies import native_obstacle
from landscape.probes.linalg import lanczos, lanczos_quadrature
from landscape.probes.linalg.trace.blocks import lockstep_quadrature

K = 10
"""Eigenvalues asked for in the question `top`."""


def ladder() -> list[dict[str, Any]]:
    return [{"tol": t} for t in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)]


@dataclass
class Ours:
    """One strategy; `block` vectors are multiplied at once in the question `density`."""

    strategy: str
    block: int = 1
    questions: tuple[str, ...] = ("top", "density")
    rungs: list[dict[str, Any]] = field(default_factory=ladder)
    ahead: int = 0
    check_missed: bool = True
    notes: dict[str, str] = field(default_factory=dict)

    def differs(self, p: Problem) -> bool:
        """Whether this is another method here than the default, which keeps graphs where there is no native kernel."""
        kernel = native_obstacle(p.objective.chunks) is None
        return kernel or not (self.strategy == "cached" or (self.strategy == "auto" and self.block > 1))

    def hessian(self, p: Problem) -> tuple[Symmetric, float]:
        """The operator, ready for its first product, and the seconds until then."""
        start = time.perf_counter()
        objective = p.objective if self.block == 1 else p.blocked
        H = objective.hessian(objective.w0, strategy=self.strategy, block=self.block)  # type: ignore[arg-type]
        if self.strategy == "compiled":  # trace and compile, or find what is compiled already
            H.mm(objective.w0[:, None].expand(-1, self.block))
        seconds = time.perf_counter() - start
        p.ready.setdefault(self.key, seconds)
        return H, seconds

    @property
    def key(self) -> str:
        """What is compiled once for a problem."""
        return f"{self.strategy} {self.block}"

    def top(self, counter: Counter, p: Problem, *, tol: float) -> tuple[Tensor, float]:
        """The eigenvalues, and the seconds until the first product."""
        H, ready = self.hessian(p)
        pairs = lanczos(H, k=K, which="largest", tol=tol, seed=0, check_missed=self.check_missed)
        counter.tick(pairs.n_products)
        return pairs.values, ready

    def density(self, counter: Counter, p: Problem, *, vectors: int, steps: int) -> tuple[Tensor, float]:
        """The estimate of the trace by each vector."""
        H, ready = self.hessian(p)
        if self.block == 1:
            q = lanczos_quadrature(H, n_vectors=vectors, n_steps=steps, seed=0)
        else:
            q = lockstep_quadrature(H, n_vectors=vectors, n_steps=steps, seed=0, block=self.block)
        counter.tick(q.n_products)
        return p.objective.size * (q.weight * q.node.nan_to_num()).sum(1), ready


def ours(accuracy: float) -> dict[str, Ours]:
    """Our candidates. `own stop` asks for a tolerance that proves the accuracy, without knowing the answer."""
    unproved = "without the proof that no eigenvalue was missed, which no peer gives either"
    proof = "its tolerance is a third of the accuracy asked, which proves the error; chosen without the answer"
    return {
        "ours, default": Ours("auto"),
        "ours, default, own stop": Ours(
            "auto", questions=("top",), rungs=[{"tol": accuracy / 3}], notes={"top": proof}
        ),
        "ours, default, no proof": Ours("auto", questions=("top",), check_missed=False, notes={"top": unproved}),
        "ours, default, 5 in step": Ours("auto", block=5, questions=("density",)),
        "ours, cached": Ours("cached"),
        "ours, compiled": Ours("compiled"),
        "ours, compiled, no proof": Ours("compiled", questions=("top",), check_missed=False, notes={"top": unproved}),
        "ours, compiled, 5 in step": Ours("compiled", block=5, questions=("density",)),
    }
