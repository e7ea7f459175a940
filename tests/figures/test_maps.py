"""Maps: the orientation is right, holes stay holes, colours compare."""

import numpy as np
import pytest
import xarray as xr
from support.builders import STEPS, attrs, four, render, samples, surface

from landscape import plot
from landscape.errors import LandscapeError
from landscape.figures.surface import surface as draw_surface
from landscape.figures.trajectories import trajectories


def mesh(ax):
    return ax.collections[0]


def test_trajectories_order_samples_by_information_content_and_keep_holes():
    ds = samples()
    figure = trajectories([ds])
    drawn = np.ma.masked_invalid(mesh(figure.axes[0]).get_array())
    order = np.argsort(ds["information_content"].values)
    expected = ds["loss"].values[:, order].T
    np.testing.assert_array_equal(drawn.mask, np.isnan(expected))
    np.testing.assert_array_equal(drawn.filled(np.nan), expected)
    assert drawn.mask.sum() == 4


def test_trajectories_cells_contain_their_steps():
    figure = trajectories([samples()])
    ax = figure.axes[0]
    corners = mesh(ax).get_coordinates()[0, :, 0]
    assert (corners[:-1] < STEPS).all()
    assert (corners[1:] > STEPS).all()
    assert set(ax.get_xticks()) <= set(STEPS)
    assert "training step" in ax.get_xlabel()
    assert "symlog" in ax.get_xlabel()
    assert ax.get_xlim() == pytest.approx((corners[0], corners[-1]))


def test_trajectories_share_colours_and_say_which_seed():
    figure = trajectories(four("trajectories"))
    left, right = figure.axes[:2]
    assert left.get_title(loc="left") == "single (first of 2 seeds)\nrun markov-single-s0"
    first = [samples("single", 0), samples("looped", 0)]
    lowest = min(float(ds["loss"].min()) for ds in first)
    highest = max(float(ds["loss"].max()) for ds in first)
    for ax in (left, right):
        assert mesh(ax).get_clim() == (lowest, highest)
    assert figure.axes[2].get_ylabel() == "loss of the sample (nats per token)"
    assert "bits per token" in left.get_ylabel()


def test_trajectories_ticks_are_information_contents_and_strip_shows_families():
    ds = samples()
    figure = trajectories([ds])
    ax = figure.axes[0]
    content = np.sort(ds["information_content"].values)
    ticks = {int(t): label.get_text() for t, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    assert ticks == {i: f"{content[i]:.2f}" for i in ticks}
    assert {0, 60} < set(ticks)
    strip = ax.child_axes[0].collections[0]
    render(figure)
    families = ds["family"].values[np.argsort(ds["information_content"].values)]
    colors = [tuple(c) for c in strip.get_facecolor()]
    assert len(set(colors)) == 2
    assert [c == colors[0] for c in colors] == [f == families[0] for f in families]


def test_trajectories_of_correctness_and_refusal():
    assert "share of scored tokens" in trajectories([samples()], variable="correct").axes[1].get_ylabel()
    with pytest.raises(LandscapeError, match="found 'family'"):
        trajectories([samples()], variable="family")


def tiny(**changes):
    """f = a + 10 b on 3 x 2 points."""
    alpha, beta = np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0])
    data = {
        "loss": (("alpha", "beta"), alpha[:, None] + 10 * beta),
        "gram": (("direction", "direction_2"), np.eye(2)),
        **{f"path_{k}": ("path_step", v) for k, v in (("alpha", [2.0, 0]), ("beta", [3.0, 0]), ("distance", [0.5, 0]))},
    }
    ds = xr.Dataset(data | changes, {"alpha": alpha, "beta": beta, "path_step": [0, 10]}, attrs("surface", "single", 0))
    return ds.assign_attrs(directions="random", step=10)


def color_at(figure, ax, x, y):
    """Colour drawn at data coordinates."""
    pixels = np.asarray(render(figure).buffer_rgba())
    column, row = ax.transData.transform((x, y))
    return pixels[pixels.shape[0] - 1 - int(row), int(column), :3].astype(int)


@pytest.mark.parametrize("transposed", [False, True])
def test_alpha_is_x_and_beta_is_y(transposed):
    ds = tiny(path_alpha=("path_step", [0.0, 0]), path_beta=("path_step", [0.0, 0]))
    figure = draw_surface([ds.transpose() if transposed else ds])
    ax = figure.axes[0]
    assert ax.get_xlabel() == "random direction 1 (parameter distance)"
    assert ax.get_ylabel() == "random direction 2 (parameter distance)"
    extent = ax.dataLim
    assert (extent.x0, extent.x1, extent.y0, extent.y1) == (0, 2, 0, 3)
    contours = ax.collections[0]
    for x, y in [(0.3, 0.4), (1.7, 0.4), (0.3, 2.6), (1.7, 2.6), (1.0, 1.5)]:
        expected = contours.cmap(contours.norm(x + 10 * y))
        level = np.searchsorted(contours.levels, x + 10 * y) - 1
        assert contours.levels[level] <= x + 10 * y <= contours.levels[level + 1]
        np.testing.assert_allclose(color_at(figure, ax, x, y), 255 * np.array(expected[:3]), atol=2)


def test_path_has_start_end_and_centre():
    figure = draw_surface([tiny()])
    path, start, end, centre = figure.axes[0].lines
    np.testing.assert_array_equal(path.get_xydata(), [[2, 3], [0, 0]])
    assert start.get_xydata().tolist() == [[2, 3]]
    assert end.get_xydata().tolist() == [[0, 0]]
    assert centre.get_xydata().tolist() == [[0, 0]]
    assert len({line.get_marker() for line in (start, end, centre)}) == 3
    assert figure.axes[0].get_title(loc="left") == "markov-single-s0, step 10\npath up to 0.5 from the plane"


def test_path_outside_the_grid_is_not_cut_off():
    ax = draw_surface([tiny(path_alpha=("path_step", [9.0, 0]))]).axes[0]
    assert ax.get_xlim()[1] > 9


def test_axes_tell_lengths_skewness_and_variance():
    gram = np.array([[4.0, 1.0], [1.0, 1.0]])
    ds = tiny(gram=(("direction", "direction_2"), gram), explained_variance=("direction", [0.63, 0.2]))
    ax = draw_surface([ds.assign_attrs(directions="pca")]).axes[0]
    assert ax.get_xlabel() == "PCA direction 1 (in units of its length 2)\n63% of squared displacement"
    assert ax.get_ylabel() == "PCA direction 2 (parameter distance)\n20% of squared displacement"
    assert "cosine 0.5" in ax.get_title(loc="left")


def test_nan_is_a_hatched_hole_and_the_minimum_is_not():
    for levels in ("linear", "log"):
        figure = draw_surface([surface()], levels=levels)
        ax = figure.axes[0]
        assert ax.patch.get_hatch()
        assert color_at(figure, ax, -0.99, -1.95).min() > 140  # grey hatch
        lowest = color_at(figure, ax, 0.0, 1.97)
        assert lowest.max() < 140  # darkest of the map
        assert np.ptp(lowest) > 40


def test_a_flat_floor_is_coloured_on_log_levels():
    figure = draw_surface([tiny(loss=(("alpha", "beta"), np.array([[5.0, 5], [5, 5], [6, 6]])))], levels="log")
    contours = figure.axes[0].collections[0]
    expected = 255 * np.array(contours.cmap(contours.norm(0.0))[:3])
    np.testing.assert_allclose(color_at(figure, figure.axes[0], 0.5, 2.5), expected, atol=2)


def test_wide_ranges_get_log_levels_that_cover_all_panels():
    runs = [surface("single"), surface("looped")]
    figure = draw_surface(runs)
    left, right, bar = figure.axes
    assert bar.get_ylabel() == "loss − minimum of the slice\n(nats per token; log scale)"
    levels = left.collections[0].levels
    np.testing.assert_array_equal(levels, right.collections[0].levels)
    ratios = levels[1:] / levels[:-1]
    assert ratios.min() >= 1.99
    assert ratios.max() <= 2.51
    highest = max(float(ds["loss"].max() - ds["loss"].min()) for ds in runs)
    assert levels[-1] >= highest > levels[-2]
    linear = draw_surface([surface("looped")])
    assert linear.axes[1].get_ylabel() == "loss (nats per token)"
    assert linear.axes[0].collections[0].levels[-1] >= float(surface("looped")["loss"].max())
    with pytest.raises(LandscapeError, match="found 'sqrt'"):
        draw_surface(runs, levels="sqrt")


def test_constant_and_pathless_slices_can_be_drawn():
    flat = tiny(loss=(("alpha", "beta"), np.full((3, 2), 0.7))).isel(path_step=[])
    render(draw_surface([flat]))
    render(draw_surface([flat], levels="log"))
    render(draw_surface([flat.assign(loss=flat["loss"] * np.nan)]))


def test_colours_are_logarithmic_where_much_would_be_one_colour():
    ds = samples()
    flat = ds.assign(loss=ds["loss"] * np.where(np.arange(ds.sizes["sample"]) % 3, 1.0, 1e-3))
    for given, log in ((ds, False), (flat, True)):
        bar = trajectories([given]).axes[-1]
        assert ("log scale" in bar.get_ylabel()) is log
    basin = tiny(loss=(("alpha", "beta"), np.array([[3.0, 2.0], [1.0, 0.02], [0.01, 0.0]])))
    assert "log scale" in draw_surface([basin]).axes[-1].get_ylabel()


def test_a_metric_that_tells_nothing_has_no_panel():
    step = np.arange(0, 50, 10)
    curves = {"loss": 3.0 / (1 + step), "epoch": step / 20.0, "runtime": np.where(step == 40, 7.0, np.nan)}
    ds = xr.Dataset({k: ("step", v) for k, v in curves.items()}, {"step": step}, {"probe": "metrics", "run": "mine"})
    assert [ax.get_title(loc="left") for ax in plot(ds).axes] == ["loss"]
