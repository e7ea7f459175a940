"""The curvature matrices of a mean loss as operators, and who decides how their products are computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from landscape.curvature.differences import DifferenceProduct
from landscape.curvature.products import (
    DEFAULT_MEMORY,
    hessian_product,
    value_and_gradient,
)
from landscape.curvature.replay import replayed
from landscape.curvature.symmetric import Symmetric
from landscape.errors import FallbackWarning, KernelError, LandscapeError
from landscape.loss.checks import refuse_not_finite
from landscape.loss.chunks import Chunks
from landscape.loss.derivatives import NO_PRODUCT, Route
from landscape.loss.failures import explained
from landscape.loss.planner import FEW, remembered, seconds_of, worth
from landscape.loss.samples import take
from landscape.loss.terms import Kind, explained_product, of_mean, term

if TYPE_CHECKING:
    from landscape.curvature.linearised import Linearised
    from landscape.curvature.native import NativeHessian

__all__ = [
    "BLOCK",
    "Kind",
    "Strategy",
    "chosen",
    "curvature_operator",
    "mean_gradient",
    "native_kernel",
    "native_obstacle",
]

Strategy = Literal["auto", "cached", "forward", "compiled", "native", "difference"]
"""How products with a curvature matrix are computed; see `Objective.hessian`."""
_VALID = {
    "hessian": ("cached", "forward", "compiled", "native", "difference"),
    "ggn": ("forward", "compiled"),
}

BLOCK = 8
"""Vectors multiplied at once by a compiled product; more leave the cache."""


def chosen(
    chunks: Chunks, kind: Kind, w: Tensor, *, products: int, block: int, check: Callable[[Route], None]
) -> Literal["native", "compiled", "cached", "forward"]:
    """What "auto" means for a matrix at w: the one place where this is decided.

    For the Gauss-Newton matrix "forward". For the Hessian the native kernel where it knows the loss and works; else
    compiled, where so many products pay for it (`landscape.loss.planner`: measured) and it works; else cached, which
    always works. What should have worked and does not is said in one `FallbackWarning`. Decided once for all points.

    Args:
        chunks: the losses.
        kind: of matrix.
        w: (P,).
        products: how many are to come.
        block: vectors that a compiled product would multiply at once.
        check: raises if derivatives by a route are not to be had, or not those of the loss.
    """
    if kind == "ggn":
        return "forward"
    if native_obstacle(chunks) is None:
        return "native"
    return "compiled" if _compiles(chunks, w, products, block, check) else "cached"


def curvature_operator(
    chunks: Chunks, kind: Kind, w: Tensor, *, strategy: Strategy, block: int, memory: int
) -> Symmetric:
    """The operator of the mean loss behind `Objective.hessian` and `Objective.ggn`, by any strategy but "auto"."""
    if strategy not in _VALID[kind]:
        *most, last = ("auto", *_VALID[kind])
        raise LandscapeError(f"expected strategy {', '.join(most)} or {last} for the {kind}, found {strategy!r}.")
    w = w.clone()
    if strategy == "native":
        kernel = _native(chunks, memory)
        at = chunks.ranks.together(lambda: kernel.at(w))
        return of_mean(chunks, strategy, at.mv, at.mm, dense=at.dense)
    if strategy == "difference":
        differences = DifferenceProduct(lambda u: mean_gradient(chunks, u), w)
        return Symmetric(
            chunks.layout.size,
            chunks.dtype,
            differences.mv,
            device=chunks.device,
            error=lambda: differences.error,
            strategy=strategy,
        )
    if strategy == "cached":

        def prepared() -> Callable[[Tensor], Tensor]:
            with chunks.plain(), explained("second derivatives", NO_PRODUCT["reverse"]):
                terms = [chunks.sum(index) for index in chunks.mine()]
                return replayed(lambda: hessian_product(terms, w, memory=memory), chunks.device)

        return of_mean(chunks, strategy, explained_product(chunks.ranks.together(prepared), "reverse"))
    if strategy == "forward":
        function, batches = term(chunks, kind), [chunks.batch(index) for index in chunks.mine()]
        product = replayed(lambda: lambda v: torch.stack([function(w, v, b) for b in batches]).sum(0), chunks.device)
        return of_mean(chunks, strategy, explained_product(product, "forward"))
    linear = _linearised(chunks, kind, w, block, memory)
    one, many = replayed(lambda: linear.mv, chunks.device), replayed(lambda: linear.mm, chunks.device)
    return of_mean(chunks, strategy, one, many if block > 1 else None)


def mean_gradient(chunks: Chunks, w: Tensor) -> Tensor:
    """Gradient of the mean loss at w, (P,).

    Raises:
        LandscapeError: if the loss is not finite at w, or has no gradient.
    """

    def both(index: slice) -> Tensor:
        with explained("the gradient", "Without one, only probes of the loss itself can be asked, such as samples."):
            value, slope = value_and_gradient(chunks.sum(index), w)
        return torch.cat([slope, value.reshape(1).to(slope)])  # one sum over all ranks

    with chunks.plain():
        found = chunks.mean((both(index) for index in chunks.mine()), 1 + len(w))
    if not bool(torch.isfinite(found[-1])):
        refuse_not_finite(chunks, w)
    return found[:-1]


def native_obstacle(chunks: Chunks) -> str | None:
    """None if the native kernel can be used for these losses here, else the reason why not, in words.

    A kernel that is to be had in principle is compiled and checked. If that fails there is one `FallbackWarning`.
    """
    if "obstacle" not in chunks.kernels:
        chunks.kernels["obstacle"] = chunks.ranks.first(chunks.ranks.in_turn(lambda: _obstacle(chunks)))
    obstacle: str | None = chunks.kernels["obstacle"]
    return obstacle


def native_kernel(chunks: Chunks) -> NativeHessian | None:
    """The native kernel for these losses here, where it can be used."""
    return _kernel(chunks, DEFAULT_MEMORY) if native_obstacle(chunks) is None else None


def _obstacle(chunks: Chunks) -> str | None:
    """That of this process."""
    from landscape.curvature.native_build import compiler

    reason = _unsupported(chunks) or ("there is no C++ compiler" if compiler() is None else None)
    if reason is None:
        try:
            _kernel(chunks, DEFAULT_MEMORY)
        except KernelError as error:
            reason = error.reason
            _fall_back("native", reason)
    return reason


def _linearised(chunks: Chunks, kind: Kind, w: Tensor, block: int, memory: int) -> Linearised:
    """What is compiled, not yet compiled."""
    from landscape.curvature.linearised import Linearised  # the compiler's modules take a second to load

    traces = chunks.kernels.setdefault(kind, {})
    batches = [chunks.batch(index) for index in chunks.mine()] or [chunks.batch(slice(1))]
    return Linearised(term(chunks, kind), w, batches, block=block, memory=memory, traces=traces)


def _compiles(chunks: Chunks, w: Tensor, products: int, block: int, check: Callable[[Route], None]) -> bool:
    """Whether compiling products pays and works here, which some of them tell; if it fails, a warning says why."""
    from landscape.curvature.native_build import compiler

    key, known, ranks = ("compiles", block), chunks.kernels, chunks.ranks
    if key in known or products <= FEW:  # False: it failed, or was slower
        return bool(known.get(key))
    if ranks.first("no compiler" if chunks.device.type == "cpu" and compiler() is None else None):
        return False

    def operator(strategy: Strategy) -> Symmetric:
        return curvature_operator(chunks, "hessian", w, strategy=strategy, block=block, memory=DEFAULT_MEMORY)

    def linear() -> Linearised:
        return _linearised(chunks, "hessian", w, block, DEFAULT_MEMORY)

    try:
        if "plain" not in known:
            known["plain"] = seconds_of(operator("cached"))
        each = known["plain"]
        pays = ranks.together(lambda: worth(linear, each, products=products, block=block))
        if ranks.first(None if pays else "it does not pay"):
            return False
        check("forward")
        faster = remembered(linear, operator("compiled"), plain=each, block=block)
        known[key] = ranks.first(None if faster else "it is slower") is None
    except LandscapeError as error:
        _fall_back("compiled", str(error).partition(". Use strategy=")[0])
        known[key] = False
    return bool(known[key])


_SAID: set[str] = set()


def _fall_back(strategy: str, reason: str) -> None:
    """Say, once per process, that `strategy` would have been chosen and why torch's slower way is taken instead."""
    if strategy not in _SAID:
        _SAID.add(strategy)
        what = 'curvature takes the slower strategy "cached", which gives the same numbers'
        text = f"{what}. {strategy!r} failed: {reason.rstrip('.')}."
        warnings.warn(FallbackWarning(text), stacklevel=2)


def _unsupported(chunks: Chunks) -> str | None:
    from landscape.curvature.native import supported

    c = chunks
    if c.weights is not None:
        return "the kernel knows samples of equal weight only"
    if c.n_samples < c.ranks.size:
        return f"of {c.ranks.size} ranks some have none of the {c.n_samples} samples"
    return supported(c.module, c.per_sample_loss, c.data, dtype=c.dtype, device=c.device, layout=c.layout)


def _kernel(chunks: Chunks, memory: int) -> NativeHessian:
    from landscape.curvature.native import NativeHessian

    key = ("native", memory)
    if key not in chunks.kernels:
        data = take(chunks.data, slice(chunks.share.start, chunks.share.stop))
        chunks.kernels[key] = NativeHessian(chunks.module, data, chunks.layout, chunks.dtype, memory=memory)
    found: NativeHessian = chunks.kernels[key]
    return found


def _native(chunks: Chunks, memory: int) -> NativeHessian:
    """The kernel that was asked for by name."""
    if ("native", memory) in chunks.kernels:
        return _kernel(chunks, memory)
    if (reason := _unsupported(chunks)) is not None:
        raise LandscapeError(f'strategy="native" cannot be used: {reason}. Use strategy="cached".')
    return chunks.ranks.in_turn(lambda: _kernel(chunks, memory))
