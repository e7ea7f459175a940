"""Weighted samples: closed forms, torch's own weighted losses, and what a sample counted twice is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles import function_objective, relative
from torch import nn

from landscape import LandscapeError, Objective
from landscape.loss.metric import RescaledObjective
from landscape.probes import alignment, density, samples, spectrum, surface, valley
from landscape.tasks import MarkovConfig, MarkovTask

N = 61


def squared(y, t):
    return ((y - t) ** 2).sum(1)


def points(n=N):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, generator=g, dtype=torch.float64), torch.randn(n, 2, generator=g, dtype=torch.float64)


def counts(n=N):
    return torch.randint(0, 4, (n,), generator=torch.Generator().manual_seed(1))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def weighted_and_repeated(**kw):
    """The same loss twice: samples with whole weights, and every sample so often in the data."""
    X, Y = points()
    c = counts()
    model = network()
    repeated = Objective(model, squared, (X.repeat_interleave(c, 0), Y.repeat_interleave(c, 0)), **kw)
    return Objective(model, squared, (X, Y), weights=c, **kw), repeated


@pytest.mark.parametrize("chunk", [None, 1, 8, 60, 61])
def test_hessian_of_weighted_least_squares(chunk):
    X, Y = points()
    c = torch.rand(N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    objective = Objective(nn.Linear(3, 2, bias=False), squared, (X, Y), weights=c, chunk=chunk)
    H = torch.block_diag(*[2 * X.T @ (c[:, None] * X) / c.sum()] * 2)
    w = objective.w0 + 1
    assert relative(objective.hessian(w).dense(), H) < 1e-13
    assert relative(objective.ggn(w).dense(), H) < 1e-13
    assert float(objective.loss(w)) == pytest.approx(float((c * objective.per_sample(w)).sum() / c.sum()), rel=1e-13)


@pytest.mark.parametrize("chunk", [None, 8])
@pytest.mark.parametrize("strategy", ["auto", "cached", "forward", "difference"])
def test_a_weight_of_three_is_three_samples(chunk, strategy):
    a, b = weighted_and_repeated(chunk=chunk)
    w = a.w0 + 0.1
    v = torch.cos(torch.arange(a.size, dtype=torch.float64))
    assert float(a.loss(w)) == pytest.approx(float(b.loss(w)), rel=1e-13)
    assert torch.allclose(a.grad(w), b.grad(w), rtol=1e-11, atol=1e-15)
    tolerance = 1e-6 if strategy == "difference" else 1e-11
    assert relative(a.hessian(w, strategy=strategy).mv(v), b.hessian(w, strategy=strategy).mv(v)) < tolerance
    scale = torch.linspace(0.5, 2.0, a.size, dtype=torch.float64)
    x, y = (RescaledObjective(o, scale) for o in (a, b))
    assert relative(x.hessian(x.w0).mv(v), y.hessian(y.w0).mv(v)) < 1e-11


@pytest.mark.slow
def test_compiled_products_know_the_weights():
    a, b = weighted_and_repeated(chunk=8)
    v = torch.cos(torch.arange(a.size, dtype=torch.float64))
    assert relative(a.hessian(a.w0, strategy="compiled").mv(v), b.hessian(b.w0, strategy="cached").mv(v)) < 1e-11
    assert relative(a.ggn(a.w0, strategy="compiled").mv(v), b.ggn(b.w0).mv(v)) < 1e-11


def test_probes_know_the_weights_and_say_so():
    a, b = weighted_and_repeated()
    w = a.w0
    for ask in (
        lambda o: spectrum(o, w, seed=0, k=3).eigenvalue,
        lambda o: density(o, w, seed=0, vectors=2, quad=4).trace,
        lambda o: valley(o, w, seed=0, top=1, bottom=0, random=1).half_width,
        lambda o: surface(o, w, seed=0, directions="random", points=3).loss,
    ):
        np.testing.assert_allclose(ask(a), ask(b), rtol=1e-6)
    c = counts().double()
    effective = float(c.sum() ** 2 / (c**2).sum())
    assert spectrum(a, w, seed=0, k=1).attrs["weights"] == f"of 61 samples, as good as {effective:.6g} of equal weight"
    assert "weights" not in spectrum(b, w, seed=0, k=1).attrs
    np.testing.assert_array_equal(samples(a, w).weight, c)
    assert "weight" not in samples(b, w)


def test_alignment_weighs_its_blocks():
    X, Y = points()
    c = counts().double() + 0.5
    models = [Objective(network(), lambda y, t, f=f: f * squared(y, t) ** f, (X, Y), weights=c) for f in (1, 2)]
    ds = alignment(models[0], models[0].w0, variant=lambda loops: models[loops > 1], groups=("all:*",))
    g = [m.grad(m.w0) for m in models]
    assert ds.cosine.item() == pytest.approx(float(F.cosine_similarity(g[0], g[1], dim=0)), rel=1e-12)
    assert ds.norm_single.item() == pytest.approx(float(g[0].norm()), rel=1e-12)


def test_class_weights_are_those_of_torch():
    X, _ = points()
    t = torch.arange(N) % 3
    per_class = torch.tensor([1.0, 0.2, 5.0], dtype=torch.float64)
    model = nn.Linear(3, 3).double()
    objective = Objective(
        model, lambda z, t: F.cross_entropy(z, t, reduction="none"), (X, t), weights=per_class[t], chunk=8
    )
    expected = F.cross_entropy(model(X), t, weight=per_class)
    expected.backward()
    assert float(objective.loss(objective.w0)) == pytest.approx(float(expected.detach()), rel=1e-13)
    assert relative(objective.grad(objective.w0), torch.cat([p.grad.reshape(-1) for p in model.parameters()])) < 1e-12


def test_token_mean_of_padded_sequences():
    """Rows of 1 to 6 scored tokens: weighed by their numbers, the mean is that over all tokens."""
    logits = torch.randn(7, 6, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    targets = torch.randint(5, (7, 6), generator=torch.Generator().manual_seed(5))
    lengths = torch.tensor([1, 2, 3, 4, 5, 6, 6])
    targets[torch.arange(6) >= lengths[:, None]] = -100

    def row_mean(z, t):
        return F.cross_entropy(z.mT, t, ignore_index=-100, reduction="none").sum(1) / (t != -100).sum(1)

    objective = Objective(nn.Linear(5, 5).double(), row_mean, (logits, targets), weights=lengths, chunk=3)
    z = torch.func.functional_call(objective.chunks.module, objective.layout.unflatten(objective.w0), (logits,))
    expected = F.cross_entropy(z.reshape(-1, 5), targets.reshape(-1), ignore_index=-100)
    assert float(objective.loss(objective.w0)) == pytest.approx(float(expected), rel=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5), st.sampled_from([1e-8, 1.0, 1e8]))
def test_only_ratios_of_weights_matter(weights, scale):
    def losses(w):
        return (torch.arange(1, 6, dtype=torch.float64)[: len(w), None] * w**2).sum(1)

    made = [
        function_objective(losses, torch.ones(2, dtype=torch.float64), n=5, weights=np.array(weights) * s)
        for s in (1.0, scale)
    ]
    a, b = (o.hessian(o.w0).dense() for o in made)
    assert torch.allclose(a, b, rtol=1e-12)
    mean = np.average(np.arange(1, 6), weights=weights)
    assert float(a[0, 0]) == pytest.approx(2 * mean, rel=1e-12)


@pytest.mark.parametrize("weights", [counts() + 1, torch.arange(N) == N - 2])
def test_derivatives_of_weighted_losses_are_checked_where_there_is_weight(weights):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return 2 * g

    class Model(nn.Linear):
        def forward(self, x):
            return Wrong.apply(super().forward(x))

    X, Y = points()
    objective = Objective(Model(3, 2).double(), squared, (X, Y), weights=weights)
    with pytest.raises(LandscapeError, match="not the derivative of the loss"):
        objective.grad(objective.w0)


def test_the_native_kernel_knows_no_weights():
    from landscape.models import AttentionConfig, build_model

    task = MarkovTask(MarkovConfig(n_train=9, n_probe=9, n_test=2, length=5, alphabet=3))
    model = build_model(AttentionConfig(width=3), vocabulary=task.vocabulary, length=5, seed=0)
    part = task.split("probe")
    data = (part.inputs, part.targets)
    plain, ones = (Objective(model, task.per_sample_loss, data, weights=c) for c in (None, torch.ones(9)))
    assert ones.hessian(ones.w0).strategy == "cached"
    assert relative(ones.hessian(ones.w0).dense(), plain.hessian(plain.w0).dense()) < 1e-12
    with pytest.raises(LandscapeError, match="equal weight only"):
        ones.hessian(ones.w0, strategy="native")
    assert ones.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(60), r"one weight a sample, \(61,\), found \(60,\)"),
        (torch.ones(61, 1), r"found \(61, 1\)"),
        (-torch.ones(61), "finite weights >= 0"),
        (torch.full((61,), torch.nan), "finite weights >= 0"),
        (torch.zeros(61), "at least one above 0"),
        ("heavy", "one number a sample"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(LandscapeError, match=message):
        Objective(nn.Linear(3, 2), squared, points(), weights=weights)
