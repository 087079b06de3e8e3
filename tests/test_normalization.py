"""Laws of batch and layer normalization, and of their closed forms."""

import pickle
from functools import partial

import closed_forms as laws
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import clarke
from clarke import selections
from clarke.normalization import batch_norm, layer_norm

EPS = np.finfo(float).eps
# Entries below are sums of at most 32 terms of at most 16 roundings each. The terms exceed the largest entry of the
# result at most 8 times: a group of standard normal numbers has 1 / s near 1, and eps >= 0.1 keeps it below 4.
SLACK = 32 * 16 * 8 * EPS

CASES = {
    "batch": (partial(batch_norm, eps=0.1), (4, 3), 1),
    "batch of images": (partial(batch_norm, eps=0.1), (3, 2, 2, 2), 1),
    "batch, each position": (partial(batch_norm, eps=0.1, axes=(0,)), (3, 2, 2), 1),
    "positions of each sample": (partial(batch_norm, eps=0.1, axes=(2, 3)), (2, 2, 2, 2), 1),
    "layer": (partial(layer_norm, eps=0.1), (3, 4), -1),
    "layer of sequences": (partial(layer_norm, eps=0.1), (2, 2, 3), -1),
}
NORMALIZED = pytest.mark.parametrize("case", CASES)
PARENTS = pytest.mark.parametrize("parents", [1, 2, 3])


def at(case, parents=3):
    fun, shape, feature = CASES[case]
    rng = np.random.default_rng(list(CASES).index(case))
    count = shape[feature]
    return fun, [rng.normal(size=s) for s in (shape, count, count)][:parents], rng


def one_by_one(x, gamma, beta, eps, axes, feature):
    """Group by group."""
    y = np.empty(x.shape)
    kept = [k for k in range(x.ndim) if k not in axes]
    for place in np.ndindex(*(x.shape[k] for k in kept)):
        group = tuple(place[kept.index(k)] if k in kept else slice(None) for k in range(x.ndim))
        y[group] = (x[group] - np.mean(x[group])) / np.sqrt(np.var(x[group]) + eps)
    for place in np.ndindex(*x.shape):
        y[place] = y[place] * gamma[place[feature]] + beta[place[feature]]
    return y


@NORMALIZED
def test_a_normalization_standardizes_each_group(case):
    fun, (x, gamma, beta), _ = at(case)
    axes = {
        "batch": (0,),
        "batch of images": (0, 2, 3),
        "batch, each position": (0,),
        "positions of each sample": (2, 3),
        "layer": (1,),
        "layer of sequences": (2,),
    }[case]
    expected = one_by_one(x, gamma, beta, 0.1, axes, CASES[case][2])
    assert not laws.differ(fun(x, gamma, beta), expected, SLACK)
    assert not laws.differ(fun(x), one_by_one(x, np.ones(len(gamma)), 0 * beta, 0.1, axes, CASES[case][2]), SLACK)


@given(arrays(float, (3, 4), elements=st.integers(-8, 8)))
def test_a_normalized_row_has_mean_zero_and_a_variance_below_one(x):
    y, v = layer_norm(x), np.var(x, axis=1)
    # the mean of 4 numbers up to 8 is exact; h is (x - mu) / s with 4 roundings, |h| <= sqrt(3)
    assert np.abs(y.mean(axis=1)).max() <= 16 * EPS
    assert np.abs(np.var(y, axis=1) - v / (v + 1e-5)).max() <= 64 * EPS


@NORMALIZED
@PARENTS
def test_products_of_a_normalization_are_its_jacobian_and_its_hessian(case, parents):
    fun, values, rng = at(case, parents)
    delta = laws.integers(rng, fun(*values).shape)
    laws.first_derivatives(fun, values, SLACK)
    laws.second_derivatives(fun, values, delta, SLACK * np.abs(delta).max())
    laws.directions_at_once(fun, values, rng, SLACK)
    laws.magnitudes(fun, values, SLACK)


@NORMALIZED
@PARENTS
def test_gamma_and_beta_enter_feature_by_feature(case, parents):
    fun, values, rng = at(case, parents)
    assert laws.factors(fun, values, rng, SLACK) == set(range(1, parents))
    for i, factor in laws.local_of(fun, values).factors.items():
        assert factor.basis.shape[2:] == (values[i].size, 1)


@NORMALIZED
def test_only_statistics_over_the_batch_couple_samples(case):
    fun, values, rng = at(case)
    delta = laws.integers(rng, fun(*values).shape)
    couples = case.startswith("batch")
    assert laws.samplewise(fun, values, delta) == (set() if couples else {0})
    if couples:
        N = len(values[0])
        jacobian = laws.jacobians(fun, values)[0].reshape(N, -1, N, values[0][0].size).swapaxes(1, 2)
        assert np.abs(jacobian).max(axis=(2, 3)).min() > 0


@NORMALIZED
def test_a_recorded_normalization_is_smooth_and_pickles_with_what_it_carries(case):
    fun, values, _ = at(case)
    recorded = laws.recording(fun, values)
    assert not {op.name for op in recorded.program.operations} & selections.PIECEWISE
    assert (recorded(laws.joined(values)) == fun(*values)).all()
    copy = pickle.loads(pickle.dumps(fun))
    c = np.ones((1, *values[0].shape))
    assert (laws.local_of(copy, values).pull(1, c) == laws.local_of(fun, values).pull(1, c)).all()


def test_a_group_of_one_entry_is_constant():
    x = np.array([[1.0, 2.0]])
    assert batch_norm(x).tolist() == [[0.0, 0.0]]
    assert not laws.local_of(batch_norm, [x]).push(0, laws.units(x.shape)).any()


def test_the_magnitude_sees_the_terms_that_cancel():
    x = 1e6 + np.array([[1.0, -1.0]])
    assert laws.carried(layer_norm, "magnitude")((x,), (np.abs(x),)).min() >= 1e6


def test_a_network_with_normalizations_is_recorded_with_the_value_it_has():
    rng = np.random.default_rng(0)
    network = clarke.Network()
    network.input("x", rng.normal(size=(4, 3)))
    for name in ("gamma", "beta", "scale"):
        network.parameter(name, rng.normal(size=3))
    network.node("z", batch_norm, "x", "gamma", "beta")
    network.node("y", partial(layer_norm, eps=1e-3), "z", "scale")
    assert (network.function(output="y")(network.point()) == network.value("y")).all()


X = np.ones((4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_norm(np.ones(3)), r"batch_norm takes x \(N, C\) or \(N, C, ...\); got shape \(3,\)"),
        (lambda: layer_norm(np.ones(3)), r"layer_norm takes x \(N, ..., D\); got shape \(3,\)"),
        (lambda: batch_norm(X, np.ones(4)), r"batch_norm takes gamma \(3,\) beside x \(4, 3\); got \(4,\)"),
        (lambda: layer_norm(X, np.ones(3), np.ones(1)), r"layer_norm takes beta \(3,\) beside x \(4, 3\); got \(1,\)"),
        (lambda: layer_norm(X, eps=0.0), "layer_norm: eps is a number > 0, .*; got 0.0"),
        (lambda: batch_norm(X, eps="small"), "batch_norm: eps is a number > 0, .*; got 'small'"),
        (lambda: batch_norm(X, axes=(0, 1)), r"batch_norm: axes are distinct axes .* other than 1, .*; got \(0, 1\)"),
        (lambda: batch_norm(X, axes=()), r"batch_norm: axes are distinct axes .*; got \(\)"),
        (lambda: batch_norm(X, axes=2), r"batch_norm: axes are distinct axes of x \(4, 3\) .*; got 2"),
        (lambda: batch_norm(X, axes=(0, 0)), r"batch_norm: axes are distinct .*; got \(0, 0\)"),
    ],
)
def test_what_cannot_be_normalized_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
