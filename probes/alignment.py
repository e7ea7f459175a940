"""Do the single and the looped model pull their common parameters the same way? Gradients, and the premises."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.curvature.products import gradient
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.probes.base import LOSS, SLOPE, Context, Probe, Schema, Variable

__all__ = ["PROBE", "alignment"]

FORM = "parameter units, squared for a product of two"
_COMPARED = ("single", "looped")
GROUPS = ("W_Q:*W_Q", "W_K:*W_K", "W_V:*W_V", "head:head", "embeddings:embedding,position", "all:*")

_PREMISES = {
    "dominance": Variable(("architecture",), "1", "mean of A_ii - sum_j<i |A_ij| over rows i > 1, sequences, passes"),
    "dominance_stderr": Variable(("architecture",), "1", "standard error of dominance over sequences"),
    "dominant_rows": Variable(("architecture",), "1", "share of rows i > 1 with A_ii > sum_j<i |A_ij|"),
    "dominance_of_pass": Variable(("pass",), "1", "dominance in each pass of the looped model; the first is single's"),
    "attention_smallest": Variable(("architecture",), "1", "mean smallest eigenvalue of (A + A') / 2"),
    "attention_definite": Variable(("architecture",), "1", "share of matrices with (A + A') / 2 positive definite"),
    "form": Variable(("form",), "", "square matrix of the layer", "U", swept=False),
    "form_smallest": Variable(("form",), FORM, "smallest eigenvalue of the symmetric part"),
    "form_largest": Variable(("form",), FORM, "largest eigenvalue of the symmetric part"),
    "form_definiteness": Variable(("form",), "1", "smallest over largest |eigenvalue|: positive if positive definite"),
}

SCHEMA = Schema(
    {
        "group": Variable(("group",), "", "group of parameters", "U", swept=False),
        "architecture": Variable(("architecture",), "", "number of passes: 1 or T", "U", swept=False),
        "n_parameters": Variable(("group",), "1", "parameters in the group", "i", swept=False),
        "cosine": Variable(("group",), "1", "cosine of the gradients of single and looped; NaN if one is 0"),
        "cosine_stderr": Variable(("group",), "1", "standard error over samples, jackknife over blocks"),
        "norm_single": Variable(("group",), SLOPE, "norm of the gradient of single"),
        "norm_single_stderr": Variable(("group",), SLOPE, "standard error of norm_single, likewise"),
        "norm_looped": Variable(("group",), SLOPE, "norm of the gradient of looped"),
        "norm_looped_stderr": Variable(("group",), SLOPE, "standard error of norm_looped, likewise"),
        "loss": Variable(("architecture",), LOSS, "loss at these parameters"),
        "loops": Variable((), "1", "passes T of the looped model", "i"),
        "n_samples": Variable((), "1", "samples behind every gradient", "i", swept=False),
        "n_blocks": Variable((), "1", "blocks of the jackknife", "i", swept=False),
        **_PREMISES,
    },
    optional=frozenset(_PREMISES),
    probe="alignment",
)


def alignment(
    objective: Objective,
    w: Tensor,
    *,
    seed: int | None = None,  # noqa: ARG001
    variant: Callable[[int], Objective],
    own: int = 1,
    attention: Callable[[int], Iterable[Tensor]] | None = None,
    forms: Mapping[str, Tensor] | None = None,
    loops: int | None = None,
    groups: tuple[str, ...] = GROUPS,
    blocks: int = 20,
) -> xr.Dataset:
    r"""Cosine of the gradients of the single and the looped loss at the same parameters, group by group.

    cos = g1' gT / (\|g1\| \|gT\|), with g1 the gradient of the mean loss of the model with one pass and gT of the one
    with T passes, both at w and on the same samples. Standard errors come from a delete-one jackknife over `blocks`
    blocks of consecutive samples. The cosine of two gradients that are mostly noise is biased towards 0: read it
    with its error.

    Beside it the premises of the theorem: is attention diagonally dominant (the first row sees itself alone and is
    left out), are its symmetric part, that of W_Q' W_K and that of W_V positive definite? In the first pass both
    models have the same attention.

    Args:
        objective: the loss of either model: the parameters and the samples meant.
        w: where, (P,).
        seed: ignored, nothing here is random (see `Probe`).
        variant: ``loops -> Objective`` on the same parameters and samples.
        own: passes of the model that was trained; of a run that shifts its T, before the switch too.
        attention: ``loops -> chunks (T, m, n, n)`` of attention matrices at w; without it they are not reported.
        forms: square matrices whose definiteness is asked; likewise.
        loops: T; None is the model's own number, or 3 for a single one.
        groups: "NAME:PATTERN,PATTERN": shell-style patterns of the parameters in each group.
        blocks: blocks of the jackknife, at most one per sample.

    Returns:
        Dataset with dims `group`, `architecture`, `pass`, `form`; see `SCHEMA`.

    Raises:
        LandscapeError: for settings out of range, a pattern that matches nothing, or variants that differ in
            parameters or samples.

    Source:
        Theorem 3 of arXiv 2510.10089 (W_K and W_Q alone); the other groups, the errors and the measured premises are
        of this project.

    Example:
        >>> import torch
        >>> def objective(a):  # |w - a|^2 has the gradient 2 (w - a)
        ...     data = (torch.eye(2), torch.tensor(a)[:, None])
        ...     return Objective(torch.nn.Linear(2, 1, bias=False), lambda y, t: 2 * ((y - t) ** 2).sum(1), data)
        >>> models = {1: objective([1.0, 0.0]), 3: objective([1.0, 1.0])}
        >>> ds = alignment(models[1], torch.zeros(2), variant=models.get, groups=("all:*",))
        >>> round(ds.cosine.item(), 6)
        0.707107
    """
    w = objective.vector(w)
    T = loops if loops is not None else own if own > 1 else 3
    if T < 1 or blocks < 2:
        raise LandscapeError(f"expected loops >= 1 and blocks >= 2, found {T} and {blocks}.")
    models = [variant(1), variant(T)]
    for model in models:
        if (model.layout.hash, model.n_samples) != (objective.layout.hash, objective.n_samples):
            raise LandscapeError(
                f"expected {objective.n_samples} samples and layout {objective.layout.hash} of both architectures, "
                f"found {model.n_samples} and {model.layout.hash}. Give both the same data and parameters."
            )
        model.check_finite(w)
        model.check_derivatives(w)
    names, masks = _groups(objective, groups)
    borders = np.linspace(0, objective.n_samples, min(blocks, objective.n_samples) + 1).astype(int).tolist()
    pieces = list(itertools.pairwise(borders))
    parts = [torch.stack([_block_sum(model, w, first, last) for first, last in pieces]) for model in models]
    sizes = torch.tensor([objective.chunks.mass_of(slice(*piece)) for piece in pieces]).to(parts[0])
    values = {
        **_compared(parts[0], parts[1], sizes, masks),
        "n_parameters": [int(m.sum()) for m in masks],
        "loss": torch.stack([model.loss(w) for model in models]),
        "loops": T,
        "n_samples": objective.n_samples,
        "n_blocks": len(sizes),
    }
    if attention is not None:
        values |= _attention([attention(1), attention(T)])
    if forms is not None:
        values |= _forms(forms)
    labels = {"group": names, "architecture": np.array(_COMPARED)}
    coords = labels | ({} if forms is None else {"form": np.array(list(forms))})
    return SCHEMA.dataset(values, coords=coords, **models[0].caveats)


def _groups(objective: Objective, groups: tuple[str, ...]) -> tuple[Any, list[Tensor]]:
    """Names and masks (P,) of the groups."""
    pairs = [text.partition(":") for text in groups]
    names = [name for name, _, _ in pairs]
    if not pairs or len(set(names)) < len(names) or not all(name and sign for name, sign, _ in pairs):
        raise LandscapeError(
            f"expected different groups such as head:head or embeddings:embedding,position, found {groups}."
        )
    return np.array(names), [objective.layout.mask(p.split(",")).to(objective.device) for _, _, p in pairs]


def _block_sum(objective: Objective, w: Tensor, first: int, last: int) -> Tensor:
    """Gradient of the summed loss of a block of samples, (P,)."""
    chunks, total = objective.chunks, torch.zeros_like(w)
    with chunks.plain():
        for i in range(first, last, objective.chunk):
            total = total + gradient(chunks.sum(slice(i, min(i + objective.chunk, last))), w)
    return total


def _compared(a: Tensor, b: Tensor, sizes: Tensor, masks: list[Tensor]) -> dict[str, Tensor]:
    """Cosines and norms of the mean gradients, whole and without each block in turn, and standard errors."""
    n, count = sizes.sum(), len(sizes)
    means = [torch.cat([x.sum(0)[None] / n, (x.sum(0) - x) / (n - sizes)[:, None]]) for x in (a, b)]
    rows: dict[str, list[Tensor]] = {"cosine": [], "norm_single": [], "norm_looped": []}
    for mask in masks:
        x, y = means[0][:, mask], means[1][:, mask]
        rows["cosine"].append(_cosine(x, y))
        rows["norm_single"].append(x.norm(dim=1))
        rows["norm_looped"].append(y.norm(dim=1))
    out = {}
    for name, found in rows.items():
        table = torch.stack(found)  # (group, 1 + blocks)
        out[name] = table[:, 0]
        out[f"{name}_stderr"] = ((count - 1) * table[:, 1:].var(1, correction=0)).sqrt()
        if count < 2:
            out[f"{name}_stderr"] = torch.full_like(out[name], torch.nan)
    return out


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine row by row; exactly 1 for equal rows, NaN where one is zero."""
    x, y = (v / v.abs().amax(dim=1, keepdim=True) for v in (x, y))  # no overflow, no underflow of squares
    return (x * y).sum(1) / ((x * x).sum(1) * (y * y).sum(1)).sqrt()


def _attention(architectures: list[Iterable[Tensor]]) -> dict[str, Tensor]:
    """Diagonal dominance and definiteness of the attention matrices of each architecture."""
    rows: dict[str, list[Tensor]] = {name: [] for name in _PREMISES if not name.startswith("form")}
    by_pass = torch.empty(0)
    for chunks in architectures:
        margins, smallest = [], []
        for A in chunks:
            diagonal = A.diagonal(dim1=-2, dim2=-1)
            margins.append((diagonal - (A.abs().sum(-1) - diagonal.abs()))[..., 1:])
            smallest.append(torch.linalg.eigvalsh((A + A.mT) / 2)[..., 0])
        margin, low = torch.cat(margins, dim=1), torch.cat(smallest, dim=1)  # (T, N, n - 1), (T, N)
        of_sequence = margin.mean((0, 2))
        rows["dominance"].append(margin.mean())
        rows["dominance_stderr"].append((of_sequence.var(correction=0) / (len(of_sequence) - 1)).sqrt())
        rows["dominant_rows"].append((margin > 0).to(margin).mean())
        rows["attention_smallest"].append(low.mean())
        rows["attention_definite"].append((low > 0).to(low).mean())
        by_pass = margin.mean((1, 2))
    del rows["dominance_of_pass"]
    return {name: torch.stack(found) for name, found in rows.items()} | {"dominance_of_pass": by_pass}


def _forms(forms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Extreme eigenvalues of the symmetric parts."""
    values = [torch.linalg.eigvalsh((M + M.T) / 2) for M in forms.values()]
    low, high = torch.stack([v[0] for v in values]), torch.stack([v[-1] for v in values])
    peak = torch.maximum(low.abs(), high.abs())
    return {"form_smallest": low, "form_largest": high, "form_definiteness": low / peak}


def _own_loops(c: Context) -> int:
    """Passes of the model that the run trains at the checkpoint."""
    return int(c.run.config.model.loops)


def _context(c: Context) -> dict[str, Any]:
    run, objective, own = c.run, c.objective, _own_loops(c)
    context: dict[str, Any] = {"variant": c.with_loops, "own": own}
    module: Any = run.module(c.step, loops=own).to(dtype=objective.dtype, device=objective.device)
    if hasattr(module, "attention"):
        tokens = run.task.split(c.split).head(c.samples).inputs.to(objective.device)

        def attention(loops: int) -> Iterator[Tensor]:
            model: Any = run.module(c.step, loops=loops).to(dtype=objective.dtype, device=objective.device)
            with torch.no_grad():
                yield from (model.attention(part) for part in torch.split(tokens, objective.chunk))

        context |= {"attention": attention, "forms": {k: M.detach() for k, M in module.blocks[0].forms().items()}}
    return context


PROBE = Probe(
    "alignment",
    1,
    alignment,
    SCHEMA,
    _context,
    context_names=frozenset({"variant", "own", "attention", "forms"}),
    metric=False,
    by_default=False,
)
