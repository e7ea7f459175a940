"""`landscape connect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import xarray as xr

from landscape.answers.question import LossSpec
from landscape.cli.console import Table, device_option, emit_json, number, progress_bars, resolve_device, show_table
from landscape.cli.drawing import save_figure
from landscape.connections.asking import answered, ask
from landscape.errors import LandscapeError
from landscape.figures.connect import connect

__all__ = ["command"]


@click.command("connect")
@click.argument("source_a", metavar="RUN_A[@STEP]")
@click.argument("source_b", metavar="RUN_B[@STEP]")
@click.option("--bends", type=click.IntRange(1), default=1, show_default=True, help="Of the curve.")
@click.option("--points", type=click.IntRange(3), default=61, show_default=True, help="On each path.")
@click.option("--nodes", type=click.IntRange(2), help="That the curve is trained on.  [default: 6 a bend, and 6]")
@click.option("--iterations", type=click.IntRange(0), default=100, show_default=True, help="Most steps of training it.")
@click.option("--tol", type=click.FloatRange(0), default=1e-3, show_default=True, help="Where its training ends.")
@click.option("--no-align", is_flag=True, help="Leave the units of b in their order.")
@click.option("--restarts", type=click.IntRange(1), default=5, show_default=True, help="Starts of the matching.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the curve's start and matching.")
@click.option("--split", default="probe", show_default=True, help="Part of the data: probe, train or test of a task.")
@click.option("--samples", type=click.IntRange(1), help="Only the first so many samples of the split.")
@click.option("--objective", metavar="MODULE:FUNCTION", help="Loss of a recorded or imported run.")
@click.option("--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True)
@device_option
@click.option("--chunk", type=click.IntRange(1), help="Samples evaluated at once (bounds memory).")
@click.option("--keep-bends", is_flag=True, help="Store the bends, too: as many numbers as the model has parameters.")
@click.option("--recompute", is_flag=True, help="Also where the answer, or another file, is there already.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the answer.  [default: results/connect-KEY.nc in RUN_A]",
)
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it: pdf, png or svg.")
@click.option("--dpi", type=click.IntRange(30), default=200, show_default=True, help="Resolution of png.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    source_a: str,
    source_b: str,
    seed: int,
    device: str,
    chunk: int | None,
    recompute: bool,
    output: Path | None,
    picture: Path | None,
    dpi: int,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Loss between two checkpoints: along the straight line, and along a curve trained to keep it low.

    The barrier is the highest place over the straight line between the losses at the ends. Checkpoints are the last
    ones unless a step is named. They need the same parameters and data; where their losses differ, as those of single
    and looped, both are measured. For runs of `landscape train` all is done again after the units of b (coordinates of
    the residual stream, heads, hidden units) were put in the order of a's by weight matching, which does not change
    what b computes. A barrier is that of these very paths, so that of the curve is an upper bound.

    A step of the training takes NODES losses and gradients for each of up to four curves. Memory: 32 vectors of
    parameters a bend and 256 MiB beside what a gradient takes. An interrupted command goes on after the last curve that
    was finished.

    \b
    Examples:
      landscape connect runs/markov-looped-s0 runs/markov-looped-s1 --plot connect.pdf
      landscape connect runs/markov-single-s0 runs/markov-looped-s0
      landscape connect runs/markov-looped-s0@96 runs/markov-looped-s0 --no-align --bends 3
    """
    if picture is not None and picture.suffix not in (".pdf", ".png", ".svg"):
        raise LandscapeError(f"expected a picture that ends in .pdf, .png or .svg, found {str(picture)!r}.")
    names = ("split", "samples", "objective", "dtype")
    loss = LossSpec(device=resolve_device(device), **{name: settings.pop(name) for name in names})
    settings["align"] = not settings.pop("no_align")
    asked = ask(source_a, source_b, seed=seed, loss=loss, output=output, **settings)
    with progress_bars(quiet=quiet) as bars:

        def report(name: str, done: int) -> None:
            bars.update(f"curve {name}", done, settings["iterations"])

        ds = answered(asked, chunk=chunk, recompute=recompute, progress=report)
    if as_json:
        emit_json({**ds.to_dict(data="array"), "dims": dict(ds.sizes), "path": str(asked.path)})
    else:
        _show(ds, asked.a.label, asked.b.label)
        click.echo(str(asked.path))
    if picture is not None:
        save_figure(connect([ds]), picture, dpi)
        click.echo(str(picture), err=as_json)


def _show(ds: xr.Dataset, a: str, b: str) -> None:
    """The barriers, and what tells how far to believe them."""
    rows = []
    for objective in ds.objective.values:
        for alignment in ds.alignment.values:
            for path in ds.path.values:
                at = ds.sel(objective=objective, alignment=alignment, path=path)
                where = "–" if not float(at.barrier) > 0 else number(at.barrier_t, 3)
                ends = [number(at.loss[i]) for i in (0, -1)]
                numbers = [number(at.barrier), where, number(at.rise), *ends, number(at.length)]
                trained = "" if path == "line" else f"{at.curve_reason.item()}, {at.curve_iterations.item()} steps"
                rows.append([str(objective), f"{path}, {alignment}", *numbers, trained])
    columns = [
        "loss of",
        "path, alignment",
        "barrier",
        "at t",
        "above higher end",
        "loss a",
        "loss b",
        "length",
        "curve",
    ]
    caption = (
        f"Alignment: {ds.attrs['alignment']}; {float(ds.moved[-1]):.0%} of the units moved, distance "
        f"{' -> '.join(number(d) for d in ds.distance)}. "
        "The barrier is that of this path; training of a curve that ended with its steps may lower it further."
    )
    unit = str(ds.loss.attrs["units"])
    show_table(Table(f"From a = {a} to b = {b}, losses in units of: {unit}", columns, rows, caption))
