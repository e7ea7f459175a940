"""The configs that one `landscape train` command asks for."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import click

from landscape.errors import LandscapeError
from landscape.settings import overlay

__all__ = ["collect", "variants", "without_shift"]


def variants(vary: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Every choice of one value per NAME=V1,V2,..: what is added to the run's name, and the assignments.

    Example:
        >>> variants(["shift.at=3,5"])
        [('-at=3', ['shift.at=3']), ('-at=5', ['shift.at=5'])]
        >>> variants(["model.scale=1/T"])  # a slash is no part of a name
        [('-scale=1-T', ['model.scale=1/T'])]
    """
    axes = []
    for text in vary:
        name, sign, values = text.partition("=")
        chosen = list(dict.fromkeys(v.strip() for v in values.split(",")))
        if not sign or not name or not all(chosen):
            raise LandscapeError(f"expected --vary NAME=VALUE,VALUE.., found {text!r}.")
        if re.search(r'[\\:*?"<>|]', values):  # a folder must have the same name on every system
            raise LandscapeError(f"expected values that can be part of a folder's name, found {values!r}.")
        if len({_in_name(v) for v in chosen}) < len(chosen):
            raise LandscapeError(f"expected values that differ as part of a folder's name, found {values!r}.")
        axes.append([(name, v) for v in chosen])
    if len({axis[0][0] for axis in axes}) < len(axes):
        raise LandscapeError("expected every setting of --vary once, with all its values separated by commas.")
    return [
        ("".join(f"-{n.rpartition('.')[2]}={_in_name(v)}" for n, v in choice), [f"{n}={v}" for n, v in choice])
        for choice in product(*axes)
    ]


def _in_name(value: str) -> str:
    return value.replace("/", "-")


def without_shift(settings: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    """A preset's settings of `shift`, or those of a command that trains `shift` beside others, are for it alone."""
    keep = settings.get("arch") == "shift" or not optional
    return settings if keep else {k: v for k, v in settings.items() if k != "shift"}


def collect(start: dict[str, Any], config_file: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Those of a preset, overlaid with the config file's, then with the command line's."""
    base = start
    if config_file is not None:
        kind = "JSON" if config_file.suffix == ".json" else "TOML"
        try:
            text = config_file.read_text(encoding="utf-8")
            read = json.loads(text) if kind == "JSON" else tomllib.loads(text)
        except ValueError as error:
            raise LandscapeError(f"{config_file} is not valid {kind}: {error}") from error
        if not isinstance(read, dict):
            raise LandscapeError(f"expected a table of settings in {config_file}, found {type(read).__name__}.")
        base = overlay(start, read)
    places = {
        "task": ("task", "name"),
        "model": ("model", "name"),
        "width": ("model", "width"),
        "attention": ("model", "attention"),
        "optimizer": ("optimizer", "name"),
        "lr": ("optimizer", "lr"),
        "schedule": ("schedule", "name"),
        "project": ("projection", "subspace"),
        "k": ("projection", "k"),
        "every": ("projection", "every"),
    }
    for key, value in flags.items():
        if value is None:
            continue
        if key == "batch":
            value = _batch(value)
        group, name = places.get(key, (None, key))
        if (key, value) == ("project", "off"):
            base["projection"] = None
        elif group is None:
            base[name] = value
        elif name == "name" and isinstance(base.get(group), dict):
            base = overlay(base, {group: {"name": value}})
        else:
            if not isinstance(base.setdefault(group, {}), dict):
                raise LandscapeError(f"expected {group} to be a group of settings, found {base[group]!r}.")
            base[group][name] = value
    return base


def _batch(text: str) -> int | None:
    if text == "full":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise click.BadParameter(f"expected a whole number or `full`, found {text!r}.", param_hint="--batch") from error
