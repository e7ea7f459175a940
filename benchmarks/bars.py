"""Bars of time relative to ours, one panel per problem and layout."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from landscape.figures.style import NEUTRAL, SMALL, arch_style, grid, styled

OURS = "ours, default"
MINE, OTHER = arch_style("single").color, arch_style("looped").color
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

Rows = dict[str, dict[str, Any]]


@styled
def ratios(panels: dict[str, Rows]) -> Figure:
    """Median time over that of ours (bar from 1), its range, and the seconds; hollow where accuracy was not reached.

    All panels show the same methods in the same order and share the scale.
    """
    names = list(dict.fromkeys(n for rows in panels.values() for n in rows))
    n_columns = min(2, len(panels))
    n_rows = -(-len(panels) // n_columns)
    fig, axes = grid(n_rows, n_columns, height=0.75 + 0.23 * len(names), sharex=True, sharey=True)
    for ax in (a for line in axes for a in line):
        ax.set_visible(False)
    for (title, rows), ax in zip(panels.items(), (a for line in axes for a in line), strict=False):
        ax.set_visible(True)
        _panel(ax, names, rows)
        ax.set_title(title)
    low, high = axes[0][0].get_xlim()
    axes[0][0].set_xlim(low / 1.15, high * 4.5)  # room for the numbers
    axes[0][0].xaxis.set_major_locator(FixedLocator([t for t in TICKS if low / 1.15 <= t <= high * 1.3]))
    axes[0][0].xaxis.set_major_formatter("{x:g}")
    axes[0][0].xaxis.set_minor_locator(NullLocator())
    fig.supxlabel(
        f"time / time of {OURS} (log scale; right of 1 is slower; even: on even batches)",
        fontsize="medium",
    )
    handles = [
        Patch(color=MINE, label="ours"),
        Patch(color=OTHER, label="other libraries"),
        Patch(facecolor="white", edgecolor=OTHER, label="accuracy not reached"),
        Line2D([], [], color="black", linewidth=0.8, label="range of repeats"),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles) if n_columns > 1 else 2)
    return fig


def _panel(ax: Axes, names: list[str], rows: Rows) -> None:
    base = rows[OURS]["median_s"]
    ax.set_xscale("log")
    for y, name in enumerate(names):
        if name not in rows:
            ax.annotate("not measured", (1, y), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)
            continue
        r = rows[name]
        color = MINE if name.startswith("ours") else OTHER
        median, low, high = (r[k] / base for k in ("median_s", "min_s", "max_s"))
        reached = r.get("reached", True)
        ax.barh(y, median - 1, left=1, height=0.62, color=color if reached else "white", edgecolor=color)
        ax.plot([low, high], [y, y], color="black", linewidth=0.8, marker="|", markersize=4, markeredgewidth=0.8)
        text = (
            f"{'' if reached else '> '}{median:.2g}  ({r['median_s']:.3g} s{', even' if r.get('even_batches') else ''})"
        )
        ax.annotate(text, (max(high, 1), y), (5, 0), textcoords="offset points", va="center", fontsize=SMALL)
    ax.axvline(1, color=NEUTRAL, linewidth=0.6)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
