"""What several runs answered to several questions, for figures that show them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import xarray as xr

from landscape.errors import AbsentError, LandscapeError
from landscape.probes import PROBES
from landscape.runs.run import Run
from landscape.studies.study import Study

__all__ = ["Gathered", "gathered"]


@dataclass(frozen=True)
class Gathered:
    """Answers of several probes.

    Attributes:
        answers: by probe, one of each run that has one; of one probe all to the same question, task by task.
        without: by probe, the runs that have no answer to it though others have.
        refused: by probe, why no answers of it could be taken.
    """

    answers: dict[str, list[xr.Dataset]] = field(default_factory=dict)
    without: dict[str, list[Run]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def only(self, probes: Iterable[str]) -> Gathered:
        """Without the answers of other probes, of which nothing is missed then."""
        kept = set(probes)
        there = {*self.answers}
        return Gathered(
            {probe: found for probe, found in self.answers.items() if probe in kept},
            {probe: runs for probe, runs in self.without.items() if probe in kept},
            {probe: why for probe, why in self.refused.items() if probe not in there},
        )


def gathered(
    study: Study, probes: Sequence[str], *, optional: Sequence[str] = (), metric: str | None = None
) -> Gathered:
    """The answers of the runs of a study to several probes.

    Args:
        study: the runs.
        probes: whose answers must be there; names as for `Study.results`.
        optional: whose answers are taken where they are there.
        metric: of the curvatures and distances; probes that know no metric are taken as they are.

    Raises:
        AbsentError: if no run has an answer of one of `probes`.
        LandscapeError: if answers of one of `probes` are not to the same question.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     study = Study([train(RunConfig.make(**small), f"{folder}/a")])
        ...     found = gathered(study, ["metrics"], optional=["samples"])
        >>> list(found.answers), found.refused["samples"][:12]
        (['metrics'], 'no result of ')
    """
    found = Gathered()
    tasks: dict[str, list[Run]] = {}
    for run in study:
        tasks.setdefault(str(run.labels.get("task", "")), []).append(run)
    for probe in (*probes, *optional):
        wanted = metric if probe in PROBES and PROBES[probe].metric else None
        answers, without, refused = list[xr.Dataset](), list[Run](), list[LandscapeError]()
        for runs in tasks.values():
            try:
                answered, lacking = Study(runs).answered(probe, metric=wanted)
                answers += answered.results(probe, metric=wanted)
                without += lacking
            except AbsentError as error:
                refused.append(error)
                without += runs
            except LandscapeError as error:
                if probe in probes:
                    raise
                refused.append(error)
                without += runs
        if answers:
            found.answers[probe] = answers
            if without:
                found.without[probe] = without
        elif probe in probes:
            raise refused[0]
        else:
            found.refused[probe] = str(refused[0])
    return found
