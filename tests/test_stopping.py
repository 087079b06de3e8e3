"""The curvature test, and three criteria of a paper with the functions that refute them."""

import autograd.numpy as np
import numpy as onp
import pytest

from clarke.semismooth import minimize
from clarke.stopping import CRITERIA, least_curvature, relative_gradient, small_decrease, small_eigenvalues

EPS = 1e-6


def test_small_eigenvalues_stop_far_from_the_minimizer_and_not_at_it():
    flat = minimize(lambda x: EPS * x[0] ** 2 / 4, [1e6], criterion="small_eigenvalues", eps=EPS)
    assert (flat.status, flat.success, flat.nit, flat.x[0]) == (8, False, 0, 1e6)
    assert flat.stationarity == pytest.approx(EPS / 2 * 1e6)
    steep = minimize(lambda x: x[0] ** 2, [1.0], criterion="small_eigenvalues", eps=EPS)
    assert steep.status == 0  # by the hull, the criterion never held
    assert not small_eigenvalues(onp.zeros(1), onp.array([[2.0]]), 0.0, EPS)
    assert not small_eigenvalues(onp.zeros(1), onp.array([[-EPS / 2]]), 0.0, EPS)


def test_the_relative_gradient_stops_at_distance_one_and_never_at_a_kink():
    M = 2 / EPS
    result = minimize(lambda x: (x[0] ** 2 + M * x[1] ** 2) / 2, [1.0, 0.0], criterion="relative_gradient", eps=EPS)
    assert (result.status, result.nit, result.x.tolist()) == (8, 0, [1.0, 0.0])
    assert result.stationarity == pytest.approx(1.0)
    assert not relative_gradient(onp.array([1.0]), onp.zeros((1, 1)), None, EPS)
    assert minimize(lambda x: np.abs(x[0]), [1.0], criterion="relative_gradient", eps=EPS).status == 0


def test_a_small_decrease_stops_the_pure_step_on_its_cycle():
    def hyperbola(x):
        return np.sqrt(1 + x[0] ** 2)

    result = minimize(hyperbola, [1.0], regularize=False, criterion="small_decrease", eps=EPS)
    assert (result.status, result.nit) == (8, 1)
    assert result.x == pytest.approx([-1.0])
    assert result.stationarity == pytest.approx(0.5**0.5)
    assert minimize(hyperbola, [1.0], regularize=False).status == 2
    assert not small_decrease(onp.zeros(1), onp.eye(1), None, EPS)
    assert not small_decrease(onp.zeros(1), -onp.eye(1), 0.0, EPS)


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_a_criterion_is_asked_at_every_point_of_either_model(name):
    for model in ("hessian", "pieces"):
        result = minimize(lambda x: np.sum(x**2) + np.maximum(x[0], 0) ** 2, [3.0, 1.0], criterion=name, model=model)
        assert result.status in (0, 8)
        assert onp.abs(result.x).max() <= 1e-3


def test_the_least_curvature_is_the_least_eigenvalue_or_unknown():
    value, vector, size = least_curvature(onp.diag([3.0, -2.0]))
    assert (value, onp.abs(vector).tolist(), size) == (-2.0, [0.0, 1.0], 3.0)
    assert onp.isnan(least_curvature(onp.eye(501))[0])
    assert onp.isnan(least_curvature(onp.array([[onp.inf]]))[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "gradient"}, "criterion must be None or one of relative_gradient, small_decrease, small_eig"),
        ({"criterion": "small_decrease", "eps": 0.0}, "eps must be a positive number"),
    ],
)
def test_bad_criteria_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        minimize(lambda x: x[0] ** 2, [1.0], **options)
