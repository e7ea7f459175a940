"""Other libraries, each called in its own way. All are optional."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from ours import K
from problems import Batch, Problem
from timing import Counter
from torch import Tensor

Values = tuple[Tensor, float]


@dataclass
class Peer:
    """A library: `solver(counter, p, batches)` makes its object, which calls `counter.tick` before each product.

    `product` is its product with a flat vector on given batches; it shows whether uneven batches are weighted rightly.
    """

    product: Callable[[Problem, list[Batch], Tensor], Tensor]
    top: Callable[..., Values]
    density: Callable[..., Values] | None
    rungs: list[dict[str, Any]]
    ahead: int = 0
    notes: dict[str, str] = field(default_factory=dict)  # by question: what a reader must know
    questions: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.questions = ("top",) if self.density is None else ("top", "density")


def _parameters(p: Problem) -> list[Tensor]:
    return [q for q in p.module.parameters() if q.requires_grad]


def _split(p: Problem, v: Tensor) -> list[Tensor]:
    params = _parameters(p)
    return [part.reshape_as(q) for part, q in zip(v.split([q.numel() for q in params]), params, strict=True)]


def _join(parts: Any) -> Tensor:
    return torch.cat([x.detach().reshape(-1) for x in parts])


def _trace(p: Problem, nodes: Any, weights: Any) -> Tensor:
    trace: Tensor = p.objective.size * (torch.as_tensor(nodes) * torch.as_tensor(weights)).sum(1)
    return trace


_POWER = [(1e-3, 100), (3e-4, 200), (1e-4, 300), (3e-5, 500), (1e-5, 1000), (3e-6, 2000), (1e-6, 4000)]


def power_rungs() -> list[dict[str, Any]]:
    return [{"tol": t, "max_iterations": m} for t, m in _POWER]


def pyhessian() -> Peer:
    import pyhessian as package

    inner = sys.modules["pyhessian.hessian"]
    single = inner.hessian_vector_product
    current = [Counter()]

    class Counting(package.hessian):  # type: ignore[misc,name-defined]
        def dataloader_hv_product(self, v: Any) -> Any:
            current[0].tick()
            return super().dataloader_hv_product(v)

    def counted(*args: Any) -> Any:
        current[0].tick()
        return single(*args)

    inner.hessian_vector_product = counted

    def solver(counter: Counter, p: Problem, batches: list[Batch]) -> Any:
        current[0] = counter
        p.module.zero_grad(set_to_none=True)  # it adds to the gradients that it finds
        torch.manual_seed(0)
        if len(batches) == 1:
            return Counting(p.module, p.loss, data=batches[0], cuda=False)
        return Counting(p.module, p.loss, dataloader=batches, cuda=False)

    def product(p: Problem, batches: list[Batch], v: Tensor) -> Tensor:
        found = solver(Counter(), p, batches)
        if len(batches) == 1:
            return _join(single(found.gradsH, found.params, _split(p, v)))
        return _join(found.dataloader_hv_product(_split(p, v))[1])

    def top(counter: Counter, p: Problem, batches: list[Batch], *, tol: float, max_iterations: int) -> Values:
        values, _ = solver(counter, p, batches).eigenvalues(maxIter=max_iterations, tol=tol, top_n=K)
        return torch.tensor(values), 0.0

    def density(counter: Counter, p: Problem, batches: list[Batch], *, vectors: int, steps: int) -> Values:
        torch.eig = lambda T, **_: _as_eig(T)  # type: ignore[attr-defined]
        return _trace(p, *solver(counter, p, batches).density(iter=steps, n_v=vectors)), 0.0

    return Peer(
        product,
        top,
        density,
        power_rungs(),
        notes={"density": "`torch.eig`, which it calls, is gone from torch: repaired"},
    )


def _as_eig(T: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(T)
    return torch.stack([values, torch.zeros_like(values)], 1), vectors


def landscaper() -> Peer:
    import landscaper as package

    inner = sys.modules["landscaper.hessian"]
    inner.tqdm = partial(inner.tqdm, disable=True)  # type: ignore[attr-defined]

    class Counting(package.PyHessian):  # type: ignore[misc,name-defined]
        counter: Counter

        def hv_product(self, v: Any) -> Any:
            self.counter.tick()
            return super().hv_product(v)

    def solver(counter: Counter, p: Problem, batches: list[Batch]) -> Any:
        torch.manual_seed(0)
        found = Counting(p.module, p.loss, batches, "cpu", try_cache=True)
        found.counter = counter
        return found

    def product(p: Problem, batches: list[Batch], v: Tensor) -> Tensor:
        return _join(solver(Counter(), p, batches).hv_product(_split(p, v))[1])

    def top(counter: Counter, p: Problem, batches: list[Batch], *, tol: float, max_iterations: int) -> Values:
        values, _ = solver(counter, p, batches).eigenvalues(maxIter=max_iterations, tol=tol, top_n=K)
        return torch.tensor(values), 0.0

    def density(counter: Counter, p: Problem, batches: list[Batch], *, vectors: int, steps: int) -> Values:
        nodes, weights = solver(counter, p, batches).density(iter=steps, n_v=vectors)
        first = [[complex(x).real for x in w[0]] for w in weights]
        return _trace(p, [[complex(x).real for x in n] for n in nodes], first), 0.0

    cached = "`try_cache=True`, its fast mode"
    notes = {"top": cached, "density": f"{cached}; it returns a whole matrix as weights: its first row is used"}
    return Peer(product, top, density, power_rungs(), notes=notes)


def curvlinops() -> Peer:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    def operator(p: Problem, batches: list[Batch]) -> Any:
        # num_data counts sequences here, and the loss is a mean over them: no factor between its Hessian and ours.
        return HessianLinearOperator(p.module, p.loss, _parameters(p), batches, check_deterministic=False, num_data=p.n)

    def product(p: Problem, batches: list[Batch], v: Tensor) -> Tensor:
        found: Tensor = operator(p, batches) @ v
        return found.detach()

    def top(counter: Counter, p: Problem, batches: list[Batch], *, ncv: int, tol: float) -> Values:
        inner = operator(p, batches).to_scipy()

        def mv(v: Any) -> Any:
            counter.tick()
            return inner @ v

        op = LinearOperator(inner.shape, matvec=mv, dtype=inner.dtype)
        v0 = np.random.default_rng(0).standard_normal(inner.shape[0]).astype(inner.dtype)
        values = eigsh(op, k=K, which="LM", ncv=ncv, tol=tol, v0=v0, return_eigenvectors=False)
        return torch.as_tensor(values.copy()), 0.0

    rungs = [{"ncv": c, "tol": t} for c in (20, 22, 25, 28, 30, 35, 40, 50, 60) for t in (1e-1, 1e-2)]
    rungs += [{"ncv": c, "tol": t} for c, t in ((30, 1e-3), (40, 1e-3), (40, 1e-4), (60, 1e-5))]
    return Peer(product, top, None, rungs, ahead=6, notes={"top": "its operator in scipy's `eigsh`"})


def eigenthings() -> Peer:
    from hessian_eigenthings import HessianOperator, lanczos, spectral_density, supervised_loss

    class Counting(HessianOperator):  # type: ignore[misc]
        counter: Counter

        def matvec(self, v: Tensor) -> Any:
            self.counter.tick()
            return super().matvec(v)

    def operator(counter: Counter, p: Problem, batches: list[Batch]) -> Any:
        found = Counting(p.module, batches, supervised_loss(p.loss))
        found.counter = counter
        return found

    def product(p: Problem, batches: list[Batch], v: Tensor) -> Tensor:
        found: Tensor = operator(Counter(), p, batches).matvec(v)
        return found

    def top(counter: Counter, p: Problem, batches: list[Batch], *, max_iter: int) -> Values:
        found = lanczos(operator(counter, p, batches), k=K, max_iter=max_iter, tol=1e-12, which="LM", seed=0)
        return found.eigenvalues, 0.0

    def density(counter: Counter, p: Problem, batches: list[Batch], *, vectors: int, steps: int) -> Values:
        found = spectral_density(operator(counter, p, batches), num_runs=vectors, lanczos_steps=steps, seed=0)
        nodes, weights = torch.as_tensor(found.raw_eigenvalues), torch.as_tensor(found.raw_weights)
        return _trace(p, nodes.reshape(vectors, -1), weights.reshape(vectors, -1)), 0.0

    rungs = [{"max_iter": m} for m in (20, 22, 25, 28, 30, 35, 40, 50, 60, 80)]
    return Peer(product, top, density, rungs)


PEERS: dict[str, Callable[[], Peer]] = {
    "PyHessian": pyhessian,
    "Landscaper": landscaper,
    "curvlinops + eigsh": curvlinops,
    "hessian-eigenthings": eigenthings,
}
