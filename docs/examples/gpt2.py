"""A small GPT-2 of Hugging Face, its default attention, trained by Hugging Face's trainer with a callback.

python gpt2.py && landscape probe runs/gpt2 --samples 32 && landscape plot runs/gpt2
"""

import sys

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

TEXT = "the valley is steep and the river is slow and the path goes down to the sea where the valley ends " * 60
LENGTH = 16


def model():
    torch.manual_seed(0)
    sizes = {"vocab_size": 27, "n_positions": LENGTH, "n_embd": 24, "n_layer": 2, "n_head": 4}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**sizes, **dropout, bos_token_id=0, eos_token_id=0, use_cache=False))


def tokens():
    ids = torch.tensor([0 if letter == " " else ord(letter) - 96 for letter in TEXT])
    return ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)


def loss_of_a_sequence(outputs, ids):
    logits = outputs.logits[:, :-1].transpose(1, 2)
    return nn.functional.cross_entropy(logits, ids[:, 1:], reduction="none").mean(1)


def objective():
    ids = tokens()[:128]
    return model().eval(), loss_of_a_sequence, ({"input_ids": ids}, ids)


def main(steps=200):
    from transformers import Trainer, TrainingArguments

    from landscape.recording.huggingface import RecordCallback

    arguments = TrainingArguments(
        "checkpoints", max_steps=steps, per_device_train_batch_size=16, learning_rate=3e-3, logging_steps=10,
        save_steps=steps, report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    data = [{"input_ids": row, "labels": row} for row in tokens()]
    Trainer(
        model(), arguments, train_dataset=data, callbacks=[RecordCallback("runs/gpt2", objective=objective)]
    ).train()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
