"""Laws of softmax and attention, and of their closed forms."""

import pickle
from functools import partial

import closed_forms as laws
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import clarke
from clarke import selections
from clarke.attention import multi_head_attention, softmax, softmax_attention

EPS = np.finfo(float).eps
# Weights are at most 1 and scores of these standard normal queries and keys at most 16, so that exp has a relative
# rounding of 16 eps; an entry is a sum of at most 32 products of at most 4 weights.
SLACK = 32 * 4 * 16 * EPS

# name -> (function, shapes of Q, K, V)
CASES = {
    "plain": (softmax_attention, (2, 2, 3), (2, 3, 3), (2, 3, 2)),
    "causal": (partial(softmax_attention, causal=True), (2, 3, 2), (2, 3, 2), (2, 3, 1)),
    "heads": (partial(multi_head_attention, heads=2), (2, 2, 4), (2, 2, 4), (2, 2, 2)),
    "causal heads": (partial(multi_head_attention, heads=2, causal=True), (1, 3, 2), (1, 3, 2), (1, 3, 2)),
    "one key": (softmax_attention, (2, 2, 2), (2, 1, 2), (2, 1, 2)),
}
ATTENDED = pytest.mark.parametrize("case", CASES)


def at(case):
    fun, *shapes = CASES[case]
    rng = np.random.default_rng(list(CASES).index(case))
    return fun, [rng.normal(size=shape) for shape in shapes], rng


def query_by_query(Q, K, V, heads, causal):
    N, T, d = Q.shape
    y, dh, eh = np.zeros((N, T, V.shape[2])), d // heads, V.shape[2] // heads
    for n, i, h in np.ndindex(N, T, heads):
        seen = range(i + 1 if causal else K.shape[1])
        q = Q[n, i, h * dh : (h + 1) * dh]
        raised = [np.exp(q @ K[n, j, h * dh : (h + 1) * dh] / np.sqrt(dh)) for j in seen]
        for j, weight in zip(seen, raised, strict=True):
            y[n, i, h * eh : (h + 1) * eh] += weight / sum(raised) * V[n, j, h * eh : (h + 1) * eh]
    return y


@given(arrays(float, (2, 3), elements=st.floats(-1e6, 1e6)))
def test_the_softmax_is_scipys(z):
    # z - logsumexp(z) has an error of 2 eps |z|, which exp makes relative
    slack = 8 * EPS * (1 + np.abs(z).max(axis=1, keepdims=True))
    assert (np.abs(softmax(z) - scipy.special.softmax(z, axis=1)) <= slack).all()


def test_the_softmax_neither_overflows_nor_needs_a_batch():
    assert softmax(np.array([1e300, 0.0, 1e300 * 0])).tolist() == [1.0, 0.0, 0.0]
    assert laws.local_of(softmax, [np.zeros(3)]).samplewise == frozenset()


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 2, 3)])
def test_products_of_a_softmax_are_its_jacobian_and_its_hessian(shape):
    rng = np.random.default_rng(len(shape))
    values, delta = [rng.normal(size=shape)], laws.integers(rng, shape)
    laws.first_derivatives(softmax, values, SLACK)
    laws.second_derivatives(softmax, values, delta, SLACK)
    laws.directions_at_once(softmax, values, rng, SLACK)
    laws.magnitudes(softmax, values, SLACK)
    if len(shape) > 1:
        assert laws.samplewise(softmax, values, delta) == {0}


@ATTENDED
def test_attention_is_the_weighted_mean_of_the_values_of_the_keys_it_sees(case):
    fun, values, _ = at(case)
    keywords = {"heads": 1, "causal": False, **getattr(fun, "keywords", {})}
    assert not laws.differ(fun(*values), query_by_query(*values, **keywords), SLACK)


@ATTENDED
def test_products_of_attention_are_its_jacobian_and_its_hessian(case):
    fun, values, rng = at(case)
    delta = laws.integers(rng, fun(*values).shape)
    laws.first_derivatives(fun, values, SLACK)
    laws.second_derivatives(fun, values, delta, SLACK * np.abs(delta).max())
    laws.directions_at_once(fun, values, rng, SLACK)
    laws.magnitudes(fun, values, SLACK)
    assert laws.samplewise(fun, values, delta) == {0, 1, 2}


def test_causal_attention_does_not_see_later_keys_however_large():
    rng = np.random.default_rng(0)
    Q, K, V = (rng.normal(size=(1, 3, 2)) for _ in range(3))
    before = softmax_attention(Q, K, V, causal=True)
    K[0, 2] = 1e5 * np.sign(Q[0, 0])
    after = softmax_attention(Q, K, V, causal=True)
    assert (after[:, :2] == before[:, :2]).all()
    assert not laws.differ(after[:, :2], softmax_attention(Q[:, :2], K[:, :2], V[:, :2], causal=True), SLACK)
    local = laws.local_of(partial(softmax_attention, causal=True), [Q, K, V])
    t = np.zeros((1, 1, 3, 2))
    t[..., 2, :] = 1.0
    assert not local.push(1, t)[..., :2, :].any()
    assert not local.push(2, t)[..., :2, :].any()


@ATTENDED
def test_recorded_attention_is_smooth_and_pickles_with_what_it_carries(case):
    fun, values, _ = at(case)
    recorded = laws.recording(fun, values)
    assert not {op.name for op in recorded.program.operations} & selections.PIECEWISE
    assert (recorded(laws.joined(values)) == fun(*values)).all()
    copy, c = pickle.loads(pickle.dumps(fun)), np.ones((1, *fun(*values).shape))
    for i in range(3):
        assert (laws.local_of(copy, values).pull(i, c) == laws.local_of(fun, values).pull(i, c)).all()


def test_the_sizes_of_recorded_causal_attention_are_those_of_its_scores():
    """Masked scores leave no large number behind: sizes are within the closed form's, and that is below 100."""
    fun, values, _ = at("causal")
    tape = clarke.graph.run(laws.recording(fun, values), laws.joined(values), None, magnitudes=True)
    assert tape.magnitudes[-1].max() < 100
    closed = laws.carried(fun, "magnitude")(tuple(values), tuple(np.abs(v) for v in values))
    assert closed.max() < 100


def test_a_network_with_attention_is_recorded_with_the_value_it_has():
    rng = np.random.default_rng(0)
    network = clarke.Network()
    network.input("x", rng.normal(size=(2, 3, 4)))
    network.parameter("K", rng.normal(size=(2, 3, 4)))
    network.node("y", partial(multi_head_attention, heads=2, causal=True), "x", "K", "x")
    network.node("z", softmax_attention, "y", "y", "y")
    network.node("p", softmax, "z")
    assert (network.function(output="p")(network.point()) == network.value("p")).all()


def ones(*shape):
    return np.ones(shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax(np.array(1.0)), r"softmax takes z \(..., classes\); got a scalar"),
        (
            lambda: softmax_attention(ones(2, 3), ones(2, 3), ones(2, 3)),
            r"softmax_attention takes Q \(N, T, d\), K \(N, S, d\), V \(N, S, e\); got \(2, 3\), \(2, 3\), \(2, 3\)",
        ),
        (
            lambda: softmax_attention(ones(2, 3, 4), ones(2, 3, 5), ones(2, 3, 4)),
            r"softmax_attention takes .*; got \(2, 3, 4\), \(2, 3, 5\), \(2, 3, 4\)",
        ),
        (
            lambda: softmax_attention(ones(2, 3, 4), ones(2, 5, 4), ones(2, 5, 4), causal=True),
            "softmax_attention: causal needs as many queries as keys, T = S; got",
        ),
        (
            lambda: multi_head_attention(ones(2, 3, 4), ones(2, 3, 4), ones(2, 3, 4), heads=3),
            "multi_head_attention: heads is an int >= 1 that divides d = 4 and e = 4; got 3",
        ),
        (
            lambda: multi_head_attention(ones(2, 3, 4), ones(2, 3, 4), ones(2, 3, 3), heads=2),
            "multi_head_attention: heads .* divides d = 4 and e = 3; got 2",
        ),
        (
            lambda: multi_head_attention(ones(2, 3, 4), ones(2, 3, 4), ones(2, 3, 4), heads=0),
            "multi_head_attention: heads is an int >= 1 .*; got 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
