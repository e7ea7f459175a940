"""One writer a run, and no trace of one that made nothing."""

import subprocess
import sys

import pytest

from landscape import LandscapeError
from landscape.runs.lock import LOCK_NAME, writer_alive_in, writer_lock


def test_a_folder_in_which_nothing_was_made_is_left_as_it_was(tmp_path):
    new, empty, full = tmp_path / "a" / "new", tmp_path / "empty", tmp_path / "full"
    for folder in (empty, full):
        folder.mkdir()
    (full / "run.h5").write_text("")
    for folder in (new, empty, full):
        with writer_lock(folder):
            assert writer_alive_in(folder)
    assert not new.exists()
    assert list(empty.iterdir()) == []
    assert sorted(p.name for p in full.iterdir()) == [LOCK_NAME, "run.h5"]


def test_a_second_writer_is_refused(tmp_path):
    with writer_lock(tmp_path / "run"):
        with pytest.raises(LandscapeError, match="another process is writing"), writer_lock(tmp_path / "run"):
            pass
        assert writer_alive_in(tmp_path / "run")


WRITER = """
import pathlib, sys, time
from landscape import LandscapeError
from landscape.runs.lock import writer_lock
folder, done = pathlib.Path(sys.argv[1]), 0
while done < 40:
    try:
        with writer_lock(folder):
            (folder / "inside").open("x").close()  # fails if another writer is here
            time.sleep(0.001)
            (folder / "inside").unlink()
            done += 1
    except LandscapeError:
        time.sleep(0.001)
"""


def test_removing_the_lock_lets_no_two_writers_in(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "run")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [p.communicate()[1] for p in writers] == [""] * 3
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "run"])  # who found the folder of another leaves it
