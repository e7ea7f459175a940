from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runs import SMALL

from landscape import LandscapeError, RunConfig
from landscape.grids.asked import Asked
from landscape.grids.grid import Grid
from landscape.grids.plan import Plan
from landscape.grids.points import flat, points


def test_every_combination_is_a_run_and_the_config_is_that_of_its_settings():
    grid = Grid.make(base=SMALL, vary={"arch": ["single", "looped"], "model": {"width": [4, 6]}, "seed": [0, 1, 2]})
    wanted = {
        f"markov-{a}-s{s}-width={w}": RunConfig.make(arch=a, seed=s, **{**SMALL, "model": {"width": w}})
        for a, w, s in product(["single", "looped"], [4, 6], [0, 1, 2])
    }
    assert dict(grid.configs) == wanted


def test_a_file_and_python_describe_the_same_grid(tmp_path):
    text = """
    preset = "quick"
    [base]
    task = "parity"
    model.width = 8
    [vary]
    seed = [0, 1]
    [[blocks]]
    vary.arch = ["single", "stacked"]
    [[blocks]]
    label = "by-hand"
    base = {arch = "shift", shift = {criterion = "fixed"}}
    vary."shift.at" = [30, 40]
    [[probes]]
    name = "spectrum"
    count = 4
    metrics = "all"
    settings = {k = 3}
    """
    (tmp_path / "grid.toml").write_text(text)
    made = Grid.make(
        preset="parity-quick",
        base={"task": {"name": "parity"}, "model": {"width": 8}},
        vary={"seed": [0, 1]},
        blocks=[
            {"vary": {"arch": ["single", "stacked"]}},
            {
                "label": "by-hand",
                "base": {"arch": "shift", "shift": {"criterion": "fixed"}},
                "vary": {"shift": {"at": [30, 40]}},
            },
        ],
        probes=[
            {"name": "spectrum", "count": 4, "metrics": ["euclidean", "filter", "adam"], "settings": {"k": 3}},
        ],
    )
    assert Grid.read(tmp_path / "grid.toml") == made
    assert len(made.configs) == 8
    assert "parity-shift-s1-by-hand-at=40" in made.configs
    assert made.configs["parity-single-s0"].optimizer.lr != RunConfig.make(task={"name": "parity"}).optimizer.lr


def test_what_says_nothing_about_an_architecture_makes_no_run_of_its_own():
    grid = Grid.make(vary={"arch": ["single", "looped", "shift"], "loops": [2, 3], "shift.patience": [2, 5]})
    assert sorted(grid.configs) == [
        "markov-looped-s0-loops=2",
        "markov-looped-s0-loops=3",
        "markov-shift-s0-loops=2-patience=2",
        "markov-shift-s0-loops=2-patience=5",
        "markov-shift-s0-loops=3-patience=2",
        "markov-shift-s0-loops=3-patience=5",
        "markov-single-s0",
    ]


def test_a_run_that_two_blocks_describe_is_one():
    grid = Grid.make(base=SMALL, blocks=[{"vary": {"arch": ["single", "looped"]}}, {"base": {"arch": "looped"}}])
    assert list(grid.configs) == ["markov-single-s0", "markov-looped-s0"]


def test_another_name_of_a_group_empties_it():
    grid = Grid.make(base={"optimizer": {"beta2": 0.9}}, vary={"optimizer.lr": [0.1], "optimizer": ["sgd", "adamw"]})
    assert [(c.optimizer.name, c.optimizer.lr) for c in grid.configs.values()] == [("sgd", 0.1), ("adamw", 0.1)]
    assert list(grid.configs) == ["markov-single-s0-lr=0.1-optimizer=sgd", "markov-single-s0-lr=0.1-optimizer=adamw"]


@given(
    st.dictionaries(st.sampled_from(["a", "b.c", "b.d", "e.c"]), st.lists(st.integers(0, 9), min_size=1, max_size=3))
)
def test_points_are_as_many_as_combinations_and_have_names_of_their_own(vary):
    vary = flat(vary)
    found = list(points({}, vary))
    n = 1
    for values in vary.values():
        n *= len(values)
    assert len({name for name, _ in found}) == len(found) == n


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"vary": {"seed": 3}}, "vary.seed to be a list"),
        ({"vary": {"seed": []}}, "vary.seed to be a list"),
        ({"vary": {"model": {"width": [[8]]}}}, "numbers, texts or booleans in vary.model.width"),
        ({"vary": {"model.width": [8], "model": {"width": [4]}}}, "vary.model.width once"),
        ({"vary": {"task.path": ["a/b"]}}, "part of a folder's name"),
        ({"vary": {"model.wdth": [8]}}, "Did you mean 'width'"),
        ({"base": {"stpes": 8}}, "Did you mean 'steps'"),
        ({"base": 3}, "expected base to be a group"),
        ({"blocks": [{"varied": {}}]}, "unknown entry of blocks[0] 'varied'"),
        ({"blocks": {"base": {}}}, "expected blocks to be tables"),
        ({"blocks": [{"base": {"steps": 8}}, {"base": {"steps": 9}}]}, "would be called 'markov-single-s0'"),
        ({"base": {"shift": {"patience": 3}}}, "'shift' says nothing about single"),
        ({"vary": {"loops": [2, 3]}}, "'loops' says nothing about single"),
        ({"preset": "quik"}, "unknown preset"),
        ({"probes": [{"name": "spectra"}]}, "unknown probe 'spectra'"),
        ({"probes": [{}]}, "expected a value of"),
        ({"probes": [{"name": "spectrum", "settings": {"kk": 2}}]}, "unknown setting of probe 'spectrum'"),
        ({"probes": [{"name": "spectrum", "metrics": ["cosine"]}]}, "unknown metric"),
        ({"probes": [{"name": "spectrum", "metrics": []}]}, "each metric of 'spectrum' once"),
        ({"probes": [{"name": "samples", "metrics": ["adam"]}]}, "measures no curvature"),
        ({"probes": [{"name": "spectrum", "every": 2, "count": 3}]}, "one of at, every and count"),
        ({"probes": [{"name": "spectrum", "at": ["end"]}]}, "expected steps"),
        ({"probes": [{"name": "spectrum", "at": []}]}, "at least one step"),
        ({"probes": [{"name": "spectrum", "count": 1}]}, "count >= 2"),
        ({"base": {"steps": 20}, "probes": [{"name": "spectrum", "at": [5000]}]}, "no checkpoint of step 5000"),
        ({"probes": [{"name": "spectrum", "arch": ["looped"]}]}, "no run of the grid has an architecture"),
        ({"vary": {"seed": [0, 1]}, "probes": [{"name": "spectrum", "run_seed": [2]}]}, "and a seed among [2]"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_begins(table, said):
    with pytest.raises(LandscapeError) as error:
        Grid.make(**table)
    assert said in str(error.value)


def test_a_probe_may_be_asked_of_some_architectures_and_seeds_alone(tmp_path):
    probe = {"name": "samples", "arch": ["looped", "stacked"], "run_seed": [1]}
    grid = Grid.make(base=SMALL, vary={"arch": ["single", "looped"], "seed": [0, 1]}, probes=[probe])
    assert [name for name, config in grid.configs.items() if grid.probes[0].of(config)] == ["markov-looped-s1"]
    assert [a.training.path.name for a in Plan.of(grid, tmp_path).answerings] == ["markov-looped-s1"]


@pytest.mark.parametrize(("text", "said"), [("a = ", "not valid TOML"), ("[bases]", "unknown entry of a grid 'bases'")])
def test_a_file_that_is_no_grid_is_refused(tmp_path, text, said):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(LandscapeError, match=said):
        Grid.read(tmp_path / "grid.toml")
    with pytest.raises(LandscapeError, match="cannot read the grid"):
        Grid.read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ({}, [0, 1, 2, 4, 8, 16, 32]),
        ({"at": (8, "first", "last", 8)}, [0, 8, 32]),
        ({"every": 4}, [0, 8, 32]),
        ({"count": 2}, [0, 32]),
        ({"count": 3}, [0, 4, 32]),
        ({"count": 100}, [0, 1, 2, 4, 8, 16, 32]),
    ],
)
def test_checkpoints_that_are_meant(chosen, wanted):
    assert Asked(name="spectrum", **chosen).steps([0, 1, 2, 4, 8, 16, 32]) == wanted
