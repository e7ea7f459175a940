"""Language modelling on a text file that the user names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.settings import lookup
from landscape.tasks.base import FixedTask, Split, as_tokens

__all__ = ["TextConfig", "TextTask"]

UNITS = ("character", "byte")
Codes = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Settings of a text.

    Attributes:
        path: the file; stored as an absolute path.
        unit: what a token is, "character" (of UTF-8 text) or "byte" (of any file).
        length: scored tokens per window; one more is given as a start.
        train_share: the training part is the first so much of the tokens, the rest is the test part.
        n_train: training windows, None for all of them.
        n_probe: the first n_probe training windows are the probe split.
        n_test: windows of the test split.
        seed: of the order in which windows are taken.
        fingerprint: 16 hexadecimal digits of the file's SHA-256, computed when it is left out. A run keeps it, so that
            a file that was changed since is refused.

    Raises:
        LandscapeError: for a setting out of range, or a file that cannot be read.
    """

    name: str = "text"
    path: str
    unit: str = "character"
    length: int = 64
    train_share: float = 0.9
    n_train: int | None = None
    n_probe: int = 256
    n_test: int = 256
    seed: int = 0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for field, least in {"length": 1, "n_probe": 1, "n_test": 1, "seed": 0}.items():
            if not least <= getattr(self, field) < 2**63:
                raise LandscapeError(f"expected task.{field} >= {least}, found {getattr(self, field)}.")
        lookup(dict.fromkeys(UNITS), self.unit, kind="task.unit")
        if not 0 < self.train_share < 1:
            raise LandscapeError(f"expected task.train_share between 0 and 1, found {self.train_share}.")
        if self.n_train is not None and self.n_train < self.n_probe:
            raise LandscapeError(f"expected n_probe <= n_train, found {self.n_probe} > {self.n_train}.")
        object.__setattr__(self, "path", str(Path(self.path).expanduser().absolute()))
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", _fingerprint(_read(self.path)))


class TextTask(FixedTask):
    r"""Predict the next token of a text, in windows that cover it without overlap.

    A window has `length` scored tokens and the one before them; the last token of a window is the start of the next.
    The vocabulary is what occurs in the training part, in the order of code points, and one more token for everything
    else. The test part is the end of the file. The file is read when its content is first needed.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        ...     _ = file.write("abcd" * 100)
        ...     file.flush()
        ...     task = TextTask(TextConfig(path=file.name, length=8, n_probe=4, n_test=4))
        ...     task.decode(task.split("probe").inputs[0])[:4] in "abcdabcd", task.vocabulary
        (True, 5)
    """

    families: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self.length = config.length
        self.bayes_loss = np.full(1, np.nan)
        self.bayes_accuracy = np.full(1, np.nan)

    @cached_property
    def vocabulary(self) -> int:  # type: ignore[override]  # a cached property can be set, which mypy does not know
        """Number of tokens, the unknown one included."""
        return len(self._symbols) + 1

    @property
    def unknown(self) -> int:
        """The token for what does not occur in the training part."""
        return self.vocabulary - 1

    def decode(self, tokens: Tensor) -> str:
        """The text of tokens; an unknown one is shown as U+FFFD."""
        codes = np.append(self._symbols, 0xFFFD)[tokens.cpu().numpy()].astype(np.uint32)
        return str(codes.astype("<u4").tobytes(), "utf-32-le")

    @cached_property
    def _codes(self) -> tuple[Codes, Codes]:
        """Code points or bytes of the training part and of the test part."""
        c = self.config
        content = _read(c.path)
        if (found := _fingerprint(content)) != c.fingerprint:
            raise LandscapeError(
                f"expected the text whose SHA-256 begins with {c.fingerprint}, found another content of {c.path} "
                f"({found}). Put the file back as it was, or train a new run on the new text."
            )
        codes: Codes = (
            np.frombuffer(content, np.uint8).astype(np.uint32) if c.unit == "byte" else _characters(content, c.path)
        )
        cut = int(len(codes) * c.train_share)
        needed = {"train": c.n_train or c.n_probe, "test": c.n_test}
        parts = {"train": codes[:cut], "test": codes[cut:]}
        for name, part in parts.items():
            if (windows := max(0, len(part) - 1) // c.length) < needed[name]:
                raise LandscapeError(
                    f"expected at least {needed[name]} windows of {c.length} tokens in the {name} part of {c.path}, "
                    f"found {windows} ({len(part)} tokens). Give a longer text, or lower task.length or task.n_"
                    f"{'probe' if name == 'train' and c.n_train is None else name}."
                )
        return parts["train"], parts["test"]

    @cached_property
    def _symbols(self) -> Codes:
        return np.unique(self._codes[0])

    @cached_property
    def _train(self) -> Split:
        return self._windows(self._codes[0], self.config.n_train, stream=1)

    @cached_property
    def _test(self) -> Split:
        return self._windows(self._codes[1], self.config.n_test, stream=2)

    def _windows(self, codes: Codes, count: int | None, *, stream: int) -> Split:
        """The first `count` windows in random order, so that every head of a split is spread over its part."""
        length = self.length
        order = np.random.default_rng([self.config.seed, stream]).permutation((len(codes) - 1) // length)[:count]
        rows = codes[order[:, None] * length + np.arange(length + 1)]
        tokens = np.searchsorted(self._symbols, rows).clip(max=len(self._symbols) - 1)
        tokens = as_tokens(np.where(self._symbols[tokens] == rows, tokens, self.unknown))
        family = np.zeros(len(order), dtype=np.int64)
        return Split(tokens[:, :-1], tokens[:, 1:], family, np.full(len(order), np.nan))


def _read(path: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise LandscapeError(f"expected a text file at {path}: {error.strerror or error}. Set task.path.") from error
    if not content:
        raise LandscapeError(f"expected a text at {path}, found an empty file.")
    return content


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _characters(content: bytes, path: str) -> Codes:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LandscapeError(
            f"expected UTF-8 text in {path}, found byte 0x{content[error.start]:02x} at position {error.start}. "
            "Convert the file, or set task.unit=byte."
        ) from error
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint32)
