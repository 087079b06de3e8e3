"""The lift: its Schur complement is H + lambda I, its inertia that and (m, m, 0), on any DAG; runs are steps."""

from functools import partial
from itertools import pairwise

import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_blocks import SMOOTH, networks

import clarke
from clarke import layers, runs
from clarke.blocks import hessian_blocks
from clarke.claims.references import brute_force
from clarke.lift import cut_nodes, lift, linear_parameters, outline
from clarke.linearization import Layout, curvature, linearize, tangents
from clarke.local import Local, closed_form


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def assembled(system):
    """The lifted matrix, dense, in its order."""
    found = np.zeros((system.starts[-1], system.starts[-1]))
    for bundle in system.bundles:
        for s, t, block in zip(bundle.rows, bundle.columns, bundle.blocks, strict=True):
            rows = slice(system.starts[s], system.starts[s] + block.shape[0])
            columns = slice(system.starts[t], system.starts[t] + block.shape[1])
            found[rows, columns] += block
            if s != t:
                found[columns, rows] += block.T
    return found


def signs(matrix):
    values = np.linalg.eigvalsh(matrix)
    return int(np.sum(values > 0)), int(np.sum(values < 0))


def require_the_lift(elements, names, damping, H):
    """Both lifts of sum w_k H_k + damping I, H the dense sum."""
    whole = H + damping * np.eye(len(H))
    for eliminate in (False, True):
        system = lift(elements, names, damping, eliminate=eliminate)
        K = assembled(system)
        np.testing.assert_allclose(K, K.T, rtol=1e-13, atol=1e-13 * np.abs(K).max())
        expected = outline(elements, names, damping, eliminate=eliminate)
        assert expected.order == system.order
        assert expected.shared == system.shared
        pairs = {(s, t) for s, t in system.pairs.T.tolist() if s != t}
        assert pairs <= set(map(tuple, expected.pairs.T.tolist()))
        if eliminate:
            continue
        inner = np.array([kind != "x" for kind, _, _ in system.order], dtype=bool)
        inner = np.repeat(inner, system.sizes)
        m = int(inner.sum()) // 2
        block = K[np.ix_(inner, inner)]
        weights = [w for w, _ in elements]
        volume = np.prod([w ** (2 * m / len(weights)) for w in weights])
        assert abs(np.linalg.det(block)) == pytest.approx(volume, rel=1e-6)
        across = K[np.ix_(~inner, inner)]
        schur = K[np.ix_(~inner, ~inner)] - across @ np.linalg.solve(block, across.T) if m else K
        starts = np.cumsum([0, *(system.sizes[system.at[name]] for name in names)])
        there = {name: k for k, name in enumerate(names)}
        order = np.concatenate(
            [np.arange(starts[there[v]], starts[there[v] + 1]) for k, v, _ in system.order if k == "x"]
        )
        scale = max(np.abs(whole).max(), 1.0)
        np.testing.assert_allclose(schur, whole[np.ix_(order, order)], atol=1e-9 * scale)
        if np.abs(np.linalg.eigvalsh(whole)).min() > 1e-6 * scale:
            assert signs(K) == tuple(s + m for s in signs(whole))


@settings(max_examples=40, deadline=None)
@given(networks(tuple(SMOOTH)), st.sampled_from([0.7, -0.4]))
def test_the_schur_complement_of_the_lift_is_the_damped_hessian(network, damping):
    names = network.parameters
    require_the_lift(((1.0, linearize(network)),), names, damping, brute_force(network, names))


def test_so_it_is_for_inputs_and_for_some_of_the_parameters(rng):
    network = skipping(rng)
    for names in (("x2", "z0"), ("x9",), ("x3", "x1", "x12")):
        require_the_lift(((1.0, linearize(network)),), names, 0.3, brute_force(network, names))


def test_a_mixture_is_the_lift_of_copies_that_share_their_parameters(rng):
    network = kinked()
    patterns = {"+": 0.6, "-": 0.4}
    blocks = hessian_blocks(network, weights=patterns)
    H = sum(w * hessian_blocks(network, pattern=p).dense() for p, w in patterns.items())
    require_the_lift(blocks._elements, network.parameters, 0.5, H)


def kinked():
    """y = v relu(w x + b) at a kink of the first of two samples."""
    network = clarke.Network()
    network.input("x", [[1.0], [2.0]])
    for name, value in (("w", [[1.0]]), ("b", [-1.0]), ("v", [[1.0]])):
        network.parameter(name, value)
    network.node("z", layers.affine, "x", "w", "b")
    network.node("h", layers.relu, "z")
    network.node("y", layers.affine, "h", "v")
    network.loss(layers.squared_error([[-3.0], [3.0]]), "y")
    return network


def skipping(rng, depth=12, width=3, samples=2, step=None):
    """A residual chain with a product across it, a loss on the way and a parameter that decays."""
    network = clarke.Network()
    network.input("z0", rng.normal(size=(samples, width)))
    step = step or partial(layers.residual_tanh, matrix=rng.normal(size=(width, width)) / 2)
    for layer in range(1, depth + 1):
        network.parameter(f"x{layer}", rng.normal(size=width))
        network.node(f"z{layer}", step, f"z{layer - 1}", f"x{layer}")
    network.node("far", layers.product, "z3", f"z{depth - 2}")
    for head in (f"z{depth}", "far"):
        network.loss(layers.squared_error(rng.normal(size=(samples, width))), head)
    network.loss(layers.weight_decay(0.3), "x4")
    return network


# ---------------------------------------------------------------- what is cut, what is eliminated


def mlp(rng, sizes=(3, 4, 4, 2), samples=2, activation="tanh"):
    shapes = sum((n + 1) * m for n, m in pairwise(sizes))
    inputs, targets = rng.normal(size=(samples, sizes[0])), rng.normal(size=(samples, sizes[-1]))
    theta = rng.normal(size=shapes) / 2
    return clarke.mlp(sizes, activation=activation, loss="squared", inputs=inputs, targets=targets, theta=theta)


def test_cuts_are_where_parameters_enter_and_where_motions_meet(rng):
    network = mlp(rng)
    assert cut_nodes(linearize(network), network.parameters) == ("z1", "z2", "y")
    assert cut_nodes(linearize(network), ("W1",)) == ("z1",)
    assert cut_nodes(linearize(network), ("W1", "W3")) == ("z1", "y")
    branching = skipping(rng)
    assert cut_nodes(linearize(branching), ("z0",)) == ("z1",)
    assert cut_nodes(linearize(branching), ("x1", "x12")) == ("z1", "z12")
    assert cut_nodes(linearize(branching), ("x2", "x5")) == ("z2", "z5", "far")  # two motions meet in the product


def test_parameters_that_enter_one_node_linearly_are_eliminated(rng):
    lin = linearize(mlp(rng))
    assert set(linear_parameters([(1.0, lin)], lin.network.parameters, 0.5)) == set(lin.network.parameters)
    assert linear_parameters([(1.0, lin)], lin.network.parameters, 0.0) == {}
    # x and W1 are bent together, and so neither is
    assert set(linear_parameters([(1.0, lin)], ("x", "W1", "b1"), 0.5)) == {"b1"}


def test_decay_adds_to_the_damping_of_its_parameter_and_other_losses_forbid_elimination(rng):
    network = mlp(rng)
    network.loss(layers.weight_decay(0.25), "W1")
    network.loss(layers.squared_error(np.zeros((4, 4))), "W2")
    network.loss(quartic, "W3")
    found = linear_parameters([(1.0, linearize(network))], ("W1", "W2", "W3"), 0.5)
    assert found == {"W1": 0.75, "W2": 0.75}
    assert linear_parameters([(1.0, linearize(network))], ("W1",), -0.25) == {}


def quartic(w):
    return anp.sum(w**4)


def test_parameters_that_enter_twice_or_not_linearly_are_kept(rng):
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 3)))
    network.parameter("W", rng.normal(size=(3, 3)))
    network.parameter("b", rng.normal(size=3))
    network.node("u", layers.affine, "x", "W")
    network.node("v", layers.affine, "u", "W", "b")
    network.node("s", layers.tanh, "v")
    network.loss(layers.squared_error(np.zeros((2, 3))), "s")
    lin = linearize(network)
    assert set(linear_parameters([(1.0, lin)], ("W", "b"), 1.0)) == {"b"}
    assert lift(((1.0, lin),), ("W", "b"), 1.0).shared == ("W",)
    chain = clarke.models.residual_chain(9, 2, rng=rng)
    assert linear_parameters([(1.0, linearize(chain))], chain.parameters, 1.0) == {}


@pytest.mark.parametrize("width", [2, 5, 9])
def test_of_a_dense_layer_there_remain_twice_its_outputs_whatever_its_inputs(rng, width):
    network = mlp(rng, (3, width, width, 2), samples=1)
    lin = linearize(network)
    assert lift(((1.0, lin),), network.parameters, 0.5, eliminate=True).starts[-1] == 2 * (width + width + 2)


@pytest.mark.parametrize("sizes", [(2, 3, 1), (4, 4, 4), (3, 5, 2, 3)])
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear", layers.softplus])
def test_the_hessian_of_a_dense_network_at_one_sample_has_no_more_rank_than_its_widths(rng, sizes, activation):
    H = hessian_blocks(mlp(rng, sizes, samples=1, activation=activation)).dense()
    assert (
        np.linalg.matrix_rank(H, tol=1e-10 * np.abs(H).max())
        <= sum(a + b + 1 for a, b in zip(sizes[1:], sizes, strict=False)) - 1
    )


# ---------------------------------------------------------------- flat vectors


def test_a_layout_splits_and_joins_in_the_order_of_the_names(rng):
    network = mlp(rng)
    names = ("b2", "W1", "b1", "W3")
    layout, v = Layout(network, names), rng.normal(size=16 + 12)
    pieces = layout.split(v[None])
    assert list(pieces) == list(names)
    assert [pieces[name].shape for name in names] == [(1, *network.value(name).shape) for name in names]
    np.testing.assert_array_equal(np.concatenate([pieces[name].ravel() for name in names]), v)
    np.testing.assert_array_equal(layout.join(pieces)[0], v)
    del pieces["W1"]
    assert not layout.join(pieces)[0, 4:16].any()


# ---------------------------------------------------------------- runs


def _gated_derivatives(values, output, pieces):
    """y = z * exp(x) * w, samples on the axis before the last; z, x (.., N, d), w (.., d)."""
    z, x, w = values[0], values[1], values[2][..., None, :]
    first = (np.exp(x) * w, output, z * np.exp(x))

    def out(i, t):
        return t[..., None, :] if i == 2 else t

    def back(i, c):
        return c.sum(axis=-2) if i == 2 else c

    mixed = {(0, 1): np.exp(x) * w, (1, 1): output, (0, 2): np.exp(x), (1, 2): z * np.exp(x)}
    every = {**mixed, **{(j, i): bend for (i, j), bend in mixed.items()}}
    return Local(
        lambda i, t: out(i, t) * first[i],
        lambda i, c: back(i, c * first[i]),
        lambda i, j, delta, t: back(i, out(j, t) * delta * every[i, j]),
        tuple(every),
        (0, 1),
    )


@closed_form(_gated_derivatives, broadcasts=True)
def gated(z, x, w):
    return z * anp.exp(x) * w


def gates(rng, depth=10, width=2, samples=2):
    """Two leaves a step, one of them with samples."""
    network = clarke.Network()
    network.input("z0", 1 + 0.1 * rng.normal(size=(samples, width)))
    for k in range(depth):
        network.parameter(f"x{k}", 0.1 * rng.normal(size=(samples, width)))
        network.parameter(f"w{k}", 1 + 0.1 * rng.normal(size=width))
        network.node(f"z{k + 1}", gated, f"z{k}", f"x{k}", f"w{k}")
    network.loss(layers.squared_error(rng.normal(size=(samples, width))), f"z{depth}")
    return network


def in_runs(network):
    """The network linearized with runs, and step by step."""
    with pytest.MonkeyPatch.context() as patch:
        found = linearize(network)
        patch.setattr(runs, "SHORTEST", 10**9)
        return found, linearize(network)


@pytest.mark.parametrize("build", [gates, skipping], ids=["gates", "skipping"])
@pytest.mark.parametrize("columns", [1, 3, 7])
def test_a_run_is_its_steps(rng, build, columns):
    network = build(rng)
    fast, slow = in_runs(network)
    assert not slow.runs
    if build is gates:
        assert [(run.start, run.stop) for run in fast.runs] == [(0, 10)]
    for name in slow.adjoints:
        np.testing.assert_allclose(fast.adjoints[name], slow.adjoints[name], atol=1e-12)
    parameters = network.parameters
    for names in (parameters, parameters[3:5], (parameters[0], "z4"), ("z0", "z7", parameters[-1])):
        seeds = {name: rng.normal(size=(columns, *network.value(name).shape)) for name in names}
        moving, expected = tangents(fast, seeds), tangents(slow, seeds)
        assert moving.keys() >= expected.keys()
        for name, t in moving.items():
            true = expected.get(name, 0.0 * t)  # a run may say of a node that stands still that it moves by 0
            np.testing.assert_allclose(t, true, atol=1e-12 * max(np.abs(true).max(), 1))
        for wanted in (names, parameters[5:6], ("z0", "z5")):
            rows, true = curvature(fast, moving, wanted), curvature(slow, expected, wanted)
            for name in wanted:
                there = true.get(name, np.zeros(1))
                np.testing.assert_allclose(rows.get(name, 0 * there), there, atol=1e-11 * max(np.abs(there).max(), 1))


@pytest.mark.parametrize("build", [gates, skipping], ids=["gates", "skipping"])
def test_the_lift_of_a_run_is_the_lift_of_its_steps(rng, build):
    network = build(rng)
    some = network.parameters[4:9]
    for names in (network.parameters, network.parameters[::-1], some, ("z0", *some)):
        fast, slow = in_runs(network)
        found, true = (assembled(lift(((1.0, lin),), names, 0.5)) for lin in (fast, slow))
        np.testing.assert_allclose(found, true, atol=1e-12 * np.abs(true).max())
        require_the_lift(((1.0, fast),), names, 0.5, brute_force(network, names))


def changed(rng, change):
    """A chain of gates that is no run, or less of one."""
    network = clarke.Network()
    network.input("z0", np.ones((2, 2)))
    network.parameter("shared", 0.1 * np.ones((2, 2)))
    for k in range(9):
        network.parameter(f"x{k}", 0.1 * rng.normal(size=(2, 2)))
        network.parameter(f"w{k}", 1 + 0.1 * rng.normal(size=2))
        x = {"shared": "shared", "node": f"t{k}"}.get(change, f"x{k}")
        if change == "node":
            network.node(f"t{k}", layers.tanh, f"x{k}")
        function = (lambda z, x, w: gated(z, x, w)) if change == "recorded" else gated
        network.node(f"z{k + 1}", function, f"z{k}", x, f"w{k}")
    network.loss(layers.squared_error(np.zeros((2, 2))), "z9")
    return network


@pytest.mark.parametrize("change", ["shared", "node", "recorded"])
def test_steps_that_share_leaves_or_read_nodes_are_no_run(rng, change):
    network = changed(rng, change)
    assert linearize(network).runs == ()
    names = [name for name in network.parameters if linearize(network).uses.get(name)]
    require_the_lift(((1.0, linearize(network)),), names, 0.5, brute_force(network, names))


def test_wide_steps_are_no_run(rng):
    assert linearize(gates(rng, width=runs.NARROW)).runs
    assert not linearize(gates(rng, width=runs.NARROW + 1)).runs


def test_the_derivatives_of_a_run_are_formed_once(rng, monkeypatch):
    calls = []
    derivatives = gated.derivatives
    monkeypatch.setattr(gated, "derivatives", lambda *a, **k: (calls.append(1), derivatives(*a, **k))[1])
    counts = []
    for depth in (10, 20, 40):
        calls.clear()
        network = gates(rng, depth)
        lin = linearize(network)
        lift(((1.0, lin),), network.parameters, 0.5)
        curvature(lin, tangents(lin, {p: np.ones((1, *network.value(p).shape)) for p in network.parameters}), ["x0"])
        counts.append(len(calls))
    assert len(set(counts)) == 1
    assert counts[0] <= 3  # all at once, and the first and the last by themselves
