"""The problem of `curvature.py` and the methods that it compares, each called in its own way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape import Objective, Symmetric
from landscape.models import ARCHITECTURES, AttentionConfig, build_model
from landscape.probes.linalg import lanczos, lanczos_quadrature
from landscape.probes.linalg.lockstep import lockstep_quadrature
from landscape.tasks import MarkovConfig, MarkovTask

K = 10


class MeanLoss(nn.Module):
    """The mean over sequences, in the dress that curvlinops wants: a module with a `reduction`."""

    reduction = "mean"

    def __init__(self, per_sample: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self._per_sample = per_sample

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets -> a number."""
        return self._per_sample(outputs, targets).mean()


@dataclass
class Problem:
    """One loss, in the forms that the candidates want it."""

    module: nn.Module
    per_sample: Callable[[Tensor, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    objective: Objective
    blocked: Objective  # the same in chunks that suit blocks of vectors
    batches: list[tuple[Tensor, Tensor]]
    n: int


@dataclass(frozen=True)
class Outcome:
    """What one run of a method found; `products` is None where the method does not say."""

    values: Tensor
    products: int | None
    seconds: float
    setup: float = 0.0


Method = Callable[..., Outcome]


def make_problem(*, chunk: int | None, width: int, n: int, steps: int) -> Problem:
    task = MarkovTask(MarkovConfig(n_train=n, n_probe=n, n_test=2))
    model = build_model(
        AttentionConfig(width=width, **ARCHITECTURES["looped"](3)),
        vocabulary=task.vocabulary,
        length=task.length,
        seed=0,
    )
    split = task.split("probe")

    loss = MeanLoss(task.per_sample_loss)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(model(split.inputs), split.targets).backward()
        optimiser.step()
    for parameter in model.parameters():
        parameter.grad = None
    objective = Objective(model, task.per_sample_loss, (split.inputs, split.targets), dtype=torch.float32, chunk=chunk)
    blocked = Objective(
        model, task.per_sample_loss, (split.inputs, split.targets), dtype=torch.float32, chunk=min(chunk or n, 128)
    )
    batches = [(split.inputs[c], split.targets[c]) for c in objective.chunks()]
    return Problem(model, task.per_sample_loss, loss, objective, blocked, batches, n)


# -- ours ---------------------------------------------------------------------------------------------------------


def ours(strategy: str, *, block: int = 1) -> dict[str, Method]:
    def hessian(p: Problem) -> tuple[Symmetric, float]:
        start = time.perf_counter()
        objective = p.objective if block == 1 else p.blocked
        H = objective.hessian(objective.w0, strategy=strategy, block=block)  # type: ignore[arg-type]
        if strategy == "compiled":  # trace and compile, or find what is compiled already
            H.mm(objective.w0[:, None].expand(-1, block))
        return H, time.perf_counter() - start

    def top(p: Problem, tol: float) -> Outcome:
        H, setup = hessian(p)
        start = time.perf_counter()
        pairs = lanczos(H, k=K, which="largest", tol=tol, seed=0)
        return Outcome(pairs.values, pairs.n_products, time.perf_counter() - start, setup)

    def density(p: Problem, vectors: int, steps: int) -> Outcome:
        H, setup = hessian(p)
        start = time.perf_counter()
        if block == 1:
            q = lanczos_quadrature(H, n_vectors=vectors, n_steps=steps, seed=0)
        else:
            q = lockstep_quadrature(H, n_vectors=vectors, n_steps=steps, seed=0, block=block)
        trace = p.objective.size * (q.weight * q.node.nan_to_num()).sum(1)
        return Outcome(trace, q.n_products, time.perf_counter() - start, setup)

    return {"top": top, "density": density} if block == 1 else {"density": density}


OURS_LADDER = [{"tol": t} for t in (1e-2, 1e-3, 1e-4, 1e-5)]


# -- peers --------------------------------------------------------------------------------------------------------


def pyhessian() -> dict[str, Method]:
    import pyhessian as package

    inner = sys.modules["pyhessian.hessian"]
    calls = {"n": 0}
    single = inner.hessian_vector_product

    class Counting(package.hessian):  # type: ignore[misc,name-defined]
        def dataloader_hv_product(self, v: Any) -> Any:
            calls["n"] += 1
            return super().dataloader_hv_product(v)

    def counted(*args: Any) -> Any:
        calls["n"] += 1
        return single(*args)

    inner.hessian_vector_product = counted

    def solver(p: Problem) -> Any:
        calls["n"] = 0
        if len(p.batches) == 1:
            return Counting(p.module, p.loss, data=p.batches[0], cuda=False)
        return Counting(p.module, p.loss, dataloader=p.batches, cuda=False)

    def top(p: Problem, tol: float, max_iterations: int) -> Outcome:
        torch.manual_seed(0)
        start = time.perf_counter()
        values, _ = solver(p).eigenvalues(maxIter=max_iterations, tol=tol, top_n=K)
        return Outcome(torch.tensor(values), calls["n"], time.perf_counter() - start)

    def density(p: Problem, vectors: int, steps: int) -> Outcome:
        # It calls torch.eig, which is gone from torch; this repair makes the comparison possible.
        torch.eig = lambda T, **_: _as_eig(T)  # type: ignore[attr-defined]
        torch.manual_seed(0)
        start = time.perf_counter()
        nodes, weights = solver(p).density(iter=steps, n_v=vectors)
        trace = p.objective.size * (torch.tensor(nodes) * torch.tensor(weights)).sum(1)
        return Outcome(trace, calls["n"], time.perf_counter() - start)

    return {"top": top, "density": density}


def _as_eig(T: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(T)
    return torch.stack([values, torch.zeros_like(values)], 1), vectors


def curvlinops() -> dict[str, Method]:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    def top(p: Problem, ncv: int, tol: float) -> Outcome:
        start = time.perf_counter()
        # num_data counts sequences here, and the loss is a mean over them: no factor between its Hessian and ours.
        params = [q for q in p.module.parameters() if q.requires_grad]
        H = HessianLinearOperator(p.module, p.loss, params, p.batches, check_deterministic=False, num_data=p.n)
        inner, calls = H.to_scipy(), 0

        def mv(v: Any) -> Any:
            nonlocal calls
            calls += 1
            return inner @ v

        op = LinearOperator(inner.shape, matvec=mv, dtype=inner.dtype)
        values = eigsh(op, k=K, which="LM", ncv=ncv, tol=tol, return_eigenvectors=False)
        return Outcome(torch.as_tensor(values.copy()), calls, time.perf_counter() - start)

    return {"top": top}


def eigenthings() -> dict[str, Method]:
    from hessian_eigenthings import HessianOperator, lanczos, spectral_density, supervised_loss

    def operator(p: Problem) -> Any:
        return HessianOperator(p.module, p.batches, supervised_loss(p.loss))

    def top(p: Problem, max_iter: int) -> Outcome:
        start = time.perf_counter()
        found = lanczos(operator(p), k=K, max_iter=max_iter, tol=1e-12, which="LM", seed=0)
        return Outcome(found.eigenvalues, max_iter, time.perf_counter() - start)

    def density(p: Problem, vectors: int, steps: int) -> Outcome:
        start = time.perf_counter()
        found = spectral_density(operator(p), num_runs=vectors, lanczos_steps=steps, seed=0)
        nodes, weights = torch.as_tensor(found.raw_eigenvalues), torch.as_tensor(found.raw_weights)
        trace = p.objective.size * (nodes * weights).reshape(vectors, -1).sum(1)
        return Outcome(trace, vectors * steps, time.perf_counter() - start)

    return {"top": top, "density": density}


CANDIDATES: dict[str, tuple[Callable[[], dict[str, Method]], list[dict[str, Any]]]] = {
    "ours, cached": (lambda: ours("cached"), OURS_LADDER),
    "ours, compiled": (lambda: ours("compiled"), OURS_LADDER),
    "ours, compiled, 5 in step": (lambda: ours("compiled", block=5), []),
    "PyHessian": (pyhessian, [{"tol": t, "max_iterations": m} for t, m in ((1e-3, 100), (1e-4, 300), (1e-5, 1000))]),
    "curvlinops + eigsh": (curvlinops, [{"ncv": c, "tol": t} for c, t in ((20, 1e-2), (24, 1e-3), (30, 1e-4))]),
    "hessian-eigenthings": (eigenthings, [{"max_iter": m} for m in (20, 25, 30, 40, 60)]),
}
