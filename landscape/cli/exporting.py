"""`landscape export`."""

from __future__ import annotations

from pathlib import Path

import click

from landscape.errors import LandscapeError
from landscape.recording.imports import export_checkpoint
from landscape.runs.run import Run

__all__ = ["command"]


@click.command("export")
@click.argument("source", metavar="RUN[@STEP]")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A .safetensors.")
def command(source: str, output: Path) -> None:
    """Write the tensors of a checkpoint, by default the last, as a safetensors file.

    \b
    Examples:
      landscape export runs/mine@100 -o model.safetensors
    """
    path, sign, step = source.rpartition("@")
    if not sign or Path(source).exists():
        path, step = source, "last"
    run = Run.open(path)
    if not len(run.steps):
        raise LandscapeError(f"{run.path} has no checkpoint yet.")
    if step != "last" and not step.isdecimal():
        raise LandscapeError(f"expected RUN@STEP, a run folder and a step, found {source!r}. For example: runs/a@96")
    export_checkpoint(run, int(run.steps[-1]) if step == "last" else int(step), output)
    if run.partial:
        click.echo("Without the parameters that were held fixed while training: the run does not have them.", err=True)
    click.echo(str(output))
