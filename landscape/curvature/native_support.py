"""What the native kernel must know of a loss: whether it can compute it, its shape, and its samples in lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.layout import Layout
from landscape.tasks.base import IGNORE, Task, token_loss

__all__ = ["Shape", "grouped", "supported"]

WIDEST = 128
"""Beyond it PyTorch's own products are as fast: at width 256 the kernel gains nothing."""


def supported(
    module: nn.Module,
    per_sample_loss: Callable[[Any, Any], Tensor],
    data: tuple[Any, Any],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    layout: Layout,
) -> str | None:
    """None if the kernel computes exactly this loss, else the reason why not, in words.

    Whether a compiler exists is not looked at; `NativeHessian` says so.

    Args:
        module: the model.
        per_sample_loss: the loss of every sample, ``(outputs, targets) -> (N,)``.
        data: (inputs, targets).
        dtype: floating dtype of the parameters.
        device: where the objective computes.
        layout: the parameters that vary.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> supported(model, torch.nn.MSELoss(), (torch.ones(1, 2), torch.ones(1, 1)),
        ...           dtype=torch.float64, device="cpu", layout=Layout.of(model))
        'the kernel knows AttentionModel only, found Linear'
    """
    from landscape.models.attention import AttentionModel

    if type(module) is not AttentionModel:
        return f"the kernel knows AttentionModel only, found {type(module).__name__}"
    if module.embedding.shape[1] > WIDEST:
        return f"the kernel is made for widths up to {WIDEST}, found {module.embedding.shape[1]}"
    if found := module.beyond_plain():
        return f"the kernel knows the loop E <- E + A E W_V only, found {', '.join(found)}"
    if len({block.kind for block in module.blocks}) != 1:
        return "the kernel knows layers of one kind only, found several"
    if per_sample_loss not in (token_loss, Task.per_sample_loss):
        return "the kernel knows the loss of the tasks only (token_loss)"
    if torch.device(device).type != "cpu":
        return f"the kernel runs on the CPU only, found device {device}"
    if dtype not in (torch.float32, torch.float64):
        return f"the kernel knows float32 and float64 only, found {dtype}"
    if layout.names != tuple(name for name, _ in module.named_parameters()):
        return "the kernel varies all parameters, here some are fixed"
    tokens = [x for x in data if isinstance(x, Tensor) and x.ndim == 2 and x.dtype == torch.int64]
    if len(data) != 2 or len(tokens) != 2 or tokens[0].shape != tokens[1].shape or not tokens[0].numel():
        return "the kernel takes inputs and targets that are int64 tokens of one shape (N, n)"
    if tokens[0].shape[1] > module.length:
        return f"the model takes at most {module.length} tokens, found {tokens[0].shape[1]}"
    vocabulary, scored = len(module.embedding), tokens[1][tokens[1] != IGNORE]
    if any(x.numel() and (int(x.min()) < 0 or int(x.max()) >= vocabulary) for x in (tokens[0], scored)):
        return f"the model knows tokens 0 to {vocabulary - 1}, the data has others"
    return None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the kernel must know of a model."""

    vocabulary: int
    width: int
    length: int
    layers: int
    loops: int
    softmax: bool

    @classmethod
    def of(cls, module: Any) -> Shape:
        """The shape of an AttentionModel."""
        vocabulary, width = module.embedding.shape
        softmax = module.blocks[0].kind == "softmax"
        return cls(
            vocabulary=vocabulary,
            width=width,
            length=module.length,
            layers=len(module.blocks),
            loops=module.loops,
            softmax=softmax,
        )

    def attention_offset(self, layer: int) -> int:
        """Where in w a layer's W_Q begins; W_K and W_V follow."""
        return (2 * self.vocabulary + self.length) * self.width + layer * 3 * self.width**2


def grouped(inputs: Tensor, targets: Tensor, lanes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, targets and weights in groups of W = `lanes` sequences, (groups, n, W).

    The last group is filled up with copies of the last sequence that weigh nothing: another one could overflow alone.
    """
    scored = (targets != IGNORE).to(dtype)
    weight = scored / scored.sum(1, keepdim=True)  # NaN without scored tokens, as the loss
    n = len(inputs)
    index = torch.arange(-(-n // lanes) * lanes).clamp(max=n - 1)
    weight = torch.where((torch.arange(len(index)) < n)[:, None], weight[index], 0.0)

    def lanes_last(x: Tensor) -> Tensor:
        return x.reshape(-1, lanes, x.shape[1]).mT.contiguous()

    return (
        lanes_last(inputs[index].to(torch.int32)),
        lanes_last(targets[index].clamp(min=0).to(torch.int32)),
        lanes_last(weight),
    )
