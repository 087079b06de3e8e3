"""The passes of automatic differentiation over a recorded `Graph`, each a loop, with what it costs.

u_1, ..., u_m are the operations of `graph.program` in order of execution, u_0 = x. Section 5.5 of Kornilov's seminar:

    forward values      u_i = op_i(parents of u_i)
    forward mode        du_i = sum over the parents j of (du_i/du_j) du_j              one column of J
    backward mode       c_j = sum over the children i of c_i (du_i/du_j), c_m given    one row of J
    Hessian-vector      the backward mode, differentiated along the forward mode

The seminar sums the backward mode over the "descendants" of a vertex; it must be its children, the operations that
read it. Its forward mode "stores one layer only"; it must keep what later operations still read, which `Cost` counts.
Its backward mode "must store all u_i"; `Cost` counts that too, and checkpointing, not done here, would store fewer.

Local products are autograd's closed forms of single operations; the loops are ours, and no derivative is taken through
a kink: at a tie the piece must be named.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import autograd
import numpy as np
from autograd.core import add_outgrads, primitive_jvps, primitive_vjps, vspace
from autograd.numpy import numpy_wrapper as anp
from numpy.typing import ArrayLike

from . import primitives, selections
from .graph import Graph, Tape, from_function, point, run
from .primitives import UnsupportedPrimitive, grad

if TYPE_CHECKING:
    from .lowering import Operation

TOL = 1e-9


class TiedPieces(ValueError):
    """A derivative was asked for at a kink, where more than one piece meets, without naming the piece."""


@dataclass(frozen=True)
class Cost:
    """Multiplications of a Jacobian (p, n), and numbers kept while one column or row is made.

    partials: the entries of the local Jacobians of all operations, structural zeros left out: what one product by J or
    J^T multiplies with. forward = n partials, backward = p partials; so forward is cheaper iff n < p. That compares
    these two orders only: another order of multiplying the local Jacobians can be cheaper than both (for a chain
    R^n -> R -> R^n the outer product of its two factors takes n^2, either mode 2 n^2).
    kept_forward: the largest number of values that later operations still read, with their tangents. kept_backward: all
    values.
    """

    partials: int
    forward: int
    backward: int
    kept_forward: int
    kept_backward: int


@dataclass(frozen=True, eq=False)
class JacobianPasses:
    """matrix (p, n), p the size of f(x), by n passes of mode "forward" or p of mode "backward".

    multiplications: counted in the loops, operation by operation; cost: what either mode was foreseen to take.
    """

    matrix: np.ndarray
    mode: str
    multiplications: int
    cost: Cost


# ---------------------------------------------------------------- doors


def forward_values(
    f: Callable[..., Any] | Graph, x: ArrayLike, *, branches: Mapping[int, Any] | None = None, tol: float = TOL
) -> Tape:
    """The forward pass: a `Tape` with values[i] of operation i of the program (values[0] is x).

    f: an autograd.numpy function of one flat array (n,), or a Graph; x (n,). branches: the `Branch` of every piecewise
    operation, as `germ(f, x).branches(signs)` gives them; without, `TiedPieces` where a guard is within tol of its
    scale. Raises what `from_function` raises.
    """
    return _passed(f, x, branches, tol)[1]


def jvp(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    v: ArrayLike,
    *,
    branches: Mapping[int, Any] | None = None,
    tol: float = TOL,
) -> np.ndarray:
    """J v, of the shape of f(x), by one forward pass of tangents; v (n,). As `forward_values`."""
    graph, tape = _passed(f, x, branches, tol)
    return _at_output(graph, _push(graph, tape, _direction(v, (graph.size,), "v"), _Count()))


def vjp(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    c: ArrayLike,
    *,
    branches: Mapping[int, Any] | None = None,
    tol: float = TOL,
) -> np.ndarray:
    """J^T c, (n,), by one backward pass; c of the shape of f(x). As `forward_values`."""
    graph, tape = _passed(f, x, branches, tol)
    return _pull(graph, tape, _direction(c, graph.shape, "c"), _Count())[0]


def hvp(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    v: ArrayLike,
    c: ArrayLike | None = None,
    *,
    branches: Mapping[int, Any] | None = None,
    tol: float = TOL,
) -> np.ndarray:
    """The Hessian of <c, f> times v, (n,), without the Hessian; c may be left out for scalar f. As `forward_values`.

    The backward pass differentiated along v: with tangents du_i, cotangents c_i and their tangents dc_i,

        dc_j = sum over the children i of  dc_i (du_i/du_j) + sum over parents k of i of  c_i (d2u_i / du_j du_k) du_k.

    It is the gradient of <grad f, v> (seminar, 5.5.5), which needs no symmetry; that it is the Hessian times v, and not
    its transpose, does, and f is C^2 on the piece. About three passes, whatever n.
    """
    graph, tape = _passed(f, x, branches, tol)
    if c is None and graph.shape != ():
        raise ValueError(f"f returns an array of shape {graph.shape}; pass c of that shape, for the Hessian of <c, f>")
    c = _direction(1.0 if c is None else c, graph.shape, "c")
    tangents = _push(graph, tape, _direction(v, (graph.size,), "v"), _Count())
    return _pull(graph, tape, c, _Count(), tangents)[1]


def jacobian(
    f: Callable[..., Any] | Graph,
    x: ArrayLike,
    *,
    mode: str = "auto",
    branches: Mapping[int, Any] | None = None,
    tol: float = TOL,
) -> JacobianPasses:
    """The Jacobian (p, n) column by column or row by row; "auto": the mode that `cost` says is cheaper.

    As `forward_values`; ValueError for another mode.
    """
    if mode not in ("auto", "forward", "backward"):
        raise ValueError(f'mode must be "auto", "forward" or "backward"; got {mode!r}')
    graph, tape = _passed(f, x, branches, tol)
    price = _cost(graph, tape)
    if mode == "auto":
        mode = "forward" if price.forward < price.backward else "backward"
    p, n, count = int(np.prod(graph.shape)), graph.size, _Count()
    if mode == "forward":
        columns = [np.ravel(_at_output(graph, _push(graph, tape, e, count))) for e in np.eye(n)]
        matrix = np.stack(columns, axis=1)
    else:
        rows = [_pull(graph, tape, e.reshape(graph.shape), count)[0] for e in np.eye(p)]
        matrix = np.reshape(rows, (p, n))
    return JacobianPasses(matrix, mode, count.multiplications, price)


def cost(
    f: Callable[..., Any] | Graph, x: ArrayLike, *, branches: Mapping[int, Any] | None = None, tol: float = TOL
) -> Cost:
    """What a Jacobian costs by either mode, counted without making it. As `forward_values`."""
    return _cost(*_passed(f, x, branches, tol))


# ---------------------------------------------------------------- the loops


class _Count:
    multiplications = 0


def _passed(f, x, branches, tol) -> tuple[Graph, Tape]:
    graph = from_function(f, x)
    x = point(x, graph.size)
    if not (isinstance(tol, (float, int, np.floating)) and 0 <= tol < 1):
        raise ValueError(f"tol is relative to the scale of a guard, so 0 <= tol < 1; got {tol!r}")
    if graph.output is None:
        return graph, Tape([x], [()], {}, [])

    def decided(i, op, args, magnitudes):
        branch, ties, _ = selections.decide(op.name, args, op.kwargs, magnitudes, tol)
        if ties:
            raise TiedPieces(
                f"{op.source} ties at x: {sum(t.letters for t in ties)} of its guards are within {tol:g} of their "
                "scale; name the piece (branches=germ(f, x).branches(signs)), or use limiting_gradient, which picks one"
            )
        return branch

    with np.errstate(all="ignore"):
        if branches is None:
            return graph, run(graph, x, decided, magnitudes=True)
        return graph, run(graph, x, lambda i, op, args, magnitudes: branches[i])


def _direction(v, shape, name):
    array = np.asarray(v)
    if array.shape != tuple(shape) or array.dtype.kind not in "biuf" or not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite and real, of shape {tuple(shape)}; got {array.dtype} {array.shape}")
    return array.astype(float)


def _at_output(graph, along):
    return np.zeros(graph.shape) if graph.output is None else np.asarray(along[graph.program.output])


def _push(graph, tape, v, count):
    """Tangents of all values along v."""
    along = [v]
    for i, op in enumerate(graph.program.operations, 1):
        count.multiplications += partials(op, tape, i)
        along.append(_local_push(op, tape, i, [along[p] for p in op.parents]))
    return along


def _pull(graph, tape, c, count, along=None):
    """The gradient of <c, f> and, where tangents of all values are given, its derivative along them."""
    if graph.output is None:
        return np.zeros(graph.size), np.zeros(graph.size)
    first: dict[Any, Any] = {graph.program.output: (c, False)}  # (cotangent, may it be added to in place)
    second: dict[Any, Any] = {}
    for i in range(len(graph.program.operations), 0, -1):
        op = graph.program.operations[i - 1]
        if i in first:
            g = first.pop(i)[0]
            count.multiplications += partials(op, tape, i)
            _add(first, op.parents, _local_pull(op, tape, i, g))
            if along is not None and not _linear(op):
                _add(second, op.parents, _local_curvature(op, tape, i, g, [along[p] for p in op.parents]))
        if i in second:
            _add(second, op.parents, _local_pull(op, tape, i, second.pop(i)[0]))
    return tuple(np.asarray(part[0][0]) if 0 in part else np.zeros(graph.size) for part in (first, second))


def _add(pending, parents, parts):
    for parent, part in zip(parents, parts, strict=True):
        pending[parent] = add_outgrads(pending.get(parent), part)


# ---------------------------------------------------------------- one operation


def _entry(op):
    return primitives.named(op.name)


def _linear(op):
    return op.name in selections.SELECTIONS or _entry(op).kind in ("linear", "signed linear")


def _local_pull(op, tape, i, g):
    if op.name in selections.SELECTIONS:
        return [selections.pull(tape.branches[i], k, g) for k in op.argnums]
    try:
        return list(primitive_vjps[_entry(op).call](op.argnums, tape.values[i], tape.arguments[i], op.kwargs)(g))
    except (TypeError, ValueError, NotImplementedError, AttributeError, AssertionError) as error:
        raise UnsupportedPrimitive(
            f"{op.source}: autograd cannot differentiate this form of it ({error}); write it another way"
        ) from error


def _local_push(op, tape, i, inputs):
    if op.name in selections.SELECTIONS:
        args = [np.zeros(np.shape(a)) for a in tape.arguments[i]]
        for argnum, tangent in zip(op.argnums, inputs, strict=True):
            args[argnum] = tangent
        return selections.chosen(tape.branches[i], args)
    forward = primitive_jvps.get(_entry(op).call)
    if forward is not None:
        return forward(op.argnums, inputs, tape.values[i], tape.arguments[i], op.kwargs)
    # the adjoint of the backward product, which is linear in its cotangent
    total = None
    for k, tangent in enumerate(inputs):  # one traced argument at a time
        adjoint = autograd.make_vjp(lambda g, k=k: _local_pull(op, tape, i, g)[k])
        part = adjoint(vspace(tape.values[i]).zeros())[0](tangent)
        total = add_outgrads(total, part)
    return total[0] if total else None


def _local_curvature(op, tape, i, g, inputs):
    """The gradient, in the traced arguments, of <g, J t> = sum over them of <pullback of g, t>."""
    entry = _entry(op)

    def slope(traced):
        args = list(tape.arguments[i])
        for argnum, value in zip(op.argnums, traced, strict=True):
            args[argnum] = value
        pulled = primitive_vjps[entry.call](op.argnums, entry.call(*args, **op.kwargs), tuple(args), op.kwargs)(g)
        total = 0.0
        for part, tangent, value in zip(pulled, inputs, traced, strict=True):
            total = total + anp.sum(part * tangent) + 0.0 * anp.sum(value)
        return total

    return grad(slope)(tuple(tape.arguments[i][k] for k in op.argnums))


# ---------------------------------------------------------------- counting


def partials(op: "Operation", tape: Tape, i: int) -> int:
    """Entries of the Jacobians of operation i in its traced arguments, structural zeros left out.

    Structure is that of the operation and the shapes: a constant that happens to be 0 counts, an entry that an output
    does not read does not.
    """
    args, value = tape.arguments[i], tape.values[i]
    if op.name in selections.SELECTIONS:
        return sum(len(tape.branches[i].wires[k][0]) for k in op.argnums)
    entry = _entry(op)
    if entry.kind in ("elementwise", "signed linear"):
        return len(op.argnums) * np.size(value)
    if entry.kind == "smooth" or entry.name == "mean":
        return sum(_dense(entry.name, np.shape(args[k]), _size(value), k) for k in op.argnums)
    total = 0
    for k in op.argnums:
        ones, zeros = list(args), list(args)
        if entry.kind == "multilinear":
            ones = [np.ones_like(a) if isinstance(a, (float, np.ndarray, np.floating)) else a for a in args]
            zeros = list(ones)
        ones[k], zeros[k] = _filled(args[k], 1.0), _filled(args[k], 0.0)
        total += round(_total(entry.raw(*ones, **op.kwargs)) - _total(entry.raw(*zeros, **op.kwargs)))
    return total


def _dense(name, shape, outputs, k):
    """Entries of the Jacobian of an operation that mixes: all, except between the members of a stack."""
    size = int(np.prod(shape))
    if name in ("mean", "norm", "var", "std", "logsumexp", "det", "slogdet"):
        return size  # each input enters one output; the sign of slogdet is constant
    if name == "cross":
        return 2 * outputs
    if name in ("inv", "pinv", "cholesky"):
        return outputs * shape[-1] * shape[-2]
    if name == "solve":
        return outputs * (shape[-1] * shape[-2] if k == 0 else _rows(shape))
    return outputs * size


def _size(value: Any):
    return sum(np.size(v) for v in value) if isinstance(value, (list, tuple)) else np.size(value)


def _total(value: Any):
    return sum(float(np.sum(v)) for v in value) if isinstance(value, (list, tuple)) else float(np.sum(value))


def _filled(value: Any, number) -> Any:
    if isinstance(value, (list, tuple)):
        return [np.full(np.shape(v), number) for v in value]
    return np.full(np.shape(value), number)


def _rows(shape):
    return shape[0] if len(shape) == 1 else shape[-2]


def _cost(graph, tape) -> Cost:
    operations: tuple[Any, ...] = graph.program.operations if graph.output is not None else ()
    entries = sum(partials(op, tape, i) for i, op in enumerate(operations, 1))
    last = {graph.program.output if operations else 0: len(operations)}  # position -> when it is last read
    for i, op in enumerate(operations, 1):
        for p in op.parents:
            last[p] = max(last.get(p, 0), i)
    sizes = [_size(v) for v in tape.values]
    alive = [
        sum(size for j, size in enumerate(sizes[: i + 1]) if last.get(j, 0) >= i) for i in range(1, len(operations) + 1)
    ]
    p = int(np.prod(graph.shape))
    return Cost(entries, graph.size * entries, p * entries, 2 * max(alive, default=sizes[0]), sum(sizes))
