"""Does the recursion settle, or would it run away? The state of a looped model, pass by pass, also beyond the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import LOSS, Context, Probe, Schema, Variable
from landscape.probes.tools.jacobians import Jacobians
from landscape.probes.tools.recursions import Ask, Walk, of_module, walked

__all__ = ["PROBE", "loops"]

STATE, RADIAN = "state unit", "rad"
LABELS = ("settling", "marginal", "drifting")
_PER_PASS = {
    "loss": (LOSS, "loss read off the state after each pass"),
    "norm": (STATE, "|h_t|, over all positions of a sample together"),
    "step_length": ("1", "|h_t - h_(t-1)| / |h_t|"),
    "cosine": ("1", "cosine of h_t - h_(t-1) with h_(t-1) - h_(t-2); NaN at the first pass"),
    "accuracy": ("1", "accuracy read off the state after each pass"),
}
_PER_SAMPLE = {
    "radius": ("1", "spectral radius of dh_(t+1)/dh_t"),
    "angle": (RADIAN, "|arg| of the eigenvalue of that magnitude: 0 if positive, pi if negative"),
    "radius_error": ("1", "difference of the radius from that of the transposed Jacobian"),
    "residual": ("1", "|J x - lambda x| of that eigenvalue, |x| = 1"),
    "gain": ("1", "largest singular value of dh_(t+1)/dh_t"),
}
_MEANS = ("radius", "gain")
_AT = ("at",)

SCHEMA = Schema(
    {
        "pass": Variable(("pass",), "passes", "number of the pass", "i", swept=False),
        "at": Variable(_AT, "passes", "passes done where the Jacobian is taken", "i", swept=False),
        "sample": Variable(("sample",), "1", "index of the sample whose Jacobians are taken", "i", swept=False),
        "dynamics": Variable(("dynamics",), "", "what a sample's state does in the second half", "U", swept=False),
        **{n: Variable(("pass",), units, f"{name}, mean over samples") for n, (units, name) in _PER_PASS.items()},
        **{
            f"{n}_stderr": Variable(("pass",), units, f"standard error of {n} over samples")
            for n, (units, _) in _PER_PASS.items()
        },
        **{f"{n}_of": Variable(("at", "sample"), units, name) for n, (units, name) in _PER_SAMPLE.items()},
        "converged": Variable(("at", "sample"), "1", "radius and gain are known to tol", "b"),
        **{n: Variable(_AT, "1", f"{_PER_SAMPLE[n][1]}, mean over samples") for n in _MEANS},
        **{f"{n}_stderr": Variable(_AT, "1", f"standard error of {n} over samples") for n in _MEANS},
        "growth": Variable(
            (), "1", "factor of |h_t - h_(t-1)| per pass in the second half, mean over samples that move"
        ),
        "growth_stderr": Variable((), "1", "standard error of growth over samples"),
        "straightness": Variable((), "1", "|way| / sum of steps in the second half, mean over samples that move"),
        "straightness_stderr": Variable((), "1", "standard error of straightness over samples"),
        "share": Variable(("dynamics",), "1", "share of the samples"),
        "label": Variable((), "", "the dynamics of most samples", "U"),
        "loops": Variable((), "1", "passes that the model makes, the most of any sample; 0: not known", "i"),
        "trained_loops": Variable((), "1", "passes of the trained model, of SHIFT after the switch; 0: not known", "i"),
        "own_loss": Variable((), LOSS, "loss of the model as it is, each sample after its own passes"),
        "n_samples": Variable((), "1", "samples behind the curves", "i", swept=False),
        "n_products": Variable((), "1", "products with Jacobians and their transposes", "i"),
    },
    optional=frozenset({"accuracy", "accuracy_stderr"}),
    probe="loops",
)


def loops(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    recursion: Ask | None = None,
    score: Callable[[Any, Any], Tensor] | None = None,
    variant: Callable[[int], Objective] | None = None,
    trained: int = 0,
    loops: int | None = None,
    passes: int | None = None,
    at: tuple[int, ...] = (),
    jacobians: int = 4,
    tol: float = 1e-3,
    margin: float = 0.02,
    straight: float = 0.5,
    still: float = 1e-6,
) -> xr.Dataset:
    r"""Follow the state h_t = step(h_{t-1}) of a recursion for more passes than the model makes, at parameters w.

    Per pass, over the samples: the loss of the outputs read off h_t, \|h_t\|, the step length
    \|h_t - h_{t-1}\| / \|h_t\|, and the cosine of consecutive increments; a state is one vector per sample, all its
    positions together. At some states h_t, for a few samples: the spectral radius of the Jacobian dh_{t+1}/dh_t and its
    largest singular value (`gain`), by products with it and its transpose, which is never written out. Positions see
    each other, so the Jacobian is not normal: below radius 1 perturbations die out in the end, but may first grow by
    the gain.

    A sample's state, in the second half of the passes, is *settling* if \|h_t - h_{t-1}\| shrinks by a factor below
    1 - margin per pass (least squares on its logarithm, rounding left out), or the last step length is at most `still`;
    else *drifting* if that factor exceeds 1 + margin, if the way covered is at least `straight` times the path's
    length, or if a state is not finite; else *marginal*. (Definition of this project; the paper gives none.)

    Args:
        objective: the loss of the model.
        w: where, (P,).
        seed: of the eigen-solvers' start vectors.
        recursion: ``(module, *inputs) -> (h_0, step, readout)``, with ``step(h, t)`` the t-th pass, t = 1, 2, .., and
            ``readout(h)`` what the loss takes; a fourth entry (N,), the passes that the model makes of each sample, has
            the loss after them checked. It must use the module that it is given, whose parameters are w. None is the
            module's own method `recursion`.
        score: ``(outputs, targets) -> (n,)``, the accuracy of each sample; None measures none.
        variant: ``loops -> Objective`` of the same parameters and samples.
        trained: passes of the trained model, where known.
        loops: passes of the model that is asked; None is the model at this checkpoint, before a switch of SHIFT with 1.
            It matters where a pass depends on their number (`model.scale=1/T`).
        passes: how many are followed, 4 at least; None is four times the trained number, at least 8.
        at: passes after which the Jacobian of the next one is taken; none given: 1, T, 2T and the last, T = `trained`.
        jacobians: samples whose Jacobians are taken, spread over the split; 0 takes none.
        tol: accuracy of radius and gain, relative to the gain, below which they are `converged`.
        margin: how far from 1 the growth of the increments settles or drifts.
        straight: share of a path's length from which it leads away.
        still: step length at which the state stands still.

    Returns:
        Dataset with dims `pass`, `at`, `sample`, `dynamics`; see `SCHEMA`. Means over samples are weighted as the loss.

    Raises:
        LandscapeError: for a model without a recursion, settings out of range, or a recursion whose loss after the
            model's own passes is not the loss of the model.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> objective = Objective(model, lambda y, t: (y**2).sum(1), (torch.eye(2), torch.zeros(2, 2)))
        >>> turn = torch.tensor([0.0, -0.5, 0.5, 0.0])  # a quarter turn, halved
        >>> ds = loops(objective, turn, seed=0, recursion=lambda m, x: (x, lambda h, t: m(h), lambda h: h), passes=8)
        >>> str(ds.label.item()), round(ds.growth.item(), 6), round(ds.radius[0].item(), 6)
        ('settling', 0.5, 0.5)
    """
    w = objective.vector(w)
    if loops is not None:
        if variant is None:
            raise LandscapeError(
                "expected a model whose number of loops can be changed, found none. Leave `loops` out."
            )
        objective = variant(loops)
    objective.check_finite(w)
    ask = of_module(objective.chunks.module) if recursion is None else recursion
    n_passes = max(4 * (trained or loops or 4), 8) if passes is None else passes
    places = sorted(set(at or {1, max(trained, 1), max(2 * trained, 1), n_passes}))
    if n_passes < 4 or jacobians < 0 or not 1 <= places[0] <= places[-1] <= n_passes or min(tol, margin, straight) <= 0:
        raise LandscapeError(
            "expected passes >= 4, 1 <= at <= passes, jacobians >= 0 and positive tol, margin and straight, found "
            f"passes = {n_passes}, at = {tuple(places)}, jacobians = {jacobians}, {tol}, {margin} and {straight}."
        )
    walk = walked(objective, w, ask, n_passes, score)
    index = np.unique(np.linspace(0, objective.n_samples - 1, min(jacobians, objective.n_samples)).astype(int))
    taken = Jacobians.taken(objective, w, ask, places, index, seed=seed, tol=tol)
    return SCHEMA.dataset(
        {
            **walk.means(),
            **_jacobian(taken),
            **_labelled(walk, margin=margin, straight=straight, still=still),
            "loops": walk.most,
            "trained_loops": trained,
            "own_loss": objective.loss(w),
            "n_samples": objective.n_samples,
        },
        coords={
            "pass": np.arange(1, n_passes + 1),
            "at": np.array(places),
            "sample": index,
            "dynamics": np.array(LABELS),
        },
        **objective.caveats,
    )


def _jacobian(found: Jacobians) -> dict[str, Any]:
    """Numbers of every Jacobian, and means over samples; NaN without any."""
    values: dict[str, Any] = {f"{n}_of": getattr(found, n) for n in _PER_SAMPLE}
    for n in _MEANS:
        x = getattr(found, n)
        size = x.shape[1]
        values[n] = x.mean(1) if size else np.full(len(x), np.nan)
        values[f"{n}_stderr"] = x.std(1, ddof=1) / size**0.5 if size > 1 else np.full(len(x), np.nan)
    return values | {"converged": found.converged, "n_products": found.n_products}


def _labelled(walk: Walk, *, margin: float, straight: float, still: float) -> dict[str, Any]:
    """What the second half of the passes says, by sample and over all."""
    growth, way = walk.growth, walk.straightness
    settling = (walk.step_length[:, -1] <= still) | (growth < 1 - margin)
    drifting = ~settling & ((growth > 1 + margin) | (way >= straight) | ~walk.finite)
    kinds = np.stack([settling, ~settling & ~drifting, drifting], axis=1)
    share, _ = walk.over_samples(kinds.astype(float))
    values: dict[str, Any] = {"share": share, "label": np.array(LABELS[int(np.argmax(share))])}
    for name, x in (("growth", growth), ("straightness", way)):
        values[name], values[f"{name}_stderr"] = walk.over_samples(x, used=np.isfinite(x))
    return values


def _context(c: Context) -> dict[str, Any]:
    run = c.run
    if run.kind != "trained":
        return {}
    return {"variant": c.with_loops, "trained": int(run.config.model.loops), "score": run.task.correct}


PROBE = Probe(
    "loops",
    1,
    loops,
    SCHEMA,
    _context,
    context_names=frozenset({"recursion", "score", "variant", "trained"}),
    metric=False,
    by_default=False,
)
