"""The command line as one of several processes, started by torchrun or whatever sets the same variables."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from os import _exit  # without cleaning up
from typing import TYPE_CHECKING, NoReturn

import click
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from landscape.answers.measure import follow
from landscape.answers.team import Team
from landscape.errors import LandscapeError, LostRankError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

__all__ = ["as_rank"]

MEETING = timedelta(minutes=5)
"""How long processes wait for each other at the start: each of them has PyTorch to load."""
WAITING = timedelta(minutes=30)
"""How long one waits for another afterwards. One that ends is noticed at once, one that stands still after this."""
_STOPPED = (
    "Error: stopped (SIGTERM), as torchrun does to all ranks when one of them is lost. What was finished is saved; "
    "repeat the command to continue."
)


def as_rank(run: Callable[[Team, Callable[[str], None]], int]) -> NoReturn:
    """Be one of the processes: rank 0 runs the command, the others compute with it, and all end with one exit code.

    Only rank 0 prints and writes. What ends the command is said once, by the rank that notices first, and every rank
    ends then: no cleaning up in torch may wait for one that is gone.

    Args:
        run: ``(team, tell) -> exit code``, the command line, which tells by `tell` what ended it.
    """
    once, code, whole = _Once(), 1, False
    if int(os.environ["RANK"]) > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        warnings.simplefilter("ignore")
    try:
        team = _team(once)
        code = run(team, once.tell) if team.leads else follow(team)
        once.claim()
        if team.leads and team.idle:
            team.end(code)
        whole = team.idle
    except LandscapeError as error:
        once.tell(f"Error: {error}")
        code = error.exit_code
    except KeyboardInterrupt:
        once.tell("Interrupted. What was finished is saved; repeat the command to continue.")
        code = 130
    except Exception:  # noqa: BLE001
        once.tell(traceback.format_exc())
    if whole:
        with suppress(RuntimeError):
            dist.destroy_process_group()
    with suppress(OSError):
        sys.stdout.flush()
    _exit(code)


class _Once:
    """What is said on standard error by one of all processes, at most once."""

    def __init__(self) -> None:
        self.store: Store | None = None
        self._stream, self._lock, self._open = sys.stderr, threading.Lock(), True

    def claim(self) -> bool:
        """True for the first that asks, of all threads of all processes."""
        with self._lock:
            mine, self._open = self._open, False
        if not mine or self.store is None:
            return mine
        try:
            return int(self.store.add("landscape/said", 1)) == 1
        except RuntimeError:  # whoever kept the store is gone: rather twice than not at all
            return True

    def tell(self, text: str) -> None:
        """Say it, unless something was said."""
        if self.claim():
            with suppress(OSError):
                click.echo(text, err=True, file=self._stream)


def _team(once: _Once) -> Team:
    """Meet the other processes; each takes a card of its own where there are enough."""
    _end_on_sigterm(once)
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=MEETING)))
        once.store = store
        cards = torch.cuda.device_count()
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", size))
        if cards:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % cards)
        # nccl wants a card for each rank; gloo lets several share one.
        backend = "cpu:gloo,cuda:nccl" if 0 < beside <= cards else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAITING)
        return Team()
    except (RuntimeError, ValueError) as error:
        raise LostRankError(
            f"expected {os.environ['WORLD_SIZE']} processes, as WORLD_SIZE says, but they did not meet: {error}. Start "
            "them by torchrun; or, for one process alone, unset RANK and WORLD_SIZE."
        ) from error


def _end_on_sigterm(once: _Once) -> None:
    """End at once on SIGTERM, with a word; a handler of Python's would wait for whatever torch is waiting for."""
    here, there = socket.socketpair()
    here.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(here.fileno())

    def watch() -> None:
        with here, there:
            while signal.SIGTERM not in there.recv(64):
                pass
            once.tell(_STOPPED)
            _exit(1)

    threading.Thread(target=watch, daemon=True).start()
