"""Many open polyhedral cones at once, each with its extreme rays, cut by one hyperplane each.

A cone {d : rows @ d > 0} with interior is, beyond its lineality space, the hull of its extreme rays (Motzkin's double
description). A hyperplane g splits it iff g takes both signs on the rays, or does not vanish on the lineality space.
The rays of both halves are the old ones, and one new ray on g for every edge that g cuts: two rays span an edge iff
no third lies on all the walls that both lie on. With a lineality space that g cuts, the rays move along it onto g.

Nothing rests on the list of rays alone. A cell that is listed has a point, to be checked on every row (`margins`). A
side that is left out has Farkas' multipliers: g = sum lambda_i rows_i, lambda >= 0. The rays only say which rows to
try: those through an optimal ray of a linear program, or those met on a walk down the faces of the dual cone
(subtract as much of a row as keeps every ray's product >= 0: one more ray is tight). The multipliers are checked by
their residual. What fails the check, or lies between rounding and NEAR, is said to be unsure.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .halfspaces import min_norm_direction
from .restriction import TooManyChambers

ZERO = 1e-12  # a product of unit vectors up to this is taken as 0: rays of many cuts carry some rounding
NEAR = 1e-9  # beyond this it is not 0; between the two nothing is decided
SLIVER = 1e-13  # |residual| of multipliers that sum to 1: what rounding explains
RAYS = 512  # of one cone: beyond, other methods are better
WORD = 63  # rows of one cone: their incidences are bits of one word


class Cones(NamedTuple):
    """C open cones. Row i < count[c] of cone c is normals[k], of unit length, for k = faces[c, i] >= 0, and
    -normals[~k] for k < 0; span (C, r, n): an orthonormal basis of the rows' span, the first rank[c] vectors of it (of
    any shape where every rank is n). rays (N, n): the extreme rays, of unit length and orthogonal to the lineality
    space, those of one cone side by side; owner (N,) ascends; bit i of on (N,) is set iff the ray lies on row i.
    """

    normals: np.ndarray
    faces: np.ndarray
    count: np.ndarray
    span: np.ndarray
    rank: np.ndarray
    rays: np.ndarray
    on: np.ndarray
    owner: np.ndarray

    def rows(self, c: np.ndarray, i: Any) -> np.ndarray:
        """Row i of cone c, for arrays of numbers."""
        return self.vectors(self.faces[c, i])

    def vectors(self, names: np.ndarray) -> np.ndarray:
        """(..., n): normals[k] for k >= 0, -normals[~k] for k < 0."""
        return np.where(names < 0, -1.0, 1.0)[..., None] * self.normals.take(_number(names), axis=0)


def whole(n: int) -> Cones:
    """The whole space, as one cone."""
    one, none = np.zeros(1, dtype=int), np.zeros((1, 0, n))
    return Cones(none[0], np.zeros((1, 0), int), one, none, one, none[0], np.zeros(0, np.uint64), one[:0])


def taken(cones: Cones, which: np.ndarray) -> Cones:
    """The cones of these numbers, in this order; a number may come more than once."""
    first, many = _ends(cones.owner, len(cones.count))
    rays, owner = _ragged(first[which], many[which])
    faces, count, span, rank = (a[which] for a in cones[1:5])
    return Cones(cones.normals, faces, count, span, rank, cones.rays[rays], cones.on[rays], owner)


def joined(parts: Sequence[Cones]) -> Cones:
    """One list of cones after the other, all of the same normals."""
    if len(parts) == 1:
        return parts[0]
    columns = list(zip(*parts, strict=True))
    faces, span = (_stacked(columns[k]) for k in (1, 3))
    shift = np.cumsum([0, *(len(part.count) for part in parts)])
    owner = np.concatenate([part.owner + a for part, a in zip(parts, shift, strict=False)])
    count, rank, rays, on = (np.concatenate(columns[k]) for k in (2, 4, 5, 6))
    return Cones(parts[0].normals, faces, count, span, rank, rays, on, owner)


def _stacked(arrays):
    most = max(a.shape[1] for a in arrays)
    return np.concatenate([_padded(a, most) for a in arrays])


def _padded(array, length):
    """Zeros up to that length of axis 1."""
    short = length - array.shape[1]
    if short <= 0:
        return array
    return np.concatenate([array, np.zeros((len(array), short, *array.shape[2:]), array.dtype)], axis=1)


def interior(cones: Cones) -> np.ndarray:
    """(C, n): the sum of the rays at length 1, 0 for the whole space."""
    total = np.zeros((len(cones.count), cones.normals.shape[1]))
    if len(cones.rays):
        first = _firsts(cones.owner)
        total[cones.owner[first]] = np.add.reduceat(cones.rays, first)
        length = np.sqrt(np.einsum("ij,ij->i", total, total))
        total /= np.where(length > 0, length, 1.0)[:, None]
    return total


def margins(cones: Cones, points: np.ndarray) -> np.ndarray:
    """(C,): the least product of each point with the rows of its cone, inf without rows."""
    size = cones.faces.shape[1]
    if not size:
        return np.full(len(cones.count), np.inf)
    rows = cones.rows(np.arange(len(cones.count))[:, None], np.arange(size))
    heights = (rows @ points[:, :, None])[:, :, 0]
    heights[np.arange(size) >= cones.count[:, None]] = np.inf
    return heights.min(axis=1)


def cells(
    cones: Any, walls: Any, limit: int, *, ahead: bool = False
) -> tuple[Cones, np.ndarray, np.ndarray, NDArray[np.bool_]]:
    """(cells, parent, signs, unsure): each cone divided by its own walls, (C, G) names as in `faces`, or of zeros.

    parent (C',) and signs (C', G) of the cells, 0 for a zero wall; `ahead`: only those with no sign -1. unsure (C,):
    cones of which nothing is claimed; no cell of theirs is listed. Raises TooManyChambers above limit.

    Each cone is split by the first wall that cuts it, until none does, so that only cones that are cut are touched.
    """
    every, unsure, done, known = len(cones.count), np.zeros(len(cones.count), dtype=bool), [], 0
    live = cones.normals.any(axis=1)[_number(walls)]
    left, parent, signs = live, np.arange(every), np.zeros(walls.shape, dtype=np.int8)
    heights = _products(cones, walls, np.arange(len(cones.rays)))
    while True:
        cut, sign, doubt = _judged(cones, walls, heights, left)
        signs = signs + sign
        unsure[parent[doubt]] = True
        good = ~unsure[parent]
        if ahead:
            good &= (signs >= 0).all(axis=1)
        more = cut.any(axis=1)
        over, some = _true(good & ~more), _true(good & more)
        done.append((taken(cones, over), parent[over], signs[over]))
        known += len(over)
        if known + len(some) * (2 - ahead) > limit and not ahead:
            raise TooManyChambers(known + 2 * len(some), limit)
        if not len(some):
            break
        if len(some) < len(more):
            heights = heights.take(_true((good & more)[cones.owner]), axis=0)
            cones, cut, walls, parent, signs = taken(cones, some), cut[some], walls[some], parent[some], signs[some]
        wall = np.argmax(cut, axis=1)
        here = np.arange(len(wall))
        column = heights[np.arange(len(heights)), wall[cones.owner]]
        cones, up, side, place, fresh, sure = _split(cones, walls[here, wall], column, (1,) if ahead else (-1, 1))
        unsure[parent[~sure]] = True
        cut[here, wall] = False
        walls, left, parent, signs = walls.take(up, axis=0), cut.take(up, axis=0), parent[up], signs.take(up, axis=0)
        signs[np.arange(len(up)), wall[up]] = side
        heights = heights.take(place, axis=0) if len(heights) else np.zeros((len(place), walls.shape[1]))
        heights[fresh] = _products(cones, walls, fresh)
    found = joined([cells for cells, _, _ in done])
    parent, signs = (np.concatenate([part[k] for part in done]) for k in (1, 2))
    if unsure[parent].any():
        good = _true(~unsure[parent])
        found, parent, signs = taken(found, good), parent[good], signs[good]
    return found, parent, signs, unsure


def _number(names):
    return np.where(names < 0, ~names, names)


def _products(cones, walls, which):
    """(rays, G): these rays by the walls of their cones."""
    owner = cones.owner[which]
    product = np.empty((len(which), walls.shape[1]))
    rays = cones.rays.take(which, axis=0)
    for j in range(walls.shape[1]):
        product[:, j] = np.einsum("ij,ij->i", rays, cones.vectors(walls[:, j]).take(owner, axis=0))
    return product


def _judged(cones, walls, heights, left):
    """(cut, sign, doubt): of the walls left (C, G), those that cut the cone and the sides that the others show; and
    the cones (C,) where rounding could decide or a side is not proved.
    """
    C, n = len(cones.count), cones.normals.shape[1]
    if not left.any():
        return left, np.zeros(left.shape, dtype=np.int8), np.zeros(C, dtype=bool)
    low, high = np.zeros(left.shape), np.zeros(left.shape)
    near = np.zeros(left.shape, dtype=bool)
    if len(cones.rays):
        start = _firsts(cones.owner)
        some, size = cones.owner[start], np.abs(heights)
        low[some], high[some] = np.minimum.reduceat(heights, start), np.maximum.reduceat(heights, start)
        near[some] = np.logical_or.reduceat((size > ZERO) & (size <= NEAR), start)
    cut = left & (low < -ZERO) & (high > ZERO)
    if (cones.rank < n).any():
        slope = np.linalg.norm(_beyond(cones.span, cones.vectors(walls)), axis=2)
        cut |= left & (slope > NEAR)
        near |= (slope > ZERO) & (slope <= NEAR)
    doubt = (left & near).any(axis=1) | (left.any(axis=1) & (np.bincount(cones.owner, minlength=C) > RAYS))
    doubt |= cut.any(axis=1) & (cones.count >= WORD)
    implied = left & ~cut & ~doubt[:, None]
    sign = implied * np.where(high > ZERO, 1, np.where(low < -ZERO, -1, 0)).astype(np.int8)
    doubt |= (implied & (sign == 0)).any(axis=1)
    c, g = np.nonzero(sign)
    if len(c):
        doubt[c[~_implied(cones, c, sign[c, g], cones.vectors(walls[c, g]), heights, g)]] = True
    return cut, sign, doubt


def _beyond(span, vectors):
    """What of the vectors (C, G, n) is orthogonal to the spans."""
    for _ in range(2):  # the second time for what rounding left
        vectors = vectors - (vectors @ span.swapaxes(1, 2)) @ span
    return vectors


def _split(cones, wall, height, sides):
    """(halves, parent, side, place, fresh, sure): each cone cut in two by its wall, which has these products.

    Ray i of the halves is ray place[i] of the cones, unless i is among fresh.
    """
    normals, faces, count, span, rank, rays, on, owner = cones
    C, n, walls = len(count), normals.shape[1], cones.vectors(wall)
    up, down = height > ZERO, height < -ZERO
    free, beyond, slope = np.zeros(C, dtype=bool), walls, np.ones(C)
    if (rank < n).any():
        beyond = _beyond(span, walls[:, None])[:, 0]
        slope = np.sqrt(np.einsum("ij,ij->i", beyond, beyond))
        free = slope > NEAR
        beyond = beyond / np.where(free, slope, 1.0)[:, None]
    bit = np.left_shift(np.uint64(1), count.astype(np.uint64))
    downs = np.bincount(owner[down], minlength=C)
    edge, common, whose = _edges(cones, height, up, down, downs, ~free)
    sure = np.ones(C, dtype=bool)
    sure[whose[~np.isfinite(edge[:, 0])]] = False
    first = np.arange(C) * len(sides)
    # the rays: old ones, moved along a lineality space that is cut, on the wall or on this side of it; and new ones
    moved = free[owner]
    sources, bits = [rays], [np.where(moved | ~(up | down), on | bit[owner], on)]
    if moved.any():
        step = height * (free / np.where(free, slope, 1.0))[owner]
        sources = [rays - step[:, None] * beyond.take(owner, axis=0)]
        sources[0] /= np.sqrt(np.einsum("ij,ij->i", sources[0], sources[0]))[:, None]
    ends = []
    for k, side in enumerate(sides):
        kept = _true(moved | ~(down if side > 0 else up))
        ends += [(kept, first[owner[kept]] + k), (np.arange(len(edge)) + len(rays), first[whose] + k)]
    sources.append(edge)
    bits.append(common | bit[whose])
    out = _true(free)
    for k, side in enumerate(sides if len(out) else ()):
        ends.append((np.arange(len(out)) + sum(map(len, sources)), first[out] + k))
        sources.append(side * beyond[out])
        bits.append(bit[out] - np.uint64(1))
    place, owner = (np.concatenate(column) for column in zip(*ends, strict=True))
    order = np.argsort(owner, kind="stable")
    owner, place = owner[order], place[order]
    fresh = np.append(moved, np.ones(sum(map(len, sources[1:])), dtype=bool))[place]
    fresh, old = _true(fresh), np.where(place < len(rays), place, 0)
    rays, on = np.concatenate(sources).take(place, axis=0), np.concatenate(bits)[place]
    # the rows
    parent, side = np.repeat(np.arange(C), len(sides)), np.tile(np.array(sides), C)
    faces = _padded(faces.take(parent, axis=0), count.max(initial=0) + 1)
    faces[np.arange(len(parent)), count[parent]] = np.where(side > 0, wall[parent], ~wall[parent])
    if (rank + free < n).any():
        span, new = span.take(parent, axis=0), _true(free[parent])
        if len(new):
            span = _padded(span, rank.max() + 1)
            span[new, rank[parent[new]]] = beyond[parent[new]]
    else:
        span = np.zeros((len(parent), 0, n))
    halves = Cones(normals, faces, count[parent] + 1, span, (rank + free)[parent], rays, on, owner)
    return halves, parent, side, old, fresh, sure


def _edges(cones, height, up, down, downs, crossed):
    """(rays (e, n), on (e,), cone (e,)): where the walls meet the edges of the crossed cones."""
    rays, on, owner = cones.rays, cones.on, cones.owner
    inside = crossed[owner]
    upper, lower = _true(up & inside), _true(down & inside)
    if not len(upper):
        return rays[:0], on[:0], owner[:0]
    many = downs * crossed
    start = np.cumsum(many) - many
    partner, pair = _ragged(start[owner[upper]], many[owner[upper]])
    p, q = upper[pair], lower[partner]
    common = on[p] & on[q]
    edge = np.bitwise_count(common) >= cones.rank[owner[p]] - 2
    p, q, common = p[edge], q[edge], common[edge]
    simple = np.ones(len(cones.count), dtype=bool)  # rank - 1 rows through each ray: rank - 2 common ones are an edge
    simple[owner[np.bitwise_count(on) != cones.rank[owner] - 1]] = False
    if not simple.all():
        check = _true(~simple[owner[p]])
        if len(check):
            first, size = _ends(owner, len(cones.count))
            c = owner[p[check]]
            third, pair = _ragged(first[c], size[c])
            above = (common[check][pair] & ~on[third]) == 0
            above = np.bincount(pair[above], minlength=len(check))
            kept = np.ones(len(p), dtype=bool)
            kept[check[above != 2]] = False
            p, q, common = p[kept], q[kept], common[kept]
    new = height[p, None] * rays.take(q, axis=0) - height[q, None] * rays.take(p, axis=0)
    length = np.sqrt(np.einsum("ij,ij->i", new, new))
    length[length <= NEAR * (height[p] - height[q])] = np.nan  # opposite rays: the cone is all but a half-space
    return new / length[:, None], common, owner[p]


def _implied(cones, which, sign, walls, heights, column):
    """Of each pair of a cone and a wall, with these products: is sign * wall, to rounding, a combination of the
    cone's rows with multipliers >= 0?
    """
    first, many = _ends(cones.owner, len(cones.count))
    if not many[which].all():  # a wall not 0 on the whole space
        return np.zeros(len(which), dtype=bool)
    proved, target = np.zeros(len(which), dtype=bool), sign[:, None] * walls
    for prove in (_at_a_vertex, _down_the_faces):
        rest = _true(~proved)
        if len(rest):
            at, own = _ragged(first[which[rest]], many[which[rest]])
            left = np.maximum(sign[rest][own] * heights[at, column[rest][own]], 0.0)
            proved[rest] = prove(cones, which[rest], target[rest], at, own, left)
    for k in _true(~proved):  # least distance loses no digits
        rows = np.vstack([cones.rows(which[k], np.arange(cones.count[which[k]])), -target[k]])
        proved[k] = min_norm_direction(rows, NEAR)[1] <= SLIVER
    return proved


def _at_a_vertex(cones, which, target, at, own, left):
    """Multipliers of the last row and of those through the ray at which target - t * (the last row) vanishes first.

    That difference is >= 0 on the cone and 0 on the ray, so it is a combination of the rows through it: the
    optimality conditions of a linear program whose vertices are at hand. The last row is in most of these
    combinations, as before it the wall did cut the cone. False where the rows through the ray are not rank - 1.
    """
    on, start = cones.on[at], _firsts(own)
    if np.mean(np.bitwise_count(on) == cones.rank[which][own] - 1) < 0.5:
        return np.zeros(len(which), dtype=bool)
    last = cones.count[which] - 1
    rise = np.einsum("ij,ij->i", cones.rays.take(at, axis=0), cones.rows(which, last).take(own, axis=0))
    rise[(np.right_shift(on, last.astype(np.uint64)[own]) & np.uint64(1)) != 0] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(rise > ZERO, left / rise, np.inf)
    least = _true(ratio == np.minimum.reduceat(ratio, start)[own])[::-1]
    vertex = np.zeros(len(which), dtype=int)
    vertex[own[least]] = least
    meet, rank = on[vertex], cones.rank[which]
    simple = (np.bitwise_count(meet) == rank - 1) & np.isfinite(ratio[vertex])
    used = np.repeat(last[:, None], rank.max(), axis=1)
    for step in range(1, used.shape[1]):
        lowest = meet & -meet
        used[:, step], meet = np.bitwise_count(lowest - np.uint64(1)), meet ^ lowest
    return simple & _solved(cones, which, target, used, simple[:, None] & (np.arange(used.shape[1]) < rank[:, None]))


def _solved(cones, which, target, used, there):
    """Is each target a combination, with multipliers >= 0, of the rows used[there] of its cone, by least squares?"""
    rows, size = cones.rows(which[:, None], np.where(there, used, 0)) * there[:, :, None], there.shape[1]
    if size == rows.shape[2] and (there.all(axis=1) | ~there.any(axis=1)).all():
        square, tall = rows.swapaxes(1, 2) + ~there.any(axis=1)[:, None, None] * np.eye(size), None
    else:  # normal equations
        square, tall = rows @ rows.swapaxes(1, 2), rows
        square[:, np.arange(size), np.arange(size)] += ~there
    multipliers = np.zeros(used.shape)
    try:
        for _ in range(1 if tall is None else 2):  # the second time for the digits that squaring lost
            rest = (target - (multipliers[:, None, :] @ rows)[:, 0])[:, :, None]
            multipliers += np.linalg.solve(square, rest if tall is None else rows @ rest)[:, :, 0]
    except np.linalg.LinAlgError:
        return np.zeros(len(which), dtype=bool)
    return _balanced(target, rows, np.maximum(multipliers, 0.0))


def _down_the_faces(cones, which, target, at, own, left):
    """As much of a row as keeps the rest >= 0 on every ray, again and again: each time one more ray is tight."""
    rays, on = cones.rays.take(at, axis=0), cones.on[at]
    steps = int(cones.rank[which].max(initial=0))
    used, multipliers, place = np.zeros((len(which), steps), int), np.zeros((len(which), steps)), np.arange(len(which))
    full = np.left_shift(np.uint64(1), cones.count[which].astype(np.uint64)) - np.uint64(1)
    start, every = _firsts(own), ~np.uint64(0)
    for step in range(steps):
        meet = np.bitwise_and.reduceat(np.where(left <= ZERO, on, every), start) & full
        lowest = np.bitwise_count((meet & -meet) - np.uint64(1)) % np.uint8(64)
        i = used[place, step] = np.minimum(lowest, cones.faces.shape[1] - 1)
        rise = np.einsum("ij,ij->i", rays, cones.rows(which[place], i).take(own, axis=0))
        rise[(np.right_shift(on, lowest.astype(np.uint64)[own]) & np.uint64(1)) != 0] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.minimum.reduceat(np.where(rise > ZERO, left / rise, np.inf), start)
        most[~np.isfinite(most) | (meet == 0)] = 0.0
        multipliers[place, step] = most
        left = left - most[own] * rise
        going = ~np.logical_and.reduceat(left <= ZERO, start)
        if not going.any():
            break
        kept = _true(going[own])
        own = (np.cumsum(going) - 1)[own[kept]]
        rays, on, left = rays.take(kept, axis=0), on[kept], left[kept]
        place, full = place[going], full[going]
        start = _firsts(own)
    proved = _balanced(target, cones.rows(which[:, None], used), multipliers)
    rest = _true(~proved)
    if len(rest):  # what small products with the rays have cost
        proved[rest] = _solved(cones, which[rest], target[rest], used[rest], multipliers[rest] > 0)
    return proved


def _balanced(target, rows, multipliers):
    rest = target - (multipliers[:, None, :] @ rows)[:, 0]
    return np.sqrt(np.einsum("ij,ij->i", rest, rest)) <= SLIVER * (1 + multipliers.sum(axis=1))


def _true(mask):
    return mask.nonzero()[0]


def _firsts(owner):
    """Where each run of equal owners begins."""
    return _true(np.concatenate([[True], owner[1:] != owner[:-1]]))


def _ends(owner, count):
    """(first ray, number of rays) of each cone."""
    many = np.bincount(owner, minlength=count)
    return np.cumsum(many) - many, many


def _ragged(first, many):
    """(first[i], .., first[i] + many[i] - 1 for each i in turn, the i of each)."""
    i = np.repeat(np.arange(len(many)), many)
    ends = np.cumsum(many)
    return np.arange(ends[-1] if len(ends) else 0) + (first - ends + many)[i], i
