"""Surfaces that can be turned, and those for ParaView: rows, columns, steps and holes are those of the answer."""

import re

import numpy as np
import pytest
import xarray as xr
from support.browser import Browser, chromium
from support.builders import attrs, line, planes, surface

from landscape import LandscapeError
from landscape.errors import AbsentError
from landscape.report import surface_page as module
from landscape.report.surface_page import surface_page
from landscape.report.vtk import path_vtk, surface_vtk

needs_browser = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine")


def tilted(**more):
    """f = a + 10 b on 3 x 2 points."""
    alpha, beta = np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0])
    values = (("alpha", "beta"), alpha[:, None] + 10 * beta, {"units": "nats per token"})
    ds = xr.Dataset({"loss": values, **more}, {"alpha": alpha, "beta": beta}, attrs("surface", "single", 0))
    return ds.assign_attrs(directions="given", step=9, run="<b>x</b>")


def read(text):
    """Points (n, 3) and scalars of a legacy VTK file."""
    numbers = re.search(r"POINTS (\d+) double\n((?:[^A-Z]+\n))", text)
    points = np.array(numbers[2].split(), float).reshape(int(numbers[1]), 3)
    found = re.findall(r"SCALARS (\S+) double 1\nLOOKUP_TABLE default\n([^A-Z]+)", text)
    return points, {name: np.array(values.split(), float) for name, values in found}


@pytest.mark.parametrize("transposed", [False, True])
def test_points_of_vtk_have_their_values(transposed):
    ds = tilted(family_loss=(("family", "beta", "alpha"), np.arange(12.0).reshape(2, 2, 3)))
    ds = ds.assign_coords(family=["simple", "very complex"])
    text = surface_vtk(ds.transpose() if transposed else ds)
    points, values = read(text)
    assert text.startswith("# vtk DataFile Version 3.0\n")
    assert "DIMENSIONS 3 2 1" in text
    np.testing.assert_array_equal(values["loss"], points[:, 0] + 10 * points[:, 1])
    for (a, b, _), layer in zip(points, values["family_loss_very_complex"], strict=True):
        assert layer == float(ds.family_loss.sel(family="very complex", alpha=a, beta=b))


def test_holes_and_the_path_are_in_vtk():
    ds = surface()
    _, values = read(surface_vtk(ds))
    np.testing.assert_array_equal(np.isnan(values["loss"]), np.isnan(ds.loss.values.T.ravel()))
    points, values = read(path_vtk(ds))
    np.testing.assert_array_equal(points[:, 0], ds.path_alpha.values)
    np.testing.assert_array_equal(values["path_step"], ds.path_step.values)
    with pytest.raises(AbsentError, match="expected a path"):
        path_vtk(tilted())
    with pytest.raises(AbsentError, match="a line of points"):
        surface_vtk(line())


def test_what_makes_no_page_is_told(monkeypatch):
    pytest.importorskip("plotly")
    with pytest.raises(AbsentError, match="line of points"):
        surface_page([line()])
    with pytest.raises(LandscapeError, match="at least one answer"):
        surface_page([])
    monkeypatch.setattr(module, "available", lambda: False)
    with pytest.raises(LandscapeError, match=r"pip install .*html"):
        surface_page([surface()])


@needs_browser
@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path):
    pytest.importorskip("plotly")
    refined = tilted(evaluated=(("alpha", "beta"), [[True, True], [False, True], [True, True]]))
    refined["loss"] = refined.loss.where(refined.evaluated)
    path = tmp_path / "page.html"
    path.write_text(surface_page([tilted(), planes(), refined]))
    assert "<b>x</b>" not in path.read_text()
    shown = "Array.from(document.getElementById('{}')._fullData[{}].{}, row => row.length ? Array.from(row) : row)"
    with Browser() as browser:
        for width in (400, 1400):
            browser.open(path, width=width)
            browser.settle("document.querySelectorAll('canvas').length >= 4", seconds=60)
            assert (browser.errors, browser.requests) == ([], [])
            assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(shown.format("surface-0", 0, "z")) == [[0, 1, 2], [30, 31, 32]]  # rows are beta
        assert browser.run(shown.format("surface-0", 0, "x")) == [0, 1, 2]
        steps = planes().frame_step.values.tolist()
        slider = "document.getElementById('frames-1')._fullLayout.sliders[0].steps.map(s => Number(s.label))"
        assert browser.run(slider) == steps
        browser.run(f"Plotly.animate('frames-1', ['{steps[-1]}'], {{frame: {{duration: 0, redraw: true}}}})")
        expected = np.nan_to_num(planes().frame_loss.values[-1].T, nan=-1)
        browser.settle(
            f"Math.abs(document.getElementById('frames-1')._fullData[0].z[3][3] - {expected[3, 3]}) < 1e-12", seconds=60
        )
        x, y, z = (np.array(browser.run(shown.format("surface-2", 0, name))) for name in "xyz")
        assert len(z) == 5, "what was not evaluated is not drawn"
        np.testing.assert_array_equal(z, x + 10 * y)
