"""Architectures, found by name. A model is a frozen config dataclass and a module made from it.

`ARCHITECTURES` maps an architecture of the study to the two settings that define it, given T loops:
`single` one pass, `looped` one layer T times, `stacked` T untied layers (same depth and compute, no recursion).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from landscape.models.attention import AttentionConfig, AttentionModel

__all__ = ["ARCHITECTURES", "MODELS", "AttentionConfig", "AttentionModel", "build_model"]

MODELS: dict[str, tuple[type[Any], Callable[..., nn.Module]]] = {"attention": (AttentionConfig, AttentionModel)}
"""Name -> (config dataclass, module class)."""

ARCHITECTURES: dict[str, Callable[[int], dict[str, int]]] = {
    "single": lambda loops: {"loops": 1, "layers": 1},  # noqa: ARG005
    "looped": lambda loops: {"loops": loops, "layers": 1},
    "stacked": lambda loops: {"loops": 1, "layers": loops},
}
"""Name -> the model settings it stands for, as a function of the number of loops T."""


def build_model(config: Any, *, vocabulary: int, length: int, seed: int) -> nn.Module:
    """The module that a config describes, with initial weights that depend on `seed` alone.

    Example:
        >>> model = build_model(AttentionConfig(width=4), vocabulary=16, length=8, seed=0)
        >>> sum(p.numel() for p in model.parameters())
        208
    """
    generator = torch.Generator().manual_seed(seed)
    return MODELS[config.name][1](config, vocabulary=vocabulary, length=length, generator=generator)
