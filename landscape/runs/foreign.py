"""What a run of somebody else's training is, beside its rows: the state of his model, and a loss that he names."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.loss.frozen import original
from landscape.loss.named import DEFAULT_SPLIT, Parts
from landscape.loss.objective import Objective
from landscape.runs.backing import Backing, Moments
from landscape.runs.checkpoints import Checkpoints
from landscape.runs.modelstate import ModelState
from landscape.runs.objectives import Known, Objectives
from landscape.runs.updates import RecordedUpdates
from landscape.training.passes import Passes

__all__ = ["NAME_LENGTH", "Foreign"]

NAME_LENGTH = 64
"""Bytes of a metric's name in the file."""


class Foreign(Backing):
    """Behind a `Run` that was recorded or imported. What is not known of it is not there.

    Args:
        header: of the run file.
        layout: of its parameter vectors.
        checkpoints: its rows.

    Attributes:
        objectives: the losses that were named for it.
        saved: what a checkpoint holds of the model beside `layout`.
    """

    loss_units = "loss unit"

    def __init__(self, header: dict[str, Any], layout: Layout, checkpoints: Checkpoints) -> None:
        self.kind = str(header["kind"])
        self.described: dict[str, Any] = header["config"]
        self.labels = _labels(self.described)
        self.seed: int | None = self.labels.get("run_seed")
        self.saved = ModelState.from_json(layout, header["state"])
        self.partial = self.saved.frozen is not None
        self.optimizer: dict[str, Any] | None = header["optimizer"]
        self._layout, self._checkpoints = layout, checkpoints
        self.updates: RecordedUpdates = RecordedUpdates(self.optimizer, checkpoints, self._rates)
        self.objectives = Objectives(checkpoints.file.parent)
        self._made: dict[tuple[str, str], Parts] = {}
        self._checked: set[tuple[str, str]] = set()

    @property
    def named(self) -> tuple[str, ...]:
        """Labels of the losses that were named."""
        return self.objectives.labels

    def metrics(self) -> xr.Dataset:
        """What was given to `Recorder.save`, by name, along `step`; NaN where a metric was not given."""
        steps, columns = self._checkpoints.table("metrics")
        _, names = self._checkpoints.table("names")
        ds = xr.Dataset(coords={"step": steps})
        for i, row in enumerate(names["name"]):
            # netCDF takes no slash in a name, which loggers are fond of.
            name = row.astype(np.uint8).tobytes().rstrip(b"\0").decode().replace("/", ".")
            units = {"loss": self.loss_units, "learning_rate": "1"}.get(name, "as recorded")
            ds[name] = ("step", columns["values"][:, i], {"units": units, "long_name": f"{name}, as recorded"})
        return ds

    def _rates(self) -> dict[int, float]:
        """The learning rate by step, where it was recorded."""
        metrics = self.metrics()
        rates = metrics["learning_rate"].values.tolist() if "learning_rate" in metrics else []
        return dict(zip(metrics["step"].values.tolist(), rates, strict=False))

    # -- the model ----------------------------------------------------------------------------------------------------

    def apart(self, name: str | None) -> bool:
        """Whether checkpoints have buffers, or parameters that the objective does not vary."""
        if self.saved.buffers is not None:
            return True
        known = self.objectives.known(name)
        made = [parts for (location, _), parts in self._made.items() if location == known.loss.location]
        module = (made[0] if made else self._parts(known, DEFAULT_SPLIT)).module
        return Layout.of(module).names != self._layout.names

    def module(self, step: int, *, loops: int | Passes | None) -> nn.Module:
        """A copy of the model as it was at a checkpoint."""
        self._no_loops(loops)
        self.check(None, DEFAULT_SPLIT)
        return self._module(self._parts(self.objectives.known(None), DEFAULT_SPLIT), step)

    def tensors(self, step: int) -> dict[str, Tensor]:
        """Parameters and buffers of a checkpoint by name."""
        return self.saved.named(self._rows(step))

    def objective(
        self,
        split: str,
        *,
        at: int | None,
        loops: int | Passes | None,
        name: str | None,
        n: int | None = None,
        **settings: Any,
    ) -> Objective:
        """The named loss over the first n samples of a split; without `at` w0 is that of the first checkpoint."""
        self._no_loops(loops)
        self.check(name, split)
        if at is None and len(self._checkpoints.steps) > 1 and self.apart(name):
            raise LandscapeError(
                f"checkpoints of {self._checkpoints.file.parent} differ in more than the parameters that vary, such as "
                "running means of batch normalisation, so each has a loss of its own. Say which: objective(at=step)."
            )
        parts = self._parts(self.objectives.known(name), split).head(n)
        module = self._module(parts, self._first if at is None else at)
        return Objective(module, parts.per_sample_loss, parts.data, weights=parts.weights, **settings)

    def check(self, name: str | None, split: str) -> str:
        """Label and digest of a loss, if it fits the parameters, and data and values are those of its first use.

        Raises:
            LandscapeError: if there is none of this name, it cannot be made, does not fit, or is another by now.
        """
        known = self.objectives.known(name)
        parts = self._parts(known, split)
        if (known.loss.location, split) not in self._checked:
            self.saved.check(original(parts.module), label=known.label)
            self.objectives.confirm(known, split, parts.fingerprint, self._values(parts))
            self._checked.add((known.loss.location, split))
        return self.objectives.identity(known, split)

    def data_fingerprint(self, name: str | None, split: str) -> str:
        """Of the data of a named loss."""
        self.check(name, split)
        return self.objectives.fingerprint(self.objectives.known(name), split)

    def _values(self, parts: Parts) -> list[float]:
        """Mean loss of some samples at the first checkpoint and beside it: what another function would change.

        Beside it, because at the first checkpoint some layers are often zero, and then hide what comes before them.
        """
        module = self._module(parts, self._first)
        objective = Objective(module, parts.per_sample_loss, parts.data, weights=parts.weights, device="cpu")
        excerpt = objective.chunks.excerpt(16)
        w = excerpt.vector(objective.w0)
        beside = w + 0.05 * torch.sin(torch.arange(w.numel(), dtype=w.dtype))
        return [float(excerpt.total(v).detach() / excerpt.mass) for v in (w, beside)]

    def _parts(self, known: Known, split: str) -> Parts:
        key = (known.loss.location, split)
        if key not in self._made:
            self._made[key] = known.loss.parts(split)
        return self._made[key]

    @property
    def _first(self) -> int:
        steps = self._checkpoints.steps
        if not len(steps):
            raise LandscapeError(f"{self._checkpoints.file.parent} has no checkpoint yet.")
        return int(steps[0])

    def _module(self, parts: Parts, step: int) -> nn.Module:
        rows = self._rows(step)
        # In the precision of the checkpoint: a module of fewer digits would round it.
        module = copy.deepcopy(original(parts.module)).to(dtype=rows["parameters"].dtype)
        self.saved.load(module, rows)
        return module

    def _rows(self, step: int) -> dict[str, Tensor]:
        names = ("parameters",) if self.saved.buffers is None else ("parameters", "buffers")
        return {name: self._checkpoints.row(name, step) for name in names}

    # -- what it lacks ------------------------------------------------------------------------------------------------

    def moments(self, step: int) -> Moments:
        """Adam's second moments at a checkpoint, if the optimiser was recorded and has such."""
        found = self.optimizer
        if found is None or "exp_avg_sq" not in found["state"]:
            what = "no optimiser was recorded" if found is None else f"it has an optimiser {found['name']!r}"
            raise LandscapeError(
                f'the metric "adam" needs second moments of Adam or AdamW: of {self._checkpoints.file.parent} {what}.'
            )
        if found.get("amsgrad"):
            raise LandscapeError(
                'the metric "adam" is that of Adam as it is: with amsgrad=True it divides by another moment.'
            )
        second = self.updates.state(step)[found["state"].index("exp_avg_sq")]
        age, beta2, eps = self.updates.adam(step, needed_for='the metric "adam"')
        return Moments(second, age, beta2, eps)

    def updates_from(self, step: int) -> int:
        """As many as follow each other, step by step, among the checkpoints."""
        there = {int(s) for s in self._checkpoints.steps}
        if step + 1 not in there:
            raise LandscapeError(
                f"expected the checkpoint after step {step} too: {self._a_run} cannot be trained again, so only "
                "updates between checkpoints that follow each other, step by step, can be looked at. Choose a step "
                "that has the next one, or record every one (landscape.Schedule)."
            )
        return next(n for n in range(1, len(there) + 1) if step + n + 1 not in there)

    def replay(self, step: int, n: int) -> Tensor:
        """Parameters after each of n updates, where each of them was recorded."""
        wanted = range(step, step + n + 1)
        there = {int(s) for s in self._checkpoints.steps}
        if missing := [s for s in wanted if s not in there]:
            raise LandscapeError(
                f"expected the checkpoints of steps {step} to {step + n}, one after each update, found none of step "
                f"{missing[0]}: {self._a_run} cannot be trained again. Record each of these steps."
            )
        return self._checkpoints.rows("parameters")[[self._checkpoints.index(s) for s in wanted]]

    @property
    def _a_run(self) -> str:
        return f"{'an' if self.kind == 'imported' else 'a'} {self.kind} run"

    def _no_loops(self, loops: int | Passes | None) -> None:
        if loops is not None:
            self.lacks("number of loops")


def _labels(config: dict[str, Any]) -> dict[str, Any]:
    """What results repeat of a user's config: `task` and `arch` if they are texts, `seed` if it is a whole number."""
    seed = config.get("seed")
    texts = {k: config[k] for k in ("task", "arch") if isinstance(config.get(k), str)}
    whole = isinstance(seed, int) and not isinstance(seed, bool) and abs(seed) < 2**63
    return texts | ({"run_seed": seed} if whole else {})
