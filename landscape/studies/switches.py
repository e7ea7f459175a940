"""What runs that shift say: when they switched, what it cost, and when other thresholds would have switched."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.runs.reading import committed, open_for_reading
from landscape.training.passes import model_passes
from landscape.training.shift import CHECKED, plateau

if TYPE_CHECKING:
    from landscape.runs.run import Run

__all__ = ["shift_record", "shift_records", "switch_steps"]

_BOTH = ("split", "family")
_SCALARS = {
    "switch_step": ("1", "step of the switch; -1: none so far"),
    "final_step": ("1", "last step that was evaluated"),
    "final_loops": ("1", "loops at the last step"),
    "flops": ("FLOP", "floating-point operations of training, matrix products only"),
    "flops_before": ("FLOP", "of these, before the switch"),
    "seconds": ("s", "training time"),
    "tokens": ("tokens", "scored training tokens"),
}
_VALUES = {
    "accuracy_before": ("1", "accuracy at the switch with one pass"),
    "accuracy_after": ("1", "accuracy just after the switch, at the same parameters"),
    "accuracy_drop": ("1", "accuracy lost by the switch"),
    "loss_before": ("nats per token", "loss at the switch with one pass"),
    "loss_after": ("nats per token", "loss just after the switch, at the same parameters"),
    "recovery": ("steps", "from the switch until the accuracy is back where it was"),
    "accuracy_final": ("1", "accuracy at the last step"),
    "loss_final": ("nats per token", "loss at the last step"),
}


def shift_record(run: Run) -> xr.Dataset:
    """The checks of a run, its switch, the drop in accuracy there, and how long it took to recover.

    `accuracy_drop` is the accuracy with one pass minus that of the model after the switch, at the same parameters:
    T loops, or as many and as much of them as the `shift.mode` begins with; 0 for a ramp and a gate. `recovery`
    is the number of steps from there to the first evaluation at which the accuracy is at least what it was with one
    pass; 0 if nothing was lost, NaN with `recovered` False if it was not reached. Just after the switch the evaluations
    are 1, 2, 4, .. steps apart.

    Args:
        run: a run of any architecture; one that does not shift has no checks and no switch. The architecture's own
            accuracy and compute are there to compare with.

    Returns:
        Dataset with dim `check` (coordinate `check_step`): the columns of `landscape.training.shift.CHECKED`; scalars
        `switch_step`, `final_step`, `final_loops`, `flops`, `flops_before`, `seconds`, `tokens`; over (split, family)
        accuracies and losses, `recovery`, `recovered`. Attributes `delta1`, `delta2`, `patience`, .. are the settings.

    Raises:
        LandscapeError: if the run has not been evaluated yet.

    Source:
        Definition of this project; the paper gives none.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> config = RunConfig.make(arch="shift", shift={"criterion": "fixed", "at": 2, "check_every": 1}, **small)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record = shift_record(train(config, folder))
        >>> int(record.switch_step), record.loops.values.tolist()
        (2, [1.0, 3.0])
    """
    metrics = run.metrics
    if not metrics.sizes["step"]:
        raise LandscapeError(f"{run.path} has no metrics yet: its training has only just begun.")
    checks, before = _stored(run)
    switch = int(before["step"][0]) if len(before.get("step", ())) else -1
    last = metrics.isel(step=-1)
    loops = model_passes(run.config, int(last.step), switch).loops
    scalars = {
        "switch_step": switch, "final_step": int(last.step), "final_loops": loops,
        "flops_before": float(before["flops"][0]) if switch >= 0 else np.nan,
        **{n: float(last[n]) for n in ("flops", "seconds", "tokens")},
    }  # fmt: skip
    values = _around(metrics, switch, before)
    ds = xr.Dataset(
        {n: ("check", checks[n] if checks else np.empty(0), _about(about)) for n, about in CHECKED.items()}
        | {n: ((), scalars[n], _about(about)) for n, about in _SCALARS.items()}
        | {n: (_BOTH, values[n], _about(about)) for n, about in _VALUES.items()}
        | {"recovered": (_BOTH, np.isfinite(values["recovery"]), _about(("1", "the accuracy came back")))},
        coords={
            "check_step": ("check", checks["step"] if checks else np.empty(0, np.int64)),
            **{n: metrics[n].values for n in _BOTH},
        },
        attrs=run.attributes("shift"),
    )
    for variable in ds.data_vars.values():
        variable.attrs["units"] = variable.attrs["units"].replace("nats per token", run.loss_units)
    settings = {} if run.config.shift is None else dataclasses.asdict(run.config.shift)
    return ds.assign_attrs({n: int(v) if isinstance(v, bool) else v for n, v in settings.items() if v is not None})


def shift_records(runs: Sequence[Run]) -> list[xr.Dataset]:
    """`shift_record` of all runs of `landscape train`, among which at least one shifts.

    Raises:
        LandscapeError: if none shifts.
    """
    if not any(run.kind == "trained" and run.config.shift is not None for run in runs):
        raise LandscapeError("expected at least one run that shifts, found none. Train one with `--arch shift`.")
    return [shift_record(run) for run in runs if run.kind == "trained"]


def switch_steps(
    record: xr.Dataset, *, delta1: Sequence[float], delta2: Sequence[float], patience: Sequence[int]
) -> xr.Dataset:
    """The step at which a run would have switched with other thresholds, from the checks that it stored.

    Up to the run's own switch the thresholds change nothing, so this is exact; what would have come later is censored.
    A run with the criterion "never" answers for every threshold.

    Args:
        record: from `shift_record`.
        delta1: grid of thresholds of the relative improvement of the loss.
        delta2: grid of thresholds of the relative change of the gradient norm.
        patience: grid of W.

    Returns:
        Dataset over (delta1, delta2, patience): `switch_step`, NaN if it does not switch within the stored checks;
        `censored`, true where it does not and the run's own switch ended the checks.

    Raises:
        LandscapeError: if the record has no checks.

    Source:
        Definition of this project; the paper gives none.

    Example:
        >>> checks = {"loss": ("check", [2.0, 1.0, 1.0, 1.0]), "gradient_norm": ("check", [1.0] * 4)}
        >>> record = xr.Dataset(checks | {"switch_step": -1}, {"check_step": ("check", [10, 20, 30, 40])})
        >>> switch_steps(record, delta1=[0.01, 0.6], delta2=[0.1], patience=[2]).switch_step.values.ravel().tolist()
        [40.0, 30.0]
    """
    if not record.sizes.get("check"):
        raise LandscapeError("expected the record of a run that shifts, with its checks, found none in it.")
    steps, loss, norm = (record[n].values for n in ("check_step", "loss", "gradient_norm"))
    found = np.full((len(delta1), len(delta2), len(patience)), np.nan)
    for i, j, k in np.ndindex(*found.shape):
        at = plateau(loss, norm, delta1=delta1[i], delta2=delta2[j], patience=patience[k])
        found[i, j, k] = steps[at] if at >= 0 else np.nan
    dims = ("delta1", "delta2", "patience")
    censored = np.isnan(found) & (int(record["switch_step"]) >= 0)
    return xr.Dataset(
        {
            "switch_step": (dims, found, _about(("1", "step of the switch with these thresholds"))),
            "censored": (dims, censored, _about(("1", "the run itself switched before this would have"))),
        },
        coords={"delta1": list(delta1), "delta2": list(delta2), "patience": list(patience)},
        attrs=record.attrs,
    )


def _stored(run: Run) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Columns of the checks, and of the metrics with one pass at the switch; empty where there is no such group."""
    with open_for_reading(run.path / "run.h5") as f:
        groups = [f.get(name) for name in ("checks", "switch")]
        first, second = (
            {} if g is None else {name: np.asarray(data[: committed(g)]) for name, data in g.items()} for g in groups
        )
    return first, second


def _around(metrics: xr.Dataset, switch: int, before: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Accuracy and loss on both sides of the switch, and at the end, over (split, family)."""
    nothing = np.full((metrics.sizes["split"], metrics.sizes["family"]), np.nan)
    out = dict.fromkeys(_VALUES, nothing)
    for name in ("accuracy", "loss"):
        out[f"{name}_final"] = metrics[name].isel(step=-1).values
    reached = metrics.sel(step=metrics.step >= switch)
    if switch < 0 or not reached.sizes["step"]:
        return out
    for name in ("accuracy", "loss"):
        out[f"{name}_before"] = before[name][0]
        out[f"{name}_after"] = reached[name].values[0]
    out["accuracy_drop"] = out["accuracy_before"] - out["accuracy_after"]
    back = reached.accuracy.values >= out["accuracy_before"]
    first = reached.step.values[back.argmax(0)] - switch
    return out | {"recovery": np.where(back.any(0), first.astype(float), np.nan)}


def _about(about: tuple[str, str]) -> dict[str, str]:
    return {"units": about[0], "long_name": about[1]}
