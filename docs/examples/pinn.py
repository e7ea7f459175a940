"""A physics-informed network: u'' = -pi^2 sin(pi x) on [0, 1] with u(0) = u(1) = 0, derivatives inside `forward`.

python pinn.py && landscape probe runs/pinn && landscape plot runs/pinn
"""

import math
import sys

import torch
from torch import nn

import landscape


class Residual(nn.Module):
    """What is wrong with u: of the equation inside, of the value at the ends."""

    def __init__(self):
        super().__init__()
        self.u = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x, inside):
        x = x.detach().requires_grad_(True)
        u = self.u(x)
        (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        return torch.where(inside, second + math.pi**2 * torch.sin(math.pi * x), 10 * u)[:, 0]


def points(n=62):
    x = torch.cat([torch.linspace(0.01, 0.99, n), torch.tensor([0.0, 1.0])])[:, None]
    return x, torch.arange(n + 2)[:, None] < n


def model():
    torch.manual_seed(0)
    return Residual()


def squared(residual, _):
    return residual**2


def objective():
    return model(), squared, (points(), None)


def main(steps=1000):
    net, inputs = model(), points()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    with landscape.record("runs/pinn", net, optimizer, objective=objective, config={"seed": 0}) as rec:
        for step in range(steps + 1):
            loss = squared(net(*inputs), None).mean()
            rec.save(step, loss=loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
