"""The caption of a figure: what is shown, from which answers of which runs, and what is missing. All from the data."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import xarray as xr

from landscape.figures import FIGURES, PAPER
from landscape.runs.run import Run

__all__ = ["caption"]

_WIDTH = 100
_FLAGS = ("converged", "curve_converged", "exact", "resolved", "floor_converged", "complete", "censored")
"""Variables of truth that say whether to believe a number."""
_MOST = 60
"""Settings of training that are listed, at most: a recorded run may have been given anything."""


def caption(
    name: str,
    answers: Mapping[str, Sequence[xr.Dataset]],
    *,
    runs: Sequence[Run] = (),
    options: Mapping[str, Any] | None = None,
    without: Mapping[str, Sequence[Run]] | None = None,
    refused: Mapping[str, str] | None = None,
) -> str:
    """The caption of a figure as plain text.

    Args:
        name: of the figure.
        answers: the datasets it is drawn from, by probe.
        runs: among which their runs are, for the settings of the training; those that are not used are left out.
        options: settings of the figure that were given.
        without: by probe, runs without an answer.
        refused: by probe, why no answer could be used.

    Example:
        >>> ds = xr.Dataset({"exact": ("step", [True, False])}, {"step": [0, 9]})
        >>> ds.attrs = dict(probe="entropy", probe_version=2, run="a", run_id="1f", arch="single", run_seed=0)
        >>> print(caption("entropy", {"entropy": [ds]}).split("Data", 1)[1].split("Runs", 1)[0].strip())
        entropy, version 2: 1 run, 2 checkpoints (steps 0 to 9); exact at 1 of 2
    """
    spec = FIGURES[name] if name in FIGURES else PAPER[name]
    datasets = [ds for found in answers.values() for ds in found]
    shown = [f"{name}: {spec.title}.", *_described(spec.function)]
    if name in PAPER:
        shown.append(f"After arXiv 2510.10089, {PAPER[name].number}. {PAPER[name].differs}")
    if options:
        shown.append("Drawn with " + ", ".join(f"{k} = {v}" for k, v in options.items()) + ".")
    parts = ["\n\n".join(_folded(text) for text in shown)]
    parts.append(_section("Data", [line for probe, found in answers.items() for line in _data(probe, found)]))
    names = {str(ds.attrs.get(name)) for ds in datasets for name in ("run_id", "run_id_b")}
    trained = [run for run in runs if run.id in names]
    parts.append(_section("Runs", [*_runs(datasets, trained), *_training(trained)]))
    missing = [
        f"{probe}: no answer of {', '.join(run.name for run in lacking)}" for probe, lacking in (without or {}).items()
    ]
    missing += [f"{probe}: not shown, {reason}" for probe, reason in (refused or {}).items()]
    parts.append(_section("Missing", missing or ["nothing: every run has all that is shown"]))
    return "\n\n".join(parts) + "\n"


def _described(function: Any) -> list[str]:
    """The paragraphs of a figure's documentation, up to its arguments."""
    text = (inspect.getdoc(function) or "").split("\nArgs:")[0].strip()
    return [re.sub(r"`+", "", " ".join(paragraph.split())) for paragraph in text.split("\n\n") if paragraph]


def _folded(text: str, *, indent: str = "") -> str:
    lines = wrap(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(_folded(line, indent="  ") for line in lines)])


def _data(probe: str, found: Sequence[xr.Dataset]) -> list[str]:
    """What was asked: of how many runs, at which checkpoints, with which settings, and how far it may be believed."""
    version = {str(ds.attrs["probe_version"]) for ds in found if "probe_version" in ds.attrs}
    said = probe + (f", version {' and '.join(sorted(version))}" if version else "")
    said += f": {len(found)} run{'s' if len(found) > 1 else ''}"
    axis = next((a for a in ("step", "path_step") if all(a in ds.dims for ds in found)), None)
    if axis is not None:
        steps = np.unique(np.concatenate([ds[axis].values for ds in found]))
        points = "evaluations" if probe == "metrics" else "checkpoints"
        said += f", {len(steps)} {points if len(steps) > 1 else points[:-1]}"
        said += f" (steps {steps[0]:g} to {steps[-1]:g})" if len(steps) > 1 else f" (step {steps[0]:g})"
    elif at := {int(ds.attrs["step"]) for ds in found if "step" in ds.attrs}:
        said += f", at step {' or '.join(map(str, sorted(at)))}"
    metrics = {str(ds.attrs["metric"]) for ds in found if "metric" in ds.attrs} - {"none"}
    said += f", metric {' and '.join(sorted(metrics))}" if metrics else ""
    flags = [flag for name in _names(found) if (flag := _flag(found, name))]
    lines = ["; ".join([said, *flags])]
    settings = [json.loads(ds.attrs["settings"]) for ds in found if "settings" in ds.attrs]
    return [*lines, *([f"  asked with {_listed(_common(settings))}"] if settings and _common(settings) else [])]


def _names(found: Sequence[xr.Dataset]) -> list[str]:
    return list(dict.fromkeys(str(name) for ds in found for name in ds.data_vars))


def _flag(found: Sequence[xr.Dataset], name: str) -> str:
    """How often a flag is set."""
    if not name.startswith(_FLAGS):
        return ""
    values = [ds[name].values.ravel() for ds in found if name in ds and ds[name].dtype.kind == "b"]
    every = np.concatenate(values) if values else np.zeros(0, bool)
    return f"{name} at {int(every.sum())} of {every.size}" if every.size else ""


def _runs(datasets: Sequence[xr.Dataset], trained: Sequence[Run]) -> list[str]:
    """Every run once: its name and id, architecture and seed, and how it ended."""
    known = {run.id: run for run in trained}
    lines: dict[str, str] = {}
    for ds in datasets:
        attrs = ds.attrs
        key = str(attrs.get("run_id", attrs.get("run", "model")))
        said = [str(attrs.get("run", "a model without a run"))]
        said += [f"id {attrs['run_id']}"] if "run_id" in attrs else []
        said += [str(attrs[n]) for n in ("task", "arch") if attrs.get(n)]
        said += [f"seed {int(attrs['run_seed'])}"] if "run_seed" in attrs else []
        if key in known and len(known[key].steps):
            said.append(f"{int(known[key].steps[-1])} steps")
        said += [f"*{attrs['status']}*"] if attrs.get("status", "complete") != "complete" else []
        lines.setdefault(key, ", ".join(said))
    for attrs in (ds.attrs for ds in datasets if "run_b" in ds.attrs):  # the other ends of connections
        said = [str(attrs["run_b"]), f"id {attrs['run_id_b']}"]
        said += [str(attrs["arch_b"])] if "arch_b" in attrs else []
        said += [f"seed {int(attrs['run_seed_b'])}"] if "run_seed_b" in attrs else []
        lines.setdefault(str(attrs["run_id_b"]), ", ".join(said))
    return list(lines.values())


def _training(trained: Sequence[Run]) -> list[str]:
    """Settings that all runs share, those in which they differ, and the software they were trained with."""
    if not trained:
        return []
    settings = [_flat(run.described) for run in trained]
    shared = dict(list(_common(settings).items())[:_MOST])
    lines = [f"Trained with {_listed(shared)}."] if shared else []
    names = [n for n in dict.fromkeys(n for s in settings for n in s) if n not in _common(settings)]
    plain = [n for n in names if n not in ("seed", "arch")][:_MOST]
    if plain:
        values = {n: sorted({json.dumps(s[n]) if n in s else "unset" for s in settings}) for n in plain}
        lines.append("They differ in " + "; ".join(f"{n}: {', '.join(v)}" for n, v in values.items()) + ".")
    versions = {
        f"{run.provenance.get('versions', {}).get('landscape-valleys', '?')} "
        f"(revision {run.provenance.get('code_revision', 'unknown')}), "
        f"torch {run.provenance.get('versions', {}).get('torch', '?')}"
        for run in trained
    }
    return [*lines, f"Trained by version {' and '.join(sorted(versions))}."]


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings with dotted names; what is not set is left out."""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{before}{key}.")
        elif value is not None:
            out[f"{before}{key}"] = value
    return out


def _common(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all have, with the same value."""
    first, *others = settings
    return {k: v for k, v in first.items() if v is not None and all(k in s and s[k] == v for s in others)}


def _listed(settings: Mapping[str, Any]) -> str:
    def said(value: Any) -> str:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        return f"({text})" if isinstance(value, list | tuple) else text

    return ", ".join(f"{k} = {said(v)}" for k, v in settings.items())
