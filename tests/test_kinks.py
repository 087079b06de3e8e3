"""Laws of active kinks: which guards vanish, in which order, and on what scale."""

import pickle

import autograd.numpy as anp
import autograd.numpy.linalg as linalg
import autograd.scipy.special as special
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarke import graph, kinks, primitives, selections
from clarke.kinks import active_kinks, germ
from clarke.network import Network
from clarke.selections import where

T = 1e-12  # a guard far below the tolerance of a scale of 1


def letters(f, x, **options):
    """(entry, guard in units of T) of each active kink; the points below move entries by multiples of T."""
    return [(k.entry, round(k.guard / T, 3)) for k in active_kinks(f, np.array(x, float), **options)]


# ---------------------------------------------------------------- guards and letters, operation by operation


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        # first minus second
        (lambda x: anp.maximum(x[:2], x[2:]), [1 + 3 * T, 1, 1, 1 + 2 * T], [((0,), 3), ((1,), -2)]),
        (lambda x: anp.minimum(x[:2], x[2:]), [1 + 3 * T, 1, 1, 1 + 2 * T], [((0,), 3), ((1,), -2)]),
        (lambda x: anp.fmax(x[:2], x[2:]), [1 + 3 * T, 1, 1, 1 + 2 * T], [((0,), 3), ((1,), -2)]),
        (lambda x: anp.fmin(x[:2], x[2:]), [1 + 3 * T, 1, 1, 1 + 2 * T], [((0,), 3), ((1,), -2)]),
        (lambda x: anp.maximum(1.0, x), [1 + 3 * T], [((0,), -3)]),
        (lambda x: anp.minimum(x, 1), [1 + 3 * T], [((0,), 3)]),
        # x itself
        (lambda x: anp.abs(x - 1), [1 + 3 * T, 5, 1 - T], [((0,), 3), ((2,), -1)]),
        (lambda x: anp.fabs(x - 1), [1 + 3 * T], [((0,), 3)]),
        (lambda x: abs(x[0] - 1), [1 - 3 * T], [((), -3)]),
        (lambda x: where(x - 1, (x - 1) ** 2, 0.0), [1 + 3 * T], [((0,), 3)]),
        # clip: all the lower bounds, then all the upper ones
        (lambda x: anp.clip(x, 1, 2), [1 + T, 2 - T, 1 - T, 2 + T], [((0,), 1), ((2,), -1), ((1,), -1), ((3,), 1)]),
        (lambda x: anp.clip(x, 1, np.inf), [1 + T, 7], [((0,), 1)]),
        (lambda x: anp.clip(x, -np.inf, 2), [2 + T, -7], [((0,), 1)]),
        (lambda x: anp.clip(x, None, 2), [2 + T, -7], [((0,), 1)]),
        (lambda x: anp.clip(x, np.array([1, -np.inf]), np.inf), [1, -1e300], [((0,), 0)]),
        (lambda x: anp.clip(x, a_min=1, a_max=2), [1 - T, 2 - T], [((0,), -1), ((1,), -1)]),
        # two tied entries: one letter, the earlier minus the later
        (lambda x: anp.max(x), [1, 3 + T, 3, 2], [((), 1)]),
        (lambda x: anp.min(x), [3 + T, 3, 4, 9], [((), 1)]),
        (lambda x: anp.max(anp.reshape(x, (2, 2)), axis=0), [1, 5, 1 + T, 3], [((0,), -1)]),
        (lambda x: anp.max(anp.reshape(x, (2, 2)), axis=1, keepdims=True), [1, 1, 4, 3], [((0, 0), 0)]),
        # more: one letter an entry, x_j minus the best of the others
        (lambda x: anp.max(x), [3 + 2 * T, 3, 3 + T, 1], [((), 1), ((), -2), ((), -1)]),
        (lambda x: anp.min(x), [3 + 2 * T, 3, 3 + T, 9], [((), -2), ((), 1), ((), -1)]),
        # the infinity norm is the max over [x, -x]
        (lambda x: linalg.norm(x, np.inf), [1, -1 - T, 0], [((), -1)]),
        (lambda x: linalg.norm(x, np.inf), [0, 0], [((), 0)] * 4),
        (lambda x: linalg.norm(x, 1), [0, 1], [((0,), 0)]),
        (lambda x: linalg.norm(x, -np.inf), [1 + T, -1, 3], [((), 1)]),
        # sort: a letter a compare-exchange of the bubble network on each tied run, first minus second as they meet
        (lambda x: anp.sort(x), [3, 1 + T, 1, 7], [((0,), 1)]),
        (lambda x: anp.sort(x), [2, 1, 2 + T, 1 - T], [((0,), 1), ((2,), -1)]),
        (lambda x: anp.sort(x), [2 + 2 * T, 2 + T, 2], [((0,), 1), ((1,), 2), ((0,), 1)]),
        (lambda x: anp.sort(anp.reshape(x, (2, 2)), axis=0), [1, 2, 1, 3], [((0, 0), 0)]),
        (lambda x: anp.sort(anp.reshape(x, (2, 2)), axis=1), [1, 2, 3, 3], [((1, 0), 0)]),
        # median: those of its sort
        (lambda x: anp.median(x), [5, 1, 1, 0, 9], [((1,), 0)]),
        (lambda x: anp.median(x), [5, 1, 0, 0], [((0,), 0)]),
        # the order of execution, then C order
        (lambda x: anp.abs(x) + anp.maximum(x, 0), [0, 1, 0], [((0,), 0), ((2,), 0)] * 2),
        (lambda x: anp.maximum(x, 0) + anp.abs(x), [0, 1, 0], [((0,), 0), ((2,), 0)] * 2),
        (lambda x: anp.abs(anp.reshape(x, (2, 2))), [0, 1, 0, 0], [((0, 0), 0), ((1, 0), 0), ((1, 1), 0)]),
        # a guard that is zero everywhere is a kink still (a mute one)
        (lambda x: anp.maximum(x, x), [3], [((0,), 0)]),
        # no kink at all
        (lambda x: anp.exp(x) + anp.where(np.array([True, False]), x, -x), [0, 0], []),
        (lambda x: anp.max(x[0]) + anp.sort(x[:1])[0] + anp.median(x[1:]), [0, 0], []),
    ],
)
def test_the_letters_of_an_operation_are_its_guards_in_order(f, x, expected):
    assert letters(f, x) == expected


@pytest.mark.parametrize("tied", [3, 4, 5])
def test_an_extremum_has_one_letter_for_each_of_more_than_two_tied_entries(tied):
    x = np.concatenate([np.ones(tied), [0.5]])
    assert [k.name for k in active_kinks(lambda x: anp.max(x), x)] == [f"max1#{j}" for j in range(tied)]
    assert [k.name for k in active_kinks(lambda x: anp.min(-x), x)] == [f"min1#{j}" for j in range(tied)]


@pytest.mark.parametrize("tied", [2, 3, 4, 5])
def test_a_tied_run_of_a_sort_has_a_letter_for_each_comparator(tied):
    x = np.concatenate([np.ones(tied), [0.5]])
    assert len(active_kinks(lambda x: anp.sort(x), x)) == tied * (tied - 1) // 2


def test_two_letters_and_more_come_in_the_order_of_the_outputs():
    x = np.array([[1, 1, 0], [2, 2, 2], [3, 0, 3], [4, 4, 4], [5, 1, 0]], float)
    found = active_kinks(lambda x: anp.max(anp.reshape(x, (5, 3)), axis=1), x.ravel())
    assert [k.name for k in found] == [
        "max1[0]",
        *(f"max1[1]#{j}" for j in (3, 4, 5)),
        "max1[2]",
        *(f"max1[3]#{j}" for j in (9, 10, 11)),
    ]


# ---------------------------------------------------------------- the pieces behind the letters


def piece(f, x, signs):
    """Values and gradient of the sum of f's output at x on the piece of these signs."""
    here = germ(f, np.array(x, float))
    branches = here.branches(np.array(signs))
    tape = graph.run(here.graph, here.x, lambda i, op, args, sizes: branches[i])
    end = here.graph.program.output
    return graph.pullback(here.graph, tape, {end: np.ones(here.graph.shape)})[0].tolist()


@pytest.mark.parametrize(
    ("f", "x", "signs", "gradient"),
    [
        (lambda x: anp.maximum(x[0], x[1]), [1, 1], [1], [1, 0]),
        (lambda x: anp.maximum(x[0], x[1]), [1, 1], [-1], [0, 1]),
        (lambda x: anp.minimum(x[0], x[1]), [1, 1], [1], [0, 1]),
        (lambda x: anp.minimum(x[0], x[1]), [1, 1], [-1], [1, 0]),
        (lambda x: anp.abs(x), [0, 0], [1, -1], [1, -1]),
        (lambda x: anp.abs(x), [0, -3], [1], [1, -1]),
        (lambda x: anp.clip(x, 0, 1), [0, 1], [1, 1], [1, 0]),
        (lambda x: anp.clip(x, 0, 1), [0, 1], [-1, -1], [0, 1]),
        (lambda x: where(x, 2 * x, 3 * x), [0], [1], [2]),
        (lambda x: where(x, 2 * x, 3 * x), [0], [-1], [3]),
        (lambda x: anp.max(x), [1, 1, 0], [1], [1, 0, 0]),
        (lambda x: anp.max(x), [1, 1, 0], [-1], [0, 1, 0]),
        (lambda x: anp.max(x), [1, 1, 1], [-1, -1, 1], [0, 0, 1]),
        (lambda x: anp.min(x), [1, 1, 3], [1], [0, 1, 0]),
        (lambda x: anp.min(x), [1, 1, 3], [-1], [1, 0, 0]),
        (lambda x: anp.min(x), [1, 1, 1], [-1, 1, -1], [0, 1, 0]),
        (lambda x: anp.sort(x)[0], [1, 1, 0.5], [], [0, 0, 1]),
        (lambda x: anp.sort(x)[1], [1, 1, 0.5], [1], [0, 1, 0]),
        (lambda x: anp.sort(x)[1], [1, 1, 0.5], [-1], [1, 0, 0]),
        (lambda x: anp.sort(x)[2], [1, 1, 1], [1, 1, -1], [1, 0, 0]),
        (lambda x: anp.median(x), [1, 1, 1], [-1, -1, -1], [0, 1, 0]),
        (lambda x: anp.ptp(x), [0, 1, 1], [-1], [-1, 0, 1]),
    ],
)
def test_a_sign_chooses_its_piece(f, x, signs, gradient):
    if not signs:
        signs = [1] * len(active_kinks(f, np.array(x, float)))
    assert piece(f, x, signs) == gradient


@given(st.integers(0, 2**32 - 1))
def test_the_signs_of_the_guards_near_x_choose_the_piece_that_f_takes_there(seed):
    rng = np.random.default_rng(seed)
    A = rng.integers(-2, 3, (4, 3)).astype(float)

    def f(x):
        h = anp.maximum(anp.dot(A, x), 0)
        s = anp.sort(anp.concatenate([h[:2], -x[:1]]))
        return anp.dot(np.array([1.0, -2.0, 3.0]), s) + anp.max(h) - anp.min(x) + anp.sum(anp.clip(x, 0, 1))

    here, y = germ(f, np.zeros(3)), 1e-3 * rng.standard_normal(3)
    natural = graph.run(here.graph, y, graph._natural)
    values, signs = natural.values, np.zeros(len(here.kinks), dtype=int)
    for stage in here.stages:
        args = [np.ravel(a) for a in here.graph.program.operations[stage.position - 1].fill(values)]
        tie = stage.ties
        if isinstance(tie, selections.TwoWayTies):
            signs[stage.letters] = np.where(sum(c * args[k][e] for k, e, c in tie.guard_terms) >= 0, 1, -1)
        elif isinstance(tie, selections.ExtremumTie):
            signs[stage.letters] = -1
            signs[stage.first + np.argmax(tie.side * args[0][tie.members])] = 1
        else:
            signs[stage.letters] = tie.signs(lambda a, b, v=args[0], m=tie.members: 1 if v[m[a]] - v[m[b]] > 0 else -1)
        terms, orientation = tie.constraints(signs[stage.letters])
        assert (orientation * sum(c * args[k][e] for k, e, c in terms) >= 0).all()
    branches = here.branches(signs)
    chosen = graph.run(here.graph, y, lambda i, op, args, sizes: branches[i])
    assert chosen.values[here.graph.program.output] == pytest.approx(f(y), abs=1e-15)


# ---------------------------------------------------------------- names


def test_names_number_the_operations_and_index_the_entries():
    def f(x):
        a = anp.maximum(anp.reshape(x, (2, 2)), 0)
        b = anp.maximum(a[0, 0], 0) + anp.fmax(x[1], 0) + abs(x[2])
        return anp.sum(a) + b + anp.sort(x)[0] + anp.clip(x[3], 0, 0.0)

    assert [k.name for k in active_kinks(f, np.zeros(4))] == [
        *(f"maximum1[{i}, {j}]" for i in (0, 1) for j in (0, 1)),
        "maximum2",
        "fmax1",
        "abs1",
        *(f"sort1[{i}]<>{i + 1}#{c}" for c, i in enumerate((0, 1, 2, 0, 1, 0))),
        "clip1",
        "clip2",
    ]


def test_names_are_unique_and_do_not_depend_on_the_point():
    def f(x):
        with graph.label(x, "h"):
            h = anp.maximum(x, 0) + anp.minimum(x, 0)
        return anp.max(h) + anp.sort(h)[0] + linalg.norm(h, np.inf) + anp.sum(anp.clip(x, 0, 1)) + anp.median(x)

    recording = graph.from_function(f, np.zeros(5))
    everywhere = [k.name for k in active_kinks(recording, np.zeros(5))]
    assert len(set(everywhere)) == len(everywhere) > 20
    some = [k.name for k in active_kinks(recording, np.array([0, 0, 2.0, -1.0, 3.0]))]
    assert {n for n in some if n[0] == "h"} == {n for n in everywhere if n[:2] in ("h[", "h.") and n[-2] in "01"}


def test_a_label_names_the_kinks_of_its_node():
    def f(x):
        with graph.label(x, "h1"):
            h = anp.maximum(x, 0)
        with graph.label(x, "h2"):
            h = anp.maximum(h, 0) + anp.abs(h)
        return anp.sum(h) + anp.abs(x[0])

    found = active_kinks(f, np.zeros(2))
    assert [k.name for k in found] == ["h1[0]", "h1[1]", "h2[0]", "h2[1]", "h2.2[0]", "h2.2[1]", "abs1"]
    assert [k.operation for k in found] == ["maximum"] * 4 + ["abs"] * 3


# ---------------------------------------------------------------- tolerance, scale, margin


@pytest.mark.parametrize(
    ("f", "x", "active"),
    [
        (lambda x: anp.abs(x), 1e-12, False),
        (lambda x: anp.abs(x), 1e-300, False),
        (lambda x: anp.abs(x), 0.0, True),
        (lambda x: anp.abs(x - 1), 1 + 1e-12, True),
        (lambda x: anp.abs(x - 1), 1 + 1e-8, False),
        (lambda x: anp.abs(x - 1e6), 1e6 + 1e-4, True),
        (lambda x: anp.abs(1e6 * x - 1e6), 1 + 1e-12, True),
        (lambda x: anp.abs(0.1 * x + 0.2 * x - 0.3 * x), 1.0, True),
        (lambda x: anp.maximum(x, 1), 1 + 1e-12, True),
        (lambda x: anp.maximum(x, 1), 1 + 1e-8, False),
        (lambda x: anp.abs(anp.exp(x) - np.e), 1.0, True),
        (lambda x: anp.abs(special.expit(x) - 1 / (1 + np.exp(-1))), 1.0, True),
        (lambda x: anp.max(anp.concatenate([x, np.ones(1)])), 1 + 1e-12, True),
        (lambda x: anp.max(anp.concatenate([x, np.ones(1)])), 1 + 1e-8, False),
        (lambda x: anp.sort(anp.concatenate([x, np.ones(1)])), 1 + 1e-12, True),
        (lambda x: anp.sort(anp.concatenate([x, np.ones(1)])), 1 + 1e-8, False),
        (lambda x: anp.clip(x, 0, 1), 1 + 1e-12, True),
        (lambda x: anp.clip(x, 0, 1), 1 + 1e-8, False),
        (lambda x: anp.clip(x, 0, 1), 1e-12, False),
    ],
)
def test_a_kink_is_active_relative_to_what_cancels_in_its_guard(f, x, active):
    assert bool(active_kinks(f, np.array([x]))) is active


def test_the_scale_is_the_forward_evaluation_of_the_guard_in_absolute_values():
    W, b, x = np.array([[1.0, -2.0], [3.0, 1.0]]), np.array([1.0, -7.0]), np.array([1.0, 1.0])
    assert active_kinks(lambda x: anp.maximum(anp.dot(W, x) + b, 0), x) == (
        kinks.Kink("maximum1[0]", "maximum", (0,), 0.0, 4.0),
    )
    first = active_kinks(lambda x: anp.maximum(2 * x[0], x[1] + 1), x)[0]
    assert (first.guard, first.scale) == (0, 4)
    deep = active_kinks(lambda x: anp.abs(anp.abs(x[0] - 3) - anp.maximum(x[1] + 1, 0)), x)[0]
    assert deep.scale == 1 + 3 + 1 + 1
    assert active_kinks(lambda x: linalg.norm(x, np.inf), x)[0].scale == 2


@given(st.floats(-300, 300), st.integers(0, 2**32 - 1))
def test_positive_rescaling_does_not_change_what_is_active(exponent, seed):
    """Of x, with every other input of f; of hidden values; of the output. Powers of two: no rounding."""
    c = 2.0 ** round(exponent)
    rng = np.random.default_rng(seed)
    W, b = rng.integers(-2, 3, (4, 3)).astype(float), rng.integers(-1, 2, 4).astype(float)
    x = rng.integers(-1, 2, 3) + 1e-10 * rng.choice([0, 0.3, 3, 30], 3)

    def f(unit, hidden, output):
        def g(x):
            h = hidden * anp.maximum(W @ x + unit * b, 0)
            return output * (anp.max(h) + anp.sum(anp.abs(anp.sort(h)[:2] - hidden * unit)) + anp.sum(anp.abs(x)))

        return g

    def active(f, x):
        here = germ(f, x)
        return [k.name for k in here.kinks], here.margin

    expected = active(f(1, 1, 1), x)
    assert active(f(c, 1, 1), c * x) == expected
    assert active(f(1, c, 1), x) == expected
    assert active(f(1, 1, c), x) == expected


def test_the_tolerance_is_part_of_the_question():
    f = lambda x: anp.sum(anp.abs(x - 1))  # noqa: E731
    x = 1 + np.array([0, 2e-15, 2e-10, 2e-5, 2e-1])
    assert [len(active_kinks(f, x, tol=t)) for t in (0, 1e-14, 1e-9, 1e-4, 0.5)] == [1, 2, 3, 4, 5]


def test_a_guard_at_the_tolerance_is_active():
    x = np.array([1.0, 3.0])
    f = lambda x: anp.maximum(x[0], x[1])  # noqa: E731
    assert len(active_kinks(f, x, tol=0.5)) == 1
    assert len(active_kinks(f, x, tol=np.nextafter(0.5, 0))) == 0


@pytest.mark.parametrize("tol", [-1e-9, 1, 2.0, np.nan, None, "1e-9", [1e-9]])
def test_a_tolerance_is_between_zero_and_one(tol):
    with pytest.raises(ValueError, match="tol is relative to the scale of a guard, so 0 <= tol < 1; got"):
        active_kinks(lambda x: anp.abs(x), np.zeros(1), tol=tol)


@pytest.mark.parametrize(
    ("f", "x", "margin"),
    [
        (lambda x: anp.sum(anp.abs(x - 1)), [1.0, 3.0, 1.5], 0.5 / 2.5),
        (lambda x: anp.maximum(x[0], x[1]), [1.0, 3.0], 0.5),
        (lambda x: anp.max(x), [1.0, 3.0, 2.0], 1 / 5),
        (lambda x: anp.max(x), [3.0, 3.0, 2.0], 1 / 5),
        (lambda x: anp.sort(x), [1.0, 3.0, 2.0, 2.0], 1 / 5),
        (lambda x: anp.clip(x, 0, 4.0), [4.0, 1.0, 3.0], 1 / 7),
        (lambda x: anp.clip(x, -np.inf, np.inf), [1.0], np.inf),
        (lambda x: anp.exp(x), [1.0], np.inf),
        (lambda x: anp.abs(x), [0.0], np.inf),
        (lambda x: 3.0, [1.0], np.inf),
        (lambda x: anp.abs(x), [1e-12], 1.0),
        (lambda x: where(x - 1, x, 1.0), [3.0], 0.5),
    ],
)
def test_the_margin_is_the_smallest_relative_guard_that_is_not_active(f, x, margin):
    assert germ(f, np.array(x)).margin == pytest.approx(margin)


def test_the_margin_is_where_the_next_kink_becomes_active():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 4))
    f = lambda x: anp.sum(anp.maximum(anp.sort(anp.dot(A, x)), 0.1)) + anp.max(x)  # noqa: E731
    x = rng.standard_normal(4)
    margin = germ(f, x).margin
    assert len(active_kinks(f, x, tol=margin * (1 - 1e-9))) == 0
    assert len(active_kinks(f, x, tol=margin * (1 + 1e-9))) >= 1


# ---------------------------------------------------------------- one function, many spellings


RELU = {
    "maximum": lambda x: anp.maximum(x[0], 0),
    "maximum from the left": lambda x: anp.maximum(0.0, x[0]),
    "abs": lambda x: (anp.abs(x[0]) + x[0]) / 2,
    "minimum": lambda x: -anp.minimum(-x[0], 0),
    "clip": lambda x: anp.clip(x[0], 0, np.inf),
    "clip without a bound": lambda x: anp.clip(x[0], 0, None),
    "sort": lambda x: anp.sort(anp.concatenate([x, np.zeros(1)]))[-1],
    "max": lambda x: anp.max(anp.concatenate([x, np.zeros(1)])),
    "max over an axis": lambda x: anp.max(anp.stack([x, np.zeros(1)]), axis=0)[0],
    "leaky of slope 0": lambda x: anp.maximum(x[0], 0 * x[0]),
    "where": lambda x: where(x[0], x[0], 0.0),
    "fmax": lambda x: anp.fmax(x[0], 0),
}


@pytest.mark.parametrize("spelling", RELU)
def test_relu_has_one_kink_at_zero_however_it_is_written(spelling):
    f = RELU[spelling]
    assert len(active_kinks(f, np.zeros(1))) == 1
    assert {tuple(piece(f, [0.0], [s])) for s in (1, -1)} == {(0.0,), (1.0,)}
    for x in (1e-12, -1e-12, 1.0, -1.0):
        assert active_kinks(f, np.array([x])) == ()
        assert piece(f, [x], []) == [float(x > 0)]


# ---------------------------------------------------------------- values


def test_a_germ_holds_what_it_was_computed_from():
    f = lambda x: anp.sum(anp.maximum(x, 0))  # noqa: E731
    here = germ(f, [0, 1], tol=1e-6)
    assert (here.x.tolist(), here.tol, len(here.kinks), len(here.stages)) == ([0, 1], 1e-6, 1, 1)
    assert here.stages[0].letters == slice(0, 1)
    assert here.tape.values[-1] == f(here.x)
    assert active_kinks(f, [0, 1]) == here.kinks


def test_a_kink_is_a_value():
    found = active_kinks(lambda x: anp.sum(anp.abs(x)), np.zeros(2))
    assert pickle.loads(pickle.dumps(found)) == found
    assert len(set(found)) == 2
    assert isinstance(found, tuple)
    assert all(type(k.guard) is float and type(k.scale) is float and type(k.entry) is tuple for k in found)


def test_the_kinks_at_another_point_can_be_asked_of_the_same_graph():
    recording = graph.from_function(lambda x: anp.sum(anp.abs(x)), np.ones(2))
    assert active_kinks(recording, np.ones(2)) == ()
    assert [k.entry for k in active_kinks(recording, np.array([1.0, 0.0]))] == [(1,)]


def test_a_value_that_overflows_at_another_point_is_refused():
    recording = graph.from_function(lambda x: anp.exp(x), np.ones(1))
    with pytest.raises(primitives.NotPiecewiseSmooth, match="exp is not finite at x although x is"):
        active_kinks(recording, np.array([1e4]))


def test_kinks_of_different_operations_have_different_names():
    """Node `a` has two piecewise operations, and another node bears the name of the second."""
    network = Network()
    network.input("x", [0.0])
    network.node("a", lambda x: anp.abs(x) + anp.maximum(x, 0.0), "x")
    network.node("a.2", lambda x: anp.abs(x), "x")
    network.node("y", lambda a, b: a + b, "a", "a.2")
    found = active_kinks(network.function("x", "y"), network.point("x"))
    assert [kink.name for kink in found] == ["a[0]", "a.2'[0]", "a.2[0]"]
