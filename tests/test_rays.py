"""The exact search: the minimum of piecewise quadratics along a ray, against all their pieces by enumeration."""

import itertools

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import matrices

import clarke
from clarke.graph import from_function
from clarke.rays import exact_step, piecewise_quadratic, slope_along
from clarke.semismooth import minimize


def hinges(A, b):
    return lambda x: 0.5 * np.sum(x**2) + np.sum(np.maximum(np.dot(A, x) - b, 0) ** 2) + np.sum(np.abs(np.dot(A, x)))


def least_by_enumeration(A, b, x, d):
    """The minimizer over t >= 0 of a convex sum of hinges along a ray: every breakpoint, every vertex of a piece."""
    slopes, values = A @ d, A @ x
    with onp.errstate(all="ignore"):
        breaks = onp.concatenate([-values / slopes, (b - values) / slopes])
    breaks = onp.unique(breaks[onp.isfinite(breaks) & (breaks > 0)])
    ends = onp.concatenate([[0.0], breaks, [2 * (breaks.max(initial=1.0)) + 1]])
    candidates = list(ends)
    for low, high in itertools.pairwise(ends):
        t = (low + high) / 2
        on = values + t * slopes > b
        signs = onp.sign(values + t * slopes)
        second = d @ d + 2 * (slopes[on] ** 2).sum()
        first = x @ d + 2 * (slopes[on] * (values - b)[on]).sum() + (signs * slopes).sum()
        candidates.append(-first / second)
    f = hinges(A, b)
    return min((t for t in candidates if t >= 0), key=lambda t: float(f(x + t * d)))


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(matrices(4, n), matrices(1, 4), matrices(2, n))))
@settings(max_examples=80, deadline=None)
@example(
    (onp.array([[0.0, -1, 1]] * 4) * [[0], [0], [1], [0]], onp.zeros((1, 4)), onp.array([[0.0, 0, 0], [0, 0, -1]]))
)
def test_the_step_is_the_least_of_all_pieces(data):
    A, (b,), (x, d) = data
    x = x + 0.123
    graph = from_function(hinges(A, b), x)
    assert piecewise_quadratic(graph)
    slope = slope_along(graph, x, d)
    if slope >= -1e-9:
        return
    found, best = exact_step(graph, x, d, slope), least_by_enumeration(A, b, x, d)
    if found is None:  # the minimum is at the start but for rounding
        assert best < 2.0**-40
    else:
        assert found[0] == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_one_quadratic_takes_two_slopes_whatever_its_scale():
    for scale in (1e-6, 1.0, 1e6):
        graph = from_function(lambda x, c=scale: np.sum((x - c) ** 2), [0.0])
        t, taken = exact_step(graph, onp.zeros(1), onp.ones(1) * scale * 0.3, -2 * scale**2 * 0.3)
        assert t == pytest.approx(1 / 0.3)
        assert taken <= 4


def test_what_is_not_quadratic_is_not_taken_for_it():
    cases = {
        True: [lambda x: 3.0, lambda x: np.abs(x[1]), lambda x: x[0] * np.abs(x[1]), lambda x: np.abs(x[0] * x[1])],
        False: [lambda x: x[0] ** 3, lambda x: np.exp(x[0]), lambda x: np.abs(x[0]) * x[1] ** 2, lambda x: x[0] / x[1]],
    }  # fmt: skip
    for expected, functions in cases.items():
        for f in functions:
            assert piecewise_quadratic(from_function(f, [0.7, 0.9])) is expected


def test_a_slope_that_never_turns_or_turns_at_once_is_told():
    down = from_function(lambda x: -x[0] + 0 * x[1], [0.0, 0.0])
    assert exact_step(down, onp.zeros(2), onp.array([1.0, 0.0]), -1.0) is None
    up = from_function(lambda x: np.abs(x[0]), [0.0])
    assert exact_step(up, onp.zeros(1), onp.ones(1), -1.0) is None
    assert exact_step(from_function(lambda x: x[0] ** 2, [1.0]), onp.array([1e300]), onp.array([1e300]), -1.0) is None


@pytest.mark.parametrize(("samples", "n", "price"), [(2000, 20, 100.0), (160, 120, 100.0), (120, 160, 1.0)])
def test_a_squared_hinge_takes_few_steps_to_the_rounding_of_its_gradient(samples, n, price):
    """With as many samples as variables full steps overshoot: there the exact minimum along the ray is taken."""
    rng = onp.random.default_rng(0)
    A = rng.standard_normal((samples, n))
    A *= onp.sign(A @ rng.standard_normal(n) / onp.sqrt(n) + 0.5 * rng.standard_normal(samples))[:, None]

    def svm(w):
        return 0.5 * np.sum(w**2) + price * np.sum(np.maximum(1 - np.dot(A, w), 0) ** 2)

    result = minimize(svm, onp.zeros(n))
    assert result.success
    g = clarke.limiting_gradient(svm, result.x)
    assert onp.linalg.norm(g) <= 1e-12 * onp.linalg.norm(clarke.limiting_gradient(svm, onp.zeros(n)))
    assert result.nit <= 15
    if samples == 160:
        assert any(0 < h["step"] != 2.0 ** onp.round(onp.log2(h["step"])) for h in result.history[:-1])
