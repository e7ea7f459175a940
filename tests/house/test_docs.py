"""What is promised in docstrings, documents and the design is executed here."""

import doctest
import importlib
import inspect
import io
import json
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout

import pytest
from support import rooms
from support.rooms import ROOT

import landscape
from landscape.cli import COMMANDS
from landscape.verdict.findings import findings

MODULES = sorted(rooms.modules())


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_every_public_name_is_documented_and_has_an_example():
    for name in landscape.__all__:
        thing = getattr(landscape, name)
        if name.startswith("__") or (inspect.isclass(thing) and issubclass(thing, Exception)):
            continue
        assert thing.__doc__, name
        if name not in ("Progress", "load", "save"):
            assert ">>>" in thing.__doc__, f"{name} has no example"


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; sys.argv = ['landscape', '--help']; import landscape.cli as c; c.cli.main(standalone_mode=False); "
    )
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_constraints_pin_every_dependency():
    def plain(name: str) -> str:
        return re.split(r"[><=\[]", name)[0].lower().replace("_", "-")

    pinned = {plain(line) for line in (ROOT / "constraints.txt").read_text().split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert {"hf", "lightning", "dask", "html", "docs", "dev"} <= set(extras)
    wanted = {plain(d) for d in project["dependencies"] + [d for extra in extras.values() for d in extra]}
    wanted -= {project["name"]}
    assert wanted <= pinned


def test_the_lowest_versions_that_are_tested_are_those_that_are_named():
    def number(text: str) -> tuple[int, ...]:
        parts = [int(part) for part in text.split(".")]
        return tuple(parts[: max((i for i, x in enumerate(parts, start=1) if x), default=1)])  # 1.26 is 1.26.0

    lines = [x for x in (ROOT / "constraints-lowest.txt").read_text().splitlines() if x and x[0] != "#"]
    tested = {name.lower(): number(version) for name, version in (line.split("==") for line in lines)}
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = {name.lower(): number(version) for name, version in (d.split(">=") for d in named)}
    assert lowest.pop("torch") <= tested.pop("torch")  # older ones are expected to work: docs/install.md
    assert lowest.items() <= tested.items()


def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert len(printed.getvalue().splitlines()) >= 2
    assert (tmp_path / "slice.nc").exists()


def test_commands_in_the_documents_exist():
    """Every option that a document or a Makefile gives to `landscape` is an option of that command."""
    options = {}
    for name, (module, _) in COMMANDS.items():
        command = importlib.import_module(module).command
        options[name] = {"-h", "--help"} | {o for p in command.params for o in p.opts}
    found = 0
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "docs" / "gallery.toml"]
    for path in (ROOT / "README.md", ROOT / "Makefile", ROOT / "landscape" / "cli" / "__init__.py", *pages):
        text = path.read_text().replace("\\\n", " ")
        for name, rest in re.findall(r"landscape (train|sweep|probe|plot|compare|show)\b([^\n`#>]*)", text):
            for option in re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", rest):
                assert option in options[name], f"{path.name}: landscape {name} has no {option}"
                found += 1
    assert found > 10


def test_names_in_docstrings_and_documents_exist():
    found = 0
    files = [*rooms.modules().values(), *ROOT.glob("docs/**/*"), *ROOT.glob("benchmarks/*.py"), ROOT / "README.md"]
    for path in (f for f in files if f.suffix in (".py", ".md")):
        for name in re.findall(r"`(landscape(?:\.\w+)+)", path.read_text()):
            module, rest = importlib.import_module("landscape"), name.split(".")[1:]
            for i, part in enumerate(rest, start=2):
                if not hasattr(module, part):
                    importlib.import_module(".".join(name.split(".")[:i]))
                module = getattr(module, part)
            found += 1
    assert found > 20


def test_the_findings_are_what_their_numbers_say():
    numbers = json.loads((ROOT / "docs" / "findings.json").read_text())
    assert (ROOT / "docs" / "findings.md").read_text() == findings(numbers)


def test_links_in_documents_lead_somewhere():
    def anchors(path):
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}

    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    for path in documents:
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            file, _, anchor = target.partition("#")
            if "://" in file:
                continue
            there = path if not file else path.parent / file
            assert there.exists(), f"{path.name}: {target}"
            assert not anchor or anchor in anchors(there), f"{path.name}: {target}"
