"""Deletion and restriction compiled by numba (the extra `fast`), one flat at a time, depth first.

A flat of dimension e holds unit rows: the walls of an open cone, then hyperplanes h_i in order. Its cells are kept
sorted by their signs on those rows, and grow hyperplane by hyperplane: the cells of {h_i : i < j} that h_j splits
are those that the cells of the restriction to h_j lie in. Three things make this fast.

* Signs are read from the first row on, so restriction keeps the order: the cells of the restriction arrive sorted
  like the cells they split, and one merge finds every partner. Nothing is hashed, and no cell is found twice.
* Each split costs one new point, x + s h_j on the side its partner's point is not on, s short of the nearest
  earlier wall; only its signs on later rows are new. A point that a later split leaves too near the new wall is
  replaced. A hyperplane that misses a cell cannot come nearer than a wall does, so margins stay in proportion.
* While the first rows of a flat are independent, with dual basis D, all signs s occur, at sum s_i D_i: recursion
  begins with the first row that is not. In dimension 2 the lines are sorted along the interval that the cone is.

The count identity, #cells(A in P) = 1 + sum_j #cells({h_1 .. h_{j-1}} restricted to h_j, in P and h_j), holds at a
flat iff each cell of each restriction finds a partner of its own. One without ends the work as doubtful, and so does
a distance that floats cannot tell from 0; `restriction` says which, tries another position, or is followed by exact
arithmetic.

The functions below are plain Python until `cells` is first called, which compiles them: numba is imported there.
"""

from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from .halfspaces import ROUNDING

SETTLED, DOUBTFUL, TOO_MANY, MORE = 0, 1, 2, 3  # MORE: the stacks are full
LOUD = 1e300  # no noise is
LANES = 64  # points handled at once
FASTMATH = {"nnan", "ninf", "nsz", "contract", "reassoc", "arcp"}  # no infinity or NaN is ever formed


class Cells(NamedTuple):
    """points (N, d) of unit length, one in each cell; `known` cells exist; status SETTLED, DOUBTFUL or TOO_MANY.

    Only a settled list is complete; otherwise there are no points, and `known` counts those that had been found.
    """

    points: np.ndarray
    known: int
    status: int


def available() -> bool:
    """Is numba installed? Nothing is imported to tell."""
    return find_spec("numba") is not None


def cells(
    rows: np.ndarray,
    noise: np.ndarray,
    fence: int,
    point: np.ndarray | None,
    tol: float,
    limit: int,
    seed: int,
    loud: float = LOUD,
) -> Cells:
    """The cells into which rows[fence:] cut the open cone rows[:fence] @ y > 0.

    rows (m, d), d >= 2, of unit length, best with independent ones first; noise (m,) their rounding errors; fence >= 1;
    point (d,) in the cone, needed where d > 2 and fence > 1; random steps are drawn from seed >= 0. Noise above
    `loud` in any flat is doubtful. ImportError without numba.
    """
    m, d = rows.shape
    top = max(d, 3)
    flats, stacks, block = _room(m, top)
    flats.rows[top, :d, :m], flats.noise[top : top + 2, :m] = rows.T, noise
    block.real[2, :m] = 1.0  # their lengths
    flats.middle[top, :d], flats.size[top], flats.walls[top] = point, m, fence
    steps = np.random.default_rng(seed).uniform(0.35, 0.65, 1024)  # not halves: walls may be symmetric
    status = MORE
    while status == MORE:
        status = _compiled()(flats, stacks, block, steps, d == 2, float(tol), float(loud), int(limit))
        if status == MORE:
            stacks = _longer(flats, stacks)
    known = int(flats.count[top])
    points = np.empty((0, d))
    if status == SETTLED and d == 2:
        points = block.found[:2, :known].T.copy()
    elif status == SETTLED:
        points = stacks.points[top & 1, : known * top].reshape(known, top)[stacks.number[top & 1, :known]]
    return Cells(points, known, status)


class _Flats(NamedTuple):
    """The flat of dimension e on the path from the space: entry e of each. A flat two below it shares its stacks."""

    rows: np.ndarray  # (k, i): row i, zero for k >= e, as loops take four k at a time
    dual: np.ndarray  # (i, k): the dual basis of the first rows; the last entry is a spare
    noise: np.ndarray
    inverse: np.ndarray  # 1 / |row . h|
    middle: np.ndarray  # a point in the cone
    dead: np.ndarray  # does row i miss the cone?
    size: np.ndarray  # how many rows
    walls: np.ndarray  # the first of which are walls
    rank: np.ndarray  # or independent
    stage: np.ndarray  # the index j of the row h at hand
    word: np.ndarray  # which word of each cell its key is
    count: np.ndarray  # how many cells
    base: np.ndarray  # where in stacks.points they begin
    first: np.ndarray  # in key and number
    further: np.ndarray  # in words
    scalars: np.ndarray  # dimension, is it new, draws so far; lengths needed of points, words, key and number


class _Stacks(NamedTuple):
    """Two of each, for dimensions of either parity: a flat grows only when the flat below it is done."""

    points: np.ndarray  # the points of a flat, in order of making
    words: np.ndarray  # all their signs, if one word is not enough
    key: np.ndarray  # the word of each cell that has the signs before h, cells sorted
    number: np.ndarray  # its point


class _Block(NamedTuple):
    """Room for LANES points, and as many again that replace points."""

    points: np.ndarray
    fresh: np.ndarray
    real: np.ndarray
    bits: np.ndarray
    signs: np.ndarray
    whole: np.ndarray
    h: np.ndarray
    line: np.ndarray
    links: np.ndarray
    found: np.ndarray


def _room(m, top):
    """Everything the recursion writes to: allocated here, as reference counts would take a third of its time."""
    width, words, flats = -(-top // 4) * 4, -(-m // 64), top + 3
    shapes = (width, m), (top + 1, top), (m,), (m,), (top,)
    counts = (np.zeros(flats, np.int64) for _ in range(9))
    scalars = np.array([top, 1, 0, 0, 0, 0], np.int64)
    lengths = (1024 * words if words > 1 else 0, 1024, 1024)
    stacks = _Stacks(np.empty((2, 1024 * top)), *(np.empty((2, n), np.int64) for n in lengths))
    block = _Block(
        np.zeros((width, LANES)),
        np.zeros((width, 2 * LANES)),
        np.zeros((5, 2 * LANES + m)),
        np.zeros((words, LANES), np.int64),
        np.zeros((words, 2 * LANES), np.int64),
        np.zeros((6, 2 * LANES), np.int64),
        np.zeros(width),
        np.zeros((4, m + 1)),
        np.zeros((3, m + 2), np.int64),
        np.zeros((3, m + 2)),
    )
    arrays = *(np.zeros((flats, *shape)) for shape in shapes), np.zeros((flats, m), np.int64), *counts, scalars
    return _Flats._make(arrays), stacks, block


def _longer(flats, stacks):
    """Stacks of four times the lengths needed, what is in use copied; pages that nothing is written to cost nothing."""
    dimension = np.arange(len(flats.count))
    used = (
        flats.base + flats.count * dimension,
        flats.further + flats.count * ((flats.size + 63) >> 6),
        flats.first + flats.count,
        flats.first + flats.count,
    )
    longer = []
    for stack, ends, need in zip(stacks, used, flats.scalars[[3, 4, 5, 5]], strict=True):
        larger = stack
        if need > stack.shape[1]:
            larger = np.empty((2, 4 * need), stack.dtype)
            for s in range(2):
                end = min(ends[s::2].max(), stack.shape[1])
                larger[s, :end] = stack[s, :end]
        longer.append(larger)
    return _Stacks(*longer)


@lru_cache(maxsize=1)
def _compiled() -> Any:
    """The recursion as machine code, from numba's cache on disk where that can be written."""
    from numba import njit
    from numba.extending import register_jitable

    for part in (_products, _signs, _plane, _mirror, _merge, _dual, _crossing, _strict, _store):
        register_jitable(fastmath=FASTMATH)(part)
    options = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(_enumerate)
    except RuntimeError:  # no directory to cache in
        return njit(**options)(_enumerate)


# What follows is compiled. Loops over adjacent memory become vector instructions. Row i has bit 63 - i % 64 of word
# i // 64, so that words compare like signs from the first row on.


def _products(rows, e, depth, stop, inverse, points, n, part, near, low, bits):
    """For n points (columns): signs on rows[:, :stop], least |product|, least |product| * inverse."""
    last = depth - 4
    for i in range(stop):
        word, bit, scale = i >> 6, 1 << (63 - (i & 63)), inverse[e, i]
        a, b, c, d = rows[e, last, i], rows[e, last + 1, i], rows[e, last + 2, i], rows[e, last + 3, i]
        if last == 0:
            for q in range(n):
                value = a * points[0, q] + b * points[1, q] + (c * points[2, q] + d * points[3, q])
                size = abs(value)
                near[q] = min(near[q], size * scale)
                low[q] = min(low[q], size)
                bits[word, q] |= bit if value > 0 else 0
            continue
        f, g, h, o = rows[e, 0, i], rows[e, 1, i], rows[e, 2, i], rows[e, 3, i]
        for q in range(n):
            part[q] = f * points[0, q] + g * points[1, q] + (h * points[2, q] + o * points[3, q])
        for k in range(4, last, 4):
            f, g, h, o = rows[e, k, i], rows[e, k + 1, i], rows[e, k + 2, i], rows[e, k + 3, i]
            for q in range(n):
                part[q] += f * points[k, q] + g * points[k + 1, q] + (h * points[k + 2, q] + o * points[k + 3, q])
        for q in range(n):
            value = a * points[last, q] + b * points[last + 1, q] + (c * points[last + 2, q] + d * points[last + 3, q])
            value += part[q]
            size = abs(value)
            near[q] = min(near[q], size * scale)
            low[q] = min(low[q], size)
            bits[word, q] |= bit if value > 0 else 0


def _signs(rows, e, depth, start, stop, points, n, part, bits):
    """For n points (columns): their signs on rows[:, start:stop]."""
    last = depth - 4
    for i in range(start, stop):
        word, bit = i >> 6, 1 << (63 - (i & 63))
        a, b, c, d = rows[e, last, i], rows[e, last + 1, i], rows[e, last + 2, i], rows[e, last + 3, i]
        if last == 0:
            for q in range(n):
                value = a * points[0, q] + b * points[1, q] + (c * points[2, q] + d * points[3, q])
                bits[word, q] |= bit if value > 0 else 0
            continue
        f, g, h, o = rows[e, 0, i], rows[e, 1, i], rows[e, 2, i], rows[e, 3, i]
        for q in range(n):
            part[q] = f * points[0, q] + g * points[1, q] + (h * points[2, q] + o * points[3, q])
        for k in range(4, last, 4):
            f, g, h, o = rows[e, k, i], rows[e, k + 1, i], rows[e, k + 2, i], rows[e, k + 3, i]
            for q in range(n):
                part[q] += f * points[k, q] + g * points[k + 1, q] + (h * points[k + 2, q] + o * points[k + 3, q])
        for q in range(n):
            value = a * points[last, q] + b * points[last + 1, q] + (c * points[last + 2, q] + d * points[last + 3, q])
            value += part[q]
            bits[word, q] |= bit if value > 0 else 0


def _plane(rows, noise, stop, fence, h, noise_h, tol, loud, steps, draw, line, links, found):
    """Sectors of the plane h (unit) of 3-space, cut by rows[:, :stop], sorted by signs; -1 if in doubt.

    The columns found[:3] get a point in each. Line i of the plane has the unit direction on the positive side of row
    0, in the coordinates (axis, across); y / (x + |y|) grows with its angle. A sector is named by the line at its
    lower end (0: the end of the cone), and line i, splitting one, puts its negative half first.
    """
    x0 = h[1] * rows[3, 2, 0] - h[2] * rows[3, 1, 0]
    x1 = h[2] * rows[3, 0, 0] - h[0] * rows[3, 2, 0]
    x2 = h[0] * rows[3, 1, 0] - h[1] * rows[3, 0, 0]
    length = np.sqrt(x0 * x0 + x1 * x1 + x2 * x2)
    x0, x1, x2 = x0 / length, x1 / length, x2 / length  # across
    a0, a1, a2 = x1 * h[2] - x2 * h[1], x2 * h[0] - x0 * h[2], x0 * h[1] - x1 * h[0]  # axis
    rough = max(noise[3, 0], noise_h) / length
    for i in range(1, stop):
        c = a0 * rows[3, 0, i] + a1 * rows[3, 1, i] + a2 * rows[3, 2, i]
        s = x0 * rows[3, 0, i] + x1 * rows[3, 1, i] + x2 * rows[3, 2, i]
        size = 1 / np.sqrt(c * c + s * s)
        side = size if s >= 0 else -size
        line[3, i] = side
        line[0, i] = s * side
        line[1, i] = -c * side
        line[2, i] = line[1, i] / (line[0, i] + abs(line[1, i]))
        rough = max(rough, max(noise[3, i], noise_h) * size)
    if rough > loud:
        return -1
    wide = max(rough, tol)
    end = stop
    line[0, 0], line[1, 0], line[2, 0], line[0, end], line[1, end], line[2, end] = 0.0, -1.0, -1.0, 0.0, 1.0, 1.0
    for i in range(1, fence):
        if line[3, i] > 0:
            if line[2, i] > line[2, 0]:
                line[0, 0], line[1, 0], line[2, 0] = line[0, i], line[1, i], line[2, i]
        elif line[2, i] < line[2, end]:
            line[0, end], line[1, end], line[2, end] = line[0, i], line[1, i], line[2, i]
    count, first = 1, 0
    if fence > 1:
        gap = line[0, 0] * line[1, end] - line[1, 0] * line[0, end]
        ahead = line[0, 0] * line[0, end] + line[1, 0] * line[1, end]
        if ahead > 0 and abs(gap) <= wide:
            count = 0 if abs(gap) <= rough and rough <= tol else -1
        elif ahead > 0 and rough > loud * abs(gap):
            count = -1
        elif line[2, end] <= line[2, 0]:
            count = 0
    links[0, 0], links[0, 1], links[1, 0], links[2, 0] = 0, end, -1, -1
    for i in range(fence, stop if count > 0 else 0):
        place = count  # links[0, count] is the upper end
        if line[2, i] > line[2, end]:
            place = count + 1
        else:
            while place > 0 and line[2, links[0, place - 1]] > line[2, i]:
                place -= 1
        merged, doubt = False, False
        for side in range(place - 1, place + 1):
            if 0 <= side <= count:
                other = links[0, side]
                gap = abs(line[0, i] * line[1, other] - line[1, i] * line[0, other])
                if line[0, i] * line[0, other] + line[1, i] * line[1, other] > 0:
                    if gap <= wide:
                        doubt |= gap > rough or rough > tol
                        merged = True
                    else:
                        doubt |= rough > loud * gap  # on one line, the other has length `gap`
        if doubt:
            count = -1
            break
        if merged or place == 0 or place > count:  # a line already there, or outside the cone
            continue
        for k in range(count, place - 1, -1):
            links[0, k + 1] = links[0, k]
        links[0, place] = i
        count += 1
        split = links[0, place - 1]
        if line[3, i] > 0:  # split, i
            later = links[1, split]
            links[2, i], links[1, i], links[1, split] = split, later, i
            if later >= 0:
                links[2, later] = i
        else:  # i, split
            sooner = links[2, split]
            links[2, i], links[1, i], links[2, split] = sooner, split, i
            if sooner >= 0:
                links[1, sooner] = i
            else:
                first = i
    for k in range(count):
        links[2, links[0, k]] = links[0, k + 1]  # from here on: the upper end of each sector
    at = first
    for q in range(count):
        other = links[2, at]
        u = steps[(draw + q) & 1023]
        if line[0, at] * line[0, other] + line[1, at] * line[1, other] > -0.5:
            c = (1 - u) * line[0, at] + u * line[0, other]
            s = (1 - u) * line[1, at] + u * line[1, other]
        else:  # nearly opposite ends: turn from the bisector
            c = (line[1, other] - line[1, at]) + (u - 0.5) * (line[0, other] - line[0, at])
            s = (line[0, at] - line[0, other]) + (u - 0.5) * (line[1, other] - line[1, at])
        size = 1 / np.sqrt(c * c + s * s)
        c, s = c * size, s * size
        found[0, q] = c * a0 + s * x0
        found[1, q] = c * a1 + s * x1
        found[2, q] = c * a2 + s * x2
        at = links[1, at]
    return count


def _mirror(rows, e, h, stop, inverse, length):
    """Restrict rows[:, :stop] to the hyperplane h of dimension e - 1: directions below[k, i], and their length.

    A Householder mirror takes h to the first axis, which is dropped. inverse gets 1 / |row . h|.
    """
    turn = 1.0 if h[0] >= 0 else -1.0
    share = 1 / (1 + abs(h[0]))
    for i in range(stop):
        inverse[e, i] = 0.0
        length[i] = 0.0
    for k in range(e):
        for i in range(stop):
            inverse[e, i] += h[k] * rows[e, k, i]
    for k in range(1, e):
        part = share * h[k]
        for i in range(stop):
            value = rows[e, k, i] - part * (inverse[e, i] + turn * rows[e, 0, i])
            rows[e - 1, k - 1, i] = value
            length[i] += value * value
    for i in range(stop):
        length[i] = np.sqrt(length[i])
        inverse[e, i] = 1 / max(abs(inverse[e, i]), 1e-300)


def _merge(rows, noise, e, stop, fence, length, noise_h, dead, tol, loud, part):
    """Scale restricted rows to length 1, drop those marked dead and those parallel to an earlier one.

    Returns how many rows and how many walls are left: 0 walls if the cone is empty, -1 if in doubt.
    """
    kept, walls, empty = 0, 0, False
    for i in range(stop):
        if i >= fence and dead[e + 1, i]:
            continue
        size = 1 / length[i]
        for q in range(kept):
            part[q] = 0.0
        for k in range(e):
            value = rows[e, k, i] * size
            rows[e, k, kept] = value
            for q in range(kept):
                part[q] += value * rows[e, k, q]
        rough = max(noise[e + 1, i], noise_h) * size
        if rough > loud:
            return kept, -1
        merged, most = False, 0.0
        for q in range(kept):
            most = max(most, abs(part[q]))
        if most > 0.9999:
            for q in range(kept):
                if abs(part[q]) > 0.9999:
                    facing = 1.0 if part[q] > 0 else -1.0
                    apart = 0.0  # cosines lose digits
                    for k in range(e):
                        apart += (rows[e, k, kept] - facing * rows[e, k, q]) ** 2
                    apart = np.sqrt(apart)
                    both = max(rough, length[q])
                    if apart <= max(both, tol):
                        if apart > both or both > tol:
                            return kept, -1
                        merged = True
                        empty |= facing < 0 and i < fence
        if not merged:
            length[kept] = rough  # read no more: from here on the noise of the rows kept
            kept += 1
            walls += i < fence
    return kept, 0 if empty else walls


def _dual(rows, noise, e, m, tol, dual):
    """How many of the first rows are independent; dual[i] . rows[:, l] = (i == l) for those.

    Wide apart: the distance of each of them from the span of all the others is above 0.01, and above any doubt.
    """
    rough = tol
    for r in range(min(m, e, 60)):
        rough = max(rough, noise[e, r])
        rest = 0.0
        for k in range(e):
            dual[-1, r, k] = rows[e, k, r]
        for i in range(r):
            c = 0.0
            for k in range(e):
                c += dual[e, i, k] * rows[e, k, r]
            for k in range(e):
                dual[-1, r, k] -= c * rows[e, k, i]
        for k in range(e):
            rest += dual[-1, r, k] ** 2
        if rest < 1e-4 or rest < 100 * rough * rough:
            return r
        for k in range(e):
            dual[-1, r, k] /= rest
        for i in range(r):
            c = 0.0
            for k in range(e):
                c += dual[e, i, k] * rows[e, k, r]
            size = 0.0
            for k in range(e):
                dual[-1, i, k] = dual[e, i, k] - c * dual[-1, r, k]
                size += dual[-1, i, k] ** 2
            if size > 1e4 or size * 100 * rough * rough > 1:
                return r
        for i in range(r + 1):
            for k in range(e):
                dual[e, i, k] = dual[-1, i, k]
    return min(m, e, 60)


def _strict(rows, e, m, rough, tol, point):
    """Is there y with y . rows[:, i] > 0 for i < m? 1 (and point = y), 0, or -1 if in doubt.

    Lawson and Hanson: |U' w|^2 + (1 - sum w)^2 is least, over w >= 0, at a multiple of the weights of the point of
    conv U nearest to 0; least squares on the support by Gram-Schmidt, twice. 1 is proved by y, 0 by U' w = 0.
    """
    n, wide = e + 1, max(1e-6, 10 * tol)
    work, integer = np.zeros((4, m + n)), np.zeros((2, m + n), np.int64)
    Q, L = np.empty((n, n)), np.empty((n, n))
    verdict, size, done, total, length = (
        -1,
        0,
        0,
        0.0,
        0.0,
    )  # work: weights, trial, residual; integer: support, is it in
    work[2, e] = 1.0
    for _ in range(3 * m + 30):
        best, gain, least = -1, 1e-13, 1.0
        for i in range(m):
            value = 0.0
            for k in range(e):
                value += work[2, k] * rows[e, k, i]
            least = min(least, -value)
            if integer[1, i] == 0 and value + work[2, e] > gain:
                best, gain = i, value + work[2, e]
        if (length > 0 and least > wide * length) or best < 0 or size > e:
            if length > 0 and least > max(tol, 1e-13) * length:
                verdict = 1
                for k in range(e):
                    point[e, k] = -work[2, k] / length
            elif length <= rough * total and rough <= tol:
                verdict = 0
            break
        integer[0, size], integer[1, best] = best, 1
        size += 1
        settled = False
        while not settled:
            for a in range(done, size):  # the columns (u, 1) of the support, orthonormalized
                for k in range(e):
                    Q[a, k] = rows[e, k, integer[0, a]]
                Q[a, e] = 1.0
                for b in range(a):
                    L[b, a] = 0.0
                for _ in range(2):
                    for b in range(a):
                        c = 0.0
                        for k in range(n):
                            c += Q[b, k] * Q[a, k]
                        L[b, a] += c
                        for k in range(n):
                            Q[a, k] -= c * Q[b, k]
                c = 0.0
                for k in range(n):
                    c += Q[a, k] * Q[a, k]
                if c < 1e-20:
                    return -1
                L[a, a] = np.sqrt(c)
                for k in range(n):
                    Q[a, k] /= L[a, a]
            done, settled, reach = size, True, 1.0
            for a in range(size - 1, -1, -1):
                value, i = Q[a, e], integer[0, a]
                for b in range(a + 1, size):
                    value -= L[a, b] * work[1, integer[0, b]]
                work[1, i] = value / L[a, a]
                if work[1, i] <= 0:
                    settled = False
                    reach = min(reach, work[0, i] / (work[0, i] - work[1, i]) if work[0, i] > 0 else 0.0)
            kept = 0
            for a in range(size):
                i = integer[0, a]
                work[0, i] += reach * (work[1, i] - work[0, i])
                if work[1, i] <= 0 and work[0, i] <= 1e-15:
                    work[0, i], integer[1, i] = 0.0, 0
                    done = min(done, a)
                else:
                    integer[0, kept] = i
                    kept += 1
            if kept == 0 or (kept == size and not settled):
                return -1
            size = kept
        for k in range(n):
            work[2, k] = 0.0
        work[2, e], total, length = 1.0, 0.0, 0.0
        for a in range(size):
            i = integer[0, a]
            total += work[0, i]
            for k in range(e):
                work[2, k] -= work[0, i] * rows[e, k, i]
        work[2, e] -= total
        for k in range(e):
            length += work[2, k] ** 2
        length = np.sqrt(length)
    return verdict


def _crossing(rows, e, fence, h, points, s, base, count, point):
    """A point of h likely to be in the cone, restricted to h as by _mirror, and its distance to the walls.

    It is in the cone, and where a segment crosses h, if points known, (e + 1)-dimensional, are on both sides of h: the
    farthest are joined. Otherwise the nearest point known is projected.
    """
    above, under, over, beneath = 0.0, 0.0, base, base
    least, nearest = 2.0, base
    for a in range(base, base + count * (e + 1), e + 1):
        value = 0.0
        for k in range(e + 1):
            value += h[k] * points[s, a + k]
        if value > above:
            above, over = value, a
        elif value < under:
            under, beneath = value, a
        if abs(value) < abs(least):
            least, nearest = value, a
    both = above > 0 and under < 0
    turn, total, margin = 1.0 if h[0] >= 0 else -1.0, 0.0, 1.0
    if both:
        share = (above * points[s, beneath] - under * points[s, over]) / (h[0] + turn)
    else:
        share = (points[s, nearest] - least * h[0]) / (h[0] + turn) + least
    for k in range(e):
        if both:
            value = above * points[s, beneath + k + 1] - under * points[s, over + k + 1]
        else:
            value = points[s, nearest + k + 1]
        point[e, k] = value - share * h[k + 1]
        total += point[e, k] ** 2
    for k in range(e):
        point[e, k] /= np.sqrt(total)
    for i in range(fence):
        value = 0.0
        for k in range(e):
            value += point[e, k] * rows[e, k, i]
        margin = min(margin, value)
    return margin


def _store(e, n, cell, place, fresh, signs, used, now, points, s, home, key, number, left, words, whole):
    """Write n points to their cells, and the words that say their signs."""
    for k in range(e):
        for q in range(n):
            points[s, home + cell[q] * e + k] = fresh[k, q]
    for q in range(n):
        key[s, left + place[q]] = signs[now, q]
        number[s, left + place[q]] = cell[q]
    if used > 1:
        for w in range(used):
            for q in range(n):
                words[s, whole + cell[q] * used + w] = signs[w, q]


def _enumerate(flats, stacks, blocks, steps, planar, tol, loud, limit):
    """Run until the top flat is done, or the status is another; after MORE, call again with longer stacks."""
    rows, dual, noise, inverse, middle, dead = flats[:6]
    size, walls, rank, stage, word, count, base, first, further, scalars = flats[6:]
    points, words, key, number = stacks
    block, fresh, real, bits, signs, whole, h, line, links, found = blocks
    near, low, part, step, scale = real[0], real[1], real[2], real[3], real[4]
    partner, spot, other, cell, place, where = whole[0], whole[1], whole[2], whole[3], whole[4], whole[5]
    top = rows.shape[0] - 3
    e, entering, draw, status = scalars[0], scalars[1] == 1, scalars[2], SETTLED
    if planar:
        h[2] = 1.0
        c = _plane(rows, noise, size[3], walls[3], h, 0.0, tol, loud, steps, 0, line, links, found)
        count[3] = max(c, 0)
        return DOUBTFUL if c < 0 else TOO_MANY if c > limit else SETTLED
    if entering and e == top:
        size[e], walls[e] = _merge(rows, noise, e, size[e], walls[e], part, 0.0, dead, tol, loud, near)
        if walls[e] < 1:
            return SETTLED if walls[e] == 0 else DOUBTFUL
        for i in range(size[e]):
            noise[e, i] = part[i]
        rank[e] = _dual(rows, noise, e, size[e], tol, dual)

    while True:
        j, s, rising = stage[e], e & 1, False
        if entering:  # the cells of the first rows, if independent, or the cone
            base[e] = base[e + 2] + count[e + 2] * (e + 2)
            first[e] = first[e + 2] + count[e + 2]
            further[e] = further[e + 2] + count[e + 2] * ((size[e + 2] + 63) >> 6)
            c, count[e], j = 1 << max(rank[e] - walls[e], 0), 0, max(rank[e], walls[e])
        elif j < size[e]:
            for k in range(e):
                h[k] = rows[e, k, j]
            if e == 3:
                draw += 7
                c = _plane(rows, noise, j, walls[3], h, noise[3, j], tol, loud, steps, draw, line, links, found)
                if c < 0:
                    status = DOUBTFUL
                    break
                for i in range(j):
                    value = h[0] * rows[3, 0, i] + h[1] * rows[3, 1, i] + h[2] * rows[3, 2, i]
                    inverse[3, i] = 1 / max(abs(value), 1e-300)
            else:
                d = e - 1
                _mirror(rows, e, h, j, inverse, part)
                kept, fenced = _merge(rows, noise, d, j, walls[e], part, noise[e, j], dead, tol, loud, near)
                meets = min(fenced, 1)
                if meets > 0:
                    for i in range(kept):
                        noise[d, i] = part[i]
                    rank[d] = _dual(rows, noise, d, kept, tol, dual)
                    size[d], walls[d] = kept, fenced
                    if rank[d] < fenced:  # does h meet the cone?
                        margin = _crossing(rows, d, fenced, h, points, s, base[e], count[e], middle)
                        if margin <= max(1e-6, 10 * tol):
                            rough = 0.0
                            for i in range(fenced):
                                rough = max(rough, noise[d, i])
                            meets = _strict(rows, d, fenced, rough, tol, middle)
                if meets < 0:
                    status = DOUBTFUL
                    break
                if meets == 0:
                    dead[e, j] = 1
                    stage[e] += 1
                    continue
                for i in range(kept):
                    dead[d, i] = 0
                e, entering = d, True
                continue
        elif e == top:
            break
        else:
            e, rising = e + 1, True
            j, c, s = stage[e], count[e - 1], e & 1
            for k in range(e):
                h[k] = rows[e, k, j]

        n, used, depth = count[e], (size[e] + 63) >> 6, (e + 3) // 4 * 4
        total = n + c
        if total > limit:
            count[top] = max(count[top], total)
            status = TOO_MANY
            break
        home, left, far = base[e], first[e], further[e]
        if (
            home + total * e > points.shape[1]
            or left + total > key.shape[1]
            or (used > 1 and far + total * used > words.shape[1])
        ):
            scalars[0], scalars[1], scalars[2] = e - rising, entering, draw
            scalars[3], scalars[4], scalars[5] = home + total * e, far + total * used if used > 1 else 0, left + total
            status = MORE
            break

        if entering:
            entering = False
            for k in range(e):
                value = 0.0
                for i in range(walls[e]):
                    value += dual[e, min(i, e), k]
                points[s, home + k] = value if rank[e] >= walls[e] else middle[e, k]
            made = 1
            for i in range(walls[e], rank[e]):  # negative halves first
                for a in range(made - 1, -1, -1):
                    for k in range(e):
                        value, shift = points[s, home + a * e + k], dual[e, i, k]
                        points[s, home + (2 * a + 1) * e + k] = value + shift
                        points[s, home + 2 * a * e + k] = value - shift
                made *= 2
            word[e] = (j - 1) >> 6
            for begin in range(0, c, LANES):
                lanes = min(LANES, c - begin)
                for q in range(lanes):
                    value = 0.0
                    for k in range(e):
                        value += points[s, home + (begin + q) * e + k] ** 2
                    value = 1 / np.sqrt(value)
                    for k in range(e):
                        fresh[k, q] = value * points[s, home + (begin + q) * e + k]
                    cell[q] = place[q] = begin + q
                for w in range(used):
                    for q in range(lanes):
                        signs[w, q] = 0
                _signs(rows, e, depth, 0, size[e], fresh, (lanes + 7) & ~7, part, signs)
                now = word[e]
                _store(e, lanes, cell, place, fresh, signs, used, now, points, s, home, key, number, left, words, far)
            count[e], stage[e] = c, j
            continue

        # the c cells of the restriction, from the last to the first, each next to the cell it lies in
        now, mine, bit, mask = (j - 1) >> 6, j >> 6, 1 << (63 - (j & 63)), -1 << (63 - ((j - 1) & 63))
        if word[e] != now:
            word[e] = now
            for a in range(n):
                key[s, left + a] = words[s, far + number[s, left + a] * used + now]
        turn = 1.0 if h[0] >= 0 else -1.0
        share = 1 / (1 + abs(h[0]))
        read, write, stop = n - 1, total - 1, c
        while stop > 0:
            begin = ((stop - 1) // LANES) * LANES
            lanes = stop - begin
            padded = (lanes + 7) & ~7
            stop = begin
            if e == 3:
                for k in range(3):
                    for q in range(lanes):
                        block[k, q] = found[k, begin + q]
            else:  # out of the hyperplane by the mirror that led into it
                for q in range(lanes):
                    where[q] = base[e - 1] + number[1 - s, first[e - 1] + begin + q] * (e - 1) - 1
                    part[q] = 0.0
                for k in range(1, e):
                    for q in range(lanes):
                        value = points[1 - s, where[q] + k]
                        block[k, q] = value
                        part[q] += h[k] * value
                for q in range(lanes):
                    block[0, q] = -turn * part[q]
                for k in range(1, e):
                    for q in range(lanes):
                        block[k, q] -= share * h[k] * part[q]
            for q in range(padded):
                near[q], low[q], step[q] = 1.0, 1.0, 1.0
            for w in range(now + 1):
                for q in range(padded):
                    bits[w, q] = 0
            _products(rows, e, depth, j, inverse, block, padded, part, near, low, bits)
            for q in range(lanes - 1, -1, -1):
                wanted = bits[now, q]
                while read >= 0:
                    old, a = key[s, left + read], number[s, left + read]
                    if (old & mask) == wanted:
                        same = True
                        for w in range(now):
                            same &= words[s, far + a * used + w] == bits[w, q]
                        if same:
                            break
                    key[s, left + write], number[s, left + write] = old, a
                    read -= 1
                    write -= 1
                if read < 0:
                    status = DOUBTFUL
                    break
                last = old if used == 1 else words[s, far + a * used + mine]
                positive = (last & bit) != 0
                up, down = (write, write - 1) if positive else (write - 1, write)
                key[s, left + up], number[s, left + up] = old, a
                number[s, left + down] = n + begin + q
                partner[q], other[q], spot[q], where[q] = a, up, down, home + a * e
                step[q] = -1.0 if positive else 1.0
                read -= 1
                write -= 2
            if status != SETTLED:  # no partner: the identity is broken
                break
            draw += 13
            at = (draw * 89) & 511
            for q in range(padded):
                value = steps[at + q] * near[q]
                low[q] = min(value, 0.35 * low[q])  # the new points are no nearer to earlier rows
                scale[q] = 1 / np.sqrt(1 + value * value)
                step[q] *= value
                part[q] = 0.0
            least = 1.0
            for q in range(lanes):
                least = min(least, low[q])
            if least <= ROUNDING:
                status = DOUBTFUL
                break
            for k in range(e):
                for q in range(padded):
                    fresh[k, q] = (block[k, q] + step[q] * h[k]) * scale[q]
            for k in range(e):
                for q in range(lanes):
                    part[q] += h[k] * points[s, where[q] + k]
            for w in range(used):
                for q in range(padded):
                    signs[w, q] = bits[w, q] if w <= now else 0
            for q in range(padded):
                signs[mine, q] |= bit if step[q] > 0 else 0
            made = lanes
            for q in range(lanes):
                cell[q], place[q] = n + begin + q, spot[q]
                if 2 * abs(part[q]) < low[q]:  # the partner's point is too near h
                    for k in range(e):
                        fresh[k, made] = (block[k, q] - step[q] * h[k]) * scale[q]
                    for w in range(used):
                        signs[w, made] = bits[w, q] if w <= now else 0
                    signs[mine, made] |= bit if step[q] < 0 else 0
                    cell[made], place[made] = partner[q], other[q]
                    made += 1
            _signs(rows, e, depth, j + 1, size[e], fresh, (made + 7) & ~7, part, signs)
            _store(e, made, cell, place, fresh, signs, used, now, points, s, home, key, number, left, words, far)
        if status != SETTLED:
            break
        count[e] = total
        stage[e] += 1
    return status
