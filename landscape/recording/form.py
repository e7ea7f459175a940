"""The form of the file of a run that was not trained here: its header, and metrics whose names come as they come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.provenance import code_revision, created, versions
from landscape.recording.capture import OptimizerState
from landscape.runs.foreign import NAME_LENGTH
from landscape.runs.modelstate import ModelState
from landscape.runs.writing import Columns

__all__ = [
    "GROUPS",
    "METRICS_AT_MOST",
    "encoded",
    "fits",
    "header",
    "identity",
    "number",
    "plain",
    "short",
    "whole",
]

METRICS_AT_MOST = 64
GROUPS: dict[str, Columns] = {"metrics": {"values": (METRICS_AT_MOST,)}, "names": {"name": (NAME_LENGTH,)}}
"""A row of metrics has a place for each; `names` says in the order of first use what is where. HDF5 lets no column be
added while others read a file, but rows it does."""


def header(
    kind: str, state: ModelState, config: Mapping[str, Any], optimizer: OptimizerState | None, **provenance: Any
) -> dict[str, Any]:
    """What the file says of the run."""
    return {
        "kind": kind,
        "config": plain(config),
        "layout": state.layout.to_json(),
        "state": state.to_json(),
        "optimizer": None if optimizer is None else optimizer.header(),
        "provenance": {
            "versions": versions(),
            "code_revision": code_revision(),
            "created": created(),
            "layout_hash": state.layout.hash,
            **provenance,
        },
    }


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as JSON has it.

    Raises:
        LandscapeError: for values that JSON has no form for.

    Example:
        >>> plain({"lr": 0.1, "betas": (0.9, 0.99)})
        {'lr': 0.1, 'betas': [0.9, 0.99]}
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(config), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise LandscapeError(
            f"expected a config of numbers, texts, lists and dicts, found another: {error}."
        ) from error
    return found


def fits(name: str) -> bool:
    """Whether a metric of this name can be kept."""
    return 0 < len(name.encode("utf-8", "replace")) <= NAME_LENGTH and name != "step" and "\0" not in name


def encoded(name: str) -> NDArray[np.float64]:
    """The name of a metric as a row of numbers.

    Raises:
        LandscapeError: for one that is empty or too long.

    Example:
        >>> encoded("loss")[:5].tolist()
        [108.0, 111.0, 115.0, 115.0, 0.0]
    """
    data = name.encode("utf-8", "replace")
    if not fits(name):
        raise LandscapeError(
            f"expected the name of a metric, up to {NAME_LENGTH} bytes and not 'step', found {name!r}."
        )
    return np.frombuffer(data.ljust(NAME_LENGTH, b"\0"), np.uint8).astype(np.float64)


def identity(header: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree for a loop to continue a run; settings of an optimiser may be on a schedule."""
    optimizer = header.get("optimizer") or {}
    return {
        **{k: header.get(k) for k in ("kind", "config", "layout", "state")},
        "optimizer": {k: optimizer.get(k) for k in ("name", "state")},
    }


def whole(step: Any) -> int:
    """A step, from 0 on.

    Raises:
        LandscapeError: for anything else.
    """
    try:
        if 0 <= (n := int(step)) == step and n < 2**62:
            return n
    except (TypeError, ValueError, OverflowError):
        pass
    raise LandscapeError(f"expected a whole step from 0 on, found {step!r}.")


def number(name: str, value: Any) -> float:
    """The value of a metric.

    Raises:
        LandscapeError: for what is no number.
    """
    try:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise LandscapeError(
            f"expected a number for the metric {name!r}, found {type(value).__name__}: {error}."
        ) from error


def short(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
