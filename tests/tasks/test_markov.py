import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape import LandscapeError
from landscape.tasks import MarkovConfig, MarkovTask
from landscape.tasks.base import IGNORE, epoch_batch, token_accuracy, token_loss
from landscape.tasks.chain import MarkovChain

chains = st.builds(
    lambda a, m, seed: MarkovChain.peaked(a, m, concentration=0.3, floor=0.05, rng=np.random.default_rng(seed)),
    st.integers(2, 3), st.integers(1, 3), st.integers(0, 10**6),
)  # fmt: skip


def sequence_probability(chain, tokens):
    """P(x_0, ..., x_n) from the stationary joint distribution, by brute force over unseen earlier symbols."""
    m, total = chain.order, 0.0
    for past in product(range(chain.alphabet), repeat=m):
        p, context = chain.stationary[past], list(past)
        for x in tokens:
            p *= chain.table[(*context, x)]
            context = [*context[1:], x]
        total += p
    return total


@given(chains)
@settings(max_examples=30, deadline=None)
def test_stationary_distribution_is_left_unchanged_by_a_step(chain):
    joint = chain.stationary[..., None] * chain.table
    assert np.allclose(joint.sum(0), chain.stationary, atol=1e-12)
    assert chain.stationary.sum() == pytest.approx(1)


@given(chains)
@settings(max_examples=20, deadline=None)
def test_limits_equal_an_enumeration_of_all_sequences(chain):
    n = 3
    loss = accuracy = content = 0.0
    for tokens in product(range(chain.alphabet), repeat=n + 1):
        p = sequence_probability(chain, tokens)
        for t in range(1, n + 1):
            nxt = np.array([sequence_probability(chain, (*tokens[:t], x)) for x in range(chain.alphabet)])
            nxt /= nxt.sum()
            loss -= p * np.log(nxt[tokens[t]]) / n
            accuracy += p * (tokens[t] == nxt.argmax()) / n
        content += p * chain.information_content(np.array([tokens]))[0]
    assert chain.bayes_loss(n) == pytest.approx(loss, rel=1e-9)
    assert chain.bayes_accuracy(n) == pytest.approx(accuracy, rel=1e-9)
    assert content * np.log(2) == pytest.approx(loss, rel=1e-9)  # mean information content is the Bayes loss


@given(chains, st.integers(2, 6), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_information_content_is_the_log_probability(chain, length, seed):
    tokens = chain.sample(3, length, rng=np.random.default_rng(seed))
    for row, found in zip(tokens, chain.information_content(tokens), strict=True):
        p = sequence_probability(chain, row) / sequence_probability(chain, row[:1])
        assert found == pytest.approx(-np.log2(p) / (length - 1), rel=1e-9)


def test_fair_coin_and_fixed_cycle():
    coin = MarkovChain(np.full((2, 2), 0.5))
    assert (coin.entropy_rate, coin.bayes_accuracy(4)) == (pytest.approx(1), 0.5)
    cycle = MarkovChain(np.roll(np.eye(3), 1, axis=1))
    assert (cycle.entropy_rate, cycle.bayes_loss(5), cycle.bayes_accuracy(5)) == (0, 0, pytest.approx(1))


def test_sampled_transitions_have_the_chains_frequencies():
    chain = MarkovChain.peaked(3, 2, concentration=0.5, floor=0.1, rng=np.random.default_rng(0))
    tokens = chain.sample(4000, 12, rng=np.random.default_rng(1))
    counts = np.zeros((3, 3, 3))
    for t in range(2, 12):
        np.add.at(counts, (tokens[:, t - 2], tokens[:, t - 1], tokens[:, t]), 1)
    expected = chain.stationary[..., None] * chain.table
    assert np.abs(counts / counts.sum() - expected).max() < 0.006


@pytest.mark.parametrize("table", [np.ones((2, 2)), np.array([[1.5, -0.5], [0.5, 0.5]]), np.ones((2, 3)) / 3])
def test_what_is_no_transition_table_is_refused(table):
    with pytest.raises(LandscapeError, match="expected"):
        MarkovChain(table)


def test_reducible_chain_has_no_single_stationary_distribution():
    with pytest.raises(LandscapeError, match="more than one stationary"):
        _ = MarkovChain(np.eye(2)).stationary


def test_splits_are_balanced_disjoint_in_alphabet_and_deterministic():
    config = MarkovConfig(n_train=61, n_probe=20, n_test=30)
    task, again = MarkovTask(config), MarkovTask(config)
    for name, n in (("train", 61), ("probe", 20), ("test", 30)):
        split = task.split(name)
        assert len(split) == n == len(split.family) == len(split.information_content)
        assert torch.equal(split.inputs, again.split(name).inputs)
        assert torch.equal(split.inputs[:, 1:], split.targets[:, :-1])
        high = (split.inputs >= 8).all(1)
        low = (split.inputs < 8).all(1)
        assert torch.equal(high, torch.from_numpy(split.family == 1))
        assert torch.equal(low, ~high)
    assert torch.equal(task.split("probe").inputs, task.split("train").inputs[:20])
    assert not torch.equal(task.split("test").inputs[:30], task.split("train").inputs[:30])
    assert not torch.equal(MarkovTask(MarkovConfig(seed=1)).split("probe").inputs[:20], task.split("probe").inputs)


@pytest.mark.slow
def test_generation_is_the_same_in_every_process():
    code = (
        "from landscape.tasks import *; from landscape.provenance import fingerprint;"
        "s = MarkovTask(MarkovConfig()).split('test'); print(fingerprint((s.inputs, s.targets)))"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "12"
    }
    assert len(found) == 1


def test_wrong_settings_and_splits_are_explained():
    with pytest.raises(LandscapeError, match="n_probe <= n_train"):
        MarkovConfig(n_train=4, n_probe=5)
    with pytest.raises(LandscapeError, match=r"task\.length >= 1"):
        MarkovConfig(length=0)
    with pytest.raises(LandscapeError, match="5000 contexts"):
        MarkovConfig(complex_order=5)
    with pytest.raises(LandscapeError, match="unknown split 'tset'"):
        MarkovTask(MarkovConfig()).split("tset")


@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 3))
def test_every_epoch_uses_every_sample_once(n, size, seed):
    per_epoch = -(-n // size)
    for epoch in (0, 3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        seen = np.concatenate([epoch_batch(n, s, size, seed=seed) for s in steps])
        assert sorted(seen) == list(range(n))


def test_batches_depend_on_seed_and_epoch_and_full_batch_is_everything():
    assert not np.array_equal(epoch_batch(50, 0, 10, seed=0), epoch_batch(50, 0, 10, seed=1))
    assert not np.array_equal(epoch_batch(50, 0, 10, seed=0), epoch_batch(50, 5, 10, seed=0))
    assert np.array_equal(epoch_batch(5, 9, None, seed=0), np.arange(5))


def test_loss_and_accuracy_score_only_scored_tokens():
    logits = torch.zeros(1, 3, 2, dtype=torch.float64)
    logits[0, :, 1] = torch.tensor([2.0, -1.0, 5.0])
    targets = torch.tensor([[1, 1, IGNORE]])
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(1.0))) / 2
    assert float(token_loss(logits, targets)) == pytest.approx(expected, rel=1e-12)
    assert token_accuracy(logits, targets).tolist() == [0.5]
