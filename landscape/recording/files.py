"""Checkpoints as other programs write them: which files there are, of which step, and what tensors they hold."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from landscape.errors import LandscapeError

__all__ = ["Found", "find", "history", "step_in", "tensors"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_NAMES = ("model.safetensors", "pytorch_model.bin")
"""What a folder of Hugging Face has, in the order of preference; `.index.json` behind it where it is in shards."""
_STATE = ("state_dict", "model_state_dict", "model", "module", "net", "params")
"""Keys under which a training loop keeps the state of its model beside other things."""
_STEP = ("global_step", "step", "iteration")


@dataclass(frozen=True)
class Found:
    """A checkpoint of another program.

    Attributes:
        path: of its file, or of the folder it is in.
        files: that hold its tensors; several where it is in shards.
        step: from its name; None if that has no number.
    """

    path: Path
    files: tuple[Path, ...]
    step: int | None


def find(paths: Iterable[Path]) -> list[Found]:
    """The checkpoints at these paths: files, folders of them, or folders with ``checkpoint-*`` folders.

    Raises:
        LandscapeError: if a path does not exist or holds none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("model-20.pt", "model-100.pt"):
        ...         torch.save({}, f"{folder}/{name}")
        ...     [found.step for found in find([Path(folder)])]
        [20, 100]
    """
    out: list[Found] = []
    for path in paths:
        if path.is_file():
            found = [_one(path, (path,))]
        elif path.is_dir():
            found = _in_folder(path)
        else:
            raise LandscapeError(f"expected a checkpoint or a folder of some at {path}, found nothing.")
        if not found:
            raise LandscapeError(f"expected checkpoints ({', '.join(SUFFIXES)}) in {path}, found none.")
        out += found
    return sorted(out, key=lambda f: (-1 if f.step is None else f.step, str(f.path)))


def _in_folder(folder: Path) -> list[Found]:
    for name in _NAMES:
        if (folder / name).is_file():
            return [_one(folder, (folder / name,))]
        if (index := folder / f"{name}.index.json").is_file():
            try:
                shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise LandscapeError(f"expected the index of a checkpoint in {index}, found something else.") from error
            return [_one(folder, tuple(folder / str(s) for s in shards))]
    inner = [found for sub in sorted(folder.glob("checkpoint-*")) if sub.is_dir() for found in _in_folder(sub)]
    return inner or [_one(p, (p,)) for p in sorted(folder.iterdir()) if p.suffix in SUFFIXES and p.is_file()]


def _one(path: Path, files: tuple[Path, ...]) -> Found:
    return Found(path, files, step_in(path.stem if path.is_file() else path.name))


def step_in(name: str) -> int | None:
    """The training step in a name, None where it is not plain.

    A number after step, iter or checkpoint; else the only number of the name, if it stands by itself.

    Example:
        >>> [step_in(n) for n in ("epoch=4-step=500-v1", "checkpoint-20", "model_7", "resnet18", "a-1-2", "500")]
        [500, 20, 7, None, None, 500]
    """
    named = re.findall(r"(?:step|iter|iteration|checkpoint|ckpt)[_=\- ]?(\d+)(?![\d.a-zA-Z])", name, re.IGNORECASE)
    alone = re.findall(r"(?<![\w.])(\d+)(?![\w.])", re.sub(r"[_=\- ]", "|", name))
    digits = re.findall(r"\d+", name)
    found = named if len(named) == 1 else alone if len(alone) == len(digits) == 1 else []
    return int(found[0]) if found else None


def tensors(found: Found, *, key: str | None = None) -> tuple[dict[str, Tensor], int | None]:
    """The tensors of a checkpoint by name, and the step that it notes itself (None: none).

    Files of PyTorch are read with ``weights_only=True``, which runs no code of theirs.

    Args:
        found: the checkpoint.
        key: of the state dict, in a file that holds other things beside it; None looks for the usual ones.

    Raises:
        LandscapeError: if a file is damaged, holds anything but tensors and plain values, or no state dict.
    """
    out: dict[str, Tensor] = {}
    step: int | None = None
    for file in found.files:
        content = _read(file)
        state = _state_in(content, file, key)
        out |= {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
        step = next((int(content[k]) for k in _STEP if _is_step(content.get(k))), step)
    if not out:
        raise LandscapeError(f"expected tensors in {found.path}, found none.")
    return out, step


def _read(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise LandscapeError(f"expected the file {file}, found none.") from error
    except pickle.UnpicklingError as error:
        what = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise LandscapeError(
            f"expected tensors and plain values in {file}, found {what.group(1) if what else 'other objects'}: reading "
            "them could run any code, so it is not read. Save the tensors alone: torch.save(model.state_dict(), ...)."
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LandscapeError(f"expected a checkpoint in {file}, found a damaged or foreign file: {reason}.") from error
    if not isinstance(content, Mapping):
        raise LandscapeError(f"expected a state dict in {file}, found {type(content).__name__}.")
    return content


def _state_in(content: Mapping[str, Any], file: Path, key: str | None) -> Mapping[str, Any]:
    if key is not None:
        state = content.get(key)
        if not isinstance(state, Mapping):
            raise LandscapeError(f"expected a state dict under {key!r} in {file}, found keys {_few(content)}.")
        return state
    for name in _STATE:
        if isinstance(content.get(name), Mapping) and any(isinstance(v, Tensor) for v in content[name].values()):
            return content[name]  # type: ignore[no-any-return]
    if any(isinstance(v, Tensor) for v in content.values()):
        return content
    raise LandscapeError(f"expected a state dict in {file}, found keys {_few(content)}. Say which: --key NAME.")


def _is_step(value: Any) -> bool:
    whole = (
        isinstance(value, Tensor) and value.numel() == 1 and not value.is_floating_point() and not value.is_complex()
    )
    return whole or (isinstance(value, int) and not isinstance(value, bool))


def history(found: Sequence[Found]) -> dict[int, dict[str, float]]:
    """What Hugging Face's trainer logged until the last of these checkpoints: step -> metrics; empty without a log."""
    for last in reversed(found):
        file = (last.path if last.path.is_dir() else last.path.parent) / "trainer_state.json"
        if not file.is_file():
            continue
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))["log_history"]
            out: dict[int, dict[str, float]] = {}
            for entry in entries:
                numbers = {k: float(v) for k, v in entry.items() if k != "step" and isinstance(v, int | float)}
                out.setdefault(int(entry["step"]), {}).update(numbers)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise LandscapeError(f"expected the state of a trainer in {file}, found something else.") from error
        return out
    return {}


def _few(names: Iterable[Any], most: int = 6) -> str:
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
