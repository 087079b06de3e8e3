"""The compiled recursion: its status, and that its absence changes nothing but time. Its laws are those of
test_arrangements, which runs on both routes."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import chambers_by_lp

from clarke import compiled, restriction, summands
from clarke.arrangements import TooManyChambers, chambers
from clarke.halfspaces import ROUNDING, strict_direction, unit


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def enumerated(rows, fence=1, tol=1e-9, limit=10**6, seed=7):
    """Cells of unit rows, the first `fence` of which bound a cone."""
    pytest.importorskip("numba")
    rows = unit(np.asarray(rows, dtype=float))
    point = np.zeros(rows.shape[1]) if fence == 1 else strict_direction(rows[:fence])[0]
    return compiled.cells(rows, np.full(len(rows), ROUNDING), fence, point, tol, limit, seed)


def signs(normals, points):
    return [tuple(int(s) for s in row) for row in np.sign(points @ np.asarray(normals).T)]


def mirrored(normals, points):
    return sorted(signs(normals, np.vstack([points, -points])))


def counted(rows, **options):
    """The number of chambers of a central arrangement, by witnesses told apart by their signs."""
    found = enumerated(rows, **options)
    assert found.status == compiled.SETTLED
    assert len(found.points) == found.known
    assert len(set(signs(rows, found.points))) == found.known
    np.testing.assert_allclose(np.linalg.norm(found.points, axis=1), 1)
    return 2 * found.known


def roots(n):
    return np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in itertools.combinations(range(n), 2)])


def cube(d):
    return np.array(list(itertools.product((0.0, 1.0), repeat=d)))


def threshold(d):
    return np.column_stack([np.ones(2**d), cube(d)])


def cross_polytope(d):
    return np.vstack([np.hstack([s * np.eye(d), np.ones((d, 1))]) for s in (1, -1)])


def integers(rows, width):
    row = st.lists(st.integers(-2, 2), min_size=width, max_size=width).filter(any)
    return st.lists(row, min_size=rows[0], max_size=rows[1]).map(np.array)


def test_a_settled_list_has_a_point_in_every_cell_of_the_half():
    found = enumerated(np.eye(4))
    assert found.status == compiled.SETTLED
    assert found.known == len(found.points) == 8
    assert sorted(map(tuple, np.sign(found.points[:, 1:]).tolist())) == sorted(
        (a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)
    )
    assert (found.points[:, 0] > 0).all()


def test_a_doubtful_answer_is_decided_without_numba(monkeypatch):
    monkeypatch.setattr(restriction, "COMPILED", True)
    monkeypatch.setattr(restriction, "WORTH", 0)
    monkeypatch.setattr(summands, "SPLIT", False)
    doubtful = compiled.Cells(np.empty((0, 4)), 0, compiled.DOUBTFUL)
    monkeypatch.setattr(compiled, "cells", lambda *_: doubtful)
    assert len(chambers(np.eye(4))) == 16
    monkeypatch.setattr(compiled, "cells", lambda *_: doubtful._replace(known=9, status=compiled.TOO_MANY))
    with pytest.raises(TooManyChambers, match="at least 18 chambers"):
        chambers(np.eye(4), max_chambers=16)


def test_numba_is_neither_loaded_by_the_import_nor_needed():
    script = """
import sys
sys.modules["numba"] = None
import clarke, numpy
assert len(clarke.chambers(numpy.random.default_rng(0).normal(size=(18, 5)))) == 6428
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
    script = "import sys, clarke; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_both_routes_find_the_same_sign_vectors(monkeypatch):
    pytest.importorskip("numba")
    normals = np.random.default_rng(2).normal(size=(18, 5))
    found = []
    for route in (False, True):
        monkeypatch.setattr(restriction, "COMPILED", route)
        found.append(chambers(normals))
    assert np.array_equal(found[0].signs, found[1].signs)
    assert found[0].reason == found[1].reason


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4).flatmap(lambda d: integers((1, 5), d)))
def test_the_cells_are_half_of_the_chambers_that_linear_programs_find(normals):
    found = enumerated(normals)
    assert found.status == compiled.SETTLED
    assert mirrored(normals, found.points) == chambers_by_lp(normals)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5).flatmap(lambda d: st.tuples(integers((1, 4), d), integers((2, 7), d))))
def test_in_a_cone_they_are_those_that_linear_programs_find(case):
    normals, cone = case
    if strict_direction(cone)[0] is None:
        cone = cone * np.where(cone @ [1, 0.7, 0.6, 0.5, 0.4][: cone.shape[1]] > 0, 1, -1)[:, None]
    found = enumerated(np.vstack([cone, normals]), fence=len(cone))
    assert found.status == compiled.SETTLED
    assert sorted(signs(normals, found.points)) == chambers_by_lp(normals, cone=cone)
    assert (found.points @ cone.T > 0).all()


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (roots(5), 120),
        (roots(6), 720),
        (cube(4)[1:], 370),
        (cube(5)[1:], 11_292),
        (threshold(4), 1_882),
        (threshold(5), 94_572),
        (cross_polytope(8), 12_866),
        (np.eye(9), 512),
    ],
    ids="braid5 braid6 resonance4 resonance5 threshold4 threshold5 cross-polytope8 boolean9".split(),
)
def test_known_counts(rows, count):
    assert counted(rows) == count


@pytest.mark.parametrize(("k", "d"), [(30, 4), (16, 8), (20, 6), (200, 3), (70, 4), (12, 11), (9, 2)])
def test_in_general_position_the_count_is_a_sum_of_binomials(k, d, rng):
    assert counted(rng.normal(size=(k, d))) == 2 * sum(math.comb(k - 1, i) for i in range(d))


def test_lines_and_orthants_multiply(rng):
    angles = rng.uniform(0, np.pi, 200)
    rows = np.zeros((203, 5))
    rows[:200, 0], rows[:200, 1], rows[200:, 2:] = np.cos(angles), np.sin(angles), np.eye(3)
    assert counted(rows) == 400 * 8


@pytest.mark.parametrize("prefix", [2, 4, 6])
def test_the_cones_of_a_few_rows_share_the_cells_of_all(prefix):
    rows = threshold(5)
    first = [0, 1, 2, 4, 8, 16]
    rows = np.vstack([rows[first], np.delete(rows, first, axis=0)])
    total = 0
    for side in itertools.product((1, -1), repeat=prefix):
        found = enumerated(np.vstack([np.array(side)[:, None] * rows[:prefix], rows[prefix:]]), fence=prefix)
        assert found.status == compiled.SETTLED
        total += found.known
    assert total == 94_572


def test_a_cone_of_many_walls_and_many_rows_has_the_cells_of_the_whole_that_it_holds(rng):
    rows, cone = rng.normal(size=(75, 3)), rng.normal(size=(9, 3)) * 0.4 + [0, 0, 1]
    found = enumerated(np.vstack([cone, rows]), fence=9)
    whole = enumerated(np.vstack([cone, rows]))
    inside = whole.points[(whole.points @ cone.T > 0).all(axis=1)]
    assert found.status == whole.status == compiled.SETTLED
    assert sorted(signs(rows, found.points)) == sorted(signs(rows, inside))


def test_an_empty_cone_has_no_cells_where_two_walls_face_each_other():
    pytest.importorskip("numba")
    found = compiled.cells(np.vstack([np.eye(3), -np.eye(3)]), np.full(6, ROUNDING), 4, np.zeros(3), 1e-9, 10, 0)
    assert (found.known, found.status) == (0, compiled.SETTLED)


def test_a_row_listed_twice_counts_once():
    assert counted(np.vstack([np.eye(4), -np.eye(4), np.eye(4)])) == 16


@pytest.mark.parametrize("apart", [1e-10, 1e-11, 1e-12])
def test_rows_neither_equal_nor_distinct_are_doubtful(apart, rng):
    rows = rng.normal(size=(6, 4))
    found = enumerated(np.vstack([rows, rows[2] + apart * rng.normal(size=4)]))
    assert found.status == compiled.DOUBTFUL
    assert not len(found.points)
    plane = [[1, 0, 0], [0, 1, 0], [1, 1, apart], [0, 0, 1], [1, -1, 0]]  # lines as close on z = 0
    assert enumerated(plane).status == compiled.DOUBTFUL
    assert enumerated([[1, 0], [0, 1], [apart, 1]]).status == compiled.DOUBTFUL


@pytest.mark.parametrize("noise", 10.0 ** -np.arange(4, 15))
def test_a_degenerate_family_under_noise_is_right_or_flagged(noise, rng):
    rows = unit(roots(6) @ np.linalg.svd(roots(6))[2][:5].T)
    exact, rows = 720, unit(rows + noise * rng.normal(size=rows.shape))
    generic = 2942  # of these 15 rows with no four in a 3-space but for chance
    found = enumerated(rows)
    if found.status == compiled.SETTLED:
        assert 2 * found.known == len(mirrored(rows, found.points)) == (generic if noise > 1e-12 else exact)


def test_a_moment_curve_is_right_or_flagged():
    for k, d in ((12, 4), (12, 6), (16, 10), (20, 12)):
        found = enumerated(np.linspace(0, 1, k)[:, None] ** np.arange(d))
        if found.status == compiled.SETTLED:
            assert 2 * found.known == 2 * sum(math.comb(k - 1, i) for i in range(d))


@pytest.mark.parametrize("d", [2, 3, 5])
def test_more_cells_than_the_limit_are_not_listed(d, rng):
    rows = rng.normal(size=(30, d))
    all_of_them = enumerated(rows).known
    found = enumerated(rows, limit=all_of_them - 1)
    assert found.status == compiled.TOO_MANY
    assert all_of_them - 1 < found.known <= all_of_them
    assert enumerated(rows, limit=all_of_them).status == compiled.SETTLED
    assert enumerated(np.eye(50), limit=1000).status == compiled.TOO_MANY


def test_the_seed_decides(rng):
    rows = rng.normal(size=(20, 5))
    first, again, other = enumerated(rows), enumerated(rows), enumerated(rows, seed=8)
    np.testing.assert_array_equal(first.points, again.points)
    assert (first.points != other.points).any()
    assert signs(rows, first.points) == signs(rows, other.points)  # and in the same order


def test_no_witness_lies_on_a_hyperplane():
    for rows in (roots(6), cube(5)[1:], threshold(4), cross_polytope(6)):
        found = enumerated(rows)
        assert np.abs(found.points @ unit(rows).T).min() > 1e-4


def test_without_a_place_to_cache_it_compiles_in_memory(monkeypatch):
    pytest.importorskip("numba")

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, options)

    monkeypatch.setattr("numba.njit", njit)
    monkeypatch.setattr("numba.extending.register_jitable", lambda **_: lambda function: function)
    function, options = compiled._compiled.__wrapped__()
    assert function is compiled._enumerate
    assert options["nogil"]
