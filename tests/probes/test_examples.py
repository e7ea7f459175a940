"""Predictors whose error is known, and the probe, its table and its figure on runs."""

import numpy as np
import pytest
import torch
from support.builders import render
from support.builders_length import examples as built

from landscape import LandscapeError, RunConfig, sweep, train
from landscape.cli.tables import TABLES
from landscape.figures import FIGURES
from landscape.loss.objective import Objective
from landscape.probes.examples import examples
from landscape.report.words import findings
from landscape.tasks import RegressionConfig, RegressionTask

SMALL = {"name": "regression", "dim": 3, "examples": 4, "n_train": 40, "n_probe": 16, "n_test": 24}


class Mean(torch.nn.Module):
    """Predicts the mean of the values seen so far, and before that w + the number of the loop."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, prompts):
        seen = prompts[:, 1::2, 0].cumsum(1) / torch.arange(1, prompts.shape[1] // 2 + 1)
        first = torch.cat([0 * seen[:, :1], seen], dim=1)
        return torch.stack([first + self.w * loop for loop in (2, 1)], dim=1)


def test_errors_of_a_predictor_by_hand():
    task = RegressionTask(RegressionConfig(**{k: v for k, v in SMALL.items() if k != "name"}))
    part = task.split("test")
    objective = Objective(Mean(), task.per_sample_loss, (part.inputs, part.targets))
    ds = examples(objective, torch.tensor([0.25], dtype=torch.float64))
    y = part.targets.numpy()
    assert ds.examples.values.tolist() == [0, 1, 2, 3, 4]
    assert ds.loop.values.tolist() == [1, 0]
    for k in range(5):
        said = 0.25 + (y[:, :k].mean(1) if k else 0.0)
        errors = (said - y[:, k]) ** 2
        assert float(ds.error[k]) == pytest.approx(errors.mean(), rel=1e-12)
        assert float(ds.error_stderr[k]) == pytest.approx(errors.std(ddof=1) / np.sqrt(24), rel=1e-12)
        assert float(ds.nothing[k]) == pytest.approx((y[:, k] ** 2).mean(), rel=1e-12)
        assert float(ds.window_error[0, k]) == pytest.approx(((said + 0.25 - y[:, k]) ** 2).mean(), rel=1e-12)
    assert float(ds.window_error.mean()) == pytest.approx(float(objective.loss(torch.tensor([0.25]))), rel=1e-12)
    assert "bayes" not in ds


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = {"width": 8, "heads": 2, "window": 2}
    config = RunConfig.make(
        arch="looped", task={**SMALL, "noise": 0.3}, model=model, steps=8, batch=16, evaluate_every=4, checkpoints=3
    )
    return train(config, tmp_path_factory.mktemp("examples") / "looped")


def test_the_probe_on_a_run(run):
    ds = sweep("examples", run, seed=0)
    task, part = run.task, run.task.split("probe")
    assert ds.error.attrs["units"] == "squared error"
    assert ds.error.dims == ("step", "examples")
    for step in run.steps.tolist():
        assert float(ds.window_error.sel(step=step).mean()) == pytest.approx(
            float(run.objective(at=step).loss(run.parameters[run.index(step)])), rel=1e-9
        )
    for name, penalty in (("least_squares", 0.0), ("bayes", 0.09 * 3)):
        expected = ((task.ridge(part.inputs, penalty=penalty) - part.targets.numpy()) ** 2).mean(0)
        assert np.allclose(ds[name], expected, rtol=1e-12)
    assert np.array_equal(ds.bayes_expected, task.bayes_errors)
    assert float(ds.bayes.sum()) < float(ds.least_squares.sum())
    table = TABLES["examples"]([ds])
    assert [row[2] for row in table.rows] == ["0", "2", "4"]
    assert table.rows[0][4] != "–"
    (said,) = findings({"examples": ds})
    assert "With 4 examples in the prompt the squared error" in str(said)
    render(FIGURES["examples"].function([ds]))


def test_what_has_no_examples_says_so(config, tmp_path):
    run = train(config("single", steps=2), tmp_path / "a")
    with pytest.raises(LandscapeError, match="task 'regression', whose prompts have examples, found 'markov'"):
        sweep("examples", run, seed=0)


def test_the_figure_shows_what_was_measured():
    runs = [built(arch, seed) for arch in ("single", "looped") for seed in (0, 1)]
    figure = FIGURES["examples"].function(runs)
    ax = figure.axes[0]
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert {"least squares", "best possible"} <= set(labels)
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == 11]
    mean = np.mean([ds.error.values[-1] for ds in runs[2:]], axis=0)
    assert any(np.allclose(y, mean) for y in drawn)
    assert any(np.allclose(y, runs[0].least_squares) for y in drawn)
    unknown = [ds.assign(bayes_expected=ds.bayes_expected * np.nan) for ds in runs]
    labels = [t.get_text() for t in FIGURES["examples"].function(unknown).legends[0].get_texts()]
    assert "best possible" not in labels
    assert "step 100" in FIGURES["examples"].function(runs, step=100).axes[0].get_title(loc="left").lower()
    with pytest.raises(LandscapeError, match="expected step 7 in run"):
        FIGURES["examples"].function(runs, step=7)
    with pytest.raises(LandscapeError, match="prompts of one length"):
        FIGURES["examples"].function([runs[0], runs[2].isel(examples=slice(0, 4))])
