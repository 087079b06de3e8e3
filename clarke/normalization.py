"""Batch and layer normalization, with their derivatives in closed form.

Over one group of m entries, with mean mu and variance v (divided by m), h = (x - mu) / s, s = sqrt(v + eps). Then

    h'(x) = J = (I - 1 1^T / m - h h^T / m) / s,                                   symmetric,
    h''(x)[t, u] = -(<h, t> J u + <h, u> J t + <t, J u> h) / (m s),

by differentiating s = sqrt(|x - mu|^2 / m + eps), s'[t] = <h, t> / m. Everything smooth, since eps > 0.
"""
# autograd.numpy has its names at run time only
# pyright: reportAttributeAccessIssue=false

from math import prod
from typing import Any

import autograd.numpy as np
import numpy as onp
from numpy.typing import NDArray

from .local import Factor, Local, closed_form

BLOCK = 2**15  # numbers of directions taken through all steps of a product at a time: they stay in cache


def _normalized(x, gamma, beta, eps, axes, feature):
    """h over each group of `axes`, times gamma, plus beta along the axis `feature`."""
    centered = x - np.mean(x, axis=axes, keepdims=True)
    h = centered / np.sqrt(np.mean(centered**2, axis=axes, keepdims=True) + eps)
    along = [-1 if k == feature else 1 for k in range(np.ndim(x))]
    if gamma is not None:
        h = h * np.reshape(gamma, along)
    return h if beta is None else h + np.reshape(beta, along)


def _checked(name, x, gamma, beta, eps, feature):
    """ValueError unless gamma and beta have one number for each entry of the axis `feature`, and eps > 0."""
    for role, theta in (("gamma", gamma), ("beta", beta)):
        if theta is not None and np.shape(theta) != (np.shape(x)[feature],):
            raise ValueError(
                f"{name} takes {role} ({np.shape(x)[feature]},) beside x {np.shape(x)}; got {np.shape(theta)}"
            )
    if not (isinstance(eps, int | float | onp.number) and 0 < eps < onp.inf):
        raise ValueError(f"{name}: eps is a number > 0, to keep the root of the variance smooth; got {eps!r}")


def _derivatives(values, eps, axes, feature):
    """Products of gamma h(x) + beta; gamma and beta have the diagonal `Factor`, with bases h and 1."""
    x, N = values[0], len(values[0])
    along = [-1 if k == feature else 1 for k in range(x.ndim)]
    gamma = values[1].reshape(along) if len(values) > 1 else 1.0
    centered = x - x.mean(axis=axes, keepdims=True)
    s = onp.sqrt((centered**2).mean(axis=axes, keepdims=True) + eps)
    h, others = centered / s, tuple(k + 1 for k in range(x.ndim) if k != feature)

    def mean(t):
        return t.mean(axis=tuple(k + 1 for k in axes), keepdims=True)

    def slope(t):
        """J t; t (R, *x)."""
        image = t - mean(t)
        image -= h * mean(h * t)
        image /= s
        return image

    def spread(t):
        """t (R, features) along its axis, (R, 1, features, 1)."""
        return t.reshape(len(t), *along)

    def push(i, t):
        if i == 0:
            return _blockwise(lambda t: gamma * slope(t), t, x.shape)
        return spread(t) * h if i == 1 else onp.broadcast_to(spread(t), (len(t), *x.shape))

    def pull(i, c):
        if i == 0:
            return _blockwise(lambda c: slope(gamma * c), c, x.shape)
        return _blockwise(lambda c: (c * h if i == 1 else c).sum(axis=others), c, values[i].shape)

    def second(i, j, delta, t):
        if (i, j) == (0, 1):
            return _blockwise(lambda t: slope(delta * spread(t)), t, x.shape)
        if i == 1:
            return _blockwise(lambda t: (delta * slope(t)).sum(axis=others), t, values[1].shape)
        weight = (gamma * delta)[None]
        tilted, level = slope(weight) / s, mean(h * weight) / s

        def bent(t):
            image = slope(t)
            total = h * mean(weight * image) / -s
            total -= mean(h * t) * tilted
            total -= level * image
            return total

        return _blockwise(bent, t, x.shape)

    def view(t):
        return onp.moveaxis(t, feature + 1, -1).reshape(len(t), N, -1, x.shape[feature], 1)

    basis = view(h[None])[0]
    known = {1: Factor(basis, view, {0: lambda t: view(slope(t))}), 2: Factor(onp.ones(basis.shape), view)}
    curved = {(0, 0), (0, 1), (1, 0)} if len(values) > 1 else {(0, 0)}
    factors = {i: known[i] for i in range(1, len(values))}
    return Local(push, pull, second, frozenset(curved), frozenset() if 0 in axes else frozenset({0}), factors)


def _blockwise(product, t, shape):
    """product(t) (R, *shape) of directions t (R, ...), some at a time."""
    found, step = onp.empty((len(t), *shape)), max(1, BLOCK // max(prod(shape), prod(t.shape[1:])))
    for start in range(0, len(t), step):
        found[start : start + step] = product(t[start : start + step])
    return found


def _magnitude(values, sizes, eps, axes, feature):
    """What the recording has, to first order in the sizes m of x: with c = x - mu, m(c) = m + mean(m) and

    m(s) = 3 s / 2 + mean(|h| m(c)), |h| + (m(c) + |h| m(s)) / s, times the size of gamma, plus that of beta.
    """
    x, size = values[0], sizes[0]
    centered = x - x.mean(axis=axes, keepdims=True)
    s = onp.sqrt((centered**2).mean(axis=axes, keepdims=True) + eps)
    h, size = onp.abs(centered) / s, size + size.mean(axis=axes, keepdims=True)
    total = h + (size + h * (1.5 * s + (h * size).mean(axis=axes, keepdims=True))) / s
    along = [-1 if k == feature else 1 for k in range(x.ndim)]
    if len(sizes) > 1:
        total = total * onp.reshape(sizes[1], along)
    return total + onp.reshape(sizes[2], along) if len(sizes) > 2 else total


# ---------------------------------------------------------------- over the batch


def _batch_axes(x, gamma=None, beta=None, *, eps=1e-5, axes=None):
    """The axes of the groups, or ValueError."""
    ndim = np.ndim(x)
    if ndim < 2:
        raise ValueError(f"batch_norm takes x (N, C) or (N, C, ...); got shape {np.shape(x)}")
    _checked("batch_norm", x, gamma, beta, eps, 1)
    if axes is None:
        return tuple(k for k in range(ndim) if k != 1)
    chosen = tuple(axes) if isinstance(axes, tuple | list) else (axes,)
    if not chosen or len(set(chosen)) < len(chosen) or not all(k in range(ndim) and k != 1 for k in chosen):
        raise ValueError(
            f"batch_norm: axes are distinct axes of x {np.shape(x)} other than 1, the channels; got {axes!r}"
        )
    return tuple(int(k) for k in chosen)


def _batch_derivatives(values, output, pieces, *, eps=1e-5, axes=None):
    return _derivatives(values, eps, _batch_axes(*values, eps=eps, axes=axes), 1)


def _batch_magnitude(values, sizes, *, eps=1e-5, axes=None):
    return _magnitude(values, sizes, eps, _batch_axes(*values, eps=eps, axes=axes), 1)


@closed_form(_batch_derivatives, magnitude=_batch_magnitude)
def batch_norm(
    x: NDArray[Any],
    gamma: NDArray[Any] | None = None,
    beta: NDArray[Any] | None = None,
    *,
    eps: float = 1e-5,
    axes: tuple[int, ...] | None = None,
) -> NDArray[Any]:
    """gamma (x - mu) / sqrt(v + eps) + beta, mu and v the mean and variance of x over `axes`: training mode.

    x (N, C) or (N, C, ...); gamma, beta (C,) or none. axes: default all but the channels, axis 1; it couples the
    samples whenever it contains 0. No running averages. ValueError for other shapes, eps <= 0, or axes with 1 in it.
    [IS15] Ioffe, Szegedy. ICML 2015.
    """
    axes = _batch_axes(x, gamma, beta, eps=eps, axes=axes)
    return _normalized(x, gamma, beta, eps, axes, 1)


# ---------------------------------------------------------------- over the features of a sample


def _layer_axis(x, gamma=None, beta=None, *, eps=1e-5):
    """The last axis, or ValueError."""
    if np.ndim(x) < 2:
        raise ValueError(f"layer_norm takes x (N, ..., D); got shape {np.shape(x)}")
    _checked("layer_norm", x, gamma, beta, eps, -1)
    return np.ndim(x) - 1


def _layer_derivatives(values, output, pieces, *, eps=1e-5):
    last = _layer_axis(*values, eps=eps)
    return _derivatives(values, eps, (last,), last)


def _layer_magnitude(values, sizes, *, eps=1e-5):
    last = _layer_axis(*values, eps=eps)
    return _magnitude(values, sizes, eps, (last,), last)


@closed_form(_layer_derivatives, magnitude=_layer_magnitude)
def layer_norm(
    x: NDArray[Any], gamma: NDArray[Any] | None = None, beta: NDArray[Any] | None = None, *, eps: float = 1e-5
) -> NDArray[Any]:
    """gamma (x - mu) / sqrt(v + eps) + beta, mu and v the mean and variance of x over its last axis.

    x (N, ..., D); gamma, beta (D,) or none. ValueError for other shapes or eps <= 0.
    [BKH16] Ba, Kiros, Hinton. arXiv:1607.06450.
    """
    last = _layer_axis(x, gamma, beta, eps=eps)
    return _normalized(x, gamma, beta, eps, (last,), last)
