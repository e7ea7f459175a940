"""Refuse derivatives that are not those of the loss, before anything is built on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from landscape.curvature.products import forward_product, gradient, hessian_product
from landscape.errors import LandscapeError
from landscape.loss.chunks import Chunks
from landscape.loss.failures import custom_operations, explained

__all__ = ["Route", "Trust", "check_gradient", "check_product"]

Route = Literal["reverse", "forward"]
"""How a product is derived: double backward, or forward over reverse."""

STEPS = (1e-5, 1e-6, 1e-7, 1e-4, 1e-8, 1e-9, 1e-3, 1e-2, 1e-1)
"""Relative to the size of each parameter tensor, in the order in which they are tried."""

EXCERPT = 32
"""Samples on which derivatives are checked."""

TRIALS = 3
"""Points and directions at which derivatives must be wrong to be refused."""

FINEST = 1e-6
"""Steps below it can show that a derivative is right, not that it is wrong."""

SURE, USABLE, RTOL = 1e-6, 1e-2, 1e-5
"""Relative errors of a difference below which it decides at once, and at most; and of what it is compared with."""

NO_PRODUCT: dict[Route, str] = {
    "reverse": 'Replace the operation by plain torch, or use strategy="difference" (differences of gradients).',
    "forward": 'Use strategy="cached" or "difference".',
}
"""The way out where torch cannot compute a product."""

_WAY_OUT = (
    "Custom backward functions, detach, straight-through estimators and reversed gradients do this; some fused "
    "operations of torch have a wrong second derivative (weight normalisation: remove it by torch.nn.utils.parametrize."
    "remove_parametrizations, or torch.nn.utils.remove_weight_norm). Write the operation in plain torch"
)
_CARRY_ON = "or carry on with Objective(..., check_derivatives=False): the results then say so."


@dataclass(frozen=True)
class _Difference:
    """A derivative from differences with two step sizes: what it is, and how far it can be off."""

    value: Tensor
    error: float
    step: float

    def off(self, claimed: Tensor) -> float:
        return float((self.value - claimed).norm())

    def scale(self, claimed: Tensor) -> float:
        return max(float(self.value.norm()), float(claimed.norm()))

    def agrees(self, claimed: Tensor) -> bool:
        return self.off(claimed) <= 4 * self.error + RTOL * self.scale(claimed)


class Trust:
    """What is known of the derivatives of one objective: each kind is checked once, when it is first asked for.

    Args:
        check: False takes them as they are; `caveats` then says so.

    Attributes:
        found: per kind ("gradient", "reverse", "forward") "right", or why it could not be decided.
    """

    def __init__(self, *, check: bool) -> None:
        self._check = check
        self.found: dict[str, str] = {}

    def check(self, chunks: Chunks, w: Tensor, route: Route | None) -> None:
        """The gradient, and products by `route` unless it is None."""
        if not self._check:
            return
        if "gradient" not in self.found:
            self.found["gradient"] = chunks.ranks.together(partial(check_gradient, chunks, w))
        if route is not None and route not in self.found:
            self.found[route] = chunks.ranks.together(partial(_explained_product, chunks, w, route))

    def anew(self) -> Trust:
        """The same for an objective of which nothing is known yet."""
        return Trust(check=self._check)

    @property
    def caveats(self) -> dict[str, str]:
        """An attribute for results: empty if all that was used is right."""
        if not self._check:
            return {"derivatives": "not checked, as asked for"}
        doubts = sorted(f"{kind}: {why}" for kind, why in self.found.items() if why != "right")
        return {"derivatives": "; ".join(doubts)} if doubts else {}


def check_gradient(chunks: Chunks, w: Tensor) -> str:
    r"""Whether the gradient is the derivative of the loss: g'u against [L(w + h u) - L(w - h u)] / 2h, u random.

    All of it in float64 on some of the samples, near w and not at w, where a loss may have a kink by construction
    (biases that start at 0 before a ReLU). The error of a difference is how much it changes from h to h/2, summed over
    samples, and the rounding of the losses; h is made smaller, then larger, until that is small. Kinks make it large
    where h crosses them, so a small h decides there.

    Returns:
        "right", or why it could not be decided (a loss too rough or too noisy for differences).

    Raises:
        LandscapeError: with both numbers, if they disagree.
    """
    return _decided(lambda seed: _gradient_verdict(chunks, w, seed))


def _gradient_verdict(chunks: Chunks, w: Tensor, seed: int) -> tuple[str, str]:
    """As `_compare`, for the gradient near w; what to say if it is wrong."""
    excerpt, w, u, _ = _setting(chunks, w, seed)
    with explained("the gradient", "Without one, only probes of the loss itself can be asked, such as samples."):
        graph = _value_with_graph(excerpt, w)
        claimed = (gradient(excerpt.total, w) @ u).reshape(1)
    size = float(excerpt.contributions(w).abs().sum())

    def difference(h: float) -> _Difference:
        coarse, fine = (
            (excerpt.contributions(w + s * u) - excerpt.contributions(w - s * u)) / (2 * s) for s in (h, h / 2)
        )
        error = float((coarse - fine).abs().sum()) + 4 * torch.finfo(w.dtype).eps * size / h
        return _Difference(fine.sum().reshape(1), error, h)

    verdict, found = _compare(claimed, difference, floor=1e-4 * size)
    if found is None:
        return verdict, ""
    n = excerpt.mass
    return verdict, (
        f"the gradient is not the derivative of the loss: along a random direction it gives {float(claimed) / n:.6g}, "
        f"differences of the loss give {float(found.value) / n:.6g} +- {found.error / n:.1g} ({excerpt.n_samples} "
        f"samples, step {found.step:.0e}).{_suspects(graph)} {_WAY_OUT}, {_CARRY_ON}"
    )


def check_product(chunks: Chunks, w: Tensor, route: Route) -> str:
    r"""Whether the product H u is the derivative of the gradient along u: [g(w + h u) - g(w - h u)] / 2h, u random.

    As `check_gradient`, with the vectors compared in coordinates in which all parameter tensors are of size 1.

    Returns:
        "right", or why it could not be decided.

    Raises:
        LandscapeError: with the norms of both and of their difference, if they disagree.
    """
    return _decided(lambda seed: _product_verdict(chunks, w, route, seed))


def _explained_product(chunks: Chunks, w: Tensor, route: Route) -> str:
    with explained(f"a Hessian product ({route} mode)", NO_PRODUCT[route]):
        return check_product(chunks, w, route)


def _product_verdict(chunks: Chunks, w: Tensor, route: Route, seed: int) -> tuple[str, str]:
    """As `_compare`, for a product near w; what to say if it is wrong."""
    excerpt, w, u, scale = _setting(chunks, w, seed)
    graph = _value_with_graph(excerpt, w)
    if route == "reverse":
        claimed = scale * hessian_product([excerpt.total], w)(u)
    else:
        claimed = scale * forward_product(excerpt.total, w, u)
    size = float((scale * gradient(excerpt.total, w)).norm())

    def difference(h: float) -> _Difference:
        g = [[gradient(excerpt.total, w + sign * s * u) for sign in (1, -1)] for s in (h, h / 2)]
        coarse, fine = (scale * (up - down) / (2 * s) for (up, down), s in zip(g, (h, h / 2), strict=True))
        error = float((coarse - fine).norm()) + 16 * torch.finfo(w.dtype).eps * size / h
        return _Difference(fine, error, h)

    verdict, found = _compare(claimed, difference, floor=1e-4 * size)
    if found is None:
        return verdict, ""
    return verdict, (
        "torch's second derivatives of this module are wrong: a Hessian product has norm "
        f"{float(claimed.norm()):.6g}, differences of the gradient {float(found.value.norm()):.6g}; they are "
        f"{found.off(claimed):.3g} apart, where {4 * found.error:.1g} is allowed (step {found.step:.0e})."
        f'{_suspects(graph)} {_WAY_OUT}, use strategy="difference", {_CARRY_ON}'
    )


def _decided(verdict: Callable[[int], tuple[str, str]]) -> str:
    """The first verdict that is not "wrong", from up to `TRIALS` points and directions; else the error.

    Derivatives that are wrong are so everywhere; a difference can look sharper than it is, by chance, now and then.
    """
    for seed in range(TRIALS):
        said, message = verdict(seed)
        if said != "wrong":
            return said
    raise LandscapeError(message)


def _compare(
    claimed: Tensor, difference: Callable[[float], _Difference], *, floor: float
) -> tuple[str, _Difference | None]:
    """Say "right", "wrong" with a difference that shows it, or the reason why neither can be said.

    Args:
        claimed: the derivative in question.
        difference: its estimate with a step.
        floor: what counts as a large derivative whatever the claimed one is, so that a derivative of 0 can be right.
    """
    errors: dict[float, float] = {}
    tried: list[_Difference] = []
    for h in STEPS:
        found = difference(h)
        scale = max(found.scale(claimed), floor)
        if not bool(torch.isfinite(found.value).all()):
            continue
        if scale == 0:
            return "right", None
        errors[h] = found.error / scale
        tried.append(found)
        if errors[h] <= SURE and found.agrees(claimed):
            return "right", None
        # One difference may be fooled by a kink right beside the point; not two of different lengths. Below FINEST a
        # module that computes in float32 inside stands still, which looks like a derivative of 0 without any error.
        against = [t for t in tried if t.step >= FINEST and errors[t.step] <= 10 * SURE]
        if len(against) == 2 and not any(t.agrees(claimed) for t in against):
            return "wrong", min(against, key=lambda t: errors[t.step])
    usable = [t for t in tried if t.step >= FINEST and errors[t.step] <= USABLE]
    if not usable:
        return f"too rough or too noisy for differences of the loss ({len(STEPS)} step sizes tried)", None
    best = min(usable, key=lambda t: errors[t.step])
    if best.agrees(claimed):
        return "right", None
    # Where kinks are crossed at every step that rounding allows, differences settle on another number, with an error
    # that grows as h shrinks. A smooth function's error falls.
    longer = errors.get(float(f"{10 * best.step:.0e}"))
    if longer is not None and errors[best.step] <= longer / 3:
        return "wrong", best
    return "differences of the loss disagree with the derivative, but depend on the step size themselves", None


def _setting(chunks: Chunks, w: Tensor, seed: int) -> tuple[Chunks, Tensor, Tensor, Tensor]:
    """Some samples in float64, a point near w, a random direction (P,), and the size of each entry's tensor (P,)."""
    excerpt = chunks.excerpt(EXCERPT)
    w = excerpt.vector(w)
    sizes = [float(p.square().mean().sqrt()) if p.numel() else 0.0 for p in excerpt.layout.unflatten(w).values()]
    typical = float(w.square().mean().sqrt()) or 1.0
    scale = torch.cat(
        [w.new_full((n,), s if s > 0 else typical) for n, s in zip(excerpt.layout.sizes, sizes, strict=True)]
    )
    generator = torch.Generator().manual_seed(seed)
    # Drawn in float32, which is several times faster: of a hundred million numbers that is seconds.
    drawn = torch.randn(2, excerpt.layout.size, generator=generator, dtype=torch.float32)
    aside, u = (drawn.to(w.device).to(w.dtype) * scale).unbind()
    near = w + 1e-3 * aside
    with torch.no_grad():
        finite = bool(torch.isfinite(excerpt.losses(near)).all())
    return excerpt, near if finite else w, u, scale


def _value_with_graph(chunks: Chunks, w: Tensor) -> Tensor:
    with torch.enable_grad():
        return chunks.total(w.detach().requires_grad_(True))


def _suspects(value: Tensor) -> str:
    names = custom_operations(value)
    return f" Custom operations in the graph: {', '.join(names)}." if names else ""
