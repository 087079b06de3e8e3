"""Operators are projected as their matrices are, by n products each and without one of them formed."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import diags_array
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from clarke import limiting_hessians, operator_hulls
from clarke.projection import (
    blockwise_min_norm,
    contains,
    eigenvalue_interval,
    min_norm_element,
    nearest_element,
    prove_nearest,
    support,
)

law = settings(deadline=None, max_examples=50)
EPS = np.finfo(float).eps


@st.composite
def stacks(draw):
    m, p, n = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return draw(arrays(float, (m, p, n), elements=st.integers(-16, 16).map(lambda k: k / 4)))


def counted(A, log):
    def product(X):
        log.append(X.shape[1])
        return A @ X

    return LinearOperator(A.shape, matvec=lambda v: A @ v, matmat=product, rmatmat=lambda X: A.T @ X, dtype=float)


def near(A):
    return 1e-7 * (np.abs(A).max() + 1) * np.sqrt(A[0].size)  # sqrt(gap) bounds the element


@law
@given(stacks(), st.data())
def test_operators_give_what_their_matrices_give(A, data):
    ops = [aslinearoperator(a) for a in A]
    T = data.draw(arrays(float, A[0].shape, elements=st.integers(-16, 16).map(lambda k: k / 4)))
    for ours, listed in (
        (min_norm_element(ops), min_norm_element(A)),
        (nearest_element(ops, T), nearest_element(A, T)),
    ):
        assert isinstance(ours.element, LinearOperator)
        assert ours.gap <= 1e-14
        assert np.abs(ours.element.matmat(np.eye(A.shape[2])) - listed.element).max() <= near(A)
        assert np.abs(ours.element.rmatmat(np.eye(A.shape[1])).T - listed.element).max() <= near(A)
        assert abs(ours.distance - listed.distance) <= near(A)
    operator = nearest_element(ops, aslinearoperator(T))
    assert abs(operator.distance - nearest_element(A, T).distance) <= near(A)
    assert contains(ops, A.mean(axis=0), near(A))
    assert support(ops, T) == pytest.approx(support(A, T), abs=100 * EPS * 256 * A.size)
    assert support(ops, aslinearoperator(T)) == support(ops, T)


@pytest.mark.parametrize("held", [1, 40, 2**22])
def test_every_operator_is_multiplied_with_n_columns_however_few_are_held(held, monkeypatch):
    monkeypatch.setattr(operator_hulls, "HELD", held)
    A = np.random.default_rng(0).standard_normal((4, 9, 7)) + 0.3
    log = []
    r = min_norm_element([counted(a, log) for a in A])
    assert sum(log) == 4 * 7
    assert max(log) <= max(1, held // (4 * 9))
    assert np.abs(r.element.matmat(np.eye(7)) - min_norm_element(A).element).max() <= 1e-12


def test_no_digit_is_lost_to_a_gram_matrix():
    """The hull of A + e D and -A - e D' holds points of norm e: a Gram matrix would see 0 below sqrt(eps)."""
    rng = np.random.default_rng(1)
    A, D = rng.standard_normal((12, 12)), rng.standard_normal((12, 12))
    stack = np.array([A + 1e-11 * D, -A])
    r = min_norm_element([aslinearoperator(a) for a in stack])
    assert r.distance == pytest.approx(min_norm_element(stack).distance, rel=1e-3)
    assert r.distance > 1e-12


def test_nothing_n_by_n_is_held():
    n, m = 1500, 3
    diagonals = np.random.default_rng(2).uniform(1, 2, (m, n))
    ops = [aslinearoperator(diags_array(d).tocsr()) for d in diagonals]
    limit = operator_hulls.HELD
    try:
        operator_hulls.HELD = 2**14
        tracemalloc.start()
        r = min_norm_element(ops)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        operator_hulls.HELD = limit
    assert peak < n * n  # bytes: an eighth of one matrix
    listed = min_norm_element(diagonals)
    assert r.distance == pytest.approx(listed.distance, rel=1e-12)
    assert np.abs(r.weights - listed.weights).max() <= 1e-9


def test_the_operators_of_a_limiting_set_give_its_minimum_norm_element():
    import autograd.numpy as anp

    found = limiting_hessians(lambda x: anp.maximum(x[0], 0) ** 2 + 2 * anp.abs(x[1]) * x[1] + x[0] * x[1], np.zeros(2))
    r = min_norm_element([found.operator(i) for i in range(len(found))])
    assert r.distance == pytest.approx(min_norm_element(found).distance, rel=1e-12)
    assert r.reason == "the elements were given as operators"


def test_an_element_without_weight_is_never_called_again():
    A = np.array([np.eye(2), 5 * np.eye(2)])
    log = []
    ops = [aslinearoperator(A[0]), counted(A[1], log)]
    r = min_norm_element(ops)
    log.clear()
    assert (r.element @ np.ones(2) == 1).all()
    assert r.method == "vertex"
    assert not log
    assert prove_nearest(ops, r).proved is None


def bad(dtype=float, value=1.0):
    return LinearOperator((2, 2), matvec=lambda v: value * v, matmat=lambda X: value * X, dtype=dtype)


I2 = aslinearoperator(np.eye(2))
REFUSED = [
    (lambda: min_norm_element([I2, aslinearoperator(np.eye(3))]), r"one shape.*\[\(2, 2\), \(3, 3\)\]"),
    (lambda: min_norm_element([I2, "hull"]), r"elements\[1\] must be a LinearOperator.*got str"),
    (lambda: min_norm_element([I2, bad(complex)]), r"elements\[1\] must be real.*complex128"),
    (lambda: min_norm_element([I2, bad(value=np.nan)]), r"elements\[1\] gave NaN or infinity"),
    (lambda: nearest_element([I2], bad(value=np.nan)), "target gave NaN or infinity in a product"),
    (lambda: support([I2], bad(value=np.nan)), "direction gave NaN or infinity in a product"),
    (lambda: nearest_element([I2], aslinearoperator(np.eye(3))), r"target must have the shape \(2, 2\).*got \(3, 3\)"),
    (lambda: nearest_element([I2], np.eye(3)), r"target must have the shape \(2, 2\).*got \(3, 3\)"),
    (lambda: support([I2], np.eye(3)), r"direction must have the shape \(2, 2\)"),
    (lambda: eigenvalue_interval([I2]), r"hessians must be matrices \(m, n, n\) here; got LinearOperators"),
    (lambda: blockwise_min_norm([I2], [2]), r"hessians must be matrices \(m, n, n\) here; got LinearOperators"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
