"""Exact Hessian products of a sum of scalar functions: double backward, and forward over reverse."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp

__all__ = [
    "DEFAULT_MEMORY",
    "added",
    "forward_product",
    "gauss_newton_product",
    "gradient",
    "hessian_product",
    "value_and_gradient",
]

DEFAULT_MEMORY = 2 * 2**30
"""Bytes of gradient graphs kept between products by default."""


def gradient(function: Callable[[Tensor], Tensor], w: Tensor) -> Tensor:
    r"""\nabla f(w) of a scalar function of a vector; zeros where f does not depend on w.

    Example:
        >>> import torch
        >>> gradient(lambda w: (w**2).sum(), torch.tensor([1.0, 2.0])).tolist()
        [2.0, 4.0]
    """
    return value_and_gradient(function, w)[1]


def value_and_gradient(function: Callable[[Tensor], Tensor], w: Tensor) -> tuple[Tensor, Tensor]:
    r"""f(w), a scalar, and \nabla f(w), shape (P,).

    Example:
        >>> import torch
        >>> value_and_gradient(lambda w: (w**2).sum(), torch.tensor([1.0, 2.0]))
        (tensor(5.), tensor([2., 4.]))
    """
    with torch.enable_grad():
        u = w.detach().requires_grad_(True)
        value = function(u)
        slope = torch.autograd.grad(value, u, allow_unused=True)[0] if value.requires_grad else None
        return value.detach(), torch.zeros_like(w) if slope is None else slope


def hessian_product(
    terms: Sequence[Callable[[Tensor], Tensor]], w: Tensor, *, memory: int = DEFAULT_MEMORY
) -> Callable[[Tensor], Tensor]:
    r"""The map v -> sum_c \nabla^2 f_c(w) v for scalar functions f_c of a vector w (P,).

    The graph of each gradient is kept between products for as many terms as fit in `memory` bytes (measured on the
    first term) and rebuilt at each product for the rest; both give the same numbers.

    Example:
        >>> import torch
        >>> product = hessian_product([lambda w: (w**4).sum()], torch.tensor([1.0, 2.0]))
        >>> product(torch.tensor([1.0, 1.0])).tolist()
        [12.0, 48.0]
    """
    n_kept = min(len(terms), int(memory // max(1, _graph_bytes(terms[0], w)))) if terms else 0
    kept = [_GradientGraph(term, w) for term in terms[:n_kept]]

    def product(v: Tensor) -> Tensor:
        graphs = chain(kept, (_GradientGraph(term, w) for term in terms[n_kept:]))
        return added(graph.product(v) for graph in graphs)

    return product


def added(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors, at least one: no more of them are made than must be, and none is written to.

    Example:
        >>> added([torch.ones(2), torch.ones(2), torch.ones(2)]).tolist()
        [3.0, 3.0]
    """
    each = iter(parts)
    total = next(each)
    for i, part in enumerate(each):
        total = total.add_(part) if i else total + part
    return total


def forward_product(term: Callable[[Tensor], Tensor], w: Tensor, v: Tensor) -> Tensor:
    r"""\nabla^2 f(w) v as the derivative of the gradient along v: nothing is kept between products.

    Example:
        >>> import torch
        >>> forward_product(lambda w: (w**4).sum(), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])).tolist()
        [12.0, 48.0]
    """
    product: Tensor = jvp(grad(term), (w,), (v,))[1]
    return product


def gauss_newton_product(
    outputs: Callable[[Tensor], Any], loss: Callable[[Any], Tensor], w: Tensor, v: Tensor
) -> Tensor:
    r"""J' (\nabla^2 l) J v, with J the Jacobian of z(w) = outputs(w) and \nabla^2 l the Hessian of loss(z).

    Source:
        Schraudolph, Fast curvature matrix-vector products for second-order gradient descent (2002).

    Example:
        >>> import torch
        >>> w, v = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])
        >>> gauss_newton_product(lambda w: w**2, lambda z: (z**2).sum(), w, v).tolist()
        [8.0, 32.0]
    """
    z, pull = vjp(outputs, w)[:2]
    along = jvp(outputs, (w,), (v,))[1]
    product: Tensor = pull(jvp(grad(loss), (z,), (along,))[1])[0]
    return product


class _GradientGraph:
    """The gradient of one term at w, with the graph that differentiates it."""

    def __init__(self, term: Callable[[Tensor], Tensor], w: Tensor) -> None:
        with torch.enable_grad():
            self.w = w.detach().requires_grad_(True)
            value = term(self.w)
            # A value that does not depend on w has no graph; a linear one has a constant gradient.
            # allow_unused: a value may carry a graph of its own that w does not enter (a derivative in the inputs).
            self.gradient = (
                torch.autograd.grad(value, self.w, create_graph=True, allow_unused=True)[0]
                if value.requires_grad
                else None
            )

    def product(self, v: Tensor) -> Tensor:
        if self.gradient is None or not self.gradient.requires_grad:
            return torch.zeros_like(v)
        found = torch.autograd.grad(self.gradient, self.w, v, retain_graph=True, allow_unused=True)[0]
        return torch.zeros_like(v) if found is None else found


def _graph_bytes(term: Callable[[Tensor], Tensor], w: Tensor) -> int:
    """Bytes that one gradient graph keeps alive, each storage counted once."""
    storages: dict[int, int] = {}
    held: list[list[Tensor]] = []

    def pack(x: Tensor) -> list[Tensor]:
        storage = x.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        held.append([x])
        return held[-1]

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box[0]):
            _GradientGraph(term, w)
    except RuntimeError:  # a module that uses torch.func allows no hooks, or has no storages: not measured, so not kept
        return sys.maxsize
    finally:
        # A tensor in a hook of the node that made it is a circle that no garbage collector sees: all would stay.
        for box in held:
            box.clear()
    return sum(storages.values())
