"""What a dry run says before, held against what is used."""

import json

import pytest
import torch

from landscape import LandscapeError, Objective, sweep
from landscape.answers.cost import costs, span_text, total_seconds
from landscape.answers.rates import Rates, measured_rates
from landscape.answers.sweep import plan
from landscape.probes import PROBES
from landscape.probes.base import Counts, Extent


def mse(y, t):
    return ((y - t) ** 2).mean(1)


def trained(model, inputs, targets, loss, steps):
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(inputs), targets).mean().backward()
        optimizer.step()
    return Objective(model, loss, (inputs, targets))


def perceptron(activation, width, steps):
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(6, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 1))
    return trained(model, torch.randn(61, 6), torch.randn(61, 1), mse, steps)


def convolutional(steps):
    torch.manual_seed(1)
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5))
    return trained(
        model,
        torch.randn(61, 1, 8, 8),
        torch.randint(0, 5, (61,)),
        lambda y, t: nn.functional.cross_entropy(y, t, reduction="none"),
        steps,
    )


def linear():
    torch.manual_seed(2)
    return trained(torch.nn.Linear(6, 1), torch.randn(61, 6), torch.randn(61, 1), mse, 5)


MODELS = {
    "linear": linear,
    "tanh at its start": lambda: perceptron(torch.nn.Tanh, 12, 0),
    "relu": lambda: perceptron(torch.nn.ReLU, 24, 200),
    "convolutions": lambda: convolutional(100),
}
# (probe, settings, most that the upper end may be over the lower one where P does not bound both)
ASKED = [
    ("spectrum", {"k": 1}, 12),
    ("spectrum", {"k": 5}, 17),
    ("spectrum", {}, 18),
    ("spectrum", {"k": 3, "which": "bottom"}, 13),
    ("spectrum", {"k": 3, "which": "both"}, 16),
    ("spectrum", {"k": 3, "check_missed": False}, 22),
    ("spectrum", {"k": 3, "which": "both", "max_products": 40}, 2),
    ("spectrum", {"engine": "dense"}, 1),
    ("density", {"vectors": 3, "quad": 20, "trace_products": 12}, 1.2),
    ("valley", {}, 14),
    ("valley", {"top": 2, "bottom": 0, "random": 1}, 11),
    ("valley", {"top": 0, "bottom": 0, "random": 2, "gradient": False, "rises": (1e-3, 1e-2)}, 1),
    ("entropy", {}, 1),
    ("entropy", {"exact_up_to": 0, "vectors": 3, "quad": 20}, 1),
    ("split", {}, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_products_used_lie_in_the_range_told(name):
    objective = MODELS[name]()
    for probe, given, factor in ASKED:
        spec = PROBES[probe]
        if given.get("top", 1) > objective.size or (probe == "valley" and objective.size < 8 and not given):
            continue
        settings = spec.settings(given)
        counts = spec.cost(settings, Extent(size=objective.size))
        seed = {"seed": 0} if spec.random else {}
        ds = spec.function(objective, objective.w0, **seed, **settings)
        dense = counts.dense * objective.size
        low, high = counts.products[0] + dense, counts.products[1] + dense
        used = int(ds.n_products)
        assert low <= used <= high, (probe, given, low, used, high)
        assert high <= factor * low or objective.size < 8, (probe, given, low, high)
        if "n_evaluations" in ds:
            low, high = counts.forwards
            assert low <= int(ds.n_evaluations) <= high + counts.gradients[1], (given, low, int(ds.n_evaluations), high)
            assert high <= 5 * low


def test_probes_of_a_whole_run_tell_their_products(fresh_run):
    for probe, given in (
        ("evolution", {"k": 2}),
        ("evolution", {"k": 2, "exact_up_to": 0, "vectors": 2, "quad": 8}),
        ("hopping", {"n": 6, "k": 2}),
    ):
        steps = fresh_run.steps[[2, 4]].tolist()
        request = plan(PROBES[probe], fresh_run, seed=0, steps=steps, settings=given)
        cost = costs([request])[0]
        used = int(sweep(probe, fresh_run, seed=0, steps=steps, **given).n_products.sum())
        assert cost.products[0] <= used <= cost.products[1], (probe, given, cost.products, used)
    assert cost.seconds[1] == float("inf")  # the updates that are replayed have no time
    assert "updates" in cost.note


def test_a_surface_takes_its_points_and_its_path(fresh_run):
    cost = costs([plan(PROBES["surface"], fresh_run, seed=0, settings={"points": 5})])[0]
    assert cost.forwards == (25 + 2 * len(fresh_run.steps) + 1,) * 2, "a checkpoint, and its place on the plane"
    assert cost.products == (0, 0)


def test_what_is_asked_of_a_surface_beside_its_points_is_counted(fresh_run):
    T = len(fresh_run.steps)
    beside = 2 * T + 1
    for given, low, high, products in (
        ({"directions": "random", "draws": 3, "points": (5, 4)}, 60 + beside, 60 + beside, 0),
        ({"frames": "all", "points": 2}, 4 * (T + 1) + beside, 4 * (T + 1) + beside, 0),
        ({"dimensions": 1, "points": 5, "refine": 1, "directions": "gradient"}, 5 + beside, 9 + beside, 0),
        ({"points": 3, "replay": 2, "replay_from": 0}, 9 + beside + 6, 9 + beside + 6, 0),
        ({"points": 3, "directions": "towards", "target": "@0"}, 9 + beside, 9 + beside, 1),
    ):
        cost = costs([plan(PROBES["surface"], fresh_run, seed=0, settings=given)])[0]
        assert cost.forwards == (low, high), given
        assert (cost.products[1] > 0) == products, given
    cost = costs([plan(PROBES["surface"], fresh_run, seed=0, settings={"points": 3, "span": "walls"})])[0]
    assert cost.forwards[1] > cost.forwards[0] > 9 + beside
    assert cost.products == (2, 2)


def test_only_what_measures_other_models_or_passes_cannot_tell_its_cost():
    """A new probe brings its own `cost`."""
    assert {name for name, probe in PROBES.items() if probe.cost is None} == {"alignment", "length", "loops"}


def test_what_cannot_be_told_is_unknown(run):
    witness = {"engine": "pyhessian", "which": "largest"}
    for probe, given in (("spectrum", witness), ("alignment", {}), ("length", {})):
        cost = costs([plan(PROBES[probe], run, seed=0, settings=given)])[0]
        assert (cost.products, cost.forwards, cost.seconds, cost.memory) == (None, None, None, None)
        assert span_text(cost.seconds, "s") == "unknown"
        assert total_seconds([cost])[1] == float("inf")


def test_what_is_stored_is_not_counted_and_nothing_is_written(fresh_run):
    steps = fresh_run.steps.tolist()
    sweep("spectrum", fresh_run, seed=0, k=2, steps=steps[:3])
    sweep("surface", fresh_run, seed=0, points=3)
    before = {p: p.read_bytes() for p in fresh_run.path.rglob("*") if p.is_file()}
    asked = [
        plan(PROBES["spectrum"], fresh_run, seed=0, settings={"k": 2}),
        plan(PROBES["surface"], fresh_run, seed=0, settings={"points": 3}),
    ]
    spectrum, surface = costs(asked)
    assert (spectrum.stored, spectrum.todo) == (3, len(steps) - 3)
    assert (surface.stored, surface.todo, surface.products) == (1, 0, (0, 0))
    one = PROBES["spectrum"].cost(asked[0].question.options, Extent(size=fresh_run.layout.size)).products
    assert spectrum.products == tuple(spectrum.todo * x for x in one)
    again = costs(asked, recompute=True)
    assert [(c.stored, c.todo) for c in again] == [(0, len(steps)), (0, 1)]
    assert {p: p.read_bytes() for p in fresh_run.path.rglob("*") if p.is_file()} == before


def test_a_hessian_that_several_probes_need_counts_once_at_the_least(run):
    asked = [plan(PROBES[name], run, seed=0, steps=[0, 20]) for name in ("entropy", "split", "force")]
    P = run.layout.size
    assert [c.products for c in costs(asked)] == [(2 * P, 2 * P), (0, 2 * P), (0, 2 * P)]
    assert [c.products for c in costs(asked, share=False)] == 3 * [(2 * P, 2 * P)]


def test_times_are_counts_times_what_was_measured():
    quiet = {"once": 0.0, "start": 0.0, "step": 0.0, "eigen": 0.0, "strategy": "cached", "memory": 100.0}
    rates = Rates(forward=1.0, gradient=10.0, product=100.0, size=3, itemsize=8, **quiet)
    low, high = rates.seconds(Counts(forwards=(1, 2), gradients=(1, 1), products=(2, 5)))
    assert (low, high) == pytest.approx((0.6 * 211, 1.8 * 512 + 0.05))
    assert rates.bytes(Counts(vectors=10, matrices=2)) == (100, 100 + 10 * 3 * 8 + 2 * 8 * 9)
    assert rates.seconds(Counts(forwards=(2, 3)))[0] == pytest.approx(1.2)


def test_a_loss_without_second_derivatives_can_be_asked_for_losses_only():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return 2 * g * ctx.saved_tensors[0]

    objective = Objective(
        torch.nn.Linear(2, 1), lambda y, t: Once.apply(y - t).mean(1), (torch.eye(2), torch.zeros(2, 1))
    )
    rates = measured_rates(objective, objective.w0)
    assert "second derivatives" in rates.failed
    assert rates.strategy == ""
    assert rates.seconds(Counts(forwards=(1, 1)))[1] > 0


def test_a_request_that_cannot_be_measured_says_why_and_stops_no_other(run):
    asked = [
        plan(PROBES[name], run, seed=0, steps=[0], settings={"k": 1} if name == "spectrum" else {})
        for name in ("spectrum", "samples")
    ]
    asked[0].question.settings["parameters"] = "nothing.*"
    bad, good = costs(asked)
    assert isinstance(bad.error, LandscapeError)
    assert good.error is None
    assert good.forwards == (2, 3)


def test_the_command_says_what_it_would_do(landscape, fresh_run):
    args = ("probe", fresh_run.path, "-p", "spectrum", "-p", "length", "--steps", "0,20", "--dry-run")
    code, out, err = landscape(*args)
    assert code == 0, err
    assert "unknown" in out
    assert "one product (" in out
    assert not (fresh_run.path / "results").exists()
    code, out, err = landscape(*args, "--json")
    found = json.loads(out)
    assert [(r["probe"], r["to_do"], r["stored"]) for r in found["requests"]] == [("spectrum", 2, 0), ("length", 2, 0)]
    assert found["requests"][1]["products"] is None
    assert found["seconds"][1] is None  # no upper end
    landscape("probe", fresh_run.path, "-p", "spectrum", "--steps", "0,20", "-q")
    code, out, err = landscape("probe", fresh_run.path, "-p", "spectrum", "--steps", "0,20", "--dry-run", "--json")
    assert json.loads(out)["requests"][0]["to_do"] == 0
    assert json.loads(out)["seconds"] == [0, 0]
