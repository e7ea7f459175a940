"""GPT-2-like models of all sizes, and every way to their largest eigenvalues, for `size.py`."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from problems import MeanLoss
from torch import Tensor, nn

from landscape import Objective
from landscape.curvature.symmetric import Symmetric
from landscape.probes import spectrum

SHAPES: dict[str, dict[str, int]] = {
    "5 thousand": {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 64, "n_positions": 32},
    "70 thousand": {"n_embd": 48, "n_layer": 2, "n_head": 4, "vocab_size": 200, "n_positions": 64},
    "0.5 million": {"n_embd": 128, "n_layer": 2, "n_head": 4, "vocab_size": 500, "n_positions": 64},
    "3 million": {"n_embd": 256, "n_layer": 3, "n_head": 4, "vocab_size": 1000, "n_positions": 64},
    "11 million": {"n_embd": 384, "n_layer": 6, "n_head": 4, "vocab_size": 1000, "n_positions": 64},
    "124 million": {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
}
"""Settings of `GPT2Config`; the last is GPT-2 small."""


class Logits(nn.Module):
    """A GPT-2 that takes tokens (N, n) and gives logits (N, n, V), as all libraries can call it."""

    def __init__(self, shape: dict[str, int]) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        # Attention spelt out: not every library can differentiate the fused kernel twice.
        config = GPT2Config(bos_token_id=0, eos_token_id=0, attn_implementation="eager", **shape)
        self.inner = GPT2LMHeadModel(config).eval()

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token."""
        found: Tensor = self.inner(input_ids=tokens, use_cache=False).logits
        return found


def per_sample(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean loss of each sequence (N,), in nats per token."""
    found = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return found.mean(1)


@dataclass
class Job:
    """A model with its data, and what is asked."""

    model: str
    sequences: int
    k: int
    tol: float
    device: str
    memory: int
    module: nn.Module = field(init=False)
    tokens: Tensor = field(init=False)

    def __post_init__(self) -> None:
        shape = SHAPES[self.model]
        self.module = Logits(shape).to(self.device)
        tokens = torch.randint(shape["vocab_size"], (self.sequences, 32), generator=torch.Generator().manual_seed(0))
        self.tokens = tokens.to(self.device)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """That vary."""
        return [p for p in self.module.parameters() if p.requires_grad]

    def objective(self) -> Objective:
        """Ours."""
        chunk = min(4, self.sequences)
        return Objective(self.module, per_sample, (self.tokens, self.tokens), dtype=torch.float32, chunk=chunk)


class Clock:
    """Counts products and the seconds in them."""

    def __init__(self) -> None:
        self.n, self.seconds = 0, 0.0

    def timed(self, product: Callable[..., Any]) -> Callable[..., Any]:
        """The same product, counted."""

        def call(*args: Any, **kw: Any) -> Any:
            start = time.perf_counter()
            out = product(*args, **kw)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.n, self.seconds = self.n + 1, self.seconds + time.perf_counter() - start
            return out

        return call


def ours(job: Job, clock: Clock, *, proof: bool = True) -> dict[str, Any]:
    """`spectrum`, with or without the proof that no eigenvalue was missed."""
    o = job.objective()
    Symmetric.mv = clock.timed(Symmetric.mv)  # type: ignore[method-assign]
    found = spectrum(o, o.w0, seed=0, k=job.k, tol=job.tol, check_missed=proof, memory=job.memory)
    return {
        "eigenvalues": found.eigenvalue.values.tolist(),
        "products": int(found.n_products),
        "converged": bool(found.converged.all()),
        "resolved": bool(found.resolved),
        "largest residual": float(found.residual.max()),
    }


def ours_alone(job: Job, clock: Clock) -> dict[str, Any]:
    """Without the proof: like for like with what others do."""
    return ours(job, clock, proof=False)


def _eigsh(operator: Any, job: Job) -> dict[str, Any]:
    from scipy.sparse.linalg import eigsh

    values = eigsh(operator, k=job.k, which="LA", tol=job.tol, return_eigenvectors=False)
    return {"eigenvalues": sorted(map(float, values), reverse=True), "converged": True}


def eigsh_ours(job: Job, clock: Clock) -> dict[str, Any]:
    """SciPy's `eigsh` with our product."""
    o = job.objective()
    Symmetric.mv = clock.timed(Symmetric.mv)  # type: ignore[method-assign]
    return _eigsh(o.hessian(o.w0).scipy(), job)


def curvlinops(job: Job, clock: Clock) -> dict[str, Any]:
    """Its operator in SciPy's `eigsh`."""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator

    data = [(job.tokens, job.tokens)]
    operator = HessianLinearOperator(
        job.module, MeanLoss(per_sample), job.parameters, data, check_deterministic=False, num_data=job.sequences
    ).to_scipy()
    return _eigsh(LinearOperator(operator.shape, matvec=clock.timed(operator.matvec), dtype=operator.dtype), job)


def eigenthings(job: Job, clock: Clock) -> dict[str, Any]:
    """hessian-eigenthings' Lanczos of 60 steps. Beyond 50 its default does not re-orthogonalise, and gives copies."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    operator = HessianOperator(job.module, [(job.tokens, job.tokens)], supervised_loss(MeanLoss(per_sample)))
    operator.matvec = clock.timed(operator.matvec)
    found = lanczos(operator, k=job.k, max_iter=60, tol=job.tol, which="LA", seed=0, reorthogonalize=True)
    return {"eigenvalues": found.eigenvalues.tolist(), "converged": None}


def pyhessian(job: Job, clock: Clock) -> dict[str, Any]:
    """Its power iteration, by its own stopping rule at this tolerance; that finds the largest in magnitude."""
    import sys

    import pyhessian as package

    inner = sys.modules["pyhessian.hessian"]
    inner.hessian_vector_product = clock.timed(inner.hessian_vector_product)
    torch.manual_seed(0)
    found = package.hessian(job.module, MeanLoss(per_sample), data=(job.tokens, job.tokens), cuda=job.device != "cpu")
    values, _ = found.eigenvalues(maxIter=200, tol=job.tol, top_n=job.k)
    return {"eigenvalues": sorted(map(float, values), reverse=True), "converged": None}


METHODS: dict[str, Callable[[Job, Clock], dict[str, Any]]] = {
    "ours": ours,
    "ours, no proof": ours_alone,
    "eigsh, our product": eigsh_ours,
    "curvlinops + eigsh": curvlinops,
    "hessian-eigenthings": eigenthings,
    "PyHessian": pyhessian,
}


def measure(method: str, job: Job) -> dict[str, Any]:
    """One solve in this process: seconds, seconds in products, peak memory of the device and of the process."""
    clock = Clock()
    if job.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = METHODS[method](job, clock)
    if job.device != "cpu":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    on_device = {} if job.device == "cpu" else {"device GiB": torch.cuda.max_memory_allocated() / 2**30}
    return {
        "parameters": sum(p.numel() for p in job.parameters),
        "seconds": seconds,
        "seconds in products": clock.seconds,
        "products": clock.n,
        "host GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        **on_device,
        **found,
    }
