"""The losses that were named for a run, in its ``objective.json``: where they are, and whether they changed."""

from __future__ import annotations

import hashlib
import json
import math
import os
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
        digest: of data and values, where a stored result names them; else empty.
    """

    label: str
    loss: NamedLoss
    digest: str = ""


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
        self._confirmed: dict[tuple[str, str], tuple[str, str]] = {}

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
        name, _, digest = name.partition("#")  # as results name it
        entry = stored["objectives"].get(name)
        loss = NamedLoss(entry["location"] if entry is not None else name)
        return Known(loss.label, self._loaded.setdefault(loss.location, loss), digest)

    def add(self, loss: NamedLoss) -> Known:
        """Note a loss."""
        self._loaded[loss.location] = loss
        self._note(loss, {}, {})
        return Known(loss.label, loss)

    def fingerprint(self, known: Known, split: str) -> str:
        """Of the data of a loss that was confirmed."""
        return self._confirmed[known.loss.location, split][0]

    def identity(self, known: Known, split: str) -> str:
        """The label of a loss that was confirmed, and a digest of its data and values: what its results name."""
        digest = self._confirmed[known.loss.location, split][1]
        if known.digest not in ("", digest):
            raise LandscapeError(f"the objective {known.label} is another than that of this result: #{known.digest}.")
        return f"{known.label}#{digest}"

    def confirm(self, known: Known, split: str, fingerprint: str, values: list[float]) -> None:
        """Check that data and values of a loss are those of its first use; note them if this is it.

        Args:
            known: the loss.
            split: of its data.
            fingerprint: of the data, now.
            values: the loss at the first checkpoint and beside it, now.

        Raises:
            LandscapeError: if one differs.
        """
        entry = self._read()["objectives"].get(known.label, {})
        before = entry.get("fingerprints", {}).get(split)
        out = f"Restore it, or name the new one by another name; {self._file} holds what was noted."
        if before not in (None, fingerprint):
            raise LandscapeError(
                f"the data of the objective {known.label} (split {split}) is not what it was when it was first used: "
                f"expected fingerprint {before}, found {fingerprint}. Is it drawn anew at every call? {out}"
            )
        noted = entry.get("values", {}).get(split) or [None] * len(values)
        for old, new in zip(noted, values, strict=True):
            if old is not None and not math.isclose(old, new, rel_tol=TOLERANCE):
                raise LandscapeError(
                    f"the objective {known.label} (split {split}) is not what it was when it was first used: at or "
                    f"beside the first checkpoint expected a loss of {old:.9g}, found {new:.9g}. {out}"
                )
        kept = [(v if math.isfinite(v) else None) if old is None else old for old, v in zip(noted, values, strict=True)]
        if before is None or kept != noted or entry.get("location") != known.loss.location:
            self._note(known.loss, {split: fingerprint}, {split: kept})
        digest = hashlib.sha256(json.dumps([fingerprint, kept]).encode()).hexdigest()[:8]
        self._confirmed[known.loss.location, split] = fingerprint, digest

    def _note(self, loss: NamedLoss, fingerprints: dict[str, str], values: dict[str, list[float | None]]) -> None:
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
                kinds = (str, dict, dict)
                said = [entry[k] for k in ("location", "fingerprints", "values")]
                if not all(map(isinstance, said, kinds)) or not all(isinstance(v, list) for v in said[2].values()):
                    raise TypeError("an entry of another form")
                if not all(v is None or isinstance(v, float | int) for values in said[2].values() for v in values):
                    raise TypeError("a value that is no number")
            _ = found["default"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LandscapeError(
                f"expected the named losses of a run in {self._file}, found something else ({error}). Remove the file "
                "and name the loss again with --objective."
            ) from error
        return found
