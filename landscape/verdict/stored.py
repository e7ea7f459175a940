"""What runs have stored, as the verdict sees them: answers with the settings that they must share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import xarray as xr

from landscape.answers.files import DamagedError, headings, load_variables
from landscape.runs.run import Run
from landscape.studies.decay import decay_table
from landscape.studies.study import asked
from landscape.studies.switches import shift_record

__all__ = ["Answer", "Subject", "agreed", "subjects"]

OWN = ("metrics", "shift", "projection", "decay")
"""What is not asked of a probe: the runs tell it themselves."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One stored answer, of which only the heading has been read.

    Attributes:
        settings: text of what must agree between runs: version of the probe, and its settings.
        metric: coordinates of curvatures; "none" where there is none.
        created: when.
        load: reads the numbers, of at least the variables that are named.
    """

    settings: str
    metric: str
    created: str
    load: Callable[[Collection[str]], xr.Dataset]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One run.

    Attributes:
        name: of its folder.
        id: that no renaming changes.
        arch: its architecture, None if it is not known.
        seed: of its training, None if it is not known.
        status: "complete", "unfinished" or "diverged".
        described: its config as plain values.
        find: the answers of a probe, by its name; raises `DamagedError` for one that is not whole.
    """

    name: str
    id: str
    arch: str | None
    seed: int | None
    status: str
    described: Mapping[str, Any]
    find: Callable[[str], Sequence[Answer]]
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def answers(self, probe: str) -> Sequence[Answer]:
        """All of a probe, looked up once."""
        if probe not in self._kept:
            self._kept[probe] = self.find(probe)
        found: Sequence[Answer] = self._kept[probe]
        return found

    def read(self, probe: str, answer: Answer, names: Collection[str]) -> xr.Dataset:
        """Variables of one of its answers, read once."""
        key = (probe, answer.settings, answer.metric, tuple(names))
        if key not in self._kept:
            self._kept[key] = answer.load(names)
        found: xr.Dataset = self._kept[key]
        return found


def subjects(runs: Sequence[Run]) -> list[Subject]:
    """Runs that are no branches, each with the branches among `runs` that start from it."""
    branches: dict[str, list[Run]] = {}
    for run in runs:
        if (origin := run.described.get("origin")) is not None:
            branches.setdefault(str(origin["run_id"]), []).append(run)
    return [_subject(run, branches.get(run.id, [])) for run in runs if run.described.get("origin") is None]


def _subject(run: Run, branches: Sequence[Run]) -> Subject:
    def find(probe: str) -> list[Answer]:
        own: dict[str, Callable[[Collection[str]], xr.Dataset]] = {
            "metrics": lambda _: run.metrics,
            "shift": lambda _: shift_record(run),
        }
        if probe in own:
            return [Answer(settings="", metric="none", created="", load=own[probe])]
        if probe == "decay":
            return _decay(branches)
        if probe == "projection":
            return _projection(branches)
        return [
            Answer(
                settings=asked(found), metric=str(found.attrs.get("metric", "none")),
                created=str(found.attrs["created"]), load=partial(load_variables, found.path),
            )
            for found in headings(run, probe)
        ]  # fmt: skip

    arch = run.labels.get("arch")
    return Subject(
        name=run.name, id=run.id, arch=None if arch is None else str(arch), seed=run.seed, status=run.status,
        described=run.described, find=find,
    )  # fmt: skip


def _decay(branches: Sequence[Run]) -> list[Answer]:
    """River and valley loss where decay branches left, one answer for each length of the decay."""
    groups: dict[int, list[Run]] = {}
    for run in branches:
        c = run.config
        if c.schedule.name == "linear" and c.schedule.start == c.start and c.projection is None:
            groups.setdefault(c.steps - c.start, []).append(run)

    def table(group: Sequence[Run], _: Collection[str]) -> xr.Dataset:
        return decay_table(group)

    return [
        Answer(settings=f"decay in {n} updates", metric="none", created="", load=partial(table, group))
        for n, group in groups.items()
        if all(run.status != "unfinished" for run in group)
    ]


def _projection(branches: Sequence[Run]) -> list[Answer]:
    """How far the loss fell in branches whose updates were kept to the river, or to the valley."""
    groups: dict[tuple[int, int, int, int], dict[str, Run]] = {}
    for run in branches:
        if (p := run.config.projection) is not None and run.status == "complete":
            groups.setdefault((run.config.start, run.config.steps, p.k, p.every), {})[p.subspace] = run

    def fallen(run: Run) -> float:
        loss = run.metrics.loss.sel(split="probe", family="all").values
        return float(loss[0] - loss[-1])

    def table(pair: Mapping[str, Run], _: Collection[str]) -> xr.Dataset:
        return xr.Dataset({f"{name}_decrease": fallen(run) for name, run in pair.items()})

    return [
        Answer(
            settings=f"from step {start} to {end}, {k} eigenvectors, new every {every} updates", metric="none",
            created="", load=partial(table, pair),
        )
        for (start, end, k, every), pair in groups.items()
        if set(pair) == {"river", "valley"}
    ]  # fmt: skip


def agreed(
    runs: Sequence[Subject], probe: str, metric: str
) -> tuple[dict[str, tuple[Subject, Answer]], str, list[str]]:
    """Answers of the runs to one question: the one that most of them answered, of several the newest.

    Returns:
        Run id -> run and answer; the settings; and what is said of runs without this answer.
    """
    found: dict[str, dict[str, Answer]] = {}
    notes = []
    newest: dict[str, str] = {}
    for run in runs:
        try:
            answers = [a for a in run.answers(probe) if a.metric == metric]
        except DamagedError as error:
            notes.append(f"{run.name}: {error}")
            continue
        found[run.id] = {a.settings: a for a in sorted(answers, key=lambda a: a.created)}
        for a in answers:
            newest[a.settings] = max(newest.get(a.settings, ""), a.created)
    count = Counter(settings for answers in found.values() for settings in answers)
    if not count:
        return {}, "", notes
    chosen = max(count, key=lambda settings: (count[settings], newest[settings], settings))
    about = probe if metric == "none" else f"{probe} [{metric}]"
    for run in runs:
        if run.id in found and chosen not in found[run.id]:
            others = "asked with other settings only" if found[run.id] else "no answer"
            notes.append(f"{run.name}: {others} of {about}")
    return {run.id: (run, found[run.id][chosen]) for run in runs if chosen in found.get(run.id, {})}, chosen, notes
