"""What came out of training over seeds: accuracy with intervals, cost, and differences paired by seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import stdtrit

from landscape.errors import LandscapeError
from landscape.settings import difference
from landscape.training.config import RunConfig

if TYPE_CHECKING:
    from landscape.runs.run import Run

__all__ = ["outcomes"]

LEVEL = 0.95
"""Of all intervals."""
_WHERE = ("device", "gradient")
"""Settings that do not change what is learned, but by rounding."""


def outcomes(runs: Sequence[Run], *, split: str = "test", against: str | None = None) -> xr.Dataset:
    r"""The end of training of every kind of run, over its seeds, and its difference from another kind.

    Runs are of one kind if their configs differ in nothing but the seed. Intervals are mean \pm t_{n-1} s / \sqrt n,
    with the standard deviation s over n seeds and the 97.5 % quantile t of Student's distribution: NaN for one seed.
    Differences and ratios are taken seed by seed first. An accuracy is that of the last step, of finished runs.

    Args:
        runs: finished runs of one task; others are left out, and counted in the attribute `left_out`.
        split: the samples to judge by.
        against: label of the kind that the others are compared with; None is `looped` if there is one such kind, else
            the first.

    Returns:
        Along `kind` (labels: the architecture, and the settings that tell kinds of one architecture apart, where they
        are not the defaults): `n_seeds`,
        and along `family` too `accuracy`, `loss`; `flops`, `seconds`; `accuracy_difference` (kind minus `against`),
        `flops_ratio`, `seconds_ratio`, with `n_pairs`. Every mean has its `_low` and `_high`.

    Raises:
        LandscapeError: if no run is finished, tasks differ, a kind has a seed twice, or `against` is no kind.

    Source:
        Definition of this project.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 2}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ds = outcomes([
        ...         train(RunConfig.make(arch=arch, seed=seed, **small), f"{folder}/{arch}{seed}")
        ...         for arch in ("single", "looped") for seed in (0, 1)
        ...     ])
        >>> ds.kind.values.tolist(), ds.n_pairs.values.tolist(), ds.attrs["against"]
        (['single', 'looped'], [2, 2], 'looped')
    """
    done = [run for run in runs if run.kind == "trained" and run.status == "complete"]
    if not done:
        raise LandscapeError(
            f"expected finished runs of `landscape train`, found none among {len(runs)}. Finish their training first."
        )
    tasks = {json.dumps(run.config.to_dict()["task"], sort_keys=True) for run in done}
    if len(tasks) > 1:
        raise LandscapeError(
            f"expected runs of one task with one set of settings, found {len(tasks)}. Compare one at a time."
        )
    kinds = _kinds(done)
    if against is None:
        against = "looped" if "looped" in kinds else next(iter(kinds))
    if against not in kinds:
        raise LandscapeError(f"expected one of the kinds {', '.join(map(repr, kinds))}, found {against!r}.")
    ends = {label: {s: _end(run, split) for s, run in found.items()} for label, found in kinds.items()}
    families = next(iter(ends[against].values()))["accuracy"].family.values
    parts = [_summary(found, ends[against]) for found in ends.values()]
    names = list(dict.fromkeys(str(n) for part in parts for n in part))
    data = {n: (("kind", "family") if parts[0][n].ndim else ("kind",), np.stack([p[n] for p in parts])) for n in names}
    ds = xr.Dataset(data, coords={"kind": list(kinds), "family": families})
    for name in ds.data_vars:
        ds[name].attrs.update(units=_units(str(name), done[0].loss_units), long_name=str(name).replace("_", " "))
    return ds.assign_attrs(against=against, split=split, level=LEVEL, left_out=len(runs) - len(done))


def _kinds(runs: Sequence[Run]) -> dict[str, dict[int, Run]]:
    """Label -> seed -> run."""
    groups: dict[str, dict[int, Run]] = {}
    configs: dict[str, dict[str, Any]] = {}
    for run in runs:
        config = run.config.to_dict()
        seed = config.pop("seed")
        for name in _WHERE:
            config.pop(name)
        if config["origin"] is not None:
            config["origin"] = {"step": config["origin"]["step"]}
        key = json.dumps(config, sort_keys=True)
        configs[key] = config
        if seed in groups.setdefault(key, {}):
            raise LandscapeError(
                f"{run.path} and {groups[key][seed].path} are the same run: seed {seed} counts once. Name one of them."
            )
        groups[key][seed] = run
    labels = {}
    for key, config in configs.items():
        others = [c for k, c in configs.items() if k != key and c["arch"] == config["arch"]]
        apart = sorted({name for other in others for name, _, _ in difference(config, other)})
        plain = RunConfig.make(arch=config["arch"]).to_dict()
        told = {name: _value(config, name) for name in apart if _value(config, name) != _value(plain, name)}
        said = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in told.items())
        labels[key] = f"{config['arch']} ({said or 'defaults'})" if apart else config["arch"]
    if len(set(labels.values())) < len(labels):  # one name in several groups of settings
        labels = {key: f"{label} #{i + 1}" for i, (key, label) in enumerate(labels.items())}
    return {labels[key]: found for key, found in groups.items()}


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = None if config is None else config.get(part)
    return config


def _end(run: Run, split: str) -> dict[str, Any]:
    last = run.metrics.isel(step=-1)
    if split not in last.split.values:
        raise LandscapeError(f"expected a split among {', '.join(map(str, last.split.values))}, found {split!r}.")
    here = last.sel(split=split)
    return {n: here[n] for n in ("accuracy", "loss", "flops", "seconds")}


def _summary(ends: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """All numbers of one kind."""
    out: dict[str, NDArray[Any]] = {"n_seeds": np.array(len(ends))}
    for name in ("accuracy", "loss", "flops", "seconds"):
        out |= _interval(name, [end[name].values for end in ends.values()])
    pairs = [(ends[s], base[s]) for s in ends if s in base]
    out["n_pairs"] = np.array(len(pairs))
    for name in ("accuracy", "loss"):
        shape = next(iter(ends.values()))[name].shape
        out |= _interval(
            f"{name}_difference", [(a[name] - b[name]).values for a, b in pairs] or [np.full(shape, np.nan)]
        )
    for name in ("flops", "seconds"):
        out |= _interval(f"{name}_ratio", [(a[name] / b[name]).values for a, b in pairs] or [np.array(np.nan)])
    return out


def _interval(name: str, values: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    x = np.stack([np.asarray(v, dtype=np.float64) for v in values])
    n, mean = len(x), x.mean(0)
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * x.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full_like(mean, np.nan)
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def _units(name: str, loss: str) -> str:
    if name.startswith("loss"):
        return loss
    return {"flops": "FLOP", "seconds": "s"}.get(name.removesuffix("_low").removesuffix("_high"), "1")
