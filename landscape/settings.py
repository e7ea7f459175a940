"""Settings: looked up by name, laid over each other, and checked, with errors that name the setting."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import types
from collections.abc import Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from landscape.errors import LandscapeError

__all__ = [
    "NOT_NEGATIVE",
    "POSITIVE",
    "SHARE",
    "Range",
    "build",
    "coerce",
    "difference",
    "group",
    "lookup",
    "nest",
    "overlay",
    "parse",
    "within",
]

T = TypeVar("T")
Range = tuple[float, float, str]
"""Least and largest value, and which of the two are allowed: a bracket allows the end, a parenthesis does not."""
POSITIVE: Range = (0.0, math.inf, "()")
NOT_NEGATIVE: Range = (0.0, math.inf, "[)")
SHARE: Range = (0.0, 1.0, "[)")


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


def overlay(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings laid over others; a group whose `name` changes begins empty.

    Example:
        >>> overlay({"model": {"name": "gpt", "heads": 2}, "steps": 3}, {"model": {"width": 8}})
        {'model': {'name': 'gpt', 'heads': 2, 'width': 8}, 'steps': 3}
        >>> overlay({"model": {"name": "gpt", "heads": 2}}, {"model": {"name": "attention"}})
        {'model': {'name': 'attention'}}
    """
    out = dict(base)
    for key, value in new.items():
        old = out.get(key)
        out[key] = value
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            same = value.get("name", old.get("name")) == old.get("name")
            out[key] = overlay(old, value) if same else dict(value)
    return out


def difference(old: Mapping[str, Any], new: Mapping[str, Any], *, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Entries that differ between two nested dictionaries, as (dotted name, old value, new value).

    Example:
        >>> difference({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
        [('a.b', 1, 3)]
    """
    out: list[tuple[str, Any, Any]] = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += difference(a, b, prefix=f"{prefix}{key}.")
        elif a != b:
            out.append((f"{prefix}{key}", a, b))
    return out


def group(value: Any, where: str) -> Mapping[str, Any]:
    """`value` if it is a group of settings, else an error.

    Example:
        >>> group({"name": "markov"}, "task")
        {'name': 'markov'}
    """
    if not isinstance(value, Mapping):
        raise LandscapeError(f"expected {where} to be a group of settings such as {where}.name, found {value!r}.")
    return value


def build(cls: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """A dataclass from plain values, refusing unknown names and wrong types."""
    known: Any = cls
    hints = _hints(known)
    names = {f.name for f in dataclasses.fields(cls)}
    kwargs = {}
    for key, value in values.items():
        lookup(dict.fromkeys(names), key, kind=f"setting of {where}")
        kwargs[key] = coerce(value, hints[key], where=f"{where}.{key}")
    needed = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [n for n in needed if n not in kwargs]:
        raise LandscapeError(f"expected a value of {where}.{missing[0]}, found none. Set it, or nothing of {where}.")
    try:
        return cls(**kwargs)
    except ValueError as error:
        raise LandscapeError(str(error)) from error


def within(config: Any, **ranges: Range) -> None:
    """Refuse a setting outside its range; NaN is outside of every range.

    Raises:
        LandscapeError: naming the setting and its range.

    Example:
        >>> within(types.SimpleNamespace(name="adamw", lr=0.1), lr=POSITIVE)
    """
    for name, (low, high, ends) in ranges.items():
        x = getattr(config, name)
        above = x >= low if ends[0] == "[" else x > low
        below = x <= high if ends[1] == "]" else x < high
        if not (above and below):
            raise LandscapeError(
                f"expected {name} of {config.name!r} in {ends[0]}{low:g}, {high:g}{ends[1]}, found {x}."
            )


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return get_type_hints(cls)


def _say(option: Any) -> str:
    if option is type(None):
        return "null"
    if get_origin(option) is Literal:
        return "one of " + ", ".join(map(repr, get_args(option)))
    if get_origin(option) in (tuple, Sequence):
        return f"a list of {_say(get_args(option)[0])}"
    return getattr(option, "__name__", str(option))
