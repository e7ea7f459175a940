"""What optimisers make of a gradient, held against PyTorch's own; and the edge of stability against the iteration."""

import math

import numpy as np
import pytest
import torch

from landscape.training.optimizers import SGD, AdamW, GradientDescent
from landscape.training.updates import AdamRule, SGDRule, rule_of

SGDS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.5, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.8, "weight_decay": 0.1},
    {"weight_decay": 0.1},
]
ADAMS = [{}, {"weight_decay": 0.1}, {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3}]


def vectors(n, size=61, seed=0):
    return list(torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def torchs(kind, names, **settings):
    """PyTorch's optimiser after some updates, and what it does next."""
    w, *gradients = vectors(5)
    w = w.clone().requires_grad_(True)
    optimizer = kind([w], lr=0.01, **settings)
    for g in gradients[:-1]:
        w.grad = g
        before = w.detach().clone()
        state = optimizer.state.get(w, {})
        kept = [state[k].detach().clone() for k in names if k in state and state[k] is not None]
        yield before, g, torch.stack(kept) if kept else torch.full((len(names), len(w)), math.nan).double()
        optimizer.step()
        yield (w.detach() - before) / 0.01


def pairs(*args, **settings):
    found = torchs(*args, **settings)
    yield from zip(found, found, strict=True)


@pytest.mark.parametrize("given", SGDS)
def test_sgd_is_that_of_torch_from_the_first_update_on(given):
    for age, ((w, g, state), own) in enumerate(pairs(torch.optim.SGD, ("momentum_buffer",), **given)):
        torch.testing.assert_close(SGDRule(**given).update(w, g, state, age=age), own, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("given", ADAMS)
def test_adam_is_that_of_torch_from_the_first_update_on(given, decoupled):
    rule = AdamRule(decoupled=decoupled, **given)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    settings = {"betas": (rule.beta1, rule.beta2), "eps": rule.eps, "weight_decay": rule.weight_decay}
    for age, ((w, g, state), own) in enumerate(pairs(kind, ("exp_avg", "exp_avg_sq"), **settings)):
        torch.testing.assert_close(rule.update(w, g, state, age=age), own, rtol=1e-9, atol=1e-9)


def test_a_parameter_without_updates_is_at_its_first_one():
    w, g, m = vectors(3)
    state = torch.stack([m, m**2])
    state[:, :7] = math.nan
    u = AdamRule().update(w, g, state, age=100)
    torch.testing.assert_close(u[:7], -g[:7].sign(), rtol=1e-6, atol=1e-6)
    assert bool(u.isfinite().all())


def test_configs_have_their_rules():
    assert rule_of(AdamW(lr=1.0, beta1=0.8, weight_decay=0.2)) == AdamRule(beta1=0.8, weight_decay=0.2)
    assert rule_of(SGD(momentum=0.3, weight_decay=0.1)) == SGDRule(momentum=0.3, weight_decay=0.1)
    assert rule_of(GradientDescent()) == SGDRule()


def iterated(rule, lam, lr, n=3000):
    """|w| after n updates on lam w^2 / 2 with a preconditioner of 1, started at rest."""
    one = torch.ones(1, dtype=torch.float64)
    w, state = one.clone(), torch.zeros(1, 1, dtype=torch.float64)
    if isinstance(rule, AdamRule):  # the mean of squares held at 1: only then is there an edge
        b, decay = rule.beta1, rule.weight_decay
        for _ in range(n):
            state = b * state + (1 - b) * lam * w
            w = (1 - lr * decay) * w - lr * state[0]
        return float(w.abs())
    for _ in range(n):
        g = lam * w + rule.weight_decay * w
        u = rule.update(w, lam * w, state, age=1)
        state = (rule.momentum * state[0] + (1 - rule.dampening) * g)[None]
        w = w + lr * u
    return float(w.abs())


@pytest.mark.parametrize("lr", [0.1, 0.013])
@pytest.mark.parametrize(
    "rule", [*(SGDRule(**s) for s in SGDS), *(AdamRule(**s) for s in ADAMS), AdamRule(weight_decay=2.0)], ids=repr
)
def test_the_edge_is_where_the_iteration_begins_to_diverge(rule, lr):
    edge = rule.edge(lr)
    assert iterated(rule, 0.99 * edge, lr) < 1e-2
    assert iterated(rule, 1.01 * edge, lr) > 1e2


def test_known_edges():
    assert SGDRule().edge(0.1) == pytest.approx(20)
    assert SGDRule(momentum=0.9).edge(0.1) == pytest.approx(38)
    assert SGDRule(momentum=0.9, nesterov=True).edge(0.1) == pytest.approx(2 / 0.1 * 1.9 / 2.8)
    assert AdamRule().edge(1e-3) == pytest.approx(38e3)
    assert AdamRule().edge(0.0) == math.inf
    assert np.isnan(AdamRule().edge(math.nan))
    assert np.isnan(AdamRule(weight_decay=0.1, decoupled=False).edge(0.1))
