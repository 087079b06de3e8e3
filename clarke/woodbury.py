"""Rahimi's inverse of the Hessian of a pipeline by the Woodbury formula, as printed, and where it stops.

A pipeline is z_l = f_l(z_{l-1}; x_l), l = 1, ..., L, z_L the loss. With the adjoints b_l,

    M = I - (F_l below the diagonal), F_l = df_l/dz,    D_x = diag(G_l), G_l = df_l/dx,    P the downshift,
    W_xx = D_D D_xx, W_zx = D_D D_zx, W_xz = D_M D_xz, W_zz = D_M D_zz: second derivatives weighted by b,

    H = W_xx + W_zx P M^-1 D_x + (W_zx P M^-1 D_x)^T + D_x^T M^-T P^T W_zz P M^-1 D_x             (24)
      = A + U^T Q U,   A = D_x^T M^-T M^-1 D_x,   U = [M^-1 D_x; I]                               (27)
    H^-1 = A^-1 - A^-1 U^T S_H^-1 U A^-1,   S_H = Q^-1 + U A^-1 U^T                               (28), (35)

(24), (27) and (28) hold wherever their inverses exist. But A is singular unless every G_l is square and invertible;
(29) inverts Q through W_xx, which is zero for linear and ReLU layers and singular for dense ones; the sign in (36) is
wrong; and (40)-(43) invert the upper left block of S_H, which is singular for every pipeline: nothing reads z_L, so
that the last block of S_q is -I, and that of S_q^-1 + I is zero. What works is `lift`.

The room is a reading of the paper, dense and slow; it serves its claims.

A. Rahimi, The inverse of the Hessian of a deep net (2025), section 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag


class SingularBlock(ValueError):
    """A matrix that the algorithm inverts has no inverse; the message says which, and where in the paper."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """For l = 1, ..., L: links F_l (a_l, a_{l-1}), gains G_l (a_l, p_l), and the weighted second derivatives zz
    (a_{l-1}, a_{l-1}), xz (a_{l-1}, p_l), xx (p_l, p_l) of f_l; a_0 may be 0.
    """

    links: Sequence[np.ndarray]
    gains: Sequence[np.ndarray]
    zz: Sequence[np.ndarray]
    xz: Sequence[np.ndarray]
    xx: Sequence[np.ndarray]

    def __post_init__(self) -> None:
        for k, (F, G, Wzz, Wxz, Wxx) in enumerate(
            zip(self.links, self.gains, self.zz, self.xz, self.xx, strict=True), 1
        ):
            (a, before), p = F.shape, G.shape[1]
            shapes = G.shape == (a, p), Wzz.shape == (before, before), Wxz.shape == (before, p), Wxx.shape == (p, p)
            chained = k == 1 or before == len(self.links[k - 2])
            if not (all(shapes) and chained):
                raise ValueError(f"the arrays of step {k} do not fit each other or the step before")

    @property
    def matrices(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(M, D_x, P): (n, n), (n, p), (n', n) with n = sum a_l, n' = sum a_{l-1}."""
        sizes = [len(F) for F in self.links]
        ends = np.cumsum([0, *sizes])
        M, P = np.eye(ends[-1]), np.zeros((sum(F.shape[1] for F in self.links), ends[-1]))
        start = self.links[0].shape[1]
        for k, F in enumerate(self.links[1:], 1):
            M[ends[k] : ends[k + 1], ends[k - 1] : ends[k]] = -F
        P[start:, : ends[-2]] = np.eye(len(P) - start, ends[-2])
        return M, _diag(*self.gains), P


def hessian(pipeline: Pipeline) -> np.ndarray:
    """H by (24)."""
    M, Dx, P = pipeline.matrices
    S = P @ np.linalg.solve(M, Dx)
    cross = _diag(*pipeline.xz).T @ S
    return _diag(*pipeline.xx) + cross + cross.T + S.T @ _diag(*pipeline.zz) @ S


def lifted(pipeline: Pipeline) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, U, Q) of (27)."""
    M, Dx, P = pipeline.matrices
    S = np.linalg.solve(M, Dx)
    above = P.T @ _diag(*pipeline.xz)
    Q = np.block([[P.T @ _diag(*pipeline.zz) @ P - np.eye(len(M)), above], [above.T, _diag(*pipeline.xx)]])
    return S.T @ S, np.vstack([S, np.eye(S.shape[1])]), Q


def inverse_of_q(pipeline: Pipeline) -> np.ndarray:
    """Q^-1 by (29)-(34), through Q_22; SingularBlock."""
    _, _, Q = lifted(pipeline)
    n = sum(len(F) for F in pipeline.links)
    Q12, Q22 = Q[:n, n:], Q[n:, n:]
    inner = _inverse(Q22, "Q_22 = D_D D_xx in (29)")
    Sq = _inverse(Q[:n, :n] - Q12 @ inner @ Q12.T, "S_q in (34)")
    right = -Sq @ Q12 @ inner
    return np.block([[Sq, right], [right.T, inner - inner @ Q12.T @ right]])


def woodbury_solve(pipeline: Pipeline, g: np.ndarray, *, as_printed: bool = True) -> np.ndarray:
    """H^-1 g by (28). as_printed: S_H with the sign of (36)-(38), inverted by (40)-(43); else by (35), as a whole.

    Raises SingularBlock; as printed, always.
    """
    M, Dx, _ = pipeline.matrices
    _, U, _ = lifted(pipeline)
    if Dx.shape[0] != Dx.shape[1]:
        raise SingularBlock(f"D_x in A^-1 = D_x^-1 M M^T D_x^-T is no square matrix: {Dx.shape}")
    root = _inverse(Dx, "D_x in A^-1 = D_x^-1 M M^T D_x^-T") @ M
    Ainv, Qinv = root @ root.T, inverse_of_q(pipeline)
    S = Qinv + np.block([[np.eye(len(M)), root.T], [root, Ainv]])  # (37)
    if as_printed:
        S, n = -S, len(M)
        corner = _inverse(S[:n, :n], "S_H11 in (40)")
        last = _inverse(S[n:, n:] - S[n:, :n] @ corner @ S[:n, n:], "the Schur complement in (40)")
        left = -last @ S[n:, :n] @ corner
        inverse = np.block([[corner - corner @ S[:n, n:] @ left, left.T], [left, last]])
    else:
        inverse = _inverse(S, "S_H in (35)")
    return Ainv @ g - Ainv @ U.T @ (inverse @ (U @ (Ainv @ g)))


def _diag(*blocks) -> np.ndarray:
    return np.asarray(block_diag(*blocks))


def _inverse(matrix, what):
    values = np.linalg.svd(matrix, compute_uv=False)
    if values.size and values[-1] <= 1e-13 * len(matrix) * max(values[0], 1.0):
        raise SingularBlock(f"{what} is singular: least singular value {values[-1]:.1e} of {values[0]:.1e}")
    return np.linalg.inv(matrix)
