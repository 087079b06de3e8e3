"""Pictures of one point: the regions that meet there, the hull of the limiting derivatives, the blocks of a Hessian.

Every drawing function takes a value and an Axes and returns the Axes; what it draws comes from `slice_polygons` and
`hull_vertices`, which draw nothing, or is the array of its image. A slice is the square
{x + s b_0 + t b_1 : |s|, |t| <= radius}. It is cut like dough: on a convex cell where all earlier choices are fixed,
the guards of the next operation are affine if its arguments are, so their values at the corners say exactly where they
vanish. Where guards are curved the square begins as a grid of cells, and the cuts are linear interpolations in each.
"""

from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull

from . import selections
from .graph import from_function, point, run, unit_of
from .kinks import TOL
from .limiting import LimitingGradients
from .linearization import Layout
from .primitives import NotPiecewiseSmooth
from .projection import min_norm_element
from .selections import ExtremumTie, TwoWayTies

try:
    from matplotlib import rc_context
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.colors import LogNorm, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError("pictures need matplotlib: pip install 'clarke[plots]'") from error

MUTE = 1e-12  # |guard| / scale below which a guard is zero: rounding, far above 2^-52, far below any tol
GRID = 32  # cells along each side of the square when guards are curved
FEW = 8  # regions or elements that can still be told apart by a label
SPARSE = 24  # elements that can still be told apart as arrows
NAMED = 16  # names that can still be read along an axis 1.8 in long
DECADES = 6  # of norms told apart by color, below the largest


# ---------------------------------------------------------------- the slice


@dataclass(frozen=True, eq=False)
class Slice:
    """The regions of f in the square {x + s basis[0] + t basis[1] : |s|, |t| <= radius}.

    polygons: convex (v, 2) arrays of (s, t), counterclockwise. patterns: one string a polygon, a letter for every
    guard of f, vanishing at x or not, in the order and meaning of `Kink`; k entries of a max are k letters even if
    k = 2 of them tie at x. active: (letters,) whether the guard vanishes at x. walls: (w, 2, 2) segments on which the
    choice changes, through: (w,) whether it is one that is open at x. exact: one polygon a region; else guards are
    curved, and a region is the union of the polygons of its pattern, with curved sides interpolated on a grid.
    """

    x: np.ndarray
    basis: np.ndarray
    radius: float
    polygons: tuple[np.ndarray, ...]
    patterns: tuple[str, ...]
    active: np.ndarray
    walls: np.ndarray
    through: np.ndarray
    exact: bool

    def letters(self, pattern) -> str:
        """The letters of the guards that vanish at x."""
        return "".join(letter for letter, is_active in zip(pattern, self.active, strict=True) if is_active)


def slice_polygons(f, x, *, basis=None, radius=None, tol=TOL) -> Slice:
    """The regions of f in a square around x, and the walls between them.

    f: an autograd.numpy function of one flat array (n,), or a Graph. basis: (2, n) orthonormal, by default the first
    two coordinate axes; for n = 1, where the second axis means nothing, (1,), (0,). radius: half the side, by default
    half as far again as the nearest kink that does not pass through x, or 1 where there is none. tol: a guard vanishes
    at x iff |guard| <= tol * its scale. ValueError for a wrong basis or radius.
    """
    graph = from_function(f, x)
    x = point(x, graph.size)
    basis = np.eye(2, x.size) if basis is None else np.array(basis, dtype=float)
    if basis.shape != (2, x.size) or np.abs(basis @ basis.T - np.diag([1, min(x.size - 1, 1)])).max() > 1e-9:
        raise ValueError(f"basis must be two orthonormal rows of {x.size} entries; got shape {basis.shape}")
    at_x = _forward(graph, x)[0]
    guards, scales = _guards(at_x)
    active = np.abs(guards) <= tol * scales
    radius = _reach(graph, x, basis, np.sign(guards), ~active) if radius is None else radius
    if not (isinstance(radius, Real) and 0 < float(radius) < np.inf):
        raise ValueError(f"radius must be a positive finite number; got {radius!r}")
    radius = float(radius)

    operations = graph.program.operations
    exact = all(graph.degrees[p] <= 1 for i in at_x for p in operations[i - 1].parents)
    rows, columns = (1, 1) if exact else (GRID, GRID) if x.size > 1 else (1, GRID**2)
    s, t = np.linspace(-radius, radius, columns + 1), np.linspace(-radius, radius, rows + 1)
    pending = [
        (0, np.array([[s[i], t[j]], [s[i + 1], t[j]], [s[i + 1], t[j + 1]], [s[i], t[j + 1]]]))
        for i in range(columns)
        for j in range(rows)
    ]
    polygons, patterns, walls, through = [], [], [], []
    while pending:
        last, cell = pending.pop()  # not to be cut again by an operation up to the last, curved as it may be
        inside, pieces = _forward(graph, x + cell.mean(axis=0) @ basis)
        corners = [_forward(graph, x + corner @ basis, pieces)[0] for corner in cell]
        for i in inside:
            if i <= last:
                continue
            parts, cuts = _divide(cell, [corner[i] for corner in corners], at_x[i], tol)
            if len(parts) > 1:  # later operations see other values in each part
                pending += [(i, part) for part in parts if _area(part) > 1e-12 * radius**2]
                walls += [segment for segment, _ in cuts]
                through += [is_open for _, is_open in cuts]
                break
        else:
            polygons.append(_frozen(cell))
            patterns.append(_text(*_guards(inside)))
    return Slice(
        x,
        _frozen(basis),
        radius,
        tuple(polygons),
        tuple(patterns),
        _frozen(active, bool),
        _frozen(np.reshape(walls, (-1, 2, 2))),
        _frozen(through, bool),
        exact,
    )


def principal_plane(elements) -> np.ndarray:
    """(2, n) orthonormal: the two directions along which (m, ..., n) elements differ most.

    By the singular value decomposition of the centered rows, completed where it has rank 0 or 1 by their mean and by
    coordinate axes; each direction is signed to have its largest entry positive. n <= 2 gives coordinate axes.
    """
    elements = np.asarray(elements, dtype=float)
    n = elements.shape[-1]
    if n <= 2:
        return np.eye(2, n)
    mean = elements.mean(axis=0)
    _, sizes, directions = np.linalg.svd((elements - mean).reshape(-1, n), full_matrices=False)
    apart = directions[sizes > 1e-9 * (np.abs(elements).max(initial=0.0) or 1.0)]
    plane = np.empty((0, n))
    for candidate in (*apart[:2], *mean.reshape(-1, n), *np.eye(n)):
        rest = candidate - plane.T @ (plane @ candidate)
        if len(plane) < 2 and np.linalg.norm(rest) > 1e-6 * np.linalg.norm(candidate):
            rest -= plane.T @ (plane @ rest)  # once more: the first time leaves rounding relative to the candidate
            plane = np.vstack([plane, rest / np.linalg.norm(rest)])
    return plane * np.sign(plane[[0, 1], np.abs(plane).argmax(axis=1)])[:, None]


def _forward(graph, z, pieces=None):
    """({operation: (ties of all its guards at z, its arguments, their magnitudes)}, the branches taken).

    With tol = 2 every guard ties, because |guard| <= its scale. pieces: branches to force instead of the natural ones.
    """
    seen = {}

    def branch_of(i, op, args, sizes):
        ties = selections.decide(op.name, args, op.kwargs, sizes, 2.0)[1]
        if ties:  # the max of a single entry has none
            seen[i] = ties, args, sizes
        return selections.natural_branch(op.name, args, op.kwargs) if pieces is None else pieces[i]

    with np.errstate(all="ignore"):
        tape = run(graph, z, branch_of, magnitudes=True)
    return seen, tape.branches


def _guards(seen):
    """(letters,) every guard and its scale."""
    ties = [tie for each, _, _ in seen.values() for tie in each]
    return tuple(np.concatenate([np.empty(0), *(getattr(tie, name) for tie in ties)]) for name in ("guards", "scales"))


def _text(guards, scales):
    return "".join("-0+"[int(s) + 1] for s in np.where(np.abs(guards) <= MUTE * scales, 0, np.sign(guards)))


def _reach(graph, x, basis, signs, idle):
    """A radius that shows the nearest kink not through x, met on 24 rays; less where f soon stops being defined."""
    angles = 2 * np.pi * np.arange(24) / 24 + 0.1  # not along the axes, where examples like to have their kinks
    rays = np.column_stack([np.cos(angles), np.sin(angles)]) @ basis
    unit = unit_of(x)

    def meets(t):
        """Whether an idle guard has changed sign at distance t; None where f is not defined."""
        try:
            found = [_guards(_forward(graph, x + t * ray)[0])[0][idle] for ray in rays]
        except NotPiecewiseSmooth:
            return None
        return any(np.any(np.sign(guards) != signs[idle]) for guards in found)

    if not idle.any() and meets(1.5 * unit) is False:
        return unit
    near, far = 0.0, 1e-7 * unit
    while meets(far) is False:
        near, far = far, 2 * far
        if far > 1e4 * unit:
            return unit
    for _ in range(6):
        middle = (near + far) / 2
        near, far = (middle, far) if meets(middle) is False else (near, middle)
    # the corners of the square are sqrt(2) radii away
    return near / 2 if meets(2.2 * far) is None else 1.5 * far


def _divide(cell, corners, at_x, tol):
    """The parts into which one operation's guards cut a cell, and the cuts: (segment, whether it is open at x).

    corners, at_x: what `_forward` saw of the operation at each corner, and at x. A row (s, t, differences) travels
    with every corner, so that a new corner, between two others, gets its differences by interpolation.
    """
    ties, args, sizes = at_x
    tables = [[_differences(tie, *rest) for tie in here] for here, *rest in corners]
    values, scales = (np.array([np.concatenate([tie[k] for tie in table]) for table in tables]) for k in (0, 1))
    noise = MUTE * np.concatenate([[0, 0], scales.max(axis=0)])
    parts, cuts, column = [_settled(np.hstack([cell, values]), noise)], [], 2
    for tie in ties:
        is_open = _open(tie, args, sizes, tol)
        span = range(column, column + len(is_open))
        column = span.stop
        cut = _winners if isinstance(tie, ExtremumTie) else _halves
        parts, found = cut(parts, span, tie, noise)
        cuts += [(segment, bool(is_open[k - span.start])) for segment, k in found]
    return [part[:, :2] for part in parts], cuts


def _differences(tie, args, sizes):
    """The functions whose signs decide a tie, and their scales: its guards, or all differences of its members."""
    if isinstance(tie, TwoWayTies):
        return tie.guards, tie.scales
    flat, size = np.ravel(args[0])[tie.members], np.ravel(sizes[0])[tie.members]
    first, second = np.triu_indices(len(flat), 1)
    return flat[first] - flat[second], size[first] + size[second]


def _open(tie, args, sizes, tol):
    """Which of these differences belong to a kink active at x."""
    values, scales = _differences(tie, args, sizes)
    small = np.abs(values) <= tol * scales
    if isinstance(tie, ExtremumTie):  # two members that tie far below the winner are no kink
        near = np.abs(tie.guards) <= tol * tie.scales
        first, second = np.triu_indices(len(near), 1)
        small &= near[first] & near[second]
    return small


def _halves(parts, span, tie, noise):
    """Every part cut along the zeros of every column in turn."""
    cuts = []
    for k in span:
        halved = []
        for part in parts:
            for piece in _unambiguous(part, k):
                if piece[:, k].min() < 0 < piece[:, k].max():
                    plus = _clip(piece, k, 1, noise)
                    halved += [plus, _clip(piece, k, -1, noise)]
                    cuts += [(segment, k) for segment in _zeros(plus, k)]
                else:
                    halved.append(piece)
        parts = halved
    return parts, cuts


def _winners(parts, span, tie, noise):
    """Every part cut into the parts where one member of a max or min wins; columns are member minus later member."""
    cuts, pieces, m = [], [], len(tie.members)
    column = dict(zip(combinations(range(m), 2), span, strict=True))
    for part in parts:
        for w in range(m):
            piece, walls = part, []
            for other in range(m):
                if other == w or not len(piece):
                    continue
                k, side = (column[w, other], tie.side) if w < other else (column[other, w], -tie.side)
                if not part[:, k].any() and other < w:
                    piece = piece[:0]  # the same function: the earlier member stands for both
                elif (side * piece[:, k]).max() <= 0 and part[:, k].any():
                    piece = piece[:0]
                elif (side * piece[:, k]).min() < 0:
                    piece = _clip(piece, k, side, noise)
                    walls += [k] if w < other else []
            if len(piece):
                pieces.append(piece)
                cuts += [(segment, k) for k in walls for segment in _zeros(piece, k)]
    return pieces, cuts


def _unambiguous(part, k):
    """The part, or triangles of it where the column changes sign more than twice around it (curved guards only)."""
    signs = np.sign(part[:, k])
    signs = signs[signs != 0]
    if np.sum(signs != np.roll(signs, 1)) <= 2:
        return [part]
    return [part[[0, i, i + 1]] for i in range(1, len(part) - 1)]


def _clip(part, k, side, noise):
    """The corners of the part where side * column k >= 0."""
    corners = []
    for a, b in zip(part, np.roll(part, -1, axis=0), strict=True):
        if side * a[k] >= 0:
            corners.append(a)
        if a[k] * b[k] < 0:
            new = a + a[k] / (a[k] - b[k]) * (b - a)
            new[k] = 0.0
            corners.append(_settled(new, noise))
    return np.array(corners)


def _settled(values, noise):
    return np.where(np.abs(values) <= noise, 0.0, values)


def _zeros(part, k):
    """The sides (2, 2) of the part on which column k vanishes."""
    ends = zip(part, np.roll(part, -1, axis=0), strict=True)
    return [np.array([a[:2], b[:2]]) for a, b in ends if a[k] == 0 == b[k]]


def _area(corners):
    """Shoelace: positive counterclockwise."""
    (s, t), (u, v) = corners.T, np.roll(corners, -1, axis=0).T
    return float(np.sum(s * v - t * u)) / 2


def _frozen(array, dtype=float):
    array = np.array(array, dtype=dtype)
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------- the hull


def hull_vertices(points) -> np.ndarray:
    """(k, 2) vertices of the convex hull of (m, 2) points, counterclockwise: 2 for a segment, 1 for a point."""
    points = np.array(points, dtype=float)
    centered = points - points.mean(axis=0)
    sizes, directions = np.linalg.svd(centered, full_matrices=False)[1:]
    apart = np.abs(points).max() * len(points) * 1e-12  # below, rounding of equal points
    if sizes[0] <= apart:
        return points[:1]
    if sizes[1] <= max(apart, 1e-9 * sizes[0]):  # too flat for qhull, and for the eye
        along = centered @ directions[0]
        return points[[along.argmin(), along.argmax()]]
    return points[ConvexHull(centered / np.abs(centered).max()).vertices]


# ---------------------------------------------------------------- drawing

# Paul Tol's light scheme, made for cells with text on them; distinct under the common color deficiencies.
FILLS = ("#77AADD", "#EEDD88", "#EE8866", "#44BB99", "#FFAABB", "#99DDFF", "#BBCC33", "#DDDDDD")
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


def regions(value, ax, x=None, *, basis=None, radius=None, tol=TOL):
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
    color = dict(zip(names, _colors(piece, names), strict=True))
    fills = [color[pattern] for pattern in piece.patterns]
    # sides in the color of the face hide the seams that renderers leave between polygons
    moved = [polygon + origin for polygon in piece.polygons]
    ax.add_collection(PolyCollection(moved, facecolors=fills, edgecolors=fills, linewidths=0.4))
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
            s, t = _inside(piece, name) + origin
            text = piece.letters(name).replace("-", "\N{MINUS SIGN}")
            ax.text(s, t, text, ha="center", va="center", color=INK, zorder=5)
    low, high = origin - piece.radius, origin + piece.radius
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axis = ("$x_{}$" if planar else "displacement along $b_{}$").format
    _frame(ax, axis(1), axis(2), line=n == 1)
    return ax


def hull(elements, ax, basis=None):
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


def study_figure(study) -> Figure:
    """Regions and hull of a Study side by side, 6.9 in by 3.3 in, as a Figure of its own (no pyplot state)."""
    n, basis = study.x.size, _plane_of(study)
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


def block_map(blocks, names=None, ax=None):
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
            value.graph, value.x, basis=_plane_of(value) if basis is None else basis, radius=radius, tol=value.tol
        )
    if x is None:
        raise ValueError("x is missing: give regions a Study, a Slice, or a function with the point x")
    return slice_polygons(value, x, basis=basis, radius=radius, tol=tol)


def _plane_of(study):
    return principal_plane(study.jacobians.matrices if study.gradients is None else study.gradients.vectors)


def _inside(piece, pattern):
    """Where to write in a region: the center of its polygon nearest to the center of them all."""
    mine = [polygon for polygon, own in zip(piece.polygons, piece.patterns, strict=True) if own == pattern]
    centers = np.array([_centroid(polygon) for polygon in mine])
    middle = np.average(centers, axis=0, weights=[_area(polygon) for polygon in mine])
    return centers[np.linalg.norm(centers - middle, axis=1).argmin()]


def _centroid(corners):
    (s, t), (u, v) = corners.T, np.roll(corners, -1, axis=0).T
    cross = s * v - t * u
    return np.array([np.sum((s + u) * cross), np.sum((t + v) * cross)]) / (3 * np.sum(cross))


def _colors(piece, names):
    """A fill for each of the names such that regions sharing a side differ; the least used where there is a choice."""
    number = {name: i for i, name in enumerate(names)}
    beside = _neighbors(piece, number)
    fill, used = {}, np.zeros(len(FILLS), dtype=int)
    for i in sorted(beside, key=lambda i: (-len(beside[i]), i)):
        taken = {fill[j] for j in beside[i] if j in fill}
        free = [c for c in range(len(FILLS)) if c not in taken] or range(len(FILLS))
        fill[i] = min(free, key=lambda c: (used[c], c))
        used[fill[i]] += 1
    return [tuple(0.45 * np.array(to_rgb(FILLS[fill[i]])) + 0.55) for i in range(len(names))]


def _neighbors(piece, number):
    """region -> the regions whose polygons share a side of positive length with its own."""
    owner = np.repeat([number[p] for p in piece.patterns], [len(polygon) for polygon in piece.polygons])
    start = np.concatenate(piece.polygons)
    end = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in piece.polygons])
    beside, eps = {i: set() for i in number.values()}, 1e-9 * piece.radius
    for a, b, own in zip(start, end, owner, strict=True):
        length = np.linalg.norm(b - a)
        if length <= eps:
            continue
        along, across = (b - a) / length, np.array([a[1] - b[1], b[0] - a[0]]) / length
        level = (np.abs((start - a) @ across) <= eps) & (np.abs((end - a) @ across) <= eps) & (owner != own)
        first, last = (start[level] - a) @ along, (end[level] - a) @ along
        overlap = np.minimum(np.maximum(first, last), length) - np.maximum(np.minimum(first, last), 0)
        beside[own].update(owner[level][overlap > eps].tolist())
    return beside
