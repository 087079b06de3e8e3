"""Laws of the builders."""

import pickle
import runpy
from itertools import pairwise
from pathlib import Path

import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf
from scipy.special import softmax as scipy_softmax

import clarke
from clarke import layers
from clarke.blocks import hessian_blocks
from clarke.claims.references import brute_force
from clarke.models import conv_net, digits, mlp, recurrent, residual, residual_chain, transformer

SIZES = st.lists(st.integers(1, 4), min_size=2, max_size=4)
SEEDS = st.integers(0, 2**32 - 1)
X = np.array([[1.0, -2.0], [0.5, 0.25], [3.0, 0.0]])
T = np.eye(2)[[0, 1, 1]]


def model(**changes):
    arguments = {"activation": "relu", "loss": "squared", "inputs": X, "targets": T}
    return mlp((2, 4, 2), **arguments | {"rng": np.random.default_rng(0)} | changes)


def gap(y, t):
    return anp.sum(anp.abs(y - t))


@given(SIZES, SEEDS, st.booleans())
def test_theta_fills_each_W_row_by_row_then_its_b(sizes, seed, bias):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=sum(m * (n + bias) for n, m in pairwise(sizes)))
    x = rng.normal(size=(3, sizes[0]))
    net = mlp(sizes, activation="tanh", loss=None, inputs=x, bias=bias, theta=theta)
    assert (net.point() == theta).all()
    rest, a = iter(theta), x
    for layer, (n, m) in enumerate(pairwise(sizes)):
        W = np.array([[next(rest) for _ in range(n)] for _ in range(m)])
        b = np.array([next(rest) if bias else 0.0 for _ in range(m)])
        a = np.array([W @ row + b for row in (np.tanh(a) if layer else a)])
    assert net.value("y") == pytest.approx(a, rel=1e-12, abs=1e-12)


def test_the_names_are_x_then_W_b_and_z_h_and_y():
    net = model()
    assert net.inputs == ("x",)
    assert net.parameters == ("W1", "b1", "W2", "b2")
    assert net.nodes == ("z1", "h1", "y")
    assert model(bias=False).parameters == ("W1", "W2")
    assert mlp((2, 1), activation="relu", loss=None, inputs=X, theta=np.ones(3)).nodes == ("y",)


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("relu", lambda z: np.maximum(z, 0)),
        ("tanh", np.tanh),
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        ("linear", lambda z: z),
    ],
)
def test_an_activation_is_named_or_given(name, act):
    net, given = model(activation=name), model(activation=act)
    assert net.value("h1") == pytest.approx(act(net.value("z1")), abs=1e-15)
    assert given.value("h1") == pytest.approx(act(given.value("z1")), abs=1e-15)


def test_the_losses_are_averages_over_samples():
    net = model()
    y = net.value("y")
    assert net.function()(net.point()) == pytest.approx(np.sum((y - T) ** 2) / 6)
    net = model(loss="cross_entropy")
    p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    assert net.function()(net.point()) == pytest.approx(-np.sum(T * np.log(p)) / 3)


def test_a_loss_may_be_a_function_of_the_outputs_and_of_the_targets_if_there_are_any():
    net = model(loss=gap)
    assert net.function()(net.point()) == pytest.approx(np.abs(net.value("y") - T).sum())
    assert pickle.loads(pickle.dumps(net)).function()(net.point()) == net.function()(net.point())
    net = model(loss=anp.sum, targets=None)
    assert net.function()(net.point()) == pytest.approx(net.value("y").sum())


def test_a_model_without_a_loss_declares_none():
    with pytest.raises(ValueError, match="declares no loss"):
        model(loss=None).function()


def test_named_activations_and_losses_pickle():
    for activation in ("relu", "tanh", "sigmoid", "linear"):
        for loss in ("squared", "cross_entropy", None):
            net = model(activation=activation, loss=loss)
            assert (pickle.loads(pickle.dumps(net)).value("y") == net.value("y")).all()


def test_drawn_weights_have_the_variance_of_He_and_no_bias():
    # the sample variance of n normals is sigma^2 (1 +- sqrt(2/n)) to one deviation; five here
    for activation, gain in (("relu", 2), ("tanh", 1), (anp.sin, 1)):
        rng = np.random.default_rng(1)
        net = mlp((50, 200, 1), activation=activation, loss=None, inputs=np.ones((1, 50)), rng=rng)
        assert np.var(net.value("W1")) == pytest.approx(gain / 50, rel=5 * np.sqrt(2 / 10_000))
        assert not net.value("b1").any()


def test_biases_take_no_draws():
    one, other = model(), model(bias=False)
    assert (one.value("W2") == other.value("W2")).all()


def test_the_same_seed_draws_the_same_network():
    assert (model().point() == model().point()).all()
    assert (model().point() != model(rng=np.random.default_rng(1)).point()).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rng": None}, r"pass theta, or rng \(a numpy Generator\) to draw it; got rng=None"),
        ({"rng": 0}, "got rng=0"),
        ({"theta": np.ones(5)}, r"theta must have shape \(22,\); got \(5,\)"),
        ({"theta": np.ones((22, 1))}, r"theta must have shape \(22,\); got \(22, 1\)"),
        ({"theta": np.full(22, np.nan)}, "theta must be finite"),
        ({"activation": "swish"}, "activation is a function or one of relu, tanh, sigmoid, linear"),
        ({"activation": ["relu"]}, "activation is a function or one of .*got \\['relu'\\]"),
        ({"loss": "hinge"}, "loss is a function or one of squared, cross_entropy; got 'hinge'"),
        ({"targets": None}, r"the squared loss needs targets of shape \(3, 2\); got None"),
        ({"targets": [0, 1, 1]}, r"targets must have shape \(3, 2\); got \(3,\)"),
        ({"targets": np.full((3, 2), np.nan)}, "targets must be finite"),
        ({"inputs": X[0]}, r"inputs must have shape \(N, 2\); got \(2,\)"),
        ({"inputs": np.ones((3, 3))}, r"inputs must have shape \(N, 2\); got \(3, 3\)"),
        ({"inputs": "x"}, "inputs must be an array of real numbers"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        model(**changes)


@pytest.mark.parametrize("sizes", [(2,), (), (2, 0), (2, 1.5), (2, -1), "22"])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes are at least two integers >= 1; got"):
        mlp(sizes, activation="relu", loss=None, inputs=X, theta=np.ones(3))


def test_the_digits_network_stands_where_all_its_units_are_at_their_kink():
    net = digits()
    assert net.parameters == ("W1", "W2", "W3")
    assert [net.value(name).shape for name in net.parameters] == [(12, 3), (12, 12), (10, 12)]
    assert not net.value("z1").any()
    assert not net.value("z2").any()
    assert net.function("x")(np.zeros(3)) == pytest.approx(np.log(10))


def test_the_digits_weights_are_dyadic_and_no_unit_is_dead():
    net = digits()
    theta = net.point() * 2**10
    assert (theta == np.round(theta)).all()
    around = np.random.default_rng(0).normal(size=(1000, 3))
    h1 = np.maximum(around @ net.value("W1").T, 0)
    h2 = np.maximum(h1 @ net.value("W2").T, 0)
    for h in (h1, h2):
        assert (h > 0).any(axis=0).all()
        assert (h == 0).any(axis=0).all()


def test_the_digits_network_reads_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    example = Path(__file__).resolve().parents[1] / "examples" / "train_digits.py"
    data = datasets.load_digits()
    x = runpy.run_path(str(example))["principal_components"](data.data / 16, 3)
    net = digits()
    a = x
    for name in ("W1", "W2", "W3"):
        a = (a if name == "W1" else np.maximum(a, 0)) @ net.value(name).T
    assert np.mean(a.argmax(axis=1) == data.target) > 0.7
    means = [x[data.target == digit].mean(axis=0) for digit in range(10)]
    nearest = np.argmin([np.linalg.norm(mean) for mean in means])
    ((_, head, _),) = net.losses
    assert head.keywords["targets"].argmax() == nearest


# ---------------------------------------------------------------- deeper builders

rng_of = np.random.default_rng
TWO = np.array([[1.0, 0.0], [0.25, 0.75]])  # targets of two samples


def chain():
    return residual_chain(4, 3, rng=rng_of(3))


def skip(**changes):
    arguments = {"activation": "tanh", "loss": "squared", "inputs": X[:2], "targets": TWO, "rng": rng_of(0)}
    return moved(residual(3, 2, **arguments | changes), changes)


def tied(**changes):
    tokens = rng_of(1).normal(size=(2, 3, 2))
    arguments = {"activation": "tanh", "loss": "cross_entropy", "inputs": tokens, "targets": TWO, "rng": rng_of(0)}
    return moved(recurrent(3, **arguments | changes), changes)


def image_net(channels=(2, 3), **changes):
    images = rng_of(1).normal(size=(2, 2, 6, 5))
    arguments = {"kernel": 2, "activation": "softplus", "loss": "cross_entropy", "inputs": images, "targets": TWO}
    return moved(conv_net(channels, **arguments | {"rng": rng_of(0)} | changes), changes)


def signal_net(**changes):
    return image_net(**{"inputs": rng_of(2).normal(size=(2, 2, 8)), "kernel": 3, "stride": 2, "padding": 1} | changes)


def attentive(heads=2, hidden=3, **changes):
    tokens = rng_of(1).normal(size=(2, 3, 4))
    arguments = {"loss": "cross_entropy", "inputs": tokens, "targets": TWO, "rng": rng_of(0)}
    return moved(transformer(heads, hidden, **arguments | changes), changes)


def moved(network, changes):
    """Off the zeros of the biases, unless theta was given."""
    if changes.get("theta") is not None:
        return network
    return network.at(network.point() + 0.1 * rng_of(9).normal(size=network.size))


BUILDERS = {
    "residual_chain": chain,
    "residual": skip,
    "recurrent": tied,
    "conv_net of images": image_net,
    "conv_net of signals": signal_net,
    "conv_net, max": lambda: image_net(pool="max", padding=1),
    "conv_net, average": lambda: signal_net(pool="average", stride=1),
    "transformer": attentive,
    "transformer, causal": lambda: attentive(causal=True),
}


@pytest.mark.parametrize("case", BUILDERS)
def test_the_hessian_of_every_builder_is_the_loss_differentiated_whole(case):
    network = BUILDERS[case]()
    truth, found = brute_force(network, network.parameters), hessian_blocks(network)
    scale = np.abs(truth).max()
    assert np.abs(found.dense() - truth).max() <= 1e-10 * scale
    parts = found.gauss_newton.dense() + found.tensor.dense()
    assert np.abs(parts - found.dense()).max() <= 1e-12 * np.abs(found.gauss_newton.dense()).max()
    names = [*network.inputs, network.parameters[0], network.nodes[0], network.nodes[-1]]
    assert np.abs(found.dense(names) - brute_force(network, names)).max() <= 1e-10 * scale


@pytest.mark.parametrize("case", BUILDERS)
def test_every_builder_pickles_and_is_exported(case):
    network = BUILDERS[case]()
    again = pickle.loads(pickle.dumps(network))
    assert again.function()(again.point()) == network.function()(network.point())
    assert case.split()[0].rstrip(",") in clarke.__all__


def params(network):
    return {name: network.value(name) for name in network.parameters}


def test_a_residual_chain_adds_tanh_of_a_fixed_map_and_a_parameter():
    network = chain()
    assert network.inputs == ("z0",)
    assert network.parameters == ("x1", "x2", "x3", "x4")
    assert network.nodes == ("z1", "z2", "z3", "z4")
    fun = network.dag.nodes["z1"]["fun"]
    assert all(network.dag.nodes[node]["fun"] is fun for node in network.nodes)
    A, z = fun.keywords["matrix"], network.value("z0")[0]
    for name in network.parameters:
        z = z + np.tanh(A @ z + network.value(name))
    assert network.value("z4") == pytest.approx(z[None], rel=1e-14)
    ((_, head, _),) = network.losses
    half = np.sum((z - head.keywords["targets"]) ** 2) / 2
    assert network.function()(network.point()) == pytest.approx(half, rel=1e-14)
    assert (chain().point() == network.point()).all()


def test_a_long_residual_chain_neither_explodes_nor_vanishes():
    """Its step is I + tanh' A with |tanh'| <= 1, so that dz_L/dz_0 lies within (1 -+ |A|)^depth."""
    depth, width = 200, 8
    for seed in range(5):
        A = residual_chain(depth, width, rng=rng_of(seed)).dag.nodes["z1"]["fun"].keywords["matrix"]
        assert np.linalg.norm(A, 2) <= 3 / depth  # 2 / depth for large widths
    blocks = hessian_blocks(residual_chain(depth, width, rng=rng_of(0)))
    first, last = (np.linalg.norm(blocks.gradient[name]) for name in ("x1", f"x{depth}"))
    assert np.exp(-3) <= first / last <= np.exp(3)


@pytest.mark.parametrize("bias", [True, False])
def test_a_residual_network_is_a_sum_of_branches(bias):
    network = skip(bias=bias)
    names = ("W0", "b0", "W1", "b1", "W2", "b2", "V", "c")
    assert network.parameters == (names if bias else names[::2])
    assert network.nodes == ("h0", "z1", "a1", "h1", "z2", "a2", "h2", "y")
    p = {name: 0.0 for name in names} | params(network)
    h = X[:2] @ p["W0"].T + p["b0"]
    for layer in (1, 2):
        h = h + np.tanh(h @ p[f"W{layer}"].T + p[f"b{layer}"])
    assert network.value("y") == pytest.approx(h @ p["V"].T + p["c"], rel=1e-12)


def test_drawn_branches_shrink_with_the_depth():
    drawn = residual(60, 25, activation="tanh", loss=None, inputs=np.ones((1, 50)), outputs=1, rng=rng_of(0))
    slack = 5 * np.sqrt(2 / 3000)
    assert np.var(drawn.value("W0")) == pytest.approx(1 / 50, rel=slack)
    assert np.var(drawn.value("W25")) == pytest.approx(1 / (60 * 25), rel=slack)


@pytest.mark.parametrize("bias", [True, False])
def test_a_recurrent_network_steps_through_its_inputs(bias):
    network = tied(bias=bias, loss="squared")
    names = ("W", "b", "U", "V", "c")
    assert network.inputs == ("x1", "x2", "x3", "h0")
    assert network.parameters == (names if bias else ("W", "U", "V"))
    assert network.nodes[:4] == ("u1", "v1", "z1", "h1")
    p = {name: 0.0 for name in names} | params(network)
    h = np.zeros((2, 3))
    for t in (1, 2, 3):
        h = np.tanh(network.value(f"x{t}") @ p["W"].T + p["b"] + h @ p["U"].T)
    assert network.value("y") == pytest.approx(h @ p["V"].T + p["c"], rel=1e-12)


def test_a_tied_hessian_is_the_sum_over_copies():
    """mathematics.md 1.3: H_tied = A^T H A, A the 0/1 matrix that copies W, b, U to the steps."""
    network, steps = tied(), (1, 2, 3)
    untied = clarke.Network()
    for name in network.inputs:
        untied.input(name, network.value(name))
    for name in ("W", "b", "U"):
        for t in steps:
            untied.parameter(f"{name}{t}", network.value(name))
    for name in ("V", "c"):
        untied.parameter(name, network.value(name))
    for t in steps:
        untied.node(f"u{t}", layers.affine, f"x{t}", f"W{t}", f"b{t}")
        untied.node(f"v{t}", layers.affine, f"h{t - 1}", f"U{t}")
        untied.node(f"z{t}", layers.add, f"u{t}", f"v{t}")
        untied.node(f"h{t}", layers.tanh, f"z{t}")
    untied.node("y", layers.affine, "h3", "V", "c")
    for _, head, parents in network.losses:
        untied.loss(head, *parents)
    whole, parts = hessian_blocks(network), hessian_blocks(untied)
    copies = {name: [f"{name}{t}" for t in steps] for name in ("W", "b", "U")} | {"V": ["V"], "c": ["c"]}
    for kind in (lambda H: H, lambda H: H.gauss_newton, lambda H: H.tensor):
        scale = np.abs(kind(parts).dense()).max()
        for v in network.parameters:
            for w in network.parameters:
                total = sum(kind(parts)[a, b] for a in copies[v] for b in copies[w])
                assert np.abs(kind(whole)[v, w] - total).max() <= 1e-12 * scale


def correlate(x, K, b, stride, padding):
    """A convolution of images, entry by entry."""
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    (_, _, high, wide), (h, w) = x.shape, K.shape[2:]
    rows, columns = range(0, high - h + 1, stride[0]), range(0, wide - w + 1, stride[1])
    return np.array(
        [
            [
                [[np.sum(k * a[:, i : i + h, j : j + w]) + c for j in columns] for i in rows]
                for k, c in zip(K, b, strict=True)
            ]
            for a in x
        ]
    )


def pool(x, size, how):
    high, wide = x.shape[2] // size[0], x.shape[3] // size[1]
    whole = x[:, :, : high * size[0], : wide * size[1]].reshape(*x.shape[:2], high, size[0], wide, size[1])
    return how(whole, axis=(3, 5))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pooling", [None, "max", "average"])
def test_a_convolutional_network_convolves_and_pools(pooling, bias):
    size = (2, 1)
    network = image_net(pool=pooling, pool_size=size, bias=bias, padding=(1, 0))
    names = ("K1", "b1", "K2", "b2", "V", "c")
    assert network.parameters == (names if bias else names[::2])
    assert network.nodes == (
        ("z1", "h1", "p1", "z2", "h2", "p2", "flat", "y") if pooling else ("z1", "h1", "z2", "h2", "flat", "y")
    )
    p, x = {"b1": np.zeros(2), "b2": np.zeros(3), "c": 0.0} | params(network), network.value("x")
    for layer in (1, 2):
        x = np.logaddexp(correlate(x, p[f"K{layer}"], p[f"b{layer}"], (1, 1), (1, 0)), 0)
        x = pool(x, size, np.max if pooling == "max" else np.mean) if pooling else x
    assert network.value("y") == pytest.approx(x.reshape(2, -1) @ p["V"].T + p["c"], rel=1e-12)


def test_signals_are_images_of_height_one():
    network = signal_net(pool="max", stride=1)
    p, x = params(network), network.value("x")[:, :, None]
    for layer in (1, 2):
        x = np.logaddexp(correlate(x, p[f"K{layer}"][:, :, None], p[f"b{layer}"], (1, 1), (0, 1)), 0)
        x = pool(x, (1, 2), np.max)
    assert network.value("y") == pytest.approx(x.reshape(2, -1) @ p["V"].T + p["c"], rel=1e-12)


def test_the_fan_in_of_a_kernel_is_the_size_of_a_patch():
    images = np.ones((1, 3, 4, 6))
    drawn = conv_net((400,), kernel=(2, 3), inputs=images, activation="relu", loss=None, outputs=1, rng=rng_of(0))
    assert drawn.value("K1").shape == (400, 3, 2, 3)
    assert np.var(drawn.value("K1")) == pytest.approx(2 / 18, rel=5 * np.sqrt(2 / 7200))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_a_transformer_attends_normalizes_and_averages(bias, causal):
    network = attentive(bias=bias, causal=causal)
    biases = ("bq", "bk", "bv", "bo", "beta", "b1", "b2", "c")
    names = ("Wq", "bq", "Wk", "bk", "Wv", "bv", "Wo", "bo", "gamma", "beta", "W1", "b1", "W2", "b2", "V", "c")
    assert network.parameters == tuple(name for name in names if bias or name not in biases)
    assert network.nodes == ("q", "k", "v", "attended", "o", "r", "n", "z", "h", "f", "s", "m", "y")
    p, y = dict.fromkeys(biases, 0.0) | params(network), []
    for x in network.value("x"):
        q, k, v = (x @ p[f"W{each}"].T + p[f"b{each}"] for each in "qkv")
        heads = []
        for at in (slice(0, 2), slice(2, 4)):
            scores = q[:, at] @ k[:, at].T / np.sqrt(2)
            if causal:
                scores = np.where(np.tri(3) > 0, scores, -np.inf)
            heads.append(scipy_softmax(scores, axis=1) @ v[:, at])
        r = x + np.hstack(heads) @ p["Wo"].T + p["bo"]
        centered = r - r.mean(axis=1, keepdims=True)
        n = p["gamma"] * centered / np.sqrt(r.var(axis=1, keepdims=True) + 1e-5) + p["beta"]
        z = n @ p["W1"].T + p["b1"]
        s = r + (z * (1 + erf(z / np.sqrt(2))) / 2) @ p["W2"].T + p["b2"]
        y.append(p["V"] @ s.mean(axis=0) + p["c"])
    assert network.value("y") == pytest.approx(np.array(y), rel=1e-12)


def test_a_shift_of_all_keys_changes_nothing_and_gamma_starts_at_1():
    network = attentive()
    found = hessian_blocks(network)
    scale = np.abs(found.dense()).max()
    assert all(np.abs(found["bk", name]).max() <= 1e-12 * scale for name in network.parameters)
    drawn = transformer(2, 3, inputs=np.ones((1, 3, 4)), loss=None, outputs=2, rng=rng_of(0))
    assert drawn.value("gamma").tolist() == [1.0] * 4
    assert not drawn.value("beta").any()


@pytest.mark.parametrize("build", [skip, tied, image_net, signal_net, attentive])
def test_theta_is_flat_in_the_order_of_the_parameters(build):
    n = build().size
    theta = rng_of(5).normal(size=n)
    network = build(theta=theta, rng=None)
    assert (network.point() == theta).all()
    assert (np.concatenate([network.value(name).ravel() for name in network.parameters]) == theta).all()
    with pytest.raises(ValueError, match=rf"theta must have shape \({n},\); got \({n + 1},\)"):
        build(theta=np.ones(n + 1))
    with pytest.raises(ValueError, match=r"pass theta, or rng \(a numpy Generator\) to draw it; got rng=None"):
        build(rng=None)


@pytest.mark.parametrize("build", [skip, tied, image_net, attentive])
def test_without_targets_outputs_says_how_many_there_are(build):
    network = build(targets=None, loss=None, outputs=5)
    assert network.value("y").shape == (2, 5)
    assert not network.losses
    with pytest.raises(ValueError, match=r"pass targets \(N, outputs\), or outputs, their number; got neither"):
        build(targets=None, loss=None)
    with pytest.raises(ValueError, match=r"targets must have shape \(N, outputs\); got \(2,\)"):
        build(targets=[0, 1])
    with pytest.raises(ValueError, match=r"targets must have shape \(2, 2\); got \(3, 2\)"):
        build(targets=T)
    with pytest.raises(ValueError, match=r"outputs must be an integer >= 1; got 0"):
        build(outputs=0)
    with pytest.raises(ValueError, match=r"targets must have shape \(2, 3\); got \(2, 2\)"):
        build(outputs=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: residual_chain(0, 3, rng=rng_of(0)), "depth must be an integer >= 1; got 0"),
        (lambda: residual_chain(2, 3.0, rng=rng_of(0)), r"width must be an integer >= 1; got 3\.0"),
        (lambda: residual_chain(2, 3, rng=0), "rng must be a numpy Generator; got 0"),
        (lambda: residual(True, 2, activation="tanh", loss=None, inputs=X), "width must be .*; got True"),
        (lambda: residual(2, -1, activation="tanh", loss=None, inputs=X), "depth must be .*; got -1"),
        (lambda: skip(inputs=X[0]), r"inputs must have shape \(N, features\); got \(2,\)"),
        (lambda: skip(activation="swish"), "activation is a function or one of relu, .*; got 'swish'"),
        (lambda: recurrent("3", activation="tanh", loss=None, inputs=X), "hidden must be .*; got '3'"),
        (lambda: tied(inputs=X), r"inputs must have shape \(N, T, features\); got \(3, 2\)"),
        (lambda: tied(loss="hinge"), "loss is a function or one of squared, cross_entropy; got 'hinge'"),
        (lambda: image_net(channels=()), r"channels are at least one integer >= 1; got \(\)"),
        (lambda: image_net(channels=3), "channels are at least one integer >= 1; got 3"),
        (lambda: image_net(inputs=X), r"shape \(N, C, T\) or \(N, C, H, W\); got \(3, 2\)"),
        (lambda: image_net(kernel=0), "kernel is an int >= 1 or a pair of them; got 0"),
        (lambda: image_net(kernel=(2, 2, 2)), r"kernel is an int >= 1 or a pair of them; got \(2, 2, 2\)"),
        (lambda: signal_net(kernel=(2, 2)), r"kernel is an int >= 1; got \(2, 2\)"),
        (
            lambda: image_net(kernel=4),
            r"convolution 2 does not fit: conv2d: kernel \(4, 4\) does not fit into \(3, 2\)",
        ),
        (lambda: image_net(stride=0), "convolution 1 does not fit: conv2d: stride is .* >= 1; got 0"),
        (lambda: image_net(padding=-1), "convolution 1 does not fit: conv2d: padding is .* >= 0; got -1"),
        (lambda: image_net(pool="min"), "pool is None or one of max, average; got 'min'"),
        (lambda: image_net(pool="max", pool_size=9), "pool_size after convolution 1 does not fit: max_pool2d: size 9"),
        (lambda: attentive(inputs=X), r"inputs must have shape \(N, T, d\); got \(3, 2\)"),
        (lambda: attentive(heads=3), "heads must divide the 4 features of a token; got 3"),
        (lambda: attentive(heads=0), "heads must be an integer >= 1; got 0"),
        (lambda: attentive(hidden=None), "hidden must be an integer >= 1; got None"),
    ],
)
def test_what_does_not_fit_a_builder_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
