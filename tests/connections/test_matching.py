"""Units that change places: what a model computes stays the same, and the order is found again."""

import dataclasses
from itertools import permutations, product

import numpy as np
import pytest
import torch
from torch.func import functional_call

from landscape import LandscapeError, Layout
from landscape.connections.matching import match_units, order_of
from landscape.models import AttentionConfig, GPTConfig, RegressorConfig, build_model
from landscape.models.symmetry import SYMMETRIES, Piece, Symmetry, Units

CONFIGS = {
    "single": AttentionConfig(width=6),
    "looped": AttentionConfig(width=6, loops=3, norm="pre", scale="learned", inject=True),
    "linear": AttentionConfig(width=6, attention="linear", loops=2, norm="post", scale="1/T"),
    "stacked": AttentionConfig(width=6, layers=3),
    "gpt": GPTConfig(width=12, heads=3, loops=2, layers=2, positions=True, mlp_ratio=2),
    "no positions": GPTConfig(width=12, heads=1, mlp_ratio=1),
    "regressor": RegressorConfig(width=12, heads=3, loops=3, layers=2, window=2, mlp_ratio=2),
}


def made(name):
    """Model, layout, symmetry, a vector without zeros (biases begin there), inputs."""
    config = CONFIGS[name]
    model = build_model(config, vocabulary=7, length=5, seed=0).double()
    layout = Layout.of(model)
    g = torch.Generator().manual_seed(1)
    w = 0.4 * torch.randn(layout.size, generator=g, dtype=torch.float64)
    tokens = torch.randint(7, (4, 5), generator=g)
    inputs = torch.randn(4, 5, 7, generator=g, dtype=torch.float64) if config.name == "regressor" else tokens
    return model, layout, SYMMETRIES[config.name](config), w, inputs


def outputs(model, layout, w, inputs):
    with torch.no_grad():
        return functional_call(model, layout.unflatten(w), (inputs,))


def drawn(symmetry, seed=0):
    """Any allowed places: heads as wholes, units within each head for every label by themselves."""
    rng = np.random.default_rng(seed)
    places = {}
    for u in symmetry.units:
        heads, size = rng.permutation(u.heads), u.size // u.heads
        for label in u.labels:
            places[label] = np.concatenate([size * h + rng.permutation(size) for h in heads])
    return places


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_model_computes_stays_the_same(name):
    model, layout, symmetry, w, inputs = made(name)
    order = order_of(symmetry, layout, drawn(symmetry))
    assert sorted(order.tolist()) == list(range(layout.size))
    assert (order != torch.arange(layout.size)).double().mean() > 0.5
    before = outputs(model, layout, w, inputs)
    np.testing.assert_allclose(
        outputs(model, layout, w[order], inputs), before, rtol=0, atol=1e-12 * before.abs().max()
    )


@pytest.mark.parametrize("name", ["looped", "gpt", "regressor"])
def test_every_piece_is_needed(name):
    """Without any one of them a model would compute something else: nothing is listed twice or for nothing."""
    model, layout, symmetry, w, inputs = made(name)
    before, places = outputs(model, layout, w, inputs), drawn(symmetry)
    for i in range(len(symmetry.pieces)):
        less = dataclasses.replace(symmetry, pieces=symmetry.pieces[:i] + symmetry.pieces[i + 1 :])
        after = outputs(model, layout, w[order_of(less, layout, places)], inputs)
        # A bias of the keys adds the same to all scores of a query: no order of it can be seen.
        unseen = symmetry.pieces[i].parameter.endswith("qkv.bias") and symmetry.pieces[i].start == CONFIGS[name].width
        assert ((after - before).abs().max() > 1e-6) != unseen, symmetry.pieces[i]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_order_of_a_model_whose_units_were_mixed_is_found_again(name):
    _, layout, symmetry, w, _ = made(name)
    mixed = w[order_of(symmetry, layout, drawn(symmetry))]
    noise = torch.randn(layout.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = match_units(symmetry, layout, w, mixed + 1e-3 * noise, seed=0)
    assert found.distance < 2e-3 * layout.size**0.5
    assert found.converged
    assert found.moved > 0.5
    assert match_units(symmetry, layout, w, mixed, seed=0).distance == 0
    again = match_units(symmetry, layout, w, w, seed=0)
    assert again.moved == 0
    assert torch.equal(again.order, torch.arange(layout.size))


@pytest.mark.parametrize("name", ["single", "gpt"])
def test_strangers_come_nearer_and_the_seed_decides(name):
    _, layout, symmetry, w, _ = made(name)
    other = torch.randn(layout.size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = match_units(symmetry, layout, w, other, seed=0)
    assert found.distance < 0.99 * float((other - w).norm())
    assert found.distance == pytest.approx(float((other[found.order] - w).norm()))
    same = match_units(symmetry, layout, w, other, seed=0)
    assert torch.equal(same.order, found.order)
    assert match_units(symmetry, layout, w, other, seed=0, restarts=1).distance >= found.distance


@pytest.mark.parametrize("seed", range(4))
def test_heads_are_matched_as_well_as_trying_all_orders(seed):
    """Three heads of two units with two labels: 3! x (2!)^6 orders, of which the best is taken."""
    symmetry = Symmetry(
        (Units(("s", "v"), 6, heads=3),), (Piece("q", ("s", None)), Piece("o", (None, "v")), Piece("b", ("v",)))
    )
    layout = Layout(("q", "o", "b"), ((6, 2), (3, 6), (6,)), (None,) * 3)
    a, b = torch.randn(2, layout.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    best = np.inf
    for heads, *inner in product(permutations(range(3)), *[list(permutations(range(2)))] * 6):
        places = {
            label: np.concatenate([2 * h + np.array(inner[3 * k + i]) for i, h in enumerate(heads)])
            for k, label in enumerate("sv")
        }
        best = min(best, float((b[order_of(symmetry, layout, places)] - a).norm()))
    assert match_units(symmetry, layout, a, b, seed=0, restarts=1).distance == pytest.approx(best, abs=1e-12)


def test_units_of_another_model_and_no_start_are_refused():
    _, layout, symmetry, w, _ = made("single")
    with pytest.raises(LandscapeError, match="of another model"):
        match_units(SYMMETRIES["gpt"](GPTConfig(width=8)), layout, w, w, seed=0)
    with pytest.raises(LandscapeError, match="restarts >= 1"):
        match_units(symmetry, layout, w, w, seed=0, restarts=0)
