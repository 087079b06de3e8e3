"""One piece of f, the choice of a branch at every kink, and its walls: the guards that hold the choice in force.

Fix the piece chosen at every kink. Each guard is then one smooth function h_j, affine when f is piecewise linear, and
the piece is in force where every h_j keeps its sign. `wall_values` reads the guards at a point, `wall_gradients` takes
all gradients in one forward pass of n tangents where that is less work than one reverse pass a guard, and `common_zero`
walks to a point of some of the walls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import selections
from .fan import pattern_along
from .graph import Graph, Tape, from_function, point, pullback, pushforward, run, unit_of
from .kinks import TOL, germ, operation_names, text
from .primitives import NotPiecewiseSmooth
from .skeleton import skeleton

if TYPE_CHECKING:
    from .selections import Branch

SOLVED = 1e-12  # |guard| / scale of a guard that was solved for: a thousandth of the tolerance of a kink
CANDIDATES = 16  # walls tried in turn, nearest first, when guards are not affine
LOST = (NotPiecewiseSmooth, np.linalg.LinAlgError)  # a start, or a step from it, is outside the domain of f


@dataclass(frozen=True, eq=False)
class Piece:
    """f under one choice of branches: operation -> Branch.

    walls: (position, terms, entries) an operation, the guards whose signs hold the choice in force, each a sum of terms
    (argument, flat entry, coef): first - second, winner - other, the steps of a sorted run; entries: the flat output
    and the suffix that name each. pattern: the letters of all guards at the point where the piece was opened.
    """

    graph: Graph
    branches: dict[Any, Any]
    walls: tuple[Any, ...]
    pattern: str

    @property
    def names(self) -> list[str]:
        """The kink behind each guard, as `active_kinks` names it: a list."""
        bases, operations, found = operation_names(self.graph), self.graph.program.operations, []
        for position, _, entries in self.walls:
            shape = operations[position - 1].shape
            for out, suffix in entries:
                index = ", ".join(str(int(k)) for k in np.unravel_index(out, shape)) if shape else ""
                found.append(bases[position] + (f"[{index}]" if index else "") + suffix)
        return found


@dataclass(frozen=True, eq=False)
class Walls:
    """The guards of a piece at one point: values (c,), scales (c,), and the tape that gives their gradients."""

    values: np.ndarray
    scales: np.ndarray
    tape: Tape

    def zero(self, tol: float) -> NDArray[np.bool_]:
        return np.abs(self.values) <= tol * self.scales

    def miss(self, which: Any) -> float:
        """The largest |guard| / scale of these guards."""
        return float(np.max(np.abs(self.values[which]) / np.maximum(self.scales[which], np.finfo(float).tiny)))


# ---------------------------------------------------------------- opening a piece


def recorded(f: Callable[..., Any] | Graph, x: ArrayLike) -> tuple[Graph, NDArray[np.float64]]:
    """(Graph of f, x as an array of its size)."""
    graph = from_function(f, x)
    return graph, point(x, graph.size)


def choice_at(
    graph: Graph, x: ArrayLike, direction: ArrayLike | None = None, tol: float = TOL
) -> "tuple[dict[int, Branch], list[str]]":
    """(branches just beyond x along the direction, names of the kinks at x that are not mute there)."""
    here = germ(graph, x, tol=tol)
    signs = pattern_along(skeleton(here), direction)
    return here.branches(signs), [kink.name for kink, sign in zip(here.kinks, signs, strict=True) if sign]


def open_piece(graph: Graph, x: ArrayLike, branches: Any, tol: float = TOL) -> Piece:
    """The piece of these branches, which are in force at x or just beyond it; letters are read at x."""
    walls, letters = [], []

    def open_all(i, op, args, magnitudes):
        # with an infinite tolerance every guard ties, zero ones too once their scale is not zero
        sizes = [m + np.finfo(float).tiny for m in magnitudes]
        outs, sources, _ = branches[i].wires[0]
        chosen = dict(zip(outs.tolist(), sources.tolist(), strict=True))
        for tie in selections.decide(op.name, args, op.kwargs, sizes, np.inf)[1]:
            letters.extend(np.where(np.abs(tie.guards) <= tol * tie.scales, 0, np.sign(tie.guards)))
            walls.append((i, *_walls_of(tie, chosen)))
        return branches[i]

    with np.errstate(all="ignore"):
        run(graph, x, open_all, magnitudes=True)
    return Piece(graph, branches, tuple(walls), text(letters))


def _walls_of(tie, chosen):
    """(terms, [(flat output, suffix of the name)]) of the guards that bound the piece; chosen: output -> entry."""
    if isinstance(tie, selections.TwoWayTies):
        return tie.guard_terms, tie.entries
    if isinstance(tie, selections.ExtremumTie):
        winner = chosen[tie.out]
        first, second, coef = np.full(tie.letters - 1, winner), tie.members[tie.members != winner], float(tie.side)
        named = [(tie.out, "")] * len(first)
    else:
        ranked = np.array([chosen[int(out)] for out in tie.outs])
        first, second, coef = ranked[1:], ranked[:-1], 1.0
        named = [(int(out), f"<>{int(after)}#0") for out, after in zip(tie.outs, tie.outs[1:], strict=False)]
    return ((0, first, np.full(len(first), coef)), (0, second, np.full(len(first), -coef))), named


def guard_degree(graph: Graph) -> float:
    """The largest polynomial degree of a guard on a piece, infinity where it is not known; 0 without guards."""
    parents = [p for op in graph.program.operations if op.name in selections.PIECEWISE for p in op.parents]
    return max((graph.degrees[p] for p in parents), default=0)


def listed(names: Sequence[str]) -> str:
    """The first five names as prose."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more kinks" if len(names) > 5 else "")


# ---------------------------------------------------------------- values and gradients of the guards


def wall_values(piece: Piece, y: np.ndarray) -> Walls:
    """The guards of the piece at y, which need not be on it. Raises what `run` raises outside the domain of f."""
    graph = piece.graph
    with np.errstate(all="ignore"):
        tape = run(graph, y, lambda i, op, args, sizes: piece.branches[i], magnitudes=True)
    values, scales = [], []
    for position, terms, _ in piece.walls:
        op, args = graph.program.operations[position - 1], tape.arguments[position]
        parents = dict(zip(op.argnums, op.parents, strict=True))
        sizes = {k: tape.magnitudes[parents[k]] if k in parents else np.abs(args[k]) for k, _, _ in terms}
        values.append(sum(coef * np.ravel(args[k])[entry] for k, entry, coef in terms))
        scales.append(sum(np.abs(coef) * np.ravel(sizes[k])[entry] for k, entry, coef in terms))
    return Walls(np.concatenate([np.zeros(0), *values]), np.concatenate([np.zeros(0), *scales]), tape)


def wall_gradients(piece: Piece, walls: Walls, which: Sequence[int] | None = None) -> NDArray[np.float64]:
    """(c, n): the gradients of the guards (those in the increasing list `which`) where the walls were read.

    Zero where their terms cancel, or where a step of max(1, |x|) changes the guard by less than rounding.
    """
    graph, found, first = piece.graph, [np.zeros((0, piece.graph.size))], 0
    least = SOLVED * walls.scales / unit_of(walls.tape.values[0])
    rows = _rows_forward(piece, walls.tape) if which is None and len(least) > graph.size else None
    rows = rows or _rows_backward(piece, walls.tape)
    for position, terms, entries in piece.walls:
        among = np.arange(len(entries)) if which is None else np.array(which, dtype=int) - first
        among = among[(0 <= among) & (among < len(entries))]
        op = graph.program.operations[position - 1]
        parts = [coef[among, None] * rows(position, k, entry[among]) for k, entry, coef in terms if k in op.argnums]
        total = sum(parts, np.zeros((len(among), graph.size)))
        size = sum((np.abs(part).max(axis=1) for part in parts), np.zeros(len(among)))
        live = np.abs(total).max(axis=1) > np.maximum(TOL * size, least[first + among])
        found.append(np.where(live[:, None], total, 0.0))
        first += len(entries)
    return np.concatenate(found)


def _rows_forward(piece, tape):
    """(operation, argument, flat entries) -> their gradients (., n), all at once; None without a forward derivative."""
    tangents = {}

    def branch_of(i, along):
        tangents[i] = along
        return piece.branches[i]

    try:
        with np.errstate(all="ignore"):
            pushforward(piece.graph, tape, np.eye(piece.graph.size), branch_of)
    except NotImplementedError:
        return None
    return lambda position, k, entries: np.array([np.ravel(args[k])[entries] for args in tangents[position]]).T


def _rows_backward(piece, tape):
    """The same by one reverse pass an entry."""
    graph, known = piece.graph, {}

    def row(parent, entry):
        if (parent, entry) not in known:
            unit = np.zeros(np.shape(tape.values[parent]))
            unit.reshape(-1)[entry] = 1.0
            known[parent, entry] = pullback(graph, tape, {parent: unit})[0]
        return known[parent, entry]

    def rows(position, k, entries):
        op = graph.program.operations[position - 1]
        parent = op.parents[op.argnums.index(k)]
        return np.array([row(parent, int(entry)) for entry in entries]).reshape(len(entries), graph.size)

    return rows


# ---------------------------------------------------------------- points of a wall


def by_distance(walls: Walls, gradients: np.ndarray, active: Sequence[int] | tuple[Any, ...] = ()) -> np.ndarray:
    """Guards by their distance, to first order, within the common zeros of the active ones; no parallel ones."""
    length = np.linalg.norm(gradients, axis=1)
    basis = np.linalg.qr(gradients[list(active)].T)[0]
    within = np.linalg.norm(gradients - gradients @ basis @ basis.T, axis=1)
    met = np.flatnonzero((length > 0) & (within > TOL * length))
    return met[np.argsort(np.abs(walls.values[met]) / within[met], kind="stable")]


def settled(
    piece: Piece, z: np.ndarray, which: ArrayLike, start: np.ndarray
) -> tuple[NDArray[np.float64], Walls, float]:
    """(point, walls, miss): z, or z less the entries below rounding, where that brings these guards to zero.

    A guard that is one product w z_i has itself for a scale, so only an exact zero counts.
    """
    walls = wall_values(piece, z)
    miss = walls.miss(which)
    tiny = (z != 0) & (np.abs(z) <= SOLVED * max(np.abs(start).max(), np.abs(z).max()))
    if miss > SOLVED and tiny.any():
        cleared = np.where(tiny, 0.0, z)
        there = wall_values(piece, cleared)
        if there.miss(which) <= SOLVED:
            return cleared, there, there.miss(which)
    return z, walls, miss


@np.errstate(all="ignore")
def common_zero(
    piece: Piece, which: Sequence[int], start: np.ndarray, *, foot: bool = False
) -> NDArray[np.float64] | None:
    """A common zero of these guards near start, by least-norm Newton steps down to rounding; None if lost.

    With `foot` each step is measured from start: the limit is a stationary point of the distance to it.
    """
    which, z, kept, best = sorted(which), start, None, np.inf
    try:
        for _ in range(50):
            z, walls, miss = settled(piece, z, which, start)
            if not miss < best and best <= SOLVED:
                break
            if miss < best:
                kept, best = z, miss
            slopes, base = wall_gradients(piece, walls, which), start if foot else z
            z = base + np.linalg.lstsq(slopes, slopes @ (z - base) - walls.values[which], rcond=None)[0]
    except LOST:
        pass
    return kept if best <= SOLVED else None
