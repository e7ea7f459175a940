"""Which probes fit: from the most telling to the dearest, each as large as the budget leaves room for."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.answers.cost import span_text
from landscape.answers.files import DamagedError
from landscape.errors import LandscapeError
from landscape.probes import PROBES
from landscape.probes.base import Span
from landscape.report.subjects import Subject, Trial, Wanted

__all__ = ["BUDGETS", "LADDERS", "Plan", "choose", "pick_steps", "seconds_of"]

BUDGETS = {"quick": 60.0, "full": 1800.0}
"""Seconds that the chosen probes may take together, by the upper ends of their estimates."""

LADDERS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "samples": ({},),
    "spectrum": ({}, {"k": 3}, {"k": 1, "check_missed": False}),
    "surface": ({}, {"points": 15}, {"points": 9}),
    "valley": (
        {},
        {"top": 3, "bottom": 0, "random": 1},
        {"top": 1, "bottom": 0, "random": 1, "gradient": False, "rises": (1e-3, 1e-2, 1e-1)},
    ),
    "entropy": ({},),
    "density": ({}, {"vectors": 4, "quad": 40, "trace_products": 0}),
    "evolution": ({}, {"mutual": False}),
}
"""Probes in the order of what they tell for their price, each with smaller and smaller settings."""
_APART = {
    "force": "sums over windows of the spectrum answer a question of their own",
    "split": "its thresholds answer a question of their own",
    "sharpness": "the optimiser's update is a question of its own",
    "hopping": "it replays updates of the training, whose time is not known beforehand",
    "alignment": "it compares two architectures, in a time that is not known beforehand",
    "loops": "it asks a model that is known pass by pass, in a time that is not known beforehand",
    "length": "it asks for new samples, in a time that is not known beforehand",
    "examples": "it is a question about prompts of in-context regression",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be asked, and what not.

    Attributes:
        chosen: probes with settings.
        skipped: reasons, by probe.
        lines: what each of the chosen will take, in words; the first line sums up.
        seconds: of all together, from least to most.
        troubles: what is damaged, by probe.
    """

    chosen: tuple[Wanted, ...]
    skipped: Mapping[str, str]
    lines: tuple[str, ...]
    seconds: Span
    troubles: Mapping[str, LandscapeError]


def seconds_of(budget: str | float) -> float:
    """A budget in seconds.

    Raises:
        LandscapeError: for a name that is not known, or a number that is not positive.

    Example:
        >>> seconds_of("quick"), seconds_of(5)
        (60.0, 5.0)
    """
    if isinstance(budget, str) and budget in BUDGETS:
        return BUDGETS[budget]
    if isinstance(budget, int | float) and not isinstance(budget, bool) and budget > 0:
        return float(budget)
    names = ", ".join(f'"{n}" ({s:.0f} s)' for n, s in BUDGETS.items())
    raise LandscapeError(f"expected a budget of {names} or a positive number of seconds, found {budget!r}.")


def pick_steps(steps: Sequence[int], budget: str | float) -> list[int]:
    """Checkpoints to ask: all of them in a full report, else the first, the middle and the last.

    Example:
        >>> pick_steps([0, 1, 2, 4, 8], "quick"), pick_steps([0, 1], "full")
        ([0, 2, 8], [0, 1])
    """
    found = sorted(int(s) for s in steps)
    if budget == "full" or len(found) < 4:
        return found
    return [found[0], found[(len(found) - 1) // 2], found[-1]]


def choose(subject: Subject, *, budget: str | float) -> Plan:
    """What fits the model, the kind of subject and the budget. Nothing is computed but what is timed.

    Raises:
        LandscapeError: if no question can be asked, for one and the same reason.
    """
    limit = seconds_of(budget)
    ladders = _ladders(subject, full=limit >= BUDGETS["full"])
    wanted = [Wanted(probe=name, settings=s) for name, settings in ladders for s in settings]
    trials = dict(zip(range(len(wanted)), subject.trials(wanted), strict=True))
    chosen: list[tuple[Wanted, Trial]] = []
    skipped: dict[str, str] = {}
    troubles: dict[str, LandscapeError] = {}
    spent, first = (0.0, 0.0), 0
    for name, settings in ladders:
        steps = [(wanted[i], trials[i]) for i in range(first, first + len(settings))]
        first += len(settings)
        damage = next((t.error for _, t in steps if isinstance(t.error, DamagedError)), None)
        found = next((s for s in steps if _refusal(s[1], limit - spent[1]) == ""), None)
        if damage is not None:  # smaller settings would hide it
            skipped[name], troubles[name] = str(damage), damage
            continue
        if found is None:
            skipped[name] = _refusal(steps[-1][1], limit - spent[1])
            continue
        chosen.append(found)
        low, high = found[1].seconds or (0.0, 0.0)
        spent = spent[0] + low, spent[1] + high
    errors = [trials[i].error for i in range(len(wanted))]
    if not chosen and not troubles and all(errors) and len({str(e) for e in errors}) == 1 and errors[0] is not None:
        raise errors[0]  # it is the loss that cannot be asked, whatever the question
    for name in PROBES:
        if name not in skipped and all(w.probe != name for w, _ in chosen):
            skipped[name] = (
                f"{_APART.get(name, 'it looks at several checkpoints')}: `landscape probe -p {name}` asks it"
            )
    many = "1 probe" if len(chosen) == 1 else f"{len(chosen)} probes"
    lines = [f"{subject.title}: {many} in about {span_text(spent, 's')} (budget {limit:.0f} s)"]
    lines += [f"  {_line(w, t)}" for w, t in chosen]
    order = {name: i for i, name in enumerate(PROBES)}
    return Plan(
        chosen=tuple(w for w, _ in chosen),
        skipped=dict(sorted(skipped.items(), key=lambda item: order[item[0]])),
        lines=tuple(lines),
        seconds=spent,
        troubles=troubles,
    )


def _ladders(subject: Subject, *, full: bool) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The ladders for this subject: without checkpoints there is no path, and only a full report compares them."""
    plane = {} if subject.path else {"directions": "random"}
    return [
        (name, [{**plane, **rung} for rung in rungs] if name == "surface" else list(rungs))
        for name, rungs in LADDERS.items()
        if name != "evolution" or (full and subject.path)
    ]


def _refusal(trial: Trial, left: float) -> str:
    """Why it is not asked; "" if it can be."""
    if trial.error is not None:
        return str(trial.error)
    if trial.stored:
        return ""
    if trial.seconds is None or not math.isfinite(trial.seconds[1]):
        return "what it takes is not known beforehand"
    if trial.seconds[1] > left:
        needs = f"it would take {span_text(trial.seconds, 's')} at its smallest"
        return f"{needs}, and {max(0.0, left):.2g} s of the budget are left"
    memory = _memory()
    if trial.memory is not None and trial.memory[1] > memory:
        return f"it would hold up to {trial.memory[1] / 2**30:.3g} GiB, and this machine has {memory / 2**30:.3g}"
    return ""


def _memory() -> float:
    """Bytes of the machine; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _line(wanted: Wanted, trial: Trial) -> str:
    given = ", ".join(f"{k} {v}" for k, v in wanted.settings.items())
    name = wanted.probe + (f" ({given})" if given else "")
    if trial.stored:
        return f"{name}: stored"
    places = "" if trial.todo < 2 else f" at {trial.todo} checkpoints"
    parts = [
        f"{span_text(s)} {what}" for s, what in ((trial.products, "products"), (trial.losses, "losses")) if s and s[1]
    ]
    memory = "" if trial.memory is None else f", {span_text((trial.memory[0] / 2**30, trial.memory[1] / 2**30), 'GiB')}"
    return f"{name}{places}: {', '.join(parts)}, {span_text(trial.seconds, 's')}{memory}"
