"""The questions that need products only: the top of the spectrum to equal accuracy, and the density by quadrature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from ours import K, Ours, ours
from peers import PEERS, Peer
from problems import Problem
from report import WRONG
from timing import Outcome, choose, error_of, measure, row, say, timed
from torch import Tensor

from landscape import Objective
from landscape.probes.linalg import Eigenpairs, lanczos


@dataclass
class Entry:
    """A method on a problem; `on_uneven` is its product's error there, `even` whether it was given even batches."""

    name: str
    method: Ours | Peer
    top: Callable[..., Outcome]
    density: Callable[..., Outcome]
    top_uneven: Callable[..., Outcome] | None = None
    product_error: float | None = None


def entries(p: Problem, question: str, *, accuracy: float, limit: float, skip: Sequence[str] = ()) -> Iterator[Entry]:
    """Every installed method that answers the question, told the batches that it can do; ours are compiled by then."""
    for name, mine in ours(accuracy).items():
        if question in mine.questions and mine.differs(p) and not any(s in name for s in skip):
            mine.hessian(p)
            yield Entry(name, mine, partial(timed, mine.top, p=p), partial(timed, mine.density, p=p))
    for name, make in PEERS.items():
        if any(s in name for s in skip):
            continue
        try:
            peer = make()
        except ImportError as error:
            say(f"{name}: not installed ({error.name})")
            continue
        if question in peer.questions:
            yield _peer_entry(p, name, peer, limit)


def _peer_entry(p: Problem, name: str, peer: Peer, limit: float) -> Entry:
    w = p.objective.w0
    v = torch.randn(len(w), generator=torch.Generator().manual_seed(3))
    expected = p.objective.hessian(w).mv(v)
    error, on_even = (float((peer.product(p, b, v) - expected).norm() / expected.norm()) for b in (p.batches, p.even))
    wrong = p.layout == "uneven" and error > WRONG >= on_even
    if error > WRONG:
        say(f"{name}: its product is wrong by {error:.1e}" + ("; it is timed on even batches" if wrong else ""))
    batches = p.even if wrong else p.batches
    density = partial(timed, peer.density, p=p, batches=batches, limit=limit) if peer.density else None
    return Entry(
        name,
        peer,
        partial(timed, peer.top, p=p, batches=batches),
        density,  # type: ignore[arg-type]
        partial(timed, peer.top, p=p, batches=p.batches) if wrong else None,
        error,
    )


def truth(p: Problem) -> Eigenpairs:
    """The reference: Lanczos in float64 with certified residuals."""
    exact = Objective(p.module, p.per_sample, p.data, chunk=p.objective.chunk)
    found = lanczos(exact.hessian(exact.w0), k=K, which="largest", tol=1e-9, seed=1)
    if not (bool(found.converged.all()) and found.resolved):
        raise SystemExit("the reference did not converge; there is nothing to compare with")
    return found


def run_top(
    p: Problem, reference: Eigenpairs, *, accuracy: float, repeats: int, patience: float, skip: Sequence[str] = ()
) -> dict[str, Any]:
    """Ten eigenvalues of largest magnitude, each method at its cheapest setting that is accurate enough."""
    rows: dict[str, Any] = {}
    jobs: dict[str, Callable[[], Outcome]] = {}
    chosen: dict[str, tuple[Entry, dict[str, Any]]] = {}
    for e in entries(p, "top", accuracy=accuracy, limit=patience, skip=skip):
        choice = choose(e.top, e.method, reference.values, accuracy=accuracy, patience=patience)
        more = {
            "settings": choice.settings,
            "error": choice.error,
            "reached": choice.error <= accuracy,
            "note": e.method.notes.get("top", ""),
            "tried": choice.tried,
            **_uneven(e, choice.settings, reference.values, patience),
        }
        say(f"{e.name}: {choice.settings} error {choice.error:.1e}, {choice.first.seconds:.2f} s")
        rows[e.name] = row([choice.first], **more)  # of a method that never got there, this run is all
        if more["reached"]:
            jobs[e.name] = partial(e.top, **choice.settings)
            chosen[e.name] = (e, more)
    for name, outcomes in measure(jobs, repeats).items():
        e, more = chosen[name]
        rows[name] = row(outcomes, first_ready=_first_ready(p, e), **more)
    return {
        "accuracy": accuracy,
        "patience_s": patience,
        "reference": reference.values.tolist(),
        "reference_residual": float(reference.residuals.max()) / reference.scale,
        "methods": rows,
    }


def _first_ready(p: Problem, e: Entry) -> float:
    return p.ready.get(e.method.key, 0.0) if isinstance(e.method, Ours) else 0.0


def _uneven(e: Entry, settings: dict[str, Any], reference: Tensor, limit: float) -> dict[str, Any]:
    """What the reader must know of a peer's answer on uneven batches."""
    if e.product_error is None:
        return {}
    found: dict[str, Any] = {"product_error": e.product_error, "even_batches": e.top_uneven is not None}
    if e.top_uneven is not None:
        found["error_on_uneven"] = error_of(e.top_uneven(**settings, limit=limit).values, reference)
    return found


def run_density(
    p: Problem,
    *,
    accuracy: float,
    vectors: int,
    steps: int,
    repeats: int,
    patience: float,
    skip: Sequence[str] = (),
) -> dict[str, Any]:
    """Stochastic Lanczos quadrature with the same vectors and steps for all, so with the same number of products."""
    known = list(entries(p, "density", accuracy=accuracy, limit=patience, skip=skip))
    for e in known:  # warms up
        e.density(vectors=1, steps=2)
    jobs = {e.name: partial(e.density, vectors=vectors, steps=steps) for e in known}
    rows = {}
    for e, (name, outcomes) in zip(known, measure(jobs, repeats).items(), strict=True):
        trace = outcomes[0].values.double()
        rows[name] = row(
            outcomes,
            first_ready=_first_ready(p, e),
            trace=float(trace.mean()),
            trace_stderr=float(trace.std()) / max(1, len(trace)) ** 0.5,
            note=e.method.notes.get("density", ""),
            reached=len(trace) == vectors,
        )
        if e.product_error is not None:
            rows[name] |= {"product_error": e.product_error, "even_batches": e.top_uneven is not None}
    return {"vectors": vectors, "steps": steps, "patience_s": patience, "methods": rows}
