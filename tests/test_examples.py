"""The mathematics of the examples: their closed forms against slow twins. That they run is seen elsewhere."""

import importlib.util
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.stats import norm

import clarke

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def bernstein():
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    return load("bernstein_wasserstein")


@pytest.fixture(scope="module")
def landscape():
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    return load("landscape_convergence")


# ---------------------------------------------------------------- Bernstein and Wasserstein


def w2_squared_by_quantiles(mu, s, samples):
    """W2^2 of N(mu, s^2) and the uniform measure on samples: the integral of squared differences of quantiles."""
    y, n, total = np.sort(samples), len(samples), 0.0
    for j in range(n):  # in z with q = Phi(z), where the integrand is smooth
        ends = np.maximum(norm.ppf(j / n), -12), np.minimum(norm.ppf((j + 1) / n), 12)
        total += quad(lambda z, j=j: (mu + s * z - y[j]) ** 2 * norm.pdf(z), *ends, epsabs=1e-13)[0]
    return total


def test_the_distance_of_a_gaussian_to_samples_is_the_integral_over_quantiles(bernstein, rng):
    for n in (1, 2, 7):
        y, mu, s = rng.standard_normal(n), rng.standard_normal(), rng.random()
        c = bernstein.corner(n, y[None])[0]
        closed = (mu - y.mean()) ** 2 + (s - c) ** 2 + np.mean(y**2) - y.mean() ** 2 - c**2
        assert closed == pytest.approx(w2_squared_by_quantiles(mu, s, y), abs=1e-10)


def test_the_distance_of_gaussians_is_that_of_the_square_roots_of_covariances(bernstein, rng):
    m, L = rng.standard_normal((2, 50, 2)), rng.standard_normal((2, 50, 2, 2))
    L[:, ::3, :, 1] = 0.0  # some of rank one
    found = bernstein.gaussian_w2_squared(m[0], L[0], m[1], L[1])
    for k in range(50):
        S1, S2 = (L[i, k] @ L[i, k].T for i in (0, 1))
        root = bernstein.square_root(S2)
        cross = np.trace(bernstein.square_root(root @ S1 @ root))
        twin = np.sum((m[0, k] - m[1, k]) ** 2) + np.trace(S1) + np.trace(S2) - 2 * cross
        assert found[k] == pytest.approx(twin, abs=1e-7)  # a root of rounding


@pytest.mark.parametrize("form", ["factor", "hull"])
@pytest.mark.parametrize("d", [1, 2])
def test_the_loss_is_the_coupled_distance_of_the_trajectory_up_to_a_constant(bernstein, rng, d, form):
    T, K, J, degree = 5, 2, 3, 3
    t = np.linspace(0, 1, T)
    B = bernstein.bernstein(degree, t)
    plan, means, factors = rng.random((T, K, J)), rng.standard_normal((T, J, d)), rng.standard_normal((T, J, d, d))
    loss, differences = bernstein.coupled_loss(B, plan, means, factors, form), []
    for _ in range(4):
        theta = rng.standard_normal(K * (degree + 1) * (d + d * d))
        at = bernstein.trajectory(theta, np.ones(K) / K, t, degree, d, form)
        pairs = bernstein.gaussian_w2_squared(
            at.means[:, :, None], at.factors[:, :, None], means[:, None], factors[:, None]
        )
        differences.append(np.sum(plan * pairs) - loss(theta))
    assert np.ptp(differences) <= 1e-7


def test_bernstein_polynomials_are_a_partition_of_unity_that_reaches_its_ends(bernstein):
    B = bernstein.bernstein(6, np.linspace(0, 1, 40))
    assert (B >= 0).all()
    assert B.sum(axis=1) == pytest.approx(np.ones(40))
    assert B[0] == pytest.approx(np.eye(7)[0])
    assert B[-1] == pytest.approx(np.eye(7)[6])


@pytest.mark.parametrize("name", ["chirp", "spiral", "crossing"])
def test_the_fitted_mean_is_that_of_least_squares_and_the_fit_is_stationary(bernstein, name):
    task, t = bernstein.TASKS[name], np.linspace(0, 1, 15)
    samples = task.truth(t).sample(10, np.random.default_rng(0))
    fit = bernstein.fit_bernstein(t, samples, 5, task.components, 0)
    found = bernstein.trajectory(fit.theta, fit.weights, t, 5, samples.shape[2]).mean
    assert fit.result.success
    assert fit.weights.sum() == pytest.approx(1)
    line = np.polynomial.Polynomial.fit
    for i in range(samples.shape[2]):
        assert found[:, i] == pytest.approx(line(t, samples.mean(axis=1)[:, i], 5)(t), abs=1e-6)


def test_couplings_and_parameters_in_turn_never_raise_the_loss(bernstein):
    t = np.linspace(0, 1, 15)
    samples = bernstein.crossing(t).sample(10, np.random.default_rng(1))
    *coupled, before, after = bernstein.fit_bernstein(t, samples, 5, 2, 0).losses
    assert (np.diff(coupled) <= 1e-9).all()
    assert after <= before


def test_the_coupling_is_that_of_the_best_weights(bernstein, rng):
    """Against a search over the weights of two components, one linear program a time."""
    costs, given = rng.random((4, 2, 3)), rng.dirichlet(np.ones(3), 4)
    weights, plan = bernstein.coupled(costs, given)
    assert plan.sum(axis=2) == pytest.approx(np.tile(weights, (4, 1)))
    assert plan.sum(axis=1) == pytest.approx(given)

    def of(w):
        rows, columns = np.kron(np.eye(2), np.ones(3)), np.kron(np.ones(2), np.eye(3))
        sums = [np.concatenate([[w, 1 - w], g]) for g in given]
        return sum(
            linprog(c.ravel(), A_eq=np.vstack([rows, columns]), b_eq=b).fun for c, b in zip(costs, sums, strict=True)
        )

    assert np.sum(plan * costs) <= min(of(w) for w in np.linspace(0, 1, 41)) + 1e-9
    assert np.sum(plan * costs) == pytest.approx(of(weights[0]))


def test_the_sorted_loss_is_the_best_assignment_and_its_pieces_are_permutations(bernstein, rng):
    samples = rng.standard_normal((1, 4))
    loss = bernstein.sorted_loss(np.ones((1, 1)), [2, 2], samples)
    theta = rng.standard_normal(4)  # two means, two spreads
    z = norm.ppf([0.25, 0.75])
    points = np.concatenate([theta[0] + theta[2] * z, theta[1] + theta[3] * z])
    best = min(np.mean((points[list(order)] - samples[0]) ** 2) for order in permutations(range(4)))
    assert loss(theta) == pytest.approx(best)
    tied = clarke.limiting_gradients(loss, np.array([0.3, 0.3, 0.5, 0.5]))  # two pairs of points
    assert tied.complete
    assert len(tied.distinct().vectors) == 4


def test_joining_by_curves_finds_branches_that_cross(bernstein):
    t = np.linspace(0, 1, 25)
    means = bernstein.crossing(t).means
    B = bernstein.bernstein(7, t)
    control = bernstein.joined(np.sort(means, axis=1), B, np.random.default_rng(0))
    curves = np.einsum("tb,kbd->tkd", B, control)
    missed = min(np.abs(curves[:, order] - means).max() for order in ([0, 1], [1, 0]))
    assert missed < 0.02  # what degree 7 leaves of a cosine


# ---------------------------------------------------------------- the landscape


def test_averages_run_over_the_window_around_k(landscape, rng):
    values = rng.standard_normal(60)
    found = landscape.averaged(values)
    for k in range(1, 61):
        window = [values[j - 1] for j in range(1, 61) if k / landscape.WINDOW <= j <= k * landscape.WINDOW]
        assert found[k - 1] == pytest.approx(np.mean(window))


def test_increments_become_the_mean_deviation_of_the_losses(landscape, rng):
    losses = rng.random(400) ** 4
    curve = landscape.increments(losses, rng)
    deviation = np.abs(losses - losses.mean())
    spread = deviation.std() / np.sqrt(landscape.ORDERS * 50)
    assert curve[-50:].mean() == pytest.approx(deviation.mean(), abs=6 * spread)


def test_the_networks_of_the_study_are_those_the_printed_lemma_5_speaks_of(landscape, rng):
    images = rng.random((1, 1, 8, 8))
    for designs in landscape.VARIED.values():
        for design in designs:
            network = landscape.build(design, images, np.array([3]))
            report = clarke.norm_report(network.at(landscape.drawn(network, rng)))
            for name in ("Lemma 5 corrected", "sharp"):
                assert report[name].holds, design
