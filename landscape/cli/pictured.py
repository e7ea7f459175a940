"""The figures of a whole study, drawn and saved by several processes, as pictures of its page."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import xarray as xr

from landscape.answers.pool import shared_out
from landscape.cli.drawing import Drawn, draw, save
from landscape.figures import FIGURES, PAPER
from landscape.report.pictures import Picture, picture
from landscape.studies.study import Study
from landscape.verdict.form import datasets
from landscape.verdict.groups import Kind
from landscape.verdict.verdict import Judged, Verdict

__all__ = ["study_pictures"]

NAME = 100
"""Letters of a folder's name at most."""


def study_pictures(study: Study, found: Verdict, folder: Path, *, jobs: int) -> dict[str, list[Picture]]:
    """Every figure whose answers are there, for every setting, of each architecture the first kind by its label.

    Figures take runs of one architecture for seeds of it. They are saved in `folder`, in a folder for each setting
    where there are several.

    Args:
        study: the runs.
        found: the verdict on them.
        folder: where the figures are saved.
        jobs: processes.
    """
    calls = []
    for judged in found.settings:
        label = judged.setting.label
        own = folder if len(found.settings) == 1 else folder / _file_name(label)
        kinds = {kind.arch: kind for kind in reversed(judged.setting.kinds)}
        rows = datasets(replace(found, settings=(_among(judged, {kind.label for kind in kinds.values()}),)))
        paths = _paths(study, kinds.values())
        # Interleaved, so that no process has all the large ones.
        calls += [(paths, (*FIGURES, *PAPER)[i::jobs], rows, label, own) for i in range(jobs)]
    pictures = [each for part in shared_out(_part, calls, jobs=jobs) for each in part]
    order = {name: i for i, name in enumerate((*FIGURES, *PAPER))}
    labels = [judged.setting.label for judged in found.settings]
    return {
        label: sorted((p for of, p in pictures if of == label), key=lambda p: order[p.name])
        for label in labels
        if any(of == label for of, _ in pictures)
    }


def _part(
    paths: Sequence[Path], names: Sequence[str], rows: Sequence[xr.Dataset], label: str, folder: Path
) -> list[tuple[str, Picture]]:
    """Some figures of one setting, saved, each with the label of the setting."""
    out = []
    for figure in draw(Study.open(paths), names=names, judged=rows, strict=False):
        if isinstance(figure, Drawn):  # what was not asked is not drawn
            save(figure, folder, formats=("pdf", "png"))
            out.append((label, picture(figure.name, figure.figure, figure.title, label)))
    return out


def _paths(study: Study, kinds: Iterable[Kind]) -> list[Path]:
    ids = {subject.id for kind in kinds for subject in kind.runs.values()}
    return [run.path for run in study.runs if run.id in ids]


def _among(judged: Judged, labels: Collection[str]) -> Judged:
    """What was found of pairs of these kinds."""
    return replace(judged, findings=tuple(f for f in judged.findings if f.a in labels and f.b in labels))


def _file_name(label: str) -> str:
    name = "".join(c if c.isalnum() or c in "-._" else "-" for c in label).strip("-")
    if len(name) <= NAME:
        return name
    # File systems take 255 bytes; the end of a long label is what tells it from another.
    return f"{name[: NAME - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
