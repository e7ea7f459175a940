"""The section of `docs/benchmarks.md` about models of all sizes, of what `size.py` stored, and its picture."""

from __future__ import annotations

from statistics import median
from typing import Any

from matplotlib.figure import Figure

from landscape.figures.style import grid, styled

_OURS, _REFERENCE = "ours, no proof", "eigsh, our product"
WRONG = 0.01
"""Error of an eigenvalue, relative to the largest, beyond which a cell says so."""
_HEADS = (
    "model", "P", "asked", "method", "median s", "range s", "repeats", "in products", "products", "peak GiB",
    "time / eigsh",
)  # fmt: skip
_LOOKS = {
    "ours": ("#0072B2", "o", "-"),
    "ours, no proof": ("#0072B2", "s", "--"),
    "eigsh, our product": ("black", "^", "-"),
    "curvlinops + eigsh": ("#E69F00", "v", "-"),
    "hessian-eigenthings": ("#999999", "D", "-"),
    "PyHessian": ("#D55E00", "P", "-"),
}


def section(content: dict[str, Any], image: str | None) -> str:
    """Seconds, products and memory of every method on every model, as Markdown."""
    e = content["environment"]
    where = e.get("card") or f"{e['cpu']}, {e['threads']} thread(s)"
    lines = [
        f"### {where}, torch {e['packages']['torch']}",
        "",
        *([f"![Time and memory against the number of parameters]({image})", ""] if image else []),
        f"| {' | '.join(_HEADS)} | |",
        "|---" * (len(_HEADS) + 1) + "|",
    ]
    for model, found in content["models"].items():
        s = found["settings"]
        asked = f"k {s['k']}, tol {s['tol']:g}, {s['sequences']} sequences"
        done = {name: rows for name, rows in found["methods"].items() if "failed" not in rows[0]}
        size = max((rows[0]["parameters"] for rows in done.values()), default=0)
        base = median(r["seconds"] for r in done[_REFERENCE]) if _REFERENCE in done else None
        true = done.get("ours", done.get(_OURS, [None]))[0]
        for name, rows in found["methods"].items():
            cells = [model, str(size), asked, name]
            cells += _cells(rows, base, true) if name in done else [f"– ({rows[0]['failed']})", *[""] * 7]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cells(rows: list[dict[str, Any]], base: float | None, true: dict[str, Any] | None) -> list[str]:
    seconds = [r["seconds"] for r in rows]
    inside = median(r["seconds in products"] for r in rows) / median(seconds)
    memory = max(r.get("device GiB", r["host GiB"]) for r in rows)
    ratio = "–" if base is None else f"{median(seconds) / base:.2f}"
    said = [] if rows[0]["converged"] in (True, None) else ["not converged"]
    if rows[0].get("resolved"):
        said.append("none was missed")
    if true is not None and (error := _error(rows[0]["eigenvalues"], true["eigenvalues"])) > WRONG:
        said.append(f"**off by {error:.0e}**")
    shown = f"{min(seconds):.1f}–{max(seconds):.1f}"
    numbers = [f"{median(seconds):.1f}", shown, str(len(rows)), f"{inside:.0%}", str(rows[0]["products"])]
    return [*numbers, f"{memory:.2f}", ratio, "; ".join(said)]


def _error(found: list[float], true: list[float]) -> float:
    """Largest difference of sorted eigenvalues, relative to the largest."""
    pairs = zip(sorted(found, reverse=True), sorted(true, reverse=True), strict=False)
    return max(abs(a - b) for a, b in pairs) / max(map(abs, true))


@styled
def picture(content: dict[str, Any]) -> Figure:
    """Seconds (left) and peak memory (right) against P, a line for each method, both axes logarithmic."""
    figure, axes = grid(1, 2, height=2.6)
    for name, (color, marker, linestyle) in _LOOKS.items():
        every = [f["methods"].get(name, []) for f in content["models"].values()]
        done = [rows for rows in every if rows and "failed" not in rows[0]]
        size = [rows[0]["parameters"] for rows in done]
        look: dict[str, Any] = {"color": color, "marker": marker, "linestyle": linestyle, "label": name}
        seconds = [[r["seconds"] for r in rows] for rows in done]
        middle = [median(s) for s in seconds]
        pairs = list(zip(middle, seconds, strict=True))
        spread = [[m - min(s) for m, s in pairs], [max(s) - m for m, s in pairs]]
        axes[0][0].errorbar(size, middle, spread, linewidth=1, markersize=3.5, capsize=2, **look)
        memory = [max(r.get("device GiB", r["host GiB"]) for r in rows) for rows in done]
        axes[0][1].plot(size, memory, linewidth=1, markersize=3.5, **look)
    for ax, label in zip(axes[0], ("time (s, log scale)", "peak memory (GiB, log scale)"), strict=True):
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("number of parameters P (log scale)")
        ax.set_ylabel(label)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure
