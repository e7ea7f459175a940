"""Ask a probe at many checkpoints of a run: saved as it goes, resumed, in parallel."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from joblib import Parallel, delayed

from landscape.errors import LandscapeError
from landscape.results import Question, save
from landscape.run import Run
from landscape.schema import Probe

__all__ = ["sweep"]


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
    jobs: int = 1,
    recompute: bool = False,
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
        jobs: processes, each with one thread; checkpoints are shared out among them.
        recompute: ignore stored answers.
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
    wanted = _steps(run, steps, only_last=probe.whole_run)
    objective = {"split": split, "samples": samples, "dtype": dtype, "device": device, "parameters": parameters}
    identity = {**probe.settings(settings), **objective}
    if probe.random:
        identity["seed"] = seed
    if probe.whole_run:
        identity["step"] = wanted[-1]
    question = Question(run, probe, identity)
    return _answer(question, wanted, chunk=chunk, jobs=jobs, recompute=recompute, progress=progress)


def _answer(
    question: Question,
    wanted: Sequence[int],
    *,
    chunk: int | None,
    jobs: int,
    recompute: bool,
    progress: Callable[[int, int], None] | None,
) -> xr.Dataset:
    if recompute:
        shutil.rmtree(question.partial, ignore_errors=True)
    stored = None if recompute else question.stored()
    if question.probe.whole_run:
        if stored is None:
            stored = _measure(question, wanted[-1], chunk)
            save(stored, question.path)
        if progress is not None:
            progress(1, 1)
        return stored
    have = _split_steps(question, stored) if stored is not None else {}
    have |= question.parts()
    todo = [s for s in wanted if s not in have]
    if progress is not None:
        progress(len(wanted) - len(todo), len(wanted))
    for done, (step, part) in enumerate(_compute(question, todo, chunk=chunk, jobs=jobs), start=1):
        have[step] = part
        if progress is not None:
            progress(len(wanted) - len(todo) + done, len(wanted))
    ds = question.probe.schema.stack(have).assign_attrs(question.attributes())
    if stored is None or todo:
        save(ds, question.path)
    shutil.rmtree(question.partial, ignore_errors=True)
    return ds.sel(step=list(wanted))


def _compute(
    question: Question, steps: Sequence[int], *, chunk: int | None, jobs: int
) -> Iterator[tuple[int, xr.Dataset]]:
    """Measure, save and yield each checkpoint as it is done, in any order."""
    if jobs == 1 or len(steps) <= 1:
        for step in steps:
            yield _part(question, step, chunk)
        return
    arguments = (str(question.run.path), question.probe.name, question.settings, chunk)
    pool = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="all", batch_size=1)
    with contextlib.closing(pool(delayed(_part_in_worker)(*arguments, step) for step in steps)) as results:
        yield from results


def _part_in_worker(
    path: str, probe: str, settings: Mapping[str, Any], chunk: int | None, step: int
) -> tuple[int, xr.Dataset]:
    from landscape.probes import get_probe

    torch.set_num_threads(1)  # workers share the cores; more threads each would collapse under load
    return _part(Question(Run.open(Path(path)), get_probe(probe), settings), step, chunk)


def _part(question: Question, step: int, chunk: int | None) -> tuple[int, xr.Dataset]:
    ds = _measure(question, step, chunk)
    save(ds, question.partial / f"{step}.nc")
    return step, ds


def _measure(question: Question, step: int, chunk: int | None) -> xr.Dataset:
    run, probe, s = question.run, question.probe, dict(question.settings)
    split, n = s.pop("split"), s.pop("samples")
    dtype = {"float64": torch.float64, "float32": torch.float32}.get(s.pop("dtype"))
    if dtype is None:
        raise LandscapeError(f"expected dtype 'float64' or 'float32', found {question.settings['dtype']!r}.")
    s.pop("step", None)
    objective = run.objective(
        split, n=n, dtype=dtype, chunk=chunk, device=s.pop("device"), parameters=s.pop("parameters")
    )
    w = _restrict(run, objective.layout.names, run.parameters[run.index(step)])
    if probe.context is not None:
        s |= probe.context(run, objective, split, n)
    return probe.function(objective, w, **s).assign_attrs(question.attributes(), step=step)


def _restrict(run: Run, names: Sequence[str], w: torch.Tensor) -> torch.Tensor:
    """The entries of a checkpoint that belong to the objective's parameters."""
    return w if len(names) == len(run.layout.names) else w[run.layout.mask(names)]


def _split_steps(question: Question, ds: xr.Dataset) -> dict[int, xr.Dataset]:
    """A stored answer as single checkpoints again, so that new steps can be added."""
    return {int(s): ds.sel(step=s, drop=True).assign_attrs(question.attributes()) for s in ds["step"].values}


def _steps(run: Run, steps: Sequence[int] | None, *, only_last: bool) -> list[int]:
    if steps is None:
        found = [int(s) for s in run.steps]
        if not found:
            raise LandscapeError(f"{run.path} has no checkpoint yet.")
        return found[-1:] if only_last else found
    if not len(steps):
        raise LandscapeError("expected at least one step to probe, found none.")
    for step in steps:
        run.index(step)
    return sorted(set(map(int, steps)))
