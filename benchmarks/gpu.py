"""Is everything right on a graphics card, and what does a product cost there? One script, a few minutes.

    python benchmarks/gpu.py [--only right] [--only fast] [--model CNN] [--quick] [-o FILE]

Two parts. *Right*: loss, gradient, products by every strategy, Gauss-Newton products and the probes of small models,
in float64 and float32, against float64 on the CPU. *Fast*: seconds and peak memory of gradients and products, ten
eigenvalues, a density and a plane, of models from five thousand to eleven million parameters. Without a card both parts
run on the CPU, which checks the script and says nothing about cards.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from card_times import DEVICE, WARM, large, measure, sequences, tokens_loss
from problems import LoopedGPT
from timing import environment, say
from torch import Tensor, nn

from landscape import LandscapeError, Objective
from landscape.models import AttentionConfig, GPTConfig, build_model
from landscape.probes import density, spectrum, surface, valley

STRATEGIES = ("cached", "forward", "compiled", "difference")


class Digits(nn.Module):
    """A convolutional network with batch normalisation, in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 8, 3), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(8 * 16, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 8, 8)."""
        out: Tensor = self.layers(x)
        return out


def models(*, quick: bool) -> dict[str, Callable[..., Objective]]:
    """Name -> the objective of a model, given dtype, device and chunk."""
    torch.manual_seed(0)
    small, n = (8, 8) if quick else (32, 64)
    toy = build_model(AttentionConfig(width=small, loops=3), vocabulary=18, length=16, seed=0)
    gpt = build_model(GPTConfig(width=small, heads=2, loops=2), vocabulary=18, length=16, seed=0)
    block = LoopedGPT(width=small, heads=2, loops=3, vocabulary=18, length=16)
    digits = Digits().eval()
    images = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(n) % 10
    text = sequences(n, 16, 18)
    return {
        "toy": lambda **kw: Objective(toy, tokens_loss, text, **kw),
        "GPT": lambda **kw: Objective(gpt, tokens_loss, text, **kw),
        "GPT block": lambda **kw: Objective(block, tokens_loss, text, **kw),
        "CNN": lambda **kw: Objective(digits, lambda z, t: F.cross_entropy(z, t, reduction="none"), images, **kw),
    }


def error(found: Any, true: Tensor) -> float:
    """Distance over the norm of the truth."""
    a, b = torch.as_tensor(found).detach().double().cpu(), true.detach().double().cpu()
    return float((a - b).norm() / b.norm())


def check(name: str, make: Callable[..., Objective], *, quick: bool) -> list[dict[str, Any]]:
    """Errors of everything against float64 on the CPU, largest first in what they are divided by."""
    cpu = make(dtype=torch.float64, device="cpu")
    w = cpu.w0
    v = torch.sin(1.0 + torch.arange(cpu.size, dtype=torch.float64))
    truth = {"loss": cpu.per_sample(w), "gradient": cpu.grad(w), "Gauss-Newton product": cpu.ggn(w).mv(v)}
    product = cpu.hessian(w, strategy="cached").mv(v)
    top = spectrum(cpu, w, seed=0, k=3, tol=1e-9).eigenvalue.values
    rows = []
    for dtype in (torch.float64, torch.float32):
        o = make(dtype=dtype, device=DEVICE, chunk=len(truth["loss"]) // 2 + 1)
        u, x = o.vector(w), o.vector(v)
        found = {"loss": o.per_sample(u), "gradient": o.grad(u), "Gauss-Newton product": o.ggn(u).mv(x)}
        errors = {key: error(found[key], truth[key]) for key in truth}
        for strategy in STRATEGIES[:2] if quick else STRATEGIES:
            try:
                H = o.hessian(u, strategy=strategy, block=1)  # type: ignore[arg-type]
                for _ in range(WARM):  # until it is recorded, with another vector than the one that is compared
                    H.mv(x.flip(0))
                errors[f"product, {strategy}"] = error(H.mv(x), product)
            except LandscapeError as refused:
                errors[f"product, {strategy}"] = f"refused: {refused}"[:200]
        errors["auto is"] = o.hessian(u).strategy
        tol = 1e-8 if dtype == torch.float64 else 1e-4
        errors["top 3 eigenvalues"] = error(spectrum(o, u, seed=0, k=3, tol=tol).eigenvalue.values, torch.tensor(top))
        rows.append({"model": name, "P": o.size, "dtype": str(dtype).removeprefix("torch."), **errors})
    return rows


def check_probes(make: Callable[..., Objective]) -> dict[str, float]:
    """Largest errors of probes on the device, in float64, against the CPU."""
    a, b = (make(dtype=torch.float64, device=d) for d in ("cpu", DEVICE))
    plane = torch.randn(2, a.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    asked: dict[str, Callable[[Objective], Any]] = {
        "half-widths": lambda o: valley(o, o.w0, seed=0, top=2, bottom=1, random=1).half_width,
        "trace": lambda o: density(o, o.w0, seed=0, vectors=4, quad=20).trace,
        "plane": lambda o: surface(o, o.w0, seed=0, directions=plane.to(o.w0), points=3, span=0.5).loss,
    }
    return {key: error(ask(b).values, torch.tensor(ask(a).values)) for key, ask in asked.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Check and time the curvature engine on a graphics card.")
    parser.add_argument(
        "--only", choices=("right", "fast"), action="append", help="a part; may be repeated; default both"
    )
    parser.add_argument("--model", action="append", help="only models of this name; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny models: a check of this script, no result")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    args = parser.parse_args()
    start = time.perf_counter()
    card = torch.cuda.get_device_name() if DEVICE == "cuda" else "none: this ran on the CPU"
    found: dict[str, Any] = {
        "card": card,
        "environment": environment(DEVICE),
        "quick": args.quick,
        "right": [],
        "fast": {},
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)

    def tell(name: str, what: Any) -> None:
        """Printed and stored on the way: a time limit may end the script before its end."""
        say(f"{name}: {json.dumps(what)}, {time.perf_counter() - start:.0f} s so far")
        args.output.write_text(json.dumps(found, indent=1) + "\n")

    wanted, made = args.only or ("right", "fast"), models(quick=args.quick)
    if "right" in wanted:
        found["probes"] = check_probes(made["toy"])
        tell("probes", found["probes"])
        for name in (n for n in made if args.model is None or n in args.model):
            for row in check(name, made[name], quick=args.quick):
                found["right"].append(row)
                tell(name, row)
    if "fast" in wanted:
        for name, o in large(quick=args.quick).items():
            if args.model is None or name in args.model:
                found["fast"][name] = measure(o, quick=args.quick)
                tell(name, found["fast"][name])


if __name__ == "__main__":
    main()
