"""What figures ask of their datasets: that they hold what is drawn, and which of them belong together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import LandscapeError

__all__ = [
    "NO_STEP",
    "Array",
    "alike",
    "by_arch",
    "completed",
    "loss_unit",
    "over_seeds",
    "require",
    "require_all",
    "same",
    "say_step",
    "shown_units",
    "titled",
    "units",
    "unknown_error",
]

Array = NDArray[np.float64]

_LOSSES = ("nats per token", "squared error", "loss unit")
"""Units of losses that may be part of another unit."""
_DISTANCES = {
    "parameter units (Euclidean)": "Euclidean parameter distance",
    "parameter units": "parameter distance",
}
NO_STEP = -1
"""In place of a training step, of a dataset that tells none: of one point of parameters, looked at by itself."""


def completed(datasets: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """With the labels by which figures group, where datasets lack them.

    Runs of one `arch` with a `run_seed` each are one group. Any other is a group of its own, named as its run, or
    "model" where it comes from no run.

    Example:
        >>> [ds.attrs["arch"] for ds in completed([xr.Dataset(attrs={"run": "a"}), xr.Dataset(), xr.Dataset()])]
        ['a', 'model', 'model (2)']
    """
    out: list[xr.Dataset] = []
    taken: set[str] = set()
    for ds in datasets:
        name = str(ds.attrs.get("run", "model"))
        if "arch" not in ds.attrs or "run_seed" not in ds.attrs:
            base, i = str(ds.attrs.get("arch", name)) if "run" not in ds.attrs else name, 2
            while name in taken:
                name, i = f"{base} ({i})", i + 1
            taken.add(name)
            ds = ds.assign_attrs(arch=name)
        ds = ds.assign_attrs(run=name, task=ds.attrs.get("task", ""))
        out.append(ds)
    return out


def say_step(step: float, *, before: str = "") -> str:
    """``"step 12"``, with what comes before it; nothing where no step is told.

    Example:
        >>> say_step(12, before=", "), say_step(NO_STEP)
        (', step 12', '')
    """
    return "" if step == NO_STEP else f"{before}step {step:g}"


def titled(arch: str, group: Sequence[xr.Dataset], *, more: str = "") -> str:
    """The name of a group, with the number of its seeds where they are known.

    Example:
        >>> titled("looped", [xr.Dataset(attrs={"run_seed": 0})]), titled("mine", [xr.Dataset()])
        ('looped (1 seed)', 'mine')
    """
    known = all("run_seed" in ds.attrs for ds in group)
    return f"{arch} ({len(group)} seed{'s' if len(group) > 1 else ''}{more})" if known else arch


def require(ds: xr.Dataset, variables: Mapping[str, tuple[str, ...]]) -> xr.Dataset:
    """The named variables of a dataset, each with its dimensions in the order asked for.

    Args:
        ds: the result of one run.
        variables: dimensions of each variable or coordinate that a figure draws.

    Raises:
        LandscapeError: if a variable or a dimension is missing, or steps do not increase.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0)
        >>> ds = xr.Dataset({"loss": (("b", "a"), [[1.0, 2.0]])}, attrs=attrs)
        >>> require(ds, {"loss": ("a", "b")})["loss"].shape
        (2, 1)
    """
    name = f"the {ds.attrs.get('probe', 'unnamed')!r} result of run {ds.attrs.get('run', '(no name)')!r}"
    if absent := [v for v in variables if v not in ds.variables and v != "step"]:
        raise LandscapeError(
            f"expected the variables {', '.join(variables)} in {name}, found no {', '.join(absent)}; it holds "
            f"{', '.join(map(str, ds.variables)) or 'nothing'}. "
            "Is it the result of another probe? `landscape.figures.FIGURES` names the right one."
        )
    if "step" not in ds.dims and any("step" in dims for dims in variables.values()):  # one point, not swept
        ds = _swept(ds, variables)
    for variable, dims in variables.items():
        if set(ds[variable].dims) != set(dims):
            raise LandscapeError(
                f"expected {variable!r} over ({', '.join(dims)}) in {name}, found it over "
                f"({', '.join(map(str, ds[variable].dims))}). Measure it again with this version of the probe."
            )
    if "step" in ds.dims and np.any(np.diff(ds["step"].values) <= 0):
        raise LandscapeError(f"expected increasing steps in {name}. Sort it first: `ds.sortby('step')`.")
    order = dict.fromkeys(d for dims in variables.values() for d in dims)
    return ds[list(variables)].transpose(*order, ...)


def _swept(ds: xr.Dataset, variables: Mapping[str, tuple[str, ...]]) -> xr.Dataset:
    """With an axis `step` of one entry on what a sweep puts it on."""
    step = int(ds.attrs.get("step", NO_STEP))
    moving = [
        v for v, dims in variables.items() if v in ds.variables and {*ds[v].dims, "step"} == {*dims} and v != "step"
    ]
    named = [v for v in moving if v in ds.coords]
    ds = ds.reset_coords(named)
    each = {v: ds[v].expand_dims(step=[step]) for v in moving}
    return ds.drop_vars(moving).drop_vars("step", errors="ignore").assign(each).set_coords(named)


def require_all(datasets: Sequence[xr.Dataset], variables: Mapping[str, tuple[str, ...]]) -> list[xr.Dataset]:
    """`require` for every run, of which there must be at least one; all measured in one metric."""
    if not len(datasets):
        raise LandscapeError("expected at least one run to draw, found none. Train one: `landscape train`.")
    found = [require(ds, variables) for ds in datasets]
    for name in variables:
        said = {str(ds[name].attrs["units"]): ds for ds in found if "units" in ds[name].attrs and name != "step"}
        if len(said) > 1:
            each = " and ".join(f"{unit!r} in run {ds.attrs.get('run')!r}" for unit, ds in said.items())
            raise LandscapeError(f"expected {name!r} in one unit, found {each}. Draw one figure for each.")
    metrics = {str(ds.attrs["metric"]) for ds in found if "metric" in ds.attrs}
    if len(metrics) > 1:
        raise LandscapeError(
            f"expected results in one metric, found {', '.join(sorted(metrics))}. Draw one figure for each."
        )
    return found


def _loss_unit(ds: xr.Dataset) -> str | None:
    """The unit of the loss that units of a result are made of, None if none is."""
    every = " ".join(str(v.attrs.get("units", "")) for v in ds.variables.values())
    return next((unit for unit in _LOSSES if unit in every), None)


def by_arch(datasets: Sequence[xr.Dataset]) -> dict[str, list[xr.Dataset]]:
    """Runs of each architecture, in order of first appearance.

    Raises:
        LandscapeError: if tasks are mixed, or an architecture has a seed twice: their mean would mean nothing.
    """
    if len(tasks := {str(ds.attrs["task"]) or "(not known)" for ds in datasets}) > 1:
        raise LandscapeError(f"expected runs of one task, found {', '.join(sorted(tasks))}. Draw one figure per task.")
    groups: dict[str, list[xr.Dataset]] = {}
    for ds in datasets:
        group = groups.setdefault(str(ds.attrs["arch"]), [])
        for other in group:
            if int(other.attrs["run_seed"]) == int(ds.attrs["run_seed"]):
                raise LandscapeError(
                    f"expected {ds.attrs['arch']!r} runs with different seeds, found seed {ds.attrs['run_seed']} in "
                    f"{other.attrs['run']!r} and {ds.attrs['run']!r}. Draw one figure for each setting."
                )
        group.append(ds)
    return groups


def alike(group: Sequence[xr.Dataset], name: str) -> list[str]:
    """The values of a coordinate of text, which the seeds of one architecture must share.

    Raises:
        LandscapeError: if they do not, because their mean would mix different things.
    """
    own = [[str(v) for v in d[name].values] for d in group]
    for ds, other in zip(group, own, strict=True):
        if other != own[0]:
            raise LandscapeError(
                f"expected the same {name!r} in all seeds of {ds.attrs['arch']!r}, found {', '.join(own[0])} in run "
                f"{group[0].attrs['run']!r} and {', '.join(other)} in {ds.attrs['run']!r}. "
                "Measure the seeds alike, or draw one at a time."
            )
    return own[0]


def same(arrays: Sequence[NDArray[np.generic]]) -> bool:
    """Whether all arrays are equal."""
    return all(np.array_equal(a, arrays[0]) for a in arrays[1:])


def over_seeds(values: Sequence[Array], errors: Sequence[Array] | None = None) -> tuple[Array, Array, Array]:
    """Mean over seeds, and the range of value - error to value + error. Without a value in one seed, there is none.

    Example:
        >>> over_seeds([np.array([1.0, 2.0]), np.array([3.0, np.nan])])
        (array([ 2., nan]), array([ 1., nan]), array([ 3., nan]))
    """
    y = np.stack(values)
    e = np.zeros_like(y) if errors is None else np.stack(errors)
    with np.errstate(invalid="ignore"):  # inf - inf of diverged seeds is NaN, a hole like any other
        return y.mean(0), (y - e).min(0), (y + e).max(0)


def units(datasets: Sequence[xr.Dataset], name: str) -> str:
    """Units of a variable as an axis label shows them. They follow from the metric, which all runs share."""
    return shown_units(str(datasets[0][name].attrs.get("units", "units not stored")))


def loss_unit(datasets: Sequence[xr.Dataset]) -> str:
    """The unit of the loss, which all datasets share."""
    return next((said for ds in datasets if (said := _loss_unit(ds)) is not None), "unit not stored")


def shown_units(text: str, *, width: int = 31) -> str:
    r"""Units in the short form of labels, broken into lines of at most `width` characters.

    Example:
        >>> shown_units("nats per token per squared parameter unit"), shown_units("parameter units (Euclidean)")
        ('nats per token / parameter²', 'Euclidean parameter distance')
        >>> shown_units("squared filter norm per (nats per token)")
        'filter norm² /\n(nats per token)'
    """
    text = _DISTANCES.get(text, text)
    text = re.sub(r"squared (.+?)(?= per |$)", "\\1²", text).replace("parameter unit²", "parameter²")
    for loss in _LOSSES:
        text = text.replace(f"{loss} per ", f"{loss} / ")
    text = text.replace(" per (", " /\n(")
    return "\n".join(part for line in text.split("\n") for part in wrap(line, width, break_on_hyphens=False))


def unknown_error(values: Sequence[Array], errors: Sequence[Array]) -> bool:
    """Whether a value is known and its standard error is not, so that no band is drawn there."""
    return any(bool((np.isfinite(v) & ~np.isfinite(e)).any()) for v, e in zip(values, errors, strict=True))
