"""Laws of the expected loss: closed Gaussian integrals, quadrature in place of luck, and seeded runs."""

from itertools import product

import autograd.numpy as anp
import numpy as np
import pytest
from scipy.stats import norm

import clarke
from clarke import expected_hessian, layers
from clarke.claims.references import perturbed_loss, second
from clarke.local import Local, closed_form
from clarke.stochastic import draw, seen_from

rng_of = np.random.default_rng
MEANS = [-1.3, 0.0, 0.4]


@closed_form(
    lambda values, output, pieces: Local(lambda i, t: t.sum(axis=(1, 2)), lambda i, c: c[:, None, None] + 0 * values[0])
)
def total(y):
    """The sum of y (N, d) as a loss that need not be recorded at every draw."""
    return anp.sum(y)


def one_node(fun, mu, loss=total):
    """L(w) = loss(fun(w)) at w = mu, one number."""
    network = clarke.Network()
    network.parameter("w", [[mu]])
    network.node("h", fun, "w")
    network.loss(loss, "h")
    return network


def half_square(mu):
    """relu(w)^2 / 2."""
    return one_node(layers.relu, mu, layers.squared_error([[0.0]]))


def quartic(mu, a):
    """(a . mu)^4 / 2."""
    network = clarke.Network()
    network.parameter("w", [mu])
    network.input("a", [a])
    network.node("u", layers.affine, "w", "a")
    network.node("square", layers.product, "u", "u")
    network.loss(layers.squared_error([[0.0]]), "square")
    return network


def expectation(network, name, sigma, method, points, weights):
    """The expected (gradient, Hessian) of one draw under a rule for a standard normal number, in every entry."""
    part, shape = seen_from(network, name), network.value(name).shape
    sigma = np.broadcast_to(sigma, shape)
    gradient, hessian = 0.0, 0.0
    for chosen in product(range(len(points)), repeat=sigma.size):
        eps = np.array([points[k] for k in chosen]).reshape(shape)
        terms = draw(part, name, sigma, eps, method)
        weight = np.prod([weights[k] for k in chosen])
        gradient, hessian = gradient + weight * terms[0], hessian + weight * terms[1]
    return gradient, hessian


def hermite(count):
    """Exact for polynomials of degree below 2 count."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    return points, weights / np.sqrt(2 * np.pi)


def piecewise_rule(*kinks):
    """Gauss-Legendre with the normal density between kinks, to rounding."""
    ends = np.unique([*np.linspace(-10, 10, 11), *kinks])
    x, w = np.polynomial.legendre.leggauss(24)
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:, None] + ends[:-1, None]) / 2
    points = (middle + half * x).ravel()
    return points, (half * w).ravel() * norm.pdf(points)


# ---------------------------------------------------------------- equalities


@pytest.mark.parametrize("method", ["pathwise", "stein"])
@pytest.mark.parametrize("sigma", [0.7, [[0.5, 2.0, 1.0]]])
def test_of_a_polynomial_both_expectations_are_the_derivatives_of_the_expected_loss(method, sigma):
    """With u = a . mu and s^2 = sum a_j^2 sigma_j^2: E (u + s z)^4 / 2 = (u^4 + 6 u^2 s^2 + 3 s^4) / 2."""
    mu, a = np.array([1.0, -0.5, 2.0]), np.array([0.5, 1.0, -0.25])
    u, s2 = a @ mu, np.sum((a * np.broadcast_to(sigma, (1, 3))) ** 2)
    gradient, hessian = expectation(quartic(mu, a), "w", sigma, method, *hermite(3))
    assert gradient == pytest.approx((2 * u**3 + 6 * u * s2) * a, rel=1e-12)
    assert hessian == pytest.approx(6 * (u**2 + s2) * np.outer(a, a), rel=1e-12)


@pytest.mark.parametrize("mu", MEANS)
@pytest.mark.parametrize("sigma", [0.3, 1.5])
def test_the_expectation_by_stein_has_the_curvature_of_the_kink_and_the_pathwise_one_has_not(mu, sigma):
    """E |mu + sigma z| has derivatives 2 Phi(mu / sigma) - 1 and 2 phi(mu / sigma) / sigma."""
    rule = piecewise_rule(mu / sigma, -mu / sigma)
    network = one_node(layers.absolute, mu)
    gradient, hessian = expectation(network, "w", sigma, "stein", *rule)
    assert gradient.item() == pytest.approx(2 * norm.cdf(mu / sigma) - 1, abs=1e-12)
    assert hessian.item() == pytest.approx(2 * norm.pdf(mu / sigma) / sigma, abs=1e-11)
    gradient, hessian = expectation(network, "w", sigma, "pathwise", *rule)
    assert gradient.item() == pytest.approx(2 * norm.cdf(mu / sigma) - 1, abs=1e-12)
    assert hessian.item() == 0.0  # off by all of 2 phi(mu / sigma) / sigma


@pytest.mark.parametrize("mu", MEANS)
@pytest.mark.parametrize("method", ["pathwise", "stein"])
def test_where_the_gradient_does_not_jump_both_expectations_are_right(mu, method):
    """E relu(mu + sigma z)^2 / 2 has the second derivative P(mu + sigma z > 0)."""
    gradient, hessian = expectation(half_square(mu), "w", 0.8, method, *piecewise_rule(mu / 0.8, -mu / 0.8))
    assert hessian.item() == pytest.approx(norm.cdf(mu / 0.8), abs=1e-11)
    assert gradient.item() == pytest.approx(mu * norm.cdf(mu / 0.8) + 0.8 * norm.pdf(mu / 0.8), abs=1e-12)


@pytest.mark.parametrize("name", ["x", "W", "z", "h", "both", "y"])
def test_noise_on_a_node_is_added_to_its_value_and_to_nothing_else(name):
    """One draw is the loss differentiated where that node is moved; z reaches the loss past h too."""
    rng = rng_of(0)
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 3)))
    network.parameter("W", rng.normal(size=(2, 3)))
    network.parameter("V", rng.normal(size=(2, 2)))
    network.node("z", layers.affine, "x", "W")
    network.node("h", layers.tanh, "z")
    network.node("both", layers.product, "z", "h")
    network.node("y", layers.affine, "both", "V")
    network.loss(layers.squared_error(rng.normal(size=(2, 2))), "y")
    network.loss(layers.weight_decay(0.5), "W")
    network.loss(layers.squared_error(np.zeros((2, 2))), "z")
    shape = network.value(name).shape
    eps, sigma = rng.normal(size=shape), rng.uniform(0.5, 2.0, size=shape)
    gradient, hessian = draw(seen_from(network, name), name, sigma, eps, "pathwise")
    loss, shift = perturbed_loss(network, [name]), (sigma * eps).ravel()
    truth = second(loss, shift)
    assert hessian == pytest.approx(truth, abs=1e-12 * np.abs(truth).max())
    step = 1e-6 * np.eye(eps.size)
    slopes = np.array([loss(shift + e) - loss(shift - e) for e in step]) / 2e-6
    assert gradient == pytest.approx(slopes, abs=1e-7 * np.abs(slopes).max())


def test_what_does_not_depend_on_the_noise_is_held_fixed():
    network = clarke.mlp((2, 3, 2), activation="relu", loss=total, inputs=[[1.0, 2.0]], rng=rng_of(0))
    part = seen_from(network, "h1")
    assert part.inputs == ("W2", "b2")
    assert part.parameters == ("h1",)
    assert part.nodes == ("y",)


def test_means_and_standard_errors_are_those_of_the_draws():
    network = quartic([1.0, 2.0], [0.5, 1.0])
    for method in ("pathwise", "stein"):
        found = expected_hessian(network, "w", 0.5, samples=7, rng=rng_of(3), method=method)
        rng, part = rng_of(3), seen_from(network, "w")
        draws = [draw(part, "w", np.full((1, 2), 0.5), rng.standard_normal((1, 2)), method) for _ in range(7)]
        for k, (mean, error) in enumerate(
            [(found.gradient, found.gradient_stderr), (found.hessian, found.stderr)],
        ):
            terms = np.array([terms[k] for terms in draws])
            assert mean == pytest.approx(terms.mean(axis=0), rel=1e-13)
            assert error == pytest.approx(terms.std(axis=0, ddof=1) / np.sqrt(7), rel=1e-12)
        assert (found.hessian == found.hessian.T).all()


def test_of_a_quadratic_loss_the_pathwise_estimate_has_no_error_and_mirrored_draws_none_in_the_gradient():
    network = clarke.mlp(
        (2, 2), activation="linear", loss="squared", inputs=np.eye(2), targets=np.eye(2), rng=rng_of(0)
    )
    truth = clarke.hessian_blocks(network)
    for method in ("pathwise", "stein"):
        found = expected_hessian(network, "W1", 0.3, samples=3, rng=rng_of(0), method=method)
        if method == "pathwise":
            assert found.hessian == pytest.approx(truth["W1", "W1"], abs=1e-15)
            assert found.stderr.max() <= 1e-15
        else:
            assert found.gradient == pytest.approx(truth.gradient["W1"], abs=1e-15)
            assert found.gradient_stderr.max() <= 1e-15


# ---------------------------------------------------------------- seeded runs

WITHIN = 5.0  # standard errors: a wrong seed once in two million


def within(found, truth, gradient):
    assert (np.abs(found.hessian - truth) <= WITHIN * found.stderr).all()
    assert (np.abs(found.gradient - gradient) <= WITHIN * found.gradient_stderr).all()


@pytest.mark.parametrize("mu", MEANS)
def test_a_run_by_stein_finds_the_curvature_that_a_pathwise_run_misses(mu):
    sigma, network = 0.7, one_node(layers.absolute, mu)
    truth = 2 * norm.pdf(mu / sigma) / sigma
    found = expected_hessian(network, "w", sigma, samples=2000, rng=rng_of(1))
    assert found.method == "stein"
    assert found.stderr.item() < 0.06
    within(found, truth, 2 * norm.cdf(mu / sigma) - 1)
    wrong = expected_hessian(network, "w", sigma, samples=50, rng=rng_of(1), method="pathwise")
    assert wrong.hessian.item() == wrong.stderr.item() == 0.0


@pytest.mark.parametrize("method", ["pathwise", "stein"])
def test_runs_agree_with_the_gaussian_integral_of_half_a_squared_relu(method):
    mu, sigma = 0.4, 0.7
    found = expected_hessian(half_square(mu), "w", sigma, samples=2000, rng=rng_of(2), method=method)
    within(found, norm.cdf(mu / sigma), mu * norm.cdf(mu / sigma) + sigma * norm.pdf(mu / sigma))


def test_each_entry_has_its_own_sigma():
    """L = v . relu(W x + b) in b: a diagonal Hessian v_k phi(z_k / sigma_k) / sigma_k."""
    network = clarke.mlp((2, 3, 1), activation="relu", loss=total, inputs=[[1.0, -0.5]], rng=rng_of(4))
    z, v, sigma = network.value("z1")[0], network.value("W2")[0], np.array([0.5, 1.0, 2.0])
    found = expected_hessian(network, "b1", sigma, samples=1000, rng=rng_of(5))
    assert found.method == "stein"
    within(found, np.diag(v * norm.pdf(z / sigma) / sigma), v * norm.cdf(z / sigma))
    few, whole = (expected_hessian(network, name, sigma, samples=9, rng=rng_of(5)) for name in ("b1", "z1"))
    assert whole.hessian == pytest.approx(few.hessian, abs=1e-12)  # z1 (1, 3): sigma broadcasts


def test_mirrored_draws_leave_out_the_noise_of_the_gradient():
    """A tilt 1000 w adds 1000 eps / sigma to one-sided terms, and nothing here."""
    plain = expected_hessian(one_node(layers.absolute, 0.2), "w", 0.5, samples=20, rng=rng_of(0))
    tilted = one_node(lambda w: anp.abs(w) + 1024.0 * w, 0.2)
    found = expected_hessian(tilted, "w", 0.5, samples=20, rng=rng_of(0))
    assert found.hessian == pytest.approx(plain.hessian, rel=1e-12)
    assert found.stderr == pytest.approx(plain.stderr, rel=1e-12)


# ---------------------------------------------------------------- which method, and why


def test_auto_is_pathwise_only_if_nothing_piecewise_lies_between_the_noise_and_the_loss():
    network = clarke.mlp(
        (2, 3, 2), activation="relu", loss="cross_entropy", inputs=[[1.0, 2.0]], targets=[[1.0, 0.0]], rng=rng_of(0)
    )
    for name, method in {
        "x": "stein",
        "W1": "stein",
        "z1": "stein",
        "h1": "pathwise",
        "W2": "pathwise",
        "y": "pathwise",
    }.items():
        found = expected_hessian(network, name, 0.1, samples=2, rng=rng_of(0))
        assert found.method == method, name
        expected = (
            "h1 is piecewise: Stein's" if method == "stein" else f"no piecewise operation lies between '{name}' and"
        )
        assert expected in found.reason
        assert found.samples == 2


@pytest.mark.parametrize(
    ("fun", "loss", "kinked"),
    [
        (lambda w: anp.abs(w), anp.sum, "h"),
        (lambda w: w, lambda h: anp.max(anp.concatenate([h, 2.0 * h])), "loss 1"),
        (lambda w: anp.sin(w), anp.sum, None),
        (layers.gelu, layers.squared_error([[1.0]]), None),
        (lambda w: anp.clip(layers.relu(w), -2.0, 1.0), anp.sum, "h"),
    ],
)
def test_a_kink_of_a_function_without_closed_forms_counts(fun, loss, kinked):
    found = expected_hessian(one_node(fun, 0.3, loss), "w", 0.5, samples=2, rng=rng_of(0))
    assert found.method == ("stein" if kinked else "pathwise")
    assert found.reason.startswith(f"{kinked} is piecewise" if kinked else "no piecewise operation")


def test_a_method_that_is_asked_for_is_taken_with_a_word_about_what_it_assumes():
    network = half_square(0.4)
    found = expected_hessian(network, "w", 0.5, samples=2, rng=rng_of(0), method="pathwise")
    assert found.reason == "asked for, though h is piecewise: right only if the gradient does not jump there"
    smooth = one_node(layers.tanh, 0.4)
    found = expected_hessian(smooth, "w", 0.5, samples=2, rng=rng_of(0), method="stein")
    assert found.method == "stein"
    assert found.reason.endswith("differentiation passes under the expectation, either way")


# ---------------------------------------------------------------- edges


def test_a_unit_that_is_dead_for_every_draw_contributes_nothing():
    """relu(0 w) ties with probability 1, and both of its pieces are 0."""
    dead = one_node(lambda w: anp.maximum(0.0 * w, 0.0) + w**2, 1.0)
    for method in ("pathwise", "stein"):
        found = expected_hessian(dead, "w", 0.5, samples=40, rng=rng_of(0), method=method)
        assert abs(found.hessian.item() - 2.0) <= WITHIN * found.stderr.item() + 1e-15


@pytest.mark.parametrize("method", ["auto", "pathwise", "stein"])
def test_an_array_that_reaches_no_loss_has_derivatives_zero(method):
    network = half_square(0.4)
    network.parameter("idle", [1.0, 2.0])
    network.node("end", layers.tanh, "h")
    for name in ("idle", "end"):
        found = expected_hessian(network, name, 1.0, samples=2, rng=rng_of(0), method=method)
        assert not found.hessian.any()
        assert not found.gradient.any()


def test_a_result_prints_and_is_read_only():
    found = expected_hessian(half_square(0.4), "w", 0.5, samples=3, rng=rng_of(0))
    assert repr(found) == "ExpectedHessian((1, 1), stein, 3 samples)"
    for array in (found.hessian, found.stderr, found.gradient, found.gradient_stderr):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": None}, r"network must be a clarke\.Network; got NoneType"),
        ({"network": clarke.Network()}, r"declares no loss: add one with \.loss"),
        ({"name": "v"}, "no input, parameter or node 'v'; the network has w, h"),
        ({"name": ["w"]}, r"no input, parameter or node \['w'\]"),
        ({"sigma": 0.0}, "sigma must be > 0; its least entry is 0"),
        ({"sigma": [[-2.0]]}, "sigma must be > 0; its least entry is -2"),
        ({"sigma": np.inf}, "sigma must be finite"),
        ({"sigma": "much"}, "sigma must be an array of real numbers"),
        ({"sigma": [1.0, 2.0]}, r"sigma must broadcast to the shape \(1, 1\) of 'w'; got \(2,\)"),
        ({"sigma": [[[1.0]]]}, r"sigma must broadcast to the shape \(1, 1\) of 'w'; got \(1, 1, 1\)"),
        ({"samples": 1}, "samples must be an integer >= 2, .*; got 1"),
        ({"samples": 10.0}, r"samples must be an integer >= 2, .*; got 10\.0"),
        ({"rng": None}, "rng must be a numpy Generator; got None"),
        ({"method": "score"}, "method is one of auto, pathwise, stein; got 'score'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changes, message):
    arguments = {"network": half_square(0.4), "name": "w", "sigma": 1.0, "samples": 2, "rng": rng_of(0)} | changes
    with pytest.raises(ValueError, match=message):
        expected_hessian(arguments.pop("network"), arguments.pop("name"), arguments.pop("sigma"), **arguments)
