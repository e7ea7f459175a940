"""Which part of the answers is drawn: steps, splits and families, checked against what is there."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.errors import LandscapeError

__all__ = ["chosen", "common_step", "families_of"]


def common_step(datasets: Sequence[xr.Dataset], step: int | None) -> int:
    """The step asked for, or the last one, of those that all runs have.

    Raises:
        LandscapeError: if there is none, or the one asked for is not among them.
    """
    common = sorted(set.intersection(*({int(s) for s in d["step"].values} for d in datasets)))
    if not common or (step is not None and step not in common):
        raise LandscapeError(
            f"expected a step that every run has ({', '.join(map(str, common)) or 'there is none'}), found "
            f"{'none' if step is None else step}. Probe the runs at the same steps, or choose one of these."
        )
    return common[-1] if step is None else step


def chosen(ds: xr.Dataset, split: str, family: str) -> xr.Dataset:
    """One split and family of metrics or of a record.

    Raises:
        LandscapeError: if there is no such split or family.
    """
    for dim, name in (("split", split), ("family", family)):
        if name not in (valid := [str(v) for v in ds[dim].values]):
            raise LandscapeError(
                f"expected {dim} {name!r} in run {ds.attrs['run']!r}, found {', '.join(valid)}. Choose one of these."
            )
    return ds.sel(split=split, family=family)


def families_of(datasets: Sequence[xr.Dataset], split: str) -> list[str]:
    """Families in order of first appearance, without "all" unless it is the only one.

    Raises:
        LandscapeError: if a run lacks the split.
    """
    for ds in datasets:
        if split not in (splits := [str(s) for s in ds["split"].values]):
            raise LandscapeError(
                f"expected split {split!r} in run {ds.attrs['run']!r}, found {', '.join(splits)}. Choose one of these."
            )
    names = list(dict.fromkeys(str(f) for ds in datasets for f in ds["family"].values))
    return [f for f in names if f != "all"] or names
