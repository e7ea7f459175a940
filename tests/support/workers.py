"""What tests run in processes of their own: these must be importable there."""

import os
import resource
import signal
import threading
import time


def run_training(config, path, reached, last):
    """Train, tell the steps that are committed, and stay at step `last`: only a signal ends it."""
    import torch  # here, and so not where other functions of this file run

    from landscape import train

    def progress(p):
        reached.value = p.step
        if p.step >= last:
            threading.Event().wait()

    torch.set_num_threads(1)
    train(config, path, progress=progress)


def run_training_with_little_disk(config, path, queue):
    from landscape import RunFailedError, train

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (110_000, 110_000))
    try:
        train(config, path)
    except RunFailedError as error:
        queue.put(str(error))
    else:
        queue.put("finished")


def wait_for(condition, *, seconds=300.0):
    """Wait until it holds; that long only where something is broken."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.002)


def where(i):
    return i, os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS")


def goes_on(i, begun, go, ended):
    """Say so in a file, and end when another file is there."""
    with open(f"{begun}.part", "w") as f:
        f.write(str(os.getpid()))
    os.rename(f"{begun}.part", begun)
    wait_for(lambda: os.path.exists(go))
    open(ended, "w").close()
    return i


def _begin(folder):
    """Say in `folder` that this process begins its n-th call; n, and the names that others wrote."""
    mine = f"{os.getpid()}-"
    n = sum(name.startswith(mine) for name in os.listdir(folder))
    open(f"{folder}/{mine}{n}", "w").close()
    return n, lambda: [name for name in os.listdir(folder) if not name.startswith(mine)]


def together(i, folder):
    """The n-th call of a process ends when another process has begun its n-th: no speed makes one of them do more."""
    n, others = _begin(folder)
    wait_for(lambda: any(name.endswith(f"-{n}") for name in others()))
    return where(i)


def held(i, folder, here):
    """In the process `here` over when another has begun a call, elsewhere never."""
    _, others = _begin(folder)
    wait_for(lambda: os.getpid() == here and others())
    return i


def fails(i):
    if i == 2:
        raise ValueError("two")
    return i


def dies(i):
    if i == 0:  # the first call goes to a worker
        os.kill(os.getpid(), signal.SIGKILL)
    return i


class DiesElsewhere:
    """A loss that kills every process but one."""

    def __init__(self, here):
        self.here = here

    def __call__(self, y, t):
        if os.getpid() != self.here:
            os.kill(os.getpid(), signal.SIGKILL)
        return ((y - t) ** 2).sum(1)
