"""The page of a study: its findings, and the pictures of every setting, in one file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from markdown_it import MarkdownIt

from landscape.provenance import created, versions
from landscape.report.page import BIBTEX, template, text_of
from landscape.report.pictures import Picture

__all__ = ["study_page"]


def study_page(findings: str, pictures: Mapping[str, Sequence[Picture]] | None = None) -> str:
    r"""One page of HTML that asks for nothing from the network.

    Args:
        findings: in markdown, as `landscape.verdict.findings.findings` writes them; links to other files are left out.
        pictures: by what they show together, such as a setting of the study.

    Example:
        >>> "<h2>All</h2>" in study_page("# Findings\n\n## All\n\nSee [there](there.md).")
        True
    """
    version = versions()["landscape-valleys"]
    plain = re.sub(r"\[([^]\n]+)\]\((?!https?://)[^)\n]+\)", r"\1", findings)
    # Tables are wider than narrow screens: each scrolls by itself.
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(plain)
    html = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>')
    return template("study.html").render(
        title=plain.partition("\n")[0].removeprefix("# "),
        text=html.replace("</table>", "</table></div>"),
        groups=[{"title": title, "pictures": list(found)} for title, found in (pictures or {}).items() if found],
        style=text_of("style.css"),
        made=created(),
        version=version,
        bibtex=BIBTEX.replace("VERSION", version),
    )
