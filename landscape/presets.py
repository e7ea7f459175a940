"""Settings to start from, by name: TASK-quick fits a laptop, TASK-paper is the full recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from landscape.errors import LandscapeError
from landscape.registry import lookup

__all__ = ["load_preset", "overlay", "presets"]


def presets() -> dict[str, dict[str, Any]]:
    """All presets by name: nested settings as for `RunConfig.make`, with `about`, one line on what it is.

    They are not checked here: a preset may be for a task that is not there.

    Example:
        >>> presets()["parity-paper"]["optimizer"]["lr"]
        0.0001
    """
    found = (f for f in files("landscape").joinpath("presets").iterdir() if f.name.endswith(".toml"))
    return {f.name.removesuffix(".toml"): tomllib.loads(f.read_text(encoding="utf-8")) for f in sorted(found, key=str)}


def load_preset(name: str, *, task: str | None = None) -> dict[str, Any]:
    """The settings of a preset, named in full or, with a task, by what follows the task's name.

    Raises:
        LandscapeError: for an unknown name, or a preset of another task.

    Example:
        >>> load_preset("quick", task="parity")["task"]["name"], load_preset("parity-quick")["task"]["name"]
        ('parity', 'parity')
    """
    known = presets()
    full = name if task is None or name in known else f"{task}-{name}"
    if task is None and name not in known and any(k.endswith(f"-{name}") for k in known):
        full = f"markov-{name}"  # the task of a command that names none
    settings = lookup(known, full, kind="preset")
    if task is not None and settings["task"]["name"] != task:
        raise LandscapeError(f"expected a preset of the task {task!r}, found {full!r}. Leave --task out, or change it.")
    return {k: v for k, v in settings.items() if k != "about"}


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
