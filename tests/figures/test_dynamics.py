"""Hopping, alignment and sharpness: what is drawn is what was measured."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.transforms import Bbox
from support.builders_dynamics import GROUPS, STEPS, alignment, hopping, sharpness

from landscape.errors import LandscapeError
from landscape.figures import alignment as alignment_module
from landscape.figures import hopping as hopping_module
from landscape.figures import sharpness as sharpness_module
from landscape.figures.style import arch_style, family_color, paper

DRAWN = {"hopping": (hopping_module.hopping, hopping), "alignment": (alignment_module.alignment, alignment)}


def four(build):
    return [build(arch, seed) for arch in ("single", "looped") for seed in (0, 1)]


def line(ax, color, style):
    (found,) = [li for li in ax.lines if to_hex(li.get_color()) == to_hex(color) and li.get_linestyle() == style]
    return found


def labels(figure):
    return [t.get_text() for t in figure.legends[0].get_texts()]


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("archs", [("looped",), ("single", "looped"), ("single", "looped", "mine")])
def test_nothing_is_clipped_or_overlaps(name, archs):
    draw, build = DRAWN[name]
    figure = draw([build(a, s) for a in archs for s in (0, 1)])
    canvas = FigureCanvasAgg(figure)
    with paper():
        canvas.draw()
    width, height = figure.get_size_inches()
    tight = figure.get_tightbbox(canvas.get_renderer())
    assert min(tight.x0, tight.y0) >= 0
    assert tight.x1 <= width <= 7
    assert tight.y1 <= height
    boxes = [ax.get_tightbbox(canvas.get_renderer()) for ax in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            both = Bbox.intersection(a, b)
            assert both is None or min(both.width, both.height) < 1.5


def test_hopping_where_no_update_was_followed_is_refused():
    run = hopping("single", 0).isel(step=[-1])
    with pytest.raises(LandscapeError, match="expected updates to follow, found none"):
        hopping_module.hopping([run])


def test_coefficients_are_those_of_the_first_seed_at_the_last_step_followed_throughout():
    runs = four(hopping)
    ax = hopping_module.hopping(runs).axes[1]
    assert ax.get_title(loc="left") == "looped (2 seeds), after step 64"
    expected = runs[2]["coefficient"].sel(step=64).values
    np.testing.assert_allclose(line(ax, arch_style("looped").color, "-").get_ydata(), expected[:, 0])
    assert any(np.array_equal(li.get_ydata(), expected[:, 1]) for li in ax.lines)
    assert not any(np.array_equal(li.get_ydata(), expected[:, 2]) for li in ax.lines)  # modes=2
    assert hopping_module.hopping(runs, step=4).axes[0].get_title(loc="left").endswith("after step 4")


def test_rates_have_bands_and_hollow_points_where_updates_or_convergence_lack():
    runs = four(hopping)[:2]
    figure = hopping_module.hopping(runs)
    for row, name in ((1, "hop_rate"), (2, "autocorrelation")):
        ax = figure.axes[row]
        values = np.stack([d[name].values[:, 0] for d in runs])
        errors = np.stack([d[f"{name}_stderr"].values[:, 0] for d in runs])
        full = [li for li in ax.lines if to_hex(li.get_color()) == arch_style("single").color.lower()]
        np.testing.assert_allclose(full[0].get_ydata(), values.mean(0))
        (hollow,) = full[1:]
        assert hollow.get_markerfacecolor() == "white"
        assert hollow.get_xdata().tolist() == [256]  # 1000 has no value at all
        band = ax.collections[-1].get_paths()[0].vertices
        at = band[band[:, 0] == 4, 1]
        low, high = (values - errors).min(0)[3], (values + errors).max(0)[3]
        np.testing.assert_allclose([at.min(), at.max()], [low, high])
    second = [li.get_xdata().tolist() for li in figure.axes[1].lines if li.get_markerfacecolor() == "white"]
    assert [2, 256] in second  # eigenvector 2 has not converged at step 2
    assert "unfinished or unconverged" in labels(figure)


def test_every_part_of_the_decrease_is_drawn():
    ds = hopping()
    figure = hopping_module.hopping([ds])
    ax = figure.axes[3]
    parts = {
        (arch_style("single").color, "-"): ds["decrease_sum"],
        (family_color(1), "-."): ds["net_sum"].sel(subspace="valley"),
        (family_color(0), "--"): ds["net_sum"].sel(subspace="river"),
        (family_color(2), ":"): ds["cross_term_sum"],
        ("0.55", "-."): ds["remainder_sum"],
    }
    for (color, style), values in parts.items():
        np.testing.assert_array_equal(line(ax, color, style).get_ydata(), values)
    assert ax.get_yscale() == "symlog"
    assert "nats per token" in ax.get_ylabel()
    assert {"valley", "river", "cross term", "remainder", "decrease, single"} <= set(labels(figure))


def test_hopping_refuses_steps_and_modes_that_are_not_there():
    with pytest.raises(LandscapeError, match=r"found 3\. Choose one of: 0, 1, 2, 4"):
        hopping_module.hopping([hopping()], step=3)
    with pytest.raises(LandscapeError, match="1 to 5 modes, found 6"):
        hopping_module.hopping([hopping()], modes=6)
    with pytest.raises(LandscapeError, match="Measure the runs at the same steps"):
        hopping_module.hopping([hopping(), hopping("looped", steps=STEPS[1:] + 5)])


def test_nothing_hollow_no_entry_for_it():
    ds = hopping()
    ds["converged"][:] = True
    ds = ds.isel(step=[0, 1, 2, -1])
    assert "unfinished or unconverged" not in labels(hopping_module.hopping([ds]))


def test_cosines_and_premises_are_means_over_seeds_with_errors():
    runs = four(alignment)
    figure = alignment_module.alignment(runs)
    top, bottom = figure.axes[1], figure.axes[3]
    assert top.get_title(loc="left") == "trained as looped (2 seeds)"
    every = np.stack([d["cosine"].values[:, 5] for d in runs[2:]])
    np.testing.assert_allclose(line(top, "0.0", "-").get_ydata(), every.mean(0))
    band = top.collections[5].get_paths()[0].vertices
    at = band[band[:, 0] == 16, 1]
    np.testing.assert_allclose([at.min(), at.max()], [every[:, 4].min() - 0.05, every[:, 4].max() + 0.05])
    for i, arch in enumerate(("single", "looped")):
        look = arch_style(arch)
        expected = np.mean([d["dominance"].values[:, i] for d in runs[2:]], axis=0)
        np.testing.assert_allclose(line(bottom, look.color, look.linestyle).get_ydata(), expected)
    assert sum(np.allclose(li.get_ydata(), -0.95) for li in bottom.lines) == 1
    assert bottom.get_ylim()[1] >= 0.25  # where the premises would hold is on the picture
    assert "1 and 3 passes" in figure.axes[0].get_ylabel()
    assert {r"$W_Q$", "all", "dominance, single", r"definiteness of $W_V$"} <= set(labels(figure))


def test_lines_of_groups_differ_without_colour():
    ax = alignment_module.alignment([alignment()]).axes[0]
    looks = [(li.get_marker(), li.get_linestyle()) for li in ax.lines if len(li.get_xdata()) == len(STEPS)]
    assert len(looks) == len(set(looks)) == len(GROUPS)


def test_seeds_measured_by_different_groups_are_refused():
    other = alignment("single", 1).assign_coords(group=[*GROUPS[:-1], "rest"])
    with pytest.raises(LandscapeError, match="Measure the seeds alike"):
        alignment_module.alignment([alignment(), other])


def test_sharpness_draws_what_is_there_and_the_learning_rate_where_it_is_known():
    ds = sharpness()
    above, below = sharpness_module.sharpness([ds]).axes
    lines = {
        (line.get_marker(), line.get_linestyle()): line.get_ydata()
        for line in above.lines
        if len(line.get_xdata()) == len(STEPS)
    }
    np.testing.assert_array_equal(lines["o", "-"], ds.critical_sharpness)
    np.testing.assert_array_equal(lines["s", "--"], ds.directional_sharpness.where(ds.directional_sharpness > 0))
    (edge,) = [line for line in above.lines if line.get_color() == "0.1"]
    np.testing.assert_allclose(edge.get_ydata(), 2 / ds.learning_rate)
    hollow = [line for line in above.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow] == [[STEPS[4]]]  # censored; where it climbs there is nothing
    drawn = [np.asarray(line.get_ydata()).tolist() for line in below.lines]
    for name in ("change", "first_order", "second_order", "remainder"):
        assert ds[name].values.tolist() in drawn
