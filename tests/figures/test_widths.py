import numpy as np
import pytest
from support.builders import four, valley

from landscape.errors import LandscapeError
from landscape.figures.style import arch_style
from landscape.figures.widths import widths


def points(ax, marker):
    """(x, y, hollow) of all points with a marker."""
    return [
        (x, y, li.get_markerfacecolor() == "white")
        for li in ax.lines
        if li.get_marker() == marker
        for x, y in zip(li.get_xdata(), li.get_ydata(), strict=True)
    ]


@pytest.mark.parametrize(("step", "rise"), [(None, None), (100, 0.1)])
def test_widths_are_those_of_the_step_and_rise(step, rise):
    ds = valley()
    ax = widths([ds], step=step, rise=rise).axes[0]
    at = ds.sel(step=step or 1000, rise=rise or 0.01)
    for side, marker, shift in (("-", "<", -0.17), ("+", ">", 0.17)):
        part = at.sel(side=side)
        clear = ~part["censored"].values & np.isfinite(part["half_width"].values)
        found = [(x, y) for x, y, hollow in points(ax, marker) if np.isfinite(y) and not hollow]
        np.testing.assert_allclose([x for x, _ in found], np.flatnonzero(clear) + shift)
        np.testing.assert_allclose([y for _, y in found], part["half_width"].values[clear])
    bars = [s for c in ax.collections for s in c.get_segments() if len(s) == 2]
    flat = np.array([s for s in bars if s[0][0] < s[1][0]])  # one per direction of positive curvature
    expected = at["quadratic_half_width"].values
    np.testing.assert_allclose(flat[:, 0, 1], expected[np.isfinite(expected)])
    np.testing.assert_allclose(flat[:, :, 0].mean(1), np.flatnonzero(np.isfinite(expected)))


def test_censored_widths_are_hollow_triangles_with_arrows():
    ds = valley()
    ax = widths([ds]).axes[0]
    bound = points(ax, "^")
    assert all(hollow for *_, hollow in bound)
    censored = ds["censored"].sel(step=1000, rise=0.01).values
    expected = ds["half_width"].sel(step=1000, rise=0.01).values[censored]
    np.testing.assert_allclose(sorted(y for _, y, _ in bound), sorted(expected))
    assert sorted(t.xy[1] for t in ax.texts) == pytest.approx(sorted(expected))
    assert all(t.arrow_patch is not None for t in ax.texts)


def test_one_censored_seed_makes_a_bound_of_the_mean():
    a, b = valley("single", 0), valley("single", 1)
    a["censored"][-1, 0, 0, 1] = True
    found = [y for x, y, _ in points(widths([a, b]).axes[0], "^") if x == -0.17]
    both = [ds["half_width"].values[-1, 0, 0, 1] for ds in (a, b)]
    np.testing.assert_allclose(found, [np.mean(both)])


def test_exponents_have_error_bars_over_seeds_and_reference_lines():
    runs = four("widths")
    figure = widths(runs)
    ax = figure.axes[3]  # looped
    both = [ds.sel(step=1000, side="+") for ds in runs[2:]]
    np.testing.assert_allclose([y for _, y, _ in points(ax, ">")], np.mean([d["exponent"] for d in both], 0))
    low = np.min([d["exponent"] - d["exponent_stderr"] for d in both], 0)
    high = np.max([d["exponent"] + d["exponent_stderr"] for d in both], 0)
    segments = ax.collections[1].get_segments()
    np.testing.assert_allclose([[s[0][1], s[1][1]] for s in segments], np.stack([low, high], 1))
    assert [li.get_ydata()[0] for li in ax.lines if list(li.get_xdata()) == [0, 1]] == [1.0, 2.0]
    assert [t.get_text() for t in ax.texts] == ["V", "quadratic"]
    assert ax.lines[0].get_color() == arch_style("looped").color


def test_an_exponent_without_error_is_hollow():
    ds = valley()
    ds["exponent_stderr"][-1, 2, 0] = np.nan
    hollow = [(x, y) for x, y, h in points(widths([ds]).axes[1], "<") if h]
    assert hollow == [(pytest.approx(1.83), ds["exponent"].values[-1, 2, 0])]


def test_labels_and_ticks():
    ax, _, below, _ = widths(four("widths")).axes
    assert ax.get_title(loc="left") == "single (2 seeds), step 1000\nrise of 0.01 nats per token"
    assert "parameter distance;\nlog scale" in ax.get_ylabel()
    assert ax.get_yscale() == "log"
    assert "dimensionless" in below.get_ylabel()
    assert [t.get_text() for t in below.get_xticklabels()] == [str(d) for d in valley()["direction"].values]


def test_last_common_step_and_refusals():
    a, b = valley("single"), valley("looped", steps=(0, 100))
    assert "step 100\n" in widths([a, b]).axes[0].get_title(loc="left")
    with pytest.raises(LandscapeError, match=r"found 1000. Choose one of 0, 100\."):
        widths([a, b], step=1000)
    with pytest.raises(LandscapeError, match=r"found 0.5. Choose one of 0.001, 0.01, 0.1\."):
        widths([a], rise=0.5)
    with pytest.raises(LandscapeError, match=r"found none\. Measure the runs at the same steps"):
        widths([a, valley("looped", steps=(7,))])
    with pytest.raises(LandscapeError, match="Measure the seeds alike"):
        widths([a, valley("single", 1).isel(mode=[0, 1])])


def test_archs_with_other_directions_share_the_axis():
    figure = widths([valley("single"), valley("looped").isel(mode=[6, 0])])
    right = figure.axes[1]
    assert sorted(x for x, _, _ in points(right, "<")) == pytest.approx([-0.17, 5.83])
    assert len(figure.axes[3].get_xticks()) == 7


def shaped(arch="single", seed=0, **shapes):
    """The synthetic result with the variables of the newer version of the probe."""
    ds = valley(arch, seed)
    label = np.full(ds["curvature"].shape, "quadratic", dtype="<U9")
    for mode, name in shapes.items():
        label[-1, int(mode[1:])] = name
    return ds.assign(
        shape=(("step", "mode"), label),
        converged=~ds["censored"] & np.isfinite(ds["half_width"]),
        floor_converged=(("step", "mode"), np.ones(label.shape, bool)),
    )


def test_letters_name_the_shapes_of_all_seeds():
    runs = [shaped("single", 0, m1="V", m3="flat", m4="falling"), shaped("single", 1, m1="undecided", m3="flat")]
    ax = widths(runs).axes[1]
    letters = {t.xy[0]: t.get_text() for t in ax.texts if t.xy[1] == 1 and t.get_text() not in ("V", "quadratic")}
    assert letters == {0: "Q", 1: "V?", 2: "Q", 3: "F", 4: "Q↓", 5: "Q", 6: "Q"}
    key = ax.get_xlabel().replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    assert key == "direction (shape: V, Q quadratic, F flat, ↓ falling, ? undecided)"
    assert widths([valley()]).axes[1].get_xlabel() == "direction"


def test_what_did_not_converge_is_a_cross():
    ds = shaped()
    ds["floor_converged"][-1, 2] = False
    ds["converged"][-1, 0, 1, 1] = False
    above, below = widths([ds]).axes
    crosses = sorted((x, y) for x, y, _ in points(above, "x"))
    at = ds["half_width"].sel(step=1000, rise=0.01).values
    expected = [(0.17, at[0, 1]), (1.83, at[2, 0]), (2.17, at[2, 1])]
    np.testing.assert_allclose([c for c in crosses if np.isfinite(c[1])], expected)
    assert [x for x, *_ in sorted(points(below, "x"))] == pytest.approx([1.83, 2.17])
    assert not any(x == pytest.approx(1.83) for x, *_ in points(above, "<"))
    # censored is not the same as not converged
    assert {x for x, *_ in points(above, "^")} == {x for x, *_ in points(widths([valley()]).axes[0], "^")}
