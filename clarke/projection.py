"""The element of a hull nearest to a target, with a certificate, and what else a hull is asked.

Let v_1, ..., v_m be arrays of one shape and C = conv{v_i}. The projection P of T onto C exists, is
unique, and is the one point of C with

    <P - T, v_i - P> >= 0 for every i,   and = 0 where the weight of v_i is positive.

For T = 0 and limiting Hessians v_i = H_i this is the minimum-norm element: symmetric, and positive
semidefinite if every H_i is. For any Q in C the gap bounds the distance to P:

    |Q - P|^2 <= <Q - T, Q - P> <= max_i <Q - T, Q - v_i> = |Q - T|^2 - min_i <Q - T, v_i - T>,

the first step by <P - T, Q - P> >= 0, the second because P is in C. So the gap certifies an answer,
whatever produced it.

The projection is one nonnegative least squares, that of problem LDP in [LH74]. With a last
coordinate of 1 appended to every v_i - T, the squared distance of (0, 1) to the cone they span is

    min over w >= 0 of sum 1, s >= 0 of |s sum_i w_i (v_i - T)|^2 + (s - 1)^2 = min_w q / (1 + q),

q = |sum_i w_i v_i - T|^2, at s = 1 / (1 + q); that increases in q, so w are the weights of P.

[LH74] Lawson, Hanson. Solving Least Squares Problems. Prentice-Hall (1974), chapter 23.
[BK25] Bolshim, Kugaevskikh. Inter-layer Hessian of a network as a DAG (2025), Definition 4.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from numbers import Real
from typing import Any

import numpy as np
from scipy.linalg import lstsq
from scipy.optimize import nnls

GAP = 1e-12  # with less, auto is content with nnls
ASYMMETRY = 1e-9  # of the largest entry; sums in different order leave far less


class ProjectionStopped(RuntimeError):
    """The solver ended without weights; there is nothing to certify."""


@dataclass(frozen=True, eq=False, repr=False)
class MinNormElement:
    """The element of a hull nearest to a target, and how far to trust it.

    element: the shape of one element; sum_i weights[i] v_i up to rounding.
    weights: (m,), the unused and the repeated elements at 0.
    gap: (|P - T|^2 - min_i <P - T, v_i - T>) / r^2, r = max_i |v_i - T|, recomputed from the
        weights and the elements as given; 0 when every element is T. The true projection is within
        sqrt(gap) r of `element`, its distance to T within gap r^2 / distance of `distance`.
    infeasibility: max(|sum weights - 1|, max(-weights)).
    distance: |P - T|, Euclidean (Frobenius); to more digits than the rounded `element` keeps.
    method: "vertex" (an element is itself the projection), "nnls" or "cvxpy".
    complete, reason: of the set the elements came from.
    """

    element: np.ndarray
    weights: np.ndarray
    gap: float
    infeasibility: float
    distance: float
    method: str
    complete: bool
    reason: str

    def __repr__(self):
        used, state = int(np.count_nonzero(self.weights)), "complete" if self.complete else "of an incomplete set"
        return (
            f"MinNormElement(distance={self.distance:.6g}, gap={self.gap:.1e}, {used} of {len(self.weights)} weights, "
            f"method={self.method!r}, {state})"
        )

    def __post_init__(self):
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

    def __post_init__(self):
        _freeze(self, "element")


def min_norm_element(elements: Any, *, method: str = "auto") -> MinNormElement:
    """The element of least Euclidean (Frobenius) norm in the hull; see `nearest_element`."""
    corners, shape, complete, reason = _read(elements, "elements")
    return _project(corners, np.zeros(shape), method, complete, reason)


def nearest_element(elements: Any, target: Any, *, method: str = "auto") -> MinNormElement:
    """P = argmin |M - T| over M in conv{v_i}, T = target, in the Euclidean (Frobenius) norm.

    elements: an array (m, ...), axis 0 indexing them, or limiting gradients, Jacobians, Hessians.
    target: an array of the shape of one element.
    method: "nnls", the active set of [LH74] on the problem above; "cvxpy", the definition handed to
        Clarabel; each is then solved again on its support. "auto" is nnls and, should its gap
        exceed 1e-12, the better of both.

    Elements with more than 2m entries are copied once. Of a hull that is small and far,
    |v_i - v_j| << |v_i - T|, a gap relative to |v_i - T|^2 says little about the place of P inside:
    at a ratio of 1e-6 that place is still good to 1e-8 of the hull's size; past 1e-8 the wrong face
    may be chosen.

    Raises ValueError on bad arguments, ProjectionStopped if the solver returns no weights.
    """
    corners, shape, complete, reason = _read(elements, "elements")
    return _project(corners, _one("target", target, shape), method, complete, reason)


def contains(elements: Any, target: Any, tol: float) -> bool:
    """Whether the target is within Euclidean distance tol (absolute, >= 0) of the hull.

    Rounding alone puts a member about 1e-15 max_i |v_i - T| away, so tol = 0 asks for luck. False
    speaks of the elements given: an incomplete set may have a larger hull.
    """
    _check_tol(tol)
    return bool(nearest_element(elements, target).distance <= tol)


def support(elements: Any, direction: Any) -> float:
    """The support function max_i <A_i, D> of the hull, D = direction of the shape of an element."""
    corners, shape, _, _ = _read(elements, "elements")
    return float((corners @ _one("direction", direction, shape).ravel()).max())


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
    near = bool(distance <= tol * max(np.linalg.norm(H) for H in stack))
    inside = near or (False if complete else None)
    return BlockwiseMinNorm(element, inside, distance, complete, reason)


# What comes in


def _freeze(value, *names: str) -> None:
    for name in names:
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
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; a hull needs finite entries: drop them")
    return array.astype(float, copy=False)


def _one(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = _real(name, given)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} of one element; got {array.shape}")
    return array


def _read(elements: Any, name: str) -> tuple[np.ndarray, tuple[int, ...], bool, str]:
    """Corners (m, size), the shape of one, complete, reason."""
    given = getattr(elements, "matrices", getattr(elements, "vectors", elements))
    array = _real(name, given)
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


def _project(
    corners: np.ndarray,
    target: np.ndarray,
    method: str,
    complete: bool,
    reason: str,
) -> MinNormElement:
    if method not in ("auto", *ROUTES):
        raise ValueError(f"method must be one of {', '.join(('auto', *ROUTES))}; got {method!r}")
    # Powers of two change no digit, and keep the squares of very large or small entries in range.
    size = _exponent(corners, target)
    distinct = list({blake2b(v.tobytes()).digest(): i for i, v in enumerate(corners)}.values())
    B, t = corners[distinct], np.ldexp(target.ravel(), -size)
    np.ldexp(B, -size, out=B)
    # Relative to the nearest vertex, differences keep the digits that a far hull would swallow.
    origin = B[min(range(len(B)), key=lambda i: np.linalg.norm(B[i] - t))].copy()
    B -= origin
    t -= origin
    spread = _exponent(B, t)
    np.ldexp(B, -spread, out=B)
    np.ldexp(t, -spread, out=t)

    used, w, gap = _solve(B, t, method)
    step = w @ B
    weights = np.zeros(len(corners))
    weights[distinct] = w
    with np.errstate(over="ignore"):  # a distance beyond the largest float is inf
        distance = float(np.ldexp(np.linalg.norm(step - t), size + spread))
    return MinNormElement(
        element=np.ldexp(origin + np.ldexp(step, spread), size).reshape(target.shape),
        weights=weights,
        gap=gap,
        infeasibility=float(max(abs(weights.sum() - 1), (-weights).max())),
        distance=distance,
        method=used,
        complete=complete,
        reason=reason,
    )


def _exponent(*arrays: np.ndarray) -> int:
    """e with the largest |entry| in [2^(e-1), 2^e), or 0 if all are zero."""
    return int(np.frexp(max(max(a.max(), -a.min()) for a in arrays))[1])


def _solve(B: np.ndarray, t: np.ndarray, method: str) -> tuple[str, np.ndarray, float]:
    """(route, weights, gap) for the rows of B, distinct, of which the nearest to t is 0."""
    if (B @ t).max() <= 0:  # the variational inequality holds at that row
        return "vertex", np.eye(1, len(B), int(B.any(axis=1).argmin()))[0], 0.0
    C = _triangle(B.shape, lambda columns: (B[:, columns] - t[columns]).T)
    C /= np.linalg.norm(C, axis=0).max()
    names = tuple(ROUTES) if method == "auto" else (method,)
    answers = []
    for name in names:
        weigh, cuts = ROUTES[name]
        try:
            w = weigh(C)
        except ProjectionStopped:
            if name == names[-1] and not answers:
                raise
            continue
        tried = [*(_polish(B, t, w, cut) for cut in cuts), w]
        answers += [(name, x, _gap(B, t, x)) for x in tried]
        if min(gap for _, _, gap in answers) <= GAP:
            break
    return min(answers, key=lambda answer: answer[2])


def _gap(B: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """max_i <P - t, P - B_i> / max_i |B_i - t|^2, P = w @ B, without a copy of B."""
    P = w @ B
    reach = (np.einsum("ij,ij->i", B, B) - 2 * (B @ t)).max() + t @ t
    return max(float(((P - t) @ P - (B @ (P - t)).min()) / reach), 0.0)


def _triangle(shape: tuple[int, ...], slab: Callable[[slice], np.ndarray]) -> np.ndarray:
    """R with R^T R = X^T X for the X (size, m) whose rows `columns` are slab(columns).

    A long X is met a slab at a time and never formed; a short one is returned as it is. The Gram
    matrix itself would lose half of the digits.
    """
    m, size = shape
    if size <= 2 * m:
        return slab(slice(None))
    R = np.empty((0, m))
    for start in range(0, size, 4 * m):
        below = slab(slice(start, start + 4 * m))
        R = np.asarray(np.linalg.qr(np.vstack([R, below]), mode="r"))
    return R


def _polish(B: np.ndarray, t: np.ndarray, w: np.ndarray, cut: float) -> np.ndarray:
    """Weights of the projection of t onto the affine hull of the B_i with w_i > cut * max w.

    Solved for the change from w, relative to the heaviest B_i, so that it sums to 0. Where weights
    would turn negative, it goes as far as the first to reach 0 and begins again without that one.
    """
    x = np.where(w > cut * w.max(), w, 0)
    while True:
        x /= x.sum()
        heaviest, *others = np.argsort(-x)[: np.count_nonzero(x)]
        if not others:
            return x
        change = np.zeros_like(x)
        change[others] = _regress(B, t - x @ B, heaviest, others)
        change[heaviest] = -change.sum()
        negative = np.flatnonzero(x + change < 0)
        if not len(negative):
            return (x + change) / (x + change).sum()
        step = x[negative] / -change[negative]
        x = np.maximum(x + step.min() * change, 0)
        x[negative[step.argmin()]] = 0


def _regress(B: np.ndarray, y: np.ndarray, base: int, others: list[int]) -> np.ndarray:
    """c with |sum_i c_i (B_i - B_base) - y| least, i in others; the shortest such c."""

    def slab(columns: slice) -> np.ndarray:
        return np.vstack([B[others, columns] - B[base, columns], y[columns]]).T

    R = _triangle((len(others) + 1, len(y)), slab)
    return lstsq(R[:, :-1], R[:, -1], lapack_driver="gelsy")[0]  # pyright: ignore


def _nnls(C: np.ndarray) -> np.ndarray:
    """The distance of (0, 1) to the cone of the columns (c_i, 1)."""
    try:
        x, _ = nnls(np.vstack([C, np.ones(C.shape[1])]), np.append(np.zeros(len(C)), 1))
    except RuntimeError as error:
        raise ProjectionStopped(f"nnls on {C.shape[1]} elements: {error} Try cvxpy.") from error
    return x / x.sum()


def _cvxpy(C: np.ndarray) -> np.ndarray:
    """The definition, as one reads it."""
    import cvxpy as cp  # slow to import

    w = cp.Variable(C.shape[1], nonneg=True)
    total: Any = cp.sum(w) == 1  # cvxpy types == as bool
    # The norm, not its square: near 0 the square hides half of the digits.
    problem = cp.Problem(cp.Minimize(cp.norm(C @ w)), [total])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an inaccurate optimum is judged by its gap
        try:
            problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
        except cp.SolverError as error:
            raise ProjectionStopped(f"Clarabel on {C.shape[1]} elements: {error}") from error
    if w.value is None:
        raise ProjectionStopped(f"Clarabel on {C.shape[1]} elements ended {problem.status!r}")
    x = np.maximum(w.value, 0)
    return x / x.sum()


# In the order that auto tries; and below which share of the largest weight a weight is none: an
# active set leaves true zeros, an interior point only small numbers.
ROUTES = {"nnls": (_nnls, (0,)), "cvxpy": (_cvxpy, (1e-6, 0))}
