import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh

from landscape import LandscapeError, Symmetric

g = torch.Generator().manual_seed(0)
M = torch.randn(7, 7, generator=g, dtype=torch.float64)
A = M + M.T


def test_dense_is_the_matrix_and_counts_its_products():
    op = Symmetric.from_dense(A)
    assert torch.allclose(op.dense(), A)
    assert op.n_products == 7


def test_rescaled_is_DAD():
    d = torch.rand(7, generator=g, dtype=torch.float64)
    op = Symmetric.from_dense(A)
    assert torch.allclose(op.rescaled(d).dense(), torch.diag(d) @ A @ torch.diag(d))
    assert op.n_products == 7


def test_block_is_the_principal_submatrix():
    mask = torch.tensor([True, False, True, True, False, False, True])
    block = Symmetric.from_dense(A).block(mask)
    assert block.size == 4
    assert torch.allclose(block.dense(), A[mask][:, mask])


def test_scipy_view_gives_the_same_eigenvalues():
    op = Symmetric.from_dense(A)
    found = eigsh(op.scipy(), k=2, which="LA", return_eigenvectors=False)
    assert np.allclose(np.sort(found), np.linalg.eigvalsh(A.numpy())[-2:])
    assert op.n_products > 0


def test_mm_multiplies_columns():
    V = torch.randn(7, 3, generator=g, dtype=torch.float64)
    assert torch.allclose(Symmetric.from_dense(A).mm(V), A @ V)


@pytest.mark.parametrize("shape", [(6,), (7, 1)])
def test_wrong_vector_is_refused(shape):
    with pytest.raises(LandscapeError, match=r"expected a vector of shape \(7,\)"):
        Symmetric.from_dense(A).mv(torch.zeros(shape, dtype=torch.float64))


def test_non_square_matrix_is_refused():
    with pytest.raises(LandscapeError, match="square"):
        Symmetric.from_dense(torch.zeros(2, 3))
