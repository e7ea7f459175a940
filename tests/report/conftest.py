"""A small network for the tests of reports."""

import pytest
import torch

from landscape import Objective


@pytest.fixture(scope="session")
def objective():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    data = (torch.randn(21, 3), torch.randn(21, 1))
    return Objective(model, lambda y, t: ((y - t) ** 2).mean(1), data)
