"""What a checkpoint holds of a model: its parameters as one vector, its buffers as another; and putting them back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.layout import Layout
from landscape.provenance import fingerprint

__all__ = ["ModelState", "aliases"]


@dataclass(frozen=True)
class ModelState:
    """The parts of a model that a run stores.

    Attributes:
        layout: of the parameters that make up a row.
        buffers: layout of the persistent buffers (running means of batch normalisation), None if there are none.
        dtypes: of the buffers, in their order.
        frozen: fingerprint of the parameters that are no part of the row, because they are not trained; None if
            there are none.
        tied: further names of tensors that have several -> the name they have in the layout.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
        >>> state = ModelState.of(model)
        >>> {name: len(row) for name, row in state.rows(model).items()}
        {'parameters': 5, 'buffers': 3}
    """

    layout: Layout
    buffers: Layout | None
    dtypes: tuple[str, ...]
    frozen: str | None
    tied: Mapping[str, str]

    @classmethod
    def of(cls, module: nn.Module, *, every: bool = False) -> ModelState:
        """Of a module: its trainable parameters, or every one of them."""
        layout = Layout.of(module, only="*" if every else None)
        buffers = _buffers(module)
        shapes = [(n, tuple(b.shape)) for n, b in buffers.items()]
        names = tuple(n for n, _ in shapes)
        stored = Layout(names, tuple(s for _, s in shapes), (None,) * len(names)) if buffers else None
        dtypes = tuple(str(b.dtype).removeprefix("torch.") for b in buffers.values())
        kept = {*layout.names, *names}
        tied = {other: group[0] for group in aliases(module) for other in group[1:] if group[0] in kept}
        return cls(layout, stored, dtypes, _fingerprint(module, layout), tied)

    def to_json(self) -> str:
        """As text, without `layout`, which every run has."""
        buffers = None if self.buffers is None else self.buffers.to_json()
        return json.dumps({"buffers": buffers, "dtypes": self.dtypes, "frozen": self.frozen, "tied": dict(self.tied)})

    @classmethod
    def from_json(cls, layout: Layout, text: str) -> ModelState:
        """The inverse of `to_json`."""
        d = json.loads(text)
        buffers = None if d["buffers"] is None else Layout.from_json(d["buffers"])
        return cls(layout, buffers, tuple(d["dtypes"]), d["frozen"], d.get("tied", {}))

    def rows(self, module: nn.Module) -> dict[str, Tensor]:
        """The vectors of a checkpoint, on the CPU: `parameters` (P,) and, where there are any, `buffers` in float64."""
        return self.flat({**dict(module.named_parameters()), **_buffers(module)})

    def flat(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The vectors of a checkpoint, from its tensors by name."""
        found = {"parameters": self.layout.flatten({n: _plain(tensors[n]) for n in self.layout.names})}
        if self.buffers is not None:
            found["buffers"] = self.buffers.flatten({n: _exact(n, tensors[n]) for n in self.buffers.names})
        return found

    def named(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors by name, of the vectors of a checkpoint; buffers in their own dtype, tied ones by every name."""
        out = self.layout.unflatten(rows["parameters"])
        if self.buffers is not None:
            held = self.buffers.unflatten(rows["buffers"])
            out |= {n: b.to(getattr(torch, d)) for (n, b), d in zip(held.items(), self.dtypes, strict=True)}
        return out | {other: out[first] for other, first in self.tied.items()}

    def load(self, module: nn.Module, rows: Mapping[str, Tensor]) -> None:
        """Put the vectors of a checkpoint into a module."""
        found = self.named(rows)
        with torch.no_grad():
            for name, target in {**dict(module.named_parameters()), **_buffers(module)}.items():
                if name in found:
                    target.copy_(found[name])

    def check(self, module: nn.Module, *, label: str) -> None:
        """Refuse a module to which these vectors do not belong.

        Args:
            module: as the objective makes it.
            label: of the objective.

        Raises:
            LandscapeError: for other names or shapes, or parameters held fixed with other values.
        """
        parameters = {n: tuple(p.shape) for n, p in module.named_parameters()}
        _same("parameters", dict(zip(self.layout.names, self.layout.shapes, strict=True)), parameters, label)
        if (order := [n for n in parameters if n in self.layout.names]) != list(self.layout.names):
            i = next(i for i, (a, b) in enumerate(zip(order, self.layout.names, strict=True)) if a != b)
            raise LandscapeError(
                f"the module of the objective {label} has its parameters in another order than the run: expected "
                f"{self.layout.names[i]!r} as number {i}, found {order[i]!r}. Return the module that was trained."
            )
        if trained := [n for n in Layout.of(module).names if n not in self.layout.names]:
            raise LandscapeError(
                f"the objective {label} varies parameters that were not trained when the run was made: "
                f"{_few(trained)}. Set requires_grad=False for them, as in training."
            )
        wanted = {} if self.buffers is None else dict(zip(self.buffers.names, self.buffers.shapes, strict=True))
        _same("buffers", wanted, {n: tuple(b.shape) for n, b in _buffers(module).items()}, label)
        if self.frozen != (found := _fingerprint(module, self.layout)):
            raise LandscapeError(
                f"the parameters that are not trained have other values in the objective {label} than in the run: "
                f"expected fingerprint {self.frozen}, found {found}. Load the same pretrained weights."
            )


def aliases(module: nn.Module) -> list[list[str]]:
    """Names of every parameter and persistent buffer; several of one that is tied, first the one that layouts use.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> model[1].weight = model[0].weight
        >>> aliases(model)
        [['0.weight', '1.weight'], ['0.bias'], ['1.bias']]
    """
    groups: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    kept = module.state_dict()
    for name, buffer in module.named_buffers(remove_duplicate=False):
        if name in kept:
            groups.setdefault(id(buffer), []).append(name)
    return list(groups.values())


def _same(what: str, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], label: str) -> None:
    """Refuse if a wanted name is not there or has another shape; what else is there is no concern of the run's."""
    missing = [n for n in wanted if n not in found]
    other = [f"{n} {wanted[n]} in the run, {found[n]} here" for n in wanted if n in found and wanted[n] != found[n]]
    if not missing and not other:
        return
    extra = [n for n in found if n not in wanted]
    said = [f"missing {_few(missing)}"] if missing else []
    said += [f"not in the run {_few(extra)}"] if extra else []
    said += [f"of other shapes: {_few(other)}"] if other else []
    raise LandscapeError(
        f"the module of the objective {label} does not have the {what} of the run: {'; '.join(said)}. "
        "Return the module that was trained, with the same names."
    )


def _few(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    """Persistent buffers by name: what a state dict has beside parameters."""
    parameters = {n for n, _ in module.named_parameters(remove_duplicate=False)}
    held = dict(module.named_buffers())
    return {n: held[n] for n in module.state_dict() if n not in parameters and n in held}


def _plain(x: Tensor) -> Tensor:
    """On the CPU, in a dtype that files have: bfloat16 and float16 fit into float32 exactly."""
    x = x.detach().cpu()
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _exact(name: str, buffer: Tensor) -> Tensor:
    """A buffer in float64, if that holds it exactly."""
    x = buffer.detach().cpu()
    if x.is_complex() or not bool((x.double().to(x.dtype) == x).logical_or(x.isnan()).all()):
        raise LandscapeError(f"expected buffers that float64 holds exactly, found {name} of {x.dtype}.")
    return x.double()


def _fingerprint(module: nn.Module, layout: Layout) -> str | None:
    """Of the parameters that are no part of the layout."""
    rest = {n: _plain(p) for n, p in sorted(module.named_parameters()) if n not in layout.names}
    return fingerprint(list(rest.values())) if rest else None
