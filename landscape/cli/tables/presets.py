"""Table of the presets of `landscape train`."""

from __future__ import annotations

from landscape.cli.console import Table
from landscape.training.presets import presets

__all__ = ["preset_table"]


def preset_table() -> Table:
    """The presets with their main numbers."""
    rows = []
    for name, p in presets().items():
        task, model = p["task"], p["model"]
        lengths = " / ".join(str(task[n]) for n in ("max_train_length", "test_length") if n in task)
        size = f"{model['name']}, d {model['width']}, heads {model.get('heads', 1)}, layers {p.get('layers', 1)}"
        rate = p.get("optimizer", {}).get("lr")
        rows.append(
            [
                name, p["about"], size, f"{p['loops']}{' at most' if model.get('per_length') else ''}",
                lengths or str(task.get("length", "–")), str(p["steps"]), str(p.get("batch", 128)),
                "–" if rate is None else f"{rate:g}",
            ]
        )  # fmt: skip
    columns = ["preset", "what", "model", "loops", "length (trained / tested)", "steps", "batch", "learning rate"]
    caption = "landscape train --preset NAME; every other option overrides it. – : the default."
    return Table("Presets", columns, rows, caption, text=True)
