"""The chambers that meet at x, level by level.

Walk the kinks in order of execution. On the open cone where all earlier letters are fixed, the guards of the next
operation have derivatives linear in the direction, so its letters there are the chambers of a central arrangement
inside that cone. A strictly feasible cone is always realized. What first order rejects is settled by an identity or
a certificate; what cannot be settled is listed in `undecided`.

When the list is complete. Let h be the guards met on the way to a pattern, J their gradients at x, and N the linear
relations N J = 0. If N h = 0 identically, h is an invertible change of coordinates away from a linear map, so the fan
of h is exactly that of J. In input space of a piecewise-linear function this always holds (h is affine); in parameter
space it holds, for instance, whenever the gradients are independent.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from . import second_order, selections
from .arrangements import TooManyChambers, chambers
from .graph import PROBE, pushforward, require_same_value, unit_of
from .halfspaces import min_norm_direction, strict_direction, unit
from .kinks import TOL, Germ, Kink, germ, text
from .skeleton import Skeleton, skeleton

MAX_CHAMBERS = 100_000
COMPARED = 64  # chambers in which f is evaluated again: calls of f are slow beside everything else
TREE = 8  # at most so many walls: a tree of signs in the cone; beyond, deletion and restriction


@dataclass(frozen=True, eq=False, repr=False)
class Fan:
    """The activation patterns realized arbitrarily near x.

    kinks: one a letter. patterns: m strings over `+-0`, one a chamber, in lexicographic order of -, 0, +; at least
    one, '' where nothing ties. witnesses (m, n): a unit direction inside each chamber, or, where the chamber's
    tangent cone has no interior, a displacement w with x + w in it. complete: every pattern realized in every
    neighborhood of x, for the kinks active at this tol, is listed. reason: the criterion met, or what failed.
    undecided: patterns neither realized nor excluded (a shorter string stands for all that begin with it).
    margin: smallest |guard| / scale among the kinks that are not active.
    """

    kinks: tuple[Kink, ...]
    patterns: tuple[str, ...]
    witnesses: np.ndarray
    complete: bool
    reason: str
    undecided: tuple[str, ...]
    margin: float

    def __len__(self):
        return len(self.patterns)

    def __repr__(self):
        k, m = len(self.kinks), len(self.patterns)
        state = "complete" if self.complete else f"incomplete, {len(self.undecided)} undecided"
        return f"Fan({m} pattern{'s' * (m != 1)} of {k} kink{'s' * (k != 1)}, {state})"


@dataclass(frozen=True, eq=False)
class Cone:
    """An open cone of directions on which the letters so far are fixed: rows @ w > 0, and du/dx there."""

    signs: tuple
    rows: np.ndarray
    witness: np.ndarray
    slots: np.ndarray


def local_fan(f, x, *, tol=TOL, max_chambers=MAX_CHAMBERS, mapper=map) -> Fan:
    """All activation patterns of f realized arbitrarily near x, each with a witness.

    f: autograd.numpy function of one flat array (n,), or a Graph. tol: a guard ties iff |guard| <= tol * its scale.
    mapper: a `map` over independent cones (`ProcessPoolExecutor().map`); the result does not depend on it.
    Raises `TooManyChambers` beyond max_chambers, and what `from_function` raises; never enumerates 2^k.
    """
    return walk(f, x, tol=tol, max_chambers=max_chambers, mapper=mapper)[1]


def walk(f, x, *, tol=TOL, max_chambers=MAX_CHAMBERS, mapper=map) -> tuple[Skeleton, Fan]:
    """The skeleton of f at x and its fan, f compared with its recording in each of up to 64 chambers."""
    skel = skeleton(germ(f, x, tol=tol))
    here, fan = skel.germ, fan_of(skel, max_chambers=max_chambers, mapper=mapper)
    for witness in fan.witnesses[:: -(-len(fan) // COMPARED)]:
        step, length = PROBE * unit_of(here.x), float(np.linalg.norm(witness))
        require_same_value(here.graph, here.graph.source, here.x + witness * min(1.0, step / length))
    return skel, fan


def fan_of(skel: Skeleton, *, max_chambers=MAX_CHAMBERS, mapper=map) -> Fan:
    """The fan of a germ whose skeleton is at hand."""
    here = skel.germ
    if not isinstance(max_chambers, (int, np.integer)) or max_chambers < 1:
        raise ValueError(f"max_chambers must be a positive integer; got {max_chambers!r}")
    cones, flags = _first_order(skel, max_chambers, mapper)
    signs: dict[tuple[int, ...], np.ndarray] = {cone.signs: cone.witness for cone in cones}
    undecided = []
    if flags:
        undecided, reason = [text(prefix) for prefix, _ in flags], flags[0][1]
    elif not here.kinks:
        reason = "no kink is active, so f is smooth near x"
    elif affine_guards(here):
        reason = "every guard is affine in x, so the fan of the tangent cones is exact"
    elif all(second_order.relations_persist(skel, np.array(s, dtype=int)) for s in signs):
        reason = (
            "on every chamber the linear relations between the guards' gradients hold for the guards themselves "
            "(with probability 1: checked at random points near x)"
        )
    else:
        signs, undecided, reason = second_order.search(skel, signs, max_chambers)
    order = sorted(signs)
    witnesses = np.array([signs[s] for s in order]).reshape(len(order), here.x.size)
    witnesses.flags.writeable = False
    patterns = tuple(text(s) for s in order)
    return Fan(here.kinks, patterns, witnesses, not undecided, reason, tuple(undecided), here.margin)


def affine_guards(here: Germ) -> bool:
    graph = here.graph
    return all(
        graph.degrees[parent] <= 1
        for stage in here.stages
        for parent in graph.program.operations[stage.position - 1].parents
    )


# ---------------------------------------------------------------- first order


def _first_order(skel, max_chambers, mapper):
    """The cones after the last stage, and the prefixes whose subdivision was flagged, with the flag's reason."""
    n = skel.germ.x.size
    start = np.zeros(n)
    start[0] = 1.0
    cones, flags = [Cone((), np.zeros((0, n)), start, np.zeros((skel.size, n)))], []
    for stage in skel.germ.stages:
        divide = {
            selections.TwoWayTies: _two_way_task,
            selections.ExtremumTie: _extremum_task,
            selections.SortTie: _sort_task,
        }[type(stage.ties)]
        for cone in cones:
            _require_continuous(skel, stage, cone.slots)
        tasks = [divide(skel, stage, cone, max_chambers) for cone in cones]
        grown = []
        for cone, (children, flag) in zip(cones, mapper(_divide, tasks), strict=True):
            if flag:
                flags.append((cone.signs, flag))
            for signs, rows, witness in children:
                slots = skel.advance(stage, signs, cone.slots)
                grown.append(Cone((*cone.signs, *(int(s) for s in signs)), rows, witness, slots))
            if len(grown) > max_chambers:
                raise TooManyChambers(len(grown), max_chambers)
        cones = grown
    return cones, flags


def _divide(task):
    function, *arguments = task
    return function(*arguments)


def _require_continuous(skel, stage, slots):
    """The two sides of a `where` must agree to first order along the zero set of its guard."""
    if skel.germ.graph.program.operations[stage.position - 1].name != "where":
        return
    ties = stage.ties
    guards = skel.cleaned(skel.rows(stage.position, ties.guard_terms), slots)
    (k, e, c), (j, d, b) = ties.plus, ties.minus
    gaps = skel.cleaned(skel.rows(stage.position, ((k, e, c), (j, d, -b))), slots)
    length = np.linalg.norm(guards, axis=1, keepdims=True)
    normals = guards / np.where(length > 0, length, 1.0)
    along = gaps - np.sum(gaps * normals, axis=1, keepdims=True) * normals
    off = (length[:, 0] > 0) & (np.linalg.norm(along, axis=1) > 1e-7 * np.linalg.norm(gaps, axis=1))
    if off.any():
        name = skel.germ.kinks[stage.first + int(np.argmax(off))].name
        raise ValueError(
            f"where: at {name} the sides agree at x but not along the zero set of the guard near x; a selection must "
            "be continuous, so choose a guard that vanishes only where a equals b"
        )


def distinct_normals(rows):
    """Distinct unit normals among the nonzero rows, in order."""
    unit, _ = _aligned(rows)
    unit = unit[unit.any(axis=1)]
    return unit[np.sort(np.unique(unit, axis=0, return_index=True)[1])]


ANGLE = 1e-10  # normals this close are one normal: rounding must not open slivers between guards that coincide
SLIVER = 1e-13  # but beyond what rounding explains, the list is not called complete


def _aligned(rows):
    """(unit rows, how far apart those were that are now one): parallel or antiparallel to within ANGLE, exactly so.

    Zero rows stay zero. The distance is the largest entry times sqrt(n), an upper bound of the Euclidean one.
    """
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    unit = rows / np.where(largest > 0, largest, 1.0)  # first, so that no square overflows
    unit = unit / np.where(largest > 0, np.linalg.norm(unit, axis=1, keepdims=True), 1.0)
    key = unit @ generic_direction(rows.shape[1])
    side = np.where(key < 0, -1.0, 1.0)[:, None]
    unit, key = side * unit, np.abs(key)  # one of +-u, so that only neighbours in the key can coincide
    order, apart = np.argsort(key, kind="stable"), 0.0
    for at, i in enumerate(order):
        for j in order[:at][::-1]:
            if key[i] - key[j] > ANGLE:
                break
            gap = np.abs(unit[i] - unit[j]).max()
            if gap <= ANGLE:
                unit[i], apart = unit[j], max(apart, float(gap) * np.sqrt(rows.shape[1]))
                break
    return side * unit + 0.0, apart  # no negative zeros: equal rows must be equal bytes


def _two_way_task(skel, stage, cone, limit):
    rows = skel.rows(stage.position, stage.ties.guard_terms)
    return _two_way_children, skel.cleaned(rows, cone.slots), cone.rows, cone.witness, limit


def _two_way_children(guards, rows, witness, limit):
    live = np.flatnonzero(np.abs(guards).max(axis=1) > 0)
    if not len(live):
        return [(np.zeros(len(guards), dtype=int), rows, witness)], ""
    cells, flag = _subdivide(rows, witness, guards[live], limit)
    children = []
    for sign, ahead, inside in cells:
        signs = np.zeros(len(guards), dtype=int)
        signs[live] = sign
        children.append((signs, ahead, inside))
    return children, flag


def _subdivide(rows, witness, walls, limit):
    """The cells into which the walls cut the open cone rows @ w > 0: [(signs, rows, witness)], and a flag or ''."""
    if len(walls) <= TREE:
        cells = _tree(rows, witness, walls)
        if cells is not None:
            return cells, ""
    aligned, apart = _aligned(np.vstack([rows, walls]))
    cone, walls = aligned[: len(rows)], aligned[len(rows) :]
    found = chambers(walls, cone=cone if len(cone) else None, max_chambers=max(limit, 2))
    cells = [
        (sign, distinct_normals(np.vstack([cone, sign[:, None] * walls])), inside)
        for sign, inside in zip(found.signs, found.witnesses, strict=True)
    ]
    if apart > SLIVER:
        return cells, f"two normals closer than {ANGLE:g} were taken as one: a sliver may be missing"
    return cells, "" if found.complete else found.reason


def _tree(rows, witness, walls):
    """The same cells, wall by wall: the witness shows one side, a direction or Gordan's multipliers settle
    the other one. None where that is not clear: rows all but parallel, or a cone as thin as rounding.
    """
    first, units = len(rows), np.vstack([rows, unit(walls)])
    known, cells = {}, [(np.zeros(0, dtype=int), rows, witness)]
    cosine = np.tril(units[first:] @ units.T, first - 1)
    for j, i in zip(*np.nonzero(np.abs(cosine) > 1 - 1e-9), strict=True):
        facing = int(np.sign(cosine[j, i]))
        if np.abs(units[first + j] - facing * units[i]).max() > SLIVER:
            return None
        known.setdefault(j, (i, facing))
    for j, wall in enumerate(units[first:]):
        divided = []
        for signs, cone, inside in cells:
            if j in known:  # parallel to a row of the cone, or to an earlier wall
                i, facing = known[j]
                divided.append((np.append(signs, facing * (signs[i - first] if i >= first else 1)), cone, inside))
                continue
            here = float(wall @ inside)
            for side in (-1, 1):
                ahead, there = np.vstack([cone, side * wall]), inside
                if side * here <= 1e-6 * np.linalg.norm(inside):
                    there, margin, _ = min_norm_direction(ahead, 1e-9)
                    if there is None and margin > SLIVER:
                        return None
                if there is not None:
                    divided.append((np.append(signs, side), ahead, there))
        cells = divided
    return cells


def _member_functionals(skel, stage, cone):
    """(k, n) functionals of the tied members, equal ones made exactly equal, and the class of each."""
    ties = stage.ties
    one = np.ones(len(ties.members))
    rows = skel.rows(stage.position, ((0, ties.members, one),))
    values = skel.under(rows, cone.slots)
    labels, classes = np.full(len(values), -1), []
    for k in range(len(values)):
        for c, first in enumerate(classes):
            if not np.any(skel.cleaned((rows[k] - rows[first])[None], cone.slots)):
                labels[k] = c
                break
        else:
            labels[k] = len(classes)
            classes.append(k)
    return values[classes], labels


def _extremum_task(skel, stage, cone, limit):
    values, labels = _member_functionals(skel, stage, cone)
    return _extremum_children, stage.ties.side * values, labels, cone.rows, cone.witness


def _extremum_children(values, labels, rows, witness):
    children = []
    for c in range(len(values)):
        ahead = distinct_normals(np.vstack([rows, np.delete(values[c] - values, c, axis=0)]))
        inside, _, _ = strict_direction(ahead)
        if inside is not None:
            alone = np.sum(labels == c) == 1
            children.append((np.where(labels == c, 1 if alone else 0, -1), ahead, inside))
    return children, ""


def _sort_task(skel, stage, cone, limit):
    values, labels = _member_functionals(skel, stage, cone)
    return _sort_children, stage.ties, values, labels, cone.rows, cone.witness, limit


def _sort_children(ties, values, labels, rows, witness, limit):
    first, second = np.triu_indices(len(values), 1)
    if not len(first):
        return [(np.zeros(ties.letters, dtype=int), rows, witness)], ""
    walls = values[first] - values[second]
    cells, flag = _subdivide(rows, witness, walls, limit)
    children = []
    for sign, ahead, inside in cells:
        table = np.zeros((len(values), len(values)), dtype=int)
        table[first, second], table[second, first] = sign, -sign
        signs = np.array(ties.signs(lambda a, b, table=table: table[labels[a], labels[b]]))
        children.append((signs, ahead, inside))
    return children, flag


# ---------------------------------------------------------------- one pattern, without enumeration


def pattern_along(skel: Skeleton, direction=None):
    """Signs of a chamber whose closure contains x + t * direction, later letters under the earlier ones.

    Where the direction lies on a wall, a fixed generic direction decides (`generic_direction`), so the pattern is
    always that of one realized chamber.
    """
    here = skel.germ
    n = here.x.size
    generic = generic_direction(n)
    first = generic if direction is None else direction
    slots, signs = np.zeros((skel.size, n)), []
    for stage in here.stages:
        ties = stage.ties
        _require_continuous(skel, stage, slots)
        if isinstance(ties, selections.TwoWayTies):
            rows = skel.rows(stage.position, ties.guard_terms)
            letters = _lexicographic(skel.cleaned(rows, slots), first, generic)
            letters = second_order.settle(skel, stage, signs, letters, first, generic)
        else:
            values, labels = _member_functionals(skel, stage, Cone((), np.zeros((0, n)), generic, slots))
            first_, second_ = np.array(list(product(range(len(values)), repeat=2))).T
            by_class = _lexicographic(values[first_] - values[second_], first, generic).reshape(len(values), -1)
            compare = second_order.settle_members(skel, stage, signs, by_class[np.ix_(labels, labels)], first, generic)
            letters = _letters_from(ties, compare)
        slots = skel.advance(stage, letters, slots)
        signs += [int(s) for s in letters]
    return np.array(signs, dtype=int)


def pattern_by_tangents(here: Germ, direction=None):
    """The same signs in one forward pass of two tangents, whatever the number of kinks; None where that is in doubt.

    In doubt: a derivative that is small but not zero beside its generic one, or beside those of the other guards, so
    that only the gradient itself tells rounding from a slope; `where`, whose continuity wants gradients; an operation
    without a forward derivative.
    """
    n = here.x.size
    generic = generic_direction(n)
    first = generic if direction is None else direction / np.linalg.norm(direction)
    at, seen = {}, []
    for stage in here.stages:
        at.setdefault(stage.position, []).append(stage)
    if any(here.graph.program.operations[i - 1].name == "where" for i in at):
        return None
    skel, signs = skeleton(here), np.zeros(len(here.kinks), dtype=int)

    def branch_of(i, along):
        branch = here.decided[i]
        for stage in at.get(i, ()):
            flats = [[np.ravel(a) for a in args] for args in along]
            signs[stage.letters] = _letters_by_tangents(skel, stage, signs, flats, first, generic, seen)
            branch = selections.extend(branch, list(stage.ties.pieces(signs[stage.letters])))
        return branch

    try:
        with np.errstate(all="ignore"):
            pushforward(here.graph, here.tape, (first, generic), branch_of)
    except (_InDoubt, NotImplementedError):
        return None
    slopes = np.concatenate([*seen, np.zeros(1)])
    small = (slopes != 0) & (slopes <= 1e-10 * slopes.max())
    return None if small.any() else signs


class _InDoubt(ArithmeticError):
    """Tangents alone do not decide."""


def _letters_by_tangents(skel, stage, signs, flats, first, generic, seen):
    ties, before = stage.ties, signs[: stage.first]
    if isinstance(ties, selections.TwoWayTies):
        slopes = [sum(c * flat[k][e] for k, e, c in ties.guard_terms) for flat in flats]
        terms = [sum(np.abs(flat[k][e]) for k, e, _ in ties.guard_terms) for flat in flats]
        letters = _signs_of_slopes(slopes, terms)
        seen.append(np.abs(slopes[1]))
        return second_order.settle(skel, stage, before, letters, first, generic)
    values = [flat[0][ties.members] for flat in flats]
    slopes = [(v[:, None] - v[None]).ravel() for v in values]
    terms = [(np.abs(v)[:, None] + np.abs(v)[None]).ravel() for v in values]
    compare = _signs_of_slopes(slopes, terms).reshape(len(ties.members), -1)
    seen.append(np.abs(slopes[1]))
    return _letters_from(ties, second_order.settle_members(skel, stage, before, compare, first, generic))


def _signs_of_slopes(slopes, terms):
    """Sign of the first slope, or where that is zero of the generic one; `_InDoubt` where rounding could decide."""
    if np.any((slopes[0] != 0) & (np.abs(slopes[0]) <= 1e-9 * np.abs(slopes[1]))):
        raise _InDoubt  # on a wall but for rounding
    sign = np.zeros(len(slopes[0]), dtype=int)
    for slope, term in zip(slopes, terms, strict=True):
        sure = np.abs(slope) > 1e-9 * (term + term.max(initial=0.0))
        if np.any((sign == 0) & ~sure & (slope != 0)):
            raise _InDoubt
        sign = np.where(sign == 0, np.sign(slope) * sure, sign).astype(int)
    return sign


def _letters_from(ties, compare):
    """Letters of a max, min or sort from the signs of the members' differences."""
    if isinstance(ties, selections.SortTie):
        return np.array(ties.signs(lambda a, b: compare[a, b]), dtype=int)
    ahead = (ties.side * compare).sum(axis=1)
    best = ahead == ahead.max()
    return np.where(best, 1 if best.sum() == 1 else 0, -1)


def generic_direction(n) -> np.ndarray:
    """The documented direction that decides kinks by default: sin(1), sin(2), ..., normalized.

    By Lindemann-Weierstrass these sines are linearly independent over the algebraic numbers, so a guard whose gradient
    has algebraic entries (floats are) vanishes along it only where the gradient is zero.
    """
    d = np.sin(np.arange(1, n + 1))
    return d / np.linalg.norm(d)


def _lexicographic(functionals, first, generic):
    """Sign along `first`, and where that is below rounding, along `generic`; 0 only for a zero functional."""
    size = np.abs(functionals).max(axis=1, initial=0)
    lead, tail = functionals @ first, functionals @ generic
    return np.where(
        size == 0, 0, np.where(np.abs(lead) > 1e-12 * size * np.linalg.norm(first), np.sign(lead), np.sign(tail))
    ).astype(int)
