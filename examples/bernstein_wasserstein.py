"""
Regression of whole distributions along Bernstein polynomials
=============================================================

Gaussians, and mixtures of them, move along Bernstein polynomials.

After Maslov, Kugaevskikh & Ivanov, "Wasserstein Regression as a Variational Approximation of Probabilistic
Trajectories through the Bernstein Basis" (arXiv 2510.26607). With b_i(t) = C(N, i) t^i (1 - t)^(N - i) >= 0, of sum
1,

::

    P(y | t) = sum_k w_k N(mu_k(t), L_k(t) L_k(t)^T),   mu_k(t) = sum_i b_i(t) m_ki,   L_k(t) = sum_i b_i(t) L_ki,

so that mu stays in the hull of its control points and every covariance is one. For comparison ("hull") the covariance
itself is the curve, Sigma(t) = sum_i b_i(t) L_i L_i^T: it cannot dip between two control points that are large. The
loss is the mean over t of the squared Wasserstein-2 distance to the n samples y there, up to constants

::

    d = 1:     (mu - mean y)^2 + (|L| - c)^2,   c = sum_j y_(j) (phi(q_{j-1}) - phi(q_j)),   q_j = Phi^-1(j / n)
    d = 2:     |mu - m|^2 + |L|^2 - 2 (tr S L L^T + 2 det S^(1/2) |det L|)^(1/2),   m, S of the samples,
    mixtures:  min over couplings pi of sum_kj pi_t,kj W2^2(component k, Gaussian j of a mixture fitted at t) first, by
               `scipy.optimize.linprog` for all t at once with the weights w among the unknowns, in turn with the
               parameters; then, d = 1, sum_j (a_(j) - y_(j))^2 / n with n quantiles a of the components, sorted,

minimized by `clarke.minimize`: ``|L|``, ``|det L|`` and sorting have kinks. The baselines are the least-squares
polynomial of the same degree with one covariance for all t, the same with least squares for the second moments too,
and the Gaussian process of scikit-learn, coordinate by coordinate.

Scores, between the times sampled: W2 to the true distribution, by quantiles in 1-D, in closed form in 2-D; the energy
distance ``(2 E|X - Y| - E|X - X'| - E|Y - Y'|)^(1/2)`` between samples, `scipy.stats.energy_distance` in 1-D, all
pairs in 2-D; RMSE of the mean. What is seen:

- The mean is that of least squares, whatever the covariance or the components, so that nothing is gained in RMSE;
  what is gained is the shape. The factor wins everywhere, also against least squares for the spread; the hull does
  not.
- W2 pays for mass at the wrong branch. Where the samples' shares of two branches are left to chance, the branches are
  bent towards each other to make up for it, and the error in W2 is several times larger.
- At a singular covariance W2^2 is not Lipschitz in the covariance, it is in its factor: printed.

    python examples/bernstein_wasserstein.py [--quick] [--out bernstein_wasserstein.png]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices: a second thread costs more than it gives

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import autograd.numpy as np
import matplotlib
import numpy as onp
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist
from scipy.stats import binom, energy_distance, norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.mixture import GaussianMixture
from tqdm import tqdm

import clarke
from clarke.plots import PAPER

TRIES = 60  # of joining the components of mixtures through time

# ---------------------------------------------------------------- distributions


@dataclass(frozen=True, eq=False)
class Mixtures:
    """One mixture of K Gaussians in R^d for each of T times: weights (T, K), means (T, K, d), factors (T, K, d, d)."""

    weights: onp.ndarray
    means: onp.ndarray
    factors: onp.ndarray

    @property
    def mean(self):
        """(T, d)."""
        return onp.einsum("tk,tkd->td", self.weights, self.means)

    def sample(self, count, rng, chance=False):
        """(T, count, d): from each component its share, as nearly as whole numbers go; or the shares left to chance."""
        T, _, d = self.means.shape
        level = rng.random((T, count)) if chance else onp.tile((onp.arange(count) + 0.5) / count, (T, 1))
        which = onp.sum(level[:, :, None] >= onp.cumsum(self.weights, axis=1)[:, None, :-1], axis=2)
        noise, t = rng.standard_normal((T, count, d)), onp.arange(T)[:, None]
        return self.means[t, which] + onp.einsum("tnij,tnj->tni", self.factors[t, which], noise)

    def quantiles(self, levels):
        """(T, levels) of mixtures on the line, by interpolation in a fine table of the distribution function."""
        spread, found = onp.maximum(onp.abs(self.factors[:, :, 0, 0]), 1e-12), []
        for w, mu, s in zip(self.weights, self.means[:, :, 0], spread, strict=True):
            grid = onp.unique(mu + onp.linspace(-6, 6, 2001)[:, None] * s)
            found.append(onp.interp(levels, norm.cdf((grid[:, None] - mu) / s) @ w, grid))
        return onp.array(found)


def single(means, factors):
    """Gaussians (T, d), (T, d, d)."""
    return Mixtures(onp.ones((len(means), 1)), means[:, None], factors[:, None])


def square_root(covariances):
    """Symmetric square roots (..., d, d), negative eigenvalues taken for 0."""
    values, vectors = onp.linalg.eigh(covariances)
    return (vectors * onp.sqrt(onp.maximum(values, 0))[..., None, :]) @ onp.swapaxes(vectors, -1, -2)


def gaussian_w2_squared(m1, L1, m2, L2):
    """|m1 - m2|^2 + |L1|^2 + |L2|^2 - 2 |L2^T L1|_*, of Gaussians by factors of their covariances."""
    nuclear = onp.linalg.svd(onp.swapaxes(L2, -1, -2) @ L1, compute_uv=False).sum(axis=-1)
    squares = onp.sum((m1 - m2) ** 2, axis=-1) + onp.sum(L1**2, axis=(-1, -2)) + onp.sum(L2**2, axis=(-1, -2))
    return onp.maximum(squares - 2 * nuclear, 0)


# ---------------------------------------------------------------- the model


def bernstein(degree, t):
    """(T, degree + 1): b_i(t)."""
    return binom.pmf(onp.arange(degree + 1), degree, onp.asarray(t)[:, None])


def corner(n, samples):
    """c of the module's docstring (T,), for samples (T, n): the spread of the nearest Gaussian."""
    q = norm.ppf(onp.arange(n + 1) / n)
    return onp.sort(samples, axis=1) @ -onp.diff(norm.pdf(q))


def split(theta, K, degree, d):
    """Control points of a flat theta: means (K, N + 1, d), factors (K, N + 1, d, d)."""
    cut = K * (degree + 1) * d
    return np.reshape(theta[:cut], (K, degree + 1, d)), np.reshape(theta[cut:], (K, degree + 1, d, d))


def covariance_of(B, L, form):
    """(Sigma, r): Sigma[i][j] (T,), and r = det Sigma^(1/2) (T,), of control factors L (N + 1, d, d)."""
    d = L.shape[1]
    if form == "factor":
        F = [[np.dot(B, L[:, i, j]) for j in range(d)] for i in range(d)]
        S = [[sum(F[i][k] * F[j][k] for k in range(d)) for j in range(d)] for i in range(d)]
        return S, np.abs(F[0][0] if d == 1 else F[0][0] * F[1][1] - F[0][1] * F[1][0])
    S = [[np.dot(B, np.sum(L[:, i] * L[:, j], axis=1)) for j in range(d)] for i in range(d)]
    return S, np.sqrt(S[0][0] if d == 1 else S[0][0] * S[1][1] - S[0][1] * S[1][0])


def coupled_loss(B, plan, means, factors, form="factor"):
    """theta -> sum of plan[t, k, j] W2^2(component k at t, Gaussian j at t), less what does not depend on theta;
    means (T, J, d), factors (T, J, d, d) of the Gaussians j."""
    (_, K, J), d = plan.shape, means.shape[2]
    known, root = factors @ onp.swapaxes(factors, -1, -2), onp.abs(onp.linalg.det(factors))

    def loss(theta):
        m, L = split(theta, K, B.shape[1] - 1, d)
        total = 0.0
        for k in range(K):
            mu, (S, r) = np.dot(B, m[k]), covariance_of(B, L[k], form)
            for j in range(J):
                common = r * root[:, j]
                if d == 2:
                    pairs = ((0, 0), (0, 1), (1, 0), (1, 1))
                    common = np.sqrt(sum(S[a][b] * known[:, j, a, b] for a, b in pairs) + 2 * common)
                squares = np.sum((mu - means[:, j]) ** 2, axis=1) + sum(S[a][a] for a in range(d))
                total = total + np.sum(plan[:, k, j] * (squares - 2 * common))
        return total

    return loss


def sorted_loss(B, counts, samples):
    """theta -> the mean over t of W2^2 between the samples (T, n) and as many points of the mixture on the line, those
    of component k at mu_k + L_k z, z the counts[k] midpoint quantiles of N(0, 1): both are sorted."""
    T, n = samples.shape
    noise, wanted = [norm.ppf((onp.arange(c) + 0.5) / c) for c in counts], onp.sort(samples, axis=1)

    def loss(theta):
        m, L = split(theta, len(counts), B.shape[1] - 1, 1)
        points = [np.dot(B, m[k]) + np.dot(B, L[k, :, :, 0]) * z for k, z in enumerate(noise)]
        return np.sum((np.sort(np.concatenate(points, axis=1), axis=1) - wanted) ** 2) / (T * n)

    return loss


def trajectory(theta, weights, t, degree, d, form="factor"):
    """The model's `Mixtures` at times t."""
    K = len(weights)
    (m, L), B = split(onp.asarray(theta), K, degree, d), bernstein(degree, t)
    if form == "factor":
        factors = onp.einsum("tb,kbij->tkij", B, L)
    else:
        factors = square_root(onp.einsum("tb,kbij,kblj->tkil", B, L, L))
    return Mixtures(onp.tile(weights, (len(t), 1)), onp.moveaxis(B @ m, 0, 1), factors)


def coupled(costs, given):
    """(w (K,), pi (T, K, J)) of least sum of pi * costs with row sums w for every t and column sums given (T, J)."""
    T, K, J = costs.shape
    ones_k, ones_j = onp.ones((1, K)), onp.ones((1, J))
    rows = sparse.kron(sparse.eye_array(T), sparse.kron(sparse.eye_array(K), ones_j))
    columns = sparse.kron(sparse.eye_array(T), sparse.kron(ones_k, sparse.eye_array(J)))
    shared = sparse.vstack([-sparse.eye_array(K)] * T + [sparse.csr_array((T * J, K))])
    equations = sparse.hstack([sparse.vstack([rows, columns]), shared])
    found = linprog(
        onp.append(costs.ravel(), onp.zeros(K)),
        A_eq=equations,
        b_eq=onp.append(onp.zeros(T * K), given.ravel()),
    )
    if found.status:
        raise RuntimeError(f"linprog: {found.message}")
    return found.x[-K:], found.x[:-K].reshape(T, K, J)


def local_fits(samples, K, seed):
    """`Mixtures`: at each time K Gaussians fitted to the samples (T, n, d); K = 1 by the closed form."""
    n, d = samples.shape[1:]
    if K == 1:
        centered = samples - samples.mean(axis=1, keepdims=True)
        if d == 1:
            return single(samples.mean(axis=1), corner(n, samples[:, :, 0])[:, None, None])
        return single(samples.mean(axis=1), square_root(onp.swapaxes(centered, 1, 2) @ centered / n))
    fits = [GaussianMixture(K, n_init=3, reg_covar=1e-5, random_state=seed).fit(y) for y in samples]
    weights, means, covariances = (
        onp.array([getattr(fit, what) for fit in fits]) for what in ("weights_", "means_", "covariances_")
    )
    return Mixtures(weights, means, square_root(covariances))


@dataclass(frozen=True, eq=False)
class Fit:
    """theta; weights (K,); the last result of `clarke.minimize`; the loss after each coupling, and sorted, if K > 1."""

    theta: onp.ndarray
    weights: onp.ndarray
    result: object
    losses: tuple


def joined(means, B, rng):
    """Control points (K, N + 1, d) of curves through the components' means (T, K, d): in order of position, exchanged
    after a few random times; then curves by least squares and the cheapest assignment in turn. The best of TRIES."""
    T, K, _ = means.shape
    best, found = onp.inf, onp.zeros(())
    for trial in range(TRIES if K > 1 else 1):
        order = onp.argsort(means[:, :, 0], axis=1)
        for cut in rng.integers(1, T, size=trial % 4):
            order[cut:] = order[cut:, rng.permutation(K)]
        while True:
            path = onp.take_along_axis(means, order[:, :, None], axis=1)
            control = onp.linalg.lstsq(B, path.reshape(T, -1), rcond=None)[0].reshape(B.shape[1], K, -1)
            curves = onp.einsum("tb,bkd->tkd", B, control)
            costs = onp.sum((curves[:, :, None] - means[:, None]) ** 2, axis=3)
            new = onp.array([linear_sum_assignment(cost)[1] for cost in costs])
            if (new == order).all():
                break
            order = new
        error = onp.sum((curves - path) ** 2)
        if error < best:
            best, found = error, control.swapaxes(0, 1)
    return found


def fit_bernstein(t, samples, degree, K, seed, form="factor"):
    """One Gaussian: one minimization. More, on the line: couplings and parameters in turn until the couplings stay,
    then the sorted samples."""
    T, B, targets = len(t), bernstein(degree, t), local_fits(samples, K, seed)
    means = joined(targets.means, B, onp.random.default_rng(seed))
    factors = onp.linalg.lstsq(B, targets.factors.mean(axis=1).reshape(T, -1), rcond=None)[0]
    theta = onp.append(means, onp.tile(factors, (K, 1, 1)))
    if K > 1:
        return fit_mixture(theta, t, samples[:, :, 0], degree, targets)
    result = clarke.minimize(coupled_loss(B, onp.full((T, 1, 1), 1 / T), targets.means, targets.factors, form), theta)
    return Fit(result.x, onp.ones(1), result, ())


def fit_mixture(theta, t, samples, degree, targets):
    """As `fit_bernstein`, from theta; samples (T, n) on the line."""
    (T, n), K, B = samples.shape, targets.weights.shape[1], bernstein(degree, t)
    weights, plan, losses = onp.full(K, 1 / K), None, []
    while True:
        moving = trajectory(theta, weights, t, degree, 1)
        costs = gaussian_w2_squared(
            moving.means[:, :, None], moving.factors[:, :, None], targets.means[:, None], targets.factors[:, None]
        )
        weights, new = coupled(costs, targets.weights)
        losses.append(float(onp.sum(new * costs) / T))
        if plan is not None and onp.allclose(new, plan, atol=1e-9):
            break
        plan = new
        theta = clarke.minimize(coupled_loss(B, plan / T, targets.means, targets.factors), theta).x
    counts = onp.diff(onp.round(onp.append(0, onp.cumsum(weights)) * n)).astype(int)
    loss = sorted_loss(B, counts, samples)
    result = clarke.minimize(loss, theta)
    return Fit(result.x, weights, result, (*losses, float(loss(theta)), float(result.fun)))


# ---------------------------------------------------------------- the baselines


def fit_polynomial(t, samples, degree, d, spread):
    """times -> `Mixtures`: least squares for the mean, and one covariance of the residuals; or, spread, least squares
    for the covariance at each time, entry by entry, whose negative eigenvalues are taken for 0."""
    (T, n, _), B = samples.shape, bernstein(degree, t)
    control = onp.linalg.lstsq(B, samples.mean(axis=1), rcond=None)[0]
    rest = samples - (B @ control)[:, None]
    moments = onp.einsum("tni,tnj->tij", rest, rest)
    covariance = moments.sum(axis=0) / (T * n - degree - 1)
    entries = onp.linalg.lstsq(B, moments.reshape(T, -1) / n, rcond=None)[0]

    def at(times):
        b = bernstein(degree, times)
        found = (b @ entries).reshape(-1, d, d) if spread else onp.tile(covariance, (len(times), 1, 1))
        return single(b @ control, square_root(found))

    return at


def fit_gaussian_process(t, samples, seed):
    """times -> `Mixtures`: scikit-learn's GaussianProcessRegressor for each coordinate, noise and all."""
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(0.2, (1e-2, 1e1)) + WhiteKernel(1e-2, (1e-6, 1e1))
    processes = []
    for i in range(samples.shape[2]):
        process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            processes.append(process.fit(onp.repeat(t, samples.shape[1])[:, None], samples[:, :, i].ravel()))

    def at(times):
        found = [process.predict(times[:, None], return_std=True) for process in processes]
        spread = onp.stack([std for _, std in found], axis=1)
        return single(onp.stack([mean for mean, _ in found], axis=1), spread[:, :, None] * onp.eye(len(found)))

    return at


# ---------------------------------------------------------------- the trajectories


def rotation(angle):
    return onp.moveaxis(onp.array([[onp.cos(angle), -onp.sin(angle)], [onp.sin(angle), onp.cos(angle)]]), 2, 0)


def chirp(t):
    """On the line: faster and faster, its spread swelling and shrinking nearly to 0."""
    spread = 0.02 + 0.5 * onp.sin(2 * onp.pi * t) ** 2 * (1 - 0.5 * t)
    return single(onp.sin(2 * onp.pi * t * (0.5 + t))[:, None], spread[:, None, None])


def spiral(t):
    """In the plane: outward, along an ellipse that turns and thins."""
    angle = 3 * onp.pi * t
    center = (0.3 + t)[:, None] * onp.stack([onp.cos(angle), onp.sin(angle)], axis=1)
    axes = onp.stack([0.05 + 0.3 * t, 0.15 - 0.13 * t], axis=1)
    return single(center, rotation(angle) * axes[:, None])


def crossing(t):
    """On the line: two branches, four to six, that cross twice."""
    means = onp.stack([onp.cos(2 * onp.pi * t), 0.3 - onp.cos(2 * onp.pi * t) * (1 - 0.5 * t)], axis=1)
    spread = onp.stack([0.05 + 0.15 * t, 0.2 - 0.15 * t], axis=1)
    return Mixtures(onp.tile([0.4, 0.6], (len(t), 1)), means[:, :, None], spread[:, :, None, None])


@dataclass(frozen=True)
class Task:
    """A trajectory, the components and the degree of its model, and whether its samples' shares are left to chance."""

    truth: Callable
    components: int
    degree: int
    chance: bool = False


TASKS = {
    "chirp": Task(chirp, 1, 9),
    "spiral": Task(spiral, 1, 9),
    "crossing": Task(crossing, 2, 7),
    "crossing, by chance": Task(crossing, 2, 7, True),
}
METHODS = ("Bernstein", "hull", "polynomial", "polynomial, spread", "Gaussian process")


def energy_distances(a, b):
    """(T,) between samples (T, n, d)."""
    if a.shape[2] == 1:
        return onp.array([energy_distance(u[:, 0], v[:, 0]) for u, v in zip(a, b, strict=True)])
    pairs = [2 * cdist(u, v).mean() - cdist(u, u).mean() - cdist(v, v).mean() for u, v in zip(a, b, strict=True)]
    return onp.sqrt(onp.maximum(pairs, 0))


def distances(found, truth):
    """(T,): W2 to the truth, by quantiles on the line, by the closed form in the plane."""
    if truth.means.shape[2] == 2:
        ends = (found.means[:, 0], found.factors[:, 0], truth.means[:, 0], truth.factors[:, 0])
        return onp.sqrt(gaussian_w2_squared(*ends))
    levels = (onp.arange(2000) + 0.5) / 2000
    return onp.sqrt(onp.mean((found.quantiles(levels) - truth.quantiles(levels)) ** 2, axis=1))


@dataclass(frozen=True, eq=False)
class Trial:
    """One data set: samples (T, n, d) at times t; found, `Mixtures` at the test times by method; scores by method, W2,
    energy distance and RMSE, those of "the truth" from samples of its own; the `Fit` of the Bernstein model."""

    t: onp.ndarray
    samples: onp.ndarray
    times: onp.ndarray
    found: dict
    scores: dict
    fit: Fit


def trial(name, stream, quick):
    """Sample a trajectory, fit every method, score it between the times sampled."""
    task = TASKS[name]
    t, times = onp.linspace(0, 1, 25), onp.linspace(0.02, 0.98, 24 if quick else 48)
    samples = task.truth(t).sample(20 if quick else 40, stream, task.chance)
    d, seed = samples.shape[2], int(stream.integers(2**31))
    fit = fit_bernstein(t, samples, task.degree, task.components, seed)
    found = {"Bernstein": trajectory(fit.theta, fit.weights, times, task.degree, d)}
    if task.components == 1:
        hull = fit_bernstein(t, samples, task.degree, 1, seed, "hull")
        found["hull"] = trajectory(hull.theta, hull.weights, times, task.degree, d, "hull")
    found |= {
        "polynomial": fit_polynomial(t, samples, task.degree, d, False)(times),
        "polynomial, spread": fit_polynomial(t, samples, task.degree, d, True)(times),
        "Gaussian process": fit_gaussian_process(t, samples, seed)(times),
    }
    exact, count, scores = task.truth(times), 300 if quick else 1000, {}
    drawn = exact.sample(count, stream)
    for method, guess in {**found, "the truth": exact}.items():
        error = onp.sqrt(onp.mean(onp.sum((guess.mean - exact.mean) ** 2, axis=1)))
        energy = energy_distances(guess.sample(count, stream), drawn).mean()
        scores[method] = (distances(guess, exact).mean(), energy, error)
    return Trial(t, samples, times, found, scores, fit)


# ---------------------------------------------------------------- what is nonsmooth


def singular_covariances():
    """How fast W2^2 to N(0, I) changes in the plane as diag(1, v) leaves rank 1: in the covariance, in its factor."""
    print("\nW2^2 from N(0, diag(1, v)) to N(0, I) less that at v = 0, over |change|")
    print(f"{'v':>8s} {'in the covariance':>18s} {'in its factor':>14s}")
    origin, one = onp.zeros(2), onp.eye(2)
    start = gaussian_w2_squared(origin, onp.diag([1.0, 0.0]), origin, one)
    for v in 10.0 ** -onp.arange(1, 14, 3):
        change = gaussian_w2_squared(origin, onp.diag([1.0, onp.sqrt(v)]), origin, one) - start
        print(f"{v:8.0e} {abs(change) / v:18.4g} {abs(change) / onp.sqrt(v):14.4g}")
    rng = onp.random.default_rng(0)
    A, B = rng.standard_normal((2, 100_000, 2, 2))
    A[::2, :, 1] = 0.0  # rank 1
    B = A + 10.0 ** rng.uniform(-8, 1, (len(A), 1, 1)) * B
    change = onp.abs(gaussian_w2_squared(origin, A, origin, one) - gaussian_w2_squared(origin, B, origin, one))
    sizes = [onp.linalg.norm(F, axis=(1, 2)) for F in (A, B, A - B)]
    ratio = change / ((sizes[0] + sizes[1] + 2 * onp.sqrt(2)) * sizes[2])
    print(f"|W2^2(L) - W2^2(L')| <= (|L| + |L'| + 2 |I|) |L - L'|: 100,000 pairs, largest ratio {ratio.max():.4f}")
    try:
        clarke.limiting_gradients(lambda v: (np.sqrt(v[0]) - 1) ** 2, [0.0])
    except clarke.NotPiecewiseSmooth as error:
        print(f"on the line, in the variance at 0: NotPiecewiseSmooth, {str(error).split(':')[0]}")
    factor = clarke.limiting_gradients(lambda L: (np.abs(L[0]) - 1) ** 2, [0.0])
    least = abs(clarke.min_norm_element(factor).element[0])
    print(f"on the line, in the factor at 0: limiting gradients {onp.sort(factor.vectors[:, 0]).tolist()};", end=" ")
    print(f"their hull comes within {least:.0e} of 0: stationary, although a maximum, so that no start may be singular")


def ties():
    """The squared W2 of sorted samples on the line, at samples that tie."""
    wanted, at = onp.array([-1.0, 0.0, 0.5, 2.0]), onp.array([0.3, 0.3, 0.3, -1.5])
    loss = lambda a: np.mean((np.sort(a) - wanted) ** 2)  # noqa: E731
    found = clarke.limiting_hessians(loss, at)
    pieces, gap = found.distinct(), onp.abs(found.matrices - 2 / len(at) * onp.eye(len(at))).max()
    print(f"\nsorted samples, three of four tied: {len(pieces.gradients)} limiting gradients", end=" ")
    print(f"({'complete' if found.complete else found.reason});", end=" ")
    print(f"every Hessian is (2 / n) I to {gap:.0e}; {clarke.check_ad(loss, at, derivative='gradient')}")


# ---------------------------------------------------------------- the table and the picture


def report(trials):
    """Means over data sets, and their standard errors."""
    for name, runs in trials.items():
        results, shape = [run.fit.result for run in runs], runs[0].samples.shape[:2]
        print(f"\n{name}: degree {TASKS[name].degree}, {len(runs)} data sets of {shape} samples; minimized:", end=" ")
        print(f"{sum(r.success for r in results)} stationary, to {max(r.stationarity for r in results):.0e}", end=" ")
        print(f"or better, in {max(r.nit for r in results)} steps at most")
        print(f"{'':20s} {'W2':>16s} {'energy distance':>16s} {'RMSE of the mean':>17s}")
        scores = {method: onp.array([run.scores[method] for run in runs]) for method in runs[0].scores}
        for method, values in scores.items():
            errors = values.std(axis=0, ddof=1) / onp.sqrt(len(values))
            cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(values.mean(axis=0), errors, strict=True)]
            print(f"{method:20s} {cells[0]:>16s} {cells[1]:>16s} {cells[2]:>17s}")
        ours, theirs = (scores[method][:, 1].mean() for method in ("Bernstein", "polynomial"))
        verdict = "below" if ours < theirs else "ABOVE"
        print(f"energy distance {verdict} the least-squares polynomial's by {abs(1 - ours / theirs):.0%}")


SHOWN = {
    "Bernstein": ("Bernstein, $W_2$", "#1f5a8a"),
    "polynomial": ("least squares", "#a33b20"),
    "polynomial, spread": ("its spread too", "#e08a5b"),
    "Gaussian process": ("Gaussian process", "#6a4c93"),
}


def band(ax, times, found, color):
    """Mean and two standard deviations of every component, on the line."""
    for k in range(found.means.shape[1]):
        mu, s = found.means[:, k, 0], onp.abs(found.factors[:, k, 0, 0])
        ax.fill_between(times, mu - 2 * s, mu + 2 * s, color=color, alpha=0.3, lw=0)
        ax.plot(times, mu, color=color, lw=0.9)


def ellipses(ax, found, chosen, **style):
    """Two standard deviations of Gaussians in the plane."""
    for mean, L in zip(found.means[chosen, 0], found.factors[chosen, 0], strict=True):
        vectors, sizes, _ = onp.linalg.svd(L)
        angle = onp.degrees(onp.arctan2(vectors[1, 0], vectors[0, 0]))
        ax.add_patch(Ellipse(tuple(mean), 4 * sizes[0], 4 * sizes[1], angle=angle, **style))


def picture(trials):
    """One row a method, one column a trajectory, of the first data set of each; the truth in black outline."""
    with matplotlib.rc_context(PAPER):
        figure = Figure(figsize=(3.4, 3.9), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
        names = [name for name, task in TASKS.items() if not task.chance]
        axes = figure.subplots(len(SHOWN), len(names))
        for row, (method, (label, color)) in zip(axes, SHOWN.items(), strict=True):
            for ax, name in zip(row, names, strict=True):
                run = trials[name][0]
                found, truth, times = run.found[method], TASKS[name].truth(run.times), run.times
                if run.samples.shape[2] == 2:
                    ax.plot(*run.samples.reshape(-1, 2).T, ".", color="#999999", ms=1.2, mew=0, zorder=0)
                    chosen = slice(1, None, max(1, len(times) // 8))
                    ellipses(ax, found, chosen, fc=color, ec="none", alpha=0.45)
                    ellipses(ax, truth, chosen, fc="none", ec="black", lw=0.5)
                    ax.plot(*found.mean.T, color=color, lw=0.9)
                    ax.set_aspect("equal", "datalim")
                else:
                    at = onp.repeat(run.t, run.samples.shape[1])
                    ax.plot(at, run.samples.ravel(), ".", color="#999999", ms=1.2, mew=0, zorder=0)
                    band(ax, times, found, color)
                    ax.set_ylim(run.samples.min() - 0.2, run.samples.max() + 0.2)
                    for k in range(truth.means.shape[1]):
                        mu, s = truth.means[:, k, 0], truth.factors[:, k, 0, 0]
                        for edge in (mu - 2 * s, mu + 2 * s):
                            ax.plot(times, edge, color="black", lw=0.5)
                ax.tick_params(length=1.5, pad=1.5, labelbottom=method == "Gaussian process")
                if method == "Bernstein":
                    ax.set_title(name, pad=3)
            row[0].set_ylabel(label)
        for ax, name in zip(axes[-1], names, strict=True):
            ax.set_xlabel("$y_1$" if name == "spiral" else "$t$", labelpad=1)
        figure.draw_without_rendering()  # ticks are made when drawn: they take the fonts of now
    return figure


def main(out, quick):
    count = 3 if quick else 10
    trials = {name: [] for name in TASKS}
    with tqdm(total=count * len(TASKS), desc="data sets") as bar:
        for name in TASKS:
            for stream in onp.random.default_rng(0).spawn(count):
                trials[name].append(trial(name, stream, quick))
                bar.update()
    report(trials)
    singular_covariances()
    ties()
    picture(trials).savefig(out, dpi=300)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="fewer data sets and samples")
    parser.add_argument("--out", default="bernstein_wasserstein.png", help="where to write the picture")
    arguments = parser.parse_args()
    main(arguments.out, arguments.quick)
