"""One process against several that share the samples (`landscape.distributed`): seconds, and how far numbers are apart.

    python benchmarks/ranks.py --ranks 2 --repeats 5

One thread each, so that several ranks on one machine have as many cores as ranks. A perceptron of three layers on
random points; the curvature by strategy "cached", whose products are timed one by one. The processes take turns: one
alone, then all of them, `--repeats` times. Beside the seconds that pass stand those of the processor, of rank 0: on a
machine that others use, too, they tell how the work is divided. Prints a line for each quantity; `-o FILE` writes the
numbers as JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from timing import environment
from torch import Tensor

from landscape import Objective, distributed
from landscape.probes.linalg import lanczos

TIMES = 10
"""Evaluations that are timed together."""


def objective(samples: int, width: int) -> Objective:
    g = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [torch.nn.Linear(32, width), torch.nn.Tanh(), torch.nn.Linear(width, width), torch.nn.Tanh()]
        module = torch.nn.Sequential(*layers, torch.nn.Linear(width, 10))
    data = (torch.randn(samples, 32, generator=g), torch.randint(0, 10, (samples,), generator=g))
    return Objective(module, torch.nn.CrossEntropyLoss(reduction="none"), data, chunk=256)


Found = tuple[dict[str, tuple[float, float]], dict[str, Tensor]]
"""Seconds that pass and seconds of the processor, and the value, of each quantity."""


def measured(o: Objective) -> Found:
    w = o.w0 + 0.01
    H = o.hessian(w, strategy="cached")
    v = torch.linspace(-1, 1, o.size, dtype=w.dtype)
    asked: dict[str, tuple[int, Callable[[], Tensor]]] = {
        "loss": (TIMES, lambda: o.loss(w)),
        "gradient": (TIMES, lambda: o.grad(w)),
        "product": (TIMES, lambda: H.mv(v)),
        "losses of samples": (TIMES, lambda: o.per_sample(w)),
        "top 3 eigenvalues": (1, lambda: lanczos(H, k=3, which="top", seed=0).values),
    }
    seconds, values = {}, {}
    for name, (times, ask) in asked.items():
        values[name] = ask()
        start, busy = time.perf_counter(), time.process_time()
        for _ in range(times):
            ask()
        seconds[name] = ((time.perf_counter() - start) / times, (time.process_time() - busy) / times)
    return seconds, values


def member(rank: int, size: int, folder: Path, samples: int, width: int) -> None:
    torch.set_num_threads(1)
    o = objective(samples, width)
    if size > 1:
        meeting = (folder / "meeting").as_uri()
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=timedelta(minutes=5))
        o = distributed(o)
    found = measured(o)
    if rank == 0:
        torch.save(found, folder / "found.pt")
    if size > 1:
        dist.destroy_process_group()


def processes(size: int, samples: int, width: int) -> Found:
    """What rank 0 of so many processes measured."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = [context.Process(target=member, args=(r, size, folder, samples, width)) for r in range(size)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        if any(process.exitcode for process in started):
            raise SystemExit(f"a process ended with {[process.exitcode for process in started]}.")
        found: Found = torch.load(folder / "found.pt")
        return found


def section(content: dict[str, Any]) -> str:
    """The part of the document."""
    e, settings = content["environment"], content["settings"]
    lines = [
        "## Several processes that share the samples",
        "",
        f"`landscape.distributed` with {settings['ranks']} ranks (gloo) against one process, one thread each; a "
        f"perceptron (width {settings['width']}) on {settings['samples']} samples. {e['cpu']}, {e['cores']} cores; "
        f"median of {settings['repeats']} repeats in turn, ratios of one repeat each with their range. *Processor*: of "
        "one rank. *Apart*: distance of the two results over the norm.",
        "",
        f"| quantity | 1 process, ms | {settings['ranks']} ranks, ms | faster | processor, faster | apart |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        (alone, _), (shared, _) = row["seconds"]
        faster = (f"{median(r):.2f} [{min(r):.2f}–{max(r):.2f}]" for r in row["ratios"])
        cells = (row["name"], f"{1e3 * alone:.2f}", f"{1e3 * shared:.2f}", *faster, f"{row['apart']:.0e}")
        lines.append("| " + " | ".join(cells) + " |")
    before = e["load_before"][0]
    return "\n".join([*lines, "", f"Load of the machine before: {before:.1f}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    about = environment()
    sys.stdout.write(f"seconds that pass / of the processor: 1 process, {given.ranks} ranks, how much faster\n")
    pairs = [
        (processes(1, given.samples, given.width), processes(given.ranks, given.samples, given.width))
        for _ in range(given.repeats)
    ]
    for name in pairs[0][0][0]:
        # of one and of all: seconds that pass, seconds of the processor
        times = [[median(pair[i][0][name][kind] for pair in pairs) for kind in (0, 1)] for i in (0, 1)]
        a, b = (pairs[0][i][1][name] for i in (0, 1))
        apart = float((a - b).norm() / a.norm())
        ratios = [[pair[0][0][name][kind] / pair[1][0][name][kind] for pair in pairs] for kind in (0, 1)]
        rows.append({"name": name, "seconds": times, "ratios": ratios, "apart": apart})
        shown = (f"{1e3 * x:8.2f} / {1e3 * y:8.2f} ms" for x, y in times)
        faster = (f"x {median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios)
        sys.stdout.write(f"{name:18} {'  '.join(shown)}   {' / '.join(faster)}   apart {apart:.0e}\n")
    if given.out is not None:
        given.out.write_text(
            json.dumps({"environment": about, "settings": {**vars(given), "out": ""}, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
