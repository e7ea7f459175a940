"""Architectures, found by name. A model is a frozen config dataclass and a module made from it.

`ARCHITECTURES` maps an architecture of the study to the two settings that define it, given T loops and L layers in a
loop: `single` one pass, `looped` the same layers T times, `stacked` T L untied layers (same depth and compute, no
recursion). `TRAININGS` are the names that a run may have: these, and `shift`, one pass first and T later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from landscape.models.attention import AttentionConfig, AttentionModel
from landscape.models.gpt import GPT, GPTConfig
from landscape.models.regression import Regressor, RegressorConfig

__all__ = [
    "ARCHITECTURES",
    "GPT",
    "MODELS",
    "TRAININGS",
    "AttentionConfig",
    "AttentionModel",
    "GPTConfig",
    "Regressor",
    "RegressorConfig",
    "build_model",
]

MODELS: dict[str, tuple[type[Any], Callable[..., nn.Module]]] = {
    "attention": (AttentionConfig, AttentionModel),
    "gpt": (GPTConfig, GPT),
    "regressor": (RegressorConfig, Regressor),
}
"""Name -> (config dataclass, module class)."""

ARCHITECTURES: dict[str, Callable[..., dict[str, int]]] = {
    "single": lambda loops, layers=1: {"loops": 1, "layers": layers},  # noqa: ARG005
    "looped": lambda loops, layers=1: {"loops": loops, "layers": layers},
    "stacked": lambda loops, layers=1: {"loops": 1, "layers": loops * layers},
}
"""Name -> the model settings it stands for, as a function of the number of loops T and of layers L in a loop."""

TRAININGS: dict[str, Callable[..., dict[str, int]]] = {**ARCHITECTURES, "shift": ARCHITECTURES["looped"]}
"""Name -> likewise, with `shift`, whose model is the looped one from the switch on."""


def build_model(config: Any, *, vocabulary: int, length: int, seed: int) -> nn.Module:
    """The module that a config describes, with initial weights that depend on `seed` alone.

    Example:
        >>> model = build_model(AttentionConfig(width=4), vocabulary=16, length=8, seed=0)
        >>> sum(p.numel() for p in model.parameters())
        208
    """
    generator = torch.Generator().manual_seed(seed)
    return MODELS[config.name][1](config, vocabulary=vocabulary, length=length, generator=generator)
