"""What came of an analysis: to be read in a notebook, saved as a page, or worked on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from landscape.answers.files import write
from landscape.report.page import fragment, page
from landscape.report.section import Section

__all__ = ["Report"]


@dataclass(frozen=True, kw_only=True)
class Report(Section):
    """What was found about one run or objective; shown as HTML by notebooks.

    Attributes:
        title: the run's name, or "model".
        datasets: xarray datasets by name of the probe, and "metrics" of a run.
        findings: sentences with the reliability of their numbers; `str()` gives the text of one.
        skipped: why a probe was not asked, by its name.
        settings: what was asked for.
        provenance: where the numbers come from.
        plan: what was chosen, and the cost told beforehand.
        troubles: of what was skipped, what failed or is damaged, by probe.

    Example:
        >>> import torch
        >>> from landscape import Objective, analyze
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))
        >>> report = analyze(Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data), seed=0)
        >>> sorted(report.datasets)
        ['density', 'entropy', 'samples', 'spectrum', 'surface', 'valley']
    """

    def _repr_html_(self) -> str:
        return fragment(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, whole or not at all; it opens from disk and asks for nothing from the network.

        Raises:
            RunFailedError: if it cannot be written (full disk, no permission).
        """
        path = Path(path)
        write(page([self]).encode(), path)
        return path
