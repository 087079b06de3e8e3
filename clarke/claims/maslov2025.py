"""Claims of Maslov, Kugaevskikh and Ivanov (2025): trajectories of Gaussians in the Bernstein basis."""

from math import comb

import numpy as np

from .references import dyadic
from .statements import HOLDS, at_most, claim

PAPER = "maslov2025"


def trajectories(rng):
    """Control points of means (k + 1, 2), factors of their covariances (k + 1, 2, 2), a time."""
    degree = int(rng.integers(0, 5))
    means, factors = dyadic(rng, degree + 1, 2), dyadic(rng, degree + 1, 2, 2)
    return {"means": means, "factors": factors, "t": int(rng.integers(0, 17)) / 16}


def basis(degree, t):
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
def hull(case):
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
