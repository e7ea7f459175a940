"""The verdict on a study: every claim, for every setting and pair of architectures, with its reasons."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from landscape.errors import LandscapeError
from landscape.runs.run import Run
from landscape.settings import lookup
from landscape.studies.study import Study
from landscape.verdict.claims import CLAIMS, VARIABLES, Claim
from landscape.verdict.evidence import Evidence, evidence
from landscape.verdict.groups import Kind, Setting, settings_of
from landscape.verdict.rule import MINIMUM, Decision, decide, seeds_for
from landscape.verdict.stored import Subject, subjects

__all__ = ["Finding", "Judged", "Verdict", "judge", "verdict"]

Outcome = Decision | Literal["not asked"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found for a claim, a pair of kinds of training and a setting.

    Attributes:
        claim: which.
        a: label of the training that is claimed to differ.
        b: label of the other; "" if neither is there.
        main: whether this is the pair that the claim is about.
        outcome: supported, refuted, inconclusive; or not asked, if no quantity that decides was answered.
        reasons: why, in words, one for each quantity that decides.
        notes: seeds without a partner, missing answers, runs that diverged.
        seeds_needed: with which an inconclusive finding would be decided, if the effects are what they seem; else None.
        seeds: that both have.
        evidence: quantity by quantity.
    """

    claim: Claim
    a: str
    b: str
    main: bool
    outcome: Outcome
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    seeds_needed: int | None
    seeds: tuple[int, ...]
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """All findings of one setting.

    Attributes:
        setting: which, with its runs.
        findings: in the order of the claims; the pair that a claim is about comes first.
    """

    setting: Setting
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a study.

    Attributes:
        settings: findings of each.
        left_out: runs that belong to no setting, and why.
        seed: of the resampling.
    """

    settings: tuple[Judged, ...]
    left_out: tuple[str, ...]
    seed: int


def verdict(
    runs: Study | Iterable[Run] | str | os.PathLike[str], *, seed: int = 0, claims: Sequence[str] | None = None
) -> Verdict:
    """Judge the claims by what is stored of a study; nothing is computed on a model.

    Args:
        runs: the runs, or a folder of them.
        seed: of the bootstrap.
        claims: their ids; None is all.

    Returns:
        See `Verdict`. It depends on the order of neither runs nor answers.

    Raises:
        LandscapeError: for a claim that does not exist, or a folder without runs.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 2}, "steps": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for arch in ("single", "looped"):
        ...         _ = train(RunConfig.make(arch=arch, **small), f"{folder}/{arch}")
        ...     found = verdict(folder, claims=["C6"])
        >>> finding = found.settings[0].findings[0]
        >>> finding.a, finding.b, finding.outcome, finding.notes
        ('looped', 'single', 'inconclusive', ('1 seed of 5 that a decision needs: 0',))
    """
    if isinstance(runs, str | os.PathLike):
        runs = Study.open([runs])
    return judge(subjects(list(runs)), seed=seed, claims=claims)


def judge(found: Sequence[Subject], *, seed: int = 0, claims: Sequence[str] | None = None) -> Verdict:
    """`verdict` of runs wherever they are stored."""
    chosen = [lookup(CLAIMS, c, kind="claim") for c in (CLAIMS if claims is None else claims)]
    if not found:
        raise LandscapeError("expected at least one run that is no branch of another, found none.")
    settings, lost = settings_of(found)
    judged = tuple(
        Judged(setting=s, findings=tuple(f for claim in chosen for f in _findings(claim, s, seed=seed)))
        for s in settings
    )
    return Verdict(settings=judged, left_out=tuple(lost), seed=seed)


def _findings(claim: Claim, setting: Setting, *, seed: int) -> list[Finding]:
    """Of every pair that is there; of the pair that the claim is about in any case."""
    out = []
    for i, (first, second) in enumerate(claim.pairs):
        pairs = list(setting.pairs(first, second))
        out += [_finding(claim, setting, a, b, main=i == 0, seed=seed) for a, b in pairs]
        if not pairs and i == 0:
            lacking = [arch for arch in (first, second) if not any(k.arch == arch for k in setting.kinds)]
            said = f"no runs of {' and '.join(lacking)}" if lacking else f"no {first} and {second} of the same depth"
            out.append(
                Finding(
                    claim=claim, a=first, b=second, main=True, outcome="not asked", reasons=(said,), notes=(),
                    seeds_needed=None, seeds=(), evidence=(),
                )
            )  # fmt: skip
    return out


def _finding(claim: Claim, setting: Setting, a: Kind, b: Kind, *, main: bool, seed: int) -> Finding:
    found = [evidence(q, a, b, seed=seed, names=VARIABLES[q.probe]) for q in claim.quantities]
    found = [e for e in found if e.rows or not e.quantity.optional]
    deciding = [e for e in found if e.quantity.decides]
    parts = {e.quantity.name: e.sides for e in deciding}
    effects = {e.quantity.name: [r.effect for r in e.rows] for e in deciding if e.answered}
    outcome: Outcome = decide(parts, refuted_by=claim.refuted_by) if any(e.rows for e in deciding) else "not asked"
    needed = None
    if outcome == "inconclusive" and (claim.refuted_by == "any" or len(effects) == len(parts)):
        needed = seeds_for(effects, refuted_by=claim.refuted_by)
    seeds = sorted(set(a.runs) & set(b.runs))
    if needed is not None:  # these were not enough
        needed = max(needed, len(seeds) + 1)
    return Finding(
        claim=claim, a=a.label, b=b.label, main=main, outcome=outcome,
        reasons=tuple(_reason(e) for e in deciding), notes=tuple(_notes(setting, a, b, seeds, found)),
        seeds_needed=needed, seeds=tuple(seeds), evidence=tuple(found),
    )  # fmt: skip


def _reason(found: Evidence) -> str:
    """Where the rows of a quantity lie."""
    q, rows = found.quantity, found.rows
    if not rows:
        return f"{q.name}: not asked, or no seed has a number" + (f" ({found.ask})" if found.ask else "")
    count = {s: sum(row.side == s for row in rows) for s in (1, -1, 0)}
    said = [f"{n} {where}" for n, where in zip(count.values(), ("claimed", "opposite", "undecided"), strict=True) if n]
    text = f"{q.name}: {', '.join(said)} of {len(rows)} row{'s' if len(rows) > 1 else ''}"
    if not found.answered:
        text += f"; in {len(found.metrics)} metric{'s' if len(found.metrics) > 1 else ''} of at least {q.fewest}"
        text += f" ({found.ask})" if found.ask else ""
    return text


def _notes(setting: Setting, a: Kind, b: Kind, seeds: Sequence[int], found: Sequence[Evidence]) -> list[str]:
    out = []
    if len(seeds) < MINIMUM:
        which = ", ".join(map(str, seeds)) or "none"
        out.append(f"{len(seeds)} seed{'s' * (len(seeds) != 1)} of {MINIMUM} that a decision needs: {which}")
    for one, other in ((a, b), (b, a)):
        if alone := sorted(set(one.runs) - set(other.runs)):
            out.append(f"without a partner in {other.label}: {one.label} seed {', '.join(map(str, alone))}")
        if bad := setting.diverged.get(one.label):
            out.append(
                f"{one.label} diverged at seed {', '.join(map(str, bad))}: what is found holds for runs that do not"
            )
    for e in found:
        out += e.notes
        gone = sorted({s for row in e.rows for s in row.missing})
        if gone:
            out.append(f"{e.quantity.name}: no number in some rows for seed {', '.join(map(str, gone))}")
    return list(dict.fromkeys(out))
