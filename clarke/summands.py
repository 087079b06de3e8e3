"""Direct sums: an arrangement is enumerated summand by summand, and its cells are the products of theirs.

Rows r_i of R^n are the direct sum of two sets of them if the spans of the two meet in 0 only. Then the signs of one
set do not depend on those of the other: the cells, and so their numbers, multiply. Express every row in a basis of
rows. The finest decomposition has two rows in one summand iff the nonzero coefficients connect them: those are the
connected components of the matroid of the rows [O11].

With B the basis and D its dual (B D = 1), points x_s of the summands add up to x = sum_s D_s B_s x_s, which shows row
i of summand s what x_s shows it. Offsets do no harm: r_i . x = t_i depends on the same coordinates. The rows of a cone
count as rows. To miss a decomposition costs time only. One that is used has a zero wherever rows and columns of
two summands meet, or it moves unit rows by no more than ROUNDING, which are then taken to coincide, as elsewhere. That
cannot be told from the truth while no flat of a summand blows rounding up to the tolerance: else that is a doubt, and
the arrangement is enumerated whole.

[O11] Oxley. Matroid Theory. Second edition, Oxford (2011), chapter 4.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from . import integers, restriction
from .compiled import LOUD
from .halfspaces import ROUNDING, unit
from .restriction import TooManyChambers

SPLIT = True  # False: every arrangement is enumerated whole
STEEP = 1e3  # the dual basis may be so long, or summands are too close to parallel to be worth the digits


class Summand(NamedTuple):
    """rows (m,) ascend: which. They lie in the span of the orthonormal columns of inside (n, d).

    With x = outside @ z, row . x = (row @ inside) . z for them, and 0 for the rows of the other summands.
    """

    rows: np.ndarray
    inside: np.ndarray
    outside: np.ndarray


class DirectSum(NamedTuple):
    """Rounding errors above `loud` in a flat of a summand cast doubt on the decomposition."""

    parts: list[Summand]
    loud: float


WHOLE = DirectSum([], LOUD)


def _components(units, least):
    """Labels (k,) of the rows, by coefficients above `least`, and the rows that are the basis; None if connected.

    A label is the place in the basis of a member.
    """
    if min(units.shape) < 2:
        return None
    qr, pivots, *_ = lapack.dgeqp3(units.T)
    size = np.abs(qr.diagonal())
    rank = int((size > least).sum())
    if rank < 2:
        return None
    coefficients, failed = lapack.dtrtrs(qr[:rank, :rank], qr[:rank, rank:])
    if failed:
        return None
    linked = (np.abs(coefficients) > least).astype(float)
    near = linked @ linked.T
    near.flat[:: rank + 1] = 1
    while not near.all():
        further = np.minimum(near @ near, 1)
        if (further > 0).sum() == (near > 0).sum():
            break
        near = further
    else:
        return None
    label = np.empty(len(units), dtype=np.intp)
    label[pivots[:rank] - 1] = first = (near > 0).argmax(axis=1)
    label[pivots[rank:] - 1] = first[linked.argmax(axis=0)]
    return label, pivots[:rank] - 1


def direct_sum(units: np.ndarray, tol: float) -> DirectSum:
    """The summands of unit rows, up to ROUNDING, in the order of their first rows; none if there is but one."""
    found = _components(units, ROUNDING) if SPLIT and tol >= ROUNDING else None
    if found is None:
        return WHOLE
    label, basis = found
    frame, upper = np.linalg.qr(units[basis].T)
    dual = frame @ np.linalg.inv(upper).T
    steep = np.sqrt((dual * dual).sum())
    if not steep < STEEP:
        return WHOLE
    parts, number = [], np.bincount(label, minlength=len(basis))
    for name in dict.fromkeys(label.tolist()):
        if number[name] == 1:
            rows = basis[name : name + 1]
            inside, outside = units[rows].T, dual[:, name : name + 1]
        else:
            rows, own = np.flatnonzero(label == name), np.flatnonzero(label[basis] == name)
            span = units[basis[own]]
            inside = np.linalg.qr(span.T)[0]
            part = units[rows]
            off = part - part @ inside @ inside.T
            if (off * off).sum(axis=1).max() > ROUNDING**2:
                return WHOLE
            outside = dual[:, own] @ (span @ inside)
        parts.append(Summand(rows, inside, outside))
    there, name = units != 0, label[:, None]
    first, last = np.where(there, name, len(basis)).min(axis=0), np.where(there, name, -1).max(axis=0)
    return DirectSum(parts, LOUD if (first >= last).all() else tol / steep)


def float_route(
    fence: np.ndarray,
    rows: np.ndarray,
    offset: bool,
    split: DirectSum,
    isotropic: bool,
    tol: float,
    limit: int,
    run: Callable[..., Any],
) -> tuple[NDArray[np.float64], tuple[Any, ...]]:
    """restriction.float_route by summands. offset: does the fence end with that of a last coordinate, for offsets?"""
    if not split.parts:
        return restriction.float_route(fence, rows, isotropic, tol, limit, run)
    walls, n = len(fence) - offset, fence.shape[1] - offset
    every, problems = np.vstack([fence[:walls], rows]), []
    lines = [] if offset else [a for a in split.parts if a.inside.shape[1] == 1 and a.rows[0] >= walls]
    others = [part for part in split.parts if not any(part is line for line in lines)] if lines else split.parts
    for part in others:  # those with walls first
        local, count = every[part.rows, :n] @ part.inside, int((part.rows < walls).sum())
        if offset:
            local = np.column_stack([local, every[part.rows, n]])
            local = np.vstack([local[:count], np.eye(1, local.shape[1], local.shape[1] - 1), local[count:]])
        problems.append((local[: count + offset], local[count + offset :]))
    sums, doubts = np.zeros((1, n)), ()
    for part, (cone, local) in zip(others, problems, strict=True):
        try:
            points, more = _cells(cone, local, isotropic, tol, limit // len(sums), run, split.loud)
        except TooManyChambers as stop:
            cones = [cone for cone, _ in problems if len(cone)]
            if all(len(_cells(cone, cone[:0], isotropic, tol, 2, run, split.loud)[0]) for cone in cones):
                raise TooManyChambers(stop.count * len(sums), limit) from None
            points, more = np.empty((0, part.inside.shape[1] + offset)), ()
        if offset:
            with np.errstate(all="ignore"):
                points = points[:, :-1] / points[:, -1:]
        sums = (sums[:, None] + points @ part.outside.T).reshape(-1, n)
        doubts = (*doubts, *more)
        if not len(sums):
            break
    if lines and len(sums):  # all signs
        if len(sums) << len(lines) > limit:
            raise TooManyChambers(len(sums) << len(lines), limit)
        sides = 1.0 - 2 * (np.arange(1 << len(lines))[:, None] >> np.arange(len(lines)) & 1)
        sums = (sums[:, None] + sides @ np.hstack([line.outside for line in lines]).T).reshape(-1, n)
    return (np.column_stack([sums, np.ones(len(sums))]) if offset else sums), doubts


def _cells(fence, rows, isotropic, tol, limit, run, loud):
    """Points in the cells of one summand, which may have no fence, and doubts."""
    if fence.shape[1] == 1:
        points = np.array([[1.0], [-1.0]])
        points = points[(points * fence[:, 0] > 0).all(axis=1)] if len(fence) else points
        if len(points) > limit:
            raise TooManyChambers(len(points), limit)
        return points, ()
    if len(fence):
        return restriction.float_route(fence, rows, isotropic, tol, limit, run, loud)
    try:
        half, doubts = restriction.float_route(rows[:1], rows[1:], isotropic, tol, limit // 2, run, loud)
    except TooManyChambers as stop:
        raise TooManyChambers(2 * stop.count, limit) from None
    return np.vstack([half, -half]), doubts


# The same in integers


class Block(NamedTuple):
    """rows (m,) ascend: which; in new coordinates they vanish outside `columns`."""

    rows: np.ndarray
    columns: np.ndarray


def integer_sum(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Block]]:
    """(new, T, blocks): new = rows @ T for an invertible T, in integers; the blocks, if there are two or more.

    In the new coordinates the first independent rows are multiples of unit vectors, the others have their coefficients.
    """
    rows, n = rows.copy(), rows.shape[1]
    T = np.eye(n, dtype=int).astype(object)
    found = _components(unit(integers.ratios(rows)), 1e-6) if SPLIT and len(rows) else None
    if found is None:  # clearly connected
        return rows, T, []
    both, rank = np.vstack([rows, T]), 0
    for i in range(len(rows)):
        there = np.flatnonzero(both[i, rank:] != 0) + rank
        if not len(there):
            continue
        both[:, [rank, there[0]]] = both[:, [there[0], rank]]
        pivot = both[:, rank].copy()
        for c in np.flatnonzero(both[i] != 0).tolist():
            if c != rank:
                column = both[:, c] * pivot[i] - pivot * both[i, c]
                both[:, c] = column // np.gcd.reduce(column)
        rank += 1
    new, T = both[: len(rows)], both[len(rows) :]
    linked = new[:, :rank] != 0
    label = np.arange(rank)
    for row in linked:
        label[np.isin(label, label[row])] = label[row].min(initial=rank)
    blocks = [
        Block(np.flatnonzero(linked[:, label == name].any(axis=1)), np.flatnonzero(label == name))
        for name in dict.fromkeys(label.tolist())
    ]
    return new, T, blocks if len(blocks) > 1 else []


def integer_cells(
    fence: np.ndarray, rows: np.ndarray, offset: bool, limit: int, run: Callable[..., Any]
) -> tuple[np.ndarray, int]:
    """Integer points (N, d), one in each cell of primitive rows in the cone, and how many flats broke the identity."""
    if integers.interior(fence) is None:
        return np.zeros((0, fence.shape[1]), dtype=object), 0
    walls, n = len(fence) - offset, fence.shape[1] - offset
    new, T, blocks = integer_sum(np.vstack([fence[:walls], rows])[:, :n])
    if not blocks:
        return integers.cells(fence, integers.distinct(rows), limit, integers.interior(fence), run)
    last, sums, scale, broken = np.vstack([fence[:walls], rows])[:, n:], np.zeros((1, n), dtype=object), None, 0
    for block in blocks:
        local = integers.reduced(np.column_stack([new[np.ix_(block.rows, block.columns)], last[block.rows]]))
        count = int((block.rows < walls).sum())
        own, others = local[:count], integers.distinct(local[count:])
        if offset:
            own = np.vstack([own, np.eye(1, local.shape[1], local.shape[1] - 1, dtype=int).astype(object)])
        halves = not len(own)
        if halves:
            own, others = others[:1], others[1:]
        try:
            room = limit // len(sums) // (1 + halves)
            points, failed = integers.cells(own, others, room, integers.interior(own), run)
        except TooManyChambers as stop:
            raise TooManyChambers(stop.count * (1 + halves) * len(sums), limit) from None
        points, broken = np.vstack([points, -points]) if halves else points, broken + failed
        part = np.zeros((len(points), n), dtype=object)
        part[:, block.columns] = points[:, : len(block.columns)]
        if offset:  # over a common denominator
            below, scale = points[:, -1], np.ones(1, dtype=object) if scale is None else scale
            sums = sums[:, None] * below[None, :, None] + part * scale[:, None, None]
            scale = np.outer(scale, below).ravel()
        else:
            sums = sums[:, None] + part
        sums = sums.reshape(-1, n)
    sums = sums @ T.T
    return integers.reduced(sums if scale is None else np.column_stack([sums, scale])), broken


def counted(normals: np.ndarray, offsets: np.ndarray | None, count: Callable[..., Any]) -> int:
    """The product over exact summands of count(normals, offsets=offsets)."""
    rows = integers.primitive(integers.fractions(normals))
    *_, blocks = integer_sum(rows)
    if not blocks:
        return count(normals, offsets=offsets)
    return math.prod(count(normals[b.rows], offsets=None if offsets is None else offsets[b.rows]) for b in blocks)
