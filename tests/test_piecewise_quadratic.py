"""Sums of squared hinges: minima planted, enumerated and invariant; certificates recomputed; steps and rows counted."""

import itertools
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

import clarke
from clarke import central_path, hinges, piecewise_quadratic
from clarke.piecewise_quadratic import STATUS, minimize_squared_hinges

METHODS = "cholesky", "woodbury", "cg"
EPS = np.finfo(float).eps


def separable(m, n, seed, margin=1.0):
    """Rows and labels of a linear function, with a gap between its signs."""
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(m, n)), rng.normal(size=n)
    y = np.where(X @ w > 0, 1.0, -1.0)
    return X + margin * y[:, None] * w / (w @ w), y


def noisy(m, n, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, n))
    return X, np.where(X @ rng.normal(size=n) + rng.normal(size=m) > 0, 1.0, -1.0)


def terms(y, *others):
    """An iterator over the labels with what else belongs to a row, numbers repeated."""
    return zip(*np.broadcast_arrays(y, *others), strict=True)


def value(X, y, c, w, b=1.0):
    """f(w), term by term."""
    return w @ w / 2 + sum(
        ci * max(0.0, bi - yi * (xi @ w)) ** 2 for xi, (yi, ci, bi) in zip(X, terms(y, c, b), strict=True)
    )


def slope(X, y, c, w, b=1.0):
    """grad f(w), row by row."""
    g = w.copy()
    for xi, (yi, ci, bi) in zip(X, terms(y, c, b), strict=True):
        g -= 2 * ci * max(0.0, bi - yi * (xi @ w)) * yi * xi
    return g


def solved(*args, **options):
    found = minimize_squared_hinges(*args, **options)
    assert found.success, found
    return found


def exact_minimum(X, y, c, b):
    """The minimizer in rational arithmetic: the one piece whose own minimum has exactly its rows active."""
    m, n = len(X), len(X[0])
    for active in itertools.product((False, True), repeat=m):
        H = [[Fraction(i == j) for j in range(n)] + [Fraction(0)] for i in range(n)]
        for k in itertools.compress(range(m), active):
            for i in range(n):
                for j in range(n):
                    H[i][j] += 2 * c[k] * y[k] ** 2 * X[k][i] * X[k][j]
                H[i][n] += 2 * c[k] * b[k] * y[k] * X[k][i]
        for k in range(n):  # H >= I: the pivots are positive
            H[k] = [entry / H[k][k] for entry in H[k]]
            for i in range(n):
                if i != k:
                    H[i] = [p - H[i][k] * q for p, q in zip(H[i], H[k], strict=True)]
        w = [row[n] for row in H]
        slacks = [b[k] - y[k] * sum(p * q for p, q in zip(X[k], w, strict=True)) for k in range(m)]
        if all((r > 0) == on or r == 0 for r, on in zip(slacks, active, strict=True)):
            return w
    raise AssertionError("no piece holds the minimum")


# ---------------------------------------------------------------- the minimum

few = st.integers(-3, 3)


@st.composite
def small_sums(draw):
    m, n = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rows = [[Fraction(draw(few)) for _ in range(n)] for _ in range(m)]
    y = [Fraction(draw(few)) for _ in range(m)]
    c = [Fraction(draw(st.integers(0, 3)), 2) for _ in range(m)]
    return rows, y, c, [Fraction(draw(few)) for _ in range(m)]


@settings(max_examples=60)
@given(small_sums(), st.sampled_from(METHODS), st.booleans())
def test_the_minimum_is_that_of_the_one_piece_that_holds_its_own(problem, method, sparse):
    """Zero rows, zero labels and weights, negative offsets and exact kinks among them."""
    exact = np.array(exact_minimum(*problem), dtype=float)
    X, *rest = (np.array(part, dtype=float) for part in problem)
    found = solved(sp.csr_array(X) if sparse else X, rest[0], rest[1], offsets=rest[2], method=method)
    assert np.allclose(found.x, exact, rtol=0, atol=1e-11 * (1 + np.abs(exact).max()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize(("m", "n"), [(40, 5), (8, 20)])
def test_scipy_and_cvxpy_reach_the_same_value_and_none_a_lower_one(m, n, C, method):
    X, y = noisy(m, n, seed=m + n)
    found = solved(X, y, C, method=method)
    w = cp.Variable(n)
    loss = cp.sum_squares(w) / 2 + C * cp.sum_squares(cp.pos(1 - cp.multiply(y, X @ w)))
    cp.Problem(cp.Minimize(loss)).solve(solver=cp.CLARABEL)
    twins = [w.value, minimize(lambda v: value(X, y, C, v), np.zeros(n), jac=lambda v: slope(X, y, C, v)).x]
    least = value(X, y, C, found.x)
    for twin in twins:
        assert least <= value(X, y, C, twin) * (1 + 4 * m * EPS)
        assert value(X, y, C, twin) == pytest.approx(least, rel=1e-6)


def test_one_sample_on_a_line():
    """w^2 / 2 + c (1 - 2 w)^2 has its minimum at 4 c / (1 + 8 c), never on the flat side of the hinge."""
    for c in (0.5, 3.0):
        assert solved([[2.0]], [1.0], c).x[0] == pytest.approx(4 * c / (1 + 8 * c), rel=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_a_minimum_planted_on_kinks_is_found_and_its_kinks_are_slack_free(method):
    """Rows with y <x, w*> = 1 exactly have no multiplier; the others have weights that make the gradient 0 at w*."""
    w = np.array([1.0, 0.0, 0.0])
    rows = np.array([[0.5, 1, 0], [0.5, -1, 0], [1, 2, 0], [1, -3, 1], [1, 0, 5], [4, 1, 1]])
    # 1/2 + 1/2 slack twice: 2 c 1/2 (rows 0 and 1) sums to 2 c (0.5, 0, 0) = w, at c = 1
    found = solved(rows, np.ones(6), np.array([1.0, 1, 7, 7, 7, 7]), method=method)
    assert np.allclose(found.x, w, atol=1e-13)
    assert np.allclose(found.slacks, [0.5, 0.5, 0, 0, 0, -3], atol=1e-12)
    assert np.allclose(found.multipliers, [1, 1, 0, 0, 0, 0], atol=1e-10)


def test_two_separable_points_meet_in_the_middle():
    """At +-2 on a line with labels +-1 both hinges pull alike: w = 8 c / (1 + 16 c), towards the hard margin 1/2."""
    for c in (1.0, 1e6):
        assert solved([[2.0], [-2.0]], [1, -1], c).x[0] == pytest.approx(8 * c / (1 + 16 * c), rel=1e-14)


def test_without_weight_or_beyond_every_hinge_the_minimum_is_zero():
    X, y = noisy(10, 3, seed=0)
    for found in (solved(X, y, 0.0), solved(X, y, 1.0, offsets=-1.0), solved(X, y, 1.0, offsets=0.0)):
        assert not found.x.any()
        assert found.nit == 0
        assert found.relative_gradient == 0


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("method", METHODS)
def test_where_no_row_is_active_the_step_goes_to_zero(method, form):
    """From 4 on a line all slacks are 1 - 4 < 0, so the first step sees |w|^2 / 2 alone; it ends where rows enter."""
    found = minimize_squared_hinges(form(np.ones((3, 1))), 1.0, 1.0, start=4.0, method=method, maxiter=1)
    assert found.history[0].active == 0
    assert found.x[0] == pytest.approx(6 / 7, rel=1e-14)
    assert solved(form(np.ones((3, 1))), 1.0, 1.0, start=4.0, method=method).x[0] == pytest.approx(6 / 7, rel=1e-14)
    from_afar = solved(form(np.eye(3)), 1.0, 1.0, offsets=-1.0, start=[1.0, 2.0, 3.0], method=method)
    assert np.allclose(from_afar.x, 0, atol=1e-15)


def test_ridge_regression_is_the_rows_and_their_negatives():
    rng = np.random.default_rng(1)
    X, t = rng.normal(size=(30, 4)), rng.normal(size=30)
    found = solved(np.vstack([X, -X]), np.ones(60), 0.7, offsets=np.concatenate([t, -t]))
    assert np.allclose(found.x, np.linalg.solve(np.eye(4) + 1.4 * X.T @ X, 1.4 * X.T @ t), atol=1e-14)


def test_nonnegative_least_squares_is_the_dual():
    """max over a >= 0 of sum a - |A^T a|^2 / 2 - |a|^2 / 4 c has the multipliers for its solution."""
    X, y = noisy(12, 4, seed=3)
    A, c = y[:, None] * X, 0.8
    root = np.linalg.cholesky(A @ A.T + np.eye(12) / (2 * c)).T
    assert np.allclose(nnls(root, np.linalg.solve(root.T, np.ones(12)))[0], solved(X, y, c).multipliers, atol=1e-11)


# ---------------------------------------------------------------- invariance

problems = st.integers(0, 10**6).flatmap(lambda seed: st.sampled_from([noisy(25, 4, seed), noisy(5, 9, seed)]))


@settings(max_examples=25)
@given(problems, st.permutations(range(4)), st.sampled_from(METHODS))
def test_the_order_of_rows_and_columns_does_not_matter(problem, order, method):
    X, y = problem
    rows = np.random.default_rng(0).permutation(len(y))
    columns = np.r_[list(order), 4 : X.shape[1]]
    found = solved(X, y, 2.0, method=method)
    moved = solved(X[np.ix_(rows, columns)], y[rows], 2.0, method=method)
    assert np.allclose(moved.x, found.x[columns], atol=1e-11)


@settings(max_examples=25)
@given(problems, st.integers(0, 4), st.sampled_from(METHODS))
def test_a_row_twice_is_a_row_of_twice_the_weight(problem, row, method):
    X, y = problem
    weights = np.ones(len(y))
    weights[row] = 2
    twice = solved(np.vstack([X, X[row]]), np.append(y, y[row]), 1.0, method=method)
    assert np.allclose(twice.x, solved(X, y, weights, method=method).x, atol=1e-11)


@settings(max_examples=25)
@given(problems, st.sampled_from([0.5, -2.0, 8.0]), st.sampled_from(METHODS))
def test_labels_scales_and_units_are_one_thing(problem, scale, method):
    """A factor may move from rows to labels; and from rows, if positive, to offsets and weights."""
    X, y = problem
    found = solved(X, y, 3.0, method=method).x
    assert np.allclose(solved(scale * X, y / scale, 3.0, method=method).x, found, atol=1e-11)
    assert np.allclose(
        solved(abs(scale) * X, y, 3.0 / scale**2, offsets=abs(scale), method=method).x, found, atol=1e-11
    )


def test_offsets_and_weights_scale_the_minimizer():
    """f of offsets s b at s w is s^2 f at w."""
    X, y = noisy(25, 4, seed=5)
    assert np.allclose(solved(X, y, 3.0, offsets=5.0).x, 5 * solved(X, y, 3.0).x, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_any_start_leads_to_the_same_minimum(method):
    X, y = noisy(30, 6, seed=2)
    ends = [solved(X, y, 10.0, start=s, method=method).x for s in (None, np.full(6, 1e3), -np.ones(6))]
    assert np.allclose(ends[1:], ends[0], atol=1e-10)


def test_the_arguments_are_left_alone_and_the_result_is_frozen():
    X, y = noisy(30, 6, seed=2)
    before, start = X.copy(), np.ones(6)
    found = solved(X, y, 1.0, start=start)
    assert (X == before).all()
    assert (start == 1).all()
    for array in (found.x, found.jac, found.slacks, found.multipliers):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(AttributeError):
        found.fun = 0.0


# ---------------------------------------------------------------- the certificate


@settings(max_examples=30)
@given(problems, st.sampled_from([1e-2, 1.0, 1e3]), st.integers(0, 4), st.sampled_from(METHODS))
def test_the_certificate_is_what_the_data_say_and_bounds_the_truth(problem, C, steps, method):
    """Recomputed row by row at every stage of the run: the dual value, the bound of f, the bound of the distance."""
    X, y = problem
    found = minimize_squared_hinges(X, y, C, maxiter=steps, method=method)
    f, g = value(X, y, C, found.x), slope(X, y, C, found.x)
    noise = 1e-13 * np.linalg.norm(slope(X, y, C, np.zeros(X.shape[1])))
    assert found.fun == pytest.approx(f, rel=1e-13)
    assert np.allclose(found.jac, g, rtol=0, atol=noise)
    assert np.allclose(found.slacks, 1 - y * (X @ found.x), atol=1e-12 * (1 + np.abs(found.x).max()))
    a = found.multipliers
    v = X.T @ (y * a)
    assert f - (a.sum() - v @ v / 2 - a @ a / (4 * C)) == pytest.approx(found.gap, rel=1e-9, abs=1e-11 * f)
    least = solved(X, y, C)
    assert f - least.fun <= found.gap * (1 + 1e-9) + 1e-13 * f
    assert np.linalg.norm(found.x - least.x) <= found.distance * (1 + 1e-9) + 1e-12 * (1 + np.abs(least.x).max())


@pytest.mark.parametrize("method", METHODS)
def test_a_success_has_both_its_gradient_and_its_gap_within_tol(method):
    X, y = separable(20, 30, seed=1)
    for C in (1.0, 1e8):
        for tol in (1e-4, 1e-12):
            found = minimize_squared_hinges(X, y, C, tol=tol, method=method)
            within = found.relative_gradient <= tol and found.gap <= tol * found.fun
            assert found.success == within
            assert found.message == STATUS[found.status]
            assert found.message in repr(found)


def test_a_small_gradient_relative_to_a_huge_one_is_no_success():
    """Weights of 1e11 make |grad f(0)| so large that 1e-12 of it says nothing about f; the gap does."""
    X, y = separable(40, 200, seed=0)
    least = minimize_squared_hinges(X, y, 1e11, method="woodbury")
    early = minimize_squared_hinges(X, y, 1e11, method="cg", maxiter=2)
    assert early.relative_gradient <= 1e-12
    assert early.fun > 1.1 * least.fun
    assert early.fun - early.gap <= least.fun
    assert not early.success


def test_with_tol_zero_the_steps_end_at_rounding_and_say_so():
    X, y = noisy(50, 5, seed=0)
    found = minimize_squared_hinges(X, y, 1.0, tol=0.0)
    assert (found.status, found.success) == (2, False)
    assert found.relative_gradient < 1e-15


def test_too_few_steps_say_so():
    X, y = noisy(50, 5, seed=0)
    found = minimize_squared_hinges(X, y, 1.0, maxiter=1)
    assert (found.status, found.nit, found.success) == (1, 1, False)


def test_where_arithmetic_fails_the_status_says_stalled():
    """The Gram matrix of rows over ten orders of magnitude, weighted by 1e6, is beyond what Woodbury's matrix holds."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 10)) * 10.0 ** np.arange(-5, 5)
    y = np.sign(rng.normal(size=60))
    found = minimize_squared_hinges(X, y, 1e6, method="woodbury")
    assert (found.status, found.success) == (3, False)
    assert solved(X, y, 1e6).fun < found.fun


# ---------------------------------------------------------------- steps, counted


@pytest.mark.parametrize("method", METHODS)
def test_f_falls_at_every_step_and_a_whole_step_on_the_right_piece_is_the_last(method):
    X, y = noisy(200, 10, seed=4)
    found = solved(X, y, 5.0, method=method)
    values = [minimize_squared_hinges(X, y, 5.0, method=method, maxiter=k).fun for k in range(found.nit + 1)]
    assert (np.diff(values) < 0).all()
    assert found.history[-1].length == pytest.approx(1.0, abs=1e-9)
    assert found.history[-1].gradient > 1e-12


@pytest.mark.parametrize("C", [1.0, 100.0])
@pytest.mark.parametrize(("m", "n", "method"), [(2000, 40, "cholesky"), (100, 1000, "woodbury"), (4000, 600, "cg")])
def test_few_steps_suffice(m, n, method, C):
    X, y = noisy(m, n, seed=0)
    if method == "cg":
        X = sp.random(m, n, 0.01, format="csr", random_state=np.random.default_rng(0)) * 10
    found = solved(X, y, C)
    assert found.method == method
    assert found.relative_gradient <= 1e-12
    assert found.nit <= 10


def test_the_first_piece_is_the_last_where_no_row_leaves():
    X, y = noisy(50, 4, seed=0)
    found = solved(X, y, 1e-6)
    assert found.nit == 1
    assert found.history[0].active == 50


def test_the_gram_matrix_is_formed_once_and_then_updated_by_the_rows_that_changed(monkeypatch):
    counted = []
    monkeypatch.setattr(piecewise_quadratic, "gram", lambda f, rows: counted.append(rows.sum()) or hinges.gram(f, rows))
    X, y = noisy(3000, 8, seed=0)
    found = solved(X, y, 1.0)
    assert found.nit >= 3
    assert counted[0] == found.history[0].active == 3000
    assert sum(counted) == 3000 + sum(min(step.changed, step.active) for step in found.history[1:])
    assert sum(counted) < 1.7 * 3000


def test_asked_twice_for_one_piece_the_gram_matrix_is_formed_anew():
    """Updates from 1e12 rows' worth of weight to none lose every digit of the rest; the second time nothing is lost."""
    X, y = np.array([[1e8, 0.0], [1.0, 1.0], [0.0, 1.0]]), np.ones(3)
    f = hinges.hinges_of(X, y, np.ones(3), np.ones(3))
    all_rows, few_rows = np.array([True, True, True]), np.array([False, True, True])
    _, memory, _ = piecewise_quadratic._by_cholesky(f, None, np.ones(2), all_rows, 0.0, None)
    _, memory, _ = piecewise_quadratic._by_cholesky(f, None, np.ones(2), few_rows, 0.0, memory)
    assert not memory[2]
    d, memory, _ = piecewise_quadratic._by_cholesky(f, None, np.ones(2), few_rows, 0.0, memory)
    assert memory[2]
    assert np.allclose(d, -np.linalg.solve(np.eye(2) + 2 * X[1:].T @ X[1:], np.ones(2)), rtol=1e-14)


def test_a_matrix_that_rounding_made_singular_still_gives_a_step_of_descent():
    """1 is lost in 1e20: what is left has no Cholesky factor. A matrix that has one is left alone."""
    flat = np.eye(3) + np.full((3, 3), 1e20)
    assert np.linalg.matrix_rank(flat) == 1
    g = np.array([1.0, -2.0, 3.0])
    step = hinges.inverse(flat)(g)
    assert g @ step > 0
    assert np.linalg.norm(step) <= np.linalg.norm(g)
    M = np.eye(3) + np.outer(g, g)
    assert np.allclose(M @ hinges.inverse(M)(g), g, rtol=1e-14)


def test_conjugate_gradients_count_their_products():
    X, y = noisy(300, 20, seed=1)
    found = solved(X, y, 1.0, method="cg")
    assert all(step.products >= 1 for step in found.history)
    assert not any(step.products for step in solved(X, y, 1.0, method="cholesky").history)


@pytest.mark.parametrize(
    ("X", "method"),
    [
        (np.ones((5, 3)), "cholesky"),
        (np.ones((3, 5)), "woodbury"),
        (sp.csr_array(np.ones((5, 3))), "cholesky"),
        (sp.csr_array(np.ones((600, 600))), "cg"),
    ],
)
def test_auto_takes_the_smaller_matrix_while_it_is_small(X, method):
    assert minimize_squared_hinges(X, np.ones(X.shape[0]), 1e-3).method == method


# ---------------------------------------------------------------- the search along a line


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-1, 1)), max_size=8), st.floats(0.1, 3), st.floats(0, 10))
def test_the_search_finds_the_zero_of_a_line_with_bends(bends, least, depth):
    """h(t) = -depth + int_0^t max(slope) as its pieces say; a walk from knot to knot is the slow twin."""
    knots, jumps = np.array([t for t, _ in bends]), np.array([j for _, j in bends])
    slope = -np.minimum(np.cumsum(jumps[np.argsort(knots, kind="stable")]), 0).min(initial=0.0)
    t = hinges.increasing_zero(-depth, slope, knots, jumps, least)
    here, height, rise = Fraction(0), -Fraction(depth), Fraction(slope) + Fraction(least)
    for knot, jump in sorted(zip(map(Fraction, knots), map(Fraction, jumps), strict=True), key=lambda pair: pair[0]):
        if height + rise * (knot - here) >= 0:
            break
        here, height, rise = knot, height + rise * (knot - here), max(rise + jump, Fraction(least))
    assert t == pytest.approx(float(here - height / rise), rel=1e-9, abs=1e-12)


# ---------------------------------------------------------------- the central path


def test_the_path_ends_near_the_minimum_and_newton_does_the_rest():
    X, y = separable(600, 60, seed=0)
    found = solved(X, y, 100.0)
    path = [step for step in found.history if step.central]
    assert path
    assert found.nit <= 15
    assert not any(step.central for step in found.history[-1:])
    f = hinges.hinges_of(X, y, 100.0, 1.0)
    near, lengths = central_path.along_the_path(f, np.zeros(60), 100)
    assert value(X, y, 100.0, near) <= found.fun * (1 + 1e-4)
    assert 5 <= len(lengths) <= 15
    assert all(0 < t < 1 for t in lengths)


def test_the_path_is_shorter_than_newtons_way_through_the_pieces(monkeypatch):
    X, y = separable(600, 60, seed=0)
    short = solved(X, y, 1e4)
    monkeypatch.setattr(piecewise_quadratic, "SMALL", np.inf)
    long = solved(X, y, 1e4)
    assert not any(step.central for step in long.history)
    assert short.nit < long.nit / 2
    assert np.allclose(short.x, long.x, rtol=0, atol=1e-9)


def test_the_path_is_the_same_for_sparse_rows_and_for_rows_in_other_units():
    """Labels of other sizes and weights that undo them are the same problem."""
    X, y = separable(600, 60, seed=0)
    found = solved(X, y, 100.0)
    units = 2.0 ** (np.arange(600) % 5)
    for other in (
        solved(sp.csr_array(X), y, 100.0),
        solved(X, units * y, 100.0 / units**2, offsets=units),
        solved(X / units[:, None], units * y, 100.0),
    ):
        assert any(step.central for step in other.history)
        assert np.allclose(other.x, found.x, rtol=0, atol=1e-10)


def test_the_path_heeds_the_limit_of_steps_and_rows_without_weight():
    X, y = separable(600, 60, seed=0)
    assert minimize_squared_hinges(X, y, 100.0, maxiter=6).nit == 6
    weights = np.where(np.arange(600) < 500, 100.0, 0.0)
    assert np.allclose(solved(X, y, weights).x, solved(X[:500], y[:500], 100.0).x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["cholesky", "woodbury", "cg"])
@pytest.mark.parametrize("offsets", [0.0, -1.0])
def test_where_the_gradient_vanishes_at_0_that_is_the_minimizer_from_any_start(method, offsets):
    rng = np.random.default_rng(3)
    X, start = rng.standard_normal((1000, 60)), rng.standard_normal(60)
    found = minimize_squared_hinges(
        X, np.sign(X[:, 0] + rng.standard_normal(1000)), 1e3, offsets=offsets, start=start, method=method
    )
    assert found.success
    assert found.nit == 0
    assert not found.x.any()
    assert found.relative_gradient == found.gap == found.fun == 0


@pytest.mark.parametrize("method", ["cholesky", "woodbury", "cg"])
def test_the_minimizer_scales_with_the_offsets_down_to_where_it_is_refused(method):
    X, y = np.random.default_rng(3).standard_normal((60, 5)), np.resize([1.0, -1], 60)
    one = minimize_squared_hinges(X, y, 1.0, offsets=1.0, method=method)
    least = minimize_squared_hinges(X, y, 1.0, offsets=2.0**-460, method=method)
    assert least.success
    assert np.abs(np.ldexp(least.x, 460) - one.x).max() <= 1e-10


# ---------------------------------------------------------------- refusals

GOOD = {"X": np.eye(2), "y": [1.0, -1.0], "weights": 1.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"X": np.ones(3)}, r"X must be \(m, n\) with m, n >= 1; got shape \(3,\)"),
        ({"X": np.ones((2, 0))}, r"X must be \(m, n\) with m, n >= 1; got shape \(2, 0\)"),
        ({"X": "rows"}, r"X must be an \(m, n\) array of real numbers; got str"),
        ({"X": 1j * np.eye(2)}, r"X must be an \(m, n\) array of real numbers; got ndarray of dtype complex128"),
        ({"X": sp.csr_array(1j * np.eye(2))}, "X must be .* real numbers; got csr_array of dtype complex128"),
        ({"y": np.array([1j, 1.0])}, "y must be real numbers, 2 of them or one for all"),
        ({"start": np.array([1j, 1.0])}, "start must be real numbers, 2 of them or one for all"),
        ({"X": [[1.0, np.nan], [0.0, 1.0]]}, "X must be finite"),
        ({"X": sp.csr_array([[1.0, np.inf], [0.0, 1.0]])}, "X must be finite"),
        ({"y": [1.0]}, r"y must be one number or 2; got shape \(1,\)"),
        ({"y": ["a", "b"]}, "y must be real numbers, 2 of them or one for all"),
        ({"weights": -1.0}, "weights must be finite and >= 0; got -1 the least"),
        ({"weights": np.inf}, "weights must be finite and >= 0"),
        ({"offsets": [1.0, np.nan]}, "offsets must be finite; got nan"),
        ({"start": [1.0, 2.0, 3.0]}, r"start must be one number or 2; got shape \(3,\)"),
        ({"tol": -1e-3}, "tol must be a finite number >= 0; got -0.001"),
        ({"tol": "small"}, "tol must be a finite number >= 0; got 'small'"),
        ({"maxiter": 2.5}, "maxiter must be an integer >= 0; got 2.5"),
        ({"method": "newton"}, "method must be 'auto', 'cholesky', 'woodbury', 'cg'; got 'newton'"),
        ({"weights": 1e300, "X": 1e10 * np.eye(2)}, r"2 weights y\^2 \|X\|\^2, a Hessian's trace, overflows"),
        ({"weights": 1e200, "y": 1e100, "X": 1e-90 * np.eye(2)}, "a Hessian's trace, overflows"),
        ({"weights": 1e10, "offsets": 1e300}, "f or its gradient overflows; scale X"),
        ({"start": 1e200}, "f or its gradient overflows"),
        ({"offsets": 1e-150}, "the gradient at 0 is below 7e-139, squares vanish; scale X, weights or offsets up"),
        ({"X": 1e-200 * np.eye(2), "start": 1.0}, "the gradient at 0 is below 7e-139"),
    ],
)
def test_bad_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        minimize_squared_hinges(**{**GOOD, **wrong})


def test_it_is_public():
    assert clarke.minimize_squared_hinges is minimize_squared_hinges
    assert isinstance(solved(**GOOD), clarke.SquaredHingeMinimum)
