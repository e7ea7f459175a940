"""A stranger's model, loss and data, as he would write them."""

from __future__ import annotations

import torch
from torch import nn


def model(seed=0):
    """Convolution, batch normalisation and a tied pair of layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 9), nn.Tanh(),
            nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 2),
        )  # fmt: skip
        net[6].weight = net[4].weight
        return net


def data(n=24, seed=1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=g)
    return x, (x.sum(1) > 0).long()


def per_sample_loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def objective(split="probe"):
    return model().eval(), per_sample_loss, data(seed={"probe": 1, "test": 2}[split])


def weighted():
    return model().eval(), per_sample_loss, data(), torch.arange(1, 25)


def unstable():
    return model().eval(), per_sample_loss, data(seed=torch.seed() % 2**31)


def frozen():
    net = model().eval()
    net[1].weight.requires_grad_(False)
    return net, per_sample_loss, data()


def other():
    return nn.Linear(4, 2), per_sample_loss, data()


def train_model(recorder_of, steps=12, every=None):
    """His training loop; `recorder_of` gives the recorder of (model, optimizer)."""
    net = model().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    recorder = recorder_of(net, optimizer)
    x, y = data()
    rows = []
    for step in range(steps + 1):
        loss = per_sample_loss(net(x), y).mean()
        recorder.save(step, loss=loss, accuracy=(net(x).argmax(1) == y).float().mean())
        rows.append({n: t.detach().clone() for n, t in net.state_dict().items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    recorder.close()
    return net, optimizer, rows
