"""The spectrum asked of PyHessian: a witness for cross-checks, not the default."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective

__all__ = ["pyhessian_eigenpairs"]


class _FlatModule(nn.Module):
    """The objective as PyHessian wants it: a module whose one parameter is w and whose output is the mean loss.

    PyHessian draws float32 vectors, so the parameter is float32 and is cast on the way in; the loss itself is
    computed in the objective's dtype.
    """

    def __init__(self, objective: Objective, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w.to(torch.float32, copy=True))
        self._objective = [objective]  # in a list, so that it is not taken for a submodule

    def forward(self, _: Tensor) -> Tensor:
        objective = self._objective[0]
        w = self.w.to(objective.dtype)
        return objective.chunks.total(w) / objective.chunks.mass


def pyhessian_eigenpairs(
    objective: Objective, w: Tensor, *, k: int, tol: float, max_iterations: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The k eigenvalues of largest magnitude by PyHessian's power iteration, with unit eigenvectors (P, k).

    Its stopping rule is "the value changed by less than tol", which says nothing about the error: read the residuals.

    Raises:
        LandscapeError: if PyHessian is not installed.
    """
    try:
        from pyhessian import hessian
    except ImportError as error:
        raise LandscapeError('engine "pyhessian" needs the package pyhessian: pip install pyhessian.') from error
    module = _FlatModule(objective, objective.vector(w))
    nothing = torch.zeros(1, device=objective.device)
    devices = [objective.device] if objective.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        # It calls backward(create_graph=True), about which torch warns: the graph dies with `module`.
        warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
        torch.random.manual_seed(seed)
        solver = hessian(module, lambda y, _: y, data=(nothing, nothing), cuda=objective.device.type == "cuda")
        values, vectors = solver.eigenvalues(maxIter=max_iterations, tol=tol, top_n=k)
    basis = torch.stack([v[0].detach().to(objective.dtype) for v in vectors], dim=1)
    module.w.grad = None
    order = sorted(range(k), key=lambda i: -values[i])
    basis = basis / basis.norm(dim=0).clamp(min=torch.finfo(basis.dtype).tiny)
    return torch.tensor([values[i] for i in order], dtype=objective.dtype, device=objective.device), basis[:, order]
