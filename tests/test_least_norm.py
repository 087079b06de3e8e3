"""The three active sets, each against the law of the nearest point and the others; their parts by laws of their own."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import wolfe_min_norm_point

from clarke import least_norm
from clarke.least_norm import active_set, gap, nnls, padded_root, polish, proximal_points, triangle, wolfe

ROUTES = [nnls, wolfe, active_set]
law = settings(deadline=None, max_examples=60)
EPS = np.finfo(float).eps


@st.composite
def polytopes(draw):
    """(rows whose nearest to t is 0, t, reach > 0), small and dyadic."""
    m, n = draw(st.integers(2, 7)), draw(st.integers(1, 5))
    V = draw(arrays(float, (m, n), elements=st.integers(-16, 16).map(lambda k: k / 4)))
    V = np.unique(V, axis=0)
    squares = np.einsum("ij,ij->i", V, V)
    origin = V[squares.argmin()]
    return V - origin, -origin, float(np.sqrt(squares.max())) or 1.0


def last(route, *problem):
    *_, w = route(*problem)
    return w


@pytest.mark.parametrize("route", ROUTES)
@given(problem=polytopes())
@law
def test_a_route_finds_the_point_that_wolfe_finds_in_fractions(route, problem):
    B, t, reach = problem
    if len(B) < 2 or (B @ t).max() <= 0:
        return  # the doors answer a single vertex themselves
    w = last(route, B, t, reach)
    assert w.min() >= 0
    assert abs(w.sum() - 1) <= 8 * EPS
    assert gap(B, t, reach, w) <= 1e-14
    shifted = [[Fraction(x) - Fraction(y) for x, y in zip(b, t, strict=True)] for b in B]
    exact = wolfe_min_norm_point(shifted)
    P = np.array(
        [float(sum(x * c for x, c in zip(exact, column, strict=True))) for column in zip(*shifted, strict=True)]
    )
    assert np.linalg.norm(w @ B - t - P) <= 1e-7 * reach


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("m", "n"), [(30, 40), (60, 8), (50, 300), (200, 100)])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_the_routes_agree_to_rounding_where_the_point_is_far(route, m, n, shift):
    V = np.random.default_rng(m * n).standard_normal((m, n)) + shift
    squares = np.einsum("ij,ij->i", V, V)
    B, t, reach = V - V[squares.argmin()], -V[squares.argmin()], np.sqrt(squares.max())
    w = last(route, B, t, reach)
    other = last(wolfe, B, t, reach)
    assert gap(B, t, reach, w) <= 1e-14
    assert np.linalg.norm((w - other) @ B) <= 1e-9 * reach  # 1e-14 bounds it by 2e-7 alone; conditioning is below 1e4


def test_the_active_set_needs_few_faces_where_one_element_at_a_time_needs_many(monkeypatch):
    """One element at a time visits as many faces as the support has elements, at least."""
    V = np.random.default_rng(3).standard_normal((400, 100)) + 0.4
    squares = np.einsum("ij,ij->i", V, V)
    B, t, reach = V - V[squares.argmin()], -V[squares.argmin()], np.sqrt(squares.max())
    faces, solve = set(), least_norm._Faces.solve

    def watched(self, face, *rest):
        faces.add(face.tobytes())
        return solve(self, face, *rest)

    monkeypatch.setattr(least_norm._Faces, "solve", watched)
    w = last(active_set, B, t, reach)
    assert gap(B, t, reach, w) <= 1e-14
    assert len(faces) < np.count_nonzero(w) / 2


def test_an_affinely_dependent_face_is_no_obstacle():
    """512 vertices of a zonotope in dimension 9 of 40, the point on a face of them."""
    rng = np.random.default_rng(0)
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 9)).reshape(9, -1).T
    V = cube @ rng.standard_normal((9, 40)) + 2 * rng.standard_normal(40)
    squares = np.einsum("ij,ij->i", V, V)
    B, t, reach = V - V[squares.argmin()], -V[squares.argmin()], np.sqrt(squares.max())
    for route in ROUTES:
        assert gap(B, t, reach, last(route, B, t, reach)) <= 1e-14


def test_wolfe_begun_at_the_answer_ends_there_and_begun_elsewhere_ends_there_too():
    V = np.random.default_rng(7).standard_normal((40, 20)) + 0.5
    squares = np.einsum("ij,ij->i", V, V)
    B, t, reach = V - V[squares.argmin()], -V[squares.argmin()], np.sqrt(squares.max())
    answer = last(wolfe, B, t, reach)
    for start in (answer, np.full(40, 1 / 40), np.eye(40)[17]):
        found = last(wolfe, B, t, reach, start)
        assert np.abs(found - answer).max() <= 1e-12
        assert (np.flatnonzero(found) == np.flatnonzero(answer)).all()


@given(st.data())
@law
def test_a_proximal_point_stays_in_the_box_and_never_moves_away(data):
    """|x_j C - d| falls: each x_j beats x_{j-1} on |x C - d|^2 + lam |x - x_{j-1}|^2."""
    m, N = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    dyadic = st.integers(-16, 16).map(lambda k: k / 4)
    C, d = data.draw(arrays(float, (m, N), elements=dyadic)), data.draw(arrays(float, N, elements=dyadic))
    before, size = np.linalg.norm(d), np.linalg.norm(C) + np.linalg.norm(d)
    for x in proximal_points(C, d):
        assert x.min() >= 0
        assert x.max() <= 1
        now = np.linalg.norm(x @ C - d)
        assert now <= before + 1e-12 * size
        before = now


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
@law
def test_a_padded_root_is_a_root_of_a_matrix_nearby_even_of_a_singular_one(k, seed):
    X = np.random.default_rng(seed).integers(-3, 4, (k, 3)).astype(float)
    L = padded_root(X @ X.T)
    assert np.abs(L @ L.T - X @ X.T).max() <= 1e3 * k * k * EPS * max(1.0, np.abs(X).max() ** 2 * 3)
    assert not np.triu(L, 1).any()


@given(st.integers(1, 5), st.integers(1, 60), st.integers(0, 2**32 - 1))
@law
def test_a_triangle_keeps_all_inner_products(m, size, seed):
    X = np.random.default_rng(seed).standard_normal((size, m))
    R = triangle((m, size), lambda rows: X[rows])
    assert len(R) <= 2 * m
    assert np.abs(R.T @ R - X.T @ X).max() <= 100 * size * EPS * (1 + np.abs(X).max() ** 2)


def test_a_polish_lands_on_the_affine_minimizer_and_drops_what_would_turn_negative():
    B, t = np.array([[0.0, 0], [2, 0], [1, 5]]), np.array([0.5, -1.0])
    assert np.abs(polish(B, t, np.array([0.5, 0.5, 0])) - [0.75, 0.25, 0]).max() <= 4 * EPS
    assert np.abs(polish(B, t, np.array([0.4, 0.3, 0.3])) - [0.75, 0.25, 0]).max() <= 4 * EPS


@pytest.mark.parametrize("power", [-1000, -560, -300, 0])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_closed_form_of_a_segment_holds_where_squares_vanish(power, share):
    B = np.ldexp(np.array([[0.0, 0], [4, 0]]), power)
    w = last(nnls, B, share * B[1], 1.0)
    assert (w == [1 - share, share]).all()
    assert (last(nnls, B, np.array([8.0, 0]), 1.0) == [0, 1]).all()


def test_the_gap_bounds_the_distance_to_the_nearest_point():
    B, t = np.array([[0.0, 0], [2, 0]]), np.array([0.5, -1.0])
    reach = np.hypot(1.5, 1)
    for share in (0.0, 0.1, 0.25, 0.9):
        apart = 2 * abs(share - 0.25)
        assert apart**2 <= gap(B, t, reach, np.array([1 - share, share])) * reach**2 + 4 * EPS
