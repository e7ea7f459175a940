"""Numbers and steps as sentences and tables say them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["at", "last", "number", "percent", "sampled", "unit", "with_error"]


def number(x: Any, digits: int = 4) -> str:
    """A number in so many digits; a dash for NaN.

    Example:
        >>> number(1234.5678), number(0.0), number(float("nan")), number(-3.0), number(655360)
        ('1235', '0', '–', '−3', '655400')
    """
    value = float(x)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 10**digits <= abs(value) < 1e7:  # zeros are easier to read than an exponent
        return f"{float(f'{value:.{digits}g}'):.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−") if value else "0"


def with_error(value: Any, error: Any) -> str:
    """A number to the digits that its error leaves, six at most, and the error in one.

    Example:
        >>> with_error(12.34567, 2e-5), with_error(12.34567, 0.3), with_error(0.0, 0.0)
        ('12.3457 ± 2e−05', '12.3 ± 0.3', '0 ± 0')
    """
    v, e = float(value), float(error)
    digits = 6
    if v and e and math.isfinite(v) and math.isfinite(e):
        digits = min(6, max(1, math.floor(math.log10(abs(v))) - math.floor(math.log10(e)) + 1))
    return f"{number(v, digits)} ± {number(e, 1)}"


def percent(share: Any, digits: int = 3) -> str:
    """A share as a percentage.

    Example:
        >>> percent(0.1363)
        '13.6 %'
    """
    return f"{number(100 * float(share), digits)} %"


def unit(variable: xr.DataArray) -> str:
    """The unit behind a number, with a space before it; nothing for a pure number."""
    text = str(variable.attrs.get("units", "unit not stored"))
    return "" if text in ("1", "") else f" {text}"


def last(ds: xr.Dataset) -> xr.Dataset:
    """The last checkpoint; all there is, without steps."""
    return ds.isel(step=-1) if "step" in ds.dims else ds


def sampled(ds: xr.Dataset) -> str:
    """Text as " over the first 128 samples", where not all of them were asked; "" else.

    Example:
        >>> sampled(xr.Dataset(attrs={"settings": '{"samples": 128}'}))
        ' over the first 128 samples'
    """
    n = json.loads(str(ds.attrs.get("settings", "{}"))).get("samples")
    return "" if n is None else f" over the first {n} samples"


def at(ds: xr.Dataset) -> str:
    """Text as " at step 100", of the last checkpoint or of the only one; "" where there is no step."""
    if "step" in ds.coords and np.size(ds["step"].values):
        return f" at step {int(np.ravel(ds['step'].values)[-1])}"
    return f" at step {int(ds.attrs['step'])}" if "step" in ds.attrs else ""
