"""What is asked: a probe with all its settings, of which loss of a run. An answer serves that very question only."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from landscape.answers.files import Heading, heading, load, write
from landscape.answers.parts import packed, unpacked
from landscape.answers.seal import sealed, unsealed
from landscape.errors import LandscapeError
from landscape.loss.metric import METRICS
from landscape.probes.base import Extent, Probe
from landscape.provenance import code_revision, created, versions
from landscape.runs.run import Run

__all__ = ["LossSpec", "Question"]

_DTYPES = {"float64": torch.float64, "float32": torch.float32}
_PART, _POINTS = ".npz", ".points"


@dataclass(frozen=True, kw_only=True)
class LossSpec:
    """Which loss of a run a probe is asked about.

    Attributes:
        split: data split.
        samples: use the first so many samples of it; None means all.
        dtype: "float64" or "float32".
        device: "cpu" or "cuda".
        parameters: shell-style pattern of the parameters that vary; None means all.
        metric: coordinates of curvatures, distances and directions: "euclidean", "filter" or "adam".
        objective: name of the loss of a recorded or imported run; None is the first one named for it, or the task.

    Raises:
        LandscapeError: for an unknown dtype or metric.

    Example:
        >>> loss = LossSpec(samples=64, metric="filter")
        >>> loss.plain == LossSpec(samples=64), loss.split, loss.dtype
        (True, 'probe', 'float64')
    """

    split: str = "probe"
    samples: int | None = None
    dtype: str = "float64"
    device: str = "cpu"
    parameters: str | None = None
    metric: str = "euclidean"
    objective: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise LandscapeError(f"expected dtype {' or '.join(map(repr, _DTYPES))}, found {self.dtype!r}.")
        if self.metric not in METRICS:
            raise LandscapeError(f"unknown metric {self.metric!r}. Valid names: {', '.join(METRICS)}.")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch's own."""
        return _DTYPES[self.dtype]

    @property
    def plain(self) -> LossSpec:
        """The same loss in the coordinates of the parameters themselves."""
        return dataclasses.replace(self, metric="euclidean")

    def settings(self, probe: Probe) -> dict[str, Any]:
        """The part of the stored settings that names this loss; the metric only of a probe that knows metrics.

        Raises:
            LandscapeError: for a metric of a probe that has none.
        """
        found = dataclasses.asdict(self)
        if found["objective"] is None:  # of a task, whose stored answers never had the entry
            del found["objective"]
        if not probe.metric and (metric := found.pop("metric")) != "euclidean":
            raise LandscapeError(
                f"probe {probe.name!r} measures no curvature or distance: it has no metric {metric!r}."
            )
        return found


_FIELDS = tuple(field.name for field in dataclasses.fields(LossSpec))


class Question:
    """A probe with all its settings, asked of one run: what a stored answer must match to be reused.

    Attributes:
        settings: everything that determines the numbers, flat as it is stored: the probe's own and the loss's.
        key: six hexadecimal digits of probe, version and settings; part of the file name.
        path: where the answer is stored.
        partial: folder that collects answers of single checkpoints until the file is complete.
    """

    def __init__(self, run: Run, probe: Probe, settings: Mapping[str, Any]) -> None:
        self.run, self.probe = run, probe
        self.settings = dict(settings)
        self.text = json.dumps(self.settings, sort_keys=True)
        identity = json.dumps([probe.name, probe.version, self.text])
        self.key = hashlib.sha256(identity.encode()).hexdigest()[:6]
        folder = run.path / "results"
        self.path = folder / f"{probe.name}-{self.key}.nc"
        self.partial = folder / f".{probe.name}-{self.key}"

    @property
    def loss(self) -> LossSpec:
        """Which loss it is asked about."""
        return LossSpec(**{f: self.settings[f] for f in _FIELDS if f in self.settings})

    @property
    def options(self) -> dict[str, Any]:
        """What the probe's function takes as keywords: its own settings, and the seed if it draws."""
        return {k: v for k, v in self.settings.items() if k not in (*_FIELDS, "step", "steps")}

    @property
    def products(self) -> float:
        """About how many Hessian products one answer takes, as the probe tells; 0 where it cannot."""
        cost = self.probe.cost
        extent = Extent(size=self.run.layout.size, points=len(self.run.steps))
        counts = None if cost is None else cost(self.options, extent)
        few, many = (0.0, 0.0) if counts is None else counts.products
        return math.sqrt(few * many) if math.isfinite(many) else few

    def attributes(self) -> dict[str, Any]:
        """What the answer's file says about its origin, beside the run's own attributes."""
        return {
            **self.run.attributes(self.probe.name),
            "probe_version": self.probe.version,
            "settings": self.text,
            "seed": self.settings.get("seed", "none"),
            "metric": self.settings.get("metric", "none"),
            "data_fingerprint": self.run.data_fingerprint(self.loss.objective, self.loss.split),
            "created": created(),
            "code_revision": code_revision(),
            "versions": json.dumps(versions()),
        }

    def matches(self, ds: xr.Dataset | Heading) -> bool:
        """Whether a stored answer is to this question: same run, probe version and settings."""
        a = ds.attrs
        return bool(
            a.get("run_id") == self.run.id
            and a.get("probe") == self.probe.name
            and a.get("probe_version") == self.probe.version
            and a.get("settings") == self.text
        )

    def stored(self) -> xr.Dataset | None:
        """The stored answer, None if there is none or it answers something else (an older run in this folder)."""
        if not self.path.exists():
            return None
        ds = load(self.path)
        return ds if self.matches(ds) else None

    def stored_steps(self) -> set[int]:
        """Training steps whose answer is on disk, in the file or left by an interrupted sweep; no numbers are read.

        Raises:
            DamagedError: if the file is damaged.
        """
        steps = set(self.parts())
        if self.path.exists() and self.matches(found := heading(self.path)):
            steps |= {self.settings["step"]} if self.probe.whole_run else set(found.steps)
        return steps

    def parts(self, *, but: Container[int] = ()) -> dict[int, xr.Dataset]:
        """Answers of single checkpoints that an interrupted sweep left behind, but for those of some steps."""
        steps = sorted(int(path.stem) for path in self.partial.glob(f"*{_PART}"))
        found = {step: self.part(step) for step in steps if step not in but}
        return {step: ds for step, ds in found.items() if ds is not None}

    def part(self, step: int) -> xr.Dataset | None:
        """The answer at a checkpoint that was saved by itself; None if there is none, or it is damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError):  # to be computed again
            content, verified = unsealed((self.partial / f"{step}{_PART}").read_bytes())
            if verified and self.matches(ds := unpacked(content)):
                return ds
        return None

    def keep(self, ds: xr.Dataset, step: int) -> None:
        """Write the answer at a checkpoint, until there are all.

        Raises:
            RunFailedError: as `save`.
        """
        write(sealed(packed(ds)), self.partial / f"{step}{_PART}")

    def keep_points(self, losses: NDArray[Any], known: NDArray[np.bool_], digest: str) -> None:
        """Write those losses (B,) that are known of the points with this digest, in place of what was kept of them.

        An answer may ask for several grids, one after the other: each has a file of its own.

        Raises:
            RunFailedError: as `save`.
        """
        ds = xr.Dataset({"loss": ("point", losses), "known": ("point", known)}, attrs=self.attributes())
        write(sealed(packed(ds.assign_attrs(points=digest))), self._points(digest))

    def points(self, digest: str) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
        """The losses that an interrupted command left of the points with this digest, and which are known."""
        with contextlib.suppress(OSError, ValueError, KeyError):  # damaged or not there: computed again
            content, verified = unsealed(self._points(digest).read_bytes())
            if verified and self.matches(ds := unpacked(content)) and ds.attrs["points"] == digest:
                return ds["loss"].values.copy(), ds["known"].values.copy()
        return None

    def _points(self, digest: str) -> Path:
        return self.partial / f"{self.settings['step']}-{digest[:12]}{_POINTS}"

    def forget(self, step: int) -> None:
        """Remove the answer at a checkpoint, also one that an earlier version wrote."""
        grids = [path.name for path in self.partial.glob(f"{step}-*{_POINTS}")]
        for name in (*grids, *(f"{step}{suffix}" for suffix in (_PART, _POINTS, ".nc"))):
            (self.partial / name).unlink(missing_ok=True)
