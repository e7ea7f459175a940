"""The toy model of the paper's section 3: causal attention blocks without MLP or normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Attention", "AttentionConfig", "AttentionModel"]


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Settings of the toy attention model.

    Attributes:
        width: d, the embedding dimension.
        attention: "softmax" or "linear".
        loops: how often the stack of layers is applied (T); weights are shared between loops.
        layers: number of untied attention layers within one loop.
    """

    name: str = "attention"
    width: int = 32
    attention: str = "softmax"
    loops: int = 1
    layers: int = 1

    def __post_init__(self) -> None:
        if self.attention not in ("softmax", "linear"):
            raise ValueError(f"expected model.attention 'softmax' or 'linear', found {self.attention!r}.")
        for field in ("width", "loops", "layers"):
            if getattr(self, field) < 1:
                raise ValueError(f"expected model.{field} >= 1, found {getattr(self, field)}.")


class Attention(nn.Module):
    r"""One residual update E <- E + A(E) E W_V with causal attention A.

    With Q = E W_Q, K = E W_K and position i = 1..n:
    `softmax`: A_ij = softmax_j(Q_i . K_j / sqrt(d)); `linear`: A_ij = Q_i . K_j / (i sqrt(d)); both for j <= i.
    Weights are stored as (out, in), so that axis 0 counts filters.
    """

    def __init__(self, config: AttentionConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        d = config.width
        self.kind = config.attention
        self.W_Q, self.W_K, self.W_V = (_normal(d, d, std=d**-0.5, generator=generator) for _ in range(3))

    def weights(self, E: Tensor) -> Tensor:
        """The attention matrix A(E), (N, n, d) -> (N, n, n)."""
        n, d = E.shape[-2:]
        scores = F.linear(E, self.W_Q) @ F.linear(E, self.W_K).transpose(-2, -1) / math.sqrt(d)
        causal = torch.ones(n, n, dtype=torch.bool, device=E.device).tril()
        if self.kind == "softmax":
            return scores.masked_fill(~causal, -math.inf).softmax(-1)
        position = torch.arange(1, n + 1, dtype=E.dtype, device=E.device)
        return scores.masked_fill(~causal, 0.0) / position[:, None]

    def update(self, E: Tensor, A: Tensor) -> Tensor:
        """E + A E W_V for given attention matrices A (N, n, n)."""
        return E + A @ F.linear(E, self.W_V)

    def forward(self, E: Tensor) -> Tensor:
        """(N, n, d) -> (N, n, d)."""
        return self.update(E, self.weights(E))

    def forms(self) -> dict[str, Tensor]:
        """The square matrices (d, d) of the layer: the form in the attention scores, E W_Q' W_K E', and W_V."""
        return {"W_Q'W_K": self.W_Q.T @ self.W_K, "W_V": self.W_V}


class AttentionModel(nn.Module):
    """Token and position embedding, `loops` passes through `layers` attention layers, linear head.

    Single, looped and stacked differ only in (loops, layers): (1, 1), (T, 1) and (1, T). Single and looped have the
    same parameter vector. Initial weights are normal with standard deviation 0.5 (embeddings), d^(-1/2) (attention) and
    0.5 d^(-1/2) (head). The architectures do not start at the same loss: loops amplify.

    Args:
        config: see `AttentionConfig`.
        vocabulary: number of tokens V.
        length: longest input n.
        generator: source of the initial weights; the global random state is not used.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> model = AttentionModel(AttentionConfig(width=8, loops=3), vocabulary=16, length=5, generator=g)
        >>> model(torch.zeros(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, config: AttentionConfig, *, vocabulary: int, length: int, generator: torch.Generator) -> None:
        super().__init__()
        d = config.width
        self.loops = config.loops
        self.length = length
        self.embedding = _normal(vocabulary, d, std=0.5, generator=generator)
        self.position = _normal(length, d, std=0.5, generator=generator)
        self.blocks = nn.ModuleList(Attention(config, generator=generator) for _ in range(config.layers))
        self.head = _normal(vocabulary, d, std=0.5 * d**-0.5, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, n) -> next-token logits (N, n, V)."""
        E = self._embedded(tokens)
        for _ in range(self.loops):
            for block in self.blocks:
                E = block(E)
        return F.linear(E, self.head)

    def attention(self, tokens: Tensor) -> Tensor:
        """Attention matrices of every pass through every layer, in order, (loops x layers, N, n, n)."""
        E, found = self._embedded(tokens), []
        for _ in range(self.loops):
            for block in self.blocks:
                A = block.weights(E)  # type: ignore[operator]
                E = block.update(E, A)  # type: ignore[operator]
                found.append(A)
        return torch.stack(found)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """(N, n) -> (N, n, d)."""
        n = tokens.shape[-1]
        if n > self.length:
            raise ValueError(f"expected at most {self.length} tokens (the model's length), found {n}.")
        return F.embedding(tokens, self.embedding) + self.position[:n]


def _normal(*shape: int, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape).normal_(0.0, std, generator=generator))
