"""`landscape findings`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from landscape.answers.files import write
from landscape.cli.console import emit_json, json_text
from landscape.errors import LandscapeError
from landscape.studies.study import Study
from landscape.verdict.ends import document
from landscape.verdict.findings import differing, findings
from landscape.verdict.verdict import verdict

__all__ = ["command"]


@click.command("findings")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="STUDY...")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="The numbers that the text is written from.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
@click.option(
    "--check",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write nothing: name every line of this text that is not what the numbers say.",
)
def command(paths: tuple[Path, ...], seed: int, as_json: bool, output: Path | None, check: Path | None) -> None:
    """Say in words what a study found: every sentence follows from the numbers of the verdict.

    STUDY are run folders or folders of runs; or one file that `landscape findings --json` wrote, which holds the
    numbers without the runs.

    \b
    Examples:
      landscape findings runs -o findings.md
      landscape findings runs --json -o findings.json
      landscape findings findings.json --check findings.md
    """
    if check is not None and (as_json or output is not None):
        raise LandscapeError("expected --check alone, or --json and -o: it writes nothing.")
    found = _document(paths, seed)
    if check is not None:
        _check(check, found)
        return
    text = json_text(found) + "\n" if as_json else findings(found)
    if output is not None:
        write(text.encode(), output)
        click.echo(str(output))
    elif as_json:
        emit_json(found)
    else:
        click.echo(text, nl=False)


def _document(paths: tuple[Path, ...], seed: int) -> dict[str, Any]:
    if len(paths) > 1 or not paths[0].is_file() or paths[0].suffix != ".json":
        return document(verdict(Study.open(paths), seed=seed))
    try:
        found: dict[str, Any] = json.loads(paths[0].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LandscapeError(f"cannot read {paths[0]}: {error}.") from error
    return found


def _check(path: Path, found: dict[str, Any]) -> None:
    """Every line that differs, on stdout; exit code 1 if there is one."""
    wrong = differing(path.read_text(encoding="utf-8"), found)
    for have, want in wrong:
        click.echo(f"- {have}\n+ {want}")
    if wrong:
        click.echo(f"{path}: {len(wrong)} lines are not what the numbers say.", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"{path}: every line is what the numbers say.")
