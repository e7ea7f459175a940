"""Output that goes elsewhere than to a modern terminal stays readable."""

import io
import sys

import pytest

from landscape.cli.console import Table, progress_bars, show_table
from landscape.cli.streams import plain_where_needed

WIDE = Table(
    "title", ["run", *("a long column" for _ in range(12))], [["name" * 9, *("0.123456789" for _ in range(12))]]
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", "0.5 +- 0.1 - lambda1 -> ?"), ("cp1252", "0.5 ± 0.1 – lambda1 -> ü"), ("utf-8", "0.5 ± 0.1 – λ₁ → ü")],
)
def test_signs_that_the_output_lacks_are_written_plainly(monkeypatch, encoding, expected):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    plain_where_needed()
    sys.stdout.write("0.5 ± 0.1 – λ₁ → ü")
    assert raw.getvalue().decode(encoding) == expected


def test_a_table_in_ascii_has_lines_of_ascii(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    plain_where_needed()
    show_table(Table("loss ± error", ["run", "loss"], [["a", "0.5 ± 0.1"]]))
    assert "0.5 +- 0.1" in raw.getvalue().decode("ascii")
    assert "---" in raw.getvalue().decode("ascii")
    assert "?" not in raw.getvalue().decode("ascii")


@pytest.mark.parametrize("kind", ["dumb", "xterm", "unknown"])
def test_no_number_is_cut_on_any_terminal(monkeypatch, kind):
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", Terminal())
    show_table(WIDE)
    out = sys.stdout.getvalue()
    assert out.count("0.123456789") == 12
    assert "…" not in out
    assert "\x1b[3" not in out.replace("\x1b[3m", "")  # slanted, but in no colour


def test_no_colour_and_no_control_code_outside_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    show_table(WIDE)
    assert "\x1b" not in sys.stdout.getvalue()


def test_progress_on_a_dumb_terminal_is_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bars(quiet=False) as bars:
        bars.update("probing", 1, 2)
        bars.update("probing", 2, 2, "note")
    assert sys.stderr.getvalue() == "probing: 2/2 note (0 s)\n"
