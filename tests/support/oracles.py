"""Problems whose answers are known: the first rung of every test."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape import Objective
from landscape.models import ARCHITECTURES, AttentionConfig, build_model
from landscape.tasks import MarkovConfig, MarkovTask


class Quadratic(nn.Module):
    """x -> w (repeated): lets a loss be any function of w and of one number per sample."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), -1)


def function_objective(f, w0: Tensor, *, n: int = 1, **settings) -> Objective:
    """L(w) = f(w) exactly: every one of n samples has the loss f(w); f maps (N, P) to (N,)."""
    data = (torch.zeros(n, 1), torch.zeros(n, 1))
    return Objective(Quadratic(w0), lambda w, _: f(w), data, **settings)


def quadratic(spectrum: Tensor, *, seed: int = 0, offset: float = 0.0, **settings) -> tuple[Objective, Tensor, Tensor]:
    """L(w) = w'Hw / 2 + offset with a chosen spectrum and random eigenvectors; also H and the eigenvectors."""
    P = len(spectrum)
    g = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(P, P, generator=g, dtype=torch.float64))
    H = Q @ torch.diag(spectrum.double()) @ Q.T
    objective = function_objective(
        lambda w: 0.5 * torch.einsum("ni,ij,nj->n", w, H.to(w), w) + offset,
        torch.zeros(P, dtype=torch.float64),
        **settings,
    )
    return objective, H, Q


def least_squares(
    n: int = 61, inputs: int = 5, outputs: int = 3, *, seed: int = 0, **settings
) -> tuple[Objective, Tensor]:
    """Linear model, squared error summed over outputs: H = 2 X'X / N for every output, in any point."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, inputs, generator=g, dtype=torch.float64)
    Y = torch.randn(n, outputs, generator=g, dtype=torch.float64)
    model = nn.Linear(inputs, outputs, bias=False)
    objective = Objective(model, lambda y, t: ((y - t) ** 2).sum(1), (X, Y), **settings)
    return objective, torch.block_diag(*[2 * X.T @ X / n] * outputs)


def logistic(n: int = 61, inputs: int = 4, *, seed: int = 0, **settings) -> tuple[Objective, Tensor]:
    """Logistic regression at w0; its Hessian X' diag(s (1 - s)) X / N in closed form."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, inputs, generator=g, dtype=torch.float64)
    y = (torch.rand(n, generator=g) < 0.5).double()
    model = nn.Linear(inputs, 1, bias=False)

    def loss(z: Tensor, t: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(z[:, 0], t, reduction="none")

    objective = Objective(model, loss, (X, y), **settings)
    s = torch.sigmoid(X @ objective.w0)
    return objective, X.T @ torch.diag(s * (1 - s)) @ X / n


def relative(found: Tensor, true: Tensor) -> float:
    """Largest error relative to the largest entry."""
    return float((found - true).abs().max() / true.abs().max())


def toy(arch="looped", attention="softmax", *, loops=3, **settings):
    """The toy model on 61 sequences, far from a minimum."""
    task = MarkovTask(MarkovConfig(n_train=61, n_probe=61, n_test=2, length=5, alphabet=3))
    shape = ARCHITECTURES[arch](loops)
    model = build_model(AttentionConfig(width=3, attention=attention, **shape), vocabulary=6, length=5, seed=1)
    split = task.split("probe")
    return Objective(model, task.per_sample_loss, (split.inputs, split.targets), **settings)
