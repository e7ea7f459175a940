"""The top of the spectrum of the GPT block at 20 checkpoints: one command of ours against hessian-eigenthings by hand.

    OMP_NUM_THREADS=1 python benchmarks/command.py [--checkpoints 20] [--peer-checkpoints 20] [--repeats 1] [--quick]

Every way is a new process on one thread, with imports and an empty compiler's cache. Processor seconds are those of the
process and all that it starts (the C++ compiler): on a machine that others use they say more than the clock. Of
the peer only some checkpoints may be measured; its seconds are then scaled up, without its imports. Each side has the
cheapest setting of its ladder that is as accurate as asked at the last checkpoint: the peer its number of Lanczos
steps, ours its tolerance. What is right, a much smaller tolerance with the proof says, untimed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from problems import QUICK, SIZES, LoopedGPT, MeanLoss
from timing import environment, say

from landscape import Run, record
from landscape.answers.files import load
from landscape.tasks import MarkovConfig, MarkovTask

_HERE = Path(__file__).parent
K, ACCURACY = 10, 1e-4
NO_PROOF = ["--set", "spectrum.check_missed=false"]
OURS = {
    "ours, no proof": NO_PROOF,
    "ours": [],
    "ours, no proof, --no-compile": [*NO_PROOF, "--no-compile"],
}
TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
STEPS = (30, 40, 50, 60, 80)
"""Ladders: residuals relative to the largest eigenvalue, and steps of Lanczos."""
PEER = "hessian-eigenthings, by hand"


def _size() -> tuple[Any, MarkovTask]:
    work = (QUICK if os.environ.get("BENCHMARK_QUICK") else SIZES)["gpt"]
    return work, MarkovTask(
        MarkovConfig(alphabet=work.alphabet, length=work.length, n_train=4096, n_probe=work.n, n_test=2)
    )


def loss() -> Any:
    """The model, the losses of its samples, and the data: what `--objective` names."""
    work, task = _size()
    module = LoopedGPT(
        width=work.width, heads=work.heads, loops=work.loops, vocabulary=task.vocabulary, length=work.length
    )
    split = task.split("probe")
    return module, task.per_sample_loss, (split.inputs, split.targets)


def recorded(folder: str, checkpoints: int) -> Run:
    """A run of the training that `problems.trained` does."""
    work, task = _size()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = loss()[0]
    optimiser, mean = torch.optim.Adam(module.parameters(), lr=work.lr), MeanLoss(task.per_sample_loss)
    steps = [round(i * (work.updates - 1) / (checkpoints - 1)) for i in range(checkpoints)]
    with record(folder, module, optimiser) as recorder:
        for step in range(work.updates):
            inputs, targets = task.batch(step, work.batch, seed=0)
            optimiser.zero_grad()
            value = mean(module(inputs), targets)
            if step in steps:
                recorder.save(step, checkpoint=True, loss=float(value.detach()))
            value.backward()
            optimiser.step()
    return Run.open(folder)


def by_hand(folder: str, checkpoints: int, steps: int) -> dict[str, Any]:
    """The peer at the last so many checkpoints; the seconds are without imports."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    torch.set_num_threads(1)
    begun, used = time.perf_counter(), time.process_time()
    run, (module, per_sample, (inputs, targets)) = Run.open(folder), loss()
    values = []
    for i in range(len(run.steps) - checkpoints, len(run.steps)):
        torch.nn.utils.vector_to_parameters(run.parameters[i].float(), list(module.parameters()))
        operator = HessianOperator(module, [(inputs, targets)], supervised_loss(MeanLoss(per_sample)))
        found = lanczos(operator, k=K, max_iter=steps, tol=1e-12, which="LM", seed=0)
        values.append(sorted(torch.as_tensor(found.eigenvalues).tolist()))
    seconds = {"wall": time.perf_counter() - begun, "processor": time.process_time() - used}
    return {"seconds": seconds, "values": values}


def process(command: list[str], cache: str) -> dict[str, Any]:
    """Seconds of a new process and what it prints."""
    more = {"LANDSCAPE_CACHE": f"{cache}/kernels", "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor"}
    path = os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH"))))
    # One thread of the compiler, and no servant of it that would be at work uncounted.
    environment_ = {**os.environ, **more, "PYTHONPATH": path, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment_, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"wall": wall, "processor": used, "out": done.stdout, "said": done.stderr}


def ours(folder: str, options: list[str], cache: str, *, tol: float) -> dict[str, Any]:
    """One command at all checkpoints, unless the options name some."""
    settings = {"k": K, "which": "largest", "tol": tol}
    command = [sys.executable, "-m", "landscape", "probe", folder, "-p", "spectrum", "--dtype", "float32"]
    command += ["--objective", f"{__file__}:loss", "--recompute", *options]
    command += [x for name, value in settings.items() for x in ("--set", f"spectrum.{name}={value}")]
    found = process(command, cache)
    path = max((Path(folder) / "results").glob("spectrum-*.nc"), key=lambda p: p.stat().st_mtime)
    ds = load(path)
    lines = [x for x in found["said"].splitlines() if "ompil" in x]
    return {
        "wall": found["wall"],
        "processor": found["processor"],
        "products": float(ds.n_products.sum()),
        "converged": bool(ds.converged.all()),
        "strategy": ds.attrs["strategy"],
        "said": lines,
        "values": [sorted(row.tolist()) for row in ds.eigenvalue.values],
    }


def error(found: list[list[float]], truth: list[list[float]]) -> float:
    """Largest error relative to the largest eigenvalue, over the last checkpoints."""
    pairs = list(zip(reversed(found), reversed(truth), strict=False))
    return max(max(abs(a - b) for a, b in zip(x, y, strict=True)) / max(map(abs, y)) for x, y in pairs)


def peer(folder: str, checkpoints: int, of: int, truth: list[list[float]], cache: str) -> dict[str, Any] | None:
    """The peer with the fewest steps that do, scaled up to all checkpoints; None if it is not installed."""
    for steps in STEPS:
        once = json.loads(process([sys.executable, __file__, "--by-hand", folder, "1", str(steps)], cache)["out"])
        if error(once["values"], truth) <= ACCURACY:
            break
    found = process([sys.executable, __file__, "--by-hand", folder, str(checkpoints), str(steps)], cache)
    inside = json.loads(found["out"])
    scaled = {
        name: (found[name] - inside["seconds"][name]) + inside["seconds"][name] * of / checkpoints
        for name in ("wall", "processor")
    }
    return {
        **scaled,
        "products": steps * of,
        "measured": checkpoints,
        "steps": steps,
        "error": error(inside["values"], truth),
    }


def reference(run: Run, checkpoints: int, cache: str) -> tuple[list[list[float]], float]:
    """Eigenvalues at the last so many checkpoints, proven; and the largest tolerance that is accurate at the last."""

    def at(steps: list[int], options: list[str], tol: float) -> list[list[float]]:
        chosen = ["--steps", ",".join(map(str, steps)), "--no-compile", *options]
        values: list[list[float]] = ours(str(run.path), chosen, cache, tol=tol)["values"]
        return values

    truth = at(run.steps[-checkpoints:].tolist(), [], ACCURACY / 30)
    for tol in TOLERANCES:
        if error(at([int(run.steps[-1])], NO_PROOF, tol), truth) <= ACCURACY:
            break
    return truth, tol


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """All ways in turn."""
    rows: dict[str, list[dict[str, Any]]] = {}
    loads = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as warm:
        run = recorded(f"{folder}/run", args.checkpoints)
        truth, tol = reference(run, args.peer_checkpoints, warm)
        say(f"tolerance of ours: {tol:g}")
        for _ in range(args.repeats):
            for name, options in OURS.items():
                if name in args.skip:
                    continue
                loads.append(round(os.getloadavg()[0], 2))
                with tempfile.TemporaryDirectory() as cold:
                    rows.setdefault(name, []).append(ours(str(run.path), options, cold, tol=tol))
                r = rows[name][-1]
                r["error"] = error(r["values"], truth)
                took = f"{r['wall']:.1f} s, processor {r['processor']:.1f} s, {r['products']:.0f} products"
                say(f"{name}: {took}, {r['strategy']}, {r['said']}, load {loads[-1]}")
            loads.append(round(os.getloadavg()[0], 2))
            try:
                found = peer(str(run.path), args.peer_checkpoints, args.checkpoints, truth, warm)
            except SystemExit as failed:
                say(f"left out: {failed}")
                continue
            rows.setdefault(PEER, []).append(found or {})
            say(f"{PEER}: {rows[PEER][-1]}, load {loads[-1]}")
    for found in (x for outcomes in rows.values() for x in outcomes):
        found.pop("values", None)
    return {"environment": environment(), "quick": args.quick, "checkpoints": args.checkpoints, "loads": loads,
            "tolerance": tol, "methods": rows}  # fmt: skip


def section(content: dict[str, Any]) -> str:
    """The part of the document."""
    rows, e = content["methods"], content["environment"]
    lines = [
        "## Twenty checkpoints in one command",
        "",
        f"The ten largest eigenvalues of the GPT block at {content['checkpoints']} checkpoints of a recorded run, each "
        f"to {ACCURACY:g} of the largest: one `landscape probe` against hessian-eigenthings as one writes it by hand. "
        "Each row is a new process on one thread, with imports and empty caches; *processor*: its seconds and those of "
        f"the C++ compiler that it starts. {e['cpu']}, torch {e['packages']['torch']}.",
        "",
        "| way | s | processor s | products | error | strategy | peer / this | processor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        s, p = ([r[key] for r in found] for key in ("wall", "processor"))
        ratios = [
            _range([r[key] / mine[key] for r, mine in zip(rows[PEER], found, strict=True)]) if PEER in rows else ""
            for key in ("wall", "processor")
        ]
        cells = (
            name,
            _range(s),
            _range(p),
            f"{found[0]['products']:.0f}",
            f"{found[0]['error']:.0e}",
            found[0].get("strategy", ""),
            *ratios,
        )
        lines.append("| " + " | ".join(cells) + " |")
    if PEER in rows:
        r = rows[PEER][0]
        lines += [
            "",
            f"Each side has the cheapest setting that is accurate enough at the last checkpoint: the peer {r['steps']} "
            f"steps of Lanczos, of {STEPS}; ours a tolerance of {content['tolerance']:g}, of {TOLERANCES}. The *error* "
            "is the largest of all checkpoints that were compared. The peer says of no value whether it is converged. "
            + ("" if r["measured"] == content["checkpoints"] else f"Scaled up from {r['measured']} checkpoints. ")
            + ("*Ours* proves that no eigenvalue was missed; " if "ours" in rows else "")
            + "*no proof* is like for like.",
        ]
    said = sorted({line.strip() for found in rows.values() for r in found for line in r.get("said", [])})
    if said:
        lines += ["", "What ours said meanwhile:", "", *(f"- {line}" for line in said)]
    quick = " **A quick check: not a result.**" if content["quick"] else ""
    loads = content["loads"]
    lines += ["", f"Load of the machine before each: {min(loads):.1f} to {max(loads):.1f}.{quick}", ""]
    return "\n".join(lines)


def _range(x: list[float]) -> str:
    middle = statistics.median(x)
    form = ".1f" if middle > 10 else ".2f"
    return f"{middle:{form}}" + (f" [{min(x):{form}}–{max(x):{form}}]" if len(x) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description="Twenty checkpoints of the GPT block in one command.")
    parser.add_argument("--quick", action="store_true", help="a tiny model: a check, no result")
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--peer-checkpoints", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--skip", choices=tuple(OURS)[1:], action="append", default=[], help="leave out a way; repeat")
    parser.add_argument("--by-hand", nargs=3, metavar=("FOLDER", "CHECKPOINTS", "STEPS"), help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, default=_HERE / "results")
    args = parser.parse_args()
    if args.by_hand:
        folder, checkpoints, steps = args.by_hand
        say(json.dumps(by_hand(folder, int(checkpoints), int(steps))))
        return
    if args.quick:
        os.environ["BENCHMARK_QUICK"] = "1"
        args.checkpoints, args.peer_checkpoints = 3, 2
    torch.set_num_threads(1)
    found = compare(args)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "command.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    say(section(found))


if __name__ == "__main__":
    main()
