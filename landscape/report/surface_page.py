"""Loss surfaces on a page of their own: to be turned, over training, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import AbsentError, LandscapeError
from landscape.figures.contours import measured, triangles
from landscape.report.surface import CONFIG, HINT, available, plotly_code

__all__ = ["surface_page"]

_LOOK = {"colorscale": "Viridis", "opacity": 0.92}
_PATH = "#D55E00"
# Nothing is fetched and nothing sent; plotly makes functions of text.
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; base-uri 'none'; form-action 'none'"
)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:1rem;color:#222}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-bottom:0}p{max-width:46rem;color:#444}"
)


def surface_page(datasets: Sequence[xr.Dataset]) -> str:
    """One surface per run, with the path of training on it, and a slider over checkpoints where there are several.

    Heights are the loss, or log10 of what is above the lowest value of the run: buttons switch. Hovering tells loss
    and coordinates. Where the loss is no number the surface has a hole.

    Args:
        datasets: answers of the probe `surface` on planes.

    Returns:
        HTML with plotly's code in it.

    Raises:
        AbsentError: for a line in place of a plane.
        LandscapeError: without plotly, or without datasets.
    """
    if not available():
        raise LandscapeError(HINT)
    if not datasets:
        raise LandscapeError("expected at least one answer of `surface`, found none. Probe a run first.")
    if any(min(ds.sizes.get("alpha", 0), ds.sizes.get("beta", 0)) < 2 for ds in datasets):
        raise AbsentError("expected planes, found a line of points. Draw it with the figure `cuts`.")
    parts = []
    for i, ds in enumerate(datasets):
        name = f"{ds.attrs.get('run', 'loss')}, {ds.attrs.get('directions', 'given')} directions"
        parts += [f"<h2>{escape(name)}</h2>", _turned(ds, identity=f"surface-{i}")]
        if "frame_loss" in ds:
            parts += ["<p>The same plane laid through checkpoint after checkpoint, each at 0:</p>"]
            parts += [_moving(ds, identity=f"frames-{i}")]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Loss surfaces</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<style>{_STYLE}</style><script>{plotly_code()}</script></head><body><h1>Loss surfaces</h1>"
        "<p>Drag to turn, scroll to come closer, point to read. The path of training has its true losses, which differ "
        f"from the plane's at the same place.</p>{''.join(parts)}</body></html>\n"
    )


def _turned(ds: xr.Dataset, *, identity: str) -> str:
    """The plane, and the path on it."""
    import plotly.graph_objects as go

    loss = _heights(ds)
    low, floor = _bottom(loss)
    units = str(ds["loss"].attrs.get("units", ""))
    heights = [[loss], [_logarithm(loss, low, floor)]]
    traces = [_surface(ds, loss, units)]
    if ds.sizes.get("path_step", 0):
        true = ds["path_loss"].values.astype(float)
        for form, values in zip(heights, (true, _logarithm(true, low, floor)), strict=True):
            form.append(values)
        traces.append(
            go.Scatter3d(
                x=ds["path_alpha"].values, y=ds["path_beta"].values, z=true, mode="lines+markers", name="path",
                customdata=np.stack([ds["path_step"].values, true], 1), marker={"size": 3, "color": _PATH},
                line={"width": 4, "color": _PATH},
                hovertemplate="step %{customdata[0]}<br>true loss %{customdata[1]:.6g}<extra>path</extra>",
            )
        )  # fmt: skip
    names = (f"loss ({units})", f"log10 of loss above {low:.4g} ({units})")
    buttons = [
        {"label": label, "method": "update", "args": [{"z": z}, {"scene.zaxis.title.text": name}]}
        for label, z, name in zip(("linear", "logarithmic"), heights, names, strict=True)
    ]
    figure = go.Figure(traces)
    _lay_out(figure, names[0])
    figure.update_layout(
        updatemenus=[{"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1, "buttons": buttons}]
    )
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=identity, config=CONFIG)
    return text


def _moving(ds: xr.Dataset, *, identity: str) -> str:
    """A slider over the frames; all have the same heights and colours."""
    import plotly.graph_objects as go

    units = str(ds["loss"].attrs.get("units", ""))
    every = ds["frame_loss"].transpose("frame_step", "beta", "alpha").values.astype(float)
    known = every[np.isfinite(every)]
    ends = [float(known.min()), float(known.max())] if known.size else [0.0, 1.0]
    steps = [str(int(step)) for step in ds["frame_step"].values]
    shown = [_surface(ds, z, units, ends=ends) for z in every]
    figure = go.Figure([shown[0]], frames=[go.Frame(data=[s], name=n) for s, n in zip(shown, steps, strict=True)])
    _lay_out(figure, f"loss ({units})")
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    figure.update_layout(
        scene_zaxis_range=ends,
        margin_b=90,  # for the slider
        sliders=[
            {
                "currentvalue": {"prefix": "training step "}, "pad": {"t": 0, "l": 20, "r": 20},
                "steps": [{"label": n, "method": "animate", "args": [[n], still]} for n in steps],
            }
        ],
    )  # fmt: skip
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=identity, config=CONFIG, auto_play=False)
    return text


def _surface(ds: xr.Dataset, loss: NDArray[np.float64], units: str, *, ends: Sequence[float] | None = None) -> Any:
    """Rows of z are beta, columns alpha; of a refined grid, triangles between the points that were evaluated."""
    import plotly.graph_objects as go

    hover = f"α %{{x:.4g}}<br>β %{{y:.4g}}<br>loss %{{customdata:.6g}} {escape(units)}<extra></extra>"
    alpha, beta = (ds[name].values.astype(float) for name in ("alpha", "beta"))
    look: dict[str, Any] = {"customdata": loss, "hovertemplate": hover, "name": "plane", "showscale": False, **_LOOK}
    look |= {} if ends is None else {"cmin": ends[0], "cmax": ends[1]}
    if loss.ndim == 2:
        return go.Surface(x=alpha, y=beta, z=loss, **look)
    mesh = triangles(ds)
    i, j, k = mesh.corners[~mesh.holes].T
    return go.Mesh3d(x=alpha[mesh.alpha], y=beta[mesh.beta], z=loss, i=i, j=j, k=k, intensity=loss, **look)


def _lay_out(figure: Any, height: str) -> None:
    figure.update_layout(
        scene={
            **{f"{axis}axis": {"title": {"text": text}} for axis, text in (("x", "α"), ("y", "β"), ("z", height))},
            "camera": {"eye": {"x": 1.5, "y": 1.5, "z": 0.9}}, "aspectmode": "cube",
        },
        margin={"l": 0, "r": 0, "t": 40, "b": 0}, height=600, showlegend=False,
    )  # fmt: skip


def _heights(ds: xr.Dataset) -> NDArray[np.float64]:
    """The loss on the grid, (beta, alpha), or at the points of a refined one; NaN where it is no number."""
    loss = ds["loss"].transpose("beta", "alpha").values.astype(float)
    if not measured(ds).all():
        mesh = triangles(ds)
        loss = loss[mesh.beta, mesh.alpha]
    found: NDArray[np.float64] = np.where(np.isfinite(loss), loss, np.nan)
    return found


def _bottom(loss: NDArray[np.float64]) -> tuple[float, float]:
    """The lowest value, and what a logarithm shows of it: a hundredth of the median above it."""
    known = loss[np.isfinite(loss)]
    low = float(known.min()) if known.size else 0.0
    above = known[known > low] - low
    return low, 1e-2 * float(np.median(above)) if above.size else 1.0


def _logarithm(loss: NDArray[np.float64], low: float, floor: float) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.log10(np.maximum(loss - low, floor))
    return found
