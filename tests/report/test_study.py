"""The page of a study."""

import re

from landscape.report.pictures import Picture
from landscape.report.study import study_page

TEXT = """# Findings

See [there](there.md).

## One

- **bold** <b>no tag</b>

| a | b |
| --- | --- |
| 1 | 2 |
"""


def test_the_page_holds_text_tables_and_pictures_and_asks_for_nothing():
    dot = Picture("dot", "data:image/png;base64,AAAA", "a dot", "Figure dot", 100, 50)
    page = study_page(TEXT, {"d = 8": [dot], "none": []})
    assert "<h2>One</h2>" in page
    assert "<strong>bold</strong> &lt;b&gt;no tag&lt;/b&gt;" in page
    assert "there.md" not in page
    assert page.count('role="region" aria-label="table"') == 1
    assert page.count("<img") == 1
    assert "Pictures: d = 8" in page
    assert "Pictures: none" not in page
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
