"""Node functions of a network, and the loss heads at its end.

Each is an autograd.numpy function of the arrays of its parents, axis 0 counting samples, and lives
at the top of this module, so that a network of them pickles. A head holds its targets and does its
own averaging. Only `relu` has kinks.
"""
# autograd.numpy has its names at run time only
# pyright: reportAttributeAccessIssue=false

from functools import partial

import autograd.numpy as np
import numpy as onp
from autograd.scipy.special import logsumexp


def constant(name, value):
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


def affine(a, W, b=None):
    """a W^T + b, shape (N, out), for a (N, in), W (out, in), b (out,) or none.

    Raises ValueError for any other shapes: broadcasting a bias would change the number of units.
    """
    if np.ndim(a) != 2 or np.ndim(W) != 2 or a.shape[1] != W.shape[1]:
        raise ValueError(f"affine takes a (N, in), W (out, in); got {np.shape(a)}, {np.shape(W)}")
    if b is None:
        return np.dot(a, W.T)
    if np.shape(b) != (W.shape[0],):
        raise ValueError(f"affine takes b ({W.shape[0]},) beside W {W.shape}; got {np.shape(b)}")
    return np.dot(a, W.T) + b


def linear(z):
    """z itself."""
    return z


def relu(z):
    """max(z, 0), entry by entry: a kink wherever an entry of z is 0."""
    return np.maximum(z, 0.0)


def tanh(z):
    """tanh z, entry by entry."""
    return np.tanh(z)


def sigmoid(z):
    """1 / (1 + exp(-z)), entry by entry, by the half-angle formula, which never overflows."""
    return (1.0 + np.tanh(z / 2.0)) / 2.0


def squared_error(targets):
    """The head y -> (1/N) sum_i |y_i - t_i|^2 / 2 for targets t, y of one shape, N first."""
    return partial(_squared_error, targets=constant("targets", targets))


def cross_entropy(targets):
    """The head logits -> (1/N) sum_i -t_i . log softmax(logits_i) for targets t (N, classes).

    The rows of t need not be one-hot, nor sum to 1. Smooth: the logarithm of the sum of
    exponentials is one primitive, whose inner shift by the largest logit leaves no kink behind.
    """
    targets = constant("targets", targets)
    if targets.ndim != 2:
        raise ValueError(f"cross_entropy takes targets (N, classes); got shape {targets.shape}")
    return partial(_cross_entropy, targets=targets)


def _squared_error(y, *, targets):
    _check_matched(y, targets)
    return np.sum((y - targets) ** 2) / (2.0 * len(targets))


def _cross_entropy(logits, *, targets):
    _check_matched(logits, targets)
    log_softmax = logits - logsumexp(logits, axis=1, keepdims=True)
    return -np.sum(targets * log_softmax) / len(targets)


def _check_matched(outputs, targets):
    if np.shape(outputs) != targets.shape:
        raise ValueError(f"targets {targets.shape} do not match outputs {np.shape(outputs)}")
