"""Tables of what a grid asks for: what is done, what is left, and what that takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from landscape.answers.cost import span_text
from landscape.cli.console import Table
from landscape.grids.plan import Answering, Plan, Training
from landscape.grids.price import Price
from landscape.probes.base import Span

__all__ = ["as_json", "clock", "grid_tables", "in_all"]


def clock(span: Span) -> str:
    """A range of seconds in the unit in which it is read.

    Example:
        >>> clock((20.0, 50.0)), clock((400.0, 900.0)), clock((9000.0, 20000.0)), clock((4.0, float("inf")))
        ('20–50 s', '6.7–15 min', '2.5–5.6 h', 'at least 4 s')
    """
    largest = span[0] if span[1] == float("inf") else span[1]
    size, unit = (1.0, "s") if largest < 120 else (60.0, "min") if largest < 7200 else (3600.0, "h")
    return span_text((span[0] / size, span[1] / size), unit)


def grid_tables(plan: Plan, price: Price) -> list[Table]:
    """One row for each kind of run and for each probe."""
    rows = []
    for label, trainings in _kinds(plan.trainings).items():
        left = [t for t in trainings if t in price.trainings]
        refused = sum(t.error is not None for t in trainings)
        steps = sum(t.config.steps - t.reached for t in left)
        spent = _sum(price.trainings[t] for t in left)
        counts = [len(trainings), sum(t.done for t in trainings), len(left), steps]
        note = f"{refused} cannot be trained" if refused else ""
        rows.append([label, *map(str, counts), clock(spent) if left else "–", note])
    columns = ["runs", "in all", "done", "to train", "updates", "time", "note"]
    tables = [Table("Runs", columns, rows, text=True)]
    asked = []
    for (name, metric), answerings in _questions(plan.answerings).items():
        left_here = [a for a in answerings if a in price.answerings]
        spent = _sum(price.answerings[a] for a in left_here)
        total, stored = (sum(getattr(a, n) for a in answerings) for n in ("steps", "stored"))
        asked.append([name, metric, str(total), str(stored), clock(spent) if left_here else "–"])
    if asked:
        tables.append(Table("Answers", ["probe", "metric", "in all", "stored", "time"], asked, text=True))
    return tables


def in_all(price: Price, *, jobs: int) -> str:
    """The time of all together."""
    among = f" in {jobs} processes" if jobs > 1 else ""
    return (
        f"All together {clock(price.seconds(jobs=jobs))}{among}: runs {clock(price.training(jobs=jobs))}, "
        f"answers {clock(price.answering(jobs=jobs))}"
    )


def _kinds(trainings: Iterable[Training]) -> dict[str, list[Training]]:
    """Runs that differ in nothing but the seed."""
    out: dict[str, list[Training]] = {}
    for t in trainings:
        out.setdefault(re.sub(rf"-s{t.config.seed}(?=-|$)", "-s*", t.path.name, count=1), []).append(t)
    return out


def _questions(answerings: Iterable[Answering]) -> dict[tuple[str, str], list[Answering]]:
    out: dict[tuple[str, str], list[Answering]] = {}
    for a in answerings:
        out.setdefault((a.asked.name, a.metric), []).append(a)
    return out


def _sum(spans: Iterable[Span]) -> Span:
    known = list(spans)
    return sum(s[0] for s in known), sum(s[1] for s in known)


def as_json(plan: Plan, price: Price, *, jobs: int) -> dict[str, Any]:
    """The same for programs: seconds of one process, null where there is no upper end."""
    return {
        "runs": [
            {
                "path": str(t.path),
                "done": t.done,
                "reached": t.reached,
                "steps": t.config.steps,
                "seconds": price.trainings.get(t),
                "error": None if t.error is None else str(t.error),
            }
            for t in plan.trainings
        ],
        "answers": [
            {
                "path": str(a.training.path),
                "probe": a.asked.name,
                "metric": a.metric,
                "in_all": a.steps,
                "stored": a.stored,
                "seconds": price.answerings.get(a),
                "error": None if a.error is None else str(a.error),
            }
            for a in plan.answerings
        ],
        "seconds": price.seconds(jobs=jobs),
        "jobs": jobs,
    }
