"""A zonotope by its box is the hull of its vertices, and its certificate is theirs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import hadamard

from clarke import projection, zonotopes
from clarke.projection import (
    blockwise_min_norm,
    contains,
    eigenvalue_interval,
    min_norm_element,
    nearest_element,
    prove_nearest,
    support,
)
from clarke.zonotopes import Zonotope

law = settings(deadline=None, max_examples=60)
EPS = np.finfo(float).eps
GAP = 1e-14


def dyadic(*shape):
    return arrays(float, shape, elements=st.integers(-16, 16).map(lambda k: k / 4))


@st.composite
def cases(draw, n=None):
    """(Zonotope of at most 2^8 vertices, target)."""
    k, n = draw(st.integers(0, 8)), n or draw(st.integers(1, 5))
    return Zonotope(draw(dyadic(n)), draw(dyadic(k, n))), draw(dyadic(n))


def scale(Z, T):
    return np.linalg.norm(Z.center - T) + np.linalg.norm(Z.generators, axis=-1).sum() + np.linalg.norm(T)


@law
@given(cases())
def test_the_nearest_element_is_that_of_the_vertices(case):
    Z, T = case
    ours, listed = nearest_element(Z, T), nearest_element(Z.vertices(), T)
    assert ours.gap <= GAP
    near = (np.sqrt(ours.gap) + np.sqrt(listed.gap) + 1e-8) * scale(Z, T)
    assert np.linalg.norm(ours.element - listed.element) <= near
    assert abs(ours.distance - listed.distance) <= near


@law
@given(cases())
def test_the_gap_is_that_of_the_vertices_over_their_mean_square(case):
    Z, T = case
    x = np.linspace(0, 1, len(Z))  # any point of the box
    P = Z.center + x @ Z.generators - T
    V = Z.vertices() - T
    mean = np.mean(np.sum(V**2, axis=1))
    listed = (P @ P - (V @ P).min()) / mean if mean else 0.0
    ours = zonotopes.gap(Z.generators, Z.center - T, x)
    assert ours == pytest.approx(listed, rel=1e-9, abs=100 * len(V) * EPS)
    assert mean <= np.max(np.sum(V**2, axis=1)) * (1 + 8 * EPS)


@law
@given(cases())
def test_the_result_is_a_point_of_the_box(case):
    Z, T = case
    r = nearest_element(Z, T)
    assert r.weights.shape == (len(Z),)
    assert r.infeasibility == 0
    assert r.method == "box"
    assert r.complete
    assert np.linalg.norm(Z.center + r.weights @ Z.generators - r.element) <= 100 * EPS * scale(Z, T)
    assert abs(np.linalg.norm(r.element - T) - r.distance) <= 100 * EPS * scale(Z, T)


@law
@given(cases())
def test_support_and_contains_are_those_of_the_vertices(case):
    Z, T = case
    assert support(Z, T) == support(Z.vertices(), T)  # dyadic: exact
    assert contains(Z, Z.vertices()[-1], 1e-7 * scale(Z, T))
    outside = support(Z, np.eye(len(T))[0]) + 1
    assert not contains(Z, np.eye(len(T))[0] * outside, 0.99)


@law
@given(cases(n=4), st.permutations(range(8)))
def test_order_direction_and_turning_of_the_gates_do_not_matter(case, order):
    """Opening gate j from the other end, c + g_j with -g_j, is the same set."""
    Z, T = case
    r = nearest_element(Z, T)
    G = Z.generators[[i for i in order if i < len(Z)]]
    other = Zonotope(Z.center + G[: len(G) // 2].sum(axis=0), np.concatenate([-G[: len(G) // 2], G[len(G) // 2 :]]))
    Q = hadamard(4) / 2  # orthogonal and exact
    for turned in (
        nearest_element(other, T).element,
        nearest_element(Zonotope(Z.center @ Q, Z.generators @ Q), T @ Q).element @ Q.T,
        nearest_element(Zonotope(4 * Z.center, 4 * Z.generators), 4 * T).element / 4,
    ):
        assert np.linalg.norm(turned - r.element) <= 3 * np.sqrt(GAP) * scale(Z, T)


@pytest.mark.parametrize(("k", "n"), [(200, 20), (200, 200), (200, 1000), (60, 5000), (500, 100)])
@pytest.mark.parametrize("shift", [0, 1, 5])
def test_the_gap_stays_below_the_promise_with_hundreds_of_gates(k, n, shift):
    rng = np.random.default_rng(k + n + shift)
    G = rng.standard_normal((k, n))
    r = min_norm_element(Zonotope(shift * np.sqrt(k) / 2 * rng.standard_normal(n) - G.sum(0) / 2, G))
    assert r.gap <= GAP


def test_hundreds_of_gates_cost_a_few_cholesky_factors_each(monkeypatch):
    rng = np.random.default_rng(2)
    calls, solve = [], zonotopes.proximal_points.__globals__["_Faces"].solve

    def watched(self, *arguments):
        calls.append(1)
        return solve(self, *arguments)

    monkeypatch.setattr(zonotopes.proximal_points.__globals__["_Faces"], "solve", watched)
    G = rng.standard_normal((200, 200))
    assert min_norm_element(Zonotope(7 * rng.standard_normal(200) - G.sum(0) / 2, G)).gap <= GAP
    assert 1 <= len(calls) <= 60


@pytest.mark.parametrize("power", [-900, -300, 300, 900])
def test_a_power_of_two_changes_no_digit(power):
    rng = np.random.default_rng(4)
    c, G = rng.standard_normal(6), rng.standard_normal((9, 6))
    a, b = min_norm_element(Zonotope(c, G)), min_norm_element(Zonotope(np.ldexp(c, power), np.ldexp(G, power)))
    assert (np.ldexp(a.element, power) == b.element).all()
    assert np.ldexp(a.distance, power) == b.distance
    assert (a.weights == b.weights).all()


def test_repeated_generators_and_none_and_null_ones():
    c, g = np.array([1.0, 2]), np.array([-1.0, 0])
    assert min_norm_element(Zonotope(c, np.empty((0, 2)))).distance == np.sqrt(5)
    r = min_norm_element(Zonotope(c, [g, g, [0, 0]]))
    assert np.abs(r.element - [0, 2]).max() <= 4 * EPS
    assert r.gap <= GAP
    at = nearest_element(Zonotope(c, np.zeros((3, 2))), c)
    assert at.distance == 0
    assert at.gap == 0


def test_where_proximal_points_fail_the_active_set_of_scipy_answers(monkeypatch):
    monkeypatch.setattr(zonotopes, "proximal_points", lambda *a: iter(()))
    rng = np.random.default_rng(5)
    c, G = rng.standard_normal(5), rng.standard_normal((7, 5))
    assert min_norm_element(Zonotope(3 * c, G)).gap <= GAP


def test_matrices_keep_their_shape_and_the_values_are_read_only():
    rng = np.random.default_rng(6)
    Z = Zonotope(rng.standard_normal((2, 3)), rng.standard_normal((4, 2, 3)))
    assert len(Z) == 4
    assert Z.vertices().shape == (16, 2, 3)
    assert min_norm_element(Z).element.shape == (2, 3)
    with pytest.raises(ValueError, match="read-only"):
        Z.center[0] = 1


@pytest.mark.parametrize("seed", range(20))
def test_a_vertex_is_reached_where_generators_differ_in_length_by_a_billion(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        k, n = rng.integers(1, 9), rng.integers(1, 8)
        G = rng.integers(-4, 5, (k, n)) * 2.0 ** rng.integers(-30, 1, (k, 1))
        c = rng.integers(-4, 5, n).astype(float)
        T = c + rng.integers(0, 2, k) @ G
        found = nearest_element(Zonotope(c, G), T)
        assert found.gap <= 1e-14
        assert found.distance <= 1e-7 * np.sqrt(np.mean(np.sum((Zonotope(c, G).vertices() - T) ** 2, axis=1)))


@pytest.mark.parametrize("scale", [1e-150, 1e-155, 1e-160, 1e-170, 1e-200])
def test_generators_whose_squares_vanish_are_no_obstacle(scale):
    Z = Zonotope([1.0, -2], scale * np.array([[1.0, 1], [-2, 3]]))
    found = nearest_element(Z, [1.0, 5])
    assert found.distance == nearest_element(Z.vertices(), [1.0, 5]).distance == 7
    assert found.gap <= 1e-14


def test_a_distance_beyond_the_floats_is_infinite():
    far = nearest_element(Zonotope([1e308], [[1.0]]), [-1e308])
    assert far.distance == np.inf
    assert far.element == 1e308
    assert far.gap <= 1e-14


REFUSED = [
    (lambda: Zonotope([1.0], [[1.0, 2]]), r"generators must be stacked as \(k, ...\).*\(1,\).*got \(1, 2\)"),
    (lambda: Zonotope([], np.empty((2, 0))), r"generators must be stacked.*with entries"),
    (lambda: Zonotope([np.nan], [[1.0]]), "center holds NaN or infinity"),
    (lambda: Zonotope([1.0], [[np.inf]]), "generators holds NaN or infinity"),
    (lambda: Zonotope([np.longdouble("1e400")], [[1.0]]), "center holds NaN or infinity"),
    (lambda: Zonotope("here", [[1.0]]), "center must be an array of real numbers; got str"),
    (lambda: Zonotope([1.0], [[1.0], [1, 2]]), "generators must be an array of real numbers; got list"),
    (lambda: min_norm_element(Zonotope([1.0], [[1.0]]), method="wolfe"), "one method, its box.*got 'wolfe'"),
    (lambda: nearest_element(Zonotope([1.0], [[1.0]]), [1, 2]), r"target must have the shape \(1,\)"),
    (lambda: support(Zonotope([1.0], [[1.0]]), [1, 2]), r"direction must have the shape \(1,\)"),
    (lambda: eigenvalue_interval(Zonotope(np.eye(2), [np.eye(2)])), r"must be listed.*vertices\(\)"),
    (lambda: blockwise_min_norm(Zonotope(np.eye(2), [np.eye(2)]), [2]), r"must be listed.*vertices\(\)"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_zonotope_is_not_listed_for_a_proof():
    Z = Zonotope([1.0], [[1.0]])
    assert prove_nearest(Z, min_norm_element(Z)).proved is None
    assert projection.min_norm_element(Z.vertices()).element == 1
