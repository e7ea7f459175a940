import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rooms import ROOT

from landscape import LandscapeError
from landscape.tasks import TASKS, AlgorithmicTask, Task, build_task, task_config
from landscape.tasks.base import IGNORE, exact_match

SIX = ("parity", "copy", "addition", "sum", "multiplication", "unique_set")
SMALL = {"max_train_length": 5, "test_length": 9, "increase_every": 3, "n_train": 61, "n_probe": 21, "n_test": 30}


def make(name, **changes):
    return build_task(task_config(name)(**{**SMALL, **changes}))


def words(task, row):
    return " ".join(task.names[t] for t in row)


GOLDEN = {
    "parity": (((1, 0, 1, 1),), "1 0 1 1 = 1 EOS"),
    "copy": (((1, 0, 0),), "1 0 0 = 1 0 0 EOS"),
    "addition": (((1, 1, 0), (0, 1, 1)), "1 1 0 + 0 1 1 = 1 0 0 1 EOS"),  # 6 + 3 = 9
    "sum": (((1, 1, 0, 1, 1, 1, 1),), "1 1 0 1 1 1 1 = 0 1 1 EOS"),  # six ones
    "multiplication": (((1, 0), (1, 1, 0)), "1 0 x 1 1 0 = 0 0 1 1 0 EOS"),  # 2 x 6 = 12
    "unique_set": (((49, 3, 49, 0, 3),), "49 3 49 0 3 = 49 3 0 EOS"),
}


@pytest.mark.parametrize("name", SIX)
def test_golden_row(name):
    operands, text = GOLDEN[name]
    task = make(name)
    row = task.encode(*operands)
    assert len(row) == task.length + 1
    assert words(task, row).removesuffix(" EOS" * (len(row) - len(text.split()))) == text
    assert task.decode(row) == (operands, task.answer(*operands))


def test_golden_rows_of_extreme_queries():
    assert make("sum").answer((0, 0, 0)) == (0,)
    assert make("addition").answer((1, 1, 1), (1, 1, 1)) == (1, 1, 1, 0)
    assert make("multiplication").answer((1, 1), (1, 1)) == (1, 0, 0, 1)
    assert make("unique_set").answer((5, 5, 5)) == (5,)
    assert [make(name).vocabulary for name in SIX] == [4, 4, 5, 4, 5, 52]


def value(bits, *, first="most"):
    """The number that bits mean, by adding powers of two."""
    ordered = bits if first == "least" else bits[::-1]
    return sum(bit * 2**i for i, bit in enumerate(ordered))


TRUTH = {
    "parity": lambda x, a: len(a) == 1 and a[0] == x.count(1) % 2,
    "copy": lambda x, a: a == x,
    "addition": lambda x, y, a: len(a) == len(x) + 1 and value(a) == value(x) + value(y),
    "sum": lambda x, a: value(a, first="least") == x.count(1) and (a[-1] == 1 or a == (0,)),
    "multiplication": lambda x, y, a: len(a) == len(x) + len(y) and value(a, first="least") == value(x) * value(y),
    "unique_set": lambda x, a: sorted(a) == sorted(set(x)) and [x.index(v) for v in a] == sorted(x.index(v) for v in a),
}


@given(st.sampled_from(SIX), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_answers_are_pythons_arithmetic_and_decode_inverts_encode(name, length, seed):
    task = make(name)
    operands = task.draw(length, np.random.default_rng(seed))
    row = task.encode(*operands)
    found, answer = task.decode(row)
    assert found == operands
    assert TRUTH[name](*operands, answer)
    assert task.encode(*found) == row
    assert row[-1] == task.eos
    assert len(row) == task.length + 1
    assert max(row) == task.eos == task.vocabulary - 1


@given(st.sampled_from(SIX), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_targets_are_the_shifted_row_from_the_answer_on(name, seed):
    task = make(name)
    inputs, targets = task.batch(7, 13, seed=seed)
    assert inputs.shape == targets.shape == (13, task.length)
    for x, y in zip(inputs.tolist(), targets.tolist(), strict=True):
        row = [*x, task.eos]
        operands, _ = task.decode(row)
        row = task.encode(*operands)
        start = row.index(task.equals)
        assert x == row[:-1]
        assert y == [IGNORE] * start + row[start + 1 :]


def test_the_whole_answer_at_once_hides_it():
    task, plain = make("copy", prediction="full"), make("copy")
    hidden, shown = task.split("probe"), plain.split("probe")
    assert torch.equal(hidden.targets, shown.targets)
    after = hidden.targets[:, :-1] != IGNORE
    assert bool((hidden.inputs[:, 1:][after] == task.eos).all())
    assert torch.equal(hidden.inputs[:, 1:][~after], shown.inputs[:, 1:][~after])
    assert torch.equal(task.loops(hidden.inputs), plain.loops(shown.inputs))


@pytest.mark.parametrize("name", SIX)
def test_loops_follow_the_table(name):
    task = make(name)
    inputs = task.split("test").inputs
    expected = []
    for row in inputs.tolist():
        operands, _ = task.decode([*row, task.eos])
        expected.append(len(operands[0]) * (len(operands[1]) if name == "multiplication" else 1))
    loops = task.loops(inputs)
    assert loops.dtype == torch.int64
    assert loops.tolist() == expected


def test_tasks_without_a_rule_have_no_loops():
    assert build_task(task_config("markov")()).loops(torch.zeros(2, 3)) is None


@pytest.mark.parametrize("name", SIX)
def test_splits_are_fixed_and_the_test_split_goes_beyond_training(name):
    task, again = make(name), make(name)
    sizes = {s: query_lengths(task, task.split(s)) for s in ("train", "probe", "test")}
    assert sizes["train"].min() >= 1
    assert sizes["train"].max() <= 5
    assert torch.equal(task.split("probe").inputs, task.split("train").inputs[:21])
    assert np.array_equal(task.split("test").family, np.arange(30) % 2)
    assert sizes["test"][::2].max() <= 5 < sizes["test"][1::2].min()
    assert sizes["test"].max() <= 9
    for split in sizes:
        assert torch.equal(task.split(split).inputs, again.split(split).inputs)
        assert np.isnan(task.split(split).information_content).all()
    assert not torch.equal(make(name, seed=1).split("train").inputs, task.split("train").inputs)
    assert (task.bayes_loss.tolist(), task.bayes_accuracy.tolist()) == ([0, 0], [1, 1])


def query_lengths(task, split):
    """Length of each query, as the table counts it: of the last operand."""
    return np.array([len(task.decode([*row, task.eos])[0][-1]) for row in split.inputs.tolist()])


def test_lengths_and_bits_are_uniform():
    task = make("parity", increase_every=0)
    inputs, _ = task.batch(0, 6000, seed=0)
    lengths = task.loops(inputs)
    shares = torch.bincount(lengths, minlength=6)[1:] / 6000
    assert float((shares - 0.2).abs().max()) < 4 * (0.2 * 0.8 / 6000) ** 0.5
    bits = inputs[inputs < 2].double()
    assert abs(float(bits.mean()) - 0.5) < 4 * 0.5 / len(bits) ** 0.5


def test_the_curriculum_depends_on_the_step_alone():
    task = make("parity")
    assert [task.trained_length(s) for s in (0, 1, 3, 4, 6, 7, 12, 13, 10**9)] == [0, 1, 1, 2, 2, 3, 4, 5, 5]
    for step in (0, 2, 3, 11, 12, 10**6):
        longest = int(task.loops(task.batch(step, 400, seed=0)[0]).max())
        assert longest == task.trained_length(step + 1)
    assert make("parity", increase_every=0).trained_length(1) == 5
    assert make("parity", increase_every=0).trained_length(0) == 0
    assert int(make("parity", min_length=3).loops(make("parity", min_length=3).batch(9, 200, seed=0)[0]).min()) == 3


def test_batches_are_pure_functions_of_step_size_and_seed():
    task = make("addition")
    first = task.batch(30, 16, seed=0)
    task.batch(31, 16, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(first, task.batch(30, 16, seed=0), strict=True))
    assert not torch.equal(first[0], task.batch(31, 16, seed=0)[0])
    assert not torch.equal(first[0], task.batch(30, 16, seed=1)[0])
    assert not torch.equal(first[0], make("addition", seed=1).batch(30, 16, seed=0)[0])
    assert task.samples_seen(7, 16) == 7 * 16


def test_samples_of_an_epoch_are_counted_with_its_smaller_last_batch():
    task = build_task(task_config("markov")(n_train=61, n_probe=8))
    assert [task.samples_seen(s, 16) for s in (0, 3, 4, 5, 8)] == [0, 48, 61, 77, 122]
    assert task.samples_seen(3, None) == task.samples_seen(3, 100) == 183


def test_full_batches_need_a_fixed_training_set():
    task = make("parity", increase_every=0)
    inputs, targets = task.batch(5, None, seed=3)
    assert torch.equal(inputs, task.split("train").inputs)
    assert torch.equal(targets, task.split("train").targets)
    assert task.samples_seen(4, None) == 4 * 61
    with pytest.raises(LandscapeError, match="increase_every=0"):
        make("parity").batch(0, None, seed=0)


def test_examples_of_one_length_are_fixed_and_may_be_longer_than_the_test():
    task = make("multiplication")
    for length in (1, 5, 9, 14):
        part = task.examples(length, 17, seed=0)
        assert (query_lengths(task, part) == length).all()
        assert part.inputs.shape == (17, max(task.length, task.row_length(length) - 1))
        assert (part.family == (length > 5)).all()
        assert torch.equal(part.inputs, task.examples(length, 17, seed=0).inputs)
    assert not torch.equal(task.examples(5, 17, seed=0).inputs, task.examples(5, 17, seed=1).inputs)
    with pytest.raises(LandscapeError, match="length >= 1"):
        task.examples(0, 3, seed=0)


def test_a_sample_is_right_only_if_every_scored_token_is():
    targets = torch.tensor([[IGNORE, 1, 2], [IGNORE, 1, 2], [IGNORE, 1, 2]])
    said = torch.tensor([[0, 1, 2], [1, 1, 0], [2, 0, 2]])
    logits = torch.nn.functional.one_hot(said, 3).double()
    assert exact_match(logits, targets).tolist() == [1, 0, 0]
    assert exact_match(logits, targets).dtype == torch.float64
    assert AlgorithmicTask.correct(logits, targets).tolist() == [1, 0, 0]
    assert "every scored token" in AlgorithmicTask.accuracy
    assert "share of scored tokens" in Task.accuracy


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([0, 1, 1], "no equals sign"),
        ([2, 1, 3], "no query"),
        ([0, 1, 2, 1, 3, 0], "a symbol after EOS"),
        ([0, 1, 2, 2, 1, 3], "two equals signs"),
        ([0, 3, 2, 1, 3], "EOS in the query"),
        ([0, 1, 2, 1], "no EOS"),
        ([0, 7, 2, 1, 3], "no such token"),
    ],
)
def test_what_is_no_row_is_refused(row, why):
    with pytest.raises(LandscapeError, match="query, '=', answer, EOS"):
        make("parity").decode(row)


def test_a_row_of_two_operands_needs_both():
    task = make("addition")
    with pytest.raises(LandscapeError, match="expected a row of addition"):
        task.decode([1, 0, task.equals, 1, task.eos])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_length": 0}, r"task\.min_length >= 1"),
        ({"min_length": 6}, "task.min_length <= task.max_train_length"),
        ({"test_length": 4}, "<= task.test_length"),
        ({"increase_every": -1}, r"task\.increase_every >= 0"),
        ({"n_probe": 62}, "n_probe <= n_train"),
        ({"seed": -1}, r"task\.seed >= 0"),
        ({"prediction": "nxet"}, "Did you mean 'next'"),
    ],
)
def test_wrong_settings_are_explained(changes, message):
    with pytest.raises(LandscapeError, match=message):
        make("parity", **changes)


def test_one_length_for_all_leaves_the_longer_family_empty():
    task = make("parity", min_length=5, test_length=5)
    assert set(task.split("test").family) == {0}
    assert set(query_lengths(task, task.split("train"))) == {5}


def test_the_task_of_the_documents_works(monkeypatch):
    document = (ROOT / "docs" / "definitions.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    names = {}
    monkeypatch.setitem(TASKS, "reverse", None)  # taken out again afterwards
    exec(compile(code, "definitions.md", "exec"), names)
    task = build_task(names["config"].task)
    operands, answer = task.decode([*task.split("test").inputs[1].tolist(), task.eos])
    assert answer == operands[0][::-1]
    assert 8 < len(answer) <= 16


@pytest.mark.slow
def test_samples_are_the_same_in_every_process():
    code = (
        "from landscape.tasks import *; from landscape.provenance import fingerprint;"
        f"tasks = [build_task(task_config(n)()) for n in {SIX}];"
        "print(fingerprint([(t.split('test').inputs, t.batch(4321, 32, seed=7), t.examples(5, 9, seed=1).inputs)"
        " for t in tasks]))"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "12"
    }
    assert len(found) == 1
