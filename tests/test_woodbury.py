"""The Woodbury inverse of rahimi-2025, section 6: (24) to (29) where they hold; (40) stops on every pipeline."""

from functools import partial
from itertools import pairwise

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarke.woodbury import Pipeline, SingularBlock, hessian, inverse_of_q, lifted, woodbury_solve


def symmetric(rng, n):
    W = rng.normal(size=(n, n))
    return W + W.T


@st.composite
def pipelines(draw, square=False):
    """Any derivatives: the identities are of linear algebra. The last a_L is 1, the loss."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a = [0, *draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)), 1]
    p = a[1:] if square else [draw(st.integers(1, 4)) for _ in a[1:]]
    steps = list(zip(a[:-1], a[1:], p, strict=True))
    return Pipeline(
        [rng.normal(size=(after, before)) for before, after, _ in steps],
        [rng.normal(size=(after, q)) for _, after, q in steps],
        [symmetric(rng, before) for before, _, _ in steps],
        [rng.normal(size=(before, q)) for before, _, q in steps],
        [symmetric(rng, q) for _, _, q in steps],
    )


def _weighted_gradient(f, b, n, y):
    """The gradient of b . f(y[:n], y[n:]) in y."""
    inner = autograd.grad(lambda z: anp.dot(b, f(z, y[n:])))(y[:n])
    outer = autograd.grad(lambda x: anp.dot(b, f(y[:n], x)))(y[n:])
    return anp.concatenate([inner, outer])


def of_functions(functions, z, xs):
    """The pipeline of z_l = f_l(z_{l-1}, x_l) at xs, differentiated by autograd, and its loss as a function."""
    zs = [z]
    for f, x in zip(functions, xs, strict=True):
        zs.append(f(zs[-1], x))
    b, parts = np.ones(1), []
    for f, before, x in reversed(list(zip(functions, zs[:-1], xs, strict=True))):
        weighted = autograd.jacobian(partial(_weighted_gradient, f, b, len(before)))(np.concatenate([before, x]))
        n = len(before)
        F, G = autograd.jacobian(f, 0)(before, x), autograd.jacobian(f, 1)(before, x)
        parts.append((F, G, weighted[:n, :n], weighted[:n, n:], weighted[n:, n:]))
        b = b @ F
    return Pipeline(*(list(part) for part in zip(*reversed(parts), strict=True)))


def twisted(z, x):
    return anp.tanh(z * x[: len(z)]) + x[: len(z)] ** 2 * z + anp.sin(x[: len(z)]) + 0.1 * anp.sum(x)


def energy(z, x):
    return anp.reshape(anp.sum((z - 1) ** 2) * anp.exp(x[0]) + x[0] ** 3, (1,))


def test_equation_24_is_the_hessian_of_a_loss_differentiated_whole():
    rng = np.random.default_rng(0)
    sizes, functions = [2, 3, 1], [twisted, twisted, energy]
    xs, z = [rng.normal(size=n) for n in sizes], rng.normal(size=2)

    def loss(flat):
        value, start = z, 0
        for f, n in zip(functions, sizes, strict=True):
            value, start = f(value, flat[start : start + n]), start + n
        return value[0]

    H = autograd.hessian(loss)(np.concatenate(xs))
    np.testing.assert_allclose(hessian(of_functions(functions, z, xs)), H, atol=1e-12 * np.abs(H).max())


@settings(max_examples=50, deadline=None)
@given(pipelines())
def test_equation_27_is_equation_24(pipeline):
    A, U, Q = lifted(pipeline)
    H = hessian(pipeline)
    np.testing.assert_allclose(A + U.T @ Q @ U, H, atol=1e-10 * max(np.abs(A).max(), np.abs(H).max()))


@settings(max_examples=50, deadline=None)
@given(pipelines(square=True))
def test_equation_28_inverts_where_all_gains_are_square(pipeline):
    try:
        Q, Qinv = lifted(pipeline)[2], inverse_of_q(pipeline)
        x = woodbury_solve(pipeline, g := np.ones(lifted(pipeline)[1].shape[1]), as_printed=False)
    except SingularBlock:
        return
    H, (A, U, _) = hessian(pipeline), lifted(pipeline)
    loss = np.linalg.cond(Q) + np.linalg.cond(H) * np.linalg.cond(A) * np.linalg.cond(Qinv + U @ np.linalg.inv(A) @ U.T)
    np.testing.assert_allclose(Qinv @ Q, np.eye(len(Q)), atol=1e-14 * loss * len(Q))
    np.testing.assert_allclose(H @ x, g, atol=1e-13 * loss * max(1.0, np.linalg.norm(x) * np.linalg.norm(H)))


@settings(max_examples=50, deadline=None)
@given(pipelines(square=True))
def test_the_printed_elimination_stops_on_every_pipeline(pipeline):
    with pytest.raises(SingularBlock):
        woodbury_solve(pipeline, np.ones(lifted(pipeline)[1].shape[1]))
    try:
        Qinv = inverse_of_q(pipeline)
    except SingularBlock:
        return
    n = sum(len(F) for F in pipeline.links)
    # the block of z_L of S_q^-1 + I is zero, its couplings too
    np.testing.assert_allclose((Qinv[:n, :n] + np.eye(n))[-1], 0, atol=1e-12)


def regular_pipeline():
    rng = np.random.default_rng(3)
    a = [0, 2, 2, 1]
    steps = list(pairwise(a))
    return Pipeline(
        [rng.normal(size=(n, m)) for m, n in steps],
        [np.eye(n) + 0.1 * rng.normal(size=(n, n)) for _, n in steps],
        [symmetric(rng, m) for m, _ in steps],
        [rng.normal(size=(m, n)) for m, n in steps],
        [3 * np.eye(n) + symmetric(rng, n) / 4 for _, n in steps],
    )


def test_where_everything_else_is_regular_it_is_the_corner_that_is_singular_and_equation_35_that_works():
    pipeline, g = regular_pipeline(), np.arange(1.0, 6.0)
    with pytest.raises(SingularBlock, match=r"S_H11 in \(40\) is singular"):
        woodbury_solve(pipeline, g)
    x = woodbury_solve(pipeline, g, as_printed=False)
    np.testing.assert_allclose(hessian(pipeline) @ x, g, atol=1e-9)


def test_the_sign_of_equation_36_is_wrong():
    """Woodbury with -S_H is an inverse of something else."""
    pipeline = regular_pipeline()
    A, U, _ = lifted(pipeline)
    Ainv = np.linalg.inv(A)
    S = -(inverse_of_q(pipeline) + U @ Ainv @ U.T)
    wrong = Ainv - Ainv @ U.T @ np.linalg.solve(S, U @ Ainv)
    assert np.abs(wrong @ hessian(pipeline) - np.eye(5)).max() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"gains": [np.ones((2, 3)), np.ones((1, 1))], "xz": [np.zeros((0, 3)), np.ones((2, 1))]},
            "D_x in .* no square",
        ),
        ({"gains": [np.ones((2, 2)), np.ones((1, 1))]}, "D_x in A.* is singular"),
        ({"xx": [np.zeros((2, 2)), np.eye(1)]}, r"Q_22 = D_D D_xx in \(29\) is singular"),
        (
            {"zz": [np.zeros((0, 0)), np.eye(2)], "xz": [np.zeros((0, 2)), np.zeros((2, 1))]},
            r"S_q in \(34\) is singular",
        ),
    ],
)
def test_what_is_not_invertible_is_named(change, message):
    parts = {
        "links": [np.ones((2, 0)), np.ones((1, 2))],
        "gains": [np.eye(2), np.eye(1)],
        "zz": [np.zeros((0, 0)), np.zeros((2, 2))],
        "xz": [np.zeros((0, 2)), np.ones((2, 1))],
        "xx": [np.eye(2), np.eye(1)],
    } | change
    if parts["gains"][0].shape[1] == 3:
        parts["xx"] = [np.eye(3), np.eye(1)]
    with pytest.raises(SingularBlock, match=message):
        woodbury_solve(Pipeline(**parts), np.ones(sum(len(W) for W in parts["xx"])))


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the arrays of step 1 do not fit"):
        Pipeline([np.ones((1, 0))], [np.ones((2, 1))], [np.zeros((0, 0))], [np.zeros((0, 1))], [np.eye(1)])
