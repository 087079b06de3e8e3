"""Activations, entry by entry, with their derivatives in closed form.

`relu`, `leaky_relu`, `relu6`, `hard_tanh` and `absolute` are piecewise linear: at a kink their slope is that of the
chosen piece. The others are smooth.
"""
# autograd.numpy has its names at run time only
# pyright: reportAttributeAccessIssue=false

from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.scipy.special import erf
from numpy.typing import NDArray
from scipy.special import expit

from .local import Local, closed_form


def _along_axis_0(z):
    """The samplewise parents of an entrywise function: its only one, where there is an axis 0."""
    return (0,) if onp.ndim(z) else ()


def _smooth(slope, curvature=None):
    """derivatives of s(z) from s' and s'', functions of (z, s(z)); s'' None where it is zero."""

    def derivatives(values, output, pieces):
        (z,) = values
        first = slope(z, output)

        def along(i, t):
            return t * first

        if curvature is None:
            return Local(along, along, samplewise=_along_axis_0(z))
        bend = curvature(z, output)

        def second(i, j, delta, t):
            return t * (delta * bend)

        return Local(along, along, second, ((0, 0),), _along_axis_0(z))

    return derivatives


def _piecewise(slope):
    """derivatives of a piecewise-linear s(z) from its slope, a function of (z, pieces, **keywords)."""

    def derivatives(values, output, pieces, **keywords):
        (z,) = values
        first = slope(z, pieces, **keywords)

        def along(i, t):
            return t * first

        return Local(along, along, samplewise=_along_axis_0(z))

    return derivatives


def _first_wins(branch):
    """Where the branch of a maximum or a minimum takes its first argument."""
    taken = onp.zeros(int(onp.prod(branch.shape)), dtype=bool)
    taken[branch.wires[0][0]] = True
    return taken.reshape(branch.shape)


def _its_own(values, sizes, **keywords):
    """The guard z, of the size of its terms; also the size of any s with |s(z)| <= |z|."""
    return values[0], sizes[0]


def _size(values, sizes, **keywords):
    return sizes[0]


# Sizes of smooth activations: |f(v)| + |f'(v)| m after every operation that is not linear, as the recorder has it.


def _tanh_size(z, m):
    t = onp.tanh(z)
    return onp.abs(t) + (1.0 - t * t) * m


def _logistic_size(z, m):
    return _logistic(z) + (1.0 + _tanh_size(z / 2.0, (onp.abs(z) + m) / 2.0)) / 2.0


@closed_form(_smooth(lambda z, y: onp.ones_like(z)), magnitude=_size)
def linear(z: NDArray[Any]) -> NDArray[Any]:
    """z itself."""
    return z


@closed_form(
    _piecewise(lambda z, pieces: 1.0 * (z > 0 if pieces is None else _first_wins(pieces[0]))),
    magnitude=_size,
    guards=_its_own,
)
def relu(z: NDArray[Any]) -> NDArray[Any]:
    """max(z, 0), entry by entry: a kink wherever an entry of z is 0."""
    return np.maximum(z, 0.0)


def _leaky_slope(z, pieces, slope=0.01):
    return onp.where(z > 0 if pieces is None else _first_wins(pieces[0]), 1.0, slope)


def _leaky_guards(values, sizes, slope=0.01):
    return (1.0 - slope) * values[0], (1.0 + slope) * sizes[0]


@closed_form(_piecewise(_leaky_slope), magnitude=_size, guards=_leaky_guards)
def leaky_relu(z: NDArray[Any], *, slope: float = 0.01) -> NDArray[Any]:
    """max(z, slope z), entry by entry, 0 <= slope < 1: a kink wherever an entry of z is 0."""
    if not 0 <= slope < 1:
        raise ValueError(f"leaky_relu takes 0 <= slope < 1; got {slope!r}")
    return np.maximum(z, slope * z)


def _clipped(low, high):
    """derivatives and guards of min(max(z, low), high)."""

    def slope(z, pieces):
        if pieces is None:
            return 1.0 * ((z > low) & (z < high))
        return 1.0 * (_first_wins(pieces[0]) & _first_wins(pieces[1]))

    def guards(values, sizes):
        z, size = values[0], sizes[0]
        return onp.stack([z - low, z - high]), onp.stack([size + abs(low), size + abs(high)])

    return closed_form(
        _piecewise(slope), magnitude=lambda values, sizes: sizes[0] + max(abs(low), abs(high)), guards=guards
    )


@_clipped(0.0, 6.0)
def relu6(z: NDArray[Any]) -> NDArray[Any]:
    """min(max(z, 0), 6), entry by entry: kinks at 0 and 6."""
    return np.minimum(np.maximum(z, 0.0), 6.0)


@_clipped(-1.0, 1.0)
def hard_tanh(z: NDArray[Any]) -> NDArray[Any]:
    """min(max(z, -1), 1), entry by entry: kinks at -1 and 1."""
    return np.minimum(np.maximum(z, -1.0), 1.0)


def _side(z, pieces):
    if pieces is None:
        return onp.sign(z)
    (out, _, coef), side = pieces[0].wires[0], onp.zeros(z.size)
    side[out] = coef
    return side.reshape(z.shape)


@closed_form(_piecewise(_side), magnitude=_size, guards=_its_own)
def absolute(z: NDArray[Any]) -> NDArray[Any]:
    """|z|, entry by entry: a kink wherever an entry of z is 0."""
    return np.abs(z)


@closed_form(
    _smooth(lambda z, y: 1.0 - y * y, lambda z, y: -2.0 * y * (1.0 - y * y)),
    magnitude=lambda values, sizes: _tanh_size(values[0], sizes[0]),
)
def tanh(z: NDArray[Any]) -> NDArray[Any] | float:
    """tanh z, entry by entry."""
    return np.tanh(z)


@closed_form(
    _smooth(lambda z, y: y * (1.0 - y), lambda z, y: y * (1.0 - y) * (1.0 - 2.0 * y)),
    magnitude=lambda values, sizes: _logistic_size(values[0], sizes[0]),
)
def sigmoid(z: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-z)), entry by entry, by the half-angle formula, which never overflows."""
    return (1.0 + np.tanh(z / 2.0)) / 2.0


_logistic = expit  # exact in relative terms, far out too


@closed_form(
    _smooth(lambda z, y: _logistic(z), lambda z, y: _logistic(z) * _logistic(-z)),
    magnitude=lambda values, sizes: onp.logaddexp(values[0], 0.0) + _logistic(values[0]) * sizes[0],
)
def softplus(z: NDArray[Any]) -> NDArray[Any]:
    """log(1 + exp z), entry by entry, without overflow."""
    return np.logaddexp(z, 0.0)


def _density(z):
    return onp.exp(-z * z / 2.0) / onp.sqrt(2.0 * onp.pi)


def _gelu_size(values, sizes):
    (z,), (m,) = values, sizes
    e = erf(z / onp.sqrt(2.0))
    return onp.abs(z) * (1.0 + e) / 2.0 + m * (1.0 + onp.abs(e) + 2.0 * _density(z) * (onp.abs(z) + m)) / 2.0


@closed_form(
    _smooth(
        lambda z, y: (1.0 + erf(z / onp.sqrt(2.0))) / 2.0 + z * _density(z),
        lambda z, y: (2.0 - z * z) * _density(z),
    ),
    magnitude=_gelu_size,
)
def gelu(z: NDArray[Any]) -> NDArray[Any]:
    """z Phi(z), entry by entry, Phi the standard normal distribution function (Hendrycks & Gimpel 2016, exact form)."""
    return z * (1.0 + erf(z / onp.sqrt(2.0))) / 2.0


def _silu_size(values, sizes):
    (z,), (m,) = values, sizes
    return onp.abs(z) * _logistic(z) + m * (1.0 + _tanh_size(z / 2.0, (onp.abs(z) + m) / 2.0)) / 2.0


def _silu_curvature(z, y):
    s = _logistic(z)
    return s * (1.0 - s) * (2.0 + z * (1.0 - 2.0 * s))


@closed_form(
    _smooth(lambda z, y: _logistic(z) + y * _logistic(-z), _silu_curvature),
    magnitude=_silu_size,
)
def silu(z: NDArray[Any]) -> NDArray[Any]:
    """z sigmoid(z), entry by entry."""
    return z * (1.0 + np.tanh(z / 2.0)) / 2.0
