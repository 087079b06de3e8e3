"""Newton steps: algebra, descent, local order, certificates; cycles reproduced and broken; the classics solved."""

import itertools

import autograd
import autograd.numpy as np
import numpy as onp
import pytest
import scipy.optimize
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import wolfe_min_norm_point
from scipy.sparse.linalg import aslinearoperator
from strategies import matrices, relu_maximum

import clarke
from clarke import classics
from clarke import composite as composites
from clarke.composite import composite, model_at
from clarke.semismooth import SingularElement, minimize, newton, newton_step
from clarke.subproblem import quadratic_program


def converged(result):
    """The result, if it says it is stationary."""
    assert result.success, result.message
    assert result.status == 0
    return result


# ---------------------------------------------------------------- one step


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(matrices(n, n), matrices(1, n))), st.integers(1, 5))
def test_the_step_solves_the_damped_equation_in_every_form_of_the_element(pair, damping):
    M, (g,) = pair
    P = M @ M.T
    for element in (P, clarke.min_norm_element(P[None]), sp.csr_array(P), aslinearoperator(P)):
        step = newton_step(g, element, damping)
        assert onp.allclose(P @ step + damping * step, g, atol=1e-8 * (1 + onp.abs(g).max()))


def test_an_indefinite_element_gives_the_step_of_a_saddle():
    assert newton_step([2.0, 3.0], onp.diag([1.0, -1.0])).tolist() == [2.0, -3.0]


def test_a_singular_element_is_refused_with_its_eigenvalue():
    for element in (onp.diag([1.0, 0.0]), sp.csr_array(onp.diag([1.0, 0.0]))):
        with pytest.raises(SingularElement, match="singular"):
            newton_step([1.0, 1.0], element)
    with pytest.raises(SingularElement, match="eigenvalue nearest 0 is 0, its largest 1; pass damping > 0"):
        newton_step([1.0, 1.0], onp.diag([1.0, 0.0]), 0.0)
    with pytest.raises(SingularElement, match="MINRES left a residual"):
        newton_step([1.0, 1.0], aslinearoperator(onp.diag([1.0, 0.0])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], onp.eye(2)), "element must have shape"),
        (([1.0], sp.eye_array(2)), "element must have shape"),
        (([1.0], aslinearoperator(onp.eye(2))), "element must have shape"),
        (([1.0, 2.0], [[0.0, 1.0], [2.0, 0.0]]), "not symmetric"),
        (([1.0], [[onp.nan]]), "NaN or infinity"),
        (([1.0], "one"), "element must be an array"),
        (([1.0], onp.eye(1), -1.0), "damping must be a finite number >= 0"),
        (([onp.inf], onp.eye(1)), "gradient must be finite"),
    ],
)
def test_bad_arguments_of_a_step_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        newton_step(*arguments)


# ---------------------------------------------------------------- the parts: derivatives of all pieces, one program


def mixture(x):
    """Every kind of operation: nested and coupled kinks, products, a sort, a where, norms."""
    A = onp.arange(12.0).reshape(3, 4) % 5 - 2
    hidden = np.maximum(np.dot(A, x[:4]), 0.1)
    tail = np.abs(x[0] * x[1] - x[2]) * np.exp(x[3]) - np.min(np.array([x[0], x[1] ** 2, 1.0]))
    switched = clarke.where(x[4] - 0.3, 2 * x[4] - 0.6, x[4] - 0.3)
    sums = np.mean(x**3) + np.linalg.norm(x) + np.sum(np.sort(x)[:2] / (2 + np.sin(x[1])))
    return np.sum(np.maximum(hidden, hidden[::-1] ** 2)) + np.max(x**3) + tail + switched + sums


@pytest.mark.parametrize("dense", [0, 250])
def test_the_pieces_in_force_have_the_derivatives_of_f_away_from_kinks(dense, monkeypatch):
    """The twin is `limiting_hessian`, which differentiates the recorded choice by autograd."""
    monkeypatch.setattr(composites, "DENSE", dense)
    rng = onp.random.default_rng(0)
    for f, n in ((mixture, 6), (classics.chained_cb3_1, 5), (classics.el_attar, 6), (classics.shor, 5)):
        x = rng.standard_normal(n)
        graph = clarke.from_function(f, x)
        parts = composite(graph, x)
        for at in (x, rng.standard_normal(n)):
            model = model_at(parts, at)
            weights = onp.isin(onp.arange(len(parts.owner)), model.in_force()).astype(float)
            mu = model.multipliers(weights)
            rows, W = (M.toarray() if sp.issparse(M) else M for M in (model.rows, model.hessian(mu)))
            T = onp.vstack([onp.eye(n), onp.zeros((len(parts.sides), n))])
            for j, r in enumerate(model.in_force()):
                T[n + j] = parts.sides[j] * rows[r] @ T
            assert model.value == pytest.approx(float(graph(at)), rel=1e-14)
            assert (model.gaps <= 0).all()
            slope = model.phi[:n] + mu @ rows[:, :n]
            assert onp.allclose(slope, clarke.limiting_gradient(graph, at), rtol=1e-12, atol=1e-12)
            assert onp.allclose(T.T @ W @ T, clarke.limiting_hessian(graph, at), rtol=1e-11, atol=1e-11)


def best_of_all_active_sets(B, q, A, b):
    """The value of a strictly convex program by trying every active set."""
    best = onp.inf
    for size in range(min(len(b), len(q)) + 1):
        for rows in map(list, itertools.combinations(range(len(b)), size)):
            K = onp.block([[B, A[rows].T], [A[rows], onp.zeros((size, size))]])
            z = onp.linalg.lstsq(K, onp.concatenate([-q, b[rows]]), rcond=None)[0][: len(q)]
            if (A @ z <= b + 1e-9).all():
                best = min(best, q @ z + z @ B @ z / 2)
    return best


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(matrices(n, n), matrices(5, n), matrices(1, n), matrices(1, 5))))
@settings(max_examples=50)
def test_a_quadratic_program_is_solved_to_its_optimality_conditions(data):
    M, A, (q,), (b,) = data
    B, b = M @ M.T + onp.eye(len(q)), onp.abs(b)
    for sparse in (False, True):
        found = quadratic_program(*((sp.csr_array(B), q, sp.csr_array(A), b) if sparse else (B, q, A, b)))
        assert found is not None
        z, y = found.z, found.multipliers
        assert (y >= 0).all()
        assert (A @ z <= b + 1e-8).all()
        assert onp.allclose(B @ z + q + A.T @ y, 0, atol=1e-7)
        assert q @ z + z @ B @ z / 2 == pytest.approx(best_of_all_active_sets(B, q, A, b), abs=1e-7)


# ---------------------------------------------------------------- laws of minimization


@st.composite
def planted(draw):
    """(f, minimizer): a convex max of quadratics, or a quadratic plus absolute values, least at an integer point.

    At z the gradients of the pieces have 0 in their hull, so z is a minimizer; one quadratic is positive definite.
    """
    n = draw(st.integers(1, 4))
    z = draw(matrices(1, n))[0]
    roots = [draw(matrices(n, n)) for _ in range(3)]
    Q = onp.array([R @ R.T + onp.eye(n) for R in roots])
    G = draw(matrices(2, n))
    if draw(st.booleans()):
        G = onp.vstack([G, -G.sum(axis=0)])

        def f(x):
            y = x - z
            return np.max(np.array([np.dot(g, y) + 0.5 * np.dot(y, np.dot(q, y)) for g, q in zip(G, Q, strict=True)]))

        return f, z

    def g(x):
        y = x - z
        return 0.5 * np.dot(y, np.dot(Q[0], y)) + np.sum(np.abs(np.dot(G, y))) + relu_maximum(y[0]) ** 2

    return g, z


@given(planted(), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_a_planted_minimizer_is_found(problem, seed):
    f, z = problem
    result = converged(minimize(f, z + onp.random.default_rng(seed).standard_normal(len(z))))
    assert onp.allclose(result.x, z, atol=1e-6)
    assert result.fun <= f(z) + 1e-12
    assert result.stationarity <= 1e-6


@given(planted(), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_every_accepted_step_descends_by_its_share_of_the_model(problem, seed):
    f, z = problem
    history = minimize(f, z + 3 * onp.random.default_rng(seed).standard_normal(len(z))).history
    for before, after in itertools.pairwise(history):
        assert after["fun"] <= before["fun"] + 1e-13 * (1 + abs(before["fun"]))
        assert f(after["x"]) == after["fun"]
        if before["decrease"] > 1e-10 * (1 + abs(before["fun"])):
            assert after["fun"] <= before["fun"] - 0.99e-4 * before["step"] * before["decrease"]


ROTATED = [classics.cb2, classics.mifflin2, classics.ql, classics.crescent, classics.nonsmooth_rosenbrock]


@pytest.mark.parametrize("f", ROTATED, ids=lambda f: f.__name__)
def test_rotating_x_and_scaling_f_move_the_answer_along(f):
    c, s = onp.cos(0.7), onp.sin(0.7)
    R = onp.array([[c, -s], [s, c]])
    start = onp.array([1.0, -0.1])
    plain = converged(minimize(f, start))
    turned = converged(minimize(lambda y: f(np.dot(R.T, y)), R @ start))
    assert turned.fun == pytest.approx(plain.fun, abs=1e-10)
    assert onp.allclose(R.T @ turned.x, plain.x, atol=1e-6)
    for factor in (2.0**-20, 2.0**20):
        scaled = converged(minimize(lambda y, t=factor: t * f(y), start))
        assert scaled.fun == pytest.approx(factor * plain.fun, abs=1e-10 * factor)
        assert onp.allclose(scaled.x, plain.x, atol=1e-6)


@pytest.mark.parametrize("problem", [classics.fixed()[k] for k in (0, 1, 3, 5, 6, 9, 10)], ids=lambda c: c.name)
def test_the_certificate_holds_against_gradients_taken_by_hand(problem):
    """Pieces within 1e-6 of the max, differentiated by autograd; their hull's least norm in rational arithmetic."""
    result = converged(minimize(problem.f, problem.start))
    pieces = {
        "CB2": lambda x: [x[0] ** 2 + x[1] ** 4, (2 - x[0]) ** 2 + (2 - x[1]) ** 2, 2 * np.exp(x[1] - x[0])],
        "CB3": lambda x: [x[0] ** 4 + x[1] ** 2, (2 - x[0]) ** 2 + (2 - x[1]) ** 2, 2 * np.exp(x[1] - x[0])],
        "QL": lambda x: [
            x[0] ** 2 + x[1] ** 2 + t for t in (0.0, 10 * (-4 * x[0] - x[1] + 4), 10 * (-x[0] - 2 * x[1] + 6))
        ],
        "Mifflin 1": lambda x: [-x[0] + t for t in (0.0, 20 * (x[0] ** 2 + x[1] ** 2 - 1))],
        "Mifflin 2": lambda x: [-x[0] + t * (x[0] ** 2 + x[1] ** 2 - 1) for t in (3.75, 0.25)],
        "Shor": lambda x: list(classics._SHOR_B * np.sum((x - classics._SHOR_A) ** 2, axis=1)),
        "Maxquad": lambda x: list(np.dot(np.dot(classics._MAXQUAD_A, x), x) - np.dot(classics._MAXQUAD_B, x)),
    }[problem.name]
    values = onp.array([float(v) for v in pieces(result.x)])
    gradients = [
        autograd.grad(lambda x, k=k: pieces(x)[k] + 0.0 * np.sum(x))(result.x)
        for k in onp.flatnonzero(values >= values.max() - 1e-6)
    ]
    weights = onp.array(wolfe_min_norm_point(onp.array(gradients).tolist()), float)
    least = onp.linalg.norm(weights @ gradients)
    assert least <= 1e-6
    assert result.stationarity == pytest.approx(least, abs=1e-6)
    assert result.certificate.gap <= 1e-10
    assert onp.linalg.norm(result.certificate.element) == pytest.approx(result.stationarity, abs=1e-12)
    assert onp.array_equal(result.jac, result.certificate.element)


# ---------------------------------------------------------------- local order


def fitted_order(results, solution):
    """The median of log e_{k+1} / log e_k, e from 0.1 down to 1e-12, over all runs and all steps but the first.

    (The first step on pieces has no multipliers yet.) Each pair must also have e_{k+1} <= 10 e_k^2, but for rounding:
    a median could hide a slow one.
    """
    errors = [[onp.linalg.norm(h["x"] - solution) for h in converged(result).history[1:]] for result in results]
    pairs = onp.array([pair for run in errors for pair in itertools.pairwise(run) if 1e-10 < pair[0] < 0.1])
    assert (pairs[:, 1] <= 10 * pairs[:, 0] ** 2 + 1e-13).all()
    before, after = onp.log(pairs[pairs[:, 1] > 1e-12]).T
    assert len(before) >= 20
    return onp.median(after / before)


def smooth_across(x):
    """C^{1,1}, kinks at the solution 0 in both variables, nonsingular elements, curved pieces."""
    y = x[0] + np.sin(x[1]) + 0.3 * x[0] ** 2
    return np.sum(x**2) + 0.5 * np.sum(np.exp(x) - x) + 2 * np.maximum(y, 0) ** 2 + np.maximum(x[1] - x[0] ** 2, 0) ** 2


@pytest.mark.parametrize("model", ["hessian", "pieces"])
def test_the_local_order_is_two_where_the_gradient_bends(model):
    starts = onp.random.default_rng(0).uniform(-1, 1, (40, 2))
    results = [minimize(smooth_across, start, model=model) for start in starts]
    assert max(onp.abs(result.x).max() for result in results) <= 1e-9
    assert fitted_order(results, onp.zeros(2)) >= 1.9


def test_the_local_order_is_two_where_the_gradient_jumps():
    """CB2: three smooth pieces, two of them in force at the solution, with curvature along their ridge."""
    solution = minimize(classics.cb2, [1.0, -0.1]).x
    starts = onp.random.default_rng(0).uniform(0.5, 1.5, (40, 2))
    assert fitted_order([minimize(classics.cb2, start) for start in starts], solution) >= 1.9


# ---------------------------------------------------------------- cycles


def tight(x):
    """F = f' is 3x for |x| <= 1, x + 2 sign x beyond."""
    a = np.abs(x[0])
    return clarke.where(1 - a, 1.5 * x[0] ** 2, 0.5 * x[0] ** 2 + 2 * a - 1)


def hyperbola(x):
    return np.sqrt(1 + x[0] ** 2)


def flattened(x):
    return 5 * x[0] ** 2 - 4.5 * (np.maximum(x[0] - 1, 0) ** 2 + np.maximum(-x[0] - 1, 0) ** 2)


CYCLES = [(tight, 2.0), (tight, 1.5), (hyperbola, 1.0), (flattened, 2.0), (flattened, 5.0)]


@pytest.mark.parametrize(("f", "start"), CYCLES)
def test_the_pure_step_cycles_and_says_so(f, start):
    result = minimize(f, [start], regularize=False)
    assert result.status == 2
    assert not result.success
    assert "period 2" in result.message
    assert onp.allclose(result.history[-1]["x"], result.history[-3]["x"])


@pytest.mark.parametrize(("f", "start"), CYCLES)
@pytest.mark.parametrize("model", ["auto", "hessian"])
def test_the_default_breaks_the_cycle(f, start, model):
    result = converged(minimize(f, [start], model=model))
    assert abs(result.x[0]) <= 1e-6
    assert result.nit <= 15


def test_a_constant_damping_of_one_cycles_where_the_line_search_does_not():
    """mathematics.md 1.5: M = 10, so lambda > 4 is enough without a line search, lambda = 1 cycles."""

    def orbit(damping, x=2.0, steps=60):
        for _ in range(steps):
            g, P = clarke.limiting_gradient(flattened, [x]), clarke.limiting_hessian(flattened, [x])
            x = x - newton_step(g, P, damping)[0]
        return x

    settled = orbit(1.0, steps=61), orbit(1.0, steps=62), orbit(1.0, steps=63)
    assert settled[0] == pytest.approx(settled[2])
    assert abs(settled[0] - settled[1]) > 1
    assert abs(orbit(4.5)) <= 1e-6


def test_the_pure_step_is_the_newton_step_of_the_paper_where_it_converges():
    result = converged(minimize(smooth_across, [0.2, 0.1], regularize=False))
    for before, after in itertools.pairwise(result.history):
        found = clarke.limiting_hessians(smooth_across, before["x"])
        step = newton_step(found.gradients[0], clarke.min_norm_element(found.matrices))
        assert onp.allclose(before["x"] - step, after["x"], atol=1e-12)


def test_the_pure_step_names_a_singular_element_and_a_runaway():
    assert minimize(lambda x: x[0] ** 2 + 0 * x[1] + x[1], [1.0, 1.0], regularize=False).status == 3
    assert minimize(hyperbola, [5.0], regularize=False).status in (3, 6)
    assert minimize(hyperbola, [1.01], regularize=False, maxiter=2).status == 1


# ---------------------------------------------------------------- the classics


@pytest.mark.parametrize("problem", classics.suite(), ids=lambda c: c.name)
def test_a_classic_is_solved_to_eight_digits_from_its_published_start(problem):
    result = minimize(problem.f, problem.start)
    assert result.fun - problem.optimum <= 1e-8
    assert result.fun - problem.optimum >= -1e-9
    if problem.name == "spiral":  # |x| has no finite set of pieces at the solution 0
        assert result.status in (0, 7)
    else:
        converged(result)


@pytest.mark.parametrize(
    ("f", "start", "optimum"),
    [
        (classics.chained_cb3_1, 2 * onp.ones(1000), 1998.0),
        (classics.chained_lq, -0.5 * onp.ones(1000), -999 * 2**0.5),
        (classics.chained_mifflin2, -onp.ones(1000), None),
    ],
)
def test_a_thousand_variables_take_at_most_twelve_steps(f, start, optimum):
    result = converged(minimize(f, start))
    assert result.nit <= 12
    assert result.stationarity <= 1e-9
    if optimum is not None:
        assert result.fun == pytest.approx(optimum, rel=1e-13)
    else:  # convex: f(y) >= f(x) - stationarity |y - x|, so it is the minimum to 1e-9 |y - x|
        assert result.fun == pytest.approx(-706.546, abs=1e-3)


def test_hundreds_of_variables_are_sparse_in_either_model():
    n = 300
    rng = onp.random.default_rng(0)
    A = sp.random_array((400, n), density=0.02, rng=rng).toarray()

    def svm(w):
        return 0.5 * np.sum(w**2) + 10 * np.sum(np.maximum(1 - np.dot(A, w), 0) ** 2)

    def bumps(x):
        return np.sum((x - 1) ** 2 - 0.5 * np.abs(x)) + np.sum(np.abs(x[1:] - x[:-1]))

    def coupled(x):
        return np.sum(np.maximum(np.maximum(x[1:], 0.5) - x[:-1], 0) ** 2) + np.sum((x - 0.7) ** 2)

    assert (autograd.grad(svm)(converged(minimize(svm, onp.zeros(n))).x) ** 2).sum() <= 1e-12
    assert onp.allclose(converged(minimize(bumps, -rng.random(n))).x, 1.25, atol=1e-6)
    assert onp.allclose(converged(minimize(coupled, rng.random(n))).x, 0.7, atol=1e-6)
    assert converged(minimize(coupled, rng.random(n), model="pieces")).fun <= 1e-12
    assert converged(minimize(classics.chained_crescent_2, classics._alternating(n, -1.5, 2))).stationarity <= 1e-6


@pytest.mark.parametrize("samples", [40, 400])
def test_the_least_sum_of_absolute_residuals_is_that_of_a_linear_program(samples):
    rng = onp.random.default_rng(0)
    n = 6
    A, y = rng.standard_normal((samples, n)), rng.standard_normal(samples)
    result = converged(minimize(lambda w: np.sum(np.abs(np.dot(A, w) - y)), onp.zeros(n)))
    eye, cost = onp.eye(samples), onp.append(onp.zeros(n), onp.ones(samples))
    program = scipy.optimize.linprog(
        cost, onp.block([[A, -eye], [-A, -eye]]), onp.append(y, -y), bounds=[(None, None)] * n + [(0, None)] * samples
    )
    assert result.fun == pytest.approx(program.fun, rel=1e-9)
    assert result.nit <= 10
    assert result.active.count("0") == n  # residuals that vanish: a vertex


def test_known_active_sets_are_identified():
    result = minimize(classics.chained_cb3_2, 2 * onp.ones(50))
    assert result.active == "000"  # all three sums are equal at the solution
    assert set(minimize(classics.chained_lq, -0.5 * onp.ones(20)).active) == {"0"}


# ---------------------------------------------------------------- pieces that no convex model holds


def test_a_concave_kink_is_left_on_the_better_side():
    result = converged(minimize(lambda x: np.minimum((x[0] - 1) ** 2, (x[0] + 1) ** 2 - 0.5), [0.1]))
    assert result.fun in (pytest.approx(0.0, abs=1e-9), pytest.approx(-0.5, abs=1e-9))
    assert minimize(lambda x: x[0] ** 2 - 2 * np.abs(x[0]), [0.0]).fun == pytest.approx(-1.0)


def test_nested_absolute_values_with_a_wrong_sign_are_solved():
    """Nesterov's second nonsmooth Chebyshev-Rosenbrock function [GO12]; n = 2: one Clarke-stationary point more."""

    def f(x):
        return 0.25 * np.abs(x[0] - 1) + np.sum(np.abs(x[1:] - 2 * np.abs(x[:-1]) + 1))

    result = converged(minimize(f, [-0.5, -0.5]))
    assert result.fun == pytest.approx(0.0, abs=1e-9) or onp.allclose(result.x, [0, -1], atol=1e-6)


def test_a_stationary_point_that_another_piece_leads_away_from_is_left():
    """x^2 + min(0, x) at 0: 0 is in the hull of {0, 1}, and -1/2 is the minimizer."""
    result = converged(minimize(lambda x: x[0] ** 2 + np.minimum(0.0, x[0]), [0.0]))
    assert result.x == pytest.approx([-0.5])


WHERES = [
    (lambda x: clarke.where(x[0], x[0], -x[0]) + x[0] ** 2, [1.3], 0.0),
    (lambda x: clarke.where(x[0], x[0], -x[0]) + (x[1] - x[0]) ** 2, [1.3, 2.0], 0.0),
    (lambda x: np.sum(clarke.where(x - 0.3, 2 * x - 0.6, 0.3 - x)) + np.sum((x - 1) ** 2) / 2, [1.3, 2, -1], 0.735),
    (lambda x: clarke.where(1 - x[0] ** 2, 0.5 * x[0] ** 2, np.abs(x[0]) - 0.5) + np.abs(x[1]), [4.0, 2.0], 0.0),
    (lambda x: clarke.where(x[0] - x[1], x[1] - x[0], 2 * x[0] - 2 * x[1]) + np.sum(x**2), [1.0, 0.7], -0.5),
    (lambda x: clarke.where(x[0], np.exp(x[0]), 1 + clarke.where(x[1], x[0], x[0] / 4)) - x[0] / 2, [1.0, 1], -onp.inf),
]  # fmt: skip


@pytest.mark.parametrize(("f", "start", "least"), WHERES)
def test_a_where_whose_gradient_jumps_is_a_max_or_a_min_of_its_pieces(f, start, least):
    result = minimize(f, start)
    if least == -onp.inf:
        assert result.status == 4
        return
    assert converged(result).fun == pytest.approx(least, abs=1e-12)
    assert result.nit <= 6


def test_a_where_is_what_the_same_maximum_is():
    """The two spellings of CB3 with a kink inside a kink give the same points, step by step."""

    def spelled(pick):
        def f(x):
            p, q = x[0] ** 4 + x[1] ** 2, (2 - x[0]) ** 2 + (2 - x[1]) ** 2
            inner = pick(p, q)
            return pick(inner, 2 * np.exp(x[1] - x[0]))

        return minimize(f, [1.9, 1.7])

    first = spelled(np.maximum)
    second = spelled(lambda a, b: clarke.where(a - b, a, b))
    assert converged(first).fun == pytest.approx(2.0, abs=1e-12)
    assert converged(second).fun == pytest.approx(2.0, abs=1e-12)
    assert abs(first.nit - second.nit) <= 2


@st.composite
def kinky(draw):
    """Sums, products and nestings of kinks with all signs, over a quartic; and a start on the grid of their walls."""
    n, m = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    A, (b, c, d) = draw(matrices(m, n)), draw(matrices(3, m))
    kind = draw(st.integers(0, 2))

    def f(x):
        z = np.dot(A, x) - b
        q = 0.5 * np.sum(x**2) + 0.1 * np.sum(x**4)
        if kind == 0:
            return q + np.dot(c, np.maximum(z, 0)) + np.dot(d, np.minimum(z, 0.5 * z**2))
        if kind == 1:
            return q + np.dot(c, np.abs(z)) + np.dot(d, np.abs(np.abs(z) - 1))
        return q + np.dot(c, clarke.where(z, z + z**2, -z)) + np.dot(d, clarke.where(z, 2 * z, z))

    return f, draw(matrices(1, n))[0]


@given(kinky())
@settings(max_examples=40, deadline=None)
def test_no_sampled_point_lies_lower_than_the_end_of_a_run(problem):
    f, start = problem
    result = minimize(f, start)
    assert result.status in (0, 4), result.message
    if result.status == 0:
        around = onp.random.default_rng(0).standard_normal((50, len(start)))
        lowest = min(float(f(result.x + r * v)) for r in (1e-5, 1e-6) for v in around)
        assert lowest >= result.fun - 1e-9 * (1 + abs(result.fun))


@pytest.mark.parametrize(("residual", "steps"), [(lambda r: r**2, 100), (np.abs, 80)], ids=["smooth", "nonsmooth"])
def test_the_winding_valleys_of_nesterov_are_followed_to_their_end(residual, steps):
    """(x_0 - 1)^2 / 4 + sum r(x_{i+1} - 2 x_i^2 + 1): three parabolas one in the other [GO12]; the minimum is 0."""
    result = converged(
        minimize(lambda x: 0.25 * (x[0] - 1) ** 2 + np.sum(residual(x[1:] - 2 * x[:-1] ** 2 + 1)), [-1.0, 1, 1, 1])
    )
    assert onp.allclose(result.x, 1.0, atol=1e-7)
    assert result.nit <= steps


def test_a_small_relu_network_is_fitted_to_a_stationary_point():
    rng = onp.random.default_rng(1)
    X = rng.standard_normal((12, 2))
    y = onp.sin(X[:, 0]) + onp.abs(X[:, 1])

    def loss(p):
        hidden = np.maximum(np.dot(X, p[:8].reshape(2, 4)) + p[8:12], 0)
        return np.mean((np.dot(hidden, p[12:16]) - y) ** 2)

    for seed in (0, 1, 2):
        start = onp.random.default_rng(seed).standard_normal(16)
        result = converged(minimize(loss, start))
        assert result.stationarity <= 1e-8
        assert result.fun < loss(start)


def test_a_sort_keeps_the_order_in_force():
    result = converged(minimize(lambda x: np.sum(np.sort(x)[1:] ** 2) + x[0] ** 2 + (x[2] - 1) ** 2, [1.0, 2.0, 3.0]))
    assert result.stationarity <= 1e-7


# ---------------------------------------------------------------- scipy


def test_it_is_a_method_of_scipy():
    seen = []

    def watch(intermediate_result):
        seen.append((intermediate_result.fun, intermediate_result.stationarity, intermediate_result.active))

    def f(x, a, b):
        return a * np.abs(x[0]) + b * (x[0] - 1) ** 2

    result = scipy.optimize.minimize(
        f, [3.0], args=(1.0, 1.0), method=newton, tol=1e-9, callback=watch, options={"maxiter": 20, "disp": False}
    )
    assert result.success
    assert result.x == pytest.approx([0.5])
    assert len(seen) == result.nit
    assert {"x", "fun", "jac", "nit", "nfev", "njev", "success", "status", "message"} <= set(result)
    assert scipy.optimize.minimize(f, 3.0, args=(1.0, 0.0), method=newton).fun == pytest.approx(0, abs=1e-12)
    assert scipy.optimize.minimize(f, [3.0], args=(1.0, 1.0), jac=lambda x, a, b: x, method=newton).success
    with pytest.raises(ValueError, match="jac=True: f must return its value alone"):
        scipy.optimize.minimize(lambda x: (x[0] ** 2, 2 * x), [3.0], jac=True, method=newton)
    positional = []
    minimize(f, [3.0], (1.0, 1.0), callback=lambda xk: positional.append(xk))
    assert positional[-1] == pytest.approx([0.5])


def test_stop_iteration_from_the_callback_keeps_the_point():
    def stop(intermediate_result):
        raise StopIteration

    for options in ({}, {"model": "hessian"}, {"regularize": False}):
        result = minimize(lambda x: x[0] ** 4 + x[0] ** 2, [3.0], callback=stop, **options)
        assert (result.status, result.nit, result.success) == (99, 1, False)
        assert result.fun == result.history[-1]["fun"] < 90


def test_an_exception_of_the_callback_carries_the_best_point():
    def fail(x):
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        minimize(lambda x: x[0] ** 2, [3.0], callback=fail)
    assert "raised by callback after 1 steps; the best point so far: f = " in caught.value.__notes__[0]


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": [(0, 1)]}, "bounds are not supported; add a penalty"),
        ({"constraints": [{"type": "eq"}]}, "constraints are not supported"),
        ({"model": "both"}, "model must be 'auto', 'hessian' or 'pieces'"),
        ({"maxiter": -1}, "maxiter must be a whole number >= 0"),
        ({"tol": 0.0}, "tol must be a positive number"),
        ({"damping": onp.nan}, "damping must be a positive number"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        minimize(lambda x: x[0] ** 2, [1.0], **options)


def test_bad_starts_and_shapes_are_named():
    with pytest.raises(ValueError, match=r"x0 must be a flat array of shape \(n,\)"):
        minimize(lambda x: np.sum(x**2), onp.ones((2, 2)))
    with pytest.raises(ValueError, match="x0 must be finite"):
        minimize(lambda x: np.sum(x**2), [onp.nan])
    with pytest.raises(ValueError, match="f must be scalar; it returns shape"):
        minimize(lambda x: x**2, [1.0, 2.0])
    with pytest.raises(clarke.NotPiecewiseSmooth):
        minimize(lambda x: np.log(x[0]), [-1.0])
    with pytest.raises(ValueError, match="constraints are not supported"):
        newton(lambda x: x[0] ** 2, [1.0], constraints={"type": "eq"})


def test_numbers_and_arrays_of_other_types_are_starts():
    for start in (3.0, 3, [3], onp.float32(3), onp.array([3], onp.float32), onp.array(3), [True]):
        result = converged(minimize(lambda x: (x - 2) ** 2 + np.abs(x - 2), start))
        assert result.x == pytest.approx([2.0])
        assert (result.x.dtype, result.x.shape) == (float, (1,))
    with pytest.raises(ValueError, match="n >= 1; got shape"):
        minimize(lambda x: np.sum(x), [])
    with pytest.raises(ValueError, match="x0 must be a flat array"):
        minimize(lambda x: x[0], None)


def test_a_huge_gradient_on_the_way_does_not_pass_for_convergence():
    """x^2 + 1e12 (y - x)^2 from (3, 4): after one step the gradient is 1e-12 of the first, f = 12."""
    result = converged(minimize(lambda x: x[0] ** 2 + 1e12 * (x[1] - x[0]) ** 2, [3.0, 4.0]))
    assert result.fun <= 1e-20


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_gradients_that_cannot_be_squared_are_told(scale):
    result = minimize(lambda x: scale * np.sum(np.abs(x - 1)), [3.0, 4.0])
    assert (result.status, result.success, result.x.tolist()) == (9, False, [3.0, 4.0])
    assert "multiply f by a number" in result.message


def test_what_scipy_passes_on_is_used_or_named():
    def f(x):
        return np.sum(x**4) + np.sum(np.abs(x - 1))

    products = []

    def hessp(x, p):
        products.append(p)
        return 12 * x**2 * p

    def smooth(x):
        return np.sum(x**4 + x)

    result = scipy.optimize.minimize(smooth, [1.0, 2.0], method=newton, hessp=hessp)
    assert result.success
    assert products
    assert onp.allclose(result.x, -(0.25 ** (1 / 3)))
    assert scipy.optimize.minimize(smooth, [1.0, 2.0], method=newton, hess="2-point").success
    with pytest.raises(ValueError, match="unknown options: gtol; there are criterion, damping"):
        scipy.optimize.minimize(f, [1.0, 2.0], method=newton, options={"gtol": 1e-3})
    with pytest.raises(ValueError, match="callback must be callable; got int"):
        minimize(f, [1.0, 2.0], callback=3)


def test_a_cusp_ends_without_a_derivative_and_without_warnings():
    result = minimize(lambda x: np.sqrt(np.abs(x[0])), [1.0])
    assert (result.status, result.success, result.fun) == (7, False, 0.0)


@pytest.mark.parametrize(
    "f",
    [lambda x: x[0], lambda x: -(x[0] ** 2), lambda x: np.abs(x[0]) - 2 * np.abs(x[0] - 1), lambda x: -np.exp(x[0])],
)
def test_an_unbounded_function_is_told(f):
    result = minimize(f, [1.0])
    assert (result.status, result.success) == (4, False)
    assert result.fun < -1e6


def test_the_iteration_limit_keeps_the_best_point():
    for options in ({}, {"model": "hessian"}):
        result = minimize(classics.nonsmooth_rosenbrock, [-1.2, 1.0], maxiter=2, **options)
        assert (result.status, result.nit, result.success) == (1, 2, False)
        assert result.fun == min(h["fun"] for h in result.history)
    assert minimize(lambda x: np.abs(x[0]), [1.0], maxiter=0).status == 1


def test_nan_and_exceptions_beyond_the_domain_only_shorten_the_step():
    def raises(x):
        if not np.size(x) or float(getattr(x, "_value", x)[0]) <= 0:
            raise ValueError("outside")
        return x[0] - np.log(x[0])

    assert converged(minimize(lambda x: x[0] - np.log(x[0]), [3.0])).x == pytest.approx([1.0])
    assert converged(minimize(raises, [3.0])).x == pytest.approx([1.0])


def test_an_f_that_fails_everywhere_but_at_the_start_ends_with_its_point():
    calls = []

    def f(x):
        calls.append(1)
        if not hasattr(x, "_value") and len(calls) > 8 and x[0] != 1.0:
            raise ArithmeticError("no more")
        return x[0] ** 2

    result = minimize(f, [1.0])
    assert (result.status, result.success) == (6, False)
    assert "it raised ArithmeticError: no more" in result.message
    assert (result.x.tolist(), result.fun) == ([1.0], 1.0)


def test_an_if_that_the_recording_did_not_see_is_refused_where_it_shows():
    def f(x):
        return x[0] ** 2 if float(getattr(x[0], "_value", x[0])) > 1 else x[0] ** 2 + 5.0

    for damping in (1e-3, 1.0):  # the first accepts a point beyond, the second is stopped by it
        with pytest.raises(clarke.HiddenBranch, match="its recording at x0 gives"):
            minimize(f, [3.0], damping=damping)


def test_a_constant_function_is_stationary_everywhere():
    result = converged(minimize(lambda x: 3.0, [1.0, 2.0]))
    assert (result.fun, result.nit, result.stationarity) == (3.0, 0, 0.0)


def test_a_graph_is_minimized_without_recording_again():
    graph = clarke.from_function(classics.cb2, [1.0, -0.1])
    assert minimize(graph, [1.0, -0.1]).fun == pytest.approx(1.9522244938706)


# ---------------------------------------------------------------- curvature


@pytest.mark.parametrize("model", ["auto", "hessian", "pieces"])
def test_a_saddle_is_left_along_its_negative_curvature(model):
    """0 is stationary for all three; the minima are -1 at x_1 = +-1, and lower where x_0 x_1 helps."""

    def tilted(x):
        return np.maximum(x[0], -2 * x[0]) + x[0] * x[1] - 2 * x[1] ** 2 + x[1] ** 4

    result = converged(minimize(lambda x: x[0] ** 2 - 2 * x[1] ** 2 + x[1] ** 4, [0.0, 0.0], model=model))
    assert result.fun == pytest.approx(-1.0)
    assert minimize(lambda x: x[0] ** 2 - x[1] ** 2, [0.0, 0.0], model=model).status == 4
    if model != "hessian":
        result = converged(minimize(lambda x: np.abs(x[0]) - 2 * x[1] ** 2 + x[1] ** 4, [0.0, 0.0], model=model))
        assert (result.fun, abs(result.x[1])) == (pytest.approx(-1.0), pytest.approx(1.0))
        assert converged(minimize(tilted, [0.0, 0.0], model=model)).fun <= -1 + 1e-12


def test_the_curvature_is_the_least_eigenvalue_on_the_tangents_of_the_pieces():
    """max(x, -x) + q: the tangents of the kink are the other axes; two kinks in the plane are a vertex."""
    smooth = converged(minimize(lambda x: 3 * x[0] ** 2 + x[1] ** 2 + x[0] * x[1], [1.0, 2.0]))
    assert smooth.curvature == pytest.approx(onp.linalg.eigvalsh([[6, 1], [1, 2]])[0])
    bent = converged(minimize(lambda x: np.sum(x**2) + np.maximum(x[0], 0) ** 2 - x[1] * 0, [0.0, 0.0]))
    assert bent.curvature == pytest.approx(2.0)
    ridge = converged(minimize(lambda x: 2 * np.abs(x[0] - x[1] ** 2) + x[1] ** 2 + x[0] / 2, [1.0, 0.7]))
    assert ridge.curvature == pytest.approx(3.0)  # x_1^2 + x_1^2 / 2 on the curve
    assert converged(minimize(lambda x: np.sum(np.abs(x)) + np.sum(x**2), [1.0, 2.0])).curvature == onp.inf
    assert onp.isnan(minimize(lambda x: x[0], [1.0]).curvature)
