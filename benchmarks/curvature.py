"""Time to curvature of equal accuracy: this toolkit, PyHessian, Landscaper, curvlinops, eigenthings (if installed).

    python benchmarks/curvature.py [--only top] [--problem toy] [--layout whole] [--repeats 3] [--quick]

Questions: `top` (ten eigenvalues of largest magnitude), `density` (stochastic Lanczos quadrature), `full` (every
eigenvalue of the toy), `run` (the top at 20 checkpoints as one command). One JSON file is written for each question,
problem and layout of the data; `report.py` makes the document of them. What is measured is told in
`docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from checkpoints import run_checkpoints
from full import run_full
from problems import LAYOUTS, PROBLEMS, problem, trained
from products import run_density, run_top, truth
from report import table
from timing import environment, say

_ROOT = Path(__file__).parents[1]
QUESTIONS = ("top", "density", "full", "run")

Result = tuple[str, dict[str, Any]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the time to curvature of equal accuracy.")
    parser.add_argument("--quick", action="store_true", help="tiny models and few products: a check, no result")
    parser.add_argument("--only", choices=QUESTIONS, action="append", help="a question; may be repeated; default all")
    parser.add_argument("--problem", choices=PROBLEMS, action="append", help="default both; toy if --quick")
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        action="append",
        help="data in one piece, or 8 uneven batches; default both; whole if --quick",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of one process; `run` shares them among processes too")
    parser.add_argument("--accuracy", type=float, default=1e-4, help="of the eigenvalues, relative to the largest")
    parser.add_argument("--vectors", type=int, default=10, help="of the density, 80 steps each")
    parser.add_argument("--columns", type=int, default=None, help="of the full Hessian; default all, fewer are scaled")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds in which a method finds its settings")
    parser.add_argument("--skip", action="append", default=[], help="leave out methods whose name contains this")
    parser.add_argument("-o", "--output", type=Path, default=None, help="folder of the JSON files")
    return parser.parse_args()


def answers(args: argparse.Namespace) -> Iterator[Result]:
    """Each question on each problem and layout."""
    wanted = args.only or list(QUESTIONS)
    for name in args.problem or (("toy",) if args.quick else PROBLEMS):
        if {"top", "density", "full"}.isdisjoint(wanted) or (wanted == ["full"] and name != "toy"):
            continue
        yield from _of_problem(args, wanted, name)
    if "run" in wanted:
        found = run_checkpoints(
            accuracy=args.accuracy, repeats=args.repeats, threads=max(2, args.threads), quick=args.quick
        )
        yield "run-toy", {"run": found}


def _of_problem(args: argparse.Namespace, wanted: list[str], name: str) -> Iterator[Result]:
    model, reference = trained(name, quick=args.quick), None
    say(f"{name}: trained from loss {model.loss_before:.2f} to {model.loss_after:.2f}")
    vectors, steps = (5, 10) if args.quick else (args.vectors, 80)
    for layout in args.layout or (("whole",) if args.quick else LAYOUTS):
        p = problem(model, layout)
        if "top" in wanted:
            reference = reference or truth(p)
            found = run_top(
                p, reference, accuracy=args.accuracy, repeats=args.repeats, patience=args.patience, skip=args.skip
            )
            yield f"top-{name}-{layout}", {"top": found, "problem": p.about}
        if "density" in wanted:
            found = run_density(
                p,
                accuracy=args.accuracy,
                vectors=vectors,
                steps=steps,
                repeats=args.repeats,
                patience=4 * args.patience,
                skip=args.skip,
            )
            yield f"density-{name}-{layout}", {"density": found, "problem": p.about}
        if "full" in wanted and name == "toy" and layout == "whole":
            found = run_full(
                p, columns=args.columns or (64 if args.quick else None), repeats=args.repeats, skip=args.skip
            )
            yield f"full-{name}", {"full": found, "problem": p.about}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")  # peers warn about graphs that they create on purpose
    output = args.output or (_ROOT / "build" / "benchmarks" if args.quick else _ROOT / "benchmarks" / "results")
    output.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in vars(args).items() if k != "output"}
    with tempfile.TemporaryDirectory() as cache:
        if not args.quick:  # empty: what was compiled before must not look free
            os.environ["LANDSCAPE_CACHE"], os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{cache}/kernels", cache
        about = environment()
        for name, found in answers(args):
            about["load_after"] = [round(x, 2) for x in os.getloadavg()]
            question = next(iter(found))
            say(f"\n### {name}\n\n{table(question, found[question])}\n")
            path = output / f"{name}.json"
            path.write_text(json.dumps({"settings": settings, "environment": about, **found}, indent=1) + "\n")
            about = environment()
    say(f"written to {output}")


if __name__ == "__main__":
    main()
