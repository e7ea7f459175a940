"""Cut a traced graph into what depends on one of its inputs and what does not."""

from __future__ import annotations

import torch
from torch import fx

__all__ = ["cut"]

_VIEWS = frozenset(
    {
        torch.ops.aten.view,
        torch.ops.aten._unsafe_view,
        torch.ops.aten.reshape,
        torch.ops.aten.unsqueeze,
        torch.ops.aten.squeeze,
        torch.ops.aten.t,
        torch.ops.aten.transpose,
        torch.ops.aten.permute,
        torch.ops.aten.expand,
        torch.ops.aten.slice,
        torch.ops.aten.select,
        torch.ops.aten.detach,
        torch.ops.aten.alias,
    }
)


def cut(graph: fx.GraphModule, *, tangent: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The graph y = f(x_0, .., v, ..) as r = before(x_0, ..) and y = after(*r, v), where v is input number `tangent`.

    The r are all that the part with v needs from the part without: results, inputs, and constants of the graph, so
    that `after` holds no data of its own. Views are made again in `after` rather than passed, so that the compiler
    sees whole tensors and knows which share memory. The graph must not mutate anything.

    Args:
        graph: from `make_fx`, with one tensor as output.
        tangent: the number of the input v.

    Example:
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> graph = make_fx(lambda w, v: w.exp() * v)(torch.zeros(2), torch.ones(2))
        >>> before, after = cut(graph, tangent=1)
        >>> after(*before(torch.zeros(2)), torch.ones(2)).tolist()
        [1.0, 1.0]
    """
    graph.graph.eliminate_dead_code()
    nodes = list(graph.graph.nodes)
    v = [n for n in nodes if n.op == "placeholder"][tangent]
    moving = {v}
    for n in nodes:
        if any(a in moving for a in n.all_input_nodes):
            moving.add(n)
    output = nodes[-1]
    needed = _needed(nodes, moving, output)
    before = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for n in nodes:
        if n not in moving and n is not output:
            copies[n] = before.node_copy(n, lambda a: copies[a])
    before.output(tuple(copies[n] for n in needed))
    before.eliminate_dead_code()
    return fx.GraphModule(graph, before), fx.GraphModule({}, _after(nodes, needed, moving | {output}, v))


def _needed(nodes: list[fx.Node], moving: set[fx.Node], output: fx.Node) -> list[fx.Node]:
    """What the moving part takes from the rest, in order of first use; through views to what they show."""
    needed: dict[fx.Node, None] = {}

    def want(n: fx.Node) -> None:
        if n in moving or n in needed or _made(n):
            return
        if _view(n):
            for a in n.all_input_nodes:
                want(a)
        else:
            needed[n] = None

    for n in nodes:
        if (n in moving or n is output) and n.op != "placeholder":
            for a in n.all_input_nodes:
                want(a)
    return list(needed)


def _after(nodes: list[fx.Node], needed: list[fx.Node], moving: set[fx.Node], v: fx.Node) -> fx.Graph:
    """The moving part, with the views and fresh tensors it uses."""
    after = fx.Graph()
    copies = {n: after.placeholder(f"r{i}") for i, n in enumerate(needed)}
    copies[v] = after.placeholder("v")
    for n in nodes:  # already in an order in which arguments come first
        if n in copies:
            continue
        if n in moving or ((_view(n) or _made(n)) and all(a in copies for a in n.all_input_nodes)):
            copies[n] = after.node_copy(n, lambda a: copies[a])
    after.eliminate_dead_code()
    return after


def _view(n: fx.Node) -> bool:
    return n.op == "call_function" and getattr(n.target, "overloadpacket", None) in _VIEWS


def _made(n: fx.Node) -> bool:
    """Whether a node makes its tensor from nothing, like zeros or arange: cheaper to repeat than to pass."""
    return n.op == "call_function" and not n.all_input_nodes
