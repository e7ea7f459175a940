"""The picture of the README: the largest eigenvalues of two networks that learned the same sine."""

from pathlib import Path

import torch

import landscape
from landscape.probes import spectrum

X = torch.linspace(-3, 3, 64)[:, None]
Y = torch.sin(X)


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((outputs - targets) ** 2).mean(1)


def train(width: int) -> landscape.Objective:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        squared(model(X), Y).mean().backward()
        optimizer.step()
    return landscape.Objective(model, squared, (X, Y))


def main(path: Path) -> None:
    objectives = {f"width {width}": train(width) for width in (8, 32)}
    answers = {name: spectrum(o, o.w0, seed=0, k=10) for name, o in objectives.items()}
    landscape.plot(answers).savefig(path, dpi=150)


if __name__ == "__main__":
    main(Path(__file__).parent / "readme-plot.png")
