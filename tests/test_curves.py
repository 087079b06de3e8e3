"""What the pictures of runs draw is what the runs did."""

import autograd.numpy as np
import numpy as onp
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from clarke import curves
from clarke.curves import OUTCOMES, Progress, convergence, cycle_figure, cycle_map, progress
from clarke.semismooth import minimize


def hyperbola(x):
    return np.sqrt(1 + x[0] ** 2)


def cb2(x):
    return np.max(np.array([x[0] ** 2 + x[1] ** 4, np.sum((2 - x) ** 2), 2 * np.exp(x[1] - x[0])]))


@pytest.fixture
def ax():
    return Figure().subplots()


def drawn(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return onp.array(line.get_xdata()), onp.array(line.get_ydata())


def test_the_curves_are_the_history_of_the_run(ax):
    result = minimize(cb2, [1.0, -0.1])
    assert convergence(result, ax, optimum=1.95) is ax
    steps, gaps = drawn(ax, "$f - f^*$")
    assert steps.tolist() == list(range(len(result.history)))
    assert onp.array_equal(gaps, [h["fun"] - 1.95 for h in result.history])
    steps, sizes = drawn(ax, "stationarity")
    known = [(k, h["stationarity"]) for k, h in enumerate(result.history) if onp.isfinite(h["stationarity"])]
    assert onp.array_equal(steps, [k for k, _ in known])
    assert onp.array_equal(sizes[sizes > ax.get_ylim()[0] * 3], [s for _, s in known if s > 0])
    assert ax.get_yscale() == "log"


def test_a_line_stands_at_every_change_of_the_pieces(ax):
    result = minimize(cb2, [1.0, -0.1])
    patterns = [h["active"] for h in result.history]
    changes = [k for k in range(1, len(patterns)) if patterns[k] and patterns[k] != patterns[k - 1]]
    assert changes
    convergence(result, ax)
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert marks == changes
    assert [line.get_label() for line in ax.lines].count("pieces change") == 1


def test_a_gap_of_zero_is_a_hollow_marker_on_the_lower_edge(ax):
    run = Progress(onp.array([1.0, 1e-4, 0.0]), onp.array([2.0, onp.nan, 0.0]), onp.zeros(3, bool), 0.0)
    convergence(run, ax)
    floor = 1e-5
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata().tolist() for line in hollow] == [[2], [2]]
    assert all(line.get_ydata().tolist() == [floor] for line in hollow)
    assert ax.get_ylim()[0] < floor
    assert drawn(ax, "stationarity")[0].tolist() == [0, 2]  # nan is not drawn


def test_a_point_without_a_pattern_changes_nothing():
    def entry(active):
        return {"fun": 1.0, "stationarity": 1.0, "active": active}

    history = [entry(a) for a in ("+", "", "+", "-", "")]
    assert progress({"history": history}).changed.tolist() == [False, False, False, True, False]
    with pytest.raises(ValueError, match="no history of points"):
        progress({"history": []})


def test_the_map_says_of_every_start_what_minimize_says():
    """x -> -x^3 for the hyperbola: |x| < 1 converges, 1 cycles, beyond it runs away or the slope is flat."""
    starts = onp.array([-3.0, -1.0, -0.5, 0.25, 1.0, 2.0])
    found = cycle_map(hyperbola, starts)
    assert [OUTCOMES[k] for k in found.pure[1:5]] == ["cycle", "converged", "converged", "cycle"]
    assert {OUTCOMES[found.pure[0]], OUTCOMES[found.pure[-1]]} <= {"singular", "runs away"}
    assert (found.regularized == 0).all()
    assert found.regularized_steps.max() <= 15
    for start, steps in zip(starts, found.regularized_steps, strict=True):
        assert minimize(hyperbola, [start]).nit == steps


def test_the_colors_drawn_are_those_of_the_outcomes():
    first, second = onp.array([-2.0, 0.5, 1.0]), onp.array([-1.0, 0.3])
    found = cycle_map(lambda x: hyperbola(x[:1]) + x[1] ** 2, first, second)
    assert found.pure.shape == (2, 3)
    assert (found.pure[:, 2] == 1).all()
    figure = cycle_figure(found)
    meshes = [c for ax in figure.axes for c in ax.collections if isinstance(c, QuadMesh)]
    for mesh, ends in zip(meshes, (found.pure, found.regularized), strict=True):
        figure.canvas.draw()
        shown = mesh.get_facecolors()[:, :3]
        assert onp.allclose(shown, [to_rgb(curves.INKS[k]) for k in ends.ravel()], atol=1e-2)
    assert "regularized: 100 % converge" in [ax.get_title() for ax in figure.axes]
    (legend,) = figure.legends
    shown = {text.get_text() for text in legend.get_texts()}
    assert shown == {OUTCOMES[k] for k in {*found.pure.ravel().tolist(), *found.regularized.ravel().tolist()}}


def test_strips_stand_over_the_starts_of_one_variable():
    figure = cycle_figure(cycle_map(hyperbola, [-1.0, 0.0, 1.0]))
    assert figure.get_figwidth() == curves.WIDTH
    mesh = figure.axes[0].collections[0]
    assert onp.allclose(mesh.get_coordinates()[0, :, 0], [-1.5, -0.5, 0.5, 1.5])
    assert cycle_figure(cycle_map(hyperbola, [0.3])).axes[0].get_title() == "pure step: 100 % converge"


def test_the_inks_differ_in_lightness():
    lightness = sorted(onp.dot([0.2126, 0.7152, 0.0722], onp.array(to_rgb(ink)) ** 2.2) for ink in curves.INKS)
    assert onp.diff(lightness).min() >= 0.05


@pytest.mark.parametrize("axes", [([1.0, 0.0],), ([[1.0]],), ([],), ([0.0, 1.0], [onp.nan])])
def test_axes_that_are_no_grid_are_refused(axes):
    with pytest.raises(ValueError, match="must be a flat, increasing array of starts"):
        cycle_map(hyperbola, *axes)
