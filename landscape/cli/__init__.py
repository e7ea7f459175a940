"""The command line: one command a module, loaded when it is called."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import click

from landscape import __version__
from landscape.cli.streams import plain_where_needed
from landscape.errors import LandscapeError

if TYPE_CHECKING:
    from landscape.answers.team import Team

__all__ = ["cli", "main"]

# name -> (module, help line): a command's module, and with it torch, is loaded only when the command is called.
COMMANDS = {
    "train": ("landscape.cli.train", "Train models, or continue where training stopped."),
    "sweep": ("landscape.cli.sweep", "Train a grid of runs and probe them, resumed, here or on a cluster."),
    "probe": ("landscape.cli.probe", "Measure checkpoints: spectra, valleys, samples, surfaces."),
    "plot": ("landscape.cli.plot", "Draw figures from stored results."),
    "show": ("landscape.cli.show", "Say what is in a run, or compare several."),
    "report": ("landscape.cli.report", "Make one page that says what was found, with pictures."),
    "compare": ("landscape.cli.compare", "Compare two runs at the same step, loss or compute."),
    "connect": ("landscape.cli.connect", "Measure the barrier between two checkpoints, on a line and a curve."),
    "verdict": ("landscape.cli.verdict", "Judge the claims by what a study has stored."),
    "findings": ("landscape.cli.findings", "Say in words what a study found, or check such a text."),
    "reproduce": ("landscape.cli.reproduce", "From nothing to verdict, figures and page, in one command."),
    "import": ("landscape.cli.importing", "Make a run of checkpoints that another program wrote."),
    "export": ("landscape.cli.exporting", "Write a checkpoint of a run as a safetensors file."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        # `landscape --help` and completion only need the help line; ctx.args is filled when a command is called.
        if ctx.resilient_parsing or cmd_name not in sys.argv:
            return click.Command(cmd_name, help=COMMANDS[cmd_name][1])
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="landscape")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Measure the loss landscape of a model, and why it matters for training.

    \b
    A first look (about a minute):
      landscape train --arch single --arch looped --jobs 2
      landscape probe runs -p spectrum -p samples --samples 128 --jobs 2
      landscape plot  runs
      landscape show  runs
      landscape report runs

    Runs live in folders below `runs/`, results in `results/` inside each run, figures in `figures/`. Every command may
    be interrupted and repeated: it continues, and never computes or loses anything twice. Exit codes: 0 done, 1 a run
    failed, 2 bad input, 130 interrupted.
    """
    if ctx.obj is not None and ctx.invoked_subcommand != "probe":
        raise LandscapeError(
            f"`landscape {ctx.invoked_subcommand}` is the work of one process, found {ctx.obj.size} ranks: only "
            "`landscape probe` shares samples among ranks. Start it without torchrun; --jobs, where it has it, shares "
            "out runs."
        )


def main() -> None:
    """Entry point: run the command line, turning errors into one message and an exit code."""
    shown = warnings.formatwarning
    warnings.formatwarning = _format_warning
    plain_where_needed()
    try:
        size = os.environ.get("WORLD_SIZE", "1")
        if "RANK" in os.environ and size.isdecimal() and int(size) > 1:
            from landscape.cli.launched import as_rank

            as_rank(_run)
        sys.exit(_run(None, partial(click.echo, err=True)))
    finally:
        warnings.formatwarning = shown


def _run(team: Team | None, tell: Callable[[str], None]) -> int:
    """The exit code of the command line; what ended it is told by `tell`."""
    try:
        code = cli.main(standalone_mode=False, obj=team)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        tell(text.getvalue().rstrip("\n"))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        tell("Interrupted. What was finished is saved; repeat the command to continue.")
        return 130
    except LandscapeError as error:
        tell(f"Error: {error}")
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`landscape show | head`): not an error, and nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _format_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> str:
    """A warning without the place in the code, which says nothing to who uses the command line."""
    return f"{'Note' if category is UserWarning else 'Warning'}: {message}\n"
