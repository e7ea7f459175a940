"""Measure the loss landscape of PyTorch models: spectra, valleys, trajectories, and what they mean for training.

The public names below are loaded on first use, so that ``landscape --help`` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.answers.files import load, save
    from landscape.answers.points import parallel
    from landscape.answers.sweep import sweep
    from landscape.connections.connect import connect
    from landscape.curvature.symmetric import Symmetric
    from landscape.errors import LandscapeError, RunFailedError
    from landscape.layout import Layout
    from landscape.loss.distributed import distributed
    from landscape.loss.objective import Objective
    from landscape.plotting import plot
    from landscape.recording.imports import export_checkpoint, import_checkpoints
    from landscape.recording.recorder import Recorder, record
    from landscape.recording.schedule import Schedule
    from landscape.report.analyze import analyze
    from landscape.report.report import Report
    from landscape.runs.branch import branch_config
    from landscape.runs.run import Run
    from landscape.runs.train import Progress, train
    from landscape.studies.decay import decay_table
    from landscape.studies.study import Study
    from landscape.training.config import RunConfig

__version__ = "0.1.0"
__all__ = [
    "LandscapeError",
    "Layout",
    "Objective",
    "Progress",
    "Recorder",
    "Report",
    "Run",
    "RunConfig",
    "RunFailedError",
    "Schedule",
    "Study",
    "Symmetric",
    "__version__",
    "analyze",
    "branch_config",
    "connect",
    "decay_table",
    "distributed",
    "export_checkpoint",
    "import_checkpoints",
    "load",
    "parallel",
    "plot",
    "record",
    "save",
    "sweep",
    "train",
]

_HOME = {
    "LandscapeError": "errors",
    "Layout": "layout",
    "Objective": "loss.objective",
    "Progress": "runs.train",
    "Recorder": "recording.recorder",
    "Report": "report.report",
    "Run": "runs.run",
    "RunConfig": "training.config",
    "RunFailedError": "errors",
    "Schedule": "recording.schedule",
    "Study": "studies.study",
    "Symmetric": "curvature.symmetric",
    "analyze": "report.analyze",
    "branch_config": "runs.branch",
    "connect": "connections.connect",
    "decay_table": "studies.decay",
    "distributed": "loss.distributed",
    "export_checkpoint": "recording.imports",
    "import_checkpoints": "recording.imports",
    "load": "answers.files",
    "parallel": "answers.points",
    "plot": "plotting",
    "record": "recording.recorder",
    "save": "answers.files",
    "sweep": "answers.sweep",
    "train": "runs.train",
}

# A Python started in the root of a source checkout finds this folder before the installed package; the sibling
# folders `models`, `probes` and `figures` must then still be found below it.
_root = Path(__file__).absolute().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "probes").is_dir() and str(_root) not in __path__:
    __path__.append(str(_root))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'landscape' has no attribute {name!r}")
    return getattr(import_module(f"landscape.{_HOME[name]}"), name)
