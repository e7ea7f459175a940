"""The points of a grid of settings: every combination of what varies, with a name."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from landscape.errors import LandscapeError
from landscape.settings import overlay
from landscape.training.presets import load_preset

__all__ = ["flat", "points", "says_something", "settings_of"]

NAMED = ("task", "model", "optimizer", "schedule")
"""Groups that may be given by their name alone: `task = "parity"` is `task.name = "parity"`."""
_IN_EVERY_NAME = ("task.name", "arch", "seed")


def settings_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as `RunConfig.make` takes them, of a table that may name groups by their name alone.

    Example:
        >>> settings_of({"task": "parity", "batch": "full", "model": {"width": 8}})
        {'task': {'name': 'parity'}, 'batch': None, 'model': {'width': 8}}
    """
    out = {key: {"name": v} if key in NAMED and isinstance(v, str) else v for key, v in table.items()}
    if out.get("batch") == "full":
        out["batch"] = None
    return copy.deepcopy(out)


def flat(vary: Mapping[str, Any], *, prefix: str = "") -> dict[str, list[Any]]:
    """What varies, by dotted names: nested tables and quoted dotted names are the same.

    Raises:
        LandscapeError: for what is no list, an empty list, or values that cannot be part of a folder's name.

    Example:
        >>> flat({"model": {"norm": ["none", "post"]}, "task": ["parity"], "shift.mode": ["hard"]})
        {'model.norm': ['none', 'post'], 'task.name': ['parity'], 'shift.mode': ['hard']}
    """
    out: dict[str, list[Any]] = {}
    for key, values in vary.items():
        name = f"{prefix}{key}"
        if isinstance(values, Mapping):
            found = flat(values, prefix=f"{name}.")
        else:
            found = {f"{name}.name" if name in NAMED else name: _values(name, values)}
        if twice := set(found) & set(out):
            raise LandscapeError(f"expected vary.{min(twice)} once, with all its values, found it twice.")
        out |= found
    return out


def _values(name: str, values: Any) -> list[Any]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise LandscapeError(f"expected vary.{name} to be a list of values, found {values!r}.")
    for value in values:
        if not isinstance(value, str | int | float):
            raise LandscapeError(
                f"expected numbers, texts or booleans in vary.{name}, found {value!r}. What goes together belongs "
                "into a block of its own."
            )
        if re.search(r'[/\\:*?"<>|]', str(value)):  # a folder must have the same name on every system
            raise LandscapeError(f"expected values that can be part of a folder's name, found {value!r}.")
    return list(dict.fromkeys(values))


def points(
    base: Mapping[str, Any], vary: Mapping[str, list[Any]], *, preset: str | None = None, device: str = "cpu"
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings of every combination of one value per name, and what it adds to the run's name.

    What says nothing about an architecture is left out of its settings and of its name, so that such combinations are
    one run: `shift` and `shift.NAME` are for arch "shift", `loops` for those that have more than one.

    Args:
        base: settings of all.
        vary: values by dotted name, as `flat` makes them.
        preset: settings to start from, those of the task where its name has none in it.
        device: where neither these nor the preset name one.

    Example:
        >>> [name for name, _ in points({}, {"arch": ["single", "shift"], "shift.at": [3, 5]})]
        ['', '-at=3', '-at=5']
        >>> [s for _, s in points({"steps": 9}, {"model.width": [4], "optimizer.name": ["sgd"]})]
        [{'device': 'cpu', 'steps': 9, 'optimizer': {'name': 'sgd'}, 'model': {'width': 4}}]
    """
    # Names of groups first: another name empties the group.
    names = sorted(vary, key=lambda name: not name.endswith(".name"))
    told = [name for name in vary if name not in _IN_EVERY_NAME]
    last = [name.removesuffix(".name").rpartition(".")[2] for name in told]
    short = {n: end if last.count(end) == 1 else n for n, end in zip(told, last, strict=True)}
    seen: set[tuple[tuple[str, Any], ...]] = set()
    for choice in product(*(vary[name] for name in names)):
        chosen = dict(zip(names, choice, strict=True))
        arch = chosen.get("arch", base.get("arch", "single"))
        here = {name: value for name, value in chosen.items() if says_something(name, arch)}
        if (key := tuple(here.items())) in seen:
            continue
        seen.add(key)
        task = here.get("task.name", base.get("task", {}).get("name"))
        start = {} if preset is None else load_preset(preset, task=task)
        settings = overlay({"device": device, **start}, base)
        for name, value in here.items():
            settings = overlay(settings, _nested(name, None if value == "null" else value))
        settings = {k: v for k, v in settings.items() if says_something(k, arch)}
        yield "".join(f"-{short[n]}={_text(here[n])}" for n in told if n in here), settings


def says_something(name: str, arch: str) -> bool:
    """Whether a setting is one of this architecture's."""
    group = name.partition(".")[0]
    return not ((group == "shift" and arch != "shift") or (name == "loops" and arch == "single"))


def _nested(name: str, value: Any) -> dict[str, Any]:
    first, _, rest = name.partition(".")
    return {first: _nested(rest, value) if rest else settings_of({first: value})[first]}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
