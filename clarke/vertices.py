"""Points where several kinks meet.

A number of kinks: descent through the faces of one piece; the foot of the perpendicular, within a face, on the nearest
of the other walls lies on the face's boundary. Named kinks: Newton's method from piece to piece.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .graph import Graph, require_same_value, unit_of
from .kinks import TOL, germ
from .pieces import (
    CANDIDATES,
    LOST,
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

_RESTARTS = 60  # starting points, at distances growing from 1/16 to 2^11 times max(1, |x|)


def vertex(
    f: Callable[..., Any] | Graph, x: ArrayLike, *, units: int | Iterable[str] | None = None, tol: float = TOL
) -> np.ndarray:
    """A point (n,) near x, not always the nearest, where several guards with independent gradients vanish together.

    f: autograd.numpy function of one flat array (n,), or a Graph; x (n,). units: how many guards, 1 <= units <= n,
    default n; or the names of kinks (see `Kink.name`; "max1[0]" for any two entries of that maximum), which are to
    vanish together. Solved to rounding: every guard found has |guard| <= 1e-12 of its scale.

    A number: from x, step to the nearest wall of the piece, within it to the nearest other wall, and so on; where the
    piece has too few independent walls, the same from points around x, farther and farther (a fixed sequence).
    Names: damped Newton steps, each on the piece at hand, from the same points. Neither proves that nothing exists.

    Raises ValueError if nothing was found (saying how far it came), for units out of range and for unknown names.
    """
    graph, x = recorded(f, x)
    if units is None or isinstance(units, (int, np.integer)):
        count = graph.size if units is None else int(units)
        if not 1 <= count <= graph.size:
            raise ValueError(f"units must be between 1 and {graph.size}, the number of variables; got {units}")
        found = _vertex(graph, x, count, tol)
    else:
        found = _meeting(graph, x, _checked_names(graph, x, units, tol), tol)
    require_same_value(graph, graph.source, found)
    return np.array(found)


def _starts(x):
    yield x
    rng = np.random.default_rng(x.size)
    for radius in np.geomspace(1 / 16, 2.0**11, _RESTARTS):
        way = rng.standard_normal(x.size)
        yield x + unit_of(x) * radius * way / np.linalg.norm(way)


def _vertex(graph, x, units, tol):
    most = 0
    for start in _starts(x):
        try:
            z, reached = _descend(graph, start, units, tol)
            if reached == units and len(germ(graph, z, tol=tol).kinks) >= units:
                return z
        except LOST:
            continue
        most = max(most, reached)
    raise ValueError(
        f"{units} guards were to vanish together, and from {_RESTARTS + 1} points around x at most {most} did; ask for "
        "fewer units or start elsewhere"
    )


@np.errstate(all="ignore")
def _descend(graph, x, units, tol):
    """(z, number of independent guards that are zero there), z on the boundary of the piece at x."""
    branches, _ = choice_at(graph, x, None, tol)
    piece, z, active = open_piece(graph, x, branches, tol), x, []
    walls = wall_values(piece, x)
    gradients = wall_gradients(piece, walls)
    side = np.where(walls.zero(tol), 0.0, np.sign(walls.values))
    affine = guard_degree(graph) <= 1
    while len(active) < units:
        for j in by_distance(walls, gradients, active)[:CANDIDATES]:
            ahead = common_zero(piece, [*active, j], z)
            if ahead is not None:
                there = wall_values(piece, ahead)
                if np.all((there.values * side >= 0) | there.zero(tol)):  # still on the piece, as feet are
                    break
        else:
            break
        z, walls, active = ahead, there, [*active, j]
        gradients = gradients if affine else wall_gradients(piece, walls)
    return z, len(active)


def _checked_names(graph, x, units, tol):
    if not np.iterable(units):
        raise ValueError(f"units is a number of guards or the names of kinks; got {units!r}")
    names = [units] if isinstance(units, str) else list(units)
    known = open_piece(graph, x, choice_at(graph, x, None, tol)[0], tol).names
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"units names {unknown[0]!r}, no kink of f; it has {listed(known) or 'none'}")
    if not 1 <= len(set(names)) == len(names) <= graph.size:
        raise ValueError(f"units must name between 1 and {graph.size} kinks (one a variable), none twice; got {names}")
    return names


def _meeting(graph, x, names, tol):
    least = np.inf
    for start in _starts(x):
        try:
            z, miss = _approach(graph, start, names, tol)
        except LOST:
            continue
        if z is not None:
            return z
        least = min(least, miss)
    raise ValueError(
        f"{listed(names)} were not found to vanish together from {_RESTARTS + 1} points around x: the nearest miss is "
        f"|guard| = {least:.2g} of its scale; they may never do so"
    )


@np.errstate(all="ignore")
def _approach(graph, start, names, tol):
    """(a common zero of the named guards or None, the miss), by damped Newton steps on the piece at hand."""

    def look(y):
        piece = open_piece(graph, y, choice_at(graph, y, None, tol)[0], tol)
        walls = wall_values(piece, y)
        bearing = {name: [] for name in names}
        for j, name in enumerate(piece.names):
            bearing.get(name, []).append(j)
        return piece, walls, sorted(min(each, key=lambda j: abs(walls.values[j])) for each in bearing.values())

    z, (piece, walls, which) = start, look(start)
    for _ in range(50):
        y, _, miss = settled(piece, z, which, start)
        if miss <= SOLVED:
            return y, miss
        step = np.linalg.lstsq(wall_gradients(piece, walls, which), -walls.values[which], rcond=TOL)[0]
        size = np.linalg.norm(walls.values[which])
        for shrink in 0.5 ** np.arange(8):
            ahead = look(z + shrink * step)
            if np.linalg.norm(ahead[1].values[ahead[2]]) < (1 - shrink / 4) * size:
                break
        else:
            break
        z, (piece, walls, which) = z + shrink * step, ahead
    return None, walls.miss(which)
