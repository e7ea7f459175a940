"""The losses that were named for a run, in its ``objective.json``: where they are, and whether they changed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.errors import LandscapeError
from landscape.loss.named import NamedLoss
from landscape.runs.disk import replacing

__all__ = ["Known", "Objectives"]

FILE_NAME = "objective.json"
TOLERANCE = 1e-5
"""Relative difference of two losses of one function on two machines, in float64: far above rounding."""


@dataclass(frozen=True)
class Known:
    """A loss that was named, under the label that results have.

    Attributes:
        label: of it.
        loss: the function.
    """

    label: str
    loss: NamedLoss


class Objectives:
    """The named losses of one run folder; the first one named is used where none is.

    The file is plain JSON, kept beside ``run.h5``, which nothing that measures ever changes. It holds, for every loss
    and split that was used, a fingerprint of the data and the loss of some samples at the first checkpoint.

    Args:
        folder: of the run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     objectives = Objectives(Path(folder))
        ...     _ = objectives.add(NamedLoss("mine.py:loss"))
        ...     Objectives(Path(folder)).known(None).label
        'mine.py:loss'
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME
        self._loaded: dict[str, NamedLoss] = {}
        self._confirmed: dict[tuple[str, str], str] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the losses named so far."""
        return tuple(self._read()["objectives"])

    def known(self, name: str | None) -> Known:
        """The loss of this name or label; the first one if None.

        Raises:
            LandscapeError: if None is given and none was named yet.
        """
        stored = self._read()
        if name is None:
            name = stored["default"]
        if name is None:
            raise LandscapeError(
                f"expected the loss of {self._file.parent}, found none named yet. Say which: "
                "--objective package.module:function or file.py:function (in Python: objective=...)."
            )
        entry = stored["objectives"].get(name)
        loss = NamedLoss(entry["location"] if entry is not None else name)
        return Known(loss.label, self._loaded.setdefault(loss.location, loss))

    def add(self, loss: NamedLoss) -> Known:
        """Note a loss."""
        self._loaded[loss.location] = loss
        self._note(loss, {}, {})
        return Known(loss.label, loss)

    def fingerprint(self, label: str, split: str) -> str:
        """Of the data of a loss that was confirmed."""
        return self._confirmed[label, split]

    def confirmed(self, known: Known, split: str, fingerprint: Callable[[], str], value: Callable[[], float]) -> None:
        """Check that data and values of a loss are those of its first use; note them if this is it.

        Args:
            known: the loss.
            split: of its data.
            fingerprint: of the data, now.
            value: the loss at the first checkpoint, now.

        Raises:
            LandscapeError: if one differs.
        """
        if (known.label, split) in self._confirmed:
            return
        entry = self._read()["objectives"].get(known.label, {})
        now, before = fingerprint(), entry.get("fingerprints", {}).get(split)
        out = f"Restore it, or name the new one by another name; {self._file} holds what was noted."
        if before not in (None, now):
            raise LandscapeError(
                f"the data of the objective {known.label} (split {split}) is not what it was when it was first used: "
                f"expected fingerprint {before}, found {now}. Is it drawn anew at every call? {out}"
            )
        loss, noted = value(), entry.get("values", {}).get(split)
        if noted is not None and not math.isclose(noted, loss, rel_tol=TOLERANCE):
            raise LandscapeError(
                f"the objective {known.label} (split {split}) is not what it was when it was first used: at the first "
                f"checkpoint expected a loss of {noted:.9g}, found {loss:.9g}. {out}"
            )
        moved = entry.get("location") != known.loss.location
        if before is None or noted is None or moved:
            self._note(known.loss, {split: now}, {split: loss if math.isfinite(loss) else None})
        self._confirmed[known.label, split] = now

    def _note(self, loss: NamedLoss, fingerprints: dict[str, str], values: dict[str, float | None]) -> None:
        stored = self._read()
        entry = stored["objectives"].setdefault(loss.label, {"fingerprints": {}, "values": {}})
        entry["location"] = loss.location
        entry["fingerprints"] |= fingerprints
        entry["values"] |= values
        stored["default"] = stored["default"] or loss.label
        try:
            with replacing(self._file) as temporary:
                temporary.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        except OSError as error:  # a folder that may only be read is measured all the same
            if os.access(self._file.parent, os.W_OK):
                raise LandscapeError(f"could not write {self._file}: {error}.") from error

    def _read(self) -> dict[str, Any]:
        if not self._file.exists():
            return {"default": None, "objectives": {}}
        try:
            found: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
            for entry in found["objectives"].values():
                _ = entry["location"], entry["fingerprints"], entry["values"]
            _ = found["default"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LandscapeError(
                f"expected the named losses of a run in {self._file}, found something else ({error}). Remove the file "
                "and name the loss again with --objective."
            ) from error
        return found
