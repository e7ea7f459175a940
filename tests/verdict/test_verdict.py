"""The verdict on planted studies, through the whole path but for the files."""

import random

import numpy as np
import pytest
from support.builders_verdict import answer, config, study, subject, with_settings

from landscape import LandscapeError
from landscape.answers.files import DamagedError
from landscape.verdict.claims import CLAIMS
from landscape.verdict.form import datasets, plain
from landscape.verdict.groups import settings_of
from landscape.verdict.verdict import judge
from landscape.verdict.words import markdown, remarks

PLANTED = ["C3", "C4", "C5", "C6", "C10"]


def outcomes(verdict, setting=0):
    return {f.claim.id: f.outcome for f in verdict.settings[setting].findings if f.main}


def finding(verdict, claim, a="looped", b="single", setting=0):
    (found,) = [f for f in verdict.settings[setting].findings if (f.claim.id, f.a, f.b) == (claim, a, b)]
    return found


def test_an_effect_is_found_and_its_opposite_refuted():
    assert outcomes(judge(study(effects={"single": 0, "looped": 6}), claims=PLANTED)) == {
        "C3": "supported", "C4": "supported", "C5": "supported", "C6": "supported", "C10": "supported",
    }  # fmt: skip
    found = judge(study(effects={"single": 6, "looped": 0}), claims=PLANTED)
    assert set(outcomes(found).values()) == {"refuted"}


def test_nothing_is_rarely_called_something():
    """Six studies without effect: 18 outcomes, of which one in a hundred or less is supported by chance."""
    every = [o for i in range(6) for o in outcomes(judge(study(noise=i + 1), claims=["C3", "C6", "C10"])).values()]
    assert every.count("supported") <= 1
    assert every.count("inconclusive") >= 16


def test_the_order_of_runs_changes_no_bit():
    runs = study(effects={"single": 0, "looped": 1, "stacked": 1, "shift": 0}, seeds=5)
    claims = ["C1", "C3", "C6", "C9"]
    mixed = runs.copy()
    random.Random(0).shuffle(mixed)
    once, again, other = (judge(order, claims=claims) for order in (runs, runs, mixed))
    assert repr(plain(once)) == repr(plain(again)) == repr(plain(other))
    assert markdown(once) == markdown(other)
    for a, b in zip(datasets(once), datasets(other), strict=True):
        assert a.identical(b)


def test_numbers_of_a_row_are_those_of_the_runs():
    runs = study(effects={"single": 0, "looped": 1})
    (gap, *_) = finding(judge(runs, claims=["C1"]), "C1").evidence
    (row,) = gap.rows
    end = {r.id: float(r.find("metrics")[0].load().accuracy[-1, 1, 2]) for r in runs}
    want = [end[f"looped{s}0None"] - end[f"single{s}0None"] for s in range(8)]
    assert row.values == pytest.approx(want)
    assert (row.mean, row.sd) == pytest.approx((np.mean(want), np.std(want, ddof=1)))
    assert row.decision_low <= row.low <= row.mean <= row.high <= row.decision_high
    assert row.effect == pytest.approx(row.mean / row.sd)
    assert (row.effect_low, row.effect_high) == pytest.approx((row.low / row.sd, row.high / row.sd))
    assert (row.step, row.seeds) == (1000, tuple(range(8)))


def test_margins_and_directions_turn_the_effect_to_the_claimed_side():
    runs = study(effects={"looped": 0, "shift": 0})
    accuracy, flops, *_ = finding(judge(runs, claims=["C9"]), "C9", "shift", "looped").evidence
    row = flops.rows[0]
    assert row.mean == pytest.approx(1, abs=0.02)
    assert row.effect == pytest.approx((0.7 - row.mean) / row.sd)
    assert row.side == -1
    assert accuracy.rows[0].effect == pytest.approx((accuracy.rows[0].mean + 0.005) / accuracy.rows[0].sd)
    found = finding(judge(runs, claims=["C9"]), "C9", "shift", "looped")
    assert found.outcome == "refuted"  # full compute refutes it, whatever the accuracy


def test_who_is_missing_is_named():
    runs = study(seeds=6)
    runs[0] = subject("single", 0, status="unfinished")
    runs[1] = subject("single", 1, status="diverged")
    runs += [subject("single", 2, name="again"), subject("looped", 9)]
    found = judge(runs, claims=["C6"])
    assert found.settings[0].setting.left_out == [
        "single-s0: unfinished", "single-s1: diverged", "again, single-s2: seed 2 of the same training more than once",
    ]  # fmt: skip
    said = remarks(found.settings[0])
    one = finding(found, "C6")
    assert one.seeds == (3, 4, 5)
    assert one.outcome == "inconclusive"
    assert any("3 seeds of 5 that a decision needs: 3, 4, 5" in s for s in said)
    assert any("without a partner in single: looped seed 0, 1, 2, 9" in s for s in said)
    assert any("single diverged at seed 1" in s for s in said)
    text = markdown(found)
    assert all(s in text for s in said)


def test_missing_damaged_and_mixed_answers_are_named():
    def other(answers, probe):
        return with_settings(answers[probe], "other") if probe == "entropy" else answers.get(probe, [])

    def none(answers, probe):
        return [] if probe == "entropy" else answers.get(probe, [])

    def damaged(answers, probe):
        if probe == "entropy":
            raise DamagedError("entropy-abc.nc is damaged")
        return answers.get(probe, [])

    runs = study(seeds=11, effects={"single": 0, "looped": 6})
    for i, find in enumerate((other, none, damaged)):
        runs[i] = subject("single", i, find=find)
    found = finding(judge(runs, claims=["C3"]), "C3")
    assert "single-s0: asked with other settings only of entropy [euclidean]" in found.notes
    assert "single-s1: no answer of entropy [euclidean]" in found.notes
    assert any("entropy-abc.nc is damaged" in note for note in found.notes)
    assert {row.seeds for row in found.evidence[0].rows} == {tuple(range(3, 11))}
    assert found.outcome == "supported"


def test_a_curvature_claim_needs_more_than_one_metric():
    def euclidean(answers, probe):
        return [a for a in answers.get(probe, []) if a.metric in ("euclidean", "none")]

    effects = {"single": 0, "looped": 6}
    found = judge(study(effects=effects, find=euclidean), claims=["C3", "C5"])
    assert set(outcomes(found).values()) == {"inconclusive"}
    first = finding(found, "C3")
    assert "1 metric of at least 2 (landscape probe RUNS -p entropy --metric filter --metric adam)" in first.reasons[0]
    assert first.seeds_needed is None


def test_what_was_not_asked_is_no_error():
    found = judge(study(), claims=["C8", "C9"])
    assert outcomes(found) == {"C8": "not asked", "C9": "not asked"}
    assert finding(found, "C8").evidence[0].ask == "landscape probe RUNS -p alignment"
    assert finding(found, "C9", "shift", "looped").reasons == ("no runs of shift",)
    assert "landscape probe RUNS -p alignment" in markdown(found)


def test_settings_are_judged_apart_and_kinds_told_apart():
    wide = {"model": config("looped")["model"] | {"width": 32}}
    runs = study(effects={"single": 0, "looped": 6}, seeds=6)
    runs += study(effects={"looped": 0}, seeds=6, **wide)
    runs += [
        subject("shift", s, name=f"{mode}-{s}", shift={"mode": mode}) for mode in ("hard", "ramp") for s in range(6)
    ]
    found = judge(runs, claims=["C6", "C9"])
    labels = [judged.setting.label for judged in found.settings]
    assert labels == ["markov (model.width 16)", "markov (model.width 32)"]
    assert outcomes(found)["C6"] == "supported"
    assert outcomes(found, 1)["C6"] == "not asked"
    assert [f.a for f in found.settings[0].findings if f.claim.id == "C9"] == [
        "shift (shift.mode hard)", "shift (shift.mode ramp)",
    ]  # fmt: skip
    assert "## All settings" in markdown(found)


def test_only_equal_depths_are_paired():
    deep = {"model": config("looped")["model"] | {"loops": 5}}
    runs = study(effects={"single": 0, "looped": 0, "stacked": 0}, seeds=5)
    runs += [subject("looped", s, name=f"deep-{s}", **deep) for s in range(5)]
    (setting,), _ = settings_of(runs)
    pairs = [(a.label, b.label) for a, b in setting.pairs("looped", "stacked")]
    assert pairs == [("looped (model.loops 3)", "stacked")]
    assert len(list(setting.pairs("looped", "single"))) == 2


def test_a_setting_is_named_by_what_its_own_task_varies():
    wide = {"model": config("looped")["model"] | {"width": 64}}
    other = {"task": {"name": "parity", "length": 3}, "steps": 7}
    runs = study(effects={"single": 0, "looped": 0}, seeds=2)
    runs += [subject("looped", s, name=f"wide-{s}", **wide) for s in range(2)]
    runs += [subject("looped", s, name=f"parity-{s}", **other) for s in range(2)]
    settings, _ = settings_of(runs)
    names = [s.label for s in settings]
    assert names[-1] == "parity"
    assert all(name.startswith("markov (model.width ") and name.count(",") == 0 for name in names[:-1])
    assert len(set(names)) == 3


def test_runs_without_architecture_or_seed_are_left_out():
    from dataclasses import replace

    runs = [*study(seeds=5), replace(subject(), name="mine", seed=None), replace(subject(), name="yours", arch=None)]
    found = judge(runs, claims=["C6"])
    assert found.left_out == ("mine: its seed is not known", "yours: its architecture is not known")
    assert "mine: its seed is not known" in markdown(found)


def test_a_number_that_is_none_decides_nothing():
    def nothing(answers, probe):
        found = answers.get(probe, [])
        lost = [a.load() for a in found]
        return [answer(ds.assign(accuracy=ds.accuracy * np.nan)) for ds in lost] if probe == "length" else found

    found = finding(judge(study(find=nothing), claims=["C10"]), "C10")
    assert found.outcome == "not asked"
    assert "accuracy beyond: no seed has a number" in found.notes


def test_every_claim_is_declared_whole():
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 12)]
    for claim in CLAIMS.values():
        names = [q.name for q in claim.quantities]
        assert len(set(names)) == len(names)
        assert any(q.decides for q in claim.quantities)
        assert all(q.why for q in claim.quantities if q.margin or not q.decides)
        assert claim.statement.endswith(".")
    with pytest.raises(LandscapeError, match="unknown claim 'C12'"):
        judge(study(seeds=1), claims=["C12"])
    with pytest.raises(LandscapeError, match="no branch"):
        judge([])
