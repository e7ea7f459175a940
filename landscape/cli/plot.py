"""`landscape plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from landscape.answers.files import DamagedError
from landscape.cli.drawing import FILES, IMAGES, NotDrawn, draw, save
from landscape.errors import AbsentError, LandscapeError
from landscape.figures import FIGURES, PAPER
from landscape.loss.metric import METRICS
from landscape.plotting import checked_options
from landscape.settings import nest
from landscape.studies.study import Study

__all__ = ["command"]


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
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([*IMAGES, *(kind for kinds in FILES.values() for kind in kinds)]),
    help="Repeat; html (to be turned) and vtk of surface, gif and mp4 of frames alone.  [default: pdf, png]",
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
      landscape plot runs surface --format html --format vtk
      landscape plot runs frames --format gif
    """
    known = [*FIGURES, *PAPER]
    names = [p for p in paths if p in known and not Path(p).exists()]
    _check(formats, names)
    if not names and formats and not set(formats) & set(IMAGES):
        names = [figure for figure, kinds in FILES.items() if set(kinds) & set(formats)]
    given = _settings(assignments, names or known)
    missing = [p for p in paths if p not in names and not Path(p).exists()]
    if missing:
        raise LandscapeError(f"{missing[0]!r} is neither a path nor a figure. Figures: {', '.join(known)}.")
    study = Study.open([p for p in paths if p not in names])
    damaged, absent, pictures = False, list[str](), 0
    for found in draw(study, names=names, given=given, metric=metric):
        if isinstance(found, NotDrawn):
            damaged |= isinstance(found.error, DamagedError)
            if isinstance(found.error, AbsentError):
                absent.append(found.name)
            else:
                click.echo(f"{found.name}: skipped, {found.error}", err=True)
            continue
        for line in found.lacking:
            click.echo(f"{found.name}: {line}", err=True)
        for path in save(found, output, formats=formats or ("pdf", "png"), dpi=dpi):
            click.echo(str(path))
            pictures += 1
    if absent and pictures:
        said = "what they show was not asked of these runs; name one to be told more"
        click.echo(f"Not drawn: {', '.join(absent)} ({said}).", err=True)
    if damaged:
        raise click.exceptions.Exit(DamagedError.exit_code)
    if not pictures:
        raise LandscapeError("nothing to draw yet. Run `landscape probe` first.")


def _check(formats: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a format that no figure of these has, and a figure that has none of these formats."""
    for kind in formats:
        having = [figure for figure, kinds in FILES.items() if kind in kinds]
        lacking = [name for name in names if not {*IMAGES, *FILES.get(name, ())} & set(formats)]
        if kind not in IMAGES and names and (lacking or not set(having) & set(names)):
            raise click.UsageError(
                f"--format {kind} is a format of the figure {having[0]!r} alone, not of {(lacking or names)[0]!r}."
            )


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
