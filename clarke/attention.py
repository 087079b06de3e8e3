"""Softmax and attention, with their derivatives in closed form.

With scores S = Q K^T / sqrt(d), weights P = softmax(S) row by row and Y = P V, a cotangent G of Y pulls back to

    A = G V^T,    B = P o (A - rowsum(P o A)),    dQ = B K / sqrt(d),    dK = B^T Q / sqrt(d),    dV = P^T G,

(o entrywise) and the second derivatives differentiate these three lines once more along one argument, G fixed.
"""
# autograd.numpy has its names at run time only
# pyright: reportAttributeAccessIssue=false

from functools import lru_cache
from math import sqrt
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.scipy.special import logsumexp
from numpy.typing import NDArray

from .local import Local, closed_form

# ---------------------------------------------------------------- softmax


def _weights(scores):
    """softmax over the last axis; -inf has weight 0."""
    raised = onp.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _tilt(P, t):
    """P o (t - rowsum(P o t)): the derivative of softmax at weights P along t, which is symmetric."""
    return P * (t - (P * t).sum(axis=-1, keepdims=True))


def _tilt_along(P, moved, t):
    """The derivative of `_tilt(P, t)` when P moves along `moved`, whose rows sum to 0."""
    level, change = ((W * t).sum(axis=-1, keepdims=True) for W in (P, moved))
    return moved * (t - level) - P * change


def _softmax_derivatives(values, output, pieces):
    """D softmax = diag(p) - p p^T row by row."""

    def along(i, t):
        return _tilt(output, t)

    def second(i, j, delta, t):
        return _tilt_along(output, _tilt(output, t), delta)

    return Local(along, along, second, frozenset({(0, 0)}), frozenset({0} if output.ndim > 1 else ()))


def _softmax_magnitude(values, sizes):
    """p (1 + m + |logsumexp| + max m), to first order in the sizes m, as the recording has it."""
    return _shaken(_weights(values[0]), values[0], sizes[0])


def _shaken(P, scores, sizes):
    level = onp.abs(logsumexp(scores, axis=-1, keepdims=True))
    return P * (1 + sizes + level + sizes.max(axis=-1, keepdims=True))


@closed_form(_softmax_derivatives, magnitude=_softmax_magnitude)
def softmax(z: NDArray[Any]) -> NDArray[Any]:
    """exp(z_k) / sum_l exp(z_l) over the last axis, without overflow. ValueError if z has none."""
    if np.ndim(z) == 0:
        raise ValueError("softmax takes z (..., classes); got a scalar: give it an axis")
    return np.exp(z - logsumexp(z, axis=-1, keepdims=True))


# ---------------------------------------------------------------- attention


def _require_fit(name, Q, K, V, heads=1, causal=False):
    shapes = [np.shape(a) for a in (Q, K, V)]
    q, k, v = shapes
    got = ", ".join(map(str, shapes))
    if any(len(s) != 3 for s in shapes) or not (q[0] == k[0] == v[0] and q[2] == k[2] and k[1] == v[1]):
        raise ValueError(f"{name} takes Q (N, T, d), K (N, S, d), V (N, S, e); got {got}")
    if causal and q[1] != k[1]:
        raise ValueError(f"{name}: causal needs as many queries as keys, T = S; got {got}")
    if isinstance(heads, bool) or not isinstance(heads, int | onp.integer) or heads < 1 or q[2] % heads or v[2] % heads:
        raise ValueError(f"{name}: heads is an int >= 1 that divides d = {q[2]} and e = {v[2]}; got {heads!r}")


@lru_cache(maxsize=256)
def _earlier(T):
    """(rows, columns, allowed) of causal attention: i, min(j, i), and 1.0 where j <= i."""
    rows, columns = onp.arange(T)[:, None], onp.arange(T)
    tables = rows, onp.minimum(rows, columns), (columns <= rows).astype(float)
    for table in tables:
        table.flags.writeable = False
    return tables


def _attended(Q, K, V, heads, causal):
    """Traceable. A causal score after its query is replaced by that of the query's own key, and then given weight 0:
    no infinity is recorded, and no large number either, whose size would pass for a rounding error of the scores.
    """
    N, T, d = Q.shape

    def split(a):
        return np.transpose(np.reshape(a, (N, a.shape[1], heads, a.shape[2] // heads)), (0, 2, 1, 3))

    scores = np.matmul(split(Q), np.transpose(split(K), (0, 1, 3, 2))) / sqrt(d // heads)
    if causal:
        rows, columns, allowed = _earlier(T)
        scores = scores[:, :, rows, columns]
    P = np.exp(scores - logsumexp(scores, axis=-1, keepdims=True))
    if causal:
        P = P * allowed
        P = P / np.sum(P, axis=-1, keepdims=True)
    return np.reshape(np.transpose(np.matmul(P, split(V)), (0, 2, 1, 3)), (N, T, V.shape[2]))


def _split(a, heads):
    """(..., T, d) -> (..., heads, T, d / heads)."""
    return a.reshape(*a.shape[:-1], heads, -1).swapaxes(-2, -3)


def _merged(a):
    """The inverse of `_split`."""
    a = a.swapaxes(-2, -3)
    return a.reshape(*a.shape[:-2], -1)


def _scores(Q, K, heads, causal):
    scores = _split(Q, heads) @ _split(K, heads).swapaxes(-1, -2) / sqrt(Q.shape[-1] // heads)
    return onp.where(_earlier(Q.shape[1])[2] > 0, scores, -onp.inf) if causal else scores


def _attention_derivatives(values, output, pieces, *, heads=1, causal=False):
    """Products of Y = softmax(Q K^T / sqrt(d)) V, curved in every pair but (V, V); all heads, directions at once."""
    Q, K, V = (_split(value, heads) for value in values)
    P, root = _weights(_scores(values[0], values[1], heads, causal)), sqrt(values[0].shape[2] // heads)

    def transposed(a):
        return a.swapaxes(-1, -2)

    def weights_along(i, t):
        """The derivative of P along t in Q or K."""
        return _tilt(P, (t @ transposed(K) if i == 0 else Q @ transposed(t)) / root)

    def push(i, t):
        t = _split(t, heads)
        return _merged(P @ t if i == 2 else weights_along(i, t) @ V)

    def pull(i, c):
        c = _split(c, heads)
        if i == 2:
            return _merged(transposed(P) @ c)
        B = _tilt(P, c @ transposed(V))
        return _merged((B @ K if i == 0 else transposed(B) @ Q) / root)

    def second(i, j, delta, t):
        delta, t = _split(delta, heads), _split(t, heads)
        if i == 2:
            return _merged(transposed(weights_along(j, t)) @ delta)
        A = delta @ transposed(V)
        B_moved = _tilt(P, delta @ transposed(t)) if j == 2 else _tilt_along(P, weights_along(j, t), A)
        moved = B_moved @ K if i == 0 else transposed(B_moved) @ Q
        if {i, j} == {0, 1}:
            B = _tilt(P, A)
            moved += B @ t if i == 0 else transposed(B) @ t
        return _merged(moved / root)

    curved = frozenset((i, j) for i in range(3) for j in range(3) if (i, j) != (2, 2))
    return Local(push, pull, second, curved, frozenset({0, 1, 2}))


def _attention_magnitude(values, sizes, *, heads=1, causal=False):
    """Sizes of the weights as the recording has them, from those of the scores, times the sizes of V."""
    scores = _scores(values[0], values[1], heads, False)
    terms = _scores(sizes[0], sizes[1], heads, False) + onp.abs(scores)
    if causal:
        rows, columns, allowed = _earlier(scores.shape[-1])
        P = _weights(onp.where(allowed > 0, scores, -onp.inf))
        shaken = _shaken(P, scores[..., rows, columns], terms[..., rows, columns])
        shaken = P + shaken + P * shaken.sum(axis=-1, keepdims=True)
    else:
        shaken = _shaken(_weights(scores), scores, terms)
    return _merged(shaken @ _split(sizes[2], heads))


@closed_form(_attention_derivatives, magnitude=_attention_magnitude)
def softmax_attention(Q: NDArray[Any], K: NDArray[Any], V: NDArray[Any], *, causal: bool = False) -> NDArray[Any]:
    """softmax(Q K^T / sqrt(d)) V, sample by sample; with `causal` a query at i sees the keys at j <= i only.

    Q (N, T, d), K (N, S, d), V (N, S, e) -> (N, T, e); T = S if causal. ValueError for other shapes.
    [VSP17] Vaswani et al. NeurIPS 2017, (1).
    """
    _require_fit("softmax_attention", Q, K, V, causal=causal)
    return _attended(Q, K, V, 1, causal)


@closed_form(_attention_derivatives, magnitude=_attention_magnitude)
def multi_head_attention(
    Q: NDArray[Any], K: NDArray[Any], V: NDArray[Any], *, heads: int, causal: bool = False
) -> NDArray[Any]:
    """`softmax_attention` of each of `heads` equal runs of the features of Q, K and V, put side by side.

    Q (N, T, d), K (N, S, d), V (N, S, e) -> (N, T, e). The projections of [VSP17, 3.2.2] are layers of their own.
    ValueError for other shapes, or heads that do not divide d and e.
    """
    _require_fit("multi_head_attention", Q, K, V, heads, causal)
    return _attended(Q, K, V, heads, causal)
