"""How many products and losses the solvers and searches take, as far as it can be told before.

Every range was seen on small networks, trained and not; `tests/answers/test_cost.py` holds them against what is used.
"""

from __future__ import annotations

from landscape.probes.base import Span
from landscape.probes.tools.dense import fits

__all__ = ["dense_or_quadrature", "lanczos_products", "lanczos_vectors", "plus", "search_losses"]


def lanczos_products(k: int, which: str, size: int, *, check_missed: bool = True, most: int | None = None) -> Span:
    """Products that `lanczos` takes for k pairs of a matrix of this size, within its ceiling `most`.

    The upper end of a trained model stands apart from the bulk and is found soon, in a third of what is told at most;
    at the start of training it need not. The lower end rarely does: there the ceiling is the only bound known.

    Example:
        >>> lanczos_products(10, "top", 4608), lanczos_products(1, "bottom", 4608), lanczos_products(10, "top", 7)
        ((21, 360), (30, 330), (7, 15))
    """
    if k < 1:
        return 0, 0
    wanted = min(size, 2 * k if which == "both" else k)
    ceiling = 300 + 30 * wanted if most is None else most
    easy = which in ("top", "largest")
    low, high = (6 + 1.5 * k, min(ceiling, 60 + 30 * k)) if easy else (28 + 2 * k, ceiling)
    least = low if check_missed else 0.7 * low
    # In a basis of the whole space nothing can be missing; the residuals may take a product each.
    bound = min(ceiling, size + wanted + 1)
    return min(round(least), size, bound), min(round(high), bound)


def lanczos_vectors(k: int, which: str, size: int) -> float:
    """Vectors that it holds at most: those of two rounds and their products."""
    return 4 * lanczos_products(k, which, size)[1]


def search_losses(lines: int, rises: int, gap: float) -> Span:
    """Losses and gradients of `measure` along lines: to the floor, then outwards to every rise on both sides.

    Example:
        >>> search_losses(9, 7, 0.2)
        (306, 1530)
    """
    steps = max(1.0, 0.2 / gap)  # a smaller gap asks for so many more losses in between
    return round(lines * (6 + 4 * rises)), round(lines * (30 + 20 * rises * steps))


def dense_or_quadrature(size: int, *, exact_up_to: int, vectors: int, quad: int) -> tuple[bool, int]:
    """Whether all eigenvalues are computed, and if not how many products the quadrature takes."""
    exact = fits(size) and size <= exact_up_to
    return exact, 0 if exact else vectors * min(quad, size)


def plus(*spans: Span) -> Span:
    """The sum of ranges.

    Example:
        >>> plus((1, 2), (3, 4))
        (4, 6)
    """
    return sum(low for low, _ in spans), sum(high for _, high in spans)
