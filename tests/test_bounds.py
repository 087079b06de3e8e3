"""The outer-product Hessian of a chain: its factors by their definitions, its norm, and what bounds it."""

import math
import re
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import eigsh

import clarke
from clarke import bounds, chains, factors, hessian_blocks, layers
from clarke.bounds import loss_increments, norm_report, overlap
from clarke.chains import chain_at
from clarke.claims.references import brute_jacobian
from clarke.convolution import Windows
from clarke.elements import KinkError
from clarke.factors import layer_norm_squared, norm_of, outer_product_factors, outer_product_norm

POOLS = {
    "max": (layers.max_pool1d, layers.max_pool2d),
    "average": (layers.average_pool1d, layers.average_pool2d),
}
VALID = ["Lemma 2", "Theorem 1", "Theorem 2", "Lemma 3", "Lemma 4", "Lemma 5 corrected", "sharp", "sharp, by weights"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def build(x, *steps, targets=None):
    """A network on the samples x (N, ...): ("conv", K[, b[, keywords]]), ("dense", W[, b]), ("relu",), ("flat",),
    ("max" or "average", size[, keywords]); logits "y"."""
    network = clarke.Network()
    network.input("x", x)
    above, sides = "x", np.ndim(x) - 2
    for k, (kind, *what) in enumerate(steps, 1):
        name = "y" if k == len(steps) else f"{kind}{k}"
        if kind in ("conv", "dense"):
            weights, bias, keywords = (*what, None, {})[:3] if len(what) < 3 else what
            names = [f"W{k}", f"b{k}"][: 1 + (bias is not None)]
            for parameter, value in zip(names, (weights, bias), strict=False):
                network.parameter(parameter, value)
            fun = layers.affine
            if kind == "conv":
                fun = partial([layers.conv1d, layers.conv2d][sides - 1], **(keywords or {}))
            network.node(name, fun, above, *names)
        elif kind in POOLS:
            size, keywords = (*what, {})[:2]
            network.node(name, partial(POOLS[kind][sides - 1], size=size, **keywords), above)
        else:
            network.node(name, {"relu": layers.relu, "flat": layers.reshape, "linear": layers.linear}[kind], above)
        above = name
    if targets is not None:
        network.loss(layers.cross_entropy(targets), "y")
    return network


def drawn(rng, plain=False, pool=None, head=None, sides=None):
    """A random chain at a generic point. plain: no bias, stride 1, no padding, at most one (disjoint) pooling."""
    sides = sides or int(rng.integers(1, 3))
    shape = (int(rng.integers(1, 3)), *(int(n) for n in rng.integers(6, 9, size=sides)))
    steps, image = [], np.zeros((1, *shape))
    depth, convolve = int(rng.integers(1, 4)), [layers.conv1d, layers.conv2d][sides - 1]
    head = int(rng.integers(0, 3)) if head is None else head
    if not head and depth == 1:
        depth = 2
    where = int(rng.integers(1, depth)) if depth > 1 else 1

    def bias(n):
        return None if plain or rng.random() < 0.5 else rng.normal(size=n)

    for layer in range(1, depth + 1):
        kernel = tuple(int(min(k, n)) for k, n in zip(rng.integers(1, 4, size=sides), image.shape[2:], strict=True))
        keywords = {} if plain else {"stride": int(rng.integers(1, 3)), "padding": int(rng.integers(0, 2))}
        K = rng.normal(size=(int(rng.integers(1, 4)), image.shape[1], *kernel))
        steps.append(("conv", K, bias(len(K)), keywords))
        image = convolve(image, K, **keywords)
        if layer < depth or head:
            kind = pool if plain else rng.choice(["max", "average", "none"])
            if not (plain and kind in POOLS and layer == where and rng.random() < 0.5):
                steps.append(("relu",))
            if kind in POOLS and min(image.shape[2:]) >= 2 and (not plain or layer == where):
                stride = {} if plain or rng.random() < 0.7 else {"stride": 1}
                steps.append((kind, 2, stride))
                image = partial(POOLS[kind][sides - 1], size=2, **stride)(image)
    if head or image.size < 2:
        steps.append(("flat",))
        width = image.size
        for layer in range(max(head, 1)):
            wide = int(rng.integers(2, 5))
            if layer:
                steps.append(("relu",))
            steps.append(("dense", rng.normal(size=(wide, width)), bias(wide)))
            width = wide
    scale = 10 ** rng.uniform(-1, 0.3)  # logits large and small
    steps = [(k, w[0] * scale, *w[1:]) if k in ("conv", "dense") else (k, *w) for k, *w in steps]
    return build(rng.normal(size=(1, *shape)), *steps)


def logits_of(network):
    return network.nodes[-1]


def twin(network, names=None):
    """(J, A) by autograd through the node functions."""
    top = logits_of(network)
    J = brute_jacobian(network, [top], list(names or network.parameters))
    z = network.value(top).ravel()
    p = np.exp(z - z.max())
    p /= p.sum()
    A = np.zeros((len(p), len(p)))
    for i, j in combinations(range(len(p)), 2):  # a sum over pairs: nothing cancels
        e = np.eye(len(p))[i] - np.eye(len(p))[j]
        A += p[i] * p[j] * np.outer(e, e)
    return J, A


def twin_norm(network):
    J, A = twin(network)
    return np.linalg.norm(J.T @ A @ J, 2)


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


# ---------------------------------------------------------------- the factors


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_the_factors_multiply_to_the_jacobian_and_the_hessian_of_autodiff(rng):
    network = drawn(rng)
    f = outer_product_factors(network)
    J, A = twin(network, [name for names in f.parameters for name in names])
    H = J.T @ A @ J
    largest = max(np.abs(J).max() ** 2 * np.abs(A).max(), 1e-300)
    Q = sparse.block_diag(f.Q, format="csr")
    assert np.abs(f.A - A).max() <= 1e-14
    assert np.abs((f.F @ Q).toarray() - J).max() <= 1e-10 * np.abs(J).max()
    assert np.abs(f.jacobian() - J).max() <= 1e-10 * np.abs(J).max()
    assert np.abs(f.hessian() - H).max() <= 1e-10 * largest
    assert np.abs(Q.T @ (f.F.T @ (A @ (f.F @ Q).toarray())) - H).max() <= 1e-10 * largest
    for R, x in zip(f.R, f.x, strict=True):
        np.testing.assert_allclose(R @ f.x[0], x, atol=1e-12 * (1 + np.abs(x).max()))
    for G, T, x in zip(f.G, f.T, f.x, strict=True):
        z = network.value(logits_of(network)).ravel()
        np.testing.assert_allclose(G @ (T @ x), z, atol=1e-12 * (1 + np.abs(z).max()) * 100)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_T_is_the_layer_Q_its_derivative_and_Lambda_what_follows(rng):
    network = drawn(rng)
    f = outer_product_factors(network)
    nodes, h = network.dag.nodes, int(f.homogeneous)
    weighted = [name for name in network.nodes if len(nodes[name]["parents"]) > 1]
    for p, (name, names) in enumerate(zip(weighted, f.parameters, strict=True)):
        fun, (above, *own) = nodes[name]["fun"], nodes[name]["parents"]
        assert tuple(own) == names
        value, values, last = network.value(above), [network.value(w) for w in own], p == len(weighted) - 1

        def matrix(arrays, fun=fun, value=value, last=last):
            """The layer on basis vectors; on (x, 1) if there are biases."""
            zero = fun(np.zeros_like(value), *arrays).reshape(1, -1)
            images = fun(np.eye(value.size).reshape(-1, *value.shape[1:]), *arrays).reshape(value.size, -1)
            T = np.vstack([images - zero] + [zero] * h).T
            return np.vstack([T, np.eye(1, T.shape[1], T.shape[1] - 1)]) if h and not last else T

        np.testing.assert_allclose(f.T[p].toarray(), matrix(values), atol=1e-12)
        Q, T, before = f.Q[p].tocsc(), matrix(values), 0
        assert Q.shape == (T.size, sum(array.size for array in values))
        for which, array in enumerate(values):
            for entry in rng.choice(array.size, min(array.size, 10), replace=False):
                moved = [a.copy() for a in values]
                moved[which].flat[entry] += 1.0
                found = Q[:, [before + entry]].toarray().ravel()
                np.testing.assert_allclose(found, (matrix(moved) - T).ravel(), atol=1e-12)
            before += array.size
        after = network.nodes[network.nodes.index(name) + 1 :]
        until = next((k for k, other in enumerate(after) if other in weighted), len(after))
        top = after[until - 1] if until else name
        Lambda, z, out = brute_jacobian(network, [top], [name]), network.value(name).ravel(), network.value(top).ravel()
        found = f.Lambda[p].toarray()[: len(out), : len(z)]
        np.testing.assert_allclose(found @ z, out, atol=1e-12)
        if len(np.unique(z)) == len(z):  # autograd halves what ties, where windows see the same padding
            alive = np.ix_(out != 0, z != 0)
            np.testing.assert_allclose(found[alive], Lambda[alive], atol=1e-15)


@pytest.mark.parametrize("sides", [1, 2])
def test_Q_transposed_Q_is_the_number_of_windows_times_the_identity(sides, rng):
    f = outer_product_factors(drawn(rng, plain=True, head=0, sides=sides))
    for T, Q, names in zip(f.T, f.Q, f.parameters, strict=True):
        gram = (Q.T @ Q).toarray()
        windows = T.nnz // Q.shape[1]
        np.testing.assert_array_equal(gram, windows * np.eye(len(gram)))
        assert len(names) == 1


def test_the_chain_may_be_one_of_several_samples_and_x_any_sample(rng):
    X = rng.normal(size=(3, 1, 6))
    K, V = rng.normal(size=(2, 1, 3)), rng.normal(size=(3, 8))
    whole = build(X, ("conv", K), ("relu",), ("flat",), ("dense", V), targets=np.eye(3))
    norms = []
    for x in [*X, rng.normal(size=(1, 6))]:
        one = build(x[None], ("conv", K), ("relu",), ("flat",), ("dense", V))
        found = norm_report(whole, x).norm
        assert found == pytest.approx(twin_norm(one), rel=1e-12)
        assert found == norm_report(one).norm
        norms.append(found)
    mean = hessian_blocks(whole).gauss_newton.dense()
    assert np.linalg.norm(mean, 2) <= np.mean(norms[:3]) * (1 + 1e-12)


def test_logits_may_be_the_image_of_a_convolution(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(1, 2, 3, 3)))
    network.parameter("K", rng.normal(size=(2, 2, 2, 2)))
    network.node("logits", layers.conv2d, "x", "K")
    assert norm_report(network).norm == pytest.approx(twin_norm(network), rel=1e-12)
    assert norm_report(network).classes == 8


def test_pools_at_either_end_and_linear_activations_belong_to_a_chain(rng):
    steps = [("average", 2), ("conv", rng.normal(size=(2, 1, 2))), ("linear",), ("conv", rng.normal(size=(3, 2, 2)))]
    network = build(rng.normal(size=(1, 1, 12)), *steps, ("average", 4))
    f = outer_product_factors(network)
    J, A = twin(network)
    np.testing.assert_allclose(f.jacobian(), J, atol=1e-13)
    np.testing.assert_allclose(f.G[-1], f.Lambda[-1].toarray())
    assert norm_report(network).norm == pytest.approx(np.linalg.norm(J.T @ A @ J, 2), rel=1e-12)
    assert norm_report(network)["sharp"].holds


# ---------------------------------------------------------------- the norm


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_the_norm_is_that_of_the_dense_matrix_by_either_route(rng):
    network = drawn(rng)
    J, A = twin(network)
    scale = np.linalg.norm(J, 2) ** 2
    true = np.linalg.norm(J.T @ A @ J, 2)
    for method in ("gram", "lanczos", "auto"):
        assert outer_product_norm(network, method=method) == pytest.approx(
            true, rel=1e-9, abs=1e-14 * scale * np.abs(A).max()
        )


def test_a_confident_network_loses_no_digits(rng):
    """At p = (1 - e, e) the norm is 2 e (1 - e) |J v|^2, v = (1, -1) / sqrt 2, however small e is."""
    x = rng.normal(size=3)
    for gap in (1.0, 20.0, 34.0, 60.0):
        network = build(x[None], ("dense", np.array([gap * x / (x @ x), 0 * x])))
        e = math.exp(-gap) / (1 + math.exp(-gap))
        assert norm_report(network).norm == pytest.approx(2 * e / (1 + math.exp(-gap)) * (x @ x), rel=1e-12)


def big(rng):
    network = clarke.conv_net(
        (16, 64, 160),
        kernel=3,
        inputs=rng.normal(size=(1, 1, 20, 20)),
        targets=np.eye(10)[:1],
        activation="relu",
        loss="cross_entropy",
        pool="average",
        padding=1,
        rng=rng,
    )
    return network.at(network.point() + 0.01 * rng.normal(size=network.size))


def test_with_a_hundred_thousand_parameters_one_pull_gives_what_lanczos_on_the_parameters_does(rng, monkeypatch):
    network = big(rng)
    assert network.size > 100_000
    chain = chain_at(network)
    pulls = 0
    for layer in chain.layers:
        inner = layer.step.local.pull

        def counted(i, c, inner=inner):
            nonlocal pulls
            pulls += 1
            return inner(i, c)

        object.__setattr__(layer.step.local, "pull", counted)
    found = norm_of(chain)
    assert pulls == 3 * len(chain.layers) - 1  # W, b, and on to the layer below
    start = np.ones(network.size)
    operator = hessian_blocks(network).gauss_newton.operator()
    true = eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0]
    assert found == pytest.approx(true, rel=1e-9)
    assert norm_of(chain, method="lanczos") == pytest.approx(true, rel=1e-9)
    monkeypatch.setattr(factors, "ROWS", 0)
    assert norm_of(chain) == norm_of(chain, method="lanczos")


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_norm_of_a_layer_is_that_of_its_matrix_formed_or_not(rng):
    network = drawn(rng)
    f, before = outer_product_factors(network), factors.DENSE
    for p, layer in enumerate(chain_at(network).layers):
        true = np.linalg.norm(f.T[p].toarray(), 2) ** 2
        try:
            for factors.DENSE in (before, 0):
                found = layer_norm_squared(layer, f.homogeneous, layer is chain_at(network).layers[-1])
                if p < len(f.T) - 1 or not f.homogeneous:
                    assert found == pytest.approx(true, rel=1e-8, abs=1e-12)
                plain = f.T[p].toarray()[: math.prod(layer.shape), : layer.value.size]
                assert layer_norm_squared(layer) == pytest.approx(np.linalg.norm(plain, 2) ** 2, rel=1e-8, abs=1e-12)
        finally:
            factors.DENSE = before


# ---------------------------------------------------------------- kinks


def test_a_kink_is_refused_by_name_and_a_pattern_chooses_a_side(rng):
    K, V = np.array([[[1.0, -1.0]]]), rng.normal(size=(2, 2))
    network = build(np.array([[[1.0, 1.0, 3.0]]]), ("conv", K), ("relu",), ("flat",), ("dense", V))
    with pytest.raises(KinkError, match=re.escape("relu2[0, 0, 0]")):
        norm_report(network)
    for letter, slope in (("+", 1.0), ("-", -1.0)):
        moved = build(
            np.array([[[1.0, 1.0 - 1e-12 * slope, 3.0]]]), ("conv", K), ("relu",), ("flat",), ("dense", V)
        )  # the unit on that side, by less than matters
        assert norm_report(network, pattern=letter).norm == pytest.approx(norm_report_near(moved, tol=0.0), rel=1e-9)
        f = outer_product_factors(network, pattern=letter)
        assert f.Lambda[0].toarray()[0, 0] == (letter == "+")
    with pytest.raises(ValueError, match="one letter"):
        norm_report(network, pattern="++")


def norm_report_near(network, tol):
    return outer_product_norm(network, tol=tol)


def test_a_pooling_window_with_two_winners_is_a_kink(rng):
    x = np.array([[[1.0, 2.0, 1.0, 0.5, 3.0]]])  # the first two sums are equal, of different entries
    steps = [("conv", np.ones((1, 1, 2))), ("max", 2), ("flat",), ("dense", rng.normal(size=(2, 2)))]
    with pytest.raises(KinkError, match=re.escape("max2[0, 0, 0")):
        norm_report(build(x, *steps))


def test_ties_of_equal_functions_of_the_parameters_are_no_kinks(rng):
    """An image with empty corners, dead units that tie in a pooling window, a constant patch."""
    image = np.zeros((1, 1, 8, 8))
    image[0, 0, 2:5, 2:5] = rng.normal(size=(3, 3))
    flat = np.ones((1, 1, 8, 8))
    flat[0, 0, 5:, 5:] = rng.normal(size=(3, 3))
    for x, biased, pool in product((image, flat), (True, False), ("max", "average")):
        for _ in range(5):
            K1, K2 = rng.normal(size=(3, 1, 2, 2)), rng.normal(size=(2, 3, 2, 2))
            b1, b2 = (rng.normal(size=3), rng.normal(size=2)) if biased else (None, None)
            steps = [("conv", K1, b1), ("relu",), (pool, 2, {"stride": 1}), ("conv", K2, b2), ("relu",), (pool, 2)]
            network = build(x, *steps, ("flat",), ("dense", rng.normal(size=(3, 8))))
            assert norm_report(network).norm == pytest.approx(twin_norm(network), rel=1e-10)
    x = np.array([[[0.0, 0.0, 1.0, 2.0]]])
    steps = [("conv", np.array([[[1.0, -2.0]]])), ("relu",), ("flat",), ("dense", rng.normal(size=(2, 3)))]
    with pytest.raises(KinkError):
        hessian_blocks(build(x, *steps, targets=np.eye(2)[:1]))  # where the image may move too
    assert norm_report(build(x, *steps)).norm == pytest.approx(twin_norm(build(x, *steps)), rel=1e-12)


def test_a_tie_that_nobody_reads_is_harmless_and_pieces_that_differ_are_told(monkeypatch, rng):
    K, W = np.array([[[1.0, -1.0]]]), np.array([[[1.0]], [[2.0]]])
    x = np.array([[[1.0, 3.0, 3.0, 2.0]]])  # the second unit is 0; the next layer has stride 2
    network = build(x, ("conv", K), ("relu",), ("conv", W, None, {"stride": 2}), ("flat",))
    assert norm_report(network).norm == pytest.approx(twin_norm(network), rel=1e-12)
    read = build(x, ("conv", K), ("relu",), ("conv", W), ("flat",))
    with pytest.raises(KinkError, match="Jacobian in 'W1' differs"):
        norm_report(read)
    monkeypatch.setattr(chains, "fan_of", None)  # told by a few pieces, before all 2^12 are listed
    many = build(np.ones((1, 4)), ("dense", np.zeros((12, 4))), ("relu",), ("dense", rng.normal(size=(2, 12))))
    with pytest.raises(KinkError, match=r"meet at relu2\[0, 0\], .* pass pattern=, a letter for each kink"):
        norm_report(many)


def test_a_unit_that_is_zero_and_read_by_nobody_is_no_kink_of_the_jacobian(rng):
    """Its Hessian jumps: the derivative in W3 and W1 is the slope of the unit."""
    W, V = rng.normal(size=(3, 4)), rng.normal(size=(2, 3))
    W[1], V[:, 1] = 0.0, 0.0
    steps = ("dense", W), ("relu",), ("dense", V)
    network = build(rng.normal(size=(1, 4)), *steps)
    assert norm_report(network).norm == pytest.approx(twin_norm(network), rel=1e-12)
    with pytest.raises(KinkError):
        hessian_blocks(build(network.value("x"), *steps, targets=np.eye(2)[:1]))


# ---------------------------------------------------------------- the bounds


def ascended(network, of, rng, steps):
    """The reports met by a random ascent on |H_O| / bound over parameters and sample."""
    best, width = norm_report(network), 0.5
    yield best
    names = (*network.parameters, *network.inputs)
    for _ in range(steps):
        point = network.point(names)
        moved = network.at(point + width * rng.normal(size=point.size) * np.abs(point).mean(), names)
        try:
            found = norm_report(moved)
        except KinkError:
            continue
        yield found
        if found.looseness[of] < best.looseness[of]:
            best, network = found, moved
        else:
            width = max(0.7 * width, 1e-3)


@pytest.mark.parametrize("family", range(6))
def test_no_valid_bound_is_violated_on_the_way_up(family):
    rng = np.random.default_rng(family)
    kinds = [
        ({"plain": True, "sides": 1, "head": 0}, "Theorem 1"),
        ({"plain": True, "sides": 2, "head": 0}, "Theorem 2"),
        ({"plain": True, "sides": 2, "head": 0, "pool": "max"}, "Lemma 3"),
        ({"plain": True, "sides": 2, "head": 0, "pool": "average"}, "Lemma 4"),
        ({"plain": True, "head": 2}, "Lemma 5 corrected"),
        ({}, "sharp"),
    ]
    keywords, name = kinds[family]
    spoke = 0
    for _ in range(6):
        for report in ascended(drawn(rng, **keywords), name, rng, 12):
            assert {bound.name for bound in report.bounds if bound.holds is False} <= {"Lemma 5"}
            assert not math.isnan(report["sharp"].value)
            spoke += report[name].holds is True
    assert spoke > 12


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_the_sharp_bound_lies_between_the_norm_and_the_printed_ones(rng):
    report = norm_report(drawn(rng, plain=True, pool=rng.choice([None, "max"])))
    for name in ("Theorem 1", "Theorem 2", "Lemma 5 corrected"):
        assert not report[name].value < report["sharp, by weights"].value * (1 - 1e-12)
    assert report["sharp"].value <= report["sharp, by weights"].value * (1 + 1e-12)
    assert report["sharp"].value <= report["Lemma 2"].value / (2 * math.sqrt(2)) * (1 + 1e-12)


def test_the_sharp_bound_is_attained_by_dense_layers_and_kernels_of_one_tap():
    """All layers turn x along e_1, all rows of G along e_2, and v = (1, -1) / sqrt 2 tells the two logits apart."""
    tiny, t = 1e-4, 1.7
    V = t * np.array([[0.0, 1.0], [0.0, -1.0]]) / math.sqrt(2)
    for depth in (1, 2, 4):
        dense = [step for _ in range(depth) for step in (("dense", t * np.eye(2)), ("relu",))]
        report = norm_report(build(np.array([[1.0, tiny]]), *dense, ("dense", V)))
        assert 0.999 <= report.norm / report["sharp"].value <= 1 + 1e-12
        K = t * np.eye(2)[:, :, None]
        taps = [step for _ in range(depth) for step in (("conv", K), ("relu",))]
        x = tiny * np.ones((1, 2, 3))
        x[0, 0, 0] = 1.0
        head = np.zeros((2, 2, 3))
        head[:, :, 0] = V
        report = norm_report(build(x, *taps, ("flat",), ("dense", head.reshape(2, 6))))
        assert 0.999 <= report.norm / report["sharp"].value <= 1 + 1e-12
        report = norm_report(
            build(x[..., None], *(s if len(s) == 1 else (s[0], s[1][..., None]) for s in taps), ("flat",))
        )
        assert report.norm < report["sharp"].value


def test_a_kernel_of_two_taps_and_two_windows_attains_three_quarters_of_the_sharp_bound():
    """|P|^2 of the 2 x 2 Hankel matrix along (1, -1) / sqrt 2 is at most 3/2 |x|^2, at x = (1, -2, 1), and mu = 2."""
    network = build(np.array([[[1.0, -2.0, 1.0]]]), ("conv", np.zeros((1, 1, 2))), ("flat",))
    report = norm_report(network)
    assert report.norm / report["sharp"].value == pytest.approx(0.75, rel=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(200):
        x = rng.normal(size=(1, 3))
        assert norm_report(network, x).norm <= 0.75 * (x**2).sum() * (1 + 1e-12)


def test_the_printed_lemma_5_is_violated_by_a_head_of_small_weights():
    """One 1 x 1 convolution, one pixel, a head of two equal classes: |H_O| >= |A| (w x)^2 = 1/2, whatever the head is,
    while the printed bound goes to 0 with it: P a / b stands where P b / a should."""
    x = np.ones((1, 1, 1, 1))
    network = build(x, ("conv", np.ones((1, 1, 1, 1))), ("relu",), ("flat",), ("dense", np.full((2, 1), 0.1)))
    report = norm_report(network)
    a = 2**2 * 0.1**2
    assert report["Lemma 5"].value == pytest.approx(math.sqrt(2) * a * (1 + a), rel=1e-12)
    assert report["Lemma 5 corrected"].value == pytest.approx(math.sqrt(2) * (a + 1), rel=1e-12)
    assert report.norm == pytest.approx(0.5, rel=1e-12)
    assert twin_norm(network) == pytest.approx(0.5, rel=1e-12)
    assert report["Lemma 5"].holds is False
    assert report["Lemma 5 corrected"].holds
    assert "VIOLATED" in str(report)


def test_the_printed_constants_are_those_of_the_thesis(rng):
    """By hand, C = 2, k = 2, w = 3."""
    root = math.sqrt(2)
    x = rng.normal(size=(1, 2, 6))
    size = (x**2).sum()
    K = rng.uniform(-2, 2, size=(2, 2, 2))
    K[0, 0, 0] = -3.0
    two = build(x, ("conv", K), ("relu",), ("conv", K / 2), ("flat",))
    report = norm_report(two)  # d = 5, L = 1
    assert report["Theorem 1"].value == pytest.approx(root * size * 5**2 * 2 * (2**2 * 9 * 2 * 5), rel=1e-12)
    f = outer_product_factors(two)
    w2 = max(np.linalg.norm(T.toarray(), 2) ** 2 for T in f.T)
    assert report["Lemma 2"].value == pytest.approx(root * 5 * size * 2 * w2, rel=1e-12)
    sharp = (2 * w2 / 4 + 2 * w2) * size / 2
    assert report["sharp"].value == pytest.approx((2 * np.linalg.norm(f.T[1].toarray(), 2) ** 2 + 2 * w2) * size / 2)
    assert report["sharp"].value != pytest.approx(sharp, rel=1e-3)  # the second layer is shorter than the first
    weights = size / 2 * (2 * (2 * 2 * 2 * 2 * 9 / 4) + 2 * (2 * 2 * 2 * 2 * 9))
    assert report["sharp, by weights"].value == pytest.approx(weights, rel=1e-12)
    for name in ("Theorem 2", "Lemma 3", "Lemma 4", "Lemma 5"):
        assert report[name].holds is None

    x = rng.normal(size=(1, 2, 7, 8))  # m n = 6 * 7, k^2 = 4
    size, b, q2 = (x**2).sum(), 2**2 * 4 * 9 * 42, 2**2 * 4 * 42
    K = rng.uniform(-2, 2, size=(2, 2, 2, 2))
    K[0, 0, 0, 0] = 3.0
    layer, relu = ("conv", K), ("relu",)
    printed = root * size * q2 * 3 * b**2  # L = 2
    assert norm_report(build(x, layer, relu, layer, relu, layer, ("flat",)))["Theorem 2"].value == pytest.approx(
        printed
    )
    for kind, name in (("max", "Lemma 3"), ("average", "Lemma 4")):
        for place in (1, 2):
            steps = [layer, relu, layer, relu, layer, ("flat",)]
            steps[2 * place - 1] = (kind, 2)
            report = norm_report(build(x, *steps))
            assert report[name].value == pytest.approx(printed / 4 ** (2 - place + 2), rel=1e-12)
            assert report[name].holds
            assert report["Theorem 2"].value == pytest.approx(printed, rel=1e-12)
    head, last = rng.uniform(-0.5, 0.5, size=(5, 2 * 5 * 6)), rng.uniform(-0.5, 0.5, size=(3, 5))
    head[0, 0] = 0.5
    a = 60**2 * 0.25  # h = 60, the inputs of the head
    report = norm_report(build(x, layer, relu, layer, relu, ("flat",), ("dense", head), relu, ("dense", last)))
    printed = root * size * q2 * a**2 * b * (2 + 2 * a / b)  # P = 2, L = 1
    assert report["Lemma 5"].value == pytest.approx(printed, rel=1e-12)
    corrected = root * size * q2 * (a**2 * b * 2 + 2 * a * b**2)
    assert report["Lemma 5 corrected"].value == pytest.approx(corrected, rel=1e-12)


def test_the_norm_of_the_softmax_hessian_is_at_most_a_half_attained_at_two_equal_classes(rng):
    for _ in range(50):
        z = rng.normal(size=4) * 3
        f = outer_product_factors(build(np.ones((1, 1)), ("dense", z[:, None])))
        assert np.linalg.norm(f.A, 2) <= 0.5
    f = outer_product_factors(build(np.ones((1, 1)), ("dense", np.array([[0.0], [0.0], [-800.0]]))))
    assert np.linalg.norm(f.A, 2) == pytest.approx(0.5, rel=1e-15)


@pytest.mark.parametrize(("kernel", "stride"), [*product([1, 2, 3, 5], [1, 2, 3])])
def test_mu_is_the_largest_number_of_windows_that_share_an_entry(kernel, stride):
    for size, padding in product((5, 6, 9), (0, 1)):
        windows = Windows((1, size), (1, kernel), (1, stride), (0, padding))
        shared = [
            sum(t * stride <= entry + padding < t * stride + kernel for t in range(windows.out[1]))
            for entry in range(size)
        ]
        assert overlap(windows) == max(shared) <= min(kernel, windows.out[1])
        if stride == 1 and not padding:
            assert overlap(windows) == min(kernel, windows.out[1])
        both = Windows((size, size), (kernel, 1), (stride, 1), (padding, 0))
        assert overlap(both) == max(shared)


def test_a_layer_that_reads_padding_alone_bounds_nothing_and_is_bounded():
    steps = [("conv", np.ones((1, 1, 1)), None, {"stride": 2, "padding": 1}), ("relu",), ("flat",)]
    network = build(np.ones((1, 1, 1)), *steps, ("dense", np.ones((2, 2))))
    report = norm_report(network)
    assert overlap(chain_at(network).layers[0].windows) == 0
    assert report.norm == report["sharp"].value == 0


def test_a_bound_that_does_not_speak_says_why(rng):
    x1, x2 = rng.normal(size=(1, 1, 8)), rng.normal(size=(1, 1, 8, 8))
    K1, K2 = rng.normal(size=(2, 1, 2)), rng.normal(size=(2, 1, 2, 2))
    again1, again2 = rng.normal(size=(2, 2, 2)), rng.normal(size=(2, 2, 2, 2))
    relu, flat = ("relu",), ("flat",)
    cases = [
        (build(x1, ("conv", K1), relu, ("conv", again1, np.ones(2)), flat), "Theorem 1", "biases"),
        (build(x1, ("conv", K1), relu, ("conv", again1, None, {"stride": 2}), flat), "Theorem 1", "stride"),
        (build(x1, ("conv", K1), relu, ("conv", again1, None, {"padding": 1}), flat), "Theorem 1", "padding"),
        (build(x1, ("conv", K1), ("max", 2, {"stride": 1}), ("conv", again1), flat), "Theorem 1", "overlapping"),
        (build(x1, ("conv", K1), ("max", 2, {"stride": 1}), ("conv", again1), flat), "Lemma 2", "norm above 1"),
        (build(x1, ("conv", K1), relu, ("conv", again1), flat), "Theorem 2", "not 2-D"),
        (build(x1, ("conv", K1), ("max", 2), ("conv", again1), flat), "Lemma 3", "not 2-D"),
        (build(x2, ("conv", K2), relu, ("conv", again2), flat), "Theorem 1", "not 1-D"),
        (build(x2, ("conv", K2), relu, ("conv", again2), flat), "Lemma 3", "not one max pooling"),
        (build(x2, ("conv", K2), ("max", 2), ("conv", again2), flat), "Lemma 4", "not one average pooling"),
        (build(x2, ("conv", K2), ("max", (2, 1)), ("conv", again2), flat), "Lemma 3", "k x k"),
        (build(x2, ("conv", K2), relu, ("conv", again2), ("average", 2), flat), "Lemma 4", "before the last layer"),
        (build(x2, flat, ("dense", rng.normal(size=(2, 64)))), "Theorem 2", "a dense layer"),
        (build(x2, ("conv", K2, np.ones(2)), ("average", 2), ("conv", again2), flat), "Lemma 4", "biases"),
        (build(x2, flat, ("dense", rng.normal(size=(2, 64)))), "Lemma 5", "not convolutions, then"),
        (build(x2, ("conv", K2, np.ones(2)), relu, flat, ("dense", rng.normal(size=(2, 98)))), "Lemma 5", "biases"),
    ]
    for network, name, why in cases:
        report = norm_report(network)
        assert why in report[name].note
        assert math.isnan(report[name].value)
        assert math.isnan(report.looseness[name])
        assert report[name].holds is None
        assert report["sharp"].holds
        assert report["sharp, by weights"].holds
    pooled = norm_report(build(x1, ("conv", K1), ("max", 2), ("conv", again1), flat))
    assert "counted as norm 1" in pooled["Theorem 1"].note
    headed = norm_report(build(x1, ("conv", K1), ("max", 2), flat, ("dense", rng.normal(size=(2, 6)))))
    assert headed["Lemma 5"].note == "signals as images of height 1; a pooling counted as norm 1"
    beside = norm_report(build(x2, ("conv", K2), relu, ("max", 2), ("conv", again2), flat))
    assert beside["Lemma 3"].note == "beside a relu"


def test_a_report_prints_and_is_read_by_name(rng):
    report = norm_report(drawn(rng, plain=True, sides=2, head=1))
    assert [bound.name for bound in report.bounds] == [*VALID[:5], "Lemma 5", *VALID[5:]]
    printed = str(report)
    assert f"{report.norm:.6g}" in printed
    assert all(bound.name in printed for bound in report.bounds)
    with pytest.raises(KeyError, match="no bound 'Lemma 6'"):
        report["Lemma 6"]
    assert set(report.looseness) == {bound.name for bound in report.bounds}
    blank = norm_report(build(np.zeros((1, 3)), ("dense", np.ones((2, 3)))))
    assert blank.norm == 0
    assert blank.looseness["sharp"] == 1
    still = norm_report(build(np.ones((1, 1)), ("dense", np.array([[1000.0], [-1000.0]]))))
    assert still.looseness["sharp"] == math.inf
    nothing = build(
        np.ones((1, 1, 2)), ("conv", np.zeros((1, 1, 1))), ("linear",), ("flat",), ("dense", np.ones((2, 2)))
    )
    assert norm_report(nothing)["Lemma 5"].value == math.inf
    assert norm_report(nothing)["Lemma 5 corrected"].holds
    nothing = build(
        np.ones((1, 1, 2)), ("conv", np.zeros((1, 1, 1))), ("linear",), ("flat",), ("dense", np.zeros((2, 2)))
    )
    assert norm_report(nothing)["Lemma 5"].value == norm_report(nothing).norm == 0


# ---------------------------------------------------------------- a growing sample


def sampled(rng, N=12):
    X, T = rng.normal(size=(N, 1, 7)), np.eye(3)[rng.integers(0, 3, N)]
    steps = [("conv", rng.normal(size=(2, 1, 3)), rng.normal(size=2)), ("relu",), ("max", 2), ("flat",)]
    return build(X, *steps, ("dense", rng.normal(size=(3, 4)), rng.normal(size=3)), targets=T)


def test_the_increment_of_the_mean_loss_is_exactly_the_new_loss_less_the_mean(rng):
    network = sampled(rng)
    found = loss_increments(network)
    losses, means = [], []
    for k in range(12):
        one = build(network.value("x")[: k + 1], *_steps(network), targets=_targets(network)[: k + 1])
        means.append(float(one.function()(one.point())))
        alone = build(network.value("x")[k : k + 1], *_steps(network), targets=_targets(network)[k : k + 1])
        losses.append(float(alone.function()(alone.point())))
    np.testing.assert_allclose(found.losses, losses, rtol=1e-12)
    np.testing.assert_allclose(found.means, means, rtol=1e-12)
    np.testing.assert_allclose(found.increments, np.abs(np.diff(means)), atol=1e-14)
    np.testing.assert_allclose(found.increments, found.identity, atol=1e-14)
    assert (found.identity <= 2 * np.max(np.abs(losses)) / np.arange(2, 13)).all()
    assert found.at_optimum is None
    assert found.curvature is None
    assert not found.losses.flags.writeable
    for what in ("printed", "taylor"):
        with pytest.raises(ValueError, match="pass optimum="):
            getattr(found, what)


def _steps(network):
    value = network.value
    return [
        ("conv", value("W1"), value("b1")), ("relu",), ("max", 2), ("flat",), ("dense", value("W5"), value("b5")),
    ]  # fmt: skip


def _targets(network):
    return network.losses[0][1].keywords["targets"]


def test_the_second_order_terms_are_those_of_formula_2(rng, monkeypatch):
    network = sampled(rng)
    optimum = network.point() + 0.01 * rng.normal(size=network.size)
    found = loss_increments(network, optimum)
    there = network.at(optimum)
    H = [outer_product_factors(there, x).hessian() for x in network.value("x")]
    true = [np.linalg.norm(H[k] - sum(H[:k]) / k, 2) for k in range(1, 12)]
    np.testing.assert_allclose(found.curvature, true, rtol=1e-10)
    radius, count = np.linalg.norm(network.point() - optimum), np.arange(2, 13)
    assert found.radius == pytest.approx(radius, rel=1e-14)
    np.testing.assert_allclose(found.printed, found.increments + radius**2 * found.curvature / count, rtol=1e-12)
    np.testing.assert_allclose(found.at_optimum, loss_increments(there).increments, atol=1e-14)
    np.testing.assert_allclose(found.taylor, found.at_optimum + radius**2 * found.curvature / count / 2, rtol=1e-12)
    assert (found.printed >= found.increments).all()
    same = loss_increments(network, network.point(), sizes=[3])
    np.testing.assert_allclose(same.taylor[2], same.increments[2], rtol=1e-12)
    assert np.isnan(np.delete(same.curvature, 2)).all()
    monkeypatch.setattr(bounds, "DENSE", 0)
    np.testing.assert_allclose(loss_increments(network, optimum).curvature, true, rtol=1e-8)
    zero = build(np.zeros((2, 3)), ("dense", np.ones((2, 3))), targets=np.eye(2))
    assert loss_increments(zero, zero.point()).curvature.tolist() == [0.0]


def test_targets_that_do_not_sum_to_one_weigh_the_hessian_of_their_sample(rng):
    one = sampled(rng)
    masses = rng.normal(size=12)  # negative ones too: nothing in the loss forbids them
    weighed = build(one.value("x"), *_steps(one), targets=_targets(one) * masses[:, None])
    H = [m * outer_product_factors(one, x).hessian() for m, x in zip(masses, one.value("x"), strict=True)]
    found = loss_increments(weighed, weighed.point())
    np.testing.assert_allclose(
        found.curvature, [np.linalg.norm(H[k] - sum(H[:k]) / k, 2) for k in range(1, 12)], rtol=1e-9
    )
    for k in (0, 5):  # H_O by another room: the Gauss-Newton part of the loss of one sample
        alone = build(one.value("x")[k : k + 1], *_steps(one), targets=masses[k] * _targets(one)[k : k + 1])
        gauss_newton = clarke.hessian_blocks(alone).gauss_newton.dense(alone.parameters)
        np.testing.assert_allclose(gauss_newton, H[k], atol=1e-12 * np.abs(H[k]).max())


def test_what_is_too_large_for_a_float_is_an_infinite_bound_or_a_refusal():
    steep = build(np.array([[1e200, 1e199]]), ("dense", 1e-200 * np.eye(2)), ("relu",), ("dense", np.eye(2)))
    with pytest.raises(ValueError, match=r"\|H_O\| is too large for floating point at this sample"):
        norm_report(steep)
    sure = norm_report(build(np.array([[1e100, 1e99]]), *[("dense", 1e100 * np.eye(2)), ("relu",)] * 2))
    assert sure.norm == 0
    assert sure["sharp"].value == math.inf
    assert all(bound.holds is not False for bound in sure.bounds)


# ---------------------------------------------------------------- arguments


def test_wrong_arguments_are_named(rng):
    x, K, W = rng.normal(size=(1, 1, 4)), rng.normal(size=(1, 1, 2)), rng.normal(size=(2, 3))
    good = build(x, ("conv", K), ("relu",), ("flat",), ("dense", W))

    def refused(message, network, *args, call=norm_report, **keywords):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(network, *args, **keywords)

    refused("network must be a clarke.Network; got int", 3)
    refused("x is one sample of shape (1, 4); got (1, 1, 4)", good, x)
    refused("x must be finite", good, np.full((1, 4), np.nan))
    refused("0 <= tol < 1", good, tol=2)
    refused('method is "auto", "gram" or "lanczos"', good, call=outer_product_norm, method="power")
    two = build(np.vstack([x, x]), ("conv", K), ("relu",), ("flat",), ("dense", W))
    refused("the network holds 2 samples; pass x, one of shape (1, 4)", two)
    refused("softmax needs at least two logits", build(x, ("flat",), ("dense", np.ones((1, 4)))))

    other = build(x, ("conv", K), ("relu",), ("flat",), ("dense", W))
    other.loss(layers.squared_error(np.ones((1, 2))), "y")
    refused("H_O needs the softmax cross-entropy", other)
    other = build(x, ("conv", K), ("relu",), ("flat",), ("dense", W))
    other.loss(layers.weight_decay(0.5), "W1")
    assert norm_report(other).norm == norm_report(good).norm
    other.node("aside", layers.relu, "conv1")
    refused("H_O needs one node of logits; got aside, y", other)
    other.loss(layers.cross_entropy(np.eye(2)[:1]), "y")
    assert norm_report(other).norm == norm_report(good).norm
    nothing = clarke.Network()
    nothing.input("x", x)
    refused("H_O needs one node of logits; got none", nothing)
    odd = build(x, ("conv", K), ("flat",))
    odd.node("z", layers.tanh, "y")
    refused("node 'z' is not one of affine, average_pool1d", odd)
    shared = clarke.mlp((2, 2, 2), activation="relu", loss=None, inputs=np.ones((1, 2)), rng=rng, bias=False)
    shared.node("again", layers.affine, "y", "W1")
    refused("parameters of its own", shared)
    driven = clarke.Network()
    driven.input("x", np.ones((1, 2)))
    driven.input("W", np.ones((2, 2)))
    driven.node("y", layers.affine, "x", "W")
    refused("node 'y' needs parameters of its own; its parents are x, W", driven)
    bare = build(x, ("relu",), ("flat",))
    refused("this one begins at 'x'", bare)
    tokens = build(x, ("dense", rng.normal(size=(2, 4))))
    refused("dense layer 'y' needs one row a sample; (1, 4) came", tokens)

    call = {"call": loss_increments}
    refused("need one cross-entropy on 'y'; got 0", good, **call)
    alone = build(x, ("conv", K), ("relu",), ("flat",), ("dense", W), targets=np.eye(2)[:1])
    refused("at least 2 samples", alone, **call)
    many = sampled(rng)
    refused("pass optimum with it", many, sizes=[1], **call)
    refused(f"optimum must have shape ({many.size},)", many, np.ones(3), **call)
    for sizes in ([12], [], 3, [2.0], [[1]], "1"):
        refused(f"sizes is a sequence of some of 1, ..., 11; got {sizes!r}", many, many.point(), sizes=sizes, **call)
    with pytest.raises(KinkError):
        loss_increments(many, np.concatenate([np.zeros(8), many.point()[8:]]))
