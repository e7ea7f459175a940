"""Several runs at once: found on disk, with results that may be compared because their settings agree."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import xarray as xr

from landscape.answers.files import Heading, headings, load
from landscape.errors import AbsentError, LandscapeError
from landscape.models import TRAININGS
from landscape.probes import PROBES
from landscape.runs.reading import FILE_NAME
from landscape.runs.run import Run
from landscape.studies.decay import decay_tables
from landscape.studies.outcomes import outcomes
from landscape.studies.switches import shift_records

__all__ = ["Study", "asked"]

_PLAIN = ("euclidean", "none")
"""Metrics that are meant where none is named; "none" is that of probes without one."""


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
        self._known: dict[tuple[Path, int], xr.Dataset] = {}

    def among(self, runs: Iterable[Run]) -> Study:
        """A study of other runs, most of them its own: what was read of them is not read again."""
        study = Study(runs)
        study._known = self._known
        return study

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
        return self.among([run for run in self.runs if run.described.get("origin") is None] or self.runs)

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

    def results(self, probe: str, *, metric: str | None = None) -> list[xr.Dataset]:
        """One stored answer per run, all to the same question: the most recent settings that every run has.

        Args:
            probe: whose answers; or "metrics", "decay" or "shift", what the runs themselves tell.
            metric: in which curvature and distance were measured; None takes the Euclidean one, and results of probes
                that know no metric.

        Raises:
            LandscapeError: naming the runs that lack an answer, or if there are no common settings in this metric.
        """
        tables: dict[str, Callable[[], list[xr.Dataset]]] = {
            "metrics": self.metrics,
            "decay": partial(decay_tables, self.runs),
            "shift": partial(shift_records, self.runs),
        }
        if probe in tables:
            if metric is not None:
                raise LandscapeError(f"{probe!r} has no metric, found metric {metric!r}. Leave it out.")
            return tables[probe]()
        stored = [headings(run, probe) for run in self.runs]
        if lacking := self._without(stored):
            raise AbsentError(
                f"no result of probe {probe!r} for {lacking}. "
                f"Compute it with: landscape probe {lacking.replace(', ', ' ')} -p {probe}"
            )
        wanted = _PLAIN if metric is None else (metric,)
        stored_in = [[h for h in found if _metric(h) in wanted] for found in stored]
        if lacking := self._without(stored_in):
            there = ", ".join(sorted({_metric(h) for found in stored for h in found}))
            there = "none, because it measures no curvature or distance" if there == "none" else there
            raise AbsentError(
                f"expected results of probe {probe!r} in the metric {metric or _PLAIN[0]!r} for all runs, found none "
                f"for {lacking}. Metrics that are there: {there}. Choose one of them, or compute what is missing."
            )
        answers = [{asked(h): h.path for h in reversed(found)} for found in stored_in]
        common = [k for k in answers[0] if all(k in a for a in answers)]
        if not common:
            raise LandscapeError(
                f"the runs have results of probe {probe!r}, but none with the same settings for all, from the same "
                "version of the probe. "
                f"Compute them in one command: landscape probe {' '.join(str(r.path) for r in self.runs)} -p {probe}"
            )
        return [self._read(a[common[-1]]) for a in answers]

    def answered(self, probe: str, *, metric: str | None = None) -> tuple[Study, list[Run]]:
        """The runs that have an answer of a probe to one question, all runs if none has; and those that have not.

        Where no settings are common to all runs that have answers, these are the ones that most of them have: a run
        that shifts has one checkpoint more than others, which changes a question about all checkpoints.

        Args:
            probe: as for `results`.
            metric: as for `results`.
        """
        if probe not in PROBES:  # what runs tell themselves
            having = [run for run in self.runs if probe != "metrics" or run.metrics.sizes["step"]]
        else:
            wanted = _PLAIN if metric is None else (metric,)
            known = {run: {asked(h) for h in headings(run, probe) if _metric(h) in wanted} for run in self.runs}
            having = [run for run in self.runs if known[run]]
            if having and not set.intersection(*(known[run] for run in having)):
                counts = Counter(question for run in having for question in sorted(known[run]))
                ((most, _),) = counts.most_common(1)
                having = [run for run in having if most in known[run]]
        return self.among(having or self.runs), [run for run in self.runs if run not in having] if having else []

    def outcomes(self, *, split: str = "test", against: str | None = None) -> xr.Dataset:
        """The end of training over seeds, see `landscape.studies.outcomes.outcomes`."""
        return outcomes(self.runs, split=split, against=against)

    def _read(self, path: Path) -> xr.Dataset:
        """A stored answer, read once: many figures are drawn from the same ones."""
        written = path.stat().st_mtime_ns if path.exists() else 0
        if (path, written) not in self._known:
            self._known[path, written] = load(path)
        return self._known[path, written].copy()

    def _without(self, found: Sequence[Sequence[Heading]]) -> str:
        return ", ".join(str(run.path) for run, results in zip(self.runs, found, strict=True) if not results)

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)


def _order(run: Run) -> tuple[str, int, str, int, str]:
    """Task, architecture (ours first, in their order), seed, name; what is not known comes last, by name."""
    task, arch, seed = (run.labels.get(name) for name in ("task", "arch", "run_seed"))
    place = list(TRAININGS).index(arch) if arch in TRAININGS else len(TRAININGS)
    last = "\U0010ffff"
    return str(task or last), place, str(arch or last), -1 if seed is None else seed, run.name


def _metric(found: Heading) -> str:
    return str(found.attrs.get("metric", "none"))


def asked(found: Heading) -> str:
    """What must agree between runs: the probe's version, and all settings but the step a whole-run probe was asked at.

    Two versions of a probe may differ in what they compute.
    """
    settings = {k: v for k, v in json.loads(found.attrs["settings"]).items() if k != "step"}
    return json.dumps([str(found.attrs.get("probe_version", "unknown")), settings], sort_keys=True)
