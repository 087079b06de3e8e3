"""Damped directions: one solution, whatever the shape of P; and no dense n x n array where n is large."""

import tracemalloc

import autograd.numpy as np
import numpy as onp
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from strategies import matrices

from clarke import damped, limiting_hessian
from clarke.composite import composite, model_at
from clarke.damped import LowRank, direction, selection_element
from clarke.graph import from_function
from clarke.semismooth import minimize


@given(st.integers(1, 5).flatmap(lambda n: st.tuples(matrices(2, n), matrices(1, n))), st.integers(1, 4))
def test_every_shape_of_a_positive_definite_element_gives_the_same_direction(pair, lam):
    rows, (g,) = pair
    n, weights = len(g), onp.array([2.0, 0.5])
    base = onp.diag(onp.arange(1.0, n + 1))
    P = base + rows.T @ onp.diag(weights) @ rows
    expected = -onp.linalg.solve(P + lam * onp.eye(n), g)
    for form in (P, sp.csr_array(P), LowRank(sp.csr_array(base), rows, weights), aslinearoperator(P)):
        d = direction(g, form, float(lam))
        if not g.any():
            assert d is None
        else:
            assert onp.allclose(d, expected, atol=1e-8 * (1 + onp.abs(expected).max()))


@given(matrices(3, 3), matrices(1, 3))
@settings(max_examples=60)
def test_a_direction_always_descends_or_is_refused(M, g):
    P, g = M + M.T, g[0]
    for form in (
        P,
        sp.csr_array(P),
        LowRank(sp.csr_array((3, 3)), M, onp.array([1.0, -1.0, 2.0])),
        aslinearoperator(P),
    ):
        d = direction(g, form, 1e-3)
        assert d is None or g @ d < 0
    assert not g.any() or direction(g, P, 1e-3) is not None
    assert not g.any() or direction(g, aslinearoperator(P), 1e-3) is not None


def wide(samples, n, seed=0):
    rng = onp.random.default_rng(seed)
    A = rng.standard_normal((samples, n)) / onp.sqrt(n)
    signs = onp.sign(rng.standard_normal(samples))
    return A, signs, lambda w: 0.5 * np.sum(w**2) + 5 * np.sum(np.maximum(1 - signs * np.dot(A, w), 0) ** 2)


def forms():
    rng = onp.random.default_rng(1)
    A, _, svm = wide(20, 30)
    B = rng.standard_normal((40, 30))
    return [
        svm,
        lambda w: np.sum(np.dot(B, w) ** 2) + np.sum(np.exp(w / 3)) + np.dot(w, np.roll(w, 1)),
        lambda w: np.linalg.norm(np.dot(A, w)) * np.sum(w**2),
        lambda w: np.sum(np.maximum(w[1:], w[:-1] ** 2) * np.abs(w[:-1])) + np.sum(w**4),
    ]


@pytest.mark.parametrize("f", forms())
@pytest.mark.parametrize("limit", [10, 2000])
def test_the_element_is_the_hessian_of_the_piece_in_every_form(f, limit, monkeypatch):
    monkeypatch.setattr(damped, "ARRAY", limit)
    monkeypatch.setattr(damped, "DENSE", 0)
    x = onp.random.default_rng(2).standard_normal(30)
    model = model_at(composite(from_function(f, x), x), x)
    P = selection_element(model, model.own_multipliers())
    assert onp.allclose(P @ onp.eye(30), limiting_hessian(f, x), rtol=1e-10, atol=1e-10)


def test_few_dense_rows_are_kept_apart_and_more_of_them_are_products(monkeypatch):
    monkeypatch.setattr(damped, "ARRAY", 100)
    for samples, form in ((40, LowRank), (170, LinearOperator)):
        A, _, f = wide(samples, 300)
        model = model_at(composite(from_function(f, onp.zeros(300)), onp.zeros(300)), onp.zeros(300))
        P = selection_element(model, model.own_multipliers())
        assert isinstance(P, form)
        if form is LowRank:
            assert P.rows.shape == (40, 300)
            assert P.base.nnz == 300
        w = onp.random.default_rng(3).standard_normal(300)
        assert onp.allclose(P @ w, w + 10 * A.T @ (A @ w))
        result = minimize(f, onp.zeros(300))
        assert result.success
        assert result.nit <= 12


def test_woodbury_gives_way_where_it_loses_its_digits():
    """base = 0: the direction on the kernel of the rows is -g / lam, and the terms cancel 1e14-fold on their range."""
    rows = onp.random.default_rng(0).standard_normal((3, 8)) * 1e7
    P = LowRank(sp.csr_array((8, 8)), rows, onp.ones(3))
    g = rows.T @ onp.array([1.0, 2.0, 3.0])
    d = direction(g, P, 1e-6)
    assert onp.linalg.norm(P @ d + 1e-6 * d + g) <= 1e-7 * onp.linalg.norm(g)


def test_no_dense_square_array_is_formed_for_a_wide_problem():
    """2,500 variables, 60 rows: less than half the memory of one n x n array at any time."""
    n = 2500
    A, signs, f = wide(60, n)
    model = model_at(composite(from_function(f, onp.zeros(n)), onp.zeros(n)), onp.zeros(n))
    P = selection_element(model, model.own_multipliers())
    assert isinstance(P, LowRank)
    assert P.base.nnz <= n
    tracemalloc.start()
    result = minimize(f, onp.zeros(n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * n * n
    slack = onp.maximum(1 - signs * (A @ result.x), 0)
    assert onp.linalg.norm(result.x - 10 * A.T @ (signs * slack)) <= 1e-9
    assert result.nit <= 10


@pytest.mark.parametrize("form", [onp.asarray, sp.csr_array, aslinearoperator])
def test_an_element_given_from_outside_is_used(form):
    calls = []
    H = onp.diag([2.0, 8.0, 200.0])

    def hess(x, a):
        calls.append(x.copy())
        return form(H)

    result = minimize(lambda x, a: np.sum(np.array([1.0, 4.0, 100.0]) * (x - a) ** 2), [3.0, 4, 5], (1.0,), hess=hess)
    assert result.success
    assert onp.allclose(result.x, 1.0)
    assert len(calls) >= result.nit
    assert result.nit <= 6


def test_a_wrong_element_from_outside_costs_steps_and_not_the_answer():
    result = minimize(lambda x: np.sum(x**4) + x[0], [3.0, 4.0], hess=lambda x: -onp.eye(2), maxiter=2000)
    assert onp.allclose(result.x[0], -(0.25 ** (1 / 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("hess", "message"),
    [
        (lambda x: onp.eye(3), r"hess must return shape \(2, 2\); got \(3, 3\)"),
        (lambda x: "one", "hess must return an array or a LinearOperator; got str"),
        ("2-point", "hess must be callable; got str"),
    ],
)
def test_a_bad_element_from_outside_is_named(hess, message):
    with pytest.raises(ValueError, match=message):
        minimize(lambda x: np.sum(x**2), [1.0, 2.0], hess=hess)
