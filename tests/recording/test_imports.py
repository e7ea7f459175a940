from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import strangers
from torch import nn

from landscape import LandscapeError, Run, export_checkpoint, import_checkpoints, record, sweep

OBJECTIVE = "support.strangers:objective"


def states(n=3):
    """State dicts of a model at several steps, with other running means at each."""
    out = []
    for seed in range(n):
        net = strangers.model(seed).train()
        net(strangers.data()[0])
        out.append(net.state_dict())
    return out


def plain(state):
    """Without the alias of a tied tensor, as safetensors wants it."""
    return {n: t.clone() for n, t in state.items() if n != "6.weight"}


@pytest.mark.parametrize("kind", ["pt", "safetensors", "nested", "ddp", "huggingface", "shards"])
def test_every_form_of_checkpoint_gives_the_same_run(tmp_path, kind):
    folder, steps = tmp_path / "files", (0, 20, 100)
    folder.mkdir()
    for step, state in zip(steps, states(), strict=True):
        if kind == "pt":
            torch.save(state, folder / f"epoch1-step{step}.pt")
        elif kind == "safetensors":
            save_file(plain(state), folder / f"model_{step}.safetensors")
        elif kind == "nested":
            torch.save(
                {"global_step": step, "model_state_dict": state, "lr": 0.1}, folder / f"{'abc'[steps.index(step)]}.ckpt"
            )
        elif kind == "ddp":
            torch.save({f"module.{n}": t for n, t in state.items()}, folder / f"{step}.pth")
        else:
            (inner := folder / f"checkpoint-{step}").mkdir()
            if kind == "huggingface":
                save_file(plain(state), inner / "model.safetensors")
                log = [{"loss": 1 / (s + 1), "step": s} for s in steps if s <= step]
                (inner / "trainer_state.json").write_text(json.dumps({"log_history": log}))
            else:
                parts = dict(list(plain(state).items())[:3]), dict(list(plain(state).items())[3:])
                names = [f"model-{i}-of-2.safetensors" for i in (1, 2)]
                for name, part in zip(names, parts, strict=True):
                    save_file(part, inner / name)
                where = {n: name for name, part in zip(names, parts, strict=True) for n in part}
                (inner / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    run = import_checkpoints([folder], tmp_path / "run", objective=OBJECTIVE)
    assert (run.kind, run.status, run.steps.tolist()) == ("imported", "complete", list(steps))
    for step, state in zip(steps, states(), strict=True):
        own = run.tensors(step)
        assert set(own) == set(state)
        for name, value in own.items():
            assert torch.equal(value, state[name]), name
            assert value.dtype == state[name].dtype
    if kind == "huggingface":
        np.testing.assert_allclose(run.metrics.loss, [1, 1 / 21, 1 / 101])
    else:
        assert run.metrics.sizes["step"] == 0


def test_an_imported_run_is_probed_with_the_loss_of_each_checkpoint(tmp_path):
    for step, state in enumerate(states(2)):
        torch.save(state, tmp_path / f"{step}.pt")
    run = import_checkpoints([tmp_path], tmp_path / "run", objective=OBJECTIVE, config={"seed": 3, "arch": "cnn"})
    ds = sweep("samples", run, seed=0)
    x, y = strangers.data()
    for step, state in enumerate(states(2)):
        net = strangers.model().double().eval()
        net.load_state_dict(state)
        np.testing.assert_allclose(ds.loss.sel(step=step), strangers.per_sample_loss(net(x.double()), y).detach())
    assert (ds.attrs["arch"], ds.attrs["run_seed"], ds.attrs["kind"]) == ("cnn", 3, "imported")
    with pytest.raises(LandscapeError, match="no optimiser was recorded"):
        sweep("spectrum", run, seed=0, steps=[1], metric="adam")


def test_only_what_requires_a_gradient_varies_and_the_rest_is_that_of_the_checkpoint(tmp_path):
    for step, state in enumerate(states(2)):
        torch.save(state, tmp_path / f"{step}.pt")
    run = import_checkpoints([tmp_path], tmp_path / "run", objective="support.strangers:frozen")
    trainable = sum(p.numel() for p in strangers.frozen()[0].parameters() if p.requires_grad)
    objective = run.objective(at=1)
    assert objective.size == trainable < run.layout.size
    assert torch.equal(run.module(1)[1].weight, states(2)[1]["1.weight"])
    surface = sweep("surface", run, seed=0, points=2, directions="random")
    np.testing.assert_allclose(surface.path_loss[1], float(objective.loss(objective.w0)), rtol=1e-12)
    assert sweep("spectrum", run, seed=0, k=2).eigenvalue.shape == (2, 2)


def test_given_steps_and_appended_names(tmp_path):
    a, b = states(2)
    torch.save(a, tmp_path / "start.pt")
    torch.save(b, tmp_path / "end.pt")
    files = [tmp_path / "start.pt", tmp_path / "end.pt"]
    with pytest.raises(LandscapeError, match="in its name, found no number"):
        import_checkpoints(files, tmp_path / "run", objective=OBJECTIVE)
    assert not (tmp_path / "run").exists()
    assert import_checkpoints(files, tmp_path / "run", objective=OBJECTIVE, steps=[0, 70]).steps.tolist() == [0, 70]
    with pytest.raises(LandscapeError, match="holds a run already"):
        import_checkpoints(files, tmp_path / "run", objective=OBJECTIVE, steps=[0, 70])
    with pytest.raises(LandscapeError, match="found 1 for 2 checkpoints"):
        import_checkpoints(files, tmp_path / "other", objective=OBJECTIVE, steps=[0])


class Custom:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(1)}, r"missing: 1.weight.*unexpected: a\. Is it of another architecture"),
        ({"anything": Custom()}, "found .*Custom: reading them could run any code"),
        ({"args": Namespace(lr=1)}, "could run any code"),
        ([1, 2], "expected a state dict in .*, found list"),
        ({"a": {"b": 1}}, "found keys a. Say which: --key NAME"),
        ("tied", "0?.*4.weight and 6.weight are one tensor in the module, tied, and differ"),
        ("shape", r"expected 8.bias of shape \(2,\) in .*, found \(3,\)"),
        ("damaged", "found a damaged or foreign file"),
        ("text", "found a damaged or foreign file"),
    ],
)
def test_files_that_cannot_be_taken_are_told_and_leave_nothing(tmp_path, content, message):
    file = tmp_path / "7.pt"
    state = states(1)[0]
    if content == "tied":
        torch.save({**state, "6.weight": state["4.weight"] + 1}, file)
    elif content == "shape":
        torch.save({**state, "8.bias": torch.ones(3)}, file)
    elif content == "damaged":
        torch.save(state, file)
        file.write_bytes(file.read_bytes()[:-400])
    elif content == "text":
        (file := tmp_path / "7.safetensors").write_text("hello")
    else:
        torch.save(content, file)
    with pytest.raises(LandscapeError, match=message):
        import_checkpoints([file], tmp_path / "run", objective=OBJECTIVE)
    assert not (tmp_path / "run").exists()


def test_tensors_of_no_concern_are_left_out_by_name(tmp_path):
    torch.save({**states(1)[0], "attn.mask": torch.ones(2)}, tmp_path / "7.pt")
    run = import_checkpoints([tmp_path / "7.pt"], tmp_path / "run", objective=OBJECTIVE, ignore=["*.mask"])
    assert run.steps.tolist() == [7]


def test_what_is_exported_is_what_was_recorded(tmp_path, run, landscape):
    net = strangers.model()
    with record(tmp_path / "r", net) as rec:
        rec.save(4)
    code, _, err = landscape("export", tmp_path / "r", "-o", tmp_path / "out.safetensors")
    assert code == 0, err
    found = load_file(tmp_path / "out.safetensors")
    assert set(found) == set(net.state_dict())  # tied ones by each name
    for name, value in found.items():
        assert torch.equal(value, net.state_dict()[name])
        assert value.dtype == net.state_dict()[name].dtype
    assert err == ""
    net.requires_grad_(False)[8].requires_grad_(True)
    with record(tmp_path / "part", net) as rec:
        rec.save(0)
    code, _, err = landscape("export", tmp_path / "part", "-o", tmp_path / "part.safetensors")
    assert (code, "held fixed" in err) == (0, True)
    export_checkpoint(run, int(run.steps[2]), tmp_path / "ours.safetensors")
    named = run.layout.unflatten(run.parameters[2])
    assert all(torch.equal(named[n], t) for n, t in load_file(tmp_path / "ours.safetensors").items())
    assert landscape("export", f"{run.path}@9999", "-o", tmp_path / "x.safetensors")[0] == 2
    with pytest.raises(LandscapeError, match=r"ends in \.safetensors"):
        export_checkpoint(run, 0, tmp_path / "x.pt")


def test_the_commands_from_files_to_a_table(tmp_path, landscape):
    for step, state in enumerate(states(2)):
        torch.save(state, tmp_path / f"{step}.pt")
    code, out, err = landscape("import", tmp_path, "--objective", OBJECTIVE, "-o", tmp_path / "run", "--set", "seed=1")
    assert (code, "2 checkpoints of" in out) == (0, True), err
    code, out, err = landscape("probe", tmp_path / "run", "-p", "spectrum", "--set", "spectrum.k=1", "-q")
    assert code == 0, err
    code, out, err = landscape("probe", tmp_path / "run", "-p", "samples", "--objective", "support.strangers:weighted")
    assert code == 0, err
    assert set(Run.open(tmp_path / "run").objectives) == {OBJECTIVE, "support.strangers:weighted"}
    code, _, err = landscape("probe", tmp_path / "run", "-p", "samples", "--split", "train")
    assert code == 2
    assert "the objective support.strangers:objective failed: KeyError: 'train'" in err
    code, _, err = landscape("import", tmp_path / "nothing", "--objective", OBJECTIVE, "-o", tmp_path / "run2")
    assert (code, "found nothing" in err) == (2, True)


def test_a_module_with_a_model_inside_of_a_lightning_checkpoint(tmp_path):
    state = nn.Linear(4, 2).state_dict()
    torch.save({"state_dict": {f"model.{n}": t for n, t in state.items()}, "global_step": 30}, tmp_path / "last.ckpt")
    run = import_checkpoints([tmp_path / "last.ckpt"], tmp_path / "run", objective="support.strangers:other")
    assert run.steps.tolist() == [30]
    assert torch.equal(run.tensors(30)["weight"], state["weight"])
