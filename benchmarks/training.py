"""What makes training faster, and what does not: the price of an update, and of five seeds.

python benchmarks/training.py [--repeats 5] [--quick] [-o benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import Outcome, environment, measure, row, say
from torch import Tensor

from landscape import Run, RunConfig
from landscape.curvature.native import native_gradient
from landscape.curvature.native_build import compiler
from landscape.training.trainer import Trainer

SEEDS = 5
TOY = {"model": {"width": 32}}
GPT = {"model": {"name": "gpt", "width": 64, "heads": 4}}
MODELS: dict[str, dict[str, Any]] = {
    "toy, single": {"arch": "single", **TOY},
    "toy, looped": {"arch": "looped", **TOY},
    "GPT block, looped": {"arch": "looped", **GPT},
}


def gradients(settings: dict[str, Any], *, updates: int, repeats: int) -> dict[str, Any]:
    """Loss and gradient of a batch of 128, per model: what else an update does takes a few tenths of a millisecond."""
    trainer = Trainer(RunConfig.make(loops=3, **settings))
    trainer.advance(50)
    setup, loss = trainer.setup, partial(trainer.setup.loss, loops=trainer.loops)
    w, (x, y) = trainer.state().w.requires_grad_(True), setup.batch(50)

    def autograd(loss: Callable[..., Tensor]) -> Tensor:
        return torch.autograd.grad(loss(w, x, y), w)[0]

    start = time.perf_counter()
    compiled = torch.compile(loss, fullgraph=True, dynamic=False)
    expected, found = autograd(loss), [autograd(compiled)]
    seconds = time.perf_counter() - start
    ways: dict[str, Callable[[], Any]] = {
        "autograd": lambda: autograd(loss),
        "torch.compile": lambda: autograd(compiled),
    }
    if settings["model"].get("name") != "gpt" and compiler():
        ways["native"] = lambda: native_gradient(setup.module(setup.loops), w, x, y, layout=setup.layout)
        found.append(native_gradient(setup.module(setup.loops), w, x, y, layout=setup.layout)[1])
    error = max(float((g - expected).norm() / expected.norm()) for g in found)
    trainers = [Trainer(RunConfig.make(loops=3, seed=s, **settings)) for s in range(SEEDS)]
    W = torch.stack([t.state().w for t in trainers])
    batches = [t.setup.batch(50) for t in trainers]
    X, Y = torch.stack([b[0] for b in batches]), torch.stack([b[1] for b in batches])
    together = torch.func.vmap(torch.func.grad(loss))
    ways[f"vmap over {SEEDS} seeds, per seed"] = lambda: together(W, X, Y)
    outcomes = measure({name: _repeat(way, updates) for name, way in ways.items()}, repeats)
    rows = {name: row(done, compile_s=seconds if "compile" in name else 0.0) for name, done in outcomes.items()}
    for name, r in rows.items():
        each = updates * (SEEDS if "vmap" in name else 1)
        r["ms"] = [1e3 * r[key] / each for key in ("median_s", "min_s", "max_s")]
    return {"parameters": setup.layout.size, "error": error, "methods": rows}


def _repeat(way: Callable[[], Any], updates: int) -> Callable[[], Outcome]:
    def run() -> Outcome:
        start = time.perf_counter()
        for _ in range(updates):
            way()
        return Outcome(torch.empty(0), updates, time.perf_counter() - start)

    return run


def seeds(*, steps: int, repeats: int, count: int = SEEDS, settings: Sequence[str] = ()) -> dict[str, Any]:
    """`landscape train` of several seeds of the looped toy, one by one and two at a time, starts included."""
    kinds = ["autograd", *(["native"] if compiler() else [])]
    seconds: dict[str, list[float]] = {}
    equal, far = True, 0.0
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for kind in kinds:
                for jobs in (1, 2):
                    name, root = f"{kind}, jobs {jobs}", Path(folder) / f"{kind}{jobs}"
                    start = time.perf_counter()
                    subprocess.run(_command(steps, kind, jobs, root, count, settings), check=True, capture_output=True)
                    seconds.setdefault(name, []).append(time.perf_counter() - start)
                    say(f"{name}: {seconds[name][-1]:.1f} s")
                equal &= all(
                    torch.equal(a.parameters[:], b.parameters[:])
                    for a, b in zip(_runs(Path(folder) / f"{kind}1"), _runs(Path(folder) / f"{kind}2"), strict=True)
                )
            if len(kinds) == 2:
                ends = zip(*(_runs(Path(folder) / f"{kind}1") for kind in kinds), strict=True)
                far = max(far, *(_gap(a, b) for a, b in ends))
    return {"seeds": count, "steps": steps, "equal": equal, "accuracy_difference": far, "seconds": seconds}


def _command(steps: int, kind: str, jobs: int, root: Path, count: int, settings: Sequence[str]) -> list[str]:
    command = [sys.executable, "-c", "from landscape.cli import main; main()", "train", "--arch", "looped", "-q"]
    command += [x for s in range(count) for x in ("--seed", str(s))]
    command += [x for setting in settings for x in ("--set", setting)]
    return [*command, "--steps", str(steps), "--gradient", kind, "--jobs", str(jobs), "--runs", str(root)]


def _runs(root: Path) -> list[Run]:
    return [Run.open(path) for path in sorted(root.iterdir())]


def _gap(a: Run, b: Run) -> float:
    x, y = (float(r.metrics.accuracy.isel(step=-1).sel(split="test", family="all")) for r in (a, b))
    return abs(x - y)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training: gradients, and five seeds.")
    parser.add_argument("--quick", action="store_true", help="few updates: a check, no result")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    about = environment()
    models = {}
    for name, settings in list(MODELS.items())[: 1 if args.quick else None]:
        models[name] = gradients(settings, updates=2 if args.quick else 60, repeats=args.repeats)
        for way, r in models[name]["methods"].items():
            say(f"{name}, {way}: {r['ms'][0]:.2f} ms [{r['ms'][1]:.2f}-{r['ms'][2]:.2f}]")
    small = ("model.width=8", "task.n_train=256", "task.n_probe=64", "task.n_test=64")
    quick = {"steps": 20, "repeats": 1, "count": 2, "settings": small}
    found = seeds(**(quick if args.quick else {"steps": 1920, "repeats": max(1, args.repeats // 2)}))
    about["load_after"] = environment()["load_before"]
    content = {"environment": about, "settings": {"quick": args.quick}, "gradients": models, "seeds": found}
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "training.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
