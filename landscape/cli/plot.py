"""`landscape plot`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from landscape.answers.files import DamagedError, write
from landscape.captions import caption
from landscape.errors import AbsentError, LandscapeError, RunFailedError
from landscape.figures import FIGURES, PAPER
from landscape.figures.style import paper
from landscape.loss.metric import METRICS
from landscape.plotting import checked_options, drawn
from landscape.runs.disk import advice
from landscape.settings import nest
from landscape.studies.gathered import Gathered, gathered
from landscape.studies.study import Study

__all__ = ["command", "save_figure"]


@click.command("plot")
@click.argument("paths", nargs=-1, required=True, metavar="PATHS... [FIGURES...]")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("figures"),
    show_default=True,
    help="Folder for the pictures.",
)
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(["pdf", "png", "svg"]), help="Repeat.  [default: pdf, png]"
)
@click.option("--dpi", type=click.IntRange(30), default=200, show_default=True, help="Resolution of png.")
@click.option(
    "--metric", type=click.Choice(METRICS), help="Of the curvatures and distances.  [default: euclidean, where any]"
)
@click.option("--set", "assignments", multiple=True, metavar="FIGURE.NAME=VALUE", help="A figure's setting; repeat.")
def command(
    paths: tuple[str, ...],
    output: Path,
    formats: tuple[str, ...],
    dpi: int,
    metric: str | None,
    assignments: tuple[str, ...],
) -> None:
    """Draw figures from what `train` and `probe` stored. PATHS are run folders, or folders of runs.

    Without names, every figure whose results are there is drawn; fig1, fig3, .. are those of the paper (arXiv
    2510.10089). Beside each picture stands its caption, NAME.txt: what is shown, from which answers of which runs, and
    what is missing. Paths of the pictures go to stdout.

    \b
    Examples:
      landscape plot runs
      landscape plot runs/markov-single-s0 runs/markov-looped-s0 eigenvalues widths --format svg
      landscape plot runs fig1 fig3
      landscape plot runs eigenvalues --metric filter
    """
    known = [*FIGURES, *PAPER]
    names = [p for p in paths if p in known and not Path(p).exists()]
    given = _settings(assignments, names or known)
    missing = [p for p in paths if p not in names and not Path(p).exists()]
    if missing:
        raise LandscapeError(f"{missing[0]!r} is neither a path nor a figure. Figures: {', '.join(known)}.")
    study = Study.open([p for p in paths if p not in names])
    pictures, damaged = 0, False
    absent: list[str] = []
    for name in names or known:
        try:
            found = _answers(study, name, metric)
            figure = drawn(name, found.answers, given.get(name, {}))
        except LandscapeError as error:
            if names:
                raise
            damaged |= isinstance(error, DamagedError)
            if isinstance(error, AbsentError):
                absent.append(name)
            else:
                click.echo(f"{name}: skipped, {error}", err=True)
            continue
        for line in _left_out(found):
            click.echo(f"{name}: {line}", err=True)
        for kind in formats or ("pdf", "png"):
            save_figure(figure, output / f"{name}.{kind}", dpi)
            pictures += 1
        text = caption(
            name, found.answers, runs=study.runs, options=given.get(name), without=found.without, refused=found.refused
        )
        write(text.encode(), output / f"{name}.txt")
    if absent and pictures:
        said = "what they show was not asked of these runs; name one to be told more"
        click.echo(f"Not drawn: {', '.join(absent)} ({said}).", err=True)
    if damaged:
        raise click.exceptions.Exit(DamagedError.exit_code)
    if not pictures:
        raise LandscapeError("nothing to draw yet. Run `landscape probe` first.")


def _answers(study: Study, name: str, metric: str | None) -> Gathered:
    """What a figure is drawn from."""
    if name in PAPER:
        found = gathered(study.trunks(), PAPER[name].probes, optional=PAPER[name].optional, metric=metric)
        return found.only(PAPER[name].used(found.answers))
    probe = FIGURES[name].probe
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


def _settings(assignments: tuple[str, ...], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Checked settings of the figures that are asked for.

    Raises:
        LandscapeError: for a figure that does not exist or is not drawn, and for a name or type that it does not know.
    """
    given = nest(assignments)
    for name, settings in given.items():
        if name not in FIGURES and name not in PAPER:
            raise LandscapeError(f"--set {name}...: no such figure. Valid names: {', '.join([*FIGURES, *PAPER])}.")
        if name not in names:
            raise LandscapeError(
                f"--set {name}...: the figure {name!r} is not among those asked for: {', '.join(names)}. Name it, too."
            )
        if not isinstance(settings, dict):
            raise LandscapeError(f"expected --set {name}.NAME=VALUE, found {name}={settings!r}. Name the setting.")
        given[name] = checked_options(name, settings)
    return given


def save_figure(figure: Any, path: Path, dpi: int) -> None:
    """Write a figure under a temporary name, then rename it, and say where it is."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with paper():  # fonts and embedding are read when a figure is written
            figure.savefig(temporary, format=path.suffix[1:], dpi=dpi)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunFailedError(f"could not write {path}: {error}. {advice(error)}, then repeat the command.") from error
    click.echo(str(path))
