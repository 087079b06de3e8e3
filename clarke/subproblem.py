"""Convex quadratic programs: min q . z + z . B z / 2 subject to A z <= b, with b >= 0, dense or sparse.

First the primal-dual active set method [HIK02] from a guess, one factorization a change of the set: near a solution of
a sequence of programs the guess is right, and the answer is exact to rounding. Where it cycles, Mehrotra's
predictor-corrector interior point method [M92] finds the set, and the active set method sharpens its answer.

[HIK02] Hintermueller, Ito, Kunisch. SIAM J. Optim. 13 (2002) 865-888.
[M92] Mehrotra. SIAM J. Optim. 2 (1992) 575-601.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

EXACT = 1e-11  # relative: what an answer of the active set method may miss
TURNS = 12  # changes of the active set before it is called a cycle
INTERIOR = 60
FLOOR = 1e-4


@dataclass(frozen=True, eq=False)
class Solution:
    """z (N,), multipliers (R,) >= 0 of the rows, and the largest residual of the optimality conditions, relative."""

    z: np.ndarray
    multipliers: np.ndarray
    residual: float


def quadratic_program(
    B: Any, q: np.ndarray, A: Any, b: np.ndarray, guess: np.ndarray | None = None, unit: float = 1.0
) -> Solution | None:
    """Solve it; guess (R,) bool: rows thought to hold with equality. None where no answer is better than nothing.

    B (N, N) symmetric and positive semidefinite, positive definite where A z = 0; q (N,); A (R, N); b (R,) >= 0. unit:
    the length in which z is measured; a violation below 1e-15 of it is none.
    """
    if not q.any():
        return Solution(np.zeros(len(q)), np.zeros(len(b)), 0.0)
    if not len(b):
        z = _solve(B, -q)
        return None if z is None else Solution(z, np.zeros(0), 0.0)
    steep = max(float(abs(A).max()), 1e-300)
    floor = FLOOR * unit * steep
    if guess is not None:
        found = _active_set(B, q, A, b, guess, floor)
        if found is not None:
            return found
    inner = _interior(B, q, A, b, FLOOR * unit)
    if inner is None:
        return None
    y, s = inner.multipliers, b - A @ inner.z
    weight = np.linalg.norm(q) or 1.0
    reach = max(np.abs(b).max(), np.abs(inner.z).max(), floor, 1e-300)
    found = _active_set(B, q, A, b, y / weight > s / reach, floor)
    return found or inner


def _solve(B, right):
    try:
        if sp.issparse(B):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                z = splu(sp.csc_matrix(B)).solve(right)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error", scipy.linalg.LinAlgWarning)
                z = scipy.linalg.solve(B, right, assume_a="sym")
    except (np.linalg.LinAlgError, scipy.linalg.LinAlgWarning, RuntimeError, Warning, ValueError):
        return None
    return z if np.all(np.isfinite(z)) else None


def _residual(B, q, A, b, z, y, floor):
    """Relative violation of the four conditions; 0 at a solution."""
    force = B @ z + q + A.T @ y
    size = np.abs(q).max(initial=0.0) + np.abs(B @ z).max(initial=0.0) + 1e-300
    slack = b - A @ z
    reach = np.abs(b).max(initial=0.0) + np.abs(A @ z).max(initial=0.0) + floor + 1e-300
    top = np.abs(y).max(initial=0.0) + size / max(float(abs(A).max()), 1e-300)
    return float(
        max(
            np.abs(force).max(initial=0.0) / size,
            max((-slack).max(initial=0.0), 0.0) / reach,
            max((-y).max(initial=0.0), 0.0) / top,
            np.abs(y * slack).max(initial=0.0) / (top * reach),
        )
    )


def _active_set(B, q, A, b, active, floor):
    seen = set()
    for _ in range(TURNS):
        key = active.tobytes()
        if key in seen:
            return None
        seen.add(key)
        rows = np.flatnonzero(active)
        if len(rows) > len(q) + 8:
            return None
        found = equality(B, -q, A[rows], b[rows])
        if found is None:
            return None
        z, own = found
        y = np.zeros(len(b))
        y[rows] = own
        top = np.abs(y).max(initial=0.0) + np.abs(q).max() / max(float(abs(A).max()), 1e-300)
        reach = np.abs(b).max() + np.abs(A @ z).max() + floor
        broken = (A @ z - b > EXACT * reach) & ~active
        wrong = active & (y < -EXACT * top)
        if not broken.any() and not wrong.any():
            y = np.maximum(y, 0.0)
            residual = _residual(B, q, A, b, z, y, floor)
            return Solution(z, y, residual) if residual <= 1e3 * EXACT else None
        active = (active & ~wrong) | broken
    return None


def equality(
    B: Any, right: np.ndarray, A: Any, b: np.ndarray
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(z, y) with B z + A^T y = right, A z = b; None where the system is singular."""
    k = A.shape[0]
    K: Any
    if sp.issparse(A):
        K = sp.block_array([[B, A.T], [A, None]], format="csc") if k else sp.csc_matrix(B)
    else:
        K = np.block([[B, A.T], [A, np.zeros((k, k))]])
    both = np.concatenate([right, b])
    found = _solve(K, both)
    if found is None and not sp.issparse(K):  # rows that depend on one another: the shortest answer, if there is one
        ridge = np.zeros(len(both))
        ridge[len(right) :] = -1e-9 * np.abs(K).max()
        found = _refined(K, ridge, both)
        if found is None or _missed(K, found, both):
            found = np.linalg.lstsq(K, both, rcond=1e-13)[0]
        if _missed(K, found, both):
            return None
    elif found is None:
        size = abs(K).max()
        ridge = np.concatenate([np.zeros(len(right)), np.full(k, -1e-13 * size)])
        found = _solve(sp.csc_matrix(K + sp.diags_array(ridge)), both)
    if found is None:
        return None
    return found[: len(right)], found[len(right) :]


def _missed(K, found, both):
    return np.abs(K @ found - both).max() > 1e-11 * (np.abs(both).max() + np.abs(K).max() * np.abs(found).max())


def _refined(K, ridge, both):
    """K^-1 both from the factors of K + diag(ridge), by refinement; None where they are singular too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)  # looked at by the caller
        factor, pivots = scipy.linalg.lu_factor(K + np.diag(ridge), check_finite=False)
        if not np.diag(factor).all():
            return None
        found = scipy.linalg.lu_solve((factor, pivots), both, check_finite=False)
        for _ in range(3):
            found = found + scipy.linalg.lu_solve((factor, pivots), both - K @ found, check_finite=False)
    return found if np.isfinite(found).all() else None


def _interior(B, q, A, b, floor):
    sparse = sp.issparse(A)
    N, R = len(q), len(b)
    size = max(np.abs(q).max(), 1e-300)
    z = np.zeros(N)
    # units: rows of A of length one, and the objective divided by its gradient
    length = np.sqrt(np.asarray(A.multiply(A).sum(axis=1)).ravel()) if sparse else np.linalg.norm(A, axis=1)
    length = np.where(length > 0, length, 1.0)
    A = sp.csr_array(sp.diags_array(1 / length) @ A) if sparse else A / length[:, None]
    b, q, B = b / length, q / size, B / size
    s, y = np.maximum(b, max(np.median(b), 1e-3)), np.ones(R)
    best = None
    for _ in range(INTERIOR):
        rd = B @ z + q + A.T @ y
        rp = A @ z + s - b
        mu = float(s @ y) / R
        miss = _residual(B, q, A, b, z, y, floor)
        if best is None or miss < best[0]:
            best = miss, z, y
        if miss <= 1e-10 or mu <= 1e-18:
            break
        factor = _factor(B, A, y / s, sparse)
        if factor is None:
            break
        dz, ds, dy = _direction(factor, A, rd, rp, s, y, s * y)
        a = min(_longest(s, ds), _longest(y, dy))
        center = (float((s + a * ds) @ (y + a * dy)) / R / mu) ** 3 if mu > 0 else 0.0
        dz, ds, dy = _direction(factor, A, rd, rp, s, y, s * y + ds * dy - center * mu)
        a = 0.995 * min(_longest(s, ds), _longest(y, dy))
        a = min(1.0, a)
        z, s, y = z + a * dz, s + a * ds, y + a * dy
        if not (np.all(np.isfinite(z)) and np.all(np.isfinite(y))):
            break
    if best is None or best[0] > 1e-3:
        return None
    return Solution(best[1], np.maximum(best[2], 0) * size / length, best[0])


def _factor(B, A, weights, sparse):
    if sparse:
        heavy = A.copy()
        heavy.data *= np.repeat(weights, np.diff(A.indptr))
        K = sp.csc_matrix(B + A.T @ heavy)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return splu(K, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}).solve
        except (RuntimeError, Warning):
            return None
    K = B + A.T @ (weights[:, None] * A)
    shift = 0.0
    for _ in range(4):
        try:
            factor = scipy.linalg.cho_factor(K + shift * np.eye(len(K)), check_finite=False)
        except np.linalg.LinAlgError:
            shift = max(100 * shift, 1e-14 * np.abs(np.diag(K)).max())
            continue
        return lambda right: scipy.linalg.cho_solve(factor, right, check_finite=False)
    return None


def _direction(solve, A, rd, rp, s, y, rc):
    dz = solve(-rd - A.T @ ((y * rp - rc) / s))
    ds = -rp - A @ dz
    dy = -(rc + y * ds) / s
    return dz, ds, dy


def _longest(v, dv):
    """The largest step in (0, 1] that keeps v + a dv >= 0."""
    falling = dv < 0
    return float(min(1.0, (v[falling] / -dv[falling]).min(initial=1.0)))
