"""A convolutional network with batch normalisation on handwritten digits, trained by its own loop.

python digits.py && landscape probe runs/digits && landscape plot runs/digits
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import landscape


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(72, 10),
    )  # fmt: skip


def digits():
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)


def objective(split="probe"):
    """What is looked at: the model in evaluation mode, one loss per sample, a fixed set of samples."""
    x, y = digits()
    part = slice(0, 500) if split == "probe" else slice(1500, None)
    return model().eval(), nn.CrossEntropyLoss(reduction="none"), (x[part], y[part])


def main(steps=400):
    net, (x, y) = model().train(), digits()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(0)
    with landscape.record("runs/digits", net, optimizer, objective=objective, config={"arch": "cnn", "seed": 0}) as rec:
        for step in range(steps + 1):
            batch = torch.randint(1500, (64,), generator=order)
            loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
            rec.save(step, loss=loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
