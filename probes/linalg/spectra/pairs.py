"""What two symmetric matrices have in common: mutual information, and angles between their eigenspaces."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.probes.linalg.spectra.atoms import Atoms
from landscape.probes.linalg.spectra.entropy import shape_statistics

__all__ = ["matrix_entropy", "mutual_information", "principal_angles"]


def matrix_entropy(matrix: Tensor) -> float:
    r"""S = -sum p_i log p_i in nats with p_i = |lam_i| / sum |lam|, of a symmetric matrix (P, P); NaN if it is zero.

    Source:
        Roy, Vetterli, The effective rank (EUSIPCO 2007).

    Example:
        >>> round(matrix_entropy(torch.eye(4)), 6)  # log 4
        1.386294
    """
    return float(shape_statistics(Atoms.of_values(torch.linalg.eigvalsh(matrix)))["entropy"][0])


def mutual_information(a: Tensor, b: Tensor) -> float:
    r"""I = S(A) + S(B) - S(A o B / tr(A o B)) in nats, of positive semi-definite matrices A, B (P, P) of trace 1.

    S is the matrix entropy, o the entrywise product. NaN if A o B is zero.

    Source:
        Sanchez Giraldo, Rao, Principe (IEEE Trans. Inf. Theory 61, 2015), for order 1.

    Example:
        >>> round(mutual_information(torch.eye(4) / 4, torch.eye(4) / 4), 6)  # log 4
        1.386294
    """
    return matrix_entropy(a) + matrix_entropy(b) - matrix_entropy(a * b)


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    r"""Principal angles (k,) between the spans of the orthonormal columns of a and b (P, k), ascending, in radians.

    Large angles from their cosines, the singular values of a'b; small ones, which cosines cannot tell apart, from their
    sines, those of b - a a'b.

    Source:
        Bjorck, Golub, Numerical methods for computing angles between linear subspaces, Math. Comp. 27 (1973).

    Example:
        >>> principal_angles(torch.eye(3)[:, :2], torch.eye(3)[:, 1:]).tolist()  # one axis in common
        [0.0, 1.5707963705062866]
    """
    inner = a.T @ b
    cosine = torch.linalg.svdvals(inner).clamp(max=1.0)
    sine = torch.linalg.svdvals(b - a @ inner).flip(0).clamp(max=1.0)
    return torch.where(cosine**2 < 0.5, cosine.acos(), sine.asin())
