"""One run of a descent method for a piecewise-smooth f, and its next step in either model.

With the Hessian of one selection: a damped Newton step and Armijo's rule. With the pieces nearby: the step of `sqp`,
corrected to second order where the pieces it holds equal part again, halved, or damped more; then other pieces of the
outputs that follow one; at last the element of least norm of gradients sampled nearby [BLO05].

[BLO05] Burke, Lewis, Overton. A robust gradient sampling algorithm. SIAM J. Optim. 15 (2005) 751-779.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult

from . import selections
from .composite import Composite, Model, model_at, value_at
from .damped import direction, selection_element
from .graph import Graph, run, unit_of
from .kinks import active_kinks
from .limiting import limiting_hessians
from .primitives import NotPiecewiseSmooth
from .projection import min_norm_element
from .rays import exact_step, piecewise_quadratic
from .sqp import Step, step_on_pieces
from .stopping import least_curvature, tangent_curvature

ARMIJO = 1e-4
CORRECTED, CHORDS = 3, 3  # lengths of a step on pieces that are corrected, and how often
HALVINGS = 6  # of a step on pieces, before the damping grows instead
LEAST, MOST = 1e-12, 1e12  # damping / stationarity
KINKS = 10  # tied at x, up to which all limiting Hessians are listed,
LISTED = 500  # in that many variables
BENT = 1e-8  # an eigenvalue below -BENT |P| is negative
UNBOUNDED = 1e18  # f below -UNBOUNDED (1 + |f(x0)|) has no minimum
NEAR = 1e-7  # a piece this close is nearby in a certificate: |guard| / max(1, |its terms|)
EPS = np.finfo(float).eps


@dataclass(eq=False)
class Run:
    """Where a run stands: its point, the best met; what it counts; history, a dict for every point visited."""

    graph: Graph
    count: Any
    x: np.ndarray
    fx: float
    tol: float
    callback: Any
    maxiter: int
    model: str
    damping: float
    last: Any = None  # the last value met in a search
    parts: Composite | None = None
    reach: float = 0.0  # the largest gradient of a piece met
    force: Any = None  # the element of the hull of the last step on pieces in force here, at x
    element: Any = None  # x -> an element of the limiting Hessians, where it is given from outside
    settled: bool = False  # did the last step on pieces gain nothing? Others may lead down
    calm: float = np.inf  # |gradient| where it was first within tol
    curvature: float = np.nan  # at the last point found stationary

    def __post_init__(self) -> None:
        self.quadratic: bool = piecewise_quadratic(self.graph)
        self.history: list[dict[str, Any]] = []
        self.nit: int = 0
        self.njev: int = 0
        self.first: float = self.fx

    def note(self, stationarity: float, damping: float, active: str, decrease: float = np.nan) -> None:
        x = self.x.copy()
        x.flags.writeable = False
        self.history.append(
            {"x": x, "fun": self.fx, "stationarity": stationarity, "damping": damping, "step": 0.0, "active": active,
             "decrease": decrease}
        )  # fmt: skip

    def accept(self, x: np.ndarray, fx: float, t: float) -> bool:
        """Move; True if the callback asks to stop."""
        self.x, self.fx, self.force = x, fx, None
        self.history[-1]["step"] = t
        self.nit += 1
        if self.callback is None:
            return False
        seen = {k: self.history[-1][k] for k in ("stationarity", "damping", "active")}
        return told(self.callback, {"x": x.copy(), "fun": fx, "nit": self.nit} | seen, f"f = {fx!r} at {x!r}")


def told(callback: Callable[..., Any], state: Mapping[str, Any], where: str) -> bool:
    """Call callback(intermediate_result=state) or callback(x); True on StopIteration.

    Any other exception leaves with a note that names the best point so far.
    """
    try:
        names = list(signature(callback).parameters)
    except (TypeError, ValueError):
        names = []
    try:
        if names == ["intermediate_result"]:
            callback(intermediate_result=OptimizeResult(state))
        else:
            callback(state["x"])
    except StopIteration:
        return True
    except Exception as error:
        error.add_note(f"raised by callback after {state['nit']} steps; the best point so far: {where}")
        raise
    return False


@dataclass(eq=False)
class Outcome:
    """What a step leaves for the next one, or the status that ends the run."""

    damping: float = 0.0
    weights: Any = None
    guess: Any = None
    stop: bool = False
    status: int | None = None
    detail: str = ""
    step: Step | None = None  # the last step on pieces


def steepest(model: Model, mu: np.ndarray) -> float:
    """The size of a gradient of f near x: that of f, and of the parts it is made of."""
    n = len(model.x)
    rows = model.rows[:, :n]
    squares = rows.multiply(rows).sum(axis=1) if sp.issparse(rows) else (rows**2).sum(axis=1)
    lengths = np.abs(mu) * np.sqrt(np.asarray(squares).ravel())
    return max(float(np.linalg.norm(model.gradient(mu))), float(lengths.max(initial=0.0)), 1e-300)


def jumps(model: Model, mu: np.ndarray) -> bool:
    """Does some kink make the gradient jump? Its adjoint, followed back to where it ties, then does not vanish."""
    parts = model.parts
    if not len(parts.sides):
        return False
    H = model.hessian(mu)
    n = len(model.x)
    lead = np.abs(np.bincount(parts.owner, mu, minlength=len(parts.sides)))
    gaps = model.gaps.copy()
    gaps[model.in_force()] = -np.inf
    second = np.maximum.reduceat(gaps, parts.starts[:-1])
    away = np.where(np.isfinite(second), -second, np.inf)
    size = np.abs(model.phi).max()
    with np.errstate(invalid="ignore"):
        bound = np.abs(H.diagonal()[n:]) * away
    lead = np.where(model.kept, 0.0, lead)
    return bool((lead > 1.0001 * np.where(np.isnan(bound), 0.0, bound) + 1e-12 * size).any())


def rounding_of(run_: Any) -> float:
    """What rounding may do to f at x: its forward evaluation in absolute values, a few ulps."""
    try:
        with np.errstate(all="ignore"):
            tape = run(run_.graph, run_.x, _natural, magnitudes=True)
        size = float(np.ravel(tape.magnitudes[run_.graph.program.output])[0])
    except NotPiecewiseSmooth:
        size = 0.0
    return 4 * EPS * max(abs(run_.fx), size if np.isfinite(size) else 0.0)


def _natural(i, op, args, sizes):
    return selections.natural_branch(op.name, args, op.kwargs)


def falls(run_: Run, fx: float) -> bool:
    """Is f so low that it has no minimum?"""
    return fx == -np.inf or fx < -UNBOUNDED * (1 + abs(run_.first))


def least_elements(graph: Graph, x: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The elements of least norm of the limiting gradients and of the limiting Hessians at x."""
    found = limiting_hessians(graph, x)
    return min_norm_element(found.gradients).element, min_norm_element(found.matrices).element


def step_with_hessian(run_: Run, model: Model, mu: np.ndarray, damping: float, reach: float) -> Outcome:
    """One damped step with an element of the limiting Hessians, and Armijo's rule; exact on a ray of quadratics."""
    g = model.gradient(mu)
    size = float(np.linalg.norm(g))
    P = None
    if _listed(run_, model):
        g, P = least_elements(run_.graph, run_.x)
        size = float(np.linalg.norm(g))
    run_.note(size, np.nan, _letters(model, np.abs(mu) > 0))
    calm = size <= run_.tol * reach
    if size == 0 or (calm and size > run_.calm / 10):  # within tol, and one more step was no great gain
        return Outcome(status=0)
    run_.calm = size if calm else np.inf
    if run_.nit >= run_.maxiter:
        return Outcome(status=0 if calm else 1)
    if run_.element is not None:
        P = run_.element(run_.x)
    elif P is None:
        P = selection_element(model, mu)
    finite, rtol = False, max(1e-12, min(0.01, 0.1 * size / reach))
    while True:
        lam = max(damping * size, 1e-14 * reach / unit_of(run_.x))
        run_.history[-1]["damping"] = lam
        d = direction(g, P, lam, rtol)
        if d is None:
            damping *= 10
            if damping > MOST:
                return Outcome(status=0) if calm else _stalled(run_, model)
            continue
        slope = float(-g @ d)
        if calm and (slope <= rounding_of(run_) or np.linalg.norm(d) <= EPS * unit_of(run_.x)):
            return Outcome(status=0)
        run_.history[-1]["decrease"] = slope
        t, found = _on_ray(run_, d, slope)
        for _ in range(40 if found is None else 0):
            x = run_.x + t * d
            fx = run_.count(x)
            finite = finite or np.isfinite(fx)
            if fx == -np.inf:
                return Outcome(status=4)
            if fx <= run_.fx - ARMIJO * t * slope and fx < run_.fx:
                found = x, fx
                break
            if t == 1.0 and slope <= 1e3 * rounding_of(run_):
                if fx <= run_.fx + rounding_of(run_) and _gentler(model, x, size):
                    found = x, fx  # f cannot tell any more, the gradient can
                    break
                if size <= 1e-6 * reach:
                    return Outcome(status=0, detail="" if calm else "to the rounding of f")
                return _stalled(run_, model)
            t /= 2
        if found is None:
            if not finite:
                return Outcome(status=6, detail=f"f = {fx}{run_.count.cause()}")
            damping *= 100
            if damping > MOST:
                return Outcome(status=0) if calm else _stalled(run_, model)
            continue
        stop = run_.accept(*found, t)
        if falls(run_, run_.fx):
            return Outcome(status=4)
        damping = max(damping / 10, LEAST / unit_of(run_.x)) if t >= 0.5 else damping * (4 if t < 0.2 else 1)
        return Outcome(damping, None, None, stop)


def _on_ray(run_, d, slope):
    """(t, (x, f)): the full step where Armijo's rule holds, else the minimum of f along x + t d; (1, None) where f is
    not known to be quadratic on its pieces, or that fails the rule too.
    """
    if not run_.quadratic or slope <= 1e3 * rounding_of(run_):
        return 1.0, None
    t, fx = 1.0, run_.count(run_.x + d)  # first, for the minimum of every ray zigzags where pieces are many
    if not fx <= run_.fx - ARMIJO * slope and np.isfinite(fx):
        found = exact_step(run_.graph, run_.x, d, -slope)
        if found is None:
            return 1.0, None
        t, taken = found
        run_.njev += taken
        fx = run_.count(run_.x + t * d)
    x = run_.x + t * d
    return (t, (x, fx)) if -np.inf < fx <= run_.fx - ARMIJO * t * slope and fx < run_.fx else (1.0, None)


def _listed(run_, model):
    """Is x at a kink whose limiting Hessians are few enough to list?"""
    return len(run_.x) <= LISTED and run_.element is None and 0 < ties(run_, model) <= KINKS


def ties(run_: Run, model: Model) -> int:
    """How many kinks tie at x."""
    near = model.gaps >= -1e-9 * (1 + np.abs(model.u[model.parts.owner]))
    found = int(near.sum() - len(model.parts.sides))
    if any(op.name in ("where", "sort") for op in run_.graph.program.operations):  # they may bend f and not jump
        found = max(found, len(active_kinks(run_.graph, run_.x)))
    return found


def _gentler(model, x, size, step=None):
    """Is the gradient at x, or that of the multipliers of a step, less than half as long?"""
    there = model_at(model.parts, x)
    mu = there.own_multipliers() if step is None else step.multipliers
    return bool(np.linalg.norm(there.gradient(mu)) <= size / 2)


def step_with_pieces(
    run_: Run, model: Model, weights: np.ndarray, guess: np.ndarray | None, damping: float, reach: float
) -> Outcome:
    """One step of the quadratic program on the pieces, with a second order correction and a line search."""
    W = model.hessian(weights)
    size = float(np.linalg.norm(model.gradient(weights)))
    run_.note(np.nan, np.nan, "")
    asked, others, tried, rounding = None, None, 0, None
    status, calm, met = None, None, []
    unit = unit_of(run_.x)
    while True:
        lam = min(max(damping * size, 1e-12 * reach / unit), 1e10 * reach)
        step = step_on_pieces(model, W, lam, guess, asked)
        if step is not None:
            force = float(np.linalg.norm(step.force))
            if asked is None:
                letters = _letters(model, step.multipliers != 0)
                run_.history[-1].update(stationarity=force, damping=lam, active=letters, decrease=step.decrease)
                if step.gap <= NEAR * (1 + abs(run_.fx)):
                    run_.force = step.force
                calm = force <= run_.tol * reach and step.gap <= run_.tol * reach * unit
                size = max(size, 1e-3 * force)
            if run_.nit >= run_.maxiter and not calm:
                return Outcome(status=1)
            moved = None if run_.settled and calm and asked is None else _search(run_, model, step)
            met.append(run_.last)
            if run_.last == -np.inf:
                return Outcome(status=4)
            if moved is not None and run_.nit < run_.maxiter:
                x, fx, t = moved
                fell = run_.fx - fx
                run_.history[-1].update(damping=lam, decrease=step.decrease)
                stop = run_.accept(x, fx, t)
                if falls(run_, run_.fx):
                    return Outcome(status=4)
                if t == 1 and fell >= 0.25 * step.decrease / 2:
                    damping = max(damping / 10, LEAST / unit)
                elif t < 0.2:
                    damping = min(damping * 4, MOST)
                run_.settled = calm and fell <= 1e3 * rounding_of(run_)
                if run_.settled and not step.followed.any():
                    return Outcome(status=0, stop=stop, step=step)
                return Outcome(damping, step.multipliers, step.positive, stop)
            if calm:
                status = 0
            if rounding is None:
                rounding = rounding_of(run_)
            if asked is None and step.decrease <= 1e3 * rounding:
                x = run_.x + step.d
                fx = run_.count(x)
                if force > run_.tol * reach and fx <= run_.fx + rounding and _gentler(model, x, force, step):
                    stop = run_.accept(x, fx, 1.0)  # f cannot tell any more, the hull can
                    return Outcome(damping, step.multipliers, step.positive, stop)
                if status is None and force <= 1e-5 * reach and step.gap <= 1e-5 * reach * unit:
                    status = 0
                damping = MOST  # nothing to gain with these pieces
        if asked is None and status is None and damping < MOST and tried < 14:
            damping, tried = damping * 10, tried + 1
            continue
        if others is None:  # pieces that are followed and tie nearby: any of them may lead down
            others = list(_alternatives(model, step))
        if others:
            asked, damping = others.pop(), max(min(damping, 1.0), run_.damping)
            continue
        break
    if status == 0:
        return Outcome(status=0, step=step)
    met = [value for value in met if value is not None]
    if met and not np.isfinite(met).any():
        return Outcome(status=6, detail=f"f = {met[-1]}{run_.count.cause()}")
    return _stalled(run_, model)


def _stalled(run_, model):
    """A descent along gradients sampled nearby, or the end."""
    sampled = _sampled_descent(run_, model)
    if sampled is None:
        return Outcome(status=5)
    run_.history[-1]["decrease"] = np.nan
    return Outcome(max(run_.damping, 1e-2), None, None, run_.accept(*sampled))


def left_by_curvature(run_: Run, model: Model, jumping: bool, step: Any) -> Any:
    """(x, f, t) with a lower f along a direction of negative curvature at a stationary point, or None.

    Sets run_.curvature: the least eigenvalue of the limiting Hessians (at more than 10 kinks, of the one in force), of
    the element given from outside, or of the Lagrangian on the tangents of the pieces that `step` holds; else nan.
    """
    mu = model.own_multipliers()
    if step is not None:
        W = model.hessian(step.multipliers)
        size, (run_.curvature, v) = float(abs(W).max()), tangent_curvature(model, W, step)
    elif jumping:
        return None
    else:
        if run_.element is not None:
            elements = [run_.element(run_.x)]
        elif _listed(run_, model):
            elements = list(limiting_hessians(run_.graph, run_.x).distinct().matrices)
        else:
            elements = [selection_element(model, mu)]
        run_.curvature, v, size = min((least_curvature(P) for P in elements), key=lambda found: found[0])
    if v is None or not run_.curvature < -BENT * size:
        return None
    v = v / np.linalg.norm(v)
    for t in unit_of(run_.x) * 10.0 ** -np.arange(1.0, 7.0):
        fx, x = min(((run_.count(y), y) for y in (run_.x + t * v, run_.x - t * v)), key=lambda pair: pair[0])
        if fx < run_.fx + ARMIJO * run_.curvature * t**2 / 2 - 10 * rounding_of(run_):
            return x, fx, t
    return None


def _search(run_, model, step: Step):
    """(x, f, t) with a sufficient decrease, or None: the full step, the corrected one, shorter ones."""
    run_.last = None
    least = ARMIJO * step.decrease
    if not np.any(step.d) or not step.decrease > 0:
        return None
    t = 1.0
    for k in range(HALVINGS + 1):
        x = run_.x + t * step.d
        fx = run_.count(x)
        if k == 0 or np.isfinite(fx):
            run_.last = fx
        if (fx <= run_.fx - t * least and fx < run_.fx) or fx == -np.inf:
            return x, fx, t
        if k < CORRECTED and np.isfinite(fx):
            found = _corrected(run_, model, step, x, t)
            if found is not None:
                return found
        t /= 2
    return None


def _corrected(run_, model, step, x, t):
    """(x, f, t) after the pieces the step holds equal are made equal again, or None: chords of one linearization."""
    u, longest = model.u + t * step.change, t * np.linalg.norm(step.d)
    for _ in range(CHORDS):
        try:
            extra = step.correction(model.moved(x, u))
        except (FloatingPointError, ValueError):
            return None
        if extra is None or not np.linalg.norm(extra) <= longest:
            return None
        x, longest = x + extra, np.linalg.norm(extra) / 2
        fx = run_.count(x)
        if fx <= run_.fx - t * ARMIJO * step.decrease and fx < run_.fx:
            return x, fx, t
        if not np.isfinite(fx):
            return None
        u = model.outputs(x)
    return None


def _alternatives(model: Model, step):
    """{output: piece}: other pieces for outputs that follow one, where another one ties nearby; at most 64."""
    parts = model.parts
    if step is None or not step.followed.any():
        return
    found = []
    chosen = model.in_force()
    scale = 1e-5 * (1 + np.abs(model.u).max(initial=0.0))
    for j in np.flatnonzero(step.followed):
        own = np.arange(parts.starts[j], parts.starts[j + 1])
        found += [(int(j), int(r)) for r in own if r != chosen[j] and model.gaps[r] >= -scale]
    yield from ({j: r} for j, r in found[:32])
    if 1 < len(found) <= 6:
        for mask in range(1, 2 ** len(found)):
            several = dict(found[k] for k in range(len(found)) if mask >> k & 1)
            if len(several) > 1:
                yield several


def _sampled_descent(run_, model):
    """(x, f, t): a descent step along the element of least norm of gradients sampled nearby [BLO05], or None."""
    n = len(run_.x)
    if n > 60:
        return None
    rng = np.random.default_rng(0)
    parts = model.parts
    for radius in unit_of(run_.x) * np.array([1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7]):
        vectors = [model.gradient(model.own_multipliers())]
        for _ in range(min(2 * n + 2, 60)):
            there = run_.x + radius * rng.standard_normal(n) / np.sqrt(n)
            if np.isfinite(value_at(run_.graph, there)):
                other = model_at(parts, there)
                vectors.append(other.gradient(other.own_multipliers()))
        vectors = np.array(vectors)
        vectors = vectors[np.isfinite(vectors).all(axis=1)]
        if not len(vectors):
            continue
        g = min_norm_element(vectors).element
        size = float(np.linalg.norm(g))
        if size <= 1e-9 * np.abs(vectors).max(initial=0.0):
            continue
        t = radius
        for _ in range(4):
            x = run_.x - t * g / size
            fx = run_.count(x)
            if fx < run_.fx - ARMIJO * t * size:
                return x, fx, t
            t /= 4
    return None


def _letters(model: Model, used):
    """The pattern of a step: a two-way kink has + for its first piece, - for its second, 0 where both are used; of
    more than two pieces each has a letter, + alone, 0 shared, - not used.
    """
    parts, text = model.parts, []
    starts = parts.starts
    sizes = np.diff(starts)
    if len(sizes) and (sizes == 2).all():
        first, second = used[starts[:-1]], used[starts[:-1] + 1]
        return "".join(np.where(first & ~second, "+", np.where(second & ~first, "-", "0")).tolist())
    for j in range(len(sizes)):
        own = used[starts[j] : starts[j + 1]]
        if len(own) == 2:
            text.append("0" if own[0] == own[1] else "+" if own[0] else "-")
        elif len(own) > 2:
            text.append("".join(("+" if own.sum() == 1 else "0") if a else "-" for a in own.tolist()))
    return "".join(text)
