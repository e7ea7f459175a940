"""Table of the probe `length`: accuracy by length."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from landscape.cli.console import Table, number

__all__ = ["table"]


def table(results: Sequence[xr.Dataset]) -> Table:
    """The last checkpoint of every run: the shortest length, the ends of training and of the test, each loop."""
    rows = []
    for ds in results:
        last = ds.isel(step=-1)
        trained, all_lengths = int(last.trained_length), last.length.values
        shown = {int(all_lengths[0]), int(all_lengths[-1]), *(int(n) for n in all_lengths[all_lengths <= trained][-1:])}
        for at in (last.sel(length=n, loops=t) for n in sorted(shown) for t in last.loops.values):
            loops = str(int(at.loops)) if int(at.loops) else f"own ({number(at.own_loops, 3)})"
            interval = f"{number(at.accuracy_lower, 3)} – {number(at.accuracy_upper, 3)}"
            cells = [str(int(at.length)), loops, number(at.accuracy, 3), interval, number(at.token_accuracy, 3)]
            rows.append([ds.attrs["run"], str(int(last.step)), str(trained), *cells, number(at.loss)])
        for at in (last.sel(length=n) for n in sorted(shown) if "adaptive_accuracy" in last):
            interval = f"{number(at.adaptive_accuracy_lower, 3)} – {number(at.adaptive_accuracy_upper, 3)}"
            cells = [str(int(at.length)), f"stops ({number(at.adaptive_loops, 3)})", number(at.adaptive_accuracy, 3)]
            rows.append([ds.attrs["run"], str(int(last.step)), str(trained), *cells, interval, "–", "–"])
    columns = ["run", "step", "trained up to", "length", "loops", "accuracy", "95 % interval", "of tokens", "loss"]
    caption = "Accuracy: share of samples with the whole answer right. All lengths are in the stored result."
    return Table("length: fresh samples of one length each (loss in nats per token)", columns, rows, caption)
