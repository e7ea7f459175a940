"""One Hessian product of other libraries, each called in its own way on the module of an objective of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from problems import MeanLoss
from torch import Tensor

from landscape import Objective

Ask = Callable[[], Tensor]


def _parts(o: Objective, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    parameters = [p.requires_grad_(True) for p in o.chunks.module.parameters()]
    return parameters, [
        x.reshape_as(p) for x, p in zip(v.split([p.numel() for p in parameters]), parameters, strict=True)
    ]


def _joined(parts: Any) -> Tensor:
    return torch.cat([x.detach().reshape(-1) for x in parts])


def pyhessian(o: Objective, v: Tensor) -> Ask:
    """PyHessian's, with the graph that it keeps of one batch."""
    import pyhessian as package
    from pyhessian.utils import hessian_vector_product

    _, parts = _parts(o, v)
    found = package.hessian(o.chunks.module, MeanLoss(o.chunks.per_sample_loss), data=o.chunks.data, cuda=v.is_cuda)
    return lambda: _joined(hessian_vector_product(found.gradsH, found.params, parts))


def curvlinops(o: Objective, v: Tensor) -> Ask:
    """The operator of curvlinops."""
    from curvlinops import HessianLinearOperator

    loss = MeanLoss(o.chunks.per_sample_loss)
    given = {"check_deterministic": False, "num_data": o.n_samples}
    operator = HessianLinearOperator(o.chunks.module, loss, _parts(o, v)[0], [o.chunks.data], **given)
    return lambda: (operator @ v).detach()


def eigenthings(o: Objective, v: Tensor) -> Ask:
    """The operator of hessian-eigenthings."""
    from hessian_eigenthings import HessianOperator, supervised_loss

    _parts(o, v)
    operator = HessianOperator(o.chunks.module, [o.chunks.data], supervised_loss(MeanLoss(o.chunks.per_sample_loss)))
    return lambda: operator.matvec(v).detach()


PRODUCTS: dict[str, Callable[[Objective, Tensor], Ask]] = {
    "PyHessian": pyhessian,
    "curvlinops": curvlinops,
    "hessian-eigenthings": eigenthings,
}
