"""Products that are recorded on a card are those that were not; on a CPU nothing is recorded."""

import pytest
import torch

from landscape import Objective
from landscape.curvature import replay


def test_on_a_cpu_a_product_stays_as_it_is():
    def product(v):
        return 3 * v

    assert replay.replayed(lambda: product, torch.device("cpu")) is product


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("strategy", ["cached", "forward"])
@pytest.mark.parametrize("chunk", [4, 7])
def test_a_recorded_product_is_that_of_the_cpu(monkeypatch, strategy, chunk):
    monkeypatch.setattr(replay, "LAUNCHING", 0.0)  # whatever it costs
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    data = (torch.randn(11, 3), torch.randn(11, 2))
    on = [
        Objective(model, lambda y, t: ((y - t) ** 4).mean(1), data, device=device, chunk=chunk)
        for device in ("cpu", "cuda")
    ]
    cpu, card = (o.hessian(o.w0, strategy=strategy) for o in on)
    for i in range(replay.TRIALS + 3):
        v = torch.sin(i + torch.arange(cpu.size, dtype=torch.float64))
        torch.testing.assert_close(card.mv(v.cuda()).cpu(), cpu.mv(v), rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_waits_for_the_card_is_computed_anew():
    product = replay.replayed(lambda: lambda v: v * float(v.sum()), torch.device("cuda"))
    for i in range(1, replay.TRIALS + 4):
        v = torch.full((3,), float(i), device="cuda")
        assert product(v).tolist() == [3.0 * i * i] * 3
