"""Pictures of runs: how a run of `minimize` converges, and from which starts the pure Newton step cycles.

`progress` and `cycle_map` take values and return frozen values; `convergence` and `cycle_figure` draw these and nothing
else, in inks that differ in lightness as well as hue [OI08], legible at the width of a column (3.4 in).

[OI08] Okabe, Ito. Color universal design (2008).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .graph import Graph, from_function
from .plots import BLUE, GREY, INK, ORANGE, PAPER
from .semismooth import minimize

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

try:
    from matplotlib import rc_context
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import LogLocator, MaxNLocator
except ImportError as error:
    raise ImportError("pictures need matplotlib: pip install 'clarke[plots]'") from error

OUTCOMES = ("converged", "cycle", "singular", "runs away", "not finished")
INKS = ("#e4eef5", "#d55e00", "#1b1b1b", "#0072b2", "#f0e442")
WIDTH = 3.4  # in: a column
_OUTCOME = {0: 0, 2: 1, 3: 2, 4: 3, 6: 3}  # status -> its place in OUTCOMES; any other one is not finished


# ---------------------------------------------------------------- one run


@dataclass(frozen=True, eq=False)
class Progress:
    """A run, one entry a point visited: gap = f - optimum, stationarity (nan where it was not computed).

    changed: (m,) bool, whether the pieces that the step from this point used differ from those of the step before.
    optimum: as given, or the least f met, so that one gap at least is 0.
    """

    gap: np.ndarray
    stationarity: np.ndarray
    changed: np.ndarray
    optimum: float


def progress(
    result: "Mapping[str, Sequence[Mapping[Any, Any]]] | OptimizeResult", optimum: float | None = None
) -> Progress:
    """Read the history of an OptimizeResult of `minimize`; optimum: f at the minimizer, if it is known.

    Points without a pattern (the last one of a run, or one no step left) change nothing. ValueError without a history.
    """
    history = result.get("history") or ()
    if not history or not all("fun" in h and "stationarity" in h for h in history):
        raise ValueError(
            "the result has no history of points with fun and stationarity; pass one that minimize returned"
        )
    values = np.array([h["fun"] for h in history], dtype=float)
    optimum = float(np.min(values)) if optimum is None else float(optimum)
    changed, last = np.zeros(len(history), bool), ""
    for k, h in enumerate(history):
        changed[k] = bool(last and h["active"] and h["active"] != last)
        last = h["active"] or last
    arrays = values - optimum, np.array([h["stationarity"] for h in history], dtype=float), changed
    for array in arrays:
        array.flags.writeable = False
    return Progress(*arrays, optimum)


def convergence(value: "OptimizeResult | Progress", ax: Any, optimum: float | None = None) -> Any:
    """Draw f - optimum and the stationarity of a run over its steps, on a logarithmic axis; returns the Axes.

    value: a `Progress`, or what `minimize` returned. A dotted line stands at every step whose pieces differ from those
    of the step before. Values that are 0 (or below, by rounding) lie on the lower edge, as hollow markers.
    """
    run = value if isinstance(value, Progress) else progress(value, optimum)
    steps = np.arange(len(run.gap))
    positive = np.concatenate([a[np.isfinite(a) & (a > 0)] for a in (run.gap, run.stationarity)])
    low, high = (positive.min(), positive.max()) if len(positive) else (0.1, 1.0)
    floor = 10.0 ** (np.floor(np.log10(low)) - 1)
    for k in np.flatnonzero(run.changed):
        label = "pieces change" if k == np.flatnonzero(run.changed)[0] else None
        ax.axvline(k, color=GREY, lw=0.8, ls=":", zorder=0, label=label)
    for data, ink, style, marker, label in (
        (run.gap, BLUE, "-", "o", "$f - f^*$"),
        (run.stationarity, ORANGE, "--", "s", "stationarity"),
    ):
        known = np.isfinite(data)
        zero = known & (data <= 0)
        drawn = np.where(data > 0, data, floor)
        ax.plot(steps[known], drawn[known], style, color=ink, lw=1.0, marker=marker, ms=3.2, mew=0, label=label)
        if zero.any():
            ax.plot(steps[zero], drawn[zero], marker, mfc="white", mec=ink, mew=0.8, ms=3.2, ls="none", zorder=3)
    ax.set_yscale("log")
    ax.set(xlim=(-0.4, len(steps) - 0.6), ylim=(floor / 2, 3 * high), xlabel="step")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(LogLocator(numticks=6))
    ax.yaxis.minorticks_off()
    return ax


# ---------------------------------------------------------------- many starts


@dataclass(frozen=True, eq=False)
class CycleMap:
    """How runs end, by their start: the pure step, and the regularized one.

    first (p,), second (q,) or None: the starts on one or two axes. pure, regularized: (p,), or (q, p), of places in
    `OUTCOMES`; pure_steps, regularized_steps likewise.
    """

    first: np.ndarray
    second: np.ndarray | None
    pure: np.ndarray
    regularized: np.ndarray
    pure_steps: np.ndarray
    regularized_steps: np.ndarray


def cycle_map(
    f: Callable[..., Any], first: ArrayLike, second: ArrayLike | None = None, *, maxiter: int = 100
) -> CycleMap:
    """Run `minimize` from every start of a grid, with regularize=False and as it is by default.

    f: an autograd.numpy function of one or two variables, or a Graph; first (p,), and for two variables second (q,):
    increasing. "not finished" is any end but a stationary point, a cycle, a singular element, or a value without bound
    or not finite. ValueError for axes that are not increasing.
    """
    axes = [np.array(a, dtype=float) for a in (first, second) if a is not None]
    for axis, name in zip(axes, ("first", "second"), strict=False):
        if axis.ndim != 1 or not len(axis) or not (np.isfinite(axis).all() and (np.diff(axis) > 0).all()):
            raise ValueError(f"{name} must be a flat, increasing array of starts; got shape {axis.shape}")
        axis.flags.writeable = False
    grid = np.stack(np.meshgrid(*axes), axis=-1) if len(axes) > 1 else axes[0][:, None]
    graph = f if isinstance(f, Graph) else from_function(f, grid.reshape(-1, len(axes))[0])
    found = []
    for regularize in (False, True):
        ends = np.empty((2, *grid.shape[:-1]), dtype=int)
        for place in np.ndindex(grid.shape[:-1]):
            result = minimize(graph, grid[place], regularize=regularize, maxiter=maxiter)
            ends[(0, *place)] = _OUTCOME.get(result.status, len(OUTCOMES) - 1)
            ends[(1, *place)] = result.nit
        ends.flags.writeable = False
        found.append(ends)
    (pure, pure_steps), (regularized, regularized_steps) = found
    return CycleMap(axes[0], axes[1] if len(axes) > 1 else None, pure, regularized, pure_steps, regularized_steps)


def cycle_figure(value: CycleMap) -> Figure:
    """The two maps beside one another, one color an outcome, with its share of the starts: a Figure of column width.

    For one variable two strips over the axis of starts; for two variables two squares. No pyplot state.
    """
    flat = value.second is None
    names = [k for k in range(len(OUTCOMES)) if (value.pure == k).any() or (value.regularized == k).any()]
    colors = ListedColormap(INKS)
    norm = BoundaryNorm(np.arange(len(INKS) + 1) - 0.5, len(INKS))
    paper: Any = PAPER
    with rc_context(paper):
        figure = Figure(figsize=(WIDTH, 1.75 if flat else 2.35), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True) if flat else figure.subplots(1, 2, sharey=True)
        for ax, ends, title in zip(axes, (value.pure, value.regularized), ("pure step", "regularized"), strict=True):
            rows = np.array([0.0, 1.0]) if value.second is None else _edges(value.second)
            ax.pcolormesh(_edges(value.first), rows, np.atleast_2d(ends), cmap=colors, norm=norm, rasterized=True)
            share = np.mean(ends == 0)
            ax.set_title(f"{title}: {100 * share:.0f} % converge", fontsize=8)
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            if flat:
                ax.set_yticks([])
            else:
                ax.set_aspect("auto")
                ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        for ax in axes[-1:] if flat else axes:
            ax.set_xlabel("start" if flat else "$x_1$ at the start")
        if not flat:
            axes[0].set_ylabel("$x_2$ at the start")
        patches = [Patch(facecolor=INKS[k], edgecolor=INK, lw=0.5, label=OUTCOMES[k]) for k in names]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 3), frameon=False)
        figure.draw_without_rendering()  # ticks are made when drawn: they take the fonts of now
    return figure


def _edges(centers):
    """(p + 1,): cells around p increasing centers."""
    if len(centers) == 1:
        return centers[0] + np.array([-0.5, 0.5])
    middle = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]]])
