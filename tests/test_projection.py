"""What a projection onto a hull is: the inequality, the certificate, the invariances.

Entries are dyadic, so that differences, means and Hadamard rotations below are exact and every
tolerance is rounding(...): inner products of length n and sums of m terms err by at most
(m + n) eps in units of the largest vectors; 8 covers the constants.
"""

import tracemalloc
from fractions import Fraction
from types import SimpleNamespace

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import wolfe_min_norm_point
from scipy.linalg import hadamard

from clarke import least_norm, projection
from clarke.projection import (
    ProjectionStopped,
    blockwise_min_norm,
    contains,
    eigenvalue_interval,
    min_norm_element,
    nearest_element,
    support,
)

METHODS = ["auto", "nnls", "wolfe", "active-set", "cvxpy"]
GAP = 1e-14  # the accuracy promised
law = settings(deadline=None)
slow_law = settings(deadline=None, max_examples=30)


def dyadic(*shape):
    return arrays(float, shape, elements=st.integers(-32, 32).map(lambda k: k / 8))


@st.composite
def hulls(draw, n=None):
    """Elements (m, n), a target (n,)."""
    m, n = draw(st.integers(1, 7)), n or draw(st.integers(1, 5))
    return draw(dyadic(m, n)), draw(dyadic(n))


@st.composite
def hessians(draw):
    m, n = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    A = draw(dyadic(m, n, n))
    return A + A.swapaxes(1, 2)


@st.composite
def convex_weights(draw, m):
    """Multiples of 1/64 of sum 1."""
    cuts = sorted(draw(st.lists(st.integers(0, 64), min_size=m - 1, max_size=m - 1)))
    return np.diff([0, *cuts, 64]) / 64


def rounding(V):
    return 8 * (len(V) + V[0].size) * np.finfo(float).eps


def reach(V, T):
    return max(np.linalg.norm(v - T) for v in V)


def scale(V, T):
    return reach(V, T) + np.linalg.norm(T)


def exact(V):
    return [[Fraction(x) for x in row] for row in V]


def exact_combination(V, w):
    """Sum of w_i v_i over the sum of w_i, in Fractions."""
    w = [Fraction(x) for x in w]
    columns = zip(*exact(V), strict=True)
    return [sum(a * x for a, x in zip(w, c, strict=True)) / sum(w) for c in columns]


def exact_gap(V, T, w):
    """|P - T|^2 - min_i <P - T, v_i - T> in Fractions, not yet relative."""
    t = [Fraction(x) for x in T]
    d = [p - x for p, x in zip(exact_combination(V, w), t, strict=True)]
    shifted = [[x - y for x, y in zip(v, t, strict=True)] for v in exact(V)]
    slopes = [sum(a * b for a, b in zip(d, v, strict=True)) for v in shifted]
    return sum(a * a for a in d) - min(slopes), max(sum(a * a for a in v) for v in shifted)


def wolfe(V, T):
    """The projection of T, correctly rounded."""
    shifted = [[x - Fraction(y) for x, y in zip(v, T, strict=True)] for v in exact(V)]
    return np.array([float(x) for x in exact_combination(V, wolfe_min_norm_point(shifted))])


# The projection


@law
@given(hulls())
def test_the_nearest_element_makes_no_obtuse_angle_from_the_target_to_an_element(case):
    V, T = case
    r = nearest_element(V, T)
    assert r.gap <= GAP
    slopes = (V - r.element) @ (r.element - T)
    assert slopes.min() >= -r.gap * reach(V, T) ** 2 - rounding(V) * scale(V, T) ** 2


@law
@given(hulls())
def test_the_certificate_is_the_one_exact_arithmetic_gives_the_weights(case):
    V, T = case
    r = nearest_element(V, T)
    gap, square = exact_gap(V, T, r.weights)
    assert abs(r.gap - float(gap / square if square else gap)) <= rounding(V)
    P = np.array([float(x) for x in exact_combination(V, r.weights)])
    assert np.linalg.norm(r.element - P) <= rounding(V) * scale(V, T)
    assert abs(r.distance - np.linalg.norm(P - T)) <= rounding(V) * scale(V, T)
    assert r.infeasibility == max(abs(r.weights.sum() - 1), -r.weights.min(), 0)
    assert r.infeasibility <= rounding(V)


@law
@given(hulls())
def test_the_nearest_element_is_the_one_wolfe_finds_in_exact_arithmetic(case):
    V, T = case
    r, P = nearest_element(V, T), wolfe(V, T)
    gap = (r.gap + rounding(V)) * reach(V, T) ** 2
    slack = rounding(V) * scale(V, T)
    assert np.linalg.norm(r.element - P) <= np.sqrt(gap) + slack
    d = np.linalg.norm(P - T)
    assert abs(r.distance - d) <= min(gap / d if d else np.inf, np.sqrt(gap)) + slack


@pytest.mark.parametrize("method", ["nnls", "wolfe", "active-set"])
@given(case=hulls())
@slow_law
def test_every_active_set_agrees_with_the_definition(method, case):
    V, T = case
    ours, readable = (nearest_element(V, T, method=name) for name in (method, "cvxpy"))
    assert ours.gap <= GAP
    assert readable.gap <= GAP
    near = np.sqrt([ours.gap + rounding(V), readable.gap + rounding(V)]).sum() * reach(V, T)
    assert np.linalg.norm(ours.element - readable.element) <= near + rounding(V) * scale(V, T)


@law
@given(st.data())
def test_the_gap_of_any_weights_bounds_the_squared_distance_to_the_projection(data):
    V, T = data.draw(hulls())
    w = data.draw(convex_weights(len(V)))
    shifted = [[x - Fraction(y) for x, y in zip(v, T, strict=True)] for v in exact(V)]
    P = exact_combination(V, wolfe_min_norm_point(shifted))
    apart = [p - q for p, q in zip(P, exact_combination(V, w), strict=True)]
    assert sum(x * x for x in apart) <= exact_gap(V, T, w)[0]


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@slow_law
def test_a_planted_face_holds_the_projection(method, data):
    """Pairs P +- s_j e_j, j > 0, and elements beyond the plane x_0 = P_0, where T - P is normal."""
    n = data.draw(st.integers(2, 5))
    P = data.draw(dyadic(n))
    sides = data.draw(arrays(float, n - 1, elements=st.integers(1, 32).map(lambda k: k / 8)))
    arms = np.diag([0, *sides])[1:]
    beyond = P + np.abs(data.draw(dyadic(3, n))) + np.eye(n)[0] / 8
    V = data.draw(st.permutations([*(P + arms), *(P - arms), *beyond])).copy()
    T = P - np.eye(n)[0] * data.draw(st.sampled_from([0, 1 / 8, 1, 64]))
    r = nearest_element(np.array(V), T, method=method)
    assert r.gap <= GAP
    # The corral is conditioned no worse than the ratio 32 of its sides, times sqrt(n) twice.
    assert np.linalg.norm(r.element - P) <= 32 * n * rounding(np.array(V)) * scale(V, T)
    apart = np.linalg.norm(P - T)  # where it is 0 the distance is of first order in the error of the element
    assert abs(r.distance - apart) <= (1 if apart else 32 * n) * rounding(np.array(V)) * scale(V, T)


def test_opposite_halves_balance_to_zero():
    v = np.arange(1.0, 11)
    V = np.array([v] * 10 + [-v] * 10)
    r = min_norm_element(V)
    assert r.gap == 0
    assert r.distance == 0
    assert not r.element.any()
    assert not (r.weights @ V).any()
    assert np.count_nonzero(r.weights) == 2


@pytest.mark.parametrize("method", METHODS)
def test_an_element_that_is_the_projection_is_returned_untouched(method):
    V = np.array([[3, 4], [3, 5], [7, 4.1]])
    r = min_norm_element(V, method=method)
    assert r.method == "vertex"
    assert r.gap == 0
    assert r.distance == 5
    assert (r.element == V[0]).all()
    assert (r.weights == [1, 0, 0]).all()
    one = nearest_element(V[:1], V[0], method=method)
    assert one.gap == 0
    assert one.distance == 0
    assert (one.weights == 1).all()


def test_elements_that_differ_in_the_sign_of_zero_share_one_unit_of_weight():
    assert min_norm_element(np.array([[0.0, 1], [-0.0, 1]])).infeasibility == 0


# Invariances


@law
@given(st.data())
def test_the_order_of_the_elements_does_not_matter(data):
    V, T = data.draw(hulls())
    order = data.draw(st.permutations(range(len(V))))
    a, b = nearest_element(V, T), nearest_element(V[order], T)
    near = np.sqrt([a.gap + rounding(V), b.gap + rounding(V)]).sum() * reach(V, T)
    assert np.linalg.norm(a.element - b.element) <= near + rounding(V) * scale(V, T)
    assert b.gap <= GAP


@law
@given(st.data())
def test_repeating_an_element_changes_no_digit(data):
    V, T = data.draw(hulls())
    repeats = data.draw(st.lists(st.sampled_from(range(len(V))), max_size=5))
    a, b = nearest_element(V, T), nearest_element(np.concatenate([V, V[repeats]]), T)
    assert (a.element == b.element).all()
    assert a.gap == b.gap


@law
@given(hulls(n=4))
def test_the_projection_turns_with_its_hull(case):
    V, T = case
    Q = hadamard(4) / 2  # orthogonal, and exact on short dyadics
    a, b = nearest_element(V, T), nearest_element(V @ Q, T @ Q)
    near = np.sqrt([a.gap + rounding(V), b.gap + rounding(V)]).sum() * reach(V, T)
    assert np.linalg.norm(a.element @ Q - b.element) <= near + rounding(V) * scale(V, T)


@law
@given(hulls(), st.sampled_from([-900, -500, -1, 3, 500, 900]))
def test_scaling_by_a_power_of_two_changes_no_digit(case, power):
    V, T = case
    a, b = nearest_element(V, T), nearest_element(np.ldexp(V, power), np.ldexp(T, power))
    assert (np.ldexp(a.element, power) == b.element).all()
    assert (a.weights == b.weights).all()
    assert np.ldexp(a.distance, power) == b.distance
    assert a.gap == b.gap


@law
@given(hulls(), st.integers(3, 1000))
def test_the_projection_scales_with_its_hull(case, factor):
    V, T = case
    a, b = nearest_element(V, T), nearest_element(V * factor, T * factor)
    near = np.sqrt([a.gap + rounding(V), b.gap + rounding(V)]).sum() * reach(V, T)
    assert np.linalg.norm(a.element - b.element / factor) <= near + rounding(V) * scale(V, T)


@law
@given(hulls(n=4))
def test_the_trailing_shape_is_kept_and_does_not_matter(case):
    V, T = case
    a, b = nearest_element(V, T), nearest_element(V.reshape(-1, 2, 2), T.reshape(2, 2))
    assert b.element.shape == (2, 2)
    assert (a.element == b.element.ravel()).all()


# Size and scale


def hard_hulls():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape)

    spread = np.exp(3 * normal(500, 1))
    bases, mixes = normal(5, 1000), rng.dirichlet(np.ones(5), 400)
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 9)).reshape(9, -1).T
    hessians = normal(100, 30, 30)
    yield "long", normal(500, 1000), 0
    yield "long and one-sided", normal(500, 1000) + 0.2, 0
    yield "short", normal(500, 30), 0
    yield "square", normal(300, 300), 0
    yield "affinely dependent", mixes @ bases + 1, 0
    yield "affinely dependent, target inside", mixes @ bases, bases.mean(0)
    yield "a zonotope", cube @ normal(9, 40) + 2 * normal(40), 0
    yield "a cube about the target", cube + 0.5, 0
    yield "collinear", np.outer(np.linspace(-1, 2, 40), normal(10)) + 1, 0
    yield "rows of many sizes", normal(500, 300) * spread + 0.1, 0
    yield "columns of many sizes", normal(300, 500) * spread.T + 0.1, 0
    yield "entries from 1e-150 to 1e150", 10 ** rng.uniform(-150, 150, (20, 30)), 0
    yield "tiny", 1e-150 * (normal(20, 30) + 0.3), 0
    yield "huge", 1e150 * (normal(20, 30) + 0.3), 0
    near = np.repeat(normal(20, 30), 15, axis=0) + 0.3
    yield "repeated", near[rng.permutation(300)], 0
    yield "nearly repeated", near + 1e-9 * normal(300, 30), 0
    yield "a line and noise", np.outer(normal(200), normal(40)) + 1e-7 * normal(200, 40) + 0.1, 0
    yield "rows from 1e-8 to 1e8", normal(300, 30) * 10 ** rng.uniform(-8, 8, (300, 1)), 0
    yield "at the threshold of holding 0", normal(400, 200), 0
    yield "far", normal(20, 30) + 1e6 * np.eye(30)[0], 0
    yield "positive semidefinite", hessians @ hessians.swapaxes(1, 2), 0


@pytest.mark.parametrize(("V", "T"), [pytest.param(V, T, id=name) for name, V, T in hard_hulls()])
def test_the_gap_stays_below_the_promise_whatever_the_hull(V, T):
    for method in METHODS if V.size <= 20_000 else ["auto", "nnls"]:
        r = nearest_element(V, np.broadcast_to(T, V.shape[1:]), method=method)
        assert r.gap <= GAP
        assert r.infeasibility <= rounding(V)


@pytest.mark.parametrize(("m", "size"), [(2000, 200), (2000, 50), (250, 10_000), (1000, 300)])
def test_the_gap_stays_below_the_promise_at_size(m, size):
    V = np.random.default_rng(m + size).standard_normal((m, size))
    for shift in (0, 0.5):
        r = min_norm_element(V + shift)
        assert r.gap <= GAP
        assert r.infeasibility <= rounding(V)


@pytest.mark.parametrize("size", [3, 40, 1000])
def test_a_target_inside_is_reached_to_rounding(size):
    rng = np.random.default_rng(1)
    V = rng.standard_normal((30, size))
    r = nearest_element(V, rng.dirichlet(np.ones(30)) @ V)
    assert r.gap <= GAP
    assert r.distance <= rounding(V) * np.abs(V).max()


def test_a_far_small_simplex_keeps_its_digits():
    """Adding an offset normal to the hull moves the projection by it, and by rounding only.

    The offset costs a relative eps of 1e6 in each difference; the corral's condition number is
    that of a normal sample, below 100.
    """
    V = np.random.default_rng(2).integers(-1024, 1024, (20, 30)) / 1024
    V[:, 0] = 0
    near, far = min_norm_element(V), min_norm_element(V + 1e6 * np.eye(30)[0])
    assert np.abs(far.element[1:] - near.element[1:]).max() <= 100 * np.finfo(float).eps * 1e6
    assert far.gap * reach(V + 1e6 * np.eye(30)[0], 0) ** 2 <= 1e-7  # honest below eps: 1e-19


def test_the_ends_of_the_floats_are_in_range():
    tiny, huge = 5e-324, 1.7e308
    assert min_norm_element(np.array([[tiny, 0], [0, tiny]])).gap == 0
    assert not min_norm_element(np.array([[huge] * 3, [-huge] * 3])).element.any()
    assert nearest_element(np.array([[huge] * 3]), [-huge] * 3).distance == np.inf
    close = nearest_element(np.array([[1, 2e-200], [1, 1e-200]]), [1, 0])
    assert close.distance == 1e-200
    assert (close.weights == [0, 1]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_segment_shorter_than_the_root_of_the_least_float_is_projected_on(method):
    short = nearest_element([[0.0, 0], [1e-170, 0]], [1, 0], method=method)
    assert short.distance == 1
    assert short.gap <= 1e-14


def test_long_elements_are_copied_once():
    V = np.random.default_rng(3).standard_normal((50, 40_000))
    tracemalloc.start()
    r = min_norm_element(V)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert r.gap <= GAP
    assert peak <= 1.5 * V.nbytes  # one copy, slabs of 4m columns, a few vectors


# The routes


TRIANGLE = np.array([[1.0, 2], [1, -1], [5, 0]])


def uniform(B, t, reach):
    yield np.full(len(B), 1 / len(B))


def stop(B, t, reach):
    raise ProjectionStopped("stopped")
    yield


def test_a_solver_that_errs_is_found_out_and_replaced(monkeypatch):
    monkeypatch.setitem(projection.ROUTES, "nnls", uniform)
    wrong = min_norm_element(TRIANGLE, method="nnls")
    gap, square = exact_gap(TRIANGLE, [0, 0], wrong.weights)
    assert wrong.gap == pytest.approx(float(gap / square), rel=rounding(TRIANGLE))
    assert wrong.gap > 0.1
    right = min_norm_element(TRIANGLE)
    assert right.method == "active-set"
    assert right.gap <= GAP
    np.testing.assert_allclose(right.element, [1, 0], atol=rounding(TRIANGLE) * 5)


def test_auto_survives_all_solvers_but_one_stopping(monkeypatch):
    for name in ("nnls", "active-set", "wolfe"):
        monkeypatch.setitem(projection.ROUTES, name, stop)
    assert min_norm_element(TRIANGLE).method == "cvxpy"
    monkeypatch.setitem(projection.ROUTES, "cvxpy", stop)
    with pytest.raises(ProjectionStopped):
        min_norm_element(TRIANGLE)
    monkeypatch.setitem(projection.ROUTES, "nnls", uniform)
    assert min_norm_element(TRIANGLE).gap > 0.1


def test_auto_begins_with_nnls_for_few_elements_and_with_faces_for_many(monkeypatch):
    V = np.random.default_rng(5).standard_normal((60, 4)) + 1
    assert min_norm_element(V[:24]).method == "nnls"
    assert min_norm_element(V).method == "active-set"
    monkeypatch.setitem(projection.ROUTES, "active-set", uniform)
    assert min_norm_element(V).method == "wolfe"


def test_the_definition_is_solved_well_before_any_polish():
    """0 on a face, and three elements that the face alone keeps from carrying weight."""
    V = np.array([[0, 1, 0], [0, 0, 1], [0, -1, 0], [0, 0, -1], [1, 0, 0], [5, 19, 0], [1, 1, 0]])
    w = next(projection.ROUTES["cvxpy"](V, np.zeros(3), reach(V, 0)))
    assert least_norm.gap(V, np.zeros(3), reach(V, 0), w) <= 1e-12


def test_cvxpy_compiles_the_definition_once_for_a_shape():
    rng = np.random.default_rng(6)
    projection._compiled.cache_clear()
    for _ in range(3):
        assert min_norm_element(rng.standard_normal((6, 5)) + 1, method="cvxpy").gap <= GAP
    assert projection._compiled.cache_info().misses == 1


def test_a_stopped_solver_says_so(monkeypatch):
    def exhausted(*arguments, **options):
        raise RuntimeError("Maximum number of iterations reached.")

    def broken(*arguments, **options):
        raise cvxpy.SolverError("no luck")

    monkeypatch.setattr(least_norm, "lawson_hanson", exhausted)
    with pytest.raises(ProjectionStopped, match=r"nnls on 3 elements: Maximum .* Try another method"):
        min_norm_element(TRIANGLE, method="nnls")
    monkeypatch.setattr(cvxpy.Problem, "solve", broken)
    with pytest.raises(ProjectionStopped, match="Clarabel on 3 elements: no luck"):
        min_norm_element(TRIANGLE, method="cvxpy")
    monkeypatch.setattr(cvxpy.Problem, "solve", lambda *arguments, **options: None)
    projection._compiled.cache_clear()
    with pytest.raises(ProjectionStopped, match="Clarabel on 3 elements ended None"):
        min_norm_element(TRIANGLE, method="cvxpy")


# What else a hull is asked


@law
@given(st.data())
def test_a_hull_contains_its_convex_combinations(data):
    V, _ = data.draw(hulls())
    T = data.draw(convex_weights(len(V))) @ V  # exact: 64ths of eighths
    assert contains(V, T, np.sqrt(GAP) * max(reach(V, T), 1))
    assert contains(V, V[-1], 0)


@law
@given(st.data())
def test_a_hull_contains_nothing_beyond_a_supporting_hyperplane(data):
    V, _ = data.draw(hulls())
    T = V[0] - np.eye(V.shape[1])[0] * (V[:, 0].max() - V[:, 0].min() + V[0, 0] - V[:, 0].min() + 1)
    ahead = V[:, 0].min() - T[0]  # the distance is at least this, and this is at least 1
    assert not contains(V, T, ahead * (1 - rounding(V) * scale(V, T)))
    assert contains(V, T, reach(V, T) * (1 + rounding(V) * scale(V, T)))


@law
@given(st.data())
def test_support_is_sublinear_and_attained(data):
    V, d = data.draw(hulls())
    e = data.draw(dyadic(len(d)))
    assert support(V, d + e) <= support(V, d) + support(V, e)
    assert support(V, 4 * d) == 4 * support(V, d)
    assert support(V, 0 * d) == 0
    assert support(V, d) == max(sum(x * y for x, y in zip(v, d, strict=True)) for v in V)


@law
@given(st.data())
def test_eigenvalues_over_the_hull_stay_in_the_interval_and_reach_its_ends(data):
    H = data.draw(hessians())
    low, high = eigenvalue_interval(H)
    slack = rounding(H) * max(np.linalg.norm(h) for h in H)
    middle = np.linalg.eigvalsh(np.tensordot(data.draw(convex_weights(len(H))), H, 1))
    assert low - slack <= middle[0]
    assert middle[-1] <= high + slack
    corners = [np.linalg.eigvalsh(h) for h in H]
    assert abs(min(c[0] for c in corners) - low) <= slack
    assert abs(max(c[-1] for c in corners) - high) <= slack


def test_eigenvalues_are_those_of_the_symmetric_part():
    low, high = eigenvalue_interval([[[1, 2e-10], [0, 1]]])
    assert abs(low - (1 - 1e-10)) <= 1e-15
    assert abs(high - (1 + 1e-10)) <= 1e-15


@law
@given(hessians())
def test_the_least_of_positive_semidefinite_elements_is_positive_semidefinite(A):
    H = A @ A  # A is symmetric
    P = min_norm_element(H).element
    slack = rounding(H) * max(np.linalg.norm(h) for h in H)
    assert np.abs(P - P.T).max() <= slack
    assert np.linalg.eigvalsh(P)[0] >= -slack


# Blockwise


def test_blockwise_minima_of_positive_definite_elements_leave_the_hull_and_are_indefinite():
    """The hull is the segment [1 + 9s, 3; 3, 10 - 9s]; the blocks choose 1, 3 and 1."""
    H = np.array([[[1.0, 3], [3, 10]], [[10, 3], [3, 1]]])
    assert eigenvalue_interval(H)[0] > 0
    r = blockwise_min_norm(H, [1, 1])
    assert (r.element == [[1, 3], [3, 1]]).all()  # eigenvalues -2 and 4
    assert r.inside is False
    assert r.complete
    assert r.distance == pytest.approx(4.5 * np.sqrt(2), rel=rounding(H))
    assert eigenvalue_interval([min_norm_element(H).element])[0] > 0


@law
@given(hessians())
def test_one_block_is_the_minimum_norm_element_and_stays_inside(H):
    r, P = blockwise_min_norm(H, [H.shape[1]]), min_norm_element(H)
    slack = rounding(H) * max(np.linalg.norm(h) for h in H)
    assert np.abs(r.element - P.element).max() <= slack
    assert r.inside
    assert (r.element == r.element.T).all()


@pytest.mark.parametrize("power", [-1000, -600, 0, 600, 1000])
def test_whether_blocks_are_inside_does_not_change_with_the_unit(power):
    H = np.ldexp(np.array([[[2.0, 1], [1, 2]], [[1, -0.5], [-0.5, 3]], [[5, -2], [-2, 1]]]), power)
    assert blockwise_min_norm(H, [2]).inside
    assert blockwise_min_norm(H, [2]).distance > 0 or power
    assert blockwise_min_norm(H, [1, 1]).inside is False


@law
@given(hessians())
def test_each_block_is_no_larger_than_that_block_of_the_joint_minimum(H):
    n = H.shape[1]
    r, P = blockwise_min_norm(H, [1] * n), min_norm_element(H).element
    slack = rounding(H) * np.abs(H).max()
    assert (np.abs(r.element) <= np.abs(P) + slack).all()
    assert (r.element == r.element.T).all()
    # One entry to a block: 0 where signs differ, else the entry least in absolute value.
    least = np.where((H.min(0) <= 0) & (H.max(0) >= 0), 0, np.abs(H).min(0) * np.sign(H[0]))
    assert np.abs(r.element - least).max() <= slack
    assert r.inside == contains(H, r.element, 1e-9 * max(np.linalg.norm(h) for h in H))


def test_blocks_of_unequal_sizes_keep_their_places():
    H = np.random.default_rng(4).integers(-8, 8, (6, 5, 5)) / 8
    H = H + H.swapaxes(1, 2)
    r = blockwise_min_norm(H, (2, 3))
    for rows, columns in [(slice(0, 2), slice(2, 5)), (slice(2, 5), slice(2, 5))]:
        block = min_norm_element(H[:, rows, columns]).element
        np.testing.assert_allclose(r.element[rows, columns], block, atol=rounding(H) * 8)
    assert (r.element == r.element.T).all()


# What comes in and what goes out


def test_a_limiting_set_hands_its_completeness_on():
    H = np.array([[[1.0, 3], [3, 10]], [[10, 3], [3, 1]]])
    partial = SimpleNamespace(matrices=H, gradients=H[:, 0], complete=False, reason="gave up")
    r = min_norm_element(partial)
    assert r.element.shape == (2, 2)
    assert not r.complete
    assert r.reason == "gave up"
    split = blockwise_min_norm(partial, [1, 1])
    assert split.inside is None
    assert not split.complete
    assert split.reason == "gave up"
    assert blockwise_min_norm(partial, [2]).inside is True
    gradients = SimpleNamespace(vectors=np.eye(2), complete=True, reason="counted")
    assert min_norm_element(gradients).reason == "counted"
    assert support(gradients, [1, 2]) == 2
    assert contains(gradients, [0.5, 0.5], 1e-12)
    assert min_norm_element(np.eye(2)).reason == "the elements were given as an array"


def test_numbers_and_lists_and_integers_are_elements_too():
    assert min_norm_element([3, -1, 2]).element == 0
    assert min_norm_element([[[2]]]).element.shape == (1, 1)


def test_results_are_read_only_and_the_input_is_left_alone():
    V = np.array([[1.0, 2], [1, -1]])
    V.flags.writeable = False
    r = min_norm_element(V)
    split = blockwise_min_norm(np.eye(2)[None], [1, 1])
    for array in (r.element, r.weights, split.element):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    with pytest.raises(AttributeError):
        r.gap = 0


E2 = np.eye(2)
REFUSED = [
    (lambda: min_norm_element("hull"), "elements must be an array of real numbers; got str"),
    (lambda: min_norm_element(None), "elements must be an array of real numbers; got NoneType"),
    (lambda: min_norm_element([[1.0], [1, 2]]), "elements must be an array.*got list.*one shape"),
    (lambda: min_norm_element(1j * E2), "elements must be an array of real numbers.*complex128"),
    (lambda: min_norm_element(3.0), r"elements must be an array \(m, ...\).*shape \(\)"),
    (lambda: min_norm_element(np.zeros((0, 3))), r"m >= 1 elements.*shape \(0, 3\)"),
    (lambda: min_norm_element(np.zeros((3, 0))), r"with entries; got the shape \(3, 0\)"),
    (lambda: min_norm_element([[np.nan]]), "elements holds NaN or infinity"),
    (lambda: min_norm_element(np.array([[np.longdouble("1e400")]])), "elements holds NaN or infinity"),
    (lambda: support([[np.inf]], [1]), "elements holds NaN or infinity"),
    (lambda: nearest_element(E2, [1]), r"target must have the shape \(2,\).*got \(1,\)"),
    (lambda: nearest_element(E2, [1, np.nan]), "target holds NaN or infinity"),
    (lambda: contains(E2, "here", 0), "target must be an array of real numbers; got str"),
    (lambda: support(E2, E2), r"direction must have the shape \(2,\).*got \(2, 2\)"),
    (
        lambda: min_norm_element(E2, method="qp"),
        "method must be one of auto, nnls, active-set, wolfe, cvxpy; got 'qp'",
    ),
    (lambda: contains(E2, [0, 0], -1), "tol must be a finite number >= 0; got -1"),
    (lambda: contains(E2, [0, 0], np.nan), "tol must be a finite number >= 0; got nan"),
    (lambda: contains(E2, [0, 0], "tight"), "tol must be a finite number >= 0; got 'tight'"),
    (lambda: eigenvalue_interval(E2), r"hessians must be square.*got \(2, 2\)"),
    (lambda: eigenvalue_interval(np.ones((1, 2, 3))), r"hessians must be square.*got \(1, 2, 3\)"),
    (lambda: eigenvalue_interval([E2, [[0, 1], [0, 0]]]), r"hessians\[1\] is not symmetric.* 1;"),
    (lambda: eigenvalue_interval([[[np.nan]]]), "hessians holds NaN or infinity"),
    (lambda: blockwise_min_norm([E2], [1, 2]), r"sizes must be positive.*sum 2; got \[1, 2\]"),
    (lambda: blockwise_min_norm([E2], [3, -1]), r"sizes must be positive.*got \[3, -1\]"),
    (lambda: blockwise_min_norm([E2], [0.5, 1.5]), r"sizes must be .*whole.*got \[0.5, 1.5\]"),
    (lambda: blockwise_min_norm([E2], []), r"sizes must be positive.*got \[\]"),
    (lambda: blockwise_min_norm([E2], "two"), "sizes must be an array of real numbers; got str"),
    (lambda: blockwise_min_norm([E2], [2], tol=-1), "tol must be a finite number >= 0; got -1"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
