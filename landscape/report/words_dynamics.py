"""Sentences about checkpoints and updates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from landscape.report.numbers import at, last, number
from landscape.report.section import Finding, Trust

__all__ = [
    "alignment_words",
    "evolution_words",
    "examples_words",
    "hopping_words",
    "length_words",
    "loops_words",
    "sharpness_words",
]


def evolution_words(ds: xr.Dataset) -> Iterator[Finding]:
    """Phases of the entropy, and its rise after the minimum."""
    phases = int(ds["phase"].max())
    if phases:
        text = f"The entropy of the spectrum went through {phases} {'phase' if phases == 1 else 'phases'}"
        yield Finding(f"{text} over {ds.sizes['path_step']} checkpoints (Bayesian information criterion).", "evolution")
    rise, error = float(ds["rise_after_minimum"]), float(ds["rise_after_minimum_stderr"])
    if np.isfinite(rise):
        text = f"Its entropy is lowest at step {int(ds['minimum_step'])}, and {number(rise)} nats higher at the end"
        sure = error == 0 or rise > 2 * error
        said = "exact" if error == 0 else f"standard error {number(error, 2)}"
        yield Finding(f"{text} ({said}).", "evolution", "sure" if sure else "doubtful")


def sharpness_words(ds: xr.Dataset) -> Iterator[Finding]:
    """At which learning rate the loss rises, and whether the training's is below it."""
    here = last(ds)
    if not bool(here["falls"]) and not bool(here["censored"]):
        yield Finding(f"Along the update{at(ds)} the loss rises at once, or by no more than rounding.", "sharpness")
        return
    critical, rate = float(here["critical_lr"]), float(here["learning_rate"])
    text = f"Along the update{at(ds)} the loss rises at learning rates above {number(critical)}"
    if bool(here["censored"]):
        text = f"Along the update{at(ds)} the loss does not rise up to the learning rate {number(critical)}"
    used = f"; training uses {number(rate)}, {number(rate / critical, 3)} of it" if np.isfinite(rate) else ""
    trust: Trust = "bound" if bool(here["censored"]) else "sure" if bool(here["converged"]) else "doubtful"
    yield Finding(f"{text}{used}.", "sharpness", trust)


def hopping_words(ds: xr.Dataset) -> Iterator[Finding]:
    """Whether updates cross the valley along the leading eigenvector."""
    here = last(ds)
    rate, error = float(here["hop_rate"][0]), float(here["hop_rate_stderr"][0])
    if np.isfinite(rate):
        text = (
            f"Along the leading eigenvector {number(100 * rate, 3)} % of {int(here['n_pairs'][0])} pairs of updates"
            f"{at(ds)} have opposite signs (standard error {number(100 * error, 2)} %; 50 % for independent updates)."
        )
        sure: Trust = "sure" if bool(here["converged"][0]) else "doubtful"
        yield Finding(text, "hopping", sure)
        if "edge" in here and np.isfinite(edge := float(here["edge"])):
            share = number(float(here["eigenvalue"][0]) / edge, 3)
            said = f"The leading eigenvalue{at(ds)} is {share} of the edge of stability of the updates, {number(edge)}"
            yield Finding(f"{said}.", "hopping", sure)


def alignment_words(ds: xr.Dataset) -> Iterator[Finding]:
    """The cosine over all parameters."""
    here = last(ds)
    groups = [str(g) for g in ds["group"].values]
    if "all" in groups:
        i = groups.index("all")
        value, error = number(here["cosine"][i]), number(here["cosine_stderr"][i], 2)
        text = (
            f"The gradients of the single and the looped loss{at(ds)} have the cosine {value} (standard error {error})."
        )
        yield Finding(text, "alignment")


def loops_words(ds: xr.Dataset) -> Iterator[Finding]:
    """What the state does beyond the trained passes, and whether more passes help."""
    here, passes = last(ds), ds["pass"].values
    text = (
        f"Followed for {passes[-1]} passes, the state{at(ds)} of {number(100 * float(here['share'].max()), 3)} % of "
        f"the samples is {here['label'].item()}: steps change by the factor {number(here['growth'], 3)} per pass (mean)"
    )
    yield Finding(f"{text}.", "loops")
    loops, loss = int(here["loops"]), here["loss"].values
    if loops and np.isfinite(loss).any():
        best = int(np.nanargmin(loss))
        own, least = (f"{number(loss[i])} ± {number(here['loss_stderr'][i], 2)}" for i in (loops - 1, best))
        text = (
            f"The loss read off the state is {own} after the model's own {loops} {'pass' if loops == 1 else 'passes'}"
        )
        more = "" if best == loops - 1 else f", and least, {least}, after {passes[best]}"
        yield Finding(f"{text}{more} (standard errors over samples).", "loops")


def examples_words(ds: xr.Dataset) -> Iterator[Finding]:
    """The error with all examples, and that of least squares."""
    here = last(ds).isel(examples=-1)
    error, spread = number(here["error"]), number(here["error_stderr"], 2)
    text = f"With {int(here['examples'])} examples in the prompt the squared error{at(ds)} is {error} (standard error"
    best = f"; that of least squares is {number(here['least_squares'])}" if "least_squares" in here else ""
    yield Finding(f"{text} {spread}){best}.", "examples")


def length_words(ds: xr.Dataset) -> Iterator[Finding]:
    """Accuracy at the longest queries."""
    here = last(ds)
    value = here["accuracy"].isel(loops=0).values.ravel()
    if len(value):
        text = f"Queries of length {int(ds['length'].values[-1])}, the longest asked, are answered right{at(ds)} in"
        yield Finding(f"{text} {number(100 * value[-1], 3)} % of {int(here['n'])} samples.", "length")
