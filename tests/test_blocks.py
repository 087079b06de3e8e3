"""H = S^T K S: against the loss differentiated whole in node perturbations, at smooth points and at kinks."""

import pickle
import re
from functools import partial, wraps
from itertools import product
from pathlib import Path

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator

import clarke
from clarke import blocks as room
from clarke import elements, layers, linearization
from clarke.assembly import contractible
from clarke.blocks import HessianBlocks, KinkError, hessian_blocks
from clarke.claims.references import brute_force, brute_gradient, brute_parts
from clarke.importers import load

SMOOTH = [layers.tanh, layers.sigmoid, layers.softplus, layers.gelu, layers.silu, layers.linear]
PIECEWISE = [layers.relu, layers.leaky_relu, layers.absolute, layers.hard_tanh]


@pytest.fixture
def rng():
    return onp.random.default_rng(0)


def every(network):
    return [*network.inputs, *network.parameters, *network.nodes]


def spans(network, names):
    ends = onp.cumsum([0, *(network.value(name).size for name in names)])
    return {name: slice(a, b) for name, a, b in zip(names, ends[:-1], ends[1:], strict=True)}


def agree(found, true, scale=None, tol=1e-10):
    scale = onp.abs(true).max(initial=0) if scale is None else scale
    assert found.shape == true.shape
    assert onp.abs(found - true).max(initial=0) <= tol * max(scale, 1e-300)


def require_truth(network):
    """Blocks, dense, diagonal, operator, gradient and the two parts, of every input, parameter and node."""
    names = every(network)
    H, G = brute_force(network, names), brute_gradient(network, names)
    first, second = brute_parts(network, names)
    scale = max(onp.abs(H).max(), onp.abs(first).max())
    found, at = hessian_blocks(network), spans(network, names)
    for v, w in product(names, names):
        agree(found[v, w], H[at[v], at[w]], scale)
        onp.testing.assert_array_equal(found[v, w], found[w, v].T)
    agree(found.dense(names), H, scale)
    those = onp.concatenate([onp.arange(len(H))[at[p]] for p in network.parameters])
    agree(found.dense(), H[onp.ix_(those, those)], scale)
    agree(found.gauss_newton.dense(names), first, scale)
    agree(found.tensor.dense(names), second, scale)
    whole = found.gauss_newton.dense() + found.tensor.dense()
    agree(whole, found.dense(), scale, 1e-12)
    V = onp.random.default_rng(0).standard_normal((len(H), 3))
    agree(found.operator(names) @ V, H @ V, scale * len(H))
    for name, block in found.diagonal(names).items():
        agree(block, H[at[name], at[name]], scale)
        agree(found.gradient[name], G[at[name]], onp.abs(G).max())
    return found


@st.composite
def networks(draw, activations=tuple(SMOOTH + PIECEWISE)):
    """Any DAG of dense layers, activations, products, sums and concatenations with shared parameters, parents used
    twice, unused nodes, several losses, on nodes with children too.
    """
    rng = onp.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    N = draw(st.integers(1, 3))
    network = clarke.Network()
    network.input("x", rng.normal(size=(N, draw(st.integers(1, 3)))))
    width = {"x": network.value("x").shape[1]}
    weights = []
    for k in range(draw(st.integers(1, 5))):
        name = f"n{k}"
        kind = draw(st.sampled_from(["affine", "affine", "entry", "product", "add", "join"]))
        a = draw(st.sampled_from(sorted(width)))
        b = draw(st.sampled_from(sorted(n for n in width if width[n] == width[a])))
        if kind == "affine":
            old = [W for W in weights if network.value(W).shape[1] == width[a]]
            if old and draw(st.booleans()):
                W = draw(st.sampled_from(old))
            else:
                W = f"W{len(weights)}"
                network.parameter(W, rng.normal(size=(draw(st.integers(1, 3)), width[a])))
                weights.append(W)
            out = network.value(W).shape[0]
            bias = draw(st.booleans())
            if bias:
                network.parameter(f"b{k}", rng.normal(size=out))
            network.node(name, layers.affine, a, W, *[f"b{k}"][: int(bias)])
            width[name] = out
        elif kind == "entry":
            network.node(name, draw(st.sampled_from(activations)), a)
            width[name] = width[a]
        elif kind == "join":
            network.node(name, layers.concatenate, a, b)
            width[name] = width[a] + width[b]
        else:
            network.node(name, layers.product if kind == "product" else layers.add, a, b)
            width[name] = width[a]
    if not weights:
        network.parameter("W0", rng.normal(size=(2, width["x"])))
        network.node("last", layers.affine, "x", "W0")
        width["last"], weights = 2, ["W0"]
    heads = draw(st.lists(st.sampled_from(sorted(width)), min_size=1, max_size=2))
    for head in heads:
        y = rng.normal(size=(N, width[head]))
        loss = draw(st.sampled_from([layers.squared_error, layers.cross_entropy]))
        network.loss(loss(y if loss is layers.squared_error else onp.abs(y)), head)
    if draw(st.booleans()):
        network.loss(layers.weight_decay(0.25), draw(st.sampled_from(weights)))
    return network


@settings(max_examples=60, deadline=None)
@given(networks())
def test_every_block_is_the_second_derivative_in_node_perturbations(network):
    require_truth(network)


def mlp(rng, sizes=(3, 4, 3, 2), N=4, activation="tanh", loss="cross_entropy", **kwargs):
    X = rng.normal(size=(N, sizes[0]))
    T = onp.eye(sizes[-1])[rng.integers(0, sizes[-1], N)]
    return clarke.mlp(sizes, activation=activation, loss=loss, inputs=X, targets=T, rng=rng, **kwargs)


@pytest.mark.parametrize("activation", SMOOTH + PIECEWISE)
def test_an_mlp_is_contracted_over_samples_and_right(activation, rng):
    network = mlp(rng, activation=activation)
    network = network.at(network.point() + 0.1 * rng.normal(size=network.size))
    found = require_truth(network)
    assert contractible(found._elements[0][1], network.parameters) == network.parameters


def times(a, W):
    return np.tanh(np.dot(a, W)) * a


def cubed(q):
    return np.sum(q**3)


def coupled(z):
    """Every sample less the mean of the batch, curved."""
    return (z - np.mean(z, axis=0)) ** 2


def test_any_autograd_function_is_a_node_or_a_loss(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 2)))
    network.parameter("W", rng.normal(size=(2, 2)))
    network.node("h", times, "x", "W")
    network.node("c", coupled, "h")
    network.node("z", layers.affine, "c", "W")
    network.loss(cubed, "z")
    network.loss(lambda h, W: np.sum(h) * np.sum(W), "h", "W")
    require_truth(network)


def test_samples_that_meet_in_a_node_are_not_kept_apart(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(4, 2)))
    for k, shape in enumerate([(3, 2), (2, 3)]):
        network.parameter(f"W{k}", rng.normal(size=shape))
    network.node("z", layers.affine, "x", "W0")
    network.node("n", coupled, "z")
    network.node("y", layers.affine, "n", "W1")
    network.loss(layers.squared_error(rng.normal(size=(4, 2))), "y")
    found = require_truth(network)
    assert contractible(found._elements[0][1], network.parameters) == ("W1",)


def test_tied_recurrent_weights_are_the_sum_over_their_copies(rng):
    """H_tied = A^T H A with A the 0/1 matrix that copies the tied array to the places where it is used."""
    W, V, x = rng.normal(size=(3, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    tied, free = clarke.Network(), clarke.Network()
    for network in (tied, free):
        network.input("x", x)
    tied.parameter("W", W)
    for k in range(3):
        free.parameter(f"W{k}", W)
    for network in (tied, free):
        network.parameter("V", V)
        before = "x"
        for k in range(3):
            network.node(f"z{k}", layers.affine, before, "W" if network is tied else f"W{k}")
            network.node(f"h{k}", layers.tanh, f"z{k}")
            before = f"h{k}"
        network.node("y", layers.affine, before, "V")
        network.loss(layers.squared_error(onp.ones((2, 2))), "y")
    one, many = hessian_blocks(tied), hessian_blocks(free)
    copies = [f"W{k}" for k in range(3)]
    agree(one["W", "W"], sum(many[a, b] for a in copies for b in copies), tol=1e-13)
    agree(one["W", "V"], sum(many[a, "V"] for a in copies), tol=1e-13)
    agree(one.diagonal()["W"], one["W", "W"], tol=1e-13)
    require_truth(tied)


def convolved(rng, activation, pool):
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 1, 4, 4)))
    network.parameter("K", rng.normal(size=(2, 1, 2, 2)))
    network.parameter("c", rng.normal(size=2))
    network.node("z", partial(layers.conv2d, padding=1), "x", "K", "c")
    network.node("h", activation, "z")
    network.node("p", partial(pool, size=2, stride=3), "h")
    network.node("f", layers.reshape, "p")
    size = network.value("f").shape[1]
    network.parameter("W", rng.normal(size=(2, size)))
    network.node("y", layers.affine, "f", "W")
    network.loss(layers.squared_error(rng.normal(size=(2, 2))), "y")
    return network


def normalized(rng, norm):
    """Dense, normalized with scale and shift, dense."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 2)))
    for name, shape in {"W": (3, 2), "gamma": (3,), "beta": (3,), "V": (2, 3)}.items():
        network.parameter(name, rng.normal(size=shape))
    network.node("z", layers.affine, "x", "W")
    network.node("n", norm, "z", "gamma", "beta")
    network.node("h", layers.tanh, "n")
    network.node("y", layers.affine, "h", "V")
    network.loss(layers.cross_entropy(onp.eye(2)[[0, 1, 0]]), "y")
    return network


def attending(rng, core):
    """Queries, keys and values of three tokens each, attention, a residual sum."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 3, 2)))
    for name in "QKV":
        network.parameter(f"W{name}", rng.normal(size=(2, 2)))
        network.node(name, layers.affine, "x", f"W{name}")
    network.node("a", core, "Q", "K", "V")
    network.node("r", layers.add, "a", "x")
    network.loss(layers.squared_error(rng.normal(size=(2, 3, 2))), "r")
    return network


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize(
    "build",
    [
        partial(convolved, activation=layers.tanh, pool=layers.average_pool2d),
        partial(convolved, activation=layers.leaky_relu, pool=layers.max_pool2d),
        partial(normalized, norm=layers.batch_norm),
        partial(normalized, norm=layers.layer_norm),
        partial(attending, core=layers.softmax_attention),
        partial(attending, core=partial(layers.multi_head_attention, heads=2)),
    ],
    ids=["convolution", "max pooling", "batch norm", "layer norm", "attention", "two heads"],
)
def test_layers_of_every_kind_agree_with_brute_force(build, seed):
    require_truth(build(onp.random.default_rng(seed)))


ACAS = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu"


@pytest.mark.skipif(not ACAS.exists(), reason="the ACAS Xu networks are not beside the project")
def test_a_network_of_thirteen_thousand_parameters_gives_blocks_rows_and_products(rng, monkeypatch):
    """Against the gradient's difference quotient, which is exact but for rounding where the loss is quadratic."""
    network = load(sorted(ACAS.glob("*.nnet"))[0])
    network = network.at(rng.uniform(-0.4, 0.4, 5), wrt="x")
    network.loss(layers.squared_error(onp.zeros((1, 5))), "y")
    monkeypatch.setattr(room, "_dense", None)
    found, names = hessian_blocks(network), network.parameters
    row = onp.concatenate([found["W3", name] for name in names], axis=1)
    v = rng.standard_normal(network.size)
    product = found.operator() @ v
    at = spans(network, names)["W3"]
    agree(product[at], row @ v, onp.abs(row).max() * network.size)
    only = onp.zeros(network.size)
    only[at] = v[at]
    moved = [network.at(network.point() + t * only) for t in (1e-3, -1e-3)]
    gradients = [onp.concatenate([hessian_blocks(one).gradient[name] for name in names]) for one in moved]
    agree((gradients[0] - gradients[1]) / 2e-3, found.operator() @ only, tol=1e-8)


def test_a_name_that_reaches_no_loss_has_zero_blocks(rng):
    network = mlp(rng)
    network.node("behind", layers.tanh, "y")
    network.parameter("idle", onp.ones(2))
    network.node("aside", layers.add, "idle", "idle")
    found = hessian_blocks(network)
    for name in ("behind", "idle", "aside"):
        assert not found[name, "W1"].any()
        assert not found[name, name].any()
        assert not found.gradient[name].any()
    require_truth(network)


def test_permuting_neurons_permutes_the_hessian(rng):
    network = mlp(rng, (2, 3, 2))
    order = rng.permutation(3)
    W1, b1, W2, b2 = (network.value(n) for n in network.parameters)
    moved = network.at(onp.concatenate([W1[order].ravel(), b1[order], W2[:, order].ravel(), b2]))
    index = {n: onp.arange(network.value(n).size).reshape(network.value(n).shape) for n in network.parameters}
    old = onp.concatenate([index["W1"][order].ravel(), 6 + index["b1"][order]])
    tail = onp.concatenate([9 + index["W2"][:, order].ravel(), 15 + index["b2"]])
    every = onp.concatenate([old, tail])
    agree(hessian_blocks(moved).dense(), hessian_blocks(network).dense()[onp.ix_(every, every)], tol=1e-13)


def test_splitting_a_node_changes_no_block(rng):
    """An identity node between two others: the old blocks stay, and the new node has those of its parent."""
    short, long = clarke.Network(), clarke.Network()
    W, x, t = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 2))
    for network in (short, long):
        network.input("x", x)
        network.parameter("W", W)
        network.node("z", layers.affine, "x", "W")
    long.node("same", layers.linear, "z")
    for network in (short, long):
        network.node("h", layers.tanh, "same" if network is long else "z")
        network.loss(layers.squared_error(t), "h")
    a, b = hessian_blocks(short), hessian_blocks(long)
    agree(b.dense(("x", "W", "z", "h")), a.dense(("x", "W", "z", "h")), tol=1e-14)
    agree(b["same", "same"], a["z", "z"], tol=1e-14)


def test_nothing_as_large_as_all_nodes_together_is_formed(rng, monkeypatch):
    """One block asks the two passes for no more columns than its smaller side has."""
    network, asked = mlp(rng, (3, 4, 5, 2)), []
    tangents = room.tangents
    monkeypatch.setattr(room, "tangents", lambda lin, seeds: asked.append(seeds) or tangents(lin, seeds))
    found = hessian_blocks(network)
    found["x", "W1"]
    found["b1", "z2"]
    assert [max(len(seed) for seed in seeds.values()) for seeds in asked] == [12, 4]
    found["b1", "z2"], found["z2", "b1"]
    assert len(asked) == 2  # kept


def test_a_product_is_two_passes_whatever_the_number_of_columns(rng, monkeypatch):
    network, calls = mlp(rng), []
    for name in ("tangents", "curvature"):
        true = getattr(linearization, name)
        monkeypatch.setattr(linearization, name, lambda *args, true=true, name=name: calls.append(name) or true(*args))
    operator = hessian_blocks(network).operator()
    V = rng.normal(size=(network.size, 7))
    columns = onp.stack([operator @ v for v in V.T], axis=1)
    calls.clear()
    agree(operator @ V, columns, tol=1e-13)
    assert calls == ["tangents", "curvature"]
    assert isinstance(operator, LinearOperator)
    agree(operator.T @ V, columns, tol=1e-13)


# ---------------------------------------------------------------- kinks


def at_a_kink(loss="squared"):
    """h = relu(z), z = (w1, w2) on one sample: both units at 0, y = h v, the target 3."""
    network = clarke.Network()
    network.input("x", [[1.0]])
    network.parameter("w", [[0.0], [0.0]])
    network.parameter("v", [[1.0, 2.0]])
    network.node("z", layers.affine, "x", "w")
    network.node("h", layers.relu, "z")
    network.node("y", layers.affine, "h", "v")
    network.loss(layers.squared_error([[3.0]]), "y")
    return network


def test_at_a_kink_without_a_pattern_the_error_names_units_and_samples():
    with pytest.raises(KinkError, match=re.escape("2 kinks are active at this point (h[0, 0], h[0, 1])")) as caught:
        hessian_blocks(at_a_kink())
    assert [kink.name for kink in caught.value.kinks] == ["h[0, 0]", "h[0, 1]"]
    assert isinstance(caught.value, ValueError)


def test_each_pattern_gives_the_limiting_hessian_of_its_chamber():
    network = at_a_kink()
    names = (*network.inputs, *network.parameters)
    f, x = network.function(wrt=names), network.point(names)
    true = clarke.limiting_hessians(f, x)
    assert len(true.patterns) == 4
    for pattern, H, g in zip(true.patterns, true.matrices, true.gradients, strict=True):
        found = hessian_blocks(network, pattern=pattern)
        agree(found.dense(names), H, tol=1e-14)
        agree(onp.concatenate([found.gradient[n] for n in names]), g, tol=1e-14)
        assert found.weights == {pattern: 1.0}


def test_weights_give_the_minimum_norm_element():
    network = at_a_kink()
    names = (*network.inputs, *network.parameters)
    true = clarke.limiting_hessians(network.function(wrt=names), network.point(names))
    least = clarke.min_norm_element(true)
    weights = dict(zip(true.patterns, least.weights, strict=True))
    agree(hessian_blocks(network, weights=weights).dense(names), least.element, 1.0, 1e-12)
    mixed = hessian_blocks(network, weights=dict(zip(true.patterns, [0.25] * 4, strict=True)))
    agree(mixed.dense(names), true.matrices.mean(axis=0), tol=1e-13)
    agree(mixed.operator(names) @ onp.eye(5), true.matrices.mean(axis=0), tol=1e-13)
    agree(mixed["w", "v"], mixed.dense(("w", "v"))[:2, 2:], tol=1e-13)
    agree(mixed.gradient["w"], true.gradients.mean(axis=0)[1:3], tol=1e-13)


def test_letters_of_a_fan_over_fewer_arrays_are_matched_by_name():
    """Over v alone nothing moves the kinks of h, over w both move."""
    network = at_a_kink()
    network.node("g", layers.relu, "v")
    network.node("u", layers.affine, "g", "v")
    network.loss(layers.squared_error([[0.0]]), "u")
    there = network.at([0.0, 0.0, 0.0, 2.0])
    f = there.function(wrt="v")
    fan = clarke.local_fan(f, there.point("v"))
    assert [kink.name for kink in fan.kinks] == ["g[0, 0]"]
    true = clarke.limiting_hessians(f, there.point("v"))
    for pattern, H in zip(true.patterns, true.matrices, strict=True):
        agree(hessian_blocks(there, pattern=pattern, kinks=fan.kinks)["v", "v"], H, tol=1e-14)
    least = clarke.min_norm_element(true)
    weights = dict(zip(true.patterns, least.weights, strict=True))
    agree(hessian_blocks(there, weights=weights, kinks=["g[0, 0]"])["v", "v"], least.element, 1.0, 1e-13)
    with pytest.raises(ValueError, match=r"kinks names 'g\[0, 9\]', no active kink of this network: h\[0, 0\]"):
        hessian_blocks(there, pattern="+", kinks=["g[0, 9]"])


def plain_relu(z):
    return np.maximum(z, 0.0)


@pytest.mark.parametrize("relu", [plain_relu, lambda z: (z + np.abs(z)) / 2], ids=["maximum", "abs"])
def test_a_pattern_reaches_nodes_without_a_closed_form(relu):
    network, twin = at_a_kink(), clarke.Network()
    for name in ("x", "w", "v"):
        (twin.input if name == "x" else twin.parameter)(name, network.value(name))
    twin.node("z", layers.affine, "x", "w")
    twin.node("h", relu, "z")
    twin.node("y", layers.affine, "h", "v")
    twin.loss(layers.squared_error([[3.0]]), "y")
    for pattern in ("--", "-+", "+-", "++"):
        true, found = hessian_blocks(network, pattern=pattern), hessian_blocks(twin, pattern=pattern)
        agree(found.dense(every(twin)), true.dense(every(network)), tol=1e-14)


@pytest.mark.parametrize("activation", [layers.leaky_relu, layers.absolute, layers.relu6, layers.hard_tanh])
def test_closed_forms_at_ties_take_the_piece_of_the_pattern(activation):
    """Every unit at one of its kinks: the limiting Hessians, pattern by pattern."""
    network = clarke.Network()
    network.input("x", [[1.0]])
    kinks = {layers.relu6: [0.0, 6.0], layers.hard_tanh: [-1.0, 1.0]}.get(activation, [0.0, 0.0])
    network.parameter("w", onp.array(kinks)[:, None])
    network.parameter("v", [[1.0, 2.0]])
    network.node("z", layers.affine, "x", "w")
    network.node("h", activation, "z")
    network.node("y", layers.affine, "h", "v")
    network.loss(layers.squared_error([[0.5]]), "y")
    names = ("x", "w", "v")
    true = clarke.limiting_hessians(network.function(wrt=names), network.point(names))
    assert len(true.patterns) == 4
    for pattern, H in zip(true.patterns, true.matrices, strict=True):
        agree(hessian_blocks(network, pattern=pattern).dense(names), H, tol=1e-14)
    with pytest.raises(KinkError):
        hessian_blocks(network)


def test_where_all_elements_agree_no_pattern_is_needed():
    """relu(z) - relu(-z) = z: four letters, one derivative; but the blocks of the two halves differ."""
    network = clarke.Network()
    network.input("x", [[2.0]])
    network.parameter("w", [[0.0]])
    network.node("z", layers.affine, "x", "w")
    network.node("minus", lambda z: -z, "z")
    network.node("p", layers.relu, "z")
    network.node("q", layers.relu, "minus")
    network.node("y", lambda p, q: p - q, "p", "q")
    network.loss(layers.squared_error([[1.0]]), "y")
    found = hessian_blocks(network)
    assert found["w", "w"].tolist() == [[4.0]]
    assert found["z", "z"].tolist() == [[1.0]]
    assert found.gradient["w"].tolist() == [-2.0]
    with pytest.raises(KinkError, match=r"the block 'minus', 'minus' differs between the pieces .* pass pattern"):
        found["minus", "minus"]


def test_a_guard_just_off_its_tie_is_no_kink_and_tol_decides():
    network = clarke.Network()
    network.input("x", [[1.0]])
    network.parameter("w", [[1.0 + 1e-7]])
    network.parameter("b", [-1.0])
    network.node("z", layers.affine, "x", "w", "b")
    network.node("h", layers.relu, "z")
    network.loss(layers.squared_error([[1.0]]), "h")
    assert hessian_blocks(network)["w", "b"].tolist() == [[1.0]]
    with pytest.raises(KinkError):
        hessian_blocks(network, tol=1e-6)
    assert hessian_blocks(network, tol=1e-6, pattern="-")["w", "b"].tolist() == [[0.0]]


def test_recording_is_needed_only_where_a_guard_may_tie(monkeypatch, rng):
    network = mlp(rng, activation="relu")
    monkeypatch.setattr(clarke.Network, "function", None)
    hessian_blocks(network)
    with pytest.raises(TypeError):
        hessian_blocks(network.at(onp.zeros(network.size)))


# ---------------------------------------------------------------- arguments


def test_bad_arguments_are_named(rng):
    network = mlp(rng)
    found = hessian_blocks(network)
    with pytest.raises(ValueError, match=r"network must be a clarke\.Network; got function"):
        hessian_blocks(times)
    with pytest.raises(ValueError, match=r"the network declares no loss"):
        hessian_blocks(clarke.mlp((1, 1), activation="tanh", loss=None, inputs=[[1.0]], rng=rng))
    with pytest.raises(ValueError, match=r"no input, parameter or node 'W9'; the network has x, W1"):
        found["W1", "W9"]
    with pytest.raises(ValueError, match=r"no input, parameter or node 'h9'"):
        found.gradient["h9"]
    with pytest.raises(ValueError, match=r"two names, as H\['W1', 'W2'\] or .*; got 'W1'"):
        found["W1"]
    with pytest.raises(ValueError, match=r"names is empty"):
        found.dense(())
    with pytest.raises(ValueError, match=r"names holds a name twice: W1, W1"):
        found.dense(("W1", "W1"))
    with pytest.raises(ValueError, match=r"the tensor part has no gauss_newton part"):
        found.tensor.gauss_newton  # noqa: B018
    with pytest.raises(ValueError, match=r"0 active kinks; got '\+' of length 1"):
        hessian_blocks(network, pattern="+")
    kinked = at_a_kink()
    with pytest.raises(ValueError, match=r"2 active kinks \(h\[0, 0\], h\[0, 1\]\); got '\+' of length 1"):
        hessian_blocks(kinked, pattern="+")
    with pytest.raises(ValueError, match=r"2 active kinks .*; got 'ab' of length 2"):
        hessian_blocks(kinked, pattern="ab")
    with pytest.raises(ValueError, match=r"pattern must be a string over \+-0.*; got 3"):
        hessian_blocks(kinked, pattern=3)
    with pytest.raises(ValueError, match=r"pass pattern or weights, not both"):
        hessian_blocks(kinked, pattern="++", weights={"++": 1.0})
    with pytest.raises(ValueError, match=r"weights must be a dict pattern -> weight; got \[\]"):
        hessian_blocks(kinked, weights=[])
    with pytest.raises(ValueError, match=r"weights must have sum 1; got sum 0\.5"):
        hessian_blocks(kinked, weights={"++": 0.5})


def test_a_pattern_that_is_not_realized_is_refused():
    """z and 2 z share their sign, so +- belongs to no chamber."""
    network = clarke.Network()
    network.input("x", [[1.0]])
    network.parameter("w", [[0.0]])
    network.node("z", lambda x, w: np.dot(x, np.concatenate([w, 2.0 * w]).T), "x", "w")
    network.node("h", layers.relu, "z")
    network.loss(layers.squared_error([[1.0, 1.0]]), "h")
    assert hessian_blocks(network, pattern="++")["w", "w"].tolist() == [[5.0]]
    with pytest.raises(ValueError, match=r"pattern '\+-' is not realized near the point"):
        hessian_blocks(network, pattern="+-")


def test_blocks_print_pickle_and_cannot_be_written(rng):
    network = mlp(rng)
    found = hessian_blocks(network)
    with pytest.raises(ValueError, match="read-only"):
        found["W1", "W2"][0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        found.dense()[0, 0] = 1.0
    assert repr(found).startswith("HessianBlocks(Network(")
    assert "tensor part" in repr(found.tensor)
    assert isinstance(found.tensor, HessianBlocks)
    again = hessian_blocks(pickle.loads(pickle.dumps(network)))
    onp.testing.assert_array_equal(again.dense(), found.dense())


def test_a_pattern_of_many_kinks_needs_one_direction_and_no_list(monkeypatch, rng):
    """Forty units tied in ten directions meet in more pieces than anybody lists; a direction shows the pattern."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(1, 10)))
    network.parameter("w", onp.zeros((40, 10)))
    network.node("z", layers.affine, "x", "w")
    network.node("h", layers.relu, "z")
    network.loss(layers.squared_error(rng.normal(size=(1, 40))), "h")
    monkeypatch.setattr(elements, "fan_of", None)
    letters = "".join(rng.choice(list("+-"), 40))
    found = hessian_blocks(network, pattern=letters)["w", "w"]
    on = onp.repeat([letter == "+" for letter in letters], 10)
    x = onp.tile(network.value("x")[0], 40)
    agree(found, onp.kron(onp.eye(40), onp.ones((10, 10))) * onp.outer(x * on, x * on), tol=1e-14)


# ---------------------------------------------------------------- what strangers write


def test_one_parameter_twice_in_a_node(rng):
    """gamma and beta of a normalization are one array, and follow one another."""
    for norm in (layers.layer_norm, layers.batch_norm):
        network = clarke.Network()
        network.input("x", rng.normal(size=(3, 3)))
        network.parameter("b", rng.normal(size=3))
        network.parameter("W", rng.normal(size=(3, 3)))
        network.node("z", norm, "x", "b", "b")
        network.node("u", layers.affine, "z", "W", "b")
        network.node("y", norm, "u", "b", "b")
        network.loss(layers.squared_error(rng.normal(size=(3, 3))), "y")
        require_truth(network)


@wraps(layers.tanh)
def twice_tanh(z):
    return 2.0 * layers.tanh(z)


class Doubled:
    derivatives = 3

    def __call__(self, z):
        return 2.0 * z


@pytest.mark.parametrize("fun", [twice_tanh, Doubled()])
def test_what_a_wrapper_copies_is_no_closed_form_of_its_own(fun):
    network = clarke.Network()
    network.parameter("a", [0.5])
    network.node("z", fun, "a")
    network.loss(cubed, "z")
    require_truth(network)


def test_a_parent_that_nothing_moves_keeps_its_own_kinks_apart():
    network = clarke.Network()
    network.input("x", [[0.0, 1.0]])
    network.node("start", lambda x: np.zeros((len(x), 1)), "x")
    network.node("kept", lambda h: np.abs(h), "start")
    network.node("h", lambda h, x: np.abs(np.maximum(h, 0.0)) + np.maximum(x, 0.0), "kept", "x")
    network.loss(layers.squared_error([[1.0, 1.0]]), "h")
    assert hessian_blocks(network, pattern="+").gradient["x"].tolist() == [-1.0, 0.0]
    assert hessian_blocks(network, pattern="-").gradient["x"].tolist() == [0.0, 0.0]


def test_a_pattern_that_the_list_excludes_is_refused_though_the_list_is_open():
    """All of a deep network is zero: the list of its pieces is incomplete, but not about these."""
    network = clarke.mlp(
        (2, 2, 1),
        activation="relu",
        loss="squared",
        inputs=onp.zeros((1, 2)),
        targets=onp.ones((1, 1)),
        bias=False,
        theta=[1.0, 2.0, -1.0, 1.0, 3.0, -2.0],
    )
    with pytest.raises(ValueError, match="is not realized"):
        hessian_blocks(network, pattern="00")


def test_what_is_declared_later_is_no_part_of_blocks_already_taken():
    network = clarke.Network()
    network.parameter("a", [1.0])
    network.loss(layers.weight_decay(1.0), "a")
    found = hessian_blocks(network)
    network.parameter("c", [1.0])
    network.loss(layers.weight_decay(5.0), "c")
    assert found.dense().tolist() == [[1.0]]
    with pytest.raises(ValueError, match="no input, parameter or node 'c'"):
        found["c", "c"]
    assert hessian_blocks(network).dense().tolist() == [[1.0, 0.0], [0.0, 5.0]]


def test_the_little_things_of_a_result(rng):
    network = mlp(rng)
    found = hessian_blocks(network)
    n = network.size
    assert found.complete
    assert found.gauss_newton.gauss_newton is found.gauss_newton
    assert ("W1", "h1") in found
    assert ("W1", "W9") not in found
    assert "W1" not in found
    with pytest.raises(TypeError):
        list(found)
    onp.testing.assert_array_equal(
        found.gradient.dense(), onp.concatenate([found.gradient[name] for name in network.parameters])
    )
    assert repr(found.gradient).startswith("BlockGradient(Network(")
    operator, v = found.operator(), rng.normal(size=n)
    agree((operator @ (1j * v)).imag, operator @ v, tol=1e-15)
    assert (operator @ onp.zeros((n, 0))).shape == (n, 0)
    for some in (found, found.tensor):
        again = pickle.loads(pickle.dumps(some))
        onp.testing.assert_array_equal(again.dense(), some.dense())
    kinked = hessian_blocks(at_a_kink(), weights={"--": 0.5, "++": 0.5 + 1e-14, "+-": -1e-14})
    onp.testing.assert_array_equal(pickle.loads(pickle.dumps(kinked)).dense(), kinked.dense())
    for tol in (-1.0, "a", onp.nan):
        with pytest.raises(ValueError, match="tol is relative to the scale"):
            hessian_blocks(network, tol=tol)
    for weights in ({0: 1.0}, []):
        with pytest.raises(ValueError, match="weights must be a dict pattern -> weight"):
            hessian_blocks(at_a_kink(), weights=weights)
    for weight in (None, -0.5, onp.nan):
        with pytest.raises(ValueError, match=r"weights must be nonnegative numbers; got .* for '--'"):
            hessian_blocks(at_a_kink(), weights={"--": weight, "++": 1.0})
    with pytest.raises(ValueError, match=r"no input, parameter or node \['W1'\]"):
        found[["W1"], "W2"]


def halves(z):
    """z, as the difference of its two halves: every kink is one of the pieces only."""
    return np.maximum(z, 0.0) - np.maximum(-z, 0.0)


def many(fun, units=10):
    """units kinks in as many directions: 2^units pieces (4^units letters where fun has two kinks a unit)."""
    network = clarke.Network()
    network.input("x", onp.zeros((1, units)))
    network.node("h", fun, "x")
    network.loss(layers.squared_error(onp.ones((1, units))), "h")
    return network


def test_among_many_pieces_the_first_that_differ_are_enough(monkeypatch):
    monkeypatch.setattr(elements, "MAX_CHAMBERS", 0)  # the whole list is never asked for
    with pytest.raises(KinkError, match=r"40 kinks are active .* and 28 more.*different derivatives"):
        hessian_blocks(many(layers.relu, 40))


def test_many_pieces_that_all_agree_need_no_pattern(monkeypatch):
    network = many(halves)
    found = hessian_blocks(network)
    assert len(found.weights) == 1024
    agree(found["x", "x"], onp.eye(10), tol=1e-15)
    monkeypatch.setattr(elements, "MAX_CHAMBERS", 300)
    with pytest.raises(KinkError, match=r"where \d+ pieces meet, or more"):
        hessian_blocks(network)


def quartic(a, b):
    return np.concatenate([np.maximum(a, 0.0), np.maximum(a - b**4, 0.0)])


def test_a_pattern_that_is_undecided_says_so():
    network = clarke.Network()
    network.parameter("a", [0.0])
    network.parameter("b", [0.0])
    network.node("h", quartic, "a", "b")
    network.loss(cubed, "h")
    fan = clarke.local_fan(network.function(), network.point())
    assert not fan.complete
    open_one = next(letters for letters in fan.undecided if len(letters) == 2)
    found = hessian_blocks(network, pattern=open_one)
    assert not found.complete
    assert "may not be realized" in found.reason
    assert not found.tensor.complete
    with pytest.raises(KinkError, match="the list of pieces is not complete"):
        hessian_blocks(network)
