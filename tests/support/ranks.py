"""Processes of a gloo group: they are started, waited for so long at most, and killed."""

import json
import multiprocessing
import os
import signal
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from landscape import LandscapeError, Objective, analyze, distributed
from landscape.curvature import native_build
from landscape.loss.metric import RescaledObjective
from landscape.probes import density, samples, spectrum, surface, valley
from landscape.training.config import RunConfig
from landscape.training.setup import Setup


def spawned(function, size, folder, *, seconds=240, timeout=60, stays=()):
    """What `function(rank)` returned on each rank (None: nothing), and exit codes; ranks in `stays` never end."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_member, args=(function, r, size, folder, timeout)) for r in range(size)]
    for process in processes:
        process.start()
    try:
        deadline = time.monotonic() + seconds
        for process in (p for r, p in enumerate(processes) if r not in stays):
            process.join(max(0.0, deadline - time.monotonic()))
            assert process.exitcode is not None, "a process hangs"
    finally:
        for process in processes:
            process.kill()
            process.join()
    files = [folder / f"{rank}.pt" for rank in range(size)]
    found = [torch.load(file) if file.exists() else None for file in files]
    return found, [process.exitcode for process in processes]


def _member(function, rank, size, folder, timeout):
    torch.set_num_threads(1)
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=timedelta(seconds=timeout))
    torch.save(function(rank), folder / f"{rank}.pt")
    os._exit(0)  # a group that lacks a member cannot be taken apart


# -- what is measured -------------------------------------------------------------------------------------------------


def network(n, *, weights=None, loss=None, chunk=2, **settings):
    g = torch.Generator().manual_seed(1)
    data = (torch.randn(n, 3, generator=g), torch.randint(0, 2, (n,), generator=g))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    loss = loss or torch.nn.CrossEntropyLoss(reduction="none")
    return Objective(module, loss, data, weights=weights, chunk=chunk, **settings)


def attention(n=7):
    config = RunConfig.make(task={"n_train": 8, "n_probe": n, "n_test": 8, "length": 6}, model={"width": 4}, steps=1)
    return Setup(config).objective("probe", chunk=2)


def objectives():
    """Seven samples for two or three ranks, in chunks that do not fit; two for three."""
    plain = network(7)
    return {
        "plain": plain,
        "weighted": network(7, weights=torch.arange(7) / 2),
        "heavy": network(7, weights=torch.tensor([0, 0, 0, 0, 0, 0, 3.0])),
        "few": network(2),
        "one": network(1),
        "single": network(7, dtype=torch.float32),
        "rescaled": RescaledObjective(plain, 0.5 + torch.arange(plain.size)),
        "attention": attention(),
        "attention of two": attention(2),
    }


def strategies(name):
    if name.startswith("attention"):
        return ("native", "cached") if name == "attention" else ("cached",)
    return ("cached", "forward", "compiled", "difference") if name in ("plain", "few") else ("cached", "forward")


def quantities(name, objective):
    """Everything that an objective gives, near `w0`."""
    w = objective.w0 + 0.1
    V = torch.randn(objective.size, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    V = V.to(objective.dtype)
    out = {
        "loss": objective.loss(w),
        "losses": objective.losses(w + torch.arange(3)[:, None] / 10),
        "grad": objective.grad(w),
        "per_sample": objective.per_sample(w),
        "outputs": objective.map(w, lambda y, _: y if y.ndim == 2 else y[:, 0]),
        "right": objective.map(w, lambda y, t: y.argmax(1) == t) if "att" not in name else torch.zeros(0),
        "ggn": objective.ggn(w).mm(V),
        "auto": objective.hessian(w).mv(V[:, 0]),
        "residual": objective.residual(w).mv(V[:, 0]),
        "dense": objective.hessian(w).dense(),
    }
    for strategy in strategies(name):
        H = objective.hessian(w, strategy=strategy, block=2)
        out[strategy] = H.mm(V)
        out[f"{strategy} error"] = torch.tensor(H.error)
    return out


def measured(rank):
    """What every rank finds, and the caveats, fingerprint and number of samples."""
    out = {}
    for name, objective in objectives().items():
        d = distributed(objective)
        out[name] = quantities(name, d)
        out[name]["about"] = [d.fingerprint, d.n_samples, d.caveats, d.hessian(d.w0).strategy]
    return out


def probed(rank=None):
    """Probes of the attention model on seven samples, by every rank or (None) one process."""
    objective = attention()
    if rank is not None:
        objective = distributed(objective)
    w = objective.w0
    answers = {
        "spectrum": spectrum(objective, w, seed=0, k=3),
        "density": density(objective, w, seed=0, vectors=3),
        "valley": valley(objective, w, seed=0, top=1, bottom=0, random=1),
        "surface": surface(objective, w, seed=0, points=3, directions="random"),
        "samples": samples(objective, w),
    }
    return {name: json.dumps(ds.to_dict()) for name, ds in answers.items()}


# -- what fails -------------------------------------------------------------------------------------------------------


class Bad(torch.nn.Module):
    """Losses of which that of the last of seven samples is what it is set to, or raises."""

    def __init__(self):
        super().__init__()
        self.what = None

    def forward(self, y, t):
        losses = torch.nn.functional.cross_entropy(y, t, reduction="none")
        if self.what and len(y) == 1:  # the last chunk
            if self.what == "raises":
                raise ValueError("this sample cannot be read")
            if self.what == "memory":
                raise MemoryError
            losses = losses * float("nan")
        return losses


def said(call):
    """The error of a call: its kind and text."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        ours = isinstance(error, LandscapeError)
        return [type(error).__name__, str(error), error.exit_code if ours else -1]
    return None


def failing(rank):
    """One rank fails, then all go on."""
    bad = Bad()
    d = distributed(network(7, loss=bad))
    w = d.w0 + 0.1
    before, H = d.grad(w), d.hessian(w)
    out = {}
    for what in ("raises", "memory", "nan"):
        bad.what = what
        out[f"{what} loss"] = said(lambda: d.losses(w[None]))
        out[f"{what} gradient"] = said(lambda: d.grad(w))
        out[f"{what} losses"] = said(lambda: d.per_sample(w))
        out[f"{what} operator"] = said(lambda: d.hessian(w + 1, strategy="cached"))
        out[f"{what} product"] = said(lambda: d.ggn(w).mv(before))
    bad.what = None
    out["after"] = torch.equal(d.grad(w), before) and bool(torch.isfinite(H.mv(before)).all())
    return out


def refused(rank):
    """Ranks with different data, a strategy that cannot be, a compiler on one rank alone, what measures times."""
    d = distributed(network(7))
    if rank == 1:
        native_build.compiler = lambda: None
    toy = distributed(attention())
    return {
        "without compiler": toy.hessian(toy.w0).strategy,
        "data": said(lambda: distributed(network(7 + rank))),
        "native": said(lambda: d.hessian(d.w0, strategy="native")),
        "analyze": said(lambda: analyze(d, seed=0)),
    }


def astray(rank):
    """The ranks ask two objectives in another order."""
    one, two = distributed(network(7)), distributed(network(7))
    one.loss(one.w0)
    return said(lambda: (one if rank else two).loss(one.w0))


def killed(rank):
    """The last rank is killed between two products."""
    d = distributed(network(7))
    H = d.hessian(d.w0)
    H.mv(d.w0)
    if rank == dist.get_world_size() - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return said(lambda: H.mv(d.w0))


def still(rank):
    """Rank 1 stops answering."""
    d = distributed(network(7))
    H = d.hessian(d.w0)
    if rank == 1:
        threading.Event().wait()
    begun = time.monotonic()
    return [said(lambda: H.mv(d.w0)), time.monotonic() - begun]


def sums(rank):
    """Bits of all-reduced numbers of many sizes, on this rank."""
    out = []
    for size in (1, 2, 3, 5, 7, 17, 64, 1000, 4096, 100_003):
        for dtype in (torch.float32, torch.float64):
            x = torch.randn(size, dtype=dtype, generator=torch.Generator().manual_seed(rank + size))
            dist.all_reduce(x)
            out.append(x)
    return out
