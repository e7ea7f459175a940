"""Look things up by name, with an error that lists what exists."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from landscape.errors import LandscapeError

__all__ = ["lookup"]

T = TypeVar("T")


def lookup(table: Mapping[str, T], name: str, *, kind: str) -> T:
    """``table[name]``, or an error naming the close matches and all valid names.

    Example:
        >>> lookup({"markov": 1}, "markov", kind="task")
        1
    """
    if isinstance(name, str) and name in table:
        return table[name]
    close = get_close_matches(str(name), table, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    raise LandscapeError(f"unknown {kind} {name!r}.{guess} Valid names: {', '.join(sorted(table))}.")
