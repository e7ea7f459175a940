"""One file of the answers at single checkpoints: put together, taken apart again, what is left over removed."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Mapping

import xarray as xr

from landscape.answers.files import DamagedError, save
from landscape.answers.question import Question

__all__ = ["finish", "forget", "known", "whole"]


def known(question: Question, *, but: Container[int] = ()) -> dict[int, xr.Dataset]:
    """Answers of single checkpoints that are on disk, from a finished file or an interrupted sweep.

    Of an interrupted sweep those of the steps in `but` are not read: whoever has them need not wait for them.
    """
    stored = question.stored()
    if question.probe.whole_run:
        return {} if stored is None else {question.settings["step"]: stored}
    return (_split_steps(question, stored) if stored is not None else {}) | question.parts(but=but)


def finish(question: Question, parts: Mapping[int, xr.Dataset]) -> None:
    """Write the request's one file, with what other commands stored in it; single answers are then not needed."""
    try:
        kept = {} if question.probe.whole_run else known(question, but=parts)
    except DamagedError:  # to be computed again
        kept = question.parts(but=parts)
    every = {**kept, **parts}
    save(whole(question, every), question.path)
    forget(question, every)


def forget(question: Question, steps: Iterable[int]) -> None:
    """Remove answers of single checkpoints; those of a command that runs at the same time stay."""
    for step in steps:
        question.forget(step)
    with contextlib.suppress(OSError):  # not empty, or not there
        question.partial.rmdir()


def whole(question: Question, parts: Mapping[int, xr.Dataset]) -> xr.Dataset:
    """The answers at single checkpoints as one dataset."""
    if question.probe.whole_run:
        return parts[question.settings["step"]]
    first, *others = (ds.attrs for ds in parts.values())
    said = {k: v for k, v in first.items() if k != "step" and all(a.get(k) == v for a in others)}
    if "strategy" in first and "strategy" not in said:  # a sweep that went on another day; equal to rounding
        said["strategy"] = ", ".join(sorted({str(ds.attrs.get("strategy")) for ds in parts.values()}))
    return question.probe.schema.stack(parts).assign_attrs(said).assign_attrs(question.attributes())


def _split_steps(question: Question, ds: xr.Dataset) -> dict[int, xr.Dataset]:
    """A stored answer as single checkpoints again, so that new steps can be added."""
    return {int(s): ds.sel(step=s, drop=True).assign_attrs(question.attributes()) for s in ds["step"].values}
