"""How often the rule of `landscape verdict` is wrong without an effect, and right with one; the tables of docs/verdict.

python benchmarks/verdict.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from landscape.verdict.rule import DECISION_LEVEL, LEVEL, MINIMUM, interval, side

DRAWS = 4000
SEEDS = (3, 5, 6, 8, 12)
Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]

NOTHING: dict[str, Draw] = {
    "Gaussian": lambda g, shape: g.standard_normal(shape),
    "two values, ±1": lambda g, shape: np.where(g.random(shape) < 0.5, 1.0, -1.0),
    "heavy tails, t with 2 degrees of freedom": lambda g, shape: g.standard_t(2, shape),
    "heavy tails, Cauchy": lambda g, shape: g.standard_cauchy(shape),
    "skewed against, 1 - exponential (skewness 2)": lambda g, shape: 1 - g.exponential(size=shape),
    "skewed for, exponential - 1": lambda g, shape: g.exponential(size=shape) - 1,
    "skewed against, lognormal (skewness 6)": lambda g, shape: np.exp(0.5) - np.exp(g.standard_normal(shape)),
}
"""Numbers of mean (of the Cauchy distribution: median) 0."""


def scipys(x: Array, method: str) -> Array:
    """The interval of `scipy.stats.bootstrap` alone."""
    parts = []
    for part in np.array_split(x, 8):
        found = stats.bootstrap(
            (part,), np.mean, axis=-1, n_resamples=1999, method=method, confidence_level=LEVEL,
            random_state=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        parts.append(np.stack([found.low, found.high], axis=-1))
    return np.concatenate(parts)


def student(x: Array) -> Array:
    """Student's interval alone."""
    half = stats.t.ppf((1 + LEVEL) / 2, x.shape[1] - 1) * x.std(1, ddof=1) / np.sqrt(x.shape[1])
    return np.stack([x.mean(1) - half, x.mean(1) + half], axis=-1)


def share(ends: Array, n: int) -> str:
    """Of the draws that are called support, in per cent, by intervals of any number of seeds."""
    return f"{100 * np.mean(side(ends, n=max(n, MINIMUM)) == 1):.1f}"


def rates(x: Array) -> list[str]:
    """A row of the first table."""
    n = x.shape[1]
    return [
        *(share(scipys(x, method), n) for method in ("percentile", "basic", "BCa")),
        share(student(x), n),
        share(interval(x, seed=0, resamples=1999)[:, 0], n),
        f"{100 * np.mean(side(interval(x, seed=0, levels=[DECISION_LEVEL], resamples=1999)[:, 0], n=n) == 1):.1f}",
    ]


def main() -> None:
    out = sys.stdout
    out.write("| numbers without effect | seeds | percentile | basic | BCa | Student | hull, 95 % | rule |\n")
    out.write("|---|---|---|---|---|---|---|---|\n")
    with np.errstate(all="ignore"):
        for kind, draw in NOTHING.items():
            for n in SEEDS:
                x = draw(np.random.default_rng([n, len(kind)]), (DRAWS, n))
                out.write(f"| {kind} | {n} | " + " | ".join(rates(x)) + " |\n")
                out.flush()
    effects = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    out.write(
        "\n| seeds | " + " | ".join(f"effect {e:g}" for e in effects) + " |\n|---|" + "---|" * len(effects) + "\n"
    )
    for n in (5, 6, 8, 10, 12, 16, 24, 32):
        x = np.random.default_rng(n).standard_normal((DRAWS, n))
        ends = interval(x, seed=0, levels=[DECISION_LEVEL], resamples=1999)[:, 0]
        out.write(f"| {n} | " + " | ".join(f"{100 * np.mean(side(ends + e, n=n) == 1):.0f}" for e in effects) + " |\n")


if __name__ == "__main__":
    main()
