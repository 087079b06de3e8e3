"""A function of one flat array, recorded as a DAG of primitives.

`from_function` runs f once on a traced array. What comes back is data: a tuple of operations, each naming its
primitive, its constants and its parents, so a `Graph` pickles, prints and replays. Two readings of the same list:

- `graph(x)` replays the operations as they were written, under numpy or under autograd's own tracer, and so has
  autograd's conventions at kinks;
- `graph.program` is the same list in the alphabet of `primitives`: clip, fmax, median, the 1-norm and their kin
  written as maximum, minimum, abs, max, min, sort, where. `run` evaluates it with a chosen `Branch` at each kink and
  `pullback` differentiates that choice, so no derivative is ever taken through a kink.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import autograd
import numpy as np
from autograd.core import add_outgrads, primitive_vjps
from autograd.extend import register_notrace
from autograd.numpy import numpy_wrapper as anp
from autograd.tracer import Node, isbox, new_box, trace_primitives_map, trace_stack

from . import primitives
from .primitives import HiddenBranch, NotPiecewiseSmooth, UnsupportedPrimitive


@dataclass(frozen=True, eq=False)
class Operation:
    """primitive(*args, **kwargs) with None in `args` at `argnums`, to be filled with the values of `parents`.

    Parents are positions in the list of values: 0 is x, i the i-th operation. `source` is the operation the user
    wrote, `label` the node of a network it was written in (or ''), `shape` the shape of its output.
    """

    name: str
    args: tuple
    kwargs: dict
    argnums: tuple
    parents: tuple
    shape: tuple
    source: str
    label: str

    def fill(self, values):
        args = list(self.args)
        for argnum, parent in zip(self.argnums, self.parents, strict=True):
            args[argnum] = values[parent]
        return tuple(args)


@dataclass(frozen=True, eq=False)
class Graph:
    """f: R^size -> R^shape as operations; `output` is the position of its value, or None for a constant function."""

    operations: tuple[Operation, ...]
    size: int
    shape: tuple
    output: int | None
    constant: np.ndarray | None = None
    source: Callable | None = field(default=None, repr=False)

    def __call__(self, x):
        """f(x) by replaying what was recorded; works on arrays and on autograd's boxes alike."""
        if not isbox(x):
            x = point(x, self.size)
        elif getattr(x, "shape", None) != (self.size,):
            raise ValueError(f"x must be flat with {self.size} entries: the function was recorded with {self.size}")
        if self.output is None:
            return np.array(self.constant)
        values = [x]
        for op in self.operations:
            values.append(_recordable(op.name)(*op.fill(values), **op.kwargs))
        return values[self.output]

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k not in ("source", "program", "degrees")} | {"source": None}

    @cached_property
    def program(self) -> "Program":
        """The operations in the alphabet of `primitives`."""
        return _lower(self)

    @cached_property
    def degrees(self) -> tuple[float, ...]:
        """Polynomial degree in x of every value of the program (of each piece); infinity where none is known."""
        degrees = [1.0]
        for op in self.program.operations:
            inputs = [degrees[p] for p in op.parents]
            if op.name in _PIECEWISE:
                degrees.append(max(1.0, *inputs))
            else:
                degrees.append(primitives.degree(primitives.named(op.name), op.args, op.argnums, inputs))
        return tuple(degrees)


@dataclass(frozen=True, eq=False)
class Program:
    operations: tuple[Operation, ...]
    output: int | None


_PIECEWISE = frozenset(primitives.PIECEWISE) | {"mask"}


# ---------------------------------------------------------------- points


def point(x, size=None, name="x"):
    """x as a read-only float array of shape (n,); ValueError naming what came otherwise."""
    try:
        given = np.asarray(x)
        if np.iscomplexobj(given):
            raise TypeError("complex entries")
        array = np.array(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a flat array of real numbers; got {type(x).__name__} ({error})") from error
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a flat array of shape (n,), n >= 1; got shape {array.shape}; use np.ravel")
    if size is not None and array.size != size:
        raise ValueError(f"{name} has {array.size} entries, the function was recorded with {size}")
    if not np.all(np.isfinite(array)):
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite; entry {bad} is {array[bad]}")
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------- recording


class _Recording:
    def __init__(self):
        self.operations = []
        self.label = ""


class _RecordingNode(Node):
    """autograd's tracer calls this for every operation on a traced value, comparisons included."""

    __slots__ = ["recording", "position"]

    def __init__(self, value, fun, args, kwargs, parent_argnums, parents):
        recording = parents[0].recording
        name = _recordable_name(fun, parent_argnums)
        if any(isbox(v) for v in kwargs.values()):
            raise UnsupportedPrimitive(f"{name}: a traced value was passed by keyword; pass it by position")
        _require_finite(name, value)
        constants = tuple(None if k in parent_argnums else _constant(a) for k, a in enumerate(args))
        shape = tuple(np.shape(value)) if not isinstance(value, (list, tuple)) else (len(value),)
        recording.operations.append(
            Operation(
                name,
                constants,
                {k: _constant(v) for k, v in kwargs.items()},
                tuple(parent_argnums),
                tuple(p.position for p in parents),
                shape,
                getattr(fun, "__name__", name).lstrip("_"),
                recording.label,
            )
        )
        self.recording, self.position = recording, len(recording.operations)

    def initialize_root(self, recording):
        self.recording, self.position = recording, 0


# Functions of shape and kind alone: their values do not depend on where x is.
for _name in "ndim shape size iscomplexobj iscomplex isscalar isreal zeros_like ones_like empty_like full_like".split():
    register_notrace(_RecordingNode, getattr(anp, _name))
for _name in "result_type isfinite isinf isnan isneginf isposinf".split():
    register_notrace(_RecordingNode, getattr(anp, _name))


def _constant(value):
    """A copy that nobody else can change."""
    if isinstance(value, np.ndarray):
        copy = np.array(value)
        copy.flags.writeable = False
        return copy
    if type(value) in (list, tuple):
        return type(value)(_constant(v) for v in value)
    return value


def _require_finite(name, value):
    for part in value if isinstance(value, (list, tuple)) else (value,):
        kind = np.asarray(part).dtype
        if kind.hasobject:
            raise HiddenBranch(f"{name} built an object array: numpy swallowed a traced value; use autograd.numpy")
        if np.issubdtype(kind, np.complexfloating):
            raise UnsupportedPrimitive(f"{name} made a complex array of a traced value; write it with real numbers")
        if not np.issubdtype(kind, np.floating):
            raise HiddenBranch(f"{name} rounds a traced value to {kind}: its output jumps; keep it a float array")
        if not np.all(np.isfinite(part)):
            raise NotPiecewiseSmooth(
                f"{name} is not finite at x although x is: the function is singular there (or overflows), so no "
                "finite set of smooth pieces describes it"
            )


@contextmanager
def label(value, name):
    """Operations recorded from the traced `value` inside this context carry the label `name`."""
    node = getattr(value, "_node", None)
    if not isinstance(node, _RecordingNode):
        yield
        return
    outer, node.recording.label = node.recording.label, name
    try:
        yield
    finally:
        node.recording.label = outer


def from_function(f, x) -> Graph:
    """Record f, an autograd.numpy function of one flat float array of shape (n,), at x.

    f is run once on a traced array and a few times on plain arrays near x, to see that what was recorded is what f
    computes. A Graph is returned as it is (x is checked). Raises `HiddenBranch` for a comparison, np.where, sign,
    argmax, ... of a traced value and for a branch seen only through its effect (an `if` on x, an array that dropped
    its traced entries, randomness); `UnsupportedPrimitive` for an operation outside the alphabet;
    `NotPiecewiseSmooth` where f is singular at x; ValueError for a bad x or a result that is not a real array.
    """
    if isinstance(f, Graph):
        point(x, f.size)
        return f
    if not callable(f):
        raise ValueError(f"f must be an autograd.numpy function of one flat array, or a Graph; got {type(f).__name__}")
    x = point(x)
    recording = _Recording()
    with trace_stack.new_trace() as trace, np.errstate(all="ignore"):
        try:
            end = f(new_box(x, trace, _RecordingNode.new_root(recording)))
        except (TypeError, ValueError) as error:
            cause = error.__cause__ or error  # numpy says "setting an array element with a sequence"
            if isinstance(error, HiddenBranch) or "ArrayBox" not in str(cause):
                raise
            raise HiddenBranch(
                f"f hands a traced value to something that cannot trace it ({cause}); use autograd.numpy functions, "
                "not float(), int(), math or assignment to an entry"
            ) from error
    if isbox(end) and isinstance(end._node, _RecordingNode):
        if isinstance(end._value, (list, tuple)):
            raise ValueError("f must return an array; it returned a sequence, so join it with np.concatenate or np.array")
        graph = _prune(recording.operations, end._node.position, x.size, tuple(np.shape(end._value)), f)
    else:
        graph = Graph((), x.size, np.shape(_real_array(end)), None, _constant(_real_array(end)), f)
    _require_faithful(graph, f, x)
    return graph


def _real_array(end):
    array = np.asarray(end)
    if array.dtype == object or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        traced = array.dtype == object and any(isbox(v) for v in array.flat)
        raise ValueError(
            f"f must return a real number or an autograd.numpy array; it returned {type(end).__name__} of "
            + ("traced values: build it with autograd.numpy.array" if traced else f"{array.dtype} entries")
        )
    return np.array(array, dtype=float)


def _prune(operations, output, size, shape, f):
    """Keep the ancestors of the output, in order of execution."""
    needed = {output}
    for i in range(len(operations), 0, -1):
        if i in needed:
            needed.update(operations[i - 1].parents)
    position = {0: 0}
    kept = []
    for i, op in enumerate(operations, 1):
        if i in needed:
            kept.append(replace(op, parents=tuple(position[p] for p in op.parents)))
            position[i] = len(kept)
    return Graph(tuple(kept), size, shape, position[output], None, f)


PROBE = 1e-5  # how far from x, relative to its size, a recording is compared with the function itself


def _require_faithful(graph, f, x):
    rng = np.random.default_rng(0)
    step = PROBE * max(1.0, float(np.max(np.abs(x))))
    for direction in rng.standard_normal((3, x.size)):
        for side in (step, -step):
            require_same_value(graph, f, x + side * direction / np.linalg.norm(direction))


def require_same_value(graph, f, y):
    """`HiddenBranch` unless f(y) is what the recording of f gives at y."""
    if f is None:
        return
    y = np.array(y, dtype=float)
    with np.errstate(all="ignore"):
        direct = _real_array(f(np.array(y)))
        replayed = evaluate(graph, y)
    if not (np.all(np.isfinite(direct)) and np.all(np.isfinite(replayed))):
        return  # y has left the domain of f; its boundary is not a kink
    if direct.shape == replayed.shape:
        gap, size = np.abs(direct - replayed), np.abs(direct) + np.abs(replayed) + np.max(np.abs(direct), initial=0.0)
        differ = np.any(gap > 1e-9 * size) and np.any(gap > 1e-9 * size + 1e-12 * _size_of_terms(graph, y))
    else:
        differ = True
    if differ:
        raise HiddenBranch(
            "f computes something near x that its recording at x does not: an `if` or a loop depends on the values of "
            "x, an array was built without autograd.numpy and dropped its traced entries, or f is random; write the "
            "kink as np.maximum, np.minimum, np.abs or clarke.where(guard, a, b)"
        )


def _size_of_terms(graph, y):
    """The magnitude of the output at y: what rounding in another order can amount to, where terms cancel."""
    try:
        tape = run(graph, y, _natural, magnitudes=True)
    except NotPiecewiseSmooth:
        return 0.0
    return np.abs(graph.constant) if graph.output is None else tape.magnitudes[graph.program.output]


# ---------------------------------------------------------------- names of recordable operations


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


def _axes(op, ndim, axis):
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
        parts = [emit("getitem", (None, slice(a, b)), {}, op, (0,), (source,)) for a, b in ((0, half), (half, 2 * half))]
        paired = emit("multiply", (None, None), {}, op, (0, 1), tuple(parts))
        if left % 2:
            last = emit("getitem", (None, slice(left - 1, left)), {}, op, (0,), (source,))
            paired = emit("concatenate_args", (0, None, None), {}, op, (1, 2), (paired, last))
        source, left = paired, half + left % 2
    return _reshaped(emit, op, source, tuple(1 if k in axes else n for k, n in enumerate(shape) if keepdims or k in kept))


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
    "clarke.where": (primitives._where, _rename("where")),
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


def _recordable_name(fun, argnums):
    if fun is _np_where and 0 in argnums:
        raise HiddenBranch(
            "np.where of a traced condition would hide a branch from the recorder; clarke.where(guard, a, b) takes the "
            "guard itself and checks continuity"
        )
    return _NAME_OF.get(fun) or _NAME_OF.get(getattr(fun, "fun", None)) or primitives.lookup(fun).name


def _recordable(name):
    return _LOWER[name][0] if name in _LOWER else primitives.named(name).call


def _lower(graph):
    """The recorded operations in the alphabet, positions renumbered."""
    lowered, position = [], {0: 0}

    def shape_of(p):
        return lowered[p - 1].shape if p else (graph.size,)

    def emit(name, args, kwargs, op, argnums=None, parents=None):
        if argnums is None:
            argnums, parents = op.argnums, op.parents
        stub = Operation(name, tuple(args), dict(kwargs), argnums, tuple(parents), (), op.source, op.label)
        shape = _output_shape(stub, [shape_of(p) for p in stub.parents], op)
        lowered.append(replace(stub, shape=shape))
        return len(lowered)

    for i, op in enumerate(graph.operations, 1):
        here = replace(op, parents=tuple(position[p] for p in op.parents))
        rule = _LOWER[op.name][1] if op.name in _LOWER else _keep
        position[i] = rule(here, shape_of, emit)
    return Program(tuple(lowered), None if graph.output is None else position[graph.output])


def _output_shape(op, shapes, source):
    args = list(op.args)
    for argnum, shape in zip(op.argnums, shapes, strict=True):
        args[argnum] = np.zeros(shape)
    if op.name in ("maximum", "minimum", "where", "mask"):
        return np.broadcast_shapes(*(np.shape(a) for a in args))
    if op.name in ("abs", "sort"):
        return np.shape(args[0])
    if op.name in ("max", "min"):
        kept = op.kwargs["keepdims"]
        return tuple(1 if k in op.kwargs["axes"] else n for k, n in enumerate(np.shape(args[0])) if kept or k not in op.kwargs["axes"])
    if source.name == op.name:
        return source.shape
    return np.shape(primitives.named(op.name).raw(*args, **op.kwargs))


# ---------------------------------------------------------------- evaluating and differentiating a choice


@dataclass(frozen=True, eq=False)
class Tape:
    """One forward pass: values[i], the arguments of operation i, its Branch where it has one, and magnitudes."""

    values: list
    arguments: list
    branches: dict
    magnitudes: list


def run(graph, x, branch_of, *, magnitudes=False, inject=None) -> Tape:
    """Evaluate the program at x; branch_of(i, operation, args, magnitudes of the arguments) chooses each piece.

    x may be a box of autograd (then magnitudes are not available). inject(i, value) may replace the output of the
    i-th operation when it is piecewise. Raises `NotPiecewiseSmooth` when a value is not finite and magnitudes are
    asked for.
    """
    plain = not isbox(x)
    values, arguments, branches, sizes = [x], [()], {}, [np.abs(x) if magnitudes else None]
    for i, op in enumerate(graph.program.operations, 1):
        args = op.fill(values)
        if op.name in _PIECEWISE:
            around = _magnitudes_of_arguments(op, args, sizes) if magnitudes else None
            branch = branches[i] = branch_of(i, op, args, around)
            value = primitives.chosen(branch, args)
            if inject is not None:
                value = inject(i, value)
            size = primitives.chosen(_unsigned(branch), around) if magnitudes else None
        else:
            entry = primitives.named(op.name)
            value = (entry.raw if plain else entry.call)(*args, **op.kwargs)
            size = None
            if magnitudes:
                _require_finite(op.source, value)
                size = primitives.magnitude(entry, value, args, op.kwargs, op.argnums, [sizes[p] for p in op.parents])
        values.append(value)
        arguments.append(args)
        sizes.append(size)
    return Tape(values, arguments, branches, sizes)


def _magnitudes_of_arguments(op, args, sizes):
    around = [np.abs(a) if k not in op.argnums else None for k, a in enumerate(args)]
    for argnum, parent in zip(op.argnums, op.parents, strict=True):
        around[argnum] = sizes[parent]
    return around


def _unsigned(branch):
    return replace(branch, wires=tuple((out, entry, np.abs(coef)) for out, entry, coef in branch.wires))


def pullback(graph, tape, cotangents, watch=()):
    """Reverse pass: {0: gradient in x, i: cotangent of watched operation i}, under tape.branches.

    cotangents: {position: cotangent of its value}; their pullbacks add up.
    """
    pending, kept = {i: (g, False) for i, g in cotangents.items()}, {}
    for i in range(max(pending), 0, -1):
        if i not in pending:
            continue
        g = pending.pop(i)[0]
        if i in watch:
            kept[i] = g
        op = graph.program.operations[i - 1]
        if op.name in _PIECEWISE:
            ingrads = [primitives.pull(tape.branches[i], k, g) for k in op.argnums]
        else:
            vjp = primitive_vjps[primitives.named(op.name).call]
            try:
                ingrads = list(vjp(op.argnums, tape.values[i], tape.arguments[i], op.kwargs)(g))
            except (TypeError, ValueError, NotImplementedError, AttributeError, AssertionError) as error:
                raise UnsupportedPrimitive(
                    f"{op.source}: autograd cannot differentiate this form of it ({error}); write it another way"
                ) from error
        for parent, ingrad in zip(op.parents, ingrads, strict=True):
            pending[parent] = add_outgrads(pending.get(parent), ingrad)
    kept[0] = pending[0][0] if 0 in pending else np.zeros(graph.size)
    return kept


def gradient(graph, x, branches, cotangents):
    """Gradient (n,) at x of the sum of <cotangent, value> under the branches; differentiable again."""
    return pullback(graph, run(graph, x, lambda i, op, args, sizes: branches[i]), cotangents)[0]


def hessian(graph, x, branches, cotangents):
    """Hessian (n, n) at x of the same sum; symmetric. `NotPiecewiseSmooth` if it is not finite."""
    return _symmetric(autograd.jacobian(lambda y: gradient(graph, y, branches, cotangents))(np.array(x)))


def hessian_product(graph, x, branches, cotangents, v):
    """hessian @ v without the matrix: reverse over reverse, about the cost of two gradients."""
    return autograd.grad(lambda y: anp.dot(gradient(graph, y, branches, cotangents), v))(np.array(x))


def injected_hessian(graph, x, branches, cotangents, slots, u):
    """The same Hessian in (x, u), where u replaces the outputs in slots {i: (flat outputs, numbers in u)}.

    The branches must leave those outputs open, as `Germ.decided` does: x reaches them through u only.
    """
    n = len(x)

    def in_both(y):
        def inject(i, value):
            return primitives.place(value, y[n + slots[i][1]], slots[i][0]) if i in slots else value

        tape = run(graph, y[:n], lambda i, op, args, sizes: branches[i], inject=inject)
        kept = pullback(graph, tape, cotangents, watch=slots)
        total = primitives.place(np.zeros(n + len(u)), kept[0], np.arange(n))
        for i, g in kept.items():
            if i:
                outs, numbers = slots[i]
                total = total + primitives.place(np.zeros(n + len(u)), anp.ravel(g)[outs], n + numbers)
        return total

    return _symmetric(autograd.jacobian(in_both)(np.concatenate([x, u])))


def _symmetric(matrix):
    if not np.all(np.isfinite(matrix)):
        raise NotPiecewiseSmooth("a second derivative is not finite at x, so no finite set of C^2 pieces describes f")
    return (matrix + matrix.T) / 2


def evaluate(graph, x):
    """f(x) through the program, each piecewise operation choosing by its guard at x."""
    if graph.output is None:
        return np.array(graph.constant)
    return np.asarray(run(graph, np.asarray(x, dtype=float), _natural).values[graph.program.output])


def _natural(i, op, args, sizes):
    return primitives.natural_branch(op.name, args, op.kwargs)
