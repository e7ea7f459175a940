"""One page of HTML: all that it shows is in it, and it asks for nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
import xarray as xr
from markupsafe import Markup

from landscape.provenance import created, versions
from landscape.report.pictures import Missing, Picture, pictures
from landscape.report.section import Section
from landscape.report.surface import HINT, available, interactive, plotly_code
from landscape.report.tables import Table, side_by_side, table_of

__all__ = ["BIBTEX", "fragment", "page"]

BIBTEX = """@software{landscape,
  title   = {landscape: measure the loss landscape of PyTorch models},
  author  = {{The landscape developers}},
  version = {VERSION},
  license = {MIT}
}"""
_TRUST = {"sure": "measured", "bound": "bound", "doubtful": "not certain"}
_ABOUT = {
    "measured": "the numbers are what they say, to the error given",
    "bound": "at least or at most",
    "not certain": "not converged, or the error is not known",
}

_QUESTIONS = {
    "metrics": "How did training go?",
    "spectrum": "How steep is it?",
    "entropy": "How is curvature spread?",
    "density": "How is curvature spread?",
    "valley": "How wide is the valley?",
    "surface": "What does a plane look like?",
    "samples": "Which samples make the loss?",
    "evolution": "How does the Hessian change?",
    "sharpness": "How far may an update go?",
    "hopping": "Do updates hop between walls?",
    "alignment": "Do both architectures pull alike?",
    "loops": "Does the recursion settle?",
    "length": "How far does it generalise?",
    "examples": "What does it make of examples?",
}


def page(sections: Sequence[Section], *, joint: Mapping[str, Sequence[xr.Dataset]] | None = None) -> str:
    """The whole page.

    Args:
        sections: one per run or objective.
        joint: answers of all runs to one question each, by probe, for figures that show them together.
    """
    together, lacking = pictures(joint or {}, title="all runs")
    parts = [_part(i, section) for i, section in enumerate(sections)]
    turned = available() and any(part["surface"] for part in parts)
    return _template("page.html").render(
        title=sections[0].title if len(sections) == 1 else f"{len(sections)} runs",
        parts=parts,
        table=side_by_side([s.title for s in sections], [s.datasets for s in sections]) if len(sections) > 1 else None,
        together=together,
        lacking=lacking,
        plotly=plotly_code() if turned else "",
        style=_text("style.css"),
        script=_text("tables.js"),
        made=created(),
        version=versions()["landscape-valleys"],
        bibtex=BIBTEX.replace("VERSION", versions()["landscape-valleys"]),
        about=_ABOUT,
    )


def fragment(section: Section) -> str:
    """What a notebook shows: sentences, pictures, and what was left out; no script."""
    shown, missing = _pictures(section)
    return _template("fragment.html").render(
        section=section, findings=_findings(section), pictures=shown, missing=missing
    )


def _part(index: int, section: Section) -> dict[str, Any]:
    shown, missing = _pictures(section)
    plane = section.datasets.get("surface")
    return {
        "id": f"s{index + 1}",
        "section": section,
        "findings": _findings(section),
        "pictures": shown,
        "missing": missing,
        "surface": interactive(plane, identity=f"plane-{index + 1}") if plane is not None and available() else "",
        "path": plane is not None and "path_step" in plane,
        "hint": HINT if plane is not None and not available() else "",
        "tables": _tables(section),
        "settings": _settings(section),
    }


def _findings(section: Section) -> list[dict[str, Any]]:
    order = list(dict.fromkeys(f.probe for f in section.findings))
    return [
        {
            "text": f.sentence,
            "probe": f.probe,
            "question": _QUESTIONS.get(f.probe, ""),
            "order": order.index(f.probe),
            "trust": f.trust,
            "label": _TRUST[f.trust],
        }
        for f in section.findings
    ]


def _pictures(section: Section) -> tuple[list[Picture], list[Missing]]:
    return pictures({name: [ds] for name, ds in section.datasets.items()}, title=section.title)


def _tables(section: Section) -> list[Table]:
    order = sorted(section.datasets, key=lambda name: name == "metrics")  # which are long and come last
    found = (table_of(name, section.datasets[name]) for name in order)
    return [table for table in found if table is not None]


def _settings(section: Section) -> list[tuple[str, str]]:
    """Of every probe, as they are stored with its answer."""
    rows = []
    for name, ds in section.datasets.items():
        given = json.loads(str(ds.attrs.get("settings", "{}")))
        if given:
            rows.append((name, ", ".join(f"{k}={v}" for k, v in given.items())))
    return rows


def _text(name: str) -> str:
    return files("landscape.report").joinpath(name).read_text(encoding="utf-8")


def _ticks(text: str) -> Markup:
    """Text with what stands between backticks as code; all else is escaped."""
    parts = (Markup("<code>{}</code>") if i % 2 else Markup("{}") for i in range(text.count("`") + 1))
    return Markup("").join(part.format(piece) for part, piece in zip(parts, text.split("`"), strict=True))


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["ticks"] = _ticks
    environment.loader = jinja2.FunctionLoader(_text)
    return environment.get_template(name)
