"""What the build of the documentation fills into its pages: read from the package and from the documents.

A page holds comments such as ``<!-- filled by the build: picture widths -->``; a plain view of the file shows nothing
there. Nothing here needs Sphinx, so that the tests can see that every command, probe and figure has its place.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import click

import landscape
from landscape.cli import COMMANDS
from landscape.figures import FIGURES, PAPER
from landscape.probes import PROBES
from landscape.probes import __all__ as probe_names
from landscape.verdict.claims import CLAIMS

DOCS = Path(__file__).parent
PICTURES = "/../build/gallery"
"""Where `docs/gallery.py` puts the pictures, as Sphinx sees it: from the folder of the documents."""
_MARK = re.compile(r"^<!-- filled by the build: (\w+)(?: (.+?))? -->$", re.MULTILINE)


def filled(text: str) -> str:
    """A page with what the build fills in."""
    return _MARK.sub(lambda found: FILL[found[1]](*([found[2]] if found[2] else [])).strip("\n"), text)


@cache
def gallery() -> dict[str, Any]:
    """What `docs/gallery.toml` says: steps that make runs and answers, and one entry for every picture."""
    return tomllib.loads((DOCS / "gallery.toml").read_text(encoding="utf-8"))


def definition(heading: str) -> str:
    """The section of `definitions.md` with this heading; it stays the only place where a quantity is defined."""
    text = (DOCS / "definitions.md").read_text(encoding="utf-8")
    parts = re.split(r"^(#{2,3}) (.+)$", text, flags=re.MULTILINE)
    for _, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if name == heading:
            body = body.strip().replace("](#", "](/definitions.md#")  # other sections are on another page here
            return f":::{{container}} definition\n**{name}**\n\n{body}\n:::\n"
    raise ValueError(f"definitions.md has no section {heading!r}.")


def picture(name: str) -> str:
    """One picture of the gallery with its caption and the command that drew it."""
    entry = next(e for e in gallery()["picture"] if e["name"] == name)
    caption = f"{entry['caption']} Made by `{entry['command']}`; the run is that of [the gallery](/gallery.md)."
    return _figure(entry, caption)


def _title(entry: dict[str, str]) -> str:
    spec = FIGURES.get(entry["name"]) or PAPER.get(entry["name"])
    return spec.title if spec else entry["title"]


def _figure(entry: dict[str, str], caption: str) -> str:
    file = entry.get("file", f"pictures/{entry['name']}.png")
    return f"```{{figure}} {PICTURES}/{file}\n:alt: {_title(entry)}\n:class: picture\n\n{caption}\n```\n"


def pictures() -> str:
    """All of the gallery."""
    out = ["## The runs\n"]
    for step in gallery()["step"]:
        out.append(f"{step['about']}\n\n```console\n$ {_folded(step['command'])}\n```\n")
    for entry in gallery()["picture"]:
        if entry["name"] in PAPER:  # they have a page of their own
            continue
        source = f" From `{FIGURES[entry['name']].probe}`." if entry["name"] in FIGURES else ""
        out.append(f"## {entry['name']}\n\n{_title(entry)}.{source}\n")
        out.append(f"```console\n$ {_folded(entry['command'])}\n```\n")
        out.append(_figure(entry, entry["caption"]))
    return "\n".join(out)


def paper() -> str:
    """The figures of the paper: how ours correspond, with the command and the picture of the gallery."""
    drawn = {entry["name"]: entry for entry in gallery()["picture"]}
    out = []
    for name, spec in PAPER.items():
        needed = " and ".join(f"`{p}`" for p in spec.probes) or "any of the following"
        more = ", ".join(f"`{p}`" for p in spec.optional)
        out.append(f"## {spec.number}: `{name}`\n\n{spec.title}. {spec.differs}\n")
        out.append(f"Drawn from answers of {needed}" + (f"; where they are there, of {more}." if more else ".") + "\n")
        out.append(f"```console\n$ {_folded(drawn[name]['command'])}\n```\n")
        out.append(_figure(drawn[name], drawn[name]["caption"]))
    return "\n".join(out)


def _folded(command: str) -> str:
    """A long command on several lines, as a shell takes it; broken only before an option."""
    pieces, lines = re.split(r" (?=-)", command), [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) > 84:
            lines[-1] += " \\"
            lines.append("    " + piece)
        else:
            lines[-1] += (" " if lines[-1] else "") + piece
    return "\n".join(lines)


def variables(probe: str) -> str:
    """The variables of a probe's dataset: names, axes, units, and what they are."""
    rows = ["| variable | axes at one checkpoint | unit | what it is |", "|---|---|---|---|"]
    schema = PROBES[probe].schema
    for name, v in schema.variables.items():
        shown = f"`{name}`" + (" (if asked for)" if name in schema.optional else "")
        units = {"": "label", "1": "–"}.get(v.units, v.units)
        rows.append(f"| {shown} | {', '.join(v.dims) or '–'} | {_cell(units)} | {_cell(v.long_name)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return re.sub(r"([*_<>\[\]$|~])", r"\\\1", text)


def claims() -> str:
    """What the verdict judges: every claim, its quantities and pairs."""
    rows = ["| claim | says | judged by | pairs (A − B) |", "|---|---|---|---|"]
    for claim in CLAIMS.values():
        parts = {"": [], "If there": [], "Beside": []}
        for q in claim.quantities:
            side = f" ({'above' if q.direction > 0 else 'below'} {q.margin:g}" + (f": {q.why})" if q.margin else ")")
            parts["Beside" if not q.decides else "If there" if q.optional else ""].append(q.words + side)
        said = ". ".join((f"{head}: " if head else "") + "; ".join(body) for head, body in parts.items() if body)
        how = "Any quantity refutes" if claim.refuted_by == "any" else "All quantities together refute"
        pairs = ", ".join(f"{a} − {b}" for a, b in claim.pairs)
        note = f" {claim.note}" if claim.note else ""
        rows.append(f"| {claim.id} {claim.title} | {claim.statement}{note} | {_cell(said)}. {how}. | {pairs} |")
    return "\n".join(rows)


def commands() -> str:
    """Every command with its arguments and options, as click knows them."""
    out = []
    for name, (module, _) in COMMANDS.items():
        command: click.Command = importlib.import_module(module).command
        context = click.Context(command, info_name=f"landscape {name}", max_content_width=1000, terminal_width=1000)
        usage = " ".join(command.collect_usage_pieces(context))
        out += [
            f"## landscape {name}",
            f"```text\n{context.command_path} {usage}\n```",
            *_help(command.help or ""),
        ]
        for option in command.get_params(context):
            if (record := option.get_help_record(context)) is not None:
                out.append(f"`{record[0]}`\n: {_prose(record[1]) or 'Show help.'}")
        out += _help(command.epilog or "")
    return "\n\n".join(out)


def _help(text: str) -> list[str]:
    """Paragraphs of a help text; those that click leaves as they are stay as they are."""
    out = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        raw, _, rest = paragraph.partition("\n")
        if raw.strip() == "\b":
            head, _, body = rest.partition("\n")
            kind = "console" if "\n  landscape " in f"\n{body}" else "text"
            out += [f"**{_prose(head)}**", f"```{kind}\n{textwrap.dedent(body)}\n```"]
        elif paragraph.strip():
            out.append(_prose(" ".join(paragraph.split())))
    return out


def _prose(text: str) -> str:
    """Text as it is, whatever Markdown would make of its characters; code in backticks stays code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*_<>\[\]$|~\\])", r"\\\1", p) for p in parts)


def api(room: str) -> str:
    """Autodoc for the public names of a room."""
    return "\n\n".join(_documented(name, inspect.isclass(thing)) for name, thing in public(room).items())


def public(room: str) -> dict[str, Any]:
    """Full name -> object, of what a room offers to users."""
    if room == "landscape":
        return {f"landscape.{n}": getattr(landscape, n) for n in landscape.__all__ if not n.startswith("__")}
    if room == "probes":
        package = importlib.import_module("landscape.probes")
        found = {f"landscape.probes.{n}": getattr(package, n) for n in probe_names if n not in ("PROBES",)}
        return found | _members("landscape.probes.base", ("Probe", "Schema", "Variable", "Context"))
    if room == "settings":
        return _classes(
            "landscape.training.config", "landscape.training.optimizers", "landscape.training.schedules",
            "landscape.training.projection", "landscape.training.shift",
        )  # fmt: skip
    if room == "figures":
        found = {}
        for name in (*FIGURES, "comparison"):
            found |= _members(f"landscape.figures.{name}", (name,))
        for spec in PAPER.values():
            found |= _members(f"landscape.figures.{spec.module}", (spec.function.__name__,))
        kinds = ("FigureSpec", "PaperFigure")
        return found | _members("landscape.figures", kinds) | _members("landscape.figures.style", ("paper",))
    module = {"models": "landscape.models", "tasks": "landscape.tasks", "linalg": "landscape.probes.linalg"}[room]
    every = _members(module, tuple(importlib.import_module(module).__all__))
    return {name: thing for name, thing in every.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


ROOMS = ("landscape", "settings", "probes", "figures", "models", "tasks", "linalg")
"""What can be asked of `public`."""


def _members(module: str, names: tuple[str, ...]) -> dict[str, Any]:
    package = importlib.import_module(module)
    return {f"{module}.{n}": getattr(package, n) for n in names}


def _classes(*modules: str) -> dict[str, Any]:
    """The settings that a run is made of: frozen dataclasses that are not public elsewhere."""
    found: dict[str, Any] = {}
    for module in modules:
        found |= _members(module, tuple(importlib.import_module(module).__all__))
    public_elsewhere = ("RunConfig", "Check")
    return {
        name: thing
        for name, thing in found.items()
        if dataclasses.is_dataclass(thing) and name.rpartition(".")[2] not in public_elsewhere
    }


def _documented(name: str, is_class: bool) -> str:
    if is_class:
        return f"```{{eval-rst}}\n.. autoclass:: {name}\n   :members:\n   :member-order: bysource\n```"
    return f"```{{eval-rst}}\n.. autofunction:: {name}\n```"


FILL: dict[str, Callable[..., str]] = {
    "api": api,
    "claims": claims,
    "commands": commands,
    "definition": definition,
    "paper": paper,
    "picture": picture,
    "pictures": pictures,
    "variables": variables,
}
"""What can stand in a comment."""
