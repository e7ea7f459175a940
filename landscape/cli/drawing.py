"""Figures of a study: drawn, with their captions, and saved whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from landscape.answers.files import write
from landscape.captions import caption
from landscape.connections.asking import stored_connections
from landscape.errors import AbsentError, LandscapeError, RunFailedError
from landscape.figures import FIGURES, PAPER
from landscape.figures.animation import MOVIES, save_animation
from landscape.figures.style import paper
from landscape.plotting import drawn
from landscape.report.surface_page import surface_page
from landscape.report.vtk import path_vtk, surface_vtk
from landscape.runs.disk import advice
from landscape.studies.gathered import Gathered, gathered
from landscape.studies.study import Study
from landscape.verdict.form import datasets
from landscape.verdict.verdict import verdict

__all__ = ["FILES", "IMAGES", "Drawn", "NotDrawn", "draw", "save", "save_figure"]

IMAGES = ("pdf", "png", "svg")
"""Formats that every figure has."""
FILES = {"surface": ("html", "vtk"), "frames": MOVIES}
"""Figure -> formats that it has beside these."""
FEWEST = 2
"""Seeds below which a verdict has no interval to draw."""


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        name: of the figure.
        title: what it shows, in a line.
        figure: of matplotlib.
        answers: that it was drawn from, by probe.
        caption: what is shown, from which answers of which runs, and what is missing.
        lacking: what is missing alone, a line each.
    """

    name: str
    title: str
    figure: Any
    answers: Mapping[str, Sequence[xr.Dataset]]
    caption: str
    lacking: tuple[str, ...]


@dataclass(frozen=True)
class NotDrawn:
    """A figure that could not be drawn, and why."""

    name: str
    error: LandscapeError


def draw(
    study: Study,
    *,
    names: Sequence[str] = (),
    given: Mapping[str, Mapping[str, Any]] | None = None,
    metric: str | None = None,
    judged: Sequence[xr.Dataset] | None = None,
    strict: bool = True,
) -> Iterator[Drawn | NotDrawn]:
    """Figures of what a study has stored.

    Args:
        study: the runs.
        names: of the figures; none means all that can be drawn.
        given: settings by figure.
        metric: of curvatures and distances.
        judged: rows of the verdict on these runs, where they are known; else they are made.
        strict: whether a figure that was named has to be there.

    Raises:
        LandscapeError: if a figure that was named cannot be drawn, unless not `strict`.
    """
    for name in names or [*FIGURES, *PAPER]:
        options = dict((given or {}).get(name, {}))
        try:
            found = _answers(study, name, metric, judged)
            figure = drawn(name, found.answers, options)
        except LandscapeError as error:
            if names and strict:
                raise
            yield NotDrawn(name, error)
            continue
        text = caption(
            name, found.answers, runs=study.runs, options=options or None, without=found.without, refused=found.refused
        )
        spec = FIGURES[name] if name in FIGURES else PAPER[name]
        yield Drawn(name, spec.title, figure, found.answers, text, tuple(_left_out(found)))


def save(found: Drawn, folder: Path, *, formats: Sequence[str], dpi: int = 200) -> list[Path]:
    """Write a figure in each format that it has, and its caption beside them; where the files are."""
    paths = []
    for kind in formats:
        path = folder / f"{found.name}.{kind}"
        if kind in IMAGES:
            save_figure(found.figure, path, dpi)
            found.figure.set_layout_engine("none")  # where everything stands is found once, for all formats
            paths.append(path)
        elif kind in FILES.get(found.name, ()):
            paths += _saved(found.answers["surface"], path, dpi)
    write(found.caption.encode(), folder / f"{found.name}.txt")
    return paths


def _saved(answers: Sequence[xr.Dataset], path: Path, dpi: int) -> list[Path]:
    """Surfaces in the formats that no other figure has."""
    kind = path.suffix[1:]
    if kind == "html":
        write(surface_page(answers).encode(), path)
        return [path]
    if kind in MOVIES:
        with _renamed(path) as temporary:
            save_animation(answers, temporary, dpi=dpi)
        return [path]
    paths = []
    for ds in answers:  # one file each: the grids differ
        own = path if len(answers) == 1 else path.with_stem(f"{path.stem}-{ds.attrs.get('run', 'run')}")
        texts = {own: surface_vtk(ds)}
        if ds.sizes.get("path_step", 0):
            texts[own.with_stem(f"{own.stem}-path")] = path_vtk(ds)
        for each, text in texts.items():
            write(text.encode(), each)
            paths.append(each)
    return paths


def _answers(study: Study, name: str, metric: str | None, judged: Sequence[xr.Dataset] | None) -> Gathered:
    """What a figure is drawn from."""
    if name in PAPER:
        found = gathered(study.trunks(), PAPER[name].probes, optional=PAPER[name].optional, metric=metric)
        return found.only(PAPER[name].used(found.answers))
    probe = FIGURES[name].probe
    if probe == "verdict":  # over all metrics at once
        rows = datasets(verdict(study)) if judged is None else list(judged)
        if not any((ds.n >= FEWEST).any() for ds in rows):
            raise AbsentError(f"expected at least {FEWEST} seeds of two architectures for a verdict, found fewer.")
        return Gathered({probe: rows}, {})
    if probe == "connect":  # of pairs of runs, each for itself
        pairs = stored_connections(study)
        if not pairs:
            raise AbsentError("found no connection that starts in one of these runs: landscape connect RUN_A RUN_B")
        return Gathered({probe: pairs}, {})
    # A branch has the architecture and seed of its origin: beside it, it would count as the same run twice.
    answered, without = (study if probe == "decay" else study.trunks()).answered(probe, metric=metric)
    return Gathered({probe: answered.results(probe, metric=metric)}, {probe: without} if without else {})


def _left_out(found: Gathered) -> list[str]:
    """What is said of answers that are not there."""
    lacking: dict[str, list[str]] = {}
    for probe, runs in found.without.items():
        lacking.setdefault(", ".join(str(run.path) for run in runs), []).append(probe)
    lines = [f"drawn without {runs}: no answer of {', '.join(p)} to the same question." for runs, p in lacking.items()]
    return lines + [f"drawn without {probe}: {reason}" for probe, reason in found.refused.items()]


def save_figure(figure: Any, path: Path, dpi: int) -> None:
    """Write a figure under a temporary name, then rename it."""
    with _renamed(path) as temporary, paper():  # fonts and embedding are read when a figure is written
        figure.savefig(temporary, format=path.suffix[1:], dpi=dpi)


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A temporary name for a file that is to be there whole or not at all."""
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFailedError(f"could not write {path}: {error}. {advice(error)}, then repeat the command.") from error
