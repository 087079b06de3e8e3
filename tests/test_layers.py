"""Laws of the node functions and the loss heads."""

import pickle
from functools import partial
from itertools import product

import autograd.numpy as anp
import closed_forms as laws
import numpy as np
import pytest
from autograd import grad, hessian
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import erf, expit, log_softmax, softmax

import clarke
from clarke import graph, layers, selections

REALS = st.floats(-50, 50)
EPS = np.finfo(float).eps


def rows(columns=3):
    return st.integers(1, 4).flatmap(lambda n: arrays(float, (n, columns), elements=REALS))


def one_hot(count, classes=3):
    return np.eye(classes)[np.arange(count) % classes]


@given(rows(3), arrays(float, (2, 3), elements=REALS), arrays(float, 2, elements=REALS))
def test_an_affine_node_maps_each_sample_to_its_image_under_W_plus_b(a, W, b):
    z = layers.affine(a, W, b)
    bound = 8 * EPS * (np.abs(a) @ np.abs(W).T + np.abs(b))
    for i, sample in enumerate(a):
        assert (np.abs(z[i] - (W @ sample + b)) <= bound[i]).all()
        assert (np.abs(layers.affine(a, W)[i] - W @ sample) <= bound[i]).all()


@pytest.mark.parametrize(
    ("a", "W", "b", "message"),
    [
        ((4, 3), (2, 4), None, r"takes a \(N, ..., in\), W \(out, in\); got \(4, 3\), \(2, 4\)"),
        ((3,), (2, 3), None, r"takes a \(N, ..., in\), W \(out, in\); got \(3,\), \(2, 3\)"),
        ((4, 3), (3,), None, r"takes a \(N, ..., in\), W \(out, in\); got \(4, 3\), \(3,\)"),
        ((4, 3), (2, 3), (1,), r"takes b \(2,\) beside W \(2, 3\); got \(1,\)"),
    ],
)
def test_an_affine_node_refuses_to_broadcast(a, W, b, message):
    with pytest.raises(ValueError, match=message):
        layers.affine(np.ones(a), np.ones(W), None if b is None else np.ones(b))


@given(rows())
def test_activations_act_entry_by_entry(z):
    assert (layers.relu(z) == np.where(z > 0, z, 0)).all()
    assert (layers.tanh(z) == np.tanh(z)).all()
    assert layers.linear(z) is z
    assert np.abs(layers.sigmoid(z) - expit(z)).max() <= 2 * EPS


def test_the_sigmoid_saturates_without_overflow():
    assert layers.sigmoid(np.array([-1e300, 0.0, 1e300])).tolist() == [0.0, 0.5, 1.0]


@given(rows())
def test_the_squared_error_averages_half_the_squared_distances(y):
    t = one_hot(len(y))
    expected = sum(np.linalg.norm(a - b) ** 2 / 2 for a, b in zip(y, t, strict=True)) / len(y)
    assert layers.squared_error(t)(y) == pytest.approx(expected, rel=1e-14)


@given(rows(), rows())
def test_the_cross_entropy_averages_minus_t_log_softmax(y, t):
    t = np.resize(t, y.shape)
    expected = -np.einsum("ij,ij->", t, log_softmax(y, axis=1)) / len(y)
    scale = np.abs(t).sum() * (1 + np.abs(y).max()) / len(y)
    assert abs(layers.cross_entropy(t)(y) - expected) <= 64 * EPS * scale


@given(rows())
def test_the_cross_entropy_has_gradient_softmax_minus_target_over_N(y):
    t = one_hot(len(y))
    slope = grad(layers.cross_entropy(t))(y)
    assert np.abs(slope - (softmax(y, axis=1) - t) / len(y)).max() <= 128 * EPS


def test_the_cross_entropy_is_smooth_where_logits_tie():
    curvature = hessian(layers.cross_entropy(one_hot(1)))(np.zeros((1, 3)))
    assert curvature.reshape(3, 3) == pytest.approx(np.eye(3) / 3 - 1 / 9, abs=4 * EPS)


def test_a_recorded_cross_entropy_has_no_piecewise_operation():
    head = layers.cross_entropy(one_hot(2))
    recorded = graph.from_function(lambda x: head(anp.reshape(x, (2, 3))), np.zeros(6))
    assert not {op.name for op in recorded.program.operations} & set(selections.PIECEWISE)


def test_the_cross_entropy_survives_logits_that_overflow_an_exponential():
    loss = layers.cross_entropy(one_hot(1))
    assert loss(np.array([[1e6, 0.0, 0.0]])) == 0.0
    assert loss(np.array([[0.0, 1e6, 0.0]])) == 1e6


def test_a_recorded_cross_entropy_stays_right_and_stable_far_from_where_it_was_recorded():
    head = layers.cross_entropy(one_hot(2))
    recorded = graph.from_function(lambda x: head(anp.reshape(x, (2, 3))), np.zeros(6))
    assert recorded(np.full(6, 1e6)) == pytest.approx(np.log(3))
    assert recorded(np.array([0, 1e6, 0, 0, 0, 0])) == pytest.approx((1e6 + np.log(3)) / 2)


@pytest.mark.parametrize("head", [layers.squared_error, layers.cross_entropy])
def test_a_loss_head_pickles_with_its_targets(head):
    y = np.arange(6.0).reshape(2, 3)
    loss = head(one_hot(2))
    assert pickle.loads(pickle.dumps(loss))(y) == loss(y)


@pytest.mark.parametrize("head", [layers.squared_error, layers.cross_entropy])
def test_a_loss_head_refuses_outputs_of_another_shape(head):
    with pytest.raises(ValueError, match=r"targets \(2, 3\) do not match outputs \(1, 3\)"):
        head(one_hot(2))(np.zeros((1, 3)))


def test_the_cross_entropy_refuses_class_indices():
    with pytest.raises(ValueError, match=r"targets \(N, classes\); got shape \(2,\)"):
        layers.cross_entropy([0, 1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0], [1.0, 2.0]], "t is not an array: .*inhomogeneous"),
        ("1.0", "t must be an array of real numbers; got dtype <U3"),
        ([1j], "t must be an array of real numbers; got dtype complex128"),
        (None, "t must be an array of real numbers; got dtype object"),
        ([], r"t must be finite and nonempty; got shape \(0,\)"),
        ([1.0, np.nan], r"t must be finite and nonempty; got shape \(2,\), array\(\[ 1., nan\]\)"),
        (np.inf, r"t must be finite and nonempty; got shape \(\)"),
    ],
)
def test_a_constant_is_a_finite_real_array_or_refused_by_name(value, message):
    with pytest.raises(ValueError, match=message):
        layers.constant("t", value)


def test_a_constant_is_a_read_only_copy():
    source = np.ones(2)
    held = layers.constant("t", source)
    source[0] = 5
    assert held.tolist() == [1, 1]
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 5


# ---------------------------------------------------------------- closed forms

rng_of = np.random.default_rng
NODES = {
    "affine": (layers.affine, [(3, 2), (4, 2)]),
    "affine with bias": (layers.affine, [(3, 2), (4, 2), (4,)]),
    "affine on tokens": (layers.affine, [(2, 3, 2), (4, 2), (4,)]),
    "add": (layers.add, [(2, 3), (2, 3), (2, 3)]),
    "product": (layers.product, [(2, 3), (2, 3)]),
    "concatenate": (layers.concatenate, [(2, 3), (2, 1)]),
    "concatenate samples": (partial(layers.concatenate, axis=0), [(2, 3), (1, 3)]),
    "concatenate last": (partial(layers.concatenate, axis=-1), [(2, 3, 1), (2, 3, 2)]),
    "reshape": (layers.reshape, [(2, 3, 2)]),
    "reshape to": (partial(layers.reshape, shape=(2, 3)), [(2, 6)]),
    "mean": (layers.mean, [(2, 4, 3)]),  # of 4 and of 2: exact
    "mean last": (partial(layers.mean, axis=-1), [(2, 3, 2)]),
    "reshape all": (partial(layers.reshape, shape=(4, 3), samples=False), [(2, 3, 2)]),
    "subtract": (layers.subtract, [(2, 3), (2, 3)]),
    "rescale": (partial(layers.rescale, scale=np.array([[2.0], [-1.0]]), shift=3.0), [(2, 3)]),
    "rescale number": (partial(layers.rescale, scale=-2.0), [()]),
    "matmul": (layers.matmul, [(2, 3), (3, 2)]),
    "matmul each": (layers.matmul, [(2, 3, 2), (2, 2, 3)]),
    "scale_channels": (layers.scale_channels, [(3, 2), (2,)]),
    "scale_channels of images": (layers.scale_channels, [(2, 3, 2, 2), (3,), (3,)]),
    "broadcast": (partial(layers.broadcast, shape=(2, 3, 4)), [(2, 3, 1)]),
    "broadcast to samples": (partial(layers.broadcast, shape=(2, 3, 4)), [(3, 1)]),
    "broadcast a number": (partial(layers.broadcast, shape=(2, 3)), [()]),
    "transpose": (partial(layers.transpose, axes=(0, 3, 1, 2)), [(2, 3, 4, 1)]),
    "transpose samples": (partial(layers.transpose, axes=(1, 2, 0)), [(2, 3, 4)]),
    "part": (partial(layers.part, index=(slice(None), slice(None, None, -2))), [(2, 5)]),
    "part of samples": (partial(layers.part, index=(slice(1, 3), 0)), [(4, 2)]),
    "part repeated": (partial(layers.part, index=(np.array([[0, 2], [2, 2]]),)), [(3, 2)]),
    "spread": (partial(layers.spread, shape=(2, 5), index=(slice(None), slice(1, 5, 3))), [(2, 2)]),
    "spread samples": (partial(layers.spread, shape=(3, 2), index=(slice(1, 3),)), [(2, 2)]),
}


@pytest.mark.parametrize("case", NODES)
def test_closed_forms_are_the_derivatives(case):
    fun, shapes = NODES[case]
    rng = rng_of(0)
    values = [laws.integers(rng, shape) for shape in shapes]
    y = fun(*values)
    laws.first_derivatives(fun, values, 0.0)
    laws.second_derivatives(fun, values, laws.integers(rng, y.shape), 0.0)
    laws.directions_at_once(fun, values, rng, 0.0)
    laws.magnitudes(fun, values)
    laws.recording(fun, values)
    laws.samplewise(fun, values, laws.integers(rng, y.shape))
    named = laws.factors(fun, values, rng, 0.0)
    assert named == (set(range(1, len(values))) if "affine" in case or "channels" in case else set())
    assert pickle.loads(pickle.dumps(fun))(*values).tolist() == y.tolist()


def test_which_parents_keep_samples_apart():
    claims = {
        "affine": (0,),
        "affine on tokens": (0,),
        "add": (0, 1, 2),
        "concatenate": (0, 1),
        "concatenate samples": (),
        "reshape": (0,),
        "mean": (0,),
        "reshape all": (),
        "subtract": (0, 1),
        "rescale": (0,),
        "rescale number": (),
        "matmul": (0,),
        "matmul each": (0, 1),
        "scale_channels": (0,),
        "broadcast": (0,),
        "broadcast to samples": (),
        "broadcast a number": (),
        "transpose": (0,),
        "transpose samples": (),
        "part": (0,),
        "part of samples": (),
        "part repeated": (),
        "spread": (0,),
        "spread samples": (),
    }
    for case, claim in claims.items():
        fun, shapes = NODES[case]
        assert laws.samplewise(fun, [np.ones(shape) for shape in shapes], np.ones(())) == claim


@pytest.mark.parametrize("samples", [1, 3])
def test_the_closed_forms_of_a_residual_step_are_the_derivatives(samples):
    rng = rng_of(2)
    A = rng.normal(size=(4, 4))
    step, values = partial(layers.residual_tanh, matrix=A), [rng.normal(size=(samples, 4)), rng.normal(size=4)]
    y = step(*values)
    for k, row in enumerate(values[0]):
        assert y[k] == pytest.approx(row + np.tanh(A @ row + values[1]), rel=1e-14)
    laws.first_derivatives(step, values, 1e-14)
    laws.second_derivatives(step, values, rng.normal(size=y.shape), 1e-14)
    assert set(laws.local_of(step, values).curved) == set(product((0, 1), repeat=2))
    laws.directions_at_once(step, values, rng, 1e-14)
    laws.magnitudes(step, values, 1e-14)
    assert laws.samplewise(step, values, rng.normal(size=y.shape)) == (0,)
    assert not laws.factors(step, values, rng, 0.0)  # x enters through tanh, not linearly
    assert pickle.loads(pickle.dumps(step))(*values).tolist() == y.tolist()


SMOOTH = {
    "exponential": (layers.exponential, np.exp, [(2, 3)]),
    "power": (partial(layers.power, exponent=3.0), lambda z: z**3, [(2, 3)]),
    "root": (partial(layers.power, exponent=0.5), np.sqrt, [(2, 3)]),
    "error_function": (layers.error_function, erf, [(2, 3)]),
    "gelu_tanh": (
        layers.gelu_tanh,
        lambda z: z * (1 + np.tanh((2 / np.pi) ** 0.5 * (z + 0.044715 * z**3))) / 2,
        [(2, 3)],
    ),
    "log_softmax": (layers.log_softmax, lambda z: log_softmax(z, axis=-1), [(2, 3)]),
    "quotient": (layers.quotient, np.divide, [(2, 3), (2, 3)]),
}


@pytest.mark.parametrize("case", SMOOTH)
def test_closed_forms_of_smooth_operations_are_the_derivatives(case):
    fun, meant, shapes = SMOOTH[case]
    rng = rng_of(3)
    values = [rng.uniform(0.5, 2.0, size=shape) for shape in shapes]
    y = fun(*values)
    assert y == pytest.approx(meant(*values), rel=1e-14)
    laws.first_derivatives(fun, values, 1e-13)
    laws.second_derivatives(fun, values, rng.normal(size=y.shape), 1e-13)
    laws.directions_at_once(fun, values, rng, 1e-13)
    laws.magnitudes(fun, values, 1e-13)
    assert laws.samplewise(fun, values, rng.normal(size=y.shape)) == tuple(range(len(values)))
    assert pickle.loads(pickle.dumps(fun))(*values).tolist() == y.tolist()


PIECEWISE = {
    "maximum": (layers.maximum, np.maximum, 2),
    "minimum": (layers.minimum, np.minimum, 2),
    "clip": (partial(layers.clip, low=-1.5, high=2.5), lambda z: np.clip(z, -1.5, 2.5), 1),
    "clip below": (partial(layers.clip, low=0.5), lambda z: np.clip(z, 0.5, None), 1),
    "clip above": (partial(layers.clip, high=0.5), lambda z: np.clip(z, None, 0.5), 1),
}


@pytest.mark.parametrize("case", PIECEWISE)
def test_closed_forms_of_piecewise_operations_are_the_derivatives_off_their_kinks(case):
    fun, meant, arity = PIECEWISE[case]
    rng = rng_of(4)
    values = [rng.permutation(12).reshape(2, 6) - 6.0 + k / 4 for k in range(arity)]
    y = fun(*values)
    assert (y == meant(*values)).all()
    laws.first_derivatives(fun, values, 0.0)
    laws.second_derivatives(fun, values, np.ones(y.shape), 0.0)
    laws.directions_at_once(fun, values, rng, 0.0)
    laws.magnitudes(fun, values)
    assert laws.samplewise(fun, values, np.ones(y.shape)) == tuple(range(arity))
    assert pickle.loads(pickle.dumps(fun))(*values).tolist() == y.tolist()


@pytest.mark.parametrize("case", PIECEWISE)
def test_at_a_kink_a_piecewise_operation_has_the_derivative_of_the_chosen_piece(case):
    """Blocks at each pattern are those of the recording, which has no closed form."""
    fun = PIECEWISE[case][0]
    at = {"maximum": [2.0, 2.0], "minimum": [2.0, 2.0], "clip": [-1.5], "clip below": [0.5], "clip above": [0.5]}[case]
    found = []
    for node in (fun, lambda *values: fun(*values)):
        net = clarke.Network()
        for k, value in enumerate(at):
            net.parameter(f"p{k}", [[value, 3.0 * value, 2.0]])
        net.node("y", node, *net.parameters)
        net.loss(layers.squared_error(np.array([[7.0, 1.0, -1.0]])), "y")
        whole = net.function(net.parameters)
        fan = clarke.local_fan(whole, net.point())
        with pytest.raises(clarke.KinkError):
            clarke.hessian_blocks(net)
        found.append([clarke.hessian_blocks(net, pattern=pattern).dense() for pattern in fan.patterns])
        assert len(fan.patterns) >= 2
    for closed, recorded in zip(*found, strict=True):
        assert (closed == recorded).all()
    assert any((closed != found[0][0]).any() for closed in found[0])


def test_the_weighted_sum_is_a_linear_head():
    weights = np.array([[1.0, -2.0], [0.5, 4.0], [0.0, 1.0]])
    head, values = layers.weighted_sum(weights), [np.arange(6.0).reshape(3, 2)]
    assert head(*values) == (weights * values[0]).sum()
    laws.first_derivatives(head, values, 0.0)
    laws.second_derivatives(head, values, np.array(2.0), 0.0)
    laws.directions_at_once(head, values, rng_of(0), 0.0)
    assert laws.local_of(head, values).samplewise == (0,)
    with pytest.raises(ValueError, match=r"weights \(3, 2\) do not match \(2, 3\)"):
        head(np.ones((2, 3)))


def test_every_node_function_is_found_in_layers_and_carries_closed_forms():
    heads = {"squared_error", "cross_entropy", "weight_decay", "weighted_sum"}
    assert layers.__all__ == sorted(layers.__all__)
    for name in set(layers.__all__) - heads:
        assert hasattr(getattr(layers, name), "derivatives"), name
        assert hasattr(getattr(layers, name), "magnitude"), name


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (layers.squared_error(np.arange(6.0).reshape(3, 2)), (3, 2)),
        (layers.squared_error(np.arange(12.0).reshape(3, 2, 2)), (3, 2, 2)),
        (layers.cross_entropy(np.array([[1.0, 0, 0], [0.25, 0.5, 0.5]])), (2, 3)),
        (layers.weight_decay(0.5), (2, 3)),
        (layers.weight_decay(0.5), (3,)),
    ],
)
def test_closed_forms_of_heads_are_the_derivatives(head, shape):
    rng = rng_of(1)
    values = [rng.normal(size=shape)]
    laws.first_derivatives(head, values, 1e-14)
    laws.second_derivatives(head, values, np.array(2.0), 1e-14)
    laws.directions_at_once(head, values, rng, 1e-14)
    assert laws.local_of(head, values).samplewise == (0,)
    dense = laws.hessians(head, values, np.array(1.0))[0, 0].reshape(
        len(values[0]), -1, len(values[0]), values[0][0].size
    )
    for i, j in product(range(len(values[0])), repeat=2):
        assert i == j or not dense[i, :, j].any()


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"add takes arrays of one shape; got \(2, 3\), \(3,\)"):
        layers.add(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match=r"product takes arrays of one shape; got \(2, 3\), \(2, 1\)"):
        layers.product(np.ones((2, 3)), np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"z \(N, d\), x \(d,\), matrix \(d, d\); got \(2, 3\), \(2,\), \(3, 3\)"):
        layers.residual_tanh(np.ones((2, 3)), np.ones(2), matrix=np.ones((3, 3)))
    for name in ("subtract", "quotient", "maximum", "minimum"):
        with pytest.raises(ValueError, match=rf"{name} takes arrays of one shape; got \(2, 3\), \(3,\)"):
            getattr(layers, name)(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match=r"scale \(2,\), shift \(\) do not fit into a \(2, 3\)"):
        layers.rescale(np.ones((2, 3)), scale=np.ones(2))
    for bounds in ({}, {"low": 1.0, "high": 1.0}, {"low": np.nan}, {"low": np.inf}):
        with pytest.raises(ValueError, match="numbers low < high, one of them finite; got"):
            layers.clip(np.ones(2), **bounds)
    for shapes in (((2, 3), (2, 3)), ((3,), (3, 2)), ((2, 3, 4), (1, 4, 3))):
        with pytest.raises(ValueError, match=r"matmul takes a \(..., m, k\), b \(..., k, n\); got"):
            layers.matmul(*map(np.ones, shapes))
    for shapes in (((3,), (3,)), ((2, 3), (2,)), ((2, 3), (3,), (2,))):
        with pytest.raises(ValueError, match=r"x \(N, C, ...\), gamma \(C,\), beta \(C,\) or none; got"):
            layers.scale_channels(*map(np.ones, shapes))
    with pytest.raises(ValueError, match=r"a permutation of the axes of a \(2, 3\); got \(0, 0\)"):
        layers.transpose(np.ones((2, 3)), axes=(0, 0))
    with pytest.raises(ValueError, match=r"a \(2,\) does not fit at \(slice\(0, 3, None\),\) of \(4,\)"):
        layers.spread(np.ones(2), shape=(4,), index=(slice(0, 3),))
    for axis in (0, 2, -2, 1.0):
        with pytest.raises(ValueError, match=r"an axis of a \(2, 3\) other than 0, the samples; got"):
            layers.mean(np.ones((2, 3)), axis=axis)
    for coefficient in (np.nan, "much"):
        with pytest.raises(ValueError, match=r"coefficient must be a finite number; got"):
            layers.weight_decay(coefficient)
