"""What was found, as a short table per probe: the last probed checkpoint of every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from landscape.cli.console import number, units_of
from landscape.cli.tables.spectra import (
    INTERVALS,
    entropy_table,
    evolution_table,
    force_table,
    length_table,
    split_table,
    with_interval,
)

__all__ = ["SUMMARIES", "Summary"]


@dataclass(frozen=True)
class Summary:
    """Title, column names, rows of text, and a line below on how to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def _spectrum(results: Sequence[xr.Dataset]) -> Summary:
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        value = last.eigenvalue.values
        rows.append(
            [
                ds.attrs["run"],
                str(int(last.step)),
                number(value[0]),
                number(value[1]) if len(value) > 1 else "–",
                number(value[-1]),
                number(last.residual.max(), 2),
                f"{int(ds.converged.sum())}/{ds.converged.size}",
                number(ds.n_products.mean(), 3),
            ]
        )
    columns = ["run", "step", "first", "second", "last", "max residual", "converged (all steps)", "products per step"]
    return Summary(f"spectrum: Hessian eigenvalues, {units_of(results, 'eigenvalue')}", columns, rows)


def _density(results: Sequence[xr.Dataset]) -> Summary:
    names = ("trace", "trace_hutchpp", "frobenius", "effective_rank", "negative_share", "log_spread")
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        cells = [with_interval(last, n) for n in names]
        rows.append([ds.attrs["run"], str(int(last.step)), *cells, number(ds.n_products.mean(), 3)])
    columns = [
        "run",
        "step",
        "trace",
        "trace (Hutch++)",
        "Frobenius norm",
        "effective rank",
        "negative share",
        "spread of log",
        "products per step",
    ]
    return Summary(
        f"density: the whole Hessian spectrum (trace: {units_of(results, 'trace')})",
        columns,
        rows,
        f"{INTERVALS} Negative share: of the sum of |eigenvalue|.",
    )


def _valley(results: Sequence[xr.Dataset]) -> Summary:
    rows = []
    middle = results[0].sizes["rise"] // 2
    for ds in results:
        last = ds.isel(step=-1)
        for m in range(ds.sizes["mode"]):
            at = last.isel(mode=m)
            widths, powers = ["–", "–"], ["–", "–"]
            if bool(at.floor_converged):  # around any other place they are no widths of a valley
                widths = [_width(at.isel(side=s, rise=middle)) for s in range(2)]
                powers = [f"{number(at.exponent[s], 3)} ± {number(at.exponent_stderr[s], 1)}" for s in range(2)]
            rows.append(
                [
                    ds.attrs["run"],
                    str(int(last.step)),
                    str(at.direction.item()),
                    number(at.curvature),
                    *widths,
                    number(at.quadratic_half_width[middle], 3),
                    *powers,
                    (">" if bool(at.floor_censored) else "") + number(at.floor, 2),
                    str(at["shape"].item()),
                ]
            )
    rise = number(results[0].rise[middle], 2)
    columns = [
        "run",
        "step",
        "direction",
        "curvature",
        "width −",
        "width +",
        "quadratic",
        "exponent −",
        "exponent +",
        "floor at",
        "shape",
    ]
    return Summary(
        f"valley: half-widths at a rise of {rise} nats per token, {units_of(results, 'half_width')}",
        columns,
        rows,
        "Exponent: 2 quadratic, 1 V, above 2 flat-bottomed U. > : not reached within the limit, the rise or the floor. "
        "? : not located to tolerance. – : no floor was found; under quadratic, curvature not positive. "
        "Shape flat: no rise reached, falling: no floor, the loss falls.",
    )


def _width(at: xr.Dataset) -> str:
    """One half-width, marked where it is a bound or not to be trusted."""
    if bool(at.censored):
        return f">{number(at.half_width, 3)}"
    return number(at.half_width, 3) + ("?" if not bool(at.converged) and np.isfinite(at.half_width) else "")


def _samples(results: Sequence[xr.Dataset]) -> Summary:
    families = list(dict.fromkeys(map(str, results[0].family.values))) if "family" in results[0].coords else []
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        row = [ds.attrs["run"], str(int(last.step)), str(ds.sizes["sample"]), number(last.loss.mean())]
        for f in families:
            row += [
                number(last.loss.values[ds.family.values == f].mean()),
                number(last.correct.values[ds.family.values == f].mean(), 3),
            ]
        if families:
            content = ds.information_content.values
            row.append(number(np.corrcoef(content, last.loss.values)[0, 1], 3) if np.isfinite(content).all() else "–")
        rows.append(row)
    columns = ["run", "step", "samples", "mean loss"]
    for f in families:
        columns += [f"loss {f}", f"correct {f}"]
    columns += ["corr(IC, loss)"] if families else []
    return Summary("samples: loss per sample (nats per token), share of tokens right", columns, rows)


def _surface(results: Sequence[xr.Dataset]) -> Summary:
    rows = [
        [
            ds.attrs["run"],
            str(ds.attrs["step"]),
            str(ds.attrs["directions"]),
            f"{ds.sizes['alpha']} x {ds.sizes['beta']}",
            number(ds.loss.min()),
            number(ds.loss.max()),
            number(ds.explained_variance.sum(), 3) if "explained_variance" in ds else "–",
            number(ds.path_distance.max(), 3) if "path_distance" in ds else "–",
        ]
        for ds in results
    ]
    columns = [
        "run",
        "centre step",
        "plane",
        "grid",
        "lowest loss",
        "highest loss",
        "path explained",
        "path's distance from plane",
    ]
    return Summary("surface: loss on a plane (nats per token)", columns, rows)


def _hopping(results: Sequence[xr.Dataset]) -> Summary:
    rows = []
    for ds in results:
        most = np.flatnonzero(ds.n_updates.values == ds.n_updates.values.max())[-1]
        last = ds.isel(step=most)
        hops, lag = (
            [f"{number(last[n][i], 3)} ± {number(last[f'{n}_stderr'][i], 1)}" for i in (0, -1)]
            for n in ("hop_rate", "autocorrelation")
        )
        loss = [*last.net_sum.values, last.cross_term_sum, last.remainder_sum, last.decrease_sum]
        pairs = [str(int(last.n_pairs[i])) for i in (0, -1)]
        cells = [*hops, *pairs, *lag, number(last.river_progress, 3), number(last.straightness, 3), *map(number, loss)]
        rows.append([ds.attrs["run"], str(int(last.step)), str(int(last.n_updates)), *cells])
    columns = ["run", "step", "updates", "hop rate first", "hop rate last", "pairs first", "pairs last"]
    columns += [
        "lag-1 first",
        "lag-1 last",
        "river progress",
        "straightness",
        "decrease: valley",
        "river",
        "cross",
        "remainder",
        "in all",
    ]
    caption = (
        "Last checkpoint with the most updates. First, last: eigenvector. Hop rate: 1 crosses the valley each time."
    )
    return Summary("hopping: updates along leading eigenvectors (decreases in nats per token)", columns, rows, caption)


def _alignment(results: Sequence[xr.Dataset]) -> Summary:
    groups = [str(g) for g in results[0].group.values]
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        cells = [f"{number(c, 3)} ± {number(e, 1)}" for c, e in zip(last.cosine, last.cosine_stderr, strict=True)]
        cells += [number(x, 3) for x in last.dominance] if "dominance" in ds else ["–", "–"]
        rows.append([ds.attrs["run"], str(int(last.step)), str(int(last.loops)), *cells])
    columns = ["run", "step", "loops", *groups, "dominance single", "looped"]
    caption = "±: standard error over samples. Dominance: diagonal minus the rest of a row of attention, mean."
    return Summary("alignment: cosine of the single and looped gradients by group", columns, rows, caption)


SUMMARIES: dict[str, Callable[[Sequence[xr.Dataset]], Summary]] = {
    "spectrum": _spectrum,
    "density": _density,
    "valley": _valley,
    "samples": _samples,
    "surface": _surface,
    "hopping": _hopping,
    "alignment": _alignment,
    "entropy": lambda results: Summary(*entropy_table(results)),
    "force": lambda results: Summary(*force_table(results)),
    "split": lambda results: Summary(*split_table(results)),
    "evolution": lambda results: Summary(*evolution_table(results)),
    "length": lambda results: Summary(*length_table(results)),
}
