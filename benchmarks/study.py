"""How long a study of hundreds of runs takes to look at: makes one of copies, and times the commands that list it.

    python benchmarks/study.py --runs 300 -o build/study

A run of the toy model is trained and probed once for each architecture; the others are copies of it with a seed, an id
and results of their own, by which the commands tell them apart. Each command is started anew, as a user would.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py

from landscape import Run, RunConfig, sweep, train
from landscape.answers.files import load, save
from landscape.runs.reading import digest

ARCHS = ("single", "looped", "stacked")
ASKED: dict[str, dict[str, Any]] = {
    "spectrum": {"k": 5},
    "samples": {},
    "split": {},
    "surface": {"points": 11},
}
COMMANDS = {
    "show": ["show", "{runs}"],
    "probe --dry-run": ["probe", "{runs}", *(x for p in ASKED for x in ("-p", p)), "--samples", "64", "--dry-run"]
    + [x for p, s in ASKED.items() for k, v in s.items() for x in ("--set", f"{p}.{k}={v}")],
    "plot eigenvalues": ["plot", "{runs}", "eigenvalues", "-o", "{out}", "--format", "png"],
    "plot": ["plot", "{runs}", "-o", "{out}", "--format", "png"],
}


def make(folder: Path, n: int) -> None:
    """A study of n runs with four results each; what is there already is kept."""
    originals = {}
    for arch in ARCHS:
        config = RunConfig.make(arch=arch, model={"width": 16}, steps=400, checkpoints=24, task={"n_train": 1024})
        run = train(config, folder.with_name(folder.name + "-originals") / arch)
        for probe, settings in ASKED.items():
            sweep(probe, run, seed=0, steps=run.steps[::4].tolist(), samples=64, **settings)
        originals[arch] = run
    for i in range(n):
        arch, seed = ARCHS[i % len(ARCHS)], i // len(ARCHS)
        path = folder / f"markov-{arch}-s{seed}"
        if not path.exists():
            copy(originals[arch], path, seed=seed)


def copy(run: Run, path: Path, *, seed: int) -> None:
    """The run with another seed, id and name."""
    temporary = path.with_name(f".{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    shutil.copy(run.path / "run.h5", temporary)
    with h5py.File(temporary / "run.h5", "r+", libver="latest") as f:
        header = json.loads(f.attrs["header"])
        header["config"]["seed"], header["id"] = seed, f"{ARCHS.index(run.config.arch)}{seed:011x}"
        text = json.dumps(header)
        f.attrs["header"], f.attrs["header_sha256"] = text, digest(text)
    for result in (run.path / "results").glob("*.nc"):
        ds = load(result).assign_attrs(run_id=header["id"], run=path.name, run_seed=seed)
        save(ds, temporary / "results" / result.name)
    temporary.rename(path)


def main() -> None:
    """Make the study and print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=list(COMMANDS), action="append")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/study"))
    args = parser.parse_args()
    make(args.output / "runs", args.runs)
    places = {"runs": str(args.output / "runs"), "out": str(args.output / "figures")}
    for name in args.only or COMMANDS:
        command = [sys.executable, "-m", "landscape", *(part.format(**places) for part in COMMANDS[name])]
        wall, cpu = [], []
        for _ in range(args.repeats):
            before, begun = os.times(), time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            after = os.times()
            wall.append(time.perf_counter() - begun)
            cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
        best = f"{min(wall):.2f} s at best, {min(cpu):.2f} s of a core"
        sys.stdout.write(f"{name}: {best} (exit code {done.returncode})\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
