"""Settings to start from, by name: TASK-quick fits a laptop, TASK-paper is the full recipe."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from landscape.errors import LandscapeError
from landscape.settings import lookup

__all__ = ["load_preset", "presets"]


def presets() -> dict[str, dict[str, Any]]:
    """All presets by name: nested settings as for `RunConfig.make`, with `about`, one line on what it is.

    They are not checked here: a preset may be for a task that is not there.

    Example:
        >>> presets()["parity-paper"]["optimizer"]["lr"]
        0.0001
    """
    found = (f for f in files("landscape.training").joinpath("presets").iterdir() if f.name.endswith(".toml"))
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
