import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from support.builders import BUILDERS, STEPS, drawn, four, render

from landscape.errors import LandscapeError
from landscape.figures import FIGURES, datasets, marks, style
from landscape.loss.metric import units_in

ARCHS = ("single", "looped", "stacked", "shift")
_PLANES = ("surface", "surface3d", "cuts", "frames")
_TWINS = {"split": ("kappa",), "kappa": ("split",), **dict.fromkeys(_PLANES, _PLANES)}
"""Figures of one and the same answer."""


def test_registry_matches_modules_and_builders():
    assert set(FIGURES) == set(BUILDERS)
    for name, spec in FIGURES.items():
        assert spec.name == name == spec.function.__name__
        assert {ds.attrs["probe"] for ds in four(name)} == {spec.probe}


def test_importing_the_registry_loads_no_heavy_module():
    code = "import sys, landscape.figures; print(sorted({'torch', 'h5py', 'matplotlib', 'xarray'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_drawing_never_loads_torch_h5py_or_pyplot():
    code = (
        "import sys; from landscape.figures import FIGURES; [s.function for s in FIGURES.values()]; "
        "print(sorted({'torch', 'h5py', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("archs", [("looped",), ("single", "looped"), ARCHS[:3]])
def test_nothing_is_clipped_or_overlaps(name, archs):
    archs = dict.fromkeys(("single", *archs)) if name == "shift" else archs  # its builder shifts in `single` alone
    if tuple(archs) == ARCHS[:2]:
        figure, canvas, _ = drawn(name)
    else:
        figure = FIGURES[name].function([BUILDERS[name](a, s) for a in archs for s in (0, 1)])
        canvas = render(figure)
    width, height = figure.get_size_inches()
    assert width <= 7.0
    tight = figure.get_tightbbox(canvas.get_renderer())
    assert tight.x0 >= 0
    assert tight.y0 >= 0
    assert tight.x1 <= width
    assert tight.y1 <= height
    boxes = [ax.get_tightbbox(canvas.get_renderer()) for ax in figure.axes]
    if name != "trajectories":  # there the axis label of the first panel may reach beside its neighbour's ticks
        boxes += [legend.get_window_extent() for legend in figure.legends]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            both = Bbox.intersection(a, b)
            assert both is None or min(both.width, both.height) < 1.5  # pixels


@pytest.mark.parametrize("name", FIGURES)
def test_fonts_are_legible_and_paper_sized(name):
    figure = FIGURES[name].function(four(name))
    FigureCanvasAgg(figure).draw()  # as a caller would who does not know of `paper`
    texts = [t for t in figure.findobj(mpl.text.Text) if t.get_visible() and t.get_text().strip()]
    assert len(texts) > 10
    assert {t.get_fontsize() for ax in figure.axes for t in ax.get_xticklabels() + ax.get_yticklabels()} == {
        style.SMALL
    }
    assert {t.get_fontsize() for t in texts} <= {style.SMALL, style.NORMAL}


@pytest.mark.parametrize("name", FIGURES)
def test_the_callers_settings_survive_and_data_is_not_edited(name):
    data, before = four(name), dict(mpl.rcParams)
    copies = [ds.copy(deep=True) for ds in data]
    FIGURES[name].function(data)
    assert dict(mpl.rcParams) == before
    for ds, copy in zip(data, copies, strict=True):
        assert ds.identical(copy)


@pytest.mark.parametrize("name", FIGURES)
def test_transposed_data_makes_the_same_figure(name):
    flipped = [ds.transpose(*reversed(list(ds.sizes))) for ds in four(name)]
    b = np.asarray(render(FIGURES[name].function(flipped)).buffer_rgba())
    np.testing.assert_array_equal(drawn(name)[2], b)


@pytest.mark.parametrize("name", FIGURES)
def test_pdf_text_stays_text(name, tmp_path):
    with style.paper():
        FIGURES[name].function(four(name)).savefig(tmp_path / "f.pdf")
        pdf = (tmp_path / "f.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"/CIDFontType2" in pdf


@pytest.mark.parametrize("name", FIGURES)
def test_bad_input_is_refused_with_advice(name):
    draw = FIGURES[name].function
    with pytest.raises(LandscapeError, match="at least one run"):
        draw([])
    for wrong in {n for n in BUILDERS if BUILDERS[n] is not BUILDERS[name] and n not in _TWINS.get(name, ())}:
        absent, other = "expected the variables .* of run 'markov-(single|shift)-s0', found no", "expected 'loss' over"
        with pytest.raises(LandscapeError, match=f"{absent}|{other}"):
            draw([BUILDERS[wrong]()])
    unsorted = BUILDERS[name]()
    if "step" in unsorted.dims:
        with pytest.raises(LandscapeError, match="increasing steps"):
            draw([unsorted.isel(step=slice(None, None, -1))])


def test_require_names_a_wrong_dimension():
    with pytest.raises(LandscapeError, match=r"expected 'loss' over \(step, sample\) .* over \(alpha, beta\)"):
        datasets.require(BUILDERS["surface"](), {"loss": ("step", "sample")})


def test_seeds_and_tasks_are_not_mixed():
    a, b = BUILDERS["eigenvalues"]("single", 0), BUILDERS["eigenvalues"]("looped", 0)
    assert list(datasets.by_arch([b, a])) == ["looped", "single"]
    with pytest.raises(LandscapeError, match="one task, found markov, parity"):
        datasets.by_arch([a, b.assign_attrs(task="parity")])
    with pytest.raises(LandscapeError, match="seed 0 in 'markov-single-s0' and 'other'"):
        datasets.by_arch([a, a.assign_attrs(run="other")])


def test_arch_styles_differ_in_colour_marker_and_line():
    looks = [style.arch_style(a) for a in ARCHS]
    for part in ("color", "marker", "linestyle"):
        assert len({getattr(look, part) for look in looks}) == 4
    other = style.arch_style("mine")
    assert other.color not in {look.color for look in looks}
    assert other == style.arch_style("mine") != style.arch_style("yours")
    assert not {style.family_color(i) for i in range(5)} & {look.color for look in looks}


def test_curve_breaks_at_nan_marks_lone_points_and_hollow_ones():
    ax = Figure().subplots()
    x = np.arange(40.0)
    y = x.copy()
    y[[4, 6]] = np.nan
    hollow = x == 10
    marks.curve(ax, x, y, color="red", marker="o", linestyle="-", hollow=hollow)
    line, unconverged = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), y)
    assert 5 in line.get_markevery()  # alone between two holes: no line reaches it
    assert 10 not in line.get_markevery()
    assert unconverged.get_markerfacecolor() == "white"
    assert unconverged.get_xdata().tolist() == [10]


@pytest.mark.parametrize("scale", ["linear", "symlog"])
def test_cell_edges_enclose_each_step_half_way_on_the_scale(scale):
    ax = Figure().subplots()
    marks.step_axis(ax, STEPS.astype(float), scale=scale)
    border = marks.edges(ax, STEPS.astype(float))
    assert len(border) == len(STEPS) + 1
    assert (border[:-1] < STEPS).all()
    assert (border[1:] > STEPS).all()
    if scale == "linear":
        np.testing.assert_allclose(border[1:-1], (STEPS[1:] + STEPS[:-1]) / 2)
    else:
        np.testing.assert_allclose(border[3], np.sqrt(2 * 4))
    assert set(ax.get_xticks()) <= set(STEPS)


def test_unknown_scale_is_refused():
    with pytest.raises(LandscapeError, match="'symlog', found 'log'"):
        marks.step_axis(Figure().subplots(), np.arange(3.0), scale="log")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 3.0], ("log", 0.0)), ([-1.0, np.nan, 2e3], ("symlog", 1.0)), ([0.0], ("linear", 0.0))],
)
def test_signed_scale(values, expected):
    assert marks.signed_scale(np.array(values)) == expected
    scaled = marks.signed_scale(1e-8 * np.array(values))
    assert scaled == (expected[0], pytest.approx(1e-8 * expected[1]))


def test_mean_and_range_keep_holes():
    mean, low, high = datasets.over_seeds([np.array([1.0, np.nan]), np.array([5.0, 2.0])], [np.ones(2), 2 * np.ones(2)])
    np.testing.assert_array_equal(mean, [3, np.nan])
    np.testing.assert_array_equal(low, [0, np.nan])
    np.testing.assert_array_equal(high, [7, np.nan])


def test_one_step_and_no_finite_value_can_be_drawn():
    for name in ("eigenvalues", "trajectories"):
        ds = BUILDERS[name]().isel(step=[0])
        render(FIGURES[name].function([ds]))
        empty = xr.Dataset(
            {k: v * np.nan if v.dtype.kind == "f" else v for k, v in ds.data_vars.items()}, attrs=ds.attrs
        )
        render(FIGURES[name].function([empty.assign_coords(ds.coords)]))


def in_metric(name, metric):
    """Results of a builder as they would be in another metric, with the longest units there are."""
    out = []
    for ds in four(name):
        ds = ds.copy(deep=True).assign_attrs(metric=metric)
        unit = {"force": "squared parameter unit per (nats per token)", "hopping": "parameter units"}
        for variable in ("inverse_sum", "coefficient"):
            if variable in ds and name in unit:
                ds[variable].attrs["units"] = unit[name]
        for variable in ds.variables.values():
            variable.attrs["units"] = units_in(metric, variable.attrs.get("units", ""))
        out.append(ds)
    return out


@pytest.mark.parametrize("name", ["eigenvalues", "density", "widths", "hopping", "force"])
def test_the_metric_and_its_units_are_named(name):
    for metric, part in (("adam", "Adam-preconditioned"), ("euclidean", "parameter")):
        figure = FIGURES[name].function(in_metric(name, metric))
        canvas = render(figure)
        tight = figure.get_tightbbox(canvas.get_renderer())
        width, height = figure.get_size_inches()
        assert min(tight.x0, tight.y0, width - tight.x1, height - tight.y1) >= 0
        labels = " ".join(ax.get_xlabel() + ax.get_ylabel() for ax in figure.axes)
        assert part in labels
        assert "Euclidean" not in labels or metric == "euclidean"
        assert figure.legends[0].get_title().get_text() == ("metric: adam" if metric == "adam" else "")
        label = figure.axes[0].yaxis.label.get_window_extent()
        below = [ax.yaxis.label.get_window_extent() for ax in figure.axes[1:] if ax.get_ylabel()]
        assert not any(label.overlaps(other) for other in below)


def test_metrics_are_not_mixed():
    a, b = BUILDERS["eigenvalues"]("single"), BUILDERS["eigenvalues"]("looped")
    with pytest.raises(LandscapeError, match="one metric, found adam, euclidean"):
        FIGURES["eigenvalues"].function([a.assign_attrs(metric="adam"), b.assign_attrs(metric="euclidean")])
