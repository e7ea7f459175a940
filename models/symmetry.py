"""Which units of a model can change places without changing what it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["SYMMETRIES", "Piece", "Symmetry", "Units"]


@dataclass(frozen=True)
class Units:
    """Places that may be permuted, alike on every axis that is counted by one of the labels.

    With one head every order of the `size` places is allowed, the same for all labels. With more the places are heads
    of size / heads units each: heads change places as wholes, the same for all labels, and within each head the units
    of every label by themselves.

    Attributes:
        labels: of the axes.
        size: number of places.
        heads: number of heads.
    """

    labels: tuple[str, ...]
    size: int
    heads: int = 1


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of a parameter, with the label of each axis; None where nothing changes places."""

    parameter: str
    labels: tuple[str | None, ...]
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Symmetry:
    """A group of permutations of the entries of a parameter vector that leave the model's function as it is.

    Attributes:
        units: what changes places, each independently of the others.
        pieces: of parameters, which together hold every entry that moves.

    Example:
        >>> from landscape.models import AttentionConfig
        >>> found = SYMMETRIES["attention"](AttentionConfig(width=8))
        >>> [u.labels for u in found.units]
        [('stream',), ('blocks.0.scores',)]
    """

    units: tuple[Units, ...]
    pieces: tuple[Piece, ...]


def _attention(config: Any) -> Symmetry:
    """The toy: coordinates of the residual stream, and of queries and keys, of which only Q . K is seen.

    A layer norm without parameters, a share of the passes, another number of loops and injection change nothing.
    """
    d = config.width
    units = [Units(("stream",), d)]
    pieces = [Piece(name, (None, "stream")) for name in ("embedding", "position", "head")]
    for i in range(config.layers):
        block, scores = f"blocks.{i}", f"blocks.{i}.scores"
        units.append(Units((scores,), d))
        pieces += [Piece(f"{block}.W_Q", (scores, "stream")), Piece(f"{block}.W_K", (scores, "stream"))]
        pieces.append(Piece(f"{block}.W_V", ("stream", "stream")))
    return Symmetry(tuple(units), tuple(pieces))


def _blocks(config: Any, outside: tuple[Piece, ...]) -> Symmetry:
    """GPT-2 blocks: the residual stream; in each block heads, units within a head, and hidden units of the MLP."""
    d, inner = config.width, config.mlp_ratio * config.width
    units = [Units(("stream",), d)]
    pieces = [*outside, Piece("norm.weight", ("stream",)), Piece("norm.bias", ("stream",))]
    if config.positions:
        pieces.append(Piece("position", (None, "stream")))
    for i in range(config.layers):
        block = f"blocks.{i}"
        scores, values, hidden = (f"{block}.{name}" for name in ("scores", "values", "hidden"))
        units += [Units((scores, values), d, heads=config.heads), Units((hidden,), inner)]
        pieces += [Piece(f"{block}.norm_{j}.{p}", ("stream",)) for j in (1, 2) for p in ("weight", "bias")]
        for start, label in ((0, scores), (d, scores), (2 * d, values)):  # queries, keys, values
            pieces.append(Piece(f"{block}.qkv.weight", (label, "stream"), start, start + d))
            pieces.append(Piece(f"{block}.qkv.bias", (label,), start, start + d))
        pieces += [Piece(f"{block}.out.weight", ("stream", values)), Piece(f"{block}.out.bias", ("stream",))]
        pieces += [Piece(f"{block}.up.weight", (hidden, "stream")), Piece(f"{block}.up.bias", (hidden,))]
        pieces += [Piece(f"{block}.down.weight", ("stream", hidden)), Piece(f"{block}.down.bias", ("stream",))]
    return Symmetry(tuple(units), tuple(pieces))


def _gpt(config: Any) -> Symmetry:
    return _blocks(config, (Piece("embedding", (None, "stream")), Piece("head", (None, "stream"))))


def _regressor(config: Any) -> Symmetry:
    return _blocks(config, (Piece("read_in", ("stream", None)), Piece("head", (None, "stream"))))


SYMMETRIES: dict[str, Callable[[Any], Symmetry]] = {"attention": _attention, "gpt": _gpt, "regressor": _regressor}
"""Name of a model -> its permutations, as a function of its config."""
