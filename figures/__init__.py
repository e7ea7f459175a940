"""Figures: datasets in, one ``matplotlib.figure.Figure`` out. Nothing here reads, writes or computes statistics.

`FIGURES` lists what can be drawn and from which probe. The modules behind it are loaded on first use, so that asking
for the names does not wait for matplotlib. Save a figure inside ``with landscape.figures.style.paper():``, because
matplotlib reads some settings (text kept as text in PDF and SVG) only then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "FigureSpec"]


@dataclass(frozen=True)
class FigureSpec:
    """One kind of figure: what it is called, what it is drawn from, and the function that draws it.

    Args:
        name: the name on the command line; also the name of the module and of the function in it.
        probe: the result that each dataset must hold, such as ``"metrics"`` or ``"spectrum"``.
        title: one line for listings and captions.

    Example:
        >>> FIGURES["surface"].probe
        'surface'
        >>> FIGURES["surface"].function.__module__
        'landscape.figures.surface'
    """

    name: str
    probe: str
    title: str

    @property
    def function(self) -> Callable[..., Figure]:
        """``function(runs, **keywords) -> Figure``; its module is imported on first use."""
        function: Callable[..., Figure] = getattr(import_module(f"{__name__}.{self.name}"), self.name)
        return function


FIGURES: dict[str, FigureSpec] = {
    spec.name: spec
    for spec in (
        FigureSpec(
            "learning",
            "metrics",
            "What was recorded during training; where known, by family and with the best possible",
        ),
        FigureSpec("eigenvalues", "spectrum", "Extreme Hessian eigenvalues over training"),
        FigureSpec("density", "density", "Smoothed density of all Hessian eigenvalues at chosen steps"),
        FigureSpec("widths", "valley", "Valley widths and shape exponents by direction"),
        FigureSpec(
            "trajectories", "samples", "Loss of every sample over training; of our tasks by information content"
        ),
        FigureSpec("entropy", "entropy", "Entropy, ranks, spread and power law of the spectrum over training"),
        FigureSpec("force", "force", "Sum of 1/|eigenvalue| in windows of the spectrum over training"),
        FigureSpec("evolution", "evolution", "Phases of the entropy, mutual information and angles of checkpoints"),
        FigureSpec("split", "split", "Dimension and condition number of the valley for several thresholds"),
        FigureSpec("surface", "surface", "Loss on a plane, with the training path projected on it"),
        FigureSpec(
            "sharpness", "sharpness", "Critical sharpness along the optimiser's update, and what one update does"
        ),
        FigureSpec("hopping", "hopping", "Hopping between the valley's walls, and what lowers the loss"),
        FigureSpec("shift", "shift", "Accuracy, compute and the drop of runs that shift, by step or threshold"),
        FigureSpec("branches", "decay", "Loss, river loss and valley loss along training, from decay branches"),
        FigureSpec("length", "length", "Accuracy against the length of the query, and against the number of loops"),
        FigureSpec("loops", "loops", "Loss, steps and Jacobian of the recursion, pass by pass and beyond the last"),
        FigureSpec("examples", "examples", "Squared error of in-context regression against the examples in the prompt"),
        FigureSpec("alignment", "alignment", "Cosine of the single and looped gradients, with the premises"),
    )
}
