"""Many cones at once: their cells, their rays, and the proof that a side is empty."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import matrices

import clarke
from clarke import cones as rays
from clarke.halfspaces import strict_direction, unit
from clarke.restriction import TooManyChambers

ROOM = 10**6


def whole_with(normals):
    """The whole space, ready to be cut by these unit normals."""
    return rays.Cones(unit(np.asarray(normals, dtype=float)), *rays.whole(np.shape(normals)[1])[1:])


@st.composite
def arrangements(draw):
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    normals = draw(matrices(k, n))
    assume(normals.any(axis=1).all())
    return normals


def shown(cones):
    """Every ray is in its closed cone, on the rows that its bits name and on no other; the rays show an inner point."""
    for c in range(len(cones.count)):
        rows = cones.rows(c, np.arange(cones.count[c]))
        own = cones.owner == c
        heights = cones.rays[own] @ rows.T
        on = (cones.on[own][:, None] >> np.arange(len(rows)).astype(np.uint64)) & np.uint64(1)
        assert (np.abs(heights) <= rays.ZERO)[on == 1].all()
        assert (heights > rays.NEAR)[on == 0].all()
        assert np.linalg.matrix_rank(rows, tol=1e-9) == cones.rank[c]
    assert (np.diff(cones.owner) >= 0).all()
    return rays.margins(cones, rays.interior(cones)) > 1e-9


@given(arrangements())
@settings(deadline=None, max_examples=200)
def test_the_cells_of_the_whole_space_are_the_chambers(normals):
    cones = whole_with(normals)
    found, parent, signs, unsure = rays.cells(cones, np.arange(len(normals))[None], ROOM)
    assert not unsure.any()
    assert not parent.any()
    expected = clarke.chambers(normals)
    assert expected.complete
    assert sorted(signs.tolist()) == expected.signs.astype(int).tolist()
    assert shown(found).all()
    points = rays.interior(found)
    assert (np.sign(points @ normals.T) == signs).all()


@given(arrangements(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_many_cones_are_divided_as_each_would_be_alone_in_any_order(normals, seed):
    """Each by walls of its own; and a list of cones is the sum of its parts."""
    rng = np.random.default_rng(seed)
    k = len(normals)
    first, _, _, _ = rays.cells(whole_with(normals), np.arange(k // 2)[None], ROOM)
    walls = np.array([rng.permutation(np.arange(k // 2, k)) for _ in first.count]).reshape(len(first.count), -1)
    walls = np.where(rng.random(walls.shape) < 0.5, walls, ~walls)
    _, parent, signs, unsure = rays.cells(first, walls, ROOM)
    assert not unsure.any()
    together = {(int(p), *map(int, s)) for p, s in zip(parent, signs, strict=True)}
    assert len(together) == len(parent)
    for c in range(len(first.count)):
        _, _, alone, _ = rays.cells(rays.taken(first, np.array([c])), walls[[c]], ROOM)
        assert {(c, *map(int, s)) for s in alone} == {t for t in together if t[0] == c}
    order = rng.permutation(len(first.count))
    parts = [rays.taken(first, half) for half in np.array_split(order, 2) if len(half)]
    _, parent, signs, _ = rays.cells(rays.joined(parts), walls[order], ROOM)
    assert {(int(order[p]), *map(int, s)) for p, s in zip(parent, signs, strict=True)} == together


@given(arrangements())
@settings(deadline=None)
def test_ahead_lists_the_cell_with_all_walls_ahead_and_no_other(normals):
    found, _, signs, unsure = rays.cells(whole_with(normals), np.arange(len(normals))[None], ROOM, ahead=True)
    assert not unsure.any()
    direction, _, _ = strict_direction(normals)
    assert signs.tolist() == ([] if direction is None else [[1] * len(normals)])
    assert shown(found).all()


@given(arrangements(), st.data())
@settings(deadline=None)
def test_multipliers_prove_a_side_empty_where_it_is_and_never_where_it_is_not(normals, data):
    """Both ways of finding them, against one least-squares problem."""
    found, _, _, _ = rays.cells(whole_with(normals), np.arange(len(normals))[None], ROOM)
    wall = unit(data.draw(matrices(1, normals.shape[1])))
    assume(wall.any())
    first, many = rays._ends(found.owner, len(found.count))
    for c in range(len(found.count)):
        rows = found.rows(c, np.arange(found.count[c]))
        for sign in (-1, 1):
            expected = strict_direction(np.vstack([rows, -sign * wall]))[0] is None
            heights = (found.rays @ wall.T)[first[c] : first[c] + many[c]]
            if (sign * heights < -rays.ZERO).any() or found.rank[c] < normals.shape[1]:
                continue  # on the other side, seen without any proof
            assert expected
            at, which = np.arange(first[c], first[c] + many[c]), np.array([c])
            own, left = np.zeros(len(at), dtype=int), np.maximum(sign * heights[:, 0], 0)
            assert rays._down_the_faces(found, which, sign * wall, at, own, left)[0]
            everything = (found.rays @ wall.T), np.zeros(1, dtype=int)
            assert rays._implied(found, which, np.array([sign]), wall, *everything)[0]
            assert not rays._implied(found, which, np.array([-sign]), wall, *everything)[0]


def test_a_wall_that_is_zero_divides_nothing():
    cones = rays.Cones(np.array([[0.0, 0.0], [1.0, 0.0]]), *rays.whole(2)[1:])
    _, _, signs, unsure = rays.cells(cones, np.array([[0, 1]]), ROOM)
    assert sorted(signs.tolist()) == [[0, -1], [0, 1]]
    assert not unsure.any()


@pytest.mark.parametrize("angle", [1e-10, 1e-11])
def test_between_rounding_and_a_billionth_nothing_is_claimed(angle):
    """Two walls that close bound a sliver, or are one: the cone is handed back, without a cell."""
    cones = whole_with([[1.0, 0.0], [1.0, angle]])
    found, _, signs, unsure = rays.cells(cones, np.array([[0, 1]]), ROOM)
    assert unsure.all()
    assert not len(signs)
    assert not len(found.count)


def test_more_rows_or_rays_than_there_is_room_for_are_handed_back(monkeypatch):
    normals = np.random.default_rng(0).standard_normal((6, 3))
    for name in ("WORD", "RAYS"):
        with monkeypatch.context() as patch:
            patch.setattr(rays, name, 3)
            _, _, signs, unsure = rays.cells(whole_with(normals), np.arange(6)[None], ROOM)
            assert unsure.all()
            assert not len(signs)


def test_more_cells_than_allowed_are_an_error_with_a_count_of_those_there_are():
    with pytest.raises(TooManyChambers, match="max_chambers=100") as caught:
        rays.cells(whole_with(np.random.default_rng(0).standard_normal((10, 4))), np.arange(10)[None], 100)
    assert 100 < caught.value.count <= len(clarke.chambers(np.random.default_rng(0).standard_normal((10, 4))))


def test_no_least_squares_problem_is_solved_for_cones_in_general_position(monkeypatch):
    """The multipliers come from the rays."""
    monkeypatch.setattr(rays, "min_norm_direction", lambda *a: pytest.fail("a problem was solved"))
    normals = np.random.default_rng(3).standard_normal((9, 3))
    _, _, signs, unsure = rays.cells(whole_with(normals), np.arange(9)[None], ROOM)
    assert len(signs) == 2 * (1 + 8 + 28)
    assert not unsure.any()
