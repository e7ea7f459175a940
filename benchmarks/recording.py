"""What it costs to record: a kept checkpoint (parameters and both moments of AdamW), and a step that is only noted."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import nn

from landscape import Schedule, record


def seconds(work: Callable[[int], object], first: int, n: int) -> float:
    """Mean time of a call."""
    start = time.perf_counter()
    for i in range(first, first + n):
        work(i)
    return (time.perf_counter() - start) / n


def main() -> None:
    torch.set_num_threads(1)
    sys.stdout.write("| P | update | checkpoint kept | on disk | step noted |\n|---|---|---|---|---|\n")
    for width, layers in ((30, 2), (500, 4), (1800, 3)):
        net = nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])
        optimizer, x = torch.optim.AdamW(net.parameters()), torch.randn(64, width)

        def update(_: int, net=net, optimizer=optimizer, x=x) -> None:
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()

        update(0)
        base = seconds(update, 0, 10)
        with tempfile.TemporaryDirectory() as folder:
            rec = record(folder, net, optimizer, schedule=Schedule(every=1))
            rec.save(0, loss=0.0)
            kept = seconds(lambda s, rec=rec: rec.save(s, loss=0.0), 1, 10)
            noted = seconds(lambda s, rec=rec: rec.save(s, checkpoint=False, loss=0.0), 11, 500)
            rec.close()
            size = os.path.getsize(f"{folder}/run.h5") / 11 / 2**20
        P = sum(p.numel() for p in net.parameters())
        sys.stdout.write(
            f"| {P} | {1e3 * base:.1f} ms | {1e3 * kept:.1f} ms | {size:.2f} MiB | {1e6 * noted:.0f} µs |\n"
        )


if __name__ == "__main__":
    main()
