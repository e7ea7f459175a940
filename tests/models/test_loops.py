"""Kinds of loops: each against its definition, and what the native kernel does not know."""

import itertools
import shutil

import pytest
import torch
from torch.func import functional_call, grad, jacfwd

from landscape import LandscapeError, Layout, Objective, RunConfig, train
from landscape.curvature.native import NativeHessian, supported
from landscape.loss.strategies import native_obstacle
from landscape.models import GPT, AttentionConfig, AttentionModel, GPTConfig, build_model
from landscape.tasks.base import token_loss
from landscape.training.passes import Passes
from landscape.training.setup import Setup
from landscape.training.trainer import Trainer

TOKENS = torch.tensor([[0, 3, 1, 2], [5, 5, 0, 4], [1, 1, 2, 0]])
KINDS = list(itertools.product(("none", "pre", "post"), (1, "1/T", "learned"), (False, True)))
SHAPES = [(1, 1), (3, 1), (1, 3), (2, 2)]
SMALL = {"n_train": 16, "n_probe": 8, "n_test": 8, "length": 5}


def model(kind=("none", 1, False), *, loops=3, layers=1, attention="softmax"):
    norm, scale, inject = kind
    config = AttentionConfig(
        width=4, loops=loops, layers=layers, attention=attention, norm=norm, scale=scale, inject=inject
    )
    found = build_model(config, vocabulary=6, length=4, seed=0).double()
    if scale == "learned":
        with torch.no_grad():
            found.scale.fill_(0.7)
    return found


def normed(E):
    centred = E - E.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + 1e-5).sqrt()


def by_hand(m, tokens, kind, *, weight=1.0):
    """The definition as the documentation has it."""
    norm, scale, inject = kind
    E0 = m.embedding[tokens] + m.position[: tokens.shape[1]]
    c = 1 / (m.loops * len(m.blocks)) if scale == "1/T" else 1.0
    w = weight * (0.7 if scale == "learned" else 1.0)

    def whole(E):
        for b in m.blocks:
            x = normed(E) if norm == "pre" else E
            E = E + c * (b.weights(E) @ x @ b.W_V.T)
            E = normed(E) if norm == "post" else E
        return E

    h = whole(E0)
    for _ in range(1, m.loops):
        h = (1 - w) * h + w * whole(h + E0 if inject else h)
    return h @ m.head.T


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_forward_is_the_definition(kind, shape):
    m = model(kind, loops=shape[0], layers=shape[1])
    for weight in (1.0, 0.3, 0.0):
        m.weight = weight
        assert torch.allclose(m(TOKENS), by_hand(m, TOKENS, kind, weight=weight), rtol=1e-11, atol=1e-12)


def test_the_scores_of_a_pre_norm_are_those_of_the_normalised_state():
    m = model(("pre", 1, False))
    b, E = m.blocks[0], torch.randn(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores = (normed(E) @ b.W_Q.T) @ (normed(E) @ b.W_K.T).mT / 2
    assert torch.allclose(b.weights(E), scores.masked_fill(~torch.ones(4, 4).tril().bool(), -torch.inf).softmax(-1))
    assert not torch.allclose(b.weights(E), model().blocks[0].weights(E))


@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_the_default_is_the_plain_loop_bit_for_bit(attention):
    m = model(attention=attention)
    E = torch.nn.functional.embedding(TOKENS, m.embedding) + m.position
    for _ in range(3):
        E = E + m.blocks[0].weights(E) @ torch.nn.functional.linear(E, m.blocks[0].W_V)
    assert torch.equal(m(TOKENS), torch.nn.functional.linear(E, m.head))
    assert Layout.of(m).names == ("embedding", "position", "head", *(f"blocks.0.W_{x}" for x in "QKV"))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_without_weight_it_is_the_single_model_to_the_last_bit(kind):
    single, looped = model(kind, loops=1), model(kind)
    looped.weight = 0.0
    if kind[1] == "1/T":  # every pass counts 1/T, the first one too
        looped.blocks[0].share = 1
    assert torch.equal(looped(TOKENS), single(TOKENS))
    if kind[1] == "learned":
        fresh = build_model(looped.config, vocabulary=6, length=4, seed=0).double()
        assert torch.equal(fresh(TOKENS), single(TOKENS))  # it starts at 0
    assert not torch.allclose(model(kind)(TOKENS), single(TOKENS))
    assert Layout.of(single).hash == Layout.of(looped).hash


def test_without_weight_the_practical_model_is_the_single_one():
    config = GPTConfig(width=8, heads=2, loops=3)
    looped = build_model(config, vocabulary=6, length=4, seed=0).double()
    single = build_model(GPTConfig(width=8, heads=2), vocabulary=6, length=4, seed=0).double()
    assert isinstance(looped, GPT)
    looped.weight = 0.0
    assert torch.equal(looped(TOKENS), single(TOKENS))
    E = looped.embed(TOKENS)
    h = looped.first(E)
    for _ in range(2):
        h = h + 0.25 * (looped.norm(looped.blocks(h + E)) - h)
    looped.weight = 0.25
    assert torch.allclose(looped(TOKENS), h @ looped.head.T, rtol=1e-12, atol=1e-13)
    several = looped(TOKENS, torch.tensor([1, 2, 3]))
    assert torch.allclose(several[2], looped(TOKENS)[2], rtol=1e-12)
    assert torch.equal(several[0], single(TOKENS)[0])
    by_itself = looped.adaptive(TOKENS, max_loops=3, threshold=1e-30)
    assert torch.allclose(by_itself.logits, looped(TOKENS), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_states_and_attention_are_those_of_the_forward_pass(kind):
    m = model(kind, loops=3, layers=2)
    states = list(m.states(TOKENS))
    assert len(states) == 3
    assert torch.equal(m.decode(states[-1]), m(TOKENS))
    assert torch.equal(m.step(states[0], m.embed(TOKENS)), states[1])
    E = m.embed(TOKENS)
    inputs = [E, *(h + E if kind[2] else h for h in states[:2])]
    found = m.attention(TOKENS)
    assert found.shape == (6, 3, 4, 4)
    for t, x in enumerate(inputs):
        assert torch.equal(found[2 * t], m.blocks[0].weights(x))


@pytest.mark.parametrize("kind", [("pre", 1, True), ("post", "1/T", False), ("post", "learned", True)], ids=str)
@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_second_derivatives(kind, attention):
    """All strategies against a dense matrix by torch.func; derivatives are checked with differences on the way."""
    m = model(kind, attention=attention)
    m.weight = 0.6
    data = (TOKENS, TOKENS.roll(-1, 1))
    objective = Objective(m, token_loss, data)
    layout, w = Layout.of(m), objective.w0

    def loss(u):
        return token_loss(functional_call(m, layout.unflatten(u), data[0]), data[1]).mean()

    H = jacfwd(grad(loss))(w)
    V = torch.randn(layout.size, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for strategy in ("auto", "cached", "forward"):
        assert torch.allclose(objective.hessian(w, strategy=strategy).mm(V), H @ V, rtol=1e-9, atol=1e-10)
    assert torch.allclose(objective.grad(w), grad(loss)(w), rtol=1e-11, atol=1e-12)


# -- the native kernel ------------------------------------------------------------------------------------------------

BEYOND = [
    ({"norm": "pre"}, 1.0, "norm = pre"),
    ({"norm": "post"}, 1.0, "norm = post"),
    ({"scale": "1/T"}, 1.0, "scale = 1/T"),
    ({"scale": "learned"}, 1.0, "scale = learned"),
    ({"inject": True}, 1.0, "inject = True"),
    ({}, 0.5, "passes that count 0.5"),
]


@pytest.mark.parametrize(("settings", "weight", "reason"), BEYOND)
@pytest.mark.parametrize("loops", [1, 3])
def test_the_native_kernel_says_what_it_does_not_know(settings, weight, reason, loops):
    config = AttentionConfig(width=4, loops=loops, **settings)
    m = AttentionModel(config, vocabulary=6, length=4, generator=torch.Generator().manual_seed(0))
    m.weight = weight
    data, layout = (TOKENS, TOKENS), Layout.of(m)
    found = supported(m, token_loss, data, dtype=torch.float64, device="cpu", layout=layout)
    assert found is not None
    assert reason in found
    with pytest.raises(LandscapeError, match="kernel cannot be used: the kernel knows the loop"):
        NativeHessian(m, data, layout)
    objective = Objective(m, token_loss, data)
    assert reason in native_obstacle(objective.chunks)
    with pytest.raises(LandscapeError, match="the kernel knows the loop"):
        objective.hessian(objective.w0, strategy="native")


@pytest.mark.parametrize("settings", [{"norm": "post"}, {"scale": "1/T"}, {"inject": True}])
def test_no_run_is_trained_by_a_kernel_that_does_not_know_it(settings, tmp_path):
    config = RunConfig.make(arch="looped", task=SMALL, model={"width": 4, **settings}, gradient="native", steps=4)
    with pytest.raises(LandscapeError, match=r'the kernel knows the loop .* found .*gradient="autograd"'):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "run.h5").exists()
    shift = {"mode": "ramp", "criterion": "fixed", "at": 2}
    with pytest.raises(LandscapeError, match=r"'autograd' with the shift\.mode 'ramp', found 'native'"):
        RunConfig.make(arch="shift", shift=shift, gradient="native")


@pytest.mark.skipif(not any(shutil.which(c) for c in ("c++", "g++", "clang++")), reason="no C++ compiler")
@pytest.mark.parametrize("mode", ["staged", "sample"])
def test_the_native_kernel_trains_numbers_of_loops_that_change(mode):
    shift = {"mode": mode, "criterion": "fixed", "at": 2, "stage_steps": 3, "sample_steps": 6}
    settings = {"task": SMALL, "model": {"width": 4}, "batch": 8, "steps": 20, "dtype": "float64", "shift": shift}
    found, expected = (Trainer(RunConfig.make(arch="shift", **settings, gradient=g)) for g in ("native", "autograd"))
    for trainer in (found, expected):
        trainer.advance(12)
    assert torch.allclose(found.state().w, expected.state().w, rtol=1e-9, atol=1e-11)
    assert found.flops == expected.flops


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "batch"}, "model.norm to be one of 'none', 'pre', 'post', found 'batch'"),
        ({"scale": 2}, "model.scale to be one of 1, '1/T', 'learned', found 2"),
        ({"scale": "1"}, "model.scale to be one of 1"),
        ({"inject": 1}, "model.inject to be bool, found 1"),
    ],
)
def test_wrong_settings_are_explained(settings, message):
    with pytest.raises(LandscapeError, match=message):
        RunConfig.make(arch="looped", model=settings)
    with pytest.raises(ValueError, match=r"model\.scale"):
        AttentionConfig(scale=True)


def test_stacked_has_no_later_passes_to_weigh():
    with pytest.raises(LandscapeError, match="found 'stacked', which has one pass"):
        RunConfig.make(arch="stacked", model={"scale": "learned"})
    stacked = model(("none", "1/T", False), loops=1, layers=3)
    assert stacked.blocks[0].share == pytest.approx(1 / 3)  # as in looped: T layers, one after the other


def test_a_config_without_the_new_settings_is_the_plain_loop():
    config = RunConfig.make(arch="shift", model={"width": 4})
    values = config.to_dict()
    for name in ("norm", "scale", "inject"):
        del values["model"][name]
    for name in ("mode", "ramp_steps", "stage_steps", "sample_steps"):
        del values["shift"][name]
    assert RunConfig.from_dict(values) == config


def test_models_of_a_ramp_are_objects_of_their_own():
    setup = Setup(RunConfig.make(arch="looped", task=SMALL, model={"width": 4}))
    whole, half = setup.module(3), setup.module(Passes(3, 0.5))
    assert (whole.weight, half.weight) == (1.0, 0.5)
    assert setup.module(Passes(3)) is whole
    x = setup.task.split("probe").inputs
    assert not torch.allclose(whole(x), half(x))
    w = setup.w0
    expected = token_loss(half(x), setup.task.split("probe").targets).mean().detach()
    assert float(setup.objective("probe", loops=Passes(3, 0.5)).loss(w)) == pytest.approx(float(expected), rel=1e-6)
