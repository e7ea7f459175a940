"""Where each parameter of a module sits in one flat vector."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Names, shapes and filter axes of the parameters that make up a vector w of shape (P,).

    Parameters are laid one after the other in row-major order, so parameter i occupies
    ``w[offsets[i] : offsets[i] + sizes[i]]``. Two vectors may meet only if their layouts have the same ``hash``.

    A *filter* is the slice of a tensor at one index of its filter axis: a row of a weight of shape (out, in), an output
    channel of a convolution, the embedding of one token. A parameter with fewer than two axes is one filter.

    Args:
        names: one name per parameter, unique.
        shapes: one shape per parameter.
        filter_axes: the axis that counts filters, or None for a parameter that is a single filter.

    Raises:
        LandscapeError: if lengths differ, names repeat or an axis does not exist.

    Example:
        >>> import torch
        >>> layout = Layout.of(torch.nn.Linear(3, 2))
        >>> layout.size, layout.names
        (8, ('weight', 'bias'))
        >>> layout.unflatten(torch.arange(8.0))["bias"]
        tensor([6., 7.])
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    filter_axes: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.shapes) == len(self.filter_axes):
            raise LandscapeError("expected one name, one shape and one filter axis per parameter.")
        if len(set(self.names)) != len(self.names):
            raise LandscapeError(f"expected unique parameter names, found {list(self.names)}.")
        for name, shape, axis in zip(self.names, self.shapes, self.filter_axes, strict=True):
            if axis is not None and not 0 <= axis < len(shape):
                raise LandscapeError(f"parameter {name!r} of shape {shape} has no axis {axis}.")

    @classmethod
    def of(cls, module: nn.Module, *, only: str | Sequence[str] | None = None) -> Layout:
        """The layout of a module's trainable parameters, or of those that match `only`, trainable or not.

        Trainable means floating and with ``requires_grad``. Tied parameters count once.
        """
        every = {n: p for n, p in module.named_parameters() if p.is_floating_point() or p.is_complex()}
        if complex_ones := [n for n, p in every.items() if p.is_complex()]:
            raise LandscapeError(f"expected real parameters, found complex ones: {', '.join(complex_ones)}.")
        keep = set(match(tuple(every), only)) if only is not None else {n for n, p in every.items() if p.requires_grad}
        if not keep:
            frozen = f"; frozen: {', '.join(every)}. Name some in `parameters`" if every else ""
            raise LandscapeError(f"{type(module).__name__} has no trainable parameters, so no loss landscape{frozen}.")
        named = [(n, tuple(p.shape)) for n, p in every.items() if n in keep]
        return cls(
            names=tuple(n for n, _ in named),
            shapes=tuple(s for _, s in named),
            filter_axes=tuple(0 if len(s) >= 2 else None for _, s in named),
        )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each parameter."""
        return tuple(math.prod(s) for s in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index in w of the first entry of each parameter."""
        return tuple(sum(self.sizes[:i]) for i in range(len(self.sizes)))

    @property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    @cached_property
    def hash(self) -> str:
        """Twelve hexadecimal digits that identify names, shapes and filter axes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """This layout as text; `from_json` is its inverse."""
        return json.dumps({"names": self.names, "shapes": self.shapes, "filter_axes": self.filter_axes})

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """Read a layout written by `to_json`."""
        d = json.loads(text)
        return cls(tuple(d["names"]), tuple(tuple(s) for s in d["shapes"]), tuple(d["filter_axes"]))

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Join named tensors into one vector (P,). Names and shapes must be exactly those of the layout."""
        if set(tensors) != set(self.names):
            missing, extra = set(self.names) - set(tensors), set(tensors) - set(self.names)
            raise LandscapeError(
                f"expected the parameters of layout {self.hash}; missing {sorted(missing)}, not in it {sorted(extra)}."
            )
        for name, shape in zip(self.names, self.shapes, strict=True):
            if tuple(tensors[name].shape) != shape:
                raise LandscapeError(f"expected {name!r} of shape {shape}, found {tuple(tensors[name].shape)}.")
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def unflatten(self, w: Tensor) -> dict[str, Tensor]:
        """Named views of a vector (P,); no copy, and gradients flow back to `w`."""
        self.check(w)
        # split, unlike slicing, has one `cat` as its derivative: much cheaper for many parameters.
        parts = torch.split(w, list(self.sizes))
        return {n: p.view(s) for n, p, s in zip(self.names, parts, self.shapes, strict=True)}

    def check(self, w: Tensor, *, what: str = "vector") -> None:
        """Raise if `w` is not a vector of this layout."""
        if w.shape != (self.size,):
            raise LandscapeError(
                f"expected a {what} of shape ({self.size},) for layout {self.hash}, found {tuple(w.shape)}. "
                "Was it made for another architecture? Use `layout.flatten` to build vectors."
            )

    def mask(self, pattern: str | Iterable[str]) -> Tensor:
        """Boolean vector (P,), True on parameters whose name matches a shell-style pattern such as ``"blocks.*"``."""
        keep = set(match(self.names, pattern))
        return torch.cat(
            [torch.full((s,), n in keep, dtype=torch.bool) for n, s in zip(self.names, self.sizes, strict=True)]
        )

    def filter_norms(self, w: Tensor) -> Tensor:
        """Vector (P,) holding, at each entry, the Euclidean norm of the filter of `w` that the entry belongs to."""
        out = []
        for part, axis in zip(self.unflatten(w).values(), self.filter_axes, strict=True):
            dims = None if axis is None else [d for d in range(part.ndim) if d != axis]
            norm = torch.linalg.vector_norm(part, dim=dims, keepdim=True)
            out.append(norm.expand(part.shape).reshape(-1))
        return torch.cat(out)


def match(names: Sequence[str], pattern: str | Iterable[str]) -> list[str]:
    """The names that match any of the patterns; an error lists what exists if a pattern matches nothing."""
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    if not patterns:
        raise LandscapeError(
            f"expected at least one pattern of parameter names. The parameters are: {', '.join(names)}."
        )
    for p in patterns:
        if not any(fnmatchcase(n, p) for n in names):
            raise LandscapeError(f"no parameter matches {p!r}. The parameters are: {', '.join(names)}.")
    return [n for n in names if any(fnmatchcase(n, p) for p in patterns)]
