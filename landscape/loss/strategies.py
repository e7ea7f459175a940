"""The curvature matrices of an objective as operators, by the strategy asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from landscape.curvature.differences import DifferenceProduct
from landscape.curvature.products import DEFAULT_MEMORY, forward_product, gauss_newton_product, hessian_product
from landscape.curvature.symmetric import Symmetric
from landscape.errors import FallbackWarning, KernelError, LandscapeError
from landscape.loss.derivatives import NO_PRODUCT, Route
from landscape.loss.failures import explained

if TYPE_CHECKING:
    from landscape.curvature.native import NativeHessian
    from landscape.loss.objective import Objective

__all__ = ["Kind", "Strategy", "curvature_operator", "fall_back", "native_obstacle"]

Strategy = Literal["auto", "cached", "forward", "compiled", "native", "difference"]
"""How products with a curvature matrix are computed; see `Objective.hessian`."""
Kind = Literal["hessian", "ggn"]
_VALID = {
    "hessian": ("auto", "cached", "forward", "compiled", "native", "difference"),
    "ggn": ("auto", "forward", "compiled"),
}


def curvature_operator(
    objective: Objective, kind: Kind, w: Tensor, *, strategy: Strategy, block: int, memory: int
) -> Symmetric:
    """The operator of the mean loss behind `Objective.hessian` and `Objective.ggn`."""
    *most, last = _VALID[kind]
    if strategy not in _VALID[kind]:
        raise LandscapeError(f"expected strategy {', '.join(most)} or {last} for the {kind}, found {strategy!r}.")
    w = objective.vector(w).clone()
    if strategy == "auto":
        strategy = "forward" if kind == "ggn" else "cached" if native_obstacle(objective) else "native"
    if strategy == "native":
        return _native(objective, w, memory)
    if strategy == "difference":
        differences = DifferenceProduct(objective.grad, w)
        return Symmetric(
            objective.size, objective.dtype, differences.mv, device=objective.device, error=lambda: differences.error
        )
    if strategy == "cached":
        terms = [objective.chunk_sum(c) for c in objective.chunks()]
        with explained("second derivatives", NO_PRODUCT["reverse"]):
            product = hessian_product(terms, w, memory=memory)
        return _mean(objective, _explained(product, "reverse"))
    term = _term(objective, kind)
    batches = [objective.batch(c) for c in objective.chunks()]
    if strategy == "forward":
        return _mean(objective, _explained(lambda v: torch.stack([term(w, v, b) for b in batches]).sum(0), "forward"))
    from landscape.curvature.linearised import Linearised  # the compiler's modules take a second to load

    traces = objective._kernels.setdefault(kind, {})
    linear = Linearised(term, w, batches, block=block, memory=memory, traces=traces)
    return _mean(objective, linear.mv, linear.mm if block > 1 else None)


def native_obstacle(objective: Objective) -> str | None:
    """None if the native kernel can be used for this objective here, else the reason why not, in words.

    A kernel that is to be had in principle is compiled and checked. If that fails there is one `FallbackWarning`.
    """
    if "obstacle" not in objective._kernels:
        from landscape.curvature.native_build import compiler

        reason = _unsupported(objective) or ("there is no C++ compiler" if compiler() is None else None)
        if reason is None:
            try:
                _kernel(objective, DEFAULT_MEMORY)
            except KernelError as error:
                reason = error.reason
                fall_back("native", reason)
        objective._kernels["obstacle"] = reason
    obstacle: str | None = objective._kernels["obstacle"]
    return obstacle


_SAID: set[str] = set()


def fall_back(strategy: str, reason: str) -> None:
    """Say, once per process, that `strategy` would have been chosen and why "cached" is used instead."""
    if strategy not in _SAID:
        _SAID.add(strategy)
        what = 'curvature takes the slower strategy "cached", which gives the same numbers'
        text = f"{what}. {strategy!r} failed: {reason.rstrip('.')}."
        warnings.warn(FallbackWarning(text), stacklevel=2)


def _unsupported(objective: Objective) -> str | None:
    from landscape.curvature.native import supported

    return supported(
        objective._module,
        objective._per_sample_loss,
        objective._data,
        dtype=objective.dtype,
        device=objective.device,
        layout=objective.layout,
    )


def _kernel(objective: Objective, memory: int) -> NativeHessian:
    from landscape.curvature.native import NativeHessian

    key = ("native", memory)
    if key not in objective._kernels:
        objective._kernels[key] = NativeHessian(
            objective._module, objective._data, objective.layout, objective.dtype, memory=memory
        )
    found: NativeHessian = objective._kernels[key]
    return found


def _native(objective: Objective, w: Tensor, memory: int) -> Symmetric:
    if ("native", memory) not in objective._kernels and (reason := _unsupported(objective)) is not None:
        raise LandscapeError(f'strategy="native" cannot be used: {reason}. Use strategy="cached".')
    at = _kernel(objective, memory).at(w)
    return _mean(objective, at.mv, at.mm, dense=at.dense)


def _explained(product: Callable[[Tensor], Tensor], route: Route) -> Callable[[Tensor], Tensor]:
    def safe(v: Tensor) -> Tensor:
        with explained("a product with second derivatives", NO_PRODUCT[route]):
            return product(v)

    return safe


def _mean(
    objective: Objective,
    mv: Callable[[Tensor], Tensor],
    mm: Callable[[Tensor], Tensor] | None = None,
    *,
    dense: Callable[[], Tensor] | None = None,
) -> Symmetric:
    """A sum over the samples as an operator of the mean."""
    n = objective.n_samples
    return Symmetric(
        objective.size,
        objective.dtype,
        lambda v: mv(v) / n,
        mm=None if mm is None else lambda V: mm(V) / n,
        dense=None if dense is None else lambda: dense() / n,
        device=objective.device,
    )


def _term(objective: Objective, kind: Kind) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """F(w, v, batch): the product with v of the sum over one batch."""
    loss = objective._per_sample_loss

    def hessian(w: Tensor, v: Tensor, batch: Any) -> Tensor:
        return forward_product(lambda u: objective.apply(u, batch, loss).sum(), w, v)

    def ggn(w: Tensor, v: Tensor, batch: Any) -> Tensor:
        def outputs(u: Tensor) -> Any:
            return objective.apply(u, batch, lambda y, _: y)

        return gauss_newton_product(outputs, lambda y: loss(y, batch[1]).sum(), w, v)

    return hessian if kind == "hessian" else ggn
