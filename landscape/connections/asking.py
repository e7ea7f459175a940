"""A connection as a question that is asked once: planned, answered in pieces that survive, kept on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from landscape.answers.files import headings, load, save, write
from landscape.answers.parts import packed, unpacked
from landscape.answers.question import LossSpec, Question
from landscape.answers.seal import sealed, unsealed
from landscape.connections.curve import CurveSettings, Fitted
from landscape.connections.ends import End, check_alike, losses_of, symmetry_of
from landscape.connections.matching import Matching, match_units
from landscape.connections.paths import SCHEMA, connect_points
from landscape.errors import LandscapeError
from landscape.loss.metric import units_in
from landscape.probes.base import Probe
from landscape.runs.run import Run

__all__ = ["Asked", "answered", "ask", "stored_connections"]

PROBE = Probe("connect", 1, connect_points, SCHEMA, whole_run=True, metric=False, by_default=False)
"""As what the answer is stored."""


@dataclass(frozen=True)
class Asked:
    """A connection that is asked for, checked as far as that needs no loss.

    Attributes:
        a: start.
        b: end.
        question: what a stored answer must match.
        path: where the answer is kept.
    """

    a: End
    b: End
    question: Question
    path: Path

    def stored(self) -> xr.Dataset | None:
        """The answer, if it is there.

        Raises:
            LandscapeError: if the file that was named holds something else: it is not overwritten unasked.
        """
        if self.path == self.question.path:
            return self.question.stored()
        if not self.path.exists():
            return None
        ds = load(self.path)
        if not self.question.matches(ds):
            raise LandscapeError(
                f"expected no file at {self.path}, found the answer to another question. Name another file, or replace "
                "it with --recompute (in Python: recompute=True)."
            )
        return ds


def ask(
    a: Run | str | os.PathLike[str],
    b: Run | str | os.PathLike[str],
    *,
    seed: int,
    loss: LossSpec,
    output: Path | None = None,
    **settings: Any,
) -> Asked:
    """What `landscape.connections.connect.connect` was asked, with everything checked that needs no loss.

    Raises:
        LandscapeError: as `connect`.
    """
    start, end = End.of(a), End.of(b)
    check_alike(start, end)
    for name, least in (("points", 3), ("restarts", 1)):
        if settings[name] < least:
            raise LandscapeError(f"expected {name} >= {least}, found {settings[name]}.")
    _curve(settings)
    own = {k: v for k, v in loss.settings(PROBE).items() if k != "parameters"}
    everything = {"step": start.step, "run_b": end.run.id, "step_b": end.step, "seed": seed, **own, **settings}
    question = Question(start.run, PROBE, everything)
    return Asked(start, end, question, question.path if output is None else output)


def answered(
    asked: Asked,
    *,
    chunk: int | None = None,
    recompute: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> xr.Dataset:
    """The stored answer, or a new one, which is then stored; curves that are trained already are not trained again.

    Raises:
        LandscapeError: as `connect`.
        RunFailedError: if it cannot be written.
    """
    if not recompute and (stored := asked.stored()) is not None:
        return stored
    a, b, question = asked.a, asked.b, asked.question
    settings = question.settings
    objectives = losses_of(a, b, question.loss, chunk)
    own = next(iter(objectives.values()))
    ends = a.vector(own), b.vector(own)
    matching, said = _matched(asked, *ends) if settings["align"] else (None, "not asked for")
    curves = _Curves(question, fresh=recompute)
    ds = connect_points(
        objectives, *ends, seed=settings["seed"], order=None if matching is None else matching.order,
        moved=0.0 if matching is None else matching.moved, points=settings["points"], curve=_curve(settings),
        keep_bends=settings["keep_bends"], curves=curves, progress=progress,
    )  # fmt: skip
    for variable in ds.variables.values():
        variable.attrs["units"] = units_in("euclidean", variable.attrs["units"], loss=a.run.loss_units)
    other = {f"{k}_b": v for k, v in b.run.attributes("connect").items() if k in ("run", "run_id", "arch", "run_seed")}
    ds = ds.assign_attrs(question.attributes(), **other, step=a.step, step_b=b.step, alignment=said)
    save(ds, asked.path)
    curves.forget()
    return ds


def stored_connections(runs: Iterable[Run]) -> list[xr.Dataset]:
    """The stored connections that start in one of these runs, of each pair of checkpoints the newest.

    Raises:
        DamagedError: if one of them is damaged.
    """
    newest = {}
    for run in runs:
        for found in reversed(headings(run, PROBE.name)):
            settings = json.loads(found.attrs["settings"])
            newest[run.id, *(settings[name] for name in ("step", "run_b", "step_b"))] = found.path
    return [load(path) for path in newest.values()]


def _curve(settings: dict[str, Any]) -> CurveSettings:
    return CurveSettings(**{f.name: settings[f.name] for f in dataclasses.fields(CurveSettings)})


def _matched(asked: Asked, a: torch.Tensor, b: torch.Tensor) -> tuple[Matching | None, str]:
    symmetry, said = symmetry_of(asked.a, asked.b)
    if symmetry is None:
        return None, said
    s = asked.question.settings
    found = match_units(symmetry, asked.a.run.layout, a, b, seed=s["seed"], restarts=s["restarts"])
    return found, said if found.converged else f"{said}, which did not converge"


class _Curves(dict[str, Fitted]):
    """Curves by name, each kept in a file of its own as soon as it is trained, until the answer is whole."""

    def __init__(self, question: Question, *, fresh: bool) -> None:
        super().__init__()
        self._question = question
        if fresh:
            self.forget()
        for path in sorted(question.partial.glob("*.curve")):
            with contextlib.suppress(OSError, ValueError, KeyError):  # damaged: trained again
                content, verified = unsealed(path.read_bytes())
                if verified and question.matches(ds := unpacked(content)):
                    record = {str(k): v.item() for k, v in ds.data_vars.items() if k != "bends"}
                    super().__setitem__(
                        str(ds.attrs["name"]), Fitted(bends=torch.from_numpy(ds["bends"].values.copy()), **record)
                    )

    def __setitem__(self, name: str, found: Fitted) -> None:
        super().__setitem__(name, found)
        values = {f.name: getattr(found, f.name) for f in dataclasses.fields(Fitted) if f.name != "bends"}
        ds = xr.Dataset({"bends": (("bend", "parameter"), found.bends.cpu().numpy()), **values})
        digest = hashlib.sha256(name.encode()).hexdigest()[:6]
        content = sealed(packed(ds.assign_attrs(self._question.attributes(), name=name)))
        write(content, self._question.partial / f"{digest}.curve")

    def forget(self) -> None:
        """Remove the files."""
        for path in self._question.partial.glob("*.curve"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not there, or not empty
            self._question.partial.rmdir()
