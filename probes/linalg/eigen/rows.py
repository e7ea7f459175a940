"""Where the vectors of a Krylov method lie: the rows of one matrix, combined in place."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["Rows", "columns"]

BLOCK = 2**18
"""Numbers of the copy that a combination in place makes at a time: a megabyte in float32."""


class Rows:
    r"""Vectors w_i as rows (n, P), and where asked their images A w_i, for as many of them as are multiplied.

    Nothing but `combine` moves a vector, and it needs no second matrix: what a method holds is the capacity, with
    images twice that.

    Args:
        size: P.
        like: an empty tensor of the dtype and on the device of the vectors.
        capacity: number of rows that there is room for.
        fixed: whether it stays so; else it doubles when it is used up, for which both matrices exist for a moment.
        images: keep images too.

    Attributes:
        n: number of rows in use.
        work: a vector (P,) for the next row to be made in.
    """

    def __init__(self, size: int, like: Tensor, *, capacity: int = 16, fixed: bool = False, images: bool = False):
        self.n = 0
        self.fixed = fixed
        self._rows = torch.empty((capacity, size), dtype=like.dtype, device=like.device)
        self.work = self._rows.new_empty(size)
        self._images = torch.empty_like(self._rows) if images else None

    @property
    def capacity(self) -> int:
        """Rows that there is room for at present."""
        return self._rows.shape[0]

    @property
    def full(self) -> bool:
        """Whether no further row finds room."""
        return self.fixed and self.n == self.capacity

    @property
    def has_images(self) -> bool:
        """Whether images are kept."""
        return self._images is not None

    def head(self, n: int) -> Tensor:
        """The first n rows, a view."""
        return self._rows[:n]

    def put(self, vector: Tensor, length: float, index: int | None = None) -> int:
        """Copy a vector (P,) over its length behind the last row, or in place of row `index`; where it went."""
        if index is None:
            if self.n == self.capacity:
                grown = self._rows.new_empty((2 * self.n, self._rows.shape[1]))
                grown[: self.n] = self._rows
                self._rows = grown
            index = self.n
            self.n += 1
        torch.div(vector, length, out=self._rows[index])
        return index

    def keep(self, index: int, image: Tensor) -> None:
        """Note the image of a row, where images are kept."""
        if self._images is not None:
            self._images[index] = image

    def image(self, weights: Tensor) -> Tensor | None:
        """A times combinations (..., n) of the first n rows, from the products made; None where they are not kept."""
        return None if self._images is None else weights @ self._images[: weights.shape[-1]]

    def combine(self, weights: Tensor) -> None:
        """Put combinations (p, n) of the first n rows in place of the first p; the rows from n on stay where they are.

        So do the images. `n` is then p.
        """
        p, n = weights.shape
        for matrix in (self._rows, self._images):
            for part in () if matrix is None else columns(matrix, p):
                part[:p] = weights @ part[:n]
        self.n = p


def columns(matrix: Tensor, height: int) -> Iterator[Tensor]:
    """Views of a matrix (m, P), some columns each, such that `height` rows of them are small."""
    return iter(torch.split(matrix, max(1, BLOCK // max(height, 1)), dim=1))
