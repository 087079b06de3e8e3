"""A function of one flat array, recorded as a DAG of primitives.

`from_function` runs f once on a traced array. What comes back is data: a tuple of operations, each naming its
primitive, its constants and its parents, so a `Graph` pickles, prints and replays. Two readings of the same list:

- `graph(x)` replays the operations as they were written, under numpy or under autograd's own tracer, and so has
  autograd's conventions at kinks;
- `graph.program` is the same list in the alphabet of `primitives`: clip, fmax, median, the 1-norm and their kin
  written as maximum, minimum, abs, max, min, sort, where. `run` evaluates it with a chosen `Branch` at each kink and
  `pullback` differentiates that choice, so no derivative is ever taken through a kink.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import autograd
import numpy as np
from autograd.core import add_outgrads, primitive_jvps, primitive_vjps
from autograd.extend import register_notrace
from autograd.numpy import numpy_wrapper as anp
from autograd.tracer import Node, isbox, new_box, trace_stack
from numpy.typing import ArrayLike, NDArray

from . import primitives, selections
from .lowering import Operation, Program, call_of, name_of, program
from .primitives import HiddenBranch, NotPiecewiseSmooth, UnsupportedPrimitive, grad, jacobian

if TYPE_CHECKING:
    from .selections import Branch


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """f: R^size -> R^shape as operations; `output` is the position of its value, or None for a constant function."""

    operations: tuple[Operation, ...]
    size: int
    shape: tuple[int, ...]
    output: int | None
    constant: np.ndarray | None = None
    source: Callable[..., Any] | None = None

    def __call__(self, x: Any) -> NDArray[Any] | float:
        """f(x) by replaying what was recorded; works on arrays and on autograd's boxes alike."""
        if not isbox(x):
            x = point(x, self.size)
        elif getattr(x, "shape", None) != (self.size,):
            raise ValueError(f"x must be flat with {self.size} entries: the function was recorded with {self.size}")
        if self.output is None:
            return np.array(self.constant)
        if not isbox(x):
            return _replay(self._written, x, self.output)
        values = [x]
        for op in self.operations:
            values.append(call_of(op.name)(*op.fill(values), **op.kwargs))
        return values[self.output]

    def __repr__(self) -> str:
        return f"Graph(R^{self.size} -> shape {self.shape}, {len(self.operations)} operations)"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"source": None}

    @cached_property
    def program(self) -> Program:
        """The operations in the alphabet of `primitives`."""
        return program(self.operations, self.size, self.output)

    @cached_property
    def _written(self):
        """The operations as they were written, ready for `_replay`."""
        return tuple(_step(op, call_of(op.name)) for op in self.operations)

    @cached_property
    def _natural(self):
        """The program, each piecewise operation choosing by its guard, ready for `_replay`."""
        values = selections.NATURAL
        return tuple(_step(op, values.get(op.name) or primitives.named(op.name).call) for op in self.program.operations)

    @cached_property
    def degrees(self) -> tuple[float, ...]:
        """Polynomial degree in x of every value of the program (of each piece); infinity where none is known."""
        degrees = [1.0]
        for op in self.program.operations:
            inputs = [degrees[p] for p in op.parents]
            if op.name in selections.SELECTIONS:
                degrees.append(max(1.0, *inputs))
            else:
                degrees.append(primitives.degree(primitives.named(op.name), op.args, op.argnums, inputs))
        return tuple(degrees)


def _step(op, call):
    """(function on plain arrays, arguments with gaps, which values fill them, keywords)."""
    filled = tuple(zip(op.argnums, op.parents, strict=True))
    return getattr(call, "fun", call), op.args, filled, op.kwargs


def _replay(steps, x, output):
    """The value at a position."""
    values = [x]
    for call, gaps, filled, kwargs in steps:
        args = list(gaps)
        for argnum, parent in filled:
            args[argnum] = values[parent]
        values.append(call(*args, **kwargs))
    return values[output]


# ---------------------------------------------------------------- points


def point(x: ArrayLike, size: int | None = None, name: str = "x") -> NDArray[np.float64]:
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


def unit_of(x: ArrayLike) -> float:
    """The length in which distances from x are measured: max(1, |x|_inf)."""
    return max(1.0, float(np.max(np.abs(x))))


# ---------------------------------------------------------------- recording


class _Recording:
    def __init__(self):
        self.operations = []
        self.label = ""


class _RecordingNode(Node):
    """autograd's tracer calls this for every operation on a traced value, comparisons included."""

    __slots__ = ["position", "recording"]

    def __init__(self, value, fun, args, kwargs, parent_argnums, parents):
        recording = parents[0].recording
        name = name_of(fun, parent_argnums)
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
                fun.__name__ if ":" in name else name.rpartition(".")[2],
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
        if type(part) is np.float64 and math.isfinite(part):
            continue
        dtype = np.asarray(part).dtype
        if dtype.kind == "O":
            raise HiddenBranch(f"{name} built an object array: numpy swallowed a traced value; use autograd.numpy")
        if dtype.kind == "c":
            raise UnsupportedPrimitive(f"{name} made a complex array of a traced value; write it with real numbers")
        if dtype.kind != "f":
            raise HiddenBranch(f"{name} rounds a traced value to {dtype}: its output jumps; keep it a float array")
        if not np.isfinite(part).all():
            raise NotPiecewiseSmooth(
                f"{name} is not finite at x although x is: the function is singular there (or overflows), so no "
                "finite set of smooth pieces describes it"
            )


@contextmanager
def label(value: NDArray[Any], name: str) -> Iterator[Any]:
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


def from_function(f: Callable[..., Any] | Graph, x: ArrayLike) -> Graph:
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
        hint = "; pass network.function()" if hasattr(f, "function") else ""
        raise ValueError(
            f"f must be an autograd.numpy function of one flat array, or a Graph; got {type(f).__name__}{hint}"
        )
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
            raise ValueError("f must return an array; it returned a sequence: join it with np.concatenate")
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
    step = PROBE * unit_of(x)
    for direction in rng.standard_normal((3, x.size)):
        for side in (step, -step):
            require_same_value(graph, f, x + side * direction / np.linalg.norm(direction))


def require_same_value(graph: Graph, f: Any, y: np.ndarray) -> None:
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


# ---------------------------------------------------------------- evaluating and differentiating a choice


@dataclass(frozen=True, eq=False)
class Tape:
    """One forward pass: values[i], the arguments of operation i, its Branch where it has one, and magnitudes."""

    values: list[Any]
    arguments: list[Any]
    branches: dict[Any, Any]
    magnitudes: list[Any]


def run(
    graph: Graph, x: Any, branch_of: Any, *, magnitudes: bool = False, inject: Callable[..., Any] | None = None
) -> Tape:
    """Evaluate the program at x; branch_of(i, operation, args, magnitudes of the arguments) chooses each piece.

    x may be a box of autograd (then magnitudes are not available). inject(i, value) may replace the output of the
    i-th operation when it is piecewise. Raises `NotPiecewiseSmooth` when a value is not finite and magnitudes are
    asked for.
    """
    plain = not isbox(x)
    values, arguments, branches, sizes = [x], [()], {}, [np.abs(x) if magnitudes else None]
    for i, op in enumerate(graph.program.operations, 1):
        args = op.fill(values)
        if op.name in selections.SELECTIONS:
            around = _magnitudes_of_arguments(op, args, sizes) if magnitudes else None
            branch = branches[i] = branch_of(i, op, args, around)
            value = selections.joined(branch, args) if plain else selections.chosen(branch, args)
            if inject is not None:
                value = inject(i, value)
            size = selections.joined(branch, around, unsigned=True) if magnitudes else None
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


def pullback(
    graph: Graph,
    tape: Tape,
    cotangents: Mapping[Any, Any],
    watch: Mapping[int, tuple[np.ndarray, np.ndarray]] | range | tuple[Any, ...] = (),
) -> NDArray[Any] | dict[int, Any]:
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
        if op.name in selections.SELECTIONS:
            ingrads = [selections.pull(tape.branches[i], k, g) for k in op.argnums]
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


def pushforward(graph: Graph, tape: Tape, directions: Any, branch_of: Callable[..., Any]) -> None:
    """Forward pass of tangents, several directions at a time; branch_of(i, tangents of the arguments) picks a piece.

    Returns nothing: the pieces are what is wanted. NotImplementedError where autograd has no forward derivative.
    """
    tangents: list[Any] = [list(directions)]
    for i, op in enumerate(graph.program.operations, 1):
        inputs = [tangents[p] for p in op.parents]
        if op.name in selections.SELECTIONS:
            still = [np.zeros(np.shape(a)) for a in op.args]
            along = []
            for k in range(len(directions)):
                args = list(still)
                for argnum, tangent in zip(op.argnums, inputs, strict=True):
                    args[argnum] = tangent[k]
                along.append(args)
            branch = branch_of(i, along)
            tangents.append([selections.joined(branch, args) for args in along])
            continue
        jvp = primitive_jvps.get(primitives.named(op.name).call)
        if jvp is None:
            raise NotImplementedError(f"no forward derivative of {op.name}")
        found = [
            jvp(op.argnums, [t[k] for t in inputs], tape.values[i], tape.arguments[i], op.kwargs)
            for k in range(len(directions))
        ]
        tangents.append(found)


def jacobian_product(graph: Graph, tape: Tape, v: np.ndarray) -> NDArray[np.float64]:
    """J v (flat) under tape.branches, by the adjoint of the reverse pass, which is linear in its cotangent."""
    out = graph.program.output
    return np.ravel(autograd.make_vjp(lambda c: pullback(graph, tape, {out: c})[0])(np.zeros(graph.shape))[0](v))


def gradient(
    graph: Graph, x: ArrayLike, branches: "Mapping[int, Branch]", cotangents: Mapping[Any, Any]
) -> NDArray[Any]:
    """Gradient (n,) at x of the sum of <cotangent, value> under the branches; differentiable again."""
    return pullback(graph, run(graph, x, lambda i, op, args, sizes: branches[i]), cotangents)[0]


def hessian(
    graph: Graph, x: ArrayLike, branches: "Mapping[int, Branch]", cotangents: Mapping[Any, Any]
) -> NDArray[np.float64]:
    """Hessian (n, n) at x of the same sum; symmetric. `NotPiecewiseSmooth` if it is not finite."""
    # 0 * y keeps autograd from warning about a gradient that is constant
    return _symmetric(jacobian(lambda y: gradient(graph, y, branches, cotangents) + 0.0 * y)(np.array(x)))


def hessian_product(
    graph: Graph, x: ArrayLike, branches: "Mapping[int, Branch]", cotangents: Mapping[Any, Any], v: np.ndarray
) -> NDArray[np.float64]:
    """hessian @ v without the matrix: reverse over reverse, about the cost of two gradients."""
    return grad(lambda y: anp.dot(gradient(graph, y, branches, cotangents) + 0.0 * y, v))(np.array(x))


def injected_hessian(
    graph: Graph,
    x: np.ndarray,
    branches: "Mapping[int, Branch]",
    cotangents: Mapping[Any, Any],
    slots: Mapping[int, tuple[np.ndarray, np.ndarray]],
    u: np.ndarray,
) -> NDArray[np.float64]:
    """The same Hessian in (x, u), where u replaces the outputs in slots {i: (flat outputs, numbers in u)}.

    The branches must leave those outputs open, as `Germ.decided` does: x reaches them through u only.
    """
    n = len(x)

    def in_both(y):
        def inject(i, value):
            return selections.place(value, y[n + slots[i][1]], slots[i][0]) if i in slots else value

        tape = run(graph, y[:n], lambda i, op, args, sizes: branches[i], inject=inject)
        kept = pullback(graph, tape, cotangents, watch=slots)
        total = selections.place(np.zeros(n + len(u)), kept[0], np.arange(n))
        for i, g in kept.items():
            if i:
                outs, numbers = slots[i]
                total = total + selections.place(np.zeros(n + len(u)), anp.ravel(g)[outs], n + numbers)
        return total + 0.0 * y

    return _symmetric(jacobian(in_both)(np.concatenate([x, u])))


def _symmetric(matrix):
    if not np.all(np.isfinite(matrix)):
        raise NotPiecewiseSmooth("a second derivative is not finite at x, so no finite set of C^2 pieces describes f")
    return (matrix + matrix.T) / 2


def evaluate(graph: Graph, x: ArrayLike) -> NDArray[np.float64]:
    """f(x) through the program, each piecewise operation choosing by its guard at x."""
    if graph.output is None:
        return np.array(graph.constant)
    return np.asarray(_replay(graph._natural, np.asarray(x, dtype=float), graph.program.output))


def _natural(i, op, args, sizes):
    return selections.natural_branch(op.name, args, op.kwargs)
