import multiprocessing
import random
import signal
import time

import numpy as np
import pytest
import torch
from support import workers
from support.runs import BAD_FILES, Stop, identical, make_bad_file, small_config, stop_at

from landscape import LandscapeError, Run, RunFailedError, train
from landscape.curvature.native_build import compiler
from landscape.runs.hdf5 import lookup3
from landscape.runs.lock import writer_lock
from landscape.runs.reading import FILE_NAME

# Processes to be killed start in milliseconds; making an optimiser is what imports the last of these.
multiprocessing.set_forkserver_preload(["landscape.runs.train", "torch._dynamo"])

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")


@pytest.mark.parametrize("gradient", ["autograd", pytest.param("native", marks=needs_compiler)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "gd"])
def test_interrupted_in_order_and_continued(config, tmp_path, optimizer, gradient):
    whole = {"batch": None} if optimizer == "gd" else {}
    c = config(optimizer={"name": optimizer, "lr": 0.01}, gradient=gradient, **whole)
    for step in (0, 1, 7, 11):
        with pytest.raises(Stop):
            train(c, tmp_path / "b", progress=stop_at(step))
    identical(train(c, tmp_path / "a"), train(c, tmp_path / "b"))


def test_complete_run_is_returned_untouched(fresh_run):
    before = (fresh_run.path / FILE_NAME).read_bytes()
    again = train(fresh_run.config, fresh_run.path)
    assert again.id == fresh_run.id
    assert (fresh_run.path / FILE_NAME).read_bytes() == before


def test_other_config_is_refused_with_the_difference(fresh_run, config):
    before = (fresh_run.path / FILE_NAME).read_bytes()
    with pytest.raises(
        LandscapeError, match=r"seed: 0 in the run, 5 asked for\n  task.length: 6 in the run, 7 asked for"
    ):
        train(config(seed=5, task={**{"n_train": 61, "n_probe": 21, "n_test": 20}, "length": 7}), fresh_run.path)
    assert (fresh_run.path / FILE_NAME).read_bytes() == before


def test_divergence_keeps_earlier_checkpoints_and_marks_the_run(config, tmp_path):
    bad = config(optimizer={"name": "sgd", "lr": 1e3, "momentum": 0.0})
    with pytest.raises(RunFailedError, match=r"NaN or infinite at step \d+.*checkpoints up to step \d+ are kept"):
        train(bad, tmp_path / "bad")
    run = Run.open(tmp_path / "bad")
    assert run.status == "diverged"
    assert len(run.steps) >= 2
    assert torch.isfinite(run.parameters[:]).all()
    assert np.isfinite(run.metrics.loss[0]).all()
    before = (run.path / FILE_NAME).read_bytes()
    with pytest.raises(RunFailedError, match="diverged"):
        train(bad, tmp_path / "bad")
    assert (run.path / FILE_NAME).read_bytes() == before


def test_readers_see_committed_steps_while_training_writes(config, tmp_path):
    seen = []

    def look(p):
        run = Run.open(tmp_path / "a")
        assert run.status in ("unfinished", "complete")
        assert int(run.metrics.step[-1]) == p.step
        assert torch.isfinite(run.parameters[:]).all()
        assert len(run.parameters) == len(run.steps) == len(run.optimizer)
        seen.append(len(run.steps))

    run = train(config(), tmp_path / "a", progress=look)
    assert seen == sorted(seen)
    assert seen[-1] == len(run.steps) == 7


def test_two_writers_are_refused(config, tmp_path):
    with writer_lock(tmp_path / "a"), pytest.raises(LandscapeError, match="another process is writing"):
        train(config(), tmp_path / "a")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that commits at every step, which nothing interrupted, and the seconds a step took."""
    start = time.monotonic()
    run = train(small_config(steps=40, evaluate_every=1, checkpoints=40), tmp_path_factory.mktemp("whole") / "whole")
    return run, (time.monotonic() - start) / 40


def kill_at(config, path, step, delay):
    """Train in a process of its own and kill -9 it so long after it told a step, -1: after its file appeared."""
    context = multiprocessing.get_context("forkserver")
    reached = context.Value("i", -1)
    process = context.Process(target=workers.run_training, args=(config, path, reached, config.steps - 2))
    process.start()
    workers.wait_for(
        lambda: not process.is_alive() or (reached.value >= step if step >= 0 else (path / FILE_NAME).exists())
    )
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_thirty_kills_lose_nothing(whole, tmp_path, part):
    """kill -9 at random moments: the file opens, holds every committed step, and continues to the same end."""
    whole, pace = whole
    rng = random.Random(part)
    for attempt in range(5):
        path = tmp_path / f"killed-{attempt}"
        kill_at(whole.config, path, step=rng.randrange(-1, 36), delay=rng.uniform(0, 1.5 * pace))
        before = Run.open(path)
        steps, parameters, metrics = before.steps, before.parameters[:], before.metrics
        n = len(steps)
        assert np.array_equal(steps, whole.steps[:n])
        assert torch.equal(parameters, whole.parameters[:n])
        after = train(whole.config, path)
        assert np.array_equal(after.steps[:n], steps)
        assert metrics.seconds.equals(after.metrics.seconds[: metrics.sizes["step"]])  # rows kept, not written again
        identical(whole, after)


@pytest.mark.slow
@pytest.mark.parametrize("step", [-1, 20])
def test_killed_again_in_the_same_place(whole, tmp_path, step):
    for _ in range(4):
        kill_at(whole[0].config, tmp_path / "killed", step, delay=0.0)
    identical(whole[0], train(whole[0].config, tmp_path / "killed"))


@pytest.mark.slow
def test_killed_before_its_file_is_there(whole, tmp_path):
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / f".{FILE_NAME}.tmp").write_bytes(b"begun")  # what such a kill leaves
    identical(whole[0], train(whole[0].config, tmp_path / "killed"))


@pytest.mark.slow
def test_full_disk_is_one_message_and_loses_nothing(config, tmp_path):
    """A file-size limit stands in for a full disk: writing fails with the same OSError."""
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    c = config(steps=100, checkpoints=50)
    process = context.Process(target=workers.run_training_with_little_disk, args=(c, tmp_path / "a", queue))
    process.start()
    message = queue.get(timeout=600)
    process.join()
    assert "could not write step" in message
    assert "Free disk space" in message
    before = Run.open(tmp_path / "a").steps
    assert 0 < len(before) < 50
    identical(train(c, tmp_path / "whole"), train(c, tmp_path / "a"))


def test_damaged_row_is_an_error_not_a_number(fresh_run):
    path = fresh_run.path / FILE_NAME
    row = fresh_run.parameters[3].numpy().tobytes()
    data = bytearray(path.read_bytes())
    at = bytes(data).find(row)
    assert at > 0
    data[at + 5] ^= 1
    path.write_bytes(data)
    assert torch.isfinite(fresh_run.parameters[2]).all()
    with pytest.raises(LandscapeError, match="damaged"):
        _ = fresh_run.parameters[3]


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_give_one_clear_message(run, tmp_path, kind):
    good = (run.path / FILE_NAME).read_bytes()
    path = tmp_path / "bad" / FILE_NAME
    path.parent.mkdir()
    make_bad_file(path, kind, good)
    before = path.read_bytes()
    for use in (Run.open, lambda p: train(run.config, p)):
        with pytest.raises(LandscapeError, match="expected") as caught:
            use(path.parent)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("marked", [False, True])
def test_truncated_anywhere_is_an_error_or_whole(run, tmp_path, share, marked):
    """Cut a finished file, or one whose writer was killed, anywhere: never a wrong number, never a long wait."""
    data = bytearray((run.path / FILE_NAME).read_bytes())
    if marked:
        data[11] = 5  # open for writing, in reader's mode
        data[44:48] = lookup3(bytes(data[:44])).to_bytes(4, "little")
    path = tmp_path / "cut" / FILE_NAME
    path.parent.mkdir()
    path.write_bytes(data[: int(share * len(data))])
    try:
        cut = Run.open(path)
        parameters, metrics = cut.parameters[:], cut.metrics
    except LandscapeError:
        pass
    else:
        assert torch.equal(parameters, run.parameters[: len(parameters)])
        assert metrics.loss.equals(run.metrics.loss[: metrics.sizes["step"]])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_any_flipped_byte_is_noticed_or_harmless(run, tmp_path, part):
    """Flip one byte at 100 places: an error, or exactly the numbers that were stored."""
    good = (run.path / FILE_NAME).read_bytes()
    stored, losses = run.parameters[:], run.metrics.loss.values
    path = tmp_path / "flipped" / FILE_NAME
    path.parent.mkdir()
    noticed = 0
    for at in random.Random(part).sample(range(len(good)), 25):
        data = bytearray(good)
        data[at] ^= 0xFF
        path.write_bytes(data)
        try:
            flipped = Run.open(path)
            parameters, metrics = flipped.parameters[:], flipped.metrics
        except LandscapeError:
            noticed += 1
        else:
            assert torch.equal(parameters, stored[: len(parameters)])
            assert np.array_equal(metrics.loss.values, losses[: len(metrics.loss)])
    assert noticed > 0


def test_missing_run_is_one_clear_message(tmp_path):
    with pytest.raises(LandscapeError, match="found none"):
        Run.open(tmp_path)
