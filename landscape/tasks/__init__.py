"""Tasks, found by name. A new task is one config dataclass and one small class."""

from __future__ import annotations

from typing import Any

from landscape.settings import lookup
from landscape.tasks.algorithmic import AlgorithmicConfig, AlgorithmicTask
from landscape.tasks.base import Split, Task
from landscape.tasks.markov import MarkovConfig, MarkovTask
from landscape.tasks.regression import RegressionConfig, RegressionTask
from landscape.tasks.rules import (
    Addition,
    AdditionConfig,
    Copy,
    CopyConfig,
    Multiplication,
    MultiplicationConfig,
    Parity,
    ParityConfig,
    Sum,
    SumConfig,
    UniqueSet,
    UniqueSetConfig,
)
from landscape.tasks.text import TextConfig, TextTask

__all__ = [
    "TASKS",
    "AlgorithmicConfig",
    "AlgorithmicTask",
    "MarkovConfig",
    "MarkovTask",
    "RegressionConfig",
    "RegressionTask",
    "Split",
    "Task",
    "TextConfig",
    "TextTask",
    "build_task",
    "task_config",
]

TASKS: dict[str, tuple[type[Any], type[Task]]] = {
    "markov": (MarkovConfig, MarkovTask),
    "parity": (ParityConfig, Parity),
    "copy": (CopyConfig, Copy),
    "addition": (AdditionConfig, Addition),
    "sum": (SumConfig, Sum),
    "multiplication": (MultiplicationConfig, Multiplication),
    "unique_set": (UniqueSetConfig, UniqueSet),
    "text": (TextConfig, TextTask),
    "regression": (RegressionConfig, RegressionTask),
}
"""Name -> (config dataclass, task class). Add your own before its runs are made or opened."""


def task_config(name: str) -> type[Any]:
    """The config dataclass of a task."""
    return lookup(TASKS, name, kind="task")[0]


def build_task(config: Any) -> Task:
    """The task that a config describes."""
    make: Any = lookup(TASKS, config.name, kind="task")[1]
    task: Task = make(config)
    return task
