from __future__ import annotations

import gc
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from support.runs import small_config

from landscape import Run, train
from landscape.cli import main

torch.set_num_threads(1)
# Of the million objects that torch makes nothing becomes free: looking through them takes a tenth of the time.
gc.freeze()
gc.set_threshold(20_000)
# Tests leave the user's caches alone, but need not compile the same kernels every time.
CACHE = Path(__file__).parent.parent / ".pytest_cache"
os.environ.setdefault("LANDSCAPE_CACHE", str(CACHE / "kernels"))
# Of its own for each set of instructions: torch's cache takes no account of ATEN_CPU_CAPABILITY.
INSTRUCTIONS = torch.backends.cpu.get_cpu_capability().replace(" ", "")
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE / f"inductor-{INSTRUCTIONS}"))


def pytest_collection_modifyitems(items):
    """Slow tests first: at the end no worker waits long for another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _same_draws():
    """What a test draws without a generator is the same in any order and on any worker."""
    torch.manual_seed(0)


@pytest.fixture
def config():
    return small_config


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A finished looped run. Tests must not write into it; `fresh_run` is for those that do."""
    return train(small_config(), tmp_path_factory.mktemp("shared") / "looped")


@pytest.fixture
def fresh_run(run, tmp_path):
    """A copy of it."""
    return Run.open(shutil.copytree(run.path, tmp_path / "looped"))


@pytest.fixture
def landscape(monkeypatch, tmp_path, capfd):
    """Call the command line in a fresh folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["landscape", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
        out = capfd.readouterr()
        assert "Traceback" not in out.out + out.err
        return stop.value.code, out.out, out.err

    return call
