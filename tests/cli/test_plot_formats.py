"""Formats that only surfaces have: files whole, beside their captions, and clear words for all other figures."""

import pytest

from landscape import sweep


@pytest.fixture
def planes(fresh_run):
    sweep("surface", fresh_run, seed=0, points=3, frames=[0, 20])
    return fresh_run


def test_surfaces_in_all_their_formats(planes, landscape, tmp_path):
    pytest.importorskip("plotly")
    code, out, err = landscape(
        "plot", planes.path, "--format", "vtk", "--format", "html", "--format", "gif", "-o", "out"
    )
    assert code == 0, err
    names = ["surface.vtk", "surface-path.vtk", "surface.html", "frames.gif"]
    assert out.split() == [f"out/{name}" for name in names]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*names, "surface.txt", "frames.txt"}
    assert (tmp_path / "out" / "frames.gif").read_bytes()[:3] == b"GIF"
    assert "POINTS 9 double" in (tmp_path / "out" / "surface.vtk").read_text()


def test_other_figures_have_no_such_format(planes, landscape, tmp_path):
    code, out, err = landscape("plot", planes.path, "surface", "frames", "--format", "gif")
    assert (code, out) == (2, "")
    assert "--format gif is a format of the figure 'frames' alone, not of 'surface'" in err
    assert not (tmp_path / "figures").exists()


def test_all_figures_and_the_page(planes, landscape, tmp_path):
    pytest.importorskip("plotly")
    code, out, err = landscape("plot", planes.path, "surface", "--format", "png", "--format", "html")
    assert code == 0, err
    assert out.split() == ["figures/surface.png", "figures/surface.html"]
