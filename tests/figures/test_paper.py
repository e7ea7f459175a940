"""The paper's figures: what is drawn is what was measured, from several probes, and what is not there is said."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.patches import Patch
from scipy.integrate import trapezoid
from support.builders import BUILDERS, STEPS, render, shift
from support.builders_length import length

from landscape import plot
from landscape.errors import AbsentError, LandscapeError
from landscape.figures import FIGURES, PAPER, style
from landscape.plotting import drawn

BY_PROBE = {
    "metrics": "learning",
    "samples": "trajectories",
    "entropy": "entropy",
    "density": "density",
    "evolution": "evolution",
    "surface": "surface",
    "valley": "widths",
}
RUNS = [(arch, seed) for arch in ("single", "looped", "shift") for seed in (0, 1)]


def with_eigenvalues(arch, seed):
    """An answer with the whole spectrum, all of it positive: the axis is then plainly logarithmic."""
    ds = BUILDERS["entropy"](arch, seed)
    values = np.geomspace(1e2, 1e-3, 40) * (1 + seed) * (3 if arch == "looped" else 1)
    return ds.assign(eigenvalue=(("step", "rank"), np.tile(values, (len(STEPS), 1))))


def told(ds, of="tokens"):
    """With what is stored about accuracy."""
    ds["accuracy"].attrs["long_name"] = f"share of {of} predicted right"
    return ds


def answers(name, runs=RUNS):
    """Synthetic answers to all that a figure can show."""
    if name == "fig12-16":
        pairs = [(a, s, t) for t in ("parity", "copy") for a in ("single", "looped") for s in (0, 1)]
        metrics = [
            told(BUILDERS["learning"](a, s, families=("all",)), "samples").assign_attrs(task=t) for a, s, t in pairs
        ]
        return {"metrics": metrics, "length": [length(a, s).assign_attrs(task=t) for a, s, t in pairs if t == "parity"]}
    found = {probe: [BUILDERS[of](*run) for run in runs] for probe, of in BY_PROBE.items()}
    found["entropy"] = [with_eigenvalues(*run) for run in runs]
    found["shift"] = [shift(arch, seed, at=64 if arch == "shift" else None) for arch, seed in runs if arch != "single"]
    spec = PAPER[name]
    return {probe: found[probe] for probe in (*spec.probes, *spec.optional) if probe in found}


@pytest.fixture(scope="module")
def pictures():
    out = {}
    for name in PAPER:
        figure = drawn(name, answers(name), {})
        out[name] = figure, render(figure)
    return out


@pytest.mark.parametrize("name", PAPER)
def test_nothing_is_clipped_and_fonts_are_those_of_the_paper(name, pictures):
    figure, canvas = pictures[name]
    width, height = figure.get_size_inches()
    tight = figure.get_tightbbox(canvas.get_renderer())
    assert width <= 7.0
    assert min(tight.x0, tight.y0, width - tight.x1, height - tight.y1) >= 0
    texts = [t for t in figure.findobj(mpl.text.Text) if t.get_visible() and t.get_text().strip()]
    assert {t.get_fontsize() for t in texts} <= {style.SMALL, style.NORMAL}


@pytest.mark.parametrize("name", PAPER)
def test_answers_are_not_edited_and_needed_ones_are_named(name):
    given = answers(name)
    copies = {probe: [ds.copy(deep=True) for ds in found] for probe, found in given.items()}
    drawn(name, given, {})
    for probe, found in given.items():
        assert all(a.identical(b) for a, b in zip(found, copies[probe], strict=True))
    for probe in PAPER[name].probes:
        with pytest.raises(AbsentError, match=f"{name} is drawn from answers of .*found none of '{probe}'"):
            drawn(name, {p: found for p, found in given.items() if p != probe}, {})


def test_a_figure_of_the_paper_is_drawn_from_answers_in_any_order():
    given = [ds for found in answers("fig3").values() for ds in reversed(found)]
    assert len(plot(given, "fig3").axes) == len(drawn("fig3", answers("fig3"), {}).axes)
    with pytest.raises(LandscapeError, match="'colour'"):
        plot(given, "fig3", colour="red")


# -- fig1 -------------------------------------------------------------------------------------------------------------


def test_maps_and_cuts_have_one_scale_and_the_switch_is_a_checkpoint(pictures):
    figure, _ = pictures["fig1"]
    maps, cuts = figure.axes[:3], figure.axes[3:6]
    for row in (maps, cuts):
        assert len({ax.get_xlim() + ax.get_ylim() for ax in row}) == 1
    stars = [[line for line in ax.lines if line.get_marker() == "*"] for ax in maps]
    assert [len(found) for found in stars] == [0, 0, 1]
    ds = answers("fig1")["surface"][4]
    assert stars[2][0].get_xdata()[0] == pytest.approx(float(ds["path_alpha"].sel(path_step=64)))


def test_coordinates_are_distances_whatever_the_length_of_the_directions():
    ds = BUILDERS["surface"]("single")
    doubled = ds.assign(gram=4 * ds["gram"], alpha=ds["alpha"] / 2, path_alpha=ds["path_alpha"] / 2)
    a, b = (drawn("fig1", {"surface": [d]}, {}).axes[0] for d in (ds, doubled))
    assert a.get_xlim() == pytest.approx(b.get_xlim())
    assert 2 * np.asarray(a.get_ylim()) == pytest.approx(b.get_ylim())


def test_cuts_are_the_measured_walls():
    given = answers("fig1", [("single", 0)])
    (ds,) = given["valley"]
    ax = drawn("fig1", given, {"cuts": 1}).axes[1]
    points = {bool(x[0] > 0): (x, y) for line in ax.lines if line.get_marker() == "." for x, y in [line.get_data()]}
    for right, side in ((True, "+"), (False, "-")):
        x, y = points[right]
        np.testing.assert_allclose(np.abs(x), ds["half_width"].isel(step=-1, mode=0).sel(side=side))
        np.testing.assert_allclose(y, ds["rise"])
    walls = [line for line in ax.lines if line.get_linestyle() == "-" and line.get_marker() == "None"]
    x, y = next(line for line in walls if line.get_xdata()[-1] > 0).get_data()
    s, r = np.abs(points[True][0]), points[True][1]
    np.testing.assert_allclose(np.interp(np.log(y), np.log(r), np.log(s))[y >= r[0]], np.log(x)[y >= r[0]])


def test_a_censored_wall_ends_and_planes_alone_are_enough():
    given = answers("fig1", [("single", 0)])
    (ds,) = given["valley"]
    ds["censored"].values[-1, 0, :, -1] = True
    ax = drawn("fig1", given, {"cuts": 1}).axes[1]
    x = next(line for line in ax.lines if line.get_marker() == ".").get_xdata()
    assert np.isfinite(x).tolist() == [True, True, False]
    alone = drawn("fig1", {"surface": given["surface"]}, {})
    assert not any("floor" in ax.get_xlabel() for ax in alone.axes)


# -- fig3 -------------------------------------------------------------------------------------------------------------


def test_thirds_are_means_by_information_content():
    given = answers("fig3", [("single", 0)])
    (ds,) = given["samples"]
    ds["loss"].values[5] = np.nan_to_num(ds["loss"].values[5], nan=1.0)
    ax = drawn("fig3", given, {}).axes[0]
    order = np.argsort(ds["information_content"].values)
    size = len(order) // 3
    simple, complex_ = (line.get_ydata() for line in ax.lines)
    np.testing.assert_allclose(simple, ds["loss"].values[:, order[:size]].mean(1))
    np.testing.assert_allclose(complex_, ds["loss"].values[:, order[-size:]].mean(1))


def test_neighbouring_checkpoints_are_compared_and_phases_are_optional(pictures):
    figure, _ = pictures["fig3"]
    ax = next(ax for ax in figure.axes if ax.get_ylabel().startswith("mutual infor"))
    ds = answers("fig3")["evolution"][0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.diagonal(ds["mutual_information"], offset=1))
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), ds["path_step"][1:])
    without = drawn("fig3", {p: a for p, a in answers("fig3").items() if p != "evolution"}, {})
    assert not any(ax.get_ylabel().startswith("mutual infor") for ax in without.axes)


# -- fig4, fig11 ------------------------------------------------------------------------------------------------------


def vertical(ax):
    return [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1 and line.get_ydata() == [0, 1]]


def test_switches_are_marked_at_their_step_and_their_compute(pictures):
    figure, _ = pictures["fig4"]
    (flops,) = {float(np.interp(64, ds["step"], ds["flops"])) for ds in answers("fig4")["metrics"]}
    assert vertical(figure.axes[0]) == [64, 64]
    assert vertical(figure.axes[2]) == [pytest.approx(flops)] * 2
    given = answers("fig4")
    for ds in given["shift"]:
        ds["switch_step"] = -1
    assert vertical(drawn("fig4", given, {}).axes[0]) == []
    with pytest.raises(AbsentError, match="at least one run that shifts"):
        drawn("fig4", {**given, "shift": [shift("looped", 1)]}, {})


def test_seeds_with_steps_of_their_own_have_a_mean_where_they_share_steps():
    given = answers("fig4", [("shift", 0), ("shift", 1)])
    given["metrics"][0] = given["metrics"][0].sel(step=given["metrics"][0]["step"] != 250)
    ax = drawn("fig4", given, {}).axes[0]
    mean = next(line for line in ax.lines if line.get_linewidth() == 1.2)
    assert 250 not in mean.get_xdata()
    assert sorted(len(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 0.6) == [60, 61]


def test_ratios_are_paired_by_seed():
    given = answers("fig11", [("single", 0), ("single", 1), ("looped", 0), ("looped", 1)])
    for i, ds in enumerate(given["metrics"]):
        ds["seconds"] = ("step", np.linspace(0, (1, 10, 2, 40)[i], ds.sizes["step"]))
    figure = drawn("fig11", given, {})
    assert [text.get_text() for text in figure.axes[0].texts] == [f"{(1 / 2 + 10 / 40) / 2:.3g}×", "1×"]
    with pytest.raises(AbsentError, match="two architectures"):
        drawn("fig11", {"metrics": given["metrics"][:2]}, {})


# -- fig7 and fig8 ----------------------------------------------------------------------------------------------------


def test_the_area_below_a_spectrum_is_the_number_of_eigenvalues_and_both_figures_share_axes():
    figures = [drawn(name, answers(name), {}) for name in ("fig7", "fig8")]
    assert len({ax.get_xlim() + ax.get_ylim() for figure in figures for ax in figure.axes}) == 1
    for figure in figures:
        x, y = figure.axes[-1].lines[0].get_data()
        assert trapezoid(y, np.log10(x)) == pytest.approx(40, rel=1e-3)
        (band,) = (c for c in figure.axes[-1].collections if c.get_paths())
        heights = band.get_paths()[0].vertices[:, 1]
        assert np.isfinite(heights).all()  # all eigenvalues: seeds differ, and no error is unknown
        assert heights.max() >= y.max()
    assert figures[0].axes[0].get_title(loc="left") == "step 0, phase 1"
    assert "all eigenvalues" in figures[0].legends[0].get_texts()[0].get_text()


def test_quadrature_stands_in_where_eigenvalues_are_not_stored():
    given = answers("fig7")
    assert set(PAPER["fig7"].used(given)) == {"entropy", "evolution"}
    given["entropy"][0] = given["entropy"][0].drop_vars("eigenvalue")
    assert set(PAPER["fig7"].used(given)) == {"density", "evolution"}
    assert "quadrature" in drawn("fig7", given, {}).legends[0].get_texts()[0].get_text()
    with pytest.raises(AbsentError, match="found neither"):
        drawn("fig7", {"entropy": given["entropy"]}, {})
    with pytest.raises(AbsentError, match="expected spectra of 'stacked', found those of single, looped, shift"):
        drawn("fig7", given, {"arch": "stacked"})


# -- fig12 to 16 ------------------------------------------------------------------------------------------------------


def test_every_task_has_its_row_and_a_task_that_was_not_probed_has_no_right_panel(pictures):
    figure, _ = pictures["fig12-16"]
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_ylabel()] == ["parity", "copy"]
    assert len(figure.axes) == 3
    with pytest.raises(AbsentError, match="an algorithmic task"):
        drawn("fig12-16", {"metrics": [told(BUILDERS["learning"]())]}, {})


# -- ours -------------------------------------------------------------------------------------------------------------


def test_kappa_is_drawn_beside_what_it_is_by_construction():
    data = [BUILDERS["kappa"](arch, seed) for arch in ("single", "looped") for seed in (0, 1)]
    figure = FIGURES["kappa"].function(data, step=64)
    left, right = figure.axes[:2]
    eps = data[0]["eps_relative"].values
    dashed = [line for line in right.lines if line.get_color() == "0.1"]
    np.testing.assert_allclose(dashed[0].get_ydata(), 1 / eps)
    np.testing.assert_allclose(right.lines[0].get_ydata(), 0.9 / eps)
    expected = [(22.0 / e, 32.0 / e) for e in data[0]["eps"].values if e < 22]
    found = [line.get_ydata() for line in left.lines if line.get_color() == "0.1"]
    np.testing.assert_allclose(np.array(found).T, expected)
    hollow = FIGURES["kappa"].function(data, step=0).legends[0].get_texts()
    assert any("within its error" in text.get_text() for text in hollow)
    with pytest.raises(LandscapeError, match="found 3"):
        FIGURES["kappa"].function(data, step=3)
    with pytest.raises(LandscapeError, match="same eps"):
        FIGURES["kappa"].function([data[0], data[2].isel(eps=slice(3))])


def test_shift_is_a_mean_in_a_range_over_seeds():
    runs = [shift("shift", seed, at=at) for seed, at in enumerate((200, 300, 400))]
    others = [shift("looped", seed) for seed in (0, 1)]
    others[1]["accuracy_final"] = others[1]["accuracy_final"] + 0.05
    figure = FIGURES["shift"].function([*runs, *others])
    points = [line for line in figure.axes[0].lines if line.get_markersize() == 5]
    (mean,) = points
    value = np.mean([float(ds["accuracy_final"].sel(split="test", family="all")) for ds in runs])
    assert (mean.get_xdata()[0], mean.get_ydata()[0]) == (300, pytest.approx(value))
    band = next(patch for patch in figure.axes[0].patches if isinstance(patch, Patch))
    low, high = band.get_window_extent().y0, band.get_window_extent().y1
    assert high > low
    assert figure.legends[0].get_texts()[0].get_text() == "shift, W = 3 (3 seeds)"


def test_no_panel_of_what_was_lost_where_nothing_switched():
    never = shift("shift", 0, at=300)
    never["switch_step"], never["accuracy_drop"] = -1, never["accuracy_drop"] * np.nan
    figure = FIGURES["shift"].function([never, shift("looped", 0)])
    assert [ax.get_ylabel() for ax in figure.axes] == ["final accuracy", "training compute (FLOP)"]


def test_modes_of_the_switch_are_told_apart():
    runs = [shift("shift", seed, at=300).assign_attrs(mode=mode) for seed in (0, 1) for mode in ("hard", "ramp")]
    figure = FIGURES["shift"].function(runs)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:2] == ["shift, W = 3, hard (2 seeds)", "shift, W = 3, ramp (2 seeds)"]
