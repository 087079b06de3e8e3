"""Functions with kinks at 0 whose pieces are known, and hulls by their faces: none of the rooms that are judged.

    f(x) = c.x + x.A x / 2 + sum_k max(w_k.x, 0) (b_k + q_k.x),    x in R^n, n <= 2,

is the loss of a network with one layer of ReLU units, read out linearly and by products. On the cell of signs s its
gradient at 0 is c + sum_{s_k > 0} b_k w_k and its Hessian A + sum_{s_k > 0} (w_k q_k^T + q_k w_k^T). It is C^{1,1}
if every b_k is 0 and every q_k a multiple of w_k: then f bends and its gradient does not jump.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import autograd.numpy as anp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .statements import Case, Evidence


def numbers(case: Case, name: str, shape: int | tuple[int, int]) -> NDArray[np.float64]:
    """An array of the case, zeros of the shape where the case leaves it out."""
    return np.asarray(case[name], float) if name in case else np.zeros(shape)


def read(case: Case) -> tuple[NDArray[np.float64], ...]:
    """(c, A, W, b, Q) of f, A symmetrized; W (k, n) must be there."""
    W = np.asarray(case["W"], float)
    k, n = W.shape
    A = numbers(case, "A", (n, n))
    return numbers(case, "c", n), (A + A.T) / 2, W, numbers(case, "b", k), numbers(case, "Q", (k, n))


def kinked(case: Case) -> Callable[..., Any]:
    """f as an autograd function of x (n,)."""
    c, A, W, b, Q = read(case)

    def f(x):
        return anp.dot(c, x) + anp.dot(x, anp.dot(A, x)) / 2 + anp.dot(anp.maximum(anp.dot(W, x), 0), b + anp.dot(Q, x))

    return f


def cells(W: ArrayLike) -> NDArray[np.float64]:
    """One direction inside each cell of the central lines w_k.x = 0, n = 1 or 2: none lies on a line."""
    W = np.asarray(W, float)
    if not W.any():
        return np.eye(W.shape[1])[:1]
    if W.shape[1] == 1:
        return np.array([[1.0], [-1.0]])
    lines = np.arctan2(W[:, 1], W[:, 0])[np.any(W, axis=1)] + np.pi / 2
    angles = np.unique(np.round(np.append(lines, lines + np.pi) % (2 * np.pi), 12) % (2 * np.pi))
    middles = (angles + np.append(angles[1:], angles[0] + 2 * np.pi)) / 2
    return np.stack([np.cos(middles), np.sin(middles)], axis=1)


def slope(case: Case, x: np.ndarray) -> NDArray[np.float64]:
    """The gradient of f at x on no kink."""
    c, A, W, b, Q = read(case)
    z = W @ x
    return c + A @ x + ((z > 0) * (b + Q @ x)) @ W + np.maximum(z, 0) @ Q


def pieces(case: Case) -> tuple[Any, ...]:
    """(gradients (m, n), Hessians (m, n, n)) at 0 of the pieces of f, one a cell."""
    c, A, W, b, Q = read(case)
    on = (cells(W) @ W.T > 0).astype(float)
    half = np.einsum("mk,ki,kj->mij", on, W, Q)
    return c + (on * b) @ W, A + half + half.swapaxes(1, 2)


def least_by_faces(points: np.ndarray) -> np.ndarray:
    """The element of least Euclidean norm of the hull of points (m, ...): the least over all faces of their vertices.

    On the right face the weights solve G w = mu 1, sum w = 1 with G the Gram matrix, and are nonnegative.
    """
    flat = np.unique(np.reshape(points, (len(points), -1)), axis=0)
    best = min(flat, key=lambda p: p @ p)
    for size in range(2, len(flat) + 1):
        for chosen in combinations(range(len(flat)), size):
            V = flat[list(chosen)]
            ones = np.ones((size, 1))
            system = np.block([[V @ V.T, ones], [ones.T, np.zeros((1, 1))]])
            w = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)[0][:size]
            if w.min() >= -1e-12 and abs(w.sum() - 1) < 1e-9 and (w @ V) @ (w @ V) < best @ best:
                best = w @ V
    return best.reshape(np.shape(points)[1:])


def same_set(**sides: Sequence[Sequence[Any]] | np.ndarray) -> Evidence:
    """Two named finite sets of arrays that should be one: their Hausdorff distance, relative to the second."""
    (_, first), (_, second) = sides.items()
    a, b = (np.reshape(np.asarray(side, float), (len(side), -1)) for side in (first, second))
    apart = np.abs(a[:, None] - b[None]).max(axis=2)
    distance = max(apart.min(axis=1).max(), apart.min(axis=0).max())
    return Evidence(float(distance / max(1.0, np.abs(b).max())), sides)


# ---------------------------------------------------------------- what domains draw


def whole(rng: np.random.Generator, *shape: int, top: int = 2) -> np.ndarray:
    """Whole numbers in [-top, top]: lines with such normals meet at angles of at least 1/8."""
    return rng.integers(-top, top + 1, size=shape or None)


def bends(rng: np.random.Generator, top: int = 3) -> dict[str, np.ndarray]:
    """f with kinks that bend it and do not make its gradient jump: C^{1,1}."""
    n, k = int(rng.integers(1, 3)), int(rng.integers(1, top + 1))
    W, bend = whole(rng, k, n), whole(rng, k)
    half = whole(rng, n, n)
    return {"c": whole(rng, n), "A": half + half.T, "W": W, "Q": bend[:, None] * W}


def bends_or_jumps(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One of `bends`, or with a jump of the gradient at 0, or along lines through 0 alone."""
    case, kind = bends(rng), rng.choice(["bends", "jumps", "jumps off 0"])
    k, n = case["W"].shape
    if kind == "jumps":
        return case | {"b": whole(rng, k)}
    return case | {"Q": whole(rng, k, n)} if kind == "jumps off 0" else case


ALMOST_EVERY = np.sqrt([2.0, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71]) / 1024


def generic(x: np.ndarray) -> NDArray[np.float64]:
    """x moved off every kink with rational coefficients: 1, sqrt 2, sqrt 3, sqrt 5, ... are independent over them."""
    x = np.asarray(x, float)
    return x + ALMOST_EVERY[: x.size].reshape(x.shape)
