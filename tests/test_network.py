"""Laws of the network: what it computes, what it leaves alone, what it refuses."""

import copy
import pickle
from functools import partial

import autograd.numpy as anp
import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarke import layers
from clarke.network import Network
from clarke.primitives import HiddenBranch


def square(y):
    return anp.sum(y**2) / 2


def product(W, a):
    return anp.dot(W, a)


def scaled(y, factor):
    return factor * y


def shared():
    """|W tanh(W x)|^2 / 2 + |c|^2 / 2: a shared parameter, two losses, an unused node."""
    net = Network()
    net.input("x", [1.0, 2.0])
    net.parameter("W", [[1.0, -1.0], [0.5, 0.5]])
    net.parameter("c", 3.0)
    net.node("z", product, "W", "x")
    net.node("h", layers.tanh, "z")
    net.node("y", product, "W", "h")
    net.node("unused", square, "y")
    net.loss(square, "y")
    net.loss(square, "c")
    return net


def by_hand(W, x, c):
    return np.sum((W @ np.tanh(W @ x)) ** 2) / 2 + c**2 / 2


def test_names_come_back_in_the_order_they_were_declared():
    net = shared()
    assert net.inputs == ("x",)
    assert net.parameters == ("W", "c")
    assert net.nodes == ("z", "h", "y", "unused")
    assert net.size == 5
    assert repr(net) == "Network(1 inputs, 2 parameters of size 5, 4 nodes, 2 losses)"


def test_the_dag_is_the_one_declared_and_cannot_be_written_to():
    net = shared()
    edges = {("W", "z"), ("x", "z"), ("z", "h"), ("W", "y"), ("h", "y"), ("y", "unused")}
    assert set(net.dag.edges) == edges
    assert net.dag.nodes["y"]["parents"] == ("W", "h")
    assert [label for label, _, _ in net.losses] == ["loss 1", "loss 2"]
    with pytest.raises(nx.NetworkXError):
        net.dag.add_node("w")


def test_a_node_has_the_value_of_its_function_at_its_parents():
    net = shared()
    W, x = net.value("W"), net.value("x")
    assert (net.value("y") == W @ np.tanh(W @ x)).all()
    assert net.value("c") == 3.0


def test_a_value_is_computed_once_and_only_from_its_ancestors():
    calls = []

    def counted(name):
        return lambda a: calls.append(name) or a + 1

    net = Network()
    net.input("x", 1.0)
    for name, parent in [("a", "x"), ("b", "a"), ("side", "a")]:
        net.node(name, counted(name), parent)
    assert not calls
    assert net.value("b") == net.value("b") == 3
    assert calls == ["a", "b"]


def test_values_are_read_only():
    net = shared()
    for name in ("x", "W", "y"):
        with pytest.raises(ValueError, match="read-only"):
            net.value(name)[0] = 1


@given(st.lists(st.floats(-3, 3), min_size=5, max_size=5))
def test_the_recorded_loss_is_the_sum_of_the_losses_at_any_point(theta):
    theta = np.array(theta)
    f = shared().function()
    assert f.size == 5
    assert f(theta) == pytest.approx(by_hand(theta[:4].reshape(2, 2), [1, 2], theta[4]), rel=1e-12)


def test_a_function_follows_the_order_of_wrt_and_may_move_inputs():
    net = shared()
    W, x = net.value("W"), net.value("x")
    point = net.point(["c", "x"])
    assert point.tolist() == [3, 1, 2]
    assert net.function(["c", "x"])(point) == pytest.approx(by_hand(W, x, 3.0))
    assert net.function("x")(x) == pytest.approx(by_hand(W, x, 3.0))


def test_a_function_of_a_node_has_the_shape_of_the_node():
    net = shared()
    assert (net.function("x", output="y")(net.point("x")) == net.value("y")).all()
    assert (net.function("x", output="x")(np.array([5.0, 6.0])) == [5, 6]).all()
    assert (net.function("W", output="W")(np.arange(4.0)) == [[0, 1], [2, 3]]).all()


def test_what_is_recorded_in_a_node_or_a_loss_carries_its_name():
    net = Network()
    net.input("x", [1.0, -2.0])
    for name, parent in [("h", "x"), ("g", "h")]:
        net.node(name, layers.relu, parent)
    net.loss(square, "g")
    net.loss(square, "h")
    labels = {(op.source, op.label) for op in net.function("x").operations}
    assert {label for source, label in labels if source == "maximum"} == {"h", "g"}
    assert {label for source, label in labels if source == "power"} == {"loss 1", "loss 2"}


def test_an_operation_that_cannot_be_recorded_is_reported_with_its_node():
    net = shared()
    net.node("jump", lambda y: y * (y > 0), "y")
    assert net.value("jump").shape == (2,)
    with pytest.raises(HiddenBranch) as caught:
        net.function(output="jump")
    assert caught.value.__notes__ == ["in 'jump'"]


def test_a_function_does_not_care_about_nodes_that_fail_off_its_path():
    net = shared()
    net.node("broken", product, "W", "c")
    net.node("worse", lambda a: 1 / 0, "y")
    assert net.function()(net.point()) == pytest.approx(by_hand(*map(net.value, "Wxc")))


def test_the_same_parent_twice_is_passed_twice():
    net = Network()
    net.parameter("p", 3.0)
    net.node("square", lambda a, b: a * b, "p", "p")
    net.loss(lambda a, b: a + b, "square", "square")
    assert net.function()(np.array([5.0])) == 50


def test_a_moved_network_agrees_with_the_function_and_leaves_the_original():
    net = shared()
    before = net.point()
    theta = np.arange(5.0)
    net.value("unused")
    moved = net.at(theta)
    assert (moved.point() == theta).all()
    assert (net.point() == before).all()
    assert moved.value("unused") == pytest.approx(by_hand(theta[:4].reshape(2, 2), [1, 2], 0))
    assert moved.function()(theta) == net.function()(theta)
    assert (net.at(np.zeros(2), "x").value("y") == 0).all()


def test_what_is_added_to_a_moved_network_or_a_copy_is_not_added_to_the_original():
    net = shared()
    for other in (net.at(net.point()), copy.copy(net), copy.deepcopy(net)):
        other.node("extra", square, "y")
        other.loss(square, "extra")
        assert other.value("extra") == net.value("unused")
    assert net.nodes == ("z", "h", "y", "unused")
    assert len(net.losses) == 2


def test_a_point_is_copied():
    net, theta = shared(), np.arange(5.0)
    moved = net.at(theta)
    theta[:] = 7
    assert moved.point().tolist() == [0, 1, 2, 3, 4]
    moved.point()[:] = 7
    assert moved.point().tolist() == [0, 1, 2, 3, 4]


def test_a_network_of_module_level_functions_pickles():
    net = shared()
    net.node("twice", partial(scaled, factor=2.0), "y")
    back = pickle.loads(pickle.dumps(net))
    assert (back.point() == net.point()).all()
    assert (back.value("twice") == 2 * net.value("y")).all()
    assert back.function()(net.point()) == net.function()(net.point())
    with pytest.raises(ValueError, match="read-only"):
        back.value("W")[0] = 1


def test_a_function_that_does_not_pickle_is_named():
    net = shared()
    net.node("l", lambda y: y, "y")
    with pytest.raises(pickle.PicklingError, match=r"function of node 'l' does not pickle.*top of"):
        pickle.dumps(net)
    net = shared()
    net.loss(lambda y: anp.sum(y), "y")
    with pytest.raises(pickle.PicklingError, match="function of loss 3 does not pickle"):
        pickle.dumps(net)


def test_a_network_of_lambdas_can_still_be_copied():
    net = shared()
    net.node("l", lambda y: y, "y")
    assert (copy.deepcopy(net).value("l") == net.value("y")).all()


def test_a_recorded_function_pickles_whatever_its_nodes_were():
    net = shared()
    net.loss(lambda y: anp.sum(y**4), "y")
    f = net.function()
    assert pickle.loads(pickle.dumps(f))(net.point()) == f(net.point())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda net: net.input("", 1.0), "a name is a nonempty string; got ''"),
        (lambda net: net.parameter(" ", 1.0), "a name is a nonempty string; got ' '"),
        (lambda net: net.node(3, square, "y"), "a name is a nonempty string; got 3"),
        (lambda net: net.input("h[3]", 1.0), r"'h\[3\]' reads as a unit of a node or as a loss"),
        (lambda net: net.input("loss 1", 1.0), "'loss 1' reads as a unit of a node or as a loss"),
        (lambda net: net.input("W", 1.0), "'W' is taken"),
        (lambda net: net.node("x", square, "y"), "'x' is taken"),
        (lambda net: net.node("n", 3, "y"), "function of node 'n' is not callable: 3"),
        (lambda net: net.loss("squared", "y"), "function of loss 3 is not callable: 'squared'"),
        (lambda net: net.node("n", square), "node 'n' has no parents"),
        (lambda net: net.loss(square), "loss 3 has no parents"),
        (lambda net: net.node("n", square, "q", "y", "n"), r"undeclared parents \['q', 'n'\]"),
        (lambda net: net.node("n", square, ["x", "y"]), r"parents are names, one argument each; got \['x', 'y'\]"),
        (lambda net: net.loss(square, "q"), r"loss 3 has undeclared parents \['q'\]"),
        (lambda net: net.input("i", [np.nan]), "input 'i' must be finite"),
        (lambda net: net.parameter("p", [np.inf]), "parameter 'p' must be finite"),
        (lambda net: net.input("i", "text"), "input 'i' must be an array of real numbers"),
    ],
)
def test_what_cannot_be_declared_is_refused_by_name_and_changes_nothing(build, message):
    net = shared()
    with pytest.raises(ValueError, match=message):
        build(net)
    assert list(net.dag) == list(shared().dag)
    assert set(net.dag.edges) == set(shared().dag.edges)
    assert len(net.losses) == 2


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda net: net.value("q"), "no node 'q'; the network has x, W, c, z, h, y, unused"),
        (lambda net: net.function(output="q"), "no node 'q'"),
        (lambda net: net.function(["W", "q"]), r"wrt names \['q'\], no input or parameter of x, W"),
        (lambda net: net.point("h"), r"wrt names \['h'\]"),
        (lambda net: net.point([]), "nothing to move: name some of x, W, c"),
        (lambda net: net.point(["W", "x", "W"]), "wrt names an array twice: W, x, W"),
        (lambda net: net.at(np.ones(4)), r"a point of W, c has shape \(5,\); got \(4,\)"),
        (lambda net: net.at(np.ones((2, 1)), "x"), r"a point of x has shape \(2,\); got \(2, 1\)"),
        (lambda net: net.at([1.0, np.nan], "x"), "point must be finite"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(shared())


def test_a_network_without_parameters_has_no_default_point():
    with pytest.raises(ValueError, match=r"nothing to move: name some of \(no inputs\)"):
        Network().point()


def test_a_network_without_a_loss_says_so():
    net = Network()
    net.parameter("p", 1.0)
    with pytest.raises(ValueError, match="declares no loss"):
        net.function()
    assert net.function(output="p")(np.array([2.0])) == 2


def test_a_loss_that_is_no_scalar_is_refused():
    net = shared()
    net.loss(layers.relu, "y")
    with pytest.raises(ValueError, match=r"loss 3 must be a scalar; got shape \(2,\)"):
        net.function()


def test_a_failing_function_is_reported_with_its_node_and_its_parents_shapes():
    net = shared()
    net.node("bad", product, "W", "W")
    net.node("worse", layers.affine, "x", "W")
    net.node("below", square, "worse")
    assert net.value("bad").shape == (2, 2)
    for ask in (net.value, lambda name: net.function(output=name)):
        message = r"node 'worse' failed on x \(2,\), W \(2, 2\): ValueError"
        with pytest.raises(ValueError, match=message) as caught:
            ask("below")
        assert "affine takes" in str(caught.value.__cause__)


def test_a_failing_loss_is_reported_with_its_parents_shapes():
    net = shared()
    net.loss(product, "y", "z")
    net.loss(lambda y: y.nothing, "y")
    with pytest.raises(ValueError, match=r"loss 4 failed on y \(2,\): AttributeError"):
        net.function()


@pytest.mark.parametrize(
    ("fun", "message"),
    [
        (lambda y: None, r"node 'n', computed from y \(2,\), must be an array of real numbers"),
        (lambda y: anp.log(0 * y), r"node 'n', computed from y \(2,\), must be finite"),
        (lambda y: y[:0], r"node 'n', computed from y \(2,\), must be finite and nonempty"),
    ],
)
def test_a_node_that_is_not_a_finite_array_is_reported(fun, message):
    net = shared()
    net.node("n", fun, "y")
    with pytest.raises(ValueError, match=message):
        net.value("n")
