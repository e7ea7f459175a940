"""Critical sharpness: quadratics whose rise is known, and the optimisers' updates at checkpoints of real runs."""

import math

import numpy as np
import pytest
import torch
from support.oracles import function_objective, logistic, quadratic, toy
from support.runs import settings_of
from support.strangers import data, model, per_sample_loss

from landscape import LandscapeError, Run, Schedule, record, sweep, train
from landscape.answers.cost import costs
from landscape.answers.sweep import plan
from landscape.cli.tables import TABLES
from landscape.probes import PROBES
from landscape.probes.sharpness import PROBE, sharpness
from landscape.runs.checkpoints import Checkpoints
from landscape.runs.updates import RecordedUpdates

LAM = torch.tensor([5.0, 3.0, 1.0, 0.2, -0.1])
TIGHT = {"tol": 1e-9}
EVERY = Schedule(every=1)


def at_random(size=5, seed=1):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- closed form --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("i", range(4))
def test_along_an_eigenvector_it_is_the_eigenvalue(i):
    objective, _, Q = quadratic(LAM)
    ds = sharpness(objective, Q[:, i], **TIGHT)
    for name in ("critical_sharpness", "directional_sharpness", "curvature"):
        assert ds[name].item() == pytest.approx(float(LAM[i]), rel=1e-8), name
    assert bool(ds.converged)
    assert ds.slope.item() == pytest.approx(-float(LAM[i]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("second_order", [True, False])
def test_along_any_update_it_is_that_of_the_parabola(seed, second_order):
    objective, H, _ = quadratic(LAM.abs(), seed=3, offset=0.7)
    w, u = at_random(seed=seed), at_random(seed=seed + 100)
    u = -u if float(u @ H @ w) > 0 else u
    ds = sharpness(objective, w, update=u, second_order=second_order, learning_rate=0.1, **TIGHT)
    known = -float(u @ H @ u) / float(u @ H @ w)
    assert ds.critical_sharpness.item() == pytest.approx(known, rel=1e-7)
    assert bool(ds.converged & ds.falls & ds.finite & ~ds.censored)
    if second_order:
        assert ds.directional_sharpness.item() == pytest.approx(known, rel=1e-10)
        assert ds.curvature.item() == pytest.approx(float(u @ H @ u / (u @ u)), rel=1e-10)
        assert abs(ds.remainder.item()) < 1e-12
        assert ds.change.item() == pytest.approx(ds.first_order.item() + ds.second_order.item(), rel=1e-9)
        assert (ds.n_gradients, ds.n_products) == (1, 1)
    else:
        assert np.isnan([ds[n].item() for n in ("directional_sharpness", "curvature", "slope", "remainder")]).all()
        assert (ds.n_gradients, ds.n_products) == (0, 0)


def test_gradient_descent_is_at_most_as_sharp_as_the_largest_eigenvalue():
    objective, H, _ = quadratic(LAM.abs(), seed=3)
    w = at_random()
    g = H @ w
    ds = sharpness(objective, w, **TIGHT)
    assert ds.critical_sharpness.item() == pytest.approx(float(g @ H @ g / (g @ g)), rel=1e-7)
    assert ds.critical_sharpness.item() < 5.0
    assert ds.attrs["direction"] == "gradient"


def test_an_update_that_climbs_rises_at_once_and_one_that_only_falls_is_censored():
    objective, _, Q = quadratic(LAM)
    up = sharpness(objective, Q[:, 0], update=Q[:, 0])
    assert np.isnan(up.critical_sharpness)
    assert np.isnan(up.directional_sharpness)
    assert not bool(up.falls | up.converged | up.censored)
    down = sharpness(objective, Q[:, 4], update=Q[:, 4], limit=7.0)
    assert bool(down.censored & down.falls & ~down.converged)
    assert (down.critical_lr, down.critical_sharpness) == (7.0, 2 / 7.0)
    assert down.directional_sharpness < 0
    assert down.bracket_high == math.inf


def test_a_loss_that_is_no_number_is_a_rise_that_is_said():
    objective = function_objective(lambda w: -w[:, 0] + 0 * (2 - w[:, 0]).sqrt(), torch.zeros(1, dtype=torch.float64))
    ds = sharpness(objective, torch.zeros(1), update=torch.ones(1), second_order=False, limit=10.0)
    assert ds.critical_lr.item() == pytest.approx(2.0, rel=0.01)
    assert not bool(ds.finite)


def test_the_remainder_is_what_a_parabola_cannot_explain():
    """L = x^3 + x from x = 1 with u = -1: change by eta = 0.5 is 0.5^3 + 0.5 - 2; orders -4 eta and 3 eta^2."""
    objective = function_objective(lambda w: w[:, 0] ** 3 + w[:, 0], torch.zeros(1, dtype=torch.float64))
    ds = sharpness(objective, torch.ones(1), update=-torch.ones(1), learning_rate=0.5)
    np.testing.assert_allclose([ds.change, ds.first_order, ds.second_order, ds.remainder], [-1.375, -2, 0.75, -0.125])


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_a_loss_times_a_constant_changes_units_and_nothing_else(scale):
    w = at_random(3)
    a, b = (
        sharpness(function_objective(lambda w, s=s: s * (w**4 + w**2).sum(1), torch.zeros(3).double()), w, **TIGHT)
        for s in (1.0, scale)
    )
    for name in ("critical_sharpness", "directional_sharpness", "curvature", "slope"):
        assert b[name].item() == pytest.approx(scale * a[name].item(), rel=1e-6), name
    assert a.n_evaluations == b.n_evaluations


# -- differences, dtype, chunks -----------------------------------------------------------------------------------


def test_slope_and_curvature_are_differences_of_the_loss_along_the_update():
    objective = toy(chunk=8)
    ds = sharpness(objective, objective.w0)
    u = -objective.grad(objective.w0)
    h = 1e-3 / float(u.norm())
    low, mid, high = (float(objective.loss(objective.w0 + t * u)) for t in (-h, 0.0, h))
    size = float(u.norm())
    assert ds.slope.item() == pytest.approx((high - low) / (2 * h * size), rel=1e-5)
    assert ds.curvature.item() == pytest.approx((high - 2 * mid + low) / (h * size) ** 2, rel=1e-4)
    eta = ds.critical_lr.item()
    assert objective.loss(objective.w0 + eta * 1.01 * u) > mid > objective.loss(objective.w0 + eta * 0.99 * u)


def test_any_chunk_and_any_dtype():
    found = [
        sharpness(objective, objective.w0, tol=1e-4)
        for objective in (toy(), toy(chunk=8), toy(chunk=8, dtype=torch.float32))
    ]
    for ds, rel in zip(found[1:], (1e-6, 1e-3), strict=True):
        for name in ("critical_sharpness", "directional_sharpness", "curvature"):
            assert ds[name].item() == pytest.approx(found[0][name].item(), rel=rel + 2e-4), name
        assert bool(ds.converged) or rel == 1e-3


def test_rounding_is_part_of_the_error():
    objective, _, Q = quadratic(torch.tensor([1.0, 0.5]), offset=1.0, dtype=torch.float32)
    ds = sharpness(objective, 1e-3 * Q[:, 0], tol=1e-3)  # a fall of 5e-7 of a loss of 1
    assert not bool(ds.converged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "sideways"}, "unknown direction"),
        ({"update": torch.zeros(4)}, "finite length above 0, found 0"),
        ({"update": torch.full((4,), math.nan)}, "found nan"),
        ({"update": torch.ones(3)}, "expected"),
        ({"tol": 0.0}, "tolerance"),
        ({"start": -1.0}, "a start"),
        ({"limit": 0.0}, "a limit"),
        ({"limit": 0.0, "second_order": False}, "a limit"),
    ],
)
def test_refusals(change, message):
    objective, _ = logistic()
    with pytest.raises(LandscapeError, match=message):
        sharpness(objective, objective.w0, **change)


# -- runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "gd"])
def test_with_the_whole_training_set_it_is_the_very_next_update(optimizer, config, tmp_path):
    """Of a run whose batch is everything, the gradient of the loss that is looked at is the one trained with."""
    task = {"n_train": 21, "n_probe": 21, "n_test": 20, "length": 6}
    given = {**settings_of(optimizer), "batch": None, "schedule": {"name": "cosine", "warmup": 4}}
    run = train(config("looped", dtype="float64", task=task, clip=0.3, **given), tmp_path / "run")
    steps = [0, 2, int(run.steps[-2])]
    ds = sweep(PROBE, run, seed=0, steps=steps)
    for step in steps:
        before, after = run.objective().losses(run.replay(step, 1))
        one = ds.sel(step=step)
        assert one.change.item() == pytest.approx(float(after - before), rel=1e-6, abs=1e-12)
        assert one.learning_rate.item() == pytest.approx(0.02 * run.config.schedule.factor(step, 20))
        assert (one.critical_sharpness > 2 / one.learning_rate).item() == bool(after > before)
        rest = one.change - one.first_order - one.second_order
        assert one.remainder.item() == pytest.approx(rest.item())


def test_after_a_switch_that_begins_the_state_anew_it_is_the_very_next_update_too(config, tmp_path):
    shift = {"criterion": "fixed", "at": 6, "check_every": 4, "keep_optimizer": False}
    task = {"n_train": 21, "n_probe": 21, "n_test": 20, "length": 6}
    run = train(config("shift", dtype="float64", task=task, batch=None, shift=shift), tmp_path / "run")
    for step in (6, 11):
        before, after = run.objective(at=step).losses(run.replay(step, 1))
        ds = sweep(PROBE, run, seed=0, steps=[step])
        assert ds.change.item() == pytest.approx(float(after - before), rel=1e-6)


def test_resumed_shared_out_and_at_once_are_the_same(fresh_run):
    once = sweep(PROBE, fresh_run, seed=0)
    for path in (fresh_run.path / "results").glob("sharpness-*.nc"):
        path.unlink()
    sweep(PROBE, fresh_run, seed=0, steps=[0, 20])
    parts = sweep(PROBE, fresh_run, seed=0, jobs=2)
    for name in once.data_vars:
        np.testing.assert_array_equal(parts[name], once[name])


def test_of_some_parameters_and_in_a_metric(fresh_run):
    whole, part, scaled = (
        sweep(PROBE, fresh_run, seed=0, steps=[2], tol=1e-5, **given).isel(step=0)
        for given in ({}, {"parameters": "blocks.*"}, {"metric": "filter"})
    )
    u = fresh_run.updates.direction(2, fresh_run.objective(at=2).grad(fresh_run.parameters[fresh_run.index(2)]))
    assert whole.length.item() == pytest.approx(float(u.norm()), rel=1e-9)
    assert part.length.item() == pytest.approx(float(u[fresh_run.layout.mask("blocks.*")].norm()), rel=1e-9)
    assert scaled.critical_lr.item() == pytest.approx(whole.critical_lr.item(), rel=1e-4)  # the same line
    assert scaled.change.item() == pytest.approx(whole.change.item(), rel=1e-9)
    assert scaled.curvature.item() != pytest.approx(whole.curvature.item(), rel=0.1)
    assert "filter norm" in scaled.curvature.attrs["units"]


def test_the_adam_metric_is_where_a_preconditioned_gradient_is_bounded(fresh_run):
    ds = sweep(PROBE, fresh_run, seed=0, steps=[20], metric="adam", direction="gradient", tol=1e-4)
    top = sweep("spectrum", fresh_run, seed=0, steps=[20], metric="adam", k=1)
    assert 0 < ds.directional_sharpness.item() < top.eigenvalue.item()
    assert ds.directional_sharpness.item() == pytest.approx(ds.curvature.item())
    assert np.isnan(ds.learning_rate.item())  # of the optimiser's update, not of this one
    assert ds.attrs["direction"] == "gradient"


def recorded(folder, optimizer, *, scheduler=None, steps=4, **given):
    """A stranger's training, recorded; and his own next updates per learning rate, with his own gradients."""
    net = model().double().eval()  # no batch statistics: the gradient of the mean loss is that of the objective
    chosen = optimizer(net.parameters())
    schedule = None if scheduler is None else scheduler(chosen)
    x, y = data()
    moves = []
    with record(folder, net, chosen, objective="support.strangers:objective", schedule=EVERY, **given) as rec:
        for step in range(steps):
            rec.save(step)
            before = torch.cat([p.detach().reshape(-1).clone() for p in net.parameters()])
            chosen.zero_grad()
            per_sample_loss(net(x.double()), y).mean().backward()
            rate = chosen.param_groups[0]["lr"]
            chosen.step()
            after = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
            moves.append(float((after - before).norm()) / rate)
            if schedule is not None:
                schedule.step()
    return Run.open(folder), moves


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.2, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, 0.01, betas=(0.8, 0.9)),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adamw"],
)
def test_the_updates_of_recorded_runs_are_the_stranger_s_own(make, tmp_path):
    run, moves = recorded(tmp_path / "run", make)
    ds = sweep(PROBE, run, seed=0)
    np.testing.assert_allclose(ds.length[:4], moves, rtol=1e-6)
    assert np.isfinite(ds.critical_sharpness).all()
    assert np.isfinite(ds.change).values.tolist() == [True] * 4 + [False]  # the last model is kept without its rate


def test_a_learning_rate_that_changes_is_taken_as_recorded(tmp_path):
    def halved(optimizer):
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    run, _ = recorded(tmp_path / "run", lambda p: torch.optim.SGD(p, 0.1), scheduler=halved)
    top = sweep("spectrum", run, seed=0, k=1)
    np.testing.assert_allclose(top.edge, [*(2 / (0.1 * 0.5 ** np.arange(4))), math.nan])  # the last is not known
    assert np.isnan(sweep("spectrum", run, seed=0, k=1, metric="filter").edge).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, 0.01, betas=(0.9, 0.99)),
    ],
    ids=["momentum", "adamw"],
)
def test_momentum_that_is_cycled_is_taken_as_it_was_at_the_step(make, tmp_path):
    def cycled(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.1, total_steps=8, base_momentum=0.3, max_momentum=0.9
        )

    run, moves = recorded(tmp_path / "run", make, scheduler=cycled)
    ds = sweep(PROBE, run, seed=0)
    np.testing.assert_allclose(ds.length[:4], moves, rtol=1e-6)
    rules = [run.updates.rule(step) for step in run.steps[:4].tolist()]
    found = [getattr(rule, "momentum", getattr(rule, "beta1", None)) for rule in rules]
    assert found[0] == pytest.approx(0.9)
    assert len({round(value, 6) for value in found}) > 2


def test_a_file_without_a_place_for_these_settings_is_continued_and_read(monkeypatch, tmp_path):
    def make(p):
        return torch.optim.SGD(p, 0.1, momentum=0.9)

    with monkeypatch.context() as earlier:
        earlier.setattr("landscape.recording.capture.OptimizerState._rule", lambda _: {})
        recorded(tmp_path / "run", make, steps=2)
    run, moves = recorded(tmp_path / "run", make)
    assert run.steps.tolist() == [0, 1, 2, 3, 4]
    assert run.updates.rule(3).momentum == 0.9
    np.testing.assert_allclose(sweep(PROBE, run, seed=0).length[:4], moves, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: torch.optim.RMSprop(p, 0.01), "it has an optimiser 'RMSprop'"),
        (lambda p: torch.optim.Adam(p, 0.01, amsgrad=True), "amsgrad=True"),
        (lambda p: torch.optim.SGD(p, 0.01, maximize=True), "maximize=True"),
        (lambda p: torch.optim.SGD([{"params": [q], "lr": 0.1 / (1 + i)} for i, q in enumerate(p)]), "learning rate"),
        (
            lambda p: torch.optim.AdamW([{"params": [q], "weight_decay": 0.1 * i} for i, q in enumerate(p)]),
            "differ in weight_decay",
        ),
    ],
    ids=["rmsprop", "amsgrad", "maximize", "rates", "decays"],
)
def test_what_is_not_known_is_refused_with_the_way_out_and_never_guessed(make, reason, tmp_path):
    run, _ = recorded(tmp_path / "run", make)
    with pytest.raises(LandscapeError, match=rf"{reason}.*sharpness.direction=gradient"):
        sweep(PROBE, run, seed=0, steps=[2])
    assert np.isfinite(sweep(PROBE, run, seed=0, steps=[2], direction="gradient").critical_sharpness).all()
    assert np.isnan(sweep("spectrum", run, seed=0, steps=[2], k=1).edge).all()


@pytest.mark.parametrize(("name", "apart"), [("Adam", False), ("AdamW", True)])
def test_where_the_decay_goes_follows_from_the_name_if_it_was_not_recorded(name, apart, run):
    header = {"name": name, "state": [], "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.1}
    rows = Checkpoints(run.path / "run.h5")
    assert RecordedUpdates(header, rows, dict).rule(0).decoupled == apart
    assert RecordedUpdates(header | {"decoupled_weight_decay": not apart}, rows, dict).rule(0).decoupled != apart


def test_edges_are_not_lost_where_older_answers_have_none(fresh_run):
    schema = PROBES["spectrum"].schema
    old, new = (sweep("spectrum", fresh_run, seed=0, steps=[s], k=1).isel(step=0, drop=True) for s in (2, 20))
    both = schema.stack({2: old.drop_vars("edge"), 20: new.assign(edge=3.0)})
    np.testing.assert_array_equal(both.edge, [math.nan, 3.0])
    assert both.edge.dims == ("step",)


def test_updates_of_which_a_part_is_kept_are_refused(config, tmp_path):
    projection = {"subspace": "river", "k": 2}
    run = train(config("single", projection=projection, steps=4), tmp_path / "run")
    with pytest.raises(LandscapeError, match=r"keeps a part of each, 'river'.*direction=gradient"):
        sweep(PROBE, run, seed=0, steps=[0])
    assert np.isnan(run.updates.edge(0, "adam"))


def test_edges_are_those_of_the_optimiser_in_its_own_metric(fresh_run, config, tmp_path):
    lr = fresh_run.config.optimizer.lr
    assert fresh_run.updates.edge(2, "adam") == pytest.approx(38 / lr - 19 * 0.01)
    assert math.isnan(fresh_run.updates.edge(2, "euclidean"))
    sgd = train(config("single", optimizer={"name": "sgd", "lr": 0.05}), tmp_path / "sgd")
    assert sgd.updates.edge(2, "euclidean") == pytest.approx(2 * 1.9 / 0.05)
    assert math.isnan(sgd.updates.edge(2, "adam"))


def test_a_dry_run_tells_its_cost(fresh_run):
    for given in ({}, {"second_order": False}, {"direction": "gradient"}, {"tol": 1e-6}):
        cost = costs([plan(PROBES["sharpness"], fresh_run, seed=0, steps=[2], settings=given)])[0]
        ds = sweep(PROBE, fresh_run, seed=0, steps=[2], **given)
        for span, name in zip(
            (cost.forwards, cost.gradients, cost.products), ("n_evaluations", "n_gradients", "n_products"), strict=True
        ):
            assert span[0] <= int(ds[name].sum()) <= span[1], (given, name)


def test_commands_take_it_without_more_ado(landscape, fresh_run):
    code, out, err = landscape("probe", fresh_run.path, "-p", "sharpness", "-p", "spectrum", "--steps", "0,2,20")
    assert code == 0, err
    assert "2/η_c" in out
    for args in (("plot", "sharpness", "eigenvalues", "--format", "png"), ("show", "--json"), ("report", "--stored")):
        code, out, err = landscape(args[0], fresh_run.path, *args[1:])
        assert code == 0, err
        assert "sharpness" in out or args[0] == "report"
    (page,) = fresh_run.path.parent.glob("*.html")
    assert "How far may an update go?" in page.read_text(encoding="utf-8")
    assert "the loss rises at learning rates above" in page.read_text(encoding="utf-8")


def test_the_table_marks_a_bound():
    objective, _, Q = quadratic(LAM)
    ds = sharpness(objective, Q[:, 4], update=Q[:, 4], limit=4.0)
    (row,) = TABLES["sharpness"]([ds.expand_dims(step=[5]).assign_attrs(run="r")]).rows
    assert row[2] == "≤ 0.5"
