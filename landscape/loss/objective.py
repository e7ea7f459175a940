"""The loss of a module on a fixed data set, as a function of one flat parameter vector."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.curvature.products import DEFAULT_MEMORY
from landscape.curvature.symmetric import Symmetric
from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.loss.checks import check_deterministic, refuse_not_finite
from landscape.loss.chunks import Chunks
from landscape.loss.derivatives import Route, Trust
from landscape.loss.frozen import original
from landscape.loss.points import mean_losses, sample_losses
from landscape.loss.ranks import Alone
from landscape.loss.strategies import Strategy, chosen, curvature_operator, mean_gradient
from landscape.provenance import fingerprint

__all__ = ["Objective", "Strategy"]


class Objective:
    r"""L(w) = sum_i c_i l_i(w) / sum_i c_i: mean loss over N fixed samples as a function of one vector w (P,).

    A *sample* is one entry along the first axis of the data (for language models: a sequence, whose loss is the mean
    over its scored tokens). Chunks only bound memory: per-sample losses are summed and divided once by N, so uneven
    chunks cannot change the result beyond rounding. All samples count the same unless `weights` says otherwise: with
    the number of scored tokens of each sequence it is the mean over tokens, with class weights what
    ``cross_entropy(weight=...)`` is.

    The module is copied; the original, its mode, its ``.grad`` and the global random state are never touched.
    Attention runs on PyTorch's math kernel, the only one with second derivatives; activation checkpointing is left out,
    embeddings have dense gradients. Modules may differentiate inside `forward` (with respect to their inputs, say).

    Args:
        module: any module. Parameters enter by name through ``torch.func.functional_call``.
        per_sample_loss: ``(outputs, targets) -> (N,)``, e.g. ``cross_entropy(..., reduction="none")``.
        data: ``(inputs, targets)``; tensors or numpy arrays, or tuples / dicts of them, sharing their first axis of
            length N; or a `Dataset`, or a `DataLoader` with a fixed order, of such pairs. Targets may be None. Numbers,
            strings and None among the inputs are the same for all samples.
            A tuple of inputs is passed as ``module(*inputs)``, a dict as ``module(**inputs)``.
        weights: c_i >= 0, (N,), of the samples; only their ratios matter. None weighs all the same.
        chunk: samples evaluated at once; None means all.
        dtype: floating dtype of parameters and floating data.
        device: where to compute; None means where the module's parameters are.
        parameters: shell-style pattern(s) selecting the parameters that make up w; the others stay fixed. None takes
            all that are trainable (``requires_grad``).
        check_derivatives: compare the first gradient with differences of the loss, and the first Hessian product with
            differences of the gradient, on some samples; False leaves it out, and results carry the attribute
            `derivatives` that says so.

    Attributes:
        w0: (P,), the module's parameters at construction.
        chunks: the losses of the samples, some at a time, unchecked.
        ahead: Hessian products to come at all points, as a sweep tells; with None nothing is compiled unasked.
        helpers: processes that share losses at many points (`landscape.parallel`); None as made here.

    Raises:
        LandscapeError: if shapes disagree, or the loss is not a deterministic function of w and each sample
            (dropout on, batch normalisation in training mode, random numbers drawn in the forward pass), or the module
            cannot be used (scripted, lazy, on the meta device). On the first `grad` or `hessian`: if derivatives are
            not those of the loss, or torch has none; and at any point where the loss is not finite.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data)
        >>> objective.loss(torch.tensor([1.0, 3.0])).item()
        5.0
        >>> objective.hessian(objective.w0).dense().tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        module: nn.Module,
        per_sample_loss: Callable[[Any, Any], Tensor],
        data: tuple[Any, Any],
        *,
        weights: Any = None,
        chunk: int | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        parameters: str | Sequence[str] | None = None,
        check_derivatives: bool = True,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise LandscapeError(f"expected dtype torch.float64 or torch.float32, found {dtype}.")
        if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
            raise LandscapeError(f"expected chunk to be an integer >= 1 or None, found {chunk!r}.")
        module = original(module)
        self.chunks = Chunks(
            module,
            per_sample_loss,
            data,
            Layout.of(module, only=parameters),
            weights=weights,
            chunk=chunk,
            dtype=dtype,
            device=torch.device(device if device is not None else next(module.parameters()).device),
        )
        named = dict(self.chunks.module.named_parameters())
        self.w0 = self.layout.flatten({n: named[n].detach() for n in self.layout.names})
        self.ahead: int | None = 0
        self.helpers: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        self._memory: dict[str, tuple[Tensor, Any]] = {}
        self._trust = Trust(check=check_derivatives)  # shared by this objective at all points
        check_deterministic(self.chunks, self.w0)

    @property
    def size(self) -> int:
        """P, the number of parameters in w."""
        return self.layout.size

    @property
    def layout(self) -> Layout:
        """`Layout` of w."""
        return self.chunks.layout

    @property
    def n_samples(self) -> int:
        """N."""
        return self.chunks.n_samples

    @property
    def chunk(self) -> int:
        """Samples evaluated at once."""
        return self.chunks.chunk

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and floating data."""
        return self.chunks.dtype

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.chunks.device

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the data, and weights if there are any."""
        c = self.chunks
        return fingerprint(c.data if c.weights is None else (*c.data, c.weights))

    def map(self, w: Tensor, function: Callable[[Any, Any], Tensor]) -> Tensor:
        """``function(outputs, targets) -> (n, ...)`` over the data at w, chunk by chunk, joined to (N, ...)."""
        return self.chunks.map(self.vector(w), function)

    def per_sample(self, w: Tensor) -> Tensor:
        """Loss of every sample at w, shape (N,)."""
        return sample_losses(self.chunks, self.vector(w))

    def loss(self, w: Tensor) -> Tensor:
        """Mean loss over the samples at w, a scalar tensor."""
        w = self.vector(w)
        return self.chunks.mean(self.chunks.sum(c)(w).detach() for c in self.chunks.mine())

    def losses(self, W: Tensor) -> Tensor:
        """Loss at each row of W (B, P); shape (B,)."""
        if W.ndim != 2:
            raise LandscapeError(f"expected a matrix (B, {self.size}), one vector a row, found {tuple(W.shape)}.")
        if not len(W):
            return self.w0.new_zeros(0)
        self.layout.check(W[0], what="parameter vector")
        return mean_losses(self.chunks, W.detach().to(dtype=self.dtype, device=self.device))

    def grad(self, w: Tensor) -> Tensor:
        """Gradient of the mean loss at w, shape (P,).

        Raises:
            LandscapeError: if the loss is not finite at w, has no gradient, or (the first time) has a wrong one.
        """
        w = self.vector(w)
        self.check_derivatives(w)
        return mean_gradient(self.chunks, w)

    def hessian(
        self,
        w: Tensor,
        *,
        strategy: Strategy = "auto",
        products: int = 0,
        block: int = 1,
        memory: int = DEFAULT_MEMORY,
    ) -> Symmetric:
        """Hessian of the mean loss at w as an operator (P, P); every strategy but "difference" is exact.

        Args:
            w: (P,).
            strategy: "cached": double backward through the gradient's graph, which is kept for as many chunks as fit
                in `memory` and rebuilt for the others. "forward": the derivative of the gradient along v, nothing is
                kept. "compiled": the latter traced, cut and compiled (see `landscape.curvature.linearised`): seconds to
                start, cheaper per product, and compiled once for all checkpoints. "native": a fused kernel for the toy
                attention model on the CPU (see `landscape.curvature.native`), four to nine times faster than "cached"
                at widths 16 and 32, three times at 64. "difference": differences of gradients, for losses that torch
                differentiates only once; `Symmetric.error` is their error. "auto" is "native" where the kernel knows
                the loss and a C++ compiler is there, else "compiled" where that pays, else "cached"; also, with one
                `FallbackWarning`, where one of the first two fails. `Symmetric.strategy` is the one taken.
            products: how many are to come, if more than `ahead`: "auto" compiles where measurements say that it pays.
            block: vectors that "compiled" multiplies at once in `Symmetric.mm` ("native" always takes 8).
            memory: bytes kept between products.

        On a card a product whose launching takes most of its time is recorded as a CUDA graph after a few calls and
        replayed; it then keeps the intermediate results of one product, too (`landscape.curvature.replay`).

        Raises:
            LandscapeError: for an unknown strategy, or one that cannot be used with this loss, and why; for a loss that
                is not finite at w; and, the first time, for derivatives that are not those of the loss.
        """
        w = self.vector(w)
        self.check_finite(w)
        if strategy == "auto":
            n = 0 if self.ahead is None else max(products, self.ahead)
            strategy = chosen(
                self.chunks, "hessian", w, products=n, block=block, check=partial(self.check_derivatives, w)
            )
        route: Route = "forward" if strategy in ("forward", "compiled") else "reverse"
        self.check_derivatives(w, None if strategy == "difference" else route)
        return curvature_operator(self.chunks, "hessian", w, strategy=strategy, block=block, memory=memory)

    def ggn(self, w: Tensor, *, strategy: Strategy = "auto", block: int = 1, memory: int = DEFAULT_MEMORY) -> Symmetric:
        r"""Generalised Gauss-Newton matrix G = (1/N) sum_i J_i' (\nabla^2 l_i) J_i at w, an operator (P, P).

        J_i is the Jacobian of the module's outputs, \nabla^2 l_i the Hessian of the loss in the outputs. "forward" and
        "auto" derive anew at each product; "compiled" as in `hessian`.

        Raises:
            LandscapeError: for an unknown strategy, or a loss that cannot be traced or compiled.
        """
        w = self.vector(w)
        self.check_finite(w)
        self.check_derivatives(w)
        if strategy == "auto":
            strategy = chosen(self.chunks, "ggn", w, products=0, block=block, check=partial(self.check_derivatives, w))
        return curvature_operator(self.chunks, "ggn", w, strategy=strategy, block=block, memory=memory)

    def residual(self, w: Tensor, *, strategy: Strategy = "auto", memory: int = DEFAULT_MEMORY) -> Symmetric:
        """H - G at w: the curvature that comes from the bending of the module's outputs, an operator (P, P)."""
        H = self.hessian(w, strategy=strategy, memory=memory)
        G = self.ggn(w, strategy="compiled" if strategy == "compiled" else "auto", memory=memory)
        return Symmetric(self.size, self.dtype, lambda v: H.mv(v) - G.mv(v), device=self.device)

    def at(self, w: Tensor) -> Objective:
        """The same objective with `w0` = w; what was traced and compiled for the one serves the other."""
        twin = copy.copy(self)
        twin.w0, twin._memory = self.vector(w).clone(), {}
        return twin

    def over(self, ranks: Alone) -> Objective:
        """The same objective with its sums taken over these ranks; see `landscape.distributed`."""
        twin = copy.copy(self)
        twin.chunks, twin._memory, twin._trust = self.chunks.over(ranks), {}, self._trust.anew()
        return twin

    def remember(self, name: str, w: Tensor, make: Callable[[], Any]) -> Any:
        """What `make` gave for this name at this very w, made again only when w is another: one value per name."""
        known = self._memory.get(name)
        if known is None or not torch.equal(known[0], w):
            known = self._memory[name] = (w.clone(), make())
        return known[1]

    def coordinates(self, w: Tensor) -> Tensor:
        """The coordinates in which this objective takes its argument, of parameter vectors (.., P): here the same."""
        return w.to(device=self.device, dtype=self.dtype)

    # -- trust --------------------------------------------------------------------------------------------------------

    def check_finite(self, w: Tensor) -> None:
        """Raise, with the indices of the samples, if the loss at w is not finite."""
        w = self.vector(w)
        self.remember("finite", w, lambda: bool(torch.isfinite(self.loss(w))) or refuse_not_finite(self.chunks, w))

    def check_derivatives(self, w: Tensor, route: Route | None = None) -> None:
        """Once per objective: is the gradient that of the loss, and a product by `route` that of the gradient?"""
        self._trust.check(self.chunks, w, route)

    @property
    def caveats(self) -> dict[str, str]:
        """What a result must say of its loss: of derivatives that were not checked or are in doubt, and of weights."""
        c = self.chunks.weights
        effective = 0.0 if c is None else float(c.sum() ** 2 / (c**2).sum())
        weighed = {} if c is None else {"weights": f"of {len(c)} samples, as good as {effective:.6g} of equal weight"}
        return self._trust.caveats | weighed

    def vector(self, w: Tensor) -> Tensor:
        """`w` checked against the layout and moved to this objective's dtype and device, detached."""
        return self.chunks.vector(w)

    def __repr__(self) -> str:
        size = f"size={self.size}, n_samples={self.n_samples}, chunk={self.chunk}"
        return f"Objective({size}, dtype={self.dtype}, device={self.device}, layout={self.layout.hash})"
