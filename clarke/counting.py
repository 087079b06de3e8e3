"""How many chambers a hyperplane arrangement has, exactly, and its characteristic polynomial.

    chi(A, t) = sum_r (-1)^r w_r t^(n - r),        #chambers(A) = (-1)^n chi(A, -1) = w_0 + .. + w_n   [Z75].

w_r counts chains: take a hyperplane h_j, restrict the hyperplanes before it to it, merge those that became
equal, take one of them, r times over. For, by deletion and restriction of the last hyperplane again and again,

    chi(A) = t^n - sum_j chi({h_1 .. h_{j-1}} restricted to h_j),

whatever the order of the hyperplanes, in each restriction anew. With one order kept throughout, the chains are
Whitney's sets without broken circuit [OT92].

**Exactness.** Rows are independent iff one of their minors, as integers, is not zero, and minors are bounded
(Hadamard). So arithmetic is modulo a number Q above that bound: rows are independent iff one of their minors is not
zero modulo Q, which no invertible change of coordinates modulo Q alters, nor a restriction that divides by a number
invertible modulo Q. Q is one prime for small integers, else a product of primes below 2^31, handled residue by
residue. An entry to divide by that vanishes modulo some of the primes only is moved away by a change of coordinates,
flat by flat; if that fails, later primes are tried, and finitely many divide some minor. Every number returned is
proved, none is probable.

Where one prime does not reach the bound, one is tried alone first. Modulo p independent rows may become dependent,
never the reverse, so a circuit C contains a circuit modulo p. Without its first element, that one lies in C without
its first element. So a set free of broken circuits modulo p is free of them, and no w_r modulo p exceeds the true
one. Likewise no true one exceeds that of general position: if the sum modulo p is 2 sum_{i<n} C(k - 1, i), it is true.

[OT92] Orlik, Terao. Arrangements of Hyperplanes. Springer (1992).
[Z75] Zaslavsky. Facing up to arrangements. Memoirs of the AMS 154 (1975).
"""

import math
from functools import cache
from itertools import count, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import integers
from .halfspaces import finite, matrix

BLOCK = 2**16  # pairs of hyperplanes restricted at once: the arrays stay in cache
SMALL = 2**15  # primes below have a table of inverses, and products in 32 bits
LARGE = 2**31 - 1  # the largest prime with products in 64 bits
WORTH = 1e8  # chains, if in general position, from which numba pays: some seconds


def count_chambers(normals: ArrayLike, *, offsets: ArrayLike | None = None) -> int:
    """The number of chambers of the hyperplanes {x : normals[i] . x = offsets[i]}: the pieces they cut R^n into.

    normals (k, n), offsets (k,) or None for 0: ints, Fractions (dtype object), or floats, which count at their
    exact dyadic values. Zero normals are ignored, equal hyperplanes count once; without any, R^n is one chamber.
    The number is proved, without tolerance. Time grows with it and with the digits of the input, memory hardly.
    ValueError for wrong arguments.
    """
    return sum(map(abs, characteristic_polynomial(normals, offsets=offsets)))


def characteristic_polynomial(normals: ArrayLike, *, offsets: ArrayLike | None = None) -> list[int]:
    """The coefficients of chi(A, t) = sum_X mu(X) t^dim X, highest power first: n + 1 integers of alternating sign.

    A is the arrangement of the hyperplanes {x : normals[i] . x = offsets[i]} in R^n, X its intersections,
    arguments as in `count_chambers`; (-1)^n chi(-1) is the number of chambers and, for offsets, (-1)^r chi(1),
    with r the rank of the normals, that of bounded ones modulo lines [Z75]. An affine arrangement is computed
    as (t - 1) chi(A, t) = chi(cone, t), the cone having rows (v_i, -t_i) and the hyperplane at infinity.
    """
    rows = _rows(*_checked(normals, offsets))
    n = rows.shape[1]
    rows = integers.distinct(rows[(rows != 0).any(axis=1)])
    w = _whitney(rows) + [0] * n
    chi = [(-1) ** r * w[r] for r in range(n + 1)]
    if offsets is None:
        return chi
    quotient = [0]
    for coefficient in chi[:-1]:
        quotient.append(coefficient + quotient[-1])
    return quotient[1:]


# The door: arguments in, primitive integer rows out


def _checked(normals, offsets):
    normals = matrix("normals", normals)
    if offsets is not None:
        offsets = finite("offsets", offsets)
        if offsets.shape != normals.shape[:1]:
            raise ValueError(f"offsets must be ({len(normals)},), one for each normal; got {offsets.shape}")
    return normals, offsets


def _rows(normals, offsets):
    """Primitive integer rows of the central arrangement: the normals, or their cone."""
    rows = integers.fractions(normals)
    if offsets is not None:
        rows = np.column_stack([rows, -integers.fractions(offsets)])[(rows != 0).any(axis=1)]
        rows = np.vstack([rows, integers.fractions(np.eye(1, rows.shape[1], rows.shape[1] - 1, dtype=int))])
    return integers.primitive(rows)


# The numbers w_r, in a ring of residues


class _Ring(NamedTuple):
    """Z / prod p: the primes, an int or (L, 1), and the inverses (p,) modulo a small one."""

    primes: int | np.ndarray
    inverses: np.ndarray | None = None


class _Unlucky(ArithmeticError):
    """A number to be divided by is zero modulo some of the primes, but not all."""


def _whitney(rows):
    """[w_0, .., w_rank] of primitive rows (k, n), no two parallel."""
    k = len(rows)
    if not k:
        return [1]
    rows = integers.reduced(rows[:, _independent_columns(rows)])
    rank = rows.shape[1]
    bound = _hadamard(rows)
    if bound < SMALL // 2:
        p = next(p for p in range(bound + 1, SMALL) if _is_prime(p))
        return _numbers(rows, _Ring(p, np.append(0, _inverted(np.arange(1, p)[None], _Ring(p))).astype(np.int32)))
    if bound >= LARGE:
        alone = _numbers(rows, _Ring(LARGE))
        if sum(alone) == 2 * sum(math.comb(k - 1, i) for i in range(rank)):
            return alone
    for skipped in count():  # the largest primes but so many
        primes = islice(filter(_is_prime, range(LARGE, SMALL, -2)), skipped, None)
        used = [next(primes)]
        while math.prod(used) <= bound:
            used.append(next(primes))
        try:
            return _numbers(rows, _Ring(used[0] if len(used) == 1 else np.array(used)[:, None]))
        except _Unlucky:
            pass


def _independent_columns(rows):
    """The first columns that span the others: the rows have the same dependencies on these alone."""
    basis = {}
    for row in rows:
        for q, other in basis.items():
            if row[q]:
                row = row * other[q] - other * row[q]
        if row.any():
            basis[int(np.flatnonzero(row)[0])] = row // math.gcd(*row)
        if len(basis) == rows.shape[1]:
            break
    return sorted(basis)


def _hadamard(rows):
    """At least every minor: their squares are at most a product of squared lengths of rows, or of columns."""
    r, squares = rows.shape[1], rows**2
    lengths = np.sort(np.maximum(squares.sum(axis=1), 1))[-r:]
    columns = np.sort(squares, axis=0)[-r:].sum(axis=0)
    return math.isqrt(min(math.prod(lengths), math.prod(columns))) + 1


@cache
def _is_prime(p):
    return p == 2 or (p % 2 and (p % np.arange(3, math.isqrt(p) + 1, 2)).all())


def _numbers(rows, ring):
    """[w_0, .., w_rank] of the rows (k, rank) modulo the primes; w_rank for free, as chi(1) = 0."""
    k, rank = rows.shape
    rows = np.hstack([np.zeros((k, max(0, 3 - rank)), dtype=object), rows])
    residues = np.array([rows.T % p for p in np.ravel(ring.primes).tolist()], dtype=np.int64).swapaxes(0, 1)
    residues = residues if ring.inverses is None else residues.astype(np.int32)
    flats = _distinct(residues, np.zeros(k, dtype=int), 1, ring)  # primitive rows vanish modulo no prime
    w = np.zeros(len(residues) + 1, dtype=np.int64)
    w[0] = 1
    descend = _compiled() if math.comb(k, rank - 1) > WORTH and isinstance(ring.primes, int) else None
    if descend is None:
        _descend(flats, 0, ring, w)
    else:
        none = np.zeros(0, dtype=np.int32)
        descend(
            flats.rows[:, 0].T.astype(np.int64, order="C"),
            ring.primes,
            none if ring.inverses is None else ring.inverses,
            w,
        )
    w = w[: rank + 1].tolist()
    w[rank] = -sum((-1) ** (rank - r) * w[r] for r in range(rank))
    return w


class _Flats(NamedTuple):
    """The arrangements restricted to many flats, one after the other.

    rows (d, L, R): coordinates, primes, hyperplanes; distinct in each flat, of first nonzero entry 1, and those
    that begin with 0 first, by coordinate after coordinate. start (R,): where the flat of a row begins.
    """

    rows: np.ndarray
    start: np.ndarray


def _descend(flats, r, ring, w):
    """Add to w[r + 1:] the chains that pass through these flats of codimension r.

    If h_j begins with 1, rows before it are restricted by taking off their multiple of h_j that leaves a 0 there.
    The rows that begin with 0 come first; without that coordinate they are a flat of one dimension less.
    """
    rows, start = flats
    d, _, size = rows.shape
    if d == 2:
        w[r + 1] += size
        w[r + 2] += np.count_nonzero(start < np.arange(size))
        return
    flat = (rows[0] == 0).all(axis=0)
    pivots, before = np.flatnonzero(~flat), w[r + 2]
    w[r + 1] += len(pivots)
    for i, j, child, many in _pairs(pivots, start):
        if d == 3 and ring.inverses is not None:
            w[r + 2] += _count_slopes(rows[:, 0], i, j, child, many, ring)
            continue
        below = rows[1:, :, i] - rows[:1, :, i] * rows[1:, :, j]
        if d == 3:
            w[r + 2] += _distinct(below, child, many, ring).rows.shape[2]
        else:
            _descend(_distinct(below, child, many, ring), r + 1, ring, w)
    if len(pivots) < size:
        to = np.cumsum(flat) - 1
        _descend(_Flats(rows[1:, :, flat], to[start[flat]]), r, ring, w)
    if d == 3:  # chi(1) = 0 in each of these flats
        w[r + 3] += w[r + 2] - before - np.count_nonzero(start < np.arange(size))


def _pairs(pivots, start):
    """All rows i before the rows j = pivots in their flats, some pivots at a time: i, j, number of j, how many."""
    pivots = pivots[pivots > start[pivots]]
    before = pivots - start[pivots]
    total, a = np.cumsum(before), 0
    while a < len(pivots):
        b = max(a + 1, int(np.searchsorted(total, total[a] - before[a] + BLOCK, side="right")))
        flat = np.repeat(np.arange(b - a), before[a:b])
        shift = start[pivots[a:b]] - total[a:b] + before[a:b] + total[a] - before[a]
        yield np.arange(len(flat)) + shift[flat], pivots[a:b][flat], flat, b - a
        a = b


def _modulo(x, primes):
    return x - x // primes * primes  # vectorized, as % is not


def _count_slopes(rows, i, j, flat, many, ring):
    """In dimension 3 the lines through h_j = (1, y, z) and rows before it differ by slope: how many, over all j."""
    p = ring.primes
    lead, y, z = rows
    above = lead[i]
    rise, run = z[i] - above * z[j], y[i] - above * y[j]
    slope = _modulo(rise * ring.inverses[run], p)  # a negative index counts from p
    slope[run == 0] = p
    flat = flat.astype(np.int32 if many * (p + 1) < 2**31 else np.int64)
    key = flat * (p + 1) + slope
    key.sort()
    return 1 + np.count_nonzero(key[1:] != key[:-1])


def _distinct(rows, flat, many, ring):
    """Rows (d, L, N), of flats numbered below `many`, scaled to first entry 1, sorted, each once in its flat."""
    d, planes, _ = rows.shape
    lead, zeros, mixed = _leads(rows)
    for attempt in range(1, 5):
        if not mixed.any():
            break
        mixed = np.isin(flat, flat[mixed])  # all rows of the flats concerned
        part = rows[:, :, mixed]
        part[:-1] = _modulo(part[:-1] + attempt * part[1:], ring.primes)
        rows[:, :, mixed] = part
        lead, zeros, mixed = _leads(rows)
    else:
        raise _Unlucky
    rows = _modulo(rows * _inverted(lead, ring), ring.primes)
    if planes == 1 and 2 * many * ring.primes ** (d - 1) < 2**63:
        key = 2 * flat + rows[0, 0]
        for row in rows[1:, 0]:
            key = key * ring.primes + row
        key.sort()
        key = key[np.append(True, key[1:] != key[:-1])]
        rows = np.empty((d, 1, len(key)), dtype=rows.dtype)
        for c in range(d - 1, 0, -1):
            above = key // ring.primes
            rows[c, 0] = key - above * ring.primes
            key = above
        rows[0, 0] = key & 1
        flat = key >> 1
    else:
        order = _order(rows, flat * d + d - 1 - zeros)
        rows, flat = rows[:, :, order], flat[order]
        new = (rows[:, :, 1:] != rows[:, :, :-1]).any(axis=(0, 1)) | (flat[1:] != flat[:-1])
        new = np.append(True, new)
        rows, flat = rows[:, :, new], flat[new]
    first = np.append(True, flat[1:] != flat[:-1])
    return _Flats(rows, np.maximum.accumulate(np.where(first, np.arange(len(flat)), 0)))


def _leads(rows):
    """The first nonzero entries (L, N), the numbers of zeros before, and which are 0 modulo some primes only."""
    lead, at = rows[0].copy(), np.arange(rows.shape[2])
    zeros, mixed = np.zeros((2, len(at)), dtype=int)
    for row in rows:
        lead[:, at] = row[:, at]
        nothing = lead[:, at] == 0
        mixed[at] = nothing.any(axis=0) & ~nothing.all(axis=0)
        at = at[nothing.all(axis=0)]
        if not len(at):
            break
        zeros[at] += 1
    return lead, zeros, mixed != 0


def _order(rows, group):
    """An order by group, equal rows side by side: by a hash, or by all entries if two rows share theirs."""
    words = rows.reshape(-1, rows.shape[2]).astype(np.uint64)
    odd = np.random.default_rng(0).integers(2**63, size=(len(words), 1), dtype=np.uint64) * 2 + 1
    hashed = (words * odd).sum(axis=0) >> np.uint64(24)
    key = (group.astype(np.uint64) << np.uint64(40)) | hashed
    order = np.argsort(key)
    same = np.flatnonzero(key[order[1:]] == key[order[:-1]])
    if (words[:, order[same]] != words[:, order[same + 1]]).any():
        order = np.lexsort((*words, group))
    return order


def _inverted(x, ring):
    """The inverses of residues x (L, N), none of them 0; without a table, one inverse serves them all."""
    if ring.inverses is not None:
        return ring.inverses[x]
    half = x.shape[1] // 2
    if half < 8:
        primes = np.ravel(ring.primes).tolist()
        return np.array([[pow(a, -1, p) for a in plane] for p, plane in zip(primes, x.tolist(), strict=True)])
    left, right = x[:, :half], x[:, half : 2 * half]
    both = _inverted(np.hstack([_modulo(left * right, ring.primes), x[:, 2 * half :]]), ring)
    product, odd = both[:, :half], both[:, half:]
    return np.hstack([_modulo(product * right, ring.primes), _modulo(product * left, ring.primes), odd])


# The same descent depth first, for numba


@cache
def _compiled():
    """`_depth_first` compiled, or None without numba."""
    try:
        from numba import njit
    except ImportError:
        return None
    try:
        return njit(cache=True, nogil=True)(_depth_first)
    except RuntimeError:  # nowhere to keep the cache
        return njit(nogil=True)(_depth_first)


def _depth_first(rows, p, inverses, w):
    """Add to w[1:] the chains in the rows (k, n), n >= 3, distinct, of first entry 1 modulo p, as `_descend` does.

    node[r] holds the flat of codimension r that the descent is in: `size` rows in the columns from `column` on,
    the first `flat` of which begin with 0; its next hyperplane is `turn`, -1 before the rows are arranged so.
    """
    k, n = rows.shape
    node = np.empty((n, k, n), dtype=np.int64)
    node[0] = rows
    size, column, turn, flat = np.zeros((4, n), dtype=np.int64)
    size[0], turn[0] = k, -1
    slots = 1
    while slots < 4 * k or slots <= len(inverses):
        slots *= 2
    stamp, held = np.zeros((2, slots), dtype=np.int64)
    lead, product = np.empty((2, k), dtype=np.int64)
    now = 0  # a slot is filled if it has this stamp
    r = 0
    while r >= 0:
        c, m, here, below = column[r], size[r], node[r], node[r + 1]
        last = c == n - 3
        if turn[r] < 0:
            a = 0
            for i in range(m):
                if here[i, c] == 0:
                    for q in range(c, n):
                        here[i, q], here[a, q] = here[a, q], here[i, q]
                    a += 1
            flat[r], turn[r] = a, max(a, 1)
            w[r + 1] += m - a
            before = w[r + 2]
            if last and a > 0:
                w[r + 1] += a
                w[r + 2] += a - 1
            if last and len(inverses) > 0:  # slopes find their slots directly
                for j in range(a, m):
                    now += 1
                    y, z = here[j, c + 1], here[j, c + 2]
                    for i in range(j):
                        run, rise = here[i, c + 1], here[i, c + 2]
                        if i >= a:
                            run, rise = run - y, rise - z
                            run, rise = run + (p if run < 0 else 0), rise + (p if rise < 0 else 0)
                        slope = p if run == 0 else rise * inverses[run] % p
                        if stamp[slope] != now:
                            stamp[slope] = now
                            w[r + 2] += 1
                turn[r] = m
        j = turn[r]
        if j == m:
            if last:  # chi(1) = 0
                w[r + 3] += w[r + 2] - before - m + 1
            if last or flat[r] == 0:
                r -= 1
            else:
                size[r], column[r], turn[r] = flat[r], c + 1, -1
            continue
        turn[r] += 1
        for i in range(j):
            lead[i] = 0
            for q in range(c + 1, n):
                x = here[i, q] - here[i, c] * here[j, q]
                below[i, q] = x = x + (p if x < 0 else 0)
                if lead[i] == 0:
                    lead[i] = x
        if len(inverses) > 0:
            for i in range(j):
                lead[i] = inverses[lead[i]]
        else:  # one inverse, by Euclid, serves them all
            product[0] = lead[0]
            for i in range(1, j):
                product[i] = product[i - 1] * lead[i] % p
            x, y, inverse, other = product[j - 1], p, 1, 0
            while x > 1:
                q = y // x
                x, y, inverse, other = y - q * x, x, other - q * inverse, inverse
            inverse %= p
            for i in range(j - 1, 0, -1):
                x, inverse = inverse * product[i - 1] % p, inverse * lead[i] % p
                lead[i] = x
            lead[0] = inverse
        now += 1
        found = 0
        for i in range(j):
            h = 0
            for q in range(c + 1, n):
                below[i, q] = x = below[i, q] * lead[i] % p
                h = (h * 1000003 + x) & (slots - 1)
            while stamp[h] == now:
                equal = True
                for q in range(c + 1, n):
                    equal = equal and below[held[h], q] == below[i, q]
                if equal:
                    break
                h = (h + 1) & (slots - 1)
            if stamp[h] != now:
                stamp[h], held[h] = now, found
                for q in range(c + 1, n):
                    below[found, q] = below[i, q]
                found += 1
        if last:
            w[r + 2] += found
        else:
            r += 1
            size[r], column[r], turn[r] = found, c + 1, -1
