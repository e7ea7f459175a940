"""The pages of the documentation: nothing that there is to document is forgotten, and every page can be reached."""

import importlib.util
import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from urllib.parse import urlsplit

import pytest
from support.rooms import ROOT

from landscape.cli import COMMANDS
from landscape.figures import FIGURES, PAPER
from landscape.probes import PROBES

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("**/*.md"))
TEXTS = {path.relative_to(DOCS).with_suffix("").as_posix(): path.read_text(encoding="utf-8") for path in PAGES}


def module(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def pages():
    return module("pages")


def reached(texts):
    """Pages that the tables of contents lead to, from the first page on."""
    seen, left = set(), ["index"]
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        folder = name.rpartition("/")[0]
        for block in re.findall(r"```\{toctree\}\n(.*?)```", texts[name], re.DOTALL):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            for entry in entries:
                path = f"{folder}/{entry}" if folder else entry
                every = ":glob:" in block and "*" in entry
                left += [p for p in texts if p.rpartition("/")[0] == folder and p != name] if every else [path]
    return seen


def test_every_page_is_reached_and_every_entry_is_a_page():
    assert reached(TEXTS) == set(TEXTS)


def test_a_page_without_an_entry_is_seen():
    assert reached({"index": "```{toctree}\na\n```", "a": "", "b": ""}) == {"index", "a"}


def test_every_probe_has_a_concept_page_with_its_variables():
    for name in PROBES:
        assert f"<!-- filled by the build: variables {name} -->" in TEXTS[f"concepts/{name}"], name


def test_every_concept_has_a_formula_a_picture_and_says_when_to_believe_it(pages):
    drawn = {entry["name"] for entry in pages.gallery()["picture"]}
    for name, text in TEXTS.items():
        if name.startswith("concepts/") and name != "concepts/index":
            assert "\n$$\n" in text, name
            assert "\n## When to believe it\n" in text, name
            (picture,) = re.findall(r"<!-- filled by the build: picture (.+?) -->", text)
            assert picture in drawn, name


def test_every_figure_is_in_the_gallery(pages):
    drawn = [entry["name"] for entry in pages.gallery()["picture"]]
    assert len(set(drawn)) == len(drawn)
    assert {*FIGURES, *PAPER, "comparison"} <= set(drawn)
    for entry in pages.gallery()["picture"]:
        assert entry["name"] in {*FIGURES, *PAPER} or entry["title"], entry


def test_all_that_is_filled_in_can_be(pages):
    for name, text in TEXTS.items():
        assert "filled by the build" not in pages.filled(text), name


def test_every_command_and_option_is_on_the_page(pages):
    text = pages.commands()
    for name, (where, _) in COMMANDS.items():
        (part,) = re.findall(rf"^## landscape {name}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        for option in importlib.import_module(where).command.params:
            shown = option.opts[-1] if option.opts[0].startswith("-") else option.human_readable_name
            assert shown in part, (name, option.opts)


def test_public_names_are_in_the_reference(pages):
    import landscape

    every = {name for room in pages.ROOMS for name in pages.public(room)}
    assert {f"landscape.{n}" for n in landscape.__all__ if not n.startswith("__")} <= every
    assert {f"landscape.probes.{n}" for n in PROBES} <= every
    assert {f"landscape.figures.{n}.{n}" for n in FIGURES} <= every
    for room in pages.ROOMS:
        assert f"<!-- filled by the build: api {room} -->" in TEXTS[f"api/{room}"], room


def test_addresses_of_other_sites_are_well_formed():
    found = 0
    for name, text in TEXTS.items():
        for address in re.findall(r"https?://[^\s)>\"'`]+", text):
            parts = urlsplit(address.rstrip(".,;"))
            assert "." in parts.netloc, (name, address)
            assert re.fullmatch(r"[\w./~%?=&#:+-]+", address), (name, address)
            found += 1
    assert found > 5


def cells(text):
    return re.findall(r"```\{code-cell\} python\n(?::.*\n)*(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", ["quickstart", "examples/two_layers"])
def test_notebooks_of_plain_python_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "notebook"}
    found = cells(TEXTS[name])
    assert found
    with redirect_stdout(io.StringIO()):
        for i, code in enumerate(found):
            exec(compile(code, f"{name}, cell {i + 1}", "exec"), names)


def test_a_site_with_a_broken_link_or_a_foreign_script_is_refused(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#x">b</a><a href="https://example.org/">e</a><img src="p.png">')
    (tmp_path / "b.html").write_text('<p id="x"><a href="a.html">a</a>')
    (tmp_path / "p.png").touch()
    look = [sys.executable, DOCS / "check_site.py", tmp_path]
    assert subprocess.run(look, capture_output=True, check=False).returncode == 0
    (tmp_path / "b.html").write_text('<a href="c.html">c</a><script src="https://example.org/x.js"></script>')
    done = subprocess.run(look, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "a.html: b.html#x names no place",
        "b.html loads https://example.org/x.js",
        "b.html: c.html leads nowhere",
    ]


def test_sphinx_finds_what_its_configuration_names():
    pytest.importorskip("sphinx", reason="needs the extra [docs]")
    code = (
        "import importlib, runpy, sys; conf = runpy.run_path(sys.argv[1]); "
        "assert conf['nitpicky'] and conf['nb_execution_raise_on_error']; "
        "[importlib.import_module(name) for name in (*conf['extensions'], conf['html_theme'])]; "
        "assert importlib.util.find_spec('sphinx-mathjax-offline')"
    )
    done = subprocess.run([sys.executable, "-c", code, DOCS / "conf.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
