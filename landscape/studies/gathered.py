"""What several runs answered to several questions, for figures that show them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import xarray as xr

from landscape.answers.files import DamagedError
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
        without: by probe, the runs that have no answer to it, or not to the question of the others.
        refused: by probe, why no answers of it could be taken.
    """

    answers: dict[str, list[xr.Dataset]] = field(default_factory=dict)
    without: dict[str, list[Run]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def only(self, used: Mapping[str, Sequence[xr.Dataset]]) -> Gathered:
        """With these of the answers alone; of other probes and of runs of other tasks nothing is missed then."""
        tasks = {str(ds.attrs.get("task", "")) for found in used.values() for ds in found}
        without = {
            probe: [run for run in runs if str(run.labels.get("task", "")) in tasks]
            for probe, runs in self.without.items()
            if probe in used
        }
        return Gathered(
            {probe: list(found) for probe, found in used.items()},
            {probe: runs for probe, runs in without.items() if runs},
            {probe: why for probe, why in self.refused.items() if probe not in self.answers},
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
        (['metrics'], 'no result of')
    """
    tasks: dict[str, list[Run]] = {}
    for run in study:
        tasks.setdefault(str(run.labels.get("task", "")), []).append(run)
    each = [_of_task(study.among(runs), probes, optional, metric) for runs in tasks.values()]
    complete = [found for found in each if all(probe in found.answers for probe in probes)]
    if not complete:
        raise AbsentError(next(why for found in each for probe, why in found.refused.items() if probe in probes))
    out = Gathered()
    for probe in (*probes, *optional):
        answers = [ds for found in complete for ds in found.answers.get(probe, ())]
        without = [run for found in complete for run in found.without.get(probe, ())]
        if answers:
            out.answers[probe] = answers
            out.without.update({probe: without} if without else {})
        else:
            out.refused[probe] = next(found.refused[probe] for found in complete if probe in found.refused)
    return out


def _of_task(study: Study, probes: Sequence[str], optional: Sequence[str], metric: str | None) -> Gathered:
    """What the runs of one task answered."""
    found = Gathered()
    for probe in (*probes, *optional):
        wanted = metric if probe in PROBES and PROBES[probe].metric else None
        try:
            answered, without = study.answered(probe, metric=wanted)
            found.answers[probe] = answered.results(probe, metric=wanted)
        except AbsentError as error:
            found.refused[probe], without = str(error), list(study)
        except LandscapeError as error:
            if probe in probes or isinstance(error, DamagedError):
                raise
            found.refused[probe], without = str(error), list(study)
        if without:
            found.without[probe] = without
    return found
