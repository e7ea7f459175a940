"""The section of `docs/benchmarks.md` about a graphics card, of what `gpu.py` stored."""

from __future__ import annotations

from typing import Any

from report import WRONG

_NOT_ERRORS = ("model", "P", "dtype", "auto is")
_WAYS = (
    "loss", "gradient", "cached", "cached, not recorded", "forward", "compiled", "compiled, 8 at once",
    "PyHessian", "curvlinops", "hessian-eigenthings",
)  # fmt: skip
_MANY = ("point", "point, 16 at once", "seed", "seed, 8 at once")


def section(content: dict[str, Any]) -> str:
    """Errors of everything, then milliseconds and memory, as Markdown."""
    packages = content["environment"]["packages"]
    quick = "**A quick check on tiny models: not a result.** " if content["quick"] else ""
    lines = [
        "## On a graphics card",
        "",
        f"{quick}{content['card']}, torch {packages['torch']}; `python benchmarks/gpu.py`.",
        *([content["note"]] if "note" in content else []),
        "",
        "Errors against float64 on a CPU: distance over the norm of the truth.",
        "",
    ]
    names = [key for key in content["right"][0] if key not in _NOT_ERRORS]
    lines += [f"| model | P | dtype | {' | '.join(names)} |", "|---|---|---|" + "---|" * len(names)]
    for r in content["right"]:
        cells = [r["model"], str(r["P"]), r["dtype"], *(_error(r.get(name)) for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    probes = ", ".join(f"{name} {_error(e)}" for name, e in content["probes"].items())
    lines += ["", f"Probes of the toy in float64: {probes}.", ""]
    if content["fast"]:
        lines += _fast(content["fast"])
    return "\n".join(lines)


def _fast(models: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "Milliseconds of a product and of what it is made of, in float32 (median of five calls, the device waited for;",
        "of eight vectors at once: each), in brackets peak memory in GiB. Products are recorded as CUDA graphs after",
        "five calls, where launching them takes most of their time; *not recorded*: without. *Ready*: seconds until",
        "the first product, tracing and compiling included. Peers in the same process, on the same module; *error*:",
        "distance of their product from ours, where it is more than rounding.",
        "",
        f"| model | P | samples | {' | '.join(_WAYS)} | ready, compiled |",
        "|---|---|---|" + "---|" * (len(_WAYS) + 1),
    ]
    for name, m in models.items():
        cells = [name, str(m["P"]), str(m["samples"]), *(_cost(m, way) for way in _WAYS)]
        ready = m.get("compiled ready s")
        lines.append(f"| {' | '.join([*cells, '–' if ready is None else f'{ready:.0f}'])} |")
    lines += [
        "",
        "Many at once: the loss at 16 points and the gradients of 8 models, one after the other or in one call of",
        "`torch.func` (milliseconds each; the probes do not do this yet):",
        "",
        f"| model | {' | '.join(_MANY)} |",
        "|---|" + "---|" * len(_MANY),
        *(f"| {name} | {' | '.join(_cost(m, way) for way in _MANY)} |" for name, m in models.items()),
    ]
    lines += ["", "Whole questions, with the kept graph (seconds; products):", ""]
    asked = [key.removesuffix(" s") for key in next(iter(models.values())) if key.endswith(" s") and "ready" not in key]
    lines += [f"| model | {' | '.join(asked)} |", "|---|" + "---|" * len(asked)]
    for name, m in models.items():
        cells = []
        for key in asked:
            products = f"; {m[f'{key} products']}" if f"{key} products" in m else ""
            failed = "" if m.get(f"{key} converged", True) else " (not converged)"
            cells.append(f"{m[f'{key} s']:.2f}{products}{failed}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _error(x: Any) -> str:
    return "–" if x is None else f"{x:.0e}" if isinstance(x, float) else str(x)


def _cost(m: dict[str, Any], way: str) -> str:
    ms, memory = m.get(f"{way} ms"), m.get(f"{way} GiB")
    if not isinstance(ms, float):
        return "–" if ms is None else "failed"
    wrong = m.get(f"{way} error", 0.0)
    said = f"; error {wrong:.0e}" if wrong > WRONG else ""
    return f"{ms:.2g}" + (f" [{memory:.2f}]" if memory else "") + said
