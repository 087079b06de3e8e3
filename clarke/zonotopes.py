"""The point of a zonotope nearest to a target: 2^k vertices, never listed.

Where k gates act independently, each adding its own g_j or not, the elements are c + sum_{j in J} g_j over all J, and
their hull is the zonotope {c + sum_j x_j g_j : 0 <= x_j <= 1}. Nearest to T is one least squares on a box,

    min over 0 <= x <= 1 of |c + x G - T|,

and the certificate needs no vertex either: with e = P - T and h_j = <g_j, e>,

    max over vertices v of <e, P - v> = sum_j x_j max(h_j, 0) + (1 - x_j) max(-h_j, 0).

Gradients whose gates enter affinely make one; Hessians of a squared loss do not, for there products of gates appear.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dtrtrs
from scipy.optimize import lsq_linear

from .least_norm import EPS, LONG, padded_root, proximal_points


@dataclass(frozen=True, eq=False)
class Zonotope:
    """{center + sum_j x_j generators[j] : 0 <= x_j <= 1}: the hull of the sums over independent gates.

    center: an array, the element with every gate shut. generators: (k, ...), k >= 0, what each open gate adds, of the
    shape of the center. `min_norm_element`, `nearest_element`, `contains` and `support` take it for elements;
    `vertices()` lists it for small k. ValueError on NaN, infinity, or shapes that differ.
    """

    center: np.ndarray
    generators: np.ndarray

    def __post_init__(self) -> None:
        for name in ("center", "generators"):
            object.__setattr__(self, name, _read_only(name, getattr(self, name)))
        if self.generators.ndim == 0 or self.generators.shape[1:] != self.center.shape or not self.center.size:
            raise ValueError(
                f"generators must be stacked as (k, ...) over the shape {self.center.shape} of the center, with "
                f"entries; got {self.generators.shape}"
            )

    def __len__(self) -> int:
        return len(self.generators)

    def vertices(self) -> np.ndarray:
        """(2^k, ...): every sum of generators on the center, some of them perhaps not extreme. Memory is the limit."""
        sums = self.center[None]
        for g in self.generators:
            sums = np.concatenate([sums, sums + g])
        return sums


def _read_only(name: str, given: Any) -> np.ndarray:
    try:
        array = np.array(given)
    except ValueError:
        array = np.array(None)  # ragged
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be an array of real numbers; got {type(given).__name__}")
    with np.errstate(over="ignore"):  # a long double may be beyond the doubles
        array = array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; a zonotope needs finite entries")
    array.flags.writeable = False
    return array


def gap(G: np.ndarray, c: np.ndarray, x: np.ndarray) -> float:
    """max over vertices v of <P, P - v>, P = c + x @ G, over the mean of |v|^2: that is |c + sum G / 2|^2 + |G|^2 / 4.

    The mean is below the maximum, so this is more severe than the gap of a list of vertices. G (k, n), c (n,).
    """
    h = G @ (c + x @ G)
    middle = c + G.sum(axis=0) / 2
    mean = float(middle @ middle + np.vdot(G, G) / 4)
    return float(x @ np.maximum(h, 0) + (1 - x) @ np.maximum(-h, 0)) / mean if mean else 0.0


def box_weights(G: np.ndarray, c: np.ndarray) -> Iterator[np.ndarray]:
    """x (k,) in [0, 1] toward argmin |c + x G|: proximal points, and last the active set of scipy's lsq_linear."""
    k, n = G.shape
    if n > LONG * k:
        L = padded_root(dsyrk(1.0, G.T, trans=1, lower=1))
        d = dtrtrs(L, -(G @ c), lower=1)[0]
        yield from proximal_points(L, d)
    else:
        yield from proximal_points(G, -c)
    lengths = np.linalg.norm(G, axis=1)
    lengths[lengths == 0] = 1.0
    columns = (G / lengths[:, None]).T  # of one length: a short generator counts as much as a long one
    for tol in (1e-10, EPS**2):  # the second ends in NaN at times, after a step of no length
        with np.errstate(divide="ignore", invalid="ignore"):
            found = lsq_linear(columns, -c, bounds=(0, lengths), method="bvls", tol=tol, max_iter=10 * k)
        yield np.clip(found.x / lengths, 0.0, 1.0)
