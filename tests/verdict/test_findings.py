"""Findings: a text that follows from the numbers, sentence by sentence."""

import json
import math
import re

import pytest
from support.builders_verdict import study, subject

from landscape import LandscapeError
from landscape.cli.console import json_text
from landscape.verdict.ends import document, texts
from landscape.verdict.findings import _evidence, differing, findings
from landscape.verdict.groups import settings_of
from landscape.verdict.verdict import judge

CLAIMS = ["C1", "C3", "C6", "C9", "C10", "C11"]


@pytest.fixture(scope="module")
def found():
    runs = study(effects={"single": 0, "looped": 6, "stacked": 6, "shift": 0}, seeds=6)
    return document(judge(runs, claims=CLAIMS))


def test_the_text_says_the_outcomes_of_the_verdict(found):
    text = findings(found)
    told = found["verdict"]["settings"][0]["findings"]
    for claim in CLAIMS:
        (part,) = re.findall(rf"^### {claim}: .*?(?=^###|^## |\Z)", text, flags=re.S | re.M)
        for f in (f for f in told if f["claim"] == claim and f["main"] and f["outcome"] != "not asked"):
            word = f["outcome"]
            assert f"{f['a']} against {f['b']}, 6 seeds: **{word}**" in part
    assert "has it over Single in 1 of 1 setting, among them 1 of the 1 in which Looped has it" in text


def test_numbers_of_the_text_are_those_of_the_rows(found):
    (setting,) = found["verdict"]["settings"]
    (finding,) = [f for f in setting["findings"] if (f["claim"], f["a"], f["b"]) == ("C1", "looped", "single")]
    row = finding["evidence"][0]["rows"][0]
    said = "{:+.3g} [{:+.3g}, {:+.3g}]".format(row["mean"], row["low"], row["high"]).replace("-", "−")
    assert said in findings(found)
    ends = setting["ends"]["looped"]["accuracy complex"]
    assert ends["n"] == 6
    assert ends["low"] < ends["mean"] < ends["high"]
    assert f"{ends['mean']:.4f} [{ends['low']:.4f}, {ends['high']:.4f}]" in findings(found)


def test_json_gives_the_same_text_and_a_changed_number_is_found(found):
    text = findings(found)
    again = json.loads(json.dumps(found))
    assert findings(again) == text
    assert differing(text, again) == []
    assert differing(text.replace("\nMade by", "\nMade by another"), again) == []
    row = again["verdict"]["settings"][0]["findings"][0]["evidence"][0]["rows"][0]
    row["mean"] += 1
    ((have, want),) = [pair for pair in differing(text, again) if "looped against single" in pair[0]]
    assert have != want
    line = next(line for line in text.splitlines() if line.startswith("- **"))
    (one,) = differing(text.replace(line, ""), found)
    assert one == ("", line)
    assert differing(text + "\nLooped is best.", found) == [("Looped is best.", "")]


def test_what_stands_out_are_refutations_by_their_size(found):
    text = findings(found)
    part = text.partition("## What stands out")[2].partition("## The claims")[0]
    refuted = {
        f["claim"] for f in found["verdict"]["settings"][0]["findings"] if f["main"] and f["outcome"] == "refuted"
    }
    assert refuted
    assert {line.split()[1].rstrip(",") for line in part.splitlines() if re.match(r"\d\.", line)} <= refuted
    nothing = document(judge(study(effects={"single": 0, "looped": 0}, seeds=5), claims=["C6"]))
    assert "No claim is refuted in any setting." in findings(nothing)


def test_a_study_of_which_little_was_asked_says_so():
    text = findings(document(judge(study(effects={"single": 0}, seeds=2), claims=CLAIMS)))
    assert text.count("It was not asked in this study.") == len(CLAIMS)
    few = findings(document(judge(study(effects={"single": 0, "looped": 0}, seeds=2), claims=["C6"])))
    assert "2 seeds of 5 that a decision needs: 0, 1" in few


def test_another_document_is_refused(found):
    with pytest.raises(LandscapeError, match=r"expected a document 'landscape-findings' .* --json"):
        findings(found["verdict"])


def test_no_number_is_left_unsaid(found):
    assert not re.search(r"\bnan\b|\binf\b|None", findings(found))
    assert all(math.isfinite(end["mean"]) for end in found["verdict"]["settings"][0]["ends"]["single"].values())


def test_a_gate_stands_beside_the_plain_loop():
    own = {"name": "attention", "width": 16, "loops": 3, "layers": 1}
    runs = [subject("looped", 0, model=own | {"scale": 1})]
    runs.append(subject("shift", 0, model=own | {"scale": "learned"}, shift={"mode": "gate"}))
    runs.append(subject("looped", 1, model=own | {"scale": "learned"}))
    settings, _ = settings_of(runs)
    assert sorted([k.arch for k in s.kinds] for s in settings) == [["looped"], ["looped", "shift"]]


def test_a_number_that_is_the_same_for_all_seeds_is_told():
    """Of a switch at a fixed step all runs cost the same: there is no effect in standard deviations, but a number."""
    row = {"metric": "none", "threshold": "", "mean": 0.7, "low": 0.7, "high": 0.7, "effect": None, "side": 0, "n": 8}
    evidence = {"quantity": "FLOP ratio", "words": "FLOPs, A over B", "unit": "1", "direction": -1, "margin": 0.7}
    evidence |= {"decides": True, "answered": True, "rows": [row]}
    assert list(_evidence({"evidence": [evidence]})) == ["FLOPs, A over B: +0.7 [+0.7, +0.7], claimed below 0.7."]
    lacking = evidence | {"rows": [row | {"low": None, "high": None}]}
    assert list(_evidence({"evidence": [lacking]})) == ["FLOP ratio: no interval."]


def test_an_end_at_infinity_survives_the_file(found):
    row = next(r for s in found["verdict"]["settings"] for f in s["findings"] for e in f["evidence"] for r in e["rows"])
    low, high = row["low"], row["high"]
    try:
        row["low"], row["high"] = -math.inf, math.inf
        text = findings(found)
        assert "[−inf, +inf]" in text
        assert findings(json.loads(json_text(texts(found)))) == text
    finally:
        row["low"], row["high"] = low, high
