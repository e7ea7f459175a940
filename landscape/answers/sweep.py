"""Ask a probe at many checkpoints of a run: saved as it goes, resumed, in parallel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import xarray as xr

from landscape.answers.assembly import finish, forget, known, whole
from landscape.answers.files import DamagedError
from landscape.answers.measure import KilledError
from landscape.answers.pool import Workers
from landscape.answers.question import LossSpec, Question
from landscape.answers.schedule import Request, computed
from landscape.answers.team import Team
from landscape.errors import LandscapeError, RunFailedError
from landscape.probes.base import Probe
from landscape.runs.run import Run

__all__ = ["Request", "answer", "answered", "plan", "sweep"]


def sweep(
    probe: Probe | str,
    run: Run,
    *,
    seed: int,
    steps: Sequence[int] | None = None,
    split: str = "probe",
    samples: int | None = None,
    dtype: str = "float64",
    device: str = "cpu",
    chunk: int | None = None,
    parameters: str | None = None,
    metric: str = "euclidean",
    objective: str | None = None,
    jobs: int = 1,
    recompute: bool = False,
    compiling: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """The answers of a probe at the checkpoints of a run, as one dataset with a `step` axis.

    Every checkpoint's answer is written as soon as it is known. Answers already stored for exactly these settings are
    reused; an interrupted sweep goes on where it stopped. A probe of the whole run (`surface`) is asked once, at the
    last of `steps`, and has no `step` axis.

    Args:
        probe: a `Probe` or the name of one.
        run: the run.
        seed: of everything random in the probe; the same at every checkpoint.
        steps: training steps to probe; None means every checkpoint there is (the last one, for a whole-run probe).
        split: data split of the objective.
        samples: use the first so many samples of the split; None means all.
        dtype: "float64" or "float32".
        device: "cpu" or "cuda".
        chunk: samples evaluated at once; bounds memory and does not change the answer.
        parameters: shell-style pattern of parameters to vary; None means all.
        metric: "euclidean"; "filter" (each filter scaled by its norm at the checkpoint) or "adam" (preconditioned by
            the checkpoint's second moments). Curvatures, distances and directions are then those of w = D u.
        objective: name of the loss of a recorded or imported run, ``package.module:function`` or ``file.py:function``
            (see `landscape.loss.named`); None is the first one named for it.
        jobs: processes, each with one thread; checkpoints are shared out among them.
        recompute: ignore stored answers.
        compiling: whether Hessian products may be compiled unasked, where timing them says that so many pay for it.
        progress: called with (checkpoints done, checkpoints in all).
        settings: of the probe.

    Returns:
        The dataset that is also stored under ``results/``, restricted to `steps`.

    Raises:
        LandscapeError: for a step without a checkpoint, an unknown probe or setting, a value of the wrong type.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ds = sweep("spectrum", train(config, folder), seed=0, k=2)
        >>> dict(ds.eigenvalue.sizes)
        {'step': 3, 'mode': 2}
    """
    if isinstance(probe, str):
        from landscape.probes import get_probe

        probe = get_probe(probe)
    loss = LossSpec(
        split=split, samples=samples, dtype=dtype, device=device, parameters=parameters, metric=metric,
        objective=objective,
    )  # fmt: skip
    request = plan(probe, run, loss, seed=seed, steps=steps, settings=settings)
    report = None if progress is None else lambda _, done, total: progress(done, total)
    found = answer([request], chunk=chunk, jobs=jobs, recompute=recompute, compiling=compiling, progress=report)[0]
    if isinstance(found, LandscapeError):
        raise found
    return found


def plan(
    probe: Probe,
    run: Run,
    loss: LossSpec | None = None,
    *,
    seed: int,
    steps: Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Request:
    """Check what is asked, and say what there is to do, without doing it; arguments as those of `sweep`."""
    loss = LossSpec() if loss is None else loss
    # Here, before any worker starts: a loss that is not what it was gives no answer, and its label is what is stored.
    loss = replace(loss, objective=run.check(loss.objective, loss.split))
    wanted = _steps(run, steps, metric=loss.metric)
    identity = {**probe.settings(settings or {}), **loss.settings(probe)}
    if probe.random:
        identity["seed"] = seed
    if probe.path:
        identity["steps"] = wanted
    if probe.whole_run:
        identity["step"] = wanted[-1]
        wanted = wanted[-1:]
    return Request(Question(run, probe, identity), tuple(wanted))


def answer(
    requests: Sequence[Request],
    *,
    chunk: int | None = None,
    jobs: int = 1,
    recompute: bool = False,
    compiling: bool = True,
    progress: Callable[[int, int, int], None] | None = None,
    team: Team | None = None,
) -> list[xr.Dataset | LandscapeError]:
    """Answer several requests with one pool of processes; `progress` gets (index of the request, done, total).

    The first rank of a `team` answers each together with the others, which `follow`.

    Every single checkpoint's answer is saved when it is there, every request's file when its last one is. A request
    that cannot be answered gives its error in place of a dataset and does not stop the others.
    """
    found = answered(
        requests, chunk=chunk, jobs=jobs, recompute=recompute, compiling=compiling, progress=progress, team=team
    )
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def answered(
    requests: Sequence[Request],
    *,
    chunk: int | None = None,
    jobs: int = 1,
    workers: Workers | None = None,
    recompute: bool = False,
    compiling: bool = True,
    progress: Callable[[int, int, int], None] | None = None,
    team: Team | None = None,
) -> Iterator[tuple[int, xr.Dataset | LandscapeError]]:
    """`answer`, request by request as each is done, as (index, dataset or error): none is kept after it.

    `workers` are other processes than `jobs` on this machine.
    """
    # What is on disk comes first: only what is missing is computed, whoever stored the rest.
    have: list[dict[int, xr.Dataset]] = [{} for _ in requests]
    errors: dict[int, LandscapeError] = {}
    for i, request in enumerate(requests):
        if recompute:
            forget(request.question, request.steps)
            continue
        try:
            have[i] = known(request.question)
        except DamagedError as error:  # not overwritten unasked: it may hold what cannot be computed again
            errors[i] = error
    todo = [(i, s) for i, r in enumerate(requests) for s in r.steps if s not in have[i] and i not in errors]
    waiting = Counter(i for i, _ in todo)
    report = progress or (lambda *_: None)
    for i, request in enumerate(requests):  # at once, so that the total of all requests is known from the start
        report(i, len(request.steps) - waiting[i], len(request.steps))
    for i, request in enumerate(requests):
        if not waiting[i] and i not in errors:
            if request.question.partial.exists():  # interrupted when only the joining was left
                finish(request.question, have[i])
            yield i, _select(request, have[i])
            have[i] = {}
    # Answers come in any order, those of one checkpoint together. A killed worker is told at the end, with all its
    # steps in one message; of other errors the first of a request speaks for the rest, which have the same cause.
    killed: dict[int, list[int]] = {}
    for i, step, part in computed(
        requests, todo, chunk=chunk, jobs=jobs, workers=workers, compiling=compiling, team=team
    ):
        if isinstance(part, KilledError):
            killed.setdefault(i, []).append(step)
            continue
        if isinstance(part, LandscapeError):
            errors.setdefault(i, part)
            continue
        have[i][step] = part
        waiting[i] -= 1
        report(i, len(requests[i].steps) - waiting[i], len(requests[i].steps))
        if not waiting[i]:  # now, not at the end: what comes after may be killed
            finish(requests[i].question, have[i])
            yield i, _select(requests[i], have[i])
            have[i] = {}
    for i, steps in killed.items():
        errors.setdefault(i, _killed(requests[i], steps, len(requests[i].steps) - waiting[i]))
    yield from errors.items()


def _select(request: Request, parts: Mapping[int, xr.Dataset]) -> xr.Dataset:
    return whole(request.question, {s: parts[s] for s in request.steps})


def _killed(request: Request, steps: Sequence[int], saved: int) -> RunFailedError:
    """What to say of the steps whose worker was killed."""
    return RunFailedError(
        f"step {', '.join(map(str, sorted(steps)))} of {request.question.run.path}: the process that measured it was "
        f"killed, as the system does when memory is short. Saved are the answers at {saved} of {len(request.steps)} "
        "checkpoints. Repeat the command to compute what is missing, with fewer --jobs or a smaller --chunk."
    )


def _steps(run: Run, steps: Sequence[int] | None, *, metric: str) -> list[int]:
    found = sorted({int(s) for s in (run.steps if steps is None else steps)})
    if metric == "adam" and steps is None:  # no second moments before the first update
        found = [s for s in found if s > 0]
    if not found:
        what = (
            f"{run.path} has no checkpoint yet."
            if steps is None
            else "expected at least one step to probe, found none."
        )
        raise LandscapeError(what)
    if steps is not None:
        there = set(run.steps.tolist())
        for step in found:
            if step not in there:
                run.index(step)  # says which are
    return found
