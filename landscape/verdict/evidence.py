"""Rows of evidence: the numbers of all seeds for one quantity in one metric at one threshold, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import LandscapeError
from landscape.verdict.groups import Kind
from landscape.verdict.quantity import Quantity
from landscape.verdict.rule import DECISION_LEVEL, LEVEL, interval, seeds_needed, side
from landscape.verdict.stored import OWN, Answer, Subject, agreed

__all__ = ["Evidence", "Row", "evidence"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity in one metric at one threshold.

    Attributes:
        metric: of curvatures, "none" where there is none.
        threshold: what was scanned, "" if nothing.
        step: training step of the checkpoint; None where the number is about the whole run.
        seeds: that have the number, ascending.
        values: theirs, in the quantity's unit.
        missing: seeds of the pair that do not have it.
        mean: over seeds.
        sd: standard deviation over seeds.
        low: lower end of the 95 % interval of the mean.
        high: upper end.
        decision_low: lower end of the interval that decides.
        decision_high: upper end.
        effect: (mean - margin) / sd, positive on the claimed side.
        effect_low: lower end of the 95 % interval in the same measure.
        effect_high: upper end.
        side: 1 claimed, -1 the other, 0 neither.
        seeds_needed: to decide this row with a chance of 0.8, None if no number would do.
    """

    metric: str
    threshold: str
    step: int | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    missing: tuple[int, ...]
    mean: float
    sd: float
    low: float
    high: float
    decision_low: float
    decision_high: float
    effect: float
    effect_low: float
    effect_high: float
    side: int
    seeds_needed: int | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found for a quantity of a pair.

    Attributes:
        quantity: which.
        rows: per metric and threshold.
        metrics: in which it was answered.
        settings: per metric, of the answers that were read.
        notes: what is missing or differs, run by run.
        ask: what would answer what is not; "" if nothing is lacking.
    """

    quantity: Quantity
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    settings: tuple[str, ...]
    notes: tuple[str, ...]
    ask: str

    @property
    def answered(self) -> bool:
        """In as many metrics as it takes to support a claim."""
        return len({row.metric for row in self.rows}) >= self.quantity.fewest

    @property
    def sides(self) -> list[int]:
        """Of the rows; with a 0 for what was not answered."""
        return [row.side for row in self.rows] + [0] * (bool(self.rows) and not self.answered)


def evidence(quantity: Quantity, a: Kind, b: Kind, *, seed: int, names: Sequence[str] = ()) -> Evidence:
    """The rows of a quantity for two kinds of training.

    Args:
        quantity: which.
        a: the training that is claimed to differ.
        b: the other.
        seed: of the resampling.
        names: variables to read at once, for other quantities too.
    """
    needed = {"both": (a, b), "A": (a,), "B": (b,)}[quantity.of]
    seeds = sorted(set.intersection(*(set(kind.runs) for kind in needed)))
    rows: list[Row] = []
    notes: list[str] = []
    asked: dict[str, str] = {}
    for metric in quantity.metrics:
        runs = [kind.runs[s] for kind in needed for s in seeds]
        found, settings, said = agreed(runs, quantity.probe, metric)
        notes += said if found or metric == quantity.metrics[0] else []
        if not found:
            continue
        numbers: dict[int, xr.DataArray] = {}
        for s in seeds:
            pair = [found.get(kind.runs[s].id) for kind in needed]
            if any(answer is None for answer in pair):
                continue
            number = _number(quantity, [answer for answer in pair if answer is not None], names or quantity.variables)
            if isinstance(number, str):
                notes.append(number)
            else:
                numbers[s] = number
        if numbers:
            asked[metric] = settings
            made, said = _rows(quantity, metric, numbers, seeds, seed=seed)
            rows += made
            notes += said
    lacking = [m for m in quantity.metrics if m not in asked]
    few = len(asked) < quantity.fewest
    return Evidence(
        quantity=quantity, rows=tuple(rows), metrics=tuple(asked), settings=tuple(asked.values()),
        notes=tuple(dict.fromkeys(notes)), ask=_ask(quantity, lacking) if few else "",
    )  # fmt: skip


def _ask(quantity: Quantity, lacking: Sequence[str]) -> str:
    """The command that answers."""
    if quantity.probe == "projection":
        return "landscape train --from RUN@STEP --set projection.subspace=river, and likewise valley"
    if quantity.probe == "decay":
        return "landscape train --from RUN@STEP --decay-branch N"
    if quantity.probe in OWN:
        return "landscape train"
    said = "".join(f" --metric {m}" for m in lacking if m != "none")
    return f"landscape probe RUNS -p {quantity.probe}{said}"


def _number(quantity: Quantity, pair: Sequence[tuple[Subject, Answer]], variables: Sequence[str]) -> xr.DataArray | str:
    """The number of one seed, or why there is none."""
    names = " and ".join(run.name for run, _ in pair)
    try:
        datasets = [run.read(quantity.probe, answer, variables) for run, answer in pair]
        number = quantity.read(datasets[0], datasets[-1])
    except LandscapeError as error:
        return f"{names}: {error}"
    except (AttributeError, KeyError) as error:  # a run of another's loop may have recorded something else
        return f"{names}: no {quantity.name}, {quantity.probe} holds no {error}"
    return number.where(np.isfinite(number))


def _rows(
    quantity: Quantity, metric: str, numbers: dict[int, xr.DataArray], seeds: Sequence[int], *, seed: int
) -> tuple[list[Row], list[str]]:
    """One row per threshold, at the last step that most seeds have a number at."""
    plain = [n.drop_vars([c for c in n.coords if c not in n.dims]) for n in numbers.values()]
    table = xr.concat(plain, dim="seed", join="inner", coords="minimal", compat="override")
    table = table.assign_coords(seed=list(numbers))
    step, notes = None, []
    if "step" in table.dims:
        if not table.sizes["step"]:
            return [], [f"{quantity.name}: no step that all seeds have"]
        here = np.isfinite(table.transpose("seed", "step", ...).values)
        known = here.reshape(*here.shape[:2], -1).any(2).sum(0)
        at = int(np.flatnonzero(known == known.max())[-1])
        step, table = int(table.step[at]), table.isel(step=at, drop=True)
    axes = [str(d) for d in table.dims if d != "seed"]
    flat = table.transpose("seed", *axes).values.reshape(table.sizes["seed"], -1)
    labels = _thresholds(table, axes)
    empty = [label for label, column in zip(labels, flat.T, strict=True) if not np.isfinite(column).any()]
    if empty:
        where = f" at {len(empty)} of {len(labels)} thresholds, such as {empty[0]}" if empty != [""] else ""
        notes.append(f"{quantity.name}{'' if metric == 'none' else f' [{metric}]'}: no seed has a number{where}")
    there = [(label, column) for label, column in zip(labels, flat.T, strict=True) if np.isfinite(column).any()]
    having = np.array(list(numbers))
    rows = []
    for (label, column), ends in zip(there, _intervals([c for _, c in there], seed=seed), strict=True):
        rows.append(_row(quantity, metric, label, step, having, column, seeds, ends))
    return rows, notes


def _intervals(columns: Sequence[NDArray[np.float64]], *, seed: int) -> list[NDArray[np.float64]]:
    """Of the finite numbers of each column, those with equally many together; (2 levels, 2 ends) each."""
    out: dict[int, NDArray[np.float64]] = {}
    sizes = [int(np.isfinite(c).sum()) for c in columns]
    for n in set(sizes):
        rows = [i for i, size in enumerate(sizes) if size == n]
        block = np.stack([columns[i][np.isfinite(columns[i])] for i in rows])
        out |= dict(zip(rows, interval(block, seed=seed, levels=(LEVEL, DECISION_LEVEL)), strict=True))
    return [out[i] for i in range(len(columns))]


def _thresholds(table: xr.DataArray, axes: Sequence[str]) -> list[str]:
    """In words, in the order of the flattened table."""
    out = [""]
    for axis in axes:
        values = table[axis].values
        said = [str(v) if values.dtype.kind in "UO" else f"{axis} {v:.4g}" for v in values]
        out = [f"{first}, {s}".removeprefix(", ") for first in out for s in said]
    return out


def _row(
    quantity: Quantity,
    metric: str,
    threshold: str,
    step: int | None,
    having: NDArray[np.int64],
    column: NDArray[np.float64],
    seeds: Sequence[int],
    ends: NDArray[np.float64],
) -> Row:
    known = np.isfinite(column)
    x, n = column[known], int(known.sum())
    mean, sd = float(x.mean()), float(x.std(ddof=1)) if n > 1 else float("nan")
    (low, high), decisive = ends.tolist()
    sign, margin = quantity.direction, quantity.margin
    effect = [_effect(sign * (v - margin), sd) for v in (mean, low, high)]
    where = int(side(decisive, n=n, direction=sign, margin=margin))
    return Row(
        metric=metric, threshold=threshold, step=step, seeds=tuple(map(int, having[known])),
        values=tuple(map(float, x)), missing=tuple(s for s in seeds if s not in having[known]), mean=mean, sd=sd,
        low=low, high=high, decision_low=decisive[0], decision_high=decisive[1], effect=effect[0],
        effect_low=min(effect[1:]), effect_high=max(effect[1:]), side=where,
        seeds_needed=seeds_needed(effect[0]) if n >= 2 else None,
    )  # fmt: skip


def _effect(distance: float, sd: float) -> float:
    """Distance in standard deviations; infinite without spread."""
    if sd > 0:
        return distance / sd
    return float("nan") if np.isnan(sd) or distance == 0 else float(np.copysign(np.inf, distance))
