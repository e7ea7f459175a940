"""Plain values from files and command lines into typed settings, with errors that name the setting."""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from landscape.errors import LandscapeError

__all__ = ["coerce", "nest", "parse"]


def coerce(value: Any, hint: Any, *, where: str) -> Any:
    """`value` as the type `hint`; int is accepted for float and a list for a tuple, nothing else is converted.

    Raises:
        LandscapeError: naming the setting, the type expected and the value found.

    Example:
        >>> coerce([1, 2.5], tuple[float, ...], where="valley.rises")
        (1.0, 2.5)
    """
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if Any in options or (value is None and type(None) in options):
        return value
    for option in options:
        origin = get_origin(option)
        if origin is Literal and value in get_args(option):
            return value
        if origin in (tuple, Sequence) and isinstance(value, list | tuple):
            return tuple(coerce(v, get_args(option)[0], where=where) for v in value)
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and isinstance(value, option) and not (option is int and isinstance(value, bool)):
            return value
    raise LandscapeError(f"expected {where} to be {' or '.join(map(_say, options))}, found {value!r}.")


def parse(assignment: str) -> tuple[list[str], Any]:
    """``"a.b=3"`` as (["a", "b"], 3). The value is read as JSON, or taken as text where it is not JSON.

    Example:
        >>> parse("valley.rises=[0.1, 1]"), parse("surface.directions=pca")
        ((['valley', 'rises'], [0.1, 1]), (['surface', 'directions'], 'pca'))
    """
    name, sign, text = assignment.partition("=")
    if not sign or not name.strip():
        raise LandscapeError(f"expected NAME=VALUE, found {assignment!r}. For example: --set task.length=20")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    return name.strip().split("."), value


def nest(assignments: Iterable[str], into: dict[str, Any] | None = None) -> dict[str, Any]:
    """Nested dictionary of ``a.b=value`` assignments, laid over a copy of `into`."""
    out: dict[str, Any] = copy.deepcopy(into or {})
    for assignment in assignments:
        keys, value = parse(assignment)
        node = out
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise LandscapeError(f"cannot set {'.'.join(keys)}: {key} is a value, not a group.")
        node[keys[-1]] = value
    return out


def _say(option: Any) -> str:
    if option is type(None):
        return "null"
    if get_origin(option) is Literal:
        return "one of " + ", ".join(map(repr, get_args(option)))
    if get_origin(option) in (tuple, Sequence):
        return f"a list of {_say(get_args(option)[0])}"
    return getattr(option, "__name__", str(option))
