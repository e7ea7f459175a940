"""Derivatives that are not those of the loss are refused; honest ones, however awkward, are not."""

import pytest
import torch
import torch.nn.functional as F
from support.oracles import relative
from torch import nn

from landscape import LandscapeError, Objective
from landscape.loss.metric import RescaledObjective
from landscape.probes import density, spectrum


class Cube(torch.autograd.Function):
    """x^3 with a right gradient and half a second derivative: a factor of the backward is a saved constant."""

    @staticmethod
    def forward(ctx, x):
        ctx.square = x * x
        return x**3

    @staticmethod
    def backward(ctx, g):
        return 3 * g * ctx.square


class Softplus(torch.autograd.Function):
    """The derivative of softplus, as a constant: the second derivative is lost."""

    @staticmethod
    def forward(ctx, x):
        ctx.slope = torch.sigmoid(x)
        return F.softplus(x)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.slope


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -g


class Clipped(torch.autograd.Function):
    """A gradient clipped on its way back."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return g.clamp(-1e-3, 1e-3)


class Good(torch.autograd.Function):
    """x^3 with all its derivatives."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * x**2


class Between(nn.Module):
    """Two layers with something between them."""

    def __init__(self, middle, width=3):
        super().__init__()
        torch.random.manual_seed(0)
        self.a, self.b, self.middle = nn.Linear(4, width), nn.Linear(width, 1), middle

    def forward(self, x):
        return self.b(self.middle(self.a(x)))


def quantised(x):
    """Straight-through rounding."""
    return x + ((x * 4).round() / 4 - x).detach()


def quantised_but_smooth_before(x):
    return quantised(torch.tanh(x))


@torch.no_grad()
def without_graph(x):
    return torch.tanh(x)


def half_stopped(x):
    return torch.tanh(x) * torch.sigmoid(x).detach()


def scaled_gradient(x):
    """The value of x, a tenth of its gradient."""
    return 0.1 * x + (0.9 * x).detach()


def inputs(n=31):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 4, generator=generator), torch.randn(n, 1, generator=generator)


def mse(y, t):
    return ((y - t) ** 2).mean(1)


WRONG_GRADIENT = [
    lambda x: torch.tanh(x).detach(),
    half_stopped,
    scaled_gradient,
    quantised,
    quantised_but_smooth_before,
    without_graph,
    lambda x: Reversed.apply(torch.tanh(x)),
    lambda x: Clipped.apply(torch.tanh(x)),
    lambda x: torch.tanh(x).round() + torch.tanh(x) - torch.tanh(x).detach(),
]
WRONG_PRODUCT = [Cube.apply, Softplus.apply, lambda x: Softplus.apply(x) + x**2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("middle", WRONG_GRADIENT)
def test_a_gradient_that_is_not_that_of_the_loss_is_refused(middle, dtype):
    objective = Objective(Between(middle), mse, inputs(), dtype=dtype)
    for ask in (objective.grad, objective.hessian, objective.ggn):
        with pytest.raises(
            LandscapeError, match=r"gradient is not the derivative of the loss: .* gives .* differences"
        ):
            ask(objective.w0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("middle", WRONG_PRODUCT)
def test_a_product_that_is_not_that_of_the_gradient_is_refused(middle, dtype):
    objective = Objective(Between(middle), mse, inputs(), dtype=dtype)
    objective.grad(objective.w0)  # right
    with pytest.raises(LandscapeError, match=r"second derivatives .* wrong: .*Custom operations in the graph: \w+"):
        spectrum(objective, objective.w0, seed=0, k=1)


HONEST = [
    nn.ReLU(),
    nn.LeakyReLU(),
    nn.Hardtanh(),
    nn.Tanh(),
    nn.Softplus(),
    nn.GELU(),
    Good.apply,
    lambda x: x.abs(),
    lambda x: 1e8 * torch.sin(x),  # large values
    lambda x: 1e-8 * torch.sin(x),
    lambda x: 0 * x,  # no dependence at all
    lambda x: torch.exp(5 * x),
    lambda x: torch.where(x > 0, x, x**2),
    lambda x: x.round() + x,  # steps, honest ones: their derivative is 0 almost everywhere
    lambda x: x.float().tanh().to(x.dtype),  # float32 inside
    lambda x: F.max_pool1d(x[:, None], 3)[:, 0].expand(-1, 3),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("middle", HONEST)
def test_honest_derivatives_are_not_refused(middle, dtype):
    objective = Objective(Between(middle), mse, inputs(), dtype=dtype)
    objective.grad(objective.w0)
    objective.hessian(objective.w0)
    assert objective.caveats == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_wide_networks_of_relus_are_not_refused(dtype):
    """Any step crosses thousands of kinks; those that start at 0 lie at w itself."""
    model = nn.Sequential(nn.Linear(4, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 1))
    torch.random.manual_seed(0)
    for p in model.parameters():
        nn.init.zeros_(p) if p.ndim == 1 else nn.init.kaiming_normal_(p)
    x, y = inputs(200)
    x[::2] = 0
    objective = Objective(model, mse, (x, y), dtype=dtype)
    objective.hessian(objective.w0)
    assert objective.caveats == {}


def test_a_loss_that_is_linear_or_constant_in_w_is_not_refused():
    linear = Objective(nn.Linear(4, 1), lambda y, t: y[:, 0] * 1e6, inputs())
    assert float(linear.hessian(linear.w0).dense().abs().max()) == 0
    assert linear.caveats == {}


def test_the_check_is_made_once_per_objective(monkeypatch):
    from landscape.loss import derivatives

    calls = []
    for name in ("check_gradient", "check_product"):
        real = getattr(derivatives, name)
        monkeypatch.setattr(derivatives, name, lambda *a, r=real, n=name: calls.append(n) or r(*a))
    objective = Objective(Between(nn.Tanh()), mse, inputs())
    for w in (objective.w0, objective.w0 + 1):
        twin = objective.at(w)
        twin.grad(w), twin.hessian(w), RescaledObjective(twin, torch.ones(twin.size)).hessian(w)
    assert calls == ["check_gradient", "check_product"]


def test_going_on_unchecked_is_possible_and_said():
    objective = Objective(Between(Cube.apply), mse, inputs(), check_derivatives=False)
    ds = spectrum(objective, objective.w0, seed=0, k=2)
    assert ds.attrs["derivatives"] == "not checked, as asked for"
    good = Objective(Between(Good.apply), mse, inputs())
    assert "derivatives" not in spectrum(good, good.w0, seed=0, k=2).attrs
    assert density(objective, objective.w0, seed=0, vectors=2, quad=4).attrs["derivatives"].startswith("not")


def test_differences_give_the_right_numbers_where_torch_does_not():
    """The same loss with a backward that is right and one that is wrong; P = 19, exact matrix as the truth."""
    wrong, right = (Objective(Between(f), mse, inputs()) for f in (Cube.apply, Good.apply))
    H = wrong.hessian(wrong.w0, strategy="difference")
    exact = right.hessian(right.w0).dense()
    found = H.dense()
    assert 0 < H.error < 1e-5 * float(exact.norm())
    assert float((found - exact).norm(dim=0).max()) < 10 * H.error
    ds = spectrum(wrong, wrong.w0, seed=0, k=3, strategy="difference")
    top = torch.linalg.eigvalsh(exact).flip(0)[:3]
    assert relative(torch.from_numpy(ds.eigenvalue.values), top) < 1e-7
    assert ds.converged.all()
    assert ds.attrs["strategy"] == "difference"
    assert (ds.residual.values >= H.error / 10).all()
    assert (abs(ds.eigenvalue.values - top.numpy()) <= ds.residual.values).all()


def test_differences_in_float32_say_how_far_they_are_off():
    objective = Objective(Between(nn.Tanh()), mse, inputs(), dtype=torch.float32)
    ds = spectrum(objective, objective.w0, seed=0, k=2, strategy="difference")
    exact = spectrum(objective, objective.w0, seed=0, k=2)
    assert not ds.converged.any()  # to 1e-6 of the norm
    assert (abs(ds.eigenvalue - exact.eigenvalue) <= ds.residual).all()


def test_differences_scale_with_the_loss_and_the_metric():
    small = Objective(Between(nn.Tanh()), lambda y, t: 1e-8 * mse(y, t), inputs())
    plain = Objective(Between(nn.Tanh()), mse, inputs())
    v = torch.ones(plain.size, dtype=torch.float64)
    exact = plain.hessian(plain.w0).mv(v)
    assert relative(1e8 * small.hessian(small.w0, strategy="difference").mv(v), exact) < 1e-7
    scaled = RescaledObjective(plain, torch.full((plain.size,), 2.0))
    H = scaled.hessian(scaled.w0, strategy="difference")
    assert relative(H.mv(v), 4 * exact) < 1e-7
    assert 0 < H.error < 1e-6 * float(exact.norm())
    assert H.mv(0 * v).tolist() == [0.0] * plain.size
