"""Regularized Clarke-Newton: minimization of piecewise-smooth functions, kinks and all.

Where f is C^{1,1}, the step is (P + lambda I)^-1 g with P the element of least norm of the limiting Hessians and
lambda = O(|g|), made a descent step by Armijo's rule: at a solution where all elements are nonsingular the convergence
is superlinear, quadratic where the pieces have Lipschitz Hessians [QS93]. Where the gradient jumps no such step can
work (|x|): there the step is that of a quadratic program on the pieces nearby (`sqp`).

[QS93] Qi, Sun. A nonsmooth version of Newton's method. Math. Programming 58 (1993) 353-367.
[HSN84] Hiriart-Urruty, Strodiot, Nguyen. Appl. Math. Optim. 11 (1984) 43-56.
[BLO05] Burke, Lewis, Overton. A robust gradient sampling algorithm. SIAM J. Optim. 15 (2005) 751-779.
"""

from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import LinearOperator, minres, splu

from . import fan as fans
from . import selections
from .composite import composite, model_at, value_at
from .damped import LowRank, operator_of, selection_element
from .globalization import (
    EPS,
    NEAR,
    Outcome,
    Run,
    falls,
    jumps,
    least_elements,
    left_by_curvature,
    rounding_of,
    steepest,
    step_with_hessian,
    step_with_pieces,
    ties,
)
from .graph import Graph, from_function, point, run, unit_of
from .kinks import Germ, Kink, Stage, signs_of
from .limiting import limiting_gradients
from .primitives import HiddenBranch, NotPiecewiseSmooth
from .projection import MinNormElement, min_norm_element
from .restriction import TooManyChambers
from .skeleton import skeleton
from .sqp import step_on_pieces
from .stopping import CRITERIA, least_curvature

TOL = 1e-10  # stationarity relative to the largest gradient of a piece met
KINKS = 10  # nearby, up to which the certificate lists all limiting gradients
REPEATED = 1e-12
FAR, WIDER = 1e-4, 1e-5  # stationarity, relative, that is none; how near the pieces then looked at are
SMALLEST, LARGEST = 1e-140, 1e140  # of a gradient whose square is still a number

STATUS = {
    0: "stationary: 0 is within tol of the hull of the gradients of the pieces nearby",
    1: "iteration limit reached",
    2: "cycle: the pure step came back to a point it had visited; regularize=True breaks the cycle",
    3: "singular: the element has no inverse, so the pure step is not defined; regularize=True damps it",
    4: "unbounded: f falls without limit along the steps",
    5: "stalled: no step lowers f, although 0 is not within tol of the hull of the gradients nearby",
    6: "f is not finite, or raised, at every step tried",
    7: "a derivative of f is not finite at x: no finite set of smooth pieces, and no certificate",
    8: "stopped by a criterion that does not imply stationarity",
    9: "the gradients of f are too small or too large to be squared: multiply f by a number",
    99: "`callback` raised `StopIteration`.",
}


class SingularElement(ArithmeticError):
    """element + damping I has no inverse to working precision."""


def newton_step(gradient: ArrayLike, element: Any, damping: float = 0.0) -> np.ndarray:
    """(P + damping I)^-1 gradient, shape (n,): x - step is the Newton iterate.

    gradient (n,); element P: (n, n) symmetric, a `MinNormElement` of such, or a symmetric LinearOperator (solved by
    MINRES to a relative residual of 1e-10); damping >= 0. Raises ValueError on bad arguments, `SingularElement` naming
    the eigenvalue nearest 0 where P + damping I is singular to rounding. P may be indefinite: then the step is that
    of a saddle, and need not lower anything.
    """
    g = point(gradient, name="gradient")
    if not (isinstance(damping, Real) and 0 <= float(damping) < np.inf):
        raise ValueError(f"damping must be a finite number >= 0; got {damping!r}")
    P = element.element if isinstance(element, MinNormElement) else element
    n, damping = len(g), float(damping)
    if isinstance(P, LinearOperator):
        if P.shape != (n, n):
            raise ValueError(f"element must have shape {(n, n)} to match gradient; got {P.shape}")
        operator: Any = LinearOperator  # its signature is that of __new__
        shifted = operator((n, n), matvec=lambda v: P @ v + damping * v, dtype=float)
        step = minres(shifted, g, rtol=1e-14, maxiter=20 * n + 100)[0]
        miss = np.linalg.norm(shifted @ step - g)
        if not miss <= 1e-10 * np.linalg.norm(g):
            raise SingularElement(
                f"MINRES left a residual of {miss:.3g} of {np.linalg.norm(g):.3g}: element + {damping:.3g} I is "
                "singular or nearly so; pass a larger damping"
            )
        return step
    if sp.issparse(P):
        if P.shape != (n, n):
            raise ValueError(f"element must have shape {(n, n)} to match gradient; got {P.shape}")
        try:
            step = splu(sp.csc_matrix(P + damping * sp.eye_array(n))).solve(np.array(g))
        except RuntimeError as error:
            raise SingularElement(f"element + {damping:.3g} I is singular ({error}); pass a larger damping") from error
        return step
    try:
        P = np.asarray(P, dtype=float)
    except (TypeError, ValueError) as error:
        came = type(element).__name__
        raise ValueError(f"element must be an array, a MinNormElement or a LinearOperator; got {came}") from error
    if P.shape != (n, n):
        raise ValueError(f"element must have shape {(n, n)} to match gradient; got {P.shape}")
    if not np.isfinite(P).all():
        raise ValueError("element holds NaN or infinity")
    size = np.abs(P).max(initial=0.0)
    if np.abs(P - P.T).max(initial=0.0) > 1e-9 * size:
        raise ValueError("element is not symmetric; pass (P + P.T) / 2 if that is meant")
    shifted = (P + P.T) / 2 + damping * np.eye(n)
    values, vectors = np.linalg.eigh(shifted)
    nearest = values[np.abs(values).argmin()]
    if abs(nearest) <= n * EPS * np.abs(values).max():
        raise SingularElement(
            f"element + {damping:.3g} I is singular to rounding: its eigenvalue nearest 0 is {nearest:.3g}, its "
            f"largest {np.abs(values).max():.3g}; pass damping > 0, above {max(size, 1.0) * 1e-8:.1g} say"
        )
    return vectors @ ((vectors.T @ g) / values)


# ---------------------------------------------------------------- the doors


def minimize(
    f: Callable[..., Any] | Graph,
    x0: ArrayLike,
    args: tuple[Any, ...] = (),
    *,
    jac: Any = None,
    hess: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    maxiter: int = 200,
    regularize: bool = True,
    model: str = "auto",
    damping: float = 1e-3,
    criterion: str | Callable[..., Any] | None = None,
    eps: float = 1e-8,
) -> OptimizeResult:
    """A local minimizer of a piecewise-smooth f by Newton steps that know its pieces.

    f: autograd.numpy function f(x, *args) of one flat array (n,), or a Graph; x0 (n,), or a number. It is recorded
    once, at x0. tol: stationarity relative to the largest gradient of a piece met, default 1e-10; once it is met, steps
    go on while each makes the gradient ten times smaller. damping: lambda = damping * stationarity to begin with; it
    then follows the success of the steps. maxiter: steps.
    callback(intermediate_result) or callback(x) after every step; StopIteration ends the run.
    model: "hessian", the element of least norm of the limiting Hessians (at more than 10 kinks or in more than 500
    variables, the one in force); "pieces", the quadratic program of `sqp`; "auto" takes the first where the kinks of f
    bend its gradient only, as far as its pieces at x tell.
    hess(x, *args): an element of the limiting Hessians to use instead, (n, n) dense, sparse or a LinearOperator, which
    is met by conjugate gradients; not where the gradient jumps. Without it no dense n x n array is formed for n > 2000
    (`damped`) in this model. Where f is at most quadratic on every piece, a full step that fails Armijo's rule is
    replaced by the exact minimum along it (`rays`).
    regularize=False: the pure step (P)^-1 g from start to end, no damping, no line search; it may cycle, and says so.
    criterion: "small_eigenvalues", "relative_gradient" or "small_decrease" of `stopping`, with its eps; the run then
    ends with status 8 where that holds, be x stationary or not.
    jac is accepted and not needed. bounds and constraints are refused with ValueError.

    Returns an OptimizeResult: x, fun, jac (the element of least norm of the hull), nit, nfev, njev, success, status,
    message as in scipy; stationarity, the distance of 0 to the hull of the gradients of the pieces nearby (of those
    the steps followed, where more than 10 kinks are near); certificate, the `MinNormElement` behind it; curvature, the
    least eigenvalue of the limiting Hessians (on the tangents of the pieces held, where the gradient jumps; inf at a
    vertex) if x is stationary and has at most 500 variables (with outputs of kinks, where it jumps), else nan: positive
    and c11, x is a strict local minimizer; active, the
    pattern of the last step; history, a list of dicts x, fun, stationarity, damping, step, active, decrease, one a
    point visited: step is the fraction of the Newton step that led away from it (0 at the last); stationarity there is
    the norm of the gradient that this step left, with the multipliers of the kinks it reaches, so it may be near 0
    before x is there.
    status: 0 stationary, 1 iteration limit, 2 cycle, 3 singular, 4 unbounded, 5 stalled, 6 not finite, 7 no
    derivative at x, 8 stopped by criterion, 9 gradients beyond 1e-140 .. 1e140, 99 stopped by the callback. x is always
    the best point met (of the pure step: the last).

    f falls at every step; at the end, where its rounding hides that, the gradient does. A stationary point with
    negative curvature is left if f falls along it. Not covered: a minimum where f has no finite set of pieces, and
    saddles of higher order. Raises what `from_function` raises, `HiddenBranch` where f is not what was recorded at x0,
    ValueError on bad arguments.
    """
    if bounds is not None:
        raise ValueError("bounds are not supported; add a penalty such as np.maximum(lo - x, 0), or substitute x")
    if not (isinstance(constraints, (tuple, list)) and not constraints):
        raise ValueError("constraints are not supported; add exact penalties: rho * np.maximum(g(x), 0)")
    if jac is True or hasattr(f, "derivative"):  # scipy wraps such an f
        raise ValueError("jac=True: f must return its value alone; derivatives come from the recording of f")
    if model not in ("auto", "hessian", "pieces"):
        raise ValueError(f"model must be 'auto', 'hessian' or 'pieces'; got {model!r}")
    if not isinstance(maxiter, (int, np.integer)) or maxiter < 0:
        raise ValueError(f"maxiter must be a whole number >= 0; got {maxiter!r}")
    tol = TOL if tol is None else tol
    if not (isinstance(tol, Real) and 0 < float(tol) < np.inf):
        raise ValueError(f"tol must be a positive number; got {tol!r}")
    if not (isinstance(damping, Real) and 0 < float(damping) < np.inf):
        raise ValueError(f"damping must be a positive number; got {damping!r}")
    if criterion is not None and criterion not in CRITERIA:
        raise ValueError(f"criterion must be None or one of {', '.join(sorted(CRITERIA))}; got {criterion!r}")
    if not (isinstance(eps, Real) and 0 < float(eps) < np.inf):
        raise ValueError(f"eps must be a positive number; got {eps!r}")
    for name, given in (("callback", callback), ("hess", hess)):
        if given is not None and not callable(given):
            raise ValueError(f"{name} must be callable; got {type(given).__name__}")
    x = point(np.atleast_1d(x0) if np.ndim(x0) == 0 and x0 is not None else x0, name="x0")
    args = args if isinstance(args, tuple) else (args,)
    fun = f if not args or isinstance(f, Graph) else lambda y: f(y, *args)
    graph = from_function(fun, x)
    if graph.output is None:  # f is constant
        graph = from_function(lambda y: graph.constant + 0.0 * y[0], x)
    if int(np.prod(graph.shape)) != 1:
        raise ValueError(f"f must be scalar; it returns shape {graph.shape}; sum it up, or use root for equations")
    graph, count = replace(graph, source=None), _Counted(fun)
    fx = count(x)
    if not np.isfinite(fx):
        raise ValueError(f"f(x0) = {fx}{count.cause()}; start where f is finite")
    element = None if hess is None else lambda y: _element(hess(np.array(y), *args), len(y))
    met = _criterion(criterion, float(eps))
    run_ = Run(graph, count, np.array(x), fx, float(tol), callback, maxiter, model, float(damping), element=element)
    return _pure(run_, met) if not regularize else _regularized(run_, met)


def _element(P, n) -> Any:
    """What `hess` returned, as an array, a sparse array or a LinearOperator."""
    if not (isinstance(P, LinearOperator) or sp.issparse(P)):
        try:
            P = np.asarray(P, dtype=float)
        except (TypeError, ValueError) as error:
            raise ValueError(f"hess must return an array or a LinearOperator; got {type(P).__name__}") from error
        P = P.reshape(1, 1) if P.size == n == 1 else P
    if P.shape != (n, n):
        raise ValueError(f"hess must return shape {(n, n)}; got {P.shape}")
    return P


def _criterion(name, eps):
    """(gradient, thunk of the element, decrease) -> stop?"""
    if name is None:
        return lambda gradient, element, decrease: False

    def met(gradient, element, decrease):
        P = element()
        P = P.toarray() if sp.issparse(P) else P
        return CRITERIA[name](gradient, P @ np.eye(len(gradient)), decrease, eps)

    return met


def newton(
    fun: Callable[..., Any],
    x0: ArrayLike,
    args: tuple[Any, ...] = (),
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    **options: Any,
) -> OptimizeResult:
    """`minimize` as a method of scipy: scipy.optimize.minimize(f, x0, method=clarke.newton, options={...}).

    jac is accepted and not needed; hess, or hessp(x, p, *args), is used as `minimize` says; options are the keywords of
    `minimize`, others are a ValueError.
    """
    known = {k: v for k, v in options.items() if k not in ("disp", "return_all")}
    unknown = sorted(set(known) - OPTIONS)
    if unknown:
        raise ValueError(f"unknown options: {', '.join(unknown)}; there are {', '.join(sorted(OPTIONS))}")
    if isinstance(constraints, dict):
        constraints = (constraints,)
    if not callable(hess):  # None, or one of scipy's names of finite differences
        hess = None if hessp is None else _from_products(hessp)
    return minimize(
        fun, x0, args, jac=jac, hess=hess, bounds=bounds, constraints=constraints, callback=callback, **known
    )


def _from_products(hessp):
    def hess(x, *args):
        return operator_of(lambda p: hessp(x, p, *args), len(x))

    return hess


OPTIONS = frozenset({"tol", "maxiter", "regularize", "model", "damping", "criterion", "eps"})


class _Counted:
    """f as a float, counted; nan where it raises, and what it raised."""

    def __init__(self, fun):
        self.fun, self.calls, self.raised, self.latest = fun, 0, None, (np.zeros(0), np.nan)

    def __call__(self, x):
        self.calls += 1
        try:
            with np.errstate(all="ignore"):
                value = float(np.ravel(np.asarray(self.fun(np.array(x)), dtype=float))[0])
        except Exception as error:  # told in the message of the result
            self.raised = error
            return np.nan
        self.latest = np.array(x), value
        return value

    def cause(self):
        return f" (it raised {type(self.raised).__name__}: {self.raised})" if self.raised else ""


def _result(run_, status, detail=""):
    found = _certified(run_)
    if status == 5:  # was it f at all?
        last, value = run_.count.latest
        _require_faithful(run_, last, value, value_at(run_.graph, last))
    if status == 5 and found and found.distance <= 1e-6 * run_.reach:
        status, detail = 0, "to the rounding of f"
    if status == 0 and found and found.distance > FAR * run_.reach > 0:  # pieces that the steps took for others
        wider = _nearby(run_.graph, run_.x, WIDER)
        if wider is not None and wider.distance > FAR * run_.reach:
            status = 5
    if not run_.history or not np.array_equal(run_.history[-1]["x"], run_.x):
        run_.note(found.distance if found else np.nan, 0.0, run_.history[-1]["active"] if run_.history else "")
    message = STATUS[status] + (f"; {detail}" if detail else "")
    return OptimizeResult(
        x=run_.x.copy(),
        fun=run_.fx,
        jac=found.element if found else np.full(len(run_.x), np.nan),
        nit=run_.nit,
        nfev=run_.count.calls,
        njev=run_.njev,
        success=status == 0,
        status=status,
        message=message,
        stationarity=found.distance if found else np.nan,
        certificate=found,
        curvature=run_.curvature,
        active=run_.history[-1]["active"] if run_.history else "",
        history=run_.history,
    )


# ---------------------------------------------------------------- the pure step


def _pure(run_, met):
    """x - P^-1 g, with P and g of least norm, until it stops, repeats a point or is not defined."""
    parts, seen, fell = composite(run_.graph, run_.x), [run_.x.copy()], None
    while True:
        try:
            model = model_at(parts, run_.x)
            mu = model.own_multipliers()
            g, P = least_elements(run_.graph, run_.x) if ties(run_, model) else (model.gradient(mu), None)
        except NotPiecewiseSmooth as error:
            return _result(run_, 7, str(error))
        _require_faithful(run_, run_.x, run_.fx, model.value)
        if run_.element is not None:
            P = run_.element(run_.x)
        elif P is None:
            P = selection_element(model, mu)
        run_.njev += 1
        size = float(np.linalg.norm(g))
        run_.note(size, 0.0, "")
        if size <= run_.tol * max(1.0, run_.history[0]["stationarity"]):
            run_.curvature = least_curvature(P)[0]
            return _result(run_, 0)
        if met(g, lambda P=P: P, fell):
            return _result(run_, 8)
        if run_.nit >= run_.maxiter:
            return _result(run_, 1)
        try:
            x = run_.x - newton_step(g, operator_of(P) if isinstance(P, LowRank) else P)
        except SingularElement as error:
            return _result(run_, 3, str(error))
        fx = run_.count(x)
        if falls(run_, fx):
            return _result(run_, 4)
        if not (np.isfinite(fx) and np.all(np.isfinite(x))):
            return _result(run_, 6, f"f = {fx} at the next point{run_.count.cause()}")
        fell = run_.fx - fx
        again = [k for k, old in enumerate(seen) if np.abs(x - old).max() <= REPEATED * unit_of(x)]
        stop = run_.accept(x, fx, 1.0)
        if again:
            run_.note(np.nan, 0.0, "")
            return _result(run_, 2, f"period {len(seen) - again[-1]}")
        if stop:
            return _result(run_, 99)
        seen.append(x.copy())


# ---------------------------------------------------------------- the regularized step


def _regularized(run_, met):
    parts = run_.parts = composite(run_.graph, run_.x)
    damping, weights, guess, jumping = run_.damping / unit_of(run_.x), None, None, run_.model == "pieces"
    before, sides = None, None
    while True:
        try:
            model = model_at(parts, run_.x)
        except (FloatingPointError, NotPiecewiseSmooth) as error:
            return _result(run_, 7, str(error))
        run_.njev += 1
        with np.errstate(all="ignore"):
            own = model.own_multipliers()
            g, reach = model.gradient(own), steepest(model, own)
        if not np.all(np.isfinite(g)):
            return _result(run_, 7)
        if weights is None:
            weights = own
        elif (sides != model.parts.sides).any():  # multipliers are those of s_j (e_r - u_j)
            weights = weights * (sides * model.parts.sides)[parts.owner]
        sides = model.parts.sides
        _require_faithful(run_, run_.x, run_.fx, model.value)
        if run_.model == "auto" and not jumping:
            jumping = jumps(model, own)
        reach = run_.reach = max(run_.reach, reach)
        if reach > LARGEST or 0 < np.abs(g).max() < SMALLEST * (run_.nit == 0):
            return _result(run_, 9, f"|gradient| is {np.abs(g).max():.3g}")
        fell = None if before is None else before - run_.fx
        if met(g, lambda model=model, own=own: selection_element(model, own), fell):
            return _result(run_, 8)
        before = run_.fx
        if jumping:
            outcome = step_with_pieces(run_, model, weights, guess, damping, reach)
        else:
            outcome = step_with_hessian(run_, model, own, damping, reach)
        if outcome.status == 0 and not outcome.stop and run_.nit < run_.maxiter:
            if not np.array_equal(model.x, run_.x):
                model = model_at(parts, run_.x)
                run_.note(np.nan, np.nan, run_.history[-1]["active"])
            left = left_by_curvature(run_, model, jumping, outcome.step)
            if left is not None:
                run_.history[-1]["decrease"] = np.nan
                run_.curvature, run_.calm = np.nan, np.inf
                outcome = Outcome(run_.damping / unit_of(run_.x), stop=run_.accept(*left))
        if outcome.status is not None:
            return _result(run_, outcome.status, outcome.detail)
        damping, weights, guess = outcome.damping, outcome.weights, outcome.guess
        if outcome.stop:
            return _result(run_, 99)


def _require_faithful(run_, x, fx, recorded):
    """`HiddenBranch` unless f is at x what its recording is."""
    gap = abs(recorded - fx)
    if gap > 1e-8 * (abs(recorded) + abs(fx)) and gap > 1e6 * rounding_of(run_):
        raise HiddenBranch(
            f"f = {fx!r} but its recording at x0 gives {recorded!r} at {x!r}: an `if` or a loop depends on the values "
            "of x, or f is random; write the kink as np.maximum, np.minimum, np.abs or clarke.where"
        )


# ---------------------------------------------------------------- certificates


def _certified(run_) -> MinNormElement | None:
    """The element of least norm of the hull of gradients of the pieces nearby."""
    near = _nearby(run_.graph, run_.x)
    if near is not None:
        return near
    if run_.force is not None:
        return min_norm_element(run_.force[None])
    model = model_at(run_.parts or composite(run_.graph, run_.x), run_.x)
    mu = model.own_multipliers()
    g = model.gradient(mu)
    if not np.all(np.isfinite(g)):
        return None
    near = model.gaps >= -NEAR * (1 + np.abs(model.u[model.parts.owner]))
    step = step_on_pieces(model, 0.0 * model.hessian(mu), 1e-3 * steepest(model, mu), among=near)
    if step is not None and np.linalg.norm(step.force) < np.linalg.norm(g):
        g = step.force
    return min_norm_element(g[None])


def _nearby(graph, x, near=NEAR):
    """Limiting gradients of f with every guard that is near 0 taken for 0; None if they are too many, or none."""
    decided, stages, count = {}, [], 0

    def branch_of(i, op, args, magnitudes):
        nonlocal count
        sizes = [np.minimum(np.maximum(m, 1.0), 1e3) for m in magnitudes]
        branch, ties, _ = selections.decide(op.name, args, op.kwargs, sizes, near)
        decided[i] = branch
        provisional = []
        for tie in ties:
            stages.append(Stage(i, count, tie))
            provisional += tie.pieces(np.zeros(tie.letters))
            count += tie.letters
        return selections.extend(branch, provisional) if ties else branch

    try:
        with np.errstate(all="ignore"):
            tape = run(graph, x, branch_of, magnitudes=True)
        if count > KINKS:
            return None
        if not count:
            return min_norm_element(limiting_gradients(graph, x))
        here = Germ(graph, np.array(x), near, tape, decided, tuple(stages), _names(stages), np.inf)
        skel = skeleton(here)
        fan = fans.fan_of(skel, max_chambers=2000)
        rows = skel.output_rows()
        vectors = [skel.under(rows, skel.slots_under(signs_of(p)))[0] for p in fan.patterns]
        return min_norm_element(np.array(vectors))
    except (NotPiecewiseSmooth, TooManyChambers, ValueError, np.linalg.LinAlgError, NotImplementedError):
        return None


def _names(stages):
    kinks = []
    for stage in stages:
        op = f"operation {stage.position}"
        for (out, suffix), guard, scale in zip(stage.ties.entries, stage.ties.guards, stage.ties.scales, strict=True):
            kinks.append(Kink(f"{op}[{out}]{suffix}", op, (int(out),), float(guard), float(scale)))
    return tuple(kinks)
