"""Sentences about widths, planes and samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import xarray as xr

from landscape.report.numbers import at, last, number, percent, unit
from landscape.report.section import Finding

__all__ = ["AGREES", "DOMINANT", "samples_words", "surface_words", "valley_words"]

AGREES = 0.2
"""A half-width agrees with that of the parabola if it is within this part of it."""
DOMINANT = 0.1
"""The share of samples with the largest loss whose part of the loss is told."""

ROUNDING = 1e-5
"""A curvature below this part of the largest is not told from zero, whatever the dtype."""


def valley_words(ds: xr.Dataset) -> Iterator[Finding]:
    """Widths at the middle rise, whether they are those of parabolas, shapes, and where the loss only falls."""
    here = last(ds)
    middle = (ds.sizes["rise"] - 1) // 2
    rise = f"At a rise of {number(ds['rise'][middle], 3)}{unit(ds['rise'])}"
    part = here.isel(rise=middle)
    floor = part["floor_converged"].values.astype(bool)[:, None]
    width, censored = part["half_width"].values, part["censored"].values.astype(bool)
    located = part["converged"].values.astype(bool) & floor & np.isfinite(width)
    bound = censored & floor & np.isfinite(width)
    names = [str(n) for n in ds["direction"].values]
    sides = [str(s) for s in ds["side"].values]
    if located.any():
        yield _extent(rise, ds, np.where(located, width, np.nan), names, sides, int(bound.sum()))
    if bound.any():
        many = f"{int(bound.sum())} of {int(located.sum() + bound.sum())} half-widths"
        least = number(width[bound].min(), 3)
        text = f"{rise}, {many}{at(ds)} are longer than was searched: at least {least}{unit(ds['half_width'])}."
        yield Finding(text, "valley", "bound")
    lost = int((np.isfinite(width) & ~located & ~bound).sum())
    if lost:
        text = f"{rise}, {lost} half-widths{at(ds)} were NOT located to tolerance and are left out here."
        yield Finding(text, "valley", "doubtful")
    yield from _parabolas(rise, ds, part, np.where(located, width, np.nan), names)
    yield from _shapes(ds, here, names)


def _extent(
    rise: str, ds: xr.Dataset, width: np.ndarray[tuple[int, int], np.dtype[np.float64]], names: list[str],
    sides: list[str], beyond: int,
) -> Finding:  # fmt: skip
    """The narrowest and the widest of the half-widths that were located."""
    (i, j), (k, m) = (np.unravel_index(f(width), width.shape) for f in (np.nanargmin, np.nanargmax))
    text = (
        f"{rise} the valley's half-widths{at(ds)} reach from {number(width[i, j], 3)} ({names[i]}, {sides[j]} side) to "
        f"{number(width[k, m], 3)} ({names[k]}, {sides[m]} side){unit(ds['half_width'])}"
    )
    return Finding(
        f"{text}, of {int(np.isfinite(width).sum())} that were located{'; others are wider' if beyond else ''}.",
        "valley",
    )


def _parabolas(
    rise: str,
    ds: xr.Dataset,
    part: xr.Dataset,
    width: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    names: list[str],
) -> Iterator[Finding]:
    """Directions with both half-widths located, against sqrt(2 rise / curvature)."""
    quadratic = part["quadratic_half_width"].values
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = width / quadratic[:, None]
    both = np.isfinite(ratio).all(1)
    if not both.any():
        return
    agree = both & (np.abs(ratio - 1) <= AGREES).all(1)
    text = (
        f"{rise}, the half-widths{at(ds)} agree within {percent(AGREES)} on both sides with those of the parabola of "
        f"the curvature there, in {int(agree.sum())} of {int(both.sum())} directions"
    )
    if not agree[both].all():
        off = np.where(both[:, None], np.abs(np.log(ratio)), -np.inf)
        i, j = np.unravel_index(np.argmax(off), off.shape)
        text += f"; farthest off is {names[i]}, {number(ratio[i, j], 3)} times as wide"
    yield Finding(f"{text}.", "valley")


def _shapes(ds: xr.Dataset, here: xr.Dataset, names: list[str]) -> Iterator[Finding]:
    shapes = [str(s) for s in here["shape"].values]
    counted = Counter(s for s in shapes if s != "absent")
    if counted:
        said = ", ".join(f"{n} {shape}" for shape, n in counted.most_common())
        tol = number(here["shape_tol"])
        text = f"Shapes of {sum(counted.values())} directions{at(ds)}: {said}"
        yield Finding(
            f"{text} (quadratic: an exponent within {tol} of 2).",
            "valley",
            "doubtful" if counted["undecided"] > len(names) / 2 else "sure",
        )
    if falling := [n for n, s in zip(names, shapes, strict=True) if s == "falling"]:
        limit = f"{number(here['limit'], 3)}{unit(ds['limit'])}"
        text = f"Along {', '.join(falling)} the loss{at(ds)} has no floor within {limit}: it falls on."
        yield Finding(text, "valley", "bound")
    curvature = here["curvature"].values
    if bool((curvature < -ROUNDING * np.nanmax(np.abs(curvature))).any()):
        low = int(np.nanargmin(curvature))
        text = (
            f"Along {names[low]} the loss{at(ds)} bends down: u'Hu is {number(curvature[low])}{unit(ds['curvature'])}"
        )
        yield Finding(f"{text}, so the point is no minimum.", "valley")


def surface_words(ds: xr.Dataset) -> Iterator[Finding]:
    """Range and lowest point of the plane, and how well it holds the path."""
    loss = ds["loss"].values
    plane = f"On the plane of {ds.attrs.get('directions', 'given')} directions{at(ds)}"
    finite = np.isfinite(loss)
    if not finite.any():
        yield Finding(f"{plane} the loss has no finite value.", "surface", "doubtful")
        return
    i, j = np.unravel_index(np.nanargmin(np.where(finite, loss, np.nan)), loss.shape)
    lowest = f"lowest at ({number(ds['alpha'][i], 3)}, {number(ds['beta'][j], 3)})"
    text = (
        f"{plane} the loss lies between {number(loss[finite].min())} and {number(loss[finite].max())}"
        f"{unit(ds['loss'])} at the {loss.shape[0]} x {loss.shape[1]} points of the grid, {lowest}"
    )
    known = ds["evaluated"].values if "evaluated" in ds else np.ones_like(finite)
    holes = int((known & ~finite).sum())
    text += "" if known.all() else f", of which {int(known.sum())} were evaluated"
    text += f"; {holes} points have no finite loss" if holes else ""
    yield Finding(f"{text}. Between the points nothing was measured.", "surface")
    if "path_distance" in ds and "explained_variance" in ds:
        share = percent(ds["explained_variance"].sum())
        far = f"{number(ds['path_distance'].max(), 3)}{unit(ds['path_distance'])}"
        yield Finding(
            f"The plane holds {share} of the path's squared displacement; the path leaves it by up to {far}.", "surface"
        )


def samples_words(ds: xr.Dataset) -> Iterator[Finding]:
    """The mean, and whether few samples dominate the loss."""
    here = last(ds)
    loss = here["loss"].values
    n = len(loss)
    weight = here["weight"].values.astype(float) if "weight" in here else np.ones(n)
    mean = float((weight * loss).sum() / weight.sum())
    worst = int(np.argmax(loss))
    text = f"The {'weighted ' if 'weight' in here else ''}mean loss{at(ds)} over {n} samples is {number(mean)}"
    text += unit(ds["loss"])
    yield Finding(f"{text}; the largest is {number(loss[worst])}, of sample {worst}.", "samples")
    part = weight * loss
    if n >= 1 / DOMINANT and (part >= 0).all() and part.sum() > 0:
        few = int(np.ceil(DOMINANT * n))
        share = np.sort(part)[::-1][:few].sum() / part.sum()
        text = f"The {few} samples (of {n}) that contribute most make up {percent(share)} of the loss{at(ds)}"
        yield Finding(f"{text}{'; equal ones would make up ' + percent(few / n)}.", "samples")
    if "correct" in here:
        said = str(ds["correct"].attrs.get("long_name", "share that is correct"))
        text = f"The mean share of what is correct{at(ds)} is {percent(here['correct'].mean())} ({said})"
        yield Finding(f"{text}.", "samples")
