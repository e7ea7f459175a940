"""Two runs, or two groups of runs, side by side: at the same step, the same loss, or the same compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.runs.run import Run
from landscape.studies.abscissa import LABELS, Abscissa, abscissa
from landscape.studies.dominance import dominance, interpolate, with_dominance
from landscape.studies.study import Study

__all__ = ["Abscissa", "abscissa", "compare", "dominance", "interpolate"]

Array = NDArray[np.float64]

_SIDES = ("a", "b")
_MEANINGLESS = {
    "density": ("node", "weight", "count"),
    "hopping": ("coefficient", "position"),
    "valley": ("slope", "floor"),
}
"""Variables of a probe whose index, or whose sign along an eigenvector, is arbitrary in every run."""
_AT_CHECKPOINT = ("curvature", "quadratic_half_width", "eigen_residual")
"""Variables of the probe `valley` that do not depend on where the floor is."""


def compare(
    a: Study,
    b: Study,
    *,
    probe: str,
    at: Abscissa = "step",
    points: int = 100,
    taus: Sequence[float] | None = None,
    metric: str | None = None,
    by_seed: bool = False,
) -> xr.Dataset:
    """Stored results of a probe of two runs, or of two groups of runs with the same seeds, on a common abscissa.

    Between checkpoints values are interpolated linearly in the abscissa; beyond the range of a run there is none (NaN).
    Values that did not converge or were censored are left out before; what has no meaning across runs (a quadrature
    node, the sign of an eigenvector) is not compared. The result's attributes `interpolation` and `note` say what was
    done, and how much was left out. With at="step" the abscissa are the steps that all runs have, and nothing is
    interpolated; if there are none, and with "loss" and "flops", it is all values at the checkpoints of any run,
    thinned evenly to `points`.

    Args:
        a: one run, or runs of one architecture that differ in their seeds.
        b: likewise, with the same seeds; a single run may have any seed.
        probe: of which every run has a stored result with the same settings.
        at: "step"; "loss", of the probe split, see `abscissa`; or "flops".
        points: most values of the abscissa.
        taus: thresholds of `dominance`, of results with all eigenvalues; None takes those of the result, if it has any.
        metric: of the results, as in `Study.results`.
        by_seed: every pair of seeds for itself: all variables have a leading axis `seed` in place of standard errors
            over seeds.

    Returns:
        For every variable NAME: NAME_a, NAME_b (means over seeds), NAME_difference (mean of b - a over pairs of the
        same seed), and NAME_a_stderr, ... : over seeds; for one run a side, from the probe's own standard errors. That
        of a difference of single runs is sqrt(s_a^2 + s_b^2), as if the two errors were independent. They are not
        where both runs were probed with the same random vectors (one seed, the same number of parameters): it is then
        too large if the errors go together, and too small if they go against each other; at most by a factor of
        sqrt(2) in the second case.
        With all eigenvalues stored: `count_below_a`, `count_below_b`, `count_below_difference`, `dominance_fraction`
        and `dominance_ranks` per threshold `tau`. Coordinate `at`, in the order of training.

    Raises:
        LandscapeError: if results are missing or have no steps, tasks differ, seeds do not pair up, thresholds are
            given for results without all eigenvalues, or nothing can be compared.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 2}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for arch in ("single", "looped"):
        ...         _ = sweep("entropy", train(RunConfig.make(arch=arch, **small), f"{folder}/{arch}"), seed=0)
        ...     a, b = Study.open([f"{folder}/single"]), Study.open([f"{folder}/looped"])
        ...     ds = compare(a, b, probe="entropy")
        >>> ds.step.values.tolist(), "entropy_difference" in ds, ds.attrs["interpolation"]
        ([0, 1, 2], True, 'none: steps that all runs have')
    """
    if at not in get_args(Abscissa):
        raise LandscapeError(f"expected at to be one of {', '.join(get_args(Abscissa))}, found {at!r}.")
    if points < 2:
        raise LandscapeError(f"expected at least 2 points, found {points}.")
    # One study of all runs, a's before b's, so that every result answers the same question with the same settings.
    sides = _paired(a, b)
    runs = [*sides[0], *sides[1]]
    results = Study(runs).results(probe, metric=metric)
    if len(tasks := sorted({str(ds.attrs.get("task", "(not known)")) for ds in results})) > 1:
        raise LandscapeError(f"expected runs of one task, found {', '.join(tasks)}. Losses of two tasks are not alike.")
    if not all("step" in ds.dims for ds in results):
        raise LandscapeError(f"expected results over training steps, found none in those of {probe!r}.")
    # Every run has its own place on the abscissa at each of its checkpoints; the grid is what they are brought to.
    where = [abscissa(run, ds["step"].values, at) for run, ds in zip(runs, results, strict=True)]
    where, results, unknown = _placed(where, results)
    grid, how = _grid(where, at, points)
    n = len(sides[0])
    # Masked before they are interpolated: a number that is not believed would spread to both sides of its checkpoint.
    names, notes = _names(results, probe)
    notes += [f"{unknown} checkpoints left out: their {at} was not measured"] if unknown else []
    results, masked = _believed(results, names)
    steps = set(np.concatenate(where).tolist())
    if at == "step" and len(steps) > len(grid):
        notes.append(f"{len(steps) - len(grid)} of {len(steps)} steps left out")
    notes += masked
    values: dict[str, Any] = {}
    for name in names:
        pair = [
            np.stack([interpolate(x, ds[name].values, grid) for x, ds in zip(where[s], results[s], strict=True)])
            for s in (slice(0, n), slice(n, None))
        ]
        values |= _three(name, pair, results[0][name], at)
    coords = _coordinates(results[0], values, at, grid)
    if at == "loss":
        coords[at][2]["units"] = runs[0].loss_units
    seeds = [-1 if run.seed is None else run.seed for run in sides[0]]
    coords["seed"] = ("seed", seeds, {"units": "1", "long_name": "seed of run a, -1 where it is not known"})
    # Eigenvalues are no such variable: they are compared rank by rank, whatever P is on either side.
    located = list(zip(where, results, strict=True))
    both, note = with_dominance(xr.Dataset(values, coords), located[:n], located[n:], grid, at, taus)
    if not both.data_vars:
        raise LandscapeError(f"results of {probe!r} have no variable of numbers over training steps in common.")
    both = both.assign_attrs(_attributes(results, n, probe, at, how, [*notes, *note]))
    return both if by_seed else _averaged(both)


def _averaged(both: xr.Dataset) -> xr.Dataset:
    """Means over seeds with their standard errors; of one pair, the errors of the probe itself."""
    n = both.sizes["seed"]
    values: dict[str, Any] = {}
    for name, variable in both.data_vars.items():
        if str(name).endswith("_stderr"):
            continue
        mean = variable.mean("seed", skipna=False)
        own = both.get(f"{name}_stderr")
        error = variable.std("seed", ddof=1, skipna=False) / np.sqrt(n) if n > 1 else _one(mean, own)
        long_name = variable.attrs["long_name"]
        kind = f"over {n} seeds" if n > 1 else "from the probe's own"
        values[str(name)] = mean.assign_attrs(variable.attrs)
        values[f"{name}_stderr"] = error.assign_attrs(
            units=variable.attrs["units"], long_name=f"standard error {kind}: {long_name}"
        )
    return xr.Dataset(values, attrs={**both.attrs, "n_seeds": n})


def _one(mean: xr.DataArray, own: xr.DataArray | None) -> xr.DataArray:
    return xr.full_like(mean, np.nan) if own is None else own.isel(seed=0, drop=True)


def _coordinates(like: xr.Dataset, values: dict[str, Any], at: Abscissa, grid: Array) -> dict[str, Any]:
    """Those of the result that a value still has, and the abscissa."""
    kept = set().union(*(value[0] for value in values.values()))
    coords: dict[str, Any] = {str(c): v for c, v in like.coords.items() if "step" not in v.dims and set(v.dims) & kept}
    return coords | {at: (at, grid, dict(zip(("units", "long_name"), LABELS[at], strict=True)))}


def _three(name: str, pair: Sequence[Array], like: xr.DataArray, at: str) -> dict[str, Any]:
    """The entries of one variable: both sides and their difference."""
    dims = ("seed", at, *(d for d in like.dims if d != "step"))
    units, long_name = str(like.attrs.get("units", "")), str(like.attrs.get("long_name", name))
    base, error = (name.removesuffix("_stderr"), "_stderr") if name.endswith("_stderr") else (name, "")
    # Interpolated linearly an error is an upper bound, however the errors of two checkpoints hang together. The sum of
    # squares is right for independent errors only. Equal seeds draw equal random vectors where the number of parameters
    # is equal: errors that then go together make it too large, which is usual, opposite ones too small.
    difference = np.hypot(*pair) if error else pair[1] - pair[0]
    three = dict(zip((*_SIDES, "difference"), (*pair, difference), strict=True))
    note = {"a": "a", "b": "b", "difference": "b minus a"}
    return {
        f"{base}_{s}{error}": (dims, v, {"units": units, "long_name": f"{note[s]}: {long_name}"})
        for s, v in three.items()
    }


def _paired(a: Study, b: Study) -> tuple[list[Run], list[Run]]:
    """The runs of both sides in the order of their seeds, which must be the same; or one run each."""
    sides = [sorted(study, key=lambda run: -1 if run.seed is None else run.seed) for study in (a, b)]
    if all(len(side) == 1 for side in sides):
        return sides[0], sides[1]
    seeds = [[run.seed for run in side] for side in sides]
    if any(seed is None for side in seeds for seed in side):
        raise LandscapeError(
            "expected runs whose seeds are known, to pair them, found one without. Compare single runs, or record the "
            'seed: config={"seed": ...}.'
        )
    if seeds[0] != seeds[1] or len(set(seeds[0])) < len(seeds[0]):
        raise LandscapeError(
            "expected two runs, or two groups of runs with the same seeds, each seed once; found seeds "
            f"{', '.join(map(str, seeds[0]))} in a and {', '.join(map(str, seeds[1]))} in b. "
            "Name the runs of each group by a folder that holds no others."
        )
    return sides[0], sides[1]


def _placed(where: Sequence[Array], results: Sequence[xr.Dataset]) -> tuple[list[Array], list[xr.Dataset], int]:
    """The checkpoints whose place is known, and how many others there were."""
    known = [np.flatnonzero(~np.isnan(x)) for x in where]
    found = [ds.isel(step=i) for ds, i in zip(results, known, strict=True)]
    return [x[i] for x, i in zip(where, known, strict=True)], found, sum(map(len, where)) - sum(map(len, known))


def _grid(where: Sequence[Array], at: Abscissa, points: int) -> tuple[Array, str]:
    """The common abscissa in the order of training, and how values come to it."""
    if at == "step":
        common = sorted(set.intersection(*(set(map(int, x)) for x in where)))
        if common:
            return np.array(common), "none: steps that all runs have"
    knots = np.unique(np.concatenate(where))
    knots = knots[np.isfinite(knots)]
    if len(knots) > points:
        knots = knots[np.unique(np.linspace(0, len(knots) - 1, points).round().astype(int))]
    how = {
        "step": "linear in the step",
        "loss": "linear in the probe loss, of which the running minimum over the checkpoints is taken; where it does "
        "not fall, the first checkpoint that reached it counts",
        "flops": "linear in the FLOPs of training",
    }[at]
    return (knots[::-1] if at == "loss" else knots), f"{how}; NaN beyond the range of a run, never extrapolated"


def _names(results: Sequence[xr.Dataset], probe: str) -> tuple[list[str], list[str]]:
    """Variables that can be brought together, and what is said of the others."""
    names, notes = [], []
    ends = {f"{str(n)[:-6]}{end}" for n in results[0] if str(n).endswith("_stderr") for end in ("low", "high")}
    for name, variable in results[0].data_vars.items():
        if name in ends or variable.dtype.kind != "f" or variable.dims[:1] != ("step",) or "parameter" in variable.dims:
            continue
        if name in _MEANINGLESS.get(probe, ()):
            notes.append(f"{name} left out: its index or sign means nothing across runs")
        elif all(name in ds and ds[name].shape[1:] == variable.shape[1:] for ds in results):
            names.append(str(name))
        elif name != "eigenvalue":
            notes.append(f"{name} left out: its axes differ between the runs")
    return names, notes


def _believed(results: Sequence[xr.Dataset], names: Sequence[str]) -> tuple[list[xr.Dataset], list[str]]:
    """The results with NaN where a flag says that a value is not to be believed, and how many these are."""
    out, counts = [], dict.fromkeys(names, np.zeros(2, dtype=int))
    for ds in results:
        values = {}
        for name in names:
            doubt = xr.zeros_like(ds[name], dtype=bool)
            for flag, good in _flags(name):
                if flag in ds and set(ds[flag].dims) <= set(ds[name].dims):
                    doubt = doubt | (ds[flag].astype(bool) != good)
            doubt = doubt.transpose(*ds[name].dims)
            counts[name] = counts[name] + [int((doubt & ds[name].notnull()).sum()), int(ds[name].notnull().sum())]
            values[name] = ds[name].where(~doubt)
        out.append(ds.assign(values))
    said: dict[tuple[int, int], list[str]] = {}
    for name, (bad, known) in counts.items():
        if bad and not name.endswith("_stderr"):
            said.setdefault((int(bad), int(known)), []).append(name)
    return out, [f"{n} of {m} values left out, censored or not converged: {', '.join(v)}" for (n, m), v in said.items()]


def _flags(name: str) -> list[tuple[str, bool]]:
    """Names of flags that a variable depends on, and their value where it is to be believed."""
    base = name.removesuffix("_stderr")
    end = base.rpartition("_")[2]
    flags = [("converged", True), (f"converged_{end}", True), ("censored", False)]
    return flags if base in _AT_CHECKPOINT else [*flags, ("floor_converged", True)]


def _attributes(
    results: Sequence[xr.Dataset], n: int, probe: str, at: str, how: str, notes: Sequence[str]
) -> dict[str, Any]:
    sides = dict(zip(_SIDES, (results[:n], results[n:]), strict=True))
    out: dict[str, Any] = {"probe": "comparison", "of": probe, "at": at, "interpolation": how}
    for side, group in sides.items():
        out[f"arch_{side}"] = ", ".join(dict.fromkeys(str(ds.attrs.get("arch", ds.attrs["run"])) for ds in group))
        out[f"runs_{side}"] = ", ".join(str(ds.attrs["run"]) for ds in group)
    first = results[0].attrs
    out |= {"task": first["task"]} if "task" in first else {}
    out |= {"metric": first.get("metric", "none"), "settings": first["settings"]}
    return out | {"note": "; ".join(notes) or "none"}
