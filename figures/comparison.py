"""Two runs, or two groups of runs, at the same step, loss or compute, and their difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import LandscapeError
from landscape.figures.datasets import Array, shown_units, unknown_error
from landscape.figures.marks import curve, fit_steps, spread_ticks, step_axis
from landscape.figures.style import MAP, NEUTRAL, ArchStyle, arch_style, grid, styled

__all__ = ["comparison"]

_PREFERRED = ("effective_rank", "participation_ratio", "log_spread", "inverse_sum", "flattest_share")
_AXIS = {
    "step": "training step",
    "loss": "probe loss reached, falling",
    "flops": "training compute\n(FLOP)",
}


@styled
def comparison(ds: xr.Dataset, *, variables: Sequence[str] | None = None) -> Figure:
    """Values of both sides (above) and their difference (below), one column per quantity.

    Bands are one standard error to each side; without a band it is 0 or unknown. Where eigenvalues were compared, a
    last column shows how many more eigenvalues b has below each threshold, and the share of ranks at which its
    eigenvalues are no larger.

    Args:
        ds: the result of a comparison.
        variables: quantities to draw; None takes up to three. One with further axes is drawn at the middle of each.

    Raises:
        LandscapeError: if the dataset is no comparison, or lacks a quantity.

    Example:
        >>> x = ("step", [1.0, 2.0])
        >>> attrs = {"at": "step", "arch_a": "single", "arch_b": "looped", "of": "entropy", "n_seeds": 1}
        >>> ds = xr.Dataset({"rank_a": x, "rank_b": x, "rank_difference": x}, {"step": [0, 10]}, attrs)
        >>> comparison(ds).axes[0].get_title(loc="left")
        'rank'
    """
    if not {"at", "arch_a", "arch_b"} <= set(ds.attrs):
        raise LandscapeError("expected the result of a comparison, found a dataset without the attribute `at`.")
    at = str(ds.attrs["at"])
    names = _choose(ds, at) if variables is None else list(variables)
    for name in names:
        if absent := [n for s in ("a", "b", "difference") if (n := f"{name}_{s}") not in ds]:
            raise LandscapeError(f"expected the quantity {name!r} in the comparison, found no {absent[0]}.")
    spectral = "dominance_fraction" in ds
    if not names and not spectral:
        raise LandscapeError("expected at least one quantity to draw, found none.")
    figure, axes = grid(2, len(names) + spectral, height=2.2, sharex=True)
    x = ds[at].values.astype(float)
    styles = (arch_style(str(ds.attrs["arch_a"])), arch_style(str(ds.attrs["arch_b"])))
    if styles[0] == styles[1]:
        styles = (styles[0], arch_style("other"))
    for column, name in enumerate(names):
        _quantity(axes[0][column], axes[1][column], ds, name, at, x, styles)
    if spectral:
        _dominance(axes[0][-1], axes[1][-1], ds, at, x)
    for ax in axes[1]:
        ax.set_xlabel(_AXIS[at] + (f"\n({ds[at].attrs.get('units', 'nats per token')})" if at == "loss" else ""))
    _scale(axes, x, at)
    figure.legend(handles=_legend(ds, styles, names), loc="outside upper center", ncols=min(3, len(axes[0]) + 1))
    return figure


def _choose(ds: xr.Dataset, at: str) -> list[str]:
    """Three quantities that say most, or any that are there."""
    spectral = {"count_below", "eigenvalue", "resolution", "asymmetry", "residual"}
    there = [str(v).removesuffix("_difference") for v in ds if str(v).endswith("_difference") and at in ds[v].dims]
    there = [n for n in there if n not in spectral]
    return ([n for n in _PREFERRED if n in there] or there)[: 2 if "dominance_fraction" in ds else 3]


def _middle(variable: xr.DataArray, at: str) -> tuple[xr.DataArray, str]:
    """The variable at the middle of its further axes, and what these are."""
    place = {d: variable.sizes[d] // 2 for d in variable.dims if d != at}
    note = ", ".join(
        f"{d} = {_text(variable[d].values[i])}" if d in variable.coords else f"{d} {i}" for d, i in place.items()
    )
    return variable.isel(place), note


def _text(value: Any) -> str:
    """A value of a coordinate, which may be a name."""
    return str(value) if np.asarray(value).dtype.kind in "OSTU" else f"{float(value):g}"


def _band(ax: Axes, x: Array, ds: xr.Dataset, name: str, at: str, style: ArchStyle) -> str:
    value, note = _middle(ds[name], at)
    if f"{name}_stderr" in ds:
        error = _middle(ds[f"{name}_stderr"], at)[0].values
        ax.fill_between(x, value.values - error, value.values + error, color=style.color, alpha=0.2, linewidth=0)
    curve(ax, x, value.values, color=style.color, marker=style.marker, linestyle=style.linestyle)
    return note


def _quantity(
    top: Axes, bottom: Axes, ds: xr.Dataset, name: str, at: str, x: Array, styles: Sequence[ArchStyle]
) -> None:
    units = str(ds[f"{name}_a"].attrs.get("units", ""))
    for side, style in zip("ab", styles, strict=True):
        note = _band(top, x, ds, f"{name}_{side}", at, style)
    _band(bottom, x, ds, f"{name}_difference", at, ArchStyle(NEUTRAL, "o", "-"))
    if not np.isfinite(_middle(ds[f"{name}_difference"], at)[0].values).any():
        bottom.text(0.5, 0.5, "no value", transform=bottom.transAxes, ha="center", va="bottom", color=NEUTRAL)
    bottom.axhline(0, color=NEUTRAL, linewidth=0.6, linestyle=":")
    top.set_title(name.replace("_", " ") + (f"\n({note})" if note else ""))
    unit = f"\n({shown_units(units, width=22)})" if units not in ("", "1") else ""
    top.set_ylabel(f"value{unit}")
    bottom.set_ylabel(f"b minus a{unit}")


def _dominance(top: Axes, bottom: Axes, ds: xr.Dataset, at: str, x: Array) -> None:
    """Counts and component-wise order of the eigenvalues below each threshold."""
    taus = ds["tau"].values
    for i, tau in enumerate(taus):
        color = colormaps[MAP](0.9 * i / max(1, len(taus) - 1))[:3]
        for ax, name in ((top, "count_below_difference"), (bottom, "dominance_fraction")):
            y = ds[name].transpose(at, "tau").values[:, i]
            curve(ax, x, y, color=color, marker="osv^D"[i % 5], linestyle="-", label=f"{tau:g}")
    top.axhline(0, color=NEUTRAL, linewidth=0.6, linestyle=":")
    bottom.set_ylim(-0.02, 1.02)
    top.set_title("eigenvalues λ,\nrounding < λ ≤ τ")
    top.set_ylabel("number in b\nminus in a")
    bottom.set_ylabel("share of ranks at which\nb's is no larger")


def _scale(axes: Sequence[Sequence[Axes]], x: Array, at: str) -> None:
    """The axis of the abscissa: as training goes, from left to right."""
    for ax in (ax for row in axes for ax in row):
        if at == "loss":
            pad = 0.04 * (x.max() - x.min()) or 0.5
            ax.set_xlim(x.max() + pad, x.min() - pad)
            continue
        label = step_axis(ax, np.sort(x), scale="symlog", ticks=at == "step")
        if at == "step":
            ticks = x[spread_ticks(ax.xaxis.get_transform().transform(x), gap=0.2)]
            ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
            ax.set_xlabel(label if ax in axes[1] else "")
        else:
            ax.set_xscale("linear")
        fit_steps(ax, x)


def _legend(ds: xr.Dataset, styles: Sequence[ArchStyle], names: Sequence[str]) -> list[Line2D | Patch]:
    marks: list[Line2D | Patch] = []
    if names:
        for side, style in zip("ab", styles, strict=True):
            look: dict[str, Any] = {"color": style.color, "marker": style.marker, "linestyle": style.linestyle}
            marks.append(Line2D([], [], label=f"{side}: {ds.attrs[f'arch_{side}']}", **look))
    errors = [v for n in names if (v := f"{n}_difference_stderr") in ds]
    if any((ds[v] > 0).any() for v in errors):
        seeds = int(ds.attrs.get("n_seeds", 1))
        marks.append(Patch(facecolor=NEUTRAL, alpha=0.2, label=f"± standard error ({seeds} seed{'s' * (seeds > 1)})"))
    if any(unknown_error([ds[v.removesuffix("_stderr")].values], [ds[v].values]) for v in errors):
        marks.append(Line2D([], [], linestyle="none", label="no band: error 0 or unknown"))
    if "dominance_fraction" in ds:
        taus = ds["tau"].values
        for i, tau in enumerate(taus):
            color = colormaps[MAP](0.9 * i / max(1, len(taus) - 1))[:3]
            marks.append(Line2D([], [], color=color, marker="osv^D"[i % 5], label=f"τ = {tau:g}"))
    return marks
