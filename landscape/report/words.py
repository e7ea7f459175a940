"""What was found, as sentences: each follows from numbers of one dataset and says how far to trust them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import xarray as xr

from landscape.report.numbers import at, last, number, percent, sampled, unit, with_error
from landscape.report.section import Finding
from landscape.report.words_dynamics import (
    alignment_words,
    evolution_words,
    examples_words,
    hopping_words,
    length_words,
    loops_words,
    sharpness_words,
)
from landscape.report.words_valley import samples_words, surface_words, valley_words

__all__ = ["findings"]


def findings(datasets: Mapping[str, xr.Dataset]) -> tuple[Finding, ...]:
    """Sentences about all datasets, in the order of the questions that one asks of a landscape.

    Example:
        >>> value = {"eigenvalue": ("mode", [2.0], {"units": "loss unit"}), "residual": ("mode", [0.01])}
        >>> ds = xr.Dataset({**value, "converged": ("mode", [True]), "resolved": True}, {"end": ("mode", ["top"])})
        >>> print(findings({"spectrum": ds})[0])
        The largest Hessian eigenvalue is 2 ± 0.01 loss unit (the error is its residual; converged; none was missed).
    """
    exact = "entropy" in datasets and bool(last(datasets["entropy"])["exact"])
    told = [n for n in _WORDS if n in datasets and not (n == "density" and exact)]  # which estimates the same numbers
    return tuple(f for name in told for f in _WORDS[name](datasets[name]))


def _metrics(ds: xr.Dataset) -> Iterator[Finding]:
    """How the loss went; of trained runs that of the test split, of others whatever was recorded."""
    named = [str(n) for n in ds.data_vars if "loss" in str(n) and not str(n).startswith("bayes")]
    for name in named[:3]:
        values, where = ds[name], ""
        if "split" in values.dims:
            split = "test" if "test" in values["split"].values else str(values["split"].values[-1])
            values, where = values.sel(split=split), f" of the {split} split"
        if "family" in values.dims:
            values = values.sel(family="all")
        values = values.dropna("step") if "step" in values.dims else values
        if "step" not in values.dims or values.sizes["step"] < 2:
            continue
        least = int(np.argmin(values.values))
        first, final = (int(values["step"][i]) for i in (0, -1))
        text = (
            f"The {name}{where}, as it was recorded, went from {number(values[0])} at step {first} to "
            f"{number(values[-1])}{unit(ds[name])} at step {final}"
        )
        if least < values.sizes["step"] - 1:
            text += f"; it was lowest, {number(values[least])}, at step {int(values['step'][least])}"
        yield Finding(f"{text}.", "metrics")
    if ds.attrs.get("status") in ("unfinished", "diverged"):
        yield Finding(f"The training is {ds.attrs['status']}.", "metrics", "doubtful")


_ENDS = {
    "top": ("largest Hessian eigenvalue", 0),
    "largest": ("Hessian eigenvalue of largest magnitude", 0),
    "bottom": ("smallest Hessian eigenvalue", -1),
}


def _spectrum(ds: xr.Dataset) -> Iterator[Finding]:
    here, ends = last(ds), [str(e) for e in ds["end"].values]
    value, residual, converged = (here[n].values for n in ("eigenvalue", "residual", "converged"))
    resolved = bool(here["resolved"])
    for end, (name, which) in _ENDS.items():
        modes = [i for i, e in enumerate(ends) if e == end]
        if not modes:
            continue
        mode = modes[int(np.argmax(np.abs(value[modes])))] if end == "largest" else modes[which]
        sure = bool(converged[mode]) and resolved
        missed = "none was missed" if resolved else "another may have been missed, which was not ruled out"
        state = "converged" if converged[mode] else "NOT converged"
        said = f"{with_error(value[mode], residual[mode])}{unit(ds['eigenvalue'])}"
        yield Finding(
            f"The {name}{sampled(ds)}{at(ds)} is {said} (the error is its residual; {state}; {missed}).",
            "spectrum",
            "sure" if sure else "doubtful",
        )
        if end == "top" and "edge" in here and np.isfinite(edge := float(here["edge"])):
            share = number(value[mode] / edge, 3)
            text = f"That is {share} of the edge of stability of its optimiser, {number(edge)}{unit(ds['edge'])}."
            yield Finding(text, "spectrum", "sure" if sure else "doubtful")
        if end == "top" and len(modes) > 2 and value[modes[-1]] > 0 and converged[modes[-1]]:
            ratio = number(value[mode] / value[modes[-1]], 3)
            text = (
                f"Number {len(modes)} from the top is {number(value[modes[-1]])}: the first is {ratio} times as large."
            )
            yield Finding(text, "spectrum", "sure" if sure else "doubtful")
    # An eigenvalue lies within the residual of each value, whatever was missed.
    if bool((value + residual < 0).any()):
        lowest = int(np.argmin(value + residual))
        text = f"The Hessian{at(ds)} has a negative eigenvalue, {with_error(value[lowest], residual[lowest])}"
        yield Finding(f"{text}: the point is no minimum.", "spectrum")
    yield from _trend(ds, "eigenvalue", "largest eigenvalue" if ends[0] == "top" else "first eigenvalue")


def _trend(ds: xr.Dataset, name: str, called: str) -> Iterator[Finding]:
    """The first mode over the checkpoints."""
    if ds.sizes.get("step", 1) < 2 or str(ds["end"].values[0]) == "bottom":
        return
    values, good = ds[name].isel(mode=0).values, ds["converged"].isel(mode=0).values.astype(bool)
    steps = ds["step"].values
    peak, dip = int(np.argmax(values)), int(np.argmin(values))
    text = (
        f"Over {len(steps)} checkpoints the {called} went from {number(values[0])} at step {steps[0]} to "
        f"{number(values[-1])} at step {steps[-1]}"
    )
    for said, i in (("largest", peak), ("smallest", dip)):
        if 0 < i < len(steps) - 1:
            text += f"; it was {said}, {number(values[i])}, at step {steps[i]}"
    if good.all():
        yield Finding(f"{text} (converged at all of them).", "spectrum")
    else:
        yield Finding(f"{text} (NOT converged at {int((~good).sum())} of them).", "spectrum", "doubtful")


def _interval(ds: xr.Dataset, name: str, show: Callable[..., str]) -> tuple[str, bool]:
    """How far the number is known, and whether that is known at all."""
    if bool(ds.get("exact", False)):
        return "from all eigenvalues", True
    if f"{name}_low" not in ds or not np.isfinite([float(ds[f"{name}_low"]), float(ds[f"{name}_high"])]).all():
        return "estimated from random vectors; its error is NOT known", False
    return f"95 % interval over random vectors: {show(ds[f'{name}_low'])} to {show(ds[f'{name}_high'])}", True


def _whole(probe: str) -> Callable[[xr.Dataset], Iterator[Finding]]:
    """Sentences about the whole spectrum, which two probes tell."""

    def words(ds: xr.Dataset) -> Iterator[Finding]:
        here, size = last(ds), int(last(ds)["n_parameters"])
        curvature = unit(ds["trace"])
        for name, show, text in (
            (
                "negative_share",
                percent,
                f"Negative eigenvalues make up {{}} of the sum of |eigenvalue|{at(ds)} ({{}}).",
            ),
            ("effective_rank", number, f"The effective rank of the Hessian{at(ds)} is {{}} of P = {size} ({{}})."),
            ("trace", number, f"The trace of the Hessian{at(ds)} is {{}}{curvature} ({{}})."),
        ):
            if np.isfinite(float(here[name])):
                known, sure = _interval(here, name, show)
                yield Finding(text.format(show(here[name]), known), probe, "sure" if sure else "doubtful")

    return words


_WORDS: dict[str, Callable[[xr.Dataset], Iterator[Finding]]] = {
    "metrics": _metrics,
    "spectrum": _spectrum,
    "entropy": _whole("entropy"),
    "density": _whole("density"),
    "valley": valley_words,
    "surface": surface_words,
    "samples": samples_words,
    "evolution": evolution_words,
    "sharpness": sharpness_words,
    "hopping": hopping_words,
    "alignment": alignment_words,
    "loops": loops_words,
    "length": length_words,
    "examples": examples_words,
}
