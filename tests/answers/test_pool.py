import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import workers

from landscape.answers.pool import shared_out
from landscape.answers.sweep import sweep


@pytest.mark.parametrize("n", [0, 1, 2, 9])
@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_every_call_is_answered_once(n, jobs):
    assert sorted(i for i, *_ in shared_out(workers.where, [(i,) for i in range(n)], jobs=jobs)) == list(range(n))


def test_this_process_and_one_worker_share_the_calls(tmp_path):
    found = list(shared_out(workers.together, [(i, str(tmp_path)) for i in range(24)], jobs=2))
    assert sorted(i for i, *_ in found) == list(range(24))
    assert sum(pid == os.getpid() for _, pid, _ in found) == 12, "both work all the time"
    assert len({pid for _, pid, _ in found}) == 2
    assert all(threads == "1" for (_, pid, threads) in found if pid != os.getpid())


def test_an_error_of_a_call_comes_out_and_the_next_use_works():
    with pytest.raises(ValueError, match="two"):
        list(shared_out(workers.fails, [(i,) for i in range(8)], jobs=2))
    assert len(list(shared_out(workers.where, [(i,) for i in range(3)], jobs=2))) == 3


def test_a_worker_that_is_killed_is_an_error_not_a_hang():
    with pytest.raises(RuntimeError, match=r"(?i)terminated"):
        list(shared_out(workers.dies, [(i,) for i in range(4)], jobs=2))


def test_a_killed_worker_loses_its_own_call_only():
    calls = [(i,) for i in range(6)]
    with contextlib.closing(shared_out(workers.dies, calls, jobs=2, here=False, lost=lambda i: -1)) as found:
        assert sorted(found) == [-1, 1, 2, 3, 4, 5]
    pids = {pid for _, pid, _ in shared_out(workers.where, calls, jobs=2, here=False)}
    assert os.getpid() not in pids


def test_leaving_early_stops_the_rest(tmp_path):
    calls = shared_out(workers.held, [(i, str(tmp_path), os.getpid()) for i in range(40)], jobs=2)
    next(calls)
    begun = sorted(os.listdir(tmp_path))
    (worker,) = {int(name.partition("-")[0]) for name in begun} - {os.getpid()}
    calls.close()
    workers.wait_for(lambda: not alive(worker))
    assert len(begun) == 2
    assert sorted(os.listdir(tmp_path)) == begun


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # Whoever inherits an orphan need not be in a hurry to ask how it ended.
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.skipif(sys.platform == "win32", reason="a process does not learn there that its parent ended")
def test_workers_end_after_their_parent_was_killed(tmp_path):
    """One that waits for the next use, and one that is in a call: it finishes that first."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\nfrom support import workers\n"
        "from landscape.answers.pool import shared_out\n"
        "found = list(shared_out(workers.where, [(i,) for i in range(8)], jobs=2, here=False))\n"
        "Path('pids').write_text(' '.join({str(pid) for _, pid, _ in found}))\n"
        "list(shared_out(workers.goes_on, [(0, 'begun', 'go', 'ended')], jobs=2, here=False))\n"
    )
    parent = subprocess.Popen([sys.executable, script, Path(__file__).parents[1]], cwd=tmp_path)
    try:
        workers.wait_for((tmp_path / "begun").exists)
    finally:
        parent.kill()
        parent.wait()
    pids = {int(pid) for pid in (tmp_path / "pids").read_text().split()}
    busy = int((tmp_path / "begun").read_text())
    for idle in pids - {busy}:
        workers.wait_for(lambda pid=idle: not alive(pid))
    time.sleep(3.0)  # more than a look for the parent
    assert alive(busy)
    (tmp_path / "go").touch()
    workers.wait_for(lambda: not alive(busy))
    assert (tmp_path / "ended").exists()


@pytest.mark.slow
def test_a_sweep_leaves_the_threads_of_this_process_alone(fresh_run):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sweep("spectrum", fresh_run, seed=0, k=2, jobs=2, recompute=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_script_without_a_main_guard_may_use_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from landscape.answers.pool import shared_out\nassert len(list(shared_out(pow, [(2, 3)] * 4, jobs=2))) == 4\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=600)
