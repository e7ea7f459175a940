"""Several runs at once: found on disk, with results that may be compared because their settings agree."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import xarray as xr

from landscape.branch import decay_tables
from landscape.errors import LandscapeError
from landscape.models import ARCHITECTURES
from landscape.results import available
from landscape.run import Run
from landscape.store import FILE_NAME

__all__ = ["Study"]


class Study:
    """Runs that are looked at together.

    Attributes:
        runs: in the order given; within a folder by task, architecture and seed.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, Study, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for arch in ("single", "looped"):
        ...         run = train(RunConfig.make(arch=arch, **small), f"{folder}/{arch}")
        ...         _ = sweep("samples", run, seed=0)
        ...     study = Study.open([folder])
        ...     [ds.attrs["arch"] for ds in study.results("samples")]
        ['single', 'looped']
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = tuple(runs)

    @classmethod
    def open(cls, paths: Iterable[str | os.PathLike[str]]) -> Study:
        """The runs at these paths; a folder that is no run stands for the runs directly in it.

        Raises:
            LandscapeError: if a path holds no run, or a run cannot be read.
        """
        found: dict[Path, Run] = {}
        for path in map(Path, paths):
            inside = [] if (path / FILE_NAME).exists() else [p.parent for p in path.glob(f"*/{FILE_NAME}")]
            runs = [Run.open(p) for p in inside or [path.parent if path.name == FILE_NAME else path]]
            for run in sorted(runs, key=_order):
                found.setdefault(run.path.resolve(), run)
        if not found:
            raise LandscapeError("expected at least one run folder, found none. Make one with `landscape train`.")
        return cls(found.values())

    def trunks(self) -> Study:
        """The runs that are no branch of another run; all of them if they all are branches."""
        return Study([run for run in self.runs if run.config.origin is None] or self.runs)

    def metrics(self) -> list[xr.Dataset]:
        """Metrics of every run.

        Raises:
            LandscapeError: if a run has not been evaluated yet.
        """
        found = [run.metrics for run in self.runs]
        for run, metrics in zip(self.runs, found, strict=True):
            if not metrics.sizes["step"]:
                raise LandscapeError(f"{run.path} has no metrics yet: its training has only just begun.")
        return found

    def results(self, probe: str) -> list[xr.Dataset]:
        """One stored answer per run, all to the same question: the most recent settings that every run has.

        Raises:
            LandscapeError: naming the runs that lack an answer, or if there are no common settings.
        """
        if probe == "metrics":
            return self.metrics()
        if probe == "decay":
            return decay_tables(self.runs)
        answers = [{_settings(ds): ds for ds in reversed(list(available(run, probe)))} for run in self.runs]
        if lacking := [str(run.path) for run, a in zip(self.runs, answers, strict=True) if not a]:
            raise LandscapeError(
                f"no result of probe {probe!r} for {', '.join(lacking)}. "
                f"Compute it with: landscape probe {' '.join(lacking)} -p {probe}"
            )
        common = [k for k in answers[0] if all(k in a for a in answers)]
        if not common:
            raise LandscapeError(
                f"the runs have results of probe {probe!r}, but none with the same settings for all. "
                f"Compute them in one command: landscape probe {' '.join(str(r.path) for r in self.runs)} -p {probe}"
            )
        return [a[common[-1]] for a in answers]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)


def _order(run: Run) -> tuple[str, int, int, str]:
    return run.config.task.name, list(ARCHITECTURES).index(run.config.arch), run.config.seed, run.name


def _settings(ds: xr.Dataset) -> str:
    """The settings that must agree between runs: all but the step a whole-run probe was asked at."""
    return json.dumps({k: v for k, v in json.loads(ds.attrs["settings"]).items() if k != "step"}, sort_keys=True)
