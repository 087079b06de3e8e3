"""Vertices: points where as many kinks meet as were asked for, or those that were named."""

from itertools import pairwise
from pathlib import Path

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import clarke
from clarke.importers.nnet import from_nnet
from clarke.kinks import active_kinks
from clarke.models import digits, mlp
from clarke.vertices import vertex

ACAS = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu"
seeds = st.integers(0, 2**32 - 1)


def acas(name="1_1"):
    path = ACAS / f"ACASXU_experimental_v2a_{name}.nnet"
    if not path.exists():
        pytest.skip(f"the ACAS Xu networks are not at {ACAS}")
    return from_nnet(path).function(wrt="x", output="y")


def dyadic_net(seed, sizes=(3, 6, 6, 2)):
    rng = onp.random.default_rng(seed)
    count = sum(m * (n + 1) for n, m in pairwise(sizes))
    theta = rng.integers(-64, 65, count) / 32
    net = mlp(sizes, activation="relu", loss=None, inputs=onp.zeros((1, sizes[0])), theta=theta)
    return net.function(wrt="x", output="y")


def triangle(x):
    """x > 0, y > 0, x + y < 1, and a unit that is on wherever these are."""
    return np.sum(np.maximum(np.array([x[0], x[1], 1 - x[0] - x[1], 2 + x[0]]), 0.0))


def disk_and_line(x):
    return np.abs(x[0] ** 2 + x[1] ** 2 - 1) + np.abs(x[0] - x[1])


@given(seeds, st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_at_a_vertex_exactly_as_many_kinks_tie_as_were_asked_for(seed, units):
    graph = dyadic_net(seed)
    found = vertex(graph, onp.random.default_rng(seed).standard_normal(3), units=units)
    kinks = active_kinks(graph, found)
    if any("0" in p for p in clarke.local_fan(graph, found).patterns):
        assert len(kinks) >= units  # dead units above tie with them
    else:
        assert len(kinks) == units
    assert all(abs(kink.guard) <= 1e-14 * kink.scale for kink in kinks)


@pytest.mark.parametrize("name", ["1_1", "2_9", "3_3"])
def test_a_vertex_of_a_real_network_has_the_fan_of_independent_hyperplanes(name):
    graph = acas(name)
    found = vertex(graph, onp.zeros(5))
    kinks = active_kinks(graph, found)
    assert len(kinks) == 5
    fan = clarke.local_fan(graph, found)
    assert fan.complete
    assert len(fan.patterns) == 2**5


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_named_units_vanish_together(seed):
    rng = onp.random.default_rng(seed)
    graph = dyadic_net(seed)
    names = [f"h1[0, {k}]" for k in rng.choice(6, 3, replace=False)]
    try:
        found = vertex(graph, rng.standard_normal(3), units=names)
    except ValueError as error:
        assert "not found to vanish" in str(error)  # three planes with dependent normals
        assume(False)
    assert set(names) <= {kink.name for kink in active_kinks(graph, found)}


def test_named_units_of_different_layers_vanish_together():
    graph = acas()
    for names in (["h1[0, 3]", "h4[0, 7]"], "h5[0, 15]", ("h6[0, 12]", "h2[0, 1]", "h1[0, 8]")):
        found = vertex(graph, onp.zeros(5), units=names)
        asked = {names} if isinstance(names, str) else set(names)
        assert asked <= {kink.name for kink in active_kinks(graph, found)}


def test_a_maximum_is_named_without_its_entries():
    def f(x):
        return np.max(x) + np.abs(x[0] - 5.0)

    found = vertex(f, [1.0, 2.0, 4.0], units=["max1", "abs1"])
    assert {kink.name for kink in active_kinks(f, found)} == {"max1", "abs1"}
    assert len(active_kinks(np.max, vertex(np.max, [1.0, 2.0, 4.0], units=2))) == 3


def test_curved_kinks_meet_in_a_vertex():
    found = vertex(disk_and_line, [0.3, 2.0])
    assert onp.allclose(found, onp.sqrt([0.5, 0.5]), atol=1e-14)
    named = vertex(disk_and_line, [-0.3, -2.0], units=["abs2", "abs1"])
    assert onp.allclose(named, -onp.sqrt([0.5, 0.5]), atol=1e-14)


def test_a_vertex_of_the_digits_network_is_the_point_where_all_its_kinks_meet():
    graph = digits().function(wrt="x", output="y")
    assert onp.allclose(vertex(graph, [0.3, 0.2, 0.1]), 0.0, atol=1e-14)


def test_a_walk_that_meets_too_few_walls_starts_again_elsewhere():
    def f(x):  # the piece at x = (5, 0) has one wall; beyond it there are two, which cross
        gate = np.maximum(1.0 - x[0], 0.0)
        return np.maximum(gate - 2.0 + x[1], 0.0) * 1.0

    found = vertex(f, [5.0, 0.0])
    assert len(active_kinks(f, found)) == 2


def test_vertex_says_how_far_it_came():
    with pytest.raises(ValueError, match=r"2 guards were to vanish together.*at most 1 did"):
        vertex(lambda x: np.abs(x[0]) + np.abs(x[0] - 1.0), [0.5, 2.0])
    with pytest.raises(ValueError, match=r"1 guards were to vanish together.*at most 0 did"):
        vertex(lambda x: np.abs(np.log(x[0] + 2.0) + np.exp(x[0]) + 50.0), [0.5])
    with pytest.raises(ValueError, match="between 1 and 2, the number of variables; got 3"):
        vertex(triangle, [3.0, 3.0], units=3)
    with pytest.raises(ValueError, match=r"names 'h1\[0\]', no kink of f; it has maximum1\[0\], "):
        vertex(triangle, [3.0, 3.0], units=["h1[0]"])
    with pytest.raises(ValueError, match=r"a number of guards or the names of kinks; got 2\.0"):
        vertex(triangle, [3.0, 3.0], units=2.0)
    with pytest.raises(ValueError, match="none twice"):
        vertex(triangle, [3.0, 3.0], units=["maximum1[0]", "maximum1[0]"])
    with pytest.raises(ValueError, match="between 1 and 2 kinks"):
        vertex(triangle, [3.0, 3.0], units=[])
    with pytest.raises(ValueError, match=r"maximum1\[0\], maximum1\[3\] were not found to vanish together"):
        vertex(triangle, [3.0, 3.0], units=["maximum1[0]", "maximum1[3]"])
