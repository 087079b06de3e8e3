"""How what users write is spelled in the alphabet.

A recorded operation is kept as it was written, so that it can be replayed with autograd's own conventions. Here clip,
fmax, median, the 1-norm and their kin become maximum, minimum, abs, max, min, sort; and a few smooth operations whose
derivatives autograd gets wrong for some arguments become others that it gets right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from autograd.numpy import numpy_wrapper as anp
from autograd.tracer import trace_primitives_map
from numpy.typing import NDArray

from . import primitives, selections
from .primitives import HiddenBranch, UnsupportedPrimitive


@dataclass(frozen=True, eq=False)
class Operation:
    """primitive(*args, **kwargs) with None in `args` at `argnums`, to be filled with the values of `parents`.

    Parents are positions in the list of values: 0 is x, i the i-th operation. `source` is the operation the user
    wrote, `label` the node of a network it was written in (or ''), `shape` the shape of its output.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    argnums: tuple[int, ...]
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    source: str
    label: str

    def fill(self, values: NDArray[Any] | Sequence[Any]) -> Any:
        args = list(self.args)
        for argnum, parent in zip(self.argnums, self.parents, strict=True):
            args[argnum] = values[parent]
        return tuple(args)


@dataclass(frozen=True, eq=False)
class Program:
    operations: tuple[Operation, ...]
    output: int | None


# ---------------------------------------------------------------- rules: one operation into operations of the alphabet


def _keep(op, shape_of, emit):
    if op.name in ("sum", "mean", "var", "std"):
        if len(op.args) > 2:
            raise UnsupportedPrimitive(f"{op.source}: pass what comes after the axis by keyword")
        _only(op, "axis", "keepdims", "dtype", "ddof")  # autograd's derivatives ignore where= and initial=
    kind = primitives.named(op.name).kind
    if kind in ("multilinear", "elementwise", "signed linear") or op.name in ("cross", "solve"):
        return emit(op.name, tuple(_operand(a) for a in op.args), op.kwargs, op)
    return emit(op.name, op.args, op.kwargs, op)


def _operand(value):
    """Numbers in a list, as the array that autograd's derivatives and our magnitudes expect."""
    return np.asarray(value, dtype=float) if isinstance(value, (list, tuple)) else value


def _rename(name):
    def rule(op, shape_of, emit):
        _only(op)
        return emit(name, op.args, op.kwargs, op)

    return rule


def _option(op, position, names, default):
    """An optional argument given by position or under any of its names."""
    if len(op.args) > position and position not in op.argnums:
        return op.args[position]
    for name in names:
        if name in op.kwargs:
            return op.kwargs[name]
    return default


def _only(op, *known):
    unknown = [k for k, v in op.kwargs.items() if k not in known and v is not None]
    if unknown:
        raise UnsupportedPrimitive(f"{op.source}: the keyword {unknown[0]} is not supported; leave it out")


def _lower_clip(op, shape_of, emit):
    _only(op, "a_min", "a_max", "min", "max")
    value, constant = (op.parents[0], None) if 0 in op.argnums else (None, op.args[0])
    for position, names, name in ((1, ("a_min", "min"), "maximum"), (2, ("a_max", "max"), "minimum")):
        if position in op.argnums:
            bound = None
            parents = (op.parents[op.argnums.index(position)],)
        else:
            bound = _option(op, position, names, None)
            if bound is None or np.all(np.isinf(bound)):
                continue  # an infinite bound is no guard
            parents = ()
        if value is None and not parents:
            constant = getattr(np, name)(constant, bound)
            continue
        if value is None:
            args, argnums = (constant, None), (1,)
        elif parents:
            args, argnums, parents = (None, None), (0, 1), (value, *parents)
        else:
            args, argnums, parents = (None, bound), (0,), (value,)
        value = emit(name, args, {}, op, argnums, parents)
    return value


def _axes(op, ndim, axis) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if np.ndim(axis) == 0 else tuple(axis)
    return tuple(int(a) % ndim for a in axes) if ndim else ()


def _lower_extremum(name):
    def rule(op, shape_of, emit):
        _only(op, "axis", "keepdims")
        ndim = len(shape_of(op.parents[0]))
        options = {
            "axes": tuple(sorted(_axes(op, ndim, _option(op, 1, ("axis",), None)))),
            "keepdims": bool(_option(op, 3, ("keepdims",), False)),
        }
        return emit(name, (None,), options, op)

    return rule


def _sorted_along(op, shape_of, emit, axis):
    source = op.parents[0]
    if axis is None:
        source = emit("ravel", (None,), {}, op)
    ndim = max(len(shape_of(source)), 1)
    return emit("sort", (None,), {"axis": (-1 if axis is None else int(axis)) % ndim}, op, (0,), (source,))


def _lower_sort(op, shape_of, emit):
    _only(op, "axis", "kind")
    return _sorted_along(op, shape_of, emit, _option(op, 1, ("axis",), -1))


def _lower_median(op, shape_of, emit):
    _only(op, "axis", "keepdims")
    axis, keepdims = _option(op, 1, ("axis",), None), bool(op.kwargs.get("keepdims", False))
    if axis is not None and np.ndim(axis):
        raise UnsupportedPrimitive("median over several axes is not supported; reshape and take one axis")
    shape = shape_of(op.parents[0])
    ordered = _sorted_along(op, shape_of, emit, axis)
    along = len(shape_of(ordered)) - 1 if axis is None else int(axis) % len(shape)
    length = shape_of(ordered)[along]
    middle = (slice(None),) * along + (slice((length - 1) // 2, length // 2 + 1),)
    picked = emit("getitem", (None, middle), {}, op, (0,), (ordered,))
    mean = emit("mean", (None,), {"axis": along, "keepdims": keepdims and axis is not None}, op, (0,), (picked,))
    if keepdims and axis is None:
        mean = emit("reshape", (None, (1,) * len(shape)), {}, op, (0,), (mean,))
    return mean


def _lower_ptp(op, shape_of, emit):
    high = _lower_extremum("max")(op, shape_of, emit)
    low = _lower_extremum("min")(op, shape_of, emit)
    return emit("subtract", (None, None), {}, op, (0, 1), (high, low))


def _lower_prod(op, shape_of, emit):
    """Products of pairs: autograd's prod divides by its entries, which may be zero."""
    _only(op, "axis", "keepdims")
    shape = shape_of(op.parents[0])
    axes = _axes(op, len(shape), _option(op, 1, ("axis",), None))
    keepdims = bool(_option(op, 3, ("keepdims",), False))
    kept = tuple(k for k in range(len(shape)) if k not in axes)
    source = emit("transpose", (None, (*axes, *kept)), {}, op)
    left = int(np.prod([shape[k] for k in axes]))
    source = _reshaped(emit, op, source, (left, *(shape[k] for k in kept)))
    while left > 1:
        half = left // 2
        halves = slice(0, half), slice(half, 2 * half)
        parts = tuple(emit("getitem", (None, part), {}, op, (0,), (source,)) for part in halves)
        paired = emit("multiply", (None, None), {}, op, (0, 1), parts)
        if left % 2:
            last = emit("getitem", (None, slice(left - 1, left)), {}, op, (0,), (source,))
            paired = emit("concatenate_args", (0, None, None), {}, op, (1, 2), (paired, last))
        source, left = paired, half + left % 2
    return _reshaped(emit, op, source, _reduced(shape, axes, keepdims))


def _lower_norm(op, shape_of, emit):
    _only(op, "ord", "axis", "keepdims")
    order, axis = _option(op, 1, ("ord",), None), _option(op, 2, ("axis",), None)
    keepdims = bool(_option(op, 3, ("keepdims",), False))
    shape = shape_of(op.parents[0])
    axes = _axes(op, len(shape), axis)
    matrix = len(axes) == 2 and order is not None
    if order is None or order == "fro" or (order == 2 and not matrix):
        one = axes[0] if axis is not None and len(axes) == 1 else axis  # autograd reads a tuple as two axes
        return emit("norm", (None, order, one), {"keepdims": keepdims}, op)
    if order not in (1, np.inf, -np.inf) or (matrix and order == -np.inf):
        known = "'fro', 1 and inf are, for a matrix" if matrix else "1, 2, inf and -inf are, for a vector"
        raise UnsupportedPrimitive(f"norm of order {order!r} is not supported; {known}")
    size = emit("abs", (None,), {}, op) if order != np.inf or matrix else None
    if matrix:  # induced norms: the largest column sum or row sum
        inner, outer = (axes[0], axes[1]) if order == 1 else (axes[1], axes[0])
        sums = emit("sum", (None,), {"axis": inner, "keepdims": True}, op, (0,), (size,))
        result = emit("max", (None,), {"axes": (outer,), "keepdims": True}, op, (0,), (sums,))
        kept = tuple(1 if k in axes else n for k, n in enumerate(shape))
        return _reshaped(emit, op, result, kept if keepdims else tuple(n for k, n in enumerate(shape) if k not in axes))
    if order == 1:
        return emit("sum", (None,), {"axis": axes, "keepdims": keepdims}, op, (0,), (size,))
    if order == -np.inf:
        return emit("min", (None,), {"axes": axes, "keepdims": keepdims}, op, (0,), (size,))
    if len(axes) != 1:
        raise UnsupportedPrimitive("norm: give the axis of a vector norm of an array with more than two axes")
    mirrored = emit("negative", (None,), {}, op)
    both = emit("concatenate_args", (axes[0], None, None), {}, op, (1, 2), (op.parents[0], mirrored))
    return emit("max", (None,), {"axes": axes, "keepdims": keepdims}, op, (0,), (both,))


def _reduced(shape, axes, keepdims):
    """The shape left by a reduction over the axes."""
    return tuple(1 if k in axes else n for k, n in enumerate(shape) if keepdims or k not in axes)


def _reshaped(emit, op, parent, shape):
    return emit("reshape", (None, shape), {}, op, (0,), (parent,))


def _lower_mask(op, shape_of, emit):
    args = tuple(a if a is None else np.asarray(a) for a in op.args)
    return emit("mask", args, {}, op)


def _lower_cumsum(op, shape_of, emit):
    """autograd's cumsum takes axis=0 for axis=None; the same axis counted from the end is read correctly."""
    axis, ndim = _option(op, 1, ("axis",), None), len(shape_of(op.parents[0]))
    if axis is None:
        flat = emit("ravel", (None,), {}, op)
        return emit("cumsum", (None,), {}, op, (0,), (flat,))
    return emit("cumsum", (None,), {"axis": int(axis) % ndim - ndim} if ndim > 1 else {}, op)


def _lower_identity(op, shape_of, emit):
    return op.parents[0]


# autograd differentiates the operations below wrongly, or not at all, for some of their arguments


def _lower_rearrangement(op, shape_of, emit):
    """Every entry of the output is an entry of the input: read off where the operation sends 0, 1, 2, ..."""
    shape = shape_of(op.parents[0])
    call = primitives.named(op.name.removeprefix("numpy.")).raw
    places = call(np.arange(int(np.prod(shape))).reshape(shape), *op.args[1:], **op.kwargs)
    flat = op.parents[0] if len(shape) == 1 else _reshaped(emit, op, op.parents[0], (-1,))
    return emit("getitem", (None, np.asarray(places)), {}, op, (0,), (flat,))


def _lower_transpose(op, shape_of, emit):
    ndim, axes = len(shape_of(op.parents[0])), _option(op, 1, ("axes",), None)
    return emit("transpose", (None, tuple(range(ndim))[::-1] if axes is None else _axes(op, ndim, axes)), {}, op)


def _lower_roll(op, shape_of, emit):
    if np.ndim(_option(op, 1, ("shift",), 0)):
        return _lower_rearrangement(op, shape_of, emit)
    return emit("roll", op.args, op.kwargs, op)


def _lower_diag(op, shape_of, emit):
    if len(shape_of(op.parents[0])) == 2:
        return _lower_rearrangement(op, shape_of, emit)
    return emit("diag", op.args, op.kwargs, op)


def _lower_pad(op, shape_of, emit):
    width, mode = _option(op, 1, ("pad_width",), 0), _option(op, 2, ("mode",), "constant")
    options = {k: v for k, v in op.kwargs.items() if k not in ("pad_width", "mode")}
    if mode == "constant":
        return emit("pad", (None, width, mode), options, op)
    if mode in ("edge", "reflect", "symmetric", "wrap") and options.get("reflect_type", "even") == "even":
        return _lower_rearrangement(op, shape_of, emit)
    raise UnsupportedPrimitive(f"pad of mode {mode!r} is not supported; pad with np.concatenate")


def _lower_hsplit(op, shape_of, emit):
    axis = 0 if len(shape_of(op.parents[0])) == 1 else 1
    return emit("split", (*op.args, axis), op.kwargs, op)


def _lower_concatenate(op, shape_of, emit):
    if op.args[0] is not None:
        return emit("concatenate_args", op.args, op.kwargs, op)
    parents = tuple(_reshaped(emit, op, p, (-1,)) for p in op.parents)
    flat = (a if a is None else np.ravel(a) for a in op.args[1:])
    return emit("concatenate_args", (0, *flat), {}, op, op.argnums, parents)


def _lower_diff(op, shape_of, emit):
    """Differences of neighbors, so that the scale of each is that of its own two terms."""
    _only(op, "n", "axis")
    order, result = _option(op, 1, ("n",), 1), op.parents[0]
    ndim = len(shape_of(result))
    before = (slice(None),) * (int(_option(op, 2, ("axis",), -1)) % ndim)
    for _ in range(order):
        high = emit("getitem", (None, (*before, slice(1, None))), {}, op, (0,), (result,))
        low = emit("getitem", (None, (*before, slice(None, -1))), {}, op, (0,), (result,))
        result = emit("subtract", (None, None), {}, op, (0, 1), (high, low))
    return result


def _lower_outer(op, shape_of, emit):
    """autograd takes flat arguments only."""
    flat = tuple(p if len(shape_of(p)) == 1 else _reshaped(emit, op, p, (-1,)) for p in op.parents)
    return emit("outer", tuple(a if a is None else np.ravel(a) for a in op.args), op.kwargs, op, op.argnums, flat)


def _lower_tensordot(op, shape_of, emit):
    return emit("tensordot", (*(_operand(a) for a in op.args[:2]), *op.args[2:]), op.kwargs, op)


def _lower_einsum(op, shape_of, emit):
    """The form with subscripts in a string."""
    if 0 not in op.argnums and isinstance(op.args[0], str):
        return emit("einsum", (op.args[0], *(_operand(a) for a in op.args[1:])), op.kwargs, op)

    def letters(labels):
        return "".join("..." if k is Ellipsis else "abcdefghijklmnopqrstuvwxyz"[k] for k in labels)

    pairs = len(op.args) // 2
    subscripts = ",".join(letters(op.args[2 * k + 1]) for k in range(pairs))
    if len(op.args) % 2:
        subscripts += "->" + letters(op.args[-1])
    operands = (_operand(op.args[2 * k]) for k in range(pairs))
    return emit("einsum", (subscripts, *operands), op.kwargs, op, tuple(k // 2 + 1 for k in op.argnums), op.parents)


def _lower_getitem(op, shape_of, emit):
    """autograd reads a list of booleans as integers."""

    def index(part):
        return np.array(part, dtype=None if part else np.intp) if isinstance(part, list) else part

    key = op.args[1]
    return emit("getitem", (None, tuple(map(index, key)) if isinstance(key, tuple) else index(key)), {}, op)


_np_where = trace_primitives_map[np.where]  # autograd.numpy.where is a wrapper around this primitive

_LOWER = {
    "numpy.abs": (anp.absolute, _rename("abs")),
    "numpy.fabs": (anp.fabs, _rename("abs")),
    "numpy.maximum": (anp.maximum, _rename("maximum")),
    "numpy.minimum": (anp.minimum, _rename("minimum")),
    "numpy.fmax": (anp.fmax, _rename("maximum")),
    "numpy.fmin": (anp.fmin, _rename("minimum")),
    "numpy.max": (anp.max, _lower_extremum("max")),
    "numpy.min": (anp.min, _lower_extremum("min")),
    "numpy.amax": (anp.amax, _lower_extremum("max")),
    "numpy.amin": (anp.amin, _lower_extremum("min")),
    "numpy.clip": (anp.clip, _lower_clip),
    "numpy.sort": (anp.sort, _lower_sort),
    "numpy.median": (anp.median, _lower_median),
    "numpy.ptp": (anp.ptp, _lower_ptp),
    "numpy.prod": (anp.prod, _lower_prod),
    "numpy.where": (_np_where, _lower_mask),
    "numpy.cumsum": (anp.cumsum, _lower_cumsum),
    "numpy.nan_to_num": (anp.nan_to_num, _lower_identity),
    "numpy.linalg.norm": (primitives.named("norm").call, _lower_norm),
    "clarke.where": (selections.where_primitive, _rename("where")),
} | {
    f"numpy.{name}": (primitives.named(name).call, rule)
    for name, rule in {
        "transpose": _lower_transpose,
        "roll": _lower_roll,
        "diag": _lower_diag,
        "pad": _lower_pad,
        "hsplit": _lower_hsplit,
        "concatenate_args": _lower_concatenate,
        "diff": _lower_diff,
        "outer": _lower_outer,
        "tensordot": _lower_tensordot,
        "einsum": _lower_einsum,
        "getitem": _lower_getitem,
        **dict.fromkeys(("repeat", "tile", "rollaxis", "rot90", "broadcast_to", "diagonal"), _lower_rearrangement),
    }.items()
}
_NAME_OF = {call: name for name, (call, _) in _LOWER.items()}
_NAME_OF |= {call.fun: name for name, (call, _) in _LOWER.items() if hasattr(call, "fun")}


def name_of(fun: Callable[..., Any], argnums: tuple[int, ...]) -> str:
    if fun is _np_where and 0 in argnums:
        raise HiddenBranch(
            "np.where of a traced condition would hide a branch from the recorder; clarke.where(guard, a, b) takes the "
            "guard itself and checks continuity"
        )
    return _NAME_OF.get(fun) or _NAME_OF.get(getattr(fun, "fun", None)) or primitives.lookup(fun).name


def call_of(name: str) -> Callable[..., Any]:
    return _LOWER[name][0] if name in _LOWER else primitives.named(name).call


def program(operations: tuple[Any, ...], size: int, output: int | None) -> Program:
    """Recorded operations on R^size in the alphabet, positions renumbered; `output` is the position of the result."""
    lowered, position = [], {0: 0}

    def shape_of(p):
        return lowered[p - 1].shape if p else (size,)

    def emit(name, args, kwargs, op, argnums=(), parents=None):
        argnums, parents = (op.argnums, op.parents) if parents is None else (argnums, tuple(parents))
        stub = Operation(name, tuple(args), dict(kwargs), argnums, parents, (), op.source, op.label)
        shape = _output_shape(stub, [shape_of(p) for p in stub.parents], op)
        lowered.append(replace(stub, shape=shape))
        return len(lowered)

    for i, op in enumerate(operations, 1):
        here = replace(op, parents=tuple(position[p] for p in op.parents))
        rule = _LOWER[op.name][1] if op.name in _LOWER else _keep
        position[i] = rule(here, shape_of, emit)
    return Program(tuple(lowered), None if output is None else position[output])


def _output_shape(op, shapes, source):
    args = list(op.args)
    for argnum, shape in zip(op.argnums, shapes, strict=True):
        args[argnum] = np.zeros(shape)
    if op.name in ("maximum", "minimum", "where", "mask"):
        return np.broadcast_shapes(*(np.shape(a) for a in args))
    if op.name in ("abs", "sort"):
        return np.shape(args[0])
    if op.name in ("max", "min"):
        return _reduced(np.shape(args[0]), op.kwargs["axes"], op.kwargs["keepdims"])
    if source.name == op.name:
        return source.shape
    return np.shape(primitives.named(op.name).raw(*args, **op.kwargs))
