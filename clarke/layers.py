"""Node functions of a network, and the loss heads at its end.

Each is an autograd.numpy function of the arrays of its parents, axis 0 counting samples, lives at the top of a module,
so that a network of them pickles, and carries its derivatives in closed form (see `local`): a product with R
directions is a few calls of BLAS, whatever R and the number of samples. A head holds its targets and does its own
averaging. relu, leaky_relu, relu6, hard_tanh, absolute, clip, maximum, minimum and max pooling have kinks; nothing
else does.
"""
# autograd.numpy has its names at run time only
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.scipy.special import logsumexp
from numpy.typing import ArrayLike, NDArray

from .activations import absolute, gelu, hard_tanh, leaky_relu, linear, relu, relu6, sigmoid, silu, softplus, tanh
from .arithmetic import (
    add,
    broadcast,
    clip,
    concatenate,
    error_function,
    exponential,
    gelu_tanh,
    log_softmax,
    matmul,
    maximum,
    mean,
    minimum,
    part,
    power,
    product,
    quotient,
    rescale,
    reshape,
    scale_channels,
    spread,
    subtract,
    transpose,
)
from .attention import multi_head_attention, softmax, softmax_attention
from .convolution import average_pool1d, average_pool2d, conv1d, conv2d, max_pool1d, max_pool2d
from .local import Factor, Local, closed_form
from .normalization import batch_norm, layer_norm

__all__ = [
    "absolute",
    "add",
    "affine",
    "average_pool1d",
    "average_pool2d",
    "batch_norm",
    "broadcast",
    "clip",
    "concatenate",
    "conv1d",
    "conv2d",
    "cross_entropy",
    "error_function",
    "exponential",
    "gelu",
    "gelu_tanh",
    "hard_tanh",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "matmul",
    "max_pool1d",
    "max_pool2d",
    "maximum",
    "mean",
    "minimum",
    "multi_head_attention",
    "part",
    "power",
    "product",
    "quotient",
    "relu",
    "relu6",
    "rescale",
    "reshape",
    "residual_tanh",
    "scale_channels",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_attention",
    "softplus",
    "spread",
    "squared_error",
    "subtract",
    "tanh",
    "transpose",
    "weight_decay",
    "weighted_sum",
]


def constant(name: str, value: ArrayLike) -> NDArray[Any]:
    """A read-only float copy of `value`; ValueError naming it unless real, finite and nonempty."""
    try:
        raw = onp.asarray(value)
    except Exception as error:  # ragged rows, and whatever an __array__ may raise
        raise ValueError(f"{name} is not an array: {error}") from error
    if raw.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be an array of real numbers; got dtype {raw.dtype}")
    array = onp.array(raw, dtype=float)
    if not array.size or not onp.isfinite(array).all():
        raise ValueError(f"{name} must be finite and nonempty; got shape {raw.shape}, {raw!r:.60}")
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------- affine


def _affine_derivatives(values, output, pieces):
    a, W = values[0], values[1]
    flat, (out, into) = a.reshape(-1, a.shape[-1]), W.shape
    samples, before = len(a), a.shape[:-1]

    def push(i, t):
        if i == 0:
            return t @ W.T
        if i == 1:
            return (flat @ t.swapaxes(1, 2)).reshape(len(t), *before, out)
        return onp.broadcast_to(t.reshape(len(t), *(1 for _ in before), out), (len(t), *before, out))

    def pull(i, c):
        if i == 0:
            return c @ W
        rows = c.reshape(len(c), -1, out)
        return rows.swapaxes(1, 2) @ flat if i == 1 else rows.sum(axis=1)

    def second(i, j, delta, t):
        if i == 0:
            return (delta.reshape(-1, out) @ t).reshape(len(t), *a.shape)
        return delta.reshape(-1, out).T @ t.reshape(len(t), -1, into)

    def view(t):
        return t.reshape(len(t), samples, -1, 1, out)

    def patches(t):
        return t.reshape(len(t), samples, -1, 1, into)

    factors = {1: Factor(a.reshape(samples, -1, 1, into), view, {0: patches})}
    if len(values) == 3:
        factors[2] = Factor(onp.ones((samples, len(flat) // samples, 1, 1)), view)
    return Local(push, pull, second, ((0, 1), (1, 0)), (0,), factors, matrices={0: W})


def _affine_magnitude(values, sizes):
    return sizes[0] @ sizes[1].T + (sizes[2] if len(sizes) == 3 else 0.0)


@closed_form(_affine_derivatives, magnitude=_affine_magnitude)
def affine(a: NDArray[Any], W: NDArray[Any], b: NDArray[Any] | None = None) -> NDArray[Any]:
    """a W^T + b, shape (N, ..., out), for a (N, ..., in), W (out, in), b (out,) or none.

    Raises ValueError for any other shapes: broadcasting a bias would change the number of units.
    """
    if np.ndim(a) < 2 or np.ndim(W) != 2 or a.shape[-1] != W.shape[1]:
        raise ValueError(f"affine takes a (N, ..., in), W (out, in); got {np.shape(a)}, {np.shape(W)}")
    if b is None:
        return np.dot(a, W.T)
    if np.shape(b) != (W.shape[0],):
        raise ValueError(f"affine takes b ({W.shape[0]},) beside W {W.shape}; got {np.shape(b)}")
    return np.dot(a, W.T) + b


# ---------------------------------------------------------------- a residual step


def _residual_tanh_derivatives(values, output, pieces, *, matrix):
    """With u = z A^T + x, s = tanh u: both parents enter through u, z once more as itself. x enters no node linearly,
    so that it has no `Factor`.
    """
    z = values[0]
    s = onp.tanh(z @ matrix.T + values[1][..., None, :])
    slope, bend = 1.0 - s * s, -2.0 * s * (1.0 - s * s)

    def times(t, M):
        return (t.reshape(-1, t.shape[-1]) @ M).reshape(t.shape)

    def moved(i, t):
        """Du along t."""
        return times(t, matrix.T) if i == 0 else t[..., None, :]

    def back(i, c):
        return times(c, matrix) if i == 0 else c.sum(axis=-2)

    def push(i, t):
        image = moved(i, t) * slope
        return t + image if i == 0 else image

    def pull(i, c):
        image = back(i, c * slope)
        return c + image if i == 0 else image

    def second(i, j, delta, t):
        return back(i, moved(j, t) * (delta * bend))

    return Local(push, pull, second, ((0, 0), (1, 0), (0, 1), (1, 1)), (0,))


def _residual_tanh_magnitude(values, sizes, *, matrix):
    t = onp.tanh(values[0] @ matrix.T + values[1])
    return sizes[0] + onp.abs(t) + (1.0 - t * t) * (sizes[0] @ onp.abs(matrix).T + sizes[1])


@closed_form(_residual_tanh_derivatives, magnitude=_residual_tanh_magnitude, broadcasts=True)
def residual_tanh(z: NDArray[Any], x: NDArray[Any], *, matrix: NDArray[Any]) -> NDArray[Any]:
    """z + tanh(z A^T + x), shape (N, d), for z (N, d), x (d,) and a fixed array A = matrix (d, d); else ValueError.

    x is moved into tanh: one step of `models.residual_chain`.
    """
    shapes = np.shape(z), np.shape(x), np.shape(matrix)
    d = shapes[2][0] if shapes[2] else 0
    if len(shapes[0]) != 2 or shapes != ((shapes[0][0], d), (d,), (d, d)):
        raise ValueError("residual_tanh takes z (N, d), x (d,), matrix (d, d); got {}, {}, {}".format(*shapes))
    return z + np.tanh(np.dot(z, matrix.T) + x)


# ---------------------------------------------------------------- loss heads


def _scalar(gradient, second):
    """The Local of a scalar function of one array, a sum over axis 0, from its gradient and Hessian products."""
    span = tuple(range(1, gradient.ndim + 1))

    def push(i, t):
        return onp.sum(t * gradient, axis=span)

    def pull(i, c):
        return c.reshape(-1, *(1 for _ in span)) * gradient

    return Local(push, pull, second, ((0, 0),), (0,) if gradient.ndim else ())


def _squared_error_derivatives(values, output, pieces, targets):
    (y,) = values
    N = len(targets)

    def second(i, j, delta, t):
        return t * (delta / N)

    return _scalar((y - targets) / N, second)


@closed_form(_squared_error_derivatives)
def _squared_error(y, *, targets):
    _check_matched(y, targets)
    return np.sum((y - targets) ** 2) / (2.0 * len(targets))


def squared_error(targets: ArrayLike) -> Callable[..., Any]:
    """The head y -> (1/N) sum_i |y_i - t_i|^2 / 2 for targets t, y of one shape, N first."""
    targets = constant("targets", targets)
    if not targets.ndim:
        raise ValueError("squared_error takes targets (N, ...), N samples; got one number: write [[target]]")
    return partial(_squared_error, targets=targets)


def _cross_entropy_derivatives(values, output, pieces, targets):
    (logits,) = values
    N, mass = len(targets), targets.sum(axis=1, keepdims=True)
    p = onp.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)

    def second(i, j, delta, t):
        tp = t * p
        tp -= p * tp.sum(axis=-1, keepdims=True)
        tp *= mass * (delta / N)
        return tp

    return _scalar((mass * p - targets) / N, second)


@closed_form(_cross_entropy_derivatives)
def _cross_entropy(logits, *, targets):
    _check_matched(logits, targets)
    log_softmax = logits - logsumexp(logits, axis=1, keepdims=True)
    return -np.sum(targets * log_softmax) / len(targets)


def cross_entropy(targets: ArrayLike) -> Callable[..., Any]:
    """The head logits -> (1/N) sum_i -t_i . log softmax(logits_i) for targets t (N, classes).

    The rows of t need not be one-hot, nor sum to 1. Smooth: the logarithm of the sum of
    exponentials is one primitive, whose inner shift by the largest logit leaves no kink behind.
    """
    targets = constant("targets", targets)
    if targets.ndim != 2:
        raise ValueError(f"cross_entropy takes targets (N, classes); got shape {targets.shape}")
    return partial(_cross_entropy, targets=targets)


def _weight_decay_derivatives(values, output, pieces, coefficient):
    def second(i, j, delta, t):
        return t * (delta * coefficient)

    return _scalar(coefficient * values[0], second)


@closed_form(_weight_decay_derivatives)
def _weight_decay(w, *, coefficient):
    return coefficient * np.sum(w**2) / 2.0


def weight_decay(coefficient: float) -> Callable[..., Any]:
    """The head w -> coefficient |w|^2 / 2, one for each parameter that decays."""
    if not (isinstance(coefficient, Real) and onp.isfinite(float(coefficient))):
        raise ValueError(f"coefficient must be a finite number; got {coefficient!r}")
    return partial(_weight_decay, coefficient=float(coefficient))


def _weighted_sum_derivatives(values, output, pieces, weights):
    known = _scalar(weights, None)
    return Local(known.push, known.pull, samplewise=known.samplewise)


@closed_form(_weighted_sum_derivatives)
def _weighted_sum(v, *, weights):
    if np.shape(v) != weights.shape:
        raise ValueError(f"weights {weights.shape} do not match {np.shape(v)}")
    return np.sum(weights * v)


def weighted_sum(weights: ArrayLike) -> Callable[..., Any]:
    """The head v -> sum of weights * v for fixed weights of the shape of v."""
    return partial(_weighted_sum, weights=constant("weights", weights))


def _check_matched(outputs, targets):
    if np.shape(outputs) != targets.shape:
        raise ValueError(f"targets {targets.shape} do not match outputs {np.shape(outputs)}")
