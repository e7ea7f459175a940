"""What operators of a mean loss are made of: the product of one batch, and the mean over all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from landscape.curvature.products import forward_product, gauss_newton_product
from landscape.curvature.symmetric import Symmetric
from landscape.loss.chunks import Chunks
from landscape.loss.derivatives import NO_PRODUCT, Route
from landscape.loss.failures import explained

__all__ = ["Kind", "explained_product", "of_mean", "term"]

Kind = Literal["hessian", "ggn"]


def explained_product(product: Callable[[Tensor], Tensor], route: Route) -> Callable[[Tensor], Tensor]:
    """The product, with what torch cannot do told in one message."""

    def safe(v: Tensor) -> Tensor:
        with explained("a product with second derivatives", NO_PRODUCT[route]):
            return product(v)

    return safe


def of_mean(
    chunks: Chunks,
    strategy: str,
    mv: Callable[[Tensor], Tensor],
    mm: Callable[[Tensor], Tensor] | None = None,
    *,
    dense: Callable[[], Tensor] | None = None,
) -> Symmetric:
    """The sum over a share of the samples as an operator of the mean, in the precision that its dtype says."""
    size, n, ranks, some = chunks.layout.size, chunks.mass, chunks.ranks, bool(chunks.share)

    def plainly(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def divided(v: Tensor) -> Tensor:
            with chunks.plain():
                found = ranks.sum((lambda: product(v)) if some else None, *v.shape)
                # In place, which saves a vector: what is linear in v is a tensor of its own, v, or zero.
                return found / n if _shared(found, v) else found.div_(n)

        return divided

    return Symmetric(
        size,
        chunks.dtype,
        plainly(mv),
        mm=None if mm is None else plainly(mm),
        dense=None if dense is None else lambda: ranks.sum(dense, size, size) / n,
        device=chunks.device,
        strategy=strategy,
    )


def _shared(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def term(chunks: Chunks, kind: Kind) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """F(w, v, batch): the product with v of the sum over one batch."""

    def hessian(w: Tensor, v: Tensor, batch: Any) -> Tensor:
        return forward_product(lambda u: chunks.apply(u, batch, lambda y, _: chunks.batch_sum(y, batch)), w, v)

    def ggn(w: Tensor, v: Tensor, batch: Any) -> Tensor:
        def outputs(u: Tensor) -> Any:
            return chunks.apply(u, batch, lambda y, _: y)

        return gauss_newton_product(outputs, lambda y: chunks.batch_sum(y, batch), w, v)

    return hessian if kind == "hessian" else ggn
