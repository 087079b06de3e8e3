"""Laws of the activations and of their closed forms."""

import pickle

import closed_forms as laws
import numpy as np
import pytest
from scipy.special import erf, expit

from clarke import activations as room
from clarke.kinks import germ, signs_of
from clarke.local import carried

VALUES = {
    "linear": lambda z: z,
    "relu": lambda z: np.where(z > 0, z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, z / 100),
    "relu6": lambda z: np.clip(z, 0, 6),
    "hard_tanh": lambda z: np.clip(z, -1, 1),
    "absolute": lambda z: np.where(z > 0, z, -z),
    "tanh": np.tanh,
    "sigmoid": expit,
    "softplus": lambda z: np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0),
    "gelu": lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
    "silu": lambda z: z * expit(z),
}
KINKS = {"relu": [0], "leaky_relu": [0], "absolute": [0], "relu6": [0, 6], "hard_tanh": [-1, 1]}
POINTS = np.array([[-7.5, -2.5, -0.75], [0.25, 0.5, 7.25]])
DELTA = np.array([[1.0, -2.0, 3.0], [0.5, 2.0, -1.0]])
every = pytest.mark.parametrize("name", VALUES)


@every
def test_an_activation_is_its_formula(name):
    np.testing.assert_allclose(getattr(room, name)(POINTS), VALUES[name](POINTS), rtol=1e-14, atol=1e-15)


@every
def test_its_closed_forms_are_the_derivatives(name):
    fun, rng = getattr(room, name), np.random.default_rng(0)
    laws.first_derivatives(fun, [POINTS], 1e-13)
    laws.second_derivatives(fun, [POINTS], DELTA, 1e-13)
    laws.directions_at_once(fun, [POINTS], rng, 0.0)
    laws.magnitudes(fun, [POINTS], 16 * np.finfo(float).eps)  # 1 - t^2 has the rounding of 1, times |z| <= 8
    assert laws.samplewise(fun, [POINTS], DELTA) == (0,)
    assert carried(fun, "guards") is None or name in KINKS
    assert pickle.loads(pickle.dumps(fun)) is fun


@pytest.mark.parametrize("name", KINKS)
def test_guards_are_those_of_the_recording(name):
    fun = getattr(room, name)
    graph = laws.recording(fun, [POINTS])
    nearest = germ(graph, POINTS.ravel()).margin
    guards, scales = carried(fun, "guards")((POINTS,), (np.abs(POINTS),))
    assert (np.abs(guards) / scales).min() == pytest.approx(nearest, rel=1e-14)


@pytest.mark.parametrize("name", KINKS)
def test_at_a_kink_the_slope_is_that_of_the_piece(name):
    fun, z = getattr(room, name), np.array([[k] for k in KINKS[name]], dtype=float)
    here = germ(laws.recording(fun, [z]), z.ravel())
    assert len(here.kinks) == len(z)
    for letter, side in (("-", -1e-3), ("+", 1e-3)):
        branches = here.branches(signs_of(letter * len(z)))
        found = laws.local_of(fun, [z], tuple(branches[i] for i in sorted(branches)))
        beside = laws.local_of(fun, [z + side])
        np.testing.assert_array_equal(found.push(0, np.ones((1, *z.shape))), beside.push(0, np.ones((1, *z.shape))))


def test_a_number_has_no_samples():
    assert laws.local_of(room.tanh, [np.array(0.5)]).samplewise == ()


@pytest.mark.parametrize("slope", [-0.1, 1.0, np.nan])
def test_a_slope_that_is_none_is_refused(slope):
    with pytest.raises(ValueError, match=r"leaky_relu takes 0 <= slope < 1; got"):
        room.leaky_relu(POINTS, slope=slope)


def test_smooth_activations_do_not_overflow():
    z = np.array([-800.0, 800.0])
    for name in ("sigmoid", "softplus", "silu", "gelu", "tanh"):
        fun = getattr(room, name)
        with np.errstate(over="raise", invalid="raise"):
            local = laws.local_of(fun, [z])
        assert np.isfinite(fun(z)).all()
        assert np.isfinite(local.push(0, np.ones((1, 2)))).all()
        assert np.isfinite(local.second(0, 0, np.ones(2), np.ones((1, 2)))).all()
