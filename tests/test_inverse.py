"""(H + lambda I)^-1 r by every method: against numpy on the matrix differentiated whole, and exact rationals."""

from fractions import Fraction
from functools import partial

import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, minres
from test_blocks import SMOOTH, networks
from test_lift import gates, kinked, mlp, quartic, skipping

import clarke
from clarke import inverse, layers, models
from clarke.blocks import KinkError, hessian_blocks
from clarke.claims.references import brute_force
from clarke.eliminations import Factorization, SingularHessian, UnsuitableMethod
from clarke.inverse import InverseProduct, inverse_hessian_product
from clarke.local import Local, closed_form

METHODS = ("banded", "riccati", "sparse", "compressed", "dense", "auto")
SAFE = tuple(method for method in METHODS if method != "riccati")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def inertia(values):
    return int(np.sum(values > 0)), int(np.sum(values < 0)), 0


def require_truth(network, H, damping, names=None, methods=METHODS, chain=None, tol=1e-9, **which):
    """Solution, residual, inertia and log|det| of every method against numpy; riccati serves if and only if `chain`."""
    A = H + damping * np.eye(len(H))
    values = np.linalg.eigvalsh(A)
    r = np.random.default_rng(1).normal(size=len(H))
    true = np.linalg.solve(A, r)
    for method in methods:
        try:
            found = inverse_hessian_product(network, r, damping=damping, wrt=names, method=method, **which)
        except UnsuitableMethod:
            assert method == "riccati"
            assert not chain
            continue
        assert method != "riccati" or chain is not False
        np.testing.assert_allclose(found.solution, true, atol=tol * np.abs(true).max(), err_msg=method)
        assert found.residual <= tol
        assert np.linalg.norm(A @ found.solution - r) <= 2 * tol * np.linalg.norm(r)
        assert found.log_abs_det == pytest.approx(np.log(np.abs(values)).sum(), rel=1e-8, abs=1e-8)
        assert found.inertia == inertia(values), method
        assert method in (found.method, "auto")


def regular(H, damping):
    values = np.abs(np.linalg.eigvalsh(H + damping * np.eye(len(H))))
    return values.min() > 1e-5 * values.max()


# ---------------------------------------------------------------- agreement with numpy


@settings(max_examples=60, deadline=None)
@given(networks(tuple(SMOOTH)), st.sampled_from([1.0, 0.1, -0.4, 0.0]))
def test_on_any_dag_every_method_agrees_with_numpy(network, damping):
    H = brute_force(network, network.parameters)
    assume(regular(H, damping))
    require_truth(network, H, damping)


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear", layers.softplus, layers.leaky_relu])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (2, 5, 3, 1), (4, 2, 2)])
def test_on_dense_networks_square_or_not(rng, activation, samples, sizes):
    network = mlp(rng, sizes, samples, activation)
    while hessian_blocks(network.at(network.point()), weights=None)._agreeing:  # a dead layer stands at kinks
        network = mlp(rng, sizes, samples, activation)
    H = brute_force(network, network.parameters)
    for damping in (0.5, -0.3):
        require_truth(network, H, damping, chain=True)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_for_inputs_and_some_parameters_with_decay_and_several_losses(rng, loss):
    head = {"squared": layers.squared_error, "cross_entropy": layers.cross_entropy}[loss]
    network = mlp(rng, (3, 4, 3, 3))
    network.loss(head(np.abs(rng.normal(size=(2, 3)))), "h2")
    network.loss(layers.weight_decay(0.7), "W1")
    network.loss(layers.weight_decay(0.2), "b2")
    network.loss(quartic, "b1")
    for names in (None, ("b2", "W1"), ("x", "W2"), ("x",), "W3", ("b3", "x", "b1")):
        chosen = network.parameters if names is None else (names,) if isinstance(names, str) else names
        require_truth(network, brute_force(network, chosen), 0.8, names)


def unet(rng, depth, width, samples=1):
    """Down and up again, each step up joined to its step down."""
    network = clarke.Network()
    network.input("h0", rng.normal(size=(samples, width)))

    def dense(weight, z, h, above):
        network.parameter(weight, rng.normal(size=(width, width)) / np.sqrt(width))
        network.node(z, layers.affine, above, weight)
        network.node(h, layers.tanh, z)

    for k in range(1, depth + 1):
        dense(f"D{k}", f"d{k}", f"h{k}", f"h{k - 1}")
    above = f"h{depth}"
    for k in range(depth, 0, -1):
        dense(f"U{k}", f"u{k}", f"g{k}", above)
        network.node(above := f"s{k}", layers.add, f"g{k}", f"h{k - 1}")
    network.loss(layers.squared_error(rng.normal(size=(samples, width))), above)
    return network


def recurrent(rng, **changes):
    shape = {"hidden": 3, "activation": "tanh", "loss": "squared", "rng": rng} | changes
    return models.recurrent(
        shape.pop("hidden"), inputs=rng.normal(size=(2, 5, 2)), targets=rng.normal(size=(2, 2)), **shape
    )


def residual(rng):
    inputs, targets = rng.normal(size=(2, 3)), rng.normal(size=(2, 2))
    return models.residual(3, 3, inputs=inputs, targets=targets, activation="tanh", loss="squared", rng=rng)


BUILDERS = {
    "chain": (lambda rng: models.residual_chain(12, 3, rng=rng), True),
    "gates": (gates, True),
    "skips": (skipping, False),
    "residual": (residual, False),
    "u-net": (lambda rng: unet(rng, 3, 3), False),
    "tied": (recurrent, False),
}


@pytest.mark.parametrize("damping", [0.5, -0.3])
@pytest.mark.parametrize("name", BUILDERS)
def test_on_chains_skips_and_tied_weights(rng, name, damping):
    build, chain = BUILDERS[name]
    network = build(rng)
    require_truth(network, brute_force(network, network.parameters), damping, chain=chain)


# ---------------------------------------------------------------- at kinks


@pytest.mark.parametrize("pattern", ["+", "-"])
def test_at_a_kink_the_pattern_says_which_hessian(pattern):
    network = kinked()
    H = hessian_blocks(network, pattern=pattern).dense()
    require_truth(network, H, 0.3, pattern=pattern)
    with pytest.raises(KinkError):
        inverse_hessian_product(network, np.ones(3), damping=0.3)


def test_the_element_of_least_norm_is_a_mixture_of_copies():
    network = kinked()
    found = clarke.limiting_hessians(network.function(), network.point())
    element = clarke.min_norm_element(found)
    weights = dict(zip(found.patterns, element.weights, strict=True))
    assert weights == pytest.approx({"-": 0.775, "+": 0.225}, abs=1e-6)
    expected = np.einsum("k,kij->ij", element.weights, found.matrices)
    require_truth(network, expected, 0.3, weights=weights, tol=1e-8)


def test_a_mixture_through_several_layers(rng):
    network = clarke.Network()
    network.input("x", [[1.0, -1.0], [0.5, 2.0]])
    network.parameter("W", [[1.0, 1.0], [2.0, -1.0]])  # the first unit stands at its kink for the first sample
    network.parameter("V", rng.normal(size=(3, 2)))
    network.parameter("U", rng.normal(size=(2, 3)))
    network.node("z", layers.affine, "x", "W")
    network.node("h", layers.relu, "z")
    network.node("k", layers.affine, "h", "V")
    network.node("t", layers.tanh, "k")
    network.node("y", layers.affine, "t", "U")
    network.loss(layers.squared_error(rng.normal(size=(2, 2))), "y")
    weights = {"+": 0.25, "-": 0.75}
    H = sum(w * hessian_blocks(network, pattern=p).dense() for p, w in weights.items())
    for damping in (0.6, -0.2):
        require_truth(network, H, damping, weights=weights, chain=True)


def test_a_loss_of_a_parameter_may_bend_otherwise_on_each_piece(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(4, 1)))
    network.parameter("W", [[0.0]])
    network.parameter("V", rng.normal(size=(3, 1)))
    network.node("z", layers.affine, "x", "W")
    network.node("h", layers.tanh, "z")
    network.node("y", layers.affine, "h", "V")
    network.loss(layers.squared_error(rng.normal(size=(4, 3))), "y")
    network.loss(half_squared, "W")
    for weights in ({"+": 0.25, "-": 0.75}, {"-": 0.75, "+": 0.25}):
        H = sum(w * hessian_blocks(network, pattern=p).dense() for p, w in weights.items())
        require_truth(network, H, 0.3, weights=weights)


def half_squared(w):
    return 3.0 * anp.sum(anp.maximum(w, 0.0) ** 2)


def test_where_the_pieces_agree_they_count_once():
    network = clarke.Network()
    network.input("x", [[1.0], [2.0]])
    for name, value in (("w", [[1.0]]), ("b", [-1.0]), ("v", [[3.0]])):
        network.parameter(name, value)
    network.node("z", layers.affine, "x", "w", "b")
    network.node("y", layers.affine, "z", "v")
    network.loss(layers.squared_error([[1.0], [2.0]]), "y")
    network.loss(cubed, "z")  # a kink of the third derivative at the first sample
    blocks = hessian_blocks(network)
    assert len(blocks.weights) == 2
    require_truth(network, blocks.dense(), 0.5)
    np.testing.assert_allclose(blocks.dense(), hessian_blocks(network, pattern="+").dense())


def cubed(z):
    return anp.sum(anp.maximum(z, 0.0) ** 3)


# ---------------------------------------------------------------- hard cases


def bilinear(decay):
    """loss = a b + decay a^2 / 2 by way of two cuts: H = [[decay, 1], [1, 0]]."""
    network = clarke.Network()
    network.input("one", [[1.0]])
    for name in "ab":
        network.parameter(name, [[0.5]])
        network.node(f"z{name}", layers.affine, "one" if name == "a" else "za", name)
    network.loss(total, "zb")
    network.loss(layers.weight_decay(decay), "a")
    return network


def total(z):
    return anp.sum(z)


@pytest.mark.parametrize("method", SAFE)
def test_a_vanishing_trailing_pivot_is_no_obstacle(method):
    found = inverse_hessian_product(bilinear(1.0), [1.0, 2.0], damping=0, method=method)
    np.testing.assert_allclose(found.solution, [2.0, -1.0], rtol=1e-14)
    assert found.inertia == (1, 1, 0)
    assert found.log_abs_det == pytest.approx(0, abs=1e-14)


def test_riccati_says_that_its_pivot_vanishes():
    with pytest.raises(UnsuitableMethod, match=r"riccati: the pivot of b is all but singular"):
        inverse_hessian_product(bilinear(1.0), [1.0, 2.0], damping=0, method="riccati")


def linear_chain(factor, depth):
    """z_l = factor z_{l-1} + x_l, loss z_L^2 / 2: H = g g^T with g_l = factor^(L - l)."""
    network = clarke.Network()
    network.input("z0", [[1.0]])
    network.input("factor", [[float(factor)]])
    for k in range(1, depth + 1):
        network.parameter(f"x{k}", [0.5])
        network.node(f"z{k}", layers.affine, f"z{k - 1}", "factor", f"x{k}")
    network.loss(layers.squared_error([[0.0]]), f"z{depth}")
    return network


def sherman_morrison(factor, depth, damping, r):
    """(g g^T + damping)^-1 r in rationals."""
    g = [Fraction(factor) ** (depth - k) for k in range(1, depth + 1)]
    r, damping = [Fraction(float(v)) for v in r], Fraction(damping)
    c = sum(a * b for a, b in zip(g, r, strict=True)) / (damping + sum(a * a for a in g))
    return np.array([float((b - a * c) / damping) for a, b in zip(g, r, strict=True)])


@pytest.mark.parametrize("method", ["banded", "sparse", "compressed", "auto"])
@pytest.mark.parametrize("damping", [0.5, 2.0])
def test_expanding_chains_are_solved_to_rounding_where_the_dense_matrix_is_lost(rng, method, damping, monkeypatch):
    network, r = linear_chain(3, 60), rng.normal(size=60)
    true = sherman_morrison(3, 60, damping, r)
    if method == "auto":  # or the small matrix is formed: see below
        monkeypatch.setattr(inverse, "LARGEST", 0)
    found = inverse_hessian_product(network, r, damping=damping, method=method)
    np.testing.assert_allclose(found.solution, true, atol=1e-12 * np.abs(true).max())
    assert found.inertia == (60, 0, 0)
    # det = damping^59 (damping + |g|^2), |g|^2 = (9^60 - 1) / 8
    assert found.log_abs_det == pytest.approx(59 * np.log(damping) + 60 * np.log(9) - np.log(8), rel=1e-12)


@pytest.mark.parametrize("exponent", [-100, -40, 40, 100, 500])
@pytest.mark.parametrize("damping", [0.3, -0.1])
def test_the_unit_of_the_loss_changes_no_certificate(rng, exponent, damping):
    unit = 2.0**exponent
    network = models.mlp((3, 4, 2), activation="tanh", loss=None, inputs=rng.normal(size=(5, 3)), rng=rng)
    network.loss(partial(weighed, targets=rng.normal(size=(5, 2)), unit=unit), "y")
    A = hessian_blocks(network).dense() / unit + damping * np.eye(network.size)
    values, r = np.linalg.eigvalsh(A), rng.normal(size=network.size)
    for method in METHODS:
        found = inverse_hessian_product(network, r, damping=damping * unit, method=method)
        np.testing.assert_allclose(found.solution * unit, np.linalg.solve(A, r), rtol=1e-8, err_msg=method)
        assert found.residual <= 1e-11, method
        assert found.inertia == inertia(values), method
        expected = np.log(np.abs(values)).sum() + len(A) * np.log(unit)
        assert found.log_abs_det == pytest.approx(expected, rel=1e-10), method


def weighed(y, *, targets, unit):
    return unit * anp.sum((y - targets) ** 2)


@pytest.mark.parametrize("method", SAFE)
def test_the_signs_are_right_beside_activations_whose_squares_drown_everything(rng, method):
    network = clarke.Network()
    network.input("h0", rng.uniform(size=(2, 2)))
    for k in range(1, 11):
        network.parameter(f"W{k}", [[5.0, 6.0], [6.0, 5.0]])
        network.node(f"z{k}", layers.affine, f"h{k - 1}", f"W{k}")
        network.node(f"h{k}", layers.softplus, f"z{k}")
    network.node("slight", partial(layers.rescale, scale=1e-30), "h10")
    network.loss(layers.squared_error(np.zeros((2, 2))), "slight")
    assert np.abs(network.value("h9")).max() > 1e7
    assert np.abs(hessian_blocks(network).dense()).max() < 1e-9
    for damping, signs in ((1.0, (40, 0, 0)), (-0.5, (0, 40, 0))):
        found = inverse_hessian_product(network, np.ones(40), damping=damping, method=method)
        np.testing.assert_allclose(found.solution, np.full(40, 1 / damping), rtol=1e-8)
        assert found.inertia == signs


def test_a_damping_that_decay_all_but_cancels_is_not_divided_by(rng):
    network = mlp(rng, (2, 2, 2), samples=40)
    network.loss(layers.weight_decay(-0.5), "W1")
    for damping in (0.5 + 1e-14, 0.5):
        require_truth(network, brute_force(network, network.parameters), damping)


def test_the_dense_matrix_of_an_expanding_chain_is_no_twin(rng):
    network, r = linear_chain(3, 60), rng.normal(size=60)
    H = hessian_blocks(network).dense()
    wrong = np.linalg.solve(H + 0.5 * np.eye(60), r)
    true = sherman_morrison(3, 60, 0.5, r)
    assert np.linalg.norm(wrong - true) > 0.1 * np.linalg.norm(true)


@pytest.mark.parametrize("method", METHODS)
def test_contracting_chains(rng, method):
    network, r = linear_chain(Fraction(1, 4), 40), rng.normal(size=40)
    true = sherman_morrison(Fraction(1, 4), 40, 0.5, r)
    found = inverse_hessian_product(network, r, damping=0.5, method=method)
    np.testing.assert_allclose(found.solution, true, rtol=1e-13)
    assert found.inertia == (40, 0, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("inside", [False, True])
def test_without_damping_a_singular_hessian_is_an_error_even_where_a_solution_exists(rng, method, inside):
    network = mlp(rng, (3, 3, 3), samples=1)
    H = brute_force(network, network.parameters)
    r = H @ rng.normal(size=len(H)) if inside else rng.normal(size=len(H))
    with pytest.raises((SingularHessian, UnsuitableMethod)) as caught:
        inverse_hessian_product(network, r, damping=0, method=method)
    if method != "riccati":
        assert caught.type is SingularHessian
        assert "raise the damping" in str(caught.value)


def test_without_damping_a_regular_hessian_is_solved(rng):
    network = models.residual_chain(5, 2, rng=rng)
    H = brute_force(network, network.parameters)
    assert regular(H, 0.0)
    require_truth(network, H, 0)


@pytest.mark.parametrize(("depth", "seed"), [(6, 3), (8, 2)])
def test_without_damping_a_regular_hessian_of_dense_layers_is_solved_by_every_safe_method(depth, seed):
    rng = np.random.default_rng(seed)
    data = {"inputs": rng.normal(size=(60, 2)), "targets": rng.normal(size=(60, 2))}
    network = models.mlp((2,) + (3,) * depth + (2,), activation="tanh", loss="squared", rng=rng, **data)
    values = np.abs(np.linalg.eigvalsh(hessian_blocks(network).dense()))
    assert values.min() > 1e-8 * values.max()
    for method in SAFE:
        found = inverse_hessian_product(network, np.ones(network.size), damping=0, method=method)
        assert found.residual <= 1e-10


@pytest.mark.parametrize("method", SAFE)
def test_damping_near_an_eigenvalue_is_solved_and_damping_on_it_is_an_error(rng, method):
    network = models.residual_chain(8, 2, rng=rng)
    H = brute_force(network, network.parameters)
    values = np.linalg.eigvalsh(H)
    r = rng.normal(size=len(H))
    near = -values[3] * (1 + 1e-5)
    true = np.linalg.solve(H + near * np.eye(len(H)), r)
    found = inverse_hessian_product(network, r, damping=near, method=method)
    np.testing.assert_allclose(found.solution, true, atol=1e-8 * np.abs(true).max())
    assert found.inertia == inertia(values + near)
    with pytest.raises(SingularHessian):
        inverse_hessian_product(network, r, damping=-values[3], method=method)


def test_a_parameter_that_moves_nothing_is_divided_by_its_damping(rng):
    network = mlp(rng)
    network.parameter("idle", [1.0, 2.0])
    for method in SAFE:
        found = inverse_hessian_product(network, [3.0, 5.0], damping=0.5, wrt="idle", method=method)
        np.testing.assert_allclose(found.solution, [6.0, 10.0])
    require_truth(network, brute_force(network, network.parameters), 0.5)


# ---------------------------------------------------------------- costs


def counted(calls):
    """tanh, which appends to `calls` at every local product."""

    def derivatives(values, output, pieces):
        first, bend = 1 - output**2, -2 * output * (1 - output**2)

        def noted(result):
            calls.append(1)
            return result

        return Local(
            lambda i, t: noted(t * first),
            lambda i, c: noted(c * first),
            lambda i, j, delta, t: noted(t * (delta * bend)),
            ((0, 0),),
            (0,),
        )

    return closed_form(derivatives)(lambda z: anp.tanh(z))


@pytest.mark.parametrize("method", ["banded", "riccati", "sparse", "compressed"])
def test_the_number_of_local_products_is_linear_in_depth(rng, method):
    counts = []
    for depth in (4, 8, 12):
        calls = []
        function = counted(calls)
        network = clarke.Network()
        network.input("h0", rng.normal(size=(1, 2)))
        for k in range(1, depth + 1):
            network.parameter(f"W{k}", rng.normal(size=(2, 2)))
            network.node(f"z{k}", layers.affine, f"h{k - 1}", f"W{k}")
            network.node(f"h{k}", function, f"z{k}")
        network.loss(layers.squared_error(np.zeros((1, 2))), f"h{depth}")
        inverse_hessian_product(network, rng.normal(size=network.size), damping=5.0, method=method)
        counts.append(len(calls))
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0


def test_auto_takes_the_method_it_thinks_cheapest_and_says_what_it_thought(rng):
    small, deep, dense = mlp(rng, (2, 2, 2)), models.residual_chain(60, 3, rng=rng), mlp(rng, (9, 9, 9, 9), samples=1)
    large = mlp(rng, (4, 8, 8, 1), samples=60)
    for network, method in ((small, "dense"), (deep, "banded"), (dense, "compressed"), (large, "dense")):
        found = inverse_hessian_product(network, np.ones(network.size), damping=3.0)
        assert found.method == method == min(found.costs, key=found.costs.__getitem__)
        assert inverse_hessian_product(network, np.ones(network.size), damping=3.0, method=method).costs == {}


def test_auto_forms_no_matrix_that_is_too_large(rng, monkeypatch):
    monkeypatch.setattr(inverse, "LARGEST", 8 * 11**2)
    network = mlp(rng, (2, 2, 2))
    assert "dense" not in inverse_hessian_product(network, np.ones(12), damping=3.0).costs


def test_auto_goes_on_where_a_method_fails_its_residual(rng, monkeypatch):
    network, factorize = models.residual_chain(60, 3, rng=rng), inverse._factorize

    def spoiled(method, *rest):
        found = factorize(method, *rest)
        if method != "banded":
            return found
        return inverse.Factorization(lambda r: 0 * r, method, found.log_abs_det, found.inertia)

    monkeypatch.setattr(inverse, "_factorize", spoiled)
    r = rng.normal(size=network.size)
    found = inverse_hessian_product(network, r, damping=1.0)
    assert found.method != "banded"
    assert found.residual < 1e-10


# ---------------------------------------------------------------- results


def test_the_operator_is_the_inverse_and_preconditions_a_nearby_system(rng):
    network = models.residual_chain(40, 3, rng=rng)
    r = rng.normal(size=network.size)
    found = inverse_hessian_product(network, r, damping=0.1)
    M = found.operator()
    assert isinstance(M, LinearOperator)
    np.testing.assert_allclose(M @ r, found.solution, rtol=1e-8)
    np.testing.assert_allclose(M.T @ r, M @ r)
    H = hessian_blocks(network).operator()

    def iterations(damping, preconditioner):
        count = []
        A = LinearOperator(H.shape, matvec=lambda v: H @ v + damping * v, dtype=float)
        x, failed = minres(A, r, M=preconditioner, rtol=1e-10, maxiter=5000, callback=lambda _: count.append(1))
        assert not failed
        assert np.linalg.norm(A @ x - r) <= 1e-6 * np.linalg.norm(r)
        return len(count)

    definite = -np.linalg.eigvalsh(hessian_blocks(network).dense())[0] * 1.5 + 0.5  # MINRES wants M > 0
    M = inverse_hessian_product(network, r, damping=1.1 * definite).operator()
    assert iterations(definite, M) <= 12 < iterations(definite, None)


def test_the_result_is_frozen_and_its_residual_true(rng):
    network = mlp(rng)
    r = rng.normal(size=network.size)
    found = inverse_hessian_product(network, r, damping=0.5)
    assert isinstance(found, InverseProduct)
    assert not found.solution.flags.writeable
    left = brute_force(network, network.parameters) @ found.solution + 0.5 * found.solution - r
    assert np.linalg.norm(left) <= 1e-12 * np.linalg.norm(r)
    nothing = inverse_hessian_product(network, 0 * r, damping=0.5)
    assert not nothing.solution.any()
    assert nothing.residual == 0


@pytest.mark.parametrize("unit", [2.0**-1000, 2.0**1000])
def test_the_unit_of_the_right_hand_side_changes_no_residual(rng, unit):
    network = mlp(rng)
    r = rng.normal(size=network.size)
    for method in METHODS:
        found, expected = (inverse_hessian_product(network, s * r, damping=0.5, method=method) for s in (unit, 1.0))
        np.testing.assert_array_equal(found.solution, expected.solution * unit)
        assert 0 < found.residual == expected.residual


def test_a_residual_that_is_no_number_is_worse_than_any():
    found = Factorization(lambda r: r, "dense", 0.0, lambda: (2, 0, 0))
    assert inverse._refined(found, lambda v: np.nan * v, np.ones(2))[1] == np.inf


def test_a_solution_that_overflows_is_an_error(rng):
    network = mlp(rng)
    network.parameter("idle", [1.0])
    with pytest.raises(ValueError, match="rhs is so large that the solution overflows"):
        inverse_hessian_product(network, [1e300], damping=1e-10, wrt="idle")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "fast"}, "method must be one of auto, banded, .*; got 'fast'"),
        ({"damping": "1"}, "damping must be a finite number; got '1'"),
        ({"damping": True}, "damping must be a finite number; got True"),
        ({"damping": np.nan}, "damping must be a finite number; got nan"),
        ({"wrt": ("W1", "z1")}, r"wrt names \['z1'\], computed nodes; give inputs and parameters"),
        ({"wrt": ("W1", "Q")}, "no input, parameter or node 'Q'"),
        ({"wrt": ()}, "names is empty"),
        ({"rhs": np.ones(3)}, r"rhs must be flat over W1, b1, .*, shape \(46,\); got \(3,\)"),
        ({"rhs": np.full(46, np.nan)}, "rhs must be finite"),
        ({"weights": {}}, "weights must be a dict"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(rng, changes, message):
    network = mlp(rng)
    arguments = {"rhs": np.ones(network.size), "damping": 1.0} | changes
    with pytest.raises(ValueError, match=message):
        inverse_hessian_product(network, arguments.pop("rhs"), **arguments)


def test_networks_that_are_none_or_have_no_loss_are_refused(rng):
    with pytest.raises(ValueError, match=r"network must be a clarke\.Network"):
        inverse_hessian_product(None, np.ones(1), damping=1.0)
    network = clarke.Network()
    network.parameter("w", [1.0])
    with pytest.raises(ValueError, match="declares no loss"):
        inverse_hessian_product(network, np.ones(1), damping=1.0)


def test_riccati_names_the_nodes_that_make_no_chain(rng):
    with pytest.raises(
        UnsuitableMethod, match=r"riccati wants a chain, each cut node reading only the one before; .* meet"
    ):
        inverse_hessian_product(skipping(rng), np.ones(36), damping=1.0, method="riccati")
