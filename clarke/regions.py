"""The linear region around a point of a piecewise-linear function, its walls, and the kinks nearest to a point.

On one piece of a piecewise-linear f every guard is affine, so the piece is in force on a polyhedron {z : A z <= b}, and
f(z) = J z + c there. A row is redundant iff no point lies beyond it and within the others, which Gordan's alternative
decides (`min_norm_direction`); the points it finds for the other rows lead through the facets. Guards that are zero at
a point inside a facet are zero on all of it, since they keep their sign on the region and are affine: so one region
lies across each facet. The nearest kink is the foot of the perpendicular on the nearest facet, which is on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from .graph import Graph, Tape, point, pullback, require_same_value, unit_of
from .halfspaces import min_norm_direction
from .kinks import TOL
from .pieces import (
    CANDIDATES,
    SOLVED,
    by_distance,
    choice_at,
    common_zero,
    guard_degree,
    listed,
    open_piece,
    recorded,
    settled,
    wall_gradients,
    wall_values,
)
from .primitives import NotPiecewiseSmooth

_MARGIN = 1e-9  # how far, relative to the region, a point must be beyond one wall and within the others to count
_RAY = np.geomspace(1e-4, 1e6, 400)  # where nonlinear guards are looked at along a ray, in units of max(1, |x|)


@dataclass(frozen=True, eq=False, repr=False)
class Region:
    """{z : A z <= b} with F(z) = jacobian z + offset on it, F flattened in C order.

    A (k, n) rows of unit norm, b (k,): irredundant, in order of execution; k = 0 for the whole space. pattern: a letter
    for every guard of F, in order of execution, then C order (see `active_kinks`); `0` is mute: zero on the whole
    region. jacobian (p, n), offset (p,). names (k,): the kink of each facet, as `active_kinks` names it inside that
    facet (the first, where several coincide). interior (n,): a point strictly inside, the x of `region`. distance: from
    interior to the nearest kink, min_k b_k - A_k interior; infinity without facets.
    """

    A: np.ndarray
    b: np.ndarray
    pattern: str
    jacobian: np.ndarray
    offset: np.ndarray
    names: tuple[str, ...]
    interior: np.ndarray
    _graph: Graph = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("A", "b", "jacobian", "offset", "interior"):
            array = np.array(getattr(self, name), dtype=float)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def distance(self) -> float:
        """The radius of the largest ball around `interior` without a kink; |boundary_point(f, interior) - interior|."""
        return float(np.min(self.b - self.A @ self.interior, initial=np.inf))

    def __repr__(self) -> str:
        return f"Region({len(self.A)} facets in R^{self.interior.size}, {len(self.pattern)} guards)"


def region(f: Callable[..., Any] | Graph, x: ArrayLike, *, tol: float = TOL) -> Region:
    """The linear region of a piecewise-linear f around x.

    f: autograd.numpy function of one flat array (n,), or a Graph; x (n,). A facet narrower than about 1e-9 of the
    region counts as none, so its row is left out. Raises ValueError if f or one of its guards is not known to be affine
    on every piece, if x lies on a kink (naming it), and what `from_function` raises.
    """
    graph, x = recorded(f, x)
    _require_piecewise_linear(graph)
    branches, met = choice_at(graph, x, None, tol)
    if met:
        raise ValueError(
            f"x lies on {listed(met)}, so it is inside no linear region: step off, for instance along a witness of "
            "local_fan(f, x), which lists the regions that meet at x"
        )
    return _region(graph, x, branches, tol)


def neighbors(region: Region) -> tuple[Region, ...]:
    """The regions across the facets of `region`, in the order of its rows.

    All guards that vanish on a facet are decided anew beyond it. Raises ValueError for a facet too thin to be crossed.
    """
    graph, x = region._graph, region.interior
    piece = open_piece(graph, x, choice_at(graph, x, None, SOLVED)[0], SOLVED)
    rows = _rows(piece, x, SOLVED)
    units = _lifted(region.A, region.b - region.A @ x)[0]
    return tuple(_across(region, piece, rows, units, k) for k in range(len(region.b)))


def boundary_point(
    f: Callable[..., Any] | Graph, x: ArrayLike, direction: ArrayLike | None = None, *, tol: float = TOL
) -> np.ndarray:
    """The first kink x + t direction, t > 0, or without a direction the point of a kink nearest to x; (n,).

    f: autograd.numpy function of one flat array (n,), piecewise smooth, or a Graph; x (n,). Solved to rounding, so that
    `active_kinks` lists the kink there.

    Along a direction, kinks that x lies on do not count, unless a curved guard returns to zero. Affine guards are
    solved for. Other guards are followed on the piece that begins at x and refined by Brent's method where one changes
    sign between samples (400, at distances in geometric progression up to 1e6 max(1, |x|)): a guard that changes sign
    twice between two samples, or touches zero, is missed.

    Without a direction: x itself if it lies on a kink; else the Euclidean projection on the nearest wall. For guards
    that are not affine the feet on the 16 walls nearest to first order are found by iteration, and the result is the
    first kink towards the nearest foot: it lies on a kink, but a nearer one may exist.

    Raises ValueError where there is no kink to be found, or for a direction that is zero or of a wrong shape.
    """
    graph, x = recorded(f, x)
    if direction is None:
        found = _nearest(graph, x, tol)
    else:
        d = point(direction, graph.size, "direction")
        if not np.any(d):
            raise ValueError("direction is zero; leave it out to ask for the nearest boundary point")
        found = _along(graph, x, d / np.linalg.norm(d), tol)
    require_same_value(graph, graph.source, found)
    return np.array(found)


# ---------------------------------------------------------------- regions


def _require_piecewise_linear(graph):
    if guard_degree(graph) > 1:
        raise ValueError(
            "region needs guards that are affine on every piece, and one of f is not (or not known to be); "
            "boundary_point finds kinks of such functions, limiting_gradients and limiting_hessians their derivatives"
        )
    if graph.output is not None and graph.degrees[graph.program.output] > 1:
        raise ValueError(
            "region needs f itself affine on every piece, and it is not (or not known to be): take the output before "
            "the loss, network.function(output=...); limiting_gradients and boundary_point take f as it is"
        )


@dataclass(frozen=True, eq=False)
class _Rows:
    """A z <= b for every guard of a piece that is not constant on it: rows of unit norm, `guards` their numbers."""

    guards: np.ndarray
    A: np.ndarray
    b: np.ndarray
    slack: np.ndarray
    tape: Tape  # at 0


def _rows(piece, x, tol):
    """The rows of a piece with affine guards around x, a point strictly inside."""
    walls, origin = wall_values(piece, x), wall_values(piece, np.zeros(x.size))  # constant terms are the values at 0
    gradients = wall_gradients(piece, walls)
    length = np.linalg.norm(gradients, axis=1)
    live = np.flatnonzero((length > 0) & ~walls.zero(tol))
    toward, length = -np.sign(walls.values[live]), length[live]
    A, b = (toward / length)[:, None] * gradients[live] + 0.0, -toward * origin.values[live] / length + 0.0
    return _Rows(live, A, b, np.abs(walls.values[live]) / length, origin.tape)


def _region(graph, x, branches, tol) -> Region:
    """The region of these branches around x, a point strictly inside."""
    piece = open_piece(graph, x, branches, tol)
    rows = _rows(piece, x, tol)
    facets, names = _irredundant(rows.A, rows.slack), piece.names
    require_same_value(graph, graph.source, x)
    return Region(
        rows.A[facets],
        rows.b[facets],
        piece.pattern,
        *_affine_map(graph, rows.tape),
        tuple(names[k] for k in rows.guards[facets]),
        x,
        graph,
    )


def _affine_map(graph, tape):
    """(J (p, n), F (p,)) at the point of the tape, under its branches."""
    if graph.output is None:
        return np.zeros((np.size(graph.constant), graph.size)), np.ravel(graph.constant)
    value = np.asarray(tape.values[graph.program.output])
    units = np.eye(value.size).reshape(value.size, *value.shape)
    rows = [pullback(graph, tape, {graph.program.output: unit})[0] for unit in units]
    return np.array(rows).reshape(value.size, graph.size), value.ravel()


def _irredundant(A, slack):
    """Indices, in order, of the rows of A y <= slack that bound it; slack > 0, unit rows; the first of equal rows.

    First the facets that a few rays find. Then, as in Clarkson (FOCS 1994), a row is tested against the facets known so
    far, and a point beyond it and within those leads from the interior through a new one.
    """
    if not len(A):
        return []
    units, slack = _lifted(A, slack)
    certain = _first_met(A, slack, units)
    facets = certain.tolist()
    for k in range(len(A)):
        while k not in facets and (way := _beyond(units, k, facets)) is not None:
            times = _times(A @ way, slack)
            times[facets] = np.inf  # met after row k, if at all
            facets.append(int(np.argmax(times <= times.min() * (1 + TOL))))
    for k in sorted(set(facets).difference(certain), reverse=True):  # of rows met together one may be no facet
        others = [i for i in facets if i != k]
        if _beyond(units, k, others) is None:
            facets = others
    return sorted(facets)


def _first_met(A, slack, units):
    """Indices of rows that one of k rays from 0 meets first, and alone: facets, as a point beyond that row only shows.

    With B = A / slack and P = B B^+, ray k is B^+ e_k and meets row i at time 1 / P_ik. As P^2 = P, row k comes first
    if its leverage P_kk exceeds 1/2, and the leverages sum to the rank: in many dimensions nearly all facets are found.
    """
    U, scales, V = np.linalg.svd(A / slack[:, None], full_matrices=False)
    rank = np.count_nonzero(scales > SOLVED * scales[0])
    rays = (U[:, :rank] / scales[:rank]) @ V[:rank]
    times = _times(rays @ A.T, slack)
    met = np.isfinite(times).any(axis=1)
    rays, times, each = rays[met], times[met], np.arange(np.count_nonzero(met))
    first, soonest = times.argmin(axis=1), times.min(axis=1)
    times[each, first] = np.inf
    points = np.column_stack([np.minimum(2 * soonest, (soonest + times.min(axis=1)) / 2)[:, None] * rays, each >= 0])
    inside = points @ units.T / np.linalg.norm(points, axis=1, keepdims=True)
    inside[each, first] *= -1
    return np.unique(first[inside.min(axis=1) > _MARGIN])


def _times(speeds, slack):
    """When rays from 0 meet the walls; infinity for those they do not approach."""
    with np.errstate(all="ignore"):
        return np.where(speeds > 0, slack / speeds, np.inf)


def _lifted(A, slack):
    """(units (k, n + 1), slack): y is within row i iff units_i . (y, 1) > 0, rows of norm 1.

    Lengths, the slack returned too, are in units of the polyhedron: the median distance at which its normals leave it.
    """
    if len(A):
        slack = slack / np.median(_times(A @ A.T, slack).min(axis=1))
    rows = np.column_stack([-A, slack])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), slack


def _beyond(units, k, others):
    """A direction from 0 that leaves through row k before it meets the others, or None where none does so clearly."""
    top = np.eye(1, units.shape[1], units.shape[1] - 1)
    found, _, _ = min_norm_direction(np.vstack([-units[k], units[others], top]), _MARGIN)
    return None if found is None else found[:-1]


def _across(region, piece, rows, units, k) -> Region:
    graph, normal, level = region._graph, region.A[k], region.b[k]
    too_thin = f"row {k} of A ({region.names[k]}) has no facet, or one too thin for floating point to cross"
    way = _beyond(units, k, [i for i in range(len(region.b)) if i != k])
    here = np.abs(rows.A - normal).max(axis=1) + np.abs(rows.b - level) / unit_of(region.interior) <= SOLVED
    if way is None or not here.any():
        raise ValueError(too_thin)
    p = region.interior + (level - normal @ region.interior) / (normal @ way) * way  # way leaves through no other facet
    p = settled(piece, p - (normal @ p - level) * normal, rows.guards[here], region.interior)[0]
    branches, _ = choice_at(graph, p, normal, SOLVED)
    onward = _first_zero(open_piece(graph, p, branches, SOLVED), p, normal, SOLVED)[0]
    inside = p + min(onward / 2, unit_of(p)) * normal
    found = _region(graph, inside, branches, SOLVED)
    if found.pattern == region.pattern or choice_at(graph, inside, None, SOLVED)[1]:
        raise ValueError(too_thin)
    return found


def _first_zero(piece, y, d, tol):
    """(t, guard, slope) of the first affine guard, not zero at y, to vanish at y + t d, t > 0; or (inf, None, 0)."""
    here, there = wall_values(piece, y), wall_values(piece, y + unit_of(y) * d)
    rise = there.values - here.values
    parallel = np.abs(rise) <= SOLVED * np.maximum(here.scales, there.scales)
    nearing = ~here.zero(tol) & ~parallel & (here.values * rise < 0)
    if not nearing.any():
        return np.inf, None, 0.0
    slopes = rise / unit_of(y)
    times = np.where(nearing, -here.values / np.where(nearing, slopes, 1.0), np.inf)
    first = int(times.argmin())
    return float(times[first]), first, float(slopes[first])


# ---------------------------------------------------------------- boundary points


def _along(graph, x, d, tol):
    branches, _ = choice_at(graph, x, d, tol)
    piece = open_piece(graph, x, branches, tol)
    t, first = (_affine_ray if guard_degree(graph) <= 1 else _sampled_ray)(piece, x, d, tol)
    if first is None:
        raise ValueError("no kink was met along direction: no guard changes sign on the piece that begins at x")
    return settled(piece, x + t * d, [first], x)[0]


def _affine_ray(piece, x, d, tol):
    t, first, slope = _first_zero(piece, x, d, tol)
    if first is not None:
        for _ in range(3):  # the guard as evaluated at the point has the last word
            t -= wall_values(piece, x + t * d).values[first] / slope
    return t, first


def _sampled_ray(piece, x, d, tol):
    def guards(t):
        walls = wall_values(piece, x + t * d)
        return np.where(walls.zero(SOLVED if t else tol), 0.0, walls.values)

    start, before = 0.0, guards(0.0)
    for end in unit_of(x) * _RAY:
        try:
            after = guards(end)
        except NotPiecewiseSmooth:  # the ray has left the domain of f
            break
        crossing = np.flatnonzero((before != 0) & (before * after <= 0))
        if len(crossing):
            return min((_root(guards, j, start, end) if after[j] else end, j) for j in crossing)
        start, before = end, after
    return np.inf, None


def _root(guards, j, start, end):
    return brentq(lambda t: guards(t)[j], start, end, xtol=1e-300)


def _nearest(graph, x, tol):
    branches, met = choice_at(graph, x, None, tol)
    if met:
        return x
    piece = open_piece(graph, x, branches, tol)
    walls = wall_values(piece, x)
    order = by_distance(walls, wall_gradients(piece, walls), [])
    if not len(order):
        raise ValueError("f has no kink to be found from x: no guard changes on the piece around it")
    affine = guard_degree(graph) <= 1
    feet = [common_zero(piece, [j], x, foot=True) for j in order[: 1 if affine else CANDIDATES]]
    found = [foot for foot in feet if foot is not None]
    if not found:
        raise ValueError("no guard near x could be brought to zero; pass a direction")
    nearest = min(found, key=lambda foot: np.linalg.norm(foot - x))
    if affine:
        return nearest
    return _along(graph, x, (nearest - x) / np.linalg.norm(nearest - x), tol)
