"""Time of a surface of 51 x 51 points: a plain loop of separate evaluations against ours, with one worker and two.

    OMP_NUM_THREADS=1 python benchmarks/surface.py [--points 51] [--repeats 3] [--problem toy] [--quick]

The plain loop is what one writes by hand: set the parameters, evaluate the loss without gradients, next point. All ways
compute in float32 on one thread each, in turn within each repeat; the seconds of a run hold everything, also starting
workers. The largest difference of values is that from the plain loop, relative to the loop's largest loss. What was
measured before of the other model stays in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from problems import PROBLEMS, Problem, problem, trained
from report import NAMES
from timing import environment, say
from torch import Tensor, nn

from landscape import Objective, parallel
from landscape.probes.surface import surface

_ROOT = Path(__file__).parents[1]
SPAN = 1.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time a two-dimensional slice of the loss.")
    parser.add_argument("--quick", action="store_true", help="tiny models and few points: a check, no result")
    parser.add_argument("--problem", choices=PROBLEMS, action="append", help="default both")
    parser.add_argument("--points", type=int, default=51, help="on each axis")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=_ROOT / "benchmarks" / "results")
    return parser.parse_args()


def directions(objective: Objective) -> Tensor:
    """Two random directions as long as the parameters, (2, P)."""
    D = torch.randn(2, objective.size, generator=torch.Generator().manual_seed(0), dtype=objective.dtype)
    return D * objective.w0.norm() / D.norm(dim=1, keepdim=True)


def by_hand(p: Problem, D: Tensor, axis: np.ndarray) -> np.ndarray:
    """The plain loop, (n, n)."""
    module, (inputs, targets), w = p.module, p.data, p.objective.w0
    parameters = list(module.parameters())
    found = np.empty((len(axis), len(axis)))
    with torch.no_grad():
        for i, a in enumerate(axis):
            for j, b in enumerate(axis):
                nn.utils.vector_to_parameters(w + a * D[0] + b * D[1], parameters)
                found[i, j] = p.per_sample(module(inputs), targets).mean()
        nn.utils.vector_to_parameters(w, parameters)
    return found


def ways(p: Problem, D: Tensor, axis: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Each way of making the same grid."""
    span = tuple(axis.tolist())

    def ours(jobs: int) -> np.ndarray:
        objective = p.objective if jobs == 1 else parallel(p.objective, jobs=jobs)
        return surface(objective, objective.w0, seed=0, directions=D, alpha=span, beta=span).loss.values

    return {"plain loop": lambda: by_hand(p, D, axis), "ours": lambda: ours(1), "ours, 2 workers": lambda: ours(2)}


def compare(name: str, *, points: int, repeats: int, quick: bool) -> dict[str, Any]:
    """Seconds of every way on one problem, and how far its values are from the loop's."""
    p = problem(trained(name, quick=quick), "whole")
    D, axis = directions(p.objective), np.linspace(-SPAN, SPAN, points)
    seconds: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    values: dict[str, np.ndarray] = {}
    loads = []
    for _ in range(repeats):
        for way, make in ways(p, D, axis).items():
            loads.append(round(os.getloadavg()[0], 2))
            start, used = time.perf_counter(), time.process_time()
            values[way] = make()
            seconds.setdefault(way, []).append(time.perf_counter() - start)
            processor.setdefault(way, []).append(time.process_time() - used)
            say(f"{name}, {way}: {seconds[way][-1]:.2f} s, load before {loads[-1]}")
    truth = values["plain loop"]
    rows = {
        way: {
            "seconds": found,
            "median_s": statistics.median(found),
            "ms_per_point": 1e3 * statistics.median(found) / truth.size,
            "loop_over_this": [a / b for a, b in zip(seconds["plain loop"], found, strict=True)],
            # Of this process alone: what workers took is not in it.
            "processor_s": None if "workers" in way else processor[way],
            "difference": float(np.abs(values[way] - truth).max() / np.abs(truth).max()),
        }
        for way, found in seconds.items()
    }
    same = bool(np.array_equal(values["ours"], values["ours, 2 workers"]))
    return {
        "environment": environment(),
        "quick": quick,
        "problem": p.about,
        "points": truth.size,
        "loads": loads,
        "workers_same_bits": same,
        "methods": rows,
    }


def _span(x: list[float]) -> str:
    return f"{statistics.median(x):.2f} [{min(x):.2f}–{max(x):.2f}]"


def section(content: dict[str, Any]) -> str:
    """The part of the document."""
    lines = [
        "## Surfaces",
        "",
        "Losses on a plane through the trained models, in float32, one thread a process; a plain loop sets the "
        "parameters and evaluates the loss, point by point. Seconds of whole calls in turn, also of starting workers. "
        "*Processor*: the loop's processor seconds over those of this way, which other work stretches less. "
        "*Difference*: the largest from the loop's values, relative to its largest. The ratios are of one repeat each.",
        "",
        "| model | points | way | s | ms / point | loop / this | processor | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in content.items():
        for way, r in found["methods"].items():
            gain = r["loop_over_this"]
            seconds = f"{r['median_s']:.1f} [{min(r['seconds']):.1f}–{max(r['seconds']):.1f}]"
            loop = found["methods"]["plain loop"]["processor_s"]
            less = r["processor_s"] and [a / b for a, b in zip(loop, r["processor_s"], strict=True)]
            cells = (NAMES[name], str(found["points"]), way, seconds, f"{r['ms_per_point']:.2f}", _span(gain))
            cells += (_span(less) if less else "",)
            lines.append("| " + " | ".join((*cells, f"{r['difference']:.0e}" if r["difference"] else "0")) + " |")
    loads = [x for found in content.values() for x in found["loads"]]
    same = all(found["workers_same_bits"] for found in content.values())
    cores = next(iter(content.values()))["environment"]["cores"]
    quick = any(found["quick"] for found in content.values())
    lines += [
        "",
        f"One worker and two give {'the same bits' if same else '**other numbers**'}. {cores} cores; the load of the "
        f"machine before each call was {min(loads):.1f} to {max(loads):.1f}, this process and its workers included"
        + ("." if max(loads) < cores else ": other work took part of the cores, and most of the second one.")
        + (" **A quick check: not a result.**" if quick else ""),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    points, repeats = (5, 1) if args.quick else (args.points, args.repeats)
    path = args.output / "surface.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in args.problem or PROBLEMS:
        found[name] = compare(name, points=points, repeats=repeats, quick=args.quick)
    args.output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    say(section(found))


if __name__ == "__main__":
    main()
