"""Alignment: gradients with known angles, known attention, and the two architectures of a real run."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from landscape import LandscapeError, Objective, sweep, train
from landscape.models import ARCHITECTURES, AttentionConfig, build_model
from landscape.probes.alignment import PROBE, _attention, _forms, alignment
from landscape.runs.branch import branch_config

ALL = ("all:*",)


def centred(centres) -> Objective:
    """Mean of |w - a_i|^2 over the rows a_i: the gradient at 0 is -2 times their mean."""
    a = torch.as_tensor(centres, dtype=torch.float64)
    module = nn.Linear(1, a.shape[1], bias=False)
    return Objective(module, lambda y, t: ((y - t) ** 2).sum(1), (torch.ones(len(a), 1, dtype=torch.float64), a))


def compared(a, b, **settings):
    models = {1: centred(a), 3: centred(b)}
    w = torch.zeros(models[1].size)
    return alignment(models[1], w, variant=models.__getitem__, groups=ALL, **settings)


@pytest.mark.parametrize(("b", "cosine"), [([0.0, 2.0], 0.0), ([-5.0, 0.0], -1.0), ([1.0, 1.0], 0.5**0.5)])
def test_known_angles(b, cosine):
    ds = compared([[3.0, 0.0]] * 4, [b] * 4)
    np.testing.assert_allclose(ds.cosine, [cosine], atol=1e-15)
    np.testing.assert_allclose(ds.norm_single, [6.0])
    np.testing.assert_allclose(ds.norm_looped, [2 * np.hypot(*b)])
    np.testing.assert_allclose(ds.loss, [9.0, b[0] ** 2 + b[1] ** 2])
    np.testing.assert_allclose(ds.cosine_stderr, 0, atol=1e-15)


def test_tiny_gradients_have_a_direction():
    ds = compared([[1e-120, 0.0]] * 4, [[1e-120, 1e-120]] * 4)
    np.testing.assert_allclose(ds.cosine, [0.5**0.5])


def test_no_direction_no_cosine():
    ds = compared([[3.0, 0.0]] * 2, [[0.0, 0.0]] * 2)
    assert np.isnan(ds.cosine).all()
    assert ds.norm_looped.item() == 0


def test_the_error_of_a_mean_is_the_textbook_one():
    a = np.random.default_rng(0).standard_normal((60, 1)) + 5
    ds = compared(a, a, blocks=20)
    means = (2 * a).reshape(20, 3).mean(1)
    np.testing.assert_allclose(ds.norm_single_stderr, means.std(ddof=1) / 20**0.5, rtol=1e-9)
    assert ds.cosine.item() == 1.0
    assert ds.n_blocks.item() == 20


def test_the_error_of_the_cosine_is_that_of_new_samples():
    rng = np.random.default_rng(1)

    def cosine(a, b):
        return a.mean(0) @ b.mean(0) / np.linalg.norm(a.mean(0)) / np.linalg.norm(b.mean(0))

    def draw():
        common = rng.standard_normal((90, 3))
        return common + np.array([1.0, 0.0, 0.3]), 0.5 * common + rng.standard_normal((90, 3)) + np.array(
            [0.2, 0.9, 0.0]
        )

    spread = np.std([cosine(*draw()) for _ in range(2000)])
    errors = [float(compared(*draw()).cosine_stderr[0]) for _ in range(20)]
    np.testing.assert_allclose(np.mean(errors), spread, rtol=0.15)


def test_fewer_samples_than_blocks_and_one_sample():
    few = compared(np.eye(3) + 1, np.eye(3) + 2)
    assert few.n_blocks.item() == 3
    assert np.isfinite(few.cosine_stderr).all()
    one = compared([[1.0, 2.0]], [[1.0, 2.0]])
    assert one.cosine.item() == 1.0
    assert np.isnan(one.cosine_stderr).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loops": 0}, "loops >= 1"),
        ({"blocks": 1}, "blocks >= 2"),
        ({"groups": ()}, "different groups"),
        ({"groups": ("head",)}, "different groups"),
        ({"groups": ("a:*", "a:*")}, "different groups"),
        ({"groups": ("a:nothing",)}, "no parameter matches 'nothing'"),
        ({"variant": lambda loops: centred([[1.0, 0.0]] * (4 + loops))}, "4 samples and layout"),
    ],
)
def test_refusals(settings, message):
    objective = centred([[1.0, 0.0]] * 4)
    with pytest.raises(LandscapeError, match=message):
        alignment(objective, torch.zeros(2), **{"variant": lambda _: objective, "groups": ALL, **settings})


# -- premises -----------------------------------------------------------------------------------------------------


def model(loops=1, **settings):
    config = AttentionConfig(width=6, **ARCHITECTURES["looped"](loops), **settings)
    return build_model(config, vocabulary=6, length=5, seed=0).double()


def measured(single, looped):
    return {k: v.tolist() for k, v in _attention([[single], [looped]]).items()}


def test_attention_of_orthogonal_tokens_with_large_scores_is_dominant():
    m = model(2)
    with torch.no_grad():
        m.embedding.copy_(torch.eye(6))
        m.position.zero_()
        m.blocks[0].W_Q.copy_(20 * torch.eye(6))
        m.blocks[0].W_K.copy_(20 * torch.eye(6))
        m.blocks[0].W_V.zero_()
        A = m.attention(torch.tensor([[0, 3, 1, 2, 5], [5, 4, 3, 2, 1]]))
    assert A.shape == (2, 2, 5, 5)
    found = measured(A[:1], A)
    assert found["dominant_rows"] == found["attention_definite"] == [1.0, 1.0]
    np.testing.assert_allclose(found["dominance"], 1.0, atol=1e-9)
    np.testing.assert_allclose(found["attention_smallest"], 1.0, atol=1e-9)


def test_uniform_attention():
    """A_ij = 1 / i: row i = 2..5 has the margin (2 - i) / i."""
    m = model()
    with torch.no_grad():
        m.blocks[0].W_Q.zero_()
        A = m.attention(torch.tensor([[0, 0, 1, 2, 5]]))
    np.testing.assert_allclose(A[0, 0], np.tril(np.ones((5, 5))) / np.arange(1, 6)[:, None])
    found = measured(A, A)
    np.testing.assert_allclose(found["dominance"], np.mean([(2 - i) / i for i in range(2, 6)]))
    assert found["dominant_rows"] == [0.0, 0.0]
    assert np.isnan(found["dominance_stderr"]).all()  # one sequence


def test_signs_count_in_linear_attention():
    A = torch.tensor([[[[5.0, 0, 0], [-2, 3, 0], [1, -1, -4]]]], dtype=torch.float64)
    found = measured(A, A)
    np.testing.assert_allclose(found["dominance"], ((3 - 2) + (-4 - 2)) / 2)
    assert found["dominant_rows"] == [0.5, 0.5]
    symmetric = np.array([[5, -1, 0.5], [-1, 3, -0.5], [0.5, -0.5, -4]])
    np.testing.assert_allclose(found["attention_smallest"], np.linalg.eigvalsh(symmetric)[0])


@pytest.mark.parametrize("kind", ["softmax", "linear"])
def test_attention_matrices_are_those_of_the_forward_pass(kind):
    m, tokens = model(3, attention=kind), torch.tensor([[0, 3, 1, 2], [5, 5, 0, 4]])
    with torch.no_grad():
        matrices = m.attention(tokens)
        E = m.embedding[tokens] + m.position[:4]
        for A in matrices:
            assert torch.equal(A, m.blocks[0].weights(E))
            E = E + A @ (E @ m.blocks[0].W_V.T)
        assert torch.allclose(E @ m.head.T, m(tokens), rtol=1e-12)
        assert torch.equal(matrices[0], model(1, attention=kind).attention(tokens)[0])


def test_definiteness_of_forms():
    turned = torch.tensor([[2.0, 7.0], [-7.0, 1.0]], dtype=torch.float64)  # its symmetric part is diag(2, 1)
    found = _forms({"a": turned, "b": -turned, "c": torch.diag(torch.tensor([3.0, -6.0]).double())})
    np.testing.assert_allclose(found["form_smallest"], [1, -2, -6])
    np.testing.assert_allclose(found["form_largest"], [2, -1, 3])
    np.testing.assert_allclose(found["form_definiteness"], [0.5, -1, -1])


def test_the_form_is_the_one_in_the_scores():
    block = model().blocks[0]
    E = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = E @ block.forms()["W_Q'W_K"] @ E.T / 6**0.5
    masked = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -torch.inf)
    assert torch.allclose(masked.softmax(-1), block.weights(E[None])[0], rtol=1e-10)


# -- runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    from support.runs import small_config

    folder = tmp_path_factory.mktemp("pair")
    return {a: train(small_config(a), folder / a) for a in ("single", "looped", "stacked")}


def test_one_loop_against_itself_is_exactly_one(pair):
    for run in (pair["single"], pair["looped"]):
        ds = sweep(PROBE, run, seed=0, steps=[0, 20], loops=1)
        assert (ds.cosine == 1).all()
        assert (ds.cosine_stderr == 0).all()
        assert ds.norm_single.equals(ds.norm_looped)


def test_gradients_are_those_of_the_two_objectives(pair):
    run = pair["looped"]
    ds = sweep(PROBE, run, seed=0, steps=[20], chunk=4).isel(step=0)
    w = run.parameters[-1]
    single, looped = run.objective(loops=1), run.objective()
    assert torch.equal(run.objective(loops=3).per_sample(w), looped.per_sample(w))
    a, b = single.grad(w), looped.grad(w)
    assert ds.loops.item() == 3
    np.testing.assert_allclose(ds.loss, [single.loss(w), looped.loss(w)], rtol=1e-12)
    for name, pattern in {"W_K": "blocks.0.W_K", "embeddings": ["embedding", "position"], "all": "*"}.items():
        mask, at = run.layout.mask(pattern), ds.isel(group=ds.group.values.tolist().index(name))
        x, y = a[mask], b[mask]
        np.testing.assert_allclose(at.cosine, x @ y / x.norm() / y.norm(), rtol=1e-9)
        np.testing.assert_allclose([at.norm_single, at.norm_looped], [x.norm(), y.norm()], rtol=1e-9)
        assert at.n_parameters == mask.sum()
    with torch.no_grad():
        A = run.module(20).double().attention(run.task.split("probe").inputs)
    np.testing.assert_allclose(
        ds.dominance_of_pass, [2 * float(x.diagonal(dim1=1, dim2=2)[:, 1:].mean()) - 1 for x in A]
    )
    np.testing.assert_allclose(ds.dominance[0], ds.dominance_of_pass[0])
    np.testing.assert_allclose(ds.dominance[1], ds.dominance_of_pass.mean())


def test_equal_parameters_give_equal_answers_whatever_was_trained(pair):
    a, b = (sweep(PROBE, pair[n], seed=0, steps=[0]) for n in ("single", "looped"))  # the same initial weights
    for name in a.data_vars:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-9, err_msg=str(name))


def test_more_loops_fewer_parameters_and_branches(pair, tmp_path):
    run = pair["single"]
    assert sweep(PROBE, run, seed=0, steps=[0], loops=5).dominance_of_pass.shape == (1, 5)
    part = sweep(PROBE, run, seed=0, steps=[7 if 7 in run.steps else 2], parameters="blocks.*", groups=["W_K:*W_K"])
    whole = sweep(PROBE, run, seed=0, steps=part.step.values.tolist())
    np.testing.assert_allclose(part.cosine[:, 0], whole.cosine[:, 1], rtol=1e-9)
    with pytest.raises(LandscapeError, match="no parameter matches 'head'"):
        sweep(PROBE, run, seed=0, steps=[0], parameters="blocks.*")
    step = int(run.steps[-2])
    branch = train(branch_config(run, step, settings={"arch": "looped"}), tmp_path / "branch")
    a, b = (sweep(PROBE, r, seed=0, steps=[step]) for r in (run, branch))
    np.testing.assert_allclose(a.cosine, b.cosine, rtol=1e-9)


def test_stacked_has_other_parameters(pair):
    with pytest.raises(LandscapeError, match=r"one layer \(single or looped\).*'stacked' with 3 layers"):
        sweep(PROBE, pair["stacked"], seed=0, steps=[0])


def test_no_metric_and_no_byte_changed(pair):
    run = pair["looped"]
    before = hashlib.sha256((run.path / "run.h5").read_bytes()).hexdigest()
    sweep(PROBE, run, seed=0, recompute=True)
    with pytest.raises(LandscapeError, match="no metric"):
        sweep(PROBE, run, seed=0, metric="filter")
    assert hashlib.sha256((run.path / "run.h5").read_bytes()).hexdigest() == before


def test_the_module_of_a_checkpoint(pair):
    run = pair["single"]
    module = run.module(20)
    assert torch.equal(nn.utils.parameters_to_vector(module.parameters()), run.parameters[-1])
    assert run.module(20, loops=4).loops == 4
    assert run.module(20).loops == 1
    with torch.no_grad():
        module.head.zero_()
    assert torch.equal(run.module(20).head.flatten(), run.layout.unflatten(run.parameters[-1])["head"].flatten())
