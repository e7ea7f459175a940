"""Learning curves and eigenvalues: what is drawn is what was measured."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from support.builders import STEPS, four, metrics, render, spectrum

from landscape.errors import LandscapeError
from landscape.figures.eigenvalues import eigenvalues
from landscape.figures.learning import learning
from landscape.figures.style import arch_style


def by_label(ax):
    return {line.get_label().split(" (")[0]: line for line in ax.lines}


def test_learning_draws_the_mean_of_the_test_split_in_a_min_max_band():
    runs = four("learning")
    figure = learning(runs)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["simple family", "complex family", "", ""]
    ax = figure.axes[3]  # loss of the complex family
    both = np.stack([ds["loss"].sel(split="test", family="complex").values for ds in runs[2:]])
    line = by_label(ax)["looped"]
    np.testing.assert_allclose(line.get_ydata(), both.mean(0))
    np.testing.assert_array_equal(line.get_xdata(), runs[2]["step"])
    band = ax.collections[1].get_paths()[0].vertices
    at = runs[2]["step"].values[7]
    heights = band[band[:, 0] == at, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [both[:, 7].min(), both[:, 7].max()])


def test_learning_styles_ceiling_and_labels():
    figure = learning(four("learning"))
    top, bottom = figure.axes[1], figure.axes[3]
    for arch in ("single", "looped"):
        line = by_label(top)[arch]
        look = arch_style(arch)
        assert (to_hex(line.get_color()).upper(), line.get_marker(), line.get_linestyle()) == (
            look.color,
            look.marker,
            look.linestyle,
        )
    assert by_label(top)["Bayes optimal"].get_ydata() == [pytest.approx(0.771)] * 2
    assert by_label(bottom)["Bayes optimal"].get_ydata() == [pytest.approx(0.8)] * 2
    assert bottom.get_xlabel() == "training step"
    assert figure.axes[2].get_ylabel() == "loss (nats per token)"
    assert "share of scored tokens" in figure.axes[0].get_ylabel()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "single (2 seeds, mean and range)",
        "looped (2 seeds, mean and range)",
        "Bayes optimal",
    ]


def test_learning_keeps_a_hole_where_a_seed_has_none():
    a, b = metrics("single", 0), metrics("single", 1)
    a["accuracy"][5] = np.nan
    y = by_label(learning([a, b]).axes[0])["single"].get_ydata()
    assert np.flatnonzero(np.isnan(y)).tolist() == [5]


@pytest.mark.parametrize(("x", "unit"), [("flops", "(FLOP)"), ("seconds", "(s)"), ("tokens", "tokens")])
def test_learning_against_cost(x, unit):
    runs = [metrics("single", 0), metrics("single", 1)]
    figure = learning(runs, x=x)
    assert unit in figure.axes[-1].get_xlabel()
    lines = [li for li in figure.axes[0].lines if li.get_color() == arch_style("single").color]
    if x == "seconds":  # differs between seeds, so there is no mean: two thin lines
        assert [li.get_linewidth() for li in lines] == [0.6, 0.6]
        for line, ds in zip(lines, runs, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), ds["seconds"])
            np.testing.assert_array_equal(line.get_ydata(), ds["accuracy"].sel(split="test", family="simple"))
        assert "drawn singly" in figure.legends[0].get_texts()[0].get_text()
    else:
        assert len(lines) == 1


def test_learning_options():
    figure = learning([metrics()], scale="symlog")
    assert figure.axes[-1].get_xscale() == "symlog"
    assert "symlog: linear below 10" in figure.axes[-1].get_xlabel()
    only_all = learning([metrics(families=("all",))])
    assert [ax.get_title(loc="left") for ax in only_all.axes] == ["all samples", ""]
    assert "Bayes optimal" not in by_label(only_all.axes[0])  # NaN: unknown
    with pytest.raises(LandscapeError, match=r"split 'train' .* found probe, test"):
        learning([metrics()], split="train")
    with pytest.raises(LandscapeError, match="found 'epoch'"):
        learning([metrics()], x="epoch")


def test_eigenvalues_draw_every_mode_of_every_arch_on_shared_axes():
    runs = four("eigenvalues")
    figure = eigenvalues(runs)
    left, right = figure.axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("single (2 seeds)", "looped (2 seeds)")
    assert left.get_ylim() == right.get_ylim()
    lines = [li for li in right.lines if len(li.get_xdata()) == len(STEPS)]
    expected = np.mean([ds["eigenvalue"].values for ds in runs[2:]], axis=0)
    np.testing.assert_allclose(np.stack([li.get_ydata() for li in lines], 1), expected)
    assert to_hex(lines[0].get_color()).upper() == arch_style("looped").color
    assert len({li.get_color() for li in lines}) == expected.shape[1]
    assert [li.get_marker() for li in lines] == ["o"] * 4 + ["v"] * 2


def test_unconverged_eigenvalues_are_hollow_and_only_they():
    ds = spectrum()
    ax = eigenvalues([ds]).axes[0]
    hollow = [li for li in ax.lines if li.get_markerfacecolor() == "white"]
    found = sorted((x, y) for li in hollow for x, y in zip(li.get_xdata(), li.get_ydata(), strict=True))
    bad = ~ds["converged"].values
    assert found == sorted(zip(np.repeat(STEPS, 6)[bad.ravel()], ds["eigenvalue"].values[bad], strict=True))
    for mode, line in enumerate(li for li in ax.lines if len(li.get_xdata()) == len(STEPS)):
        assert line.get_markevery() == np.flatnonzero(~bad[:, mode]).tolist()


def test_band_of_one_seed_is_the_residual():
    ds = spectrum()
    vertices = eigenvalues([ds]).axes[0].collections[3].get_paths()[0].vertices
    value, residual = (ds[v].values[3, 3] for v in ("eigenvalue", "residual"))
    heights = vertices[vertices[:, 0] == STEPS[3], 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [value - residual, value + residual])


def test_scale_of_eigenvalues_is_named_on_the_axis():
    signed = eigenvalues([spectrum()]).axes[0]
    assert signed.get_yscale() == "symlog"
    assert "nats per token / parameter²" in signed.get_ylabel()
    assert "symlog: linear within ±0.01" in signed.get_ylabel()
    assert signed.yaxis.get_transform().linthresh == 0.01
    assert "symlog: linear below 1)" in signed.get_xlabel()
    positive = eigenvalues([spectrum(bottom=0)]).axes[0]
    assert positive.get_yscale() == "log"
    assert "log scale" in positive.get_ylabel()


def test_seeds_with_other_steps_are_drawn_singly():
    runs = [spectrum("single", 0), spectrum("single", 1, steps=STEPS[:-2])]
    lines = [li for li in eigenvalues(runs).axes[0].lines if li.get_linewidth() == 0.6]
    assert len([li for li in lines if len(li.get_xdata()) == len(STEPS)]) == 6
    assert len([li for li in lines if len(li.get_xdata()) == len(STEPS) - 2]) == 6


def test_nan_eigenvalue_is_a_hole():
    ds = spectrum()
    ds["eigenvalue"][4, 0] = np.nan
    assert np.isnan(eigenvalues([ds]).axes[0].lines[0].get_ydata()[4])


def test_seeds_with_other_modes_are_refused():
    with pytest.raises(LandscapeError, match="same 'end' in all seeds of 'single'"):
        eigenvalues([spectrum("single", 0), spectrum("single", 1, top=3)])


def test_learning_shows_a_wide_range_of_losses_on_a_logarithmic_axis():
    runs = four("learning")
    assert [ax.get_yscale() for ax in learning(runs).axes] == ["linear"] * 4
    spike = runs[0].copy(deep=True)
    spike["loss"][3] = 30.0
    spike["bayes_loss"][:] = 0.0
    axes = learning([spike, *runs[1:]]).axes
    assert [ax.get_yscale() for ax in axes] == ["linear", "linear", "log", "log"]
    assert "log scale" in axes[2].get_ylabel()
    assert not any((np.asarray(line.get_ydata()) == 0).any() for line in axes[2].lines)


def dashed(ax):
    return [line for line in ax.lines if line.get_color() == "0.1"]


def test_the_edge_of_stability_is_drawn_where_it_is_known_and_only_there():
    edge = np.where(STEPS < 500, 60.0 * (1 + STEPS / 100.0), np.inf)
    runs = [ds.assign(edge=("step", edge)) if ds.attrs["arch"] == "single" else ds for ds in four("eigenvalues")]
    figure = eigenvalues(runs)
    render(figure)
    (line,) = dashed(figure.axes[0])  # both seeds have the same
    np.testing.assert_array_equal(line.get_ydata(), np.where(np.isfinite(edge), edge, np.nan))
    assert dashed(figure.axes[1]) == []
    assert "edge of stability" in [t.get_text() for t in figure.legends[0].get_texts()]
    for plain in (
        four("eigenvalues"),
        [ds.assign(edge=("step", np.full(len(STEPS), np.nan))) for ds in four("eigenvalues")],
    ):
        figure = eigenvalues(plain)
        assert not any(dashed(ax) for ax in figure.axes)
        assert "edge of stability" not in [t.get_text() for t in figure.legends[0].get_texts()]
    ax = eigenvalues([runs[0].isel(step=[0])]).axes[0]
    assert {tuple(line.get_ydata()) for line in dashed(ax)} == {(60.0, 60.0)}
