"""Two runs side by side: known lines, matched losses, paired seeds, dominance by hand, and the command."""

import json
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from support.builders import density, spectrum, split, valley
from support.builders_dynamics import alignment, hopping

from landscape import LandscapeError, Study, load, sweep, train
from landscape.answers.files import save
from landscape.answers.sweep import answer, plan
from landscape.cli.compare import command
from landscape.figures.comparison import comparison
from landscape.figures.style import paper
from landscape.probes import get_probe
from landscape.studies.compare import abscissa, compare, dominance, interpolate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from support.runs import small_config

    root = tmp_path_factory.mktemp("pairs")
    for arch in ("single", "looped"):
        for seed in (0, 1):
            run = train(small_config(arch=arch, seed=seed), root / arch / f"s{seed}")
            asked = [int(s) for s in run.steps[[0, 2, 3, -1]]]
            answer([plan(get_probe(p), run, seed=0, steps=asked) for p in ("entropy", "force")])
    return root


def studies(folder, *names):
    return [Study.open([folder / n]) for n in names]


def test_interpolation_on_known_lines():
    x = np.array([0.0, 1.0, 4.0])
    at = np.array([-1.0, 0.0, 0.5, 1.0, 3.0, 4.0, 4.1])
    y = np.stack([2 * x + 1, -x], axis=1)
    found = interpolate(x, y, at)
    inside = slice(1, 6)
    np.testing.assert_allclose(found[inside], np.stack([2 * at + 1, -at], axis=1)[inside])
    assert np.isnan(found[[0, -1]]).all()
    np.testing.assert_allclose(interpolate(-x, y, -at), found, rtol=1e-14)  # falling
    assert interpolate(np.array([2.0]), np.array([5.0]), np.array([1.0, 2.0, 3.0]))[1] == 5
    hole = interpolate(x, np.array([1.0, np.nan, 3.0]), at)
    assert np.isfinite(hole).tolist() == [False, True, False, False, False, True, False]
    assert np.isnan(interpolate(np.full(3, np.nan), y, at)).all()


def test_dominance_by_hand():
    a, b = [5.0, 0.9, 0.5, 0.2, -1.0], [9.0, 0.95, 0.4, 0.1, 0.05, 1e-9, -3.0]
    found = dominance(a, b, [0.3, 1.0, 20.0], floor=1e-6)
    assert found["count_below_a"].tolist() == [1, 3, 4]
    assert found["count_below_b"].tolist() == [2, 4, 5]
    assert found["count_below_difference"].tolist() == [1, 1, 1]
    assert found["dominance_ranks"].tolist() == [1, 3, 4]
    assert found["dominance_fraction"].tolist() == [1, 1, 1]
    back = dominance(b, a, [0.3, 1.0, 20.0], floor=1e-6)
    np.testing.assert_allclose(back["dominance_fraction"], [0, 0, 0])
    part = dominance([0.1, 0.2, 0.3, 0.4], [0.05, 0.2, 0.35, 0.5], [1.0])
    assert part["dominance_fraction"].tolist() == [0.5]
    assert np.isnan(dominance([2.0], [3.0], [1.0])["dominance_fraction"]).all()
    assert np.isnan(dominance([np.nan, 1.0], [3.0, 1.0], [1.0])["count_below_a"]).all()
    scaled = dominance(1e-8 * np.array(a), 1e-8 * np.array(b), [3e-9], floor=1e-14)
    assert all(float(scaled[k][0]) == float(found[k][0]) for k in found)
    with pytest.raises(LandscapeError, match="positive thresholds"):
        dominance(a, b, [0.0])


def test_at_common_steps_nothing_is_interpolated(folder):
    a, b = studies(folder, "single/s0", "looped/s0")
    ds = compare(a, b, probe="entropy")
    one, two = (Study.open([folder / n]).results("entropy")[0] for n in ("single/s0", "looped/s0"))
    np.testing.assert_array_equal(ds.entropy_a, one.entropy)
    np.testing.assert_array_equal(ds.entropy_b, two.entropy)
    np.testing.assert_array_equal(ds.entropy_difference, two.entropy - one.entropy)
    np.testing.assert_array_equal(ds.eigenvalue_a, one.eigenvalue)
    assert ds.attrs["interpolation"].startswith("none")
    assert (ds.attrs["arch_a"], ds.attrs["arch_b"], ds.attrs["n_seeds"]) == ("single", "looped", 1)
    np.testing.assert_allclose(ds.slope_difference_stderr, np.hypot(one.slope_stderr, two.slope_stderr))
    assert not {"entropy_stderr_difference", "entropy_low_difference", "entropy_high_a"} & set(ds)
    assert ds.entropy_a.attrs["units"] == "nats"


def test_at_the_same_loss_and_flops(folder):
    a, b = studies(folder, "single/s0", "looped/s0")
    for at in ("loss", "flops"):
        ds = compare(a, b, probe="entropy", at=at)
        grid = ds[at].values
        assert (np.diff(grid) < 0).all() if at == "loss" else (np.diff(grid) > 0).all()
        for study, side in ((a, "a"), (b, "b")):
            result = study.results("entropy")[0]
            x = abscissa(study.runs[0], result.step.values, at)
            assert (np.diff(x) <= 0).all() if at == "loss" else (np.diff(x) > 0).all()
            assert set(np.unique(x)) <= set(grid)
            outside = (grid < x.min()) | (grid > x.max())
            np.testing.assert_array_equal(np.isnan(ds[f"entropy_{side}"]), outside)
            order = np.argsort(x, kind="stable")
            if len(np.unique(x)) == len(x):
                known = np.interp(grid[~outside], x[order], result.entropy.values[order])
                np.testing.assert_allclose(ds[f"entropy_{side}"].values[~outside], known)
        assert "never extrapolated" in ds.attrs["interpolation"]
    metrics = a.runs[0].metrics
    flops = metrics.flops.sel(step=a.results("entropy")[0].step)
    np.testing.assert_array_equal(abscissa(a.runs[0], flops.step.values, "flops"), flops)
    assert compare(a, b, probe="entropy", at="flops", points=4).sizes["flops"] == 4


def test_seeds_are_paired_and_averaged(folder):
    a, b = studies(folder, "single", "looped")
    ds = compare(a, b, probe="entropy")
    each = [[Study.open([folder / arch / s]).results("entropy")[0].entropy.values for s in ("s0", "s1")] for arch in ("single", "looped")]  # fmt: skip  # noqa: E501
    one, two = np.array(each)
    np.testing.assert_allclose(ds.entropy_a, one.mean(0))
    np.testing.assert_allclose(ds.entropy_difference, (two - one).mean(0))
    np.testing.assert_allclose(ds.entropy_difference_stderr, (two - one).std(0, ddof=1) / np.sqrt(2))
    assert ds.attrs["n_seeds"] == 2
    apart = compare(a, b, probe="entropy", by_seed=True)
    np.testing.assert_array_equal(apart.entropy_difference, two - one)
    assert apart.seed.values.tolist() == [0, 1]


def test_dominance_of_stored_eigenvalues(folder):
    a, b = studies(folder, "single/s0", "looped/s0")
    ds = compare(a, b, probe="force")
    one, two = (s.results("force")[0] for s in (a, b))
    np.testing.assert_array_equal(ds.tau, one.tau)
    for i in range(ds.sizes["step"]):
        floor = max(float(one.resolution[i]), float(two.resolution[i]))
        known = dominance(one.eigenvalue[i], two.eigenvalue[i], one.tau.values, floor=floor)
        for name, value in known.items():
            np.testing.assert_array_equal(ds[name][i], value, err_msg=name)
    other = compare(a, b, probe="entropy", taus=[0.5])
    assert other.dominance_fraction.dims == ("step", "tau")
    assert "dominance_fraction" not in compare(a, b, probe="entropy")
    assert "rounding" in ds.attrs["note"]


def test_spectra_of_different_size(folder, tmp_path):
    from support.runs import small_config

    run = train(small_config(arch="stacked"), tmp_path / "stacked")
    sweep("force", run, seed=0, steps=[0, int(run.steps[2]), int(run.steps[3]), 20])
    a, b = Study.open([folder / "single/s0"]), Study.open([run.path])
    ds = compare(a, b, probe="force")
    assert "eigenvalue_a" not in ds
    assert "smaller number of ranks" in ds.attrs["note"]
    assert (ds.dominance_ranks <= np.minimum(ds.count_below_a, ds.count_below_b)).all()
    assert np.isfinite(ds.count_below_difference).all()


def test_steps_that_differ_are_interpolated(folder, tmp_path):
    from support.runs import small_config

    run = train(small_config(arch="looped"), tmp_path / "looped")
    steps = [int(s) for s in run.steps]
    sweep("samples", run, seed=0, steps=steps[1::2], samples=5)
    single = Study.open([folder / "single/s0"])
    sweep("samples", single.runs[0], seed=0, steps=steps[::2], samples=5)
    both = compare(single, Study.open([run.path]), probe="samples")
    assert both.attrs["interpolation"].startswith("linear in the step")
    assert sorted(both.step.values.tolist()) == steps
    assert np.isnan(both.loss_difference[0]).all()
    assert np.isfinite(both.loss_difference[1]).all()


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (("single", "looped/s0"), {"probe": "entropy"}, "same seeds"),
        (("single/s0", "looped/s0"), {"probe": "spectrum"}, "no result of probe 'spectrum'"),
        (("single/s0", "looped/s0"), {"probe": "entropy", "at": "time"}, "step, loss, flops"),
        (("single/s0", "looped/s0"), {"probe": "entropy", "points": 1}, "2 points"),
        (("single/s0", "looped/s0"), {"probe": "entropy", "taus": [-1.0]}, "positive thresholds"),
    ],
)
def test_what_cannot_be_compared_is_explained(folder, names, settings, message):
    with pytest.raises(LandscapeError, match=message):
        compare(*studies(folder, *names), **settings)


@pytest.mark.slow
def test_the_command(folder, tmp_path):
    pair = [str(folder / "single"), str(folder / "looped")]
    shown = CliRunner().invoke(command, [*pair, "-o", f"{tmp_path}/c.nc", "--plot", f"{tmp_path}/c.png"])
    assert shown.exit_code == 0, shown.output
    assert "Spectral dominance" in shown.output
    assert "b minus a" in shown.output
    for name in ("entropy", "force"):
        assert (tmp_path / f"c-{name}.png").stat().st_size > 5000
        stored = load(tmp_path / f"c-{name}.nc")
        assert stored.attrs["of"] == name
        assert "n_seeds" in stored.attrs
    printed = CliRunner().invoke(command, [*pair, "-p", "entropy", "--json"])
    values = json.loads(printed.output)["entropy"]
    assert values["attrs"]["at"] == "step"
    assert len(values["data_vars"]["entropy_difference"]["data"]) == values["dims"]["step"]
    loss = CliRunner().invoke(command, [*[f"{p}/s0" for p in pair], "-p", "entropy", "--at", "loss"])
    assert "linear in the probe loss" in " ".join(loss.output.split())
    wrong = CliRunner().invoke(command, [*pair, "--plot", "c.gif"])
    assert isinstance(wrong.exception, LandscapeError)
    one = CliRunner().invoke(command, [*pair, "-p", "spectrum"])
    assert isinstance(one.exception, LandscapeError)


@pytest.mark.parametrize("at", ["step", "loss", "flops"])
@pytest.mark.parametrize("probe", ["entropy", "force"])
def test_the_picture(folder, at, probe):
    ds = compare(*studies(folder, "single", "looped"), probe=probe, at=at)
    figure = comparison(ds)
    canvas = FigureCanvasAgg(figure)
    with paper():
        canvas.draw()
    width, height = figure.get_size_inches()
    tight = figure.get_tightbbox(canvas.get_renderer())
    assert tight.x0 >= 0
    assert tight.y0 >= 0
    assert tight.x1 <= width <= 7.0
    assert tight.y1 <= height
    name = "effective_rank" if probe == "entropy" else "inverse_sum"
    value = ds[f"{name}_a"] if probe == "entropy" else ds[f"{name}_a"].isel(eps=2, tau=2)
    drawn = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == ds.sizes[at])
    np.testing.assert_allclose(drawn.get_ydata(), value)
    np.testing.assert_allclose(drawn.get_xdata(), ds[at])
    assert "a: single" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_what_is_no_comparison_is_not_drawn():
    with pytest.raises(LandscapeError, match="result of a comparison"):
        comparison(xr.Dataset())
    attrs = {"at": "step", "arch_a": "single", "arch_b": "single", "n_seeds": 1}
    ds = xr.Dataset({f"x_{s}": ("step", [1.0, 2.0]) for s in ("a", "b", "difference")}, {"step": [0, 5]}, attrs)
    with pytest.raises(LandscapeError, match="no y_a"):
        comparison(ds, variables=["y"])
    a, b = comparison(ds).axes[0].lines
    assert a.get_color() != b.get_color()


def test_the_loss_is_its_running_minimum():
    loss = xr.DataArray([[[3.0]], [[1.0]], [[2.0]], [[0.5]]], dims=("step", "split", "family"))
    coords = {"step": [0, 5, 7, 9], "split": ["probe"], "family": ["all"]}
    run = SimpleNamespace(metrics=xr.Dataset({"loss": loss}, coords), path="here")
    assert abscissa(run, np.array([0, 5, 7, 9]), "loss").tolist() == [3, 1, 1, 0.5]
    assert abscissa(run, np.array([0, 7, 9]), "loss").tolist() == [3, 2, 0.5]  # of the checkpoints asked for
    np.testing.assert_equal(abscissa(run, np.array([0, 8]), "loss"), [3, np.nan])
    with pytest.raises(LandscapeError, match="no metric 'loss' at its checkpoints"):
        abscissa(run, np.array([8]), "loss")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Two runs without results."""
    from support.runs import small_config

    root = tmp_path_factory.mktemp("bare")
    return [train(small_config(arch=arch), root / arch) for arch in ("single", "looped")]


@pytest.fixture
def stored(bare):
    """Give both runs synthetic results, and return them as two studies."""
    times = count()

    def put(one, two, **settings):
        metric = settings.get("metric", "euclidean")
        for run, ds in zip(bare, (one, two), strict=True):
            probe = ds.attrs["probe"]
            known = run.attributes(probe) | {"metric": metric, "probe_version": 1, "created": f"{next(times):04}"}
            attrs = known | {"settings": json.dumps(settings)}
            save(ds.assign_attrs(attrs), run.path / "results" / f"{probe}-{metric}.nc")
        return [Study([run]) for run in bare]

    yield put
    for run in bare:
        for path in (run.path / "results").glob("*"):
            path.unlink()


def walls(arch):
    """A valley with a floor that was not found, widths that are lower bounds, and one that is lost in rounding."""
    ds = valley(arch)
    ds["curvature"] = ds["curvature"] + 0.0
    ds["slope"] = ds["curvature"] * 0.1
    ds["converged"] = ~ds["censored"]
    ds["converged"][1, 0, 1, 1] = False
    ds["floor_converged"] = (("step", "mode"), np.ones(ds["floor"].shape, bool))
    ds["floor_converged"][0, 2] = False
    return ds


def test_what_is_not_to_be_believed_is_left_out(stored):
    one, two = walls("single"), walls("looped")
    ds = compare(*stored(one, two), probe="valley")
    bad = (one.censored | ~one.converged | ~one.floor_converged).transpose(*one.half_width.dims).values
    np.testing.assert_array_equal(ds.half_width_a, np.where(bad, np.nan, one.half_width))
    assert np.isnan(ds.half_width_difference.values[bad]).all()
    assert np.isnan(ds.exponent_a[0, 2]).all()
    assert np.isfinite(ds.exponent_a[0, 1]).all()
    np.testing.assert_array_equal(ds.curvature_a, one.curvature)  # it is the checkpoint's, not the floor's
    n = 2 * int((bad & np.isfinite(one.half_width.values)).sum())
    m = int(one.half_width.count() + two.half_width.count())
    assert f"{n} of {m} values left out, censored or not converged: half_width" in ds.attrs["note"]
    assert f"4 of {2 * one.exponent.size} values left out, censored or not converged: exponent;" in ds.attrs["note"]
    for name in ("slope", "floor"):
        assert f"{name}_a" not in ds
        assert f"{name} left out: its index or sign means nothing across runs" in ds.attrs["note"]


def test_unconverged_values_are_left_out_before_interpolation(stored):
    one, two = spectrum("single").isel(step=slice(1, -1)), spectrum("looped", steps=np.array([3, 6, 14, 100, 300]))
    ds = compare(*stored(one, two), probe="spectrum")
    assert "linear" in ds.attrs["interpolation"]
    (bad,) = one.step.values[~one.converged.values[:, 3]]
    assert bad == 4
    hole = np.isnan(ds.eigenvalue_a.values[:, 3])
    assert ds.step.values[hole].tolist() == [3, 4, 6]  # all between 2 and 8, which are converged
    assert np.isfinite(ds.eigenvalue_a.values[:, 0]).all()


def test_flags_of_one_kind_of_variable(stored):
    one, two = split("single"), split("looped")
    ds = compare(*stored(one, two), probe="split")
    np.testing.assert_array_equal(np.isnan(ds.kappa_absolute_b), ~two.converged_absolute)
    assert "left out, censored or not converged: dimension_absolute, kappa_absolute" in ds.attrs["note"]


def test_what_has_no_meaning_across_runs_is_not_compared(stored):
    ds = compare(*stored(hopping("single"), hopping("looped")), probe="hopping")
    assert "coefficient_a" not in ds
    assert np.isnan(ds.decrease_sum_a.values).tolist() == hopping("single").censored.values.tolist()
    assert np.isnan(ds.hop_rate_a.values[2]).tolist() == [False, True, False]
    with pytest.raises(LandscapeError, match="no variable of numbers"):
        compare(*stored(density("single"), density("looped")), probe="density")


def test_thresholds_without_all_eigenvalues_are_refused(stored):
    with pytest.raises(LandscapeError, match="tau need all eigenvalues"):
        compare(*stored(spectrum("single"), spectrum("looped")), probe="spectrum", taus=[1.0])


def test_steps_that_are_left_out_are_counted(stored):
    some = np.array([0, 8, 9, 1000])
    ds = compare(*stored(spectrum("single"), spectrum("looped", steps=some)), probe="spectrum")
    assert ds.step.values.tolist() == [0, 8, 1000]
    assert "10 of 13 steps left out" in ds.attrs["note"]
    same = compare(*stored(spectrum("single"), spectrum("looped")), probe="spectrum")
    assert "steps" not in same.attrs["note"]


def test_two_tasks_are_not_compared(stored, monkeypatch):
    a, b = stored(spectrum("single"), spectrum("looped"))
    monkeypatch.setattr("landscape.studies.compare.Study.results", lambda *_, **__: [
        spectrum("single"), spectrum("looped").assign_attrs(task="parity")
    ])  # fmt: skip
    with pytest.raises(LandscapeError, match="one task, found markov, parity"):
        compare(a, b, probe="spectrum")


def test_the_metric_is_chosen_and_named(stored, bare):
    stored(spectrum("single"), spectrum("looped"))
    a, b = stored(spectrum("single", seed=5), spectrum("looped", seed=5), metric="filter")
    plain, other = (compare(a, b, probe="spectrum", metric=m) for m in (None, "filter"))
    assert (plain.attrs["metric"], other.attrs["metric"]) == ("euclidean", "filter")
    assert not plain.eigenvalue_a.equals(other.eigenvalue_a)
    args = [*(str(run.path) for run in bare), "-p", "spectrum"]
    shown = [CliRunner().invoke(command, [*args, *more]).output for more in ((), ("--metric", "filter"))]
    assert ["metric: filter" in " ".join(text.split()) for text in shown] == [False, True]
    assert comparison(other, variables=["eigenvalue"]).legends[0].get_title().get_text() == "metric: filter"
    assert comparison(plain, variables=["eigenvalue"]).legends[0].get_title().get_text() == ""


@pytest.mark.parametrize(("make", "probe", "name"), [(walls, "valley", "side = +"), (alignment, "alignment", "head")])
def test_axes_of_names_are_drawn(stored, make, probe, name):
    figure = comparison(compare(*stored(make("single"), make("looped")), probe=probe))
    assert [t.get_text() for ax in figure.axes for t in ax.texts] == ["no value"] * (make is walls)
    label, below = (figure.axes[i].yaxis.label for i in (0, 3))
    canvas = FigureCanvasAgg(figure)
    with paper():
        canvas.draw()
    assert not label.get_window_extent().overlaps(below.get_window_extent())
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert any(name in title for title in titles), titles


def test_an_unknown_error_is_not_drawn_as_none():
    x = ("step", [1.0, 2.0, 3.0])
    attrs = {"at": "step", "arch_a": "single", "arch_b": "looped", "n_seeds": 1}
    ds = xr.Dataset({f"x_{s}": x for s in ("a", "b", "difference")}, {"step": [0, 5, 9]}, attrs)
    for side, error in (("a", [0.1, 0.1, np.nan]), ("b", [0.1] * 3), ("difference", [0.1, 0.1, np.nan])):
        ds[f"x_{side}_stderr"] = ("step", error)
    figure = comparison(ds)
    first, second = (band.get_paths()[0].vertices for band in figure.axes[0].collections[:2])
    assert (first[:, 0].max(), second[:, 0].max()) == (5, 9)
    assert "no band: error 0 or unknown" in [t.get_text() for t in figure.legends[0].get_texts()]
    known = comparison(ds.fillna(0.1)).legends[0].get_texts()
    assert "no band: error 0 or unknown" not in [t.get_text() for t in known]


def test_the_picture_says_where_counting_begins(folder):
    ds = compare(*studies(folder, "single/s0", "looped/s0"), probe="force")
    assert "rounding < λ ≤ τ" in comparison(ds).axes[2].get_title(loc="left")
