"""Quantities of C1 to C3, the claims about learning and valleys that C11 asks again with Stacked in Single's place."""

from __future__ import annotations

from landscape.verdict.curvature import at_groups, kappa, phases, plain
from landscape.verdict.learning import hard_accuracy, order_of_learning, slope_after_plateau
from landscape.verdict.quantity import METRICS, Quantity, base, difference, log_ratio, treated

__all__ = ["HESSIAN_PHASES", "KAPPAS", "SPREADS", "TWO_PHASE"]

_GAP = Quantity(
    name="final gap", words="test accuracy on complex sequences at the end, A minus B", unit="1", probe="metrics",
    read=difference(hard_accuracy),
)  # fmt: skip
_SLOPE = Quantity(
    name="slope after the plateau", words="slope of the accuracy on complex sequences after B has stalled, A minus B",
    unit="1 per 1000 updates", probe="metrics", read=slope_after_plateau,
)  # fmt: skip
_ORDER = Quantity(
    name="order of learning", words="Spearman correlation of information content and step learned, of A", unit="1",
    probe="samples", read=treated(order_of_learning), of="A",
    variables=("loss", "information_content"),
)  # fmt: skip
_PHASES = Quantity(
    name="phases of A", words="number of phases of the matrix entropy, of A", unit="1", probe="evolution",
    read=treated(phases), of="A",
    variables=("n_phases",), metrics=METRICS, fewest=2, margin=2.5, why="three phases are more than 2.5",
)  # fmt: skip
_NO_PHASES = Quantity(
    name="phases of B", words="number of phases of the matrix entropy, of B", unit="1", probe="evolution",
    read=base(phases), of="B",
    variables=("n_phases",), metrics=METRICS, fewest=2, direction=-1, margin=2.5,
    why="fewer than three phases are less than 2.5",
)  # fmt: skip
_RISE = Quantity(
    name="rise after the minimum", words="matrix entropy at the end minus its minimum, A minus B", unit="nats",
    probe="evolution", read=difference(plain("rise_after_minimum")),
    variables=("rise_after_minimum",), metrics=METRICS, fewest=2,
)  # fmt: skip
SPREADS = (
    Quantity(
        name="spread of log λ", words="standard deviation of log eigenvalue, weighted by the eigenvalue, A minus B",
        unit="1", probe="entropy", read=difference(plain("log_spread")),
        variables=("log_spread",), metrics=METRICS, fewest=2,
    ),
    Quantity(
        name="interquartile range of log λ", words="interquartile range of log eigenvalue, so weighted, A minus B",
        unit="1", probe="entropy", read=difference(plain("log_iqr")),
        variables=("log_iqr",), metrics=METRICS, fewest=2,
    ),
    Quantity(
        name="spread of log width", words="spread of log half-width over the leading directions, A minus B", unit="1",
        probe="valley", read=difference(at_groups("log_width_spread", "top")),
        variables=("log_width_spread", "group"), metrics=METRICS, fewest=2,
    ),
    Quantity(
        name="wall exponent", words="exponent of the walls along the leading directions, A minus B (V is 1, U above 2)",
        unit="1", probe="valley", read=difference(at_groups("group_exponent", "top")),
        variables=("group_exponent", "group"), metrics=METRICS, fewest=2,
        direction=-1,
    ),
)  # fmt: skip
KAPPAS = tuple(
    Quantity(
        name=f"log κ, {kind} threshold", words=f"log condition number of the valley above {what}, A minus B", unit="1",
        probe="split", read=log_ratio(kappa(kind)),
        variables=(f"kappa_{kind}", f"converged_{kind}"), metrics=METRICS, fewest=2, decides=False, why=why,
    )
    for kind, what, why in (
        ("absolute", "eps", "of a continuous spectrum it is the largest eigenvalue over the threshold"),
        ("relative", "eps times the largest eigenvalue", "of a continuous spectrum it is one over the threshold"),
    )
)  # fmt: skip
TWO_PHASE = (_GAP, _SLOPE, _ORDER)
HESSIAN_PHASES = (_PHASES, _NO_PHASES, _RISE)
