"""How does curvature change along training? Mutual information, angles of eigenspaces, phases of the entropy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.loss.metric import RescaledObjective
from landscape.loss.objective import Objective
from landscape.probes.base import CURVATURE, Context, Counts, Extent, Probe, Schema, Variable
from landscape.probes.entropy import measured
from landscape.probes.linalg import lanczos
from landscape.probes.linalg.spectra.atoms import Atoms
from landscape.probes.linalg.spectra.changepoints import FEWEST, Signal, change_points, noise_of_differences
from landscape.probes.linalg.spectra.entropy import shape_statistics
from landscape.probes.linalg.spectra.pairs import matrix_entropy, principal_angles
from landscape.probes.tools.counts import dense_or_quadrature, lanczos_products, lanczos_vectors
from landscape.probes.tools.dense import DENSE_MEMORY, exact_spectrum, fits

__all__ = ["PROBE", "evolution"]

PAIR, PATH = ("step_a", "step_b"), ("path_step",)

SCHEMA = Schema(
    {
        "path_step": Variable(PATH, "updates", "training step of a checkpoint", "i"),
        "step_a": Variable(("step_a",), "updates", "training step of the first of two checkpoints", "i"),
        "step_b": Variable(("step_b",), "updates", "training step of the second of two checkpoints", "i"),
        "mutual_information": Variable(
            PAIR,
            "nats",
            "mutual information of two Hessians, NaN if not exact; can be below 0 and above both entropies",
        ),
        "angle": Variable((*PAIR, "mode"), "rad", "principal angles between the leading eigenspaces, ascending"),
        "eigenvalue": Variable((*PATH, "mode"), CURVATURE, "leading Hessian eigenvalues, descending"),
        "gap": Variable(PATH, CURVATURE, "last eigenvalue of the eigenspace minus the next one"),
        "angle_error": Variable(PATH, "rad", "bound of the angle between the eigenspace found and the true one"),
        "converged": Variable(PATH, "1", "all eigenpairs of the eigenspace and the next one converged", "b"),
        "entropy": Variable(PATH, "nats", "matrix entropy -sum p log p with p = |eigenvalue| / sum |eigenvalue|"),
        "entropy_stderr": Variable(PATH, "nats", "standard error over vectors of the entropy, 0 if exact"),
        "exact": Variable(PATH, "1", "entropy from all eigenvalues, not estimated from random vectors", "b"),
        "n_products": Variable(PATH, "1", "Hessian-vector products used", "i"),
        "rise_after_minimum": Variable((), "nats", "entropy at the last checkpoint minus the smallest, NaN if unknown"),
        "rise_after_minimum_stderr": Variable(
            (),
            "nats",
            "root of the summed squares of both standard errors, 0 if exact; the vectors are the same at all "
            "checkpoints, so errors are not independent",
        ),
        "minimum_step": Variable((), "updates", "training step of the smallest entropy, NaN if unknown"),
        "noise": Variable((), "nats", "sigma: usual change of the entropy between checkpoints, over sqrt 2"),
        "penalty": Variable(("penalty",), "1", "penalty of a change point, in sigma^2 log n"),
        "change_point": Variable(("penalty", *PATH), "1", "a new phase of the entropy begins here", "b"),
        "n_phases": Variable(("penalty",), "1", "number of phases, 0 if too few checkpoints", "i"),
        "phase": Variable(PATH, "1", "phase of the checkpoint at the penalty asked for, 0 if not known", "i"),
    },
    probe="evolution",
)


def evolution(
    objective: Objective,
    w: Tensor,
    *,
    seed: int,
    k: int = 10,
    mutual: bool = True,
    signal: Signal = "level",
    penalty: float = 2.0,
    penalties: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    tol: float = 1e-6,
    exact_up_to: int = 5000,
    vectors: int = 10,
    quad: int = 80,
    checkpoints: Tensor | None = None,
    steps: Sequence[int] | None = None,
    objectives: Sequence[Objective] | None = None,
) -> xr.Dataset:
    r"""How the Hessians of the checkpoints of one run differ, and which phases their entropy goes through.

    Mutual information: I(s, t) = S(K_s) + S(K_t) - S(K_s o K_t / tr(K_s o K_t)), with K = |H| / tr |H|,
    |H| = V |Lambda| V' and o the entrywise product. It depends on the coordinates (the metric). 0 <= I <= the smaller
    entropy holds where the diagonals of K are constant, as they are for a Gram matrix; those of Hessians are not, so I
    can be negative, and I can exceed both entropies, also I(s, s) the entropy of s. Angles: between the spans of the k
    algebraically largest eigenvectors. Phases: see `change_points`, on S against the number of the checkpoint, so that
    their spacing does not enter. All checkpoints are looked at in the metric of the last one.

    `rise_after_minimum_stderr` adds two standard errors as if they were independent. They are not: one seed gives the
    same random vectors at all checkpoints. Where the two errors go together, the true one is smaller; repeat with other
    seeds to see it. An entropy that is NaN (a Hessian of zeros) makes the minimum and the rise NaN.

    Args:
        objective: the loss.
        w: the last checkpoint (P,).
        seed: of the eigen-solver and of random vectors.
        k: dimension of the eigenspaces; less if P is less.
        mutual: compute mutual information: one P x P eigenvalue problem per pair of checkpoints, and all eigenvectors
            of each; without it, the k leading ones by Lanczos.
        signal: phases of constant "level" or of constant "slope" of the entropy.
        penalty: of a change point, in sigma^2 log n; 2 is the Bayesian information criterion.
        penalties: others to be tried, so that one sees how phases depend on it.
        tol: residual over spectral norm below which an eigenpair is `converged`.
        exact_up_to: largest P whose Hessian is written out. Beyond it, or if those of all checkpoints together take
            more than 4 GiB, there is no mutual information; beyond it entropies are estimated, and eigenspaces are
            from Lanczos.
        vectors: random vectors for the entropy otherwise.
        quad: Lanczos steps per vector.
        checkpoints: (T, P) parameter vectors, ascending in step; default `w` alone.
        steps: (T,) their training steps; default 0..T-1.
        objectives: one per checkpoint, where each holds other parameters fixed.

    Returns:
        Dataset with dims `path_step`, `step_a`, `step_b`, `mode`, `penalty`; see `SCHEMA` for variables and units. Its
        attribute `note` says what could not be computed. With fewer than five checkpoints there is no change point.

    Raises:
        LandscapeError: for settings out of range, or a Hessian that is not finite.

    Source:
        Sanchez Giraldo, Rao, Principe, Measures of entropy from data using infinitely divisible kernels (IEEE Trans.
        Inf. Theory 61, 2015) for Gram matrices; for |H|: definition of this project, after arXiv 2510.10089.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (torch.eye(2), torch.zeros(2, 1)))
        >>> ds = evolution(objective, objective.w0, seed=0, k=1, checkpoints=torch.eye(2), steps=[0, 5])
        >>> ds.mutual_information.values.round(9).tolist()  # log 2: both Hessians are the unit matrix
        [[0.693147181, 0.693147181], [0.693147181, 0.693147181]]
    """
    grid = sorted({penalty, *penalties})
    if k < 1 or not grid[0] > 0:
        raise LandscapeError(f"expected k >= 1 and positive penalties, found {k} and {penalty}, {penalties}.")
    path = objective.vector(w)[None] if checkpoints is None else checkpoints
    if path.ndim != 2 or path.shape[1] != objective.size or not len(path):
        raise LandscapeError(f"expected checkpoints of shape (T, {objective.size}), found {tuple(path.shape)}.")
    n = len(path)
    at = list(objectives) if objectives is not None else [objective] * n
    exact = fits(objective.size) and objective.size <= exact_up_to
    keep = mutual and exact and 8 * objective.size**2 * n <= DENSE_MEMORY // 2
    looks: list[_Look] = []
    for o, u in zip(reversed(at), path.flip(0), strict=True):  # the last first: it may be remembered
        how = {"tol": tol, "exact_up_to": exact_up_to, "vectors": vectors, "quad": quad, "seed": seed}
        looks.insert(0, _Look(o, u, k=k, exact=exact, keep=keep, **how))
    values: dict[str, Any] = {name: np.array([look.values[name] for look in looks]) for name in looks[0].values}
    labels = np.arange(n) if steps is None else np.asarray(steps, dtype=np.int64)
    values |= _phases(values["entropy"], values["entropy_stderr"], labels, penalty, grid, signal)
    spaces = [look.vectors for look in looks]
    values["angle"] = torch.stack([torch.stack([principal_angles(a, b) for b in spaces]) for a in spaces])
    values["mutual_information"] = _information([look.size for look in looks], n)
    notes = []
    if mutual and not keep:
        notes.append(
            f"no mutual information: it needs the Hessians of all {n} checkpoints in memory, "
            f"{8 * n * objective.size**2 / 2**30:.1f} GiB of {DENSE_MEMORY / 2**31:.0f}, and P = {objective.size} no "
            f"larger than exact_up_to = {exact_up_to}"
        )
    if n < FEWEST:
        notes.append(f"no change points: they need {FEWEST} checkpoints, found {n}")
    coords = {"path_step": labels, "step_a": labels, "step_b": labels, "penalty": np.array(grid)}
    return SCHEMA.dataset(values, coords=coords, note="; ".join(notes) or "none", signal=signal, **objective.caveats)


class _Look:
    """One checkpoint: its leading eigenspace, its entropy, and |H| where it is kept."""

    def __init__(self, objective: Objective, w: Tensor, *, k: int, exact: bool, keep: bool, tol: float, **how: Any):
        size = objective.size
        k = min(k, size)
        self.size: Tensor | None = None
        if exact and keep:  # the whole of |H| is asked for, so that all eigenvectors are needed
            found = exact_spectrum(objective, w, vectors=True)
            assert found.vectors is not None
            values, self.vectors, n_products = found.values, found.vectors[:, :k].clone(), found.n_products
            residual = math.sqrt(k) * found.residual
            converged = found.residual <= tol * float(values.abs().max())
            self.size = (found.vectors * (values.abs() / values.abs().sum())) @ found.vectors.T
        else:
            pairs = lanczos(objective.hessian(w), k=min(k + 1, size), which="top", tol=tol, seed=how["seed"])
            values = pairs.values.cpu().double()
            self.vectors = pairs.vectors[:, :k].to("cpu", torch.float64, copy=True)  # not the view of a wider matrix
            residual = float(pairs.residuals[:k].norm())
            converged = bool(pairs.converged.all()) and pairs.resolved
            n_products = pairs.n_products
        if exact:
            found = exact_spectrum(objective, w, vectors=keep)
            entropy, stderr, *_ = shape_statistics(Atoms.of_values(found.values))["entropy"]
            n_products += 0 if keep else found.n_products
        else:
            spectrum = measured(objective, w, **how)
            entropy, stderr, *_ = shape_statistics(spectrum.atoms)["entropy"]
            n_products += int(spectrum.values["n_products"])
        gap = float(values[k - 1] - values[k]) if len(values) > k else math.inf
        # Davis and Kahan: sine of the angle <= residual / distance to the rest of the spectrum.
        sine = residual / gap if gap > 0 else math.inf
        self.values = {
            "eigenvalue": values[:k].numpy(),
            "gap": gap if math.isfinite(gap) else math.nan,
            "angle_error": math.asin(sine) if sine < 1 else math.pi / 2,
            "converged": converged,
            "entropy": float(entropy),
            "entropy_stderr": float(stderr),
            "exact": exact,
            "n_products": n_products,
        }


def _information(sizes: Sequence[Tensor | None], n: int) -> NDArray[np.float64]:
    """Mutual information of all pairs; the matrix is symmetric."""
    out = np.full((n, n), math.nan)
    kept = {i: s for i, s in enumerate(sizes) if s is not None and bool(s.isfinite().all())}  # a zero Hessian: NaN
    single = {i: matrix_entropy(s) for i, s in kept.items()}
    for i, a in kept.items():
        for j, b in kept.items():
            if j <= i:
                out[i, j] = out[j, i] = single[i] + single[j] - matrix_entropy(a * b)
    return out


def _phases(
    entropy: NDArray[np.float64],
    stderr: NDArray[np.float64],
    steps: NDArray[np.int64],
    penalty: float,
    grid: Sequence[float],
    signal: Signal,
) -> dict[str, Any]:
    """Change points of the entropy at every penalty, and its rise after the minimum."""
    change = np.stack([change_points(entropy, penalty=p, signal=signal) for p in grid])
    known = len(entropy) >= FEWEST and bool(np.isfinite(entropy).all())
    least = int(np.argmin(entropy))
    series = np.diff(entropy) if signal == "slope" else entropy
    error = 0.0 if least == len(entropy) - 1 else float(np.hypot(stderr[-1], stderr[least]))
    unknown = bool(np.isnan(entropy).any())
    return {
        "rise_after_minimum": math.nan if unknown else entropy[-1] - entropy[least],
        "rise_after_minimum_stderr": math.nan if unknown else error,
        "minimum_step": math.nan if unknown else float(steps[least]),
        "noise": noise_of_differences(series),
        "change_point": change,
        "n_phases": (change.sum(1) + 1) * known,
        "phase": (change[list(grid).index(penalty)].cumsum() + 1) * known,
    }


def _context(c: Context) -> dict[str, Any]:
    run, objective = c.run, c.objective
    rows = [run.index(s) for s in c.steps]
    mask = run.layout.mask(objective.layout.names)
    out: dict[str, Any] = {"checkpoints": objective.coordinates(run.parameters[rows][:, mask]), "steps": c.steps}
    if objective.size < run.layout.size or run.apart(c.name):  # what does not vary is that of each checkpoint
        each: list[Objective] = [c.at(s) for s in c.steps]
        if isinstance(objective, RescaledObjective):
            each = [RescaledObjective(o, objective.scale) for o in each]
        out["objectives"] = each
    return out


def _cost(settings: Mapping[str, Any], extent: Extent) -> Counts:
    size, points = extent.size, max(1, extent.points)
    how = {name: settings[name] for name in ("exact_up_to", "vectors", "quad")}
    exact, most = dense_or_quadrature(size, **how)
    forwards = (points, points)
    if exact and settings["mutual"] and 8 * size**2 * points <= DENSE_MEMORY // 2:
        pairs = points * (points + 3) // 2  # an entropy of every checkpoint and of every pair
        return Counts(forwards=forwards, dense=points, eigen=5 * points + pairs, matrices=6 + points)
    k = min(settings["k"] + 1, size)
    low, high = lanczos_products(k, "top", size)
    kept = lanczos_vectors(k, "top", size) + points
    if exact:
        products = (points * low, points * high)
        return Counts(forwards=forwards, products=products, dense=points, eigen=points, matrices=6, vectors=kept)
    products = (points * (low + min(most, settings["vectors"])), points * (high + most))
    return Counts(forwards=forwards, products=products, vectors=kept)


PROBE = Probe(
    "evolution",
    3,
    evolution,
    SCHEMA,
    _context,
    context_names=frozenset({"checkpoints", "steps", "objectives"}),
    whole_run=True,
    path=True,
    by_default=False,
    cost=_cost,
)
