"""The paper's Figures 7 and 8: the spectrum of the Hessian at checkpoints from the first to the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import AbsentError, LandscapeError
from landscape.figures.datasets import by_arch, require_all, titled
from landscape.figures.density import NEEDED, common_steps, draw_panels
from landscape.figures.marks import band_marks, error_marks
from landscape.figures.style import arch_style, grid, styled

__all__ = ["fig7", "fig8", "used"]

_MOST = 6
"""Panels, if the steps are not named."""


@styled
def fig7(
    answers: Mapping[str, Sequence[xr.Dataset]],
    *,
    arch: str = "single",
    steps: Sequence[int] | None = None,
    width: float = 0.2,
) -> Figure:
    """Density of the Hessian eigenvalues of one architecture, one panel per step; same axes for all architectures.

    Every eigenvalue is a Gaussian of standard deviation `width`, in decades of the drawn axis, so that the area below
    the curve is a number of eigenvalues. From all eigenvalues where these are stored for all runs (bands reach over the
    seeds), else by stochastic Lanczos quadrature (bands: and the standard error over its random vectors). Phases are
    those of the first seed, from change points of the matrix entropy.

    Args:
        answers: ``entropy`` with all eigenvalues, or ``density``; and, if there, ``evolution``.
        arch: the architecture.
        steps: training steps to draw; None means up to six, evenly spaced among the checkpoints that all runs have.
        width: of the Gaussian kernel, in decades.

    Raises:
        AbsentError: if no spectra are there, or none of this architecture.
        LandscapeError: if the runs lack a step in common or one of `steps`, or `width` is not positive.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, plot, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     figure = plot(sweep("entropy", run, seed=0, steps=[0, 4]), "fig7")
        >>> [ax.get_title(loc="left") for ax in figure.axes]
        ['step 0', 'step 4']
    """
    if not width > 0:
        raise LandscapeError(f"expected a kernel width > 0 decades, found {width!r}. Try 0.2.")
    datasets = require_all(_spectra(answers), NEEDED)
    if _all_exact(answers):
        datasets = [ds.assign(exact=True) for ds in datasets]
    groups = by_arch(datasets)
    if arch not in groups:
        raise AbsentError(f"expected spectra of {arch!r}, found those of {', '.join(groups)}.")
    if steps is None:
        common = sorted(set.intersection(*({int(s) for s in d["step"].values} for d in datasets)))
        steps = (
            [common[i] for i in np.unique(np.linspace(0, len(common) - 1, _MOST).round().astype(int))] if common else []
        )
    chosen = common_steps(datasets, steps)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = grid(rows, columns, height=2.1 if rows > 1 else 2.8, sharex=True, sharey=True)
    panels = [ax for row in axes for ax in row]
    for ax in panels[len(chosen) :]:
        ax.remove()
    panels = panels[: len(chosen)]
    draw_panels(panels, datasets, chosen, width, archs=[arch])
    label = panels[0].get_ylabel()
    for i, (ax, step) in enumerate(zip(panels, chosen, strict=True)):
        ax.set_ylabel(label if i % columns == 0 else "")
        if i + columns < len(chosen):
            ax.set_xlabel("")
        else:  # nothing below it, also where the last row is not full
            ax.tick_params(labelbottom=True)
        ax.set_title(ax.get_title(loc="left") + _phase(answers.get("evolution", ()), arch, step))
    figure.legend(handles=_legend(arch, groups[arch], answers), loc="outside upper center", ncols=3)
    return figure


@styled
def fig8(
    answers: Mapping[str, Sequence[xr.Dataset]],
    *,
    arch: str = "looped",
    steps: Sequence[int] | None = None,
    width: float = 0.2,
) -> Figure:
    """Density of the Hessian eigenvalues of one architecture, one panel per step; same axes for all architectures.

    As `fig7`, of the architecture that the paper shows beside it.

    Args:
        answers: as for `fig7`.
        arch: the architecture.
        steps: as for `fig7`.
        width: of the Gaussian kernel, in decades.

    Raises:
        LandscapeError: as `fig7`.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, plot, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(arch="looped", **small), f"{folder}/a")
        ...     figure = plot(sweep("entropy", run, seed=0, steps=[4]), "fig8")
        >>> [ax.get_title(loc="left") for ax in figure.axes]
        ['step 4']
    """
    return fig7(answers, arch=arch, steps=steps, width=width)


def used(answers: Mapping[str, Sequence[xr.Dataset]]) -> dict[str, Sequence[xr.Dataset]]:
    """The answers that are drawn: of `entropy` and `density` one is enough."""
    exact = _all_exact(answers)
    return {probe: found for probe, found in answers.items() if probe != ("density" if exact else "entropy")}


def _all_exact(answers: Mapping[str, Sequence[xr.Dataset]]) -> bool:
    """Whether all eigenvalues of every run are stored."""
    found = answers.get("entropy", ())
    return bool(found) and all("eigenvalue" in ds and bool(ds["exact"].all()) for ds in found)


def _spectra(answers: Mapping[str, Sequence[xr.Dataset]]) -> list[xr.Dataset]:
    """All eigenvalues of every run where they are stored, else quadrature."""
    if _all_exact(answers):
        return [_as_density(ds) for ds in answers["entropy"]]
    if answers.get("density"):
        return list(answers["density"])
    raise AbsentError(
        "expected all eigenvalues of every run (probe `entropy`, where they are computed), or answers of `density`; "
        "found neither."
    )


def _as_density(ds: xr.Dataset) -> xr.Dataset:
    """All eigenvalues, as nodes of one vector that weigh the same."""
    values = (
        ds["eigenvalue"] if "step" in ds["eigenvalue"].dims else ds["eigenvalue"].expand_dims(step=[ds.attrs["step"]])
    )
    node = values.transpose("step", "rank").expand_dims(vector=1, axis=1).rename(rank="quad")
    one = xr.ones_like(node)
    size = node.sizes["quad"]
    return xr.Dataset({"node": node, "weight": one / size, "n_parameters": size}, attrs=ds.attrs)


def _phase(evolution: Sequence[xr.Dataset], arch: str, step: int) -> str:
    """The phase that a step is in, of the first run of the architecture whose phases are known."""
    for ds in evolution:
        at = np.flatnonzero(ds["path_step"].values == step)
        if str(ds.attrs.get("arch")) == arch and len(at):
            phase = int(ds["phase"].values[at[0]])
            return f", phase {phase}" if phase > 0 else ""
    return ""


def _legend(
    arch: str, group: Sequence[xr.Dataset], answers: Mapping[str, Sequence[xr.Dataset]]
) -> list[Line2D | Patch]:
    look: dict[str, Any] = {"color": arch_style(arch).color, "linestyle": arch_style(arch).linestyle}
    exact = _all_exact(answers)
    how = "all eigenvalues" if exact else "quadrature"
    marks: list[Line2D | Patch] = [Line2D([], [], **look, label=f"{titled(arch, group)}, {how}")]
    return marks + (band_marks([group]) if exact else error_marks([group], any(d.sizes["vector"] == 1 for d in group)))
