"""The toy model of the paper's section 3: causal attention blocks without MLP, in a loop of one of several kinds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.models.recursion import Recursion

__all__ = ["Attention", "AttentionConfig", "AttentionModel"]


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Settings of the toy attention model.

    Attributes:
        width: d, the embedding dimension.
        attention: "softmax" or "linear".
        loops: how often the stack of layers is applied (T); weights are shared between loops.
        layers: number of untied attention layers within one loop.
        norm: layer norm over the embedding axis, without parameters: "none"; "pre" of what a layer looks at,
            E + f(LN(E)); "post" of what it leaves, LN(E + f(E)).
        scale: how much of a layer's f, or of a pass, is added. 1: all of it. "1/T": f / T with T the number of layers
            that the input goes through, loops x layers, so that single is as it was. "learned": passes 2..T count with
            one weight g for all of them, a parameter that starts at 0: h_t = h_(t-1) + g (pass(h_(t-1)) - h_(t-1)).
        inject: add the embedded input before every pass: h_t = pass(h_(t-1) + E_0) with h_0 = 0.
    """

    name: str = "attention"
    width: int = 32
    attention: str = "softmax"
    loops: int = 1
    layers: int = 1
    norm: Literal["none", "pre", "post"] = "none"
    scale: Literal[1, "1/T", "learned"] = 1
    inject: bool = False

    def __post_init__(self) -> None:
        if self.attention not in ("softmax", "linear"):
            raise ValueError(f"expected model.attention 'softmax' or 'linear', found {self.attention!r}.")
        if self.norm not in ("none", "pre", "post"):
            raise ValueError(f"expected model.norm 'none', 'pre' or 'post', found {self.norm!r}.")
        if self.scale not in (1, "1/T", "learned") or isinstance(self.scale, bool):
            raise ValueError(f"expected model.scale 1, '1/T' or 'learned', found {self.scale!r}.")
        for field in ("width", "loops", "layers"):
            if getattr(self, field) < 1:
                raise ValueError(f"expected model.{field} >= 1, found {getattr(self, field)}.")


class Attention(nn.Module):
    r"""One residual update E <- E + c f(E), f(E) = A(E) E W_V, with causal attention A.

    With Q = E W_Q, K = E W_K and position i = 1..n:
    `softmax`: A_ij = softmax_j(Q_i . K_j / sqrt(d)); `linear`: A_ij = Q_i . K_j / (i sqrt(d)); both for j <= i.
    `norm` pre: E + c f(LN(E)); post: LN(E + c f(E)). c is 1, or 1 / (loops x layers) with `scale` "1/T".
    Weights are stored as (out, in), so that axis 0 counts filters.
    """

    def __init__(self, config: AttentionConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        d = config.width
        self.kind, self.norm = config.attention, config.norm
        self.share = 1 / (config.loops * config.layers) if config.scale == "1/T" else 1
        self.W_Q, self.W_K, self.W_V = (_normal(d, d, std=d**-0.5, generator=generator) for _ in range(3))

    def weights(self, E: Tensor) -> Tensor:
        """The attention matrix A(E), (N, n, d) -> (N, n, n)."""
        n, d = E.shape[-2:]
        E = _norm(E) if self.norm == "pre" else E
        scores = F.linear(E, self.W_Q) @ F.linear(E, self.W_K).transpose(-2, -1) / math.sqrt(d)
        causal = torch.ones(n, n, dtype=torch.bool, device=E.device).tril()
        if self.kind == "softmax":
            return scores.masked_fill(~causal, -math.inf).softmax(-1)
        position = torch.arange(1, n + 1, dtype=E.dtype, device=E.device)
        return scores.masked_fill(~causal, 0.0) / position[:, None]

    def update(self, E: Tensor, A: Tensor) -> Tensor:
        """What the layer leaves, for given attention matrices A (N, n, n)."""
        added = A @ F.linear(_norm(E) if self.norm == "pre" else E, self.W_V)
        E = E + (added if self.share == 1 else self.share * added)
        return _norm(E) if self.norm == "post" else E

    def forward(self, E: Tensor) -> Tensor:
        """(N, n, d) -> (N, n, d)."""
        return self.update(E, self.weights(E))

    def forms(self) -> dict[str, Tensor]:
        """The square matrices (d, d) of the layer: the form in the attention scores, E W_Q' W_K E', and W_V."""
        return {"W_Q'W_K": self.W_Q.T @ self.W_K, "W_V": self.W_V}


class AttentionModel(nn.Module):
    """Token and position embedding, `loops` passes through `layers` attention layers, linear head.

    Single, looped and stacked differ only in (loops, layers): (1, 1), (T, 1) and (1, T). Single and looped have the
    same parameter vector, also with a learned scale, whose weight has no effect in single. Initial weights are normal
    with standard deviation 0.5 (embeddings), d^(-1/2) (attention) and 0.5 d^(-1/2) (head). The architectures do not
    start at the same loss: loops amplify.

    h_1 = pass(E_0). Of passes t = 2..T only a share w counts, h_t = h_(t-1) + w (pass(h_(t-1)) - h_(t-1)), so that the
    model with w = 0 is the single one exactly: w is `weight`, times the learned scale g if there is one. Without norm
    and injection, and with one layer, that is h_(t-1) + w f(h_(t-1)).

    Args:
        config: see `AttentionConfig`.
        vocabulary: number of tokens V.
        length: longest input n.
        generator: source of the initial weights; the global random state is not used.

    Attributes:
        weight: share of passes 2..T that counts, 1 unless a ramp of SHIFT is under way.

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
        self.config = config
        self.loops = config.loops
        self.length = length
        self.weight = 1.0
        self.embedding = _normal(vocabulary, d, std=0.5, generator=generator)
        self.position = _normal(length, d, std=0.5, generator=generator)
        self.blocks = nn.ModuleList(Attention(config, generator=generator) for _ in range(config.layers))
        self.head = _normal(vocabulary, d, std=0.5 * d**-0.5, generator=generator)
        if config.scale == "learned":
            self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, n) -> next-token logits (N, n, V)."""
        for h in self.states(tokens):  # noqa: B007
            pass
        return self.decode(h)

    def states(self, tokens: Tensor) -> Iterator[Tensor]:
        """The state after every pass, h_1 .. h_T, each (N, n, d)."""
        E = self.embed(tokens)
        yield (h := self._layers(E))
        for _ in range(1, self.loops):
            yield (h := self.step(h, E))

    def step(self, h: Tensor, E: Tensor) -> Tensor:
        """One of the passes 2..T: h_(t-1) and the embedded input (N, n, d) -> h_t."""
        return self._counted(h, self._layers(self._entry(h, E)))

    def recursion(self, tokens: Tensor) -> Recursion:
        """The passes at some tokens (N, n) as many as one asks for, from E_0 on, or from 0 where that is injected."""
        E = self.embed(tokens)
        return Recursion(
            torch.zeros_like(E) if self.config.inject else E,
            lambda h, t: self._layers(E) if t == 1 else self.step(h, E),
            self.decode,
            torch.full((len(tokens),), self.loops),
        )

    def attention(self, tokens: Tensor) -> Tensor:
        """Attention matrices of every pass through every layer, in order, (loops x layers, N, n, n)."""
        E, found = self.embed(tokens), list[Tensor]()
        h = self._layers(E, found)
        for _ in range(1, self.loops):
            h = self._counted(h, self._layers(self._entry(h, E), found))
        return torch.stack(found)

    def embed(self, tokens: Tensor) -> Tensor:
        """The embedded input E_0, (N, n) -> (N, n, d)."""
        n = tokens.shape[-1]
        if n > self.length:
            raise ValueError(f"expected at most {self.length} tokens (the model's length), found {n}.")
        return F.embedding(tokens, self.embedding) + self.position[:n]

    def decode(self, h: Tensor) -> Tensor:
        """The logits of a state, (N, n, d) -> (N, n, V)."""
        return F.linear(h, self.head)

    def beyond_plain(self) -> list[str]:
        """What makes the loop another one than E <- E + f(E), in words; empty for the plain one."""
        c = self.config
        plain = {"norm": "none", "scale": 1, "inject": False}
        found = [f"{name} = {getattr(c, name)}" for name, value in plain.items() if getattr(c, name) != value]
        return found + ([f"passes that count {self.weight:g}"] if self.weight != 1 else [])

    def _layers(self, E: Tensor, found: list[Tensor] | None = None) -> Tensor:
        """One whole pass; its attention matrices are appended to `found`."""
        for block in self.blocks:
            A = block.weights(E)  # type: ignore[operator]
            E = block.update(E, A)  # type: ignore[operator]
            if found is not None:
                found.append(A)
        return E

    def _entry(self, h: Tensor, E: Tensor) -> Tensor:
        return h + E if self.config.inject else h

    def _counted(self, h: Tensor, after: Tensor) -> Tensor:
        """The state after a pass: `after` itself where it counts whole, `h` itself where it does not count."""
        if self.config.scale == "learned":
            return h + self.weight * self.scale * (after - h)
        return after if self.weight == 1 else h + self.weight * (after - h)


def _norm(E: Tensor) -> Tensor:
    return F.layer_norm(E, E.shape[-1:])


def _normal(*shape: int, std: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape).normal_(0.0, std, generator=generator))
