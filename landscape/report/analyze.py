"""One call: the probes that fit a model, asked, and what they found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

import xarray as xr

from landscape.answers.files import DamagedError
from landscape.answers.question import LossSpec
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes import PROBES
from landscape.report.choice import Plan, choose, pick_steps
from landscape.report.report import Report
from landscape.report.subjects import OfObjective, OfRun, Subject, Tell
from landscape.report.words import findings
from landscape.runs.run import Run
from landscape.studies.study import Study

__all__ = ["analyze", "carried_out", "of_stored", "subject_of", "with_stored"]


def analyze(
    objective_or_run: Objective | Run | str | os.PathLike[str],
    *,
    seed: int,
    budget: str | float = "quick",
    samples: int | None = None,
    chunk: int | None = None,
    device: str = "cpu",
    jobs: int = 1,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Ask the probes that fit, and say what they found.

    Which fit is decided by what they would take: a loss, a gradient and a few products are timed first, and each probe
    tells how many it needs. A dense Hessian is made only where P is small enough for the budget. An objective is looked
    at where it is (`w0`), with a plane of random directions; a run at its first, middle and last checkpoint, or at all
    of them in a "full" report, and its answers are stored in its folder, as those of `landscape probe`.

    Args:
        objective_or_run: an `Objective`, a `Run`, or the folder of one.
        seed: of everything random.
        budget: "quick" (a minute), "full" (half an hour), or seconds. The upper ends of what the chosen probes are
            expected to take stay within it; nothing is stopped that takes longer.
        samples: of a run, the first so many samples of its probe split; None means all.
        chunk: of a run, samples evaluated at once.
        device: of a run, "cpu" or "cuda".
        jobs: of a run, processes.
        progress: called with lines of text: first what was chosen and what it will cost, then what is being done.

    Returns:
        The `Report`: datasets, sentences, and what was left out and why.

    Raises:
        LandscapeError: for a budget that is none, a run without checkpoints, or `samples`, `chunk` or `jobs` of an
            objective, which has its own.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> report = analyze(Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data), seed=0)
        >>> report.datasets["spectrum"].eigenvalue.values.round(9).tolist()
        [4.0, 1.0]
        >>> report.skipped["hopping"]
        'it replays updates of the training, whose time is not known beforehand: `landscape probe -p hopping` asks it'
    """
    given = {"samples": samples, "chunk": chunk, "jobs": None if jobs == 1 else jobs}
    if isinstance(objective_or_run, Objective):
        if said := [name for name, value in given.items() if value is not None]:
            raise LandscapeError(
                f"an objective has its own samples and chunk, and one process: leave out {', '.join(said)}."
            )
        subject: Subject = OfObjective(objective_or_run, seed=seed)
    else:
        run = objective_or_run if isinstance(objective_or_run, Run) else Run.open(objective_or_run)
        subject = subject_of(
            run, seed=seed, budget=budget, loss=LossSpec(samples=samples, device=device), chunk=chunk, jobs=jobs
        )
    tell = progress or (lambda _: None)
    plan = choose(subject, budget=budget)
    for line in plan.lines:
        tell(line)
    return carried_out(subject, plan, tell)


def subject_of(run: Run, *, seed: int, budget: str | float, loss: LossSpec, chunk: int | None, jobs: int) -> OfRun:
    """The checkpoints of a run that a budget looks at.

    Raises:
        LandscapeError: if there are none.
    """
    if not len(run.steps):
        raise LandscapeError(f"{run.path} has no checkpoint yet.")
    return OfRun(run, seed=seed, steps=pick_steps(run.steps.tolist(), budget), loss=loss, chunk=chunk, jobs=jobs)


def carried_out(subject: Subject, plan: Plan, tell: Tell) -> Report:
    """Ask what was planned."""
    answers = subject.answers(plan.chosen, tell)
    found: dict[str, xr.Dataset] = {}
    skipped, troubles = dict(plan.skipped), dict(plan.troubles)
    for wanted, got in zip(plan.chosen, answers, strict=True):
        if isinstance(got, LandscapeError):
            skipped[wanted.probe], troubles[wanted.probe] = str(got), got
        else:
            found[wanted.probe] = got
    return _report(subject, found, skipped, plan.lines, troubles)


def of_stored(subject: OfRun) -> Report:
    """A report of what is stored, without asking anything."""
    answers, damaged = _newest(subject.run, PROBES)
    absent = {name: f"not stored: `landscape probe -p {name}` asks it" for name in PROBES if name not in answers}
    lines = (f"{subject.title}: {len(answers)} stored answers, the newest of each probe",)
    said = {name: str(error) for name, error in damaged.items()}
    return _report(subject, answers, absent | said, lines, damaged)


def with_stored(subject: OfRun, report: Report) -> Report:
    """What was stored before of the probes that were not asked now, added."""
    answers, damaged = _newest(subject.run, report.skipped)
    skipped = {name: reason for name, reason in report.skipped.items() if name not in answers}
    asked = {name: ds for name, ds in report.datasets.items() if name != "metrics"}
    troubles = {name: error for name, error in report.troubles.items() if name not in answers} | damaged
    said = {name: str(error) for name, error in damaged.items()}
    return _report(subject, asked | answers, skipped | said, report.plan, troubles)


def _newest(run: Run, names: Iterable[str]) -> tuple[dict[str, xr.Dataset], dict[str, LandscapeError]]:
    """The newest stored answers of these probes, and which are damaged."""
    found: dict[str, xr.Dataset] = {}
    damaged: dict[str, LandscapeError] = {}
    for name in names:
        try:
            found[name] = Study([run]).results(name)[0]
        except DamagedError as error:
            damaged[name] = error
        except LandscapeError:  # none
            continue
    return found, damaged


def _report(
    subject: Subject,
    found: dict[str, xr.Dataset],
    skipped: dict[str, str],
    plan: tuple[str, ...],
    troubles: Mapping[str, LandscapeError],
) -> Report:
    datasets = {name: found[name] for name in PROBES if name in found}
    if (metrics := subject.metrics()) is not None:
        datasets = {"metrics": metrics, **datasets}
    return Report(
        title=subject.title,
        datasets=datasets,
        findings=findings(datasets),
        skipped=skipped,
        settings=subject.settings(),
        provenance=subject.provenance(),
        plan=plan,
        troubles=troubles,
    )
