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
    "Array",
    "alike",
    "by_arch",
    "count",
    "over_seeds",
    "require",
    "require_all",
    "same",
    "shown_units",
    "units",
    "unknown_error",
]

Array = NDArray[np.float64]

_DISTANCES = {
    "parameter units (Euclidean)": "Euclidean parameter distance",
    "parameter units": "parameter distance",
}
_ATTRS = ("run", "arch", "task", "run_seed")


def require(ds: xr.Dataset, variables: Mapping[str, tuple[str, ...]]) -> xr.Dataset:
    """The named variables of a dataset, each with its dimensions in the order asked for.

    Args:
        ds: the result of one run.
        variables: dimensions of each variable or coordinate that a figure draws.

    Raises:
        LandscapeError: if an attribute, a variable or a dimension is missing, or steps do not increase.

    Example:
        >>> attrs = dict(run="r", arch="single", task="markov", run_seed=0)
        >>> ds = xr.Dataset({"loss": (("b", "a"), [[1.0, 2.0]])}, attrs=attrs)
        >>> require(ds, {"loss": ("a", "b")})["loss"].shape
        (2, 1)
    """
    name = f"the {ds.attrs.get('probe', 'unnamed')!r} result of run {ds.attrs.get('run', '(no name)')!r}"
    if absent := [a for a in _ATTRS if a not in ds.attrs]:
        raise LandscapeError(
            f"expected the attributes {', '.join(_ATTRS)} on {name}, found no {', '.join(absent)}. "
            "Open results through the run that they belong to, or set the attributes."
        )
    if absent := [v for v in variables if v not in ds.variables]:
        raise LandscapeError(
            f"expected the variables {', '.join(variables)} in {name}, found no {', '.join(absent)}; it holds "
            f"{', '.join(map(str, ds.variables)) or 'nothing'}. "
            "Is it the result of another probe? `landscape.figures.FIGURES` names the right one."
        )
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


def require_all(datasets: Sequence[xr.Dataset], variables: Mapping[str, tuple[str, ...]]) -> list[xr.Dataset]:
    """`require` for every run, of which there must be at least one; all measured in one metric."""
    if not len(datasets):
        raise LandscapeError("expected at least one run to draw, found none. Train one: `landscape train`.")
    found = [require(ds, variables) for ds in datasets]
    metrics = {str(ds.attrs["metric"]) for ds in found if "metric" in ds.attrs}
    if len(metrics) > 1:
        raise LandscapeError(
            f"expected results in one metric, found {', '.join(sorted(metrics))}. Draw one figure for each."
        )
    return found


def by_arch(datasets: Sequence[xr.Dataset]) -> dict[str, list[xr.Dataset]]:
    """Runs of each architecture, in order of first appearance.

    Raises:
        LandscapeError: if tasks are mixed, or an architecture has a seed twice: their mean would mean nothing.
    """
    if len(tasks := {str(ds.attrs["task"]) for ds in datasets}) > 1:
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


def count(group: Sequence[xr.Dataset]) -> str:
    """``"1 seed"`` or ``"3 seeds"``."""
    return f"{len(group)} seed{'s' if len(group) > 1 else ''}"


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
    text = text.replace("nats per token per ", "nats per token / ").replace(" per (", " /\n(")
    return "\n".join(part for line in text.split("\n") for part in wrap(line, width, break_on_hyphens=False))


def unknown_error(values: Sequence[Array], errors: Sequence[Array]) -> bool:
    """Whether a value is known and its standard error is not, so that no band is drawn there."""
    return any(bool((np.isfinite(v) & ~np.isfinite(e)).any()) for v, e in zip(values, errors, strict=True))
