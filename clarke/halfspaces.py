"""Systems of strict linear inequalities rows @ x > 0: checked, scaled, solved or refuted.

Gordan: either some x has rows @ x > 0, or some y >= 0, not 0, has y @ rows = 0.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog, nnls

ROUNDING = 1e-14  # unit rows this close are taken to coincide; grows as angles shrink


def strict_direction(
    rows: np.ndarray, tol: float = 1e-9
) -> tuple[NDArray[np.float64] | None, float, NDArray[np.float64]]:
    """A unit d with rows @ d > 0, or the reason there is none: (d or None, margin, multipliers).

    rows (m, n). With u_i = rows_i / |rows_i| and p = multipliers @ u the point of conv{u_i} nearest
    0 (multipliers >= 0, sum 1), |p| is the largest possible min_i u_i . d, attained at d = p / |p|.
    margin = min_i u_i . d, recomputed, if that exceeds tol. Otherwise d is None, margin = |p|, and
    the multipliers are Gordan's: multipliers @ u = 0 up to |p|, so no d is better than |p|. A zero
    row takes the whole multiplier. No rows: the first unit vector, margin inf.
    ValueError unless rows is a finite matrix with at least one column.
    """
    rows = matrix("rows", rows).astype(float)
    units = unit(rows)
    if not len(rows):
        return np.eye(1, rows.shape[1])[0], np.inf, np.zeros(0)
    dead = ~units.any(axis=1)
    if dead.any():
        return None, 0.0, np.eye(1, len(rows), int(np.argmax(dead)))[0]
    return min_norm_direction(units, tol)


def min_norm_direction(units: np.ndarray, tol: float) -> tuple[NDArray[np.float64] | None, float, NDArray[np.float64]]:
    """strict_direction for unit rows: |x @ U|^2 + (1 - sum x)^2 is least at a multiple of p's x."""
    m, n = units.shape
    system, one = np.vstack([units.T, np.ones(m)]), np.append(np.zeros(n), 1.0)
    try:
        weights = nnls(system, one)[0]
        settled = (system.T @ (one - system @ weights)).max() <= 1e-9  # nnls can stop at a degenerate vertex
    except RuntimeError:  # or cycle
        weights, settled = np.zeros(m), False
    d = weights @ units
    if not settled:  # max s, U d >= s, |d_i| <= 1, whose prices are Gordan's
        cost, rise = np.append(np.zeros(n), -1.0), np.hstack([-units, np.ones((m, 1))])
        bounds = [(-1.0, 1.0)] * n + [(None, None)]
        program: Any = linprog(cost, rise, np.zeros(m), bounds=bounds)
        if program.x is not None:
            weights, d = np.maximum(-program.ineqlin.marginals, 0), program.x[:n]
        if not weights.any():  # any multipliers bound the margin
            weights = np.ones(m)
    weights = weights / weights.sum()
    bound = float(np.linalg.norm(weights @ units))
    if ROUNDING < bound < 1e-3:  # p has lost digits; U d = 1 on its support has the same direction
        d = np.linalg.lstsq(units[weights > 0], np.ones((weights > 0).sum()), rcond=0)[0]
    d = d / (np.linalg.norm(d) or 1)
    margin = float((units @ d).min())
    if margin > max(tol, n * np.finfo(float).eps):
        return d, margin, weights
    return None, bound, weights


def matrix(name: str, value: ArrayLike) -> np.ndarray:
    array = finite(name, value)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(
            f"{name} must be a matrix of at least one column, a row for each vector; got shape {array.shape}"
        )
    return array


def finite(name: str, value: ArrayLike) -> np.ndarray:
    try:
        array = np.asarray(value)
        finite = np.isfinite(array.astype(float)).all()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of real numbers; {error}") from None
    if not finite:
        raise ValueError(f"{name} must be finite; it holds NaN or infinity: drop those rows")
    return array


def unit(rows: Any) -> Any:
    """Rows of length 1, or 0, scaled by powers of two first, as squares under- and overflow."""
    rows = scaled(rows)[0]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def scaled(
    rows: np.ndarray, offsets: np.ndarray | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    power = -np.frexp(np.abs(rows).max(axis=1, initial=0))[1]
    with np.errstate(over="ignore"):
        return np.ldexp(rows, power[:, None]), None if offsets is None else np.ldexp(offsets, power)
