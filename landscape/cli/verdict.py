"""`landscape verdict`."""

from __future__ import annotations

from pathlib import Path

import click

from landscape.answers.files import write
from landscape.cli.console import Table, emit_json, json_text, show_table
from landscape.errors import LandscapeError
from landscape.studies.study import Study
from landscape.verdict.claims import CLAIMS
from landscape.verdict.form import RULE, plain
from landscape.verdict.rule import MOST
from landscape.verdict.verdict import Verdict, verdict
from landscape.verdict.words import COLUMNS, cells, markdown, remarks, summary

__all__ = ["command"]


@click.command("verdict")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="RUNS...")
@click.option("--claim", "claims", multiple=True, type=click.Choice(list(CLAIMS)), help="Judge this one; repeat.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="All numbers as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The tables as markdown.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
def command(
    paths: tuple[Path, ...],
    claims: tuple[str, ...],
    seed: int,
    as_json: bool,
    as_markdown: bool,
    output: Path | None,
) -> None:
    """Judge the claims about Looped, Single, Stacked and SHIFT by what is stored of these runs.

    RUNS are run folders, or folders of runs. Runs that differ in architecture and seed alone are judged together, and
    paired by seed. Nothing is computed on a model: what was not asked yet is named with the command that asks it.

    \b
    Examples:
      landscape verdict runs
      landscape verdict runs --claim C1 --claim C9 --json
      landscape verdict runs --markdown -o verdict.md
    """
    if as_json and as_markdown:
        raise LandscapeError("expected --json or --markdown, found both. Call the command once for each.")
    if output is not None and not (as_json or as_markdown):
        raise LandscapeError(f"expected --json or --markdown with -o {output}: the tables are made for a terminal.")
    found = verdict(Study.open(paths), seed=seed, claims=claims or None)
    if output is not None:
        text = json_text(plain(found)) + "\n" if as_json else markdown(found)
        write(text.encode(), output)
        click.echo(str(output))
    elif as_json:
        emit_json(plain(found))
    elif as_markdown:
        click.echo(markdown(found), nl=False)
    else:
        _show(found)


def _show(found: Verdict) -> None:
    """Tables on stdout: per setting, and all settings together."""
    for judged in found.settings:
        kinds = ", ".join(f"{k.label}: {len(k.runs)}" for k in judged.setting.kinds)
        caption = "\n".join(f"- {text}" for text in remarks(judged))
        title = f"{judged.setting.label}; seeds: {kinds}"
        show_table(Table(title, COLUMNS, cells(judged), caption, text=True))
    if len(found.settings) > 1:
        columns, rows = summary(found)
        show_table(Table("All settings, the pairs that the claims are about", columns, rows, text=True))
    for text in found.left_out:
        click.echo(f"Left out: {text}")
    click.echo(RULE)
    click.echo(
        "Numbers: mean [95 % interval] of the row that is least on the claimed side. Outcomes in brackets: the same "
        f"numbers for another pair. Needed: seeds for a chance of 0.8 a row, none if more than {MOST}."
    )
