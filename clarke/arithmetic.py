"""Sums, products, selections, joins and reshapes of arrays as node functions, with their derivatives in closed form.

`maximum`, `minimum` and `clip` are piecewise linear: at a kink their slope is that of the chosen piece. The others are
smooth, or linear.
"""
# autograd.numpy has its names at run time only
# pyright: reportAttributeAccessIssue=false

from itertools import pairwise
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.scipy.special import erf, logsumexp
from numpy.typing import NDArray

from .local import Factor, Local, closed_form


def _equal_shapes(name, arrays):
    if len({np.shape(a) for a in arrays}) != 1:
        raise ValueError(f"{name} takes arrays of one shape; got {', '.join(str(np.shape(a)) for a in arrays)}")


def _every_sample(values):
    return tuple(range(len(values))) if all(onp.ndim(v) and len(v) == len(values[0]) for v in values) else ()


def _add_derivatives(values, output, pieces):
    def along(i, t):
        return t

    return Local(along, along, samplewise=_every_sample(values))


@closed_form(_add_derivatives, magnitude=lambda values, sizes: sum(sizes))
def add(*arrays: NDArray[Any]) -> NDArray[Any]:
    """The sum of arrays of one shape: a residual connection. A parent may be named twice."""
    _equal_shapes("add", arrays)
    return sum(arrays[1:], arrays[0])


def _product_derivatives(values, output, pieces):
    def along(i, t):
        return t * values[1 - i]

    def second(i, j, delta, t):
        return t * delta

    return Local(along, along, second, ((0, 1), (1, 0)), _every_sample(values))


@closed_form(_product_derivatives, magnitude=lambda values, sizes: sizes[0] * sizes[1])
def product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """a * b, entry by entry, of two arrays of one shape: a gate. a may be b."""
    _equal_shapes("product", (a, b))
    return a * b


def _subtract_derivatives(values, output, pieces):
    def along(i, t):
        return -t if i else t

    return Local(along, along, samplewise=_every_sample(values))


@closed_form(_subtract_derivatives, magnitude=lambda values, sizes: sizes[0] + sizes[1])
def subtract(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """a - b of two arrays of one shape."""
    _equal_shapes("subtract", (a, b))
    return a - b


def _quotient_derivatives(values, output, pieces):
    inverse = 1.0 / values[1]
    ratio = output * inverse

    def along(i, t):
        return t * -ratio if i else t * inverse

    def second(i, j, delta, t):
        return t * (delta * (2.0 * ratio * inverse if i == j else -inverse * inverse))

    return Local(along, along, second, ((0, 1), (1, 0), (1, 1)), _every_sample(values))


def _quotient_size(values, sizes):
    a, b = (onp.abs(value) for value in values)
    return a / b + sizes[0] / b + sizes[1] * a / b**2


@closed_form(_quotient_derivatives, magnitude=_quotient_size)
def quotient(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """a / b, entry by entry, of two arrays of one shape; b has no zero, where it would be singular."""
    _equal_shapes("quotient", (a, b))
    return a / b


def _rescale_derivatives(values, output, pieces, scale=1.0, shift=0.0):
    def along(i, t):
        return t * scale

    return Local(along, along, samplewise=_every_sample(values))


def _rescale_size(values, sizes, scale=1.0, shift=0.0):
    return sizes[0] * onp.abs(scale) + onp.abs(shift)


def _fits(small, shape):
    """An array of shape `small` broadcasts to the shape itself."""
    tail = shape[len(shape) - len(small) :]
    return len(small) <= len(shape) and all(n in (1, m) for n, m in zip(small, tail, strict=True))


@closed_form(_rescale_derivatives, magnitude=_rescale_size)
def rescale(a: NDArray[Any], *, scale: Any = 1.0, shift: Any = 0.0) -> NDArray[Any]:
    """scale a + shift for fixed numbers, or fixed arrays that broadcast to the shape of a; else ValueError."""
    shape = np.shape(a)
    if not all(_fits(np.shape(fixed), shape) for fixed in (scale, shift)):
        raise ValueError(f"rescale: scale {np.shape(scale)}, shift {np.shape(shift)} do not fit into a {shape}")
    return a * scale + shift


def _two_way_derivatives(side):
    def derivatives(values, output, pieces):
        a, b = values
        if pieces is None:
            first = 1.0 * (side * a > side * b)
        else:
            first = onp.zeros(output.size)
            first[pieces[0].wires[0][0]] = 1.0
            first = first.reshape(output.shape)

        def along(i, t):
            return t * (1.0 - first if i else first)

        return Local(along, along, samplewise=_every_sample(values))

    return closed_form(
        derivatives,
        magnitude=lambda values, sizes: onp.maximum(*sizes),
        guards=lambda values, sizes: (values[0] - values[1], sizes[0] + sizes[1]),
    )


@_two_way_derivatives(1)
def maximum(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """max(a, b), entry by entry, of two arrays of one shape: a kink wherever they have an entry in common."""
    _equal_shapes("maximum", (a, b))
    return np.maximum(a, b)


@_two_way_derivatives(-1)
def minimum(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """min(a, b), entry by entry, of two arrays of one shape: a kink wherever they have an entry in common."""
    _equal_shapes("minimum", (a, b))
    return np.minimum(a, b)


def _clip_derivatives(values, output, pieces, low=-onp.inf, high=onp.inf):
    (z,) = values
    inside = (z > low) & (z < high)
    if pieces is not None:
        inside = onp.ones(z.size, dtype=bool)
        for branch in pieces:  # of the maximum, then of the minimum, where there are both
            first = onp.zeros(z.size, dtype=bool)
            first[branch.wires[0][0]] = True
            inside &= first
        inside = inside.reshape(z.shape)

    def along(i, t):
        return t * inside

    return Local(along, along, samplewise=_every_sample(values))


def _clip_guards(values, sizes, low=-onp.inf, high=onp.inf):
    bounds = [bound for bound in (low, high) if onp.isfinite(bound)]
    return tuple(onp.stack(a) for a in zip(*((values[0] - c, sizes[0] + abs(c)) for c in bounds), strict=True))


def _clip_size(values, sizes, low=-onp.inf, high=onp.inf):
    return sizes[0] + max((abs(bound) for bound in (low, high) if onp.isfinite(bound)), default=0.0)


@closed_form(_clip_derivatives, magnitude=_clip_size, guards=_clip_guards)
def clip(z: NDArray[Any], *, low: float = -onp.inf, high: float = onp.inf) -> NDArray[Any]:
    """min(max(z, low), high), entry by entry, low < high, one of them finite: kinks at the finite bounds."""
    if not (low < high and (onp.isfinite(low) or onp.isfinite(high))):
        raise ValueError(f"clip takes numbers low < high, one of them finite; got {low!r}, {high!r}")
    if onp.isfinite(low):
        z = np.maximum(z, low)
    return np.minimum(z, high) if onp.isfinite(high) else z


def _entrywise(slope, curvature, size=None):
    """The closed form of a smooth s(z) from s' and s'', functions of (z, s(z), **keywords).

    size(z, m, **keywords): the size of the terms of s; by default |s(z)| + |s'(z)| m, that of one operation.
    """

    def derivatives(values, output, pieces, **keywords):
        (z,) = values
        first, bend = slope(z, output, **keywords), curvature(z, output, **keywords)

        def along(i, t):
            return t * first

        def second(i, j, delta, t):
            return t * (delta * bend)

        return Local(along, along, second, ((0, 0),), _every_sample(values))

    def attach(fun):
        def magnitude(values, sizes, **keywords):
            (z,), (m,) = values, sizes
            if size is not None:
                return size(z, m, **keywords)
            y = fun(z, **keywords)
            return onp.abs(y) + onp.abs(slope(z, y, **keywords)) * m

        return closed_form(derivatives, magnitude=magnitude)(fun)

    return attach


@_entrywise(lambda z, y: y, lambda z, y: y)
def exponential(z: NDArray[Any]) -> NDArray[Any]:
    """exp z, entry by entry."""
    return np.exp(z)


def _power_slope(z, y, exponent):
    return exponent * z ** (exponent - 1.0)


def _power_curvature(z, y, exponent):
    return exponent * (exponent - 1.0) * z ** (exponent - 2.0) if exponent not in (0.0, 1.0) else onp.zeros_like(z)


@_entrywise(_power_slope, _power_curvature)
def power(z: NDArray[Any], *, exponent: float) -> NDArray[Any]:
    """z^exponent, entry by entry, for a fixed number; singular at z = 0 unless that is a natural number."""
    return z**exponent


def _bell(z, y):
    return 2.0 / onp.sqrt(onp.pi) * onp.exp(-z * z)


@_entrywise(_bell, lambda z, y: -2.0 * z * _bell(z, y))
def error_function(z: NDArray[Any]) -> NDArray[Any]:
    """erf z = 2 Phi(sqrt(2) z) - 1, entry by entry."""
    return erf(z)


def _gelu_tanh_parts(z):
    """tanh u, u' and u'' of u = sqrt(2 / pi) (z + 0.044715 z^3)."""
    c, k = onp.sqrt(2.0 / onp.pi), 0.044715
    return onp.tanh(c * (z + k * z**3)), c * (1.0 + 3.0 * k * z**2), 6.0 * c * k * z


def _gelu_tanh_slope(z, y):
    t, up, _ = _gelu_tanh_parts(z)
    return (1.0 + t + z * (1.0 - t * t) * up) / 2.0


def _gelu_tanh_curvature(z, y):
    t, up, upp = _gelu_tanh_parts(z)
    return (1.0 - t * t) * (up + z * (upp / 2.0 - t * up * up))


def _gelu_tanh_size(z, m):
    t = _gelu_tanh_parts(z)[0]
    inner = onp.sqrt(2.0 / onp.pi) * (m + 0.044715 * (onp.abs(z**3) + 3.0 * z**2 * m))
    return onp.abs(z) * (1.0 + t) / 2.0 + m * (1.0 + onp.abs(t) + (1.0 - t * t) * inner) / 2.0


@_entrywise(_gelu_tanh_slope, _gelu_tanh_curvature, _gelu_tanh_size)
def gelu_tanh(z: NDArray[Any]) -> NDArray[Any]:
    """z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2, entry by entry: the approximation of gelu by tanh."""
    return z * (1.0 + np.tanh(onp.sqrt(2.0 / onp.pi) * (z + 0.044715 * z**3))) / 2.0


def _log_softmax_derivatives(values, output, pieces):
    """The derivative along t is t - <p, t>, p = softmax z, row by row."""
    p = onp.exp(output)

    def push(i, t):
        return t - (p * t).sum(axis=-1, keepdims=True)

    def pull(i, c):
        return c - p * c.sum(axis=-1, keepdims=True)

    def second(i, j, delta, t):
        return -delta.sum(axis=-1, keepdims=True) * p * push(i, t)

    return Local(push, pull, second, ((0, 0),), (0,) if output.ndim > 1 else ())


def _log_softmax_size(values, sizes):
    level = onp.abs(logsumexp(values[0], axis=-1, keepdims=True))
    return sizes[0] + level + sizes[0].max(axis=-1, keepdims=True)


@closed_form(_log_softmax_derivatives, magnitude=_log_softmax_size)
def log_softmax(z: NDArray[Any]) -> NDArray[Any]:
    """z_k - log sum_l exp(z_l) over the last axis, without overflow."""
    return z - logsumexp(z, axis=-1, keepdims=True)


def _matmul_derivatives(values, output, pieces):
    a, b = values

    def push(i, t):
        return a @ t if i else t @ b

    def pull(i, c):
        return a.swapaxes(-1, -2) @ c if i else c @ b.swapaxes(-1, -2)

    def second(i, j, delta, t):
        return t.swapaxes(-1, -2) @ delta if i else delta @ t.swapaxes(-1, -2)

    return Local(push, pull, second, ((0, 1), (1, 0)), (0, 1) if a.ndim > 2 else (0,))


@closed_form(_matmul_derivatives, magnitude=lambda values, sizes: sizes[0] @ sizes[1])
def matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """a b for a (..., m, k), b (..., k, n) with the same leading axes: a matrix product for each of them."""
    shapes = np.shape(a), np.shape(b)
    if min(map(len, shapes)) < 2 or shapes[0][:-2] != shapes[1][:-2] or shapes[0][-1] != shapes[1][-2]:
        raise ValueError("matmul takes a (..., m, k), b (..., k, n); got {}, {}".format(*shapes))
    return np.matmul(a, b)


def _channels_derivatives(values, output, pieces):
    """gamma and beta have the diagonal `Factor`, with bases x and 1."""
    x, gamma = values[:2]
    along = (-1, *(1 for _ in x.shape[2:]))
    others = tuple(k + 1 for k in range(x.ndim) if k != 1)

    def spread_out(t):
        return t.reshape(len(t), 1, *along)

    slope = gamma.reshape(along)

    def push(i, t):
        if i == 0:
            return t * slope
        return spread_out(t) * x if i == 1 else onp.broadcast_to(spread_out(t), (len(t), *x.shape))

    def pull(i, c):
        return c * slope if i == 0 else (c * x if i == 1 else c).sum(axis=others)

    def second(i, j, delta, t):
        return spread_out(t) * delta if i == 0 else (t * delta).sum(axis=others)

    def view(t):
        return onp.moveaxis(t, 2, -1).reshape(len(t), len(x), -1, x.shape[1], 1)

    basis = view(x[None])[0]
    known = {1: Factor(basis, view, {0: view}), 2: Factor(onp.ones(basis.shape), view)}
    factors = {i: known[i] for i in range(1, len(values))}
    return Local(push, pull, second, ((0, 1), (1, 0)), (0,), factors)


def _channels_size(values, sizes):
    along = (-1, *(1 for _ in values[0].shape[2:]))
    scaled = sizes[0] * sizes[1].reshape(along)
    return scaled + sizes[2].reshape(along) if len(sizes) > 2 else scaled


@closed_form(_channels_derivatives, magnitude=_channels_size)
def scale_channels(x: NDArray[Any], gamma: NDArray[Any], beta: NDArray[Any] | None = None) -> NDArray[Any]:
    """gamma_c x[n, c, ...] + beta_c for x (N, C, ...), gamma (C,), beta (C,) or none: normalization with fixed moments.

    ValueError for any other shapes.
    """
    shapes = [np.shape(a) for a in (x, gamma, *(() if beta is None else (beta,)))]
    if len(shapes[0]) < 2 or any(shape != shapes[0][1:2] for shape in shapes[1:]):
        got = ", ".join(map(str, shapes))
        raise ValueError(f"scale_channels takes x (N, C, ...), gamma (C,), beta (C,) or none; got {got}")
    along = (-1, *(1 for _ in shapes[0][2:]))
    y = x * np.reshape(gamma, along)
    return y if beta is None else y + np.reshape(beta, along)


def _broadcast_derivatives(values, output, pieces, shape):
    (a,) = values
    ahead = len(shape) - a.ndim
    summed = tuple(k for k in range(len(shape)) if k < ahead or a.shape[k - ahead] != shape[k])

    def push(i, t):
        return onp.broadcast_to(t.reshape(len(t), *(1 for _ in range(ahead)), *a.shape), (len(t), *shape))

    def pull(i, c):
        return c.sum(axis=tuple(k + 1 for k in summed)).reshape(len(c), *a.shape)

    return Local(push, pull, samplewise=() if ahead or not shape or 0 in summed else (0,))


@closed_form(_broadcast_derivatives, magnitude=lambda values, sizes, shape: onp.broadcast_to(sizes[0], shape))
def broadcast(a: NDArray[Any], *, shape: tuple[int, ...]) -> NDArray[Any]:
    """a repeated to a shape by numpy's rules: what `add` and `product` leave to be said."""
    return np.broadcast_to(np.reshape(a, (*(1 for _ in shape[np.ndim(a) :]), *np.shape(a))), shape)


def _transpose_derivatives(values, output, pieces, axes):
    there, back = (tuple(k + 1 for k in order) for order in (axes, onp.argsort(axes).tolist()))

    def push(i, t):
        return t.transpose(0, *there)

    def pull(i, c):
        return c.transpose(0, *back)

    return Local(push, pull, samplewise=(0,) if axes[:1] == (0,) else ())


@closed_form(_transpose_derivatives, magnitude=lambda values, sizes, axes: sizes[0].transpose(axes))
def transpose(a: NDArray[Any], *, axes: tuple[int, ...]) -> NDArray[Any]:
    """The axes of a in another order, axes a tuple of all of them."""
    if sorted(axes) != list(range(np.ndim(a))):
        raise ValueError(f"transpose takes a permutation of the axes of a {np.shape(a)}; got {axes!r}")
    return np.transpose(a, axes)


def _flat_entries(shape, index):
    """The flat entries of an array of this shape that a[index] has."""
    return onp.arange(int(onp.prod(shape))).reshape(shape)[index]


def _part_derivatives(values, output, pieces, index):
    (a,) = values
    entries = _flat_entries(a.shape, index).ravel()
    again = len(onp.unique(entries)) < len(entries)

    def push(i, t):
        return t.reshape(len(t), -1)[:, entries].reshape(len(t), *output.shape)

    def pull(i, c):
        total = onp.zeros((len(c), a.size))
        if again:
            onp.add.at(total.T, entries, c.reshape(len(c), -1).T)
        else:
            total[:, entries] = c.reshape(len(c), -1)
        return total.reshape(len(c), *a.shape)

    whole = isinstance(index, tuple) and isinstance(index[0], slice) and index[0] == slice(None)
    return Local(push, pull, samplewise=(0,) if whole else ())


@closed_form(_part_derivatives, magnitude=lambda values, sizes, index: onp.asarray(sizes[0][index]))
def part(a: NDArray[Any], *, index: tuple[slice, ...]) -> NDArray[Any]:
    """a[index] for a fixed index, a tuple of slices, integers and arrays of integers: a slice, a gather."""
    return a[index]


def _spread_table(shape, index, size):
    """For every entry of the shape the flat entry of a that stands there, or `size` for none."""
    table = onp.full(shape, size)
    table[index] = onp.arange(size).reshape(table[index].shape)
    return table


def _spread_derivatives(values, output, pieces, shape, index):
    (a,) = values
    entries = _flat_entries(shape, index).ravel()

    def push(i, t):
        whole = onp.zeros((len(t), output.size))
        whole[:, entries] = t.reshape(len(t), -1)
        return whole.reshape(len(t), *shape)

    def pull(i, c):
        return c.reshape(len(c), -1)[:, entries].reshape(len(c), *a.shape)

    return Local(push, pull, samplewise=(0,) if index[0] == slice(None) else ())


def _spread_size(values, sizes, shape, index):
    whole = onp.zeros(shape)
    whole[index] = sizes[0]
    return whole


@closed_form(_spread_derivatives, magnitude=_spread_size)
def spread(a: NDArray[Any], *, shape: tuple[int, ...], index: tuple[slice, ...]) -> NDArray[Any]:
    """Zeros of a shape with a at [index], a tuple of slices: padding, a dilated kernel; the transpose of `part`."""
    if np.shape(a) != _flat_entries(shape, index).shape:
        raise ValueError(f"spread: a {np.shape(a)} does not fit at {index} of {shape}")
    table = _spread_table(shape, index, int(onp.prod(np.shape(a))))
    return np.concatenate([np.reshape(a, (-1,)), onp.zeros(1)])[table]


def _concatenate_derivatives(values, output, pieces, axis=1):
    axis = axis % onp.ndim(values[0])
    ends = onp.cumsum([0, *(v.shape[axis] for v in values)])
    spans = [(slice(None),) * (axis + 1) + (slice(a, b),) for a, b in pairwise(ends)]

    def push(i, t):
        whole = onp.zeros((len(t), *output.shape))
        whole[spans[i]] = t
        return whole

    def pull(i, c):
        return c[spans[i]]

    return Local(push, pull, samplewise=_every_sample(values) if axis else ())


@closed_form(_concatenate_derivatives, magnitude=lambda values, sizes, axis=1: onp.concatenate(sizes, axis=axis))
def concatenate(*arrays: NDArray[Any], axis: int = 1) -> NDArray[Any]:
    """Arrays joined along an axis; the default, 1, joins the features of each sample."""
    return np.concatenate(arrays, axis=axis)


def _reshape_derivatives(values, output, pieces, shape=(-1,), samples=True):
    (a,) = values

    def push(i, t):
        return t.reshape(len(t), *output.shape)

    def pull(i, c):
        return c.reshape(len(c), *a.shape)

    return Local(push, pull, samplewise=(0,) if samples else ())


def _reshape_size(values, sizes, shape=(-1,), samples=True):
    return sizes[0].reshape((len(sizes[0]), *shape) if samples else shape)


@closed_form(_reshape_derivatives, magnitude=_reshape_size)
def reshape(a: NDArray[Any], *, shape: tuple[int, ...] = (-1,), samples: bool = True) -> NDArray[Any]:
    """Each sample in the given shape; by default flat, (N, ...) -> (N, features). Without samples the whole array."""
    return np.reshape(a, (np.shape(a)[0], *shape) if samples else shape)


def _mean_derivatives(values, output, pieces, axis=1):
    (a,) = values
    axis, shape = axis % a.ndim, a.shape

    def push(i, t):
        return t.mean(axis=axis + 1)

    def pull(i, c):
        return onp.broadcast_to(onp.expand_dims(c / shape[axis], axis + 1), (len(c), *shape))

    return Local(push, pull, samplewise=(0,))


@closed_form(_mean_derivatives, magnitude=lambda values, sizes, axis=1: sizes[0].mean(axis=axis))
def mean(a: NDArray[Any], *, axis: int = 1) -> NDArray[Any]:
    """The mean over one axis, by default 1: the tokens of a (N, T, d). ValueError for axis 0, which counts samples."""
    ndim = np.ndim(a)
    if not (isinstance(axis, int | onp.integer) and -ndim < axis < ndim and axis):
        raise ValueError(f"mean takes an axis of a {np.shape(a)} other than 0, the samples; got {axis!r}")
    return np.mean(a, axis=axis)
