import copy
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from support.oracles import function_objective, least_squares, logistic, relative, toy
from torch import nn

import landscape.loss.chunks as chunks_module
from landscape import LandscapeError, Objective
from landscape.models import ARCHITECTURES

CHUNKS = [None, 1, 8, 60, 61, 1000]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_hessian_of_least_squares(chunk):
    objective, H = least_squares(chunk=chunk)
    w = objective.w0 + 1
    assert relative(objective.hessian(w).dense(), H) < 1e-13


@pytest.mark.parametrize("chunk", CHUNKS)
def test_hessian_of_logistic_regression(chunk):
    objective, H = logistic(chunk=chunk)
    assert relative(objective.hessian(objective.w0).dense(), H) < 1e-13


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_hessian_of_the_toy_by_a_second_route(arch, attention):
    """Double backward against forward-over-reverse on an independent, unchunked expression of the same loss."""
    objective = toy(arch, attention, chunk=8)
    module, (inputs, targets) = objective.chunks.module, objective.chunks.data

    def loss(w):
        logits = torch.func.functional_call(module, objective.layout.unflatten(w), (inputs,))
        return F.cross_entropy(logits.reshape(-1, 6), targets.reshape(-1))

    second = torch.func.jacfwd(torch.func.grad(loss))(objective.w0)
    first = objective.hessian(objective.w0).dense()
    assert relative(first, second) < 1e-12
    assert relative(first, first.T) < 1e-12
    assert float(objective.loss(objective.w0)) == pytest.approx(float(loss(objective.w0)), rel=1e-13)


def test_gradient_and_hessian_by_finite_differences():
    objective = toy()
    w, h = objective.w0, 1e-5
    v = torch.randn(objective.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    slope = (objective.loss(w + h * v) - objective.loss(w - h * v)) / (2 * h)
    assert float(slope) == pytest.approx(float(objective.grad(w) @ v), rel=1e-7)
    difference = (objective.grad(w + h * v) - objective.grad(w - h * v)) / (2 * h)
    assert relative(difference, objective.hessian(w).mv(v)) < 1e-7


@pytest.mark.parametrize("chunk", CHUNKS[1:])
def test_same_answer_for_any_chunk(chunk):
    whole, parts = toy(), toy(chunk=chunk)
    w = whole.w0
    assert torch.allclose(whole.per_sample(w), parts.per_sample(w), rtol=1e-13)
    assert relative(parts.grad(w), whole.grad(w)) < 1e-13
    v = torch.ones_like(w)
    assert relative(parts.hessian(w).mv(v), whole.hessian(w).mv(v)) < 1e-13


def test_uneven_chunks_weigh_samples_not_chunks():
    """Ten samples in chunks of 8 and 2: a mean of means would be off by a third."""
    values = torch.arange(10.0, dtype=torch.float64)[:, None] ** 3
    objective = Objective(nn.Linear(1, 1, bias=False), lambda y, t: (y - t)[:, 0] ** 2, (values, 0 * values), chunk=8)
    w = torch.ones(1, dtype=torch.float64)
    assert float(objective.loss(w)) == pytest.approx(float((values**2).mean()), rel=1e-14)
    assert float(objective.hessian(w).dense()) == pytest.approx(2 * float((values**2).mean()), rel=1e-14)


@pytest.mark.parametrize("memory", [0, 20_000, 10**12])
def test_kept_and_rebuilt_graphs_give_the_same_products(memory):
    objective = toy(chunk=8)
    v = torch.ones(objective.size, dtype=torch.float64)
    assert torch.equal(objective.hessian(objective.w0, memory=memory).mv(v), objective.hessian(objective.w0).mv(v))


def test_kept_graphs_keep_their_point():
    """A product belongs to the w it was made for, whatever happens to that tensor later."""
    objective, _ = logistic(chunk=8)
    w = objective.w0.clone()
    for memory in (0, 10**12):
        H = objective.hessian(w, memory=memory)
        before = H.dense()
        w += 1
        assert torch.equal(H.dense(), before)
        w -= 1


def test_float32_agrees_within_its_rounding():
    double, single = toy(chunk=8), toy(chunk=8, dtype=torch.float32)
    w = double.w0
    assert single.loss(w).dtype == torch.float32
    assert float(single.loss(w)) == pytest.approx(float(double.loss(w)), rel=1e-6)
    assert relative(single.hessian(w).dense().double(), double.hessian(w).dense()) < 1e-5


def test_losses_are_the_losses_of_the_rows():
    objective = toy()
    W = objective.w0 + torch.arange(4.0, dtype=torch.float64)[:, None]
    torch.testing.assert_close(objective.losses(W), torch.stack([objective.loss(w) for w in W]), rtol=1e-14, atol=0)
    assert objective.losses(W[:0]).shape == (0,)


@pytest.mark.parametrize(("batched", "weights"), [(True, None), (True, torch.arange(1.0, 12)), (False, None)])
def test_points_in_one_call_are_the_points_one_by_one(monkeypatch, batched, weights):
    """As on a card; a module that branches on its values cannot be evaluated so, and is not."""
    monkeypatch.setattr(chunks_module, "TOGETHER", ("cpu",))
    monkeypatch.setattr(chunks_module, "POINTS", 3)

    class Branching(torch.nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y if batched or float(y.sum()) > 0 else -y

    torch.manual_seed(0)
    data = (torch.randn(11, 3), torch.randn(11, 1))
    objective = Objective(Branching(3, 1), lambda y, t: ((y - t) ** 2).sum(1), data, chunk=4, weights=weights)
    W = torch.randn(7, objective.size, dtype=torch.float64)
    expected = torch.stack([objective.loss(w) for w in W])
    torch.testing.assert_close(objective.losses(W), expected, rtol=1e-13, atol=0)
    assert objective.chunks.kernels["many points"] is batched


def test_points_in_one_call_that_differ_are_not_used(monkeypatch):
    monkeypatch.setattr(chunks_module, "TOGETHER", ("cpu",))
    monkeypatch.setattr(chunks_module, "vmap", lambda total: lambda W: torch.stack([total(w) + 1e-3 for w in W]))
    objective = Objective(
        torch.nn.Linear(1, 1), lambda y, t: ((y - t) ** 2).sum(1), (torch.ones(2, 1), torch.ones(2, 1))
    )
    W = torch.ones(3, 2, dtype=torch.float64)
    assert objective.losses(W).tolist() == [1.0] * 3
    assert objective.chunks.kernels["many points"] is False


def test_subset_of_parameters_is_a_block_of_the_hessian():
    whole, part = toy(), toy(parameters="blocks.*")
    mask = whole.layout.mask("blocks.*")
    assert torch.equal(part.w0, whole.w0[mask])
    expected = whole.hessian(whole.w0).block(mask).dense()
    assert relative(part.hessian(part.w0).dense(), expected) < 1e-12


def test_the_module_and_the_random_state_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
    model[0].train()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.random.get_rng_state()
    objective = Objective(model, lambda y, t: (y - t)[:, 0] ** 2, (torch.ones(4, 3), torch.zeros(4, 1)))
    w = objective.w0
    objective.grad(w + 1)
    objective.hessian(w).mv(w)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_linear_and_constant_losses_have_no_curvature():
    linear = function_objective(lambda w: w.sum(1), torch.ones(3))
    assert linear.hessian(linear.w0).dense().tolist() == [[0.0] * 3] * 3
    constant = function_objective(lambda w: torch.ones(len(w), dtype=w.dtype), torch.ones(3))
    assert constant.grad(constant.w0).tolist() == [0.0] * 3
    assert constant.hessian(constant.w0).dense().tolist() == [[0.0] * 3] * 3


@pytest.mark.parametrize("layers", [1, 2])
def test_fused_attention_has_second_derivatives(layers):
    """torch's fused kernels have none; the objective must not use them, whatever the module asks for."""
    torch.random.manual_seed(0)
    block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(block, layers, enable_nested_tensor=False).train()
    x = torch.randn(5, 3, 4)
    objective = Objective(model, lambda y, t: ((y - t) ** 2).mean((1, 2)), (x, x.flip(0)))
    v = torch.ones(objective.size, dtype=torch.float64)
    h = 1e-5
    difference = (objective.grad(objective.w0 + h * v) - objective.grad(objective.w0 - h * v)) / (2 * h)
    assert relative(difference, objective.hessian(objective.w0).mv(v)) < 1e-6


def test_inputs_may_be_tuples_and_dicts():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, a, b):
            return self.w * a + b

    a, b, t = torch.ones(3, 1), torch.arange(3.0)[:, None], torch.zeros(3, 1)
    for inputs in ((a, b), {"b": b, "a": a}):
        objective = Objective(Two(), lambda y, t: (y - t)[:, 0], (inputs, t), chunk=2)
        assert objective.per_sample(objective.w0).tolist() == [1.0, 2.0, 3.0]


def test_only_trainable_parameters_vary_unless_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    model.register_parameter("count", nn.Parameter(torch.tensor([1, 2]), requires_grad=False))
    data = (torch.ones(4, 3), torch.zeros(4, 2))
    assert Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data).layout.names == ("2.weight", "2.bias")
    named = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), data, parameters="0.*")
    assert named.layout.names == ("0.weight", "0.bias")
    with pytest.raises(LandscapeError, match=r"no trainable parameters.*frozen: 0\.weight"):
        Objective(model[2].requires_grad_(False) and nn.Sequential(*model), lambda y, _: y.sum(1), data)


def test_wrong_double_backward_is_noticed():
    """torch's fused weight normalisation: right gradient, wrong second derivative."""
    torch.random.manual_seed(0)
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    x = torch.randn(6, 3)
    objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (x, x.flip(0)))
    try:
        H = objective.hessian(objective.w0).dense()
    except LandscapeError as error:
        assert "second derivatives" in str(error)  # noqa: PT017
    else:  # a torch that has mended it
        assert relative(H, H.T) < 1e-10


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.w * x + torch.randn_like(x)


class Centred(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x):
        y = super().forward(x)
        return y - y.mean(0, keepdim=True)


def dropout():
    return nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 1))


def batch_norm():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))


def batch_norm_without_buffers():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.Linear(2, 1))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (dropout, r"random.*1 \(Dropout\)"),
        (Noisy, "random"),
        (batch_norm, r"buffers.*1 \(BatchNorm1d\)"),
        (batch_norm_without_buffers, "other samples|samples alone"),
        (Centred, "depends on the other samples"),
    ],
)
def test_problems_that_are_no_function_of_w_are_refused(module, message):
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    for chunk in (None, 2) if module is batch_norm else (None, 2, 1):
        with pytest.raises(LandscapeError, match=message):
            Objective(module(), lambda y, _: (y**2).mean(1), (x, x), chunk=chunk)
    if module is dropout:
        Objective(dropout().eval(), lambda y, _: (y**2).mean(1), (x, x))


@pytest.mark.parametrize(
    ("data", "loss", "settings", "message"),
    [
        ((torch.ones(3, 2), torch.ones(4, 2)), None, {}, r"same first axis.*\(3, 2\), \(4, 2\)"),
        ((torch.ones(0, 2), torch.ones(0, 2)), None, {}, "at least one sample"),
        (torch.ones(3, 2), None, {}, r"\(inputs, targets\)"),
        ((torch.ones(3, 2), None), None, {}, r"cannot be evaluated on 3 samples.*TypeError"),
        ((torch.ones(3, 2), object()), None, {}, "expected tensors.*found object"),
        ((torch.ones(3, 2), torch.ones(3, 2)), lambda y, t: (y - t).pow(2).mean(), {}, r"shape \(N,\), here \(3,\)"),
        ((torch.ones(3, 2), torch.ones(3, 2)), None, {"chunk": 0}, "integer >= 1"),
        ((torch.ones(3, 2), torch.ones(3, 2)), None, {"chunk": 2.5}, "integer >= 1"),
        ((torch.ones(3, 2), torch.ones(3, 2)), None, {"dtype": torch.float16}, "found torch.float16"),
        ((torch.ones(3, 2), torch.ones(3, 2)), None, {"parameters": []}, "at least one pattern"),
        ((torch.ones(3, 2), torch.ones(3, 2)), None, {"parameters": "bias"}, "no parameter matches 'bias'"),
    ],
)
def test_wrong_input_is_explained(data, loss, settings, message):
    with pytest.raises(LandscapeError, match=message):
        Objective(nn.Linear(2, 2, bias=False), loss or (lambda y, t: (y - t).pow(2).mean(1)), data, **settings)


def test_vector_of_another_layout_is_refused():
    objective, _ = least_squares()
    with pytest.raises(LandscapeError, match=r"parameter vector of shape \(15,\).*found \(14,\)"):
        objective.loss(torch.zeros(14))
    with pytest.raises(LandscapeError, match=r"matrix \(B, 15\)"):
        objective.losses(torch.zeros(15))


def test_a_compiled_module_is_its_original():
    model = nn.Linear(2, 1)
    compiled = torch.compile(model, backend="eager")
    data = (torch.ones(3, 2), torch.zeros(3, 1))
    objective = Objective(compiled, lambda y, t: (y - t)[:, 0] ** 2, data)
    assert objective.layout.names == ("weight", "bias")
    assert torch.isfinite(objective.hessian(objective.w0).dense()).all()


def test_nan_stays_nan():
    objective = function_objective(lambda w: torch.log(w.sum(1)), torch.ones(2))
    assert torch.isnan(objective.loss(-objective.w0))


class Watched(torch.autograd.Function):
    """The identity, which notes the precision of float32 products in every pass, also of its own backward."""

    seen: ClassVar[list[str]] = []

    @staticmethod
    def forward(ctx, x):
        Watched.note()
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        Watched.note()
        return Watched.apply(g)

    @staticmethod
    def note():
        Watched.seen.append(torch.get_float32_matmul_precision())
        Watched.seen.append(getattr(torch.backends.mkldnn.matmul, "fp32_precision", "ieee"))
        Watched.seen.append("autocast" if torch.is_autocast_enabled("cpu") else "plain")


class Noting(nn.Linear):
    def forward(self, x):
        return Watched.apply(super().forward(Watched.apply(x)))


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="torch 2.9 and later")
def test_float32_is_float32_whatever_the_switches_say():
    """In the loss, its gradient and products, forward and backward; the switches are then as they were."""
    data = (torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(9, 1))
    objective = Objective(Noting(4, 1), lambda y, t: ((y - t) ** 4).mean(1), data, dtype=torch.float32)
    w = objective.w0
    plain = [objective.loss(w), objective.grad(w), objective.hessian(w, strategy="cached").mv(w)]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        Watched.seen.clear()
        with torch.autocast("cpu", torch.bfloat16):
            found = [objective.loss(w), objective.grad(w), objective.hessian(w, strategy="cached").mv(w)]
        assert {x for x in Watched.seen if x != "medium"} == {"ieee", "plain"}
        assert len(Watched.seen) > 3 * 8
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision(before)
    for a, b in zip(plain, found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch 2.9 and later")
def test_a_switch_that_follows_another_still_does():
    objective, _ = least_squares(dtype=torch.float32)
    before = torch.backends.fp32_precision
    try:
        torch.backends.fp32_precision = "tf32"
        assert torch.backends.mkldnn.conv.fp32_precision == "tf32"
        objective.grad(objective.w0)
        assert torch.backends.mkldnn.conv.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = before
    assert torch.backends.mkldnn.conv.fp32_precision == before
