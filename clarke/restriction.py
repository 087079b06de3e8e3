"""Deletion and restriction at a tolerance, all flats of one dimension at once.

The cells of {h_1 .. h_{j-1}} that h_j splits are those of the restriction to h_j. Downwards every flat is restricted to
each of its hyperplanes; in a plane the cells are the sectors between lines. Upwards each witness w' of a cell of the
j-th restriction gives w' +- s v_j, s a random part (walls may be symmetric) of the way to the nearest earlier wall, and
distinct sign vectors are told apart by a hash. Their number must be 1 + sum_j #cells of the j-th restriction, at every
flat: a clash of hashes, a lost cell or a doubled one breaks that identity.
"""

import math
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from . import compiled
from .halfspaces import ROUNDING, min_norm_direction

BLOCK = 2**16  # entries of the arrays (rows, points) worked on at a time: they fit in the cache
BATCH = 2**21  # entries of the restricted rows held at a time, for each dimension
COMPILED: bool | None = None  # by numba: None where it is installed, True or False to insist
WORTH = 2000  # cells in general position from which the compiled route is taken: loading it costs more than fewer do
PIECES = 16  # parts of the work handed to a mapper where there may be many cells


class TooManyChambers(RuntimeError):
    """The enumeration passed max_chambers; `count` chambers are known to exist by then."""

    def __init__(self, count: int, limit: int):
        super().__init__(count, limit)
        self.count, self.limit = count, limit

    def __str__(self):
        return (
            f"at least {self.count} chambers, more than max_chambers={self.limit}; raise "
            "max_chambers, or ask for fewer hyperplanes or a smaller cone"
        )


def lexicographic(signs):
    """The order of the rows; a column of zeros is constant, so one bit a letter suffices."""
    return np.lexsort(_words(signs > 0).byteswap().T[::-1])


def _words(bits):
    """(m, k) booleans packed into (m, ceil(k / 64)) uint64, the first bit first in memory."""
    packed = np.packbits(bits, axis=1)
    words = np.zeros((len(bits), -(-max(packed.shape[1], 1) // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view(np.uint64)


class Flats(NamedTuple):
    """F flats of dimension d, each with its restricted arrangement.

    rows (F, m, d) have length 1, or 0 where absent; the first `fence` of them bound the open cone.
    noise (F, m) estimates their rounding errors; points (F, d) lie in the cones where d > 2.
    """

    rows: np.ndarray
    noise: np.ndarray
    points: np.ndarray
    fence: int


def float_route(fence, rows, isotropic, tol, limit, run):
    """Homogeneous witnesses (m, N) and doubts, in raw position or in isotropic position."""
    every = np.vstack([fence, rows])
    basis = _position(every, isotropic)
    moved = every @ basis
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    noise = ROUNDING * np.linalg.norm(basis, 2) / length.T
    flats = Flats((moved / length)[None], noise, np.zeros((1, basis.shape[1])), len(fence))
    seed = int.from_bytes(blake2b(every.tobytes(), digest_size=8).digest(), "little")
    doubts: tuple = ()
    if basis.shape[1] > 2:
        flats, _, doubts = _tidy(flats, tol)
    bound = sum(math.comb(len(every), i) for i in range(basis.shape[1]))
    if not doubts and basis.shape[1] > 2 and len(flats.rows) and bound > WORTH and _compiled():
        (points,) = run(partial(_depth_first, flats, tol, limit), [seed])
        if points is not None:
            return points @ basis.T, ()
    points, _, more = _cells(flats, tol, limit, (seed, int(isotropic)), run, PIECES if bound > 100_000 else 1)
    return points @ basis.T, (*doubts, *more)


def _compiled():
    return compiled.available() if COMPILED is None else COMPILED


def _depth_first(flats, tol, limit, seed):
    """The cells of a sole flat by the compiled recursion; None where that is in doubt."""
    rows, noise, points, fence = flats
    there = rows[0].any(axis=1)
    found = compiled.cells(rows[0, there], noise[0, there], there[:fence].sum(), points[0], tol, limit, seed)
    if found.status == compiled.TOO_MANY:
        raise TooManyChambers(found.known, limit)
    return found.points if found.status == compiled.SETTLED else None


def _position(rows, isotropic):
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
    rows, noise, points, fence = flats
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
    return Flats(rows[left], noise[left], points[left], fence), left, doubts


def _doubts(apart, rough, tol, d):
    """What floats cannot tell: distances above rounding and below tol, or rounding itself above."""
    near = (apart <= np.maximum(rough, tol)) & ~((apart <= rough) & (rough <= tol))
    if not near.any():
        return ()
    widest = np.broadcast_to(apart, near.shape)[near].max()
    said = f"rows {widest:.1e} apart in a flat of dimension {d}"
    return (f"{said}, neither equal nor distinct at tolerance {tol:g}",)


def _cells(flats, tol, limit, seed, run=map, pieces=1):
    """Witnesses (N, d) of the cells of every flat, in order of flats; the flat (N,) of each; doubts.

    The children of flat f are its restrictions to its hyperplanes h_j, each with the rows before j.
    """
    rows, _, points, fence = flats
    count, m, d = rows.shape
    if d == 2:
        return _sectors(flats, tol, limit, np.random.default_rng(seed))
    f, j = np.nonzero(rows[:, fence:].any(axis=2))
    grain = max(1, min(BATCH // (m * d), -(-len(f) // pieces)))
    parts = [(f[a : a + grain], j[a : a + grain] + fence, (*seed, a)) for a in range(0, len(f), grain)]
    pools, split = [], 0
    for pool in run(partial(_split, flats, tol, limit), parts):
        pools.append(pool)
        split += int(pool.cells.sum())
        if split + count > limit:
            raise TooManyChambers(split + count, limit)
    cells = sum((pool.cells for pool in pools), np.zeros(count, dtype=int))
    alone = np.flatnonzero(cells == 0)
    doubts = tuple(dict.fromkeys(doubt for pool in pools for doubt in pool.doubts))
    if not pools:
        return points, alone, doubts
    shift = _shift(count)
    key = np.concatenate([pool.key for pool in pools] + [alone.astype(np.uint64) << shift])
    order = np.argsort(key)  # by flat, then sign vector, the widest of each first
    there = key[order] >> _WIDTH
    first = order[np.append(np.full(len(order[:1]), True), there[1:] != there[:-1])]
    witnesses = np.concatenate([pool.points for pool in pools] + [points[alone]])[first]
    flat = (key[first] >> shift).astype(int) if count > 1 else np.zeros(len(first), dtype=int)
    broken = np.bincount(flat, minlength=count) != np.maximum(1 + cells, 1)
    if broken.any():
        doubts += (f"{broken.sum()} flats of dimension {d} break the count identity",)
    return witnesses, flat, doubts


_FAR, _TINY = 1e300, 1e-150  # a wall behind is far away, even from a point on it
_WIDTH = np.uint64(6)  # the last bits of a key: minus the binary exponent of the margin


def _shift(count):
    """Bits of a key below the number of the flat; a sole flat needs none above."""
    return np.uint64(63 - max(count - 1, 1).bit_length())


class _Pool(NamedTuple):
    """Candidate points with their keys; cells (F,) were split to get them."""

    points: np.ndarray
    key: np.ndarray
    cells: np.ndarray
    doubts: tuple


def _restricted(flats, f, j):
    """The hyperplanes h_j of the flats f as flats, and their mirrors (c, d).

    A Householder mirror takes h_j to an axis; dropping that axis restricts. Rows before j are kept.
    """
    rows, noise, points, fence = flats
    h, before = rows[f, j], rows[f, : j.max()]
    mirror = h.copy()
    mirror[:, 0] += np.copysign(1, h[:, 0])
    mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
    below = before[:, :, 1:] - 2 * (before @ mirror[:, :, None]) * mirror[:, None, 1:]
    middle = points[f] - 2 * (points[f] * mirror).sum(axis=1, keepdims=True) * mirror
    length = np.sqrt(np.einsum("fmd,fmd->fm", below, below))
    length = np.where((np.arange(j.max()) < j[:, None]) & (length > 0), length, np.inf)
    noise = np.maximum(noise[f, : j.max()], noise[f, j][:, None]) / length
    return Flats(below / length[:, :, None], noise, middle[:, 1:], fence), mirror


def _split(flats, tol, limit, piece):
    """The two halves of every cell of flat f that its hyperplane h_j splits, for pairs (f, j)."""
    f, j, seed = piece
    child, mirror = _restricted(flats, f, j)
    doubts = ()
    if child.rows.shape[2] > 2:
        child, left, doubts = _tidy(child, tol)
        f, j, mirror = f[left], j[left], mirror[left]
    low, c, more = _cells(child, tol, limit, seed)
    on = -2 * (low * mirror[c, 1:]).sum(axis=1, keepdims=True) * mirror[c]
    on[:, 1:] += low
    step, plus, minus = _steps(flats.rows, f, j, on, c, np.random.default_rng(seed))
    move, shift = step[:, None] * flats.rows[f[c], j[c]], _shift(len(flats.rows))
    keys, points = [], []
    for (letters, margin), half in ((plus, on + move), (minus, on - move)):
        off = margin > ROUNDING  # a point on a later hyperplane represents no cell
        keys.append(_key(letters[off], margin[off], f[c[off]], shift))
        points.append(half[off] / np.hypot(1, step[off])[:, None])
    cells = np.bincount(f[c], minlength=len(flats.rows))
    return _Pool(np.concatenate(points), np.concatenate(keys), cells, (*doubts, *more))


def _steps(rows, f, j, on, c, rng):
    """Steps (N,) to either side of the points `on` of h_j in flat f, for the children c; and for each side what it
    shows there: (a linear hash of its sign vector, a lower bound of the margin), (N,) each.
    """
    m = rows.shape[1]
    step = rng.uniform(0.35, 0.65, len(on))
    letter = np.floor(np.random.default_rng(m).uniform(0, 2.0**52 / (m + 1), (m, 1)))
    sides = [np.empty((2, len(on))) for _ in range(2)]
    layers = np.ascontiguousarray(rows.transpose(2, 1, 0))
    slope = np.zeros((m, len(f)))
    for a, layer in enumerate(layers):
        slope += layer[:, f] * rows[f, j, a]
    with np.errstate(divide="ignore"):
        reach = np.where((np.arange(m)[:, None] < j) & (slope != 0), 1 / np.abs(slope), _FAR)
    absent = None if rows.any(axis=2).all() else (~rows.any(axis=2)).T.astype(float)
    slab = max(1, BLOCK // m)
    for a in range(0, len(on), slab):
        at = slice(a, a + slab)
        flat, child = f[c[at]], c[at]
        height = _heights(layers, on[at], flat)
        if absent is not None:
            height += absent[:, flat]
        first, last = j[child].min(), j[child].max()
        near = np.abs(height[:last])
        least = near[:first].min(axis=0, initial=1)
        near += _TINY
        near *= reach[:last, child]
        step[at] *= near.min(axis=0, initial=1)
        shared = np.copysign(letter[:first], height[:first]).sum(axis=0)
        ahead = height[first:]
        move = slope[first:, child]
        move *= step[at]
        for side, value in zip(sides, (ahead + move, np.subtract(ahead, move, out=move)), strict=True):
            side[0, at] = np.copysign(letter[first:], value).sum(axis=0) + shared
            np.abs(value, out=value)
            side[1, at] = np.minimum(value.min(axis=0), 0.35 * least)
    size = np.hypot(1, step)
    return step, *((letters, margin / size) for letters, margin in sides)


def _heights(layers, points, flat):
    """(m, N) products of each point with the rows of its flat; layers (d, m, F) are the rows, flat (N,) ascends."""
    if layers.shape[2] == 1:
        return layers[:, :, 0].T @ points.T
    first, last = flat[0], flat[-1]
    if len(points) < 16 * (last + 1 - first):
        height = np.zeros((layers.shape[1], len(points)))
        for a, layer in enumerate(layers):
            height += layer[:, flat] * points[:, a]
        return height
    height = np.empty((layers.shape[1], len(points)))
    ends = np.searchsorted(flat, np.arange(first, last + 2))
    for f, a, b in zip(range(first, last + 1), ends, ends[1:], strict=False):
        height[:, a:b] = layers[:, :, f].T @ points[a:b].T
    return height


def _key(letters, margin, flat, shift):
    """(N,) uint64: the number of the flat, a hash of its sign vector, minus the binary exponent of the margin.

    A collision only lowers a count, which the identity sees.
    """
    mixed = letters.astype(np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed >> np.uint64(64 - int(shift) + 6)) << _WIDTH
    exponent = np.uint64(1023) - (margin.view(np.uint64) >> np.uint64(52))
    return (flat.astype(np.uint64) << shift) | mixed | np.minimum(exponent, np.uint64(63))


def _sectors(flats, tol, limit, rng):
    """Dimension 2: the cone is an interval of angles, and each line cuts it at most once."""
    rows, noise, _, fence = flats
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
    doubts = _doubts(apart, rough, tol, 2)
    f, i = np.nonzero(gaps > np.maximum(rough, tol))
    if len(f) > limit:
        raise TooManyChambers(len(f), limit)
    angle = edges[f, i] + rng.uniform(0.35, 0.65, len(f)) * gaps[f, i]
    witnesses = np.cos(angle)[:, None] * axis[f] + np.sin(angle)[:, None] * across[f]
    return witnesses, f, doubts
