"""The practical model: the definition by hand, loops per sequence, stopping by itself, and probes on it."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from landscape import LandscapeError, Layout, Objective, RunConfig, sweep, train
from landscape.models import ARCHITECTURES, GPTConfig, build_model
from landscape.tasks import MarkovTask
from landscape.training.setup import Setup
from landscape.training.trainer import Trainer

TOKENS = torch.tensor([[0, 3, 1, 2, 4], [5, 5, 0, 4, 1], [2, 2, 2, 0, 3]])
DATA = {"n_train": 61, "n_probe": 21, "n_test": 20, "length": 6}


def model(arch="single", seed=0, loops=3, layers=2, scale=10.0, **settings):
    """Weights ten times their initial size, so that loops matter."""
    config = GPTConfig(**{"width": 8, "heads": 2, **ARCHITECTURES[arch](loops, layers), **settings})
    m = build_model(config, vocabulary=6, length=5, seed=seed).double()
    with torch.no_grad():
        for p in m.parameters():
            p.mul_(scale if p.ndim > 1 else 1.0).add_(0.05 if p.ndim == 1 else 0.0)
    return m


def layer_norm(x, norm):
    return (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt() * norm.weight + norm.bias


def by_hand(m, tokens, loops, heads=2):
    """The definition, one sequence, position and head at a time; (n, d) after every loop."""
    E = [m.embedding[t] + (m.position[i] if m.length is not None else 0) for i, t in enumerate(tokens)]
    h, d = [torch.zeros(8, dtype=torch.float64)] * len(tokens), 8 // heads
    for _ in range(loops):
        x = [a + b for a, b in zip(h, E, strict=True)]
        for b in m.blocks:
            z = [b.qkv.weight @ layer_norm(v, b.norm_1) + b.qkv.bias for v in x]
            out = []
            for i in range(len(x)):
                mixed = []
                for k in range(heads):
                    q, keys, values = (slice(8 * j + d * k, 8 * j + d * (k + 1)) for j in range(3))
                    s = torch.stack([z[i][q] @ z[j][keys] / math.sqrt(d) for j in range(i + 1)]).softmax(0)
                    mixed.append(sum(s[j] * z[j][values] for j in range(i + 1)))
                y = x[i] + b.out.weight @ torch.cat(mixed) + b.out.bias
                inner = b.up.weight @ layer_norm(y, b.norm_2) + b.up.bias
                gelu = 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2)))
                out.append(y + b.down.weight @ gelu + b.down.bias)
            x = out
        h = [layer_norm(v, m.norm) for v in x]
    return torch.stack(h) @ m.head.T


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize(("arch", "loops"), [("single", 1), ("looped", 3), ("stacked", 1)])
def test_forward_is_the_definition(arch, loops, positions):
    m = model(arch, positions=positions)
    expected = torch.stack([by_hand(m, row, loops) for row in TOKENS])
    assert torch.allclose(m(TOKENS), expected, rtol=1e-10, atol=1e-10)


def test_architectures_from_one_config():
    shapes = {a: ARCHITECTURES[a](3, 2) for a in ARCHITECTURES}
    assert shapes == {
        "single": {"loops": 1, "layers": 2},
        "looped": {"loops": 3, "layers": 2},
        "stacked": {"loops": 1, "layers": 6},
    }
    single, looped, stacked = (Layout.of(model(a)) for a in ARCHITECTURES)
    assert single.hash == looped.hash != stacked.hash
    for arch, shape in shapes.items():
        config = RunConfig.make(arch=arch, loops=3, layers=2, model={"name": "gpt", "width": 8})
        assert {k: getattr(config.model, k) for k in shape} == shape
        assert RunConfig.from_dict(config.to_dict()) == config
    one, three = model(), model("looped")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True))


def test_no_position_sees_the_future():
    m, changed = model("looped"), TOKENS.clone()
    changed[:, 4] = 5
    assert torch.equal(m(TOKENS)[:, :4], m(changed)[:, :4])
    assert not torch.allclose(m(TOKENS)[:, 4], m(changed)[:, 4])


def test_without_positions_any_length_will_do():
    assert model("looped")(torch.zeros(2, 11, dtype=torch.int64)).shape == (2, 11, 6)
    with pytest.raises(ValueError, match="at most 5 tokens"):
        model(positions=True)(torch.zeros(2, 6, dtype=torch.int64))


def test_weights_depend_on_the_seed_alone():
    state = torch.random.get_rng_state()
    a, b, c = (model(seed=s, scale=1.0) for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.head, c.head)


def test_initial_scales_are_those_of_gpt2():
    config = GPTConfig(width=64, heads=4, layers=3)
    m = build_model(config, vocabulary=60, length=5, seed=0)
    for name, parameter in m.named_parameters():
        p = parameter.detach()
        if p.ndim > 1:
            small = name.endswith(("out.weight", "down.weight"))
            assert float(p.std()) == pytest.approx(0.02 / (6**0.5 if small else 1), rel=0.1), name
        else:
            assert torch.equal(p, torch.ones_like(p) if "norm" in name and "weight" in name else torch.zeros_like(p))


# -- loops per sequence -----------------------------------------------------------------------------------------------

LOOPS = torch.tensor([1, 4, 2])


def test_sequences_in_a_padded_batch_are_as_one_by_one():
    """Rows of length 2, 5 and 4, filled up with another token, and with their own numbers of loops."""
    m = model("looped", loops=6, per_length=True)
    lengths, padded = (2, 5, 4), TOKENS.clone()
    for i, n in enumerate(lengths):
        padded[i, n:] = 5
    together = m(padded, LOOPS)
    for i, n in enumerate(lengths):
        alone = m(TOKENS[i : i + 1, :n], LOOPS[i : i + 1])[0]
        assert torch.allclose(together[i, :n], alone, rtol=1e-12, atol=1e-12)
        assert torch.allclose(alone, by_hand(m, TOKENS[i, :n], int(LOOPS[i])), rtol=1e-10, atol=1e-10)


def test_the_models_number_cuts_the_loops():
    """To rounding: a matrix product may round otherwise where fewer sequences are left in the batch."""
    close = partial(torch.allclose, rtol=1e-10, atol=1e-12)
    m = model("looped", loops=2, per_length=True)
    assert close(m(TOKENS, LOOPS)[1:], m(TOKENS)[1:])
    assert not torch.allclose(m(TOKENS, LOOPS)[0], m(TOKENS)[0], rtol=1e-3)
    single = model("single", per_length=True)
    assert close(single(TOKENS, LOOPS), single(TOKENS))
    enough, more = (model("looped", loops=n, per_length=True) for n in (4, 9))
    assert close(enough(TOKENS, LOOPS), more(TOKENS, LOOPS))


class ByFirst(MarkovTask):
    """A sequence gets 1 to 4 loops, by its first token."""

    def loops(self, inputs):
        return 1 + inputs[:, 0] % 4


@pytest.fixture
def by_first(monkeypatch):
    from landscape.tasks import TASKS

    monkeypatch.setitem(TASKS, "markov", (TASKS["markov"][0], ByFirst))


def gpt(arch="looped", **changes):
    small = {"width": 8, "heads": 2, **changes.pop("model", {})}
    settings = {"steps": 12, "batch": 16, "evaluate_every": 5, "checkpoints": 4, "optimizer": {"lr": 0.01}}
    return RunConfig.make(arch=arch, task=DATA, model={"name": "gpt", **small}, **{**settings, **changes})


def test_training_gives_every_sequence_its_loops(by_first):
    config = gpt(loops=3, model={"per_length": True}, dtype="float64")
    trainer = Trainer(config)
    split = trainer.setup.task.split("probe")
    loops = trainer.setup.task.loops(split.inputs).clamp(max=3)
    objective = trainer.setup.objective("probe")
    expected = torch.cat(
        [
            trainer.setup.module(int(n)).double()(x[None], torch.tensor([n])).detach()
            for x, n in zip(split.inputs, loops, strict=True)
        ]
    )
    losses = trainer.setup.task.per_sample_loss(expected, split.targets)
    assert torch.allclose(objective.per_sample(objective.w0), losses, rtol=1e-12)
    uneven = trainer.setup.objective("probe", chunk=4)
    assert torch.allclose(uneven.per_sample(objective.w0), losses, rtol=1e-12)


def test_compute_follows_the_loops_of_each_batch(by_first):
    trainer = Trainer(gpt(loops=3, model={"per_length": True}))
    costs = {n: Setup(gpt("single" if n == 1 else "looped", loops=n)).flops_per_sample() for n in (1, 2, 3)}
    assert costs[2] - costs[1] == costs[3] - costs[2] > 0
    expected = 0.0
    for step in range(6):
        x, _ = trainer.setup.task.batch(step, 16, seed=0)
        expected += sum(costs[min(3, n)] for n in trainer.setup.task.loops(x).tolist())
    trainer.advance(6)
    assert trainer.flops == expected


def test_a_task_without_a_rule_is_refused(tmp_path):
    with pytest.raises(LandscapeError, match=r"per_length needs a task that says how many loops.*'markov' does not"):
        train(gpt(model={"per_length": True}), tmp_path / "a")


def test_flops_are_those_of_the_matrix_products():
    """Per loop and layer: qkv, out, MLP (12 d d n) and attention (2 n n d); the head once; backward is twice that."""
    n, d, V, T, L = 6, 8, 16, 3, 2
    forward = 2 * (T * L * (12 * n * d * d + 2 * n * n * d) + n * d * V)
    assert Setup(gpt(layers=2)).flops_per_sample() == pytest.approx(3 * forward)


# -- stopping by itself -----------------------------------------------------------------------------------------------


def test_stops_where_the_output_no_longer_changes():
    m = model("looped", loops=3, scale=4.0)
    found = m.adaptive(TOKENS, max_loops=40, threshold=1e-5)
    assert found.converged.all()
    assert len(set(found.loops.tolist())) > 1
    for i, used in enumerate(found.loops.tolist()):
        log_p = [by_hand(m, TOKENS[i], t).detach().log_softmax(-1) for t in range(1, used + 1)]
        assert torch.allclose(found.logits[i].log_softmax(-1), log_p[-1], rtol=1e-9, atol=1e-9)
        moved = [float((p.exp() * (p - q)).sum(-1).max()) for q, p in itertools.pairwise(log_p)]
        assert [c < 1e-5 for c in moved] == [False] * (used - 2) + [True]
        assert float(found.change[i]) == pytest.approx(moved[-1], rel=1e-4)


def test_the_loops_may_run_out():
    m = model("looped")
    found = m.adaptive(TOKENS, max_loops=2, threshold=1e-12)
    assert found.loops.tolist() == [2, 2, 2]
    assert not found.converged.any()
    assert torch.isfinite(found.change).all()
    once = m.adaptive(TOKENS, max_loops=1, threshold=1e-12)
    assert once.change.isnan().all()
    assert torch.allclose(once.logits, model("single")(TOKENS))
    with pytest.raises(ValueError, match="threshold > 0"):
        m.adaptive(TOKENS, max_loops=2, threshold=0.0)


def test_only_scored_positions_decide():
    m = model("looped")
    scored = torch.zeros_like(TOKENS, dtype=torch.bool)
    scored[:, 0] = True
    first = m.adaptive(TOKENS[:, :1], max_loops=40, threshold=1e-7)
    found = m.adaptive(TOKENS, max_loops=40, threshold=1e-7, scored=scored)
    assert torch.equal(found.loops, first.loops)
    assert (found.loops < m.adaptive(TOKENS, max_loops=40, threshold=1e-7).loops).any()


# -- landscape --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [TOKENS, (TOKENS, LOOPS)])
def test_second_derivatives_against_finite_differences(inputs):
    m = model("looped", layers=1)
    loss = MarkovTask.per_sample_loss
    objective = Objective(m, loss, (inputs, TOKENS.roll(-1, 1)))
    v = torch.randn(objective.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v /= v.norm()
    t, w = 1e-4, objective.w0
    expected = (objective.grad(w + t * v) - objective.grad(w - t * v)) / (2 * t)
    for strategy in ("cached", "forward"):
        assert torch.allclose(objective.hessian(w, strategy=strategy).mv(v), expected, rtol=1e-5, atol=1e-7)
    assert torch.allclose(objective.hessian(w).mv(v), expected, rtol=1e-5, atol=1e-7)  # no kernel but its own


@pytest.mark.slow
@pytest.mark.parametrize("per_length", [False, True])
def test_probes_need_to_know_nothing_of_it(by_first, tmp_path, per_length):
    run = train(gpt(loops=2, model={"per_length": per_length}), tmp_path / "a")
    ds = sweep("spectrum", run, seed=0, steps=[12], k=2)
    H = run.objective(at=12).hessian(run.parameters[-1]).dense()
    assert np.allclose(ds.eigenvalue.values.ravel()[:2], torch.linalg.eigvalsh(H).flip(0)[:2], rtol=1e-5)
    assert ds.converged.all()
    assert np.isfinite(sweep("samples", run, seed=0, steps=[12]).loss).all()
    widths = sweep("valley", run, seed=0, steps=[12], top=1, bottom=0, random=1)
    assert np.isfinite(widths.half_width).any()
    filtered = sweep("spectrum", run, seed=0, steps=[12], k=2, metric="adam")
    assert filtered.converged.all()


@pytest.mark.parametrize("layers", [1, 2])
def test_gpt_shifts(by_first, tmp_path, layers):
    """The same parameters with one loop, and then with every sequence's own number."""
    shift = {"criterion": "fixed", "at": 4, "check_every": 2}
    common = {"loops": 3, "layers": layers, "model": {"per_length": True}}
    run = train(gpt("shift", shift=shift, **common), tmp_path / "a")
    single = Trainer(gpt("single", **common))
    single.advance(4)
    assert torch.equal(single.state().w, run.parameters[run.index(4)])
    looped = Trainer(gpt("looped", **common))
    looped.load(single.state())
    looped.advance(8)
    assert torch.equal(looped.state().w, run.parameters[-1])
    assert torch.equal(run.replay(0, 12)[run.steps], run.parameters[:])
    w = run.parameters[run.index(12)]
    assert run.objective(at=12).loss(w) != run.objective(at=12, loops=1).loss(w)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 6, "heads": 4}, r"model\.width to be a multiple of model\.heads, found 6 and 4"),
        ({"heads": 0}, r"model\.heads >= 1"),
        ({"mlp_ratio": 0}, r"model\.mlp_ratio >= 1"),
        ({"attention": "linear"}, "unknown setting of model 'attention'"),
        ({"layers": 2}, r"model\.layers follows from the architecture"),
    ],
)
def test_wrong_settings_are_explained(settings, message):
    with pytest.raises(LandscapeError, match=message):
        RunConfig.make(model={"name": "gpt", **settings})
