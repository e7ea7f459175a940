"""A loss over several processes: the numbers of one, and no process that waits for one that is gone."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
from support import ranks
from support.oracles import relative

from landscape import LandscapeError, Objective, distributed
from landscape.loss.metric import RescaledObjective
from landscape.loss.ranks import Alone, Ranks


@pytest.fixture
def one(tmp_path):
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=(tmp_path / "meeting").as_uri(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def found(request, tmp_path_factory):
    """What each of two and of three ranks found."""
    out, codes = ranks.spawned(ranks.measured, request.param, tmp_path_factory.mktemp("ranks"))
    assert codes == [0] * request.param
    return out


def alone(name):
    objective = ranks.objectives()[name]
    return objective, ranks.quantities(name, objective)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ranks.objectives()))
def test_ranks_find_what_one_process_finds(found, name):
    objective, expected = alone(name)
    tolerance = 1e-12 if objective.dtype == torch.float64 else 1e-5
    for out in found:
        got = dict(out[name])
        about = got.pop("about")
        strategy = objective.hessian(objective.w0).strategy
        if objective.n_samples < len(found):  # of two samples in three ranks, which the kernel does not know
            strategy = "cached"
        assert about == [objective.fingerprint, objective.n_samples, objective.caveats, strategy]
        assert set(got) == set(expected)
        for key in expected:
            if key == "right":
                assert torch.equal(got[key], expected[key])
            elif key == "difference":
                allowed = float(expected["difference error"] + got["difference error"])
                V = torch.randn(objective.size, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
                off = (got[key] - expected[key]).norm(dim=0) / V.norm(dim=0)
                assert float(off.max()) <= allowed
            elif not key.endswith("error") and expected[key].numel():
                assert got[key].dtype == expected[key].dtype
                assert relative(got[key], expected[key]) < tolerance, key


@pytest.mark.slow
def test_all_ranks_have_the_same_bits(found):
    for out in found[1:]:
        for name, quantities in out.items():
            for key, value in quantities.items():
                assert key == "about" or torch.equal(value, found[0][name][key]), (name, key)


@pytest.mark.slow
def test_an_all_reduce_gives_all_ranks_the_same_bits(tmp_path):
    """Why nothing has to be broadcast: what is decided from sums is decided alike."""
    out, codes = ranks.spawned(ranks.sums, 3, tmp_path)
    assert codes == [0] * 3
    assert all(torch.equal(x, y) for other in out[1:] for x, y in zip(out[0], other, strict=True))


@pytest.mark.slow
def test_probes_answer_as_in_one_process(tmp_path):
    expected = ranks.probed()
    out, codes = ranks.spawned(ranks.probed, 3, tmp_path)
    assert codes == [0] * 3
    assert all(other == out[0] for other in out[1:])
    # A crossing is searched until its bracket is short enough, an eigenvector until its residual is.
    tolerance = {"valley": 1e-5, "spectrum": 1e-9, "density": 1e-9}
    loose = ("residual", "error", "orthogonality", "asymmetry", "n_evaluations", "n_products")
    for probe, text in expected.items():
        a, b = json.loads(text), json.loads(out[0][probe])
        for part in ("data_vars", "coords"):
            for key, value in a[part].items():
                x, y = np.asarray(value["data"]), np.asarray(b[part][key]["data"])
                if x.dtype.kind != "f":
                    assert any(word in key for word in loose) or (x == y).all(), (probe, key)
                elif not any(word in key for word in loose):
                    near = tolerance.get(probe, 1e-12)
                    np.testing.assert_allclose(y, x, rtol=near, atol=near * np.abs(np.nan_to_num(x)).max(), err_msg=key)


@pytest.mark.slow
def test_what_fails_on_one_rank_fails_on_all_and_they_go_on(tmp_path):
    out, codes = ranks.spawned(ranks.failing, 3, tmp_path)
    assert codes == [0, 0, 0]
    assert all(x.pop("after") for x in out)
    for key in out[0]:
        here, there, bad = (x[key] for x in out)
        assert here == there
        assert (bad is None) == (key in ("nan loss", "nan losses", "nan product")), key  # which are NaN
        if bad and key.startswith("raises") and bad[0] == "ValueError":  # it has the traceback, the others the message
            assert here == ["RunFailedError", "rank 2 of 3 failed: ValueError: this sample cannot be read.", 1], key
        elif bad and key.startswith("memory") and bad[0] == "MemoryError":
            assert here == ["RunFailedError", "rank 2 of 3 failed: MemoryError: MemoryError.", 1]
        else:
            assert here == bad, key
    assert out[0]["nan gradient"][1].startswith(
        "expected a finite loss, found NaN or infinity at this point for 1 of 7"
    )
    assert "of index 6 (nan)" in out[0]["nan gradient"][1]
    assert "needs more memory than there is" in out[0]["memory gradient"][1]


@pytest.mark.slow
def test_what_cannot_be_shared_is_refused_on_all_ranks(tmp_path):
    out, _ = ranks.spawned(ranks.refused, 2, tmp_path)
    assert out[0] == out[1]
    assert out[0]["without compiler"] == "cached"
    assert out[0]["data"][1].startswith("expected the same objective on all 2 ranks, found data ")
    assert 'strategy="native" cannot be used' in out[0]["native"][1]
    assert out[0]["analyze"][1].startswith("expected an objective of one process, found one of 2 ranks")


@pytest.mark.slow
def test_ranks_that_do_not_do_the_same_are_found_out(tmp_path):
    out, _ = ranks.spawned(ranks.astray, 2, tmp_path)
    for kind, text, _ in out:
        assert kind == "LostRankError"
        assert "no longer do the same" in text


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_a_killed_rank_is_an_error_of_the_others(size, tmp_path):
    out, codes = ranks.spawned(ranks.killed, size, tmp_path, timeout=1000)
    assert codes == [0] * (size - 1) + [-9]
    for kind, text, code in out[:-1]:
        assert (kind, code) == ("LostRankError", 1)
        assert text.startswith(f"expected all {size} ranks to answer, but one ended or does not answer: ")


@pytest.mark.slow
def test_a_rank_that_stands_still_is_waited_for_as_long_as_the_group_says(tmp_path):
    out, codes = ranks.spawned(ranks.still, 2, tmp_path, timeout=5, stays={1})
    (kind, text, _), seconds = out[0]
    assert codes == [0, -9]
    assert (kind, "Timed out" in text, 4 < seconds < 60) == ("LostRankError", True, True)


# -- in this process --------------------------------------------------------------------------------------------------


def test_shares_are_blocks_that_differ_by_one_sample_at_most():
    for n in range(1, 12):
        for size in range(1, 6):
            parts = []
            for rank in range(size):
                who = Alone()
                who.rank, who.size = rank, size
                parts.append(who.share(n))
            assert [i for part in parts for i in part] == list(range(n))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.usefixtures("one")
def test_a_group_of_one_changes_no_bit():
    objective = ranks.network(7, weights=torch.arange(7) / 2)
    d, w = distributed(objective), objective.w0 + 0.1
    assert torch.equal(d.loss(w), objective.loss(w))
    assert torch.equal(d.grad(w), objective.grad(w))
    assert torch.equal(d.per_sample(w), objective.per_sample(w))
    assert torch.equal(d.hessian(w).dense(), objective.hessian(w).dense())
    assert d.fingerprint == objective.fingerprint
    assert isinstance(distributed(RescaledObjective(objective, objective.w0.abs())), RescaledObjective)


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 0), (3, 1, 4)])
def test_rows_of_any_kind_are_joined(dtype, shape):
    who = Ranks(None, dtype=torch.float64, device=torch.device("cpu"))
    rows = torch.arange(24)[: int(np.prod(shape))].reshape(shape).to(dtype)
    got = who.joined(lambda: rows, len(rows))
    assert got.dtype == dtype
    assert torch.equal(got, rows)


@pytest.mark.usefixtures("one")
def test_texts_of_any_length_arrive():
    who = Ranks(None, dtype=torch.float64, device=torch.device("cpu"))
    for text in ("", "a" + "å" * 3000, "a" * 10_000):
        assert who.tell(text) == text
        assert text.startswith(who.texts(text)[0])
    assert (who.first(None), who.first("why not")) == (None, "why not")


def test_without_a_group_the_message_says_what_to_do():
    with pytest.raises(LandscapeError, match=r"expected a process group, found none.*torchrun"):
        distributed(ranks.network(3))


def test_a_rescaled_objective_at_another_point_has_its_parameters():
    base = ranks.network(3)
    objective = RescaledObjective(base, 0.5 + torch.arange(base.size))
    u = objective.w0 + 1
    there = objective.at(u)
    assert torch.equal(there.parameters_at(u), u * objective.scale)
    assert torch.equal(there.parameters_at(objective.w0), objective.w0 * objective.scale)
    assert isinstance(there, Objective)
    assert torch.equal(there.w0, u)
