"""Look through the built site: every link inside it leads somewhere, and no page loads anything from elsewhere.

Links to other sites cannot be followed where there is no network; they are checked to be well-formed.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """What a page links to, what it loads, and the names that can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One element."""
        found = {k: v for k, v in attrs if v is not None}
        self.names |= {found[k] for k in ("id", "name") if k in found}
        if "href" in found and not (tag == "link" and "canonical" in found.get("rel", "")):
            (self.loads if tag == "link" and "stylesheet" in found.get("rel", "") else self.links).append(found["href"])
        if "src" in found:
            self.loads.append(found["src"])


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def faults(site: Path) -> list[str]:
    """What is wrong, a line each."""
    out = []
    for path in sorted(site.rglob("*.html")):
        page, here = _read(path), path.relative_to(site)
        for target in page.loads:
            if urlsplit(target).scheme in ("http", "https") or target.startswith("//"):
                out.append(f"{here} loads {target}")
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https"):
                if "." not in parts.netloc or " " in target:
                    out.append(f"{here}: {target} is no address")
            elif parts.scheme not in ("mailto", "data", "javascript"):
                there = path if not parts.path else (path.parent / unquote(parts.path))
                there = there / "index.html" if there.is_dir() else there
                if not there.exists():
                    out.append(f"{here}: {target} leads nowhere")
                elif parts.fragment and there.suffix == ".html" and unquote(parts.fragment) not in _read(there).names:
                    out.append(f"{here}: {target} names no place")
    return out


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]))
    sys.stderr.write("".join(f"{line}\n" for line in found))
    sys.exit(bool(found))
