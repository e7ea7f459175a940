import numpy as np
import pytest
import scipy.stats
from support.runs import small_config

from landscape import LandscapeError, Run, Study, train
from landscape.studies.outcomes import outcomes


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("outcomes")
    kinds = {
        "looped": {"arch": "looped"},
        "single": {"arch": "single"},
        "early": {"arch": "shift", "shift": {"criterion": "fixed", "at": 5}},
        "late": {"arch": "shift", "shift": {"criterion": "fixed", "at": 15}},
    }
    return {
        (name, seed): train(small_config(**settings, seed=seed), root / f"{name}-{seed}")
        for name, settings in kinds.items()
        for seed in (0, 1, 2)
        if (name, seed) != ("single", 1)
    }


def final(run, family="all"):
    return float(run.metrics.accuracy.isel(step=-1).sel(split="test", family=family))


def test_means_and_intervals_are_those_of_scipy(runs):
    ds = outcomes(list(runs.values()))
    assert ds.attrs["against"] == "looped"
    assert ds.kind.values.tolist() == ["looped", "single", "shift (at 5)", "shift (at 15)"]
    x = [final(runs["early", s], "complex") for s in (0, 1, 2)]
    at = ds.sel(kind="shift (at 5)", family="complex")
    interval = scipy.stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert float(at.accuracy) == pytest.approx(np.mean(x))
    assert (float(at.accuracy_low), float(at.accuracy_high)) == pytest.approx((interval.low, interval.high))
    gap = [final(runs["early", s], "complex") - final(runs["looped", s], "complex") for s in (0, 1, 2)]
    interval = scipy.stats.ttest_1samp(gap, 0).confidence_interval(0.95)
    assert float(at.accuracy_difference) == pytest.approx(np.mean(gap))
    assert float(at.accuracy_difference_low) == pytest.approx(interval.low)
    ratio = [float(runs["early", s].metrics.flops[-1] / runs["looped", s].metrics.flops[-1]) for s in (0, 1, 2)]
    assert float(at.flops_ratio) == pytest.approx(np.mean(ratio))
    assert float(at.flops_ratio) < 1


def test_only_common_seeds_are_paired(runs):
    ds = outcomes(list(runs.values()))
    assert ds.n_seeds.values.tolist() == [3, 2, 3, 3]
    assert ds.n_pairs.values.tolist() == [3, 2, 3, 3]
    gap = np.mean([final(runs["single", s]) - final(runs["looped", s]) for s in (0, 2)])
    assert float(ds.accuracy_difference.sel(kind="single", family="all")) == pytest.approx(gap)
    alone = outcomes([runs["single", 0], runs["looped", 2]])
    assert alone.n_pairs.values.tolist() == [0, 1]
    assert np.isnan(float(alone.accuracy_difference.sel(kind="single", family="all")))
    assert np.isnan(float(alone.accuracy_low.sel(kind="looped", family="all")))


def test_order_of_runs_and_name_of_the_other_kind(runs):
    a = outcomes(list(runs.values()), against="single")
    b = outcomes(list(runs.values())[::-1], against="single").sel(kind=a.kind)
    assert a.attrs["against"] == "single"
    np.testing.assert_allclose(a.accuracy_difference, b.accuracy_difference, atol=1e-15)
    assert float(a.accuracy_difference.sel(kind="single", family="all")) == 0
    with pytest.raises(LandscapeError, match=r"expected one of the kinds 'looped', 'single'.*found 'stacked'"):
        Study(runs.values()).outcomes(against="stacked")


def test_what_cannot_be_averaged_is_refused(runs, tmp_path):
    with pytest.raises(LandscapeError, match="seed 0 counts once"):
        outcomes([runs["looped", 0], runs["looped", 0]])
    other = train(small_config(task={"n_train": 30, "n_probe": 8, "n_test": 8, "length": 6}), tmp_path / "other")
    with pytest.raises(LandscapeError, match="expected runs of one task"):
        outcomes([runs["looped", 0], other])

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step > 7:
            raise Stop

    with pytest.raises(Stop):
        train(small_config(seed=5), tmp_path / "unfinished", progress=stop)
    unfinished = Run.open(tmp_path / "unfinished")
    assert outcomes([runs["looped", 0], unfinished]).attrs["left_out"] == 1
    with pytest.raises(LandscapeError, match="found none among 1"):
        outcomes([unfinished])
