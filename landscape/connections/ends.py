"""The two checkpoints that a connection is between, the losses they have, and whether their units can be aligned."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from torch import Tensor

from landscape.answers.question import LossSpec
from landscape.errors import LandscapeError
from landscape.loss.objective import Objective
from landscape.models.symmetry import SYMMETRIES, Symmetry
from landscape.runs.run import Run

__all__ = ["End", "check_alike", "losses_of", "symmetry_of"]


@dataclass(frozen=True)
class End:
    """A checkpoint of a run.

    Attributes:
        run: the run.
        step: training step.
    """

    run: Run
    step: int

    @classmethod
    def of(cls, source: Run | str | os.PathLike[str]) -> End:
        """The checkpoint that ``"RUN@STEP"`` names; of a run, a folder or ``"RUN@last"`` the last one.

        Raises:
            LandscapeError: if there is no such run, it has no checkpoint, or none of that step.
        """
        step = "last"
        if not isinstance(source, Run):
            path, sign, given = str(source).rpartition("@")
            if sign and not os.path.exists(source):
                source, step = path, given
            if step != "last" and not step.isdecimal():
                raise LandscapeError(
                    f"expected RUN or RUN@STEP, a run folder and a step, found {f'{source}@{step}'!r}. For example: "
                    "runs/a@96"
                )
            source = Run.open(source)
        if not len(source.steps):
            raise LandscapeError(f"{source.path} has no checkpoint yet.")
        end = cls(source, int(source.steps[-1]) if step == "last" else int(step))
        source.index(end.step)
        return end

    @property
    def label(self) -> str:
        """``"RUN@STEP"``."""
        return f"{self.run.name}@{self.step}"

    @property
    def arch(self) -> str:
        """Of the run, or its name where that is not known."""
        return str(self.run.labels.get("arch", self.run.name))

    def loss(self, spec: LossSpec, chunk: int | None) -> Objective:
        """The loss as it is at this checkpoint: with its passes, and buffers where it has any."""
        return self.run.objective(
            spec.split, n=spec.samples, at=self.step, dtype=spec.torch_dtype, chunk=chunk, device=spec.device,
            name=spec.objective,
        )  # fmt: skip

    def vector(self, objective: Objective) -> Tensor:
        """The parameters that vary, (P,)."""
        run = self.run
        return objective.vector(run.parameters[run.index(self.step)][run.layout.mask(objective.layout.names)])


def check_alike(a: End, b: End) -> None:
    """Refuse runs between whose parameters there is no path: each must fit the model of the other.

    Raises:
        LandscapeError: if layouts differ, or two models that do not compute alike but for their number of passes.
    """
    if a.run.layout.hash != b.run.layout.hash:
        said = [f"{e.run.name} has {e.run.layout.size} ({_kind(e)}, layout {e.run.layout.hash})" for e in (a, b)]
        raise LandscapeError(
            f"expected runs with the same parameters, found two layouts: {'; '.join(said)}. Single and looped have the "
            "same ones where width, vocabulary and layers agree; stacked has others."
        )
    if a.run.kind == b.run.kind == "trained":
        models = [dataclasses.asdict(dataclasses.replace(e.run.config.model, loops=1)) for e in (a, b)]
        if models[0] != models[1]:
            names = sorted(n for n in {*models[0], *models[1]} if models[0].get(n) != models[1].get(n))
            values = "; ".join(f"model.{n}: {models[0].get(n)} and {models[1].get(n)}" for n in names)
            raise LandscapeError(
                f"expected runs whose models differ in their loops alone, found {values}. On a path between them the "
                "parameters would change their meaning."
            )


def _kind(end: End) -> str:
    return ", ".join(str(end.run.labels[n]) for n in ("task", "arch") if n in end.run.labels) or end.run.kind


def losses_of(a: End, b: End, spec: LossSpec, chunk: int | None) -> dict[str, Objective]:
    """Label -> loss: one where both ends have the same, else that of a and that of b, on the same samples.

    Raises:
        LandscapeError: if the samples differ.
    """
    own = [e.loss(spec, chunk) for e in (a, b)]
    if own[0].fingerprint != own[1].fingerprint:
        raise LandscapeError(
            f"expected runs with the same data, found samples {own[0].fingerprint} in {a.run.name} ({_kind(a)}) and "
            f"{own[1].fingerprint} in {b.run.name} ({_kind(b)}), in the split {spec.split!r}{_settings(a, b)}. "
            "Connect runs that learn the same."
        )
    if own[0].layout.hash != own[1].layout.hash:
        raise LandscapeError(
            f"expected losses that vary the same parameters, found two layouts in {a.label}, {b.label}."
        )
    if _same(a, b, spec):
        return {a.arch if a.arch == b.arch else f"{a.arch} and {b.arch}": own[0]}
    labels = [a.arch, b.arch]
    if labels[0] == labels[1]:
        labels = [_passes(a), _passes(b)]
    if labels[0] == labels[1]:  # two runs of one name
        labels = [f"{which}: {label}" for which, label in zip("ab", labels, strict=True)]
    return dict(zip(labels, own, strict=True))


def _passes(end: End) -> str:
    """What tells a model from another of the same architecture."""
    p = end.run.passes_at(end.step)
    if p is None:
        return end.label
    return f"{end.arch}, {p.loops} loop{'s' if p.loops > 1 else ''}" + (
        f", share {p.weight:g}" if p.weight != 1 else ""
    )


def _same(a: End, b: End, spec: LossSpec) -> bool:
    """Whether both ends have one loss."""
    if a.run.kind == b.run.kind == "trained":
        return a.run.passes_at(a.step) == b.run.passes_at(b.step)
    if a.run.apart(spec.objective) or b.run.apart(spec.objective):
        return a.run.id == b.run.id and a.step == b.step
    named = [spec.objective or next(iter(run.objectives), None) for run in (a.run, b.run)]
    return "trained" not in (a.run.kind, b.run.kind) and named[0] == named[1]


def _settings(a: End, b: End) -> str:
    """Settings of the tasks that differ."""
    tasks = [e.run.described.get("task") for e in (a, b)]
    known = [t for t in tasks if isinstance(t, dict)]
    if len(known) < 2:
        return ""
    names = [n for n in {**known[0], **known[1]} if known[0].get(n) != known[1].get(n)]
    said = "; ".join(f"task.{n}: {known[0].get(n)} and {known[1].get(n)}" for n in names)
    return f" ({said})" if said else ""


def symmetry_of(a: End, b: End) -> tuple[Symmetry | None, str]:
    """What may change places in b, and what is said of it; None where that is not known."""
    if not a.run.kind == b.run.kind == "trained":
        foreign = a if a.run.kind != "trained" else b
        return None, f"not possible: which units of a {foreign.run.kind} run may change places is not known"
    model = a.run.config.model
    if model.name not in SYMMETRIES:
        return None, f"not possible: which units of a model {model.name!r} may change places is not known"
    return SYMMETRIES[model.name](model), "units of b in the order of a's, by weight matching"
