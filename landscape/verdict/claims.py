"""The claims: what each says, by which quantities it is judged, and for which pairs of architectures."""

from __future__ import annotations

from dataclasses import dataclass

from landscape.verdict.curvature import count_difference, dominated, forces, plain
from landscape.verdict.dynamics import cosines, diagonal, hop_rate, river_share
from landscape.verdict.learning import (
    accuracy,
    column,
    drop,
    final,
    length_accuracy,
    loss_at_equal_compute,
    loss_at_equal_updates,
)
from landscape.verdict.quantity import METRICS, Quantity, base, difference, log_ratio, ratio, treated
from landscape.verdict.rule import Refutation
from landscape.verdict.shared import HESSIAN_PHASES, KAPPAS, SPREADS, TWO_PHASE

__all__ = ["CLAIMS", "VARIABLES", "Claim"]

Pair = tuple[str, str]
_LOOPED, _STACKED, _BOTH = ("looped", "single"), ("stacked", "single"), ("looped", "stacked")
PAIRS: tuple[Pair, ...] = (_LOOPED, _STACKED, _BOTH)
NATS = "nats per token"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim.

    Attributes:
        id: C1 to C11.
        title: a few words.
        statement: what is claimed, in our words.
        quantities: that it is judged by.
        pairs: (A, B) architectures; the claim is about the first pair, the same numbers of others are shown beside.
        refuted_by: whether all quantities must speak against it, or any of them, each being necessary.
        note: what a reader has to know.
    """

    id: str
    title: str
    statement: str
    quantities: tuple[Quantity, ...]
    pairs: tuple[Pair, ...] = PAIRS
    refuted_by: Refutation = "all"
    note: str = ""


CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in (
        Claim(
            id="C1", title="two-phase learning",
            statement="Looped keeps learning complex patterns after Single has stalled, and simple ones come first.",
            quantities=TWO_PHASE, refuted_by="any",
        ),
        Claim(
            id="C2", title="phases of the Hessian",
            statement="The Hessian collapses, diversifies and stabilises in Looped, and does not in Single.",
            quantities=HESSIAN_PHASES, refuted_by="any",
        ),
        Claim(
            id="C3", title="U and V valleys",
            statement="Single sits in a U-shaped valley, Looped in a V-shaped one: steeper walls of more various "
            "steepness.",
            quantities=(*SPREADS, *KAPPAS),
        ),
        Claim(
            id="C4", title="spectral dominance",
            statement="Below any threshold Looped has more valley eigenvalues, each no larger than Single's of the "
            "same rank.",
            quantities=(
                Quantity(
                    name="count below τ", words="eigenvalues above rounding and up to the threshold, A minus B",
                    unit="1", probe="force", read=count_difference,
                    variables=("eigenvalue", "resolution", "tau"), metrics=METRICS, fewest=2,
                ),
                Quantity(
                    name="ranks dominated", words="share of ranks at which A's eigenvalue is no larger than B's",
                    unit="1", probe="force", read=dominated,
                    variables=("eigenvalue", "resolution", "tau"), metrics=METRICS, fewest=2, margin=0.95,
                    why="'each' is taken for more than 95 % of the ranks",
                ),
            ),
            refuted_by="any",
        ),
        Claim(
            id="C5", title="cumulative force",
            statement="The sum of inverse eigenvalues of the valley is larger for Looped.",
            quantities=(
                Quantity(
                    name="log ratio of Σ 1/λ", words="log of the sum of 1/eigenvalue over a window, A minus B",
                    unit="1", probe="force", read=log_ratio(forces()),
                    variables=("inverse_sum", "resolved"), metrics=METRICS, fewest=2,
                ),
                Quantity(
                    name="the same, relative windows", words="log of the sum of 1/eigenvalue over a window relative to "
                    "the largest eigenvalue, A minus B", unit="1", probe="force", read=log_ratio(forces("relative_")),
                    variables=("relative_inverse_sum", "relative_resolved"),
                    metrics=METRICS, fewest=2, decides=False, why="a window of its own for each architecture",
                ),
            ),
        ),
        Claim(
            id="C6", title="lower loss after K steps",
            statement="From the same start Looped has the lower loss after K updates, and after equal compute.",
            quantities=(
                Quantity(
                    name="loss at equal updates", words="probe loss after K updates, B minus A", unit=NATS,
                    probe="metrics", read=loss_at_equal_updates,
                ),
                Quantity(
                    name="loss at equal compute", words="probe loss after equal FLOPs, B minus A", unit=NATS,
                    probe="metrics", read=loss_at_equal_compute,
                ),
            ),
            note="Equal seeds give Single and Looped the same initial parameters; Stacked has others.",
        ),
        Claim(
            id="C7", title="hopping becomes river progress",
            statement="Updates of Looped hop between the valley's walls, and this becomes progress along the river.",
            quantities=(
                Quantity(
                    name="hop rate of A", words="share of consecutive updates with opposite signs along the leading "
                    "directions, of A", unit="1", probe="hopping", read=treated(hop_rate), of="A",
                    variables=("hop_rate", "converged"), metrics=METRICS,
                    margin=0.5, why="independent updates change sign half of the time",
                ),
                Quantity(
                    name="river progress", words="length of the sum of river parts over the sum of lengths, A minus B",
                    unit="1", probe="hopping", read=difference(plain("river_progress")),
                    variables=("river_progress",), metrics=METRICS,
                ),
                Quantity(
                    name="river share of the decrease", words="river part of the decrease of the loss over all of it, "
                    "of A", unit="1", probe="hopping", read=treated(river_share), of="A",
                    variables=("net_sum", "decrease_sum", "subspace"), metrics=METRICS, margin=0.5,
                    why="most of the decrease",
                ),
                Quantity(
                    name="intervention: river against valley", words="decrease of the loss with updates kept to the "
                    "river minus that with updates kept to the valley, of A", unit=NATS, probe="projection",
                    read=treated(lambda t: t["river_decrease"] - t["valley_decrease"]), of="A", optional=True,
                ),
                Quantity(
                    name="intervention: valley loss", words="loss that a decay of the learning rate sheds, A minus B",
                    unit=NATS, probe="decay", read=difference(column("valley_loss")), optional=True, decides=False,
                    why="the claim says nothing of its size",
                ),
            ),
            pairs=(_LOOPED, _STACKED), refuted_by="any",
        ),
        Claim(
            id="C8", title="shared river upstream",
            statement="Gradients of Single and Looped at the same parameters point the same way, for W_Q and W_K.",
            quantities=(
                Quantity(
                    name="gradient cosine along A", words="cosine of the two gradients at checkpoints of A", unit="1",
                    probe="alignment", read=treated(cosines), of="A",
                    variables=("cosine", "group"),
                ),
                Quantity(
                    name="gradient cosine along B", words="cosine of the two gradients at checkpoints of B", unit="1",
                    probe="alignment", read=base(cosines), of="B",
                    variables=("cosine", "group"),
                ),
                Quantity(
                    name="premise: diagonal dominance", words="diagonal of the attention minus the rest of its row, of "
                    "A", unit="1", probe="alignment", read=treated(diagonal), of="A",
                    variables=("dominance",), decides=False,
                    why="a premise of the theorem, not its claim",
                ),
            ),
            pairs=(_LOOPED,),
        ),
        Claim(
            id="C9", title="SHIFT saves compute",
            statement="SHIFT reaches Looped's accuracy to half a point with at most 70 % of its FLOPs.",
            quantities=(
                Quantity(
                    name="accuracy", words="test accuracy at the end, A minus B", unit="1", probe="metrics",
                    read=difference(accuracy), margin=-0.005, why="half a point",
                ),
                Quantity(
                    name="FLOP ratio", words="FLOPs of the training, A over B", unit="1", probe="metrics",
                    read=ratio(final("flops")), direction=-1, margin=0.7, why="70 % of the compute",
                ),
                Quantity(
                    name="time ratio", words="training time, A over B", unit="1", probe="metrics",
                    read=ratio(final("seconds")), direction=-1, margin=1.0, decides=False,
                    why="it depends on the machine and on what else it did",
                ),
                Quantity(
                    name="drop at the switch", words="accuracy lost at the switch, of A", unit="1", probe="shift",
                    read=treated(drop), of="A", direction=-1, margin=0.005, decides=False,
                    why="the claim is about the end; half a point",
                ),
            ),
            pairs=(("shift", "looped"),), refuted_by="any",
        ),
        Claim(
            id="C10", title="length generalisation",
            statement="Looped is right more often than Single on queries longer than those it was trained on.",
            quantities=(
                Quantity(
                    name="accuracy beyond", words="mean accuracy over the lengths asked beyond the longest trained, "
                    "A minus B", unit="1", probe="length", read=difference(length_accuracy(mean=True)),
                    variables=("accuracy", "trained_length"),
                ),
                Quantity(
                    name="accuracy at each length", words="accuracy at a length beyond the longest trained, A minus B",
                    unit="1", probe="length", read=difference(length_accuracy(mean=False)),
                    variables=("accuracy", "trained_length"), decides=False,
                    why="far enough out nobody is right",
                ),
            ),
        ),
        Claim(
            id="C11", title="recursion, not depth",
            statement="What C1 to C3 claim of Looped is not had by Stacked, which is as deep and does not recur.",
            quantities=tuple(q for q in (*TWO_PHASE, *HESSIAN_PHASES, *SPREADS) if q.of != "A"),
            pairs=(_BOTH,), refuted_by="any",
            note="The quantities of C1 to C3 with Stacked in Single's place; C1 to C3 show Stacked in Looped's place.",
        ),
    )
}  # fmt: skip

VARIABLES: dict[str, tuple[str, ...]] = {
    probe: tuple(sorted({v for c in CLAIMS.values() for q in c.quantities if q.probe == probe for v in q.variables}))
    for probe in dict.fromkeys(q.probe for claim in CLAIMS.values() for q in claim.quantities)
}
"""Of the answers of each probe, what all claims together read."""
