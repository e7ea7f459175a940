"""From nothing to the page, in one command that can be interrupted anywhere."""

import json

import pytest

from landscape.cli import pictured, reproduce
from landscape.figures import FIGURES
from landscape.grids.grid import Grid
from landscape.verdict.findings import differing

FILES = ("verdict.json", "verdict.md", "findings.json", "findings.md", "report.html")


@pytest.fixture
def tiny(monkeypatch):
    """Studies of seconds in place of those of minutes and days."""
    small = {
        "task": {"n_train": 32, "n_probe": 8, "n_test": 8},
        "model": {"width": 2},
        "steps": 4,
        "checkpoints": 2,
        "dense_checkpoints": 0,
    }
    probes = [{"name": "entropy", "metrics": ["euclidean", "filter"]}, {"name": "samples"}]

    def grids(name, *, device):
        assert name in ("quick", "paper")
        return {
            "a": Grid.make(
                base=small, vary={"arch": ["single", "looped"], "seed": [0, 1]}, probes=probes, device=device
            )
        }

    monkeypatch.setattr(reproduce, "study_grids", grids)
    # The figures have tests of their own; two of them are enough here.
    monkeypatch.setattr(pictured, "FIGURES", {name: FIGURES[name] for name in ("entropy", "learning")})
    monkeypatch.setattr(pictured, "PAPER", {})


@pytest.mark.slow
def test_a_study_from_nothing_to_the_page_and_again(tiny, landscape, tmp_path):
    code, out, err = landscape("reproduce", "-o", "study", "-q")
    assert code == 0, err
    assert [line.rpartition("/")[2] for line in out.split()] == list(FILES)
    folder = tmp_path / "study"
    first = {name: (folder / name).read_bytes() for name in FILES[:-1]}
    runs = sorted((folder / "runs" / "a").iterdir())
    assert len(runs) == 4
    stamps = {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*") if path.suffix in (".h5", ".nc")}
    assert {p.suffix for p in (folder / "figures").iterdir()} == {".pdf", ".png", ".txt"}
    assert (folder / "report.html").read_text().count("<img") == len(list((folder / "figures").glob("*.png")))

    code, _, err = landscape("reproduce", "-o", "study", "-q")
    assert code == 0, err
    assert {name: (folder / name).read_bytes() for name in FILES[:-1]} == first
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    code, out, _ = landscape("findings", "study/runs/a", "--check", "study/findings.md")
    assert (code, "every line is what the numbers say" in out) == (0, True)
    assert landscape("findings", "study/findings.json")[1] == (folder / "findings.md").read_text()
    (folder / "findings.md").write_text((folder / "findings.md").read_text() + "\nLooped is best.\n")
    code, out, err = landscape("findings", "study/findings.json", "--check", "study/findings.md")
    assert code == 1
    assert "- Looped is best." in out
    assert "1 lines are not what the numbers say" in err


def test_a_dry_run_tells_the_cost_and_makes_nothing(tiny, landscape, tmp_path):
    code, out, err = landscape("reproduce", "--preset", "paper", "-o", "study", "--dry-run")
    assert code == 0, err
    assert "a: All together" in out
    assert not (tmp_path / "study").exists()


def test_a_run_that_fails_is_told_and_the_verdict_is_about_the_others(tiny, landscape, tmp_path):
    broken = tmp_path / "study" / "runs" / "a" / "markov-single-s1" / "run.h5"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no run")
    code, _, err = landscape("reproduce", "-o", "study", "-q")
    assert code == 1
    assert "markov-single-s1" in err
    assert "1 failed; the verdict is about all others" in err
    runs = json.loads((tmp_path / "study" / "verdict.json").read_text())["settings"][0]["runs"]
    assert {label: sorted(seeds) for label, seeds in runs.items()} == {"looped": ["0", "1"], "single": ["0"]}


def test_what_is_no_document_is_refused(landscape, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    code, _, err = landscape("findings", "a.json")
    assert code == 2
    assert "expected a document 'landscape-findings'" in err
    (tmp_path / "a.json").write_text("{")
    code, _, err = landscape("findings", "a.json")
    assert (code, "cannot read a.json" in err) == (2, True)
    assert differing("", {"format": "landscape-findings", "format_version": 1, "verdict": _nothing()})


def _nothing():
    return {"rule": {"text": "A rule."}, "settings": [], "left_out": [], "versions": {}, "code_revision": "1"}


def test_folders_of_settings_have_names_that_every_file_system_takes():
    long = "markov (" + ", ".join(f"model.setting_{i} {i}" for i in range(40))
    names = {pictured._file_name(f"{long}, {end})") for end in ("a", "b")}
    assert len(names) == 2
    assert max(map(len, names)) == pictured.NAME
    assert pictured._file_name("markov (steps 7)") == "markov--steps-7"
