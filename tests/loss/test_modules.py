"""Modules and data that people have: right numbers, or one message that names the fault and the way out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.oracles import relative
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from landscape import LandscapeError, Objective
from landscape.probes import density, samples, spectrum, surface, valley

N = 31


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


X, Y = drawn(N, 4), drawn(N, 1)


def mse(y, t):
    return ((y - t) ** 2).flatten(1).mean(1)


def plain():
    torch.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))


def exact(objective, h=1e-4):
    """The Hessian from losses alone, by central differences."""
    w, n = objective.w0, objective.size
    E = h * torch.eye(n, dtype=torch.float64)
    f = lambda v: float(objective.loss(v))  # noqa: E731
    H = [
        [
            (f(w + a + b) - f(w + a - b) - f(w - a + b) + f(w - a - b)) / (4 * h * h) if i >= j else 0.0
            for j, b in enumerate(E)
        ]
        for i, a in enumerate(E)
    ]
    H = torch.tensor(H, dtype=torch.float64)
    return H + H.tril(-1).T


def agrees(objective, strategy="cached"):
    H = objective.hessian(objective.w0, strategy=strategy).dense()
    return relative(H, exact(objective)) < 1e-5


class Pinn(nn.Module):
    """u, u' and u'' of a network in its input, differentiated inside `forward`."""

    def __init__(self, order, how):
        super().__init__()
        torch.random.manual_seed(0)
        self.net, self.order, self.how = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)), order, how

    def forward(self, x):
        if self.how == "func":
            f = lambda s: self.net(s[None])[0]  # noqa: E731
            out = [self.net(x), torch.func.vmap(torch.func.grad(f))(x[:, 0])[:, None]]
            if self.order == 2:
                out.append(torch.func.vmap(torch.func.grad(torch.func.grad(f)))(x[:, 0])[:, None])
            return torch.cat(out, 1)
        x = x.clone().requires_grad_(True)
        out = [self.net(x)]
        for _ in range(self.order):
            out.append(torch.autograd.grad(out[-1].sum(), x, create_graph=True)[0])
        return torch.cat(out, 1)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("how", ["autograd", "func"])
def test_modules_that_differentiate_in_their_inputs(order, how):
    model = Pinn(order, how)
    data = (drawn(9, 1), torch.zeros(9, 1))
    for chunk in (None, 4):
        objective = Objective(model, lambda o, _: o.sum(1) ** 2, data, chunk=chunk)
        assert agrees(objective)
    assert objective.losses(torch.stack([objective.w0, objective.w0 + 1])).requires_grad is False
    assert spectrum(objective, objective.w0, seed=0, k=2).converged.all()
    samples(objective, objective.w0)
    surface(objective, objective.w0, seed=0, directions="random", points=3)
    valley(objective, objective.w0, seed=0, top=1, bottom=0, random=0, gradient=True, rises=(1e-3,))


def test_a_module_that_differentiates_without_a_graph_is_refused():
    """create_graph=False: the value is right, the gradient in w lacks a part."""

    class Broken(Pinn):
        def forward(self, x):
            x = x.clone().requires_grad_(True)
            u = self.net(x)
            return torch.cat([u, torch.autograd.grad(u.sum(), x, retain_graph=True)[0]], 1)

    objective = Objective(Broken(1, "autograd"), lambda o, _: o.sum(1) ** 2, (drawn(9, 1), torch.zeros(9, 1)))
    with pytest.raises(LandscapeError, match="gradient is not the derivative"):
        objective.grad(objective.w0)


class Checkpointed(nn.Module):
    def __init__(self, how):
        super().__init__()
        torch.random.manual_seed(0)
        self.a, self.b, self.how = nn.Sequential(nn.Linear(4, 3), nn.Tanh()), nn.Linear(3, 1), how

    def forward(self, x):
        if self.how == "sequential":
            return self.b(checkpoint_sequential(self.a, 2, x, use_reentrant=False))
        return self.b(checkpoint(self.a, x, use_reentrant=self.how == "reentrant"))


@pytest.mark.parametrize("how", ["reentrant", "hooks", "sequential"])
@pytest.mark.parametrize("strategy", ["cached", "forward"])
def test_activation_checkpointing_changes_nothing(how, strategy):
    objective, same = Objective(Checkpointed(how), mse, (X, Y)), Objective(plain(), mse, (X, Y))
    w = objective.w0 + 1
    assert relative(objective.grad(w), same.grad(w)) < 1e-14
    assert relative(objective.hessian(w, strategy=strategy).dense(), same.hessian(w).dense()) < 1e-13
    model = Checkpointed(how)  # and it still works outside
    model(X.clone().requires_grad_(True)).sum().backward()
    assert model.a[0].weight.grad is not None


def test_sparse_embeddings_have_dense_second_derivatives():
    torch.random.manual_seed(0)
    tokens = torch.randint(0, 9, (20, 4))
    model = nn.Sequential(nn.Embedding(9, 3, sparse=True), nn.Flatten(), nn.Tanh(), nn.Linear(12, 1))
    objective = Objective(model, mse, (tokens, drawn(20, 1)))
    assert agrees(objective)
    assert model[0].sparse


@pytest.mark.parametrize("settings", [{"padding_idx": 0}, {"scale_grad_by_freq": True}])
def test_embeddings_whose_gradients_are_not_those_of_the_loss_get_those(settings):
    torch.random.manual_seed(0)
    tokens = torch.randint(0, 4, (20, 4))
    model = nn.Sequential(nn.Embedding(4, 3, **settings), nn.Flatten(), nn.Tanh(), nn.Linear(12, 1))
    objective = Objective(model, mse, (tokens, drawn(20, 1)))
    assert agrees(objective)
    assert objective.caveats == {}


def test_parts_compiled_by_torch_run_as_written():
    model = plain()
    compiled = nn.Sequential(torch.compile(nn.Sequential(*model[:2]), backend="aot_eager"), model[2])
    objective, same = Objective(compiled, mse, (X, Y)), Objective(model, mse, (X, Y))
    assert relative(objective.hessian(objective.w0).dense(), same.hessian(same.w0).dense()) < 1e-13


class InPlace(nn.Linear):
    def forward(self, x):
        with torch.no_grad():
            self.weight.clamp_(-0.1, 0.1)
        return super().forward(x)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (lambda: InPlace(4, 1), X),
        (lambda: nn.Sequential(nn.Embedding(9, 1, max_norm=1e-3), nn.Flatten()), X.long() + 4),
    ],
)
def test_parameters_changed_in_place_are_refused(model, inputs):
    with pytest.raises(LandscapeError, match="changes the parameters in place"):
        Objective(model(), lambda y, _: y.square().sum(1), (inputs, None))


class Along(nn.Module):
    """A module that differentiates in forward mode inside `forward`."""

    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        return torch.cat(torch.func.jvp(self.net, (x,), (torch.ones_like(x),)), 1)


def test_modules_that_use_forward_mode():
    assert agrees(Objective(Along(), lambda y, _: y.square().sum(1), (X, None), chunk=8))


def no_double_backward():
    torch.random.manual_seed(0)
    tokens = torch.randint(0, 9, (20, 4))
    bag = nn.Sequential(nn.EmbeddingBag(9, 3, sparse=True), nn.Tanh(), nn.Linear(3, 1))

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * ctx.saved_tensors[0].cos()

    class Wave(nn.Sequential):
        def forward(self, x):
            return self[1](Once.apply(self[0](x)))

    def ctc(y, t):
        n = len(y)
        logits = y.reshape(n, 3, 4).transpose(0, 1).log_softmax(2)
        return F.ctc_loss(logits, t, torch.full((n,), 3), torch.full((n,), 1), reduction="none")

    labels = torch.randint(1, 4, (N, 1))
    return [
        ("_embedding_bag_backward", bag, mse, (tokens, drawn(20, 1))),
        (
            "_cdist_backward",
            nn.Linear(4, 2),
            lambda y, t: torch.cdist(y[:, None], t[:, None])[:, 0, 0],
            (X, drawn(N, 2)),
        ),
        ("_ctc_loss_backward", nn.Linear(4, 12), ctc, (X, labels)),
        ("Once", Wave(nn.Linear(4, 3), nn.Linear(3, 1)), mse, (X, Y)),
    ]


@pytest.mark.parametrize("case", range(4))
def test_operations_without_double_backward_are_named_and_differences_go_on(case):
    operation, model, loss, data = no_double_backward()[case]
    objective = Objective(model, loss, data)
    with pytest.raises(LandscapeError, match=rf'{operation}.*strategy="difference"'):
        spectrum(objective, objective.w0, seed=0, k=2)
    H = objective.hessian(objective.w0, strategy="difference").dense()
    assert relative(H, exact(objective)) < 1e-5
    ds = density(objective, objective.w0, seed=0, vectors=2, quad=3, strategy="difference")
    assert np.isfinite(ds.trace.values).all()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_old_norms_after_use():
    def used(make):
        torch.random.manual_seed(0)
        model = nn.Sequential(make(nn.Linear(4, 3)), nn.Tanh(), nn.Linear(3, 1))
        model(X).sum().backward()
        return model.eval()

    spectral = Objective(used(nn.utils.spectral_norm), mse, (X, Y))
    assert agrees(spectral)
    weight = Objective(used(nn.utils.weight_norm), mse, (X, Y))
    try:
        right = agrees(weight)
    except LandscapeError as error:
        assert "remove_weight_norm" in str(error)  # noqa: PT017
    else:
        assert right
    assert relative(weight.hessian(weight.w0, strategy="difference").dense(), exact(weight)) < 1e-5


def scripted():
    return torch.jit.script(plain())


def traced():
    return nn.Sequential(torch.jit.trace(plain(), X))


def lazy():
    return nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))


def meta():
    with torch.device("meta"):
        return plain()


def uncopyable():
    model = plain()
    model.handle = (i for i in range(3))
    return model


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated", "ignore:.*not supported in Python 3.14")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (scripted, "scripted or traced"),
        (traced, "scripted or traced.*: 0"),
        (lazy, "lazy ones: 0.weight, 0.bias. Run the module once"),
        (meta, "meta device: 0.weight"),
        (uncopyable, "cannot be copied: TypeError"),
        (lambda: F.relu, "expected a torch.nn.Module"),
    ],
)
def test_modules_that_cannot_be_used_are_explained(make, message):
    with pytest.raises(LandscapeError, match=message):
        Objective(make(), mse, (X, Y))


class Pairs(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return {"x": X[i], "scale": 2.0}, Y[i]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


class Noisy(Pairs):
    def __getitem__(self, i):
        return X[i] + torch.randn(4), Y[i]


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(X, Y),
        Stream(),
        DataLoader(TensorDataset(X, Y), batch_size=8),
        DataLoader(TensorDataset(X, Y), batch_size=8, sampler=list(range(N))),
        DataLoader(TensorDataset(X, Y), batch_sampler=[list(range(9)), list(range(9, N))]),
        (X.numpy(), Y.numpy()),
        (X.numpy().astype(">f4"), Y.numpy()),
    ],
)
def test_every_form_of_the_same_data_gives_the_same_numbers(data):
    module = plain()
    state = torch.random.get_rng_state()
    objective, same = Objective(module, mse, data), Objective(module, mse, (X, Y))
    assert torch.equal(objective.per_sample(objective.w0), same.per_sample(same.w0))
    assert objective.fingerprint == same.fingerprint
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True), "shuffles.*RandomSampler"),
        (DataLoader(TensorDataset(X, Y), batch_size=None), "batch_size=None"),
        (Noisy(), "two passes differs"),
        (DataLoader(TensorDataset(X, Y, Y)), "pairs .*list of 3"),
        (TensorDataset(X[:0], Y[:0]), "at least one sample"),
        ((X, ["a"] * N), "list of 31 strings"),
        ((X, np.array(["a"] * N)), "numpy array of <U1"),
        ((X.to_sparse(), Y), "to_dense"),
        ((3.0, None), "same first axis.*no tensor"),
    ],
)
def test_data_without_a_fixed_meaning_is_refused(data, message):
    with pytest.raises(LandscapeError, match=message):
        Objective(plain(), mse, data)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x, scale=1.0, mode="plain", mask=None):
        assert mask is None
        return scale * (self.net(x) if mode == "plain" else self.net(x).tanh())


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["cached", "forward", "compiled"])
def test_numbers_strings_and_none_are_handed_on_whole(strategy):
    inputs = {"x": X, "scale": 2.0, "mode": "tanh", "mask": None}
    objective = Objective(Scaled(), lambda y, _: y[:, 0] ** 2, (inputs, None), chunk=8)
    again = Objective(plain(), lambda y, _: (2 * y[:, 0].tanh()) ** 2, (X, None))
    w = objective.w0
    assert relative(objective.hessian(w, strategy=strategy).dense(), again.hessian(w).dense()) < 1e-12
    other = Objective(Scaled(), lambda y, _: y[:, 0] ** 2, ({**inputs, "scale": 3.0}, None))
    assert other.fingerprint != objective.fingerprint


def test_a_dataset_of_dicts():
    """default_collate makes a tensor of the number that every sample has."""
    objective = Objective(Scaled(), mse, DataLoader(Pairs(), collate_fn=lambda b: ({"x": X[:4]}, Y[:4]), batch_size=N))
    assert objective.n_samples == 4


def test_errors_of_the_module_are_explained():
    with pytest.raises(LandscapeError, match=r"cannot be evaluated on 31 samples in torch.float64: RuntimeError: mat1"):
        Objective(nn.Linear(5, 1), mse, (X, Y))


def padded(y, t):
    keep = t != -100
    return F.cross_entropy(y.transpose(1, 2), t, ignore_index=-100, reduction="none").sum(1) / keep.sum(1)


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_loss_that_is_not_finite_is_refused_by_every_probe(chunk):
    torch.random.manual_seed(0)
    tokens = torch.randint(0, 11, (6, 9))
    targets = tokens.clone()
    targets[5] = -100
    model = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 11))
    objective = Objective(model, padded, (tokens, targets), chunk=chunk)
    w = objective.w0
    asked = {
        "spectrum": lambda: spectrum(objective, w, seed=0, k=2),
        "dense": lambda: spectrum(objective, w, seed=0, which="all"),
        "density": lambda: density(objective, w, seed=0, vectors=2, quad=3),
        "samples": lambda: samples(objective, w),
        "surface": lambda: surface(objective, w, seed=0, directions="random", points=3),
        "valley": lambda: valley(objective, w, seed=0, top=0, bottom=0, random=1, gradient=False),
        "gradient": lambda: objective.grad(w),
        "ggn": lambda: objective.ggn(w),
    }
    for name, ask in asked.items():
        with pytest.raises(LandscapeError, match=r"expected a finite loss.*1 of 6 samples, of index 5 \(nan\)"):
            pytest.fail(f"{name} gave {ask()}")
    infinite = Objective(nn.Linear(4, 1), lambda y, t: mse(y, t) + float("inf"), (X, Y))
    with pytest.raises(LandscapeError, match=r"31 of 31 samples, of index 0 \(inf\)"):
        spectrum(infinite, infinite.w0, seed=0, k=1)


def test_a_sum_that_overflows_is_refused():
    objective = Objective(nn.Linear(4, 1), lambda y, t: mse(y, t) + 3e38, (X, Y), dtype=torch.float32)
    with pytest.raises(LandscapeError, match="finite but their sum is not"):
        objective.grad(objective.w0)
