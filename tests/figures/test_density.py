"""The figure of the spectral density: areas are numbers of eigenvalues, bands are standard errors."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.integrate import trapezoid
from support.builders import STEPS, density, four, render

from landscape.errors import LandscapeError
from landscape.figures.density import density as draw
from landscape.figures.style import arch_style


def curve(ax, arch):
    color = arch_style(arch).color
    return next(li for li in ax.lines if to_hex(li.get_color()).upper() == color and len(li.get_xdata()) > 2)


def position(ax, x):
    """In decades of the axis."""
    transform = ax.xaxis.get_transform()
    return transform.transform(np.asarray(x)) / getattr(transform, "linthresh", 1.0)


@pytest.mark.parametrize("width", [0.05, 0.3])
def test_the_area_is_the_number_of_eigenvalues(width):
    ax = draw([density(size=500)], steps=[64], width=width).axes[0]
    line = curve(ax, "single")
    assert trapezoid(line.get_ydata(), position(ax, line.get_xdata())) == pytest.approx(500, rel=1e-3)
    assert f"standard deviation {width:g}" in ax.get_ylabel()


def test_one_eigenvalue_alone_is_one_gaussian_at_its_place():
    ds = density(vectors=2, quad=20, size=500).isel(step=[5])
    ds["node"][:] = np.r_[-1e-2, np.zeros(18), 10.0]
    ds["weight"][:] = np.r_[1, np.full(18, 498 / 18), 1] / 500
    ax = draw([ds], width=0.1).axes[0]
    x, y = curve(ax, "single").get_data()
    right = x > 1
    assert x[right][np.argmax(y[right])] == pytest.approx(10, rel=0.03)
    assert y[right].max() == pytest.approx(1 / (0.1 * np.sqrt(2 * np.pi)), rel=0.01)
    assert "symlog: linear within ±0.01" in ax.get_xlabel()


def test_band_is_the_range_over_seeds_of_mean_and_standard_error():
    runs = [density(seed=0), density(seed=1)]
    both = draw(runs, steps=[8], width=0.1).axes[0]
    line = curve(both, "single")
    x, t = line.get_xdata(), position(both, line.get_xdata())
    means, errors = [], []
    for ds in runs:
        at = ds.sel(step=8)
        theta = position(both, at["node"].fillna(0.0).values.ravel()).reshape(at["node"].shape)
        kernel = np.exp(-0.5 * ((t[:, None, None] - theta) / 0.1) ** 2) / (0.1 * np.sqrt(2 * np.pi))
        curves = 500 * (kernel * at["weight"].values).sum(-1)
        means.append(curves.mean(1))
        errors.append(curves.std(1, ddof=1) / 2)
    np.testing.assert_allclose(line.get_ydata(), np.mean(means, 0), rtol=1e-9, atol=1e-12)
    vertices = both.collections[0].get_paths()[0].vertices
    i = int(np.argmax(line.get_ydata()))
    heights = vertices[vertices[:, 0] == x[i], 1]
    high = max(m[i] + e[i] for m, e in zip(means, errors, strict=True))
    low = min(m[i] - e[i] for m, e in zip(means, errors, strict=True))
    np.testing.assert_allclose([heights.min(), heights.max()], [low, high])


def test_steps_panels_and_curves():
    runs = four("density")
    figure = draw(runs)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [f"step {s}" for s in (0, STEPS[6], STEPS[-1])]
    for ax in figure.axes:
        assert curve(ax, "single").get_linestyle() != curve(ax, "looped").get_linestyle()
    assert "single (2 seeds)" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert len(draw(runs, steps=[0, 1]).axes) == 2
    with pytest.raises(LandscapeError, match="every run has"):
        draw(runs, steps=[3])
    with pytest.raises(LandscapeError, match="there is none"):
        draw([density(steps=[0]), density("looped", steps=[1])])
    with pytest.raises(LandscapeError, match="width > 0"):
        draw(runs, width=0.0)


def test_all_positive_spectrum_is_on_a_log_axis_and_nan_is_a_hole():
    ds = density()
    ds["node"][:] = np.abs(ds["node"]) + 1e-6
    assert draw([ds]).axes[0].get_xscale() == "log"
    ds["node"][0, 0, 0] = np.nan  # with a positive weight: the quadrature is not known
    figure = draw([ds], steps=[0, 8])
    assert np.isnan(curve(figure.axes[0], "single").get_ydata()).all()
    assert np.isfinite(curve(figure.axes[1], "single").get_ydata()).all()
    render(figure)


def test_one_vector_has_no_error_and_so_no_band():
    figure = draw([density(vectors=2).isel(vector=[0])])
    ax = figure.axes[0]
    assert not any(len(path.vertices) for band in ax.collections for path in band.get_paths())
    assert ax.get_ylim()[1] > np.nanmax(ax.lines[0].get_ydata())
    assert "no band: error unknown" in [t.get_text() for t in figure.legends[0].get_texts()]
