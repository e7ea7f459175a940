"""The page: its numbers, its text, and how it behaves in a browser."""

import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support.browser import Browser, chromium

from landscape import Run, analyze, sweep
from landscape.report.choice import LADDERS
from landscape.report.page import fragment, page
from landscape.report.section import Finding, Section

WIDTHS = (400, 1400)
needs_browser = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    """Of a run, with few directions and points; figures are made of all of them."""
    folder = tmp_path_factory.mktemp("report") / "looped"
    with pytest.MonkeyPatch.context() as patch:
        line = {"top": 1, "bottom": 0, "random": 1, "gradient": False, "rises": (1e-3, 1e-2, 1e-1)}
        for name, rung in (("surface", {"points": 9}), ("valley", line)):
            patch.setitem(LADDERS, name, (rung,))
        patch.delitem(LADDERS, "density")
        return analyze(Run.open(shutil.copytree(run.path, folder)), seed=0)


@pytest.fixture(scope="module")
def saved(report, tmp_path_factory):
    return report.save(tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


class Tables(HTMLParser):
    """Columns and values of each table, by probe."""

    def __init__(self, text):
        super().__init__()
        self.found, self._probe, self._in_head = {}, None, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "table":
            self._probe = given["data-probe"]
            self.found[self._probe] = {"columns": [], "values": []}
        elif tag == "tr":
            self._row = []
        elif tag == "button" and self._probe:
            self._in_head = True
        elif tag == "td" and "data-value" in given:
            self._row.append(given["data-value"])

    def handle_endtag(self, tag):
        if tag == "tr" and self._row:
            self.found[self._probe]["values"].append(self._row)
        self._in_head = self._in_head and tag != "button"

    def handle_data(self, data):
        if self._in_head:
            self.found[self._probe]["columns"].append(data)


def test_numbers_of_the_page_are_those_of_the_datasets(report, saved):
    tables = Tables(saved.read_text()).found
    for probe, name in (
        ("spectrum", "eigenvalue"),
        ("samples", "loss"),
        ("entropy", "trace"),
        ("valley", "half_width"),
    ):
        ds, table = report.datasets[probe], tables[probe]
        at = table["columns"].index(name)
        shown = np.array([float(row[at]) for row in table["values"]])
        if probe == "samples":
            expected = np.sort(ds.loss.isel(step=-1).values)[::-1]
        elif probe == "valley":
            expected = ds.half_width.isel(step=-1, rise=(ds.sizes["rise"] - 1) // 2).values.ravel()
        else:
            expected = ds[name].values.ravel()
        np.testing.assert_array_equal(shown, expected)  # all digits, NaN included
    first = float(report.datasets["spectrum"].eigenvalue[-1, 0])
    (sentence,) = [str(f) for f in report.findings if "largest Hessian eigenvalue at step 20 is" in str(f)]
    assert float(re.search(r" is ([\d.]+) ±", sentence)[1]) == pytest.approx(first, rel=1e-5)
    assert sentence in saved.read_text()


def test_all_that_users_named_is_escaped():
    evil = '<script>alert("x")</script>'
    text = page(
        [
            Section(
                title=evil,
                datasets={},
                findings=(Finding(evil, "spectrum"),),
                skipped={evil: f"`{evil}`"},
                settings={evil: evil},
                provenance={evil: evil},
                plan=(evil,),
            )
        ]
    )
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "<script>alert" not in fragment(Section(title=evil, datasets={}, findings=(Finding(evil, "x"),)))


def test_without_plotly_the_page_has_the_picture_and_says_how_to_get_the_other(report, monkeypatch):
    monkeypatch.setattr("landscape.report.page.available", lambda: False)
    text = page([dataclasses.replace(report, datasets={"surface": report.datasets["surface"]})])
    assert "landscape-valleys[html]" in text
    assert "Plotly.newPlot" not in text
    assert "Figure surface of" in text
    assert len(text) < 3_000_000


def test_the_page_refers_to_nothing_outside(saved):
    text = re.sub(r"<script>.*?</script>", "", saved.read_text(), flags=re.S)
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "@import" not in text
    assert "url(" not in text


def test_the_command_makes_a_page_of_several_runs(landscape, run, tmp_path, monkeypatch):
    for name in set(LADDERS) - {"samples"}:
        monkeypatch.delitem(LADDERS, name)
    for name in ("a", "b"):
        shutil.copytree(run.path, tmp_path / "runs" / name)
    sweep("hopping", Run.open(tmp_path / "runs" / "a"), seed=0, n=4, k=2, steps=[0])
    code, out, err = landscape("report", "runs", "--budget", "quick", "--samples", 8)
    assert (code, out) == (0, "report.html\n"), err
    assert "a: 1 probe in about" in err
    text = (tmp_path / "report.html").read_text()
    assert "All runs together" in text
    assert "pairs of updates at step 0" in text  # stored before, of a probe that was not chosen
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nc")}
    code, out, err = landscape("report", "runs/b", "--stored", "-q", "-o", "stored.html")
    assert (code, out, err) == (0, "stored.html\n", "")
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nc")} == before
    assert "not stored: <code>landscape probe -p length</code>" in (tmp_path / "stored.html").read_text()


def test_a_damaged_answer_is_told_and_the_rest_is_shown(landscape, fresh_run, monkeypatch):
    for name in set(LADDERS) - {"samples", "spectrum"}:
        monkeypatch.delitem(LADDERS, name)
    sweep("spectrum", fresh_run, seed=0, steps=[0, 20])
    (path,) = (fresh_run.path / "results").glob("spectrum-*.nc")
    path.write_bytes(path.read_bytes()[:-40] + b"0" * 40)
    damaged = path.read_bytes()
    monkeypatch.setattr("landscape.report.page.pictures", lambda *_, **__: ([], []))
    code, out, err = landscape("report", fresh_run.path, "-q")
    assert (code, out) == (2, "report.html\n")
    assert "damaged" in err
    assert path.read_bytes() == damaged
    text = Path("report.html").read_text()
    assert 'data-probe="samples"' in text
    assert 'data-probe="spectrum"' not in text


@needs_browser
@pytest.mark.slow
def test_the_page_in_a_browser(browser, saved):
    for width in WIDTHS:
        browser.open(saved, width=width)
        browser.settle("document.querySelector('.plane canvas') !== null")
        assert browser.errors == []
        assert browser.requests == []
        pictures = browser.run("[...document.images].map(i => [i.naturalWidth, i.alt])")
        assert len(pictures) >= 6
        assert all(size > 0 and alt for size, alt in pictures)
        browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.querySelectorAll('h1').length") == 1
    buttons = browser.run("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert "Orbital rotation" in buttons
    assert not any("hare" in b or "loud" in b for b in buttons)  # none that would send the chart anywhere


@needs_browser
@pytest.mark.slow
def test_a_table_is_sorted_by_mouse_and_by_keyboard(browser, saved, report):
    browser.open(saved)
    column = "document.querySelector('table[data-probe=spectrum]')"
    at = f"[...{column}.tHead.rows[0].cells].findIndex(c => c.textContent.startsWith('eigenvalue'))"
    values = f"[...{column}.tBodies[0].rows].map(r => parseFloat(r.cells[{at}].dataset.value))"
    expected = np.sort(report.datasets["spectrum"].eigenvalue.values.ravel())
    button = f"{column}.tHead.rows[0].cells[{at}].querySelector('button')"
    browser.run(f"{button}.click()")
    assert browser.run(values) == expected.tolist()
    assert browser.run(f"{button}.parentElement.getAttribute('aria-sort')") == "ascending"
    browser.run(f"{column}.closest('details').open = true; {button}.focus()")
    browser.press("Enter")
    assert browser.run(values) == expected[::-1].tolist()
    assert browser.run(f"{button}.parentElement.getAttribute('aria-sort')") == "descending"


@needs_browser
@pytest.mark.slow
def test_a_notebook_shows_the_pictures(browser, report, tmp_path):
    """As notebooks do: the fragment is put into a page that is there, and no script of it is run."""
    path = tmp_path / "notebook.html"
    path.write_text("<!doctype html><meta charset='utf-8'><div id='out'></div>")
    browser.open(path, width=700)
    browser.run(f"document.getElementById('out').innerHTML = {report._repr_html_()!r}")
    browser.settle("[...document.images].length > 3 && [...document.images].every(i => i.complete)")
    assert browser.run("[...document.images].every(i => i.naturalWidth > 0)")
    assert browser.run("document.documentElement.scrollWidth") <= 700
    assert browser.run("document.querySelectorAll('.landscape-report li').length") >= len(report.findings)
    assert browser.errors == []
