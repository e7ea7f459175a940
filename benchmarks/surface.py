"""Time of a surface of 51 x 51 points: ours with one worker and two, a plain loop, and the libraries that draw planes.

    OMP_NUM_THREADS=1 python benchmarks/surface.py [--points 51] [--repeats 3] [--problem toy] [--quick]

The plain loop is what one writes by hand: set the parameters, evaluate the loss without gradients, next point. All ways
compute in float32 on one thread each, in turn within each repeat; the seconds of a run hold everything, also starting
workers. The largest difference of values is that from the plain loop, relative to the loop's largest loss. What was
measured before of the other model stays in the file. What is wrong of the peers, `planes_of_peers.py` reproduces.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planes_of_peers import NOTES, Plane, by_hand, check, directions, installed
from problems import PROBLEMS, Problem, problem, trained
from report import NAMES
from timing import environment, say
from torch import Tensor

from landscape import parallel
from landscape.probes.surface import surface

_ROOT = Path(__file__).parents[1]
SPAN = 1.0
WRONG = 1e-4
"""Difference relative to the largest loss that is more than rounding."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time a two-dimensional slice of the loss.")
    parser.add_argument("--quick", action="store_true", help="tiny models and few points: a check, no result")
    parser.add_argument("--problem", choices=PROBLEMS, action="append", help="default both")
    parser.add_argument("--points", type=int, default=51, help="on each axis")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=_ROOT / "benchmarks" / "results")
    return parser.parse_args()


def ways(p: Problem, D: Tensor, axis: np.ndarray, peers: dict[str, Plane]) -> dict[str, Callable[[], np.ndarray]]:
    """Each way of making the same grid."""
    span = tuple(axis.tolist())

    def ours(jobs: int) -> np.ndarray:
        objective = p.objective if jobs == 1 else parallel(p.objective, jobs=jobs)
        return surface(objective, objective.w0, seed=0, directions=D, alpha=span, beta=span).loss.values

    return {
        "plain loop": partial(by_hand, p.module, p.data, p.loss, D, axis),
        "ours": lambda: ours(1),
        "ours, 2 workers": lambda: ours(2),
        **{name: partial(plane, p.module, p.data, p.loss, D, axis) for name, plane in peers.items()},
    }


def compare(name: str, *, points: int, repeats: int, quick: bool) -> dict[str, Any]:
    """Seconds of every way on one problem, and how far its values are from the loop's."""
    p, peers = problem(trained(name, quick=quick), "whole"), dict(installed())
    D, axis = directions(p.objective.w0, p.module), np.linspace(-SPAN, SPAN, points)
    seconds: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    values: dict[str, np.ndarray] = {}
    loads = []
    for _ in range(repeats):
        for way, make in ways(p, D, axis, peers).items():
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
            "points_off": float((np.abs(values[way] - truth) > WRONG * np.abs(truth).max()).mean()),
            **({"known": check(peers[way])} if way in peers else {}),
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


def against(name: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    """One line of the document: ours against the fastest that is not ours, repeat by repeat."""
    others = {way: r for way, r in rows.items() if not way.startswith("ours")}
    fastest = min(others, key=lambda way: others[way]["median_s"])
    ratios = {
        way: _span([a / b for a, b in zip(rows[fastest]["seconds"], rows[way]["seconds"], strict=True)])
        for way in ("ours", "ours, 2 workers")
    }
    return [
        f"- {NAMES[name]}: the fastest of the others ({fastest}) takes {ratios['ours']} times the seconds of ours and "
        f"{ratios['ours, 2 workers']} times those of two workers."
    ]


def wrong(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of the document: what peers make of planes that are known."""
    lines = []
    for name, known in ((name, r["known"]) for name, r in rows.items() if "known" in r):
        kept = "stays" if known["holes"] else "**does not stay**"
        right = f"is off by **{known['error']:.1%}** of its largest value" if known["error"] > WRONG else "is right"
        lines.append(
            f"- {name}: u + 10 v on 5 x 5 points {right}; what is not a number {kept}"
            + (f" ({NOTES[name]})." if NOTES[name] else ".")
        )
    again = "`python benchmarks/planes_of_peers.py` shows these on two functions that are known."
    return [*lines, "", again if lines else "", ""]


def section(content: dict[str, Any]) -> str:
    """The part of the document."""
    lines = [
        "## Surfaces",
        "",
        "Losses on a plane through the trained models, in float32, one thread a process; a plain loop sets the "
        "parameters and evaluates the loss, point by point. Seconds of whole calls in turn, also of starting workers. "
        "*Processor*: the loop's processor seconds over those of this way, which other work stretches less. "
        "*Difference*: the largest from the loop's values, relative to its largest; *off*: the share of points where "
        f"it is more than {WRONG:g}. The ratios are of one repeat each.",
        "",
        "| model | points | way | s | ms / point | loop / this | processor | difference | off |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in content.items():
        for way, r in found["methods"].items():
            gain = r["loop_over_this"]
            seconds = f"{r['median_s']:.1f} [{min(r['seconds']):.1f}–{max(r['seconds']):.1f}]"
            loop = found["methods"]["plain loop"]["processor_s"]
            less = r["processor_s"] and [a / b for a, b in zip(loop, r["processor_s"], strict=True)]
            cells = (NAMES[name], str(found["points"]), way, seconds, f"{r['ms_per_point']:.2f}", _span(gain))
            cells += (_span(less) if less else "",)
            cells += (f"{r['difference']:.0e}" if r["difference"] else "0", f"{r['points_off']:.0%}")
            lines.append("| " + " | ".join(cells) + " |")
    loads = [x for found in content.values() for x in found["loads"]]
    same = all(found["workers_same_bits"] for found in content.values())
    cores = next(iter(content.values()))["environment"]["cores"]
    quick = any(found["quick"] for found in content.values())
    lines += [
        "",
        *(x for name, found in content.items() for x in against(name, found["methods"])),
        *wrong(next(iter(content.values()))["methods"]),
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
