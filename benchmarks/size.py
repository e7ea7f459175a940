"""The largest Hessian eigenvalues of GPT-2-like models from 5 thousand to 124 million parameters: time and memory.

    pip install transformers pyhessian "curvlinops-for-pytorch<4" hessian-eigenthings
    python benchmarks/size.py [--model "11 million"] [--method ours] [--repeats 3] [--threads 2] [--device cuda]

Every solve is a process of its own, for its peak memory; the methods take turns within each repeat. A solve that takes
longer than `--limit` is ended and said so, and then is not tried on larger models. Written to `results/size.json` (on
a card `size-cuda.json`) after each solve; `report.py` makes the section of the document and its picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sizes import METHODS, SHAPES, Job, measure
from timing import environment, say

_HERE = Path(__file__).parent


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Largest eigenvalues of models of all sizes.")
    parser.add_argument("--model", choices=SHAPES, action="append", help="may be repeated; default all")
    parser.add_argument("--method", choices=METHODS, action="append", help="may be repeated; default all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sequences", type=int, default=8, help="of 32 tokens")
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that our vectors may take")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of one process")
    parser.add_argument("--one", action="store_true", help="measure in this process, print JSON")
    parser.add_argument("-o", "--output", type=Path, help="the JSON file; what is there for other models is kept")
    return parser.parse_args()


def alone(args: argparse.Namespace) -> None:
    """One solve, here."""
    import torch

    torch.set_num_threads(args.threads)
    job = Job(args.model[0], args.sequences, args.k, args.tol, args.device, int(args.memory * 2**30))
    sys.stdout.write(json.dumps(measure(args.method[0], job)) + "\n")


def apart(model: str, method: str, args: argparse.Namespace) -> dict[str, Any]:
    """One solve in a process of its own; what failed says why."""
    same = ("threads", "device", "sequences", "k", "tol", "memory")
    settings = [f"--{name}={getattr(args, name)}" for name in same]
    command = [sys.executable, __file__, "--one", f"--model={model}", f"--method={method}", *settings]
    load = round(os.getloadavg()[0], 1)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=args.limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {args.limit:.0f} s", "load": load}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"ended by signal {-done.returncode}"]
        return {"failed": last[0][:200], "load": load}
    return {**json.loads(done.stdout.splitlines()[-1]), "load": load}


def main() -> None:
    """Every method on every model in turn."""
    args = _arguments()
    if args.one:
        alone(args)
        return
    path = args.output or _HERE / "results" / ("size.json" if args.device == "cpu" else f"size-{args.device}.json")
    stored = json.loads(path.read_text()) if path.exists() else {"models": {}}
    stored["environment"] = environment(args.device) | {"threads": args.threads}
    given_up: set[str] = set()
    for model in args.model or SHAPES:
        settings = {"k": args.k, "tol": args.tol, "sequences": args.sequences, "memory GiB": args.memory}
        found: dict[str, Any] = {"settings": settings, "methods": {}}
        for _ in range(args.repeats):
            for method in (m for m in args.method or METHODS if m not in given_up):
                row = apart(model, method, args)
                say(f"{model}, {method}: {json.dumps(row)}")
                found["methods"].setdefault(method, []).append(row)
                if "failed" in row:
                    given_up.add(method)
                stored["models"][model] = found
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
