"""Laws of the passes: against autograd's own, complex steps, the seminar's worked example, and counted by hand."""

import pickle
import warnings
from itertools import pairwise

import autograd
import autograd.numpy as anp
import autograd.numpy.linalg as linalg
import numpy as np
import pytest
from autograd.extend import defvjp, primitive
from autograd.scipy.special import logsumexp
from hypothesis import given
from hypothesis import strategies as st

from clarke import passes, primitives, selections
from clarke.differentials import differential
from clarke.graph import Graph, from_function
from clarke.kinks import germ
from clarke.lowering import call_of
from clarke.passes import TiedPieces, cost, forward_values, hvp, jacobian, jvp, vjp
from clarke.primitives import NotPiecewiseSmooth, UnsupportedPrimitive

W = np.random.default_rng(0).standard_normal((5, 4))
X = np.array([0.3, -0.7, 1.1, 0.4])


def square(x):
    return anp.reshape(x, (2, 2))


FUNCTIONS = {
    "network": lambda x: anp.sum(anp.tanh(anp.dot(W, anp.maximum(x, 0))) ** 2) + x[0] * x[1],
    "rational": lambda x: anp.concatenate([anp.dot(W, x) ** 2 / (1 + anp.sum(x**2)), anp.sort(x)]),
    "linear": lambda x: anp.dot(W, x),
    "reductions": lambda x: logsumexp(x) + anp.mean(x) * anp.std(x) + anp.var(x) + linalg.norm(x),
    "determinants": lambda x: linalg.slogdet(square(x) @ square(x).T + np.eye(2))[1] + linalg.det(square(x)),
    "inverse": lambda x: linalg.inv(square(x) + 3 * np.eye(2)),
    "solve": lambda x: linalg.solve(square(x) + 3 * np.eye(2), x[:2]),
    "einsum": lambda x: anp.einsum("ij,jk->ik", square(x), anp.outer(x[:2], x[2:])),
    "cumulative": lambda x: anp.cumsum(anp.abs(x)) * anp.prod(x),
    "where": lambda x: selections.where(x[:2] - 0.1, (x[:2] - 0.1) ** 2, 0.0) + anp.max(square(x), axis=1),
    "cross": lambda x: anp.cross(x[:3], anp.sin(x[1:])),
    "constant": lambda x: np.array([1.0, 2.0]),
    "identity": lambda x: x,
    "reused": lambda x: x * x * x - x[0] + x[0],
}
ANALYTIC = ("rational", "linear", "inverse", "solve", "einsum", "cross", "identity", "reused")


def jacobian_by_autograd(f, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a constant function, autograd warns
        return autograd.jacobian(f)(x).reshape(-1, x.size)


def hessian_by_autograd(f, c, x):
    return autograd.hessian(lambda y: anp.sum(c * f(y)) + 0.0 * anp.dot(y, y))(x)


def close(a, b, slack=1e-13):
    return np.shape(a) == np.shape(b) and np.max(np.abs(a - b), initial=0) <= slack * (1 + np.max(np.abs(b), initial=0))


# ---------------------------------------------------------------- the derivatives


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_pass_is_autograds(name):
    f = FUNCTIONS[name]
    rng = np.random.default_rng(1)
    J, v, c = jacobian_by_autograd(f, X), rng.standard_normal(4), rng.standard_normal(np.shape(f(X)))
    for g in (f, from_function(f, X), pickle.loads(pickle.dumps(from_function(f, X)))):
        for mode in ("forward", "backward", "auto"):
            assert close(jacobian(g, X, mode=mode).matrix, J)
        assert close(jvp(g, X, v), (J @ v).reshape(np.shape(f(X))))
        assert close(vjp(g, X, c), J.T @ np.ravel(c))
        assert close(hvp(g, X, v, c), hessian_by_autograd(f, c, X) @ v)


@pytest.mark.parametrize("name", ANALYTIC)
def test_the_passes_are_complex_steps(name):
    f = (lambda x: FUNCTIONS["rational"](x)[:5]) if name == "rational" else FUNCTIONS[name]
    rng = np.random.default_rng(2)
    v, c = rng.standard_normal(4), rng.standard_normal(np.shape(f(X)))
    assert close(jvp(f, X, v), np.imag(f(X + 1e-20j * v)) / 1e-20)
    along = [np.sum(c * np.imag(f(X + 1e-20j * e))) / 1e-20 for e in np.eye(4)]
    assert close(vjp(f, X, c), np.array(along))
    t = 2.0 ** -np.arange(8, 11)[:, None]  # Richardson of the complex-step slope
    slopes = [[np.imag(np.sum(c * f(X + s * v + 1e-20j * e))) / 1e-20 for e in np.eye(4)] for s in (*t, *-t)]
    quotient = (np.array(slopes[:3]) - slopes[3:]) / (2 * t)
    twice = (4 * quotient[1:] - quotient[:-1]) / 3
    assert close(hvp(f, X, v, c), (16 * twice[1] - twice[0]) / 15, 1e-10)


@given(st.integers(0, 30))
def test_the_passes_are_one_bilinear_form_read_three_ways(seed):
    rng = np.random.default_rng(seed)
    x, v, w = rng.standard_normal((3, 4))
    f = FUNCTIONS["rational"]
    c = rng.standard_normal(9)
    assert c @ jvp(f, x, v) == pytest.approx(vjp(f, x, c) @ v, rel=1e-12, abs=1e-12)
    assert w @ hvp(f, x, v, c) == pytest.approx(v @ hvp(f, x, w, c), rel=1e-11, abs=1e-11)


def test_forward_values_are_the_values_of_the_program():
    tape = forward_values(lambda x: anp.sum(anp.sin(x) ** 2), X)
    expected = [X, np.sin(X), np.sin(X) ** 2, np.sum(np.sin(X) ** 2)]
    assert all(np.array_equal(a, b) for a, b in zip(tape.values, expected, strict=True))


def unit(v, t=0.3, lam=0.1):
    """Examples 5.32 and 5.33: L + lam R of (x, w, b)."""
    x, w, b = v[:3], v[3:6], v[6]
    y = 1 / (1 + anp.exp(-(anp.dot(w, x) + b)))
    return (y - t) ** 2 / 2 + lam * anp.dot(w, w) / 2


def test_the_worked_example_of_the_seminar():
    rng = np.random.default_rng(4)
    x, w, b = rng.standard_normal(3), rng.standard_normal(3), 0.2
    v = np.concatenate([x, w, [b]])
    y = 1 / (1 + np.exp(-(w @ x + b)))
    slope = (y - 0.3) * y * (1 - y)
    printed = np.concatenate([slope * w, slope * x + 0.1 * w, [slope]])
    closed = differential("regularized_unit", t=0.3, lam=0.1)
    assert close(vjp(unit, v, 1.0), printed)
    assert close(jacobian(unit, v, mode="forward").matrix[0], printed)
    assert close(closed.gradient(v), printed)
    assert close(np.stack([hvp(unit, v, e) for e in np.eye(7)]), closed.hessian(v))


def test_a_backward_pass_sums_over_children_not_descendants():
    """Section 5.5.2: along u3 = u2 = u1, total derivatives summed over the descendants of u1 give 2."""
    f = lambda x: 1.0 * (1.0 * x[0])  # noqa: E731
    assert vjp(f, [5.0], 1.0).tolist() == [1]
    u3_by_u2, u3_by_u1, u2_by_u1 = 1, 1, 1
    children = u3_by_u2 * u2_by_u1
    descendants = u3_by_u2 * u2_by_u1 + 1 * u3_by_u1
    assert (children, descendants) == (1, 2)


# ---------------------------------------------------------------- counting


def chain(widths, seed=0):
    rng = np.random.default_rng(seed)
    layers = [rng.standard_normal((b, a)) for a, b in pairwise(widths)]

    def f(x):
        for layer in layers:
            x = anp.tanh(anp.dot(layer, x))
        return x

    return f


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5))
def test_forward_mode_costs_less_exactly_where_inputs_are_fewer_than_outputs(widths):
    x = np.linspace(-1, 1, widths[0]) + 0.1
    n, p = widths[0], widths[-1]
    f = chain(widths)
    found = cost(f, x)
    entries = sum(a * b + b for a, b in pairwise(widths))  # of the matrices, and of tanh
    assert found.partials == entries
    assert (found.forward, found.backward) == (n * entries, p * entries)
    assert (found.forward < found.backward) == (n < p)
    made = {mode: jacobian(f, x, mode=mode) for mode in ("forward", "backward", "auto")}
    assert made["forward"].multiplications == found.forward  # counted in the loops
    assert made["backward"].multiplications == found.backward
    assert made["auto"].multiplications == min(found.forward, found.backward)
    assert made["auto"].mode == ("forward" if n < p else "backward")


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "determinants"])
def test_what_is_counted_is_the_entries_of_the_local_jacobians(name):
    f = FUNCTIONS[name]
    graph = from_function(f, X)
    if graph.output is None:
        assert cost(f, X).partials == 0
        return
    tape = forward_values(f, X)
    for i, op in enumerate(graph.program.operations, 1):
        assert passes.partials(op, tape, i) == nonzeros(op, tape, i), op.source
    total = sum(nonzeros(op, tape, i) for i, op in enumerate(graph.program.operations, 1))
    assert cost(f, X).partials == total
    for mode, times in (("forward", 4), ("backward", np.size(f(X)))):
        assert jacobian(f, X, mode=mode).multiplications == times * total


def nonzeros(op, tape, i):
    """Entries of the dense local Jacobians that are not zero at a point where none is zero by accident."""
    count = 0
    for k in op.argnums:
        args = list(tape.arguments[i])
        if op.name in selections.SELECTIONS:
            still = [0 * np.asarray(a) for a in args]

            def push(a, k=k, still=still):
                return selections.chosen(tape.branches[i], [*still[:k], a, *still[k + 1 :]])

            dense = np.stack([np.ravel(push(e.reshape(np.shape(args[k])))) for e in np.eye(np.size(args[k]))])
        else:
            constants = [np.where(a == 0, 0.123, a) if isinstance(a, np.ndarray) else a for a in args]

            def local(a, k=k, constants=constants):
                return call_of(op.name)(*constants[:k], a, *constants[k + 1 :], **op.kwargs)

            dense = autograd.jacobian(local)(np.asarray(constants[k], dtype=float))
        count += np.count_nonzero(np.abs(dense) > 1e-14)
    return count


@primitive
def bump(x):
    return np.exp(-np.sum(x**2))


defvjp(bump, lambda ans, x: lambda g: -2 * g * bump(x) * x)
primitives.smooth(bump)


def test_an_operation_of_ones_own_is_differentiated_and_counted_dense():
    f = lambda x: bump(x * x)  # noqa: E731
    plain = lambda x: anp.exp(-anp.sum(x**4))  # noqa: E731
    assert cost(f, X).partials == 4 + 4 + 4
    for mode in ("forward", "backward"):
        assert close(jacobian(f, X, mode=mode).matrix[0], autograd.grad(plain)(X))
    assert close(hvp(f, X, X), autograd.hessian(plain)(X) @ X)


def test_matrix_operations_are_counted_dense_within_a_matrix_and_zero_between_those_of_a_stack():
    stack = np.random.default_rng(0).standard_normal((3, 2, 2)) + 3 * np.eye(2)
    f = lambda x: linalg.inv(anp.reshape(x, (3, 2, 2)))  # noqa: E731
    assert cost(f, stack.ravel()).partials == 12 + 3 * 4 * 4
    g = lambda x: linalg.solve(anp.reshape(x[:4], (2, 2)), anp.reshape(x[4:], (2, 3)))  # noqa: E731
    x = np.concatenate([stack[0].ravel(), np.arange(6.0)])
    assert cost(g, x).partials == 4 + 4 + 6 + 6 + 6 * 4 + 6 * 2
    h = lambda x: linalg.slogdet(anp.reshape(x, (2, 2)))[1]  # noqa: E731
    assert cost(h, stack[0].ravel()).partials == 4 + 4 + 1
    assert close(jacobian(h, stack[0].ravel(), mode="forward").matrix[0], np.linalg.inv(stack[0]).T.ravel())


def test_backward_mode_keeps_every_value_and_forward_mode_what_is_still_read():
    """Sections 5.5.3, 5.5.4: "one layer" is right for a chain only; a skip connection keeps its start alive."""
    kept = {}
    for depth in (3, 10, 30):
        plain = cost(chain([4] * (depth + 1)), X)
        assert plain.kept_backward == 4 * (2 * depth + 1)
        assert plain.kept_forward == 2 * (4 + 4)
        layers = chain([4] * (depth + 1))
        skip = cost(lambda x, layers=layers: layers(x) + x, X)
        kept[depth] = skip.kept_forward
    assert set(kept.values()) == {2 * (4 + 4 + 4)}


def test_neither_mode_is_optimal_in_general():
    """R^n -> R -> R^n: n^2 multiplications as an outer product, at least 2 n^2 in either mode."""
    a, b = X, X[::-1].copy()
    f = lambda x: b * anp.dot(a, x)  # noqa: E731
    found = cost(f, X)
    assert found.forward == found.backward == 2 * 4**2
    assert close(jacobian(f, X).matrix, np.outer(b, a))


def test_a_hessian_product_reads_each_operation_a_fixed_number_of_times(monkeypatch):
    calls = []
    whole = passes._local_pull
    monkeypatch.setattr(passes, "_local_pull", lambda *a: calls.append(a[2]) or whole(*a))
    for n in (2, 8, 32):
        calls.clear()
        x = np.linspace(0.1, 1, n)
        operations = len(from_function(unit_sum, x).program.operations)
        hvp(unit_sum, x, x)
        assert len(calls) <= 2 * operations


def unit_sum(x):
    return anp.sum(anp.sin(x) * x)


# ---------------------------------------------------------------- kinks


def test_a_kink_is_refused_until_its_piece_is_named():
    f = lambda x: anp.maximum(x[0], x[1]) ** 2 + x[0]  # noqa: E731
    tie = np.array([2.0, 2.0])
    for door in (
        lambda: forward_values(f, tie),
        lambda: jvp(f, tie, tie),
        lambda: vjp(f, tie, 1.0),
        lambda: hvp(f, tie, tie),
        lambda: jacobian(f, tie),
        lambda: cost(f, tie),
    ):
        with pytest.raises(
            TiedPieces, match=r"maximum ties at x: 1 of its guards are within 1e-09 of their scale; name"
        ):
            door()
    here = germ(f, tie)
    for sign, piece in ((1, lambda x: x[0] ** 2 + x[0]), (-1, lambda x: x[1] ** 2 + x[0])):
        branches = here.branches([sign])
        assert np.array_equal(vjp(f, tie, 1.0, branches=branches), autograd.grad(piece)(tie))
        assert np.array_equal(hvp(f, tie, [1.0, 2.0], branches=branches), autograd.hessian(piece)(tie) @ [1, 2])
        assert np.array_equal(jacobian(f, tie, branches=branches).matrix[0], autograd.grad(piece)(tie))
    near = tie + [1e-7, 0]
    assert vjp(f, near, 1.0)[1] == 0
    with pytest.raises(TiedPieces):
        vjp(f, near, 1.0, tol=1e-6)


def test_a_norm_at_zero_is_refused_not_nan():
    for door in (lambda f, x: vjp(f, x, 1.0), lambda f, x: jvp(f, x, x), lambda f, x: hvp(f, x, x)):
        with pytest.raises(NotPiecewiseSmooth, match="norm is evaluated where it vanishes"):
            door(linalg.norm, np.zeros(3))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: jvp(f, X, np.ones(3)), r"v must be finite and real, of shape \(4,\); got float64 \(3,\)"),
        (lambda f: jvp(f, X, 1j * X), r"v must be finite and real, of shape \(4,\); got complex128"),
        (lambda f: hvp(f, X, np.nan * X, np.ones(5)), "v must be finite and real"),
        (lambda f: vjp(f, X, np.ones(4)), r"c must be finite and real, of shape \(5,\); got float64 \(4,\)"),
        (
            lambda f: hvp(f, X, X),
            r"f returns an array of shape \(5,\); pass c of that shape, for the Hessian of <c, f>",
        ),
        (lambda f: hvp(f, X, X, 1.0), r"c must be finite and real, of shape \(5,\); got float64 \(\)"),
        (lambda f: jacobian(f, X, mode="reverse"), 'mode must be "auto", "forward" or "backward"; got \'reverse\''),
        (lambda f: cost(f, X, tol=1), "tol is relative to the scale of a guard, so 0 <= tol < 1; got 1"),
        (lambda f: cost(f, X[:3]), "x has 3 entries, the function was recorded with 4"),
    ],
)
def test_what_is_asked_wrongly_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(from_function(FUNCTIONS["linear"], X))


def test_a_form_that_autograd_cannot_differentiate_is_named(monkeypatch):
    graph = from_function(FUNCTIONS["linear"], X)
    name = passes._entry(graph.program.operations[0]).call

    def broken(*_):
        raise NotImplementedError("not this form")

    monkeypatch.setitem(passes.primitive_vjps, name, broken)
    with pytest.raises(
        UnsupportedPrimitive, match=r"dot: autograd cannot differentiate this form of it \(not this form\)"
    ):
        vjp(graph, X, np.ones(5))
    assert isinstance(graph, Graph)
