"""The alphabet: which operations may be recorded, and how each one behaves.

A smooth operation is known by how magnitudes and polynomial degrees pass through it; its derivatives are autograd's.
Piecewise operations are in `selections`. Everything that can jump (comparisons, sign, argmax, floor, ...) is refused
with `HiddenBranch`, everything unknown with `UnsupportedPrimitive`.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import autograd
import autograd.numpy as anp
import autograd.numpy.linalg as anpl
import autograd.scipy.special as asps
import numpy as np
from autograd.builtins import SequenceBox
from autograd.core import primitive_vjps
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.util import func

grad: Callable[..., Any] = autograd.grad  # declared here: a type checker cannot read autograd's own declarations
jacobian: Callable[..., Any] = autograd.jacobian
hessian: Callable[..., Any] = autograd.hessian


class HiddenBranch(TypeError):
    """A traced value entered an operation whose output can jump, so a branch would be lost."""


class UnsupportedPrimitive(NotImplementedError):
    """An operation outside the alphabet: nothing is known about its pieces."""


class NotPiecewiseSmooth(ValueError):
    """At this point the function has no finite set of smooth pieces (the 2-norm at 0, sqrt at 0)."""


# ---------------------------------------------------------------- smooth operations, by kind
#
# linear       magnitudes pass through the operation itself; degree unchanged
# multilinear  likewise on absolute values; degrees of the traced arguments add
# elementwise  magnitude |f(v)| + |f'(v)| m; not polynomial, except as `degree` knows
# smooth       neither: the magnitude is the largest |output|

_LINEAR = """reshape ravel transpose swapaxes moveaxis rollaxis roll squeeze expand_dims broadcast_to
    atleast_1d atleast_2d atleast_3d concatenate_args array_from_args _array_from_scalar_or_array sum mean cumsum
    repeat tile pad flipud fliplr rot90 diag diagonal trace triu tril astype real real_if_close split array_split
    vsplit hsplit dsplit full diff"""
_SIGNED_LINEAR = "add subtract negative rad2deg degrees deg2rad radians"
_MULTILINEAR = "multiply dot matmul inner outer tensordot einsum kron"
_ELEMENTWISE = """divide true_divide power exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh
    cosh tanh arcsinh arccosh arctanh square sqrt reciprocal sinc logaddexp logaddexp2 arctan2 hypot"""
_ELEMENTWISE_SPECIAL = "expit logit erf erfc erfinv gammaln psi i0 j0 j1 y0 y1"
_SMOOTH = "var std cross"
_SMOOTH_LINALG = "norm det slogdet inv pinv solve cholesky"


@dataclass(frozen=True)
class Primitive:
    """`name` is its key in an operation (data, so that a Graph pickles); `call` the autograd function."""

    name: str
    call: Callable[..., Any]
    kind: str

    @property
    def raw(self) -> Any:
        return getattr(self.call, "fun", self.call)


_by_name: dict[str, Primitive] = {}
_by_call: dict[object, Primitive] = {}


def _enter(name, call, kind):
    entry = Primitive(name, call, kind)
    _by_name[name] = entry
    _by_call[call] = entry
    raw = getattr(call, "fun", None)
    if raw is not None:  # np.linalg.norm, mean, std are wrapped twice: the raw function is the identity
        _by_call.setdefault(raw, entry)


def _enter_all(names, module, kind):
    for name in names.split():
        call = getattr(module, name)
        # autograd hides some primitives behind a wrapper that accepts lists; the recorder meets the inner one
        _enter(name, getattr(module, "_primitive_" + name, call), kind)


_enter_all(_LINEAR, anp.numpy_wrapper, "linear")
_enter_all(_SIGNED_LINEAR, anp.numpy_wrapper, "signed linear")
_enter_all(_MULTILINEAR, anp.numpy_wrapper, "multilinear")
_enter_all(_ELEMENTWISE, anp.numpy_wrapper, "elementwise")
_enter_all(_ELEMENTWISE_SPECIAL, asps, "elementwise")
_enter_all(_SMOOTH, anp.numpy_wrapper, "smooth")
_enter_all(_SMOOTH_LINALG, anpl, "smooth")
_enter("logsumexp", asps.logsumexp, "smooth")
_enter("getitem", func(ArrayBox.__getitem__), "linear")
_enter("container_take", func(SequenceBox.__getitem__), "linear")


def smooth(call: Callable[..., Any]) -> Callable[..., Any]:
    """Declare an autograd primitive of your own (with a VJP) twice continuously differentiable; returns it.

    The graph then treats it as one smooth operation. Nothing is checked: a kink inside it stays unseen. For its
    Graph to pickle, the function under `@autograd.extend.primitive` must be importable by module and qualified name,
    and its module must make this declaration, after `defvjp`.
    """
    raw = getattr(call, "fun", call)  # autograd's wrapper does not keep the module and qualified name
    if call not in primitive_vjps:
        name = getattr(raw, "__name__", repr(raw))
        raise ValueError(f"call: {name} has no VJP; define one with autograd.extend.defvjp before declaring it smooth")
    _enter(f"{raw.__module__}:{raw.__qualname__}", call, "smooth")
    return call


def lookup(call: Callable[..., Any]) -> Primitive:
    """The `Primitive` behind an autograd function; `HiddenBranch` or `UnsupportedPrimitive` if there is none."""
    found = _by_call.get(call) or _by_call.get(getattr(call, "fun", None))
    if found is not None:
        return found
    name = getattr(call, "__name__", repr(call))
    if name in _JUMPS:
        what = f"a comparison ({name})" if name in _COMPARISONS else name
        lists = _IN_LISTS if name in _COMPARISONS else ""
        raise HiddenBranch(f"{what} of a traced value would hide a branch from the recorder; {_JUMPS[name]}{lists}")
    raise UnsupportedPrimitive(
        f"{name} is not in the alphabet of clarke.primitives; write it with supported operations, or, if it is "
        "smooth and has a VJP, declare it with clarke.smooth"
    )


def named(name: str) -> Primitive:
    """The `Primitive` with this key, importing a user's own ("module:qualname") where needed."""
    if name not in _by_name and ":" in name:
        module, qualname = name.split(":")
        importlib.import_module(module)  # importing the module runs its declaration
        if name not in _by_name:
            raise UnsupportedPrimitive(f"{qualname} of {module} is no longer declared smooth; see clarke.smooth")
    return _by_name[name]


_COMPARISONS = "greater greater_equal less less_equal equal not_equal".split()  # an if, a mask, a np.where
_CONTINUOUS = "write the kink as np.maximum, np.minimum, np.abs or clarke.where(guard, a, b)"
_IN_LISTS = "; entries of a list are compared by np.max, np.sort and the like: hand them np.array([...])"
_JUMPS = dict.fromkeys(
    """greater greater_equal less less_equal equal not_equal isclose allclose array_equal array_equiv sign heaviside
    logical_and logical_or logical_not logical_xor all any nonzero flatnonzero count_nonzero argwhere
    searchsorted isreal signbit copysign""".split(),
    _CONTINUOUS,
) | {
    "argmax": "use np.max, or np.sort and an index: they carry every tied choice",
    "argmin": "use np.min, or np.sort and an index: they carry every tied choice",
    "argsort": "use np.sort: it carries every tied order",
    "argpartition": "use np.sort: it carries every tied order",
    "partition": "use np.sort: the order inside a partition is not a continuous function",
    "where": "np.where takes a condition, clarke.where(guard, a, b) takes the guard itself and checks continuity",
    "select": _CONTINUOUS,
    "piecewise": _CONTINUOUS,
}
_JUMPS |= dict.fromkeys(
    "floor ceil round rint around fix trunc floor_divide mod remainder fmod modf digitize".split(),
    "its output jumps; only continuous selections have limiting derivatives",
)


# ---------------------------------------------------------------- magnitudes and degrees


def magnitude(
    entry: Primitive,
    value: float | np.ndarray,
    args: Any,
    kwargs: Mapping[str, Any],
    argnums: tuple[int, ...],
    magnitudes: Sequence[Any],
) -> Any:
    """Forward evaluation in absolute values: the scale against which a guard counts as zero.

    `magnitudes` belong to the traced arguments. |W||a| + |b| for an affine map, differences as sums, first-order
    error scale |f(v)| + |f'(v)| m for elementwise functions. Raises `NotPiecewiseSmooth` where f' is infinite.
    """
    if entry.kind == "elementwise":
        return _elementwise_magnitude(entry, value, args, kwargs, argnums, magnitudes)
    if entry.kind == "smooth":
        return _smooth_magnitude(entry, value, args, kwargs, argnums, magnitudes)
    full = list(args)
    for argnum, m in zip(argnums, magnitudes, strict=True):
        full[argnum] = m
    if entry.name in ("add", "subtract"):
        return np.abs(full[0]) + np.abs(full[1])
    operands = [np.abs(a) if isinstance(a, (float, np.ndarray, np.floating)) else a for a in full]
    return _absolute(entry.raw(*operands, **kwargs))


def _absolute(value):
    return [np.abs(v) for v in value] if isinstance(value, (list, tuple)) else np.abs(value)


def _elementwise_magnitude(entry, value, args, kwargs, argnums, magnitudes):
    shape = np.shape(value)
    spread = [np.broadcast_to(a, shape) if isinstance(a, (float, int, np.ndarray, np.generic)) else a for a in args]
    with np.errstate(all="ignore"):
        slopes = list(primitive_vjps[entry.call](argnums, value, spread, kwargs)(np.ones(shape)))
        total = np.abs(value)
        for slope, m in zip(slopes, magnitudes, strict=True):
            total = total + np.abs(slope) * m
    _require_regular(entry, args, argnums, magnitudes, slopes)
    return total


_BRANCH_POINTS = {"sqrt": 0.0, "log": 0.0, "log2": 0.0, "log10": 0.0, "reciprocal": 0.0, "arccosh": 1.0, "log1p": -1.0}
RESOLUTION = 1e-9  # relative: an argument this close to a singular point of its operation counts as being there


def _require_regular(entry, args, argnums, magnitudes, slopes):
    """No finite set of C^2 pieces where a derivative is infinite, or at a non-integer power of zero."""
    singular = not all(np.all(np.isfinite(s)) for s in slopes)
    if argnums[0] == 0 and not singular:
        v, m = np.asarray(args[0]), magnitudes[0]
        if entry.name in _BRANCH_POINTS:
            singular = np.any(np.abs(v - _BRANCH_POINTS[entry.name]) <= RESOLUTION * m)
        elif entry.name in ("arcsin", "arccos", "arctanh", "erfinv"):
            singular = np.any(1 - np.abs(v) <= RESOLUTION * (1 + m))
        elif entry.name == "power":
            exponent = np.asarray(args[1])
            smooth_at_zero = (exponent >= 0) & (exponent == np.round(exponent)) & (1 not in argnums)
            singular = np.any((np.abs(v) <= RESOLUTION * m) & ~smooth_at_zero)
    if entry.name in ("divide", "true_divide") and 1 in argnums:
        singular = singular or np.any(np.abs(args[1]) <= RESOLUTION * magnitudes[-1])
    if singular or (
        entry.name in ("hypot", "arctan2")
        and np.any(np.hypot(np.asarray(args[0], float), np.asarray(args[1], float)) <= RESOLUTION * sum(magnitudes))
    ):
        raise NotPiecewiseSmooth(
            f"{entry.name} is evaluated at a singular point of its own: its derivatives are not finite there, so no "
            "finite set of smooth pieces describes the function near x; keep its argument away from that point"
        )


def _smooth_magnitude(entry, value, args, kwargs, argnums, magnitudes):
    """Sizes of the terms that cancel, where the operation is known; otherwise the largest |output|."""
    size: list[Any] = [np.abs(a) if isinstance(a, np.ndarray) else None for a in args]
    for argnum, m in zip(argnums, magnitudes, strict=True):
        size[argnum] = m
    with np.errstate(all="ignore"):
        if entry.name in ("norm", "std"):
            scale = _length(entry.name, size[0], args, kwargs)
            if np.any(np.abs(value) <= RESOLUTION * scale):
                square = "np.sum(x ** 2)" if entry.name == "norm" else "np.var(x)"
                raise NotPiecewiseSmooth(
                    f"{entry.name} is evaluated where it vanishes: like |x|_2 at 0 it has a limiting gradient in every "
                    f"direction, not finitely many; use the 1-norm or the infinity norm, or square it as {square}"
                )
            return np.abs(value) + scale
        if entry.name == "var":
            return np.abs(value) + _length("std", size[0], args, kwargs) ** 2
        if entry.name == "cross":
            return np.full(np.shape(value), 2 * np.max(size[0]) * np.max(size[1]))
        if entry.name == "logsumexp":
            axis, keepdims = _reduction(args, kwargs)
            return np.abs(value) + np.max(size[0], axis=axis, keepdims=keepdims)
        if entry.name == "det":  # by its expansion; at most the product of the row sums
            return np.prod(np.sum(size[0], axis=-1), axis=-1)
        if entry.name == "inv":
            return np.abs(value) + np.abs(value) @ size[0] @ np.abs(value)
        if entry.name == "slogdet":  # d log|det A| = tr(A^-1 dA)
            change = np.sum(np.abs(np.linalg.inv(args[0])).swapaxes(-1, -2) * size[0], axis=(-1, -2))
            return type(value)(np.abs(value[0]), np.abs(value[1]) + change)
        if entry.name == "solve":
            inverse, column = np.abs(np.linalg.inv(args[0])), np.abs(value)
            vector = column.ndim == 1
            a, b = (v[:, None] if vector else v for v in (column, size[1]))
            change = inverse @ (size[0] @ a + b)
            return column + (change[:, 0] if vector else change)
    return np.full(np.shape(value), np.max(np.abs(value), initial=0.0))


def _reduction(args, kwargs):
    """axis and keepdims of a reduction, by position or keyword."""
    return (args[1] if len(args) > 1 else kwargs.get("axis")), bool(kwargs.get("keepdims", False))


def _length(name, size, args, kwargs):
    """The norm, or the root mean square, of the magnitudes along the axis that the operation reduces."""
    if name == "norm":
        return np.linalg.norm(size, *args[1:], **kwargs)
    axis, keepdims = _reduction(args, kwargs)
    return np.sqrt(np.mean(np.square(size), axis=axis, keepdims=keepdims))


def degree(entry: Primitive, args: tuple[Any, ...], argnums: tuple[int, ...], degrees: Sequence[float]) -> float:
    """Polynomial degree of the output in x; infinity when it is not known to be a polynomial."""
    if entry.kind in ("linear", "signed linear"):
        return max(degrees)
    if entry.kind == "multilinear":
        return sum(degrees)
    if entry.name == "square" or entry.name == "var":
        return 2 * degrees[0]
    if entry.name in ("divide", "true_divide") and argnums == (0,):
        return degrees[0]
    if entry.name == "power" and argnums == (0,):
        exponent = np.asarray(args[1])
        if np.all((exponent >= 0) & (exponent == np.round(exponent))):
            return degrees[0] * float(np.max(exponent, initial=0))
    return 0 if max(degrees) == 0 else np.inf
