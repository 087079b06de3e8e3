"""Damped Newton directions, (P + lambda I) d = -g, by the shape of P.

P is the Hessian of one selection, a sum of terms R^T C R. Up to 2,000 variables it is one array, dense, or sparse where
its rows are thin. Above that no dense n x n array is formed: thin rows make a sparse P, at most n / 2 (and 2,000) other
rows go through the identity of Woodbury,

    (B + R^T C R)^-1 = B^-1 - B^-1 R^T (C^-1 + R B^-1 R^T)^-1 R B^-1,

and more of them, or an operator given from outside, through conjugate gradients on products [NW06, algorithm 7.1].

[NW06] Nocedal, Wright. Numerical Optimization, 2nd ed., Springer (2006).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, splu

from .composite import DENSE, Model

ARRAY = 2000  # variables above which no dense (n, n) array is formed; dense rows Woodbury takes
THIN = 16  # entries of a row up to which its square goes into a sparse P
REFINED = 1e-8  # residual, relative, that Woodbury may leave after one refinement


@dataclass(frozen=True, eq=False)
class LowRank:
    """P = base + rows^T diag(weights) rows: base (n, n) sparse, rows (m, n) dense, weights (m,)."""

    base: Any
    rows: np.ndarray
    weights: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    def __matmul__(self, v: np.ndarray) -> NDArray[np.float64]:
        return self.base @ v + self.rows.T @ (self.weights * (self.rows @ v).T).T


def selection_element(model: Model, mu: np.ndarray) -> Any:
    """The Hessian of the selection in force: (n, n) dense or sparse, `LowRank`, or a LinearOperator."""
    n = len(model.x)
    if model.parts.size <= DENSE:
        return model.selection_hessian(mu)
    terms = model.selection_terms(mu)
    base, rows, weights = sp.csr_array((n, n)), [sp.csr_array((0, n))], [np.zeros(0)]
    for term in terms:
        if term.weights.ndim == 2 and term.weights.shape[0] > ARRAY:
            return _products(terms, n)
        for block, diagonal in _diagonal(term):
            block = sp.csr_array(block)
            thin = np.diff(block.indptr) <= THIN
            base = base + block[thin].T @ (sp.diags_array(diagonal[thin]) @ block[thin])
            rows.append(block[~thin])
            weights.append(diagonal[~thin])
    rows, weights = sp.vstack(rows, format="csr"), np.concatenate(weights)
    if not len(weights):
        return (base + base.T) / 2
    if n <= ARRAY:
        rows = rows.toarray()
        return base.toarray() + rows.T @ (weights[:, None] * rows)
    if len(weights) <= min(n / 2, ARRAY):
        return LowRank(base, rows.toarray(), weights)
    return _products(terms, n)


def _diagonal(term):
    """The term as a sum of R^T diag(c) R: pairs (R, c)."""
    left, right, C = term.left, term.right, term.weights
    if C.ndim == 2:
        values, vectors = np.linalg.eigh(C)
        live = np.abs(values) > 1e-15 * np.abs(values).max(initial=0.0)
        yield (sp.csr_array(vectors[:, live].T) if sp.issparse(left) else vectors[:, live].T) @ left, values[live]
    elif left is right:
        yield left, C
    else:
        yield left + right, C / 2
        yield left - right, -C / 2


def _products(terms, n):
    def product(v):
        total = np.zeros(n)
        for term in terms:
            C = term.weights if term.weights.ndim == 2 else sp.diags_array(term.weights)
            total += term.left.T @ (C @ (term.right @ v))
            if term.left is not term.right:
                total += term.right.T @ (C @ (term.left @ v))
        return total

    return operator_of(product, n)


def operator_of(P: Any, n: int | None = None) -> LinearOperator:
    """The LinearOperator of a `LowRank`, or of a product v -> P v with n entries."""
    n, product = (P.base.shape[0], P.__matmul__) if isinstance(P, LowRank) else (n, P)
    operator: Any = LinearOperator  # its signature is that of __new__
    return operator((n, n), matvec=lambda v: product(np.ravel(v)), dtype=float)


def direction(g: np.ndarray, P: Any, lam: float, rtol: float = 1e-10) -> np.ndarray | None:
    """d with (P + lam I) d = -g and g . d < 0; lam > 0.

    Where P + lam I is not positive definite: dense, with the absolute values of the eigenvalues of P; sparse, None;
    by products, the conjugate gradients up to the first direction without curvature. rtol: what they leave of |g|.
    """
    if isinstance(P, LowRank):
        d = _woodbury(g, P, lam)
        d = _conjugate_gradients(g, P, lam, rtol) if d is None else d
    elif isinstance(P, LinearOperator):
        d = _conjugate_gradients(g, P, lam, rtol)
    elif sp.issparse(P):
        d = _sparse(g, P, lam)
    else:
        d = _dense(g, P, lam)
    return d if d is not None and np.isfinite(d).all() and g @ d < 0 else None


def _dense(g, P, lam):
    try:
        return -scipy.linalg.cho_solve(scipy.linalg.cho_factor(P + lam * np.eye(len(g))), g)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(P)
        return -vectors @ ((vectors.T @ g) / (np.abs(values) + lam))


def _factored(P, lam):
    """The factors of a sparse P + lam I, or None where it is not positive definite."""
    shifted = sp.csc_matrix(P + lam * sp.eye_array(P.shape[0]))
    try:
        factor = splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError:
        return None
    return factor if (factor.U.diagonal() > 0).all() else None


def _sparse(g, P, lam):
    factor = _factored(P, lam)
    return None if factor is None else -factor.solve(g)


def _woodbury(g, P, lam):
    """None where base + lam I or the weights are not positive, or the residual is not small."""
    factor = _factored(P.base, lam)
    if factor is None or not (P.weights > 0).all():
        return None
    inverse = factor.solve(np.ascontiguousarray(P.rows.T))
    try:
        small = scipy.linalg.cho_factor(np.diag(1 / P.weights) + P.rows @ inverse)
    except np.linalg.LinAlgError:
        return None

    def solve(right):
        once = factor.solve(right)
        return once - inverse @ scipy.linalg.cho_solve(small, P.rows @ once)

    d = -solve(g)
    d -= solve(P @ d + lam * d + g)
    return d if np.linalg.norm(P @ d + lam * d + g) <= REFINED * np.linalg.norm(g) else None


def _conjugate_gradients(g, P, lam, rtol):
    """At most 2 n + 100 products."""
    d, r = np.zeros(len(g)), -g
    p, square = r.copy(), float(r @ r)
    enough = (rtol * rtol) * square
    for _ in range(2 * len(g) + 100):
        Ap = np.ravel(P @ p) + lam * p
        curvature = float(p @ Ap)
        if not curvature > 0:
            return d if d.any() else p
        step = square / curvature
        d, r = d + step * p, r - step * Ap
        square, last = float(r @ r), square
        if square <= enough:
            break
        p = r + (square / last) * p
    return d
