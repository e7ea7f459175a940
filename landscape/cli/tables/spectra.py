"""Tables of the probes that look at whole spectra, and of `length`."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import number, units_of

__all__ = ["INTERVALS", "Table", "entropy_table", "evolution_table", "force_table", "split_table", "with_interval"]

Table = tuple[str, list[str], list[list[str]], str]
"""Title, column names, rows, caption."""


INTERVALS = "In brackets: 95 % interval over the random vectors, none if exact."


def with_interval(ds: xr.Dataset, name: str) -> str:
    """A number and its interval; of results without intervals, and of fits, its standard error."""
    error = float(ds[f"{name}_stderr"])
    if f"{name}_low" in ds:
        low, high = number(ds[f"{name}_low"]), number(ds[f"{name}_high"])
        return number(ds[name]) if low == high else f"{number(ds[name])} ({low} to {high})"
    return number(ds[name]) if error == 0 else f"{number(ds[name])} ± {number(error, 1)}"


def entropy_table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run."""
    names = ["trace", "entropy", "effective_rank", "participation_ratio", "negative_share", "log_spread", "log_iqr"]
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        cells = [with_interval(last, n) for n in (*names, "slope")]
        ranks = f"{int(last.slope_first)}–{int(last.slope_last)}"
        rows.append([ds.attrs["run"], str(int(last.step)), *cells, ranks, number(ds.n_products.mean(), 3)])
    columns = ["run", "step", *(n.replace("_", " ") for n in names), "slope", "ranks of slope", "products per step"]
    caption = f"{INTERVALS} ±: standard error of the fit."
    return "entropy: the whole Hessian spectrum (entropy in nats)", columns, rows, caption


def force_table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run, one row per lower end, the middle upper end."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1, tau=ds.sizes["tau"] // 2)
        for at in (last.isel(eps=i) for i in range(ds.sizes["eps"])):
            if float(at.eps) < float(at.tau):
                window = f"{float(at.eps):g} – {float(at.tau):g}{'' if bool(at.resolved) else ' (rounding)'}"
                cells = [with_interval(at, "count"), with_interval(at, "inverse_sum"), number(at.flattest_share, 3)]
                rows.append([ds.attrs["run"], str(int(last.step)), window, *cells])
    columns = ["run", "step", "window", "eigenvalues", "sum of 1/|λ|", "share of flattest 10 %"]
    caption = "Share: 0.1 if all are equal, near 1 if the flattest dominate. All windows are in the stored result."
    return f"force: sum of 1/|eigenvalue|, {units_of(results, 'inverse_sum')}", columns, rows, caption


def split_table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run, one row per threshold."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        for kind, axis in (("absolute", "eps"), ("relative", "eps_relative")):
            for at in (last.isel({axis: i}) for i in range(ds.sizes[axis])):
                cells = [number(at[f"{name}_{kind}"]) for name in ("dimension", "kappa", "gap")]
                threshold = f"{float(at[axis]):g}{' λ₁' if kind == 'relative' else ''}"
                rows.append([ds.attrs["run"], str(int(last.step)), threshold, *cells])
    columns = ["run", "step", "threshold", "dimension of the valley", "kappa", "gap at the threshold"]
    caption = (
        "Gap near 1: the spectrum is continuous there, and kappa is set by the threshold alone. –: P is too large."
    )
    return "split: valley (eigenvalues above a threshold) and its condition number", columns, rows, caption


def evolution_table(results: Sequence[xr.Dataset]) -> Table:
    """Every run, with the phases for each penalty."""
    rows = []
    for ds in results:
        first = ds.isel(path_step=0).entropy
        chosen = ds.phase.values
        begins = [str(s) for s, p, q in zip(ds.path_step.values[1:], chosen[1:], chosen[:-1], strict=True) if p != q]
        rise = with_interval(ds, "rise_after_minimum")
        span = f"{number(first)} → {number(ds.entropy.min())} → {number(ds.entropy[-1])}"
        phases = " ".join(f"{int(n)}" for n in ds.n_phases.values) if int(ds.n_phases.max()) else "–"
        angle = ds.angle.values[0, -1]
        rows.append(
            [
                ds.attrs["run"],
                str(ds.sizes["path_step"]),
                span,
                rise,
                " ".join(begins) or "–",
                phases,
                number(ds.mutual_information.values[0, -1]),
                f"{number(angle[0], 3)} – {number(angle[-1], 3)}",
            ]
        )
    grid = " ".join(f"{float(p):g}" for p in results[0].penalty.values)
    columns = [
        "run", "checkpoints", "entropy first → least → last", "rise after minimum", "phases begin at step",
        f"number of phases for penalty {grid}", "mutual information first, last", "angles first, last",
    ]  # fmt: skip
    caption = (
        "Entropy and information in nats, angles between leading eigenspaces in rad. – : see `note` in the result. "
        "± of the rise: as if errors at two checkpoints were independent."
    )
    return "evolution: how the Hessian changes along training", columns, rows, caption


def length_table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run: the shortest length, the ends of training and of the test, each loop."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        trained, all_lengths = int(last.trained_length), last.length.values
        shown = {int(all_lengths[0]), int(all_lengths[-1]), *(int(n) for n in all_lengths[all_lengths <= trained][-1:])}
        for at in (last.sel(length=n, loops=t) for n in sorted(shown) for t in last.loops.values):
            loops = str(int(at.loops)) if int(at.loops) else f"own ({number(at.own_loops, 3)})"
            interval = f"{number(at.accuracy_lower, 3)} – {number(at.accuracy_upper, 3)}"
            cells = [str(int(at.length)), loops, number(at.accuracy, 3), interval, number(at.token_accuracy, 3)]
            rows.append([ds.attrs["run"], str(int(last.step)), str(trained), *cells, number(at.loss)])
        for at in (last.sel(length=n) for n in sorted(shown) if "adaptive_accuracy" in last):
            interval = f"{number(at.adaptive_accuracy_lower, 3)} – {number(at.adaptive_accuracy_upper, 3)}"
            cells = [str(int(at.length)), f"stops ({number(at.adaptive_loops, 3)})", number(at.adaptive_accuracy, 3)]
            rows.append([ds.attrs["run"], str(int(last.step)), str(trained), *cells, interval, "–", "–"])
    columns = ["run", "step", "trained up to", "length", "loops", "accuracy", "95 % interval", "of tokens", "loss"]
    caption = "Accuracy: share of samples with the whole answer right. All lengths are in the stored result."
    return "length: fresh samples of one length each (loss in nats per token)", columns, rows, caption
