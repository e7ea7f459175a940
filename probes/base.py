"""What a probe is: a function, its settings, and the variables it promises."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import xarray as xr

from landscape.errors import LandscapeError
from landscape.settings import coerce, lookup

if TYPE_CHECKING:
    from landscape.loss.objective import Objective
    from landscape.runs.run import Run

__all__ = ["CURVATURE", "LOSS", "SLOPE", "Context", "Counts", "Extent", "Probe", "Schema", "Span", "Variable"]

Span = tuple[float, float]
"""Fewest and most of something that is not known beforehand."""

LOSS = "loss unit"
SLOPE = "loss unit per parameter unit"
CURVATURE = "loss unit per squared parameter unit"
"""Units of a loss and of its first and second derivatives along a unit direction."""


@dataclass(frozen=True)
class Variable:
    """One variable or coordinate of a result.

    Attributes:
        dims: names of its axes at one checkpoint.
        units: physical units, "1" for a pure number, "" for a label.
        long_name: what it is, in a few words.
        kind: NumPy kind letters that are allowed ("f", "i", "b", "U").
        swept: whether it differs between checkpoints; if so a sweep puts a leading `step` axis before `dims`.
    """

    dims: tuple[str, ...]
    units: str
    long_name: str
    kind: str = "f"
    swept: bool = True


@dataclass(frozen=True)
class Schema:
    """The variables of a probe's result, checked when it is made and when it is saved; `probe` is the probe's name."""

    variables: Mapping[str, Variable]
    optional: frozenset[str] = frozenset()
    probe: str = ""

    def check(self, ds: xr.Dataset, *, swept: bool = False) -> None:
        """Raise if a variable is missing, unknown, or has other dims or another type than promised."""
        names = set(map(str, ds.variables)) - ({"step"} if swept else set())
        missing = set(self.variables) - self.optional - names
        extra = names - set(self.variables)
        if missing or extra:
            raise LandscapeError(f"result does not fit its schema: missing {sorted(missing)}, unknown {sorted(extra)}.")
        for name in names:
            variable, found = self.variables[name], ds[name]
            dims = ("step", *variable.dims) if swept and variable.swept else variable.dims
            if found.dims != dims or found.dtype.kind not in variable.kind + ("OT" if "U" in variable.kind else ""):
                raise LandscapeError(
                    f"result does not fit its schema: expected {name} with dims {dims} of kind {variable.kind!r}, "
                    f"found {found.dims} of {found.dtype}."
                )

    def dataset(
        self, values: Mapping[str, Any], *, coords: Mapping[str, Any] | None = None, **attrs: Any
    ) -> xr.Dataset:
        """A checked dataset from arrays or tensors; `coords` are the entries that label axes."""

        def entry(name: str, value: Any) -> tuple[tuple[str, ...], Any, dict[str, str]]:
            variable = self.variables[name]
            value = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
            return variable.dims, value, {"units": variable.units, "long_name": variable.long_name}

        ds = xr.Dataset(
            {k: entry(k, v) for k, v in values.items()},
            coords={k: entry(k, v) for k, v in (coords or {}).items()},
            attrs={"probe": self.probe, **attrs},
        )
        self.check(ds)
        return ds

    def stack(self, parts: Mapping[int, xr.Dataset]) -> xr.Dataset:
        """Results of single checkpoints as one dataset with an ascending `step` axis. Other axes must agree exactly.

        An optional number that some do not have, because they were stored before there was one, is NaN there.
        """
        steps = sorted(parts)
        names = list(dict.fromkeys(str(n) for step in steps for n in parts[step].variables))
        swept = [n for n in names if n in self.variables and self.variables[n].swept]
        fixed = parts[steps[0]].drop_vars(swept, errors="ignore")
        for step in steps[1:]:
            if not parts[step].drop_vars(swept, errors="ignore").equals(fixed):
                raise LandscapeError(f"results of steps {steps[0]} and {step} do not have the same axes.")
        still = [n for n in names if n not in swept]
        moving = xr.concat([parts[s].drop_vars(still) for s in steps], dim="step", join="exact")
        moving = moving.assign_coords(step=np.array(steps, dtype=np.int64))
        moving["step"].attrs = {"units": "updates", "long_name": "training step"}
        ds = xr.merge([moving, fixed], join="exact", compat="equals", combine_attrs="override")
        ds.attrs = {}
        self.check(ds, swept=True)
        return ds


@dataclass(frozen=True, eq=False)
class Context:
    """Where a probe is asked: what it may take from the run beside the objective.

    Attributes:
        run: the run.
        objective: the objective, in the coordinates of the metric asked for.
        split: name of the data split.
        samples: first so many samples of the split; None means all.
        step: training step of the checkpoint (the last of `steps` for a probe of the whole run).
        steps: all steps asked for.
        name: label of the loss, of a run that has several; else None.
        metric: name of the coordinates.
    """

    run: Run
    objective: Objective
    split: str
    samples: int | None
    step: int
    steps: tuple[int, ...]
    name: str | None = None
    metric: str = "euclidean"

    def whole(self) -> Objective:
        """The loss here in all parameters, in plain coordinates."""
        own = self.objective
        if self.metric == "euclidean" and own.layout.hash == self.run.layout.hash:
            return own
        return self.run.objective(
            self.split, n=self.samples, at=self.step, name=self.name,
            dtype=own.dtype, chunk=own.chunk, device=own.device,
        )  # fmt: skip

    def with_loops(self, loops: int) -> Objective:
        """The loss of the model with so many loops, in the same parameters, the others as they are here."""
        own, names = self.objective, list(self.objective.layout.names)
        held = names != list(self.run.layout.names)
        return self.run.objective(
            self.split, n=self.samples, at=self.step if held else None, parameters=names if held else None, loops=loops,
            dtype=own.dtype, chunk=own.chunk, device=own.device,
        )  # fmt: skip

    def at(self, step: int) -> Objective:
        """The loss at another checkpoint, in plain coordinates, with what does not vary as it was there."""
        own = self.objective
        return self.run.objective(
            self.split, n=self.samples, at=step, name=self.name, parameters=list(own.layout.names),
            dtype=own.dtype, chunk=own.chunk, device=own.device,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much there is to measure.

    Attributes:
        size: P, the number of parameters that vary.
        points: checkpoints that a probe of the whole run looks at; 0 without a run.
    """

    size: int
    points: int = 0


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one answer of a probe takes, before it is asked: fewest and most of what takes the time.

    Attributes:
        forwards: losses of all samples.
        gradients: of the mean loss.
        products: of the Hessian with single vectors.
        dense: Hessians written out, P products each, in whatever way is fastest.
        eigen: dense symmetric eigenvalue problems of size P; with eigenvectors one counts as five.
        vectors: most vectors (P,) held at once.
        matrices: most matrices (P, P) in float64 held at once, LAPACK's workspace included.
        beside: what it takes besides, of which neither time nor memory is known; "" if nothing.
    """

    forwards: Span = (0, 0)
    gradients: Span = (0, 0)
    products: Span = (0, 0)
    dense: int = 0
    eigen: int = 0
    vectors: float = 0
    matrices: float = 0
    beside: str = ""


@dataclass(frozen=True)
class Probe:
    """A question one can ask of a checkpoint.

    Attributes:
        name: how it is called on the command line.
        version: raised whenever the same settings would give other numbers; older results are then recomputed.
        function: ``(objective, w, *, seed, **settings) -> Dataset``. Where nothing is random `seed` is None by
            default: one is accepted as by every other probe, ignored, and no part of the result's identity.
        schema: what it returns.
        context: extra arguments taken from the run (never from the user), given a `Context`.
        context_names: the names of those arguments.
        whole_run: True if it looks at the whole run from one checkpoint, so that it is not swept over steps.
        path: True (with `whole_run`) if the answer depends on which checkpoints are asked for, not on the last alone.
        metric: whether the answer depends on the metric, so that one may be asked for.
        by_default: whether `landscape probe` runs it without being asked; False for one that takes many times longer.
        cost: ``(settings, extent) -> Counts`` of one answer, given all settings; None, or returning None,
            where that cannot be told before.
        pointwise: whether its work (with `whole_run`) is `losses_along` of one objective, which processes can share.
    """

    name: str
    version: int
    function: Callable[..., xr.Dataset]
    schema: Schema
    context: Callable[[Context], dict[str, Any]] | None = None
    context_names: frozenset[str] = field(default=frozenset())
    whole_run: bool = False
    path: bool = False
    metric: bool = True
    by_default: bool = True
    cost: Callable[[Mapping[str, Any], Extent], Counts | None] | None = None
    pointwise: bool = False

    @property
    def random(self) -> bool:
        """Whether the result depends on the seed: it does unless that is None by default, or not there."""
        seed = inspect.signature(self.function).parameters.get("seed")
        return seed is not None and seed.default is not None

    @property
    def defaults(self) -> dict[str, Any]:
        """Settings that a user may give, with their default values."""
        parameters = inspect.signature(self.function).parameters.values()
        hidden = self.context_names | {"seed"}
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in hidden}

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All settings: the defaults, overlaid with checked ones."""
        if not isinstance(given, Mapping):
            raise LandscapeError(f"expected settings such as {self.name}.NAME=VALUE, found {self.name}={given!r}.")
        hints = get_type_hints(self.function)
        out = self.defaults
        for key, value in given.items():
            lookup(out, key, kind=f"setting of probe {self.name!r}:")
            out[key] = coerce(value, hints[key], where=f"{self.name}.{key}")
        return out
