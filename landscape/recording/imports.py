"""Checkpoints of other programs into a run, and a checkpoint of a run back into a file of tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from landscape.errors import LandscapeError, RunFailedError
from landscape.loss.frozen import original
from landscape.loss.named import NamedLoss
from landscape.recording.files import Found, find, history, tensors
from landscape.recording.form import GROUPS, METRICS_AT_MOST, encoded, fits, header
from landscape.runs.disk import advice, replacing
from landscape.runs.lock import writer_lock
from landscape.runs.modelstate import ModelState, aliases
from landscape.runs.objectives import Objectives
from landscape.runs.reading import FILE_NAME
from landscape.runs.run import Run
from landscape.runs.writing import RunWriter

__all__ = ["export_checkpoint", "import_checkpoints"]

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Put before all names by DistributedDataParallel, torch.compile, and Lightning modules that call it so."""


def import_checkpoints(
    paths: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    objective: str,
    steps: Sequence[int] | None = None,
    config: Mapping[str, Any] | None = None,
    key: str | None = None,
    ignore: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Checkpoints of anyone's training as a run, like any other but for what they do not tell.

    Args:
        paths: `.safetensors`, `.pt`, `.pth`, `.bin`, `.ckpt` files, folders of them, or a folder of Hugging Face's
            trainer with its ``checkpoint-*`` folders, whose log becomes metrics.
        folder: of the run, new.
        objective: ``package.module:function`` or ``file.py:function``, whose module the tensors belong to (see
            `landscape.loss.named`). All its parameters are kept; those that require a gradient vary.
        steps: training step of each checkpoint in the order given; None takes the last number of the name, or what
            the file notes as ``global_step`` or ``step``.
        config: settings of the training, as plain values; see `record`.
        key: of the state dict in files that hold more; None looks for the usual ones.
        ignore: shell-style patterns of tensors in the files that the module does not have.
        progress: called with (checkpoints done, checkpoints in all).

    Returns:
        The run, of kind "imported".

    Raises:
        LandscapeError: for files that are damaged or hold more than plain values, tensors that are missing,
            unexpected or of another shape, tied ones that differ, steps that are unknown or equal, or a folder that
            holds a run.

    Example:
        >>> import tempfile
        >>> text = "from torch import nn, ones; "
        >>> text += "mine = lambda: (nn.Linear(2, 1), lambda y, _: y.sum(1), (ones(3, 2), None))"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "losses.py").write_text(text)
        ...     for step in (0, 10):
        ...         torch.save(torch.nn.Linear(2, 1).state_dict(), f"{folder}/model-{step}.pt")
        ...     run = import_checkpoints([folder], f"{folder}/run", objective=f"{folder}/losses.py:mine")
        ...     run.kind, run.steps.tolist(), run.parameters.shape
        ('imported', [0, 10], (2, 3))
    """
    loss = NamedLoss(objective)
    module = original(loss.evaluated().module)
    found = _in_order(find(list(map(Path, paths))) if steps is None else _given(paths, steps), key, look=steps is None)
    folder, log = Path(folder), history(found)
    if (folder / FILE_NAME).exists() and not _broken_off(folder):
        raise LandscapeError(f"{folder} holds a run already. Choose another folder.")
    state = ModelState.of(module, every=True)
    first = _rows(found[0], module, state, key, ignore)  # before anything is made
    with writer_lock(folder):
        (folder / FILE_NAME).unlink(missing_ok=True)
        names = [str(f.path.absolute()) for f in found]
        said = header("imported", state, config or {}, None, files=names)
        with RunWriter.create(folder / FILE_NAME, attributes=said, parts=first, groups=GROUPS) as writer:
            _write_history(writer, log)
            for i, checkpoint in enumerate(found):
                rows = first if i == 0 else _rows(checkpoint, module, state, key, ignore)
                if rows["parameters"].dtype.itemsize > first["parameters"].dtype.itemsize:
                    raise LandscapeError(
                        f"expected {first['parameters'].dtype} as in the first, found more digits in {checkpoint.path}."
                    )
                writer.append_checkpoint(int(checkpoint.step or 0), rows)
                if progress is not None:
                    progress(i + 1, len(found))
            writer.set_status("complete")
        Objectives(folder).add(loss)
    return Run.open(folder)


def _broken_off(folder: Path) -> bool:
    """Whether what is there is an import that did not come to its end."""
    run = Run.open(folder)
    return run.kind == "imported" and run.status == "unfinished"


def _given(paths: Iterable[str | os.PathLike[str]], steps: Sequence[int]) -> list[Found]:
    each = [find([Path(p)]) for p in paths]
    flat = [f for group in each for f in group]
    if bad := [s for s in steps if not 0 <= int(s) < 2**62]:
        raise LandscapeError(f"expected steps from 0 on, found {bad[0]}.")
    if len(flat) != len(steps) or any(len(group) != 1 for group in each):
        raise LandscapeError(f"expected one step for each checkpoint, found {len(steps)} for {len(flat)} checkpoints.")
    return [Found(f.path, f.files, int(s)) for f, s in zip(flat, steps, strict=True)]


def _dated(found: Found, noted: int | None, hint: str) -> Found:
    """With the step of its name, or what the file notes, which must not be two."""
    if None not in (found.step, noted) and found.step != noted:
        raise LandscapeError(f"{found.path} has step {found.step} in its name and notes step {noted}. {hint}")
    return Found(found.path, found.files, noted if found.step is None else found.step)


def _in_order(found: Sequence[Found], key: str | None, *, look: bool) -> list[Found]:
    """With their steps, from the name and what the file notes if we look there; ascending, each once."""
    hint = "Give the steps: --steps 0,100,..."
    known = [_dated(f, tensors(f, key=key)[1], hint) for f in found] if look else list(found)
    if unknown := [f for f in known if f.step is None]:
        raise LandscapeError(f"expected the training step of {unknown[0].path} in its name, found no number. {hint}")
    known.sort(key=lambda f: int(f.step or 0))
    for one, two in pairwise(known):
        if one.step == two.step:
            raise LandscapeError(
                f"expected one checkpoint a step, found step {one.step} of {one.path} and {two.path}. {hint}"
            )
    return known


def _rows(
    found: Found, module: nn.Module, state: ModelState, key: str | None, ignore: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The vectors of a checkpoint in the order of the module."""
    given, _ = tensors(found, key=key)
    given = {n: t for n, t in given.items() if not any(fnmatchcase(n, p) for p in ignore)}
    groups = aliases(module)
    known = {name for names in groups for name in names}
    for prefix in _PREFIXES:
        if given and all(n.startswith(prefix) for n in given) and not set(given) & known:
            given = {n.removeprefix(prefix): t for n, t in given.items()}
    wanted = {names[0]: names for names in groups}
    values: dict[str, Tensor] = {}
    missing = []
    for name, names in wanted.items():
        here = [n for n in names if n in given]
        if not here:
            missing.append(name)
            continue
        if other := [n for n in here[1:] if not torch.equal(given[n], given[here[0]])]:
            raise LandscapeError(
                f"{found.path}: {here[0]} and {other[0]} are one tensor in the module, tied, and differ in the file."
            )
        values[name] = given[here[0]]
    extra = sorted(set(given) - known)
    if missing or extra:
        said = [f"missing: {', '.join(missing[:6])}"] if missing else []
        way_out = " (leave them out with --ignore PATTERN)" if not missing else ""
        said += [f"unexpected: {', '.join(extra[:6])}{way_out}"] if extra else []
        raise LandscapeError(
            f"expected the {len(wanted)} tensors of the objective's module in {found.path}, found {len(given)}; "
            f"{'; '.join(said)}.{' Is it of another architecture?' if missing else ''}"
        )
    _refuse_shapes(found, module, values)
    return {k: v.numpy() for k, v in state.flat(values).items()}


def _refuse_shapes(found: Found, module: nn.Module, values: Mapping[str, Tensor]) -> None:
    own: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if odd := [n for n, t in values.items() if t.is_complex() or t.is_floating_point() != own[n].is_floating_point()]:
        raise LandscapeError(
            f"expected {odd[0]} of {own[odd[0]].dtype} in {found.path}, found {values[odd[0]].dtype}: quantised?"
        )
    if other := [n for n, t in values.items() if t.shape != own[n].shape]:
        n = other[0]
        raise LandscapeError(
            f"expected {n} of shape {tuple(own[n].shape)} in {found.path}, found {tuple(values[n].shape)}"
            + (f", and {len(other) - 1} more of other shapes." if len(other) > 1 else ".")
        )


def _write_history(writer: RunWriter, log: Mapping[int, Mapping[str, float]]) -> None:
    names = [n for n in dict.fromkeys(name for entry in log.values() for name in entry) if fits(n)][:METRICS_AT_MOST]
    for i, name in enumerate(names):
        writer.append("names", i, {"name": encoded(name)})
    row = np.full(METRICS_AT_MOST, np.nan)
    writer.extend(
        "metrics",
        {s: {"values": np.r_[[log[s].get(n, np.nan) for n in names], row[len(names) :]]} for s in sorted(log)},
    )


def export_checkpoint(run: Run, step: int, path: str | os.PathLike[str]) -> None:
    """Write the checkpoint of a step as a `.safetensors` file of named tensors, parameters and buffers.

    Tied tensors are written under each of their names, so that ``model.load_state_dict`` takes the file as it is. What
    was held fixed while training is not in the run (`Run.partial`), so not in the file.

    Args:
        run: of any kind.
        step: one of `run.steps`.
        path: of the file; one that is there is replaced.

    Raises:
        LandscapeError: for a step without a checkpoint, or a path that does not end in `.safetensors`.
        RunFailedError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> config = RunConfig.make(task={"n_train": 16, "n_probe": 8, "n_test": 8}, model={"width": 4}, steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_checkpoint(train(config, folder), 2, f"{folder}/model.safetensors")
        ...     sum(t.numel() for t in tensors(find([Path(folder, "model.safetensors")])[0])[0].values())
        240
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise LandscapeError(f"expected a file that ends in .safetensors, found {path}.")
    values = run.tensors(step)
    about = {"format": "pt", "run": run.id, "step": str(step), "layout": run.layout.hash}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.touch()  # a folder that cannot be written is told here
            # The format takes no tensor that shares memory with another.
            save_file({n: t.clone(memory_format=torch.contiguous_format) for n, t in values.items()}, temporary, about)
    except (OSError, SafetensorError) as error:
        raise RunFailedError(f"could not write {path}: {error}. {advice(error)}, then repeat the command.") from error
