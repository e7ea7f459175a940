"""The plane as a surface that can be turned, where plotly is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["CONFIG", "HINT", "available", "interactive", "plotly_code"]

HINT = 'For a surface that can be turned: pip install "landscape-valleys[html]" (plotly), then make the page again.'
# Only these buttons: among plotly's own is one that would send the chart to a server.
_BUTTONS = ["toImage", "pan3d", "orbitRotation", "tableRotation", "resetCameraDefault3d"]
CONFIG: dict[str, Any] = {"responsive": True, "displaylogo": False, "modeBarButtons": [_BUTTONS]}
_STEEP = 20.0
"""Heights are the logarithm of what is above the minimum if the largest is this many times the median."""


def available() -> bool:
    """Whether plotly is installed."""
    return find_spec("plotly") is not None


def interactive(ds: xr.Dataset, *, identity: str) -> str:
    """A piece of HTML with the surface, and the path of training on it at its true loss; plotly's code is not in it.

    Args:
        ds: an answer of the probe `surface`.
        identity: of the element, unique on the page.
    """
    import plotly.graph_objects as go

    loss = ds["loss"].transpose("beta", "alpha").values.astype(float)
    units = str(ds["loss"].attrs.get("units", ""))
    finite = loss[np.isfinite(loss)]
    low = float(finite.min()) if finite.size else 0.0
    excess = finite[finite > low] - low
    steep = bool(excess.size) and float(excess.max()) > _STEEP * float(np.median(excess))

    def height(values: Any) -> Any:
        if not steep:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(np.maximum(np.asarray(values) - low, 1e-3 * float(np.median(excess))))

    said = "log10 of loss above the minimum" if steep else "loss"
    figure = go.Figure(
        go.Surface(
            x=ds["alpha"].values, y=ds["beta"].values, z=height(loss), customdata=loss, colorscale="Viridis",
            colorbar={
                "title": {"text": f"{said} ({units})", "side": "top"}, "thickness": 10, "len": 0.8,
                "orientation": "h", "x": 0.5, "xanchor": "center", "y": 0, "yanchor": "bottom",
            }, opacity=0.9,
            hovertemplate="alpha %{x:.3g}<br>beta %{y:.3g}<br>loss %{customdata:.5g}<extra></extra>", name="plane",
        )
    )  # fmt: skip
    if "path_alpha" in ds:
        figure.add_trace(
            go.Scatter3d(
                x=ds["path_alpha"].values, y=ds["path_beta"].values, z=height(ds["path_loss"].values),
                customdata=np.stack([ds["path_step"].values, ds["path_loss"].values], 1), mode="lines+markers",
                marker={"size": 3, "color": "#D55E00"}, line={"width": 4, "color": "#D55E00"}, name="path of training",
                hovertemplate="step %{customdata[0]}<br>true loss %{customdata[1]:.5g}<extra>path</extra>",
            )
        )  # fmt: skip
    figure.update_layout(
        scene={
            **{f"{axis}axis": {"title": {"text": text}} for axis, text in (("x", "α"), ("y", "β"), ("z", said))},
            "camera": {"eye": {"x": 1.9, "y": 1.9, "z": 1.1}},
            "domain": {"y": [0.16, 1]},
        },
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        height=520,
        showlegend=False,
    )
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=identity, config=CONFIG)
    return text


def plotly_code() -> str:
    """The JavaScript of plotly, to be put into the page once."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
