"""The two trained models whose curvature is compared, with their data in one piece and in eight uneven batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape import Objective
from landscape.models import ARCHITECTURES, AttentionConfig, build_model
from landscape.tasks import MarkovConfig, MarkovTask

PROBLEMS = ("toy", "gpt")
LAYOUTS = ("whole", "uneven")
BLOCK_CHUNK = 128
"""Sequences at once where several vectors are multiplied together."""
_UNEVEN = (-3, 0, 3, -5, 2, 6, -6, 3)

Batch = tuple[Tensor, Tensor]


class MeanLoss(nn.Module):
    """The mean over sequences, in the dress that curvlinops wants: a module with a `reduction`."""

    reduction = "mean"

    def __init__(self, per_sample: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self._per_sample = per_sample

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs and targets -> a number."""
        return self._per_sample(outputs, targets).mean()


class LoopedGPT(nn.Module):
    """One pre-norm transformer block (causal attention, MLP of 4 d) applied `loops` times, as many would write it."""

    def __init__(self, *, width: int, heads: int, loops: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.heads, self.loops = heads, loops
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(length, width).normal_(0.0, 0.1))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, n) -> next-token logits (N, n, V)."""
        E = self.embedding(tokens) + self.position[: tokens.shape[-1]]
        for _ in range(self.loops):
            E = E + self._attend(self.norms[0](E))
            E = E + self.down(F.gelu(self.up(self.norms[1](E))))
        logits: Tensor = self.head(self.norms[2](E))
        return logits

    def _attend(self, E: Tensor) -> Tensor:
        # Written out: the fused kernels have no second derivative on every machine, and no library shall suffer.
        n_samples, n, d = E.shape
        parts = self.qkv(E).reshape(n_samples, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(-2, -1) / math.sqrt(d // self.heads)
        causal = torch.ones(n, n, dtype=torch.bool, device=E.device).tril()
        mixed = scores.masked_fill(~causal, -math.inf).softmax(-1) @ parts[2]
        attended: Tensor = self.out(mixed.transpose(1, 2).reshape(n_samples, n, d))
        return attended


@dataclass(frozen=True)
class Work:
    """What is trained and how."""

    width: int
    length: int
    alphabet: int
    n: int
    updates: int
    heads: int = 1
    batch: int = 128
    lr: float = 3e-3
    loops: int = 3


SIZES = {
    "toy": Work(width=32, length=16, alphabet=8, n=512, updates=1500),
    "gpt": Work(width=64, heads=4, length=32, alphabet=32, n=128, updates=400),
}
QUICK = {
    "toy": Work(width=8, length=16, alphabet=8, n=64, updates=60, loops=1),
    "gpt": Work(width=8, heads=2, length=8, alphabet=4, n=64, updates=60, loops=2),
}


@dataclass
class Problem:
    """One loss in one layout of its data, in the forms that the candidates want it."""

    name: str
    layout: str
    module: nn.Module
    per_sample: Callable[[Tensor, Tensor], Tensor]
    loss: MeanLoss
    objective: Objective
    blocked: Objective  # the same in chunks that suit blocks of vectors
    batches: list[Batch]  # what the peers get
    even: list[Batch]  # for peers that cannot do uneven batches
    about: dict[str, Any]
    ready: dict[str, float] = field(default_factory=dict)  # first seconds of each of our strategies: compiling

    @property
    def n(self) -> int:
        """Sequences in all."""
        return sum(len(x) for x, _ in self.batches)

    @property
    def data(self) -> Batch:
        """All sequences in one piece."""
        x, t = (torch.cat([b[i] for b in self.batches]) for i in range(2))
        return x, t


@dataclass
class Trained:
    """A trained model with the data on which its curvature is asked."""

    name: str
    work: Work
    module: nn.Module
    task: MarkovTask
    loss_before: float
    loss_after: float


def trained(name: str, *, quick: bool) -> Trained:
    """The model after as many updates of Adam on minibatches as its row says; the same every time."""
    work = (QUICK if quick else SIZES)[name]
    task = MarkovTask(MarkovConfig(alphabet=work.alphabet, length=work.length, n_train=4096, n_probe=work.n, n_test=2))
    module = _module(name, work, task.vocabulary)
    loss = MeanLoss(task.per_sample_loss)
    probe = task.split("probe")
    before = float(loss(module(probe.inputs), probe.targets).detach())
    optimiser = torch.optim.Adam(module.parameters(), lr=work.lr)
    for step in range(work.updates):
        inputs, targets = task.batch(step, work.batch, seed=0)
        optimiser.zero_grad()
        loss(module(inputs), targets).backward()
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    module.eval()
    after = float(loss(module(probe.inputs), probe.targets).detach())
    return Trained(name, work, module, task, before, after)


def _module(name: str, work: Work, vocabulary: int) -> nn.Module:
    if name == "toy":
        config = AttentionConfig(width=work.width, **ARCHITECTURES["looped"](work.loops))
        return build_model(config, vocabulary=vocabulary, length=work.length, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LoopedGPT(
            width=work.width, heads=work.heads, loops=work.loops, vocabulary=vocabulary, length=work.length
        )


def problem(model: Trained, layout: str) -> Problem:
    """The trained model with its data in one piece, or in eight batches of which no two need be equal.

    Our own chunks are equal but for the last: `chunk` does not divide N and gives eight chunks too.
    """
    split, n = model.task.split("probe"), model.work.n
    data = (split.inputs, split.targets)
    sizes = [n] if layout == "whole" else [n // 8 + extra for extra in _UNEVEN]
    chunk = None if layout == "whole" else n // 8 + 1
    per_sample = model.task.per_sample_loss
    objective, blocked = (
        Objective(model.module, per_sample, data, dtype=torch.float32, chunk=c)
        for c in (chunk, min(chunk or n, BLOCK_CHUNK))
    )
    about = {
        "name": model.name,
        "layout": layout,
        "parameters": objective.size,
        "sequences": n,
        "tokens": model.work.length,
        "batches": sizes,
        "our_chunks": [c.stop - c.start for c in objective.chunks.slices()],
        "dtype": "float32",
        "updates": model.work.updates,
        "loss_before": model.loss_before,
        "loss_after": model.loss_after,
    }
    pieces, even = (list(zip(*(x.split(s) for x in data), strict=True)) for s in (sizes, n // len(sizes)))
    return Problem(
        model.name, layout, model.module, per_sample, MeanLoss(per_sample), objective, blocked, pieces, even, about
    )
