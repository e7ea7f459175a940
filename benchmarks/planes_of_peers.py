"""The same plane by other libraries, each called in its own way. All are optional.

    python benchmarks/planes_of_peers.py

shows what each makes of two functions whose planes are known: f = u + 10 v, and sqrt(u) + 10 v, which is not a number
where u < 0. Directions are scaled so that every library takes the same points; where one cannot, the points it says.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from problems import Batch, MeanLoss
from timing import say
from torch import Tensor, nn

Plane = Callable[[nn.Module, Batch, MeanLoss, Tensor, np.ndarray], np.ndarray]
"""Model, data, loss, directions (2, P), axis (n,) from -a to a -> losses (n, n), first index the first direction."""

NOTES = {
    "Landscaper": "normal noise is added to its highest point; what is not finite becomes the mean or the highest; the "
    "axes that it returns are n / (n - 1) times as long as its steps",
    "loss-landscapes": "every second row is shifted by one step along the second axis",
    "loss-landscape-3d": "",
    "pylandscape": "no parameter is moved: its loop takes the second direction for the model, so all points are one",
}


def directions(w: Tensor, module: nn.Module, *, seed: int = 0) -> Tensor:
    """Two random directions (2, P) as long as w, with sqrt(size) to each tensor: Landscaper makes all directions so."""
    D = torch.randn(2, w.numel(), generator=torch.Generator().manual_seed(seed), dtype=w.dtype)
    sizes = [p.numel() for p in module.parameters()]
    parts = [x * x.shape[1] ** 0.5 / x.norm(dim=1, keepdim=True) for x in D.split(sizes, 1)]
    D = torch.cat(parts, 1)
    return D * w.norm() / D.norm(dim=1, keepdim=True)


def _split(module: nn.Module, v: Tensor) -> list[Tensor]:
    params = list(module.parameters())
    return [x.reshape_as(p).clone() for x, p in zip(v.split([p.numel() for p in params]), params, strict=True)]


def _moved(module: nn.Module, v: Tensor) -> nn.Module:
    """A copy of the model, v further."""
    copy = deepcopy(module)
    with torch.no_grad():
        for p, d in zip(copy.parameters(), _split(module, v), strict=True):
            p.add_(d)
    return copy


def by_hand(module: nn.Module, data: Batch, loss: MeanLoss, D: Tensor, axis: np.ndarray) -> np.ndarray:
    """The plain loop that one writes: set the parameters, evaluate, next point."""
    copy = deepcopy(module)
    parameters = list(copy.parameters())
    w = nn.utils.parameters_to_vector(parameters).detach().clone()
    found = np.empty((len(axis), len(axis)))
    with torch.no_grad():
        for i, a in enumerate(axis):
            for j, b in enumerate(axis):
                nn.utils.vector_to_parameters(w + a * D[0] + b * D[1], parameters)
                found[i, j] = loss(copy(data[0]), data[1])
    return found


def landscaper() -> Plane:
    import landscaper  # noqa: F401  (its `compute` is a function and a module: the module is found below)

    inner = sys.modules["landscaper.compute"]
    inner.tqdm = partial(inner.tqdm, disable=True)  # type: ignore[attr-defined]

    def plane(module: nn.Module, data: Batch, loss: MeanLoss, D: Tensor, axis: np.ndarray) -> np.ndarray:
        n = len(axis)
        # Its points are (i - n // 2) steps of 2 distance / n from the middle, not those of the axis that it returns.
        distance = float(axis[-1]) * (n / 2) / (n // 2)
        with contextlib.redirect_stdout(io.StringIO()):
            found, _ = inner.compute_loss_landscape(  # type: ignore[attr-defined]
                deepcopy(module),
                data,
                [_split(module, d) for d in D],
                lambda model, batch: float(loss(model(batch[0]), batch[1])),
                steps=n,
                distance=distance,
                dim=2,
                device="cpu",
            )
        return np.asarray(found)

    return plane


def loss_landscapes() -> Plane:
    import loss_landscapes as package
    from loss_landscapes.metrics import Loss

    def plane(module: nn.Module, data: Batch, loss: MeanLoss, D: Tensor, axis: np.ndarray) -> np.ndarray:
        n, a, h = len(axis), float(axis[-1]), float(axis[1] - axis[0])
        # It takes a step along the second direction before its first evaluation: the start is one step before.
        start = _moved(module, -a * D[0] - (a + h) * D[1])
        ends = (_moved(start, n * h * d) for d in D)
        return np.asarray(package.planar_interpolation(start, *ends, Loss(loss, *data), n))

    return plane


def loss_landscape_3d() -> Plane:
    from loss_landscape_3d import LossLandscapeCalculator

    def plane(module: nn.Module, data: Batch, loss: MeanLoss, D: Tensor, axis: np.ndarray) -> np.ndarray:
        copy = deepcopy(module)
        names = [name for name, _ in copy.named_parameters()]
        along = [dict(zip(names, _split(copy, d), strict=True)) for d in D]
        centre = {k: v.clone() for k, v in copy.state_dict().items()}
        return np.asarray(LossLandscapeCalculator(copy, [data], loss).calculate(axis, axis, *along, centre))

    return plane


def pylandscape() -> Plane:
    from pylandscape import Surface

    def plane(module: nn.Module, data: Batch, loss: MeanLoss, D: Tensor, axis: np.ndarray) -> np.ndarray:
        # What its `random_surface` and `hessian_surface` call; given the directions, as neither lets one.
        found = Surface(deepcopy(module), loss, [data])._compute_hyperplane([_split(module, d) for d in D], axis)
        return np.asarray(found)

    return plane


PEERS: dict[str, Callable[[], Plane]] = {
    "Landscaper": landscaper,
    "loss-landscapes": loss_landscapes,
    "loss-landscape-3d": loss_landscape_3d,
    "pylandscape": pylandscape,
}


def installed() -> Iterator[tuple[str, Plane]]:
    """Those that can be imported; the others are told, with the reason."""
    for name, make in PEERS.items():
        try:
            yield name, make()
        except ImportError as missing:
            say(f"{name} is left out: {missing}")


class Known(nn.Module):
    """u + 10 v for the two parameters u and v; with `root` sqrt(u) + 10 v."""

    def __init__(self, *, root: bool) -> None:
        super().__init__()
        self.weight, self.root = nn.Parameter(torch.tensor([3.0, 4.0])), root

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N,) are not looked at -> (N,)."""
        u, v = self.weight
        return (u.sqrt() if self.root else u).add(10 * v).expand(len(inputs))


def check(plane: Plane, *, n: int = 5) -> dict[str, float | bool]:
    """Largest error on u + 10 v over the largest value, and whether what is not a number stays so on sqrt(u) + 10 v."""
    data, loss = (torch.zeros(2), torch.zeros(2)), MeanLoss(lambda y, _: y)
    # As long as the parameters, which are of length 5: u from -2 to 8, v from -1 to 9.
    D, axis = 5 * torch.eye(2), np.linspace(-1, 1, n)
    u, v = np.meshgrid(3 + 5 * axis, 4 + 5 * axis, indexing="ij")
    truth = u + 10 * v
    with np.errstate(invalid="ignore"):
        holes = np.isnan(np.sqrt(u))
    found = plane(Known(root=False), data, loss, D, axis)
    error = float(np.abs(found - truth).max() / np.abs(truth).max())
    kept = bool(np.array_equal(np.isnan(plane(Known(root=True), data, loss, D, axis)), holes))
    return {"error": error, "holes": kept}


def main() -> None:
    """Show what each way makes of the two functions."""
    for name, plane in (("plain loop", by_hand), *installed()):
        found = check(plane)
        kept = "stays" if found["holes"] else "is replaced or lost"
        note = f" ({NOTES[name]})" if NOTES.get(name) else ""
        say(f"{name}: u + 10 v off by {found['error']:.1e} of its largest; not a number {kept}{note}")


if __name__ == "__main__":
    main()
