"""`landscape compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import xarray as xr

from landscape.answers.files import save
from landscape.cli.console import Table, emit_json, number, show_table
from landscape.cli.drawing import save_figure
from landscape.errors import LandscapeError
from landscape.figures.comparison import comparison
from landscape.loss.metric import METRICS
from landscape.probes import PROBES
from landscape.studies.compare import Abscissa, compare
from landscape.studies.study import Study

__all__ = ["command"]

_DEFAULT = ("entropy", "force")
_CHECKS = ("resolution", "asymmetry", "residual", "orthogonality")
"""Variables that say how far to believe the others."""


@click.command("compare")
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option(
    "-p",
    "--probe",
    "names",
    multiple=True,
    type=click.Choice([n for n, p in PROBES.items() if not p.whole_run]),
    help=f"Whose results; repeat.  [default: {', '.join(_DEFAULT)}]",
)
@click.option("--at", type=click.Choice(["step", "loss", "flops"]), default="step", show_default=True, help="Match at.")
@click.option("--points", type=click.IntRange(2), default=100, show_default=True, help="Most values of the abscissa.")
@click.option("--tau", "taus", multiple=True, type=float, help="Threshold of dominance; repeat.  [default: as stored]")
@click.option(
    "--metric", type=click.Choice(METRICS), help="Of the curvatures and distances.  [default: euclidean, where any]"
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the comparison, netCDF.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it: pdf, png or svg.")
@click.option("--dpi", type=click.IntRange(30), default=200, show_default=True, help="Resolution of png.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(
    run_a: Path,
    run_b: Path,
    names: tuple[str, ...],
    at: Abscissa,
    points: int,
    taus: tuple[float, ...],
    metric: str | None,
    output: Path | None,
    picture: Path | None,
    dpi: int,
    as_json: bool,
) -> None:
    """Compare what was stored for two runs, at the same step, the same loss or the same compute.

    RUN_A and RUN_B are run folders, or folders of runs with the same seeds, which are then paired. Differences are B
    minus A. With several probes, files get the probe's name before their suffix.

    \b
    Examples:
      landscape compare runs/markov-single-s0 runs/markov-looped-s0
      landscape compare runs/markov-single-s0 runs/markov-looped-s0 -p force --at loss --plot force.pdf
    """
    if picture is not None and picture.suffix not in (".pdf", ".png", ".svg"):
        raise LandscapeError(f"expected a picture that ends in .pdf, .png or .svg, found {str(picture)!r}.")
    a, b = Study.open([run_a]), Study.open([run_b])
    found: dict[str, xr.Dataset] = {}
    for name in dict.fromkeys(names or _DEFAULT):
        try:
            found[name] = compare(a, b, probe=name, at=at, points=points, taus=taus or None, metric=metric)
        except LandscapeError as error:
            if names:
                raise
            click.echo(f"{name}: skipped, {error}", err=True)
    if not found:
        raise LandscapeError("nothing to compare yet: run `landscape probe` on both runs first.")
    if as_json:
        emit_json({name: {**ds.to_dict(data="array"), "dims": dict(ds.sizes)} for name, ds in found.items()})
    for name, ds in found.items():
        if not as_json:
            _show(name, ds)
        if output is not None:
            path = _named(output, name, len(found))
            save(ds, path)
            click.echo(str(path), err=as_json)
        if picture is not None:
            path = _named(picture, name, len(found))
            save_figure(comparison(ds), path, dpi)
            click.echo(str(path))


def _named(path: Path, name: str, count: int) -> Path:
    return path if count == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}")


def _show(name: str, ds: xr.Dataset) -> None:
    """The first, middle and last value of the abscissa where both sides are known."""
    at = str(ds.attrs["at"])
    scalars = [str(v).removesuffix("_difference") for v in ds if str(v).endswith("_difference") and ds[v].dims == (at,)]
    scalars = [v for v in scalars if v not in _CHECKS]
    chosen = _chosen(ds, at)
    rows = []
    for i in chosen:
        here = ds.isel({at: i})
        for variable in scalars:
            cells = [_cell(here, f"{variable}_{part}") for part in ("a", "b", "difference")]
            rows.append([number(here[at], 6), variable.replace("_", " "), *cells])
    label = {side: f"{side}: {ds.attrs[f'arch_{side}']}" for side in "ab"}
    caption = "" if chosen else f"No {at} that all runs reach: nothing to compare. "
    caption += f"Interpolation: {ds.attrs['interpolation']}. Note: {ds.attrs['note']}."
    caption += " ±: standard error. What has further axes is in the file (-o) and in --json."
    title = f"{name}: a = {ds.attrs['runs_a']}, b = {ds.attrs['runs_b']}"
    if ds.attrs["metric"] not in ("euclidean", "none"):
        title += f", metric: {ds.attrs['metric']}"
    show_table(Table(title, [at, "quantity", label["a"], label["b"], "b minus a"], rows, caption))
    if "tau" in ds.dims and "dominance_fraction" in ds:
        parts = ("count_below_a", "count_below_b", "count_below_difference", "dominance_fraction")
        rows = [
            [number(ds[at][i], 6), number(t), *(_cell(ds.isel({at: i}).sel(tau=t), part) for part in parts)]
            for i in chosen
            for t in ds["tau"].values
        ]
        columns = [at, "tau", f"below tau, {label['a']}", f"below tau, {label['b']}", "b minus a", "share of ranks"]
        caption = "Share of ranks at which b's eigenvalue is no larger than a's, both counted from the smallest up."
        title = "Spectral dominance of b: eigenvalues above rounding, up to tau"
        show_table(Table(title, columns, rows, caption))


def _chosen(ds: xr.Dataset, at: str) -> list[int]:
    """Places where every side has a number."""
    both = np.zeros(ds.sizes[at], dtype=bool)
    for name in ds:
        if str(name).endswith("_difference"):
            both |= np.isfinite(ds[name].values).reshape(len(both), -1).any(1)
    known = np.flatnonzero(both).tolist()
    return sorted({known[0], known[len(known) // 2], known[-1]}) if known else []


def _cell(here: Any, name: str) -> str:
    error = float(here[f"{name}_stderr"]) if f"{name}_stderr" in here else float("nan")
    return number(here[name]) if not error > 0 else f"{number(here[name])} ± {number(error, 1)}"
