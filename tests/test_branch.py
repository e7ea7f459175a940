"""Branches of runs, projected updates, and what decay branches say: equality bit for bit, and closed forms."""

import json
import shutil
import signal

import h5py
import numpy as np
import pytest
import test_cli
import torch
import xarray as xr
from oracles import quadratic
from test_cli import TINY, run_command
from test_figures_builders import render
from test_training import Stop, identical, stop_at

from landscape import LandscapeError, Run, RunConfig, RunFailedError, train
from landscape.figures.branches import branches as draw
from landscape.runs.branch import branch_config, branch_name, parse_source, stored_branch
from landscape.runs.reading import FILE_NAME, open_for_reading, read_header
from landscape.runs.writing import RunWriter
from landscape.settings import difference
from landscape.studies.decay import decay_table, decay_tables
from landscape.training.projection import Projection, Projector
from landscape.training.setup import Setup
from landscape.training.trainer import Trainer

landscape = test_cli.landscape  # the fixture that calls the command line


def settings_of(optimizer):
    return {"optimizer": {"name": optimizer, "lr": 0.02}, **({"batch": None} if optimizer == "gd" else {})}


def same_run(branch, origin):
    """The branch passes through the origin's numbers, at its checkpoints and at the metrics that both have."""
    start = branch.config.start
    path = origin.replay(start, int(branch.steps[-1]) - start)
    assert torch.equal(branch.parameters[:], path[torch.from_numpy(branch.steps - start)])
    both = np.intersect1d(branch.steps, origin.steps)
    assert len(both) >= 2
    for step in both:
        assert torch.equal(branch.optimizer[branch.index(step)], origin.optimizer[origin.index(step)])
    common = np.intersect1d(branch.metrics.step, origin.metrics.step)
    a, b = (r.metrics.drop_vars("seconds").sel(step=common) for r in (branch, origin))
    xr.testing.assert_equal(a, b)


# -- branches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "gd"])
@pytest.mark.parametrize("schedule", [{}, {"name": "wsd", "warmup": 5, "decay": 0.6}, {"name": "cosine"}])
def test_branch_without_changes_is_the_origin_bit_for_bit(config, tmp_path, optimizer, schedule):
    origin = train(config(schedule=schedule, **settings_of(optimizer)), tmp_path / "a")
    for step in (0, 2, int(origin.steps[-3])):
        c = branch_config(origin, step)
        assert difference(origin.config.to_dict(), c.to_dict())[0][0] == "origin"
        branch = train(c, tmp_path / f"b{step}")
        assert branch.steps[0] == step
        assert branch.steps[-1] == origin.steps[-1]
        same_run(branch, origin)


def test_steps_are_dense_after_the_branch_point(config, run):
    c = branch_config(run, int(run.steps[-1]), settings={"steps": 1000, "checkpoints": 8, "dense_checkpoints": 3})
    start = int(run.steps[-1])
    assert c.checkpoint_steps()[:4].tolist() == [start, start + 1, start + 2, start + 3]
    assert c.checkpoint_steps()[-1] == 1000
    later = np.diff(c.checkpoint_steps()[3:])
    assert (np.diff(later) > 0).all()
    assert c.evaluation_steps()[[0, -1]].tolist() == [start, 1000]


def test_another_end_keeps_the_learning_rates_of_the_origin(config, tmp_path):
    origin = train(config(schedule={"name": "cosine"}), tmp_path / "a")
    shorter = branch_config(origin, 2, settings={"steps": 11})
    assert (shorter.steps, shorter.schedule_steps) == (11, 20)
    branch = train(shorter, tmp_path / "b")
    assert torch.equal(branch.parameters[-1], origin.replay(2, 9)[-1])
    again = branch_config(branch, int(branch.steps[-2]))  # a branch of the branch
    assert (again.steps, again.schedule_steps) == (11, 20)
    changed = branch_config(origin, 2, settings={"steps": 11, "schedule": {"final": 0.5}})
    assert changed.schedule_steps is None
    assert changed.schedule.final == 0.5


def test_counters_go_on_from_the_origin(config, tmp_path):
    origin = train(config(arch="single"), tmp_path / "a")
    looped = train(branch_config(origin, 4, settings={"arch": "looped", "batch": 8}), tmp_path / "b")
    at = origin.metrics.sel(step=4)
    found = looped.metrics
    assert float(found.tokens[0]) == float(at.tokens)
    assert float(found.flops[0]) == float(at.flops)
    assert float(at.seconds) <= float(found.seconds[0]) < float(at.seconds) + 0.1  # no update yet
    new = Trainer(looped.config)
    seen = new.setup.samples_seen(20) - new.setup.samples_seen(4)
    assert float(found.tokens[-1]) == float(at.tokens) + 6 * seen
    assert float(found.flops[-1]) == float(at.flops) + seen * new.setup.flops_per_sample()
    assert (np.diff(found.seconds) >= 0).all()


def test_looped_from_single_starts_at_its_parameters_with_its_optimiser(config, tmp_path):
    origin = train(config(arch="single"), tmp_path / "a")
    c = branch_config(origin, 4, settings={"arch": "looped", "loops": 2})
    assert (c.arch, c.model.loops, c.model.width) == ("looped", 2, 4)
    branch = train(c, tmp_path / "b")
    assert torch.equal(branch.parameters[0], origin.parameters[origin.index(4)])
    assert torch.equal(branch.optimizer[0], origin.optimizer[origin.index(4)])
    assert not torch.equal(branch.parameters[1], origin.replay(4, 1)[1])
    back = branch_config(branch, int(branch.steps[-2]), settings={"arch": "single"})
    assert back.model.loops == 1
    assert branch_config(branch, 4).model.loops == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "stacked"}, "`stacked` has its own"),
        ({"model": {"width": 5}}, "its parameters do not fit"),
        ({"task": {"length": 7}}, "its parameters do not fit"),
    ],
)
def test_another_layout_is_refused(run, tmp_path, settings, message):
    with pytest.raises(LandscapeError, match=message):
        train(branch_config(run, 2, settings=settings), tmp_path / "b")
    assert not (tmp_path / "b" / FILE_NAME).exists()


@pytest.mark.parametrize(
    ("step", "options", "message"),
    [
        (3, {}, r"no checkpoint of step 3. The nearest are 0, 1, 2, 4"),
        (20, {}, "expected a branch to end after step 20"),
        (4, {"settings": {"steps": 4}}, "expected a branch to end after step 4"),
        (4, {"settings": {"optimizer": {"name": "sgd"}}}, "expected the optimiser 'adamw' of looped@4, found 'sgd'"),
        (4, {"settings": {"origin": {}}}, "leave `origin` out"),
        (4, {"settings": {"model": {"loops": 2}}}, "follows from the architecture"),
        (4, {"decay": 5, "settings": {"steps": 30}}, "sets its own steps"),
        (4, {"decay": 5, "settings": {"schedule": {"name": "cosine"}}}, "sets its own schedule"),
        (4, {"decay": 0}, "at least 1 step"),
        (4, {"settings": {"projection": {"k": 3}}}, r"expected a value of projection\.subspace"),
    ],
)
def test_what_contradicts_is_refused(run, step, options, message):
    with pytest.raises(LandscapeError, match=message):
        branch_config(run, step, **options)


def test_branch_is_its_own_and_resumes_without_the_origin(config, tmp_path):
    origin = train(config(), tmp_path / "a")
    c = branch_config(origin, 4)
    whole = train(c, tmp_path / "whole")
    for step in (4, 7):
        with pytest.raises(Stop):
            train(c, tmp_path / "b", progress=stop_at(step))
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    identical(whole, train(c, tmp_path / "b"))
    found = stored_branch(tmp_path / "b", str(tmp_path / "a"), 4, settings={"device": "cpu"})
    assert found == Run.open(tmp_path / "b").config
    with pytest.raises(LandscapeError, match=r"expected the run to branch from at .*/a, found none"):
        stored_branch(tmp_path / "b", str(tmp_path / "a"), 5)
    with pytest.raises(LandscapeError, match="expected a run file"):
        train(c, tmp_path / "new")
    # The same run under another name and place is the same origin; another run is not.
    moved = branch_config(Run.open(tmp_path / "elsewhere"), 4)
    assert moved != c
    assert train(moved, tmp_path / "b").status == "complete"
    train(config(), tmp_path / "a")
    with pytest.raises(LandscapeError, match=r"origin\.run_id"):
        train(branch_config(Run.open(tmp_path / "a"), 4), tmp_path / "b")
    with pytest.raises(LandscapeError, match="was used for another run"):
        train(c, tmp_path / "new")


def test_branch_killed_before_its_first_evaluation_needs_no_origin(config, tmp_path, monkeypatch):
    origin = train(config(), tmp_path / "a")
    c = branch_config(origin, 4)
    monkeypatch.setattr("landscape.runs.train._train", lambda *_: None)
    assert train(c, tmp_path / "b").steps.tolist() == [4]
    assert train(c, tmp_path / "b").metrics.sizes["step"] == 0
    monkeypatch.undo()
    with pytest.raises(LandscapeError, match="stopped before step 4 was evaluated"):
        branch_config(Run.open(tmp_path / "b"), 4)
    shutil.rmtree(tmp_path / "a")
    branch = train(c, tmp_path / "b")
    assert branch.metrics.step[0] == 4
    assert float(branch.metrics.seconds[0]) >= c.origin.seconds > 0


def test_files_without_the_new_settings_still_open(fresh_run):
    with h5py.File(fresh_run.path / FILE_NAME, "r+") as f:
        header = json.loads(f.attrs["header"])
        for key in ("origin", "projection", "schedule_steps"):
            del header["config"][key]
        from landscape.runs.reading import digest

        text = json.dumps(header)
        f.attrs["header"], f.attrs["header_sha256"] = text, digest(text)
    old = Run.open(fresh_run.path)
    assert old.config == fresh_run.config
    assert train(fresh_run.config, fresh_run.path).id == fresh_run.id
    assert torch.equal(old.replay(0, 1)[1], old.parameters[1])


def test_names_and_sources(run):
    assert parse_source("a@b/c@12") == ("a@b/c", 12)
    for bad in ("runs/a", "@3", "a@x", "a@-1"):
        with pytest.raises(LandscapeError, match="expected RUN@STEP"):
            parse_source(bad)
    projection = {"projection": {"subspace": "river"}}
    assert branch_name(branch_config(run, 4)) == "markov-looped-s0-from-4"
    assert branch_name(branch_config(run, 4, settings=projection)) == "markov-looped-s0-from-4-river"
    assert branch_name(branch_config(run, 4, settings=projection, decay=3)) == "markov-looped-s0-from-4-river-decay"


def test_config_of_a_branch_survives_its_text_form(run, tmp_path):
    c = branch_config(run, 4, settings={"projection": {"subspace": "valley", "k": 2}})
    assert RunConfig.from_dict(json.loads(json.dumps(c.to_dict()))) == c
    branch = train(c, tmp_path / "b")
    assert branch.config == c
    assert branch.config.origin.run_id == run.id
    with open_for_reading(branch.path / FILE_NAME) as f:
        assert read_header(f)["config"]["origin"]["step"] == 4


# -- projection -------------------------------------------------------------------------------------------------------

SPECTRUM = torch.tensor([9.0, 5.0, 4.0, 1.0, 0.5, 0.1, -0.2], dtype=torch.float64)


def descend(kind, k, scale=1.0, steps=7, lr=0.05):
    """Gradient descent with projected updates on a quadratic; its eigenvectors, start and end."""
    objective, _, Q = quadratic(SPECTRUM * scale)
    projector = Projector(objective, Projection(subspace=kind, k=k, every=3), seed=0)
    start = Q.sum(1)  # one along every eigenvector
    w = start.clone()
    for step in range(steps):
        projector.visit(step, w)
        w = w + projector.project(-lr / scale * objective.grad(w))
    return Q, Q.T @ start, Q.T @ w


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_projected_descent_on_a_quadratic_is_the_closed_form(k, scale):
    decay = (1 - 0.05 * SPECTRUM) ** 7
    moved = torch.arange(7) < k  # the spectrum is descending
    for kind, moves in (("valley", moved), ("river", ~moved)):
        _, start, end = descend(kind, k, scale)
        expected = torch.where(moves, decay * start, start)
        assert torch.allclose(end, expected, rtol=0, atol=1e-11)


def test_the_two_parts_sum_to_the_update_and_are_orthogonal():
    objective, _, _ = quadratic(SPECTRUM)
    d = torch.randn(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = []
    for kind in ("valley", "river"):
        projector = Projector(objective, Projection(subspace=kind, k=2), seed=0)
        projector.visit(0, objective.w0)
        parts.append(projector.project(d))
        assert torch.allclose(projector.project(parts[-1]), parts[-1], rtol=0, atol=1e-14)
    assert torch.allclose(parts[0] + parts[1], d, rtol=0, atol=1e-15)
    assert abs(float(parts[0] @ parts[1])) < 1e-14


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "gd"])
def test_projected_updates_of_training_sum_to_the_whole_update(config, optimizer):
    """The final step is projected, weight decay and momentum included, for any optimiser."""
    states = {}
    for kind in (None, "valley", "river"):
        projection = None if kind is None else {"subspace": kind, "k": 3}
        trainer = Trainer(config(dtype="float64", projection=projection, **settings_of(optimizer)))
        before = trainer.state().w
        trainer.advance()
        states[kind] = trainer.state().w - before
    assert states["valley"].norm() > 0
    assert states["river"].norm() > 0
    assert torch.allclose(states["valley"] + states["river"], states[None], rtol=0, atol=1e-14)
    assert abs(float(states["valley"] @ states["river"])) < 1e-12 * float(states[None].norm()) ** 2


def test_training_projects_on_the_dense_eigenvectors_of_the_probe_loss(config):
    projection = {"subspace": "valley", "k": 2, "samples": 13, "every": 4, "tol": 1e-11}
    trainer = Trainer(config(dtype="float64", projection=projection))
    start = trainer.state().w
    H = trainer.setup.objective("probe", n=13).hessian(start).dense()
    V = torch.linalg.eigh(H).eigenvectors[:, -2:]
    trainer.advance(4)
    d = trainer.state().w - start
    assert float((d - V @ (V.T @ d)).norm()) < 1e-7 * float(d.norm())
    trainer.advance(1)  # new eigenvectors at step 4
    d = trainer.state().w - start - d
    assert float((d - V @ (V.T @ d)).norm()) > 1e-4 * float(d.norm())


@pytest.mark.parametrize("kind", ["valley", "river"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_projected_run_resumes_bit_for_bit_between_two_recomputations(config, tmp_path, kind, dtype):
    """Checkpoints at 0, 1, 2, 4, 6, 11, 20; eigenvectors at 0, 5, 10, 15: no checkpoint but the ends is at one."""
    c = config(dtype=dtype, projection={"subspace": kind, "k": 3, "every": 5})
    whole = train(c, tmp_path / "whole")
    assert not set(whole.steps[1:-1].tolist()) & {5, 10, 15}
    for step in (0, 4, 6, 11):
        with pytest.raises(Stop):
            train(c, tmp_path / "b", progress=stop_at(step))
    identical(whole, train(c, tmp_path / "b"))
    for i, step in enumerate(whole.steps[:-1].tolist()):
        n = int(whole.steps[i + 1]) - step
        assert torch.equal(whole.replay(step, n)[-1], whole.parameters[i + 1])


def test_checkpoints_do_not_change_a_projected_run(config, tmp_path):
    projection = {"subspace": "river", "k": 2, "every": 3}
    a = train(config(projection=projection), tmp_path / "a")
    b = train(config(projection=projection, checkpoints=3, evaluate_every=20), tmp_path / "b")
    assert torch.equal(a.parameters[-1], b.parameters[-1])


def test_branch_of_a_projected_run_goes_on_with_its_eigenvectors(config, tmp_path):
    origin = train(config(projection={"subspace": "river", "k": 2, "every": 5}), tmp_path / "a")
    for step in (4, 6):
        same_run(train(branch_config(origin, step), tmp_path / f"b{step}"), origin)
    other = branch_config(origin, 6, settings={"projection": {"k": 3}})
    assert (other.projection.since, other.projection.subspace, other.projection.every) == (6, "river", 5)
    assert branch_config(origin, 6, settings={"projection": None}).projection is None
    whole = train(other, tmp_path / "whole")
    with pytest.raises(Stop):
        train(other, tmp_path / "cut", progress=stop_at(9))
    identical(whole, train(other, tmp_path / "cut"))


def test_projection_settings_are_checked(config):
    for wrong, message in (
        ({"subspace": "hill"}, "one of 'valley', 'river', found 'hill'"),
        ({"subspace": "river", "k": 0}, r"projection\.k >= 1"),
        ({"subspace": "river", "every": 0}, r"projection\.every >= 1"),
        ({"subspace": "river", "tol": 0.0}, r"0 < projection\.tol < 1"),
        ({"subspace": "river", "since": 3}, r"projection\.since <= 0"),
        ({}, r"expected a value of projection\.subspace"),
        (3, "expected projection to be a group"),
    ):
        with pytest.raises(LandscapeError, match=message):
            config(projection=wrong)
    P = Setup(config()).layout.size
    with pytest.raises(LandscapeError, match=f"found projection.k = {P} of P = {P}"):
        Trainer(config(projection={"subspace": "river", "k": P}))
    with pytest.raises(LandscapeError, match="between 1 and 21 samples"):
        Trainer(config(projection={"subspace": "river", "samples": 22}))


def test_no_number_without_eigenvectors(config):
    trainer = Trainer(config(projection={"subspace": "river", "every": 5}))
    state = trainer.state()
    assert torch.isnan(state.anchor).all()
    trainer.load(type(state)(3, state.w, state.optimizer))
    with pytest.raises(LandscapeError, match="needs the parameters of step 0, found none"):
        trainer.advance()
    objective, _, _ = quadratic(SPECTRUM)
    with pytest.raises(LandscapeError, match="expected `visit` before"):
        Projector(objective, Projection(subspace="river", k=2), seed=0).project(objective.w0)


def test_unconverged_eigenvectors_end_the_training(monkeypatch):
    import landscape.probes.linalg as linalg

    objective, _, _ = quadratic(torch.linspace(1, 2, 40))
    solve = linalg.lanczos
    monkeypatch.setattr(linalg, "lanczos", lambda op, **kw: solve(op, **{**kw, "max_products": 8}))
    with pytest.raises(RunFailedError, match=r"did not converge to projection\.tol"):
        Projector(objective, Projection(subspace="river", k=3), seed=0).visit(0, objective.w0)


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("lr", [1e3, 1e30])
def test_divergence_of_a_projected_run_is_noticed(config, tmp_path, every, lr):
    projection = {"subspace": "valley", "k": 2, "every": every}
    bad = config(optimizer={"name": "sgd", "lr": lr, "momentum": 0.0}, projection=projection)
    with pytest.raises(RunFailedError, match="NaN or infinite"):
        train(bad, tmp_path / "bad")
    assert Run.open(tmp_path / "bad").status == "diverged"


# -- decay ------------------------------------------------------------------------------------------------------------


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


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(landscape):
    """Runs of 12 steps with checkpoints at 0, 1, 2, 3, 5, 12 or so."""
    assert landscape("train", *TINY)[0] == 0
    return landscape, Run.open("runs/markov-single-s0")


def test_branches_by_command(trained):
    landscape, origin = trained
    first, second = origin.steps[[1, -2]].tolist()
    source = f"runs/markov-single-s0@{second}"
    code, out, err = landscape("train", "--from", source, "-q")
    assert code == 0, err
    assert f"markov-single-s0-from-{second}" in out
    branch = Run.open(f"runs/markov-single-s0-from-{second}")
    assert difference(origin.config.to_dict(), branch.config.to_dict())[0][0] == "origin"
    assert torch.equal(branch.parameters[-1], origin.parameters[-1])
    both = ["train", "--from", f"runs/markov-single-s0@{first}", "--from", source, "-q"]
    assert landscape(*both, "--decay-branch", "4")[0] == 0
    decayed = [Run.open(f"runs/markov-single-s0-from-{s}-decay") for s in (first, second)]
    assert decay_table(decayed).step.values.tolist() == [first, second]
    assert landscape("train", "--from", source, "--arch", "looped", "--loops", "2", "--device", "cpu", "-q")[0] == 0
    assert Run.open(f"runs/markov-looped-s0-from-{second}").config.model.loops == 2
    args = ["train", "--from", source, "--project", "river", "--k", "3", "--every", "2", "-o", "p", "-q"]
    assert landscape(*args, "--set", "projection.samples=9")[0] == 0
    found = Run.open("p").config.projection
    assert found == Projection(subspace="river", k=3, every=2, samples=9, since=second)
    shutil.rmtree("runs/markov-single-s0")
    assert landscape(*args, "--set", "projection.samples=9")[0] == 0  # complete already, and no origin is needed
    code, _, err = landscape(*args, "--set", "projection.samples=8")
    assert (code, "projection.samples: 9 in the run, 8 asked for" in err) == (2, True)


def test_projection_from_the_initial_weights(landscape):
    assert landscape("train", *TINY, "--project", "valley", "--k", "2")[0] == 0
    projection = Run.open("runs/markov-single-s0").config.projection
    assert (projection.subspace, projection.k, projection.since) == ("valley", 2, 0)


def test_show_says_the_origin(trained):
    landscape, origin = trained
    step = int(origin.steps[2])
    assert landscape("train", "--from", f"runs/markov-single-s0@{step}", "--project", "valley", "-q")[0] == 0
    code, out, _ = landscape("show", f"runs/markov-single-s0-from-{step}-valley")
    assert code == 0
    assert f"step {step} of markov-single-s0 (run {origin.id})" in out
    assert f"subspace valley, k 10, every 10, samples None, tol 1e-06, since {step}" in out
    assert f"markov-single-s0@{step}" in landscape("show", "runs")[1]
    assert "origin" not in landscape("show", "runs/markov-single-s0")[1]
    described = json.loads(landscape("show", "runs", "--json")[1])
    assert [None if d["config"]["origin"] is None else d["config"]["origin"]["step"] for d in described] == [None, step]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "runs/markov-single-s0"], "expected RUN@STEP"),
        (["--from", "runs/markov-single-s0@4"], "no checkpoint of step 4. The nearest are"),
        (["--from", "runs/none@0"], "expected a run file at runs/none/run.h5, found none"),
        (["--from", "runs/none@0", "-o", "x"], "nor is there a branch of it in x"),
        (["--from", "runs/markov-single-s0@0", "--arch", "stacked"], "`stacked` has its own"),
        (["--from", "runs/markov-single-s0@0", "--loops", "4"], "says nothing about --arch single"),
        (["--from", "runs/markov-single-s0@0", "--decay-branch", "4", "--schedule", "cosine"], "sets its own schedule"),
        (["--from", "runs/markov-single-s0@0", "--project", "river", "--k", "999"], "found projection.k = 999 of P ="),
        (["--from", "runs/markov-single-s0@0", "--from", "runs/../runs/markov-single-s0@0"], "would be called"),
        (["--from", "runs/markov-single-s0@0", "--from", "runs/markov-single-s0@1", "-o", "x"], "Use --runs"),
        (["--from", "runs/markov-single-s0@0", "--k", "3"], "expected a value of projection.subspace"),
        (["--decay-branch", "4"], "with --from RUN@STEP"),
        (["--k", "4"], "without a projection"),
        (["--project", "off", "--every", "4"], "without a projection"),
    ],
)
def test_bad_use_is_one_message_and_code_2(trained, args, message):
    code, _, err = trained[0]("train", *args, "-q")
    assert (code, message in err) == (2, True), err


KILLED_AFTER_16 = """
import os
from landscape import Run
from landscape.runs.writing import RunWriter

append = RunWriter.append_checkpoint

def killed(self, *row):
    append(self, *row)
    if len(Run.open(self.path.parent).steps) == 16:
        os.kill(os.getpid(), signal.SIGKILL)

RunWriter.append_checkpoint = killed
"""


@pytest.mark.slow
def test_killed_branch_continues_to_the_same_end(landscape, tmp_path):
    """kill -9 in the middle of a projected branch, then the same command again."""
    first = train(RunConfig.make(steps=40, model={"width": 8}, task={"n_probe": 64}), tmp_path / "a")
    args = [
        "train",
        "--from",
        f"{first.path}@{first.steps[5]}",
        "--project",
        "river",
        "--k",
        "2",
        "--steps",
        "80",
        "-q",
    ]
    for first, code in ((KILLED_AFTER_16, -signal.SIGKILL), ("", 0)):
        process = run_command(*args, "-o", "killed", cwd=tmp_path, first=first)
        _, err = process.communicate(timeout=600)
        assert process.returncode == code, err
        if first:
            assert Run.open(tmp_path / "killed").status == "unfinished"
            assert len(Run.open(tmp_path / "killed").steps) == 16
    assert landscape(*args, "-o", "whole")[0] == 0
    identical(Run.open(tmp_path / "whole"), Run.open(tmp_path / "killed"))
