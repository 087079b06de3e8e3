"""A proof in fractions is one: its weights meet every condition, and they are those of an independent exact solver."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import wolfe_min_norm_point
from scipy.sparse.linalg import aslinearoperator

from clarke.exact_projection import integers, nearest_in_fractions, rounded_root
from clarke.projection import min_norm_element, nearest_element, prove_nearest

law = settings(deadline=None, max_examples=80)
EPS = np.finfo(float).eps


@st.composite
def hulls(draw):
    m, n = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    entries = st.integers(-16, 16).map(lambda k: k / 4)
    return draw(arrays(float, (m, n), elements=entries)), draw(arrays(float, n, elements=entries))


def combination(V, weights):
    return [sum(w * Fraction(x) for w, x in zip(weights, c, strict=True)) for c in zip(*V.tolist(), strict=True)]


@law
@given(hulls())
def test_the_weights_meet_every_condition_and_give_the_point_wolfe_finds(case):
    V, T = case
    found = nearest_element(V, T)
    proof = prove_nearest(V, found, T)
    assert proof.proved
    assert sum(proof.weights) == 1
    assert min(proof.weights) >= 0
    P, t = combination(V, proof.weights), [Fraction(x) for x in T.tolist()]
    ahead = [p - x for p, x in zip(P, t, strict=True)]
    for v in V.tolist():
        assert sum(a * (Fraction(x) - p) for a, x, p in zip(ahead, v, P, strict=True)) >= 0
    assert proof.squared_distance == sum(a * a for a in ahead)
    shifted = [[Fraction(x) - y for x, y in zip(v, t, strict=True)] for v in V.tolist()]
    assert combination(V, wolfe_min_norm_point(shifted)) == P
    apart = [float(Fraction(a) - b) for a, b in zip(found.element.tolist(), P, strict=True)]
    assert proof.error == pytest.approx(np.linalg.norm(apart))


@law
@given(hulls(), st.data())
def test_any_start_leads_to_the_same_point(case, data):
    V, _ = case
    points = [[int(4 * x) for x in v] for v in V.tolist()]
    start = data.draw(st.lists(st.integers(0, 5), min_size=len(V), max_size=len(V)).filter(any))
    weights, square, _ = nearest_in_fractions(points, [Fraction(w) for w in start])
    assert min(weights) >= 0
    assert sum(weights) == 1
    P = combination(4 * V, weights)
    assert P == combination(4 * V, wolfe_min_norm_point(points))
    assert square == sum(p * p for p in P)


def test_a_right_support_is_proved_without_an_exchange_and_a_wrong_one_is_put_right():
    V = np.random.default_rng(0).integers(-16, 16, (20, 30)) / 8 + 0.5
    found = min_norm_element(V)
    proof = prove_nearest(V, found)
    assert proof.exchanges == 0
    assert [w > 0 for w in proof.weights] == (found.weights > 0).tolist()
    assert proof.error <= 100 * 50 * EPS * np.abs(V).max()
    assert "hold exactly" in proof.reason
    wrong = np.zeros(20)
    wrong[int(found.weights.argmin())] = 1.0
    weights, _, exchanges = nearest_in_fractions(
        [[int(8 * x) for x in v] for v in V.tolist()], list(map(Fraction, wrong))
    )
    assert exchanges > 0
    assert tuple(weights) == proof.weights


def test_dependent_supports_lose_what_they_do_not_need():
    square = [[1, 1], [1, -1], [3, 1], [3, -1], [1, 0]]
    weights, norm, exchanges = nearest_in_fractions(square, [Fraction(1)] * 5)
    assert norm == 1
    assert combination(np.array(square), weights) == [1, 0]
    assert exchanges >= 2


@law
@given(st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=6), st.integers(-1070, 900))
def test_integers_are_the_entries_over_a_power_of_two(entries, power):
    V = np.ldexp(np.array([entries], float), power)
    rows, low, width = integers(V, 64)
    assert width <= 64
    for x, k in zip(V[0].tolist(), rows[0], strict=True):
        assert Fraction(x) == k * Fraction(2) ** low
        assert abs(k) < 2**width or k == 0


def test_wide_data_are_not_applicable_and_say_so():
    V = np.array([[1.0, 0], [2.0**-80, 1]])
    proof = prove_nearest(V, min_norm_element(V))
    assert proof.proved is None
    assert proof.weights is None
    assert proof.squared_distance is None
    assert proof.error is None
    assert proof.reason == "not applicable: the entries span 81 binary digits, and bits=64"
    assert prove_nearest(V, min_norm_element(V), bits=81).proved


def test_all_zero_elements_are_proved_too():
    proof = prove_nearest(np.zeros((2, 3)), min_norm_element(np.zeros((2, 3))))
    assert proof.proved
    assert proof.squared_distance == 0


def test_weights_of_other_elements_are_refused():
    with pytest.raises(ValueError, match="found must have one weight an element, 3; it has 2"):
        prove_nearest(np.eye(3), min_norm_element(np.eye(2)))
    with pytest.raises(ValueError, match=r"each an array of shape \(4,\); its element is a ndarray of shape \(2,\)"):
        prove_nearest(np.ones((2, 4)), min_norm_element(np.eye(2)))
    operators = [aslinearoperator(A) for A in np.ones((2, 2, 2))]
    with pytest.raises(ValueError, match=r"shape \(2, 2\); its element is a .*Operator of shape \(2, 2\)"):
        prove_nearest(np.ones((2, 2, 2)), min_norm_element(operators))


@pytest.mark.parametrize("power", [-1060, -700, 0, 700, 1000])
def test_the_error_scales_with_the_elements_though_its_square_leaves_the_floats(power):
    V = np.ldexp(np.array([[3.0, 4], [9, 12]]), power)
    proof = prove_nearest(V, replace(min_norm_element(V), element=V[1]))
    assert proof.proved
    assert proof.error == np.ldexp(10.0, power)


@given(st.fractions(min_value=0, max_value=1000, max_denominator=1000), st.integers(-1000, 1000))
def test_a_rounded_root_is_the_root_to_a_few_units(x, power):
    exact = x * Fraction(2) ** power
    assert abs(Fraction(rounded_root(exact**2)) - exact) <= exact * Fraction(2) ** -50
    assert rounded_root(Fraction(4) ** 1500) == np.inf


def test_numbers_that_are_no_doubles_are_not_proved():
    """2^53 + 1 is rounded to 2^53 before it is projected: the squared distance would be that of another hull."""
    V = np.array([[2**53 + 1, 0], [2**53 + 3, 0]])
    proof = prove_nearest(V, min_norm_element(V))
    assert proof.proved is None
    assert proof.weights is None
    assert proof.reason.startswith("not applicable: elements holds numbers that are no doubles")
    target = np.array([-(2**53) - 1, 0])
    proof = prove_nearest(np.eye(2), nearest_element(np.eye(2), target), target)
    assert proof.proved is None
    assert "target holds numbers" in proof.reason
    assert prove_nearest(V - 1, min_norm_element(V - 1)).proved is None
    whole = np.array([[2**53, 1], [-(2**53), 1]])
    assert prove_nearest(whole, min_norm_element(whole)).squared_distance == 1
