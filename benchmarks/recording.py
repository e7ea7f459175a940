"""What it costs to record: a kept checkpoint (parameters and both moments of AdamW), and a step that is only noted."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import environment, say
from torch import nn

from landscape import Schedule, record


def seconds(work: Callable[[int], object], first: int, n: int) -> float:
    """Mean time of a call."""
    start = time.perf_counter()
    for i in range(first, first + n):
        work(i)
    return (time.perf_counter() - start) / n


def measured(width: int, layers: int) -> dict[str, float]:
    """Seconds of an update, of a kept checkpoint and of a step that is noted; MiB per checkpoint."""
    net = nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])
    optimizer, x = torch.optim.AdamW(net.parameters()), torch.randn(64, width)

    def update(_: int) -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    update(0)
    row = {"P": float(sum(p.numel() for p in net.parameters())), "update": seconds(update, 0, 10)}
    with tempfile.TemporaryDirectory() as folder:
        rec = record(folder, net, optimizer, schedule=Schedule(every=1))
        rec.save(0, loss=0.0)
        row["kept"] = seconds(lambda s: rec.save(s, loss=0.0), 1, 10)
        row["noted"] = seconds(lambda s: rec.save(s, checkpoint=False, loss=0.0), 11, 500)
        rec.close()
        row["MiB"] = os.path.getsize(f"{folder}/run.h5") / 11 / 2**20
    return row


def section(content: dict[str, Any]) -> str:
    """As Markdown."""
    e = content["environment"]
    lines = [
        "## Recording",
        "",
        f"{e['cpu']}, {e['threads']} thread(s), torch {e['packages']['torch']}; `python benchmarks/recording.py`. A",
        "stack of linear layers, 64 samples, AdamW. *Kept*: a step whose checkpoint (parameters, both moments) is",
        "written and waited for on the disk. *Noted*: a step between two checkpoints.",
        "",
        "| P | update | kept | on disk | noted |",
        "|---|---|---|---|---|",
    ]
    for r in content["rows"]:
        cells = (
            f"{1e3 * r['update']:.2g} ms | {1e3 * r['kept']:.3g} ms | {r['MiB']:.3g} MiB | {1e6 * r['noted']:.2g} µs"
        )
        lines.append(f"| {r['P']:.0f} | {cells} |")
    return "\n".join([*lines, "", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "recording.json")
    parser.add_argument("--quick", action="store_true", help="Only the smallest model: no result.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = ((30, 2), (500, 4), (1800, 3))[: 1 if args.quick else None]
    content = {"environment": environment(), "rows": [measured(*size) for size in sizes]}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(content, indent=1) + "\n")
    say(section(content))


if __name__ == "__main__":
    main()
