"""Products linear in a tangent, traced once, cut in two and compiled: one linear part for all checkpoints of a run."""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import functionalize, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from landscape.curvature.graphcut import cut
from landscape.curvature.products import DEFAULT_MEMORY, added
from landscape.curvature.trees import tensors_of, with_tensors
from landscape.errors import LandscapeError

__all__ = ["Compiled", "Linearised", "compiled_parts"]

Product = Callable[[Tensor, Tensor, Any], Tensor]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compiled:
    """A compiled linear part, (residuals, v) -> product.

    Attributes:
        function: what to call.
        seconds: what compiling it took.
        block: tangents per call.
    """

    function: Callable[..., Tensor]
    seconds: float
    block: int


_PARTS: dict[str, Compiled] = {}


def compiled_parts() -> tuple[Compiled, ...]:
    """Every linear part compiled by this process so far; the sum of their `seconds` is what compiling has cost.

    Example:
        >>> isinstance(compiled_parts(), tuple)
        True
    """
    return tuple(_PARTS.values())


class Linearised:
    r"""The map v -> sum_c F(w, v, data_c) at a fixed w, for a function F that is linear in v.

    F (for instance forward-over-reverse, v -> (d/dt) grad f(w + t v)) is traced once per shape of the data, and cut:
    what does not depend on v is evaluated here, once; the linear rest is compiled by torch.compile. The compiled part
    takes everything else as input (w, data, constants of the module), so that it is shared by all checkpoints, chunks
    and objectives that lead to the same graph with the same shapes. The first time, its result is compared with F.

    Args:
        function: F(w, v, data) -> (P,), linear in v, without branches on the values of tensors.
        w: (P,).
        batches: the data_c, trees of tensors that share their structure; equal shapes share one compiled part.
        block: tangents multiplied at once by `mm`; 1 makes `mm` a loop.
        memory: bytes kept between products; for batches beyond it the part before v is evaluated at each product.
        traces: graphs traced so far, kept by the caller while F is the same function.

    Raises:
        LandscapeError: if F cannot be traced or compiled, or compiled gives another result. Nothing is silently
            replaced by something slower.

    Example:
        >>> w = torch.tensor([1.0, 2.0])
        >>> Linearised(lambda w, v, x: 2 * x * w * v, w, [torch.ones(2), torch.ones(2)], traces={}).mv(w).tolist()
        [4.0, 16.0]
    """

    def __init__(
        self,
        function: Product,
        w: Tensor,
        batches: Sequence[Any],
        *,
        traces: dict[Any, tuple[fx.GraphModule, fx.GraphModule]],
        block: int = 1,
        memory: int = DEFAULT_MEMORY,
    ) -> None:
        if block < 1:
            raise LandscapeError(f"expected block >= 1 tangents at once, found {block}.")
        self._function, self._w, self._block, self._memory, self._traces = function, w, block, memory, traces
        # What is no tensor (a number, a name, an absent target) is a constant of the trace.
        self._batches, self._like = [tuple(tensors_of(b)) for b in batches], batches[0]
        self._constants = repr([x if not isinstance(x, Tensor) else None for x in pytree.tree_leaves(batches[0])])
        self._spec = pytree.tree_structure(batches[0])
        self._ready: dict[int, list[_Part]] = {}

    def mv(self, v: Tensor) -> Tensor:
        """The product with v (P,)."""
        return self._apply(v, 1)

    def mm(self, columns: Tensor) -> Tensor:
        """The products with the columns of V (P, B), `block` at a time; the last block is filled up with zeros."""
        rows = columns.T.contiguous()
        if self._block == 1:
            return torch.stack([self.mv(v) for v in rows], dim=1)
        n = len(rows)
        rows = torch.cat([rows, rows.new_zeros(-n % self._block, rows.shape[1])])
        return torch.cat([self._apply(part, self._block) for part in torch.split(rows, self._block)])[:n].T

    def size(self, block: int) -> tuple[int, str]:
        """Nodes of the linear parts that are compiled for `block` tangents, and a digest of all that they depend on."""
        parts = [(self._trace(leaves, block)[1], leaves) for leaves in self._batches]
        texts = {f"{linear.code}{_describe((self._w, *leaves))}": len(linear.graph.nodes) for linear, leaves in parts}
        about = f"{torch.__version__} {torch.get_num_threads()} {self._w.device}"
        return sum(texts.values()), hashlib.sha256("\n".join((about, *texts)).encode()).hexdigest()[:16]

    def _apply(self, v: Tensor, block: int) -> Tensor:
        v = v.contiguous()  # compiled for these strides; others would be compiled again
        with torch.no_grad():
            if block not in self._ready:
                self._ready[block] = self._prepare(block)
            return added(part(v) for part in self._ready[block])

    def _prepare(self, block: int) -> list[_Part]:
        """Evaluate what does not depend on v, as far as memory allows, and find or compile what does."""
        left, parts = self._memory, []
        for leaves in self._batches:
            before, linear = self._trace(leaves, block)
            residuals = tuple(before(self._w, *leaves))
            compiled = self._compile(linear, residuals, leaves, block)
            left -= _bytes(residuals)
            again = None if left >= 0 else (lambda before=before, leaves=leaves: tuple(before(self._w, *leaves)))
            parts.append(_Part(compiled.function, residuals if again is None else (), again))
        return parts

    def _trace(self, leaves: tuple[Tensor, ...], block: int) -> tuple[fx.GraphModule, fx.GraphModule]:
        key = (block, self._spec, self._constants, _describe((self._w, *leaves)))
        if key not in self._traces:
            # In fake mode nothing is computed, and a branch on the value of a tensor is an error instead of a
            # graph that is right at this w only.
            start = time.perf_counter()
            traced = functionalize(self._flat(block), remove="mutations")
            try:
                graph = make_fx(traced, tracing_mode="fake", _allow_non_fake_inputs=True)(
                    self._w, self._tangent(block), *leaves
                )
            except Exception as error:
                raise LandscapeError(
                    f'the product cannot be traced: {_brief(error)}. Use strategy="cached", which needs no trace.'
                ) from error
            self._traces[key] = cut(graph, tangent=1)
            _LOG.info("traced a product in %.1f s", time.perf_counter() - start)
        return self._traces[key]

    def _compile(
        self, linear: fx.GraphModule, residuals: tuple[Tensor, ...], leaves: tuple[Tensor, ...], block: int
    ) -> Compiled:
        v = self._tangent(block)
        # Inductor writes the number of threads into its loops.
        text = f"{linear.code}\n{_describe((*residuals, v))}\n{torch.get_num_threads()}"
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in _PARTS:
            start = time.perf_counter()
            function = torch.compile(linear, fullgraph=True, dynamic=False)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # the compiler's own, about torch.jit
                    found = function(*residuals, v)
            except Exception as error:
                raise LandscapeError(
                    f'torch.compile failed: {_brief(error)}. Use strategy="cached", which compiles nothing.'
                ) from error
            seconds = time.perf_counter() - start
            expected = self._flat(block)(self._w, v, *leaves)
            error_norm, tolerance = float((found - expected).norm()), torch.finfo(v.dtype).eps ** 0.5
            if not error_norm <= tolerance * float(expected.norm()):
                raise LandscapeError(
                    f"the compiled product differs from the traced one by {error_norm:.1e} (norm "
                    f'{float(expected.norm()):.1e}). This is a fault of the compiler: use strategy="cached".'
                )
            _LOG.info("compiled a linear part for %d tangent(s) in %.1f s", block, seconds)
            _PARTS[key] = Compiled(function, seconds, block)
        return _PARTS[key]

    def _flat(self, block: int) -> Callable[..., Tensor]:
        """F on flat arguments, for one tangent or a block of them."""

        def flat(w: Tensor, v: Tensor, *leaves: Tensor) -> Tensor:
            data = with_tensors(self._like, leaves)
            if block == 1:
                return self._function(w, v, data)
            return vmap(lambda u: self._function(w, u, data))(v)

        return flat

    def _tangent(self, block: int) -> Tensor:
        """Any tangent(s) that are not special."""
        size = self._w.numel() * block
        v = torch.sin(1.0 + torch.arange(size, dtype=torch.float64)).to(self._w)
        return v if block == 1 else v.reshape(block, -1)


@dataclass(frozen=True)
class _Part:
    """The product of one batch: residuals kept, or made again at each product."""

    function: Callable[..., Tensor]
    residuals: tuple[Tensor, ...]
    again: Callable[[], tuple[Tensor, ...]] | None

    def __call__(self, v: Tensor) -> Tensor:
        return self.function(*(self.residuals if self.again is None else self.again()), v)


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def _describe(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple((tuple(t.shape), t.stride(), t.dtype, str(t.device)) for t in tensors)


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
