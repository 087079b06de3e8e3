"""The regions of a function on a plane through a point, and what draws them: polygons, a plane, a hull, fills.

A slice is the square {x + s b_0 + t b_1 : |s|, |t| <= radius}. It is cut like dough: on a convex cell where all earlier
choices are fixed, the guards of the next operation are affine if its arguments are, so their values at the corners say
exactly where they vanish. Where guards are curved the square begins as a grid of cells, and the cuts are linear
interpolations in each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import ConvexHull

from . import selections
from .graph import Graph, from_function, point, run, unit_of
from .kinks import TOL
from .primitives import NotPiecewiseSmooth
from .selections import ExtremumTie, TwoWayTies

MUTE = 1e-12  # |guard| / scale below which a guard is zero: rounding, far above 2^-52, far below any tol
GRID = 32  # cells along each side of the square when guards are curved
# Paul Tol's light scheme, made for cells with text on them, lighter still; distinct under common color deficiencies.
_TOL = (0x77AADD, 0xEEDD88, 0xEE8866, 0x44BB99, 0xFFAABB, 0x99DDFF, 0xBBCC33, 0xDDDDDD)
FILLS = tuple(tuple(0.45 * ((color >> shift & 255) / 255) + 0.55 for shift in (16, 8, 0)) for color in _TOL)


# ---------------------------------------------------------------- the slice


@dataclass(frozen=True, eq=False)
class Slice:
    """The regions of f in the square {x + s basis[0] + t basis[1] : |s|, |t| <= radius}.

    polygons: convex (v, 2) arrays of (s, t), counterclockwise. patterns: one string a polygon, a letter for every
    guard of f, vanishing at x or not, in the order and meaning of `Kink`; k entries of a max are k letters even if
    k = 2 of them tie at x. active: (letters,) whether the guard vanishes at x. walls: (w, 2, 2) segments on which the
    choice changes, through: (w,) whether it is one that is open at x. exact: one polygon a region; else guards are
    curved, and a region is the union of the polygons of its pattern, with curved sides interpolated on a grid.
    """

    x: np.ndarray
    basis: np.ndarray
    radius: float
    polygons: tuple[np.ndarray, ...]
    patterns: tuple[str, ...]
    active: np.ndarray
    walls: np.ndarray
    through: np.ndarray
    exact: bool

    def letters(self, pattern: str) -> str:
        """The letters of the guards that vanish at x."""
        return "".join(letter for letter, is_active in zip(pattern, self.active, strict=True) if is_active)


def slice_polygons(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    basis: ArrayLike | None = None,
    radius: float | None = None,
    tol: float = TOL,
) -> Slice:
    """The regions of f in a square around x, and the walls between them.

    f: an autograd.numpy function of one flat array (n,), or a Graph. basis: (2, n) orthonormal, by default the first
    two coordinate axes; for n = 1, where the second axis means nothing, (1,), (0,). radius: half the side, by default
    half as far again as the nearest kink that does not pass through x, or 1 where there is none. tol: a guard vanishes
    at x iff |guard| <= tol * its scale. ValueError for a wrong basis or radius.
    """
    graph = from_function(f, x)
    x = point(x, graph.size)
    basis = np.eye(2, x.size) if basis is None else np.array(basis, dtype=float)
    if basis.shape != (2, x.size) or np.abs(basis @ basis.T - np.diag([1, min(x.size - 1, 1)])).max() > 1e-9:
        raise ValueError(f"basis must be two orthonormal rows of {x.size} entries; got shape {basis.shape}")
    at_x = _forward(graph, x)[0]
    guards, scales = _guards(at_x)
    active = np.abs(guards) <= tol * scales
    radius = _reach(graph, x, basis, np.sign(guards), ~active) if radius is None else radius
    if not (isinstance(radius, Real) and 0 < float(radius) < np.inf):
        raise ValueError(f"radius must be a positive finite number; got {radius!r}")
    radius = float(radius)

    operations = graph.program.operations
    exact = all(graph.degrees[p] <= 1 for i in at_x for p in operations[i - 1].parents)
    rows, columns = (1, 1) if exact else (GRID, GRID) if x.size > 1 else (1, GRID**2)
    s, t = np.linspace(-radius, radius, columns + 1), np.linspace(-radius, radius, rows + 1)
    pending = [
        (0, np.array([[s[i], t[j]], [s[i + 1], t[j]], [s[i + 1], t[j + 1]], [s[i], t[j + 1]]]))
        for i in range(columns)
        for j in range(rows)
    ]
    polygons, patterns, walls, through = [], [], [], []
    while pending:
        last, cell = pending.pop()  # not to be cut again by an operation up to the last, curved as it may be
        inside, pieces = _forward(graph, x + cell.mean(axis=0) @ basis)
        corners = [_forward(graph, x + corner @ basis, pieces)[0] for corner in cell]
        for i in inside:
            if i <= last:
                continue
            parts, cuts = _divide(cell, [corner[i] for corner in corners], at_x[i], tol)
            if len(parts) > 1:  # later operations see other values in each part
                pending += [(i, part) for part in parts if _area(part) > 1e-12 * radius**2]
                walls += [segment for segment, _ in cuts]
                through += [is_open for _, is_open in cuts]
                break
        else:
            polygons.append(_frozen(cell))
            patterns.append(_text(*_guards(inside)))
    choices = np.repeat(np.arange(len(_ties(at_x))), [len(tie.guards) for tie in _ties(at_x)])
    for segment, is_open in _uncut(polygons, patterns, (s, t), choices, active):
        walls.append(segment)
        through.append(is_open)
    return Slice(
        x,
        _frozen(basis),
        radius,
        tuple(polygons),
        tuple(patterns),
        _frozen(active, bool),
        _frozen(np.reshape(walls, (-1, 2, 2))),
        _frozen(through, bool),
        exact,
    )


def principal_plane(elements: ArrayLike) -> np.ndarray:
    """(2, n) orthonormal: the two directions along which (m, ..., n) elements differ most.

    By the singular value decomposition of the centered rows, completed where it has rank 0 or 1 by their mean and by
    coordinate axes; each direction is signed to have its largest entry positive. n <= 2 gives coordinate axes.
    """
    elements = np.asarray(elements, dtype=float)
    n = elements.shape[-1]
    if n <= 2:
        return np.eye(2, n)
    mean = elements.mean(axis=0)
    _, sizes, directions = np.linalg.svd((elements - mean).reshape(-1, n), full_matrices=False)
    apart = directions[sizes > 1e-9 * (np.abs(elements).max(initial=0.0) or 1.0)]
    plane = np.empty((0, n))
    for candidate in (*apart[:2], *mean.reshape(-1, n), *np.eye(n)):
        rest = candidate - plane.T @ (plane @ candidate)
        if len(plane) < 2 and np.linalg.norm(rest) > 1e-6 * np.linalg.norm(candidate):
            rest -= plane.T @ (plane @ rest)  # once more: the first time leaves rounding relative to the candidate
            plane = np.vstack([plane, rest / np.linalg.norm(rest)])
    return plane * np.sign(plane[[0, 1], np.abs(plane).argmax(axis=1)])[:, None]


def _forward(graph, z, pieces=None):
    """({operation: (ties of all its guards at z, its arguments, their magnitudes)}, the branches taken).

    With tol = 2 every guard ties, because |guard| <= its scale. pieces: branches to force instead of the natural ones.
    """
    seen = {}

    def branch_of(i, op, args, sizes):
        ties = selections.decide(op.name, args, op.kwargs, sizes, 2.0)[1]
        if ties:  # the max of a single entry has none
            seen[i] = ties, args, sizes
        return selections.natural_branch(op.name, args, op.kwargs) if pieces is None else pieces[i]

    with np.errstate(all="ignore"):
        tape = run(graph, z, branch_of, magnitudes=True)
    return seen, tape.branches


def _guards(seen):
    """(letters,) every guard and its scale."""
    ties = _ties(seen)
    return tuple(np.concatenate([np.empty(0), *(getattr(tie, name) for tie in ties)]) for name in ("guards", "scales"))


def _ties(seen):
    return [tie for each, _, _ in seen.values() for tie in each]


def _text(guards, scales):
    return "".join("-0+"[int(s) + 1] for s in np.where(np.abs(guards) <= MUTE * scales, 0, np.sign(guards)))


def _reach(graph, x, basis, signs, idle):
    """A radius that shows the nearest kink not through x, met on 24 rays; less where f soon stops being defined."""
    angles = 2 * np.pi * np.arange(24) / 24 + 0.1  # not along the axes, where examples like to have their kinks
    rays = np.column_stack([np.cos(angles), np.sin(angles)]) @ basis
    unit = unit_of(x)

    def meets(t):
        """Whether an idle guard has changed sign at distance t; None where f is not defined."""
        try:
            found = [_guards(_forward(graph, x + t * ray)[0])[0][idle] for ray in rays]
        except NotPiecewiseSmooth:
            return None
        return any(np.any(np.sign(guards) != signs[idle]) for guards in found)

    if not idle.any() and meets(1.5 * unit) is False:
        return unit
    near, far = 0.0, 1e-7 * unit
    while meets(far) is False:
        near, far = far, 2 * far
        if far > 1e4 * unit:
            return unit
    for _ in range(6):
        middle = (near + far) / 2
        near, far = (middle, far) if meets(middle) is False else (near, middle)
    # the corners of the square are sqrt(2) radii away
    return near / 2 if meets(2.2 * far) is None else 1.5 * far


def _divide(cell, corners, at_x, tol):
    """The parts into which one operation's guards cut a cell, and the cuts: (segment, whether it is open at x).

    corners, at_x: what `_forward` saw of the operation at each corner, and at x. A row (s, t, differences) travels
    with every corner, so that a new corner, between two others, gets its differences by interpolation.
    """
    ties, args, sizes = at_x
    tables = [[_differences(tie, *rest) for tie in here] for here, *rest in corners]
    values, scales = (np.array([np.concatenate([tie[k] for tie in table]) for table in tables]) for k in (0, 1))
    noise = MUTE * np.concatenate([[0, 0], scales.max(axis=0)])
    parts, cuts, column = [_settled(np.hstack([cell, values]), noise)], [], 2
    for tie in ties:
        is_open = _open(tie, args, sizes, tol)
        span = range(column, column + len(is_open))
        column = span.stop
        cut = _winners if isinstance(tie, ExtremumTie) else _halves
        parts, found = cut(parts, span, tie, noise)
        cuts += [(segment, bool(is_open[k - span.start])) for segment, k in found]
    return [part[:, :2] for part in parts], cuts


def _differences(tie, args, sizes):
    """The functions whose signs decide a tie, and their scales: its guards, or all differences of its members."""
    if isinstance(tie, TwoWayTies):
        return tie.guards, tie.scales
    flat, size = np.ravel(args[0])[tie.members], np.ravel(sizes[0])[tie.members]
    first, second = np.triu_indices(len(flat), 1)
    return flat[first] - flat[second], size[first] + size[second]


def _open(tie, args, sizes, tol):
    """Which of these differences belong to a kink active at x."""
    values, scales = _differences(tie, args, sizes)
    small = np.abs(values) <= tol * scales
    if isinstance(tie, ExtremumTie):  # two members that tie far below the winner are no kink
        near = np.abs(tie.guards) <= tol * tie.scales
        first, second = np.triu_indices(len(near), 1)
        small &= near[first] & near[second]
    return small


def _uncut(polygons, patterns, lines, choices, active):
    """The walls on lines of the grid, which cut no cell: (segment, whether it is open at x).

    lines: where the grid has them, by axis. choices: (letters,) the choice that a letter belongs to; one between two
    members of a max is open at x if both of their letters are.
    """
    letters, active = np.array([list(pattern) for pattern in patterns]), np.asarray(active, dtype=bool)
    sides = {}  # (axis, line, whether the polygon is on its left) -> (low, high, polygon)
    for k, polygon in enumerate(polygons):
        for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            for axis in (0, 1):
                low, high = a[1 - axis], b[1 - axis]
                if a[axis] == b[axis] and low != high:
                    side = sides.setdefault((axis, a[axis], bool(low < high)), [])
                    side.append((min(low, high), max(low, high), k))
    found = []
    for axis, inner in enumerate(values[1:-1] for values in lines):
        for line in inner:
            for low, high, k in sides.get((axis, line, True), []):
                for least, last, m in sides.get((axis, line, False), []):
                    ends = max(low, least), min(high, last)
                    if ends[0] >= ends[1] or patterns[k] == patterns[m]:
                        continue
                    changed = (letters[k] != letters[m]) & (letters[k] != "0") & (letters[m] != "0")
                    if changed.any():
                        is_open = any(active[changed & (choices == c)].all() for c in np.unique(choices[changed]))
                        segment = np.array([[line, end] if axis == 0 else [end, line] for end in ends])
                        found.append((segment, bool(is_open)))
    return found


def _halves(parts, span, tie, noise):
    """Every part cut along the zeros of every column in turn."""
    cuts = []
    for k in span:
        halved = []
        for part in parts:
            for piece in _unambiguous(part, k):
                if piece[:, k].min() < 0 < piece[:, k].max():
                    plus = _clip(piece, k, 1, noise)
                    halved += [plus, _clip(piece, k, -1, noise)]
                    cuts += [(segment, k) for segment in _zeros(plus, k)]
                else:
                    halved.append(piece)
        parts = halved
    return parts, cuts


def _winners(parts, span, tie, noise):
    """Every part cut into the parts where one member of a max or min wins; columns are member minus later member."""
    cuts, pieces, m = [], [], len(tie.members)
    column = dict(zip(combinations(range(m), 2), span, strict=True))
    for part in parts:
        for w in range(m):
            piece, walls = part, []
            for other in range(m):
                if other == w or not len(piece):
                    continue
                k, side = (column[w, other], tie.side) if w < other else (column[other, w], -tie.side)
                if not part[:, k].any() and other < w:
                    piece = piece[:0]  # the same function: the earlier member stands for both
                elif (side * piece[:, k]).max() <= 0 and part[:, k].any():
                    piece = piece[:0]
                elif (side * piece[:, k]).min() < 0:
                    piece = _clip(piece, k, side, noise)
                    walls += [k] if w < other else []
            if len(piece):
                pieces.append(piece)
                cuts += [(segment, k) for k in walls for segment in _zeros(piece, k)]
    return pieces, cuts


def _unambiguous(part, k):
    """The part, or triangles of it where the column changes sign more than twice around it (curved guards only)."""
    signs = np.sign(part[:, k])
    signs = signs[signs != 0]
    if np.sum(signs != np.roll(signs, 1)) <= 2:
        return [part]
    return [part[[0, i, i + 1]] for i in range(1, len(part) - 1)]


def _clip(part, k, side, noise):
    """The corners of the part where side * column k >= 0."""
    corners = []
    for a, b in zip(part, np.roll(part, -1, axis=0), strict=True):
        if side * a[k] >= 0:
            corners.append(a)
        if a[k] * b[k] < 0:
            new = a + a[k] / (a[k] - b[k]) * (b - a)
            new[k] = 0.0
            corners.append(_settled(new, noise))
    return np.array(corners)


def _settled(values, noise):
    return np.where(np.abs(values) <= noise, 0.0, values)


def _zeros(part, k):
    """The sides (2, 2) of the part on which column k vanishes."""
    ends = zip(part, np.roll(part, -1, axis=0), strict=True)
    return [np.array([a[:2], b[:2]]) for a, b in ends if a[k] == 0 == b[k]]


def _area(corners):
    """Shoelace: positive counterclockwise."""
    (s, t), (u, v) = corners.T, np.roll(corners, -1, axis=0).T
    return float(np.sum(s * v - t * u)) / 2


def _frozen(array, dtype=float):
    array = np.array(array, dtype=dtype)
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------- the hull


def hull_vertices(points: np.ndarray) -> np.ndarray:
    """(k, 2) vertices of the convex hull of (m, 2) points, counterclockwise: 2 for a segment, 1 for a point."""
    points = np.array(points, dtype=float)
    centered = points - points.mean(axis=0)
    sizes, directions = np.linalg.svd(centered, full_matrices=False)[1:]
    apart = np.abs(points).max() * len(points) * 1e-12  # below, rounding of equal points
    if sizes[0] <= apart:
        return points[:1]
    if sizes[1] <= max(apart, 1e-9 * sizes[0]):  # too flat for qhull, and for the eye
        along = centered @ directions[0]
        return points[[along.argmin(), along.argmax()]]
    return points[ConvexHull(centered / np.abs(centered).max()).vertices]


# ---------------------------------------------------------------- for drawing


def plane_of(study: Any) -> np.ndarray:
    """The plane of the limiting derivatives of a Study."""
    return principal_plane(study.jacobians.matrices if study.gradients is None else study.gradients.vectors)


def inside(piece: Any, pattern: str) -> np.ndarray:
    """Where to write in a region: the center of its polygon nearest to the center of them all."""
    mine = [polygon for polygon, own in zip(piece.polygons, piece.patterns, strict=True) if own == pattern]
    centers = np.array([_centroid(polygon) for polygon in mine])
    middle = np.average(centers, axis=0, weights=[_area(polygon) for polygon in mine])
    return centers[np.linalg.norm(centers - middle, axis=1).argmin()]


def _centroid(corners):
    (s, t), (u, v) = corners.T, np.roll(corners, -1, axis=0).T
    cross = s * v - t * u
    return np.array([np.sum((s + u) * cross), np.sum((t + v) * cross)]) / (3 * np.sum(cross))


def fills(piece: Slice, names: Sequence[str], number: int) -> list[int]:
    """Which of `number` fills each pattern has: regions that share a side differ, unless that takes more."""
    beside = _neighbors(piece, {name: i for i, name in enumerate(names)})
    fill, used = {}, np.zeros(number, dtype=int)
    for i in sorted(beside, key=lambda i: (-len(beside[i]), i)):
        taken = {fill[j] for j in beside[i] if j in fill}
        free = [c for c in range(number) if c not in taken] or range(number)
        fill[i] = min(free, key=lambda c: (used[c], c))
        used[fill[i]] += 1
    return [fill[i] for i in range(len(names))]


def _neighbors(piece, number):
    """region -> the regions whose polygons share a side of positive length with its own."""
    owner = np.repeat([number[p] for p in piece.patterns], [len(polygon) for polygon in piece.polygons])
    start = np.concatenate(piece.polygons)
    end = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in piece.polygons])
    beside, eps = {i: set() for i in number.values()}, 1e-9 * piece.radius
    for a, b, own in zip(start, end, owner, strict=True):
        length = np.linalg.norm(b - a)
        if length <= eps:
            continue
        along, across = (b - a) / length, np.array([a[1] - b[1], b[0] - a[0]]) / length
        level = (np.abs((start - a) @ across) <= eps) & (np.abs((end - a) @ across) <= eps) & (owner != own)
        first, last = (start[level] - a) @ along, (end[level] - a) @ along
        overlap = np.minimum(np.maximum(first, last), length) - np.maximum(np.minimum(first, last), 0)
        beside[own].update(owner[level][overlap > eps].tolist())
    return beside
