"""Table of hopping against the learning rate: of every optimiser, architecture and rate, over seeds.

    python benchmarks/hopping.py FOLDER [FOLDER ..] > table.md

Of finished runs with a stored answer of `hopping`, at its last checkpoint; the commands are in
docs/findings-notes.md. Cells are smallest to largest over the seeds. The edge is that in the metric of the answer: ask
of AdamW in its own, adam.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from landscape import Run
from landscape.answers.files import headings, load

Cell = Callable[[xr.Dataset], float]
CELLS: dict[str, tuple[str, Cell]] = {
    "λ₁ / edge": (".2f", lambda ds: float(ds.eigenvalue[0] / ds.edge)),
    "hop rate v₁": (".2f", lambda ds: float(ds.hop_rate[0])),
    "hop rate v₁..v₅": (".2f", lambda ds: float(ds.hop_rate.mean())),
    "lag-1 v₁": ("+.2f", lambda ds: float(ds.autocorrelation[0])),
    "lag-1 v₁..v₅": ("+.2f", lambda ds: float(ds.autocorrelation.mean())),
    "in the valley": (".2f", lambda ds: float(ds.valley_motion)),
    "river progress": (".2f", lambda ds: float(ds.river_progress)),
    "noise / slope v₁": (".1f", lambda ds: float(ds.noise[0] ** 0.5 / abs(ds.slope[0]))),
    "batch g'Hg/g'g / edge": (".2f", lambda ds: float(ds.batch_sharpness / ds.edge)),
    "decrease": (".4f", lambda ds: float(ds.decrease_sum)),
}


def runs_of(folders: Sequence[str]) -> dict[tuple[str, str, float, int], list[tuple[Run, xr.Dataset | None]]]:
    """Runs by optimiser, architecture, learning rate and warm-up, each with its answer if there is one."""
    found = defaultdict(list)
    for folder in sorted(path for name in folders for path in Path(name).iterdir() if path.is_dir()):
        run = Run.open(folder)
        c = run.config
        answers = headings(run, "hopping")
        last = load(answers[0].path).isel(step=-1) if answers else None
        found[named(c.optimizer), c.arch, c.optimizer.lr, c.schedule.warmup].append((run, last))
    return found


def named(optimizer: Any) -> str:
    """An optimiser's name, with its momentum."""
    momentum = getattr(optimizer, "beta1", getattr(optimizer, "momentum", 0.0))
    return optimizer.name + (f", momentum {momentum:g}" if momentum else "")


def spread(values: Sequence[float], form: str) -> str:
    """Smallest to largest, one number where they look alike."""
    ends = dict.fromkeys(f"{x:{form}}" for x in (min(values), max(values)))
    return " .. ".join(ends).replace("-", "−")


def table(folders: Sequence[str]) -> str:
    """Markdown: a row per learning rate, and one for those that diverge."""
    head = ["optimiser", "architecture", "η (warm-up)", "seeds", *CELLS, "loss at the end"]
    rows, gone = [head, ["---"] * len(head)], defaultdict[tuple[str, str], list[str]](list)
    for (optimizer, arch, lr, warmup), group in sorted(runs_of(folders).items()):
        rate = f"{lr:g}" + (f" ({warmup})" if warmup else "")
        done = [(run, ds) for run, ds in group if run.complete and ds is not None]
        if done:
            cells = [spread([cell(ds) for _, ds in done], form) for form, cell in CELLS.values()]
            ends = [float(run.metrics.loss.sel(split="probe", family="all")[-1]) for run, _ in done]
            rows.append([optimizer, arch, rate, str(len(done)), *cells, spread(ends, ".3f")])
        bad = sum(run.status == "diverged" for run, _ in group)
        gone[optimizer, arch] += [f"{rate}: {bad} of {len(group)}"] if bad else []
    said = [
        f"{optimizer}, {arch}, diverged: {'; '.join(rates)}\n" for (optimizer, arch), rates in gone.items() if rates
    ]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows) + "\n" + "\n".join(said)


if __name__ == "__main__":
    sys.stdout.write(table(sys.argv[1:]))
