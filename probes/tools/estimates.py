"""What is stored of a number that was estimated from random vectors: value, standard error, interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from landscape.probes.base import Variable
from landscape.probes.linalg.trace.intervals import LEVEL, Estimate

__all__ = ["entries", "with_intervals"]


def with_intervals(variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """The variables, and NAME_stderr, NAME_low and NAME_high of each.

    Example:
        >>> list(with_intervals({"trace": Variable((), "1", "sum of all eigenvalues")}))
        ['trace', 'trace_stderr', 'trace_low', 'trace_high']
    """
    said = {
        "stderr": "standard error over vectors, 0 if exact",
        "low": f"lower end of a {LEVEL:.0%} interval",
        "high": f"upper end of a {LEVEL:.0%} interval",
    }
    out: dict[str, Variable] = {}
    for name, v in variables.items():
        out[name] = v
        out |= {f"{name}_{end}": Variable(v.dims, v.units, f"{what}: {v.long_name}") for end, what in said.items()}
    return out


def entries(estimates: Mapping[str, Estimate[Any]]) -> dict[str, Any]:
    """The values of these variables."""
    out: dict[str, Any] = {}
    for name, e in estimates.items():
        out |= {name: e.value, f"{name}_stderr": e.stderr, f"{name}_low": e.low, f"{name}_high": e.high}
    return out
