"""Table of what requests would cost."""

from __future__ import annotations

from collections.abc import Sequence

from landscape.answers.cost import Cost, span_text, total_seconds
from landscape.answers.rates import Rates
from landscape.cli.console import Table

__all__ = ["as_json", "basis", "cost_table"]


def cost_table(found: Sequence[Cost], *, jobs: int) -> Table:
    """One row per request."""
    rows = []
    for c in found:
        question = c.request.question
        metric = question.settings.get("metric", "euclidean")
        note = str(c.error) if c.error is not None else c.note
        rows.append(
            [
                question.run.name + ("" if metric == "euclidean" else f" [{metric}]"),
                question.probe.name,
                str(c.todo),
                str(c.stored),
                span_text(c.products),
                span_text(c.gradients),
                span_text(c.forwards),
                span_text(c.seconds, "s"),
                "–" if not c.todo else "unknown" if c.memory is None else span_text(_gib(c.memory), "GiB"),
                note,
            ]
        )
    columns = ["run", "probe", "to do", "stored", "products", "gradients", "losses", "time", "memory", "note"]
    together = f"All together {span_text(total_seconds(found, jobs=jobs), 's')}"
    together += f" in {jobs} processes, and the memory of each" if jobs > 1 else ""
    return Table("What this would compute; nothing was written", columns, rows, f"{together}.", text=True)


def _gib(memory: tuple[float, float]) -> tuple[float, float]:
    return memory[0] / 2**30, memory[1] / 2**30


def basis(found: Sequence[Cost]) -> str:
    """What was timed, and what the numbers mean."""
    timed = list({id(c.rates): c.rates for c in found if c.rates is not None}.values())
    if not timed:
        return "Nothing had to be timed."
    each = "; ".join(_timed(rates) for rates in timed[:3])
    more = f" and {len(timed) - 3} more kinds of losses" if len(timed) > 3 else ""
    return (
        f"Timed just now on this machine: {each}{more}. Numbers of products, gradients and losses (of all samples) are "
        "ranges that each probe tells for its settings. Time and memory are for one process; load changes both."
    )


def _timed(rates: Rates) -> str:
    curved = f"one product ({rates.strategy}) {1e3 * rates.product:.3g} ms" if rates.strategy else "no products"
    return (
        f"P = {rates.size}: one loss {1e3 * rates.forward:.3g} ms, one gradient {1e3 * rates.gradient:.3g} ms, {curved}"
    )


def as_json(found: Sequence[Cost], *, jobs: int) -> dict[str, object]:
    """The same for programs: seconds and bytes, null where unknown."""
    return {
        "requests": [
            {
                "run": str(c.request.question.run.path),
                "probe": c.request.question.probe.name,
                "settings": c.request.question.settings,
                "to_do": c.todo,
                "stored": c.stored,
                **{name: getattr(c, name) for name in ("products", "gradients", "forwards", "seconds", "memory")},
                "note": c.note,
                "error": None if c.error is None else str(c.error),
            }
            for c in found
        ],
        "seconds": total_seconds(found, jobs=jobs),
        "jobs": jobs,
    }
