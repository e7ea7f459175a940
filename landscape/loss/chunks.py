"""Losses of samples as functions of a parameter vector, some at a time: what products and checks are made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.curvature.precision import full_precision
from landscape.curvature.products import added
from landscape.layout import Layout
from landscape.loss.frozen import frozen_copy, uncompiled, without_checkpointing
from landscape.loss.ranks import Alone
from landscape.loss.samples import common_length, place, take, weights_of

__all__ = ["Chunks"]

TOGETHER = ("cuda",)
"""Kinds of device on which several points are evaluated in one call."""
POINTS = 16
"""Points at once there."""
EXACT = 1e4
"""Roundings by which a loss evaluated together with others may differ from one by itself."""


class Chunks:
    r"""The losses l_i(w) of N samples with weights c_i, `chunk` at a time, as functions of one vector w (P,).

    Nothing is checked here: `landscape.loss.objective.Objective` is the checked face of it.

    Args:
        module: whose parameters w replaces by name; copied.
        per_sample_loss: ``(outputs, targets) -> (n,)``.
        data: ``(inputs, targets)``, as for `Objective`; copied.
        layout: of w.
        weights: c_i (N,), or None for all 1.
        chunk: samples evaluated at once; None means all.
        dtype: floating dtype of parameters and floating data.
        device: where to compute.

    Attributes:
        n_samples: N.
        mass: the sum of all c_i, by which a mean is divided.
        kernels: what was traced or compiled for these functions, by whoever made it: it serves all points w.
        ranks: the processes that share the samples (`landscape.loss.distributed`); as made here, this one alone.
        share: of the samples, those that this process sums over.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> chunks = Chunks(
        ...     model, lambda y, t: ((y - t) ** 2).sum(1), data, Layout.of(model),
        ...     chunk=1, dtype=torch.float64, device=torch.device("cpu"),
        ... )
        >>> [chunks.sum(index)(chunks.vector(torch.tensor([1.0, 3.0]))).item() for index in chunks.slices()]
        [1.0, 9.0]
    """

    def __init__(
        self,
        module: nn.Module,
        per_sample_loss: Callable[[Any, Any], Tensor],
        data: Any,
        layout: Layout,
        *,
        weights: Any = None,
        chunk: int | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.layout, self.dtype, self.device = layout, dtype, device
        self.module = frozen_copy(module, dtype, device)
        self.per_sample_loss = per_sample_loss
        self.data = place(data, dtype=dtype, device=device)
        self.n_samples = common_length(self.data)
        self.weights = None if weights is None else weights_of(weights, self.n_samples, dtype=dtype, device=device)
        self.mass = self.mass_of(slice(None))
        self.chunk = min(chunk or self.n_samples, self.n_samples)
        self.kernels: dict[Any, Any] = {}
        self.ranks, self.share = Alone(), range(self.n_samples)

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: all but what was compiled in this one."""
        return {**self.__dict__, "kernels": {}}

    def vector(self, w: Tensor) -> Tensor:
        """`w` checked against the layout and moved to this dtype and device, detached."""
        w = torch.as_tensor(w).detach().to(dtype=self.dtype, device=self.device)
        self.layout.check(w, what="parameter vector")
        return w

    def plain(self) -> AbstractContextManager[None]:
        """Within it float32 is float32, whatever torch's global switches say; for the backward pass too."""
        return full_precision(self.device)

    def slices(self) -> Iterator[slice]:
        """Slices of all samples, `chunk` at a time."""
        return (slice(i, min(i + self.chunk, self.n_samples)) for i in range(0, self.n_samples, self.chunk))

    def mine(self) -> Iterator[slice]:
        """Slices of this process's share of the samples, `chunk` at a time; none if it is empty."""
        first, end = self.share.start, self.share.stop
        return (slice(i, min(i + self.chunk, end)) for i in range(first, end, self.chunk))

    def mass_of(self, index: slice) -> float:
        """The sum of the weights of a slice of the samples: their number without any."""
        return float(len(range(self.n_samples)[index]) if self.weights is None else self.weights[index].sum())

    def batch(self, index: slice) -> Any:
        """The data of a slice of the samples: (inputs, targets), and their weights where there are any."""
        pair = take(self.data, index)
        return pair if self.weights is None else (*pair, self.weights[index])

    def apply(self, w: Tensor, batch: Any, function: Callable[[Any, Any], Any]) -> Any:
        """``function(module(inputs; w), targets)`` on a batch; differentiable in w."""
        with self._differentiable():
            outputs = functional_call(self.module, self.layout.unflatten(w), *_arguments(batch[0]))
            return function(outputs, batch[1])

    def inside(self, w: Tensor, batch: Any, function: Callable[..., Any]) -> Any:
        """``function(module, *inputs)`` on a batch while the module's parameters are w: for more than a call of it."""
        caller = copy.copy(self.module)  # shares its parts with the module, so the parameters are w in both
        caller.forward = partial(function, self.module)
        with self._differentiable():
            return functional_call(caller, self.layout.unflatten(w), *_arguments(batch[0]))

    @contextmanager
    def _differentiable(self) -> Iterator[None]:
        """Within it the module can be differentiated as often as one likes."""
        # Gradients are on even where none is asked for: a module may differentiate inside `forward`. Nothing is
        # recorded for others, since neither w nor the frozen parameters require a gradient.
        with self.plain(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), without_checkpointing(), uncompiled():
            yield

    def evaluate(self, w: Tensor, index: slice, function: Callable[[Any, Any], Tensor]) -> Tensor:
        """``function(module(inputs; w), targets)`` on a slice of the samples; differentiable in w."""
        value: Tensor = self.apply(w, self.batch(index), function)
        return value

    def map(self, w: Tensor, function: Callable[[Any, Any], Tensor]) -> Tensor:
        """``function(outputs, targets) -> (n, ...)`` over all samples at w, chunk by chunk, joined to (N, ...)."""
        return self.ranks.joined(
            lambda: torch.cat([self.evaluate(w, index, function).detach() for index in self.mine()]), len(self.share)
        )

    def losses(self, w: Tensor) -> Tensor:
        """Loss of every sample at w, (N,)."""
        return self.map(w, self.per_sample_loss)

    def contributions(self, w: Tensor) -> Tensor:
        """c_i l_i(w), (N,): what a sum adds up."""
        return self.losses(w) if self.weights is None else self.losses(w) * self.weights

    def batch_sum(self, outputs: Any, batch: Any) -> Tensor:
        """The weighted sum of the losses of a batch, of the module's outputs."""
        losses = self.per_sample_loss(outputs, batch[1])
        return losses.sum() if len(batch) == 2 else (losses * batch[2]).sum()

    def sum(self, index: slice) -> Callable[[Tensor], Tensor]:
        """The function w -> weighted sum of the losses of a slice of the samples."""

        def total(w: Tensor) -> Tensor:
            batch = self.batch(index)
            found: Tensor = self.apply(w, batch, lambda outputs, _: self.batch_sum(outputs, batch))
            return found

        return total

    def sums(self, W: Tensor, index: slice) -> Tensor:
        """`sum` of a slice at each row of W (B, P); shape (B,).

        On a card several rows are evaluated in one call: 2 to 10 times faster there, and slower on a CPU. The first
        time, one of them is compared with an evaluation by itself.
        """
        total = self.sum(index)
        if self.device.type in TOGETHER and len(W) > 1 and self.kernels.get("many points", True):
            try:
                found = torch.cat([vmap(total)(part).detach() for part in torch.split(W, POINTS)])
            except RuntimeError:  # a module that vmap cannot take, or too little memory for several
                self.kernels["many points"] = False
            else:
                if "many points" not in self.kernels:
                    one = total(W[0]).detach()
                    self.kernels["many points"] = torch.allclose(found[0], one, rtol=EXACT * torch.finfo(one.dtype).eps)
                if self.kernels["many points"]:
                    return found
        return torch.stack([total(w).detach() for w in W])

    def total(self, w: Tensor) -> Tensor:
        """The weighted sum of all losses at w; differentiable in w."""
        return torch.stack([self.sum(index)(w) for index in self.slices()]).sum()

    def mean(self, terms: Iterator[Tensor], *shape: int) -> Tensor:
        """Sum over the chunks that are `mine`, and over all ranks, divided by the mass: where a loss is averaged."""
        return self.ranks.sum((lambda: added(terms)) if self.share else None, *shape) / self.mass

    def excerpt(self, most: int) -> Chunks:
        """At most so many of the samples that weigh anything, spread over all, in float64 where the device has it."""
        twin = copy.copy(self)
        some = torch.arange(self.n_samples) if self.weights is None else self.weights.nonzero().squeeze(1)
        n = min(len(some), most)
        index = some[:: len(some) // n][:n].to(self.device)
        twin.dtype = torch.float64 if self.device.type != "mps" else self.dtype
        if twin.dtype != self.dtype:
            twin.module = frozen_copy(self.module, twin.dtype, self.device)
        twin.data = place(take(self.data, index), dtype=twin.dtype, device=self.device)
        twin.weights = None if self.weights is None else self.weights[index].to(twin.dtype)
        twin.n_samples, twin.chunk, twin.kernels = n, min(n, self.chunk), {}
        twin.mass = twin.mass_of(slice(None))
        twin.ranks, twin.share = Alone(), range(n)
        return twin

    def over(self, ranks: Alone) -> Chunks:
        """The same losses, summed over these ranks, each over its share of the samples; kernels are apart."""
        twin = copy.copy(self)
        twin.ranks, twin.share, twin.kernels = ranks, ranks.share(self.n_samples), {}
        return twin

    def rescaled(self, scale: Tensor) -> Chunks:
        """The same losses as functions of u with w = D u, D = diag(scale)."""
        return _Rescaled(self, scale)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is called with: a tuple or list gives several arguments, a dict those with names."""
    args = tuple(inputs) if isinstance(inputs, tuple | list) else () if isinstance(inputs, dict) else (inputs,)
    return args, inputs if isinstance(inputs, dict) else {}


class _Rescaled(Chunks):
    """The losses of another `Chunks` at D u. What is compiled for those in w is not for these: kernels are apart."""

    def __init__(self, base: Chunks, scale: Tensor) -> None:
        self.__dict__.update(base.__dict__)
        self._base, self._scale, self.kernels = base, scale, {}

    def apply(self, w: Tensor, batch: Any, function: Callable[[Any, Any], Any]) -> Any:
        return self._base.apply(w * self._scale, batch, function)

    def inside(self, w: Tensor, batch: Any, function: Callable[..., Any]) -> Any:
        return self._base.inside(w * self._scale, batch, function)

    def excerpt(self, most: int) -> Chunks:
        base = self._base.excerpt(most)
        return base.rescaled(self._scale.to(base.dtype))
