"""A grid: which runs are trained, and what is asked of them."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import LandscapeError
from landscape.grids.asked import Asked
from landscape.grids.points import flat, points, says_something, settings_of
from landscape.settings import group, lookup, overlay
from landscape.training.config import RunConfig

__all__ = ["Grid"]

_TABLES = ("preset", "base", "vary", "blocks", "probes")
_OF_A_BLOCK = ("preset", "base", "vary", "label")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Configs by the names of their run folders, and the probes asked of all of them.

    Attributes:
        configs: in the order in which they are trained.
        probes: what is asked of every run.

    Example:
        >>> grid = Grid.make(
        ...     base={"steps": 100, "model": {"width": 8}},
        ...     vary={"arch": ["single", "shift"], "shift": {"patience": [2, 5]}, "seed": [0, 1]},
        ...     probes=[{"name": "spectrum", "count": 5, "settings": {"k": 3}}],
        ... )
        >>> list(grid.configs)[:4]
        ['markov-single-s0', 'markov-single-s1', 'markov-shift-s0-patience=2', 'markov-shift-s1-patience=2']
    """

    configs: Mapping[str, RunConfig]
    probes: tuple[Asked, ...] = ()

    @classmethod
    def make(
        cls,
        *,
        preset: str | None = None,
        base: Mapping[str, Any] | None = None,
        vary: Mapping[str, Any] | None = None,
        blocks: Sequence[Mapping[str, Any]] = (),
        probes: Sequence[Mapping[str, Any]] = (),
        device: str = "cpu",
    ) -> Grid:
        """A grid from plain values, as a grid file has them.

        Args:
            preset: settings to start from (`landscape show --presets`), by name, or by what follows the task in it.
            base: settings of all runs, nested as for `RunConfig.make`; `task = "parity"` is short for its name.
            vary: lists of values; every combination is a run.
            blocks: parts of the grid that are not crossed with each other. Each has its `base` and `vary`, laid over
                those of the grid, a `preset` in place of the grid's, and a `label` for the names of its runs.
            probes: see `landscape.grids.asked.Asked`.
            device: of runs and probes that name none.

        Raises:
            LandscapeError: for an unknown name, a wrong value, settings of SHIFT where nothing shifts, or two
                different runs of one name.
        """
        base, vary = settings_of(group(base or {}, "base")), flat(group(vary or {}, "vary"))
        configs: dict[str, RunConfig] = {}
        known: set[str] = set()
        named = {*base, *vary}
        for i, block in enumerate(_tables(blocks, "blocks") or [{}]):
            for entry in block:
                lookup(dict.fromkeys(_OF_A_BLOCK), entry, kind=f"entry of blocks[{i}]")
            over = settings_of(group(block.get("base", {}), f"blocks[{i}].base"))
            varied = flat(group(block.get("vary", {}), f"blocks[{i}].vary"))
            named |= {*over, *varied}
            label = "" if block.get("label") is None else f"-{block['label']}"
            for suffix, settings in points(
                overlay(base, over), vary | varied, preset=block.get("preset", preset), device=device
            ):
                config = RunConfig.make(**settings)
                if (text := json.dumps(config.to_dict(), sort_keys=True)) in known:  # also in another block
                    continue
                known.add(text)
                name = f"{config.task.name}-{config.arch}-s{config.seed}{label}{suffix}"
                if name in configs:
                    raise LandscapeError(f"two different runs would be called {name!r}. Give a block a `label`.")
                configs[name] = config
        archs = {config.arch for config in configs.values()}
        for name in sorted(named):
            if not any(says_something(name, arch) for arch in archs):
                raise LandscapeError(f"{name!r} says nothing about {' and '.join(sorted(archs))}. Leave it out.")
        asked = tuple(Asked.make({"device": device, **table}) for table in _tables(probes, "probes"))
        grid = cls(configs=configs, probes=asked)
        grid.check()
        return grid

    def check(self) -> None:
        """Refuse what is asked of no run, and steps that will have no checkpoint.

        Raises:
            LandscapeError: naming the probe and what is there.
        """
        for asked in self.probes:
            configs = [(name, config) for name, config in self.configs.items() if asked.of(config)]
            if not configs:
                raise LandscapeError(
                    f"no run of the grid has an architecture among {list(asked.arch) or 'all'} and a seed among "
                    f"{list(asked.run_seed) or 'all'}, which the probe {asked.name!r} is asked of."
                )
            for name, config in configs:
                there = config.checkpoint_steps()
                for step in asked.at or ():
                    # The step of a switch is a checkpoint, too, but nobody knows it beforehand.
                    if isinstance(step, int) and step not in there and (config.shift is None or step > config.steps):
                        near = sorted(there[np.argsort(np.abs(there - step))[:4]].tolist())
                        raise LandscapeError(
                            f"probe {asked.name!r}: {name} will have no checkpoint of step {step}. The nearest are "
                            f"{', '.join(map(str, near))}."
                        )

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, device: str = "cpu") -> Grid:
        """A grid from a TOML file with the entries that `make` takes.

        Raises:
            LandscapeError: if it is missing, no TOML, or has an unknown entry; and as `make`.
        """
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise LandscapeError(f"cannot read the grid {path}: {error}.") from error
        except ValueError as error:
            raise LandscapeError(f"{path} is not valid TOML: {error}") from error
        for entry in table:
            lookup(dict.fromkeys(_TABLES), entry, kind="entry of a grid")
        return cls.make(**table, device=device)


def _tables(value: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list | tuple) or not all(isinstance(table, Mapping) for table in value):
        raise LandscapeError(f"expected {where} to be tables, each after a line [[{where}]], found {value!r}.")
    return list(value)
