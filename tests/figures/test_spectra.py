"""Figures of entropy, force and evolution: what is drawn is what was measured."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from support.builders_spectra import BUILDERS, STEPS, entropy, evolution, force

from landscape.errors import LandscapeError
from landscape.figures import FIGURES
from landscape.figures.style import arch_style, paper


def draw(name, runs, **settings):
    figure = FIGURES[name].function(runs, **settings)
    with paper():
        FigureCanvasAgg(figure).draw()
    return figure


def four(name):
    return [BUILDERS[name](arch, seed) for arch in ("single", "looped") for seed in (0, 1)]


def of(ax, arch):
    return [li for li in ax.lines if to_hex(li.get_color()).upper() == arch_style(arch).color]


def test_entropy_draws_means_and_names_the_ranks():
    runs = four("entropy")
    axes = draw("entropy", runs).axes
    for ax, name in zip(axes, ("entropy", "participation_ratio", "log_spread", "slope"), strict=True):
        expected = np.mean([ds[name].values for ds in runs[2:]], axis=0)
        np.testing.assert_allclose(of(ax, "looped")[0].get_ydata(), expected)
        np.testing.assert_array_equal(of(ax, "looped")[0].get_xdata(), STEPS)
    assert "ranks 1–80 to 100" in axes[3].get_ylabel()
    assert "linear below 1" in axes[2].get_xlabel()


def test_estimates_are_hollow_and_have_no_slope():
    figure = draw("entropy", [entropy(exact=False)])
    assert [li.get_markerfacecolor() for li in of(figure.axes[0], "single")][1] == "white"
    assert np.isnan(of(figure.axes[3], "single")[0].get_ydata()).all()
    assert "estimated from random vectors" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_force_draws_the_windows_it_names():
    runs = four("force")
    figure = draw("force", runs)
    titles = [ax.get_title(loc="left") for ax in figure.axes[:3]]
    assert titles == ["1e-13 < λ ≤ 0.1", "0.0001 < λ ≤ 0.1", "0.01 < λ ≤ 0.1"]
    expected = np.mean([ds["inverse_sum"].sel(eps=1e-2, tau=0.1).values for ds in runs[:2]], axis=0)
    np.testing.assert_allclose(of(figure.axes[2], "single")[0].get_ydata(), expected)
    share = np.mean([ds["flattest_share"].sel(eps=1e-2, tau=0.1).values for ds in runs[:2]], axis=0)
    np.testing.assert_allclose(of(figure.axes[5], "single")[0].get_ydata(), share)
    assert of(figure.axes[0], "single")[1].get_markerfacecolor() == "white"
    assert len(of(figure.axes[1], "single")) == 1
    assert len(draw("force", runs, tau=1e-3).axes) == 6
    with pytest.raises(LandscapeError, match=r"one of 0.001, 0.1, 1"):
        draw("force", runs, tau=0.5)
    with pytest.raises(LandscapeError, match="same eps and tau"):
        draw("force", [force(), force("looped").isel(eps=slice(1, None))])


def test_evolution_draws_phases_maps_and_penalties():
    runs = four("evolution")
    figure = draw("evolution", runs)
    top, phases, information, angle = (figure.axes[2 * i + 1] for i in range(4))
    np.testing.assert_allclose(of(top, "looped")[0].get_ydata(), runs[2].entropy)
    np.testing.assert_allclose(of(top, "looped")[1].get_ydata(), runs[3].entropy)
    changes = [li.get_xdata()[0] for li in top.lines if li.get_linestyle() == ":"]
    assert changes == [3.5, 7.5]
    np.testing.assert_allclose(of(phases, "looped")[0].get_ydata(), runs[2].n_phases)
    shown = information.collections[0].get_array()
    np.testing.assert_allclose(shown, runs[2].mutual_information)
    np.testing.assert_allclose(angle.collections[0].get_array(), runs[2].angle.mean("mode"))


def test_evolution_without_mutual_information_or_phases_has_no_panel_of_holes():
    figure = draw("evolution", [evolution(known=False)])
    assert [ax.get_ylabel().split("\n")[0] for ax in figure.axes[-1:]] == ["mean principal"]
    assert len(figure.axes) == 4
    assert np.isnan(of(figure.axes[1], "single")[0].get_ydata()).all()
    assert "no value" not in [t.get_text() for t in figure.legends[0].get_texts()]
    assert len(figure.axes[0].lines) == 1
    half = evolution()
    half["mutual_information"] = half.mutual_information.where(half.step_a > STEPS[0])
    figure = draw("evolution", [half])
    assert figure.axes[2].collections[0].get_array().mask.any()
    assert "no value" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert len(draw("evolution", [evolution(steps=STEPS[:3])]).axes) == 6


@pytest.mark.parametrize("name", ["entropy", "force", "evolution"])
def test_an_unknown_error_leaves_a_hole_in_the_band(name):
    """Not a band of width zero, which would say that the value is exact."""
    variable = {"force": "inverse_sum_stderr"}.get(name, "entropy_stderr")
    at = "path_step" if name == "evolution" else "step"
    ds = BUILDERS[name]()
    ds[variable] = (0.1 * np.abs(ds[variable.removesuffix("_stderr")])).where(ds[at] < 100)
    figure = draw(name, [ds])
    end = 7 if name == "evolution" else 64  # the figure of the evolution counts checkpoints
    assert max(path.vertices[:, 0].max() for path in figure.axes[0].collections[0].get_paths()) == end
    note = "no band: error unknown"
    assert note in [t.get_text() for t in figure.legends[0].get_texts()]
    assert note not in [t.get_text() for t in draw(name, [BUILDERS[name]()]).legends[0].get_texts()]
