"""Layer traces against the traces of the blocks; every unbiasedness and every variance by enumeration."""

from functools import partial
from itertools import product
from math import inf, isnan

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import given, settings
from test_blocks import at_a_kink, mlp, networks

import clarke
from clarke import attention, convolution, layers, normalization
from clarke import curvature_sources as sources
from clarke import traces as room
from clarke.blocks import KinkError, hessian_blocks
from clarke.claims.references import brute_force, brute_parts, sizes
from clarke.linearization import linearize
from clarke.scatter import probe_count, trace_variance, unrolled, unrolling_bias
from clarke.traces import LayerTraces, layer_traces

PARTS = ("hessian", "gauss_newton")


@pytest.fixture
def rng():
    return onp.random.default_rng(0)


def free(network):
    return (*network.inputs, *network.parameters)


def oracle(network, names):
    """part -> (name -> trace, the scale of rounding errors), off autograd's dense Hessian."""
    ends = onp.cumsum([0, *sizes(network, names)])
    H, G = brute_force(network, names), brute_parts(network, names)[0]
    scale = max(onp.abs(onp.diagonal(H)).sum(), onp.abs(onp.diagonal(G)).sum(), 1e-3)
    spans = list(zip(names, ends[:-1], ends[1:], strict=True))
    return {
        part: ({name: float(onp.trace(M[a:b, a:b])) for name, a, b in spans}, scale)
        for part, M in (("hessian", H), ("gauss_newton", G))
    }


def agree(found, true, scale, tol=1e-10):
    assert found.keys() == true.keys()
    for name in true:
        assert abs(found[name] - true[name]) <= tol * scale, (name, found[name], true[name])


def signs(n):
    """All 2^n sign vectors."""
    return onp.array(list(product((-1.0, 1.0), repeat=n)))


def entries_read(network):
    """The number of entries of the arrays that the losses read, each as often as it is read."""
    return sum(network.value(parent).size for _, _, parents in network.losses for parent in parents)


# ---------------------------------------------------------------- exact


@settings(max_examples=80, deadline=None)
@given(networks())
def test_exact_traces_are_those_of_the_hessian_on_any_dag(network):
    """Branching, tied, gated, with parents used twice and several losses; of both parts, inputs included."""
    for part, (true, scale) in oracle(network, free(network)).items():
        found = layer_traces(network, method="exact", part=part, names=free(network))
        agree(found.estimate, true, scale)
        assert found.method == "exact"
        assert found.part == part
        assert set(found.stderr.values()) == {0.0}
        assert all(sample.shape == (0,) for sample in found.samples.values())


def convolutional(rng, activation=layers.relu, pool=convolution.max_pool2d, loss=layers.cross_entropy, tied=False):
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 2, 6, 6)))
    for name, shape in {"K1": (2, 2, 3, 3), "b1": (2,), "K2": (2, 2, 2, 2), "V": (3, 8), "c": (3,)}.items():
        network.parameter(name, 0.4 * rng.normal(size=shape))
    network.node("c1", partial(convolution.conv2d, padding=1), "x", "K1", "b1")
    network.node("p1", partial(pool, size=2), "c1")
    network.node("h1", activation, "p1")
    if tied:
        network.node("again", partial(convolution.conv2d, padding=1), "h1", "K1", "b1")
        network.node("h2", activation, "again")
    network.node("c2", convolution.conv2d, "h2" if tied else "h1", "K2")
    network.node("f", layers.reshape, "c2")
    network.node("y", layers.affine, "f", "V", "c")
    targets = onp.eye(3)[rng.integers(0, 3, 3)]
    network.loss(loss(targets), "y")
    return network


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("activation", "pool"), [(layers.relu, convolution.max_pool2d), (layers.tanh, convolution.average_pool2d)]
)
def test_exact_traces_of_convolutions_have_the_cross_terms_of_positions(rng, activation, pool, tied):
    network = convolutional(rng, activation, pool, tied=tied)
    blocks = hessian_blocks(network)
    for part, of in zip(PARTS, (blocks, blocks.gauss_newton), strict=True):
        true = {name: float(onp.trace(block)) for name, block in of.diagonal().items()}
        found = layer_traces(network, method="exact", part=part)
        agree(found.estimate, true, max(map(abs, true.values())))


def test_both_ways_to_square_a_sum_over_positions_agree(rng):
    """Fewer positions than inputs of a patch: the Gram matrices; more: the gradients of the samples."""
    for positions, inputs in ((2, 5), (5, 2)):
        c, B = rng.normal(size=(3, 4, positions, 2, 3)), rng.normal(size=(4, positions, 2, inputs))
        true = onp.square(onp.einsum("rnlgc,nlgq->rngcq", c, B)).sum(axis=(2, 3, 4))
        onp.testing.assert_allclose(sources._squares([(c, B)]), true, rtol=1e-13)
        split = [(c[:, :, :1], B[:, :1]), (c[:, :, 1:], B[:, 1:])]
        onp.testing.assert_allclose(sources._squares(split), true, rtol=1e-13)


def coupled(z):
    return z - np.mean(z, axis=0)


def test_exact_traces_where_samples_meet(rng):
    """Batch normalization, a node without closed forms, layer normalization: sources in whole, or own columns."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(4, 3)))
    for name, shape in {"W": (3, 3), "gamma": (3,), "beta": (3,), "V": (3, 3), "g": (3,), "U": (2, 3)}.items():
        network.parameter(name, rng.normal(size=shape))
    network.node("z", layers.affine, "x", "W")
    network.node("n", normalization.batch_norm, "z", "gamma", "beta")
    network.node("h", layers.relu, "n")
    network.node("m", coupled, "h")
    network.node("v", layers.affine, "m", "V")
    network.node("l", normalization.layer_norm, "v", "g")
    network.node("y", layers.affine, "l", "U")
    network.loss(layers.squared_error(rng.normal(size=(4, 2))), "y")
    for part, (true, scale) in oracle(network, free(network)).items():
        agree(layer_traces(network, method="exact", part=part, names=free(network)).estimate, true, scale)


def test_exact_traces_of_attention(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 3, 2)))
    for name in ("Q", "K", "V"):
        network.parameter(name, rng.normal(size=(2, 2)))
        network.node(f"{name}x", layers.affine, "x", name)
    network.node("a", attention.softmax_attention, "Qx", "Kx", "Vx")
    network.loss(layers.squared_error(rng.normal(size=(2, 3, 2))), "a")
    for part, (true, scale) in oracle(network, free(network)).items():
        agree(layer_traces(network, method="exact", part=part, names=free(network)).estimate, true, scale)


def saddle(h, W):
    return np.sum(h**3) * np.sum(W) - np.sum(np.sin(W))


def test_exact_traces_of_a_loss_that_is_not_convex_and_reads_a_parameter(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 2)))
    network.parameter("W", rng.normal(size=(2, 2)))
    network.node("h", layers.affine, "x", "W")
    network.loss(saddle, "h", "W")
    network.loss(layers.weight_decay(0.5), "W")
    for part, (true, scale) in oracle(network, free(network)).items():
        agree(layer_traces(network, method="exact", part=part, names=free(network)).estimate, true, scale)


def require_exact(network):
    for part, (true, scale) in oracle(network, free(network)).items():
        agree(layer_traces(network, method="exact", part=part, names=free(network)).estimate, true, scale)


def corner(h, W):
    """Diagonal but for one pair, which is fewer than there are squares."""
    return np.sum(h**2) + np.sum(W**2) + h[0, 0] * W[0, 1]


def of_the_sum(W, V):
    return np.sum(W) ** 2 * np.sum(V)


def test_exact_traces_of_losses_of_parameters_alone_and_of_few_cross_terms(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 2)))
    network.parameter("W", rng.normal(size=(2, 2)))
    network.parameter("V", rng.normal(size=(2, 2)))
    network.node("h", layers.affine, "x", "W")
    network.loss(corner, "h", "W")
    network.loss(of_the_sum, "W", "V")
    require_exact(network)


def test_exact_traces_of_a_parameter_that_enters_both_as_a_weight_and_sample_by_sample(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 2)))
    network.parameter("W", rng.normal(size=(2, 2)))
    network.node("z", layers.affine, "x", "W")
    network.node("p", layers.product, "z", "W")
    network.loss(layers.squared_error(rng.normal(size=(2, 2))), "p")
    require_exact(network)


def test_exact_traces_of_a_bias_that_is_a_scale_elsewhere(rng):
    """Two layouts of one parameter: they cannot be squared side by side."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(4, 30)))
    network.parameter("W", rng.normal(size=(30, 30)))
    network.parameter("b", rng.normal(size=30))
    network.node("l", normalization.layer_norm, "x", "b")
    network.node("y", layers.affine, "l", "W", "b")
    network.input("U", rng.normal(size=(1, 30)))
    network.node("u", layers.affine, "y", "U")
    network.loss(layers.squared_error(rng.normal(size=(4, 1))), "u")
    found = layer_traces(network, method="exact")
    assert "takes 4 columns" in found.reason  # none for W, one matrix below the loss; four for b in whole
    true = {name: float(onp.trace(b)) for name, b in hessian_blocks(network).diagonal().items()}
    agree(found.estimate, true, max(true.values()))


def test_exact_traces_of_a_parameter_shared_by_branches_with_losses_of_their_own(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 4)))
    network.parameter("W", rng.normal(size=(4, 4)))
    for k in range(2):
        network.node(f"z{k}", layers.affine, "x" if k == 0 else "h0", "W")
        network.node(f"h{k}", layers.relu, f"z{k}")
        network.node(f"a{k}", layers.affine, "x", "W")
        network.loss(layers.cross_entropy(onp.eye(4)[rng.integers(0, 4, 3)]), f"a{k}" if k else f"h{k}")
    assert (
        "takes 8 columns" in layer_traces(network).reason
    )  # what leads to one loss only is no use on the way to another
    require_exact(network)


def test_a_dense_layer_takes_the_squared_lengths_of_its_inputs(rng):
    """tr H_ll = sum_i |a_i|^2 tr G_{l,i}, G_{l,i} the Hessian in the outputs of the layer on sample i."""
    network = mlp(rng, (3, 4, 5, 2), activation="relu")
    blocks, found = hessian_blocks(network), layer_traces(network)
    for name, above, into in (("W1", "z1", "x"), ("W2", "z2", "h1"), ("W3", "y", "h2")):
        a = network.value(into)
        G = onp.diagonal(blocks[above, above]).reshape(len(a), -1).sum(axis=1)
        assert found.estimate[name] == pytest.approx((a**2).sum(axis=1) @ G, rel=1e-12)
    assert found.method == "exact"
    assert "every trace takes 2 columns" in found.reason


def test_exact_takes_one_backward_column_an_output_whatever_the_batch(rng, monkeypatch):
    network, carried = mlp(rng, (3, 6, 6, 2), N=9, activation="relu", loss="squared"), []
    network = network.at(network.point() + 0.1 * rng.normal(size=network.size))
    true = sources._pulled

    def pulled(lin, source, columns, *rest, **keywords):
        carried.append(len(columns))
        return true(lin, source, columns, *rest, **keywords)

    monkeypatch.setattr(sources, "_pulled", pulled)
    monkeypatch.setattr(sources, "tangents", None)
    layer_traces(network)
    assert carried == [2]


def test_the_two_layers_below_a_diagonal_take_no_column_of_it(rng, monkeypatch):
    """Columns are carried farther down alone: none of h1 and h2, of h3 to layer 1, of a squared loss to 1 and 2."""
    network, carried = mlp(rng, (3, 6, 5, 4, 2), N=9, activation="tanh", loss="squared"), []
    true = sources._pulled

    def pulled(lin, source, columns, names, *rest, **keywords):
        carried.append((source.step.name, len(columns), set(names)))
        return true(lin, source, columns, names, *rest, **keywords)

    monkeypatch.setattr(sources, "_pulled", pulled)
    found, blocks = layer_traces(network).estimate, hessian_blocks(network)
    assert carried == [("h3", 4, {"W1", "b1"}), ("loss 1", 2, {"W1", "b1", "W2", "b2"})]
    for name in network.parameters:
        assert found[name] == pytest.approx(onp.trace(blocks[name, name]), rel=1e-12)


@pytest.mark.parametrize("between", ["affine twice", "batch_norm", "skip", "sequence"])
def test_a_diagonal_that_is_lost_on_the_way_is_not_used(rng, between):
    """Two matrices, samples that meet, two ways, several places of a sample: the trace is that of the block."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(5, 2, 3) if between == "sequence" else (5, 3)))
    network.parameter("W1", rng.normal(size=(4, 3)))
    network.parameter("W2", rng.normal(size=(4, 4)))
    network.parameter("W3", rng.normal(size=(4, 4)))
    network.node("z1", layers.affine, "x", "W1")
    network.node("h1", layers.tanh, "z1")
    network.node("z2", layers.affine, "h1", "W2")
    above = "z2"
    if between == "affine twice":
        network.node(above := "z3", layers.affine, "z2", "W3")
    if between == "batch_norm":
        network.parameter("g", onp.ones(4))
        network.parameter("s", onp.zeros(4))
        network.node(above := "z3", layers.batch_norm, "z2", "g", "s")
    if between == "skip":
        network.node(above := "z3", layers.add, "z2", "h1")
    network.node("y", layers.tanh, above)
    network.loss(layers.weighted_sum(rng.normal(size=network.value("y").shape)), "y")
    found, blocks = layer_traces(network, method="exact").estimate, hessian_blocks(network)
    for name in network.parameters:
        assert found[name] == pytest.approx(onp.trace(blocks[name, name]), rel=1e-11, abs=1e-11)


def faintly_coupled(z):
    return z**2 + 1e-12 * z * np.roll(z, 1, axis=1)


@pytest.mark.parametrize(("fun", "axes"), [(faintly_coupled, 3), (layers.tanh, 2), (np.cos, 2)])
def test_a_faint_coupling_of_entries_is_no_diagonal(rng, fun, axes):
    network = clarke.Network()
    network.parameter("z", rng.normal(size=(3, 4)))
    network.input("c", onp.ones((3, 4)))
    network.node("h", fun, "z")
    network.node("k", layers.product, "h", "c")
    network.loss(layers.weighted_sum(rng.normal(size=(3, 4))), "k")
    lin = linearize(network)
    ((source, *_),) = sources.plan_of(lin, ("z",), "hessian").sources
    found = sources._second(lin, source)
    assert found.ndim == axes
    diagonal = found if axes == 2 else onp.einsum("ini->in", found)
    true = onp.diag(hessian_blocks(network)["z", "z"]).reshape(source.samples, -1).T
    onp.testing.assert_allclose(diagonal, true, rtol=1e-13)


def beside(z):
    return z * np.roll(z, 1, axis=-1)


def test_columns_of_its_own_where_a_parameter_has_fewer(rng):
    """One weight, an activation of 40 entries that meet: two columns out and back, and not 40."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 1, 40)))
    network.parameter("K", rng.normal(size=(1, 1, 1)))
    network.node("c", convolution.conv1d, "x", "K")
    network.node("h", beside, "c")
    network.loss(layers.squared_error(rng.normal(size=(2, 1, 40))), "h")
    found = layer_traces(network)
    assert "every trace takes 2 columns" in found.reason
    assert found.estimate["K"] == pytest.approx(onp.trace(hessian_blocks(network)["K", "K"]), rel=1e-12)


def test_many_columns_are_carried_some_at_a_time(rng, monkeypatch):
    network = convolutional(rng, layers.tanh, convolution.average_pool2d, tied=True)
    whole = layer_traces(network, method="exact")
    probed = layer_traces(network, method="hutchinson", probes=7, rng=onp.random.default_rng(1))
    sampled = layer_traces(network, method="ggn-mc", part="gauss_newton", probes=7, rng=onp.random.default_rng(1))
    monkeypatch.setattr(sources, "COLUMNS", 1)
    monkeypatch.setattr(sources, "CACHE", 1)
    monkeypatch.setattr(sources, "LARGEST", 1)
    again = layer_traces(network, method="exact")
    agree(again.estimate, whole.estimate, max(map(abs, whole.estimate.values())), 1e-12)
    assert "takes" in again.reason
    probes = room._draw("rademacher", onp.random.default_rng(1), (7, network.size))
    again = layer_traces(network, method="hutchinson", probes=probes)
    for name in network.parameters:
        onp.testing.assert_allclose(again.samples[name], probed.samples[name], rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(sources, "LARGEST", 1 << 20)
    probes = room._draw("rademacher", onp.random.default_rng(1), (7, 9))
    again = layer_traces(network, method="ggn-mc", part="gauss_newton", probes=probes)
    for name in network.parameters:
        onp.testing.assert_allclose(again.samples[name], sampled.samples[name], rtol=1e-9)


def test_an_idle_parameter_has_trace_zero_by_every_method(rng):
    network = mlp(rng, activation="relu")
    network.parameter("idle", onp.ones(2))
    for method in ("exact", "ggn-mc", "hutchinson", "control-variate"):
        found = layer_traces(network, method=method, rng=rng)
        assert found.estimate["idle"] == 0.0


def test_at_a_kink_traces_are_those_of_the_pattern_or_the_weights(rng):
    network = at_a_kink()
    with pytest.raises(KinkError):
        layer_traces(network)
    for choice in ({"pattern": "++"}, {"pattern": "-+"}, {"weights": {"++": 0.25, "--": 0.75}}):
        true = {name: float(onp.trace(b)) for name, b in hessian_blocks(network, **choice).diagonal().items()}
        agree(layer_traces(network, **choice).estimate, true, 1.0, 1e-13)
        agree(layer_traces(network, method="hutchinson", probes=signs(4), **choice).estimate, true, 1.0, 1e-13)
        agree(layer_traces(network, method="ggn-mc", probes=signs(1), **choice).estimate, true, 1.0, 1e-13)


def test_where_pieces_agree_one_is_enough():
    """relu(z) - relu(-z) = z."""
    network = clarke.Network()
    network.input("x", [[2.0]])
    network.parameter("w", [[0.0]])
    network.node("z", layers.affine, "x", "w")
    network.node("minus", negative, "z")
    network.node("p", layers.relu, "z")
    network.node("q", layers.relu, "minus")
    network.node("y", difference, "p", "q")
    network.loss(layers.squared_error([[1.0]]), "y")
    assert layer_traces(network).estimate == {"w": 4.0}


def negative(z):
    return -z


def difference(p, q):
    return p - q


# ---------------------------------------------------------------- what auto chooses


def test_auto_is_exact_where_that_is_few_columns_and_says_why(rng):
    assert "curved but in the losses" in layer_traces(mlp(rng, activation="relu")).reason
    smooth = layer_traces(mlp(rng, activation="tanh"))
    assert smooth.method == "exact"
    assert "the tensor part may reach the diagonal blocks of W1, b1, W2" in smooth.reason


def test_auto_samples_outputs_where_they_are_many_and_probes_only_the_tensor_part(rng, monkeypatch):
    monkeypatch.setattr(room, "EXACT", 1)
    found = layer_traces(mlp(rng, (3, 4, 5), activation="relu"), probes=2, rng=rng)
    assert found.method == "ggn-mc"
    assert "the exact traces take more than 4 columns" in found.reason
    smooth = mlp(rng, (3, 4, 4, 4, 5), activation="tanh")  # layer 1 is two matrices below the third activation
    found = layer_traces(smooth, probes=2, rng=rng)
    assert found.method == "control-variate"
    assert "by sampled output directions" in found.reason
    found = layer_traces(smooth, probes=3, rng=rng)
    assert "the Gauss-Newton part exactly, by 5 columns" in found.reason
    assert layer_traces(smooth, part="gauss_newton", probes=2, rng=rng).method == "ggn-mc"
    assert layer_traces(smooth, probes=5).method == "exact"


def test_a_deep_network_is_not_planned_in_vain(rng, monkeypatch):
    """With more curved nodes behind each layer than columns are allowed, none of them is looked at more closely."""
    network, seen = clarke.residual_chain(250, 2, rng=rng), []
    true = sources._source
    monkeypatch.setattr(sources, "_source", lambda *args: seen.append(args) or true(*args))
    found = layer_traces(network, probes=2, rng=rng)
    assert found.method == "control-variate"
    assert len(seen) <= 3  # the loss alone
    monkeypatch.setattr(sources, "_source", true)
    exact = layer_traces(network, method="exact", names=network.parameters[-3:])
    blocks = hessian_blocks(network)
    for name, value in exact.estimate.items():
        assert value == pytest.approx(onp.trace(blocks[name, name]), rel=1e-10)


# ---------------------------------------------------------------- unbiased, by enumeration


def tiny(rng, activation=layers.tanh, tied=True, loss=layers.cross_entropy):
    """Eight parameters W, b, v, W used twice if tied; N = 2, two outputs."""
    network = clarke.Network()
    network.input("x", onp.array([[1.0, -0.5], [0.7, 0.4]]))
    network.input("ones", [[1.0, 1.0]])
    network.parameter("W", onp.array([[0.8, -0.6], [0.5, 0.9]]) + 0.1 * rng.normal(size=(2, 2)))
    network.parameter("b", onp.array([0.3, 0.2]))
    network.parameter("v", rng.normal(size=(2, 1)))
    network.node("z1", layers.affine, "x", "W", "b")
    network.node("h1", activation, "z1")
    network.node("z2", layers.affine, "h1", "W") if tied else network.node("z2", layers.linear, "h1")
    network.node("s", layers.affine, "z2", "ones")
    network.node("y", layers.affine, "s", "v")
    network.loss(loss(onp.array([[1.0, 0.0], [0.3, 0.9]])), "y")
    network.loss(layers.weight_decay(0.1), "W")
    return network


@pytest.mark.parametrize("activation", [layers.tanh, layers.relu])
@pytest.mark.parametrize("part", PARTS)
def test_hutchinson_averaged_over_all_sign_vectors_is_the_trace(rng, activation, part):
    network = tiny(rng, activation)
    true, scale = oracle(network, network.parameters)[part]
    found = layer_traces(network, method="hutchinson", part=part, probes=signs(8))
    agree(found.estimate, true, scale, 1e-13)
    apart = layer_traces(network, method="hutchinson", part=part, probes=signs(8), per_layer=True)
    agree(apart.estimate, true, scale, 1e-13)
    assert apart.samples["W"].var() < found.samples["W"].var()
    if part == "hessian":
        agree(layer_traces(network, method="control-variate", probes=signs(8)).estimate, true, scale, 1e-13)


def test_hutchinson_is_z_times_hz_layer_by_layer(rng):
    network = tiny(rng)
    H, Z = brute_force(network, network.parameters), rng.normal(size=(5, 8))
    found = layer_traces(network, method="hutchinson", probes=Z)
    whole = Z * (Z @ H)
    onp.testing.assert_allclose(found.samples["W"], whole[:, :4].sum(axis=1), rtol=1e-11)
    onp.testing.assert_allclose(found.samples["b"], whole[:, 4:6].sum(axis=1), rtol=1e-11)
    onp.testing.assert_allclose(found.samples["v"], whole[:, 6:].sum(axis=1), rtol=1e-11)


@pytest.mark.parametrize("loss", [layers.cross_entropy, layers.squared_error])
@pytest.mark.parametrize("activation", [layers.tanh, layers.relu])
@pytest.mark.parametrize("tied", [False, True])
def test_sampled_outputs_averaged_over_all_sign_vectors_are_the_trace(rng, activation, tied, loss):
    network = tiny(rng, activation, tied, loss)
    true, scale = oracle(network, network.parameters)["gauss_newton"]
    found = layer_traces(network, method="ggn-mc", part="gauss_newton", probes=signs(4))
    agree(found.estimate, true, scale, 1e-13)


def cubes(y):
    return np.sum(y**3)


def test_sampled_outputs_of_a_loss_that_is_not_convex_are_unbiased(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 2)))
    network.parameter("W", rng.normal(size=(2, 2)))
    network.node("y", layers.affine, "x", "W")
    network.loss(cubes, "y")
    true, scale = oracle(network, network.parameters)["hessian"]
    assert (6 * network.value("y") < 0).any()
    found = layer_traces(network, method="ggn-mc", probes=signs(6))
    agree(found.estimate, true, scale, 1e-13)


def test_sampled_outputs_of_a_concave_head_are_unbiased_sample_by_sample(rng):
    """Cross-entropy with a target of negative mass: concave in the logits of that sample."""
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 2)))
    network.parameter("W", rng.normal(size=(3, 2)))
    network.node("y", layers.affine, "x", "W")
    network.loss(layers.cross_entropy(onp.array([[1.0, 0.0, 0.5], [-1.0, 0.0, -3.0]])), "y")
    true, scale = oracle(network, network.parameters)["hessian"]
    found = layer_traces(network, method="ggn-mc", probes=signs(6))
    agree(found.estimate, true, scale, 1e-13)
    assert found.samples["W"].min() < 0 or true["W"] < scale
    agree(layer_traces(network).estimate, true, scale, 1e-13)


def test_sampled_outputs_are_unbiased_where_samples_meet(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(3, 2)))
    network.parameter("W", rng.normal(size=(2, 2)))
    network.parameter("V", rng.normal(size=(2, 2)))
    network.node("z", layers.affine, "x", "W")
    network.node("n", normalization.batch_norm, "z")
    network.node("y", layers.affine, "n", "V")
    network.loss(layers.cross_entropy(onp.eye(2)[[0, 1, 1]]), "y")
    true, scale = oracle(network, network.parameters)["gauss_newton"]
    found = layer_traces(network, method="ggn-mc", part="gauss_newton", probes=signs(6))
    agree(found.estimate, true, scale, 1e-13)


def test_sampled_outputs_have_no_noise_between_layers_nor_between_samples(rng):
    """Two samples with signs of their own: the estimate is the sum of what each gives alone."""
    network = mlp(rng, (2, 3, 2), N=2, activation="relu")
    Z = signs(4)
    both = layer_traces(network, method="ggn-mc", probes=Z)
    for n in range(2):
        hidden = onp.array(Z)
        hidden[:, [2 - 2 * n, 3 - 2 * n]] = 0.0
        alone = layer_traces(network, method="ggn-mc", probes=hidden)
        for name in network.parameters:
            rest = both.samples[name] - alone.samples[name]
            other = onp.array(Z)
            other[:, [2 * n, 2 * n + 1]] = 0.0
            onp.testing.assert_allclose(
                rest, layer_traces(network, method="ggn-mc", probes=other).samples[name], atol=1e-12
            )


# ---------------------------------------------------------------- variances, by enumeration


@pytest.mark.parametrize("activation", [layers.tanh, layers.relu])
def test_the_variance_is_that_over_all_sign_vectors(rng, activation):
    network = tiny(rng, activation)
    blocks, Z = hessian_blocks(network), signs(8)
    full = layer_traces(network, method="hutchinson", probes=Z)
    true = onp.cov(onp.array([full.samples[name] for name in network.parameters]), bias=True)
    onp.testing.assert_allclose(trace_variance(blocks), true, rtol=1e-10, atol=1e-12 * true.max())
    onp.testing.assert_allclose(trace_variance(blocks, probes=5), true / 5, rtol=1e-10, atol=1e-12 * true.max())
    apart = layer_traces(network, method="hutchinson", probes=Z, per_layer=True)
    own = onp.diag([apart.samples[name].var() for name in network.parameters])
    onp.testing.assert_allclose(trace_variance(blocks, per_layer=True), own, rtol=1e-10, atol=1e-12 * true.max())
    alone = layer_traces(network, method="hutchinson", probes=signs(4), names="W")
    onp.testing.assert_allclose(trace_variance(blocks, "W"), [[alone.samples["W"].var()]], rtol=1e-10)


def test_the_kurtosis_of_the_probe_enters_through_the_diagonal(rng):
    """Entries 0, +-sqrt 2 with probabilities 1/2, 1/4, 1/4: E z^4 = 2; enumerated with weights."""
    network = tiny(rng)
    values, chances = onp.array([0.0, onp.sqrt(2.0), -onp.sqrt(2.0)]), onp.array([0.5, 0.25, 0.25])
    which = onp.array(list(product(range(3), repeat=8)))
    found = layer_traces(network, method="hutchinson", probes=values[which])
    samples, weights = onp.array([found.samples[n] for n in network.parameters]), chances[which].prod(axis=1)
    true = onp.cov(samples, aweights=weights, bias=True)
    kurtosis = trace_variance(hessian_blocks(network), kurtosis=2.0)
    onp.testing.assert_allclose(kurtosis, true, rtol=1e-10, atol=1e-12 * true.max())
    exact = layer_traces(network, method="exact").estimate
    onp.testing.assert_allclose(samples @ weights, [exact[n] for n in network.parameters], rtol=1e-10)


def test_gaussian_variances_sum_to_twice_the_square_of_the_norm(rng):
    """Entries of three values that match the normal's first five moments (Gauss-Hermite): enumeration again."""
    network = tiny(rng)
    blocks = hessian_blocks(network)
    H = blocks.dense()
    assert trace_variance(blocks, distribution="gaussian").sum() == pytest.approx(2 * (H**2).sum(), rel=1e-12)
    assert trace_variance(blocks).sum() == pytest.approx(2 * (H**2).sum() - 2 * (onp.diag(H) ** 2).sum(), rel=1e-12)
    values, chances = onp.array([0.0, onp.sqrt(3.0), -onp.sqrt(3.0)]), onp.array([2, 0.5, 0.5]) / 3
    which = onp.array(list(product(range(3), repeat=8)))
    found = layer_traces(network, method="hutchinson", probes=values[which])
    samples, weights = onp.array([found.samples[n] for n in network.parameters]), chances[which].prod(axis=1)
    true = onp.cov(samples, aweights=weights, bias=True)
    gaussian = trace_variance(blocks, distribution="gaussian")
    onp.testing.assert_allclose(gaussian, true, rtol=1e-10, atol=1e-12 * true.max())


def test_a_full_probe_is_better_iff_what_crosses_is_less_than_the_probes_saved(rng):
    network = tiny(rng)
    blocks, layer_count = hessian_blocks(network), 3
    full = onp.diag(trace_variance(blocks))
    own = onp.diag(trace_variance(blocks, per_layer=True))
    crossing = full - own
    assert ((full < layer_count * own) == (crossing < (layer_count - 1) * own)).all()


@pytest.mark.parametrize("method", ["hutchinson", "ggn-mc", "control-variate"])
def test_the_standard_error_is_honest(method):
    """Over 400 runs of 8 probes: mean squared error over mean squared stderr is 1 within its own scatter."""
    network = tiny(onp.random.default_rng(0), layers.relu if method == "ggn-mc" else layers.tanh, method != "ggn-mc")
    exact = layer_traces(network, method="exact").estimate["W"]
    rng, errors, claimed = onp.random.default_rng(1), [], []
    for _ in range(400):
        found = layer_traces(network, method=method, distribution="gaussian", probes=8, rng=rng)
        sample = found.samples["W"]
        assert found.stderr["W"] == pytest.approx(sample.std(ddof=1) / onp.sqrt(8), rel=1e-12)
        assert found.estimate["W"] == pytest.approx(sample.mean(), rel=1e-12)
        errors.append((found.estimate["W"] - exact) ** 2)
        claimed.append(found.stderr["W"] ** 2)
    scatter = onp.std(errors) / onp.sqrt(400) / onp.mean(claimed)
    assert abs(onp.mean(errors) / onp.mean(claimed) - 1) < 4 * scatter


def test_one_probe_has_no_standard_error(rng):
    found = layer_traces(tiny(rng), method="hutchinson", probes=1, rng=rng)
    assert all(isnan(error) for error in found.stderr.values())


def test_the_same_seed_gives_the_same_samples(rng):
    network = tiny(rng)
    for distribution in ("rademacher", "gaussian"):
        one, two = (
            layer_traces(network, method="hutchinson", distribution=distribution, rng=onp.random.default_rng(3))
            for _ in range(2)
        )
        for name in network.parameters:
            onp.testing.assert_array_equal(one.samples[name], two.samples[name])
            with pytest.raises(ValueError, match="read-only"):
                one.samples[name][0] = 0.0
        assert isinstance(one, LayerTraces)


# ---------------------------------------------------------------- sharing


def test_the_smallest_tied_loss_is_biased_by_two():
    """L = (theta_a - theta_b)^2 / 2 with theta_a = theta_b tied: trace 0, unrolled 2."""
    network = clarke.Network()
    network.parameter("theta", [[3.0]])
    network.node("d", difference, "theta", "theta")
    network.loss(layers.squared_error([[0.0]]), "d")
    assert unrolling_bias(network) == {"theta": 2.0}
    assert layer_traces(network).estimate == {"theta": 0.0}


def test_the_bias_of_unrolling_is_minus_the_blocks_between_copies(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 2)))
    network.parameter("W", rng.normal(size=(2, 2)))
    network.parameter("b", rng.normal(size=2))
    network.parameter("W (copy 2)", rng.normal(size=(2, 2)))
    before = "x"
    for k in range(3):
        network.node(f"z{k}", layers.affine, before, "W", *["b"][: k % 2])
        network.node(before := f"h{k}", layers.tanh, f"z{k}")
    network.node("y", layers.affine, before, "W (copy 2)")
    network.loss(layers.squared_error(rng.normal(size=(2, 2))), "y")
    network.loss(layers.weight_decay(0.3), "W")
    apart, copies = unrolled(network, network.parameters)
    assert len(copies["W"]) == 4
    assert len(set(copies["W"]) | {"W (copy 2)"}) == 5
    assert len(apart.parameters) == 3 + 3
    blocks = hessian_blocks(apart)
    between = sum(onp.trace(blocks[a, b]) for a in copies["W"] for b in copies["W"] if a != b)
    bias = unrolling_bias(network)
    assert bias["W"] == pytest.approx(-between, rel=1e-10)
    assert bias["b"] == bias["W (copy 2)"] == 0.0
    estimate = layer_traces(apart, method="hutchinson", names=copies["W"], probes=signs(16)).estimate
    unbiased = layer_traces(network, method="exact", names="W").estimate["W"]
    assert sum(estimate.values()) - unbiased == pytest.approx(bias["W"], rel=1e-9)


def test_the_bias_at_a_kink_is_that_of_the_pattern():
    network = at_a_kink()
    assert unrolling_bias(network, pattern="++") == {"w": 0.0, "v": 0.0}
    tied = clarke.Network()
    tied.input("x", [[1.0]])
    tied.parameter("w", [[0.0]])
    for k, before in enumerate(["x", "h0"]):
        tied.node(f"z{k}", layers.affine, before, "w")
        tied.node(f"h{k}", layers.relu, f"z{k}")
    tied.loss(layers.squared_error([[1.0]]), "h1")
    weights = {
        pattern: 1.0 for pattern in clarke.local_fan(tied.function(free(tied)), tied.point(free(tied))).patterns[:1]
    }
    assert unrolling_bias(tied, weights=weights)["w"] == 0.0


# ---------------------------------------------------------------- mini-batches


def one_by_one(rng, N=4):
    """(the networks of single samples, the network of a batch)."""
    X, T = rng.normal(size=(N, 2)), rng.normal(size=(N, 1))
    theta = rng.normal(size=2 * 1 + 1 + 1 + 1)

    def of(batch):
        return clarke.mlp(
            (2, 1, 1), activation="tanh", loss="squared", inputs=X[list(batch)], targets=T[list(batch)], theta=theta
        )

    return [of([i]) for i in range(N)], of


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("per_layer", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_split_of_the_variance_is_that_over_all_batches_and_sign_vectors(rng, batch_size, per_layer, replacement):
    samples, of = one_by_one(rng)
    batches = list(product(range(4), repeat=batch_size))
    if not replacement:
        batches = [batch for batch in batches if len(set(batch)) == batch_size]
    Z = signs(5)
    drawn = onp.array(
        [layer_traces(of(b), method="hutchinson", probes=Z, per_layer=per_layer).samples["W1"] for b in batches]
    )  # (batches, sign vectors)
    found = probe_count(samples, "W1", batch_size=batch_size, per_layer=per_layer, replacement=replacement)
    assert found.sampling == pytest.approx(drawn.mean(axis=1).var(), rel=1e-9)
    assert found.probe == pytest.approx(drawn.var(axis=1).mean(), rel=1e-9)
    assert found.critical == pytest.approx(found.probe / found.sampling, rel=1e-12)
    assert found.variance(1) == pytest.approx(drawn.var(), rel=1e-9)
    pairs = (drawn[:, :, None] + drawn[:, None, :]) / 2  # two probes of the same batch
    assert found.variance(2) == pytest.approx(pairs.var(), rel=1e-9)


def test_the_probe_count_is_linear_in_the_batch_size(rng):
    samples, _ = one_by_one(rng)
    for kwargs in ({}, {"distribution": "gaussian"}, {"kurtosis": 1.8}):
        critical = [probe_count(samples, "W1", batch_size=B, **kwargs).critical for B in (1, 2, 3, 40)]
        slope = critical[1] - critical[0]
        assert slope > 0
        onp.testing.assert_allclose(critical[2:], [critical[0] + 2 * slope, critical[0] + 39 * slope], rtol=1e-9)


def test_a_batch_of_everything_has_no_sampling_variance(rng):
    samples, of = one_by_one(rng)
    found = probe_count((hessian_blocks(s) for s in samples), "W1", batch_size=4, replacement=False)
    assert (found.sampling, found.critical) == (0.0, inf)
    variance = trace_variance(hessian_blocks(of(range(4))))[0, 0]
    assert found.probe == pytest.approx(variance, rel=1e-9)
    same = probe_count(samples[:1] * 3, "b2", batch_size=2)
    assert same.sampling == 0.0
    assert same.critical == inf
    scalar = clarke.Network()
    scalar.parameter("w", [[1.0]])
    scalar.loss(layers.squared_error([[0.0]]), "w")
    assert isnan(probe_count([scalar], "w", batch_size=1).critical)


def test_probe_counts_of_rademacher_and_gaussian_differ_by_the_diagonal(rng):
    samples, _ = one_by_one(rng)
    two = [probe_count(samples, "W1", batch_size=2, distribution=d).probe for d in ("rademacher", "gaussian")]
    diagonals = onp.array([onp.diag(hessian_blocks(s)["W1", "W1"]) for s in samples])
    mean = diagonals.mean(axis=0)
    rest = ((diagonals - mean) ** 2).sum(axis=1).mean() / 2
    assert two[1] - two[0] == pytest.approx(2 * ((mean**2).sum() + rest), rel=1e-10)


# ---------------------------------------------------------------- arguments


def test_bad_arguments_are_named(rng):
    network = tiny(rng)
    with pytest.raises(ValueError, match=r"method is one of auto, exact, .*; got 'hutch'"):
        layer_traces(network, method="hutch")
    with pytest.raises(ValueError, match="part is 'hessian' or 'gauss_newton'; got 'tensor'"):
        layer_traces(network, part="tensor")
    with pytest.raises(ValueError, match="control-variate probes the tensor part: of the Gauss-Newton part take"):
        layer_traces(network, method="control-variate", part="gauss_newton")
    with pytest.raises(ValueError, match="per_layer is a choice of method='hutchinson'; got method='exact'"):
        layer_traces(network, method="exact", per_layer=True)
    with pytest.raises(ValueError, match="distribution is 'rademacher' or 'gaussian'; got 'cauchy'"):
        layer_traces(network, distribution="cauchy")
    with pytest.raises(ValueError, match="probes is at least 1; got 0"):
        layer_traces(network, probes=0)
    with pytest.raises(ValueError, match=r"probes is an int or an array \(probes, n\); got 2\.5"):
        layer_traces(network, probes=2.5)
    with pytest.raises(ValueError, match=r"probes of W, b, v are finite, of shape \(probes, 8\); got shape \(2, 3\)"):
        layer_traces(network, method="hutchinson", probes=onp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"of the arrays that the losses read .* \(probes, 4\); got shape \(2, 8\)"):
        layer_traces(network, method="ggn-mc", part="gauss_newton", probes=onp.ones((2, 8)))
    for method in ("ggn-mc", "hutchinson", "control-variate"):
        with pytest.raises(ValueError, match="rng is needed"):
            layer_traces(tiny(rng, layers.relu, tied=False) if method == "ggn-mc" else network, method=method)
    with pytest.raises(ValueError, match=r"the tensor part may reach .* of W, b: ask for part='gauss_newton'"):
        layer_traces(network, method="ggn-mc", rng=rng)
    with pytest.raises(ValueError, match="no input or parameter 'z1'; the network has x, ones, W, b, v"):
        layer_traces(network, names=["z1"])
    with pytest.raises(ValueError, match="names holds a name twice: W, W"):
        layer_traces(network, names=["W", "W"])
    with pytest.raises(ValueError, match="no names to take traces of; the network has x, ones, W, b, v"):
        layer_traces(network, names=())
    with pytest.raises(ValueError, match=r"network must be a clarke\.Network"):
        layer_traces(times_two)
    with pytest.raises(ValueError, match="the network declares no loss"):
        layer_traces(clarke.mlp((1, 1), activation="tanh", loss=None, inputs=[[1.0]], rng=rng))


def times_two(x):
    return 2 * x


def test_bad_arguments_of_the_variances_are_named(rng):
    network = tiny(rng)
    blocks = hessian_blocks(network)
    with pytest.raises(ValueError, match=r"blocks must be a clarke\.HessianBlocks; got Network"):
        trace_variance(network)
    with pytest.raises(ValueError, match="no input or parameter 'h1'"):
        trace_variance(blocks, "h1")
    with pytest.raises(ValueError, match=r"kurtosis is E z\^4 >= \(E z\^2\)\^2 = 1; got 0\.5"):
        trace_variance(blocks, kurtosis=0.5)
    with pytest.raises(ValueError, match="probes is at least 1; got -1"):
        trace_variance(blocks, probes=-1)
    samples, _ = one_by_one(rng)
    with pytest.raises(ValueError, match="samples is empty: one network for each sample"):
        probe_count([], "W1", batch_size=1)
    with pytest.raises(ValueError, match="no parameter 'W7'; sample 0 has W1, b1, W2, b2"):
        probe_count(samples, "W7", batch_size=1)
    with pytest.raises(ValueError, match="batch_size is an int, at least 1; got 0"):
        probe_count(samples, "W1", batch_size=0)
    with pytest.raises(ValueError, match="a batch of 5 of 4 samples needs replacement"):
        probe_count(samples, "W1", batch_size=5, replacement=False)
    other = clarke.mlp((3, 1, 1), activation="tanh", loss="squared", inputs=[[1.0, 2, 3]], targets=[[1.0]], rng=rng)
    with pytest.raises(ValueError, match=r"sample 1 has parameters .*, the first"):
        probe_count([samples[0], other], "W1", batch_size=1)


def test_a_loss_of_too_many_outputs_is_refused_by_name(rng, monkeypatch):
    monkeypatch.setattr(sources, "LARGEST", 7)
    network = tiny(rng, layers.relu, tied=False)
    with pytest.raises(ValueError, match="the second derivatives of loss 1 are 8 numbers, more than 7"):
        layer_traces(network, method="ggn-mc", rng=rng)


def test_a_sampled_control_variate_needs_rng_even_if_the_probes_are_given(rng, monkeypatch):
    monkeypatch.setattr(room, "EXACT", 0)
    with pytest.raises(ValueError, match="the Gauss-Newton part is sampled"):
        layer_traces(mlp(rng, (1, 1, 3), N=1), method="control-variate", probes=onp.ones((1, 8)))


def test_roots_reproduce_what_they_factor(rng):
    """Diagonal, positive semidefinite of low rank, indefinite: K = sum of signs times squares."""
    A = rng.normal(size=(5, 3, 4))
    semidefinite = A @ A.swapaxes(1, 2)
    cases = {
        "diagonal": onp.stack([onp.diag(rng.normal(size=5)) for _ in range(3)]),
        "low": A.swapaxes(0, 1) @ A.transpose(1, 2, 0),
        "definite": A.swapaxes(0, 1) @ A.transpose(1, 2, 0) + onp.eye(5),
        "rank one": onp.stack([onp.outer(v, v) for v in rng.normal(size=(3, 5))]),
        "indefinite": semidefinite - 2 * onp.eye(3),
        "zero pivot": onp.array([[[0.0, 1.0], [1.0, 0.0]]]),
        "zero": onp.zeros((2, 3, 3)),
    }
    for name, K in cases.items():
        given = onp.array(K.swapaxes(0, 1), order="C")
        roots = sources._roots(given)
        onp.testing.assert_array_equal(given.swapaxes(0, 1), K)  # left alone
        columns, sign = roots.expanded(slice(None)), roots.signs
        again = onp.einsum("rn,rni,rnj->nij", sign, columns, columns)
        onp.testing.assert_allclose(again, K, atol=1e-12, err_msg=name)
        if name == "diagonal":
            short = sources._roots(onp.diagonal(K, axis1=1, axis2=2).T)
            columns = short.expanded(slice(None))
            again = onp.einsum("rn,rni,rnj->nij", short.signs, columns, columns)
            onp.testing.assert_allclose(again, K, atol=1e-12)
        if name in ("definite", "rank one"):
            assert (sign == 1).all()
