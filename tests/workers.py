"""What tests run in processes of their own: these must be importable there."""

import resource
import signal

import torch

from landscape import RunFailedError, train


def run_training(config, path):
    torch.set_num_threads(1)
    train(config, path)


def run_training_with_little_disk(config, path, queue):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    try:
        train(config, path)
    except RunFailedError as error:
        queue.put(str(error))
    else:
        queue.put("finished")
