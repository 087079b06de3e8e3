"""Sums of squared hinges, minimized by semismooth Newton in finitely many steps.

    f(w) = |w|^2 / 2 + sum_i c_i max(0, b_i - y_i <x_i, w>)^2,    c_i >= 0,

is strongly convex, its gradient continuous and piecewise linear. Let r_i = b_i - y_i <x_i, w> be the slacks and I the
rows with r_i > 0; the rows with r_i = 0 are kinks. With k_i = 2 c_i y_i^2,

    grad f = w - 2 sum_I c_i r_i y_i x_i,        H_I = I + X_I^T diag(k_I) X_I in the generalized Hessian at w,

the element of least trace where there are kinks. The Newton step -H_I^-1 grad f, followed to the minimum of f along it,
ends in finitely many steps [M02, KD05]: when the piece of the minimum is met, one whole step lands there. Where a
search cuts a step short, the pieces on the way are many; then the central path leads near the minimum first.

The certificate needs no faith in the steps. f - |.|^2 / 2 is convex, so |w - w*| <= |grad f(w)|; and with the
multipliers a_i = 2 c_i max(0, r_i), feasible for the dual problem, f(w) less the dual value b.a - |sum_i a_i y_i x_i|^2
/ 2 - sum_i a_i^2 / 4 c_i is |grad f(w)|^2 / 2 exactly.

Squares of any piecewise-linear functions of two pieces are such sums: (b - <x, w>)^2 is the rows x and -x with offsets
b and -b, an epsilon-insensitive square the same with offsets b - epsilon and -b - epsilon.

[M02] Mangasarian. A finite Newton method for classification. Optimization Methods and Software 17 (2002) 913-929.
[KD05] Keerthi, DeCoste. A modified finite Newton method for fast solution of large scale linear SVMs. JMLR 6 (2005).
"""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator, cg

from .central_path import along_the_path
from .hinges import (
    EPS,
    dense,
    dual_inverse,
    gradient,
    gram,
    hinges_of,
    objective,
    part,
    primal_inverse,
    rounding,
    search,
    squares,
    updated,
    vector,
)

DIRECT = 2048  # unknowns up to which a dense matrix is factored; beyond, conjugate gradients cost less
DIRECT_SPARSE = 512  # the same for sparse rows, whose products are cheap
FORCING = 0.1  # of the gradient, left by conjugate gradients far from the minimum
CUT = 0.75  # of a whole step: a search after the first that leaves less has met many pieces
SMALL = 2e6  # multiplications for a Gram matrix: with fewer, a Newton step costs less than one along the path
NEARLY = 100  # times tol, from where a few more of their products save a step
LEAST = np.sqrt(np.finfo(float).tiny) / EPS  # |grad f(0)| whose last digit has a square among the floats
LOST = 3  # steps in a row that lower f by no more than rounding and do not halve the gradient

STATUS = {
    0: "the gradient and the gap are within tol",
    1: "iteration limit reached",
    2: "rounding: f falls no more, and the gradient is not within tol, but within the rounding errors of its terms",
    3: "stalled: f falls no more, and the gradient is neither within tol nor within the rounding errors of its terms",
}


class NewtonStep(NamedTuple):
    """gradient: relative, where the step began; active rows there, and how many of them changed since the step before;
    length of the step, 1 a whole one; products with H by conjugate gradients; central: a step along the central path,
    one matrix factored like any other, with its length alone and a gradient of NaN.
    """

    gradient: float
    active: int
    changed: int
    length: float
    products: int
    central: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class SquaredHingeMinimum:
    """Where semismooth Newton ended, in the names of scipy, and the certificate, recomputed at x from the data.

    x (n,); fun = f(x); jac (n,) its gradient; slacks (m,) r_i, multipliers (m,) 2 c_i max(0, r_i), the dual solution.
    relative_gradient: |jac| / |grad f(0)|, 0 where both vanish. distance = |jac| bounds |x - x*|, gap = |jac|^2 / 2
    bounds fun - min f, both up to the rounding of jac itself.
    nit steps, history a `NewtonStep` each; method "cholesky", "woodbury" or "cg"; success: status is 0, see `STATUS`.
    """

    x: np.ndarray
    fun: float
    jac: np.ndarray
    slacks: np.ndarray
    multipliers: np.ndarray
    relative_gradient: float
    nit: int
    history: tuple[NewtonStep, ...]
    method: str
    status: int

    def __post_init__(self) -> None:
        for name in ("x", "jac", "slacks", "multipliers"):
            getattr(self, name).flags.writeable = False

    @property
    def success(self) -> bool:
        return self.status == 0

    @property
    def message(self) -> str:
        return STATUS[self.status]

    @property
    def distance(self) -> float:
        return float(np.linalg.norm(self.jac))

    @property
    def gap(self) -> float:
        return self.distance**2 / 2

    def __repr__(self) -> str:
        return (
            f"SquaredHingeMinimum(fun={self.fun:.12g}, relative_gradient={self.relative_gradient:.1e}, "
            f"gap={self.gap:.1e}, nit={self.nit}, method={self.method!r}, {self.message})"
        )


def minimize_squared_hinges(
    X: Any,
    y: ArrayLike,
    weights: ArrayLike,
    *,
    offsets: ArrayLike = 1.0,
    start: ArrayLike | None = None,
    tol: float = 1e-12,
    maxiter: int = 1000,
    method: str = "auto",
) -> "SquaredHingeMinimum":
    """The minimizer of |w|^2 / 2 + sum_i weights_i max(0, offsets_i - y_i <x_i, w>)^2, a `SquaredHingeMinimum`.

    X (m, n), dense or sparse, read as float64; y (m,) real, labels of -1 and 1 in a support vector machine; weights
    >= 0 and offsets numbers or (m,); start (n,), 0 by default. tol bounds |grad f| / |grad f(0)| and gap / f; what is
    not reached in maxiter steps, or not at all in this arithmetic, says so in status and message.

    method: "cholesky" factors the (n, n) matrix H_I, whose Gram matrix is updated by the rows that changed; "woodbury"
    a matrix as large as there are active rows, from the (m, m) Gram matrix; "cg" needs products with X only, its
    preconditioner the diagonal of H_I, and copies the active rows. "auto" takes the smaller of the first two while its
    matrix has at most 2,048 rows (512 where X is sparse), else the last. The central path is for "cholesky".

    Raises ValueError where an argument is not as said, where f or its gradient at 0 or at start overflows, or where
    the gradient at 0 is not 0 but below 7e-139. Where it is 0, so is the minimizer, found in no step from any start.
    """
    hinges = hinges_of(X, y, weights, offsets)
    m, n = hinges.X.shape
    if not (isinstance(tol, Real) and 0 <= float(tol) < np.inf):
        raise ValueError(f"tol must be a finite number >= 0; got {tol!r}")
    if not (isinstance(maxiter, Integral) and maxiter >= 0):
        raise ValueError(f"maxiter must be an integer >= 0; got {maxiter!r}")
    if method not in ("auto", *DIRECTIONS):
        raise ValueError(f"method must be 'auto', {', '.join(map(repr, DIRECTIONS))}; got {method!r}")
    if method == "auto":
        small = min(m, n) <= (DIRECT_SPARSE if sp.issparse(hinges.X) else DIRECT)
        method = ("cholesky" if n <= m else "woodbury") if small else "cg"
    w = np.zeros(n) if start is None else vector("start", start, n).copy()
    return _newton(hinges, w, float(tol), int(maxiter), method)


def _newton(hinges, w, tol, maxiter, method):
    hard = method == "cholesky" and hinges.X.shape[0] * hinges.X.shape[1] ** 2 > SMALL  # enough for the central path
    memory, history, before, lost, best = None, [], None, 0, np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        *_, first = at_zero = gradient(hinges, np.zeros_like(w))
        if not first.any():  # 0 is the minimizer, and steps toward it would end among squares that vanish
            w = np.zeros_like(w)
        r, a, g = gradient(hinges, w) if w.any() else at_zero
        size, fun, scale = float(np.linalg.norm(g)), objective(w, r, a), float(np.linalg.norm(first))
    if not np.isfinite([scale, size, fun]).all():
        raise ValueError("f or its gradient overflows; scale X, weights, offsets or start down")
    if first.any() and scale < LEAST:
        raise ValueError(f"the gradient at 0 is below {LEAST:.0e}, squares vanish; scale X, weights or offsets up")
    while True:
        least = min(tol * scale, np.sqrt(2 * tol * fun))
        if size <= least:
            status = 0
            break
        if lost == LOST:
            status = 2 if (np.abs(g) <= rounding(hinges, w)).all() else 3
            break
        if len(history) == maxiter:
            status = 1
            break
        active = (r > 0) & (hinges.k > 0)
        goal = min(FORCING, _ratio(size, scale)) * size
        goal = least / 2 if goal <= NEARLY * least else goal
        d, memory, products = DIRECTIONS[method](hinges, w, g, active, goal, memory)
        t, fall = search(hinges, r, g, d)
        changed = 0 if before is None else int(np.count_nonzero(active != before))
        history.append(NewtonStep(_ratio(size, scale), int(np.count_nonzero(active)), changed, t, products))
        before, best = active, min(best, size)
        w = w + t * d
        if hard and len(history) > 1 and t < CUT:
            hard, memory = False, None
            w, lengths = along_the_path(hinges, w, maxiter - len(history))
            history += [NewtonStep(np.nan, 0, 0, length, 0, central=True) for length in lengths]
        r, a, g = gradient(hinges, w)
        size, fun = float(np.linalg.norm(g)), objective(w, r, a)
        lost = lost + 1 if fall <= EPS * fun and size > best / 2 else 0
    steps = tuple(history)
    return SquaredHingeMinimum(w, fun, g, r, a, _ratio(size, scale), len(steps), steps, method, status)


def _ratio(size, scale):
    """size / scale, where 0 / 0 is 0."""
    return size / scale if scale else (np.inf if size else 0.0)


# ---------------------------------------------------------------- -H_I^-1 g, in three ways: (d, memory, products)


def _by_cholesky(hinges, w, g, active, goal, memory):
    """memory: (the rows of the Gram matrix, it, and whether it is a sum without differences)."""
    if memory is not None and (memory[0] != active).any():
        memory = active, *updated(gram, hinges, active, memory)
    elif memory is None or not memory[2]:  # asked twice for one piece: rounding of differences may be why
        memory = active, gram(hinges, active), True
    return -primal_inverse(memory[1])(g), memory, 0


def _by_woodbury(hinges, w, g, active, goal, memory):
    """With N = S (I + S X_I X_I^T S)^-1 S, S = diag(k_I)^1/2: X_I^T N (b / y) - w, the way to the minimum of a piece
    just met, which loses no digits to large k; then X_I^T N X_I g - g, which corrects it.

    memory: (the rows of the piece before, X X^T).
    """
    before, outer = memory or (None, dense(hinges.X @ hinges.X.T))
    rows = np.flatnonzero(active)
    XI, N = hinges.X[rows], dual_inverse(outer[np.ix_(rows, rows)], hinges.k[rows])
    met = before is None or (before != active).any()
    right, left = (hinges.b[rows] / hinges.y[rows], w) if met else (XI @ g, g)
    return XI.T @ N(right) - left, (active, outer), 0


def _by_cg(hinges, w, g, active, goal, memory):
    """memory: (the rows of the diagonal, it, whether it is a sum without differences)."""
    n, count = len(g), 0
    anew = memory is None
    memory = active, *((squares(hinges, active), True) if anew else updated(squares, hinges, active, memory))
    XI, k = part(hinges, active)
    scaling = 1 / (1 + np.maximum(memory[1], 0))

    def product(p):
        nonlocal count
        count += 1
        return p + XI.T @ (k * (XI @ p))

    H, M = (
        LinearOperator(shape=(n, n), dtype=np.dtype(float), **{"matvec": act})
        for act in (product, lambda p: scaling * p)
    )
    d, _ = cg(H, -g, rtol=0.0, atol=goal, M=M)
    return d, memory, count


DIRECTIONS = {"cholesky": _by_cholesky, "woodbury": _by_woodbury, "cg": _by_cg}
