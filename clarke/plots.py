"""Pictures of one point: the regions that meet there, the hull of the limiting derivatives, the blocks of a Hessian.

Every drawing function takes a value and an Axes and returns the Axes; what it draws comes from `slices`, which draws
nothing, or is the array of its image.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .kinks import TOL
from .limiting import LimitingGradients
from .linearization import Layout
from .projection import min_norm_element
from .slices import FILLS, Slice, fills, hull_vertices, inside, plane_of, principal_plane, slice_polygons

if TYPE_CHECKING:
    from .blocks import HessianBlocks

try:
    from matplotlib import rc_context
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError("pictures need matplotlib: pip install 'clarke[plots]'") from error

FEW = 8  # regions or elements that can still be told apart by a label
SPARSE = 24  # elements that can still be told apart as arrows
NAMED = 16  # names that can still be read along an axis 1.8 in long
DECADES = 6  # of norms told apart by color, below the largest


# ---------------------------------------------------------------- drawing

INK, GREY, BLUE, ORANGE = "#222222", "#8a8a8a", "#0072B2", "#D55E00"  # the last two of Okabe and Ito
PAPER: Any = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.handlelength": 1.2,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.4,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}


def regions(
    value: Any,
    ax: Any,
    x: ArrayLike | None = None,
    *,
    basis: ArrayLike | None = None,
    radius: float | None = None,
    tol: float = TOL,
) -> Any:
    """Draw the regions of f around x on a two-dimensional slice: walls through x dark, others grey, x a dot.

    value: a Study (its x, tol and the plane of its limiting derivatives are the defaults), a Slice, or f itself with
    x. Regions that share a side differ in color, nothing more is meant by it; up to 8 are labeled with the letters of
    the guards that vanish at x. Axes are coordinates where n <= 2, else displacements along the basis; for n = 1
    regions are intervals, drawn as strips. Returns the Axes.
    """
    piece = value if isinstance(value, Slice) else _slice_of(value, x, basis, radius, tol)
    n = piece.x.size
    planar = n <= 2 and np.array_equal(piece.basis, np.eye(2, n))
    origin = np.append(piece.x, 0.0)[:2] if planar else np.zeros(2)
    names = sorted(set(piece.patterns))
    color = dict(zip(names, (FILLS[k] for k in fills(piece, names, len(FILLS))), strict=True))
    faces = [color[pattern] for pattern in piece.patterns]
    # sides in the color of the face hide the seams that renderers leave between polygons
    moved = [polygon + origin for polygon in piece.polygons]
    ax.add_collection(PolyCollection(moved, facecolors=faces, edgecolors=faces, linewidths=0.4))
    for mask, ink, width, label in (
        (~piece.through, GREY, 0.5, "kink elsewhere"),
        (piece.through, INK, 0.9, "kink active at $x$"),
    ):
        if mask.any():
            segments = list(piece.walls[mask] + origin)
            ax.add_collection(LineCollection(segments, colors=ink, linewidths=width, capstyle="round", label=label))
    ax.plot(*origin, "o", ms=4.5, mfc=INK, mec="white", mew=0.8, zorder=4, label="$x$", linestyle="none")
    if len(names) <= FEW and piece.active.any():
        for name in names:
            s, t = inside(piece, name) + origin
            text = piece.letters(name).replace("-", "\N{MINUS SIGN}")
            ax.text(s, t, text, ha="center", va="center", color=INK, zorder=5)
    low, high = origin - piece.radius, origin + piece.radius
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axis = ("$x_{}$" if planar else "displacement along $b_{}$").format
    _frame(ax, axis(1), axis(2), line=n == 1)
    return ax


def hull(elements: Any, ax: Any, basis: ArrayLike | None = None) -> Any:
    """Draw limiting gradients as arrows from 0, their hull and its element of least norm, projected on a plane.

    elements: LimitingGradients, or an array (m, ...) whose elements are flattened to size n. basis: (2, n) orthonormal,
    by default `principal_plane`. Beyond 24 distinct elements only the corners of the hull have arrows. What is drawn is
    the hull of the projections; the least norm in the legend is the true one, in n dimensions. Returns the Axes.
    """
    distinct = elements.distinct().vectors if isinstance(elements, LimitingGradients) else elements
    vectors = np.asarray(distinct, dtype=float).reshape(len(distinct), -1)
    basis = principal_plane(vectors) if basis is None else np.asarray(basis, dtype=float)
    points, least = vectors @ basis.T, min_norm_element(vectors)
    outline, foot = hull_vertices(points), basis @ least.element
    zero = least.distance <= 1e-9 * (np.abs(vectors).max() or 1.0)
    if len(outline) > 2:
        ax.add_patch(Polygon(outline, facecolor=BLUE, alpha=0.12, edgecolor="none"))
    if len(outline) > 1:
        ax.plot(*np.vstack([outline, outline[:1]]).T, "-", color=BLUE, lw=0.8, label="hull")
    many = len(points) > SPARSE
    arrow = {"arrowstyle": "-|>,head_length=0.35,head_width=0.15", "color": BLUE, "lw": 0.7, "shrinkA": 0, "shrinkB": 0}
    for tip in outline if many else points:
        ax.annotate("", tip, (0, 0), arrowprops=arrow | ({"lw": 0.5, "alpha": 0.6} if many else {}))
    ax.plot(*points.T, "o", color=BLUE, ms=1.8 if many else 2.6, mew=0, label="element")
    if not zero:
        ax.plot(*np.array([[0, 0], foot]).T, "--", color=ORANGE, lw=0.9)
    label = "least norm: 0" if zero else f"least norm: {least.distance:.3g}"
    ax.plot(*foot, "D", color=ORANGE, ms=4.5, mec="white", mew=0.6, zorder=4, label=label, linestyle="none")
    ax.plot(0, 0, "+", color=INK, ms=7, mew=1, zorder=5, label="0", linestyle="none")
    every = np.vstack([points, [[0.0, 0.0]]])
    low, high = every.min(axis=0), every.max(axis=0)
    half = 0.58 * (float((high - low).max()) or 1.0)
    (left, bottom), (right, top) = (low + high) / 2 - half, (low + high) / 2 + half
    ax.set(xlim=(left, right), ylim=(bottom, top))
    _frame(ax, "first coordinate", "second coordinate", line=vectors.shape[1] == 1)
    return ax


def study_figure(study: Any) -> Figure:
    """Regions and hull of a Study side by side, 6.9 in by 3.3 in, as a Figure of its own (no pyplot state)."""
    n, basis = study.x.size, plane_of(study)
    with rc_context(PAPER):
        figure = Figure(figsize=(6.9, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        piece = slice_polygons(study.graph, study.x, basis=basis, tol=study.tol)
        regions(piece, left)
        where = "" if n <= 2 else f" on a plane through $x$ in $\\mathbb{{R}}^{{{n}}}$"
        left.set_title(f"{_count(len(set(piece.patterns)), 'region')}{where}")
        if study.gradients is not None:
            found, one = study.gradients.distinct(), "limiting gradient"
            hull(found, right, basis)
            axis = "$g_{}$" if n <= 2 else "component along $b_{}$"
        else:
            found, one = study.jacobians.distinct().matrices, "limiting Jacobian"
            hull(found, right)
            axis = "principal coordinate {}" if found[0].size > 2 else "entry {}"
        right.set_title(f"{_count(len(found), one)} and hull{', projected' if n > 2 else ''}")
        right.set_xlabel(axis.format(1))
        if right.get_ylabel():
            right.set_ylabel(axis.format(2))
        for ax in (left, right):
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False, borderpad=0)
        figure.suptitle(study.title, fontsize=9)
        figure.draw_without_rendering()  # ticks are made when drawn: they take the fonts of now
    return figure


def block_map(blocks: "HessianBlocks", names: Iterable[str] | None = None, ax: Any = None) -> Any:
    """Draw the Frobenius norms |H[v, w]|, and those of the Gauss-Newton and tensor parts beside them, on one log scale.

    blocks: a whole HessianBlocks. names: of inputs, parameters or nodes, by default all parameters. ax: three Axes, by
    default those of a Figure of their own, 6.9 in by 2.5 in (no pyplot state). Colors span at most 6 decades below the
    largest norm; a block that is zero is left empty. Returns the array of the three Axes; the norms (k, k), masked
    where zero, are those of `ax.images[0].get_array()` of each. ValueError for another number of Axes.
    """
    names = blocks.names(names)
    parts = {"Hessian": blocks, "Gauss\N{EN DASH}Newton part": blocks.gauss_newton, "tensor part": blocks.tensor}
    starts = Layout(blocks.network, names).starts
    norms = []
    for part in parts.values():
        squares = np.square(part.dense(names))
        norms.append(np.sqrt(np.add.reduceat(np.add.reduceat(squares, starts, axis=0), starts, axis=1)))
    own = ax is None
    with rc_context(PAPER if own else {}):
        axes = Figure(figsize=(6.9, 2.5), layout="constrained").subplots(1, 3) if own else np.ravel(ax)
        if len(axes) != len(parts):
            raise ValueError(f"ax is three Axes, for {', '.join(parts)}; got {len(axes)}")
        largest = float(max(each.max() for each in norms)) or 1.0
        seen = [each[each > 0].min() for each in norms if each.any()]
        least = max(largest / 10**DECADES, min(seen, default=largest / 10))
        scale = LogNorm(min(least, largest / 10), largest)
        for panel, title, each in zip(axes, parts, norms, strict=True):
            image = panel.imshow(np.ma.masked_equal(each, 0.0), cmap="viridis", norm=scale, interpolation="nearest")
            panel.set_title(title)
            _name_blocks(panel, names, panel is axes[0])
        below = "min" if min(seen, default=least) < least else "neither"
        bar = axes[0].figure.colorbar(image, ax=list(axes), extend=below, aspect=22, pad=0.015)
        bar.set_label(r"$\Vert H_{vw}\Vert_F$")
        bar.outline.set_linewidth(0.6)
        if own:
            axes[0].figure.draw_without_rendering()  # ticks are made when drawn: they take the fonts of now
    return axes


def _name_blocks(ax, names, first):
    """Names along the axes, as many as can be read; a grid that shows where empty blocks are."""
    k = len(names)
    places = np.arange(0, k, -(-k // NAMED))
    ax.set_xticks(places, [names[i] for i in places], rotation=90)
    ax.set_yticks(places, [names[i] for i in places] if first else [])
    ax.set_xticks(np.arange(k - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(k - 1) + 0.5, minor=True)
    if k <= 4 * NAMED:
        ax.grid(which="minor", color="#cccccc", linewidth=0.4)
    ax.tick_params(which="both", length=0)


def _frame(ax, first, second, line):
    """Labels, few ticks, equal scales; where the second axis means nothing, none of its ticks."""
    ax.set_xlabel(first)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if line:
        ax.set_yticks([])
    else:
        ax.set_ylabel(second)
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.set_aspect("equal")


def _count(number, noun):
    return f"{number} {noun}{'s' * (number != 1)}"


def _slice_of(value, x, basis, radius, tol):
    if hasattr(value, "graph"):
        return slice_polygons(
            value.graph, value.x, basis=plane_of(value) if basis is None else basis, radius=radius, tol=value.tol
        )
    if x is None:
        raise ValueError("x is missing: give regions a Study, a Slice, or a function with the point x")
    return slice_polygons(value, x, basis=basis, radius=radius, tol=tol)
