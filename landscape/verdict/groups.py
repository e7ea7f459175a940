"""Which runs belong together: settings, kinds of training within them, seeds, and who is left out and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.verdict.stored import Subject

__all__ = ["Kind", "Setting", "settings_of"]

_WHERE = ("seed", "device", "gradient")
"""Parts of a config that are no setting: what differs from seed to seed, and where a run was computed."""
_ARCH = ("arch", "shift")
"""Parts that belong to the architecture."""
_DEPTH = ("loops", "layers")
"""Of the model, likewise."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Runs that differ in their seed alone.

    Attributes:
        arch: architecture.
        label: architecture, and what tells it from others of the same name in this setting.
        loops: T of a trained run, None of others.
        layers: L likewise.
        runs: complete runs by seed, ascending.
    """

    arch: str
    label: str
    loops: int | None
    layers: int | None
    runs: Mapping[int, Subject]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Runs that differ in architecture and seed alone.

    Attributes:
        label: what tells it from the other settings of the study.
        values: the config without architecture and seed, flat.
        kinds: in order of their labels.
        left_out: every run that does not count, and why.
        diverged: labels of kinds with diverged runs -> their seeds.
    """

    label: str
    values: Mapping[str, Any]
    kinds: Sequence[Kind]
    left_out: Sequence[str]
    diverged: Mapping[str, Sequence[int]]

    def pairs(self, treated: str, base: str) -> Iterator[tuple[Kind, Kind]]:
        """Every kind of one architecture with every one of another that has the same depth where both have one."""
        for a in self.kinds:
            for b in self.kinds:
                if a.arch == treated and b.arch == base and _comparable(a, b):
                    yield a, b


def _comparable(a: Kind, b: Kind) -> bool:
    """Single goes with any number of loops; others need the same depth T L."""
    if None in (a.loops, a.layers, b.loops, b.layers):
        return True
    shapes = [(int(k.loops or 1), int(k.layers or 1)) for k in (a, b)]
    if "single" in (a.arch, b.arch):
        layers = {k.arch: shape[1] for k, shape in zip((a, b), shapes, strict=True)}
        return "stacked" in (a.arch, b.arch) or len(set(layers.values())) == 1
    return shapes[0][0] * shapes[0][1] == shapes[1][0] * shapes[1][1]


def settings_of(runs: Sequence[Subject]) -> tuple[list[Setting], list[str]]:
    """The settings of a study, in order of their labels; and what is said of runs that belong to none."""
    groups: dict[str, list[Subject]] = {}
    values: dict[str, dict[str, Any]] = {}
    lost = []
    for run in sorted(runs, key=lambda run: (run.name, run.id)):
        if run.arch is None or run.seed is None:
            lost.append(f"{run.name}: its {'architecture' if run.arch is None else 'seed'} is not known")
            continue
        every = _flat(run.described)
        flat = {k: v for k, v in every.items() if _setting(k)}
        # The learned scale of a gate belongs to its switch: its runs stand beside those of the plain loop.
        if every.get("shift.mode") == "gate":
            flat["model.scale"] = 1
        key = json.dumps(flat, sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
        values[key] = flat
    labels = _labels(values)
    made = [_made(labels[key], values[key], found) for key, found in groups.items()]
    return sorted(made, key=lambda s: s.label), lost


def _setting(name: str) -> bool:
    first, _, rest = name.partition(".")
    return first not in (*_WHERE, *_ARCH, "origin") and not (first == "model" and rest in _DEPTH)


def _made(label: str, values: Mapping[str, Any], runs: Sequence[Subject]) -> Setting:
    kinds: dict[str, list[Subject]] = {}
    apart: dict[str, dict[str, Any]] = {}
    for run in runs:
        flat = _flat(run.described)
        own = {k: v for k, v in flat.items() if not _setting(k) and k.partition(".")[0] not in _WHERE}
        own = {"arch": run.arch, **{k: v for k, v in own.items() if not k.startswith("origin")}}
        key = json.dumps(own, sort_keys=True, default=str)
        kinds.setdefault(key, []).append(run)
        apart[key] = own
    labels = {}
    for key, own in apart.items():
        others = {k: o for k, o in apart.items() if o["arch"] == own["arch"]}
        labels[key] = _label(own, others.values(), str(own["arch"]))
    out, left, diverged = [], [], {}
    for key in sorted(kinds, key=lambda k: labels[k]):
        counted, said, bad = _by_seed(kinds[key])
        left += said
        if bad:
            diverged[labels[key]] = bad
        own = apart[key]
        out.append(
            Kind(
                arch=str(own["arch"]), label=labels[key], loops=own.get("model.loops"),
                layers=own.get("model.layers"), runs=counted,
            )
        )  # fmt: skip
    return Setting(label=label, values=values, kinds=out, left_out=left, diverged=diverged)


def _by_seed(runs: Sequence[Subject]) -> tuple[dict[int, Subject], list[str], list[int]]:
    """Complete runs by seed; who is left out; seeds that diverged."""
    seeds: dict[int, list[Subject]] = {}
    left, diverged = [], []
    for run in runs:
        if run.status == "complete":
            seeds.setdefault(int(run.seed or 0), []).append(run)
            continue
        left.append(f"{run.name}: {run.status}")
        if run.status == "diverged":
            diverged.append(int(run.seed or 0))
    for seed, found in seeds.items():
        if len(found) > 1:  # which of them counts would be a choice made after seeing them
            left.append(f"{', '.join(r.name for r in found)}: seed {seed} of the same training more than once")
    return {s: seeds[s][0] for s in sorted(seeds) if len(seeds[s]) == 1}, left, sorted(diverged)


def _labels(values: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The task, and what differs between its settings: of two tasks nearly all does, which names neither better."""
    tasks = {key: str(own.get("task.name", own.get("task", "runs"))) for key, own in values.items()}
    out = {}
    for key, own in values.items():
        out[key] = _label(own, [o for k, o in values.items() if tasks[k] == tasks[key]], tasks[key])
    if len(set(out.values())) < len(out):
        order = sorted(out, key=lambda k: (out[k], k))
        out = {key: f"{out[key]} #{order.index(key) + 1}" for key in out}
    return out


def _label(own: Mapping[str, Any], every: Any, base: str) -> str:
    """A name with the values of its own that not all others have; what is None is not there, and not told."""
    every = list(every)
    names = sorted({k for o in every for k in o})
    told = [k for k in names if k not in ("arch", "task.name", "task") and len({str(o.get(k)) for o in every}) > 1]
    said = ", ".join(f"{k} {own[k]}" for k in told if own.get(k) is not None)
    return f"{base} ({said})" if said else base


def _flat(described: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    out: dict[str, Any] = {}
    for name, value in described.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return out
