"""What is asked on a plane: losses on its grid, and what lies beside it in its coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.loss.plane import losses_along
from landscape.probes.tools.measures import Groups, group_means
from landscape.probes.tools.planes import Centre, Plane, plane
from landscape.probes.tools.slices import sampled

__all__ = ["measured", "on_grid", "other_draws", "other_frames", "placed", "replayed_updates"]

Array = NDArray[np.float64]


def _losses(objective: Objective, w: Tensor, flat: Plane, coordinates: Tensor) -> Array:
    """Losses at coordinates (B, 2) of a plane or line through w."""
    found: Array = losses_along(objective, w, flat.vectors, coordinates[:, : len(flat.vectors)]).cpu().double().numpy()
    return found


def _points(axis: Sequence[Array]) -> Tensor:
    return torch.cartesian_prod(*(torch.from_numpy(a) for a in axis))


def on_grid(c: Centre, flat: Plane, grid: Sequence[Array], **refining: Any) -> tuple[dict[str, Any], Any, list[Array]]:
    """The losses on the grid, which of them were evaluated, and its axes after refinement."""
    axis, loss, known = sampled(
        grid, lambda x: _losses(c.objective, c.w, flat, torch.from_numpy(x)), rounds=refining["refine"],
        bend=refining["bend"],
    )  # fmt: skip
    return {"loss": loss, **({"evaluated": known} if refining["refine"] else {})}, known, axis


def placed(c: Centre, flat: Plane, name: str, rows: Tensor, losses: Tensor | None = None) -> dict[str, Any]:
    """Points (T, P) in the coordinates of the plane, with their losses and those of their projections."""
    where, distance = flat.place(rows.to(c.w) - c.w)
    on_plane = c.w + where @ flat.vectors
    return {
        f"{name}_alpha": where[:, 0],
        f"{name}_beta": where[:, 1] if where.shape[1] == 2 else torch.zeros_like(where[:, 0]),
        f"{name}_loss": c.objective.losses(rows) if losses is None else losses,
        f"{name}_plane_loss": c.objective.losses(on_plane),
        f"{name}_distance": distance,
    }


def other_draws(
    c: Centre, flat: Plane, name: str, axis: Sequence[Array], loss: Array, draws: int, coords: dict[str, Any]
) -> dict[str, Any]:
    """The same grid on planes of other random directions, and how much of what is seen is a matter of the draw."""
    every, grams = [loss], [flat.gram]
    coords["draw"] = c.seed + np.arange(draws)
    for seed in coords["draw"][1:]:
        other = plane(name, replace(c, seed=int(seed)))
        every.append(_losses(c.objective, c.w, other, _points(axis)).reshape(loss.shape))
        grams.append(other.gram)
    x = np.stack(every)
    with np.errstate(invalid="ignore"):
        total = float(((x - x.mean()) ** 2).sum())
        between = float(((x - x.mean(0)) ** 2).sum())
    share = between / total if 0 < total < np.inf else np.nan
    return {"draw_loss": x, "draw_gram": torch.stack(grams), "draw_share": share}


def other_frames(
    c: Centre, flat: Plane, axis: Sequence[Array], frames: tuple[int, ...] | str, coords: dict[str, Any]
) -> dict[str, Any]:
    """The same grid around other checkpoints, each with its own model."""
    if c.around.frame is None:
        raise LandscapeError("frames need a run with other checkpoints; ask `landscape.sweep` or `landscape probe`.")
    if isinstance(frames, str) and frames != "all":
        raise LandscapeError(f'expected frames to be training steps or "all", found {frames!r}.')
    steps = sorted(set(c.steps.tolist() if isinstance(frames, str) and c.steps is not None else map(int, frames)))
    shape = tuple(len(a) for a in axis)
    found = [_losses(*c.around.frame(step), flat, _points(axis)).reshape(shape) for step in steps]
    coords["frame_step"] = np.array(steps)
    return {"frame_loss": np.stack(found)}


def measured(
    c: Centre, flat: Plane, axis: Sequence[Array], known: Any, names: Sequence[str], bins: int, coords: dict[str, Any]
) -> dict[str, Any]:
    """Means over groups of samples at the points that were evaluated, NaN elsewhere."""
    labels = c.around.labels
    groups = Groups.of(names, labels, c.objective.n_samples, bins)
    points = _points(axis)[torch.from_numpy(known.reshape(-1)), : len(flat.vectors)]
    x = np.full((len(groups.members), 2, *known.shape), np.nan)
    x[:, :, known] = np.moveaxis(group_means(c.objective, c.w, flat.vectors, points, groups, labels), 0, -1)
    F = len(groups.families)
    out: dict[str, Any] = {"accuracy": x[0, 1]} if "accuracy" in names else {}
    if "families" in names:
        coords["family"] = groups.families
        out |= {"family_loss": x[1 : 1 + F, 0], "family_accuracy": x[1 : 1 + F, 1]}
    if "content" in names:
        out |= {"content_low": groups.bins[:, 0], "content_high": groups.bins[:, 1]}
        out["content_samples"] = np.array([len(m) for m in groups.members[1 + F :]])
        out |= {"content_loss": x[1 + F :, 0], "content_accuracy": x[1 + F :, 1]}
    return out


def replayed_updates(c: Centre, flat: Plane, n: int, since: int | None, coords: dict[str, Any]) -> dict[str, Any]:
    """Single updates in the coordinates of the plane."""
    if c.around.replay is None:
        raise LandscapeError("replay needs a run whose updates can be repeated; ask `landscape probe`.")
    first, rows = c.around.replay(since, n)
    if len(rows) < 2:
        raise LandscapeError(f"expected an update after step {first}, found none: give an earlier step as replay_from.")
    coords["replay_step"] = first + np.arange(len(rows))
    return placed(c, flat, "replay", rows)
