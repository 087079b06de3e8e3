"""First and second derivatives of one node of a network at one point, its pieces chosen.

A node function may carry closed forms, attached by the decorator `closed_form` as plain attributes; nothing is
recognized by class:

    fun.derivatives(values, output, pieces, **keywords) -> Local
    fun.magnitude(values, sizes, **keywords)            -> size of the terms of the output, or an upper bound of it
    fun.guards(values, sizes, **keywords)               -> (guards, scales) of a piecewise function, else absent
    fun.broadcasts                                      True if `derivatives` serves many nodes at once: every array
                                                        with one more axis (nodes) in front, directions (R, nodes, ...)

`values` are the arrays of the parents, `pieces` None where no guard ties (each piece is then read off the values), else
the `Branch` of each piecewise operation of the function, in order of execution. `functools.partial(fun, **keywords)`
carries what fun carries. Any other autograd function gets the same products from its recording (`local`).

Arrays of directions have one more axis, in front: t (R, *shape) are R directions at once, so that a matrix is
propagated as one array and products run at the speed of BLAS.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from . import graph as graphs
from . import selections

if TYPE_CHECKING:
    from .selections import Branch

Pair = tuple[int, int]
DENSE = 1 << 22  # numbers of a matrix of one node that is formed rather than multiplied with


@dataclass(frozen=True, eq=False)
class Factor:
    """A parameter theta, reshaped (G, C, Q), that enters its node linearly, channel by channel and sample by sample:

        y[n, l, g, c] = sum_q theta[g, c, q] B[n, l, g, q] + (terms without theta).

    basis: B (N, L, G, Q), each axis of its full length. view: (R, *out) -> (R, N, L, G, C), a transposition and
    reshape of directions in the node. tangents[j]: t (R, *parent_j) -> (R, N, L, G, Q), the derivative of B in parent
    j along t; absent where it is zero. A dense layer has L = G = 1 and B = a; a convolution has the patches of a.
    """

    basis: np.ndarray
    view: Callable[..., Any]
    tangents: Mapping[int, Callable[..., Any]] = field(default_factory=dict)


def _straight(i, j, delta, t):
    raise AssertionError("no pair is curved")


@dataclass(frozen=True, eq=False)
class Local:
    """y = g(p_0, ..., p_m) near one point.

    push(i, t): (R, *p_i) -> (R, *y), D_i t. pull(i, c): (R, *y) -> (R, *p_i), D_i^T c.
    second(i, j, delta, t): delta (*y), t (R, *p_j) -> (R, *p_i), sum_o delta_o d2 y_o / dp_i dp_j t, called for the
    pairs in `curved` only; outside them the second derivative is identically zero.
    samplewise: the parents i for which y[n] depends on p_i through p_i[n] alone (axis 0); of a scalar loss, those i
    for which it is a sum over n of functions of p_i[n] (and of the other samplewise parents at n).
    factors: i -> `Factor` of the parents that have one. constant: y depends on no parent.
    matrices: i -> M (b, a) of the parents with y[..., :] = M p_i[..., :] + terms without p_i, the same for all samples.
    """

    push: Callable[[int, Any], np.ndarray]
    pull: Callable[[int, Any], np.ndarray]
    second: Callable[[int, int, Any, Any], np.ndarray] = _straight
    curved: Iterable[Pair] = ()
    samplewise: Collection[int] = ()
    factors: Mapping[int, Factor] = field(default_factory=dict)
    constant: bool = False
    matrices: Mapping[int, np.ndarray] = field(default_factory=dict)


def closed_form(
    derivatives: Callable[..., Any],
    *,
    magnitude: Callable[..., Any] | None = None,
    guards: Callable[..., Any] | None = None,
    broadcasts: bool = False,
) -> Callable[..., Any]:
    """Decorator: attach the closed forms of the module's docstring to a node function."""

    def attach(fun):
        fun.closed_form_of = fun  # a wrapper that copies attributes does not copy the function
        fun.derivatives = derivatives
        if broadcasts:
            fun.broadcasts = True
        if magnitude is not None:
            fun.magnitude = magnitude
        if guards is not None:
            fun.guards = guards
        return fun

    return attach


def carried(fun: Callable[..., Any], what: str) -> Callable[..., Any] | None:
    """The closed form `what` of fun, with the keywords of a partial filled in; None where there is none."""
    keywords = {}
    while isinstance(fun, partial) and not fun.args:
        keywords = {**fun.keywords, **keywords}
        fun = fun.func
    found = getattr(fun, what, None) if getattr(fun, "closed_form_of", None) is fun else None
    return partial(found, **keywords) if found is not None and keywords else found


def broadcasts(fun: Callable[..., Any]) -> bool:
    """Whether the closed form of fun serves many nodes at once."""
    while isinstance(fun, partial) and not fun.args:
        fun = fun.func
    return getattr(fun, "closed_form_of", None) is fun and getattr(fun, "broadcasts", False)


def local(
    fun: Callable[..., Any],
    values: tuple[np.ndarray, ...],
    output: Any,
    pieces: "Sequence[Branch] | None" = None,
    still: Collection[Any] = (),
) -> Local:
    """The derivatives of fun at the parents' `values`: its closed form, or what its recording gives.

    pieces: None where none of its guards ties, else one `Branch` for each piecewise operation in order of execution.
    still: the parents that no input or parameter moves; operations on them alone are no part of the network's
    recording, whose pieces these are.
    Raises what `from_function` raises for a function that cannot be recorded.
    """
    derivatives = carried(fun, "derivatives")
    if derivatives is not None:
        return derivatives(values, output, pieces)
    return _recorded(fun, values, np.shape(output), pieces, still)


def _recorded(fun, values, shape, pieces, still):
    """Products by one reverse pass (or two) a direction; the matrix itself once that is cheaper."""
    shapes = [np.shape(v) for v in values]
    ends = np.cumsum([0, *(int(np.prod(s)) for s in shapes)])
    spans = [slice(a, b) for a, b in pairwise(ends)]
    x = np.concatenate([np.ravel(v) for v in values])
    n, size = len(x), int(np.prod(shape))
    g = graphs.from_function(lambda y: fun(*(y[span].reshape(s) for span, s in zip(spans, shapes, strict=True))), x)
    out = g.program.output
    if out is None:
        zero = (lambda i, t: np.zeros((len(t), *shape))), (lambda i, c: np.zeros((len(c), *shapes[i])))
        return Local(*zero, constant=True)
    chosen, moved = iter(pieces or ()), _moved(g, [span for i, span in enumerate(spans) if i in still])

    def branch_of(i, op, args, sizes):
        if pieces is not None and op.name in selections.PIECEWISE and moved[i]:
            return next(chosen)
        return selections.natural_branch(op.name, args, op.kwargs)

    tape = graphs.run(g, x, branch_of)

    def pulled(c):
        return graphs.pullback(g, tape, {out: c.reshape(shape)})[0]

    matrices: dict[str, np.ndarray] = {}
    latest: dict[str, Any] = {"delta": None, "j": None, "t": None, "whole": None}

    def jacobian(columns):
        """The whole Jacobian where so many columns make it worth while, else None."""
        if "J" not in matrices and 2 * columns >= min(n, size) and n * size <= DENSE:
            rows = [pulled(e) for e in np.eye(size)] if size <= n else [pushed(e) for e in np.eye(n)]
            matrices["J"] = np.array(rows) if size <= n else np.array(rows).T
        return matrices.get("J")

    def pushed(t):
        return graphs.jacobian_product(g, tape, t)

    def push(i, t):
        flat, J = t.reshape(len(t), -1), jacobian(len(t))
        found = (
            np.array([pushed(row) for row in _embedded(flat, spans[i], n)]) if J is None else flat @ J[:, spans[i]].T
        )
        return found.reshape(len(t), *shape)

    def pull(i, c):
        flat, J = c.reshape(len(c), -1), jacobian(len(c))
        found = np.array([pulled(row)[spans[i]] for row in flat]) if J is None else flat @ J[:, spans[i]]
        return found.reshape(len(c), *shapes[i])

    def second(i, j, delta, t):
        if latest["delta"] is not delta:
            matrices.pop("H", None)
            latest.update(delta=delta, t=None)
        flat = t.reshape(len(t), -1)
        if "H" not in matrices and 2 * len(t) >= n and n * n <= DENSE:
            matrices["H"] = graphs.hessian(g, x, tape.branches, {out: delta})
        if "H" in matrices:
            return (flat @ matrices["H"][spans[j], spans[i]]).reshape(len(t), *shapes[i])
        if latest["j"] != j or latest["t"] is not t:
            rows = _embedded(flat, spans[j], n)
            found = [graphs.hessian_product(g, x, tape.branches, {out: delta}, row) for row in rows]
            latest.update(j=j, t=t, whole=np.array(found))
        whole = latest["whole"]
        return whole[:, spans[i]].reshape(len(t), *shapes[i])

    every = range(len(values)) if g.degrees[out] > 1 else ()
    return Local(push, pull, second, tuple((i, j) for j in every for i in every))  # j outermost: one product for all i


def _moved(g, still):
    """Which positions of the program depend on more than the spans `still` of x."""
    moved = [True]
    for op in g.program.operations:
        if 0 in op.parents:  # x is read through its spans
            moved.append(not any(op.name == "getitem" and argument in still for argument in op.args[1:]))
        else:
            moved.append(any(moved[parent] for parent in op.parents))
    return moved


def _embedded(rows, span, n):
    whole = np.zeros((len(rows), n))
    whole[:, span] = rows
    return whole
