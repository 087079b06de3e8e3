"""The exact minimum of f along a ray, where f is piecewise quadratic along it.

If every value of the recording is a polynomial of degree at most 2 in x on each piece, then t -> f(x + t d) is made of
finitely many quadratics, and its slope of finitely many lines: the zero of the line through two slopes is exact as soon
as both lie on one piece, and halving the bracket brings them there.
"""

from typing import Any

import numpy as np

from . import selections
from .graph import Graph, pullback, run

EXACT = 1e-14  # slope at the minimum, relative to the slope at the start
FURTHEST, NEAREST = 2.0**20, 2.0**-40  # in units of the step


def piecewise_quadratic(graph: Any) -> bool:
    """Is every piece of a scalar Graph a polynomial of degree at most 2? False where no degree is known.

    Guards may be anything polynomial: along a ray they vanish finitely often.
    """
    return graph.output is None or graph.degrees[graph.program.output] <= 2


def slope_along(graph: Graph, x: np.ndarray, d: np.ndarray) -> float:
    """The slope along d at x of the piece of f in force there."""
    with np.errstate(all="ignore"):
        tape = run(graph, x, lambda i, op, args, sizes: selections.natural_branch(op.name, args, op.kwargs))
        return float(pullback(graph, tape, {graph.program.output: np.ones(graph.shape)})[0] @ d)


def exact_step(graph: Graph, x: np.ndarray, d: np.ndarray, start: float) -> tuple[float, int] | None:
    """(t, slopes taken): t > 0 where the slope of f along x + t d, negative at the start, stops being so.

    A local minimum along the ray; a kink, where the slope jumps. start: the slope at t = 0. None where the slope is
    negative as far as 2^20 d, not negative from 2^-40 d on, or not finite.
    """
    low, below, high, taken = 0.0, start, 1.0, 1
    above = slope_along(graph, x + d, d)
    while above < 0 and high < FURTHEST:
        low, below, high = high, above, 2 * high
        above, taken = slope_along(graph, x + high * d, d), taken + 1
    if not (np.isfinite(above) and above >= 0):
        return None
    halve = False
    while above > -EXACT * start and high - low > 4 * np.finfo(float).eps * high:
        t = (low + high) / 2 if halve else low + (high - low) * (below / (below - above))
        if not low < t < high:
            t = (low + high) / 2
        slope, taken, width = slope_along(graph, x + t * d, d), taken + 1, high - low
        if not np.isfinite(slope):
            return None
        if abs(slope) <= -EXACT * start:
            return t, taken
        if slope < 0:
            low, below = t, slope
        else:
            high, above = t, slope
        if high < NEAREST:
            return None
        halve = not halve and high - low > width / 2
    return high, taken
