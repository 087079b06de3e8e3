"""Limiting derivatives: the pieces' own, all of them, and no other."""

import pickle

import autograd
import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import relu_patterns_by_lp, same_set
from strategies import Net, nets
from test_fan import SEVEN_RELUS

import clarke
from clarke import limiting, models
from clarke.kinks import signs_of
from clarke.skeleton import hessians_by_pattern, hessians_by_skeleton


def relu(z):
    return np.maximum(z, 0.0)


def cubic_loss(outputs):
    """A loss whose Hessian is not constant and whose pieces all differ."""
    return np.sum(outputs**2) / 2 + np.sum(outputs**3)


# ---------------------------------------------------------------- known answers

KNOWN = {
    "half relu squared": (lambda x: relu(x[0]) ** 2 / 2, [0.0], [[0.0]], [[[0.0]], [[1.0]]], True),
    "x|y|": (lambda z: z[0] * np.abs(z[1]), [0.0, 0.0], [[0.0, 0.0]], [[[0, 1], [1, 0]], [[0, -1], [-1, 0]]], False),
    "nine": (
        lambda x: (relu(x[0]) + relu(2 * x[0]) - 3 * relu(-x[0])) ** 2 / 2,
        [0.0],
        [[0.0]],
        [[[9.0]]],
        True,
    ),
    "the identity in two relus": (lambda x: relu(x[0]) - relu(-x[0]), [0.0], [[1.0]], [[[0.0]]], True),
    "max(x, -x, 0)": (
        lambda x: np.max(np.array([x[0], -x[0], 0.0 * x[0]])),
        [0.0],
        [[1.0], [-1.0]],
        [[[0.0]]],
        False,
    ),
    "the README's loss": (
        lambda w: (np.maximum(w[0], 0) * w[1] - 1) ** 2,
        [0.0, 2.0],
        [[0.0, 0.0], [-4.0, 0.0]],
        [[[0.0, 0.0], [0.0, 0.0]], [[8.0, -2.0], [-2.0, 0.0]]],
        False,
    ),
    "the cusp": (
        lambda z: relu(z[1] - z[0] ** 2) - relu(z[1] - 2 * z[0] ** 2),
        [0.0, 0.0],
        [[0.0, 0.0], [0.0, 1.0]],
        [[[0.0, 0.0], [0.0, 0.0]], [[-2.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]]],
        False,
    ),
    "|y| x^2, whose facet test passes at 0": (
        lambda z: np.abs(z[1]) * z[0] ** 2,
        [0.0, 0.0],
        [[0.0, 0.0]],
        [[[0.0, 0.0], [0.0, 0.0]]],
        False,
    ),
    "w x |y|, whose facet test passes at 0": (
        lambda z: z[2] * z[0] * np.abs(z[1]),
        [0.0, 0.0, 0.0],
        [[0.0, 0.0, 0.0]],
        [onp.zeros((3, 3))],
        False,
    ),
    "relu cubed": (lambda x: relu(x[0]) ** 3, [0.0], [[0.0]], [[[0.0]]], True),
    "|x|^3 / 3": (lambda x: np.abs(x[0]) ** 3 / 3, [0.0], [[0.0]], [[[0.0]]], True),
    "Huber at its seam": (
        lambda x: np.minimum(np.abs(x[0]), 1.0) ** 2 / 2 + np.maximum(np.abs(x[0]) - 1.0, 0.0),
        [1.0],
        [[1.0]],
        [[[1.0]], [[0.0]]],
        True,
    ),
    "hinge squared": (
        lambda w: np.maximum(1 - np.dot(onp.array([1.0, 2.0]), w), 0) ** 2,
        [1.0, 0.0],
        [[0.0, 0.0]],
        [onp.zeros((2, 2)), [[2.0, 4.0], [4.0, 8.0]]],
        True,
    ),
    "a smooth point": (lambda x: np.sum(relu(x) ** 3), [1.0, -1.0], [[3.0, 0.0]], [[[6.0, 0.0], [0.0, 0.0]]], True),
    "a function that ignores x": (lambda x: 3.0, [1.0, 2.0], [[0.0, 0.0]], [onp.zeros((2, 2))], True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_sets_come_out_as_sets_both_ways(name):
    f, x, gradients, hessians, c11 = KNOWN[name]
    found = clarke.limiting_hessians(f, x)
    assert same_set(found.gradients, gradients)
    assert same_set(found.matrices, hessians)
    assert found.c11 is c11
    assert found.complete
    assert same_set(clarke.limiting_gradients(f, x).vectors, gradients)
    assert same_set(clarke.limiting_jacobians(f, x).matrices[:, 0], gradients)


def test_c11_is_true_or_unknown_but_never_false_for_a_smooth_function_with_curved_guards():
    guard = lambda z: z[1] - z[0] ** 2  # noqa: E731
    found = clarke.limiting_hessians(lambda z: relu(guard(z)) ** 2, onp.zeros(2))
    assert found.c11 is True
    assert same_set(found.matrices, [onp.zeros((2, 2)), [[0.0, 0.0], [0.0, 2.0]]])


def test_c11_stays_unknown_when_the_fan_is_incomplete_and_its_gradients_agree():
    found = clarke.limiting_hessians(lambda z: relu(z[0]) ** 2 + relu(z[0] - z[1] ** 4) ** 2, onp.zeros(2))
    assert not found.complete
    assert found.c11 is None
    assert "undecided" in found.reason


# ---------------------------------------------------------------- twins and laws


@given(nets(max_width=3, max_depth=2))
@settings(max_examples=80, deadline=None)
def test_limiting_jacobians_of_a_net_are_the_matrix_products_of_its_feasible_labels(net):
    found = clarke.limiting_jacobians(net, net.x)
    expected = relu_patterns_by_lp(net, net.x)
    jacobians = dict(zip(found.patterns, found.matrices.tolist(), strict=True))
    assert jacobians == {p: J.tolist() for p, J in expected.items()}


@given(nets(max_width=2, max_depth=2))
@settings(max_examples=60, deadline=None)
def test_limiting_hessians_of_a_loss_follow_from_the_jacobians_by_the_chain_rule(net):
    y = net(net.x)
    found = clarke.limiting_hessians(lambda x: cubic_loss(net(x)), net.x)
    jacobians = relu_patterns_by_lp(net, net.x)
    for pattern, gradient, hessian in zip(found.patterns, found.gradients, found.matrices, strict=True):
        J = jacobians[pattern]  # of a piecewise-linear net: H = J^T loss'' J
        assert onp.allclose(gradient, J.T @ (y + 3 * y**2), rtol=1e-12, atol=1e-12)
        assert onp.allclose(hessian, J.T @ onp.diag(1 + 6 * y) @ J, rtol=1e-12, atol=1e-10)
        assert (hessian == hessian.T).all()


@given(nets(max_width=2, max_depth=2))
@settings(max_examples=40, deadline=None)
def test_every_limiting_derivative_is_met_by_finite_differences_inside_its_chamber(net):
    found = clarke.limiting_hessians(lambda x: cubic_loss(net(x)), net.x)
    for gradient, hessian, witness in zip(found.gradients, found.matrices, found.witnesses, strict=True):
        y, h = net.x + 1e-3 * witness, 1e-7
        smooth = autograd.grad(lambda x: cubic_loss(net(x)))  # y is off every kink
        slack = 2e-3 * (1 + onp.abs(hessian).max() ** 2)
        assert onp.allclose(smooth(y), gradient + 1e-3 * hessian @ witness, atol=slack)
        columns = [(smooth(y + h * e) - smooth(y - h * e)) / (2 * h) for e in onp.eye(len(y))]
        scale = 1 + onp.abs(hessian).max()
        assert onp.abs(onp.array(columns) - hessian).max() <= 0.05 * scale**2


@given(nets(max_width=3, max_depth=2))
@settings(max_examples=40, deadline=None)
def test_the_two_routes_to_the_hessians_agree(net):
    found = clarke.limiting_hessians(lambda x: cubic_loss(net(x)) + np.prod(relu(net(x) * x[0])), net.x)
    signs = [signs_of(p) for p in found.patterns]
    slow = hessians_by_pattern(found._skeleton, signs, onp.ones(()))
    fast = hessians_by_skeleton(found._skeleton, signs, onp.ones(()))
    assert onp.abs(slow - fast).max() <= 1e-12 * max(1.0, onp.abs(slow).max())


def test_the_two_routes_agree_where_the_candidates_are_curved():
    rng = onp.random.default_rng(3)
    W, V = rng.integers(-2, 3, (3, 2)), rng.integers(-2, 3, (2, 3))

    def f(x):
        h = relu(np.dot(W, x) + np.dot(W, x) ** 2)
        k = np.sort(np.abs(np.dot(V, h) + h[0] * h[1]))
        return np.max(np.concatenate([k, x**2, x])) + k[0] * h[1] * x[0] + np.tanh(k[1])

    found = clarke.limiting_hessians(f, onp.zeros(2))
    signs = [signs_of(p) for p in found.patterns]
    slow = hessians_by_pattern(found._skeleton, signs, onp.ones(()))
    fast = hessians_by_skeleton(found._skeleton, signs, onp.ones(()))
    assert len(signs) >= 4
    assert onp.abs(slow - fast).max() <= 1e-12 * onp.abs(slow).max()
    assert onp.abs(slow - slow[0]).max() > 1


@pytest.mark.parametrize("spelling", SEVEN_RELUS)
@given(net=nets(max_inputs=2, max_width=2, outputs=1))
@settings(max_examples=15, deadline=None)
def test_seven_spellings_of_relu_have_one_set(spelling, net):
    expected = clarke.limiting_hessians(lambda x: cubic_loss(net(x)), net.x)
    found = clarke.limiting_hessians(lambda x: cubic_loss(net(x, SEVEN_RELUS[spelling])), net.x)
    assert same_set(found.gradients, expected.gradients)
    assert same_set(found.matrices, expected.matrices)
    assert found.c11 is expected.c11


@given(nets(max_inputs=3, max_width=2, outputs=1))
@settings(max_examples=30, deadline=None)
def test_a_unimodular_change_of_variables_transforms_the_sets_by_the_chain_rule(net):
    n = len(net.x)
    shear = onp.eye(n) + onp.triu(onp.ones((n, n)), 1)
    back = onp.linalg.inv(shear).round()
    expected = clarke.limiting_hessians(lambda x: cubic_loss(net(x)), net.x)
    found = clarke.limiting_hessians(lambda y: cubic_loss(net(np.dot(shear, y))), back @ net.x)
    assert same_set(found.gradients, expected.gradients @ shear)
    assert same_set(found.matrices, shear.T @ expected.matrices @ shear)


@given(nets(max_inputs=3, max_width=3, outputs=1), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_rotation_turns_the_sets_with_it(net, seed):
    n = len(net.x)
    Q = onp.linalg.qr(onp.random.default_rng(seed).standard_normal((n, n)))[0]
    expected = clarke.limiting_hessians(lambda x: cubic_loss(net(x)), net.x)
    found = clarke.limiting_hessians(lambda y: cubic_loss(net(np.dot(Q, y))), Q.T @ net.x)
    assert same_set(found.gradients, expected.gradients @ Q, 1e-9, floor=1.0)
    assert same_set(found.matrices, Q.T @ expected.matrices @ Q, 1e-9, floor=1.0)
    assert found.c11 is expected.c11


@given(nets(max_width=2))
@settings(max_examples=30, deadline=None)
def test_splitting_a_unit_in_two_leaves_the_set_as_it_was(net):
    (W, b), (V, c) = net.layers[0], net.layers[1]
    halved = onp.hstack([V / 2, V / 2])
    split = Net(((onp.vstack([W, W]), onp.concatenate([b, b])), (halved, c), *net.layers[2:]), net.x)
    assert same_set(clarke.limiting_jacobians(split, net.x).matrices, clarke.limiting_jacobians(net, net.x).matrices)


# ---------------------------------------------------------------- one element


@given(nets(max_width=3, max_depth=2, outputs=1), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_one_element_is_in_the_set_and_is_met_along_its_direction(net, seed):
    f = clarke.from_function(lambda x: cubic_loss(net(x)), net.x)
    found = clarke.limiting_hessians(f, net.x)
    for direction in (None, onp.random.default_rng(seed).standard_normal(len(net.x))):
        gradient = clarke.limiting_gradient(f, net.x, direction)
        hessian = clarke.limiting_hessian(f, net.x, direction)
        gaps = onp.abs(found.gradients - gradient).max(axis=1) + onp.abs(found.matrices - hessian).max(axis=(1, 2))
        assert gaps.min() <= 1e-10 * (1 + onp.abs(hessian).max())
        if direction is not None:
            ahead = autograd.grad(f)(net.x + 1e-7 * direction / onp.linalg.norm(direction))
            assert onp.allclose(ahead, gradient, atol=1e-5 * (1 + onp.abs(hessian).max()))


def test_a_direction_on_a_wall_still_gives_an_element():
    f = lambda x: np.abs(x[0]) + 2 * np.abs(x[1])  # noqa: E731
    gradient = clarke.limiting_gradient(f, onp.zeros(2), [1.0, 0.0])
    assert gradient[0] == 1
    assert abs(gradient[1]) == 2


def test_a_kink_with_zero_gradient_is_decided_along_the_direction():
    f = lambda w: relu(w[0] * w[1])  # noqa: E731
    assert clarke.limiting_hessian(f, onp.zeros(2), [1.0, 1.0]).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert clarke.limiting_hessian(f, onp.zeros(2), [1.0, -1.0]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_max_sort_and_median_are_decided_along_the_direction():
    weights = onp.arange(1.0, 4.0)
    x, d = onp.zeros(3), onp.array([0.2, -0.5, 0.1])
    assert clarke.limiting_gradient(np.max, x, d).tolist() == [1.0, 0.0, 0.0]
    assert clarke.limiting_gradient(np.min, x, d).tolist() == [0.0, 1.0, 0.0]
    assert clarke.limiting_gradient(np.median, x, d).tolist() == [0.0, 0.0, 1.0]
    assert clarke.limiting_gradient(lambda y: np.dot(np.sort(y), weights), x, d).tolist() == [3.0, 1.0, 2.0]


@given(nets(max_width=3, max_depth=2, outputs=1), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_at_a_smooth_point_one_element_is_what_autograd_returns(net, seed):
    f = lambda x: cubic_loss(net(x))  # noqa: E731
    y = net.x + onp.random.default_rng(seed).standard_normal(len(net.x))
    assert onp.allclose(clarke.limiting_gradient(f, y), autograd.grad(f)(y), rtol=1e-12, atol=1e-12)
    assert onp.allclose(clarke.limiting_hessian(f, y), autograd.hessian(f)(y), rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- the interface


def test_distinct_pairs_gradients_with_hessians():
    found = clarke.limiting_hessians(lambda x: relu(x[0]) ** 2 + relu(x[0]) ** 2 + np.abs(x[1]), onp.zeros(2))
    assert len(found) == 4
    fewer = found.distinct()
    assert len(fewer) == 4  # |y| tells the gradients apart, relu^2 the Hessians
    assert len(clarke.limiting_gradients(lambda x: relu(x[0]) ** 2 + np.abs(x[1]), onp.zeros(2)).distinct()) == 2
    assert fewer.c11 is found.c11
    assert fewer.operator(1) @ onp.ones(2) == pytest.approx(fewer.matrices[1] @ onp.ones(2))


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_distinct_elements_are_those_of_the_quadratic_search(seed):
    rng = onp.random.default_rng(seed)
    stack = rng.integers(-2, 3, (40, 3)) + 1e-12 * rng.standard_normal((40, 3))
    kept = []
    for i, row in enumerate(stack):
        if not any(onp.abs(stack[j] - row).max() <= 1e-9 * onp.abs(stack).max() for j in kept):
            kept.append(i)
    assert limiting.distinct_elements([stack]) == kept


def test_operators_multiply_as_the_matrices_do():
    found = clarke.limiting_hessians(models.digits().function("x"), onp.zeros(3))
    v = onp.array([1.0, -2.0, 0.5])
    for i in (0, 100, 300):
        assert onp.allclose(found.operator(i) @ v, found.matrices[i] @ v, rtol=1e-10, atol=1e-12)


def test_matrices_beyond_the_limit_are_refused_with_the_routes_that_remain(monkeypatch):
    monkeypatch.setattr(limiting, "LIMIT", 100)
    found = clarke.limiting_hessians(lambda x: np.sum(relu(x) ** 2), onp.zeros(3))
    with pytest.raises(MemoryError, match=r"use .operator\(i\)"):
        found.matrices  # noqa: B018
    assert (found.operator(7) @ onp.ones(3)).tolist() == [2.0, 2.0, 2.0]


def test_results_are_read_only():
    found = clarke.limiting_hessians(lambda x: relu(x[0]) ** 2, onp.zeros(1))
    for array in (found.gradients, found.matrices, found.witnesses):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_graph_that_came_back_from_a_pickle_has_the_same_sets():
    graph = clarke.from_function(lambda x: np.sum(np.sort(np.abs(x)) * onp.arange(3.0)) ** 2, onp.zeros(3))
    again = pickle.loads(pickle.dumps(graph))
    first, second = clarke.limiting_hessians(graph, onp.zeros(3)), clarke.limiting_hessians(again, onp.zeros(3))
    assert first.patterns == second.patterns
    assert (first.matrices == second.matrices).all()


@pytest.mark.parametrize(
    "door",
    [clarke.limiting_gradients, clarke.limiting_hessians, clarke.limiting_gradient, clarke.limiting_hessian],
)
def test_a_vector_function_is_refused_where_a_scalar_is_needed(door):
    with pytest.raises(ValueError, match=rf"{door.__name__} needs a scalar function; it returns shape \(2,\)"):
        door(lambda x: np.abs(x), onp.zeros(2))


def test_a_function_of_shape_1_counts_as_scalar():
    assert clarke.limiting_hessians(lambda x: np.abs(x) ** 2, onp.zeros(1)).matrices.tolist() == [[[2.0]], [[2.0]]]
    assert clarke.limiting_hessian(lambda x: np.abs(x) ** 2, onp.zeros(1)).tolist() == [[2.0]]


@pytest.mark.parametrize("bad", [[onp.nan, 0.0], [[0.0, 1.0]], [], [1j, 0.0], "ab", [onp.inf, 1.0]])
def test_a_bad_point_is_named(bad):
    with pytest.raises(ValueError, match=r"x (must be|has)"):
        clarke.limiting_hessians(lambda x: np.sum(np.abs(x)), bad)


def test_a_bad_direction_is_named():
    f = lambda x: np.sum(np.abs(x))  # noqa: E731
    with pytest.raises(ValueError, match="direction has 3 entries"):
        clarke.limiting_gradient(f, onp.zeros(2), onp.ones(3))
    with pytest.raises(ValueError, match="direction must not be zero"):
        clarke.limiting_gradient(f, onp.zeros(2), onp.zeros(2))


def test_integer_and_read_only_points_are_taken_and_left_alone():
    x = onp.zeros(2, dtype=int)
    x.flags.writeable = False
    assert len(clarke.limiting_gradients(lambda y: np.sum(np.abs(y)), x)) == 4
    assert x.tolist() == [0, 0]


def test_the_tolerance_of_a_kink_does_not_leak_into_the_gradients():
    f = lambda x: np.abs(0.995 * x[0] - relu(x[0]))  # noqa: E731
    for tol in (1e-9, 1e-2):
        assert same_set(clarke.limiting_gradients(f, [0.0], tol=tol).vectors, [[-0.995], [0.005]])


def test_slopes_of_any_size_are_told_apart():
    for scale in (1e-200, 1e-100, 1.0, 1e100, 1e200):
        found = clarke.limiting_gradients(lambda x, s=scale: np.abs(s * x[0]), [0.0])
        assert found.vectors.tolist() == [[-scale], [scale]]


def test_an_empty_output_has_jacobians_without_rows():
    assert clarke.limiting_jacobians(lambda x: np.abs(x[:0]), [0.0, 0.0]).matrices.shape == (1, 0, 2)


def test_one_pattern_may_be_all_that_is_allowed():
    assert len(clarke.limiting_gradients(lambda x: np.sum(x), [0.0], max_chambers=1)) == 1
    with pytest.raises(clarke.TooManyChambers):
        clarke.limiting_gradients(lambda x: np.abs(x[0]), [0.0], max_chambers=1)


def test_sets_are_sequences_of_their_elements_and_print_in_a_line():
    found = clarke.limiting_hessians(lambda x: relu(x[0]) ** 2 / 2, [0.0])
    assert [h.tolist() for h in found] == [[[0.0]], [[1.0]]]
    assert onp.asarray(found).tolist() == found.matrices.tolist()
    assert repr(found) == "LimitingHessians(2 patterns, n=1, complete)"
    gradients = clarke.limiting_gradients(lambda x: np.abs(x[0]), [0.0])
    assert onp.asarray(gradients).tolist() == [g.tolist() for g in gradients] == [[-1.0], [1.0]]
    jacobians = clarke.limiting_jacobians(np.abs, [0.0])
    assert onp.asarray(jacobians).tolist() == [j.tolist() for j in jacobians]
    assert len(jacobians) == 2
    assert repr(jacobians) == "LimitingJacobians(2 patterns, p=1, n=1, complete)"
    fan = clarke.local_fan(lambda x: relu(x[0]) + relu(x[0] - x[1] ** 4), [0.0, 0.0])
    assert repr(fan) == "Fan(2 patterns of 2 kinks, incomplete, 2 undecided)"
    assert len(fan) == 2
    assert repr(clarke.from_function(np.abs, [0.0])) == "Graph(R^1 -> shape (1,), 1 operations)"
    assert repr(clarke.min_norm_element(found)).startswith("MinNormElement(distance=0, gap=0.0e+00, 1 of 2 weights")
    assert repr(clarke.chambers(onp.eye(2))) == "Chambers(4 of 2 hyperplanes, complete)"


def test_derivatives_that_are_not_finite_are_refused():
    with pytest.raises(clarke.NotPiecewiseSmooth):
        clarke.limiting_hessians(lambda x: np.sqrt(relu(x[0])), onp.zeros(1))
    with pytest.raises(clarke.NotPiecewiseSmooth):
        clarke.limiting_hessian(lambda x: np.abs(x[0]) ** 1.5, onp.zeros(1))
