from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from support import strangers
from torch.utils.data import DataLoader, TensorDataset

from landscape import LandscapeError, Run, Schedule, sweep

EVERY = Schedule(every=1)


@pytest.mark.slow
def test_hugging_face_trainer_is_recorded_and_resumed(tmp_path):
    """In a process of its own: importing transformers warns of this and that."""
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    (tmp_path / "gpt2.py").write_text(GPT2)
    for steps in ("4", "6"):
        done = subprocess.run(
            [sys.executable, "gpt2.py", steps], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run")
    assert (run.status, run.steps.tolist()) == ("complete", list(range(7)))
    assert run.labels == {"arch": "GPT2LMHeadModel", "run_seed": 42}
    assert {"loss", "learning_rate", "grad_norm"} <= set(run.metrics.data_vars)
    assert run.metrics.loss.sel(step=[2, 4, 6]).notnull().all()
    code = (
        "from landscape import Run, sweep; r = Run.open('run');"
        "print(sweep('spectrum', r, seed=0, k=1, steps=[0, 6], samples=4).converged.values.all());"
        "print(sweep('spectrum', r, seed=0, k=1, steps=[6], samples=4, metric='adam').converged.values.all())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr


GPT2 = """
import sys
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

def model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        bos_token_id=0, eos_token_id=0, use_cache=False))

def ids():
    return torch.randint(9, (32, 8), generator=torch.Generator().manual_seed(1))

def loss(outputs, targets):
    logits = outputs["logits"][:, :-1].transpose(1, 2)
    return nn.functional.cross_entropy(logits, targets[:, 1:], reduction="none").mean(1)

def objective():
    return model().eval(), loss, ({"input_ids": ids()}, ids())

if __name__ == "__main__":
    from transformers import Trainer, TrainingArguments
    from landscape import Schedule
    from landscape.recording.huggingface import RecordCallback
    data = [{"input_ids": row, "labels": row} for row in ids()]
    steps = int(sys.argv[1])
    arguments = TrainingArguments("out", max_steps=steps, per_device_train_batch_size=8, logging_steps=2, save_steps=4,
                                  report_to=[], use_cpu=True, disable_tqdm=True)
    callback = RecordCallback("run", objective=objective, schedule=Schedule(every=1))
    Trainer(model(), arguments, train_dataset=data, callbacks=[callback]).train(resume_from_checkpoint=steps > 4)
"""


@pytest.mark.slow
def test_lightning_trainer_is_recorded(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning.pytorch")
        from landscape.recording.lightning import RecordCallback

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = strangers.model()

            def forward(self, x):
                return self.net(x)

            def training_step(self, batch, _):
                loss = strangers.per_sample_loss(self(batch[0]), batch[1]).mean()
                self.log("train_loss", loss)
                return loss

            def configure_optimizers(self):
                return torch.optim.AdamW(self.parameters(), lr=1e-2)

        loader = DataLoader(TensorDataset(*strangers.data()), batch_size=8)
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, log_every_n_steps=1, callbacks=[RecordCallback(tmp_path / "r", schedule=EVERY)],
        )  # fmt: skip
        module = Module()
        trainer.fit(module, loader)
    run = Run.open(tmp_path / "r")
    assert (run.status, run.steps.tolist()) == ("complete", list(range(7)))
    assert {"loss", "train_loss", "learning_rate"} <= set(run.metrics.data_vars)
    assert torch.equal(run.tensors(6)["net.8.bias"], module.net[8].bias.detach())
    assert run.layout.names[0] == "net.1.weight"
    with pytest.raises(LandscapeError, match="found none named yet"):
        sweep("spectrum", run, seed=0)


def test_callbacks_say_what_to_install(monkeypatch):
    from landscape.recording import huggingface, lightning

    for module, extra in ((huggingface, "hf"), (lightning, "lightning")):
        monkeypatch.setattr(module.RecordCallback, "installed", False)
        with pytest.raises(LandscapeError, match=rf"landscape-valleys\[{extra}\]"):
            module.RecordCallback("runs/x")
