"""Deletion and restriction in integers, one flat at a time."""

import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .halfspaces import min_norm_direction, unit
from .restriction import TooManyChambers


def ratios(rows: np.ndarray) -> NDArray[np.float64]:
    """Integer rows over their largest entries, as correctly rounded floats."""
    return (rows / np.abs(rows).max(axis=1, keepdims=True, initial=1)).astype(float)


def fractions(array: np.ndarray) -> np.ndarray:
    exact = [Fraction(x) for x in array.ravel().tolist()]
    return np.array(exact, dtype=object).reshape(array.shape)


def primitive(rows: np.ndarray) -> np.ndarray:
    """Each row scaled, by a positive number, to coprime integers."""
    whole = np.empty(rows.shape, dtype=object)
    for row, out in zip(rows, whole, strict=True):
        common = math.lcm(*(x.denominator for x in row))
        out[:] = [int(x * common) for x in row]
    return reduced(whole)


def reduced(rows: np.ndarray) -> np.ndarray:
    divisor = np.gcd.reduce(np.abs(rows), axis=1, keepdims=True) if rows.size else 1
    return rows // np.where(divisor == 0, 1, divisor)


def distinct(rows: np.ndarray) -> np.ndarray:
    """Primitive rows, no two parallel."""
    kept = {}
    for row in rows.tolist():
        lead = next(x for x in row if x)
        kept.setdefault(tuple(row if lead > 0 else [-x for x in row]), row)
    return np.array(list(kept.values()), dtype=object).reshape(-1, rows.shape[1])


def cells(fence: np.ndarray, rows: np.ndarray, limit: int, point: Any, run: Any = map) -> tuple[np.ndarray, int]:
    """Integer points, one in each cell, and how many flats broke the count identity.

    fence (c, d), rows (k, d) primitive, no two rows parallel; `point` lies in the cone.
    """
    halves, split, broken = [], 0, 0
    for points, count, failed in run(partial(_split, fence, rows, limit), range(len(rows))):
        halves.append(points)
        split, broken = split + count, broken + failed
        if split + 1 > limit:
            raise TooManyChambers(split + 1, limit)
    if not split:
        return point[None], broken
    points = np.vstack(halves)
    value = points @ rows.T
    points, value = (a[(value != 0).all(axis=1)] for a in (points, value))
    kept = {signs.tobytes(): i for i, signs in enumerate(value > 0)}
    return points[list(kept.values())], broken + (len(kept) != 1 + split)


def _split(fence, rows, limit, j):
    """Points in both halves of every cell of rows[:j] that h_j splits; their number; failures."""
    h = rows[j]
    none = np.empty((0, rows.shape[1]), dtype=object), 0, 0
    cone = _restrict(fence, h)
    point = interior(cone)
    if point is None:
        return none
    low, broken = cells(cone, distinct(_restrict(rows[:j], h)), limit, point)
    on, walls = _lift(low, h), np.vstack([fence, rows[:j]])
    return np.vstack([_step(on, walls, h, side) for side in (1, -1)]), len(low), broken


def _pivot(h):
    """The entry of h least in absolute value among the nonzero ones."""
    return min(np.flatnonzero(h != 0), key=lambda q: abs(h[q]))


def _restrict(rows, h):
    """rows on {h . x = 0}, in the coordinates other than the pivot, primitive, sides kept."""
    q = _pivot(h)
    below = (rows * h[q] - rows[:, q, None] * h) * (1 if h[q] > 0 else -1)
    return reduced(np.delete(below, q, axis=1))


def _lift(low, h):
    """The points of {h . x = 0} with these coordinates, times |h_q|."""
    q = _pivot(h)
    others = np.delete(h, q)
    side = 1 if h[q] > 0 else -1
    return np.insert(low * abs(h[q]), q, -side * (low @ others), axis=1)


def _step(points, walls, h, side):
    """points +- 2^-e e_q, to the side of h asked for, with e the least that surely hits no wall."""
    q = _pivot(h)
    slope = walls[:, q]
    size = np.abs(points).max(axis=1, keepdims=True)
    bits = np.frompyfunc(int.bit_length, 1, 1)
    e = bits(slope[slope != 0]) - bits(points @ walls[slope != 0].T) + 1
    e = np.hstack([1 - bits(size), e]).max(axis=1)
    along = side if h[q] > 0 else -side
    powers = [(1 << max(x, 0), along << max(-x, 0)) for x in e]
    scale, step = np.array(powers, dtype=object).T
    points = points * scale[:, None]
    points[:, q] += step
    return reduced(points)


def interior(cone: np.ndarray) -> np.ndarray | None:
    """An integer point with cone @ x > 0, or None, exactly.

    A float guess first. Else by restriction again: if x satisfies the first rows and not the next,
    a point that satisfies them all is near one of {first rows > 0} on the next row's hyperplane.
    """
    if not cone.shape[1] or not (cone != 0).any(axis=1).all():
        return None
    if len(cone) == 1:
        return cone[0]
    guess, _, multipliers = min_norm_direction(unit(ratios(cone)), 0)
    for bits in (4, 16, 53):
        if guess is None:
            break
        point = np.array([int(x) for x in np.rint(np.ldexp(guess, bits))], dtype=object)
        if (cone @ point > 0).all():
            return point
    cone = cone[np.argsort(-multipliers, kind="stable")]  # a Gordan certificate comes first
    point = cone[0]
    for i, row in enumerate(cone):
        if row @ point > 0:
            continue
        if row @ point < 0:
            low = interior(_restrict(cone[:i], row))
            if low is None:
                return None
            point = _lift(low[None], row)[0]
        point = _step(point[None], cone[:i], row, 1)[0]
    return point
