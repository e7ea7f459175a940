"""The verdict in tables and sentences: what the command line and its markdown say."""

from __future__ import annotations

from collections.abc import Sequence

from landscape.verdict.evidence import Evidence, Row
from landscape.verdict.form import RULE
from landscape.verdict.rule import MOST
from landscape.verdict.verdict import Finding, Judged, Verdict

__all__ = ["COLUMNS", "cells", "markdown", "remarks", "summary", "weakest"]

COLUMNS = ("claim", "A − B", "outcome", "seeds", "needed", "why")
"""Of the table of a setting."""


def cells(judged: Judged) -> list[list[str]]:
    """One row per finding: claim, pair, outcome, seeds, seeds that would be needed, reasons."""
    return [
        [
            f"{f.claim.id} {f.claim.title}" if f.main else f.claim.id,
            f"{f.a} − {f.b}",
            f.outcome if f.main else f"({f.outcome})",
            str(len(f.seeds)),
            _needed(f),
            "; ".join(_reason(e) for e in f.evidence if e.quantity.decides) or "; ".join(f.reasons),
        ]
        for f in judged.findings
    ]


def _needed(finding: Finding) -> str:
    if finding.outcome != "inconclusive":
        return "–"
    return "none" if finding.seeds_needed is None else str(finding.seeds_needed)


def weakest(found: Evidence) -> Row | None:
    """The row that is least on the claimed side, on which the claim hangs."""
    rows = [row for row in found.rows if row.effect == row.effect]
    return min(rows, key=lambda row: row.effect, default=found.rows[0] if found.rows else None)


def _reason(found: Evidence) -> str:
    """How many rows lie where, with the one that is least on the claimed side."""
    q, row = found.quantity, weakest(found)
    if row is None:
        return f"{q.name}: not asked" if found.ask else f"{q.name}: no number"
    claimed, n = sum(r.side == 1 for r in found.rows), len(found.rows)
    against = sum(r.side == -1 for r in found.rows)
    counts = f", {claimed} of {n} claimed" + (f", {against} opposite" if against else "") if n > 1 else ""
    where = ", ".join(part for part in ("" if row.metric == "none" else row.metric, row.threshold) if part)
    unit = "" if q.unit == "1" else f" {q.unit}"
    lacking = "" if found.answered else f" ({len(found.metrics)} metric of {q.fewest})"
    at = f" ({where})" if where else ""
    return f"{q.name} {_number(row.mean)} [{_number(row.low)}, {_number(row.high)}]{unit}{at}{counts}{lacking}"


def _number(x: float) -> str:
    return "–" if x != x else f"{x:+.3g}"


def summary(verdict: Verdict) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of claims against settings, of the pairs that the claims are about."""
    claims = list(dict.fromkeys(f.claim.id for judged in verdict.settings for f in judged.findings))
    titles = {f.claim.id: f.claim.title for judged in verdict.settings for f in judged.findings}
    rows = []
    for claim in claims:
        row = [f"{claim} {titles[claim]}"]
        for judged in verdict.settings:
            main = [f for f in judged.findings if f.claim.id == claim and f.main]
            said = [f.outcome if len(main) == 1 else f"{f.a}: {f.outcome}" for f in main]
            row.append("; ".join(said))
        rows.append(row)
    return ["claim", *(judged.setting.label for judged in verdict.settings)], rows


def remarks(judged: Judged) -> list[str]:
    """Whatever was left out, missing or mixed, each once with the claims that it touches; and what would answer."""
    found: dict[str, list[str]] = {f"left out: {text}": [] for text in judged.setting.left_out}
    for finding in judged.findings:
        for note in finding.notes:
            found.setdefault(note, []).append(finding.claim.id)
    asks: dict[str, list[str]] = {}
    for finding in judged.findings:
        for e in finding.evidence:
            if e.ask and e.quantity.decides:
                asks.setdefault(f"not asked: run `{e.ask}`", []).append(finding.claim.id)
    return [
        f"{text} ({', '.join(dict.fromkeys(ids))})" if ids else text
        for text, ids in (*found.items(), *asks.items())
    ]  # fmt: skip


def markdown(verdict: Verdict) -> str:
    """The whole verdict as one text."""
    lines = ["# Verdict", "", RULE, "", f"Needed: seeds for a chance of 0.8 a row, none if more than {MOST}.", ""]
    if len(verdict.settings) > 1:
        lines += ["## All settings", "", *_table(*summary(verdict)), ""]
    for judged in verdict.settings:
        kinds = ", ".join(f"{k.label} ({len(k.runs)} seeds)" for k in judged.setting.kinds)
        lines += [f"## {judged.setting.label}", "", f"Runs: {kinds}.", "", *_table(COLUMNS, cells(judged)), ""]
        if said := remarks(judged):
            lines += ["To know:", "", *(f"- {text}" for text in said), ""]
        lines += ["What the claims say:", ""]
        claims = {f.claim.id: f.claim for f in judged.findings}
        lines += [f"- {c.id}: {c.statement}" + (f" {c.note}" if c.note else "") for c in claims.values()]
        lines.append("")
    if verdict.left_out:
        lines += ["## Left out", "", *(f"- {text}" for text in verdict.left_out), ""]
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    every = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in every]
