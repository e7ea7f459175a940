"""A loss by the name of a function that makes it: ``package.module:function`` or ``path/to/file.py:function``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.loss.samples import head, place
from landscape.provenance import fingerprint

__all__ = ["DEFAULT_SPLIT", "NamedLoss", "Parts", "loading"]

DEFAULT_SPLIT = "probe"
"""What is asked of a function that knows no splits."""
_LOADING: ContextVar[str | None] = ContextVar("loading", default=None)


def loading() -> str | None:
    """The file or module that is being imported for its objective, None if none is."""
    return _LOADING.get()


@dataclass(frozen=True, eq=False)
class Parts:
    """What an objective is made of.

    Attributes:
        module: as the function made it.
        per_sample_loss: ``(outputs, targets) -> (N,)``.
        data: ``(inputs, targets)`` as for `Objective`.
        weights: of the samples, or None.
    """

    module: nn.Module
    per_sample_loss: Callable[[Any, Any], Tensor]
    data: Any
    weights: Any = None

    @property
    def fingerprint(self) -> str:
        """Of data and weights, in float64."""
        data = place(self.data, dtype=torch.float64, device=torch.device("cpu"))
        return fingerprint(data if self.weights is None else (*data, torch.as_tensor(self.weights)))

    def head(self, n: int | None) -> Parts:
        """With the first n samples only."""
        if n is None:
            return self
        data = head(self.data, n)
        weights = None if self.weights is None else torch.as_tensor(self.weights)[:n]
        return Parts(self.module, self.per_sample_loss, data, weights)


class NamedLoss:
    """A function that returns ``(module, per_sample_loss, data)`` or ``(module, per_sample_loss, data, weights)``.

    It takes no argument, or a keyword `split`, the name of a part of the data. It must return the same at every call,
    but for the values of the parameters, which come from checkpoints. The module that holds it is imported with the
    current folder on the path, as ``python -m`` does; a file is run like a module (``__name__`` is not
    ``"__main__"``).

    Args:
        location: ``package.module:function``, or ``file.py:function`` where the file's path is relative to the
            current folder.

    Attributes:
        location: the same, with the absolute path of a file.
        label: without the folders of a file: what results say.

    Raises:
        LandscapeError: if it is not of this form, cannot be imported, or fails.

    Example:
        >>> import tempfile
        >>> text = "import torch; mine = lambda: (torch.nn.Linear(2, 1), None, (torch.ones(3, 2), None))"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "losses.py").write_text(text)
        ...     loss = NamedLoss(f"{folder}/losses.py:mine")
        ...     loss.label, loss.parts().module
        ('losses.py:mine', Linear(in_features=2, out_features=1, bias=True))
    """

    def __init__(self, location: str) -> None:
        place, sign, self._function = str(location).rpartition(":")
        if not sign or not place or not self._function.isidentifier():
            raise LandscapeError(
                f"expected an objective package.module:function or file.py:function, found {location!r}."
            )
        self._file = Path(place).absolute() if place.endswith(".py") else None
        self._module = place
        self.location = f"{place if self._file is None else self._file}:{self._function}"
        self.label = f"{place if self._file is None else self._file.name}:{self._function}"
        self._made: Callable[..., Any] | None = None

    @classmethod
    def of(cls, function: Callable[..., Any]) -> NamedLoss:
        """Of a function at the top of a module or script, which can be imported again.

        Raises:
            LandscapeError: for one that has no such place, such as a lambda or a function in a notebook.
        """
        module = sys.modules.get(getattr(function, "__module__", ""))
        name, file = getattr(function, "__qualname__", "?"), getattr(module, "__file__", None)
        if not name.isidentifier() or module is None or (module.__name__ == "__main__" and file is None):
            raise LandscapeError(
                f"expected a function at the top of a file, found {name}: nobody else could import it. Put it into a "
                "file, or name it as file.py:function."
            )
        named = cls(f"{_place(module, str(file))}:{name}")
        named._made = function
        return named

    @property
    def function(self) -> Callable[..., Any]:
        """The function, imported on first use."""
        if self._made is None:
            with _explained(self.label, "cannot be imported"), _marked(self.label), _quiet():
                module = self._imported()
            found = getattr(module, self._function, None)
            if not callable(found):
                there = [n for n, f in vars(module).items() if inspect.isfunction(f) and not n.startswith("_")]
                raise LandscapeError(
                    f"expected a function {self._function!r} in {self._module}, found "
                    f"{'none' if found is None else type(found).__name__}. "
                    f"Functions there: {', '.join(there) or 'none'}."
                )
            self._made = found
        return self._made

    def evaluated(self) -> Parts:
        """`parts`, once the loss of two samples was computed: early, not after hours of training.

        Raises:
            LandscapeError: if it cannot be made or evaluated, or is not one number a sample.
        """
        parts = self.parts()
        some = parts.head(2)
        objective = Objective(some.module, some.per_sample_loss, some.data, weights=some.weights)
        objective.per_sample(objective.w0)
        return parts

    def parts(self, split: str = DEFAULT_SPLIT) -> Parts:
        """What the function returns for a split.

        Raises:
            LandscapeError: if the function fails, knows no splits, or returns something else.
        """
        takes = "split" in inspect.signature(self.function).parameters
        if split != DEFAULT_SPLIT and not takes:
            raise LandscapeError(
                f"the objective {self.label} takes no `split`: it has one set of samples, found split {split!r}."
            )
        with _explained(self.label, "failed"), _quiet():
            found = self.function(**({"split": split} if takes else {}))
        if not isinstance(found, tuple) or len(found) not in (3, 4) or not isinstance(found[0], nn.Module):
            what = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
            raise LandscapeError(
                f"expected (module, per_sample_loss, data) or (module, per_sample_loss, data, weights) from the "
                f"objective {self.label}, found {what}."
            )
        return Parts(*found)

    def _imported(self) -> ModuleType:
        _see_current_folder()
        if self._file is None:
            return importlib.import_module(self._module)
        main = sys.modules.get("__main__")
        if main is not None and _same_file(getattr(main, "__file__", None), self._file):
            return main  # a script that records itself is not run a second time
        name = f"landscape_objective_{hashlib.sha256(str(self._file).encode()).hexdigest()[:12]}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, self._file)
            if spec is None or spec.loader is None or not self._file.is_file():
                raise LandscapeError(
                    f"expected the objective's file {self._file}, found none. If it was moved, name its new place: "
                    "--objective file.py:function (in Python: objective=...)."
                )
            if str(self._file.parent) not in sys.path:  # its neighbours, as for a script
                sys.path.insert(0, str(self._file.parent))
            sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(sys.modules[name])
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


@contextmanager
def _marked(label: str) -> Iterator[None]:
    """Within it `loading` gives the label."""
    token = _LOADING.set(label)
    try:
        yield
    finally:
        _LOADING.reset(token)


def _see_current_folder() -> None:
    """Put the current folder on the path, for good: what is imported there may import more of it later."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it random numbers may be drawn and seeded; outside nothing is seen of it."""
    numpy: Any = sys.modules.get("numpy.random")
    plain, arrays = random.getstate(), None if numpy is None else numpy.get_state()
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if cuda else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(plain)
            if arrays is not None:
                numpy.set_state(arrays)


def _place(module: ModuleType, file: str) -> str:
    """How a module is found again: by name if it lies in a package, else by its file."""
    spec = getattr(module, "__spec__", None)
    name = spec.name if module.__name__ == "__main__" and spec is not None else module.__name__
    installed = any(part in ("site-packages", "dist-packages") for part in Path(file).parts)
    return name if name != "__main__" and ("." in name or installed) else str(file)


@contextmanager
def _explained(label: str, what: str) -> Iterator[None]:
    """One message for whatever happens in the user's code, with the line where it did."""
    try:
        yield
    except LandscapeError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = next((f for f in reversed(frames) if "importlib" not in f.filename), frames[-1])
        at = "" if last.filename == __file__ else f" (line {last.lineno} of {last.filename})"
        raise LandscapeError(f"the objective {label} {what}: {type(error).__name__}: {error}{at}.") from error


def _same_file(a: str | None, b: Path) -> bool:
    return a is not None and Path(a).exists() and b.exists() and os.path.samefile(a, b)
