"""Regions: where one affine map is in force, what bounds it, what lies across, and the nearest kink."""

import pickle
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import first_kink_by_bisection
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from strategies import Net, nets

import clarke
from clarke.importers.nnet import from_nnet, read_nnet
from clarke.kinks import active_kinks
from clarke.models import mlp
from clarke.regions import boundary_point, neighbors, region

ACAS = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu"
seeds = st.integers(0, 2**32 - 1)


# ---------------------------------------------------------------- networks, twice: as a Graph, and as plain matrices


@cache
def acas(name):
    """(Graph, the same network as a `Net`), around the mean of its inputs."""
    path = ACAS / f"ACASXU_experimental_v2a_{name}.nnet"
    if not path.exists():
        pytest.skip(f"the ACAS Xu networks are not at {ACAS}")
    return from_nnet(path).function(wrt="x", output="y"), Net(tuple(read_nnet(path)[1]), onp.zeros(5))


@cache
def digit_classifier(*hidden):
    """(Graph, `Net`) of a classifier of 8 x 8 images after three epochs of gradient descent, at the first image."""
    images, labels = load_digits(return_X_y=True)
    images, rng, sizes = images / 16, onp.random.default_rng(0), (64, *hidden, 10)
    layers = [(rng.normal(scale=onp.sqrt(2 / n), size=(m, n)), onp.zeros(m)) for n, m in pairwise(sizes)]
    for batch in rng.permuted(onp.tile(onp.arange(1792), (3, 1)), axis=1).reshape(-1, 32):
        inputs, z = [images[batch]], None
        for W, b in layers:
            z = inputs[-1] @ W.T + b
            inputs.append(onp.maximum(z, 0))
        odds = onp.exp(z - z.max(axis=1, keepdims=True))
        slope = odds / odds.sum(axis=1, keepdims=True) - onp.eye(10)[labels[batch]]
        for (W, b), a in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
            down, back = slope @ W, slope.T @ a
            b -= 0.2 * slope.mean(axis=0)
            W -= 0.2 * back / len(batch)
            slope = down * (a > 0)
    theta = onp.concatenate([array.ravel() for layer in layers for array in layer])
    net = mlp(sizes, activation="relu", loss=None, inputs=images[:1], theta=theta)
    return net.function(wrt="x", output="y"), Net(tuple(layers), images[0])


def read_off(net, x):
    """(letters, rows, offsets, jacobian, offset) at x: the signs of the units, and by products of masks the affine maps

    rows @ z + offsets of the units and jacobian @ z + offset of the output on the piece at x.
    """
    letters, rows, offsets = "", [], []
    J, c, a, size = onp.eye(len(x)), onp.zeros(len(x)), x, onp.abs(x)
    for W, b in net.layers[:-1]:
        z, size = W @ a + b, onp.abs(W) @ size + onp.abs(b)
        sign = onp.where(onp.abs(z) <= 1e-14 * size, 0, onp.sign(z)).astype(int)
        letters += "".join("-0+"[s + 1] for s in sign)
        rows.append(W @ J)
        offsets.append(W @ c + b)
        on = sign > 0
        J, c, a = on[:, None] * rows[-1], on * offsets[-1], onp.maximum(z, 0)
    W, b = net.layers[-1]
    return letters, onp.vstack(rows), onp.concatenate(offsets), W @ J, W @ c + b


def assert_same_piece(net, x, found):
    """The letters and the affine map of the region are those read off at x."""
    letters, _, _, jacobian, offset = read_off(net, x)
    scale = max(1.0, onp.abs(jacobian).max(), onp.abs(offset).max())
    assert found.pattern == letters
    assert onp.allclose(found.jacobian, jacobian, atol=1e-11 * scale)
    assert onp.allclose(found.offset, offset, atol=1e-11 * scale)


REAL = [(acas, "1_1"), (acas, "2_9"), (acas, "3_3"), (digit_classifier, 32), (digit_classifier, 64, 32)]
real = pytest.mark.parametrize("case", REAL, ids=lambda case: "-".join(map(str, case[1:])))


def two_points(net):
    """Where the network was built, and a point nearby."""
    return net.x, net.x + 0.1 * onp.random.default_rng(1).standard_normal(len(net.x))


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


def overshoot(A, slack, row, own):
    """max row y - own over A y <= slack, and at most the median of the slacks, in units of which the answer is.

    By a linear program whose tolerance, 1e-7, is then relative to the size of the polyhedron.
    """
    size = onp.median(onp.append(slack, own))
    rows, bounds = onp.vstack([A, row]), onp.append(slack, own + size) / size
    answer = linprog(-row, rows, bounds, bounds=[(None, None)] * len(row))
    assert answer.status == 0, answer.message
    return -answer.fun - own / size


def inside_facet(found, k, rng):
    """(a random point of facet k, room): the facet's boundary is room away or farther; room <= 0.1."""
    a, slack = found.A[k], found.b - found.A @ found.interior
    size, n = onp.median(slack), len(a)
    others = onp.arange(len(slack)) != k
    lengths = onp.linalg.norm(found.A - onp.outer(found.A @ a, a), axis=1)
    answer = linprog(
        -onp.eye(1, n + 1, n)[0],
        onp.column_stack([found.A, lengths])[others],
        slack[others] / size,
        onp.append(a, 0)[None],
        slack[[k]] / size,
        bounds=[(None, None)] * n + [(0, 1 / size)],
    )
    assert answer.status == 0, answer.message
    center, radius = found.interior + size * answer.x[:n], size * answer.x[n]
    way = rng.standard_normal(n)
    way -= (way @ a) * a
    if n > 1:
        center = center + rng.uniform(0, 0.9) * radius * way / onp.linalg.norm(way)
    return center - (a @ center - found.b[k]) * a, 0.1 * radius


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
        assert found.distance == onp.inf


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
    for z in points_inside(found, rng, 20):
        assert_same_piece(net, z, found)


@given(nets(max_inputs=3, max_width=4, max_depth=3), seeds)
@settings(max_examples=60, deadline=None)
def test_no_row_can_be_dropped_and_every_unit_left_out_is_implied(net, seed):
    found, _ = random_region(net, seed)
    x, slack = found.interior, found.b - found.A @ found.interior
    assert onp.allclose(onp.linalg.norm(found.A, axis=1), 1.0, atol=1e-14)
    assert onp.all(slack > 0)
    for k in range(len(slack)):
        others = onp.arange(len(slack)) != k
        assert overshoot(found.A[others], slack[others], found.A[k], slack[k]) > 1e-6
    _, rows, offsets, _, _ = read_off(net, x)
    for row, value in zip(rows, rows @ x + offsets, strict=True):
        if row.any():
            toward = -onp.sign(value) / onp.linalg.norm(row)
            assert overshoot(found.A, slack, toward * row, -toward * value) <= 1e-7


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


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e7])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [2, 3, 4, 1, 0], [4, 2, 0, 1, 3]])
def test_rows_that_only_touch_a_region_or_repeat_a_facet_are_left_out(order, scale):
    rows = onp.array([[1.0, 0], [0, 1], [1, 1], [2, 1], [3, 0]])[order] / scale  # the quadrant, its corner, x0 again

    def f(x):
        return np.sum(np.maximum(np.dot(rows, x), 0.0))

    for x in ([1.0, 1.0], [0.9, 1e-5], [1e-6, 3.0]):
        found = region(f, scale * onp.array(x))
        first = min(order.index(0), order.index(4))  # the first of the two equal ones
        assert sorted(found.names) == sorted([f"maximum1[{first}]", f"maximum1[{order.index(1)}]"])
        assert sorted((-found.A).tolist()) == [[0, 1], [1, 0]]


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


@given(nets(max_inputs=3, max_width=4, max_depth=3), seeds)
@settings(max_examples=60, deadline=None)
def test_a_walk_across_a_facet_enters_the_neighbor(net, seed):
    found, rng = random_region(net, seed)
    for k, n in enumerate(neighbors(found)):
        walk_across(net, found, k, n, rng)


def walk_across(net, found, k, n, rng):
    """From the interior through a random point of facet k to just beyond it."""
    p, room = inside_facet(found, k, rng)
    way = (p - found.interior) / onp.linalg.norm(p - found.interior)
    assert found.A[k] @ way > 0
    assert_same_piece(net, p - 1e-4 * room * way, found)
    assert_same_piece(net, p + 1e-4 * room * way, n)


@given(nets(max_inputs=3, max_width=4, max_depth=3), seeds)
@settings(max_examples=60, deadline=None)
def test_the_regions_met_on_a_segment_are_neighbors_and_cover_it(net, seed):
    found, rng = random_region(net, seed)
    way = rng.standard_normal(len(net.x)) * 4
    cover_segment(net, found, found.interior, way, most=40)


def cover_segment(net, found, x, way, most):
    """From region to neighbor until x + way is reached, or `most` regions."""
    start = 0.0
    for _ in range(most):
        speeds, slack = found.A @ way, found.b - found.A @ x
        times = onp.divide(slack, speeds, out=onp.full(len(slack), onp.inf), where=speeds > 0)
        end = min(1.0, times.min(initial=onp.inf))
        for t in start + (end - start) * onp.linspace(0.001, 0.999, 7):
            assert_same_piece(net, x + t * way, found)
            assert onp.allclose(net(x + t * way), found.jacobian @ (x + t * way) + found.offset, atol=1e-9)
        if end == 1.0:
            return
        start, found = end, neighbors(found)[times.argmin()]


# ---------------------------------------------------------------- regions of real networks


@real
def test_a_real_region_keeps_the_facets_and_drops_what_they_imply(case):
    """Certified by linear programs on rows that are products of masks and weights."""
    graph, net = case[0](*case[1:])
    for x in two_points(net):
        found = region(graph, x)
        assert_same_piece(net, x, found)
        assert found.interior.tolist() == x.tolist()
        letters, rows, offsets, _, _ = read_off(net, x)
        length = onp.linalg.norm(rows, axis=1)
        toward = onp.array(["+-".index(s) * 2 - 1 for s in letters]) / length
        rows, slack = toward[:, None] * rows, -toward * (rows @ x + offsets)
        assert slack.min() > 0
        near = onp.abs(found.A[:, None] - rows[None]).max(axis=2)
        facets = near.argmin(axis=1)
        assert near.min(axis=1).max() <= 1e-12
        assert onp.all(onp.diff(facets) > 0)  # in order of execution
        assert onp.allclose(found.b, rows[facets] @ x + slack[facets], rtol=1e-11, atol=1e-13)
        for k in range(len(rows)):
            others = facets[facets != k]
            beyond = overshoot(rows[others], slack[others], rows[k], slack[k])
            assert beyond > 1e-4 if k in facets else beyond <= 1e-9


@real
def test_walks_across_the_facets_of_a_real_region_enter_its_neighbors(case):
    graph, net = case[0](*case[1:])
    found, rng = region(graph, net.x), onp.random.default_rng(3)
    across = neighbors(found)
    assert len(across) == len(found.b) >= 5
    for k, n in enumerate(across):
        walk_across(net, found, k, n, rng)
        assert sum(p != q for p, q in zip(n.pattern, found.pattern, strict=True)) == 1
        wall = onp.append(-found.A[k], -found.b[k])
        (shared,) = onp.flatnonzero(onp.abs(onp.column_stack([n.A, n.b]) - wall).max(axis=1) <= 1e-9)
        assert n.names[shared] == found.names[k]
    back = neighbors(across[0])
    (again,) = [n for n in back if n.pattern == found.pattern]
    assert onp.allclose(onp.column_stack([again.A, again.b]), onp.column_stack([found.A, found.b]), atol=1e-11)
    assert onp.allclose(again.jacobian, found.jacobian, atol=1e-11)


@pytest.mark.parametrize("case", [(acas, "2_9"), (digit_classifier, 32)], ids=lambda case: str(case[1]))
def test_a_segment_through_a_real_network_is_covered_by_neighbors(case):
    graph, net = case[0](*case[1:])
    way = onp.random.default_rng(7).standard_normal(len(net.x))
    cover_segment(net, region(graph, net.x), net.x, way, most=5)


@real
def test_no_kink_of_a_real_network_is_nearer_than_the_distance_of_its_region(case):
    graph, net = case[0](*case[1:])
    for x in two_points(net):
        found, y = region(graph, x), boundary_point(graph, x)
        assert found.distance == pytest.approx(onp.linalg.norm(y - x), rel=1e-9)
        assert "0" in read_off(net, y)[0]
        for d in onp.random.default_rng(5).standard_normal((40, len(x))):
            t = first_kink_by_bisection(net, x, d / onp.linalg.norm(d), start=0.0)
            assert t is None or t >= found.distance * (1 - 1e-9)
        t = first_kink_by_bisection(net, x, (y - x) / found.distance, start=0.0)
        assert t == pytest.approx(found.distance, rel=1e-9)


def test_a_facet_through_the_origin_is_crossed_from_everywhere():
    """Where the guard is one product w x0, of which only an exact zero is small beside its own size."""
    assert 49.0 * (1 / 49.0) < 1

    def f(x):
        return np.abs(49.0 * x[0]) + np.abs(x[0] - 1.7)

    for x in onp.linspace(0.01, 1.6, 50):
        assert [n.pattern for n in neighbors(region(f, [x]))] == ["--", "++"]


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
    assert distance == pytest.approx(found.distance, rel=1e-9)
    assert active_kinks(net, y)
    for d in rng.standard_normal((50, len(x))):
        inside = x + 0.999 * distance * d / onp.linalg.norm(d)
        assert onp.array_equal(*(onp.sign(onp.concatenate(net.preactivations(z)).round(12)) for z in (x, inside)))


@given(nets(max_inputs=4, max_width=6, max_depth=1), seeds)
@settings(max_examples=60, deadline=None)
def test_the_nearest_kink_of_one_layer_is_the_nearest_of_its_hyperplanes(net, seed):
    (W, b), found = net.layers[0], random_region(net, seed)[0]
    length = onp.linalg.norm(W, axis=1)
    distances = (onp.abs(W @ found.interior + b)[length > 0] / length[length > 0]).tolist()
    assert found.distance == pytest.approx(min(distances, default=onp.inf), rel=1e-9)
    for n in neighbors(found):
        assert n.distance == pytest.approx(min(onp.abs(W @ n.interior + b)[length > 0] / length[length > 0]), rel=1e-9)


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
    with pytest.raises(ValueError, match=r"row 3 of A \(maximum1\[3\]\) has no facet"):
        neighbors(replace(wider, A=onp.vstack([found.A, -found.A[2]]), b=onp.append(found.b, -0.1)))  # it is no guard


def test_a_region_too_thin_to_stand_in_is_not_entered():
    def f(x):
        return np.abs(x[0] - 1.0) + np.abs(x[0] - 1.0 - 3e-12)

    (across,) = neighbors(region(f, [2.0]))  # from afar the two walls are one
    assert across.pattern == "--"
    with pytest.raises(ValueError, match=r"row 0 of A \(abs2\) has no facet, or one too thin"):
        neighbors(region(f, [1.0 + 1e-10], tol=1e-12))


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
