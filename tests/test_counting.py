"""Exact counts: classical arrangements, invariances, the laws of the characteristic polynomial, a slow twin."""

import itertools
import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clarke import counting
from clarke.arrangements import chambers
from clarke.counting import characteristic_polynomial, count_chambers

small = st.integers(-2, 2)
slow = settings(deadline=None, max_examples=60)


@st.composite
def arrangements(draw, rows=7, columns=4, offsets=None):
    """normals (k, n), offsets or None, small integers: zero, equal and opposite rows abound."""
    k, n = draw(st.integers(0, rows)), draw(st.integers(1, columns))
    some = draw(st.booleans()) if offsets is None else offsets
    return draw(arrays(int, (k, n), elements=small)), draw(arrays(int, k, elements=small)) if some else None


def roots(n, signs=(-1,)):
    """e_i + s e_j, i < j, s in signs: braid (s = -1), D_n (s = -1, 1)."""
    e = np.eye(n, dtype=int)
    return np.array([e[i] + s * e[j] for i, j in itertools.combinations(range(n), 2) for s in signs]).reshape(-1, n)


def cube(d):
    return np.array(list(itertools.product((0, 1), repeat=d)))


def deformed(n, levels):
    """x_i - x_j = l for i < j and l in levels: Shi (0, 1), Catalan (-1, 0, 1), Linial (1,)."""
    return np.repeat(roots(n), len(levels), axis=0), np.tile(levels, len(roots(n)))


def halves(d):
    return np.array(list(itertools.product((-1, 1), repeat=d)))


F4 = np.vstack([2 * np.eye(4, dtype=int), 2 * roots(4, (-1, 1)), halves(4)])
E8 = np.vstack([2 * roots(8, (-1, 1)), halves(8)[halves(8).prod(axis=1) == 1]])
E6 = E8[(E8[:, 5] == E8[:, 6]) & (E8[:, 6] == -E8[:, 7])]


def noisy_braid(size):
    """x_i = 0 and x_i = x_j in R^5, moved by `size`."""
    normals = np.vstack([np.eye(5), roots(5)])
    return normals + size * np.random.default_rng(0).normal(size=normals.shape)


def generic(k, n):
    return 2 * sum(math.comb(k - 1, i) for i in range(n))


def from_roots(values):
    """The polynomial with these roots, highest power first."""
    chi = [1]
    for x in values:
        chi = [a - x * b for a, b in zip([*chi, 0], [0, *chi], strict=True)]
    return chi


def product(p, q):
    return [sum(p[i] * q[s - i] for i in range(len(p)) if 0 <= s - i < len(q)) for s in range(len(p) + len(q) - 1)]


def at(chi, t):
    return sum(c * t**i for i, c in enumerate(reversed(chi)))


def in_many_primes(monkeypatch):
    """As if integers were long: residues modulo several primes, some of which fail on some rows."""
    monkeypatch.setattr(counting, "SMALL", 4)
    monkeypatch.setattr(counting, "LARGE", 1009)


@pytest.mark.parametrize(
    ("normals", "exponents"),
    [
        (np.eye(6, dtype=int), [1] * 6),
        (roots(6), range(6)),
        (np.vstack([np.eye(5, dtype=int), roots(5, (-1, 1))]), [1, 3, 5, 7, 9]),
        (roots(5, (-1, 1)), [1, 3, 5, 7, 4]),
        (F4, [1, 5, 7, 11]),
        (E6, [1, 4, 5, 7, 8, 11, 0, 0]),
    ],
    ids="boolean braid B5 D5 F4 E6".split(),
)
def test_the_roots_of_a_reflection_arrangement_are_its_exponents(normals, exponents):
    assert characteristic_polynomial(normals) == from_roots(exponents)
    assert count_chambers(normals) == math.prod(1 + e for e in exponents)


@pytest.mark.parametrize(("d", "count"), list(enumerate([2, 6, 32, 370, 11_292, 1_066_044], 1)))
def test_resonance_arrangements(d, count):
    assert count_chambers(cube(d)[1:]) == count


@pytest.mark.parametrize(("d", "count"), list(enumerate([4, 14, 104, 1_882, 94_572], 1)))
def test_threshold_functions(d, count):
    assert count_chambers(np.column_stack([np.ones(2**d), cube(d)])) == count


@pytest.mark.parametrize("d", range(1, 8))
def test_cross_polytopes(d):
    e = np.eye(d, dtype=int)
    assert count_chambers(np.column_stack([np.vstack([e, -e]), np.ones(2 * d, int)])) == 2 * 3**d - 2**d


@pytest.mark.parametrize("n", range(2, 7))
def test_deformations_of_the_braid_arrangement(n):
    shi, catalan, linial = (deformed(n, levels) for levels in ((0, 1), (-1, 0, 1), (1,)))
    assert count_chambers(shi[0], offsets=shi[1]) == (n + 1) ** (n - 1)
    assert characteristic_polynomial(shi[0], offsets=shi[1]) == from_roots([0] + [n] * (n - 1))
    assert count_chambers(catalan[0], offsets=catalan[1]) == math.factorial(n) * math.comb(2 * n, n) // (n + 1)
    assert count_chambers(linial[0], offsets=linial[1]) == [2, 7, 36, 246, 2104][n - 2]


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (9, 2), (12, 3), (30, 4), (20, 6), (16, 8), (3, 6)])
def test_general_position(shape):
    k, n = shape
    rng = np.random.default_rng(k)
    normals, offsets = rng.normal(size=shape), rng.normal(size=k)
    merged = 1 if n == 1 else k
    assert count_chambers(normals) == generic(merged, n)
    affine = characteristic_polynomial(normals, offsets=offsets)
    assert affine == [(-1) ** r * math.comb(k, r) for r in range(n + 1)]
    assert abs(at(affine, 1)) == (math.comb(k - 1, n) if k >= n else 0)  # the bounded chambers
    assert abs(at(affine, -1)) == count_chambers(normals, offsets=offsets)


@pytest.mark.parametrize(("k", "n"), [(20, 6), (18, 10)])
def test_points_of_a_moment_curve_are_in_general_position(k, n):
    assert count_chambers(np.vander(np.arange(1, k + 1), n)) == generic(k, n)
    assert count_chambers(np.vander(np.linspace(-1, 1, k), n)) == generic(k, n)


@pytest.mark.parametrize("size", [1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 0])
def test_noise_however_small_is_seen(size):
    assert count_chambers(noisy_braid(size)) == (2942 if size else 720)


def test_a_point_of_order_three_that_only_all_digits_see():
    """Three lines through one point, whose coordinates have 60 digits, and the same moved by one unit."""
    a, b = 3**125, 7**70
    lines = np.array([[1, 0, -a], [0, 1, -b], [1, 1, -a - b], [1, 1, -a - b - 1]], dtype=object)
    assert count_chambers(lines[:3]) == 6
    assert count_chambers(lines[[0, 1, 3]]) == 8
    assert characteristic_polynomial(lines) == [1, -4, 5, -2]


def test_minors_that_vanish_modulo_the_primes_in_use_are_not_zero():
    p, q = 2**31 - 1, 2**31 - 19
    assert all(map(counting._is_prime, (p, q)))
    for m in (p, q, p * q, p**3 * q):
        normals = np.array([[1, 0, 0], [0, 1, 0], [1, m, 0], [1, 1, m], [0, 1, m], [2, 1 + m, m]], dtype=object)
        found = chambers(normals, exact=True)
        assert count_chambers(normals) == len(found)
        assert count_chambers(m * normals) == len(found)
        assert count_chambers(np.array([[1, 0], [1, m], [1, 2 * m]], dtype=object)) == 6
        assert count_chambers(np.ones((3, 1), int), offsets=np.array([0, m, 2 * m], dtype=object)) == 4


def test_many_parallel_floats_need_many_primes():
    normals = np.repeat(np.random.default_rng(1).normal(size=(5, 3)), 3, axis=0)
    offsets = np.random.default_rng(2).normal(size=15)
    # one of the three parallel planes, or none, in each of five directions
    chi = [(-3) ** r * math.comb(5, r) for r in range(4)]
    assert characteristic_polynomial(normals, offsets=offsets) == chi


@slow
@given(arrangements())
def test_as_many_as_the_enumeration_lists(case):
    normals, offsets = case
    found = chambers(normals, offsets=offsets, exact=True)
    chi = characteristic_polynomial(normals, offsets=offsets)
    assert found.complete
    assert count_chambers(normals, offsets=offsets) == len(found) == sum(map(abs, chi)) == abs(at(chi, -1))
    assert len(chi) == normals.shape[1] + 1
    assert all(type(c) is int and c * (-1) ** r >= 0 for r, c in enumerate(chi))


@slow
@given(arrangements(rows=9, columns=5))
def test_every_route_gives_the_same_polynomial(case):
    """One small prime, one large, several (some of them failing), and the kernel of numba, uncompiled."""
    expected = characteristic_polynomial(case[0], offsets=case[1])
    for settle in (
        lambda patch: patch.setattr(counting, "SMALL", 4),
        lambda patch: patch.setattr(counting, "BLOCK", 3),
        in_many_primes,
        partial(_with_kernel, small=True),
        partial(_with_kernel, small=False),
    ):
        with pytest.MonkeyPatch.context() as patch:
            settle(patch)
            assert characteristic_polynomial(case[0], offsets=case[1]) == expected


def _with_kernel(patch, small):
    patch.setattr(counting, "WORTH", -1)
    patch.setattr(counting, "_compiled", lambda: counting._depth_first)
    if not small:
        patch.setattr(counting, "SMALL", 4)


@pytest.mark.parametrize(
    "normals", [cube(5)[1:], roots(7), np.vander(np.arange(1, 12), 5)], ids="cube braid curve".split()
)
def test_numba_and_numpy_agree(monkeypatch, normals):
    pytest.importorskip("numba")
    monkeypatch.setattr(counting, "WORTH", math.inf)
    expected = characteristic_polynomial(normals)
    assert counting._compiled() is not None
    monkeypatch.setattr(counting, "WORTH", -1)
    assert characteristic_polynomial(normals) == expected


def test_without_numba_or_a_place_for_its_cache_the_answer_is_the_same(monkeypatch):
    def refuse(*args, cache=False, **kwargs):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(counting, "WORTH", -1)
    for module in (None, type("numba", (), {"njit": staticmethod(refuse)})):
        monkeypatch.setitem(__import__("sys").modules, "numba", module)
        monkeypatch.setattr(counting, "_compiled", counting._compiled.__wrapped__)
        assert count_chambers(cube(4)[1:]) == 370
        monkeypatch.undo()
        monkeypatch.setattr(counting, "WORTH", -1)


def test_rows_that_share_a_hash_are_still_told_apart(monkeypatch):
    class Same:
        def integers(self, *args, size, **kwargs):
            return np.zeros(size, dtype=np.uint64)  # times 2, plus 1: the sum of the entries

    monkeypatch.setattr(counting, "SMALL", 4)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Same())
    assert characteristic_polynomial(roots(6)) == from_roots(range(6))


@slow
@given(arrangements(), st.data())
def test_order_scale_and_coordinates_do_not_matter(case, data):
    normals, offsets = case
    k, n = normals.shape
    chi = characteristic_polynomial(normals, offsets=offsets)
    order = data.draw(st.permutations(range(k)))
    scale = np.array(data.draw(st.lists(st.fractions().filter(bool), min_size=k, max_size=k)), dtype=object)
    lower, upper = (np.tril(data.draw(arrays(int, (n, n), elements=small)), -1) + np.eye(n, dtype=int) for _ in "LU")
    moved = (scale[:, None] * (normals @ lower @ upper.T))[order]
    shifted = offsets
    if offsets is not None:
        shifted = (scale * (offsets + normals @ data.draw(arrays(int, n, elements=small))))[order]
    assert characteristic_polynomial(moved, offsets=shifted) == chi


@slow
@given(arrangements(offsets=True))
def test_deletion_and_restriction(case):
    """chi(A) = chi(A') - chi(A''), with A'' in the coordinates of the hyperplane x_1 = t."""
    normals, offsets = case
    n = normals.shape[1]
    wall, t = np.eye(1, n, dtype=int), 1
    equal = (normals[:, :1] * wall == normals).all(axis=1) & (normals[:, 0] != 0) & (offsets == t * normals[:, 0])
    normals, offsets = normals[~equal], offsets[~equal]
    whole = characteristic_polynomial(np.vstack([normals, wall]), offsets=np.append(offsets, t))
    deleted = characteristic_polynomial(normals, offsets=offsets)
    restricted = [1] if n == 1 else characteristic_polynomial(normals[:, 1:], offsets=offsets - t * normals[:, 0])
    assert whole == [a - b for a, b in zip(deleted, [0, *restricted], strict=True)]


@slow
@given(arrangements(rows=5, columns=3, offsets=True), arrangements(rows=5, columns=3, offsets=True))
def test_the_polynomial_of_a_direct_sum_is_the_product(a, b):
    zeros = np.zeros((len(a[0]), b[0].shape[1]), int), np.zeros((len(b[0]), a[0].shape[1]), int)
    both = np.block([[a[0], zeros[0]], [zeros[1], b[0]]]), np.append(a[1], b[1])
    for offsets in (lambda t: None, lambda t: t):
        chi = [characteristic_polynomial(v, offsets=offsets(t)) for v, t in (a, b, both)]
        assert chi[2] == product(chi[0], chi[1])


@given(arrangements())
def test_integers_fractions_and_floats_count_alike(case):
    normals, offsets = case
    expected = count_chambers(normals, offsets=offsets)
    for change in (
        lambda a: a.astype(float),
        lambda a: a.astype(np.int8),
        lambda a: np.array([Fraction(int(x), 7) for x in a.ravel()], dtype=object).reshape(a.shape),
    ):
        assert count_chambers(change(normals), offsets=None if offsets is None else change(offsets)) == expected


def test_without_hyperplanes_space_is_one_chamber():
    assert count_chambers(np.zeros((0, 3))) == count_chambers(np.zeros((2, 3))) == 1
    assert count_chambers(np.zeros((2, 3)), offsets=[0, 1]) == 1
    assert characteristic_polynomial(np.zeros((2, 3)), offsets=[0, 1]) == [1, 0, 0, 0]


def test_equal_hyperplanes_count_once_and_parallel_ones_each():
    normals = np.array([[1, 2], [2, 4], [-1, -2], [1, 2]])
    assert count_chambers(normals) == 2
    assert count_chambers(normals, offsets=[1, 2, -1, 3]) == 3
    assert characteristic_polynomial(normals, offsets=[1, 2, -1, 3]) == [1, -2, 0]


def test_what_is_no_arrangement_is_refused():
    for call in (count_chambers, characteristic_polynomial):
        with pytest.raises(ValueError, match=r"normals must be a matrix .* got shape \(3,\)"):
            call([1, 2, 3])
        with pytest.raises(ValueError, match="normals must be finite"):
            call([[1.0, np.nan]])
        with pytest.raises(ValueError, match="normals must be an array of real numbers"):
            call([["a", "b"]])
        with pytest.raises(ValueError, match=r"offsets must be \(1,\), one for each normal; got \(2,\)"):
            call([[1, 2]], offsets=[1, 2])
        with pytest.raises(ValueError, match="offsets must be finite"):
            call([[1, 2]], offsets=[np.inf])
