"""Figures: datasets in, one ``matplotlib.figure.Figure`` out. Nothing here reads, writes or computes statistics.

`FIGURES` lists what can be drawn and from which probe; `PAPER` the figures of the paper that the toolkit is built from,
each from the answers of several probes. The modules behind it are loaded on first use, so that asking
for the names does not wait for matplotlib. Save a figure inside ``with landscape.figures.style.paper():``, because
matplotlib reads some settings (text kept as text in PDF and SVG) only then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "PAPER", "FigureSpec", "PaperFigure"]


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
        FigureSpec(
            "kappa", "split", "Condition number of the valley against its threshold, and what it is by construction"
        ),
        FigureSpec("surface", "surface", "Loss on a plane, with the training path projected on it"),
        FigureSpec("connect", "connect", "Loss on the straight line and on a trained curve between two checkpoints"),
        FigureSpec("surface3d", "surface", "Loss on a plane as a shaded surface, with the training path on it"),
        FigureSpec(
            "cuts", "surface", "Loss along lines through a checkpoint, with floor, walls, parabola and other draws"
        ),
        FigureSpec("frames", "surface", "Loss on one plane through checkpoint after checkpoint"),
        FigureSpec(
            "sharpness", "sharpness", "Critical sharpness along the optimiser's update, and what one update does"
        ),
        FigureSpec("hopping", "hopping", "Hopping between the valley's walls, and what lowers the loss"),
        FigureSpec("shift", "shift", "Accuracy, compute and the drop of runs that shift, by step or threshold"),
        FigureSpec("branches", "decay", "Loss, river loss and valley loss along training, from decay branches"),
        FigureSpec("length", "length", "Accuracy against the length of the query, and against the number of loops"),
        FigureSpec("loops", "loops", "Loss, steps and Jacobian of the recursion, pass by pass and beyond the last"),
        FigureSpec("examples", "examples", "Squared error of in-context regression against the examples in the prompt"),
        FigureSpec("verdict", "verdict", "Standardised effects behind every claim, with intervals over seeds"),
        FigureSpec("alignment", "alignment", "Cosine of the single and looped gradients, with the premises"),
    )
}


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper (arXiv 2510.10089), drawn from the answers of several probes.

    Args:
        name: the name on the command line: "fig" and its number in the paper.
        module: of this package, with the function; the function is called as the figure, with "_" for "-".
        probes: without answers of these there is no figure.
        optional: drawn where they are there.
        title: one line for listings and captions.
        differs: how it corresponds to the paper's, and where it does not.

    Example:
        >>> PAPER["fig3"].probes
        ('samples', 'entropy')
        >>> PAPER["fig12-16"].function.__name__
        'fig12_16'
    """

    name: str
    module: str
    probes: tuple[str, ...]
    optional: tuple[str, ...]
    title: str
    differs: str

    @property
    def number(self) -> str:
        """As the paper calls it."""
        first, _, last = self.name.removeprefix("fig").partition("-")
        return f"Figures {first} to {last}" if last else f"Figure {first}"

    @property
    def function(self) -> Callable[..., Figure]:
        """``function(answers by probe, **keywords) -> Figure``; its module is imported on first use."""
        module = import_module(f"{__name__}.{self.module}")
        function: Callable[..., Figure] = getattr(module, self.name.replace("-", "_"))
        return function

    def used(self, answers: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of the answers that are there, those that are drawn, by probe."""
        module = import_module(f"{__name__}.{self.module}")
        used: Callable[..., Mapping[str, Any]] = getattr(module, "used", lambda there: there)
        return used(answers)


_SPECTRA = (
    "The paper shows histograms of the eigenvalues of the toy at several epochs. Ours are smoothed, on an axis for "
    "all sizes and both signs, from all eigenvalues where they were computed, with the same axes in figures 7 and 8; "
    "phases are those of a change-point search and not set by eye."
)
PAPER: dict[str, PaperFigure] = {
    figure.name: figure
    for figure in (
        PaperFigure(
            "fig1",
            "fig1",
            ("surface",),
            ("valley", "shift"),
            "Landscapes around the trained models at one scale, with the path, the switch, and cuts across the valley",
            "The paper draws a U-shaped and a V-shaped valley as a schematic. Ours are measured slices and cuts at "
            "one scale. Parameter distances of different architectures are not commensurable: a looped weight acts T "
            "times.",
        ),
        PaperFigure(
            "fig3",
            "fig3",
            ("samples", "entropy"),
            ("evolution",),
            "Dynamics on the level of samples and of the Hessian, side by side",
            "The paper shows both levels for its toy. Information content is exact here (from the chain that made the "
            "samples), phases are change points of the entropy, and the mutual information of checkpoints is stored "
            "only where all Hessians can be written out.",
        ),
        PaperFigure(
            "fig4",
            "fig4",
            ("metrics", "shift"),
            (),
            "SHIFT on the toy: accuracy against step and compute, with the switch",
            "The paper compares SHIFT with Single-Attn and Looped-Attn on the toy. What its criterion watches is not "
            "public; ours is defined in the documentation (SHIFT criterion).",
        ),
        PaperFigure(
            "fig7", "fig7", (), ("entropy", "density", "evolution"), "Eigenspectra over training: single", _SPECTRA
        ),
        PaperFigure(
            "fig8", "fig7", (), ("entropy", "density", "evolution"), "Eigenspectra over training: looped", _SPECTRA
        ),
        PaperFigure(
            "fig11",
            "fig11",
            ("metrics",),
            (),
            "Time, compute and accuracy at the end of training",
            "The paper reports training time. Time depends on the machine and on what else it did; the floating-point "
            "operations beside it do not.",
        ),
        PaperFigure(
            "fig12-16",
            "fig12",
            ("metrics",),
            ("length",),
            "Algorithmic tasks: accuracy during training, and against the length of the query",
            "The paper's Figures 12 to 16 are about its algorithmic tasks; ours has a row for every task among the "
            "runs. Accuracy is exact match over answer and end of sequence; the models are as small as the runs say.",
        ),
    )
}
