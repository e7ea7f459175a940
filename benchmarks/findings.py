"""Write docs/findings-tables.md: every quantity at every checkpoint, from the stored results of a folder of runs.

    python benchmarks/findings.py RUNS

The commands that make RUNS are at the top of docs/findings-notes.md. Numbers are means over seeds ± their standard
deviation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import stats

from landscape import Run, Study
from landscape.answers.files import headings, load

ARCHS = ("single", "looped", "stacked")
Pick = Callable[[xr.Dataset], xr.DataArray]


@dataclass(frozen=True)
class Quantity:
    """A row of a table: a number per checkpoint, from the answer of a probe in a metric."""

    name: str
    probe: str
    pick: Pick
    metric: str = "euclidean"


def metrics_rows() -> list[Quantity]:
    def of(name: str, family: str) -> Pick:
        return lambda ds: ds[name].sel(split="test" if name == "accuracy" else "probe", family=family)

    return [
        Quantity("loss (probe split, nats per token)", "metrics", of("loss", "all")),
        Quantity("test accuracy, simple", "metrics", of("accuracy", "simple")),
        Quantity("test accuracy, complex", "metrics", of("accuracy", "complex")),
    ]


def spectrum_rows() -> list[Quantity]:
    rows = []
    for metric in ("euclidean", "filter", "adam"):
        for name, label in (
            ("entropy", "matrix entropy S (nats)"),
            ("effective_rank", "effective rank"),
            ("participation_ratio", "participation ratio"),
            ("log_spread", "spread of log λ (std)"),
            ("log_iqr", "spread of log λ (interquartile)"),
            ("slope", "power-law slope"),
            ("trace", "trace"),
            ("negative_share", "negative share of Σ abs λ"),
        ):
            rows.append(Quantity(f"{label} [{metric}]", "entropy", lambda ds, n=name: ds[n], metric))
        rows.append(Quantity(f"λ₁ [{metric}]", "force", lambda ds: ds["largest"], metric))
    return rows


def valley_rows() -> list[Quantity]:
    empty = "κ, λ > 0.01 λ₁ (about 1/0.01 by construction)"
    rows = [
        Quantity("valley dimension, λ > 0.1", "split", lambda ds: ds.dimension_absolute.sel(eps=0.1)),
        Quantity("κ, λ > 0.1", "split", lambda ds: ds.kappa_absolute.sel(eps=0.1)),
        Quantity(empty, "split", lambda ds: ds.kappa_relative.sel(eps_relative=0.01)),
        Quantity("cumulative force Σ 1/λ, 0.01 < λ ≤ 1", "force", lambda ds: ds.inverse_sum.sel(eps=0.01, tau=1.0)),
        Quantity("its share from the flattest 10 %", "force", lambda ds: ds.flattest_share.sel(eps=0.01, tau=1.0)),
    ]
    for group in ("top", "random"):
        at = {"group": group}
        rows += [
            Quantity(f"exponent, {group} directions", "valley", lambda ds, at=at: _group(ds, "group_exponent", at)),
            Quantity(
                f"spread of log width, {group} directions, rise 0.01", "valley",
                lambda ds, at=at: _group(ds, "log_width_spread", at).sel(rise=0.01),
            ),
        ]  # fmt: skip
    for label in ("V", "U", "quadratic"):
        rows.append(
            Quantity(
                f"share of top directions labelled {label}", "valley",
                lambda ds, label=label: (ds["shape"].isel(mode=slice(0, 5)) == label).mean("mode"),
            )
        )  # fmt: skip
    return rows


def _group(ds: xr.Dataset, name: str, at: dict[str, str]) -> xr.DataArray:
    index = [str(g) for g in ds["group"].values].index(at["group"])
    return ds[name].isel(group=index)


def dynamics_rows() -> list[Quantity]:
    def sub(name: str, part: str) -> Pick:
        return lambda ds: ds[name].isel(subspace=[str(s) for s in ds["subspace"].values].index(part))

    return [
        Quantity("hop rate, mode 1", "hopping", lambda ds: ds.hop_rate.isel(mode=0)),
        Quantity("hop rate, mean of 5 modes", "hopping", lambda ds: ds.hop_rate.mean("mode")),
        Quantity("lag-1 autocorrelation, mode 1", "hopping", lambda ds: ds.autocorrelation.isel(mode=0)),
        Quantity("river progress over 50 updates", "hopping", lambda ds: ds.river_progress),
        Quantity("decrease of the loss in 50 updates", "hopping", lambda ds: ds.decrease_sum),
        Quantity("  of it valley (first + second order)", "hopping", sub("net_sum", "valley")),
        Quantity("  of it river (first + second order)", "hopping", sub("net_sum", "river")),
        Quantity("  remainder, share of Σ abs decrease", "hopping", lambda ds: ds.remainder_share),
    ]


def alignment_rows() -> list[Quantity]:
    def of(group: str) -> Pick:
        return lambda ds: ds["cosine"].isel(group=[str(g) for g in ds["group"].values].index(group))

    return [
        Quantity(f"gradient cosine Single–Looped, {g}", "alignment", of(g))
        for g in ("W_Q", "W_K", "W_V", "head", "embeddings", "all")
    ] + [
        Quantity(
            "diagonal dominance of attention, looped", "alignment", lambda ds: ds["dominance"].isel(architecture=-1)
        ),
    ]


def evolution_rows(runs: list[Run]) -> str:
    lines = ["| quantity | " + " | ".join(ARCHS) + " |", "|---|---|---|---|"]

    def row(name: str, pick: Pick) -> None:
        cells = []
        for arch in ARCHS:
            values = np.array([float(pick(ds)) for ds in _results(runs, arch, "evolution", "none")])
            cells.append(_cell(values))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    row("S at step 0", lambda ds: ds.entropy[0])
    row("least S", lambda ds: ds.entropy.min())
    row("S at the end", lambda ds: ds.entropy[-1])
    row("rise after the minimum", lambda ds: ds.rise_after_minimum)
    row("step of the minimum", lambda ds: ds.minimum_step)
    for p in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        row(f"number of phases, penalty {p:g} σ² log n", lambda ds, p=p: ds.n_phases.sel(penalty=p))
    row("mutual information, first with last (nats)", lambda ds: ds.mutual_information[0, -1])
    row("mutual information, last two checkpoints (nats)", lambda ds: ds.mutual_information[-2, -1])
    row("smallest angle, last two top-10 spaces (rad)", lambda ds: ds.angle[-2, -1].min())
    row("largest angle, last two top-10 spaces (rad)", lambda ds: ds.angle[-2, -1].max())
    return "\n".join(lines)


def _results(runs: list[Run], arch: str, probe: str, metric: str) -> list[xr.Dataset]:
    found = []
    for run in runs:
        if run.config.arch != arch:
            continue
        if probe == "metrics":
            found.append(run.metrics.sel(step=run.steps))
            continue
        for ds in (load(found.path) for found in headings(run, probe)):
            if (
                probe in ("alignment",)
                or json.loads(ds.attrs["settings"]).get("metric") in (metric, None)
                or metric == "none"
            ):
                found.append(ds)
                break
    return found


def _cell(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return "–"
    mean = values.mean()
    spread = values.std(ddof=1) if len(values) > 1 else float("nan")
    return f"{_number(mean)} ± {_number(spread, 1)}" if np.isfinite(spread) else _number(mean)


def _number(x: float, digits: int = 3) -> str:
    return f"{x:.{digits}g}" if abs(x) < 1e4 else f"{x:.{digits - 1}e}"


def table(runs: list[Run], quantities: list[Quantity]) -> str:
    steps = [int(s) for s in runs[0].steps]
    lines = ["| quantity | arch | " + " | ".join(map(str, steps)) + " |", "|---|---|" + "---|" * len(steps)]
    for q in quantities:
        for arch in ARCHS:
            found = _results(runs, arch, q.probe, q.metric)
            if not found:
                continue
            columns = []
            for step in steps:
                values = [float(q.pick(ds).sel(step=step)) for ds in found if step in ds["step"].values]
                columns.append(_cell(np.array(values)) if values else "–")
            lines.append(f"| {q.name} | {arch} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def differences(runs: list[Run], quantities: list[Quantity]) -> str:
    """Looped and stacked minus single at the last step where all are defined, paired by seed, 95 % t interval."""
    lines = ["| quantity | step | looped − single | stacked − single |", "|---|---|---|---|"]
    for q in quantities:
        base = _results(runs, "single", q.probe, q.metric)
        if not base:
            continue
        usable = [int(s) for s in base[0]["step"].values if np.isfinite(float(q.pick(base[0]).sel(step=s)))]
        if not usable:
            continue
        step, cells = usable[-1], []
        for arch in ARCHS[1:]:
            other = {ds.attrs["run_seed"]: ds for ds in _results(runs, arch, q.probe, q.metric)}
            pairs = [(d, other[d.attrs["run_seed"]]) for d in base if d.attrs["run_seed"] in other]
            diff = np.array([float(q.pick(b).sel(step=step)) - float(q.pick(a).sel(step=step)) for a, b in pairs])
            diff = diff[np.isfinite(diff)]
            if len(diff) < 2:
                cells.append("–")
                continue
            half = stats.t.ppf(0.975, len(diff) - 1) * diff.std(ddof=1) / len(diff) ** 0.5
            mark = "" if abs(diff.mean()) <= half else " *"
            cells.append(f"{_number(diff.mean())} [{_number(diff.mean() - half)}, {_number(diff.mean() + half)}]{mark}")
        lines.append(f"| {q.name} | {step} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    runs = list(Study.open([sys.argv[1]]).runs)
    out = Path(__file__).parent.parent / "docs" / "findings-tables.md"
    groups = {
        "Learning": metrics_rows(),
        "The spectrum": spectrum_rows(),
        "The valley": valley_rows(),
        "Hopping, 50 updates replayed from each checkpoint": dynamics_rows(),
    }
    every = [q for rows in groups.values() for q in rows]
    parts = [
        "# Tables behind the findings",
        "",
        "*Written by `benchmarks/findings.py`; see [findings-notes.md](findings-notes.md) for the runs.* Mean over "
        "three seeds ± standard deviation over seeds. `–`: not defined there. Curvatures in nats per token per squared "
        "unit of the metric in brackets.",
        "",
    ]
    for title, rows in groups.items():
        parts += [f"## {title}", "", table(runs, rows), ""]
    own = [r for r in runs if r.config.arch != "stacked"]
    parts += [
        "## Gradients of Single and Looped at the same parameters",
        "",
        "Along the single and the looped runs.",
        "",
    ]
    parts += [table(own, alignment_rows()), "", "## Entropy over training, checkpoints against each other", ""]
    parts += [evolution_rows(runs), "", "## Differences at the last step", ""]
    parts += ["Paired by seed, mean and 95 % interval (t, two degrees of freedom); * marks intervals without 0.", ""]
    parts += [differences(runs, every), ""]
    out.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
