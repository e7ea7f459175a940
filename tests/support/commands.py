"""The command line in tests: in this process or in one of its own."""

import os
import subprocess
import sys

TINY = [
    "--width", "4", "--steps", "12", "--batch", "16", "--checkpoints", "5", "-q", "--device", "cpu",
    "--set", "task.n_train=61", "--set", "task.n_probe=21", "--set", "task.n_test=20", "--set", "task.length=6",
]  # fmt: skip
"""Options of a training that takes a fraction of a second."""


def run_command(*args, cwd, first=""):
    """The command in a process of its own, after the code `first`."""
    # Shells start what runs in the background with SIGINT ignored, and children inherit that.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"{first}\nfrom landscape.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
