"""Time to curvature of equal accuracy: this toolkit, PyHessian, and, where installed, curvlinops and eigenthings.

    python benchmarks/curvature.py [--quick] [--chunk 64] [--repeats 3] [--vectors 10] [-o FILE]

Work: the toy model (softmax attention, d 32, loops 3, 512 sequences of 16 tokens, float32) after a short training.
`top10`: its ten eigenvalues of largest magnitude. Every method is run at a ladder of its own settings, cheapest first;
the first that comes within `--accuracy` of the reference counts (chosen with knowledge of the answer, which flatters
methods that do not stop by themselves; ours does). The reference is our Lanczos in float64 with a certified residual.
`density`: stochastic Lanczos quadrature with a given number of vectors and steps, so that all methods need the same
products. Compiling is timed apart. Methods are run in turn within each repeat, and medians are reported with ranges.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from candidates import CANDIDATES, K, Method, Outcome, Problem, make_problem
from torch import Tensor

from landscape import Objective
from landscape.probes.linalg import lanczos

_HERE = Path(__file__).parent


# -- running ------------------------------------------------------------------------------------------------------


def available() -> Iterator[tuple[str, dict[str, Method], list[dict[str, Any]]]]:
    for name, (make, ladder) in CANDIDATES.items():
        try:
            yield name, make(), ladder
        except ImportError as error:
            say(f"{name}: not installed ({error.name})")


def error_of(found: Tensor, reference: Tensor) -> float:
    """Largest error of the sorted values relative to the largest reference value; pairs missing count as 1."""
    if found.numel() != reference.numel() or not bool(torch.isfinite(found).all()):
        return 1.0
    a, b = (x.double().sort(descending=True)[0] for x in (found, reference))
    return float((a - b).abs().max() / b.abs().max())


def choose(p: Problem, method: Method, ladder: list[dict[str, Any]], reference: Tensor, accuracy: float) -> Any:
    """The cheapest setting that is accurate enough, or the last one."""
    for settings in ladder:
        outcome = method(p, **settings)
        error = error_of(outcome.values, reference)
        if error <= accuracy:
            break
    return settings, error, outcome


def measure(jobs: dict[str, Callable[[], Outcome]], repeats: int) -> dict[str, list[Outcome]]:
    """Every job once per repeat, in turn, so that a busy minute of the machine does not hit one of them alone."""
    found: dict[str, list[Outcome]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            found[name].append(job())
    return found


def row(outcomes: list[Outcome], **more: Any) -> dict[str, Any]:
    seconds = [o.seconds for o in outcomes]
    setup = [o.setup for o in outcomes]
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "setup_median_s": statistics.median(setup),
        "setup_max_s": max(setup),
        "products": outcomes[0].products,
        "repeats": len(seconds),
        **more,
    }


def run_top(p: Problem, *, accuracy: float, repeats: int) -> dict[str, Any]:
    inputs, targets = (torch.cat([b[i] for b in p.batches]) for i in range(2))
    exact = Objective(p.module, p.per_sample, (inputs, targets), chunk=p.objective.chunk)
    truth = lanczos(exact.hessian(exact.w0), k=K, which="largest", tol=1e-9, seed=1)
    assert bool(truth.converged.all())
    assert truth.resolved
    certified = float(truth.residuals.max()) / truth.scale
    chosen, jobs = {}, {}
    for name, methods, ladder in available():
        if "top" not in methods:
            continue
        settings, error, first = choose(p, methods["top"], ladder, truth.values, accuracy)
        chosen[name] = {
            "settings": settings,
            "error": error,
            "reached": error <= accuracy,
            "first_setup_s": first.setup,
        }
        jobs[name] = lambda m=methods["top"], s=settings: m(p, **s)
        say(f"top{K} {name}: {settings} error {error:.1e} in {first.seconds:.1f} s")
    results = measure(jobs, repeats)
    rows = {name: row(outcomes, **chosen[name]) for name, outcomes in results.items()}
    return {"accuracy": accuracy, "reference_residual": certified, "reference": truth.values.tolist(), "methods": rows}


def run_density(p: Problem, *, vectors: int, steps: int, repeats: int) -> dict[str, Any]:
    jobs = {
        name: lambda m=methods["density"]: m(p, vectors, steps)
        for name, methods, _ in available()
        if "density" in methods
    }
    results = measure(jobs, repeats)
    rows = {}
    for name, outcomes in results.items():
        trace = outcomes[0].values.double()
        error = float(trace.std()) / len(trace) ** 0.5
        rows[name] = row(outcomes, trace=float(trace.mean()), trace_stderr=error)
    return {"vectors": vectors, "steps": steps, "methods": rows}


def environment() -> dict[str, Any]:
    packages = {}
    for name in ("torch", "numpy", "scipy", "pyhessian", "curvlinops-for-pytorch", "hessian-eigenthings"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    model = next((x for x in _cpuinfo() if x.startswith("model name")), platform.processor())
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": model.split(":")[-1].strip(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg(),
        "packages": packages,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    """Markdown; a ratio above 1 is slower than our default."""
    base = rows["ours, cached"]["median_s"]
    lines = [f"### {title}", "", "| method | median s | range s | start s | products | error | time / ours cached |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, r in rows.items():
        error = f"{r['error']:.0e}{'' if r['reached'] else ' (not reached)'}" if "error" in r else "–"
        start = max(r["setup_max_s"], r.get("first_setup_s", 0.0))
        lines.append(
            f"| {name} | {r['median_s']:.2f} | {r['min_s']:.2f}–{r['max_s']:.2f} | {start:.1f} | "
            f"{r['products'] or '–'} | {error} | {r['median_s'] / base:.2f} |"
        )
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the time to curvature of equal accuracy.")
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer products: a check, no result")
    parser.add_argument("--chunk", type=int, default=None, help="samples at once; default all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--vectors", type=int, default=10, help="of the density, 80 steps each")
    parser.add_argument("--accuracy", type=float, default=1e-4, help="of the eigenvalues, relative to the largest")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["top", "density"], default=None)
    parser.add_argument("-o", "--output", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")  # peers warn about graphs that they create on purpose
    size = {"width": 8, "n": 61, "steps": 50} if args.quick else {"width": 32, "n": 512, "steps": 300}
    vectors, steps = (2, 10) if args.quick else (args.vectors, 80)
    report: dict[str, Any] = {"settings": vars(args) | {"output": str(args.output)}, "problem": size}
    report["environment"] = environment()
    problem = make_problem(chunk=args.chunk, **size)
    report["problem"] |= {"parameters": problem.objective.size, "chunks": len(problem.batches), "dtype": "float32"}
    if args.only != "density":
        report["top10"] = run_top(problem, accuracy=args.accuracy, repeats=args.repeats)
        say(table(f"top {K} to {args.accuracy:g}", report["top10"]["methods"]))
    if args.only != "top":
        report["density"] = run_density(problem, vectors=vectors, steps=steps, repeats=args.repeats)
        say(table(f"density, {vectors} vectors x {steps} steps", report["density"]["methods"]))
    report["environment"]["load_after"] = os.getloadavg()
    name = "curvature-quick.json" if args.quick else "curvature.json"
    output = args.output or _HERE / "results" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    say(f"written to {output}")


if __name__ == "__main__":
    main()
