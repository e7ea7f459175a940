"""Models whose accuracy at every length is known, and the probe on runs."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.stats import binomtest
from support.builders_length import length as built

from landscape import LandscapeError, RunConfig, sweep, train
from landscape.cli.tables import TABLES
from landscape.figures import FIGURES
from landscape.loss.objective import Objective
from landscape.probes.length import PROBE, length
from landscape.tasks import build_task, task_config

TASK = {"name": "parity", "max_train_length": 4, "test_length": 9, "increase_every": 4}
SMALL = TASK | {"n_train": 61, "n_probe": 21, "n_test": 20}
EQUALS, EOS = 2, 3


class Counter(torch.nn.Module):
    """Says the parity of the first `reach` bits at "=", and EOS after it; certain by a factor `scale`."""

    def __init__(self, reach, *, scale=3.0):
        super().__init__()
        self.reach = reach
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, tokens, loops=None):
        position = torch.arange(tokens.shape[1])
        parity = ((tokens == 1) & (position < self.reach)).cumsum(1) % 2
        said = torch.where(tokens == EQUALS, parity, EOS)
        return self.scale * torch.nn.functional.one_hot(said, 4).to(self.scale)


class Constant(torch.nn.Module):
    """Says 1 at "=", EOS elsewhere."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, tokens):
        said = torch.where(tokens == EQUALS, 1, EOS)
        return self.scale * torch.nn.functional.one_hot(said, 4).to(self.scale)


@pytest.fixture(scope="module")
def task():
    config = {k: v for k, v in SMALL.items() if k != "name"}
    return build_task(task_config("parity")(**config))


def objective_of(model, task, **settings):
    part = task.split("probe")
    return Objective(model, task.per_sample_loss, (part.inputs, part.targets), **settings)


def measure(model, task, **settings):
    objective = objective_of(model, task, chunk=settings.pop("chunk", None))
    return length(objective, objective.w0, seed=settings.pop("seed", 0), task=task, **settings)


def test_a_perfect_model_is_right_at_every_length(task):
    ds = measure(Counter(99), task, lengths=(1, 4, 5, 9, 13), n=61)
    assert ds.accuracy.values.tolist() == [[1.0]] * 5
    assert ds.token_accuracy.values.tolist() == [[1.0]] * 5
    assert np.allclose(ds.loss, np.log1p(3 * np.exp(-3.0)), rtol=1e-12)
    assert np.allclose(ds.loss_stderr, 0, atol=1e-12)
    assert np.allclose(ds.accuracy_lower, 0.025 ** (1 / 61), rtol=1e-9)
    assert (ds.accuracy_upper == 1).all()
    assert ds.loops.values.tolist() == [0]
    assert ds.rule_loops.values.tolist() == [1, 4, 5, 9, 13]
    assert np.isnan(ds.own_loops).all()
    assert (int(ds.n), int(ds.trained_length)) == (61, 0)


def test_a_constant_model_is_right_by_chance(task):
    ds = measure(Constant(), task, lengths=(3, 9), n=400)
    for i, size in enumerate((3, 9)):
        part = task.examples(size, 400, seed=0)
        odd = part.inputs[:, :size].sum(1) % 2 == 1
        assert float(ds.accuracy[i, 0]) == pytest.approx(float(odd.double().mean()), rel=1e-12)
        scored = task.length - size  # the answer and EOS up to the end of the row
        right = np.where(odd, 1.0, 1 - 1 / scored)
        assert float(ds.token_accuracy[i, 0]) == pytest.approx(right.mean(), rel=1e-12)
        assert float(ds.token_accuracy_stderr[i, 0]) == pytest.approx(right.std(ddof=1) / 20, rel=1e-9)
        loss = np.log1p(3 * np.exp(-3.0)) + np.where(odd, 0.0, 3 / scored)
        assert float(ds.loss[i, 0]) == pytest.approx(loss.mean(), rel=1e-12)
        assert float(ds.loss_stderr[i, 0]) == pytest.approx(loss.std(ddof=1) / 20, rel=1e-9)


def test_the_interval_covers_chance_as_often_as_it_says(task):
    found = [measure(Constant(), task, lengths=(6,), n=50, seed=s) for s in range(200)]
    covered = [float(ds.accuracy_lower[0, 0]) <= 0.5 <= float(ds.accuracy_upper[0, 0]) for ds in found]
    assert np.mean(covered) > 0.95 - 3 * (0.05 * 0.95 / 200) ** 0.5


def test_too_few_loops_reach_only_so_far(task):
    asked = []

    def variant(loops):
        asked.append(loops)
        return objective_of(Counter(loops), task)

    def own(tokens):
        return (tokens, task.loops(tokens)), task.loops(tokens).clamp(max=6)

    objective = objective_of(Counter(6), task)
    ds = length(
        objective, objective.w0, seed=0, task=task, own=own, variant=variant, lengths=(9, 2, 5), n=300, loops=(5, 2, 2)
    )
    assert asked == ds.loops.values[1:].tolist() == [2, 5]
    assert ds.length.values.tolist() == [2, 5, 9]
    right = ds.accuracy.values
    assert right[0].tolist() == [1, 1, 1]
    assert right[1, [0, 2]].tolist() == [1, 1]
    assert np.abs(np.r_[right[1, 1], right[2]] - 0.5).max() < 4 * 0.5 / 300**0.5
    assert ds.own_loops.values.tolist() == [2, 5, 6]


@pytest.mark.parametrize("chunk", [1, 10, 61, 500])
def test_the_chunk_changes_nothing(task, chunk):
    part, whole = (measure(Counter(3), task, lengths=(2, 7), n=61, chunk=c) for c in (chunk, None))
    for name in ("accuracy", "token_accuracy", "loss", "loss_stderr"):
        assert np.allclose(part[name], whole[name], rtol=1e-12)


def test_a_smaller_loss_scales_the_loss_alone(task):
    def tiny(outputs, targets):
        return 1e-8 * type(task).per_sample_loss(outputs, targets)

    ds = measure(Constant(), task, lengths=(5,), n=61)
    scaled = build_task(task.config)
    scaled.per_sample_loss = tiny
    small = measure(Constant(), scaled, lengths=(5,), n=61)
    assert np.allclose(small.loss, 1e-8 * ds.loss, rtol=1e-9)
    assert np.allclose(small.loss_stderr, 1e-8 * ds.loss_stderr, rtol=1e-9)
    assert small.accuracy.equals(ds.accuracy)


def test_the_interval_is_clopper_and_pearsons(task):
    ds = measure(Counter(2), task, lengths=(1, 2, 3, 4, 5, 6, 7, 8, 9), n=37)
    assert 0 < float(ds.accuracy.min()) < 1
    for k, low, high in zip(ds.accuracy * 37, ds.accuracy_lower, ds.accuracy_upper, strict=True):
        exact = binomtest(round(float(k[0])), 37).proportion_ci(0.95, method="exact")
        assert (float(low[0]), float(high[0])) == (pytest.approx(exact.low, rel=1e-9), pytest.approx(exact.high))
    never = measure(Counter(99, scale=-3.0), task, lengths=(4,), n=37)
    assert (float(never.accuracy[0, 0]), float(never.accuracy_lower[0, 0])) == (0, 0)
    assert float(never.accuracy_upper[0, 0]) == pytest.approx(1 - 0.025 ** (1 / 37), rel=1e-9)


def test_samples_depend_on_the_seed_and_one_has_no_error(task):
    a, b, c = (measure(Constant(), task, lengths=(6,), n=200, seed=s) for s in (0, 0, 1))
    assert a.equals(b)
    assert not a.equals(c)
    assert np.isnan(measure(Constant(), task, lengths=(6,), n=1).loss_stderr).all()


def test_default_lengths_hold_the_borders_of_training_and_test(task):
    assert measure(Constant(), task, n=2).length.values.tolist() == list(range(1, 10))
    long = build_task(task_config("copy")(max_train_length=33, test_length=200, n_train=1, n_probe=1, n_test=2))
    grid = measure(Constant(), long, n=2).length.values
    assert {1, 33, 34, 200} <= set(grid.tolist())
    assert 18 <= len(grid) <= 22


def test_what_makes_no_sense_is_refused(task):
    for settings, message in (
        ({"lengths": (0,)}, r"length\.lengths >= 1"),
        ({"loops": (0, 1)}, r"length\.loops >= 1"),
        ({"n": 0}, r"length\.n >= 1"),
        ({"loops": (2,)}, "number of loops can be changed"),
    ):
        with pytest.raises(LandscapeError, match=message):
            measure(Constant(), task, **settings)


# -- on runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lengths")
    common = {"model": {"width": 4}, "steps": 12, "batch": 8, "checkpoints": 3, "dense_checkpoints": 1}

    def one(arch):
        return train(RunConfig.make(arch=arch, loops=3, task=SMALL, **common), folder / arch)

    return {arch: one(arch) for arch in ("single", "looped", "stacked")}


def test_a_run_is_measured_as_it_was_trained_and_with_other_loops(runs):
    ds = sweep("length", runs["looped"], seed=0, lengths=[2, 6], n=21, loops=[1, 3, 5])
    assert ds.trained_length.values.tolist() == [runs["looped"].task.trained_length(int(s)) for s in ds.step]
    assert ds.trained_length.values[[0, -1]].tolist() == [0, 3]
    assert (ds.own_loops == 3).all()
    assert ds.sel(loops=0, drop=True).loss.equals(ds.sel(loops=3, drop=True).loss)
    assert not np.allclose(ds.loss.sel(loops=1), ds.loss.sel(loops=3))
    module = runs["looped"].module(12, loops=5).double()
    part = runs["looped"].task.examples(6, 21, seed=0)
    with torch.no_grad():
        loss = runs["looped"].task.per_sample_loss(module(part.inputs), part.targets).mean()
    assert float(ds.loss.sel(step=12, length=6, loops=5)) == pytest.approx(float(loss), rel=1e-9)


def test_loops_that_follow_the_length_are_the_models_own(tmp_path):
    model = {"name": "gpt", "width": 8, "heads": 2, "per_length": True}
    run = train(
        RunConfig.make(arch="looped", loops=4, task=SMALL, model=model, steps=2, batch=8, checkpoints=2), tmp_path
    )
    ds = sweep(PROBE, run, seed=0, steps=[2], lengths=[1, 3, 4, 7, 30], n=9, loops=[3, 6]).isel(step=0)
    assert ds.own_loops.values.tolist() == [1, 3, 4, 4, 4]
    assert ds.rule_loops.values.tolist() == [1, 3, 4, 7, 30]
    own, three = ds.loss.sel(loops=0), ds.loss.sel(loops=3)
    assert float(own.sel(length=3)) == pytest.approx(float(three.sel(length=3)), rel=1e-9)
    assert float(own.sel(length=7)) != pytest.approx(float(three.sel(length=7)), rel=1e-6)
    for size in (3, 7):  # over-looping and under-looping
        part = run.task.examples(size, 9, seed=0)
        with torch.no_grad():
            loss = run.task.per_sample_loss(run.module(2, loops=6).double()(part.inputs), part.targets).mean()
        assert float(ds.loss.sel(length=size, loops=6)) == pytest.approx(float(loss), rel=1e-9)


def test_samples_that_stop_by_themselves(tmp_path):
    model = {"name": "gpt", "width": 8, "heads": 2, "per_length": True}
    run = train(
        RunConfig.make(arch="looped", loops=4, task=SMALL, model=model, steps=9, batch=8, checkpoints=2), tmp_path
    )
    common = {"seed": 0, "steps": [9], "lengths": [1, 7], "n": 61, "loops": [2, 3]}
    # Every change is below the first threshold and above the second.
    at_once = sweep(PROBE, run, threshold=1e9, **common).isel(step=0)
    assert at_once.adaptive_loops.values.tolist() == [2, 2]
    assert at_once.adaptive_converged.values.tolist() == [1, 1]
    never = sweep(PROBE, run, threshold=1e-300, max_loops=3, chunk=10, **common).isel(step=0)
    assert never.adaptive_loops.values.tolist() == [3, 3]
    assert never.adaptive_converged.values.tolist() == [0, 0]
    for ds, loops in ((at_once, 2), (never, 3)):
        for end in ("", "_lower", "_upper"):
            assert ds[f"adaptive_accuracy{end}"].equals(ds[f"accuracy{end}"].sel(loops=loops, drop=True))
    rule = sweep(PROBE, run, threshold=1e-300, **common).isel(step=0)
    assert rule.adaptive_loops.values.tolist() == [2, 14]
    part = sweep(PROBE, run, threshold=1e-300, parameters="blocks.*", **common).isel(step=0)
    assert part.adaptive_accuracy.equals(rule.adaptive_accuracy)
    part = run.task.examples(7, 61, seed=0)
    model = run.module(9).double()
    change = model.adaptive(part.inputs, max_loops=3, threshold=1e-300, scored=part.targets != -100).change
    middle = float(change.median())
    found = sweep(PROBE, run, threshold=middle, max_loops=50, **common).isel(step=0).adaptive_loops[1]
    expected = model.adaptive(part.inputs, max_loops=50, threshold=middle, scored=part.targets != -100).loops
    assert 2 < float(found) == pytest.approx(float(expected.double().mean()), rel=1e-12)
    table = TABLES["length"]([never.expand_dims("step")])
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [row[4] for row in table.rows].count("stops (3)") == 2


def test_stopping_is_refused_where_it_cannot_be(runs, task):
    with pytest.raises(LandscapeError, match="stop by itself, such as gpt"):
        sweep(PROBE, runs["looped"], seed=0, steps=[12], threshold=0.1)
    for settings in ({"threshold": -1.0}, {"max_loops": 3}):
        with pytest.raises(LandscapeError, match=r"expected length\.threshold >= 0"):
            measure(Counter(3), task, **settings)


def test_every_architecture_can_be_asked_but_only_some_for_other_loops(runs):
    for arch, own in (("single", 1), ("looped", 3), ("stacked", 1)):
        ds = sweep(PROBE, runs[arch], seed=0, steps=[12], lengths=[5], n=9)
        assert ds.own_loops.values.tolist() == [[own]]
    with pytest.raises(LandscapeError, match="stacked"):
        sweep(PROBE, runs["stacked"], seed=0, steps=[12], lengths=[5], n=9, loops=[2])
    with pytest.raises(LandscapeError, match="cannot take queries of length 30"):
        sweep(PROBE, runs["single"], seed=0, steps=[12], lengths=[30], n=9)


def test_varying_parameters_change_nothing(runs):
    whole = sweep(PROBE, runs["looped"], seed=0, steps=[12], lengths=[5], n=9, loops=[2])
    part = sweep(PROBE, runs["looped"], seed=0, steps=[12], lengths=[5], n=9, loops=[2], parameters="blocks.*")
    assert np.allclose(part.loss, whole.loss, rtol=1e-12)


def test_metrics_of_a_run_tell_trained_and_longer_queries_apart(runs):
    metrics = runs["single"].metrics
    assert metrics.family.values.tolist() == ["all", "trained", "longer"]
    test = metrics.sel(split="test").isel(step=-1)
    assert float(test.accuracy.sel(family="all")) == pytest.approx(float(test.accuracy[1:].mean()), rel=1e-6)
    assert metrics.loss.sel(split="probe", family="longer").isnull().all()
    assert metrics.bayes_accuracy.values.tolist() == [1, 1, 1]


def test_samples_that_all_have_one_length_are_refused(run, runs):
    with pytest.raises(LandscapeError, match="differ in length, such as parity, found 'markov'"):
        sweep(PROBE, run, seed=0, steps=[0])
    for settings in ({"split": "test"}, {"samples": 5}):
        with pytest.raises(LandscapeError, match=r"set length\.n instead"):
            sweep(PROBE, runs["single"], seed=0, steps=[12], **settings)


# -- table and figure -----------------------------------------------------------------------------------------------


def test_the_table_shows_the_ends_of_training_and_test():
    ds = built("looped", 0, loops=(0, 4)).assign(
        token_accuracy=(("step", "length", "loops"), np.full((2, 17, 2), 0.75)),
        loss=(("step", "length", "loops"), np.full((2, 17, 2), 0.25)),
    )
    table = TABLES["length"]([ds])
    assert [(row[3], row[4]) for row in table.rows] == [
        ("1", "own (1)"), ("1", "4"), ("20", "own (20)"), ("20", "4"), ("40", "own (24)"), ("40", "4"),
    ]  # fmt: skip
    assert {len(row) for row in table.rows} == {len(table.columns)}


def draw(runs, **settings):
    figure = FIGURES["length"].function(runs, **settings)
    FigureCanvasAgg(figure).draw()
    return figure


def test_the_figure_shows_every_architecture_and_the_border_of_training():
    runs = [built(arch, seed) for arch in ("single", "looped") for seed in (0, 1)]
    left, right = draw(runs).axes
    curves = [line for line in left.lines if len(line.get_xdata()) > 2]
    mean = np.mean([ds.accuracy.values[-1, :, 0] for ds in runs[2:]], axis=0)
    assert np.allclose(curves[1].get_ydata(), mean)
    assert [line.get_xdata()[0] for line in left.lines if len(line.get_xdata()) == 2] == [20]
    assert right.get_title(loc="left") == "queries of length 20"
    stars = [line for line in right.lines if line.get_marker() == "*"]
    assert [float(np.ravel(s.get_xdata())[0]) for s in stars] == [1, 20]
    assert len(left.collections) == len(right.collections) == 2
    assert draw(runs, step=100).axes[1].get_title(loc="left") == "queries of length 4"
    assert draw(runs, at=40).axes[1].get_title(loc="left") == "queries of length 40"


def test_the_figure_shows_who_stops_by_itself():
    runs = [built("looped", 0), built("single", 0)]
    share = np.linspace(0, 1, 17)
    runs[0] = runs[0].assign(adaptive_accuracy=(("step", "length"), np.stack([0 * share, share])))
    figure = draw(runs)
    (line,) = (x for x in figure.axes[0].lines if x.get_marker() == "x")
    assert np.allclose(line.get_ydata(), share)
    assert "stops by itself" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert "stops by itself" not in [t.get_text() for t in draw(runs[1:]).legends[0].get_texts()]


def test_one_panel_where_no_other_loops_were_measured():
    assert len(draw([built("single", loops=(0,))]).axes) == 1
    both = [built("single", loops=(0,)), built("looped")]
    assert len(draw(both).axes) == 2


def test_the_figure_refuses_what_it_cannot_average():
    with pytest.raises(LandscapeError, match="same 'loops' in all seeds"):
        draw([built("single", 0), built("single", 1, loops=(0, 2))])
    with pytest.raises(LandscapeError, match="expected step 7"):
        draw([built()], step=7)
    with pytest.raises(LandscapeError, match="found at=3"):
        draw([built()], at=3)
