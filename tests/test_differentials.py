"""The seminar's closed forms against two twins that share nothing with them: complex steps and Cauchy's integrals."""

from itertools import product

import numpy as np
import pytest

from clarke import differentials
from clarke.differentials import TABLE, Differential, differential
from clarke.matrix_calculus import check_gradient, check_hessian, unvec, vec
from clarke.primitives import NotPiecewiseSmooth


def positive_definite(rng, n):
    M = rng.standard_normal((n, n))
    return M @ M.T / n + np.eye(n)


def regular(rng, n):
    return 2 * np.eye(n) + rng.uniform(-0.6, 0.6, (n, n))


def drawn(rng, n=3):
    """name -> (parameters, a point of the domain)."""
    normal = rng.standard_normal
    a, A, B = normal(n), normal((n, n)), normal((n, n))
    far = 1 + rng.uniform(0, 1, n)
    return {
        "linear": ({"c": a}, normal(n)),
        "quadratic_form": ({"A": A}, normal(n)),
        "matrix_linear": ({"A": normal((2, n))}, normal((2, n))),
        "trace": ({}, A),
        "inverse": ({}, regular(rng, n)),
        "det": ({}, A),
        "quadratic": ({"A": A, "b": a, "c": 2.5}, normal(n)),
        "residual": ({"A": normal((4, n)), "b": normal(4)}, normal(n)),
        "log_quadratic": ({"A": positive_definite(rng, n)}, far),
        "norm": ({}, far),
        "norm_cubed": ({}, far),
        "softmax": ({}, normal(n)),
        "sum_of_sines": ({}, normal(n)),
        "logistic": ({"a": a}, normal(n)),
        "log_likelihood": ({"x": a, "y": -1.0}, normal(n)),
        "along_line": ({"f": differential("norm"), "x": far, "p": normal(n)}, np.array(0.1)),
        "frobenius": ({"A": regular(rng, n), "B": normal((n, 2)) + 5}, normal((n, 2))),
        "trace_conjugation": ({"A": A, "B": B}, regular(rng, n)),
        "trace_gram": ({"A": A}, normal((2, n))),
        "log_det": ({}, positive_definite(rng, n)),
        "det_of_inverse": ({"A": normal((2, n)), "B": normal((n, 2))}, regular(rng, n)),
        "product": ({"x": a}, normal((2, n))),
        "spectral_norm": ({}, np.diag([3.0, 1.5, 0.5])[:2] + 0.2 * normal((2, n))),
        "least_squares": ({"A": normal((4, n)), "y": normal(4)}, normal(n)),
        "regularized_unit": ({"t": 0.3, "lam": 0.1}, normal(2 * n + 1)),
    }


CASES = [(name, seed) for name, seed in product(TABLE, range(3))]


def case(name, seed):
    parameters, x = drawn(np.random.default_rng(seed))[name]
    return differential(name, **parameters), x


def units(x):
    return np.eye(x.size).reshape(-1, *x.shape)


def complex_step(f, x):
    """Im f(x + i h e) / h for every entry: no difference is taken, so h may be 1e-20."""
    columns = [np.imag(f(x + 1e-20j * e)) / 1e-20 for e in units(x)]
    return np.stack(columns, axis=-1).reshape(np.shape(f(x)) + x.shape)


def on_circle(f, x, d, order, radius=0.03, points=16):
    """The derivative of f of this order along d at x, by Cauchy's formula on a circle of complex steps."""
    angles = np.exp(2j * np.pi * np.arange(points) / points)
    values = np.stack([f(x + radius * z * d) for z in angles])
    mean = np.tensordot(angles**-order, values, axes=1) / points
    return np.real(mean) * (1, 1, 2)[order] / radius**order


def cauchy(f, x, order):
    e, shape = units(x), np.shape(f(x))
    if order == 1:
        return np.stack([on_circle(f, x, d, 1) for d in e], axis=-1).reshape(shape + x.shape)
    T = np.zeros((*shape, x.size, x.size))
    for i in range(x.size):
        T[..., i, i] = on_circle(f, x, e[i], 2)
        for j in range(i):
            mixed = (on_circle(f, x, e[i] + e[j], 2) - on_circle(f, x, e[i] - e[j], 2)) / 4
            T[..., i, j] = T[..., j, i] = mixed
    return T.reshape(shape + 2 * x.shape)


def same(a, b, slack=1e-10):
    return np.shape(a) == np.shape(b) and np.max(np.abs(a - b), initial=0) <= slack * (1 + np.max(np.abs(b), initial=0))


# ---------------------------------------------------------------- every line of the table


def test_every_example_of_the_seminar_is_in_the_table():
    text = " ".join(entry.source for entry in TABLE.values())
    for number in [*"5.13a 5.13b 5.13c 5.13d".split(), *(f"5.{k}" for k in range(14, 34) if k not in (29, 31))]:
        assert f"{number[:4]} {number[4:]}".strip() in text, number  # 5.29 and 5.31 are remarks


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_the_first_derivative_is_that_of_a_complex_step(name, seed):
    f, x = case(name, seed)
    exact = f.jacobian(x)
    assert exact.shape == np.shape(f(x)) + x.shape
    if name != "spectral_norm":  # eigenvalues are iterated, so rounding reaches a step of 1e-20
        assert same(exact, complex_step(f, x))
    assert same(exact, cauchy(f, x, 1))


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_the_second_derivative_is_that_of_complex_steps_and_symmetric(name, seed):
    f, x = case(name, seed)
    exact = f.hessian(x)
    assert exact.shape == np.shape(f(x)) + 2 * x.shape
    assert same(exact, cauchy(f, x, 2))
    flat = exact.reshape(-1, x.size, x.size)
    assert same(flat, flat.swapaxes(1, 2), 1e-13)


@pytest.mark.parametrize("name", TABLE)
def test_the_differentials_are_the_tensors_applied(name):
    f, x = case(name, 0)
    rng = np.random.default_rng(5)
    h, k = rng.standard_normal(x.shape), rng.standard_normal(x.shape)
    assert same(f.first(x, h), on_circle(f, x, h, 1))
    assert same(f.second(x, h, h), on_circle(f, x, h, 2))
    mixed = (on_circle(f, x, h + k, 2) - on_circle(f, x, h - k, 2)) / 4
    assert same(f.second(x, h, k), mixed)
    assert same(f.second(x, k, h), mixed)


@pytest.mark.parametrize("name", TABLE)
def test_the_librarys_own_checks_agree_and_refuse_a_wrong_formula(name):
    f, x = case(name, 1)
    assert check_gradient(f, f.jacobian, x)
    assert check_hessian(f, f.hessian, x)
    wrong = f.jacobian(x)
    wrong.flat[0] += 1e-8 * (1 + np.abs(wrong).max())
    assert not check_gradient(f, wrong, x)


def test_gradients_are_for_scalars():
    f, x = case("det", 0)
    assert np.array_equal(f.gradient(x), f.jacobian(x))
    with pytest.raises(ValueError, match="inverse returns an array, which has no gradient; use jacobian"):
        differential("inverse").gradient(regular(np.random.default_rng(0), 2))


def test_a_tensor_read_in_column_order_is_the_matrix_of_the_vectorized_function():
    f, X = case("inverse", 0)
    Y = f(X)
    matrix = f.jacobian(X).reshape(-1, X.size, order="F")
    assert same(matrix, -np.kron(Y.T, Y), 1e-14)
    H = np.random.default_rng(2).standard_normal(X.shape)
    assert same(unvec(matrix @ vec(H), X.shape), -Y @ H @ Y, 1e-14)


# ---------------------------------------------------------------- determinants, singular or not


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_jacobis_formula_holds_at_every_rank(rank):
    rng = np.random.default_rng(rank)
    X = rng.standard_normal((3, rank)) @ rng.standard_normal((rank, 3))
    f = differential("det")
    minors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(X, i, 0), j, 1)) for j in range(3)] for i in range(3)
    ]
    assert same(f.gradient(X), np.array(minors), 1e-14)
    assert same(f.hessian(X), cauchy(f, X, 2))
    assert check_gradient(f, f.gradient, X)


def test_a_determinant_of_an_inverse_needs_no_invertible_product():
    """Example 5.26 asks that A X^-1 B be invertible; here it is 4 by 4 of rank 3, and then 3 by 3 of rank 2."""
    rng = np.random.default_rng(0)
    X = regular(rng, 3)
    wide = differential("det_of_inverse", A=rng.standard_normal((4, 3)), B=rng.standard_normal((3, 4)))
    assert np.abs(wide.gradient(X)).max() < 1e-13
    B = np.column_stack([np.eye(3)[:, :2], np.eye(3)[:, :2].sum(axis=1)])
    low = differential("det_of_inverse", A=rng.standard_normal((3, 3)), B=B)
    assert abs(low(X)) < 1e-15
    assert same(low.gradient(X), cauchy(low, X, 1))
    assert same(low.hessian(X), cauchy(low, X, 2))
    f, X = case("det_of_inverse", 0)  # where it is invertible: the formula as printed
    A, B = drawn(np.random.default_rng(0))["det_of_inverse"][0].values()
    Y = np.linalg.inv(X)
    printed = -np.linalg.det(A @ Y @ B) * Y.T @ A.T @ np.linalg.inv(A @ Y @ B).T @ B.T @ Y.T
    assert same(f.gradient(X), printed, 1e-13)


# ---------------------------------------------------------------- where the seminar is right at the edge, and wrong


def test_the_cube_of_a_norm_has_hessian_zero_at_zero():
    f = differential("norm_cubed")
    zero = np.zeros(3)
    assert np.array_equal(f.gradient(zero), zero)
    assert np.array_equal(f.hessian(zero), np.zeros((3, 3)))
    assert check_hessian(f, f.hessian, zero)
    tiny = 1e-150 * np.array([1.0, 2.0, 2.0])
    assert np.isfinite(f.hessian(tiny)).all()
    assert np.abs(f.hessian(tiny)).max() < 1e-149


def test_norms_are_refused_where_they_vanish_not_answered_with_nan():
    zero = np.zeros(3)
    norm = differential("norm")
    assert norm(zero) == 0
    for derivative in (norm.gradient, norm.hessian, lambda x: norm.first(x, x), lambda x: norm.second(x, x, x)):
        with pytest.raises(NotPiecewiseSmooth, match=r"\|x\|_2 vanishes here: its one-sided derivative is not linear"):
            derivative(zero)
    A, X = np.random.default_rng(0).standard_normal((2, 3, 3))
    with pytest.raises(NotPiecewiseSmooth, match=r"\|A X - B\|_F vanishes here"):
        differential("frobenius", A=A, B=A @ X).gradient(X)
    with pytest.raises(NotPiecewiseSmooth, match=r"\|A\|_2 vanishes here"):
        differential("spectral_norm").gradient(np.zeros((2, 3)))
    with pytest.raises(NotPiecewiseSmooth, match=r"largest singular value is multiple here \(1 and 1\)"):
        differential("spectral_norm").gradient(np.eye(2))
    line = differential("along_line", f=norm, x=-np.ones(3), p=np.ones(3))
    with pytest.raises(NotPiecewiseSmooth, match="vanishes here"):
        line.gradient(1.0)


def test_the_one_sided_derivative_of_a_norm_at_zero_is_not_linear():
    """Example 5.7; and no two-sided limit, as 5.16 writes it, exists."""
    norm, h = differential("norm"), np.array([3.0, 4.0])
    quotients = [(norm(t * h) - norm(0 * h)) / t for t in (1e-8, -1e-8)]
    assert quotients == pytest.approx([5, -5])


def test_the_tables_do_not_hold_for_every_inner_product():
    """K-ip: in <u, v>_M the gradient of <Ax, x>_M is (A + M^-1 A^T M) x."""
    M, A, x = np.diag([1.0, 2.0]), np.array([[0.0, 1.0], [0.0, 0.0]]), np.ones(2)
    derivative = differential("quadratic_form", A=A.T @ M).gradient(x)  # <Ax, x>_M = x^T A^T M x
    gradient = np.linalg.solve(M, derivative)  # df[h] = <gradient, h>_M
    assert np.allclose(gradient, (A + np.linalg.inv(M) @ A.T @ M) @ x)
    assert gradient.tolist() == [1, 0.5]
    assert ((A + A.T) @ x).tolist() == [1, 1]
    assert "(1, 1/2)" in differentials.__doc__


def test_the_expansion_of_a_determinant_sums_over_i_less_than_j():
    """K-5.13g: for n = 1, det(1 + a) = 1 + a; the printed sum over i <= j adds a^2."""
    values = np.array([0.3, -0.2, 0.7])
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    strict = 1 + values.sum() + sum(values[i] * values[j] for i, j in pairs if i < j) + values.prod()
    printed = 1 + values.sum() + sum(values[i] * values[j] for i, j in pairs) + values.prod()
    assert np.linalg.det(np.eye(3) + np.diag(values)) == pytest.approx(strict)
    assert abs(printed - strict) > 0.5
    assert "i < j" in TABLE["det"].note


def test_an_eigenvalue_need_not_have_a_real_eigenvector_and_is_bounded_by_the_norm_all_the_same():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    assert np.isclose(np.abs(np.linalg.eigvals(turn)), 1).all()
    assert np.isreal(np.linalg.eigvals(turn)).sum() == 0
    assert np.linalg.norm(turn, 2) == pytest.approx(1)


def test_the_logistic_curvature_attains_a_quarter():
    """K-5.20c."""
    a = np.array([3.0, 4.0])
    H = differential("logistic", a=a).hessian(np.array([4.0, -3.0]))
    assert np.array_equal(H, np.outer(a, a) / 4)


def test_the_logistic_functions_neither_overflow_nor_lose_their_tails():
    f = differential("logistic", a=np.ones(1))
    assert f([1e4]) == 1e4
    assert f([-700.0]) == pytest.approx(np.exp(-700.0), rel=1e-12)
    assert f.gradient([1e4]) == 1
    assert f.gradient([-1e4]) == 0


def test_the_log_likelihood_is_concave_and_no_loss():
    """K-5.5.1: to minimize it is to run away."""
    f = differential("log_likelihood", x=np.ones(1), y=1.0)
    assert f([-1e4]) == -1e4
    assert f.hessian([0.3])[0, 0] < 0
    loss = differential("logistic", a=-np.ones(1))  # ln(1 + exp(-y <w, x>))
    assert loss([0.3]) == -f([0.3])


def test_ln_det_is_concave_on_symmetric_matrices_only():
    f, X = case("log_det", 0)
    rng = np.random.default_rng(3)
    L = np.linalg.inv(np.linalg.cholesky(X))
    for _ in range(5):
        M = rng.standard_normal(X.shape)
        for H, sign in ((M + M.T, -1), (M - M.T, 1)):
            assert f.second(X, H, H) == pytest.approx(sign * np.linalg.norm(L @ H @ L.T) ** 2)


def test_the_log_of_a_quadratic_form_is_refused_at_zero():
    f, x = case("log_quadratic", 0)
    for call in (f, f.gradient, f.hessian):
        with pytest.raises(ValueError, match="not defined at x = 0"):
            call(0 * x)


def test_softmax_is_invariant_under_shifts_and_its_derivatives_do_not_overflow():
    f = differential("softmax")
    x = np.array([1000.0, 1001.0, 999.0])
    J = f.jacobian(x)
    assert np.isfinite(J).all()
    assert np.abs(J @ np.ones(3)).max() < 1e-16
    assert np.abs(f.hessian(x) @ np.ones(3)).max() < 1e-16


def test_the_product_with_a_vector_has_the_tensor_of_example_5_27():
    f, A = case("product", 0)
    x = drawn(np.random.default_rng(0))["product"][0]["x"]
    tensor = f.jacobian(A)
    for k, i, j in product(range(2), range(2), range(3)):
        assert tensor[k, i, j] == (k == i) * x[j]


def test_the_spectral_norm_is_the_largest_stretch_and_stationary_there():
    """Example 5.28: the gradient of |Ax|^2 - nu (|x|^2 - 1) vanishes at the first right singular vector."""
    f, A = case("spectral_norm", 0)
    v = np.linalg.svd(A)[2][0]
    assert np.abs(A.T @ A @ v - f(A) ** 2 * v).max() < 1e-14 * f(A) ** 2
    stretches = [np.linalg.norm(A @ u) / np.linalg.norm(u) for u in np.random.default_rng(0).standard_normal((50, 3))]
    assert max(stretches) <= f(A)
    tall = A.T  # more rows than columns
    assert same(f.hessian(tall), cauchy(f, tall, 2))


def test_least_squares_are_solved_where_the_gradient_vanishes():
    f, _ = case("least_squares", 0)
    A, y = drawn(np.random.default_rng(0))["least_squares"][0].values()
    assert np.abs(f.gradient(np.linalg.lstsq(A, y)[0])).max() < 1e-13


@pytest.mark.parametrize("size", [1e-200, 1e-160, 1e160, 1e200])
def test_lengths_neither_overflow_nor_vanish(size):
    """Each is homogeneous: the derivative of order k at size x is size^(degree - k) times that at x."""
    x, A = np.array([3.0, 4.0]), np.array([[2.0, 0.5], [0.5, 1.0]])
    for f in (differential("norm"), differential("frobenius", A=two, B=np.zeros((2, 1)))):
        at = x.reshape(-1, 1) if f.entry.name == "frobenius" else x
        assert f(size * at) == pytest.approx(size * 5, rel=1e-14)
        np.testing.assert_allclose(f.gradient(size * at), at / 5, rtol=1e-14)
        np.testing.assert_allclose(f.hessian(size * at) * size, f.hessian(at), rtol=1e-12, atol=1e-15)
    f = differential("log_quadratic", A=A)
    assert f(size * x) == pytest.approx(f(x) + 2 * np.log(size), rel=1e-14)
    np.testing.assert_allclose(f.gradient(size * x) * size, f.gradient(x), rtol=1e-14)
    np.testing.assert_allclose(
        differential("norm_cubed").hessian(size * x) / size, [[34 / 5, 12 / 5], [12 / 5, 41 / 5]]
    )


def test_small_probabilities_keep_their_digits():
    """s (1 - s) is exp(-|z|) / (1 + exp(-|z|))^2, and the smaller of two probabilities counts as much."""
    for z in (-700.0, -50.0, -3.0, 0.0, 3.0, 50.0, 700.0):
        small, both = np.exp(-abs(z)), 1 / (1 + np.exp(-abs(z)))
        slope = small * both**2
        logistic, unit = differential("logistic", a=[1.0]), differential("regularized_unit", t=1.0, lam=0.0)
        assert logistic.gradient([z])[0] == pytest.approx(both if z > 0 else small * both, rel=1e-13)
        assert logistic.hessian([z])[0, 0] == pytest.approx(slope, rel=1e-13)
        likelihood = differential("log_likelihood", x=[1.0], y=-1.0)
        assert likelihood.hessian([z])[0, 0] == pytest.approx(-slope, rel=1e-13)
        missed = logistic.gradient([z])[0] - 1.0
        assert unit.gradient([1.0, z, 0.0])[2] == pytest.approx(missed * slope, rel=1e-13, abs=1e-300)
        J = differential("softmax").jacobian([z, 0.0])
        np.testing.assert_allclose(J, slope * np.array([[1, -1], [-1, 1]]), rtol=1e-13)


# ---------------------------------------------------------------- refusals

two = np.eye(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: differential("cosine"), "there is no 'cosine' in the table; it has linear, quadratic_form,"),
        (lambda: differential("linear"), r"linear takes the parameters \(c: array n\); got \(\)"),
        (lambda: differential("norm", c=1), r"norm takes the parameters \(none\); got \(c\)"),
        (lambda: differential("linear", c=two), r"c of linear must have shape \(n\); got \(2, 2\)"),
        (
            lambda: differential("linear", c=[1, np.nan]),
            "c of linear must hold finite real numbers, at least one; got dtype float64",
        ),
        (
            lambda: differential("linear", c=[1j]),
            "c of linear must hold finite real numbers, at least one; got dtype complex128",
        ),
        (lambda: differential("residual", A=two, b=np.ones(3)), r"b of residual must have shape \(2\); got \(3,\)"),
        (
            lambda: differential("quadratic_form", A=two[:1]),
            r"A of quadratic_form must have shape \(n, n\); got \(1, 2\)",
        ),
        (lambda: differential("log_quadratic", A=-two), "A of log_quadratic must be symmetric positive definite"),
        (lambda: differential("log_quadratic", A=two + [[0, 1], [0, 0]]), "must be symmetric positive definite"),
        (
            lambda: differential("along_line", f=np.sin, x=[1], p=[1]),
            "f of along_line must be a Differential of vectors",
        ),
        (lambda: differential("along_line", f=differential("det"), x=[1], p=[1]), "must be a Differential of vectors"),
        (lambda: differential("norm")(two), r"x must have shape \(n\) for norm; got \(2, 2\)"),
        (lambda: differential("det")(two[:1]), r"x must have shape \(n, n\) for det; got \(1, 2\)"),
        (lambda: differential("norm")([np.inf]), "x must be finite"),
        (lambda: differential("softmax")([]), r"x must be finite and nonempty; got shape \(0,\)"),
        (lambda: differential("linear", c=[]), r"at least one; got dtype float64, shape \(0,\)"),
        (lambda: differential("norm")(["a"]), "x must hold real numbers; got dtype <U1"),
        (lambda: differential("norm").gradient([1j]), "x must hold real numbers; got dtype complex128"),
        (lambda: differential("norm").first([1.0], [1.0, 2.0]), r"h must be real, of the shape \(1,\) of x"),
        (lambda: differential("norm").second([1.0], [1.0], [1j]), r"h2 must be real, of the shape \(1,\) of x"),
        (lambda: differential("inverse")(0 * two), "X\\^-1 is defined for invertible X; this one is singular"),
        (lambda: differential("inverse").jacobian(np.ones((2, 2))), "X\\^-1 is defined for invertible X"),
        (lambda: differential("log_det")(-np.eye(3)), "ln det X is defined for det X > 0"),
        (lambda: differential("log_det").gradient(-two), "given at symmetric positive definite X; this one is not"),
        (lambda: differential("regularized_unit", t=0, lam=1)(np.ones(4)), r"\(x, w, b\) of length 2 n \+ 1, n >= 1"),
    ],
)
def test_what_is_asked_wrongly_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_table_cannot_be_changed_and_its_arrays_are_new():
    with pytest.raises(TypeError):
        TABLE["linear"] = None
    c = np.ones(2)
    f = differential("linear", c=c)
    f.gradient(c)[0] = 9
    c[0] = 9
    assert f.gradient(c).tolist() == [1, 1]
    assert isinstance(f, Differential)
