"""The rooms of the package in their order, and what a tree of source files imports, read without running it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

ORDER = (
    "landscape.errors",
    "landscape.settings",
    "landscape.layout",
    "landscape.provenance",
    "landscape.models",
    "landscape.tasks",
    "landscape.curvature",
    "landscape.probes.linalg.eigen",
    "landscape.probes.linalg.trace",
    "landscape.probes.linalg.spectra",
    "landscape.probes.linalg.search",
    "landscape.probes.linalg",
    "landscape.loss",
    "landscape.training",
    "landscape.runs",
    "landscape.recording",
    "landscape.probes.base",
    "landscape.probes.tools",
    "landscape.probes",
    "landscape.answers",
    "landscape.connections",
    "landscape.grids",
    "landscape.studies",
    "landscape.verdict",
    "landscape.figures",
    "landscape.plotting",
    "landscape.captions",
    "landscape.report",
    "landscape.cli.console",
    "landscape.cli.tables",
    "landscape.cli",
    "landscape",
)
"""A room imports only from itself and from rooms above it. The last is the package itself, with its public names."""

BASE = {"landscape.errors", "landscape.settings", "landscape.layout", "landscape.provenance"}
LINALG = {room for room in ORDER if room.startswith("landscape.probes.linalg")}
SIGHT = {
    "landscape.models": {"landscape.errors", "landscape.settings"},
    "landscape.tasks": {"landscape.errors", "landscape.settings"},
    **{room: {"landscape.errors", "landscape.curvature", *LINALG} for room in LINALG},
    "landscape.figures": {"landscape.errors"},
    "landscape.cli.tables": ({*ORDER} - {"landscape.figures", "landscape", "landscape.cli"}),
}
"""Rooms that see less than all above them."""
QUESTIONS = ("landscape.probes.base", "landscape.probes.tools", "landscape.probes")
NARROW = {
    **{(room, "landscape.curvature"): {"landscape.curvature.symmetric"} for room in LINALG},
    # A probe is given what it needs of a run, and knows no files.
    **{(room, "landscape.runs"): {"landscape.runs.run"} for room in QUESTIONS},
}
"""(room, a room that it sees): only these modules of it."""

PLAIN = {"landscape.errors", "landscape.settings", "landscape.models", "landscape.figures", "landscape.cli.tables"}
LIBRARIES = {
    "pandas": set(),
    "netCDF4": set(),
    "h5netcdf": set(),
    "scipy": set(ORDER) - PLAIN,
    "h5py": {"landscape.runs", "landscape.answers"},
    "matplotlib": {"landscape.figures", "landscape.plotting"},
    "click": {"landscape.cli", "landscape.cli.console", "landscape.cli.tables"},
    "rich": {"landscape.cli.console"},
    "jinja2": {"landscape.report"},
    "plotly": {"landscape.report"},
    "joblib": {"landscape.answers"},
    "distributed": {"landscape.grids"},
    "safetensors": {"landscape.recording"},
    "transformers": {"landscape.recording"},
    "lightning": {"landscape.recording"},
    "xarray": {room for room in ORDER if ORDER.index(room) >= ORDER.index("landscape.runs")},
    "numpy": set(ORDER) - {"landscape.models"},
    "torch": set(ORDER) - {"landscape.errors", "landscape.settings", "landscape.figures", "landscape.cli.tables"},
}
"""Who may import a library."""


@dataclass(frozen=True, order=True)
class Arrow:
    """One import: from a module of the package to another, or to a library."""

    source: str
    target: str
    line: int


def folders() -> dict[str, Path]:
    """Where the packages that `pyproject.toml` names lie, relative to the root."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    places = {name: Path(folder) for name, folder in tools["package-dir"].items()}
    return {name: places.get(name, Path(*name.split("."))) for name in tools["packages"]}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module below the folders of the package, in a package or not: name -> file."""
    tops = {"landscape": "landscape", **{f"landscape.{top}": top for top in ("models", "probes", "figures")}}
    found = {}
    for package, folder in tops.items():
        for path in sorted((root / folder).rglob("*.py")):
            inside = path.relative_to(root / folder).with_suffix("").parts
            found[".".join((package, *inside)).removesuffix(".__init__")] = path
    return found


def room(module: str) -> str:
    """The innermost room that a module is in."""
    parts = module.split(".")
    names = (".".join(parts[:i]) for i in range(len(parts), 0, -1))
    return next((name for name in names if name in ORDER), "landscape")


def arrows(found: Mapping[str, Path], public: Mapping[str, str]) -> list[Arrow]:
    """All imports of these modules, wherever they stand: at the top, in a function, for type checkers only.

    `import a.b`, `from a import b` and `from . import b`, where b may be a module or a public name of the package,
    which counts as the module it comes from; `import_module`; and texts that begin with a module's name, with which it
    can be imported. To import a.b.c runs a and a.b first: what these import on being run is imported, too.
    """
    out, loaded = (
        [],
        {name: _loaded(name, path, found, public) for name, path in found.items() if path.stem == "__init__"},
    )
    for source, path in found.items():
        for node in ast.walk(ast.parse(path.read_text())):
            for target in _targets(node, source, path, found, public):
                line = getattr(node, "lineno", 0)
                out.append(Arrow(source, target, line))
                for package in _parents(target):
                    if package in loaded and not f"{source}.".startswith(f"{package}."):
                        out += [Arrow(source, t, line) for t in loaded[package]]
    return sorted({arrow for arrow in out if arrow.target != arrow.source})


def _parents(module: str) -> list[str]:
    """The packages of the project that a module lies in; the outermost loads nothing."""
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(2, len(parts))]


def _loaded(source: str, path: Path, found: Mapping[str, Path], public: Mapping[str, str]) -> set[str]:
    """What the `__init__` of a package imports when it is run: at the top, not in functions or for types."""
    out = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            out |= set(_targets(node, source, path, found, public)) & found.keys()
    return out


def _targets(
    node: ast.AST, source: str, path: Path, found: Mapping[str, Path], public: Mapping[str, str]
) -> Iterator[str]:
    package = source if path.name == "__init__.py" else source.rpartition(".")[0]
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        if any(alias.asname is None and alias.name.startswith("landscape.") for alias in node.names):
            yield "landscape"  # the name that is bound, through which everything is within reach
    elif isinstance(node, ast.ImportFrom):
        module = _absolute("." * node.level + (node.module or ""), package)
        for alias in node.names:
            if f"{module}.{alias.name}" in found:
                yield f"{module}.{alias.name}"
            elif module == "landscape" and alias.name in public:
                yield f"landscape.{public[alias.name]}"
            elif (module, alias.name) != ("landscape", "__version__"):
                yield module
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
        if node.args and isinstance(node.args[0], ast.Constant):
            yield _absolute(str(node.args[0].value), package)
    elif isinstance(node, ast.Constant) and re.fullmatch(r"landscape\.[\w.:]+", str(node.value)):
        parts = re.split(r"[.:]", str(node.value))
        names = (".".join(parts[:i]) for i in range(len(parts), 1, -1))
        yield from [name for name in names if name in found][:1]


def _absolute(name: str, package: str) -> str:
    """A name with leading dots from within a package."""
    level = len(name) - len(name.lstrip("."))
    base = package.split(".")[: len(package.split(".")) - level + 1] if level else []
    return ".".join([*base, name.lstrip(".")]).rstrip(".")


def faults(found: Mapping[str, Path], public: Mapping[str, str]) -> list[str]:
    """Imports that break the order, look further than a room may, or use a library that is not for it."""
    out = []
    for arrow in arrows(found, public):
        here, line = room(arrow.source), f"{arrow.source}:{arrow.line} imports {arrow.target}"
        if here == "landscape":  # the package itself
            continue
        library = arrow.target.partition(".")[0]
        if library != "landscape":
            if here not in LIBRARIES.get(library, {here}):
                out.append(f"{line}, which is not for {here}")
            continue
        there = room(arrow.target)
        seen: Set[str] = SIGHT.get(here, set(ORDER))
        narrow = NARROW.get((here, there), set())
        if ORDER.index(there) > ORDER.index(here):
            out.append(f"{line}: {there} is not above {here}")
        elif there != here and (there not in seen or (narrow and arrow.target not in narrow)):
            out.append(f"{line}: {here} does not see it")
    return out


def circles(found: Mapping[str, Path], public: Mapping[str, str]) -> list[list[str]]:
    """Modules that import each other, directly or through others; what only type checkers see counts."""
    graph: dict[str, set[str]] = {name: set() for name in found}
    for arrow in arrows(found, public):
        if arrow.target in found and "landscape" not in (arrow.source, arrow.target):
            graph[arrow.source].add(arrow.target)
    reach = {name: _reached(graph, name) for name in graph}
    groups = {tuple(sorted(m for m in reach[n] if n in reach[m])) for n in graph if n in reach[n]}
    return [list(group) for group in sorted(groups)]


def _reached(graph: Mapping[str, Set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = list(graph[start])
    while left:
        if (name := left.pop()) not in seen:
            seen.add(name)
            left += graph[name]
    return seen


def strangers(found: Mapping[str, Path]) -> list[str]:
    """Places where a file reaches for a private attribute `x._y` that it does not itself define."""
    out = []
    for name, path in found.items():
        tree = ast.parse(path.read_text())
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        ours = [(n.lineno, a.name) for n in imports if (n.module or "").startswith("landscape") for a in n.names]
        out += [f"{name}:{line} imports {x}" for line, x in ours if x.startswith("_") and not x.startswith("__")]
        nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
        own = {n.attr for n in nodes if isinstance(n.value, ast.Name) and n.value.id in ("self", "cls")}
        own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        own |= {n.target.id for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
        for n in nodes:
            private = n.attr.startswith("_") and not n.attr.startswith("__") and n.attr != "_replace"
            if private and n.attr not in own and not ast.unparse(n).startswith("torch."):
                out.append(f"{name}:{n.lineno} reaches for {ast.unparse(n)}")
    return out
