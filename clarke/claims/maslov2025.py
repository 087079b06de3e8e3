"""Claims of Maslov, Kugaevskikh and Ivanov (2025): trajectories of Gaussians in the Bernstein basis."""

from math import comb
from typing import Any

import autograd.numpy as anp
import numpy as np

from ..limiting import limiting_gradients
from .references import dyadic
from .statements import AMENDED, HOLDS, Case, Evidence, assume, at_most, claim, equal, worst

PAPER = "maslov2025"


def trajectories(rng: np.random.Generator) -> dict[str, Any]:
    """Control points of means (k + 1, 2), factors of their covariances (k + 1, 2, 2), a time."""
    degree = int(rng.integers(0, 5))
    means, factors = dyadic(rng, degree + 1, 2), dyadic(rng, degree + 1, 2, 2)
    return {"means": means, "factors": factors, "t": int(rng.integers(0, 17)) / 16}


def basis(degree: Any, t: Any) -> Any:
    """The Bernstein polynomials of a degree at t in [0, 1]: nonnegative, of sum 1."""
    return np.array([comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)])


@claim(
    "W-nonneg",
    paper=PAPER,
    place="abstract",
    statement="Bernstein trajectories stay in the hull of their control points, covariances stay positive definite",
    verdict=HOLDS,
    domain=trajectories,
    tolerance=1e-12,
)
def hull(case: Case) -> Any:
    """b_i(t) >= 0 and sum_i b_i(t) = 1: the value is a convex combination, and a convex combination of positive
    definite matrices F_i F_i^T + I is positive definite, its least eigenvalue at least the least of theirs."""
    means, factors = np.asarray(case["means"], float), np.asarray(case["factors"], float)
    b = basis(len(means) - 1, case["t"])
    directions = np.array([[1, 0], [0, 1], [1, 1], [1, -1], [-1, 0], [0, -1], [-1, -1], [-1, 1]])
    covariances = factors @ factors.swapaxes(1, 2) + np.eye(2)
    value = -np.linalg.eigvalsh(np.einsum("i,ijk->jk", b, covariances))[0]
    return at_most(
        support_of_the_value=np.append(directions @ (b @ means), value),
        support_of_the_hull=np.append((directions @ means.T).max(1), -np.linalg.eigvalsh(covariances)[:, 0].min()),
    )


def factors(rng: np.random.Generator) -> Any:
    """Covariances L L^T and M M^T, another factor, and a constant somebody proposes."""
    n = int(rng.integers(1, 3))
    matrices = {name: dyadic(rng, n, n) for name in ("M", "L", "other")}
    return matrices | {"constant": int(rng.integers(0, 101))}


def nuclear(A: np.ndarray) -> float:
    """|A|_*, the sum of the singular values; tr (A A^T)^{1/2}."""
    return float(np.linalg.svd(A, compute_uv=False).sum())


def distance(L: np.ndarray, M: np.ndarray) -> float:
    """W2^2 of N(0, S) and N(0, T), S = L L^T, T = M M^T: tr S + tr T - 2 tr (S^1/2 T S^1/2)^1/2 = |L|^2 + |M|^2 -
    2 |M^T L|_*."""
    return np.sum(L * L) + np.sum(M * M) - 2 * nuclear(M.T @ L)


def _in_the_factor(case):
    L, other, M = (np.asarray(case[name], float) for name in ("L", "other", "M"))
    n, size, root, tau = len(M), np.linalg.norm(M), L[0, 0], nuclear(M)
    values, vectors = np.linalg.eigh(L @ L.T)
    half = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ M @ M.T @ half), 0))
    of_covariances = np.sum(L * L) + np.sum(M * M) - 2 * roots.sum()
    slope = np.linalg.norm(L) + np.linalg.norm(other) + 2 * size
    found = limiting_gradients(lambda v: n * v[0] ** 2 + size**2 - 2 * tau * anp.abs(v[0]), [root])
    return worst(
        equal(by_the_factor=distance(L, M), by_the_covariances=of_covariances),
        at_most(
            difference=abs(distance(L, M) - distance(other, M)), slope_times_step=slope * np.linalg.norm(L - other)
        ),
        at_most(limiting_gradients=np.abs(found.vectors).max(), bound=2 * n * abs(root) + 2 * tau),
    )


@claim(
    "W-lip",
    paper=PAPER,
    place="abstract",
    statement="The loss function is the averaged squared Wasserstein distance between the predicted Gaussian "
    "distributions, whose mean and covariance are the parameters, and the empirical data; an autodiff-based "
    "optimization method is used to train the model",
    verdict=AMENDED,
    corrected="in a factor L of the covariance L L^T the loss is locally Lipschitz, with limiting gradients at most "
    "2 |L| + 2 (tr S)^{1/2} for data of covariance S; in the covariance it is not, where that is singular",
    amended=_in_the_factor,
    domain=factors,
    counterexample={"M": [[2]], "L": [[0]], "other": [[1]], "constant": 0},
    tolerance=1e-6,
    share=0.4,
)
def lipschitz(case: Case) -> Evidence:
    """What training by autodiff asks for: a constant that bounds the derivative in the parameters. For data of
    covariance M M^T and the covariance s I the loss is n s + |M|^2 - 2 s^{1/2} tau, tau = |M|_*, of derivative n -
    tau / s^{1/2}: for every constant there is an s, here that with derivative -(constant + 1). In the factor the
    last term is -2 |M^T L|_*, a norm; |L|^2 adds (|L| + |L'|) |L - L'|. With covariances of at least eps I all is
    smooth. The tolerance is the root of rounding: that of the eigenvalues where the product is singular."""
    M, constant = np.asarray(case["M"], float), case["constant"]
    n, tau, size = len(M), nuclear(M), np.sum(np.square(M))
    assume(tau > 0)
    s = (tau / (constant + n + 1)) ** 2
    found = limiting_gradients(lambda v: n * v[0] + size - 2 * tau * anp.sqrt(v[0]), [s])
    slope = at_most(modulus_of_the_derivative=np.abs(found.vectors).max(), proposed_constant=constant)
    return worst(Evidence(0.0, {"variance": s}), slope)
