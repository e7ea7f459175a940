"""The figure of connections: what is drawn is what was measured."""

import numpy as np
import pytest
from support.builders import render
from support.builders_connect import connect

from landscape import LandscapeError
from landscape.captions import caption
from landscape.figures.connect import connect as draw


def texts(figure):
    return [t.get_text() for ax in figure.axes for t in ax.texts]


def test_lines_are_the_losses_and_bars_the_barriers():
    ds = connect("looped", 0)
    (ax,) = draw([ds]).axes
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == ds.sizes["t"]]
    for alignment in ("none", "matched"):
        for path in ("line", "curve"):
            wanted = ds.loss.sel(alignment=alignment, path=path, objective="looped").values
            assert any(np.array_equal(y, wanted) for y in drawn)
    bars = [line for line in ax.lines if len(set(line.get_xdata())) == 1]
    for bar, alignment in zip(bars[:2], ("none", "matched"), strict=True):
        at = ds.sel(alignment=alignment, path="line", objective="looped")
        assert bar.get_xdata()[0] == at.barrier_t
        assert np.ptp(bar.get_ydata()) == pytest.approx(at.barrier.item())
    assert texts(draw([ds]))[:2] == ["1.1", "0.44"]
    assert ax.get_title(loc="left") == "markov-looped-s0@1000 to\nmarkov-looped-s1@1000\nloss of looped"


def test_what_is_not_finite_is_a_gap_without_a_bar():
    ds = connect()
    ds.loss[0, 0, 0, 9:12] = np.inf
    ds.barrier[0, 0, 0] = np.inf
    figure = draw([ds])
    render(figure)
    lines = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 21]
    assert np.isnan(lines[0][9:12]).all()
    assert texts(figure) == ["0.44"]
    render(draw([ds.assign(loss=ds.loss * np.nan, barrier=ds.barrier * np.nan)]))


def test_nothing_is_dashed_where_no_unit_moved():
    ds = connect()
    ds.loss[1] = ds.loss[0]
    ds.barrier[1] = ds.barrier[0]
    figure = draw([ds])
    assert "line, aligned" not in [t.get_text() for t in figure.legends[0].get_texts()]
    assert "--" not in {line.get_linestyle() for line in figure.axes[0].lines}
    assert "line, aligned" in [t.get_text() for t in draw([connect()]).legends[0].get_texts()]


def test_a_loss_over_decades_has_a_logarithmic_axis_that_says_so():
    ax = draw([connect(top=100.0)]).axes[0]
    assert (ax.get_yscale(), ax.get_ylabel().endswith("log scale")) == ("log", True)
    assert draw([connect()]).axes[0].get_yscale() == "linear"
    assert draw([connect()], scale="log").axes[0].get_yscale() == "log"
    with pytest.raises(LandscapeError, match="scale='auto'"):
        draw([connect()], scale="decades")
    with pytest.raises(LandscapeError, match="at most 12 panels"):
        draw([connect(seed=s) for s in range(13)])


def test_the_caption_names_both_ends():
    ds = connect().assign_attrs(run_id="1a", run_id_b="2b", arch_b="looped", run_seed_b=1)
    text = caption("connect", {"connect": [ds]})
    assert "markov-single-s0, id 1a, markov, single, seed 0" in text
    assert "markov-single-s1, id 2b, looped, seed 1" in text
    assert "curve_converged at 1 of 2" in text
