"""The linear region around a point of a piecewise-linear function, its walls, and the kinks nearest to a point.

Fix the piece chosen at every kink. Each guard is then one smooth function h_j, affine when f is piecewise linear, and
the piece is in force where every h_j keeps its sign: a polyhedron {z : A z <= b} on which f(z) = J z + c. A row of
the polyhedron is redundant iff no point lies beyond it and within the others, which `strict_direction` decides; the
points it finds for the other rows lead through the facets. Guards that are zero at a point inside a facet are zero on
all of it, since they keep their sign on the region and are affine: so one region lies across each facet.

Vertices are found by descent through the faces of one piece: the foot of the perpendicular, within a face, on the
nearest of the other walls lies on the face's boundary.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import brentq

from . import selections
from .fan import pattern_along
from .graph import Graph, Tape, from_function, point, pullback, require_same_value, run, unit_of
from .halfspaces import strict_direction
from .kinks import TOL, germ, operation_names, text
from .primitives import NotPiecewiseSmooth
from .skeleton import skeleton

SOLVED = 1e-12  # |guard| / scale of a guard that was solved for: a thousandth of the tolerance of a kink
_RAY = np.geomspace(1e-4, 1e6, 400)  # where nonlinear guards are looked at along a ray, in units of max(1, |x|)
_CANDIDATES = 16  # walls tried in turn, nearest first, when guards are not affine
_LOST = (NotPiecewiseSmooth, np.linalg.LinAlgError)  # a start, or a step from it, is outside the domain of f
_RESTARTS = 60  # starting points of `vertex`, at distances growing from 1/16 to 2^11 times max(1, |x|)


@dataclass(frozen=True, eq=False, repr=False)
class Region:
    """{z : A z <= b} with F(z) = jacobian z + offset on it, F flattened in C order.

    A (k, n) rows of unit norm, b (k,): irredundant, in order of execution; k = 0 for the whole space. pattern: a letter
    for every guard of F, in order of execution, then C order (see `active_kinks`); `0` is mute: zero on the whole
    region. jacobian (p, n), offset (p,). names (k,): the kink of each facet, as `active_kinks` names it inside that
    facet (the first, where several coincide). interior (n,): a point strictly inside.
    """

    A: np.ndarray
    b: np.ndarray
    pattern: str
    jacobian: np.ndarray
    offset: np.ndarray
    names: tuple[str, ...]
    interior: np.ndarray
    _graph: Graph = field(repr=False)

    def __post_init__(self):
        for name in ("A", "b", "jacobian", "offset", "interior"):
            array = np.array(getattr(self, name), dtype=float)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __repr__(self):
        return f"Region({len(self.A)} facets in R^{self.interior.size}, {len(self.pattern)} guards)"


def region(f, x, *, tol=TOL) -> Region:
    """The linear region of a piecewise-linear f around x.

    f: autograd.numpy function of one flat array (n,), or a Graph; x (n,). Raises ValueError if f or one of its guards
    is not known to be affine on every piece, if x lies on a kink (naming it), and what `from_function` raises.
    """
    graph, x = _recorded(f, x)
    _require_piecewise_linear(graph)
    branches, met = _choice(graph, x, None, tol)
    if met:
        raise ValueError(
            f"x lies on {_listed(met)}, so it is inside no linear region: step off, for instance along a witness of "
            "local_fan(f, x), which lists the regions that meet at x"
        )
    return _region(graph, x, branches, tol)


def neighbors(region) -> tuple[Region, ...]:
    """The regions across the facets of `region`, in the order of its rows.

    All guards that vanish on a facet are decided anew beyond it. Raises ValueError for a facet too thin to be crossed.
    """
    return tuple(_across(region, k) for k in range(len(region.b)))


def boundary_point(f, x, direction=None, *, tol=TOL) -> np.ndarray:
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
    graph, x = _recorded(f, x)
    if direction is None:
        found = _nearest(graph, x, tol)
    else:
        d = point(direction, graph.size, "direction")
        if not np.any(d):
            raise ValueError("direction is zero; leave it out to ask for the nearest boundary point")
        found = _along(graph, x, d / np.linalg.norm(d), tol)
    require_same_value(graph, graph.source, found)
    return np.array(found)


def vertex(f, x, *, units=None, tol=TOL) -> np.ndarray:
    """A point (n,) near x, not always the nearest, where several guards with independent gradients vanish together.

    f: autograd.numpy function of one flat array (n,), or a Graph; x (n,). units: how many guards, 1 <= units <= n,
    default n; or the names of kinks (see `Kink.name`; "max1[0]" for any two entries of that maximum), which are to
    vanish together. Solved to rounding: every guard found has |guard| <= 1e-12 of its scale.

    A number: from x, step to the nearest wall of the piece, within it to the nearest other wall, and so on; where the
    piece has too few independent walls, the same from points around x, farther and farther (a fixed sequence).
    Names: damped Newton steps, each on the piece at hand, from the same points. Neither proves that nothing exists.

    Raises ValueError if nothing was found (saying how far it came), for units out of range and for unknown names.
    """
    graph, x = _recorded(f, x)
    if units is None or isinstance(units, (int, np.integer)):
        count = graph.size if units is None else int(units)
        if not 1 <= count <= graph.size:
            raise ValueError(f"units must be between 1 and {graph.size}, the number of variables; got {units}")
        found = _vertex(graph, x, count, tol)
    else:
        found = _meeting(graph, x, _checked_names(graph, x, units, tol), tol)
    require_same_value(graph, graph.source, found)
    return np.array(found)


# ---------------------------------------------------------------- one piece and its walls


@dataclass(frozen=True, eq=False)
class Piece:
    """f under one choice of branches: operation -> Branch.

    walls: (position, terms, names) an operation, the guards whose signs hold the choice in force, each a sum of terms
    (argument, flat entry, coef): first - second, winner - other, the steps of a sorted run. pattern: the letters of all
    guards at the point where the piece was opened.
    """

    graph: Graph
    branches: dict
    walls: tuple
    pattern: str

    @property
    def names(self):
        return [name for _, _, names in self.walls for name in names]


@dataclass(frozen=True, eq=False)
class Walls:
    """The guards of a piece at one point: values (c,), scales (c,), and the tape that gives their gradients."""

    values: np.ndarray
    scales: np.ndarray
    tape: Tape

    def zero(self, tol):
        return np.abs(self.values) <= tol * self.scales


def _recorded(f, x):
    graph = from_function(f, x)
    return graph, point(x, graph.size)


def _choice(graph, x, direction, tol):
    """(branches just beyond x along the direction, names of the kinks at x that are not mute there)."""
    here = germ(graph, x, tol=tol)
    signs = pattern_along(skeleton(here), direction)
    return here.branches(signs), [kink.name for kink, sign in zip(here.kinks, signs, strict=True) if sign]


def _piece(graph, x, branches, tol) -> Piece:
    names, walls, letters = operation_names(graph), [], []

    def open_all(i, op, args, magnitudes):
        # with an infinite tolerance every guard ties, zero ones too once their scale is not zero
        sizes = [m + np.finfo(float).tiny for m in magnitudes]
        outs, sources, _ = branches[i].wires[0]
        chosen = dict(zip(outs.tolist(), sources.tolist(), strict=True))
        for tie in selections.decide(op.name, args, op.kwargs, sizes, np.inf)[1]:
            letters.extend(np.where(np.abs(tie.guards) <= tol * tie.scales, 0, np.sign(tie.guards)))
            terms, entries = _walls_of(tie, chosen)
            walls.append((i, terms, [_name(names[i], op, *entry) for entry in entries]))
        return branches[i]

    with np.errstate(all="ignore"):
        run(graph, x, open_all, magnitudes=True)
    return Piece(graph, branches, tuple(walls), text(letters))


def _walls_of(tie, chosen):
    """(terms, [(flat output, suffix of the name)]) of the guards that bound the piece; chosen: output -> entry."""
    if isinstance(tie, selections.TwoWayTies):
        return tie.guard_terms, tie.entries
    if isinstance(tie, selections.ExtremumTie):
        winner = chosen[tie.out]
        first, second, coef = np.full(tie.letters - 1, winner), tie.members[tie.members != winner], float(tie.side)
        named = [(tie.out, "")] * len(first)
    else:
        ranked = np.array([chosen[int(out)] for out in tie.outs])
        first, second, coef = ranked[1:], ranked[:-1], 1.0
        named = [(int(out), f"<>{int(after)}#0") for out, after in zip(tie.outs, tie.outs[1:], strict=False)]
    return ((0, first, np.full(len(first), coef)), (0, second, np.full(len(first), -coef))), named


def _name(base, op, out, suffix):
    entry = ", ".join(str(int(k)) for k in np.unravel_index(out, op.shape)) if op.shape else ""
    return base + (f"[{entry}]" if entry else "") + suffix


def _walls(piece, y) -> Walls:
    graph = piece.graph
    with np.errstate(all="ignore"):
        tape = run(graph, y, lambda i, op, args, sizes: piece.branches[i], magnitudes=True)
    values, scales = [], []
    for position, terms, _ in piece.walls:
        op, args = graph.program.operations[position - 1], tape.arguments[position]
        parents = dict(zip(op.argnums, op.parents, strict=True))
        sizes = {k: tape.magnitudes[parents[k]] if k in parents else np.abs(args[k]) for k, _, _ in terms}
        values.append(sum(coef * np.ravel(args[k])[entry] for k, entry, coef in terms))
        scales.append(sum(np.abs(coef) * np.ravel(sizes[k])[entry] for k, entry, coef in terms))
    return Walls(np.concatenate([np.zeros(0), *values]), np.concatenate([np.zeros(0), *scales]), tape)


def _gradients(piece, walls, which=None):
    """(c, n): the gradients of the guards (those in the increasing list `which`).

    Zero where their terms cancel, or where a step of max(1, |x|) changes the guard by less than rounding.
    """
    graph, tape, rows, found, first = piece.graph, walls.tape, {}, [], 0
    least = SOLVED * walls.scales / unit_of(tape.values[0])

    def row(position, entry):
        if (position, entry) not in rows:
            unit = np.zeros(np.shape(tape.values[position]))
            unit.reshape(-1)[entry] = 1.0
            rows[position, entry] = pullback(graph, tape, {position: unit})[0]
        return rows[position, entry]

    for position, terms, names in piece.walls:
        op = graph.program.operations[position - 1]
        parents = dict(zip(op.argnums, op.parents, strict=True))
        for j in range(len(names)) if which is None else [w - first for w in which if 0 <= w - first < len(names)]:
            parts = [coef[j] * row(parents[k], int(entry[j])) for k, entry, coef in terms if k in parents]
            total, size = sum(parts), sum(np.abs(part).max() for part in parts)
            live = np.abs(total).max() > max(TOL * size, least[first + j])
            found.append(total if live else np.zeros(graph.size))
        first += len(names)
    return np.array(found).reshape(len(found), graph.size)


def _guard_degree(graph):
    parents = [p for op in graph.program.operations if op.name in selections.PIECEWISE for p in op.parents]
    return max((graph.degrees[p] for p in parents), default=0)


def _require_piecewise_linear(graph):
    if _guard_degree(graph) > 1:
        raise ValueError(
            "region needs guards that are affine on every piece, and one of f is not (or not known to be); "
            "boundary_point finds kinks of such functions, limiting_gradients and limiting_hessians their derivatives"
        )
    if graph.output is not None and graph.degrees[graph.program.output] > 1:
        raise ValueError(
            "region needs f itself affine on every piece, and it is not (or not known to be): take the output before "
            "the loss, network.function(output=...); limiting_gradients and boundary_point take f as it is"
        )


def _listed(names):
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more kinks" if len(names) > 5 else "")


# ---------------------------------------------------------------- regions


def _region(graph, x, branches, tol) -> Region:
    piece = _piece(graph, x, branches, tol)
    walls = _walls(piece, x)
    gradients = _gradients(piece, walls)
    length = np.linalg.norm(gradients, axis=1)
    live = np.flatnonzero((length > 0) & ~walls.zero(tol))
    toward = -np.sign(walls.values[live]) / length[live]
    A, slack = toward[:, None] * gradients[live] + 0.0, np.abs(walls.values[live]) / length[live]
    facets = _irredundant(A, slack)
    origin = _walls(piece, np.zeros(graph.size))  # affine, so the constant terms are the values there
    require_same_value(graph, graph.source, x)
    return Region(
        A[facets],
        -(toward * origin.values[live])[facets] + 0.0,
        piece.pattern,
        *_affine_map(graph, origin.tape),
        tuple(piece.names[live[k]] for k in facets),
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
    """Indices, in order, of the rows of A y <= slack that bound it; slack > 0, unit rows; the first of equal rows."""
    if not len(A):
        return []
    n = A.shape[1]
    rays = np.vstack([A, np.random.default_rng(n).standard_normal((32 * n, n))])
    with np.errstate(all="ignore"):
        reach = np.where(rays @ A.T > 0, slack / (rays @ A.T), np.inf)
    found = np.unique(reach.argmin(axis=1))  # nearly all facets; what these make redundant is so
    same = [np.abs(A - A[k]).max(axis=1) + np.abs(slack / slack[k] - 1) <= TOL for k in found]
    hit = np.unique([np.argmax(each) for each in same])
    kept = [k for k in range(len(A)) if k in hit or _beyond(A[[k, *hit]], slack[[k, *hit]], 0) is not None]
    for k in reversed(kept):
        if _beyond(A[kept], slack[kept], kept.index(k)) is None:
            kept.remove(k)
    return kept


def _beyond(A, slack, k):
    """y with A_k y > slack_k and A_i y < slack_i for the others, or None: then row k is redundant. slack > 0."""
    reach = float(np.median(slack))
    rows = np.column_stack([-A, slack / reach])
    rows[k] *= -1
    lifted, _, _ = strict_direction(np.vstack([rows, np.eye(1, rows.shape[1], rows.shape[1] - 1)]))
    return None if lifted is None else reach * lifted[:-1] / lifted[-1]


def _across(region, k) -> Region:
    graph, normal = region._graph, region.A[k]
    slack = region.b - region.A @ region.interior
    way = _beyond(region.A, slack, k)
    too_thin = f"row {k} of A ({region.names[k]}) has no facet, or one too thin for floating point to cross"
    if way is None:
        raise ValueError(too_thin)
    p = region.interior + slack[k] / (normal @ way) * way  # inside the facet, as way leaves through no other
    p = p - (normal @ p - region.b[k]) * normal
    branches, _ = _choice(graph, p, normal, SOLVED)
    onward = _first_zero(_piece(graph, p, branches, SOLVED), p, normal, SOLVED)[0]
    step = min(onward / 2, unit_of(p))
    found = _region(graph, p + step * normal, branches, SOLVED)
    if found.pattern == region.pattern:
        raise ValueError(too_thin)
    return found


def _first_zero(piece, y, d, tol):
    """(t, guard, slope) of the first affine guard, not zero at y, to vanish at y + t d, t > 0; or (inf, None, 0)."""
    here, there = _walls(piece, y), _walls(piece, y + unit_of(y) * d)
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
    branches, _ = _choice(graph, x, d, tol)
    piece = _piece(graph, x, branches, tol)
    t, first = (_affine_ray if _guard_degree(graph) <= 1 else _sampled_ray)(piece, x, d, tol)
    if first is None:
        raise ValueError("no kink was met along direction: no guard changes sign on the piece that begins at x")
    return _settled(piece, x + t * d, [first], x)[0]


def _affine_ray(piece, x, d, tol):
    t, first, slope = _first_zero(piece, x, d, tol)
    if first is not None:
        for _ in range(3):  # the guard as evaluated at the point has the last word
            t -= _walls(piece, x + t * d).values[first] / slope
    return t, first


def _sampled_ray(piece, x, d, tol):
    def guards(t):
        walls = _walls(piece, x + t * d)
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
    branches, met = _choice(graph, x, None, tol)
    if met:
        return x
    piece = _piece(graph, x, branches, tol)
    walls = _walls(piece, x)
    order = _by_distance(walls, _gradients(piece, walls), [])
    if not len(order):
        raise ValueError("f has no kink to be found from x: no guard changes on the piece around it")
    affine = _guard_degree(graph) <= 1
    feet = [_common_zero(piece, [j], x, foot=True) for j in order[: 1 if affine else _CANDIDATES]]
    found = [foot for foot in feet if foot is not None]
    if not found:
        raise ValueError("no guard near x could be brought to zero; pass a direction")
    nearest = min(found, key=lambda foot: np.linalg.norm(foot - x))
    if affine:
        return nearest
    return _along(graph, x, (nearest - x) / np.linalg.norm(nearest - x), tol)


def _by_distance(walls, gradients, active):
    """Guards by their distance, to first order, within the common zeros of the active ones; no parallel ones."""
    length = np.linalg.norm(gradients, axis=1)
    basis = np.linalg.qr(gradients[active].T)[0]
    within = np.linalg.norm(gradients - gradients @ basis @ basis.T, axis=1)
    met = np.flatnonzero((length > 0) & (within > TOL * length))
    return met[np.argsort(np.abs(walls.values[met]) / within[met], kind="stable")]


def _miss(walls, which):
    """The largest |guard| / scale of these guards."""
    return float(np.max(np.abs(walls.values[which]) / np.maximum(walls.scales[which], np.finfo(float).tiny)))


def _settled(piece, z, which, start):
    """(point, walls, miss): z, or z less the entries below rounding, where that brings these guards to zero.

    A guard that is one product w z_i has itself for a scale, so only an exact zero counts.
    """
    walls = _walls(piece, z)
    miss = _miss(walls, which)
    tiny = (z != 0) & (np.abs(z) <= SOLVED * max(np.abs(start).max(), np.abs(z).max()))
    if miss > SOLVED and tiny.any():
        cleared = np.where(tiny, 0.0, z)
        there = _walls(piece, cleared)
        if _miss(there, which) <= SOLVED:
            return cleared, there, _miss(there, which)
    return z, walls, miss


@np.errstate(all="ignore")
def _common_zero(piece, which, start, *, foot=False):
    """A common zero of these guards near start, by least-norm Newton steps down to rounding; None if lost.

    With `foot` each step is measured from start: the limit is a stationary point of the distance to it.
    """
    which, z, kept, best = sorted(which), start, None, np.inf
    try:
        for _ in range(50):
            z, walls, miss = _settled(piece, z, which, start)
            if not miss < best and best <= SOLVED:
                break
            if miss < best:
                kept, best = z, miss
            slopes, base = _gradients(piece, walls, which), start if foot else z
            z = base + np.linalg.lstsq(slopes, slopes @ (z - base) - walls.values[which], rcond=None)[0]
    except _LOST:
        pass
    return kept if best <= SOLVED else None


# ---------------------------------------------------------------- vertices


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
        except _LOST:
            continue
        most = max(most, reached)
    raise ValueError(
        f"{units} guards were to vanish together, and from {_RESTARTS + 1} points around x at most {most} did; ask for "
        "fewer units or start elsewhere"
    )


@np.errstate(all="ignore")
def _descend(graph, x, units, tol):
    """(z, number of independent guards that are zero there), z on the boundary of the piece at x."""
    branches, _ = _choice(graph, x, None, tol)
    piece, z, active = _piece(graph, x, branches, tol), x, []
    walls = _walls(piece, x)
    gradients = _gradients(piece, walls)
    side = np.where(walls.zero(tol), 0.0, np.sign(walls.values))
    affine = _guard_degree(graph) <= 1
    while len(active) < units:
        for j in _by_distance(walls, gradients, active)[:_CANDIDATES]:
            ahead = _common_zero(piece, [*active, j], z)
            if ahead is not None:
                there = _walls(piece, ahead)
                if np.all((there.values * side >= 0) | there.zero(tol)):  # still on the piece, as feet are
                    break
        else:
            break
        z, walls, active = ahead, there, [*active, j]
        gradients = gradients if affine else _gradients(piece, walls)
    return z, len(active)


def _checked_names(graph, x, units, tol):
    if not np.iterable(units):
        raise ValueError(f"units is a number of guards or the names of kinks; got {units!r}")
    names = [units] if isinstance(units, str) else list(units)
    known = _piece(graph, x, _choice(graph, x, None, tol)[0], tol).names
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"units names {unknown[0]!r}, no kink of f; it has {_listed(known) or 'none'}")
    if not 1 <= len(set(names)) == len(names) <= graph.size:
        raise ValueError(f"units must name between 1 and {graph.size} kinks (one a variable), none twice; got {names}")
    return names


def _meeting(graph, x, names, tol):
    least = np.inf
    for start in _starts(x):
        try:
            z, miss = _approach(graph, start, names, tol)
        except _LOST:
            continue
        if z is not None:
            return z
        least = min(least, miss)
    raise ValueError(
        f"{_listed(names)} were not found to vanish together from {_RESTARTS + 1} points around x: the nearest miss is "
        f"|guard| = {least:.2g} of its scale; they may never do so"
    )


@np.errstate(all="ignore")
def _approach(graph, start, names, tol):
    """(a common zero of the named guards or None, the miss), by damped Newton steps on the piece at hand."""

    def look(y):
        piece = _piece(graph, y, _choice(graph, y, None, tol)[0], tol)
        walls = _walls(piece, y)
        bearing = {name: [] for name in names}
        for j, name in enumerate(piece.names):
            bearing.get(name, []).append(j)
        return piece, walls, sorted(min(each, key=lambda j: abs(walls.values[j])) for each in bearing.values())

    z, (piece, walls, which) = start, look(start)
    for _ in range(50):
        y, _, miss = _settled(piece, z, which, start)
        if miss <= SOLVED:
            return y, miss
        step = np.linalg.lstsq(_gradients(piece, walls, which), -walls.values[which], rcond=TOL)[0]
        size = np.linalg.norm(walls.values[which])
        for shrink in 0.5 ** np.arange(8):
            ahead = look(z + shrink * step)
            if np.linalg.norm(ahead[1].values[ahead[2]]) < (1 - shrink / 4) * size:
                break
        else:
            break
        z, (piece, walls, which) = z + shrink * step, ahead
    return None, _miss(walls, which)
