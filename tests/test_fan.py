"""The fan: every pattern realized arbitrarily near x, and no other."""

import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import autograd.numpy as np
import numpy as onp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import relu_patterns_by_lp
from strategies import Net, nets, relu_maximum

import clarke
from clarke import cones, descent, models, restriction
from clarke import fan as fans
from clarke.importers.nnet import from_nnet
from clarke.kinks import germ, text
from clarke.skeleton import skeleton

ACAS = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu"


@pytest.fixture(autouse=True, scope="module", params=["numpy", "numba"])
def route(request):
    """Every law of this file holds for both routes."""
    if request.param == "numba":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restriction, "COMPILED", request.param == "numba")
        yield request.param


def relu(z):
    return np.maximum(z, 0.0)


def pattern_at(net, y, noise):
    """The letters, at y, of the units that vanish at net.x."""
    before, after = net.preactivations(net.x), net.preactivations(y)
    signs = onp.concatenate([v[z == 0] for z, v in zip(before, after, strict=True)])
    return "".join("0" if abs(s) <= noise else "+" if s > 0 else "-" for s in signs)


@given(nets(max_inputs=3, max_width=3, max_depth=3))
@settings(max_examples=150, deadline=None)
def test_the_fan_of_a_relu_net_is_what_one_linear_program_a_sign_vector_finds(net):
    fan = clarke.local_fan(net, net.x)
    assert set(fan.patterns) == set(relu_patterns_by_lp(net, net.x))
    assert fan.complete
    assert fan.undecided == ()
    assert len(fan.kinks) == sum(int((z == 0).sum()) for z in net.preactivations(net.x))


@given(nets(max_inputs=3, max_width=3, max_depth=2), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_no_random_direction_leaves_the_fan_and_every_witness_reproduces_its_pattern(net, seed):
    fan = clarke.local_fan(net, net.x)
    directions = onp.random.default_rng(seed).integers(-(2**20), 2**20, (50, len(net.x)))
    for direction in directions:  # dyadic, so the preactivations there are exact and a mute letter is an exact 0
        assert pattern_at(net, net.x + direction * 2.0**-32, noise=0) in fan.patterns
    for pattern, witness in zip(fan.patterns, fan.witnesses, strict=True):
        assert pattern_at(net, net.x + 1e-3 * witness, noise=1e-13) == pattern
        assert onp.linalg.norm(witness) == pytest.approx(1)


@given(nets(max_width=3), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_permuting_the_neurons_of_a_layer_permutes_the_letters(net, random):
    W, b = net.layers[0]
    order = list(range(len(W)))
    random.shuffle(order)
    V, c = net.layers[1]
    shuffled = Net(((W[order], b[order]), (V[:, order], c), *net.layers[2:]), net.x)
    tied = onp.flatnonzero(net.preactivations(net.x)[0] == 0)
    place = [[k for k in order if k in tied].index(t) for t in tied]
    tail = len(tied)
    expected = {p for p in clarke.local_fan(net, net.x).patterns}
    found = {"".join(p[i] for i in place) + p[tail:] for p in clarke.local_fan(shuffled, net.x).patterns}
    assert found == expected


@given(nets(max_width=3), st.integers(1, 4))
@settings(deadline=None)
def test_a_positive_rescaling_of_the_function_or_of_the_point_changes_no_pattern(net, k):
    expected = clarke.local_fan(net, net.x).patterns
    assert clarke.local_fan(lambda x: 2.0**-k * net(x), net.x).patterns == expected
    assert clarke.local_fan(lambda x: net(x * 2.0**k), net.x / 2.0**k).patterns == expected


@given(nets(max_inputs=3, max_width=3))
@settings(deadline=None)
def test_a_unimodular_change_of_variables_changes_no_pattern(net):
    n = len(net.x)
    shear = onp.eye(n) + onp.triu(onp.ones((n, n)), 1)
    back = onp.linalg.inv(shear).round()
    expected = clarke.local_fan(net, net.x).patterns
    assert clarke.local_fan(lambda y: net(np.dot(shear, y)), back @ net.x).patterns == expected


@given(nets(max_width=2))
@settings(deadline=None)
def test_splitting_a_kinked_unit_in_two_doubles_its_letter_and_nothing_else(net):
    (W, b), (V, c) = net.layers[0], net.layers[1]
    unit = int(onp.argmin(onp.abs(W @ net.x + b)))
    wide = onp.insert(W, unit, W[unit], axis=0), onp.insert(b, unit, b[unit])
    halved = onp.insert(V, unit, V[:, unit] / 2, axis=1)
    halved[:, unit + 1] = V[:, unit] / 2
    split = Net((wide, (halved, c), *net.layers[2:]), net.x)
    tied = onp.flatnonzero(W @ net.x + b == 0)
    if unit not in tied:
        assert clarke.local_fan(split, net.x).patterns == clarke.local_fan(net, net.x).patterns
        return
    at = list(tied).index(unit)
    expected = {p[: at + 1] + p[at] + p[at + 1 :] for p in clarke.local_fan(net, net.x).patterns}
    assert set(clarke.local_fan(split, net.x).patterns) == expected


SEVEN_RELUS = {
    "maximum": relu_maximum,
    "abs": lambda z: (np.abs(z) + z) / 2,
    "minimum": lambda z: -np.minimum(-z, 0.0),
    "clip": lambda z: np.clip(z, 0.0, np.inf),
    "sort": lambda z: np.sort(np.array([z, 0.0 * z]), axis=0)[1],
    "max over an axis": lambda z: np.max(np.array([z, 0.0 * z]), axis=0),
    "leaky with slope 0": lambda z: np.maximum(z, 0.0 * z),
}


@pytest.mark.parametrize("spelling", SEVEN_RELUS)
@given(net=nets(max_inputs=2, max_width=3))
@settings(max_examples=25, deadline=None)
def test_seven_spellings_of_relu_have_one_number_of_patterns(spelling, net):
    fan = clarke.local_fan(lambda x: net(x, SEVEN_RELUS[spelling]), net.x)
    assert len(fan.patterns) == len(clarke.local_fan(net, net.x).patterns)
    assert fan.complete


def test_tied_duplicate_units_have_four_of_sixteen_patterns():
    fan = clarke.local_fan(lambda x: relu(x[0]) + relu(x[0]) + relu(2 * x[1]) + relu(x[1]), onp.zeros(2))
    assert fan.patterns == ("----", "--++", "++--", "++++")


def compare_exchanges(x, comparators):
    wires = [x[i] for i in range(len(x))]
    for i, j in comparators:
        wires[i], wires[j] = np.minimum(wires[i], wires[j]), np.maximum(wires[i], wires[j])
    return np.array(wires)


BUBBLE = [(i, i + 1) for sweep in range(4) for i in range(4 - sweep)]
OPTIMAL = [(0, 1), (3, 4), (2, 4), (2, 3), (0, 3), (0, 2), (1, 4), (1, 3), (1, 2)]


@pytest.mark.parametrize("comparators", [BUBBLE, OPTIMAL])
def test_a_sorting_network_on_five_wires_has_120_patterns_at_the_diagonal(comparators):
    fan = clarke.local_fan(lambda x: compare_exchanges(x, comparators), onp.full(5, 0.5))
    assert len(fan.patterns) == 120
    assert fan.complete


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_sort_has_a_pattern_for_each_order_and_median_and_max_for_each_piece(n):
    x = onp.full(n, 2.0)
    assert len(clarke.local_fan(np.sort, x).patterns) == math.factorial(n)
    assert len(clarke.local_fan(np.max, x).patterns) == n
    assert len(clarke.local_fan(np.min, x).patterns) == n
    assert len(clarke.local_fan(lambda y: np.linalg.norm(y, np.inf), onp.zeros(n)).patterns) == 2 * n


def tournament(x):
    entries = [x[i] for i in range(len(x))]
    while len(entries) > 1:
        entries = [np.maximum(entries[0], entries[1]), *entries[2:]]
    return entries[0]


def test_a_tournament_of_n_inputs_has_2_to_the_n_minus_1_patterns():
    assert len(clarke.local_fan(tournament, onp.zeros(5)).patterns) == 2**4


def test_folding_and_comparing_has_2_to_the_n_n_factorial_patterns():
    fan = clarke.local_fan(lambda x: np.sort(np.abs(x)), onp.zeros(3))
    assert len(fan.patterns) == 2**3 * math.factorial(3)


def test_max_of_x_minus_x_and_0_never_lets_0_win():
    fan = clarke.local_fan(lambda x: np.max(np.array([x[0], -x[0], 0.0 * x[0]])), onp.zeros(1))
    assert set(fan.patterns) == {"+--", "-+-"}


def test_a_max_over_equal_entries_says_0_for_the_twins_that_win_together():
    fan = clarke.local_fan(lambda x: np.max(np.array([x[0], x[0], x[1]])), onp.zeros(2))
    assert set(fan.patterns) == {"00-", "--+"}


def test_a_dead_unit_is_mute_and_splits_nothing():
    W = onp.array([[1.0], [0.0]])
    fan = clarke.local_fan(lambda x: np.sum(relu(np.dot(W, x))), onp.zeros(1))
    assert fan.patterns == ("-0", "+0")


def test_rounding_of_an_output_that_cancels_is_no_slope_of_what_reads_it():
    """0.1 + 0.2 - 0.3 is not 0 in floats; the unit that it feeds is dead all the same."""
    weights = np.array([0.1, 0.2, -0.3])
    fan = clarke.local_fan(lambda x: relu(0.1 * relu(np.dot(weights, np.abs(x[0] * np.ones(3))))), onp.zeros(1))
    assert fan.patterns == ("---00", "+++00")


def test_a_smooth_point_has_one_pattern_and_no_letters():
    fan = clarke.local_fan(lambda x: np.sum(relu(x) ** 2), onp.array([1.0, -2.0]))
    assert fan.patterns == ("",)
    assert fan.kinks == ()
    assert fan.complete
    assert fan.witnesses.shape == (1, 2)
    assert fan.margin == pytest.approx(1.0)


# ---------------------------------------------------------------- parameter space


def test_tangent_guards_have_three_patterns_where_first_order_sees_two():
    for sign in (1, -1):
        fan = clarke.local_fan(lambda z, s=sign: relu(z[0]) + relu(s * z[0] - z[1] ** 2), onp.zeros(2))
        assert len(fan.patterns) == 3
        assert fan.complete
    fan = clarke.local_fan(lambda z: relu(z[0]) + relu(z[0] - z[1] ** 2), onp.zeros(2))
    assert set(fan.patterns) == {"--", "+-", "++"}


def test_a_product_of_parameters_is_decided_at_second_order():
    fan = clarke.local_fan(lambda w: relu(w[1] * relu(w[0])) + relu(w[0]), onp.zeros(2))
    assert set(fan.patterns) == {"-0-", "+-+", "+++"}  # maximum1, the guard w1 relu(w0), the second relu(w0)
    assert fan.complete


def test_a_shared_bias_has_six_patterns_where_first_order_sees_four():
    def f(z):
        a = relu(z[0])
        return a + relu(z[1] * a + z[2]) + relu(-z[1] * a + z[2])

    fan = clarke.local_fan(f, onp.zeros(3))
    assert set(fan.patterns) == {"---", "-++", "+--", "+-+", "++-", "+++"}
    assert fan.complete


def test_the_cusp_is_found_with_a_displacement_inside_it():
    fan = clarke.local_fan(lambda z: relu(z[1] - z[0] ** 2) - relu(z[1] - 2 * z[0] ** 2), onp.zeros(2))
    assert set(fan.patterns) == {"--", "+-", "++"}
    x, y = fan.witnesses[fan.patterns.index("+-")]
    assert x**2 < y < 2 * x**2


def test_duplicated_samples_exclude_the_mixed_patterns_by_an_identity():
    fan = clarke.local_fan(lambda z: relu(z[0] * z[1]) + relu(2 * z[0] * z[1]), onp.zeros(2))
    assert set(fan.patterns) == {"--", "++"}
    assert fan.complete


def test_what_cannot_be_settled_is_listed_and_never_called_complete():
    fan = clarke.local_fan(lambda z: relu(z[0]) + relu(z[0] - z[1] ** 4), onp.zeros(2))
    assert not fan.complete
    assert set(fan.undecided) == {"-+", "+-"}
    assert "see undecided" in fan.reason


@pytest.mark.parametrize("width", [1, 2, 3])
def test_independent_guards_in_parameter_space_have_all_patterns(width):
    """Kinked units with weights of their own, fed by a sample that is not 0: the gradients are independent."""
    net = clarke.mlp(
        (2, width, 1),
        activation="relu",
        loss="squared",
        inputs=onp.array([[1.0, 2.0]]),
        targets=onp.ones((1, 1)),
        theta=onp.concatenate([onp.tile([2.0, -1.0], width), onp.zeros(width), onp.ones(width), [0.0]]),
    )
    fan = clarke.local_fan(net.function(), net.point())
    assert len(fan.patterns) == 2**width
    assert fan.complete


def test_parameter_space_fans_of_two_layers_agree_with_sampling():
    rng = onp.random.default_rng(5)
    for _ in range(8):
        inputs = rng.integers(-2, 3, (2, 2)).astype(float)
        W1, W2 = rng.integers(-2, 3, (2, 2)).astype(float), rng.integers(-2, 3, (2, 2)).astype(float)
        b1 = -W1 @ inputs[0]
        theta = onp.concatenate([W1.ravel(), b1, W2.ravel(), onp.zeros(2), [1.0, -1.0], [0.5]])
        data = {"inputs": inputs, "targets": onp.ones((2, 1))}
        net = clarke.mlp((2, 2, 2, 1), activation="relu", loss="squared", theta=theta, **data)
        graph = net.function()
        fan = clarke.local_fan(graph, net.point())
        here = germ(graph, net.point())
        seen = set()
        for direction in rng.standard_normal((400, graph.size)):
            signs = fans.pattern_along(skeleton(here), direction)
            seen.add(text(signs))
        assert seen <= set(fan.patterns) or not fan.complete


@given(nets(max_inputs=3, max_width=3, max_depth=3, outputs=1), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_tangents_decide_as_the_gradients_do(net, seed):
    direction = onp.random.default_rng(seed).standard_normal(len(net.x))
    for f in (net, lambda x: np.max(np.sort(np.abs(net(x) * x)))):
        here = germ(f, net.x)
        for d in (None, direction, onp.eye(len(net.x))[0]):
            found = fans.pattern_by_tangents(here, d)
            assert found is None or (found == fans.pattern_along(skeleton(here), d)).all()


def test_tangents_decide_thousands_of_kinks_without_a_gradient(monkeypatch):
    """One forward pass: the rows that cost a pullback each are never asked for."""
    monkeypatch.setattr("clarke.skeleton.Skeleton.row", lambda *a: pytest.fail("a row was computed"))
    gradient = clarke.limiting_gradient(lambda x: np.sum(np.abs(x)), onp.zeros(2000))
    assert (gradient == onp.sign(fans.generic_direction(2000))).all()
    net = clarke.mlp(
        (3, 8, 8, 1),
        activation="relu",
        loss="squared",
        inputs=onp.ones((4, 3)),
        targets=onp.ones((4, 1)),
        theta=onp.zeros(3 * 8 + 8 + 64 + 8 + 8 + 1),
    )
    assert onp.isfinite(clarke.limiting_gradient(net.function(), net.point())).all()


# ---------------------------------------------------------------- the interface


def test_more_patterns_than_allowed_is_an_error_with_the_count():
    with pytest.raises(clarke.TooManyChambers, match="max_chambers=100") as caught:
        clarke.local_fan(np.sort, onp.ones(6), max_chambers=100)
    assert caught.value.count > 100


def test_max_chambers_must_be_a_positive_integer():
    with pytest.raises(ValueError, match="max_chambers must be a positive integer; got 0"):
        clarke.local_fan(np.sort, onp.ones(2), max_chambers=0)


@pytest.mark.parametrize("tol", [-1.0, 1.0, "1e-9", onp.array([1e-9])])
def test_tol_is_a_relative_tolerance(tol):
    with pytest.raises(ValueError, match="tol is relative"):
        clarke.local_fan(np.sort, onp.ones(2), tol=tol)


def test_the_tolerance_is_part_of_the_question():
    f, x = (lambda x: np.abs(x[0] - 1.0)), onp.array([1.0 + 1e-7])
    assert clarke.local_fan(f, x).patterns == ("",)
    assert clarke.local_fan(f, x, tol=1e-6).patterns == ("-", "+")
    assert clarke.local_fan(f, x).margin == pytest.approx(0.5e-7, rel=1e-6)


def test_the_fan_does_not_depend_on_the_mapper():
    net = models.digits()
    graph = net.function("x")
    expected = clarke.local_fan(graph, onp.zeros(3))
    with ProcessPoolExecutor(2) as pool:
        found = clarke.local_fan(graph, onp.zeros(3), mapper=pool.map)
    assert found.patterns == expected.patterns
    assert (found.witnesses == expected.witnesses).all()


def test_the_digits_network_at_the_mean_image_has_560_of_2_to_the_24_patterns():
    fan = clarke.local_fan(models.digits().function("x"), onp.zeros(3))
    assert len(fan.kinks) == 24
    assert len(fan.patterns) == 560
    assert fan.complete
    assert any("0" in p for p in fan.patterns)


@pytest.mark.skipif(not ACAS.exists(), reason="the ACAS Xu networks are not beside the checkout")
@pytest.mark.parametrize("start", range(5))
@pytest.mark.parametrize("name", ["1_1", "2_9", "3_3"])
def test_at_a_vertex_of_an_acas_network_a_hundred_thousand_directions_find_no_other_pattern(name, start):
    net = from_nnet(ACAS / f"ACASXU_experimental_v2a_{name}.nnet")
    x = clarke.vertex(net.function("x", output="y"), onp.random.default_rng(start).uniform(-0.5, 0.5, 5))
    fan = clarke.local_fan(net.function("x", output="y"), x)
    assert len(fan.kinks) >= 5
    assert fan.complete

    def patterns_at(points):
        """The letters of the tied units at many points, by plain matrix products."""
        signs, a = {}, points
        for level in range(1, 7):
            z = a @ net.value(f"W{level}").T + net.value(f"b{level}")
            signs |= {f"h{level}[0, {unit}]": onp.sign(z[:, unit]) for unit in range(z.shape[1])}
            a = onp.maximum(z, 0)
        tied = onp.array([signs[kink.name] for kink in fan.kinks]).astype(int).T
        return {"".join("-0+"[s + 1] for s in row) for row in onp.unique(tied, axis=0)}

    step = 1e-3 * fan.margin  # too short for any other unit to turn
    for pattern, witness in zip(fan.patterns, fan.witnesses, strict=True):
        assert patterns_at((x + step * witness)[None]) == {pattern}
    directions = onp.random.default_rng(0).standard_normal((100_000, 5))
    assert patterns_at(x + step * directions) <= set(fan.patterns)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 4), st.integers(0, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_tree_of_signs_in_a_cone_finds_the_cells_that_deletion_and_restriction_find(n, c, k, seed):
    rng = onp.random.default_rng(seed)
    witness, rows, walls = rng.integers(-9, 10, n), rng.integers(-3, 4, (c, n)), rng.integers(-3, 4, (k, n))
    rows, walls = rows[rows @ witness != 0], walls[walls.any(axis=1)]
    rows = fans.distinct_normals(onp.sign(rows @ witness)[:, None] * rows)
    found = fans._tree(rows, witness / max(onp.linalg.norm(witness), 1), walls)
    if found is None:  # rows all but parallel are left to `chambers`
        return
    expected = clarke.chambers(walls, cone=rows if len(rows) else None)
    assert expected.complete
    assert sorted(signs.tolist() for signs, _, _ in found) == expected.signs.tolist()
    for signs, ahead, inside in found:
        assert (ahead @ inside > 0).all()
        assert (onp.sign(walls @ inside) == signs).all()


# ---------------------------------------------------------------- all cones of a level at once


def one_by_one(f, x):
    """The slow twin: the patterns, each cone divided alone, a least-squares problem for each side not witnessed."""
    skel = skeleton(germ(f, x))
    n = len(skel.germ.x)
    whole = fans.Cone((), onp.zeros((0, n)), onp.eye(1, n)[0], onp.zeros((skel.size, n)))
    cones, flags = fans._one_by_one(skel, skel.germ.stages, [whole], fans.MAX_CHAMBERS, map)
    assert not flags
    return sorted((text(cone.signs) for cone in cones), key=order)


def beyond_folds(u, y):
    """u + |y_1| - |y_0| where positive: the guard of the maximum, 2 y_1, does not read u, and its value does."""
    return relu(np.maximum(u + y[-1], u - y[-1]) - np.abs(y[0]))


READERS = {
    "plain": lambda y: y,
    "sort": np.sort,
    "max": lambda y: np.max(np.append(y, 0.0 * y[0])),
    "folds and minima": lambda y: np.min(np.abs(np.append(y, y[0] - y[-1]))),
    "a term of both sides": lambda y: beyond_folds(relu(y[0]), y),
    "where": lambda y: clarke.where(y[0] - y[-1], y[0] * 2.0, y[0] + y[-1]),
}


@pytest.mark.parametrize("reader", READERS)
@given(net=nets(max_inputs=3, max_width=3, max_depth=2, outputs=3))
@settings(max_examples=40, deadline=None)
def test_all_cones_of_a_level_together_are_divided_as_each_alone(reader, net):
    W, b = net.layers[-1]
    level = Net((*net.layers[:-1], (W, b - net(net.x))), net.x)  # the outputs vanish at x, so the reader has ties
    f = lambda x: READERS[reader](level(x))  # noqa: E731
    fan = clarke.local_fan(f, net.x)
    assert list(fan.patterns) == one_by_one(f, net.x)
    skel = skeleton(germ(f, net.x))
    for pattern, witness in zip(fan.patterns, fan.witnesses, strict=True):
        rows, slots = [], onp.zeros((skel.size, len(net.x)))
        for stage in skel.germ.stages:
            signs = onp.array(["-0+".index(letter) - 1 for letter in pattern[stage.letters]])
            terms, orientation = stage.ties.constraints(signs)
            values = orientation[:, None] * skel.cleaned(skel.rows(stage.position, terms), slots)
            rows.append(values[values.any(axis=1)])
            slots = skel.advance(stage, signs, slots)
        assert (onp.vstack(rows) @ witness > 0).all()
        assert onp.linalg.norm(witness) == pytest.approx(1)


def test_what_both_sides_of_a_kink_read_does_not_move_its_guard_but_its_value():
    """It is decided together with what it reads: u + |y_1| - |y_0|, u = max(y_0, 0), has no zeros where y_0 > 0."""
    fan = clarke.local_fan(READERS["a term of both sides"], onp.zeros(2))
    assert fan.patterns == tuple(sorted({"-" + a + "-" + b for a in "-+" for b in "-+"} | {"+-++", "++++"}, key=order))
    assert fan.complete


def order(pattern):
    return ["-0+".index(letter) for letter in pattern]


def folds_and_exchanges(n):
    comparators = [(i, i + 1) for sweep in range(n) for i in range(n - 1 - sweep)]
    return clarke.from_function(lambda x: compare_exchanges(np.abs(x), comparators), onp.zeros(n))


@pytest.mark.parametrize("name", ["WORD", "RAYS"])
@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_cones_in_doubt_between_two_way_kinks_go_on_alone_and_nothing_is_lost(monkeypatch, route, name, most):
    graph = folds_and_exchanges(3)
    expected = clarke.local_fan(graph, onp.zeros(3)).patterns
    assert len(expected) == 48
    monkeypatch.setattr(cones, name, most)
    if route == "numba":
        program = fans._program(skeleton(germ(graph, onp.zeros(3))))
        found = descent.patterns(100, 1e-12, program, None)
        assert found.status == descent.DOUBTFUL or (name, most) == ("RAYS", 3)
    fan = clarke.local_fan(graph, onp.zeros(3))
    assert fan.patterns == expected
    assert fan.complete


@given(net=nets(max_inputs=4, max_width=4, max_depth=3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_depth_first_and_level_by_level_are_the_same_patterns_with_the_same_witnesses(route, net, seed):
    """Integer weights, which make degenerate cones, and then random ones, which do not."""
    if route == "numpy":
        return
    rng = onp.random.default_rng(seed)
    layers = tuple((rng.standard_normal(W.shape), onp.zeros(len(b))) for W, b in net.layers)
    for f, x in ((net, net.x), (Net(layers, 0 * net.x), 0 * net.x)):
        found = clarke.local_fan(f, x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(restriction, "COMPILED", False)
            expected = clarke.local_fan(f, x)
        assert found.patterns == expected.patterns
        assert (found.complete, found.reason) == (expected.complete, expected.reason)
        assert onp.allclose(found.witnesses, expected.witnesses, rtol=0, atol=1e-9)


def test_the_room_of_a_descent_grows(monkeypatch):
    graph = folds_and_exchanges(4)
    expected = clarke.local_fan(graph, onp.zeros(4))
    monkeypatch.setattr(descent, "ARENA", 2)
    monkeypatch.setattr(descent, "LIST", 2)
    found = clarke.local_fan(graph, onp.zeros(4))
    assert found.patterns == expected.patterns
    assert (found.witnesses == expected.witnesses).all()
    with pytest.raises(clarke.TooManyChambers, match="max_chambers=100") as caught:
        clarke.local_fan(graph, onp.zeros(4), max_chambers=100)
    assert 100 < caught.value.count <= 384


def test_a_descent_of_many_workers_is_that_of_one():
    graph = folds_and_exchanges(3)
    expected = clarke.local_fan(graph, onp.zeros(3))
    with ProcessPoolExecutor(2) as pool:
        found = clarke.local_fan(graph, onp.zeros(3), mapper=pool.map)
        assert found.patterns == expected.patterns
        assert (found.witnesses == expected.witnesses).all()
        with pytest.raises(clarke.TooManyChambers):
            clarke.local_fan(graph, onp.zeros(3), max_chambers=7, mapper=pool.map)


def test_machine_code_is_fetched_for_many_patterns_only_unless_it_is_at_hand(monkeypatch):
    monkeypatch.setattr(restriction, "COMPILED", None)
    monkeypatch.setattr(descent, "available", lambda: True)
    for loaded in (False, True):
        monkeypatch.setattr(descent, "_loaded", lambda loaded=loaded: loaded)
        assert descent.possible()
        assert descent.worthwhile([3, 3], 3) == loaded  # 64 patterns at most
        assert descent.worthwhile([8, 8], 4)
    monkeypatch.setattr(descent, "_loaded", lambda: False)
    monkeypatch.setattr(descent, "available", lambda: False)
    assert not descent.possible()


@pytest.mark.parametrize("name", ["WORD", "RAYS"])
@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_cones_that_are_in_doubt_go_on_alone_and_nothing_is_lost(monkeypatch, name, most):
    f = lambda x: np.sort(np.abs(x)) * np.max(x)  # noqa: E731
    expected = clarke.local_fan(f, onp.zeros(3)).patterns
    assert list(expected) == one_by_one(f, onp.zeros(3))
    monkeypatch.setattr(fans.rays, name, most)
    fan = clarke.local_fan(f, onp.zeros(3))
    assert fan.patterns == expected
    assert fan.complete


def test_the_patterns_do_not_depend_on_how_many_cones_are_taken_together(monkeypatch):
    f = lambda x: np.sort(np.abs(x)) * np.max(x)  # noqa: E731
    expected = clarke.local_fan(f, onp.zeros(3))
    monkeypatch.setattr(fans, "BATCH", 3)
    monkeypatch.setattr(fans, "WALLS", 2)
    found = clarke.local_fan(f, onp.zeros(3))
    assert found.patterns == expected.patterns
    assert onp.allclose(found.witnesses, expected.witnesses, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [3, 4])
def test_folds_and_then_a_sorting_network_have_2_to_the_n_n_factorial_patterns(n):
    comparators = [(i, i + 1) for sweep in range(n) for i in range(n - 1 - sweep)]
    fan = clarke.local_fan(lambda x: compare_exchanges(np.abs(x), comparators), onp.zeros(n))
    assert len(fan.patterns) == 2**n * math.factorial(n)
    assert fan.complete


def test_slivers_that_rounding_opens_between_three_walls_through_a_line_are_no_cells():
    """The third wall is a combination of the first two but for rounding: six cells, not eight, or none is complete."""
    rng = onp.random.default_rng(0)
    for _ in range(20):
        walls = rng.standard_normal((2, 4))
        walls = onp.vstack([walls, [0.3, 0.7] @ walls, rng.standard_normal((1, 4))])
        cells, flag = fans._subdivide(
            onp.zeros((0, 4)), onp.eye(4)[0], onp.vstack([walls, walls[::-1] * 1.1, walls]), 100
        )
        assert len(cells) == 12 or (flag and len(cells) < 12)
        for sign, _, inside in cells:
            assert (sign[:4] * (walls @ inside) > 0).all()


def test_cells_of_the_floats_as_exact_numbers_that_are_thinner_than_rounding_are_left_out_and_said():
    walls = onp.random.default_rng(0).standard_normal((2, 3))
    walls = onp.vstack([walls, [0.3, 0.7] @ walls])
    found = clarke.chambers(walls, exact=True)
    thick, flag = fans._thick(found, 0.0)
    assert len(found) == 8
    assert thick.sum() == 6
    assert flag.startswith("2 cells thinner than rounding were left out")


@pytest.mark.parametrize("k", [13, 40])
def test_a_max_of_many_members_has_a_pattern_for_each(k):
    """More members than cones with rays are made for."""
    assert k > fans.MEMBERS
    fan = clarke.local_fan(lambda x: np.max(x) + relu(x[0] - x[1]), onp.zeros(k))
    assert len(fan.patterns) == k - 2 + 2 + (k - 2)
    assert fan.complete


def test_thousands_of_parallel_units_are_one_wall_each_direction(monkeypatch):
    """Positive multiples of three guards, and dead units: 2^3 patterns, and no pullback for each unit."""
    monkeypatch.setattr("clarke.skeleton.Skeleton.row", lambda *a: pytest.fail("a row was computed"))
    rng = onp.random.default_rng(0)
    which, scale = rng.integers(0, 4, 3000), rng.integers(1, 9, 3000).astype(float)
    W = onp.eye(4)[:, :3][which] * scale[:, None]
    turn = onp.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [3.0, 0.0, 1.0]])
    fan = clarke.local_fan(lambda x: np.sum(relu(np.dot(W, np.dot(turn, x)))), onp.zeros(3))
    assert len(fan.kinks) == 3000
    assert len(fan.patterns) == 8
    for pattern, witness in zip(fan.patterns, fan.witnesses, strict=True):
        assert pattern == text(onp.sign(W @ turn @ witness).astype(int))


def digits_convolution(count=60):
    """Four 3 x 3 filters without biases over the first digits, each zero at a corner of its own; ReLU and a loss.

    (f, w, patches). A patch with ink under that corner only is a multiple of one weight; a blank one is a dead unit.
    """
    datasets = pytest.importorskip("sklearn.datasets")
    images, targets = datasets.load_digits(return_X_y=True)
    images = onp.pad(images[:count].reshape(-1, 8, 8) / 16.0, ((0, 0), (1, 1), (1, 1)))
    patches = onp.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2)).reshape(-1, 9)
    rng = onp.random.default_rng(0)
    filters, V = rng.standard_normal((9, 4)), rng.standard_normal((256, 10)) / 4
    filters[[0, 2, 6, 8], range(4)] = 0.0

    def f(w):
        scores = np.dot(np.reshape(relu(np.dot(patches, np.reshape(w, (9, 4)))), (count, 256)), V)
        return np.mean(np.log(np.sum(np.exp(scores), axis=1)) - scores[onp.arange(count), targets[:count]])

    return f, filters.ravel(), patches


def test_a_zero_bias_convolution_of_the_digits_has_16_pieces_of_thousands_of_kinks(monkeypatch):
    f, w, patches = digits_convolution()
    graph = clarke.from_function(f, w)
    monkeypatch.setattr("clarke.skeleton.Skeleton.row", lambda *a: pytest.fail("a row was computed"))
    fan = clarke.local_fan(graph, w)
    assert len(fan.kinks) > 2000
    assert len(fan.patterns) == 16
    assert fan.complete
    filters = w.reshape(9, 4)
    tied = onp.abs(patches @ filters) <= 1e-9 * (patches @ onp.abs(filters))
    for pattern, witness in zip(fan.patterns, fan.witnesses, strict=True):
        assert pattern == text(onp.sign(patches @ witness.reshape(9, 4))[tied].astype(int))
    assert sum(letter != "0" for letter in fan.patterns[0]) > 100


def test_patterns_whose_derivatives_would_not_fit_say_what_to_ask_instead(monkeypatch):
    def f(x):
        h = np.maximum(x, 0)
        return np.sum(np.maximum(np.sort(np.concatenate([h - 1, h[::-1] - 1])) + 1, 0))

    assert clarke.local_fan(f, onp.zeros(3)).complete is not None
    monkeypatch.setattr(fans, "SLOTS", 100)
    monkeypatch.setattr(fans.descent, "possible", lambda: False)
    with pytest.raises(
        MemoryError, match=r"patterns of the first layers of \d+ kinks in 3 variables.*limiting_gradient"
    ):
        clarke.local_fan(f, onp.zeros(3))
