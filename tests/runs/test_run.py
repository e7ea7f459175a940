import numpy as np
import pytest
import torch

from landscape import LandscapeError, Run
from landscape.runs.reading import FILE_NAME


def test_what_a_run_says_about_itself(run):
    again = Run.open(run.path / FILE_NAME)
    assert again.id == run.id
    assert again.config == run.config
    assert again.layout == run.layout
    assert again.complete
    assert {"versions", "code_revision", "data_fingerprint", "created", "threads"} <= set(again.provenance)


def test_rows(run):
    T, P = run.parameters.shape
    assert (len(run.steps), run.layout.size) == (T, P)
    everything = run.parameters[:]
    assert torch.equal(run.parameters[-1], everything[-1])
    assert torch.equal(run.parameters[1:3], everything[1:3])
    assert torch.equal(run.parameters[[4, 0]], everything[[4, 0]])
    assert run.parameters[T:].shape == (0, P)
    with pytest.raises(IndexError, match=f"checkpoint {T} of {T}"):
        _ = run.parameters[T]


def test_unknown_step_lists_the_nearest(run):
    assert run.index(int(run.steps[3])) == 3
    with pytest.raises(LandscapeError, match=r"no checkpoint of step 19\. The nearest are"):
        run.index(19)


def test_metrics_carry_units_limits_and_origin(run):
    m = run.metrics
    assert m.loss.dims == ("step", "split", "family")
    assert all(m[v].attrs["units"] for v in m.data_vars)
    assert float(m.bayes_accuracy.sel(family="simple")) == pytest.approx(run.task.bayes_accuracy[0])
    assert (m.attrs["arch"], m.attrs["run_seed"], m.attrs["run_id"]) == ("looped", 0, run.id)
    assert np.isfinite(m.loss).all()


def test_metrics_belong_to_their_checkpoints(run):
    """The stored loss is the loss of the stored parameters."""
    objective = run.objective("test")
    for i, step in enumerate(run.steps):
        stored = float(run.metrics.loss.sel(step=step, split="test", family="all"))
        assert float(objective.loss(run.parameters[i])) == pytest.approx(stored, rel=1e-5)


def test_replay_is_the_stored_trajectory(run):
    for i in range(len(run.steps) - 1):
        start, end = int(run.steps[i]), int(run.steps[i + 1])
        path = run.replay(start, end - start)
        assert path.shape == (end - start + 1, run.layout.size)
        assert torch.equal(path[0], run.parameters[i])
        assert torch.equal(path[-1], run.parameters[i + 1])


def test_reading_changes_no_byte(run):
    before = (run.path / FILE_NAME).read_bytes()
    run.replay(0, 2)
    _ = run.metrics
    run.objective().hessian(run.parameters[0]).mv(run.parameters[0])
    assert (run.path / FILE_NAME).read_bytes() == before


def test_objective_samples_and_parameters(run):
    assert run.objective().n_samples == 21
    assert run.objective("test", n=5).n_samples == 5
    with pytest.raises(LandscapeError, match="at which step"):
        run.objective(parameters="blocks.*")


def test_a_subset_is_taken_at_the_checkpoint(run):
    """The parameters that do not vary have the checkpoint's values, so the loss there is the checkpoint's."""
    step = int(run.steps[-1])
    part = run.objective("test", at=step, parameters="blocks.*")
    assert part.size == 48
    stored = float(run.metrics.loss.sel(step=step, split="test", family="all"))
    assert float(part.loss(part.w0)) == pytest.approx(stored, rel=1e-5)
    whole = run.objective("test", at=step)
    assert torch.equal(whole.w0, run.parameters[-1].double())


@pytest.mark.parametrize("loops", [1.5, 0, "2"])
def test_a_number_of_loops_that_is_none_is_refused(run, loops):
    with pytest.raises(LandscapeError, match="loops"):
        run.objective(loops=loops)
