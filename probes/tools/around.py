"""What a run tells of the surroundings of a checkpoint: updates, other checkpoints, labels of the samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from landscape.errors import DivergedError, LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import Context
from landscape.probes.tools.measures import Labels
from landscape.runs.run import Run

__all__ = ["Around", "around", "replayed", "update"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Around:
    """What `surface` may ask of the surroundings of its centre; what is None is not known.

    Attributes:
        update: what returns the update (P,) that the optimiser makes of this loss's gradient.
        find: the parameters (P,) of another checkpoint, given its name.
        replay: ``(step or None, n) -> (step, (m + 1, P))``, m <= n: where it begins, and the parameters after each of n
            updates from there.
        frame: the loss of the model at another step of the same training, and its parameters (P,).
        loops: (T,) loops of the model at each checkpoint of the path.
        own_loss: (T,) loss of each checkpoint's own model, where it is another than the centre's.
        labels: of the samples.

    Example:
        >>> Around(update=lambda: torch.ones(2)).update()
        tensor([1., 1.])
    """

    update: Callable[[], Tensor] | None = None
    find: Callable[[str], Tensor] | None = None
    replay: Callable[[int | None, int], tuple[int, Tensor]] | None = None
    frame: Callable[[int], tuple[Objective, Tensor]] | None = None
    loops: ArrayLike | None = None
    own_loss: Tensor | None = None
    labels: Labels = field(default_factory=Labels)


def around(c: Context) -> Around:
    """The surroundings of a checkpoint of a run."""
    run, own = c.run, c.objective
    passes = [run.passes_at(int(s)) for s in run.steps]
    loops, losses = None, None
    if any(p != passes[0] for p in passes):  # a run that shifts
        # (A ramp's passes count in part: the number alone does not tell a model.)
        loops = np.array([0 if p is None else p.loops for p in passes])
        models = [c.at(int(s)) for s in run.steps]
        losses = torch.stack([o.loss(o.w0) for o in models])
    labels = Labels()
    if run.kind == "trained":
        part = run.task.split(c.split).head(c.samples)
        names = np.asarray(run.task.families)[part.family]
        labels = Labels(correct=run.task.correct, family=names, information_content=part.information_content)

    def frame(step: int) -> tuple[Objective, Tensor]:
        apart = own.size < run.layout.size or run.apart(c.name) or run.passes_at(step) != run.passes_at(c.step)
        if apart:
            other = c.at(step)
            return other, other.w0
        return own, own.vector(run.parameters[run.index(step)])

    return Around(
        update=lambda: update(c),
        find=lambda name: own.vector(_checkpoint(run, name)[run.layout.mask(own.layout.names)]),
        replay=lambda step, n: (at := c.step if step is None else step, replayed(c, at, n)),
        frame=frame,
        loops=loops,
        own_loss=losses,
        labels=labels,
    )


def update(c: Context) -> Tensor:
    """The optimiser's update of the loss's gradient (P,), per unit of learning rate, with the checkpoint's state.

    It is made of the gradient in all parameters; of that the part in the loss's parameters and coordinates is taken.

    Raises:
        LandscapeError: where optimiser, state or settings are not known, and why.
    """
    run, own, whole = c.run, c.objective, c.whole()
    gradient = torch.zeros(run.layout.size, dtype=own.dtype, device=own.device)
    gradient[run.layout.mask(whole.layout.names)] = whole.grad(whole.w0)
    u = run.updates.direction(c.step, gradient)
    return own.coordinates(u[run.layout.mask(own.layout.names)])


def replayed(c: Context, step: int, n: int) -> Tensor:
    """Parameters after each of at most n updates from the checkpoint of a step, in the loss's coordinates (m + 1, P).

    Fewer where the run has fewer, or becomes infinite before: m is what there is.
    """
    n = min(n, c.run.updates_from(step))
    while True:
        try:
            rows = c.run.replay(step, n)
            break
        except DivergedError as error:  # the last finite parameters are those at this step, or the one before
            n = min(n - 1, error.step - step)
            if n < 0:
                raise
    return c.objective.coordinates(rows[:, c.run.layout.mask(c.objective.layout.names)])


def _checkpoint(run: Run, name: str) -> Tensor:
    """Parameters of ``RUN@STEP``, RUN a folder, also one beside this run's; without it this run's own."""
    folder, sign, step = name.rpartition("@")
    if not sign or not step.isdigit():
        raise LandscapeError(
            f"expected a target RUN@STEP, such as runs/other@120, or @STEP of the same run, found {name!r}."
        )
    other = run
    if folder:
        beside = run.path.resolve().parent / folder
        other = Run.open(folder if Path(folder).exists() or not beside.exists() else beside)
    if other.layout.hash != run.layout.hash:
        raise LandscapeError(
            f"expected a target with the parameters of {run.path} (layout {run.layout.hash}), found layout "
            f"{other.layout.hash} in {other.path}. There is no line between models of different parameters."
        )
    return other.parameters[other.index(int(step))]
