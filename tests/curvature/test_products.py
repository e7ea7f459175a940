"""Products by kept graphs: what is kept is given back."""

import gc

import pytest
import torch

from landscape.curvature.products import hessian_product


def graphs():
    """Tensors in autograd graphs that are alive."""
    gc.collect()
    return sum(isinstance(x, torch.Tensor) and x.grad_fn is not None for x in gc.get_objects())


def term(w):
    return (torch.softmax(w, 0).exp() * w.sin()).sum()  # softmax and exp keep what they give


@pytest.mark.filterwarnings("ignore:.*torch.distributed.reduce_op.*:FutureWarning")  # looked at as all objects are
@pytest.mark.parametrize("memory", [0, 2**30], ids=["rebuilt", "kept"])
def test_nothing_stays_of_a_product_that_is_gone(memory):
    w = torch.linspace(-1.0, 1.0, 7, dtype=torch.float64)
    expected = torch.func.hessian(term)(w) @ w
    before = graphs()
    for _ in range(3):
        torch.testing.assert_close(hessian_product([term], w, memory=memory)(w), expected)
    assert graphs() == before
