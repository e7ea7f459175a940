"""SHIFT: the criterion on sequences with known answers."""

import json
import math

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from landscape import LandscapeError, RunConfig
from landscape.training.shift import Monitor, Shift, plateau, relative_changes

AT_6 = {"criterion": "fixed", "at": 6, "check_every": 4}
EAGER = {"delta1": 0.5, "delta2": 3.0, "patience": 2, "check_every": 3, "smoothing": 4.0}  # switches at step 9


def same_metrics(a, b, steps):
    """The two runs measured the same numbers at these steps."""
    x, y = (r.metrics.drop_vars("seconds").sel(step=steps) for r in (a, b))
    xr.testing.assert_equal(x, y)


THRESHOLDS = {"delta1": 0.01, "delta2": 0.05}


def test_a_plateau_switches_exactly_w_checks_later():
    falling = [2.0**-i for i in range(6)]
    loss = falling + [falling[-1]] * 10  # the first check without improvement is number 6
    for patience in (1, 2, 5, 10):
        assert plateau(loss, [1.0] * 16, **THRESHOLDS, patience=patience) == 5 + patience
    assert plateau(loss, [1.0] * 16, **THRESHOLDS, patience=11) == -1


def test_both_quantities_must_rest_in_a_row():
    flat, moving = [1.0] * 9, [1.1**i for i in range(9)]
    assert plateau(flat, moving, **THRESHOLDS, patience=1) == -1
    assert plateau([0.9**i for i in range(9)], flat, **THRESHOLDS, patience=1) == -1
    interrupted = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert plateau(interrupted, flat, **THRESHOLDS, patience=3) == 6
    assert plateau(moving, flat, **THRESHOLDS, patience=2) == 2  # a loss that rises does not improve
    assert plateau([1.0], [1.0], **THRESHOLDS, patience=1) == -1  # nothing to compare with


def test_thresholds_are_strict_and_nan_meets_none():
    assert plateau([2.0, 1.0], [1.0, 1.0], delta1=0.5, delta2=1.0, patience=1) == -1
    assert plateau([2.0, 1.0], [1.0, 1.0], delta1=0.500001, delta2=1.0, patience=1) == 1
    assert plateau([1.0, math.nan, 1.0], [1.0] * 3, delta1=9.0, delta2=9.0, patience=1) == -1
    assert plateau([1.0] * 3, [0.0] * 3, delta1=9.0, delta2=9.0, patience=1) == -1


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=1, max_size=20), st.floats(1e-8, 1e8))
def test_the_scale_of_the_loss_changes_nothing(values, scale):
    loss, norm = (np.array(x) for x in zip(*values, strict=True))
    a, b = relative_changes(loss, norm), relative_changes(2.0 ** round(math.log2(scale)) * loss, norm)
    assert np.array_equal(a, b, equal_nan=True)


@given(
    st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=1, max_size=60),
    st.integers(1, 4), st.integers(1, 7), st.floats(1, 20),
)  # fmt: skip
def test_monitor_is_the_criterion_on_averages_by_hand(values, patience, every, smoothing):
    settings = Shift(delta1=0.05, delta2=0.2, patience=patience, check_every=every, smoothing=smoothing)
    monitor, found = Monitor(settings), []
    for step, (loss, norm) in enumerate(values, start=1):
        found += [step] if monitor.observe(step, torch.tensor(loss), torch.tensor(norm)) else []
    smoothed = []
    for n in range(every, len(values) + 1, every):
        weights = (1 - 1 / smoothing) ** np.arange(n - 1, -1, -1)
        smoothed.append(weights @ np.array(values[:n], dtype=np.float32) / weights.sum())
    at = plateau(*np.array(smoothed).T, delta1=0.05, delta2=0.2, patience=patience) if smoothed else -1
    seen = smoothed if at < 0 else smoothed[: at + 1]
    assert np.allclose([(c.loss, c.gradient_norm) for c in monitor.checks], seen, rtol=1e-9) or not seen
    assert found == ([] if at < 0 else [(at + 1) * every])


@given(st.lists(st.floats(0.1, 9), min_size=2, max_size=30), st.integers(0, 29))
def test_a_monitor_continues_from_its_state(losses, cut):
    settings = Shift(delta1=0.3, delta2=9.0, patience=2, check_every=3, smoothing=3.0)
    whole, first, second = (Monitor(settings) for _ in range(3))
    for step, loss in enumerate(losses, start=1):
        one = torch.tensor(loss)
        whole.observe(step, one, one)
        (first if step <= cut else second).observe(step, one, one)
        if step == cut:
            second.load(first.state())
    last = second if cut < len(losses) else first
    assert torch.equal(last.state(), whole.state()) or (last.state().isnan() == whole.state().isnan()).all()
    assert np.array_equal(last.state().numpy(), whole.state().numpy(), equal_nan=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift": {"criterion": "sometimes"}}, "found 'sometimes'"),
        ({"shift": {"patience": 0}}, r"shift\.patience >= 1, found 0"),
        ({"shift": {"check_every": 0}}, r"shift\.check_every >= 1"),
        ({"shift": {"delta2": 0.0}}, r"finite shift\.delta2 above 0"),
        ({"shift": {"delta1": math.nan}}, r"finite shift\.delta1"),
        ({"shift": {"smoothing": 0.5}}, r"shift\.smoothing >= 1"),
        ({"shift": {"at": 5}}, "belongs|the criterion 'fixed' and of no other"),
        ({"shift": {"criterion": "fixed"}}, "Set both, or neither"),
        ({"shift": {"criterion": "fixed", "at": 0}}, r"shift\.at >= 1, found 0"),
        ({"shift": {"criterion": "fixed", "at": 20}}, r"shift\.at before the last step 20"),
        ({"shift": {"deltas": 1}}, "unknown setting of shift 'deltas'"),
        ({"loops": 1}, "at least 2 loops, found loops = 1"),
        ({"projection": {"subspace": "river"}}, "without a projection"),
        ({"arch": "single", "shift": {}}, "belong to arch 'shift', found some with 'single'"),
    ],
)
def test_wrong_settings_are_explained(config, settings, message):
    with pytest.raises(LandscapeError, match=message):
        config(**{"arch": "shift", **settings})


def test_text_form_of_a_config_that_shifts(config):
    for c in (config("shift"), config("shift", shift=AT_6, loops=2)):
        assert RunConfig.from_dict(json.loads(json.dumps(c.to_dict()))) == c
