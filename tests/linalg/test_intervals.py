"""95 % intervals of spectral statistics: how often they cover, and what they know exactly."""

import math

import numpy as np
import pytest
import torch
from support import oracles_linalg as known

from landscape import Symmetric
from landscape.probes.linalg import hutchpp, lanczos_quadrature
from landscape.probes.linalg.spectra.atoms import Atoms
from landscape.probes.linalg.spectra.entropy import shape_statistics, window_sums
from landscape.probes.linalg.spectra.statistics import spectral_statistics
from landscape.probes.linalg.trace.intervals import SIGMAS, deviations

GRID = {"thresholds": (1e-3, 0.05, 5.0), "uppers": (0.2, 1e3)}
RNG = np.random.default_rng(0)
SPECTRA = {
    "one huge": np.r_[1000.0, RNG.normal(size=60)],
    "few huge, many zeros": np.r_[1000.0, 300.0, 200.0, -50.0, 0.05 * RNG.normal(size=30), np.zeros(30)],
    "equal ones": np.r_[np.full(3, 100.0), -7.0, 0.3 * RNG.chisquare(2, size=50)],
    "slow decay": np.r_[30.0 / np.arange(1, 21), 0.05 * RNG.normal(size=40)],
}


def statistics(atoms, rules=None):
    """All that has an interval."""
    found = {**shape_statistics(atoms), **window_sums(atoms, (1e-3, 0.31), (0.2, 1e4))}
    if rules is not None:
        found |= {f"{k} of density": v for k, v in spectral_statistics(rules, **GRID).items()}
    return found


def truth(lam):
    """The same from all eigenvalues, by the exact rules of all unit vectors."""
    op, n = Symmetric.from_dense(torch.diag(torch.as_tensor(lam))), len(lam)
    rules = lanczos_quadrature(op, n_vectors=n, n_steps=2, seed=0, start=torch.eye(n, dtype=torch.float64))
    found = statistics(Atoms.of_values(torch.as_tensor(lam)))
    found |= {f"{k} of density": v for k, v in spectral_statistics(rules, **GRID, exact=True).items()}
    return {k: v.value for k, v in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n"), [*((name, n) for name in SPECTRA for n in (2, 5)), ("one huge", 10), ("equal ones", 3)]
)
def test_intervals_cover(name, n):
    lam = SPECTRA[name]
    op = Symmetric.from_dense(known.with_spectrum(lam, seed=1).dense())
    exact, hits, width = truth(lam), {}, []
    for seed in range(120):
        distribution = ("rademacher", "gaussian")[seed % 2]
        rules = lanczos_quadrature(op, n_vectors=n, n_steps=14, seed=seed, distribution=distribution)
        found = statistics(Atoms.of_quadrature(rules), rules)
        found["Hutch++"] = hutchpp(op, n_products=3 * n, seed=seed)
        for k, e in found.items():
            right = torch.as_tensor(exact["trace" if k == "Hutch++" else k])
            slack = 1e-12 * right.abs()
            inside = (torch.as_tensor(e.low) <= right + slack) & (right - slack <= torch.as_tensor(e.high))
            hits[k] = hits.get(k, 0) + (inside | right.isnan()).int()
        width.append(float(found["trace"].high - found["trace"].low))
    for k, hit in hits.items():
        assert int(hit.min()) >= 107, (k, hit)  # 95 % of 120 less 2.6 binomial standard deviations
    # With the outliers left in, two standard errors of the trace are 2 sqrt(2 / n) |lam|.
    if name != "slow decay":
        assert np.median(width) < (0.5 if n > 3 or "equal" not in name else 8) * math.sqrt(8 / n) * np.linalg.norm(lam)


def test_eigenvalues_that_all_vectors_have_found_are_counted_exactly():
    lam = np.r_[50.0, 20.0, 20.0, -9.0, 0.1 * np.random.default_rng(0).normal(size=90)]
    op = known.with_spectrum(lam, seed=3)
    q = lanczos_quadrature(op, n_vectors=4, n_steps=12, seed=0)
    for row in range(4):
        sure = q.known[row]
        assert q.node[row, sure].round(decimals=6).tolist() == [-9.0, 20.0, 50.0]
        assert q.count[row, sure].tolist() == [1.0, 2.0, 1.0]
        assert float(q.count[row].sum()) == pytest.approx(94)
    # Two vectors cannot tell whether an eigenvalue that each has found once is there twice or more often.
    q = lanczos_quadrature(op, n_vectors=2, n_steps=12, seed=0)
    assert q.node[0, q.known[0]].round(decimals=6).tolist() == [-9.0, 50.0]
    assert not lanczos_quadrature(op, n_vectors=1, n_steps=12, seed=0).known.any()


def test_what_is_found_completely_has_an_interval_of_rounding():
    lam = np.linspace(-1.0, 2.0, 20)
    q = lanczos_quadrature(known.with_spectrum(lam, seed=0), n_vectors=2, n_steps=30, seed=0)
    assert bool(q.known.sum(1).eq(20).all())
    for name, e in statistics(Atoms.of_quadrature(q), q).items():
        right = truth(lam)[name]
        torch.testing.assert_close(e.value, right, rtol=1e-9, atol=1e-9, equal_nan=True)
        known_value = ~right.isnan()
        assert bool(((e.low - 1e-12 <= right) & (right <= e.high + 1e-12))[known_value].all()), name
        assert float((e.high - e.low)[known_value].max()) < 1e-8, name


def test_an_eigenvalue_at_the_threshold_may_lie_on_either_side():
    lam = np.r_[7.0, 5.0, np.linspace(-0.1, 0.1, 18)]
    q = lanczos_quadrature(known.with_spectrum(lam, seed=0), n_vectors=3, n_steps=25, seed=0)
    count = spectral_statistics(q, thresholds=(5.0, 6.0))["count_above"]
    assert count.low.tolist() == pytest.approx([1.0, 1.0])
    assert count.high.tolist() == pytest.approx([2.0, 1.0])


def test_vectors_that_miss_a_part_of_the_space_bound_nothing():
    """Signs are eigenvectors of [[2, 1], [1, 2]]; where both draws are the same one, the other is unseen."""
    op = Symmetric.from_dense(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64))
    for seed in range(20):
        q = lanczos_quadrature(op, n_vectors=2, n_steps=2, seed=seed)
        trace = spectral_statistics(q)["trace"]
        assert float(trace.low) <= 4 <= float(trace.high)
        assert math.isinf(trace.high) == q.blind == (float(q.node[0, 0]) == pytest.approx(float(q.node[1, 0])))


def test_counts_in_a_dense_band_know_what_a_node_may_hide():
    """Nodes hardly move between vectors: the spread over these says nothing of eigenvalues between nodes."""
    lam = np.linspace(-1.0, 1.0, 3000)
    op = Symmetric.from_dense(torch.diag(torch.as_tensor(lam)))
    thresholds = np.linspace(0.05, 0.9, 40)
    q = lanczos_quadrature(op, n_vectors=3, n_steps=12, seed=0)
    count = spectral_statistics(q, thresholds=thresholds)["count_above"]
    right = torch.tensor([(lam > t).sum() for t in thresholds])
    assert bool(((count.low <= right) & (right <= count.high)).all())
    assert float((count.value - right).abs().max()) > 10 * float(count.stderr.max())
    assert float((count.high - count.low).max()) < 2.2 * 3000 / 12 * math.pi / 2


def test_deviations_of_one_eigenvalue_are_those_of_chi_squared():
    """The ends of the interval solve (S - found)^2 = z^2 2 S / n, whatever the count found."""
    for found in (0.1, 1.0, 4.0):
        counts = torch.tensor([found, 1e9], dtype=torch.float64)
        up, down = deviations(torch.tensor([1.0, 0.0], dtype=torch.float64), counts, 2)
        for end in (found + float(up.far), found - float(down.far)):
            assert (end - found) ** 2 == pytest.approx(SIGMAS**2 * end, rel=1e-6)
        assert float(up.counts[0]) == pytest.approx(found + float(up.far), rel=1e-6)
        assert float(up.counts.sum()) == pytest.approx(float(counts.sum()))
