"""How every figure looks: sizes, fonts, colours. The only file that knows matplotlib's settings."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeGuard

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landscape.figures.datasets import completed

__all__ = [
    "COLUMN",
    "MAP",
    "NEUTRAL",
    "PAGE",
    "SMALL",
    "ArchStyle",
    "arch_style",
    "family_color",
    "grid",
    "missing",
    "no_value",
    "paper",
    "sheet",
    "styled",
    "tint",
]

COLUMN, PAGE = 3.4, 7.0
"""Width in inches of a single journal column, and of the page."""
SMALL, NORMAL = 7.0, 8.0
"""Font sizes in points: ticks and legends, labels and titles."""
MAP = "viridis"
NEUTRAL = "0.35"

# Okabe and Ito's palette, told apart by readers with any common colour blindness: four hues for architectures, the
# other four for whatever else needs one, so that a colour never means two things on one page.
_BLUE, _VERMILLION, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_ORANGE, _SKY, _YELLOW, _BLACK = "#E69F00", "#56B4E9", "#F0E442", "#000000"

_RC: dict[Any, Any] = {  # matplotlib types the keys as one long Literal
    "font.family": "DejaVu Sans",
    "font.size": NORMAL,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": NORMAL,
    "axes.titlelocation": "left",
    "axes.labelsize": NORMAL,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": True,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "lines.markeredgewidth": 0.8,
    "hatch.linewidth": 0.4,
    "figure.dpi": 200.0,
    "savefig.dpi": 300.0,
    "savefig.bbox": None,
    "pdf.fonttype": 42,  # text stays text: searchable, and editable by a journal
    "svg.fonttype": "none",
}

P = ParamSpec("P")


@dataclass(frozen=True)
class ArchStyle:
    """Colour, marker and line style of an architecture; any one of the three identifies it."""

    color: str
    marker: str
    linestyle: str


_ARCHS = {
    "single": ArchStyle(_BLUE, "o", "-"),
    "looped": ArchStyle(_VERMILLION, "s", "--"),
    "stacked": ArchStyle(_GREEN, "^", "-."),
    "shift": ArchStyle(_PURPLE, "D", ":"),
}
_ASSIGNED: ContextVar[dict[str, ArchStyle]] = ContextVar("assigned", default={})  # noqa: B039
# Of Tol's muted palette, for runs of other people: neither the colours of our architectures nor those of families.
_OTHERS = [
    ArchStyle(("#882255", "#332288", "#44AA99")[i % 3], "vPX*"[i % 4], ("-", "--", "-.")[i % 3]) for i in range(12)
]


def arch_style(arch: str) -> ArchStyle:
    """The fixed style of an architecture; a name that is not ours gets another, within a figure each its own.

    Example:
        >>> arch_style("looped")
        ArchStyle(color='#D55E00', marker='s', linestyle='--')
        >>> arch_style("mine") == arch_style("mine")
        True
    """
    known = _ASSIGNED.get()
    return _ARCHS.get(arch) or known.get(arch) or _OTHERS[zlib.crc32(arch.encode()) % len(_OTHERS)]


def family_color(index: int) -> str:
    """Colour of the index-th family of samples: never the colour of one of our architectures."""
    return (_SKY, _ORANGE, _BLACK, _YELLOW, "0.6")[index % 5]


def tint(color: str, amount: float) -> tuple[float, float, float]:
    """`color` mixed with a share `amount` of white."""
    r, g, b = ((1 - amount) * part + amount for part in to_rgb(color))
    return r, g, b


@contextmanager
def paper(*, outlines: bool = False) -> Iterator[None]:
    """Within it, matplotlib uses the settings of our figures; the caller's are restored afterwards.

    With `outlines`, SVG holds text as shapes, which look the same where the font is not installed.
    """
    with mpl.rc_context(_RC | ({"svg.fonttype": "path"} if outlines else {})):
        yield


class Picture(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        with paper():
            self.savefig(out, format="png", dpi=150)
        return out.getvalue()


@contextmanager
def _assigned(datasets: Any) -> Iterator[None]:
    """Within it, names that are not our architectures have styles of their own, in order of appearance."""
    names = [str(ds.attrs["arch"]) for ds in _every(datasets) if "arch" in ds.attrs]
    new = [name for name in dict.fromkeys(names) if name not in _ARCHS]
    token = _ASSIGNED.set({name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(new)})
    try:
        yield
    finally:
        _ASSIGNED.reset(token)


def _every(data: Any) -> list[Any]:
    """The datasets that a figure is drawn from: one, some, some of each probe; or none, if from something else."""
    if _by_probe(data):
        return [ds for answers in data.values() for ds in answers]
    return [x for x in (data if isinstance(data, list | tuple) else [data]) if hasattr(x, "attrs")]


def _by_probe(data: Any) -> TypeGuard[Mapping[str, Sequence[Any]]]:
    if not isinstance(data, Mapping) or hasattr(data, "attrs"):  # a dataset is a mapping too
        return False
    return all(isinstance(answers, list | tuple) for answers in data.values())


def _name_metric(figure: Figure, data: Any) -> None:
    """Above the legend, the metric of the data if it is not the Euclidean one that readers expect."""
    metrics = [str(ds.attrs.get("metric", "none")) for ds in _every(data)]
    other = [metric for metric in metrics if metric not in ("euclidean", "none")]
    legends = [*figure.legends, *(legend for part in figure.subfigs for legend in part.legends)]
    for legend in legends[:1] if other else []:
        title = legend.get_title().get_text()
        legend.set_title(f"metric: {other[0]}" + (f"; {title}" if title else ""))


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a figure function draw in the style of the paper."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with paper():
            first, *others = args if args else (kwargs.pop(next(iter(kwargs))),)
            if isinstance(first, list | tuple):
                first = completed(first)
            elif _by_probe(first):
                first = {probe: completed(answers) for probe, answers in first.items()}
            with _assigned(first):
                figure = draw(first, *others, **kwargs)  # type: ignore[arg-type]
            _name_metric(figure, first)
            for ax in figure.axes:  # ticks are made when drawn, outside this context: fix their look now
                ax.tick_params(which="major", labelsize=SMALL, width=0.6, length=3)
                ax.tick_params(which="minor", width=0.4, length=1.5)
        return figure

    return wrapper


def sheet(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, for a layout of its own."""
    return Picture(figsize=(width, height), layout="constrained")


def grid(
    rows: int,
    columns: int,
    *,
    height: float,
    sharex: bool | Literal["col", "row"] = False,
    sharey: bool | Literal["row"] = False,
) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of `rows` x `columns` axes: one column of a journal each, the page width from three on."""
    width = COLUMN * columns if columns < 3 else max(PAGE, 2.3 * columns)
    figure = Picture(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, [list(row) for row in axes]


_HATCH: dict[str, Any] = {"facecolor": "0.95", "edgecolor": "0.6", "hatch": "//////", "linewidth": 0}


def no_value(ax: Axes) -> None:
    """Hatch the background, which shows wherever a map has no value."""
    ax.patch.set(**_HATCH)


def missing() -> Patch:
    """The legend entry for `no_value`."""
    return Patch(**_HATCH, label="no value")
