"""Pieces: the guards that hold a choice in force, and their gradients by either sweep."""

import autograd.numpy as np
import numpy as onp
import pytest
from autograd.scipy.special import expit
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import nets

from clarke.graph import from_function
from clarke.kinks import active_kinks
from clarke.pieces import (
    SOLVED,
    by_distance,
    choice_at,
    common_zero,
    guard_degree,
    listed,
    open_piece,
    wall_gradients,
    wall_values,
)


def opened(f, x):
    """(piece around x, its guards there)."""
    graph, x = from_function(f, x), onp.array(x, dtype=float)
    piece = open_piece(graph, x, choice_at(graph, x)[0])
    return piece, wall_values(piece, x)


def many_kinks(x):
    ranked = np.sort(np.sin(x) * np.array([1.0, 2.0, 3.0]))
    largest = np.max(np.array([x[0] * x[1], x[1], 2.0 * x[2], -x[0]]))
    return np.sum(np.abs(ranked - 0.3)) + np.maximum(largest, np.exp(x[2])) + np.sum(np.clip(x, -1.0, 1.0))


def one_at_a_time(piece, walls):
    return onp.concatenate([wall_gradients(piece, walls, [j]) for j in range(len(walls.values))])


def test_gradients_of_all_guards_at_once_are_those_of_each_and_of_differences():
    x = onp.array([0.3, -0.7, 1.2])
    piece, walls = opened(many_kinks, x)
    assert len(walls.values) > len(x)  # so they come from one forward pass
    gradients = wall_gradients(piece, walls)
    assert onp.allclose(gradients, one_at_a_time(piece, walls), rtol=1e-14, atol=0)
    for e in onp.eye(3):
        slope = (wall_values(piece, x + 1e-5 * e).values - wall_values(piece, x - 1e-5 * e).values) / 2e-5
        assert onp.allclose(gradients @ e, slope, atol=1e-9)
    which = [1, 4, len(walls.values) - 1]
    assert onp.allclose(wall_gradients(piece, walls, which), gradients[which], rtol=1e-14, atol=0)
    assert wall_gradients(piece, walls, []).shape == (0, 3)


@given(nets(max_inputs=3, max_width=4, max_depth=3))
@settings(max_examples=40, deadline=None)
def test_both_sweeps_agree_where_everything_is_dyadic(net):
    piece, walls = opened(net, net.x)
    assert onp.array_equal(wall_gradients(piece, walls), one_at_a_time(piece, walls))


def test_an_operation_without_a_forward_derivative_is_swept_backward():
    def f(x):
        return np.sum(np.abs(expit(x[0]) - np.array([0.1, 0.2, 0.3])))

    piece, walls = opened(f, [0.5])
    s = 1 / (1 + onp.exp(-0.5))
    assert onp.allclose(wall_gradients(piece, walls), onp.full((3, 1), s * (1 - s)), rtol=1e-14)


def test_a_guard_that_cancels_has_gradient_zero():
    def f(x):
        return np.maximum(0.1 * x[0] + 0.2 * x[0], 0.3 * x[0]) + np.abs(x[0]) + np.maximum(1.0, 0.0 * x[0])

    piece, walls = opened(f, [0.7])
    assert wall_gradients(piece, walls).tolist() == [[0.0], [1.0], [0.0]]
    assert piece.names == ["maximum1", "abs1", "maximum2"]
    assert piece.pattern == "0++"


def test_a_function_without_kinks_has_a_piece_without_walls():
    piece, walls = opened(lambda x: x[0] ** 2, [1.0])
    assert (piece.names, piece.pattern, guard_degree(piece.graph)) == ([], "", 0)
    assert wall_gradients(piece, walls).shape == (0, 1)
    assert by_distance(walls, wall_gradients(piece, walls)).tolist() == []


def test_walls_are_ordered_by_distance_within_those_already_met():
    def f(x):
        return np.sum(np.abs(np.array([x[0], x[0] - 5.0, x[0] + 2.0 * x[1] - 8.0, 3.0 * x[1]])))

    piece, walls = opened(f, [1.0, 2.0])
    gradients = wall_gradients(piece, walls)
    assert by_distance(walls, gradients).tolist() == [0, 2, 3, 1]  # at 1, 3 / sqrt 5, 2, 4
    assert by_distance(walls, gradients, [0]).tolist() == [2, 3]  # at 3/2 and 2 along x0 = 0; the second is parallel


@pytest.mark.parametrize("foot", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_common_zero_is_one_and_its_foot_is_perpendicular(foot, seed):
    def f(x):
        return np.abs(np.sum(x**2) - 4.0) + np.abs(x[0] - 0.5 * x[1])

    start = onp.random.default_rng(seed).standard_normal(3) + 1.0
    piece, _ = opened(f, start)
    for which in ([0], [1], [1, 0]):
        z = common_zero(piece, which, start, foot=foot)
        if z is None:  # Newton may be lost far from a curved wall, never from a flat one
            assert which != [1]
            continue
        walls = wall_values(piece, z)
        assert walls.miss(which) <= SOLVED
        assert {"abs1", "abs2"} >= {kink.name for kink in active_kinks(f, z)} >= {f"abs{j + 1}" for j in which}
        if foot:
            slopes = wall_gradients(piece, walls, sorted(which))
            away = z - start
            assert onp.allclose(slopes.T @ onp.linalg.lstsq(slopes.T, away, rcond=None)[0], away, atol=1e-5)


def test_a_walk_out_of_the_domain_is_lost():
    piece, _ = opened(lambda x: np.abs(np.log(x[0]) + 5.0), [3.0])
    assert common_zero(piece, [0], onp.array([3.0])) is None


def test_names_are_listed_five_at_a_time():
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more kinks"
