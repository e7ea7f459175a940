"""The rooms of the code base: what may import what, that nothing is forgotten in the wheel, that modules stay small."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support import rooms
from support.rooms import ROOT

import landscape

MODULES = rooms.modules()
PUBLIC = landscape._HOME


def planted(tmp_path, files):
    """A package of its own with these files: what the rules say of it."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in path.relative_to(tmp_path).parents:
            (tmp_path / folder / "__init__.py").touch()
    return rooms.modules(tmp_path)


def test_no_room_imports_from_below():
    assert rooms.faults(MODULES, PUBLIC) == []


def test_no_modules_import_each_other():
    assert rooms.circles(MODULES, PUBLIC) == []


def test_no_file_reaches_for_the_privates_of_another():
    assert rooms.strangers(MODULES) == []


def test_every_room_has_modules_and_every_module_a_room():
    assert {rooms.room(name) for name in MODULES} == set(rooms.ORDER)
    assert {name for name in MODULES if rooms.room(name) == "landscape"} == {"landscape", "landscape.__main__"}


def test_a_solver_is_loaded_without_probes_and_a_loss():
    code = "import sys; from landscape.probes.linalg import lanczos; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("landscape.")}
    assert {rooms.room(name) for name in loaded} <= {
        "landscape.probes",
        *rooms.LINALG,
        *rooms.BASE,
        "landscape.curvature",
    }
    assert {name for name in loaded if rooms.room(name) == "landscape.probes"} == {"landscape.probes"}


def test_the_name_of_a_probe_is_its_function_in_whatever_order_things_are_imported():
    code = (
        "import landscape.probes.entropy, landscape.probes as p; assert callable(p.entropy); "
        "from landscape.probes import force, PROBES; assert callable(force) and PROBES['force'].function is force; "
        "assert list(PROBES) == list(p.PROBES) and set(PROBES) == set(p.__all__) - {'PROBES', 'get_probe'}"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("landscape/loss/objective.py", "from landscape.cli.console import number"),
        ("landscape/loss/objective.py", "import landscape.cli.console"),
        ("landscape/loss/objective.py", "import landscape.cli.console as console"),
        ("landscape/loss/objective.py", "from landscape.cli import console"),
        ("landscape/loss/objective.py", "from ..cli import console"),
        ("landscape/loss/objective.py", "from ..cli.console import number"),
        # the three ways around the rule that stood here before
        ("landscape/tasks/deep/rules.py", "from landscape.cli.console import number"),
        ("landscape/training/trainer.py", "from landscape import figures"),
        ("landscape/runs/run.py", "from landscape.studies_of_mine import x"),
        # a public name of the package, a text that is imported, the package as a whole
        ("landscape/loss/objective.py", "from landscape import Study"),
        ("landscape/loss/objective.py", "import landscape"),
        ("landscape/loss/objective.py", 'import_module("landscape.cli.console")'),
        # inside a function, and for type checkers only
        ("landscape/loss/objective.py", "def f():\n    from landscape.cli.console import number"),
        ("landscape/loss/objective.py", "if TYPE_CHECKING:\n    from landscape.cli.console import number"),
        # rooms that see less, libraries that are not for all
        ("models/gpt.py", "from landscape.curvature.symmetric import Symmetric"),
        ("probes/linalg/eigen/krylov.py", "from landscape.curvature.products import gradient"),
        ("figures/surface.py", "from landscape.runs.run import Run"),
        ("figures/surface.py", "import torch"),
        ("probes/spectrum.py", "import h5py"),
        ("landscape/answers/files.py", "from matplotlib import pyplot"),
        ("landscape/answers/files.py", 'importlib.import_module("matplotlib.pyplot")'),
        ("figures/surface.py", "import scipy.stats"),
        ("probes/spectrum.py", "import h5netcdf"),
        ("probes/spectrum.py", "from landscape.runs.writing import RunWriter"),
        # the package as an object, and texts that name more than a module
        ("landscape/loss/objective.py", "import landscape.errors"),
        ("landscape/loss/objective.py", 'x = __import__("landscape").Study'),
        ("landscape/loss/objective.py", 'x = "landscape.cli.console:number"'),
        ("landscape/loss/objective.py", 'x = "landscape.cli.console.number"'),
        ("landscape/loss/objective.py", 'import_module("..cli.console", __package__)'),
    ],
)
def test_an_import_that_breaks_the_order_is_seen(tmp_path, path, text):
    names = ("landscape/cli/console.py", "landscape/curvature/symmetric.py", "landscape/curvature/products.py")
    names += ("landscape/errors.py", "landscape/runs/writing.py", "figures/style.py")
    found = planted(tmp_path, dict.fromkeys(names, ""))
    assert rooms.faults(found, PUBLIC) == []
    found = planted(tmp_path, {path: text})
    assert rooms.faults(found, PUBLIC)


def test_an_import_along_the_order_is_allowed(tmp_path):
    text = (
        "from landscape import __version__, Layout\nfrom ..errors import LandscapeError\nimport landscape.layout as x"
    )
    found = planted(tmp_path, {"landscape/training/trainer.py": text, "landscape/errors.py": "", "figures/x.py": ""})
    assert rooms.faults(found, PUBLIC) == []


def test_what_a_package_loads_on_the_way_counts(tmp_path):
    """To import probes.linalg runs probes first: were that to load the probes, the loss could not use a solver."""
    text = "from landscape.probes.linalg.eigen import lanczos"
    files = {"landscape/loss/objective.py": text, "probes/linalg/eigen/lanczos.py": "", "probes/spectrum.py": ""}
    assert rooms.faults(planted(tmp_path, files), PUBLIC) == []
    (tmp_path / "probes" / "__init__.py").write_text("def f():\n    from landscape.probes.spectrum import spectrum")
    assert rooms.faults(rooms.modules(tmp_path), PUBLIC) == []
    (tmp_path / "probes" / "__init__.py").write_text("from landscape.probes.spectrum import spectrum")
    assert len(rooms.faults(rooms.modules(tmp_path), PUBLIC)) == 1


def test_a_circle_is_seen_also_where_types_close_it(tmp_path):
    files = {
        "landscape/loss/a.py": "from landscape.loss import b",
        "landscape/loss/b.py": "def f():\n    import landscape.loss.c",
        "landscape/loss/c.py": "if TYPE_CHECKING:\n    from landscape.loss.a import A",
        "landscape/loss/d.py": "from landscape.loss import a",
    }
    assert rooms.circles(planted(tmp_path, files), PUBLIC) == [[f"landscape.loss.{x}" for x in "abc"]]


def test_a_private_of_another_file_is_seen(tmp_path):
    text = (
        "class A:\n    def f(self, other):\n        self._x = other._x\n        return other._y, other.z._replace(a=1)"
    )
    found = planted(tmp_path, {"landscape/loss/a.py": text})
    assert rooms.strangers(found) == ["landscape.loss.a:4 reaches for other._y"]


def test_packages_are_the_folders_that_hold_modules():
    declared = rooms.folders()
    found = {path.parent.relative_to(ROOT) for path in MODULES.values()}
    assert set(declared.values()) == found
    assert len(set(declared.values())) == len(declared)
    assert all((ROOT / folder / "__init__.py").is_file() for folder in found)
    assert {name for name, path in MODULES.items() if path.name == "__init__.py"} == set(declared)


def test_the_design_has_a_line_for_every_module_and_no_other():
    """Names stand to the left in the tree, and to the right where a folder's files are listed."""
    tree = (ROOT / "docs" / "design.md").read_text().split("```")[1]
    named = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in tree.strip().splitlines()]
    left = {name for entry, *_ in named for name in entry.split(", ")}
    listed = left | {name for _, *rest in named for name in re.findall(r"[a-z_0-9]+", " ".join(rest))}
    there = {name for path in MODULES.values() for name in (path.stem, path.name)} | {
        "landscape",
        "attention_kernel.cpp",
    }
    there |= {folder.name for folder in rooms.folders().values()}
    assert {Path(name.rstrip("/")).name for name in left} <= there
    whole = ("landscape.tasks", "landscape.models", "landscape.figures", "landscape.cli")  # one line for all
    for name, path in MODULES.items():
        question = rooms.room(name) == "landscape.probes" or name.startswith("landscape.probes.tools")
        unnamed = path.name in ("__init__.py", "__main__.py") or name.startswith(whole) or question
        assert unnamed or {path.stem, path.name} & listed, name


def test_modules_stay_small():
    for path in MODULES.values():
        assert len(path.read_text().splitlines()) <= 300, path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel made from the sdist, as an installer makes it, unpacked; no checkout has a part in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "checkout"
    source.mkdir()
    for path in ROOT.iterdir():  # not as it lies there: building leaves things behind
        if path.name not in ("build", "dist") and not path.name.startswith(".") and path.suffix != ".egg-info":
            os.symlink(path, source / path.name)
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (sdist,) = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "-w", folder, sdist], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        files = set(archive.namelist())
        archive.extractall(folder / "installed")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    return folder / "installed", files, packed


def alone(home, *arguments, cwd):
    """Python with no other `landscape` than that of the wheel: -S leaves out .pth files."""
    libraries = [p for p in sys.path if p.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(home), *libraries])}
    done = subprocess.run(
        [sys.executable, "-S", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_everything_and_works_where_nothing_else_of_the_project_is(wheel, tmp_path):
    home, files, _ = wheel
    inside = {path.relative_to(ROOT).as_posix() for path in MODULES.values()}
    inside = {name if name.startswith("landscape/") else f"landscape/{name}" for name in inside}
    assert {name for name in files if name.endswith(".py")} == inside
    presets = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("landscape/**/presets/**/*.toml")}
    assert {name for name in files if name.endswith(".toml")} == presets
    assert "landscape/models/attention_kernel.cpp" in files
    assert {f"landscape/report/{name}" for name in ("page.html", "fragment.html", "style.css", "tables.js")} <= files
    # -S: no .pth files, so that the only `landscape` is that of the wheel.
    code = (
        "import sys, importlib, pathlib; home = pathlib.Path(sys.argv[1]); "
        "import landscape; assert pathlib.Path(landscape.__file__).parent.parent == home, landscape.__file__\n"
        "for path in home.glob('landscape/**/*.py'):\n"
        "    name = '.'.join(path.relative_to(home).with_suffix('').parts)\n"
        "    if not name.endswith('__main__'): importlib.import_module(name.removesuffix('.__init__'))\n"
        "from landscape.training.presets import presets; assert presets()\n"
    )
    alone(home, "-c", code, str(home), cwd=tmp_path)


@pytest.mark.slow
def test_the_command_of_the_wheel_trains_probes_and_shows(wheel, tmp_path):
    command = (wheel[0], "-m", "landscape")
    assert alone(*command, "--version", cwd=tmp_path).strip() == f"landscape, version {landscape.__version__}"
    small = ["--width", "4", "--steps", "4", "--checkpoints", "2", "-q"]
    small += [word for n in ("n_train", "n_probe", "n_test") for word in ("--set", f"task.{n}=16")]
    alone(*command, "train", "-o", "run", *small, cwd=tmp_path)
    alone(*command, "probe", "run", "-p", "spectrum", "--set", "spectrum.k=2", "-q", cwd=tmp_path)
    found = alone(*command, "show", "run", cwd=tmp_path)
    assert "complete" in found
    assert "\x1b" not in found


@pytest.mark.slow
def test_the_sdist_holds_what_its_tests_and_documents_need(wheel):
    packed = wheel[2]
    for pattern in ("tests/**/*.py", "docs/**/*.md", "docs/*.py", "docs/*.toml", "constraints*.txt", "Makefile"):
        wanted = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
        assert wanted <= packed, pattern
        assert wanted
    assert not [name for name in packed if name.endswith((".pyc", ".so"))]


def test_tests_share_through_support_alone():
    """No test imports another, and what they share lies in one folder."""
    tests = ROOT / "tests"
    shared = {path.stem for path in (tests / "support").glob("*.py")}
    apart = {path.stem for path in tests.rglob("*.py")} - shared | {"tests"}
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & (apart | shared), path


def test_tests_lie_in_rooms():
    tests = ROOT / "tests"
    assert sorted(path.name for path in tests.glob("*.py")) == ["conftest.py"]
    assert not list((tests / "support").glob("test_*"))


def test_every_text_names_its_encoding():
    """Else Windows takes the code page of the machine: what one wrote another could not read."""
    for path in (*MODULES.values(), *(ROOT / "docs").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, given = ast.unparse(node.func).rpartition(".")[2], {k.arg for k in node.keywords}
            place = f"{path}:{node.lineno}"
            assert name not in ("read_text", "write_text") or "encoding" in given, place
            assert "text" not in given or name not in ("run", "Popen", "check_output"), place
            if name == "open" and node.args and isinstance(node.args[0], ast.Constant):  # path.open("r")
                assert "b" in str(node.args[0].value) or "encoding" in given, place
