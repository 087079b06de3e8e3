"""Piecewise operations: their pieces as linear maps, how each one decides, and where it cannot.

Every output entry of maximum, minimum, abs, max, min, sort or where is a signed copy of one input entry, and at a kink
only the choice of that entry changes. A `Branch` is one such choice, written as index arrays: a chosen piece is a
linear map whose adjoint is exact and can be differentiated again, so no derivative is ever taken through a kink.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, defvjp_argnum, primitive
from autograd.numpy.numpy_boxes import ArrayBox
from numpy.typing import ArrayLike, NDArray

PIECEWISE = frozenset({"abs", "max", "maximum", "min", "minimum", "sort", "where"})
SELECTIONS = PIECEWISE | {"mask"}  # a mask chooses by a constant, so it has pieces and no kinks


# ---------------------------------------------------------------- continuous selection by a guard


@primitive
def where_primitive(guard: ArrayLike, a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """`where` without its check; what the recorder meets."""
    return np.where(np.asarray(guard) >= 0, a, b)


def _fit(g, like):
    """Sum g over the axes along which `like` was broadcast."""
    shape = np.shape(like)
    while anp.ndim(g) > len(shape):
        g = anp.sum(g, axis=0)
    for axis, length in enumerate(shape):
        if length == 1 and anp.shape(g)[axis] != 1:
            g = anp.sum(g, axis=axis, keepdims=True)
    return g


def _where_vjp(positive, like):
    return lambda ans, guard, a, b: lambda g: _fit(anp.where((np.asarray(guard) >= 0) == positive, g, 0.0), like(a, b))


defvjp(
    where_primitive,
    lambda ans, guard, a, b: lambda g: anp.zeros(np.shape(guard)),
    _where_vjp(True, lambda a, b: a),
    _where_vjp(False, lambda a, b: b),
)


def where(guard: ArrayLike, a: ArrayLike, b: ArrayLike) -> Any:
    """a where guard >= 0, b where guard < 0, elementwise with broadcasting; traceable.

    A continuous selection: a and b must agree wherever guard is zero. That is checked where it can be, on concrete
    values here and, when a recorded graph is studied at a point with guard 0, at that point and to first order along
    the guard's zero set; a disagreement is a ValueError. Kinks of this operation have the guard `guard`.
    """
    concrete = [v for v in (guard, a, b) if not isinstance(v, ArrayBox)]
    if len(concrete) == 3:
        g, first, second = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in concrete))
        require_agreement(first[g == 0], second[g == 0], 1e-9 * (np.abs(first) + np.abs(second))[g == 0])
    return where_primitive(guard, a, b)


def require_agreement(a: np.ndarray, b: np.ndarray, slack: np.ndarray) -> None:
    """ValueError unless |a - b| <= slack: the two sides of a `where` must meet on its guard's zero set."""
    off = np.abs(a - b) > slack
    if np.any(off):
        raise ValueError(
            f"where: a = {a[off].flat[0]:.6g} and b = {b[off].flat[0]:.6g} differ where guard is 0; "
            "a selection must be continuous, so choose a guard that vanishes only where a equals b"
        )


# ---------------------------------------------------------------- chosen pieces as linear maps


@dataclass(frozen=True, eq=False)
class Branch:
    """One selection of a piecewise operation: output[out[k]] += coef[k] * argument_k[entry[k]], flat indices.

    `wires[k] = (out, entry, coef)` for each argument k; `shapes[k]` the argument's shape; `shape` the output's.
    """

    shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    wires: tuple[Any, ...]


@primitive
def _take(a, branch, k):
    out, entry, coef = branch.wires[k]
    result = np.zeros(prod(branch.shape))
    result[out] = coef * np.ravel(a)[entry]
    return result.reshape(branch.shape)


@primitive
def _put(g, branch, k):
    out, entry, coef = branch.wires[k]
    shape = branch.shapes[k]
    total = np.bincount(entry, coef * np.ravel(g)[out], minlength=prod(shape))
    return total.astype(float, copy=False).reshape(shape)  # of no wires bincount makes integers


defvjp(_take, lambda ans, a, branch, k: lambda g: _put(g, branch, k), argnums=(0,))
defvjp(_put, lambda ans, g, branch, k: lambda a: _take(a, branch, k), argnums=(0,))


def joined(branch: Branch, args: Any, *, unsigned: bool = False) -> NDArray[np.float64]:
    """The branch applied to plain arrays; unsigned: with the absolute values of its coefficients."""
    result = np.zeros(prod(branch.shape))
    for a, (out, entry, coef) in zip(args, branch.wires, strict=True):
        if out.size:
            values = np.ravel(a)[entry]
            result[out] = values if unsigned else coef * values
    return result.reshape(branch.shape)


@primitive
def _join(branch, *args):
    return joined(branch, args)


defvjp_argnum(_join, lambda argnum, ans, args, kwargs: lambda g: _put(g, args[0], argnum - 1))


def chosen(branch: Branch, args: Any) -> NDArray[Any]:
    """The branch applied to its arguments; differentiable to any order."""
    return _join(branch, *args)


def pull(branch: Branch, k: int, g: NDArray[Any] | float) -> NDArray[Any]:
    """The branch's adjoint into argument k; differentiable to any order."""
    return _put(g, branch, k)


@primitive
def place(base: float | np.ndarray, values: np.ndarray, entries: np.ndarray) -> NDArray[np.float64]:
    """base with `values` written at the flat `entries`, where base is zero; the injection of kink outputs."""
    result = np.array(base)
    result.reshape(-1)[entries] = values
    return result


defvjp(
    place,
    lambda ans, base, values, entries: lambda g: place(g, anp.zeros(len(entries)), entries),
    lambda ans, base, values, entries: lambda g: anp.reshape(g, (-1,))[entries],
    argnums=(0, 1),
)


# ---------------------------------------------------------------- how each piecewise operation decides
#
# A tie is a place where more than one piece meets at x, with its letters: `letters` of them, `options(prefix)` says
# what the next letters may be. Constraints and outputs are terms (argument, flat entry, coefficient).


@dataclass(frozen=True, eq=False)
class TwoWayTies:
    """K entries with two pieces each, one letter an entry: `plus` where the guard is positive, else `minus`.

    guard_terms: the guard of entry k is the sum of coef[k] * argument[entry[k]] over them.
    """

    outs: np.ndarray
    guard_terms: tuple[Any, ...]
    plus: tuple[Any, ...]
    minus: tuple[Any, ...]
    guards: np.ndarray
    scales: np.ndarray

    @property
    def letters(self) -> int:
        return len(self.outs)

    @property
    def entries(self) -> list[tuple[int, str]]:
        return [(int(out), "") for out in self.outs]

    def letters_of(self, flats: Sequence[np.ndarray]) -> np.ndarray:
        """The signs at a point where the arguments have these flat values."""
        return np.sign(_combine(self.guard_terms, flats)).astype(int)

    def constraints(self, signs: np.ndarray) -> tuple[tuple[tuple[Any, ...], ...], np.ndarray]:
        """(terms, orientation): on the piece of these signs, orientation * (the terms' sum) >= 0, 0 where mute."""
        return self.guard_terms, np.asarray(signs)

    def pieces(self, signs: ArrayLike) -> Iterator[tuple[np.ndarray, int, np.ndarray, NDArray[np.float64]]]:
        """Wires (out, argument, entry, coef) of the pieces that the signs choose."""
        up = np.asarray(signs) >= 0
        for side, mask in ((self.plus, up), (self.minus, ~up)):
            argument, entry, coef = side
            if mask.any():
                yield self.outs[mask], argument, entry[mask], coef[mask]


@dataclass(frozen=True, eq=False)
class ExtremumTie:
    """k > 2 tied entries of a max (side 1) or min (side -1): k letters, the winner is `+`, ties that persist `0`."""

    out: int
    members: np.ndarray
    side: int
    guards: np.ndarray
    scales: np.ndarray

    @property
    def letters(self) -> int:
        return len(self.members)

    @property
    def entries(self) -> list[tuple[int, str]]:
        return [(self.out, f"#{int(m)}") for m in self.members]

    def letters_of(self, flats: Sequence[np.ndarray]) -> np.ndarray:
        """The signs at a point where the argument has these flat values."""
        values = self.side * flats[0][self.members]
        best = values == values.max()
        return np.where(best, 1 if best.sum() == 1 else 0, -1)

    def winner(self, signs: np.ndarray) -> int:
        return int(np.argmax(np.asarray(signs)))

    def constraints(self, signs: np.ndarray) -> tuple[tuple[tuple[Any, ...], tuple[Any, ...]], np.ndarray]:
        w = self.winner(signs)
        others = np.delete(self.members, w)
        one = self.side * np.ones(len(others))
        terms = (0, np.repeat(self.members[w], len(others)), one), (0, others, -one)
        return terms, (np.delete(np.asarray(signs), w) < 0).astype(int)

    def pieces(self, signs: np.ndarray) -> Iterator[tuple[np.ndarray, int, np.ndarray, NDArray[np.float64]]]:
        yield np.array([self.out]), 0, self.members[[self.winner(signs)]], np.ones(1)


@dataclass(frozen=True, eq=False)
class SortTie:
    """A run of m tied entries of a sort: one letter a compare-exchange of the bubble network, `+` exchanges."""

    outs: np.ndarray
    members: np.ndarray
    guards: np.ndarray
    scales: np.ndarray

    @property
    def letters(self) -> int:
        return len(self.comparators)

    @property
    def comparators(self) -> list[tuple[int, int]]:
        m = len(self.members)
        return [(i, i + 1) for sweep in range(m - 1) for i in range(m - 1 - sweep)]

    @property
    def entries(self) -> list[tuple[int, str]]:
        return [(int(self.outs[i]), f"<>{int(self.outs[j])}#{c}") for c, (i, j) in enumerate(self.comparators)]

    def letters_of(self, flats: Sequence[np.ndarray]) -> np.ndarray:
        """The signs at a point where the argument has these flat values."""
        values = flats[0][self.members]
        return np.array(self.signs(lambda a, b: np.sign(values[a] - values[b])), dtype=int)

    def order(self, signs: np.ndarray) -> list[int]:
        """wire -> member after the exchanges that the signs ask for (a prefix of the letters is enough)."""
        wires = list(range(len(self.members)))
        for sign, (i, j) in zip(signs, self.comparators, strict=False):
            if sign > 0:
                wires[i], wires[j] = wires[j], wires[i]
        return wires

    def signs(self, compare: Callable[..., Any]) -> list[int]:
        """The letters when compare(a, b) is the sign of member a minus member b."""
        wires, signs = list(range(len(self.members))), []
        for i, j in self.comparators:
            signs.append(int(compare(wires[i], wires[j])))
            if signs[-1] > 0:
                wires[i], wires[j] = wires[j], wires[i]
        return signs

    def constraints(self, signs: np.ndarray) -> tuple[tuple[tuple[Any, ...], tuple[Any, ...]], np.ndarray]:
        """One row a comparator: the two members it met, in the order it met them."""
        wires, first, second = list(range(len(self.members))), [], []
        for sign, (i, j) in zip(signs, self.comparators, strict=False):
            first.append(self.members[wires[i]])
            second.append(self.members[wires[j]])
            if sign > 0:
                wires[i], wires[j] = wires[j], wires[i]
        one = np.ones(len(first))
        return ((0, np.array(first, int), one), (0, np.array(second, int), -one)), np.asarray(signs)

    def pieces(self, signs: np.ndarray) -> Iterator[tuple[np.ndarray, int, np.ndarray, NDArray[np.float64]]]:
        yield self.outs, 0, self.members[self.order(signs)], np.ones(len(self.outs))


@lru_cache(maxsize=256)
def _spread(shape, out_shape):
    """Flat entries of an argument of this shape, broadcast over the output."""
    flat = np.arange(prod(shape)).reshape(shape)
    spread = np.broadcast_to(flat, out_shape).ravel()
    spread.flags.writeable = False
    return spread


@lru_cache(maxsize=256)
def _groups(shape, axes):
    """(groups, members): flat entries that a reduction over `axes` compares, groups in C order of the output."""
    flat = np.arange(prod(shape)).reshape(shape)
    kept = [k for k in range(len(shape)) if k not in axes]
    groups = np.transpose(flat, [*kept, *axes]).reshape(int(np.prod([shape[k] for k in kept])), -1)
    groups.flags.writeable = False
    return groups


@lru_cache(maxsize=256)
def _two_way(name, shapes):
    """(guard terms, plus, minus) over all output entries of a two-way operation, and the output's shape."""
    shape = np.broadcast_shapes(*shapes)
    entries = [_spread(s, shape) for s in shapes]
    one = np.ones(entries[0].size)
    one.flags.writeable = False
    if name == "abs":
        return ((0, entries[0], one),), (0, entries[0], one), (0, entries[0], -one), shape
    if name == "where":
        return ((0, entries[0], one),), (1, entries[1], one), (2, entries[2], one), shape
    first, second = (0, entries[0], one), (1, entries[1], one)
    terms = (first, (1, entries[1], -one))
    return (terms, first, second, shape) if name == "maximum" else (terms, second, first, shape)


def _combine(terms, flats):
    return _sum([coef * flats[argument][entry] for argument, entry, coef in terms])


def _sum(arrays):
    first, *others = arrays
    for array in others:
        first = first + array
    return first


def _flat(args):
    return [np.ravel(np.asarray(a, dtype=float)) for a in args]


_NO_PLACE, _NO_NUMBER = np.empty(0, dtype=np.intp), np.empty(0)


def assemble(
    shape: Sequence[int] | tuple[Any, ...],
    shapes: Sequence[tuple[Any, ...]] | tuple[tuple[Any, ...], ...],
    pieces: Sequence[tuple[np.ndarray, int, np.ndarray, np.ndarray]],
) -> Branch:
    """The Branch made of wires (outs, argument, entries, coefs)."""
    wires = [[] for _ in shapes]
    for outs, argument, entries, coefs in pieces:
        if len(outs):
            wires[argument].append((outs, entries, coefs))
    return Branch(tuple(shape), tuple(map(tuple, shapes)), tuple(map(_together, wires)))


def _together(pieces):
    if not pieces:
        return _NO_PLACE, _NO_PLACE, _NO_NUMBER
    out, entry, coef = pieces[0] if len(pieces) == 1 else map(np.concatenate, zip(*pieces, strict=True))
    return np.asarray(out, np.intp), np.asarray(entry, np.intp), np.asarray(coef, float)


def extend(branch: Branch, pieces: Sequence[tuple[np.ndarray, int, np.ndarray, np.ndarray]]) -> Branch:
    """The branch with the pieces of resolved ties added."""
    standing = [(out, k, entry, coef) for k, (out, entry, coef) in enumerate(branch.wires)]
    return assemble(branch.shape, branch.shapes, [*standing, *pieces])


def _mask_branch(args):
    condition, a, b = args
    shape = np.broadcast_shapes(*(np.shape(v) for v in args))
    chosen_first = np.broadcast_to(np.asarray(condition, dtype=bool), shape).ravel()
    outs = np.arange(chosen_first.size)
    pieces = [
        (outs[side], k, _spread(np.shape(v), shape)[side], np.ones(int(side.sum())))
        for k, v, side in ((1, a, chosen_first), (2, b, ~chosen_first))
    ]
    return assemble(shape, [np.shape(v) for v in args], pieces)


def natural_branch(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Branch:
    """The piece whose guards have their signs at this very point (a tie goes to the first)."""
    return decide(name, args, kwargs, None, 0.0)[0]


NATURAL = {  # its value at plain arrays
    "abs": np.abs,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": lambda guard, a, b: np.where(np.asarray(guard) >= 0, a, b),
    "mask": np.where,
    "max": lambda a, axes, keepdims: np.max(a, axis=axes, keepdims=keepdims),
    "min": lambda a, axes, keepdims: np.min(a, axis=axes, keepdims=keepdims),
    "sort": np.sort,
}


def decide(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], magnitudes: Sequence[Any] | None, tol: Any
) -> tuple[Branch, list[Any], float]:
    """(Branch of everything decided, ties, smallest |guard| / scale among the decided).

    A guard is tied iff |guard| <= tol * scale, scale the same expression in absolute values of `magnitudes`; with
    magnitudes None nothing is tied.
    """
    if name == "mask":
        return _mask_branch(args), [], np.inf
    flats = _flat(args)
    sizes = None if magnitudes is None else _flat(magnitudes)
    if name in ("max", "min"):
        return _decide_extremum(name, args, kwargs, flats[0], None if sizes is None else sizes[0], tol)
    if name == "sort":
        return _decide_sort(args, kwargs, flats[0], None if sizes is None else sizes[0], tol)
    shapes = tuple(map(np.shape, args))
    terms, plus, minus, shape = _two_way(name, shapes)
    guard = _combine(terms, flats)
    up, outs, ties, nearest, settled = guard >= 0, np.arange(guard.size), [], np.inf, True
    if sizes is not None:
        scale, distance = _sum([sizes[argument][entry] for argument, entry, _ in terms]), np.abs(guard)
        tied = (distance <= tol * scale) & np.isfinite(guard)
        if not tied.all():
            nearest = _nearest(distance, scale, ~tied)
        if tied.any():
            settled = ~tied
            if settled.any():
                picked = [(k, e[tied], c[tied]) for k, e, c in (*terms, plus, minus)]
                ties = [TwoWayTies(outs[tied], tuple(picked[:-2]), picked[-2], picked[-1], guard[tied], scale[tied])]
            else:
                ties = [TwoWayTies(outs, terms, plus, minus, guard, scale)]
                if name != "where":
                    return assemble(shape, shapes, []), ties, nearest
            if name == "where":
                a, b = plus[1][tied], minus[1][tied]
                require_agreement(flats[1][a], flats[2][b], tol * (sizes[1][a] + sizes[2][b]))
    pieces = []
    for (argument, entry, coef), side in ((plus, settled & up), (minus, settled & ~up)):
        if side.all():
            pieces.append((outs, argument, entry, coef))
        elif side.any():
            pieces.append((outs[side], argument, entry[side], coef[side]))
    return assemble(shape, shapes, pieces), ties, nearest


def _nearest(distance, scale, settled):
    with np.errstate(all="ignore"):
        ratio = (distance / scale)[settled & (scale > 0) & np.isfinite(distance)]
    return float(ratio.min(initial=np.inf))


def _decide_extremum(name, args, kwargs, flat, sizes, tol):
    side = 1 if name == "max" else -1
    shape_in = np.shape(args[0])
    groups = _groups(shape_in, kwargs["axes"])
    kept = [n for k, n in enumerate(shape_in) if k not in kwargs["axes"]]
    shape = [1 if k in kwargs["axes"] else n for k, n in enumerate(shape_in)] if kwargs["keepdims"] else kept
    values = side * flat[groups]
    best = np.argmax(values, axis=1)
    rows, outs = np.arange(len(groups)), np.arange(len(groups))
    ties, nearest, settled = [], np.inf, np.ones(len(groups), dtype=bool)
    if sizes is not None and groups.shape[1] > 1:
        gap = values[rows, best][:, None] - values
        scale = sizes[groups] + sizes[groups[rows, best]][:, None]
        tied = gap <= tol * scale
        nearest = _nearest(gap, scale, ~tied)
        settled = tied.sum(axis=1) == 1
        two = []
        for out in np.flatnonzero(~settled):
            members = groups[out, tied[out]]
            if len(members) == 2:
                two.append((out, *members))
                continue
            ties += _two_member_ties(two, side, flat, sizes)
            two = []
            own = flat[members] * side
            others = np.array([np.max(np.delete(own, k)) for k in range(len(own))])
            ties.append(ExtremumTie(int(out), members, side, own - others, scale[out, tied[out]]))
        ties += _two_member_ties(two, side, flat, sizes)
    pieces = [(outs[settled], 0, groups[rows, best][settled], np.ones(int(settled.sum())))]
    return assemble(shape, [shape_in], pieces), ties, nearest


def _two_member_ties(two, side, flat, sizes):
    if not two:
        return []
    outs, first, second = (np.array(column) for column in zip(*two, strict=True))
    one = np.ones(len(outs))
    plus, minus = ((0, first, one), (0, second, one))[::side]
    terms = ((0, first, one), (0, second, -one))
    return [TwoWayTies(outs, terms, plus, minus, flat[first] - flat[second], sizes[first] + sizes[second])]


def _decide_sort(args, kwargs, flat, sizes, tol):
    shape = np.shape(args[0])
    groups = _groups(shape, (kwargs["axis"],))  # rows along the axis; outputs have the same places
    pieces, ties, nearest = [], [], np.inf
    for row in groups:
        order = np.argsort(flat[row], kind="stable")
        ranked = row[order]
        start = 0
        if sizes is None:
            pieces.append((row, 0, ranked, np.ones(len(row))))
            continue
        gap = np.diff(flat[ranked])
        scale = sizes[ranked[1:]] + sizes[ranked[:-1]]
        joined = gap <= tol * scale
        nearest = min(nearest, _nearest(gap, scale, ~joined))
        for stop in [*(np.flatnonzero(~joined) + 1), len(row)]:
            run = np.arange(start, stop)
            if len(run) == 1:
                pieces.append((row[run], 0, ranked[run], np.ones(1)))
            elif len(run):
                ties.append(_sort_tie(row[run], np.sort(ranked[run]), flat, sizes))
            start = stop
    return assemble(shape, [shape], pieces), ties, nearest


def _sort_tie(outs, members, flat, sizes):
    guards, scales = [], []

    def compare(a, b):
        guards.append(flat[members[a]] - flat[members[b]])
        scales.append(sizes[members[a]] + sizes[members[b]])
        return np.sign(guards[-1])

    SortTie(outs, members, np.empty(0), np.empty(0)).signs(compare)
    return SortTie(outs, members, np.array(guards), np.array(scales))
