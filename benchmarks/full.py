"""The question `full`: every eigenvalue of the toy, by products with all unit vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ours import Ours
from problems import Problem
from timing import Outcome, error_of, row, say
from torch import Tensor

SLICE = 64
"""Columns that one method makes before it is the next one's turn."""

REFERENCE = "loop over a kept graph"

Columns = Callable[[Tensor], Tensor]


def kept_graph(p: Problem) -> tuple[Columns, float]:
    """What many write by hand: the gradient's graph, kept, differentiated once per unit vector."""
    start = time.perf_counter()
    params = [q for q in p.module.parameters() if q.requires_grad]
    inputs, targets = p.data
    gradient = torch.cat(
        [g.reshape(-1) for g in torch.autograd.grad(p.loss(p.module(inputs), targets), params, create_graph=True)]
    )

    def one(v: Tensor) -> Tensor:
        parts = torch.autograd.grad(gradient, params, grad_outputs=v, retain_graph=True)
        return torch.cat([x.reshape(-1) for x in parts])

    return lambda V: torch.stack([one(v) for v in V.T.contiguous()], 1), time.perf_counter() - start


def _ours(strategy: str, block: int) -> Callable[[Problem], tuple[Columns, float]]:
    def make(p: Problem) -> tuple[Columns, float]:
        H, ready = Ours(strategy, block).hessian(p)
        return H.mm, ready

    return make


WHOLE = "ours, default"
"""Makes the whole matrix at once, using its symmetry and the zeros of unit vectors."""

METHODS: dict[str, Callable[[Problem], tuple[Columns, float]]] = {
    "ours, default, 8 in step": _ours("auto", 8),
    "ours, cached": _ours("cached", 1),
    "ours, compiled, 8 in step": _ours("compiled", 8),
    REFERENCE: kept_graph,
}


def run_full(p: Problem, *, columns: int | None, repeats: int, skip: Sequence[str] = ()) -> dict[str, Any]:
    """Seconds for all columns of the Hessian and for its eigenvalues; fewer `columns` are scaled up, and it is said.

    The methods take turns after every few columns, so that a busy minute of the machine hits them all.
    """
    size = p.objective.size
    n = min(columns or size, size)
    index = torch.linspace(0, size - 1, n).round().long()  # a subset is spread over all parameters
    functions: dict[str, Columns] = {}
    first: dict[str, float] = {}
    for name, make in METHODS.items():
        if name == REFERENCE or not any(s in name for s in skip):
            functions[name], first[name] = make(p)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in (WHOLE, *functions)}
    first[WHOLE] = 0.0
    for r in range(repeats):
        found, seconds = _columns(functions, index, size)
        start = time.perf_counter()
        found[WHOLE] = p.objective.hessian(p.objective.w0).dense()[:, index]
        seconds[WHOLE] = (time.perf_counter() - start) * n / size  # it is never a part, so not scaled up below
        say(f"full, repeat {r + 1}: " + ", ".join(f"{name} {s:.1f} s" for name, s in seconds.items()))
        values, solve = _values(found, size) if n == size else ({}, 0.0)
        for name, s in seconds.items():
            outcomes[name].append(Outcome(values.get(name, found[name]), size, s * size / n + solve))
    reference = outcomes[REFERENCE][0].values
    rows = {}
    for name, done in outcomes.items():
        error = error_of(done[0].values, reference) if n == size else _difference(done[0].values, reference)
        compiled = first[name] if "compiled" in name else 0.0
        rows[name] = row(done, first_ready=compiled, error=error, reached=True)
    return {
        "columns": n,
        "of": size,
        "extrapolated": n < size,
        "eigvalsh_s": solve,
        "error_of": "eigenvalues" if n == size else "columns",
        "methods": rows,
    }


def _columns(functions: dict[str, Columns], index: Tensor, size: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    seconds = dict.fromkeys(functions, 0.0)
    parts: dict[str, list[Tensor]] = {name: [] for name in functions}
    for piece in index.split(SLICE):
        V = torch.zeros(size, len(piece))
        V[piece, torch.arange(len(piece))] = 1.0
        for name, product in functions.items():
            start = time.perf_counter()
            parts[name].append(product(V).detach())
            seconds[name] += time.perf_counter() - start
    return {name: torch.cat(found, 1) for name, found in parts.items()}, seconds


def _values(found: dict[str, Tensor], size: int) -> tuple[dict[str, Tensor], float]:
    """Eigenvalues of each matrix, and the seconds that one LAPACK call takes: the same for all, so added to all."""
    start = time.perf_counter()
    values = {name: torch.linalg.eigvalsh((H + H.T) / 2) for name, H in found.items()}
    return values, (time.perf_counter() - start) / len(found) if size else 0.0


def _difference(found: Tensor, reference: Tensor) -> float:
    return float((found - reference).abs().max() / reference.abs().max())
