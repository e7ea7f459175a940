"""What tests run in processes of their own: these must be importable there."""

import os
import resource
import signal
import time

import torch

from landscape import RunFailedError, train


def run_training(config, path):
    torch.set_num_threads(1)
    train(config, path)


def run_training_with_little_disk(config, path, queue):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (110_000, 110_000))
    try:
        train(config, path)
    except RunFailedError as error:
        queue.put(str(error))
    else:
        queue.put("finished")


def where(i, seconds=0.0):
    time.sleep(seconds)
    return i, os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS")


def fails(i):
    time.sleep(0.2 * i)
    if i == 2:
        raise ValueError("two")
    return i


def dies(i):
    if i == 0:  # the first call goes to a worker
        os.kill(os.getpid(), signal.SIGKILL)
    return i


def mark(i, folder):
    time.sleep(0.3)
    open(f"{folder}/{i}", "w").close()
    return i
