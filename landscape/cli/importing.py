"""`landscape import`."""

from __future__ import annotations

from pathlib import Path

import click

from landscape.cli.console import progress_bars
from landscape.recording.imports import import_checkpoints
from landscape.settings import nest

__all__ = ["command"]


@click.command("import")
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--objective",
    required=True,
    metavar="MODULE:FUNCTION",
    help="What makes module, loss and data: package.module:function or file.py:function.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's folder."
)
@click.option("--steps", help="Training steps of the checkpoints in the order given, e.g. 0,100.  [default: by name]")
@click.option("--key", help="Of the state dict, in files that hold more.  [default: the usual ones]")
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Tensors that the module does not have; repeat.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Settings to note (task, arch, seed).")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    checkpoints: tuple[Path, ...],
    objective: str,
    output: Path,
    steps: str | None,
    key: str | None,
    ignore: tuple[str, ...],
    assignments: tuple[str, ...],
    quiet: bool,
) -> None:
    """Make a run of checkpoints that another program wrote, to probe, plot and compare like any other.

    CHECKPOINTS are .safetensors, .pt, .pth, .bin or .ckpt files, folders of them, or folders of Hugging Face's trainer
    with checkpoint-* folders in them. Files of PyTorch are read with weights_only=True: no code of theirs is run. The
    objective is a function that returns (module, per_sample_loss, data); it is your code, and it is run.

    \b
    Examples:
      landscape import checkpoints/ --objective mymodel.py:objective -o runs/mine
      landscape import start.pt end.pt --steps 0,5000 --objective mymodel.py:objective -o runs/mine
    """
    try:
        given = None if steps is None else [int(s) for s in steps.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"expected steps such as 0,100, found {steps!r}.", param_hint="--steps") from error
    with progress_bars(quiet=quiet) as bars:
        run = import_checkpoints(
            checkpoints, output, objective=objective, steps=given, config=nest(assignments), key=key, ignore=ignore,
            progress=lambda done, total: bars.update("importing", done, total),
        )  # fmt: skip
    click.echo(f"{run.path}: {len(run.steps)} checkpoints of {run.layout.size} parameters.")
