"""Where a branch of a run comes from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Origin"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The checkpoint that a branch starts from.

    Attributes:
        run: path of the run's folder, as it was given; only needed until the branch's file is made.
        run_id: id of that run, which no renaming changes.
        step: training step of the checkpoint, also the first step of the branch.
        name: name of the run's folder.
        tokens: scored training tokens used up to there, from which the branch counts on.
        flops: floating-point operations up to there, likewise.
        seconds: training time up to there, likewise.
        optimizer_since: step at which the optimiser's state there began: 0, or a switch that began it anew.

    Example:
        >>> Origin(run="runs/a", run_id="0123456789ab", step=40, name="a").label
        'a@40'
    """

    run: str
    run_id: str
    step: int
    name: str
    tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    optimizer_since: int = 0

    @property
    def label(self) -> str:
        """Name and step, as `--from` takes them."""
        return f"{self.name}@{self.step}"
