"""The variables of the probe `surface`."""

from __future__ import annotations

from landscape.probes.base import CURVATURE, LOSS, Schema, Variable

__all__ = ["SCHEMA"]

_ALONG = "lengths of direction {}"
_PARAMETER = "parameter units"
_GRID = ("alpha", "beta")


def _walk(name: str, what: str) -> dict[str, Variable]:
    """Points that lie beside the plane, along the axis `name`."""
    return {
        f"{name}_alpha": Variable((f"{name}_step",), _ALONG.format(1), f"projection of {what} on the plane"),
        f"{name}_beta": Variable((f"{name}_step",), _ALONG.format(2), f"projection of {what} on the plane"),
        f"{name}_loss": Variable((f"{name}_step",), LOSS, f"true loss of {what}, not of its projection"),
        f"{name}_plane_loss": Variable((f"{name}_step",), LOSS, f"loss of the projection of {what}"),
        f"{name}_distance": Variable((f"{name}_step",), _PARAMETER, f"distance of {what} from the plane"),
    }


_NEEDED = {
    "alpha": Variable(("alpha",), _ALONG.format(1), "coordinate along direction 1"),
    "beta": Variable(("beta",), _ALONG.format(2), "coordinate along direction 2"),
    "loss": Variable(_GRID, LOSS, "L(w + alpha d1 + beta d2)"),
    "gram": Variable(("direction", "direction_2"), "squared parameter units", "inner products of the directions"),
}
_PER_LENGTH = "loss unit per length of the direction"
_OPTIONAL = {
    "evaluated": Variable(_GRID, "1", "the loss was evaluated here; elsewhere it is NaN and not known", "b"),
    "path_step": Variable(("path_step",), "updates", "training step of a path point", "i"),
    **_walk("path", "a checkpoint"),
    "path_loops": Variable(("path_step",), "1", "loops of the checkpoint's own model, 0 if not known", "i"),
    "path_own_loss": Variable(("path_step",), LOSS, "loss of the checkpoint's own model, with its own loops"),
    "replay_step": Variable(("replay_step",), "updates", "training step of a replayed update", "i"),
    **_walk("replay", "the parameters after an update"),
    "explained_variance": Variable(("direction",), "1", "share of the path's squared displacement along it"),
    "eigenvalue": Variable(("direction",), CURVATURE, "Hessian eigenvalue of the eigenvector it is made of"),
    "eigen_residual": Variable(("direction",), CURVATURE, "|H v - lambda v| of this eigenvector"),
    "cosine": Variable((), "1", "of the leading eigenvector and what the first direction is made of"),
    "river_share": Variable((), "1", "share of the progress, squared, that is outside the k leading eigenvectors"),
    "direction_vector": Variable(("direction", "parameter"), _PARAMETER, "the directions"),
    "centre_loss": Variable((), LOSS, "loss at the centre"),
    "side": Variable(("side",), "", "side of the floor", "U"),
    "wall": Variable(("direction", "side"), "lengths of the direction", "where the loss has risen above the floor"),
    "wall_censored": Variable(("direction", "side"), "1", "not reached or located; wall is no crossing", "b"),
    "floor": Variable(("direction",), "lengths of the direction", "nearest minimum along the direction"),
    "floor_loss": Variable(("direction",), LOSS, "loss at the floor"),
    "floor_converged": Variable(("direction",), "1", "the floor is a minimum, located to tolerance", "b"),
    "slope": Variable(("direction",), _PER_LENGTH, "d'g at the centre"),
    "curvature": Variable(("direction",), _PER_LENGTH.replace("per", "per squared"), "d'Hd at the centre"),
    "rise": Variable((), LOSS, "rise above the floor at a wall"),
    "draw": Variable(("draw",), "", "seed of a draw of the plane", "i"),
    "draw_loss": Variable(("draw", *_GRID), LOSS, "loss on the plane of each draw; the first is that of `loss`"),
    "draw_gram": Variable(("draw", "direction", "direction_2"), "squared parameter units", "of each draw"),
    "draw_share": Variable((), "1", "share of the variance over points and draws that is between draws"),
    "frame_step": Variable(("frame_step",), "updates", "training step of another centre", "i"),
    "frame_loss": Variable(("frame_step", *_GRID), LOSS, "loss on the same plane moved to that checkpoint"),
    "accuracy": Variable(_GRID, "1", "mean accuracy, as the task counts it"),
    "family": Variable(("family",), "", "family of samples", "U"),
    "family_loss": Variable(("family", *_GRID), LOSS, "mean loss of a family"),
    "family_accuracy": Variable(("family", *_GRID), "1", "mean accuracy of a family"),
    "content_low": Variable(("content",), "bits per token", "smallest information content in the bin"),
    "content_high": Variable(("content",), "bits per token", "largest information content in the bin"),
    "content_samples": Variable(("content",), "1", "samples in the bin", "i"),
    "content_loss": Variable(("content", *_GRID), LOSS, "mean loss of a bin"),
    "content_accuracy": Variable(("content", *_GRID), "1", "mean accuracy of a bin"),
}
SCHEMA = Schema({**_NEEDED, **_OPTIONAL}, optional=frozenset(_OPTIONAL), probe="surface")
