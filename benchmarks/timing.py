"""What the questions share: counted products, time limits, a ladder of settings, medians, the environment."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pyhessian",
    "landscaper",
    "loss-landscapes",
    "loss-landscape-3d",
    "pylandscape",
    "curvlinops-for-pytorch",
    "hessian-eigenthings",
    "transformers",
)


class GaveUp(Exception):
    """A method used up the time that it is given."""


@dataclass
class Counter:
    """Counts products and ends a run that takes longer than `limit` seconds."""

    limit: float = float("inf")
    n: int = 0
    start: float = field(default_factory=time.perf_counter)

    def tick(self, n: int = 1) -> None:
        """Note n products; raise `GaveUp` if the time is over."""
        self.n += n
        if time.perf_counter() - self.start > self.limit:
            raise GaveUp


@dataclass(frozen=True)
class Outcome:
    """One run: what was found, products, seconds in all, and those of them before the first product."""

    values: Tensor
    products: int
    seconds: float
    ready: float = 0.0


def timed(function: Callable[..., tuple[Tensor, float]], *args: Any, limit: float = float("inf"), **kw: Any) -> Outcome:
    """Run `function(counter, ...)` on a clean heap; the outcome says what it took, also where it ran out of time."""
    gc.collect()
    counter = Counter(limit)
    try:
        values, ready = function(counter, *args, **kw)
    except GaveUp:
        values, ready = torch.empty(0), 0.0
    return Outcome(values, counter.n, time.perf_counter() - counter.start, ready)


def error_of(found: Tensor, reference: Tensor) -> float:
    """Largest error of the sorted values relative to the largest reference value; pairs missing count as 1."""
    if found.numel() != reference.numel() or not bool(torch.isfinite(found).all()):
        return 1.0
    a, b = (x.double().sort(descending=True)[0] for x in (found, reference))
    return float((a - b).abs().max() / b.abs().max())


@dataclass(frozen=True)
class Choice:
    """The settings that count, with their first run, and all that were tried."""

    settings: dict[str, Any]
    error: float
    first: Outcome
    tried: list[dict[str, Any]]


def choose(run: Callable[..., Outcome], method: Any, reference: Tensor, *, accuracy: float, patience: float) -> Choice:
    """The rung of `method` with the fewest products that is accurate enough; the most accurate rung if none is.

    Climbing ends when all rungs together took `patience` seconds, or `method.ahead` rungs above the first good one.
    """
    found: list[tuple[dict[str, Any], float, Outcome]] = []
    beyond, left = 0, patience
    for settings in method.rungs:
        outcome = run(limit=max(left, 1.0), **settings)
        left -= outcome.seconds
        found.append((settings, error_of(outcome.values, reference), outcome))
        beyond += any(e <= accuracy for _, e, _ in found)
        if beyond > method.ahead or left <= 0:
            break
    good = [f for f in found if f[1] <= accuracy]
    best = min(good, key=lambda f: f[2].products) if good else min(found, key=lambda f: f[1])
    tried = [{**s, "error": e, "products": o.products, "seconds": o.seconds} for s, e, o in found]
    return Choice(*best, tried)


def measure(jobs: dict[str, Callable[[], Outcome]], repeats: int) -> dict[str, list[Outcome]]:
    """Every job once per repeat, in turn, so that a busy minute of the machine does not hit one of them alone."""
    found: dict[str, list[Outcome]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            found[name].append(job())
    return found


def row(outcomes: list[Outcome], *, first_ready: float = 0.0, **more: Any) -> dict[str, Any]:
    """One method's row. What it needed more to get ready the first time is tracing and compiling, told apart."""
    seconds = [o.seconds for o in outcomes]
    ready = statistics.median(o.ready for o in outcomes)
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "compile_s": max(0.0, first_ready - ready),
        "products": outcomes[0].products,
        "repeats": len(seconds),
        **more,
    }


def environment(device: str = "cpu") -> dict[str, Any]:
    """What was measured where, with which versions."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    path = Path("/proc/cpuinfo")
    cpu = next((x for x in path.read_text().splitlines() if x.startswith("model name")), "") if path.exists() else ""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu.split(":")[-1].strip() or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **({} if device == "cpu" else {"card": torch.cuda.get_device_name(device)}),
        "load_before": _load(),
        "packages": packages,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _load() -> list[float]:
    return [round(x, 2) for x in os.getloadavg()]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
