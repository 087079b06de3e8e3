"""Layered patterns compiled by numba (the extra `fast`): all levels of two-way kinks in one depth-first descent.

What `cones` does to many cones at once, done to one cone at a time, by the same rules and the same certificates: a
cone is its extreme rays; a wall with rays on both sides splits it; a side without rays is left out only with Farkas'
multipliers. On the way down, the walls of a level follow from du/dx under the letters above them, so rows, walls and
slots of the one cone at hand are all that is kept, and a cone that is done costs nothing more. Whatever the rules call
unsure ends the descent as doubtful: `cones` says which cone it is, and goes on with that cone alone.

The functions below are plain Python until `patterns` is first called, which compiles them: numba is imported there.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import comb, prod
from typing import Any, NamedTuple

import numpy as np

from . import cones, restriction
from .compiled import DOUBTFUL, FASTMATH, MORE, SETTLED, TOO_MANY, available

ARENA, LIST = 1 << 12, 1 << 16  # rays and patterns that there is room for at first; then eight times as many
OPEN = 2  # no sign yet
FIRST, SECOND, DONE = 1, 2, 3  # which half of a cone is next


class Program(NamedTuple):
    """Everything that a descent reads. Functional i is x[i] + sum_j val[j] du/dx[idx[j]], ptr[i] <= j < ptr[i + 1]: W
    walls, level by level, then what the K letters choose from when positive, then when negative.

    levels (L, 4): first and last wall, first and last letter of each level. Letter k is facing[k] times the sign of
    wall group[k], 0 where that is -1; slot k is its output.
    """

    x: np.ndarray
    ptr: np.ndarray
    idx: np.ndarray
    val: np.ndarray
    levels: np.ndarray
    group: np.ndarray
    facing: np.ndarray


class Patterns(NamedTuple):
    """letters (m, K), points (m, n) of unit length, signs (m, W) of the walls; status SETTLED, DOUBTFUL, TOO_MANY.

    Only a settled list is complete, and there is none else; `known` patterns exist.
    """

    letters: np.ndarray
    points: np.ndarray
    signs: np.ndarray
    known: int
    status: int


class _Room(NamedTuple):
    """Everything a descent writes to. Frame d is the cone that d walls cut out of the space; its rays lie one after
    the other, and behind them the rays that both of its halves have on the wall that splits it.
    """

    rays: np.ndarray
    on: np.ndarray  # bit i: the ray lies on row i, a facet
    heights: np.ndarray  # products with the walls of the frame's level
    rise: np.ndarray  # and with the first row
    frames: np.ndarray  # (d, 9): first ray, rays, shared rays, rank, level, wall, next half, is the lineality cut, live
    signs: np.ndarray  # (d, w) of the walls of the frame's level
    rows: np.ndarray  # row i of the cone at hand
    span: np.ndarray
    walls: np.ndarray
    sign: np.ndarray  # of the walls of the levels that are done
    slots: np.ndarray
    largest: np.ndarray  # |slots|_inf
    work: np.ndarray
    letters: np.ndarray
    points: np.ndarray
    found: np.ndarray


def patterns(limit: int, rounding: float, program: Program, forced: Any) -> Patterns:
    """All patterns with signs `forced` (W,) on the walls, where these are not 0 (None: all patterns).

    A functional below `rounding` times the size of its terms is 0. ImportError without numba.
    """
    W, K, n = len(program.x) - 2 * len(program.group), len(program.group), program.x.shape[1]
    wide = int((program.levels[:, 1] - program.levels[:, 0]).max(initial=0))
    forced = np.zeros(W, np.int8) if forced is None else forced
    deep, room, rays, most = min(W, cones.WORD) + 2, min(limit, LIST) + 1, ARENA, cones.RAYS
    bounds = np.array([cones.ZERO, cones.NEAR, cones.SLIVER, rounding])
    while True:
        r = _Room(
            np.empty((rays, n)),
            np.empty(rays, np.int64),
            np.empty((rays, wide)),
            np.empty(most + 1),
            np.zeros((deep, 9), np.int64),
            np.empty((deep, W), np.int8),
            np.empty((deep, n)),
            np.empty((n, n)),
            np.empty((W, n)),
            np.zeros(W, np.int8),
            np.zeros((K, n)),
            np.zeros(K),
            np.empty((2 * n + 4, max(n, most) + 1)),
            np.empty((room, K), np.int8),
            np.empty((room, n)),
            np.empty((room, W), np.int8),
        )
        status, known = _compiled()(program, r, bounds, forced, most, cones.WORD, limit)
        if status != MORE:
            break
        if known >= room:
            room *= 8
        else:
            rays *= 8
    m = known if status == SETTLED else 0
    return Patterns(r.letters[:m].copy(), r.points[:m].copy(), r.found[:m].copy(), known, status)


def possible() -> bool:
    """By `restriction.COMPILED`, or where that is None, is numba installed?"""
    return restriction.COMPILED is not False and (restriction.COMPILED or _loaded() or available())


def worthwhile(walls: Sequence[int], n: int) -> bool:
    """Is the machine code at hand, or worth fetching, for levels of so many walls in R^n? It is where there may be more
    than `restriction.WORTH` patterns, and where COMPILED insists.
    """
    return bool(restriction.COMPILED) or _loaded() or prod(_generic(k, n) for k in walls) > restriction.WORTH


def _loaded():
    return _compiled.cache_info().currsize > 0


def _generic(k, n):
    """The number of chambers of k hyperplanes in general position in R^n."""
    return 2 * sum(comb(k - 1, i) for i in range(n)) if k else 1


@lru_cache(maxsize=1)
def _compiled() -> Any:
    """The descent as machine code, from numba's cache on disk where that can be written."""
    from numba import njit
    from numba.extending import register_jitable

    for part in (_bits, _under, _beyond, _proved, _vertex, _faces, _solved, _balanced, _edges, _half, _pruned, _place):
        register_jitable(fastmath=FASTMATH)(part)
    options = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(_descend)
    except RuntimeError:  # no directory to cache in
        return njit(**options)(_descend)


# What follows is compiled.


def _bits(word):
    """How many."""
    count = 0
    while word:
        word &= word - 1
        count += 1
    return count


def _under(program, i, slots, largest, rounding, out, at):
    """Functional i under the slots, exactly 0 where only rounding is left; the largest entry."""
    n = program.x.shape[1]
    size, most = 0.0, 0.0
    for k in range(n):
        value = program.x[i, k]
        out[at, k] = value
        size = max(size, abs(value))
    for j in range(program.ptr[i], program.ptr[i + 1]):
        s, value = program.idx[j], program.val[j]
        size += abs(value) * largest[s]
        for k in range(n):
            out[at, k] += value * slots[s, k]
    for k in range(n):
        most = max(most, abs(out[at, k]))
    if most <= rounding * size:
        most = 0.0
        for k in range(n):
            out[at, k] = 0.0
    return most


def _beyond(span, rank, n, wall, work):
    """What of the wall is orthogonal to the span, in work[0]; its length."""
    for k in range(n):
        work[0, k] = wall[k]
    for _ in range(2):
        for a in range(rank):
            value = 0.0
            for k in range(n):
                value += work[0, k] * span[a, k]
            for k in range(n):
                work[0, k] -= value * span[a, k]
    value = 0.0
    for k in range(n):
        value += work[0, k] * work[0, k]
    return np.sqrt(value)


def _balanced(target, sign, rows, used, weights, many, n, sliver):
    """Do the multipliers, negative ones left out, give the target?"""
    rest, total = 0.0, 1.0
    for a in range(many):
        weights[a] = max(weights[a], 0.0)
        total += weights[a]
    for k in range(n):
        value = sign * target[k]
        for a in range(many):
            value -= weights[a] * rows[int(used[a]), k]
        rest += value * value
    return np.sqrt(rest) <= sliver * total


def _solved(target, sign, rows, work, many, n, sliver):
    """Is sign * target a combination of the rows of numbers work[0, :many], which are independent, with multipliers
    >= 0? By Gram and Schmidt.
    """
    used, weights = work[0], work[1]
    # columns a of Q in work[3 + a], R above its diagonal in work[3 + n + a]
    for k in range(n):
        work[2, k] = sign * target[k]
    for a in range(many):
        for k in range(n):
            work[3 + a, k] = rows[int(used[a]), k]
    for a in range(many):
        value = 0.0
        for k in range(n):
            value += work[3 + a, k] * work[3 + a, k]
        if value <= 1e-24:
            return False
        length = np.sqrt(value)
        work[3 + n + a, a] = length
        length = 1.0 / length
        value = 0.0
        for k in range(n):
            work[3 + a, k] *= length
            value += work[3 + a, k] * work[2, k]
        weights[a] = value
        for k in range(n):
            work[2, k] -= value * work[3 + a, k]
        for b in range(a + 1, many):
            value = 0.0
            for k in range(n):
                value += work[3 + a, k] * work[3 + b, k]
            work[3 + n + a, b] = value
            for k in range(n):
                work[3 + b, k] -= value * work[3 + a, k]
    for a in range(many - 1, -1, -1):
        value = weights[a]
        for b in range(a + 1, many):
            value -= work[3 + n + a, b] * weights[b]
        weights[a] = value / work[3 + n + a, a]
    return _balanced(target, sign, rows, used, weights, many, n, sliver)


def _vertex(room, target, sign, w, first, many, rank, n, last, zero, sliver):
    """Multipliers of the last row and of those through the ray v at which target - t * (the last row) vanishes first.

    As in `cones`; but where another ray u lies on all of the rows through v but one, the multiplier of that row is the
    ratio of that difference and the row at u. Where rounding is larger than these ratios, by least squares.
    """
    rays, on, heights, rise, rows, work = room.rays, room.on, room.heights, room.rise, room.rows, room.work
    used, weights = work[0], work[1]
    vertex, least = -1, 0.0
    for i in range(many):
        if rise[i] > zero:
            left = max(sign * heights[first + i, w], 0.0)
            if vertex < 0 or left < least * rise[i]:
                vertex, least = i, left / rise[i]
    if vertex < 0:
        return False
    meet, seen, size = on[first + vertex], 0, 1
    if _bits(meet) != rank - 1:
        return False
    used[0], weights[0] = last, least
    for i in range(many):
        missed = meet & ~on[first + i]
        if missed & (missed - 1) == 0 and missed & ~seen != 0:
            seen |= missed
            row, value = _place(missed), 0.0
            for k in range(n):
                value += rays[first + i, k] * rows[row, k]
            left = max(sign * heights[first + i, w] - least * rise[i], 0.0)
            if left > 0:
                used[size], weights[size] = row, left / value
                size += 1
    if _balanced(target, sign, rows, used, weights, size, n, sliver):
        return True
    return _solved(target, sign, rows, work, size, n, sliver)


def _faces(room, target, sign, w, first, many, rank, live, n, zero, sliver):
    """`cones._down_the_faces`."""
    rays, on, rows, work = room.rays, room.on, room.rows, room.work
    used, left, rise, size = work[0], work[2], work[3], 0
    for i in range(many):
        left[i] = max(sign * room.heights[first + i, w], 0.0)
    for _ in range(rank):
        meet = live
        for i in range(many):
            if left[i] <= zero:
                meet &= on[first + i]
        if meet == 0:
            return False
        row = _place(meet)
        most, some = 0.0, False
        for i in range(many):
            value = 0.0
            if not (on[first + i] >> row) & 1:
                for k in range(n):
                    value += rays[first + i, k] * rows[row, k]
                if value > zero and (not some or left[i] < most * value):
                    most, some = left[i] / value, True
            rise[i] = value
        going = False
        if most > 0:
            used[size] = row
            size += 1
        for i in range(many):
            left[i] -= most * rise[i]
            going |= left[i] > zero
        if not going:
            break
    return _solved(target, sign, rows, work, size, n, sliver)


def _proved(room, target, sign, w, first, many, rank, last, live, n, zero, sliver):
    """Is sign * target a combination of the rows with multipliers >= 0?"""
    if many == 0:
        return False
    if _vertex(room, target, sign, w, first, many, rank, n, last, zero, sliver):
        return True
    return _faces(room, target, sign, w, first, many, rank, live, n, zero, sliver)


def _edges(room, program, first, many, rank, w, begin, end, bit, zero, near):
    """The rays where the wall meets an edge, behind those of the cone; -1 if in doubt, -2 without room."""
    rays, on, heights = room.rays, room.on, room.heights
    n, out, simple = rays.shape[1], first + many, True
    for i in range(first, first + many):
        simple &= _bits(on[i]) == rank - 1
    for p in range(first, first + many):
        up = heights[p, w]
        if up <= zero:
            continue
        for q in range(first, first + many):
            down = heights[q, w]
            if down >= -zero:
                continue
            common = on[p] & on[q]
            if _bits(common) < rank - 2:
                continue
            if not simple:
                above = 0
                for i in range(first, first + many):
                    if common & ~on[i] == 0:
                        above += 1
                        if above > 2:
                            break
                if above != 2:
                    continue
            if out >= len(on):
                return -2
            length = 0.0
            for k in range(n):
                value = up * rays[q, k] - down * rays[p, k]
                rays[out, k] = value
                length += value * value
            length = np.sqrt(length)
            if length <= near * (up - down):
                return -1
            length = 1.0 / length
            for k in range(n):
                rays[out, k] *= length
            on[out] = common | bit
            out += 1
    return out - first - many


def _half(room, first, many, extra, side, w, wide, bit, zero, free):
    """Copies the rays of one half behind all the others: how many there are."""
    rays, on, heights = room.rays, room.on, room.heights
    n, out = rays.shape[1], first + many + extra
    for i in range(first + many if free else first, first + many + extra):
        mark = 0
        if i < first + many:
            h = heights[i, w]
            if side * h < -zero:
                continue
            mark = bit if side * h <= zero else 0
        for k in range(n):
            rays[out, k] = rays[i, k]
        for g in range(wide):
            heights[out, g] = heights[i, g]
        on[out] = on[i] | mark
        out += 1
    return out - first - many - extra


def _pruned(on, first, many, rank, live):
    """The rows that lie on rank - 1 rays at least; the others are no facets, and no ray is said to lie on them.

    All rows are counted at once: bit i of a, b, .. f are the digits of the count of row i, bit i of g its overflow.
    """
    a, b, c, d, e, f, g = 0, 0, 0, 0, 0, 0, 0
    for i in range(first, first + many):
        word = on[i]
        a, word = a ^ word, a & word
        b, word = b ^ word, b & word
        c, word = c ^ word, c & word
        d, word = d ^ word, d & word
        e, word = e ^ word, e & word
        f, word = f ^ word, f & word
        g |= word
    more, same = g, live & ~g
    for place, digit in ((5, f), (4, e), (3, d), (2, c), (1, b), (0, a)):
        if ((rank - 1) >> place) & 1:
            same &= digit
        else:
            more |= same & digit
            same &= ~digit
    live &= more | same
    for i in range(first, first + many):
        on[i] &= live
    return live


def _place(word):
    """Of the lowest bit."""
    at = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word & ((1 << step) - 1) == 0:
            word >>= step
            at += step
    return at


def _descend(program, room, bounds, forced, most, word, limit):
    """Run until all patterns are found, or the status is another: (status, how many)."""
    zero, near, sliver, rounding = bounds[0], bounds[1], bounds[2], bounds[3]
    rays, on, heights, frames, signs = room.rays, room.on, room.heights, room.frames, room.signs
    rows, span, walls, sign, work = room.rows, room.span, room.walls, room.sign, room.work
    levels, group, facing = program.levels, program.group, program.facing
    n, W, K, L = rays.shape[1], len(walls), len(group), len(levels)
    cap, room_for, known, d = len(on), len(room.points), 0, 0
    frames[0] = 0
    frames[0, 4] = -1
    while d >= 0:
        first, many, rank, level, turn = frames[d, 0], frames[d, 1], frames[d, 3], frames[d, 4], frames[d, 6]
        if turn == DONE:
            d -= 1
            continue

        if turn == 0:
            pick, risen = -1, False
            while pick < 0:
                if level >= 0:
                    begin, end = levels[level, 0], levels[level, 1]
                    left = False
                    for g in range(begin, end):
                        left |= signs[d, g] == OPEN
                    if left and many > most:
                        return DOUBTFUL, known
                    for g in range(begin, end if left else begin):
                        if signs[d, g] != OPEN:
                            continue
                        w, low, high = g - begin, 0.0, 0.0
                        for i in range(first, first + many):
                            h = heights[i, w]
                            low, high = min(low, h), max(high, h)
                            if zero < abs(h) <= near:
                                return DOUBTFUL, known
                        cut = low < -zero and high > zero
                        if rank < n:
                            slope = _beyond(span, rank, n, walls[g], work)
                            if zero < slope <= near:
                                return DOUBTFUL, known
                            cut |= slope > near
                        if cut:
                            if pick < 0:
                                pick = g
                            continue
                        s = 1 if high > zero else -1 if low < -zero else 0
                        if s == 0:
                            return DOUBTFUL, known
                        if not risen and many > 0:
                            risen = True
                            for i in range(many):
                                value = 0.0
                                if not (on[first + i] >> (d - 1)) & 1:
                                    for k in range(n):
                                        value += rays[first + i, k] * rows[d - 1, k]
                                room.rise[i] = value
                        if not _proved(room, walls[g], s, w, first, many, rank, d - 1, frames[d, 8], n, zero, sliver):
                            return DOUBTFUL, known
                        signs[d, g] = s
                    if pick >= 0:
                        break
                    for g in range(begin, end):
                        sign[g] = signs[d, g]
                    if level + 1 < L:
                        for j in range(levels[level, 2], levels[level, 3]):
                            s = 0 if group[j] < 0 else facing[j] * sign[group[j]]
                            i = W + j if s >= 0 else W + K + j
                            room.largest[j] = _under(program, i, room.slots, room.largest, rounding, room.slots, j)
                level += 1
                if level == L:
                    break
                begin = levels[level, 0]
                for g in range(begin, levels[level, 1]):
                    top = _under(program, g, room.slots, room.largest, rounding, walls, g)
                    signs[d, g] = OPEN if top > 0 else 0
                    if top > 0:
                        top, length = 1.0 / top, 0.0
                        for k in range(n):
                            walls[g, k] *= top
                            length += walls[g, k] * walls[g, k]
                        length = 1.0 / np.sqrt(length)
                        for k in range(n):
                            walls[g, k] *= length
                        for i in range(first, first + many):
                            value = 0.0
                            for k in range(n):
                                value += rays[i, k] * walls[g, k]
                            heights[i, g - begin] = value
                    else:
                        for i in range(first, first + many):
                            heights[i, g - begin] = 0.0

            if level == L:  # a pattern
                known += 1
                if known > limit:
                    return TOO_MANY, known
                if known > room_for:
                    return MORE, known
                m, length = known - 1, 0.0
                for k in range(n):
                    value = 0.0
                    for i in range(first, first + many):
                        value += rays[i, k]
                    if rank == 0 and k == 0:
                        value = 1.0
                    room.points[m, k] = value
                    length += value * value
                length = np.sqrt(length)
                if length <= near:
                    return DOUBTFUL, known
                length = 1.0 / length
                for k in range(n):
                    room.points[m, k] *= length
                for g in range(W):
                    room.found[m, g] = sign[g]
                    if sign[g] != 0:
                        value = 0.0
                        for k in range(n):
                            value += room.points[m, k] * walls[g, k]
                        if sign[g] * value <= near:
                            return DOUBTFUL, known
                for j in range(K):
                    room.letters[m, j] = 0 if group[j] < 0 else facing[j] * sign[group[j]]
                d -= 1
                continue

            if d >= word:
                return DOUBTFUL, known
            frames[d, 4], frames[d, 5], frames[d, 7] = level, pick, 0
            begin, end, bit = levels[level, 0], levels[level, 1], 1 << d
            slope, extra = 0.0, 0
            if rank < n:
                slope = _beyond(span, rank, n, walls[pick], work)
            if first + many + many + 1 >= cap:
                return MORE, 0
            if slope > near:  # the rays move along the lineality space onto the wall
                frames[d, 7], extra = 1, many
                for k in range(n):
                    span[rank, k] = work[0, k] / slope
                for i in range(first, first + many):
                    step, length = heights[i, pick - begin] / slope, 0.0
                    for k in range(n):
                        value = rays[i, k] - step * span[rank, k]
                        rays[i + many, k] = value
                        length += value * value
                    length = 1.0 / np.sqrt(length)
                    for k in range(n):
                        rays[i + many, k] *= length
                    on[i + many] = on[i] | bit
            else:
                extra = _edges(room, program, first, many, rank, pick - begin, begin, end, bit, zero, near)
                if extra == -2:
                    return MORE, 0
                if extra < 0:
                    return DOUBTFUL, known
            for g in range(begin, end):
                if signs[d, g] == OPEN:
                    for i in range(first + many, first + many + extra):
                        value = 0.0
                        for k in range(n):
                            value += rays[i, k] * walls[g, k]
                        heights[i, g - begin] = value
            frames[d, 2] = extra
            frames[d, 6] = turn = FIRST if forced[pick] <= 0 else SECOND

        # one half of the cone becomes the next frame
        extra, pick, free = frames[d, 2], frames[d, 5], frames[d, 7] == 1
        begin, end, bit, side = levels[level, 0], levels[level, 1], 1 << d, -1 if turn == FIRST else 1
        base = first + many + extra
        if base + many + extra + 1 >= cap:
            return MORE, 0
        count = _half(room, first, many, extra, side, pick - begin, end - begin, bit, zero, free)
        if free:
            new = base + count
            for k in range(n):
                rays[new, k] = side * span[rank, k]
            on[new] = frames[d, 8]
            for g in range(begin, end):
                value = 0.0
                if signs[d, g] == OPEN:
                    for k in range(n):
                        value += rays[new, k] * walls[g, k]
                heights[new, g - begin] = value
            count += 1
        live = _pruned(on, base, count, rank + free, frames[d, 8] | bit)
        for k in range(n):
            rows[d, k] = side * walls[pick, k]
        frames[d, 6] = SECOND if turn == FIRST and forced[pick] == 0 else DONE
        for g in range(begin, end):
            signs[d + 1, g] = signs[d, g]
        signs[d + 1, pick] = side
        d += 1
        frames[d, 0], frames[d, 1], frames[d, 2], frames[d, 3] = base, count, 0, rank + free
        frames[d, 4], frames[d, 6], frames[d, 8] = level, 0, live
    return SETTLED, known
