"""Pieces that the commands share: progress on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
import logging
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

__all__ = [
    "Bars",
    "Table",
    "device_option",
    "emit_json",
    "json_text",
    "number",
    "progress_bars",
    "resolve_device",
    "show_table",
    "told",
]

TEXT_WIDTH = 76
"""Characters after which long text in a table is wrapped."""
PLAIN_INTERVAL = 10.0
"""Seconds between lines of progress where there is no terminal."""

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU if there is one.",
)


def resolve_device(device: str) -> str:
    """`auto` as "cuda" or "cpu"."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("--device cuda: this machine's torch finds no GPU. Use --device cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


class Bars:
    """Progress of several tasks: bars on a terminal, a plain line now and then elsewhere."""

    def __init__(self, live: Progress | None, *, quiet: bool) -> None:
        self._live, self._quiet = live, quiet
        self._tasks: dict[str, Any] = {}
        self._last: dict[str, float] = {}
        self._start: dict[str, float] = {}

    def update(self, name: str, done: int, total: int, note: str = "", *, share: float | None = None) -> None:
        """Say how far a task is; `share` of the work that began with the first call, where `done` counts more or less.

        The time that is left is told by it.
        """
        now = time.monotonic()
        share = done / total if share is None and total else share or 0.0
        if self._live is not None:
            said: dict[str, Any] = {"completed": share, "note": note, "count": f"{done}/{total}"}
            if name not in self._tasks:
                self._tasks[name] = self._live.add_task(name, total=1.0, **said)
            self._live.update(self._tasks[name], **said)
        elif not self._quiet:
            self._start.setdefault(name, now)
            finished = done >= total and self._last.get(name) != float("inf")
            if finished or now - self._last.setdefault(name, now) >= PLAIN_INTERVAL:
                self._last[name] = float("inf") if done >= total else now
                spent = now - self._start[name]
                left = f", about {spent / share * (1 - share):.0f} s left" if 0 < share < 1 else ""
                click.echo(f"{name}: {done}/{total} {note} ({spent:.0f} s{left})", err=True)


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Bars]:
    """Progress on stderr; animated only on a terminal."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield Bars(None, quiet=quiet)
        return
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    ]
    with Progress(*columns, console=Console(stderr=True, markup=False)) as live:
        yield Bars(live, quiet=quiet)


@contextmanager
def told(name: str, *, quiet: bool) -> Iterator[None]:
    """Within it what a module says of its decisions is a line on stderr."""
    log, handler = logging.getLogger(name), logging.Handler(logging.INFO)
    handler.emit = lambda record: click.echo(record.getMessage(), err=True)  # type: ignore[method-assign]
    level = log.level
    if not quiet:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Console(Console):
    """Prints text as it is: a name in brackets is no style, one between colons no picture."""

    def __init__(self, width: int) -> None:
        # With a height, too: with a width alone, rich takes 80 columns for a terminal that it calls dumb.
        super().__init__(width=width, height=25, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # `main` decides what that means, for tables as for all other output


@dataclass(frozen=True)
class Table:
    """What a command says in rows and columns.

    Attributes:
        title: what it is about, with units.
        columns: their names.
        rows: of text.
        caption: how to read it.
        text: columns after the first are aligned for reading, not for numbers.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text: bool = False


def show_table(shown: Table) -> None:
    """A table on stdout. Headers wrap between words, but no number is ever broken: the table is rather too wide."""
    table = RichTable(
        title=shown.title, caption=shown.caption or None, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0),
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    for i, column in enumerate(shown.columns):
        # Wrapped here and not by rich, which breaks numbers to fit a terminal.
        body = max((len(row[i]) for row in shown.rows), default=0)
        header = textwrap.fill(column, max(6, min(body, TEXT_WIDTH)), break_long_words=False, break_on_hyphens=False)
        table.add_column(header, justify="left" if i == 0 or shown.text else "right", no_wrap=True)
    for row in shown.rows:
        table.add_row(
            *(textwrap.fill(cell, TEXT_WIDTH, break_long_words=False, break_on_hyphens=False) for cell in row)
        )
    wide = _Console(width=10_000)
    _Console(width=max(wide.measure(table).maximum, len(shown.title), len(shown.caption))).print(table)


def number(x: Any, digits: int = 4) -> str:
    """A number for a table; NaN and what is missing show as a dash."""
    value = float(x)
    return "–" if np.isnan(value) else f"{value:.{digits}g}"


def emit_json(value: Any) -> None:
    """JSON on stdout; NaN becomes null, which is what JSON has."""
    click.echo(json_text(value))


def json_text(value: Any) -> str:
    """As `emit_json` writes it."""
    return json.dumps(_plain(value), indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value
