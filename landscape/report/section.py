"""What is said about one run or objective: data alone, from which a page or a notebook is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import xarray as xr

from landscape.errors import LandscapeError

__all__ = ["Finding", "Section", "Trust"]

Trust = Literal["sure", "bound", "doubtful"]
"""Whether a sentence states numbers that are what they say, a bound, or a number that did not converge."""


@dataclass(frozen=True)
class Finding:
    """One sentence about numbers of a dataset.

    Attributes:
        sentence: what was found, with the reliability of its numbers.
        probe: the dataset that it is about.
        trust: "sure", "bound" (at least, at most) or "doubtful" (not converged, or not all of it).

    Example:
        >>> print(Finding("The loss is 0.5.", "samples", "sure"))
        The loss is 0.5.
    """

    sentence: str
    probe: str
    trust: Trust = "sure"

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, kw_only=True)
class Section:
    """All that a page says about one subject.

    Attributes:
        title: the run's name, or what the model is.
        datasets: answer by name of the probe; "metrics" too, of a run.
        findings: sentences, most important first.
        skipped: why a probe was not asked, by its name.
        settings: what was asked for.
        provenance: versions, code revision, data: where the numbers come from.
        plan: what was chosen, with the cost told beforehand.
        troubles: of what was skipped, what failed or is damaged, by probe.
    """

    title: str
    datasets: Mapping[str, xr.Dataset]
    findings: tuple[Finding, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    plan: tuple[str, ...] = ()
    troubles: Mapping[str, LandscapeError] = field(default_factory=dict)
