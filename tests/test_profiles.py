"""Bands, profiles and counts: the numbers, and that what is drawn are these numbers."""

import autograd.numpy as anp
import numpy as np
import pytest
from matplotlib.figure import Figure

import clarke
from clarke.profiles import (
    band,
    counts,
    eigenvalue_band,
    general_position,
    pattern_counts,
    performance_profile,
    profile,
)


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def half_squares(x):
    """Hessian diag(1 or 3, 2): the first entry jumps at x_0 = 1/3, where the gradient is continuous."""
    return x[0] ** 2 / 2 + anp.maximum(x[0] - 1 / 3, 0) ** 2 + x[1] ** 2


def test_the_band_of_a_piecewise_quadratic_is_known_everywhere():
    found = eigenvalue_band(half_squares, np.linspace([0.0, 0.0], [1.0, 0.0], 6))
    assert found.at.shape == (7,)  # six samples and the kink between two of them
    (kink,) = np.flatnonzero(found.kinked)
    assert abs(found.at[kink] - 1 / 3) < 1e-15
    assert found.complete.all()
    np.testing.assert_allclose(found.low, np.where(found.at < found.at[kink] + 1e-12, 1.0, 2.0), atol=1e-12)
    np.testing.assert_allclose(found.high, np.where(found.at < found.at[kink] - 1e-12, 2.0, 3.0), atol=1e-12)
    np.testing.assert_allclose([found.before[kink], found.after[kink]], [[1, 2], [2, 3]], atol=1e-12)


def test_without_kinks_only_the_given_points_are_asked():
    points = np.array([[0.0, 0.0], [1 / 3, 1.0], [1.0, 0.0]])
    found = eigenvalue_band(half_squares, points, kinks=False)
    np.testing.assert_array_equal(found.points, points)
    assert found.kinked.tolist() == [False, True, False]  # the second lies on the kink itself
    np.testing.assert_allclose(found.at, np.cumsum([0, *np.linalg.norm(np.diff(points, axis=0), axis=1)]))
    finer = eigenvalue_band(half_squares, points)
    assert len(finer.points) == 3, "the kink is an end of both segments and is not added again"


def test_the_band_drawn_is_the_band(ax):
    found = eigenvalue_band(half_squares, np.linspace([0.0, 0.0], [1.0, 0.0], 6))
    assert band(found, ax) is ax
    lines = {line.get_label(): line for line in ax.get_lines()}
    at = np.repeat(found.at, 2)
    for name, k in (("least", 0), ("largest", 1)):
        met = np.stack([found.before[:, k], found.after[:, k]], axis=1).ravel()
        np.testing.assert_array_equal(lines[name].get_xydata(), np.column_stack([at, met]))
    bars = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert [line.get_ydata().tolist() for line in bars] == [[found.low[found.kinked][0], found.high[found.kinked][0]]]


@pytest.mark.parametrize("points", [[[0.0, 0.0]], [0.0, 1.0], [[0.0, np.nan], [1.0, 1.0]]])
def test_a_path_is_at_least_two_finite_points(points):
    with pytest.raises(ValueError, match=r"points must be finite, of shape \(T, n\) with T >= 2"):
        eigenvalue_band(half_squares, points)


def test_a_path_does_not_rest():
    with pytest.raises(ValueError, match="points must differ from one to the next"):
        eigenvalue_band(half_squares, [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])


def test_a_band_is_of_a_scalar_function():
    with pytest.raises(ValueError, match=r"f must return a scalar; it returned shape \(2,\)"):
        eigenvalue_band(lambda x: 2 * x, [[0.0, 1.0], [1.0, 1.0]])


def test_a_profile_counts_the_problems_within_a_factor(ax):
    costs = [[1.0, 2.0], [4.0, 1.0], [np.inf, 3.0], [np.nan, np.inf]]
    found = performance_profile(costs, ("a", "b"))
    assert [found.share("a", tau) for tau in (1, 3.9, 4)] == [0.25, 0.25, 0.5]
    assert [found.share("b", tau) for tau in (1, 2, 100)] == [0.5, 0.75, 0.75]
    profile(found, ax)
    for name, line in zip(found.names, ax.get_lines(), strict=True):
        x, y = line.get_data()
        assert line.get_label() == name
        for tau in (1.5, 2.5, 4.2):
            assert y[np.flatnonzero(np.asarray(x) <= tau)[-1]] == found.share(name, tau)


def test_the_best_solver_of_a_problem_is_at_ratio_one(rng):
    found = performance_profile(rng.uniform(1, 9, size=(20, 3)), "abc")
    np.testing.assert_array_equal(found.ratios.min(axis=1), 1.0)
    scaled = performance_profile(found.ratios * rng.uniform(1, 9, size=(20, 1)), "abc")
    np.testing.assert_allclose(scaled.ratios, found.ratios)  # a problem's unit does not matter


@pytest.mark.parametrize(
    ("costs", "names", "message"),
    [
        ([[1.0, 2.0]], ("a",), r"costs must be \(problems, 1\), one column a name; got \(1, 2\)"),
        ([1.0], ("a",), r"got \(1,\)"),
        ([[0.0]], ("a",), "costs must be positive; give nan or inf where a solver failed"),
    ],
)
def test_costs_that_are_none_are_refused(costs, names, message):
    with pytest.raises(ValueError, match=message):
        performance_profile(costs, names)


def test_a_solver_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no solver 'c'; there are a, b"):
        performance_profile([[1.0, 2.0]], "ab").share("c", 1)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (3, 2), (5, 3), (6, 4), (4, 9)])
def test_generic_hyperplanes_attain_the_bound(k, n, rng):
    normals = rng.normal(size=(k, n))
    assert general_position(k, n) == len(clarke.chambers(normals)) == clarke.count_chambers(normals)


def test_first_layer_kinks_stay_below_the_bound_and_are_drawn_there(ax, rng):
    fans = []
    for k in (0, 1, 2, 4, 6):
        W = rng.integers(-2, 3, size=(k, 3)) / 2

        def f(x, W=W):
            return anp.sum(anp.maximum(anp.dot(W, x), 0)) if len(W) else anp.sum(x)

        fans.append(clarke.local_fan(f, np.zeros(3)))
    found = pattern_counts(fans)
    assert found.patterns.tolist() == [len(fan.patterns) for fan in fans]
    assert all(p <= b for p, b in zip(found.patterns, found.bound, strict=True))
    assert found.bound[0] == found.patterns[0] == 1
    counts(found, ax)
    bound, dots = ax.get_lines()
    np.testing.assert_array_equal(dots.get_xydata(), np.column_stack([found.kinks, found.patterns]))
    assert bound.get_ydata().tolist() == [general_position(int(k), 3) for k in bound.get_xdata()]


def test_counts_need_a_fan():
    with pytest.raises(ValueError, match="fans is empty"):
        pattern_counts([])


def test_what_is_returned_is_frozen():
    found = performance_profile([[1.0]], "a")
    with pytest.raises(ValueError, match="read-only"):
        found.ratios[0] = 2
