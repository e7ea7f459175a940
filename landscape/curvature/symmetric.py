"""A symmetric linear operator: all that an eigen-solver may know about a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from landscape.errors import LandscapeError

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["Symmetric"]


class Symmetric:
    r"""A real symmetric operator A of shape (P, P), known through v -> A v, that counts its products.

    Args:
        size: P, the dimension.
        dtype: floating dtype of the vectors.
        mv: function (P,) -> (P,) computing A v. It must be linear and symmetric; this class does not check.
        device: where the vectors live.
        mm: function (P, B) -> (P, B) computing A V where that is cheaper than B single products.
        dense: function () -> (P, P) giving the matrix where that is cheaper than P products.
        error: function () -> largest |error of A v| / |v| measured so far, for products that are not exact.
        strategy: name of the way in which products are computed, where there is a choice.

    Attributes:
        n_products: number of products A v computed so far through this operator.
        strategy: name of the way in which they are computed, "" where there is no choice.

    Raises:
        LandscapeError: if a vector of another shape is given.

    Example:
        >>> import torch
        >>> A = Symmetric.from_dense(torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)))
        >>> A.mv(torch.tensor([1.0, 1.0], dtype=torch.float64)).tolist(), A.n_products
        ([3.0, 1.0], 1)
    """

    def __init__(
        self,
        size: int,
        dtype: torch.dtype,
        mv: Callable[[Tensor], Tensor],
        *,
        device: torch.device | str = "cpu",
        mm: Callable[[Tensor], Tensor] | None = None,
        dense: Callable[[], Tensor] | None = None,
        error: Callable[[], float] | None = None,
        strategy: str = "",
    ) -> None:
        self.size = size
        self.dtype = dtype
        self.device = torch.device(device)
        self.n_products = 0
        self.strategy = strategy
        self._mv = mv
        self._mm = mm
        self._dense = dense
        self._error = error

    @classmethod
    def from_dense(cls, matrix: Tensor) -> Symmetric:
        """Wrap a dense symmetric matrix (P, P)."""
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise LandscapeError(f"expected a square matrix (P, P), found shape {tuple(matrix.shape)}.")
        return cls(matrix.shape[0], matrix.dtype, matrix.mv, mm=matrix.matmul, device=matrix.device)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return (self.size, self.size)

    @property
    def error(self) -> float:
        """Largest error of a product with a unit vector measured so far; 0 if products are exact to rounding."""
        return 0.0 if self._error is None else self._error()

    def mv(self, v: Tensor) -> Tensor:
        """A v for one vector v (P,)."""
        if v.shape != (self.size,):
            raise LandscapeError(
                f"expected a vector of shape ({self.size},) for this operator, found {tuple(v.shape)}. "
                "Multiply one vector at a time, or use `mm` for the columns of a (P, B) matrix."
            )
        self.n_products += 1
        return self._mv(v.to(device=self.device, dtype=self.dtype))

    def mm(self, columns: Tensor) -> Tensor:
        """A V for the columns of V (P, B); B products."""
        if self._mm is None:
            return torch.stack([self.mv(v) for v in columns.T], dim=1)
        if columns.ndim != 2 or columns.shape[0] != self.size:
            raise LandscapeError(f"expected a matrix ({self.size}, B) of columns, found {tuple(columns.shape)}.")
        self.n_products += columns.shape[1]
        return self._mm(columns.to(device=self.device, dtype=self.dtype))

    def dense(self) -> Tensor:
        """The matrix (P, P), 8 P^2 bytes in float64; counts as P products, however it is made."""
        if self._dense is not None:
            self.n_products += self.size
            return self._dense()
        return self.mm(torch.eye(self.size, dtype=self.dtype, device=self.device))

    def rescaled(self, scale: Tensor) -> Symmetric:
        """The operator D A D with D = diag(scale): the same form in coordinates w = D u.

        With scale = filter norms this is the `filter` metric, with scale = (sqrt(v) + eps)^(-1/2) the `adam` one.
        Products are counted by both operators.
        """
        if scale.shape != (self.size,):
            raise LandscapeError(f"expected a scale of shape ({self.size},), found {tuple(scale.shape)}.")
        d = scale.to(device=self.device, dtype=self.dtype)
        mm = None if self._mm is None else lambda V: d[:, None] * self.mm(d[:, None] * V)
        dense = None if self._dense is None else lambda: d[:, None] * self.dense() * d
        error = None if self._error is None else lambda: float(d.max()) ** 2 * self.error
        return Symmetric(
            self.size,
            self.dtype,
            lambda v: d * self.mv(d * v),
            device=self.device,
            mm=mm,
            dense=dense,
            error=error,
            strategy=self.strategy,
        )

    def block(self, mask: Tensor) -> Symmetric:
        """The principal sub-matrix on the True entries of `mask` (P,), e.g. ``layout.mask("blocks.*")``."""
        if mask.shape != (self.size,) or mask.dtype != torch.bool:
            raise LandscapeError(
                f"expected a boolean mask of shape ({self.size},), found {mask.dtype} {tuple(mask.shape)}."
            )
        index = mask.to(self.device).nonzero().squeeze(1)

        def widened(v: Tensor) -> Tensor:
            full = torch.zeros((self.size, *v.shape[1:]), dtype=self.dtype, device=self.device)
            return full.index_copy(0, index, v)

        mm = None if self._mm is None else lambda V: self.mm(widened(V))[index]
        return Symmetric(
            index.numel(),
            self.dtype,
            lambda v: self.mv(widened(v))[index],
            device=self.device,
            mm=mm,
            error=self._error,
            strategy=self.strategy,
        )

    def scipy(self) -> LinearOperator:
        """This operator for SciPy's solvers (vectors pass through host memory)."""
        from scipy.sparse.linalg import LinearOperator

        def matvec(x):  # type: ignore[no-untyped-def]
            v = torch.as_tensor(x.ravel(), dtype=self.dtype, device=self.device)
            return self.mv(v).cpu().numpy()

        dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        return LinearOperator(self.shape, matvec=matvec, rmatvec=matvec, dtype=dtype)

    def __repr__(self) -> str:
        return f"Symmetric(size={self.size}, dtype={self.dtype}, device={self.device}, n_products={self.n_products})"
