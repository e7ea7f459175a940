from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from support import strangers
from torch import nn

from landscape import LandscapeError, Objective, Run, RunConfig, Schedule, record, sweep, train
from landscape.training.setup import Setup

EVERY = Schedule(every=1)
OBJECTIVE = "support.strangers:objective"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "mine"
    rows = strangers.train_model(lambda m, o: record(folder, m, o, objective=OBJECTIVE, schedule=EVERY))[2]
    return Run.open(folder), rows


def dense(net, x, y, trainable):
    """Hessian of the mean loss by autograd alone, in float64."""
    net = net.double()
    w0 = torch.cat([dict(net.named_parameters())[n].detach().reshape(-1) for n in trainable])
    shapes = {n: dict(net.named_parameters())[n].shape for n in trainable}

    def loss(w):
        parts = dict(zip(shapes, w.split([s.numel() for s in shapes.values()]), strict=True))
        out = torch.func.functional_call(net, {n: p.view(shapes[n]) for n, p in parts.items()}, (x.double(),))
        return strangers.per_sample_loss(out, y).mean()

    return torch.autograd.functional.hessian(loss, w0)


def test_what_is_stored_is_what_the_model_was(recorded):
    run, rows = recorded
    assert (run.kind, run.status, run.steps.tolist()) == (
        "recorded",
        "complete",
        list(range(14)),
    )  # and after the last update
    assert run.layout.size == sum(p.numel() for p in strangers.model().parameters())
    for step in (0, 5, 12):
        for name, value in run.tensors(step).items():
            assert value.dtype == rows[step][name].dtype
            assert torch.equal(value, rows[step][name]), name


def test_metrics_keep_their_names_and_the_learning_rate_is_noted(recorded):
    metrics = recorded[0].metrics
    assert list(metrics.data_vars) == ["loss", "accuracy", "learning_rate"]
    assert (metrics.learning_rate == 1e-2).all()
    assert metrics.loss.dims == ("step",)
    assert metrics.loss[0] > metrics.loss[-1]


def test_eigenvalues_are_those_of_the_dense_hessian_with_the_buffers_of_each_step(recorded):
    run, rows = recorded
    ds = sweep("spectrum", run, seed=0, steps=[0, 12], k=3)
    x, y = strangers.data()
    for step in (0, 12):
        net = strangers.model().eval()
        net.load_state_dict(rows[step])
        own = torch.linalg.eigvalsh(dense(net, x, y, run.layout.names)).flip(0)[:3]
        np.testing.assert_allclose(ds.eigenvalue.sel(step=step), own, rtol=1e-6)
    assert ds.attrs["kind"] == "recorded"
    assert not {"task", "arch", "run_seed"} & set(ds.attrs)


def test_every_probe_answers_or_says_what_it_lacks(recorded):
    run = recorded[0]
    common = {"seed": 0, "samples": 8}
    for probe, settings in {
        "samples": {}, "density": {"vectors": 2}, "entropy": {}, "force": {}, "split": {},
        "valley": {"top": 1, "random": 0},
    }.items():  # fmt: skip
        assert sweep(probe, run, steps=[12], **common, **settings).sizes["step"] == 1
    surface = sweep("surface", run, points=3, **common)
    own = [float(run.objective(n=8, at=int(s)).loss(run.objective(n=8, at=int(s)).w0)) for s in run.steps]
    np.testing.assert_allclose(surface.path_loss, own, rtol=1e-12)
    assert sweep("evolution", run, steps=[0, 6, 12], **common).entropy.shape == (3,)
    hopping = sweep("hopping", run, steps=[2], n=4, **common)
    assert hopping.n_updates.values.tolist() == [4]
    for probe in ("length", "alignment"):
        with pytest.raises(LandscapeError, match="found a recorded one"):
            sweep(probe, run, steps=[12], **common)


def test_a_split_of_the_objective_and_the_metric_of_adam(recorded):
    run = recorded[0]
    ds = sweep("samples", run, seed=0, split="test", steps=[3])
    x, y = strangers.data(seed=2)
    loss = run.module(3).double().eval()
    np.testing.assert_allclose(ds.loss[0], strangers.per_sample_loss(loss(x.double()), y).detach(), rtol=1e-12)
    adam = sweep("spectrum", run, seed=0, steps=[12], k=1, metric="adam")
    objective = run.objective(at=12)
    H = objective.hessian(objective.w0).dense()
    second = run.optimizer[12].reshape(2, -1)[1].double()
    D = ((second / (1 - 0.999**12)).sqrt() + 1e-8).rsqrt()
    np.testing.assert_allclose(adam.eigenvalue[0], torch.linalg.eigvalsh(D[:, None] * H * D)[-1:], rtol=1e-6)
    with pytest.raises(LandscapeError, match="no second moments at step 0"):
        sweep("spectrum", run, seed=0, steps=[0], metric="adam")


def test_recording_changes_neither_training_nor_the_random_state(tmp_path):
    class Nothing:
        def save(self, *_, **__):
            pass

        close = save

    plain = strangers.train_model(lambda *_: Nothing())
    torch.manual_seed(3)
    state = torch.get_rng_state()
    seen = strangers.train_model(lambda m, o: record(tmp_path / "r", m, o))
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(plain[0].state_dict().values(), seen[0].state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_same_training_recorded_and_trained_here_has_equal_spectra(tmp_path):
    small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 6}
    config = RunConfig.make(arch="looped", clip=None, **small)
    trained = train(config, tmp_path / "trained")
    setup = Setup(config)
    module = setup.module(setup.loops)
    o = config.optimizer
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, weight_decay=o.weight_decay
    )
    with record(tmp_path / "recorded", module, optimizer, schedule=EVERY, config={"arch": "looped", "seed": 0}) as rec:
        rec.save(0)
        for step in range(6):
            for group in optimizer.param_groups:
                group["lr"] = o.lr * config.schedule.factor(step, config.horizon)
            optimizer.zero_grad()
            inputs, targets = setup.batch(step)
            setup.task.per_sample_loss(module(inputs), targets).mean().backward()
            optimizer.step()
            rec.save(step + 1)
    (tmp_path / "losses.py").write_text(
        "from landscape import RunConfig\nfrom landscape.training.setup import Setup\n"
        f"CONFIG = RunConfig.from_dict({json.loads(json.dumps(config.to_dict()))!r})\n"
        "def probe():\n    setup = Setup(CONFIG)\n    part = setup.task.split('probe')\n"
        "    return setup.module(setup.loops), setup.task.per_sample_loss, (part.inputs, part.targets)\n"
    )
    recorded = Run.open(tmp_path / "recorded")
    torch.testing.assert_close(recorded.parameters[-1], trained.parameters[-1], rtol=1e-4, atol=1e-6)
    ours = sweep("spectrum", trained, seed=0, k=3, steps=[0, 6])
    theirs = sweep("spectrum", recorded, seed=0, k=3, steps=[0, 6], objective=f"{tmp_path}/losses.py:probe")
    np.testing.assert_allclose(ours.eigenvalue, theirs.eigenvalue, rtol=1e-3)
    np.testing.assert_allclose(ours.eigenvalue[0], theirs.eigenvalue[0], rtol=1e-9)


def test_checkpoints_are_dense_early_and_log_spaced_later(tmp_path):
    net = nn.Linear(1, 1)
    with record(tmp_path, net) as rec:
        for step in range(0, 1000):
            rec.save(step)
    steps = Run.open(tmp_path).steps.tolist()
    assert steps[:11] == list(range(11))
    assert len(steps) < 45
    assert steps[-1] == 999  # the last one, unchanged since
    ratios = np.diff(steps[11:-1]) / np.array(steps[11:-2])
    assert (ratios < 0.35).all()


def test_the_last_step_is_not_made_up_when_the_model_went_on(tmp_path):
    net = nn.Linear(1, 1)
    with record(tmp_path, net, schedule=Schedule(every=10)) as rec:
        for step in range(6):
            rec.save(step)
            with torch.no_grad():
                net.weight.add_(1)
    assert Run.open(tmp_path).steps.tolist() == [0]


def test_a_resumed_loop_appends_and_changes_nothing_that_is_there(tmp_path):
    net = nn.Linear(1, 1)
    with record(tmp_path, net, config={"lr": 0.1}, schedule=EVERY) as rec:
        for step in range(4):
            rec.save(step, loss=step)
    first = Run.open(tmp_path)
    before = first.parameters[:].clone()
    with record(tmp_path, net, config={"lr": 0.1}, schedule=EVERY) as rec:
        for step in range(2, 7):
            with torch.no_grad():
                net.weight.fill_(100 + step)
            rec.save(step, loss=100, later=step)
    run = Run.open(tmp_path)
    assert run.id == first.id
    assert run.steps.tolist() == list(range(7))
    assert torch.equal(run.parameters[:4], before)
    assert run.parameters[4][0] == 104
    assert run.metrics.loss.values.tolist() == [0, 1, 2, 3, 100, 100, 100]
    np.testing.assert_equal(run.metrics.later.values, [np.nan] * 4 + [4, 5, 6])


@pytest.mark.parametrize("change", ["model", "config", "optimizer"])
def test_another_run_in_the_folder_is_not_continued(tmp_path, change):
    net = nn.Linear(1, 1)
    record(tmp_path, net, config={"lr": 1}).close()
    other = nn.Linear(2, 1) if change == "model" else net
    optimizer = torch.optim.Adam(net.parameters()) if change == "optimizer" else None
    with pytest.raises(LandscapeError, match="holds another run"):
        record(tmp_path, other, optimizer, config={"lr": 2 if change == "config" else 1})
    record(tmp_path, net, config={"lr": 1}).close()  # the lock was given back


def test_a_folder_of_another_kind_or_in_use_is_refused(tmp_path, run):
    with pytest.raises(LandscapeError, match="holds another run"):
        record(run.path, nn.Linear(1, 1))
    with record(tmp_path, nn.Linear(1, 1)), pytest.raises(LandscapeError, match="process"):
        record(tmp_path, nn.Linear(1, 1))
    with pytest.raises(LandscapeError, match="holds a recorded run"):
        train(RunConfig.make(model={"width": 4}, steps=1), tmp_path)


def test_what_is_no_metric_or_no_step_is_refused(tmp_path):
    with record(tmp_path, nn.Linear(1, 1)) as rec:
        with pytest.raises(LandscapeError, match="expected a number for the metric 'loss'"):
            rec.save(0, loss=torch.ones(2))
        with pytest.raises(LandscapeError, match="whole step"):
            rec.save(-1)
        for step in (None, float("nan"), "x", 2**70):
            with pytest.raises(LandscapeError, match="whole step"):
                rec.save(step)
        with pytest.raises(LandscapeError, match="expected a number"):
            rec.save(0, loss=10**400)
        rec.save(0, nothing=None, inf=float("inf"), **{"train/loss": 1})
    found = Run.open(tmp_path).metrics
    assert np.isinf(found.inf.values).all()
    assert found["train.loss"].values.tolist() == [1]


def test_metrics_beyond_the_room_for_them_are_left_out_with_a_warning(tmp_path):
    with record(tmp_path, nn.Linear(1, 1)) as rec:
        with pytest.warns(UserWarning, match="metrics left out"):
            rec.save(0, **{f"m{i}": i for i in range(66)}, **{"x" * 70: 1})
        rec.save(1, m65=1, m0=5)
    metrics = Run.open(tmp_path).metrics
    assert len(metrics.data_vars) == 64
    assert metrics.m0.values.tolist() == [0, 5]


def test_the_objective_must_fit_the_model(tmp_path):
    with pytest.raises(LandscapeError, match=r"missing 1.weight.*not in the run weight"):
        record(tmp_path, strangers.model(), objective="support.strangers:other")
    net = strangers.model()
    net[1].weight.requires_grad_(False)
    with pytest.raises(LandscapeError, match="varies parameters that were not trained"):
        record(tmp_path / "b", net, objective=OBJECTIVE)
    net = strangers.model(seed=5)
    net[1].weight.requires_grad_(False)
    with pytest.raises(LandscapeError, match="not trained have other values"):
        record(tmp_path / "c", net, objective="support.strangers:frozen")


def test_a_loss_that_changes_is_refused(tmp_path):
    (tmp_path / "losses.py").write_text(
        "from support.strangers import *\nSCALE = 1\n"
        "def mine():\n    m, l, d = objective()\n    return m, lambda o, t: SCALE * l(o, t), d\n"
    )
    with record(tmp_path / "r", strangers.model(), objective=f"{tmp_path}/losses.py:mine") as rec:
        rec.save(0)
    sweep("samples", Run.open(tmp_path / "r"), seed=0)
    module = next(
        m
        for n, m in sys.modules.items()
        if n.startswith("landscape_objective_") and m.__file__ == f"{tmp_path}/losses.py"
    )
    module.SCALE = 1.001
    with pytest.raises(LandscapeError, match=r"is not what it was .* expected a loss of"):
        sweep("samples", Run.open(tmp_path / "r"), seed=0)
    with record(tmp_path / "u", strangers.model(), objective="support.strangers:unstable") as rec:
        rec.save(0)
    sweep("samples", Run.open(tmp_path / "u"), seed=0)
    with pytest.raises(LandscapeError, match="Is it drawn anew at every call"):
        sweep("samples", Run.open(tmp_path / "u"), seed=0)


def test_weights_are_known_to_recorded_runs(tmp_path):
    with record(tmp_path, strangers.model(), objective="support.strangers:weighted") as rec:
        rec.save(0)
    run = Run.open(tmp_path)
    objective = run.objective(at=0)
    plain = objective.per_sample(objective.w0)
    c = torch.arange(1, 25, dtype=torch.float64)
    torch.testing.assert_close(objective.loss(objective.w0), (c * plain).sum() / c.sum())
    assert "weights" in sweep("spectrum", run, seed=0, k=1).attrs


def test_a_model_that_is_no_longer_finite_is_not_kept(tmp_path):
    net = nn.Linear(1, 1)
    with record(tmp_path, net, schedule=EVERY) as rec:
        rec.save(0, loss=1)
        with torch.no_grad():
            net.weight.fill_(float("nan"))
        with pytest.warns(UserWarning, match="not finite at step 1"):
            rec.save(1, loss=float("nan"))
    run = Run.open(tmp_path)
    assert (run.status, run.steps.tolist()) == ("diverged", [0])
    np.testing.assert_equal(run.metrics.loss.values, [1, np.nan])


def test_a_full_disk_ends_the_recording_and_not_the_training(tmp_path, monkeypatch):
    from landscape.runs import writing

    net = nn.Linear(1, 1)
    with record(tmp_path, net, schedule=EVERY) as rec:
        rec.save(0, loss=1)
        monkeypatch.setattr(writing, "reserve", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.warns(UserWarning, match="the training goes on"):
            rec.save(1, loss=1)
        rec.save(2, loss=1)
        assert "No space" in rec.failed
    assert Run.open(tmp_path).steps.tolist() == [0]
    assert Run.open(tmp_path).status == "unfinished"


def test_killed_at_any_moment_nothing_committed_is_lost(tmp_path):
    code = (
        "import torch, landscape, sys\n"
        "net = torch.nn.Linear(50, 50)\n"
        "rec = landscape.record('run', net, schedule=landscape.Schedule(every=1))\n"
        "step = 0\n"
        "while True:\n    rec.save(step, loss=step); step += 1\n    sys.stdout.write('x'); sys.stdout.flush()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
    try:
        process.stdout.read(20)
        while_alive = len(Run.open(tmp_path / "run").steps)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    run = Run.open(tmp_path / "run")
    n = len(run.steps)
    assert n >= while_alive > 0
    assert run.status == "unfinished"
    with record(tmp_path / "run", nn.Linear(50, 50), schedule=EVERY) as rec:
        rec.save(n, loss=0)
    assert Run.open(tmp_path / "run").steps.tolist() == list(range(n + 1))


def test_wrappers_are_looked_through_and_modules_of_all_dtypes_kept(tmp_path):
    net = nn.Linear(3, 2).to(torch.bfloat16)
    with record(tmp_path, torch.compile(net, backend="eager")) as rec:
        rec.save(0)
    run = Run.open(tmp_path)
    assert run.layout.names == ("weight", "bias")
    assert torch.equal(run.tensors(0)["weight"], net.weight.detach().float())


def test_optimizers_without_moments_leave_none(tmp_path):
    net = nn.Linear(1, 1)
    for name, optimizer in {
        "sgd": torch.optim.SGD(net.parameters(), lr=1),
        "momentum": torch.optim.SGD(net.parameters(), lr=1, momentum=0.9),
        "rmsprop": torch.optim.RMSprop(net.parameters()),
    }.items():  # fmt: skip
        with record(tmp_path / name, net, optimizer, objective=None) as rec:
            rec.save(0)
        run = Run.open(tmp_path / name)
        if name == "momentum":
            assert run.optimizer[0].numel() == 2
        with pytest.raises(LandscapeError, match="needs second moments of Adam"):
            run.rescaled(Objective(net, lambda o, t: o[:, 0] ** 2, (torch.ones(2, 1), None)), "adam", step=0)


def test_show_and_figures_take_recorded_runs_beside_trained_ones(recorded, run, landscape):
    code, out, err = landscape("show", recorded[0].path)
    assert (code, "support.strangers:objective" in out, "recorded, complete" in out) == (0, True, True), err
    code, out, err = landscape("show", recorded[0].path, run.path)
    assert (code, "looped" in out, "recorded" in out) == (0, True, True), err
    assert json.loads(landscape("show", recorded[0].path, "--json")[1])[0]["kind"] == "recorded"
