"""Pictures over a family: eigenvalues along a path, solvers over problems, patterns over kinks.

`eigenvalue_band`, `performance_profile` and `pattern_counts` return frozen values; `band`, `profile` and `counts` draw
these and return the Axes, legible at the width of a column (3.4 in).

[DM02] Dolan, More. Benchmarking optimization software with performance profiles. Math. Program. 91 (2002) 201-213.
[Z75] Zaslavsky. Facing up to arrangements. Mem. Amer. Math. Soc. 154 (1975).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import selections
from .fan import Fan
from .graph import Graph, from_function, run
from .kinks import TOL
from .limiting import limiting_hessian, limiting_hessians
from .plots import BLUE, GREY, INK, ORANGE, MaxNLocator
from .projection import eigenvalue_interval

BISECTIONS = 60  # halvings of an interval between two samples: to rounding
INKS = (BLUE, ORANGE, "#009E73", "#CC79A7", INK, "#E69F00", "#56B4E9")  # Okabe and Ito
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def _freeze(value):
    for field in fields(value):
        array = getattr(value, field.name)
        if isinstance(array, np.ndarray):
            array.flags.writeable = False


# ---------------------------------------------------------------- eigenvalues along a path


@dataclass(frozen=True, eq=False)
class EigenvalueBand:
    """The eigenvalue interval of the hull of the limiting Hessians at points along a path.

    at: (T,) length along the path, from the first point. points: (T, n). low, high: (T,) the least and the largest
    eigenvalue in the hull. before, after: (T, 2) least and largest eigenvalue of the Hessian one meets coming along the
    path, and leaving along it. kinked: (T,) bool, whether several pieces meet there. complete: (T,) bool, whether all
    of them are known.
    """

    at: np.ndarray
    points: np.ndarray
    low: np.ndarray
    high: np.ndarray
    before: np.ndarray
    after: np.ndarray
    kinked: np.ndarray
    complete: np.ndarray

    def __post_init__(self) -> None:
        _freeze(self)


def eigenvalue_band(
    f: Callable[..., Any] | Graph, points: ArrayLike, *, kinks: bool = True, tol: float = TOL
) -> EigenvalueBand:
    """Least and largest eigenvalue of the generalized Hessian of f along a path.

    f: an autograd.numpy function (n,) -> scalar, or a Graph. points: (T, n), T >= 2, a path of segments; a segment
    sampled is `numpy.linspace(a, b, T)`. kinks: also at the places between two points where a choice of f changes,
    found by halving to rounding; several changes between two points are found as one at most, so sample finely enough.
    ValueError on other shapes.
    """
    points = np.array(points, dtype=float)
    if points.ndim != 2 or len(points) < 2 or not np.isfinite(points).all():
        raise ValueError(f"points must be finite, of shape (T, n) with T >= 2; got {points.shape}")
    graph = from_function(f, points[0])
    if graph.shape != ():
        raise ValueError(f"f must return a scalar; it returned shape {graph.shape}")
    if kinks:
        between = [_kink_between(graph, a, b, tol) for a, b in pairwise(points)]
        rows = [row for a, k in zip(points[:-1], between, strict=True) for row in ((a,) if k is None else (a, k))]
        points = np.array([*rows, points[-1]])
    found = [limiting_hessians(graph, x, tol=tol) for x in points]
    intervals = np.array([eigenvalue_interval(each) for each in found])
    steps = np.diff(points, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    if not lengths.all():
        raise ValueError("points must differ from one to the next; leave repeated ones out")
    kinked = np.array([len(each.patterns) > 1 for each in found])
    before, after = intervals.copy(), intervals.copy()
    for k in np.flatnonzero(kinked):
        before[k] = _one_sided(graph, points[k], -steps[max(k - 1, 0)], tol)
        after[k] = _one_sided(graph, points[k], steps[min(k, len(steps) - 1)], tol)
    return EigenvalueBand(
        np.concatenate([[0.0], np.cumsum(lengths)]),
        points,
        intervals[:, 0].copy(),
        intervals[:, 1].copy(),
        before,
        after,
        kinked,
        np.array([each.complete for each in found]),
    )


def _one_sided(graph, x, direction, tol):
    """Least and largest eigenvalue of the Hessian in a direction from x."""
    return np.linalg.eigvalsh(limiting_hessian(graph, x, direction, tol=tol))[[0, -1]]


def _choices(graph, x):
    """What every piecewise operation chooses at x."""
    tape = run(graph, x, lambda i, op, args, sizes: selections.natural_branch(op.name, args, op.kwargs))
    return [tuple(np.asarray(part).tobytes() for part in wire) for b in tape.branches.values() for wire in b.wires]


def _kink_between(graph, a, b, tol):
    """A point between a and b where the choices change, or None: where the choices at both agree, or at an end."""
    start, low, high = _choices(graph, a), 0.0, 1.0
    if start == _choices(graph, b):
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _choices(graph, a + middle * (b - a)) == start else (low, middle)
    return None if min(low, 1 - high) < tol else a + high * (b - a)


def band(value: EigenvalueBand, ax: Any) -> Any:
    """Draw an `EigenvalueBand`: the interval as a band, a bar at every kink; incomplete ones hollow."""
    at = np.repeat(value.at, 2)  # what one meets coming, then what one meets leaving: steps at kinks
    low, high = np.stack([value.before, value.after], axis=1).reshape(-1, 2).T
    ax.fill_between(at, low, high, color=BLUE, alpha=0.18, linewidth=0)
    ax.plot(at, high, "-", color=BLUE, lw=1.0, label="largest")
    ax.plot(at, low, "--", color=ORANGE, lw=1.0, label="least")
    for k in np.flatnonzero(value.kinked):
        ax.plot([value.at[k]] * 2, [value.low[k], value.high[k]], "-", color=INK, lw=1.2, zorder=4)
        face = INK if value.complete[k] else "white"
        ax.plot([value.at[k]] * 2, [value.low[k], value.high[k]], "o", ms=2.6, mec=INK, mew=0.6, mfc=face, zorder=5)
    ax.axhline(0, color=GREY, lw=0.5, zorder=0)
    ax.set(xlabel="length along the path", ylabel="eigenvalues of the hull", xlim=(value.at[0], value.at[-1]))
    ax.legend(frameon=False)
    return ax


# ---------------------------------------------------------------- solvers over problems


@dataclass(frozen=True, eq=False)
class PerformanceProfile:
    """rho_s(tau) = the share of problems that solver s solves within tau times the best solver's cost [DM02].

    names: the solvers. ratios: (problems, solvers), inf where unsolved; a problem nobody solves counts against all.
    """

    names: tuple[str, ...]
    ratios: np.ndarray

    def __post_init__(self) -> None:
        _freeze(self)

    def share(self, name: str, tau: float) -> float:
        """rho of one solver at tau >= 1. ValueError for a solver that is not there."""
        if name not in self.names:
            raise ValueError(f"no solver {name!r}; there are {', '.join(self.names)}")
        return float(np.mean(self.ratios[:, self.names.index(name)] <= tau))


def performance_profile(costs: ArrayLike, names: Sequence[str]) -> PerformanceProfile:
    """The performance profile of costs (problems, solvers), positive; nan or inf where a solver failed.

    ValueError on other shapes, on costs that are not positive, and on names that do not fit.
    """
    costs = np.array(costs, dtype=float)
    if costs.ndim != 2 or not costs.size or costs.shape[1] != len(names):
        raise ValueError(f"costs must be (problems, {len(names)}), one column a name; got {costs.shape}")
    costs[np.isnan(costs)] = np.inf
    if not (costs > 0).all():
        raise ValueError("costs must be positive; give nan or inf where a solver failed")
    best = costs.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        ratios = np.where(np.isinf(costs), np.inf, costs / best)
    return PerformanceProfile(tuple(names), ratios)


def profile(value: PerformanceProfile, ax: Any) -> Any:
    """Draw a `PerformanceProfile` as steps on a logarithmic axis."""
    finite = value.ratios[np.isfinite(value.ratios)]
    last = 1.2 * max(finite.max(initial=1.0), 2.0)
    for k, name in enumerate(value.names):
        ratios = np.sort(value.ratios[np.isfinite(value.ratios[:, k]), k])
        share = np.arange(len(ratios) + 1) / len(value.ratios)
        style = {"color": INKS[k % len(INKS)], "linestyle": DASHES[k % len(DASHES)]}
        ax.step([1.0, *ratios, last], [*share, share[-1]], where="post", lw=1.2, label=name, **style)
    ax.set(xscale="log", xlim=(1.0, last), ylim=(0.0, 1.03), xlabel="times the best", ylabel="share of problems solved")
    ax.legend(frameon=False, loc="lower right")
    return ax


# ---------------------------------------------------------------- patterns over kinks


@dataclass(frozen=True, eq=False)
class PatternCounts:
    """How many patterns meet where so many kinks do.

    kinks, dimension, patterns: (m,) whole numbers, one a fan. bound: (m,) 2 sum_{i < n} C(k - 1, i), the number of
    chambers of k hyperplanes through a point of R^n in general position, which no k hyperplanes exceed [Z75].
    Kinks of later layers, whose guards depend on earlier letters, are several hyperplanes each: there the bound may be
    exceeded.
    """

    kinks: np.ndarray
    dimension: np.ndarray
    patterns: np.ndarray
    bound: tuple[int, ...]

    def __post_init__(self) -> None:
        _freeze(self)


def general_position(k: int, n: int) -> int:
    """2 sum_{i < n} C(k - 1, i): chambers of k >= 1 hyperplanes through 0 in general position in R^n; 1 for none."""
    return 2 * sum(comb(k - 1, i) for i in range(min(n, k))) if k else 1


def pattern_counts(fans: Sequence[Fan]) -> PatternCounts:
    """The numbers of kinks and of patterns of fans, beside Zaslavsky's bound. ValueError where there is none."""
    if not fans:
        raise ValueError("fans is empty; give one Fan or more, as local_fan returns them")
    kinks = np.array([len(fan.kinks) for fan in fans])
    dimension = np.array([fan.witnesses.shape[1] for fan in fans])
    patterns = np.array([len(fan.patterns) for fan in fans])
    bound = tuple(general_position(int(k), int(n)) for k, n in zip(kinks, dimension, strict=True))
    return PatternCounts(kinks, dimension, patterns, bound)


def counts(value: PatternCounts, ax: Any) -> Any:
    """Draw `PatternCounts`: patterns against kinks as dots, the bound as a line for each dimension, logarithmic."""
    for k, n in enumerate(sorted(set(value.dimension.tolist()))):
        here = value.dimension == n
        span = range(1, max(2, int(value.kinks[here].max())) + 1)
        ink = INKS[k % len(INKS)]
        line = [float(general_position(each, n)) for each in span]
        ax.plot(list(span), line, linestyle=DASHES[k % len(DASHES)], color=ink, lw=0.9, label=f"bound, $n = {n}$")
        ax.plot(value.kinks[here], value.patterns[here], "o", ms=3, color=ink, mec="white", mew=0.4)
    ax.set(yscale="log", xlabel="kinks", ylabel="patterns")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    return ax
