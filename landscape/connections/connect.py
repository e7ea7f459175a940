"""Two checkpoints connected, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from landscape.answers.question import LossSpec
from landscape.connections.asking import answered, ask
from landscape.runs.run import Run

__all__ = ["connect"]


def connect(
    a: Run | str | os.PathLike[str],
    b: Run | str | os.PathLike[str],
    *,
    seed: int,
    bends: int = 1,
    points: int = 61,
    nodes: int | None = None,
    tol: float = 1e-3,
    iterations: int = 100,
    align: bool = True,
    restarts: int = 5,
    keep_bends: bool = False,
    split: str = "probe",
    samples: int | None = None,
    dtype: str = "float64",
    device: str = "cpu",
    objective: str | None = None,
    chunk: int | None = None,
    output: str | os.PathLike[str] | None = None,
    recompute: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> xr.Dataset:
    r"""Loss along the straight line and along a trained curve between two checkpoints, with the barriers.

    Both checkpoints must have the same parameters and the same data. Where their losses differ (single and looped,
    before and after the switch of SHIFT) all is measured under both, each with a curve of its own. For runs of
    `landscape train` it is done twice: with b as it is, and with its units in the order of a's
    (`landscape.connections.matching.match_units`), which leaves what b computes as it is. See
    `landscape.connections.paths.connect_points` for what is measured, and when to believe it.

    Args:
        a: start: a run (its last checkpoint), its folder, or ``"RUN@STEP"``.
        b: end, likewise.
        seed: of the start of the curve, and of the orders in which units are matched.
        bends: of the Bezier curve.
        points: of the grid of t.
        nodes: of the quadrature that the curve is trained on; None is 6 (bends + 1).
        tol: of the curve's training.
        iterations: most steps of it.
        align: match the units where they are known.
        restarts: of the matching.
        keep_bends: store the bends and the order of the parameters, too.
        split: of the data.
        samples: first so many of them; None means all.
        dtype: "float64" or "float32".
        device: "cpu" or "cuda".
        objective: name of the loss of a recorded or imported run.
        chunk: samples evaluated at once.
        output: file to write; None is ``results/connect-KEY.nc`` in the folder of a.
        recompute: also where the answer is stored already.
        progress: called with the name of a curve and the steps of its training.

    Returns:
        Dataset with dims `alignment` ("none", "matched"), `path` ("line", "curve"), `objective`, `t`; the attribute
        `alignment` says whether units were matched, and why not.

    Raises:
        LandscapeError: for runs without a path between them (other parameters, another model, other data), a checkpoint
            that does not exist, bad settings, or an `output` that holds another answer.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, connect, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 2}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     runs = [train(RunConfig.make(arch=arch, **small), f"{folder}/{arch}") for arch in ("single", "looped")]
        ...     ds = connect(*runs, seed=0, points=5, iterations=2)
        >>> ds.loss.dims, ds.loss.shape
        (('alignment', 'path', 'objective', 't'), (2, 2, 2, 5))
        >>> ds.objective.values.tolist(), bool((ds.barrier >= 0).all())
        (['single', 'looped'], True)
    """
    loss = LossSpec(split=split, samples=samples, dtype=dtype, device=device, objective=objective)
    settings = {
        "bends": bends, "points": points, "nodes": nodes, "tol": tol, "iterations": iterations, "align": align,
        "restarts": restarts, "keep_bends": keep_bends,
    }  # fmt: skip
    asked = ask(a, b, seed=seed, loss=loss, output=None if output is None else Path(output), **settings)
    return answered(asked, chunk=chunk, recompute=recompute, progress=progress)
