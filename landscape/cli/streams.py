"""What is written where the output takes fewer signs than ours: a code page of Windows, plain ASCII."""

from __future__ import annotations

import codecs
import io
import sys

__all__ = ["plain_where_needed"]

PLAIN = {"–": "-", "−": "-", "±": "+-", "→": "->", "λ": "lambda", "₁": "1"}
"""How our signs are written where the output can have no others than those of ASCII or of a code page."""


def plain_where_needed() -> None:
    """Let no sign that the encoding of the output lacks end a command: it is written in plain letters, or as `?`."""

    def written(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return "".join(PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end

    codecs.register_error("landscape-plain", written)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not what a test or a notebook puts there
            stream.reconfigure(errors="landscape-plain")
