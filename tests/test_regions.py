"""Regions: where one affine map is in force, what bounds it, and the points where kinks meet."""

import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import first_kink_by_bisection
from scipy.optimize import linprog
from strategies import nets

import clarke
from clarke.importers.nnet import from_nnet
from clarke.kinks import active_kinks
from clarke.models import digits, mlp
from clarke.regions import boundary_point, neighbors, region, vertex

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


def points_inside(found, rng, count):
    """Hit and run from the interior point."""
    z, points = found.interior, []
    for _ in range(count):
        d = rng.standard_normal(z.size)
        d /= onp.linalg.norm(d)
        with onp.errstate(divide="ignore", invalid="ignore"):
            times = (found.b - found.A @ z) / (found.A @ d)
        ends = min(times[found.A @ d > 0], default=10.0), max(times[found.A @ d < 0], default=-10.0)
        z = z + rng.uniform(0.99 * max(ends[1], -10), 0.99 * min(ends[0], 10)) * d
        points.append(z)
    return points


def furthest(A, b, k, among):
    """max A_k z over A_i z <= b_i, i in among, and A_k z <= b_k + 1, by a linear program."""
    rows, bounds = onp.vstack([A[among], A[k]]), onp.append(b[among], b[k] + 1)
    answer = linprog(-A[k], rows, bounds, bounds=[(None, None)] * A.shape[1])
    assert answer.status == 0, answer.message
    return -answer.fun


def random_region(net, seed):
    """The region around a random point near the planted one; a random point is on no kink but a mute one."""
    rng = onp.random.default_rng(seed)
    return region(net, net.x + rng.standard_normal(len(net.x))), rng


# ---------------------------------------------------------------- regions


def test_the_region_inside_a_triangle_is_the_triangle():
    found = region(triangle, [0.25, 0.25])
    r = onp.sqrt(0.5)
    assert onp.allclose(found.A, [[-1, 0], [0, -1], [r, r]], atol=1e-15)
    assert onp.allclose(found.b, [0, 0, r], atol=1e-15)
    assert found.names == ("maximum1[0]", "maximum1[1]", "maximum1[2]")
    assert found.pattern == "++++"
    assert found.jacobian.tolist() == [[1.0, 0.0]]  # x + y + (1 - x - y) + (2 + x)
    assert found.offset.tolist() == [3.0]


def test_a_region_may_be_the_whole_space():
    for f, jacobian in ((lambda x: 2 * x[0] + 1, [[2.0, 0.0]]), (lambda x: np.array([1.0, 2.0]), onp.zeros((2, 2)))):
        found = region(f, [3.0, 1.0])
        assert found.A.shape == (0, 2)
        assert found.pattern == ""
        assert onp.array_equal(found.jacobian, jacobian)
        assert neighbors(found) == ()


def test_the_regions_of_a_maximum_are_bounded_by_winner_minus_other_and_of_a_sort_by_neighbors_in_rank():
    largest = region(np.max, [3.0, 1.0, 2.0])
    r = onp.sqrt(0.5)
    assert onp.allclose(largest.A, [[-r, r, 0], [-r, 0, r]])
    assert largest.pattern == "+--"
    assert largest.names == ("max1", "max1")
    assert [n.pattern for n in neighbors(largest)] == ["-+-", "--+"]
    ranked = region(np.sort, [3.0, 1.0, 2.0])
    assert onp.allclose(ranked.A, [[0, r, -r], [-r, 0, r]])
    assert ranked.jacobian.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert ranked.names == ("sort1[0]<>1#0", "sort1[1]<>2#0")
    for found in (largest, ranked):
        f = np.max if found is largest else np.sort
        for k, n in enumerate(neighbors(found)):
            middle = (found.interior + n.interior) / 2
            wall = middle - (found.A[k] @ middle - found.b[k]) * found.A[k]
            assert [kink.name for kink in active_kinks(f, wall)] == [found.names[k]]


def test_a_mute_guard_is_no_wall_and_no_kink_to_stand_on():
    def f(x):
        return np.maximum(np.maximum(x, 0.0), 0.0) + np.clip(x, -1.0, 1.0)

    found = region(f, [-2.0])
    assert found.pattern == "-0--"
    assert found.A.tolist() == [[1.0]]
    assert found.b.tolist() == [-1.0]
    (middle,) = neighbors(found)
    assert middle.pattern == "-0+-"
    assert middle.names == ("maximum1[0]", "clip1[0]")
    assert neighbors(middle)[0].pattern == "+++-"
    twins = region(lambda x: np.max(np.array([x[0], x[0], x[1], x[1]])), [3.0, 1.0])
    assert twins.pattern == "00--"
    assert [n.pattern for n in neighbors(twins)] == ["--00"]


@given(nets(max_inputs=3, max_width=4, max_depth=3), seeds)
@settings(max_examples=60, deadline=None)
def test_points_of_a_region_share_its_pattern_and_its_affine_map(net, seed):
    found, rng = random_region(net, seed)
    size = max(1.0, onp.abs(found.jacobian).max(), onp.abs(found.offset).max())
    for z in points_inside(found, rng, 20):
        here = region(net, z)
        assert here.pattern == found.pattern
        assert onp.allclose(net(z), found.jacobian @ z + found.offset, atol=1e-12 * size * max(1, onp.abs(z).max()))


@given(nets(max_inputs=3, max_width=4, max_depth=3), seeds)
@settings(max_examples=60, deadline=None)
def test_no_row_can_be_dropped_and_each_row_has_unit_norm(net, seed):
    found, _ = random_region(net, seed)
    assert onp.allclose(onp.linalg.norm(found.A, axis=1), 1.0, atol=1e-14)
    assert onp.all(found.A @ found.interior < found.b)
    for k in range(len(found.b)):
        others = [i for i in range(len(found.b)) if i != k]
        assert furthest(found.A, found.b, k, others) > found.b[k] + 1e-7


@given(nets(max_inputs=3, max_width=4, max_depth=3), seeds)
@settings(max_examples=60, deadline=None)
def test_a_neighbor_lies_across_the_facet_and_has_the_region_for_a_neighbor(net, seed):
    found, _ = random_region(net, seed)
    across = neighbors(found)
    assert len({n.pattern for n in across} | {found.pattern}) == len(found.b) + 1
    for a, b, n in zip(found.A, found.b, across, strict=True):
        assert a @ n.interior > b
        (shared,) = onp.flatnonzero(onp.abs(onp.column_stack([n.A + a, n.b + b])).max(axis=1) <= 1e-9 * max(1, abs(b)))
        back = neighbors(n)[shared]
        assert back.pattern == found.pattern
        assert onp.allclose(back.jacobian, found.jacobian, atol=1e-12)
        assert onp.allclose(onp.column_stack([back.A, back.b]), onp.column_stack([found.A, found.b]), atol=1e-9)


@pytest.mark.parametrize(("n", "k"), [(1, 5), (2, 7), (3, 6)])
def test_walking_from_neighbor_to_neighbor_visits_every_chamber_of_a_layer(n, k):
    rng = onp.random.default_rng(n)
    W, b = rng.standard_normal((k, n)), rng.standard_normal(k)

    def f(x):
        return np.sum(np.maximum(np.dot(W, x) + b, 0.0))

    ahead = [region(f, rng.standard_normal(n))]
    seen = {ahead[0].pattern}
    while ahead:
        for found in neighbors(ahead.pop()):
            if found.pattern not in seen:
                seen.add(found.pattern)
                ahead.append(found)
    signs = clarke.chambers(W, offsets=-b).signs
    assert seen == {"".join("-0+"[s + 1] for s in row) for row in signs}


def test_guards_that_vanish_together_on_a_facet_are_all_decided_anew_beyond_it():
    def f(x):
        up = np.maximum(x[0], 0.0)
        return up + np.maximum(2 * x[0], 0.0) + np.maximum(up - 0.5 * x[0], 0.0)  # the last guard is |x0| / 2

    found = region(f, [1.0, 0.0])
    assert found.pattern == "+++"
    assert found.names == ("maximum1",)
    (across,) = neighbors(found)
    assert across.pattern == "--+"
    assert across.jacobian.tolist() == [[-0.5, 0.0]]


def test_neighbors_of_a_real_network_reach_every_facet():
    found = region(acas(), onp.zeros(5))
    assert len(found.b) > 5
    for a, b, n in zip(found.A, found.b, neighbors(found), strict=True):
        assert onp.any(onp.all(onp.abs(n.A + a) <= 1e-9, axis=1) & (onp.abs(n.b + b) <= 1e-9))
        assert sum(p != q for p, q in zip(n.pattern, found.pattern, strict=True)) == 1


def test_a_region_is_read_only_and_pickles():
    found = region(triangle, [0.25, 0.25])
    with pytest.raises(ValueError, match="read-only"):
        found.A[0, 0] = 7.0
    copy = pickle.loads(pickle.dumps(found))
    assert [n.pattern for n in neighbors(copy)] == [n.pattern for n in neighbors(found)] == ["-+++", "+-++", "++-+"]


# ---------------------------------------------------------------- boundary points


@given(nets(max_inputs=3, max_width=4, max_depth=3), seeds)
@settings(max_examples=100, deadline=None)
def test_the_first_kink_on_a_ray_is_where_bisection_finds_it(net, seed):
    d = onp.random.default_rng(seed).standard_normal(len(net.x))
    d /= onp.linalg.norm(d)
    t = first_kink_by_bisection(net, net.x, d)
    if t is None:
        with pytest.raises(ValueError, match="no kink was met"):
            boundary_point(net, net.x, d)
        return
    assume(t < 1e5)
    found = boundary_point(net, net.x, 3 * d)  # the length of the direction does not matter
    assert onp.allclose(found, net.x + t * d, atol=1e-9 * max(1.0, t))
    assert active_kinks(net, found)


@given(nets(max_inputs=3, max_width=4, max_depth=3), seeds)
@settings(max_examples=60, deadline=None)
def test_no_kink_is_nearer_than_the_nearest_boundary_point(net, seed):
    found, rng = random_region(net, seed)
    assume(len(found.b))
    x = found.interior
    y = boundary_point(net, x)
    distance = onp.linalg.norm(y - x)
    assert distance == pytest.approx((found.b - found.A @ x).min(), rel=1e-9)
    assert active_kinks(net, y)
    for d in rng.standard_normal((50, len(x))):
        inside = x + 0.999 * distance * d / onp.linalg.norm(d)
        assert onp.array_equal(*(onp.sign(onp.concatenate(net.preactivations(z)).round(12)) for z in (x, inside)))


def test_a_point_on_a_kink_is_its_own_nearest_boundary_point_but_a_ray_leaves_it():
    def f(x):
        return np.abs(x[0]) + np.abs(x[0] - 2.0)

    assert boundary_point(f, [0.0, 1.0]).tolist() == [0.0, 1.0]
    assert boundary_point(f, [0.0, 1.0], [1.0, 0.5]).tolist() == [2.0, 2.0]


def test_curved_kinks_are_found_on_a_ray_and_nearest():
    for x, d, expected in (
        ([0.0, 2.0], [0, -1], [0, 1]),
        ([0.1, 2.0], [0, -1], [0.1, onp.sqrt(0.99)]),
        ([1.0, 0.0], [-1, 0], [0, 0]),  # x is on the circle; the line comes first
        ([0.6, -0.8], [-1.0, 0], [-0.6, -0.8]),  # the circle again, at the chord's other end
        ([0.3, 2.0], None, onp.array([0.3, 2.0]) / onp.hypot(0.3, 2.0)),
        ([0.5, 0.4], None, [0.45, 0.45]),
    ):
        found = boundary_point(disk_and_line, x, d)
        assert onp.allclose(found, expected, atol=1e-12)
        assert active_kinks(disk_and_line, found)


def test_in_parameter_space_a_ray_meets_a_kink_before_which_no_sign_changes():
    rng = onp.random.default_rng(5)
    data = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    theta = rng.standard_normal(46)
    net = mlp((3, 4, 4, 2), activation="relu", loss="squared", inputs=data[0], targets=data[1], theta=theta)
    graph, x = net.function(), net.point()
    for d in (rng.standard_normal(x.size), None):
        y = boundary_point(graph, x, d)
        (kink,) = active_kinks(graph, y)
        node, entry = kink.name.replace("h", "z").split("[")
        row, unit = map(int, entry[:-1].split(","))
        before = [net.at(x + t * (y - x)).value(node)[row, unit] for t in onp.linspace(0, 0.999, 50)]
        assert len(set(onp.sign(before))) == 1
        assert abs(net.at(y).value(node)[row, unit]) <= 1e-12


# ---------------------------------------------------------------- vertices


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
        assert {names} if isinstance(names, str) else set(names) <= {kink.name for kink in active_kinks(graph, found)}


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


# ---------------------------------------------------------------- refusals


def test_region_refuses_what_is_not_piecewise_linear():
    with pytest.raises(ValueError, match=r"affine on every piece.*boundary_point.*limiting_gradients"):
        region(disk_and_line, [0.3, 0.0])
    with pytest.raises(ValueError, match="output before the loss"):
        region(lambda x: np.abs(x[0]) ** 2, [1.0])
    with pytest.raises(ValueError, match=r"x lies on abs1\[0\], .*step off.*local_fan"):
        region(lambda x: np.sum(np.abs(x)), [0.0, 1.0])
    with pytest.raises(ValueError, match="and 2 more kinks"):
        region(lambda x: np.sum(np.abs(x)), onp.zeros(7))
    with pytest.raises(ValueError, match="x must be finite"):
        region(triangle, [onp.nan, 0.0])


def test_a_redundant_row_added_by_hand_has_no_region_across():
    found = region(triangle, [0.25, 0.25])
    wider = replace(
        found, A=onp.vstack([found.A, [-1.0, 0]]), b=onp.append(found.b, 1.0), names=(*found.names, "maximum1[3]")
    )
    with pytest.raises(ValueError, match=r"row 3 of A \(maximum1\[3\]\) has no facet"):
        neighbors(wider)


def test_boundary_point_says_when_there_is_none():
    with pytest.raises(ValueError, match="no kink was met along direction"):
        boundary_point(triangle, [3.0, 3.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="no kink was met along direction"):
        boundary_point(disk_and_line, [3.0, 1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="no kink was met along direction"):
        boundary_point(lambda x: np.abs(np.log(x[0]) - 1.0), [2.0], [-1.0])  # the domain ends
    with pytest.raises(ValueError, match="no guard changes"):
        boundary_point(lambda x: x[0] ** 2, [1.0])
    with pytest.raises(ValueError, match="could be brought to zero; pass a direction"):
        boundary_point(lambda x: np.abs(np.exp(x[0])), [0.0])
    with pytest.raises(ValueError, match="direction is zero"):
        boundary_point(triangle, [3.0, 3.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="direction has 1 entries"):
        boundary_point(triangle, [3.0, 3.0], [1.0])


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
