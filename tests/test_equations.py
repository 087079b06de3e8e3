"""Semismooth equations: roots found, order two, complementarity problems against enumeration."""

import itertools

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import matrices

import clarke
from clarke.equations import fischer_burmeister, natural_residual, root

BUILDERS = [natural_residual, fischer_burmeister]


def complementary_by_enumeration(M, q):
    """The solution of x >= 0, M x + q >= 0, x (M x + q) = 0 for a P-matrix M: all 2^n supports."""
    n = len(q)
    for size in range(n + 1):
        for rows in map(list, itertools.combinations(range(n), size)):
            x = onp.zeros(n)
            x[rows] = onp.linalg.solve(M[onp.ix_(rows, rows)], -q[rows])
            if (x >= -1e-12).all() and (M @ x + q >= -1e-9).all():
                return x
    raise AssertionError("M is no P-matrix")


@pytest.mark.parametrize("builder", BUILDERS)
@given(data=st.integers(1, 4).flatmap(lambda n: st.tuples(matrices(n, n), matrices(n, n), matrices(1, n))))
@settings(max_examples=40, deadline=None)
def test_a_linear_complementarity_problem_has_the_solution_found_by_enumeration(builder, data):
    R, S, (q,) = data
    M = R @ R.T + onp.eye(len(q)) + S - S.T
    result = root(builder(lambda x: np.dot(M, x) + q), onp.zeros(len(q)))
    assert result.success, result.message
    assert onp.allclose(result.x, complementary_by_enumeration(M, q), atol=1e-6)
    residuals = [h["residual"] for h in result.history]
    assert all(b < a for a, b in itertools.pairwise(residuals))


def kojima_shindo(x):
    a, b, c, d = x[0], x[1], x[2], x[3]
    return np.array(
        [
            3 * a**2 + 2 * a * b + 2 * b**2 + c + 3 * d - 6,
            2 * a**2 + a + b**2 + 3 * c + 2 * d - 2,
            3 * a**2 + a * b + 2 * b**2 + 2 * c + 3 * d - 1,
            a**2 + 3 * b**2 + 2 * c + 3 * d - 3,
        ]
    )


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("start", [onp.zeros(4), onp.ones(4), onp.array([1.0, 0, 1, 0])])
def test_the_problem_of_kojima_and_shindo_is_solved(builder, start):
    """Its solutions are (sqrt 6 / 2, 0, 0, 1/2), where elements differ, and (1, 0, 3, 0)."""
    result = root(builder(kojima_shindo), start)
    assert result.success
    known = onp.array([[1.5**0.5, 0, 0, 0.5], [1, 0, 3, 0]])
    assert onp.abs(known - result.x).max(axis=1).min() <= 1e-6


def test_the_order_is_two_at_a_kink():
    """F = 2x + x^2 + |x| + y x, y + y^3 + max(x, y): kinks at the root 0, all elements nonsingular."""

    def F(x):
        return np.array([2 * x[0] + x[0] ** 2 + np.abs(x[0]) + x[0] * x[1], x[1] + x[1] ** 3 + np.maximum(x[0], x[1])])

    for start in ([0.5, -0.4], [-0.3, 0.5], [0.4, 0.4]):
        result = root(F, start)
        assert result.success
        errors = onp.array([onp.linalg.norm(h["x"]) for h in result.history])
        logs = onp.log(errors[(errors < 0.9) & (errors > 1e-15)])
        assert ((logs[2:] - logs[1:-1]) / (logs[1:-1] - logs[:-2])).max() >= 1.9


@pytest.mark.parametrize("start", [2.0, 5.0, -1.5, 0.3])
def test_the_cycle_of_the_pure_method_is_broken(start):
    """F = 3x for |x| <= 1, x + 2 sign x beyond: the pure step goes from 2 to -2 and back."""
    result = root(lambda x: x + 2 * np.clip(x, -1, 1), [start])
    assert result.success
    assert result.x == pytest.approx([0.0], abs=1e-12)
    assert result.nit <= 5


def test_the_jacobian_at_a_kink_is_a_limiting_one():
    result = root(lambda x: np.abs(x) + 2 * x - 3, [0.0])
    assert result.x == pytest.approx([1.0])
    assert root(lambda x: np.abs(x) + 2 * x, [0.0]).jac.item() in (1.0, 3.0)


def test_the_documented_element_of_the_length_at_zero_is_a_limit():
    F = fischer_burmeister(lambda x: x)
    at_zero, nearby = (clarke.limiting_jacobians(F, [t]).matrices[0] for t in (0.0, 1e-3))
    assert at_zero == pytest.approx(nearby)
    assert root(F, [0.0]).success


def test_a_singular_jacobian_gives_way_to_a_damped_step():
    result = root(lambda x: np.array([x[0] ** 2 + x[1] - 1, x[0] * 0.0 + x[1] ** 2]), [0.5, 0.0])
    assert onp.linalg.norm(result.fun) <= 1e-6
    flat = root(lambda x: np.array([x[0] + x[1] - 1, 2 * x[0] + 2 * x[1] - 2]), [3.0, 4.0])
    assert flat.success


def test_a_stationary_point_that_is_no_root_is_told():
    result = root(lambda x: np.abs(x) + 1, [1.0])
    assert (result.status, result.success) == (5, False)
    assert "no root" in result.message


@pytest.mark.parametrize("F", [lambda x: onp.array([3.0]), lambda x: x**2 + 1])
def test_an_equation_without_a_root_ends_as_a_stationary_point(F):
    result = root(F, [1.0])
    assert (result.status, result.success) == (5, False)


def test_a_number_is_a_start():
    for start in (1.0, 1, onp.float32(1)):
        assert root(lambda x: x**2 - 2, start, jac=lambda x: 2 * x).x == pytest.approx([2**0.5])


def test_large_sparse_equations_are_solved():
    n = 600
    result = root(lambda x: 3 * x + np.abs(np.roll(x, 1)) - np.maximum(np.roll(x, -1), 0) - 1, onp.zeros(n))
    assert result.success
    assert result.jac.shape == (n, n)


def test_large_sparse_singular_equations_are_damped():
    result = root(lambda x: np.maximum(x, 0) * x + x[0] - 1, onp.full(300, 0.5))
    assert onp.linalg.norm(result.fun) <= 1e-6


def test_an_f_that_raises_ends_with_its_point():
    calls = []

    def F(x):
        calls.append(1)
        if not hasattr(x, "_value") and len(calls) > 8:
            raise ValueError("no more")
        return x**3 - 1

    result = root(F, [3.0])
    assert (result.status, result.success) == (6, False)
    assert "it raised ValueError: no more" in result.message
    assert result.x.tolist() == [3.0]


def test_stops_limits_and_callbacks():
    def F(x):
        return x**3 + np.maximum(x, 0) - 5

    def stop(intermediate_result):
        raise StopIteration

    assert root(F, [9.0], callback=stop).status == 99
    assert root(F, [9.0], maxiter=1).status == 1
    seen = []
    assert root(F, [9.0], callback=lambda x: seen.append(x)).nit == len(seen)
    assert root(lambda x, a: x - a, [9.0], args=(2.0,)).x == pytest.approx([2.0])
    assert root(lambda x: x - np.log(x) - 2, [5.0]).success


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: root(lambda x: x[:1], [1.0, 2.0]), "F must have as many outputs as x has entries, 2"),
        (lambda: root(lambda x: x, [[1.0]]), "x0 must be a flat array"),
        (lambda: root(lambda x: x, [1.0], tol=-1.0), "tol must be a positive number"),
        (lambda: root(lambda x: x, [1.0], maxiter=1.5), "maxiter must be a whole number"),
        (lambda: root(lambda x: x, [1.0], callback="f"), "callback must be callable; got str"),
        (lambda: root(lambda x: x, [1.0], jac=True), "jac=True: F must return its value alone"),
        (lambda: root(lambda x: np.log(x), [-1.0]), "not finite"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
