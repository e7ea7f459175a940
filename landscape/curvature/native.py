"""Hessian products of the toy attention model by a kernel in C++, compiled on first use and kept for later."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape.curvature.native_build import WITHOUT, Problem, cache_folder, library
from landscape.curvature.native_support import Shape, grouped, supported
from landscape.curvature.products import DEFAULT_MEMORY, forward_product
from landscape.errors import KernelError, LandscapeError
from landscape.layout import Layout
from landscape.tasks.base import IGNORE, token_loss

__all__ = ["NativeHessian", "PreparedHessian", "cache_folder", "native_gradient", "supported"]

_TRUSTED: set[tuple[Any, ...]] = set()


class NativeHessian:
    r"""v -> sum_i \nabla^2 l_i(w) v for the attention model, at any w, on one core.

    The kernel is compiled for (d, n, V, dtype): a few seconds once per machine. What depends on w alone is computed by
    `at` and kept for as many samples as `memory` allows. The first time that a process uses a kernel for an
    architecture, one product is compared with torch's.

    Args:
        module: a model for which `supported` is None; only its shape is read, weights come with w.
        data: (inputs, targets), tokens (N, n) each; targets equal to `IGNORE` are not scored.
        layout: `Layout.of(module)`.
        dtype: torch.float64 or torch.float32.
        block: vectors multiplied at once by `PreparedHessian.mm`.
        memory: bytes kept between products.

    Raises:
        LandscapeError: if the kernel does not know this loss.
        KernelError: if there is no compiler or it does not work, its kernel cannot be kept or loaded, or gives another
            result than torch.

    Example:
        >>> from landscape.models import AttentionConfig, AttentionModel
        >>> model = AttentionModel(AttentionConfig(width=4), vocabulary=3, length=2, generator=torch.Generator())
        >>> tokens = torch.tensor([[0, 1], [2, 2]])
        >>> hessian = NativeHessian(model, (tokens, tokens), Layout.of(model))
        >>> w = torch.zeros(hessian.size, dtype=torch.float64)
        >>> round(float(hessian.at(w).losses()[0]), 6)  # log(3)
        1.098612
    """

    def __init__(
        self,
        module: nn.Module,
        data: tuple[Tensor, Tensor],
        layout: Layout,
        dtype: torch.dtype = torch.float64,
        *,
        block: int = 8,
        memory: int = DEFAULT_MEMORY,
    ) -> None:
        if block < 1:
            raise LandscapeError(f"expected block >= 1 vectors at once, found {block}.")
        reason = supported(module, token_loss, data, dtype=dtype, device=data[0].device, layout=layout)
        if reason is not None:
            raise LandscapeError(f"the native kernel cannot be used: {reason}. Use {WITHOUT}.")
        self.size, self.dtype, self.block, self.memory = layout.size, dtype, block, memory
        self._layout = layout
        self.n_samples, self.tokens = data[0].shape
        self.model = Shape.of(module)
        self.library = library(self.model.width, self.tokens, self.model.vocabulary, dtype)
        self._lanes = grouped(*data, self.library.lanes(), dtype)
        self._spare = torch.empty(0, dtype=torch.uint8)
        setting = (self.model, self.tokens, dtype)
        if setting not in _TRUSTED:
            _TRUSTED.add(setting)  # before the check, which uses this class
            try:
                _check(module, data, layout, dtype)
            except LandscapeError:
                _TRUSTED.discard(setting)
                raise

    def at(self, w: Tensor) -> PreparedHessian:
        """Everything at w (P,) that does not depend on a direction."""
        self._layout.check(w, what="parameter vector")
        return PreparedHessian(self, w.detach().to(device="cpu", dtype=self.dtype).contiguous().clone())

    def losses(self, points: Tensor) -> Tensor:
        """The loss of every sample at each row of `points` (B, P), without derivatives and what they need; (B, N)."""
        if points.ndim != 2 or points.shape[1] != self.size:  # the kernel would read beyond their end
            raise LandscapeError(f"expected points (B, {self.size}), one a row, found shape {tuple(points.shape)}.")
        points = points.detach().to(device="cpu", dtype=self.dtype).contiguous()
        problem, out = self.problem(), points.new_empty(len(points), self.n_samples)
        work = torch.empty(self.library.work_bytes(ctypes.byref(problem), 0), dtype=torch.uint8)
        problem.work = work.data_ptr()
        self.library.losses(ctypes.byref(problem), len(points), points.data_ptr(), out.data_ptr(), self.size)
        return out

    def take(self, size: int) -> Tensor:
        """Memory for residuals: that of the last `PreparedHessian` if it is gone, since new pages cost milliseconds."""
        found, self._spare = self._spare, torch.empty(0, dtype=torch.uint8)
        return found if len(found) == size else torch.empty(size, dtype=torch.uint8)

    def give_back(self, memory: Tensor) -> None:
        """Keep the memory of a `PreparedHessian` that is gone for the next one."""
        self._spare = memory

    def problem(self) -> Problem:
        """The arguments of the kernel that do not depend on w."""
        inputs, targets, scored = self._lanes
        model = self.model
        problem = Problem(len(inputs), self.n_samples, model.length, model.layers, model.loops, model.softmax)
        problem.tokens, problem.targets, problem.scored = inputs.data_ptr(), targets.data_ptr(), scored.data_ptr()
        return problem


class PreparedHessian:
    """The sum of the losses at one w: value, gradient and Hessian products. Made by `NativeHessian.at`.

    Not to be used by two threads at once: they would share the work space.

    Example:
        >>> from landscape.models import AttentionConfig, AttentionModel
        >>> model = AttentionModel(AttentionConfig(width=4), vocabulary=3, length=2, generator=torch.Generator())
        >>> tokens = torch.tensor([[0, 1], [2, 2]])
        >>> hessian = NativeHessian(model, (tokens, tokens), Layout.of(model))
        >>> at, v = hessian.at(torch.zeros(hessian.size)), torch.ones(hessian.size, dtype=torch.float64)
        >>> torch.allclose(at.dense() @ v, at.mv(v))
        True
    """

    def __init__(self, owner: NativeHessian, w: Tensor) -> None:
        self._owner, self._w, self._library = owner, w, owner.library
        self._problem = problem = owner.problem()
        each = self._library.residual_bytes(ctypes.byref(problem))
        problem.kept = min(problem.groups, max(0, owner.memory) // each)
        # Tensors own the memory that the kernel writes to; torch aligns them to 64 bytes, as the kernel needs.
        self._residuals = owner.take(problem.kept * each)
        weakref.finalize(self, owner.give_back, self._residuals).atexit = False
        self._work = torch.empty(self._library.work_bytes(ctypes.byref(problem), owner.block), dtype=torch.uint8)
        problem.residuals, problem.work = self._residuals.data_ptr(), self._work.data_ptr()
        self._losses, self._gradient = w.new_empty(owner.n_samples), torch.empty_like(w)
        self._bars = w.new_empty(w.numel())  # of which the kernel needs a part
        self._library.evaluate(
            ctypes.byref(problem),
            *(x.data_ptr() for x in (w, self._losses, self._gradient, self._bars)),
        )

    def losses(self) -> Tensor:
        """The loss of every sample, (N,)."""
        return self._losses.clone()

    def loss(self) -> Tensor:
        """The sum of the losses, a scalar."""
        return self._losses.sum()

    def gradient(self) -> Tensor:
        """The gradient of the sum, (P,)."""
        return self._gradient.clone()

    def mv(self, v: Tensor) -> Tensor:
        """The Hessian of the sum times v (P,)."""
        return self._rows(v.unsqueeze(0))[0]

    def mm(self, columns: Tensor) -> Tensor:
        """The Hessian of the sum times the columns of V (P, B), `block` at a time."""
        return torch.cat([self._rows(rows) for rows in torch.split(columns.T, self._owner.block)]).T

    def dense(self) -> Tensor:
        r"""The Hessian of the sum (P, P), exact, at about a third of the price of its P products.

        With M = W_Q' W_K / sqrt(d) the loss depends on (token, position, head, M, W_V): fewer coordinates, whose unit
        vectors leave much of the network unmoved, and of a symmetric matrix half is enough. The chain rule then gives
        the Hessian in w: J' H J, and c bar M where W_Q and W_K meet.
        """
        pull = self._pull
        H = pull(pull(self._coordinates()).T)
        H = (H + H.T) / 2
        model = self._owner.model
        square = model.width**2
        for layer in range(model.layers):
            at = model.attention_offset(layer)
            Q, K = slice(at, at + square), slice(at + square, at + 2 * square)
            bar = self._bars[layer * square : (layer + 1) * square].view(model.width, -1) * model.width**-0.5
            cross = torch.kron(torch.eye(model.width).to(bar), bar)
            H[Q, K] += cross
            H[K, Q] += cross.T
        return H

    def _coordinates(self) -> Tensor:
        """The Hessian in the coordinates of the kernel's `units`, (Q, Q)."""
        owner, model = self._owner, self._owner.model
        square, layers = model.width**2, model.layers
        # The order in which the kernel lets symmetry do the work: head, then U, M, embeddings.
        n_input, n_head = (model.vocabulary + owner.tokens) * model.width, model.vocabulary * model.width
        rank = torch.tensor([3] * n_input + [0] * n_head + ([2] * square + [1] * square) * layers)
        size = len(rank)
        rows = self._w.new_empty(size, size)
        for first in range(0, size, owner.block):
            count = min(owner.block, size - first)
            out = rows[first : first + count]
            self._library.units(ctypes.byref(self._problem), self._w.data_ptr(), first, count, out.data_ptr())
        return torch.where(rank[:, None] <= rank, rows, rows.T)

    def _pull(self, X: Tensor) -> Tensor:
        """Gradients (m, Q) in the coordinates of `units` as gradients (m, P) in w."""
        owner, model = self._owner, self._owner.model
        d, count, w = model.width, len(X), self._w
        n_input, n_head = (model.vocabulary + owner.tokens) * d, model.vocabulary * d
        unused = X.new_zeros(count, (model.length - owner.tokens) * d)
        parts = [X[:, :n_input], unused, X[:, n_input : n_input + n_head]]
        rest = X[:, n_input + n_head :].reshape(count, model.layers, 2, d, d)
        for layer in range(model.layers):
            at, bar = model.attention_offset(layer), rest[:, layer, 0]
            W_Q, W_K = w[at : at + 2 * d * d].view(2, d, d) * d**-0.5
            parts += [W_K @ bar.mT, W_Q @ bar, rest[:, layer, 1].mT]
        return torch.cat([x.reshape(count, -1) for x in parts], dim=1)

    def _rows(self, vectors: Tensor) -> Tensor:
        if vectors.ndim != 2 or vectors.shape[1] != self._owner.size:  # the kernel would read beyond their end
            raise LandscapeError(
                f"expected vectors of size {self._owner.size}, found shape {tuple(vectors.shape[1:])}."
            )
        vectors = vectors.detach().to(self._w).contiguous()
        out = torch.empty_like(vectors)
        self._library.products(
            ctypes.byref(self._problem),
            *(x.data_ptr() for x in (self._w, self._bars)),
            len(vectors),
            *(x.data_ptr() for x in (vectors, out)),
            self._owner.size,
        )
        return out


def native_gradient(
    module: nn.Module, w: Tensor, inputs: Tensor, targets: Tensor, *, layout: Layout
) -> tuple[Tensor, Tensor]:
    """The mean loss of a batch at w (P,), a scalar, and its gradient (P,): what autograd gives, to rounding.

    Raises:
        LandscapeError: as `NativeHessian`.
    """
    at = NativeHessian(module, (inputs, targets), layout, w.dtype, block=1, memory=0).at(w)
    return at.loss() / len(inputs), at.gradient() / len(inputs)


def _check(module: nn.Module, data: tuple[Tensor, Tensor], layout: Layout, dtype: torch.dtype) -> None:
    """Losses and one product on a few samples against torch's, at weights and a direction that are not special."""
    few = (data[0][:3], data[1][:3])
    scored = (few[1] != IGNORE).any(1)
    few = (few[0], few[1].where(scored[:, None], few[0]))  # a sequence without scored tokens says nothing
    generator = torch.Generator().manual_seed(0)
    w, v = (torch.randn(layout.size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    w *= 0.7 * Shape.of(module).width ** -0.5

    def losses(u: Tensor) -> Tensor:
        return token_loss(functional_call(module, layout.unflatten(u), few[0]), few[1])

    native = NativeHessian(module, few, layout, dtype)
    pairs = {
        "losses differ": (native.losses(w[None])[0], losses(w).detach()),
        "product differs": (native.at(w).mv(v), forward_product(lambda u: losses(u).sum(), w, v)),
    }
    for what, (found, expected) in pairs.items():
        error, norm = float((found - expected).norm()), float(expected.norm())
        if not error <= torch.finfo(dtype).eps ** 0.5 * norm:
            raise KernelError(
                f"the native {what} from torch's by {error:.1e} (norm {norm:.1e})",
                f"This is a fault of the compiler: use {WITHOUT}.",
            )
