"""The question `run`: the top of the spectrum at 20 checkpoints of a training run, as one command."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ours import K
from timing import Outcome, row, say

from landscape import Run, RunConfig, sweep, train
from landscape.probes.spectrum import spectrum

STRATEGIES = ("auto", "cached", "compiled")


def run_checkpoints(*, accuracy: float, repeats: int, threads: int, quick: bool) -> dict[str, Any]:
    """One process with one thread or all, against processes of one thread each; every sweep in a fresh process.

    The compiler's cache on disk is empty at the start of each, so that compiling is never hidden.
    """
    model, task = ({"width": 8}, {"n_probe": 64}) if quick else ({"width": 32}, {"n_probe": 512})
    checkpoints, steps = (4, 40) if quick else (20, 640)
    known = "strategy" in inspect.signature(spectrum).parameters
    strategies = (STRATEGIES[:1] if quick else STRATEGIES) if known else (None,)
    # (processes, threads of each); threads that spin on a busy machine would make a quick check slow
    shapes = ((1, 1), (threads, 1)) if quick else ((1, 1), (1, threads), (threads, 1))
    outcomes: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig.make(
            arch="looped", loops=3, model=model, task=task, steps=steps, checkpoints=checkpoints, seed=0
        )
        run = train(config, folder)
        for _ in range(1 if quick else repeats):
            for strategy in strategies:
                for jobs, each in shapes:
                    name = f"ours{'' if strategy is None else ', ' + strategy}, {jobs} process(es) x {each} thread(s)"
                    found = _fresh(folder, strategy=strategy, tol=accuracy, jobs=jobs, threads=each)
                    say(f"run, {name}: {found['sweep_s']:.1f} s, {found['products']:.1f} products per checkpoint")
                    outcomes.setdefault(name, []).append(found)
        n = len(run.steps)
    return {"checkpoints": n, "k": K, "tol": accuracy, "threads": threads, "methods": _rows(outcomes)}


def _fresh(folder: str, **settings: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache, "LANDSCAPE_CACHE": f"{cache}/kernels"}
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, folder, json.dumps(settings)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"the sweep with {settings} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "process_s": time.perf_counter() - start}


def _rows(outcomes: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    rows = {}
    for name, found in outcomes.items():
        done = [Outcome(torch.empty(0), round(f["products"] * f["checkpoints"]), f["sweep_s"]) for f in found]
        rows[name] = row(done, reached=all(f["converged"] for f in found))
        rows[name] |= {
            "products_per_checkpoint": found[0]["products"],
            "process_s": [f["process_s"] for f in found],
            "compile_s": found[0]["compile_s"],  # inside the seconds here; unknown (None) in worker processes
        }
    return rows


def _worker(folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One sweep, in this process."""
    jobs, strategy = settings["jobs"], settings["strategy"]
    torch.set_num_threads(settings["threads"])
    more = {} if strategy is None else {"strategy": strategy}
    start = time.perf_counter()
    ds = sweep(
        "spectrum",
        Run.open(folder),
        seed=0,
        which="largest",
        k=K,
        dtype="float32",
        tol=settings["tol"],
        jobs=jobs,
        recompute=True,
        **more,
    )
    seconds = time.perf_counter() - start
    linearised = sys.modules.get("landscape.curvature.linearised")
    compiled = sum(c.seconds for c in linearised.compiled_parts()) if linearised else 0.0
    return {
        "sweep_s": seconds,
        "products": float(ds.n_products.mean()),
        "checkpoints": int(ds.sizes["step"]),
        "converged": bool(ds.converged.all()),
        "compile_s": compiled if jobs == 1 else None,
    }


if __name__ == "__main__":
    found = _worker(str(Path(sys.argv[1])), json.loads(sys.argv[2]))
    print(json.dumps(found))  # noqa: T201
