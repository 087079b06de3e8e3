"""Laws of vec and its matrices; symmetrization; and that derivatives are checked without being fooled."""

from itertools import product

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given
from hypothesis import strategies as st

from clarke.limiting import limiting_hessians
from clarke.matrix_calculus import (
    check_gradient,
    check_hessian,
    commutation,
    duplication,
    elimination,
    rvec,
    symmetrize,
    unrvec,
    unvec,
    unvech,
    vec,
    vech,
)
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


# ---------------------------------------------------------------- vectors

sizes = st.integers(1, 4)


def whole(seed, *shape):
    """Small integers as floats: every sum below is exact."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(float)


def unit(n, k):
    return np.eye(n)[k]


@given(sizes, sizes, st.integers(0, 99))
def test_vec_stacks_columns_and_rvec_rows(m, n, seed):
    A = whole(seed, m, n)
    assert vec(A).tolist() == [A[i, j] for j in range(n) for i in range(m)]
    assert rvec(A).tolist() == [A[i, j] for i in range(m) for j in range(n)]
    assert np.array_equal(rvec(A), vec(A.T))
    assert np.array_equal(unvec(vec(A), (m, n)), A)
    assert np.array_equal(unrvec(rvec(A), (m, n)), A)


@given(sizes, sizes, sizes, sizes, st.integers(0, 99))
def test_a_product_is_a_kronecker_product_of_vectors(m, n, p, q, seed):
    A, X, B = whole(seed, m, n), whole(seed + 1, n, p), whole(seed + 2, p, q)
    assert np.array_equal(vec(A @ X @ B), np.kron(B.T, A) @ vec(X))
    assert np.array_equal(rvec(A @ X @ B), np.kron(A, B.T) @ rvec(X))
    C = whole(seed + 3, n, p)
    assert vec(X) @ vec(C) == np.trace(X.T @ C)


def test_stacks_of_matrices_are_vectorized_one_by_one_and_copied():
    A = whole(0, 2, 3, 4, 4)
    S = A + A.swapaxes(-1, -2)
    for to, back, B in (
        (vec, lambda v: unvec(v, (4, 4)), A),
        (rvec, lambda v: unrvec(v, (4, 4)), A),
        (vech, unvech, S),
    ):
        v = to(B)
        assert v.shape[:2] == (2, 3)
        assert all(np.array_equal(v[k], to(B[k])) for k in product(range(2), range(3)))
        assert np.array_equal(back(v), B)
        back(v)[:] = 0
        assert np.array_equal(back(v), B)
        before = B.copy()
        v[:] = 0
        assert np.array_equal(B, before)


# ---------------------------------------------------------------- commutation, duplication, elimination


@given(sizes, sizes, st.integers(0, 99))
def test_the_commutation_matrix_is_the_permutation_that_transposes(m, n, seed):
    K, A = commutation(m, n), whole(seed, m, n)
    assert isinstance(K, sparse.sparray)
    assert np.array_equal(K @ vec(A), vec(A.T))
    twin = np.zeros((m * n, m * n))  # Magnus & Neudecker's definition: the sum of E_ij kron E_ij^T
    for i, j in product(range(m), range(n)):
        E = np.outer(unit(m, i), unit(n, j))
        twin += np.kron(E, E.T)
    assert np.array_equal(K.toarray(), twin)
    assert np.array_equal((K.T @ K).toarray(), np.eye(m * n))
    assert np.array_equal(K.T.toarray(), commutation(n, m).toarray())


@given(sizes, sizes, sizes, sizes, st.integers(0, 99))
def test_commutation_matrices_exchange_the_factors_of_a_kronecker_product(m, n, p, q, seed):
    A, B = whole(seed, m, n), whole(seed + 1, p, q)
    assert np.array_equal(commutation(p, m) @ np.kron(A, B) @ commutation(n, q), np.kron(B, A))


@given(sizes, st.integers(0, 99))
def test_duplication_and_elimination_are_inverse_on_symmetric_matrices(n, seed):
    D, L, A = duplication(n), elimination(n), whole(seed, n, n)
    S, k = A + A.T, n * (n + 1) // 2
    assert isinstance(D, sparse.sparray)
    assert isinstance(L, sparse.sparray)
    assert D.shape == (n * n, k)
    assert L.shape == (k, n * n)
    assert np.array_equal(D @ vech(S), vec(S))
    assert np.array_equal(L @ vec(A), vech(A))
    assert vech(A).tolist() == [A[i, j] for j in range(n) for i in range(j, n)]
    assert np.array_equal(unvech(vech(S)), S)
    assert np.array_equal((L @ D).toarray(), np.eye(k))
    assert np.array_equal((L @ L.T).toarray(), np.eye(k))
    assert np.array_equal((D.T @ D).toarray(), np.diag(vech(2 - np.eye(n))))
    assert np.array_equal((commutation(n, n) @ D).toarray(), D.toarray())
    twin = np.zeros((k, n * n))  # the sum over i >= j of u_ij vec(E_ij)^T
    below = [(i, j) for j in range(n) for i in range(j, n)]
    for row, (i, j) in enumerate(below):
        twin[row] = np.kron(unit(n, j), unit(n, i))
    assert np.array_equal(L.toarray(), twin)
    averaged = twin + (commutation(n, n).T @ twin.T).T
    averaged[averaged == 2] = 1
    assert np.array_equal(D.toarray(), averaged.T)


@given(sizes, st.integers(0, 99))
def test_the_weighted_half_keeps_norms_and_inner_products(n, seed):
    A, B = whole(seed, n, n), whole(seed + 1, n, n)
    S, T = A + A.T, B + B.T
    D = duplication(n, weighted=True)
    v = vech(S, weighted=True)
    scale = 1e-14 * (1 + np.sum(np.abs(S)) * np.abs(T).max())
    assert abs(v @ vech(T, weighted=True) - np.sum(S * T)) <= scale
    assert np.linalg.norm(v) == pytest.approx(np.linalg.norm(S), rel=1e-15)
    assert np.allclose(unvech(v, weighted=True), S, rtol=1e-15, atol=0)
    assert np.abs(D @ v - vec(S)).max() <= 1e-14 * (1 + np.abs(S).max())
    assert np.abs((D.T @ D).toarray() - np.eye(D.shape[1])).max() <= 1e-15
    assert np.abs(D @ (D.T @ vec(A)) - vec(symmetrize(A))).max() <= 1e-14 * (1 + np.abs(A).max())


def test_without_weights_the_element_of_least_norm_is_another_one():
    """Pitfall 9: over conv{diag(1, 0), [[0, 1], [1, 0]]} the weights are (2, 1) / 3, not (1, 1) / 2."""
    first, second = np.diag([1.0, 0.0]), np.array([[0.0, 1.0], [1.0, 0.0]])
    hull = np.stack([first, second])
    least = min_norm_element(hull).element
    assert np.allclose(least, (2 * first + second) / 3)
    found = [min_norm_element(vech(hull, weighted=w)).element for w in (True, False)]
    assert np.allclose(unvech(found[0], weighted=True), least)
    assert np.allclose(unvech(found[1]), (first + second) / 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vec(np.zeros(3)), r"A must be a matrix, or a stack of them \(..., m, n\); got shape \(3,\)"),
        (lambda: rvec([[1j]]), "A must hold real numbers; got dtype complex128"),
        (lambda: vech(np.zeros((2, 3))), r"A must be square in its last two axes; got shape \(2, 3\)"),
        (lambda: vech([["a"]]), "A must hold real numbers; got dtype <U1"),
        (lambda: vech([[0, 1], [2, 0]], weighted=True), "keeps the norm of symmetric matrices only, and A is not"),
        (lambda: unvec(np.zeros(5), (2, 3)), r"v has 5 entries, a matrix of shape \(2, 3\) has 6"),
        (lambda: unrvec(np.zeros(6), 6), r"shape must be \(m, n\); got 6"),
        (lambda: unvec(np.zeros(6), (2, 3.0)), "n must be a positive integer; got"),
        (lambda: unvec(1.0, (1, 1)), r"v must be a vector, or a stack of them \(..., k\); got a scalar"),
        (lambda: unvec([1j], (1, 1)), "v must hold real numbers; got dtype complex128"),
        (lambda: unvech(np.zeros(4)), r"v must have n \(n \+ 1\) / 2 entries, n >= 1: 1, 3, 6, 10, ...; got 4"),
        (lambda: unvech(np.zeros(0)), "got 0"),
        (lambda: commutation(0, 2), "m must be a positive integer; got 0"),
        (lambda: commutation(2, 1.5), "n must be a positive integer; got 1.5"),
        (lambda: duplication(-1), "n must be a positive integer; got -1"),
        (lambda: elimination("2"), "n must be a positive integer; got '2'"),
    ],
)
def test_what_is_no_matrix_vector_or_length_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- derivatives checked


def smooth(seed):
    """(f, gradient, Hessian, x) of a random smooth function, its derivatives by autograd."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    A, b, c = rng.standard_normal((3, n)), 10.0 ** rng.uniform(-3, 3), rng.standard_normal(n)

    def f(x):
        y = anp.dot(A, x)
        return b * anp.sum(anp.sin(y) * anp.exp(-(y**2))) + anp.dot(c, x) ** 3 / (1 + anp.dot(x, x))

    return f, autograd.grad(f), autograd.hessian(f), rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 1)


@pytest.mark.parametrize("method", ["complex step", "differences"])
@pytest.mark.parametrize("seed", range(15))
def test_a_right_derivative_agrees_and_one_wrong_by_twice_the_tolerance_does_not(seed, method):
    f, gradient, hessian, x = smooth(seed)
    for check, derivative in ((check_gradient, gradient), (check_hessian, hessian)):
        found = check(f, derivative, x, method=method)
        assert found, found
        assert found.method == method
        right = derivative(x)
        size = np.abs(right).max() + np.abs(f(x)) + np.abs(f(x + 0.1) - f(x))
        assert found.tolerance <= (1e-9 if check is check_gradient else 1e-6) * size
        wrong = right.copy()
        wrong.flat[-1] += 3 * np.max(
            [check(f, right, x, method=method).tolerance, 1e-8 * size * (1 + 1e3 * (right.ndim - 1))]
        )
        refused = check(f, wrong, x, method=method)
        assert not refused, refused
        assert refused.error > refused.tolerance
        assert not refused.kinks


def test_the_worst_entry_is_named_and_the_reference_handed_over():
    f = lambda x: x[0] * x[1] ** 2  # noqa: E731
    x = np.array([2.0, 3.0])
    found = check_gradient(f, [9.0, 12.5], x)
    assert (found.agrees, found.worst, found.method) == (False, (1,), "complex step")
    assert found.error == pytest.approx(0.5)
    assert np.allclose(found.reference, [9, 12], rtol=1e-15)
    assert repr(found).startswith("DerivativeCheck(agrees=False, complex step: error 5.0e-01, tolerance ")
    assert check_hessian(f, [[0, 6], [6, 4.5]], x).worst == (1, 1)


def test_arrays_of_any_shape_are_checked():
    A = np.arange(6.0).reshape(2, 3) / 7
    B = np.array([[0.3, -1.0], [0.7, 0.2], [1.1, -0.4]])
    f = lambda X: A @ X @ A @ X  # noqa: E731
    jacobian = autograd.jacobian(lambda X: anp.dot(anp.dot(A, X), anp.dot(A, X)))
    hessian = autograd.jacobian(jacobian)
    for method in ("complex step", "differences"):
        assert check_gradient(f, jacobian, B, method=method)
        assert check_hessian(f, hessian, B, method=method)
    assert check_gradient(jacobian, hessian, B)
    assert check_gradient(np.sin, np.cos, 0.3)
    assert check_hessian(np.sin, lambda x: -np.sin(x), 0.3)


@pytest.mark.parametrize(
    ("f", "gradient"),
    [
        (lambda x: np.linalg.norm(x), lambda x: x / np.linalg.norm(x)),  # |z|, whose imaginary part is 0
        (lambda x: np.sum(np.abs(x) ** 2), lambda x: 2 * x),
        (lambda x: np.vdot(x, x), lambda x: 2 * x),
        (lambda x: float(np.sum(np.real(x) ** 2)), lambda x: 2 * x),
        (lambda x: sum(float(v) ** 2 for v in x), lambda x: 2 * x),  # refuses complex numbers
        (lambda x: np.linalg.svd(np.diag(x) + 1, compute_uv=False)[0], None),
    ],
)
def test_a_function_that_is_not_analytic_is_not_judged_by_its_complex_step(f, gradient):
    x = np.array([0.7, -1.2, 2.0])
    if gradient is None:
        U, _, Vt = np.linalg.svd(np.diag(x) + 1)
        gradient = U[:, 0] * Vt[0]
    found = check_gradient(f, gradient, x)
    assert found, found
    assert found.method == "differences"
    assert not check_gradient(f, np.zeros(3), x)
    with pytest.raises(
        ValueError, match='f is not analytic at x, so its complex step is not its derivative; use "diff'
    ):
        check_gradient(f, gradient, x, method="complex step")


# ---------------------------------------------------------------- kinks

KINKED = [
    (lambda x: np.abs(x[0] - x[1]), np.ones(2), np.zeros(2)),
    (lambda x: np.linalg.norm(x), np.zeros(3), np.zeros(3)),
    (lambda x: np.maximum(x, 0).sum(), np.array([1.0, 0.0]), np.array([1.0, 0.5])),
    (lambda x: np.minimum(np.abs(x[0]), np.abs(x[1])), np.zeros(2), np.zeros(2)),  # seen off the axes alone
    (lambda x: np.abs(x[0] - 1e-7) + x[1], np.zeros(2), np.array([-1.0, 1.0])),  # nearer than every step
    (lambda x: np.sqrt(np.abs(x[0])), np.zeros(1), np.zeros(1)),
    (lambda x: np.sign(x[0]) * 1.0, np.zeros(1), np.zeros(1)),
]


@pytest.mark.parametrize(("f", "x", "averaged"), KINKED)
def test_a_kink_is_reported_and_no_derivative_agrees_there(f, x, averaged):
    """`averaged` is what symmetric quotients give: a check by them alone would accept it."""
    for given_gradient in (averaged, averaged + 1.0):
        found = check_gradient(f, given_gradient, x)
        assert not found.agrees
        assert found.kinks
        assert all("one-sided quotients" in said for said in found.kinks)
        assert "one-sided quotients" in repr(found)
    assert np.isnan(found.reference).any() or "generic" in found.kinks[0]


def test_the_quotients_of_a_kink_are_said():
    found = check_gradient(lambda x: 3 * np.abs(x[0]) + x[0] + x[1], np.array([1.0, 1.0]), np.zeros(2))
    assert found.kinks[0].startswith("x[0]: one-sided quotients -2 and 4 at step ")
    assert len(found.kinks) == 2  # and the generic direction, not x[1]


def test_a_kink_away_from_x_shortens_the_step_and_the_gradient_is_found():
    for away in (1e-1, 1e-2, 1e-3, 1e-4):
        f = lambda x, away=away: np.sum(np.abs(x - away)) + x[0] ** 2  # noqa: E731
        found = check_gradient(f, np.array([-1.0, -1.0]), np.zeros(2))
        assert found, found
        assert found.tolerance < 1e-9 * 1e-1 / away
        assert not check_gradient(f, np.array([-1.0, -1.0 + 1e-6]), np.zeros(2))


@pytest.mark.parametrize("seed", range(20))
def test_a_kink_of_any_size_is_reported_or_within_the_tolerance(seed):
    """The complex step of |x| is 0, the mean of the one-sided slopes, and must not be believed."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    A, b, x = rng.standard_normal((4, n)), rng.standard_normal(3), rng.standard_normal(n) * 10.0 ** rng.uniform(-2, 2)
    jump = 10.0 ** rng.uniform(-7, 2)
    f = lambda y: jump * np.abs(A[0] @ (y - x)) + np.sum(np.sin(A[1:] @ y + b))  # noqa: E731
    found = check_gradient(f, A[1:].T @ np.cos(A[1:] @ x + b), x)
    assert found.method == "differences"
    if not found.kinks and found.worst is not None:
        assert 2 * jump * abs(A[0][found.worst[0]]) <= 10 * found.tolerance, found


def test_a_jump_of_the_second_derivative_is_a_kink_of_the_hessian_alone():
    f = lambda x: np.sum(x * np.abs(x))  # noqa: E731
    zero = np.zeros(2)
    assert check_gradient(f, zero, zero)
    assert not check_gradient(f, zero + 1e-4, zero)
    found = check_hessian(f, np.zeros((2, 2)), zero)  # what symmetric second differences give
    assert not found
    assert any(said.startswith("x[0]: one-sided second quotients -2 and 2") for said in found.kinks)


def test_the_cube_of_a_norm_has_hessian_zero_at_zero():
    for f in (lambda x: np.linalg.norm(x) ** 3 / 3, lambda x: np.sqrt(np.sum(x * x)) ** 3 / 3):
        assert check_hessian(f, np.zeros((2, 2)), np.zeros(2))
        assert not check_hessian(f, 1e-4 * np.eye(2), np.zeros(2))


def test_a_function_is_not_asked_outside_its_domain_to_the_end():
    assert check_gradient(lambda x: np.log(x).sum(), lambda x: 1 / x, np.array([1e-3, 2.0]))

    def root(x):
        if x[0] < 0.99:
            raise ValueError("outside")
        return np.sqrt(x[0])

    assert check_gradient(root, [0.5], [1.0])
    assert check_gradient(root, [0.5], [1.0]).method == "complex step"
    nowhere = check_gradient(lambda x: x[0] if x[0] == 1 else np.nan, [1.0], [1.0])
    assert nowhere.kinks[0] == "x[0]: f is not finite near x"
    assert not nowhere


def test_noise_that_comes_and_goes_is_no_kink():
    """A determinant of rank 1: zero along some coordinates but for roundings."""
    X = np.outer([0.3, -1.7, 0.9], [1.1, 0.4, -0.6])
    for method in ("complex step", "differences"):
        assert check_gradient(np.linalg.det, np.zeros((3, 3)), X, method=method)


def test_fast_oscillations_are_resolved():
    for frequency in (1e2, 1e4):
        f = lambda x, w=frequency: np.sin(w * x)  # noqa: E731
        for method in ("complex step", "differences"):
            found = check_gradient(f, lambda x, w=frequency: w * np.cos(w * x), np.array(0.3), method=method)
            assert found
            assert found.tolerance < 1e-7 * frequency


@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_values_whose_squares_leave_the_floats_are_checked(size):
    def f(x):
        return size * np.sum(x**2)

    x = np.array([1.0, 2.0])
    assert check_gradient(f, 2 * size * x, x, method="differences")
    assert not check_gradient(f, 2.001 * size * x, x, method="differences")


def test_the_checks_do_not_disturb_what_they_are_given():
    x = np.array([1.0, 2.0])

    def f(y):
        value = np.sum(y * y)
        y[:] = 0  # a careless function
        return value

    assert check_gradient(f, lambda y: 2 * y, x)
    assert x.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: check_gradient(np.sum, [1.0], [1.0], method="exact"),
            'method must be "auto", "complex step" or "diff',
        ),
        (lambda: check_gradient(np.sum, [1.0], [np.nan]), "x must hold finite real numbers, at least one; got dtype"),
        (
            lambda: check_gradient(np.sum, [1.0], [1j]),
            "x must hold finite real numbers, at least one; got dtype complex",
        ),
        (lambda: check_gradient(np.sum, [], []), r"at least one; got dtype float64, shape \(0,\)"),
        (
            lambda: check_gradient(np.sum, [1.0, 1.0], [1.0]),
            r"gradient must be a real array of shape \(1,\); got float64",
        ),
        (
            lambda: check_hessian(np.sum, [1.0], [1.0]),
            r"hessian must be a real array of shape \(1, 1\); got float64 of",
        ),
        (lambda: check_gradient(np.sum, [1j], [1.0]), r"gradient must be a real array of shape \(1,\); got complex128"),
        (lambda: check_gradient(lambda x: x[0] * np.inf, [1.0], [1.0]), r"f must be real and finite at x; got \[inf\]"),
    ],
)
def test_what_cannot_be_checked_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
