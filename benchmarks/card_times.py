"""What `gpu.py` times: losses, gradients, products of ours and of peers, whole questions, many points, seeds."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from problems import LoopedGPT
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from landscape import LandscapeError, Objective
from landscape.curvature import replay
from landscape.models import AttentionConfig, GPTConfig, build_model
from landscape.probes import density, spectrum, surface

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WARM = replay.TRIALS + 2 if DEVICE == "cuda" else 1
"""Calls before a product is timed: on a card it may be recorded until then."""


def sequences(n: int, length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Random tokens; the next one is to be predicted."""
    tokens = torch.randint(vocabulary, (n, length + 1), generator=torch.Generator().manual_seed(1))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def tokens_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)


def synchronise() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(function: Callable[[], Any], *, repeats: int = 5, warm: int = 2) -> float:
    """Median of a few calls, the device waited for."""
    for _ in range(warm):
        function()
    found = []
    for _ in range(repeats):
        synchronise()
        start = time.perf_counter()
        function()
        synchronise()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def large(*, quick: bool) -> dict[str, Objective]:
    """Models to be timed, in float32: the toy, the GPT block, and a GPT-2-like one of eleven million parameters."""
    torch.manual_seed(0)
    if quick:
        block = LoopedGPT(width=8, heads=2, loops=2, vocabulary=10, length=8)
        return {"GPT block": Objective(block, tokens_loss, sequences(8, 8, 10), dtype=torch.float32, device=DEVICE)}
    toy = build_model(AttentionConfig(width=32, loops=3), vocabulary=18, length=16, seed=0)
    block = LoopedGPT(width=64, heads=4, loops=3, vocabulary=66, length=32)
    deep = build_model(GPTConfig(width=384, heads=4, layers=6, loops=1), vocabulary=1000, length=64, seed=0)
    given: dict[str, tuple[nn.Module, tuple[Tensor, Tensor], int]] = {
        "toy": (toy, sequences(512, 16, 18), 512),
        "GPT block": (block, sequences(512, 32, 66), 512),
        "GPT, 6 layers": (deep, sequences(64, 64, 1000), 64),
    }
    return {
        name: Objective(model, tokens_loss, data, dtype=torch.float32, device=DEVICE, chunk=chunk)
        for name, (model, data, chunk) in given.items()
    }


def measure(o: Objective, *, quick: bool) -> dict[str, Any]:
    """Milliseconds of a loss, a gradient, products of ours and of peers; questions, points and seeds; peak memory."""
    w = o.w0
    out: dict[str, Any] = {"P": o.size, "samples": o.n_samples}
    out["loss ms"], out["gradient ms"] = (1e3 * seconds(lambda f=f: f(w)) for f in (o.loss, o.grad))
    ways = [
        ("cached", 1, True),
        ("cached", 1, False),
        ("forward", 1, True),
        ("compiled", 1, True),
        ("compiled", 8, True),
    ]
    for strategy, block, replays in ways[: 3 if quick else None]:
        out |= product(o, strategy, block=block, replays=replays)
    out |= peers(o) | points(o) | seeds(o)
    for name, ask in {
        "top 10": lambda: spectrum(o, w, seed=0, k=10, tol=1e-3, strategy="cached"),
        "density, 4 vectors of 20 steps": lambda: density(o, w, seed=0, vectors=4, quad=20, trace_products=0),
        "plane, 11 x 11": lambda: surface(o, w, seed=0, directions="random", points=11),
    }.items():
        start = time.perf_counter()
        ds = ask()
        synchronise()
        out[f"{name} s"] = time.perf_counter() - start
        if "n_products" in ds:
            out[f"{name} products"] = int(ds.n_products)
        if "converged" in ds:
            out[f"{name} converged"] = bool(ds.converged.all())
    return out


def product(o: Objective, strategy: str, *, block: int, replays: bool) -> dict[str, Any]:
    """Milliseconds of a product, peak memory, and how long it took to be ready for the first."""
    v = torch.sin(1.0 + torch.arange(o.size)).to(o.w0)
    V = v[:, None].expand(-1, block).contiguous()
    name = strategy + (f", {block} at once" if block > 1 else "") + ("" if replays else ", not recorded")
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start, trials = time.perf_counter(), replay.TRIALS
    out: dict[str, Any] = {}
    try:
        replay.TRIALS = trials if replays else 10**9
        H = o.hessian(o.w0, strategy=strategy, block=block)  # type: ignore[arg-type]
        ask: Callable[[], Tensor] = (lambda: H.mm(V)) if block > 1 else (lambda: H.mv(v))
        ask()
        synchronise()
        out[f"{name} ready s"] = time.perf_counter() - start
        out[f"{name} ms"] = 1e3 * seconds(ask, warm=WARM) / block
    except (LandscapeError, RuntimeError) as failed:
        return {f"{name} ms": f"failed: {failed}"[:200]}
    finally:
        replay.TRIALS = trials
    if DEVICE == "cuda":
        out[f"{name} GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return out


def peers(o: Objective) -> dict[str, Any]:
    """Milliseconds of a product by other libraries, those that are installed; each must agree with ours."""
    from products_of_peers import PRODUCTS

    out: dict[str, Any] = {}
    v = torch.sin(1.0 + torch.arange(o.size)).to(o.w0)
    own = o.hessian(o.w0).mv(v)
    for name, make in PRODUCTS.items():
        try:
            ask = make(o, v)
            found = ask()
        except ImportError:
            continue
        except RuntimeError as failed:
            out[f"{name} ms"] = f"failed: {failed}"[:200]
            continue
        out[f"{name} error"] = float((found - own).norm() / own.norm())
        out[f"{name} ms"] = 1e3 * seconds(ask)
    return out


def points(o: Objective, n: int = 16) -> dict[str, Any]:
    """Milliseconds of the loss at each of n points: one after the other, and all in one call."""
    W = o.w0 + 0.01 * torch.randn(n, o.size, generator=torch.Generator().manual_seed(4)).to(o.w0)
    total = o.chunks.sum(slice(0, o.n_samples))

    def together() -> Tensor:
        with torch.no_grad(), o.chunks.plain():
            found: Tensor = vmap(total)(W) / o.chunks.mass
            return found

    out: dict[str, Any] = {"point ms": 1e3 * seconds(lambda: [o.loss(w) for w in W]) / n}
    try:
        error = float((together() - torch.stack([o.loss(w) for w in W])).abs().max())
    except RuntimeError as failed:
        return out | {f"point, {n} at once ms": f"failed: {failed}"[:200]}
    return out | {f"point, {n} at once ms": 1e3 * seconds(together) / n, "points differ by": error}


def seeds(o: Objective, n: int = 8) -> dict[str, Any]:
    """Milliseconds of a gradient of each of n models: one after the other, and all in one call of `torch.func`."""
    models = [copy.deepcopy(o.chunks.module) for _ in range(n)]
    inputs, targets = o.chunks.data
    parameters, buffers = stack_module_state(models)

    def loss(p: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return o.chunks.per_sample_loss(functional_call(models[0], (p, b), (inputs,)), targets).mean()

    slopes = vmap(grad(loss))
    single = grad(loss)
    one = [({k: v[i] for k, v in parameters.items()}, {k: v[i] for k, v in buffers.items()}) for i in range(n)]
    out: dict[str, Any] = {"seed ms": 1e3 * seconds(lambda: [single(*x) for x in one]) / n}
    try:
        return out | {f"seed, {n} at once ms": 1e3 * seconds(lambda: slopes(parameters, buffers)) / n}
    except RuntimeError as failed:
        return out | {f"seed, {n} at once ms": f"failed: {failed}"[:200]}
