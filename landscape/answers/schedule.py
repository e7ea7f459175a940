"""Which process measures what, and in which order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from landscape.answers.measure import Found, Place, answers, answers_in_worker, answers_of_killed
from landscape.answers.pool import Processes, Workers
from landscape.answers.question import LossSpec, Question
from landscape.answers.team import Team

__all__ = ["Request", "computed"]


@dataclass(frozen=True, eq=False)
class Request:
    """A question and the training steps it is asked at."""

    question: Question
    steps: tuple[int, ...]


def computed(
    requests: Sequence[Request],
    todo: Sequence[tuple[int, int]],
    *,
    chunk: int | None,
    jobs: int,
    workers: Workers | None,
    compiling: bool,
    team: Team | None,
) -> Iterator[Found]:
    """Measure, save and yield (request, step, answer) as each is done, in any order.

    Requests at one checkpoint of one objective go to one process together: they share what they `remember`. Grids of
    points that would leave a process without work come last, one after the other, each shared out among all. `workers`
    are other processes than `jobs` on this machine; they see files alone, not each other: there a grid is one piece.
    """
    grids = [(i, step) for i, step in todo if requests[i].question.probe.pointwise]
    if jobs > 1 and team is None and workers is None and (rest := grids[len(grids) // jobs * jobs :]):
        others = [x for x in todo if x not in rest]
        yield from computed(requests, others, chunk=chunk, jobs=jobs, workers=None, compiling=compiling, team=None)
        for i, step in rest:
            question = requests[i].question
            place = Place.of(question, step, chunk)
            yield from answers(place, [(i, question)], jobs=jobs, ahead=0 if compiling else None)
        return
    groups: dict[Any, list[tuple[int, Question]]] = {}
    asked = [(i, requests[i].question, Place.of(requests[i].question, step, chunk)) for i, step in todo]
    jobs = jobs if workers is None else workers.jobs
    few = len({place for _, _, place in asked}) < jobs  # too few pieces to share out: each question on its own
    for i, q, place in asked:
        groups.setdefault((place, i if few else None), []).append((i, q))
    calls = [(place, questions) for (place, _), questions in sorted(groups.items(), key=lambda g: g[0][0].order)]
    ahead = _ahead(calls, jobs) if compiling else [None] * len(calls)
    if workers is None and (jobs == 1 or len(calls) <= 1):
        for (place, questions), products in zip(calls, ahead, strict=True):
            if team is not None:
                team.ask(place, [(i, q.probe.name, q.settings) for i, q in questions])
            # Ranks decide alike only on what they all know.
            yield from answers(place, questions, ahead=products if team is None else products and 0, team=team)
        return
    work = [
        (place, [(i, q.probe, q.settings) for i, q in questions], products, os.getpid())
        for (place, questions), products in zip(calls, ahead, strict=True)
    ]
    threads = torch.get_num_threads()
    share = (workers or Processes(jobs)).share
    try:
        with contextlib.closing(share(answers_in_worker, work, lost=answers_of_killed)) as results:
            for found in results:
                yield from found
    finally:
        torch.set_num_threads(threads)


def _ahead(calls: Sequence[tuple[Place, Sequence[tuple[int, Question]]]], jobs: int) -> list[int]:
    """For each call about how many Hessian products one process still makes of that run's loss, from then on."""
    left: dict[tuple[str, LossSpec], float] = {}
    found = []
    for place, questions in reversed(calls):
        kind = (place.run, place.loss)
        left[kind] = left.get(kind, 0.0) + sum(q.products for _, q in questions)
        found.append(int(left[kind] / min(jobs, len(calls))))
    return found[::-1]
