"""A sum of squared hinges, f(w) = |w|^2 / 2 + sum_i c_i max(0, b_i - y_i <x_i, w>)^2, and what its minimization needs:
slacks and gradient, Gram sums over chosen rows, the exact search along a line.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

if TYPE_CHECKING:
    from scipy import sparse

EPS = np.finfo(float).eps


class Hinges(NamedTuple):
    """The data of f: X (m, n) dense or CSR; y, c, b (m,); k = 2 c y^2."""

    X: Any
    y: np.ndarray
    c: np.ndarray
    b: np.ndarray
    k: np.ndarray


def _real(value):
    """The argument, TypeError where its dtype is complex: numpy would drop imaginary parts with a warning."""
    if np.iscomplexobj(value):
        raise TypeError("complex")
    return value


def _floats(value):
    return np.asarray(_real(value), dtype=float)


def vector(name: str, value: ArrayLike, size: int, least: float = -np.inf) -> NDArray[np.float64]:
    """The argument as (size,) floats, finite and at least `least`."""
    try:
        value = _floats(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be real numbers, {size} of them or one for all; got {value!r}") from None
    if value.shape not in ((), (size,)):
        raise ValueError(f"{name} must be one number or {size}; got shape {value.shape}")
    if not (np.isfinite(value).all() and (value >= least).all()):
        raise ValueError(
            f"{name} must be finite{'' if least < 0 else f' and >= {least:g}'}; got {value.min():g} the least"
        )
    return np.broadcast_to(value, size)


def hinges_of(X: ArrayLike, y: ArrayLike, weights: ArrayLike, offsets: ArrayLike) -> Hinges:
    """The sum of (m, n) rows, its arguments checked; ValueError names the wrong one."""
    try:
        A: Any = sp.csr_array(X, dtype=float) if sp.issparse(_real(X)) else np.ascontiguousarray(_floats(X))
    except (TypeError, ValueError):
        dtype = getattr(X, "dtype", None)
        came = type(X).__name__ if dtype is None else f"{type(X).__name__} of dtype {dtype}"
        raise ValueError(f"X must be an (m, n) array of real numbers; got {came}") from None
    if A.ndim != 2 or min(A.shape) < 1:
        raise ValueError(f"X must be (m, n) with m, n >= 1; got shape {A.shape}")
    entries = A.data if sp.issparse(A) else A
    top = max(-entries.min(initial=0.0), entries.max(initial=0.0))
    if not np.isfinite(top):
        raise ValueError("X must be finite; remove or impute the rows with NaN or infinity")
    m, n = A.shape
    y, c, b = vector("y", y, m), vector("weights", weights, m, 0.0), vector("offsets", offsets, m)
    with np.errstate(over="ignore", invalid="ignore"):
        k = 2 * c * y**2
        if not np.isfinite(k.sum() * top**2 * n):
            raise ValueError("2 weights y^2 |X|^2, a Hessian's trace, overflows; scale X, y or weights down")
    return Hinges(A, y, c, b, k)


def gradient(hinges: Hinges, w: np.ndarray) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(slacks, multipliers, grad f) at w."""
    r = hinges.b - hinges.y * (hinges.X @ w)
    a = 2 * hinges.c * np.maximum(r, 0)
    return r, a, w - hinges.X.T @ (hinges.y * a)


def objective(w: np.ndarray, r: np.ndarray, a: np.ndarray) -> float:
    """f(w), r and a the slacks and multipliers at w."""
    return float(w @ w + a @ np.maximum(r, 0)) / 2


def rounding(hinges: Hinges, w: np.ndarray) -> NDArray[np.float64]:
    """A bound of the rounding errors of grad f, entry by entry: sums of p terms are off by p EPS of their sizes."""
    A = abs(hinges.X)
    m, n = A.shape
    slack = (n + 2) * EPS * (np.abs(hinges.b) + np.abs(hinges.y) * (A @ np.abs(w)))
    r, a, _ = gradient(hinges, w)
    terms = np.where(r > -slack, 2 * hinges.c * slack, 0.0) + (m + 2) * EPS * a
    return EPS * np.abs(w) + A.T @ (np.abs(hinges.y) * terms)


# ---------------------------------------------------------------- the search


def search(hinges: Hinges, r: np.ndarray, g: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """The t >= 0 that minimizes f(w + t d), and about how much f falls; r the slacks and g the gradient at w.

    With q the fall of the slacks along d, f' along d is g.d at 0, continuous, and bends where a slack r - t q
    vanishes: a row that enters adds 2 c q^2 to its slope, one that leaves takes as much away.
    """
    slope, q = float(g @ d), hinges.y * (hinges.X @ d)
    if not slope < 0:
        return 0.0, 0.0
    active, curvature = r > 0, 2 * hinges.c * q**2
    bends = np.flatnonzero((active & (q > 0)) | (~active & (q < 0)))
    knots = r[bends] / q[bends]
    jumps = np.where(active[bends], -curvature[bends], curvature[bends])
    t = increasing_zero(slope, curvature @ active, knots, jumps, d @ d)
    return t, -t * slope / 2


def increasing_zero(value: float, slope: float, knots: np.ndarray, jumps: np.ndarray, least: Any) -> float:
    """The zero t >= 0 of the continuous piecewise-linear h, h(0) = value <= 0, by sorting its knots.

    h has slope `least` + slope from 0 to its first knot, and `jumps` more beyond each of the knots (p,) >= 0. What is
    added to `least` > 0 is never negative but by rounding, which is taken off; so there is one zero. O(p log p).
    """
    order = np.argsort(knots)
    starts = np.concatenate([[0.0], knots[order]])
    slopes = least + np.maximum(np.cumsum(np.concatenate([[slope], jumps[order]])), 0)
    values = np.cumsum(np.concatenate([[value], slopes[:-1] * np.diff(starts)]))
    i = max(int(np.searchsorted(values, 0.0)) - 1, 0)
    return float(starts[i] - values[i] / slopes[i])


# ---------------------------------------------------------------- sums over rows, and solutions with them


def updated(
    form: Callable[..., Any], hinges: Hinges, active: np.ndarray, memory: tuple[np.ndarray, np.ndarray, bool]
) -> tuple[NDArray[np.float64], bool]:
    """The sum `form` over the active rows, from that over others by the rows that differ, or anew if those are more."""
    entering, leaving = active & ~memory[0], memory[0] & ~active
    if np.count_nonzero(entering) + np.count_nonzero(leaving) >= np.count_nonzero(active):
        return form(hinges, active), True
    return memory[1] + form(hinges, entering) - form(hinges, leaving), False


def part(hinges: Hinges, rows: np.ndarray) -> tuple[Any, NDArray[np.float64]]:
    """X and k of the rows (m,) of True; no copy of all of them."""
    return (hinges.X, hinges.k) if rows.all() else (hinges.X[rows], hinges.k[rows])


def gram(hinges: Hinges, rows: np.ndarray) -> NDArray[np.float64]:
    """sum over the rows of k_i x_i x_i^T, (n, n)."""
    return weighted_gram(*part(hinges, rows))


def weighted_gram(X: Any, k: np.ndarray) -> Any:
    """X^T diag(k) X as a dense array, k >= 0."""
    if not len(k):
        return np.zeros((X.shape[1], X.shape[1]))
    if sp.issparse(X):
        return dense(X.T @ (sp.diags_array(k) @ X))
    if k.min() == k.max():
        return k[0] * (X.T @ X)
    X = X * np.sqrt(k)[:, None]
    return X.T @ X


def squares(hinges: Hinges, rows: np.ndarray) -> NDArray[np.float64]:
    """sum over the rows of k_i x_i^2 entry by entry, (n,): the diagonal of the Gram matrix."""
    X, k = part(hinges, rows)
    return (X.power(2) if sp.issparse(X) else X**2).T @ k


def dense(M: "np.ndarray | sparse.csc_array | sparse.csr_array") -> Any:
    """M as a dense array."""
    return M.toarray() if sp.issparse(M) else M


def inverse(H: np.ndarray) -> Callable[..., Any]:
    """The function g -> H^-1 g, for H >= I up to rounding; where rounding hides that, of H + the least multiple of I
    that helps.
    """
    damping = 0.0
    if not len(H):
        return lambda g: g
    while True:
        factor, failed = dpotrf(H.T, lower=1)  # H is symmetric, and its transpose in LAPACK's order
        if not failed:
            return lambda g: dpotrs(factor, g, lower=1)[0]
        more = max(10 * damping, EPS * np.trace(H))
        H, damping = H + (more - damping) * np.eye(len(H)), more


def primal_inverse(gram: np.ndarray) -> Callable[..., Any]:
    """g -> (I + gram)^-1 g, gram (n, n)."""
    H = gram.copy()
    H.flat[:: len(H) + 1] += 1
    return inverse(H)


def dual_inverse(outer: np.ndarray, k: np.ndarray) -> Callable[..., Any]:
    """v -> S (I + S outer S)^-1 S v, S = diag(k)^1/2, outer = X X^T (m, m): for (I + X^T diag(k) X)^-1 by Woodbury."""
    s = np.sqrt(k)
    M = s[:, None] * outer * s
    M.flat[:: len(M) + 1] += 1
    solve = inverse(M)
    return lambda v: s * solve(s * v)
