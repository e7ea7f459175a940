"""Time of one Hessian product of the toy model by the native kernel, next to the cached graph, in turn in one run.

    OMP_NUM_THREADS=1 python benchmarks/native.py [--width 32] [--loops 3] [--samples 512] [--dtype float64]

"share" is the least number of multiplications of a product that keeps what does not depend on the vector (six times
those of the loss, attention counted in full), over time and over what a large matrix product reaches in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from timing import say

from landscape import Objective
from landscape.curvature.native import NativeHessian
from landscape.models import AttentionConfig, AttentionModel
from landscape.tasks.base import token_loss


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the native Hessian product.")
    parser.add_argument("--width", type=int, nargs="+", default=[32, 16])
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=16)
    parser.add_argument("--loops", type=int, default=3)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--dtype", choices=("float32", "float64"), nargs="+", default=["float32", "float64"])
    parser.add_argument("--repeats", type=int, default=15)
    return parser.parse_args()


def measure(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of every job, each done once per repeat, in turn."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if repeat:
                found[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def compare(args: argparse.Namespace, width: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    config = AttentionConfig(width=width, loops=args.loops)
    model = AttentionModel(config, vocabulary=args.vocabulary, length=args.length, generator=g)
    data = tuple(torch.randint(args.vocabulary, (args.samples, args.length), generator=g) for _ in range(2))
    objective = Objective(model, token_loss, data, dtype=dtype)
    w, V = objective.w0, torch.randn(objective.size, 8, generator=g).to(dtype)
    v = V[:, 0].contiguous()
    cached, owner = objective.hessian(w, strategy="cached"), NativeHessian(model, data, objective.layout, dtype)
    native, square = owner.at(w), torch.randn(1024, 1024, dtype=dtype)
    jobs = {
        "cached": lambda: cached.mv(v),
        "native": lambda: native.mv(v),
        "native, 8 at once": lambda: native.mm(V),
        "native, at(w)": lambda: owner.at(w),
        "matmul": lambda: square @ square,
    }
    seconds = measure(jobs, args.repeats)
    peak = 2 * 1024**3 / seconds.pop("matmul")
    seconds["native, 8 at once"] /= 8
    n, d, V_ = args.length, width, args.vocabulary
    flops = 6 * args.samples * 2 * (args.loops * (3 * n * d * d + 2 * n * n * d) + n * d * V_)
    error = float((native.mv(v) / args.samples - cached.mv(v)).norm() / cached.mv(v).norm())
    say(
        f"width {width}, {dtype}, {args.samples} samples, matmul {peak / 1e9:.0f} GF/s, relative difference {error:.0e}"
    )
    for name, s in seconds.items():
        share = "" if name.endswith("at(w)") else f", share {flops / peak / s:.2f}"
        say(f"  {name:18s} {1e3 * s:7.2f} ms, {seconds['cached'] / s:5.2f}x cached{share}")


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    for name in args.dtype:
        for width in args.width:
            compare(args, width, getattr(torch, name))


if __name__ == "__main__":
    main()
