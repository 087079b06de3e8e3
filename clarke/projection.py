"""The element of a hull nearest to a target, with a certificate, and what else a hull is asked.

Let v_1, ..., v_m be arrays of one shape and C = conv{v_i}. The projection P of T onto C exists, is
unique, and is the one point of C with

    <P - T, v_i - P> >= 0 for every i,   and = 0 where the weight of v_i is positive.

For T = 0 and limiting Hessians v_i = H_i this is the minimum-norm element: symmetric, and positive
semidefinite if every H_i is. For any Q in C the gap bounds the distance to P:

    |Q - P|^2 <= <Q - T, Q - P> <= max_i <Q - T, Q - v_i> = |Q - T|^2 - min_i <Q - T, v_i - T>,

the first step by <P - T, Q - P> >= 0, the second because P is in C. So the gap certifies an answer,
whatever produced it.

A hull comes in one of three forms: its elements stacked in an array; scipy LinearOperators, met through their inner
products (`operator_hulls`); or a `Zonotope`, the sums over independent gates, met through its box (`zonotopes`).

[BK25] Bolshim, Kugaevskikh. Inter-layer Hessian of a network as a DAG (2025), Definition 4.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from . import zonotopes
from .exact_projection import ExactProjection, integers, nearest_in_fractions, rounded_root
from .least_norm import EPS, ProjectionStopped, active_set, gap, nnls, polish, triangle, wolfe
from .operator_hulls import are_operators, combination, images, inner_products, read_operators
from .zonotopes import Zonotope, box_weights

GAP = 1e-14  # with less, auto is content; another route is tried otherwise
ENOUGH = 4 * EPS  # with less, nothing more is tried: rounding moves the gap by as much
FEW = 24  # elements below which nnls is first: its fixed cost is least
WIDE = 0.1  # a hull whose width is a smaller share of its distance is far: its digits are in the differences
RANGE = 1e-200  # squares below it, or above its inverse, are rescaled first
PARAMETERS = 4000  # numbers in a problem that cvxpy compiles once for its shape: compiling grows faster than solving
SHARE = 1e-6  # of the largest weight: an interior point gives an unused element less
ASYMMETRY = 1e-9  # of the largest entry; sums in different order leave far less


@dataclass(frozen=True, eq=False, repr=False)
class MinNormElement:
    """The element of a hull nearest to a target, and how far to trust it.

    element: the shape of one element; sum_i weights[i] v_i up to rounding. A LinearOperator, that weighted sum, where
        the elements were LinearOperators.
    weights: (m,), the unused and the repeated elements at 0. Of a Zonotope: x (k,) in [0, 1], the share of each gate.
    gap: (|P - T|^2 - min_i <P - T, v_i - T>) / r^2, r = max_i |v_i - T|, recomputed from the
        weights and the elements as given; 0 when every element is T. The true projection is within
        sqrt(gap) r of `element`, its distance to T within gap r^2 / distance of `distance`. Of a Zonotope: over
        all vertices, none listed; r^2 is the mean of |v - T|^2 over them, which is less.
    infeasibility: max(|sum weights - 1|, max(-weights)); of a Zonotope how far weights leave [0, 1].
    distance: |P - T|, Euclidean (Frobenius); to more digits than the rounded `element` keeps.
    method: "vertex" (an element is itself the projection), "nnls", "wolfe", "active-set", "cvxpy"; "box" of a Zonotope.
    complete, reason: of the set the elements came from.
    """

    element: Any
    weights: np.ndarray
    gap: float
    infeasibility: float
    distance: float
    method: str
    complete: bool
    reason: str

    def __repr__(self) -> str:
        used, state = int(np.count_nonzero(self.weights)), "complete" if self.complete else "of an incomplete set"
        return (
            f"MinNormElement(distance={self.distance:.6g}, gap={self.gap:.1e}, {used} of {len(self.weights)} weights, "
            f"method={self.method!r}, {state})"
        )

    def __post_init__(self) -> None:
        _freeze(self, "element", "weights")


@dataclass(frozen=True, eq=False)
class BlockwiseMinNorm:
    """A matrix whose blocks are least one by one, and whether the hull still holds it.

    element: (n, n), symmetric.
    inside: within the tolerance of the hull; None where it is not and the set is incomplete.
    distance: Frobenius distance to the hull.
    complete, reason: of the set the elements came from.
    """

    element: np.ndarray
    inside: bool | None
    distance: float
    complete: bool
    reason: str

    def __post_init__(self) -> None:
        _freeze(self, "element")


def min_norm_element(elements: Any, *, method: str = "auto") -> MinNormElement:
    """The element of least Euclidean (Frobenius) norm in the hull; see `nearest_element`."""
    return _nearest(elements, None, method)


def nearest_element(elements: Any, target: Any, *, method: str = "auto") -> MinNormElement:
    """P = argmin |M - T| over M in the hull, T = target, in the Euclidean (Frobenius) norm.

    elements: an array (m, ...), axis 0 indexing them; limiting gradients, Jacobians or Hessians; a list of scipy
        LinearOperators of one shape (p, n), each multiplied with n columns, nothing p x n held; or a `Zonotope`.
    target: an array of the shape of one element, or a LinearOperator where the elements are.
    method: "nnls", "wolfe" and "active-set" are those of `least_norm`; "cvxpy" the definition handed to Clarabel; each
        is sharpened on its support where its gap exceeds a few units of rounding or the hull is far. "auto" begins
        with nnls for up to 24 elements, with the active set for more, and goes on to the others until a gap is at
        most 1e-14; the best answer counts. A Zonotope has one method, its box, and takes "auto" alone.

    Elements with more than 2m entries are copied once. Of a hull that is small and far,
    |v_i - v_j| << |v_i - T|, a gap relative to |v_i - T|^2 says little about the place of P inside:
    at a ratio of 1e-6 that place is still good to 1e-8 of the hull's size; past 1e-8 the wrong face
    may be chosen.

    Raises ValueError on bad arguments, ProjectionStopped if the solver returns no weights.
    """
    return _nearest(elements, target, method, targeted=True)


def contains(elements: Any, target: Any, tol: float) -> bool:
    """Whether the target is within Euclidean distance tol (absolute, >= 0) of the hull, in any form.

    Rounding alone puts a member about 1e-15 max_i |v_i - T| away, so tol = 0 asks for luck. False
    speaks of the elements given: an incomplete set may have a larger hull.
    """
    _check_tol(tol)
    return bool(nearest_element(elements, target).distance <= tol)


def support(elements: Any, direction: Any) -> float:
    """The support function max_i <A_i, D> of the hull, D = direction of the shape of an element.

    Of limiting gradients it is Clarke's directional derivative f°(x; D); of a Zonotope <c, D> + sum_j max(<g_j, D>, 0).
    """
    if isinstance(elements, Zonotope):
        d = _one("direction", direction, elements.center.shape).ravel()
        gains = elements.generators.reshape(len(elements), len(d)) @ d
        return float(elements.center.ravel() @ d + np.maximum(gains, 0).sum())
    if are_operators(elements):
        operators = read_operators("elements", elements)
        return float(inner_products(operators, _one_operator("direction", direction, operators[0].shape)).max())
    corners, shape, _, _ = _read(elements, "elements")
    return float((corners @ _one("direction", direction, shape).ravel()).max())


def prove_nearest(elements: Any, found: MinNormElement, target: Any = None, *, bits: int = 64) -> ExactProjection:
    """Verify a projection in fractions: the optimality system of its support solved, every condition checked, exactly.

    elements, target: what `found` came from, target None for 0, the elements listed; their entries are taken at their
        exact binary value.
    bits: the check applies where all entries are whole multiples, below 2^bits, of one power of two: small integers,
        dyadic fractions. Wider data, operators and zonotopes get `proved=None` and the reason.

    For k elements of positive weight the work is k^3 products of integers some k bits long: seconds at k = 100.
    """
    if isinstance(elements, Zonotope) or are_operators(elements):
        return ExactProjection(None, None, None, 0, None, "not applicable: the elements are not listed")
    corners, shape, _, _ = _read(elements, "elements")
    if found.weights.shape != (len(corners),):
        raise ValueError(f"found must have one weight an element, {len(corners)}; it has {len(found.weights)}")
    if isinstance(found.element, LinearOperator) or found.element.shape != shape:
        raise ValueError(
            f"found must be of these elements, each an array of shape {shape}; its element is a "
            f"{type(found.element).__name__} of shape {found.element.shape}"
        )
    goal = np.zeros(corners.shape[1]) if target is None else _one("target", target, shape).ravel()
    for name, given in (("elements", elements), ("target", 0 if target is None else target)):
        if not _are_doubles(given):
            reason = f"not applicable: {name} holds numbers that are no doubles, and projections round them first"
            return ExactProjection(None, None, None, 0, None, reason)
    rows, low, width = integers(np.vstack([corners, goal]), bits)
    if rows is None:
        reason = f"not applicable: the entries span {width} binary digits, and bits={bits}"
        return ExactProjection(None, None, None, 0, None, reason)
    *points, origin = rows
    shifted = [[a - b for a, b in zip(p, origin, strict=True)] for p in points]
    weights, square, exchanges = nearest_in_fractions(shifted, [Fraction(max(w, 0.0)) for w in found.weights.tolist()])
    unit = Fraction(2) ** low
    used = [(w, p) for w, p in zip(weights, points, strict=True) if w]
    apart = (
        Fraction(x) - unit * sum((w * p[j] for w, p in used), Fraction(0))
        for j, x in enumerate(np.ravel(found.element).tolist())
    )
    error = rounded_root(sum((a * a for a in apart), Fraction(0)))
    reason = f"the optimality conditions hold exactly with {len(used)} positive weights"
    return ExactProjection(True, tuple(weights), square * unit**2, exchanges, error, reason)


def eigenvalue_interval(hessians: Any) -> tuple[float, float]:
    """(min_i lambda_min(H_i), max_i lambda_max(H_i)): the least and largest eigenvalue in the hull.

    Proof: lambda_min is concave and lambda_max convex, being a minimum and a maximum over unit x of
    x . H x, linear in H; so over a hull each is extreme at a corner.

    hessians: (m, n, n), each symmetric to 1e-9 of its largest entry (or ValueError); the symmetric
    part is taken.
    """
    stack, _, _ = _read_symmetric(hessians)
    spectra = np.linalg.eigvalsh(stack)
    return float(spectra.min()), float(spectra.max())


def blockwise_min_norm(hessians: Any, sizes: Any, *, tol: float = 1e-9) -> BlockwiseMinNorm:
    """Each block's own minimum-norm element, assembled: the selection of [BK25], Definition 4.

    The weights differ from block to block, so the matrix can leave the hull and be indefinite even
    where every H_i is positive definite; `inside` tells. `min_norm_element` chooses jointly.

    hessians: (m, n, n), symmetric as in `eigenvalue_interval`.
    sizes: the orders of the diagonal blocks, positive, of sum n.
    tol: `inside` means a distance to the hull of at most tol * max_i |H_i|.
    """
    _check_tol(tol)
    stack, complete, reason = _read_symmetric(hessians)
    n = stack.shape[1]
    orders = _real("sizes", sizes).ravel()
    if orders.sum() != n or (orders < 1).any() or (orders % 1).any():
        raise ValueError(f"sizes must be positive whole numbers of sum {n}; got {sizes!r}")
    ends = np.cumsum(orders).astype(int)
    spans = [slice(end - int(order), end) for order, end in zip(orders, ends, strict=True)]
    upper = np.zeros((n, n))
    for i, rows in enumerate(spans):
        for columns in spans[i:]:
            upper[rows, columns] = min_norm_element(stack[:, rows, columns]).element
    element = np.triu(upper) + np.triu(upper, 1).T
    distance = nearest_element(stack, element).distance
    size = _exponent(stack)  # squares of very large or small entries leave the range
    largest = max(np.linalg.norm(H) for H in np.ldexp(stack, -size))
    near = bool(np.ldexp(distance, -size) <= tol * largest)
    inside = near or (False if complete else None)
    return BlockwiseMinNorm(element, inside, distance, complete, reason)


# What comes in


def _freeze(value, *names: str) -> None:
    for name in names:
        if isinstance(getattr(value, name), LinearOperator):
            continue
        array = np.array(getattr(value, name), dtype=float)
        array.flags.writeable = False
        object.__setattr__(value, name, array)


def _check_tol(tol: Any) -> None:
    if not (isinstance(tol, Real) and 0 <= float(tol) < np.inf):
        raise ValueError(f"tol must be a finite number >= 0; got {tol!r}")


def _real(name: str, given: Any) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError:
        array = np.array(None)  # ragged: no dtype of numbers either
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be an array of real numbers; got {type(given).__name__} that numpy reads "
            f"as {array.dtype}: pass arrays of one shape, stacked"
        )
    with np.errstate(over="ignore"):  # a long double may be beyond the doubles
        array = array.astype(float, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; a hull needs finite entries: drop them")
    return array


def _one(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = _real(name, given)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} of one element; got {array.shape}")
    return array


def _one_operator(name: str, given: Any, shape: tuple[int, int]) -> LinearOperator:
    if not isinstance(given, LinearOperator):
        given = _one(name, given, shape)
    (operator,) = read_operators(name, [given])
    if operator.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} of one element; got {operator.shape}")
    return operator


def _listed(elements: Any) -> Any:
    return getattr(elements, "matrices", getattr(elements, "vectors", elements))


def _are_doubles(given: Any) -> bool:
    """Does conversion to float keep every number? Of integers those up to 2^53 are asked for."""
    array = np.asarray(_listed(given))
    if array.dtype.kind in "iu":
        return bool((array <= 2**53).all() and (array >= -(2**53)).all())
    return array.dtype.kind != "f" or bool((array == array.astype(float)).all())


def _read(elements: Any, name: str) -> tuple[np.ndarray, tuple[int, ...], bool, str]:
    """Corners (m, size), the shape of one, complete, reason."""
    array = _real(name, _listed(elements))
    if array.ndim == 0 or array.size == 0:
        raise ValueError(
            f"{name} must be an array (m, ...) of m >= 1 elements with entries; got the shape "
            f"{array.shape}: stack them along axis 0"
        )
    complete = getattr(elements, "complete", True)
    reason = getattr(elements, "reason", "the elements were given as an array")
    return array.reshape(len(array), -1), array.shape[1:], complete, reason


def _read_symmetric(hessians: Any) -> tuple[np.ndarray, bool, str]:
    """Symmetric parts (m, n, n), complete, reason."""
    if isinstance(hessians, Zonotope):
        raise ValueError(
            "hessians must be listed: the least eigenvalue over a zonotope is at one of its 2^k vertices, as is each "
            "block's place in it; pass .vertices() where k is small"
        )
    if are_operators(hessians):
        raise ValueError(
            "hessians must be matrices (m, n, n) here; got LinearOperators, of which only products are known"
        )
    corners, shape, complete, reason = _read(hessians, "hessians")
    if len(shape) != 2 or shape[0] != shape[1]:
        came = (len(corners), *shape)
        raise ValueError(f"hessians must be square matrices stacked as (m, n, n); got {came}")
    stack = corners.reshape(-1, *shape).copy()
    for i, H in enumerate(stack):
        apart = np.abs(H - H.T).max()
        if apart > ASYMMETRY * np.abs(H).max():
            raise ValueError(
                f"hessians[{i}] is not symmetric: mirrored entries differ by up to {apart:.3g}; "
                f"pass (H + H.T) / 2 if that is meant"
            )
        H[:] = H / 2 + H.T / 2
    return stack, complete, reason


# The projection


def _nearest(elements: Any, target: Any, method: str, targeted: bool = False) -> MinNormElement:
    if method not in ("auto", *ROUTES):
        raise ValueError(f"method must be one of {', '.join(('auto', *ROUTES))}; got {method!r}")
    if isinstance(elements, Zonotope):
        return _on_box(elements, _one("target", target, elements.center.shape) if targeted else None, method)
    if are_operators(elements):
        operators = read_operators("elements", elements)
        goal = _one_operator("target", target, operators[0].shape) if targeted else None
        found = _project(images(operators, goal), None, method, True, "the elements were given as operators")
        return replace(found, element=combination(operators, found.weights))
    corners, shape, complete, reason = _read(elements, "elements")
    goal = _one("target", target, shape).ravel() if targeted else None
    found = _project(corners, goal, method, complete, reason)
    return found if len(shape) == 1 else replace(found, element=found.element.reshape(shape))


def _project(V: np.ndarray, target: np.ndarray | None, method: str, complete: bool, reason: str) -> MinNormElement:
    """The projection onto the hull of the rows of V (m, size); target (size,), None for 0."""
    kept = _distinct(V)
    A = V if kept is None else V[kept]
    squares = _squares(A, target)
    size = spread = 0
    if RANGE < squares[squares.argmax()] < 1 / RANGE:
        origin = A[squares.argmin()]
        # Relative to the nearest vertex, differences keep the digits that a far hull would swallow.
        B = A - origin
        t = -origin if target is None else target - origin
    else:
        # Powers of two change no digit, and keep the squares of very large or small entries in range.
        target = np.zeros(A.shape[1]) if target is None else target
        size = _exponent(A, target)
        B, t = np.ldexp(A, -size), np.ldexp(target, -size)
        origin = B[_squares(B, t).argmin()].copy()
        B -= origin
        t -= origin
        spread = _exponent(B, t)
        np.ldexp(B, -spread, out=B)
        np.ldexp(t, -spread, out=t)
        squares = _squares(B, t)

    used, w, left = _solve(B, t, squares, method)
    step = w @ B
    apart = step - t
    distance, element = math.sqrt(apart @ apart), step
    if size or spread:
        with np.errstate(over="ignore"):  # a distance beyond the largest float is inf
            distance = float(np.ldexp(distance, size + spread))
        element = np.ldexp(origin + np.ldexp(step, spread), size)
    else:
        element += origin
    if kept is not None:
        some, w = w, np.zeros(len(V))
        w[kept] = some
    infeasibility = max(abs(float(w.sum()) - 1), -float(w[w.argmin()]))
    return MinNormElement(element, w, left, infeasibility, distance, used, complete, reason)


def _distinct(V: np.ndarray) -> list[int] | None:
    """Where each row occurs first; None if none is repeated. Rows whose first entries differ are not read further."""
    if len(set(V[:, 0].tolist())) == len(V):
        return None
    seen: dict[bytes, int] = {}
    for i, v in enumerate(V):
        seen.setdefault(blake2b((v + 0.0).tobytes()).digest(), i)  # + 0.0: the two zeros are one
    return None if len(seen) == len(V) else list(seen.values())


def _squares(V: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    """|v_i - T|^2, a block of rows at a time."""
    if target is None:
        return np.einsum("ij,ij->i", V, V)  # overflow is infinite and silent
    step = max(1, 2**17 // V.shape[1])
    with np.errstate(over="ignore"):
        blocks = [V[i : i + step] - target for i in range(0, len(V), step)]
    return np.concatenate([np.einsum("ij,ij->i", X, X) for X in blocks])


def _exponent(*arrays: np.ndarray) -> int:
    """e with the largest |entry| in [2^(e-1), 2^e), or 0 if all are zero."""
    return int(np.frexp(max(max(a.max(), -a.min()) for a in arrays))[1])


def _solve(B: np.ndarray, t: np.ndarray, squares: np.ndarray, method: str) -> tuple[str, np.ndarray, float]:
    """(route, weights, gap) for the rows of B, distinct, at squared distances `squares` from t, the nearest at 0."""
    slopes = B @ t
    if slopes[slopes.argmax()] <= 0:  # the variational inequality holds at that row
        return "vertex", np.eye(1, len(B), int(B.any(axis=1).argmin()))[0], 0.0
    reach = math.sqrt(squares[squares.argmax()])
    apart = float(squares[squares.argmin()])
    own = squares + 2 * slopes  # minus `apart`: the squares of B
    far = own[own.argmax()] - apart < WIDE**2 * apart
    names = (method,) if method != "auto" else FEW_ORDER if len(B) <= FEW else ORDER
    answers: list[tuple[str, np.ndarray, float]] = []
    for name in names:
        mine = []
        try:
            for w in ROUTES[name](B, t, reach):
                mine.append((name, w, gap(B, t, reach, w)))
                if mine[-1][2] <= ENOUGH:
                    break
        except ProjectionStopped:
            if name == names[-1] and not answers and not mine:
                raise
        if mine:
            best = min(mine, key=_left)
            if far:
                x = polish(B, t, best[1])
                best = min(best, (name, x, gap(B, t, reach, x)), key=_left)
            if best[2] <= GAP:
                return best
            answers.append(best)
    return min(answers, key=_left)


def _left(answer: tuple[str, np.ndarray, float]) -> float:
    return answer[2]


def _on_box(zonotope: Zonotope, target: np.ndarray | None, method: str) -> MinNormElement:
    if method != "auto":
        raise ValueError(f"a Zonotope has one method, its box: leave method at 'auto'; got {method!r}")
    center = zonotope.center.ravel()
    G = zonotope.generators.reshape(len(zonotope), center.size)
    goal = np.zeros(center.size) if target is None else target.ravel()
    ends = (center, goal, G) if len(G) else (center, goal)
    size = max(0, _exponent(*ends) - 1000)  # so far at least, lest center - target overflow
    c, G = np.ldexp(center, -size) - np.ldexp(goal, -size), np.ldexp(G, -size)
    spread = _exponent(c, G) if len(G) else _exponent(c)
    c, G, size = np.ldexp(c, -spread), np.ldexp(G, -spread), size + spread
    best, left = np.zeros(len(G)), zonotopes.gap(G, c, np.zeros(len(G)))
    if left > 0 and len(G):
        for x in box_weights(G, c):
            now = zonotopes.gap(G, c, x)
            if now < left:
                best, left = x, now
            if left <= ENOUGH:
                break
    step = best @ G
    with np.errstate(over="ignore"):  # a distance beyond the largest float is inf
        distance = float(np.ldexp(np.linalg.norm(c + step), size))
    return MinNormElement(
        element=(center + np.ldexp(step, size)).reshape(zonotope.center.shape),
        weights=best,
        gap=left,
        infeasibility=max(0.0, -float(best.min(initial=0)), float(best.max(initial=0)) - 1),
        distance=distance,
        method="box",
        complete=True,
        reason="the elements were given as a zonotope",
    )


# The definition


def _cvxpy(B: np.ndarray, t: np.ndarray, reach: float) -> Iterator[np.ndarray]:
    """The definition, as one reads it, at the tightest tolerances Clarabel is of use with."""
    C = triangle(B.shape, lambda columns: (B[:, columns] - t[columns]).T) / reach
    k, m = C.shape
    problem, points, w = _compiled(k, m) if C.size <= PARAMETERS else _definition(k, m)
    points.value = C
    import cvxpy as cp  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an inaccurate optimum is judged by its gap
        try:
            problem.solve(
                solver=cp.CLARABEL,
                tol_gap_abs=1e-13,
                tol_gap_rel=1e-13,
                tol_feas=1e-13,
                ignore_dpp=C.size > PARAMETERS,
            )
        except cp.SolverError as error:
            raise ProjectionStopped(f"Clarabel on {m} elements: {error}") from error
    if w.value is None:
        raise ProjectionStopped(f"Clarabel on {m} elements ended {problem.status!r}")
    x = np.maximum(w.value, 0)
    # Its interior point leaves weights of 1e-14 where there are none: the polished ones first.
    yield from wolfe(B, t, reach, np.where(x > SHARE * x.max(), x, 0))
    yield x / x.sum()


def _definition(k: int, m: int) -> tuple[Any, Any, Any]:
    """min |C w| over w >= 0 of sum 1: the problem, its parameter C (k, m), its variable w."""
    import cvxpy as cp

    points, w = cp.Parameter((k, m)), cp.Variable(m, nonneg=True)
    total: Any = cp.sum(w) == 1  # cvxpy types == as bool
    # The norm, not its square: near 0 the square hides half of the digits.
    return cp.Problem(cp.Minimize(cp.norm(points @ w)), [total]), points, w


_compiled = lru_cache(maxsize=32)(_definition)

ROUTES: dict[str, Callable[[np.ndarray, np.ndarray, float], Iterator[np.ndarray]]] = {
    "nnls": nnls,
    "active-set": active_set,
    "wolfe": wolfe,
    "cvxpy": _cvxpy,
}
FEW_ORDER = ("nnls", "active-set", "wolfe", "cvxpy")
ORDER = ("active-set", "wolfe", "nnls", "cvxpy")
