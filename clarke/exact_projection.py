"""The projection onto a hull in fractions: its optimality conditions solved and verified without rounding.

Every float is a fraction over a power of two. Let P = sum_i w_i v_i and T the target. With integers throughout,

    sum w = 1, w >= 0, <P - T, v_i - P> >= 0 for every i

are decided exactly, and they prove that P is the nearest point. The weights come from the support a float answer found:
its affine minimizer solves K c = b, K the Gram matrix of differences, by fraction-free elimination [B68]. Where the
support was not right, Wolfe's steps [W76] put it right; they too are exact, hence finite.

[B68] Bareiss. Sylvester's identity and multistep integer-preserving elimination. Math. Comp. 22 (1968) 565-578.
[W76] Wolfe. Finding the nearest point in a polytope. Math. Programming 11 (1976) 128-149.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np


@dataclass(frozen=True, eq=False)
class ExactProjection:
    """What fractions say of a projection.

    proved: True, the conditions hold exactly for `weights`; None where the check does not apply, as `reason` tells.
    weights: m Fractions, of sum 1; None where not proved. squared_distance: |P - T|^2, a Fraction.
    exchanges: elements that entered or left the support the floats had found; 0 if that support was right.
    error: |element - P| of the float answer, rounded at the end; 0 only if they are equal or closer than any float.
    """

    proved: bool | None
    weights: tuple[Fraction, ...] | None
    squared_distance: Fraction | None
    exchanges: int
    error: float | None
    reason: str


def integers(V: np.ndarray, bits: int) -> tuple[list[list[int]] | None, int, int]:
    """(rows of integers, low, width): V = rows * 2^low, every entry below 2^width; rows None where width > bits."""
    nonzero = V[V != 0]
    if not len(nonzero):
        return [[0] * V.shape[1] for _ in V], 0, 0
    mantissas, exponents = np.frexp(nonzero)
    whole = np.abs(np.ldexp(mantissas, 53).astype(np.int64))
    trailing = np.frexp((whole & -whole).astype(float))[1] - 1
    low, high = int((exponents - 53 + trailing).min()), int(exponents.max())
    if high - low > bits:
        return None, low, high - low
    half = low // 2  # in two steps: 2^-low may be no float
    return [[int(x) for x in row] for row in np.ldexp(np.ldexp(V, -half), half - low).tolist()], low, high - low


def rounded_root(square: Fraction) -> float:
    """The square root of a fraction >= 0, good to a few units of the last place, though the square may be no float."""
    if not square:
        return 0.0
    half = (square.numerator.bit_length() - square.denominator.bit_length()) // 2
    root = math.sqrt(square / Fraction(4) ** half)
    return math.ldexp(root, half) if half < 1023 else math.inf


def dot(p: list[int], q: list[int]) -> int:
    return sum(a * b for a, b in zip(p, q, strict=True))


def nearest_in_fractions(points: list[list[int]], weights: list[Fraction]) -> tuple[list[Fraction], Fraction, int]:
    """(weights of the point of least norm in conv(points), its squared norm, exchanges), begun at weights >= 0."""
    total = sum(weights, Fraction(0))
    x = {i: w / total for i, w in enumerate(weights) if w > 0}
    exchanges = 0
    while True:
        others = sorted(x, key=lambda i: -x[i])
        base = others.pop(0)
        differences = [[a - b for a, b in zip(points[i], points[base], strict=True)] for i in others]
        gram = [[dot(p, q) for q in differences] for p in differences]
        solution, dependent = _solve(gram, [-dot(p, points[base]) for p in differences])
        if dependent is None:
            goal = dict(zip(others, solution, strict=True))
            goal[base] = 1 - sum(solution, Fraction(0))
            way = {i: goal[i] - x[i] for i in x}
        else:  # affinely dependent: along the dependence the point stays where it is
            way = {i: -c for i, c in zip(others, solution, strict=False)}
            way[others[dependent]] = Fraction(1)
            way[base] = -sum(way.values(), Fraction(0))
        if dependent is not None or any(x[i] + step <= 0 for i, step in way.items()):
            length = min(x[i] / -step for i, step in way.items() if step < 0)
            moved = {i: x[i] + length * way.get(i, 0) for i in x}
            exchanges += sum(1 for w in moved.values() if not w)
            x = {i: w for i, w in moved.items() if w}
            continue
        x = goal
        scale = math.lcm(*(w.denominator for w in x.values()))
        whole = {i: int(w * scale) for i, w in x.items()}
        least = [sum(whole[i] * points[i][j] for i in whole) for j in range(len(points[0]))]
        square = dot(least, least)  # scale^2 |P|^2
        slopes = [scale * dot(least, p) for p in points]  # scale^2 <P, v_i>
        entering = min(range(len(points)), key=slopes.__getitem__)
        if slopes[entering] >= square:
            return [x.get(i, Fraction(0)) for i in range(len(points))], Fraction(square, scale**2), exchanges
        x[entering] = Fraction(0)
        exchanges += 1


def _solve(gram: list[list[int]], right: list[int]) -> tuple[list[Fraction], int | None]:
    """(c, None) with gram c = right; or (c, j) with column j of gram the combination c of those before it.

    gram is positive semidefinite, so the first pivot that vanishes is that of a dependent column. Every division is
    exact [B68].
    """
    k = len(gram)
    rows = [[*row, b] for row, b in zip(gram, right, strict=True)]
    last = 1
    for j in range(k):
        if not rows[j][j]:
            return _back([row[:j] for row in rows[:j]], [row[j] for row in rows[:j]]), j
        for i in range(j + 1, k):
            pivot, factor, above = rows[j][j], rows[i][j], rows[j]
            rows[i] = [0] * (j + 1) + [
                (pivot * a - factor * b) // last for a, b in zip(rows[i][j + 1 :], above[j + 1 :], strict=True)
            ]
        last = rows[j][j]
    return _back([row[:k] for row in rows], [row[k] for row in rows]), None


def _back(upper: list[list[int]], right: list[int]) -> list[Fraction]:
    x = [Fraction(0)] * len(upper)
    for j in reversed(range(len(upper))):
        known = sum((upper[j][i] * x[i] for i in range(j + 1, len(upper))), Fraction(0))
        x[j] = (right[j] - known) / upper[j][j]
    return x
