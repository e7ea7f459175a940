"""Figures of planes and lines: rows and columns, what was evaluated and what was not, and the walk."""

import matplotlib.axes
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from mpl_toolkits.mplot3d import Axes3D
from support.builders import BUILDERS, attrs, render

from landscape import LandscapeError
from landscape.errors import AbsentError
from landscape.figures.cuts import cuts
from landscape.figures.frames import frames
from landscape.figures.surface import surface
from landscape.figures.surface3d import surface3d


def tilted(**changes):
    """f = a + 10 b on 3 x 2 points, with a path of one checkpoint beside the plane."""
    alpha, beta = np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0])
    data = {
        "loss": (("alpha", "beta"), alpha[:, None] + 10 * beta),
        "gram": (("direction", "direction_2"), np.eye(2)),
        **{
            f"path_{k}": ("path_step", [v, 0.0])
            for k, v in (("alpha", 2), ("beta", 1), ("loss", 14), ("plane_loss", 12), ("distance", 1))
        },
    }
    ds = xr.Dataset(data | changes, {"alpha": alpha, "beta": beta, "path_step": [0, 9]}, attrs("surface", "single", 0))
    return ds.assign_attrs(directions="river", step=9)


@pytest.fixture
def drawn_in_3d(monkeypatch):
    """What is drawn in three dimensions, by the name of the call."""
    found = {}

    def spy(name):
        original = getattr(Axes3D, name)

        def call(self, *args, **settings):
            found.setdefault(name, []).append((args, settings))
            return original(self, *args, **settings)

        monkeypatch.setattr(Axes3D, name, call)

    for name in ("plot_surface", "plot_trisurf", "plot"):
        spy(name)
    return found


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_and_columns_agree_in_three_dimensions(drawn_in_3d, transposed):
    figure = surface3d([tilted().transpose() if transposed else tilted()])
    ((x, y, z), settings), = drawn_in_3d["plot_surface"]  # fmt: skip
    np.testing.assert_allclose(z, x + 10 * y)
    assert z.shape == (3, 2)
    assert settings["facecolors"].shape == (3, 2, 4)
    true, path = (call[0] for call in drawn_in_3d["plot"])
    assert np.array(true).tolist() == [[2, 0], [1, 0], [14, 0]]
    assert np.array(path).tolist() == [[2, 0], [1, 0], [12, 0]], "on the surface"
    assert "α: progress outside the valley (distance)" in figure.axes[0].get_title(loc="left")
    render(figure)


def test_what_is_higher_than_the_axis_or_no_number_is_not_drawn(drawn_in_3d):
    z = tilted()["loss"].values.copy()
    z[0, 1] = np.inf
    render(surface3d([tilted(loss=(("alpha", "beta"), z), path_loss=("path_step", [99.0, 0.0]))]))
    ((_, _, shown), _), = drawn_in_3d["plot_surface"]  # fmt: skip
    assert np.isnan(shown[0, 1])
    assert np.isfinite(shown).sum() == 5
    assert drawn_in_3d["plot_surface"][0][1]["facecolors"][:2, 0, 3].tolist() == [0, 1], "the cell at the hole is none"
    assert np.isnan(drawn_in_3d["plot"][0][0][2][0])


def test_steep_surfaces_have_logarithmic_heights(drawn_in_3d):
    alpha = np.linspace(0, 1, 9)
    steep = xr.Dataset(
        {"loss": (("alpha", "beta"), 1 + np.exp(12 * alpha)[:, None] * [1, 2]), "gram": tilted()["gram"]},
        {"alpha": alpha, "beta": [0.0, 1.0]},
        attrs("surface", "single", 0),
    )
    figure = surface3d([steep])
    assert "log" in figure.axes[0].get_zlabel()
    ((_, _, z), _), = drawn_in_3d["plot_surface"]  # fmt: skip
    above = steep["loss"].values - steep["loss"].values.min()
    np.testing.assert_allclose(z, np.log10(np.maximum(above, 20.0)), err_msg="four decades, from a round number on")
    assert "log" not in surface3d([steep], levels="linear").axes[0].get_zlabel()
    with pytest.raises(LandscapeError, match="found 'cube'"):
        surface3d([steep], levels="cube")


def refined():
    """f = a + 10 b on 5 x 5 points, of which every second and one cell were evaluated, and one is no number."""
    axis = np.arange(5.0)
    known = np.zeros((5, 5), bool)
    known[::2, ::2] = known[:3, :3] = True
    loss = np.where(known, axis[:, None] + 10 * axis, np.nan)
    loss[4, 4] = np.nan
    return xr.Dataset(
        {"loss": (("alpha", "beta"), loss), "evaluated": (("alpha", "beta"), known), "gram": tilted()["gram"]},
        {"alpha": axis, "beta": axis},
        attrs("surface", "single", 0),
    ).assign_attrs(directions="random")


def test_a_refined_grid_is_drawn_from_what_was_evaluated(drawn_in_3d, monkeypatch):
    seen = {}
    original = matplotlib.axes.Axes.tricontourf

    def spy(self, mesh, z, **settings):
        seen.update(mesh=mesh, z=z)
        return original(self, mesh, z, **settings)

    monkeypatch.setattr(matplotlib.axes.Axes, "tricontourf", spy)
    figure = surface([refined()])
    mesh, z = seen["mesh"], seen["z"]
    assert len(mesh.x) == refined()["evaluated"].sum()
    whole = np.ones(len(z), bool)
    whole[(mesh.x == 4) & (mesh.y == 4)] = False
    np.testing.assert_allclose(z[whole], (mesh.x + 10 * mesh.y)[whole])
    assert all(whole[t].all() for t in mesh.get_masked_triangles()), "no triangle has a corner without a value"
    assert "no value" in {t.get_text() for t in figure.legends[0].get_texts()}
    render(surface3d([refined()]))
    ((x, y, height), settings), = drawn_in_3d["plot_trisurf"]  # fmt: skip
    used = np.unique(settings["triangles"])
    np.testing.assert_allclose(height[used], (x + 10 * y)[used])


def test_points_that_were_not_evaluated_are_no_holes():
    ds = refined()
    whole = ds.assign(loss=ds["loss"].fillna(44.0).where(ds["evaluated"]))
    assert "no value" not in {t.get_text() for t in surface([whole]).legends[0].get_texts()}


def test_replayed_updates_and_the_switch_are_marked():
    ds = tilted(path_loops=("path_step", [1, 3]))
    walk = {f"replay_{k}": ("replay_step", [0.5, 1.5]) for k in ("alpha", "beta")}
    figure = surface([ds.assign(walk).assign_coords(replay_step=[0, 1])])
    labels = {t.get_text() for t in figure.legends[0].get_texts()}
    assert {"single updates, replayed", "switch of SHIFT"} <= labels
    (switch,) = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert switch.get_xydata().tolist() == [[0, 0]]
    assert not {"single updates, replayed", "switch of SHIFT"} & {
        t.get_text() for t in surface([tilted()]).legends[0].get_texts()
    }


def test_cuts_are_in_parameter_distance_with_walls_and_parabola():
    ds = BUILDERS["cuts"]()
    ax = cuts([ds]).axes[0]
    curve, parabola, floor, walls = ax.lines[:4]
    x, y = curve.get_xydata().T
    np.testing.assert_allclose(x, ds["alpha"] / 2)
    np.testing.assert_allclose(y[:-1], ds["loss"][:-1, 0])
    assert np.isnan(y[-1])
    assert curve.get_color() == "#0072B2" or to_rgb(curve.get_color())
    at, height = parabola.get_xydata().T
    np.testing.assert_allclose(height, 1 + 2 * at + 2 * at**2)
    assert floor.get_xydata().tolist() == [[-0.5, 0.5]]
    assert walls.get_xydata().tolist() == [[-1, 1], [0, 1]]
    labels = {t.get_text() for t in ax.figure.legends[0].get_texts()}
    assert {"range over 2 draws", "no value", "walls: rise of 0.5"} <= labels


def test_what_is_not_known_of_a_line_is_not_marked():
    ds = BUILDERS["cuts"]()
    nowhere = ds.assign(floor_converged=("direction", [False]))
    assert len(cuts([nowhere]).axes[0].lines) == len(cuts([ds]).axes[0].lines) - 2
    one = ds.assign(wall_censored=(("direction", "side"), [[True, False]]))
    assert cuts([one]).axes[0].lines[3].get_xydata().tolist() == [[0, 1]]


def test_cuts_of_a_plane_are_its_row_and_its_column_next_to_the_checkpoint():
    ds = tilted().assign_coords(alpha=[-1.0, 0.2, 2.0])
    first, second = cuts([ds]).axes[:2]
    assert first.lines[0].get_xydata().tolist() == [[-1, 0], [0.2, 1], [2, 2]]
    assert second.lines[0].get_xydata().tolist() == [[0, 1], [3, 31]]
    assert second.get_xlabel().startswith("leading eigenvector at α = 0.2")
    with pytest.raises(LandscapeError, match="found 'sqrt'"):
        cuts([ds], scale="sqrt")


def test_frames_are_panels_in_the_order_of_steps_with_the_path_about_each():
    ds = BUILDERS["frames"]()
    figure = frames([ds])
    panels = figure.axes[:3]
    assert [ax.get_title(loc="left").splitlines()[-1] for ax in panels] == [f"step {s}" for s in ds.frame_step.values]
    for ax, i in zip(panels, (0, 4, 8), strict=True):
        path = ax.lines[0].get_xydata()
        np.testing.assert_allclose(path[i], [0, 0], atol=1e-12)
        np.testing.assert_allclose(path[:, 0], ds.path_alpha.values - ds.path_alpha.values[i])
        assert ax.get_xlim() == (-1, 1)
    assert len(frames([ds], most=2).axes) == 3
    with pytest.raises(AbsentError, match="Ask for more"):
        frames([BUILDERS["surface"]()])
    with pytest.raises(LandscapeError, match="most >= 1"):
        frames([ds], most=0)


@pytest.mark.parametrize("draw", [surface, surface3d])
def test_a_line_is_no_plane(draw):
    with pytest.raises(AbsentError, match="Draw it with the figure `cuts`"):
        draw([BUILDERS["cuts"]()])
