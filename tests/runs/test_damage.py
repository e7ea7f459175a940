"""Damaged run files and disks without room: one message in time, no wrong number, nothing left over."""

import faulthandler
import os
import random
import resource
import subprocess
import sys
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import torch
from support.runs import identical

from landscape import LandscapeError, Run, RunFailedError, sweep, train
from landscape.runs.hdf5 import lookup3
from landscape.runs.reading import FILE_NAME


@contextmanager
def bounded(seconds=30):
    """End the process with a traceback if HDF5 never comes back; a signal would wait for it."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def as_killed(data):
    """The file as its writer leaves it when it is killed."""
    data = bytearray(data)
    data[11] = 5  # open for writing, in reader's mode
    data[44:48] = lookup3(bytes(data[:44])).to_bytes(4, "little")
    return bytes(data)


def damage(data, kind, at, size):
    data = bytearray(data)
    piece = data[at : at + size]
    if kind == "lost":
        del data[at : at + size]
    elif kind == "doubled":
        data[at:at] = piece
    elif kind == "noise":
        data[at : at + size] = random.Random(at).randbytes(len(piece))
    else:
        data[at : at + size] = bytes(len(piece))
    return bytes(data)


def read_all(path):
    run = Run.open(path)
    return run.parameters[:], run.optimizer[:], run.metrics, run.status


@pytest.mark.parametrize("kind", ["lost", "doubled", "noise", "zeros"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_damaged_block_anywhere_is_refused_or_harmless(run, tmp_path, kind, killed):
    good = (run.path / FILE_NAME).read_bytes()
    good = as_killed(good) if killed else good
    parameters, optimizer, metrics, status = read_all(run.path)
    path, draw = tmp_path / FILE_NAME, random.Random(f"{kind} {killed}")
    # The front part is where HDF5 keeps texts, in blocks without a checksum.
    for limit in [6200] * 15 + [len(good)] * 15:
        path.write_bytes(damage(good, kind, draw.randrange(limit), draw.choice([16, 300, 4032])))
        with bounded():
            try:
                found = read_all(path.parent)
            except LandscapeError:
                continue
        n, m = len(found[0]), found[2].sizes["step"]
        assert torch.equal(found[0], parameters[:n])
        assert torch.equal(found[1], optimizer[:n])
        assert found[2].equals(metrics.isel(step=slice(m)))
        assert found[2].attrs["peak_memory"] == metrics.attrs["peak_memory"]
        assert found[3] == status


@pytest.mark.parametrize("end", [bytes(16), b"\1" + bytes(7) + b"\xff" * 8, b"\0" * 8 + b"\xff" * 8])
def test_texts_whose_walk_would_not_end_are_refused(tmp_path, end):
    """HDF5 never comes back from the first of these."""
    path = tmp_path / FILE_NAME
    with h5py.File(path, "w", libver="latest") as f:
        f.attrs["format"] = "landscape-run"
    data = bytearray(path.read_bytes())
    at = data.find(b"GCOL") + 16
    data[at : at + 16] = end
    path.write_bytes(data)
    with bounded(), pytest.raises(LandscapeError, match="block of texts"):
        Run.open(path)


def test_a_row_of_zeros_is_not_taken_for_data(fresh_run):
    """Fletcher-32 of zeros is zero, so that a lost row would pass for a row."""
    path = fresh_run.path / FILE_NAME
    row = fresh_run.parameters[3].numpy().tobytes()
    data = bytearray(path.read_bytes())
    at = data.find(row)
    data[at - 7 : at + len(row) + 8] = bytes(len(row) + 15)
    path.write_bytes(data)
    with pytest.raises(LandscapeError, match="damaged"):
        _ = fresh_run.parameters[3]


@pytest.mark.parametrize(("name", "value"), [("status", 7), ("step", 0)])
def test_values_that_cannot_be_are_refused(fresh_run, name, value):
    with h5py.File(fresh_run.path / FILE_NAME, "r+") as f:
        f[name][-1] = value
    with pytest.raises(LandscapeError, match=name):
        _ = (fresh_run.status, fresh_run.steps)


def test_damage_is_found_before_a_run_is_continued(config, tmp_path):
    def stop(progress):
        if progress.step >= 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "a", progress=stop)
    path = tmp_path / "a" / FILE_NAME
    with h5py.File(path, "r+") as f:
        del f["metrics"]["flops"]
    before = path.read_bytes()
    with pytest.raises(LandscapeError, match=r"damaged.*flops"):
        train(config(), tmp_path / "a")
    assert path.read_bytes() == before


@contextmanager
def file_limit(size):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


def test_any_limit_is_a_message_and_the_run_goes_on_after_it(config, tmp_path):
    c = config(steps=40, checkpoints=20)
    for size in (4_000, 20_000, 60_000, 80_000, 90_000):
        with file_limit(size), pytest.raises(RunFailedError, match=r"could not write .*too large.*ulimit -f"):
            train(c, tmp_path / "a")
        assert {p.name for p in (tmp_path / "a").glob("*")} <= {".lock", FILE_NAME}
    before = Run.open(tmp_path / "a").steps
    assert len(before) > 0
    identical(train(c, tmp_path / "whole"), train(c, tmp_path / "a"))


def test_a_killed_run_is_not_lost_where_its_copy_has_no_room(config, tmp_path):
    c = config(steps=40, checkpoints=20)
    with file_limit(110_000), pytest.raises(RunFailedError):
        train(c, tmp_path / "a")
    path = tmp_path / "a" / FILE_NAME
    path.write_bytes(as_killed(path.read_bytes()))
    before = path.read_bytes()
    with file_limit(60_000), pytest.raises(RunFailedError, match="too large"):
        train(c, tmp_path / "a")
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.iterdir()} == {".lock", FILE_NAME}
    identical(train(c, tmp_path / "whole"), train(c, tmp_path / "a"))


def test_a_result_without_room_leaves_nothing(fresh_run):
    with file_limit(8_000), pytest.raises(RunFailedError, match=r"could not write .*too large.*ulimit -f"):
        sweep("spectrum", fresh_run, seed=0, k=2)
    assert not [p for p in fresh_run.path.rglob("*") if p.is_file() and p.name not in (".lock", FILE_NAME)]
    assert np.isfinite(sweep("spectrum", fresh_run, seed=0, k=2).eigenvalue).all()


@pytest.mark.slow
def test_the_command_under_a_limit_ends_in_order(tmp_path):
    """HDF5 crashes when the interpreter ends, after any write that failed."""
    args = "train --width 4 --steps 60 -q --device cpu --set task.n_train=61 --set task.n_probe=21 --set task.n_test=20"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 64; exec {sys.executable} -m landscape {args} -o {tmp_path / 'a'}"],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr, "Fatal" in done.stderr) == (1, False, False)
    assert done.stderr.startswith("Error: could not write")
