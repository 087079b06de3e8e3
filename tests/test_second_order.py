"""Beyond first order: each way of settling a pattern fires where it should, and not a hair beyond."""

import autograd.numpy as np
import numpy as onp
import pytest
from oracles import same_set

import clarke
from clarke import second_order
from clarke.kinks import germ, signs_of
from clarke.skeleton import skeleton


def relu(z):
    return np.maximum(z, 0.0)


def guards(*functions):
    """A function with one kink a guard, in order, whose pieces all differ."""
    return lambda x: sum(2.0**k * relu(g(x)) for k, g in enumerate(functions))


ALL = {"--", "-+", "+-", "++"}

SETTLED = {
    "an identity": ((lambda x: x[0] * x[1], lambda x: 3 * x[0] * x[1]), {"--", "++"}, "identities"),
    "an identity up to sign": ((lambda x: x[0] * x[1], lambda x: -x[0] * x[1]), {"-+", "+-"}, "identities"),
    "curvature, definite": (
        (lambda x: x[0], lambda x: x[0] - x[1] ** 2 - x[2] ** 2),
        {"--", "+-", "++"},
        "negative curvature",
    ),
    "curvature, not exactly quadratic": (
        (lambda x: x[0], lambda x: x[0] - np.sin(x[1]) ** 2 - x[2] ** 2),
        {"--", "+-", "++"},
        "curvature",
    ),
    "semidefinite with a kernel": (
        (lambda x: x[0], lambda x: x[0] - (x[1] - x[2]) ** 2),
        {"--", "+-", "++"},
        "semidefinite",
    ),
    "indefinite: everything": ((lambda x: x[0], lambda x: x[0] + x[1] * x[2]), ALL, "arcs"),
    "dependence": ((lambda x: x[0], lambda x: x[0] * (1 + x[1])), {"--", "++"}, "vanishes with"),
    "curvature of one of many combinations": (
        (lambda x: x[1] - x[0] ** 2, lambda x: x[1] - 2 * x[0] ** 2, lambda x: x[1]),
        {"---", "--+", "+-+", "+++"},
        "semidefinite",
    ),
    "semidefinite at one combination alone": (
        (lambda x: x[0] * (x[1] - x[0]), lambda x: x[1] * (x[0] - x[1])),
        {"--", "-+", "+-"},
        "semidefinite",
    ),
    "semidefinite at one combination, its weights unequal": (
        (lambda x: 3 * x[0] * (x[1] - 2 * x[0]), lambda x: x[1] * (2 * x[0] - x[1])),
        {"--", "-+", "+-"},
        "semidefinite",
    ),
    "a saddle": ((lambda x: x[0] * x[1],), {"-", "+"}, "arcs"),
    "a cubic": ((lambda x: x[0] ** 3,), {"-", "+"}, "arcs"),
    "a difference of fourth powers": ((lambda x: x[0] ** 4 - x[1] ** 4,), {"-", "+"}, "arcs"),
    "a tiny saddle": ((lambda x: 1e-12 * x[0] * x[1],), {"-", "+"}, "arcs"),
    "a seventh power": ((lambda x: x[0] ** 7,), {"-", "+"}, "arcs"),
}


@pytest.mark.parametrize("name", SETTLED)
def test_each_certificate_fires_on_its_own_example(name):
    functions, patterns, how = SETTLED[name]
    fan = clarke.local_fan(guards(*functions), onp.zeros(3))
    assert set(fan.patterns) == patterns
    assert fan.complete
    assert how in fan.reason


NEAR_MISSES = {
    "an identity but for a sixth power": (lambda x: x[1], lambda x: x[1] - x[0] ** 6),
    "an identity but for an eighth power": (lambda x: x[1], lambda x: x[1] - x[0] ** 8),
    "Taylor twins": (lambda x: np.tanh(x[0]) - x[1], lambda x: x[0] - x[0] ** 3 / 3 - x[1]),
    "semidefinite but for an eighth power": (lambda x: x[1], lambda x: -x[1] - x[2] ** 2 + x[0] ** 8),
    "semidefinite but for a small fourth power": (lambda x: x[1], lambda x: -x[1] - x[2] ** 2 + 1e-5 * x[0] ** 4),
    "one combination alone, but for a fourth power": (
        lambda x: x[0] * (x[1] - x[0]) + x[0] ** 4,
        lambda x: x[1] * (x[0] - x[1]) + x[0] ** 4,
    ),
    "dependence but for a fourth power": (lambda x: x[0], lambda x: x[0] * (1 + x[1]) - x[2] ** 4),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_hair_beyond_a_certificate_nothing_is_called_complete(name):
    """Each has a chamber so thin that arcs of second order do not find it; it must not be denied either."""
    fan = clarke.local_fan(guards(*NEAR_MISSES[name]), onp.zeros(3))
    assert not fan.complete
    assert fan.undecided


def test_a_small_but_real_curvature_is_found():
    fan = clarke.local_fan(guards(lambda x: x[1], lambda x: x[1] - 1e-6 * x[0] ** 2), onp.zeros(2))
    assert set(fan.patterns) == {"--", "+-", "++"}
    assert fan.complete


def test_products_that_never_win_a_max_are_excluded():
    """x_i x_j <= max(x_i^2, x_j^2), with equality only where the squares tie."""
    found = clarke.limiting_hessians(lambda x: np.max(np.outer(x, x)), onp.zeros(3))
    assert same_set(found.matrices, [2 * onp.diag(row) for row in onp.eye(3)])
    assert found.complete


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e-7, 1e-4, 1.0, 1e6])
def test_the_answer_does_not_depend_on_the_units_of_a_guard(scale):
    found = clarke.limiting_hessians(lambda x: relu(scale * x[0] * x[1]) / scale, onp.zeros(2))
    assert same_set(found.matrices, [onp.zeros((2, 2)), [[0.0, 1.0], [1.0, 0.0]]])
    assert found.complete
    assert found.c11 is False


def test_a_fan_has_at_least_one_pattern_even_where_nothing_can_be_decided():
    fan = clarke.local_fan(lambda x: relu(x[0] - x[1] ** 40) + relu(x[0] - x[1] ** 41), onp.zeros(2))
    assert len(fan.patterns) >= 1
    found = clarke.limiting_gradients(lambda x: relu(-(x[0] ** 4)), onp.zeros(1))
    assert found.vectors.tolist() == [[0.0]]


def test_a_sliver_too_thin_to_list_is_not_denied():
    for angle in (1e-11, 1e-12):
        found = clarke.limiting_gradients(lambda x, a=angle: relu(x[1]) - relu(x[1] - a * x[0]), onp.zeros(2))
        assert not found.complete
        assert "a sliver may be missing" in found.reason
    found = clarke.limiting_gradients(lambda x: relu(x[1]) - relu(x[1] - 1e-8 * x[0]), onp.zeros(2))
    assert found.complete
    assert len(found) == 4
    w = onp.array([0.1, 0.7])  # equal but for rounding: no sliver
    found = clarke.limiting_gradients(lambda x: relu(np.dot(w, x)) + relu(np.dot(3 * w, x)), onp.zeros(2))
    assert found.complete
    assert len(found) == 2


def test_relations_persist_exactly_where_the_fan_of_the_gradients_is_exact():
    def persists(*functions):
        skel = skeleton(germ(guards(*functions), onp.zeros(3)))
        return second_order.relations_persist(skel, signs_of("+" * len(functions)))

    assert persists(lambda x: x[0], lambda x: x[1], lambda x: x[0] + x[1])
    assert persists(lambda x: np.exp(x[0]) - 1, lambda x: 2 * np.exp(x[0]) - 2)
    assert persists(lambda x: x[0] + x[1] ** 2, lambda x: x[2])
    assert not persists(lambda x: x[0], lambda x: x[1], lambda x: x[0] + x[1] + x[2] ** 2)
    assert not persists(lambda x: np.exp(x[0]) - 1, lambda x: x[0])


def test_a_letter_at_a_point_is_the_sign_of_its_guard_there():
    f = lambda x: relu(x[0]) + np.max(x) + np.dot(np.sort(x), onp.arange(3.0))  # noqa: E731
    skel = skeleton(germ(f, onp.zeros(3)))
    signs = second_order.pattern_at(skel, [0.1, -0.2, 0.3])
    assert signs[:4].tolist() == [1, -1, -1, 1]  # relu, then the third entry is the largest
    assert signs[4:].tolist() == [1, -1, -1]  # 0.1 > -0.2 exchanges; 0.1 < 0.3; -0.2 < 0.1


# ---------------------------------------------------------------- one piece along a direction


def test_the_letters_along_a_wall_are_those_of_one_region():
    f = lambda x: relu(x[0] * x[1]) + 2 * relu(x[0]) * x[1] + 4 * relu(x[1]) * x[0]  # noqa: E731
    elements = clarke.limiting_hessians(f, onp.zeros(2)).matrices
    for direction in ([0.0, -1.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]):
        found = clarke.limiting_hessian(f, onp.zeros(2), direction)
        assert onp.abs(elements - found).max(axis=(1, 2)).min() == 0


def test_a_where_with_a_flat_guard_takes_the_side_that_the_direction_meets():
    f = lambda x: clarke.where(x[0] ** 7, x[0], -x[0])  # noqa: E731
    assert clarke.limiting_gradient(f, [0.0], [1.0]).tolist() == [1.0]
    assert clarke.limiting_gradient(f, [0.0], [-1.0]).tolist() == [-1.0]
    assert same_set(clarke.limiting_gradients(f, [0.0]).vectors, [[1.0], [-1.0]])


def test_members_of_a_max_that_touch_to_first_order_are_told_apart():
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        f = lambda x, k=order: np.max(np.array([-(x[0] ** 2), x[0] ** 2, 0.0 * x[0]])[list(k)])  # noqa: E731
        assert clarke.limiting_hessian(f, [0.0]).tolist() == [[2.0]]
        assert clarke.limiting_hessians(f, [0.0]).distinct().matrices.tolist() == [[[2.0]]]


def test_guards_that_are_multiples_have_one_letter_along_their_common_wall():
    w = onp.array([0.6, 1 / 3, 1 / 3])
    f = lambda x: np.dot(onp.array([1.0, 10.0]), relu(np.dot(onp.array([w, 3 * w]), x)))  # noqa: E731
    d = [0.0, -0.3666666666666667, 0.3666666666666667]  # on the wall but for rounding
    elements = clarke.limiting_gradients(f, onp.zeros(3)).vectors
    assert onp.abs(elements - clarke.limiting_gradient(f, onp.zeros(3), d)).max(axis=1).min() <= 1e-12


def test_a_flat_guard_is_read_near_x_whatever_the_other_coordinates_are():
    f = lambda x: relu(x[1] ** 2 * (5 - x[1])) + x[0]  # noqa: E731
    for far in (0.0, 1e3, 1e6):
        for direction in (None, [0.0, 1.0], [0.0, -1.0]):
            assert clarke.limiting_hessian(f, [far, 0.0], direction).tolist() == [[0.0, 0.0], [0.0, 10.0]]
    g = lambda x: relu(x[0] ** 2 * (1e-5 - x[0]))  # noqa: E731
    assert clarke.limiting_hessian(g, [0.0]).tolist() == [[2e-5]]


@pytest.mark.parametrize("length", [5e-324, 1e-200, 1.0, 1e200, 1e308])
def test_the_length_of_a_direction_does_not_matter(length):
    f = lambda x: np.abs(x[0]) + relu(x[0] * x[1])  # noqa: E731
    assert clarke.limiting_gradient(f, [0.0, 0.0], [length, length]).tolist() == [1.0, 0.0]


# ---------------------------------------------------------------- C^{1,1} is not proved by an empty walk

JUMPS = {
    "a saddle": (lambda x: relu(x[0] * x[1]), 2),
    "a cone": (lambda x: relu(x[0] ** 2 + x[1] ** 2 - x[2] ** 2), 3),
    "two quadratics": (lambda x: np.maximum(x[0] ** 2 + x[1] ** 2, 2 * x[0] * x[1] + x[2] ** 2), 3),
    "a cuspidal guard": (lambda x: relu(x[0] ** 2 - x[1] ** 3), 2),
    "a jump of fourth order beside a slope": (lambda x: x[2] + np.abs(x[1]) * x[0] ** 4, 3),
    "a small slope beside a large curvature": (lambda x: 1e10 * x[0] ** 2 + 1e-3 * np.abs(x[0]), 1),
}


@pytest.mark.parametrize("name", JUMPS)
def test_a_gradient_that_jumps_near_x_is_seen(name):
    f, n = JUMPS[name]
    assert clarke.limiting_hessians(f, onp.zeros(n)).c11 is False


@pytest.mark.parametrize(
    "f", [lambda x: x[2] + np.abs(x[1]) * x[0] ** 6, lambda x: 1e6 * x[2] + np.abs(x[1]) * x[0] ** 3]
)
def test_a_jump_too_small_to_see_near_x_is_not_denied(f):
    assert clarke.limiting_hessians(f, onp.zeros(3)).c11 is not True
