"""What would give a wrong number, or stop somebody's training, each found once by a second reader."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from support import strangers
from torch import nn

from landscape import LandscapeError, Run, Schedule, import_checkpoints, record, sweep

EVERY = Schedule(every=1)
HEAD = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)
    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))
def net():
    torch.manual_seed(0)
    return Net()
def mse(y, t):
    return ((y - t) ** 2).sum(1)
g = torch.Generator().manual_seed(1)
X, Y = torch.randn(12, 3, generator=g), torch.randn(12, 1, generator=g)
def plain():
    return net(), mse, (X, Y)
"""


@pytest.fixture
def losses(tmp_path):
    """Write a file of losses; its path and what it defines."""

    def write(text="", name="losses.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(HEAD + text)
        scope = {}
        exec(HEAD + text, scope)
        return f"{tmp_path / name}:", scope

    return write


def trained(folder, module, loss, data, *, optimizer=None, steps=4, each=lambda *_: None, **settings):
    """A recorded run of a few updates."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05) if optimizer is None else optimizer
    with record(folder, module, optimizer, schedule=EVERY, **settings) as rec:
        for step in range(steps + 1):
            each(step, module, optimizer)
            value = loss(module(data[0]), data[1]).mean()
            rec.save(step, loss=value)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return Run.open(folder)


def test_a_module_with_the_same_parameters_in_another_order_is_refused(tmp_path, losses):
    where, f = losses(
        "class Other(Net):\n    def __init__(self):\n        nn.Module.__init__(self)\n"
        "        self.b, self.a = nn.Linear(4, 1), nn.Linear(3, 4)\ndef other():\n    return Other(), mse, (X, Y)\n"
    )
    run = trained(tmp_path / "run", f["net"](), f["mse"], (f["X"], f["Y"]))
    with pytest.raises(LandscapeError, match="another order"):
        sweep("spectrum", run, seed=0, objective=where + "other")


def test_parameters_that_are_unfrozen_or_changed_end_the_recording_unless_all_are_kept(tmp_path, losses):
    where, f = losses("def half():\n    m = net()\n    m.a.requires_grad_(False)\n    return m, mse, (X, Y)\n")

    def unfreeze(step, module, _):
        if step == 2:
            module.requires_grad_(True)

    settings = {"each": unfreeze, "objective": where + "half"}
    data = (f["X"], f["Y"])
    with pytest.warns(UserWarning, match="every_parameter=True"):
        run = trained(tmp_path / "part", f["half"]()[0], f["mse"], data, **settings)
    assert run.steps.tolist() == [0, 1]
    run = trained(tmp_path / "all", f["half"]()[0], f["mse"], data, every_parameter=True, **settings)
    objective = run.objective(at=4)
    assert float(objective.loss(objective.w0)) == pytest.approx(float(run.metrics.loss[4]), rel=1e-6)
    assert objective.size == 5
    assert sweep("spectrum", run, seed=0, k=1).sizes["step"] == 6  # the last one after the last update


def test_the_path_on_a_surface_is_of_the_loss_that_was_asked_for(tmp_path, losses):
    where, f = losses("def second():\n    return net(), lambda y, t: 7 * mse(y, t), (X, Y)\n")
    run = trained(tmp_path / "run", f["net"](), f["mse"], (f["X"], f["Y"]), objective=where + "plain")
    settings = {"seed": 0, "directions": "random", "points": 2}
    first = sweep("surface", run, parameters="b.*", **settings)
    second = sweep("surface", run, parameters="b.*", objective=where + "second", **settings)
    np.testing.assert_allclose(second.path_loss, 7 * first.path_loss, rtol=1e-6)


@pytest.mark.parametrize("kind", ["fused", "data", "foreach"])
def test_the_model_after_the_last_update_is_kept_if_its_step_is_known(tmp_path, kind):
    net = nn.Linear(3, 3)
    how = {"fused": True} if kind == "fused" else {"foreach": True}
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, **how)
    with record(tmp_path, net, optimizer, schedule=Schedule(every=100)) as rec:
        for step in range(3):
            rec.save(step)
            optimizer.zero_grad()
            net(torch.ones(2, 3)).square().mean().backward()
            if kind == "data":
                net.weight.data -= 0.1
            else:
                optimizer.step()
    run = Run.open(tmp_path)
    assert run.steps.tolist() == ([0] if kind == "data" else [0, 3])
    if kind != "data":
        assert torch.equal(run.tensors(3)["weight"], net.weight)


@pytest.mark.parametrize(("saves", "batches", "kept"), [(1, 1, [0, 8]), (4, 1, [0, 8]), (1, 2, [0]), (4, 2, [0])])
def test_the_last_model_is_kept_only_where_steps_count_updates(tmp_path, saves, batches, kept):
    """Of eight steps every `saves`-th is saved, and an update takes so many `batches`."""
    net = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with record(tmp_path, net, optimizer, schedule=Schedule(every=100)) as rec:
        for step in range(8):
            if step % saves == 0:
                rec.save(step)
            net(torch.ones(2, 3)).square().mean().backward()
            if (step + 1) % batches == 0:
                optimizer.step()
    assert Run.open(tmp_path).steps.tolist() == kept
    assert not optimizer._optimizer_step_post_hooks  # nothing of ours is left


def test_results_of_one_loss_never_serve_another_of_the_same_name(tmp_path, losses):
    one, f = losses("", "a/losses.py")
    two, _ = losses("def plain():\n    return net(), lambda y, t: 2 * mse(y, t), (X, Y)\n", "b/losses.py")
    run = trained(tmp_path / "run", f["net"](), f["mse"], (f["X"], f["Y"]))
    ask = {"seed": 0, "k": 1, "steps": [3]}
    first = sweep("spectrum", run, objective=one + "plain", **ask)
    for opened in (run, Run.open(run.path)):
        with pytest.raises(LandscapeError, match="not what it was when it was first used"):
            sweep("spectrum", opened, objective=two + "plain", **ask)
    (run.path / "objective.json").unlink()
    again = sweep("spectrum", Run.open(run.path), objective=two + "plain", **ask)
    np.testing.assert_allclose(again.eigenvalue, 2 * first.eigenvalue, rtol=1e-6)


def test_a_change_that_the_first_checkpoint_hides_is_seen_beside_it(tmp_path, losses):
    zero = "def zero():\n    m = net()\n    nn.init.zeros_(m.b.weight)\n    return m, mse, (X, Y)\n"
    where, f = losses(zero)
    run = trained(tmp_path / "run", f["zero"]()[0], f["mse"], (f["X"], f["Y"]), objective=where + "zero")
    sweep("samples", run, seed=0, steps=[2])
    other, _ = losses(zero + "Net.forward = lambda self, x: self.b(torch.relu(self.a(x)))\n", "other/losses.py")
    with pytest.raises(LandscapeError, match="at or beside the first checkpoint"):
        sweep("samples", Run.open(run.path), seed=0, steps=[3], objective=other + "zero")


def test_a_module_of_fewer_digits_does_not_round_the_checkpoint(tmp_path, losses):
    where, f = losses("def low():\n    return net().bfloat16(), mse, (X, Y)\n")
    data = (f["X"].double(), f["Y"].double())
    run = trained(tmp_path / "run", f["net"]().double(), f["mse"], data, objective=where + "low")
    assert run.parameters[0].dtype == torch.float64
    for parameters in (None, "*"):
        objective = run.objective(at=4, parameters=parameters)
        assert torch.equal(objective.w0, run.parameters[4])
        expected = float(f["mse"](run.module(4)(data[0]), data[1]).mean().detach())
        assert float(objective.loss(objective.w0)) == pytest.approx(expected, rel=1e-7)


def test_the_metric_of_adam_is_that_of_each_step_or_refused(tmp_path, losses):
    where, f = losses()
    data, ask = (f["X"], f["Y"]), {"seed": 0, "k": 1, "steps": [4], "metric": "adam"}

    def change(step, _, optimizer):
        if step == 2:
            optimizer.param_groups[0]["betas"] = (0.9, 0.5)

    run = trained(tmp_path / "betas", f["net"](), f["mse"], data, each=change, objective=where + "plain")
    objective = run.objective(at=4)
    second = run.optimizer[4].reshape(2, -1)[1].double()
    D = ((second / (1 - 0.5**4)).sqrt() + 1e-8).rsqrt()
    H = objective.hessian(objective.w0).dense()
    expected = torch.linalg.eigvalsh(D[:, None] * H * D)[-1]
    np.testing.assert_allclose(sweep("spectrum", run, **ask).eigenvalue[0, 0], expected, rtol=1e-6)
    for name, make, message in (
        ("amsgrad", lambda m: torch.optim.Adam(m.parameters(), amsgrad=True), "amsgrad"),
        (
            "eps",
            lambda m: torch.optim.Adam([{"params": m.a.parameters(), "eps": 1e-4}, {"params": m.b.parameters()}]),
            "they differ",
        ),
        ("part", lambda m: torch.optim.Adam(m.b.parameters()), "no second moments at step 4 for: a.weight"),
    ):
        module = f["net"]()
        run = trained(tmp_path / name, module, f["mse"], data, optimizer=make(module), objective=where + "plain")
        with pytest.raises(LandscapeError, match=message):
            sweep("spectrum", run, **ask)
    assert sweep("spectrum", run, parameters="b.*", **ask).converged.all()


def test_a_run_goes_on_when_a_schedule_has_changed_the_optimizer(tmp_path):
    net = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=np.float32(0.01))
    for step in range(2):
        with record(tmp_path, net, optimizer) as rec:
            rec.save(step)
        optimizer.param_groups[0]["betas"] = (0.95, 0.99)
    assert Run.open(tmp_path).steps.tolist() == [0, 1]


@pytest.mark.parametrize("trouble", ["lr", "shape", "prune", "names"])
def test_nothing_that_happens_to_a_model_stops_its_training(tmp_path, trouble):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with record(tmp_path, net, optimizer, schedule=EVERY) as rec:
        rec.save(0, loss=1)
        if trouble == "lr":
            optimizer.param_groups[0]["lr"] = None
            rec.save(1, loss=1)
            assert rec.failed is None
            return
        if trouble == "names":
            rec.save(1, **{"self": 1, "checkpoints": 2})
            assert rec.failed is None
            return
        if trouble == "shape":
            net[1] = nn.Linear(2, 3)
        else:
            nn.utils.prune.l1_unstructured(net[0], "weight", 1)
        with pytest.warns(UserWarning, match="the training goes on"):
            rec.save(1, loss=1)
        rec.save(2, loss=1)
    assert Run.open(tmp_path).steps.tolist() == [0]


@pytest.mark.parametrize("config", [{"seed": None, "arch": None}, {"seed": True, "task": {"a": 1}}, {"seed": "x"}])
def test_any_config_leaves_results_that_can_be_stored(tmp_path, config):
    with record(tmp_path, strangers.model(), objective="support.strangers:objective", config=config) as rec:
        rec.save(0)
    run = Run.open(tmp_path)
    assert run.labels == {}
    assert sweep("samples", run, seed=0).sizes["step"] == 1


def test_a_second_loss_may_vary_fewer_parameters(tmp_path, losses):
    where, f = losses("def half():\n    m = net()\n    m.a.requires_grad_(False)\n    return m, mse, (X, Y)\n")
    run = trained(tmp_path / "run", f["net"](), f["mse"], (f["X"], f["Y"]), objective=where + "plain")
    part = sweep("spectrum", run, seed=0, k=1, objective=where + "half")
    whole = sweep("spectrum", run, seed=0, k=1, parameters="b.*")
    np.testing.assert_allclose(part.eigenvalue, whole.eigenvalue, rtol=1e-6)


def test_the_random_state_survives_a_file_that_seeds(tmp_path, losses):
    where, _ = losses("import random, numpy\nrandom.seed(0); numpy.random.seed(0); torch.manual_seed(0)\n")
    nets = nn.Linear(1, 1), nn.Linear(1, 1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    record(tmp_path / "run", nets[0]).close()
    with pytest.raises(LandscapeError):
        record(tmp_path / "other", nets[1], objective=where + "plain")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])  # noqa: NPY002


def test_complex_buffers_are_refused_and_large_whole_numbers_kept(tmp_path):
    net = nn.Linear(1, 1)
    net.register_buffer("count", torch.tensor(2**53 + 2))
    with record(tmp_path / "a", net) as rec:
        rec.save(0)
    assert int(Run.open(tmp_path / "a").tensors(0)["count"]) == 2**53 + 2
    net.register_buffer("f", torch.ones(1, dtype=torch.complex64))
    with pytest.raises(LandscapeError, match="found f of torch"):
        record(tmp_path / "b", net)


@pytest.mark.parametrize(
    ("name", "noted", "expected"),
    [
        ("epoch=4-step=500-v1.ckpt", 500, [500]),
        ("resnet18.pt", 30, [30]),
        ("model_fp16.pt", None, "found no number"),
        ("epoch=4-val_loss=0.23.ckpt", None, "found no number"),
        ("model-7.pt", 500, "has step 7 in its name and notes step 500"),
        ("model-7.pt", None, [7]),
    ],
)
def test_the_step_of_a_checkpoint_is_never_guessed(tmp_path, name, noted, expected):
    state = strangers.model().state_dict()
    torch.save(state if noted is None else {"state_dict": state, "global_step": noted}, tmp_path / name)
    ask = {"objective": "support.strangers:objective"}
    if isinstance(expected, list):
        assert import_checkpoints([tmp_path / name], tmp_path / "run", **ask).steps.tolist() == expected
    else:
        with pytest.raises(LandscapeError, match=expected):
            import_checkpoints([tmp_path / name], tmp_path / "run", **ask)


def test_an_import_that_broke_off_is_begun_again(tmp_path):
    good, bad = strangers.model().state_dict(), nn.Linear(1, 1).state_dict()
    torch.save(good, tmp_path / "1.pt")
    torch.save(bad, tmp_path / "2.pt")
    files, ask = [tmp_path / "1.pt", tmp_path / "2.pt"], {"objective": "support.strangers:objective"}
    with pytest.raises(LandscapeError, match="missing"):
        import_checkpoints(files, tmp_path / "run", **ask)
    torch.save(good, tmp_path / "2.pt")
    assert import_checkpoints(files, tmp_path / "run", **ask).steps.tolist() == [1, 2]
    shutil.rmtree(tmp_path / "run")
    torch.save({**good, "8.bias": torch.ones(2, dtype=torch.int8)}, tmp_path / "2.pt")
    with pytest.raises(LandscapeError, match="quantised"):
        import_checkpoints(files, tmp_path / "run", **ask)


def test_a_loss_that_is_no_loss_of_samples_is_told_before_the_training(tmp_path, losses):
    where, f = losses("def mean():\n    return net(), lambda y, t: mse(y, t).mean(), (X, Y)\n")
    with pytest.raises(LandscapeError, match=r"expected per_sample_loss.* of shape \(N,\)"):
        record(tmp_path / "run", f["net"](), objective=where + "mean")
    torch.save(f["net"]().state_dict(), tmp_path / "7.pt")
    with pytest.raises(LandscapeError, match=r"expected per_sample_loss.* of shape \(N,\)"):
        import_checkpoints([tmp_path / "7.pt"], tmp_path / "imported", objective=where + "mean")
    assert not (tmp_path / "imported").exists()


def test_where_checkpoints_differ_in_buffers_the_loss_of_none_in_particular_is_refused(tmp_path):
    net = strangers.model()
    with record(tmp_path, net, objective="support.strangers:objective", schedule=EVERY) as rec:
        for step in range(2):
            rec.save(step)
            net(strangers.data()[0])
    run = Run.open(tmp_path)
    with pytest.raises(LandscapeError, match=r"each has a loss of its own. Say which: objective\(at=step\)"):
        run.objective()
    assert torch.isfinite(run.objective(at=1).loss(run.parameters[1]))


def test_a_report_that_can_ask_nothing_says_why_once(tmp_path, landscape):
    with record(tmp_path / "run", nn.Linear(1, 1), schedule=EVERY) as rec:
        for step in range(3):
            rec.save(step)
    code, _, err = landscape("report", tmp_path / "run", "-o", tmp_path / "page.html", "-q")
    assert (code, err.count("found none named yet")) == (2, 1)
    assert not (tmp_path / "page.html").exists()


def test_an_export_that_cannot_be_written_is_one_message(tmp_path, landscape):
    with record(tmp_path / "run", nn.Linear(1, 1)) as rec:
        rec.save(0)
    (tmp_path / "file").write_text("in the way")
    code, _, err = landscape("export", tmp_path / "run", "-o", tmp_path / "file" / "a.safetensors")
    assert (code, "could not write" in err, "Traceback" in err) == (1, True, False)
