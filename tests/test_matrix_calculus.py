"""Symmetrization: the identity on limiting Hessians, a projection elsewhere."""

import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarke.limiting import limiting_hessians
from clarke.matrix_calculus import symmetrize
from clarke.projection import min_norm_element

matrices = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.floats(-1e3, 1e3), min_size=n * n, max_size=n * n).map(lambda v: np.reshape(v, (n, n)))
)


@given(matrices, matrices)
def test_it_is_the_orthogonal_projection_on_symmetric_matrices(H, M):
    P = symmetrize(H)
    assert np.array_equal(P, P.T)
    assert np.array_equal(symmetrize(P), P)
    if M.shape == H.shape:
        symmetric = M + M.T
        bound = 1e-12 * (1 + np.abs(H).max()) * (1 + np.abs(symmetric).max())
        assert abs(np.sum((H - P) * symmetric)) <= bound


def test_blocks_and_stacks_are_symmetrized_by_the_same_map():
    H = np.random.default_rng(0).normal(size=(3, 5, 5))
    v, w = slice(0, 2), slice(2, 5)
    block = (H[:, v, w] + H[:, w, v].swapaxes(1, 2)) / 2
    assert np.array_equal(symmetrize(H)[:, v, w], block)


def kinked(x):
    """Weights of a small ReLU regression; every unit is at its kink at x = (1, 1, 1, 1)."""
    hidden = anp.maximum(anp.array([x[0] - x[1], x[1] - x[0]]), 0.0)
    return (x[2] * hidden[0] + x[3] * hidden[1] - 1.0) ** 2 / 2


def test_it_is_the_identity_on_every_limiting_hessian_and_on_the_element_of_least_norm():
    found = limiting_hessians(kinked, np.ones(4))
    assert len(found.matrices) == 2
    assert np.array_equal(symmetrize(found.matrices), found.matrices)
    least = min_norm_element(found.matrices).element
    assert np.abs(symmetrize(least) - least).max() <= 1e-15 * np.abs(found.matrices).max()


def test_symmetrizing_an_asymmetric_matrix_changes_its_spectrum():
    assert np.allclose(np.linalg.eigvalsh(symmetrize([[0, 2], [0, 0]])), [-1, 1])


def test_what_is_not_a_square_real_matrix_is_refused():
    with pytest.raises(ValueError, match="square in its last two axes; got shape \\(2, 3\\)"):
        symmetrize(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="got shape \\(3,\\)"):
        symmetrize(np.zeros(3))
    with pytest.raises(ValueError, match="real numbers; got dtype complex"):
        symmetrize(np.eye(2) * 1j)


def test_what_is_given_is_left_alone():
    H = np.array([[1.0, 2.0], [0.0, 1.0]])
    symmetrize(H)[0, 0] = 9.0
    assert H.tolist() == [[1, 2], [0, 1]]
