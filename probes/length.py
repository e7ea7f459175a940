"""Does the model solve longer problems than it was trained on, and how many loops does that take?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.models.gpt import Adapted
from landscape.probes.base import LOSS, Context, Probe, Schema, Variable
from landscape.probes.tools.scoring import Adapt, by_itself, scores
from landscape.tasks.algorithmic import AlgorithmicTask

__all__ = ["PROBE", "length"]

_BOTH = ("length", "loops")
_ADAPTIVE = tuple(f"adaptive_{name}" for name in ("accuracy", "accuracy_lower", "accuracy_upper", "loops", "converged"))
SCHEMA = Schema(
    {
        "accuracy": Variable(_BOTH, "1", "share of samples with every scored token predicted right"),
        "accuracy_lower": Variable(_BOTH, "1", "lower end of the 95 % interval of the accuracy (Clopper-Pearson)"),
        "accuracy_upper": Variable(_BOTH, "1", "upper end of the 95 % interval of the accuracy (Clopper-Pearson)"),
        "token_accuracy": Variable(_BOTH, "1", "share of scored tokens predicted right, mean over samples"),
        "token_accuracy_stderr": Variable(_BOTH, "1", "standard error of the token accuracy over samples"),
        "loss": Variable(_BOTH, LOSS, "mean loss"),
        "loss_stderr": Variable(_BOTH, LOSS, "standard error of the loss over samples"),
        "own_loops": Variable(("length",), "1", "loops that the model makes as it was trained, mean over samples"),
        "rule_loops": Variable(("length",), "1", "loops that the task's rule asks for, mean over samples", swept=False),
        "adaptive_accuracy": Variable(("length",), "1", "accuracy where every sample stops by itself"),
        "adaptive_accuracy_lower": Variable(("length",), "1", "lower end of its 95 % interval (Clopper-Pearson)"),
        "adaptive_accuracy_upper": Variable(("length",), "1", "upper end of its 95 % interval (Clopper-Pearson)"),
        "adaptive_loops": Variable(("length",), "1", "loops until the output stops changing, mean over samples"),
        "adaptive_converged": Variable(("length",), "1", "share of samples that stopped before the loops ran out"),
        "trained_length": Variable((), "1", "longest query that training allowed before this step, 0 at step 0", "i"),
        "n": Variable((), "1", "samples of each length", "i", swept=False),
        "length": Variable(("length",), "1", "length of the query", "i", swept=False),
        "loops": Variable(("loops",), "1", "loops of every sample; 0: as the model was trained", "i", swept=False),
    },
    optional=frozenset({*_ADAPTIVE}),
    probe="length",
)

Own = Callable[[Tensor], tuple[Any, Tensor]]
"""Tokens (N, n) -> what the model takes, and the loops (N,) that it then makes."""


def length(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    task: AlgorithmicTask,
    own: Own | None = None,
    variant: Callable[[int], Objective] | None = None,
    adapt: Adapt | None = None,
    trained_length: int = 0,
    lengths: tuple[int, ...] = (),
    n: int = 128,
    loops: tuple[int, ...] = (),
    threshold: float = 0.0,
    max_loops: int = 0,
) -> xr.Dataset:
    """Accuracy on fresh samples of each length at w, with the model's own number of loops and with others.

    The same samples are used for every number of loops, checkpoint and run with this seed. The interval is that of
    Clopper and Pearson, which covers the accuracy over all samples of the length with a probability of at least 95 %.
    Under- and over-looping: a number of loops below or above `rule_loops`, that of the task's algorithm.

    Args:
        objective: gives the model, its dtype and the chunk; its data are not used.
        w: where, (P,).
        seed: of the samples.
        task: makes the samples.
        own: what the model takes for some tokens, and the loops that it makes; None: the tokens, and unknown.
        variant: the objective of the same model with another number of loops.
        trained_length: longest query so far, a label.
        lengths: of the queries; none: about 20 up to the longest of the task's test split.
        n: samples of each length.
        loops: further numbers of loops, the same for all samples.
        adapt: the model with stopping by itself.
        threshold: nats; positive: every sample also loops until its outputs change by less (see `GPT.adaptive`).
        max_loops: where that ends at the latest; 0: twice what the task's rule asks for at most.

    Returns:
        Dataset with dims `length` and `loops`, whose first entry 0 is the model as it was trained; see `SCHEMA`.

    Raises:
        LandscapeError: for a length, n or number of loops below 1, a length that the model cannot take, or a threshold
            for a model that cannot stop by itself.

    Source:
        Under- and over-looping: Fan et al. (arXiv 2409.15647). The rest is a definition of this project.

    Example:
        >>> from landscape.tasks import build_task, task_config
        >>> task = build_task(task_config("parity")(min_length=2, max_train_length=4, test_length=6))
        >>> model = torch.nn.Embedding(4, 4)  # next token from the last one alone
        >>> objective = Objective(model, task.per_sample_loss, (torch.zeros(1, 8).long(), torch.zeros(1, 8).long()))
        >>> ds = length(objective, torch.eye(4).flatten(), seed=0, task=task, lengths=(2, 6))
        >>> ds.accuracy.values.tolist()
        [[0.0], [0.0]]
    """
    chosen = _ascending(lengths or _grid(task), "length.lengths")
    others = _ascending(loops, "length.loops") if loops else []
    if n < 1:
        raise LandscapeError(f"expected length.n >= 1, found {n}.")
    if others and variant is None:
        raise LandscapeError("expected a model whose number of loops can be changed, found none. Leave out `loops`.")
    if threshold < 0 or max_loops < 0 or (max_loops and not threshold):
        raise LandscapeError(
            f"expected length.threshold >= 0 nats, and length.max_loops only with it; found {threshold}, {max_loops}."
        )
    if threshold and adapt is None:
        raise LandscapeError("expected a model that can stop by itself, such as gpt, found another. Set no threshold.")
    models = [objective, *(variant(T) for T in others if variant is not None)]
    rows: list[list[dict[str, float]]] = []
    made, rule = [], []
    alone: dict[str, list[float]] = {name: [] for name in (_ADAPTIVE if threshold else ())}
    for size in chosen:
        part = task.examples(size, n, seed=seed)
        tokens, targets = part.inputs.to(objective.device), part.targets.to(objective.device)
        inputs, counts = (tokens, torch.full((n,), torch.nan)) if own is None else own(tokens)
        made.append(float(counts.double().mean()))
        rule.append(float(task.loops(tokens).double().mean()))
        given = [inputs, *(tokens for _ in others)]
        try:
            rows.append([scores(m, w, (x, targets), task, objective.chunk) for m, x in zip(models, given, strict=True)])
        except ValueError as error:
            raise LandscapeError(f"the model cannot take queries of length {size}: {error}") from error
        if adapt is not None and threshold:
            most = max_loops or 2 * int(task.loops(tokens).max())
            found = by_itself(adapt, w, (tokens, targets), task, objective.chunk, threshold=threshold, max_loops=most)
            for name, value in zip(_ADAPTIVE, found, strict=True):
                alone[name].append(value)
    values: dict[str, Any] = {name: [[cell[name] for cell in row] for row in rows] for name in rows[0][0]}
    values |= {"own_loops": made, "rule_loops": rule, "trained_length": trained_length, "n": n, **alone}
    return SCHEMA.dataset(values, coords={"length": chosen, "loops": np.array([0, *others])})


def _ascending(values: Sequence[int], where: str) -> list[int]:
    if min(values) < 1:
        raise LandscapeError(f"expected {where} >= 1, found {min(values)}.")
    return sorted(set(values))


def _grid(task: AlgorithmicTask) -> list[int]:
    """About 20 lengths up to the longest of the test split, the longest of training and the next one among them."""
    c = task.config
    even = np.rint(np.linspace(c.min_length, c.test_length, min(20, c.test_length - c.min_length + 1)))
    return sorted({*even.astype(int).tolist(), c.max_train_length, min(c.max_train_length + 1, c.test_length)})


def _context(c: Context) -> dict[str, Any]:
    run, objective = c.run, c.objective
    task = run.task
    if not isinstance(task, AlgorithmicTask):
        raise LandscapeError(
            f"expected a task whose samples differ in length, such as parity, found {run.config.task.name!r}."
        )
    if c.split != "probe" or c.samples is not None:
        raise LandscapeError(
            "expected neither a split nor a number of samples, since this probe makes its own: set length.n instead."
        )
    names = list(objective.layout.names)
    held = names != list(run.layout.names)
    model: Any = run.module(c.step)
    most = int(model.loops)

    def own(tokens: Tensor) -> tuple[Any, Tensor]:
        if getattr(model, "per_length", False):
            rule = task.loops(tokens)
            return (tokens, rule), rule.clamp(max=most)
        return tokens, torch.full((len(tokens),), most)

    def variant(loops: int) -> Objective:
        return run.objective(
            n=1,
            at=c.step if held else None,
            dtype=objective.dtype,
            device=objective.device,
            parameters=names if held else None,
            loops=loops,
        )

    def adapt(w: Tensor, *args: Any, **settings: Any) -> Adapted:
        here = copy.deepcopy(model).to(device=objective.device, dtype=objective.dtype)
        with torch.no_grad():
            for name, value in objective.layout.unflatten(w).items():
                here.get_parameter(name).copy_(value)
        found: Adapted = here.adaptive(*args, **settings)
        return found

    stops = {"adapt": adapt if hasattr(model, "adaptive") else None}
    return {"task": task, "own": own, "variant": variant, "trained_length": task.trained_length(c.step), **stops}


PROBE = Probe(
    "length",
    1,
    length,
    SCHEMA,
    _context,
    context_names=frozenset({"task", "own", "variant", "adapt", "trained_length"}),
    metric=False,
    by_default=False,
)
