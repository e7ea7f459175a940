"""Tasks, found by name. A new task is one config dataclass and one small class."""

from __future__ import annotations

from typing import Any

from landscape.registry import lookup
from landscape.tasks.base import Split, Task
from landscape.tasks.markov import MarkovConfig, MarkovTask

__all__ = ["TASKS", "MarkovConfig", "MarkovTask", "Split", "Task", "build_task", "task_config"]

TASKS: dict[str, tuple[type[Any], type[Task]]] = {"markov": (MarkovConfig, MarkovTask)}
"""Name -> (config dataclass, task class)."""


def task_config(name: str) -> type[Any]:
    """The config dataclass of a task."""
    return lookup(TASKS, name, kind="task")[0]


def build_task(config: Any) -> Task:
    """The task that a config describes."""
    make: Any = lookup(TASKS, config.name, kind="task")[1]
    task: Task = make(config)
    return task
