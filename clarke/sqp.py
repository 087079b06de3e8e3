"""One step on the pieces nearby: a quadratic program in x and in the outputs of the kinks.

With f(x) = Phi(x, u) and u_j = s_j max_r s_j e_r (`composite`), the step d minimizes

    phi . (d, v) + (d, v) . W (d, v) / 2 + damping |d|^2 / 2
    subject to   s_j (e_r + e_r' (d, v)) <= s_j (u_j + v_j)   for every piece r of every output j,

W the Hessian of the Lagrangian at the last multipliers: sequential quadratic programming on the epigraph of each kink
[LW19, HUL93]. That stands for f only where Phi and the pieces grow with s_j u_j (a max that enters with a plus sign).
An output that enters the other way, or not to first order and without curvature, follows one of its pieces: the one
in force, or another one as asked. So does every sort, and every `where` that is no max or min nearby. On the pieces
that hold at a solution the steps converge quadratically, if their gradients are in general position and W is positive
definite along them; the multipliers then make an element of the hull of gradients of the pieces nearby.

[LW19] Lewis, Wylie. A simple Newton method for local nonsmooth optimization. arXiv 1907.11742 (2019).
[HUL93] Hiriart-Urruty, Lemarechal. Convex Analysis and Minimization Algorithms II, Springer (1993), chapter XV.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from .composite import Model
from .graph import unit_of
from .subproblem import equality, quadratic_program

FLAT = 1e-12  # relative: a first derivative below this is none


@dataclass(frozen=True, eq=False)
class Step:
    """d (n,); multipliers (R,); force (n,): their gradient, an element of the hull of the pieces used.

    gap: sum_r multipliers[r] |gaps[r]|, by how much those pieces lie below f at x, at most; decrease: of the model
    without its quadratic part; positive (R,) bool: rows that hold with equality; followed: outputs that follow a piece.
    correction(gaps): the least change of d that makes the pieces equal where their values are known, or None.
    """

    d: np.ndarray
    change: np.ndarray
    multipliers: np.ndarray
    force: np.ndarray
    gap: float
    decrease: float
    positive: np.ndarray
    followed: np.ndarray
    correction: Callable[..., Any]


def step_on_pieces(
    model: Model, W: Any, damping: float, guess: np.ndarray | None = None, asked: Any = None, among: Any = None
) -> Step | None:
    """The step at this damping > 0; asked: {output: piece} to follow. among (R,) bool: the
    pieces that count, default all. None where the program was not solved."""
    parts, n = model.parts, len(model.x)
    E, phi = model.rows, model.phi
    chosen = model.in_force() if len(parts.sides) else np.zeros(0, int)
    for j, r in (asked or {}).items():
        chosen[j] = r
    followed = _followed(model, W, chosen, set(asked or {}) | set(np.flatnonzero(model.kept).tolist()))
    free = ~followed[parts.owner] if len(parts.owner) else np.zeros(0, bool)
    kept = np.flatnonzero(free if among is None else free & among)
    columns = np.concatenate([np.arange(n), n + np.flatnonzero(~followed)])
    T = None
    if followed.any():
        E, W = (M.toarray() if sp.issparse(M) else M for M in (E, W))
        T = np.zeros((parts.size, len(columns)))
        T[columns, np.arange(len(columns))] = 1.0
        for j in np.flatnonzero(followed):
            T[n + j] = parts.sides[j] * E[chosen[j]] @ T
        rows, q, B = E[kept] @ T, phi @ T, T.T @ W @ T
    else:
        rows, q, B = E[kept], phi, W
    place = np.full(len(parts.sides), -1)
    place[~followed] = n + np.arange(len(columns) - n)
    sparse = sp.issparse(rows)
    if len(kept):
        own, sides = place[parts.owner[kept]], parts.sides[parts.owner[kept]]
        minus = sp.csr_array((sides, (np.arange(len(kept)), own)), shape=(len(kept), len(columns)))
        A = sp.csr_array(rows - minus) if sparse else rows - minus.toarray()
    else:
        A = sp.csr_array((0, len(columns))) if sparse else np.zeros((0, len(columns)))
    b = np.maximum(-model.gaps[kept], 0.0)
    held = np.zeros(len(kept), bool) if guess is None else guess[kept]
    B, q_used = _convex(B, q, A, b, held, n, damping, sparse)
    found = quadratic_program(B, q_used, A, b, held if guess is not None and held.any() else None, unit_of(model.x))
    if found is None or not np.all(np.isfinite(found.z)):
        return None
    z = found.z
    full = z if T is None else T @ z
    y = np.zeros(len(parts.owner))
    y[kept] = found.multipliers
    mu = _complete(model, y, followed, chosen)
    force = phi[:n] + np.asarray(model.rows[:, :n].T @ mu).ravel()
    positive = y > 0

    def correction(gaps):
        active = np.flatnonzero(found.multipliers > 0)
        if not len(active):
            return None
        length = np.zeros(len(columns))
        length[:n] = 1.0
        eye = sp.diags_array(length) if sparse else np.diag(length)
        moved = equality(eye, np.zeros(len(columns)), A[active], -gaps[kept][active])
        return None if moved is None else moved[0][:n]

    gap = float(found.multipliers @ b)
    return Step(full[:n], full[n:], mu, force, gap, float(-q @ z), positive, followed, correction)


def _followed(model, W, chosen, asked):
    """(K,) bool: outputs that must follow a piece, because f does not grow with s_j u_j."""
    parts, n, phi = model.parts, len(model.x), model.phi
    K, sides = len(parts.sides), parts.sides
    followed = np.zeros(K, bool)
    if not K:
        return followed
    E = model.rows
    curved = W.diagonal()[n:] > 0
    columns = E[:, n:]
    size = max(float(np.abs(phi).max(initial=0.0)), float(abs(E).max()) if E.shape[0] else 0.0)
    least = -FLAT * size
    couples = bool(columns.nnz if sp.issparse(columns) else columns.any())
    if not couples:
        top = sides * phi[n:]
        followed = (top < least) | ((top <= -least) & ~curved)
        followed[list(asked)] = True
        return followed
    if sp.issparse(columns):
        signed = columns @ sp.diags_array(sides)
        most = signed.max(axis=0).toarray().ravel()
        grows = min(float(signed.min()), float((sides * phi[n:]).min())) >= least
        if grows and not asked and ((np.maximum(sides * phi[n:], most) > -least) | curved).all():
            return followed
        columns = columns.toarray()
    C, g = np.array(columns), phi[n:].copy()  # derivatives in u after what follows has been put in
    live = np.ones(len(parts.owner), bool)
    starts = parts.starts
    for j in range(K - 1, -1, -1):
        later = live.copy()
        later[: starts[j + 1]] = False
        values = np.append(sides[j] * C[later, j], sides[j] * g[j])
        if j in asked or values.min() < least or (values.max() <= -least and not curved[j]):
            followed[j] = True
            live[starts[j] : starts[j + 1]] = False
            row = sides[j] * C[chosen[j]]
            g += g[j] * row
            C[later] += np.outer(C[later, j], row)
    return followed


def _complete(model, y, followed, chosen):
    """Multipliers of all pieces: the followed ones have what makes the Lagrangian stationary in u."""
    if not followed.any():
        return y
    mu, parts, n = y.copy(), model.parts, len(model.x)
    columns = model.rows[:, n:]
    for j in np.flatnonzero(followed)[::-1]:
        column = columns[:, [j]]
        later = float(np.asarray(column.T @ mu).ravel()[0])
        mu[chosen[j]] = parts.sides[j] * (model.phi[n + j] + later)
    return mu


def _convex(B, q, A, b, held, n, damping, sparse):
    """(B, q) of a convex program with the same solution where one exists on the rows held, else of a nearby one.

    rho |A z - b|^2 / 2 over the rows held changes nothing where they hold; failing that, the eigenvalues of B are
    replaced by their absolute values.
    """
    ridge = np.zeros(len(q))
    ridge[:n] = damping
    if sparse:
        off = np.asarray(abs(B).sum(axis=1)).ravel() - abs(B.diagonal())
        least = float((B.diagonal() - off)[:n].min())
        if least < 0 and _indefinite(sp.csc_array(B), n):
            ridge[:n] += -least
        return sp.csc_array(B + sp.diags_array(ridge)), q
    size = np.abs(B).max(initial=0.0)
    if not size:
        return B + np.diag(ridge), q
    B = (B + B.T) / 2
    values, vectors = np.linalg.eigh(B)
    if values[0] >= -1e-12 * size:
        return B + np.diag(ridge), q
    rows, right = A[held], b[held]
    if len(rows):
        basis = scipy.linalg.null_space(rows)
        along = basis.T @ (B + np.diag(ridge)) @ basis
        if not basis.size or np.linalg.eigvalsh(along)[0] > 1e-10 * size:
            unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            right = right / np.linalg.norm(rows, axis=1)
            for power in range(8):
                rho = size * 10.0**power
                trial = B + rho * unit.T @ unit
                if np.linalg.eigvalsh(trial)[0] >= -1e-12 * rho:
                    return trial + np.diag(ridge), q - rho * unit.T @ right
    return (vectors * np.abs(values)) @ vectors.T + np.diag(ridge), q


def _indefinite(B, n):
    """Has the leading block of a sparse B a negative pivot?"""
    try:
        factor = splu(B[:n][:, :n] + 1e-14 * sp.eye_array(n), permc_spec="NATURAL", diag_pivot_thresh=0.0)
    except RuntimeError:
        return False
    return bool((factor.U.diagonal() < 0).any())
