"""Chambers of hyperplane arrangements: classical counts, invariances, a slow twin, honest flags."""

import itertools
import math
import pickle
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import chambers_by_lp

from clarke import arrangements, halfspaces, restriction, summands
from clarke.arrangements import Chambers, TooManyChambers, chambers
from clarke.halfspaces import strict_direction


@pytest.fixture(autouse=True, scope="module", params=["numpy", "numba"])
def route(request):
    """Every law of this file holds for both routes."""
    if request.param == "numba":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restriction, "COMPILED", request.param == "numba")
        patch.setattr(restriction, "WORTH", 0)
        yield request.param


small = st.integers(-2, 2)
slow = settings(deadline=None, max_examples=60)


def matrices(rows, columns):
    shapes = st.tuples(st.integers(*rows), st.integers(*columns))
    return shapes.flatmap(lambda shape: arrays(int, shape, elements=small))


@st.composite
def arrangements_in_cones(draw, rows=6, columns=4, cones=4):
    """normals (k, n), offsets or None, cone or None, small integers."""
    normals = draw(matrices((0, rows), (1, columns)))
    k, n = normals.shape
    offsets = draw(st.none() | arrays(int, k, elements=small))
    cone = draw(st.none() | arrays(int, (draw(st.integers(0, cones)), n), elements=small))
    return normals, offsets, cone


def roots(n, signs=(-1,)):
    """e_i + s e_j, i < j, s in signs: braid (s = -1), D_n (s = -1, 1)."""
    e = np.eye(n, dtype=int)
    pairs = itertools.combinations(range(n), 2)
    return np.array([e[i] + s * e[j] for i, j in pairs for s in signs]).reshape(-1, n)


def deformed(n, levels):
    """x_i - x_j = l for i < j and l in levels: Shi (0, 1), Catalan (-1, 0, 1), Linial (1,)."""
    normals = np.repeat(roots(n), len(levels), axis=0)
    return normals, np.tile(levels, len(roots(n)))


def cube(d):
    return np.array(list(itertools.product((0, 1), repeat=d)))


def catalan(n):
    return math.comb(2 * n, n) // (n + 1)


def noisy_braid(size, seed=0):
    """x_i = 0 and x_i = x_j in R^5, moved by `size`: 2,942 chambers once in general position."""
    normals = np.vstack([np.eye(5), roots(5)])
    return normals + size * np.random.default_rng(seed).normal(size=normals.shape)


def generic(k, n):
    return 2 * sum(math.comb(k - 1, i) for i in range(n))


def check_certificates(found, normals, offsets=None, cone=None):
    """Every sign vector once, in order, with a witness that shows it and the margin it has."""
    assert isinstance(found, Chambers)
    normals = np.asarray(normals, dtype=float)
    rows = [tuple(row) for row in found.signs.tolist()]
    assert rows == sorted(set(rows))
    length = np.linalg.norm(normals, axis=1)
    shift = np.zeros(len(normals)) if offsets is None else np.asarray(offsets, dtype=float)
    value = found.witnesses @ normals.T - shift
    assert (np.sign(value) == found.signs).all()
    if offsets is None:
        np.testing.assert_allclose(np.linalg.norm(found.witnesses, axis=1), 1, rtol=1e-12)
    if cone is not None:
        assert (found.witnesses @ np.asarray(cone).T > 0).all()
    distance = np.abs(value[:, length > 0]) / length[length > 0]
    margins = distance.min(axis=1, initial=np.inf)
    np.testing.assert_allclose(found.margins, margins, rtol=1e-6, atol=1e-12)
    assert (found.margins > 0).all()


# Known counts


@pytest.mark.parametrize("n", range(1, 8))
def test_coordinate_hyperplanes_have_2_to_the_n_chambers(n):
    found = chambers(np.eye(n))
    assert len(found) == 2**n
    assert found.complete
    check_certificates(found, np.eye(n))


@pytest.mark.parametrize("n", range(2, 8))
def test_the_braid_arrangement_has_n_factorial_chambers(n):
    found = chambers(roots(n))
    assert len(found) == math.factorial(n)
    assert found.complete
    check_certificates(found, roots(n))


@pytest.mark.parametrize("n", range(2, 6))
def test_the_reflection_arrangements_have_one_chamber_for_each_group_element(n):
    d = roots(n, (-1, 1))
    assert len(chambers(d)) == 2 ** (n - 1) * math.factorial(n)
    assert len(chambers(np.vstack([np.eye(n), d]))) == 2**n * math.factorial(n)


@pytest.mark.parametrize("d", range(1, 6))
def test_the_cross_polytope_arrangement_has_2_3_to_the_d_minus_2_to_the_d(d):
    normals = np.vstack([np.hstack([s * np.eye(d), np.ones((d, 1))]) for s in (1, -1)])
    assert len(chambers(normals)) == 2 * 3**d - 2**d


@pytest.mark.parametrize(("d", "count"), [(1, 2), (2, 6), (3, 32), (4, 370), (5, 11292)])
def test_the_resonance_arrangement_counts(d, count):
    normals = cube(d)[1:]
    assert len(chambers(normals)) == count


@pytest.mark.parametrize(("d", "count"), [(1, 4), (2, 14), (3, 104), (4, 1882)])
def test_threshold_functions_are_chambers(d, count):
    normals = np.column_stack([np.ones(2**d), cube(d)])
    assert len(chambers(normals)) == count


@pytest.mark.parametrize("n", range(2, 6))
def test_shi_catalan_and_linial_counts(n):
    for levels, count in (
        ((0, 1), (n + 1) ** (n - 1)),
        ((-1, 0, 1), math.factorial(n) * catalan(n)),
        ((1,), {2: 2, 3: 7, 4: 36, 5: 246}[n]),
    ):
        normals, offsets = deformed(n, levels)
        found = chambers(normals, offsets=offsets)
        assert found.complete
        assert len(found) == count
        check_certificates(found, normals, offsets)


@pytest.mark.parametrize("n", range(2, 6))
def test_shi_and_catalan_have_catalan_many_chambers_in_the_fundamental_cone(n):
    fundamental = np.eye(n)[:-1] - np.eye(n)[1:]
    for levels in ((0, 1), (-1, 0, 1)):
        normals, offsets = deformed(n, levels)
        found = chambers(normals, offsets=offsets, cone=fundamental)
        assert len(found) == catalan(n)
        check_certificates(found, normals, offsets, fundamental)
    assert len(chambers(roots(n), cone=fundamental)) == 1


@pytest.mark.parametrize(("k", "n"), [(1, 3), (5, 1), (5, 3), (30, 4), (12, 6), (10, 12), (80, 3)])
def test_generic_arrangements_have_the_binomial_counts(k, n):
    rng = np.random.default_rng(k + n)
    normals = rng.normal(size=(k, n))
    found = chambers(normals)
    assert len(found) == (2 if n == 1 else generic(k, n))
    check_certificates(found, normals)
    offsets = rng.normal(size=k)
    found = chambers(normals, offsets=offsets)
    assert len(found) == sum(math.comb(k, i) for i in range(n + 1))
    check_certificates(found, normals, offsets)


# The slow twin


@slow
@given(arrangements_in_cones())
def test_one_linear_program_for_each_sign_vector_finds_the_same_chambers(case):
    normals, offsets, cone = case
    found = chambers(normals, offsets=offsets, cone=cone)
    assert found.complete
    assert [tuple(row) for row in found.signs.tolist()] == chambers_by_lp(normals, offsets, cone)
    check_certificates(found, normals, offsets, cone)


@slow
@given(arrangements_in_cones(rows=8, columns=5, cones=6))
def test_exact_and_tolerance_answers_agree_on_integers(case):
    normals, offsets, cone = case
    rough = chambers(normals.astype(float), offsets=offsets, cone=cone)
    exact = chambers(normals, offsets=offsets, cone=cone, exact=True)
    assert rough.complete
    assert exact.complete
    assert "exact" not in rough.reason
    assert "at tolerance" not in exact.reason
    np.testing.assert_array_equal(rough.signs, exact.signs)
    check_certificates(exact, normals, offsets, cone)


@slow
@given(matrices((1, 6), (1, 5)), st.data())
def test_chambers_in_a_cone_are_those_of_the_larger_arrangement_on_its_side(normals, data):
    shape = data.draw(st.integers(1, 5)), normals.shape[1]
    cone = data.draw(arrays(int, shape, elements=small))
    assume(cone.any(axis=1).all())
    whole = chambers(np.vstack([cone, normals])).signs
    side = whole[(whole[:, : len(cone)] > 0).all(axis=1), len(cone) :]
    found = chambers(normals, cone=cone)
    assert found.complete
    np.testing.assert_array_equal(found.signs, np.unique(side, axis=0).reshape(found.signs.shape))


# Invariances


@slow
@given(matrices((1, 7), (1, 4)), st.randoms(use_true_random=False))
def test_permuting_and_rescaling_rows_permutes_and_flips_letters(normals, random):
    found = chambers(normals)
    order = random.sample(range(len(normals)), len(normals))
    scale = np.array([random.choice((-1, 1)) * 2.0 ** random.randint(-600, 600) for _ in order])
    moved = chambers(normals[order] * scale[:, None])
    assert moved.complete
    expected = found.signs[:, order] * np.sign(scale).astype(int)
    np.testing.assert_array_equal(moved.signs, np.unique(expected, axis=0))


@slow
@given(matrices((1, 7), (2, 4)), st.integers(0, 2**32 - 1))
def test_invertible_linear_maps_keep_the_sign_vectors(normals, seed):
    n = normals.shape[1]
    rng = np.random.default_rng(seed)
    linear = np.linalg.qr(rng.normal(size=(n, n)))[0] * rng.uniform(0.5, 2, n)
    found = chambers(normals @ linear)
    assert found.complete
    moved = chambers(normals).signs
    live = normals.any(axis=1)
    np.testing.assert_array_equal(found.signs[:, live], moved[:, live])


@given(matrices((1, 5), (1, 4)))
@slow
def test_duplicates_repeat_letters_and_antiparallel_rows_flip_them(normals):
    found, doubled = chambers(normals), chambers(np.vstack([normals, 3 * normals, -normals]))
    assert doubled.complete
    np.testing.assert_array_equal(doubled.signs, np.hstack([found.signs, found.signs, -found.signs]))


def test_central_chambers_come_in_opposite_pairs():
    signs = chambers(np.random.default_rng(0).normal(size=(9, 4))).signs
    np.testing.assert_array_equal(signs, -signs[::-1])


def test_badly_scaled_rows_count_like_any_others():
    scale = 10.0 ** np.array([-200, 200, -100, 0, 150, -150])
    found = chambers(scale[:, None] * roots(4))
    assert len(found) == 24
    assert found.complete
    assert np.isfinite(found.margins).all()
    line = chambers([[1.0], [1.0], [1.0]], offsets=[1e100, -1e100, 1e90])
    assert len(line) == 4


def test_more_than_64_hyperplanes_need_more_than_one_word():
    angles = np.arange(200) * np.pi / 200
    normals = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(200)])
    found = chambers(normals)
    assert len(found) == 400
    check_certificates(found, normals)
    tail = chambers(np.vstack([np.tile(np.eye(3)[0], (70, 1)), np.eye(3)]))
    assert len(tail) == 8


def test_rank_deficient_normals_keep_witnesses_in_the_whole_space():
    normals = np.random.default_rng(1).normal(size=(6, 3)) @ np.eye(3, 50)
    found = chambers(normals)
    assert found.witnesses.shape == (generic(6, 3), 50)
    check_certificates(found, normals)


def test_no_hyperplane_leaves_one_chamber():
    for normals in (np.zeros((0, 3)), np.zeros((2, 3))):
        for cone in (None, np.eye(3)):
            for exact in (False, True):
                found = chambers(normals, cone=cone, exact=exact)
                assert found.signs.tolist() == [[0] * len(normals)]
                assert found.margins.tolist() == [np.inf]
                assert found.complete
                assert cone is None or (found.witnesses > 0).all()
    assert chambers(np.zeros((2, 1)), offsets=[3, -4]).signs.tolist() == [[-1, 1]]
    assert chambers(np.zeros((0, 2)), offsets=[]).witnesses.shape == (1, 2)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("n", range(1, 6))
def test_an_empty_cone_has_no_chambers_and_says_so(n, exact):
    normals = np.random.default_rng(n).normal(size=(4, n))
    simplex = np.vstack([np.eye(n), -np.ones((1, n))])
    for cone in (simplex, np.zeros((1, n)), np.vstack([np.eye(1, n), -np.eye(1, n)])):
        found = chambers(normals, cone=cone, exact=exact)
        assert found.signs.shape == (0, 4)
        assert found.witnesses.shape == (0, n)
        assert found.complete
        assert "the cone is empty" in found.reason


def test_a_hyperplane_that_only_touches_the_cone_does_not_split_it():
    orthant = np.eye(4)
    assert len(chambers([[1, 1, 0, 0], [1, 2, 3, 4]], cone=orthant)) == 1
    assert len(chambers([[1, -1, 0, 0], [1, 0, 0, 0]], cone=orthant)) == 2


# Direct sums


def block_sum(*blocks):
    whole = np.zeros(np.sum([block.shape for block in blocks], axis=0), dtype=np.result_type(*blocks))
    row = column = 0
    for block in blocks:
        whole[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return whole


def unsplit(normals, **options):
    """The same door, with every arrangement enumerated whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summands, "SPLIT", False)
        return chambers(normals, **options)


def rotation(n, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


PIECES = {"braid": roots(4), "lines": np.array([[1, 0], [1, 1], [1, 2], [0, 1]]), "line": np.array([[1]])}
COUNTS = {"braid": 24, "lines": 8, "line": 2}


@pytest.mark.parametrize("names", ["braid line", "lines lines", "line line line", "braid lines line line"])
@pytest.mark.parametrize("exact", [False, True])
def test_chambers_of_a_direct_sum_are_the_products(names, exact, monkeypatch):
    blocks = [PIECES[name] for name in names.split()]
    whole, count = block_sum(*blocks), math.prod(COUNTS[name] for name in names.split())
    n = whole.shape[1]
    order = np.random.default_rng(1).permutation(len(whole))
    mixed = whole[order] @ np.tril(np.ones((n, n), dtype=int)) @ np.triu(np.ones((n, n), dtype=int))
    for normals in (whole, mixed):
        found = chambers(normals, exact=exact)
        assert (len(found), found.complete) == (count, True)
        assert "exact" in found.reason
        check_certificates(found, normals)
        np.testing.assert_array_equal(found.signs, unsplit(normals, exact=exact).signs)
    found = chambers(mixed @ rotation(n))
    assert (len(found), found.complete) == (count, True)
    check_certificates(found, mixed @ rotation(n))
    monkeypatch.setattr(restriction, "_cells", None)  # the integers stand alone
    monkeypatch.setattr(restriction, "COMPILED", False)
    if exact:
        monkeypatch.setattr(arrangements, "_kept_as_floats", lambda *_: False)
        assert len(chambers(mixed, exact=True)) == count


@st.composite
def direct_sums(draw):
    """normals, offsets or None, cone or None: small integers, blocks in shuffled rows and columns."""
    blocks = draw(st.lists(matrices((1, 4), (1, 3)), min_size=2, max_size=3))
    normals = block_sum(*blocks)
    k, n = normals.shape
    normals = normals[draw(st.permutations(range(k)))]
    offsets = draw(st.none() | arrays(int, k, elements=small))
    cone = None
    if draw(st.booleans()):
        walls = block_sum(*(draw(arrays(int, (1, block.shape[1]), elements=small)) for block in blocks))
        cone = walls[: draw(st.integers(0, len(walls)))]
    columns = draw(st.permutations(range(n)))
    return normals[:, columns], offsets, None if cone is None else cone[:, columns]


@slow
@given(direct_sums(), st.integers(0, 2**32 - 1))
def test_summands_and_the_whole_have_the_same_chambers(case, seed):
    normals, offsets, cone = case
    turn = rotation(normals.shape[1], seed)
    turned = normals @ turn, None if cone is None else cone @ turn
    floats = normals.astype(float), cone
    live = normals.any(axis=1)
    expected = unsplit(normals, offsets=offsets, cone=cone, exact=True)
    for rows, walls in (floats, turned, (normals, cone)):
        found = chambers(rows, offsets=offsets, cone=walls, exact=rows is normals)
        assert found.complete
        np.testing.assert_array_equal(found.signs[:, live], expected.signs[:, live])
        rows = np.where(live[:, None], rows, 0)
        if rows is normals or live.all():
            check_certificates(found, rows, offsets, walls)


@pytest.mark.parametrize("size", 10.0 ** -np.arange(5, 18))
@pytest.mark.parametrize("turned", [False, True])
def test_blocks_that_are_almost_connected_have_the_true_count_or_a_flag_or_are_equal_within_rounding(size, turned):
    rng = np.random.default_rng(3)
    normals = block_sum(rng.normal(size=(4, 2)), rng.normal(size=(4, 2)), np.eye(1))
    apart = len(chambers(normals))
    assert apart == 8 * 8 * 2
    normals[0, 2:4] += size * rng.normal(size=2)
    counts = {len(chambers(normals, exact=True))}
    assert min(counts) > apart
    if turned:  # exact answers then resolve rounding everywhere
        normals = normals @ rotation(5)
        counts.add(len(chambers(normals, exact=True)))
    found = chambers(normals)
    assert not found.complete or len(found) in counts or (size < 1e-13 and len(found) == apart)
    if size > 1e-13:
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        assert [len(part.rows) for part in summands.direct_sum(normals / length, 1e-9).parts] == [8, 1]


def test_what_rounding_hides_is_split_only_where_rounding_is_within_the_tolerance():
    normals = block_sum(PIECES["lines"], PIECES["lines"]) @ rotation(4)
    units = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    assert [part.rows.tolist() for part in summands.direct_sum(units, 1e-9).parts] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert summands.direct_sum(units, 0) is summands.WHOLE
    assert summands.direct_sum(units[:1], 1e-9) is summands.WHOLE


def test_summands_close_to_parallel_are_left_whole():
    normals = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 1e-5]])
    assert summands.direct_sum(normals / np.linalg.norm(normals, axis=1, keepdims=True), 1e-9) is summands.WHOLE
    found = chambers(normals)
    assert (len(found), found.complete) == (12, True)


def test_a_sum_of_affine_arrangements_has_the_product_of_their_counts():
    shi, offsets = deformed(4, (0, 1))
    normals = block_sum(shi, PIECES["lines"], np.array([[1], [1], [-1]]))
    shifts = np.concatenate([offsets, [0, 1, 2, 3], [0, 1, 0]])
    counts = 125, len(chambers(PIECES["lines"], offsets=[0, 1, 2, 3])), 3
    for exact in (False, True):
        found = chambers(normals, offsets=shifts, exact=exact)
        assert (len(found), found.complete) == (math.prod(counts), True)
        check_certificates(found, normals, shifts)
    turned = normals @ rotation(7)
    found = chambers(turned, offsets=shifts)
    assert (len(found), found.complete) == (math.prod(counts), True)
    check_certificates(found, turned, shifts)


def test_a_cone_splits_with_the_hyperplanes_or_binds_them():
    normals = block_sum(roots(4), PIECES["lines"])
    fundamental = np.eye(6)[:3] - np.eye(6)[1:4]
    assert len(chambers(normals, cone=fundamental)) == 8
    assert len(chambers(normals, cone=np.vstack([fundamental, np.eye(6)[4:]]))) == 1
    bound = np.array([[1, -1, 0, 0, 1, 0]])
    found = chambers(normals, cone=bound)
    assert found.complete
    np.testing.assert_array_equal(found.signs, unsplit(normals, cone=bound).signs)
    check_certificates(found, normals, cone=bound)


@pytest.mark.parametrize("exact", [False, True])
def test_a_product_past_the_limit_is_never_formed(exact):
    normals = block_sum(roots(4), np.eye(2, dtype=int))
    assert len(chambers(normals, max_chambers=96, exact=exact)) == 96
    with pytest.raises(TooManyChambers, match="at least 96 chambers") as caught:
        chambers(normals, max_chambers=95, exact=exact)
    assert caught.value.count == 96
    shi, offsets = deformed(3, (0, 1))
    twice, shifts = block_sum(shi, shi), np.tile(offsets, 2)
    assert len(chambers(twice, offsets=shifts, max_chambers=256, exact=exact)) == 256
    with pytest.raises(TooManyChambers) as caught:
        chambers(twice, offsets=shifts, max_chambers=255, exact=exact)
    assert 255 < caught.value.count <= 256
    with pytest.raises(TooManyChambers) as caught:
        chambers(np.eye(60), max_chambers=1000, exact=exact)
    assert 1000 < caught.value.count <= 2**60
    opposite = np.eye(60)[[59, 59]] * [[1], [-1]]
    found = chambers(np.eye(60), cone=opposite, max_chambers=4, exact=exact)
    assert found.complete
    assert not len(found)


def test_a_coupling_below_rounding_that_a_flat_blows_up_is_not_split_off():
    """On row 1, row 2 is e_3 - 3e-9 e_1 and not e_3: two chambers fewer, were rows 1, 2 and 3 a summand."""
    normals = np.array([[1, 0, 0], [3e-15, 1, 0], [0, 1, 1e-6], [0, 0, 1]])
    units = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    split = summands.direct_sum(units, 1e-9)
    assert len(split.parts) == 2
    assert split.loud <= 1e-9
    found = chambers(normals)
    assert (len(found), found.complete) == (14, True)
    assert "exact" in found.reason
    shifts, level = [1e10, 1e-5, 0], np.array([[1, 0], [0, 1], [1e-14, 1]])
    found = chambers(level, offsets=shifts)
    assert len(found) == 7 or not found.complete


# Near-degenerate input: the true count, or a flag, or a stated tolerance


@pytest.mark.parametrize("exponent", range(1, 13))
def test_the_noisy_braid_has_its_true_count_or_a_flag(exponent):
    normals = noisy_braid(10.0**-exponent, exponent)
    found = chambers(normals)
    assert len(found) == 2942 or not found.complete
    if exponent > 5:
        assert "exact" in found.reason or not found.complete


@pytest.mark.parametrize(("k", "n", "step"), [(12, 4, 1.0), (12, 4, 0.1), (10, 5, 0.03), (9, 6, 0.01)])
def test_moment_curves_have_generic_counts_or_a_flag(k, n, step):
    normals = np.vander(1 + step * np.arange(k), n, increasing=True)
    found = chambers(normals)
    assert len(found) == generic(k, n) or not found.complete


@slow
@given(matrices((2, 7), (2, 3)), st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_noise_is_resolved_or_taken_for_rounding_and_the_reason_says_which(normals, exponent, seed):
    noise = np.random.default_rng(seed).choice([-1, 0, 1], size=normals.shape)
    assume(normals.any(axis=1).all())
    moved = normals + 2.0 ** -round(exponent * math.log2(10)) * noise  # without rounding
    units = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    squares = itertools.combinations(units, units.shape[1])
    minors = [abs(np.linalg.det(rows)) for rows in squares]
    found, exact = chambers(moved), chambers(moved, exact=True)
    assert exact.complete
    assert len(found) <= len(exact)
    if exponent < 5 and all(minor < 1e-15 or minor > 1e-9 for minor in minors):  # each nonzero one far above rounding
        np.testing.assert_array_equal(found.signs, exact.signs)
    assert "rows within rounding taken as equal" in found.reason or "exact" in found.reason


def test_the_tolerance_and_the_exact_question_differ_on_rounding_noise():
    normals = noisy_braid(2.0**-52)
    rough, exact = chambers(normals), chambers(normals, exact=True)
    assert len(rough) == 720
    assert "rows within rounding taken as equal" in rough.reason
    assert len(exact) > 720
    assert exact.complete


def test_integers_are_answered_exactly_and_the_reason_says_how(monkeypatch):
    whole = np.array(roots(5), dtype=int)
    assert "as many as the proved count" in chambers(whole).reason
    assert "at tolerance 1e-09" in chambers(whole.astype(float)).reason
    assert "at tolerance 1e-09" in chambers(whole, cone=[[1, 0, 0, 0, 0]]).reason
    monkeypatch.setattr(arrangements, "count_chambers", lambda *_, **__: 119)
    found = chambers(whole)  # a list that is not as long as it should be is made again in integers
    assert len(found) == 120
    assert found.reason.startswith("deletion-restriction in exact arithmetic")


@pytest.mark.parametrize(("k", "n"), [(20, 6), (18, 10)])
def test_a_moment_curve_is_proved_by_its_count_or_flagged(k, n):
    found = chambers(np.vander(1.0 + np.arange(k), n, increasing=True))
    assert len(found) == generic(k, n) or not found.complete


def test_an_ambiguity_too_large_to_decide_unasked_is_reported():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(24, 6))
    normals[1] = normals[0] + 1e-11 * rng.normal(size=6)
    found = chambers(normals)
    assert not found.complete
    assert "neither equal nor distinct at tolerance 1e-09" in found.reason
    assert f"exact=True decides, among up to {generic(24, 6)} chambers" in found.reason
    check_certificates(found, normals)


def test_a_broken_count_identity_is_a_flag(monkeypatch):
    def lazy(letters, margin, flat, shift):
        return flat.astype(np.uint64) << shift

    monkeypatch.setattr(restriction, "COMPILED", False)
    monkeypatch.setattr(restriction, "_key", lazy)
    monkeypatch.setattr(arrangements, "UNASKED", 0)
    monkeypatch.setattr(summands, "SPLIT", False)
    found = chambers(np.eye(4))
    assert not found.complete
    assert "break the count identity" in found.reason
    monkeypatch.setattr(arrangements, "UNASKED", 1e6)
    assert len(chambers(np.eye(4))) == 16  # the exact route has keys of its own


def test_a_witness_that_does_not_show_its_signs_is_dropped_and_reported(monkeypatch):
    route = restriction.float_route

    def spoiled(*arguments):
        points, doubts = route(*arguments)
        return np.vstack([points[1:], points[1:2], np.eye(1, 4)]), doubts

    monkeypatch.setattr(restriction, "float_route", spoiled)
    monkeypatch.setattr(arrangements, "UNASKED", 0)
    monkeypatch.setattr(summands, "SPLIT", False)
    found = chambers(np.eye(4))
    assert not found.complete
    assert "4 witnesses do not show their signs on the original rows" in found.reason
    assert len(found) == 14
    check_certificates(found, np.eye(4))


def test_isotropic_position_saves_a_thin_arrangement_from_the_exact_route():
    thin = np.random.default_rng(3).normal(size=(12, 4)) * [1, 1, 1e-10, 1e-10]
    found = chambers(thin)
    assert found.complete
    assert len(found) == generic(12, 4)


# Exact arithmetic


def test_fractions_and_large_integers_count_exactly():
    third = Fraction(1, 3)
    normals = np.array([[1, 0], [third, 1], [1, 3], [10**20, 1], [10**20 + 1, 1]], dtype=object)
    found = chambers(normals, exact=True)
    assert len(found) == 8  # rows 2 and 3 are parallel, the last two are not
    assert found.complete
    tiny = np.array([[Fraction(1, 10**400), 0], [0, 1]], dtype=object)
    assert len(chambers(tiny, exact=True)) == 4
    assert len(chambers(tiny)) == 4  # where floats would see a zero row


def test_chambers_too_thin_for_floats_keep_their_signs_and_have_margin_zero():
    eps = Fraction(1, 10**40)
    normals = np.array([[1, 0, 0], [1, eps, 0], [1, 0, eps], [0, 1, 1]], dtype=object)
    found = chambers(normals, exact=True)
    assert found.complete
    assert len(found) == generic(4, 3) == len(np.unique(found.signs, axis=0))
    assert "too thin for a float witness" in found.reason
    assert (found.margins == 0).any()


def test_a_thin_cone_is_decided_exactly():
    thin = [[1.0, 0, 0], [-1.0, 2.0**-60, 0], [0, 0, 1.0]]
    assert chambers([[0, 1, -1]], cone=thin, exact=True).signs.tolist() == [[-1], [1]]
    found = chambers([[0, 1, -1]], cone=np.vstack([thin, [0, -1.0, 0]]), exact=True)
    assert not len(found)
    assert found.complete


# Limits, arguments, order of work


@pytest.mark.parametrize("exact", [False, True])
def test_too_many_chambers_carries_a_count_that_is_reached(exact):
    for normals, options, total in (
        (np.eye(8), {}, 256),
        (roots(4), {}, 24),
        (roots(5), {"offsets": np.ones(10)}, 246),
        (np.eye(2), {"cone": [[1, 1]]}, 3),
        (np.eye(2), {}, 4),
    ):
        assert len(chambers(normals, max_chambers=total, exact=exact, **options)) == total
        with pytest.raises(TooManyChambers, match="raise max_chambers") as caught:
            chambers(normals, max_chambers=total - 1, exact=exact, **options)
        assert total - 1 < caught.value.count <= total
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.count, str(copy)) == (caught.value.count, str(caught.value))


def test_an_enormous_arrangement_stops_early():
    normals = np.random.default_rng(0).normal(size=(60, 10))
    with pytest.raises(TooManyChambers):
        chambers(normals, max_chambers=1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normals": [1, 2]}, r"normals must be a matrix.*got shape \(2,\)"),
        ({"normals": np.zeros((2, 0))}, r"normals must be a matrix.*got shape \(2, 0\)"),
        ({"normals": [[1, np.nan]]}, "normals must be finite.*drop those rows"),
        ({"normals": [["a", "b"]]}, "normals must be an array of real numbers"),
        ({"normals": [[1, 2], [3]]}, "normals must be an array of real numbers"),
        ({"normals": np.array([[10**400]], dtype=object)}, "normals must be an array of real"),
        ({"offsets": [1.0]}, r"offsets must be \(2,\), one for each normal; got \(1,\)"),
        ({"offsets": [1.0, np.inf]}, "offsets must be finite"),
        ({"cone": [1, 0]}, "cone must be a matrix"),
        ({"cone": [[1, 0, 0]]}, r"cone must be \(c, 2\), as wide as normals; got \(1, 3\)"),
        ({"cone": [[1, np.nan]]}, "cone must be finite"),
        ({"tol": -1}, "tol is a distance of unit normals"),
        ({"tol": math.nan}, "tol is a distance of unit normals"),
        ({"max_chambers": 1}, "max_chambers must be at least 2; got 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        chambers(**{"normals": np.eye(2), **arguments})


def test_results_are_read_only():
    found = chambers(np.eye(2))
    assert found.signs.dtype == np.int8
    for array in (found.signs, found.witnesses, found.margins):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def same(a, b):
    return (a.reason, a.complete) == (b.reason, b.complete) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("signs", "witnesses", "margins")
    )


def test_the_same_input_gives_the_same_output_for_every_mapper(capsys):
    rng = np.random.default_rng(5)
    normals, cone = rng.normal(size=(28, 6)), rng.normal(size=(8, 6))
    cases = (
        {"normals": normals},
        {"normals": roots(5), "exact": True},
        {"normals": normals, "cone": cone},
        {"normals": normals[:, :3], "offsets": normals[:, 3]},
    )
    with ProcessPoolExecutor(2) as pool:
        for case in cases:
            first = chambers(**case)
            assert same(first, chambers(**case))
            assert same(first, chambers(**case, mapper=pool.map))
            assert same(first, chambers(**case, progress=True))
        with pytest.raises(TooManyChambers):
            chambers(normals, max_chambers=100, mapper=pool.map)
    assert "chambers: 100%" in capsys.readouterr().err


def test_the_work_is_cut_into_pieces_only_where_it_is_large(monkeypatch):
    monkeypatch.setattr(restriction, "COMPILED", False)
    pieces = []

    def counting(work, items):
        items = list(items)
        pieces.append(len(items))
        return map(work, items)

    chambers(np.random.default_rng(0).normal(size=(28, 6)), mapper=counting)
    chambers(roots(4), mapper=counting)
    assert pieces == [11, 1]


def test_central_and_affine_arrangements_solve_no_program(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a linear program or least-squares problem was solved")

    monkeypatch.setattr(halfspaces, "linprog", forbidden)
    monkeypatch.setattr(halfspaces, "nnls", forbidden)
    assert len(chambers(roots(6))) == 720
    assert len(chambers(roots(4), offsets=np.ones(6))) == 36
    assert len(chambers([[1, 0], [0, 1]], cone=[[1, 1], [1, -1]])) == 2  # angles suffice in a plane


def test_a_cone_takes_at_most_one_least_squares_problem_a_flat(monkeypatch):
    calls = []
    solve = halfspaces.nnls
    monkeypatch.setattr(halfspaces, "nnls", lambda *a: calls.append(a) or solve(*a))
    monkeypatch.setattr(halfspaces, "linprog", None)
    rng = np.random.default_rng(2)
    normals, cone = rng.normal(size=(6, 5)), np.eye(5)
    chambers(normals, cone=cone)
    assert len(calls) <= sum(math.comb(6, i) for i in range(3))  # dimensions 5, 4, 3


# Strict directions and Gordan's alternative


@slow
@given(matrices((0, 8), (1, 5)))
def test_either_a_strict_direction_or_gordan_multipliers(rows):
    direction, margin, multipliers = strict_direction(rows)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    units = rows / np.where(length > 0, length, 1)
    if len(rows):
        assert (multipliers >= 0).all()
        assert math.isclose(multipliers.sum(), 1)
    bound = np.linalg.norm(multipliers @ units)
    if direction is None:
        assert bound <= 1e-12
        assert math.isclose(margin, bound, abs_tol=1e-12)
        assert not len(chambers(np.zeros((0, rows.shape[1])), cone=rows))
    else:
        assert math.isclose(np.linalg.norm(direction), 1)
        assert (rows @ direction > 0).all()
        if len(rows):
            assert math.isclose(margin, (units @ direction).min(), abs_tol=1e-12)
            assert margin >= bound - 1e-9  # weak duality: the largest possible margin


def test_a_stalled_active_set_is_replaced_by_a_linear_program(monkeypatch):
    def stalled(*_):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(halfspaces, "nnls", stalled)
    direction, margin, _ = strict_direction([[1, 0], [1, 1e-3], [1, -2]])
    assert direction is not None
    assert margin > 0.1
    direction, margin, multipliers = strict_direction([[1, 0], [-1, 1], [-1, -1], [5, 5]])
    assert direction is None
    assert margin < 1e-12
    assert (multipliers >= 0).all()


def test_a_zero_row_takes_the_whole_multiplier():
    direction, margin, multipliers = strict_direction([[1.0, 0], [0, 0], [0, 1]])
    assert direction is None
    assert margin == 0
    assert multipliers.tolist() == [0, 1, 0]


def test_a_thin_cone_keeps_the_digits_of_its_center():
    rows = [[1e-7, 1.0], [1e-7, -1.0]]
    direction, margin, _ = strict_direction(rows)
    assert direction is not None
    assert math.isclose(margin, 1e-7, rel_tol=1e-6)
    assert strict_direction(rows, tol=1e-6)[0] is None


def test_strict_direction_refuses_what_is_no_matrix():
    for rows in ([1, 2], np.zeros((2, 0)), [[np.nan]]):
        with pytest.raises(ValueError, match="rows must be"):
            strict_direction(rows)
