"""Deletion and restriction at a tolerance, all flats of one dimension at once.

The cells of {h_1 .. h_{j-1}} that h_j splits are those of the restriction to h_j. Downwards every flat is restricted to
each of its hyperplanes; in a plane the cells are the sectors between lines. Upwards each witness w' of a cell of the
j-th restriction gives w' +- s v_j, s a random part (walls may be symmetric) of the way to the nearest earlier wall, and
distinct sign vectors are told apart by a hash. While the first r rows of a flat are independent, all their signs occur,
at sums of their dual basis: no restriction to those. The number of cells must be 2^(r - 1), or as many of those as a
cone has, + sum_j #cells of the j-th restriction, j > r, at every flat: a clash of hashes, a lost cell or a doubled one
breaks that identity.
"""

import math
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import compiled
from .halfspaces import ROUNDING, min_norm_direction

BLOCK = 2**16  # entries of the arrays (rows, points) worked on at a time: they fit in the cache
BATCH = 2**21  # entries of the restricted rows held at a time, for each dimension
COMPILED: bool | None = None  # by numba: None where it is installed, True or False to insist
WORTH = 2000  # cells in general position from which the compiled route is taken: loading it costs more than fewer do
PIECES = 16  # parts of the work handed to a mapper where there may be many cells


class TooManyChambers(RuntimeError):
    """The enumeration passed max_chambers; `count` chambers are known to exist by then."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(count, limit)
        self.count: int = count
        self.limit: int = limit

    def __str__(self) -> str:
        return (
            f"at least {self.count} chambers, more than max_chambers={self.limit}; raise "
            "max_chambers, or ask for fewer hyperplanes or a smaller cone"
        )


LETTERS = 52  # in a word: a float holds the bits of so many signs exactly


def word_count(rows: int) -> int:
    return -(-max(rows, 1) // LETTERS)


def words(bits: np.ndarray) -> NDArray[np.float64]:
    """(k, N) booleans as (word_count(k), N) floats, which compare like the columns from the first letter on."""
    if len(bits) <= LETTERS:
        return np.ldexp(1.0, np.arange(len(bits) - 1, -1, -1))[None] @ bits
    return np.vstack([words(bits[a : a + LETTERS]) for a in range(0, len(bits), LETTERS)])


def lexicographic(words: np.ndarray) -> np.ndarray:
    """The order of the columns."""
    return np.argsort(words[0]) if len(words) == 1 else np.lexsort(words[::-1])


def independent_first(rows: np.ndarray, fence: int) -> np.ndarray:
    """An order of the rows with hyperplanes far from the span of those before moved up, which saves recursion."""
    rest, early = rows.copy(), []
    for _ in range(rows.shape[1]):
        far = (rest * rest).sum(axis=1) > 0.1
        if not far.any():
            break
        early.append(int(np.argmax(far)))
        axis = rest[early[-1]] / np.linalg.norm(rest[early[-1]])
        rest -= np.outer(rest @ axis, axis)
    early = [i for i in early if i >= fence]
    late = np.ones(len(rows), dtype=bool)
    late[early], late[:fence] = False, False
    return np.concatenate([np.arange(fence), np.array(early, dtype=int), np.flatnonzero(late)])


class Flats(NamedTuple):
    """F flats of dimension d, each with its restricted arrangement.

    rows (F, m, d) have length 1, or 0 where absent; the first `fence` of them bound the open cone.
    noise (F, m) estimates their rounding errors, doubtful above `loud`; points (F, d) lie in the cones where d > 2.
    """

    rows: np.ndarray
    noise: np.ndarray
    points: np.ndarray
    fence: int
    loud: float = compiled.LOUD


def float_route(
    fence: np.ndarray, rows: np.ndarray, isotropic: bool, tol: float, limit: int, run: Any, loud: float = compiled.LOUD
) -> tuple[NDArray[np.float64], tuple[Any, ...]]:
    """Homogeneous witnesses (m, N) and doubts, in raw position or in isotropic position."""
    every = np.vstack([fence, rows])
    basis = position(every, isotropic)
    moved = every @ basis
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    noise = ROUNDING * (np.linalg.norm(basis, 2) if isotropic else 1) / length.T  # orthonormal, if not isotropic
    flats = Flats((moved / length)[None], noise, np.zeros((1, basis.shape[1])), len(fence), loud)
    seed = int.from_bytes(blake2b(every.tobytes(), digest_size=8).digest(), "little")
    doubts: tuple[Any, ...] = ()
    if basis.shape[1] > 2:
        flats, _, doubts = _tidy(flats, tol)
        if len(flats.rows):
            order = independent_first(flats.rows[0], len(fence))
            flats = flats._replace(rows=flats.rows[:, order], noise=flats.noise[:, order])
    bound = sum(math.comb(len(every), i) for i in range(basis.shape[1]))
    if not doubts and basis.shape[1] > 2 and len(flats.rows) and bound > WORTH and _compiled():
        (points,) = run(partial(_depth_first, flats, tol, limit), [seed])
        if points is not None:
            return points @ basis.T, ()
    points, _, more = _cells(flats, tol, limit, (seed, int(isotropic)), run, PIECES if bound > 100_000 else 1)
    return points.T @ basis.T, (*doubts, *more)


def _compiled():
    return compiled.available() if COMPILED is None else COMPILED


def _depth_first(flats, tol, limit, seed):
    """The cells of a sole flat by the compiled recursion; None where that is in doubt."""
    rows, noise, points, fence, loud = flats
    there = rows[0].any(axis=1)
    found = compiled.cells(rows[0, there], noise[0, there], there[:fence].sum(), points[0], tol, limit, seed, loud)
    if found.status == compiled.TOO_MANY:
        raise TooManyChambers(found.known, limit)
    return found.points if found.status == compiled.SETTLED else None


def position(rows: np.ndarray, isotropic: bool) -> NDArray[np.float64]:
    """Coordinates (N, d), d >= 2, of the span of the rows.

    Isotropic: unit rows with sum u u^T nearly a multiple of the identity, which chambers, invariant
    under linear maps, do not notice and angles do.
    """
    _, values, axes = np.linalg.svd(rows, full_matrices=False)
    rank = int((values > ROUNDING * values[0]).sum())
    basis = axes[:rank].T if rank < rows.shape[1] else np.eye(rank)
    if rank == 1:  # a line, as the x-axis of a plane
        basis = np.hstack([basis, np.zeros_like(basis)])
    for _ in range(100 * (isotropic and rank > 1)):
        moved = rows @ basis
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        step = basis @ np.linalg.inv(np.linalg.qr(moved, mode="r"))
        if np.linalg.cond(step) > 1e8:  # too many rows in a subspace: there is no such position
            break
        basis = step / np.linalg.norm(step, 2)
    return basis


def _tidy(flats, tol):
    """Merge parallel rows, find a point in each cone, drop flats with an empty cone.

    Returns the flats left, their indices, and doubts.
    """
    rows, noise, points, fence, _ = flats
    d = rows.shape[2]
    cosine = rows @ rows.swapaxes(1, 2)
    f, i, j = np.nonzero(np.triu(np.abs(cosine) > 0.9999, 1))
    facing = np.sign(cosine[f, i, j])
    apart = np.linalg.norm(rows[f, i] - facing[:, None] * rows[f, j], axis=1)  # cosines lose digits
    rough = np.maximum(noise[f, i], noise[f, j])
    near = apart <= np.maximum(rough, tol)
    doubts = _doubts(apart, rough, tol, d)
    alive = np.ones(len(rows), dtype=bool)
    alive[f[near & (facing < 0) & (j < fence)]] = False
    rows = rows.copy()
    rows[f[near], j[near]] = 0
    there = rows[:, fence:].any(axis=2)
    if not there.all():  # pack the hyperplanes to the left
        left = fence + np.argsort(~there, axis=1, kind="stable")[:, : there.sum(axis=1).max()]
        at = np.arange(len(rows))[:, None]
        rows = np.hstack([rows[:, :fence], rows[at, left]])
        noise = np.hstack([noise[:, :fence], noise[at, left]])
    if fence == 1:
        points = rows[:, 0]
    else:
        walls = rows[:, :fence]
        height = np.where(walls.any(axis=2), (walls @ points[:, :, None])[:, :, 0], np.inf)
        inside = height.min(axis=1) > 1e-3 * np.linalg.norm(points, axis=1)
        for g in np.flatnonzero(alive & ~inside):
            direction, margin, _ = min_norm_direction(walls[g][walls[g].any(axis=1)], tol)
            if direction is None:
                doubts += _doubts(margin, noise[g, :fence].max(), tol, d)
                alive[g] = False
            else:
                points[g] = direction
    left = np.flatnonzero(alive)
    return Flats(rows[left], noise[left], points[left], fence, flats.loud), left, doubts


def _doubts(apart, rough, tol, d):
    """What floats cannot tell: distances above rounding and below tol, or rounding itself above."""
    near = (apart <= np.maximum(rough, tol)) & ~((apart <= rough) & (rough <= tol))
    if not near.any():
        return ()
    widest = np.broadcast_to(apart, near.shape)[near].max()
    said = f"rows {widest:.1e} apart in a flat of dimension {d}"
    return (f"{said}, neither equal nor distinct at tolerance {tol:g}",)


def _noisy(noise, loud, d):
    most = noise.max(initial=0)
    return (f"rounding errors of {most:.1e} in a flat of dimension {d}",) if most > loud else ()


def _cells(flats, tol, limit, seed, run=map, pieces=1):
    """Witnesses (d, N) of the cells of every flat, in order of flats; the flat (N,) of each; doubts.

    The children of flat f are its restrictions to its hyperplanes h_j, each with the rows before j.
    """
    rows, noise, points, fence, loud = flats
    count, m, d = rows.shape
    if d == 2:
        return _sectors(flats, tol, limit, np.random.default_rng(seed))
    base, starts, first = _independent(flats, tol, limit)
    f, j = np.nonzero(rows.any(axis=2) & (np.arange(m) >= first[:, None]))
    grain = max(1, min(BATCH // (m * d), -(-len(f) // pieces)))
    parts = [(f[a : a + grain], j[a : a + grain], (*seed, a)) for a in range(0, len(f), grain)]
    pools, total = [], int(base.sum())
    for pool in run(partial(_split, flats, tol, limit), parts):
        pools.append(pool)
        total += pool.on.shape[1]
        if total > limit:
            raise TooManyChambers(total, limit)
    cells = base + sum(pool.cells for pool in pools)
    alone = np.flatnonzero((cells == 1) & (first == fence))
    doubts = tuple(dict.fromkeys(doubt for pool in pools for doubt in pool.doubts)) + _noisy(noise, loud, d)
    if not pools and len(alone) == count:
        return points.T, alone, doubts
    shift = _shift(count)
    if len(alone):
        starts.append((points[alone].T, alone))
    for start, flat in starts:
        pools.append(_Pool(start, np.zeros_like(start), _keys(flats, start, flat), cells, ()))
    on, move, key = (pools[0][i] if len(pools) == 1 else np.hstack([pool[i] for pool in pools]) for i in range(3))
    key = key.ravel()
    order = np.argsort(key)  # by flat, then sign vector, the widest of each first
    key = key.take(order)
    there = key >> _WIDTH
    new = there[1:] != there[:-1]
    first = order[np.append(key[:1] != _NOTHING, new & (key[1:] != _NOTHING))]
    below = first >= on.shape[1]
    first -= below * on.shape[1]
    witnesses, move = on.take(first, axis=1), move.take(first, axis=1)
    move *= np.where(below, -1.0, 1.0)
    witnesses += move
    flat = np.zeros(len(first), dtype=int)
    if count > 1:
        there = there[np.append(key[:1] != _NOTHING, new & (key[1:] != _NOTHING))]
        flat = (there >> (shift - _WIDTH)).astype(int)
    broken = np.bincount(flat, minlength=count) != cells
    if broken.any():
        doubts += (f"{broken.sum()} flats of dimension {d} break the count identity",)
    return witnesses, flat, doubts


def _independent(flats, tol, limit):
    """The cells that the first rows, where independent, cut the cones into: all signs, at sums of their dual basis.

    base (F,), how many; (points (d, N), flats (N,)) of those, some flats at a time; and the first row (F,) that is not
    among these, at least `fence`. Wide apart: so far from any doubt that no tolerance has a say.
    """
    rows, noise, _, fence, _ = flats
    count, m, d = rows.shape
    frame, rank, going = np.zeros((count, d, d)), np.zeros(count, dtype=int), np.ones(count, dtype=bool)
    least = np.maximum(10 * np.maximum(noise[:, : min(m, d)].max(axis=1), tol), 0.05)
    for i in range(min(m, d, 40)):  # as sums of 2**40 do not overflow
        row = rows[:, i, :, None]
        rest = (row - frame[:, :i].swapaxes(1, 2) @ (frame[:, :i] @ row))[:, :, 0]
        far = np.sqrt(np.einsum("fd,fd->f", rest, rest))
        going &= far > least
        if not going.any():
            break
        rank += going
        frame[:, i] = rest / np.where(going, far, 1)[:, None]
    starts, rank = [], np.where(rank > fence, rank, fence)
    base = 2 ** (rank - fence)
    if base.sum() > limit:
        raise TooManyChambers(int(base.sum()), limit)
    for r in np.unique(rank[rank > fence]).tolist():
        flat = np.flatnonzero(rank == r)
        first = rows[flat, :r]
        dual = np.linalg.solve(first @ first.swapaxes(1, 2), first)
        near = np.einsum("frd,frd->fr", dual, dual).max(axis=1) * least[flat] ** 2 > 1
        rank[flat[near]], base[flat[near]] = fence, 1
        flat, dual = flat[~near], dual[~near]
        sides = np.ones((2 ** (r - fence), r))
        sides[:, fence:] -= 2 * (np.arange(len(sides))[:, None] >> np.arange(r - fence) & 1)
        start = (sides @ dual).reshape(-1, d).T
        starts.append((start / np.sqrt(np.einsum("dn,dn->n", start, start)), np.repeat(flat, len(sides))))
    return base, starts, rank


def _keys(flats, points, flat):
    """(2, N) keys of the points (d, N), in ascending order of flats, and of nothing."""
    rows = flats.rows
    layers, slab = np.ascontiguousarray(rows.transpose(2, 1, 0)), max(1, BLOCK // rows.shape[1])
    letter, absent = _letters(rows.shape[1]), ~rows.any(axis=2).T
    key = np.full((2, points.shape[1]), _NOTHING)
    for a in range(0, points.shape[1], slab):
        at = slice(a, a + slab)
        height = _heights(layers, points[:, at], flat[at])
        height += absent.take(flat[at], axis=1)
        letters = letter @ (height > 0)
        key[0, at] = _key(letters, np.abs(height, out=height).min(axis=0), flat[at], _shift(len(rows)))
    return key


def _letters(m):
    """A sign vector of m letters is told from others by a sum of these numbers: exact in floats."""
    return np.floor(np.random.default_rng(m).uniform(0, 2.0**52 / (m + 1), m))


_FAR, _TINY = 1e300, 1e-150  # a wall behind is far away, even from a point on it
_WIDTH = np.uint64(6)  # the last bits of a key: minus the binary exponent of the margin
_NOTHING = np.uint64(2**64 - 1)  # the key of a point that represents no cell


def _shift(count):
    """Bits of a key below the number of the flat; a sole flat needs none above."""
    return np.uint64(63 - max(count - 1, 1).bit_length())


class _Pool(NamedTuple):
    """Candidates on + move and on - move (d, N), their keys (2, N); cells (F,) were split to get them."""

    on: np.ndarray
    move: np.ndarray
    key: np.ndarray
    cells: np.ndarray
    doubts: tuple[Any, ...]


def _restricted(flats, f, j):
    """The hyperplanes h_j of the flats f as flats, and their mirrors (c, d).

    A Householder mirror takes h_j to an axis; dropping that axis restricts. Rows before j are kept.
    """
    rows, noise, points, fence, _ = flats
    h, before = rows[f, j], rows[f, : j.max()]
    mirror = h.copy()
    mirror[:, 0] += np.copysign(1, h[:, 0])
    mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
    below = before[:, :, 1:] - 2 * (before @ mirror[:, :, None]) * mirror[:, None, 1:]
    middle = points[f] - 2 * (points[f] * mirror).sum(axis=1, keepdims=True) * mirror
    length = np.sqrt(np.einsum("fmd,fmd->fm", below, below))
    length = np.where((np.arange(j.max()) < j[:, None]) & (length > 0), length, np.inf)
    noise = np.maximum(noise[f, : j.max()], noise[f, j][:, None]) / length
    return Flats(below / length[:, :, None], noise, middle[:, 1:], fence, flats.loud), mirror


def _split(flats, tol, limit, piece):
    """The two halves of every cell of flat f that its hyperplane h_j splits, for pairs (f, j)."""
    f, j, seed = piece
    child, mirror = _restricted(flats, f, j)
    doubts = ()
    if child.rows.shape[2] > 2:
        child, left, doubts = _tidy(child, tol)
        f, j, mirror = f[left], j[left], mirror[left]
    low, c, more = _cells(child, tol, limit, seed)
    on, move, key = _halves(flats.rows, f, j, mirror, low, c, np.random.default_rng(seed))
    cells = np.bincount(f.take(c), minlength=len(flats.rows))
    return _Pool(on, move, key, cells, (*doubts, *more))


def _halves(rows, f, j, mirror, low, c, rng):
    """The points low (d - 1, N) of the children c in their hyperplanes h_j, in coordinates of the flats f: on (d, N).

    And steps to either side, move (d, N), with the keys (2, N) of on + move and on - move, all for unit points.
    """
    m, d, count = rows.shape[1], rows.shape[2], low.shape[1]
    u = rng.uniform(0.35, 0.65, count)
    letter = _letters(m)
    on, move, key = np.empty((d, count)), np.empty((d, count)), np.empty((2, count), dtype=np.uint64)
    layers = np.ascontiguousarray(rows.transpose(2, 1, 0))
    h, mirror = rows[f, j].T.copy(), mirror.T.copy()
    slope = np.zeros((m, len(f)))
    for a, layer in enumerate(layers):
        slope += layer.take(f, axis=1) * h[a]
    with np.errstate(divide="ignore"):
        reach = np.where((np.arange(m)[:, None] < j) & (slope != 0), 1 / np.abs(slope), _FAR)
    absent = None if rows.any(axis=2).all() else (~rows.any(axis=2)).T.astype(float)
    shift, slab = _shift(len(rows)), max(1, BLOCK // m)
    for a in range(0, count, slab):
        at = slice(a, a + slab)
        child = c[at]
        flat = f.take(child)
        place, across = on[:, at], mirror.take(child, axis=1)
        twice = np.einsum("ij,ij->j", across[1:], low[:, at])
        twice *= -2
        np.multiply(across, twice, out=place)
        place[1:] += low[:, at]
        height = _heights(layers, place, flat)
        if absent is not None:
            height += absent.take(flat, axis=1)
        some = j[child[0] : child[-1] + 1]
        first, last = some.min(), some.max()
        near = np.abs(height[:last])
        least = near[:first].min(axis=0, initial=1)
        near += _TINY
        near *= reach[:last].take(child, axis=1)
        step = u[at] * near.min(axis=0, initial=1)
        size = 1 / np.sqrt(1 + step * step)
        shared = letter[:first] @ (height[:first] > 0)
        ahead, across = height[first:], slope[first:].take(child, axis=1)
        across *= step
        for side, value in enumerate((ahead + across, np.subtract(ahead, across, out=across))):
            letters = letter[first:] @ (value > 0) + shared
            np.abs(value, out=value)
            key[side, at] = _key(letters, np.minimum(value.min(axis=0), 0.35 * least) * size, flat, shift)
        place *= size
        np.multiply(h.take(child, axis=1), step * size, out=move[:, at])
    return on, move, key


def _heights(layers, points, flat):
    """(m, N) products of each point with the rows of its flat; layers (d, m, F) are the rows, flat (N,) ascends."""
    if layers.shape[2] == 1:
        return layers[:, :, 0].T @ points
    first, last = flat[0], flat[-1]
    if points.shape[1] < 16 * (last + 1 - first):
        height = layers[0].take(flat, axis=1)
        height *= points[0]
        for layer, x in zip(layers[1:], points[1:], strict=True):
            part = layer.take(flat, axis=1)
            part *= x
            height += part
        return height
    height = np.empty((layers.shape[1], points.shape[1]))
    ends = np.searchsorted(flat, np.arange(first, last + 2))
    for f, a, b in zip(range(first, last + 1), ends, ends[1:], strict=False):
        np.matmul(layers[:, :, f].T, points[:, a:b], out=height[:, a:b])
    return height


def _key(letters, margin, flat, shift):
    """(N,) uint64: the number of the flat, a hash of its sign vector, minus the binary exponent of the margin.

    A collision only lowers a count, which the identity sees. A point on a hyperplane represents no cell.
    """
    mixed = letters.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed >>= np.uint64(64 - int(shift) + 6)
    mixed <<= _WIDTH
    exponent = np.uint64(1023) - (margin.view(np.uint64) >> np.uint64(52))
    mixed |= np.minimum(exponent, np.uint64(63), out=exponent)
    mixed |= flat.astype(np.uint64) << shift
    mixed[margin <= ROUNDING] = _NOTHING
    return mixed


def _sectors(flats, tol, limit, rng):
    """Dimension 2: the cone is an interval of angles, and each line cuts it at most once."""
    rows, noise, _, fence, loud = flats
    axis = rows[:, 0]
    across = np.stack([-axis[:, 1], axis[:, 0]], axis=1)
    turn = np.arctan2((rows @ across[:, :, None])[:, :, 0], (rows @ axis[:, :, None])[:, :, 0])
    there = rows.any(axis=2)
    walls = np.where(there, turn, 0)[:, :fence]
    low = walls.max(axis=1, keepdims=True) - np.pi / 2
    high = walls.min(axis=1, keepdims=True) + np.pi / 2
    cuts = np.where(there, turn % np.pi - np.pi / 2, np.inf)[:, fence:]
    edges = np.hstack([low, np.sort(np.clip(cuts, low, high), axis=1), high])
    gaps = np.diff(edges, axis=1)
    rough = noise.max(axis=1, keepdims=True)
    between = np.where(gaps > 0, gaps, np.inf)
    apart = np.hstack([np.abs(cuts - low), np.abs(cuts - high), np.abs(high - low), between])
    sectors = gaps > np.maximum(rough, tol)
    doubts = _doubts(apart, rough, tol, 2)
    if loud < compiled.LOUD:  # on a line, another has length sin(gap)
        doubts += _noisy(rough / np.where(sectors, np.minimum(gaps, 1), 1), loud, 1)
    f, i = np.nonzero(sectors)
    if len(f) > limit:
        raise TooManyChambers(len(f), limit)
    angle = edges[f, i] + rng.uniform(0.35, 0.65, len(f)) * gaps[f, i]
    return np.cos(angle) * axis[f].T + np.sin(angle) * across[f].T, f, doubts
