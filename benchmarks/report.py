"""Make `docs/benchmarks.md` and its pictures of the JSON files that `curvature.py` wrote.

python benchmarks/report.py [--results benchmarks/results] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
OURS = "ours, default"
"""What the ratios are relative to: the strategy that compiles nothing."""
WRONG = 1e-4
"""Relative error of one product that is more than rounding."""
ORDER = ("top", "density", "full", "run")
TITLES = {
    "top": "Ten eigenvalues of largest magnitude",
    "density": "Spectral density by Lanczos quadrature",
    "full": "All eigenvalues",
    "run": "A whole run",
}
NAMES = {"toy": "toy", "gpt": "GPT block", "whole": "one batch", "uneven": "eight uneven batches"}

Rows = dict[str, dict[str, Any]]


def base(rows: Rows) -> float:
    """The seconds of ours that ratios refer to: of the default strategy, or of the first row."""
    return float(rows.get(OURS, next(iter(rows.values())))["median_s"])


def table(question: str, found: dict[str, Any]) -> str:
    """Markdown; a ratio above 1 is slower than our default."""
    rows: Rows = found["methods"]
    heads = ["method", "median s", "range s", "repeats", "products", "ms / product", "compile s"]
    heads += {"top": ["error"], "density": ["trace ± s.e."], "full": ["difference"], "run": ["process s"]}[question]
    lines = [
        " | ".join(["", *heads, "time / ours" if OURS in rows else "time / first row", ""]).strip(),
        "|" + "---|" * (len(heads) + 1),
    ]
    for name, r in rows.items():
        cells = [name, _s(r["median_s"]), f"{_s(r['min_s'])}–{_s(r['max_s'])}", str(r["repeats"])]
        cells += [f"{r['products']}", f"{1e3 * r['median_s'] / max(1, r['products']):.1f}"]
        cells += ["unknown" if r["compile_s"] is None else f"{r['compile_s']:.1f}", _last(question, r)]
        ratio = r["median_s"] / base(rows)
        cells.append(f"{ratio:.2f}" if r.get("reached", True) else f"> {ratio:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _s(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"


def _last(question: str, r: dict[str, Any]) -> str:
    if question == "run":
        return f"{_s(min(r['process_s']))}–{_s(max(r['process_s']))}"
    if question == "density":
        return f"{r['trace']:.4g} ± {r['trace_stderr']:.2g}" if r["reached"] else "ran out of time"
    text = (f"{r['error']:.0e}" if r["error"] else "0") + ("" if r["reached"] else " (not reached)")
    if "error_on_uneven" in r:
        text += f"; wrong for uneven batches: {r['error_on_uneven']:.0e}"
    return text


def remarks(question: str, found: dict[str, Any]) -> list[str]:
    """What the table cannot say: settings, repairs, batches that a peer cannot do, times that are scaled up."""
    out = []
    for name, r in found["methods"].items():
        parts = []
        if "settings" in r:
            parts.append("settings " + ", ".join(f"`{k}={v:g}`" for k, v in r["settings"].items()))
        if r.get("even_batches"):
            wrong = f"its product on uneven batches is off by {r['product_error']:.0e} (it averages batch means)"
            parts.append(f"{wrong}, so it was timed on eight even batches")
        elif r.get("product_error", 0.0) > WRONG:
            parts.append(f"**its product with a random vector differs from ours by {r['product_error']:.0e}**")
        if not r.get("reached", True) and question == "top":
            parts.append(f"best of what it reached in {found['patience_s']:.0f} s, one run")
        if r.get("note"):
            parts.append(r["note"])
        if parts:
            out.append(f"- {name}: {'; '.join(parts)}.")
    if found.get("extrapolated"):
        out.append(
            f"- Only {found['columns']} of {found['of']} columns were computed, spread evenly; the seconds are "
            "**scaled up** to all of them, without the eigenvalues, and the difference is that of the columns."
        )
    elif question == "full":
        out.append(f"- Every time contains {found['eigvalsh_s']:.1f} s of `eigvalsh` in float32.")
    return out


def compiling(found: dict[str, Any]) -> list[str]:
    """From how many products on compiling is worth its seconds, against a kept graph that compiles nothing."""
    rows, out = found["methods"], []
    plain = rows.get("ours, cached", rows.get(OURS))
    if plain is None:
        return out
    for name, r in rows.items():
        if not r["compile_s"] or "compiled" not in name or name == OURS:
            continue
        gain = plain["median_s"] / plain["products"] - r["median_s"] / r["products"]
        when = f"pays from {r['compile_s'] / gain:.0f} products on" if gain > 0 else "never pays here"
        out.append(f"- {name}: {r['compile_s']:.1f} s of tracing and compiling once; against a kept graph it {when}.")
    return out


def not_faster(files: dict[str, Any]) -> list[str]:
    """Every place where what is not ours takes less than 1.1 times the time of our default."""
    out = []
    for key, content in files.items():
        question = key.split("-")[0]
        rows = content[question]["methods"]
        where = ", ".join(NAMES.get(x, x) for x in key.split("-")[1:])
        for name, r in rows.items():
            ratio = r["median_s"] / base(rows)
            if r.get("reached", True) and ratio < 1.1 and not name.startswith("ours"):
                seconds = f"{_s(r['median_s'])} s against {_s(base(rows))} s"
                out.append(f"- {TITLES[question]}, {where}: {name} takes {ratio:.2f} of our time ({seconds}).")
    return out


def load(folder: Path) -> dict[str, Any]:
    """File name -> content, in the order of the document."""
    names = [f"{q}-{p}{s}" for q in ORDER for p in ("toy", "gpt") for s in ("", "-whole", "-uneven")]
    paths = {n: folder / f"{n}.json" for n in names}
    return {n: json.loads(path.read_text()) for n, path in paths.items() if path.exists()}


def main() -> None:
    from document import document, pictures

    parser = argparse.ArgumentParser(description="Write the document of stored measurements.")
    parser.add_argument("--results", type=Path, default=_HERE / "results")
    parser.add_argument("--write", type=Path, default=_HERE.parent / "docs" / "benchmarks.md")
    args = parser.parse_args()
    files = load(args.results)
    if not files:
        raise SystemExit(f"no results in {args.results}: run benchmarks/curvature.py first")
    args.write.parent.mkdir(parents=True, exist_ok=True)
    images = pictures(files, args.write.parent)
    args.write.write_text(document(files, images, _others(args.results), args.write.parent))


def _others(folder: Path) -> dict[str, Any]:
    """What other scripts stored, by name."""
    names = ("training", "size", "size-cuda", "surface", "command", "gpu", "ranks", "recording")
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


if __name__ == "__main__":
    main()
