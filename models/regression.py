"""A looped transformer that predicts numbers from vectors: the practical model's loop, read in and out linearly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.models.gpt import Block, LoopedBlocks
from landscape.models.recursion import Recursion

__all__ = ["Regressor", "RegressorConfig"]


@dataclass(frozen=True, kw_only=True)
class RegressorConfig:
    """Settings of the model for in-context regression.

    Attributes:
        width: d, the embedding dimension.
        heads: attention heads; d must be a multiple.
        loops: how often the stack of layers is applied (T); weights are shared between loops.
        layers: untied blocks within one loop (L).
        window: the predictions of the last so many loops are given to the loss (of all where there are fewer).
        positions: add a learned embedding of the position to the input.
        mlp_ratio: width of the MLP in units of d.
    """

    form: ClassVar[str] = "vectors"
    name: str = "regressor"
    width: int = 64
    heads: int = 4
    loops: int = 1
    layers: int = 1
    window: int = 1
    positions: bool = True
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for field in ("width", "heads", "loops", "layers", "window", "mlp_ratio"):
            if getattr(self, field) < 1:
                raise ValueError(f"expected model.{field} >= 1, found {getattr(self, field)}.")
        if self.width % self.heads:
            raise ValueError(
                f"expected model.width to be a multiple of model.heads, found {self.width} and {self.heads}."
            )


class Regressor(LoopedBlocks):
    r"""Predictions of y_i from (x_1, y_1, .., x_i): h_0 = 0, h_t = LN(blocks(h_{t-1} + E_0)), one number of h_t.

    The prompt is a sequence of vectors x_1, y_1, x_2, y_2, .., x_query, each y in the first coordinate of a vector that
    is 0 otherwise; E_0 = W_in v + position. A prediction is read at every x, linearly. Blocks are GPT-2's, causal, and
    the final norm is inside the loop, as in `GPT`; W_in and the read-out start as PyTorch's linear layers do, the
    rest as in GPT-2.

    Args:
        config: see `RegressorConfig`.
        vocabulary: entries D of an input vector.
        length: longest prompt n in vectors.
        generator: source of the initial weights; the global random state is not used.

    Source:
        Yang, Lee, Nowak, Papailiopoulos, Looped transformers are better at learning learning algorithms (arXiv
        2311.12424).

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> model = Regressor(RegressorConfig(width=8, loops=3, window=2), vocabulary=4, length=5, generator=g)
        >>> model(torch.zeros(6, 5, 4)).shape  # 3 predictions of each of the last 2 loops
        torch.Size([6, 2, 3])
    """

    def __init__(self, config: RegressorConfig, *, vocabulary: int, length: int, generator: torch.Generator) -> None:
        super().__init__()
        d = config.width
        self.loops, self.window, self.length = config.loops, config.window, length
        self.read_in = nn.Parameter(_uniform(d, vocabulary, generator=generator))
        if config.positions:
            self.position = nn.Parameter(torch.empty(length, d).normal_(0.0, 0.02, generator=generator))
        self.blocks = nn.Sequential(*(Block(config, generator=generator) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Parameter(_uniform(1, d, generator=generator))

    def forward(self, vectors: Tensor) -> Tensor:
        """Prompts (N, n, D) -> predictions (N, w, (n + 1) / 2) after each of the last w = min(window, T) loops."""
        read = [self.decode(h) for t, h in enumerate(self.states(vectors)) if t >= self.loops - self.window]
        return torch.stack(read, dim=1)

    def recursion(self, vectors: Tensor) -> Recursion:
        """The passes at some prompts, as many as one asks for; predictions (N, 1, (n + 1) / 2) are those of one pass.

        With a window of several loops no single pass has the model's loss: its own number is then left open.
        """
        own = torch.full((len(vectors),), self.loops) if min(self.window, self.loops) == 1 else None
        return self.passes(vectors)._replace(readout=lambda h: self.decode(h)[:, None], loops=own)

    def embed(self, inputs: Tensor) -> Tensor:
        """The embedded input E_0, (N, n, D) -> (N, n, d)."""
        n = inputs.shape[-2]
        if n > self.length:
            raise ValueError(f"expected at most {self.length} vectors (the model's length), found {n}.")
        E = F.linear(inputs, self.read_in)
        return E + self.position[:n] if hasattr(self, "position") else E

    def decode(self, h: Tensor) -> Tensor:
        """The predictions of a state at every x, (N, n, d) -> (N, (n + 1) / 2)."""
        return F.linear(h[..., ::2, :], self.head)[..., 0]


def _uniform(outputs: int, inputs: int, *, generator: torch.Generator) -> Tensor:
    """PyTorch's initial weights of a linear layer: uniform in +-inputs^(-1/2)."""
    bound: float = inputs**-0.5
    return torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator)
