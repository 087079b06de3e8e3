"""Semismooth equations F(x) = 0, and complementarity problems written as such.

Newton's method with any limiting Jacobian J_t, x - J_t^-1 F, converges superlinearly near a root at which all limiting
Jacobians are nonsingular, quadratically where the pieces have Lipschitz derivatives [QS93]. `root` makes |F| fall at
every step.

x >= 0, F(x) >= 0, x . F(x) = 0 is the equation min(x, F(x)) = 0, and sqrt(x^2 + F^2) - x - F = 0 [F92].

[QS93] Qi, Sun. A nonsmooth version of Newton's method. Math. Programming 58 (1993) 353-367.
[F92] Fischer. A special Newton-type optimization method. Optimization 24 (1992) 269-284.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any

import autograd.numpy as anp
import numpy as np
import scipy.linalg
import scipy.sparse as sp
from autograd.extend import defvjp, primitive
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import splu

from .composite import jacobian_of
from .globalization import told
from .graph import from_function, point, run, unit_of
from .limiting import limiting_jacobians
from .pieces import choice_at
from .primitives import NotPiecewiseSmooth, smooth
from .restriction import TooManyChambers
from .semismooth import minimize

TOL = 1e-13  # |F| relative to |J| max(1, |x|): the step that is left, relative to x
HALVINGS = 20
FALL = 1e-4
ELEMENTS = 64  # other limiting Jacobians tried where one gives no descent

STATUS = {
    0: "root: |F| is within tol of |J| max(1, |x|)",
    1: "iteration limit reached",
    5: "stalled: a stationary point of |F|^2 that is no root, as far as the elements tried tell",
    6: "F is not finite, or raised, at every step tried",
    99: "`callback` raised `StopIteration`.",
}


def root(
    F: Callable[..., Any],
    x0: ArrayLike,
    args: tuple[Any, ...] = (),
    *,
    jac: Any = None,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    maxiter: int = 100,
) -> OptimizeResult:
    """A root of a piecewise-smooth F: R^n -> R^n by Newton's method with limiting Jacobians.

    F: autograd.numpy function F(x, *args) of one flat array (n,) with n outputs, or a Graph; x0 (n,), or a number.
    jac is accepted and not needed. The step is -J^-1 F for one limiting Jacobian, found in one pass; where J is
    singular, that of Levenberg and Marquardt; where neither lowers |F|, those of the other limiting Jacobians (up to
    64), then the minimization of |F|^2 / 2. tol: |F| <= tol |J|_F max(1, |x|), default 1e-13.
    callback(intermediate_result) or callback(x); StopIteration ends.

    Returns an OptimizeResult: x, fun = F(x), jac the last J (n, n), nit, nfev, njev, success, status, message, history:
    a list of dicts x, residual = |F|, step, damping (0: a pure Newton step), one a point visited. status: 0 root, 1
    iteration limit, 5 stalled, 6 not finite, 99 stopped by the callback. x is the best point met: |F| never rises.
    Raises ValueError on bad arguments or F(x0) not finite, and what `from_function` raises.
    """
    tol = TOL if tol is None else tol
    if not (isinstance(tol, Real) and 0 < float(tol) < np.inf):
        raise ValueError(f"tol must be a positive number; got {tol!r}")
    if not isinstance(maxiter, (int, np.integer)) or maxiter < 0:
        raise ValueError(f"maxiter must be a whole number >= 0; got {maxiter!r}")
    if callback is not None and not callable(callback):
        raise ValueError(f"callback must be callable; got {type(callback).__name__}")
    if jac is True:
        raise ValueError("jac=True: F must return its value alone; derivatives come from the recording of F")
    x = np.array(point(np.atleast_1d(x0) if np.ndim(x0) == 0 and x0 is not None else x0, name="x0"))
    args = args if isinstance(args, tuple) else (args,)
    graph = from_function((lambda y: F(y, *args)) if args else F, x)
    n = len(x)
    if int(np.prod(graph.shape)) != n:
        raise ValueError(f"F must have as many outputs as x has entries, {n}; it returns shape {graph.shape}")
    fun, graph = graph.source or graph, replace(graph, source=None)
    state = OptimizeResult(nit=0, nfev=0, njev=0, history=[], raised=None)

    def value(y):
        state.nfev += 1
        try:
            with np.errstate(all="ignore"):
                return np.ravel(np.asarray(fun(np.array(y)), dtype=float))
        except Exception as error:  # told in the message of the result
            state.raised = error
            return np.full(n, np.nan)

    Fx = value(x)
    if not np.isfinite(Fx).all():
        raise ValueError(f"F(x0) is not finite: {Fx}; start where it is")
    J, status, detail, tol = np.full((n, n), np.nan), None, "", float(tol)
    while status is None:
        try:
            J = _one_jacobian(graph, x)
        except NotPiecewiseSmooth as error:
            status, detail = 5, str(error)
            break
        state.njev += 1
        size = float(np.linalg.norm(Fx))
        state.history.append({"x": x.copy(), "residual": size, "step": 0.0, "damping": 0.0})
        if size <= tol * _frobenius(J) * unit_of(x) or size == 0:
            status = 0
        elif state.nit >= maxiter:
            status = 1
        else:
            moved = _advance(graph, value, x, Fx, J, state)
            if moved is None:
                rounding = size <= 1e3 * tol * _frobenius(J) * unit_of(x)
                status = 0 if rounding else 6 if state.tried and not state.met else 5
            else:
                x, Fx, t, lam = moved
                state.nit += 1
                state.history[-1].update(step=t, damping=lam)
                seen = {"x": x.copy(), "fun": Fx.copy(), "nit": state.nit}
                if callback is not None and told(callback, seen, f"|F| = {np.linalg.norm(Fx)!r} at {x!r}"):
                    status = 99
    cause = f" (it raised {type(state.raised).__name__}: {state.raised})" if status == 6 and state.raised else ""
    return OptimizeResult(
        x=x,
        fun=Fx.copy(),
        jac=_dense(J),
        nit=state.nit,
        nfev=state.nfev,
        njev=state.njev,
        success=status == 0,
        status=status,
        message=STATUS[status] + (f"; {detail}" if detail else "") + cause,
        history=state.history,
    )


def _frobenius(J):
    return float(np.sqrt(J.multiply(J).sum())) if sp.issparse(J) else float(np.linalg.norm(J))


def _dense(J) -> np.ndarray:
    return J.toarray() if sp.issparse(J) else J


def _one_jacobian(graph, x) -> Any:
    """One limiting Jacobian (n, n): that of the piece met along the generic direction."""
    branches, _ = choice_at(graph, x)
    J = jacobian_of(graph, run(graph, x, lambda i, op, args, sizes: branches[i]))
    if not np.isfinite(J.data if sp.issparse(J) else J).all():
        raise NotPiecewiseSmooth("a derivative of F is not finite at x, so no finite set of smooth pieces describes F")
    return J


def _advance(graph, value, x, Fx, J, state):
    """(x, F, t, damping) with a lower |F|, or None."""
    size = float(np.linalg.norm(Fx))
    state.tried = state.met = 0

    def search(d, halvings):
        t = 1.0
        for _ in range(halvings):
            y = x + t * d
            Fy = value(y)
            fine = bool(np.isfinite(Fy).all())
            state.tried, state.met = state.tried + 1, state.met + fine
            if fine and np.linalg.norm(Fy) <= (1 - FALL * t) * size:
                return y, Fy, t
            t /= 2
        return None

    d = _solve(J, -Fx)
    if d is not None:
        found = search(d, HALVINGS)
        if found is not None:
            return *found, 0.0
    for lam in (1e-8, 1e-4, 1e-1):
        scale = lam * _frobenius(J) ** 2
        found = search(_damped(J, Fx, scale), 6) if scale else None
        if found is not None:
            return *found, scale
    try:
        others = limiting_jacobians(graph, x, max_chambers=ELEMENTS).distinct().matrices
    except (TooManyChambers, NotPiecewiseSmooth):
        others = []
    for other in others:
        d = _solve(other, -Fx)
        found = search(d, HALVINGS) if d is not None else None
        if found is not None:
            return *found, 0.0
    below = minimize(lambda y: 0.5 * anp.sum(anp.ravel(graph(y)) ** 2), x, maxiter=20)
    Fy = value(below.x)
    if np.linalg.norm(Fy) < (1 - FALL) * size:
        return below.x, Fy, 1.0, np.nan
    return None


def _solve(J, right):
    """J^-1 right, or None where J is singular to working precision."""
    try:
        if sp.issparse(J):
            d = splu(sp.csc_matrix(J)).solve(right)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)  # looked at next
                factor, pivots = scipy.linalg.lu_factor(J, check_finite=False)
            diagonal = np.abs(np.diag(factor))
            if diagonal.min() <= 1e-14 * diagonal.max():
                return None
            d = scipy.linalg.lu_solve((factor, pivots), right, check_finite=False)
    except (RuntimeError, np.linalg.LinAlgError):
        return None
    return d if np.isfinite(d).all() else None


def _damped(J, Fx, scale):
    """-(J^T J + scale I)^-1 J^T F."""
    if sp.issparse(J):
        return -splu(sp.csc_matrix(J.T @ J + scale * sp.eye_array(len(Fx)))).solve(J.T @ Fx)
    below = np.sqrt(scale) * np.eye(len(Fx))
    return np.linalg.lstsq(np.vstack([J, below]), np.concatenate([-Fx, np.zeros(len(Fx))]), rcond=None)[0]


# ---------------------------------------------------------------- complementarity


def natural_residual(F: Callable[..., Any]) -> Callable[..., Any]:
    """x -> min(x, F(x)), entrywise: zero iff x >= 0, F(x) >= 0 and x . F(x) = 0. F: (n,) -> (n,), traceable."""
    return lambda x: anp.minimum(x, F(x))


def fischer_burmeister(F: Callable[..., Any]) -> Callable[..., Any]:
    """x -> sqrt(x^2 + F(x)^2) - x - F(x), entrywise; the same zeros, and |.|^2 is differentiable where F is [F92].

    The length has no finite set of pieces at (0, 0). There its derivative is taken to be (1, 1) / sqrt 2, the limit
    along x = F(x) > 0: one limiting Jacobian of the residual if F'(x) allows that direction. It counts as smooth, so
    `limiting_jacobians` does not see the others.
    """

    def residual(x):
        y = F(x)
        return _length(x, y) - x - y

    return residual


@primitive
def _length(a, b):
    return np.hypot(a, b)


def _slope(mine):
    def vjp(ans, a, b):
        own = a if mine == 0 else b
        safe = anp.where(ans == 0, 1.0, ans)
        return lambda g: g * anp.where(ans == 0, 2**-0.5, own / safe)

    return vjp


defvjp(_length, _slope(0), _slope(1))
smooth(_length)
