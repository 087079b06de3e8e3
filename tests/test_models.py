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

from clarke.models import digits, mlp

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
