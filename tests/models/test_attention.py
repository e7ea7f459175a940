import math

import pytest
import torch

from landscape import Layout
from landscape.models import ARCHITECTURES, AttentionConfig, build_model

TOKENS = torch.tensor([[0, 3, 1, 2], [5, 5, 0, 4]])


def model(arch="single", seed=0, **settings):
    config = AttentionConfig(width=4, **ARCHITECTURES[arch](3), **settings)
    return build_model(config, vocabulary=6, length=4, seed=seed).double()


def by_hand(m, tokens, loops, kind):
    """The definition, one position at a time."""
    out = []
    for row in tokens:
        E = torch.stack([m.embedding[t] + m.position[i] for i, t in enumerate(row)])
        for _ in range(loops):
            for b in m.blocks:
                new = E.clone()
                for i in range(len(row)):
                    s = torch.stack([(b.W_Q @ E[i]) @ (b.W_K @ E[j]) / math.sqrt(4) for j in range(i + 1)])
                    a = s.softmax(0) if kind == "softmax" else s / (i + 1)
                    new[i] = E[i] + sum(a[j] * (b.W_V @ E[j]) for j in range(i + 1))
                E = new
        out.append(E @ m.head.T)
    return torch.stack(out)


@pytest.mark.parametrize("kind", ["softmax", "linear"])
@pytest.mark.parametrize(("arch", "loops"), [("single", 1), ("looped", 3), ("stacked", 1)])
def test_forward_is_the_definition(arch, loops, kind):
    m = model(arch, attention=kind)
    assert torch.allclose(m(TOKENS), by_hand(m, TOKENS, loops, kind), rtol=1e-12, atol=1e-12)


def test_single_and_looped_share_one_parameter_vector_and_stacked_does_not():
    single, looped, stacked = (Layout.of(model(a)) for a in ARCHITECTURES)
    assert single.hash == looped.hash != stacked.hash
    assert stacked.size == single.size + 2 * 3 * 16


def test_stacked_with_equal_layers_is_looped():
    looped, stacked = model("looped"), model("stacked")
    shared = dict(looped.named_parameters())
    with torch.no_grad():
        for name, p in stacked.named_parameters():
            p.copy_(shared[name.replace("blocks.1", "blocks.0").replace("blocks.2", "blocks.0")])
    assert torch.allclose(looped(TOKENS), stacked(TOKENS), rtol=1e-12)


@pytest.mark.parametrize("kind", ["softmax", "linear"])
def test_no_position_sees_the_future(kind):
    m = model("looped", attention=kind)
    changed = TOKENS.clone()
    changed[:, 3] = 1
    assert torch.equal(m(TOKENS)[:, :3], m(changed)[:, :3])
    assert not torch.equal(m(TOKENS)[:, 3], m(changed)[:, 3])


def test_weights_depend_on_the_seed_alone():
    state = torch.random.get_rng_state()
    a, b, c = model(), model(), model(seed=1)
    assert torch.equal(a.head, b.head)
    assert not torch.equal(a.head, c.head)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_wrong_settings_are_explained():
    with pytest.raises(ValueError, match="'softmax' or 'linear', found 'cosine'"):
        AttentionConfig(attention="cosine")
    with pytest.raises(ValueError, match=r"model\.loops >= 1"):
        AttentionConfig(loops=0)
    with pytest.raises(ValueError, match="at most 4 tokens"):
        model()(torch.zeros(1, 5, dtype=torch.int64))
