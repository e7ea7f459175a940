"""Sphinx reads this: `make docs` builds the documentation into build/site."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from pages import ROOMS, filled, public

import landscape

project = "landscape"
author = "The landscape developers"
project_copyright = author
version = release = landscape.__version__
language = "en"
smartquotes = False  # two dashes begin an option
highlight_language = "text"  # a block that names no language is none

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"landscape {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

# Markdown ------------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4  # as on a plain view of the files, so that one link serves both
suppress_warnings = ["myst.header"]  # a page may begin with what another includes

# Pages are executed anew when they change; an error in one fails the build.
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent.parent / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # what a notebook writes is gone with it
os.environ["LANDSCAPE_EXAMPLES"] = str(Path(__file__).parent / "examples")  # so it finds its sources there
os.environ.setdefault("OMP_NUM_THREADS", "1")
nb_execution_timeout = 300
nb_merge_streams = True

# Formulas: MathJax from a package, so that a page asks no other host for anything ------------------------------------

mathjax_path = "mathjax/tex-chtml.js"

# Docstrings ----------------------------------------------------------------------------------------------------------

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True

nitpicky = True
# Of other projects: their documentation is not asked during the build.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|np|numpy|xr|xarray|h5py|click|matplotlib|collections|pathlib|os|typing|functools)\..*"),
    (r"py:.*", r"(Tensor|NDArray|Any|Callable|Iterable|Iterator|Mapping|Sequence|Path|Figure|Dataset|Module|Literal)"),
    (r"py:.*", r"(LinearOperator|ProcessGroup)"),
    # What public functions return or raise that nobody makes or names himself.
    (
        r"py:.*",
        r"landscape\.(runs\.reading\.Rows|runs\.updates\.Updates|loss\.ranks\.Alone|training\.trainer\.TrainState|training\.setup\.Setup)",
    ),
    (
        r"py:.*",
        r"landscape\.(training\.passes\.Passes|models\.(gpt\.LoopedBlocks|recursion\.Recursion)|probes\.tools\.(noise\.Training|around\.Around))",
    ),
    (r"py:.*", r"landscape\.(models\.gpt\.Adapted|probes\.linalg\.(search\.driver\.T|trace\.intervals\.Estimate))"),
    (r"py:.*", r"landscape\.(probes\.base\.(Extent|Counts)|report\.section\.Finding)"),
    (r"py:.*", r"(AbsentError|DamagedError|early_node|Answer)"),
]

_ALIASES = {f"{thing.__module__}.{thing.__qualname__}": name for room in ROOMS for name, thing in public(room).items()}
"""Where a public name is defined -> where it is documented."""


def _fill(_app: Any, _docname: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def _plain(_app: Any, what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Bars and stars in formulas of docstrings are no markup; what is in backticks is code already."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # an empty comment; else Napoleon takes what stands before a colon for a type
    for i, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(``[^`]+``|`[^`]+`|(?<![\w*])\*{1,2}\w[\w ]*\*{1,2}(?!\w))", line.replace(r"\|", "|"))
        lines[i] = "".join(p if k % 2 else re.sub(r"([|*])", r"\\\1", p) for k, p in enumerate(parts))


def _alias(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A reference to where a name is defined leads to where it is documented."""
    name = _ALIASES.get(node.get("reftarget", ""))
    if name is None:
        return None
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, node["reftype"], name, node, content)


def _mathjax(app: Any, error: Exception | None) -> None:
    """The part of MathJax that formulas need: the package holds ten times as much."""
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    if error is not None or app.builder.format != "html" or found is None or found.origin is None:
        return
    source, target = Path(found.origin).parent / "static" / "mathjax", Path(app.outdir) / "_static" / "mathjax"
    fonts = Path("output", "chtml", "fonts", "woff-v2")
    shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)
    shutil.copy(source / "tex-chtml.js", target)


def _dashes(_app: Any, doctree: Any, _docname: str) -> None:
    """The dash between a parameter and what it is, which Sphinx writes as two hyphens."""
    from docutils import nodes

    for node in list(doctree.findall(nodes.Text)):
        if str(node) == " -- ":
            node.parent.replace(node, nodes.Text(" – "))


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _plain, priority=400)
    app.connect("missing-reference", _alias)
    app.connect("doctree-resolved", _dashes)
    app.connect("build-finished", _mathjax)
    return {"parallel_read_safe": True}
