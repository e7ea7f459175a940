"""What decay branches say: closed forms, holes, the figure."""

import numpy as np
import pytest
import torch
from support.builders import render
from support.runs import Stop, stop_at

from landscape import LandscapeError, Run, train
from landscape.figures.branches import branches as draw
from landscape.runs.branch import branch_config
from landscape.runs.reading import FILE_NAME
from landscape.runs.writing import RunWriter
from landscape.studies.decay import decay_table, decay_tables
from landscape.training.trainer import Trainer


@pytest.fixture
def decays(config, tmp_path):
    origin = train(config(schedule={"name": "cosine", "warmup": 3}), tmp_path / "a")
    return origin, [train(branch_config(origin, s, decay=6), tmp_path / f"from-{s}") for s in (6, 2, 11)]


def test_decay_falls_linearly_from_the_value_of_the_origin(decays):
    origin, runs = decays
    for run in runs:
        s, c = run.config.start, run.config
        lr = Trainer(origin.config).learning_rate(s)
        found = [Trainer(c).learning_rate(t) for t in range(s, s + 7)]
        assert found == pytest.approx([lr * (1 - i / 6) for i in range(7)])
        assert found[0] == lr
        assert (run.steps[0], run.steps[-1]) == (s, s + 6)
        assert torch.equal(run.parameters[1], origin.replay(s, 1)[1])  # the first update is the origin's own


def test_decay_table_is_the_difference_of_losses(decays):
    origin, runs = decays
    table = decay_table(runs)
    assert table.step.values.tolist() == [2, 6, 11]
    for run in runs:
        ends = origin.objective("probe"), run.config.start
        first, last = (float(ends[0].loss(run.parameters[i])) for i in (0, -1))
        row = table.sel(step=ends[1])
        assert [float(row[n]) for n in ("loss", "river_loss")] == pytest.approx([first, last], rel=1e-6)
        assert float(row.valley_loss) == float(row.loss) - float(row.river_loss)
        assert float(row.learning_rate) == Trainer(origin.config).learning_rate(ends[1])
    assert bool(table.complete.all())
    assert table.valley_loss.attrs == {"units": "nats per token", "long_name": "loss that the decay sheds"}
    assert [table.attrs[k] for k in ("run", "run_id", "decay_steps", "split")] == ["a", origin.id, 6, "probe"]
    simple = decay_table(runs, split="test", family="simple")
    assert float(simple.loss[0]) == float(origin.metrics.loss.sel(step=2, split="test", family="simple"))
    assert [t.identical(u) for t, u in zip(decay_tables([origin, *runs]), [table], strict=True)] == [True]


def test_decay_table_refuses_what_cannot_be_compared(decays, tmp_path):
    origin, runs = decays
    longer = train(branch_config(origin, 4, decay=7), tmp_path / "longer")
    with pytest.raises(Stop):
        train(branch_config(origin, 4, decay=6), tmp_path / "cut", progress=stop_at(5))
    for wrong, message in (
        ([], "at least one decay branch"),
        ([origin], "expected a decay branch"),
        ([*runs, longer], "equally long"),
        ([*runs, Run.open(tmp_path / "cut")], "cut unfinished"),
        ([runs[0], runs[0]], "one branch per step"),
    ):
        with pytest.raises(LandscapeError, match=message):
            decay_table(wrong)
    with pytest.raises(LandscapeError, match="unknown split 'probes'"):
        decay_table(runs, split="probes")
    with pytest.raises(LandscapeError, match="expected at least one decay branch"):
        decay_tables([origin])
    with pytest.raises(LandscapeError, match="is 0 already"):
        branch_config(origin, 20, decay=3)


def test_a_branch_that_diverged_is_a_hole(decays, tmp_path):
    origin, _ = decays
    train(branch_config(origin, 4, decay=6), tmp_path / "bad")
    with RunWriter.recover(tmp_path / "bad" / FILE_NAME) as writer:  # its last evaluation is finite all the same
        writer.set_status("diverged")
    table = decay_table([Run.open(tmp_path / "bad")])
    assert np.isnan(table.river_loss[0])
    assert np.isnan(table.valley_loss[0])
    assert np.isfinite(table.loss[0])
    assert not table.complete[0]


def test_figure_draws_the_table(decays):
    table = decay_table(decays[1])
    table["river_loss"][1] = table["valley_loss"][1] = np.nan
    table["complete"][1] = False
    figure = draw([table])
    render(figure)
    for ax, name in zip(figure.axes, ("loss", "river_loss", "valley_loss"), strict=True):
        line = ax.lines[0]
        np.testing.assert_array_equal(line.get_xdata(), table.step)
        np.testing.assert_array_equal(line.get_ydata(), table[name])
    assert [len(ax.lines) for ax in figure.axes] == [1, 2, 3]  # the cross, and the line at zero
    assert figure.axes[1].lines[1].get_xdata().tolist() == [6]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    other = table.assign_attrs(decay_steps=9, run_seed=1)
    with pytest.raises(LandscapeError, match="decays of one length"):
        draw([table, other])
    with pytest.raises(LandscapeError, match="at least one run"):
        draw([])
