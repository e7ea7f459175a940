"""The practical model: GPT-2-style blocks applied in a loop, with the embedded input added before every pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.models.recursion import Recursion

__all__ = ["GPT", "Adapted", "Block", "GPTConfig", "LoopedBlocks"]

_STD = 0.02
"""Standard deviation of initial weights, as in GPT-2."""


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Settings of the practical model.

    Attributes:
        width: d, the embedding dimension.
        heads: attention heads; d must be a multiple.
        loops: how often the stack of layers is applied (T); weights are shared between loops. With `per_length` the
            largest number of loops.
        layers: untied blocks within one loop (L).
        per_length: every sequence gets the number of loops that the task's rule says, `loops` at most; its state stays
            as it is from then on. One loop, as in `single`, stays one.
        positions: add a learned embedding of the position; the model then takes no longer input than the task's.
        mlp_ratio: width of the MLP in units of d.
    """

    name: str = "gpt"
    width: int = 64
    heads: int = 4
    loops: int = 1
    layers: int = 1
    per_length: bool = False
    positions: bool = False
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for field in ("width", "heads", "loops", "layers", "mlp_ratio"):
            if getattr(self, field) < 1:
                raise ValueError(f"expected model.{field} >= 1, found {getattr(self, field)}.")
        if self.width % self.heads:
            raise ValueError(
                f"expected model.width to be a multiple of model.heads, found {self.width} and {self.heads}."
            )


@dataclass(frozen=True, eq=False)
class Adapted:
    """What stopping by itself gave.

    Attributes:
        logits: (N, n, V) of every sequence after its last loop.
        loops: (N,) number of loops used.
        change: (N,) nats, the last change of the output distribution; NaN after a single loop.
        converged: (N,) whether the change fell below the threshold; False means that the loops ran out.
    """

    logits: Tensor
    loops: Tensor
    change: Tensor
    converged: Tensor


class Block(nn.Module):
    r"""One pre-norm block: h <- h + Attention(LN(h)), then h <- h + MLP(LN(h)), MLP(x) = W_2 GELU(W_1 x).

    Attention is causal and has `heads` heads. Weights are stored as (out, in), so that axis 0 counts filters. The two
    projections onto the residual stream start smaller, by 1 / sqrt(2 layers).
    """

    def __init__(self, config: Any, *, generator: torch.Generator) -> None:
        super().__init__()
        d, inner = config.width, config.mlp_ratio * config.width
        small = _STD * (2 * config.layers) ** -0.5
        self.heads = config.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv = _linear(d, 3 * d, std=_STD, generator=generator)
        self.out = _linear(d, d, std=small, generator=generator)
        self.up = _linear(d, inner, std=_STD, generator=generator)
        self.down = _linear(inner, d, std=small, generator=generator)

    def forward(self, h: Tensor) -> Tensor:
        """(N, n, d) -> (N, n, d)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm_1(h)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).flatten(-2))
        out: Tensor = h + self.down(F.gelu(self.up(self.norm_2(h))))
        return out


class LoopedBlocks(nn.Module):
    r"""Blocks in a loop with input injection: h_0 = 0, h_t = LN(blocks(h_{t-1} + E_0)).

    A model of this kind says how E_0 is made (`embed`) and has `blocks`, `norm` and `loops`.

    Attributes:
        weight: share w of passes t = 2..T that counts, 1 unless a ramp of SHIFT is under way; else
            h_t = h_{t-1} + w (LN(blocks(h_{t-1} + E_0)) - h_{t-1}).
    """

    loops: int
    blocks: nn.Sequential
    norm: nn.LayerNorm

    def __init__(self) -> None:
        super().__init__()
        self.weight = 1.0

    def embed(self, inputs: Tensor) -> Tensor:
        """The embedded input E_0, (N, n, d)."""
        raise NotImplementedError

    def states(self, inputs: Tensor) -> Iterator[Tensor]:
        """The state after every pass, h_1 .. h_T, each (N, n, d); all samples get the model's number of loops."""
        E = self.embed(inputs)
        yield (h := self.first(E))
        for _ in range(1, self.loops):
            yield (h := self.step(h, E))

    def passes(self, inputs: Tensor) -> Recursion:
        """The passes at some inputs, from h_0 = 0 on; what is read off a state is the state."""
        E = self.embed(inputs)
        return Recursion(torch.zeros_like(E), lambda h, t: self.first(E) if t == 1 else self.step(h, E), lambda h: h)

    def first(self, E: Tensor) -> Tensor:
        """The first pass: LN(blocks(E_0)), which always counts whole."""
        out: Tensor = self.norm(self.blocks(torch.zeros_like(E) + E))
        return out

    def step(self, h: Tensor, E: Tensor) -> Tensor:
        """One of the passes 2..T: LN(blocks(h + E_0)), or the share of it that counts."""
        after: Tensor = self.norm(self.blocks(h + E))
        return after if self.weight == 1 else h + self.weight * (after - h)


class GPT(LoopedBlocks):
    r"""Blocks in a loop with input injection: h_0 = 0, h_t = LN(blocks(h_{t-1} + E_0)), logits = h_T W_h.

    E_0 is the token embedding, with a position embedding if asked for; the final norm is inside the loop. Single,
    looped and stacked differ only in (loops, layers): (1, L), (T, L), (1, T L). Single and looped have the same
    parameter vector. Initial weights are normal with standard deviation 0.02 and biases 0, as in GPT-2; the head is not
    tied to the embedding.

    Args:
        config: see `GPTConfig`.
        vocabulary: number of tokens V.
        length: longest input n, needed for positions only.
        generator: source of the initial weights; the global random state is not used.

    Source:
        Fan, Du, Ramchandran, Lee, Looped transformers for length generalization (arXiv 2409.15647).

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> model = GPT(GPTConfig(width=8, heads=2, loops=3), vocabulary=16, length=5, generator=g)
        >>> model(torch.zeros(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, config: GPTConfig, *, vocabulary: int, length: int, generator: torch.Generator) -> None:
        super().__init__()
        d = config.width
        self.loops, self.per_length = config.loops, config.per_length
        self.length = length if config.positions else None
        self.embedding = nn.Parameter(_normal(vocabulary, d, std=_STD, generator=generator))
        if config.positions:
            self.position = nn.Parameter(_normal(length, d, std=_STD, generator=generator))
        self.blocks = nn.Sequential(*(Block(config, generator=generator) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Parameter(_normal(vocabulary, d, std=_STD, generator=generator))

    def forward(self, tokens: Tensor, loops: Tensor | None = None) -> Tensor:
        """Tokens (N, n) -> next-token logits (N, n, V).

        `loops` (N,), for each sequence, at least 1 and cut at the model's number: a sequence keeps its state after its
        own last loop, and costs nothing from then on. None gives all of them the model's number.
        """
        E = self.embed(tokens)
        h = self.first(E)
        most = self.loops if loops is None else min(self.loops, int(loops.max()))
        for t in range(1, most):
            if loops is None or bool((loops > t).all()):
                h = self.step(h, E)
            else:
                going = (loops > t).nonzero()[:, 0]
                h = h.index_copy(0, going, self.step(h[going], E[going]))
        return self.decode(h)

    def decode(self, h: Tensor) -> Tensor:
        """The logits of a state, (N, n, d) -> (N, n, V)."""
        return F.linear(h, self.head)

    def recursion(self, tokens: Tensor, loops: Tensor | None = None) -> Recursion:
        """The passes at some tokens (N, n), as many as one asks for; `loops` as in `forward`."""
        own = torch.full((len(tokens),), self.loops) if loops is None else loops.clamp(max=self.loops)
        return self.passes(tokens)._replace(readout=self.decode, loops=own)

    @torch.no_grad()
    def adaptive(self, tokens: Tensor, *, max_loops: int, threshold: float, scored: Tensor | None = None) -> Adapted:
        r"""Loop every sequence until its output distribution stops changing, `max_loops` at most.

        The change of a sequence at loop t >= 2 is max_i KL(p_t(. | i) || p_{t-1}(. | i)) in nats over the positions i;
        it stops at the first loop where that is below `threshold`.

        Args:
            tokens: (N, n).
            max_loops: may exceed the number that the model was trained with.
            threshold: nats, positive.
            scored: (N, n) true at the positions that count; None counts all.

        Raises:
            ValueError: for a threshold or a number of loops that is not positive.

        Source:
            Definition of this project.
        """
        if max_loops < 1 or not threshold > 0:
            raise ValueError(f"expected max_loops >= 1 and threshold > 0, found {max_loops} and {threshold}.")
        E = self.embed(tokens)
        h = self.first(E)
        counts = torch.ones(len(tokens), dtype=torch.int64, device=tokens.device)
        change = torch.full((len(tokens),), torch.nan, dtype=E.dtype, device=tokens.device)
        converged = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        for _ in range(1, max_loops):
            going = (~converged).nonzero()[:, 0]
            if not len(going):
                break
            new = self.step(h[going], E[going])
            q, p = (self.decode(x).log_softmax(-1) for x in (h[going], new))
            moved = (p.exp() * (p - q)).sum(-1)
            if scored is not None:
                moved = moved.where(scored[going], 0.0)
            h[going], change[going] = new, moved.amax(-1)
            counts[going] += 1
            converged[going] = change[going] < threshold
        return Adapted(self.decode(h), counts, change, converged)

    def embed(self, inputs: Tensor) -> Tensor:
        """The embedded input E_0, (N, n) -> (N, n, d)."""
        n = inputs.shape[-1]
        E = F.embedding(inputs, self.embedding)
        if self.length is None:
            return E
        if n > self.length:
            raise ValueError(f"expected at most {self.length} tokens (the model's length), found {n}.")
        return E + self.position[:n]


def _normal(*shape: int, std: float, generator: torch.Generator) -> Tensor:
    return torch.empty(*shape).normal_(0.0, std, generator=generator)


def _linear(inputs: int, outputs: int, *, std: float, generator: torch.Generator) -> nn.Linear:
    # Empty, then filled: torch's own initialisation would draw from the global random state.
    linear: nn.Linear = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        linear.weight.copy_(_normal(outputs, inputs, std=std, generator=generator))
        linear.bias.zero_()
    return linear
