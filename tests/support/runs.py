"""Small runs, runs that are stopped, files that are none, and what makes two runs the same."""

import hashlib
import json

import h5py
import numpy as np
import torch
import xarray as xr

from landscape import Run, RunConfig
from landscape.answers.files import load

SMALL = {
    "task": {"n_train": 61, "n_probe": 21, "n_test": 20, "length": 6},
    "model": {"width": 4},
    "steps": 20,
    "batch": 16,
    "evaluate_every": 7,
    "checkpoints": 7,
    "dense_checkpoints": 2,
}


def small_config(arch="looped", **changes) -> RunConfig:
    """A config that trains in a fraction of a second; 61 samples in batches of 16 leave a last batch of 13."""
    return RunConfig.make(arch=arch, **{**SMALL, **changes})


def identical(a: Run, b: Run) -> None:
    """Every stored number equal, bit for bit; only the clock may differ."""
    assert a.status == b.status == "complete"
    assert np.array_equal(a.steps, b.steps)
    assert torch.equal(a.parameters[:], b.parameters[:])
    assert torch.equal(a.optimizer[:], b.optimizer[:])
    x, y = a.metrics.drop_vars("seconds"), b.metrics.drop_vars("seconds")
    assert x.equals(y)
    assert (np.diff(b.metrics.seconds) >= 0).all()


class Stop(Exception):
    pass


def stop_at(step):
    def progress(p):
        if p.step >= step:
            raise Stop

    return progress


BAD_FILES = ["empty", "text", "truncated", "foreign", "layout", "version", "headless"]


def make_bad_file(path, kind, good):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("step,loss\n0,2.7\n")
    elif kind == "truncated":
        used = good.rstrip(b"\0")  # HDF5 before 2.0 leaves at the end of a file what was reserved for the next row
        path.write_bytes(used[: len(used) // 2])
    elif kind == "foreign":
        with h5py.File(path, "w") as f:
            f["weights"] = np.zeros(3)
    elif kind == "layout":
        path.write_bytes(good)
        with h5py.File(path, "r+") as f:
            header = json.loads(f.attrs["header"])
            header["layout"] = header["layout"].replace("[16, 4]", "[16, 5]")
            text = json.dumps(header)
            f.attrs["header"], f.attrs["header_sha256"] = text, hashlib.sha256(text.encode()).hexdigest()
    elif kind == "version":
        path.write_bytes(good)
        with h5py.File(path, "r+") as f:
            f.attrs["format_version"] = 99
    elif kind == "headless":
        path.write_bytes(good)
        with h5py.File(path, "r+") as f:
            del f.attrs["header"]


def settings_of(optimizer):
    return {"optimizer": {"name": optimizer, "lr": 0.02}, **({"batch": None} if optimizer == "gd" else {})}


def same_run(branch, origin):
    """The branch passes through the origin's numbers, at its checkpoints and at the metrics that both have."""
    start = branch.config.start
    path = origin.replay(start, int(branch.steps[-1]) - start)
    assert torch.equal(branch.parameters[:], path[torch.from_numpy(branch.steps - start)])
    both = np.intersect1d(branch.steps, origin.steps)
    assert len(both) >= 2
    for step in both:
        assert torch.equal(branch.optimizer[branch.index(step)], origin.optimizer[origin.index(step)])
    common = np.intersect1d(branch.metrics.step, origin.metrics.step)
    a, b = (r.metrics.drop_vars("seconds").sel(step=common) for r in (branch, origin))
    xr.testing.assert_equal(a, b)


def same_study(a, b):
    """The same runs with the same answers, bit for bit."""
    runs = sorted(path.parent.name for path in a.glob("*/run.h5"))
    assert runs == sorted(path.parent.name for path in b.glob("*/run.h5"))
    for name in runs:
        identical(Run.open(a / name), Run.open(b / name))
        answers = sorted(path.name for path in (a / name / "results").iterdir())
        assert answers
        assert answers == sorted(path.name for path in (b / name / "results").iterdir())
        for file in answers:
            x, y = load(a / name / "results" / file), load(b / name / "results" / file)
            assert x.drop_attrs().equals(y.drop_attrs())
            assert x.attrs["settings"] == y.attrs["settings"]
