"""Chambers of a hyperplane arrangement, each with a point in it, without a linear program.

For hyperplanes h_i = {x : v_i . x = t_i} and an open convex cone P, the chambers are the pieces
into which the h_i cut P: the sign vectors of (v_i . x - t_i) that occur on open sets. Deletion and
restriction: h_j splits a cell of {h_1 .. h_{j-1}} exactly where it meets it, so

    #cells(A in P) = 1 + sum_j #cells({h_1 .. h_{j-1}} restricted to h_j, in P and h_j),

over the h_j that meet P [Z75]. The same recursion yields points: if w' lies in a cell of the j-th
restriction, then w' +- s v_j, with s short of the nearest wall, lie in the two halves; every cell
gets a point from the last hyperplane that split its ancestor. So distinct sign vectors are counted
twice, by the points found and by the sum, and the two are compared at every flat.

A central arrangement is one half (v_1 . x > 0) and its mirror image; an affine one is the central
one of the (v_i, -t_i) in the cone x_{n+1} > 0.

[Z75] Zaslavsky. Facing up to arrangements. Memoirs of the AMS 154 (1975).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import integers, restriction, summands
from .counting import count_chambers
from .halfspaces import finite, matrix, min_norm_direction, scaled, unit
from .restriction import TooManyChambers

UNASKED = 1e6  # exact work (cells x rows x dimension) begun without being asked for: seconds


@dataclass(frozen=True, eq=False, repr=False)
class Chambers:
    """signs (m, k) int8 in lexicographic order, witnesses (m, n), margins (m,).

    signs[a] = sign(normals @ witnesses[a] - offsets); margins[a] is the distance from witnesses[a]
    to the nearest hyperplane. `complete` iff every chamber is listed, in the sense `reason` states.
    """

    signs: np.ndarray
    witnesses: np.ndarray
    margins: np.ndarray
    complete: bool
    reason: str

    def __post_init__(self) -> None:
        for name, dtype in (("signs", np.int8), ("witnesses", float), ("margins", float)):
            array = np.asarray(getattr(self, name), dtype=dtype)
            array = frozen(array.copy()) if array.flags.writeable else array  # frozen ones are ours already
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.signs)

    def __repr__(self) -> str:
        state = "complete" if self.complete else "incomplete"
        return f"Chambers({len(self)} of {self.signs.shape[1]} hyperplanes, {state})"


def chambers(
    normals: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    cone: ArrayLike | None = None,
    tol: float = 1e-9,
    exact: bool = False,
    max_chambers: int = 1_000_000,
    mapper: Callable[..., Any] = map,
    progress: bool = False,
) -> Chambers:
    """The chambers of the hyperplanes {x : normals[i] . x = offsets[i]} in {x : cone @ x > 0}.

    normals (k, n), offsets (k,) or None for 0, cone (c, n) or None for the whole space. A zero
    normal has the sign of -offsets[i]. Witnesses have unit norm when offsets is None; margins are
    min_i |v_i . w - t_i| / |v_i| over nonzero normals, recomputed on the input, inf if there are
    none. An empty cone has no chambers, and that list is complete.

    For floats, unit rows of one flat closer than rounding coincide, farther apart than `tol` they
    differ. In between they decide nothing: another position is tried, then the sign vectors found are
    held against the exact count (`count_chambers`), then arithmetic in integers is used if that takes
    seconds; otherwise complete=False and `reason` names the obstacle. Ints and Fractions (dtype
    object) outside a cone, and anything with exact=True, get an exact answer, floats at their dyadic
    values: proved by the count, or computed in integers. There a chamber too thin for its float
    witness keeps its exact signs, has margin 0, and is counted in `reason`, which always says which
    question was answered.

    `mapper` maps over independent parts of the work; the result does not depend on it: random steps
    are seeded from the input. ValueError for wrong arguments, TooManyChambers past max_chambers.
    """
    given = checked(normals, offsets, cone, tol, max_chambers)
    return answer(given, tol, exact, max_chambers, mapper, progress).chambers


class Answer(NamedTuple):
    """exact: were the signs computed in integers, so that witnesses need not show them?

    claim: what is answered, and how; chambers.reason adds thin chambers and an empty cone, or names doubts instead.
    """

    chambers: Chambers
    exact: bool
    claim: str


def answer(
    given: "Problem",
    tol: float,
    exact: bool,
    max_chambers: int,
    mapper: Callable[..., Any] = map,
    progress: bool = False,
) -> Answer:
    """`chambers` of checked arguments."""
    floats = given.each(lambda a: a.astype(float))
    k, n = floats.normals.shape
    exact = exact or (given.cone is None and all(a is None or a.dtype.kind in "biuO" for a in given))
    asked = given if exact else floats
    central = asked.offsets is None and asked.cone is None
    if central and not (asked.normals != 0).any():
        whole = np.zeros((1, k)), np.eye(1, n), np.array([np.inf])
        return _trivial(*whole, "no hyperplane: the whole space is one chamber")
    if asked.cone is not None and not (asked.cone != 0).any(axis=1).all():
        empty = np.zeros((0, k)), np.zeros((0, n)), np.zeros(0)
        return _trivial(*empty, "the cone is empty: one of its rows is zero")
    run = partial(_run, mapper=mapper, progress=progress)
    copies = 2 if central else 1
    limit = max_chambers // copies
    kept = not exact or _kept_as_floats(given, floats)
    try:
        fence, rows, typical = unit_rows(floats)
        split = summands.direct_sum(_directions(floats, fence, rows), tol) if kept else summands.WHOLE
        ways = [(split, False), (split, True)] if kept else []
        if split.loud < summands.LOUD:
            ways += [(summands.WHOLE, False), (summands.WHOLE, True)]
        results: list[Chambers] = []
        claim = _TOLERANCE.format(tol)
        for split, isotropic in ways:
            points, doubts = summands.float_route(
                fence, rows, given.offsets is not None, split, isotropic, tol, limit, run
            )
            points[:, n:] /= typical
            result = collect(floats, points, doubts, claim)
            if result.complete or split.loud == summands.LOUD:
                results.append(result)
            if result.complete:
                break
        if results and results[-1].complete and not exact:
            return Answer(results[-1], False, claim)
        doubt = "" if exact else f"; floats could not decide: {results[0].reason}"
        for result in results if _kept_as_floats(given, floats) else ():
            if len(result) == summands.counted(given.normals, given.offsets, count_chambers):
                return Answer(replace(result, complete=True, reason=_PROVED + doubt), False, _PROVED + doubt)
        bound = sum(math.comb(len(rows), i) for i in range(min(rows.shape[1], len(rows) + 1)))
        if exact or bound * rows.size <= UNASKED:
            result = _exact_route(given, floats, limit, run)
            return Answer(replace(result, reason=result.reason + doubt), True, _EXACT + doubt)
        advice = f"exact=True decides, among up to {copies * bound} chambers"
        result = replace(max(results, key=len), reason=f"{results[0].reason}; {advice}")
        return Answer(result, False, claim)
    except TooManyChambers as stop:
        raise TooManyChambers(copies * stop.count, max_chambers) from None


def _trivial(signs, witnesses, margins, reason):
    return Answer(Chambers(signs, witnesses, margins, True, reason), False, reason)


# The door: arguments in, original signs out

_TOLERANCE = (
    "deletion-restriction at tolerance {:g}, rows within rounding taken as equal; the count identity held at every flat"
)
_PROVED = "exact: distinct sign vectors, each shown by a witness beyond rounding, as many as the proved count"
_EXACT = "deletion-restriction in exact arithmetic; the count identity held at every flat"


class Problem(NamedTuple):
    normals: np.ndarray
    offsets: np.ndarray | None
    cone: np.ndarray | None

    def each(self, change: Callable[..., Any]) -> "Problem":
        offsets, cone = (None if a is None else change(a) for a in self[1:])
        return Problem(change(self.normals), offsets, cone)


def checked(
    normals: ArrayLike, offsets: ArrayLike | None, cone: ArrayLike | None, tol: float, max_chambers: int
) -> Problem:
    """The arguments as finite arrays of matching shapes, their dtype kept for exact work."""
    if not 0 <= tol < 0.1:
        raise ValueError(f"tol is a distance of unit normals, 0 <= tol < 0.1; got {tol!r}")
    if max_chambers < 2:
        raise ValueError(f"max_chambers must be at least 2; got {max_chambers!r}")
    normals = matrix("normals", normals)
    if offsets is not None:
        offsets = finite("offsets", offsets)
        if offsets.shape != normals.shape[:1]:
            raise ValueError(f"offsets must be ({len(normals)},), one for each normal; got {offsets.shape}")
    if cone is not None:
        cone = matrix("cone", cone)
        if cone.shape[1] != normals.shape[1]:
            raise ValueError(f"cone must be (c, {normals.shape[1]}), as wide as normals; got {cone.shape}")
        cone = cone if len(cone) else None
    return Problem(normals, offsets, cone)


def _run(work, pieces, *, mapper, progress):
    done = mapper(work, pieces)
    if progress:
        from tqdm import tqdm

        done = tqdm(done, total=len(pieces), desc="chambers", unit="hyperplane")
    return done


def homogeneous(normals: Any, offsets: np.ndarray | None, cone: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(fence, rows): the hyperplanes as rows . y = 0 in the open cone fence @ y > 0.

    y = w, or y = (w, 1) with offsets. A central arrangement is fenced by its first hyperplane.
    """
    if offsets is None:
        rows = normals[(normals != 0).any(axis=1)]
        return (rows[:1], rows[1:]) if cone is None else (cone, rows)
    rows = np.column_stack([normals, -offsets])[(normals != 0).any(axis=1)]
    last = np.eye(1, rows.shape[1], rows.shape[1] - 1, dtype=int).astype(rows.dtype)
    if cone is None:
        return last, rows
    return np.vstack([np.column_stack([cone, np.zeros_like(cone[:, :1])]), last]), rows


def unit_rows(floats: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """fence, rows of unit length, and the unit of the last coordinate: a typical |t_i| / |v_i|."""
    normals, offsets = scaled(floats.normals, floats.offsets)
    typical = 1.0
    if offsets is not None:
        length = np.linalg.norm(normals, axis=1)
        offsets = np.clip(offsets / np.where(length > 0, length, 1), -1e300, 1e300)
        normals = normals / np.where(length > 0, length, 1)[:, None]
        some = np.abs(offsets[(length > 0) & (offsets != 0)])
        typical = float(np.exp(np.log(some).mean())) if len(some) else 1.0
        offsets = offsets / typical
    fence, rows = homogeneous(normals, offsets, floats.cone)
    every = unit(np.vstack([fence, rows]))
    return every[: len(fence)], every[len(fence) :], typical


def _directions(floats, fence, rows):
    """The fence and the rows as unit vectors, without coordinates for offsets."""
    if floats.offsets is None:
        return np.vstack([fence, rows])
    normals = floats.normals[(floats.normals != 0).any(axis=1)]
    return unit(normals if floats.cone is None else np.vstack([floats.cone, normals]))


def collect(
    floats: Problem, points: np.ndarray, doubts: tuple[Any, ...], claim: str, exact_signs: np.ndarray | None = None
) -> Chambers:
    """Leave homogeneous coordinates, judge every point on the original rows, and mirror a central arrangement.

    exact_signs, if given, hold whatever the witnesses show.
    """
    central = floats.offsets is None and floats.cone is None
    with np.errstate(all="ignore"):
        if floats.offsets is None:
            points = points / np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
        else:
            points = points[:, :-1] / points[:, -1:]
    signs, words, margins, wrong = _judged(floats, points)
    if exact_signs is None:  # list no sign vector twice, and none that its witness does not prove
        order = restriction.lexicographic(words)
        if wrong.any():
            order = order[~wrong[order]]
        ranked = words.take(order, axis=1)
        repeated = (ranked[:, 1:] == ranked[:, :-1]).all(axis=0)
        if repeated.any():
            order = order[np.append(True, ~repeated)]
    else:
        wrong |= (signs != exact_signs).any(axis=1)
        signs = exact_signs
        margins[wrong] = 0
        order = restriction.lexicographic(restriction.words(np.ascontiguousarray(signs.T) > 0))
    copies = 2 if central else 1
    lost = copies * (len(points) - len(order))
    if exact_signs is not None and wrong.any():
        claim += f"; {copies * wrong.sum()} chambers are too thin for a float witness (margin 0)"
    elif lost:
        doubts = (*doubts, f"{lost} witnesses do not show their signs on the original rows")
    if doubts:
        claim = "; ".join(doubts[:2])
    elif not len(order):
        claim = f"the cone is empty; {claim}"
    signs, points, margins = (a.take(order, axis=0) for a in (signs, points, margins))
    if central:  # every point has v_1 . x > 0, so the mirror images come first, in reverse
        signs, points, margins = _mirrored(signs, np.negative), _mirrored(points, np.negative), _mirrored(margins)
    return Chambers(frozen(signs), frozen(points), frozen(margins), not doubts, claim)


def _mirrored(half, image=np.positive):
    whole = np.empty((2 * len(half), *half.shape[1:]), half.dtype)
    whole[len(half) :] = half
    image(half[::-1], out=whole[: len(half)])
    return whole


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _judged(floats, points):
    """(signs (N, k), their words, margins (N,), wrong (N,)) of the points on the original rows.

    wrong: rounding could decide, and a sign may be wrong, too.
    """
    normals, offsets = scaled(floats.normals, floats.offsets)
    length, count = np.sqrt(np.einsum("ij,ij->i", normals, normals)), len(points)
    live, fence = np.flatnonzero(length), None if floats.cone is None else scaled(floats.cone)[0]
    every = len(live) == len(length)
    positive, margins = np.empty((count, len(normals)), dtype=bool), np.empty(count)
    packed = np.empty((restriction.word_count(len(normals)), count))
    wrong = np.zeros(count, dtype=bool)
    rounding = (4 + points.shape[1]) * np.finfo(float).eps
    slab = max(1, restriction.BLOCK // max(len(normals), 1))
    inverse = 1 / length[live, None]
    with np.errstate(all="ignore"):
        size = np.sqrt(np.einsum("ij,ij->i", points, points))
        for a in range(0, count, slab):
            at = slice(a, a + slab)
            value = normals @ points[at].T
            if offsets is not None:
                value -= offsets[:, None]
            bits = value > 0
            positive[at] = bits.T
            packed[:, at] = restriction.words(bits)
            value = value if every else value[live]
            np.abs(value, out=value)
            if offsets is not None:
                reach = length[live, None] * size[at] + np.abs(offsets[live])[:, None]
                wrong[at] = (value <= rounding * reach).any(axis=0)
            value *= inverse
            margins[at] = value.min(axis=0, initial=np.inf)
            if fence is not None:
                wrong[at] |= ~(fence @ points[at].T > 0).all(axis=0)
        if offsets is None:
            wrong |= margins <= rounding * size
        wrong |= ~np.isfinite(size)
    signs = np.subtract(positive.view(np.int8) * np.int8(2), 1, dtype=np.int8)
    if not every:
        dead = np.flatnonzero(length == 0)
        signs[:, dead] = 0 if offsets is None else -np.sign(offsets[dead])
    return signs, packed, margins, wrong


# Exact answers: by the count, or by the same recursion in integers, one flat at a time


def _kept_as_floats(given, floats):
    """May signs seen in floats be held against the count? Outside a cone, with no digits lost to underflow."""
    tiny = (np.abs(floats.normals) < 1e-290).all(axis=1)
    return given.cone is None and not (tiny & (given.normals != 0).any(axis=1)).any()


def _exact_route(given, floats, limit, run) -> Chambers:
    """Rows become primitive integer vectors, points stay integer until they are reported."""
    fractions = given.each(integers.fractions)
    fence, rows = map(integers.primitive, homogeneous(*fractions))
    points, broken = summands.integer_cells(fence, rows, given.offsets is not None, limit, run)
    doubts = (f"{broken} flats break the count identity",) * (broken > 0)
    every, offsets = fractions.normals, fractions.offsets
    every = integers.primitive(every if offsets is None else np.column_stack([every, -offsets]))
    signs, sides = (np.sign(points @ a.T).astype(np.int8) for a in (every, rows))
    points = integers.ratios(points)
    fence, rows = unit(integers.ratios(fence)), unit(integers.ratios(rows))
    distance = np.abs(points @ np.vstack([fence, rows]).T).min(axis=1, initial=np.inf)
    for a in np.flatnonzero(distance < 1e-6):  # the recursion thins chambers; their center does not
        center, _, _ = min_norm_direction(np.vstack([fence, sides[a, :, None] * rows]), 0)
        points[a] = points[a] if center is None else center
    return collect(floats, points, doubts, _EXACT, signs)
