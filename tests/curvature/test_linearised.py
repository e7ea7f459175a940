"""The compiled product against double backward: same numbers, compiled once, and loud where it cannot be."""

import pytest
import torch
from support.oracles import function_objective, least_squares, relative, toy
from torch import nn

import landscape.curvature.linearised as linearised
from landscape import LandscapeError, Objective, Symmetric
from landscape.curvature import native_build
from landscape.curvature.graphcut import cut
from landscape.curvature.linearised import Linearised, compiled_parts
from landscape.loss import terms

SHAPES = [("single", "softmax"), ("single", "linear"), ("looped", "softmax"), ("stacked", "linear")]


@pytest.fixture
def uncompiled(monkeypatch):
    """The traced and cut graph, run as it is: what the compiler gets, without its minutes."""
    monkeypatch.setattr(linearised, "_PARTS", {})
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


def columns(objective, n=5):
    g = torch.Generator().manual_seed(0)
    return torch.randn(objective.size, n, generator=g, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["softmax", "linear"])
@pytest.mark.parametrize("arch", ["single", "looped", "stacked"])
def test_traced_and_cut_equals_double_backward(arch, attention, uncompiled):
    objective = toy(arch, attention, loops=2, chunk=40)  # 61 samples: the second chunk has 21
    V = columns(objective)
    exact = objective.hessian(objective.w0).mm(V)
    for block in (1, 4):
        found = objective.hessian(objective.w0, strategy="compiled", block=block).mm(V)
        assert relative(found, exact) < 1e-12
    w = objective.w0 * 1.1
    assert relative(objective.hessian(w, strategy="compiled").mm(V), objective.hessian(w).mm(V)) < 1e-12


def test_strided_vectors_are_not_compiled_again(monkeypatch):
    monkeypatch.setattr(linearised, "_PARTS", {})

    def compile_once(graph, **_):
        def run(*args):
            assert args[-1].is_contiguous()
            return graph(*args)

        return run

    monkeypatch.setattr(torch, "compile", compile_once)
    objective = toy("single")
    V = columns(objective)
    exact = objective.hessian(objective.w0).mm(V)
    H = objective.hessian(objective.w0, strategy="compiled", block=3)
    assert relative(H.mv(V[:, 1]), exact[:, 1]) < 1e-12
    assert relative(H.mm(V[:, ::2]), exact[:, ::2]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "attention"), SHAPES)
def test_compiled_equals_double_backward_and_is_reused(arch, attention):
    objective = toy(arch, attention, loops=2)
    dense = objective.hessian(objective.w0).dense()
    found = objective.hessian(objective.w0, strategy="compiled")
    assert relative(found.dense(), dense) < 1e-12
    assert found.n_products == objective.size
    # A second checkpoint, and a second objective as a sweep makes it, need no compiling.
    known = compiled_parts()
    assert known[-1].seconds > 0
    w = objective.w0 * 1.1
    for again in (objective, toy(arch, attention, loops=2)):
        assert relative(again.hessian(w, strategy="compiled").dense(), objective.hessian(w).dense()) < 1e-12
    assert compiled_parts() == known


def network(**settings):
    """A small network on 61 samples, quickly compiled."""
    g = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    x, y = torch.randn(61, 3, generator=g), torch.randn(61, 2, generator=g)
    return Objective(module, lambda z, t: (z - t).square().sum(1), (x, y), **settings)


@pytest.mark.slow
def test_compiled_with_uneven_chunks_blocks_and_float32():
    double = network(chunk=24)  # 61 samples: the last chunk has 13
    dense = double.hessian(double.w0).dense()
    assert relative(double.hessian(double.w0, strategy="compiled", block=3).dense(), dense) < 1e-12
    single = network(dtype=torch.float32)
    found = single.hessian(single.w0, strategy="compiled").dense()
    assert found.dtype == torch.float32
    assert relative(found.double(), dense) < 1e-5


@pytest.mark.slow
def test_forward_over_reverse_is_exact():
    for chunk in (None, 24):
        objective = toy(chunk=chunk)
        dense = objective.hessian(objective.w0).dense()
        assert relative(objective.hessian(objective.w0, strategy="forward").dense(), dense) < 1e-12


def test_block_products_count_and_pad(uncompiled):
    objective = toy("single")
    H = objective.hessian(objective.w0, strategy="compiled", block=4)
    V = columns(objective, 7)
    single = objective.hessian(objective.w0)
    assert relative(H.mm(V), single.mm(V)) < 1e-12
    assert H.n_products == 7
    assert relative(H.mv(V[:, 0]), single.mv(V[:, 0])) < 1e-12
    mask, scale = torch.arange(objective.size) % 3 == 0, torch.linspace(1, 2, objective.size, dtype=torch.float64)
    assert relative(H.block(mask).dense(), single.dense()[mask][:, mask]) < 1e-12
    assert relative(H.rescaled(scale).dense(), scale[:, None] * single.dense() * scale) < 1e-12
    with pytest.raises(LandscapeError, match="columns"):
        H.mm(V[:5])


@pytest.mark.parametrize("memory", [0, 30_000])
def test_memory_does_not_change_the_product(memory, uncompiled):
    objective = toy(loops=2, chunk=8)
    v = torch.ones_like(objective.w0)
    few = objective.hessian(objective.w0, strategy="compiled", memory=memory)
    assert relative(few.mv(v), objective.hessian(objective.w0).mv(v)) < 1e-12
    assert relative(few.mv(2 * v), objective.hessian(objective.w0).mv(2 * v)) < 1e-12


@pytest.mark.slow
def test_memory_bounds_what_is_kept(uncompiled):
    objective, traces = toy("single", chunk=8), {}
    batches = [objective.chunks.batch(c) for c in objective.chunks.slices()]
    for memory, kept in ((0, 0), (10**9, 8)):
        linear = Linearised(
            terms.term(objective.chunks, "hessian"), objective.w0, batches, memory=memory, traces=traces
        )
        linear.mv(objective.w0)
        assert sum(len(p.residuals) > 0 for p in linear._ready[1]) == kept


def test_changing_what_is_returned_does_not_change_the_next_product(uncompiled):
    objective = toy("single")
    H = objective.hessian(objective.w0, strategy="compiled")
    one = H.mv(objective.w0)
    first = one.clone()
    one.mul_(3)
    assert torch.equal(H.mv(objective.w0), first)


def test_other_losses_and_parameter_subsets(uncompiled):
    objective, dense = least_squares(chunk=8)
    assert relative(objective.hessian(objective.w0, strategy="compiled").dense(), dense) < 1e-12
    linear = function_objective(lambda w: w.sum(1), torch.ones(5))
    assert not linear.hessian(linear.w0, strategy="compiled").dense().any()
    constant = function_objective(lambda w: torch.zeros(len(w), dtype=w.dtype), torch.ones(5))
    assert not constant.hessian(constant.w0, strategy="compiled").dense().any()
    # A sub-vector: the fixed parameters are constants of the module, other ones in another objective.
    for factor in (1.0, 2.0):
        whole = toy("single")
        module = whole.chunks.module
        with torch.no_grad():
            module.head.mul_(factor)
        part = Objective(module, whole.chunks.per_sample_loss, whole.chunks.data, parameters="blocks.*")
        assert relative(part.hessian(part.w0, strategy="compiled").dense(), part.hessian(part.w0).dense()) < 1e-12


def test_a_branch_on_values_is_refused_not_baked_in():
    def loss(w):
        return (w**2).sum(1) if float(w.detach().sum()) > 0 else (w**4).sum(1)

    objective = function_objective(loss, torch.ones(3))
    with pytest.raises(LandscapeError, match=r'cannot be traced.*strategy="cached"'):
        objective.hessian(objective.w0, strategy="compiled").mv(objective.w0)


def test_modules_that_work_in_place(uncompiled):
    def loss(w):
        y = 2 * w
        y[:, 0] = 2.0
        y.add_(w**3)
        y.add_(w.exp() * w)
        return (y * w.sin()).sum(1)

    objective = function_objective(loss, torch.linspace(0.1, 1, 5))
    exact = objective.hessian(objective.w0).dense()
    assert relative(objective.hessian(objective.w0, strategy="compiled", block=2).dense(), exact) < 1e-12
    again = objective.hessian(objective.w0, strategy="compiled")
    assert relative(again.dense(), exact) < 1e-12


def test_a_wrong_compiler_is_noticed(monkeypatch):
    monkeypatch.setattr(linearised, "_PARTS", {})
    monkeypatch.setattr(torch, "compile", lambda graph, **_: lambda *args: 1.001 * graph(*args))
    objective, _ = least_squares()
    with pytest.raises(LandscapeError, match="fault of the compiler"):
        objective.hessian(objective.w0, strategy="compiled").mv(objective.w0)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 24])
@pytest.mark.parametrize("strategy", ["auto", "compiled"])
def test_gauss_newton_of_the_toy_by_its_definition(chunk, strategy, uncompiled):
    objective = toy(loops=2, chunk=chunk)
    w = objective.w0
    J = torch.func.jacrev(lambda u: objective.chunks.apply(u, objective.chunks.data, lambda z, _: z))(w)
    z = objective.map(w, lambda out, _: out)
    middle = torch.func.hessian(lambda out: objective.chunks.per_sample_loss(out, objective.chunks.data[1]).sum())(z)
    J, n = J.reshape(-1, objective.size), z.numel()
    expected = J.T @ middle.reshape(n, n) @ J / objective.n_samples
    G = objective.ggn(w, strategy=strategy).dense()
    assert relative(G, expected) < 1e-12
    assert float(torch.linalg.eigvalsh(G)[0]) > -1e-12
    residual = objective.residual(w, strategy=strategy).dense()
    assert relative(residual + G, objective.hessian(w).dense()) < 1e-12
    assert float(residual.abs().max()) > 1e-3


def test_unknown_strategies_are_refused():
    objective, _ = least_squares()
    with pytest.raises(
        LandscapeError, match="cached, forward, compiled, native or difference for the hessian, found 'fast'"
    ):
        objective.hessian(objective.w0, strategy="fast")
    with pytest.raises(LandscapeError, match="for the ggn, found 'cached'"):
        objective.ggn(objective.w0, strategy="cached")
    with pytest.raises(LandscapeError, match="block >= 1"):
        objective.hessian(objective.w0, strategy="compiled", block=0)


@pytest.mark.parametrize(("compiler", "strategy"), [("g++", "native"), (None, "cached")])
def test_default_is_the_kernel_where_there_is_one_else_double_backward_bit_for_bit(monkeypatch, compiler, strategy):
    if compiler is None:
        monkeypatch.setattr(native_build, "compiler", lambda: None)
    elif native_build.compiler() is None:
        pytest.skip("no C++ compiler")
    objective = toy()
    monkeypatch.setattr(linearised, "Linearised", None)
    one = objective.hessian(objective.w0).mv(objective.w0)
    assert torch.equal(one, objective.hessian(objective.w0, strategy=strategy).mv(objective.w0))
    other = {"native": "cached", "cached": "forward"}[strategy]
    assert relative(one, objective.hessian(objective.w0, strategy=other).mv(objective.w0)) < 1e-12


def test_native_is_refused_where_the_kernel_does_not_know_the_loss():
    objective, _ = least_squares()
    with pytest.raises(LandscapeError, match='"native" cannot be used: the kernel knows AttentionModel only'):
        objective.hessian(objective.w0, strategy="native")
    part = toy(parameters="head")
    with pytest.raises(LandscapeError, match="varies all parameters"):
        part.hessian(part.w0, strategy="native")
    assert part.hessian(part.w0).dense().shape == (part.size, part.size)


def test_cut_keeps_no_data_in_the_linear_part():
    from torch.fx.experimental.proxy_tensor import make_fx

    constant = torch.arange(3.0)
    graph = make_fx(lambda w, v: (w * constant).exp() * v + (v.view(3, 1) @ w.view(1, 3)).sum(1))
    w, v = torch.ones(3), torch.tensor([1.0, 2.0, 3.0])
    traced = graph(w, v)
    before, after = cut(traced, tangent=1)
    torch.testing.assert_close(after(*before(w), v), traced(w, v))
    assert not [n for n in after.graph.nodes if n.op == "get_attr"]
    assert "exp" not in after.code


def test_symmetric_without_block_product_is_unchanged():
    A = torch.diag(torch.tensor([3.0, 1.0]))
    op = Symmetric(2, torch.float32, A.mv)
    assert torch.equal(op.dense(), A)
    assert op.n_products == 2


def test_dropout_module_in_evaluation_mode_is_fine(uncompiled):
    module = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4), nn.Dropout(0.5), nn.Linear(4, 2)).eval()
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    objective = Objective(module, lambda y, t: ((y - t) ** 2).sum(1), (x, x[:, :2]), chunk=4)
    dense = objective.hessian(objective.w0).dense()
    assert relative(objective.hessian(objective.w0, strategy="compiled", block=2).dense(), dense) < 1e-12
