"""What the benchmark of surfaces says of a library: the plain loop and ours are right, a wrong one is named."""

import importlib

import numpy as np
import pytest
from support.rooms import ROOT


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """The benchmark's modules, importable as they are for its scripts."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def planes():
    return importlib.import_module("planes_of_peers")


def test_the_plain_loop_is_right_and_keeps_what_is_no_number():
    assert planes().check(planes().by_hand) == {"error": 0.0, "holes": True}


def test_a_library_that_turns_the_plane_or_fills_holes_is_found_out():
    hand = planes().by_hand
    turned = planes().check(lambda *args: hand(*args).T)
    # u is from -2 to 8 and v from -1 to 9: the largest is 98, and two corners change places, which differ by 90.
    assert turned["error"] == pytest.approx(90 / 98)
    assert planes().check(lambda *args: np.nan_to_num(hand(*args)))["holes"] is False


def row(seconds, **more):
    return {"seconds": seconds, "median_s": sorted(seconds)[1], **more}


def test_the_document_compares_with_the_fastest_and_names_the_wrong():
    surface = importlib.import_module("surface")
    rows = {
        "plain loop": row([5.0, 6.0, 7.0]),
        "ours": row([1.0, 1.0, 1.0]),
        "ours, 2 workers": row([2.0, 0.5, 1.0]),
        "Landscaper": row([9.0, 8.0, 9.0], known={"error": 0.0, "holes": False}),
        "pylandscape": row([4.0, 5.0, 6.0], known={"error": 0.5, "holes": True}),
    }
    (line,) = surface.against("toy", rows)
    assert "(pylandscape) takes 5.00 [4.00–6.00] times" in line
    assert "6.00 [2.00–10.00] times those of two workers" in line
    first, second = surface.wrong(rows)[:2]
    assert "Landscaper: u + 10 v on 5 x 5 points is right; what is not a number **does not stay**" in first
    assert "off by **50.0%**" in second
