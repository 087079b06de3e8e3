"""When to stop: the curvature test, and the stopping criteria of a paper beside it.

0 in the hull of the limiting gradients says that x is stationary, no more. Where the gradient is single-valued near x
and Lipschitz, x is a strict local minimizer if all limiting Hessians are positive definite, and none if f falls along
an eigenvector of a negative eigenvalue [HSN84]; on the pieces of a max the same holds for the Hessian of the Lagrangian
on the directions that keep the pieces in force equal.

Proposition 6 of [BK25] names three criteria in words. As read here they are `small_eigenvalues`, `relative_gradient`
and `small_decrease`; each can stop where nothing is stationary, as the counterexample in its docstring shows.

[HSN84] Hiriart-Urruty, Strodiot, Nguyen. Appl. Math. Optim. 11 (1984) 43-56.
[BK25] Bolshim, Kugaevskikh. The Hessian of the second order for neural networks as directed acyclic graphs (2025), in
       Russian, Proposition 6.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from .sqp import Step

if TYPE_CHECKING:
    from .composite import Model

VARIABLES = 500  # up to which eigenvalues are computed


def small_eigenvalues(gradient: np.ndarray, element: Any, decrease: float, eps: float) -> bool:
    """[BK25, Prop. 6.1]: "small positive eigenvalues" of the Hessian: all of them in (0, eps).

    Says nothing about the gradient. eps x^2 / 4 has the eigenvalue eps / 2 everywhere: stopped at any start, as far
    from 0 as you like; x^2 has 2, and is not stopped at its minimizer 0.
    """
    values = np.linalg.eigvalsh(element)
    return bool(values[0] > 0 and values[-1] < eps)


def relative_gradient(gradient: np.ndarray, element: Any, decrease: float, eps: float) -> bool:
    """[BK25, Prop. 6.2]: |gradient| / |Hessian| < eps, with the spectral norm; never, where the Hessian is 0.

    Only in one variable is that the Newton step. (x^2 + M y^2) / 2 at (1, 0) has 1 / M: with M = 2 / eps it is stopped
    at a distance of 1 from its minimizer. |x| is stopped nowhere: its Hessian is 0.
    """
    size = np.linalg.norm(element, 2)
    return bool(size > 0 and np.linalg.norm(gradient) < eps * size)


def small_decrease(gradient: np.ndarray, element: Any, decrease: float, eps: float) -> bool:
    """[BK25, Prop. 6.3]: "curvature with the change of the loss": |change of f| < eps and the Hessian semidefinite.

    The pure Newton step on sqrt(1 + x^2) from 1 goes to -1, where f is the same and curved upward: stopped there, with
    a slope of -1 / sqrt 2. decrease: f before the last step less f now; never before the first.
    """
    return bool(decrease is not None and abs(decrease) < eps and np.linalg.eigvalsh(element)[0] >= 0)


CRITERIA = {f.__name__: f for f in (small_eigenvalues, relative_gradient, small_decrease)}


def least_curvature(P: Any) -> tuple[float, np.ndarray | None, float]:
    """(least eigenvalue, its eigenvector, |P|) of a symmetric P of any shape; nan and None above 500 variables."""
    if P.shape[0] > VARIABLES:
        return np.nan, None, np.nan
    P = np.asarray(P @ np.eye(P.shape[0]))
    if not np.isfinite(P).all():
        return np.nan, None, np.nan
    values, vectors = np.linalg.eigh(P)
    return float(values[0]), vectors[:, 0], float(np.abs(values).max())


def tangent_curvature(model: "Model", W: Any, step: Step) -> tuple[float, np.ndarray | None]:
    """(least eigenvalue, direction in x) of W on the directions that keep the pieces held by a step equal.

    W (n + K, n + K): the Hessian of the Lagrangian at the multipliers of the step. (inf, None) where only 0 keeps them
    equal: a vertex; (nan, None) above 500 entries of (x, u).
    """
    parts, n = model.parts, len(model.x)
    if parts.size > VARIABLES:
        return np.nan, None
    E, W = (np.asarray(M.toarray() if sp.issparse(M) else M) for M in (model.rows, W))
    held = np.flatnonzero(step.multipliers != 0)
    loose = np.setdiff1d(np.arange(len(parts.sides)), parts.owner[held])
    rows: list[Any] = []
    for r in np.concatenate([held, model.in_force()[loose]]).astype(int):
        j = parts.owner[r]
        row = E[r].copy()
        row[n + j] -= parts.sides[j]
        rows.append(row)
    basis = scipy.linalg.null_space(np.array(rows).reshape(len(rows), parts.size), rcond=1e-9)
    if not basis.size:
        return np.inf, None
    # of unit length in x: directions that move u alone do not exist, u is a function of x
    lengths = basis[:n].T @ basis[:n]
    try:
        values, vectors = scipy.linalg.eigh(basis.T @ W @ basis, lengths, subset_by_index=(0, 0))
    except np.linalg.LinAlgError:
        return np.nan, None
    return float(values[0]), basis[:n] @ vectors[:, 0]
