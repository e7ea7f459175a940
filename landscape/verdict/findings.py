"""Findings as a text in which every sentence follows from the numbers of a verdict, so that it can be made again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from landscape.errors import LandscapeError
from landscape.verdict.ends import FORMAT, VERSION, numbers

__all__ = ["differing", "findings"]

MADE = "Made by"
"""Begins the one paragraph that may differ when the findings are made again: with which versions."""
_STANDING_OUT = 3
_TOLD = (
    "task.name", "model.name", "model.width", "model.attention", "model.norm", "model.scale", "model.inject",
    "optimizer.name", "optimizer.lr", "batch", "clip", "steps",
)  # fmt: skip
"""Settings of a training that a reader wants first."""
_HEADS = {"accuracy": "accuracy, {}", "loss": "loss, {}", "flops": "FLOP"}

Table = Mapping[str, Any]


def findings(found: Table) -> str:
    """The text, in markdown, of a `landscape.verdict.ends.document`, also of one read from JSON.

    Raises:
        LandscapeError: if it is no such document.

    Example:
        >>> rule = {"text": "A rule."}
        >>> none = {"rule": rule, "settings": [], "left_out": [], "versions": {}, "code_revision": "1"}
        >>> findings({"format": "landscape-findings", "format_version": 1, "verdict": none}).splitlines()[0]
        '# Findings'
    """
    if (found.get("format"), found.get("format_version")) != (FORMAT, VERSION):
        raise LandscapeError(
            f"expected a document {FORMAT!r} of version {VERSION}, found {found.get('format')!r} of version "
            f"{found.get('format_version')!r}. Make it with `landscape findings RUNS --json`."
        )
    verdict = numbers(found["verdict"])
    lines = ["# Findings", "", *_about(verdict), ""]
    lines += ["## What stands out", "", *_standing_out(verdict), ""]
    lines += ["## The claims in one table", "", *_summary(verdict), ""]
    lines += ["## The end of training", "", *_trained(verdict)]
    lines += ["## Claim by claim", ""]
    for claim in _claims(verdict):
        lines += [*_claim(verdict, claim), ""]
    if left := _left_out(verdict):
        lines += ["## Left out, missing, mixed", "", *left, ""]
    return "\n".join(lines)


def differing(text: str, found: Table) -> list[tuple[str, str]]:
    """Lines of a text that are not those of the findings: (in the text, from the numbers), "" where there is none.

    Which versions made them may differ, and so may empty lines.
    """

    def told(t: str) -> list[str]:
        return [line for line in map(str.strip, t.splitlines()) if line and not line.startswith(MADE)]

    have, want = told(text), told(findings(found))
    known, wanted = set(have), set(want)
    extra = [line for line in have if line not in wanted]
    lacking = [line for line in want if line not in known]
    n = max(len(extra), len(lacking))
    return list(zip(extra + [""] * (n - len(extra)), lacking + [""] * (n - len(lacking)), strict=True))


# -- parts of the text ------------------------------------------------------------------------------------------------


def _about(verdict: Table) -> list[str]:
    runs = sum(len(seeds) for s in verdict["settings"] for seeds in s["runs"].values())
    software = ", ".join(f"{name} {version}" for name, version in sorted(verdict["versions"].items()))
    lines = [
        "Every sentence of this page is written by `landscape findings` from the numbers of a study: "
        f"{_count(runs, 'run')} in {_count(len(verdict['settings']), 'setting')}. `landscape findings STUDY --check "
        "FILE` makes them again and names every one that differs; `landscape verdict STUDY` shows all rows behind "
        "them. What the quantities are: [definitions](definitions.md); how it is decided: "
        "[the verdict](concepts/verdict.md).",
        "",
        f"{MADE} revision {verdict['code_revision']}: {software}.",
        "",
        verdict["rule"]["text"],
        "",
    ]
    for s in verdict["settings"]:
        values = s["values"]
        told = ", ".join(f"{_short(k)} {values[k]}" for k in _TOLD if values.get(k) is not None)
        kinds = ", ".join(f"{label} ({_count(len(seeds), 'seed')})" for label, seeds in s["runs"].items())
        lines.append(f"- **{s['label']}**: {told}. Runs: {kinds}.")
    return lines


def _short(name: str) -> str:
    """A setting without what its place says: "model.name" is the model, "model.width" the width."""
    return name.removesuffix(".name").removeprefix("model.")


def _standing_out(verdict: Table) -> list[str]:
    """The refutations that are furthest from what is claimed, one a claim, by the row that is least so."""
    best: dict[str, tuple[float, str]] = {}
    for s, f in _main(verdict):
        if f["outcome"] != "refuted":
            continue
        for e in f["evidence"]:
            if not (e["decides"] and e["rows"] and all(r["side"] == -1 for r in e["rows"])):
                continue
            row = max(e["rows"], key=lambda r: r["effect"])
            size = -row["effect"]
            if size > best.get(f["claim"], (0.0, ""))[0]:
                text = (
                    f"{f['claim']}, {f['title']}, is refuted in {s['label']} ({_row(e, row)}{_margin(e)}; "
                    f"{_deviations(size)}, {_count(row['n'], 'seed')}). Claimed: “{f['statement']}”"
                )
                best[f["claim"]] = (size, text)
    ranked = sorted(best.values(), reverse=True)[:_STANDING_OUT]
    if not ranked:
        return ["No claim is refuted in any setting."]
    one = len(ranked) == 1
    lines = [f"{i}. {text}" for i, (_, text) in enumerate(ranked, start=1)]
    return [f"The {'refutation' if one else 'refutations'} with the largest effect{'' if one else 's'}:", "", *lines]


def _summary(verdict: Table) -> list[str]:
    settings = verdict["settings"]
    rows = []
    for claim, first in _claims(verdict).items():
        row = [f"{claim} {first['title']}"]
        for s in settings:
            said = [(f["a"], f["outcome"]) for f in s["findings"] if f["claim"] == claim and f["main"]]
            row.append(said[0][1] if len(said) == 1 else "; ".join(f"{a}: {outcome}" for a, outcome in said))
        rows.append(row)
    return _table(["claim", *(s["label"] for s in settings)], rows)


def _trained(verdict: Table) -> list[str]:
    lines = []
    for s in verdict["settings"]:
        names = list(dict.fromkeys(name for end in s["ends"].values() for name in end))
        if not names:
            continue
        rows = [[label, *(_end(name, end.get(name)) for name in names)] for label, end in s["ends"].items()]
        heads = [_HEADS[name.partition(" ")[0]].format(name.partition(" ")[2] or "all") for name in names]
        lines += [f"{s['label']}: last step, test split, mean [95 % interval] over seeds.", ""]
        lines += [*_table(["", *heads], rows), ""]
    return lines


def _claim(verdict: Table, claim: str) -> list[str]:
    """One claim: where it stands in how many settings, then setting by setting."""
    mains = [(s, f) for s, f in _main(verdict) if f["claim"] == claim]
    first = mains[0][1]
    statement = f"*Claimed:* {first['statement']}" + (f" {first['note']}" if first["note"] else "")
    others = [(s, f) for s in verdict["settings"] for f in s["findings"] if f["claim"] == claim and not f["main"]]
    lines = [f"### {claim}: {first['title']}", "", statement, "", _over_settings(mains), *_of_depth(mains, others), ""]
    for s, f in mains:
        if f["outcome"] == "not asked":
            continue
        lines.append(
            f"- **{s['label']}**, {f['a']} against {f['b']}, {_count(len(f['seeds']), 'seed')}: "
            f"**{f['outcome']}**. {' '.join(_evidence(f))}{_needed(f)}"
        )
    for s, f in others:
        if f["outcome"] != "not asked":
            lines.append(f"- {s['label']}, {f['a']} against {f['b']}: {f['outcome']}.")
    return lines


def _over_settings(mains: Sequence[tuple[Table, Table]]) -> str:
    by: dict[str, list[str]] = {}
    several = len({f["a"] for _, f in mains}) > 1
    for s, f in mains:
        by.setdefault(f["outcome"], []).append(f"{s['label']}: {f['a']}" if several else s["label"])
    asked = sum(len(where) for outcome, where in by.items() if outcome != "not asked")
    if not asked:
        return "It was not asked in this study."
    said = [f"{o} in {len(by[o])} ({'; '.join(by[o])})" for o in ("supported", "refuted", "inconclusive") if o in by]
    return f"Asked in {_count(asked, 'case' if several else 'setting')}, it is {', '.join(said)}."


def _of_depth(mains: Sequence[tuple[Table, Table]], others: Sequence[tuple[Table, Table]]) -> list[str]:
    """Whether depth without recursion has it, too."""
    judged = [(s, f) for s, f in others if (f["a"], f["b"]) == ("stacked", "single") and f["outcome"] != "not asked"]
    if not judged:
        return []
    depth = {s["label"] for s, f in judged if f["outcome"] == "supported"}
    looped = {s["label"] for s, f in mains if f["outcome"] == "supported"}
    of = f"{len(depth)} of {_count(len(judged), 'setting')}"
    text = f"Stacked, as deep and without recursion, has it over Single in {of}"
    return [
        text + (f", among them {len(depth & looped)} of the {len(looped)} in which Looped has it." if looped else ".")
    ]


def _evidence(f: Table) -> Iterator[str]:
    """A sentence for each quantity that decides: the row that is least on the claimed side, and how many lie where."""
    for e in f["evidence"]:
        if not e["decides"]:
            continue
        rows = [r for r in e["rows"] if r["low"] is not None and not math.isnan(r["low"])]
        if not rows:
            yield f"{_raised(e['quantity'])}: {'not asked' if not e['rows'] else 'no interval'}."
            continue
        text = _raised(_row(e, min(rows, key=_distance))) + _margin(e)
        if len(e["rows"]) > 1:
            sides = [r["side"] for r in e["rows"]]
            text += f"; of {len(sides)} rows {sides.count(1)} on the claimed side, {sides.count(-1)} on the other"
        if not e["answered"]:
            text += f"; asked in {_count(len(e['settings']), 'metric')} of the {e['fewest_metrics']} that it takes"
        yield f"{text}."


def _distance(r: Table) -> float:
    """Standard deviations on the claimed side; of numbers that are all the same, however far there is."""
    known = r["effect"] is not None and not math.isnan(r["effect"])
    return float(r["effect"]) if known else math.copysign(math.inf, r["side"]) if r["side"] else 0.0


def _row(e: Table, r: Table) -> str:
    where = ", ".join(p for p in ("" if r["metric"] == "none" else r["metric"], r["threshold"]) if p)
    unit = "" if e["unit"] == "1" else f" {e['unit']}"
    ends = f" [{_number(r['low'])}, {_number(r['high'])}]" if r["n"] > 1 else ""
    return f"{e['words']}: {_number(r['mean'])}{ends}{unit}" + (f" ({where})" if where else "")


def _margin(e: Table) -> str:
    return f", claimed {'above' if e['direction'] > 0 else 'below'} {_number(e['margin']).removeprefix('+')}"


def _needed(f: Table) -> str:
    if f["outcome"] != "inconclusive":
        return ""
    if f["seeds_needed"] is None:
        return " More seeds would not decide it if the effects are what they seem."
    return f" About {f['seeds_needed']} seeds would decide it if the effects are what they seem."


def _left_out(verdict: Table) -> list[str]:
    lines = [f"- {text}" for text in verdict["left_out"]]
    for s in verdict["settings"]:
        notes = [note for f in s["findings"] for note in f["notes"]]
        lines += [f"- {s['label']}: {text}" for text in dict.fromkeys([*s["left_out"], *notes])]
    return lines


# -- small things -----------------------------------------------------------------------------------------------------


def _main(verdict: Table) -> Iterator[tuple[Table, Table]]:
    return ((s, f) for s in verdict["settings"] for f in s["findings"] if f["main"])


def _claims(verdict: Table) -> dict[str, Table]:
    """The first finding of every claim, in order."""
    out: dict[str, Table] = {}
    for _, f in _main(verdict):
        out.setdefault(f["claim"], f)
    return dict(sorted(out.items(), key=lambda item: int(item[0][1:])))


def _end(name: str, end: Mapping[str, float] | None) -> str:
    if end is None:
        return "–"
    if name.startswith("flops"):
        return f"{end['mean']:.3g}"
    ends = f" [{end['low']:.4f}, {end['high']:.4f}]" if end["n"] > 1 else ""
    return f"{end['mean']:.4f}{ends}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    every = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in every]


def _number(x: float | None) -> str:
    return "–" if x is None or math.isnan(x) else f"{x:+.3g}".replace("-", "−")


def _deviations(x: float) -> str:
    return "no spread over seeds" if math.isinf(x) else f"{x:.2g} standard deviations away"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _raised(text: str) -> str:
    return text[:1].upper() + text[1:]
